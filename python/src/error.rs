//! Failures as exceptions of Python.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kiln_ir::func::FuncError;
use kiln_jit::{CompileError, RuntimeError};
use kiln_model::{ImportError, ModelError};
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyNotImplementedError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::{PyErr, PyResult, create_exception};

create_exception!(kiln, Unsupported, PyNotImplementedError, "Kiln cannot compute this; the message says what it is.");
create_exception!(kiln, InternalError, PyRuntimeError, "A fault of Kiln's own. Please report it with the message.");

/// A failure of this crate, or of those below.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A function's text, or its arguments.
    #[error(transparent)]
    Func(#[from] FuncError),
    /// A network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A kernel or a runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A value that is none of those that may be given.
    #[error("{0}")]
    Value(String),
    /// An object of another type.
    #[error("{0}")]
    Type(String),
    /// An operation that is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// A fault of Kiln's own.
    #[error("{0}")]
    Internal(String),
    /// An exception that Python raised.
    #[error(transparent)]
    Python(#[from] PyErr),
}

/// The result of functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        let text = error.to_string();
        match error {
            Error::Python(error) => error,
            Error::Func(_) | Error::Value(_) => PyValueError::new_err(text),
            Error::Type(_) => PyTypeError::new_err(text),
            Error::Unsupported(_) => Unsupported::new_err(text),
            Error::Internal(_) => InternalError::new_err(text),
            Error::Runtime(error) => of_runtime(&error, text),
            Error::Model(error) => of_model(&error, text),
        }
    }
}

fn of_model(error: &ModelError, text: String) -> PyErr {
    match error {
        ModelError::Pass(_) | ModelError::Operation { .. } | ModelError::Plan(_) => InternalError::new_err(text),
        ModelError::Kernel { source, .. } => of_runtime(source, text),
        ModelError::Runtime(source) => of_runtime(source, text),
        ModelError::Index { .. } => PyIndexError::new_err(text),
        ModelError::OutOfMemory { .. } => PyMemoryError::new_err(text),
        ModelError::Endless { .. } => PyRuntimeError::new_err(text),
        ModelError::Import(error) if matches!(**error, ImportError::Op { .. }) => Unsupported::new_err(text),
        // All others are what the caller gave: a file, an architecture, sizes, inputs.
        _ => PyValueError::new_err(text),
    }
}

fn of_runtime(error: &RuntimeError, text: String) -> PyErr {
    match error {
        RuntimeError::Compile(error) => match &**error {
            CompileError::Unsupported { .. } => Unsupported::new_err(text),
            CompileError::Internal { .. } => InternalError::new_err(text),
            _ => PyValueError::new_err(text),
        },
        RuntimeError::Scratch(_) | RuntimeError::PackedLimit { .. } => PyMemoryError::new_err(text),
        RuntimeError::Argument { .. }
        | RuntimeError::Weights { .. }
        | RuntimeError::NotPacked { .. }
        | RuntimeError::Family { .. }
        | RuntimeError::Setting { .. }
        | RuntimeError::Environment { .. }
        | RuntimeError::ThreadCount { .. }
        | RuntimeError::StreamCount { .. } => PyValueError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// Does something, of which a panic becomes an `InternalError`.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(PyErr::from),
        Err(panic) => Err(InternalError::new_err(format!("Kiln panicked: {}", message(&*panic)))),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
