//! The checker refuses whatever computes something else: random changes of micro-kernels of every form that compute other
//! results are all refused, and of each form there are many. What it accepts computes what the specification says in
//! numbers.

#[path = "common/definition.rs"]
mod definition;

use std::collections::BTreeMap;

use definition::{after, interpreted, memory};
use kiln_compiler::microkernel::check::{Products, Spec, specs};
use kiln_compiler::microkernel::{Addr, Binary, Factors, Inst, MicroKernel, Op, P, Permute, Shift, Stmt, Unary, V};
use kiln_compiler::target::Feature;
use kiln_compiler::{Options, Target, compile};

const TARGETS: [&str; 9] = [
    "neoverse-n1",
    "neoverse-v1",
    "neoverse-v1-sve",
    "neoverse-v2",
    "sve512+bf16-neon",
    "x86-64-v3",
    "x86-64-v4",
    "x86-64-v4+vnni",
    "armv8",
];

/// Small problems of every form and feature, and whether weights are packed before.
const PROBLEMS: &[(&str, bool)] = &[
    ("matmul f32 3x9:9x5", false),
    ("matmul s8:s8:s32 3x21:21x9", false),
    ("matmul u8:s8:s32 9x24:24x17", true),
    ("matmul s8:s8:s32 7x40:40x33 stag=ba wtag=ba", false),
    ("matmul s8:s8:s32 20x19:19x12 dtag=ba", false),
    ("matmul u8:s8:s32 5x35:35x20 wtag=ba", false),
    ("ip s8:s8:s32 mb6ic32oc24", true),
    ("ip u8:s8:s32 mb5ic30oc9", true),
    ("matmul f32 3x90:90x5", false),
    ("matmul f32 4x77:77x20 stag=ba", true),
    ("ip f32 mb1ic300oc3", false),
    ("ip bf16 mb1ic300oc3", false),
    ("ip f32 mb3ic102oc9 fpmath=bf16", true),
    ("ip bf16 mb3ic102oc9", false),
    ("conv f32 mb1ic40iw4oc5kw2", true),
    ("conv bf16 mb1ic42iw4oc5kw2", true),
    ("conv f32 mb1ic41ih4oc5kh2 stag=abx dtag=abx", false),
    ("matmul f32 5x13:13x17 +bias+relu", false),
    ("matmul f32 4x10:10x9 stag=ba beta=1", false),
    ("matmul bf16:bf16:f32 3x9:9x11 +add:ab", false),
    ("matmul bf16 4x9:9x6 +gelu_erf", false),
    ("matmul f32 24x9:9x50 +bias+gelu_tanh", false),
    ("ip f32 mb16ic9oc40 fpmath=bf16 +mul:b+silu", false),
    ("matmul f32 6x9:9x20 wtag=ba", true),
    ("ip f32 mb1ic21oc5", false),
    ("ip f32 mb2ic37oc3 beta=1 +bias", false),
    ("ip bf16 mb1ic37oc6", false),
    ("ip bf16:bf16:f32 mb2ic19oc4 +silu", false),
    ("ip f32 mb5ic21oc9 fpmath=bf16 +bias", true),
    ("ip f32 mb7ic18oc20 fpmath=bf16", false),
    ("ip bf16 mb4ic22oc9 +bias+relu", false),
    ("ip bf16:bf16:f32 mb3ic21oc9 beta=1", true),
    ("conv f32 mb1ic3ih5oc6kh3ph1 +bias", true),
    ("conv f32 mb1ic5iw7oc9kw3pw1 beta=1", false),
    ("conv f32 mb1ic6ih6oc9kh3ph1 fpmath=bf16", true),
    ("conv bf16 mb1ic10iw9oc7kw3pw1sw2", true),
    ("conv f32 mb1ic6ih5oc8kh3ph1 stag=abx dtag=abx", false),
    ("conv f32 g9mb1ic9ih5oc9kh3ph1 +bias+relu", true),
    ("conv bf16 g5mb1ic5iw9oc5kw3pw1 beta=1", false),
];

/// Operations of a micro-kernel that is mutated, at most.
const LARGEST: u64 = 6000;
/// Micro-kernels of each kind, and mutants of each.
const KERNELS: usize = 16;
const MUTANTS: u64 = 400;
/// Of each kind at least so many mutants compute something else.
const LEAST: u64 = 1000;

fn executed(kernel: &MicroKernel) -> u64 {
    let count = |s: &Stmt| if let Stmt::Loop { trips, .. } = s { *trips } else { 1 } * s.insts().len() as u64;
    kernel.body.iter().map(count).sum()
}

/// Form, and what of it needs another proof.
fn kind(spec: &Spec) -> &'static str {
    match spec {
        Spec::Tile(t) if t.lhs.column != 0 => "depthwise",
        Spec::Tile(t) => match (t.products, t.lhs.runs.len()) {
            (Products::Steps, 1) if t.dst.dtype.is_integer() => "outer of integers",
            (Products::Blocks(8), _) if t.lhs.steps.group == 1 => "mmla of bytes in place",
            (Products::Blocks(8), _) => "mmla of bytes",
            (Products::Blocks(_), _) if t.dst.dtype.is_integer() && t.lhs.steps.group == 1 => "words in place",
            (Products::Blocks(_), _) if t.dst.dtype.is_integer() => "words",
            (Products::Steps, 1) => "outer",
            (Products::Steps, _) => "outer of a window",
            (Products::Lanes, _) => "dot",
            (Products::PairsInLanes, _) => "dot of pairs",
            (Products::Blocks(_), 1) if t.lhs.steps.group == 1 => "mmla in place",
            (Products::Blocks(_), 1) => "mmla",
            (Products::Blocks(_), _) => "mmla of a window",
        },
        Spec::Copy(c) if c.steps.group > 1 && c.dtype.is_integer() => "copy into groups of integers",
        Spec::Copy(c) if c.steps.group > 1 => "copy into groups",
        Spec::Copy(_) => "copy",
    }
}

const KINDS: [&str; 16] = [
    "outer of integers",
    "mmla of bytes in place",
    "mmla of bytes",
    "words in place",
    "words",
    "copy into groups of integers",
    "outer",
    "outer of a window",
    "dot",
    "dot of pairs",
    "mmla in place",
    "mmla",
    "mmla of a window",
    "depthwise",
    "copy into groups",
    "copy",
];

/// Micro-kernels with what is asked of them, by kind.
fn all() -> BTreeMap<&'static str, Vec<(MicroKernel, Spec)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for target in TARGETS {
        let target: Target = target.parse().unwrap();
        for (problem, constant_weights) in PROBLEMS {
            let options = Options { constant_weights: *constant_weights, ..Options::default() };
            let a = compile(&problem.parse().unwrap(), &target, &options).unwrap_or_else(|e| panic!("{problem}: {e}"));
            let schedule = &a.choice().schedule;
            let bf16 = target.unit(schedule.isa).unwrap().features.has(Feature::Bf16);
            for (number, spec) in specs(a.nest(), a.calls(), schedule.form, bf16).unwrap() {
                let kernel = a.micro_kernels()[number].clone();
                if executed(&kernel) <= LARGEST {
                    all.entry(kind(&spec)).or_default().push((kernel, spec));
                }
            }
        }
    }
    for kind in KINDS {
        assert!(all.contains_key(kind), "no micro-kernel is {kind}");
    }
    all
}

#[test]
fn what_is_accepted_computes_the_definition() {
    for (kind, kernels) in all() {
        for (mk, spec) in &kernels {
            spec.check(mk).unwrap_or_else(|e| panic!("{kind}: {e}\n{mk}"));
            for seed in [3, 77] {
                let memory = memory(mk, spec, seed);
                let (param, expected) = after(spec, mk.lanes, &memory);
                assert_eq!(interpreted(mk, &memory)[param], expected, "{kind}: {spec:?}\n{mk}");
            }
        }
    }
}

/// Numbers that repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A part of an operation.
enum Field<'a> {
    Register(&'a mut V),
    Addr(&'a mut Addr),
    Elements(&'a mut u16),
    Lane(&'a mut u8),
    Bits(&'a mut u32),
    Binary(&'a mut Binary),
    Unary(&'a mut Unary),
    Shift(&'a mut Shift),
    Permute(&'a mut Permute),
    Factors(&'a mut Factors),
}

fn fields(op: &mut Op) -> Vec<Field<'_>> {
    use Field::{Addr, Bits, Elements, Lane, Register};
    match op {
        Op::Zero { d } => vec![Register(d)],
        Op::Const { d, bits } => vec![Register(d), Bits(bits)],
        Op::Load { d, src, lanes: n }
        | Op::LoadRaw { d, src, elements: n }
        | Op::BroadcastRaw { d, src, elements: n }
        | Op::LoadRawQuad { d, src, elements: n } => {
            vec![Register(d), Addr(src), Elements(n)]
        }
        Op::LoadLanes { d, src, count } => vec![Register(d), Addr(src), Lane(count)],
        Op::Broadcast { d, src } => vec![Register(d), Addr(src)],
        Op::Store { s, dst, lanes: n } | Op::StoreRaw { s, dst, elements: n } => {
            vec![Register(s), Addr(dst), Elements(n)]
        }
        Op::Fma { d, a, b } | Op::Mla { d, a, b } | Op::PairAdd { d, a, b } => {
            vec![Register(d), Register(a), Register(b)]
        }
        Op::FmaLane { d, a, b, lane } => vec![Register(d), Register(a), Register(b), Lane(lane)],
        Op::Mmla { f, d, a, b } | Op::Dot { f, d, a, b } => {
            vec![Field::Factors(f), Register(d), Register(a), Register(b)]
        }
        Op::DotLane { f, d, a, b, lane } => {
            vec![Field::Factors(f), Register(d), Register(a), Register(b), Lane(lane)]
        }
        Op::Binary { f, d, a, b } => vec![Field::Binary(f), Register(d), Register(a), Register(b)],
        Op::Unary { f, d, a } => vec![Field::Unary(f), Register(d), Register(a)],
        Op::Shift { f, d, a, by } => vec![Field::Shift(f), Register(d), Register(a), Lane(by)],
        Op::Narrow { d, a, b } | Op::NarrowPairs { d, a, b } => vec![Register(d), Register(a), Register(b)],
        Op::Spill { s: v, slot } | Op::Reload { d: v, slot } => vec![Register(v), Elements(slot)],
        Op::Permute { f, bits, d, a, b } => {
            vec![Field::Permute(f), Lane(bits), Register(d), Register(a), Register(b)]
        }
    }
}

fn change(inst: &mut Inst, registers: u32, random: &mut Random) {
    let mut fields = fields(&mut inst.op);
    let field = random.below(fields.len() as u64) as usize;
    match &mut fields[field] {
        Field::Register(v) => v.0 = random.below(registers.into()) as u32,
        Field::Addr(addr) => match random.below(8) {
            0 => addr.param = P(random.below(4) as u8),
            1 if addr.step != 0 => addr.step += random.pick(&[-4, -2, 2, 4, 8, 16]),
            _ => addr.offset += random.pick(&[-64, -32, -16, -8, -4, -2, 2, 4, 8, 16, 32, 64]),
        },
        Field::Elements(n) => **n = (**n + random.below(5) as u16).saturating_sub(2).max(1),
        Field::Lane(n) => **n = random.pick(&[0, 1, 2, 3, 4, 15, 16, 17, 22, 23, 32, 64]),
        Field::Bits(bits) => **bits ^= 1 << random.below(32),
        Field::Binary(f) => **f = random.pick(Binary::ALL).1,
        Field::Unary(f) => **f = random.pick(Unary::ALL).1,
        Field::Shift(f) => **f = random.pick(Shift::ALL).1,
        Field::Permute(f) => **f = random.pick(Permute::ALL).1,
        Field::Factors(f) => **f = random.pick(Factors::ALL).1,
    }
}

/// A change of one place: another operand, an operation less or elsewhere, a loop that is longer or shorter.
fn mutate(mk: &mut MicroKernel, random: &mut Random) {
    let registers = mk.registers;
    let at = random.below(mk.body.len() as u64) as usize;
    let len = mk.body.len() as u64;
    match (random.below(8), &mut mk.body[at]) {
        (0, Stmt::Loop { trips, .. }) => *trips = (*trips + random.below(3)).saturating_sub(1).max(1),
        (1, Stmt::Loop { body, .. }) if body.len() > 1 => {
            let inst = body.remove(random.below(body.len() as u64) as usize);
            if random.below(2) == 0 {
                body.insert(random.below(body.len() as u64 + 1) as usize, inst);
            }
        }
        (_, Stmt::Loop { body, .. }) => {
            let at = random.below(body.len() as u64) as usize;
            change(&mut body[at], registers, random);
        }
        (0 | 1, Stmt::Inst(_)) if len > 1 => {
            let stmt = mk.body.remove(at);
            if random.below(2) == 0 {
                mk.body.insert(random.below(len) as usize, stmt);
            }
        }
        (_, Stmt::Inst(inst)) => change(inst, registers, random),
    }
}

/// Of a kind: mutants that verify and compute something else, and those that compute the same and are accepted all the same.
#[derive(Debug, Default)]
struct Counts {
    wrong: u64,
    equal: u64,
    accepted: u64,
}

#[test]
fn mutants_that_compute_something_else_are_refused() {
    let all = all();
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut random = Random(5);
    for (kind, kernels) in &all {
        let count = counts.entry(kind).or_default();
        // Evenly from all targets.
        let step = kernels.len().div_ceil(KERNELS).max(1);
        let chosen: Vec<_> = kernels.iter().step_by(step).collect();
        let each = MUTANTS * KERNELS as u64 / chosen.len() as u64;
        for (mk, spec) in chosen {
            let memory = memory(mk, spec, 9);
            let (param, expected) = after(spec, mk.lanes, &memory);
            for _ in 0..each {
                let mut mutant = mk.clone();
                (0..=random.below(2)).for_each(|_| mutate(&mut mutant, &mut random));
                if mutant == *mk || mutant.verify().is_err() {
                    continue;
                }
                let accepted = spec.check(&mutant).is_ok();
                if interpreted(&mutant, &memory)[param] == expected {
                    count.equal += 1;
                    count.accepted += u64::from(accepted);
                } else {
                    count.wrong += 1;
                    assert!(!accepted, "accepted as {kind}, and computes something else:\n{mutant}\ninstead of\n{mk}");
                }
            }
        }
    }
    for kind in KINDS {
        let count = counts.get(kind);
        assert!(count.is_some_and(|c| c.wrong >= LEAST), "{kind}: {count:?} of {counts:#?}");
    }
    println!("{counts:#?}");
}
