//! What permutations and dot products of the table exist.

use kiln_ir::DType;

/// A permutation of the elements of two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permute {
    /// The elements of the low halves of both, alternating: `a0 b0 a1 b1 ..`.
    ZipLow,
    /// The elements of the high halves of both, alternating.
    ZipHigh,
    /// The even elements of `a`, then those of `b`.
    UzpEven,
    /// The odd elements of `a`, then those of `b`.
    UzpOdd,
    /// The even elements of both, alternating: `a0 b0 a2 b2 ..`.
    TrnEven,
    /// The odd elements of both, alternating.
    TrnOdd,
}

impl Permute {
    /// Every permutation with its word in texts.
    pub const ALL: &'static [(&'static str, Permute)] = &[
        ("zip1", Permute::ZipLow),
        ("zip2", Permute::ZipHigh),
        ("uzp1", Permute::UzpEven),
        ("uzp2", Permute::UzpOdd),
        ("trn1", Permute::TrnEven),
        ("trn2", Permute::TrnOdd),
    ];

    /// The operand, 0 for `a` and 1 for `b`, and the element of it that is element `i` of `count` of the result.
    pub fn source(self, i: usize, count: usize) -> (usize, usize) {
        let half = count / 2;
        match self {
            Permute::ZipLow => (i % 2, i / 2),
            Permute::ZipHigh => (i % 2, half + i / 2),
            Permute::UzpEven => (i / half, i % half * 2),
            Permute::UzpOdd => (i / half, i % half * 2 + 1),
            Permute::TrnEven => (i % 2, i / 2 * 2),
            Permute::TrnOdd => (i % 2, i / 2 * 2 + 1),
        }
    }
}

/// The types of the factors of a dot product: those that are in a word of each operand. Sums are f32 for bf16 and s32 for integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factors {
    /// Two bf16 in a word of both.
    Bf16,
    /// Two integers of 16 bits.
    S16,
    /// Four s8.
    S8,
    /// Four u8.
    U8,
    /// Four u8 in a word of the first operand, four s8 in one of the second.
    U8S8,
    /// Four s8 in a word of the first operand, four u8 in one of the second.
    S8U8,
}

impl Factors {
    /// Every pair of types with its word in texts.
    pub const ALL: &'static [(&'static str, Factors)] = &[
        ("bf16", Factors::Bf16),
        ("s16", Factors::S16),
        ("s8", Factors::S8),
        ("u8", Factors::U8),
        ("u8s8", Factors::U8S8),
        ("s8u8", Factors::S8U8),
    ];

    /// The types of the first and the second operand.
    pub fn types(self) -> [DType; 2] {
        match self {
            Factors::Bf16 => [DType::Bf16; 2],
            Factors::S16 => [DType::S16; 2],
            Factors::S8 => [DType::S8; 2],
            Factors::U8 => [DType::U8; 2],
            Factors::U8S8 => [DType::U8, DType::S8],
            Factors::S8U8 => [DType::S8, DType::U8],
        }
    }

    /// Factors of these types, if there are such.
    pub fn of(types: [DType; 2]) -> Option<Factors> {
        Self::ALL.iter().map(|(_, f)| *f).find(|f| f.types() == types)
    }

    /// Factors in a word.
    pub fn per_word(self) -> usize {
        4 / self.types()[0].bytes()
    }
}
