//! Products of integers of 8 bits: every arithmetic of every target, for sizes that fill neither words nor tiles.

use std::collections::BTreeSet;

use kiln_compiler::Artifact;
use kiln_ir::DType;

use super::{TARGETS, compute};

/// Those that have arithmetics of integers besides what [`TARGETS`] have.
const EXTENDED: [&str; 5] =
    ["armv8+dotprod", "armv8+dotprod+i8mm", "sve512+i8mm-neon", "x86-64-v4+vnni", "x86-64-v4+vnni-avx512"];

const DTYPES: [&str; 2] = ["s8:s8:s32", "u8:s8:s32"];

/// The products that must have been simulated: types, target, mnemonic.
const EXPECTED: [(&str, &str, &str); 23] = [
    ("s8:s8:s32", "armv8", "mla"),
    ("u8:s8:s32", "armv8", "mla"),
    ("s8:s8:s32", "armv8+dotprod", "sdot"),
    ("u8:s8:s32", "armv8+dotprod", "mla"),
    ("s8:s8:s32", "armv8+dotprod+i8mm", "smmla"),
    ("u8:s8:s32", "armv8+dotprod+i8mm", "usmmla"),
    ("u8:s8:s32", "armv8+dotprod+i8mm", "usdot"),
    ("u8:s8:s32", "armv8+dotprod+i8mm", "sudot"),
    ("s8:s8:s32", "neoverse-v1-sve", "smmla"),
    ("u8:s8:s32", "neoverse-v1-sve", "usmmla"),
    ("s8:s8:s32", "neoverse-v1", "smmla"),
    ("s8:s8:s32", "sve1024+bf16-neon", "sdot"),
    ("s8:s8:s32", "sve512+i8mm-neon", "smmla"),
    ("u8:s8:s32", "sve512+i8mm-neon", "usmmla"),
    ("s8:s8:s32", "x86-64-v3", "vpmaddwd"),
    ("u8:s8:s32", "x86-64-v3", "vpmaddwd"),
    ("s8:s8:s32", "x86-64-v3", "vpmulld"),
    ("s8:s8:s32", "x86-64-v4", "vpmaddwd"),
    ("u8:s8:s32", "x86-64-v4", "vpmaddwd"),
    ("s8:s8:s32", "x86-64-v4+vnni", "vpdpwssd"),
    ("u8:s8:s32", "x86-64-v4+vnni", "vpdpbusd"),
    ("u8:s8:s32", "x86-64-v4+vnni", "vpmulld"),
    ("u8:s8:s32", "x86-64-v4+vnni-avx512", "vpmaddwd"),
];

/// Sizes around words, blocks, registers and tiles, K that ends inside of a word or a block, all orders in memory, batches, strides.
fn problems() -> Vec<String> {
    let shapes = [
        (1, 1, 1),
        (1, 300, 70),
        (2, 3, 5),
        (3, 17, 9),
        (5, 64, 16),
        (7, 33, 31),
        (13, 31, 17),
        (17, 40, 50),
        (24, 130, 33),
        (33, 7, 65),
        (37, 101, 1),
    ];
    let tags =
        ["", " wtag=ba", " stag=ba", " dtag=ba", " stag=ba wtag=ba", " wtag=ba dtag=ba", " stag=ba wtag=ba dtag=ba"];
    let mut all = vec![];
    for (i, (m, k, n)) in shapes.into_iter().enumerate() {
        for (j, dtypes) in DTYPES.into_iter().enumerate() {
            for t in 0..4 {
                let tags = tags[(3 * i + j + 2 * t) % tags.len()];
                all.push(format!("matmul {dtypes} {m}x{k}:{k}x{n}{tags}"));
            }
            let (row, line, pitch) = (k + 3, n + 5, n + 7);
            all.push(format!("matmul {dtypes} {m}x{k}:{k}x{n} strides={row}x1:{line}x1:{pitch}x1"));
            all.push(format!("matmul {dtypes} {m}x{k}:{k}x{n} strides=1x{}:{}x2:1x{}", m + 1, 2 * n + 1, m + 3));
            all.push(format!("ip {dtypes} mb{m}ic{k}oc{n}"));
            all.push(format!("ip {dtypes} mb{m}ic{k}oc{n} strides={row}x1:{row}x1:{pitch}x1"));
        }
    }
    for dtypes in DTYPES {
        all.push(format!("matmul {dtypes} 3x5x21:3x21x9"));
        all.push(format!("matmul {dtypes} 3x5x21:1x21x9 dtag=acb"));
        all.push(format!("matmul {dtypes} 2x3x4x20:2x1x20x19 wtag=abdc"));
        all.push(format!("matmul {dtypes} 3x4x20:3x20x9 strides=100x25x1:200x10x1:50x11x1"));
        all.push(format!("ip {dtypes} mb3ic5ih3oc7"));
        all.push(format!("matmul {dtypes} 40x300:300x40"));
    }
    all
}

/// Bytes of the whole range that repeat at no round period.
pub fn any_bytes(dtype: DType, len: u64, salt: u64) -> Vec<f32> {
    (0..len).map(|i| dtype.from_bits(((i.wrapping_mul(2_654_435_761) + salt * 40_503) >> 9) as u32 & 0xff)).collect()
}

/// The mnemonics of products in an artifact's code.
pub fn products(a: &Artifact) -> Vec<&'static str> {
    let listing = a.listing(false);
    let words: BTreeSet<&str> = listing.lines().filter_map(|l| l.split_whitespace().next()).collect();
    let known: BTreeSet<_> = EXPECTED.iter().map(|(.., mnemonic)| *mnemonic).collect();
    known.into_iter().filter(|k| words.contains(k)).collect()
}

#[test]
fn every_artifact_computes_integers() {
    let targets: Vec<&str> = TARGETS.into_iter().chain(EXTENDED).collect();
    let products = compute(&problems(), &targets);
    products.iter().for_each(|((dtypes, target, mnemonic), n)| println!("{dtypes} {target}: {n} with {mnemonic}"));
    if std::env::var_os("KILN_TEST_RUNNER").is_some() {
        // A sample has some of them.
        return;
    }
    for (dtypes, target, mnemonic) in EXPECTED {
        let kind = (dtypes.to_owned(), target.to_owned(), mnemonic);
        let count = products.get(&kind).copied().unwrap_or_default();
        assert!(count >= 10, "{mnemonic} in {count} artifacts of {dtypes} for {target}: {products:#?}");
    }
}
