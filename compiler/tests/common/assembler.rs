//! Assemblers on the host.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_compiler::target::Arch;

/// An assembler that can be started.
pub struct Assembler {
    /// Its command.
    pub command: String,
    arguments: &'static [&'static str],
}

impl Assembler {
    /// GNU as and llvm-mc for `arch`; without the ones that are missing, unless `CI` is set.
    pub fn all(arch: Arch) -> Vec<Assembler> {
        let (variable, name, triple): (_, _, &[&str]) = match arch {
            Arch::Aarch64 => ("KILN_A64_AS", "aarch64", &["-triple=aarch64", "-filetype=obj"]),
            Arch::X86_64 => ("KILN_X64_AS", "x86_64", &["-triple=x86_64", "-filetype=obj"]),
        };
        let mut gnu = vec![format!("{name}-linux-gnu-as")];
        if std::env::consts::ARCH == name && std::env::consts::OS == "linux" {
            gnu.push("as".into());
        }
        let llvm = ["llvm-mc-22", "/usr/lib/llvm-22/bin/llvm-mc", "llvm-mc-19", "llvm-mc"].map(String::from);
        [find(variable, &gnu, &[]), find("KILN_LLVM_MC", &llvm, triple)].into_iter().flatten().collect()
    }

    /// The code that `source` assembles to. `name` must differ between calls that may run at once.
    pub fn assemble(&self, name: &str, source: &str) -> Vec<u8> {
        let tool = Path::new(&self.command).file_name().unwrap().to_str().unwrap();
        let path = |ext: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{tool}-{name}.{ext}"));
        let (text, object) = (path("s"), path("o"));
        std::fs::write(&text, source).unwrap();
        let output =
            Command::new(&self.command).args(self.arguments).arg("-o").arg(&object).arg(&text).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} refuses {}:\n{complaints}", self.command, text.display());
        let code = code(&std::fs::read(&object).unwrap());
        [text, object].iter().for_each(|f| std::fs::remove_file(f).unwrap());
        code
    }
}

/// The assembler that `variable` names, or the first of `usual` that starts.
fn find(variable: &str, usual: &[String], arguments: &'static [&'static str]) -> Option<Assembler> {
    let starts = |name: &String| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let command = match std::env::var(variable) {
        Ok(name) => {
            assert!(starts(&name), "{variable} names `{name}`, which does not run");
            Some(name)
        }
        Err(_) => usual.iter().find(|n| starts(n)).cloned(),
    };
    if command.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have {}: install it or set {variable}", usual[0]);
        // Past the test's own capture: who reads the log of a run that passed wants to know what did not run.
        let _ = writeln!(std::io::stderr(), "no {} found: listings are not assembled with it", usual[0]);
    }
    command.map(|command| Assembler { command, arguments })
}

/// The contents of the executable section of a little-endian ELF64 object.
fn code(elf: &[u8]) -> Vec<u8> {
    let field = |at: usize, bytes: usize| {
        elf[at..at + bytes].iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte))
    };
    assert_eq!(elf[..6], *b"\x7fELF\x02\x01", "an ELF64 object, little-endian");
    let (headers, size, count) = (field(0x28, 8), field(0x3a, 2), field(0x3c, 2));
    const EXECUTABLE: usize = 4;
    let executable = |h: &usize| field(h + 8, 8) & EXECUTABLE != 0;
    let sections: Vec<usize> = (0..count).map(|n| headers + n * size).filter(executable).collect();
    let [section] = sections[..] else { panic!("{} sections hold code", sections.len()) };
    let (start, len) = (field(section + 0x18, 8), field(section + 0x20, 8));
    elf[start..start + len].to_vec()
}
