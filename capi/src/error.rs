//! Statuses, the message of each thread's last failure, and the wall that panics do not pass.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::kiln_jit::{CodeMemoryError, RuntimeError};
use kiln_compiler::CompileError;
use kiln_ir::ProblemError;
use kiln_model::pretrained::PretrainedError;
use kiln_model::{ArchError, ImportError, ModelError, OnnxError};

use crate::strings::c_string;

/// The result of a function.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum kiln_status {
    /// Done.
    KILN_OK = 0,
    /// An argument, an option or an environment variable is not one: null, of another size or type, overlapping, misspelt.
    KILN_INVALID_ARGUMENT = 1,
    /// The text is no problem, or the problem cannot be.
    KILN_INVALID_PROBLEM = 2,
    /// Valid, but not on this machine or for this target.
    KILN_UNSUPPORTED = 3,
    /// The operating system gives no memory, or none that is executable.
    KILN_OUT_OF_MEMORY = 4,
    /// More memory than an option allows.
    KILN_LIMIT_EXCEEDED = 5,
    /// A kernel is predicted to be slower than `kiln_options_set_strict` allows.
    KILN_BELOW_BOUND = 6,
    /// A file cannot be read or written, or a pack cannot be used; with strict settings, any notice.
    KILN_FILE = 7,
    /// Threads could not be started, or did not do their work.
    KILN_THREADS = 8,
    /// A defect of the compiler, noticed by itself.
    KILN_INTERNAL = 9,
    /// A defect of the library. What the call was to write may be written in part; handles remain valid.
    KILN_PANIC = 10,
    /// The file is no network, its graph is malformed, or it does not go with the sizes that the caller asks for.
    KILN_INVALID_NETWORK = 11,
}

use kiln_status::*;

/// A status with its message.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) status: kiln_status,
    pub(crate) message: String,
}

impl Error {
    pub(crate) fn new(status: kiln_status, message: impl Into<String>) -> Self {
        Self { status, message: in_c(message.into()) }
    }

    /// An argument is not what it must be.
    pub(crate) fn argument(name: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::new(KILN_INVALID_ARGUMENT, format!("argument `{name}`: {why}"))
    }

    /// The same, and what it is about.
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Self {
        Self { status: self.status, message: format!("{place}: {}", self.message) }
    }
}

/// The names that messages of the runtime have for what to do, and those that C has for the same.
const NAMES: [(&str, &str); 11] = [
    ("`Args::post_op` passes", "an `is_bias` of 0 is for"),
    ("`Kernel::pack_weights`", "`kiln_kernel_pack_weights`"),
    ("`Options::constant_weights`", "`KILN_CONSTANT_WEIGHTS`"),
    ("`RuntimeBuilder::packed_limit`", "`kiln_options_set_packed_limit`"),
    ("`Bindings::batch(..)`", "`kiln_network_options_set_batch`"),
    ("`Bindings::sequence(..)`", "`kiln_network_options_set_sequence`"),
    // With the name of the dimension or the input, and the size.
    ("`Bindings::dim(", "`kiln_network_options_set_dim(.., "),
    ("`Bindings::shape(", "`kiln_network_options_set_shape(.., "),
    ("`Bindings::value(", "`kiln_network_options_set_value(.., "),
    // Of networks that C cannot make.
    ("`OpenDim::step`", "a step"),
    // Of files that C cannot write.
    ("`WeightsId::of`", "a hash of their content"),
];

/// A message with C's names.
fn in_c(message: String) -> String {
    let has_names = |message: &String| message.contains('`') && message.contains("::");
    match has_names(&message) {
        true => NAMES.iter().fold(message, |message, (rust, c)| message.replace(rust, c)),
        false => message,
    }
}

impl From<ProblemError> for Error {
    fn from(e: ProblemError) -> Self {
        Self::new(KILN_INVALID_PROBLEM, e.to_string())
    }
}

impl From<&CompileError> for Error {
    fn from(e: &CompileError) -> Self {
        let status = match e {
            CompileError::Problem(_) => KILN_INVALID_PROBLEM,
            CompileError::Schedule(_) | CompileError::Unsupported { .. } => KILN_UNSUPPORTED,
            CompileError::Internal { .. } => KILN_INTERNAL,
            // One that this file does not know yet.
            _ => KILN_INTERNAL,
        };
        Self::new(status, e.to_string())
    }
}

impl From<RuntimeError> for Error {
    fn from(e: RuntimeError) -> Self {
        let status = match &e {
            RuntimeError::Compile(e) => return (&**e).into(),
            RuntimeError::Setting { what, got, expected } => {
                let message = format!("`kiln_options_set_{what}`: got `{got}`, expected {expected}");
                return Self::new(KILN_INVALID_ARGUMENT, message);
            }
            RuntimeError::CodeMemory(e) => match &**e {
                CodeMemoryError::Limit { .. } => KILN_LIMIT_EXCEEDED,
                CodeMemoryError::Map { .. } | CodeMemoryError::Protect { .. } => KILN_OUT_OF_MEMORY,
                CodeMemoryError::Synchronise(_) => KILN_UNSUPPORTED,
                CodeMemoryError::Empty => KILN_INTERNAL,
                _ => KILN_INTERNAL,
            },
            RuntimeError::Cpu(_) | RuntimeError::CannotRun(_) => KILN_UNSUPPORTED,
            RuntimeError::Limit(_) | RuntimeError::Environment { .. } => KILN_INVALID_ARGUMENT,
            RuntimeError::Argument { .. } | RuntimeError::Weights { .. } | RuntimeError::NotPacked { .. } => {
                KILN_INVALID_ARGUMENT
            }
            RuntimeError::Scratch(_) => KILN_OUT_OF_MEMORY,
            RuntimeError::PackedLimit { .. } => KILN_LIMIT_EXCEEDED,
            RuntimeError::WeightsPack { .. } | RuntimeError::Strict { .. } => KILN_FILE,
            RuntimeError::BelowBound { .. } => KILN_BELOW_BOUND,
            RuntimeError::Family { .. } => KILN_INVALID_PROBLEM,
            RuntimeError::ThreadCount { .. } | RuntimeError::StreamCount { .. } => KILN_INVALID_ARGUMENT,
            RuntimeError::Threads { .. } => KILN_THREADS,
            // One that this file does not know yet.
            _ => KILN_INTERNAL,
        };
        Self::new(status, e.to_string())
    }
}

impl From<ModelError> for Error {
    fn from(e: ModelError) -> Self {
        let message = e.to_string();
        let status = match e {
            ModelError::Onnx(e) => of_onnx(&e),
            ModelError::Import(e) => of_import(&e),
            ModelError::Arch(e) => of_arch(&e),
            ModelError::Pretrained(e) => match e {
                PretrainedError::File { .. } => KILN_FILE,
                PretrainedError::Setting { .. } => KILN_UNSUPPORTED,
                PretrainedError::Weight { source, .. } => of_arch(&source),
                PretrainedError::Json { .. } | PretrainedError::Weights { .. } => KILN_INVALID_NETWORK,
                // One that this file does not know yet.
                _ => KILN_INTERNAL,
            },
            ModelError::Kernel { source, .. } | ModelError::Runtime(source) => Self::from(source).status,
            ModelError::Input { .. } | ModelError::Output { .. } | ModelError::Index { .. } => KILN_INVALID_ARGUMENT,
            ModelError::Endless { .. } => KILN_INVALID_NETWORK,
            ModelError::OutOfMemory { .. } => KILN_OUT_OF_MEMORY,
            ModelError::Pass(_) | ModelError::Operation { .. } | ModelError::Plan(_) => KILN_INTERNAL,
            // Of what C cannot do, and those that this file does not know yet.
            _ => KILN_INTERNAL,
        };
        Self::new(status, message)
    }
}

fn of_onnx(e: &OnnxError) -> kiln_status {
    match e {
        OnnxError::File { .. } => KILN_FILE,
        OnnxError::Opset { .. } => KILN_UNSUPPORTED,
        _ => KILN_INVALID_NETWORK,
    }
}

fn of_import(e: &ImportError) -> kiln_status {
    match e {
        ImportError::Dim { .. }
        | ImportError::NoShape { .. }
        | ImportError::Contradiction { .. }
        | ImportError::Unbound { .. }
        | ImportError::NeedsValue { .. } => KILN_INVALID_ARGUMENT,
        ImportError::Op { .. } | ImportError::Attribute { .. } => KILN_UNSUPPORTED,
        _ => KILN_INVALID_NETWORK,
    }
}

fn of_arch(e: &ArchError) -> kiln_status {
    match e {
        ArchError::Memory { .. } => KILN_OUT_OF_MEMORY,
        ArchError::Weight { .. } => KILN_INVALID_NETWORK,
        _ => KILN_INVALID_ARGUMENT,
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// The message of the calling thread's last failure, which the thread's next one changes. Never NULL; empty if there was
/// none.
#[unsafe(no_mangle)]
pub extern "C" fn kiln_last_error_message() -> *const c_char {
    // A destructor of the thread may come after that of the message.
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The name of a status, such as "KILN_OK", and "unknown status" of other numbers. Never NULL, and valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn kiln_status_name(status: i32) -> *const c_char {
    let name: &'static CStr = match STATUSES.iter().find(|(s, _)| *s as i32 == status) {
        Some((_, name)) => name,
        None => c"unknown status",
    };
    name.as_ptr()
}

const STATUSES: [(kiln_status, &CStr); 12] = [
    (KILN_OK, c"KILN_OK"),
    (KILN_INVALID_ARGUMENT, c"KILN_INVALID_ARGUMENT"),
    (KILN_INVALID_PROBLEM, c"KILN_INVALID_PROBLEM"),
    (KILN_UNSUPPORTED, c"KILN_UNSUPPORTED"),
    (KILN_OUT_OF_MEMORY, c"KILN_OUT_OF_MEMORY"),
    (KILN_LIMIT_EXCEEDED, c"KILN_LIMIT_EXCEEDED"),
    (KILN_BELOW_BOUND, c"KILN_BELOW_BOUND"),
    (KILN_FILE, c"KILN_FILE"),
    (KILN_THREADS, c"KILN_THREADS"),
    (KILN_INTERNAL, c"KILN_INTERNAL"),
    (KILN_PANIC, c"KILN_PANIC"),
    (KILN_INVALID_NETWORK, c"KILN_INVALID_NETWORK"),
];

/// Runs the body of an entry and keeps the message of its failure.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Error>) -> kiln_status {
    caught(body).err().unwrap_or(KILN_OK)
}

/// The same for an entry that has no status to return but a value that says nothing.
pub(crate) fn or_default<T>(nothing: T, body: impl FnOnce() -> Result<T, Error>) -> T {
    caught(body).unwrap_or(nothing)
}

/// Runs the body of a `_free` function: does nothing to null, else gives back what `Box::into_raw` gave out.
///
/// # Safety
/// `handle` is null, or was made by [`Out`](crate::pointers::Out) of the same type and is not used any more.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        or_default((), || {
            // SAFETY: the caller answers for the handle.
            drop(unsafe { Box::from_raw(handle) });
            Ok(())
        });
    }
}

fn caught<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, kiln_status> {
    // What a panic can leave behind is behind handles: runtimes take a poisoned lock for a whole value, and options are changed
    // by one assignment.
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(payload) => Error::new(KILN_PANIC, format!("the library panicked: {}", words(&*payload))),
    };
    let message = c_string(&error.message);
    let _ = LAST.try_with(|last| *last.borrow_mut() = message);
    Err(error.status)
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: the message is valid until this thread's next failure.
        unsafe { CStr::from_ptr(kiln_last_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_and_its_message_stays_in_its_thread() {
        assert_eq!(last(), "");
        assert_eq!(guard(|| panic!("number {}", 7)), KILN_PANIC);
        assert_eq!(last(), "the library panicked: number 7");
        assert_eq!(std::thread::spawn(last).join().unwrap(), "");
        assert_eq!(or_default(3, || std::panic::panic_any(0u8)), 3);
        assert_eq!(last(), "the library panicked: no message");
        assert_eq!(guard(|| Ok(())), KILN_OK);
        assert_eq!(last(), "the library panicked: no message");
    }

    /// Names such as `Kernel::run` in the text of code, which messages are made of; not in its comments.
    fn rust_names(code: &str) -> Vec<String> {
        let lines = code.lines().take_while(|line| !line.contains("#[cfg(test)]"));
        let code = lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let is_name = |word: &&str| {
            let is_word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            word.split_once("::")
                .map(|(of, name)| (of, name.split_once('(').map_or(name, |(name, _)| name)))
                .is_some_and(|(of, name)| {
                    is_word(of) && is_word(name) && of.starts_with(|c: char| c.is_ascii_uppercase())
                })
        };
        code.split('`').filter(is_name).map(|name| format!("`{name}`")).collect()
    }

    fn sources(folder: &std::path::Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, all),
                false if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") => {
                    all.push(std::fs::read_to_string(path).unwrap());
                }
                false => {}
            }
        }
    }

    #[test]
    fn messages_have_the_names_of_c() {
        let mut all = vec![];
        for of in ["runtime", "compiler", "ir", "cache", "onnx", "model", "files"] {
            sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of).join("src"), &mut all);
        }
        let names: Vec<String> = all.iter().flat_map(|code| rust_names(code)).collect();
        assert!(names.len() >= NAMES.len(), "messages that are looked at have names: {names:?}");
        for name in names {
            assert!(
                NAMES.iter().any(|(rust, _)| name.starts_with(rust) || rust.starts_with(&name)),
                "{name} has no name in C"
            );
        }
        let problem = Box::new("ip f32 mb1ic2oc3".parse().unwrap());
        for (error, text) in [
            (RuntimeError::NotPacked { problem }, "with `KILN_CONSTANT_WEIGHTS`"),
            (RuntimeError::PackedLimit { requested: 2, live: 1, limit: 2 }, "raise `kiln_options_set_packed_limit`"),
            (RuntimeError::Weights { expected: "a".into(), got: "b".into() }, "`kiln_kernel_pack_weights` of a kernel"),
            (
                RuntimeError::Setting { what: "verbose", got: "loud".into(), expected: "none" },
                "`kiln_options_set_verbose`: got `loud`, expected none",
            ),
        ] {
            let message = Error::from(error).message;
            assert!(message.contains(text) && !message.contains("::"), "{message}");
        }
    }

    #[test]
    fn every_status_has_its_name() {
        for (status, name) in STATUSES {
            assert_eq!(name.to_str().unwrap(), format!("{status:?}"));
            // SAFETY: names are constants.
            assert_eq!(unsafe { CStr::from_ptr(kiln_status_name(status as i32)) }, name);
        }
        for unknown in [-1, STATUSES.len() as i32] {
            // SAFETY: as above.
            assert_eq!(unsafe { CStr::from_ptr(kiln_status_name(unknown)) }, c"unknown status");
        }
    }
}
