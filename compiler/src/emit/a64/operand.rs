//! Operand types of the [instruction table](super::inst).
//!
//! An operand type owns its range (the constructor returns `None` outside it), its field value, its syntax and its
//! edge values. Nothing is masked on the way to the encoding: a value that exists fits its field.

use std::collections::BTreeSet;
use std::fmt;

/// A value that fills one field of an instruction word.
pub trait Operand: Copy + fmt::Display {
    /// Width of the field.
    const BITS: u32;

    /// The field's value, below `1 << BITS`.
    fn raw(self) -> u32;

    /// The values at the edges of the range, for tests.
    fn samples() -> Vec<Self>;
}

/// Defines register types. Each has `$count` registers, named `$prefix` and their number; if a name is given after
/// `|`, one more register has that name and the number 31.
macro_rules! registers {
    ($($(#[doc = $doc:literal])* $name:ident $prefix:literal $bits:literal $count:literal $(| $last:literal)?;)*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u8);

        impl $name {
            /// Register number `n`, or `None` if this operand cannot name it.
            pub const fn new(n: u8) -> Option<$name> {
                if n < $count { Some($name(n)) } else { None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(if self.0 == 31 {
                    return f.write_str($last);
                })?
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl Operand for $name {
            const BITS: u32 = $bits;

            fn raw(self) -> u32 {
                self.0.into()
            }

            fn samples() -> Vec<$name> {
                let numbered = [0, $count / 2 + 1, $count - 1].map($name);
                let named: &[$name] = &[$({
                    let _ = $last;
                    $name(31)
                })?];
                [&numbered, named].concat()
            }
        }
    )* };
}

registers! {
    /// A 64-bit general register, `x0..=x30`.
    X "x" 5 31;
    /// A 64-bit general register or the stack pointer.
    XSp "x" 5 31 | "sp";
    /// A 64-bit general register or the zero register.
    XZr "x" 5 31 | "xzr";
    /// A NEON register.
    V "v" 5 32;
    /// A NEON register as one number of 128 bits.
    Q "q" 5 32;
    /// A 64-bit floating-point register: the low half of a NEON register.
    D "d" 5 32;
    /// A 32-bit floating-point register: the low quarter of a NEON register.
    S "s" 5 32;
    /// A 16-bit floating-point register: the low eighth of a NEON register.
    H "h" 5 32;
    /// The first byte of a NEON register.
    B "b" 5 32;
    /// A scalable vector register.
    Z "z" 5 32;
    /// A scalable vector register in a three-bit field.
    Z7 "z" 3 8;
    /// A predicate register.
    P "p" 4 16;
    /// A governing predicate, which has a three-bit field.
    P7 "p" 3 8;
}

impl XSp {
    /// The stack pointer.
    pub const SP: XSp = XSp(31);
}

impl XZr {
    /// The zero register.
    pub const ZR: XZr = XZr(31);
}

impl From<X> for XSp {
    fn from(x: X) -> XSp {
        XSp(x.0)
    }
}

impl From<X> for XZr {
    fn from(x: X) -> XZr {
        XZr(x.0)
    }
}

impl From<P7> for P {
    fn from(p: P7) -> P {
        P(p.0)
    }
}

/// A multiple of `STEP` from `MIN` to `MAX`, stored divided by `STEP`, in two's complement if `MIN` is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Imm<const MIN: i32, const MAX: i32, const STEP: i32>(i32);

impl<const MIN: i32, const MAX: i32, const STEP: i32> Imm<MIN, MAX, STEP> {
    /// The immediate `v`, or `None` outside the range.
    pub fn new(v: i64) -> Option<Self> {
        let v = i32::try_from(v).ok()?;
        (v % STEP == 0 && (MIN..=MAX).contains(&v)).then_some(Imm(v))
    }
}

impl<const MIN: i32, const MAX: i32, const STEP: i32> fmt::Display for Imm<MIN, MAX, STEP> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: i32, const MAX: i32, const STEP: i32> Operand for Imm<MIN, MAX, STEP> {
    // A signed range is all of its field; an unsigned one may leave out small values.
    const BITS: u32 = ((if MIN < 0 { MAX - MIN } else { MAX }) / STEP).ilog2() + 1;

    fn raw(self) -> u32 {
        // Two's complement in BITS bits; no information is lost, because the range is that of the field.
        (self.0 / STEP) as u32 & (u32::MAX >> (32 - Self::BITS))
    }

    fn samples() -> Vec<Self> {
        let edges = BTreeSet::from([MIN, -STEP, 0, STEP, MAX]);
        edges.into_iter().filter_map(|v| Self::new(v.into())).collect()
    }
}

/// An immediate that is written only if it is not 0, after a comma: the displacement in `[x0, #16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Disp<const MIN: i32, const MAX: i32, const STEP: i32>(Imm<MIN, MAX, STEP>);

impl<const MIN: i32, const MAX: i32, const STEP: i32> Disp<MIN, MAX, STEP> {
    /// The displacement `v` in bytes, or `None` outside the range.
    pub fn new(v: i64) -> Option<Self> {
        Imm::new(v).map(Disp)
    }
}

impl<const MIN: i32, const MAX: i32, const STEP: i32> fmt::Display for Disp<MIN, MAX, STEP> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.0 == 0 { Ok(()) } else { write!(f, ", #{}", self.0) }
    }
}

impl<const MIN: i32, const MAX: i32, const STEP: i32> Operand for Disp<MIN, MAX, STEP> {
    const BITS: u32 = Imm::<MIN, MAX, STEP>::BITS;

    fn raw(self) -> u32 {
        self.0.raw()
    }

    fn samples() -> Vec<Self> {
        Imm::samples().into_iter().map(Disp).collect()
    }
}

/// A right shift of 32-bit elements by 1 to 32 bits, encoded as what is missing to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Right(u8);

impl Right {
    /// A shift by `bits`, or `None` outside of 1 to 32.
    pub const fn new(bits: u8) -> Option<Right> {
        if matches!(bits, 1..=32) { Some(Right(bits)) } else { None }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Operand for Right {
    const BITS: u32 = 5;

    fn raw(self) -> u32 {
        32 - u32::from(self.0)
    }

    fn samples() -> Vec<Right> {
        [1, 17, 32].map(Right).to_vec()
    }
}

/// Element 2 or 3 of four, where the index's high bit is fixed and only the low one is a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpperLane(u8);

impl UpperLane {
    /// Element `n`, or `None` if it is not 2 or 3.
    pub const fn new(n: u8) -> Option<UpperLane> {
        if matches!(n, 2 | 3) { Some(UpperLane(n)) } else { None }
    }
}

impl fmt::Display for UpperLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Operand for UpperLane {
    const BITS: u32 = 1;

    fn raw(self) -> u32 {
        u32::from(self.0) - 2
    }

    fn samples() -> Vec<UpperLane> {
        [2, 3].map(UpperLane).to_vec()
    }
}

/// The element size of a permutation, 8 to 64 bits. It has a two-bit field; its syntax depends on the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Size {
    Byte,
    Half,
    Word,
    Double,
}

impl Size {
    const fn new(bits: u8) -> Option<Size> {
        match bits {
            8 => Some(Size::Byte),
            16 => Some(Size::Half),
            32 => Some(Size::Word),
            64 => Some(Size::Double),
            _ => None,
        }
    }
}

macro_rules! sizes {
    ($($(#[doc = $doc:literal])* $name:ident $byte:literal $half:literal $word:literal $double:literal;)*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(Size);

        impl $name {
            /// Elements of `bits`, or `None` if these are not 8, 16, 32 or 64.
            pub const fn new(bits: u8) -> Option<$name> {
                match Size::new(bits) {
                    Some(size) => Some($name(size)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self.0 {
                    Size::Byte => $byte,
                    Size::Half => $half,
                    Size::Word => $word,
                    Size::Double => $double,
                })
            }
        }

        impl Operand for $name {
            const BITS: u32 = 2;

            fn raw(self) -> u32 {
                self.0 as u32
            }

            fn samples() -> Vec<$name> {
                [Size::Byte, Size::Half, Size::Word, Size::Double].map($name).to_vec()
            }
        }
    )* };
}

sizes! {
    /// The arrangement of a whole NEON register: `16b`, `8h`, `4s`, `2d`.
    Arrangement "16b" "8h" "4s" "2d";
    /// The elements of a scalable register: `b`, `h`, `s`, `d`.
    ZSize "b" "h" "s" "d";
}

/// A floating-point number that fits 8 bits: 16 to 31 sixteenths times a power of two from -3 to 4, with a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Float8(u8);

impl Float8 {
    /// The f32 of these bits, or `None` if it does not fit.
    pub const fn new(bits: u32) -> Option<Float8> {
        let exponent = bits >> 25 & 0x3f;
        if bits & 0x7_ffff != 0 || !matches!(exponent, 0x20 | 0x1f) {
            return None;
        }
        Some(Float8((bits >> 24 & 0x80 | bits >> 19 & 0x7f) as u8))
    }
}

impl fmt::Display for Float8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = u32::from(self.0);
        let exponent = if n & 0x40 == 0 { 0x20 } else { 0x1f };
        write!(f, "{:.8}", f32::from_bits((n & 0x80) << 24 | exponent << 25 | (n & 0x3f) << 19))
    }
}

impl Operand for Float8 {
    const BITS: u32 = 8;

    fn raw(self) -> u32 {
        self.0.into()
    }

    fn samples() -> Vec<Float8> {
        [0, 0x3f, 0x70, 0xff].map(Float8).to_vec()
    }
}

/// The pieces of a NEON modified immediate: `abc`, `cmode`, `01`, `defgh`.
const fn modified(byte: u8, cmode: u32) -> u32 {
    (byte as u32 >> 5) << 11 | cmode << 7 | 0b01 << 5 | (byte as u32 & 0x1f)
}

/// A 32-bit number with at most one byte that is not 0, written as the byte and a shift: `#1, lsl #8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OneByte(u32);

impl OneByte {
    /// The number `v`, or `None` if it has more bytes.
    pub const fn new(v: u32) -> Option<OneByte> {
        let n = OneByte(v);
        if (n.byte() as u32) << n.shift() == v { Some(n) } else { None }
    }

    /// The weight of the lowest byte that is not 0.
    const fn shift(self) -> u32 {
        self.0.trailing_zeros() / 8 % 4 * 8
    }

    const fn byte(self) -> u8 {
        (self.0 >> self.shift()) as u8
    }
}

impl fmt::Display for OneByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.byte())?;
        if self.shift() == 0 { Ok(()) } else { write!(f, ", lsl #{}", self.shift()) }
    }
}

impl Operand for OneByte {
    const BITS: u32 = 14;

    fn raw(self) -> u32 {
        modified(self.byte(), self.shift() / 8 * 2)
    }

    fn samples() -> Vec<OneByte> {
        [0, 1, 0xff, 0x5b << 8, 0x80 << 16, 0xff << 24].map(OneByte).to_vec()
    }
}

/// [`Float8`] as a NEON modified immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModifiedFloat(Float8);

impl ModifiedFloat {
    /// The f32 of these bits, or `None` if it does not fit.
    pub const fn new(bits: u32) -> Option<ModifiedFloat> {
        match Float8::new(bits) {
            Some(f) => Some(ModifiedFloat(f)),
            None => None,
        }
    }
}

impl fmt::Display for ModifiedFloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Operand for ModifiedFloat {
    const BITS: u32 = 14;

    fn raw(self) -> u32 {
        modified(self.0.0, 0b1111)
    }

    fn samples() -> Vec<ModifiedFloat> {
        Float8::samples().into_iter().map(ModifiedFloat).collect()
    }
}

/// The displacement of LD1RQW.
pub type QuadDisp = Disp<-128, 112, 16>;

/// The displacement of LD1RW.
pub type ScalarDisp = Disp<0, 252, 4>;

/// A displacement in whole vectors: `, #-8, mul vl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MulVl(Disp<-8, 7, 1>);

impl MulVl {
    /// A displacement of `vectors`, or `None` outside the range.
    pub fn new(vectors: i64) -> Option<MulVl> {
        Disp::new(vectors).map(MulVl)
    }
}

impl fmt::Display for MulVl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        if self.raw() == 0 { Ok(()) } else { f.write_str(", mul vl") }
    }
}

impl Operand for MulVl {
    const BITS: u32 = 4;

    fn raw(self) -> u32 {
        self.0.raw()
    }

    fn samples() -> Vec<MulVl> {
        Disp::samples().into_iter().map(MulVl).collect()
    }
}

/// A left shift of a register operand, written only if it is not 0: `, lsl #2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lsl(u8);

impl Lsl {
    /// No shift.
    pub const NONE: Lsl = Lsl(0);

    /// A shift by `bits`, or `None` from 64 on.
    pub const fn new(bits: u8) -> Option<Lsl> {
        if bits < 64 { Some(Lsl(bits)) } else { None }
    }
}

impl fmt::Display for Lsl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, ", lsl #{}", self.0) }
    }
}

impl Operand for Lsl {
    const BITS: u32 = 6;

    fn raw(self) -> u32 {
        self.0.into()
    }

    fn samples() -> Vec<Lsl> {
        [0, 1, 63].map(Lsl).to_vec()
    }
}

/// One of the four 16-bit pieces of a 64-bit number, written as a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece(u8);

impl Piece {
    /// Piece `n`, whose weight is `1 << (16 * n)`, or `None` from 4 on.
    pub const fn new(n: u8) -> Option<Piece> {
        if n < 4 { Some(Piece(n)) } else { None }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, ", lsl #{}", 16 * self.0) }
    }
}

impl Operand for Piece {
    const BITS: u32 = 2;

    fn raw(self) -> u32 {
        self.0.into()
    }

    fn samples() -> Vec<Piece> {
        [0, 1, 3].map(Piece).to_vec()
    }
}

/// A 64-bit number with at most one [`Piece`] that is not 0, written as a signed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnePiece(u64);

impl OnePiece {
    /// The number `v`, or `None` if it has more pieces.
    pub const fn new(v: u64) -> Option<OnePiece> {
        let low = OnePiece(v).piece() * 16;
        if v >> low <= 0xffff && (v >> low) << low == v { Some(OnePiece(v)) } else { None }
    }

    /// Number of the lowest piece that is not 0; 0 if there is none.
    const fn piece(self) -> u32 {
        (self.0.trailing_zeros() / 16) % 4
    }
}

impl fmt::Display for OnePiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.cast_signed().fmt(f)
    }
}

impl Operand for OnePiece {
    // The piece's number, then its 16 bits.
    const BITS: u32 = 18;

    fn raw(self) -> u32 {
        self.piece() << 16 | (self.0 >> (self.piece() * 16)) as u32
    }

    fn samples() -> Vec<OnePiece> {
        [0, 1, 0xffff, 1 << 16, 0xffff << 48].map(OnePiece).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_exact() {
        assert!(X::new(30).is_some() && X::new(31).is_none());
        assert!(Z7::new(7).is_some() && Z7::new(8).is_none());
        assert!(Z::new(31).is_some() && Z::new(32).is_none());
        for (v, fits) in [(-144, false), (-128, true), (-120, false), (112, true), (128, false), (1 << 32, false)] {
            assert_eq!(QuadDisp::new(v).is_some(), fits, "{v}");
        }
        assert!(MulVl::new(-9).is_none() && MulVl::new(8).is_none());
        for (v, fits) in
            [(0xffff, true), (0x1_0000, true), (0x1_0001, false), (0x1_8000, false), (u64::MAX << 48, true)]
        {
            assert_eq!(OnePiece::new(v).is_some(), fits, "{v:#x}");
        }
    }

    #[test]
    fn immediates_of_vectors_are_exact() {
        for (v, fits) in [(1.0f32, true), (-31.0, true), (0.125, true), (33.0, false), (0.0, false), (0.1, false)] {
            assert_eq!(Float8::new(v.to_bits()).is_some(), fits, "{v}");
        }
        assert_eq!(Float8::new(f32::NAN.to_bits()), None);
        assert_eq!(Float8::new(1.9375f32.to_bits()).unwrap().to_string(), "1.93750000");
        for (v, fits) in [(0, true), (0xff00, true), (0x1fe0, false), (0x8000_0000, true), (0x0101, false)] {
            assert_eq!(OneByte::new(v).is_some(), fits, "{v:#x}");
        }
        assert!(Right::new(0).is_none() && Right::new(33).is_none());
    }

    #[test]
    fn negative_immediates_are_two_s_complement_in_their_field() {
        assert_eq!(MulVl::new(-8).unwrap().raw(), 0b1000);
        assert_eq!(Disp::<-512, 504, 8>::new(-8).unwrap().raw(), 0x7f);
        assert_eq!(Imm::<1, 4095, 1>::BITS, 12);
    }

    #[test]
    fn zero_displacements_are_not_written() {
        assert_eq!(MulVl::new(0).unwrap().to_string(), "");
        assert_eq!(MulVl::new(-1).unwrap().to_string(), ", #-1, mul vl");
        assert_eq!(ScalarDisp::new(252).unwrap().to_string(), ", #252");
    }
}
