//! Every kind of shape on every target that this machine can execute: at least 2,000 each, in guarded memory, with
//! canaries in registers, exact on integers and within the rounding bound on reals.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_runtime::{Runtime, Target};
use kiln_tests::shapes::{self, Work};
use kiln_tests::{Checker, targets};

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
        let failures = verify(&target, &work);
        // Past the test's own capture: whoever reads the log of a run that passed wants to know what ran.
        writeln!(std::io::stderr(), "verify: target {target}: {} shapes", work.len()).unwrap();
        assert!(work.len() >= LEAST, "only {} shapes on {target}", work.len());
        let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(failures.is_empty(), "{} of {} failed on {target}:\n{shown}", failures.len(), work.len());
    }
}

/// The failures among `work`, which all processors take from a common list.
fn verify(target: &Target, work: &[Work]) -> Vec<String> {
    // So small a cache that kernels are evicted, and their memory reused, throughout.
    let runtime = Runtime::builder().target(target.clone()).cache_capacity(16).threads(1).build().unwrap();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let take = || {
        let mut checker = Checker::default();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((problem, options)) = work.get(i) else { break };
            let result = match runtime.kernel_with(problem, options) {
                Ok(kernel) => checker.check(&kernel, i as u64),
                Err(e) => Err(e.to_string()),
            };
            if let Err(why) = result {
                let schedule = options.schedule.as_ref().map(|s| format!(" with {s}")).unwrap_or_default();
                failures.lock().unwrap().push(format!("{problem} @{target}{schedule}: {why}"));
            }
        }
    };
    std::thread::scope(|s| {
        (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(s.spawn(take)))
    });
    failures.into_inner().unwrap()
}

#[test]
fn every_legal_combination_is_forced() {
    for target in targets::runnable() {
        let all: HashSet<_> = shapes::forced(&target)
            .into_iter()
            .filter_map(|(_, options)| options.schedule)
            .map(|s| (s.isa, s.parallel, s.regions[0].order, s.regions[0].lhs, s.regions[0].rhs))
            .collect();
        // In place and in blocks 2 x 2 x 2 each; a panel only with one order and one parallel axis.
        assert_eq!(all.len(), 18 * target.units.len(), "{target}: {all:?}");
    }
}
