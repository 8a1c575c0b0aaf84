//! Operands with strides: read and written in place, and nothing beside them.

use std::collections::BTreeMap;

use kiln_compiler::packed::PackedLayout;
use kiln_compiler::schedule::search;
use kiln_compiler::target::Feature;
use kiln_compiler::{Options, Target};
use kiln_ir::{Contraction, Operand, Role};
use kiln_jit::{Args, FamilyOptions, Problem, ProblemError, Raw, RawWeights, Runtime, RuntimeError};
use kiln_tests::data::{Data, Random, Values};
use kiln_tests::guarded::{GuardedRows, Placement};
use kiln_tests::{fault, shapes, targets};

fn problem(text: &str) -> Problem {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The list that `verify.rs` executes is of every operation, every kind of stride and, on targets that have them, of every form.
#[test]
fn every_kind_of_stride_is_there() {
    let all = shapes::with_strides(false);
    assert!(all.len() >= 600, "{}", all.len());
    let problems: Vec<&Problem> = all.iter().map(|(problem, _)| problem).collect();
    let count = |what: &dyn Fn(&Problem) -> bool| problems.iter().filter(|p| what(p)).count();
    for op in ["matmul ", "ip ", "conv ", "conv f32 g"] {
        let named = count(&|p| p.to_string().starts_with(op));
        assert!(named >= 20, "{named} of {op}");
    }
    for at in 0..3 {
        let place = |p: &Problem| if at == 2 { p.operands().len() - 1 } else { at };
        let apart = count(&|p| !p.operands()[place(p)].is_dense());
        assert!(apart >= 100, "{apart} of operand {at}");
    }
    // Elements next to each other along no axis, elements that overlap, and results added to.
    let none_next =
        |p: &Problem| p.operands()[0].strides().iter().zip(&p.operands()[0].shape).all(|(s, e)| *s > 1 && *e > 1);
    let overlap = |p: &Problem| p.operands().iter().any(|o| o.span() < o.len());
    assert!(count(&none_next) >= 20 && count(&overlap) >= 40 && count(&|p| p.accumulates()) >= 60);
    for target in ["neoverse-n1", "neoverse-v1", "neoverse-v2", "x86-64-v3", "x86-64-v4"] {
        let target: Target = target.parse().unwrap();
        let mut forms: BTreeMap<String, usize> = BTreeMap::new();
        for (problem, options) in &all {
            let choices = Contraction::ways(problem).into_iter();
            let schedule =
                choices.filter_map(|c| search(&c, &target, options.constant_weights, None)).next().unwrap().schedule;
            *forms.entry(format!("{:?}", schedule.form)).or_default() += 1;
        }
        let expected: &[&str] = if target.has(Feature::Bf16) {
            &["Depthwise", "Dot", "Mmla", "Outer"]
        } else {
            &["Depthwise", "Dot", "Outer"]
        };
        assert!(forms.keys().eq(expected.iter()) && forms.values().all(|n| *n >= 5), "{target}: {forms:?}");
    }
}

/// A matrix whose rows are on pages of their own, with inaccessible ones between.
struct Matrix {
    rows: GuardedRows,
    bytes: usize,
    count: usize,
}

impl Matrix {
    fn new(count: u64, columns: u64, element: usize, placement: Placement) -> Self {
        let bytes = columns as usize * element;
        Self { rows: GuardedRows::new(count as usize, bytes, placement), bytes, count: count as usize }
    }

    /// Elements from row to row.
    fn pitch(&self, element: usize) -> u64 {
        (self.rows.pitch() / element) as u64
    }

    /// Takes the rows that `memory` has, so many bytes apart.
    fn fill(&mut self, memory: &[u8], pitch: usize) {
        for row in 0..self.count {
            let from = &memory[row * pitch..][..self.bytes];
            self.rows.row(row).copy_from_slice(from);
        }
    }

    /// Puts the rows to where `memory` has them.
    fn give(&mut self, memory: &mut [u8], pitch: usize) {
        for row in 0..self.count {
            memory[row * pitch..][..self.bytes].copy_from_slice(self.rows.row(row));
        }
    }
}

/// The memory between the rows of operands is not there: a load or a store of one byte of it would end the test.
#[test]
fn gaps_are_neither_read_nor_written() {
    let mut ran = 0;
    for target in targets::runnable() {
        let runtime = Runtime::builder().target(target.clone()).threads(1).build().unwrap();
        let mut random = Random(77);
        let dtypes = ["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32", "f16", "f16:f16:f32", "f32:f16:f32"];
        let sizes = [1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 33, 48, 65, 100];
        for i in 0..if targets::emulated() { 48 } else { 160 } {
            let [m, k, n] = [(); 3].map(|()| *random.pick(&sizes));
            let is_ip = i % 3 == 2;
            let math = ["", " fpmath=bf16"][i / 4 % 2];
            let beta = ["", " beta=1"][i / 8 % 2];
            let op = if is_ip {
                format!("ip {} mb{m}ic{k}oc{n}", dtypes[i % 4])
            } else {
                format!("matmul {} {m}x{k}:{k}x{n}", dtypes[i % 4])
            };
            let dense = problem(&format!("{op}{beta}{math} +bias"));
            let dense = dense.operands();
            let [l, r, d] = [&dense[0], &dense[1], &dense[dense.len() - 1]];
            for placement in [Placement::Start, Placement::End] {
                let element = [l, r, d].map(|o| o.dtype.bytes());
                let [mut lhs, mut rhs, mut dst] = [0, 1, 2].map(|at| {
                    let o = [l, r, d][at];
                    Matrix::new(o.shape[0], o.shape[1], element[at], placement)
                });
                let [a, b, c] = [lhs.pitch(element[0]), rhs.pitch(element[1]), dst.pitch(element[2])];
                let apart = problem(&format!("{op} strides={a}x1:{b}x1:{c}x1{beta}{math} +bias"));
                let options = Options { constant_weights: i % 5 == 0, ..Options::default() };
                let kernel = runtime.kernel_with(&apart, &options).unwrap();
                fault::running(&format!("{} @{target} with {}", kernel.problem(), kernel.schedule()));
                let data = Data::integers(kernel.problem(), i as u64);
                let contents = [data.inputs[0].bytes(), data.inputs[1].bytes(), data.before.bytes()];
                for (matrix, contents) in [&mut lhs, &mut rhs, &mut dst].into_iter().zip(&contents) {
                    let pitch = matrix.rows.pitch();
                    matrix.fill(contents, pitch);
                }
                let raw = |matrix: &mut Matrix, at: usize| {
                    let o = &kernel.problem().operands()[if at == 2 { 3 } else { at }];
                    Raw { first: matrix.rows.first(), dtype: o.dtype, span: o.span() as usize }
                };
                let packed = kernel.weights_layout().map(|_| kernel.pack_weights(data.inputs[1].input()).unwrap());
                let weights = match &packed {
                    Some(packed) => RawWeights::Packed(packed),
                    None => RawWeights::InPlace(raw(&mut rhs, 1)),
                };
                // SAFETY: each row is on an accessible page of this test's own, aligned, and as long as the operand's; rows are a pitch
                // apart, which is the operand's stride. No two matrices share memory.
                let args = unsafe { Args::from_raw(raw(&mut lhs, 0), weights, raw(&mut dst, 2)) };
                kernel.run(args.post_op(data.inputs[2].input())).unwrap();
                let mut found = data.before.bytes();
                let pitch = dst.rows.pitch();
                dst.give(&mut found, pitch);
                let found = Values::from_bytes(d.dtype, &found);
                assert_eq!(data.wrong(&found), None, "{} @{target} with {}", kernel.problem(), kernel.schedule());
                assert!(
                    [&mut lhs, &mut rhs, &mut dst].into_iter().all(|m| m.rows.margins_are_intact()),
                    "{apart} @{target}"
                );
                ran += 1;
            }
        }
    }
    assert!(ran >= 96, "{ran}");
}

/// One layout is one problem, and one kernel: whichever words say it.
#[test]
fn a_layout_is_part_of_what_a_kernel_is_found_by() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let compiled = || runtime.stats().kernels.compilations;
    let kernel = |text: &str| runtime.kernel(&problem(text)).unwrap();
    let plain = kernel("matmul f32 5x6:6x7");
    assert_eq!(*kernel("matmul f32 5x6:6x7 strides=6x1::7x1"), *plain);
    assert_eq!(*kernel("matmul f32 5x6:6x7 stag=ba"), *kernel("matmul f32 5x6:6x7 strides=1x5"));
    let before = compiled();
    let apart = kernel("matmul f32 5x6:6x7 strides=8x1::9x1");
    assert_ne!(*apart, *plain);
    assert_ne!(*apart, *kernel("matmul f32 5x6:6x7 strides=8x1::10x1"));
    assert_eq!(compiled() - before, 2);
    // Operands are as long as they reach, at least.
    let (lhs, rhs, mut dst) = ([1.0f32; 38], [1.0f32; 42], [7.0f32; 43]);
    apart.run(Args::new(&lhs, &rhs, &mut dst)).unwrap();
    assert_eq!((dst[0], dst[6], dst[7], dst[8], dst[42]), (6.0, 6.0, 7.0, 7.0, 6.0));
    apart.run(Args::new(&[1.0f32; 99], &rhs, &mut [0.0f32; 50])).unwrap();
    for (lhs, rhs, dst, name) in [(37, 42, 43, "lhs"), (38, 43, 43, "rhs"), (38, 42, 42, "dst")] {
        let (lhs, rhs, mut dst) = (vec![1.0f32; lhs], vec![1.0f32; rhs], vec![0.0f32; dst]);
        let e = apart.run(Args::new(&lhs, &rhs, &mut dst)).unwrap_err();
        assert!(matches!(&e, RuntimeError::Argument { name: n, .. } if n == name), "{e}");
    }
    let e = apart.run(Args::new(&[1.0f32; 37], &rhs, &mut dst)).unwrap_err().to_string();
    assert_eq!(e, "argument `lhs`: expected at least 38 elements of f32, got 37 of f32");
}

/// Weights with gaps are packed like those without, and once for both.
#[test]
fn weights_with_gaps_are_packed() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let options = Options { constant_weights: true, ..Options::default() };
    let apart = runtime.kernel_with(&problem("ip f32 mb64ic48oc64 strides=:50x1: +bias"), &options).unwrap();
    let dense = runtime.kernel_with(&problem("ip f32 mb64ic48oc64 +bias"), &options).unwrap();
    let (Some(a), Some(b)) = (apart.weights_layout(), dense.weights_layout()) else { panic!("both are packed") };
    assert_eq!(a as &PackedLayout, b);
    let data = Data::integers(apart.problem(), 3);
    let packed = apart.pack_weights(data.inputs[1].input()).unwrap();
    for kernel in [&apart, &dense] {
        let mut dst = data.before.clone();
        kernel.run(data.args_with((&packed).into(), &mut dst)).unwrap();
        assert_eq!(data.wrong(&dst), None, "{}", kernel.problem());
    }
    let short = vec![0.0f32; 63 * 50 + 47];
    assert!(matches!(apart.pack_weights(&short), Err(RuntimeError::Argument { .. })));
}

/// Rows with gaps of any number, on a family's code and on exact kernels.
#[test]
fn families_have_strides() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    for (pattern, kind) in [
        ("matmul f32 ?x33:33x40 strides=41x1:43x1:47x1 +bias+relu", "tiles"),
        ("ip bf16 mb?ic64oc32 strides=70x1::40x1 +add:ab", "blocks"),
        ("conv f32 mb?ic8ih6oc12kh3ph1 strides=999x1x60x10::700x1x90x15 +bias", "blocks"),
    ] {
        let family = runtime.family(pattern, &FamilyOptions { hot_calls: 2, ..FamilyOptions::default() }).unwrap();
        assert_eq!(family.kind(), kind, "{pattern}");
        for n in [1, 2, 5, 17, 70] {
            let data = Data::integers(&family.problem(n).unwrap(), n);
            for call in 0..3 {
                let mut dst = data.before.clone();
                family.run(n, data.args(&mut dst)).unwrap();
                assert_eq!(data.wrong(&dst), None, "{pattern} at {n}, call {call}");
                family.wait_for_compilation();
            }
        }
    }
    for (pattern, why) in [
        ("matmul f32 12x?x64:12x64x? strides=::9999x99x1", "outermost"),
        ("matmul f32 8x?:?x40 strides=99x1::", "outermost"),
        ("matmul f32 8x6:6x40 strides=?x1::", "outermost"),
        ("matmul f32 4x?x6:4x6x7 strides=600x6x1::", "outermost"),
    ] {
        let e = runtime.family(pattern, &FamilyOptions::default()).map(drop).unwrap_err();
        assert!(matches!(&e, RuntimeError::Family { .. }) && e.to_string().contains(why), "{pattern}: {e}");
    }
}

/// Strides that a stranger may send make a problem with a kernel, or are refused by name.
#[test]
fn no_strides_lead_out_of_an_operand() {
    let mut random = Random(5);
    let (mut made, mut refused) = (0, 0);
    for _ in 0..2000 {
        let (base, _) = &shapes::random_chain(&mut random);
        let numbers =
            ["0", "1", "2", "3", "7", "64", "-1", "8589934592", "18446744073709551615", "99999999999999999999"];
        // Those of the dense tensor, in half of the cases with another number for one.
        let mut tensor = |o: &Operand| {
            let mut strides: Vec<String> = o.strides().iter().map(u64::to_string).collect();
            if random.below(2) == 0 {
                let at = random.below(strides.len() as u64) as usize;
                strides[at] = random.pick(&numbers).to_string();
            }
            strides.join("x")
        };
        let operands = base.operands().into_iter().filter(|o| !matches!(o.role, Role::Post(_)));
        let strides = operands.map(|o| tensor(&o)).collect::<Vec<_>>().join(":");
        let plain = base.to_string().split(' ').filter(|w| !w.contains("tag=")).map(str::to_owned).collect::<Vec<_>>();
        let text = format!("{} strides={strides} {}", plain[..3].join(" "), plain[3..].join(" "));
        match text.parse::<Problem>() {
            Ok(problem) => {
                assert_eq!(problem.to_string().parse::<Problem>().unwrap(), problem);
                assert!(problem.operands().iter().all(|o| o.places().all(|at| at < o.span())));
                made += 1;
            }
            // Those of a dense tensor in an order that no kernel takes are refused as its tag.
            Err(ProblemError::Strides { .. } | ProblemError::Tag { .. }) => refused += 1,
            Err(e) => panic!("{text}: {e}"),
        }
    }
    assert!(made > 300 && refused > 300, "{made} and {refused}");
}
