//! Networks compiled, with kernels from packs or into them.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_compiler::{Package, compile};
use kiln_ir::problem::MathMode;
use kiln_model::{Bound, Network};
use kiln_runtime::{Runtime, pack};

use super::network::is_file;
use crate::error::Error;
use crate::target::{TargetArgs, threads};

/// How a network is compiled.
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Threads that compile and run
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    threads: usize,
    /// The arithmetic of f32 kernels: strict, bf16 or any [default: KILN_FPMATH_MODE, else strict]
    #[arg(long, value_name = "MODE")]
    fpmath: Option<MathMode>,
    /// Take kernels from FILE; if there is none, write the compiled ones to it
    #[arg(long, value_name = "FILE")]
    pack: Option<PathBuf>,
    /// Do not tell of kernels as they are compiled
    #[arg(long)]
    quiet: bool,
}

/// A compiled network.
pub struct Compiled {
    /// What it runs on.
    pub runtime: Runtime,
    /// The network.
    pub network: Network,
    /// How long the passes, the kernels and the packing of weights took.
    pub time: Duration,
    /// Kernels that were not compiled but came from a pack or the cache directory.
    pub unpacked: u64,
    /// The pack that was written.
    pub written: Option<PathBuf>,
}

impl Compiled {
    /// Whether kernels multiply in another type than their operands'.
    pub fn rounds(&self) -> bool {
        self.runtime.target().bf16 && self.network.kernels().iter().any(|k| k.problem().math().allows_bf16())
    }

    /// The arithmetic, and whether the target has it.
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
        let found = self.pack.as_deref().filter(|file| is_file(file));
        let mut builder = self.target.builder().threads(self.threads);
        builder = self.fpmath.iter().fold(builder, |builder, mode| builder.fpmath(*mode));
        builder = found.iter().fold(builder, |builder, file| builder.pack(file));
        let runtime = builder.build()?;
        for (path, status) in runtime.packs() {
            if let Err(error) = status {
                return Err(Error::Pack(error.clone()).at(path.display().to_string()));
            }
        }
        let is_terminal = std::io::stderr().is_terminal();
        let start = Instant::now();
        let network = bound.compile_with(&runtime, &|p| {
            if !self.quiet {
                // Nobody may be listening. A terminal shows one line that changes.
                let (before, after) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
                let _ = write!(std::io::stderr(), "{before}{}/{} {}{after}", p.done, p.of, p.problem);
            }
        });
        if is_terminal && !self.quiet {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let (network, time) = (network?, start.elapsed());
        let unpacked = runtime.stats().unpacked;
        let missing = self.pack.as_deref().filter(|_| found.is_none());
        if let Some(file) = missing {
            write(file, &network, &runtime)?;
        }
        Ok(Compiled { runtime, network, time, unpacked, written: missing.map(Path::to_owned) })
    }

    /// The same with strict arithmetic, without any pack.
    pub fn strict(&self) -> Result<Runtime, Error> {
        Ok(self.target.builder().threads(self.threads).fpmath(MathMode::Strict).build()?)
    }
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
