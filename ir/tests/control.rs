//! Branches and loops: text, types, meaning, and passes inside of functions that operations run.

use kiln_ir::Func;
use kiln_ir::func::{Control, InterpretError};
use kiln_ir::pass::optimize;

fn parse(text: &str) -> Func {
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(func.to_string().parse(), Ok(func.clone()), "{func}");
    func
}

fn refused(text: &str, words: &[&str]) {
    let error = text.parse::<Func>().unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

/// `x` doubled, or its square root with its negative.
fn branches(otherwise: &str) -> String {
    format!(
        "func @f(%c: bool[], %x: f32[2]) -> f32[2], f32[2] {{
           %y = if %c, %x {{then=func @t(%x: f32[2]) -> f32[2], f32[2] {{
               %0 = add %x, %x   # not a }} that counts
               return %0, %x
             }} otherwise={otherwise}}}
           %z = output %y {{index=1 ty=f32[2]}}
           return %y, %z
         }}"
    )
}

#[test]
fn one_branch_is_taken() {
    let func = parse(&branches("func @e(%a: f32[2]) -> f32[2], f32[2] {\n%0 = sqrt %a\n%1 = neg %0\nreturn %0, %1 }"));
    assert_eq!(func.depth(), 2);
    let run = |c: f64| func.interpret_f64(&[&[c], &[4.0, 9.0]]).unwrap();
    assert_eq!(run(1.0), [[8.0, 18.0], [4.0, 9.0]]);
    assert_eq!(run(0.0), [[2.0, 3.0], [-2.0, -3.0]]);
}

#[test]
fn branches_of_different_types_are_refused() {
    let other = |text: &str| branches(&format!("func @e{text}"));
    refused(&other("(%a: f32[2]) -> f32[2] { return %a }"), &["otherwise gives 1 value(s): expected 2"]);
    refused(
        &other("(%a: f32[2]) -> f32[2], f32[1x2] {\n%0 = reshape %a {shape=[1,2]}\nreturn %a, %0 }"),
        &["otherwise gives f32[1x2] for value 1: expected f32[2]"],
    );
    refused(&other("(%a: f32[3]) -> f32[3], f32[3] { return %a, %a }"), &["otherwise takes %a of f32[3]", "f32[2]"]);
    let of = |line: &str| format!("func @f(%c: bool[], %x: f32[2]) -> f32[2] {{\n{line}\nreturn %x\n}}");
    let same = "func @s(%x: f32[2]) -> f32[2] { return %x }";
    refused(&of(&format!("%y = if %x, %x {{then={same} otherwise={same}}}")), &["operand 0", "one boolean"]);
    refused(
        &of(&format!("%y = if %c, %x {{then={same} otherwise={same}}}\n%z = output %y {{index=1 ty=f32[2]}}")),
        &["index=1", "%y"],
    );
    refused(&of("%z = output %x {index=1 ty=f32[2]}"), &["index=1", "%x"]);
    refused(&of("%y = if %c, %x {then=func @s(%x: f32[2]) -> f32[2] {"), &["end of text"]);
}

/// Sums of the rows of `x`, from the last to the first, and what they are on the way.
const SUMS: &str = "func @f(%h: f32[2], %x: f32[3x2], %b: f32[]) -> f32[2], f32[3x2], i64[3] {
    %y = scan %h, %x, %b {trips=3 states=1 backward=[1,1,0]
        body=func @body(%i: i64[], %h: f32[2], %row: f32[2], %b: f32[]) -> f32[2], f32[2], i64[] {
            %0 = add %h, %row
            %1 = mul %0, %b
            return %0, %1, %i
        }}
    %rows = output %y {index=1 ty=f32[3x2]}
    %count = output %y {index=2 ty=i64[3]}
    return %y, %rows, %count
}";

#[test]
fn slices_go_forward_and_backward() {
    let func = parse(SUMS);
    let results = func.interpret_f64(&[&[100.0, 200.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[10.0]]).unwrap();
    assert_eq!(results[0], [109.0, 212.0]);
    assert_eq!(results[1], [1090.0, 2120.0, 1080.0, 2100.0, 1050.0, 2060.0]);
    assert_eq!(results[2], [0.0, 1.0, 2.0]);
    refused(&SUMS.replace("trips=3", "trips=4"), &["operand 1", "[3, 2]", "[4, 2]"]);
    refused(&SUMS.replace("[1,1,0]", "[1]"), &["backward"]);
    refused(&SUMS.replace("[1,1,0]", "[1,2,0]"), &["backward=2"]);
    refused(&SUMS.replace("return %0, %1, %i", "return %1, %0, %1"), &["`body`", "%1 is f32[2]", "i64[]"]);
}

const HALVES: &str = "func @f(%limit: i64[], %go: bool[], %x: f32[]) -> f32[], i64[] {
    %zero = constant i64[] {0}
    %y = while %limit, %go, %x, %zero {states=2 body=func @body(%i: i64[], %x: f32[], %n: i64[]) -> bool[], f32[], i64[] {
        %half = constant f32[] {0.5}
        %one = constant f32[] {1}
        %0 = mul %x, %half
        %1 = greater %0, %one
        return %1, %0, %i
    }}
    %n = output %y {index=1 ty=i64[]}
    return %y, %n
}";

#[test]
fn a_loop_ends_by_its_count_or_by_itself() {
    let func = parse(HALVES);
    let run = |limit: f64, go: f64, x: f64| func.interpret_f64(&[&[limit], &[go], &[x]]).unwrap();
    assert_eq!(run(1e9, 1.0, 12.0), [[0.75], [3.0]]);
    assert_eq!(run(2.0, 1.0, 12.0), [[3.0], [1.0]]);
    assert_eq!(run(-1.0, 1.0, 12.0), [[12.0], [0.0]]);
    assert_eq!(run(5.0, 0.0, 12.0), [[12.0], [0.0]]);
    let endless = parse(&HALVES.replace("greater %0, %one", "less %0, %one"));
    // Numbers of double precision become 0 at last, and stay it.
    let error = endless.interpret_f64(&[&[1e9], &[1.0], &[0.5]]).unwrap_err();
    assert!(matches!(error, InterpretError::Endless { trips: Control::MOST_TRIPS, .. }), "{error}");
}

#[test]
fn passes_work_inside_functions() {
    let text = "func @f(%h: f32[2x4], %x: f32[3x2x4], %w: f32[4x4]) -> f32[2x4] {
        %y = scan %h, %x, %w {trips=3 states=1 backward=[0]
            body=func @body(%i: i64[], %h: f32[2x4], %row: f32[2x4], %w: f32[4x4]) -> f32[2x4] {
                %0 = matmul %h, %w
                %1 = add %0, %row
                %2 = tanh %1
                return %2
            }}
        return %y
    }";
    let func = parse(text);
    let optimized = optimize(func.clone(), |_, after| {
        parse(&after.to_string());
    });
    let optimized = optimized.unwrap();
    assert!(optimized.to_string().contains("problem=\"matmul f32 2x4:4x4 +add:ab+tanh\""), "{optimized}");
    let arguments: Vec<Vec<f64>> =
        [8, 24, 16].iter().map(|n| (0..*n).map(|i| f64::from(i % 5) / 8.0).collect()).collect();
    let arguments: Vec<&[f64]> = arguments.iter().map(Vec::as_slice).collect();
    let (before, after) = (func.interpret_f64(&arguments).unwrap(), optimized.interpret_f64(&arguments).unwrap());
    assert!(before[0].iter().zip(&after[0]).all(|(a, b)| (a - b).abs() < 1e-6), "{before:?} {after:?}");
}

#[test]
fn functions_within_functions_are_bounded() {
    let nest = |depth: usize| {
        let mut body = "func @f(%c: bool[], %x: f32[]) -> f32[] { return %x }".to_owned();
        for _ in 1..depth {
            body = format!(
                "func @f(%c: bool[], %x: f32[]) -> f32[] {{\n%0 = if %c, %c, %x {{then={body} otherwise=\
                 func @e(%c: bool[], %x: f32[]) -> f32[] {{ return %x }}}}\nreturn %0 }}"
            );
        }
        body
    };
    assert_eq!(parse(&nest(Control::DEEPEST)).depth(), Control::DEEPEST);
    refused(&nest(Control::DEEPEST + 1), &["more than 16"]);
    refused(&nest(3000), &["expected a value"]);
}
