//! LSTM, GRU and RNN nodes with random settings, against what ONNX Runtime gives: `tools/recurrent_fixtures.py` writes the fixtures.

use kiln_jit::Runtime;
use kiln_model::{Bindings, Bound, Code, Model, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    /// An ONNX file, in hexadecimal digits.
    model: String,
    inputs: Vec<Values>,
    outputs: Vec<Values>,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<u64>,
    ints: bool,
    data: Vec<f64>,
}

impl Case {
    fn model(&self) -> Model {
        let bytes: Vec<u8> =
            (0..self.model.len() / 2).map(|i| u8::from_str_radix(&self.model[2 * i..2 * i + 2], 16).unwrap()).collect();
        Model::from_bytes(bytes).unwrap()
    }

    fn inputs(&self) -> Vec<Tensor> {
        let tensor = |v: &Values| match v.ints {
            true => Tensor::from_elements(v.shape.clone(), v.data.iter().map(|v| *v as i32).collect::<Vec<_>>()),
            false => Tensor::from_elements(v.shape.clone(), v.data.iter().map(|v| *v as f32).collect::<Vec<_>>()),
        };
        self.inputs.iter().map(|v| tensor(v).unwrap()).collect()
    }
}

fn close(what: &str, found: &[f64], expected: &Values) {
    let scale = expected.data.iter().fold(1.0f64, |most, v| most.max(v.abs()));
    assert_eq!(found.len(), expected.data.len(), "{what}");
    for (at, (f, e)) in found.iter().zip(&expected.data).enumerate() {
        assert!((f - e).abs() <= 1e-5 * scale, "{what}: element {at} is {f}, expected {e}");
    }
}

#[test]
fn results_are_those_of_onnx_runtime() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("fixtures/recurrent.json")).unwrap();
    assert!(cases.len() >= 40, "{}", cases.len());
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let mut loops = 0;
    for (at, case) in cases.iter().enumerate() {
        let bound: Bound = case.model().bind(&Bindings::new()).unwrap();
        let inputs = case.inputs();
        let data: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
        let exact = bound.func().interpret_f64(&data.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        let network = bound.compile(&runtime).unwrap();
        loops += network.steps().filter(|step| step.code == Code::Control).count();
        // A second call finds no traces of the first.
        for _ in 0..2 {
            let found = network.run(&inputs).unwrap();
            assert_eq!(found.len(), case.outputs.len());
            for ((found, exact), expected) in found.iter().zip(&exact).zip(&case.outputs) {
                assert_eq!(found.ty().shape(), expected.shape, "case {at}");
                close(&format!("case {at}, compiled"), &found.to_f64(), expected);
                close(&format!("case {at}, interpreted"), exact, expected);
            }
        }
    }
    assert!(loops > 20, "{loops}");
}
