//! Lines of the protocol that cannot be answered.

use kiln_jit::RuntimeError;

use crate::error::Error;

/// A line that cannot be answered; the protocol goes on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It begins with another word.
    #[error("unknown command `{0}`: expected prep, run or quit")]
    Command(String),
    /// It prepares an operation that the protocol does not have.
    #[error("operation `{0}` is not here: expected gemm, linear, ip, ip_bias_gelu, conv, convn, convp or model")]
    Operation(String),
    /// The numbers are not those of the command.
    #[error("`{0}`: expected {1}")]
    Numbers(String, &'static str),
    /// The name of a network is none.
    #[error("`{0}`: expected the name of a network, which is that of its file without .onnx")]
    Name(String),
    /// Nobody said where networks are.
    #[error("{0} is not set: expected the folder of the networks' files")]
    Folder(&'static str),
    /// A network has an input of another type.
    #[error("input `{0}` is {1}: expected f32")]
    Input(String, String),
    /// A network has no result to compare.
    #[error("{0} has no output")]
    Results(String),
    /// There is nothing to run.
    #[error("nothing is prepared")]
    Unprepared,
    /// The work failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<RuntimeError> for Refusal {
    fn from(e: RuntimeError) -> Self {
        Refusal::Failed(e.into())
    }
}
