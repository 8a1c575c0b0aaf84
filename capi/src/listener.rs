//! Functions of the program that are told of something.

use std::ffi::{c_char, c_void};

use ::kiln_jit::Notice;

use crate::error::Error;
use crate::pointers::{Given, Growing, given};
use crate::strings::c_string;

/// A notice as listeners and callers get it: the path that it is about, and its text.
pub(crate) fn notice_text(notice: &Notice) -> String {
    format!("{}: {notice}", notice.path().display())
}

/// A function of the program's own that is told of something.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kiln_listener {
    /// The size of this struct, which the caller sets.
    pub struct_size: usize,
    /// Is passed to the functions.
    pub context: *mut c_void,
    /// Is called with each text, which is valid during the call and has no end of line. Any threads call it, several at once too. It
    /// does not call the runtime that it listens to.
    pub tell: Option<unsafe extern "C" fn(context: *mut c_void, text: *const c_char)>,
    /// Is called once, when nothing uses the listener any more, on whatever thread that is; may be NULL.
    pub release: Option<unsafe extern "C" fn(context: *mut c_void)>,
}

// SAFETY: C's layout, its size first.
unsafe impl Growing for kiln_listener {
    const FIRST: usize = 32;
}

// SAFETY: numbers, pointers, and functions that may be NULL.
unsafe impl Given for kiln_listener {}

/// A program's listener.
pub(crate) struct Listener {
    tell: unsafe extern "C" fn(*mut c_void, *const c_char),
    context: Release,
}

impl Listener {
    /// # Safety
    /// `listener` is null or to a listener of any version, whose functions do as the header says.
    pub(crate) unsafe fn new(listener: *const kiln_listener) -> Result<Self, Error> {
        // SAFETY: as the caller says.
        let kiln_listener { context, tell, release, .. } = unsafe { given(listener, "listener")? };
        let tell = tell.ok_or_else(|| Error::argument("listener", "`tell` is null"))?;
        // SAFETY: as the caller says.
        Ok(Listener { tell, context: unsafe { Release::new(context, release) } })
    }

    pub(crate) fn tell(&self, text: &str) {
        let text = c_string(text);
        // SAFETY: the header's rules for the function.
        unsafe { (self.tell)(self.context.get(), text.as_ptr()) };
    }
}

/// A context of the program's, which is released when it is not used any more.
pub(crate) struct Release {
    context: *mut c_void,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: the header says that any thread may call the functions which the context is for, and it is not used here otherwise.
unsafe impl Send for Release {}

// SAFETY: the same.
unsafe impl Sync for Release {}

impl Release {
    /// # Safety
    /// The function, if there is one, may be called once with the context, on any thread.
    pub(crate) unsafe fn new(context: *mut c_void, release: Option<unsafe extern "C" fn(*mut c_void)>) -> Self {
        Release { context, release }
    }

    pub(crate) fn get(&self) -> *mut c_void {
        self.context
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: as was said when `self` was made.
            unsafe { release(self.context) };
        }
    }
}
