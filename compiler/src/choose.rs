//! The first stage: how a problem is computed on a target, and with which schedule.

use std::sync::Arc;

use kiln_ir::{Contraction, Problem};

use crate::error::CompileError;
use crate::packed::PackedLayout;
use crate::schedule::bf16::Bf16Products;
use crate::schedule::{Choice, RhsAccess, Schedule, cost, rows, search, weigh};
use crate::target::{Costs, Target};

/// How a kernel is compiled, beyond what its problem says. Kernels with other options are other kernels.
///
/// ```
/// use kiln_compiler::{Options, Target, compile};
///
/// let linear = "ip f32 mb128ic768oc3072".parse()?;
/// let target: Target = "neoverse-v1".parse()?;
/// // The weights are the same in many calls, so the kernel may have them packed before.
/// let constant = Options { constant_weights: true, ..Options::default() };
/// assert!(compile(&linear, &target, &constant)?.packed_layout().is_some());
/// assert!(compile(&linear, &target, &Options::default())?.packed_layout().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Instead of the cost model's choice.
    pub schedule: Option<Schedule>,
    /// The right operand is the same in many calls and may be packed before them:
    /// [`Artifact::packed_layout`](crate::Artifact::packed_layout), or the kernel's `weights_layout`, tells whether it has to be.
    pub constant_weights: bool,
    /// The layout that constant weights are packed in already: the kernel reads them in it.
    pub weights_layout: Option<Arc<PackedLayout>>,
}

/// The largest distance between rows of an operand that micro-kernels address with constants, in bytes.
const MAX_ROW_BYTES: u64 = 1 << 26;

/// The way to compute the problem that is predicted to be fastest, or the first that there is a way for at all.
pub(crate) fn choose_way(
    problem: &Problem,
    target: &Target,
    options: &Options,
) -> Result<(usize, Contraction, Choice), CompileError> {
    let mut best: Option<(usize, Contraction, Choice)> = None;
    let mut failed = None;
    for (way, c) in Contraction::ways(problem).into_iter().enumerate() {
        match check_rows(&c, target).and_then(|()| choose(&c, target, options)) {
            Ok(choice) => {
                best = Some(match best.take() {
                    None => (way, c, choice),
                    Some((w, b, best)) if best.prediction.cycles <= choice.prediction.cycles => {
                        (w, b, best.beside(&choice))
                    }
                    Some((.., other)) => (way, c, choice.beside(&other)),
                });
            }
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    match (best, failed) {
        (Some(best), _) => Ok(best),
        (None, Some(e)) => Err(e),
        (None, None) => unreachable!("there is a way"),
    }
}

/// The schedule: the caller's, checked, or the cost model's.
fn choose(c: &Contraction, target: &Target, options: &Options) -> Result<Choice, CompileError> {
    let like = options.weights_layout.as_deref();
    let unsupported = || CompileError::Unsupported {
        what: "reading weights in the layout that they are packed in".into(),
        target: Box::new(target.clone()),
    };
    let Some(schedule) = &options.schedule else {
        return search(c, target, options.constant_weights, like).ok_or_else(unsupported);
    };
    schedule.verify(c, target)?;
    if !options.constant_weights && schedule.regions.iter().any(|r| r.rhs == RhsAccess::Packed) {
        return Err(CompileError::Unsupported {
            what: format!("`{schedule}`, which packs weights that are not said to be constant,"),
            target: Box::new(target.clone()),
        });
    }
    if like.is_some() && like != PackedLayout::of(c, schedule, target).as_ref() {
        return Err(unsupported());
    }
    let prediction = cost::Model::of(c, target).predict(schedule).ok_or_else(|| CompileError::Unsupported {
        what: format!("the vector unit {}", schedule.isa),
        target: Box::new(target.clone()),
    })?;
    let bf16 = Bf16Products::of_given(c, target, schedule);
    Ok(Choice::new(c, target, schedule.clone(), prediction, vec![(schedule.clone(), prediction)], bf16))
}

/// The schedules that are weighed against each other for a problem.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// The way in which the problem is computed.
    contraction: Contraction,
    target: Target,
    /// All of them, the chosen one first, with what they are predicted to take.
    pub schedules: Vec<(Schedule, cost::Prediction)>,
}

impl Candidates {
    /// Those of a problem.
    ///
    /// # Errors
    ///
    /// The problem cannot be compiled for the target.
    pub fn of(problem: &Problem, target: &Target, constant_weights: bool) -> Result<Self, CompileError> {
        let options = Options { constant_weights, ..Options::default() };
        let (_, contraction, _) = choose_way(problem, target, &options)?;
        let schedules = weigh(&contraction, target, constant_weights, None);
        Ok(Self { contraction, target: target.clone(), schedules })
    }

    /// The cycles that each is predicted to take with these parameters.
    pub fn cycles(&self, costs: &Costs) -> Vec<f64> {
        let model = cost::Model::with(&self.contraction, &self.target, costs);
        let cycles = |s: &Schedule| model.predict(s).map_or(f64::INFINITY, |p| p.cycles);
        self.schedules.iter().map(|(s, _)| cycles(s)).collect()
    }
}

/// Predicted cycles of the problem with the cost model's schedule, and whether its weights are packed before calls; `None` if
/// it cannot be compiled.
pub(crate) fn predict(problem: &Problem, target: &Target, constant_weights: bool) -> Option<(f64, bool)> {
    let options = Options { constant_weights, ..Options::default() };
    let (_, _, choice) = choose_way(problem, target, &options).ok()?;
    let packed = choice.schedule.regions.iter().any(|r| r.rhs == RhsAccess::Packed);
    Some((choice.prediction.cycles, packed))
}

fn check_rows(c: &Contraction, target: &Target) -> Result<(), CompileError> {
    if let Some(w) = &c.window {
        // What a tile spans: its taps, and rows that may be anywhere in a small image.
        const MAX_WINDOW_BYTES: u64 = 1 << 30;
        // Each run is a loop or two: so many take about a gigabyte while they are built.
        const MAX_WINDOW_RUNS: u64 = 1 << 21;
        let reach = w.axes.iter().map(|a| ((a.kernel - 1) * a.dilation + 63 * a.stride).min(a.input - 1) * a.lhs);
        // Strides may make any axis the outermost, so their reaches add up.
        let bytes = reach.fold(c.lhs.col, u64::saturating_add).saturating_mul(c.lhs.dtype.bytes() as u64);
        if bytes > MAX_WINDOW_BYTES {
            let what = format!("a window that spans {bytes} bytes of the source (at most {MAX_WINDOW_BYTES})");
            return Err(CompileError::Unsupported { what, target: Box::new(target.clone()) });
        }
        let runs = rows::distinct_runs(w);
        if runs > MAX_WINDOW_RUNS {
            let what = format!("a kernel of {} taps with so many borders that its code has {runs} parts", w.taps());
            return Err(CompileError::Unsupported { what, target: Box::new(target.clone()) });
        }
    }
    // The factors of a window are copied, or spanned as above.
    let views = match c.window {
        Some(_) => &[(&c.dst, [c.m, c.n])][..],
        None => &[(&c.dst, [c.m, c.n]), (&c.lhs, [c.m, c.k]), (&c.rhs, [c.k, c.n])],
    };
    for &(view, extents) in views {
        let bytes = view.dtype.bytes() as u64;
        // Where there is one row, or one column, how far the next would be is nobody's offset.
        let along = extents.into_iter().zip([view.row, view.col]).filter(|(extent, _)| *extent > 1);
        let distance = along.map(|(_, stride)| stride).max().unwrap_or(0);
        if distance * bytes > MAX_ROW_BYTES {
            let name = &c.arguments[view.argument].0;
            let what = format!("`{name}` with rows of {distance} elements (at most {})", MAX_ROW_BYTES / bytes);
            return Err(CompileError::Unsupported { what, target: Box::new(target.clone()) });
        }
    }
    Ok(())
}
