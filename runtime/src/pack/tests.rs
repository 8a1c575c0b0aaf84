use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kiln_compiler::{Options, Package, Target, VERSION, compile};
use tempfile::TempDir;

use super::header::{self, ALIGN, HEADER};
use super::kernels::MAGIC;
use super::*;
use crate::key::Key;
use crate::{Args, Notice, Runtime, RuntimeBuilder, RuntimeError, Stats, cpu};

pub(super) fn packages(target: &Target, problems: &[&str]) -> Vec<Package> {
    let options = Options { constant_weights: true, ..Options::default() };
    let package = |p: &&str| Package::of(&compile(&p.parse().unwrap(), target, &options).unwrap(), &options);
    problems.iter().map(package).collect()
}

pub(super) fn v1() -> Target {
    "neoverse-v1".parse().unwrap()
}

pub(super) fn key(package: &Package) -> Key {
    Key { problem: package.facts().problem.clone(), options: package.facts().options.clone() }
}

/// A pack of one kernel for a machine that no test runs on.
fn small() -> Vec<u8> {
    to_bytes(&v1(), &packages(&v1(), &["matmul f32 2x4:4x8"]))
}

fn refused(bytes: Vec<u8>) -> String {
    Pack::parse(bytes).unwrap_err().to_string()
}

/// With the length and checksum that these bytes have.
fn repaired(mut bytes: Vec<u8>) -> Vec<u8> {
    let manifest = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let len = bytes.len();
    header::write(&mut bytes, MAGIC, FORMAT, len as u64, manifest, len);
    bytes
}

/// A pack with `from` in its manifest replaced by `to`, of any length.
pub(super) fn with_manifest(pack: &[u8], from: &str, to: &str) -> Vec<u8> {
    let end = HEADER + u64::from_le_bytes(pack[40..48].try_into().unwrap()) as usize;
    let manifest = String::from_utf8(pack[HEADER..end].to_vec()).unwrap();
    assert!(manifest.contains(from), "{from} in {manifest}");
    let manifest = manifest.replacen(from, to, 1);
    let mut bytes = [&pack[..40], &(manifest.len() as u64).to_le_bytes(), manifest.as_bytes()].concat();
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    bytes.extend(&pack[end.next_multiple_of(ALIGN)..]);
    repaired(bytes)
}

#[test]
fn kernels_come_back_as_they_were() {
    let problems = [
        "matmul f32 3x5:5x7 +bias",
        "matmul f32 3x5:5x7 strides=8x1::9x1 +bias",
        "ip f32 mb2ic64oc96",
        "ip f32 mb2ic64oc96 fpmath=strict",
        "conv f32 mb1ic16ih9oc24kh3ph1 fpmath=bf16",
    ];
    let packages = packages(&v1(), &problems);
    let pack = Pack::parse(to_bytes(&v1(), &packages)).unwrap();
    // Naming strict is not naming nothing, and strides are part of a problem.
    assert_eq!((pack.len(), pack.target()), (5, &v1()));
    for package in &packages {
        let key = key(package);
        let again = pack.get(&key).unwrap().unwrap();
        assert_eq!(again.facts(), package.facts());
        assert_eq!(again.image(), package.image());
        assert_eq!(again.packed_layout(), package.packed_layout());
        assert!(pack.get(&Key { options: Options::default(), ..key }).is_none(), "options are part of the key");
    }
    assert_eq!(pack.packages().filter(Result::is_ok).count(), 5);
    let code: usize = pack.kernels().map(|(_, bytes, _)| bytes).sum();
    assert_eq!(code, packages.iter().map(|p| p.image().len()).sum::<usize>());

    let none = Pack::parse(to_bytes(&v1(), [])).unwrap();
    assert!(none.is_empty());
}

#[test]
fn the_order_of_kernels_changes_nothing() {
    let mut packages = packages(&v1(), &["matmul f32 3x5:5x7", "matmul f32 3x5:5x8", "ip f32 mb2ic64oc96"]);
    let bytes = to_bytes(&v1(), &packages);
    packages.reverse();
    packages.push(packages[0].clone());
    assert_eq!(to_bytes(&v1(), &packages), bytes);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let good = small();
    Pack::parse(good.clone()).unwrap();
    for bit in 0..8 * good.len() {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Pack::parse(bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn every_other_length_is_noticed() {
    let good = small();
    for len in 0..good.len() {
        assert!(Pack::parse(good[..len].to_vec()).is_err(), "{len} bytes");
        // What the header says of the length may be cut off too.
        if len >= HEADER {
            assert!(Pack::parse(repaired(good[..len].to_vec())).is_err(), "{len} bytes, with a checksum");
        }
    }
    let longer = [&good[..], &[0]].concat();
    assert!(refused(longer).contains(&format!("{} bytes of {}", good.len() + 1, good.len())));
}

#[test]
fn refusals_name_what_is_there_and_what_is_expected() {
    let good = small();
    assert!(refused(b"PK\x03\x04 an archive of something else entirely".repeat(9)).contains("not a kernel pack"));
    let mut format = good.clone();
    format[8] = 7;
    let e = refused(format);
    assert!(e.contains("format 7") && e.contains(&format!("format {FORMAT}")), "{e}");
    let e = refused(with_manifest(&good, VERSION, "0.0.1+other"));
    assert!(e.contains("0.0.1+other") && e.contains(VERSION), "{e}");
    // Another version's manifest may look different.
    let e = refused(with_manifest(&good, &format!("{VERSION}\","), "9.9\",\"more\":[],"));
    assert!(e.contains("9.9") && e.contains(VERSION), "{e}");
    let e = Pack::parse(good).unwrap().check_target(&"x86-64-v3".parse().unwrap()).unwrap_err().to_string();
    assert!(e.contains("neoverse-v1") && e.contains("--target x86-64-v3"), "{e}");
    let e = Pack::open("/nonexistent/pack").unwrap_err();
    assert!(matches!(&e, PackError::Read(_)) && e.to_string().contains("cannot read"), "{e}");
}

#[test]
fn manifests_that_contradict_are_refused() {
    let good = small();
    let bytes = format!("\"bytes\":{}", packages(&v1(), &["matmul f32 2x4:4x8"])[0].image().len());
    let max = usize::MAX;
    for (from, to, why) in [
        ("\"offset\":0", "\"offset\":64", "not inside the file"),
        ("\"offset\":0", &format!("\"offset\":{max}"), "not inside the file"),
        ("\"offset\":0", &format!("\"offset\":{}", max - 300), "not inside the file"),
        (&*bytes, "\"bytes\":0", "not inside the file"),
        (&*bytes, &format!("\"bytes\":{max}"), "not inside the file"),
        ("\"hash\":\"", "\"hash\":\"z", "damaged"),
        ("\"offset\":0", "\"offset\":-1", "malformed"),
        ("\"offset\":0", "\"offset\":1e99", "malformed"),
        ("\"offset\":0", "\"offset\":0,\"more\":1", "malformed"),
        ("\"tasks\"", "\"jobs\"", "malformed"),
        ("\"schedule\":\"", "\"schedule\":\"mmx ", "mmx"),
        ("matmul f32", "matmul f64", "f64"),
        ("neoverse-v1", "neoverse-v9", "neoverse-v9"),
        ("neoverse-v1", "neoverse-n1", "other features"),
        ("}", "", "malformed"),
    ] {
        let e = refused(with_manifest(&good, from, to));
        assert!(e.contains(why), "{to}: {e}");
    }
    for len in [u64::MAX, u64::MAX - 47, good.len() as u64] {
        let mut bytes = good.clone();
        bytes[40..48].copy_from_slice(&len.to_le_bytes());
        assert!(refused(repaired(bytes)).contains("not inside"), "{len}");
    }
}

#[test]
fn records_that_contradict_are_refused() {
    let good = small();
    let mut code = good.clone();
    *code.last_mut().unwrap() ^= 1;
    let shorter = format!("\"bytes\":{}", packages(&v1(), &["matmul f32 2x4:4x8"])[0].image().len());
    let changed = |from: &str, to: &str| with_manifest(&good, from, to);
    for (bytes, why) in [
        (repaired(code), "damaged"),
        (changed(&shorter, "\"bytes\":4"), "damaged"),
        (changed("2x4:4x8", "2x4:4x9"), "regions cover"),
        (changed("2x4:4x8", "8589934592x1:1x1"), "cannot be right"),
        (changed("\"way\":0", "\"way\":1"), "way 1"),
        (changed("\"way\":0", &format!("\"way\":{}", usize::MAX)), "way"),
        (changed("\"tasks\":1", "\"tasks\":0"), "nothing for it to do"),
        (changed("\"scratch\":0", &format!("\"scratch\":{}", u64::MAX)), "beyond all measure"),
        (changed("mc=", "mc=9"), "mc=9"),
    ] {
        let pack = Pack::parse(bytes).unwrap();
        let e = pack.packages().next().unwrap().unwrap_err().to_string();
        assert!(e.contains(why), "{why}: {e}");
    }
}

#[test]
fn files_are_written_whole() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kernels.kilnpack");
    fs::write(&path, "something else").unwrap();
    write(&path, &v1(), &packages(&v1(), &["matmul f32 2x4:4x8"])).unwrap();
    assert_eq!(Pack::open(&path).unwrap().bytes(), small().len());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    assert!(write(folder.path().join("none/kernels"), &v1(), []).is_err());
}

#[test]
fn what_is_no_file_is_neither_read_nor_replaced() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the name is a string with an end.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    for path in [&pipe, &link, Path::new("/dev/zero"), folder.path()] {
        let error = Pack::open(path).unwrap_err();
        assert!(matches!(&error, PackError::Read(e) if e.to_string().contains("not a regular file")), "{error}");
        assert!(WeightsPack::open(path).is_err());
        let error = write(path, &v1(), []).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
    assert!(link.is_symlink() && !fs::metadata("/dev/zero").unwrap().is_file());
    // Of a large file that is no pack, its beginning alone is read.
    let large = folder.path().join("large");
    File::create(&large).unwrap().set_len(1 << 42).unwrap();
    assert!(matches!(Pack::open(&large), Err(PackError::NoPack)));
    assert!(matches!(WeightsPack::open(&large), Err(PackError::NoWeights)));
}

pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

pub(super) fn set_age(file: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

const PROBLEM: &str = "matmul f32 5x6:6x7 +relu";

/// A runtime's result and its counters.
fn run(runtime: &Runtime) -> (Vec<f32>, Stats) {
    let kernel = runtime.kernel(&PROBLEM.parse().unwrap()).unwrap();
    let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as f32 - 5.0).collect::<Vec<_>>();
    let mut dst = vec![f32::NAN; 35];
    kernel.run(Args::new(&numbers(30), &numbers(42), &mut dst)).unwrap();
    (dst, runtime.stats())
}

fn host_pack() -> Vec<u8> {
    let target = cpu::detect().unwrap();
    let artifact = compile(&PROBLEM.parse().unwrap(), &target, &Options::default()).unwrap();
    to_bytes(&target, [&Package::of(&artifact, &Options::default())])
}

/// A builder that takes kernels from packs of this file.
fn with_packs(packs: impl IntoIterator<Item = PathBuf>) -> RuntimeBuilder {
    // SAFETY: the tests write these packs themselves, of compiled kernels, into directories of their own.
    packs.into_iter().fold(Runtime::builder().threads(1), |builder, file| unsafe { builder.pack(file) })
}

/// A builder that keeps kernels in a directory.
fn with_folder(folder: &Path) -> RuntimeBuilder {
    // SAFETY: the directory is the test's own.
    unsafe { Runtime::builder().threads(1).cache_dir(folder) }
}

#[test]
fn a_runtime_takes_kernels_from_packs() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = host_pack();
    fs::write(path("good"), &good).unwrap();
    fs::write(path("cut"), &good[..good.len() - 1]).unwrap();
    fs::write(path("contradicts"), with_manifest(&good, "\"tasks\":1", "\"tasks\":0")).unwrap();
    // No test machine is this one.
    let other: Target = "sve2048".parse().unwrap();
    write(path("other"), &other, &packages(&other, &[PROBLEM])).unwrap();
    let (expected, stats) = run(&Runtime::builder().threads(1).build().unwrap());
    assert_eq!(stats.from_files, 0);

    let runtime = with_packs(["none", "cut", "other", "contradicts", "good"].map(path)).build().unwrap();
    let reasons: Vec<String> = runtime
        .packs()
        .map(|(path, status)| {
            let why = status.as_ref().map_or_else(|e| e.to_string(), |pack| format!("{} kernels", pack.len()));
            format!("{}: {why}", path.file_name().unwrap().display())
        })
        .collect();
    for (reason, expected) in reasons.iter().zip([
        "none: cannot read",
        "cut: it has",
        "other: it is for sve2048",
        "contradicts: 1",
        "good: 1",
    ]) {
        assert!(reason.starts_with(expected), "{reason}");
    }
    let (dst, stats) = run(&runtime);
    assert_eq!((dst, stats.from_files), (expected.clone(), 1));
    let notices = runtime.notices();
    let kinds =
        notices.iter().map(|notice| (notice.path().file_name().unwrap(), matches!(notice, Notice::Pack { .. })));
    assert_eq!(
        kinds.map(|(name, unused)| format!("{} {unused}", name.display())).collect::<Vec<_>>(),
        ["none true", "cut true", "other true", "contradicts false"]
    );
    for name in ["none", "cut", "other"] {
        let e = with_packs([path(name)]).strict_settings(true).build().unwrap_err();
        assert!(matches!(&e, RuntimeError::Strict { notice } if notice.path() == path(name)), "{e}");
    }
    let strict = with_packs([path("contradicts")]).strict_settings(true).build().unwrap();
    let e = strict.kernel(&PROBLEM.parse().unwrap()).unwrap_err();
    assert!(matches!(&e, RuntimeError::Strict { notice } if matches!(**notice, Notice::PackedKernel { .. })), "{e}");

    let refused = with_packs([path("cut"), path("contradicts")]).build().unwrap();
    let (dst, stats) = run(&refused);
    assert_eq!((dst, stats.from_files), (expected, 0), "it is compiled instead");
}

#[test]
fn a_runtime_keeps_kernels_in_a_directory() {
    let folder = TempDir::new().unwrap();
    let runtime = || with_folder(folder.path()).build().unwrap();
    let (expected, stats) = run(&runtime());
    assert_eq!(stats.from_files, 0);
    let (dst, stats) = run(&runtime());
    assert_eq!((dst, stats.from_files), (expected.clone(), 1));

    let kernel = |file: &&PathBuf| file.extension().is_some_and(|e| e == "kernel");
    let file = files(folder.path()).iter().find(kernel).unwrap().clone();
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() - 1]).unwrap();
    let e = with_folder(folder.path()).strict_settings(true).build().unwrap();
    let e = e.kernel(&PROBLEM.parse().unwrap()).unwrap_err();
    assert!(matches!(&e, RuntimeError::Strict { notice } if notice.path() == file), "{e}");
    let told = Arc::new(Mutex::new(vec![]));
    let sink = told.clone();
    let listening = with_folder(folder.path()).on_notice(move |notice| sink.lock().unwrap().push(notice.to_string()));
    let listening = listening.build().unwrap();
    let (dst, stats) = run(&listening);
    assert_eq!((dst, stats.from_files), (expected.clone(), 0));
    assert_eq!(fs::read(&file).unwrap(), good, "it is written again");
    assert!(matches!(&listening.notices()[..], [Notice::CachedKernel { path, .. }] if *path == file));
    assert!(told.lock().unwrap()[0].starts_with("the cached kernel is not used"), "{told:?}");

    let limited = with_folder(folder.path()).cache_dir_bytes(0).build().unwrap();
    let (dst, stats) = run(&limited);
    assert_eq!((dst, stats.from_files), (expected.clone(), 0));
    let nowhere = with_folder(Path::new("/proc/kiln")).build().unwrap();
    assert_eq!(run(&nowhere).0, expected);
    assert!(matches!(&nowhere.notices()[..], [Notice::CacheDir { .. }]), "{:?}", nowhere.notices());
    assert!(with_folder(Path::new("/proc/kiln")).strict_settings(true).build().is_err());
}

/// A pack is no cached kernel: what anybody can write with safe code is not executed because it lies in a cache directory.
#[test]
fn a_pack_in_a_cache_directory_is_not_executed() {
    let folder = TempDir::new().unwrap();
    let (expected, _) = run(&with_folder(folder.path()).build().unwrap());
    let kernel = |file: &&PathBuf| file.extension().is_some_and(|e| e == "kernel");
    let file = files(folder.path()).iter().find(kernel).unwrap().clone();
    let target = cpu::detect().unwrap();
    let artifact = compile(&PROBLEM.parse().unwrap(), &target, &Options::default()).unwrap();
    let facts = Package::of(&artifact, &Options::default()).facts().clone();
    // A return on x86-64, and nonsense on AArch64: executed, the result would be what it was before, or the process would end.
    let foreign = Package::new(facts, vec![0xc3; 64]).unwrap();
    write(&file, &target, [&foreign]).unwrap();
    let runtime = with_folder(folder.path()).build().unwrap();
    let (dst, stats) = run(&runtime);
    assert_eq!((dst, stats.from_files), (expected, 0));
    let [Notice::CachedKernel { path, error: PackError::Seal }] = &runtime.notices()[..] else {
        panic!("{:?}", runtime.notices())
    };
    assert_eq!(*path, file);
}
