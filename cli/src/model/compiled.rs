//! Compiling a network, with kernels and weights from packs or into them.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_compiler::target::Feature;
use kiln_compiler::{Package, Target, compile};
use kiln_ir::problem::MathMode;
use kiln_jit::{PackError, Runtime, RuntimeBuilder, WeightsPack, pack};
use kiln_model::{Bound, CompileOptions, Network, Progress};

use super::files::is_file;
use crate::error::Error;
use crate::output::OutputFile;
use crate::target::TargetArgs;
use crate::threads::threads;
use crate::trust;

/// Options for compiling a network.
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Threads that compile and run [default: KILN_NUM_THREADS, OMP_NUM_THREADS or RAYON_NUM_THREADS, else as many as there are
    /// processors that the process may use]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// The arithmetic of f32 kernels whose problems name none: strict, bf16 or any [default: KILN_FPMATH_MODE, else strict]
    #[arg(long, value_name = "MODE")]
    fpmath: Option<MathMode>,
    /// Take kernels and packed weights from FILE, as `kiln model pack` writes it; if it does not exist, it is written
    #[arg(long, value_name = "FILE")]
    pack: Option<PathBuf>,
    /// Do not print each kernel to standard error as it is compiled
    #[arg(long)]
    quiet: bool,
}

/// A compiled network.
pub struct Compiled {
    /// The runtime that runs it.
    pub runtime: Runtime,
    /// The network.
    pub network: Network,
    /// The time that the passes, the kernels and the packing of weights took.
    pub time: Duration,
    /// Kernels that were not compiled but came from a pack or the cache directory.
    pub unpacked: u64,
    /// The pack that was written.
    pub written: Option<PathBuf>,
}

impl Compiled {
    /// True if kernels round their operands to another type before they multiply.
    pub fn rounds(&self) -> bool {
        self.runtime.target().has(Feature::Bf16)
            && self.network.kernels().iter().any(|k| k.problem().math().allows_bf16())
    }

    /// The arithmetic, with a remark if the target does not have it.
    pub fn fpmath(&self) -> String {
        fpmath(self.runtime.fpmath(), self.runtime.target())
    }
}

/// An arithmetic, with a remark if the target does not have it.
pub fn fpmath(mode: MathMode, target: &Target) -> String {
    match mode.allows_bf16() && !target.has(Feature::Bf16) {
        true => format!("{mode} (without effect: the target has no BF16 instructions, and computes in f32)"),
        false => mode.to_string(),
    }
}

impl CompileArgs {
    /// Compiles.
    pub fn compile(&self, bound: Bound) -> Result<Compiled, Error> {
        self.compile_on(bound, self.builder())
    }

    /// Compiles for a runtime with these settings, and the pack of the options.
    pub fn compile_on(&self, bound: Bound, builder: RuntimeBuilder) -> Result<Compiled, Error> {
        let (found, missing) = match &self.pack {
            Some(file) if is_file(file) => (Some(file), None),
            file => (None, file.as_ref()),
        };
        // What cannot be written is known before the work.
        missing.map(|file| OutputFile::check(file)).transpose()?;
        let refused = |file: &Path, error: PackError| Error::Pack(error).at(file.display().to_string());
        let weights = match found.map(|file| (file, WeightsPack::open(file))) {
            None | Some((_, Err(PackError::NoWeights))) => None,
            Some((_, Ok(weights))) => Some(weights),
            Some((file, Err(error))) => return Err(refused(file, error)),
        };
        let runtime = trust::packs(builder, found).build()?;
        for (path, status) in runtime.packs() {
            if let Err(error) = status {
                return Err(refused(path, error.clone()));
            }
        }
        let start = Instant::now();
        let network = with_progress(self.quiet, |progress| {
            let weights = weights.as_ref();
            let options = CompileOptions { progress: Some(progress), weights, ..CompileOptions::default() };
            bound.compile_with(&runtime, &options)
        });
        let (network, time) = (network?, start.elapsed());
        let unpacked = runtime.stats().from_files;
        missing.map(|file| write(file, &network, &runtime)).transpose()?;
        Ok(Compiled { runtime, network, time, unpacked, written: missing.cloned() })
    }

    /// A runtime with strict arithmetic, and without packs.
    pub fn strict(&self) -> Result<Runtime, Error> {
        Ok(self.builder().fpmath(MathMode::Strict).build()?)
    }

    /// The settings of a runtime, but for packs.
    pub fn builder(&self) -> RuntimeBuilder {
        let builder = self.threads.iter().fold(self.target.builder(), |builder, n| builder.threads(*n));
        self.fpmath.iter().fold(builder, |builder, mode| builder.fpmath(*mode))
    }
}

/// Calls `work` with what prints each kernel to standard error as it is compiled, unless that should be quiet.
pub fn with_progress<T>(quiet: bool, work: impl FnOnce(&(dyn Fn(Progress<'_>) + Sync)) -> T) -> T {
    let is_terminal = io::stderr().is_terminal();
    let done = work(&|p| {
        if !quiet {
            // Standard error may be closed. A terminal shows one line that changes.
            let (before, after) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
            let _ = write!(io::stderr(), "{before}{}/{} {}{after}", p.done, p.total, p.problem);
        }
    });
    if is_terminal && !quiet {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    done
}

/// Writes the kernels and the packed weights of a network to a file.
fn write(file: &Path, network: &Network, runtime: &Runtime) -> Result<(), Error> {
    let made = network.kernels().iter().zip(network.requests());
    let package = made.map(|(kernel, (_, options))| {
        // The problem as it was compiled: with the runtime's arithmetic.
        compile(kernel.problem(), runtime.target(), options).map(|artifact| Package::of(&artifact, options))
    });
    let packages = package.collect::<Result<Vec<_>, _>>()?;
    let in_file = |e| Error::File(e).at(file.display().to_string());
    pack::write_bundle(file, &packages, network.weights()).map_err(in_file)
}
