//! Calls in steady state allocate nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_jit::{Options, Problem, Runtime};
use kiln_tests::data::Data;
use kiln_tests::targets;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc`, so from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Calls from one allocation of a pool of threads to the next, at the least: its queue is a list of blocks.
const QUEUE: u64 = 24;

/// Allocations of some calls, after others that get what is kept. One test, as others would be counted too.
#[test]
fn calls_allocate_nothing() {
    let calls = if targets::emulated() { 8 } else { 128 };
    for threads in [1, 2] {
        let runtime = Runtime::builder().threads(threads).build().unwrap();
        // The pool's threads allocate as they start, in their own time.
        std::thread::sleep(std::time::Duration::from_millis(200));
        for text in [
            "matmul f32 64x96:96x80 +bias",
            "conv f32 mb1ic16ih20oc24kh3ph1 +bias+relu",
            // Copies of the source and the result in scratch memory, large enough to be divided.
            "conv f32 mb1ic32ih28oc64kh3ph1 stag=abx dtag=abx +add:abcd",
            "conv f32 g96mb1ic96ih28oc96kh3ph1",
        ] {
            let problem: Problem = text.parse().unwrap();
            let kernel =
                runtime.kernel_with(&problem, &Options { constant_weights: true, ..Options::default() }).unwrap();
            let data = Data::integers(&problem, 3);
            let weights = kernel.weights_layout().map(|_| kernel.pack_weights(data.inputs[1].input()).unwrap());
            let mut dst = data.before.clone();
            let mut call = || {
                let input = weights.as_ref().map_or(data.inputs[1].input(), |w| w.into());
                kernel.run(data.args_with(input, &mut dst)).unwrap();
            };
            (0..4).for_each(|_| call());
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (0..calls).for_each(|_| call());
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            // A thread that starts late allocates too.
            let allowed = if threads == 1 { 0 } else { calls / QUEUE + threads as u64 };
            assert!(
                allocations <= allowed,
                "{allocations} allocations in {calls} calls of {text} on {threads} thread(s)"
            );
            assert_eq!(data.wrong(&dst), None, "{text}");
        }
    }
}
