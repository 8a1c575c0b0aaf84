//! Extensions of instruction sets that a vector unit has or lacks.

use super::VectorIsa;

/// An extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// FEAT_BF16: matrix, dot-product and conversion instructions of bf16.
    Bf16,
    /// FEAT_DotProd: dot products of signed and of unsigned integers of 8 bits on NEON.
    DotProd,
    /// FEAT_I8MM: matrix products of integers of 8 bits, and dot products of signed with unsigned ones.
    I8mm,
    /// AVX512_VNNI: dot products of integers of 8 and 16 bits.
    Vnni,
}

impl Feature {
    /// Every extension with its word in targets and the instruction sets that it extends.
    pub const ALL: &'static [(&'static str, Feature, &'static [VectorIsa])] = &[
        ("bf16", Feature::Bf16, &[VectorIsa::Neon, VectorIsa::Sve]),
        ("dotprod", Feature::DotProd, &[VectorIsa::Neon, VectorIsa::Sve]),
        ("i8mm", Feature::I8mm, &[VectorIsa::Neon, VectorIsa::Sve]),
        ("vnni", Feature::Vnni, &[VectorIsa::Avx512]),
    ];

    /// The extension that a word names.
    pub fn from_name(word: &str) -> Option<Feature> {
        Self::ALL.iter().find(|(w, ..)| *w == word).map(|(_, f, _)| *f)
    }

    /// True if it extends an instruction set.
    pub fn extends(self, isa: VectorIsa) -> bool {
        Self::ALL[self as usize].2.contains(&isa)
    }

    /// The word in targets.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u32);

impl Features {
    /// These.
    pub const fn of(features: &[Feature]) -> Self {
        let (mut bits, mut n) = (0, 0);
        while n < features.len() {
            bits |= 1 << features[n] as u32;
            n += 1;
        }
        Features(bits)
    }

    /// True if it has the extension.
    pub fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 == 1
    }

    /// Those of either.
    pub fn union(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds the extension, or takes it away.
    pub fn set(&mut self, feature: Feature, on: bool) {
        self.0 = self.0 & !(1 << feature as u32) | u32::from(on) << feature as u32;
    }

    /// Those of it, in order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().map(|(_, f, _)| *f).filter(move |f| self.has(*f))
    }
}
