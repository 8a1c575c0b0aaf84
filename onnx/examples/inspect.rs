//! Prints the contents of ONNX files: `cargo run --release -p kiln-onnx --example inspect -- FILE...`

use std::collections::BTreeMap;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let model = kiln_onnx::Model::open(&path).map_err(|e| format!("{path}: {e}"))?;
        let mut ops = BTreeMap::new();
        for node in &model.graph.nodes {
            *ops.entry(node.op.as_str()).or_insert(0) += 1;
        }
        let bytes: usize = model.graph.initializers.values().map(|tensor| tensor.data.len()).sum();
        println!("{path}: by {}, opsets {:?}, {bytes} bytes of weights, {ops:?}", model.producer, model.opsets);
        for value in model.graph.inputs.iter().chain(&model.graph.outputs) {
            println!("  {} {:?} {:?}", value.name, value.dtype, value.shape);
        }
    }
    Ok(())
}
