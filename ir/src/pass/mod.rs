//! Passes: functions to equivalent functions, from networks as they are exported to kernels and what is between them.
//!
//! [`optimize`] runs all of them in order. Each is a function of its own, and what it means is what
//! [`interpret_f64`](crate::Func::interpret_f64) says of both sides: results may differ by roundings and by the sign of a zero. What is
//! infinite or NaN stays so, and nothing else becomes so, whatever the constants are: `numbers.rs` says which may be folded into others.
//! One exception is meant: an activation that is recognised has its limit at minus infinity, where the parts that it was exported in give
//! NaN.

mod decides;
mod fold;
mod kernels;
mod layout;
mod merge;
mod numbers;
mod pad;
mod provenance;
mod recognise;
mod rewriter;
mod scale;
mod simplify;
mod transposed;

use crate::func::{Def, Func, FuncError, Structured, TensorOp, Value};

pub use fold::fold_weights;

/// A function to an equivalent one.
type Run = fn(&Func) -> Result<Func, FuncError>;

/// One pass.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Its name in dumps. One that runs again has a number behind it.
    pub name: &'static str,
    run: Run,
    /// Whether it looks for an operation. A function without such stays as it is.
    concerns: fn(&TensorOp) -> bool,
}

/// Whether an operation is one of some kinds.
macro_rules! is {
    ($($kind:ident)|+) => {
        |op| matches!(op, TensorOp::Structured($(Structured::$kind { .. })|+))
    };
}

/// Every operation.
fn any(_: &TensorOp) -> bool {
    true
}

/// All passes in the order they run.
pub const PASSES: &[Pass] = &[
    // Constants first: they decide what everything else is.
    Pass { name: "simplify", run: simplify::simplify, concerns: any },
    Pass { name: "lower_batch_norms", run: scale::lower_batch_norms, concerns: is!(BatchNorm) },
    Pass { name: "pad_convolutions", run: pad::pad_convolutions, concerns: is!(Pad) },
    Pass { name: "scale_weights", run: scale::scale_weights, concerns: is!(Conv | Matmul) },
    Pass { name: "recognise", run: recognise::recognise, concerns: any },
    // Norms have been recognised; their factors and summands follow.
    Pass { name: "recognise2", run: recognise::recognise, concerns: any },
    Pass { name: "recognise3", run: recognise::recognise, concerns: any },
    Pass { name: "move_scales", run: recognise::move_scales, concerns: is!(Matmul) },
    Pass { name: "merge_products", run: merge::merge_products, concerns: is!(Matmul) },
    Pass { name: "lower_transposed", run: transposed::lower_transposed, concerns: is!(ConvTranspose) },
    Pass { name: "channels_last", run: layout::channels_last, concerns: is!(Conv) },
    Pass { name: "simplify2", run: simplify::simplify, concerns: any },
    Pass { name: "sink_transposes", run: layout::sink_transposes, concerns: is!(Transpose) },
    Pass { name: "simplify3", run: simplify::simplify, concerns: any },
    Pass { name: "form_kernels", run: kernels::form_kernels, concerns: is!(Conv | Matmul) },
    Pass { name: "simplify4", run: simplify::simplify, concerns: any },
];

impl Pass {
    /// Whether there is something that it looks for. What functions within this one have is not looked through.
    fn is_concerned(&self, func: &Func) -> bool {
        let has = |value: &Value| matches!(&value.def, Def::Result { op, .. } if (self.concerns)(op));
        func.depth() > 1 || func.values().any(|(_, value)| has(value))
    }

    /// The function after it; those that its operations run first.
    pub fn run(&self, func: &Func) -> Result<Func, FuncError> {
        match func.map_bodies(|body| self.run(body))? {
            Some(func) => (self.run)(&func),
            None => (self.run)(func),
        }
    }
}

/// The function after all passes. `after` is told each pass and what it made, for dumps and checks.
pub fn optimize(func: Func, after: impl FnMut(&Pass, &Func)) -> Result<Func, FuncError> {
    optimize_with(func, |_| true, after)
}

/// The function after those passes that are `wanted`.
pub fn optimize_with(
    func: Func,
    wanted: impl Fn(&Pass) -> bool,
    mut after: impl FnMut(&Pass, &Func),
) -> Result<Func, FuncError> {
    let mut func = func;
    // Passes that left the function as it is now: they would do so again.
    let mut settled: Vec<Run> = vec![];
    for pass in PASSES.iter().filter(|pass| wanted(pass)) {
        let is_settled = settled.iter().any(|run| std::ptr::fn_addr_eq(*run, pass.run));
        if !is_settled && pass.is_concerned(&func) {
            let next = pass.run(&func)?;
            if next.has_values_of(&func) {
                settled.push(pass.run);
            } else {
                settled.clear();
            }
            func = next;
        }
        after(pass, &func);
    }
    Ok(func)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One function has one name, with a number where it runs again, and no two functions share one.
    #[test]
    fn names_are_those_of_functions() {
        let mut runs: Vec<(Run, &str, usize)> = vec![];
        for pass in PASSES {
            let name = match runs.iter_mut().find(|(run, ..)| std::ptr::fn_addr_eq(*run, pass.run)) {
                Some((_, name, times)) => {
                    *times += 1;
                    format!("{name}{times}")
                }
                None => {
                    assert!(runs.iter().all(|(_, name, _)| *name != pass.name), "{} is the name of two", pass.name);
                    runs.push((pass.run, pass.name, 1));
                    pass.name.to_owned()
                }
            };
            assert_eq!(pass.name, name);
        }
        assert!(runs.iter().any(|(.., times)| *times > 1));
    }
}
