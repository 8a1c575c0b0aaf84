//! Tests of operators whose expectations are from outside: of ONNX's reference implementation, and of ONNX Runtime. The archive is a
//! sample that `tools/onnx_cases.py` makes of all of them; `docs/onnx-conformance.md` has the whole.

use std::collections::BTreeSet;
use std::fs;

use kiln_jit::Runtime;
use kiln_model::{Bound, ElementType, Tensor};
use kiln_onnx::{Model, TestSet, operators};

const ARCHIVE: &[u8] = include_bytes!("conformance.tar.gz");

/// The largest difference as a part of the largest magnitude; of types of 16 bits, of their last place.
fn tolerance(name: &str, element: ElementType) -> f64 {
    match element {
        // These expectations are written with four digits.
        ElementType::F32 if name.starts_with("test_roialign") => 1e-4,
        ElementType::Bf16 => 1.0 / 128.0,
        ElementType::F16 => 1.0 / 1024.0,
        element if element.is_float() => 1e-5,
        _ => 0.0,
    }
}

/// The fault of a result, if it has one.
fn difference(name: &str, found: &Tensor, expected: &Tensor) -> Option<String> {
    if found.ty() != expected.ty() {
        return Some(format!("{}, expected {}", found.ty(), expected.ty()));
    }
    if found.data() == expected.data() {
        return None;
    }
    let element = expected.ty().element();
    if !element.is_float() {
        let pairs = found.data().chunks(element.bytes()).zip(expected.data().chunks(element.bytes()));
        let wrong = pairs.enumerate().find(|(_, (a, b))| a != b).map_or(0, |(at, _)| at);
        return Some(format!("element {wrong} is {}, expected {}", found.to_f64()[wrong], expected.to_f64()[wrong]));
    }
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let greatest = expected.iter().filter(|v| v.is_finite()).fold(0.0, |most: f64, v| most.max(v.abs()));
    let allowed = tolerance(name, element) * greatest;
    let close = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= allowed;
    let wrong = found.iter().zip(&expected).position(|(a, b)| !close(*a, *b))?;
    Some(format!("element {wrong} is {}, expected {}", found[wrong], expected[wrong]))
}

#[test]
fn operators_are_as_others_have_them() {
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(ARCHIVE)).unpack(folder.path()).unwrap();
    let mut tests: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    tests.sort();
    let runtime = Runtime::builder().build().unwrap();
    let (mut wrong, mut seen) = (vec![], BTreeSet::new());
    for test in &tests {
        let name = test.file_name().unwrap().to_string_lossy();
        let path = test.join("model.onnx");
        let model = Model::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        seen.extend(model.graph.nodes.iter().map(|node| (node.domain.clone(), node.op.clone())));
        let sets = TestSet::beside(&path);
        assert!(!sets.is_empty(), "{name} has no data");
        for set in sets {
            let set = TestSet::read(&set).unwrap_or_else(|e| panic!("{name}: {e}"));
            let bound = set.import(&model).map(Bound::from).map_err(|e| e.to_string());
            let network = bound.and_then(|bound| bound.compile(&runtime).map_err(|e| e.to_string()));
            let results = network.and_then(|network| network.run(&set.inputs).map_err(|e| e.to_string()));
            let results = match results {
                Ok(results) => results,
                Err(e) => {
                    wrong.push(format!("{name}: {e}"));
                    continue;
                }
            };
            assert_eq!(results.len(), set.outputs.len(), "{name}");
            let differences = results.iter().zip(&set.outputs).filter_map(|(a, b)| difference(&name, a, b));
            wrong.extend(differences.map(|why| format!("{name}: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} tests:\n{}", wrong.len(), tests.len(), wrong.join("\n"));
    println!("{} tests of {} operators", tests.len(), seen.len());
    assert_eq!(tests.len(), TESTS);
    let untested: Vec<_> = operators()
        .into_iter()
        .filter(|o| !seen.contains(&(o.domain.to_owned(), o.name.to_owned())))
        .map(|o| format!("{}.{}", o.domain, o.name))
        .collect();
    assert!(untested.is_empty(), "operators without a test: {untested:?}");
}

/// Tests in the archive.
const TESTS: usize = 602;
