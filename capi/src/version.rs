//! Which library this is.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use crate::error::or_default;
use crate::strings::c_string;

/// The library's version and a hash of its compiler's sources, which packs and cache directories depend on. Never NULL, and
/// valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn kiln_version() -> *const c_char {
    static VERSION: OnceLock<CString> = OnceLock::new();
    or_default(c"".as_ptr(), || Ok(VERSION.get_or_init(|| c_string(kiln_compiler::VERSION)).as_ptr()))
}
