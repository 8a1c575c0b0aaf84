//! Bytes that threads ask the last-level cache and memory for.
//!
//! A thread does the same tasks in each call. If the weights that it reads for all steps fit in its second-level cache, they are still there
//! in the next call. Otherwise they come from the last-level cache, if that has room for those of all steps, or from memory, and then
//! threads that read the same weights share what one of them has fetched. What a step computes is read by other threads in the next,
//! and comes from the last-level cache or by way of it, unless it is so large that caches do not hold it.

use kiln_jit::Target;
use kiln_jit::compiler::chip::Chip;
use kiln_jit::compiler::work::{KINDS, Kind};

use super::step::{ModelledStep, Reads, bytes};

/// The share of a cache that what is to stay may take, as in the cost model.
const STAYS: f64 = 0.75;

/// The caches that hold what steps read, with so many threads.
pub(super) struct Traffic {
    /// Weights stay in second-level caches.
    stay_near: bool,
    /// Weights stay in the last-level cache.
    stay: bool,
    /// Activations of so many bytes are in some cache when the next step reads them.
    held: f64,
}

impl Traffic {
    pub(super) fn of(steps: &[ModelledStep], threads: usize, target: &Target, chip: &Chip) -> Self {
        // Others wait for a core, whose caches they share.
        let threads = threads.min(chip.cores as usize);
        let (l2, last) = (target.l2.bytes as f64, chip.last_level as f64);
        let all: f64 = steps.iter().map(|step| step.reads.weights).sum();
        let activations = steps.iter().map(|step| step.reads.activations + step.reads.result).fold(0.0, f64::max);
        let of_thread: f64 = match threads {
            1 => all,
            _ => {
                let of = |step: &ModelledStep| {
                    let phases = step.tasks.phases(threads, threads);
                    let used = phases.iter().map(|phase| phase.spent.threads).max().unwrap_or(1);
                    bytes(&phases)[Kind::Weights as usize] / used as f64
                };
                steps.iter().filter(|step| step.reads.weights > 0.0).map(of).sum()
            }
        };
        Traffic {
            stay_near: of_thread + activations / threads as f64 <= STAYS * l2,
            stay: all + activations <= STAYS * last,
            held: STAYS * (last + threads as f64 * l2),
        }
    }

    /// Cycles that the last-level cache and memory take at least for a step.
    pub(super) fn cycles(&self, reads: &Reads, bytes: [f64; KINDS], chip: &Chip) -> f64 {
        let [source, weights, _] = bytes;
        let (read_weights, read_source) = match reads.is_of_two {
            true => (0.0, source + weights),
            false => (weights, source),
        };
        let activations = read_source.max(reads.activations) + reads.result;
        let near = if self.stay_near { 0.0 } else { read_weights } + activations;
        let far_weights = if self.stay_near || self.stay { 0.0 } else { reads.weights };
        let far_activations = [reads.activations, reads.result].iter().filter(|bytes| **bytes > self.held).sum::<f64>();
        let per_cycle = |gbs: f64| gbs / chip.ghz;
        (near / per_cycle(chip.last_level_gbs)).max((far_weights + far_activations) / per_cycle(chip.memory_gbs))
    }
}
