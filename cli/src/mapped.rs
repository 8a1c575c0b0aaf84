//! Networks in files, which are mapped: they are as large as their weights, and are used where they are.
//!
//! The command line says in its documentation that files stay as they are while it runs, and [`explain`](crate::cut_off::explain)
//! has it end with a message if one is cut off all the same.

#![allow(unsafe_code)]

use std::path::Path;

use kiln_model::{Model, ModelError, OnnxError};

/// A network with its weights.
pub fn network(path: &Path) -> Result<Model, ModelError> {
    // SAFETY: see above. A file that is written to meanwhile makes other results, on which nothing else in this process depends.
    unsafe { Model::map_onnx(path) }
}

/// The graph of a network.
pub fn graph(path: &Path) -> Result<kiln_onnx::Model, OnnxError> {
    // SAFETY: as above.
    unsafe { kiln_onnx::Model::map(path) }
}
