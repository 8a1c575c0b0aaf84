//! Tensors in files.

use std::fs;
use std::path::Path;

use crate::{kiln, npy_bytes};

const PROBLEM: &str = "matmul f32 2x3:3x2 +bias";
const LHS: [f32; 6] = [1.0, 2.0, 3.0, -1.0, 0.5, 0.25];
const RHS: [f32; 6] = [1.0, 0.0, 0.0, 1.0, 2.0, -2.0];
const BIAS: [f32; 2] = [10.0, 20.0];

/// The elements of a file of shape (2, 2) and nothing but it.
fn read_2x2(path: &Path) -> Vec<f32> {
    read(path, "<f4", "(2, 2)").chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The bytes of the elements of a file.
fn read(path: &Path, descr: &str, shape: &str) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(start % 64, 0);
    let header = std::str::from_utf8(&bytes[10..start]).unwrap();
    assert_eq!(header.trim_end(), format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"));
    bytes[start..].to_vec()
}

struct Files(tempfile::TempDir);

impl Files {
    fn good() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.put("lhs.npy", &npy_bytes("<f4", "False", "(2, 3)", &LHS));
        files.put("rhs.npy", &npy_bytes("<f4", "False", "(3, 2)", &RHS));
        files.put("bias.npy", &npy_bytes("<f4", "False", "(2,)", &BIAS));
        // rhs column by column.
        files.put("columns.npy", &npy_bytes("<f4", "False", "(2, 3)", &[1.0, 0.0, 2.0, 0.0, 1.0, -2.0]));
        files
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn operands_are_read_and_the_result_is_written() {
    let files = Files::good();
    let [lhs, rhs, bias, dst] = ["lhs.npy", "rhs.npy", "bias.npy", "dst.npy"].map(|n| files.path(n));
    kiln(&["run", PROBLEM, "--lhs", &lhs, "--rhs", &rhs, "--bias", &bias, "--dst", &dst])
        .exits(0)
        .says("check      PASSED");
    assert_eq!(read_2x2(Path::new(&dst)), [17.0, 16.0, 9.5, 20.0]);

    // Gaps are of memory, not of files.
    fs::remove_file(&dst).unwrap();
    let apart = "matmul f32 2x3:3x2 strides=7x1:1x4:5x1 +bias";
    kiln(&["run", apart, "--lhs", &lhs, "--rhs", &files.path("columns.npy"), "--bias", &bias, "--dst", &dst])
        .exits(0)
        .says("check      PASSED");
    assert_eq!(read_2x2(Path::new(&dst)), [17.0, 16.0, 9.5, 20.0]);

    // What was written is an operand again.
    let next = files.path("next.npy");
    let identity = files.path("identity.npy");
    files.put("identity.npy", &npy_bytes("<f4", "False", "(2, 2)", &[1.0, 0.0, 0.0, 1.0]));
    kiln(&["run", "matmul f32 2x2:2x2", "--lhs", &dst, "--rhs", &identity, "--dst", &next]).exits(0);
    assert_eq!(read_2x2(Path::new(&next)), [17.0, 16.0, 9.5, 20.0]);
}

#[test]
fn every_operand_is_read_in_memory_order_and_bf16_is_written_as_f32() {
    let files = Files::good();
    let [lhs, rhs, bias, dst] = ["lhs.npy", "rhs.npy", "bias.npy", "dst.npy"].map(|n| files.path(n));
    // RHS read as the transpose of a 2x3 matrix; its rows are the columns.
    files.put("transposed.npy", &npy_bytes("<f4", "False", "(2, 3)", &[1.0, 0.0, 2.0, 0.0, 1.0, -2.0]));
    files.put("add.npy", &npy_bytes("<f4", "False", "(2, 2)", &[1.0, 2.0, 3.0, 4.0]));
    files.put("mul.npy", &npy_bytes("<f4", "False", "(2,)", &[2.0, 0.5]));
    files.put("before.npy", &npy_bytes("<f4", "False", "(2, 2)", &[100.0, 200.0, 300.0, 400.0]));
    let problem = "matmul bf16 2x3:3x2 wtag=ba beta=1 +bias+add:ab+mul:a";
    let (mul, before) = (format!("mul={}", files.path("mul.npy")), format!("dst={}", files.path("before.npy")));
    let transposed = files.path("transposed.npy");
    let residual = files.path("add.npy");
    kiln(&[
        "run",
        problem,
        "--lhs",
        &lhs,
        "--rhs",
        &transposed,
        "--bias",
        &bias,
        "--residual",
        &residual,
        "--operand",
        &mul,
        "--operand",
        &before,
        "--dst",
        &dst,
    ])
    .exits(0)
    .says("PASSED");
    // ((A W + before + bias + add) * mul, rounded to bf16) of [17, 16, 9.5, 20] = A W + bias.
    assert_eq!(read_2x2(Path::new(&dst)), [236.0, 436.0, 156.0, 212.0]);

    let bits: Vec<u8> = LHS.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect();
    let raw = [npy_bytes("<u2", "False", "(2, 3)", &[]), bits].concat();
    files.put("raw.npy", &raw);
    let args = ["run", "matmul bf16:bf16:f32 2x3:3x2", "--rhs", &rhs, "--dst", &dst, "--lhs"];
    kiln(&[&args[..], &[&files.path("raw.npy")]].concat()).exits(0);
    assert_eq!(read_2x2(Path::new(&dst)), [7.0, -4.0, -0.5, 0.0]);
}

#[test]
fn integers_are_written_exactly() {
    // The sums have more bits than f32, and the second is less than zero.
    const K: usize = 519;
    let files = Files::good();
    let [lhs, rhs, dst] = ["bytes.npy", "weights.npy", "dst.npy"].map(|n| files.path(n));
    files.put("bytes.npy", &[npy_bytes("|u1", "False", &format!("(1, {K})"), &[]), vec![255; K]].concat());
    let weights = [127, 0x80].repeat(K);
    files.put("weights.npy", &[npy_bytes("|i1", "False", &format!("({K}, 2)"), &[]), weights].concat());
    let problem = format!("matmul u8:s8:s32 1x{K}:{K}x2");
    kiln(&["run", &problem, "--lhs", &lhs, "--rhs", &rhs, "--dst", &dst]).exits(0).says("check      PASSED");
    let sums = [255 * 127 * K as i32, -255 * 128 * K as i32];
    assert_eq!(read(Path::new(&dst), "<i4", "(1, 2)"), sums.map(i32::to_le_bytes).concat());
}

#[test]
fn missing_operands_come_from_the_seed() {
    let files = Files::good();
    let result = |seed: &str, name: &str| {
        let dst = files.path(name);
        kiln(&["run", "matmul f32 2x3:3x2", "--seed", seed, "--dst", &dst]).exits(0);
        read_2x2(Path::new(&dst))
    };
    let one = result("1", "a.npy");
    assert_eq!(one, result("1", "b.npy"));
    assert_ne!(one, result("2", "c.npy"));
}

#[test]
fn special_values_pass_through() {
    let files = Files::good();
    files.put("lhs.npy", &npy_bytes("<f4", "False", "(2, 3)", &[f32::NAN, 0.0, 0.0, f32::INFINITY, 1.0, 1.0]));
    let dst = files.path("dst.npy");
    kiln(&["run", PROBLEM, "--lhs", &files.path("lhs.npy"), "--rhs", &files.path("rhs.npy"), "--dst", &dst]).exits(0);
    let got = read_2x2(Path::new(&dst));
    assert!(got[0].is_nan() && got[1].is_nan() && got[2] == f32::INFINITY && got[3].is_nan(), "{got:?}");
}

#[test]
fn bad_files_are_refused() {
    let files = Files::good();
    let good = npy_bytes("<f4", "False", "(2, 3)", &LHS);
    let huge = "(1099511627776, 1099511627776)";
    for (bytes, texts) in [
        (npy_bytes("<f8", "False", "(2, 3)", &LHS), &["'<f8'", "'<f4'"][..]),
        (npy_bytes(">f4", "False", "(2, 3)", &LHS), &["'>f4'", "'<f4'"]),
        (npy_bytes("<i4", "False", "(2, 3)", &LHS), &["'<i4'"]),
        (npy_bytes("<f4", "False", "(6,)", &LHS), &["(6,)", "1 dimension(s)", "expected 2"]),
        (npy_bytes("<f4", "False", "(1, 2, 3)", &LHS), &["3 dimension(s)"]),
        (npy_bytes("<f4", "True", "(2, 3)", &LHS), &["Fortran order", "expected C order"]),
        (npy_bytes("<f4", "False", "(3, 2)", &LHS), &["shape is (3, 2)", "expected (2, 3)"]),
        (npy_bytes("<f4", "False", huge, &LHS), &["shape is (1099511627776, 1099511627776)"]),
        (npy_bytes("<f4", "False", "(2, 3", &LHS), &["bad .npy header"]),
        (good[..good.len() - 1].to_vec(), &["truncated: 23 bytes", "expected 24"]),
        (good[..40].to_vec(), &["bad .npy header", "the file ends"]),
        (vec![], &["not an .npy file"]),
        ([&good[..], &[0]].concat(), &["data after the 24 bytes"]),
        (b"1,2,3\n4,5,6\n".to_vec(), &["not an .npy file"]),
    ] {
        files.put("bad.npy", &bytes);
        let path = files.path("bad.npy");
        let all: Vec<&str> = [path.as_str(), "lhs"].iter().chain(texts).copied().collect();
        let expected = if texts.iter().any(|t| t.contains(".npy")) { &all[..1] } else { &all[..] };
        kiln(&["run", PROBLEM, "--lhs", &path]).refuses(expected);
        kiln(&["run", PROBLEM, "--lhs", &path]).refuses(texts);
    }
    kiln(&["run", PROBLEM, "--lhs", &files.path("absent.npy")]).refuses(&["absent.npy"]);
    kiln(&["run", PROBLEM, "--lhs", files.0.path().to_str().unwrap()])
        .refuses(&["it is a directory, not a regular file"]);
    kiln(&["run", PROBLEM, "--dst", "/nonexistent/dst.npy"]).refuses(&["/nonexistent/dst.npy"]);
}

#[test]
fn files_must_suit_the_problem() {
    let files = Files::good();
    let [lhs, bias] = ["lhs.npy", "bias.npy"].map(|n| files.path(n));
    kiln(&["run", "matmul f32 2x3:3x2", "--bias", &bias]).refuses(&["--bias", "no bias operand", "add `+bias`"]);
    kiln(&["run", PROBLEM, "--residual", &lhs]).refuses(&["--residual", "no add operand", "+add:MASK"]);
    let named = |name: &str| kiln(&["run", PROBLEM, "--operand", &format!("{name}={lhs}")]);
    named("mul").refuses(&["--operand mul", "no mul operand", "it has lhs, rhs, bias"]);
    named("dst").refuses(&["--operand dst", "beta=1"]);
    fs::write(files.path("list"), format!("{PROBLEM}\n{PROBLEM}\n")).unwrap();
    kiln(&["run", "--batch", &files.path("list"), "--lhs", &lhs]).refuses(&["--lhs is for one problem", "2"]);
}
