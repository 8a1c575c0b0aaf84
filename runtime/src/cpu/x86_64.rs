//! x86-64: features that the processor has and the operating system saves, and cache sizes.

use kiln_compiler::target::Target;

use super::error::CpuError;

/// An x86-64 core as CPUID and XGETBV describe it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Core {
    /// AVX2, with the upper register halves saved by the operating system.
    pub avx2: bool,
    /// Three-operand fused multiply-add.
    pub fma: bool,
    /// Conversions between f32 and f16.
    pub f16c: bool,
    /// AVX-512 F, BW, DQ and VL, with all of the registers saved by the operating system.
    pub avx512: bool,
    /// AVX512_VNNI.
    pub vnni: bool,
    /// First-level data cache in bytes.
    pub l1d: Option<u64>,
    /// Second-level cache in bytes.
    pub l2: Option<u64>,
}

impl Core {
    /// The target of this core. A cache size outside what a target can say is taken for unknown, as under some hypervisors.
    pub(super) fn name(self) -> Result<Target, CpuError> {
        for (present, feature) in [(self.avx2, "AVX2"), (self.fma, "FMA"), (self.f16c, "F16C")] {
            if !present {
                return Err(CpuError::Missing { feature, arch: "x86-64" });
            }
        }
        let mut target: Target = match (self.avx512, self.vnni) {
            (true, true) => "x86-64-v4+vnni",
            (true, false) => "x86-64-v4",
            (false, _) => "x86-64-v3",
        }
        .parse()?;
        for (modifier, bytes) in [("l1d", self.l1d), ("l2", self.l2)] {
            let Some(bytes) = bytes else { continue };
            let size = match bytes {
                b if b % (1 << 20) == 0 => format!("{}m", b >> 20),
                b if b % (1 << 10) == 0 => format!("{}k", b >> 10),
                b => b.to_string(),
            };
            target = format!("{target}+{modifier}={size}").parse().unwrap_or(target);
        }
        Ok(target)
    }
}

#[cfg(target_arch = "x86_64")]
mod host {
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

    /// Asks the core that the calling thread is on.
    pub(in super::super) fn ask() -> super::Core {
        super::Core {
            avx2: is_x86_feature_detected!("avx2"),
            fma: is_x86_feature_detected!("fma"),
            f16c: is_x86_feature_detected!("f16c"),
            avx512: is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl"),
            vnni: is_x86_feature_detected!("avx512vnni"),
            l1d: cache_bytes(1),
            l2: cache_bytes(2),
        }
    }

    /// The size of the data or unified cache of `level`: leaf 4 (Intel), or leaf 0x8000001D (AMD), which has the same
    /// layout. A processor without the one leaf reports no caches there.
    fn cache_bytes(level: u32) -> Option<u64> {
        let has_leaf_4 = __cpuid(0).eax >= 4;
        let has_leaf_1d = __cpuid(0x8000_0000).eax >= 0x8000_001d;
        let leaves = [(has_leaf_4, 4), (has_leaf_1d, 0x8000_001d)];
        let leaves = leaves.iter().filter(|(present, _)| *present);
        leaves.flat_map(|(_, leaf)| caches_of(*leaf)).find(|c| c.0 == level).map(|c| c.1)
    }

    /// `(level, bytes)` of each data or unified cache that `leaf` lists.
    fn caches_of(leaf: u32) -> impl Iterator<Item = (u32, u64)> {
        const NO_MORE: u32 = 0;
        const INSTRUCTION: u32 = 2;
        // The list ends with a null entry; no processor has more than a handful.
        (0..16)
            .map(move |index| __cpuid_count(leaf, index))
            .take_while(|entry| entry.eax & 0x1f != NO_MORE)
            .filter(|entry| entry.eax & 0x1f != INSTRUCTION)
            .map(|entry| (entry.eax >> 5 & 7, bytes(entry)))
    }

    /// Ways x partitions x line size x sets; every field holds one less than its number.
    fn bytes(entry: CpuidResult) -> u64 {
        let field = |shift: u32, bits: u32| u64::from(entry.ebx >> shift & ((1 << bits) - 1)) + 1;
        field(22, 10) * field(12, 10) * field(0, 12) * (u64::from(entry.ecx) + 1)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use host::ask;

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: Core = Core {
        avx2: true,
        fma: true,
        f16c: true,
        avx512: false,
        vnni: false,
        l1d: Some(32 << 10),
        l2: Some(512 << 10),
    };

    #[test]
    fn only_caches_that_differ_are_named() {
        let name = |core: Core| core.name().unwrap().to_string();
        assert_eq!(name(CORE), "x86-64-v3");
        assert_eq!(name(Core { l2: Some(1 << 20), ..CORE }), "x86-64-v3+l2=1m");
        assert_eq!(name(Core { l1d: Some(48 << 10), l2: Some(1280 << 10), ..CORE }), "x86-64-v3+l1d=48k+l2=1280k");
        assert_eq!(name(Core { l1d: None, l2: None, ..CORE }), "x86-64-v3");
        let wide = Core { avx512: true, l1d: Some(48 << 10), ..CORE };
        assert_eq!(name(Core { l2: Some(2 << 20), ..wide }), "x86-64-v4");
        assert_eq!(name(Core { l2: Some(1 << 20), ..wide }), "x86-64-v4+l2=1m");
        assert_eq!(name(Core { vnni: true, l2: Some(1 << 20), ..wide }), "x86-64-v4+l2=1m+vnni");
    }

    #[test]
    fn nonsensical_caches_are_ignored() {
        let target = Core { l1d: Some(1), l2: Some(1 << 40), ..CORE }.name().unwrap();
        assert_eq!(target.to_string(), "x86-64-v3");
    }

    #[test]
    fn the_missing_feature_is_named() {
        let e = Core { avx2: false, ..CORE }.name().unwrap_err();
        assert!(e.to_string().contains("AVX2"), "{e}");
        let e = Core { fma: false, ..CORE }.name().unwrap_err();
        assert!(e.to_string().contains("FMA"), "{e}");
        let e = Core { f16c: false, ..CORE }.name().unwrap_err();
        assert!(e.to_string().contains("F16C"), "{e}");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn this_machine_reports_plausible_caches() {
        let core = ask();
        let (l1d, l2) = (core.l1d.expect("an L1 data cache"), core.l2.expect("an L2 cache"));
        assert!((8 << 10..=1 << 20).contains(&l1d) && l1d < l2, "{core:?}");
    }
}
