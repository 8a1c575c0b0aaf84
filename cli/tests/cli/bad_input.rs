//! Wrong input ends with a message and exit code 2.

use std::fs;

use crate::{FOREIGN, SMALL, command, kiln, kiln_with_input};

const SUBCOMMANDS: [&str; 4] = ["run", "dump", "verify", "bench"];

#[test]
fn problem_strings() {
    for (problem, texts) in [
        ("", &["lacks its operation"][..]),
        ("matmul", &["lacks its dtypes"]),
        ("matmul f32", &["lacks its descriptor"]),
        ("pool f32 2x3:3x4", &["`pool`", "expected matmul"]),
        ("matmul f64 2x3:3x4", &["`f64`", "expected f32"]),
        ("matmul f32 2x3", &["2x3", "MxK:KxN"]),
        ("matmul f32 2x3x4:4x5", &["2x3x4", "lhs has 3 dimension(s) and rhs 2"]),
        ("matmul f32 2x3x4:5x4x5", &["2 and 5 do not broadcast"]),
        ("matmul f32 1x1x1x1x1x2x3:1x1x1x1x1x3x4", &["7 dimension(s)", "2 to 6"]),
        ("matmul f32 2x3:4x5", &["K=3", "K=4"]),
        ("matmul f32 0x3:3x4", &["lhs", "is zero"]),
        ("matmul f32 0x5x3:0x3x4", &["is zero"]),
        ("ip f32 mb0ic3oc4", &["is zero"]),
        ("ip f32 mb2ic3", &["`oc` is missing"]),
        ("ip f32 mb2ic3kh3oc4", &["`kh`"]),
        ("matmul f32 -2x3:3x4", &["`-2` is not a dimension"]),
        ("matmul f32 99999999999999999999x3:3x4", &["too large"]),
        ("matmul f32 4294967296x4294967296:4294967296x4", &["too large"]),
        ("matmul f32 2x3:3x4 +gelu", &["`+gelu`", "gelu_erf"]),
        ("matmul f32 2x3:3x4 +add", &["`+add`", "add:MASK"]),
        ("matmul f32 2x3:3x4 +add:ba", &["in order"]),
        ("matmul f32 2x3:3x4 +mul:abc", &["dimension `c`", "2 dimensions"]),
        ("matmul f32 2x3:3x4 +scale:nan", &["finite"]),
        ("matmul f32 2x3:3x4 +clamp:2:1", &["LO not above HI"]),
        ("matmul bf16:f32:f32 2x3:3x4", &["bf16:f32:f32", "not supported together"]),
        ("matmul f32:bf16 2x3:3x4", &["f32:bf16"]),
        ("matmul f32 2x3:3x4 wtag=bc", &["wtag=bc", "such as `ab`"]),
        ("matmul f32 2x3x4:2x4x5 dtag=bca", &["dtag=bca", "batch dimension is innermost"]),
        ("ip f32 mb2ic3ih4oc5 stag=axb", &["stag=acdb", "summed over"]),
        ("matmul f32 2x3:3x4 beta=0.5", &["`beta=0.5`", "beta=0 or 1"]),
        ("matmul f32 2x3:3x4 fpmath=tf32", &["`fpmath=tf32`", "strict, bf16 or any"]),
        ("matmul f32 2x3:3x4 fast", &["`fast`"]),
        ("matmul f32 2x3:3x4 stag=ab stag=ba", &["`stag` is given twice", "`stag=ba`"]),
        ("matmul f32 2x3:3x4 beta=1 beta=0", &["`beta` is given twice"]),
        ("matmul f32 2x3:3x4 strides=8x1::3x1", &["strides of dst, `3x1`", "overlap"]),
        ("matmul f32 2x3:3x4 strides=-3x1::", &["strides of lhs, `-3x1`", "negative"]),
        ("matmul f32 2x3:3x4 strides=:0x1:", &["strides of rhs, `0x1`", "is 0"]),
        ("\u{fffd}\u{0}", &["unknown operation"]),
    ] {
        if problem.contains('\0') {
            // Not an argument on any system; it can stand in a list.
            kiln_with_input(&["dump", "-"], problem).refuses(texts);
            continue;
        }
        for subcommand in SUBCOMMANDS {
            kiln(&[subcommand, problem]).refuses(texts);
        }
    }
}

#[test]
fn no_problem_and_no_subcommand() {
    for subcommand in SUBCOMMANDS {
        kiln(&[subcommand]).refuses(&["no problem given", "matmul f32"]);
        kiln_with_input(&[subcommand, "-"], "# nothing\n\n").refuses(&["standard input holds no problem"]);
        kiln(&[subcommand, "--batch", "/nonexistent/list"]).refuses(&["/nonexistent/list"]);
        kiln(&[subcommand, SMALL, "--batch", "list"]).refuses(&["cannot be used with"]);
    }
    kiln(&[]).exits(2);
    kiln(&["frobnicate"]).refuses(&["frobnicate"]);
}

#[test]
fn lists_and_funcs_name_file_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let list = file("list", "matmul f32 2x3:3x4\n\n# fine so far\nmatmul f32 2x3:3\n");
    kiln(&["verify", "--batch", &list]).refuses(&["list:4: bad descriptor"]);

    let syntax = file("syntax.kiln", "func @f(%x: f32[2x3]) -> f32[2x3] {\n  %0 = matmul %x\n");
    kiln(&["dump", &syntax]).refuses(&["syntax.kiln: "]);
    let types = file("types.kiln", "func @f(%x: f32[2x3]) -> f32[2x3] {\n  %0 = matmul %x, %x\n  return %0\n}\n");
    kiln(&["dump", &types]).refuses(&["types.kiln: ", "%0"]);
    let two = "func @f(%x: f32[2x2]) -> f32[2x2] {\n  %0 = matmul %x, %x\n  %1 = matmul %0, %x\n  return %1\n}\n";
    kiln(&["dump", &file("two.kiln", two)]).refuses(&["two.kiln: @f is 2 kernels, expected one"]);
    kiln_with_input(&["run", "-"], two).refuses(&["standard input: @f is 2 kernels"]);
    kiln(&["dump", "absent.kiln"]).refuses(&["absent.kiln: "]);

    let not_text = folder.path().join("bytes");
    fs::write(&not_text, [0xff, 0xfe, 0x00]).unwrap();
    kiln(&["verify", "--batch", not_text.to_str().unwrap()]).refuses(&["bytes: "]);
}

#[test]
fn option_values() {
    for subcommand in ["run", "verify", "bench"] {
        for threads in ["0", "-1", "1.5", "", "99999999999999999999", "5000"] {
            kiln(&[subcommand, SMALL, &format!("--threads={threads}")]).refuses(&["--threads", "from 1 to"]);
        }
    }
    kiln(&["bench", "--worker", "0"]).refuses(&["--worker", "from 1 to"]);
    kiln(&["bench", "--worker", "1", SMALL]).refuses(&["cannot be used with"]);
    for command in ["run", "verify", "bench", "warm"] {
        kiln(&[command, SMALL, "--threads", "-1"]).refuses(&["expected a number of threads from 1 to 1024"]);
    }
    kiln(&["run", SMALL, "--repeat", "0"]).refuses(&["--repeat", "expected a number of runs from 1 to 1000000000"]);
    kiln(&["bench", SMALL, "--min-ms", "18446744073709551615"])
        .refuses(&["--min-ms", "expected a number of milliseconds from 0 to 86400000"]);
    kiln(&["run", "ip f32 mb?ic3oc4"])
        .refuses(&["`?` stands for a free number, which is for families of kernels (`kiln family`)"]);
    kiln(&["run", SMALL, "--seed", "x"]).refuses(&["--seed"]);
    kiln(&["verify", SMALL, "--max-macs", "0"]).refuses(&["--max-macs"]);
    kiln(&["run", SMALL, "--operand", "bias"]).refuses(&["--operand", "mul=scales.npy"]);
    kiln(&["verify", "--op", "pool", "2x3:3x4"]).refuses(&["--op", "matmul"]);
    kiln(&["verify", "--op", "matmul", "--dtypes", "f64", "2x3:3x4"]).refuses(&["--dtypes", "expected f32"]);
    kiln(&["verify", "--dtypes", "bf16", "2x3:3x4"]).refuses(&["--op"]);
    kiln(&["bench", "--worker", "1", "--packed"]).refuses(&["cannot be used with"]);
    kiln(&["dump", SMALL, "--stage", "sched"]).refuses(&["unknown stage `sched`", "asm", "all"]);
    for subcommand in SUBCOMMANDS {
        kiln(&[subcommand, SMALL, "--target", "z80"]).refuses(&["unknown target `z80`", "neoverse-v1"]);
        kiln(&[subcommand, "--target", "help"]).exits(0).says("neoverse-v1  sve of 256 bits").says("+l2=BYTES");
    }
}

#[test]
fn schedules() {
    kiln(&["run", SMALL, "--schedule", "avx9"]).refuses(&["`avx9`"]);
    let text = "avx2 parallel=n; n 0..99 tile 4x8 mc=13 nc=8 kc=31 unroll=1 order=nm lhs=inplace rhs=inplace";
    kiln(&["dump", SMALL, "--target", "x86-64-v3", "--schedule", text]).refuses(&["illegal schedule"]);
    kiln(&["dump", SMALL, "--target", "neoverse-n1", "--schedule", text]).refuses(&["neoverse-n1 has no avx2"]);
}

#[test]
fn a_target_that_cannot_run_here_offers_dump() {
    for subcommand in ["run", "verify", "bench"] {
        kiln(&[subcommand, SMALL, "--target", FOREIGN]).refuses(&["cannot run", FOREIGN, "`kiln dump`"]);
    }
    kiln(&["bench", "--worker", "1", "--target", FOREIGN]).refuses(&["cannot run", "`kiln dump`"]);
    kiln(&["dump", SMALL, "--target", FOREIGN]).exits(0);
}

#[test]
fn the_environment() {
    for (name, value) in [("KILN_MAX_CPU_ISA", "mmx"), ("KILN_CACHE_CAPACITY", "many"), ("KILN_FPMATH_MODE", "fast")] {
        let output = command().env(name, value).args(["verify", SMALL]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(name) && stderr.contains(value), "{stderr}");
    }
}

#[test]
fn more_than_memory() {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let kib =
        meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:")?.strip_suffix("kB")?.trim().parse::<u64>().ok());
    // Square matrices of which each takes more than there is, on any machine.
    let side = ((1024 * kib.unwrap()) as f64 / 4.0).sqrt() as u64 + 1000;
    let problem = format!("matmul f32 {side}x{side}:{side}x{side}");
    kiln(&["run", &problem]).refuses(&[&format!("needs {} bytes", 7 * 4 * side * side)]);
}

#[test]
fn kernels_that_would_be_too_much_code() {
    // Two hundred lines at either border, each with other taps.
    let huge = "conv f32 mb1ic16ih900oc16kh400ph200";
    kiln(&["dump", huge, "--target", "neoverse-v1"]).refuses(&["160000 taps", "not supported on neoverse-v1"]);
    kiln(&["verify", huge]).says("UNIMPLEMENTED: ").says("160000 taps");
}
