//! Packed weights by identity: shared, packed once, bounded, and free when the last user is gone.

use std::sync::Barrier;

use kiln_jit::{Args, Kernel, Options, Runtime, RuntimeError, WeightsId, bf16};

fn runtime() -> Runtime {
    Runtime::builder().threads(1).build().unwrap()
}

fn kernel(runtime: &Runtime, text: &str) -> std::sync::Arc<Kernel> {
    let options = Options { constant_weights: true, ..Options::default() };
    let kernel = runtime.kernel_with(&text.parse().unwrap(), &options).unwrap();
    assert!(kernel.weights_layout().is_some(), "{text}");
    kernel
}

#[test]
fn the_same_weights_are_packed_once_and_freed_with_their_last_user() {
    let runtime = runtime();
    let linear = kernel(&runtime, "ip f32 mb64ic48oc64");
    let weights: Vec<f32> = (0..48 * 64).map(|i| i as f32).collect();
    let first = runtime.packed_weights(&linear, 7.into(), &weights).unwrap();
    let again = runtime.packed_weights(&linear, 7.into(), &weights).unwrap();
    assert_eq!(first.as_bytes().as_ptr(), again.as_bytes().as_ptr());
    assert_eq!(runtime.stats().packed_bytes, first.bytes());
    let other = runtime.packed_weights(&linear, 8.into(), &weights).unwrap();
    assert_ne!(first.as_bytes().as_ptr(), other.as_bytes().as_ptr());
    assert_eq!(first.as_bytes(), other.as_bytes());
    drop((first, other));
    assert_eq!(runtime.stats().packed_bytes, again.bytes());
    drop(again);
    assert_eq!(runtime.stats().packed_bytes, 0);
    // The number may stand for others now.
    let zeros = vec![0.0; 48 * 64];
    assert!(runtime.packed_weights(&linear, 7.into(), &zeros).unwrap().as_bytes().iter().all(|b| *b == 0));
}

#[test]
fn one_packing_serves_every_number_of_rows_of_its_layout() {
    let runtime = runtime();
    let (large, small) = (kernel(&runtime, "ip f32 mb64ic48oc64"), kernel(&runtime, "ip f32 mb60ic48oc64"));
    let like = Options {
        constant_weights: true,
        weights_layout: large.weights_layout().cloned().map(Into::into),
        ..Options::default()
    };
    let weights = vec![1.0; 48 * 64];
    let packed = runtime.packed_weights(&large, WeightsId::of(&weights), &weights).unwrap();
    for rows in [1, 2, 3, 7, 60, 100_usize] {
        let problem = format!("ip f32 mb{rows}ic48oc64").parse().unwrap();
        let kernel = runtime.kernel_with(&problem, &like).unwrap();
        let again = runtime.packed_weights(&kernel, WeightsId::of(&weights), &weights).unwrap();
        assert_eq!(packed.as_bytes().as_ptr(), again.as_bytes().as_ptr());
        let (src, mut dst) = (vec![1.0; rows * 48], vec![0.0; rows * 64]);
        kernel.run(Args::new(&src, &again, &mut dst)).unwrap();
        assert!(dst.iter().all(|v| *v == 48.0));
    }
    drop(small);
    let foreign = kernel(&runtime, "ip f32 mb64ic40oc64").weights_layout().cloned().map(Into::into);
    let options = Options { weights_layout: foreign, ..like };
    let e = runtime.kernel_with(&"ip f32 mb64ic48oc64".parse().unwrap(), &options).unwrap_err();
    assert!(e.to_string().contains("layout"), "{e}");
}

#[test]
fn content_tells_weights_apart() {
    let (a, b) = ([1.0f32, 2.0], [1.0f32, 2.5]);
    assert_eq!(WeightsId::of(&a), WeightsId::of(&a.to_vec()));
    assert_ne!(WeightsId::of(&a), WeightsId::of(&b));
    // The same bytes of another type.
    let halves: [bf16; 4] = bytemuck::cast(a);
    assert_ne!(WeightsId::of(&a), WeightsId::of(&halves));
    assert_ne!(WeightsId::from(1), WeightsId::from(2));
}

/// A square matrix has the same layout and elements as its transpose.
#[test]
fn a_matrix_and_its_transpose_are_packed_apart() {
    let runtime = runtime();
    let linear = kernel(&runtime, "ip f32 mb64ic48oc48");
    let weights_layout = linear.weights_layout().cloned().map(Into::into);
    let options = Options { constant_weights: true, weights_layout, ..Options::default() };
    let matmul = runtime.kernel_with(&"matmul f32 64x48:48x48".parse().unwrap(), &options).unwrap();
    assert_eq!(linear.weights_layout(), matmul.weights_layout());
    let weights: Vec<f32> = (0..48 * 48).map(|i| (i % 97) as f32).collect();
    let id = WeightsId::of(&weights);
    let rows = runtime.packed_weights(&linear, id, &weights).unwrap();
    let columns = runtime.packed_weights(&matmul, id, &weights).unwrap();
    let mut src = vec![0.0; 64 * 48];
    src[0] = 1.0;
    let first = |kernel: &Kernel, weights| {
        let mut dst = vec![0.0; 64 * 48];
        kernel.run(Args::new(&src, weights, &mut dst)).unwrap();
        dst[..48].to_vec()
    };
    assert_eq!(first(&linear, &rows), weights.iter().step_by(48).copied().collect::<Vec<_>>());
    assert_eq!(first(&matmul, &columns), weights[..48]);
}

#[test]
fn threads_that_race_share_one_packing() {
    const THREADS: usize = 8;
    let runtime = runtime();
    let linear = kernel(&runtime, "ip f32 mb64ic96oc64");
    let weights = vec![1.5; 96 * 64];
    for round in 0..50_u64 {
        let start = Barrier::new(THREADS);
        let ask = || {
            start.wait();
            runtime.packed_weights(&linear, round.into(), &weights).unwrap()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(all.iter().all(|w| w.as_bytes().as_ptr() == all[0].as_bytes().as_ptr()));
        assert_eq!(runtime.stats().packed_bytes, all[0].bytes());
    }
    assert_eq!(runtime.stats().packed_bytes, 0);
}

#[test]
fn packed_weights_are_limited() {
    let bytes = kernel(&runtime(), "ip f32 mb64ic48oc64").weights_layout().unwrap().bytes() as usize;
    let runtime = Runtime::builder().threads(1).packed_limit(2 * bytes + bytes / 2).build().unwrap();
    let linear = kernel(&runtime, "ip f32 mb64ic48oc64");
    let weights = vec![1.0; 48 * 64];
    let pack = |id: u64| runtime.packed_weights(&linear, id.into(), &weights);
    let (first, second) = (pack(1).unwrap(), linear.pack_weights(&weights).unwrap());
    let e = pack(2).unwrap_err();
    let expected = (bytes, 2 * bytes);
    assert!(matches!(&e, RuntimeError::PackedLimit { requested, live, .. } if (*requested, *live) == expected), "{e}");
    assert!(e.to_string().contains("packed_limit"), "{e}");
    assert!(pack(1).is_ok(), "what is there needs no more");
    drop(second);
    assert!(pack(2).is_ok());
    drop(first);
    assert_eq!(runtime.stats().packed_bytes, 0);
}

/// The last user of some lets go while the next packs them again.
#[test]
fn weights_may_be_dropped_and_asked_for_at_once() {
    const THREADS: u64 = 4;
    let runtime = runtime();
    let linear = kernel(&runtime, "ip f32 mb64ic48oc64");
    let weights = vec![1.0; 48 * 64];
    let rounds = if cfg!(target_arch = "aarch64") { 50 } else { 3_000 };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..rounds {
                    drop(runtime.packed_weights(&linear, 1.into(), &weights).unwrap());
                }
            });
        }
    });
    assert_eq!(runtime.stats().packed_bytes, 0);
}
