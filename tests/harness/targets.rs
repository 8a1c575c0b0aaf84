//! The targets that this machine, or the emulator, can execute.

use kiln_runtime::{Target, cpu};

/// The detected processor with its model's cache sizes, so that a test compiles the same code everywhere, and each of
/// its vector units alone; those of them that `KILN_ONLY_TARGETS` names, where it is set.
pub fn runnable() -> Vec<Target> {
    let host = without_cache_sizes(&cpu::detect().expect("this processor has a target"));
    let alone: Vec<Target> = host.units.iter().filter_map(|u| host.only(u.isa)).filter(|t| *t != host).collect();
    let mut all = [vec![host], alone].concat();
    if let Ok(only) = std::env::var("KILN_ONLY_TARGETS") {
        all.retain(|target| only.split(',').any(|name| *name == target.to_string()));
        assert!(!all.is_empty(), "KILN_ONLY_TARGETS=`{only}` leaves no target that runs here");
    }
    all
}

/// Whether this is an emulated processor, on which tests do less.
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
