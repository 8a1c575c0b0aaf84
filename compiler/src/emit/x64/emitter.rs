//! The part of emission that the instruction sets of x86 share: the order of a function, and operations that are one instruction on
//! each.
//!
//! An [`Isa`] says how wide registers are and which instructions are those on whole registers. What takes another
//! sequence on each, is chosen by [`Memory`], [`Narrow`] and [`Arithmetic`].
//!
//! A sequence that needs more registers than its operation names takes the [temporary](crate::microkernel::Temps) ones. [`needs`] says how
//! many they are. Slots lie at the stack pointer.
//!
//! The function ends with `vzeroupper` and uses caller-saved registers, and only in loops over many streams others, which
//! it saves. Loop heads are aligned to 32 bytes, given that the function is placed at a multiple of 64.

use std::collections::BTreeSet;

use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};
use kiln_ir::DType;

use super::assembler::Assembler;
use super::demand::{Demand, MAX_REGISTERS, demand_after};
use super::error;
use super::pointers::{Pointers, memory};
use super::stream;
use crate::emit::lanewise::{self, X86Unary};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::assign::Need;
use crate::microkernel::{Addr, Binary, Factors, Inst, MicroKernel, Op, P, Permute, Shift, Stmt, Unary, V};
use crate::target::{Feature, Target};

/// Loop heads start at a multiple of this many bytes.
const LOOP_ALIGN: usize = 32;
/// Immediate of `vcmpps`: true if either operand is NaN.
pub(super) const UNORDERED: u32 = 3;

/// An instruction set as data.
pub(super) trait Isa: Sized {
    /// f32 lanes of a register.
    const LANES: u16;
    /// Vector registers, at most [`MAX_REGISTERS`].
    const REGISTERS: u8;
    /// Its other instructions on whole registers.
    const CODES: Codes;
    /// Its column in the table of [lanewise] instructions.
    const COLUMN: usize;
    /// The distance at which [streams](super::stream) are prefetched, in bytes.
    const AHEAD: i64;

    /// State that is prepared for a micro-kernel.
    fn new(mk: &MicroKernel) -> Self;

    /// The registers that a store to memory of this type overwrites.
    fn store_temps(dtype: DType) -> u8;

    /// The registers that a maximum or minimum of operands that both may be NaN overwrites.
    const EXTREMUM_TEMPS: u8;

    /// The registers that a sum of pairs overwrites.
    const PAIR_ADD_TEMPS: u8;

    /// What a permutation by elements of 32 or 64 bits needs.
    fn permute_need(f: Permute, bits: u8) -> Need;

    /// The whole register.
    fn register(v: V) -> Register;

    /// The instruction of a lanewise operation.
    fn binary(f: Binary) -> Code {
        lanewise::x86_binary(f)[Self::COLUMN]
    }

    /// The instruction of a shift by an immediate.
    fn shift(f: Shift) -> Code {
        lanewise::x86_shift(f)[Self::COLUMN]
    }
}

/// The instructions on whole registers, the last operand in a register or in memory.
pub(super) struct Codes {
    pub load: Code,
    pub store: Code,
    pub broadcast: Code,
    pub integer_multiply: Code,
    pub fma: Code,
    /// A word of bf16 to all words.
    pub broadcast_words: Code,
    /// The sums of two products of integers of 16 bits.
    pub multiply_pairs: Code,
    /// Dot products of AVX512_VNNI that are added to the result: of integers of 16 bits, and of u8 with s8.
    pub dot: Option<[Code; 2]>,
    /// Shifts to the left and unsigned ones to the right, of halves of words and of words.
    pub shifts: [[Code; 2]; 2],
}

/// Loads and stores of words.
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

/// Loads and stores of elements of one and two bytes, which registers hold as words: `dtype` is such a type, and one of floating-point
/// numbers in a store.
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
        temps: &[V],
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
    fn extremum(&mut self, code: Code, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError>;

    /// Sums of pairs.
    fn pair_add(&mut self, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError>;

    /// A permutation by 32 or 64 bits.
    fn permute(&mut self, f: Permute, bits: u8, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError>;
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
    /// The slots in which such a register was kept.
    ordered_slots: BTreeSet<u16>,
    /// Bytes of the slots.
    frame: i64,
    /// The streams that the loop that is being emitted reads.
    streams: Vec<P>,
    /// There is AVX512_VNNI.
    has_vnni: bool,
    pub(super) isa: I,
}

impl<'a, I: Isa> Emitter<'a, I>
where
    Self: Memory + Narrow + Arithmetic,
{
    /// Emits `mk`, see [`super::emit`].
    pub(super) fn emit(mk: &'a MicroKernel, target: &Target, arguments: Arguments) -> Result<Function, EmitError> {
        check::<I>(mk)?;
        let insts = || mk.body.iter().flat_map(Stmt::insts);
        let slots = insts().filter_map(|i| i.op.slot()).max().map_or(0, |last| i64::from(last) + 1);
        let mut emitter = Self {
            mk,
            asm: Assembler::new(mk),
            pointers: Pointers::new(mk, arguments)?,
            demand: demand_after(mk).into_iter(),
            ordered: [false; MAX_REGISTERS as usize],
            ordered_slots: BTreeSet::new(),
            frame: slots * 4 * i64::from(I::LANES),
            streams: vec![],
            has_vnni: target.has(Feature::Vnni),
            isa: I::new(mk),
        };
        emitter.pointers.enter(&mut emitter.asm)?;
        emitter.move_stack([Code::Sub_rm64_imm8, Code::Sub_rm64_imm32])?;
        emitter.prepare()?;
        for stmt in &mk.body {
            match stmt {
                Stmt::Inst(i) => emitter.inst(i)?,
                Stmt::Loop { trips: 1, body, .. } => body.iter().try_for_each(|i| emitter.inst(i))?,
                Stmt::Loop { trips, why, body } => emitter.repeat(*trips, why, body)?,
            }
        }
        emitter.note("return");
        emitter.move_stack([Code::Add_rm64_imm8, Code::Add_rm64_imm32])?;
        emitter.pointers.leave(&mut emitter.asm)?;
        emitter.put(Ok(Instruction::with(Code::VEX_Vzeroupper)))?;
        emitter.put(Ok(Instruction::with(Code::Retnq)))?;
        Ok(emitter.asm.finish())
    }

    /// Makes room for slots, or takes it away, by an instruction that is short or not.
    fn move_stack(&mut self, [short, long]: [Code; 2]) -> Result<(), EmitError> {
        if self.frame == 0 {
            return Ok(());
        }
        self.note("slots");
        let code = if self.frame < 128 { short } else { long };
        self.put(Instruction::with2(code, Register::RSP, self.frame as i32))
    }

    /// A loop of several iterations.
    fn repeat(&mut self, trips: u64, why: &str, body: &[Inst]) -> Result<(), EmitError> {
        // What the body writes otherwise may be NaN in the second iteration; after the loop it may be known again.
        for d in body.iter().filter(|i| !writes_ordered(&i.op)).filter_map(|i| i.op.defined()) {
            self.ordered[d.0 as usize] = false;
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
        let temps = inst.temps.as_slice();
        self.asm.note(inst.why.clone());
        match inst.op {
            Op::Zero { d } | Op::Const { d, bits: 0 } => self.zero(d)?,
            Op::Const { d, bits: u32::MAX } => self.ones(d)?,
            Op::Const { d, bits } => {
                self.put_constant(&[bits], |m| Instruction::with2(I::CODES.broadcast, I::register(d), m))?;
            }
            Op::Load { d, src: addr, lanes } => match self.operand(addr)? {
                (dtype, src) if !dtype.is_narrow() && lanes == I::LANES => {
                    self.put(Instruction::with2(I::CODES.load, I::register(d), src))?;
                    if self.streams.contains(&addr.param) && addr.offset % stream::LINE == 0 {
                        self.note("what comes later, into the second cache");
                        self.put(Instruction::with1(Code::Prefetcht1_m8, beyond(src, I::AHEAD)))?;
                    }
                }
                (dtype, src) if !dtype.is_narrow() => self.load(d, src, lanes, demand.of(d) > lanes)?,
                (dtype, src) => self.load_narrow(d, src, lanes, dtype)?,
            },
            Op::LoadLanes { d, src, count } => match self.operand(src)? {
                (dtype, src) if !dtype.is_narrow() => self.load_lanes(d, src, count)?,
                (dtype, src) => self.load_lanes_narrow(d, src, count, dtype)?,
            },
            Op::Broadcast { d, src } => match self.operand(src)? {
                (dtype, src) if !dtype.is_narrow() => {
                    self.put(Instruction::with2(I::CODES.broadcast, I::register(d), src))?
                }
                (dtype, src) => self.broadcast_narrow(d, src, dtype)?,
            },
            Op::Store { s, dst, lanes } => match self.operand(dst)? {
                (dtype, dst) if !dtype.is_narrow() && lanes == I::LANES => {
                    self.put(Instruction::with2(I::CODES.store, dst, I::register(s)))?;
                }
                (dtype, dst) if !dtype.is_narrow() => self.store(s, dst, lanes, demand.of(s) == 0)?,
                (dtype, dst) => self.store_narrow(s, dst, lanes, dtype, temps)?,
            },
            Op::Fma { d, a, b } => self.lanewise(I::CODES.fma, d, a, b)?,
            Op::Mla { d, a, b } => {
                let [t] = self.temps(temps)?;
                self.lanewise(I::CODES.integer_multiply, t, a, b)?;
                self.lanewise(I::binary(Binary::IAdd), d, d, t)?;
            }
            Op::Binary { f, d, a, b } => self.binary(f, d, a, b, temps)?,
            Op::Unary { f: Unary::Move, d, a } if d == a => {}
            Op::Unary { f, d, a } => match lanewise::x86_unary(f) {
                X86Unary::One(codes) => {
                    self.put(Instruction::with2(codes[I::COLUMN], I::register(d), I::register(a)))?
                }
                X86Unary::Mask(bits) => self.with_constant(I::binary(Binary::And), d, a, bits)?,
            },
            Op::Shift { f, d, a, by } => self.shift(I::shift(f), d, a, by.into())?,
            Op::PairAdd { d, a, b } => self.pair_add(d, a, b, temps)?,
            Op::Permute { f: Permute::TrnEven, bits: bits @ (8 | 16), d, a, b } => {
                self.interleave_low(bits, d, a, b, temps)?;
            }
            Op::Permute { f, bits, d, a, b } => self.permute(f, bits, d, a, b, temps)?,
            Op::Spill { s, slot } => {
                let kept = self.ordered[s.0 as usize];
                if kept {
                    self.ordered_slots.insert(slot)
                } else {
                    self.ordered_slots.remove(&slot)
                };
                self.put(Instruction::with2(I::CODES.store, self.slot(slot), I::register(s)))?;
            }
            Op::Reload { d, slot } => {
                self.put(Instruction::with2(I::CODES.load, I::register(d), self.slot(slot)))?;
            }
            Op::LoadRaw { d, src: addr, elements } => {
                let lanes = self.words(addr, elements)?;
                match self.operand(addr)?.1 {
                    src if lanes == I::LANES => self.put(Instruction::with2(I::CODES.load, I::register(d), src))?,
                    src => self.load(d, src, lanes, true)?,
                }
            }
            Op::StoreRaw { s, dst: addr, elements } => {
                let lanes = self.words(addr, elements)?;
                match self.operand(addr)?.1 {
                    dst if lanes == I::LANES => self.put(Instruction::with2(I::CODES.store, dst, I::register(s)))?,
                    dst => self.store(s, dst, lanes, demand.of(s) == 0)?,
                }
            }
            Op::BroadcastRaw { d, src: addr, elements } => {
                self.words(addr, elements)?;
                let src = self.operand(addr)?.1;
                self.put(Instruction::with2(I::CODES.broadcast, I::register(d), src))?;
            }
            Op::Dot { f, d, a, b } => self.dot(f, d, a, b, temps)?,
            Op::FmaLane { .. }
            | Op::LoadRawQuad { .. }
            | Op::Mmla { .. }
            | Op::DotLane { .. }
            | Op::Narrow { .. }
            | Op::NarrowPairs { .. } => {
                return Err(error(self.mk, format!("no such operation on {}: {}", self.mk.isa, inst.op)));
            }
        }
        for t in temps {
            self.ordered[t.0 as usize] = false;
        }
        if let Some(d) = inst.op.defined() {
            let reloads = inst.op.slot().is_some_and(|slot| self.ordered_slots.contains(&slot));
            self.ordered[d.0 as usize] = reloads || writes_ordered(&inst.op);
        }
        Ok(())
    }

    fn binary(&mut self, f: Binary, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError> {
        let code = I::binary(f);
        if let Binary::Max | Binary::Min = f {
            // The second source is the result if either is NaN.
            return match [a, b].map(|v| self.ordered[v.0 as usize]) {
                [true, _] => self.lanewise(code, d, a, b),
                [false, true] => self.lanewise(code, d, b, a),
                [false, false] => self.extremum(code, d, a, b, temps),
            };
        }
        self.lanewise(code, d, a, b)
    }

    /// The words of elements that are not converted, which are whole ones.
    fn words(&self, addr: Addr, elements: u16) -> Result<u16, EmitError> {
        let bytes = elements * self.mk.params[usize::from(addr.param.0)].dtype.bytes() as u16;
        match bytes.is_multiple_of(4) {
            true => Ok(bytes / 4),
            false => Err(self.error(format!("{bytes} bytes, and not words, that are not converted"))),
        }
    }

    /// Adds dot products, by one instruction if there is one.
    fn dot(&mut self, f: Factors, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError> {
        let dot = I::CODES.dot.filter(|_| self.has_vnni);
        match (f, dot) {
            (Factors::S16, Some([code, _])) | (Factors::U8S8, Some([_, code])) => self.lanewise(code, d, a, b),
            (Factors::S8U8, Some([_, code])) => self.lanewise(code, d, b, a),
            (Factors::S16, None) => {
                let [t] = self.temps(temps)?;
                self.lanewise(I::CODES.multiply_pairs, t, a, b)?;
                self.lanewise(I::binary(Binary::IAdd), d, d, t)
            }
            (Factors::Bf16 | Factors::S8 | Factors::U8 | Factors::U8S8 | Factors::S8U8, _) => {
                Err(self.error(format!("no dot product of {f:?}")))
            }
        }
    }

    /// The low elements of `bits`, 8 or 16, of each pair of such elements of `a`, each followed by that of `b`.
    fn interleave_low(&mut self, bits: u8, d: V, a: V, b: V, temps: &[V]) -> Result<(), EmitError> {
        let [t] = self.temps(temps)?;
        let ([left, right], bits) = (I::CODES.shifts[usize::from(bits / 16)], bits.into());
        self.shift(left, t, b, bits)?;
        self.shift(left, d, a, bits)?;
        self.shift(right, d, d, bits)?;
        self.lanewise(I::binary(Binary::Or), d, d, t)
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

    /// The memory of a slot.
    fn slot(&self, slot: u16) -> MemoryOperand {
        memory(Register::RSP, 4 * i64::from(I::LANES) * i64::from(slot))
    }

    /// The error of an operation that cannot be expressed.
    pub(super) fn error(&self, what: impl Into<String>) -> EmitError {
        error(self.mk, what)
    }

    /// The first `N` temporary registers of an operation.
    pub(super) fn temps<const N: usize>(&self, temps: &[V]) -> Result<[V; N], EmitError> {
        let first = temps.first_chunk().copied();
        first.ok_or_else(|| self.error(format!("an operation needs {N} temporary registers")))
    }
}

/// What the operations of a program need, in order: a maximum needs a register unless one operand is known to be no NaN.
pub(super) fn needs<I: Isa>(program: &MicroKernel) -> Vec<Need> {
    let insts = || program.body.iter().flat_map(Stmt::insts);
    let mut may_be_nan = vec![false; program.registers as usize];
    for inst in insts().filter(|i| !writes_ordered(&i.op)) {
        if let Some(nan) = inst.op.defined().and_then(|d| may_be_nan.get_mut(d.0 as usize)) {
            *nan = true;
        }
    }
    let is_nan = |v: V| may_be_nan.get(v.0 as usize).copied().unwrap_or(true);
    let need = |op: &Op| {
        let temps = match *op {
            Op::Binary { f: Binary::Max | Binary::Min, a, b, .. } if is_nan(a) && is_nan(b) => I::EXTREMUM_TEMPS,
            Op::Store { dst, .. } => program.dtype(dst).map_or(0, I::store_temps),
            Op::PairAdd { .. } => I::PAIR_ADD_TEMPS,
            Op::Permute { bits: 8 | 16, .. } | Op::Mla { .. } | Op::Dot { f: Factors::S16, .. } => 1,
            Op::Permute { f, bits, .. } => return I::permute_need(f, bits),
            Op::Zero { .. }
            | Op::Const { .. }
            | Op::Load { .. }
            | Op::LoadLanes { .. }
            | Op::Broadcast { .. }
            | Op::LoadRaw { .. }
            | Op::BroadcastRaw { .. }
            | Op::StoreRaw { .. }
            | Op::Fma { .. }
            | Op::Binary { .. }
            | Op::Unary { .. }
            | Op::Shift { .. }
            | Op::Dot { .. }
            | Op::Spill { .. }
            | Op::Reload { .. } => 0,
            // There is none of these on x86.
            Op::LoadRawQuad { .. }
            | Op::FmaLane { .. }
            | Op::Mmla { .. }
            | Op::DotLane { .. }
            | Op::Narrow { .. }
            | Op::NarrowPairs { .. } => 0,
        };
        Need { temps, is_apart: false }
    };
    insts().map(|inst| need(&inst.op)).collect()
}

/// Refuses what no sequence of instructions could express, so that the rest may index by register and parameter.
fn check<I: Isa>(mk: &MicroKernel) -> Result<(), EmitError> {
    let (most_lanes, most_registers) = (I::LANES, I::REGISTERS);
    let require = |holds: bool, what: &dyn Fn() -> String| if holds { Ok(()) } else { Err(error(mk, what())) };
    require(mk.lanes == I::LANES.into(), &|| format!("registers have {most_lanes} lanes, not {}", mk.lanes))?;
    require(mk.registers <= most_registers.into(), &|| {
        format!("there are {most_registers} registers, not {}", mk.registers)
    })?;
    for stmt in &mk.body {
        let insts = match stmt {
            Stmt::Inst(i) => std::slice::from_ref(i),
            Stmt::Loop { trips, body, .. } => {
                require(*trips > 0, &|| "a loop of no trips".to_owned())?;
                body
            }
        };
        for inst in insts {
            let op = &inst.op;
            let temps = inst.temps.as_slice();
            let is_named = |t: &V| op.used().chain(op.defined()).any(|v| v == *t);
            require(!temps.iter().any(is_named), &|| format!("{op} names its temporary register"))?;
            for v in op.used().chain(op.defined()).chain(temps.iter().copied()) {
                require(v.0 < mk.registers, &|| format!("v{} of {} registers in {op:?}", v.0, mk.registers))?;
            }
            let known = op.touched().is_none_or(|t| usize::from(t.addr.param.0) < mk.params.len());
            require(known, &|| format!("no such parameter: {op:?}"))?;
            if let Some(touched) = op.touched() {
                let dtype = mk.params[usize::from(touched.addr.param.0)].dtype;
                let (most, extent) = (op.most_touched(mk.lanes), touched.extent(dtype));
                let unit = if touched.raw { "bytes" } else { "elements" };
                require((1..=most).contains(&extent), &|| {
                    format!("{extent} {unit}, of which 1 to {most} can be touched, in {op}")
                })?;
                require(!touched.raw || dtype.is_narrow(), &|| format!("{dtype} that is not converted, in {op}"))?;
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
    matches!(op, Op::Zero { .. }) || matches!(op, Op::Const { bits, .. } if !f32::from_bits(*bits).is_nan())
}

/// The operand `bytes` after `operand`.
pub(super) fn beyond(operand: MemoryOperand, bytes: i64) -> MemoryOperand {
    memory(operand.base, operand.displacement + bytes)
}
