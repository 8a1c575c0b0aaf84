//! The pipeline: problem to artifact, one stage after another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use kiln_ir::nest::{Access, BufferKind, Extent, Init, LoopNest, Stmt, Tile};
use kiln_ir::{Op, PostOp, Problem, ProblemError};

use crate::artifact::Artifact;
use crate::emit::{self, Arguments, Function, clif::driver};
use crate::link::link;
use crate::lower::lower;
use crate::microkernel::{MicroKernel, build};
use crate::schedule::{Choice, Schedule, ScheduleError, cost, search};
use crate::target::{Target, VectorUnit};

/// What a caller may choose. Part of the identity of what is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Instead of the cost model's choice.
    pub schedule: Option<Schedule>,
}

/// Why there is no artifact. The variant says who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The caller's problem is malformed.
    #[error("invalid problem: {0}")]
    Problem(#[from] ProblemError),
    /// The caller's schedule does not fit the problem or the target.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Valid, but not for this target.
    #[error("{what} is not supported on {target}")]
    Unsupported {
        /// What is asked for.
        what: String,
        /// Where.
        target: Box<Target>,
    },
    /// A defect of the compiler: a stage broke a rule.
    #[error("internal error in stage `{stage}` of `{problem}`: {cause}")]
    Internal {
        /// Which stage.
        stage: &'static str,
        /// The problem.
        problem: Box<Problem>,
        /// The rule broken.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The largest distance between rows of an operand that micro-kernels address with constants, in bytes.
const MAX_ROW_BYTES: u64 = 1 << 26;

/// Compiles `problem` for `target`. A pure function: the same arguments give the same bytes on every host.
pub fn compile(problem: &Problem, target: &Target, options: &Options) -> Result<Artifact, CompileError> {
    let internal = |stage: &'static str| {
        move |cause: Box<dyn std::error::Error + Send + Sync>| CompileError::Internal {
            stage,
            problem: Box::new(problem.clone()),
            cause,
        }
    };
    check_rows(problem, target)?;
    let choice = choose(problem, target, options)?;
    let unit = *target.unit(choice.schedule.isa).expect("verified: the target has the unit");
    let nest =
        lower(problem, &choice.schedule, u64::from(unit.lanes), |_, _| {}).map_err(|e| internal("lower")(e.into()))?;
    nest.verify().map_err(|e| internal("nest")(e.into()))?;
    let keyed = |t: &Tile| KernelKey::of(&nest, t, &choice.schedule);
    let (kernels, keys) = vectorize(&nest, &unit, &keyed).map_err(|e| internal("microkernel")(e.into()))?;
    for k in &kernels {
        k.verify().map_err(|e| internal("microkernel")(e.into()))?;
    }
    let functions = emit_all(&nest, target, &kernels, &|t| keys[&keyed(t)]).map_err(|e| internal("emit")(e.into()))?;
    let (image, ranges) = link(&functions, target.arch).map_err(|e| internal("link")(e.into()))?;
    Ok(Artifact::new(problem.clone(), target.clone(), choice, nest, kernels, functions, image, ranges))
}

fn check_rows(problem: &Problem, target: &Target) -> Result<(), CompileError> {
    for o in problem.operands() {
        if let [rows, cols] = o.shape[..]
            && rows > 1
            && cols * o.dtype.bytes() as u64 > MAX_ROW_BYTES
        {
            let what = format!("`{}` with rows of {cols} elements (at most {})", o.role, MAX_ROW_BYTES / 4);
            return Err(CompileError::Unsupported { what, target: Box::new(target.clone()) });
        }
    }
    Ok(())
}

/// The schedule: the caller's, checked, or the cost model's.
fn choose(problem: &Problem, target: &Target, options: &Options) -> Result<Choice, CompileError> {
    let Op::Matmul(shape) = problem.op();
    let Some(schedule) = &options.schedule else { return Ok(search(shape, problem.epilogue(), target)) };
    schedule.verify(shape, target)?;
    let prediction =
        cost::predict(shape, problem.epilogue(), schedule, target).ok_or_else(|| CompileError::Unsupported {
            what: format!("the vector unit {}", schedule.isa),
            target: Box::new(target.clone()),
        })?;
    Ok(Choice {
        schedule: schedule.clone(),
        prediction,
        candidates: vec![(schedule.clone(), prediction)],
        wasted_macs: schedule.wasted_macs(shape, target),
        macs: shape.macs(),
    })
}

/// What distinguishes micro-kernels: a tile without its place.
#[derive(PartialEq, Eq, Hash)]
struct KernelKey {
    size: [u64; 3],
    strides: [u64; 6],
    init: Init,
    post: Vec<PostOp>,
    rhs_is_packed: bool,
    unroll: u64,
}

impl KernelKey {
    fn of(nest: &LoopNest, t: &Tile, schedule: &Schedule) -> Self {
        // A region's variables start from 0, so the constant tells which region a tile is in.
        let column = t.dst.at.index.last().map_or(0, |i| i.constant as u64);
        let region = schedule.regions.iter().find(|r| column < r.end);
        Self {
            size: [t.m, t.n, t.k],
            strides: [t.dst.row, t.dst.col, t.lhs.row, t.lhs.col, t.rhs.row, t.rhs.col],
            init: t.init,
            post: t.post.iter().map(|p| p.0).collect(),
            rhs_is_packed: nest.buffers[t.rhs.at.buffer.0 as usize].kind == BufferKind::Scratch,
            unroll: region.map_or(1, |r| r.unroll),
        }
    }
}

/// The distinct micro-kernels of a nest, and which one each kind of tile calls.
fn vectorize(
    nest: &LoopNest,
    unit: &VectorUnit,
    keyed: &dyn Fn(&Tile) -> KernelKey,
) -> Result<(Vec<MicroKernel>, HashMap<KernelKey, usize>), build::BuildError> {
    let mut tiles = vec![];
    collect_tiles(&nest.body, &mut tiles);
    let (mut kernels, mut keys) = (vec![], HashMap::new());
    for t in tiles {
        let key = keyed(t);
        let unroll = key.unroll;
        if let Entry::Vacant(entry) = keys.entry(key) {
            let name = format!("uk{}_{}x{}x{}", kernels.len(), t.m, t.n, t.k);
            entry.insert(kernels.len());
            kernels.push(build::build(name, nest, t, unit, unroll)?);
        }
    }
    Ok((kernels, keys))
}

fn collect_tiles<'a>(body: &'a [Stmt], out: &mut Vec<&'a Tile>) {
    for s in body {
        match s {
            Stmt::Loop(l) => collect_tiles(&l.body, out),
            Stmt::Tile(t) => out.push(t),
            _ => {}
        }
    }
}

/// Whether a nest is one tile whose operands start where the arguments do: then no driver is needed.
fn is_single_tile(nest: &LoopNest) -> bool {
    let mut body = &nest.body;
    loop {
        match &body[..] {
            [Stmt::Loop(l)] if matches!(l.extent, Extent::Const(e) if e <= l.step) => body = &l.body,
            [Stmt::Tile(t)] => {
                let operands = t.post.iter().filter_map(|(_, a)| a.as_ref());
                let mut all = [&t.lhs.at, &t.rhs.at, &t.dst.at].into_iter().chain(operands);
                // The variables that are left belong to loops of one iteration: they are 0.
                let at_start = |a: &Access| {
                    nest.buffers[a.buffer.0 as usize].kind != BufferKind::Scratch
                        && a.index.iter().all(|i| i.constant == 0)
                };
                return all.all(at_start);
            }
            _ => return false,
        }
    }
}

/// The driver first, then the micro-kernels; or the only micro-kernel as the entry.
fn emit_all(
    nest: &LoopNest,
    target: &Target,
    kernels: &[MicroKernel],
    kernel_of: &dyn Fn(&Tile) -> usize,
) -> Result<Vec<Function>, emit::EmitError> {
    let symbols: Vec<String> = kernels.iter().map(|k| k.name.clone()).collect();
    if is_single_tile(nest)
        && let [only] = kernels
    {
        return Ok(vec![emit::micro_kernel(only, target, Arguments::Block)?]);
    }
    let mut functions = vec![driver::emit("driver", nest, target, &symbols, kernel_of)?];
    for k in kernels {
        functions.push(emit::micro_kernel(k, target, Arguments::Registers)?);
    }
    Ok(functions)
}
