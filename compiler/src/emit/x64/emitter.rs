//! The part of emission that the instruction sets of x86 share: the order of a function, and operations that are one instruction on
//! each.
//!
//! An [`Isa`] says how wide registers are and which instructions are those of lanewise operations. What takes another
//! sequence on each, is chosen by [`Memory`], [`Narrow`] and [`Arithmetic`].
//!
//! A sequence that needs more registers than its operation names takes dead ones. Where none is dead, a live one is kept in the red
//! zone below the stack pointer meanwhile.
//!
//! The function ends with `vzeroupper` and uses caller-saved registers, and only in loops over many streams others, which
//! it saves. Loop heads are aligned to 32 bytes, given that the function is placed at a multiple of 64.

use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};
use kiln_ir::DType;

use super::assembler::Assembler;
use super::demand::{Demand, MAX_REGISTERS, demand_after};
use super::error;
use super::pointers::{Pointers, memory};
use super::stream;
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::{Addr, Binary, Inst, MicroKernel, Op, P, Permute, Shift, Stmt, Unary, V};

/// Loop heads start at a multiple of this many bytes.
const LOOP_ALIGN: usize = 32;
/// Immediate of `vcmpps`: true if either operand is NaN.
pub(super) const UNORDERED: u32 = 3;
/// All bits but the sign.
const MAGNITUDE: u32 = u32::MAX >> 1;

/// An instruction set as data.
pub(super) trait Isa: Sized {
    /// f32 lanes of a register.
    const LANES: u16;
    /// Vector registers, at most [`MAX_REGISTERS`].
    const REGISTERS: u8;
    /// Its lanewise instructions.
    const CODES: Codes;
    /// The distance at which [streams](super::stream) are prefetched, in bytes.
    const AHEAD: i64;

    /// State that is prepared for a micro-kernel.
    fn new(mk: &MicroKernel) -> Self;

    /// The whole register.
    fn register(v: V) -> Register;
}

/// The instructions on whole registers, the last operand in a register or in memory.
pub(super) struct Codes {
    pub load: Code,
    pub store: Code,
    pub copy: Code,
    pub broadcast: Code,
    pub fma: Code,
    pub add: Code,
    pub sub: Code,
    pub mul: Code,
    pub div: Code,
    pub max: Code,
    pub min: Code,
    pub sqrt: Code,
    pub integer_add: Code,
    pub integer_sub: Code,
    pub and: Code,
    pub or: Code,
    pub xor: Code,
    pub shift_left: Code,
    pub shift_right_signed: Code,
    /// A word of bf16 to all words.
    pub broadcast_words: Code,
}

/// Loads and stores of f32.
pub(super) trait Memory {
    /// Loads `lanes` lanes. The others become 0 if `zero_rest` and hold anything otherwise.
    fn load(&mut self, d: V, src: MemoryOperand, lanes: u16, zero_rest: bool) -> Result<(), EmitError>;

    /// Loads 1 to 4 lanes, repeated in each 128 bits, zeros behind them.
    fn load_lanes(&mut self, d: V, src: MemoryOperand, count: u8) -> Result<(), EmitError>;

    /// Stores the first `lanes` lanes of `s`, which may be overwritten if it is `dead`.
    fn store(&mut self, s: V, dst: MemoryOperand, lanes: u16, dead: bool) -> Result<(), EmitError>;
}

/// The number that rounding to bf16 adds to all bits, less the last bit that stays.
pub(super) const ROUND: u32 = 0x7fff;
/// The bit that tells quiet NaNs.
pub(super) const QUIET: u32 = 0x0040_0000;

/// Loads and stores of bf16 and f16, which registers hold widened to f32: `dtype` is one of these.
pub(super) trait Narrow {
    /// Loads `lanes` lanes, zeros behind them.
    fn load_narrow(&mut self, d: V, src: MemoryOperand, lanes: u16, dtype: DType) -> Result<(), EmitError>;

    /// Loads 1 to 4 lanes, repeated in each 128 bits, zeros behind them.
    fn load_lanes_narrow(&mut self, d: V, src: MemoryOperand, count: u8, dtype: DType) -> Result<(), EmitError>;

    /// Sets all lanes to an element.
    fn broadcast_narrow(&mut self, d: V, src: MemoryOperand, dtype: DType) -> Result<(), EmitError>;

    /// Rounds the first `lanes` lanes of `s` and stores them.
    fn store_narrow(
        &mut self,
        s: V,
        dst: MemoryOperand,
        lanes: u16,
        dtype: DType,
        demand: Demand,
    ) -> Result<(), EmitError>;
}

/// Operations that take different sequences on each instruction set.
pub(super) trait Arithmetic {
    /// Emits what comes before the first operation.
    fn prepare(&mut self) -> Result<(), EmitError>;

    /// 0 in all lanes.
    fn zero(&mut self, d: V) -> Result<(), EmitError>;

    /// All ones in all lanes.
    fn ones(&mut self, d: V) -> Result<(), EmitError>;

    /// A lanewise operation whose second operand is `bits` in all lanes.
    fn with_constant(&mut self, code: Code, d: V, a: V, bits: u32) -> Result<(), EmitError>;

    /// `vmaxps` or `vminps` with NaN of either operand.
    fn extremum(&mut self, code: Code, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError>;

    /// Sums of pairs.
    fn pair_add(&mut self, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError>;

    /// A permutation by 32 or 64 bits.
    fn permute(&mut self, f: Permute, bits: u8, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError>;
}

/// A micro-kernel on its way.
pub(super) struct Emitter<'a, I> {
    mk: &'a MicroKernel,
    asm: Assembler<'a>,
    pointers: Pointers<'a>,
    /// For each operation still to come, what is needed after it.
    demand: std::vec::IntoIter<Demand>,
    /// Registers whose last write, on every path, [was no NaN](writes_ordered).
    ordered: [bool; MAX_REGISTERS as usize],
    /// The streams that the loop that is being emitted reads.
    streams: Vec<P>,
    pub(super) isa: I,
}

impl<'a, I: Isa> Emitter<'a, I>
where
    Self: Memory + Narrow + Arithmetic,
{
    /// Emits `mk`, see [`super::emit`].
    pub(super) fn emit(mk: &'a MicroKernel, arguments: Arguments) -> Result<Function, EmitError> {
        check::<I>(mk)?;
        let mut emitter = Self {
            mk,
            asm: Assembler::new(mk),
            pointers: Pointers::new(mk, arguments)?,
            demand: demand_after(mk).into_iter(),
            ordered: [false; MAX_REGISTERS as usize],
            streams: vec![],
            isa: I::new(mk),
        };
        emitter.pointers.enter(&mut emitter.asm)?;
        emitter.prepare()?;
        for stmt in &mk.body {
            match stmt {
                Stmt::Inst(i) => emitter.inst(i)?,
                Stmt::Loop { trips: 1, body, .. } => body.iter().try_for_each(|i| emitter.inst(i))?,
                Stmt::Loop { trips, why, body } => emitter.repeat(*trips, why, body)?,
            }
        }
        emitter.note("return");
        emitter.pointers.leave(&mut emitter.asm)?;
        emitter.put(Ok(Instruction::with(Code::VEX_Vzeroupper)))?;
        emitter.put(Ok(Instruction::with(Code::Retnq)))?;
        Ok(emitter.asm.finish())
    }

    /// A loop of several iterations.
    fn repeat(&mut self, trips: u64, why: &str, body: &[Inst]) -> Result<(), EmitError> {
        // What the body writes otherwise may be NaN in the second iteration; after the loop it may be known again.
        for d in body.iter().filter(|i| !writes_ordered(&i.op)).filter_map(|i| i.op.defined()) {
            self.ordered[usize::from(d.0)] = false;
        }
        self.asm.note(why);
        self.pointers.enter_loop(&mut self.asm, trips, body)?;
        self.asm.align(LOOP_ALIGN);
        let head = self.asm.offset();
        self.streams = stream::streams(self.mk, body);
        body.iter().try_for_each(|i| self.inst(i))?;
        self.streams.clear();
        self.asm.note(format!("{why}: next"));
        self.pointers.leave_loop(&mut self.asm, trips, head)
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), EmitError> {
        let demand = self.demand.next().unwrap_or_default();
        self.asm.note(inst.why.clone());
        match inst.op {
            Op::Zero { d } | Op::Const { d, bits: 0 } => self.zero(d)?,
            Op::Const { d, bits: u32::MAX } => self.ones(d)?,
            Op::Const { d, bits } => {
                self.put_constant(&[bits], |m| Instruction::with2(I::CODES.broadcast, I::register(d), m))?;
            }
            Op::Load { d, src: addr, lanes } => match self.operand(addr)? {
                (DType::F32, src) if lanes == I::LANES => {
                    self.put(Instruction::with2(I::CODES.load, I::register(d), src))?;
                    if self.streams.contains(&addr.param) && addr.offset % stream::LINE == 0 {
                        self.note("what comes later, into the second cache");
                        self.put(Instruction::with1(Code::Prefetcht1_m8, beyond(src, I::AHEAD)))?;
                    }
                }
                (DType::F32, src) => self.load(d, src, lanes, demand.of(d) > lanes)?,
                (dtype @ (DType::Bf16 | DType::F16), src) => self.load_narrow(d, src, lanes, dtype)?,
            },
            Op::LoadLanes { d, src, count } => match self.operand(src)? {
                (DType::F32, src) => self.load_lanes(d, src, count)?,
                (dtype @ (DType::Bf16 | DType::F16), src) => self.load_lanes_narrow(d, src, count, dtype)?,
            },
            Op::Broadcast { d, src } => match self.operand(src)? {
                (DType::F32, src) => self.put(Instruction::with2(I::CODES.broadcast, I::register(d), src))?,
                (dtype @ (DType::Bf16 | DType::F16), src) => self.broadcast_narrow(d, src, dtype)?,
            },
            Op::Store { s, dst, lanes } => match self.operand(dst)? {
                (DType::F32, dst) if lanes == I::LANES => {
                    self.put(Instruction::with2(I::CODES.store, dst, I::register(s)))?;
                }
                (DType::F32, dst) => self.store(s, dst, lanes, demand.of(s) == 0)?,
                (dtype @ (DType::Bf16 | DType::F16), dst) => self.store_narrow(s, dst, lanes, dtype, demand)?,
            },
            Op::Fma { d, a, b } => self.lanewise(I::CODES.fma, d, a, b)?,
            Op::Binary { f, d, a, b } => self.binary(f, d, a, b, demand)?,
            Op::Unary { f: Unary::Move, d, a } if d == a => {}
            Op::Unary { f: Unary::Move, d, a } => {
                self.put(Instruction::with2(I::CODES.copy, I::register(d), I::register(a)))?;
            }
            Op::Unary { f: Unary::Sqrt, d, a } => {
                self.put(Instruction::with2(I::CODES.sqrt, I::register(d), I::register(a)))?;
            }
            Op::Unary { f: Unary::Abs, d, a } => self.with_constant(I::CODES.and, d, a, MAGNITUDE)?,
            Op::Shift { f: Shift::Left, d, a, by } => self.shift(I::CODES.shift_left, d, a, by.into())?,
            Op::Shift { f: Shift::RightSigned, d, a, by } => {
                self.shift(I::CODES.shift_right_signed, d, a, by.into())?;
            }
            Op::PairAdd { d, a, b } => self.pair_add(d, a, b, demand)?,
            Op::Permute { f, bits, d, a, b } => self.permute(f, bits, d, a, b, demand)?,
            Op::FmaLane { .. }
            | Op::LoadRaw { .. }
            | Op::LoadRawQuad { .. }
            | Op::StoreRaw { .. }
            | Op::Mmla { .. }
            | Op::Dot2 { .. }
            | Op::Dot2Lane { .. }
            | Op::Narrow { .. }
            | Op::NarrowPairs { .. } => {
                return Err(error(self.mk, format!("no such operation on {}: {}", self.mk.isa, inst.op)));
            }
        }
        if let Some(d) = inst.op.defined() {
            self.ordered[usize::from(d.0)] = writes_ordered(&inst.op);
        }
        Ok(())
    }

    fn binary(&mut self, f: Binary, d: V, a: V, b: V, demand: Demand) -> Result<(), EmitError> {
        let code = match f {
            Binary::Add => I::CODES.add,
            Binary::Sub => I::CODES.sub,
            Binary::Mul => I::CODES.mul,
            Binary::Div => I::CODES.div,
            Binary::Max | Binary::Min => {
                let code = if f == Binary::Max { I::CODES.max } else { I::CODES.min };
                // The second source is the result if either is NaN.
                return match [a, b].map(|v| self.ordered[usize::from(v.0)]) {
                    [true, _] => self.lanewise(code, d, a, b),
                    [false, true] => self.lanewise(code, d, b, a),
                    [false, false] => self.extremum(code, d, a, b, demand),
                };
            }
            Binary::IAdd => I::CODES.integer_add,
            Binary::ISub => I::CODES.integer_sub,
            Binary::And => I::CODES.and,
            Binary::Or => I::CODES.or,
            Binary::Xor => I::CODES.xor,
        };
        self.lanewise(code, d, a, b)
    }

    /// The memory at `addr` and what it holds.
    fn operand(&mut self, addr: Addr) -> Result<(DType, MemoryOperand), EmitError> {
        let dtype = self.mk.params[usize::from(addr.param.0)].dtype;
        Ok((dtype, self.pointers.operand(&mut self.asm, addr)?))
    }
}

impl<I: Isa> Emitter<'_, I> {
    /// Appends an instruction.
    pub(super) fn put(&mut self, instruction: Result<Instruction, IcedError>) -> Result<(), EmitError> {
        self.asm.put(instruction)
    }

    /// Appends the instruction that `build` makes of an operand in memory that holds `words`.
    pub(super) fn put_constant(
        &mut self,
        words: &[u32],
        build: impl FnOnce(MemoryOperand) -> Result<Instruction, IcedError>,
    ) -> Result<(), EmitError> {
        self.asm.put_constant(words, build)
    }

    /// States why the next instructions are there.
    pub(super) fn note(&mut self, text: &str) {
        self.asm.note(text);
    }

    /// An operation on whole registers.
    pub(super) fn lanewise(&mut self, code: Code, d: V, a: V, b: V) -> Result<(), EmitError> {
        self.put(Instruction::with3(code, I::register(d), I::register(a), I::register(b)))
    }

    /// A shift of words by `by` bits.
    pub(super) fn shift(&mut self, code: Code, d: V, a: V, by: u32) -> Result<(), EmitError> {
        self.put(Instruction::with3(code, I::register(d), I::register(a), by))
    }

    /// Calls `emit` with registers that it may overwrite, none of which is in `operands`: dead ones, or live ones that
    /// are put back afterwards.
    pub(super) fn with_temporaries<const N: usize>(
        &mut self,
        operands: &[V],
        demand: Demand,
        emit: impl FnOnce(&mut Self, [V; N]) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        let others = |live: bool| {
            let all = (0..I::REGISTERS).map(V);
            all.filter(move |v| (demand.of(*v) > 0) == live && !operands.contains(v))
        };
        let mut temporaries = others(false).chain(others(true));
        // Three operands and two temporaries at most.
        let temporaries = [(); N].map(|()| temporaries.next().expect("there are more registers"));
        let saved = || temporaries.iter().enumerate().filter(|(_, v)| demand.of(**v) > 0);
        // The red zone has 128 bytes.
        let slot = |i: usize| MemoryOperand::with_base_displ(Register::RSP, -4 * i64::from(I::LANES) * (i as i64 + 1));
        for (i, v) in saved() {
            self.put(Instruction::with2(I::CODES.store, slot(i), I::register(*v)))?;
        }
        emit(self, temporaries)?;
        for (i, v) in saved() {
            self.put(Instruction::with2(I::CODES.load, I::register(*v), slot(i)))?;
        }
        Ok(())
    }
}

/// Refuses what no sequence of instructions could express, so that the rest may index by register and parameter.
fn check<I: Isa>(mk: &MicroKernel) -> Result<(), EmitError> {
    let (most_lanes, most_registers) = (I::LANES, I::REGISTERS);
    let require = |holds: bool, what: &dyn Fn() -> String| if holds { Ok(()) } else { Err(error(mk, what())) };
    require(mk.lanes == I::LANES.into(), &|| format!("registers have {most_lanes} lanes, not {}", mk.lanes))?;
    require(mk.registers <= most_registers, &|| format!("there are {most_registers} registers, not {}", mk.registers))?;
    for stmt in &mk.body {
        let insts = match stmt {
            Stmt::Inst(i) => std::slice::from_ref(i),
            Stmt::Loop { trips, body, .. } => {
                require(*trips > 0, &|| "a loop of no trips".to_owned())?;
                body
            }
        };
        for Inst { op, .. } in insts {
            for v in op.used().chain(op.defined()) {
                require(v.0 < mk.registers, &|| format!("v{} of {} registers in {op:?}", v.0, mk.registers))?;
            }
            let known = op.touched().is_none_or(|t| usize::from(t.addr.param.0) < mk.params.len());
            require(known, &|| format!("no such parameter: {op:?}"))?;
            if let Some(touched) = op.touched() {
                let most = op.most_elements(mk.lanes);
                let exist = (1..=most).contains(&touched.elements.into());
                require(exist, &|| {
                    format!("{} elements, of which 1 to {most} can be touched, in {op}", touched.elements)
                })?;
            }
            if let Err(rule) = op.check() {
                return Err(error(mk, format!("{op}: {rule}")));
            }
            require(op.exists_on(mk.isa), &|| format!("no such operation on {}: {op}", mk.isa))?;
        }
    }
    Ok(())
}

/// True if what `op` writes is no NaN, whatever its operands are.
fn writes_ordered(op: &Op) -> bool {
    match op {
        Op::Zero { .. } => true,
        Op::Const { bits, .. } => !f32::from_bits(*bits).is_nan(),
        _ => false,
    }
}

/// The operand `bytes` after `operand`.
pub(super) fn beyond(operand: MemoryOperand, bytes: i64) -> MemoryOperand {
    memory(operand.base, operand.displacement + bytes)
}
