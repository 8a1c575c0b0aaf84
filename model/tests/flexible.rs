//! One network for sequences of any length.

use kiln_ir::Func;
use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::{Bound, Flexible, ModelError, Tensor};
use kiln_runtime::Runtime;

fn runtime() -> Runtime {
    Runtime::builder().threads(2).build().unwrap()
}

fn options(seq: u64) -> ArchOptions {
    ArchOptions { batch: 2, seq: Some(seq) }
}

fn compile(runtime: &Runtime, architecture: Architecture, longest: u64) -> Result<Flexible, ModelError> {
    Flexible::compile(runtime, longest, |seq| Bound::from_architecture(architecture, &options(seq)))
}

#[test]
fn every_length_computes_what_its_network_does() {
    let runtime = runtime();
    for architecture in [Architecture::BertTiny, Architecture::DistilbertTiny, Architecture::RobertaTiny] {
        let network = compile(&runtime, architecture, 40).unwrap();
        let compilations = runtime.stats().kernels.compilations;
        for seq in [7, 25, 1, 40, 33, 7] {
            let inputs = architecture.sample_inputs(&options(seq)).unwrap();
            let func = architecture.build(&options(seq)).unwrap();
            let arguments: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
            let expected = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
            let found = network.run(&inputs).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                let found = found.to_f64();
                assert_eq!(found.len(), expected.len());
                for (f, e) in found.iter().zip(expected) {
                    assert!((f - e).abs() <= 1e-5 * largest, "{architecture} {seq}: {f} {e}");
                }
            }
        }
        // No call waited for a compiler: no length came thrice.
        assert_eq!(runtime.stats().kernels.compilations, compilations, "{architecture}");
        assert_eq!((network.stats().plans, network.stats().plans_made), (5, 5));
    }
}

#[test]
fn memory_is_bounded_and_lengths_that_come_often_get_kernels_of_their_own() {
    let runtime = runtime();
    let network = compile(&runtime, Architecture::BertTiny, 64).unwrap();
    let run = |seq| network.run(&Architecture::BertTiny.sample_inputs(&options(seq)).unwrap()).unwrap();
    run(64);
    let (arena, packed) = (network.stats().arena_bytes, runtime.stats().packed_bytes);
    for seq in 1..=64 {
        run(seq);
    }
    let stats = network.stats();
    assert_eq!((stats.arena_bytes, stats.plans, stats.plans_made), (arena, 32, 65));
    assert_eq!(runtime.stats().packed_bytes, packed);
    assert_eq!(stats.exact_kernels, 0);
    let general = run(20);
    (0..4).for_each(|_| drop(run(20)));
    network.settle();
    assert!(network.stats().exact_kernels > 0);
    let exact = run(20);
    for (a, b) in general[0].to_f64().iter().zip(exact[0].to_f64()) {
        assert!((a - b).abs() < 1e-4);
    }
    drop(network);
    assert_eq!(runtime.stats().packed_bytes, 0);
}

#[test]
fn inputs_of_no_one_length_are_refused() {
    let network = compile(&runtime(), Architecture::BertTiny, 16).unwrap();
    let inputs = |seq| Architecture::BertTiny.sample_inputs(&options(seq)).unwrap();
    let error = |inputs: &[Tensor]| network.run(inputs).unwrap_err().to_string();
    assert!(error(&inputs(17)).contains("one length up to 16"));
    let mut mixed = inputs(5);
    mixed[1] = inputs(6)[1].clone();
    assert!(error(&mixed).contains("i64[2x6]"));
    assert!(error(&inputs(5)[..2]).contains("one length"));
}

#[test]
fn what_is_not_linear_in_the_length_is_refused() {
    let runtime = runtime();
    let square = |n: u64| {
        let text = format!(
            "func @f(%x: f32[{n}]) -> f32[{0}] {{\n %y = pad %x {{mode=constant before=[0] after=[{1}] value=0}}\n return %y\n}}",
            n * n,
            n * n - n
        );
        Ok(Bound::from_func(text.parse::<Func>().unwrap()))
    };
    let error = Flexible::compile(&runtime, 9, square).unwrap_err().to_string();
    assert!(error.contains("not linear"), "{error}");
    let fixed =
        |_| Ok(Bound::from_func("func @f(%x: f32[3]) -> f32[3] {\n %y = exp %x\n return %y\n}".parse().unwrap()));
    assert!(Flexible::compile(&runtime, 9, fixed).unwrap_err().to_string().contains("no input"));
    // At the least length the third point refuses it all the same.
    assert!(Flexible::compile(&runtime, 6, square).is_err());
    assert!(compile(&runtime, Architecture::BertTiny, 5).unwrap_err().to_string().contains("at least 6"));
}
