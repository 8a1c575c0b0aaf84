//! Runtimes.

use std::ffi::{CString, c_char};
use std::sync::{Mutex, PoisonError};

use ::kiln_jit::{Options, Problem, Runtime};

use crate::error::{Error, free, guard, kiln_status, or_default};
use crate::listener::notice_text;
use crate::options::kiln_options;
use crate::pointers::{Growing, Out, array, fill, reference, text, write};
use crate::strings::c_string;

/// Compiles problems once and keeps their kernels.
pub struct kiln_runtime {
    pub(crate) runtime: Runtime,
    target: CString,
    /// The texts of its notices, as far as they were asked for.
    notices: Mutex<Vec<CString>>,
}

impl kiln_runtime {
    fn new(runtime: Runtime) -> Self {
        let target = c_string(&runtime.target().to_string());
        Self { runtime, target, notices: Mutex::default() }
    }
}

/// The weights of a request stay the same over many calls and may be packed before them.
pub const KILN_CONSTANT_WEIGHTS: u32 = 1;

/// A kernel that is wanted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_request {
    /// The problem, such as "ip f32 mb8ic64oc96 +bias+gelu_erf".
    pub problem: *const c_char,
    /// 0 or `KILN_CONSTANT_WEIGHTS`.
    pub flags: u32,
}

impl kiln_request {
    /// # Safety
    /// The problem is null or a string that nobody writes during the call.
    pub(crate) unsafe fn read(self) -> Result<(Problem, Options), Error> {
        // SAFETY: as the caller says.
        let problem = unsafe { text(self.problem, "problem")? };
        let options = Options { constant_weights: constant_weights(self.flags)?, ..Options::default() };
        Ok((problem.parse()?, options))
    }
}

/// The meaning of flags.
pub(crate) fn constant_weights(flags: u32) -> Result<bool, Error> {
    if flags & !KILN_CONSTANT_WEIGHTS != 0 {
        return Err(Error::argument("flags", format!("{flags:#x}: expected 0 or KILN_CONSTANT_WEIGHTS")));
    }
    Ok(flags & KILN_CONSTANT_WEIGHTS != 0)
}

/// Counters of a runtime, each group read at one moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct kiln_stats {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// Look-ups that found a kernel.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Misses that waited for another thread's compilation.
    pub waits: u64,
    /// Misses that were answered with the error of an attempt before.
    pub refusals: u64,
    /// Kernels made, or tried to be made, from packs as well.
    pub compilations: u64,
    /// The time that took, in nanoseconds, summed over threads.
    pub compile_nanoseconds: u64,
    /// Kernels that left the cache for want of capacity.
    pub evictions: u64,
    /// Kernels in the cache.
    pub cached_kernels: u64,
    /// Executable memory of the kernels in the cache, in bytes.
    pub cached_bytes: u64,
    /// Kernels that came from packs or the cache directory.
    pub from_files: u64,
    /// Executable memory mapped, in bytes.
    pub code_reserved_bytes: u64,
    /// Executable memory in use, in bytes.
    pub code_live_bytes: u64,
    /// The most executable memory that was in use at once, in bytes.
    pub code_peak_bytes: u64,
    /// Scratch memory kept for calls, in bytes.
    pub scratch_bytes: u64,
    /// Allocations of scratch memory so far; constant in steady state.
    pub scratch_allocations: u64,
    /// Packed weights alive, in bytes.
    pub packed_bytes: u64,
    /// The number of times that weights were packed so far. Those that were found, or came from a file, do not count.
    pub packings: u64,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_stats {
    const FIRST: usize = 144;
}

/// Makes a runtime. `options` may be NULL: none is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_create(
    options: *const kiln_options,
    runtime: *mut *mut kiln_runtime,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let out = unsafe { Out::new(runtime, "runtime")? };
        let runtime = match options.is_null() {
            true => kiln_options::default().build()?,
            // SAFETY: the header's rules.
            false => unsafe { reference(options, "options")? }.build()?,
        };
        out.give(kiln_runtime::new(runtime));
        Ok(())
    })
}

/// Another handle to the same runtime.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_clone(
    runtime: *const kiln_runtime,
    clone: *mut *mut kiln_runtime,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let out = unsafe { Out::new(clone, "clone")? };
        // SAFETY: the header's rules.
        let runtime = unsafe { reference(runtime, "runtime")? }.runtime.clone();
        out.give(kiln_runtime::new(runtime));
        Ok(())
    })
}

/// Frees a handle. With the last one to a runtime, its kernels, its families and its networks, the runtime goes. The threads that calls
/// were divided among have ended then; the one that compiles for families ends soon.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_free(runtime: *mut kiln_runtime) {
    // SAFETY: the header's rules.
    unsafe { free(runtime) }
}

/// Threads that large problems are divided among; 0 of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_threads(runtime: *const kiln_runtime) -> usize {
    // SAFETY: the header's rules.
    or_default(0, || Ok(unsafe { reference(runtime, "runtime")? }.runtime.threads()))
}

/// The target that the runtime compiles for, as `kiln_options_set_target` and `kiln_pack_write` take it. Valid as long as the handle; NULL
/// of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_target(runtime: *const kiln_runtime) -> *const c_char {
    // SAFETY: the header's rules.
    or_default(std::ptr::null(), || Ok(unsafe { reference(runtime, "runtime")? }.target.as_ptr()))
}

/// Succeeds if the pack that was added at this place, from 0, is used; `KILN_FILE` if it is not, and the message says why.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_pack_status(runtime: *const kiln_runtime, index: usize) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let runtime = unsafe { reference(runtime, "runtime")? };
        match runtime.runtime.packs().nth(index) {
            Some((_, Ok(_))) => Ok(()),
            Some((path, Err(e))) => Err(Error::new(kiln_status::KILN_FILE, format!("{}: {e}", path.display()))),
            None => Err(Error::argument("index", format!("{index}: so many packs were not added"))),
        }
    })
}

/// The number of notices so far: of settings that cannot be followed, and files that are not used. 0 of NULL. Threads that make
/// kernels may add more at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_notices(runtime: *const kiln_runtime) -> usize {
    // SAFETY: the header's rules.
    or_default(0, || Ok(unsafe { reference(runtime, "runtime")? }.runtime.notices().len()))
}

/// The notice at a place, from 0, in the order in which they came: the file or directory, and what to change. Valid as long as the
/// handle; NULL where there is none, and of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_notice(runtime: *const kiln_runtime, index: usize) -> *const c_char {
    or_default(std::ptr::null(), || {
        // SAFETY: the header's rules.
        let handle = unsafe { reference(runtime, "runtime")? };
        let mut texts = handle.notices.lock().unwrap_or_else(PoisonError::into_inner);
        // Notices are added, and never changed. The texts stay where they are when the list grows.
        for notice in handle.runtime.notices().iter().skip(texts.len()) {
            texts.push(c_string(&notice_text(notice)));
        }
        Ok(texts.get(index).map_or(std::ptr::null(), |text| text.as_ptr()))
    })
}

/// Makes kernels before they are needed, on as many threads as the runtime has. Kernels that the cache has no room for are lost
/// again.
///
/// `statuses`, unless it is NULL, gets the status of each request. The function returns the first that is not `KILN_OK`, with
/// its message, after all others have been made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_warm(
    runtime: *const kiln_runtime,
    requests: *const kiln_request,
    count: usize,
    statuses: *mut kiln_status,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (runtime, requests) = unsafe { (reference(runtime, "runtime")?, array(requests, count, "requests")?) };
        let mut errors: Vec<Option<Error>> = vec![];
        let (mut wanted, mut places) = (vec![], vec![]);
        for (place, request) in requests.iter().enumerate() {
            // SAFETY: the header's rules.
            match unsafe { request.read() } {
                Ok(request) => {
                    wanted.push(request);
                    places.push(place);
                    errors.push(None);
                }
                Err(e) => errors.push(Some(e)),
            }
        }
        for (at, error) in runtime.runtime.warm(&wanted, |_| ()) {
            errors[places[at]] = Some(error.into());
        }
        if !statuses.is_null() {
            for (place, error) in errors.iter().enumerate() {
                let status = error.as_ref().map_or(kiln_status::KILN_OK, |e| e.status);
                // SAFETY: the header's rules: memory for as many statuses as requests.
                unsafe { write(statuses.add(place), "statuses", status)? };
            }
        }
        match errors.into_iter().enumerate().find_map(|(place, error)| Some((place, error?))) {
            Some((place, e)) => Err(Error::new(e.status, format!("request {place}: {}", e.message))),
            None => Ok(()),
        }
    })
}

/// Reads the counters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_stats(runtime: *const kiln_runtime, stats: *mut kiln_stats) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let now = unsafe { reference(runtime, "runtime")? }.runtime.stats();
        let counters = kiln_stats {
            struct_size: 0,
            hits: now.kernels.hits,
            misses: now.kernels.misses,
            waits: now.kernels.waits,
            refusals: now.kernels.refusals,
            compilations: now.kernels.compilations,
            compile_nanoseconds: now.kernels.compile_time.as_nanos() as u64,
            evictions: now.kernels.evictions,
            cached_kernels: now.kernels.entries as u64,
            cached_bytes: now.kernels.bytes as u64,
            from_files: now.from_files,
            code_reserved_bytes: now.code.reserved as u64,
            code_live_bytes: now.code.live as u64,
            code_peak_bytes: now.code.peak as u64,
            scratch_bytes: now.scratch.bytes as u64,
            scratch_allocations: now.scratch.allocations,
            packed_bytes: now.packed_bytes as u64,
            packings: now.packings,
        };
        // SAFETY: the header's rules.
        unsafe { fill(stats, "stats", counters) }
    })
}

/// Starts the runtime's own threads again in a process that was forked off: there, only the thread that forked goes on, and calls would be
/// done on the calling thread alone. Called before others use the runtime in the new process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_renew_threads(runtime: *const kiln_runtime) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        Ok(unsafe { reference(runtime, "runtime")? }.runtime.renew_threads()?)
    })
}

/// Forgets all kernels and frees scratch memory. Kernels that there are handles to remain valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_runtime_clear(runtime: *const kiln_runtime) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        unsafe { reference(runtime, "runtime")? }.runtime.clear();
        Ok(())
    })
}
