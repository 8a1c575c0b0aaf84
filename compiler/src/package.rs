//! Packages: machine code with what its caller has to know, and nothing of how it came about.
//!
//! Facts that a problem, target and schedule imply are not stored but derived again: a package from a file cannot contradict itself.

use kiln_ir::{Contraction, Problem};

use crate::artifact::Artifact;
use crate::choose::Options;
use crate::packed::PackedLayout;
use crate::schedule::{Schedule, ScheduleError};
use crate::target::Target;

/// Code for one problem and target, ready to be published.
#[derive(Clone, Debug)]
pub struct Package {
    facts: Facts,
    contraction: Contraction,
    layout: Option<PackedLayout>,
    image: Vec<u8>,
}

/// The facts that a [`Package`] cannot derive.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The problem that it computes.
    pub problem: Problem,
    /// The target that it is compiled for.
    pub target: Target,
    /// The options that were asked for.
    pub options: Options,
    /// The index of its contraction in [`Contraction::ways`].
    pub way: usize,
    /// The schedule.
    pub schedule: Schedule,
    /// Predicted cycles on one thread.
    pub cycles: f64,
    /// The least cycles that the target allows, see [`bound`](crate::schedule::cost::bound).
    pub bound: f64,
    /// The resource that keeps it from the bound, in words.
    pub limit: String,
    /// Temporary memory of each concurrent call, in bytes.
    pub scratch_bytes: u64,
    /// Temporary memory of a call that all its threads share, in bytes. Its address is at the start of each thread's temporary memory.
    pub shared_bytes: u64,
    /// Tasks.
    pub tasks: u64,
    /// Those of them that are done before all others begin: they fill the shared memory.
    pub first_tasks: u64,
    /// Predicted cycles of those.
    pub first_cycles: f64,
    /// Remarks for people.
    pub notes: Vec<String>,
}

/// Facts that cannot be those of code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// There are fewer ways to compute the problem.
    #[error("`{problem}` cannot be computed in way {way}")]
    Way {
        /// The problem.
        problem: Box<Problem>,
        /// The way.
        way: usize,
    },
    /// The schedule is not one of the problem on the target.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A number or a choice that no compilation gives.
    #[error("{0}")]
    Number(&'static str),
}

impl Package {
    /// Puts facts and code together, which once were one package.
    pub fn new(facts: Facts, image: Vec<u8>) -> Result<Self, PackageError> {
        let no_way = || PackageError::Way { problem: Box::new(facts.problem.clone()), way: facts.way };
        let contraction = Contraction::ways(&facts.problem).into_iter().nth(facts.way).ok_or_else(no_way)?;
        facts.schedule.verify(&contraction, &facts.target)?;
        if image.is_empty() || facts.tasks == 0 {
            return Err(PackageError::Number("there is no code, or nothing for it to do"));
        }
        // Their ratio is a fraction.
        let some = facts.cycles > 0.0 && facts.bound >= 0.0 && (0.0..=facts.cycles).contains(&facts.first_cycles);
        if !(some && facts.cycles.is_finite() && facts.bound.is_finite())
            || isize::try_from(facts.scratch_bytes.saturating_add(facts.shared_bytes)).is_err()
        {
            return Err(PackageError::Number("predicted cycles or scratch memory are beyond all measure"));
        }
        let has_shared = facts.shared_bytes > 0;
        if has_shared != (facts.first_tasks > 0)
            || facts.first_tasks >= facts.tasks
            || (has_shared && facts.scratch_bytes < 8)
        {
            return Err(PackageError::Number(
                "shared memory is filled by some of the tasks, and its address is in scratch memory",
            ));
        }
        if facts.options.schedule.as_ref().is_some_and(|asked| *asked != facts.schedule) {
            return Err(PackageError::Number("another schedule was asked for"));
        }
        let layout = PackedLayout::of(&contraction, &facts.schedule, &facts.target);
        if layout.is_some() && !facts.options.constant_weights {
            return Err(PackageError::Number("weights are packed that are not constant"));
        }
        if facts.options.weights_layout.is_some() && facts.options.weights_layout.as_deref() != layout.as_ref() {
            return Err(PackageError::Number("weights are read in another layout than they were to be"));
        }
        Ok(Self { facts, contraction, layout, image })
    }

    /// The package of an artifact, without the stages that led to it.
    pub fn of(artifact: &Artifact, options: &Options) -> Self {
        let choice = artifact.choice();
        let facts = Facts {
            problem: artifact.problem().clone(),
            target: artifact.target().clone(),
            options: options.clone(),
            way: artifact.way(),
            schedule: choice.schedule.clone(),
            cycles: choice.prediction.cycles,
            bound: choice.bound_cycles,
            limit: choice.prediction.bound.to_string(),
            scratch_bytes: artifact.scratch_bytes(),
            shared_bytes: artifact.shared_bytes(),
            tasks: artifact.tasks(),
            first_tasks: artifact.first_tasks(),
            first_cycles: if artifact.first_tasks() > 0 { choice.prediction.pack } else { 0.0 },
            notes: artifact.notes().to_vec(),
        };
        let (contraction, layout) = (artifact.contraction().clone(), artifact.packed_layout().cloned());
        Self { facts, contraction, layout, image: artifact.image().to_vec() }
    }

    /// The facts that are not derived.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The contraction that the problem is computed as.
    pub fn contraction(&self) -> &Contraction {
        &self.contraction
    }

    /// The layout in which the code expects its right operand packed; `None` if it reads it where it is.
    pub fn packed_layout(&self) -> Option<&PackedLayout> {
        self.layout.as_ref()
    }

    /// Position-independent machine code, to be aligned to 64 bytes. Its entry is [`Artifact`]'s.
    pub fn image(&self) -> &[u8] {
        &self.image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    fn package(problem: &str, constant_weights: bool) -> Package {
        let options = Options { constant_weights, ..Options::default() };
        let artifact = compile(&problem.parse().unwrap(), &"neoverse-v1".parse().unwrap(), &options).unwrap();
        Package::of(&artifact, &options)
    }

    #[test]
    fn derives_what_the_artifact_has() {
        for (problem, constant) in [
            ("ip f32 mb7ic64oc96 +bias", true),
            ("matmul f32 5x6:6x7", false),
            ("conv f32 mb1ic16ih9oc24kh3ph1 fpmath=bf16", true),
            ("conv f32 mb1ic16ih9oc24kh1 stag=abx dtag=abx", true),
        ] {
            let package = package(problem, constant);
            let again = Package::new(package.facts().clone(), package.image().to_vec()).unwrap();
            assert_eq!(again.packed_layout(), package.packed_layout(), "{problem}");
            assert_eq!(again.contraction(), package.contraction(), "{problem}");
            assert_eq!(again.facts(), package.facts());
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let package = package("ip f32 mb7ic64oc96", true);
        let with = |change: &dyn Fn(&mut Facts)| {
            let mut facts = package.facts().clone();
            change(&mut facts);
            Package::new(facts, package.image().to_vec()).unwrap_err().to_string()
        };
        assert!(with(&|f| f.way = 3).contains("way 3"));
        assert!(with(&|f| f.problem = "ip f32 mb7ic64oc97".parse().unwrap()).contains("columns"));
        assert!(with(&|f| f.target = "neoverse-n1".parse().unwrap()).contains("neoverse-n1"));
        assert!(with(&|f| f.tasks = 0).contains("nothing"));
        assert!(with(&|f| f.scratch_bytes = u64::MAX).contains("scratch"));
        for cycles in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(with(&|f| f.cycles = cycles).contains("cycles"), "{cycles}");
        }
        assert!(with(&|f| f.bound = -1.0).contains("cycles"));
        assert!(with(&|f| f.options.constant_weights = false).contains("not constant"));
        assert!(
            with(&|f| f.options.schedule =
                "neon parallel=none; n 0..96 tile 1x96 mc=7 nc=96 kc=64 unroll=4 order=nm lhs=inplace rhs=packed"
                    .parse()
                    .ok())
            .contains("another schedule")
        );
        assert!(Package::new(package.facts().clone(), vec![]).is_err());
    }
}
