//! Calls of machine code with a canary in every register that the C convention preserves.
//!
//! AAPCS64 (x19-x29 and the low halves of v8-v15, and x18, which platforms reserve) and the System V x86-64 ABI.

use std::arch::naked_asm;
use std::fmt;

use kiln_jit::Entry;

/// Preserved registers that held something else after the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clobbered(pub Vec<&'static str>);

impl fmt::Display for Clobbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the callee changed {}", self.0.join(", "))
    }
}

/// The registers with canaries, in the order of the private `Frame`.
#[cfg(target_arch = "x86_64")]
pub const PRESERVED: &[&str] = &["rbx", "rbp", "r12", "r13", "r14", "r15"];
/// The registers with canaries, in the order of the private `Frame`.
#[cfg(target_arch = "aarch64")]
pub const PRESERVED: &[&str] = &[
    "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x18", "d8", "d9", "d10", "d11",
    "d12", "d13", "d14", "d15",
];

/// Canaries before the call, what the registers held after it, and the stack pointer before and after.
#[repr(C)]
struct Frame {
    registers: [u64; PRESERVED.len()],
    stack: [u64; 2],
}

/// Calls `entry(arguments, scratch, begin, end)` and reports preserved registers that it changed.
///
/// # Safety
/// As for calling `entry` itself, except that it may change preserved registers.
pub unsafe fn call(
    entry: Entry,
    arguments: *const *mut u8,
    scratch: *mut u8,
    begin: u64,
    end: u64,
) -> Result<(), Clobbered> {
    // Distinct, and nothing that code computes by chance.
    let canaries = std::array::from_fn(|i| 0xc0de_5afe_0000_a5a5 ^ ((i as u64 + 1) << 20));
    let mut frame = Frame { registers: canaries, stack: [0; 2] };
    // SAFETY: the caller answers for the call; the trampoline restores every preserved register itself.
    unsafe { trampoline(entry, arguments, scratch, begin, end, &mut frame) };
    let mut changed: Vec<_> =
        PRESERVED.iter().enumerate().filter(|(i, _)| frame.registers[*i] != canaries[*i]).map(|(_, r)| *r).collect();
    if frame.stack[0] != frame.stack[1] {
        changed.push("the stack pointer");
    }
    if changed.is_empty() { Ok(()) } else { Err(Clobbered(changed)) }
}

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn trampoline(
    entry: Entry,
    arguments: *const *mut u8,
    scratch: *mut u8,
    begin: u64,
    end: u64,
    frame: &mut Frame,
) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push r9",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov rcx, r8",
        "mov rbx, [r9]",
        "mov rbp, [r9 + 8]",
        "mov r12, [r9 + 16]",
        "mov r13, [r9 + 24]",
        "mov r14, [r9 + 32]",
        "mov r15, [r9 + 40]",
        "mov [r9 + 48], rsp",
        "call rax",
        "mov r9, [rsp]",
        "mov [r9], rbx",
        "mov [r9 + 8], rbp",
        "mov [r9 + 16], r12",
        "mov [r9 + 24], r13",
        "mov [r9 + 32], r14",
        "mov [r9 + 40], r15",
        "mov [r9 + 56], rsp",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn trampoline(
    entry: Entry,
    arguments: *const *mut u8,
    scratch: *mut u8,
    begin: u64,
    end: u64,
    frame: &mut Frame,
) {
    naked_asm!(
        "stp x29, x30, [sp, #-176]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "stp x5, x18, [sp, #160]",
        "ldp x19, x20, [x5]",
        "ldp x21, x22, [x5, #16]",
        "ldp x23, x24, [x5, #32]",
        "ldp x25, x26, [x5, #48]",
        "ldp x27, x28, [x5, #64]",
        "ldp x29, x18, [x5, #80]",
        "ldp d8, d9, [x5, #96]",
        "ldp d10, d11, [x5, #112]",
        "ldp d12, d13, [x5, #128]",
        "ldp d14, d15, [x5, #144]",
        "mov x9, sp",
        "str x9, [x5, #160]",
        "mov x9, x0",
        "mov x0, x1",
        "mov x1, x2",
        "mov x2, x3",
        "mov x3, x4",
        "blr x9",
        "ldr x5, [sp, #160]",
        "stp x19, x20, [x5]",
        "stp x21, x22, [x5, #16]",
        "stp x23, x24, [x5, #32]",
        "stp x25, x26, [x5, #48]",
        "stp x27, x28, [x5, #64]",
        "stp x29, x18, [x5, #80]",
        "stp d8, d9, [x5, #96]",
        "stp d10, d11, [x5, #112]",
        "stp d12, d13, [x5, #128]",
        "stp d14, d15, [x5, #144]",
        "mov x9, sp",
        "str x9, [x5, #168]",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldr x18, [sp, #168]",
        "ldp x29, x30, [sp], #176",
        "ret",
    )
}
