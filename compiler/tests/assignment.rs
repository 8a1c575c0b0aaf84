//! Registers are assigned so that programs stay what they are: the independent checker accepts every assignment, and refuses random changes
//! of assigned programs.

use std::collections::BTreeMap;

use kiln_compiler::emit::needs;
use kiln_compiler::form::{self, Form};
use kiln_compiler::microkernel::assign::{Assigned, Need};
use kiln_compiler::microkernel::build::{How, pack};
use kiln_compiler::microkernel::{Access, Inst, MicroKernel, Op, Stmt, Temps, V, assign, check_assignment};
use kiln_compiler::target::VectorUnit;
use kiln_compiler::{Options, Target, compile};
use kiln_ir::LoopNest;
use kiln_ir::nest;

const TARGETS: [&str; 10] = [
    "armv8",
    "armv8+dotprod+i8mm",
    "neoverse-n1",
    "neoverse-v1",
    "neoverse-v1-sve",
    "neoverse-v2",
    "sve512+bf16-neon",
    "x86-64-v3",
    "x86-64-v4",
    "x86-64-v4+vnni",
];

/// Problems of every form, and whether weights are packed before. Some have more sums and constants than registers.
const PROBLEMS: &[(&str, bool)] = &[
    ("matmul f32 3x90:90x5", false),
    ("matmul f32 24x70:70x50 +bias+gelu_erf", false),
    ("matmul f32 30x70:70x96 +bias+gelu_tanh+add:ab", true),
    ("matmul f32 4x77:77x20 stag=ba beta=1", true),
    ("ip f32 mb1ic300oc3 +silu", false),
    ("ip bf16 mb2ic300oc9 +bias", false),
    ("ip f32 mb24ic102oc90 fpmath=bf16 +gelu_erf", true),
    ("ip bf16 mb5ic102oc9 +tanh", false),
    ("ip f32 mb7ic18oc20 fpmath=bf16", false),
    ("conv f32 mb1ic40iw9oc40kw2 +bias+hardswish", true),
    ("conv bf16 mb1ic42iw9oc35kw2", true),
    ("conv f32 g40mb1ic40ih9oc40kh3ph1 +bias+silu", true),
    ("conv bf16 g5mb1ic5iw9oc5kw3pw1 beta=1", false),
    ("matmul f16 20x70:70x33 +bias+gelu_erf", true),
    ("matmul f16 3x70:70x33", false),
    ("matmul s8:s8:s32 20x70:70x33", false),
    ("matmul s8:s8:s32 64x256:256x96", false),
    ("matmul s8:s8:s32 3x20:20x17", false),
    ("matmul s8:s8:s32 2x9:9x70 wtag=ba", true),
    ("ip s8:s8:s32 mb37ic100oc70", false),
    ("matmul u8:s8:s32 40x90:90x50 stag=ba", false),
    ("matmul u8:s8:s32 7x40:40x20", true),
    ("matmul u8:s8:s32 5x30:30x40", false),
    ("matmul u8:s8:s32 3x25:25x37", false),
    ("ip u8:s8:s32 mb24ic96oc90", true),
    ("ip u8:s8:s32 mb9ic64oc80", false),
    ("matmul u8:s8:s32 6x36:36x90", true),
    ("matmul f16 64x256:256x96", false),
    ("conv f16 g40mb1ic40ih9oc40kh3ph1 +silu", true),
];

/// A program, its name in counts, and its assignment.
struct Case {
    kind: String,
    program: MicroKernel,
    needs: Vec<Need>,
    assigned: Assigned,
}

impl Case {
    fn new(kind: String, program: MicroKernel, unit: &VectorUnit) -> Self {
        let needs = needs(&program, unit);
        let assigned = assign(&program, unit, &needs).unwrap_or_else(|e| panic!("{kind}: {e}\n{program}"));
        Case { kind, program, needs, assigned }
    }

    fn check(&self, kernel: &MicroKernel) -> bool {
        check_assignment(&self.program, kernel, &self.assigned.origins, &self.needs).is_ok()
    }
}

/// The programs of a nest.
fn programs(
    nest: &LoopNest,
    body: &[nest::Stmt],
    (form, unroll): (Form, u64),
    unit: &VectorUnit,
    cases: &mut Vec<Case>,
) {
    let dtype = |m: &nest::Matrix| nest.buffers[usize::from(m.at.buffer.0)].dtype;
    for stmt in body {
        let (kind, program) = match stmt {
            nest::Stmt::Loop(l) => {
                programs(nest, &l.body, (form, unroll), unit, cases);
                continue;
            }
            nest::Stmt::Tile(t) => {
                let kind = format!("{form:?} {}", dtype(&t.lhs)).to_lowercase();
                (kind, form::build("uk".into(), nest, t, unit, form, How { unroll, padded: false }))
            }
            nest::Stmt::Pack(p) => (format!("copy {}", dtype(&p.src)), pack::build("uk".into(), nest, p, unit)),
            _ => continue,
        };
        match program {
            Ok(program) => cases.push(Case::new(kind, program, unit)),
            // The driver copies what has no constant extent.
            Err(e) => assert!(kind.starts_with("copy"), "{kind}: {e}"),
        }
    }
}

fn all() -> Vec<Case> {
    let mut cases = vec![];
    for target in TARGETS {
        let target: Target = target.parse().unwrap();
        for (problem, constant_weights) in PROBLEMS {
            let options = Options { constant_weights: *constant_weights, ..Options::default() };
            let a = compile(&problem.parse().unwrap(), &target, &options).unwrap_or_else(|e| panic!("{problem}: {e}"));
            let schedule = &a.choice().schedule;
            let unit = target.unit(schedule.isa).unwrap();
            let how = (schedule.form, schedule.regions[0].unroll);
            programs(a.nest(), &a.nest().body, how, unit, &mut cases);
        }
    }
    cases
}

fn insts(mk: &MicroKernel) -> impl Iterator<Item = &Inst> {
    mk.body.iter().flat_map(Stmt::insts)
}

#[test]
fn every_program_is_assigned_and_checked() {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut kept = 0;
    for case in all() {
        let Case { kind, program, needs, assigned } = &case;
        let kernel = &assigned.kernel;
        program.verify().unwrap_or_else(|e| panic!("{kind}: {e}"));
        kernel.verify().unwrap_or_else(|e| panic!("{kind}: {e}"));
        check_assignment(program, kernel, &assigned.origins, needs)
            .unwrap_or_else(|e| panic!("{kind}: {e}\n{program}\n{kernel}"));
        kept += insts(kernel).filter(|i| matches!(i.op, Op::Spill { .. })).count();
        *counts.entry(kind.clone()).or_default() += 1;
    }
    println!("{counts:#?}, {kept} values kept in frames");
    let forms = [
        "outer s8",
        "outer u8",
        "mmlabytes s8",
        "mmlabytes u8",
        "quads s8",
        "quads u8",
        "pairs s16",
        "outer f32",
        "outer f16",
        "dot f32",
        "dot bf16",
        "mmla f32",
        "mmla bf16",
    ];
    let others =
        ["depthwise f32", "depthwise bf16", "depthwise f16", "copy f32", "copy bf16", "copy f16", "copy s8", "copy u8"];
    for kind in forms.into_iter().chain(others) {
        assert!(counts.get(kind).is_some_and(|n| *n > 0), "{kind}: none of {counts:?}");
    }
    assert!(kept > 100, "{kept} values were kept in frames");
}

/// Memory of pseudo-random numbers for the parameters of a program.
fn memory(mk: &MicroKernel, seed: u64) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let parameter = |p: &kiln_compiler::microkernel::Param| {
        let len = p.region.end().unwrap() as usize;
        // Any bf16 and any f32 whose high bytes are these is a number of moderate size.
        let number = |n: usize| if n % 2 == 1 { 0x3f } else { random.u8(..) };
        (0..len).map(number).collect::<Vec<u8>>()
    };
    mk.params.iter().map(parameter).collect()
}

/// What a program leaves in what it writes.
fn results(mk: &MicroKernel, memory: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let mut memory = memory.to_vec();
    mk.interpret(&mut memory.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).ok()?;
    let written = mk.params.iter().zip(memory).filter(|(p, _)| p.access != Access::Read);
    Some(written.map(|(_, m)| m).collect())
}

/// Changes a register of an operation, its temporary registers, its slot, or swaps it with the one behind it.
fn change(insts: &mut [Inst], at: usize, registers: u32, random: &mut fastrand::Rng) {
    if random.u8(..8) == 0 && at + 1 < insts.len() {
        return insts.swap(at, at + 1);
    }
    let inst = &mut insts[at];
    let mut fields = 0;
    inst.op.renamed(|v| {
        fields += 1;
        v
    });
    if let Op::Spill { slot, .. } | Op::Reload { slot, .. } = &mut inst.op
        && random.bool()
    {
        *slot = (*slot + random.u16(1..3)) % 8;
        return;
    }
    if !inst.temps.as_slice().is_empty() && random.u8(..4) == 0 {
        let mut temps = inst.temps.as_slice().to_vec();
        let n = random.usize(..temps.len());
        temps[n] = V(random.u32(..registers));
        inst.temps = Temps::new(&temps).unwrap();
        return;
    }
    let (mut nth, chosen) = (0, random.usize(..fields));
    inst.op = inst.op.renamed(|v| {
        nth += 1;
        if nth - 1 == chosen { V(random.u32(..registers)) } else { v }
    });
}

/// A change in one place. A statement that is no loop is changed among those around it.
fn mutate(mk: &mut MicroKernel, random: &mut fastrand::Rng) {
    let registers = mk.registers;
    let at = random.usize(..mk.body.len());
    match &mut mk.body[at] {
        Stmt::Loop { body, .. } => {
            let at = random.usize(..body.len());
            change(body, at, registers, random);
        }
        Stmt::Inst(inst) => change(std::slice::from_mut(inst), 0, registers, random),
    }
}

#[test]
fn changes_of_assigned_programs_are_refused() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut by_kind: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for case in all() {
        let original = &case.assigned.kernel;
        if insts(original).count() > 4000 {
            continue;
        }
        let memory = memory(original, 5);
        let expected = results(original, &memory);
        let [total, refused, wrong] = by_kind.entry(case.kind.clone()).or_default();
        for _ in 0..60 {
            let mut mutant = original.clone();
            mutate(&mut mutant, &mut random);
            if mutant == *original {
                continue;
            }
            *total += 1;
            let is_refused = !case.check(&mutant);
            *refused += u64::from(is_refused);
            if results(&mutant, &memory) != expected {
                *wrong += 1;
                assert!(
                    is_refused,
                    "accepted as {}, and computes something else:\n{mutant}\ninstead of\n{original}",
                    case.kind
                );
            }
        }
    }
    println!("{by_kind:#?}: mutants, refused, with other results");
    // Those that are accepted compute the same: a temporary register is another one that is free, or nobody reads a result.
    for (kind, [total, refused, wrong]) in &by_kind {
        assert!(*wrong >= 200, "{kind}: only {wrong} mutants compute something else");
        assert!(100 * refused >= 90 * total, "{kind}: {refused} of {total} mutants are refused");
    }
}
