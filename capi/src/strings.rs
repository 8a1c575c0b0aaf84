//! Strings for C.

use std::ffi::CString;

/// A string for C. What follows a NUL would be lost: there is none in what the library says, but for texts that it quotes.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_where_c_ends_them() {
        assert_eq!(c_string("a\0b").as_c_str(), c"a b");
    }
}
