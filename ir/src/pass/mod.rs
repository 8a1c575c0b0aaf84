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

use crate::func::{Func, FuncError};

pub use fold::fold_weights;

/// A function to an equivalent one.
type Run = fn(&Func) -> Result<Func, FuncError>;

/// One pass.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Its name in dumps. One that runs again has a number behind it.
    pub name: &'static str,
    run: Run,
}

/// All passes in the order they run.
pub const PASSES: &[Pass] = &[
    // Constants first: they decide what everything else is.
    Pass { name: "simplify", run: simplify::simplify },
    Pass { name: "lower_batch_norms", run: scale::lower_batch_norms },
    Pass { name: "pad_convolutions", run: pad::pad_convolutions },
    Pass { name: "scale_weights", run: scale::scale_weights },
    Pass { name: "recognise", run: recognise::recognise },
    // Norms have been recognised; their factors and summands follow.
    Pass { name: "recognise2", run: recognise::recognise },
    Pass { name: "recognise3", run: recognise::recognise },
    Pass { name: "move_scales", run: recognise::move_scales },
    Pass { name: "merge_products", run: merge::merge_products },
    Pass { name: "lower_transposed", run: transposed::lower_transposed },
    Pass { name: "channels_last", run: layout::channels_last },
    Pass { name: "simplify2", run: simplify::simplify },
    Pass { name: "sink_transposes", run: layout::sink_transposes },
    Pass { name: "simplify3", run: simplify::simplify },
    Pass { name: "form_kernels", run: kernels::form_kernels },
    Pass { name: "simplify4", run: simplify::simplify },
];

impl Pass {
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
    PASSES.iter().filter(|pass| wanted(pass)).try_fold(func, |func, pass| {
        let next = pass.run(&func)?;
        after(pass, &next);
        Ok(next)
    })
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
