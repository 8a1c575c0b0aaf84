//! The machine's peak, measured by a JITted loop of independent multiply-adds.

use kiln_compiler::emit::{self, Arguments};
use kiln_compiler::microkernel::{Access, Addr, Inst, MicroKernel, Op, P, Param, Region, Stmt, V};
use kiln_compiler::target::{Multiplier, Target, VectorUnit};
use kiln_ir::DType;

use crate::code_memory::{CodePool, LoadedCode};
use crate::cpu::{check_thread, detect, supports};
use crate::error::RuntimeError;

/// Iterations of the loop: long enough that entering and leaving it do not count.
const TRIPS: u64 = 2000;
/// Multiply-adds per accumulator and iteration.
const REPEAT: u64 = 4;

/// A program that does nothing but multiply-adds, as many at once as the target's vector unit takes.
#[derive(Debug)]
pub struct Probe {
    code: LoadedCode,
    sink: Vec<f32>,
    flops: u64,
}

impl Probe {
    /// Builds the probe for the fastest vector unit of `target`, which this machine must have.
    pub fn new(target: &Target) -> Result<Self, RuntimeError> {
        supports(&detect()?, target)?;
        check_thread(target)?;
        let rate = |u: &&VectorUnit| u.lanes * u.fma_pipes;
        let unit = target.units.iter().max_by_key(rate).expect("a target has a vector unit");
        let mk = program(unit);
        let flops = mk.counts().flops;
        let function = emit::micro_kernel(&mk, target, Arguments::Registers).map_err(|e| {
            kiln_compiler::CompileError::Unsupported { what: e.to_string(), target: Box::new(target.clone()) }
        })?;
        let code = LoadedCode::publish(&CodePool::new()?, &function.bytes)?;
        Ok(Self { code, sink: vec![0.0; 64], flops })
    }

    /// Floating-point operations of one call.
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// Executes them once.
    pub fn call(&mut self) {
        // SAFETY: the code is a micro-kernel of one parameter, whose region is within `sink`: 64 elements hold the
        // longest vector there is (2048 bits).
        let f = unsafe { std::mem::transmute::<*const u8, unsafe extern "C" fn(*mut f32)>(self.code.entry()) };
        // SAFETY: as above; `new` checked that this machine executes the target's instructions.
        unsafe { f(self.sink.as_mut_ptr()) }
    }
}

fn program(unit: &VectorUnit) -> MicroKernel {
    let why = || "peak";
    let (a, b) = (V(0), V(1));
    let accumulators = (unit.fma_latency * unit.fma_pipes).clamp(8, u32::from(unit.registers) - 4);
    let acc = |i: u32| V(2 + i);
    let all = 0..accumulators;
    let once = |op| Stmt::Inst(Inst::new(op, why()));
    let mut body: Vec<Stmt> = [a, b].into_iter().chain(all.clone().map(acc)).map(|d| once(Op::Zero { d })).collect();
    let multiply = |d| match unit.multiplier {
        Multiplier::Lane { .. } => Op::FmaLane { d, a: b, b: a, lane: 0 },
        Multiplier::Broadcast => Op::Fma { d, a, b },
    };
    let repeated = (0..REPEAT).flat_map(|_| all.clone()).map(|i| Inst::new(multiply(acc(i)), why())).collect();
    body.push(Stmt::Loop { trips: TRIPS, why: "peak".into(), body: repeated });
    for i in all {
        let dst = Addr { param: P(0), offset: 0, step: 0 };
        body.push(once(Op::Store { s: acc(i), dst, lanes: unit.lanes as u16 }));
    }
    let bytes = u64::from(unit.lanes) * 4;
    let sink = Param {
        name: "sink".into(),
        dtype: DType::F32,
        access: Access::Write,
        region: Region { rows: 1, row_bytes: bytes, row_stride: bytes },
    };
    MicroKernel {
        name: "probe".into(),
        isa: unit.isa,
        lanes: unit.lanes,
        registers: unit.registers.into(),
        params: vec![sink],
        body,
    }
}
