//! `kiln verify`.

use crate::{SMALL, kiln, kiln_with_input};

#[test]
fn one_line_a_problem_then_the_totals() {
    let list = "matmul f32 1x1:1x1\nmatmul f32 7x13:13x17 +relu\nmatmul f32 64x64:64x64 +bias\n";
    let text = kiln_with_input(&["verify", "-"], list).exits(0).stdout;
    let lines: Vec<&str> = text.lines().collect();
    let [a, b, c, last] = lines[..] else { panic!("{text}") };
    for (line, problem) in [a, b, c].into_iter().zip(list.lines()) {
        assert!(line.starts_with(&format!("PASSED: {problem} @")), "{line}");
    }
    assert_eq!(last, "tests:3 passed:3 failed:0 unimplemented:0");
}

#[test]
fn every_kind_of_problem() {
    let list = "matmul bf16 3x7x13:1x13x17 +bias+silu\nip f32 mb5ic9ih3oc11 beta=1 +mul:ab\n\
                matmul f32:bf16:f32 2x4x8:2x8x6 dtag=acb +add:abc\nmatmul f32 9x33:33x20 fpmath=bf16 +gelu_tanh\n";
    kiln_with_input(&["verify", "-"], list).exits(0).says("passed:4 failed:0");
    kiln_with_input(&["verify", "-", "--packed", "--threads", "2"], list).exits(0).says("passed:4 failed:0");
}

#[test]
fn batch_files_of_benchdnn() {
    let list = "--reset --dt=f32\n# attention\n3x12x8:3x8x12_n\"bert scores\"\n2x3:3x4\nip f32 mb2ic3oc4\n";
    let args = ["verify", "-", "--op", "matmul", "--dtypes", "bf16", "--attributes", "beta=1 +relu"];
    let outcome = kiln_with_input(&args, list).exits(0);
    assert!(outcome.stderr.contains("standard input:1: skipped `--reset --dt=f32`"), "{outcome:?}");
    outcome
        .says("PASSED: matmul bf16 3x12x8:3x8x12 beta=1 +relu @")
        .says("PASSED: matmul bf16 2x3:3x4 beta=1 +relu @")
        .says("PASSED: ip f32 mb2ic3oc4 @")
        .says("tests:3 passed:3");
    let text = ["verify", "--op", "ip", "ic30oc40n\"last layer\"", "--max-macs", "100000"];
    kiln(&text).exits(0).says("PASSED: ip f32 mb2ic30oc40 @");
}

/// Lists with strides, on lines of their own and in front of descriptors, in the way of benchdnn's `shapes_mem_strided` and
/// `harness_matmul_strides`.
#[test]
fn lists_of_benchdnn_with_strides() {
    let list = "--reset\n--strides=4x1:4x1:4x1,13x1:7x1:9x1\n2x4:4x4:2x4\n--strides=::13x1 114x21:21x12:114x12\n\
                --strides=60x1::5x1 10x30:30x1\n--strides=1200x1::2x1 1x300:300x1\n--strides=150x1::47x1 2x30:30x47\n\
                --strides=4500x90x1::150x3x1 2x10x30:2x30x1\n--strides=4096x64x1::1024x16x1 7x32x16:1x16x8\n\
                --strides=1326x51x1::8450x325x1 1x26x17:5x17x65\n--strides=60x27x13x1:71x29x7x1:59x19x9x1\n\
                3x2x2x4:3x2x4x4:3x2x2x4\n--strides=120x1x12::\n3x10x12:3x12x8n\"columns\"\n";
    for dtypes in ["f32", "bf16", "bf16:bf16:f32", "f16", "f16:f16:f32"] {
        let args = ["verify", "-", "--op", "matmul", "--dtypes", dtypes, "--attributes", "+bias"];
        let outcome = kiln_with_input(&args, list).exits(0);
        outcome
            .says(&format!("PASSED: matmul {dtypes} 2x4:4x4 +bias @"))
            .says(&format!("PASSED: matmul {dtypes} 2x4:4x4 strides=13x1:7x1:9x1 +bias @"))
            .says(&format!("PASSED: matmul {dtypes} 1x300:300x1 +bias @"))
            .says(&format!("PASSED: matmul {dtypes} 3x2x2x4:3x2x4x4 strides=60x27x13x1:71x29x7x1:59x19x9x1 +bias @"))
            .says("tests:11 passed:11");
    }
    let inner = "--strides=80x1:70x1:64x1 mb7ic64oc48\nmb7ic64oc48\n";
    let args = ["verify", "-", "--op", "ip", "--packed", "--threads", "2"];
    kiln_with_input(&args, inner).exits(0).says("tests:2 passed:2");
    let list = "--strides=::3x1 2x3:3x4\n";
    let args = ["verify", "-", "--op", "matmul"];
    kiln_with_input(&args, list).refuses(&["standard input:1: strides of dst, `3x1`", "overlap"]);
}

#[test]
fn what_has_no_kernel_is_counted_and_fails() {
    // Rows too long for the constants in addresses.
    let list = "matmul f32 2x1:1x16777217\nmatmul f32 2x3:3x4\n";
    kiln_with_input(&["verify", "-"], list)
        .exits(1)
        .says("UNIMPLEMENTED: matmul f32 2x1:1x16777217 @")
        .says("PASSED: matmul f32 2x3:3x4 @")
        .says("\ntests:2 passed:1 failed:0 unimplemented:1\n");
}

#[test]
fn threads_give_the_same_bits() {
    kiln(&["verify", "matmul f32 300x300:300x300 +bias+relu", "--threads", "3"]).exits(0).says("passed:1");
}

#[test]
fn large_problems_are_scaled() {
    kiln(&["verify", "matmul f32 129x770:770x3071 +bias+relu", "--max-macs", "1000000", "--seed", "7"])
        .exits(0)
        .says("PASSED: matmul f32 65x66:66x127 +bias+relu @")
        .says("(scaled from matmul f32 129x770:770x3071 +bias+relu)");
    let text = kiln(&["verify", SMALL, "--max-macs", "1000000"]).exits(0).stdout;
    assert!(!text.contains("scaled"), "{text}");
}

#[test]
fn convolutions_come_bare_cut_and_scaled() {
    let list = "ic16ih9oc24oh9kh3ph1_n\"a 3x3\"\n--skip\ng8mb7ic8iw40oc8kw5pw2 # depthwise\n";
    let file = std::env::temp_dir().join(format!("kiln-conv-{}.txt", std::process::id()));
    std::fs::write(&file, list).unwrap();
    let path = file.display().to_string();
    let attributes = "stag=abx dtag=abx +bias+relu";
    kiln(&["verify", "--op", "conv", "--max-mb", "2", "--packed", "--attributes", attributes, "--batch", &path])
        .exits(0)
        .says("PASSED: conv f32 mb2ic16ih9oc24kh3ph1 stag=abx dtag=abx +bias+relu @")
        .says("(scaled from conv f32 g8mb7ic8iw40oc8kw5pw2 stag=abx dtag=abx +bias+relu)")
        .says("tests:2 passed:2 failed:0 unimplemented:0");
    std::fs::remove_file(file).unwrap();
}
