//! The targets that this machine, or the emulator, can execute.

use kiln_compiler::target::VectorIsa;
use kiln_jit::{Target, cpu};

/// The detected processor with its model's cache sizes, so that a test compiles the same code everywhere, and each of
/// its vector units alone; with AVX-512, what a processor without it would be in place of the latter; those of them that `KILN_ONLY_TARGETS` names, where it is set.
pub fn runnable() -> Vec<Target> {
    let host = without_cache_sizes(&cpu::detect().expect("this processor has a target"));
    let mut all = match host.unit(VectorIsa::Avx512) {
        Some(_) => [vec![host], with_units_alone("x86-64-v3".parse().expect("a target"))].concat(),
        None => with_units_alone(host),
    };
    if let Ok(only) = std::env::var("KILN_ONLY_TARGETS") {
        all.retain(|target| only.split(',').any(|name| *name == target.to_string()));
        assert!(!all.is_empty(), "KILN_ONLY_TARGETS=`{only}` leaves no target that runs here");
    }
    all
}

fn with_units_alone(target: Target) -> Vec<Target> {
    let alone = target.units.iter().filter_map(|u| target.only(u.isa)).filter(|t| *t != target).collect();
    [vec![target], alone].concat()
}

/// True on an emulated processor, on which tests do less.
pub fn emulated() -> bool {
    std::env::var_os("KILN_TEST_RUNNER").is_some()
}

fn without_cache_sizes(target: &Target) -> Target {
    let text = target.to_string();
    let mut kept = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |i| i + 1);
        if !rest[..end].starts_with("+l1d=") && !rest[..end].starts_with("+l2=") {
            kept += &rest[..end];
        }
        rest = &rest[end..];
    }
    kept.parse().expect("a target with fewer modifiers is a target")
}
