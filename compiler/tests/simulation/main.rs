//! Whole artifacts, executed without a processor: the nest's loops here, its tiles and copies by the interpreter of their
//! micro-kernels, against the reference in double precision. Any host checks every target.

mod integers;
mod machine;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_compiler::target::VectorIsa;
use kiln_compiler::{Options, Target, compile};
use kiln_ir::{DType, Problem, Role, Sums};

/// Every vector unit, with and without BF16, several vector lengths.
const TARGETS: [&str; 11] = [
    "armv8",
    "armv8+bf16",
    "neoverse-v1",
    "neoverse-v1-sve",
    "neoverse-v2",
    "sve128+bf16-neon",
    "sve512+bf16",
    "sve1024+bf16-neon",
    "sve2048+bf16-neon",
    "x86-64-v3",
    "x86-64-v4",
];

/// Problems of every kind, small enough to be interpreted.
fn problems() -> Vec<String> {
    let mut all = vec![];
    let shapes = [
        (1, 1, 1),
        (1, 9, 1),
        (1, 70, 37),
        (2, 3, 4),
        (3, 17, 9),
        (5, 64, 16),
        (13, 31, 17),
        (17, 40, 50),
        (37, 5, 1),
        (24, 130, 33),
    ];
    for (i, (m, k, n)) in shapes.into_iter().enumerate() {
        let dtypes = ["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"];
        for (j, dtypes) in dtypes.into_iter().enumerate() {
            let tags = ["", " wtag=ba", " stag=ba", " stag=ba wtag=ba dtag=ba", " dtag=ba beta=1", " beta=1"];
            for t in 0..3 {
                let tags = tags[(i + j + 2 * t) % tags.len()];
                let math = ["", " fpmath=bf16", " fpmath=any"][(i + t) % 3];
                let post = [
                    "",
                    " +bias",
                    " +bias+relu",
                    " +bias:row+add:ab+relu",
                    " +mul:b+scale:0.5+clamp:-7:9+add:a",
                    " +abs+bias:ab+leaky_relu:0.25+square",
                ][(i + 3 * j + t) % 6];
                all.push(format!("matmul {dtypes} {m}x{k}:{k}x{n}{tags}{math}{post}"));
            }
            all.push(format!("ip {dtypes} mb{m}ic{k}oc{n} fpmath=bf16 +bias"));
        }
    }
    all.extend(
        [
            "matmul f32 3x4x20:3x20x9 +bias+add:abc",
            "matmul f32 3x4x20:1x20x9 +add:a",
            "matmul f32 1x4x20:3x20x9 fpmath=bf16",
            "matmul bf16 2x3x4x20:2x1x20x9 +mul:abd",
            "matmul bf16:bf16:f32 2x3x4x20:1x3x20x9 wtag=abdc beta=1 +add:abcd",
            "matmul f32 3x4x20:3x20x9 stag=bac wtag=cab",
            "matmul f32 3x4x20:3x20x9 dtag=acb +add:abc+bias",
            "matmul f32 3x1x20:3x20x1",
            "matmul f32 14x6x1x25:1x1x25x1",
            "ip f32 mb3ic5ih3oc7 +bias+relu",
            "ip bf16 mb2ic5id2oc7 wtag=abcde",
            "matmul f32 40x300:300x40 +bias",
            "matmul f32 3x40x30:3x30x40 stag=bca fpmath=bf16",
            "matmul bf16 3x40x30:3x30x40 stag=bca wtag=bca",
            "matmul f32 9x1100:1100x20 beta=1 +relu",
        ]
        .map(str::to_owned),
    );
    all
}

/// Problems with strides, of every form of micro-kernel and every way to read a factor: rows and columns apart, both, elements
/// that overlap in a source, batches with gaps, rows that are no line of memory, images and lines of images with gaps.
fn strided() -> Vec<String> {
    let mut all = vec![];
    for (i, (m, k, n)) in
        [(1, 70, 37), (3, 17, 9), (5, 64, 16), (13, 31, 17), (17, 40, 50), (24, 130, 33)].into_iter().enumerate()
    {
        for (j, dtypes) in ["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"].into_iter().enumerate() {
            let lhs = [
                format!("{}x1", k + 3),
                format!("1x{}", m + 1),
                format!("{}x2", 2 * k + 5),
                "1x2".into(),
                "9x1".into(),
            ];
            let rhs =
                [format!("{}x1", n + 5), format!("1x{}", k + 2), format!("{}x3", 3 * n), "1x1".into(), String::new()];
            let dst = [format!("{}x1", n + 7), format!("1x{}", m + 3), String::new()];
            for t in 0..4 {
                let strides = format!("{}:{}:{}", lhs[(i + t) % 5], rhs[(i + j + 2 * t) % 5], dst[(j + t) % 3]);
                let math = ["", " fpmath=bf16"][(i + t) % 2];
                let post = ["", " +bias+relu", " +bias:row+add:ab+relu", " +mul:b+add:a"][(i + 3 * j + t) % 4];
                let beta = if (i + j + t) % 3 == 0 { " beta=1" } else { "" };
                all.push(format!("matmul {dtypes} {m}x{k}:{k}x{n} strides={strides}{beta}{math}{post}"));
            }
            let (row, pitch) = (k + 1 + j, n + 1 + i);
            all.push(format!("ip {dtypes} mb{m}ic{k}oc{n} strides={row}x1:{row}x1:{pitch}x1 fpmath=bf16 +bias"));
        }
    }
    all.extend(
        [
            "matmul f32 1x70:70x37 strides=::99x3 +bias+add:ab",
            "matmul bf16 3x4x20:3x20x9 strides=100x25x1:200x10x1:50x11x1 +bias+add:abc",
            "matmul f32 3x4x20:1x20x9 strides=80x20x1::44x11x1 +add:a",
            "matmul f32 3x4x20:3x20x9 strides=2x300x11:1x99x5:9x40x1 fpmath=bf16",
            "matmul bf16:bf16:f32 2x3x4x20:1x3x20x9 strides=900x250x60x3:300x250x12x1:200x60x1x5 beta=1 +add:abcd",
            "matmul f32 3x1x20:3x20x1 strides=33x20x1::7x1x1",
            "matmul f32 3x40x30:3x30x40 strides=1x95x3:::fpmath=bf16",
            "ip f32 mb3ic5ih3oc7 strides=50x9x3x1:60x9x3x1:9x1 +bias+relu",
            "ip bf16 mb2ic5id2oc7 strides=99x8x4x2x1:::fpmath=bf16",
        ]
        .map(|text| text.replace(":::fpmath", ":: fpmath")),
    );
    let images = [
        ("mb2ic16ih7oc16kh3ph1", "9999x1x200x20", "2000x1x140x20", "999x60x8x1", "1200x50x7x1"),
        ("mb1ic8ih13iw21oc24kh3ph1", "9999x1x250x9", "9999x1x546x26", "9999x300x23x1", "9999x280x21x1"),
        ("mb2ic20ih14oc33kh1sh2ph0", "9999x2x600x40", "9999x1x245x35", "9999x250x16x1", "9999x60x7x1"),
        ("mb2ic12ih6oc9kh1ph0", "9999x1x80x13", "400x1x60x10", "999x40x6x1", "999x37x6x1"),
        ("g3mb2ic15ih8oc12kh3ph1", "9999x1x160x17", "9999x1x112x14", "9999x99x9x1", "9999x65x8x1"),
        ("g21mb1ic21ih11oc21kh3ph1sh2", "9999x1x300x25", "9999x1x132x22", "9999x130x11x1", "9999x40x6x1"),
        ("g16mb1ic16iw30oc16kw5pw2", "999x1x18", "999x1x17", "999x31x1", "999x40x1"),
        (
            "mb1ic4id5ih6iw7oc9kd3kh3kw3pd1ph1pw1",
            "9999x1x400x50x5",
            "9999x1x420x70x10",
            "9999x999x99x9x1",
            "9999x220x42x7x1",
        ),
    ];
    for (i, (shape, last, last_dst, first, first_dst)) in images.into_iter().enumerate() {
        for j in 0..4 {
            let dtypes = ["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"][(i + j) % 4];
            let strides = [(last, last_dst), (first, first_dst), (last, first_dst), (first, last_dst)][j];
            let post = ["", " +bias+relu", " +bias+add:ab", " beta=1"][(i + 2 * j) % 4];
            let (math, beta) = (["", " fpmath=bf16"][(i + j) % 2], if post == " beta=1" { post } else { "" });
            let post = post.trim_start_matches(" beta=1");
            all.push(format!("conv {dtypes} {shape} strides={}::{}{beta}{math}{post}", strides.0, strides.1));
        }
    }
    // Outputs beyond all inputs are what post-ops make of nothing.
    all.push("conv f32 mb3ic8ih1iw1oc2oh2ow1kh2kw2sw2ph2pw2 +scale:0+shift:-3".into());
    all
}

const RANDOM_CONVOLUTIONS: usize = 400;

/// So many shapes of convolutions, with kernels, strides, dilations and borders that few networks have.
fn random_shapes(count: usize) -> Vec<String> {
    let mut state = 11u64;
    // Xorshift, by Marsaglia.
    let mut below = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) % n
    };
    const WIDTHS: [u64; 8] = [1, 2, 3, 5, 8, 9, 17, 20];
    let mut shapes = vec![];
    while shapes.len() < count {
        let rank = 1 + below(3) as usize;
        let mut width = |most: u64| WIDTHS[below(most) as usize];
        let (g, ic, oc) = match width(3) {
            1 => (1, width(8), width(8)),
            2 => (width(8), 1, 1),
            _ => (width(3), width(6), width(8)),
        };
        let mut text = format!("g{g}mb{}ic{}oc{}", 1 + below(2), g * ic, g * oc);
        for letter in &["d", "h", "w"][3 - rank..] {
            // Often fewer pixels than the stride.
            let input = 1 + if below(3) == 0 { below(3) } else { below([18, 9, 5][rank - 1]) };
            let kernel = [1, 1, 2, 3][below(4) as usize];
            let (stride, dilation, pad) = (1 + below(3), below(2), below(kernel + 2));
            text += &format!("i{letter}{input}k{letter}{kernel}s{letter}{stride}d{letter}{dilation}p{letter}{pad}");
            if below(2) == 0 {
                text += &format!("o{letter}{}", 1 + below(input.div_ceil(stride) + 2));
            }
        }
        // A kernel may not fit into its input.
        if format!("conv f32 {text}").parse::<Problem>().is_ok() {
            shapes.push(text);
        }
    }
    shapes
}

/// Convolutions of every kind: borders on every side, strides, dilations, groups, one to three axes, either layout.
fn convolutions() -> Vec<String> {
    let shapes = [
        "mb1ic3ih9oc5kh3ph1",
        "mb2ic16ih7oc16kh3ph1",
        "mb1ic8ih13iw21oc24kh3ph1",
        "mb1ic3ih23oc20kh7sh2ph3",
        "mb2ic20ih14oc33kh1sh2ph0",
        "mb2ic12ih6oc9kh1ph0",
        "mb1ic5ih12oc7kh5ph2dh1",
        "mb1ic4ih4oc8oh7kh3ph5",
        "mb1ic6ih10iw9oc6oh7ow9kh2kw3ph0pw2sh1sw1",
        "g3mb2ic15ih8oc12kh3ph1",
        "g8mb1ic8ih10oc16kh3ph1",
        "g13mb2ic13ih9oc13kh3ph1",
        "g21mb1ic21ih11oc21kh3ph1sh2",
        "g16mb1ic16iw30oc16kw5pw2",
        "mb2ic7iw40oc18kw3pw1",
        "mb1ic6iw1ow100oc4kw3pw100",
        "mb1ic4id5ih6iw7oc9kd3kh3kw3pd1ph1pw1",
        "mb2ic3id4ih5iw4oc5kd2kh1kw3pd0ph0pw1sd2sh1sw2",
        "g5mb1ic5id4ih5iw6oc5kd3kh3kw3pd1ph1pw1",
        "mb3ic40ih3oc10kh3ph0",
        "mb1ic1ih12oc16kh4ph1sh2",
        "mb1ic70ih6iw15oc40kh3ph1",
        "mb1ic64ih14oc64kh1ph1sh1",
        "mb1ic9ih7iw8oc1kh3ph1",
        "mb1ic4iw34oc24kw1sw2",
        // Lines with fewer pixels than the stride, and outputs beyond all inputs.
        "g4mb2ic36id6ih6iw2oc68oh3kd3kh1kw3sd3sw3pd2ph0pw3dd1dh2",
        "mb1ic8ih4iw2oc8kh2kw3sh1sw3pw3",
        "g3mb1ic3ih2iw5oc3oh2kh1kw1sh2",
        "mb7ic16ih1iw2oc2oh2kh1kw2",
    ];
    let random = random_shapes(RANDOM_CONVOLUTIONS);
    let shapes: Vec<&str> = shapes.into_iter().chain(random.iter().map(String::as_str)).collect();
    let mut all = vec![];
    for (i, shape) in shapes.iter().enumerate() {
        // Of each random one two of the kinds.
        for j in if i < shapes.len() - random.len() { 0..4 } else { i % 3..i % 3 + 2 } {
            let dtypes = ["f32", "bf16", "bf16:bf16:f32", "f32:bf16:f32"][(i + j) % 4];
            let tags = ["", " stag=abx dtag=abx", " stag=abx", " dtag=abx"][(i / 2 + j) % 4];
            let rank = if shape.contains("id") {
                5
            } else if shape.contains("ih") {
                4
            } else {
                3
            };
            let whole = &"abcde"[..rank];
            let post = [
                String::new(),
                " +bias+relu".into(),
                format!(" beta=1 +bias+add:{whole}+relu"),
                format!(" +mul:b+add:{}+scale:0.5+add:ab", &whole[2..]),
                format!(" beta=1 +add:{whole}"),
            ];
            let post = &post[(2 * i + j) % 5];
            let (math, rest) =
                (["", " fpmath=bf16", " fpmath=any"][(i + 2 * j) % 3], post.trim_start_matches(" beta=1"));
            let beta = if rest.len() < post.len() { " beta=1" } else { "" };
            all.push(format!("conv {dtypes} {shape}{tags}{beta}{math}{rest}"));
        }
    }
    all
}

/// Small integers that repeat at no round period.
fn integers(len: u64, salt: u64) -> Vec<f32> {
    (0..len).map(|i| ((i.wrapping_mul(2_654_435_761) + salt * 40_503) >> 7 & 7) as f32 - 4.0).collect()
}

/// What an operand of `problem` holds where nobody reads, and a result before it is written: NaN, or an integer that shows if it is used.
fn unused(problem: &Problem, dtype: DType) -> f32 {
    match dtype {
        // Bytes have no number that no element is, so one as far from the others as there is.
        DType::S8 => -128.0,
        DType::U8 => 255.0,
        integer if integer.is_integer() => {
            // No sum of products is this.
            let [.., k] = problem.extents();
            let unused = -(1i64 << 30);
            assert!(integer == DType::S32 && (k as i64) * 255 * 128 < -unused, "{problem} may have this result");
            unused as f32
        }
        _ => f32::NAN,
    }
}

/// What was simulated of an artifact.
struct Simulated {
    /// The mnemonics of its products of integers.
    products: Vec<&'static str>,
    /// Its weights are packed.
    packed: bool,
    /// Its micro-kernels of AVX-512.
    avx512: usize,
}

fn check(problem: &Problem, target: &Target, constant_weights: bool) -> Result<Simulated, String> {
    let options = Options { constant_weights, ..Options::default() };
    let a = compile(problem, target, &options).map_err(|e| e.to_string())?;
    let operands = problem.operands();
    let values: Vec<Vec<f32>> = operands
        .iter()
        .enumerate()
        .map(|(i, o)| {
            let mut values = match o.dtype {
                DType::S8 | DType::U8 => integers::any_bytes(o.dtype, o.span(), i as u64),
                _ => integers(o.span(), i as u64),
            };
            let mut elements = vec![false; values.len()];
            o.places().for_each(|at| elements[at as usize] = true);
            for (value, is_element) in values.iter_mut().zip(elements) {
                // What is not accumulated into is not read, nor is what no element is in, which is not written either.
                if is_element == (o.role == Role::Dst) && !(is_element && problem.accumulates()) {
                    *value = unused(problem, o.dtype);
                }
            }
            values
        })
        .collect();
    let slices: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    let want = problem.reference(&slices, Sums::Exact);
    let mut memory: Vec<Vec<u8>> = operands.iter().zip(&values).map(|(o, v)| machine::bytes(o.dtype, v)).collect();
    if let Some(layout) = a.packed_layout() {
        let c = a.contraction();
        let mut packed = vec![0; layout.bytes() as usize];
        let bytes = machine::bytes(operands[1].dtype, &values[1]);
        let weights = kiln_ir::elements::Elements::from_bytes(operands[1].dtype, &bytes).unwrap();
        layout.pack(&c.rhs, c.rhs_tap(), weights, &mut packed);
        let (offsets, total) = layout.region_offsets();
        let region = |r: usize| {
            let end = offsets.get(r + 1).copied().unwrap_or(total);
            packed[offsets[r] as usize..end as usize].to_vec()
        };
        let mut regions =
            std::iter::once(0).chain(a.packed_layout().map_or(vec![], |l| l.further_arguments())).map(region);
        memory[1].clone_from(&regions.next().expect("a layout has a region"));
        memory.extend(regions);
    }
    machine::run(&a, &mut memory)?;
    let dst = &operands[operands.len() - 1];
    let got = machine::numbers(dst.dtype, &memory[operands.len() - 1]);
    for (i, (got, (want, bound))) in got.iter().zip(want.value.iter().zip(&want.bound)).enumerate() {
        let right = if *bound == 0.0 { got == want } else { (got - want).abs() <= *bound };
        if !right {
            return Err(format!(
                "dst[{i}] is {got} instead of {want} +- {bound}\n{}\n{}",
                a.choice().schedule,
                a.nest()
            ));
        }
    }
    let avx512 = a.micro_kernels().iter().filter(|k| k.isa == VectorIsa::Avx512).count();
    let products = if dst.dtype.is_integer() { integers::products(&a) } else { vec![] };
    Ok(Simulated { products, packed: a.packed_layout().is_some(), avx512 })
}

/// Whether this machine executes AVX-512. Machines differ in it.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[test]
fn every_artifact_computes_its_problem() {
    compute(&problems(), &TARGETS);
}

#[test]
fn every_artifact_computes_with_strides() {
    compute(&strided(), &TARGETS);
}

#[test]
fn every_artifact_computes_its_convolution() {
    compute(&convolutions(), &TARGETS);
}

/// How many artifacts have which product, by the types of the problem, the target and the mnemonic.
type Products = BTreeMap<(String, String, &'static str), usize>;

fn compute(problems: &[String], targets: &[&str]) -> Products {
    let emulated = std::env::var_os("KILN_TEST_RUNNER").is_some();
    let problems: Vec<Problem> = problems.iter().map(|t| t.parse().unwrap_or_else(|e| panic!("{t}: {e}"))).collect();
    let work: Vec<(&Problem, &str)> = problems.iter().flat_map(|p| targets.iter().map(move |t| (p, *t))).collect();
    let work: Vec<_> = work.into_iter().step_by(if emulated { 37 } else { 1 }).collect();
    let (next, packed, avx512) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (failures, products) = (std::sync::Mutex::new(vec![]), std::sync::Mutex::new(Products::new()));
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some((problem, target)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for constant in [false, true] {
                        let result = std::panic::catch_unwind(|| check(problem, &target.parse().unwrap(), constant));
                        match result.unwrap_or_else(|_| Err("panicked".into())) {
                            Ok(s) => {
                                let dtypes = problem.dtypes();
                                for product in s.products {
                                    let kind = (dtypes.to_string(), (*target).to_owned(), product);
                                    *products.lock().unwrap().entry(kind).or_default() += 1;
                                }
                                packed.fetch_add(usize::from(s.packed), Ordering::Relaxed);
                                avx512.fetch_add(s.avx512, Ordering::Relaxed);
                            }
                            Err(e) => {
                                failures.lock().unwrap().push(format!("{problem} @{target} constant={constant}: {e}"))
                            }
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let shown = failures.iter().take(600).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {} failed:\n{shown}", failures.len(), 2 * work.len());
    assert!(packed.into_inner() > work.len() / 10, "few kernels take packed weights");
    let avx512 = avx512.into_inner();
    assert!(avx512 > work.len() / targets.len(), "few micro-kernels are of AVX-512");
    if !has_avx512() {
        // Past the test's own capture: a run that passed says what it did not do.
        let line = "micro-kernels of AVX-512 are simulated; no machine here executes their code";
        let _ = writeln!(std::io::stderr(), "simulation: {avx512} {line}");
    }
    products.into_inner().unwrap()
}
