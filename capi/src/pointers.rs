//! Pointers from C, checked as far as they can be.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::Error;

/// Neither null nor misaligned.
fn check<T>(pointer: *const T, name: &str) -> Result<(), Error> {
    match pointer {
        p if p.is_null() => Err(Error::argument(name, "null")),
        p if !p.is_aligned() => Err(Error::argument(name, "not aligned: no such object")),
        _ => Ok(()),
    }
}

/// What a pointer points to.
///
/// # Safety
/// Unless it is null, `pointer` is to a `T` that nobody writes or frees during `'a`.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Error> {
    check(pointer, name)?;
    // SAFETY: not null, aligned, and the caller answers for the rest.
    Ok(unsafe { &*pointer })
}

/// [`reference`] to something that only the caller uses.
///
/// # Safety
/// Unless it is null, `pointer` is to a `T` that nobody else uses during `'a`.
pub(crate) unsafe fn exclusive<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T, Error> {
    check(pointer, name)?;
    // SAFETY: not null, aligned, and the caller answers for the rest.
    Ok(unsafe { &mut *pointer })
}

/// An array; null is one without elements.
///
/// # Safety
/// Unless it is null, `pointer` is to `count` values that nobody writes during `'a`.
pub(crate) unsafe fn array<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T], Error> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    fits::<T>(pointer.addr(), count).ok_or_else(|| Error::argument(name, format!("{count} elements: too many")))?;
    // SAFETY: not null, aligned, no longer than an object can be, and the caller answers for the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// The bytes of `count` values at an address, if an object can have so many.
pub(crate) fn fits<T>(address: usize, count: usize) -> Option<usize> {
    let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok())?;
    address.checked_add(bytes).map(|_| bytes)
}

/// A string.
///
/// # Safety
/// Unless it is null, `pointer` is to a string with an end that nobody writes during `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Error> {
    // SAFETY: as the caller says.
    let text = unsafe { bytes(pointer, name)? };
    std::str::from_utf8(text).map_err(|e| Error::argument(name, format!("not UTF-8: {e}")))
}

/// A path: any bytes.
///
/// # Safety
/// That of [`text`].
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path, Error> {
    // SAFETY: as the caller says.
    match unsafe { bytes(pointer, name)? } {
        [] => Err(Error::argument(name, "an empty path")),
        bytes => Ok(Path::new(OsStr::from_bytes(bytes))),
    }
}

/// # Safety
/// That of [`text`].
unsafe fn bytes<'a>(pointer: *const c_char, name: &str) -> Result<&'a [u8], Error> {
    check(pointer, name)?;
    // SAFETY: not null, and the caller answers for the end.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// A string for C. What follows a NUL would be lost: there is none in what the library says, but for texts that it quotes.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// Where a handle goes: null until there is one.
pub(crate) struct Out<'a, T>(&'a mut *mut T);

impl<'a, T> Out<'a, T> {
    /// # Safety
    /// Unless it is null, `pointer` is to memory for a pointer that nobody else uses during `'a`.
    pub(crate) unsafe fn new(pointer: *mut *mut T, name: &str) -> Result<Self, Error> {
        check(pointer, name)?;
        // SAFETY: not null, aligned, and the caller answers for the rest; what was there is not read.
        unsafe { pointer.write(std::ptr::null_mut()) };
        // SAFETY: the same, and now it holds a value.
        Ok(Out(unsafe { &mut *pointer }))
    }

    /// Gives `value` to C, until [`free`](crate::error::free) gets it back.
    pub(crate) fn give(self, value: T) {
        *self.0 = Box::into_raw(Box::new(value));
    }
}

/// Writes a result.
///
/// # Safety
/// Unless it is null, `pointer` is to memory for a `T` that nobody else uses.
pub(crate) unsafe fn write<T: Copy>(pointer: *mut T, name: &str, value: T) -> Result<(), Error> {
    check(pointer, name)?;
    // SAFETY: not null, aligned, and the caller answers for the rest.
    unsafe { pointer.write(value) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_noticed_is_an_error() {
        let message = |e: Error| e.message;
        let misaligned = std::ptr::without_provenance::<u64>(9);
        // SAFETY: all of them are refused before they are followed.
        let errors = unsafe {
            [
                reference(std::ptr::null::<u64>(), "a").map_err(message).unwrap_err(),
                reference(misaligned, "b").map_err(message).unwrap_err(),
                array(std::ptr::null::<u64>(), 1, "c").map_err(message).unwrap_err(),
                array(&0u64, usize::MAX, "d").map_err(message).unwrap_err(),
                text(std::ptr::null(), "e").map_err(message).unwrap_err(),
                text(c"\xff".as_ptr(), "f").map_err(message).unwrap_err(),
                path(c"".as_ptr(), "g").map_err(message).unwrap_err(),
            ]
        };
        for (name, error) in ["a", "b", "c", "d", "e", "f", "g"].into_iter().zip(errors) {
            assert!(error.starts_with(&format!("argument `{name}`: ")), "{error}");
        }
        // SAFETY: nothing is there.
        assert!(unsafe { array(misaligned, 0, "none") }.unwrap().is_empty());
        assert_eq!(fits::<u16>(usize::MAX - 7, 4), None);
        assert_eq!(c_string("a\0b").as_c_str(), c"a b");
    }
}
