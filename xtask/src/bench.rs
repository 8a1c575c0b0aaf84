//! `cargo xtask bench`: the problems whose speed we watch, measured by `kiln bench`.

use crate::process::{self, Result, cargo};

/// Square, tall, wide, deep, and the layers of models.
const PROBLEMS: &[&str] = &[
    "matmul f32 64x64:64x64",
    "matmul f32 512x512:512x512 +bias+relu",
    "matmul f32 1024x1024:1024x1024",
    "matmul f32 1x768:768x3072 +bias",
    "matmul f32 128x768:768x768 +bias",
    "matmul f32 128x768:768x3072 +bias+relu",
    "matmul f32 384x64:64x384",
    "matmul f32 3136x64:64x256 +bias+relu",
    "matmul f32 49x2048:2048x512 +bias+relu",
];

/// Arguments.
#[derive(clap::Args)]
pub struct BenchArgs {
    /// Options for `kiln bench`, after `--`.
    #[arg(last = true)]
    options: Vec<String>,
}

/// Builds the command line once, then measures one problem after the other: the machine does nothing else meanwhile.
pub fn run(args: &BenchArgs) -> Result {
    PROBLEMS.iter().try_for_each(|problem| {
        let mut bench = cargo("run --quiet --release --package kiln-compiler-cli -- bench");
        process::run(bench.arg(problem).args(&args.options))
    })
}
