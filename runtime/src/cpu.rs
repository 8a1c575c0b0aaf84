//! The machine this process runs on, as a [`Target`].
//!
//! Detection has two steps: *ask* (system calls, identification registers; the only step that depends on the machine) and
//! *name* (a pure function from the answers to a target, tested on any host). The name a core claims is believed only as
//! far as the operating system agrees: a Neoverse V1 whose kernel or hypervisor hides SVE, or runs it at another vector
//! length, is named by what is left.
//!
//! Sources: Linux `Documentation/arch/arm64/{elf_hwcaps,cpu-feature-registers,sve}.rst`; the MIDR_EL1 part numbers of the
//! Arm Neoverse technical reference manuals; CPUID leaf 4 of the Intel SDM and leaf 0x8000001D of the AMD APM.

use std::fmt;

pub use error::CpuError;
use kiln_compiler::target::{Arch, Feature, Target, TargetError, VectorIsa};

/// Describes the processor that the calling thread runs on.
///
/// On AArch64 the SVE vector length is the calling thread's, see [`check_thread`].
pub fn detect() -> Result<Target, CpuError> {
    #[cfg(target_arch = "aarch64")]
    return aarch64::ask().name();
    #[cfg(target_arch = "x86_64")]
    return x86_64::ask().name();
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    return Err(CpuError::Architecture { arch: std::env::consts::ARCH });
}

/// A feature that a machine lacks to run code of some target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The code is for another architecture.
    Architecture(Arch),
    /// A vector instruction set.
    Unit(VectorIsa),
    /// SVE has another vector length. Code is compiled for one length, in bits.
    VectorLength {
        /// Of the machine, or of the thread.
        host: u32,
        /// Of the code.
        wanted: u32,
    },
    /// An extension of its instruction sets.
    Feature(Feature),
    /// Nothing is known of the code: the target's fields were changed, and are not what its text says.
    Changed,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Architecture(Arch::Aarch64) => f.write_str("it is not an AArch64 processor"),
            Missing::Architecture(Arch::X86_64) => f.write_str("it is not an x86-64 processor"),
            Missing::Unit(isa) => write!(f, "it has no {isa}"),
            Missing::VectorLength { host, wanted } => {
                write!(f, "its SVE vectors have {host} bits and the code needs {wanted}")
            }
            Missing::Feature(feature) => write!(f, "it has no {}", feature.name()),
            Missing::Changed => f.write_str("the target's fields are not what its text says: parse another text"),
        }
    }
}

/// Code of target `wanted` cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotRun {
    /// The machine's target.
    pub host: Box<Target>,
    /// The target that the code was compiled for.
    pub wanted: Box<Target>,
    /// All that is missing; never empty.
    pub missing: Vec<Missing>,
}

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine (`{}`) cannot run code for `{}`: ", self.host, self.wanted)?;
        for (i, missing) in self.missing.iter().enumerate() {
            write!(f, "{}{missing}", if i == 0 { "" } else { ", and " })?;
        }
        f.write_str("; `kiln dump` shows the code without running it")
    }
}

impl std::error::Error for CannotRun {}

/// Fails unless a machine described by `host` can run code compiled for `wanted`.
///
/// Every vector unit of `wanted` is needed, since a kernel may use any of them; so are its extensions. Cache
/// sizes and pipes do not matter.
pub fn supports(host: &Target, wanted: &Target) -> Result<(), CannotRun> {
    let mut missing = Vec::new();
    // A register or an instruction that no machine of the name has would be in the code.
    if wanted.to_string().parse().as_ref() != Ok(wanted) {
        missing.push(Missing::Changed);
    } else if host.arch != wanted.arch {
        missing.push(Missing::Architecture(wanted.arch));
    } else {
        for unit in &wanted.units {
            match host.unit(unit.isa) {
                None => missing.push(Missing::Unit(unit.isa)),
                Some(own) if own.lanes != unit.lanes => {
                    missing.push(Missing::VectorLength { host: own.lanes * 32, wanted: unit.lanes * 32 });
                }
                Some(_) => {}
            }
        }
        missing.extend(wanted.features().iter().filter(|f| !host.has(*f)).map(Missing::Feature));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(CannotRun { host: Box::new(host.clone()), wanted: Box::new(wanted.clone()), missing })
}

/// Fails unless the calling thread runs SVE at the vector length that code of `target` was compiled for.
///
/// Linux keeps the vector length per thread (`prctl(PR_SVE_SET_VL)`), so a thread can differ from the one that
/// [`detect`]ed. The machine must [support](supports) `target`. A few nanoseconds; without SVE in `target`, nothing.
#[inline]
pub fn check_thread(target: &Target) -> Result<(), CannotRun> {
    #[cfg(target_arch = "aarch64")]
    if let Some(wanted) = target.sve_bits() {
        let host = aarch64::thread_sve_bits();
        if host != Some(wanted) {
            let missing = host.map_or(Missing::Unit(VectorIsa::Sve), |host| Missing::VectorLength { host, wanted });
            let host = detect().unwrap_or_else(|_| target.clone());
            let (host, wanted) = (Box::new(host), Box::new(target.clone()));
            return Err(CannotRun { host, wanted, missing: vec![missing] });
        }
    }
    let _ = target;
    Ok(())
}

/// A value of `KILN_MAX_CPU_ISA` that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The word is not an instruction set of this architecture.
    #[error("unknown instruction set `{word}` for `{target}`: expected one of {expected}")]
    UnknownIsa {
        /// The offending word.
        word: String,
        /// The target that it was to limit.
        target: Box<Target>,
        /// The words that would be accepted.
        expected: &'static str,
    },
    /// Nothing is left of the target below the limit.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// `target` without the instruction sets above `isa`: the meaning of `KILN_MAX_CPU_ISA`.
///
/// Words, in either case: `default` (no limit); on AArch64 `advanced_simd`, `sve_128`, `sve_256`, `sve_512`; on x86-64
/// `avx2`, `avx512_core`. SVE code runs at one vector length only, so vectors longer than the limit mean no SVE, not shorter vectors.
pub fn limit(target: &Target, isa: &str) -> Result<Target, LimitError> {
    let word = isa.trim().to_ascii_lowercase();
    let max_sve_bits = match (target.arch, word.as_str()) {
        (_, "default") | (Arch::X86_64, "avx512_core") => return Ok(target.clone()),
        (Arch::X86_64, "avx2") => {
            return match target.unit(VectorIsa::Avx512) {
                Some(_) => Ok(format!("{target}-avx512").parse()?),
                None => Ok(target.clone()),
            };
        }
        (Arch::Aarch64, "advanced_simd") => 0,
        (Arch::Aarch64, "sve_128") => 128,
        (Arch::Aarch64, "sve_256") => 256,
        (Arch::Aarch64, "sve_512") => 512,
        (arch, _) => {
            let expected = match arch {
                Arch::Aarch64 => "advanced_simd, sve_128, sve_256, sve_512, default",
                Arch::X86_64 => "avx2, avx512_core, default",
            };
            return Err(LimitError::UnknownIsa { word, target: Box::new(target.clone()), expected });
        }
    };
    if target.sve_bits().is_some_and(|bits| bits > max_sve_bits) {
        return Ok(format!("{target}-sve").parse()?);
    }
    Ok(target.clone())
}

#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "asked on AArch64 only; named and tested anywhere"))]
mod aarch64;
mod error;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "asked on x86-64 only; named and tested anywhere"))]
mod x86_64;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn this_machine_has_a_target_that_it_supports() {
        let host = detect().unwrap();
        assert_eq!(host.arch == Arch::X86_64, cfg!(target_arch = "x86_64"));
        assert_eq!(host.to_string().parse::<Target>().unwrap(), host);
        supports(&host, &host).unwrap();
        check_thread(&host).unwrap();
    }

    #[test]
    fn support_needs_every_unit_the_vector_length_and_extensions() {
        let missing = |host: &str, wanted: &str| match supports(&target(host), &target(wanted)) {
            Ok(()) => vec![],
            Err(e) => e.missing,
        };
        assert_eq!(missing("neoverse-v1", "neoverse-v1-sve"), []);
        assert_eq!(missing("neoverse-v1", "neoverse-n1"), []);
        assert_eq!(missing("sve256+bf16+dotprod+i8mm", "neoverse-v1"), []);
        assert_eq!(missing("neoverse-v1-sve", "neoverse-v1"), [Missing::Unit(VectorIsa::Sve)]);
        assert_eq!(missing("neoverse-v2", "neoverse-v1"), [Missing::VectorLength { host: 128, wanted: 256 }]);
        assert_eq!(missing("neoverse-n1", "armv8+bf16"), [Missing::Feature(Feature::Bf16)]);
        assert_eq!(
            missing("armv8", "neoverse-v2"),
            [
                Missing::Unit(VectorIsa::Sve),
                Missing::Feature(Feature::Bf16),
                Missing::Feature(Feature::DotProd),
                Missing::Feature(Feature::I8mm),
            ]
        );
        assert_eq!(missing("x86-64-v3", "armv8"), [Missing::Architecture(Arch::Aarch64)]);
        assert_eq!(missing("x86-64-v4-avx512", "x86-64-v4"), [Missing::Unit(VectorIsa::Avx512)]);
        assert_eq!(missing("x86-64-v4+l2=1m", "x86-64-v4-avx512"), []);
        assert_eq!(missing("x86-64-v4", "x86-64-v3"), []);
        assert_eq!(missing("x86-64-v3", "x86-64-v4"), [Missing::Unit(VectorIsa::Avx512)]);
        let mut changed = target("neoverse-n1");
        changed.units[0].features.set(Feature::Bf16, true);
        assert_eq!(supports(&target("neoverse-n1"), &changed).unwrap_err().missing, [Missing::Changed]);
    }

    #[test]
    fn the_refusal_says_what_is_missing_and_what_to_do() {
        let e = supports(&target("armv8"), &target("neoverse-v2")).unwrap_err().to_string();
        for part in ["`armv8`", "`neoverse-v2`", "no sve", "no bf16", "kiln dump"] {
            assert!(e.contains(part), "{part} not in: {e}");
        }
        let e = supports(&target("sve512"), &target("sve256")).unwrap_err().to_string();
        assert!(e.contains("512 bits and the code needs 256"), "{e}");
    }

    #[test]
    fn limits_remove_what_is_above() {
        let limited = |t: &str, isa: &str| limit(&target(t), isa).unwrap().to_string();
        assert_eq!(limited("neoverse-v1", "Advanced_SIMD"), "neoverse-v1-sve");
        assert_eq!(limited("neoverse-v1", "SVE_128"), "neoverse-v1-sve");
        assert_eq!(limited("neoverse-v1", "sve_256"), "neoverse-v1");
        assert_eq!(limited("neoverse-v1", "sve_512"), "neoverse-v1");
        assert_eq!(limited("sve1024+bf16", "sve_512"), "sve1024+bf16-sve");
        assert_eq!(limited("neoverse-v2", "sve_128"), "neoverse-v2");
        assert_eq!(limited("neoverse-n1", "advanced_simd"), "neoverse-n1");
        assert_eq!(limited("x86-64-v3+l2=1m", " AVX2 "), "x86-64-v3+l2=1m");
        assert_eq!(limited("x86-64-v4+l2=1m", "avx2"), "x86-64-v4+l2=1m-avx512");
        assert_eq!(limited("x86-64-v4", "avx512_core"), "x86-64-v4");
        assert_eq!(limited("x86-64-v3", "avx512_core"), "x86-64-v3");
        assert_eq!(limited("sve2048", "default"), "sve2048");
    }

    #[test]
    fn limits_of_another_architecture_or_below_everything_are_errors() {
        let e = limit(&target("neoverse-v1"), "avx2").unwrap_err();
        assert!(matches!(e, LimitError::UnknownIsa { .. }) && e.to_string().contains("sve_256"), "{e}");
        assert!(limit(&target("x86-64-v3"), "sve_128").unwrap_err().to_string().contains("avx2"));
        assert!(matches!(limit(&target("x86-64-v3"), ""), Err(LimitError::UnknownIsa { .. })));
        let none_left = limit(&target("sve256-neon"), "advanced_simd");
        assert!(matches!(none_left, Err(LimitError::Target(TargetError::NoUnit { .. }))));
    }
}
