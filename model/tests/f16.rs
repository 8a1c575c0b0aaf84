//! Networks of f16: products are kernels, which read and write f16, and results are as near as f16 is.

#[path = "common/weights.rs"]
mod weights;

use kiln_ir::func::Tensor;
use kiln_jit::Runtime;
use kiln_model::{Bound, Code};
use weights::{data, with_weights};

/// Compiles a function whose arguments named `w` and `b` are constants, and compares its results with those of the interpreter on
/// f64. Its kernels must be those of `problems`, and nothing may be interpreted.
fn check(text: &str, problems: &[&str]) {
    let func = with_weights(text);
    let inputs: Vec<Tensor> = func.arguments().enumerate().map(|(i, (_, v))| data(&v.ty, 1 + i as u64, 1.0)).collect();
    let arguments: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
    let exact = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap().remove(0);
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let network = Bound::from_func(func).compile(&runtime).unwrap();
    let found: Vec<String> = network.kernels().iter().map(|k| k.problem().to_string()).collect();
    assert_eq!(found, problems);
    for step in network.steps() {
        assert!(step.code != Code::Interpreter, "{}", step.text);
    }
    let found = network.run(&inputs).unwrap()[0].to_f64();
    let largest = exact.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    let furthest = found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("{problems:?}: {:.2e} of the largest", furthest / largest);
    // Of a result, f16 keeps 11 bits, and so it does of what one kernel hands to the next.
    assert!(furthest <= largest * 2f64.powi(-11) * problems.len() as f64, "{furthest} {largest}");
}

#[test]
fn products_are_kernels() {
    check(
        "func @f(%x: f16[6x40], %w: f16[40x24]) -> f16[6x24] {
            %y = matmul %x, %w
            return %y
        }",
        &["matmul f16 6x40:40x24"],
    );
    check(
        "func @f(%x: f16[2x5x16], %y: f16[2x16x7]) -> f16[2x5x7] {
            %z = matmul %x, %y
            return %z
        }",
        &["matmul f16 2x5x16:2x16x7"],
    );
}

#[test]
fn linear_layers_are_kernels() {
    check(
        "func @f(%x: f16[6x40], %w1: f16[64x40], %b1: f16[64], %w2: f16[24x64], %b2: f16[24], %r: f16[6x24]) -> f16[6x24] {
            %t1 = transpose %w1 {perm=[1,0]}
            %p1 = matmul %x, %t1
            %s1 = add %p1, %b1
            %h = relu %s1
            %t2 = transpose %w2 {perm=[1,0]}
            %p2 = matmul %h, %t2
            %s2 = add %p2, %b2
            %y = add %s2, %r
            return %y
        }",
        &["matmul f16 6x40:40x64 +add:b+relu", "matmul f16 6x64:64x24 +add:b+add:ab"],
    );
}

#[test]
fn convolutions_are_kernels() {
    check(
        "func @f(%x: f16[1x8x9x9], %w1: f16[16x8x3x3], %b1: f16[16x1x1], %w2: f16[16x1x3x3], %b2: f16[16x1x1]) -> f16[1x16x9x9] {
            %c1 = conv %x, %w1 {strides=[1,1] pads=[1,1,1,1] dilations=[1,1] groups=1 channels_last=false}
            %d1 = add %c1, %b1
            %r1 = relu %d1
            %c2 = conv %r1, %w2 {strides=[1,1] pads=[1,1,1,1] dilations=[1,1] groups=16 channels_last=false}
            %d2 = add %c2, %b2
            return %d2
        }",
        &["conv f16 mb1ic8ih9oc16kh3ph1 stag=abx +add:b+relu", "conv f16 g16mb1ic16ih9oc16kh3ph1 +add:b"],
    );
}
