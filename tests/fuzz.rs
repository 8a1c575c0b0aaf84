//! The fuzz targets' bodies for a moment: their seeds, and changes of them that repeat.

use std::fs;
use std::path::Path;

use kiln_tests::data::Random;
use kiln_tests::fuzz::Taken;
use kiln_tests::{fuzz, targets};

/// The seeds of a target, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A few small changes, with pieces of another seed among them.
fn changed(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    const BYTES: &[u8] = b"0123456789:;=+-x_{}[]()',.\" \n\xff\x80";
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let len = random.below(8) as usize;
        let end = (at + len).min(bytes.len());
        let piece = random.below(other.len() as u64 + 1) as usize;
        let new = match random.below(6) {
            0 => vec![],
            1 => other[piece..].iter().copied().take(2 * len).collect(),
            2 => bytes[at..end].repeat(2),
            3 => (random.bits() >> random.below(64)).to_string().into_bytes(),
            4 => bytes[at..end].iter().map(|b| b ^ 1 << random.below(8)).collect(),
            _ => vec![*random.pick(BYTES); len.min(2)],
        };
        bytes.splice(at..end, new);
    }
    bytes
}

/// `weight` makes what each target does for a test run about equally long.
fn run(name: &str, weight: u64) {
    let body = fuzz::ALL.iter().find(|(n, _)| *n == name).unwrap().1;
    let cases: u64 = std::env::var("PROPTEST_CASES").map_or(256, |cases| cases.parse().unwrap());
    let cases = if targets::emulated() { cases } else { cases * weight };
    let (seeds, mut random) = (seeds(name), Random(1));
    let taken = seeds.iter().filter(|seed| body(seed) == Taken::Yes).count();
    assert!(4 * taken >= seeds.len(), "of {} seeds of `{name}`, {taken} are taken", seeds.len());
    let mut taken = 0;
    for _ in 0..cases {
        let [seed, other] = [(); 2].map(|()| random.pick(&seeds).as_slice());
        let case = changed(seed, other, &mut random);
        // Only a panic's own message would not tell how to come by it again.
        match std::panic::catch_unwind(|| body(&case)) {
            Ok(outcome) => taken += u64::from(outcome == Taken::Yes),
            Err(_) => panic!("the body of `{name}` fails for {:?}", String::from_utf8_lossy(&case)),
        }
    }
    // Of a few cases it may be none.
    assert!(cases < 500 || 100 * taken >= cases, "of {cases} changed seeds of `{name}`, {taken} are taken");
}

#[test]
fn text() {
    run("text", 512);
}

#[test]
fn npy() {
    run("npy", 128);
}

#[test]
fn onnx() {
    run("onnx", 32);
}

#[test]
fn network() {
    run("network", 1);
}

#[test]
fn pack() {
    run("pack", 32);
}

#[test]
fn package() {
    run("package", 64);
}

#[test]
fn compile() {
    run("compile", 2);
}
