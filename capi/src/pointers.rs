//! Pointers from C, checked as far as they can be.

use std::ffi::{CStr, OsStr, c_char};
use std::mem::MaybeUninit;
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

/// The target of a pointer.
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

/// A struct that later versions may add fields to the end of. Its first field is the size of the caller's struct. What is added takes
/// a multiple of 8 bytes, so that no struct ends with bytes that belong to no field.
///
/// # Safety
/// The type has C's layout, and its first field is a `usize`.
pub(crate) unsafe trait Growing: Copy {
    /// The size of the first version of the struct that was released: no caller's struct is smaller.
    const FIRST: usize;
}

/// A struct that C fills.
///
/// # Safety
/// Bytes that are all zero are a value of the type, and so are those that C may have put in place of some of them.
pub(crate) unsafe trait Given: Growing {}

/// No struct is as large: a larger size was never set.
const MOST: usize = 4096;

/// The size of a caller's struct.
///
/// # Safety
/// Unless it is null, `pointer` is to a `T` of any version that nobody writes meanwhile.
unsafe fn struct_size<T: Growing>(pointer: *const T, name: &str) -> Result<usize, Error> {
    check(pointer, name)?;
    // SAFETY: not null, aligned, and each version begins with its size; the caller answers for the rest.
    match unsafe { pointer.cast::<usize>().read() } {
        size if (T::FIRST..=MOST).contains(&size) => Ok(size),
        size => {
            let why = format!("struct_size is {size}, expected at least {}: set it to the struct's sizeof", T::FIRST);
            Err(Error::argument(name, why))
        }
    }
}

/// A caller's struct of any version. Fields that it does not have are zero. Those that this library does not know must be.
///
/// # Safety
/// Unless it is null, `pointer` is to a `T` of any version, as long as it says, that nobody writes meanwhile.
pub(crate) unsafe fn given<T: Given>(pointer: *const T, name: &str) -> Result<T, Error> {
    // SAFETY: as the caller says.
    let size = unsafe { struct_size(pointer, name)? };
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the struct is as long as it says, and no more is copied than a `T` has.
    unsafe { std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known) };
    // SAFETY: the struct is as long as it says; its bytes beyond `T` belong to fields.
    let unknown = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|byte| *byte != 0) {
        let why = "a field is set that this version of the library does not have: update it, or set the field to zero";
        return Err(Error::argument(name, why));
    }
    // SAFETY: zeros are a value, and what was copied is the beginning of one, of the same layout.
    Ok(unsafe { value.assume_init() })
}

/// Writes a result into a caller's struct of any version: as many fields as it has, zeros into those that this library does not know,
/// and not its size.
///
/// # Safety
/// Unless it is null, `pointer` is to a `T` of any version, as long as it says, that nobody else uses meanwhile.
pub(crate) unsafe fn fill<T: Growing>(pointer: *mut T, name: &str, value: T) -> Result<(), Error> {
    // SAFETY: as the caller says.
    let size = unsafe { struct_size(pointer, name)? };
    let (known, first) = (size.min(size_of::<T>()), size_of::<usize>());
    let (to, from) = (pointer.cast::<u8>(), (&raw const value).cast::<u8>());
    // SAFETY: both are as long, and are different objects.
    unsafe { std::ptr::copy_nonoverlapping(from.add(first), to.add(first), known - first) };
    // SAFETY: the struct is as long as it says.
    unsafe { to.add(known).write_bytes(0, size - known) };
    Ok(())
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
    }

    /// A struct as this library knows it, and one of a version with another field.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Known {
        size: usize,
        one: u32,
        two: u64,
    }

    // SAFETY: C's layout, its size first.
    unsafe impl Growing for Known {
        const FIRST: usize = 16;
    }

    // SAFETY: numbers.
    unsafe impl Given for Known {}

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Newer {
        known: Known,
        three: u64,
    }

    #[test]
    fn no_struct_is_shorter_than_its_first_version() {
        fn sizes<T: Growing>() -> [usize; 2] {
            [T::FIRST, size_of::<T>()]
        }
        let all = [
            sizes::<crate::executor::kiln_executor>(),
            sizes::<crate::kernel::kiln_args>(),
            sizes::<crate::kernel::kiln_kernel_info>(),
            sizes::<crate::kernel::kiln_operand_info>(),
            sizes::<crate::listener::kiln_listener>(),
            sizes::<crate::network::kiln_network_info>(),
            sizes::<crate::network::kiln_value_info>(),
            sizes::<crate::runtime::kiln_stats>(),
        ];
        assert!(all.iter().all(|[first, now]| first <= now && now % 8 == 0), "{all:?}");
    }

    #[test]
    fn structs_of_other_versions_are_read_and_written_as_far_as_both_know_them() {
        let newer = |size, three| Newer { known: Known { size, one: 1, two: 2 }, three };
        let read = |from: &Newer| {
            // SAFETY: it is at least as long as it says.
            unsafe { given((&raw const *from).cast::<Known>(), "x") }.map_err(|e| e.message)
        };
        let write = |to: &mut Newer| {
            // SAFETY: as above.
            unsafe { fill((&raw mut *to).cast::<Known>(), "x", Known { size: 0, one: 8, two: 9 }) }.unwrap();
        };
        assert_eq!(read(&newer(24, 3)).unwrap(), Known { size: 24, one: 1, two: 2 });
        assert_eq!(read(&newer(16, 3)).unwrap(), Known { size: 16, one: 1, two: 0 });
        assert_eq!(read(&newer(32, 0)).unwrap(), Known { size: 32, one: 1, two: 2 });
        assert!(read(&newer(32, 3)).unwrap_err().contains("`x`: a field is set"));
        for size in [0, 15, MOST + 1, usize::MAX] {
            assert!(
                read(&newer(size, 0))
                    .unwrap_err()
                    .contains(&format!("`x`: struct_size is {size}, expected at least 16"))
            );
        }
        for (size, two, three) in [(16, 2, 3), (24, 9, 3), (32, 9, 0)] {
            let mut to = newer(size, 3);
            write(&mut to);
            assert_eq!(to, Newer { known: Known { size, one: 8, two }, three });
        }
    }
}
