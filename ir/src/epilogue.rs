//! The epilogue: a chain of post-ops applied to the result while it is in registers.
//!
//! Any post-ops in any order. Text: each as `+WORD[:ARGUMENT...]`, for example `+bias+mul:ab+gelu_erf+scale:0.125`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A finite number that is part of a problem: compared by its bits, so that it can be a key, with one zero.
#[derive(Clone, Copy, Debug)]
pub struct Number(f32);

impl Number {
    /// `value`; `None` if it is not finite.
    pub fn new(value: f32) -> Option<Self> {
        // -0 and +0 are equal and must hash alike.
        value.is_finite().then_some(Self(if value == 0.0 { 0.0 } else { value }))
    }

    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Number {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        s.parse().ok().and_then(Self::new).ok_or(())
    }
}

/// The dimensions that a tensor operand of a post-op has, as bits: bit 0 is the first dimension of the result, `a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mask(u8);

impl Mask {
    /// The most dimensions there are.
    pub const MAX_DIMS: usize = 6;

    /// The mask of these dimensions, counted from 0; `None` from [`MAX_DIMS`](Self::MAX_DIMS) on.
    pub fn of(dims: impl IntoIterator<Item = usize>) -> Option<Self> {
        dims.into_iter().try_fold(0, |bits, d| (d < Self::MAX_DIMS).then(|| bits | 1 << d)).map(Self)
    }

    /// Whether dimension `dim` is in it.
    pub fn has(self, dim: usize) -> bool {
        dim < 8 && self.0 >> dim & 1 == 1
    }

    /// The dimensions in it, ascending.
    pub fn dims(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX_DIMS).filter(move |d| self.has(*d))
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dims().try_for_each(|d| write!(f, "{}", char::from(b'a' + d as u8)))
    }
}

impl FromStr for Mask {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        let dims: Vec<usize> = s.bytes().map(|b| usize::from(b.wrapping_sub(b'a'))).collect();
        let ascending = dims.windows(2).all(|w| w[0] < w[1]);
        Mask::of(dims).filter(|m| ascending && m.0 != 0).ok_or(())
    }
}

/// One element-wise operation on the result `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PostOp {
    /// `c + bias`, one element per column (the last dimension of a product; the channels of a convolution).
    Bias,
    /// `c + bias`, one element per row (the last dimension but one).
    BiasRow,
    /// `c + bias` with the named dimensions.
    BiasMask(Mask),
    /// `c + operand`, broadcast along the dimensions the operand lacks.
    Add(Mask),
    /// `c * operand`, broadcast likewise.
    Mul(Mask),
    /// `c * A`.
    Scale(Number),
    /// `c + B`.
    Shift(Number),
    /// `max(c, 0)`; NaN stays NaN, here and below.
    Relu,
    /// `c` where it is positive, else `A * c`.
    LeakyRelu(Number),
    /// `min(max(c, LO), HI)`.
    Clamp(Number, Number),
    /// `c * (1 + erf(c / sqrt(2))) / 2`.
    GeluErf,
    /// `c * (1 + tanh(sqrt(2 / pi) * (c + 0.044715 c^3))) / 2`.
    GeluTanh,
    /// `c / (1 + exp(-c))`.
    Silu,
    /// `1 / (1 + exp(-c))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `c * min(max(c / 6 + 1/2, 0), 1)`.
    HardSwish,
    /// `min(max(c / 6 + 1/2, 0), 1)`.
    HardSigmoid,
    /// `c / (1 + |c|)`; NaN at infinities.
    Softsign,
    /// The exponential.
    Exp,
    /// `c * c`.
    Square,
    /// The square root; NaN below zero.
    Sqrt,
    /// The magnitude.
    Abs,
}

/// Post-ops without arguments, with their words.
const PLAIN: &[(&str, PostOp)] = &[
    ("bias", PostOp::Bias),
    ("relu", PostOp::Relu),
    ("gelu_erf", PostOp::GeluErf),
    ("gelu_tanh", PostOp::GeluTanh),
    ("silu", PostOp::Silu),
    ("sigmoid", PostOp::Sigmoid),
    ("tanh", PostOp::Tanh),
    ("hardswish", PostOp::HardSwish),
    ("hardsigmoid", PostOp::HardSigmoid),
    ("softsign", PostOp::Softsign),
    ("exp", PostOp::Exp),
    ("square", PostOp::Square),
    ("sqrt", PostOp::Sqrt),
    ("abs", PostOp::Abs),
];

/// benchdnn's words that differ.
const SPELLINGS: &[(&str, &str)] = &[("logistic", "sigmoid"), ("swish", "silu"), ("clip", "clamp")];

impl PostOp {
    /// Every post-op that takes no argument.
    pub fn plain() -> impl Iterator<Item = PostOp> {
        PLAIN.iter().map(|(_, op)| *op)
    }

    /// The word in problem strings, without arguments.
    pub fn name(self) -> &'static str {
        match self {
            PostOp::BiasRow | PostOp::BiasMask(_) => "bias",
            PostOp::Add(_) => "add",
            PostOp::Mul(_) => "mul",
            PostOp::Scale(_) => "scale",
            PostOp::Shift(_) => "shift",
            PostOp::LeakyRelu(_) => "leaky_relu",
            PostOp::Clamp(..) => "clamp",
            _ => PLAIN.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name),
        }
    }

    /// Whether it reads a tensor.
    pub fn has_operand(self) -> bool {
        use PostOp::{Add, Bias, BiasMask, BiasRow, Mul};
        matches!(self, Bias | BiasRow | BiasMask(_) | Add(_) | Mul(_))
    }

    /// Whether that tensor is a bias: always f32.
    pub fn is_bias(self) -> bool {
        matches!(self, PostOp::Bias | PostOp::BiasRow | PostOp::BiasMask(_))
    }

    /// Whether equal operands give equal results on every target: true of all but what is approximated.
    pub fn is_exact(self) -> bool {
        use PostOp::{Exp, GeluErf, GeluTanh, Sigmoid, Silu, Tanh};
        !matches!(self, GeluErf | GeluTanh | Silu | Sigmoid | Tanh | Exp)
    }

    /// The meaning on one element in double precision; `operand` is the element of the tensor it reads, if it reads one.
    pub fn apply_f64(self, c: f64, operand: f64) -> f64 {
        let number = |n: Number| f64::from(n.get());
        let keep_nan = |limited: f64| if c.is_nan() { c } else { limited };
        let hard_sigmoid = || keep_nan((c / 6.0 + 0.5).clamp(0.0, 1.0));
        match self {
            PostOp::Bias | PostOp::BiasRow | PostOp::BiasMask(_) | PostOp::Add(_) => c + operand,
            PostOp::Mul(_) => c * operand,
            PostOp::Scale(a) => c * number(a),
            PostOp::Shift(b) => c + number(b),
            PostOp::Relu => keep_nan(c.max(0.0)),
            PostOp::LeakyRelu(a) => keep_nan(if c > 0.0 { c } else { c * number(a) }),
            PostOp::Clamp(low, high) => keep_nan(c.max(number(low)).min(number(high))),
            PostOp::GeluErf => {
                // erfc keeps its precision where erf is near -1.
                if c == f64::NEG_INFINITY { -0.0 } else { 0.5 * c * libm::erfc(-c * std::f64::consts::FRAC_1_SQRT_2) }
            }
            PostOp::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (c + 0.044715 * c * c * c);
                times_sigmoid(c, 2.0 * u)
            }
            PostOp::Silu => times_sigmoid(c, c),
            PostOp::Sigmoid => sigmoid(c),
            PostOp::Tanh => c.tanh(),
            PostOp::HardSwish => {
                if c == f64::NEG_INFINITY {
                    -0.0
                } else {
                    c * hard_sigmoid()
                }
            }
            PostOp::HardSigmoid => hard_sigmoid(),
            PostOp::Softsign => c / (1.0 + c.abs()),
            PostOp::Exp => c.exp(),
            PostOp::Square => c * c,
            PostOp::Sqrt => c.sqrt(),
            PostOp::Abs => c.abs(),
        }
    }

    /// A bound of how far results are apart when arguments near `c` are `error` apart, and the operand is exact: the change
    /// itself for what changes no faster than its argument.
    pub fn spread(self, c: f64, operand: f64, error: f64) -> f64 {
        let around = [c - error, c + error].map(|x| (self.apply_f64(x, operand) - self.apply_f64(c, operand)).abs());
        match self {
            PostOp::Sqrt => error.sqrt().min(error / (2.0 * (c - error).max(f64::MIN_POSITIVE).sqrt())),
            // 1.13 is the steepest slope of gelu, hard-swish's is 1.5.
            PostOp::GeluErf | PostOp::GeluTanh | PostOp::Silu => 1.2 * error,
            PostOp::HardSwish => 1.5 * error,
            _ => around[0].max(around[1]),
        }
    }

    /// [`apply_f64`](Self::apply_f64) rounded to single precision: what an exact machine computes from f32.
    pub fn apply_f32(self, c: f32, operand: f32) -> f32 {
        match self {
            // Two roundings at most, as kernels have them.
            PostOp::HardSwish if c.is_finite() => c * PostOp::HardSigmoid.apply_f32(c, 0.0),
            PostOp::Softsign => c / (1.0 + c.abs()),
            _ => self.apply_f64(c.into(), operand.into()) as f32,
        }
    }
}

/// `1 / (1 + exp(-u))` without loss at either end.
fn sigmoid(u: f64) -> f64 {
    if u < 0.0 { u.exp() / (1.0 + u.exp()) } else { 1.0 / (1.0 + (-u).exp()) }
}

fn times_sigmoid(c: f64, u: f64) -> f64 {
    // The limit at minus infinity is 0.
    if c == f64::NEG_INFINITY { -0.0 } else { c * sigmoid(u) }
}

impl fmt::Display for PostOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            PostOp::BiasRow => f.write_str(":row"),
            PostOp::BiasMask(mask) | PostOp::Add(mask) | PostOp::Mul(mask) => write!(f, ":{mask}"),
            PostOp::Scale(n) | PostOp::Shift(n) | PostOp::LeakyRelu(n) => write!(f, ":{n}"),
            PostOp::Clamp(low, high) => write!(f, ":{low}:{high}"),
            _ => Ok(()),
        }
    }
}

/// A word that names no post-op.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown post-op `+{word}`: expected {expected}")]
pub struct UnknownPostOp {
    /// The word without its plus.
    pub word: String,
    /// What would be accepted.
    pub expected: &'static str,
}

/// What post-ops are written as.
pub const POST_OPS: &str = "bias, bias:row, bias:MASK, add:MASK, mul:MASK (MASK names dimensions of the result, such as ab), \
     scale:A, shift:B, relu, leaky_relu:A, clamp:LO:HI, gelu_erf, gelu_tanh, silu, sigmoid, tanh, hardswish, hardsigmoid, \
     softsign, exp, square, sqrt or abs";

impl FromStr for PostOp {
    type Err = UnknownPostOp;

    fn from_str(word: &str) -> Result<Self, UnknownPostOp> {
        let unknown = |expected| UnknownPostOp { word: word.into(), expected };
        let mut parts = word.split(':');
        let first = parts.next().unwrap_or_default();
        let name = SPELLINGS.iter().find(|(theirs, _)| *theirs == first).map_or(first, |(_, ours)| ours);
        let arguments: Vec<&str> = parts.collect();
        let number = |text: &str| text.parse::<Number>().map_err(|()| unknown("finite numbers as arguments"));
        let mask = |text: &str| {
            text.parse::<Mask>()
                .map_err(|()| unknown("dimensions of the result in order, such as `ab`, after the colon"))
        };
        match (name, &arguments[..]) {
            ("bias", ["row"]) => Ok(PostOp::BiasRow),
            ("bias", [text]) => Ok(PostOp::BiasMask(mask(text)?)),
            ("add", [text]) => Ok(PostOp::Add(mask(text)?)),
            ("mul", [text]) => Ok(PostOp::Mul(mask(text)?)),
            ("scale", [a]) => Ok(PostOp::Scale(number(a)?)),
            ("shift", [b]) => Ok(PostOp::Shift(number(b)?)),
            ("leaky_relu", [a]) => Ok(PostOp::LeakyRelu(number(a)?)),
            ("relu", [a]) => Ok(PostOp::LeakyRelu(number(a)?)),
            ("relu6", []) => Ok(PostOp::Clamp(Number(0.0), Number(6.0))),
            ("clamp", [low, high]) => {
                let (low, high) = (number(low)?, number(high)?);
                if low.0 <= high.0 { Ok(PostOp::Clamp(low, high)) } else { Err(unknown("LO not above HI")) }
            }
            // benchdnn's `linear:alpha:beta` is two steps; see `Epilogue::parse`.
            (name, []) => PLAIN.iter().find(|(n, _)| *n == name).map(|(_, op)| *op).ok_or_else(|| unknown(POST_OPS)),
            _ => Err(unknown(POST_OPS)),
        }
    }
}

/// A chain of post-ops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epilogue(Vec<PostOp>);

/// A chain that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpilogueError {
    /// Too long.
    #[error("{0} post-ops: at most {MAX_POST_OPS} can follow one another")]
    TooLong(usize),
    /// A word is not a post-op.
    #[error(transparent)]
    Unknown(#[from] UnknownPostOp),
}

/// The most post-ops of a chain.
pub const MAX_POST_OPS: usize = 32;

impl Epilogue {
    /// A chain from its post-ops in order.
    pub fn new(ops: impl IntoIterator<Item = PostOp>) -> Result<Self, EpilogueError> {
        let ops: Vec<_> = ops.into_iter().collect();
        match ops.len() {
            0..=MAX_POST_OPS => Ok(Self(ops)),
            n => Err(EpilogueError::TooLong(n)),
        }
    }

    /// The post-ops of `bias+relu`, without the first plus.
    pub fn parse(text: &str) -> Result<Vec<PostOp>, UnknownPostOp> {
        let mut ops = vec![];
        // A plus also belongs to a number such as `1e+3`.
        let mut words: Vec<String> = vec![];
        for part in text.split('+') {
            match words.last_mut() {
                Some(last)
                    if last.ends_with(['e', 'E'])
                        && part.starts_with(|c: char| c.is_ascii_digit())
                        && last.contains(':') =>
                {
                    *last += "+";
                    *last += part;
                }
                _ => words.push(part.into()),
            }
        }
        for word in words {
            match word.strip_prefix("linear:").map(|r| r.split_once(':').unwrap_or((r, "0"))) {
                Some((a, b)) => {
                    ops.push(format!("scale:{a}").parse()?);
                    ops.push(format!("shift:{b}").parse()?);
                }
                None => ops.push(word.parse()?),
            }
        }
        Ok(ops)
    }

    /// The post-ops in the order they apply.
    pub fn ops(&self) -> &[PostOp] {
        &self.0
    }

    /// Those that read a tensor, in order.
    pub fn operands(&self) -> impl Iterator<Item = PostOp> {
        self.0.iter().copied().filter(|op| op.has_operand())
    }
}

impl fmt::Display for Epilogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| write!(f, "+{op}"))
    }
}

impl Serialize for PostOp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PostOp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> String {
        Epilogue::new(Epilogue::parse(text).unwrap()).unwrap().to_string()
    }

    #[test]
    fn words_round_trip() {
        let all = "bias+bias:row+bias:ab+add:ab+mul:b+scale:0.125+shift:-2+relu+leaky_relu:0.01+clamp:0:6+gelu_erf+gelu_tanh+\
                   silu+sigmoid+tanh+hardswish+hardsigmoid+softsign+exp+square+sqrt+abs";
        PostOp::plain()
            .for_each(|op| assert!(all.split('+').any(|word| word == op.name()), "{op:?} is not among them"));
        assert_eq!(chain(all), format!("+{all}"));
        assert_eq!(
            chain("logistic+swish+clip:-1:1+linear:2:3+relu6"),
            "+sigmoid+silu+clamp:-1:1+scale:2+shift:3+clamp:0:6"
        );
        assert_eq!(chain("scale:1e+3+relu"), "+scale:1000+relu");
        assert_eq!(chain("shift:-0"), "+shift:0");
    }

    #[test]
    fn bad_words_say_what_is_expected() {
        for (word, expected) in [
            ("gelu", "gelu_erf"),
            ("scale", "scale:A"),
            ("scale:nan", "finite"),
            ("scale:1e99", "finite"),
            ("add", "add:MASK"),
            ("add:ba", "in order"),
            ("add:z", "in order"),
            ("add:", "in order"),
            ("clamp:2:1", "LO not above HI"),
            ("relu:1:2", "leaky_relu:A"),
            ("", "bias"),
        ] {
            let e = Epilogue::parse(word).unwrap_err().to_string();
            assert!(e.contains(expected), "{word}: {e}");
        }
        assert!(Epilogue::new([PostOp::Relu; 33]).is_err());
    }

    #[test]
    fn limits_are_as_ieee_has_them() {
        let inf = f64::INFINITY;
        for op in PostOp::plain().filter(|op| !op.has_operand()) {
            assert!(op.apply_f64(f64::NAN, 0.0).is_nan(), "{op}");
        }
        for op in [PostOp::GeluErf, PostOp::GeluTanh, PostOp::Silu, PostOp::HardSwish] {
            assert_eq!((op.apply_f64(inf, 0.0), op.apply_f64(-inf, 0.0)), (inf, 0.0), "{op}");
        }
        assert_eq!((PostOp::Sigmoid.apply_f64(-inf, 0.0), PostOp::Sigmoid.apply_f64(inf, 0.0)), (0.0, 1.0));
    }
}
