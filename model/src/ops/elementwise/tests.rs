use kiln_ir::func::{ElementType, Real, Tensor, TensorOp, TensorType};

use super::super::Serial;
use super::super::parallel::tests::Two;
use super::super::testing::{close, numbers};
use super::*;

fn step(op: Op, inputs: &[Input]) -> Step {
    Step { op, inputs: inputs.to_vec() }
}

fn exact_unary(op: &Unary, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match *op {
        Unary::Abs {} => x.abs(),
        Unary::Neg {} => -x,
        Unary::Exp {} => x.exp(),
        Unary::Log {} => x.ln(),
        Unary::Sqrt {} => x.sqrt(),
        Unary::Reciprocal {} => 1.0 / x,
        Unary::Erf {} => libm::erf(x),
        Unary::Tanh {} => x.tanh(),
        Unary::Sin {} => x.sin(),
        Unary::Cos {} => x.cos(),
        Unary::Tan {} => x.tan(),
        Unary::Asin {} => x.asin(),
        Unary::Acos {} => x.acos(),
        Unary::Atan {} => x.atan(),
        Unary::Sinh {} => x.sinh(),
        Unary::Cosh {} => x.cosh(),
        Unary::Asinh {} => x.asinh(),
        Unary::Acosh {} => x.acosh(),
        Unary::Atanh {} => x.atanh(),
        Unary::Sigmoid {} => sigmoid(x),
        Unary::Relu {} => x.max(0.0),
        Unary::LeakyRelu { alpha } if x <= 0.0 => alpha.0 * x,
        Unary::ThresholdedRelu { alpha } if x <= alpha.0 => 0.0,
        Unary::Elu { alpha } if x <= 0.0 => alpha.0 * x.exp_m1(),
        Unary::LeakyRelu { .. } | Unary::ThresholdedRelu { .. } | Unary::Elu { .. } => x,
        Unary::Selu { alpha, gamma } if x <= 0.0 => gamma.0 * alpha.0 * x.exp_m1(),
        Unary::Selu { gamma, .. } => gamma.0 * x,
        Unary::Celu { alpha } => x.max(0.0) + (alpha.0 * (x / alpha.0).exp_m1()).min(0.0),
        Unary::Softplus {} => x.exp().ln_1p(),
        Unary::Softsign {} => x / (1.0 + x.abs()),
        Unary::HardSigmoid { alpha, beta } => (alpha.0 * x + beta.0).clamp(0.0, 1.0),
        Unary::HardSwish {} => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::GeluErf {} => 0.5 * x * libm::erfc(-x / 2f64.sqrt()),
        Unary::GeluTanh {} => x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))),
        Unary::Silu {} => x * sigmoid(x),
        Unary::Mish {} => x * x.exp().ln_1p().tanh(),
        Unary::Floor {} => x.floor(),
        Unary::Ceil {} => x.ceil(),
        Unary::Round {} => x.round_ties_even(),
        Unary::Sign {} => f64::from(x > 0.0) - f64::from(x < 0.0),
        Unary::Not {} | Unary::BitNot {} => unreachable!("of booleans or integers"),
        Unary::Clamp { low, high } => x.max(low.0).min(high.0),
    }
}

const UNARY: &[Unary] = {
    const fn real(x: f64) -> Real {
        Real(x)
    }
    &[
        Unary::Abs {},
        Unary::Neg {},
        Unary::Exp {},
        Unary::Log {},
        Unary::Sqrt {},
        Unary::Reciprocal {},
        Unary::Erf {},
        Unary::Tanh {},
        Unary::Sin {},
        Unary::Cos {},
        Unary::Tan {},
        Unary::Asin {},
        Unary::Acos {},
        Unary::Atan {},
        Unary::Sinh {},
        Unary::Cosh {},
        Unary::Asinh {},
        Unary::Acosh {},
        Unary::Atanh {},
        Unary::Sigmoid {},
        Unary::Relu {},
        Unary::LeakyRelu { alpha: real(0.1) },
        Unary::ThresholdedRelu { alpha: real(1.0) },
        Unary::Elu { alpha: real(0.7) },
        Unary::Selu { alpha: real(1.67), gamma: real(1.05) },
        Unary::Celu { alpha: real(1.3) },
        Unary::Softplus {},
        Unary::Softsign {},
        Unary::HardSigmoid { alpha: real(0.2), beta: real(0.5) },
        Unary::HardSwish {},
        Unary::GeluErf {},
        Unary::GeluTanh {},
        Unary::Silu {},
        Unary::Mish {},
        Unary::Floor {},
        Unary::Ceil {},
        Unary::Round {},
        Unary::Sign {},
        Unary::Clamp { low: real(-1.0), high: real(2.5) },
    ]
};

#[test]
fn unary_operations() {
    let mut x = numbers(20_003, 9.0);
    x.extend([0.0, 1.0, -1.0, 2e6, -3e7, 0.5, 2.5]);
    for op in UNARY {
        let plan = Elementwise::new(&[x.len()], &[&[x.len()]], vec![step(Op::Unary(op.clone()), &[Input::Operand(0)])])
            .unwrap();
        let expected: Vec<f64> = x.iter().map(|x| exact_unary(op, f64::from(*x))).collect();
        let mut y = vec![0.0; x.len()];
        plan.run(&Serial, &[Source::Memory(&x)], &mut y);
        let relative = if matches!(op, Unary::GeluTanh {} | Unary::GeluErf {}) { 3e-5 } else { 1e-6 };
        close(&y, &expected, relative, 2e-7);
        let mut again = x.clone();
        plan.run(&Two, &[Source::Dst], &mut again);
        assert!(y.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{op:?} in place");
        let mut nan = [f32::NAN];
        let one = Elementwise::new(&[1], &[&[1]], vec![step(Op::Unary(op.clone()), &[Input::Operand(0)])]).unwrap();
        one.run(&Serial, &[Source::Dst], &mut nan);
        assert!(nan[0].is_nan() || matches!(op, Unary::ThresholdedRelu { .. }), "{op:?} of NaN");
    }
}

#[test]
fn what_is_special_is_as_the_reference_has_it() {
    let x =
        [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0, -0.0, 1e-40, -1e-40, f32::MIN, f32::MAX, 88.5, -95.0, 1e10];
    let ty = TensorType::new(ElementType::F32, [x.len() as u64]).unwrap();
    let tensor = Tensor::new(ty, bytemuck::cast_slice::<f32, u8>(&x).to_vec()).unwrap();
    for op in UNARY {
        let plan = Elementwise::new(&[x.len()], &[&[x.len()]], vec![step(Op::Unary(op.clone()), &[Input::Operand(0)])]);
        let mut y = x;
        plan.unwrap().run(&Serial, &[Source::Dst], &mut y);
        println!("{op:?}");
        close(&y, &TensorOp::Unary(op.clone()).apply(&[&tensor]).unwrap().to_f64(), 1e-6, 1e-37);
    }
}

#[test]
fn binary_operations_broadcast() {
    type Exact = fn(f64, f64) -> f64;
    let operations: [(Binary, Exact); 9] = [
        (Binary::Add {}, |a, b| a + b),
        (Binary::Sub {}, |a, b| a - b),
        (Binary::Mul {}, |a, b| a * b),
        (Binary::Div {}, |a, b| a / b),
        (Binary::Rem {}, |a, b| a % b),
        (Binary::Pow {}, f64::powf),
        (Binary::Max {}, f64::max),
        (Binary::Min {}, f64::min),
        (Binary::PRelu {}, |a, b| if a > 0.0 { a } else { a * b }),
    ];
    type Shapes = (&'static [usize], &'static [usize], &'static [usize]);
    let shapes: [Shapes; 11] = [
        (&[128, 768], &[128, 768], &[768]),
        (&[128, 768], &[128, 1], &[128, 768]),
        (&[128, 768], &[1], &[128, 768]),
        (&[128, 768], &[128, 768], &[]),
        (&[2, 5, 7, 7], &[2, 5, 7, 7], &[5, 1, 1]),
        (&[100, 3], &[100, 3], &[3]),
        (&[4, 1, 6], &[4, 1, 6], &[1, 1, 6]),
        (&[9, 8, 100], &[9, 1, 100], &[8, 1]),
        (&[], &[], &[]),
        (&[0, 3], &[0, 3], &[3]),
        (&[2, 2, 2, 2, 70], &[2, 1, 2, 1, 70], &[1, 2, 1, 2, 1]),
    ];
    for (shape, a, b) in shapes {
        let (x, y) = (numbers(a.iter().product(), 3.0), numbers(b.iter().product(), 2.5));
        let at = |operand: &[usize], mut flat: usize| {
            let (mut at, mut unit) = (0, 1);
            for (d, n) in shape.iter().enumerate().rev() {
                if let Some(own) = (d + operand.len()).checked_sub(shape.len()).map(|d| operand[d]) {
                    at += if own == 1 { 0 } else { flat % n * unit };
                    unit *= own;
                }
                flat /= n;
            }
            at
        };
        for (op, exact) in &operations {
            let steps = vec![step(Op::Binary(op.clone()), &[Input::Operand(0), Input::Operand(1)])];
            let plan = Elementwise::new(shape, &[a, b], steps).unwrap();
            let n: usize = shape.iter().product();
            let expected: Vec<f64> = (0..n).map(|i| exact(f64::from(x[at(a, i)]), f64::from(y[at(b, i)]))).collect();
            for parallel in [&Serial as &dyn Parallel, &Two] {
                let mut found = vec![0.0; n];
                plan.run(parallel, &[Source::Memory(&x), Source::Memory(&y)], &mut found);
                close(&found, &expected, 3e-7, 0.0);
                if a == shape {
                    found.copy_from_slice(&x);
                    plan.run(parallel, &[Source::Dst, Source::Memory(&y)], &mut found);
                    close(&found, &expected, 3e-7, 0.0);
                }
            }
        }
    }
}

#[test]
fn chains_are_their_steps() {
    use Input::{Operand, Step as Earlier};
    // where(x < bias and not x == s, (x + bias) * s, exp(x)) - x
    let steps = vec![
        step(Op::Binary(Binary::Less {}), &[Operand(0), Operand(1)]),
        step(Op::Binary(Binary::Equal {}), &[Operand(0), Operand(2)]),
        step(Op::Unary(Unary::Not {}), &[Earlier(1)]),
        step(Op::Binary(Binary::And {}), &[Earlier(0), Earlier(2)]),
        step(Op::Binary(Binary::Add {}), &[Operand(0), Operand(1)]),
        step(Op::Binary(Binary::Mul {}), &[Earlier(4), Operand(2)]),
        step(Op::Unary(Unary::Exp {}), &[Operand(0)]),
        step(Op::Where, &[Earlier(3), Earlier(5), Earlier(6)]),
        step(Op::Binary(Binary::Sub {}), &[Earlier(7), Operand(0)]),
    ];
    for shape in [[700, 3], [3, 700], [64, 64]] {
        let plan = Elementwise::new(&shape, &[&shape, &shape[1..], &[]], steps.clone()).unwrap();
        let (x, bias, s) = (numbers(shape[0] * shape[1], 2.0), numbers(shape[1], 1.0), [0.25]);
        let expected: Vec<f64> = x
            .iter()
            .enumerate()
            .map(|(i, x)| {
                let b = bias[i % shape[1]];
                let chosen = if *x < b && *x != s[0] { (x + b) * s[0] } else { x.exp() };
                f64::from(chosen) - f64::from(*x)
            })
            .collect();
        let mut y = x.clone();
        plan.run(&Two, &[Source::Dst, Source::Memory(&bias), Source::Memory(&s)], &mut y);
        close(&y, &expected, 1e-6, 1e-6);
    }
}

#[test]
fn powers_of_what_is_not_positive_are_those_of_the_library() {
    let a = [-2.0, -2.0, 0.0, 0.0, f32::INFINITY, -8.0, f32::NAN, 1.0, -0.0, 2.0];
    let b = [3.0, 2.0, 0.0, -1.0, -1.0, 0.5, 0.0, f32::NAN, -3.0, f32::NEG_INFINITY];
    let steps = vec![step(Op::Binary(Binary::Pow {}), &[Input::Operand(0), Input::Operand(1)])];
    let plan = Elementwise::new(&[10], &[&[10], &[10]], steps).unwrap();
    let mut y = [0.0; 10];
    plan.run(&Serial, &[Source::Memory(&a), Source::Memory(&b)], &mut y);
    for i in 0..10 {
        let exact = a[i].powf(b[i]);
        assert!(y[i] == exact || (y[i].is_nan() && exact.is_nan()), "{} to {}: {}", a[i], b[i], y[i]);
    }
}

#[test]
fn chains_that_make_no_sense_are_refused() {
    use Input::{Operand, Step as Earlier};
    let add = |a, b| step(Op::Binary(Binary::Add {}), &[a, b]);
    let less = step(Op::Binary(Binary::Less {}), &[Operand(0), Operand(0)]);
    let plan = |steps| Elementwise::new(&[4], &[&[4]], steps).unwrap_err();
    assert_eq!(plan(vec![]), ElementwiseError::Empty);
    assert!(matches!(plan(vec![add(Operand(0), Operand(1))]), ElementwiseError::Inputs { step: 0, .. }));
    assert!(matches!(plan(vec![add(Operand(0), Earlier(0))]), ElementwiseError::Inputs { step: 0, .. }));
    assert!(matches!(plan(vec![less.clone()]), ElementwiseError::Booleans { step: 0 }));
    assert!(matches!(plan(vec![less, add(Earlier(0), Operand(0))]), ElementwiseError::Booleans { step: 1 }));
    let shape = Elementwise::new(&[4], &[&[3]], vec![add(Operand(0), Operand(0))]).unwrap_err();
    assert!(matches!(shape, ElementwiseError::Shape { operand: 0, .. }));
    // All results are kept until the last step but one.
    let mut wide: Vec<Step> = (0..20).map(|_| add(Operand(0), Operand(0))).collect();
    wide.extend((0..20).map(|i| add(Earlier(i), Operand(0))));
    assert_eq!(plan(wide), ElementwiseError::TooManyLive);
}
