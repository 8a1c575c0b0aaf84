//! Functions, branches, loops and sequences: what is known at load is gone, and what is malformed is refused.

use super::*;

fn subgraph(name: &str, body: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(body), ..attribute(name, 5) }
}

fn scalar_of(name: &str, data_type: i32, value: i64) -> TensorProto {
    match data_type {
        7 => TensorProto { int64_data: vec![value], ..tensor(name, 7, &[]) },
        9 => TensorProto { int32_data: vec![value as i32], ..tensor(name, 9, &[]) },
        _ => TensorProto { float_data: vec![value as f32], ..tensor(name, 1, &[]) },
    }
}

fn reference(name: &str, of: &str) -> AttributeProto {
    AttributeProto { ref_attr_name: of.into(), ..attribute(name, 1) }
}

fn function(name: &str, input: &[&str], output: &[&str], node: &[NodeProto]) -> FunctionProto {
    let all = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    FunctionProto {
        name: name.into(),
        domain: "own".into(),
        input: all(input),
        output: all(output),
        node: node.to_vec(),
        ..FunctionProto::default()
    }
}

fn call(name: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto { domain: "own".into(), ..node(name, input, output) }
}

fn with_functions(graph: GraphProto, functions: &[FunctionProto]) -> Result<Imported, String> {
    let mut model = model(graph);
    model.functions = functions.to_vec();
    let model = Model::from_bytes(model.encode_to_vec()).map_err(|e| e.to_string())?;
    model.import(&Bindings::new()).map_err(|e| e.to_string())
}

fn lines(imported: &Imported) -> Vec<String> {
    let text = imported.func.to_string();
    assert_eq!(text.parse(), Ok(imported.func.clone()), "{text}");
    text.lines().skip(1).map(|line| line.trim().to_owned()).filter(|line| line != "}").collect()
}

#[track_caller]
fn fails(result: Result<Imported, String>, words: &[&str]) {
    let message = result.map(|imported| imported.func.to_string()).unwrap_err();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

fn x() -> Vec<ValueInfoProto> {
    vec![value("x", &["2", "3"])]
}

#[test]
fn functions_are_their_nodes_with_their_callers_attributes() {
    let mut leaky =
        function("Leaky", &["a"], &["b"], &[with(node("LeakyRelu", &["a"], &["b"]), &[reference("alpha", "slope")])]);
    leaky.attribute_proto = vec![AttributeProto { f: 0.25, ..attribute("slope", 1) }];
    let mut twice = function(
        "Twice",
        &["x", "unused"],
        &["y"],
        &[
            with(call("Leaky", &["x"], &["h"]), &[reference("slope", "slope")]),
            with(call("Leaky", &["h"], &["y"]), &[]),
        ],
    );
    twice.attribute = vec!["slope".into()];
    let slope = AttributeProto { f: 0.5, ..attribute("slope", 1) };
    let main = graph(&x(), &[], &[with(call("Twice", &["x"], &["z"]), std::slice::from_ref(&slope))], &["z"]);
    let imported = with_functions(main, &[leaky.clone(), twice.clone()]).unwrap();
    assert_eq!(lines(&imported), ["%h = leaky_relu %x {alpha=0.5}", "%z = leaky_relu %h {alpha=0.25}", "return %z"]);
    // An attribute that no caller gives is as if it were not there.
    let main = graph(&x(), &[], &[call("Twice", &["x"], &["z"])], &["z"]);
    let imported = with_functions(main, &[leaky.clone(), twice.clone()]).unwrap();
    assert_eq!(lines(&imported)[0], "%h = leaky_relu %x {alpha=0.25}");
    let call_with =
        |attributes: &[AttributeProto]| graph(&x(), &[], &[with(call("Leaky", &["x"], &["z"]), attributes)], &["z"]);
    fails(
        with_functions(call_with(&[slope.clone(), number("other", 1)]), std::slice::from_ref(&leaky)),
        &["`other`", "does not take"],
    );
    let many = graph(&x(), &[], &[call("Leaky", &["x", "x"], &["z"])], &["z"]);
    fails(with_functions(many, std::slice::from_ref(&leaky)), &["2 inputs", "takes 1"]);
    // Its values are its own: neither does it see others, nor do others see them.
    let peeking = function("Leaky", &["a"], &["b"], &[node("Add", &["a", "x"], &["b"])]);
    fails(with_functions(call_with(&[]), &[peeking]), &["`x` is not there"]);
    fails(with_functions(call_with(&[]), &[leaky.clone(), leaky]), &["`Leaky`", "two of this name"]);
    let outside = graph(&x(), &[], &[with(node("LeakyRelu", &["x"], &["y"]), &[reference("alpha", "slope")])], &["y"]);
    fails(with_functions(outside, &[]), &["`slope`", "does not have"]);
}

#[test]
fn functions_do_not_go_in_circles_and_do_not_grow_without_bounds() {
    let main = || graph(&x(), &[], &[call("F0", &["x"], &["z"])], &["z"]);
    let circle = [
        function("F0", &["a"], &["b"], &[call("F1", &["a"], &["b"])]),
        function("F1", &["a"], &["b"], &[call("F0", &["a"], &["b"])]),
    ];
    fails(with_functions(main(), &circle), &["circle", "`F0`, `F1`, `F0`"]);
    // Each calls the next twice: 2^40 nodes.
    let double = |at: usize| {
        let next = format!("F{}", at + 1);
        function(&format!("F{at}"), &["a"], &["b"], &[call(&next, &["a"], &["h"]), call(&next, &["h"], &["b"])])
    };
    let mut all: Vec<_> = (0..40).map(double).collect();
    all.push(function("F40", &["a"], &["b"], &[node("Relu", &["a"], &["b"])]));
    fails(with_functions(main(), &all), &["more than 262144 nodes"]);
    let chain =
        |at: usize| function(&format!("F{at}"), &["a"], &["b"], &[call(&format!("F{}", at + 1), &["a"], &["b"])]);
    let deep: Vec<_> = (0..5000).map(chain).collect();
    fails(with_functions(main(), &deep), &["more than 64"]);
}

#[test]
fn functions_of_onnx_own_names_are_refused_where_there_is_an_operator() {
    let mut relu = function("Relu", &["a"], &["b"], &[node("Neg", &["a"], &["b"])]);
    relu.domain = "ai.onnx".into();
    let main = graph(&x(), &[], &[node("Relu", &["x"], &["y"])], &["y"]);
    fails(with_functions(main, &[relu.clone()]), &["(Relu", "rename the function"]);
    relu.name = "NotAnOperator".into();
    let main = graph(&x(), &[], &[node("NotAnOperator", &["x"], &["y"])], &["y"]);
    assert_eq!(lines(&with_functions(main, &[relu]).unwrap()), ["%y = neg %x", "return %y"]);
}

/// `if (c) relu(x) else OTHER(x)`.
fn branches(condition: &str, other: NodeProto) -> NodeProto {
    let then = graph(&[], &[], &[node("Relu", &["x"], &["t"])], &["t"]);
    let otherwise = graph(&[], &[], &[other], &["e"]);
    with(node("If", &[condition], &["y"]), &[subgraph("then_branch", then), subgraph("else_branch", otherwise)])
}

#[test]
fn only_the_branch_that_is_taken_is_imported() {
    let shape = [
        node("Shape", &["x"], &["s"]),
        node("ReduceProd", &["s"], &["n"]),
        node("Greater", &["n", "five"], &["c"]),
        // Nothing of the other branch is looked at.
        branches("c", node("NotAnOperator", &["x"], &["e"])),
    ];
    let of = graph(&x(), &[scalar_of("five", 7, 5)], &shape, &["y"]);
    becomes(17, &of, &["%y = relu %x", "return %y"]);
}

#[test]
fn both_branches_are_functions_where_the_condition_is_not_known() {
    let inputs = [value("x", &["2", "3"]), typed("c", 9, &[])];
    let of = |other: NodeProto| graph(&inputs, &[], &[branches("c", other)], &["y"]);
    let expected = [
        "%y = if %c, %x {then=func @then(%x.0: f32[2x3]) -> f32[2x3] {",
        "%t = relu %x.0",
        "return %t",
        "} otherwise=func @otherwise(%x.0: f32[2x3]) -> f32[2x3] {",
        "%e = neg %x.0",
        "return %e",
        "}}",
        "return %y",
    ];
    becomes(17, &of(node("Neg", &["x"], &["e"])), &expected);
    let known = |value| {
        let promise = Tensor::from_f64(kiln_ir::func::TensorType::new(ElementType::Bool, []).unwrap(), &[value]);
        Bindings::new().value("c", promise)
    };
    let other = of(node("Shape", &["x"], &["e"]));
    refused(&other, &Bindings::new(), &["different types for `y`: f32[2x3] and i64[2]", "Bindings::value(\"c\""]);
    let func = import(&other, &known(0.0)).unwrap().func;
    assert!(func.to_string().contains("constant i64[2] {2, 3}"), "{func}");
    // A branch that cannot be imported must not be taken.
    let other = of(node("NotAnOperator", &["x"], &["e"]));
    let why = ["its condition", "else branch cannot be imported", "NotAnOperator", "Bindings::value(\"c\""];
    refused(&other, &Bindings::new(), &why);
    refused(&other, &known(0.0), &["NotAnOperator"]);
    assert!(import(&other, &known(1.0)).unwrap().func.to_string().contains("%y = relu %x"));
    // One that is malformed where the other is taken, such as for another number of elements.
    let other = of(with(node("Transpose", &["x"], &["e"]), &[list("perm", &[0, 2, 1])]));
    refused(&other, &Bindings::new(), &["else branch cannot be imported", "Transpose"]);
    assert!(import(&other, &known(1.0)).is_ok());
    let wrong = graph(&x(), &[], &[branches("x", node("Neg", &["x"], &["e"]))], &["y"]);
    refused(&wrong, &Bindings::new(), &["f32[2x3]", "expected one bool"]);
}

/// A loop over `h`, with what its graph does to it.
fn looped(limit: &str, condition: &str, nodes: &[NodeProto], outputs: &[&str], results: &[&str]) -> NodeProto {
    let inputs = [typed("i", 7, &[]), typed("go", 9, &[]), value("h", &["2", "3"])];
    let body = graph(&inputs, &[], nodes, outputs);
    with(node("Loop", &[limit, condition, "x"], results), &[subgraph("body", body)])
}

#[test]
fn short_loops_are_unrolled_and_long_ones_run_one_function() {
    let nodes = [node("Identity", &["go"], &["on"]), node("Add", &["h", "x"], &["n"]), node("Cast", &["i"], &["f"])];
    let nodes = [nodes[0].clone(), nodes[1].clone(), with(nodes[2].clone(), &[number("to", 1)])];
    let of = |trips: i64, nodes: &[NodeProto], outputs: &[&str], results: &[&str]| {
        graph(&x(), &[scalar_of("m", 7, trips)], &[looped("m", "", nodes, outputs, results)], results)
    };
    let short = of(2, &nodes, &["on", "n", "f"], &["y", "z"]);
    becomes(17, &short, &["%n = add %x, %x", "%y = add %n, %x", "%0 = constant f32[2] {0, 1}", "return %y, %0"]);
    becomes(17, &of(0, &nodes, &["on", "n", "f"], &["y", "z"]), &["%0 = constant f32[0] {}", "return %x, %0"]);
    let long = of(1000, &nodes, &["on", "n", "f"], &["y", "z"]);
    let expected = [
        "%y = scan %x, %x {trips=1000 states=1 backward=[0] body=func @body(%trip.0: i64[], %h.1: f32[2x3], %x.2: f32[2x3]) -> \
         f32[2x3], f32[] {",
        "%n = add %h.1, %x.2",
        "%f = cast %trip.0 {to=f32}",
        "return %n, %f",
        "}}",
        "%z = output %y {index=1 ty=f32[1000]}",
        "return %y, %z",
    ];
    becomes(17, &long, &expected);
    // What grows from trip to trip is unrolled, or refused.
    let grows = [node("Identity", &["go"], &["on"]), with(node("Concat", &["h", "x"], &["n"]), &[number("axis", 0)])];
    let func = import(&of(600, &grows, &["on", "n"], &["y"]), &Bindings::new()).unwrap().func;
    assert!(func.to_string().starts_with("func @g(%x: f32[2x3]) -> f32[1202x3]"), "{func}");
    refused(&of(1 << 19, &grows, &["on", "n"], &["y"]), &Bindings::new(), &["`h`", "f32[2x3]", "f32[4x3]"]);
    refused(&of(i64::MAX, &nodes, &["on", "n", "f"], &["y", "z"]), &Bindings::new(), &["trips"]);
}

#[test]
fn loops_end() {
    let of = |nodes: &[NodeProto], outputs: &[&str], results: &[&str]| {
        graph(&x(), &[scalar_of("four", 7, 4)], &[looped("", "", nodes, outputs, results)], results)
    };
    // By a condition that is known from trip to trip.
    let counts = [node("Less", &["i", "four"], &["on"]), node("Add", &["h", "x"], &["n"])];
    let func = import_as(17, &of(&counts, &["on", "n"], &["y"]), &Bindings::new()).unwrap().func;
    assert_eq!(func.to_string().matches("add").count(), 5, "{func}");
    // By one that is not.
    let data =
        [node("ReduceSum", &["h"], &["s"]), node("Less", &["s", "s"], &["on"]), node("Add", &["h", "x"], &["n"])];
    let data = [with(data[0].clone(), &[number("keepdims", 0)]), data[1].clone(), data[2].clone()];
    let func = import(&of(&data, &["on", "n"], &["y"]), &Bindings::new()).unwrap().func;
    assert!(func.to_string().contains("%y = while %0, %1, %x, %x {states=1 body=func @body"), "{func}");
    refused(
        &of(&data, &["on", "n", "n"], &["y", "z"]),
        &Bindings::new(),
        &["`z`", "as many elements as the loop has trips"],
    );
    let endless = [node("Identity", &["go"], &["on"]), node("Add", &["h", "x"], &["n"])];
    refused(&of(&endless, &["on", "n"], &["y"]), &Bindings::new(), &["never ends"]);
    let odd = [node("Identity", &["h"], &["on"]), node("Add", &["h", "x"], &["n"])];
    refused(&of(&odd, &["on", "n"], &["y"]), &Bindings::new(), &["condition", "f32[2x3]"]);
    refused(&of(&endless, &["on"], &["y"]), &Bindings::new(), &["fewer values"]);
}

#[test]
fn graphs_see_what_is_around_them_and_nothing_else() {
    // The nodes of one branch are not those of the other, nor of the graph around.
    let seen = [branches("c", node("Neg", &["x"], &["e"])), node("Neg", &["t"], &["z"])];
    let around = graph(&[value("x", &["2", "3"]), typed("c", 9, &[])], &[], &seen, &["z"]);
    assert!(Model::from_bytes(model(around).encode_to_vec()).is_err());
    // An initializer of a graph is meant before a value around it.
    let then = graph(&[], &[floats("k", &[7.0])], &[node("Identity", &["k"], &["t"])], &["t"]);
    let otherwise = graph(&[], &[], &[node("Identity", &["k"], &["e"])], &["e"]);
    let choice = with(node("If", &["c"], &["y"]), &[subgraph("then_branch", then), subgraph("else_branch", otherwise)]);
    let of = |c: i64| graph(&x(), &[floats("k", &[5.0]), scalar_of("c", 9, c)], std::slice::from_ref(&choice), &["y"]);
    becomes(17, &of(1), &["%0 = constant f32[1] {7}", "return %0"]);
    becomes(17, &of(0), &["%0 = constant f32[1] {5}", "return %0"]);
    // Weights are constants of the function that uses them, so that they can be packed.
    let w = TensorProto { raw_data: vec![0u8; 4 * 9].into(), ..tensor("w", 1, &[3, 3]) };
    let nodes = [node("Identity", &["go"], &["on"]), node("MatMul", &["h", "w"], &["n"])];
    let weighted = graph(&x(), &[w, scalar_of("m", 7, 2000)], &[looped("m", "", &nodes, &["on", "n"], &["y"])], &["y"]);
    let text = import(&weighted, &Bindings::new()).unwrap().func.to_string();
    assert!(text.contains("%y = scan %x {") && text.contains("constant f32[3x3]"), "{text}");
}

#[test]
fn graphs_in_graphs_are_bounded() {
    let mut inner = node("Neg", &["x"], &["e"]);
    for _ in 0..30 {
        let other = graph(&[], &[], &[inner], &["e"]);
        let then = graph(&[], &[], &[node("Relu", &["x"], &["t"])], &["t"]);
        inner = with(node("If", &["c"], &["e"]), &[subgraph("then_branch", then), subgraph("else_branch", other)]);
        // Names of values in graphs are other than those around.
        let name = format!("e{}", inner.encoded_len());
        inner.output = vec![name.clone()];
        let body = inner.attribute[1].g.as_mut().unwrap();
        let last = body.node[0].output[0].clone();
        body.output[0].name = last;
    }
    let output = inner.output[0].clone();
    let of = graph(&[value("x", &["2", "3"]), typed("c", 9, &[])], &[], &[inner], &[&output]);
    match Model::from_bytes(model(of.clone()).encode_to_vec()) {
        Ok(model) => fails(model.import(&Bindings::new()).map_err(|e| e.to_string()), &["functions within functions"]),
        Err(error) => assert!(error.to_string().contains("recursion"), "{error}"),
    }
}

#[test]
fn sequences_and_optionals_hold_values_of_the_function() {
    let nodes = [
        node("SequenceConstruct", &["x", "y"], &["s"]),
        node("SequenceInsert", &["s", "x", "zero"], &["s3"]),
        node("SequenceErase", &["s3", "one"], &["s2"]),
        node("SequenceLength", &["s2"], &["n"]),
        node("Identity", &["s2"], &["same"]),
        node("SequenceAt", &["same", "last"], &["b"]),
        node("Optional", &["b"], &["o"]),
        node("OptionalHasElement", &["o"], &["has"]),
        node("OptionalGetElement", &["o"], &["c"]),
        with(node("ConcatFromSequence", &["s2"], &["all"]), &[number("axis", 0), number("new_axis", 1)]),
    ];
    let known = [scalar_of("zero", 7, 0), scalar_of("one", 7, 1), scalar_of("last", 7, -1)];
    let inputs = [value("x", &["2"]), value("y", &["2"])];
    let of = graph(&inputs, &known, &nodes, &["all", "c", "n", "has"]);
    let expected = [
        "%0 = reshape %x {shape=[1,2]}",
        "%1 = reshape %y {shape=[1,2]}",
        "%all = concat %0, %1 {axis=0}",
        "%2 = constant i64[] {2}",
        "%3 = constant bool[] {1}",
        "return %all, %y, %2, %3",
    ];
    becomes(18, &of, &expected);
    let split = [node("SplitToSequence", &["z", "two"], &["s"]), node("SequenceAt", &["s", "last"], &["y"])];
    let five = [value("z", &["5"])];
    let of = graph(&five, &[scalar_of("two", 7, 2), scalar_of("last", 7, -1)], &split, &["y"]);
    becomes(18, &of, &["%y = slice %z {starts=[4] steps=[1] counts=[1]}", "return %y"]);
    let none = Bindings::new();
    // A new element comes before the one at the position: from the end, before the first, or last.
    for (position, order) in [(-2, "%1, %0, %2"), (-1, "%0, %1, %2"), (0, "%1, %0, %2"), (2, "%0, %2, %1")] {
        let nodes = [
            node("SequenceConstruct", &["x", "x"], &["s"]),
            node("SequenceInsert", &["s", "y", "at"], &["t"]),
            with(node("ConcatFromSequence", &["t"], &["all"]), &[number("axis", 0)]),
        ];
        let of = graph(&inputs, &[scalar_of("at", 7, position)], &nodes, &["all"]);
        let names = order.replace("%0", "%x").replace("%2", "%x").replace("%1", "%y");
        becomes(18, &of, &[&format!("%all = concat {names} {{axis=0}}"), "return %all"]);
    }
    for position in [-3, 3] {
        let nodes = [
            node("SequenceConstruct", &["x", "x"], &["s"]),
            node("SequenceInsert", &["s", "y", "at"], &["t"]),
            with(node("ConcatFromSequence", &["t"], &["all"]), &[number("axis", 0)]),
        ];
        let of = graph(&inputs, &[scalar_of("at", 7, position)], &nodes, &["all"]);
        refused(&of, &none, &[&format!("position {position}"), "sequence of 2"]);
    }
    let beyond = graph(&five, &[scalar_of("two", 7, 2), scalar_of("last", 7, 3)], &split, &["y"]);
    refused(&beyond, &none, &["position 3", "sequence of 3"]);
    refused(&graph(&five, &[], &[node("SequenceConstruct", &["z"], &["s"])], &["s"]), &none, &["`s`", "a sequence"]);
    let relu = [node("SequenceConstruct", &["z"], &["s"]), node("Relu", &["s"], &["y"])];
    refused(&graph(&five, &[], &relu, &["y"]), &none, &["(Relu", "input 0", "sequence"]);
    let get = [node("Optional", &[], &["o"]), node("OptionalGetElement", &["o"], &["y"])];
    refused(&graph(&five, &[], &get, &["y"]), &none, &["empty"]);
}
