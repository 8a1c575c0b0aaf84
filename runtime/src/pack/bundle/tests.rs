use std::fs;

use tempfile::TempDir;

use kiln_compiler::Target;

use super::super::parts::Parts;
use super::super::tests::packages;
use super::*;
use crate::pack::{Contents, Pack, PackError, WeightsPack, write};
use crate::{Options, Runtime};

const TARGETS: [&str; 3] = ["neoverse-v2", "neoverse-v1", "x86-64-v3"];
const PROBLEMS: [&str; 3] = ["ip f32 mb8ic48oc64", "ip f32 mb64ic48oc64", "matmul f32 3x5:5x7"];

fn target(name: &str) -> Target {
    name.parse().unwrap()
}

fn all_packages() -> Vec<Package> {
    TARGETS.iter().flat_map(|name| packages(&target(name), &PROBLEMS)).collect()
}

/// The weights of a package, packed for it.
fn packed(package: &Package) -> Option<(WeightsId, PackedWeights)> {
    let weights: Vec<f32> = (0..48 * 64).map(|i| (i % 61) as f32).collect();
    package.packed_layout()?;
    Some((WeightsId::of(&weights), PackedWeights::for_package(package, &weights).unwrap()))
}

/// A bundle for three targets, with weights for all of them, each layout twice.
fn bundle(folder: &TempDir) -> std::path::PathBuf {
    let (path, packages) = (folder.path().join("all"), all_packages());
    let weights: Vec<_> = packages.iter().filter_map(packed).collect();
    write_bundle(&path, &packages, weights.iter().chain(&weights).map(|(id, packed)| (*id, packed))).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    path
}

#[test]
fn each_target_finds_its_kernels() {
    let folder = TempDir::new().unwrap();
    let path = bundle(&folder);
    let Contents { kernels, weights } = Contents::open(&path).unwrap();
    let names: Vec<String> = kernels.iter().map(|pack| pack.target().to_string()).collect();
    assert_eq!(names, ["neoverse-v1", "neoverse-v2", "x86-64-v3"]);
    for name in TARGETS {
        let pack = Pack::open_for(&path, &target(name)).unwrap();
        let alone = folder.path().join(name);
        write(&alone, &target(name), &packages(&target(name), &PROBLEMS)).unwrap();
        assert_eq!(pack.bytes(), Pack::open(&alone).unwrap().bytes(), "it is a pack like one by itself");
        for package in pack.packages() {
            let package = package.unwrap();
            let same = |p: &Package| p.facts() == package.facts() && p.image() == package.image();
            assert!(packages(&target(name), &PROBLEMS).iter().any(same));
        }
        // A pack by itself is taken as well.
        assert_eq!(Pack::open_for(&alone, &target(name)).unwrap().len(), 3);
        assert!(matches!(Pack::open_for(&alone, &target("sve512")), Err(PackError::Target { .. })));
    }
    let e = Pack::open_for(&path, &target("neoverse-n1")).unwrap_err().to_string();
    assert!(e.contains("neoverse-v1, neoverse-v2, x86-64-v3") && e.contains("--target neoverse-n1"), "{e}");
    // Layouts are those of the targets, whatever the number of rows.
    let layouts: std::collections::HashSet<_> =
        all_packages().iter().filter_map(|p| p.packed_layout().cloned()).collect();
    let weights = weights.unwrap();
    assert!(!weights.is_empty() && weights.len() <= layouts.len(), "{} of {}", weights.len(), layouts.len());
    weights.verify().unwrap();
}

#[test]
fn a_runtime_takes_kernels_and_weights_from_a_bundle() {
    let folder = TempDir::new().unwrap();
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let mut all = all_packages();
    all.retain(|package| package.facts().target != *runtime.target());
    all.extend(packages(runtime.target(), &PROBLEMS));
    let path = folder.path().join("all");
    let weights: Vec<_> = all.iter().filter_map(packed).collect();
    write_bundle(&path, &all, weights.iter().map(|(id, packed)| (*id, packed))).unwrap();

    // SAFETY: the test wrote the file itself, of compiled kernels, into a directory of its own.
    let with = unsafe { Runtime::builder().threads(1).pack(&path) }.build().unwrap();
    let pack = WeightsPack::open(&path).unwrap();
    // SAFETY: nobody writes to the file before the pack and its weights are dropped.
    let mapped = unsafe { WeightsPack::map(&path) }.unwrap();
    let options = Options { constant_weights: true, ..Options::default() };
    let mut found = 0;
    for problem in PROBLEMS {
        let kernel = with.kernel_with(&problem.parse().unwrap(), &options).unwrap();
        let Some(package) =
            all.iter().find(|p| p.facts().target == *runtime.target() && p.facts().problem == *kernel.problem())
        else {
            panic!("{problem} is packed")
        };
        let Some((id, packed)) = packed(package) else { continue };
        for pack in [&pack, &mapped] {
            let weights = with.packed_weights_of(pack, &kernel, id).unwrap().expect("they are in the bundle");
            assert_eq!(weights.as_bytes(), packed.as_bytes());
        }
        // Those that the kernel itself packs are the same bytes.
        let values: Vec<f32> = (0..48 * 64).map(|i| (i % 61) as f32).collect();
        assert_eq!(kernel.pack_weights(&values).unwrap().as_bytes(), packed.as_bytes());
        found += 1;
    }
    assert_eq!(with.stats().from_files, 3);
    assert!(found > 0, "some kernel reads packed weights");
}

#[test]
fn equal_contents_give_equal_files() {
    let folder = TempDir::new().unwrap();
    let (path, again) = (bundle(&folder), folder.path().join("again"));
    let mut packages = all_packages();
    packages.reverse();
    let mut weights: Vec<_> = packages.iter().filter_map(packed).collect();
    weights.reverse();
    write_bundle(&again, &packages, weights.iter().map(|(id, packed)| (*id, packed))).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());
    // Empty ones, and parts alone.
    write_bundle(&again, [], []).unwrap();
    let Contents { kernels, weights } = Contents::open(&again).unwrap();
    assert!(kernels.is_empty() && weights.is_none());
    assert!(matches!(WeightsPack::open(&again), Err(PackError::NoWeights)));
    assert!(Pack::open_for(&again, &target("neoverse-v1")).unwrap().is_empty(), "it lacks nothing that was packed");
    write_bundle(&again, &packages[..1], []).unwrap();
    assert_eq!(Contents::open(&again).unwrap().kernels.len(), 1);
}

#[test]
fn what_is_changed_is_noticed() {
    let folder = TempDir::new().unwrap();
    let good = fs::read(bundle(&folder)).unwrap();
    let is_good = |bytes: Vec<u8>| match Contents::parse(bytes) {
        Ok(contents) => {
            let weights = contents.weights.expect("its manifest says so");
            weights.verify().is_ok()
        }
        Err(_) => false,
    };
    assert!(is_good(good.clone()));
    let manifest = HEADER + u64::from_le_bytes(good[40..48].try_into().unwrap()) as usize;
    let parts = Parts::read(std::io::Cursor::new(&good), good.len() as u64).unwrap().unwrap();
    let of_kernels = parts.targets().flat_map(|(_, place)| (place.start as usize..place.end as usize).step_by(61));
    // What follows the manifest of the weights, up to the first, means nothing.
    let weights = parts.weights().unwrap();
    let inner = weights.start as usize + HEADER + {
        let at = weights.start as usize + 40;
        u64::from_le_bytes(good[at..at + 8].try_into().unwrap()) as usize
    };
    for at in (0..manifest).chain(of_kernels).chain(weights.start as usize..inner) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(!is_good(bytes), "byte {at}");
    }
    for len in (0..good.len()).step_by(257) {
        assert!(!is_good(good[..len].to_vec()), "{len} bytes");
    }
}

#[test]
fn parts_outside_the_file_are_refused() {
    let folder = TempDir::new().unwrap();
    let good = fs::read(bundle(&folder)).unwrap();
    let with = |from: &str, to: &str| {
        let end = HEADER + u64::from_le_bytes(good[40..48].try_into().unwrap()) as usize;
        let manifest = String::from_utf8(good[HEADER..end].to_vec()).unwrap();
        assert!(manifest.contains(from), "{from} in {manifest}");
        let manifest = manifest.replacen(from, to, 1);
        let mut bytes = [&good[..HEADER], manifest.as_bytes()].concat();
        let covered = bytes.len();
        bytes.resize(PAGE, 0);
        bytes.extend(&good[PAGE..]);
        let len = bytes.len() as u64;
        header::write(&mut bytes, MAGIC, FORMAT, len, manifest.len(), covered);
        Contents::parse(bytes).unwrap_err().to_string()
    };
    for (from, to, why) in [
        ("\"page\":1", "\"page\":0", "not inside"),
        ("\"page\":1", "\"page\":18446744073709551615", "not inside"),
        ("\"page\":1", "\"page\":4503599627370495", "not inside"),
        ("\"bytes\":", "\"bytes\":9", "not inside"),
        ("\"page\":1", "\"page\":2", "not a kernel pack"),
        ("neoverse-v1", "neoverse-n1", "is for neoverse-v1"),
        ("\"page\"", "\"place\"", "malformed"),
        ("neoverse-v2", "neoverse-v1", "two parts for one target"),
        ("\"target\":\"neoverse-v1\",", "", "two of weights"),
    ] {
        let e = with(from, to);
        assert!(e.contains(why), "{to}: {e}");
    }
}
