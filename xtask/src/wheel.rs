//! `cargo xtask wheel`: wheels of the Python package for Linux, on x86-64 and AArch64, both made on x86-64.
//!
//! maturin builds them with zig as linker and C compiler, so that they run on every distribution with glibc 2.17 or later. Both come from
//! PyPI, in an environment of their own below the folder in which cargo builds. For AArch64, the compiler is that of
//! `tools/setup-aarch64.sh`, which is run if it was not.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::process::{Result, root, run, target_dir};

/// What wheels are built with.
const TOOLS: &[&str] = &["maturin==1.16.0", "ziglang==0.17.1"];

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
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
pub fn run_all(args: &Args) -> Result {
    let tools = environment("wheel-tools", TOOLS)?;
    let out = args.out.clone().unwrap_or_else(|| target_dir().join("wheels"));
    let all = [Processor::X86_64, Processor::Aarch64];
    let targets = if args.target.is_empty() { &all[..] } else { &args.target };
    let mut made = vec![];
    for target in targets {
        let mut build = maturin(&tools, *target, &out)?;
        made.push((*target, wheel(&mut build, &out)?));
        for version in &args.free_threaded {
            if !version.ends_with('t') {
                return Err(format!("--free-threaded {version}: expected a version with a `t`, as 3.14t").into());
            }
            let mut build = maturin(&tools, *target, &out)?;
            build.args(["--no-default-features", "--interpreter", &format!("python{version}")]);
            println!("{}", wheel(&mut build, &out)?.display());
        }
    }
    for (_, wheel) in &made {
        println!("{}", wheel.display());
    }
    if args.test {
        let wheel =
            made.iter().find(|(target, _)| target.is_host()).ok_or("--test needs the wheel for this machine")?;
        test(&wheel.1)?;
    }
    Ok(())
}

/// An environment with these packages of PyPI, which is made if it is not there.
fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = target_dir().join(name);
    let marker = folder.join("packages");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(packages))?;
    std::fs::write(marker, wanted)?;
    Ok(folder)
}

/// The command that builds a wheel.
fn maturin(tools: &Path, target: Processor, out: &Path) -> Result<Command> {
    let mut command = Command::new(tools.join("bin/maturin"));
    command.args([
        "build",
        "--release",
        "--locked",
        "--zig",
        "--compatibility",
        "manylinux2014",
        "--target",
        target.triple(),
    ]);
    command.arg("--out").arg(out).current_dir(root().join("python"));
    command.env("PATH", path_with(&tools.join("bin"))?).env("CARGO_TARGET_DIR", target_dir());
    // A linker that is set for the target would be taken instead of zig.
    let linker = format!("CARGO_TARGET_{}_LINKER", target.triple().to_uppercase().replace('-', "_"));
    command.env_remove(linker);
    for tool in ["CC", "AR"] {
        command.env_remove(format!("{tool}_{}", target.triple().replace('-', "_")));
    }
    if target == Processor::Aarch64 && !target.is_host() {
        let prefix = cross_prefix()?;
        run(Command::new(root().join("tools/setup-aarch64.sh")).arg(&prefix))?;
        command.env("RUSTC", prefix.join("bin/rustc")).env("RUSTDOC", prefix.join("bin/rustdoc"));
    }
    Ok(command)
}

/// Where `tools/setup-aarch64.sh` puts what it makes.
fn cross_prefix() -> Result<PathBuf> {
    if let Some(prefix) = env::var_os("KILN_A64") {
        return Ok(prefix.into());
    }
    let home = env::var_os("HOME").ok_or("HOME is not set: set KILN_A64 to a folder for the cross compiler")?;
    Ok(Path::new(&home).join(".cache/kiln/a64"))
}

fn path_with(first: &Path) -> Result<OsString> {
    let rest = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([first.to_owned()].into_iter().chain(env::split_paths(&rest)))?)
}

/// Builds, and gives the wheel that was not there, or is newer than before.
fn wheel(build: &mut Command, out: &Path) -> Result<PathBuf> {
    let wheels = || -> Vec<(PathBuf, Option<std::time::SystemTime>)> {
        let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
        let wheels = entries.filter(|e| e.path().extension().is_some_and(|ext| ext == "whl"));
        wheels.map(|e| (e.path(), e.metadata().and_then(|m| m.modified()).ok())).collect()
    };
    let before = wheels();
    run(build)?;
    let made = wheels().into_iter().find(|wheel| !before.contains(wheel));
    Ok(made.ok_or("maturin made no wheel")?.0)
}

/// Installs a wheel in a new environment and runs the tests that need no torch, from a folder without the package's sources.
fn test(wheel: &Path) -> Result {
    let folder = target_dir().join("wheel-test");
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]).arg(format!("{}[test]", wheel.display()));
    run(&mut install)?;
    let mut tests = Command::new(folder.join("bin/python"));
    tests
        .args(["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ignore"])
        .arg(root().join("python/tests/torch"));
    tests.arg(root().join("python/tests")).current_dir(&folder).env_remove("PYTHONPATH");
    run(&mut tests)
}
