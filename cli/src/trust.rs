//! Code in files that the user names: it is executed, without a question.
//!
//! `--pack` and `--cache-dir` are the user's word that the files come from somebody to be trusted; `kiln --help` says so. The variable
//! `KILN_CACHE_DIR` needs no word: the runtime looks at whose the directory is.

#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use kiln_jit::RuntimeBuilder;

/// Takes kernels from the packs of `--pack`.
pub fn packs<'a>(builder: RuntimeBuilder, files: impl IntoIterator<Item = &'a PathBuf>) -> RuntimeBuilder {
    // SAFETY: the user, who can start any program, asks for the code in these files to be executed.
    files.into_iter().fold(builder, |builder, file| unsafe { builder.pack(file) })
}

/// Takes kernels from the directory of `--cache-dir`, and keeps them there.
pub fn cache_dir(builder: RuntimeBuilder, folder: &Path) -> RuntimeBuilder {
    // SAFETY: the user, who can start any program, asks for the code in this directory to be executed.
    unsafe { builder.cache_dir(folder) }
}
