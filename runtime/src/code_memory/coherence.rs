//! Making written bytes visible as instructions: to the instruction cache, and to threads on other cores.
//!
//! x86-64 needs nothing: instruction fetch is coherent with stores, and a thread that runs code it learnt of through a
//! lock or an atomic was not executing those addresses before: they were not executable, and the `mprotect` that made
//! them so when they held other code was undone by one that interrupted every core of the process.
//!
//! AArch64 needs three things (Arm ARM, "Concurrent modification and execution of instructions"): data written back to
//! the point of unification, instruction cache lines invalidated, and a context synchronisation event on every core that
//! will run the code. The first two are broadcast by [`publish`]; the third is [`synchronise_cores`], or an ISB before each
//! call where the kernel has no such service ([`Synchronisation`]).

#[cfg(target_arch = "aarch64")]
use std::arch::asm;
use std::io;

/// The means by which other threads' cores discard instructions that they fetched before code was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronisation {
    /// Nothing to do, or done for all threads of the process when code is published.
    OnPublish,
    /// The thread that calls must do it, with [`synchronise_this_core`].
    OnCall,
}

#[cfg(target_arch = "aarch64")]
mod membarrier {
    use std::io;

    // include/uapi/linux/membarrier.h
    const QUERY: libc::c_int = 0;
    const PRIVATE_EXPEDITED_SYNC_CORE: libc::c_int = 1 << 5;
    const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: libc::c_int = 1 << 6;

    fn membarrier(command: libc::c_int) -> io::Result<libc::c_long> {
        // SAFETY: membarrier takes two integers and touches no memory of the program.
        match unsafe { libc::syscall(libc::SYS_membarrier, command, 0) } {
            ..0 => Err(io::Error::last_os_error()),
            answer => Ok(answer),
        }
    }

    /// Registers the process; `false` where the kernel (before Linux 4.16) or a system call filter does not let it.
    pub(super) fn register() -> bool {
        let offered = membarrier(QUERY).is_ok_and(|mask| mask & libc::c_long::from(PRIVATE_EXPEDITED_SYNC_CORE) != 0);
        offered && membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE).is_ok()
    }

    pub(super) fn synchronise_cores() -> io::Result<()> {
        membarrier(PRIVATE_EXPEDITED_SYNC_CORE).map(drop)
    }
}

/// Prepares the process for [`synchronise_cores`], and says what the machine offers.
pub(super) fn prepare() -> Synchronisation {
    #[cfg(target_arch = "aarch64")]
    if !membarrier::register() {
        return Synchronisation::OnCall;
    }
    Synchronisation::OnPublish
}

/// Makes every thread of the process discard instructions it has fetched. Call after [`publish`] where [`prepare`] said
/// [`Synchronisation::OnPublish`].
pub(super) fn synchronise_cores() -> io::Result<()> {
    #[cfg(target_arch = "aarch64")]
    membarrier::synchronise_cores()?;
    Ok(())
}

/// Makes the calling thread discard instructions it has fetched.
#[inline]
pub(super) fn synchronise_this_core() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: ISB has no operands and only orders what follows it.
    unsafe {
        asm!("isb", options(nostack, preserves_flags))
    };
}

/// Makes the bytes of `code`, just written, what instruction fetch reads at their addresses, on all cores.
///
/// This is `__clear_cache` of compiler-rt: line sizes and the two shortcuts (IDC: no data cache clean needed, DIC: no
/// instruction cache invalidation needed) are read from CTR_EL0 each time, as the kernel may trap that read to hide
/// differences between cores.
pub(super) fn publish(code: &[u8]) {
    #[cfg(target_arch = "aarch64")]
    {
        const IDC: u64 = 1 << 28;
        const DIC: u64 = 1 << 29;
        let ctr: u64;
        // SAFETY: Linux lets programs read CTR_EL0, or emulates the read.
        unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
        let std::ops::Range { start, end } = code.as_ptr_range();
        let lines = |log2_words: u64| {
            let line = 4_usize << (log2_words & 15);
            (start.addr() & !(line - 1)..end.addr()).step_by(line)
        };
        if ctr & IDC == 0 {
            for line in lines(ctr >> 16) {
                // SAFETY: cleaning a cache line that holds bytes of `code` changes no contents; `code` is readable.
                unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
            }
        }
        // SAFETY: a barrier: the cleaned (or, with IDC, the stored) bytes are visible to the invalidation below.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
        if ctr & DIC == 0 {
            for line in lines(ctr) {
                // SAFETY: invalidating an instruction cache line makes it be fetched again; `code` is readable.
                unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
            }
            // SAFETY: a barrier: waits for the invalidations on all cores.
            unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
        }
        synchronise_this_core();
    }
    let _ = code;
}
