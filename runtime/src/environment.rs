//! Settings from the environment. This is the only place that reads it.

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
pub(crate) const THREADS: Names<'static> = &["KILN_NUM_THREADS", OMP_THREADS, RAYON_THREADS];
const OMP_THREADS: &str = "OMP_NUM_THREADS";
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

/// A number of threads, and the name of the variable that says it. `OMP_NUM_THREADS` may be a list, as OpenMP has it for nested
/// regions: the first number, that of the outermost region, counts. Rayon's 0 is not set.
pub(crate) fn threads() -> Result<Option<(&'static str, usize)>, RuntimeError> {
    let Some((name, value)) = variable(THREADS) else { return Ok(None) };
    match number_of_threads(name, &value) {
        Ok(threads) => Ok(threads.map(|threads| (name, threads))),
        Err(expected) => Err(RuntimeError::Environment { name, value, expected }),
    }
}

/// The number of threads that a variable says; the error is what it may say.
fn number_of_threads(name: &str, value: &str) -> Result<Option<usize>, &'static str> {
    let number = |text: &str| text.trim().parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    match name {
        RAYON_THREADS if value.trim() == "0" => Ok(None),
        OMP_THREADS => {
            let all: Option<Vec<usize>> = value.split(',').map(number).collect();
            let expected = "a number of threads from 1 to 1024, or several with commas between them";
            all.and_then(|all| all.first().copied()).map(Some).ok_or(expected)
        }
        _ => number(value).map(Some).ok_or("a number of threads from 1 to 1024"),
    }
}

/// The time for which idle threads look for work.
pub(crate) fn spin() -> Result<Option<Duration>, RuntimeError> {
    parsed(SPIN, "a number of microseconds", |value| value.trim().parse().ok().map(Duration::from_micros))
}

/// A number of streams, and the name of the variable that says it.
pub(crate) fn streams() -> Result<Option<(&'static str, usize)>, RuntimeError> {
    let number = |value: &str| value.trim().parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    let streams = parsed(STREAMS, "a number of streams from 1 to 1024", number)?;
    Ok(streams.map(|streams| (STREAMS[0], streams)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_list_is_checked_and_lists_are_openmps() {
        for (name, value, threads) in [
            ("KILN_NUM_THREADS", " 2 ", Some(2)),
            ("OMP_NUM_THREADS", "4", Some(4)),
            ("OMP_NUM_THREADS", "4, 2,1", Some(4)),
            ("RAYON_NUM_THREADS", "1024", Some(1024)),
            ("RAYON_NUM_THREADS", "0", None),
        ] {
            assert_eq!(number_of_threads(name, value), Ok(threads), "{name}={value}");
        }
        for name in THREADS {
            for value in ["0x2", "-1", "1025", "2,abc", "1,-7,0", "1,", ",1", "none", "2,2000"] {
                let expected = number_of_threads(name, value).unwrap_err();
                assert!(expected.contains("from 1 to 1024"), "{name}={value}: {expected}");
            }
        }
        for name in ["KILN_NUM_THREADS", "RAYON_NUM_THREADS"] {
            assert!(number_of_threads(name, "2,1").is_err(), "{name}");
        }
    }
}
