//! Passes leave the meaning of functions as it is, and make of them what kernels can compute.

use std::fmt::Write as _;

use kiln_ir::Func;
use kiln_ir::func::{Binary, Def, ElementType, Origins, Structured, Tensor, TensorOp, TensorType, Unary, ValueId};
use kiln_ir::pass::{self, PASSES};

/// Small numbers that differ from place to place, none of which is special to an operation.
fn data(ty: &TensorType, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 40
    };
    let value = |n: u64| match ty.element() {
        ElementType::F32 => f64::from(((n % 4096) as f32 - 2048.0) / 1500.0),
        ElementType::Bool => (n % 2) as f64,
        _ => (n % 3) as f64,
    };
    (0..ty.elements()).map(|_| value(next())).collect()
}

/// The function with some arguments as constants: those whose names begin with `w`. Variances must not be negative: `wv`.
fn bound(text: &str) -> Func {
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut seed = 100;
    let bound = func.with_constants(|v| {
        seed += 1;
        let mut values = v.name.starts_with('w').then(|| data(&v.ty, seed))?;
        if v.name.starts_with("wv") {
            values.iter_mut().for_each(|v| *v = v.abs() + 0.1);
        }
        Some(Tensor::from_f64(v.ty.clone(), &values))
    });
    bound.unwrap()
}

fn results(func: &Func) -> Vec<Vec<f64>> {
    let arguments: Vec<Vec<f64>> = func.arguments().enumerate().map(|(i, (_, v))| data(&v.ty, 1 + i as u64)).collect();
    func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}

/// The types of what a caller gets.
fn types(func: &Func) -> Vec<TensorType> {
    func.results().iter().map(|id| func.value(*id).ty.clone()).collect()
}

/// Runs all passes, compares the meaning after each, and gives the text after those that changed something.
fn optimized(text: &str) -> (Func, String) {
    let func = bound(text);
    let expected = results(&func);
    let declared = types(&func);
    let (mut log, mut before) = (String::new(), func.to_string());
    // Passes that are left out would change nothing.
    let every = PASSES.iter().try_fold(func.clone(), |func, pass| pass.run(&func)).unwrap();
    let result = pass::optimize(func, |pass, func| {
        let now = func.to_string();
        if now != before {
            writeln!(log, "after {}:\n{now}", pass.name).unwrap();
        }
        before = now;
        assert_eq!(types(func), declared, "after {}", pass.name);
        let found = results(func);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-3);
            assert_eq!(found.len(), expected.len(), "after {}", pass.name);
            for (f, e) in found.iter().zip(expected) {
                let same = f.is_nan() && e.is_nan();
                assert!(same || (f - e).abs() <= 2e-6 * largest, "after {}: {f} for {e}\n{before}", pass.name);
            }
        }
    })
    .unwrap();
    assert_eq!(result.to_string(), every.to_string());
    (result, log)
}

/// The problems of a function's kernels, and the other operations.
fn made_of(func: &Func) -> Vec<String> {
    let results = func.values().filter_map(|(_, v)| match &v.def {
        Def::Result {
            op: kiln_ir::func::TensorOp::Structured(kiln_ir::func::Structured::Kernel { problem }), ..
        } => Some(problem.to_string()),
        Def::Result { op, .. } => Some(op.to_string()),
        _ => None,
    });
    results.collect()
}

#[track_caller]
fn becomes(text: &str, expected: &[&str]) {
    let (func, log) = optimized(text);
    assert_eq!(made_of(&func), expected, "{log}");
}

const RESIDUAL_BLOCK: &str =
    "func @block(%x: f32[1x4x6x6], %w1: f32[8x4x3x3], %ws: f32[8], %wb: f32[8], %wm: f32[8], %wv: f32[8],
    %w2: f32[8x4x1x1], %w2s: f32[8], %w2b: f32[8], %w2m: f32[8], %wv2: f32[8]) -> f32[1x8] {
    %c = conv %x, %w1 {strides=[1,1] pads=[1,1,1,1] dilations=[1,1] groups=1 channels_last=false}
    %n = batch_norm %c, %ws, %wb, %wm, %wv {epsilon=0.00001 channels_last=false}
    %d = conv %x, %w2 {strides=[1,1] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}
    %m = batch_norm %d, %w2s, %w2b, %w2m, %wv2 {epsilon=0.00001 channels_last=false}
    %s = add %n, %m
    %r = relu %s
    %p = pool %r {kind=max p=0 kernel=[3,3] strides=[2,2] pads=[1,1,1,1] dilations=[1,1] out=[3,3] channels_last=false}
    %a = reduce %p {kind=mean axes=[2,3] keep=true}
    %f = reshape %a {shape=[1,8]}
    return %f
}";

const ENCODER_LAYER: &str =
    "func @layer(%x: f32[1x5x8], %mask: f32[1x1x1x5], %wq: f32[8x8], %wqb: f32[8], %wk: f32[8x8], %wkb: f32[8],
    %wv_: f32[8x8], %wvb: f32[8], %wo: f32[8x8], %wob: f32[8], %wg: f32[8], %wl: f32[8], %wu: f32[16x8], %wub: f32[16],
    %wd: f32[8x16], %wdb: f32[8], %wg2: f32[8], %wl2: f32[8]) -> f32[1x5x8] {
    %c8 = constant f32[] {0.7071067690849304}
    %half = constant f32[] {0.5}
    %one = constant f32[] {1}
    %root = constant f32[] {1.4142135381698608}
    %two = constant f32[] {2}
    %eps = constant f32[] {0.00001}
    %qt = transpose %wq {perm=[1,0]}
    %q0 = matmul %x, %qt
    %q1 = add %wqb, %q0
    %q2 = reshape %q1 {shape=[1,5,2,4]}
    %q = transpose %q2 {perm=[0,2,1,3]}
    %kt = transpose %wk {perm=[1,0]}
    %k0 = matmul %x, %kt
    %k1 = add %wkb, %k0
    %k2 = reshape %k1 {shape=[1,5,2,4]}
    %k = transpose %k2 {perm=[0,2,3,1]}
    %vt = transpose %wv_ {perm=[1,0]}
    %v0 = matmul %x, %vt
    %v1 = add %wvb, %v0
    %v2 = reshape %v1 {shape=[1,5,2,4]}
    %v = transpose %v2 {perm=[0,2,1,3]}
    %qs = mul %q, %c8
    %ks = mul %k, %c8
    %s0 = matmul %qs, %ks
    %s1 = add %s0, %mask
    %s = softmax %s1 {axis=3}
    %a0 = matmul %s, %v
    %a1 = transpose %a0 {perm=[0,2,1,3]}
    %a = reshape %a1 {shape=[1,5,8]}
    %ot = transpose %wo {perm=[1,0]}
    %o0 = matmul %a, %ot
    %o1 = add %wob, %o0
    %r = add %o1, %x
    %mean = reduce %r {kind=mean axes=[2] keep=true}
    %d = sub %r, %mean
    %sq = pow %d, %two
    %var = reduce %sq {kind=mean axes=[2] keep=true}
    %ve = add %var, %eps
    %sd = sqrt %ve
    %n0 = div %d, %sd
    %n1 = mul %n0, %wg
    %n = add %n1, %wl
    %ut = transpose %wu {perm=[1,0]}
    %u0 = matmul %n, %ut
    %u = add %u0, %wub
    %e0 = div %u, %root
    %e1 = erf %e0
    %e2 = add %e1, %one
    %e3 = mul %u, %e2
    %e = mul %e3, %half
    %dt = transpose %wd {perm=[1,0]}
    %d0 = matmul %e, %dt
    %d1 = add %d0, %wdb
    %rr = add %d1, %n
    %y = layer_norm %rr, %wg2, %wl2 {axis=2 epsilon=0.00001}
    return %y
}";

#[test]
fn a_residual_block_is_two_convolutions() {
    becomes(
        RESIDUAL_BLOCK,
        &[
            "conv f32 mb1ic4ih6oc8kh3ph1 stag=abx +bias",
            "conv f32 mb1ic4ih6oc8kh1 stag=abx +bias+add:abcd+relu",
            "pool",
            "reduce",
            "reshape",
        ],
    );
}

#[test]
fn an_encoder_layer_is_six_kernels() {
    becomes(
        ENCODER_LAYER,
        &[
            "matmul f32 1x5x8:3x8x8 +add:ac",
            "slice",
            "slice",
            "slice",
            "reshape",
            "reshape",
            "reshape",
            "matmul f32 1x2x5x4:1x2x4x5 stag=acbd wtag=adbc +scale:0.49999997+bias",
            "softmax",
            "matmul f32 1x2x5x5:1x2x5x4 wtag=acbd dtag=acbd",
            "reshape",
            "matmul f32 5x8:8x8 +bias+add:ab",
            "reshape",
            "layer_norm",
            "matmul f32 5x8:8x16 +bias+gelu_erf",
            "reshape",
            "matmul f32 5x16:16x8 +bias+add:ab",
            "reshape",
            "layer_norm",
        ],
    );
}

#[test]
fn every_pass_of_both_is_as_it_was() {
    insta::assert_snapshot!("residual_block", optimized(RESIDUAL_BLOCK).1);
    insta::assert_snapshot!("encoder_layer", optimized(ENCODER_LAYER).1);
    // What is left of weights changes no meaning when it is computed.
    let func = optimized(ENCODER_LAYER).0;
    assert_eq!(results(&pass::fold_weights(&func).unwrap()), results(&func));
}

#[test]
fn exporters_write_activations_in_many_ways() {
    let linear = |rest: &str| {
        format!(
            "func @f(%x: f32[3x4], %w: f32[4x6], %wb: f32[6]) -> f32[3x6] {{
                %half = constant f32[] {{0.5}}
                %one = constant f32[] {{1}}
                %three = constant f32[] {{3}}
                %six = constant f32[] {{6}}
                %zero = constant f32[] {{0}}
                %h0 = matmul %x, %w
                %h = add %h0, %wb
                {rest}
                return %y
            }}"
        )
    };
    let expected = |activation: &str| format!("matmul f32 3x4:4x6 +bias+{activation}");
    let cases = [
        (
            "gelu_erf",
            "%k = constant f32[] {0.70710677}\n%a = mul %h, %k\n%b = erf %a\n%c = add %b, %one\n%d = mul %half, %h\n%y = mul %c, %d",
        ),
        (
            "gelu_tanh",
            "%k = constant f32[] {0.7978846}\n%g = constant f32[] {0.044715}\n%p = pow %h, %three\n%q = mul %g, %p\n%s = add %h, %q\n\
             %t = mul %k, %s\n%u = tanh %t\n%v = add %u, %one\n%z = mul %h, %v\n%y = mul %z, %half",
        ),
        ("silu", "%s = sigmoid %h\n%y = mul %h, %s"),
        ("hardswish", "%a = add %h, %three\n%b = clamp %a {low=0 high=6}\n%c = mul %h, %b\n%y = div %c, %six"),
        ("hardswish", "%b = hard_sigmoid %h {alpha=0.16666667 beta=0.5}\n%y = mul %h, %b"),
        ("hardsigmoid", "%a = add %h, %three\n%b = max %a, %zero\n%c = min %b, %six\n%y = div %c, %six"),
        ("softsign", "%y = softsign %h"),
        ("clamp:0:6", "%a = max %h, %zero\n%y = min %a, %six"),
        ("relu", "%y = max %zero, %h"),
        ("shift:-3+scale:0.5", "%a = sub %h, %three\n%y = mul %half, %a"),
    ];
    for (activation, rest) in cases {
        let (func, log) = optimized(&linear(rest));
        assert_eq!(made_of(&func), [expected(activation)], "{log}");
    }
}

#[test]
fn what_is_read_twice_is_not_fused() {
    becomes(
        "func @f(%x: f32[3x4], %w: f32[4x6]) -> f32[3x6], f32[3x6] {
            %h = matmul %x, %w
            %r = relu %h
            %s = add %h, %r
            return %r, %s
        }",
        &["matmul f32 3x4:4x6", "relu", "add"],
    );
    // Neither is what the caller gets.
    becomes(
        "func @f(%x: f32[3x4], %w: f32[4x6]) -> f32[3x6], f32[3x6] {
            %h = matmul %x, %w
            %r = relu %h
            return %h, %r
        }",
        &["matmul f32 3x4:4x6", "relu"],
    );
}

#[test]
fn a_sum_belongs_to_one_product() {
    let sum = |last: &str| {
        format!(
            "func @f(%x: f32[3x4], %z: f32[3x5], %w: f32[4x6], %w2: f32[5x6]) -> f32[3x6] {{
                %a = matmul %x, %w
                %b = matmul %z, %w2
                %s = add %a, %b
                {last}
                return %y
            }}"
        )
    };
    becomes(&sum("%y = reshape %s {shape=[3,6]}"), &["matmul f32 3x4:4x6", "matmul f32 3x5:5x6 +add:ab"]);
    becomes(&sum("%y = relu %s"), &["matmul f32 3x4:4x6", "matmul f32 3x5:5x6 +add:ab+relu"]);
    becomes(&sum("%y = sin %s"), &["matmul f32 3x4:4x6", "matmul f32 3x5:5x6 +add:ab", "sin"]);
}

#[test]
fn constants_that_stretch_or_have_no_reciprocal_stay() {
    becomes(
        "func @f(%x: f32[1]) -> f32[3] {
            %a = constant f32[3] {2, 2, 2}
            %b = constant f32[] {3}
            %p = mul %x, %a
            %y = mul %p, %b
            return %y
        }",
        &["mul", "mul"],
    );
    becomes(
        "func @f(%x: f32[2]) -> f32[2], f32[2], f32[2] {
            %tiny = constant f32[] {1e-40}
            %zero = constant f32[] {0}
            %four = constant f32[] {4}
            %scaled = mul %x, %tiny
            %y = div %scaled, %tiny
            %n = constant f32[] {NaN}
            %m = max %x, %n
            %q = div %x, %four
            return %y, %m, %q
        }",
        &["mul", "div", "max", "mul"],
    );
}

#[test]
fn a_transpose_that_something_else_reads_is_there() {
    let both = |rest: &str| {
        format!(
            "func @f(%a: f32[2x3], %b: f32[3x4], %q: f32[5x4]) -> f32[4x2], f32[5x2] {{
                %s = matmul %a, %b
                %t = transpose %s {{perm=[1,0]}}
                {rest}
            }}"
        )
    };
    let kernels = ["matmul f32 2x3:3x4", "transpose", "ip f32 mb5ic4oc2"];
    becomes(&both("%y = matmul %q, %t\nreturn %t, %y"), &kernels);
    let kernels = ["matmul f32 2x3:3x4", "ip f32 mb5ic4oc2", "relu", "transpose"];
    becomes(&both("%y = matmul %q, %t\n%u = relu %t\nreturn %u, %y"), &kernels);
}

#[test]
fn numbers_of_a_higher_rank_keep_it() {
    let numbers = "%k = constant f32[1x1x1] {0.70710677}\n%one = constant f32[] {1}\n%half = constant f32[1x1x1] {0.5}";
    let gelu = "%a = mul %x, %k\n%b = erf %a\n%c = add %b, %one\n%d = mul %c, %x\n%y = mul %d, %half\nreturn %y";
    becomes(
        &format!("func @f(%x: f32[2x3]) -> f32[1x2x3] {{ {numbers}\n{gelu} }}"),
        &["mul", "erf", "add", "mul", "mul"],
    );
    let norm = "%m = reduce %x {kind=mean axes=[1] keep=true}\n%d = sub %x, %m\n%q = mul %d, %d
        %v = reduce %q {kind=mean axes=[1] keep=true}\n%e = constant f32[1x1x1] {0.00001}\n%w = add %v, %e\n%s = sqrt %w
        %y = div %d, %s\nreturn %y";
    let norms = ["reduce", "sub", "mul", "reduce", "add", "sqrt", "div"];
    becomes(&format!("func @f(%x: f32[2x3]) -> f32[1x2x3] {{ {norm} }}"), &norms);
}

#[test]
fn what_would_take_much_more_memory_stays() {
    // Each pixel would have 400 products for a window that only meets it.
    becomes(
        "func @f(%x: f32[1x1x16x16], %w: f32[1x1x20x20]) -> f32[1x1x1x1] {
            %y = conv_transpose %x, %w {strides=[1,1] pads=[17,17,17,17] dilations=[1,1] output_pads=[0,0] groups=1}
            return %y
        }",
        &["conv_transpose"],
    );
    let large = "func @f() -> f32[10000x100000] {
        %one = constant f32[] {1}
        %a = broadcast %one {shape=[10000,1]}
        %b = broadcast %one {shape=[1,100000]}
        %y = matmul %a, %b
        return %y
    }";
    let func = pass::optimize(large.parse().unwrap(), |_, _| {}).unwrap();
    assert!(func.values().all(|(_, v)| !matches!(v.def, Def::Constant(_)) || v.ty.elements() <= 100_000));
    assert_eq!(func.value(func.results()[0]).ty.shape(), [10_000, 100_000]);
}

#[test]
fn integers_are_not_clamped_to_doubles() {
    becomes(
        "func @f(%x: i64[2], %n: i32[2]) -> i64[2], i32[2] {
            %a = constant i64[] {9007199254740993}
            %b = constant i32[] {7}
            %y = max %x, %a
            %z = max %n, %b
            return %y, %z
        }",
        &["max", "clamp"],
    );
}

#[test]
fn images_with_channels_last_stay_so() {
    becomes(
        "func @f(%x: f32[1x5x5x3], %w: f32[4x3x2x2], %wb: f32[4x1x1]) -> f32[1x4x4x4] {
            %t = transpose %x {perm=[0,3,1,2]}
            %p = pad %t {mode=constant before=[0,0,0,0] after=[0,0,0,0] value=0}
            %c = conv %p, %w {strides=[1,1] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}
            %b = add %c, %wb
            %s = sigmoid %b
            %y = transpose %s {perm=[0,2,3,1]}
            return %y
        }",
        &["conv f32 mb1ic3ih5oc4kh2 +bias+sigmoid"],
    );
}

#[test]
fn squeeze_and_excitation_stays_in_one_layout() {
    becomes(
        "func @f(%x: f32[1x4x3x3], %w: f32[4x4x1x1], %w2: f32[4x4x1x1]) -> f32[1x4x3x3] {
            %c = conv %x, %w {strides=[1,1] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}
            %a = reduce %c {kind=mean axes=[2,3] keep=true}
            %e = conv %a, %w2 {strides=[1,1] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}
            %g = hard_sigmoid %e {alpha=0.2 beta=0.5}
            %y = mul %c, %g
            return %y
        }",
        &[
            "conv f32 mb1ic4ih3oc4kh1 stag=abx",
            "reduce",
            "conv f32 mb1ic4ih1oc4kh1 +scale:0.2+shift:0.5+clamp:0:1",
            "mul",
            "transpose",
        ],
    );
}

#[test]
fn transposed_convolutions_are_products() {
    becomes(
        "func @f(%x: f32[2x4x3x5], %w: f32[4x3x2x3]) -> f32[2x6x6x12] {
            %y = conv_transpose %x, %w {strides=[2,2] pads=[0,1,0,0] dilations=[1,2] output_pads=[0,0] groups=2}
            return %y
        }",
        &["reshape", "matmul f32 1x2x18x2:2x2x2x15", "reshape", "columns_to_image"],
    );
}

#[test]
fn passes_are_named_once() {
    let mut names: Vec<_> = PASSES.iter().map(|p| p.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PASSES.len());
}

#[test]
fn nodes_survive_every_pass() {
    // Two layers of a network as exporters write them: a linear layer with a gelu in parts, and a normalisation.
    let mut b = Func::builder("net");
    let ty = |shape: &[u64]| TensorType::new(ElementType::F32, shape).unwrap();
    let [x, w, bias] =
        [("x", &[4, 8][..]), ("w", &[8, 16]), ("bias", &[16])].map(|(n, shape)| b.arg(n, ty(shape)).unwrap());
    let constant = |b: &mut kiln_ir::func::Builder, shape: &[u64], value: f32| {
        let elements = vec![value; shape.iter().product::<u64>() as usize];
        b.constant(&Tensor::from_elements(shape, elements).unwrap())
    };
    let push = |b: &mut kiln_ir::func::Builder, node: &str, op: TensorOp, operands: &[ValueId]| {
        b.set_origins(Origins::of(node));
        b.push(op, operands).unwrap()
    };
    let root = constant(&mut b, &[], 2f32.sqrt());
    let one = constant(&mut b, &[], 1.0);
    let half = constant(&mut b, &[], 0.5);
    let y = push(&mut b, "fc", Structured::Matmul {}.into(), &[x, w]);
    let y = push(&mut b, "bias", Binary::Add {}.into(), &[y, bias]);
    let e = push(&mut b, "div", Binary::Div {}.into(), &[y, root]);
    let e = push(&mut b, "erf", Unary::Erf {}.into(), &[e]);
    let e = push(&mut b, "plus", Binary::Add {}.into(), &[e, one]);
    let e = push(&mut b, "times", Binary::Mul {}.into(), &[y, e]);
    let y = push(&mut b, "half", Binary::Mul {}.into(), &[e, half]);
    let y = push(&mut b, "turn", Structured::Transpose { perm: vec![1, 0] }.into(), &[y]);
    let y = push(&mut b, "softmax", Structured::Softmax { axis: 0 }.into(), &[y]);
    let func = b.finish(y).unwrap();
    let mut passes = 0;
    let nodes = |func: &Func| {
        let made = func.values().filter(|(_, v)| matches!(v.def, Def::Result { .. }));
        made.map(|(_, v)| v.origins.names().iter().map(|n| n.to_string()).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let optimized = pass::optimize_with(
        func.clone(),
        |_| true,
        |pass, func| {
            passes += 1;
            assert!(nodes(func).iter().all(|names| !names.is_empty()), "after {}: {func:#}", pass.name);
            // Nobody's work is lost.
            let all: std::collections::BTreeSet<String> = nodes(func).into_iter().flatten().collect();
            let wanted = ["fc", "bias", "div", "erf", "plus", "times", "half", "softmax"];
            assert!(wanted.iter().all(|name| all.contains(*name)), "after {}: {all:?}\n{func:#}", pass.name);
        },
    )
    .unwrap();
    assert!(passes > 5);
    let kernel = optimized.values().find(|(_, v)| v.to_string().is_empty() || v.operands().len() >= 2).unwrap().1;
    assert_eq!(&*kernel.origins.names()[0], "fc", "{optimized:#}");
    // They are comments: the text is read as the same function without them.
    assert!(format!("{optimized:#}").contains("# fc (+"), "{optimized:#}");
    assert_eq!(format!("{func:#}").parse::<Func>().unwrap(), func);
    assert_eq!(func.to_string().parse::<Func>().unwrap(), func);
}
