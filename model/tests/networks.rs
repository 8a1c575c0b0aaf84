//! Compiled networks compute what the interpreter says of their functions.

use kiln_ir::Func;
use kiln_ir::func::{Def, ElementType, TensorOp, TensorType};
use kiln_jit::{MathMode, Runtime, WeightsPack};
use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::{Bound, Code, CompileOptions, ModelError, Network, Tensor};

fn runtime() -> Runtime {
    Runtime::builder().threads(2).build().unwrap()
}

/// Numbers without a pattern.
fn data(ty: &TensorType, seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f64> = (0..ty.elements())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match ty.element() {
                ElementType::Bool => (state >> 40 & 1) as f64,
                element if element.is_float() => ((state >> 40) % 4096) as f64 / 1024.0 - 2.0,
                _ => ((state >> 40) % 3) as f64,
            }
        })
        .collect();
    Tensor::from_f64(ty.clone(), &values)
}

/// The largest difference to the interpreter's results, relative to their largest element.
fn error(func: &Func, network: &Network, inputs: &[Tensor]) -> f64 {
    let arguments: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
    let expected = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let found = network.run(inputs).unwrap();
    assert_eq!(found.len(), expected.len());
    let mut worst = 0.0f64;
    for (found, expected) in found.iter().zip(&expected) {
        let found = found.to_f64();
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().filter(|v| v.is_finite()).fold(1e-3f64, |m, v| m.max(v.abs()));
        for (f, e) in found.iter().zip(expected) {
            let same = f == e || (f.is_nan() && e.is_nan());
            worst = worst.max(if same { 0.0 } else { (f - e).abs() / largest });
        }
    }
    worst
}

/// Compiles a text and compares it with the interpreter; gives the code of its steps.
fn check(text: &str) -> Vec<Code> {
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    let inputs: Vec<Tensor> = func.arguments().enumerate().map(|(i, (_, v))| data(&v.ty, 1 + i as u64)).collect();
    let network = Bound::from_func(func.clone()).compile(&runtime()).unwrap();
    let error = error(&func, &network, &inputs);
    assert!(error <= 1e-5, "{error:e}\n{text}");
    network.steps().map(|s| s.code).collect()
}

#[test]
fn tiny_architectures_compute_what_they_say() {
    let runtime = runtime();
    for architecture in Architecture::ALL.iter().copied().filter(|a| a.name().ends_with("-tiny")) {
        for (batch, seq) in [(1, 7), (3, 16)] {
            let options = ArchOptions { batch, seq: Some(seq) };
            let func = architecture.build(&options).unwrap();
            let inputs = architecture.sample_inputs(&options).unwrap();
            let network = Bound::from_func(func.clone()).compile(&runtime).unwrap();
            let error = error(&func, &network, &inputs);
            assert!(error <= 5e-6, "{architecture} {batch}x{seq}: {error:e}");
            // The interpreter is for masks and ids, not for what takes time.
            let slow = network.steps().filter(|s| s.code == Code::Interpreter && s.ty.element() == ElementType::F32);
            assert!(slow.count() <= 2, "{architecture}");
        }
    }
}

#[test]
fn every_kind_of_operation_runs() {
    use Code::{Interpreter, Kernel, Native};
    let unary = |op: &str| format!("func @f(%x: f32[3x50]) -> f32[3x50] {{\n %y = {op}\n return %y\n}}");
    for op in [
        "exp %x",
        "tanh %x",
        "sigmoid %x",
        "erf %x",
        "gelu_erf %x",
        "gelu_tanh %x",
        "silu %x",
        "mish %x",
        "softplus %x",
        "softsign %x",
        "elu %x {alpha=0.5}",
        "selu %x {alpha=1.6 gamma=1.05}",
        "celu %x {alpha=2}",
        "hard_swish %x",
        "sin %x",
        "cos %x",
        "floor %x",
        "ceil %x",
        "round %x",
        "sign %x",
        "neg %x",
        "abs %x",
        "relu %x",
        "leaky_relu %x {alpha=0.1}",
        "thresholded_relu %x {alpha=0.5}",
        "hard_sigmoid %x {alpha=0.3 beta=0.4}",
        "clamp %x {low=-0.5 high=1}",
        "softmax %x {axis=1}",
        "softmax %x {axis=0}",
        "log_softmax %x {axis=1}",
        "layer_norm %x {axis=1 epsilon=0.001}",
        "rms_norm %x {axis=1 epsilon=0.001}",
    ] {
        assert_eq!(check(&unary(op)), [Native], "{op}");
    }
    let cases = [
        ("%x: f32[2x3x4], %y: f32[3x1]", "f32[2x3x4]", "add %x, %y", Native),
        ("%x: f32[3x1], %y: f32[2x3x4]", "f32[2x3x4]", "sub %x, %y", Native),
        ("%x: f32[2x3x4], %y: f32[2x3x4]", "f32[2x3x4]", "max %x, %y", Native),
        ("%x: f32[2x3], %y: f32[2x3]", "bool[2x3]", "less %x, %y", Interpreter),
        ("%x: i64[2x3], %y: i64[3]", "i64[2x3]", "mul %x, %y", Interpreter),
        ("%x: f32[7x5], %y: i64[2x3]", "f32[2x3x5]", "gather %x, %y {axis=0}", Native),
        ("%x: f16[4x5], %y: f16[4x5]", "f16[8x5]", "concat %x, %y {axis=0}", Native),
        ("%x: f32[4x5], %y: f32[4x2]", "f32[4x7]", "concat %x, %y {axis=1}", Native),
        ("%x: f32[2x3x4], %y: f32[4x5]", "f32[2x3x5]", "matmul %x, %y", Kernel),
        ("%x: f32[2x1x3x4], %y: f32[5x4x6]", "f32[2x5x3x6]", "matmul %x, %y", Kernel),
        ("%x: i32[3x4], %y: i32[4x5]", "i32[3x5]", "matmul %x, %y", Interpreter),
        ("%x: f32[0x4], %y: f32[4x5]", "f32[0x5]", "matmul %x, %y", Interpreter),
    ];
    for (arguments, result, op, code) in cases {
        let text = format!("func @f({arguments}) -> {result} {{\n %z = {op}\n return %z\n}}");
        assert_eq!(check(&text), [code], "{op}");
    }
    let cases = [
        ("f32[2x3x4x5]", "f32[5x3x2x4]", "transpose %x {perm=[3,1,0,2]}"),
        ("bool[2x3]", "bool[3x2]", "transpose %x {perm=[1,0]}"),
        ("f32[3x1]", "f32[2x3x4]", "broadcast %x {shape=[2,3,4]}"),
        ("f32[6x7]", "f32[3x2]", "slice %x {starts=[5,1] steps=[-2,3] counts=[3,2]}"),
        ("f32[3x4]", "f32[5x7]", "pad %x {mode=reflect before=[1,2] after=[1,1] value=0}"),
        ("f32[3x4]", "f32[5x7]", "pad %x {mode=constant before=[1,2] after=[1,1] value=-1.5}"),
        ("f32[2x3x9]", "f32[2x1x9]", "reduce %x {kind=mean axes=[1] keep=true}"),
        ("f32[2x3x9]", "f32[3]", "reduce %x {kind=log_sum_exp axes=[0,2] keep=false}"),
        (
            "f32[1x3x9x9]",
            "f32[1x3x5x4]",
            "pool %x {kind=average p=0 kernel=[3,2] strides=[2,2] pads=[1,0,1,0] dilations=[1,1] out=[5,4] channels_last=false}",
        ),
    ];
    for (argument, result, op) in cases {
        let text = format!("func @f(%x: {argument}) -> {result} {{\n %z = {op}\n return %z\n}}");
        assert_eq!(check(&text), [Native], "{op}");
    }
}

#[test]
fn values_share_memory_and_views_take_none() {
    let text = "func @f(%x: f32[8x64]) -> f32[4x64], f32[8x64] {
        %a = exp %x
        %b = tanh %a
        %c = softmax %b {axis=1}
        %d = slice %c {starts=[2,0] steps=[1,1] counts=[4,64]}
        %e = neg %d
        %f = reshape %c {shape=[8,64]}
        return %e, %f
    }";
    check(text);
    let func: Func = text.parse().unwrap();
    let network = Bound::from_func(func).compile(&runtime()).unwrap();
    // The chain runs in place; the second result keeps its buffer while the first is computed.
    assert_eq!(network.memory().arena, 8 * 64 * 4 + 4 * 64 * 4);
    assert_eq!(network.memory().peak, network.memory().arena);
}

/// A function whose arguments named `w` are constants, large enough to be left to be computed with the plan.
fn check_constants(text: &str) {
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut seed = 50;
    let func = func.with_constants(|v| {
        seed += 1;
        v.name.starts_with('w').then(|| data(&v.ty, seed))
    });
    let func = func.unwrap();
    let inputs: Vec<Tensor> = func.arguments().enumerate().map(|(i, (_, v))| data(&v.ty, 1 + i as u64)).collect();
    let network = Bound::from_func(func.clone()).compile(&runtime()).unwrap();
    let error = error(&func, &network, &inputs);
    assert!(error <= 1e-5, "{error:e}\n{text}");
    assert!(network.steps().all(|s| s.code != Code::Interpreter), "constants are not computed in calls");
}

#[test]
fn what_is_made_of_constants_is_made_once() {
    // Read by a step, by way of another that is not.
    check_constants(
        "func @f(%x: f32[256x128], %wa: f32[128x128], %wb: f32[128x128], %wd: f32[256x128]) -> f32[256x128] {
            %c = concat %wa, %wb {axis=0}
            %m = mul %c, %wd
            %y = add %x, %m
            return %y
        }",
    );
    // A kernel of constants, and its result both read and packed.
    check_constants(
        "func @f(%x: f32[8x256], %wc: f32[256x256], %w: f32[256x256]) -> f32[264x256], f32[8x256] {
            %t = transpose %w {perm=[1,0]}
            %p = matmul %wc, %t
            %y = concat %x, %p {axis=0}
            %z = matmul %x, %p
            return %y, %z
        }",
    );
    // Weights of two products, one transposed; what they are made of is read too.
    check_constants(
        "func @f(%x: f32[8x256], %w: f32[256x256], %ws: f32[256]) -> f32[8x256], f32[8x256], f32[256x256], f32[256x256] {
            %m = mul %w, %ws
            %t = transpose %m {perm=[1,0]}
            %a = matmul %x, %m
            %b = matmul %x, %t
            %c = transpose %w {perm=[1,0]}
            return %a, %b, %m, %c
        }",
    );
    // Each value twice: as a tree it would have 2^40 parts.
    let mut text =
        "func @f(%x: f32[8x256], %w: f32[256x256]) -> f32[8x256] {\n%one = abs %w\n%n0 = sign %w\n".to_owned();
    (0..40).for_each(|i| text += &format!("%n{} = mul %n{i}, %n{i}\n", i + 1));
    check_constants(&(text + "%y = matmul %x, %n40\nreturn %y\n}"));
}

#[test]
fn operands_that_are_read_twice_are_not_written_over() {
    for op in ["mul %a, %a", "add %a, %r", "add %r, %a"] {
        check(&format!(
            "func @f(%x: f32[6x10]) -> f32[6x10] {{\n%a = exp %x\n%r = reshape %a {{shape=[6,10]}}\n%y = {op}\nreturn %y\n}}"
        ));
    }
    check(
        "func @f(%x: f32[6x10]) -> f32[6x10] {
            %a = exp %x
            %s = slice %a {starts=[2,0] steps=[1,1] counts=[1,10]}
            %y = sub %a, %s
            return %y
        }",
    );
}

#[test]
fn what_is_turned_is_copied() {
    // Every way to go along each axis of three, between operations and alone: of each axis all, forwards or backwards, some, or one.
    let shape = [2u64, 3, 4];
    let along = |n: u64| [(0, 1, n), (n - 1, -1, n), (1, 1, n - 1), (n - 2, -1, n - 1), (n - 1, -7, 1), (0, 2, n / 2)];
    for choice in 0..6 * 6 * 6usize {
        let axes: Vec<(u64, i64, u64)> = (0..3).map(|a| along(shape[a])[choice / 6usize.pow(a as u32) % 6]).collect();
        let list = |of: &dyn Fn(&(u64, i64, u64)) -> String| axes.iter().map(of).collect::<Vec<_>>().join(",");
        let out = list(&|a| a.2.to_string()).replace(',', "x");
        let slice = format!(
            "{{starts=[{}] steps=[{}] counts=[{}]}}",
            list(&|a| a.0.to_string()),
            list(&|a| a.1.to_string()),
            list(&|a| a.2.to_string())
        );
        check(&format!(
            "func @f(%x: f32[2x3x4]) -> f32[{out}], f32[{out}], f32[2x3x4] {{
                %a = neg %x
                %s = slice %a {slice}
                %y = abs %s
                %z = slice %x {slice}
                %b = abs %a
                return %y, %z, %b
            }}"
        ));
    }
    // A view of a view, and what is turned of a view.
    check(
        "func @f(%x: f32[4x3x2]) -> f32[1x1x2], f32[1x3x2], f32[2x3] {
            %a = neg %x
            %v = slice %a {starts=[2,0,0] steps=[1,1,1] counts=[2,3,2]}
            %w = slice %v {starts=[1,1,0] steps=[-1,1,1] counts=[1,1,2]}
            %r = slice %v {starts=[1,2,0] steps=[1,-1,1] counts=[1,3,2]}
            %t = slice %v {starts=[0,0,1] steps=[1,1,1] counts=[2,3,1]}
            %u = reshape %t {shape=[2,3]}
            return %w, %r, %u
        }",
    );
}

#[test]
fn results_may_be_arguments_and_constants() {
    check(
        "func @f(%x: f32[2x3]) -> f32[2x3], f32[3x2], f32[2], f32[1x3] {
            %c = constant f32[2] {1, 2}
            %r = reshape %x {shape=[3,2]}
            %s = slice %x {starts=[1,0] steps=[1,1] counts=[1,3]}
            return %x, %r, %c, %s
        }",
    );
}

#[test]
fn bf16_math_is_near() {
    let runtime = Runtime::builder().threads(1).fpmath(MathMode::Bf16).build().unwrap();
    let options = ArchOptions { batch: 1, seq: Some(16) };
    for architecture in Architecture::ALL.iter().copied().filter(|a| a.name().ends_with("-tiny")) {
        let func = architecture.build(&options).unwrap();
        let inputs = architecture.sample_inputs(&options).unwrap();
        let network = Bound::from_func(func.clone()).compile(&runtime).unwrap();
        let arguments: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
        let expected = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        for (found, expected) in network.run(&inputs).unwrap().iter().zip(&expected) {
            let found = found.to_f64();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            let cosine = dot(&found, expected) / (dot(&found, &found) * dot(expected, expected)).sqrt();
            assert!(cosine >= 0.999, "{architecture}: {cosine}");
        }
    }
}

#[test]
fn inputs_that_are_others_are_refused() {
    let func: Func = "func @f(%x: f32[2x3]) -> f32[2x3] {\n %y = exp %x\n return %y\n}".parse().unwrap();
    let network = Bound::from_func(func).compile(&runtime()).unwrap();
    let tensor =
        |shape: &[u64]| Tensor::from_elements(shape, vec![1.0f32; shape.iter().product::<u64>() as usize]).unwrap();
    let error = |inputs: &[Tensor]| network.run(inputs).unwrap_err().to_string();
    assert_eq!(error(&[]), "input `x`: expected f32[2x3], found none");
    assert_eq!(error(&[tensor(&[3, 2])]), "input `x`: expected f32[2x3], found f32[3x2]");
    assert!(error(&[tensor(&[2, 3]), tensor(&[1])]).contains("expected 1 inputs"));
    // Data may lie anywhere.
    let bytes = bytes::Bytes::from([vec![0], vec![0; 24]].concat()).slice(1..);
    let unaligned = Tensor::new(TensorType::new(ElementType::F32, [2, 3]).unwrap(), bytes).unwrap();
    assert_eq!(network.run(&[unaligned]).unwrap()[0].to_f64(), [1.0; 6]);
}

#[test]
fn an_index_outside_is_an_error() {
    let text = "func @f(%x: f32[4x2], %i: i64[2]) -> f32[2x2] {\n %y = gather %x, %i {axis=0}\n return %y\n}";
    let network = Bound::from_func(text.parse().unwrap()).compile(&runtime()).unwrap();
    let x = Tensor::from_elements([4, 2], (0..8).map(|v| v as f32).collect()).unwrap();
    let indices = |a: i64, b: i64| Tensor::from_elements([2], vec![a, b]).unwrap();
    assert_eq!(network.run(&[x.clone(), indices(-1, 0)]).unwrap()[0].to_f64(), [6.0, 7.0, 0.0, 1.0]);
    let error = network.run(&[x, indices(0, 4)]).unwrap_err();
    assert!(matches!(error, ModelError::Index { index: 4, extent: 4, .. }), "{error}");
    // Of an operation that the interpreter computes, too.
    let text = "func @f(%x: f32[1x1x2x2], %r: f32[1x4], %i: i64[1]) -> f32[1x1x1x1] {
        %y = roi_align %x, %r, %i {rows=1 columns=1 samples=1 scale=1 max=false half_pixel=true}
        return %y
    }";
    let network = Bound::from_func(text.parse().unwrap()).compile(&runtime()).unwrap();
    let image = Tensor::from_elements([1, 1, 2, 2], vec![1.0f32; 4]).unwrap();
    let region = Tensor::from_elements([1, 4], vec![0.0f32, 0.0, 2.0, 2.0]).unwrap();
    let of_image = |i: i64| network.run(&[image.clone(), region.clone(), Tensor::from_elements([1], vec![i]).unwrap()]);
    assert_eq!(of_image(0).unwrap()[0].to_f64(), [1.0]);
    let error = of_image(7).unwrap_err();
    assert!(matches!(error, ModelError::Index { index: 7, extent: 1, .. }), "{error}");
    // A constant one is not folded into something else.
    let text = "func @f(%x: f32[1]) -> f32[1] {
        %t = constant f32[2] {1, 2}
        %i = constant i64[1] {9}
        %g = gather %t, %i {axis=0}
        %y = add %x, %g
        return %y
    }";
    let error = Bound::from_func(text.parse().unwrap()).compile(&runtime()).map(drop).unwrap_err();
    assert!(error.to_string().contains('9'), "{error}");
}

#[test]
fn threads_share_a_network() {
    let options = ArchOptions { batch: 1, seq: Some(9) };
    let architecture = Architecture::ALL.iter().copied().find(|a| a.name() == "bert-tiny").unwrap();
    let network = Bound::from_architecture(architecture, &options).unwrap().compile(&runtime()).unwrap();
    let inputs = architecture.sample_inputs(&options).unwrap();
    let expected = network.run(&inputs).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(network.run(&inputs).unwrap(), expected)));
        }
    });
}

/// Calls at once on threads of their own: the bits of a call on one thread, and one copy of the weights.
#[test]
fn streams_share_a_network_and_its_weights() {
    let text = "func @f(%x: f32[96x256], %w: f32[512x256]) -> f32[96x512] {
        %t = transpose %w {perm=[1,0]}
        %y = matmul %x, %t
        return %y
    }";
    let func: Func = text.parse().unwrap();
    let product = func.with_constants(|v| (v.name == "w").then(|| data(&v.ty, 1))).unwrap();
    let options = ArchOptions { batch: 2, seq: Some(33) };
    let bert = Architecture::ALL.iter().copied().find(|a| a.name() == "bert-tiny").unwrap();
    let rows = data(&TensorType::new(ElementType::F32, [96, 256]).unwrap(), 9);
    for (func, inputs) in
        [(product, vec![rows]), (bert.build(&options).unwrap(), bert.sample_inputs(&options).unwrap())]
    {
        let compile = |runtime: &Runtime| Bound::from_func(func.clone()).compile(runtime).unwrap();
        let expected = compile(&Runtime::builder().threads(1).build().unwrap()).run(&inputs).unwrap();
        for threads in [1, 2] {
            let runtime = Runtime::builder().threads(threads).streams(2).build().unwrap();
            assert_eq!((runtime.threads(), runtime.streams()), (threads, 2));
            let network = compile(&runtime);
            let packed = network.memory().packed;
            assert!(packed > 0 || inputs.len() > 1, "the product's weights are packed");
            let start = std::sync::Barrier::new(3);
            std::thread::scope(|scope| {
                // One more than there are streams.
                for _ in 0..3 {
                    scope.spawn(|| {
                        start.wait();
                        (0..20).for_each(|_| assert_eq!(network.run(&inputs).unwrap(), expected));
                        assert_eq!(runtime.stats().packed_bytes, packed);
                    });
                }
            });
            assert_eq!(runtime.stats().packed_bytes, packed);
        }
    }
}

#[test]
fn equal_weights_are_packed_once() {
    let runtime = runtime();
    let architecture = Architecture::ALL.iter().copied().find(|a| a.name() == "bert-tiny").unwrap();
    let compile = |seq| {
        let options = ArchOptions { batch: 1, seq: Some(seq) };
        Bound::from_architecture(architecture, &options).unwrap().compile(&runtime).unwrap()
    };
    let first = compile(16);
    let bytes = runtime.stats().packed_bytes;
    assert_eq!(bytes, first.memory().packed);
    let second = compile(16);
    assert_eq!(runtime.stats().packed_bytes, bytes);
    drop((first, second));
    assert_eq!(runtime.stats().packed_bytes, 0);
}

#[test]
fn weights_that_were_packed_before_are_not_packed_again() {
    // The second product has the transpose of what the first has.
    let text = "func @f(%x: f32[8x256], %w: f32[256x256], %w2: f32[256x256]) -> f32[8x256] {
        %a = matmul %x, %w
        %t = transpose %w {perm=[1,0]}
        %b = matmul %a, %t
        %r = relu %b
        %t2 = transpose %w2 {perm=[1,0]}
        %y = matmul %r, %t2
        return %y
    }";
    let with = |seeds: [u64; 2]| {
        let func: Func = text.parse().unwrap();
        let mut seeds = seeds.into_iter();
        func.with_constants(|v| v.name.starts_with('w').then(|| data(&v.ty, seeds.next().unwrap()))).unwrap()
    };
    let (folder, runtime, func) = (tempfile::tempdir().unwrap(), runtime(), with([1, 2]));
    let first = Bound::from_func(func.clone()).compile(&runtime).unwrap();
    let inputs = [data(&TensorType::new(ElementType::F32, [8, 256]).unwrap(), 9)];
    assert!(error(&func, &first, &inputs) <= 1e-5);
    let file = folder.path().join("weights");
    first.write_weights(&file).unwrap();
    let weights = WeightsPack::open(&file).unwrap();
    let (all, of_pack) = first.packed_weights();
    assert!((weights.len(), of_pack) == (all, 0) && all > 1, "{all} packed weights");
    let options = CompileOptions { weights: Some(&weights), ..CompileOptions::default() };
    // Another runtime has nothing packed.
    let other = Runtime::builder().threads(1).build().unwrap();
    let again = Bound::from_func(func).compile_with(&other, &options).unwrap();
    assert_eq!(again.packed_weights(), (all, all));
    assert_eq!(other.stats().packed_bytes, first.memory().packed);
    assert_eq!(again.run(&inputs).unwrap(), first.run(&inputs).unwrap());
    // Other weights are not those of the file, whose names do not matter. The first product may read in place.
    for (seeds, missing) in [([1, 5], 1), ([5, 2], all - 1), ([2, 1], all - 2)] {
        let func = with(seeds);
        let changed = Bound::from_func(func.clone()).compile_with(&other, &options).unwrap();
        assert_eq!(changed.packed_weights().1, all - missing, "{seeds:?}");
        assert!(error(&func, &changed, &inputs) <= 1e-5, "{seeds:?}");
    }
}

#[test]
fn the_layers_of_a_plan_are_the_functions_values() {
    let options = ArchOptions { batch: 1, seq: Some(8) };
    let architecture = Architecture::ALL.iter().copied().find(|a| a.name() == "bert-tiny").unwrap();
    let bound = Bound::from_architecture(architecture, &options).unwrap();
    let func = bound.clone().optimize(|_, _| {}).unwrap();
    let network = bound.compile(&runtime()).unwrap();
    let kernels = func.values().filter(|(_, v)| {
        matches!(&v.def, Def::Result { op: TensorOp::Structured(kiln_ir::func::Structured::Kernel { .. }), .. })
    });
    assert_eq!(kernels.count(), network.steps().filter(|s| s.kernel.is_some()).count());
    assert_eq!(network.requests().len(), network.kernels().len());
}

#[test]
fn queries_that_see_no_key_get_nothing() {
    // Queries and keys; which keys each query may see. The second query of the first image sees none, and the second image is seen
    // by none at all.
    let text = |softmax: &str| {
        format!(
            "func @f(%q: f32[2x3x4], %k: f32[2x4x5], %m: bool[2x3x5], %v: f32[2x5x4]) -> f32[2x3x4] {{
                %p = matmul %q, %k
                %h = constant f32[] {{0.5}}
                %s = mul %p, %h
                %none = constant f32[] {{-inf}}
                %zero = constant f32[] {{0}}
                %b = where %m, %zero, %none
                %a = add %s, %b
                %w = {softmax} %a {{axis=2}}
                %y = matmul %w, %v
                return %y
            }}"
        )
    };
    let seen =
        [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1].into_iter().chain([0; 15]).map(f64::from).collect::<Vec<_>>();
    let runtime = runtime();
    for (softmax, is_nothing) in [("masked_softmax", true), ("softmax", false)] {
        let func: Func = text(softmax).parse().unwrap();
        let mut inputs: Vec<Tensor> =
            func.arguments().enumerate().map(|(i, (_, v))| data(&v.ty, 1 + i as u64)).collect();
        inputs[2] = Tensor::from_f64(inputs[2].ty().clone(), &seen);
        let network = Bound::from_func(func.clone()).compile(&runtime).unwrap();
        let error = error(&func, &network, &inputs);
        assert!(error <= 1e-5, "{softmax}: {error:e}");
        let y = network.run(&inputs).unwrap()[0].to_f64();
        assert!(y[..4].iter().chain(&y[8..12]).all(|v| v.is_finite() && *v != 0.0), "{y:?}");
        let masked = y[4..8].iter().chain(&y[12..]);
        assert!(masked.clone().all(|v| if is_nothing { *v == 0.0 } else { v.is_nan() }), "{softmax}: {y:?}");
    }
}
