//! Tensor functions from outside: text, errors, meaning and fusion.

use kiln_ir::func::{
    Binary, Def, Func, FuncError, FuncErrorKind, InterpretError, Mismatch, Structured, TensorOp, TensorType, Unary,
};
use kiln_ir::fuse::{FuseError, Fused, fuse_single};
use kiln_ir::pass::optimize;
use kiln_ir::text::Pos;
use kiln_ir::{DType, Problem, Sums};
use proptest::prelude::*;
use proptest::sample::Index;

const LINEAR: &str = "\
func @linear(%x: f32[128x768], %w: f32[768x3072], %b: f32[3072]) -> f32[128x3072] {
  %0 = matmul %x, %w
  %1 = add %0, %b
  %2 = relu %1
  return %2
}
";

fn parse(text: &str) -> Func {
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn ty(shape: &[u64]) -> TensorType {
    TensorType::new(DType::F32, shape).unwrap()
}

/// A function over fixed arguments, with this body and result type.
fn body(body: &str, result: &str) -> String {
    format!("func @f(%x: f32[4x3], %w: f32[3x5], %b: f32[5], %r: f32[4x5], %s: f32[]) -> {result} {{\n{body}\n}}\n")
}

fn error(text: &str) -> FuncError {
    text.parse::<Func>().expect_err(text)
}

fn body_error(lines: &str) -> String {
    error(&body(lines, "f32[4x5]")).to_string()
}

#[test]
fn text_round_trips_and_is_canonical() {
    assert_eq!(parse(LINEAR).to_string(), LINEAR);
    let free = "# a comment\nfunc @linear ( %x : f32[ 128 x 768 ],\n %w: f32[768x3072], // weights\n%b: f32[3072])
        -> f32[128x3072]{ %7 = matmul %x,%w\n %3 = add %7, %b # bias\n\n %99 = relu %3\n return %99 } # end";
    assert_eq!(parse(free), parse(LINEAR));
    let named = "func @id(%a: f32[]) -> f32[] {\n  %h.1 = relu %a\n  %0 = relu %h.1\n  return %h.1\n}\n";
    assert_eq!(parse(named).to_string(), named);
    assert_eq!(parse("func @one(%a: f32[1x1x1]) -> f32[1x1x1] { return %a }").arguments().count(), 1);
}

#[test]
fn builder_makes_what_text_says() {
    let mut b = Func::builder("linear");
    let x = b.arg("x", ty(&[128, 768])).unwrap();
    let w = b.arg("w", ty(&[768, 3072])).unwrap();
    let bias = b.arg("b", ty(&[3072])).unwrap();
    let product = b.push(Structured::Matmul {}, &[x, w]).unwrap();
    assert_eq!(b.push(Binary::Add {}, &[product, x]).unwrap_err().to_string().split(": ").next(), Some("%1"));
    let sum = b.push(Binary::Add {}, &[product, bias]).unwrap();
    let result = b.push(Unary::Relu {}, &[sum]).unwrap();
    assert_eq!(b.ty(result).unwrap(), &ty(&[128, 3072]));
    assert!(matches!(b.arg("late", ty(&[])).unwrap_err().kind, FuncErrorKind::LateArgument(_)));
    assert!(matches!(b.push_named("x", Unary::Relu {}, &[x]).unwrap_err().kind, FuncErrorKind::Redefined { .. }));
    assert!(matches!(b.push_named("0", Unary::Relu {}, &[x]).unwrap_err().kind, FuncErrorKind::Name(_)));
    assert!(matches!(Func::builder("f").finish(x).unwrap_err().kind, FuncErrorKind::Undefined(_)));
    assert_eq!(b.finish(result).unwrap(), parse(LINEAR));

    let mut b = Func::builder("not a name");
    let x = b.arg("x", ty(&[])).unwrap();
    assert!(matches!(b.arg("", ty(&[])).unwrap_err().kind, FuncErrorKind::Name(_)));
    assert!(matches!(b.finish(x).unwrap_err().kind, FuncErrorKind::Name(_)));
}

#[test]
fn type_errors_point_at_the_value() {
    let text = LINEAR.replace("%b: f32[3072]", "%b: f32[3071]");
    assert_eq!(
        error(&text).to_string(),
        "3:8: %1: add of f32[128x3072] and f32[3071]: dimensions 3072 and 3071, 1 from the end, do not \
         broadcast: they must be equal or one of them 1"
    );
    for (lines, message) in [
        (
            "  %7 = matmul %w, %x",
            "2:8: %7: matmul of f32[3x5] and f32[4x3]: inner dimensions differ: lhs has K=5, rhs has K=4",
        ),
        (
            "%0 = matmul %x, %b",
            "2:6: %0: matmul of f32[4x3] and f32[5]: operand 1 has rank 1: expected a matrix, of rank 2, or more of them",
        ),
        (
            "%0 = matmul %s, %w",
            "2:6: %0: matmul of f32[] and f32[3x5]: operand 0 has rank 0: expected a matrix, of rank 2, or more of them",
        ),
        ("%0 = matmul %x", "2:6: %0: matmul of f32[4x3]: takes 2 operand(s), found 1"),
        ("%0 = relu", "2:6: %0: relu: takes 1 operand(s), found 0"),
        ("%h = relu %x, %x, %w", "2:6: %h: relu of f32[4x3] and f32[4x3] and f32[3x5]: takes 1 operand(s), found 3"),
        ("%0 = relu %y", "2:11: undefined value %y: a value is an argument or the result of an earlier operation"),
        ("%0 = relu %0", "2:11: undefined value %0: a value is an argument or the result of an earlier operation"),
        ("%0 = relu %x\n %0 = relu %x", "3:2: %0 is defined again: it was defined at 2:1"),
        ("%x = relu %x", "2:1: %x is defined again: it was defined at 1:9"),
        ("return %x", "2:8: %x is f32[4x3], but the function is declared to return f32[4x5]"),
        ("return %q", "2:8: undefined value %q: a value is an argument or the result of an earlier operation"),
    ] {
        assert_eq!(body_error(lines), message);
    }
    let unknown = body_error("%0 = gelu %x");
    assert!(unknown.starts_with("2:6: unknown operation `gelu`: expected abs, neg,"), "{unknown}");
    for name in TensorOp::names() {
        assert!(unknown.contains(name), "{name}");
    }
    let FuncErrorKind::Op { value, cause } = error(&body("%0 = matmul %x", "f32[]")).kind else { panic!() };
    assert_eq!((value.as_str(), cause.cause), ("%0", Mismatch::Arity { least: 2, most: 2, found: 1 }));
}

#[test]
fn syntax_errors_point_at_the_token() {
    for (lines, message) in [
        ("%0 = add %x %x", "2:13: expected `,` or end of line, found `%`"),
        ("%0 = # nothing\nreturn %0", "2:15: expected an operation, found end of line"),
        ("%0 = add %x,\nreturn %0", "2:13: expected a value, such as `%x`, found end of line"),
        ("%0 relu %x", "2:4: expected `=`, found `relu`"),
        ("", "3:1: expected `return` or an operation, such as `%0 = relu %x`, found `}`"),
        ("returned %r", "2:1: expected `return` or an operation, such as `%0 = relu %x`, found `returned`"),
        ("return %r %r", "2:11: expected `}`, found `%`"),
        ("return %r } func", "2:13: expected end of text, found `func`"),
    ] {
        assert_eq!(body_error(lines), message);
    }
    for (text, message) in [
        ("", "1:1: expected `func`, found end of text"),
        ("fun @f", "1:1: expected `func`, found `fun`"),
        ("func f", "1:6: expected the function's name, such as `@main`, found `f`"),
        ("func @0()", "1:6: `0` is not a name: expected a letter or `_`, then letters, digits, `_` or `.`"),
        ("func @f(%0: f32[])", "1:9: `0` is not a name: expected a letter or `_`, then letters, digits, `_` or `.`"),
        ("func @f(%a: f32[], %a: f32[])", "1:20: %a is defined again: it was defined at 1:9"),
        (
            "func @f(%a: f33[])",
            "1:13: unknown element type `f33`: expected f32, bf16, f16, f64, i8, u8, i16, u16, i32, u32, i64, u64, bool",
        ),
        ("func @f(%a: f32[2x])", "1:19: expected a dimension, found `]`"),
        ("func @f(%a: f32[-2])", "1:17: expected a dimension, found `-`"),
        ("func @f(%a: f32[2", "1:18: expected `]`, found end of text"),
    ] {
        assert_eq!(error(text).to_string(), message);
    }
}

#[test]
fn sizes_are_bounded() {
    let huge = "func @f(%a: f32[4294967296x4294967296x4294967296]) -> f32[] { return %a }";
    assert!(matches!(error(huge).kind, FuncErrorKind::Type(_)));
    let digits = format!("func @f(%a: f32[{}]) -> f32[] {{ return %a }}", "9".repeat(99));
    assert!(matches!(error(&digits).kind, FuncErrorKind::Syntax { .. }));
    for op in ["add", "matmul"] {
        let text =
            format!("func @f(%a: f32[131072x1], %b: f32[1x131072]) -> f32[1] {{\n%0 = {op} %a, %b\nreturn %0\n}}");
        let error = error(&text);
        assert_eq!(error.at, Some(Pos { line: 2, column: 6 }));
        assert!(error.to_string().contains("the result f32[131072x131072] is too large"), "{error}");
    }
}

#[test]
fn interpreter_checks_arguments() {
    let f = parse("func @f(%x: f32[2], %s: f32[]) -> f32[2] {\n %0 = add %s, %x\n %1 = relu %0\n return %1 }");
    assert_eq!(f.interpret_f64(&[&[-3.0, 1.5], &[0.5]]).unwrap(), [[0.0, 2.0]]);
    assert!(f.interpret_f64(&[&[f64::NAN, 1.0], &[0.0]]).unwrap()[0][0].is_nan());
    assert_eq!(f.interpret_f64(&[&[1.0]]), Err(InterpretError::Count { func: "f".into(), expected: 2, found: 1 }));
    let message = f.interpret_f64(&[&[1.0], &[1.0]]).unwrap_err().to_string();
    assert_eq!(message, "argument %x is f32[2], 2 element(s): found 1");
}

#[test]
fn linear_is_one_kernel() {
    let f = parse(LINEAR);
    let fused = fuse_single(&f).unwrap();
    assert_eq!(fused.problem.to_string(), "matmul f32 128x768:768x3072 +bias+relu");
    let names: Vec<_> = fused.operands.iter().map(|id| f.value(*id).name.as_str()).collect();
    assert_eq!(names, ["x", "w", "b"]);
}

#[test]
fn what_fuses_into_one_kernel() {
    for (lines, problem) in [
        ("%0 = matmul %x, %w\nreturn %0", "matmul f32 4x3:3x5"),
        ("%0 = matmul %x, %w\n%1 = relu %0\nreturn %1", "matmul f32 4x3:3x5 +relu"),
        ("%0 = matmul %x, %w\n%1 = add %b, %0\nreturn %1", "matmul f32 4x3:3x5 +bias"),
        ("%0 = matmul %x, %w\n%1 = relu %0\n%2 = add %1, %b\nreturn %2", "matmul f32 4x3:3x5 +relu+bias"),
        ("%0 = matmul %x, %w\n%1 = add %0, %b\n%2 = add %b, %1\nreturn %2", "matmul f32 4x3:3x5 +bias+bias"),
        ("%0 = matmul %x, %w\n%1 = relu %0\n%2 = add %1, %r\nreturn %0", "matmul f32 4x3:3x5"),
        ("%0 = matmul %x, %w\n%1 = gelu_erf %0\n%2 = add %1, %r\nreturn %2", "matmul f32 4x3:3x5 +gelu_erf+add:ab"),
        ("%2 = constant f32[] {2}\n%0 = matmul %x, %w\n%1 = mul %0, %2\nreturn %1", "matmul f32 4x3:3x5 +scale:2"),
    ] {
        assert_eq!(fuse_single(&parse(&body(lines, "f32[4x5]"))).unwrap().problem.to_string(), problem);
    }
    // Transposes become orders of memory, and reshapes nothing.
    let linear = parse(
        "func @f(%x: f32[2x4x3], %w: f32[5x3]) -> f32[8x5] {
           %t = transpose %w {perm=[1,0]}\n %0 = matmul %x, %t\n %1 = reshape %0 {shape=[8,5]}\n return %1 }",
    );
    assert_eq!(fuse_single(&linear).unwrap().problem.to_string(), "ip f32 mb8ic3oc5");
}

#[test]
fn tensors_of_bf16_make_a_kernel_of_bf16() {
    let text = "\
func @half(%x: bf16[4x3], %w: bf16[3x5], %b: bf16[5], %c: f32[5]) -> bf16[4x5] {
  %0 = matmul %x, %w
  %1 = relu %0
  %2 = add %1, %b
  return %2
}
";
    let f = parse(text);
    assert_eq!(f.to_string(), text);
    let fused = fuse_single(&f).unwrap();
    // What is added is bf16 as well, and a bias would be f32.
    assert_eq!(fused.problem.to_string(), "matmul bf16 4x3:3x5 +relu+add:b");
    let arguments = small_integers(&f, 1);
    assert_eq!(reference(&fused, &arguments), interpret(&f, &arguments));
    let types: Vec<_> = fused.problem.operands().iter().map(|o| o.dtype).collect();
    assert_eq!(types, [DType::Bf16; 4]);
    for mixed in [text.replace("add %1, %b", "add %1, %c"), text.replace("%w: bf16", "%w: f32")] {
        assert!(error(&mixed).to_string().ends_with("operands must have one dtype"));
    }
}

#[test]
fn what_does_not_fuse_is_named() {
    let unfusable = |lines: &str| match fuse_single(&parse(&body(lines, "f32[4x5]"))) {
        Err(FuseError::Unfusable { statement }) => statement,
        other => panic!("{lines}: {other:?}"),
    };
    let matmul = |rest: &str| unfusable(&format!("%h = matmul %x, %w\n{rest}"));
    let relus = |n: usize| {
        (1..=n).map(|i| format!("%r{i} = relu {}\n", if i == 1 { "%h".into() } else { format!("%r{}", i - 1) }))
    };
    // A chain has 32 post-ops at most.
    assert_eq!(matmul(&format!("{}return %r33", relus(33).collect::<String>())), "%r33 = relu %r32");
    assert_eq!(matmul("%1 = add %s, %h\nreturn %1"), "%0 = add %s, %h");
    assert_eq!(matmul("%1 = relu %b\n%2 = add %h, %1\nreturn %2"), "%0 = relu %b");
    assert_eq!(matmul("%1 = relu %h\n%2 = add %h, %1\nreturn %2"), "%0 = relu %h");
    assert_eq!(matmul("%1 = add %h, %h\nreturn %1"), "%0 = add %h, %h");
    assert_eq!(unfusable("%0 = relu %r\nreturn %0"), "%0 = relu %r");
    assert_eq!(unfusable("%0 = add %r, %b\nreturn %0"), "%0 = add %r, %b");

    for (x, w, result) in [
        ("f64[4x3]", "f64[3x5]", "f64[4x5]"),
        ("f32[4x0]", "f32[0x5]", "f32[4x5]"),
        ("f32[0x3]", "f32[3x5]", "f32[0x5]"),
    ] {
        let text = format!("func @f(%x: {x}, %w: {w}) -> {result} {{\n%0 = matmul %x, %w\nreturn %0\n}}");
        let e = fuse_single(&parse(&text)).unwrap_err().to_string();
        assert!(e.starts_with("no kernel applies `%0 = matmul %x, %w`; a kernel is a `matmul`"), "{e}");
    }
    let two = parse(&body("%0 = matmul %x, %w\nreturn %0, %x", "f32[4x5], f32[4x3]"));
    assert_eq!(fuse_single(&two).unwrap_err().to_string(), "@f returns 2 values: a kernel has one result");
    let constant = parse(
        "func @f(%x: f32[4x2]) -> f32[4x1] {
           %w = constant f32[2x1] {1, 2}\n %y = matmul %x, %w\n return %y }",
    );
    let e = fuse_single(&constant).unwrap_err().to_string();
    assert!(e.starts_with("%w is not an argument of the function, and `%y = kernel %x, %w"), "{e}");
}

#[test]
fn several_kernels_are_listed() {
    let two = parse(
        "func @two(%x: f32[2x2]) -> f32[2x2] {\n%0 = matmul %x, %x\n%h = relu %0\n%1 = matmul %h, %x\nreturn %1 }",
    );
    assert_eq!(
        fuse_single(&two).unwrap_err().to_string(),
        "@two is 2 kernels, expected one: %h = matmul f32 2x2:2x2 +relu, %0 = matmul f32 2x2:2x2"
    );
    let none = parse("func @id(%x: f32[2x2]) -> f32[2x2] { return %x }");
    assert_eq!(fuse_single(&none).unwrap_err().to_string(), "@id is 0 kernels, expected one");
}

/// The result of a kernel of integers, called with arguments of its function.
fn reference(kernel: &Fused, arguments: &[Vec<f32>]) -> Vec<f64> {
    let unread = vec![f32::NAN; kernel.problem.operands().last().unwrap().len() as usize];
    let operands = kernel.operands.iter().map(|id| &arguments[id.index()][..]).chain([&unread[..]]);
    kernel.problem.reference(&operands.collect::<Vec<_>>(), Sums::Exact).value
}

/// One layer: columns, the bias as nothing, `[n]` or `[1xn]`, on which side of the add, and relu.
type Layer = (u64, Option<bool>, bool, bool);

fn layer() -> impl Strategy<Value = Layer> {
    (1u64..8, proptest::option::of(any::<bool>()), any::<bool>(), any::<bool>())
}

/// Fully connected layers, one after another.
fn layers(m: u64, k: u64, layers: &[Layer]) -> Func {
    let mut b = Func::builder("layers");
    let x = b.arg("x", ty(&[m, k])).unwrap();
    let mut columns = k;
    let mut weights = vec![];
    for (i, &(n, bias, ..)) in layers.iter().enumerate() {
        let w = b.arg(&format!("w{i}"), ty(&[columns, n])).unwrap();
        let shape = bias.map(|matrix| if matrix { vec![1, n] } else { vec![n] });
        weights.push((w, shape.map(|shape| b.arg(&format!("b{i}"), ty(&shape)).unwrap())));
        columns = n;
    }
    let mut h = x;
    for (&(.., bias_first, relu), (w, bias)) in layers.iter().zip(weights) {
        h = b.push(Structured::Matmul {}, &[h, w]).unwrap();
        if let Some(bias) = bias {
            h = b.push(Binary::Add {}, &if bias_first { [bias, h] } else { [h, bias] }).unwrap();
        }
        if relu {
            h = b.push(Unary::Relu {}, &[h]).unwrap();
        }
    }
    b.finish(h).unwrap()
}

/// Arguments whose elements `element` gives by position in one long sequence.
fn arguments(func: &Func, mut element: impl FnMut() -> f32) -> Vec<Vec<f32>> {
    func.arguments().map(|(_, v)| (0..v.ty.elements()).map(|_| element()).collect()).collect()
}

/// Integers between -2 and 2 from a linear congruential generator: every sum in these tests is exact in f32.
fn small_integers(func: &Func, mut seed: u32) -> Vec<Vec<f32>> {
    arguments(func, || {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        (seed >> 16) as f32 % 5.0 - 2.0
    })
}

fn interpret(func: &Func, arguments: &[Vec<f32>]) -> Vec<f64> {
    let arguments: Vec<Vec<f64>> = arguments.iter().map(|a| a.iter().copied().map(f64::from).collect()).collect();
    let mut results = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// Any well-typed function of few small values: operations that do not fit are left out.
fn funcs() -> impl Strategy<Value = Func> {
    let shape = proptest::collection::vec(prop_oneof![Just(1u64), Just(2), Just(3)], 0..4);
    let shape = prop_oneof![3 => Just(vec![2, 2]), 2 => shape, 1 => Just(vec![2])];
    let ops: [TensorOp; 3] = [Structured::Matmul {}.into(), Binary::Add {}.into(), Unary::Relu {}.into()];
    let op = (proptest::sample::select(ops.to_vec()), any::<[Index; 2]>(), any::<bool>());
    (proptest::collection::vec(shape, 1..5), proptest::collection::vec(op, 0..10), any::<Index>()).prop_map(
        |(shapes, ops, result)| {
            let mut b = Func::builder("f");
            let mut values: Vec<_> =
                shapes.iter().enumerate().map(|(i, shape)| b.arg(&format!("a{i}"), ty(shape)).unwrap()).collect();
            for (i, (op, operands, named)) in ops.iter().enumerate() {
                let operands: Vec<_> = operands[..op.arity().0].iter().map(|o| *o.get(&values)).collect();
                let added = if *named {
                    b.push_named(&format!("r.{i}"), op.clone(), &operands)
                } else {
                    b.push(op.clone(), &operands)
                };
                values.extend(added.ok());
            }
            b.finish(*result.get(&values)).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn print_then_parse_is_identity(f in funcs()) {
        let text = f.to_string();
        prop_assert_eq!(&parse(&text), &f);
        prop_assert_eq!(parse(&text).to_string(), text);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        let _ = text.parse::<Func>();
        let _ = format!("func @f(%x: f32[2]) -> f32[2] {{ {text}").parse::<Func>();
    }

    #[test]
    fn mutated_text_is_parsed_or_refused(
        f in funcs(),
        edits in proptest::collection::vec((any::<Index>(), 0..3usize, "[%@(){}\\[\\]x0-9:,=>#\n/é a-z]{1,2}"), 1..4),
    ) {
        let mut text: Vec<char> = f.to_string().chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        match text.parse::<Func>() {
            Ok(f) => prop_assert_eq!(parse(&f.to_string()), f),
            Err(e) => {
                let at @ Pos { line, column } = e.at.expect("errors in text have a position");
                let columns = text.split('\n').nth(line - 1).expect("a line of the text").chars().count();
                prop_assert!((1..=columns + 1).contains(&column), "{e}");
                let place = at.to_string();
                prop_assert!(e.to_string().starts_with(&place));
            }
        }
    }

    #[test]
    fn a_fused_layer_means_the_same(
        (m, k) in (1u64..8, 1u64..8),
        one in layer(),
        seed: u32,
    ) {
        let f = layers(m, k, &[one]);
        let arguments = small_integers(&f, seed);
        let fused = fuse_single(&f).unwrap();
        let (n, bias, _, relu) = one;
        let builder = Problem::matmul(m, k, n);
        let builder = if bias.is_some() { builder.bias() } else { builder };
        prop_assert_eq!(&fused.problem, &(if relu { builder.relu() } else { builder }).build().unwrap());
        prop_assert_eq!(reference(&fused, &arguments), interpret(&f, &arguments));
    }

    #[test]
    fn passes_change_no_layers((m, k) in (1u64..5, 1u64..5), list in proptest::collection::vec(layer(), 1..4), seed: u32) {
        let f = layers(m, k, &list);
        let arguments = small_integers(&f, seed);
        let optimized = optimize(f.clone(), |_, _| {}).unwrap();
        prop_assert_eq!(interpret(&optimized, &arguments), interpret(&f, &arguments));
        let kernels = optimized.values().filter(|(_, v)| !matches!(v.def, Def::Argument)).count();
        prop_assert_eq!(kernels, list.len(), "{}", optimized);
    }

    #[test]
    fn any_func_means_the_same_or_is_refused(f in funcs(), seed: u32) {
        let arguments = small_integers(&f, seed);
        let meaning = interpret(&f, &arguments);
        prop_assert_eq!(meaning.len() as u64, f.value(f.results()[0]).ty.elements());
        let optimized = optimize(f.clone(), |_, _| {}).unwrap();
        prop_assert_eq!(&optimized.value(optimized.results()[0]).ty, &f.value(f.results()[0]).ty);
        prop_assert_eq!(&interpret(&optimized, &arguments), &meaning, "{}{}", f, optimized);
        match fuse_single(&f) {
            Ok(fused) => prop_assert_eq!(reference(&fused, &arguments), meaning),
            Err(FuseError::Unfusable { .. } | FuseError::NotOne { .. }) => {}
            Err(e) => prop_assert!(false, "{e}"),
        }
    }
}
