//! The arithmetics of vector units: rows that say which factors an instruction multiplies, and how many of them.

use kiln_ir::{Contraction, DType};

use super::{Feature, VectorIsa, VectorUnit};
use crate::microkernel::Factors;

/// The arrangement of the sums of a product in 128 bits of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One row by four columns: a word of each operand makes a sum.
    Words,
    /// Two rows by two columns: two words of each operand make a sum.
    Blocks,
}

/// An arithmetic of a vector unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// The instruction set.
    pub isa: VectorIsa,
    /// The extension that it belongs to, if it is one.
    pub feature: Option<Feature>,
    /// The arrangement of the sums.
    pub shape: Shape,
    /// The types of the factors, and the steps of K in a word.
    pub factors: Factors,
    /// The time that it takes on the pipes of multiply-adds, in multiply-adds of f32.
    pub slots: f64,
}

impl Product {
    fn is_on(&self, unit: &VectorUnit) -> bool {
        self.isa == unit.isa && self.feature.is_none_or(|f| unit.features.has(f))
    }
}

/// Makes the table.
macro_rules! products {
    ($($isa:ident $feature:tt $shape:ident: $($factors:ident)*, $slots:literal;)*) => {
        /// Every arithmetic of words that are narrower than 32 bits. All units multiply f32 besides, and s32 in several instructions.
        const PRODUCTS: &[Product] = &[$($(Product {
            isa: VectorIsa::$isa,
            feature: products!(@ $feature),
            shape: Shape::$shape,
            factors: Factors::$factors,
            slots: $slots,
        },)*)*];
    };
    (@ base) => { None };
    (@ $feature:ident) => { Some(Feature::$feature) };
}

products! {
    Neon Bf16 Blocks: Bf16, 1.0;
    Neon Bf16 Words: Bf16, 1.0;
    Neon DotProd Words: S8 U8, 1.0;
    Neon I8mm Words: U8S8 S8U8, 1.0;
    Neon I8mm Blocks: S8 U8 U8S8, 1.0;
    Sve Bf16 Blocks: Bf16, 1.0;
    Sve Bf16 Words: Bf16, 1.0;
    Sve base Words: S8 U8, 1.0;
    Sve I8mm Words: U8S8 S8U8, 1.0;
    Sve I8mm Blocks: S8 U8 U8S8, 1.0;
    // VPDPWSSD does what takes VPMADDWD and VPADDD elsewhere.
    Avx512 Vnni Words: S16, 1.0;
    Avx512 Vnni Words: U8S8 S8U8, 1.0;
    Avx512 base Words: S16, 2.0;
    Avx2 base Words: S16, 2.0;
}

/// The product of a shape and factors on `unit`, the fastest if there are several.
pub fn of(unit: &VectorUnit, shape: Shape, factors: Factors) -> Option<&'static Product> {
    PRODUCTS.iter().find(|p| p.is_on(unit) && (p.shape, p.factors) == (shape, factors))
}

/// The most multiply-adds that `unit` makes for a contraction in the time of one of f32 in each lane.
pub fn widest(unit: &VectorUnit, c: &Contraction) -> f64 {
    let factors = |dtype: DType| match dtype {
        DType::F32 if c.math.allows_bf16() => DType::Bf16,
        other => other,
    };
    let types = [&c.lhs, &c.rhs].map(|v| factors(v.dtype));
    let is_widened = |f: Factors| f == Factors::S16 && types.iter().all(|t| t.is_integer());
    let fits = |f: Factors| f.types() == types || [f.types()[1], f.types()[0]] == types || is_widened(f);
    let macs = |p: &Product| {
        let words = if p.shape == Shape::Blocks { 2 } else { 1 };
        (words * p.factors.per_word()) as f64 / p.slots
    };
    let usable = PRODUCTS.iter().filter(|p| p.is_on(unit) && fits(p.factors));
    usable.map(macs).fold(1.0, f64::max)
}

/// True if a unit of the instruction set has the product, with or without extensions.
pub fn exists_on(isa: VectorIsa, shape: Shape, factors: Factors) -> bool {
    PRODUCTS.iter().any(|p| (p.isa, p.shape, p.factors) == (isa, shape, factors))
}

/// True if there is one.
pub fn has(unit: &VectorUnit, shape: Shape, factors: Factors) -> bool {
    of(unit, shape, factors).is_some()
}
