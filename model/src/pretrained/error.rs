//! The errors of folders that are no networks.

use std::path::PathBuf;

use crate::arch::ArchError;

/// A folder that is no network that can be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainedError {
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Where it is.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A configuration that is no JSON, or lacks what it must have.
    #[error("{}: {source}", path.display())]
    Json {
        /// Where it is.
        path: PathBuf,
        /// The fault, and its place.
        source: serde_json::Error,
    },
    /// A configuration with a setting that is not supported.
    #[error("{}: `{setting}` is {found}: supported is {supported}", path.display())]
    Setting {
        /// Where the configuration is.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// The values that can be built.
        supported: &'static str,
    },
    /// A file of weights that is malformed.
    #[error("{}: {why}", path.display())]
    Weights {
        /// Where it is.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// A weight that no file has, or that has another shape than the configuration says; or sizes that the network does not take.
    #[error("{}: {source}", folder.display())]
    Weight {
        /// The folder.
        folder: PathBuf,
        /// Which weight, and why.
        source: ArchError,
    },
}
