//! The target of a subcommand.

use std::ffi::OsString;
use std::fmt::Write;
use std::io;

use kiln_compiler::Target;
use kiln_jit::{Notice, Runtime, RuntimeBuilder, RuntimeError};

use crate::error::Error;

/// The target of a subcommand.
#[derive(Debug, Default, clap::Args)]
pub struct TargetArgs {
    /// Compile for this target, for example neoverse-v1 or x86-64-v4-avx512; help lists them [default: this machine]
    #[arg(long)]
    target: Option<Target>,
}

impl TargetArgs {
    /// A runtime for the target, which this machine must be able to run.
    pub fn runtime(&self, threads: usize) -> Result<Runtime, RuntimeError> {
        self.builder().threads(threads).build()
    }

    /// Settings of a runtime for the target. Its notices go to standard error, but for those of packs, which are errors here.
    pub fn builder(&self) -> RuntimeBuilder {
        let builder = Runtime::builder().on_notice(|notice| {
            if !matches!(notice, Notice::Pack { .. }) {
                // Nobody may be listening.
                let _ = io::Write::write_fmt(
                    &mut io::stderr(),
                    format_args!("note: {}: {notice}\n", notice.path().display()),
                );
            }
        });
        match &self.target {
            Some(target) => builder.target(target.clone()),
            None => builder,
        }
    }

    /// The target that was asked for, or else this machine's.
    pub fn resolve(&self) -> Result<Target, RuntimeError> {
        match &self.target {
            Some(target) => Ok(target.clone()),
            None => Ok(self.runtime(1)?.target().clone()),
        }
    }
}

/// The targets of a subcommand that takes several.
#[derive(Debug, clap::Args)]
pub struct TargetsArgs {
    /// The targets, with commas between them, for example neoverse-v1,neoverse-v2; help lists them [default: this machine]
    #[arg(long = "target", value_name = "TARGET,...", value_delimiter = ',')]
    targets: Vec<Target>,
}

impl TargetsArgs {
    /// The targets that were asked for, each once, or else this machine's.
    pub fn resolve(&self) -> Result<Vec<Target>, Error> {
        if self.targets.is_empty() {
            return Ok(vec![TargetArgs::default().resolve()?]);
        }
        match self.targets.iter().enumerate().find(|(at, target)| self.targets[..*at].contains(target)) {
            Some((_, target)) => Err(Error::Twice { option: "--target", name: target.to_string() }),
            None => Ok(self.targets.clone()),
        }
    }
}

/// True if a command line has `--target help`.
pub fn is_help(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter().take_while(|word| word != "--").peekable();
    while let Some(word) = arguments.next() {
        if word == "--target=help" || (word == "--target" && arguments.peek().is_some_and(|value| value == "help")) {
            return true;
        }
    }
    false
}

/// The text that `--target help` prints: a line for each core, and the modifiers.
pub fn help() -> String {
    let mut text = String::new();
    for core in Target::CORES {
        let target: Target = core.parse().expect("a listed core is a target");
        let units = target.units.iter().map(|unit| format!("{} of {} bits", unit.isa, 32 * unit.lanes));
        let units = units.chain(target.features().iter().map(|f| f.name().to_owned())).collect::<Vec<_>>().join(", ");
        let [l1d, l2] = [target.l1d, target.l2].map(|cache| cache.bytes >> 10);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{core:<12} {units}; caches of {l1d}k and {l2}k");
    }
    text + "modifiers    + or - and bf16, dotprod or i8mm, -sve -neon (AArch64); + or - and vnni, -avx512 -avx2 (x86-64);\n             \
            +l1d=BYTES +l2=BYTES; for example neoverse-v1-sve or x86-64-v3+l2=1m\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_for_the_option_alone() {
        let asks = |line: &str| is_help(line.split(' ').map(OsString::from));
        assert!(asks("kiln dump --target help") && asks("kiln run --target=help --threads 2"));
        assert!(!asks("kiln dump help --target sve256") && !asks("kiln help") && !asks("kiln run -- --target help"));
    }

    #[test]
    fn every_core_has_a_short_line() {
        let text = help();
        assert_eq!(text.lines().count(), Target::CORES.len() + 2);
        assert!(
            text.contains(
                "neoverse-v1  sve of 256 bits, neon of 128 bits, bf16, dotprod, i8mm; caches of 64k and 1024k"
            ),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }
}
