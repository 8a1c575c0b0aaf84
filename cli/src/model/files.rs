//! The files and folders that are networks.

use std::fs;
use std::path::Path;

use kiln_model::arch::Architecture;

use crate::kind::FileKind;

/// The file of a network in a folder.
pub const MODEL: &str = "model.onnx";

/// True if `text` names a built-in network, an ONNX file, or a folder with one.
pub fn is_network(text: &str) -> bool {
    let path = Path::new(text);
    text.parse::<Architecture>().is_ok() || FileKind::of(path) == Some(FileKind::Onnx) || has_model(path)
}

/// True if a folder has the file of a network.
pub fn has_model(folder: &Path) -> bool {
    is_file(&folder.join(MODEL))
}

/// True if there is a file at a path.
pub fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file())
}
