//! Operations on blocks of elements.

use kiln_ir::func::{Binary, Unary};

use super::simd::{fma, vectorised};
use super::vector_math as math;

/// One side of an operation on a block.
#[derive(Clone, Copy)]
pub(super) enum Block<'a> {
    /// As many elements as the result.
    Each(&'a [f32]),
    /// One for all.
    All(f32),
}

impl Block<'_> {
    #[inline(always)]
    fn at(&self, i: usize) -> f32 {
        match self {
            Block::Each(x) => x[i],
            Block::All(x) => *x,
        }
    }
}

vectorised! {
    /// `op` of each element. Booleans are 0 and 1.
    pub(super) fn unary(op: &Unary, src: &[f32], dst: &mut [f32]) {
        macro_rules! map {
            (|$x:ident| $y:expr) => {
                for (y, x) in dst.iter_mut().zip(src) {
                    let $x = *x;
                    *y = $y;
                }
            };
        }
        match *op {
            Unary::Abs {} => map!(|x| x.abs()),
            Unary::Neg {} => map!(|x| -x),
            Unary::Exp {} => map!(|x| math::exp::<FMA>(x)),
            Unary::Log {} => map!(|x| math::log::<FMA>(x)),
            Unary::Sqrt {} => map!(|x| x.sqrt()),
            Unary::Reciprocal {} => map!(|x| 1.0 / x),
            Unary::Erf {} => map!(|x| math::erf::<FMA>(x)),
            Unary::Tanh {} => map!(|x| math::tanh::<FMA>(x)),
            Unary::Sin {} => {
                map!(|x| math::sin_quarters::<FMA>(x, 0));
                redo(src, dst, |x| x.abs() <= math::MOST_ANGLE, f32::sin);
            }
            Unary::Cos {} => {
                map!(|x| math::sin_quarters::<FMA>(x, 1));
                redo(src, dst, |x| x.abs() <= math::MOST_ANGLE, f32::cos);
            }
            Unary::Tan {} => map!(|x| f64::from(x).tan() as f32),
            Unary::Asin {} => map!(|x| f64::from(x).asin() as f32),
            Unary::Acos {} => map!(|x| f64::from(x).acos() as f32),
            Unary::Atan {} => map!(|x| f64::from(x).atan() as f32),
            Unary::Sinh {} => map!(|x| f64::from(x).sinh() as f32),
            Unary::Cosh {} => map!(|x| f64::from(x).cosh() as f32),
            Unary::Asinh {} => map!(|x| f64::from(x).asinh() as f32),
            Unary::Acosh {} => map!(|x| f64::from(x).acosh() as f32),
            Unary::Atanh {} => map!(|x| f64::from(x).atanh() as f32),
            Unary::Sigmoid {} => map!(|x| math::sigmoid::<FMA>(x)),
            Unary::Relu {} => map!(|x| if x < 0.0 { 0.0 } else { x }),
            Unary::LeakyRelu { alpha } => {
                let alpha = alpha.0 as f32;
                map!(|x| if x > 0.0 { x } else { alpha * x });
            }
            Unary::ThresholdedRelu { alpha } => {
                let alpha = alpha.0 as f32;
                map!(|x| if x > alpha { x } else { 0.0 });
            }
            Unary::Elu { alpha } => {
                let alpha = alpha.0 as f32;
                map!(|x| if x > 0.0 { x } else { alpha * math::exp_m1::<FMA>(x) });
            }
            Unary::Selu { alpha, gamma } => {
                let (below, gamma) = ((alpha.0 * gamma.0) as f32, gamma.0 as f32);
                map!(|x| if x > 0.0 { gamma * x } else { below * math::exp_m1::<FMA>(x) });
            }
            Unary::Celu { alpha } => {
                let alpha = alpha.0 as f32;
                map!(|x| {
                    let low = alpha * math::exp_m1::<FMA>(x / alpha);
                    let high = if x < 0.0 { 0.0 } else { x };
                    high + if low > 0.0 { 0.0 } else { low }
                });
            }
            Unary::Softplus {} => map!(|x| math::softplus::<FMA>(x)),
            Unary::Softsign {} => map!(|x| x / (1.0 + x.abs())),
            Unary::HardSigmoid { alpha, beta } => {
                let (alpha, beta) = (alpha.0 as f32, beta.0 as f32);
                map!(|x| math::clamp(fma::<FMA>(alpha, x, beta), 0.0, 1.0));
            }
            Unary::HardSwish {} => map!(|x| math::hard_swish::<FMA>(x)),
            Unary::GeluErf {} => map!(|x| math::gelu_erf::<FMA>(x)),
            Unary::GeluTanh {} => map!(|x| math::gelu_tanh::<FMA>(x)),
            Unary::Silu {} => map!(|x| math::silu::<FMA>(x)),
            Unary::Mish {} => map!(|x| math::mish::<FMA>(x)),
            Unary::Floor {} => map!(|x| x.floor()),
            Unary::Ceil {} => map!(|x| x.ceil()),
            Unary::Round {} => map!(|x| x.round_ties_even()),
            Unary::Sign {} => map!(|x| {
                let sign = if x < 0.0 { -1.0 } else { x };
                if x > 0.0 { 1.0 } else { sign }
            }),
            Unary::Not {} => map!(|x| 1.0 - x),
            Unary::BitNot {} => unreachable!("plans have no operations on integers"),
            Unary::Clamp { low, high } => {
                let (low, high) = (low.0 as f32, high.0 as f32);
                map!(|x| math::clamp(x, low, high));
            }
        }
    }

    /// `op` of each pair of elements. Booleans are 0 and 1.
    pub(super) fn binary(op: &Binary, a: Block<'_>, b: Block<'_>, dst: &mut [f32]) {
        let n = dst.len();
        // One length for all, so that the loops need not check it.
        let a = if let Block::Each(a) = a { Block::Each(&a[..n]) } else { a };
        let b = if let Block::Each(b) = b { Block::Each(&b[..n]) } else { b };
        macro_rules! map {
            (|$x:ident, $y:ident| $z:expr) => {
                match (a, b) {
                    (Block::Each(a), Block::Each(b)) => {
                        for i in 0..n {
                            let ($x, $y) = (a[i], b[i]);
                            dst[i] = $z;
                        }
                    }
                    (Block::Each(a), Block::All($y)) => {
                        for i in 0..n {
                            let $x = a[i];
                            dst[i] = $z;
                        }
                    }
                    (Block::All($x), Block::Each(b)) => {
                        for i in 0..n {
                            let $y = b[i];
                            dst[i] = $z;
                        }
                    }
                    (Block::All($x), Block::All($y)) => dst.fill($z),
                }
            };
        }
        let one_if = |holds: bool| if holds { 1.0 } else { 0.0 };
        match op {
            Binary::Add {} => map!(|x, y| x + y),
            Binary::Sub {} => map!(|x, y| x - y),
            Binary::Mul {} => map!(|x, y| x * y),
            Binary::Div {} => map!(|x, y| x / y),
            Binary::Rem {} => map!(|x, y| x % y),
            Binary::Pow {} => match b {
                Block::All(2.0) => map!(|x, _y| x * x),
                _ => {
                    map!(|x, y| math::pow_positive::<FMA>(x, y));
                    for (i, z) in dst.iter_mut().enumerate() {
                        let (x, y) = (a.at(i), b.at(i));
                        if !math::is_plain_power(x, y) {
                            *z = x.powf(y);
                        }
                    }
                }
            },
            Binary::Max {} => map!(|x, y| if y > x || y.is_nan() { y } else { x }),
            Binary::Min {} => map!(|x, y| if y < x || y.is_nan() { y } else { x }),
            Binary::PRelu {} => map!(|x, y| if x > 0.0 { x } else { x * y }),
            Binary::Equal {} => map!(|x, y| one_if(x == y)),
            Binary::Less {} => map!(|x, y| one_if(x < y)),
            Binary::LessOrEqual {} => map!(|x, y| one_if(x <= y)),
            Binary::Greater {} => map!(|x, y| one_if(x > y)),
            Binary::GreaterOrEqual {} => map!(|x, y| one_if(x >= y)),
            Binary::And {} => map!(|x, y| x * y),
            Binary::Or {} => map!(|x, y| one_if(x + y > 0.0)),
            Binary::Xor {} => map!(|x, y| one_if(x != y)),
            Binary::BitAnd {} | Binary::BitOr {} | Binary::BitXor {} | Binary::ShiftLeft {} | Binary::ShiftRight {} => {
                unreachable!("plans have no operations on integers")
            }
        }
    }

    /// `a` where the condition is not 0, else `b`.
    pub(super) fn select(condition: Block<'_>, a: Block<'_>, b: Block<'_>, dst: &mut [f32]) {
        for (i, z) in dst.iter_mut().enumerate() {
            let (x, y) = (a.at(i), b.at(i));
            *z = if condition.at(i) != 0.0 { x } else { y };
        }
    }
}

/// Puts right what vector code computed of elements that it does not take.
#[inline(always)]
fn redo(src: &[f32], dst: &mut [f32], taken: impl Fn(f32) -> bool, f: impl Fn(f32) -> f32) {
    for (y, x) in dst.iter_mut().zip(src) {
        if !taken(*x) {
            *y = f(*x);
        }
    }
}
