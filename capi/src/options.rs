//! Options of a runtime.

use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use ::kiln_jit::{MAX_THREADS, Runtime, RuntimeBuilder};

use crate::error::{Error, free, guard, kiln_status};
use crate::executor::{Threads, kiln_executor};
use crate::listener::{Listener, kiln_listener, notice_text};
use crate::pointers::{Out, exclusive, path, text};

/// Options of a runtime. What is not set comes from the environment, then from a default. Used by one thread at a time.
#[derive(Clone, Default)]
pub struct kiln_options {
    builder: RuntimeBuilder,
}

impl kiln_options {
    /// A runtime with these options.
    pub(crate) fn build(&self) -> Result<Runtime, Error> {
        Ok(self.builder.clone().build()?)
    }
}

/// # Safety
/// `options` is null or a handle that no other thread uses.
unsafe fn set(
    options: *mut kiln_options,
    change: impl FnOnce(RuntimeBuilder) -> Result<RuntimeBuilder, Error>,
) -> kiln_status {
    guard(|| {
        // SAFETY: as the caller says.
        let options = unsafe { exclusive(options, "options")? };
        options.builder = change(options.builder.clone())?;
        Ok(())
    })
}

/// Makes options of which none is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_create(options: *mut *mut kiln_options) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let out = unsafe { Out::new(options, "options")? };
        out.give(kiln_options::default());
        Ok(())
    })
}

/// Frees options. Runtimes made with them are not concerned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_free(options: *mut kiln_options) {
    // SAFETY: the header's rules.
    unsafe { free(options) }
}

/// Threads that large problems are divided among, of the runtime's own: from 1 to 1024. Unless set, `KILN_NUM_THREADS`,
/// `OMP_NUM_THREADS` or `RAYON_NUM_THREADS`, else as many as the process may use, divided by the number of streams.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_threads(options: *mut kiln_options, threads: usize) -> kiln_status {
    let change = |builder: RuntimeBuilder| match threads {
        1..=MAX_THREADS => Ok(builder.threads(threads)),
        _ => Err(Error::argument("threads", format!("{threads}: expected from 1 to {MAX_THREADS}"))),
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// Calls that are divided at once, each among `threads` threads of its own: no more than 1024 threads in all. Unless set,
/// `KILN_NUM_STREAMS`, else 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_streams(options: *mut kiln_options, streams: usize) -> kiln_status {
    let change = |builder: RuntimeBuilder| match streams {
        1..=MAX_THREADS => Ok(builder.streams(streams)),
        _ => Err(Error::argument("streams", format!("{streams}: expected from 1 to {MAX_THREADS}"))),
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// Microseconds for which an idle thread of the runtime's own looks for work before it sleeps; 0 for none. Unless set, `KILN_SPIN`,
/// else 100 if there are as many processors as threads, otherwise 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_spin(options: *mut kiln_options, microseconds: u64) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.spin(Duration::from_micros(microseconds)))) }
}

/// Kernels the cache keeps; 0 disables it. Unless set, `KILN_CACHE_CAPACITY`, else 1024.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_cache_capacity(options: *mut kiln_options, kernels: usize) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.cache_capacity(kernels))) }
}

/// Bytes of executable memory, in whole pages, that cached kernels may occupy. Unless set, `KILN_CACHE_BYTES`, else no
/// limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_cache_bytes(options: *mut kiln_options, bytes: usize) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.cache_bytes(bytes))) }
}

/// Bytes of executable memory that kernels may occupy together, cached or not: more is `KILN_LIMIT_EXCEEDED`. Unless set, no
/// limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_code_limit(options: *mut kiln_options, bytes: usize) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.code_limit(bytes))) }
}

/// Bytes that packed weights may occupy together: more is `KILN_LIMIT_EXCEEDED`. Unless set, no limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_packed_limit(options: *mut kiln_options, bytes: usize) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.packed_limit(bytes))) }
}

/// The arithmetic of problems with f32 source that name none: "strict", "bf16" or "any". Unless set, `KILN_FPMATH_MODE`, else
/// strict. A problem that says `fpmath=strict` is strict all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_fpmath(options: *mut kiln_options, mode: *const c_char) -> kiln_status {
    let change = |builder: RuntimeBuilder| {
        // SAFETY: the header's rules.
        let mode = unsafe { text(mode, "mode")? };
        Ok(builder.fpmath(mode.parse().map_err(|e| Error::argument("mode", e))?))
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// The target to compile for, such as "neoverse-v1" or "x86-64-v3", which this machine must be able to run. Unless set, what is
/// detected, limited by `KILN_MAX_CPU_ISA`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_target(options: *mut kiln_options, target: *const c_char) -> kiln_status {
    let change = |builder: RuntimeBuilder| {
        // SAFETY: the header's rules.
        let target = unsafe { text(target, "target")? };
        Ok(builder.target(target.parse().map_err(|e| Error::argument("target", e))?))
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// Adds a pack, from which kernels are taken instead of compiling them. Packs are asked in the order they are added. One that
/// cannot be used is no error of the runtime unless settings are strict: `kiln_runtime_pack_status` says why, and a notice.
///
/// The code in the file is executed: it is undefined behaviour if anything but `kiln_pack_write`, `kiln pack build` or `kiln model` made
/// it. Nobody whom the program does not trust may be able to change it until the runtime is created.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_add_pack(options: *mut kiln_options, file: *const c_char) -> kiln_status {
    // SAFETY: the header's rules, and what is said there of the file.
    unsafe { set(options, |builder| Ok(builder.pack(path(file, "file")?))) }
}

/// A directory where compiled kernels are kept, and found again by other processes of the same user. Processes that use it at once
/// compile each kernel once, unless one keeps the others waiting for more than five seconds. Unless set, `KILN_CACHE_DIR` if that is
/// a directory of the user's own, that nobody else may write to, and no link; else none. One that cannot be used is no error unless
/// settings are strict: a notice says why.
///
/// Code in the directory is executed: nobody whom the program does not trust may be able to write to it, as long as the runtime is
/// used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_cache_dir(options: *mut kiln_options, folder: *const c_char) -> kiln_status {
    // SAFETY: the header's rules, and what is said there of the directory.
    unsafe { set(options, |builder| Ok(builder.cache_dir(path(folder, "folder")?))) }
}

/// If not 0, settings that cannot be followed are errors, where they are notices otherwise: packs and cache directories that cannot
/// be used, and files that cannot be written. What is noticed when the runtime is created fails that, what is noticed later fails the
/// kernel, by `KILN_FILE`. Unless set, `KILN_STRICT_SETTINGS`, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_strict_settings(options: *mut kiln_options, strict: i32) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.strict_settings(strict != 0))) }
}

/// Bytes that the files of the cache directory may occupy: the oldest go. Unless set, 256 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_cache_dir_bytes(options: *mut kiln_options, bytes: u64) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.cache_dir_bytes(bytes))) }
}

/// Refuses, by `KILN_BELOW_BOUND`, kernels that are predicted to reach less than this fraction, from 0 to 1, of what the target's
/// arithmetic and memory allow. Unless set, 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_strict(options: *mut kiln_options, least_fraction: f64) -> kiln_status {
    let change = |builder: RuntimeBuilder| {
        if !(0.0..=1.0).contains(&least_fraction) {
            return Err(Error::argument(
                "least_fraction",
                format!("{least_fraction}: expected a fraction from 0 to 1"),
            ));
        }
        Ok(builder.strict(least_fraction))
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// The events that lines are written about to standard output, in the words of `KILN_VERBOSE`, which holds unless set: "none", "error",
/// "warn", "profile_create", "profile_exec", "profile", "dispatch", "all", or several with commas. Looked at when the runtime is made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_verbose(options: *mut kiln_options, words: *const c_char) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.verbose(text(words, "words")?))) }
}

/// Where the lines of `kiln_options_set_verbose` or `KILN_VERBOSE` go instead of to standard output. The listener is copied. After a
/// failure it is not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_verbose_listener(
    options: *mut kiln_options,
    listener: *const kiln_listener,
) -> kiln_status {
    let change = |builder: RuntimeBuilder| {
        // SAFETY: the header's rules.
        let listener = unsafe { Listener::new(listener)? };
        Ok(builder.verbose_sink(move |line| listener.tell(line)))
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// Is told of each notice as it comes, with the text that `kiln_runtime_notice` has for it. The listener is copied. After a failure it is
/// not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_notice_listener(
    options: *mut kiln_options,
    listener: *const kiln_listener,
) -> kiln_status {
    let change = |builder: RuntimeBuilder| {
        // SAFETY: the header's rules.
        let listener = unsafe { Listener::new(listener)? };
        Ok(builder.on_notice(move |notice| listener.tell(&notice_text(notice))))
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// Threads of the program's own, which large problems are divided among instead of the runtime's: `kiln_options_set_threads` and this
/// function replace what the other said, and streams and spin have no effect. The executor is copied. After a failure it is not
/// released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_executor(
    options: *mut kiln_options,
    executor: *const kiln_executor,
) -> kiln_status {
    let change = |builder: RuntimeBuilder| {
        // SAFETY: the header's rules.
        Ok(builder.executor(Arc::new(unsafe { Threads::new(executor)? })))
    };
    // SAFETY: the header's rules.
    unsafe { set(options, change) }
}

/// A directory to which each kernel's code and listing are written. Unless set, `KILN_JIT_DUMP`, else none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_jit_dump(options: *mut kiln_options, folder: *const c_char) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.jit_dump(path(folder, "folder")?))) }
}

/// Where perf is told of kernels: 2 for a perf map, 4 for a jitdump, 6 for both, 0 for neither. Unless set, `KILN_JIT_PROFILE`, else 0.
/// Looked at when the runtime is made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_options_set_jit_profile(options: *mut kiln_options, bits: u32) -> kiln_status {
    // SAFETY: the header's rules.
    unsafe { set(options, |builder| Ok(builder.jit_profile(bits))) }
}
