//! Dimensions that a model leaves open.

use super::*;
use crate::{DimRole, SizeOrigin};

/// A graph of these inputs, of which none is used.
fn of(inputs: &[ValueInfoProto]) -> GraphProto {
    graph(inputs, &[floats("w", &[0.0])], &[node("Relu", &["w"], &["y"])], &["y"])
}

/// Tokens, as matrices of i64.
fn tokens(name: &str, dims: &[&str]) -> ValueInfoProto {
    typed(name, 7, dims)
}

/// The shapes of the arguments.
#[track_caller]
fn shapes(graph: &GraphProto, bindings: &Bindings) -> Vec<Vec<u64>> {
    let func = import(graph, bindings).unwrap().func;
    func.arguments().map(|(_, v)| v.ty.shape().to_vec()).collect()
}

fn sized() -> Bindings {
    Bindings::new().batch(3).sequence(7)
}

#[test]
fn made_up_names_are_sized_by_their_place() {
    for [batch, sequence] in [
        ["s0", "s1"],
        ["s77", "s27"],
        ["ids_dynamic_axes_1", "ids_dynamic_axes_2"],
        ["unk__123", "unk__124"],
        ["DynamicDimension.0", "DynamicDimension.1"],
        ["?", "?"],
        ["None", "None"],
        ["batch_size", "sequence_length"],
        ["N", "L"],
        ["", ""],
    ] {
        assert_eq!(shapes(&of(&[tokens("ids", &[batch, sequence])]), &sized()), [[3, 7]], "{batch} {sequence}");
        let image = of(&[value("pixels", &[batch, "3", "8", "8"])]);
        assert_eq!(shapes(&image, &sized()), [[3, 3, 8, 8]], "{batch}");
    }
    // Only integers and masks are tokens.
    refused(&of(&[value("x", &["s0", "s1"])]), &sized(), &["dimension 1 of input `x` is `s1`"]);
    assert_eq!(shapes(&of(&[value("attention_mask", &["s0", "s1"])]), &sized()), [[3, 7]]);
}

#[test]
fn a_number_below_zero_is_no_size() {
    let mut x = value("x", &["2", "3"]);
    let ty = x.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    ty.shape.as_mut().unwrap().dim[0] = DimensionProto { dim_value: Some(-1), dim_param: None };
    assert_eq!(shapes(&of(&[x]), &sized()), [[3, 3]]);
}

#[test]
fn words_are_not_taken_for_made_up_names() {
    let images = of(&[value("pixels", &["batch", "3", "height", "width"])]);
    let error = refused(
        &images,
        &sized().dim("width", 9),
        &[
            "dimension 2 of input `pixels` is `height`",
            "Bindings::dim(\"height\"",
            "pixels[0] `batch` = 3",
            "pixels[2] `height` is open",
            "pixels[3] `width` = 9",
        ],
    );
    assert!(!error.to_string().contains("Bindings::batch"), "{error}");
    assert_eq!(shapes(&images, &sized().dim("height", 5).dim("width", 9)), [[3, 3, 5, 9]]);
    refused(&of(&[value("x", &["features"])]), &sized(), &["`features`"]);
    refused(&of(&[tokens("ids", &["batch", "words"])]), &sized(), &["`words`"]);
    // Not the batch, though it is the first.
    refused(&of(&[value("x", &["height", "width"])]), &sized(), &["`height`"]);
    refused(&of(&[value("x", &["?"])]), &Bindings::new(), &["Bindings::batch(..)", "Bindings::dim(\"?\""]);
}

#[test]
fn one_name_is_one_size() {
    // The second input says that it is a sequence, and so what the axes of the square count.
    let square = of(&[value("bias", &["s1", "s1"]), tokens("ids", &["s0", "s1"])]);
    assert_eq!(shapes(&square, &sized()), [[7, 7], [3, 7]]);
    assert_eq!(shapes(&square, &sized().shape("ids", &[2, 9])), [[9, 9], [2, 9]]);
    assert_eq!(shapes(&square, &sized().dim("s1", 4)), [[4, 4], [3, 4]]);
    refused(
        &square,
        &sized().shape("ids", &[2, 9]).shape("bias", &[8, 8]),
        &["`ids`", "[2, 9]", "s1=8 as in input `bias`"],
    );
    refused(&square, &sized().shape("bias", &[8, 9]), &["`bias`"]);
    // What is no name is not.
    let vague = of(&[value("a", &["?", "2"]), value("b", &["?", "2"])]);
    assert_eq!(shapes(&vague, &sized().shape("a", &[5, 2])), [[5, 2], [3, 2]]);
    assert_eq!(shapes(&vague, &Bindings::new().dim("?", 6)), [[6, 2], [6, 2]]);
}

#[test]
fn sizes_follow_from_expressions() {
    let past = of(&[
        tokens("ids", &["batch", "sequence"]),
        tokens("mask", &["batch", "past_sequence + sequence"]),
        value("keys", &["batch", "4", "past_sequence", "8"]),
    ]);
    assert_eq!(shapes(&past, &sized()), [vec![3, 7], vec![3, 14], vec![3, 4, 7, 8]]);
    assert_eq!(shapes(&past, &sized().dim("past_sequence", 2)), [vec![3, 7], vec![3, 9], vec![3, 4, 2, 8]]);
    assert_eq!(
        shapes(&past, &sized().dim("sequence", 1).shape("mask", &[3, 6])),
        [vec![3, 1], vec![3, 6], vec![3, 4, 5, 8]]
    );
    // A name that is only in expressions.
    let twice = of(&[value("a", &["2*_x"]), value("b", &["_x + 1"])]);
    assert_eq!(shapes(&twice, &Bindings::new().dim("_x", 3)), [[6], [4]]);
    assert_eq!(shapes(&twice, &Bindings::new().shape("a", &[10])), [[10], [6]]);
    assert_eq!(shapes(&twice, &Bindings::new().dim("2*_x", 8)), [[8], [5]]);
    refused(&twice, &Bindings::new().dim("2*_x", 7), &["dimension 0 of input `b`", "`_x + 1`"]);
    refused(&twice, &Bindings::new(), &["`2*_x`", "Bindings::dim(\"2*_x\""]);
    // Nothing is less than nothing.
    let less = of(&[value("a", &["x - 4"]), value("b", &["x"])]);
    refused(&less, &Bindings::new().dim("x", 3), &["`x - 4`"]);
}

/// As exporters leave them on outputs and on values between.
#[test]
fn expressions_of_outputs_say_nothing() {
    let mut doubled = graph(&[value("x", &["s0"])], &[], &[node("Concat", &["x", "x"], &["y"])], &["y"]);
    doubled.node[0].attribute = vec![number("axis", 0)];
    doubled.output = vec![value("y", &["2*s0"])];
    let func = import(&doubled, &sized()).unwrap().func;
    assert_eq!(func.value(func.results()[0]).ty.shape(), [6]);
    refused(&doubled, &sized().dim("2*s0", 6), &["no dimension `2*s0`", "s0"]);
}

#[test]
fn dimensions_say_where_their_sizes_come_from() {
    let graph = of(&[
        tokens("ids", &["s0", "s1"]),
        tokens("mask", &["s0", "s1 + 1"]),
        value("x", &["?", "height"]),
        value("v", &["height", "2"]),
        value("z", &["9"]),
        value("u", &["open"]),
    ]);
    let model = Model::from_bytes(model(graph).encode_to_vec()).unwrap();
    let bindings = Bindings::new().batch(3).dim("s1", 5).shape("v", &[8, 2]);
    let found: Vec<_> = bindings
        .dimensions(&model.graph)
        .into_iter()
        .map(|d| (d.input, d.axis, d.role, d.is_role_of_place, d.size))
        .collect();
    let row = |input: &str, axis, role, of_place, size| (input.to_owned(), axis, role, of_place, size);
    let (batch, sequence) = (Some(DimRole::Batch), Some(DimRole::Sequence));
    assert_eq!(
        found,
        [
            row("ids", 0, batch, true, Some((3, SizeOrigin::Role))),
            row("ids", 1, sequence, true, Some((5, SizeOrigin::Name))),
            row("mask", 0, batch, true, Some((3, SizeOrigin::Role))),
            row("mask", 1, None, false, Some((6, SizeOrigin::Expression))),
            row("x", 0, batch, true, Some((3, SizeOrigin::Role))),
            row("x", 1, None, false, Some((8, SizeOrigin::Input("v".into())))),
            row("v", 0, None, false, Some((8, SizeOrigin::Shape))),
            row("v", 1, None, false, Some((2, SizeOrigin::Model))),
            row("z", 0, batch, true, Some((9, SizeOrigin::Model))),
            row("u", 0, None, false, None),
        ]
    );
}

#[test]
fn files_of_many_dimensions_take_no_time() {
    let name = |n: usize| format!("a{n}");
    // Each follows from the one after it.
    let mut inputs: Vec<_> = (0..3000).map(|n| value(&name(n), &[&format!("{} + 1", name(n + 1))])).collect();
    inputs.push(value("last", &["a3000"]));
    let begin = std::time::Instant::now();
    let error = import(&of(&inputs), &Bindings::new().dim("a3000", 1)).unwrap_err().to_string();
    assert!(error.len() < 2000, "{error}");
    assert!(begin.elapsed().as_secs() < 20);
}
