//! Threads of the program that calls.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use ::kiln_jit::{Executor, MAX_THREADS};

use crate::error::Error;
use crate::listener::Release;
use crate::pointers::{Given, Growing, given};

/// A part of a call, which an executor calls with the `work` that it got and a number.
pub type kiln_work = Option<unsafe extern "C" fn(work: *const c_void, number: usize)>;

/// Threads of the program's own, which do the work of calls.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_executor {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// The number of threads that calls may be divided among, from 1 to 1024.
    pub threads: usize,
    /// Is passed to the functions.
    pub context: *mut c_void,
    /// Calls `part(work, number)` once with each number below `count`, on any threads, the calling one perhaps among them, at once or one
    /// after the other, and returns when all calls have returned. Several threads may call it at once. The calling thread may be one of the
    /// executor's, in a call of this function too: it must not wait for a thread that waits for it.
    pub run: Option<unsafe extern "C" fn(context: *mut c_void, count: usize, part: kiln_work, work: *const c_void)>,
    /// Is called once, when nothing uses the executor any more, on whatever thread that is; may be NULL.
    pub release: Option<unsafe extern "C" fn(context: *mut c_void)>,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_executor {
    const FIRST: usize = 40;
}

// SAFETY: numbers, pointers, and functions that may be NULL.
unsafe impl Given for kiln_executor {}

/// A program's executor.
pub(crate) struct Threads {
    count: usize,
    run: unsafe extern "C" fn(*mut c_void, usize, kiln_work, *const c_void),
    context: Release,
}

impl Threads {
    /// # Safety
    /// `executor` is null or to an executor of any version, whose functions do as the header says.
    pub(crate) unsafe fn new(executor: *const kiln_executor) -> Result<Self, Error> {
        // SAFETY: as the caller says.
        let executor = unsafe { given(executor, "executor")? };
        let kiln_executor { threads: count, context, run, release, .. } = executor;
        let run = run.ok_or_else(|| Error::argument("executor", "`run` is null"))?;
        if !(1..=MAX_THREADS).contains(&count) {
            return Err(Error::argument("executor", format!("{count} threads: expected from 1 to {MAX_THREADS}")));
        }
        // SAFETY: as the caller says.
        Ok(Threads { count, run, context: unsafe { Release::new(context, release) } })
    }
}

/// The data that parts of a call share.
struct Parts<'a> {
    count: usize,
    work: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Executor for Threads {
    fn threads(&self) -> usize {
        self.count
    }

    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let parts = Parts { count, work, panic: Mutex::default() };
        // SAFETY: the header's rules for the function; `parts` lives until it has returned, when all parts have.
        unsafe { (self.run)(self.context.get(), count, Some(part), (&raw const parts).cast()) };
        // No panic passes through C's frames.
        if let Some(panic) = parts.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

unsafe extern "C" fn part(work: *const c_void, number: usize) {
    // SAFETY: executors pass on what they got, during the call: the header's rules.
    let parts = unsafe { &*work.cast::<Parts<'_>>() };
    // A number too many is ignored: the runtime counts those that were done.
    if number < parts.count
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| (parts.work)(number)))
    {
        parts.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn each(_: *mut c_void, count: usize, part: kiln_work, work: *const c_void) {
        // SAFETY: what was given, during the call.
        (0..count + 2).for_each(|number| unsafe { part.unwrap()(work, number) });
    }

    #[test]
    fn a_panic_of_a_part_passes_by_the_frames_of_c() {
        let executor = kiln_executor {
            struct_size: size_of::<kiln_executor>(),
            threads: 2,
            context: std::ptr::null_mut(),
            run: Some(each),
            release: None,
        };
        // SAFETY: its function does as it should, but for numbers too many.
        let threads = unsafe { Threads::new(&executor) }.unwrap();
        let seen = Mutex::new(vec![]);
        threads.run(3, &|number| seen.lock().unwrap().push(number));
        assert_eq!(*seen.lock().unwrap(), [0, 1, 2]);
        let outcome = catch_unwind(AssertUnwindSafe(|| threads.run(2, &|number| panic!("part {number}"))));
        assert_eq!(outcome.unwrap_err().downcast_ref::<String>().unwrap(), "part 0");
    }
}
