use std::fs;

use prost::Message;

use crate::proto::*;
use crate::*;

pub(crate) fn tensor(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), data_type, dims: dims.to_vec(), ..TensorProto::default() }
}

pub(crate) fn floats(name: &str, values: &[f32]) -> TensorProto {
    TensorProto { float_data: values.to_vec(), ..tensor(name, 1, &[values.len() as i64]) }
}

fn value(name: &str) -> ValueInfoProto {
    let dims = [(Some(2), None), (None, Some("length".to_owned())), (Some(-1), None)];
    let dim = dims.map(|(dim_value, dim_param)| DimensionProto { dim_value, dim_param }).to_vec();
    let tensor_type = Some(TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type, ..TypeProto::default() }) }
}

pub(crate) fn node(op: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let all = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    NodeProto { op_type: op.into(), input: all(input), output: all(output), ..NodeProto::default() }
}

pub(crate) fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type, ..AttributeProto::default() }
}

/// `y = relu(x + w)`, with `w` among the inputs as old files have it.
fn small() -> GraphProto {
    GraphProto {
        name: "small".into(),
        node: vec![node("Add", &["x", "w"], &["s"]), node("Relu", &["s"], &["y"])],
        initializer: vec![floats("w", &[1.0, -2.0])],
        input: vec![value("x"), value("w")],
        output: vec![value("y")],
    }
}

pub(crate) fn model(graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, producer_name: "a test".into(), graph: Some(graph), opset_import, functions: vec![] }
}

fn read(graph: GraphProto) -> Result<Model, OnnxError> {
    Model::from_bytes(model(graph).encode_to_vec())
}

#[track_caller]
fn refused(graph: GraphProto, words: &[&str]) {
    let message = read(graph).unwrap_err().to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn a_graph_is_read() {
    let model = read(small()).unwrap();
    assert_eq!((model.producer.as_str(), model.opsets[""]), ("a test", 17));
    let graph = &model.graph;
    let [x] = &graph.inputs[..] else { panic!("{graph:?}") };
    let shape = vec![Dim::Known(2), Dim::Named("length".into()), Dim::Named(String::new())];
    assert_eq!((x.name.as_str(), x.dtype, x.shape.clone()), ("x", Some(ElementType::F32), Some(shape)));
    assert_eq!(graph.nodes.iter().map(|n| n.op.as_str()).collect::<Vec<_>>(), ["Add", "Relu"]);
    assert_eq!((graph.nodes[0].name.as_str(), &graph.nodes[0].inputs[..]), ("s", &["x".into(), "w".to_owned()][..]));
    let w = &graph.initializers["w"];
    assert_eq!((w.shape.as_slice(), &w.data[..]), (&[2][..], &[0, 0, 128, 63, 0, 0, 0, 192][..]));
    assert_eq!(graph.outputs[0].name, "y");
}

#[test]
fn networks_are_called_with_tensors() {
    let other = || Some(OtherTypeProto {});
    let types = [
        (TypeProto { sequence_type: other(), ..TypeProto::default() }, "a sequence"),
        (TypeProto { optional_type: other(), ..TypeProto::default() }, "optional"),
        (TypeProto { map_type: other(), ..TypeProto::default() }, "a map"),
        (TypeProto { sparse_tensor_type: other(), ..TypeProto::default() }, "a sparse tensor"),
    ];
    for (ty, word) in types {
        let mut graph = small();
        graph.input[0].r#type = Some(ty.clone());
        refused(graph, &["`x`", word, "tensors"]);
        let mut graph = small();
        graph.output[0].r#type = Some(ty);
        refused(graph, &["`y`", word, "tensors"]);
    }
}

#[test]
fn attributes_have_their_types_also_where_the_file_does_not_say_them() {
    let mut graph = small();
    let inner =
        GraphProto { node: vec![node("Neg", &["x"], &["n"])], output: vec![value("n")], ..GraphProto::default() };
    graph.node[1].attribute = vec![
        AttributeProto { f: 0.5, ..attribute("alpha", 1) },
        AttributeProto { i: 3, ..attribute("axis", 2) },
        AttributeProto { s: "SAME".into(), ..attribute("pad", 0) },
        AttributeProto { t: Some(floats("", &[4.0])), ..attribute("value", 4) },
        AttributeProto { g: Some(inner), ..attribute("body", 5) },
        AttributeProto { floats: vec![1.0], ..attribute("scales", 6) },
        AttributeProto { ints: vec![1, 2], ..attribute("pads", 0) },
        AttributeProto { strings: vec!["a".into()], ..attribute("names", 8) },
    ];
    let model = read(graph).unwrap();
    let attributes = &model.graph.nodes[1].attributes;
    assert_eq!(attributes["alpha"], Attribute::Float(0.5));
    assert_eq!(attributes["axis"], Attribute::Int(3));
    assert_eq!(attributes["pad"], Attribute::String("SAME".into()));
    assert!(matches!(&attributes["value"], Attribute::Tensor(t) if t.shape == [1]));
    assert!(matches!(&attributes["body"], Attribute::Graph(g) if g.nodes[0].op == "Neg"));
    assert_eq!(attributes["scales"], Attribute::Floats(vec![1.0]));
    assert_eq!(attributes["pads"], Attribute::Ints(vec![1, 2]));
    assert_eq!(attributes["names"], Attribute::Strings(vec!["a".into()]));
    let mut graph = small();
    graph.node[0].attribute = vec![attribute("odd", 11)];
    refused(graph.clone(), &["`s`", "Add", "`odd`"]);
    graph.node[0].attribute = vec![attribute("axis", 2), attribute("axis", 2)];
    refused(graph, &["`axis`", "twice"]);
}

#[test]
fn elements_are_read_from_the_field_of_their_type() {
    let read = |proto: TensorProto| Tensor::from_bytes(proto.encode_to_vec()).map(|(_, tensor)| tensor);
    let data = |proto| read(proto).unwrap().data.to_vec();
    let one = |data_type| tensor("t", data_type, &[1]);
    assert_eq!(data(TensorProto { int64_data: vec![-2], ..one(7) }), (-2i64).to_le_bytes());
    assert_eq!(data(TensorProto { int32_data: vec![-2], ..one(6) }), (-2i32).to_le_bytes());
    assert_eq!(data(TensorProto { int32_data: vec![-2], ..one(3) }), [254]);
    assert_eq!(data(TensorProto { int32_data: vec![1], ..one(9) }), [1]);
    assert_eq!(data(TensorProto { int32_data: vec![0x3f80], ..one(16) }), [0x80, 0x3f]);
    assert_eq!(data(TensorProto { double_data: vec![0.5], ..one(11) }), 0.5f64.to_le_bytes());
    assert_eq!(data(TensorProto { uint64_data: vec![9], ..one(12) }), 9u32.to_le_bytes());
    assert_eq!(data(TensorProto { raw_data: vec![1, 2, 3, 4].into(), ..one(1) }), [1, 2, 3, 4]);
    // A scalar, and nothing at all.
    assert_eq!(data(TensorProto { float_data: vec![2.0], ..tensor("t", 1, &[]) }), 2f32.to_le_bytes());
    assert!(read(tensor("t", 1, &[0, 5])).unwrap().is_empty());
    let strings = read(TensorProto { string_data: vec!["a".into(), "b".into()], ..tensor("t", 8, &[2]) }).unwrap();
    assert_eq!(strings.strings, ["a", "b"]);
    for (proto, word) in [
        (tensor("t", 1, &[1]), "0 bytes of data"),
        (tensor("t", 1, &[-1]), "-1"),
        (tensor("t", 1, &[i64::MAX, i64::MAX]), "larger than memory"),
        (tensor("t", 1, &[i64::MAX]), "larger than memory"),
        (tensor("t", 99, &[1]), "99"),
        (tensor("t", 8, &[3]), "0 strings"),
        (TensorProto { data_location: 1, ..tensor("t", 1, &[1]) }, "without a location"),
    ] {
        let message = read(proto).unwrap_err().to_string();
        assert!(message.starts_with("tensor `t`: ") && message.contains(word), "{message}");
    }
}

#[test]
fn values_are_made_once_and_before_they_are_used() {
    let with = |change: &dyn Fn(&mut GraphProto)| {
        let mut graph = small();
        change(&mut graph);
        graph
    };
    refused(with(&|g| g.node.reverse()), &["`y`", "Relu", "`s` is not there"]);
    refused(with(&|g| g.node[1].output[0] = "s".into()), &["Relu", "`s` is there already"]);
    refused(with(&|g| g.node[1].output[0] = "x".into()), &["`x` is there already"]);
    refused(with(&|g| g.output[0].name = "z".into()), &["`z`", "no node makes"]);
    refused(with(&|g| g.input.push(value("x"))), &["`x`", "already"]);
    refused(with(&|g| g.initializer.push(floats("w", &[]))), &["`w`", "two"]);
    // A body does not see what comes after its node.
    refused(
        with(&|g| {
            let node = vec![node("Neg", &["y"], &["n"])];
            let body = GraphProto { node, output: vec![value("n")], ..GraphProto::default() };
            g.node[0].attribute = vec![AttributeProto { g: Some(body), ..attribute("body", 5) }];
        }),
        &["`n`", "`y` is not there"],
    );
    // Optional values may be left out.
    read(with(&|g| g.node[0].input.push(String::new()))).unwrap();
}

/// A model in a folder whose weights, two numbers, are in another file there.
fn with_external(folder: &std::path::Path, location: &str, offset: &str) -> std::path::PathBuf {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let external_data = vec![entry("location", location), entry("offset", offset), entry("length", "8")];
    let mut graph = small();
    graph.initializer = vec![TensorProto { external_data, data_location: 1, ..tensor("w", 1, &[2]) }];
    let path = folder.join("model.onnx");
    fs::write(&path, model(graph).encode_to_vec()).unwrap();
    path
}

#[test]
fn weights_in_other_files_are_found_and_stay_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("w.bin"), [0u8, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64]).unwrap();
    let open = |location: &str, offset: &str| {
        let path = with_external(folder.path(), location, offset);
        let weights = |m: Model| m.graph.initializers["w"].data.to_vec();
        // SAFETY: nobody else knows of the files.
        let mapped = unsafe { Model::map(&path) }.map(weights).map_err(|e| e.to_string());
        let read = Model::open(&path).map(weights).map_err(|e| e.to_string());
        assert_eq!(mapped, read);
        read
    };
    assert_eq!(open("w.bin", "4").unwrap(), [0, 0, 128, 63, 0, 0, 0, 64]);
    assert!(open("w.bin", "5").unwrap_err().contains("bytes 5 to 13 of `w.bin`, which has 12"));
    assert!(open("w.bin", "18446744073709551615").unwrap_err().contains("w.bin"));
    assert!(open("w.bin", "x").unwrap_err().contains("`offset` of `x`"));
    for outside in ["../w.bin", "/etc/passwd", "a/../../w.bin"] {
        assert!(open(outside, "0").unwrap_err().contains("outside the model's folder"), "{outside}");
    }
    assert!(open("none.bin", "0").unwrap_err().contains("none.bin"));
    let message = Model::open(folder.path().join("no.onnx")).unwrap_err().to_string();
    assert!(message.contains("no.onnx"), "{message}");
}

#[test]
fn what_was_read_does_not_change_with_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("w.bin");
    fs::write(&weights, 0x4000_0000_3f80_0000u64.to_le_bytes()).unwrap();
    let path = with_external(folder.path(), "w.bin", "0");
    let model = Model::open(&path).unwrap();
    let expected = model.clone();
    for file in [&path, &weights] {
        fs::write(file, [7; 8]).unwrap();
        fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap();
    }
    assert_eq!(model, expected);
    assert_eq!(model.graph.initializers["w"].data, [0, 0, 128, 63, 0, 0, 0, 64][..]);
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_external(folder.path(), "w.bin", "0");
    let weights = folder.path().join("w.bin");
    fs::create_dir(&weights).unwrap();
    let refused = |path: &std::path::Path, word: &str| {
        let message = Model::open(path).unwrap_err().to_string();
        assert!(message.contains(word) && message.contains("not a regular file"), "{message}");
    };
    refused(&model, "w.bin");
    fs::remove_dir(&weights).unwrap();
    // A device without an end. Pipes, and links to both, are in the tests of what opens files.
    std::os::unix::fs::symlink("/dev/zero", &weights).unwrap();
    refused(&model, "w.bin");
    refused(std::path::Path::new("/dev/zero"), "/dev/zero");
    let set = folder.path().join("test_data_set_0");
    fs::create_dir(&set).unwrap();
    std::os::unix::fs::symlink("/dev/zero", set.join("input_0.pb")).unwrap();
    assert!(TestSet::read(&set).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn other_files_and_versions_are_refused() {
    assert!(matches!(Model::from_bytes(&b"\x08"[..]), Err(OnnxError::Decode(_))));
    assert!(matches!(Model::from_bytes(&b""[..]), Err(OnnxError::NoGraph)));
    let mut old = model(small());
    old.opset_import[0].version = 29;
    let message = Model::from_bytes(old.encode_to_vec()).unwrap_err().to_string();
    assert!(message.contains("operator set 29") && message.contains("1 to 28"), "{message}");
    let whole = model(small()).encode_to_vec();
    for end in 0..whole.len() {
        // Refused, or a smaller model; never a panic.
        let _ = Model::from_bytes(whole[..end].to_vec());
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let _ = Model::from_bytes(bytes);
        }
    }
    // Graphs in graphs, deeper than any decoder should follow.
    let mut graph = small();
    for _ in 0..500 {
        let mut outer = GraphProto::default();
        let mut node = node("If", &[], &["o"]);
        node.attribute = vec![AttributeProto { g: Some(graph), ..attribute("then_branch", 5) }];
        outer.node = vec![node];
        graph = outer;
    }
    assert!(matches!(read(graph), Err(OnnxError::Decode(_))));
}
