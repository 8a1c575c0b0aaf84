//! Activations, some with a bias before them.

use kiln_ir::func::{Real, Unary};

use super::super::Row;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[
    ("BiasGelu", |c| biased(c, Unary::GeluErf {})),
    ("FastGelu", |c| biased(c, Unary::GeluTanh {})),
    ("Gelu", |c| biased(c, Unary::GeluErf {})),
    ("QuickGelu", quick_gelu),
];

/// The second input is added to the first, if it is there.
fn biased(c: &mut Ctx<'_>, op: Unary) -> Outputs {
    let mut x = c.input(0)?;
    if let Some(bias) = c.optional(1) {
        x = c.add(&x, &bias)?;
    }
    one(c.unary(op, &x)?)
}

/// `x / (1 + exp(-alpha x))`.
fn quick_gelu(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let alpha = c.float("alpha", 1.702)?;
    let scaled = c.scaled(&x, alpha)?;
    let gate = c.unary(Unary::Sigmoid {}, &scaled)?;
    one(c.mul(&x, &gate)?)
}

/// The activation of a name with its parameters, in the order in which its operator has them as attributes; a missing one is as
/// there.
pub(super) fn activated(c: &mut Ctx<'_>, x: &Val, name: &str, parameters: &[Option<f64>]) -> Result<Val, Fault> {
    let parameter = |i: usize, default: f64| Real(parameters.get(i).copied().flatten().unwrap_or(default));
    let op = match name {
        "" => return Ok(x.clone()),
        "Relu" => Unary::Relu {},
        "Sigmoid" => Unary::Sigmoid {},
        "Tanh" => Unary::Tanh {},
        "Softplus" => Unary::Softplus {},
        "Softsign" => Unary::Softsign {},
        "Clip" => Unary::Clamp { low: parameter(0, f64::NEG_INFINITY), high: parameter(1, f64::INFINITY) },
        "Elu" => Unary::Elu { alpha: parameter(0, 1.0) },
        "HardSigmoid" => Unary::HardSigmoid { alpha: parameter(0, 0.2), beta: parameter(1, 0.5) },
        "HardSwish" => Unary::HardSwish {},
        "LeakyRelu" => Unary::LeakyRelu { alpha: parameter(0, 0.01) },
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: parameter(0, 1.0) },
        other => return Err(format!("attribute `activation` is `{other}`, which is not known").into()),
    };
    c.unary(op, x)
}
