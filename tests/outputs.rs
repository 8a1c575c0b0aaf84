//! Results in memory that nobody has written, and weights as a kernel reads them.

use std::mem::MaybeUninit;

use kiln_ir::DType;
use kiln_jit::{
    Args, FamilyOptions, Input, Kernel, Options, Output, PreparedWeights, Problem, Runtime, RuntimeError, bf16, f16,
};
use kiln_tests::data::{Data, Values};

fn runtime() -> Runtime {
    Runtime::builder().threads(2).build().unwrap()
}

/// As memory that may not be initialised.
fn uninit(values: &mut Values) -> Output<'_> {
    fn of<T>(values: &mut [T]) -> &mut [MaybeUninit<T>] {
        // SAFETY: the layout is the same, and kernels write initialised elements.
        unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
    }
    match values.dtype() {
        DType::F32 => of::<f32>(values.as_mut_slice()).into(),
        DType::Bf16 => of::<bf16>(values.as_mut_slice()).into(),
        DType::F16 => of::<f16>(values.as_mut_slice()).into(),
        DType::S32 => of::<i32>(values.as_mut_slice()).into(),
        other => panic!("no kernel stores {other}"),
    }
}

/// The arguments of `data` with another result.
fn args<'a>(data: &'a Data, dst: Output<'a>) -> Args<'a> {
    let args = Args::new(data.inputs[0].input(), data.inputs[1].input(), dst);
    data.inputs[2..].iter().fold(args, |args, tensor| args.post_op(tensor.input()))
}

#[test]
fn every_element_is_written() {
    let runtime = runtime();
    for text in [
        "matmul f32 1x1:1x1",
        "matmul f32 13x31:31x17 +bias+relu",
        "matmul f32 200x700:700x300 +add:ab",
        "matmul bf16 13x31:31x17 dtag=ba",
        "matmul f16 13x31:31x17 dtag=ba",
        "matmul bf16:bf16:f32 3x5x7:1x7x9",
        "ip f32 mb1ic300oc70 +gelu_erf",
        "conv f32 mb2ic8ih9oc20kh3ph1sh2 +bias",
        "conv f32 mb1ic3ih11oc16kh5 stag=abx dtag=abx +relu",
        "conv bf16 g8mb1ic8ih7oc8kh3ph1",
    ] {
        let problem: Problem = text.parse().unwrap();
        let kernel = runtime.kernel(&problem).unwrap();
        let data = Data::integers(&problem, 1);
        let mut dst = data.before.clone(); // NaN
        kernel.run(args(&data, uninit(&mut dst))).unwrap();
        let wrong = data.wrong(&dst);
        assert!(wrong.is_none(), "{problem}: {}", wrong.unwrap());
    }
}

#[test]
fn every_element_is_written_by_families_of_each_kind() {
    let runtime = runtime();
    for (pattern, kind) in [
        ("ip f32 mb?ic48oc100 +bias", "blocks"),
        ("matmul f32 ?x40:40x72 +relu", "tiles"),
        ("matmul f32 3x?x16:3x16x? wtag=acb +scale:0.125", "padded"),
    ] {
        let family = runtime.family(pattern, &FamilyOptions { hot_calls: 0, ..FamilyOptions::default() }).unwrap();
        assert_eq!(family.kind(), kind, "{pattern}");
        for n in [1, 5, 16, 37] {
            let problem = family.problem(n).unwrap();
            let data = Data::integers(&problem, n);
            let mut dst = data.before.clone(); // NaN
            family.run(n, args(&data, uninit(&mut dst))).unwrap();
            let wrong = data.wrong(&dst);
            assert!(wrong.is_none(), "{problem}: {}", wrong.unwrap());
        }
    }
}

#[test]
fn memory_that_has_to_be_initialised_is_not_taken_uninitialised() {
    let runtime = runtime();
    for (text, word) in [("matmul f32 2x3:3x4 beta=1", "adds"), ("matmul f32 2x3:3x4 strides=::9x1", "gaps")] {
        let problem: Problem = text.parse().unwrap();
        let kernel = runtime.kernel(&problem).unwrap();
        let (lhs, rhs, mut dst) = ([1.0; 6], [1.0; 12], [MaybeUninit::<f32>::uninit(); 13]);
        let dst = &mut dst[..if word == "adds" { 8 } else { 13 }];
        let e = kernel.run(Args::new(&lhs, &rhs, &mut *dst)).unwrap_err();
        assert!(matches!(&e, RuntimeError::Uninitialised { problem: of, .. } if **of == problem), "{e}");
        assert!(e.to_string().contains(word), "{e}");
        // The same memory, once it is initialised.
        let mut dst = vec![1.0; dst.len()];
        kernel.run(Args::new(&lhs, &rhs, &mut dst)).unwrap();
        assert_eq!((dst[0], dst.last()), if word == "adds" { (4.0, Some(&4.0)) } else { (3.0, Some(&3.0)) });
        assert!(word == "adds" || dst[4..9] == [1.0; 5], "gaps are as before");
    }
    // What else is wrong is found too.
    let kernel = runtime.kernel(&"matmul bf16 2x3:3x4".parse().unwrap()).unwrap();
    let (lhs, rhs) = ([bf16::ONE; 6], [bf16::ONE; 12]);
    for e in [
        kernel.run(Args::new(&lhs, &rhs, &mut [MaybeUninit::<bf16>::uninit(); 7])),
        kernel.run(Args::new(&lhs, &rhs, &mut [MaybeUninit::<f32>::uninit(); 8])),
    ] {
        assert!(matches!(e, Err(RuntimeError::Argument { name, .. }) if name == "dst"));
    }
}

/// The result of the kernel for ones.
fn with_ones(kernel: &Kernel, weights: &PreparedWeights<'_>) -> Vec<f32> {
    let (src, mut dst) = (vec![1.0; 64 * 48], vec![0.0; 64 * 64]);
    kernel.run(Args::new(&src, weights, &mut dst)).unwrap();
    dst
}

#[test]
fn weights_are_prepared_as_each_kernel_reads_them() {
    let runtime = runtime();
    let problem: Problem = "ip f32 mb64ic48oc64".parse().unwrap();
    let weights: Vec<f32> = (0..48 * 64).map(|i| (i % 5) as f32).collect();
    let sums: Vec<f32> = weights.chunks(48).map(|row| row.iter().sum()).collect();
    for constant_weights in [false, true] {
        let options = Options { constant_weights, ..Options::default() };
        let kernel = runtime.kernel_with(&problem, &options).unwrap();
        let packings = runtime.stats().packings;
        let prepared = kernel.prepare_weights(&weights).unwrap();
        assert_eq!(
            (prepared.packed().is_some(), runtime.stats().packings - packings),
            (constant_weights, u64::from(constant_weights))
        );
        assert_eq!(with_ones(&kernel, &prepared), sums.repeat(64));
        // A layer's own, which outlive the values.
        let values = weights.clone();
        let owned = kernel.prepare_weights(&values).unwrap().into_owned();
        drop(values);
        let shared = owned.clone().into_owned();
        assert_eq!((with_ones(&kernel, &owned), with_ones(&kernel, &shared)), (sums.repeat(64), sums.repeat(64)));
        for wrong in [Input::from(&weights[1..]), Input::from(&[bf16::ONE; 48 * 64])] {
            let e = kernel.prepare_weights(wrong).unwrap_err();
            assert!(matches!(&e, RuntimeError::Argument { name, .. } if name == "rhs"), "{e}");
        }
    }
    let family = runtime.family("ip f32 mb?ic48oc64", &FamilyOptions { constant_weights: true, ..Default::default() });
    let (family, mut dst) = (family.unwrap(), vec![0.0; 3 * 64]);
    let prepared = family.prepare_weights(&weights).unwrap();
    family.run(3, Args::new(&[1.0; 3 * 48], &prepared, &mut dst)).unwrap();
    assert_eq!(dst, sums.repeat(3));
}
