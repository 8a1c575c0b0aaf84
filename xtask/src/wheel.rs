//! `cargo xtask wheel`: wheels of the Python package for Linux, on x86-64 and AArch64, both made on x86-64.
//!
//! maturin builds them, and zig links the extension, so that it runs on every distribution with glibc 2.17 or later: maturin checks which
//! versions of symbols it needs. Both come from PyPI, in an environment of their own, `~/.cache/kiln/wheel-tools` if `KILN_WHEEL_TOOLS` names no other. Zig is the
//! linker of the extension alone, so that what it consists of is compiled once for wheels and for everything else. For AArch64, the compiler
//! is that of `tools/setup-aarch64.sh`, which is run if it was not.
//!
//! Tests of a wheel run where it is installed, with none of the package's sources on the path, and none may be skipped.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::process::{Result, output, root, run, target_dir};

/// The tools that wheels are built with.
const TOOLS: &[&str] = &["maturin==1.16.0", "ziglang==0.17.1"];

/// Folders of tests that need what only the environment of `tools/setup-torch.sh` has.
const WITH_MORE: &[&str] = &["torch", "ray"];

/// Arguments.
#[derive(clap::Args)]
pub struct WheelArgs {
    /// The processors to build for; all if none is given
    #[arg(long, value_name = "TARGET")]
    target: Vec<Processor>,
    /// A free-threaded Python, as `3.14t`, which need not be installed: a wheel for it is built besides for each processor. Such Pythons
    /// have no stable interface, so that each version has a wheel of its own
    #[arg(long, value_name = "VERSION")]
    free_threaded: Vec<String>,
    /// Where wheels are put [default: `wheels` in the folder in which cargo builds]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also install the wheel for this machine in a new environment, and run the tests that need no torch there
    #[arg(long)]
    test: bool,
    /// Also run the tests that need torch or Ray: for this machine all of them, in the environment of `tools/setup-torch.sh`; for AArch64 on x86-64
    /// those of `test_small.py`, in the emulator, with the Python of `tools/setup-torch-aarch64.sh`
    #[arg(long)]
    torch: bool,
}

/// A processor that wheels are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Processor {
    /// x86-64
    #[value(name = "x86_64")]
    X86_64,
    /// AArch64
    #[value(name = "aarch64")]
    Aarch64,
}

impl Processor {
    fn triple(self) -> &'static str {
        match self {
            Processor::X86_64 => "x86_64-unknown-linux-gnu",
            Processor::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    fn is_host(self) -> bool {
        self.triple().starts_with(env::consts::ARCH)
    }
}

/// Builds the wheels, and says where they are.
pub fn run_all(args: &WheelArgs) -> Result {
    let tools = tools()?;
    let out = args.out.clone().unwrap_or_else(|| target_dir().join("wheels"));
    let all = [Processor::X86_64, Processor::Aarch64];
    let targets = if args.target.is_empty() { &all[..] } else { &args.target };
    let mut made = vec![];
    for target in targets {
        let mut build = maturin(&tools, *target, &out)?;
        link_by_zig(&mut build, &tools, *target)?;
        made.push((*target, wheel(&mut build, &out)?));
        for version in &args.free_threaded {
            if !version.ends_with('t') {
                return Err(format!("--free-threaded {version}: expected a version with a `t`, as 3.14t").into());
            }
            let mut build = maturin(&tools, *target, &out)?;
            build.args(["--no-default-features", "--interpreter", &format!("python{version}")]);
            link_by_zig(&mut build, &tools, *target)?;
            println!("{}", wheel(&mut build, &out)?.display());
        }
    }
    for (_, wheel) in &made {
        println!("{}", wheel.display());
    }
    if args.test {
        let (_, wheel) =
            made.iter().find(|(target, _)| target.is_host()).ok_or("--test needs the wheel for this machine")?;
        test(wheel)?;
    }
    if args.torch {
        for (target, wheel) in &made {
            if target.is_host() { test_with_torch(wheel)? } else { test_emulated(wheel)? }
        }
    }
    Ok(())
}

/// An environment with what wheels are built with, which is made if it is not there.
fn tools() -> Result<PathBuf> {
    let folder = cache("KILN_WHEEL_TOOLS", "wheel-tools")?;
    let marker = folder.join("packages");
    let wanted = TOOLS.join("\n");
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut install = Command::new(folder.join("bin/pip"));
    run(install.args(["install", "--quiet", "--disable-pip-version-check"]).args(TOOLS))?;
    fs::write(marker, wanted)?;
    Ok(folder)
}

/// The command that builds a wheel; arguments of maturin are added to it, and then those of [`link_by_zig`].
fn maturin(tools: &Path, target: Processor, out: &Path) -> Result<Command> {
    let mut command = Command::new(tools.join("bin/maturin"));
    command.args(["build", "--release", "--locked", "--compatibility", "manylinux2014"]);
    command.arg("--out").arg(out).current_dir(root().join("python"));
    command.env("PATH", path_with(&tools.join("bin"))?).env("CARGO_TARGET_DIR", target_dir());
    if !target.is_host() {
        // With the same settings as its other builds have, which are then not built again.
        let prefix = a64_prefix()?;
        run(Command::new(root().join("tools/setup-aarch64.sh")).arg(&prefix))?;
        command.args(["--target", target.triple()]);
        command.env("RUSTC", prefix.join("bin/rustc")).env("RUSTDOC", prefix.join("bin/rustdoc"));
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        command
            .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
            .env("AR_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-ar");
    }
    Ok(command)
}

/// Has the extension, and nothing that is built before it, linked by zig against the oldest glibc that wheels run with.
fn link_by_zig(command: &mut Command, tools: &Path, target: Processor) -> Result {
    let linker = tools.join(format!("zig-{}", target.triple()));
    let zig = target.triple().replace("-unknown", "") + ".2.17";
    let maturin = tools.join("bin/maturin");
    fs::write(&linker, format!("#!/bin/sh\nexec '{}' zig cc -- -target {zig} \"$@\"\n", maturin.display()))?;
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755))?;
    command.args(["--", "-C"]).arg(format!("linker={}", linker.display()));
    Ok(())
}

/// Where `tools/setup-aarch64.sh` puts what it makes.
fn a64_prefix() -> Result<PathBuf> {
    cache("KILN_A64", "a64")
}

/// The folder that a variable names, or one below `~/.cache/kiln`.
fn cache(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(prefix) = env::var_os(variable) {
        return Ok(prefix.into());
    }
    let home = env::var_os("HOME").ok_or_else(|| format!("HOME is not set: set {variable} to a folder"))?;
    Ok(Path::new(&home).join(".cache/kiln").join(name))
}

fn path_with(first: &Path) -> Result<OsString> {
    let rest = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([first.to_owned()].into_iter().chain(env::split_paths(&rest)))?)
}

/// Builds, and gives the wheel that was not there, or is newer than before.
fn wheel(build: &mut Command, out: &Path) -> Result<PathBuf> {
    let wheels = || -> Vec<(PathBuf, Option<std::time::SystemTime>)> {
        let entries = fs::read_dir(out).into_iter().flatten().flatten();
        let wheels = entries.filter(|e| e.path().extension().is_some_and(|ext| ext == "whl"));
        wheels.map(|e| (e.path(), e.metadata().and_then(|m| m.modified()).ok())).collect()
    };
    let before = wheels();
    run(build)?;
    let made = wheels().into_iter().find(|wheel| !before.contains(wheel));
    Ok(made.ok_or("maturin made no wheel")?.0)
}

/// Installs a wheel in a new environment and runs the tests that need no torch.
fn test(wheel: &Path) -> Result {
    let folder = target_dir().join("wheel-test");
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]).arg(format!("{}[test]", wheel.display()));
    run(&mut install)?;
    let mut tests = pytest(&folder.join("bin/python"), &folder);
    for folder in WITH_MORE {
        tests.arg("--ignore").arg(root().join("python/tests").join(folder));
    }
    none_skipped(tests.arg(root().join("python/tests")), &folder)
}

/// Installs a wheel in a new environment that sees the packages of that of `tools/setup-torch.sh`, and runs the tests that need torch.
fn test_with_torch(wheel: &Path) -> Result {
    let prefix = cache("KILN_TORCH", "torch")?;
    run(Command::new(root().join("tools/setup-torch.sh")).arg(&prefix))?;
    let folder = target_dir().join("wheel-test-torch");
    let python = folder.join("bin/python");
    run(Command::new(prefix.join("bin/python")).args(["-m", "venv", "--clear", "--without-pip"]).arg(&folder))?;
    let packages = |of: &Path| -> Result<PathBuf> {
        let mut ask = Command::new(of);
        ask.args(["-c", "import sysconfig; print(sysconfig.get_path('platlib'), end='')"]);
        Ok(output(&mut ask, "")?.into())
    };
    let path = packages(&prefix.join("bin/python"))?;
    fs::write(packages(&python)?.join("torch.pth"), format!("{}\n", path.display()))?;
    let mut install = Command::new(prefix.join("bin/pip"));
    install.arg("--python").arg(&python);
    install.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps"]).arg(wheel);
    run(&mut install)?;
    let mut tests = pytest(&python, &folder);
    // Files are kept together: their processes compile what several tests use once.
    tests.args(["--numprocesses", "2", "--dist", "loadscope"]);
    for folder in WITH_MORE {
        tests.arg(root().join("python/tests").join(folder));
    }
    none_skipped(&mut tests, &folder)
}

/// Unpacks a wheel for AArch64, and runs small networks with it and torch in the emulator.
fn test_emulated(wheel: &Path) -> Result {
    let prefix = cache("KILN_TORCH_A64", "torch-a64")?;
    run(Command::new(root().join("tools/setup-torch-aarch64.sh")).arg(&prefix).env("KILN_A64", a64_prefix()?))?;
    let folder = target_dir().join("wheel-test-aarch64");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let package = folder.join("package");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&package))?;
    let mut tests = pytest(&prefix.join("python"), &folder);
    tests.env("PYTHONPATH", &package).args(["--durations", "0"]);
    none_skipped(tests.arg(root().join("python/tests/torch/test_small.py")), &folder)
}

/// The command that runs tests in a folder, which gets a report of them.
fn pytest(python: &Path, folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    command.arg("--junit-xml").arg(folder.join("tests.xml")).current_dir(folder).env_remove("PYTHONPATH");
    command
}

/// Runs tests; it is an error if one fails, if one is skipped, or if there is none.
fn none_skipped(tests: &mut Command, folder: &Path) -> Result {
    run(tests)?;
    let report = fs::read_to_string(folder.join("tests.xml"))?;
    let count = |name: &str| -> Result<u32> {
        let text = report.split_once("<testsuite ").and_then(|(_, suite)| suite.split_once(&format!(" {name}=\"")));
        let digits = text.and_then(|(_, text)| text.split_once('"')).map(|(digits, _)| digits);
        Ok(digits.ok_or_else(|| format!("the report of tests has no number of {name}"))?.parse()?)
    };
    match (count("tests")?, count("skipped")?) {
        (0, _) => Err("no test ran".into()),
        (_, 0) => Ok(()),
        (tests, skipped) => Err(format!("{skipped} of {tests} tests were skipped").into()),
    }
}
