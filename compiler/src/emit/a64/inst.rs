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

/// The architecture extension that an instruction needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// In every Armv8-A core.
    Base,
    /// `FEAT_SVE`.
    Sve,
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

/// Whether the next character after spaces is `letter`.
const fn continues(text: &[u8], mut i: usize, letter: u8) -> bool {
    while i < text.len() && text[i] == b' ' {
        i += 1;
    }
    i < text.len() && text[i] == letter
}

/// Whether every character of the encoding is a digit, a space or one of `letters`.
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

            /// What a core must have to execute it.
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
}
