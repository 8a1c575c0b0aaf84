//! The format of a file, told by its first bytes, for messages about a file of another format than is expected.

use std::fmt;
use std::io::Read;
use std::path::Path;

/// A format that a user may take for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// An ONNX network, told by its name: its first bytes are not distinctive.
    Onnx,
    /// A folder.
    Folder,
    /// A format that begins with bytes of its own.
    Magic(&'static str),
    /// Text.
    Text,
}

/// The place of a format's first bytes, the bytes, and the format.
const MAGIC: [(usize, &[u8], &str); 15] = [
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"KILNPACK", "a pack of kernels"),
    (0, b"KILNBNDL", "a pack of kernels, of weights or of both"),
    (0, b"KILNWGTS", "a pack of weights"),
    (0, b"PK\x03\x04", "a zip archive, as PyTorch and NumPy (.npz) write them"),
    (0, b"\x80\x02", "a Python pickle, as older PyTorch writes them"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them"),
    (4, b"TFL3", "a TensorFlow Lite network"),
    (4, b"ORTM", "a network in ONNX Runtime's own format"),
    (0, b"GGUF", "a GGUF file"),
    (8, b"{\"", "a safetensors file"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x7fELF", "a program or a library"),
    (0, b"%PDF", "a PDF document"),
];

/// Bytes that are looked at.
const LOOK: usize = 512;

impl FileKind {
    /// The format of the file or folder at `path`; `None` if there is none, or it has a format that is not known here.
    pub fn of(path: &Path) -> Option<Self> {
        let is_onnx = path.extension().is_some_and(|end| end == "onnx");
        // Nothing but a regular file is opened: a pipe would block.
        match std::fs::metadata(path) {
            Ok(data) if data.is_dir() => return Some(FileKind::Folder),
            Ok(data) if data.is_file() => {}
            _ => return is_onnx.then_some(FileKind::Onnx),
        }
        let mut start = vec![];
        kiln_files::open(path).ok()?.0.take(LOOK as u64).read_to_end(&mut start).ok()?;
        let magic = MAGIC.iter().find(|(at, magic, _)| start.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
        match magic {
            Some((_, _, name)) => Some(FileKind::Magic(name)),
            None if is_onnx => Some(FileKind::Onnx),
            None if is_text(&start) => Some(FileKind::Text),
            None => None,
        }
    }
}

/// True for UTF-8 without control characters, which may be cut off in a character.
fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace())
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Onnx => "an ONNX network",
            FileKind::Folder => "a folder",
            FileKind::Magic(name) => name,
            FileKind::Text => "a text file",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let kind = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            FileKind::of(&path)
        };
        for (at, magic, name) in MAGIC {
            let bytes = [&vec![1; at][..], magic, b"rest"].concat();
            assert_eq!(kind("x.onnx", &bytes), Some(FileKind::Magic(name)), "the bytes count, not the name");
        }
        assert_eq!(kind("x.onnx", b"\x08\x08"), Some(FileKind::Onnx));
        assert_eq!(kind("x", b"\x08\x08"), None);
        assert_eq!(kind("empty", b""), None);
        let cut = "ä".repeat(LOOK);
        assert_eq!(kind("list", &cut.as_bytes()[1..]), None);
        assert_eq!(kind("list", format!("a{cut}").as_bytes()), Some(FileKind::Text));
        assert_eq!(FileKind::of(folder.path()), Some(FileKind::Folder));
        assert_eq!(FileKind::of(&folder.path().join("none.onnx")), Some(FileKind::Onnx));
        assert_eq!(FileKind::of(&folder.path().join("none")), None);
    }

    #[test]
    fn packs_begin_as_they_are_told_apart_by() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pack");
        kiln_jit::pack::write(&file, &"neoverse-n1".parse().unwrap(), &[]).unwrap();
        assert_eq!(FileKind::of(&file).unwrap().to_string(), "a pack of kernels");
    }
}
