//! Post-ops against their meaning: accuracy, special values, and programs with registers assigned against programs.

use kiln_compiler::microkernel::accuracy::{BLOCK, Meter, sample};
use kiln_compiler::microkernel::approx::BOUNDS;
use kiln_compiler::microkernel::assign::Need;
use kiln_compiler::microkernel::program::{Builder, Program};
use kiln_compiler::microkernel::{
    Access, Addr, Binary, Inst, MicroKernel, Op, P, Param, Region, Shift, Stmt, Unary, V, assign, check_assignment,
};
use kiln_compiler::target::{Target, VectorIsa, VectorUnit};
use kiln_ir::{DType, Epilogue, PostOp};
use proptest::prelude::*;

/// Of the sample, every so many: on AArch64 these tests are mostly emulated, and the interpreter's arithmetic is IEEE's there too.
const STRIDE: usize = if cfg!(target_arch = "aarch64") { 16 } else { 1 };

#[test]
fn approximations_keep_their_bounds() {
    let all: Vec<u32> = sample().step_by(STRIDE).collect();
    for (op, bound) in BOUNDS {
        let mut meter = Meter::new(op);
        for chunk in all.chunks(BLOCK) {
            let arguments = std::array::from_fn(|i| chunk.get(i).copied().unwrap_or(0));
            let errors = meter.measure(&arguments);
            assert!(errors.within(bound), "{op}: {errors:?}, expected {bound:?}");
        }
    }
}

#[test]
fn what_has_a_bound_is_not_exact() {
    let bounded = |op: PostOp| BOUNDS.iter().any(|(other, _)| *other == op);
    for op in PostOp::plain() {
        assert_eq!(bounded(op), !op.is_exact(), "{op:?}");
    }
}

#[test]
fn bf16_results_are_nearly_rounded_correctly() {
    for (op, _) in BOUNDS {
        let errors = Meter::new(op).measure_bf16();
        let whole = matches!(op, PostOp::GeluErf | PostOp::GeluTanh);
        assert!(errors.ulps.is_finite() && (whole || errors.ulps <= 0.51), "{op}: {errors:?}");
        assert!(!whole || errors.of_argument <= 1.0 / 256.0, "{op}: {errors:?}");
    }
}

#[test]
fn exact_post_ops_are_exact() {
    let chain = |text: &str| Epilogue::parse(text).unwrap()[0];
    let ops =
        ["relu", "leaky_relu:0.1", "leaky_relu:3", "leaky_relu:-2", "clamp:-1:6", "square", "sqrt", "abs", "scale:0.3"];
    for op in ops.into_iter().chain(["shift:0.7", "hardsigmoid", "hardswish", "softsign", "bias", "mul:a"]).map(chain) {
        let program = Program::of(&[op]);
        let hard = matches!(op, PostOp::HardSigmoid | PostOp::HardSwish);
        for x in sample().step_by(7 * STRIDE).map(f32::from_bits) {
            let (got, expected) = (program.eval(x, &[1.5]), op.apply_f32(x, 1.5));
            let close =
                if hard { (got - expected).abs() <= 2.0 * f32::EPSILON * expected.abs() } else { got == expected };
            assert!(
                close || got == expected || (got.is_nan() && expected.is_nan()),
                "{op}({x:e}): {got:e}, not {expected:e}"
            );
        }
    }
}

#[test]
fn limits() {
    let eval = |op, x| Program::of(&[op]).eval(x, &[]);
    let inf = f32::INFINITY;
    for op in PostOp::plain().filter(|op| !op.has_operand()) {
        for nan in [0x7fc0_0000, 0xffc0_0000, 0x7fc0_01ff, 0x7fff_ffff, 0xffd5_5555] {
            assert!(eval(op, f32::from_bits(nan)).is_nan(), "{op}");
        }
    }
    for op in [PostOp::GeluErf, PostOp::GeluTanh, PostOp::Silu, PostOp::HardSwish] {
        assert_eq!((eval(op, inf), eval(op, -inf), eval(op, f32::MAX)), (inf, 0.0, f32::MAX), "{op}");
        assert_eq!((eval(op, 0.0), eval(op, f32::MIN)), (0.0, 0.0), "{op}");
    }
    assert_eq!((eval(PostOp::Exp, inf), eval(PostOp::Exp, -inf), eval(PostOp::Exp, 0.0)), (inf, 0.0, 1.0));
    assert_eq!((eval(PostOp::Sigmoid, inf), eval(PostOp::Sigmoid, -inf), eval(PostOp::Sigmoid, 0.0)), (1.0, 0.0, 0.5));
    assert_eq!((eval(PostOp::Tanh, inf), eval(PostOp::Tanh, -inf), eval(PostOp::Tanh, -0.0)), (1.0, -1.0, 0.0));
    assert_eq!((eval(PostOp::HardSigmoid, inf), eval(PostOp::HardSigmoid, -inf)), (1.0, 0.0));
}

const LANES: u32 = 8;

/// The program on a vector that is loaded, stored again, as a program of values.
fn values(program: &Program, rows: u64) -> MicroKernel {
    let region = |rows: u64| Region { rows, row_bytes: 32, row_stride: 32 };
    let param = |name: &str, rows, access| Param { name: name.into(), dtype: DType::F32, access, region: region(rows) };
    let addr = |p, offset| Addr { param: P(p), offset, step: 0 };
    let load = |v: u32| Op::Load { d: V(v), src: addr(0, 32 * i64::from(v)), lanes: LANES as u16 };
    let mut body: Vec<Op> =
        (0..program.values()).filter(|v| *v == 0 || program.operand(V(*v)).is_some()).map(load).collect();
    body.extend(program.ops());
    body.push(Op::Store { s: program.result(), dst: addr(1, 0), lanes: LANES as u16 });
    MicroKernel {
        name: "uk".into(),
        isa: VectorIsa::Avx2,
        lanes: LANES,
        registers: program.values(),
        params: vec![param("src", rows, Access::Read), param("dst", 1, Access::Write)],
        body: body.into_iter().map(|op| Stmt::Inst(Inst::new(op, ""))).collect(),
    }
}

/// Checks the program with as few registers as an operation has, and more. Gives the number of values that were kept in the frame with the
/// fewest.
fn check(program: &Program) -> usize {
    let data: Vec<[f32; 8]> =
        (0..5).map(|row| std::array::from_fn(|l| (l as f32 - 3.3) * (row as f32 + 0.7))).collect();
    let target: Target = "x86-64-v3".parse().unwrap();
    let values = values(program, data.len() as u64);
    values.verify().unwrap();
    let needs = vec![Need::default(); values.body.len()];
    let mut kept = 0;
    for registers in [3, 4, 5, 8, 16] {
        let unit = VectorUnit { registers, ..*target.unit(VectorIsa::Avx2).unwrap() };
        let assigned = assign(&values, &unit, &needs).unwrap_or_else(|e| panic!("{e}\n{values}"));
        let kernel = &assigned.kernel;
        kernel.verify().unwrap();
        check_assignment(&values, kernel, &assigned.origins, &needs)
            .unwrap_or_else(|e| panic!("{e}\n{values}\n{kernel}"));
        let spills = kernel.body.iter().flat_map(Stmt::insts).filter(|i| matches!(i.op, Op::Spill { .. })).count();
        kept = kept.max(spills);
        let (mut src, mut dst) = (data.concat(), vec![0.0; 8]);
        kernel.interpret_f32(&mut [&mut src, &mut dst]).unwrap();
        for l in 0..8 {
            let operands: Vec<f32> = data[1..].iter().map(|row| row[l]).collect();
            let expected = program.eval(data[0][l], &operands);
            let equal = dst[l].to_bits() == expected.to_bits() || (dst[l].is_nan() && expected.is_nan());
            assert!(equal, "{}, not {expected}, with {registers}: {program:?}\n{kernel}", dst[l]);
        }
    }
    kept
}

#[test]
fn post_ops_with_registers_assigned() {
    let all = "bias+bias:row+mul:ab+add:b+scale:0.125+shift:-2+relu+leaky_relu:0.01+clamp:0:6+gelu_erf+gelu_tanh+silu+sigmoid+\
               tanh+hardswish+hardsigmoid+softsign+exp+square+sqrt+abs";
    let all = Epilogue::parse(all).unwrap();
    let mut kept = 0;
    for chain in all.chunks(1).chain(all.windows(2)).chain([&all[..]]) {
        let program = Program::of(chain);
        kept += check(&program);
        if let [op] = chain {
            let (ops, constants) = (program.executed(), program.constants().len());
            println!("{op}: {ops} ops, {constants} constants, {} temporaries", program.temporaries());
        }
    }
    assert!(kept > 0, "no value was kept in the frame");
}

/// Random programs: each step reads earlier ones, recent ones more often.
fn programs() -> impl Strategy<Value = Program> {
    prop::collection::vec((0u8..16, any::<[u16; 3]>()), 1..40).prop_map(|seeds| {
        let mut b = Builder::default();
        let mut values = vec![b.input()];
        for (kind, picks) in seeds {
            let pick = |i: usize| -> V {
                let back = if picks[i] & 1 == 0 { values.len().min(3) } else { values.len() };
                values[values.len() - 1 - usize::from(picks[i] >> 1) % back]
            };
            values.push(match kind {
                0 => b.operand((picks[0] % 4) as u8),
                1..4 => b.constant(f32::from(picks[0] % 5)),
                4..8 => b.binary(Binary::ALL[usize::from(picks[2]) % Binary::ALL.len()].1, pick(0), pick(1)),
                8 => b.unary(Unary::ALL[usize::from(picks[2]) % Unary::ALL.len()].1, pick(0)),
                9 => b.shift(Shift::ALL[usize::from(picks[2]) % 2].1, pick(0), 1 + (picks[1] % 31) as u8),
                _ => b.fma(pick(0), pick(1), pick(2)),
            });
        }
        let result = values[values.len() - 1];
        b.finish(result)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_with_registers_assigned(program in programs()) {
        check(&program);
    }
}
