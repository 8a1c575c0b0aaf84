//! Networks in folders as Hugging Face lays them out: results are PyTorch's, and what a folder may have wrong is an error.
//!
//! The folders in `pretrained/` were written by `tools/exporters/pretrained.py`.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_jit::Runtime;
use kiln_model::arch::ArchOptions;
use kiln_model::pretrained::{Pretrained, PretrainedError};
use kiln_model::{Bound, Tensor};
use serde_json::{Map, Value, json};

fn folders() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pretrained")
}

/// A copy of a folder, to be damaged.
fn copy(name: &str) -> tempfile::TempDir {
    let into = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(folders().join(name).join(file), into.path().join(file)).unwrap();
    }
    into
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Changes the configuration of a folder.
fn configure(folder: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let path = folder.join("config.json");
    let mut config = json(&path);
    change(config.as_object_mut().unwrap());
    fs::write(path, config.to_string()).unwrap();
}

/// The header of a file of weights as JSON, and the data behind it.
fn weights(folder: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

fn write_weights(path: &Path, header: &Value, data: &[u8]) {
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    fs::write(path, bytes).unwrap();
}

/// A matrix of token ids or of a mask.
fn matrix(value: &Value) -> Tensor {
    let rows: Vec<Vec<i64>> = serde_json::from_value(value.clone()).unwrap();
    let shape = [rows.len() as u64, rows[0].len() as u64];
    Tensor::from_elements(shape, rows.concat()).unwrap()
}

#[test]
fn results_are_those_of_pytorch() {
    let runtime = Runtime::builder().threads(2).build().unwrap();
    let mut names: Vec<_> = fs::read_dir(folders()).unwrap().map(|f| f.unwrap().path()).collect();
    names.sort();
    let mut compared = 0;
    for folder in &names {
        let expected = json(&folder.join("expected.json"));
        let pretrained = Pretrained::open(folder).unwrap();
        let given = &expected["inputs"];
        let options = match given.get("input_ids") {
            Some(ids) => ArchOptions { batch: 2, seq: Some(ids[0].as_array().unwrap().len() as u64) },
            None => ArchOptions::default(),
        };
        // What PyTorch is not given is zeros, or noise that everybody can make.
        let samples = pretrained.inputs(&options).unwrap().into_iter().zip(pretrained.sample_inputs(&options).unwrap());
        let inputs: Vec<Tensor> = samples.map(|((name, _), sample)| given.get(name).map_or(sample, matrix)).collect();
        let network = Bound::from_pretrained(&pretrained, &options).unwrap().compile(&runtime).unwrap();
        let results = network.run(&inputs).unwrap();
        let names: Vec<String> = network.outputs().map(|(name, _)| name.to_owned()).collect();
        let outputs = expected["outputs"].as_object().unwrap();
        assert_eq!(names.len(), outputs.len(), "{}", folder.display());
        for (name, result) in names.iter().zip(&results) {
            let wanted: Vec<f64> = serde_json::from_value(outputs[name]["elements"].clone()).unwrap();
            let shape: Vec<u64> = serde_json::from_value(outputs[name]["shape"].clone()).unwrap();
            assert_eq!(result.ty().shape(), shape);
            let largest = wanted.iter().fold(0f64, |m, x| m.max(x.abs()));
            let found = result.to_f64();
            let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= 2e-5 * largest;
            let are_close = found.iter().zip(&wanted).all(is_close);
            assert!(largest > 0.0 && are_close, "{} {name}: {found:?}, expected {wanted:?}", folder.display());
            compared += 1;
        }
    }
    assert_eq!((names.len(), compared), (12, 13));
}

/// Opens a folder and builds its network.
fn build(folder: &Path) -> Result<(), String> {
    let pretrained = Pretrained::open(folder).map_err(|e| e.to_string())?;
    let options = ArchOptions { batch: 1, seq: pretrained.max_seq().map(|_| 4) };
    pretrained.build(&options).map(drop).map_err(|e| e.to_string())
}

#[test]
fn several_files_are_one_network() {
    let folder = copy("roberta_classes");
    let (header, data) = weights(folder.path());
    let one = Pretrained::open(folder.path()).unwrap();
    let mut map = Map::new();
    let mut parts = [(Map::new(), vec![]), (Map::new(), vec![])];
    for (i, (name, entry)) in header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__").enumerate()
    {
        let range: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone()).unwrap();
        let (part, bytes) = &mut parts[i % 2];
        let start = bytes.len();
        bytes.extend(&data[range[0]..range[1]]);
        let mut entry = entry.clone();
        entry["data_offsets"] = json!([start, bytes.len()]);
        part.insert(name.clone(), entry);
        map.insert(name.clone(), json!(format!("model-{}.safetensors", i % 2)));
    }
    for (i, (header, data)) in parts.iter().enumerate() {
        write_weights(&folder.path().join(format!("model-{i}.safetensors")), &Value::Object(header.clone()), data);
    }
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    let options = ArchOptions { batch: 1, seq: Some(4) };
    let several = Pretrained::open(folder.path()).unwrap();
    assert_eq!(several.build(&options).unwrap(), one.build(&options).unwrap());

    fs::write(&index, json!({ "weight_map": { "a": "../model.safetensors" } }).to_string()).unwrap();
    let error = build(folder.path()).unwrap_err();
    assert!(error.contains("`../model.safetensors` is no file of this folder"), "{error}");
}

#[test]
fn configurations_that_cannot_be_built_are_refused_by_name() {
    let cases: [(&str, &str, Value, &str); 13] = [
        ("bert", "model_type", json!("gpt2"), "`model_type` is gpt2: supported is bert, distilbert"),
        ("bert", "hidden_act", json!("tanh"), "`hidden_act` is tanh"),
        ("bert", "is_decoder", json!(true), "`is_decoder` is true"),
        ("bert", "position_embedding_type", json!("relative_key"), "`position_embedding_type` is relative_key"),
        ("bert", "architectures", json!(["BertForPreTraining"]), "`architectures` is BertForPreTraining"),
        ("bert", "num_attention_heads", json!(0), "`num_attention_heads` is 0"),
        ("bert", "num_attention_heads", json!(3), "`num_attention_heads` is 3"),
        ("bert", "num_hidden_layers", json!(u64::MAX), "`encoder.layer.2.attention.self.query.weight`: no file"),
        ("bert", "hidden_size", json!(1u64 << 62), "weight `embeddings.word_embeddings.weight`"),
        ("bert", "vocab_size", json!(41), "it is [40, 16], and the configuration says [41, 16]"),
        ("bert", "hidden_size", json!(-1), "invalid value"),
        ("bert_fill_mask", "tie_word_embeddings", json!(false), "`tie_word_embeddings` is false"),
        ("roberta_classes", "pad_token_id", json!(u64::MAX), "`max_position_embeddings` is 20"),
    ];
    for (network, setting, value, expected) in cases {
        let folder = copy(network);
        assert_eq!(build(folder.path()), Ok(()));
        configure(folder.path(), |config| _ = config.insert(setting.into(), value));
        let error = build(folder.path()).unwrap_err();
        assert!(error.contains(expected), "{setting}: {error}");
    }
    for (setting, value, expected) in [
        ("architecture", json!("resnet18"), "`architecture` is resnet18"),
        ("global_pool", json!("max"), "`global_pool` is max"),
        ("model_args", json!({ "num_classes": 3, "act_layer": "silu" }), "`model_args` is act_layer=\"silu\""),
        ("model_args", json!({ "in_chans": 1 }), "`model_args` is in_chans=1"),
        // What timm writes of the network itself is passed, and the weights of this folder are others.
        ("model_args", json!({ "num_classes": 3, "in_chans": 3, "global_pool": "avg" }), "`fc.weight` is not there"),
    ] {
        let folder = copy("resnet");
        configure(folder.path(), |config| {
            config.clear();
            config.insert("architecture".into(), json!("resnet50"));
            config.insert(setting.into(), value);
        });
        let error = build(folder.path()).unwrap_err();
        assert!(error.contains(expected), "{setting}: {error}");
    }
    for (setting, value) in [
        ("layer_type", json!("basic")),
        ("depths", json!([1])),
        ("hidden_sizes", json!([16, 3])),
        ("downsample_in_bottleneck", json!(true)),
    ] {
        let folder = copy("resnet");
        configure(folder.path(), |config| _ = config.insert(setting.into(), value));
        assert!(matches!(Pretrained::open(folder.path()), Err(PretrainedError::Setting { .. })), "{setting}");
    }
}

#[test]
fn damaged_files_of_weights_are_refused() {
    let folder = copy("bert_classes");
    let path = folder.path().join("model.safetensors");
    let good = fs::read(&path).unwrap();
    let (header, data) = weights(folder.path());
    let refused = |what: &str| {
        let error = build(folder.path()).unwrap_err();
        assert!(error.contains("model.safetensors"), "{what}: {error}");
    };
    // Cut off anywhere in the header, and in the data.
    for length in (0..good.len()).step_by(good.len() / 60) {
        fs::write(&path, &good[..length]).unwrap();
        refused("cut off");
    }
    for length in [u64::MAX, 1 << 40, good.len() as u64, 1] {
        fs::write(&path, [&length.to_le_bytes(), &good[8..]].concat()).unwrap();
        refused("a header that says to be longer or shorter");
    }
    let names: Vec<String> = header.as_object().unwrap().keys().filter(|k| *k != "__metadata__").cloned().collect();
    for (what, offsets) in [
        ("overlap", json!([0, 8])),
        ("backwards", json!([16, 8])),
        ("outside", json!([data.len(), data.len() + 64])),
        ("overflow", json!([u64::MAX - 8, u64::MAX])),
    ] {
        let mut header = header.clone();
        header[&names[1]]["data_offsets"] = offsets;
        write_weights(&path, &header, &data);
        refused(what);
    }
    let mut large = header.clone();
    large[&names[0]]["shape"] = json!([u64::MAX, u64::MAX]);
    write_weights(&path, &large, &data);
    refused("a shape that overflows");
    // The data goes on behind what the header tells of.
    write_weights(&path, &header, &[&data[..], &[0; 64]].concat());
    refused("longer than its tensors");
    fs::write(&path, good).unwrap();
    assert_eq!(build(folder.path()), Ok(()));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_file_of_weights() {
    let folder = copy("bert");
    let path = folder.path().join("model.safetensors");
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(!Pretrained::is_folder(folder.path()));
    assert!(matches!(Pretrained::open(folder.path()), Err(PretrainedError::File { .. })));
}
