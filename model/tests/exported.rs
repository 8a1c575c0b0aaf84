//! Networks as both of PyTorch's exporters write them: results are PyTorch's own, in double precision.
//!
//! The archive is a sample that `tools/exporters/sample.py` makes of all networks that `tools/exporters/export.py` exports: the
//! smallest with which each exporter has all of its operators. `docs/onnx-conformance.md` has the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kiln_jit::Runtime;
use kiln_model::Bound;
use kiln_onnx::{Model, TestSet};

const ARCHIVE: &[u8] = include_bytes!("exported.tar.gz");

/// The largest difference that is allowed, as a part of the largest magnitude of an output.
const TOLERANCE: f64 = 2e-5;

/// The exporters, by the ends of the names of tests, with the number of operators that each writes.
const EXPORTERS: [(&str, usize); 2] = [("dynamo", 53), ("torchscript", 57)];

#[test]
fn results_are_those_of_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(ARCHIVE)).unpack(folder.path()).unwrap();
    let mut tests: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    tests.sort();
    let runtime = Runtime::builder().threads(2).build().unwrap();
    let mut operators: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for test in &tests {
        let name = test.file_name().unwrap().to_str().unwrap();
        let [shapes, exporter, _] = name.rsplitn(3, '_').collect::<Vec<_>>()[..] else { panic!("{name}") };
        kinds.insert((exporter.to_owned(), shapes.to_owned()));
        let path = test.join("model.onnx");
        let model = Model::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let nodes = model.graph.nodes.iter().map(|node| (node.domain.clone(), node.op.clone()));
        operators.entry(exporter.into()).or_default().extend(nodes);
        let set = TestSet::read(&test.join("test_data_set_0")).unwrap();
        let bound = Bound::from(set.import(&model).unwrap_or_else(|e| panic!("{name}: {e}")));
        let network = bound.compile(&runtime).unwrap_or_else(|e| panic!("{name}: {e}"));
        let results = network.run(&set.inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!results.is_empty() && results.len() == set.outputs.len(), "{name}");
        for (result, expected) in results.iter().zip(&set.outputs) {
            assert_eq!(result.ty(), expected.ty(), "{name}");
            let (found, wanted) = (result.to_f64(), expected.to_f64());
            let largest = wanted.iter().fold(0f64, |most, x| most.max(x.abs()));
            assert!(largest > 0.0 && largest.is_finite(), "{name} shows nothing");
            let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * largest;
            let wrong = found.iter().zip(&wanted).position(|pair| !is_close(pair));
            assert_eq!(wrong, None, "{name}: {:?} of {largest}", wrong.map(|at| (found[at], wanted[at])));
        }
    }
    assert_eq!(tests.len(), TESTS);
    let found: Vec<_> = operators.iter().map(|(exporter, all)| (exporter.as_str(), all.len())).collect();
    assert_eq!(found, EXPORTERS);
    let shapes = ["dynamic", "static"];
    let wanted = EXPORTERS.iter().flat_map(|(name, _)| shapes.map(|shapes| ((*name).into(), shapes.into())));
    assert_eq!(kinds, wanted.collect());
}

/// Tests in the archive.
const TESTS: usize = 16;
