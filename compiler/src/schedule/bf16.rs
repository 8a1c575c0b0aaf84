//! The decision for or against products of bf16, BFMMLA and BFDOT, and its reason.

use std::fmt;

use kiln_ir::{Contraction, DType};

use super::{Form, Schedule, cost::Prediction};
use crate::target::Feature;
use crate::target::Target;

/// Whether products of bf16 are used, and what decided that.
#[derive(Clone, Debug, PartialEq)]
pub enum Bf16Products {
    /// No factor is bf16, and none may be rounded to it: there is nothing to decide.
    NotAsked,
    /// They are used.
    Used,
    /// The target has no instructions for them.
    NoInstructions,
    /// No form with such products can compute this: the reason.
    Impossible(String),
    /// The cheapest schedule with them is predicted to take longer than the one that was chosen.
    Slower {
        /// Predicted cycles with products of bf16.
        bf16: f64,
        /// Predicted cycles of what was chosen.
        chosen: f64,
    },
    /// The caller asked for a schedule without them.
    ScheduleGiven,
}

/// Tells whether a schedule multiplies bf16.
pub fn uses_bf16(c: &Contraction, schedule: &Schedule, target: &Target) -> bool {
    target.unit(schedule.isa).is_some_and(|u| schedule.form.rules().multiplies_bf16(c, u))
}

impl Bf16Products {
    /// The decision for `chosen`, the cheapest of `weighed`.
    pub(super) fn of(
        c: &Contraction,
        target: &Target,
        chosen: &(Schedule, Prediction),
        weighed: &[(Schedule, Prediction)],
        is_layout_given: bool,
    ) -> Self {
        if let Some(decided) = Self::without_schedules(c, target, &chosen.0) {
            return decided;
        }
        let with_bf16 = weighed.iter().filter(|(s, _)| uses_bf16(c, s, target)).map(|(_, p)| p.cycles);
        match with_bf16.min_by(f64::total_cmp) {
            Some(bf16) => Bf16Products::Slower { bf16, chosen: chosen.1.cycles },
            None if is_layout_given => Bf16Products::Impossible("the weights are packed for products of f32".into()),
            None => Bf16Products::Impossible(why_impossible(c, target)),
        }
    }

    /// The decision for a schedule of the caller's.
    pub(crate) fn of_given(c: &Contraction, target: &Target, schedule: &Schedule) -> Self {
        Self::without_schedules(c, target, schedule).unwrap_or(Bf16Products::ScheduleGiven)
    }

    /// What is known without other schedules.
    fn without_schedules(c: &Contraction, target: &Target, chosen: &Schedule) -> Option<Self> {
        let factors = [c.lhs.dtype, c.rhs.dtype];
        let may_be_rounded = c.math.allows_bf16() && !factors.iter().any(|f| f.is_integer());
        if !may_be_rounded && !factors.contains(&DType::Bf16) {
            return Some(Bf16Products::NotAsked);
        }
        if uses_bf16(c, chosen, target) {
            return Some(Bf16Products::Used);
        }
        (!target.has(Feature::Bf16)).then_some(Bf16Products::NoInstructions)
    }

    /// The same decision where the contraction could also have been computed in another way, for which `other` was decided at so
    /// many cycles.
    pub(crate) fn beside(self, other: &Bf16Products, other_cycles: f64, cycles: f64) -> Self {
        let theirs = match other {
            Bf16Products::Used => other_cycles,
            Bf16Products::Slower { bf16, .. } => *bf16,
            _ => return self,
        };
        match self {
            Bf16Products::Slower { bf16, chosen } => Bf16Products::Slower { bf16: bf16.min(theirs), chosen },
            Bf16Products::Impossible(_) => Bf16Products::Slower { bf16: theirs, chosen: cycles },
            decided => decided,
        }
    }

    /// What a person should know of the decision, if anything.
    pub(crate) fn note(&self, c: &Contraction) -> Option<String> {
        if matches!(self, Bf16Products::NotAsked | Bf16Products::Used) {
            return None;
        }
        Some(match [c.lhs.dtype, c.rhs.dtype].contains(&DType::Bf16) {
            true => format!("bf16 operands are widened to f32 as they are loaded: {self}"),
            false => format!("fpmath={} has no effect: {self}", c.math),
        })
    }
}

/// Why no form with products of bf16 can compute a contraction, on any vector unit.
fn why_impossible(c: &Contraction, target: &Target) -> String {
    if c.window.as_ref().is_some_and(|w| w.depthwise) {
        return "each channel is a group of its own, and its few products are not worth rearranging".into();
    }
    let mut errors = target.units.iter().rev().filter_map(|u| Form::Mmla.rules().check(c, u).err());
    errors.next().unwrap_or_else(|| "no schedule with products of bf16 fits the caches".into())
}

impl fmt::Display for Bf16Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bf16Products::NotAsked => f.write_str("no factor is bf16 or may be rounded to it"),
            Bf16Products::Used => f.write_str("products of bf16 are used"),
            Bf16Products::NoInstructions => f.write_str("the target has no BF16 instructions"),
            Bf16Products::Impossible(why) => f.write_str(why),
            Bf16Products::Slower { bf16, chosen } => write!(
                f,
                "with products of bf16, {bf16:.0} cycles are predicted, {:.2} times as many as the {chosen:.0} with f32",
                bf16 / chosen
            ),
            Bf16Products::ScheduleGiven => f.write_str("the schedule that was asked for has products of f32"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, compile};

    #[test]
    fn integers_are_never_rounded_to_bf16() {
        for target in ["armv8", "neoverse-n1", "neoverse-v1", "x86-64-v3", "x86-64-v4+vnni"] {
            for math in ["fpmath=bf16", "fpmath=any"] {
                let of = |dtypes: &str| {
                    let problem = format!("matmul {dtypes} 20x64:64x20 {math}").parse().unwrap();
                    compile(&problem, &target.parse().unwrap(), &Options::default()).unwrap()
                };
                for dtypes in ["s8:s8:s32", "u8:s8:s32"] {
                    let a = of(dtypes);
                    assert_eq!(a.choice().bf16, Bf16Products::NotAsked, "{dtypes} {math} @{target}");
                    assert!(a.notes().is_empty(), "{:?}", a.notes());
                }
                assert_ne!(of("f32").choice().bf16, Bf16Products::NotAsked, "{math} @{target}");
            }
        }
    }
}
