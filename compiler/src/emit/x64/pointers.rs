//! Addresses: which register holds which pointer, and what displacement reaches an operand.
//!
//! Every pointer argument stays in the register it arrives in, its home. Straight code reaches `param + offset` by a
//! displacement. In a loop, the operands of one parameter that advance by the same step are a [`Stream`]: one register,
//! advanced once at the end of each iteration, and displacements for the rest. The first advancing stream of a parameter
//! takes its home and the others a free caller-saved register.
//!
//! Because trip counts are constant, what a home holds is known everywhere outside loops: `param + at`. A loop leaves
//! `at` where its last iteration ends, often where the next loop starts, and nothing is ever moved back.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::assembler::Assembler;
use super::avx2::error;
use crate::emit::EmitError;
use crate::microkernel::{Addr, Inst, MicroKernel, P};

/// The System V integer argument registers, in order.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// The most parameters a micro-kernel may have: arguments beyond them are passed in memory.
pub(super) const MAX_PARAMS: usize = ARGUMENTS.len();

/// Holds the trip count in loops and large constants outside of them.
const COUNTER: Register = Register::RAX;

/// Caller-saved and no argument.
const SPARE: [Register; 2] = [Register::R10, Register::R11];

/// The operands of one parameter that advance together.
struct Stream {
    param: P,
    step: i64,
    register: Register,
    /// In iteration `trip`, `register` holds `param + base + trip * step`.
    base: i64,
}

/// Where every pointer is.
pub(super) struct Pointers<'a> {
    mk: &'a MicroKernel,
    /// The home of parameter `p` holds `p + at[p]`.
    at: Vec<i64>,
    /// The streams of the loop being emitted; empty in straight code.
    streams: Vec<Stream>,
}

/// Loads the pointers from the block that the first argument points to, that argument last.
pub(super) fn load_arguments(asm: &mut Assembler, mk: &MicroKernel) -> Result<(), EmitError> {
    for (p, (home, param)) in ARGUMENTS.iter().zip(&mk.params).enumerate().rev() {
        asm.note(&format!("address of {}", param.name));
        asm.put(Instruction::with2(Code::Mov_r64_rm64, *home, memory(ARGUMENTS[0], 8 * p as i64)))?;
    }
    Ok(())
}

impl<'a> Pointers<'a> {
    /// The pointers as the caller passes them. `mk` has at most [`MAX_PARAMS`].
    pub(super) fn new(mk: &'a MicroKernel) -> Self {
        Pointers { mk, at: vec![0; mk.params.len()], streams: vec![] }
    }

    /// The operand at `addr`.
    pub(super) fn operand(&mut self, asm: &mut Assembler, addr: Addr) -> Result<MemoryOperand, EmitError> {
        if let Some(s) = self.streams.iter().find(|s| s.param == addr.param && s.step == addr.step) {
            // `enter_loop` chose a base from which every operand of the stream can be reached.
            return Ok(memory(s.register, addr.offset.wrapping_sub(s.base)));
        }
        let param = usize::from(addr.param.0);
        let home = ARGUMENTS[param];
        let displacement = addr.offset.wrapping_sub(self.at[param]);
        if i32::try_from(displacement).is_err() {
            derive(asm, home, home, displacement)?;
            self.at[param] = addr.offset;
        }
        Ok(memory(home, addr.offset.wrapping_sub(self.at[param])))
    }

    /// Sets up the pointers and the counter of a loop. The next instruction is the first of `body`.
    pub(super) fn enter_loop(&mut self, asm: &mut Assembler, trips: u64, body: &[Inst]) -> Result<(), EmitError> {
        let mut spare = SPARE.iter().chain(&ARGUMENTS[self.mk.params.len()..]);
        let mut streams: Vec<Stream> = vec![];
        for (param, step, offsets) in self.groups(body) {
            let (p, home) = (usize::from(param.0), ARGUMENTS[usize::from(param.0)]);
            if i32::try_from(step).is_err() {
                return Err(error(self.mk, format!("a step of {step} bytes is out of reach")));
            }
            let register = if streams.iter().any(|s| s.param == param) {
                *spare.next().ok_or_else(|| error(self.mk, "a loop needs more than the caller-saved registers"))?
            } else {
                home
            };
            let base = choose_base(&offsets, self.at[p])
                .ok_or_else(|| error(self.mk, "operands that advance together are more than 2 GiB apart"))?;
            streams.push(Stream { param, step, register, base });
        }
        // Homes last: the other streams are derived from them.
        let is_home = |s: &Stream| s.register == ARGUMENTS[usize::from(s.param.0)];
        for s in streams.iter().filter(|s| !is_home(s)).chain(streams.iter().filter(|s| is_home(s))) {
            let p = usize::from(s.param.0);
            derive(asm, s.register, ARGUMENTS[p], s.base.wrapping_sub(self.at[p]))?;
        }
        for s in streams.iter().filter(|s| is_home(s)) {
            // Wrapping, as the registers do.
            let advance = s.step.wrapping_mul(trips as i64);
            self.at[usize::from(s.param.0)] = s.base.wrapping_add(advance);
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

    /// The offsets `body` uses, by parameter and step; of a parameter's steps, 0 is last.
    fn groups(&self, body: &[Inst]) -> Vec<(P, i64, Vec<i64>)> {
        let mut groups: Vec<(P, i64, Vec<i64>)> = vec![];
        for a in body.iter().filter_map(|i| i.op.touched()).map(|t| t.addr) {
            match groups.iter_mut().find(|(p, step, _)| (*p, *step) == (a.param, a.step)) {
                Some((.., offsets)) => offsets.push(a.offset),
                None => groups.push((a.param, a.step, vec![a.offset])),
            }
        }
        groups.sort_by_key(|(param, step, _)| (*param, *step == 0));
        groups
    }
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
            d => i32::try_from(d).ok().map(|_| sum + 4),
        })
    };
    let mut distinct = offsets.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    // A base 128 beyond an offset reaches the 256 bytes from that offset on.
    let windows = distinct.iter().flat_map(|o| [Some(*o), o.checked_add(128)]).flatten();
    std::iter::once(at).chain(windows).filter_map(|base| Some((cost(base)?, base))).min_by_key(|c| c.0).map(|c| c.1)
}

fn memory(base: Register, displacement: i64) -> MemoryOperand {
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
