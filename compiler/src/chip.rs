//! Chips: how many cores of a target there are on one, and what they share.
//!
//! This is for models of several threads. Nothing here takes part in scheduling: code for a target is the same on every chip that has it.
//!
//! Sources: the AWS Graviton technical guide and instance pages for cores, clocks, last-level caches and channels of memory. Arm's
//! learning path "Memory subsystem" (learn.arm.com) for bandwidths as its ASCT tool measures them: all cores read 169.6 GB/s on Graviton2
//! and 465.5 GB/s on Graviton4, which is 83 and 87 % of what the channels transfer, and one core reads 35.9 and 78.0 GB/s from the
//! last-level cache. Chips that are not measured there get 85 % of their channels' 307.2 GB/s (Graviton3) or the maker's figure.
//!
//! No measurement of all cores reading from the last-level cache at once was found. It is assumed that they get a quarter of what each would
//! get alone.

use crate::target::Target;

/// A chip with cores of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chip {
    /// Its name.
    pub name: &'static str,
    /// Cores that share what is below.
    pub cores: u32,
    /// The clock with all cores at work, GHz.
    pub ghz: f64,
    /// Bytes of the last-level cache.
    pub last_level: u64,
    /// GB/s that all cores together read from the last-level cache.
    pub last_level_gbs: f64,
    /// GB/s that all cores together read from memory.
    pub memory_gbs: f64,
}

const MIB: u64 = 1 << 20;

const GRAVITON2: Chip = Chip {
    name: "Graviton2",
    cores: 64,
    ghz: 2.5,
    last_level: 32 * MIB,
    last_level_gbs: 64.0 * 35.9 / 4.0,
    memory_gbs: 169.6,
};

/// One core's share of the last-level cache's bandwidth is taken to be between those of its neighbours, 50 GB/s.
const GRAVITON3: Chip = Chip {
    name: "Graviton3",
    cores: 64,
    ghz: 2.6,
    last_level: 32 * MIB,
    last_level_gbs: 64.0 * 50.0 / 4.0,
    memory_gbs: 0.85 * 307.2,
};

const GRAVITON4: Chip = Chip {
    name: "Graviton4",
    cores: 96,
    ghz: 2.8,
    last_level: 36 * MIB,
    last_level_gbs: 96.0 * 78.0 / 4.0,
    memory_gbs: 465.5,
};

/// AMD's data sheet: 64 cores of Zen 3, 8 channels of DDR4-3200. A core's cache is that of 8 cores, here taken as one.
const EPYC_7763: Chip = Chip {
    name: "EPYC 7763",
    cores: 64,
    ghz: 3.0,
    last_level: 256 * MIB,
    last_level_gbs: 64.0 * 60.0 / 4.0,
    memory_gbs: 0.85 * 204.8,
};

/// Intel's data sheet: 56 cores of Golden Cove, 8 channels of DDR5-4800.
const XEON_8480: Chip = Chip {
    name: "Xeon Platinum 8480+",
    cores: 56,
    ghz: 3.0,
    last_level: 105 * MIB,
    last_level_gbs: 56.0 * 40.0 / 4.0,
    memory_gbs: 0.85 * 307.2,
};

impl Chip {
    /// The chip that stands for a target. Targets that are no product, such as sve512, are taken to be on Graviton3's chip, and armv8
    /// on Graviton2's.
    pub fn of(target: &Target) -> Chip {
        match target.core_name() {
            "armv8" | "neoverse-n1" => GRAVITON2,
            "neoverse-v2" => GRAVITON4,
            "x86-64-v3" => EPYC_7763,
            "x86-64-v4" => XEON_8480,
            _ => GRAVITON3,
        }
    }

    /// Cycles in so many microseconds.
    pub fn cycles(&self, us: f64) -> f64 {
        us * self.ghz * 1e3
    }

    /// Milliseconds of so many cycles.
    pub fn ms(&self, cycles: f64) -> f64 {
        cycles / (self.ghz * 1e6)
    }
}
