use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::kernel::Kernel;
use crate::weights::PackedWeights;
use crate::{Args, Options, Runtime, RuntimeError};

const IC: usize = 48;
const OC: usize = 64;

fn kernel(runtime: &Runtime, text: &str) -> Arc<Kernel> {
    let options = Options { constant_weights: true, ..Options::default() };
    runtime.kernel_with(&text.parse().unwrap(), &options).unwrap()
}

fn weights(first: f32) -> Vec<f32> {
    (0..IC * OC).map(|i| first + (i % 61) as f32).collect()
}

/// Which the weights are that begin with a number.
fn id(number: usize) -> WeightsId {
    WeightsId::of(&weights(number as f32))
}

struct Fixture {
    runtime: Runtime,
    kernel: Arc<Kernel>,
    folder: TempDir,
}

/// A file with two packed weights, numbers 1 and 2.
fn fixture() -> Fixture {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let kernel = kernel(&runtime, "ip f32 mb64ic48oc64");
    let folder = TempDir::new().unwrap();
    let packed = [1.0, 2.0].map(|first| kernel.pack_weights(&weights(first)).unwrap());
    let all = [1, 2, 1].map(|number| (id(number), &packed[number - 1]));
    write_weights(folder.path().join("w"), all).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    Fixture { runtime, kernel, folder }
}

impl Fixture {
    fn get(&self, pack: &WeightsPack, number: usize) -> Option<PackedWeights> {
        self.runtime.packed_weights_of(pack, &self.kernel, id(number)).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("w")).unwrap()
    }

    /// The reason why `bytes` are no pack, or the weights in it are none.
    fn refusal(&self, bytes: Vec<u8>) -> Option<String> {
        let pack = match WeightsPack::parse(bytes) {
            Ok(pack) => pack,
            Err(e) => return Some(e.to_string()),
        };
        let missing = [1, 2].into_iter().any(|number| self.get(&pack, number).is_none());
        pack.verify().err().map(|e| e.to_string()).or(missing.then(|| "missing".into()))
    }
}

/// With a manifest changed, and the checksum that it has.
fn with_manifest(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let end = HEADER + u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let manifest = String::from_utf8(bytes[HEADER..end].to_vec()).unwrap();
    assert!(manifest.contains(from), "{from} in {manifest}");
    let manifest = manifest.replacen(from, to, 1);
    let mut changed = [&bytes[..HEADER], manifest.as_bytes()].concat();
    let covered = changed.len();
    assert!(covered <= PAGE);
    changed.resize(PAGE, 0);
    changed.extend(&bytes[PAGE..]);
    let len = changed.len() as u64;
    header::write(&mut changed, MAGIC, FORMAT, len, manifest.len(), covered);
    changed
}

#[test]
fn weights_come_back_as_they_were() {
    let f = fixture();
    let pack = WeightsPack::open(f.folder.path().join("w")).unwrap();
    assert_eq!((pack.len(), pack.bytes()), (2, f.bytes().len()));
    let before = f.runtime.stats().packed_bytes;
    for (number, first) in [(1, 1.0), (2, 2.0)] {
        let found = f.get(&pack, number).unwrap();
        assert_eq!(found.as_bytes(), f.kernel.pack_weights(&weights(first)).unwrap().as_bytes());
        assert_eq!(f.runtime.stats().packed_bytes, before + found.bytes());
        let mut dst = vec![0.0; 64 * OC];
        f.kernel.run(Args::new(&vec![1.0; 64 * IC], &found, &mut dst)).unwrap();
        assert_eq!(dst[0], weights(first)[..IC].iter().sum::<f32>());
    }
    assert_eq!(f.runtime.stats().packed_bytes, before);
    assert!(f.get(&pack, 3).is_none());
    // Whoever has the same ones shares them, from a pack or not.
    let (first, again) = (f.get(&pack, 1).unwrap(), f.get(&pack, 1).unwrap());
    let packed = f.runtime.packed_weights(&f.kernel, id(1), &weights(1.0)).unwrap();
    assert!([&again, &packed].iter().all(|w| w.as_bytes().as_ptr() == first.as_bytes().as_ptr()));
    assert_eq!(f.runtime.stats().packed_bytes, before + first.bytes());
    drop((first, again, packed));
    assert_eq!(f.runtime.stats().packed_bytes, before);
    // Bytes that are not aligned are copied.
    let shifted = Bytes::from([&[0], &f.bytes()[..]].concat()).slice(1..);
    let found = f.get(&WeightsPack::parse(shifted).unwrap(), 1).unwrap();
    assert!(found.as_bytes().as_ptr().addr().is_multiple_of(64));
    assert_eq!(found.as_bytes(), f.kernel.pack_weights(&weights(1.0)).unwrap().as_bytes());
    assert!(WeightsPack::default().is_empty());
}

#[test]
fn a_file_that_changes_after_it_was_opened_is_an_error() {
    let f = fixture();
    let (path, good) = (f.folder.path().join("w"), f.bytes());
    let before = f.runtime.stats().packed_bytes;
    let mut damaged = good.clone();
    damaged[PAGE] ^= 1;
    // In place, as no careful program does.
    for (bytes, why) in [(&good[..PAGE + 8], "fill whole buffer"), (&damaged, "damaged"), (b"", "fill whole buffer")] {
        fs::write(&path, &good).unwrap();
        let pack = WeightsPack::open(&path).unwrap();
        let first = pack.records.values().map(|record| record.place.start).min();
        let number = [1, 2]
            .into_iter()
            .find(|n| pack.find(id(*n), &f.kernel.packing().unwrap()).map(|found| found.record.place.start) == first);
        fs::write(&path, bytes).unwrap();
        let e = f.runtime.packed_weights_of(&pack, &f.kernel, id(number.unwrap())).unwrap_err();
        assert!(matches!(&e, RuntimeError::WeightsPack { path: p, .. } if *p == path), "{e}");
        assert!(e.to_string().contains(why), "{e}");
        assert!(pack.verify().is_err());
        assert_eq!(f.runtime.stats().packed_bytes, before, "nothing is held");
    }
    // A file that is replaced is another: the one that was opened stays.
    fs::write(&path, &good).unwrap();
    let pack = WeightsPack::open(&path).unwrap();
    write_weights(&path, []).unwrap();
    assert!(f.get(&pack, 1).is_some() && f.get(&pack, 2).is_some());
}

#[test]
fn mapped_weights_are_used_where_they_are() {
    let f = fixture();
    let path = f.folder.path().join("w");
    // SAFETY: nobody writes to the file before the pack and its weights are dropped.
    let pack = unsafe { WeightsPack::map(&path) }.unwrap();
    let Source::Memory(bytes) = &pack.source else { panic!("it is mapped") };
    let found = f.get(&pack, 1).unwrap();
    assert!(bytes.as_ptr_range().contains(&found.as_bytes().as_ptr()), "it is not copied");
    assert_eq!(found.as_bytes(), f.kernel.pack_weights(&weights(1.0)).unwrap().as_bytes());
    fs::write(f.folder.path().join("empty"), "").unwrap();
    for none in ["empty", "nothing", "."] {
        // SAFETY: as above.
        assert!(unsafe { WeightsPack::map(f.folder.path().join(none)) }.is_err(), "{none}");
    }
}

#[test]
fn weights_of_another_packing_are_others() {
    let f = fixture();
    let pack = WeightsPack::open(f.folder.path().join("w")).unwrap();
    // Of any number of rows, but not of other columns, nor of the transpose.
    let like = Options {
        constant_weights: true,
        weights_layout: f.kernel.weights_layout().cloned().map(Into::into),
        ..Options::default()
    };
    let found = |text: &str| {
        let kernel = f.runtime.kernel_with(&text.parse().unwrap(), &like).unwrap();
        f.runtime.packed_weights_of(&pack, &kernel, id(1)).unwrap().is_some()
    };
    assert!(found("ip f32 mb7ic48oc64") && !found("matmul f32 64x48:48x64"));
    let other = kernel(&f.runtime, "ip f32 mb64ic64oc48");
    assert!(f.runtime.packed_weights_of(&pack, &other, id(1)).unwrap().is_none());
    let plain = f.runtime.kernel(&"ip f32 mb64ic48oc64".parse().unwrap()).unwrap();
    assert!(f.runtime.packed_weights_of(&pack, &plain, id(1)).is_err(), "it reads its weights in place");
    let limited = Runtime::builder().threads(1).packed_limit(100).build().unwrap();
    let e = limited.packed_weights_of(&pack, &kernel(&limited, "ip f32 mb64ic48oc64"), id(1)).unwrap_err();
    assert!(matches!(e, RuntimeError::PackedLimit { .. }), "{e}");
}

#[test]
fn equal_weights_give_equal_files() {
    let f = fixture();
    let packed = [1.0, 2.0].map(|first| f.kernel.pack_weights(&weights(first)).unwrap());
    let path = f.folder.path().join("again");
    write_weights(&path, [2, 1].map(|number| (id(number), &packed[number - 1]))).unwrap();
    assert_eq!(fs::read(&path).unwrap(), f.bytes());
    assert!(write_weights(f.folder.path().join("none/w"), []).is_err());
    let none = f.folder.path().join("empty");
    write_weights(&none, []).unwrap();
    assert!(WeightsPack::open(none).unwrap().is_empty());
    // A number may stand for others in another process.
    let e = write_weights(&path, [(WeightsId::from(1), &packed[0])]).unwrap_err();
    assert!(e.to_string().contains("WeightsId::of"), "{e}");
}

/// Every kind of packing: types of panels, taps and groups.
#[test]
fn all_packings_go_through_a_file() {
    let (f, folder) = (fixture(), TempDir::new().unwrap());
    let path = folder.path().join("w");
    for text in ["ip bf16 mb64ic48oc64", "ip f32 mb64ic48oc64 fpmath=bf16", "conv f32 mb1g2ic16ih9oc32kh3ph1"] {
        let kernel = kernel(&f.runtime, text);
        let problem = kernel.problem();
        let elements = problem.operands()[1].len() as usize;
        let values: Vec<f32> = (0..elements).map(|i| (i % 61) as f32).collect();
        let halves: Vec<crate::bf16> = values.iter().map(|v| crate::bf16::from_f32(*v)).collect();
        let weights =
            if text.starts_with("ip bf16") { crate::Input::from(&halves) } else { crate::Input::from(&values) };
        let (id, packed) = (WeightsId::of(weights), kernel.pack_weights(weights).unwrap());
        write_weights(&path, [(id, &packed)]).unwrap();
        let pack = WeightsPack::open(&path).unwrap();
        let found = f.runtime.packed_weights_of(&pack, &kernel, id).unwrap().unwrap();
        assert_eq!(found.as_bytes(), packed.as_bytes(), "{text}");
        pack.verify().unwrap();
    }
}

#[test]
fn what_is_changed_is_noticed() {
    let f = fixture();
    let good = f.bytes();
    assert_eq!(f.refusal(good.clone()), None);
    let manifest = HEADER + u64::from_le_bytes(good[40..48].try_into().unwrap()) as usize;
    let weights = PAGE..PAGE + f.kernel.weights_layout().unwrap().bytes() as usize;
    for at in (0..manifest).chain(weights.step_by(97)) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(f.refusal(bytes).is_some(), "byte {at}");
    }
    for len in (0..manifest).chain([PAGE, good.len() - 1]) {
        assert!(f.refusal(good[..len].to_vec()).is_some(), "{len} bytes");
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let f = fixture();
    let good = f.bytes();
    let bytes = f.kernel.weights_layout().unwrap().bytes();
    let with = |from: &str, to: &str| with_manifest(&good, from, to);
    let pages = bytes.div_ceil(PAGE as u64);
    let second = format!("\"page\":{}", 1 + pages);
    let mut damaged = good.clone();
    damaged[PAGE] ^= 1;
    for (bytes, why) in [
        (b"KILNPACK, but this is too short for anything and has no weights".to_vec(), "not a pack of weights"),
        (vec![], "not a pack of weights"),
        (with(VERSION, "0.0.1+other"), "0.0.1+other"),
        (with(&second, &format!("\"page\":{}", 1 + 2 * pages)), "not inside"),
        (with(&second, &format!("\"page\":{}", usize::MAX)), "not inside"),
        (with(&format!("\"bytes\":{bytes}"), &format!("\"bytes\":{}", usize::MAX)), "not inside"),
        (with(&format!("\"bytes\":{bytes}"), &format!("\"bytes\":{}", bytes - 4)), "damaged"),
        (with("\"hash\":\"", "\"hash\":\"z"), "not inside"),
        (with("\"page\"", "\"place\""), "malformed"),
        (damaged, "damaged"),
    ] {
        let refusal = f.refusal(bytes).unwrap_or_default();
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
    let e = WeightsPack::open("/nonexistent/weights").unwrap_err();
    assert!(matches!(&e, PackError::Read(_)), "{e}");
}
