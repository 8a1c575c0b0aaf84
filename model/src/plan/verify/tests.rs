use kiln_ir::Func;
use kiln_ir::func::Tensor;
use kiln_jit::Runtime;

use super::super::arena::Arenas;
use super::*;

/// A plan of a function, before anything is changed in it, with what it is verified against.
struct Planned {
    plan: Plan,
    values: Vec<Value>,
    results: Vec<ValueId>,
}

impl Planned {
    fn of(text: &str) -> Self {
        let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
        let results = func.results().to_vec();
        let values = func.into_values();
        let texts = vec![String::new(); values.len()];
        let plan = Plan::of(&values, texts, &results, &mut |_, _| unreachable!("no kernels")).unwrap();
        Planned { plan, values, results }
    }

    fn verify(&self) -> Result<(), PlanError> {
        verify(&self.plan, &self.values, &self.results)
    }

    /// Bytes of the results for arguments that are all different.
    fn run(&self, runtime: &Runtime) -> Vec<Vec<u8>> {
        let mut next = 0.0;
        let arguments = self.plan.arguments.iter().map(|ty| {
            let mut element = || {
                next += 1.0;
                next / 64.0
            };
            Tensor::from_f64(ty.clone(), &(0..ty.elements()).map(|_| element()).collect::<Vec<_>>())
        });
        let results = self.plan.call(runtime, &arguments.collect::<Vec<_>>(), &Arenas::default(), |_, _| {});
        results.unwrap().iter().map(|t| t.data().to_vec()).collect()
    }
}

/// `a` is read by three steps, one of them through a view; `d` and `e` are written over their operands.
const FUNC: &str = "func @f(%x: f32[4x16]) -> f32[4x16], f32[2x16], f32[16] {
    %c = constant f32[16] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
    %a = exp %x
    %b = tanh %a
    %s = slice %a {starts=[1,0] steps=[1,1] counts=[2,16]}
    %t = neg %s
    %d = add %b, %c
    %e = sub %d, %a
    return %e, %t, %c
}";

/// A change to the plan of [`FUNC`], and the fault that it has to be found as, at a step.
type Seeded = (&'static str, fn(&mut Plan), usize, fn(&PlanFault) -> bool);

#[test]
fn faults_are_found_where_they_are() {
    let faults: &[Seeded] = &[
        (
            "a view that ends behind its buffer",
            |plan| plan.steps[2].inputs[0].offset = 64 * 3,
            2,
            |f| matches!(f, PlanFault::OutOfBounds { operand: 0, end: 320, bytes: 256 }),
        ),
        (
            "a view of other rows",
            |plan| plan.steps[2].inputs[0].offset = 0,
            2,
            |f| matches!(f, PlanFault::Elsewhere { operand: 0, .. }),
        ),
        (
            "an argument read behind its end",
            |plan| plan.steps[0].inputs[0].offset = 64,
            0,
            |f| matches!(f, PlanFault::OutOfBounds { .. }),
        ),
        (
            "elements between elements",
            |plan| plan.steps[2].inputs[0].offset = 66,
            2,
            |f| matches!(f, PlanFault::Alignment { operand: 0, offset: 66 }),
        ),
        (
            "a read of a buffer that is written later",
            |plan| plan.steps[0].inputs[0].home = Home::Buffer(plan.steps[2].output),
            0,
            |f| matches!(f, PlanFault::OutOfBounds { .. }),
        ),
        (
            "a read of the result itself",
            |plan| plan.steps[0].inputs[0].home = Home::Buffer(plan.steps[0].output),
            0,
            |f| matches!(f, PlanFault::Elsewhere { .. }),
        ),
        (
            "a buffer in the place of another that is read later",
            |plan| plan.placement.offsets[plan.steps[2].output] = plan.placement.offsets[plan.steps[1].output],
            3,
            |f| matches!(f, PlanFault::WrittenOver { operand: 0, by: 2, .. }),
        ),
        (
            "a buffer beside where it is read",
            |plan| plan.placement.offsets[plan.steps[2].output] = plan.placement.bytes,
            2,
            |f| matches!(f, PlanFault::Placement { .. }),
        ),
        (
            "a buffer between lines",
            |plan| plan.placement.offsets[plan.steps[2].output] += 4,
            2,
            |f| matches!(f, PlanFault::Placement { .. }),
        ),
        (
            "a result written over what a later step reads",
            |plan| {
                plan.steps[1].output = plan.steps[0].output;
                plan.steps[1].in_place = Some(0);
            },
            2,
            |f| matches!(f, PlanFault::WrittenOver { operand: 0, by: 1, .. }),
        ),
        (
            "a result written over an operand as if it were another's place",
            |plan| plan.steps[3].in_place = None,
            3,
            |f| matches!(f, PlanFault::InPlace { operand: 0 }),
        ),
        (
            "a result written over an operand that lies elsewhere",
            |plan| plan.steps[3].in_place = Some(1),
            3,
            |f| matches!(f, PlanFault::InPlace { .. }),
        ),
        (
            "a constant that was given back",
            |plan| plan.constants[0] = None,
            3,
            |f| matches!(f, PlanFault::ConstantMissing { operand: 1 }),
        ),
        ("the wrong operand", |plan| plan.steps[4].inputs.swap(0, 1), 4, |f| matches!(f, PlanFault::Elsewhere { .. })),
        (
            "a result that is given back from where it is not",
            |plan| plan.results[1].1.home = Home::Buffer(plan.steps[0].output),
            5,
            |f| matches!(f, PlanFault::Elsewhere { .. }),
        ),
        (
            "a step that is left out",
            |plan| drop(plan.steps.remove(2)),
            2,
            |f| matches!(f, PlanFault::NotComputed { .. }),
        ),
        (
            "a buffer that is too small",
            |plan| plan.buffers[plan.steps[0].output].bytes -= 64,
            0,
            |f| matches!(f, PlanFault::Buffer { expected: 256, found: 192 }),
        ),
        (
            "an operand of another length",
            |plan| plan.steps[2].inputs[0].bytes -= 64,
            2,
            |f| matches!(f, PlanFault::Length { operand: 0, expected: 128, found: 64 }),
        ),
    ];
    Planned::of(FUNC).verify().unwrap();
    for (what, change, step, is_it) in faults {
        let mut planned = Planned::of(FUNC);
        change(&mut planned.plan);
        let error = planned.verify().expect_err(what);
        assert!(error.step == *step && is_it(&error.fault), "{what}: {error}");
    }
}

#[test]
fn an_error_names_the_step() {
    let mut planned = Planned::of(FUNC);
    planned.plan.constants[0] = None;
    assert_eq!(
        planned.verify().unwrap_err().to_string(),
        "internal error, a fault of Kiln's: the plan of memory is wrong at step 3 (`d`): operand 1 is a constant that the plan \
         does not have"
    );
}

/// Changes one number of a plan. Gives whether there was one to change.
fn change(plan: &mut Plan, which: usize, how: usize) -> bool {
    let buffers = plan.buffers.len();
    let mut places: Vec<&mut Place> = plan.steps.iter_mut().flat_map(|s| &mut s.inputs).collect();
    places.extend(plan.results.iter_mut().map(|(_, place)| place));
    let count = places.len();
    if which < count {
        let place = &mut *places[which];
        match how {
            0 => place.offset += 4,
            1 => place.offset += 64,
            2 => place.offset = place.offset.wrapping_sub(64),
            3 => place.bytes = place.bytes.wrapping_sub(4),
            4 => place.home = Home::Argument(0),
            5 => place.home = Home::Constant(0),
            _ if how - 6 < buffers => place.home = Home::Buffer(how - 6),
            _ => return false,
        }
        return true;
    }
    let which = which - count;
    let steps = plan.steps.len();
    if which < steps {
        let step = &mut plan.steps[which];
        match how {
            0 => step.in_place = None,
            1 | 2 => step.in_place = Some(how - 1),
            _ if how - 3 < buffers => step.output = how - 3,
            _ => return false,
        }
        return true;
    }
    let which = which - steps;
    if which < buffers {
        match how {
            0 => plan.placement.offsets[which] = 0,
            1 => plan.placement.offsets[which] += 64,
            2 => plan.placement.offsets[which] = plan.placement.offsets[which].wrapping_sub(64),
            3 => plan.buffers[which].bytes += 64,
            _ if how - 4 < buffers => plan.placement.offsets[which] = plan.placement.offsets[how - 4],
            _ => return false,
        }
        return true;
    }
    let which = which - buffers;
    which < plan.constants.len() && how == 0 && plan.constants[which].take().is_some()
}

/// Whatever number of a plan is changed: it is refused, or computes the same.
#[test]
fn what_is_accepted_computes_the_same() {
    let functions = [
        FUNC,
        "func @f(%x: f32[6x16], %y: f32[16]) -> f32[6x16], f32[3x16], f32[6x16] {
            %k = constant f32[16] {3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
            %a = abs %x
            %r = reshape %a {shape=[3,32]}
            %b = neg %r
            %v = slice %b {starts=[1,0] steps=[1,1] counts=[1,32]}
            %w = reshape %v {shape=[2,16]}
            %c = mul %w, %y
            %k2 = reshape %k {shape=[1,16]}
            %d = concat %c, %k2 {axis=0}
            %e = add %a, %k
            return %e, %d, %x
        }",
        "func @f(%x: f32[4x32]) -> f32[4x32], f32[1x4x32] {
            %k = constant f32[32] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}
            %a = mul %x, %k
            %b = neg %a
            %c = add %b, %a
            %d = abs %c
            %e = softmax %d {axis=1}
            %f = reshape %e {shape=[1,4,32]}
            return %d, %f
        }",
    ];
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let (mut refused, mut accepted) = (0, 0);
    for text in functions {
        let expected = Planned::of(text).run(&runtime);
        for which in 0.. {
            let mut is_any = false;
            for how in 0..16 {
                let mut planned = Planned::of(text);
                if !change(&mut planned.plan, which, how) {
                    continue;
                }
                is_any = true;
                match planned.verify() {
                    Err(_) => refused += 1,
                    Ok(()) => {
                        accepted += 1;
                        assert_eq!(planned.run(&runtime), expected, "change {how} of {which} in\n{text}");
                    }
                }
            }
            if !is_any {
                break;
            }
        }
    }
    assert!(refused > 300 && accepted > 20, "{refused} refused, {accepted} accepted");
}

#[test]
fn memory_has_the_last_writer_of_each_byte() {
    let mut memory = WrittenRanges::default();
    assert_eq!(memory.other(3..4, 0), Some(None));
    memory.write(10..50, 0);
    memory.write(50..60, 1);
    memory.write(20..30, 2);
    memory.write(0..12, 3);
    memory.write(40..40, 4);
    assert_eq!(memory.other(12..20, 0), None);
    assert_eq!(memory.other(12..21, 0), Some(Some(2)));
    assert_eq!(memory.other(30..50, 0), None);
    assert_eq!(memory.other(30..51, 0), Some(Some(1)));
    assert_eq!(memory.other(50..61, 1), Some(None));
    assert_eq!((memory.other(0..12, 3), memory.other(20..30, 2)), (None, None));
    memory.write(0..100, 5);
    assert_eq!((memory.other(0..100, 5), memory.0.len()), (None, 1));
}
