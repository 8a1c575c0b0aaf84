//! Options that contradict each other, or have nothing to act on, are refused, by name.

use std::fs;

use crate::onnx_file::{network, network_of};
use crate::{SMALL, kiln, npy_bytes};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A matrix of f32 in a file.
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> String {
        let elements = vec![1.0; rows * columns];
        self.put(name, &npy_bytes("<f4", "False", &format!("({rows}, {columns})"), &elements))
    }
}

#[test]
fn sizes_of_one_dimension() {
    let files = Files::new();
    let model = files.put("a.onnx", &network("Relu"));
    let x5 = files.matrix("x5.npy", 5, 3);
    let given = format!("x={x5}");
    let run = |args: &[&str]| kiln(&[&["model", "run", &model, "--quiet"][..], args].concat());
    run(&["--batch", "3", "--input", &given]).refuses(&["--batch 3", "`batch` of input `x` is 5 in", "x5.npy"]);
    run(&["--batch", "3", "--input", &x5]).refuses(&["--batch 3", "is 5 in"]);
    run(&["--batch", "3", "--shape", "x=5x3"]).refuses(&["--batch 3", "is 5 by --shape"]);
    run(&["--batch", "3", "--dim", "batch=5"]).refuses(&["--batch 3", "is 5 by --dim"]);
    run(&["--dim", "batch=3", "--input", &given]).refuses(&["--dim batch=3", "is 5 in"]);
    run(&["--dim", "batch=3", "--shape", "x=5x3"]).refuses(&["--dim batch=3", "is 5 by --shape"]);
    run(&["--shape", "x=3x3", "--input", &given]).refuses(&["x5.npy", "f32[5x3]", "takes f32[3x3]"]);
    run(&["--dim", "batch=3", "--dim", "batch=4"]).refuses(&["--dim is given twice for `batch`"]);
    run(&["--shape", "x=3x3", "--shape", "x=4x3"]).refuses(&["--shape is given twice for `x`"]);
    run(&["--seq", "7"]).refuses(&["--seq 7", "no dimension of that kind", "x: f32[batch, 3]"]);
    // The same size may be said more than once.
    run(&["--batch", "5", "--input", &given]).exits(0).says("y: f32[5x2]");
    run(&["--batch", "5", "--dim", "batch=5", "--shape", "x=5x3", "--input", &x5]).exits(0).says("y: f32[5x2]");

    let fixed = files.put("fixed.onnx", &network_of("2", "Relu"));
    kiln(&["model", "run", &fixed, "--batch", "5"]).refuses(&["fixed.onnx", "--batch 5", "x: f32[2, 3]"]);
    kiln(&["model", "run", &fixed, "--batch", "2"]).exits(0).says("y: f32[2x2]");
    kiln(&["model", "run", &fixed, "--input", &given]).refuses(&["[5, 3]", "[2, 3]"]);
    kiln(&["model", "run", "bert-tiny", "--dim", "batch=2"])
        .refuses(&["--dim batch", "bert-tiny takes --batch and --seq alone"]);
    kiln(&["model", "run", "bert-tiny", "--shape", "x=2"])
        .refuses(&["--shape x", "bert-tiny takes --batch and --seq alone"]);
    kiln(&["model", "run", "resnet50", "--seq", "2"]).refuses(&["resnet50 takes images"]);
}

#[test]
fn files_for_one_operand() {
    let files = Files::new();
    let (lhs, bias) = (files.matrix("lhs.npy", 13, 31), files.matrix("bias.npy", 1, 37));
    let operand = |name: &str, file: &str| format!("{name}={file}");
    kiln(&["run", SMALL, "--lhs", &lhs, "--operand", &operand("lhs", &lhs)])
        .refuses(&["--operand lhs", "--lhs gives `lhs` a file"]);
    kiln(&["run", SMALL, "--operand", &operand("bias", &bias), "--operand", &operand("bias", &bias)])
        .refuses(&["--operand bias", "a file already"]);
    let problem = "matmul f32 13x31:31x13 +add:ab";
    kiln(&["run", problem, "--residual", &lhs, "--operand", &operand("add", &lhs)])
        .refuses(&["--operand add", "--residual gives `add`"]);
}

#[test]
fn options_that_would_be_ignored() {
    kiln(&["run", SMALL, "--mark", "--threads", "2"]).refuses(&["--threads 2", "one thread"]);
    kiln(&["dump", SMALL, "--bytes", "--stage", "nest"]).refuses(&["--bytes", "--stage asm"]);
    kiln(&["verify", "--op", "matmul", "conv f32 mb1ic1ih1oc1"]).refuses(&["--op matmul", "`conv` already"]);
    kiln(&["model", "bench", "bert-tiny", "--repeat", "3", "--min-ms", "5"]).refuses(&["cannot be used with"]);
    kiln(&["model", "profile", "bert-tiny", "--json", "--sort", "time"]).refuses(&["cannot be used with"]);
    kiln(&["model", "test", "/tmp", "--interpret", "--threads", "2"]).refuses(&["cannot be used with"]);
    kiln(&["model", "test", "/tmp", "--interpret", "--target", "x86-64-v3"]).refuses(&["cannot be used with"]);
}

#[test]
fn a_limit_needs_a_reference() {
    // Too large to be interpreted without being asked.
    for subcommand in ["run", "bench"] {
        kiln(&["model", subcommand, "bert-tiny", "--seq", "64", "--batch", "64", "--quiet", "--max-rel", "1e-5"])
            .refuses(&["--max-rel", "no reference", "--check"]);
    }
    for value in ["nan", "-1", "inf", "x"] {
        kiln(&["model", "run", "bert-tiny", &format!("--max-rel={value}")]).refuses(&["--max-rel", "not negative"]);
        kiln(&["model", "test", "/tmp", &format!("--rtol={value}")]).refuses(&["--rtol", "not negative"]);
    }
}
