//! The operations: one row each.
//!
//! A row names the operation's fields and their [roles](super::role), and then has
//!
//! - its text, in which `{d}` stands for the field `d`;
//! - the memory it reaches, if it does: the address, the number of elements, the most of them in registers of `n` words, and whether they
//!   are converted;
//! - the instruction sets that have it, if not all do;
//! - its [`Kind`] and the [`Lanes`] of its operands that a lane of the result depends on;
//! - its meaning `|x, l, n|`: an expression for word `l` of the result, in registers of `n` words, where `x` is the [`Domain`] of values. In the
//!   expression, the name of an operand stands for the words that its register held before the operation, the name of an address for the
//!   words that are loaded from there, and the name of a number for the number.
//!
//! Printing, parsing, verifying, interpreting, checking, counting and assigning registers follow from the rows. Emitters choose the
//! instructions.

use std::fmt;

use super::operands::Operands;
use super::role::{self, Role, Rule};
use super::{Binary, Domain, Factors, Kind, Lanes, Permute, Shift, Touched, Unary};
use crate::microkernel::pieces::{Piece, pieces};
use crate::microkernel::words::{Furthest, ParseError, Words};
use crate::microkernel::{Addr, Param, V};
use crate::target::VectorIsa;
use crate::target::product::{self, Shape};

/// Makes [`Op`] of the rows.
macro_rules! operations {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty as $role:ident,)* }
        text $text:literal;
        $(touches $direction:ident $addr:ident, $elements:expr, most |$m:ident| $most:expr, $form:ident;)?
        $(exists on |$isa:ident| $exists:expr;)?
        counts $kind:expr, $lanes:expr;
        $(|$x:pat_param, $l:pat_param, $n:pat_param| $meaning:expr;)?
    )*) => {
        /// A vector operation. A register is `lanes` words of 32 bits. Words are f32 or s32, as the variant says, and f32 if it says
        /// nothing. Loads convert from the type of the parameter and stores to it: f32, bf16 and f16 are f32 in words (stores round to
        /// nearest, ties to even; NaN stays NaN), and integers are s32, so that arithmetic is that of words whatever memory holds.
        /// Where a variant says a narrower type, a word holds as many elements as fit, the first in the low bits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op {$(
            $(#[$doc])*
            $name {$(
                $(#[$field_doc])*
                $field: $type,
            )*},
        )*}

        #[allow(unused_variables)] // A row uses the fields that matter.
        impl Op {
            /// The name of each operation, in the order of the table.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The operation's name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$name { .. } => stringify!($name),)*
                }
            }

            /// The register that holds the result, if any. Accumulators are written and [used](Op::used).
            #[inline]
            pub fn defined(&self) -> Option<V> {
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(if <role::$role as Role>::EFFECT.defined {
                            return <role::$role as Role>::register($field);
                        })*
                        None
                    })*
                }
            }

            /// The register whose elements are taken one by one, if there is one: not all registers can be that.
            #[inline]
            pub fn scalars(&self) -> Option<V> {
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(if <role::$role as Role>::EFFECT.scalars {
                            return <role::$role as Role>::register($field);
                        })*
                        None
                    })*
                }
            }

            /// All that the operation does to registers.
            pub(in crate::microkernel) fn operands(&self) -> Operands {
                let mut operands = Operands::default();
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(operands.add(<role::$role as Role>::EFFECT, <role::$role as Role>::register($field));)*
                    })*
                }
                operands
            }

            /// The slot of the frame that is written or, by an operation with a result, read.
            #[inline]
            pub fn slot(&self) -> Option<u16> {
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(if let Some(slot) = <role::$role as Role>::slot($field) {
                            return Some(slot);
                        })*
                        None
                    })*
                }
            }

            /// True if the result is written before all operands are read.
            #[inline]
            pub fn is_early(&self) -> bool {
                match *self {
                    $(Op::$name { .. } => false $(|| <role::$role as Role>::EFFECT.early)*,)*
                }
            }

            /// True if the result is added to what its register held.
            #[inline]
            pub fn accumulates(&self) -> bool {
                match *self {
                    $(Op::$name { .. } => {
                        false $(|| <role::$role as Role>::EFFECT.defined && <role::$role as Role>::EFFECT.used)*
                    })*
                }
            }

            /// The same operation on the registers that `f` gives for its own.
            pub fn renamed(self, mut f: impl FnMut(V) -> V) -> Op {
                match self {
                    $(Op::$name { $($field),* } => {
                        Op::$name { $($field: <role::$role as Role>::rename($field, &mut f)),* }
                    })*
                }
            }

            /// The registers read, in operand order.
            #[inline]
            pub fn used(&self) -> impl Iterator<Item = V> + use<> {
                let mut used = [None; 3];
                match *self {
                    $(Op::$name { $($field),* } => {
                        let mut slots = used.iter_mut();
                        $(if <role::$role as Role>::EFFECT.used
                            && let Some(slot) = slots.next()
                        {
                            *slot = <role::$role as Role>::register($field);
                        })*
                    })*
                }
                used.into_iter().flatten()
            }

            /// False if the result is in the register of an operand although it is written before all operands are read.
            pub fn are_apart(&self) -> bool {
                !(self.is_early() && self.defined().is_some_and(|d| self.used().any(|u| u == d)))
            }

            /// The rule that one of the numbers breaks.
            pub fn check(&self) -> Result<(), Rule> {
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(<role::$role as Role>::check($field)?;)*
                    })*
                }
                Ok(())
            }

            /// The memory touched, if any.
            pub fn touched(&self) -> Option<Touched> {
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(return Some(Touched {
                            addr: $addr,
                            elements: $elements,
                            store: operations!(@is_store $direction),
                            raw: operations!(@is_raw $form),
                        });)?
                    })*
                }
                #[allow(unreachable_code)]
                None
            }

            /// The most that the operation can touch with registers of `n` words, as [`Touched::extent`] counts it; 0 if it touches no
            /// memory.
            pub fn most_touched(&self, n: u32) -> u32 {
                match *self {
                    $(Op::$name { .. } => {
                        $(let $m = n; return $most;)?
                    })*
                }
                #[allow(unreachable_code)]
                0
            }

            /// True if an instruction set has it, in one instruction or several.
            pub fn exists_on(&self, isa: VectorIsa) -> bool {
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(let $isa = isa; return $exists;)?
                    })*
                }
                #[allow(unreachable_code)]
                true
            }

            /// The part it has in counts.
            pub fn kind(&self) -> Kind {
                match *self {
                    $(Op::$name { $($field),* } => $kind,)*
                }
            }

            /// The lanes of its operands on which a lane of the result depends.
            pub fn lanes(&self) -> Lanes {
                match *self {
                    $(Op::$name { $($field),* } => $lanes,)*
                }
            }

            /// Computes the words of the result. `read` has the words of the registers that are [used](Op::used), in order, and
            /// `loaded` those that are loaded, from memory or a slot.
            pub(super) fn compute<D: Domain>(
                &self,
                domain: &mut D,
                read: &[Vec<D::Word>],
                loaded: &[D::Word],
                result: &mut [D::Word],
            ) -> Result<(), D::Error> {
                let mut read = read.iter();
                let words = result.len();
                match *self {
                    $(Op::$name { $($field),* } => {
                        $(let $field = <role::$role as Role>::mean($field, &mut read, loaded);)*
                        $(for (at, word) in result.iter_mut().enumerate() {
                            let ($x, $l, $n) = (&mut *domain, at, words);
                            *word = $meaning?;
                        })?
                    })*
                }
                Ok(())
            }

            /// Prints the operation, in a micro-kernel with these parameters.
            pub(in crate::microkernel) fn print(&self, params: &[Param], f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Op::$name { $($field),* } => {
                        for piece in pieces($text) {
                            match piece {
                                Piece::Text(text) => f.write_str(text)?,
                                $(Piece::Field(stringify!($field)) => <role::$role as Role>::print($field, params, f)?,)*
                                Piece::Field(name) => unreachable!("{name} is no field of {}", stringify!($name)),
                            }
                        }
                    })*
                }
                Ok(())
            }

            /// Reads the operation that all the words are.
            pub(in crate::microkernel) fn parse(words: &mut Words<'_>, params: &[Param]) -> Result<Op, ParseError> {
                let mut furthest = Furthest::default();
                $(
                    let mut rest = words.clone();
                    let mut read = || -> Result<Op, ParseError> {
                        $(let mut $field = None;)*
                        for piece in pieces($text) {
                            match piece {
                                Piece::Text(text) => rest.literal(text)?,
                                $(Piece::Field(stringify!($field)) => {
                                    $field = Some(<role::$role as Role>::parse(&mut rest, params)?);
                                })*
                                Piece::Field(name) => unreachable!("{name} is no field of {}", stringify!($name)),
                            }
                        }
                        rest.end_of_operation()?;
                        Ok(Op::$name { $($field: $field.expect("a text has all fields")),* })
                    };
                    match read() {
                        Ok(op) => {
                            *words = rest;
                            return Ok(op);
                        }
                        Err(error) => furthest.add(&rest, error),
                    }
                )*
                Err(furthest.error(words))
            }
        }
    };
    (@is_store load) => { false };
    (@is_store store) => { true };
    (@is_raw converted) => { false };
    (@is_raw raw) => { true };
}

operations! {
    /// `d = 0` in all lanes.
    Zero {
        /// Written.
        d: V as Def,
    }
    text "{d} = zero";
    counts Kind::Other, Lanes::Same;
    |x, _, _| Ok(x.constant(0));

    /// `d = bits` in all lanes.
    Const {
        /// Written.
        d: V as Def,
        /// The word.
        bits: u32 as Bits,
    }
    text "{d} = const {bits}";
    counts Kind::Other, Lanes::Same;
    |x, _, _| Ok(x.constant(bits));

    /// `d[0..lanes] = src[..]`, the other lanes 0. `lanes` is between 1 and the vector length.
    Load {
        /// Written.
        d: V as Def,
        /// Source.
        src: Addr as Place,
        /// Elements.
        lanes: u16 as Elements,
    }
    text "{d} = load {src} {lanes}";
    touches load src, lanes, most |n| n, converted;
    counts Kind::Load, Lanes::Same;
    |_, l, _| Ok(src[l]);

    /// `d[l] = src[l % 4]` for `l % 4 < count`, 0 elsewhere: up to 4 scalars, repeated in each 128 bits of the register.
    LoadLanes {
        /// Written.
        d: V as Def,
        /// Source.
        src: Addr as Place,
        /// Scalars read, 1..=4.
        count: u8 as Few,
    }
    text "{d} = loadlanes {src} {count}";
    touches load src, count.into(), most |_n| 4, converted;
    counts Kind::Load, Lanes::Same;
    |_, l, _| Ok(src[l % 4]);

    /// `d[..] = src[0]`.
    Broadcast {
        /// Written.
        d: V as Def,
        /// Source.
        src: Addr as Place,
    }
    text "{d} = broadcast {src}";
    touches load src, 1, most |_n| 1, converted;
    counts Kind::Load, Lanes::Same;
    |_, _, _| Ok(src[0]);

    /// `dst[..] = s[0..lanes]`. Exactly `lanes` elements are written.
    Store {
        /// Read.
        s: V as Use,
        /// Destination.
        dst: Addr as Place,
        /// Elements.
        lanes: u16 as Elements,
    }
    text "store {dst}, {s} {lanes}";
    touches store dst, lanes, most |n| n, converted;
    counts Kind::Store, Lanes::Same;

    /// `elements` of at most two bytes, as many as fit in the register, as they are in memory, the rest of the register 0.
    LoadRaw {
        /// Written.
        d: V as Def,
        /// Source.
        src: Addr as Place,
        /// Elements.
        elements: u16 as Elements,
    }
    text "{d} = loadraw {src} {elements}";
    touches load src, elements, most |n| n.saturating_mul(4), raw;
    counts Kind::Load, Lanes::Same;
    |_, l, _| Ok(src[l]);

    /// `elements` of at most two bytes, 16 bytes at the most, as they are in memory, zeros behind them, repeated in each 128 bits of
    /// the register.
    LoadRawQuad {
        /// Written.
        d: V as Def,
        /// Source.
        src: Addr as Place,
        /// Elements.
        elements: u16 as Elements,
    }
    text "{d} = loadrawquad {src} {elements}";
    touches load src, elements, most |_n| 16, raw;
    exists on |isa| isa.is_a64();
    counts Kind::Load, Lanes::Same;
    |_, l, _| Ok(src[l % 4]);

    /// `elements` of at most two bytes, a word at the most, as they are in memory, zeros behind them, repeated in each word of the
    /// register.
    BroadcastRaw {
        /// Written.
        d: V as Def,
        /// Source.
        src: Addr as Place,
        /// Elements.
        elements: u16 as Elements,
    }
    text "{d} = broadcastraw {src} {elements}";
    touches load src, elements, most |_n| 4, raw;
    exists on |isa| isa.is_x86();
    counts Kind::Load, Lanes::Same;
    |_, _, _| Ok(src[0]);

    /// The first `elements` of at most two bytes of the register, as many as it holds, as they are.
    StoreRaw {
        /// Read.
        s: V as Use,
        /// Destination.
        dst: Addr as Place,
        /// Elements.
        elements: u16 as Elements,
    }
    text "storeraw {dst}, {s} {elements}";
    touches store dst, elements, most |n| n.saturating_mul(4), raw;
    counts Kind::Store, Lanes::Same;

    /// `d = d + a * b`, fused.
    Fma {
        /// Accumulator.
        d: V as Acc,
        /// Factor.
        a: V as Use,
        /// Factor.
        b: V as Use,
    }
    text "{d} += {a} * {b}";
    counts Kind::Product(4), Lanes::Same;
    |x, l, _| Ok(x.fma(a[l], b[l], d[l]));

    /// `d = d + a * b` of s32, of which the low 32 bits stay.
    Mla {
        /// Accumulator.
        d: V as Acc,
        /// Factor.
        a: V as Use,
        /// Factor.
        b: V as Use,
    }
    text "{d} = mla {a}, {b}";
    counts Kind::Product(4), Lanes::Same;
    |x, l, _| Ok(x.mla(a[l], b[l], d[l]));

    /// `d[l] = d[l] + a[l] * b[l / 4 * 4 + lane]`, fused: multiply-add by element.
    FmaLane {
        /// Accumulator.
        d: V as Acc,
        /// Vector factor.
        a: V as Use,
        /// Register of repeated scalars.
        b: V as Scalars,
        /// The index of the scalar, 0 to 3.
        lane: u8 as Lane,
    }
    text "{d} += {a} * {b}.lane[{lane}]";
    exists on |isa| isa.is_a64();
    counts Kind::Product(4), Lanes::Any;
    |x, l, _| Ok(x.fma(a[l], b[l / 4 * 4 + usize::from(lane)], d[l]));

    /// `d = f(a, b)`, lane by lane.
    Binary {
        /// Operation.
        f: Binary as BinaryWord,
        /// Written.
        d: V as Def,
        /// First operand.
        a: V as Use,
        /// Second operand.
        b: V as Use,
    }
    text "{d} = {f} {a}, {b}";
    counts if f.is_arithmetic() { Kind::Arithmetic } else { Kind::Other }, Lanes::Same;
    |x, l, _| Ok(x.binary(f, a[l], b[l]));

    /// `d = f(a)`, lane by lane.
    Unary {
        /// Operation.
        f: Unary as UnaryWord,
        /// Written.
        d: V as Def,
        /// Operand.
        a: V as Use,
    }
    text "{d} = {f} {a}";
    counts if f.is_arithmetic() { Kind::Arithmetic } else { Kind::Other }, Lanes::Same;
    |x, l, _| Ok(x.unary(f, a[l]));

    /// `d = a` shifted by `by` bits, lane by lane.
    Shift {
        /// Direction.
        f: Shift as ShiftWord,
        /// Written.
        d: V as Def,
        /// Operand.
        a: V as Use,
        /// Bits, 1..=31.
        by: u8 as ShiftBy,
    }
    text "{d} = {f} {a}, {by}";
    counts Kind::Other, Lanes::Same;
    |x, l, _| Ok(x.shift(f, a[l], by));

    /// `d = [a0 + a1, a2 + a3, .., b0 + b1, b2 + b3, ..]`. `d` may be `a` or `b`.
    PairAdd {
        /// Written.
        d: V as Def,
        /// First half.
        a: V as Use,
        /// Second half.
        b: V as Use,
    }
    text "{d} = pairadd {a}, {b}";
    counts Kind::Arithmetic, Lanes::Any;
    |x, l, n| {
        let (from, l) = if l < n / 2 { (a, l) } else { (b, l - n / 2) };
        Ok(x.binary(Binary::Add, from[2 * l], from[2 * l + 1]))
    };

    /// BFMMLA and its like: in each 128 bits, `a` holds two rows of two words of factors, `b` two columns of them, and their product is
    /// added to the 2x2 matrix of sums by rows in `d`. Products of bf16 round as the architecture says without FEAT_EBF16.
    Mmla {
        /// Types of the factors.
        f: Factors as FactorsWord,
        /// Accumulator.
        d: V as Acc,
        /// Two rows.
        a: V as Use,
        /// Two columns.
        b: V as Use,
    }
    text "{d} = mmla {f} {a}, {b}";
    exists on |isa| product::exists_on(isa, Shape::Blocks, f);
    counts Kind::Product(8 * f.per_word() as u64), Lanes::Any;
    |x, l, _| {
        let quad = l / 4 * 4;
        let (row, column) = (quad + l % 4 / 2 * 2, quad + l % 2 * 2);
        x.dot(f, &a[row..row + 2], &b[column..column + 2], d[l])
    };

    /// `d[l]` plus the products of the factors in `a[l]` and `b[l]`, of which a word holds several. Products of bf16 (BFDOT) round as the
    /// architecture says without FEAT_EBF16.
    Dot {
        /// Types of the factors.
        f: Factors as FactorsWord,
        /// Accumulator.
        d: V as Acc,
        /// Factors.
        a: V as Use,
        /// Factors.
        b: V as Use,
    }
    text "{d} = dot {f} {a}, {b}";
    exists on |isa| product::exists_on(isa, Shape::Words, f);
    counts Kind::Product(4 * f.per_word() as u64), Lanes::Same;
    |x, l, _| x.dot(f, &a[l..l + 1], &b[l..l + 1], d[l]);

    /// A dot product by element: as [`Dot`](Op::Dot) with word `lane` of the same 128 bits of `b` in place of word `l`.
    DotLane {
        /// Types of the factors.
        f: Factors as FactorsWord,
        /// Accumulator.
        d: V as Acc,
        /// Factors.
        a: V as Use,
        /// Register of repeated words.
        b: V as Scalars,
        /// The index of the word, 0 to 3.
        lane: u8 as Lane,
    }
    text "{d} = dot {f} {a}, {b}.lane[{lane}]";
    exists on |isa| isa.is_a64() && product::exists_on(isa, Shape::Words, f);
    counts Kind::Product(4 * f.per_word() as u64), Lanes::Any;
    |x, l, _| {
        let word = l / 4 * 4 + usize::from(lane);
        x.dot(f, &a[l..l + 1], &b[word..word + 1], d[l])
    };

    /// The f32 of `a`, then those of `b`, rounded to bf16: `d` holds `2 * lanes` of them. `d` is neither `a` nor `b`.
    Narrow {
        /// Written.
        d: V as Early,
        /// First half.
        a: V as Use,
        /// Second half.
        b: V as Use,
    }
    text "{d} = narrow {a}, {b}";
    exists on |isa| isa.is_a64();
    counts Kind::Other, Lanes::Any;
    |x, l, n| {
        let word = |i: usize| if i < n { a[i] } else { b[i - n] };
        let halves = [x.round(word(2 * l))?, x.round(word(2 * l + 1))?];
        Ok(x.join(halves))
    };

    /// The f32 of `a` and `b`, alternating, rounded to bf16: word `l` of `d` is `(a[l], b[l])`. `d` is neither `a` nor `b`.
    NarrowPairs {
        /// Written.
        d: V as Early,
        /// Low halves of words.
        a: V as Use,
        /// High halves of words.
        b: V as Use,
    }
    text "{d} = narrowpairs {a}, {b}";
    exists on |isa| isa.is_a64();
    counts Kind::Other, Lanes::Same;
    |x, l, _| {
        let halves = [x.round(a[l])?, x.round(b[l])?];
        Ok(x.join(halves))
    };

    /// The register, kept in a slot of the function's frame.
    Spill {
        /// Read.
        s: V as Use,
        /// The slot's number.
        slot: u16 as Slot,
    }
    text "spill {slot}, {s}";
    counts Kind::Store, Lanes::Same;

    /// The register that was last kept in the slot.
    Reload {
        /// Written.
        d: V as Def,
        /// The slot's number.
        slot: u16 as Slot,
    }
    text "{d} = reload {slot}";
    counts Kind::Load, Lanes::Same;
    |_, l, _| Ok(slot[l]);

    /// A permutation by elements of 8, 16, 32 or 64 bits. `d` may be `a` or `b`.
    Permute {
        /// Permutation.
        f: Permute as PermuteWord,
        /// Bits of an element.
        bits: u8 as ElementBits,
        /// Written.
        d: V as Def,
        /// First operand.
        a: V as Use,
        /// Second operand.
        b: V as Use,
    }
    text "{d} = {f} {a}, {b} by {bits}";
    exists on |isa| match isa {
        VectorIsa::Neon | VectorIsa::Sve => true,
        VectorIsa::Avx512 | VectorIsa::Avx2 => bits >= 32 || f == Permute::TrnEven,
    };
    counts Kind::Other, Lanes::Any;
    |x, l, n| x.permuted((f, bits), [a, b], l, n);
}
