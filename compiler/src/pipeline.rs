//! The pipeline: problem to artifact, one stage after another.

use std::collections::HashMap;

use kiln_ir::nest::{Access, BufferId, Extent, Init, LoopNest, Matrix, Pack, Stmt, Tile, TileWindow};
use kiln_ir::{DType, PostOp, Problem};

use crate::artifact::{Artifact, Parts};
use crate::choose::{Options, choose_way};
use crate::emit::{self, Arguments, Function, clif::driver};
use crate::error::CompileError;
use crate::form;
use crate::link::link;
use crate::lower::lower;
use crate::microkernel::MicroKernel;
use crate::microkernel::build::{self, BuildError, How};
use crate::packed::PackedLayout;
use crate::schedule::{RhsAccess, Schedule};
use crate::target::{Target, VectorUnit};

/// Compiles `problem` for `target`. A pure function: the same arguments give the same bytes on every host.
pub fn compile(problem: &Problem, target: &Target, options: &Options) -> Result<Artifact, CompileError> {
    let internal = |stage: &'static str| {
        move |cause: Box<dyn std::error::Error + Send + Sync>| CompileError::Internal {
            stage,
            problem: Box::new(problem.clone()),
            cause,
        }
    };
    let (way, c, choice) = choose_way(problem, target, options)?;
    let unit = *target.unit(choice.schedule.isa).expect("verified: the target has the unit");
    let nest = lower(problem, &c, &choice.schedule, &unit, |_, _| {}).map_err(|e| internal("lower")(e.into()))?;
    nest.verify().and_then(|()| nest.verify_tasks()).map_err(|e| internal("nest")(e.into()))?;
    let plan = vectorize(&nest, &choice.schedule, &unit).map_err(|e| internal("microkernel")(e.into()))?;
    for k in &plan.kernels {
        k.verify().map_err(|e| internal("microkernel")(e.into()))?;
    }
    #[cfg(feature = "checked")]
    let checked = Some(check(&c, &choice.schedule, &unit, &plan).map_err(|e| internal("check")(e.into()))?);
    #[cfg(not(feature = "checked"))]
    let checked = None;
    let functions = emit_all(&nest, target, &plan).map_err(|e| internal("emit")(e.into()))?;
    let (image, ranges) = link(&functions, target.arch).map_err(|e| internal("link")(e.into()))?;
    let layout = PackedLayout::of(&c, &choice.schedule, target);
    let notes = choice.bf16.note(&c).into_iter().collect();
    let Plan { kernels, calls, .. } = plan;
    let parts =
        Parts { options: options.clone(), way, contraction: c, choice, nest, kernels, calls, layout, notes, checked };
    Ok(Artifact::new(problem.clone(), target.clone(), parts, functions, image, ranges))
}

/// Proves every micro-kernel against the nest.
#[cfg(feature = "checked")]
fn check(
    c: &kiln_ir::Contraction,
    schedule: &Schedule,
    unit: &VectorUnit,
    plan: &Plan<'_>,
) -> Result<crate::microkernel::check::Tally, crate::microkernel::check::NestCheckError> {
    let may_round = c.math.allows_bf16();
    crate::microkernel::check::check_nest(
        plan.nest,
        &plan.kernels,
        &plan.calls,
        schedule.form,
        unit.features.has(crate::target::Feature::Bf16),
        may_round,
    )
}

/// The identity of a micro-kernel: a tile or a copy without its place.
#[derive(PartialEq, Eq, Hash)]
enum KernelKey {
    Tile {
        size: [u64; 3],
        factors: [(BufferShape, u64, u64); 3],
        post: Vec<(PostOp, Option<Tensor>)>,
        init: Init,
        window: Option<Box<TileWindow>>,
        how: How,
    },
    Pack {
        /// K, width, what is filled of it, and the strides of the panel.
        extents: [u64; 5],
        src: (BufferShape, u64, u64),
        dst: BufferShape,
    },
}

/// A tensor that a post-op reads, and its strides.
type Tensor = (BufferId, u64, u64);

/// The properties of a buffer that a micro-kernel depends on.
#[derive(PartialEq, Eq, Hash)]
struct BufferShape {
    dtype: DType,
    interleave: u64,
}

fn described(nest: &LoopNest, m: &Matrix) -> (BufferShape, u64, u64) {
    let b = &nest.buffers[m.at.buffer.0 as usize];
    (BufferShape { dtype: b.dtype, interleave: b.interleave }, m.row, m.col)
}

/// The micro-kernels of a nest, and which one each kind of statement calls.
struct Plan<'a> {
    nest: &'a LoopNest,
    schedule: &'a Schedule,
    unit: &'a VectorUnit,
    kernels: Vec<MicroKernel>,
    keys: HashMap<KernelKey, usize>,
    /// The micro-kernel that each tile and copy calls, by its number; `None` for a copy that the driver makes.
    calls: Vec<Option<usize>>,
}

impl Plan<'_> {
    /// The way to compute a tile. A region's variables start from 0, so the constant tells which region a tile is in.
    fn how(&self, t: &Tile) -> How {
        let column = t.dst.at.index.last().map_or(0, |i| i.constant as u64);
        let region = match t.window {
            // What is read is a panel in every region, and loops are alike.
            Some(_) => self.schedule.regions.first(),
            None => self.schedule.regions.iter().find(|r| column < r.end),
        };
        How { unroll: region.map_or(1, |r| r.unroll), padded: region.is_some_and(|r| r.rhs != RhsAccess::InPlace) }
    }

    fn tile_key(&self, t: &Tile) -> KernelKey {
        KernelKey::Tile {
            size: [t.m, t.n, t.k],
            factors: [&t.lhs, &t.rhs, &t.dst].map(|m| described(self.nest, m)),
            // By buffer, as parameters are named after operands.
            post: t.post.iter().map(|(op, m)| (*op, m.as_ref().map(|m| (m.at.buffer, m.row, m.col)))).collect(),
            init: t.init,
            window: t.window.clone(),
            how: self.how(t),
        }
    }

    /// `None` for a copy that the driver makes itself.
    fn pack_key(&self, p: &Pack) -> Option<KernelKey> {
        let (Extent::Const(k), Extent::Const(width)) = (&p.k, &p.width) else { return None };
        let (dst, ..) = described(self.nest, &p.dst);
        let src = described(self.nest, &p.src);
        let by_kernel = dst.interleave > 1 || build::transpose::is_needed(self.nest, p);
        by_kernel.then_some(KernelKey::Pack { extents: [*k, *width, p.pitch, p.dst.row, p.dst.col], src, dst })
    }

    fn collect(&mut self, body: &[Stmt]) -> Result<(), BuildError> {
        for s in body {
            match s {
                Stmt::Loop(l) => self.collect(&l.body)?,
                Stmt::Tile(t) => {
                    let (key, how) = (self.tile_key(t), self.how(t));
                    let kernel = self.kernel(key, |plan, number| {
                        let name = format!("uk{number}_{}x{}x{}", t.m, t.n, t.k);
                        form::build(name, plan.nest, t, plan.unit, plan.schedule.form, how)
                    })?;
                    self.calls.push(Some(kernel));
                }
                Stmt::Pack(p) => {
                    let make =
                        |plan: &Self, number| build::pack::build(format!("pack{number}"), plan.nest, p, plan.unit);
                    let kernel = self.pack_key(p).map(|key| self.kernel(key, make)).transpose()?;
                    self.calls.push(kernel);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The number of the micro-kernel of this kind, made if it is the first.
    fn kernel(
        &mut self,
        key: KernelKey,
        make: impl FnOnce(&Self, usize) -> Result<MicroKernel, BuildError>,
    ) -> Result<usize, BuildError> {
        let number = self.kernels.len();
        if let Some(known) = self.keys.get(&key) {
            return Ok(*known);
        }
        let made = emit::assigned(&make(self, number)?, self.unit)?;
        self.kernels.push(made);
        self.keys.insert(key, number);
        Ok(number)
    }
}

impl driver::Callees for Plan<'_> {
    fn tile(&self, t: &Tile) -> (usize, Arguments) {
        let kernel = self.calls[t.number as usize].expect("a tile calls a micro-kernel");
        (kernel, emit::arguments(&self.kernels[kernel]))
    }

    fn pack(&self, p: &Pack) -> Option<usize> {
        self.calls[p.number as usize]
    }
}

/// The distinct micro-kernels of a nest.
fn vectorize<'a>(nest: &'a LoopNest, schedule: &'a Schedule, unit: &'a VectorUnit) -> Result<Plan<'a>, BuildError> {
    let mut plan = Plan { nest, schedule, unit, kernels: vec![], keys: HashMap::new(), calls: vec![] };
    plan.collect(&nest.body)?;
    Ok(plan)
}

/// True if a nest is one tile whose operands are the arguments, in order, from their starts: then no driver is needed.
fn is_single_tile(nest: &LoopNest) -> bool {
    let mut body = &nest.body;
    loop {
        match &body[..] {
            [Stmt::Loop(l)] if matches!(l.extent, Extent::Const(e) if e <= l.step) => body = &l.body,
            [Stmt::Tile(t)] => {
                let operands = t.post.iter().filter_map(|(_, m)| m.as_ref());
                let all = [&t.lhs, &t.rhs].into_iter().chain(operands).chain([&t.dst]);
                // The variables that are left belong to loops of one iteration: they are 0.
                let at_start = |a: &Access| a.index.iter().all(|i| i.constant == 0);
                return all.enumerate().all(|(at, m)| usize::from(m.at.buffer.0) == at && at_start(&m.at));
            }
            _ => return false,
        }
    }
}

/// The driver first, then the micro-kernels; or the only micro-kernel as the entry.
fn emit_all(nest: &LoopNest, target: &Target, plan: &Plan<'_>) -> Result<Vec<Function>, emit::EmitError> {
    let symbols: Vec<String> = plan.kernels.iter().map(|k| k.name.clone()).collect();
    if is_single_tile(nest)
        && let [only] = &plan.kernels[..]
    {
        return Ok(vec![emit::micro_kernel(only, target, Arguments::Block)?]);
    }
    let mut functions = vec![driver::emit("driver", nest, target, &symbols, plan)?];
    for k in &plan.kernels {
        functions.push(emit::micro_kernel(k, target, emit::arguments(k))?);
    }
    Ok(functions)
}
