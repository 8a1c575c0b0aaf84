//! The tile checker accepts what computes the tile, and nothing else.

use kiln_compiler::microkernel::check::{CheckError, DstSpec, Fault, LhsSpec, TileSpec, check_tile};
use kiln_compiler::microkernel::{Addr, Binary, Inst, MicroKernel, Op, P, Stmt, V};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::kernels::{self, Sample};

/// Memory for each parameter of `mk`, as long as its region and filled with small integers.
fn memory(mk: &MicroKernel) -> Vec<Vec<f32>> {
    let mut state = 1u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as f32 % 9.0 - 4.0
    };
    mk.params.iter().map(|p| (0..p.region.end().unwrap() / 4).map(|_| next()).collect()).collect()
}

/// What `dst` holds after interpreting `mk`.
fn interpreted(mk: &MicroKernel, spec: &TileSpec, memory: &[Vec<f32>]) -> Vec<f32> {
    let mut memory = memory.to_vec();
    let mut args: Vec<&mut [f32]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
    mk.interpret_f32(&mut args).unwrap();
    memory.swap_remove(usize::from(spec.dst.param.0))
}

#[test]
fn correct_micro_kernels_pass() {
    for sample in kernels::all() {
        let mk = sample.kernel();
        mk.verify().unwrap();
        check_tile(&mk, &sample.spec).unwrap_or_else(|e| panic!("{}: {e}", mk.name));
        let memory = memory(&mk);
        assert_eq!(
            interpreted(&mk, &sample.spec, &memory),
            crate::tile_reference::after(&sample.spec, &memory),
            "{}",
            mk.name
        );
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

#[test]
fn a_clobbered_register_is_refused() {
    let sample = kernels::broadcasting();
    assert_eq!(fault(&sample, "v4 = broadcast", "v0 = broadcast"), Fault::Unset(V(4)));
    assert_eq!(fault(&sample, "v5 = broadcast lhs[32", "v2 = broadcast lhs[32"), Fault::Unset(V(5)));
    assert_eq!(fault(&sample, "v6 = load bias", "v1 = load bias"), Fault::Unset(V(6)));
    assert_eq!(fault(&sample, "v7 = zero", "v0 = zero\nv7 = zero"), Fault::NotASum);
    assert_eq!(fault(&sample, "v2 = load", "v0 = zero\nv2 = load"), Fault::Start(8));
    let sample = kernels::by_element();
    assert_eq!(fault(&sample, "v5 = loadlanes", "v4 = loadlanes"), wrong(0, 0, 0, 0, 40));
    assert_eq!(fault(&sample, "v7 = load rhs", "v3 = load rhs"), Fault::Unset(V(7)));
}

fn wrong(row: u64, col: u64, k: u64, expected: i128, found: i128) -> Fault {
    Fault::WrongElement { row, col, k, expected, found }
}

#[test]
fn a_wrong_operand_is_refused() {
    let sample = kernels::broadcasting();
    // Offsets, steps, swapped rows.
    assert_eq!(fault(&sample, "rhs[40 + 80*t]", "rhs[44 + 80*t]"), wrong(0, 0, 1, 40, 44));
    assert_eq!(fault(&sample, "rhs[40 + 80*t]", "rhs[0 + 80*t]"), wrong(0, 0, 1, 40, 0));
    assert_eq!(fault(&sample, "lhs[0 + 8*t]", "lhs[0 + 4*t]"), wrong(0, 0, 2, 8, 4));
    assert_eq!(fault(&sample, "lhs[36 + 8*t]", "lhs[4 + 8*t]"), wrong(1, 0, 1, 36, 4));
    assert_eq!(fault(&sample, "lhs[0 + 8*t]", "lhs[16 + 8*t]"), Fault::Start(16));
    assert_eq!(fault(&sample, "broadcast lhs[0", "broadcast rhs[0"), Fault::NotAProduct);
    assert_eq!(fault(&sample, "v0 += v2 * v4", "v0 += v2 * v2"), Fault::NotAProduct);
    assert_eq!(fault(&sample, "bias[0]", "bias[4]"), wrong(0, 0, 6, 0, 4));
    let swapped = fault(&sample, "store dst[0], v0", "store dst[48], v0");
    assert_eq!(swapped, wrong(0, 0, 6, 0, 48));
    // Lanes.
    let sample = kernels::by_element();
    assert_eq!(fault(&sample, "v1 += v7 * v4.lane[2]", "v1 += v7 * v4.lane[3]"), wrong(0, 4, 2, 8, 12));
    assert_eq!(fault(&sample, "v2 += v6 * v5.lane[0]", "v2 += v6 * v4.lane[0]"), wrong(1, 0, 0, 40, 0));
    assert_eq!(fault(&sample, "lhs[32] x2", "lhs[32] x1"), Fault::NotAProduct);
    assert_eq!(fault(&sample, "v4.lane[0]", "v4.lane[4]"), Fault::Malformed);
    assert_eq!(fault(&sample, "v0 = load dst[0]", "v0 = load dst[4]"), wrong(0, 1, 0, 4, 0));
    // In registers of more than 4 lanes, a load repeats no scalars.
    assert_eq!(fault(&kernels::packed(), "v0 = loadlanes", "v0 = load"), Fault::NotAProduct);
}

#[test]
fn skipped_and_repeated_steps_are_refused() {
    let sample = kernels::broadcasting();
    assert_eq!(fault(&sample, "v0 += v3 * v4", ""), wrong(0, 0, 1, 4, 8));
    assert_eq!(fault(&sample, "loop 3", "loop 2"), Fault::NotThisEpilogue);
    assert_eq!(fault(&sample, "loop 3", "loop 4"), Fault::TooManySteps { row: 0, col: 0 });
    assert_eq!(error(&sample, "loop 3", "loop 18446744073709551615"), CheckError::LoopTooLong(u64::MAX));
    let sample = kernels::by_element();
    assert_eq!(
        fault(&sample, "store dst[0]", "v0 += v6 * v4.lane[1]\nstore dst[0]"),
        Fault::TooManySteps { row: 0, col: 0 }
    );
    let text = sample.text.replace("v3 += v7 * v5.lane[1]", "");
    assert!(check_tile(&text.parse().unwrap(), &sample.spec).is_err());
}

#[test]
fn a_wrong_epilogue_is_refused() {
    let sample = kernels::broadcasting();
    let incomplete = Fault::Incomplete { row: 1, col: 0, k: 6 };
    assert_eq!(fault(&sample, "v1 = add v6, v1", ""), Fault::NotThisEpilogue);
    assert_eq!(fault(&sample, "v1 = max v7, v1", ""), incomplete);
    assert_eq!(fault(&sample, "v1 = max v7, v1", "v1 = max v7, v1\nv1 = add v1, v6"), Fault::NotThisEpilogue);
    assert_eq!(fault(&sample, "v1 = add v6, v1", "v1 = add v6, v1\nv1 = add v6, v1"), Fault::NotThisEpilogue);
    assert_eq!(fault(&sample, "v1 = max v7, v1", "v1 = max v6, v1"), Fault::NotThisEpilogue);
    assert_eq!(fault(&sample, "v0 = zero", "v0 = load bias[0] x8"), Fault::NotASum);
    assert_eq!(fault(&sample, "v0 = zero", "v0 = load dst[0] x8"), Fault::NotASum);
    let sample = kernels::packed();
    assert_eq!(fault(&sample, "v8 = add v8, v16", ""), Fault::NotThisEpilogue);
    assert_eq!(fault(&sample, "v8 = add v8, v17", ""), Fault::Incomplete { row: 0, col: 0, k: 5 });
    // Row 1 loaded after it was stored is not the old row 1.
    let text = sample.text.replace("v16 = load dst[24]", "store dst[24], v8 x1\nv16 = load dst[24]");
    assert!(check_tile(&text.parse().unwrap(), &sample.spec).is_err());
    assert_eq!(fault(&sample, "v16 = load dst[24]", "v16 = load dst[0]"), Fault::NotThisEpilogue);
}

#[test]
fn wrong_stores_are_refused() {
    let sample = kernels::broadcasting();
    assert_eq!(error(&sample, "store dst[48], v1 x8", ""), CheckError::NotStored { row: 1, col: 0 });
    assert_eq!(error(&sample, "v1 x8", "v1 x7"), CheckError::NotStored { row: 1, col: 7 });
    let twice = fault(&sample, "store dst[48]", "store dst[0], v0 x1\nstore dst[48]");
    assert_eq!(twice, Fault::Twice { row: 0, col: 0 });
    assert_eq!(fault(&sample, "store dst[0]", "store bias[0]"), Fault::NotDst);
    assert_eq!(fault(&sample, "store dst[0], v0", "store dst[0], v7"), Fault::NotASum);
    let meaningless = |stored, meaningful| Fault::Meaningless { col: 0, stored, meaningful };
    let narrow = Sample { spec: TileSpec { nr: 7, ..sample.spec }, ..sample };
    assert_eq!(fault(&narrow, "v0 = zero", "v0 = zero"), meaningless(8, 7));
    let sample = kernels::packed();
    assert_eq!(fault(&sample, "store dst[0], v8 x6", "store dst[0], v8 x8"), meaningless(8, 6));
    assert_eq!(fault(&sample, "bias[0] x6", "bias[0] x5"), meaningless(6, 5));
    assert_eq!(fault(&sample, "v16 = load rhs[0] x8", "v16 = load rhs[0] x4"), meaningless(6, 4));
}

#[test]
fn what_is_no_tile_is_refused() {
    let sample = kernels::broadcasting();
    let mk = sample.kernel();
    let spec = sample.spec;
    let lhs = |row_stride, k_stride| LhsSpec { row_stride, k_stride, ..spec.lhs };
    for spec in [
        TileSpec { mr: 0, ..spec },
        TileSpec { k: 0, ..spec },
        TileSpec { mr: u64::MAX, ..spec },
        TileSpec { nr: 1 << 40, ..spec },
        TileSpec { bias: Some(P(4)), ..spec },
        TileSpec { bias: Some(spec.rhs.param), ..spec },
        TileSpec { lhs: lhs(0, 4), ..spec },
        TileSpec { lhs: lhs(32, u64::MAX), ..spec },
        TileSpec { dst: DstSpec { row_stride: 28, ..spec.dst }, ..spec },
    ] {
        assert!(matches!(check_tile(&mk, &spec), Err(CheckError::Spec(_))), "{spec:?}");
    }
    for spec in [
        TileSpec { mr: 1, ..spec },
        TileSpec { nr: 7, ..spec },
        TileSpec { k: 5, ..spec },
        TileSpec { relu: false, ..spec },
        TileSpec { bias: None, ..spec },
        TileSpec { accumulate: true, ..spec },
    ] {
        assert!(check_tile(&mk, &spec).is_err(), "{spec:?}");
    }
}

/// A change of one place of a micro-kernel. Which place, and to what, is decided by the numbers.
#[derive(Clone, Copy, Debug)]
struct Mutation {
    place: Index,
    kind: u8,
    value: u8,
}

impl Mutation {
    fn apply(self, mk: &mut MicroKernel) {
        let lens: Vec<usize> =
            mk.body.iter().map(|s| if let Stmt::Loop { body, .. } = s { body.len() } else { 1 }).collect();
        let mut place = self.place.index(lens.iter().sum());
        for (i, len) in lens.into_iter().enumerate() {
            if place >= len {
                place -= len;
                continue;
            }
            match &mut mk.body[i] {
                Stmt::Loop { trips, .. } if self.kind == 9 => *trips = u64::from(self.value % 6),
                Stmt::Loop { body, .. } if self.kind >= 7 => {
                    let inst = body.remove(place);
                    // Deleted, or moved.
                    if self.kind == 8 {
                        body.insert(usize::from(self.value) % (body.len() + 1), inst);
                    }
                }
                Stmt::Inst(_) if self.kind >= 7 => {
                    let stmt = mk.body.remove(i);
                    if self.kind == 8 {
                        mk.body.insert(usize::from(self.value) % (mk.body.len() + 1), stmt);
                    }
                }
                Stmt::Loop { body, .. } => self.change(&mut body[place]),
                Stmt::Inst(inst) => self.change(inst),
            }
            return;
        }
    }

    fn change(self, inst: &mut Inst) {
        let register = V(self.value % 10);
        let delta = i64::from(self.value % 25) - 12;
        let change_addr = |addr: &mut Addr| match self.kind {
            4 => addr.step += 4 * delta,
            5 => addr.param = P(self.value % 4),
            _ => addr.offset += 4 * delta,
        };
        match &mut inst.op {
            Op::Zero { d } => *d = register,
            Op::Load { d, src, lanes } => match self.kind {
                0 | 1 => *d = register,
                2 => *lanes = (self.value % 9).into(),
                _ => change_addr(src),
            },
            Op::LoadLanes { d, src, count } => match self.kind {
                0 | 1 => *d = register,
                2 => *count = self.value % 5,
                _ => change_addr(src),
            },
            Op::Broadcast { d, src } => {
                if self.kind <= 2 {
                    *d = register
                } else {
                    change_addr(src)
                }
            }
            Op::Store { s, dst, lanes } => match self.kind {
                0 | 1 => *s = register,
                2 => *lanes = (self.value % 9).into(),
                _ => change_addr(dst),
            },
            Op::Fma { d, a, b } | Op::Binary { f: Binary::Add, d, a, b } | Op::Binary { f: Binary::Max, d, a, b } => {
                match self.kind {
                    0..=2 => *d = register,
                    3 | 4 => *a = register,
                    _ => *b = register,
                }
            }
            Op::FmaLane { d, a, b, lane } => match self.kind {
                0 | 1 => *d = register,
                2 | 3 => *a = register,
                4 => *b = register,
                _ => *lane = self.value % 4,
            },
            other => unreachable!("no sample has {other:?}"),
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let mutation =
        (any::<Index>(), 0u8..10, any::<u8>()).prop_map(|(place, kind, value)| Mutation { place, kind, value });
    prop::collection::vec(mutation, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn mutants_that_are_accepted_compute_the_tile(sample in 0usize..3, mutations in mutations()) {
        let Sample { text, spec } = &kernels::all()[sample];
        let mut mk: MicroKernel = text.parse().unwrap();
        let memory = memory(&mk);
        mutations.iter().for_each(|m| m.apply(&mut mk));
        // What verifies can be interpreted; what also checks computes the tile.
        if mk.verify().is_ok() {
            let found = interpreted(&mk, spec, &memory);
            let checked = check_tile(&mk, spec);
            let expected = crate::tile_reference::after(spec, &memory);
            prop_assert!(checked.is_err() || found == expected, "accepted a wrong micro-kernel:\n{}", mk);
        }
    }
}
