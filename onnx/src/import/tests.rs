mod attention;
mod attributes;
mod control;
mod dims;

use kiln_ir::func::{ElementType, Tensor};
use prost::Message;

use super::*;
use crate::proto::*;
use crate::tests::{attribute, floats, model, node, tensor};

/// A value of floating-point numbers; a dimension is a number or a name.
fn value(name: &str, dims: &[&str]) -> ValueInfoProto {
    typed(name, 1, dims)
}

fn typed(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| match text.parse() {
        Ok(number) => DimensionProto { dim_value: Some(number), dim_param: None },
        Err(_) => DimensionProto { dim_value: None, dim_param: Some((*text).into()) },
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type, shape }), ..TypeProto::default() }),
    }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { int64_data: values.to_vec(), ..tensor(name, 7, &[values.len() as i64]) }
}

fn list(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, 7) }
}

fn number(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, 2) }
}

fn with(mut node: NodeProto, attributes: &[AttributeProto]) -> NodeProto {
    node.attribute = attributes.to_vec();
    node
}

fn graph(input: &[ValueInfoProto], initializer: &[TensorProto], node: &[NodeProto], outputs: &[&str]) -> GraphProto {
    GraphProto {
        name: "g".into(),
        node: node.to_vec(),
        initializer: initializer.to_vec(),
        input: input.to_vec(),
        output: outputs.iter().map(|name| ValueInfoProto { name: (*name).into(), r#type: None }).collect(),
    }
}

fn import_as(opset: i64, graph: &GraphProto, bindings: &Bindings) -> Result<Imported, ImportError> {
    let mut model = model(graph.clone());
    model.opset_import[0].version = opset;
    Model::from_bytes(model.encode_to_vec()).unwrap().import(bindings)
}

fn import(graph: &GraphProto, bindings: &Bindings) -> Result<Imported, ImportError> {
    import_as(23, graph, bindings)
}

/// The function's text, line by line without blanks around them.
#[track_caller]
fn becomes(opset: i64, graph: &GraphProto, lines: &[&str]) {
    let func = import_as(opset, graph, &Bindings::new()).unwrap().func;
    let text = func.to_string();
    let found: Vec<_> = text.lines().map(str::trim).filter(|line| *line != "}").skip(1).collect();
    assert_eq!(found, lines, "{text}");
    assert_eq!(text.parse(), Ok(func));
}

#[track_caller]
fn refused(graph: &GraphProto, bindings: &Bindings, words: &[&str]) -> ImportError {
    let error = import(graph, bindings).unwrap_err();
    let message = error.to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
    error
}

/// The sizes of a batch decide about a shape, as exporters write it: `y = reshape(x, [shape(x)[0], -1])`.
fn flattened() -> GraphProto {
    let nodes = [
        node("Shape", &["x"], &["s"]),
        with(node("Gather", &["s", "first"], &["n"]), &[number("axis", 0)]),
        node("Unsqueeze", &["n", "axes"], &["n1"]),
        with(node("Concat", &["n1", "rest"], &["to"]), &[number("axis", 0)]),
        node("Reshape", &["x", "to"], &["y"]),
        node("Relu", &["y"], &["z"]),
    ];
    let first = TensorProto { int64_data: vec![0], ..tensor("first", 7, &[]) };
    graph(&[value("x", &["batch", "2", "3"])], &[first, ints("axes", &[0]), ints("rest", &[-1])], &nodes, &["z"])
}

#[test]
fn what_computes_shapes_is_not_in_the_function() {
    let imported = import(&flattened(), &Bindings::new().dim("batch", 4)).unwrap();
    let expected =
        "func @g(%x: f32[4x2x3]) -> f32[4x6] {\n  %y = reshape %x {shape=[4,6]}\n  %z = relu %y\n  return %z\n}\n";
    assert_eq!(imported.func.to_string(), expected);
    assert_eq!((imported.inputs, imported.outputs), (vec!["x".to_owned()], vec!["z".to_owned()]));
    let by_shape = import(&flattened(), &Bindings::new().shape("x", &[4, 2, 3])).unwrap();
    assert_eq!(by_shape.func, imported.func);
}

#[test]
fn what_is_not_bound_is_asked_for() {
    let of = |bindings: Bindings, words: &[&str]| refused(&flattened(), &bindings, words);
    of(Bindings::new(), &["dimension 0", "`x`", "Bindings::dim(\"batch\"", "Bindings::shape(\"x\""]);
    of(Bindings::new().shape("x", &[4, 3, 3]), &["`x`", "[4, 3, 3]", "[batch, 2, 3]"]);
    of(Bindings::new().shape("x", &[4, 2]), &["`x`", "[4, 2]"]);
    of(Bindings::new().dim("batch", 4).shape("x", &[5, 2, 3]), &["[batch=4, 2, 3]"]);
    of(Bindings::new().dim("batsh", 4), &["no dimension `batsh`", "batch"]);
    of(Bindings::new().shape("X", &[4, 2, 3]), &["no input `X`", "x"]);
    let integers = Tensor::from_elements([4, 2, 3], vec![0i32; 24]).unwrap();
    of(Bindings::new().value("x", integers), &["`x`", "i32[4x2x3]", "f32[4x2x3]"]);
    let mut rankless = flattened();
    rankless.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape = None;
    refused(&rankless, &Bindings::new(), &["shape of input `x`", "Bindings::shape"]);
    assert!(import(&rankless, &Bindings::new().shape("x", &[4, 2, 3])).is_ok());
}

#[test]
fn a_size_of_one_input_is_that_of_another() {
    let sum = graph(&[value("a", &["n"]), value("b", &["n"])], &[], &[node("Add", &["a", "b"], &["c"])], &["c"]);
    let imported = import(&sum, &Bindings::new().shape("a", &[5])).unwrap();
    assert!(imported.func.to_string().contains("%b: f32[5]"));
    // One name for all that is not known.
    let vague = graph(&[value("x", &["?", "?"])], &[], &[node("Relu", &["x"], &["y"])], &["y"]);
    assert!(import(&vague, &Bindings::new().shape("x", &[5, 6])).is_ok());
}

#[test]
fn a_value_that_must_be_known_may_be_promised() {
    let nodes = [with(node("Cast", &["s"], &["s64"]), &[number("to", 7)]), node("Reshape", &["x", "s64"], &["y"])];
    let reshape = graph(&[value("x", &["6"]), typed("s", 6, &["2"])], &[], &nodes, &["y"]);
    let error = refused(
        &reshape,
        &Bindings::new(),
        &["node `y` (Reshape, operator set 23)", "shape", "`s64`", "Bindings::value(\"s\""],
    );
    assert!(matches!(error, ImportError::NeedsValue { source_input, .. } if source_input == "s"));
    let promised = Tensor::from_elements([2], vec![2i32, 3]).unwrap();
    let func = import(&reshape, &Bindings::new().value("s", promised)).unwrap().func;
    let expected = "func @g(%x: f32[6], %s: i32[2]) -> f32[2x3] {\n  %y = reshape %x {shape=[2,3]}\n  return %y\n}\n";
    assert_eq!(func.to_string(), expected);
}

#[test]
fn operators_that_are_not_known_are_named() {
    let of = |node: NodeProto| graph(&[value("x", &["1"])], &[], &[node], &["y"]);
    let none = Bindings::new();
    refused(
        &of(node("StringConcat", &["x"], &["y"])),
        &none,
        &["(StringConcat, operator set 23)", "not supported", "kiln model operators"],
    );
    let mut foreign = node("Inverse", &["x"], &["y"]);
    foreign.domain = "com.microsoft".into();
    refused(&of(foreign), &none, &["(Inverse of `com.microsoft`, version 0)"]);
    refused(&of(node("Add", &["x"], &["y"])), &none, &["`y` (Add, ", "input 1"]);
    refused(&of(with(node("Softmax", &["x"], &["y"]), &[number("axis", 3)])), &none, &["Softmax", "axis 3"]);
    refused(&of(with(node("Relu", &["x"], &["q", "y"]), &[])), &none, &["has 2 outputs", "defines 1"]);
}

#[test]
fn versions_differ() {
    let [x, b] = [value("x", &["2", "3", "4"]), value("b", &["3"])];
    let old = with(node("Add", &["x", "b"], &["y"]), &[number("axis", 1), number("broadcast", 1)]);
    becomes(
        6,
        &graph(&[x.clone(), b], &[], &[old], &["y"]),
        &["%0 = reshape %b {shape=[3,1]}", "%y = add %x, %0", "return %y"],
    );
    let softmax = graph(std::slice::from_ref(&x), &[], &[node("Softmax", &["x"], &["y"])], &["y"]);
    becomes(13, &softmax, &["%y = softmax %x {axis=2}", "return %y"]);
    let flat =
        ["%0 = reshape %x {shape=[2,12]}", "%1 = softmax %0 {axis=1}", "%y = reshape %1 {shape=[2,3,4]}", "return %y"];
    becomes(12, &softmax, &flat);
    let squeeze = with(node("Unsqueeze", &["x"], &["y"]), &[list("axes", &[0, -1])]);
    becomes(12, &graph(&[x], &[], &[squeeze], &["y"]), &["%y = reshape %x {shape=[1,2,3,4,1]}", "return %y"]);
}

#[test]
fn initializers_are_constants_that_share_the_models_bytes() {
    let gemm = with(node("Gemm", &["x", "w", "b"], &["y"]), &[number("transB", 1)]);
    let w = TensorProto { raw_data: vec![0u8; 4 * 6].into(), ..tensor("w", 1, &[3, 2]) };
    let linear = graph(
        &[value("x", &["1", "2"])],
        &[w, floats("b", &[1.0, 2.0, 3.0]), floats("unused", &[4.0])],
        &[gemm],
        &["y"],
    );
    let lines = [
        "%0 = constant f32[2x3] {0, 0, 0, 0, 0, 0}",
        "%1 = matmul %x, %0",
        "%2 = constant f32[3] {1, 2, 3}",
        "%y = add %1, %2",
        "return %y",
    ];
    becomes(13, &linear, &lines);
    let model = Model::from_bytes(model(linear).encode_to_vec()).unwrap();
    let tensor = Tensor::try_from(&model.graph.initializers["w"]).unwrap();
    assert_eq!(tensor.data().as_ptr(), model.graph.initializers["w"].data.as_ptr());
}

#[test]
fn plain_attention_has_the_form_that_is_recognised() {
    let inputs = ["q", "k", "v"].map(|name| value(name, &["1", "2", "3", "4"]));
    let plain = graph(&inputs, &[], &[node("Attention", &["q", "k", "v"], &["y"])], &["y"]);
    let lines = [
        "%0 = transpose %k {perm=[0,1,3,2]}",
        "%1 = matmul %q, %0",
        "%2 = constant f32[] {0.5}",
        "%3 = mul %1, %2",
        "%4 = softmax %3 {axis=3}",
        "%y = matmul %4, %v",
        "return %y",
    ];
    becomes(23, &plain, &lines);
}

#[test]
fn sizes_from_a_file_are_not_believed() {
    let none = Bindings::new();
    let x = || vec![value("x", &["2", "2"])];
    let huge = i64::MAX;
    let cases = [
        graph(&x(), &[ints("s", &[huge, huge])], &[node("ConstantOfShape", &["s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[huge, huge])], &[node("Tile", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[huge, 2])], &[node("Expand", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[1; 1000])], &[node("Reshape", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[0; 1000])], &[node("Unsqueeze", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[huge, huge])], &[node("Resize", &["x", "", "", "s"], &["y"])], &["y"]),
        graph(&x(), &[floats("s", &[1e-30, 1e30])], &[node("Resize", &["x", "", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[huge, 0, 0, huge])], &[node("Pad", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[i64::MIN, 0, 0, 0])], &[node("Pad", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[huge, huge])], &[node("Split", &["x", "s"], &["y", "z"])], &["y"]),
    ];
    for case in cases {
        refused(&case, &none, &[&case.node[0].op_type]);
    }
    let ends = [("first", 0), ("last", huge), ("by", 1)];
    let ends = ends.map(|(name, end)| TensorProto { int64_data: vec![end], ..tensor(name, 7, &[]) });
    refused(&graph(&x(), &ends, &[node("Range", &["first", "last", "by"], &["y"])], &["y"]), &none, &["too large"]);
    // Integers beyond 2^53 are counted exactly.
    let big = (1i64 << 53) + 1;
    for (numbers, expected) in [([big, big + 5, 2], 3), ([big, big + 4, 2], 2), ([3, -4, -3], 3), ([3, 4, -1], 0)] {
        let numbers = ["first", "last", "by"].into_iter().zip(numbers);
        let numbers: Vec<_> =
            numbers.map(|(name, n)| TensorProto { int64_data: vec![n], ..tensor(name, 7, &[]) }).collect();
        let range = [node("Range", &["first", "last", "by"], &["y"])];
        let func = import(&graph(&x(), &numbers, &range, &["y"]), &none).unwrap().func;
        let found = func.value(func.results()[0]).constant().unwrap().elements::<i64>().unwrap().into_owned();
        let [first, _, by] = numbers.iter().map(|n| n.int64_data[0]).collect::<Vec<_>>()[..] else { unreachable!() };
        assert_eq!(found, (0..expected).map(|i| first + i * by).collect::<Vec<_>>());
    }
    let still = [("first", 0), ("last", 9), ("by", 0)];
    let still = still.map(|(name, end)| TensorProto { int64_data: vec![end], ..tensor(name, 7, &[]) });
    refused(&graph(&x(), &still, &[node("Range", &["first", "last", "by"], &["y"])], &["y"]), &none, &["delta is 0"]);
    let nodes =
        [node("ConstantOfShape", &["s"], &["a"]), node("Relu", &["a"], &["b"]), node("MatMul", &["b", "b"], &["y"])];
    // What is too large to compute at load is left to whoever runs the function.
    let large = graph(&x(), &[ints("s", &[1 << 16, 1 << 16])], &nodes, &["y"]);
    let func = import(&large, &none).unwrap().func;
    assert!(func.to_string().contains("%y = matmul %b, %b"), "{func}");
}

/// A few small models, with operators that read much of what a file says.
fn models() -> Vec<(i64, GraphProto)> {
    let image = || value("x", &["1", "2", "6", "6"]);
    let w = TensorProto { float_data: vec![0.5; 36], ..tensor("w", 1, &[2, 2, 3, 3]) };
    let conv = with(node("Conv", &["x", "w"], &["a"]), &[list("pads", &[1, 1, 1, 1]), list("strides", &[2, 2])]);
    let pool = with(node("MaxPool", &["a"], &["b", "i"]), &[list("kernel_shape", &[2, 2]), number("ceil_mode", 1)]);
    let slice = node("Slice", &["x", "starts", "ends", "axes", "steps"], &["a"]);
    let slices = [ints("starts", &[5]), ints("ends", &[-9]), ints("axes", &[3]), ints("steps", &[-2])];
    let resize =
        with(node("Resize", &["x", "", "s"], &["y"]), &[AttributeProto { s: "cubic".into(), ..attribute("mode", 3) }]);
    let einsum = AttributeProto { s: "...ij,...kj->...ik".into(), ..attribute("equation", 3) };
    let attention = with(node("Attention", &["x", "x", "x"], &["y", "k"]), &[number("is_causal", 1)]);
    vec![
        (23, flattened()),
        (13, graph(&[image()], &[w], &[conv, pool, node("GlobalAveragePool", &["b"], &["y"])], &["y", "i"])),
        (
            13,
            graph(
                &[image()],
                &slices,
                &[slice, node("Concat", &["a"], &["c"]), node("Tile", &["a", "axes"], &["t"])],
                &["a"],
            ),
        ),
        (19, graph(&[image()], &[floats("s", &[1.0, 1.0, 1.5, 0.5])], &[resize], &["y"])),
        (13, graph(&[image()], &[], &[with(node("Einsum", &["x", "x"], &["y"]), &[einsum])], &["y"])),
        (23, graph(&[image()], &[], &[attention], &["y", "k"])),
        (13, graph(&[image()], &[ints("p", &[0, 0, 1, 1, 0, 0, -1, 2])], &[node("Pad", &["x", "p"], &["y"])], &["y"])),
        (
            6,
            graph(
                &[image()],
                &[],
                &[with(node("Split", &["x"], &["a", "b"]), &[list("split", &[2, 4]), number("axis", 3)])],
                &["a"],
            ),
        ),
    ]
}

#[test]
fn damaged_models_are_errors_or_functions() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let bindings = Bindings::new().dim("batch", 2);
    let mut functions = 0;
    for (opset, graph) in models() {
        let mut whole = model(graph);
        whole.opset_import[0].version = opset;
        let bytes = whole.encode_to_vec();
        for _ in 0..2000 {
            let mut bytes = bytes.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = if random(2) == 0 { random(256) as u8 } else { bytes[at] ^ (1 << random(8)) };
            }
            let Ok(model) = Model::from_bytes(bytes) else { continue };
            let imported = model.import(&bindings).or_else(|_| model.import(&Bindings::new()));
            if let Ok(imported) = imported {
                assert_eq!(imported.func.results().len(), imported.outputs.len());
                let text = imported.func.to_string();
                // Large constants are printed as hashes, which are not read.
                if !text.contains(" hash:") {
                    assert_eq!(text.parse::<kiln_ir::Func>().unwrap().to_string(), text);
                }
                functions += 1;
            }
        }
    }
    assert!(functions > 500, "{functions}");
}

#[test]
fn tensors_that_cannot_be_computed_with_are_refused() {
    let strings = TensorProto { string_data: vec!["a".into()], ..tensor("s", 8, &[1]) };
    let text = graph(&[value("x", &["1"])], &[strings], &[node("Identity", &["s"], &["y"])], &["y"]);
    refused(&text, &Bindings::new(), &["`s`", "string"]);
    let (_, odd) =
        crate::Tensor::from_bytes(TensorProto { raw_data: vec![0, 7].into(), ..tensor("b", 9, &[2]) }.encode_to_vec())
            .unwrap();
    let odd = Tensor::try_from(&odd).unwrap();
    assert_eq!((odd.ty().element(), &odd.data()[..]), (ElementType::Bool, &[0, 1][..]));
}

#[test]
fn quotients_have_the_precision_of_the_scale() {
    let quantize = |attributes: &[AttributeProto], scale: i32| {
        let node = with(node("QuantizeLinear", &["x", "s"], &["y"]), attributes);
        graph(&[typed("x", scale, &["4"]), typed("s", scale, &[])], &[], &[node], &["y"])
    };
    let tail = ["%4 = clamp %3 {low=0 high=255}", "%y = cast %4 {to=u8}", "return %y"];
    becomes(
        24,
        &quantize(&[], 10),
        &[&["%0 = div %x, %s", "%1 = cast %0 {to=f16}", "%2 = cast %1 {to=f32}", "%3 = round %2"][..], &tail].concat(),
    );
    let wide =
        ["%0 = cast %x {to=f32}", "%1 = cast %s {to=f32}", "%2 = div %0, %1", "%3 = cast %2 {to=f32}", "%4 = round %3"];
    let tail = ["%5 = clamp %4 {low=0 high=255}", "%y = cast %5 {to=u8}", "return %y"];
    becomes(24, &quantize(&[number("precision", 1)], 10), &[&wide[..], &tail].concat());
    let scale = |of| quantize(&[number("precision", of)], 1);
    let error = import_as(24, &scale(7), &Bindings::new()).unwrap_err().to_string();
    assert!(error.contains("`precision` is i64"), "{error}");
}

#[test]
fn sums_of_products_become_codes_exactly() {
    let u8s =
        |name: &str, dims: &[i64], values: &[i32]| TensorProto { int32_data: values.to_vec(), ..tensor(name, 2, dims) };
    let f32s = |name: &str, value: f32| TensorProto { float_data: vec![value], ..tensor(name, 1, &[]) };
    let names = ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"];
    // The first weight is 1, the others 248; zero points are 128 and 7.
    const K: usize = 2048;
    let mut b = vec![255; K];
    b[0] = 8;
    let [sa, sb, sy] = [0.75f32, 0.5, 98304.0];
    let factor = sa * sb / sy;
    let known = [
        f32s("sa", sa),
        u8s("za", &[], &[128]),
        u8s("b", &[K as i64, 1], &b),
        f32s("sb", sb),
        u8s("zb", &[], &[7]),
        f32s("sy", sy),
        u8s("zy", &[], &[11]),
    ];
    // Sums at ties and beside them, which single precision does not tell apart.
    let sums: Vec<i64> =
        (80..200).flat_map(|code| [-2, -1, 0, 1, 2].map(|by| (2 * code + 1) * (1 << 17) + by)).collect();
    let mut a = vec![];
    for sum in &sums {
        // All but the first add up to this, as evenly as can be.
        let large = (sum + 124).div_euclid(248);
        let others = (K - 1) as i64;
        a.push((sum - 248 * large + 128) as f64);
        a.extend((0..others).map(|i| (large / others + i64::from(i < large % others) + 128) as f64));
    }
    assert!(a.iter().all(|a| (0.0..=255.0).contains(a)));
    let rows = sums.len().to_string();
    let graph = graph(&[typed("a", 2, &[&rows, "2048"])], &known, &[node("QLinearMatMul", &names, &["y"])], &["y"]);
    let func = import_as(21, &graph, &Bindings::new()).unwrap().func;
    let found = func.interpret_f64(&[&a]).unwrap().remove(0);
    let code = |scaled: f64| (scaled.round_ties_even() + 11.0).clamp(0.0, 255.0);
    let mut single_differs = 0;
    for (sum, found) in sums.iter().zip(found) {
        assert_eq!(found, code(*sum as f64 * f64::from(factor)), "{sum} times {factor}");
        single_differs += usize::from(found != code(f64::from(*sum as f32 * factor)));
    }
    assert!(single_differs > 50, "{single_differs}");
}

#[test]
fn what_is_nothing_by_nothing_is_defined_as_nothing() {
    let x = [value("x", &["3", "2"])];
    for (p, expected) in
        [(1, [0.4, 0.6, 0.0, 0.0, -0.25, 0.75]), (2, [0.55470019, 0.83205029, 0.0, 0.0, -0.31622777, 0.9486833])]
    {
        let norm = with(node("LpNormalization", &["x"], &["y"]), &[number("p", p)]);
        let func = import_as(22, &graph(&x, &[], &[norm], &["y"]), &Bindings::new()).unwrap().func;
        let y = func.interpret_f64(&[&[2.0, 3.0, 0.0, 0.0, -1.0, 3.0]]).unwrap().remove(0);
        assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?}");
    }
    let outputs = ["y", "s", "z"];
    let zeros = graph(&x, &[], &[node("DynamicQuantizeLinear", &["x"], &outputs)], &outputs);
    let func = import_as(11, &zeros, &Bindings::new()).unwrap().func;
    let all = func.interpret_f64(&[&[0.0; 6]]).unwrap();
    assert_eq!(all, [vec![0.0; 6], vec![0.0], vec![0.0]]);
}

#[test]
fn messages_are_short_whatever_the_file_has() {
    let long: Vec<i64> = (0..100_000).collect();
    let name = "n".repeat(1 << 20);
    let x = || vec![value("x", &["2", "2"])];
    let mut named = node("Softmax", &["x"], &["y"]);
    (named.name, named.attribute) = (name.clone(), vec![number("axis", 7)]);
    let mut odd = node("Relu", &["x"], &["y"]);
    odd.attribute = vec![number(&name, 1)];
    let names: Vec<&str> = vec!["x"; 50_000];
    let cases = [
        graph(&x(), &[ints("s", &long)], &[node("Reshape", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[-1; 50_000])], &[node("Reshape", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &long)], &[node("Expand", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &long)], &[node("Tile", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &long)], &[node("Pad", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &long)], &[node("Slice", &["x", "s", "s"], &["y"])], &["y"]),
        graph(&x(), &[ints("s", &long)], &[node("Split", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[], &[with(node("Transpose", &["x"], &["y"]), &[list("perm", &long)])], &["y"]),
        graph(&x(), &[], &[node("MatMul", &names, &["y"])], &["y"]),
        graph(&x(), &[ints("s", &[1; 50_000])], &[node("Concat", &["x", "s"], &["y"])], &["y"]),
        graph(&x(), &[], &[named], &["y"]),
        graph(&x(), &[], &[odd], &["y"]),
        graph(&[value("x", &vec!["1"; 100_000])], &[], &[node("Relu", &["x"], &["y"])], &["y"]),
        graph(&[value("x", &vec!["d"; 100_000])], &[], &[node("Relu", &["x"], &["y"])], &["y"]),
        graph(&x(), &[tensor(&name, 1, &[1 << 40; 1 << 16])], &[node("Relu", &["x"], &["y"])], &["y"]),
        graph(&x(), &[tensor("t", 1, &[1; 1 << 16])], &[node("Relu", &["x"], &["y"])], &["y"]),
    ];
    for (i, case) in cases.iter().enumerate() {
        let model = Model::from_bytes(model(case.clone()).encode_to_vec()).map_err(|e| e.to_string());
        let bindings = Bindings::new().shape("x", &[2, 2]);
        let message = model.and_then(|m| m.import(&bindings).map_err(|e| e.to_string())).unwrap_err();
        assert!(message.len() < 2000, "case {i}: {} bytes: {}", message.len(), &message[..300]);
    }
}
