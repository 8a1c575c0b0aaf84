//! The post-ops as operations of a [`Program`]: lanewise, without tables, gathers or comparisons.
//!
//! Exponentials are reduced as Cody and Waite do (Software Manual for the Elementary Functions): `exp(x) = 2^n exp(r)`, where
//! `n` is the integer nearest to `x / ln 2`. Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits of the sum
//! (Muller et al., Handbook of Floating-Point Arithmetic); with the exponent's bias added too, a shift makes `2^n` of it,
//! and a zero of the least `n`. Polynomials are evaluated by pairs of coefficients in `x^2`: half the dependent
//! multiply-adds of Horner's rule, and half of the constants to be copied where a multiply-add overwrites its addend.
//!
//! `tools/fit_approximations.py` prints the coefficients.

use kiln_ir::PostOp;

use super::program::{Builder, Program};
use super::{Binary, Shift, Unary, V};

/// A bound on the distance between results and the real function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// In units in the last place of the result.
    Ulps(f64),
    /// Relative to the magnitude of the argument, or to the least normal number below that.
    OfArgument(f64),
}

/// The bound of each approximated post-op, for all arguments.
pub const BOUNDS: [(PostOp, Bound); 6] = [
    (PostOp::Exp, Bound::Ulps(4.0)),
    (PostOp::Sigmoid, Bound::Ulps(4.0)),
    (PostOp::Tanh, Bound::Ulps(4.0)),
    (PostOp::Silu, Bound::OfArgument(2e-7)),
    (PostOp::GeluErf, Bound::OfArgument(2e-7)),
    (PostOp::GeluTanh, Bound::OfArgument(2e-7)),
];

/// `1.5 * 2^23`: sums with it are integers.
const ROUND: f32 = 12_582_912.0;
/// Of exponents.
const BIAS: f32 = 127.0;
const SIGN: u32 = 1 << 31;

/// `1 / (2 ln 2)`.
const HALF_LOG2_E: f32 = 0.7213475;
/// `2 ln 2`.
const TWO_LN_2: f32 = 1.3862944;
/// Its leading bits: multiples up to 2^12 are exact.
const TWO_LN_2_HIGH: f32 = 1.3862305;
/// The rest.
const TWO_LN_2_LOW: f32 = 6.389237e-05;
/// `exp(r / 2)` for `|r| <= ln 2`.
const EXP_HALF: [f32; 6] = [1.0, 0.49999985, 0.12499786, 0.020834561, 0.002618663, 0.0002590543];
/// `exp(r)` for `|r| <= ln 2`.
const EXP: [f32; 8] = [1.0, 1.0, 0.50000036, 0.16666616, 0.041661203, 0.008335982, 0.0014105422, 0.00019627131];
/// `2^r` for `|r| <= 1 / 2`.
#[expect(clippy::approx_constant, reason = "fitted, which ln 2 is not")]
const EXP2: [f32; 6] = [1.0, 0.693147, 0.24022247, 0.05550711, 0.009671294, 0.001326957];
/// The logarithm to base 2 of the normal distribution, up to 0.
const LOG2_PHI: [f32; 8] =
    [-1.0, 1.1511089, -0.45916414, 0.052667066, 0.007363643, 0.0004072542, -5.7633264e-05, -8.8534625e-06];
/// `2 sqrt(2 / pi) log2(e)` times 1 and 0.044715.
const GELU_TANH: [f32; 2] = [2.3022082, 0.10294324];
/// `((exp(2 r) - 1) / 2 - r) / r^2` for `|r| <= ln 2 / 4`.
const TANH: [f32; 5] = [1.0, 0.6666619, 0.33333483, 0.13385837, 0.044474814];
/// `2 / ln 2`.
const TWO_LOG2_E: f32 = 2.88539;
/// `ln 2 / 2`.
const HALF_LN_2: f32 = 0.3465736;

/// From here on (and below its negative) exponentials are infinite, and zero.
const EXP_MAX: f32 = 89.0;
const EXP_MIN: f32 = -104.0;
/// As [`EXP_MIN`] where the product with the argument must be zero.
const SILU_MIN: f32 = -109.0;
/// `32 ln 2`, the single-precision one: from here on sigmoids are 1, and the root of the exponential is 2^16 exactly.
const SIGMOID_MAX: f32 = 16.0 * TWO_LN_2;
/// From here on the tangent is 1, as is its approximation. (That of -0 is +0.)
const TANH_MAX: f32 = 9.02;
/// Below, the normal distribution is taken for 0; [`LOG2_PHI`] is `-PHI_ZERO` there, rounded to an integer.
const PHI_MIN: f32 = -8.0;
const PHI_ZERO: i32 = 46;
/// Here the exponent of [`PostOp::GeluTanh`] rounds to -127, of which the scale is 0.
const GELU_TANH_MIN: f32 = -10.03;
/// Up to here its exponential is finite.
const GELU_TANH_MAX: f32 = 126.0;

impl Program {
    /// The program that applies `chain` in order to its input. Where a product is only added to, one rounding does for
    /// both.
    pub fn of(chain: &[PostOp]) -> Program {
        let mut b = Builder::default();
        let mut value = b.input();
        let mut operands = 0..u8::MAX - 1;
        let mut rest = chain;
        while let Some((op, tail)) = rest.split_first() {
            rest = tail;
            let mut term = |b: &mut Builder, op: PostOp| match op {
                PostOp::Scale(n) | PostOp::Shift(n) => b.constant(n.get()),
                _ => b.operand(operands.next().unwrap_or(u8::MAX - 1)),
            };
            value = match (*op, tail.first()) {
                (PostOp::Scale(_) | PostOp::Mul(_), Some(next)) if is_sum(*next) => {
                    rest = &tail[1..];
                    let factor = term(&mut b, *op);
                    let addend = term(&mut b, *next);
                    b.fma(addend, value, factor)
                }
                (PostOp::Scale(_) | PostOp::Mul(_), _) => {
                    let factor = term(&mut b, *op);
                    b.binary(Binary::Mul, factor, value)
                }
                (op, _) if is_sum(op) => {
                    let addend = term(&mut b, op);
                    b.binary(Binary::Add, addend, value)
                }
                (op, _) => apply(&mut b, op, value),
            };
        }
        b.finish(value)
    }
}

fn is_sum(op: PostOp) -> bool {
    matches!(op, PostOp::Shift(_) | PostOp::Add(_)) || op.is_bias()
}

/// The steps of a post-op that reads no tensor; `c` itself for the others.
fn apply(b: &mut Builder, op: PostOp, c: V) -> V {
    use Binary::{Add, Div, Max, Min, Mul};
    match op {
        PostOp::Bias | PostOp::BiasRow | PostOp::BiasMask(_) | PostOp::Add(_) | PostOp::Mul(_) => c,
        PostOp::Scale(a) => b.with(Mul, a.get(), c),
        PostOp::Shift(a) => b.with(Add, a.get(), c),
        PostOp::Relu => b.with(Max, 0.0, c),
        // For a slope up to 1 the product is the larger of the two where `c` is negative, and only there; for a steeper one it is the smaller.
        PostOp::LeakyRelu(a) if a.get() == 0.0 => b.with(Max, 0.0, c),
        PostOp::LeakyRelu(a) => {
            let scaled = b.with(Mul, a.get(), c);
            b.binary(if a.get() <= 1.0 { Max } else { Min }, scaled, c)
        }
        PostOp::Clamp(low, high) => {
            let c = b.with(Max, low.get(), c);
            b.with(Min, high.get(), c)
        }
        PostOp::Square => b.binary(Mul, c, c),
        PostOp::Sqrt => b.unary(Unary::Sqrt, c),
        PostOp::Abs => b.unary(Unary::Abs, c),
        PostOp::HardSigmoid => {
            let c = b.with(Max, -3.0, c);
            hard_sigmoid(b, c)
        }
        PostOp::HardSwish => {
            let c = b.with(Max, -3.0, c);
            let s = hard_sigmoid(b, c);
            b.binary(Mul, s, c)
        }
        PostOp::Softsign => {
            let magnitude = b.unary(Unary::Abs, c);
            let d = b.with(Add, 1.0, magnitude);
            b.binary(Div, c, d)
        }
        PostOp::Exp => {
            let x = b.with(Min, EXP_MAX, c);
            let x = b.with(Max, EXP_MIN, x);
            exp(b, x)
        }
        PostOp::Sigmoid => {
            let x = b.with(Min, SIGMOID_MAX, c);
            let x = b.with(Max, EXP_MIN, x);
            let e = exp(b, x);
            let d = b.with(Add, 1.0, e);
            b.binary(Div, e, d)
        }
        PostOp::Silu => {
            // Bounded below, so that the product is 0 and not NaN at minus infinity.
            let c = b.with(Max, SILU_MIN, c);
            let x = b.with(Min, SIGMOID_MAX, c);
            let root = exp_half(b, x);
            let one = b.constant(1.0);
            let d = b.fma(one, root, root);
            let q = b.binary(Div, root, d);
            // In this order only the last product can be subnormal, and none overflows.
            let product = b.binary(Mul, c, q);
            b.binary(Mul, product, root)
        }
        PostOp::Tanh => {
            let x = b.with(Min, TANH_MAX, c);
            let x = b.with(Max, -TANH_MAX, x);
            // e / (e + 1), where e = expm1(2 x) / 2 = 2^n expm1(2 r) / 2 + (2^n - 1) / 2 keeps its precision near 0.
            let (round, factor) = (b.constant(ROUND + BIAS), b.constant(TWO_LOG2_E));
            let t = b.fma(round, factor, x);
            let n = b.binary(Binary::Sub, t, round);
            let part = b.constant(-HALF_LN_2);
            let r = b.fma(x, part, n);
            let s = b.shift(Shift::Left, t, 23);
            let r2 = b.binary(Mul, r, r);
            let p = polynomial(b, &TANH, r, r2);
            let p = b.fma(r, p, r2);
            let (minus_half, half) = (b.constant(-0.5), b.constant(0.5));
            let e = b.fma(minus_half, half, s);
            let e = b.fma(e, s, p);
            let d = b.with(Add, 1.0, e);
            b.binary(Div, e, d)
        }
        PostOp::GeluErf => {
            // max(c, 0) - |c| Phi(-|c|): Phi is 1/2 at most, and with it the absolute error is small.
            let sign = b.bits(SIGN);
            let x = b.binary(Binary::Or, sign, c);
            let x = b.with(Max, PHI_MIN, x);
            let x2 = b.binary(Mul, x, x);
            let v = polynomial(b, &LOG2_PHI, x, x2);
            let scale = 2f32.powi(BIAS as i32 - PHI_ZERO);
            let phi = exp2(b, v, PHI_ZERO as f32, scale);
            let positive = b.with(Max, 0.0, c);
            b.fma(positive, x, phi)
        }
        PostOp::GeluTanh => {
            let c = b.with(Max, GELU_TANH_MIN, c);
            let c2 = b.binary(Mul, c, c);
            let [k1, k3] = GELU_TANH.map(|k| b.constant(k));
            let v = b.fma(k1, k3, c2);
            let v = b.binary(Mul, v, c);
            let v = b.with(Min, GELU_TANH_MAX, v);
            let e = exp2(b, v, BIAS, 1.0);
            let d = b.with(Add, 1.0, e);
            let q = b.binary(Div, e, d);
            b.binary(Mul, q, c)
        }
    }
}

/// `min(c + 3, 6) / 6`: exact where it is near 0, and 1 exactly from 3 on.
fn hard_sigmoid(b: &mut Builder, c: V) -> V {
    let s = b.with(Binary::Add, 3.0, c);
    let s = b.with(Binary::Min, 6.0, s);
    b.with(Binary::Mul, 1.0 / 6.0, s)
}

/// `exp(x)` for `x` between [`EXP_MIN`] and [`EXP_MAX`].
fn exp(b: &mut Builder, x: V) -> V {
    let (r, s) = reduce(b, x, &[-TWO_LN_2_HIGH, -TWO_LN_2_LOW]);
    let p = one_plus(b, &EXP[1..], r);
    // 2^n by halves: it may be infinite or subnormal where the result is neither, and rounds once where that is subnormal.
    let p = b.binary(Binary::Mul, p, s);
    b.binary(Binary::Mul, p, s)
}

/// `exp(x / 2)` for `x` between [`SILU_MIN`] and [`SIGMOID_MAX`]. The relative error grows with `x`, up to 2^-22.
fn exp_half(b: &mut Builder, x: V) -> V {
    let (r, s) = reduce(b, x, &[-TWO_LN_2]);
    let p = one_plus(b, &EXP_HALF[1..], r);
    b.binary(Binary::Mul, p, s)
}

/// `r` and `2^n`, where `x = 2 n ln 2 + r` and `r` is nearly between `-ln 2` and `ln 2`. The sum of `parts` is `-2 ln 2`.
fn reduce(b: &mut Builder, x: V, parts: &[f32]) -> (V, V) {
    let (round, factor) = (b.constant(ROUND + BIAS), b.constant(HALF_LOG2_E));
    let t = b.fma(round, factor, x);
    let n = b.binary(Binary::Sub, t, round);
    let r = parts.iter().fold(x, |r, part| {
        let part = b.constant(*part);
        b.fma(r, part, n)
    });
    (r, b.shift(Shift::Left, t, 23))
}

/// The polynomial with a constant term of 1, which is added last: one rounding in the last place and not two.
fn one_plus(b: &mut Builder, coefficients: &[f32], x: V) -> V {
    let x2 = b.binary(Binary::Mul, x, x);
    let p = polynomial(b, coefficients, x, x2);
    let one = b.constant(1.0);
    b.fma(one, x, p)
}

/// `2^v` for `v > -zero - 1/2` that is not too large; 0 where `v` rounds to `-zero`. `scale` is `2^(127 - zero)`.
fn exp2(b: &mut Builder, v: V, zero: f32, scale: f32) -> V {
    let round = b.constant(ROUND + zero);
    let t = b.binary(Binary::Add, round, v);
    let n = b.binary(Binary::Sub, t, round);
    let s = b.shift(Shift::Left, t, 23);
    let r = b.binary(Binary::Sub, v, n);
    let r2 = b.binary(Binary::Mul, r, r);
    let p = polynomial(b, &EXP2.map(|c| c * scale), r, r2);
    b.binary(Binary::Mul, p, s)
}

/// The polynomial with these coefficients, from the constant term up, of `x`, whose square is `x2`.
fn polynomial(b: &mut Builder, coefficients: &[f32], x: V, x2: V) -> V {
    let mut sum = None;
    for pair in coefficients.chunks(2).rev() {
        let mut term = b.constant(pair[0]);
        if let Some(linear) = pair.get(1) {
            let linear = b.constant(*linear);
            term = b.fma(term, linear, x);
        }
        sum = Some(sum.map_or(term, |sum| b.fma(term, sum, x2)));
    }
    sum.unwrap_or(x)
}
