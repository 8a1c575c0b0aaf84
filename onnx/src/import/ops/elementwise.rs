//! Activations and functions of each element.

use kiln_ir::func::{Binary, Real, Unary};

use super::Row;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[
    ("Abs", |c| unary(c, Unary::Abs {})),
    ("Acos", |c| unary(c, Unary::Acos {})),
    ("Acosh", |c| unary(c, Unary::Acosh {})),
    ("Asin", |c| unary(c, Unary::Asin {})),
    ("Asinh", |c| unary(c, Unary::Asinh {})),
    ("Atan", |c| unary(c, Unary::Atan {})),
    ("Atanh", |c| unary(c, Unary::Atanh {})),
    ("Ceil", |c| unary(c, Unary::Ceil {})),
    ("Celu", |c| with_alpha(c, 1.0, |alpha| Unary::Celu { alpha })),
    ("Clip", clip),
    ("Cos", |c| unary(c, Unary::Cos {})),
    ("Cosh", |c| unary(c, Unary::Cosh {})),
    ("Elu", |c| with_alpha(c, 1.0, |alpha| Unary::Elu { alpha })),
    ("Erf", |c| unary(c, Unary::Erf {})),
    ("Exp", |c| unary(c, Unary::Exp {})),
    ("Floor", |c| unary(c, Unary::Floor {})),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", |c| unary(c, Unary::HardSwish {})),
    ("LeakyRelu", |c| with_alpha(c, 0.01, |alpha| Unary::LeakyRelu { alpha })),
    ("Log", |c| unary(c, Unary::Log {})),
    ("Mish", |c| unary(c, Unary::Mish {})),
    ("Neg", |c| unary(c, Unary::Neg {})),
    ("Not", |c| unary(c, Unary::Not {})),
    ("Reciprocal", |c| unary(c, Unary::Reciprocal {})),
    ("Relu", |c| unary(c, Unary::Relu {})),
    ("Round", |c| unary(c, Unary::Round {})),
    ("Selu", selu),
    ("Shrink", shrink),
    ("Sigmoid", |c| unary(c, Unary::Sigmoid {})),
    ("Sign", |c| unary(c, Unary::Sign {})),
    ("Sin", |c| unary(c, Unary::Sin {})),
    ("Sinh", |c| unary(c, Unary::Sinh {})),
    ("Softplus", |c| unary(c, Unary::Softplus {})),
    ("Softsign", |c| unary(c, Unary::Softsign {})),
    ("Sqrt", |c| unary(c, Unary::Sqrt {})),
    ("SwiGLU", swiglu),
    ("Swish", swish),
    ("Tan", |c| unary(c, Unary::Tan {})),
    ("Tanh", |c| unary(c, Unary::Tanh {})),
    ("ThresholdedRelu", |c| with_alpha(c, 1.0, |alpha| Unary::ThresholdedRelu { alpha })),
];

fn unary(c: &mut Ctx<'_>, op: Unary) -> Outputs {
    let x = c.input(0)?;
    one(c.unary(op, &x)?)
}

fn with_alpha(c: &mut Ctx<'_>, default: f32, op: fn(Real) -> Unary) -> Outputs {
    let alpha = c.float("alpha", default)?;
    unary(c, op(alpha.into()))
}

fn selu(c: &mut Ctx<'_>) -> Outputs {
    // ONNX says the numbers in decimals that are exact in single precision; the first version had fewer.
    let (alpha, gamma) = if c.opset < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (c.float("alpha", alpha)?.into(), c.float("gamma", gamma)?.into());
    unary(c, Unary::Selu { alpha, gamma })
}

fn hard_sigmoid(c: &mut Ctx<'_>) -> Outputs {
    let (alpha, beta) = (c.float("alpha", 0.2)?.into(), c.float("beta", 0.5)?.into());
    unary(c, Unary::HardSigmoid { alpha, beta })
}

fn gelu(c: &mut Ctx<'_>) -> Outputs {
    match c.string("approximate", "none")?.as_str() {
        "none" => unary(c, Unary::GeluErf {}),
        "tanh" => unary(c, Unary::GeluTanh {}),
        other => Err(format!("attribute `approximate` is `{other}`: expected `none` or `tanh`").into()),
    }
}

fn swish(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    one(swished(c, &x)?)
}

/// The first input after its activation, times the second, of the same shape.
fn swiglu(c: &mut Ctx<'_>) -> Outputs {
    let (gate, x) = (c.input(0)?, c.input(1)?);
    if c.shape(&gate) != c.shape(&x) {
        return Err(format!("{} and {}: both must have one shape", c.ty(&gate), c.ty(&x)).into());
    }
    let gate = swished(c, &gate)?;
    one(c.mul(&gate, &x)?)
}

/// `x / (1 + exp(-alpha x))`.
fn swished(c: &mut Ctx<'_>, x: &Val) -> Result<Val, Fault> {
    let alpha = c.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return c.unary(Unary::Silu {}, x);
    }
    let scaled = c.scaled(x, alpha)?;
    let gate = c.unary(Unary::Sigmoid {}, &scaled)?;
    c.mul(x, &gate)
}

fn shrink(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let (limit, bias) = (c.float("lambd", 0.5)?, c.float("bias", 0.0)?);
    let [low, high, bias, zero] = [-limit, limit, bias, 0.0].map(|n| c.number_like(&x, n));
    let (is_low, is_high) = (c.push(Binary::Less {}, &[&x, &low])?, c.push(Binary::Greater {}, &[&x, &high])?);
    let (raised, lowered) = (c.add(&x, &bias)?, c.sub(&x, &bias)?);
    let not_low = c.select(&is_high, &lowered, &zero)?;
    one(c.select(&is_low, &raised, &not_low)?)
}

/// Integers below this are doubles.
pub(super) const EXACT: f64 = (1u64 << 53) as f64;

fn clip(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let (low, high) = (limit(c, "min", 1)?, limit(c, "max", 2)?);
    let known = |limit: &Option<Val>, otherwise: f64| match limit {
        None => Some(otherwise),
        // A limit is a double, which not all integers are.
        Some(Val::Known(tensor)) => {
            tensor.splat().filter(|limit| tensor.ty().element().is_float() || limit.abs() < EXACT)
        }
        Some(Val::Dynamic(_)) => None,
    };
    if let (Some(low), Some(high)) = (known(&low, f64::NEG_INFINITY), known(&high, f64::INFINITY)) {
        return one(c.unary(Unary::Clamp { low: low.into(), high: high.into() }, &x)?);
    }
    let raised = match low {
        Some(low) => c.push(Binary::Max {}, &[&x, &low])?,
        None => x,
    };
    one(match high {
        Some(high) => c.push(Binary::Min {}, &[&raised, &high])?,
        None => raised,
    })
}

/// A limit: an attribute of old versions, an input of newer ones.
fn limit(c: &mut Ctx<'_>, name: &str, index: usize) -> Result<Option<Val>, Fault> {
    let x = c.input(0)?;
    if let Some(number) = c.float_or_none(name)? {
        return Ok(Some(c.number_like(&x, number)));
    }
    let Some(limit) = c.optional(index) else { return Ok(None) };
    if c.ty(&limit).elements() != 1 {
        return Err(format!("its {name} is {}: expected one number", c.ty(&limit)).into());
    }
    c.reshape(&limit, []).map(Some)
}
