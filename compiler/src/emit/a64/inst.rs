//! The AArch64 instructions that Kiln emits itself: one row each.
//!
//! A row is the enum variant with its operands, the encoding as the Arm Architecture Reference Manual draws it, the
//! text in the disassembler's preferred spelling, and the feature it needs. [`Inst::encode`],
//! [`Display`](std::fmt::Display), [`Inst::feature`] and the test [`samples`](Inst::samples) come from the row, so
//! they cannot disagree.
//!
//! In an encoding, digits are fixed and a run of an operand's letter is its field; spaces are for reading. A letter
//! with two runs fills both. The compiler rejects a row whose bits are not 32 or whose fields are not as wide as the
//! operand types. A row may end with a condition on its operands: others are unpredictable or another instruction's
//! alias.
//!
//! Doc comments give the title of the instruction's section in the manual.

use std::fmt;

use super::operand::*;
use crate::target;

/// The architecture extension that an instruction needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// In every Armv8-A core, Advanced SIMD included.
    Base,
    /// `FEAT_BF16`.
    NeonBf16,
    /// `FEAT_SVE`.
    Sve,
    /// `FEAT_SVE` and `FEAT_BF16`.
    SveBf16,
    /// `FEAT_DotProd`.
    NeonDotProd,
    /// `FEAT_I8MM`.
    NeonI8mm,
    /// `FEAT_SVE` and `FEAT_I8MM`.
    SveI8mm,
}

impl Feature {
    /// The extension of targets that the instruction needs besides its instruction set.
    pub fn extension(self) -> Option<target::Feature> {
        match self {
            Feature::Base | Feature::Sve => None,
            Feature::NeonBf16 | Feature::SveBf16 => Some(target::Feature::Bf16),
            Feature::NeonDotProd => Some(target::Feature::DotProd),
            Feature::NeonI8mm | Feature::SveI8mm => Some(target::Feature::I8mm),
        }
    }
}

/// The word of the fixed digits of an encoding.
const fn digits(encoding: &str) -> u32 {
    let (text, mut i, mut word, mut bits) = (encoding.as_bytes(), 0, 0, 0);
    while i < text.len() {
        if text[i] != b' ' {
            word = word << 1 | (text[i] == b'1') as u32;
            bits += 1;
        }
        i += 1;
    }
    assert!(bits == 32, "an encoding has 32 bits");
    word
}

/// The number whose product with a value below `1 << width` places the value in every run of `letter`.
const fn field(encoding: &str, letter: &str, width: u32) -> u32 {
    assert!(letter.len() == 1, "an operand's name is one letter");
    let (text, letter) = (encoding.as_bytes(), letter.as_bytes()[0]);
    let (mut i, mut position, mut run, mut ones) = (0, 32, 0, 0);
    while position > 0 {
        if text[i] != b' ' {
            position -= 1;
            run = if text[i] == letter { run + 1 } else { 0 };
            if run > 0 && !continues(text, i + 1, letter) {
                assert!(run == width, "a field is not as wide as its operand");
                ones |= 1 << position;
            }
        }
        i += 1;
    }
    assert!(ones != 0, "an operand has no field");
    ones
}

/// True if the next character after spaces is `letter`.
const fn continues(text: &[u8], mut i: usize, letter: u8) -> bool {
    while i < text.len() && text[i] == b' ' {
        i += 1;
    }
    i < text.len() && text[i] == letter
}

/// True if every character of the encoding is a digit, a space or one of `letters`.
const fn is_covered(encoding: &str, letters: &str) -> bool {
    let (text, letters, mut i) = (encoding.as_bytes(), letters.as_bytes(), 0);
    while i < text.len() {
        let (mut known, mut l) = (matches!(text[i], b' ' | b'0' | b'1'), 0);
        while l < letters.len() {
            known |= text[i] == letters[l];
            l += 1;
        }
        if !known {
            return false;
        }
        i += 1;
    }
    true
}

/// Pushes `$inst` to `$out` for each combination of the operands' sample values.
macro_rules! product {
    ($out:ident; ; $inst:expr) => { $out.extend($inst) };
    ($out:ident; $f:ident: $t:ty $(, $g:ident: $u:ty)*; $inst:expr) => {
        for $f in <$t as Operand>::samples() {
            product!($out; $($g: $u),*; $inst);
        }
    };
}

macro_rules! instructions {
    ($($(#[doc = $doc:literal])* $name:ident($($f:ident: $t:ty),*) $encoding:literal $text:literal $feature:ident
       $(if $valid:expr)?;)*) => {
        /// An instruction with its operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // Operand letters are those of the encoding.
        pub enum Inst {
            $($(#[doc = $doc])* $name { $($f: $t),* },)*
        }

        impl Inst {
            /// The instruction word. The operands must satisfy the row's condition, if it has one.
            pub fn encode(self) -> u32 {
                match self {
                    $(Inst::$name { $($f),* } => {
                        const {
                            assert!(is_covered($encoding, concat!($(stringify!($f)),*)), "a letter that is no operand");
                        }
                        $(debug_assert!($valid, "{self}");)?
                        let fixed = const { digits($encoding) };
                        fixed $(| $f.raw() * const { field($encoding, stringify!($f), <$t as Operand>::BITS) })*
                    })*
                }
            }

            /// The feature that a core must have to execute it.
            pub fn feature(self) -> Feature {
                match self {
                    $(Inst::$name { .. } => Feature::$feature,)*
                }
            }

            /// Every row with every combination of its operands' edge values that the row allows.
            pub fn samples() -> Vec<Inst> {
                let mut out = vec![];
                $(product!(out; $($f: $t),*; [Inst::$name { $($f),* }].into_iter()$(.filter(|_| $valid))?);)*
                out
            }
        }

        impl fmt::Display for Inst {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Inst::$name { $($f),* } => write!(out, $text),)*
                }
            }
        }
    };
}

#[rustfmt::skip]
instructions! {
    /// ADD (immediate). Without 0, which would be MOV (to/from SP) where SP is named.
    AddImm(d: XSp, n: XSp, i: Imm<1, 4095, 1>)    "1 0 0 100010 0 iiiiiiiiiiii nnnnn ddddd"    "add {d}, {n}, #{i}"          Base;
    /// ADD (immediate), shifted by 12
    AddImm12(d: XSp, n: XSp, i: Imm<1, 4095, 1>)  "1 0 0 100010 1 iiiiiiiiiiii nnnnn ddddd"    "add {d}, {n}, #{i}, lsl #12" Base;
    /// SUB (immediate)
    SubImm(d: XSp, n: XSp, i: Imm<1, 4095, 1>)    "1 1 0 100010 0 iiiiiiiiiiii nnnnn ddddd"    "sub {d}, {n}, #{i}"          Base;
    /// SUB (immediate), shifted by 12
    SubImm12(d: XSp, n: XSp, i: Imm<1, 4095, 1>)  "1 1 0 100010 1 iiiiiiiiiiii nnnnn ddddd"    "sub {d}, {n}, #{i}, lsl #12" Base;
    /// ADD (shifted register)
    Add(d: X, n: X, m: X, s: Lsl)                 "1 0 0 01011 00 0 mmmmm ssssss nnnnn ddddd"  "add {d}, {n}, {m}{s}"        Base;
    /// MOV (register)
    Mov(d: X, m: X)                               "1 01 01010 00 0 mmmmm 000000 11111 ddddd"   "mov {d}, {m}"                Base;
    /// MOVZ, in its alias MOV (wide immediate)
    Movz(d: X, i: OnePiece)                       "1 10 100101 iiiiiiiiiiiiiiiiii ddddd"       "mov {d}, #{i}"               Base;
    /// MOVK
    Movk(d: X, i: Imm<0, 65535, 1>, h: Piece)     "1 11 100101 hh iiiiiiiiiiiiiiii ddddd"      "movk {d}, #{i}{h}"           Base;
    /// CBNZ
    Cbnz(t: X, i: Imm<-1048576, 1048572, 4>)      "1 011010 1 iiiiiiiiiiiiiiiiiii ttttt"       "cbnz {t}, #{i}"              Base;
    /// RET
    Ret()                                         "1101011 0 0 10 11111 0000 0 0 11110 00000"  "ret"                         Base;
    /// STP, signed offset
    Stp(t: X, u: X, n: XSp, i: Disp<-512, 504, 8>)  "10 101 0 010 0 iiiiiii uuuuu nnnnn ttttt" "stp {t}, {u}, [{n}{i}]"      Base;
    /// LDR (immediate), unsigned offset
    Ldr(t: X, n: XSp, i: Disp<0, 32760, 8>)       "11 111 0 01 01 iiiiiiiiiiii nnnnn ttttt"    "ldr {t}, [{n}{i}]"           Base;
    /// LDP, signed offset
    Ldp(t: X, u: X, n: XSp, i: Disp<-512, 504, 8>)  "10 101 0 010 1 iiiiiii uuuuu nnnnn ttttt" "ldp {t}, {u}, [{n}{i}]"      Base if t != u;
    /// STP (SIMD&FP), signed offset
    StpD(t: D, u: D, n: XSp, i: Disp<-512, 504, 8>) "01 101 1 010 0 iiiiiii uuuuu nnnnn ttttt" "stp {t}, {u}, [{n}{i}]"      Base;
    /// LDP (SIMD&FP), signed offset
    LdpD(t: D, u: D, n: XSp, i: Disp<-512, 504, 8>) "01 101 1 010 1 iiiiiii uuuuu nnnnn ttttt" "ldp {t}, {u}, [{n}{i}]"      Base if t != u;

    /// ADR, of an address that is a multiple of 4 away
    Adr(d: X, i: Imm<-1048576, 1048572, 4>) "0 00 10000 iiiiiiiiiiiiiiiiiii ddddd" "adr {d}, #{i}" Base;
    /// LDR (immediate, SIMD&FP), unsigned offset
    LdrQ(t: Q, n: XSp, i: Disp<0, 65520, 16>) "00 111 1 01 11 iiiiiiiiiiii nnnnn ttttt" "ldr {t}, [{n}{i}]" Base;
    /// LDUR (SIMD&FP)
    LdurQ(t: Q, n: X, i: Disp<-256, 255, 1>) "00 111 1 00 11 0 iiiiiiiii 00 nnnnn ttttt" "ldur {t}, [{n}{i}]" Base;
    /// LDR (register, SIMD&FP)
    LdrQIndexed(t: Q, n: X, m: X) "00 111 1 00 11 1 mmmmm 011 0 10 nnnnn ttttt" "ldr {t}, [{n}, {m}]" Base;
    /// STR (immediate, SIMD&FP), unsigned offset
    StrQ(t: Q, n: XSp, i: Disp<0, 65520, 16>) "00 111 1 01 10 iiiiiiiiiiii nnnnn ttttt" "str {t}, [{n}{i}]" Base;
    /// STUR (SIMD&FP)
    SturQ(t: Q, n: X, i: Disp<-256, 255, 1>) "00 111 1 00 10 0 iiiiiiiii 00 nnnnn ttttt" "stur {t}, [{n}{i}]" Base;
    /// STR (register, SIMD&FP)
    StrQIndexed(t: Q, n: X, m: X) "00 111 1 00 10 1 mmmmm 011 0 10 nnnnn ttttt" "str {t}, [{n}, {m}]" Base;
    /// LDR (immediate, SIMD&FP), unsigned offset
    LdrD(t: D, n: XSp, i: Disp<0, 32760, 8>) "11 111 1 01 01 iiiiiiiiiiii nnnnn ttttt" "ldr {t}, [{n}{i}]" Base;
    /// LDUR (SIMD&FP)
    LdurD(t: D, n: X, i: Disp<-256, 255, 1>) "11 111 1 00 01 0 iiiiiiiii 00 nnnnn ttttt" "ldur {t}, [{n}{i}]" Base;
    /// LDR (register, SIMD&FP)
    LdrDIndexed(t: D, n: X, m: X) "11 111 1 00 01 1 mmmmm 011 0 10 nnnnn ttttt" "ldr {t}, [{n}, {m}]" Base;
    /// STR (immediate, SIMD&FP), unsigned offset
    StrD(t: D, n: XSp, i: Disp<0, 32760, 8>) "11 111 1 01 00 iiiiiiiiiiii nnnnn ttttt" "str {t}, [{n}{i}]" Base;
    /// STUR (SIMD&FP)
    SturD(t: D, n: X, i: Disp<-256, 255, 1>) "11 111 1 00 00 0 iiiiiiiii 00 nnnnn ttttt" "stur {t}, [{n}{i}]" Base;
    /// STR (register, SIMD&FP)
    StrDIndexed(t: D, n: X, m: X) "11 111 1 00 00 1 mmmmm 011 0 10 nnnnn ttttt" "str {t}, [{n}, {m}]" Base;
    /// LDR (immediate, SIMD&FP), unsigned offset
    LdrS(t: S, n: XSp, i: Disp<0, 16380, 4>) "10 111 1 01 01 iiiiiiiiiiii nnnnn ttttt" "ldr {t}, [{n}{i}]" Base;
    /// LDUR (SIMD&FP)
    LdurS(t: S, n: X, i: Disp<-256, 255, 1>) "10 111 1 00 01 0 iiiiiiiii 00 nnnnn ttttt" "ldur {t}, [{n}{i}]" Base;
    /// LDR (register, SIMD&FP)
    LdrSIndexed(t: S, n: X, m: X) "10 111 1 00 01 1 mmmmm 011 0 10 nnnnn ttttt" "ldr {t}, [{n}, {m}]" Base;
    /// STR (immediate, SIMD&FP), unsigned offset
    StrS(t: S, n: XSp, i: Disp<0, 16380, 4>) "10 111 1 01 00 iiiiiiiiiiii nnnnn ttttt" "str {t}, [{n}{i}]" Base;
    /// STUR (SIMD&FP)
    SturS(t: S, n: X, i: Disp<-256, 255, 1>) "10 111 1 00 00 0 iiiiiiiii 00 nnnnn ttttt" "stur {t}, [{n}{i}]" Base;
    /// STR (register, SIMD&FP)
    StrSIndexed(t: S, n: X, m: X) "10 111 1 00 00 1 mmmmm 011 0 10 nnnnn ttttt" "str {t}, [{n}, {m}]" Base;
    /// LDR (immediate, SIMD&FP), unsigned offset
    LdrH(t: H, n: XSp, i: Disp<0, 8190, 2>) "01 111 1 01 01 iiiiiiiiiiii nnnnn ttttt" "ldr {t}, [{n}{i}]" Base;
    /// LDUR (SIMD&FP)
    LdurH(t: H, n: X, i: Disp<-256, 255, 1>) "01 111 1 00 01 0 iiiiiiiii 00 nnnnn ttttt" "ldur {t}, [{n}{i}]" Base;
    /// LDR (register, SIMD&FP)
    LdrHIndexed(t: H, n: X, m: X) "01 111 1 00 01 1 mmmmm 011 0 10 nnnnn ttttt" "ldr {t}, [{n}, {m}]" Base;
    /// STR (immediate, SIMD&FP), unsigned offset
    StrH(t: H, n: XSp, i: Disp<0, 8190, 2>) "01 111 1 01 00 iiiiiiiiiiii nnnnn ttttt" "str {t}, [{n}{i}]" Base;
    /// STUR (SIMD&FP)
    SturH(t: H, n: X, i: Disp<-256, 255, 1>) "01 111 1 00 00 0 iiiiiiiii 00 nnnnn ttttt" "stur {t}, [{n}{i}]" Base;
    /// STR (register, SIMD&FP)
    StrHIndexed(t: H, n: X, m: X) "01 111 1 00 00 1 mmmmm 011 0 10 nnnnn ttttt" "str {t}, [{n}, {m}]" Base;
    /// LDR (immediate, SIMD&FP), unsigned offset
    LdrB(t: B, n: XSp, i: Disp<0, 4095, 1>) "00 111 1 01 01 iiiiiiiiiiii nnnnn ttttt" "ldr {t}, [{n}{i}]" Base;
    /// LDUR (SIMD&FP)
    LdurB(t: B, n: X, i: Disp<-256, 255, 1>) "00 111 1 00 01 0 iiiiiiiii 00 nnnnn ttttt" "ldur {t}, [{n}{i}]" Base;
    /// LDR (register, SIMD&FP)
    LdrBIndexed(t: B, n: X, m: X) "00 111 1 00 01 1 mmmmm 011 0 10 nnnnn ttttt" "ldr {t}, [{n}, {m}]" Base;
    /// LD1 (single structure), element 2
    Ld1B2(t: V, n: X) "0 0 0011010 1 0 00000 000 0 10 nnnnn ttttt" "ld1 {{ {t}.b }}[2], [{n}]" Base;
    /// LD1 (single structure), element 4
    Ld1B4(t: V, n: X) "0 0 0011010 1 0 00000 000 1 00 nnnnn ttttt" "ld1 {{ {t}.b }}[4], [{n}]" Base;
    /// LD1 (single structure), element 6
    Ld1B6(t: V, n: X) "0 0 0011010 1 0 00000 000 1 10 nnnnn ttttt" "ld1 {{ {t}.b }}[6], [{n}]" Base;
    /// LD1 (single structure), element 8
    Ld1B8(t: V, n: X) "0 1 0011010 1 0 00000 000 0 00 nnnnn ttttt" "ld1 {{ {t}.b }}[8], [{n}]" Base;
    /// LD1 (single structure), element 10
    Ld1B10(t: V, n: X) "0 1 0011010 1 0 00000 000 0 10 nnnnn ttttt" "ld1 {{ {t}.b }}[10], [{n}]" Base;
    /// LD1 (single structure), element 12
    Ld1B12(t: V, n: X) "0 1 0011010 1 0 00000 000 1 00 nnnnn ttttt" "ld1 {{ {t}.b }}[12], [{n}]" Base;
    /// LD1 (single structure), element 14
    Ld1B14(t: V, n: X) "0 1 0011010 1 0 00000 000 1 10 nnnnn ttttt" "ld1 {{ {t}.b }}[14], [{n}]" Base;
    /// LD1 (single structure), element 2
    Ld1S2(t: V, n: X) "0 1 0011010 1 0 00000 100 0 00 nnnnn ttttt" "ld1 {{ {t}.s }}[2], [{n}]" Base;
    /// LD1 (single structure), element 2
    Ld1H2(t: V, n: X) "0 0 0011010 1 0 00000 010 1 00 nnnnn ttttt" "ld1 {{ {t}.h }}[2], [{n}]" Base;
    /// LD1 (single structure), element 4
    Ld1H4(t: V, n: X) "0 1 0011010 1 0 00000 010 0 00 nnnnn ttttt" "ld1 {{ {t}.h }}[4], [{n}]" Base;
    /// LD1 (single structure), element 6
    Ld1H6(t: V, n: X) "0 1 0011010 1 0 00000 010 1 00 nnnnn ttttt" "ld1 {{ {t}.h }}[6], [{n}]" Base;
    /// STR (immediate, SIMD&FP), unsigned offset
    StrB(t: B, n: XSp, i: Disp<0, 4095, 1>) "00 111 1 01 00 iiiiiiiiiiii nnnnn ttttt" "str {t}, [{n}{i}]" Base;
    /// STUR (SIMD&FP)
    SturB(t: B, n: X, i: Disp<-256, 255, 1>) "00 111 1 00 00 0 iiiiiiiii 00 nnnnn ttttt" "stur {t}, [{n}{i}]" Base;
    /// STR (register, SIMD&FP)
    StrBIndexed(t: B, n: X, m: X) "00 111 1 00 00 1 mmmmm 011 0 10 nnnnn ttttt" "str {t}, [{n}, {m}]" Base;
    /// ST1 (single structure), element 2
    St1B2(t: V, n: X) "0 0 0011010 0 0 00000 000 0 10 nnnnn ttttt" "st1 {{ {t}.b }}[2], [{n}]" Base;
    /// ST1 (single structure), element 4
    St1B4(t: V, n: X) "0 0 0011010 0 0 00000 000 1 00 nnnnn ttttt" "st1 {{ {t}.b }}[4], [{n}]" Base;
    /// ST1 (single structure), element 6
    St1B6(t: V, n: X) "0 0 0011010 0 0 00000 000 1 10 nnnnn ttttt" "st1 {{ {t}.b }}[6], [{n}]" Base;
    /// ST1 (single structure), element 8
    St1B8(t: V, n: X) "0 1 0011010 0 0 00000 000 0 00 nnnnn ttttt" "st1 {{ {t}.b }}[8], [{n}]" Base;
    /// ST1 (single structure), element 10
    St1B10(t: V, n: X) "0 1 0011010 0 0 00000 000 0 10 nnnnn ttttt" "st1 {{ {t}.b }}[10], [{n}]" Base;
    /// ST1 (single structure), element 12
    St1B12(t: V, n: X) "0 1 0011010 0 0 00000 000 1 00 nnnnn ttttt" "st1 {{ {t}.b }}[12], [{n}]" Base;
    /// ST1 (single structure), element 14
    St1B14(t: V, n: X) "0 1 0011010 0 0 00000 000 1 10 nnnnn ttttt" "st1 {{ {t}.b }}[14], [{n}]" Base;
    /// ST1 (single structure), element 2
    St1S2(t: V, n: X) "0 1 0011010 0 0 00000 100 0 00 nnnnn ttttt" "st1 {{ {t}.s }}[2], [{n}]" Base;
    /// ST1 (single structure), element 2
    St1H2(t: V, n: X) "0 0 0011010 0 0 00000 010 1 00 nnnnn ttttt" "st1 {{ {t}.h }}[2], [{n}]" Base;
    /// ST1 (single structure), element 4
    St1H4(t: V, n: X) "0 1 0011010 0 0 00000 010 0 00 nnnnn ttttt" "st1 {{ {t}.h }}[4], [{n}]" Base;
    /// ST1 (single structure), element 6
    St1H6(t: V, n: X) "0 1 0011010 0 0 00000 010 1 00 nnnnn ttttt" "st1 {{ {t}.h }}[6], [{n}]" Base;
    /// LD1R
    Ld1rS(t: V, n: X) "0 1 0011010 1 0 00000 110 0 10 nnnnn ttttt" "ld1r {{ {t}.4s }}, [{n}]" Base;
    /// LD1R
    Ld1rH(t: V, n: X) "0 1 0011010 1 0 00000 110 0 01 nnnnn ttttt" "ld1r {{ {t}.8h }}, [{n}]" Base;
    /// LD1R
    Ld1r8b(t: V, n: X) "0 0 0011010 1 0 00000 110 0 00 nnnnn ttttt" "ld1r {{ {t}.8b }}, [{n}]" Base;
    /// SSHLL, in its alias SXTL, of bytes
    Sxtl8h(d: V, n: V) "0 0 0 011110 0001 000 10100 1 nnnnn ddddd" "sshll {d}.8h, {n}.8b, #0" Base;
    /// SSHLL, in its alias SXTL, of half words
    Sxtl4s(d: V, n: V) "0 0 0 011110 0010 000 10100 1 nnnnn ddddd" "sshll {d}.4s, {n}.4h, #0" Base;
    /// USHLL, in its alias UXTL, of bytes
    Uxtl8h(d: V, n: V) "0 0 1 011110 0001 000 10100 1 nnnnn ddddd" "ushll {d}.8h, {n}.8b, #0" Base;
    /// USHLL, in its alias UXTL, of half words
    Uxtl4s(d: V, n: V) "0 0 1 011110 0010 000 10100 1 nnnnn ddddd" "ushll {d}.4s, {n}.4h, #0" Base;
    /// DUP (element), the first
    Dup4s(d: V, n: V) "0 1 0 01110000 00100 0 0000 1 nnnnn ddddd" "dup {d}.4s, {n}.s[0]" Base;
    /// FCVTL, FCVTL2
    Fcvtl(d: V, n: V) "0 0 0 01110 00 10000 10111 10 nnnnn ddddd" "fcvtl {d}.4s, {n}.4h" Base;
    /// FCVTN, FCVTN2
    Fcvtn(d: V, n: V) "0 0 0 01110 00 10000 10110 10 nnnnn ddddd" "fcvtn {d}.4h, {n}.4s" Base;
    /// SHLL
    Shll(d: V, n: V) "0 0 1 01110 01 10000 10011 10 nnnnn ddddd" "shll {d}.4s, {n}.4h, #16" Base;
    /// MOVI, of zero
    MoviZero(d: V) "0 1 1 0111100000 000 1110 01 00000 ddddd" "movi {d}.2d, #0000000000000000" Base;
    /// MOVI, of 0x7fff
    Movi7fff(d: V) "0 1 0 0111100000 011 1100 01 11111 ddddd" "movi {d}.4s, #127, msl #8" Base;
    /// MOVI, 32-bit shifted immediate
    Movi4s(d: V, i: OneByte) "0 1 0 0111100000 iiiiiiiiiiiiii ddddd" "movi {d}.4s, #{i}" Base;
    /// MVNI, 32-bit shifted immediate
    Mvni4s(d: V, i: OneByte) "0 1 1 0111100000 iiiiiiiiiiiiii ddddd" "mvni {d}.4s, #{i}" Base;
    /// FMOV (vector, immediate)
    Fmov4s(d: V, i: ModifiedFloat) "0 1 0 0111100000 iiiiiiiiiiiiii ddddd" "fmov {d}.4s, #{i}" Base;
    /// SHL
    Shl4s(d: V, n: V, i: Imm<0, 31, 1>) "0 1 0 011110 01 iiiii 01010 1 nnnnn ddddd" "shl {d}.4s, {n}.4s, #{i}" Base;
    /// SSHR
    Sshr4s(d: V, n: V, i: Right) "0 1 0 011110 01 iiiii 00000 1 nnnnn ddddd" "sshr {d}.4s, {n}.4s, #{i}" Base;
    /// USRA
    Usra4s(d: V, n: V, i: Right) "0 1 1 011110 01 iiiii 00010 1 nnnnn ddddd" "usra {d}.4s, {n}.4s, #{i}" Base;
    /// FMLA (vector)
    Fmla4s(d: V, n: V, m: V) "0 1 0 01110 0 0 1 mmmmm 11001 1 nnnnn ddddd" "fmla {d}.4s, {n}.4s, {m}.4s" Base;
    /// MLA (vector)
    Mla4s(d: V, n: V, m: V) "0 1 0 01110 10 1 mmmmm 10010 1 nnnnn ddddd" "mla {d}.4s, {n}.4s, {m}.4s" Base;
    /// FADD (vector)
    Fadd4s(d: V, n: V, m: V) "0 1 0 01110 0 0 1 mmmmm 11010 1 nnnnn ddddd" "fadd {d}.4s, {n}.4s, {m}.4s" Base;
    /// FSUB (vector)
    Fsub4s(d: V, n: V, m: V) "0 1 0 01110 1 0 1 mmmmm 11010 1 nnnnn ddddd" "fsub {d}.4s, {n}.4s, {m}.4s" Base;
    /// FMUL (vector)
    Fmul4s(d: V, n: V, m: V) "0 1 1 01110 0 0 1 mmmmm 11011 1 nnnnn ddddd" "fmul {d}.4s, {n}.4s, {m}.4s" Base;
    /// FDIV (vector)
    Fdiv4s(d: V, n: V, m: V) "0 1 1 01110 0 0 1 mmmmm 11111 1 nnnnn ddddd" "fdiv {d}.4s, {n}.4s, {m}.4s" Base;
    /// FMAX (vector)
    Fmax4s(d: V, n: V, m: V) "0 1 0 01110 0 0 1 mmmmm 11110 1 nnnnn ddddd" "fmax {d}.4s, {n}.4s, {m}.4s" Base;
    /// FMIN (vector)
    Fmin4s(d: V, n: V, m: V) "0 1 0 01110 1 0 1 mmmmm 11110 1 nnnnn ddddd" "fmin {d}.4s, {n}.4s, {m}.4s" Base;
    /// FADDP (vector)
    Faddp4s(d: V, n: V, m: V) "0 1 1 01110 0 0 1 mmmmm 11010 1 nnnnn ddddd" "faddp {d}.4s, {n}.4s, {m}.4s" Base;
    /// FCMEQ (register)
    Fcmeq4s(d: V, n: V, m: V) "0 1 0 01110 0 0 1 mmmmm 11100 1 nnnnn ddddd" "fcmeq {d}.4s, {n}.4s, {m}.4s" Base;
    /// ADD (vector)
    Add4s(d: V, n: V, m: V) "0 1 0 01110 10 1 mmmmm 10000 1 nnnnn ddddd" "add {d}.4s, {n}.4s, {m}.4s" Base;
    /// SUB (vector)
    Sub4s(d: V, n: V, m: V) "0 1 1 01110 10 1 mmmmm 10000 1 nnnnn ddddd" "sub {d}.4s, {n}.4s, {m}.4s" Base;
    /// AND (vector)
    And16b(d: V, n: V, m: V) "0 1 0 01110 00 1 mmmmm 00011 1 nnnnn ddddd" "and {d}.16b, {n}.16b, {m}.16b" Base;
    /// ORR (vector, register)
    Orr16b(d: V, n: V, m: V) "0 1 0 01110 10 1 mmmmm 00011 1 nnnnn ddddd" "orr {d}.16b, {n}.16b, {m}.16b" Base if n != m;
    /// EOR (vector)
    Eor16b(d: V, n: V, m: V) "0 1 1 01110 00 1 mmmmm 00011 1 nnnnn ddddd" "eor {d}.16b, {n}.16b, {m}.16b" Base;
    /// MOV (vector)
    Mov16b(d: V, n: V) "0 1 0 01110 10 1 nnnnn 00011 1 nnnnn ddddd" "mov {d}.16b, {n}.16b" Base;
    /// FSQRT (vector)
    Fsqrt4s(d: V, n: V) "0 1 1 01110 1 0 10000 11111 10 nnnnn ddddd" "fsqrt {d}.4s, {n}.4s" Base;
    /// FABS (vector)
    Fabs4s(d: V, n: V) "0 1 0 01110 1 0 10000 01111 10 nnnnn ddddd" "fabs {d}.4s, {n}.4s" Base;
    /// ZIP1
    Zip1V(d: V, n: V, m: V, s: Arrangement) "0 1 0 01110 ss 0 mmmmm 0 011 10 nnnnn ddddd" "zip1 {d}.{s}, {n}.{s}, {m}.{s}" Base;
    /// ZIP2
    Zip2V(d: V, n: V, m: V, s: Arrangement) "0 1 0 01110 ss 0 mmmmm 0 111 10 nnnnn ddddd" "zip2 {d}.{s}, {n}.{s}, {m}.{s}" Base;
    /// UZP1
    Uzp1V(d: V, n: V, m: V, s: Arrangement) "0 1 0 01110 ss 0 mmmmm 0 001 10 nnnnn ddddd" "uzp1 {d}.{s}, {n}.{s}, {m}.{s}" Base;
    /// UZP2
    Uzp2V(d: V, n: V, m: V, s: Arrangement) "0 1 0 01110 ss 0 mmmmm 0 101 10 nnnnn ddddd" "uzp2 {d}.{s}, {n}.{s}, {m}.{s}" Base;
    /// TRN1
    Trn1V(d: V, n: V, m: V, s: Arrangement) "0 1 0 01110 ss 0 mmmmm 0 010 10 nnnnn ddddd" "trn1 {d}.{s}, {n}.{s}, {m}.{s}" Base;
    /// TRN2
    Trn2V(d: V, n: V, m: V, s: Arrangement) "0 1 0 01110 ss 0 mmmmm 0 110 10 nnnnn ddddd" "trn2 {d}.{s}, {n}.{s}, {m}.{s}" Base;
    /// FMLA (by element), element 0 or 1
    FmlaLow4s(d: V, n: V, m: V, i: Imm<0, 1, 1>) "0 1 0 01111 10 i mmmmm 0001 0 0 nnnnn ddddd" "fmla {d}.4s, {n}.4s, {m}.s[{i}]" Base;
    /// FMLA (by element), element 2 or 3
    FmlaHigh4s(d: V, n: V, m: V, i: UpperLane) "0 1 0 01111 10 i mmmmm 0001 1 0 nnnnn ddddd" "fmla {d}.4s, {n}.4s, {m}.s[{i}]" Base;
    /// ADDHN
    Addhn4h(d: V, n: V, m: V) "0 0 0 01110 01 1 mmmmm 0100 00 nnnnn ddddd" "addhn {d}.4h, {n}.4s, {m}.4s" Base;
    /// ADDHN2
    Addhn8h(d: V, n: V, m: V) "0 1 0 01110 01 1 mmmmm 0100 00 nnnnn ddddd" "addhn2 {d}.8h, {n}.4s, {m}.4s" Base;
    /// BFCVTN
    Bfcvtn(d: V, n: V) "0 0 0 01110 10 10000 10110 10 nnnnn ddddd" "bfcvtn {d}.4h, {n}.4s" NeonBf16;
    /// BFCVTN2
    Bfcvtn2(d: V, n: V) "0 1 0 01110 10 10000 10110 10 nnnnn ddddd" "bfcvtn2 {d}.8h, {n}.4s" NeonBf16;
    /// BFMMLA
    Bfmmla(d: V, n: V, m: V) "0 1 1 01110 01 0 mmmmm 1 1101 1 nnnnn ddddd" "bfmmla {d}.4s, {n}.8h, {m}.8h" NeonBf16;
    /// BFDOT (vector)
    Bfdot(d: V, n: V, m: V) "0 1 1 01110 01 0 mmmmm 1 1111 1 nnnnn ddddd" "bfdot {d}.4s, {n}.8h, {m}.8h" NeonBf16;
    /// BFDOT (by element), element 0 or 1
    BfdotLow(d: V, n: V, m: V, i: Imm<0, 1, 1>) "0 1 0 01111 01 i mmmmm 1111 0 0 nnnnn ddddd" "bfdot {d}.4s, {n}.8h, {m}.2h[{i}]" NeonBf16;
    /// BFDOT (by element), element 2 or 3
    BfdotHigh(d: V, n: V, m: V, i: UpperLane) "0 1 0 01111 01 i mmmmm 1111 1 0 nnnnn ddddd" "bfdot {d}.4s, {n}.8h, {m}.2h[{i}]" NeonBf16;
    /// SMMLA
    Smmla(d: V, n: V, m: V) "0 1 0 01110 10 0 mmmmm 1 0100 1 nnnnn ddddd" "smmla {d}.4s, {n}.16b, {m}.16b" NeonI8mm;
    /// UMMLA
    Ummla(d: V, n: V, m: V) "0 1 1 01110 10 0 mmmmm 1 0100 1 nnnnn ddddd" "ummla {d}.4s, {n}.16b, {m}.16b" NeonI8mm;
    /// USMMLA
    Usmmla(d: V, n: V, m: V) "0 1 0 01110 10 0 mmmmm 1 0101 1 nnnnn ddddd" "usmmla {d}.4s, {n}.16b, {m}.16b" NeonI8mm;
    /// SDOT (vector)
    Sdot(d: V, n: V, m: V) "0 1 0 01110 10 0 mmmmm 1 0010 1 nnnnn ddddd" "sdot {d}.4s, {n}.16b, {m}.16b" NeonDotProd;
    /// UDOT (vector)
    Udot(d: V, n: V, m: V) "0 1 1 01110 10 0 mmmmm 1 0010 1 nnnnn ddddd" "udot {d}.4s, {n}.16b, {m}.16b" NeonDotProd;
    /// USDOT (vector)
    Usdot(d: V, n: V, m: V) "0 1 0 01110 10 0 mmmmm 1 0011 1 nnnnn ddddd" "usdot {d}.4s, {n}.16b, {m}.16b" NeonI8mm;
    /// SDOT (by element), element 0 or 1
    SdotLow(d: V, n: V, m: V, i: Imm<0, 1, 1>) "0 1 0 01111 10 i mmmmm 1110 0 0 nnnnn ddddd" "sdot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonDotProd;
    /// SDOT (by element), element 2 or 3
    SdotHigh(d: V, n: V, m: V, i: UpperLane) "0 1 0 01111 10 i mmmmm 1110 1 0 nnnnn ddddd" "sdot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonDotProd;
    /// UDOT (by element), element 0 or 1
    UdotLow(d: V, n: V, m: V, i: Imm<0, 1, 1>) "0 1 1 01111 10 i mmmmm 1110 0 0 nnnnn ddddd" "udot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonDotProd;
    /// UDOT (by element), element 2 or 3
    UdotHigh(d: V, n: V, m: V, i: UpperLane) "0 1 1 01111 10 i mmmmm 1110 1 0 nnnnn ddddd" "udot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonDotProd;
    /// USDOT (by element), element 0 or 1
    UsdotLow(d: V, n: V, m: V, i: Imm<0, 1, 1>) "0 1 0 01111 10 i mmmmm 1111 0 0 nnnnn ddddd" "usdot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonI8mm;
    /// USDOT (by element), element 2 or 3
    UsdotHigh(d: V, n: V, m: V, i: UpperLane) "0 1 0 01111 10 i mmmmm 1111 1 0 nnnnn ddddd" "usdot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonI8mm;
    /// SUDOT (by element), element 0 or 1
    SudotLow(d: V, n: V, m: V, i: Imm<0, 1, 1>) "0 1 0 01111 00 i mmmmm 1111 0 0 nnnnn ddddd" "sudot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonI8mm;
    /// SUDOT (by element), element 2 or 3
    SudotHigh(d: V, n: V, m: V, i: UpperLane) "0 1 0 01111 00 i mmmmm 1111 1 0 nnnnn ddddd" "sudot {d}.4s, {n}.16b, {m}.4b[{i}]" NeonI8mm;

    /// PTRUE, all elements
    PtrueS(d: P)                                  "00100101 10 011 00 0 111000 11111 0 dddd"   "ptrue {d}.s"                 Sve;
    /// WHILELO
    WhileloS(d: P, n: XZr, m: XZr)                "00100101 10 1 mmmmm 000 1 1 1 nnnnn 0 dddd" "whilelo {d}.s, {n}, {m}"     Sve;
    /// LD1W (scalar plus immediate, single register)
    Ld1wS(t: Z, g: P7, n: X, i: MulVl)            "1010010 1010 0 iiii 101 ggg nnnnn ttttt"    "ld1w {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1W (scalar plus scalar, single register)
    Ld1wIndexedS(t: Z, g: P7, n: X, m: X)         "1010010 1010 mmmmm 010 ggg nnnnn ttttt"     "ld1w {{ {t}.s }}, {g}/z, [{n}, {m}, lsl #2]" Sve;
    /// LD1RW
    Ld1rwS(t: Z, g: P7, n: X, i: ScalarDisp)       "1000010 10 1 iiiiii 110 ggg nnnnn ttttt"    "ld1rw {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RQW (scalar plus immediate)
    Ld1rqwS(t: Z, g: P7, n: X, i: QuadDisp)        "1010010 10 00 0 iiii 001 ggg nnnnn ttttt" "ld1rqw {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RQW (scalar plus scalar)
    Ld1rqwIndexedS(t: Z, g: P7, n: X, m: X)       "1010010 10 00 mmmmm 000 ggg nnnnn ttttt"    "ld1rqw {{ {t}.s }}, {g}/z, [{n}, {m}, lsl #2]" Sve;
    /// ST1W (scalar plus immediate, single register)
    St1wS(t: Z, g: P7, n: X, i: MulVl)            "1110010 1010 0 iiii 111 ggg nnnnn ttttt"    "st1w {{ {t}.s }}, {g}, [{n}{i}]" Sve;
    /// ST1W (scalar plus scalar, single register)
    St1wIndexedS(t: Z, g: P7, n: X, m: X)         "1110010 1010 mmmmm 010 ggg nnnnn ttttt"     "st1w {{ {t}.s }}, {g}, [{n}, {m}, lsl #2]" Sve;
    /// FMLA (vectors)
    FmlaS(d: Z, g: P7, n: Z, m: Z)                "01100101 10 1 mmmmm 0 0 0 ggg nnnnn ddddd"  "fmla {d}.s, {g}/m, {n}.s, {m}.s" Sve;
    /// MLA (vectors)
    MlaS(d: Z, g: P7, n: Z, m: Z) "00000100 10 0 mmmmm 010 ggg nnnnn ddddd" "mla {d}.s, {g}/m, {n}.s, {m}.s" Sve;
    /// FMLA (indexed)
    FmlaIndexedS(d: Z, n: Z, m: Z7, i: Imm<0, 3, 1>) "01100100 10 1 ii mmm 00000 0 nnnnn ddddd" "fmla {d}.s, {n}.s, {m}.s[{i}]" Sve;
    /// FADD (vectors, unpredicated)
    FaddS(d: Z, n: Z, m: Z)                       "01100101 10 0 mmmmm 000 000 nnnnn ddddd"    "fadd {d}.s, {n}.s, {m}.s"    Sve;
    /// FMAX (vectors); d is also the first operand
    FmaxS(d: Z, g: P7, m: Z)                      "01100101 10 00 011 0 100 ggg mmmmm ddddd"   "fmax {d}.s, {g}/m, {d}.s, {m}.s" Sve;
    /// MOV (vector, unpredicated)
    MovZ(d: Z, n: Z)                              "00000100 01 1 nnnnn 001100 nnnnn ddddd"     "mov {d}.d, {n}.d"            Sve;
    /// DUP (immediate), in its alias MOV; the numbers that are not negative
    DupS(d: Z, i: Imm<0, 127, 1>)                 "00100101 10 111 00 0 11 0 0iiiiiii ddddd"   "mov {d}.s, #{i}"             Sve;
    /// PTRUE, all bytes
    PtrueB(d: P) "00100101 00 011 00 0 111000 11111 0 dddd" "ptrue {d}.b" Sve;
    /// WHILELO, of 8-bit elements
    WhileloB(d: P, n: XZr, m: XZr) "00100101 00 1 mmmmm 000 1 1 1 nnnnn 0 dddd" "whilelo {d}.b, {n}, {m}" Sve;
    /// WHILELO, of 16-bit elements
    WhileloH(d: P, n: XZr, m: XZr) "00100101 01 1 mmmmm 000 1 1 1 nnnnn 0 dddd" "whilelo {d}.h, {n}, {m}" Sve;
    /// LD1H (scalar plus immediate, single register)
    Ld1hS(t: Z, g: P7, n: X, i: MulVl) "1010010 0110 0 iiii 101 ggg nnnnn ttttt" "ld1h {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1H (scalar plus scalar, single register)
    Ld1hIndexedS(t: Z, g: P7, n: X, m: X) "1010010 0110 mmmmm 010 ggg nnnnn ttttt" "ld1h {{ {t}.s }}, {g}/z, [{n}, {m}, lsl #1]" Sve;
    /// ST1H (scalar plus immediate, single register)
    St1hS(t: Z, g: P7, n: X, i: MulVl) "1110010 0110 0 iiii 111 ggg nnnnn ttttt" "st1h {{ {t}.s }}, {g}, [{n}{i}]" Sve;
    /// ST1H (scalar plus scalar, single register)
    St1hIndexedS(t: Z, g: P7, n: X, m: X) "1110010 0110 mmmmm 010 ggg nnnnn ttttt" "st1h {{ {t}.s }}, {g}, [{n}, {m}, lsl #1]" Sve;
    /// LD1H (scalar plus immediate, single register)
    Ld1hH(t: Z, g: P7, n: X, i: MulVl) "1010010 0101 0 iiii 101 ggg nnnnn ttttt" "ld1h {{ {t}.h }}, {g}/z, [{n}{i}]" Sve;
    /// LD1H (scalar plus scalar, single register)
    Ld1hIndexedH(t: Z, g: P7, n: X, m: X) "1010010 0101 mmmmm 010 ggg nnnnn ttttt" "ld1h {{ {t}.h }}, {g}/z, [{n}, {m}, lsl #1]" Sve;
    /// ST1H (scalar plus immediate, single register)
    St1hH(t: Z, g: P7, n: X, i: MulVl) "1110010 0101 0 iiii 111 ggg nnnnn ttttt" "st1h {{ {t}.h }}, {g}, [{n}{i}]" Sve;
    /// ST1H (scalar plus scalar, single register)
    St1hIndexedH(t: Z, g: P7, n: X, m: X) "1110010 0101 mmmmm 010 ggg nnnnn ttttt" "st1h {{ {t}.h }}, {g}, [{n}, {m}, lsl #1]" Sve;
    /// LD1SB (scalar plus immediate, single register)
    Ld1sbS(t: Z, g: P7, n: X, i: MulVl) "1010010 1101 0 iiii 101 ggg nnnnn ttttt" "ld1sb {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1SB (scalar plus scalar, single register)
    Ld1sbIndexedS(t: Z, g: P7, n: X, m: X) "1010010 1101 mmmmm 010 ggg nnnnn ttttt" "ld1sb {{ {t}.s }}, {g}/z, [{n}, {m}]" Sve;
    /// LD1B (scalar plus immediate, single register)
    Ld1bS(t: Z, g: P7, n: X, i: MulVl) "1010010 0010 0 iiii 101 ggg nnnnn ttttt" "ld1b {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1B (scalar plus scalar, single register)
    Ld1bIndexedS(t: Z, g: P7, n: X, m: X) "1010010 0010 mmmmm 010 ggg nnnnn ttttt" "ld1b {{ {t}.s }}, {g}/z, [{n}, {m}]" Sve;
    /// LD1RSB
    Ld1rsbS(t: Z, g: P7, n: X, i: Disp<0, 63, 1>) "1000010 11 1 iiiiii 101 ggg nnnnn ttttt" "ld1rsb {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RB
    Ld1rbS(t: Z, g: P7, n: X, i: Disp<0, 63, 1>) "1000010 00 1 iiiiii 110 ggg nnnnn ttttt" "ld1rb {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RH
    Ld1rhS(t: Z, g: P7, n: X, i: Disp<0, 126, 2>) "1000010 01 1 iiiiii 110 ggg nnnnn ttttt" "ld1rh {{ {t}.s }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RD
    Ld1rdD(t: Z, g: P7, n: X, i: Disp<0, 504, 8>) "1000010 11 1 iiiiii 111 ggg nnnnn ttttt" "ld1rd {{ {t}.d }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RQH (scalar plus immediate)
    Ld1rqhH(t: Z, g: P7, n: X, i: QuadDisp) "1010010 01 00 0 iiii 001 ggg nnnnn ttttt" "ld1rqh {{ {t}.h }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RQH (scalar plus scalar)
    Ld1rqhIndexedH(t: Z, g: P7, n: X, m: X) "1010010 01 00 mmmmm 000 ggg nnnnn ttttt" "ld1rqh {{ {t}.h }}, {g}/z, [{n}, {m}, lsl #1]" Sve;
    /// UUNPKLO
    UunpkloS(d: Z, n: Z) "00000101 10 1100 1 0 001110 nnnnn ddddd" "uunpklo {d}.s, {n}.h" Sve;
    /// DUP (indexed), the first 128 bits, in its alias MOV
    DupQ(d: Z, n: Q) "00000101 00 1 10000 001000 nnnnn ddddd" "mov {d}.q, {n}" Sve;
    /// FDUP, in its alias FMOV
    FdupS(d: Z, i: Float8) "00100101 10 111 00 1 11 0 iiiiiiii ddddd" "fmov {d}.s, #{i}" Sve;
    /// FSUB (vectors, unpredicated)
    FsubS(d: Z, n: Z, m: Z) "01100101 10 0 mmmmm 000 001 nnnnn ddddd" "fsub {d}.s, {n}.s, {m}.s" Sve;
    /// FMUL (vectors, unpredicated)
    FmulS(d: Z, n: Z, m: Z) "01100101 10 0 mmmmm 000 010 nnnnn ddddd" "fmul {d}.s, {n}.s, {m}.s" Sve;
    /// FMIN (vectors); d is also the first operand
    FminS(d: Z, g: P7, m: Z) "01100101 10 00 011 1 100 ggg mmmmm ddddd" "fmin {d}.s, {g}/m, {d}.s, {m}.s" Sve;
    /// FDIV; d is also the first operand
    FdivS(d: Z, g: P7, m: Z) "01100101 10 00 110 1 100 ggg mmmmm ddddd" "fdiv {d}.s, {g}/m, {d}.s, {m}.s" Sve;
    /// FDIVR; d is also the first operand
    FdivrS(d: Z, g: P7, m: Z) "01100101 10 00 110 0 100 ggg mmmmm ddddd" "fdivr {d}.s, {g}/m, {d}.s, {m}.s" Sve;
    /// FSQRT
    FsqrtS(d: Z, g: P7, n: Z) "01100101 10 0011 01 101 ggg nnnnn ddddd" "fsqrt {d}.s, {g}/m, {n}.s" Sve;
    /// FABS
    FabsS(d: Z, g: P7, n: Z) "00000100 10 011 100 101 ggg nnnnn ddddd" "fabs {d}.s, {g}/m, {n}.s" Sve;
    /// FCMUO (vectors)
    FcmuoS(d: P, g: P7, n: Z, m: Z) "01100101 10 0 mmmmm 110 ggg nnnnn 0 dddd" "fcmuo {d}.s, {g}/z, {n}.s, {m}.s" Sve;
    /// SEL (vectors), in its alias MOV (vector, predicated)
    MovMergedS(d: Z, g: P, n: Z) "00000101 10 1 ddddd 11 gggg nnnnn ddddd" "mov {d}.s, {g}/m, {n}.s" Sve;
    /// ADD (vectors, unpredicated)
    AddS(d: Z, n: Z, m: Z) "00000100 10 1 mmmmm 000 000 nnnnn ddddd" "add {d}.s, {n}.s, {m}.s" Sve;
    /// SUB (vectors, unpredicated)
    SubS(d: Z, n: Z, m: Z) "00000100 10 1 mmmmm 000 001 nnnnn ddddd" "sub {d}.s, {n}.s, {m}.s" Sve;
    /// AND (vectors, unpredicated)
    AndZ(d: Z, n: Z, m: Z) "00000100 00 1 mmmmm 001 100 nnnnn ddddd" "and {d}.d, {n}.d, {m}.d" Sve;
    /// ORR (vectors, unpredicated)
    OrrZ(d: Z, n: Z, m: Z) "00000100 01 1 mmmmm 001 100 nnnnn ddddd" "orr {d}.d, {n}.d, {m}.d" Sve if n != m;
    /// EOR (vectors, unpredicated)
    EorZ(d: Z, n: Z, m: Z) "00000100 10 1 mmmmm 001 100 nnnnn ddddd" "eor {d}.d, {n}.d, {m}.d" Sve;
    /// ADD (immediate)
    AddImmS(d: Z, i: Imm<0, 255, 1>) "00100101 10 100 000 11 0 iiiiiiii ddddd" "add {d}.s, {d}.s, #{i}" Sve;
    /// ADD (immediate), shifted by 8
    AddImm8S(d: Z, i: Imm<256, 65280, 256>) "00100101 10 100 000 11 1 iiiiiiii ddddd" "add {d}.s, {d}.s, #{i}" Sve;
    /// LSL (immediate, unpredicated)
    LslS(d: Z, n: Z, i: Imm<0, 31, 1>) "00000100 01 1 iiiii 100 111 nnnnn ddddd" "lsl {d}.s, {n}.s, #{i}" Sve;
    /// LSR (immediate, unpredicated)
    LsrS(d: Z, n: Z, i: Right) "00000100 01 1 iiiii 100 101 nnnnn ddddd" "lsr {d}.s, {n}.s, #{i}" Sve;
    /// ASR (immediate, unpredicated)
    AsrS(d: Z, n: Z, i: Right) "00000100 01 1 iiiii 100 100 nnnnn ddddd" "asr {d}.s, {n}.s, #{i}" Sve;
    /// ZIP1 (vectors)
    Zip1Z(d: Z, n: Z, m: Z, s: ZSize) "00000101 ss 1 mmmmm 011 000 nnnnn ddddd" "zip1 {d}.{s}, {n}.{s}, {m}.{s}" Sve;
    /// ZIP2 (vectors)
    Zip2Z(d: Z, n: Z, m: Z, s: ZSize) "00000101 ss 1 mmmmm 011 001 nnnnn ddddd" "zip2 {d}.{s}, {n}.{s}, {m}.{s}" Sve;
    /// UZP1 (vectors)
    Uzp1Z(d: Z, n: Z, m: Z, s: ZSize) "00000101 ss 1 mmmmm 011 010 nnnnn ddddd" "uzp1 {d}.{s}, {n}.{s}, {m}.{s}" Sve;
    /// UZP2 (vectors)
    Uzp2Z(d: Z, n: Z, m: Z, s: ZSize) "00000101 ss 1 mmmmm 011 011 nnnnn ddddd" "uzp2 {d}.{s}, {n}.{s}, {m}.{s}" Sve;
    /// TRN1, TRN2 (vectors)
    Trn1Z(d: Z, n: Z, m: Z, s: ZSize) "00000101 ss 1 mmmmm 011 100 nnnnn ddddd" "trn1 {d}.{s}, {n}.{s}, {m}.{s}" Sve;
    /// TRN1, TRN2 (vectors)
    Trn2Z(d: Z, n: Z, m: Z, s: ZSize) "00000101 ss 1 mmmmm 011 101 nnnnn ddddd" "trn2 {d}.{s}, {n}.{s}, {m}.{s}" Sve;
    /// FCVT
    FcvtHToS(d: Z, g: P7, n: Z) "01100101 10 0010 01 101 ggg nnnnn ddddd" "fcvt {d}.s, {g}/m, {n}.h" Sve;
    /// FCVT
    FcvtSToH(d: Z, g: P7, n: Z) "01100101 10 0010 00 101 ggg nnnnn ddddd" "fcvt {d}.h, {g}/m, {n}.s" Sve;
    /// BFCVT
    BfcvtH(d: Z, g: P7, n: Z) "01100101 10 0010 10 101 ggg nnnnn ddddd" "bfcvt {d}.h, {g}/m, {n}.s" SveBf16;
    /// BFCVTNT
    BfcvtntH(d: Z, g: P7, n: Z) "01100100 10 0010 10 101 ggg nnnnn ddddd" "bfcvtnt {d}.h, {g}/m, {n}.s" SveBf16;
    /// BFMMLA
    BfmmlaS(d: Z, n: Z, m: Z) "01100100 01 1 mmmmm 111 001 nnnnn ddddd" "bfmmla {d}.s, {n}.h, {m}.h" SveBf16;
    /// BFDOT (vectors)
    BfdotS(d: Z, n: Z, m: Z) "01100100 01 1 mmmmm 100 000 nnnnn ddddd" "bfdot {d}.s, {n}.h, {m}.h" SveBf16;
    /// BFDOT (indexed)
    BfdotIndexedS(d: Z, n: Z, m: Z7, i: Imm<0, 3, 1>) "01100100 01 1 ii mmm 010 000 nnnnn ddddd" "bfdot {d}.s, {n}.h, {m}.h[{i}]" SveBf16;
    /// SMMLA
    SmmlaS(d: Z, n: Z, m: Z) "01000101 00 0 mmmmm 100110 nnnnn ddddd" "smmla {d}.s, {n}.b, {m}.b" SveI8mm;
    /// UMMLA
    UmmlaS(d: Z, n: Z, m: Z) "01000101 11 0 mmmmm 100110 nnnnn ddddd" "ummla {d}.s, {n}.b, {m}.b" SveI8mm;
    /// USMMLA
    UsmmlaS(d: Z, n: Z, m: Z) "01000101 10 0 mmmmm 100110 nnnnn ddddd" "usmmla {d}.s, {n}.b, {m}.b" SveI8mm;
    /// SDOT (vectors)
    SdotS(d: Z, n: Z, m: Z) "01000100 10 0 mmmmm 000000 nnnnn ddddd" "sdot {d}.s, {n}.b, {m}.b" Sve;
    /// UDOT (vectors)
    UdotS(d: Z, n: Z, m: Z) "01000100 10 0 mmmmm 000001 nnnnn ddddd" "udot {d}.s, {n}.b, {m}.b" Sve;
    /// USDOT (vectors)
    UsdotS(d: Z, n: Z, m: Z) "01000100 10 0 mmmmm 011110 nnnnn ddddd" "usdot {d}.s, {n}.b, {m}.b" SveI8mm;
    /// SDOT (indexed)
    SdotIndexedS(d: Z, n: Z, m: Z7, i: Imm<0, 3, 1>) "01000100 10 1 ii mmm 000000 nnnnn ddddd" "sdot {d}.s, {n}.b, {m}.b[{i}]" Sve;
    /// UDOT (indexed)
    UdotIndexedS(d: Z, n: Z, m: Z7, i: Imm<0, 3, 1>) "01000100 10 1 ii mmm 000001 nnnnn ddddd" "udot {d}.s, {n}.b, {m}.b[{i}]" Sve;
    /// USDOT (indexed)
    UsdotIndexedS(d: Z, n: Z, m: Z7, i: Imm<0, 3, 1>) "01000100 10 1 ii mmm 000110 nnnnn ddddd" "usdot {d}.s, {n}.b, {m}.b[{i}]" SveI8mm;
    /// SUDOT
    SudotIndexedS(d: Z, n: Z, m: Z7, i: Imm<0, 3, 1>) "01000100 10 1 ii mmm 000111 nnnnn ddddd" "sudot {d}.s, {n}.b, {m}.b[{i}]" SveI8mm;
    /// LD1B (scalar plus immediate, single register)
    Ld1bB(t: Z, g: P7, n: X, i: MulVl) "1010010 0000 0 iiii 101 ggg nnnnn ttttt" "ld1b {{ {t}.b }}, {g}/z, [{n}{i}]" Sve;
    /// LD1B (scalar plus scalar, single register)
    Ld1bIndexedB(t: Z, g: P7, n: X, m: X) "1010010 0000 mmmmm 010 ggg nnnnn ttttt" "ld1b {{ {t}.b }}, {g}/z, [{n}, {m}]" Sve;
    /// ST1B (scalar plus immediate, single register)
    St1bB(t: Z, g: P7, n: X, i: MulVl) "1110010 0000 0 iiii 111 ggg nnnnn ttttt" "st1b {{ {t}.b }}, {g}, [{n}{i}]" Sve;
    /// ST1B (scalar plus scalar, single register)
    St1bIndexedB(t: Z, g: P7, n: X, m: X) "1110010 0000 mmmmm 010 ggg nnnnn ttttt" "st1b {{ {t}.b }}, {g}, [{n}, {m}]" Sve;
    /// LD1RQB (scalar plus immediate)
    Ld1rqbB(t: Z, g: P7, n: X, i: QuadDisp) "1010010 00 00 0 iiii 001 ggg nnnnn ttttt" "ld1rqb {{ {t}.b }}, {g}/z, [{n}{i}]" Sve;
    /// LD1RQB (scalar plus scalar)
    Ld1rqbIndexedB(t: Z, g: P7, n: X, m: X) "1010010 00 00 mmmmm 000 ggg nnnnn ttttt" "ld1rqb {{ {t}.b }}, {g}/z, [{n}, {m}]" Sve;
}
