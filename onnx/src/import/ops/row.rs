//! A row of a table of operators.

use crate::import::node::{Ctx, Outputs};

/// Adds a node of tensors to the function, and gives the values that it makes.
pub(super) type ImportTensors = fn(&mut Ctx<'_>) -> Outputs;

/// An operator by its name in ONNX's own domain.
pub(super) type Row = (&'static str, ImportTensors);
