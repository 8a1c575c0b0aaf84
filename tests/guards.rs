//! The harness notices what it is there to notice: accesses beside a tensor and changed registers.

use std::arch::naked_asm;

use kiln_tests::canary;
use kiln_tests::guarded::{Guarded, Placement};

/// Functions that break the calling convention in one register each.
macro_rules! breaks {
    ($($name:ident: $register:literal, $code:literal;)*) => { $(
        #[unsafe(naked)]
        unsafe extern "C" fn $name(_: *const *mut u8, _: *mut u8, _: u64, _: u64) {
            naked_asm!($code, "ret")
        }
        )*
        const BREAKS: &[(&str, kiln_jit::Entry)] = &[$(($register, $name)),*];
    };
}

#[cfg(target_arch = "x86_64")]
breaks! {
    breaks_rbx: "rbx", "xor ebx, ebx";
    breaks_rbp: "rbp", "lea rbp, [rbp + 1]";
    breaks_r12: "r12", "mov r12, rax";
    breaks_r13: "r13", "mov r13, rax";
    breaks_r14: "r14", "mov r14, rax";
    breaks_r15: "r15", "mov r15, r14";
}

#[cfg(target_arch = "aarch64")]
breaks! {
    breaks_x18: "x18", "mov x18, x0";
    breaks_x19: "x19", "mov x19, x20";
    breaks_x28: "x28", "mov x28, #0";
    breaks_x29: "x29", "mov x29, sp";
    breaks_d8: "d8", "fmov d8, d9";
    breaks_d15: "d15", "movi d15, #0";
}

/// Keeps the convention.
unsafe extern "C" fn keeps(_: *const *mut u8, scratch: *mut u8, begin: u64, end: u64) {
    // SAFETY: the test passes room for two numbers.
    unsafe { scratch.cast::<[u64; 2]>().write([begin, end]) };
}

#[test]
fn changed_registers_are_named() {
    for (register, entry) in BREAKS {
        // SAFETY: the function touches one register, which the trampoline restores.
        let result = unsafe { canary::call(*entry, std::ptr::null(), std::ptr::null_mut(), 0, 1) };
        assert_eq!(result, Err(canary::Clobbered(vec![register])));
        assert!(canary::PRESERVED.contains(register));
    }
}

#[test]
fn arguments_arrive() {
    let mut numbers = [0u64; 2];
    // SAFETY: `keeps` writes two numbers.
    let result = unsafe { canary::call(keeps, std::ptr::null(), numbers.as_mut_ptr().cast(), 3, 17) };
    assert_eq!((result, numbers), (Ok(()), [3, 17]));
}

/// The signal that a child process gets for loading the byte at `at`, 0 if it gets none.
fn fate_of_loading(at: *const u8) -> i32 {
    extern "C" fn leave(signal: libc::c_int) {
        // SAFETY: `_exit` is async-signal-safe.
        unsafe { libc::_exit(signal) }
    }
    // SAFETY: the child only loads and leaves; it allocates nothing and takes no lock.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::signal(libc::SIGSEGV, leave as extern "C" fn(libc::c_int) as libc::sighandler_t);
            std::hint::black_box(at.read_volatile());
            libc::_exit(0);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        assert!(libc::WIFEXITED(status), "status {status}");
        libc::WEXITSTATUS(status)
    }
}

#[test]
fn both_sides_are_guarded() {
    let mut memory = Guarded::new(10);
    for len in [1, 7, 10, 5000] {
        let end = memory.place(len, Placement::End).as_ptr_range();
        assert_eq!(fate_of_loading(end.end), libc::SIGSEGV, "the byte past the end of {len}");
        assert_eq!(fate_of_loading(end.start), 0);
        let start = memory.place(len, Placement::Start).as_ptr();
        assert_eq!(fate_of_loading(start.wrapping_sub(1)), libc::SIGSEGV, "the byte before the start of {len}");
        assert_eq!(fate_of_loading(start.wrapping_add(len - 1)), 0);
    }
}

#[test]
fn stores_in_the_margin_are_noticed() {
    let mut memory = Guarded::new(100);
    let end = memory.place(9, Placement::End).as_mut_ptr();
    assert!(memory.margin_is_intact());
    // SAFETY: the margin before the tensor is accessible.
    unsafe { end.sub(1).write(0) };
    assert!(!memory.margin_is_intact());
    let start = memory.place(9, Placement::Start).as_mut_ptr();
    assert!(memory.margin_is_intact());
    // SAFETY: the margin after the tensor is accessible.
    unsafe { start.add(9).write(0xff) };
    assert!(!memory.margin_is_intact());
}
