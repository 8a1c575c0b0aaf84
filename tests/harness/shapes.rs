//! The shapes that every target must compute: small ones densely, then whatever is likely to be an edge case.

use std::collections::HashSet;

use kiln_compiler::Options;
use kiln_compiler::schedule::{Schedule, search};
use kiln_compiler::target::{Target, VectorUnit};
use kiln_ir::{Contraction, PostOp, Problem, ProblemError};

use crate::data::Random;
use crate::strides::strided;

/// A problem and how to compile it.
pub type Work = (Problem, Options);

const EPILOGUES: [&[PostOp]; 4] = [&[], &[PostOp::Bias], &[PostOp::Relu], &[PostOp::Bias, PostOp::Relu]];

/// Multiply-adds above which a network's matrix is scaled down under emulation.
const EMULATED_MACS: u64 = 1 << 20;

/// BERT's matrices: a sequence of 128 or 384, base and large, projections, feed-forward and attention heads.
const BERT: [[u64; 3]; 10] = [
    [128, 768, 768],
    [128, 768, 3072],
    [128, 3072, 768],
    [384, 768, 768],
    [128, 1024, 1024],
    [128, 1024, 4096],
    [128, 64, 128],
    [128, 128, 64],
    [384, 64, 384],
    [384, 384, 64],
];

/// ResNet-50's convolutions and last layer as matrix products: output channels, input channels times window, pixels.
const RESNET: [[u64; 3]; 20] = [
    [64, 147, 12544],
    [64, 64, 3136],
    [64, 576, 3136],
    [256, 64, 3136],
    [64, 256, 3136],
    [128, 256, 3136],
    [128, 1152, 784],
    [512, 128, 784],
    [128, 512, 784],
    [512, 256, 784],
    [256, 512, 784],
    [256, 2304, 196],
    [1024, 256, 196],
    [256, 1024, 196],
    [1024, 512, 196],
    [512, 1024, 196],
    [512, 4608, 49],
    [2048, 512, 49],
    [512, 2048, 49],
    [1, 2048, 1000],
];

/// Those of a network that are computed in full where there is a processor to do so.
const FULL_SIZE: [[u64; 3]; 6] =
    [[128, 768, 768], [128, 768, 3072], [256, 64, 3136], [256, 2304, 196], [512, 4608, 49], [1, 2048, 1000]];

/// The problems that `target` must compute, without duplicates, the largest first. Fewer and smaller where `emulated`.
pub fn list(target: &Target, emulated: bool) -> Vec<Work> {
    let mut shapes = vec![];
    cube(&mut shapes, emulated);
    primes(&mut shapes);
    thin(&mut shapes);
    around_tiles(&mut shapes, target);
    networks(&mut shapes, emulated);
    let mut all: Vec<Work> = shapes
        .into_iter()
        .enumerate()
        .map(|(i, [m, k, n])| (problem([m, k, n], EPILOGUES[(i + i / 17) % 4]), Options::default()))
        .collect();
    all.extend(forced(target));
    all.extend(kinds(emulated));
    all.extend(integers(emulated));
    all.extend(convolutions(emulated));
    all.extend(with_strides(emulated));
    let mut seen = HashSet::new();
    all.retain(|work| seen.insert(work.clone()));
    all.sort_by_key(|(p, _)| std::cmp::Reverse(p.macs()));
    all
}

fn problem([m, k, n]: [u64; 3], post: &[PostOp]) -> Problem {
    Problem::matmul(m, k, n).epilogue(post.iter().copied()).build().expect("a shape listed here is valid")
}

/// 1..=17 cubed; emulated, a seventh of it that contains every pair of any two dimensions.
fn cube(out: &mut Vec<[u64; 3]>, emulated: bool) {
    for m in 1..=17 {
        for k in 1..=17 {
            out.extend((1..=17).filter(|n| !emulated || (m + k + n) % 7 == 0).map(|n| [m, k, n]));
        }
    }
}

fn primes(out: &mut Vec<[u64; 3]>) {
    const PRIMES: [u64; 18] = [19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97];
    let mut random = Random(7);
    for _ in 0..120 {
        out.push([(); 3].map(|()| PRIMES[random.below(18) as usize]));
    }
}

/// K of one, tall, wide, and long sums.
fn thin(out: &mut Vec<[u64; 3]>) {
    const SIZES: [u64; 8] = [1, 2, 5, 16, 33, 64, 127, 200];
    for a in SIZES {
        out.extend(SIZES.map(|b| [a, 1, b]));
    }
    for long in [255, 256, 1000, 1025] {
        for (a, b) in [(1, 1), (1, 7), (3, 16), (8, 5), (17, 9), (32, 2)] {
            out.extend([[long, a, b], [a, long, b], [a, b, long]]);
        }
    }
}

/// Around multiples of the sizes that the schedule itself chose for larger problems.
fn around_tiles(out: &mut Vec<[u64; 3]>, target: &Target) {
    let around = |size: u64| [size - 1, size, size + 1].into_iter().filter(|s| *s > 0);
    for (m, k, n) in [(48, 48, 48), (192, 256, 192), (512, 1024, 512), (4, 512, 600), (600, 512, 4)] {
        let contraction = Contraction::of(&problem([m, k, n], &[]));
        let r = search(&contraction, target, false, None).unwrap().schedule.regions.remove(0);
        let rows: Vec<u64> = around(r.mr).chain(around(2 * r.mr)).collect();
        let columns: Vec<u64> = around(r.nr).chain(around(2 * r.nr)).collect();
        for &m in &rows {
            for &n in &columns {
                out.extend([r.unroll + 1, 2 * r.unroll].map(|k| [m, k, n]));
            }
        }
        out.extend(around(r.kc).map(|k| [r.mr, k, r.nr]));
        out.extend(around(r.mc).map(|m| [m, r.unroll, r.nr]));
        out.extend(around(r.nc).map(|n| [r.mr, r.unroll, n]));
    }
}

/// Inner strides, gaps and overlaps for the operands of problems of every kind. Some of the operands stay dense.
pub fn with_strides(emulated: bool) -> Vec<Work> {
    let mut random = Random(331);
    let take = if emulated { 3 } else { 1 };
    let bases = kinds(emulated).into_iter().chain(convolutions(emulated)).step_by(take);
    bases.filter_map(|(problem, options)| Some((strided(&problem, &mut random)?, options))).collect()
}

fn networks(out: &mut Vec<[u64; 3]>, emulated: bool) {
    for mut shape in BERT.into_iter().chain(RESNET) {
        if !emulated && FULL_SIZE.contains(&shape) {
            out.push(shape);
        }
        while shape.iter().product::<u64>() > EMULATED_MACS {
            let largest = (0..3).max_by_key(|i| shape[*i]).unwrap_or(0);
            shape[largest] = shape[largest].div_ceil(2);
        }
        out.push(shape);
    }
}

/// Schedules the cost model might never choose: on every unit, every legal combination of how operands are read, loop
/// order and parallel axis, with blocks so small that every loop runs several times and ends in a tail.
pub fn forced(target: &Target) -> Vec<Work> {
    let mut all = vec![];
    for unit in &target.units {
        for parallel in ["m", "n"] {
            for order in ["nm", "mn"] {
                for lhs in ["inplace", "block", "shared"] {
                    for rhs in ["inplace", "panel", "block", "shared", "packed"] {
                        let words = format!("order={order} lhs={lhs} rhs={rhs}");
                        all.extend(small_blocks(target, unit, parallel, &words));
                    }
                }
            }
        }
    }
    all
}

fn small_blocks(target: &Target, unit: &VectorUnit, parallel: &str, words: &str) -> Vec<Work> {
    let lanes = u64::from(unit.lanes);
    let mut all = vec![];
    // Whole vectors, and where a panel need not follow another, part of one.
    for nr in [2 * lanes, lanes + 1] {
        let (main, rest) = (4 * nr, lanes - 1);
        let n = main + rest;
        for (i, (m, k)) in [(23, 37), (12, 32)].into_iter().enumerate() {
            let text = format!(
                "{} parallel={parallel}; n 0..{main} tile 3x{nr} mc=6 nc={} kc=16 unroll=4 {words}; \
                 n {main}..{n} tile 2x{rest} mc=6 nc={rest} kc=16 unroll=4 {words}",
                unit.isa,
                2 * nr
            );
            let schedule: Schedule = text.parse().expect("this is the text form");
            if schedule.verify(&Contraction::of(&problem([m, k, n], &[])), target).is_ok() {
                let options = Options {
                    schedule: Some(schedule),
                    constant_weights: words.ends_with("packed"),
                    weights_layout: None,
                };
                let posts = EPILOGUES.iter().skip(i % 2).step_by(if nr % lanes == 0 { 1 } else { 2 });
                all.extend(posts.map(|post| (problem([m, k, n], post), options.clone())));
                // The same in the middle of larger matrices.
                let apart = format!("matmul f32 {m}x{k}:{k}x{n} strides={}x1:{}x1:{}x1 +bias", k + 3, n + 5, n + 2);
                all.push((apart.parse().expect("strides with gaps"), options));
            }
        }
    }
    all
}

/// Products of integers of 8 bits: orders in memory, batches, inner products, K that ends inside of a group, and packed weights.
pub fn integers(emulated: bool) -> Vec<Work> {
    let mut random = Random(43);
    let mut work = vec![];
    for i in 0..if emulated { 90 } else { 360 } {
        let edges = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 260];
        let [m, k, n] =
            [(); 3].map(|()| if random.below(3) == 0 { 1 + random.below(70) } else { *random.pick(&edges) });
        let dtypes = ["s8:s8:s32", "u8:s8:s32"][i % 2];
        let [stag, wtag, dtag] = ["stag", "wtag", "dtag"]
            .map(|name| if random.below(2) == 0 { format!(" {name}=ba") } else { String::new() });
        let text = match i / 2 % 3 {
            0 => format!("matmul {dtypes} {m}x{k}:{k}x{n}{stag}{wtag}{dtag}"),
            1 => format!("ip {dtypes} mb{m}ic{k}oc{n}{stag}{wtag}{dtag}"),
            _ => format!("matmul {dtypes} 3x{m}x{k}:{}x{k}x{n}", [1, 3][i / 6 % 2]),
        };
        let problem: Problem = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        work.push((problem.clone(), Options::default()));
        if i % 3 == 0 {
            work.push((problem, Options { constant_weights: true, ..Options::default() }));
        }
    }
    work
}

/// Batches, orders in memory, sums added to the result, inner products, bf16, arithmetic modes and packed weights.
pub fn kinds(emulated: bool) -> Vec<Work> {
    const DTYPES: [&str; 7] = ["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32", "f16", "f16:f16:f32", "f32:f16:f32"];
    const POSTS: [&str; 4] = ["", " +bias", " +bias+relu", " +add:ab"];
    let mut random = Random(21);
    let mut texts = vec![];
    let sizes = |random: &mut Random| {
        let edges = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100];
        [(); 3].map(|()| if random.below(3) == 0 { 1 + random.below(70) } else { *random.pick(&edges) })
    };
    for i in 0..if emulated { 168 } else { 504 } {
        let [m, k, n] = sizes(&mut random);
        let dtypes = DTYPES[i % 7];
        let math = ["", "", " fpmath=bf16", " fpmath=any"][i / 4 % 4];
        let beta = if random.below(3) == 0 { " beta=1" } else { "" };
        let post = random.pick(&POSTS);
        let mut tag = |name: &str, tags: &[&str]| {
            if random.below(2) == 0 { String::new() } else { format!(" {name}={}", random.pick(tags)) }
        };
        let tags = |tags: [&[&str]; 3], tag: &mut dyn FnMut(&str, &[&str]) -> String| {
            format!("{}{}{}", tag("stag", tags[0]), tag("wtag", tags[1]), tag("dtag", tags[2]))
        };
        texts.push(match i % 5 {
            0 => format!("matmul {dtypes} {m}x{k}:{k}x{n}{}{beta}{math}{post}", tags([&["ba"]; 3], &mut tag)),
            1 => {
                let t = tags([&["acb", "bac", "bca"], &["acb", "cab"], &["acb", "bac"]], &mut tag);
                let [b, r] = [(3, 3), (1, 4), (4, 1), (2, 2)].map(|(l, r)| [l, r])[i / 5 % 4];
                format!("matmul {dtypes} {b}x{m}x{k}:{r}x{k}x{n}{t}{beta}{math}{post}")
            }
            2 => {
                let t = tags([&["abdc", "acbd"], &["abdc", "acbd"], &["abdc", "acbd"]], &mut tag);
                let [l, r] =
                    [("2x3", "2x3"), ("2x1", "1x3"), ("1x1", "3x2"), ("2x3", "1x1")].map(|(l, r)| [l, r])[i / 5 % 4];
                format!("matmul {dtypes} {l}x{m}x{k}:{r}x{k}x{n}{t}{beta}{math}{post}")
            }
            3 => {
                format!("ip {dtypes} mb{m}ic{k}oc{n}{}{beta}{math}{post}", tags([&["ba"], &["ba"], &["ba"]], &mut tag))
            }
            _ => {
                let k = k.min(20);
                let t = tags([&["axb"], &["axb", "bcda"], &["ba"]], &mut |_, _| String::new());
                format!("ip {dtypes} mb{m}ic{k}ih3iw2oc{n}{t}{beta}{math}{post}")
            }
        });
    }
    // Attention with many heads, rows of one, and what networks have.
    texts.extend(
        [
            "matmul f32 12x16x64:12x64x16 wtag=abc +scale:0.125",
            "matmul bf16 1x512:512x300",
            "ip bf16 mb1ic512oc300 +bias",
        ]
        .map(String::from),
    );
    let mut work = vec![];
    for (i, text) in texts.iter().enumerate() {
        let problem: Problem = match text.parse() {
            Ok(problem) => problem,
            // With extents of 1 inside, a batch is innermost in memory: no kernel writes that.
            Err(ProblemError::Tag { .. }) => continue,
            Err(e) => panic!("{text}: {e}"),
        };
        if i % 3 == 0 {
            work.push((problem.clone(), Options { constant_weights: true, ..Options::default() }));
        }
        work.push((problem, Options::default()));
    }
    work
}

/// Convolutions: one to three axes, groups, depthwise, strides, dilations, padding that is uneven, wider than the kernel or
/// negative, either order in memory on either side, types, arithmetic modes, post-ops, weights packed before and not.
pub fn convolutions(emulated: bool) -> Vec<Work> {
    const DTYPES: [&str; 7] = ["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32", "f16", "f16:f16:f32", "f32:f16:f32"];
    let mut random = Random(97);
    let mut work = vec![];
    let mut refused = 0;
    let count = if emulated { 280 } else { 800 };
    while work.len() < count {
        let i = work.len();
        let rank = [2, 2, 1, 2, 3][i % 5];
        let letters = &["d", "h", "w"][3 - rank..];
        let mut space = String::new();
        for letter in letters {
            let most = [40, 17, 8][rank - 1];
            // Axes of single taps are copied by their strides.
            let kernel = if random.below(4) == 0 { 1 } else { 1 + random.below(if rank == 3 { 3 } else { 5 }) };
            let input = 1 + random.below(most);
            let (stride, dilation) = (1 + random.below(3), random.below(3) / 2 + random.below(2) * random.below(2));
            space += &format!("i{letter}{input}k{letter}{kernel}s{letter}{stride}d{letter}{dilation}");
            let pad = random.below(kernel + 2) as i64 - i64::from(random.below(8) == 0);
            match random.below(4) {
                // Behind is then whatever the outputs need.
                0 => space += &format!("p{letter}{pad}o{letter}{}", 1 + random.below(input.div_ceil(stride) + 2)),
                1 => space += &format!("o{letter}{}", input.div_ceil(stride)),
                _ => space += &format!("p{letter}{pad}"),
            }
        }
        let widths = [1, 2, 3, 4, 7, 8, 9, 12, 16, 17, 24, 33, 64, 70];
        let [ic, oc] = [(); 2].map(|()| *random.pick(&widths));
        let (g, ic, oc) = match random.below(6) {
            0 => (*random.pick(&widths), 1, 1),
            1 => (1 + random.below(4), ic.min(9), oc.min(17)),
            _ => (1, ic, oc),
        };
        let shape = format!("g{g}mb{}ic{}oc{}{space}", 1 + random.below(3), g * ic, g * oc);
        let mut tag = |name: &str| if random.below(3) == 0 { format!(" {name}=abx") } else { String::new() };
        let tags = tag("stag") + &tag("dtag");
        let beta = if random.below(4) == 0 { " beta=1" } else { "" };
        let math = ["", "", " fpmath=bf16", " fpmath=any"][i / 4 % 4];
        let whole = &"abcde"[..2 + rank];
        let post = match random.below(6) {
            0 => String::new(),
            1 => " +bias".into(),
            2 => " +bias+relu".into(),
            3 => format!(" +bias+add:{whole}+relu"),
            4 => format!(" +mul:b+add:{}", &whole[2..]),
            _ => format!(" +add:a+add:{whole}"),
        };
        let text = format!("conv {} {shape}{tags}{beta}{math}{post}", DTYPES[i % 7]);
        // A kernel may not fit into its input.
        let Ok(problem) = text.parse::<Problem>() else {
            refused += 1;
            assert!(refused < 10 * count, "{text} and many others are refused");
            continue;
        };
        if problem.macs() <= 1 << 20 {
            let constant_weights = random.below(3) != 0;
            work.push((problem, Options { constant_weights, ..Options::default() }));
        }
    }
    work
}

/// A chain of up to six post-ops, any of all, on a small problem.
pub fn random_chain(random: &mut Random) -> Work {
    let [m, k, n] = [20, 24, 40].map(|most| 1 + random.below(most));
    let dtypes =
        *random.pick(&["f32", "f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32", "f16", "f16:f16:f32", "f32:f16:f32"]);
    let (shape, rank) = match random.below(5) {
        4 => (format!("conv {dtypes} mb2ic{k}ih5iw{m}oc{n}kh3kw2ph1pw1"), 4),
        0 => (format!("matmul {dtypes} 3x{m}x{k}:3x{k}x{n}"), 3),
        1 => (format!("ip {dtypes} mb{m}ic{k}oc{n}"), 2),
        _ => (format!("matmul {dtypes} {m}x{k}:{k}x{n}"), 2),
    };
    let dtag = match (random.below(4), rank) {
        (0, 2) => " dtag=ba",
        (0, 4) => " dtag=abx",
        (0, _) => " dtag=acb",
        _ => "",
    };
    let beta = if random.below(4) == 0 { " beta=1" } else { "" };
    let chain: String = (0..1 + random.below(6)).map(|_| format!("+{}", random_post_op(random, rank))).collect();
    let text = format!("{shape}{dtag}{beta} {chain}");
    let options = Options { constant_weights: random.below(3) == 0, ..Options::default() };
    (text.parse().unwrap_or_else(|e| panic!("{text}: {e}")), options)
}

fn random_post_op(random: &mut Random, rank: usize) -> String {
    const NUMBERS: [&str; 6] = ["0.5", "-0.25", "1", "2", "0.1", "-3"];
    let mask: String = ('a'..).take(rank).filter(|_| random.below(2) == 0).collect();
    // The pixels of an image are one axis.
    let spatial = ["c", "d"].iter().filter(|d| mask.contains(**d)).count();
    let mask = if rank == 4 && spatial == 1 { mask.replace(['c', 'd'], "") + "cd" } else { mask };
    let mask = if mask.is_empty() { "b".to_owned() } else { mask };
    let number = *random.pick(&NUMBERS);
    match random.below(9) {
        0 => format!("bias:{mask}"),
        1 => format!("add:{mask}"),
        2 => format!("mul:{mask}"),
        3 => {
            let word = random.pick(&["bias", "bias:row", "clamp:-1:0.75", "clamp:0:6"]);
            (if rank == 4 { word.replace(":row", "") } else { word.to_string() }).to_owned()
        }
        4 => format!("{}:{number}", random.pick(&["scale", "shift", "leaky_relu"])),
        _ => random.pick(&PostOp::plain().collect::<Vec<_>>()).to_string(),
    }
}
