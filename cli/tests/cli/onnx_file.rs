//! Small ONNX files, written field by field.

use std::fs;
use std::path::{Path, PathBuf};

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(bytes);
    out
}

/// A field with a number.
fn number(field: u8, mut value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A tensor of f32.
pub fn floats(name: &str, shape: &[u8], elements: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = elements.iter().flat_map(|e| e.to_le_bytes()).collect();
    let dims = shape.iter().flat_map(|d| number(1, (*d).into())).collect();
    [dims, number(2, 1), field(8, name.as_bytes()), field(9, &raw)].concat()
}

/// A value of f32: dimensions are numbers or names.
fn value(name: &str, dims: &[&str]) -> Vec<u8> {
    typed(name, 1, dims)
}

/// A value of elements of a type by its number: 1 is f32, 7 is i64.
fn typed(name: &str, element: u64, dims: &[&str]) -> Vec<u8> {
    let dim = |dim: &&str| match dim.parse() {
        Ok(n) => field(1, &number(1, n)),
        Err(_) => field(1, &field(2, dim.as_bytes())),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, element), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|i| field(1, i.as_bytes())).collect();
    [inputs, field(2, output.as_bytes()), field(4, op.as_bytes())].concat()
}

/// `y = relu(x w)` with `x` of `batch` rows, and weights that take the difference of neighbours; the last node is `last`.
pub fn network(last: &str) -> Vec<u8> {
    network_of("batch", last)
}

/// The same network with a number of rows, or a name for it.
pub fn network_of(batch: &str, last: &str) -> Vec<u8> {
    graph(batch, [node("MatMul", &["x", "w"], "h"), node(last, &["h"], "y")])
}

/// The same network with names for its nodes.
pub fn named_network(product: &str, last: &str) -> Vec<u8> {
    let named = |node: Vec<u8>, name: &str| [node, field(3, name.as_bytes())].concat();
    graph("batch", [named(node("MatMul", &["x", "w"], "h"), product), named(node("Relu", &["h"], "y"), last)])
}

/// `y = relu(x w)` with square weights in a file beside the network's.
pub fn network_beside(weights: &str, size: u64) -> Vec<u8> {
    let location = [field(1, b"location"), field(2, weights.as_bytes())].concat();
    let dims = [number(1, size), number(1, size)].concat();
    let tensor = [dims, number(2, 1), field(8, b"w"), field(13, &location), number(14, 1)].concat();
    let size = size.to_string();
    graph_of(tensor, ["1", &size], ["1", &size], [node("MatMul", &["x", "w"], "h"), node("Relu", &["h"], "y")])
}

/// `y = op(inputs)` of inputs with names, types of elements (1 is f32, 7 is i64) and dimensions, and the dimensions of `y`.
pub fn open_network(op: &str, inputs: &[(&str, u64, &[&str])], y: &[&str]) -> Vec<u8> {
    let names: Vec<&str> = inputs.iter().map(|(name, ..)| *name).collect();
    let mut graph = [field(1, &node(op, &names, "y")), field(2, b"open")].concat();
    inputs.iter().for_each(|(name, element, dims)| graph.extend(field(11, &typed(name, *element, dims))));
    graph.extend(field(12, &typed("y", inputs[0].1, y)));
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}

fn graph(batch: &str, nodes: [Vec<u8>; 2]) -> Vec<u8> {
    let weights = floats("w", &[3, 2], &[1.0, 0.0, -1.0, 1.0, 0.0, -1.0]);
    graph_of(weights, [batch, "3"], [batch, "2"], nodes)
}

fn graph_of(weights: Vec<u8>, x: [&str; 2], y: [&str; 2], [product, last]: [Vec<u8>; 2]) -> Vec<u8> {
    let graph = [
        field(1, &product),
        field(1, &last),
        field(2, b"small"),
        field(5, &weights),
        field(11, &value("x", &x)),
        field(12, &value("y", &y)),
    ];
    [number(1, 8), field(7, &graph.concat()), field(8, &number(2, 17))].concat()
}

/// A folder with a network and a test of it, as ONNX lays them out.
pub fn test(folder: &Path, last: &str, output: [f32; 4]) -> PathBuf {
    let model = folder.join("model.onnx");
    set(&folder.join("test_data_set_0"), &[3.0, 1.0, 2.0, 1.0, 2.0, 0.0], &output);
    fs::write(&model, network(last)).unwrap();
    model
}

/// A set of inputs and outputs of such a network, of any number of rows.
pub fn set(folder: &Path, x: &[f32], y: &[f32]) {
    fs::create_dir_all(folder).unwrap();
    let rows = (x.len() / 3) as u8;
    fs::write(folder.join("input_0.pb"), floats("x", &[rows, 3], x)).unwrap();
    fs::write(folder.join("output_0.pb"), floats("y", &[rows, 2], y)).unwrap();
}
