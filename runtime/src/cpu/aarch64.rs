//! AArch64: hardware capabilities, the SVE vector length and the part number.

use kiln_compiler::target::Target;

use super::error::CpuError;

/// An AArch64 core as Linux and the identification registers describe it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Core {
    /// HWCAP_ASIMD.
    pub advanced_simd: bool,
    /// HWCAP_SVE, and the vector length of the calling thread in bits.
    pub sve_bits: Option<u32>,
    /// HWCAP2_BF16.
    pub bf16: bool,
    /// HWCAP2_SVEBF16.
    pub sve_bf16: bool,
    /// HWCAP_ASIMDDP.
    pub dotprod: bool,
    /// HWCAP2_I8MM.
    pub i8mm: bool,
    /// HWCAP2_SVEI8MM.
    pub sve_i8mm: bool,
    /// MIDR_EL1, where the kernel lets programs read it.
    pub midr: Option<u64>,
}

impl Core {
    /// The target of this core: the model it claims to be if everything else agrees, else what is known to be there.
    pub(super) fn name(self) -> Result<Target, CpuError> {
        if !self.advanced_simd {
            return Err(CpuError::Missing { feature: "Advanced SIMD", arch: "aarch64" });
        }
        // A target has an extension for all its units, so with SVE both units must have it.
        let has_sve = self.sve_bits.is_some();
        let features = [
            ("bf16", self.bf16 && (!has_sve || self.sve_bf16)),
            ("dotprod", self.dotprod),
            ("i8mm", self.i8mm && (!has_sve || self.sve_i8mm)),
        ];
        let features: String = features.map(|(word, has)| format!("{}{word}", if has { "+" } else { "-" })).concat();
        if let Some(model) = self.midr.and_then(model) {
            let target: Target = model.parse()?;
            if self.sve_bits == target.sve_bits() {
                return Ok(format!("{model}{features}").parse()?);
            }
            if self.sve_bits.is_none() {
                return Ok(format!("{model}-sve{features}").parse()?);
            }
        }
        // Lengths between the powers of two have no target: they were permitted until Armv9.
        let sve = self.sve_bits.map(|bits| format!("sve{bits}")).filter(|core| Target::CORES.contains(&core.as_str()));
        let core = sve.as_deref().unwrap_or("armv8");
        Ok(format!("{core}{features}").parse()?)
    }
}

/// The target core with this main identification register, of those that have a description of their own.
fn model(midr: u64) -> Option<&'static str> {
    const ARM: u64 = 0x41;
    let (implementer, part) = (midr >> 24 & 0xff, midr >> 4 & 0xfff);
    match (implementer, part) {
        (ARM, 0xd0c) => Some("neoverse-n1"),
        (ARM, 0xd40) => Some("neoverse-v1"),
        (ARM, 0xd4f) => Some("neoverse-v2"),
        _ => None,
    }
}

#[cfg(target_arch = "aarch64")]
mod host {
    use std::arch::asm;
    use std::sync::OnceLock;

    // linux/arch/arm64/include/uapi/asm/hwcap.h and include/uapi/linux/prctl.h
    const HWCAP_ASIMD: u64 = 1 << 1;
    const HWCAP_ASIMDDP: u64 = 1 << 20;
    const HWCAP_CPUID: u64 = 1 << 11;
    const HWCAP_SVE: u64 = 1 << 22;
    const HWCAP2_SVEI8MM: u64 = 1 << 9;
    const HWCAP2_SVEBF16: u64 = 1 << 12;
    const HWCAP2_I8MM: u64 = 1 << 13;
    const HWCAP2_BF16: u64 = 1 << 14;
    const PR_SVE_GET_VL: libc::c_int = 51;
    const PR_SVE_VL_LEN_MASK: libc::c_int = 0xffff;

    fn auxiliary_value(key: libc::c_ulong) -> u64 {
        // SAFETY: getauxval reads the vector the kernel passed to the process; an unknown key yields 0.
        unsafe { libc::getauxval(key) }
    }

    /// Asks the operating system and the core that the calling thread is on.
    pub(in super::super) fn ask() -> super::Core {
        let (hwcap, hwcap2) = (auxiliary_value(libc::AT_HWCAP), auxiliary_value(libc::AT_HWCAP2));
        let midr = (hwcap & HWCAP_CPUID != 0).then(|| {
            let midr: u64;
            // SAFETY: HWCAP_CPUID promises that the kernel emulates this read in user mode.
            unsafe { asm!("mrs {}, midr_el1", out(reg) midr, options(nomem, nostack, preserves_flags)) };
            midr
        });
        super::Core {
            advanced_simd: hwcap & HWCAP_ASIMD != 0,
            sve_bits: if hwcap & HWCAP_SVE != 0 { sve_bits_by_prctl() } else { None },
            bf16: hwcap2 & HWCAP2_BF16 != 0,
            sve_bf16: hwcap2 & HWCAP2_SVEBF16 != 0,
            dotprod: hwcap & HWCAP_ASIMDDP != 0,
            i8mm: hwcap2 & HWCAP2_I8MM != 0,
            sve_i8mm: hwcap2 & HWCAP2_SVEI8MM != 0,
            midr,
        }
    }

    fn sve_bits_by_prctl() -> Option<u32> {
        // SAFETY: PR_SVE_GET_VL takes no argument and touches no memory; it fails with -1 where there is no SVE.
        let length = unsafe { libc::prctl(PR_SVE_GET_VL) };
        (length >= 0).then_some((length & PR_SVE_VL_LEN_MASK) as u32 * 8)
    }

    /// The SVE vector length of the calling thread in bits, `None` without SVE.
    #[inline]
    pub(in super::super) fn thread_sve_bits() -> Option<u32> {
        static HAS_SVE: OnceLock<bool> = OnceLock::new();
        if !*HAS_SVE.get_or_init(|| auxiliary_value(libc::AT_HWCAP) & HWCAP_SVE != 0) {
            return None;
        }
        let bytes: u64;
        // SAFETY: HWCAP_SVE was checked; RDVL only writes its destination.
        unsafe {
            asm!(
                ".arch_extension sve",
                "rdvl {}, #1",
                ".arch_extension nosve",
                out(reg) bytes,
                options(nomem, nostack, preserves_flags)
            )
        };
        Some(bytes as u32 * 8)
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use host::{ask, thread_sve_bits};

#[cfg(test)]
mod tests {
    use super::*;

    const N1: u64 = 0x414f_d0c1;
    const V1: u64 = 0x411f_d402;
    const N2: u64 = 0x410f_d490;
    const V2: u64 = 0x410f_d4f1;

    fn name(midr: u64, sve_bits: Option<u32>, bf16: bool) -> String {
        let core = Core {
            advanced_simd: true,
            sve_bits,
            bf16,
            sve_bf16: bf16 && sve_bits.is_some(),
            dotprod: true,
            i8mm: bf16,
            sve_i8mm: bf16 && sve_bits.is_some(),
            midr: Some(midr),
        };
        core.name().unwrap().to_string()
    }

    #[test]
    fn known_parts_keep_their_name_when_all_agrees() {
        assert_eq!(name(N1, None, false), "neoverse-n1");
        assert_eq!(name(V1, Some(256), true), "neoverse-v1");
        assert_eq!(name(V2, Some(128), true), "neoverse-v2");
    }

    #[test]
    fn known_parts_with_less_are_named_by_what_is_left() {
        assert_eq!(name(V1, Some(128), true), "sve128+bf16+dotprod+i8mm");
        assert_eq!(name(V1, None, true), "neoverse-v1-sve");
        assert_eq!(name(V1, None, false), "neoverse-v1-bf16-i8mm-sve");
        assert_eq!(name(V1, Some(256), false), "neoverse-v1-bf16-i8mm");
        assert_eq!(name(N1, Some(256), true), "sve256+bf16+dotprod+i8mm");
        assert_eq!(name(N1, None, true), "neoverse-n1+bf16+i8mm");
    }

    #[test]
    fn unknown_parts_are_named_by_features() {
        assert_eq!(name(N2, Some(128), true), "sve128+bf16+dotprod+i8mm");
        assert_eq!(name(0x460f_0010, Some(512), false), "sve512+dotprod");
        assert_eq!(name(0x000f_0510, None, true), "armv8+bf16+dotprod+i8mm");
        assert_eq!(name(0x410f_d083, None, false), "armv8+dotprod");
        assert_eq!(
            name(0x4e0f_d400, Some(256), true),
            "sve256+bf16+dotprod+i8mm",
            "the V1 part number of another implementer"
        );
        assert_eq!(name(N2, Some(384), true), "armv8+bf16+dotprod+i8mm", "a vector length without a target");
    }

    #[test]
    fn extensions_need_both_units_and_midr_may_be_hidden() {
        let core = Core {
            advanced_simd: true,
            sve_bits: Some(256),
            bf16: true,
            sve_bf16: false,
            dotprod: false,
            i8mm: true,
            sve_i8mm: false,
            midr: None,
        };
        assert_eq!(core.name().unwrap().to_string(), "sve256");
        let e = Core { advanced_simd: false, ..core }.name().unwrap_err();
        assert!(matches!(e, CpuError::Missing { feature: "Advanced SIMD", .. }));
    }

    /// Under qemu-user the environment says which core is emulated.
    #[cfg(target_arch = "aarch64")]
    #[test]
    fn emulated_cores_are_recognised() {
        let expected = match std::env::var("QEMU_CPU").as_deref() {
            Ok("neoverse-n1") => "neoverse-n1",
            Ok("neoverse-v1") => "neoverse-v1",
            Ok("neoverse-n2" | "max,sve128=on") => "sve128+bf16+dotprod+i8mm",
            Ok("max,sve512=on") => "sve512+bf16+dotprod+i8mm",
            Ok("max,sve=off") => "armv8+bf16+dotprod+i8mm",
            Ok("cortex-a72") => "armv8",
            _ => return,
        };
        assert_eq!(super::super::detect().unwrap().to_string(), expected);
    }

    /// The vector length belongs to the thread: detection and the check both see a thread that changed its own.
    #[cfg(target_arch = "aarch64")]
    #[test]
    fn a_thread_with_another_vector_length_is_seen() {
        const PR_SVE_SET_VL: libc::c_int = 50;
        use std::io::Write;
        let Some(bits) = super::super::detect().unwrap().sve_bits().filter(|bits| *bits > 128) else {
            // Past the test's own capture.
            let _ = writeln!(std::io::stderr(), "no SVE of more than 128 bits: its length is not changed");
            return;
        };
        let wanted: Target = format!("sve{bits}").parse().unwrap();
        std::thread::spawn(move || {
            super::super::check_thread(&wanted).unwrap();
            // SAFETY: changes the vector length of this thread only, which holds no SVE state here.
            assert!(unsafe { libc::prctl(PR_SVE_SET_VL, 16) } >= 0);
            assert_eq!(super::super::detect().unwrap().sve_bits(), Some(128));
            let e = super::super::check_thread(&wanted).unwrap_err();
            assert_eq!(e.missing, [super::super::Missing::VectorLength { host: 128, wanted: bits }]);
        })
        .join()
        .unwrap();
    }
}
