//! Listings against other people's assemblers: GNU as and llvm-mc must turn every listing into the image it shows.
//!
//! GNU as is named by `KILN_A64_AS` and `KILN_X64_AS` or is `aarch64-linux-gnu-as` and `x86_64-linux-gnu-as`, or `as` for
//! the host's own architecture; llvm-mc is named by `KILN_LLVM_MC` or is `llvm-mc-22`, `llvm-mc-19` or `llvm-mc`. One that
//! is missing is left out, but not when `CI` is set.

mod common;

use std::ops::Range;

use common::assembler::Assembler;
use kiln_compiler::{Artifact, Options, Target, compile};

/// What every target compiles: single elements and vectors, tails in every direction, epilogues, sums cut into blocks,
/// packed operands, many tasks and several regions.
const PROBLEMS: &[&str] = &[
    "1x1:1x1",
    "1x1:1x1 +bias+relu",
    "1x2:2x3",
    "2x1:1x2 +relu",
    "3x5:5x7 +bias",
    "4x4:4x4",
    "5x9:9x6 +relu",
    "8x8:8x8 +bias+relu",
    "7x3:3x9 +bias",
    "6x16:16x16",
    "6x17:17x15 +bias+relu",
    "12x33:33x14 +relu",
    "13x31:31x17 +bias+relu",
    "16x64:64x31",
    "31x32:32x33 +bias",
    "1x256:256x1000",
    "1x4096:4096x5 +bias+relu",
    "1000x1:1x7 +relu",
    "1000x3:3x1",
    "64x64:64x64 +bias+relu",
    "65x129:129x63",
    "96x256:256x64 +bias+relu",
    "5x3000:3000x7 +relu",
    "9x2500:2500x40 +bias+relu",
    "100x100:100x100 +bias",
    "128x784:784x512 +bias+relu",
    "256x256:256x256",
    "300x700:700x500 +bias",
    "3x1000:1000x2000 +relu",
    "2000x16:16x24 +bias+relu",
    "2000x16:16x32 +bias+relu",
    "3x3:3x3",
    "17x1:1x17",
    "33x47:47x129 +bias+relu",
    "40x40:40x16 +relu",
    "64x3000:3000x64",
    "1x10000:10000x33",
    "1024x1024:1024x48 +bias",
    "512x512:512x512 +bias+relu",
];

/// Choices that the cost model rarely makes: a problem, the target, and the schedule.
const SCHEDULES: &[(&str, &str, &str)] = &[
    (
        "25x70:70x64 +bias+relu",
        "x86-64-v3",
        "avx2 parallel=m; n 0..64 tile 6x16 mc=12 nc=32 kc=32 unroll=4 order=mn lhs=block rhs=block",
    ),
    (
        "25x70:70x64 +bias",
        "x86-64-v3",
        "avx2 parallel=n; n 0..64 tile 2x32 mc=25 nc=32 kc=33 unroll=3 order=nm lhs=inplace rhs=panel",
    ),
    (
        "25x70:70x53 +relu",
        "x86-64-v3",
        "avx2 parallel=n; n 0..48 tile 6x16 mc=12 nc=16 kc=70 unroll=1 order=nm lhs=block rhs=panel; n 48..53 tile 5x5 mc=25 nc=5 kc=70 unroll=2 order=mn lhs=inplace rhs=inplace",
    ),
    (
        "25x70:70x101 +relu",
        "x86-64-v4",
        "avx512 parallel=n; n 0..96 tile 9x48 mc=18 nc=96 kc=70 unroll=1 order=nm lhs=block rhs=panel; n 96..101 tile 25x5 mc=25 nc=5 kc=70 unroll=2 order=mn lhs=inplace rhs=inplace",
    ),
    (
        "25x70:70x64 +bias+relu",
        "neoverse-n1",
        "neon parallel=m; n 0..64 tile 4x16 mc=12 nc=32 kc=32 unroll=4 order=mn lhs=block rhs=block",
    ),
    (
        "25x70:70x53 +bias",
        "neoverse-v1-sve",
        "neon parallel=n; n 0..48 tile 6x8 mc=12 nc=16 kc=33 unroll=8 order=nm lhs=inplace rhs=panel; n 48..53 tile 5x5 mc=25 nc=5 kc=70 unroll=4 order=mn lhs=block rhs=inplace",
    ),
    (
        "25x70:70x64 +bias+relu",
        "neoverse-v1",
        "sve parallel=m; n 0..64 tile 6x16 mc=12 nc=32 kc=32 unroll=4 order=mn lhs=block rhs=block",
    ),
    (
        "25x70:70x53 +relu",
        "neoverse-v1-neon",
        "sve parallel=n; n 0..48 tile 6x16 mc=12 nc=16 kc=70 unroll=4 order=nm lhs=block rhs=panel; n 48..53 tile 5x5 mc=25 nc=5 kc=70 unroll=8 order=mn lhs=inplace rhs=inplace",
    ),
    (
        "25x70:70x64 +bias",
        "sve128",
        "sve parallel=n; n 0..64 tile 4x16 mc=25 nc=16 kc=33 unroll=4 order=nm lhs=inplace rhs=panel",
    ),
    (
        "25x70:70x64 +bias+relu",
        "sve512",
        "sve parallel=m; n 0..64 tile 8x32 mc=16 nc=64 kc=24 unroll=4 order=nm lhs=block rhs=block",
    ),
];

/// The problems and the forced schedules, compiled for `target`.
fn artifacts(target: &str) -> Vec<Artifact> {
    let t: Target = target.parse().unwrap();
    let make = |problem: &str, options: &Options| {
        let problem = format!("matmul f32 {problem}").parse().unwrap();
        compile(&problem, &t, options).unwrap_or_else(|e| panic!("{e}"))
    };
    let chosen = PROBLEMS.iter().map(|p| make(p, &Options::default()));
    let forced = SCHEDULES.iter().filter(|(_, on, _)| *on == target).map(|(problem, _, schedule)| {
        make(problem, &Options { schedule: Some(schedule.parse().unwrap()), ..Options::default() })
    });
    chosen.chain(forced).collect()
}

/// Assembles all listings of `target` and reads their style: what is text and what had to be bytes.
fn check(target: &str) {
    let artifacts = artifacts(target);
    let forced = artifacts.len() - PROBLEMS.len();
    assert!(forced >= 1, "{target} has a forced schedule");
    let (mut instructions, mut raw, mut loops) = (0, 0, 0);
    for a in &artifacts {
        let listing = a.listing(false);
        let lines: Vec<&str> = listing.lines().collect();
        instructions += lines.iter().filter(|l| is_code(l)).count();
        raw += lines.iter().filter(|l| is_raw(l)).count();
        for body in k_loops(&lines) {
            loops += 1;
            if let Some(l) = lines[body].iter().find(|l| is_raw(l)) {
                panic!("{} @{target}: bytes in a K loop: {l}", a.problem());
            }
        }
    }
    assert!(loops >= PROBLEMS.len() / 2, "{target}: only {loops} K loops are found");
    assert!(raw * 16 <= instructions, "{target}: {raw} of {instructions} instructions are shown as bytes");
    for assembler in Assembler::all(artifacts[0].target().arch) {
        for (n, a) in artifacts.iter().enumerate() {
            let name = format!("{target}-{n}");
            let code = assembler.assemble(&name, &a.listing(false));
            assert_same(a, &code, &assembler.command);
        }
    }
}

/// Whether a line is an instruction.
fn is_code(line: &str) -> bool {
    let text = line.trim_start();
    line.starts_with("        ") && (!text.starts_with('.') || is_raw(line))
}

/// Whether a line is an instruction shown as bytes.
fn is_raw(line: &str) -> bool {
    line.trim_start().starts_with(".byte") && !line.ends_with(" constants")
}

/// The bodies of the loops of micro-kernels, as lines: from a label to the last branch back to it.
fn k_loops(lines: &[&str]) -> Vec<Range<usize>> {
    let label = |l: &str| l.strip_suffix(':').filter(|l| l.starts_with(".Luk")).map(str::to_owned);
    let heads = lines.iter().enumerate().filter_map(|(i, l)| Some((i, label(l)?)));
    heads
        .filter_map(|(i, label)| {
            let to_it = |l: &&str| l.split_whitespace().any(|w| w == label);
            Some(i..i + 1 + lines[i..].iter().skip(1).rposition(to_it)? + 1)
        })
        .collect()
}

/// Fails with the first line whose instruction differs.
fn assert_same(a: &Artifact, code: &[u8], assembler: &str) {
    let image = a.image();
    let Some(at) = (0..image.len()).find(|&i| code.get(i) != Some(&image[i])) else {
        return assert!(code[image.len()..].iter().all(|b| *b == 0), "{assembler} appends code");
    };
    let (mut offset, mut found) = (0, String::new());
    for line in a.listing(true).lines() {
        if line.contains(".balign") {
            offset = usize::next_multiple_of(offset, 64);
        } else if let Some((_, bytes)) = line.rsplit_once(" [").filter(|(_, b)| b.ends_with(']')) {
            offset += bytes.split(' ').count();
        } else if line.ends_with(" constants") {
            offset += line.split(',').count();
        }
        if offset > at {
            found = line.to_owned();
            break;
        }
    }
    let theirs = &code[at.min(code.len())..(at + 16).min(code.len())];
    panic!("{} @{}: {assembler} differs at byte {at}: {found}\nit has {theirs:02x?}", a.problem(), a.target());
}

#[test]
fn avx2() {
    check("x86-64-v3");
}

#[test]
fn avx512() {
    check("x86-64-v4");
}

#[test]
fn neon_of_neoverse_n1() {
    check("neoverse-n1");
}

#[test]
fn neoverse_v1() {
    check("neoverse-v1");
}

#[test]
fn neon_of_neoverse_v1() {
    check("neoverse-v1-sve");
}

#[test]
fn sve_of_256_bits() {
    check("neoverse-v1-neon");
}

#[test]
fn sve_of_128_bits() {
    check("sve128");
}

#[test]
fn sve_of_512_bits() {
    check("sve512");
}

#[test]
fn bytes_are_added_to_the_same_lines() {
    let problem = "matmul f32 13x31:31x17 +bias+relu".parse().unwrap();
    for target in ["x86-64-v3", "neoverse-v1"] {
        let a = compile(&problem, &target.parse().unwrap(), &Options::default()).unwrap();
        let (plain, with_bytes) = (a.listing(false), a.listing(true));
        assert_eq!(plain.lines().count(), with_bytes.lines().count());
        let mut bytes = 0;
        for (p, b) in plain.lines().zip(with_bytes.lines()) {
            match b.strip_prefix(p).and_then(|rest| rest.strip_prefix(" [")?.strip_suffix(']')) {
                Some(hex) => bytes += hex.split(' ').count(),
                None => assert_eq!(p, b),
            }
        }
        assert_eq!(bytes, a.symbols().iter().map(|s| s.code_len).sum::<usize>());
        let head: Vec<&str> = plain.lines().take(3).map(|l| l.trim_start_matches(['#', '/', ' '])).collect();
        assert_eq!(head[0], "problem   matmul f32 13x31:31x17 +bias+relu");
        assert_eq!(head[1], format!("target    {target}"));
        assert!(head[2].starts_with("schedule  "), "{}", head[2]);
    }
}
