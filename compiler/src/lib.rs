//! Kiln's compiler: from a problem to machine code for any supported target, on any host.
//!
//! ```
//! use kiln_compiler::{Options, Stage, Target, compile};
//!
//! let problem = "matmul f32 6x8:8x32 +bias".parse()?;
//! let graviton3: Target = "neoverse-v1".parse()?;
//! let artifact = compile(&problem, &graviton3, &Options::default())?;
//!
//! // One SVE micro-kernel of 6 rows by 4 vectors of 8, no lane wasted, both operands read where they lie.
//! let schedule = &artifact.choice().schedule;
//! assert_eq!((schedule.regions[0].mr, schedule.regions[0].nr), (6, 32));
//! assert_eq!((artifact.choice().wasted_macs, artifact.scratch_bytes()), (0, 0));
//! artifact.nest().verify()?;
//! artifact.micro_kernels()[0].verify()?;
//!
//! // The listing assembles back to the image; the same bytes come out on every host.
//! assert!(artifact.dump(Stage::Asm).contains("fmla"));
//! assert_eq!(compile(&problem, &graviton3, &Options::default())?.image(), artifact.image());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod artifact;
pub mod chip;
mod choose;
pub mod emit;
mod error;
pub mod form;
mod link;
mod listing;
pub mod lower;
pub mod microkernel;
pub mod package;
pub mod packed;
mod pipeline;
pub mod schedule;
pub mod target;
pub mod work;

pub use artifact::{Artifact, Stage};
pub use choose::{Candidates, Options};
pub use error::CompileError;
pub use listing::function_listing;
pub use package::Package;
pub use pipeline::compile;
pub use target::Target;

/// The version of this compiler, which changes with everything that code depends on: the crate's version and hashes of its sources and
/// of those of [`kiln_ir`]. Code of another version is not to be relied on.
pub const VERSION: &str = match str::from_utf8(&VERSION_BYTES) {
    Ok(version) => version,
    Err(_) => panic!("versions are text"),
};

const PARTS: [&str; 2] = [env!("KILN_COMPILER_VERSION"), kiln_ir::SOURCES];
const VERSION_BYTES: [u8; PARTS[0].len() + 1 + PARTS[1].len()] = {
    let mut all = [b'.'; PARTS[0].len() + 1 + PARTS[1].len()];
    let (first, second) = all.split_at_mut(PARTS[0].len());
    first.copy_from_slice(PARTS[0].as_bytes());
    second.split_at_mut(1).1.copy_from_slice(PARTS[1].as_bytes());
    all
};
