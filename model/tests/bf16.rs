//! bf16 math at full width: a block of ResNet-50 and a layer of BERT, on targets that have it; elsewhere it has no effect.

#[path = "common/weights.rs"]
mod weights;

use kiln_ir::Func;
use kiln_ir::func::{Def, ElementType, Structured, Tensor, TensorOp};
use kiln_jit::{Feature, MathMode, Runtime};
use kiln_model::Bound;
use weights::{data, with_weights};

/// The same with the factors of every product rounded to bf16: what bf16 math is when nothing else rounds.
fn rounded(func: &Func) -> Func {
    let mut b = Func::builder(func.name());
    let mut map = vec![];
    for (id, value) in func.values() {
        map.push(match &value.def {
            Def::Argument => b.arg(&value.name, value.ty.clone()).unwrap(),
            Def::Constant(_) => b.constant(&func.constant(id).unwrap()),
            Def::Result { op, operands } => {
                let mut operands: Vec<_> = operands.iter().map(|o| map[o.index()]).collect();
                if matches!(op, TensorOp::Structured(Structured::Kernel { .. })) {
                    for factor in &mut operands[..2] {
                        let half = b.push(Structured::Cast { to: ElementType::Bf16 }, &[*factor]).unwrap();
                        *factor = b.push(Structured::Cast { to: ElementType::F32 }, &[half]).unwrap();
                    }
                }
                b.push(op.clone(), &operands).unwrap()
            }
        });
    }
    let results: Vec<_> = func.results().iter().map(|id| map[id.index()]).collect();
    b.finish_all(&results).unwrap()
}

/// Compares a network under bf16 math with the exact one, beside what rounding factors alone does.
fn check(text: &str) {
    let func = with_weights(text);
    let inputs: Vec<Tensor> = func.arguments().enumerate().map(|(i, (_, v))| data(&v.ty, 1 + i as u64, 1.0)).collect();
    let arguments: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
    let interpret =
        |func: &Func| func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap().remove(0);
    let exact = interpret(&func);
    let kernels = Bound::from_func(func.clone()).optimize(|_, _| {}).unwrap();
    let reference = interpret(&rounded(&kernels));
    let runtime = Runtime::builder().threads(1).fpmath(MathMode::Bf16).build().unwrap();
    let found = Bound::from_func(func).compile(&runtime).unwrap().run(&inputs).unwrap()[0].to_f64();
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
    let size = distance(&exact, &vec![0.0; exact.len()]);
    let dot: f64 = found.iter().zip(&exact).map(|(x, y)| x * y).sum();
    let cosine = dot / (size * distance(&found, &vec![0.0; found.len()]));
    let (ours, theirs) = (distance(&found, &exact) / size, distance(&reference, &exact) / size);
    println!(
        "{}: cosine {cosine:.7}, relative error {ours:.2e}, of rounded factors alone {theirs:.2e}",
        runtime.target()
    );
    assert!(cosine >= 0.999, "{cosine}");
    // The sums' own roundings are far below those of their factors.
    assert!(ours <= 1.1 * theirs, "{ours:e} {theirs:e}");
    if runtime.target().has(Feature::Bf16) {
        assert!(ours >= 0.5 * theirs, "bf16 math was not used: {ours:e} {theirs:e}");
    } else {
        assert!(ours <= 1e-5, "{ours:e}");
    }
}

#[test]
fn a_block_of_resnet_50() {
    check(
        "func @block(%x: f32[1x1024x14x14], %w1: f32[256x1024x1x1], %b1: f32[256x1x1], %w2: f32[256x256x3x3], %b2: f32[256x1x1],
            %w3: f32[1024x256x1x1], %b3: f32[1024x1x1]) -> f32[1x1024x14x14] {
            %c1 = conv %x, %w1 {strides=[1,1] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}
            %d1 = add %c1, %b1
            %r1 = relu %d1
            %c2 = conv %r1, %w2 {strides=[1,1] pads=[1,1,1,1] dilations=[1,1] groups=1 channels_last=false}
            %d2 = add %c2, %b2
            %r2 = relu %d2
            %c3 = conv %r2, %w3 {strides=[1,1] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}
            %d3 = add %c3, %b3
            %s = add %d3, %x
            %y = relu %s
            return %y
        }",
    );
}

#[test]
fn a_layer_of_bert() {
    let linear = |name: &str, x: &str| {
        format!(
            "%{name}t = transpose %w{name} {{perm=[1,0]}}\n%{name}p = matmul %{x}, %{name}t\n%{name} = add %{name}p, %b{name}\n"
        )
    };
    let arguments =
        [("q", 768, 768), ("k", 768, 768), ("v", 768, 768), ("o", 768, 768), ("u", 3072, 768), ("d", 768, 3072)]
            .map(|(name, n, k)| format!("%w{name}: f32[{n}x{k}], %b{name}: f32[{n}]"));
    let heads = |name: &str, perm: &str| {
        format!("%{name}h = reshape %{name} {{shape=[1,32,12,64]}}\n%{name}x = transpose %{name}h {{perm={perm}}}\n")
    };
    let text = [
        format!("func @layer(%x: f32[1x32x768], {}) -> f32[1x32x768] {{\n", arguments.join(", ")),
        linear("q", "x") + &heads("q", "[0,2,1,3]"),
        linear("k", "x") + &heads("k", "[0,2,3,1]"),
        linear("v", "x") + &heads("v", "[0,2,1,3]"),
        "%scale = constant f32[] {0.125}\n%s0 = matmul %qx, %kx\n%s1 = mul %s0, %scale\n%s = softmax %s1 {axis=3}\n"
            .into(),
        "%c0 = matmul %s, %vx\n%c1 = transpose %c0 {perm=[0,2,1,3]}\n%c = reshape %c1 {shape=[1,32,768]}\n".into(),
        linear("o", "c") + "%r = add %o, %x\n%n = layer_norm %r {axis=2 epsilon=0.000000000001}\n",
        linear("u", "n") + "%g = gelu_erf %u\n" + &linear("d", "g"),
        "%rr = add %d, %n\n%y = layer_norm %rr {axis=2 epsilon=0.000000000001}\nreturn %y\n}".into(),
    ];
    check(&text.concat());
}

/// A layer that names its arithmetic has it, whatever the default of the runtime; the others have that.
#[test]
fn a_layer_that_says_strict_is_strict() {
    let text = "func @f(%x: f32[64x256], %w: f32[256x256], %v: f32[256x192]) -> f32[64x192] {
        %a = kernel %x, %w {problem=\"ip f32 mb64ic256oc256 fpmath=strict +relu\"}
        %y = matmul %a, %v
        return %y
    }";
    let func = with_weights(text);
    let inputs: Vec<Tensor> = func.arguments().enumerate().map(|(i, (_, v))| data(&v.ty, 1 + i as u64, 1.0)).collect();
    for (mode, other) in [(MathMode::Strict, ""), (MathMode::Bf16, " fpmath=bf16"), (MathMode::Any, " fpmath=any")] {
        let runtime = Runtime::builder().threads(1).fpmath(mode).build().unwrap();
        let network = Bound::from_func(func.clone()).compile(&runtime).unwrap();
        let problems: Vec<String> = network.kernels().iter().map(|k| k.problem().to_string()).collect();
        let expected =
            ["ip f32 mb64ic256oc256 fpmath=strict +relu".into(), format!("matmul f32 64x256:256x192{other}")];
        assert_eq!(problems, expected);
        let results = network.run(&inputs).unwrap()[0].to_f64();
        let arguments: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
        let exact = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap().remove(0);
        let largest = exact.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        let bound = if mode == MathMode::Strict { 2e-6 } else { 0.02 };
        assert!(results.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= bound * largest), "{mode}");
    }
}
