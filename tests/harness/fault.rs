//! Says which kernel was running when memory was accessed that must not be.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    // No destructor and no lazy start, so that a signal handler may read it.
    static RUNNING: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Notes that this thread runs `what` until the next call. The first call installs the handler.
pub fn running(what: &str) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(install);
    // Leaked: the handler needs it at any moment, and a test process is short.
    RUNNING.set(Some(Box::leak(what.to_owned().into_boxed_str())));
}

fn install() {
    // SAFETY: zero is a valid `sigaction`: no flags, no mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = report as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL] {
        // SAFETY: `report` calls only what is allowed in a signal handler.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

/// Prints what was running and returns with the default action restored, so that the instruction faults again.
extern "C" fn report(signal: libc::c_int) {
    let what = RUNNING.get().unwrap_or("the test itself");
    for part in ["\nsignal while running ", what, "\n"] {
        // SAFETY: `write` and `signal` are async-signal-safe, and the bytes outlive the call.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: as above.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
