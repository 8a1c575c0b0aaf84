//! Every kind of problem on every target that this machine can execute: at least 2,000 each, in guarded memory, with
//! canaries in registers, exact on integers and within the rounding bound on reals.

use std::collections::HashSet;
use std::io::Write;

use kiln_jit::Target;
use kiln_tests::{failures, shapes, targets};

/// Fewer would be a hole in the test.
const LEAST: usize = 2000;
/// Failures that are printed.
const SHOWN: usize = 10;

#[test]
fn every_shape_on_every_target() {
    let targets = targets::runnable();
    if let Ok(expected) = std::env::var("KILN_EXPECT_TARGETS") {
        let found: HashSet<String> = targets.iter().map(Target::to_string).collect();
        assert_eq!(found, expected.split(',').map(str::to_owned).collect(), "targets that run here");
    }
    for target in targets {
        let work = shapes::list(&target, targets::emulated());
        let failures = failures(&target, &work);
        // Past the test's own capture: whoever reads the log of a run that passed wants to know what ran.
        let _ = writeln!(std::io::stderr(), "verify: target {target}: {} shapes", work.len());
        assert!(work.len() >= LEAST, "only {} shapes on {target}", work.len());
        let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(failures.is_empty(), "{} of {} failed on {target}:\n{shown}", failures.len(), work.len());
    }
}

/// AVX-512 is executed only where the machine has it; a run that passes elsewhere says so.
#[cfg(target_arch = "x86_64")]
#[test]
fn what_is_not_executed_is_said() {
    let is_avx512 = |target: &Target| target.unit(kiln_compiler::target::VectorIsa::Avx512).is_some();
    if !targets::runnable().iter().any(is_avx512) {
        let line = "verify: target x86-64-v4: 0 shapes, as this machine has no AVX-512: its code is emitted, assembled \
                    and simulated by other tests, and executed by none";
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

#[test]
fn every_legal_combination_is_forced() {
    for target in targets::runnable() {
        let all: HashSet<_> = shapes::forced(&target)
            .into_iter()
            .filter_map(|(_, options)| options.schedule)
            .map(|s| (s.isa, s.parallel, s.regions[0].order, s.regions[0].lhs, s.regions[0].rhs))
            .collect();
        // 2 x 2 orders and parallel axes, 3 ways to read rows and 4 to read columns; a panel only with one order and one parallel axis.
        assert_eq!(all.len(), (2 * 2 * 3 * 4 + 3) * target.units.len(), "{target}: {all:?}");
    }
}

#[test]
fn every_kind_of_convolution_is_there() {
    let all: Vec<String> =
        shapes::convolutions(true).iter().map(|(p, o)| format!("{p} packed={}", o.constant_weights)).collect();
    for word in [
        "stag=abx",
        "dtag=abx",
        "beta=1",
        "bf16:bf16:f32",
        "f32:bf16",
        "conv f16 ",
        " f16:f16:f32",
        "f32:f16",
        "fpmath=bf16",
        "packed=true",
        "packed=false",
        "conv f32 g",
        "id",
        "sh2",
        "sw3",
        "dh1",
        "ph2",
        "+add:cd",
        "+bias+add:abcd+relu",
    ] {
        assert!(all.iter().filter(|text| text.contains(word)).count() >= 3, "{word}");
    }
}

#[test]
fn every_kind_is_there() {
    let all: Vec<String> =
        shapes::kinds(true).iter().map(|(p, o)| format!("{p} packed={}", o.constant_weights)).collect();
    for word in [
        "ip ",
        "wtag=",
        "beta=1",
        "bf16:bf16:f32",
        "f32:bf16",
        "matmul f16 ",
        "ip f16 ",
        " f16:f16:f32",
        "f32:f16",
        "fpmath=bf16",
        ":1x",
        "packed=true",
        "ih3iw2",
    ] {
        assert!(all.iter().filter(|text| text.contains(word)).count() >= 5, "{word}");
    }
}
