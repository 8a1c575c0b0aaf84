//! The checker accepts what computes a tile, and says what is wrong with anything else. `mutants.rs` does so at random.

use kiln_compiler::microkernel::check::{CheckError, Fault, Lhs, Old, TileSpec, check_tile};
use kiln_compiler::microkernel::{MicroKernel, P, V};

use crate::definition::{after, interpreted, memory};
use crate::kernels::{self, Sample};

#[test]
fn correct_micro_kernels_pass() {
    for sample in kernels::all() {
        let (mk, spec) = (sample.kernel(), sample.specification());
        mk.verify().unwrap();
        check_tile(&mk, &sample.spec).unwrap_or_else(|e| panic!("{}: {e}", mk.name));
        let memory = memory(&mk, &spec, 1);
        let (param, expected) = after(&spec, mk.lanes, &memory);
        assert_eq!(interpreted(&mk, &memory)[param], expected, "{}", mk.name);
    }
}

/// The error after replacing `from` by `to` in the sample.
fn error(sample: &Sample, from: &str, to: &str) -> CheckError {
    assert!(sample.text.contains(from), "{from}");
    let mk: MicroKernel = sample.text.replacen(from, to, 1).parse().unwrap();
    check_tile(&mk, &sample.spec).expect_err(to)
}

fn fault(sample: &Sample, from: &str, to: &str) -> Fault {
    match error(sample, from, to) {
        CheckError::Op { fault, .. } => fault,
        other => panic!("{to}: {other}"),
    }
}

/// That element `(row, col)` of the result becomes what is shown so.
fn assert_wrong(fault: Fault, at: (u64, u64), shown: &str) {
    let Fault::Wrong { row, col, found, expected } = fault else { panic!("{fault}") };
    assert_eq!((row, col), at, "{found} instead of {expected}");
    assert!(found.contains(shown), "{found} instead of {expected}");
}

#[test]
fn a_clobbered_register_is_refused() {
    let sample = kernels::broadcasting();
    assert_eq!(fault(&sample, "v4 = broadcast", "v0 = broadcast"), Fault::Unset(V(4)));
    assert_eq!(fault(&sample, "v5 = broadcast lhs[32", "v2 = broadcast lhs[32"), Fault::Unset(V(5)));
    assert_eq!(fault(&sample, "v6 = load bias", "v1 = load bias"), Fault::Unset(V(6)));
    // What is lost: all products, the first of each trip.
    assert_wrong(fault(&sample, "v7 = zero", "v0 = zero\nv7 = zero"), (0, 0), "Max(0, Add(0, bias[0]))");
    assert_wrong(fault(&sample, "v2 = load", "v0 = zero\nv2 = load"), (0, 0), "0 + sum of lhs[16]+4*n * rhs[160]+40*n");
    let sample = kernels::by_element();
    assert_eq!(fault(&sample, "v5 = loadlanes", "v4 = loadlanes"), Fault::Unset(V(5)));
    assert_eq!(fault(&sample, "v7 = load rhs", "v3 = load rhs"), Fault::Unset(V(7)));
}

#[test]
fn a_wrong_operand_is_refused() {
    let sample = kernels::broadcasting();
    // Offsets, steps, swapped rows.
    assert_wrong(fault(&sample, "rhs[40 + 80*t]", "rhs[44 + 80*t]"), (0, 0), "rhs[0]+44*n for n < 2");
    assert_wrong(fault(&sample, "rhs[40 + 80*t]", "rhs[0 + 80*t]"), (0, 0), "rhs[0]+0*n for n < 2");
    assert_wrong(fault(&sample, "lhs[0 + 8*t]", "lhs[0 + 4*t]"), (0, 0), "lhs[0]+4*n * rhs[0]+40*n for n < 2");
    assert_wrong(fault(&sample, "lhs[36 + 8*t]", "lhs[4 + 8*t]"), (1, 0), "lhs[32]-28*n");
    assert_wrong(fault(&sample, "lhs[0 + 8*t]", "lhs[16 + 8*t]"), (0, 0), "lhs[16]");
    assert_wrong(fault(&sample, "broadcast lhs[0", "broadcast rhs[0"), (0, 0), " * ");
    assert_wrong(fault(&sample, "v0 += v2 * v4", "v0 += v2 * v2"), (0, 0), "rhs[160] * rhs[160]");
    assert_wrong(fault(&sample, "bias[0]", "bias[4]"), (0, 0), "bias[4]");
    assert_wrong(fault(&sample, "store dst[0], v0", "store dst[48], v0"), (1, 0), "lhs[0]+4*n * rhs[0]+40*n for n < 6");
    // Lanes.
    let sample = kernels::by_element();
    assert_wrong(fault(&sample, "v1 += v7 * v4.lane[2]", "v1 += v7 * v4.lane[3]"), (0, 4), "lhs[12]");
    assert_wrong(fault(&sample, "v2 += v6 * v5.lane[0]", "v2 += v6 * v4.lane[0]"), (1, 0), "lhs[0]");
    assert_wrong(fault(&sample, "lhs[32] x2", "lhs[32] x1"), (0, 0), "+ rhs[288] * 0");
    assert_eq!(fault(&sample, "v4.lane[0]", "v4.lane[4]"), Fault::Malformed);
    assert_wrong(fault(&sample, "v0 = load dst[0]", "v0 = load dst[4]"), (0, 0), "dst[4] + sum");
    // In registers of more than 4 lanes, a load repeats no scalars.
    assert_wrong(fault(&kernels::packed(), "v0 = loadlanes", "v0 = load"), (0, 4), "rhs[16] + sum of lhs[8]");
}

#[test]
fn skipped_and_repeated_steps_are_refused() {
    let sample = kernels::broadcasting();
    assert_wrong(fault(&sample, "v0 += v3 * v4", ""), (0, 0), "lhs[0]+8*n * rhs[0]+80*n for n < 3");
    assert_wrong(fault(&sample, "loop 3", "loop 2"), (0, 0), "for n < 4");
    assert_wrong(fault(&sample, "loop 3", "loop 4"), (0, 0), "for n < 8");
    assert_eq!(error(&sample, "loop 3", "loop 18446744073709551615"), CheckError::TooLong);
    let sample = kernels::by_element();
    let again = fault(&sample, "store dst[0]", "v0 += v6 * v4.lane[1]\nstore dst[0]");
    assert_wrong(again, (0, 0), "for n < 10 + sum of lhs[36] * rhs[288]");
    assert_wrong(fault(&sample, "v2 += v6 * v5.lane[0]", ""), (1, 0), "lhs[44]");
}

#[test]
fn a_wrong_epilogue_is_refused() {
    let sample = kernels::broadcasting();
    assert_wrong(fault(&sample, "v1 = add v6, v1", ""), (1, 0), "Max(0, 0 + sum");
    assert_wrong(fault(&sample, "v1 = max v7, v1", ""), (1, 0), "Add(");
    assert_wrong(fault(&sample, "v1 = max v7, v1", "v1 = max v7, v1\nv1 = add v1, v6"), (1, 0), "Add(");
    let twice = fault(&sample, "v1 = add v6, v1", "v1 = add v6, v1\nv1 = add v6, v1");
    assert_wrong(twice, (1, 0), "Add(bias[0], Add(bias[0], ");
    assert_wrong(fault(&sample, "v1 = max v7, v1", "v1 = max v6, v1"), (1, 0), "Max(");
    assert_wrong(fault(&sample, "v1 = max v7, v1", "v1 = min v7, v1"), (1, 0), "Min(");
    assert_wrong(fault(&sample, "v0 = zero", "v0 = load bias[0] x8"), (0, 0), "bias[0] + sum");
    assert_wrong(fault(&sample, "v0 = zero", "v0 = load dst[0] x8"), (0, 0), "dst[0] + sum");
    let sample = kernels::packed();
    assert_wrong(fault(&sample, "v8 = add v8, v16", ""), (0, 0), "Add(");
    assert_wrong(fault(&sample, "v8 = add v8, v17", ""), (0, 0), "Add(");
    // Row 1 loaded after it was stored is not the old row 1.
    let text = sample.text.replace("v16 = load dst[24]", "store dst[24], v8 x1\nv16 = load dst[24]");
    assert!(check_tile(&text.parse().unwrap(), &sample.spec).is_err());
    assert_wrong(fault(&sample, "v16 = load dst[24]", "v16 = load dst[0]"), (1, 0), "Add(");
}

#[test]
fn wrong_stores_are_refused() {
    let sample = kernels::broadcasting();
    assert_eq!(error(&sample, "store dst[48], v1 x8", ""), CheckError::NotStored { row: 1, col: 0 });
    assert_eq!(error(&sample, "v1 x8", "v1 x7"), CheckError::NotStored { row: 1, col: 7 });
    let twice = fault(&sample, "store dst[48]", "store dst[0], v0 x1\nstore dst[48]");
    assert_eq!(twice, Fault::Twice { row: 0, col: 0 });
    assert_eq!(fault(&sample, "store dst[0]", "store bias[0]"), Fault::NotTheResult { param: 3, byte: 0 });
    assert_wrong(fault(&sample, "store dst[0], v0", "store dst[0], v7"), (0, 0), "0");
    let beyond = |byte| Fault::NotTheResult { param: 2, byte };
    let narrow = Sample { spec: TileSpec { columns: 7, ..sample.spec.clone() }, ..sample };
    assert_eq!(fault(&narrow, "v0 = zero", "v0 = zero"), beyond(28));
    let sample = kernels::packed();
    assert_wrong(fault(&sample, "store dst[0], v8 x6", "store dst[0], v8 x8"), (1, 0), "Add(");
    assert_wrong(fault(&sample, "bias[0] x6", "bias[0] x5"), (0, 5), "Add(0, ");
    assert_wrong(fault(&sample, "v16 = load rhs[0] x8", "v16 = load rhs[0] x4"), (0, 4), "sum of lhs[8]");
}

#[test]
fn what_is_no_tile_is_refused() {
    let sample = kernels::broadcasting();
    let mk = sample.kernel();
    let spec = || sample.spec.clone();
    let lhs = |edit: &dyn Fn(&mut Lhs)| {
        let mut spec = spec();
        edit(&mut spec.lhs);
        spec
    };
    let dst = |row: u64, param: P| {
        let mut spec = spec();
        (spec.dst.row, spec.dst.param) = (row, param);
        spec
    };
    for spec in [
        TileSpec { rows: 0, ..spec() },
        TileSpec { columns: 1 << 40, ..spec() },
        TileSpec { post: vec![(spec().post[0].0, None)], ..spec() },
        lhs(&|lhs| lhs.rows.truncate(1)),
        lhs(&|lhs| lhs.steps.group = 0),
        lhs(&|lhs| lhs.param = P(1)),
        dst(28, P(2)),
        dst(48, P(4)),
    ] {
        assert!(matches!(check_tile(&mk, &spec), Err(CheckError::Spec(_))), "{spec:?}");
    }
    for spec in [
        TileSpec { columns: 7, ..spec() },
        TileSpec { old: Old::Before, ..spec() },
        TileSpec { post: vec![], ..spec() },
        TileSpec { post: spec().post[..1].to_vec(), ..spec() },
        lhs(&|lhs| lhs.runs[0].len = 5),
        lhs(&|lhs| lhs.runs[0].rows = 1),
        lhs(&|lhs| lhs.rows[1] = 36),
    ] {
        assert!(check_tile(&mk, &spec).is_err(), "{spec:?}");
    }
}
