//! Addresses: which register holds which pointer, and what displacement reaches an operand.
//!
//! Every pointer argument stays in the register it arrives in, its home. Straight code reaches `param + offset` by a
//! displacement. In a loop, the operands of one parameter that advance by the same step are a [`Stream`]: one register,
//! advanced once at the end of each iteration, and displacements for the rest. The first advancing stream of a parameter
//! takes its home and the others a free register: caller-saved ones, then callee-saved ones, which are pushed at entry.
//!
//! If there are more parameters than arguments, the first five have homes and the sixth argument register keeps the block
//! of pointers. The others are loaded from it where they are used: into a scratch register in straight code, which
//! remembers the last one, and into a free register for each of their streams before a loop.
//!
//! Because trip counts are constant, what a home holds is known everywhere outside loops: `param + at`. A loop leaves
//! `at` where its last iteration ends, often where the next loop starts, and nothing is ever moved back.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::assembler::Assembler;
use super::error;
use crate::emit::{Arguments, EmitError};
use crate::microkernel::{Addr, Inst, MicroKernel, P, Stmt};

/// The System V integer argument registers, in order.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// The most parameters that [`Arguments::Registers`] passes: arguments beyond them would be passed in memory.
/// [`Arguments::Block`] has no such limit.
pub const MAX_PARAMS: usize = ARGUMENTS.len();

/// Holds the trip count in loops and large constants outside of them.
const COUNTER: Register = Register::RAX;

/// Caller-saved and no argument.
const SPARE: [Register; 2] = [Register::R10, Register::R11];

/// In straight code, the pointer of the last parameter used that has no home.
const SCRATCH: Register = Register::R11;

/// The block of pointers, if there are parameters without a home: the last argument register, which then is none.
const BLOCK: Register = Register::R9;

/// Saved for the caller, where loops need more.
const SAVED: [Register; 6] = [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// Most bytes between the first byte of an operand and one that an instruction addresses.
const WITHIN: i64 = 32;

/// The operands of one parameter that advance together.
struct Stream {
    param: P,
    step: i64,
    register: Register,
    /// In iteration `trip`, `register` holds `param + base + trip * step`.
    base: i64,
}

/// The place of every pointer.
pub(super) struct Pointers<'a> {
    mk: &'a MicroKernel,
    arguments: Arguments,
    /// Parameters `0..homes` have homes.
    homes: usize,
    /// The home of parameter `p` holds `p + at[p]`.
    at: Vec<i64>,
    /// [`SCRATCH`] holds this parameter plus this offset.
    scratch: Option<(P, i64)>,
    /// The streams of the loop being emitted; empty in straight code.
    streams: Vec<Stream>,
    /// The registers that streams take which are not in their parameter's home.
    spare: Vec<Register>,
    /// The last of `spare`, which are pushed at entry.
    pushed: usize,
}

impl<'a> Pointers<'a> {
    /// The pointers as the caller passes them.
    pub(super) fn new(mk: &'a MicroKernel, arguments: Arguments) -> Result<Self, EmitError> {
        let all = mk.params.len();
        let homes = if all <= MAX_PARAMS { all } else { MAX_PARAMS - 1 };
        if arguments == Arguments::Registers && homes < all {
            let what = format!("{all} parameters, of which {MAX_PARAMS} are in registers: pass a block of pointers");
            return Err(error(mk, what));
        }
        let unused = if homes < all { &[][..] } else { &ARGUMENTS[homes..] };
        let mut spare: Vec<Register> = SPARE.iter().chain(unused).copied().collect();
        let loops = mk.body.iter().filter_map(|s| match s {
            Stmt::Loop { trips: 2.., body, .. } => Some(body),
            Stmt::Loop { .. } | Stmt::Inst(_) => None,
        });
        let needed = loops.map(|body| groups(body).iter().filter(|g| !g.takes_home(homes)).count()).max();
        let pushed = needed.unwrap_or(0).saturating_sub(spare.len()).min(SAVED.len());
        spare.extend(&SAVED[..pushed]);
        Ok(Pointers { mk, arguments, homes, at: vec![0; homes], scratch: None, streams: vec![], spare, pushed })
    }

    /// Starts the function: saves registers, and loads the pointers from the block if they are in one, that argument last.
    pub(super) fn enter(&self, asm: &mut Assembler) -> Result<(), EmitError> {
        for register in self.saved() {
            asm.note("saved for the caller");
            asm.put(Instruction::with1(Code::Push_r64, register))?;
        }
        if self.arguments == Arguments::Registers {
            return Ok(());
        }
        if self.homes < self.mk.params.len() {
            asm.note("block of pointers");
            asm.put(Instruction::with2(Code::Mov_rm64_r64, BLOCK, ARGUMENTS[0]))?;
        }
        for (p, (home, param)) in ARGUMENTS[..self.homes].iter().zip(&self.mk.params).enumerate().rev() {
            asm.note(format!("address of {}", param.name));
            asm.put(Instruction::with2(Code::Mov_r64_rm64, *home, memory(ARGUMENTS[0], 8 * p as i64)))?;
        }
        Ok(())
    }

    /// Ends the function: restores registers.
    pub(super) fn leave(&self, asm: &mut Assembler) -> Result<(), EmitError> {
        self.saved().rev().try_for_each(|register| asm.put(Instruction::with1(Code::Pop_r64, register)))
    }

    fn saved(&self) -> impl DoubleEndedIterator<Item = Register> {
        SAVED[..self.pushed].iter().copied()
    }

    fn home(&self, param: P) -> Option<Register> {
        ARGUMENTS[..self.homes].get(usize::from(param.0)).copied()
    }

    /// The operand at `addr`.
    pub(super) fn operand(&mut self, asm: &mut Assembler, addr: Addr) -> Result<MemoryOperand, EmitError> {
        if let Some(s) = self.streams.iter().find(|s| s.param == addr.param && s.step == addr.step) {
            // `enter_loop` chose a base from which every operand of the stream can be reached.
            return Ok(memory(s.register, addr.offset.wrapping_sub(s.base)));
        }
        let (register, mut at) = match (self.home(addr.param), self.scratch) {
            (Some(home), _) => (home, self.at[usize::from(addr.param.0)]),
            (None, Some((param, at))) if param == addr.param => (SCRATCH, at),
            (None, _) => {
                load_pointer(asm, SCRATCH, addr.param)?;
                (SCRATCH, 0)
            }
        };
        let displacement = addr.offset.wrapping_sub(at);
        if !in_reach(displacement) {
            derive(asm, register, register, displacement)?;
            at = addr.offset;
        }
        match self.at.get_mut(usize::from(addr.param.0)) {
            Some(home) => *home = at,
            None => self.scratch = Some((addr.param, at)),
        }
        Ok(memory(register, addr.offset.wrapping_sub(at)))
    }

    /// Sets up the pointers and the counter of a loop. The next instruction is the first of `body`.
    pub(super) fn enter_loop(&mut self, asm: &mut Assembler, trips: u64, body: &[Inst]) -> Result<(), EmitError> {
        let mut spare = self.spare.iter();
        let mut streams: Vec<Stream> = vec![];
        for group in groups(body) {
            let Group { param, step, .. } = group;
            if i32::try_from(step).is_err() {
                return Err(error(self.mk, format!("a step of {step} bytes is out of reach")));
            }
            let home = self.home(param).filter(|_| group.takes_home(self.homes));
            let register = home.or_else(|| spare.next().copied());
            let register = register.ok_or_else(|| error(self.mk, "a loop needs more registers than there are"))?;
            let at = self.at.get(usize::from(param.0)).copied().unwrap_or(0);
            let base = choose_base(&group.offsets, at)
                .ok_or_else(|| error(self.mk, "operands that advance together are more than 2 GiB apart"))?;
            streams.push(Stream { param, step, register, base });
        }
        // Homes last: the other streams are derived from them.
        let is_home = |s: &Stream| self.home(s.param) == Some(s.register);
        for s in streams.iter().filter(|s| !is_home(s)).chain(streams.iter().filter(|s| is_home(s))) {
            match self.home(s.param) {
                Some(home) => derive(asm, s.register, home, s.base.wrapping_sub(self.at[usize::from(s.param.0)]))?,
                None => {
                    load_pointer(asm, s.register, s.param)?;
                    derive(asm, s.register, s.register, s.base)?;
                }
            }
        }
        for s in &streams {
            if self.home(s.param) == Some(s.register) {
                // Wrapping, as the registers do.
                let advance = s.step.wrapping_mul(trips as i64);
                self.at[usize::from(s.param.0)] = s.base.wrapping_add(advance);
            }
        }
        if streams.iter().any(|s| s.register == SCRATCH) {
            self.scratch = None;
        }
        self.streams = streams;
        asm.put(match u32::try_from(trips) {
            Ok(trips) => Instruction::with2(Code::Mov_r32_imm32, COUNTER.full_register32(), trips),
            Err(_) => Instruction::with2(Code::Mov_r64_imm64, COUNTER, trips),
        })
    }

    /// Advances the pointers and jumps to `head` until `trips` iterations are done.
    ///
    /// DEC and JNE fuse to one micro-operation, as would a comparison of a pointer with its end, which would need a
    /// register as well.
    pub(super) fn leave_loop(&mut self, asm: &mut Assembler, trips: u64, head: usize) -> Result<(), EmitError> {
        for s in self.streams.drain(..) {
            derive(asm, s.register, s.register, s.step)?;
        }
        asm.put(match u32::try_from(trips) {
            Ok(_) => Instruction::with1(Code::Dec_rm32, COUNTER.full_register32()),
            Err(_) => Instruction::with1(Code::Dec_rm64, COUNTER),
        })?;
        asm.jump_not_zero(head)
    }
}

/// The operands of one parameter in a loop that advance by one step.
struct Group {
    param: P,
    step: i64,
    offsets: Vec<i64>,
    /// No group of the parameter comes before.
    first: bool,
}

impl Group {
    /// True if its stream is the one in the parameter's home, where the first `homes` parameters have one.
    fn takes_home(&self, homes: usize) -> bool {
        self.first && usize::from(self.param.0) < homes
    }
}

/// The offsets `body` uses, by parameter and step; of a parameter's steps, 0 is last.
fn groups(body: &[Inst]) -> Vec<Group> {
    let mut groups: Vec<Group> = vec![];
    for Addr { param, step, offset } in body.iter().filter_map(|i| i.op.touched()).map(|t| t.addr) {
        match groups.iter_mut().find(|g| (g.param, g.step) == (param, step)) {
            Some(group) => group.offsets.push(offset),
            None => groups.push(Group { param, step, offsets: vec![offset], first: false }),
        }
    }
    groups.sort_by_key(|g| (g.param, g.step == 0));
    for i in 0..groups.len() {
        groups[i].first = i == 0 || groups[i - 1].param != groups[i].param;
    }
    groups
}

/// The base that makes the code smallest: 0, 1 or 4 bytes for each displacement, and what it takes to move a pointer
/// from `at` to the base. Among equals the first, so that a pointer is not moved for nothing. `None` if no base reaches
/// all `offsets`.
fn choose_base(offsets: &[i64], at: i64) -> Option<i64> {
    let cost = |base: i64| {
        let moved = match base.wrapping_sub(at) {
            0 => 0,
            -128..=128 => 4,
            _ => 7,
        };
        offsets.iter().try_fold(moved, |sum, offset| match offset.checked_sub(base)? {
            0 => Some(sum),
            -128..=127 => Some(sum + 1),
            d => in_reach(d).then_some(sum + 4),
        })
    };
    let mut distinct = offsets.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    // A base 128 beyond an offset reaches the 256 bytes from that offset on.
    let windows = distinct.iter().flat_map(|o| [Some(*o), o.checked_add(128)]).flatten();
    std::iter::once(at).chain(windows).filter_map(|base| Some((cost(base)?, base))).min_by_key(|c| c.0).map(|c| c.1)
}

/// True if a displacement reaches an operand and all of its bytes.
fn in_reach(displacement: i64) -> bool {
    i32::try_from(displacement).is_ok_and(|d| i64::from(d) + WITHIN <= i64::from(i32::MAX))
}

/// Loads the pointer of a parameter that has no home.
fn load_pointer(asm: &mut Assembler, to: Register, param: P) -> Result<(), EmitError> {
    asm.put(Instruction::with2(Code::Mov_r64_rm64, to, memory(BLOCK, 8 * i64::from(param.0))))
}

/// The operand at a register plus a displacement.
pub(super) fn memory(base: Register, displacement: i64) -> MemoryOperand {
    match displacement {
        0 => MemoryOperand::with_base(base),
        d => MemoryOperand::with_base_displ(base, d),
    }
}

/// `to = from + delta`. Not in a loop unless `delta` fits 32 bits.
fn derive(asm: &mut Assembler, to: Register, from: Register, delta: i64) -> Result<(), EmitError> {
    match i32::try_from(delta) {
        Ok(0) if to == from => Ok(()),
        Ok(128) if to == from => asm.put(Instruction::with2(Code::Sub_rm64_imm8, to, -128)),
        Ok(d @ -128..=127) if to == from => asm.put(Instruction::with2(Code::Add_rm64_imm8, to, d)),
        Ok(d) if to == from => asm.put(Instruction::with2(Code::Add_rm64_imm32, to, d)),
        Ok(_) => asm.put(Instruction::with2(Code::Lea_r64_m, to, memory(from, delta))),
        Err(_) => {
            asm.put(Instruction::with2(Code::Mov_r64_imm64, COUNTER, delta))?;
            if to == from {
                return asm.put(Instruction::with2(Code::Add_r64_rm64, to, COUNTER));
            }
            let sum = MemoryOperand::with_base_index(from, COUNTER);
            asm.put(Instruction::with2(Code::Lea_r64_m, to, sum))
        }
    }
}
