use std::collections::BTreeMap;

use kiln_ir::func::{Def, TensorOp};

use super::*;

const TINY: [Architecture; 3] = [Architecture::BertTiny, Architecture::DistilbertTiny, Architecture::RobertaTiny];

fn options(batch: u64, seq: u64) -> ArchOptions {
    ArchOptions { batch, seq: Some(seq) }
}

/// Each operation with its number.
fn operations(func: &Func) -> BTreeMap<&'static str, usize> {
    let mut found = BTreeMap::new();
    for (_, value) in func.values() {
        if let Def::Result { op, .. } = &value.def {
            *found.entry(TensorOp::name(op)).or_insert(0) += 1;
        }
    }
    found
}

/// Elements of all constants with a dot in their name, as weights have.
fn weights(func: &Func) -> u64 {
    let weights = func.values().filter(|(_, v)| matches!(v.def, Def::Constant(_)) && v.name.contains('.'));
    weights.map(|(_, v)| v.ty.elements()).sum()
}

fn results(func: &Func) -> Vec<String> {
    let results = func.results().iter().map(|id| func.value(*id));
    results.map(|value| format!("{}: {}", value.name, value.ty)).collect()
}

#[test]
fn words_name_architectures() {
    for (i, architecture) in Architecture::ALL.into_iter().enumerate() {
        assert_eq!(architecture as usize, i);
        assert_eq!(architecture.to_string().parse(), Ok(architecture));
    }
    let error = "resnet".parse::<Architecture>().unwrap_err().to_string();
    assert!(error.starts_with("`resnet` is no built-in architecture: expected resnet50, bert, distilbert"), "{error}");
}

#[test]
fn arguments_are_those_of_the_function() {
    for architecture in TINY {
        let options = options(2, 10);
        let func = architecture.build(&options).unwrap();
        let inputs = architecture.inputs(&options).unwrap();
        let arguments: Vec<_> = func.arguments().map(|(_, v)| (v.name.as_str(), v.ty.clone())).collect();
        assert_eq!(arguments, inputs);
        let samples = architecture.sample_inputs(&options).unwrap();
        assert!(samples.iter().map(Tensor::ty).eq(inputs.iter().map(|(_, ty)| ty)));
        assert_eq!(samples, architecture.sample_inputs(&options).unwrap());
    }
}

#[test]
fn tiny_networks_have_their_parts() {
    let bert = Architecture::BertTiny.build(&options(2, 10)).unwrap();
    assert_eq!(results(&bert), ["last_hidden_state: f32[2x10x64]", "pooler_output: f32[2x64]"]);
    assert_eq!(weights(&bert), 139_264);
    let found = operations(&bert);
    // Six linear layers and two products of attention a layer, and the pooler.
    assert_eq!((found["matmul"], found["layer_norm"], found["softmax"], found["gelu_erf"]), (17, 5, 2, 2));

    let distilbert = Architecture::DistilbertTiny.build(&options(3, 7)).unwrap();
    assert_eq!(results(&distilbert), ["logits: f32[3x2]"]);
    assert_eq!(weights(&distilbert), 139_266);

    // The table of the vocabulary is there once, although it is used twice.
    let roberta = Architecture::RobertaTiny.build(&options(1, 10)).unwrap();
    assert_eq!(results(&roberta), ["logits: f32[1x10x997]"]);
    assert_eq!(weights(&roberta), 140_453);
    assert_eq!(operations(&roberta)["cumsum"], 1);
}

#[test]
fn resnet50_has_its_layers() {
    let func = Architecture::Resnet50.build(&ArchOptions { batch: 2, seq: None }).unwrap();
    assert_eq!(results(&func), ["logits: f32[2x1000]"]);
    let found = operations(&func);
    assert_eq!((found["conv"], found["batch_norm"], found["relu"], found["add"]), (53, 53, 49, 17));
    // Means and variances of normalisation are no parameters, but weights here.
    assert_eq!(weights(&func), 25_557_032 + 2 * 26_560);
}

#[test]
fn the_classifier_has_the_encoder_that_is_there_alone() {
    let alone = Architecture::Distilbert.build(&options(1, 4)).unwrap();
    let classifier = Architecture::DistilbertSentiment.build(&options(1, 4)).unwrap();
    let named = |func: &Func, name: &str| {
        let (id, _) = func.values().find(|(_, v)| v.name == name).unwrap();
        func.constant(id).unwrap()
    };
    let name = "distilbert.transformer.layer.5.ffn.lin2.weight";
    assert!(named(&alone, name) == named(&classifier, name));
    assert_eq!(results(&alone), ["last_hidden_state: f32[1x4x768]"]);
    assert_eq!(results(&classifier), ["logits: f32[1x2]"]);
}

#[test]
fn sequences_begin_and_end_as_texts_do() {
    let first =
        |architecture: Architecture, options| architecture.sample_inputs(&options).unwrap()[0].to_i64().unwrap();
    let ids = first(Architecture::RobertaTiny, options(2, 6));
    assert_eq!((ids[0], ids[3], ids[5], ids[6], ids[9], ids[11]), (0, 996, 2, 0, 996, 2));
    assert!([1, 2, 4, 7, 8, 10].iter().all(|&i| (200..996).contains(&ids[i])), "{ids:?}");
    assert_ne!(ids[1], ids[7]);
    assert_eq!(first(Architecture::BertTiny, options(1, 1)), [101]);
    assert_eq!(first(Architecture::BertTiny, options(1, 2)), [101, 102]);
}

#[test]
fn sizes_have_limits() {
    let error = |architecture: Architecture, batch, seq| {
        architecture.build(&ArchOptions { batch, seq }).unwrap_err().to_string()
    };
    assert_eq!(error(Architecture::Bert, 1, Some(513)), "bert takes sequences of 1 to 512 tokens, not of 513");
    assert_eq!(error(Architecture::BertTiny, 1, Some(0)), "bert-tiny takes sequences of 1 to 64 tokens, not of 0");
    assert_eq!(error(Architecture::BertTiny, 0, None), "a batch of 0: expected 1 to 4096");
    assert_eq!(error(Architecture::BertTiny, u64::MAX, None), format!("a batch of {}: expected 1 to 4096", u64::MAX));
    let message = "resnet50 takes images, not sequences: give it no length of sequences";
    assert_eq!(error(Architecture::Resnet50, 1, Some(8)), message);
    let inputs = Architecture::BertTiny.inputs(&ArchOptions::default()).unwrap();
    assert_eq!(inputs[0].1.shape(), [1, 64]);
}
