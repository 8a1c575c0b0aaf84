//! What the environment sets. The only place that reads it.

use std::path::PathBuf;
use std::time::Duration;

use kiln_ir::MathMode;

use crate::error::RuntimeError;
use crate::threads::MAX_THREADS;

/// Names that may hold a setting, the first that is set wins.
type Names<'a> = &'a [&'static str];

pub(crate) const CAPACITY: Names<'static> =
    &["KILN_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"];
pub(crate) const BYTES: Names<'static> = &["KILN_CACHE_BYTES"];
pub(crate) const THREADS: Names<'static> = &["KILN_NUM_THREADS", "OMP_NUM_THREADS", RAYON_THREADS];
const RAYON_THREADS: &str = "RAYON_NUM_THREADS";
pub(crate) const SPIN: Names<'static> = &["KILN_SPIN"];
pub(crate) const STREAMS: Names<'static> = &["KILN_NUM_STREAMS"];
pub(crate) const MATH: Names<'static> = &["KILN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"];
pub(crate) const ISA: Names<'static> = &["KILN_MAX_CPU_ISA"];
pub(crate) const VERBOSE: Names<'static> = &["KILN_VERBOSE", "ONEDNN_VERBOSE", "DNNL_VERBOSE"];
pub(crate) const PROFILE: Names<'static> = &["KILN_JIT_PROFILE", "ONEDNN_JIT_PROFILE", "DNNL_JIT_PROFILE"];
pub(crate) const DUMP: Names<'static> = &["KILN_JIT_DUMP", "ONEDNN_JIT_DUMP", "DNNL_JIT_DUMP"];
pub(crate) const STRICT_SETTINGS: Names<'static> = &["KILN_STRICT_SETTINGS"];
pub(crate) const CACHE_DIR: Names<'static> = &["KILN_CACHE_DIR"];

/// The name and the value of a setting; empty is not set.
pub(crate) fn variable(names: Names<'_>) -> Option<(&'static str, String)> {
    names.iter().find_map(|&name| {
        let value = std::env::var_os(name)?.to_string_lossy().into_owned();
        (!value.trim().is_empty()).then_some((name, value))
    })
}

/// A path, which may be any bytes; empty is not set.
pub(crate) fn path(names: Names<'_>) -> Option<PathBuf> {
    names.iter().find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty())).map(PathBuf::from)
}

/// A setting read by `parse`.
pub(crate) fn parsed<T>(
    names: Names<'_>,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, RuntimeError> {
    let Some((name, value)) = variable(names) else { return Ok(None) };
    match parse(&value) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(RuntimeError::Environment { name, value, expected }),
    }
}

/// A count of kernels or bytes.
pub(crate) fn count(names: Names<'_>, expected: &'static str) -> Result<Option<usize>, RuntimeError> {
    parsed(names, expected, |value| value.trim().parse().ok())
}

/// A number of threads. A list, as OpenMP allows for nested regions, begins with the outermost. Rayon's 0 is not set.
pub(crate) fn threads() -> Result<Option<usize>, RuntimeError> {
    if variable(THREADS).is_some_and(|(name, value)| name == RAYON_THREADS && value.trim() == "0") {
        return Ok(None);
    }
    let first = |value: &str| value.split(',').next()?.trim().parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    parsed(THREADS, "a number of threads from 1 to 1024", first)
}

/// How long idle threads look for work.
pub(crate) fn spin() -> Result<Option<Duration>, RuntimeError> {
    parsed(SPIN, "a number of microseconds", |value| value.trim().parse().ok().map(Duration::from_micros))
}

/// A number of streams.
pub(crate) fn streams() -> Result<Option<usize>, RuntimeError> {
    let number = |value: &str| value.trim().parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    parsed(STREAMS, "a number of streams from 1 to 1024", number)
}

/// 0 or 1.
pub(crate) fn switch(names: Names<'_>) -> Result<Option<bool>, RuntimeError> {
    parsed(names, "0 or 1", |value| match value.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    })
}

pub(crate) fn math_mode() -> Result<Option<MathMode>, RuntimeError> {
    parsed(MATH, "strict, bf16 or any", |value| value.trim().parse().ok())
}

/// Where code is dumped: oneDNN's 0 and 1 are nowhere and the working directory, anything else is a directory.
pub(crate) fn dump() -> Option<PathBuf> {
    let folder = path(DUMP)?;
    match folder.to_str().map(str::trim) {
        Some("0") => None,
        Some("1") => Some(".".into()),
        _ => Some(folder),
    }
}

/// Where jitdumps have their directory, as perf's other users have it.
pub(crate) fn jitdump_folder() -> PathBuf {
    path(&["JITDUMPDIR", "HOME"]).unwrap_or_else(|| ".".into())
}
