//! Targets: what code is compiled for, as plain data.
//!
//! A [`Target`] is a value parsed from a string (`neoverse-v1`, `sve512+bf16`, `x86-64-v4-avx512`). It carries all that
//! scheduling and emission may ask for: instruction sets, vector length, registers, pipes and caches. Nothing here looks
//! at the machine the compiler runs on, so any host compiles the same bytes for a target.
//!
//! Grammar: `CORE` followed by any number of modifiers: `+` or `-` and an extension (`bf16`, `dotprod`, `i8mm`; `vnni` of x86), `-sve`,
//! `-neon`, `-avx512`, `-avx2`, `+l1d=BYTES`, `+l2=BYTES` (bytes with an optional `k` or `m` suffix), each once. `CORE` is one of [`Target::CORES`]. Letters may be
//! of either case.
//!
//! Sources of the figures: the Arm Neoverse N1, V1 and V2 software optimisation guides and LLVM's scheduling models for
//! pipes and latencies; the AWS Graviton technical guide for caches; AMD's Zen 3 optimisation guide for `x86-64-v3`; Intel's
//! optimisation manual on Sapphire Rapids (Golden Cove) for `x86-64-v4`.

mod costs;
mod feature;
pub mod product;

use std::fmt;
use std::str::FromStr;

pub use costs::{Costs, Parameter};
pub use feature::{Feature, Features};

use serde::{Deserialize, Serialize};
use target_lexicon::Triple;

/// A processor architecture: decides the driver's instruction set and calling convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit Arm, AAPCS64.
    Aarch64,
    /// x86-64, System V.
    X86_64,
}

/// A vector instruction set that micro-kernels are emitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VectorIsa {
    /// AArch64 Advanced SIMD, 128-bit.
    Neon,
    /// AArch64 Scalable Vector Extension at the target's vector length.
    Sve,
    /// x86 AVX-512 F, BW, DQ and VL, 512-bit.
    Avx512,
    /// x86 AVX2 with FMA, 256-bit.
    Avx2,
}

impl VectorIsa {
    /// Every vector instruction set.
    pub const ALL: &'static [VectorIsa] = &[VectorIsa::Neon, VectorIsa::Sve, VectorIsa::Avx512, VectorIsa::Avx2];

    /// The word in schedules, micro-kernels and target modifiers.
    pub const fn name(self) -> &'static str {
        match self {
            VectorIsa::Neon => "neon",
            VectorIsa::Sve => "sve",
            VectorIsa::Avx512 => "avx512",
            VectorIsa::Avx2 => "avx2",
        }
    }

    /// The vector registers that a function must leave as it finds them: of AArch64, the low halves of 8 to 15.
    pub(crate) fn preserved_registers(self) -> std::ops::Range<u8> {
        if self.is_a64() { 8..16 } else { 0..0 }
    }

    /// True if any number of a register's first lanes can be loaded or stored by one instruction.
    pub(crate) fn has_masks(self) -> bool {
        matches!(self, VectorIsa::Sve | VectorIsa::Avx512)
    }

    /// True for those of AArch64.
    pub const fn is_a64(self) -> bool {
        matches!(self, VectorIsa::Neon | VectorIsa::Sve)
    }

    /// True for those of x86.
    pub const fn is_x86(self) -> bool {
        matches!(self, VectorIsa::Avx512 | VectorIsa::Avx2)
    }

    /// The instruction set called `name`.
    pub fn from_name(name: &str) -> Option<VectorIsa> {
        Self::ALL.iter().copied().find(|isa| isa.name() == name)
    }
}

impl fmt::Display for VectorIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The way in which a multiply-add takes the operand that is the same for all columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Multiplier {
    /// By element: one lane of a register that holds 4 consecutive scalars. Only registers below `max_reg` can be named.
    Lane {
        /// Registers `v0..v(max_reg - 1)` can be the indexed operand.
        max_reg: u8,
    },
    /// A register filled from memory by a broadcasting load.
    Broadcast,
}

/// One vector unit of a target: what the cost model and the micro-kernel builder know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VectorUnit {
    /// The instruction set.
    pub isa: VectorIsa,
    /// f32 elements in a register.
    pub lanes: u32,
    /// Vector registers that a micro-kernel may name.
    pub registers: u8,
    /// The way in which the row operand reaches the multiply-add.
    pub multiplier: Multiplier,
    /// Fused multiply-adds (of a whole register) started per cycle.
    pub fma_pipes: u32,
    /// Cycles until an accumulator can be accumulated into again.
    pub fma_latency: u32,
    /// Vector loads per cycle.
    pub load_ports: u32,
    /// Vector stores per cycle.
    pub store_ports: u32,
    /// Bytes of straight code beyond which it is fetched more slowly than it is executed: those of the instruction
    /// cache. `None` where instructions are so short that this is not known to matter.
    pub straight_code: Option<u64>,
    /// The extensions that its instructions may belong to.
    pub features: Features,
}

/// A data cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cache {
    /// Capacity in bytes.
    pub bytes: u64,
    /// Associativity.
    pub ways: u32,
}

/// A plain description of a processor to compile for. See the [module](self) for the strings it is parsed from, one of which
/// [`Display`](fmt::Display) and [`Debug`] print.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    core: &'static str,
    modifiers: Vec<String>,
    /// The architecture.
    pub arch: Arch,
    /// Vector units that micro-kernels may use, in order of preference at equal cost.
    pub units: Vec<VectorUnit>,
    /// Cache line in bytes.
    pub line: u32,
    /// First-level data cache.
    pub l1d: Cache,
    /// Second-level cache, of one core.
    pub l2: Cache,
    /// Micro-operations that enter the back end per cycle.
    pub dispatch: u32,
}

/// A target string that names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The first word is not a known core.
    #[error("unknown target `{word}`: expected one of {}", Target::CORES.join(", "))]
    UnknownCore {
        /// The offending word.
        word: String,
    },
    /// A modifier is unknown or does not apply.
    #[error("unknown modifier `{word}` for `{core}`: expected {expected}")]
    UnknownModifier {
        /// The offending word with its sign.
        word: String,
        /// The core it was applied to.
        core: &'static str,
        /// The words that would be accepted.
        expected: &'static str,
    },
    /// A modifier is given twice, whatever its sign or value.
    #[error("`{name}` is given twice for `{core}`, the second time in `{word}`: expected it once")]
    Repeated {
        /// The property that is given twice, such as `bf16` or `l2`.
        name: String,
        /// The word that gives it again, with its sign.
        word: String,
        /// The core it was applied to.
        core: &'static str,
    },
    /// Every vector unit was removed.
    #[error("target `{target}` has no vector unit left: at least one of its instruction sets must stay")]
    NoUnit {
        /// The whole string.
        target: String,
    },
}

const fn neon(fma_pipes: u32, fma_latency: u32, load_ports: u32) -> VectorUnit {
    VectorUnit {
        isa: VectorIsa::Neon,
        lanes: 4,
        registers: 32,
        multiplier: Multiplier::Lane { max_reg: 32 },
        fma_pipes,
        fma_latency,
        load_ports,
        store_ports: 2,
        straight_code: None,
        features: Features::of(&[]),
    }
}

const fn sve(bits: u32, fma_pipes: u32, fma_latency: u32, load_ports: u32) -> VectorUnit {
    VectorUnit {
        isa: VectorIsa::Sve,
        lanes: bits / 32,
        registers: 32,
        // FMLA (indexed, single precision) encodes Zm in three bits.
        multiplier: Multiplier::Lane { max_reg: 8 },
        fma_pipes,
        fma_latency,
        load_ports,
        store_ports: 1,
        straight_code: None,
        features: Features::of(&[]),
    }
}

const fn x86(isa: VectorIsa, lanes: u32, registers: u8) -> VectorUnit {
    VectorUnit {
        isa,
        lanes,
        registers,
        multiplier: Multiplier::Broadcast,
        fma_pipes: 2,
        fma_latency: 4,
        load_ports: 2,
        store_ports: 1,
        straight_code: None,
        features: Features::of(&[]),
    }
}

const fn kib(kib: u64, ways: u32) -> Cache {
    Cache { bytes: kib * 1024, ways }
}

impl Target {
    /// The cores a target string may start with.
    pub const CORES: &'static [&'static str] = &[
        "armv8",
        "neoverse-n1",
        "neoverse-v1",
        "neoverse-v2",
        "sve128",
        "sve256",
        "sve512",
        "sve1024",
        "sve2048",
        "x86-64-v3",
        "x86-64-v4",
    ];

    fn core(word: &str) -> Option<Target> {
        /// Those of Neoverse V1 and V2.
        const V1: [Feature; 3] = [Feature::Bf16, Feature::DotProd, Feature::I8mm];
        let core = *Self::CORES.iter().find(|c| **c == word)?;
        let a64 = |units: Vec<VectorUnit>, features: &[Feature], l1d, l2, dispatch| Target {
            core,
            modifiers: vec![],
            arch: Arch::Aarch64,
            units: units.into_iter().map(|u| VectorUnit { features: Features::of(features), ..u }).collect(),
            line: 64,
            l1d,
            l2,
            dispatch,
        };
        let x64 = |units, l1d, l2| Target {
            core,
            modifiers: vec![],
            arch: Arch::X86_64,
            units,
            line: 64,
            l1d,
            l2,
            dispatch: 6,
        };
        let avx2 = x86(VectorIsa::Avx2, 8, 16);
        Some(match core {
            "armv8" => a64(vec![neon(2, 4, 2)], &[], kib(32, 4), kib(512, 8), 3),
            "neoverse-n1" => a64(vec![neon(2, 4, 2)], &[Feature::DotProd], kib(64, 4), kib(1024, 8), 4),
            "neoverse-v1" => a64(vec![sve(256, 2, 2, 2), neon(4, 2, 3)], &V1, kib(64, 4), kib(1024, 8), 8),
            // Six micro-operations per cycle, as LLVM's scheduling model has it.
            "neoverse-v2" => a64(vec![neon(4, 2, 3), sve(128, 4, 2, 2)], &V1, kib(64, 4), kib(2048, 8), 6),
            "x86-64-v3" => x64(vec![avx2], kib(32, 8), kib(512, 8)),
            "x86-64-v4" => {
                let avx512 = VectorUnit { straight_code: Some(32 << 10), ..x86(VectorIsa::Avx512, 16, 32) };
                x64(vec![avx512, avx2], kib(48, 12), kib(2048, 16))
            }
            sve_bits => {
                let bits = sve_bits.strip_prefix("sve")?.parse().ok()?;
                a64(vec![sve(bits, 2, 4, 2), neon(2, 4, 2)], &[], kib(64, 4), kib(1024, 8), 4)
            }
        })
    }

    /// The core that its text starts with, one of [`Self::CORES`].
    pub fn core_name(&self) -> &'static str {
        self.core
    }

    /// The extensions of its vector units.
    pub fn features(&self) -> Features {
        self.units.iter().fold(Features::default(), |all, u| all.union(u.features))
    }

    /// True if a vector unit has an extension.
    pub fn has(&self, feature: Feature) -> bool {
        self.features().has(feature)
    }

    /// The unit of instruction set `isa`, if the target has it.
    pub fn unit(&self, isa: VectorIsa) -> Option<&VectorUnit> {
        self.units.iter().find(|u| u.isa == isa)
    }

    /// The bits of an SVE register, or `None` without SVE.
    pub fn sve_bits(&self) -> Option<u32> {
        self.unit(VectorIsa::Sve).map(|u| u.lanes * 32)
    }

    /// The triple that names architecture and calling convention to other tools.
    pub fn triple(&self) -> Triple {
        let text = match self.arch {
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
        };
        text.parse().expect("a triple written here parses")
    }

    /// This target with only the vector units of `isa`; `None` if it has none.
    pub fn only(&self, isa: VectorIsa) -> Option<Target> {
        self.unit(isa)?;
        let mut t = self.clone();
        for u in &self.units {
            if u.isa != isa {
                t.apply(&format!("-{}", u.isa)).ok()?;
            }
        }
        Some(t)
    }

    fn apply(&mut self, word: &str) -> Result<(), TargetError> {
        let expected = match self.arch {
            Arch::Aarch64 => "+ or - and bf16, dotprod or i8mm, -sve, -neon, +l1d=BYTES or +l2=BYTES",
            Arch::X86_64 => "+vnni, -vnni, -avx512, -avx2, +l1d=BYTES or +l2=BYTES",
        };
        let unknown = || TargetError::UnknownModifier { word: word.into(), core: self.core, expected };
        if let Some(isa) = word.strip_prefix('-').and_then(VectorIsa::from_name) {
            self.unit(isa).ok_or_else(unknown)?;
            self.units.retain(|u| u.isa != isa);
            // An extension goes with the last unit that has it.
            let units = &self.units;
            let is_left = |f: Feature| units.iter().any(|u| f.extends(u.isa));
            self.modifiers.retain(|m| Feature::from_name(modified(m)).is_none_or(is_left));
        } else if let Some(feature) = Feature::from_name(modified(word)) {
            let on = word.starts_with('+');
            let mut extended = self.units.iter_mut().filter(|u| feature.extends(u.isa)).peekable();
            extended.peek().ok_or_else(unknown)?;
            extended.for_each(|u| u.features.set(feature, on));
        } else if let Some(bytes) = word.strip_prefix("+l1d=").and_then(bytes) {
            self.l1d.bytes = bytes;
        } else if let Some(bytes) = word.strip_prefix("+l2=").and_then(bytes) {
            self.l2.bytes = bytes;
        } else {
            return Err(unknown());
        }
        self.modifiers.retain(|m| modified(m) != modified(word));
        let is_default = Self::core(self.core).is_some_and(|d| {
            Feature::from_name(modified(word)).is_some_and(|f| d.has(f) == self.has(f))
                || (word.starts_with("+l1d") && d.l1d == self.l1d)
                || (word.starts_with("+l2") && d.l2 == self.l2)
        });
        if !is_default {
            self.modifiers.push(word.to_owned());
            self.modifiers.sort();
        }
        Ok(())
    }
}

/// The property that a modifier sets: its text without the sign and the value.
fn modified(word: &str) -> &str {
    word[1..].split('=').next().unwrap_or_default()
}

/// `32768`, `32k`, `1m`: a cache size between 1 KiB and 1 GiB.
fn bytes(s: &str) -> Option<u64> {
    let (digits, unit) = match s.strip_suffix('k') {
        Some(d) => (d, 1 << 10),
        None => match s.strip_suffix('m') {
            Some(d) => (d, 1 << 20),
            None => (s, 1),
        },
    };
    let n = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1 << 10..=1 << 30).contains(&n).then_some(n)
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(s: &str) -> Result<Self, TargetError> {
        let text = s.trim().to_ascii_lowercase();
        // The longest core first: a core's name may contain `-`, which also starts a modifier.
        let core = Self::CORES
            .iter()
            .filter(|c| text.strip_prefix(**c).is_some_and(|r| r.is_empty() || r.starts_with(['+', '-'])))
            .max_by_key(|c| c.len());
        let Some(core) = core else {
            let word = text.split('+').next().unwrap_or_default();
            return Err(TargetError::UnknownCore { word: word.into() });
        };
        let mut target = Self::core(core).expect("every listed core is defined");
        let (mut rest, mut seen) = (&text[core.len()..], vec![]);
        while !rest.is_empty() {
            let (word, after) = rest.split_at(rest[1..].find(['+', '-']).map_or(rest.len(), |i| i + 1));
            let name = modified(word);
            if seen.contains(&name) {
                return Err(TargetError::Repeated { name: name.into(), word: word.into(), core });
            }
            target.apply(word)?;
            seen.push(name);
            rest = after;
        }
        if target.units.is_empty() {
            return Err(TargetError::NoUnit { target: text });
        }
        Ok(target)
    }
}

impl fmt::Debug for Target {
    /// The canonical text: the rest follows from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.core)?;
        self.modifiers.iter().try_for_each(|m| f.write_str(m))
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_round_trips() {
        for c in Target::CORES {
            let t: Target = c.parse().unwrap();
            assert_eq!(t.to_string(), *c);
        }
    }

    #[test]
    fn modifiers_are_canonical() {
        let t: Target = "SVE512+BF16".parse().unwrap();
        assert!(t.has(Feature::Bf16) && t.sve_bits() == Some(512));
        assert_eq!(t.to_string(), "sve512+bf16");
        assert_eq!("neoverse-v1+bf16".parse::<Target>().unwrap().to_string(), "neoverse-v1");
        assert_eq!("x86-64-v4+l2=2m-avx2".parse::<Target>().unwrap().to_string(), "x86-64-v4-avx2");
        assert_eq!("x86-64-v4+l2=1m-avx2".parse::<Target>().unwrap().to_string(), "x86-64-v4+l2=1m-avx2");
        let neon = "neoverse-v1".parse::<Target>().unwrap().only(VectorIsa::Neon).unwrap();
        assert_eq!(neon.to_string(), "neoverse-v1-sve");
        assert_eq!(neon.to_string().parse::<Target>().unwrap(), neon);
        assert_eq!(format!("{:?}", Some(&neon)), "Some(neoverse-v1-sve)");
        let avx2 = "x86-64-v4".parse::<Target>().unwrap().only(VectorIsa::Avx2).unwrap();
        assert_eq!(avx2.to_string(), "x86-64-v4-avx512");
        // Extensions are those of units.
        let vnni = "x86-64-v4+vnni".parse::<Target>().unwrap();
        assert!(vnni.has(Feature::Vnni) && !vnni.unit(VectorIsa::Avx2).unwrap().features.has(Feature::Vnni));
        assert_eq!(vnni.only(VectorIsa::Avx2).unwrap(), avx2);
        assert_eq!("x86-64-v4+vnni-avx512".parse::<Target>().unwrap(), avx2);
        assert_eq!("neoverse-v1-i8mm+dotprod".parse::<Target>().unwrap().to_string(), "neoverse-v1-i8mm");
    }

    #[test]
    fn errors_name_the_word() {
        let e = "neoverse-v9".parse::<Target>().unwrap_err();
        assert!(e.to_string().contains("`neoverse-v9`") && e.to_string().contains("neoverse-v1"), "{e}");
        let e = "neoverse-n1-sve".parse::<Target>().unwrap_err();
        assert!(matches!(e, TargetError::UnknownModifier { .. }));
        for text in ["x86-64-v3+vnni", "x86-64-v4-avx512+vnni", "x86-64-v4+i8mm", "neoverse-v1+vnni"] {
            let e = text.parse::<Target>().unwrap_err();
            assert!(matches!(e, TargetError::UnknownModifier { .. }), "{text}: {e}");
        }
        assert!(matches!("neoverse-n1-neon".parse::<Target>(), Err(TargetError::NoUnit { .. })));
        assert!("".parse::<Target>().is_err());
        for (text, name) in [
            ("x86-64-v3+l2=1m-avx2+l2=512k", "l2"),
            ("neoverse-v1+bf16-bf16", "bf16"),
            ("neoverse-v1-sve-sve", "sve"),
            ("neoverse-v1+l1d=32k+l1d=32k", "l1d"),
        ] {
            let e = text.parse::<Target>().unwrap_err();
            assert!(matches!(&e, TargetError::Repeated { name: n, .. } if n == name), "{text}: {e}");
            assert!(e.to_string().contains(&format!("`{name}` is given twice")), "{e}");
        }
        assert!("x86-64-v3+l2=0".parse::<Target>().is_err());
        assert!("x86-64-v3+l2=99999999999999999999k".parse::<Target>().is_err());
    }
}
