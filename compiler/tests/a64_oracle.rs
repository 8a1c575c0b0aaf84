//! The AArch64 instruction table against other people's assemblers and disassemblers.
//!
//! `fixtures/a64.txt` holds llvm-mc's answers for every sample of every row: the word it assembles our text to, a tab,
//! and the text it disassembles our word to. So the table is checked without LLVM; where llvm-mc is installed
//! (`KILN_LLVM_MC`, or `llvm-mc-22`, `llvm-mc-19` or `llvm-mc` in the path) the fixture is checked as well, and when `CI`
//! is set it must be. `KILN_BLESS=1 cargo test -p kiln-compiler --test a64_oracle` writes it anew after the table changed.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use capstone::arch::{BuildsCapstone, arm64};
use kiln_compiler::emit::a64::inst::{Feature, Inst};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/a64.txt");

/// The fixture's lines, written anew first if asked for.
fn fixture() -> &'static [String] {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES.get_or_init(|| {
        if std::env::var_os("KILN_BLESS").is_some() {
            let llvm_mc = llvm_mc().expect("KILN_BLESS needs llvm-mc");
            std::fs::write(FIXTURE, answers(&llvm_mc).join("\n") + "\n").unwrap();
        }
        std::fs::read_to_string(FIXTURE).unwrap().lines().map(str::to_owned).collect()
    })
}

#[test]
fn the_table_agrees_with_the_fixture() {
    let table: Vec<String> = Inst::samples().iter().map(|i| format!("{:08x}\t{i}", i.encode())).collect();
    assert_same(&table, fixture(), "table", "fixture");
}

#[test]
fn the_fixture_agrees_with_llvm_mc() {
    let Some(llvm_mc) = llvm_mc() else {
        assert!(std::env::var_os("CI").is_none(), "CI must have llvm-mc: install it or set KILN_LLVM_MC");
        // Past the test's own capture.
        let _ = writeln!(std::io::stderr(), "no llvm-mc found: the fixture is not checked");
        return;
    };
    assert_same(fixture(), &answers(&llvm_mc), "fixture", &llvm_mc);

    let texts = |feature| Inst::samples().into_iter().filter(move |i| i.feature() == feature).map(|i| i.to_string());
    let base: Vec<String> = texts(Feature::Base).collect();
    assert_eq!(
        assemble(&llvm_mc, "-sve,-bf16,-dotprod,-i8mm", &base).0.len(),
        base.len(),
        "rows of Base need no extension"
    );
    for (feature, without, missing) in [
        (Feature::Sve, "-sve,+bf16", "instruction requires: sve"),
        (Feature::NeonBf16, "+sve,-bf16", "instruction requires: bf16"),
        (Feature::SveBf16, "+sve,-bf16", "instruction requires: bf16"),
        (Feature::SveBf16, "-sve,+bf16", "instruction requires: sve"),
        (Feature::NeonDotProd, "+sve,-dotprod", "instruction requires: dotprod"),
        (Feature::NeonI8mm, "+sve,-i8mm", "instruction requires: i8mm"),
        (Feature::SveI8mm, "+sve,-i8mm", "instruction requires: i8mm"),
        (Feature::SveI8mm, "-sve,+i8mm", "instruction requires: sve"),
    ] {
        let rows: Vec<String> = texts(feature).collect();
        let complaints = assemble(&llvm_mc, without, &rows).1;
        assert_eq!(complaints.matches(missing).count(), rows.len(), "rows of {feature:?} with {without}");
    }
}

#[test]
fn capstone_reads_every_word_back() {
    let capstone = capstone::Capstone::new().arm64().mode(arm64::ArchMode::Arm).build().unwrap();
    let read = |i: &Inst| {
        let decoded = capstone.disasm_all(&i.encode().to_le_bytes(), 0).unwrap();
        match decoded.as_ref() {
            [one] => format!("{} {}", one.mnemonic().unwrap(), one.op_str().unwrap_or_default()).trim().to_owned(),
            _ => format!("{:08x} is not one instruction", i.encode()),
        }
    };
    let samples = Inst::samples();
    let ours: Vec<String> = samples.iter().map(|i| without_spelling(&i.to_string())).collect();
    let theirs: Vec<String> = samples.iter().map(|i| without_spelling(&read(i))).collect();
    assert_same(&ours, &theirs, "table", "capstone");
}

/// Capstone spells two things differently. It writes no spaces inside braces; and numbers of lanes and immediates from 10 on, and addresses
/// of branches, are hexadecimal numbers of 64 bits. (The branch is at address 0, so that its address is its distance.)
/// Those become decimal numbers.
fn without_spelling(text: &str) -> String {
    let mut text = text.replace("{ ", "{").replace(" }", "}");
    for lane in 10..16 {
        text = text.replace(&format!("[0x{lane:x}]"), &format!("[{lane}]"));
    }
    let mut parts = text.split('#');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (sign, magnitude) = part.strip_prefix('-').map_or((1, part), |m| (-1, m));
        let end = magnitude.find([',', ']']).unwrap_or(magnitude.len());
        let number = match magnitude[..end].strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).unwrap().cast_signed(),
            None => match magnitude[..end].parse() {
                Ok(number) => number,
                // A number with a fraction, which both spell alike.
                Err(_) => {
                    out += &format!("#{part}");
                    continue;
                }
            },
        };
        out += &format!("#{}{}", sign * number, &magnitude[end..]);
    }
    out
}

/// What `llvm_mc` says of every sample, in the fixture's format.
fn answers(llvm_mc: &str) -> Vec<String> {
    let samples = Inst::samples();
    let texts: Vec<String> = samples.iter().map(Inst::to_string).collect();
    let (words, complaints) = assemble(llvm_mc, "+sve,+bf16,+dotprod,+i8mm", &texts);
    assert_eq!(words.len(), texts.len(), "{llvm_mc} does not assemble all samples:\n{complaints}");
    let bytes = |i: &Inst| i.encode().to_le_bytes().map(|b| format!("{b:#04x}")).join(" ");
    let words_text = samples.iter().map(bytes).collect::<Vec<_>>().join("\n");
    let (out, complaints) = run(llvm_mc, &["-mattr=+sve,+bf16,+dotprod,+i8mm", "--disassemble"], &words_text);
    let disassembled: Vec<String> = instructions(&out).map(|(text, _)| text).collect();
    assert_eq!(disassembled.len(), samples.len(), "{llvm_mc} does not disassemble all samples:\n{complaints}");
    words.into_iter().zip(disassembled).map(|(word, text)| format!("{word:08x}\t{text}")).collect()
}

/// The words that `texts` assemble to, and error messages.
fn assemble(llvm_mc: &str, attributes: &str, texts: &[String]) -> (Vec<u32>, String) {
    let (out, complaints) = run(llvm_mc, &[&format!("-mattr={attributes}"), "--show-encoding"], &texts.join("\n"));
    let word = |comment: String| {
        let bytes = comment.split_once("encoding: [")?.1.split_once(']')?.0.split(',');
        let bytes: Vec<u8> =
            bytes.map(|b| u8::from_str_radix(b.strip_prefix("0x")?, 16).ok()).collect::<Option<_>>()?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    (instructions(&out).filter_map(|(_, comment)| word(comment)).collect(), complaints)
}

/// The instructions that llvm-mc printed, one space after the mnemonic, and their comments. Left out are directives
/// and the lines that only continue a comment with the value of an immediate.
fn instructions(out: &str) -> impl Iterator<Item = (String, String)> {
    let split = |line: &str| {
        let (text, comment) = line.split_once("//").unwrap_or((line, ""));
        (text.split_whitespace().collect::<Vec<_>>().join(" "), comment.to_owned())
    };
    out.lines().map(split).filter(|(text, _)| !text.is_empty() && !text.starts_with('.'))
}

/// The first llvm-mc that can be started.
fn llvm_mc() -> Option<String> {
    let asked = std::env::var("KILN_LLVM_MC").ok();
    let usual = ["llvm-mc-22", "llvm-mc-19", "llvm-mc"].map(String::from);
    let starts = |name: &String| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    match asked {
        Some(name) => {
            assert!(starts(&name), "KILN_LLVM_MC names `{name}`, which does not run");
            Some(name)
        }
        None => usual.into_iter().find(starts),
    }
}

/// The output and the errors of llvm-mc for AArch64.
fn run(llvm_mc: &str, arguments: &[&str], input: &str) -> (String, String) {
    let mut command = Command::new(llvm_mc);
    command.arg("-triple=aarch64").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        child.wait_with_output().unwrap()
    });
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Fails with the first lines that differ.
fn assert_same(left: &[String], right: &[String], left_name: &str, right_name: &str) {
    let differ = |(l, r): (&String, &String)| (l != r).then(|| format!("{left_name}: {l}\n{right_name}: {r}"));
    let differences: Vec<String> = left.iter().zip(right).filter_map(differ).collect();
    let first = differences.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(differences.is_empty(), "{} lines differ, the first:\n{first}", differences.len());
    assert_eq!(left.len(), right.len(), "{left_name} and {right_name} are not equally long");
    assert!(!left.is_empty());
}
