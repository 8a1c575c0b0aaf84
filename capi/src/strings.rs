//! Strings for C.

use std::ffi::CString;

/// `text` as a C string. A NUL becomes a space: messages of the library have none, but a text that they quote can.
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
