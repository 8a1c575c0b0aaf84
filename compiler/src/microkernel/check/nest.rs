//! The proof of all micro-kernels that a nest calls.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use kiln_ir::nest::{LoopNest, Stmt};
use kiln_ir::{DType, PostOp};

use super::super::{Factors, MicroKernel, Op};
use super::{CheckError, CopySpec, Old, Products, TileSpec, check_copy, check_tile};
use crate::schedule::Form;

/// A micro-kernel that is not what a statement of its nest asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NestCheckError {
    /// It does not compute its tile, or make its copy.
    #[error("{error}, in `{name}` as {spec}\n{kernel}")]
    Kernel {
        /// The micro-kernel's name.
        name: String,
        /// Its specification.
        spec: String,
        /// The micro-kernel.
        kernel: String,
        /// Why it is not that.
        error: Box<CheckError>,
    },
    /// A statement without the micro-kernel that it should call.
    #[error("{0}")]
    Call(&'static str),
    /// f32 factors are rounded to bf16, which the problem does not permit.
    #[error("`{0}` rounds f32 to bf16 where arithmetic is strict")]
    Rounds(String),
}

/// Counts of the micro-kernels that were proved, by kind. Of micro-kernels that are alike in an artifact, one is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// The number that were proved of a kind: `outer`, `outer window`, `mmla bf16 factors`, `copy rounded`, `post gelu_erf` or
    /// another one of [`counts`](Self::counts).
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// All kinds with their numbers.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(kind, n)| (kind.as_str(), *n))
    }

    /// Adds another one's numbers.
    pub fn add(&mut self, other: &Tally) {
        other.counts().for_each(|(kind, n)| *self.0.entry(kind.to_owned()).or_default() += n);
    }

    fn count(&mut self, kind: impl Into<String>) {
        *self.0.entry(kind.into()).or_default() += 1;
    }

    fn count_tile(&mut self, form: Form, spec: &TileSpec, mk: &MicroKernel) {
        let name = format!("{form:?}").to_lowercase();
        self.count(name.clone());
        self.count(format!("{} {name}", mk.isa));
        let ops = || mk.body.iter().flat_map(|s| s.insts()).map(|i| &i.op);
        let dtypes = [spec.lhs.dtype, spec.rhs.dtype, spec.dst.dtype];
        let features = [
            ("window", spec.lhs.runs.len() != 1 || spec.lhs.runs[0].rows != u64::MAX),
            ("several runs", spec.lhs.runs.len() > 1),
            ("bf16 factors", dtypes[..2].contains(&DType::Bf16)),
            ("bf16 result", spec.dst.dtype == DType::Bf16),
            ("bf16 operand", spec.post.iter().any(|(_, t)| t.is_some_and(|t| t.dtype == DType::Bf16))),
            ("f16 factors", dtypes[..2].contains(&DType::F16)),
            ("f16 result", spec.dst.dtype == DType::F16),
            ("f16 operand", spec.post.iter().any(|(_, t)| t.is_some_and(|t| t.dtype == DType::F16))),
            ("rows in place", matches!(spec.products, Products::Blocks(_)) && spec.lhs.steps.group == 1),
            ("rounding", spec.rounds_factors()),
            ("bfdot", ops().any(|op| matches!(op, Op::Dot { f: Factors::Bf16, .. }))),
            ("bfmmla", ops().any(|op| matches!(op, Op::Mmla { f: Factors::Bf16, .. }))),
            ("s8 factors", dtypes[..2].contains(&DType::S8)),
            ("u8 factors", dtypes[..2].contains(&DType::U8)),
            ("s16 factors", dtypes[..2].contains(&DType::S16)),
            ("old values", spec.old != Old::Never),
            ("spill", ops().any(|op| op.slot().is_some())),
            ("part of a vector", !spec.columns.is_multiple_of(mk.lanes.into())),
            ("part of a group", spec.lhs.runs.iter().any(|r| !r.len.is_multiple_of(spec.rhs.steps.group.max(4)))),
        ];
        features.iter().filter(|(_, has)| *has).for_each(|(f, _)| self.count(format!("{name} {f}")));
        let mut ops: Vec<PostOp> = spec.post.iter().map(|(op, _)| *op).collect();
        ops.sort_by_key(|op| op.name());
        ops.dedup_by_key(|op| op.name());
        ops.iter().for_each(|op| self.count(format!("post {}", op.name())));
    }

    fn count_copy(&mut self, spec: &CopySpec, mk: &MicroKernel) {
        self.count("copy");
        self.count(format!("{} copy", mk.isa));
        let size = |d: DType| d.bytes() as u64;
        let (along_k, along_width) = (spec.src.row == size(spec.src.dtype), spec.src.column == size(spec.src.dtype));
        let features = [
            ("rounded", (spec.src.dtype, spec.dtype) == (DType::F32, DType::Bf16)),
            ("widened", (spec.src.dtype, spec.dtype) == (DType::Bf16, DType::F32)),
            ("of bf16", (spec.src.dtype, spec.dtype) == (DType::Bf16, DType::Bf16)),
            ("of bytes", spec.dtype.bytes() == 1),
            ("widened bytes", spec.src.dtype.bytes() == 1 && spec.dtype == DType::S16),
            ("widened f16", (spec.src.dtype, spec.dtype) == (DType::F16, DType::F32)),
            ("into groups", spec.steps.group > 1),
            ("into groups of rows along K", spec.steps.group > 1 && along_k),
            ("into groups of rows across K", spec.steps.group > 1 && !along_k && along_width),
            ("into groups of neighbours along neither axis", spec.steps.group > 1 && !along_k && !along_width),
            ("transposed", spec.steps.group == 1 && along_k && !along_width && spec.width > 1 && spec.k > 1),
        ];
        features.iter().filter(|(_, has)| *has).for_each(|(f, _)| self.count(format!("copy {f}")));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().try_for_each(|(kind, n)| writeln!(f, "{n:8}  {kind}"))
    }
}

/// The specification of a micro-kernel, by the statement of a nest that calls it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Spec {
    /// A tile.
    Tile(TileSpec),
    /// A copy.
    Copy(CopySpec),
}

impl Spec {
    /// Proves that `mk` is that.
    pub fn check(&self, mk: &MicroKernel) -> Result<(), CheckError> {
        match self {
            Spec::Tile(spec) => check_tile(mk, spec),
            Spec::Copy(spec) => check_copy(mk, spec),
        }
    }

    /// Tells whether f32 factors are rounded to bf16: copies do so into panels for BFMMLA. Others convert results.
    fn rounds_factors(&self) -> bool {
        match self {
            Spec::Tile(spec) => spec.rounds_factors(),
            Spec::Copy(spec) => (spec.src.dtype, spec.dtype) == (DType::F32, DType::Bf16) && spec.steps.group > 1,
        }
    }
}

/// The number of the micro-kernel that each tile and copy of `nest` calls, and what is asked of it; each pair once. `calls` has
/// that number for each statement in the order they are written down, `None` for a copy that the driver makes. `bf16_unit` tells
/// whether the vector unit has BFDOT.
pub fn specs(
    nest: &LoopNest,
    calls: &[Option<usize>],
    form: Form,
    bf16_unit: bool,
) -> Result<Vec<(usize, Spec)>, NestCheckError> {
    let mut all = Specs { nest, calls: calls.iter(), form, bf16_unit, known: HashSet::new(), specs: vec![] };
    all.body(&nest.body)?;
    match all.calls.next() {
        Some(_) => Err(NestCheckError::Call("a call that belongs to no statement")),
        None => Ok(all.specs),
    }
}

/// Proves that every tile and copy of `nest` calls a micro-kernel that computes it; see [`specs`]. `may_round` tells whether f32
/// factors may be rounded to bf16.
pub fn check_nest(
    nest: &LoopNest,
    kernels: &[MicroKernel],
    calls: &[Option<usize>],
    form: Form,
    bf16_unit: bool,
    may_round: bool,
) -> Result<Tally, NestCheckError> {
    let mut tally = Tally::default();
    let mut called = vec![false; kernels.len()];
    for (call, spec) in specs(nest, calls, form, bf16_unit)? {
        let mk = kernels.get(call).ok_or(NestCheckError::Call("a micro-kernel that there is not"))?;
        called[call] = true;
        if spec.rounds_factors() && !may_round {
            return Err(NestCheckError::Rounds(mk.name.clone()));
        }
        spec.check(mk).map_err(|error| failed(mk, &spec, error))?;
        match &spec {
            Spec::Tile(spec) => tally.count_tile(form, spec, mk),
            Spec::Copy(spec) => tally.count_copy(spec, mk),
        }
    }
    if called.contains(&false) {
        return Err(NestCheckError::Call("a micro-kernel that no statement calls"));
    }
    Ok(tally)
}

struct Specs<'a> {
    nest: &'a LoopNest,
    calls: std::slice::Iter<'a, Option<usize>>,
    form: Form,
    bf16_unit: bool,
    known: HashSet<(usize, Spec)>,
    specs: Vec<(usize, Spec)>,
}

impl Specs<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), NestCheckError> {
        for s in body {
            let spec = match s {
                Stmt::Loop(l) => {
                    self.body(&l.body)?;
                    continue;
                }
                Stmt::Tile(tile) => Spec::Tile(TileSpec::of(self.nest, tile, self.form, self.bf16_unit)),
                Stmt::Pack(copy) => {
                    let spec = CopySpec::of(self.nest, copy);
                    Spec::Copy(spec.ok_or(NestCheckError::Call("a copy whose extent varies"))?)
                }
                Stmt::Barrier => continue,
                _ => return Err(NestCheckError::Call("a statement that no driver executes")),
            };
            match (self.calls.next(), &spec) {
                (Some(Some(call)), _) => {
                    if self.known.insert((*call, spec.clone())) {
                        self.specs.push((*call, spec));
                    }
                }
                (Some(None), Spec::Copy(_)) => {}
                (Some(None), Spec::Tile(_)) => return Err(NestCheckError::Call("a tile without a micro-kernel")),
                (None, _) => return Err(NestCheckError::Call("a statement whose call is unknown")),
            }
        }
        Ok(())
    }
}

fn failed(mk: &MicroKernel, spec: &dyn fmt::Debug, error: CheckError) -> NestCheckError {
    NestCheckError::Kernel {
        name: mk.name.clone(),
        spec: format!("{spec:?}"),
        kernel: mk.to_string(),
        error: Box::new(error),
    }
}
