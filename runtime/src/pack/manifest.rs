//! The manifest of a pack: JSON.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use kiln_compiler::package::{Facts, Package};
use kiln_compiler::packed::PackedLayout;
use kiln_compiler::schedule::Schedule;
use kiln_compiler::{Options, Target, VERSION};
use kiln_ir::{Contraction, Problem};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::error::PackError;
use super::header::{ALIGN, HEADER};
use crate::key::Key;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    kiln: String,
    target: Target,
    /// The features that the target needs of a machine, for readers of the manifest.
    features: Vec<String>,
    kernels: Vec<Kernel>,
}

/// A kernel as the manifest has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kernel {
    problem: Problem,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    constant_weights: bool,
    /// The schedule is not the compiler's choice but was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    forced: bool,
    /// The layout of packed weights was asked for: that of the schedule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    packed_like: bool,
    schedule: String,
    way: usize,
    cycles: f64,
    bound: f64,
    limit: String,
    scratch: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    shared: u64,
    tasks: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    first_tasks: u64,
    #[serde(default, skip_serializing_if = "is_no_time")]
    first_cycles: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// From the first image.
    offset: usize,
    bytes: usize,
    /// XXH3-128 of the code, in hexadecimal.
    hash: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_no_time(cycles: &f64) -> bool {
    *cycles == 0.0
}

/// A kernel as a pack finds it again.
#[derive(Debug)]
pub(super) struct Record {
    facts: Facts,
    /// Its code in the file.
    pub(super) code: Range<usize>,
    pub(super) hash: u128,
}

/// Options as a text that tells them apart.
pub(super) fn options_text(options: &Options) -> String {
    let schedule = options.schedule.as_ref().map(Schedule::to_string).unwrap_or_default();
    // The layout's parts one after the other say it all.
    let like = options.weights_layout.as_ref().map(|layout| format!("{layout:?}")).unwrap_or_default();
    format!("constant_weights={} {schedule} {like}", options.constant_weights)
}

fn features(target: &Target) -> Vec<String> {
    let units = target.units.iter().map(|u| format!("{} {} bits", u.isa, u.lanes * 32));
    units.chain(target.features().iter().map(|f| f.name().to_owned())).collect()
}

impl Manifest {
    pub(super) fn new<'a>(
        target: &Target,
        version: &str,
        packages: impl Iterator<Item = (&'a Package, &'a Range<usize>)>,
    ) -> Self {
        let kernel = |(package, place): (&Package, &Range<usize>)| {
            let facts = package.facts();
            Kernel {
                problem: facts.problem.clone(),
                constant_weights: facts.options.constant_weights,
                forced: facts.options.schedule.is_some(),
                packed_like: facts.options.weights_layout.is_some(),
                schedule: facts.schedule.to_string(),
                way: facts.way,
                cycles: facts.cycles,
                bound: facts.bound,
                limit: facts.limit.clone(),
                scratch: facts.scratch_bytes,
                shared: facts.shared_bytes,
                tasks: facts.tasks,
                first_tasks: facts.first_tasks,
                first_cycles: facts.first_cycles,
                notes: facts.notes.clone(),
                offset: place.start,
                bytes: place.len(),
                hash: format!("{:032x}", XxHash3_128::oneshot(package.image())),
            }
        };
        let kernels = packages.map(kernel).collect();
        Manifest { kiln: version.to_owned(), target: target.clone(), features: features(target), kernels }
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("numbers are finite and keys are strings")
    }

    /// The target and kernels of a manifest at its place in a file of `len` bytes.
    pub(super) fn read(text: &[u8], len: usize) -> Result<(Target, HashMap<Key, Record>), PackError> {
        // The version first: another one's manifest may have other fields.
        #[derive(Deserialize)]
        struct Version {
            kiln: String,
        }
        let malformed = |e: serde_json::Error| PackError::Manifest(e.to_string());
        let Version { kiln } = serde_json::from_slice(text).map_err(malformed)?;
        if kiln != VERSION {
            return Err(PackError::Compiler { found: kiln, expected: VERSION });
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(malformed)?;
        if manifest.features != features(&manifest.target) {
            return Err(PackError::Manifest(format!("`{}` has other features", manifest.target)));
        }
        let first = (HEADER + text.len()).next_multiple_of(ALIGN);
        let Manifest { target, kernels, .. } = manifest;
        let records = kernels.into_iter().map(|kernel| kernel.read(&target, first, len)).collect::<Result<_, _>>()?;
        Ok((target, records))
    }
}

impl Kernel {
    fn read(self, target: &Target, first: usize, len: usize) -> Result<(Key, Record), PackError> {
        let name = || self.problem.to_string();
        let damaged = || PackError::Code { problem: name() };
        let malformed = |why: &dyn fmt::Display| PackError::Manifest(format!("`{}`: {why}", name()));
        let code = first
            .checked_add(self.offset)
            .and_then(|start| Some(start..start.checked_add(self.bytes)?))
            .filter(|code| code.end <= len && !code.is_empty())
            .ok_or_else(damaged)?;
        let hash = u128::from_str_radix(&self.hash, 16).map_err(|_| damaged())?;
        let schedule: Schedule = self.schedule.parse().map_err(|e| malformed(&e))?;
        let layout = || {
            let contraction = Contraction::ways(&self.problem).into_iter().nth(self.way)?;
            schedule.verify(&contraction, target).ok()?;
            PackedLayout::of(&contraction, &schedule, target).map(Arc::new)
        };
        let packed_like = match self.packed_like {
            true => Some(layout().ok_or_else(|| malformed(&"its schedule reads no packed weights"))?),
            false => None,
        };
        let options = Options {
            schedule: self.forced.then(|| schedule.clone()),
            constant_weights: self.constant_weights,
            weights_layout: packed_like,
        };
        let key = Key { problem: self.problem.clone(), options: options.clone() };
        let facts = Facts {
            problem: self.problem,
            target: target.clone(),
            options,
            way: self.way,
            schedule,
            cycles: self.cycles,
            bound: self.bound,
            limit: self.limit,
            scratch_bytes: self.scratch,
            shared_bytes: self.shared,
            first_tasks: self.first_tasks,
            first_cycles: self.first_cycles,
            tasks: self.tasks,
            notes: self.notes,
        };
        Ok((key, Record { facts, code, hash }))
    }
}

impl Record {
    /// Puts the kernel together again.
    pub(super) fn package(&self, file: &[u8]) -> Result<Package, PackError> {
        let problem = || self.facts.problem.to_string();
        let code = file.get(self.code.clone()).unwrap_or_default();
        if XxHash3_128::oneshot(code) != self.hash {
            return Err(PackError::Code { problem: problem() });
        }
        let package = Package::new(self.facts.clone(), code.to_vec());
        package.map_err(|cause| PackError::Package { problem: problem(), cause })
    }
}
