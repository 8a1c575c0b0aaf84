//! The steps and memory of a network, as values of Python.

use kiln_model::{Code, Memory, StepInfo};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Result;

/// A step as a dictionary.
pub fn step<'py>(py: Python<'py>, step: &StepInfo<'_>) -> Result<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("layer", step.layer)?;
    all.set_item("text", step.text)?;
    all.set_item("kind", kind(step.code))?;
    all.set_item("problem", step.problem.map(ToString::to_string))?;
    all.set_item("type", step.ty.to_string())?;
    all.set_item("bytes", step.ty.bytes())?;
    Ok(all)
}

/// The kind of code that computes a step.
pub fn kind(code: Code) -> &'static str {
    match code {
        Code::Kernel => "kernel",
        Code::Native => "native",
        Code::Control => "control",
        Code::Interpreter => "interpreter",
    }
}

/// The memory of a network, as a dictionary of bytes.
pub fn memory<'py>(py: Python<'py>, memory: &Memory) -> Result<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("arena", memory.arena)?;
    all.set_item("peak", memory.peak)?;
    all.set_item("packed", memory.packed)?;
    all.set_item("constants", memory.constants)?;
    all.set_item("code", memory.code)?;
    Ok(all)
}
