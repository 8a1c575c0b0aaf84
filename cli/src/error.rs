//! Errors of subcommands.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kiln_compiler::CompileError;
use kiln_ir::ProblemError;
use kiln_ir::func::FuncError;
use kiln_ir::fuse::FuseError;
use kiln_ir::text::clipped;
use kiln_jit::{PackError, RuntimeError};
use kiln_model::arch::UnknownArchitecture;
use kiln_model::{ImportError, ModelError, OnnxError};
use kiln_npy::NpyError;

use crate::kind::FileKind;

/// Any failure of the tool; printed after `error: `.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to work on.
    #[error(
        "no problem given: expected one such as \"matmul f32 128x768:768x3072 +bias+relu\", a .kiln file, - or --batch FILE"
    )]
    NoProblem,
    /// Both a problem and a list.
    #[error("the problem `{0}` cannot be used with --batch FILE, which reads problems from FILE")]
    ProblemAndBatch(String),
    /// A network in place of a problem.
    #[error("`{network}` is a network, not a problem: `{command} {network}` is for networks")]
    IsANetwork {
        /// The network.
        network: String,
        /// The command for networks, without the network.
        command: &'static str,
    },
    /// A file in place of a problem.
    #[error("`{path}` is {kind}: expected {expected}")]
    IsAFile {
        /// The path.
        path: String,
        /// The format of the file.
        kind: FileKind,
        /// A description of what is expected instead.
        expected: String,
    },
    /// A problem in place of a network.
    #[error("`{0}` is a problem, not a network: `kiln run`, `dump`, `verify` and `bench` are for problems")]
    IsAProblem(String),
    /// A pack to write whose name is a problem.
    #[error("`{0}` is a problem: expected the path of the pack to write before it")]
    PackIsAProblem(String),
    /// Options of which each rules out the other.
    #[error("{option}: {why}")]
    Contradiction {
        /// An option, with its value.
        option: String,
        /// The contradiction, as the rest of a sentence.
        why: String,
    },
    /// An option for one thing, given twice for the same.
    #[error("{option} is given twice for `{name}`")]
    Twice {
        /// The option.
        option: &'static str,
        /// The name in its value.
        name: String,
    },
    /// A list without an entry.
    #[error("{origin} holds no problem: expected one a line; `#` begins a comment")]
    Empty {
        /// The file.
        origin: String,
    },
    /// A failure in a place.
    #[error("{origin}: {cause}")]
    At {
        /// The file, with the line if there are several.
        origin: String,
        /// The error.
        cause: Box<Error>,
    },
    /// A problem string is malformed.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// A tensor function is malformed.
    #[error(transparent)]
    Func(#[from] FuncError),
    /// A tensor function is not one kernel.
    #[error(transparent)]
    Fuse(#[from] FuseError),
    /// Nothing can be measured.
    #[error(
        "the clock (CLOCK_MONOTONIC) stands still: {elapsed:?} passed by it in {seconds} s; nothing can be measured by it, nor \
         if the machine was suspended meanwhile"
    )]
    Clock {
        /// The time that passed by the clock.
        elapsed: Duration,
        /// The time that passed, as the system counts it elsewhere.
        seconds: i64,
    },
    /// A call beside others does not give what one that was alone gave.
    #[error("stream {stream} of {streams} computed other results than a call that was alone, of the same inputs")]
    Streams {
        /// The stream, from 1.
        stream: usize,
        /// The number of streams.
        streams: usize,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(io::Error),
    /// A tensor file does not hold the operand.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A tensor file for an operand that the problem does not have.
    #[error("--{option}: `{problem}` has no {operand} operand: {hint}")]
    NoOperand {
        /// The option without its dashes.
        option: String,
        /// The operand it is for.
        operand: String,
        /// The problem.
        problem: String,
        /// A way to mend it.
        hint: String,
    },
    /// Tensor files with several problems.
    #[error("--{option} is for one problem, and there are {count}")]
    OneProblem {
        /// The option without its dashes.
        option: String,
        /// The number of problems.
        count: usize,
    },
    /// The tensors do not fit in memory.
    #[error("`{problem}` needs {bytes} bytes for its tensors and their check, more than this machine can give")]
    Memory {
        /// The problem.
        problem: String,
        /// All of its tensors.
        bytes: u64,
    },
    /// The compiler refused, or has a defect.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A pack is refused.
    #[error(transparent)]
    Pack(PackError),
    /// A network cannot be loaded, compiled or run.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// A test cannot be read.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// Neither a built-in network nor a file.
    #[error("{0}, or the path of an .onnx file or of a folder with a network")]
    UnknownNetwork(UnknownArchitecture),
    /// A folder without a network.
    #[error("{}: the folder has no model.onnx, and no config.json with a model.safetensors", .0.display())]
    NoModel(PathBuf),
    /// A size for which there is no dimension.
    #[error("{option}: there is no dimension of that kind; the file's inputs are {known}")]
    NoSuchDim {
        /// The option, with its value.
        option: String,
        /// The inputs with their types.
        known: String,
    },
    /// A limit of the error without anything to compare with.
    #[error("--max-rel: there is no reference to compare with; --check makes one, by interpreting the network")]
    NoReference,
    /// An option for files, with a built-in network.
    #[error("--{option} {name}: {network} takes --batch and --seq alone")]
    NotAFile {
        /// The option without its dashes.
        option: &'static str,
        /// The name in its value.
        name: String,
        /// The network.
        network: String,
    },
    /// A dimension without a size.
    #[error("{}", open_dim(input, *axis, name, all))]
    OpenDim {
        /// The input.
        input: String,
        /// Which of its dimensions, from 0.
        axis: usize,
        /// Its name in the file; empty if it has none.
        name: String,
        /// All that the file leaves open, with the sizes of those that are known.
        all: Vec<kiln_onnx::Dimension>,
    },
    /// An input without a shape.
    #[error("input `{input}`: the file does not say its shape: give `--shape {input}=AxBxC`")]
    OpenShape {
        /// The input.
        input: String,
    },
    /// An input whose elements the import needs.
    #[error("{0}; here, `--input NAME=FILE.npy` gives one")]
    NeedsInput(Box<ImportError>),
    /// A node that cannot be imported, in a network with open dimensions.
    #[error("{error}; that is for these sizes, which `--batch`, `--seq` and `--dim` change: {sizes}")]
    ForSizes {
        /// The fault.
        error: Box<ImportError>,
        /// The open dimensions with their sizes.
        sizes: String,
    },
    /// A tensor for no input.
    #[error(
        "--input {text}: no such input, or it has its elements already: expected NAME=FILE.npy with one of {known}"
    )]
    UnknownInput {
        /// The value of the option.
        text: String,
        /// The names there are.
        known: String,
    },
    /// A tensor of another type than an input's.
    #[error("{found}: input `{name}` takes {expected}")]
    InputType {
        /// The input.
        name: String,
        /// Its type.
        expected: String,
        /// The tensor's type.
        found: String,
    },
    /// An input that is no tensor.
    #[error("input `{name}`: {why}")]
    InputKind {
        /// The input.
        name: String,
        /// The reason.
        why: String,
    },
    /// Standard output or a report cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Which dimension has no size, and how to give it one.
fn open_dim(input: &str, axis: usize, name: &str, all: &[kiln_onnx::Dimension]) -> String {
    let is = if name.is_empty() { "has no name".into() } else { format!("is `{}`", clipped(name)) };
    let by_name = if name.is_empty() { String::new() } else { format!("`{}` or ", argument("--dim", name, "N")) };
    let by_shape = argument("--shape", input, "AxBxC");
    let all = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let all = clipped(&all);
    let input = clipped(input);
    format!(
        "dimension {axis} of input `{input}` {is}, of which nothing says the size: give {by_name}`{by_shape}`; the file leaves open {all}"
    )
}

/// An option for a name as a shell takes it.
fn argument(option: &str, name: &str, value: &str) -> String {
    let name = clipped(name);
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "_-.:/".contains(c));
    if is_plain { format!("{option} {name}={value}") } else { format!("{option} '{name}={value}'") }
}

impl Error {
    /// Adds the place where the error happened.
    pub fn at(self, origin: impl Into<String>) -> Self {
        Error::At { origin: origin.into(), cause: Box::new(self) }
    }

    /// 1 for a defect of Kiln, 2 for an error that the caller can mend.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::At { cause, .. } => cause.exit_code(),
            Error::Streams { .. } => 1,
            Error::Compile(e) => compile_code(e),
            Error::Runtime(e) => runtime_code(e),
            Error::Model(e) => match &**e {
                ModelError::Kernel { source, .. } | ModelError::Runtime(source) => runtime_code(source),
                ModelError::Pass(_) | ModelError::Operation { .. } => 1,
                _ => 2,
            },
            _ => 2,
        }
    }
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        Error::Model(Box::new(error))
    }
}

fn runtime_code(e: &RuntimeError) -> u8 {
    if let RuntimeError::Compile(e) = e { compile_code(e) } else { 2 }
}

fn compile_code(e: &CompileError) -> u8 {
    if matches!(e, CompileError::Internal { .. }) { 1 } else { 2 }
}
