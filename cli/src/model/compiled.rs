//! Compiling a network, with kernels and weights from packs or into them.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_compiler::{Package, compile};
use kiln_ir::problem::MathMode;
use kiln_model::{Bound, CompileOptions, Network, Progress};
use kiln_runtime::{PackError, Runtime, WeightsPack, pack};

use super::network::is_file;
use crate::error::Error;
use crate::output::OutputFile;
use crate::target::{TargetArgs, threads};
use crate::trust;

/// Options for compiling a network.
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Threads that compile and run
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    threads: usize,
    /// The arithmetic of f32 kernels whose problems name none: strict, bf16 or any [default: KILN_FPMATH_MODE, else strict]
    #[arg(long, value_name = "MODE")]
    fpmath: Option<MathMode>,
    /// Take kernels from FILE and packed weights from FILE.weights; a file that does not exist is written
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
    /// The packs that were written.
    pub written: Vec<PathBuf>,
}

impl Compiled {
    /// True if kernels round their operands to another type before they multiply.
    pub fn rounds(&self) -> bool {
        self.runtime.target().bf16 && self.network.kernels().iter().any(|k| k.problem().math().allows_bf16())
    }

    /// The arithmetic, with a remark if the target does not have it.
    pub fn fpmath(&self) -> String {
        let mode = self.runtime.fpmath();
        match mode.allows_bf16() && !self.runtime.target().bf16 {
            true => format!("{mode} (without effect: the target has no BF16 instructions)"),
            false => mode.to_string(),
        }
    }
}

impl CompileArgs {
    /// Compiles.
    pub fn compile(&self, bound: Bound) -> Result<Compiled, Error> {
        let weights_file = self.pack.as_ref().map(|file| {
            let mut name = file.clone().into_os_string();
            name.push(".weights");
            PathBuf::from(name)
        });
        let files = self.pack.iter().chain(&weights_file);
        let (found, missing): (Vec<&PathBuf>, Vec<_>) = files.partition(|file| is_file(file));
        // What cannot be written is known before the work.
        missing.iter().try_for_each(|file| OutputFile::check(file).map(drop))?;
        let refused = |file: &Path, error: PackError| Error::Pack(error).at(file.display().to_string());
        let weights = weights_file.as_ref().filter(|file| found.contains(file));
        let weights = weights.map(|file| WeightsPack::open(file).map_err(|e| refused(file, e))).transpose()?;
        let mut builder = self.target.builder().threads(self.threads);
        builder = self.fpmath.iter().fold(builder, |builder, mode| builder.fpmath(*mode));
        builder = trust::packs(builder, self.pack.iter().filter(|file| found.contains(file)));
        let runtime = builder.build()?;
        for (path, status) in runtime.packs() {
            if let Err(error) = status {
                return Err(refused(path, error.clone()));
            }
        }
        let start = Instant::now();
        let network = with_progress(self.quiet, |progress| {
            bound.compile_with(&runtime, &CompileOptions { progress: Some(progress), weights: weights.as_ref() })
        });
        let (network, time) = (network?, start.elapsed());
        let unpacked = runtime.stats().unpacked;
        for file in &missing {
            match Some(*file) == self.pack.as_ref() {
                true => write(file, &network, &runtime)?,
                false => network.write_weights(file).map_err(|e| Error::File(e).at(file.display().to_string()))?,
            }
        }
        let written = missing.into_iter().cloned().collect();
        Ok(Compiled { runtime, network, time, unpacked, written })
    }

    /// A runtime with strict arithmetic, and without packs.
    pub fn strict(&self) -> Result<Runtime, Error> {
        Ok(self.target.builder().threads(self.threads).fpmath(MathMode::Strict).build()?)
    }
}

/// Calls `work` with what prints each kernel to standard error as it is compiled, unless that should be quiet.
pub fn with_progress<T>(quiet: bool, work: impl FnOnce(&(dyn Fn(Progress<'_>) + Sync)) -> T) -> T {
    let is_terminal = io::stderr().is_terminal();
    let done = work(&|p| {
        if !quiet {
            // Standard error may be closed. A terminal shows one line that changes.
            let (before, after) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
            let _ = write!(io::stderr(), "{before}{}/{} {}{after}", p.done, p.of, p.problem);
        }
    });
    if is_terminal && !quiet {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    done
}

/// Writes the kernels of a network to a file.
fn write(file: &Path, network: &Network, runtime: &Runtime) -> Result<(), Error> {
    let made = network.kernels().iter().zip(network.requests());
    let package = made.map(|(kernel, (_, options))| {
        // The problem as it was compiled: with the runtime's arithmetic.
        compile(kernel.problem(), runtime.target(), options).map(|artifact| Package::of(&artifact, options))
    });
    let packages = package.collect::<Result<Vec<_>, _>>()?;
    let in_file = |e| Error::File(e).at(file.display().to_string());
    pack::write(file, runtime.target(), &packages).map_err(in_file)
}
