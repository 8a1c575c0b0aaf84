//! Operations that do the same to each lane: two tables, and shifts. A row has the word in texts, the meaning on the bits of a lane, and
//! what the cost model and the checker have to know. The instructions are in `emit/lanewise.rs`.

/// Tells what a word of a row says.
macro_rules! says {
    (numbers) => {
        true
    };
    (bits) => {
        false
    };
    (commutes) => {
        true
    };
    (ordered) => {
        false
    };
}

/// Makes [`Binary`] of the rows.
macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $word:literal $kind:ident $order:ident $meaning:expr;)*) => {
        /// A lanewise operation of two operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Binary {$(
            $(#[$doc])*
            $name,
        )*}

        impl Binary {
            /// Every operation with its word in texts.
            pub const ALL: &'static [(&'static str, Binary)] = &[$(($word, Binary::$name)),*];

            /// True if the operands are numbers, not bits.
            pub fn is_arithmetic(self) -> bool {
                match self {$(
                    Binary::$name => says!($kind),
                )*}
            }

            /// True if the operands may be exchanged.
            pub fn commutes(self) -> bool {
                match self {$(
                    Binary::$name => says!($order),
                )*}
            }

            /// The result in one lane.
            #[inline]
            pub fn compute(self, a: u32, b: u32) -> u32 {
                match self {$(
                    Binary::$name => $kind::binary(a, b, $meaning),
                )*}
            }

            /// The results in many lanes, by a loop for each operation, which vectorizes. Inlined, so that a caller may enable instructions.
            #[inline(always)]
            pub fn compute_all<const N: usize>(self, a: &[u32; N], b: &[u32; N]) -> [u32; N] {
                match self {$(
                    Binary::$name => std::array::from_fn(|l| $kind::binary(a[l], b[l], $meaning)),
                )*}
            }
        }
    };
}

/// Makes [`Unary`] of the rows.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $word:literal $kind:ident $meaning:expr;)*) => {
        /// A lanewise operation of one operand.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Unary {$(
            $(#[$doc])*
            $name,
        )*}

        impl Unary {
            /// Every operation with its word in texts.
            pub const ALL: &'static [(&'static str, Unary)] = &[$(($word, Unary::$name)),*];

            /// True if the operand is a number, not bits.
            pub fn is_arithmetic(self) -> bool {
                match self {$(
                    Unary::$name => says!($kind),
                )*}
            }

            /// The result in one lane.
            #[inline]
            pub fn compute(self, a: u32) -> u32 {
                match self {$(
                    Unary::$name => $kind::unary(a, $meaning),
                )*}
            }

            /// The results in many lanes, as those of [`Binary::compute_all`].
            #[inline(always)]
            pub fn compute_all<const N: usize>(self, a: &[u32; N]) -> [u32; N] {
                match self {$(
                    Unary::$name => std::array::from_fn(|l| $kind::unary(a[l], $meaning)),
                )*}
            }
        }
    };
}

binary! {
    /// `a + b`.
    Add "add" numbers commutes |x, y| x + y;
    /// `a - b`.
    Sub "sub" numbers ordered |x, y| x - y;
    /// `a * b`.
    Mul "mul" numbers commutes |x, y| x * y;
    /// `a / b`, correctly rounded.
    Div "div" numbers ordered |x, y| x / y;
    /// The greater; NaN if either is NaN. Of +0 and -0 either.
    Max "max" numbers commutes maximum;
    /// The smaller; NaN if either is NaN. Of +0 and -0 either.
    Min "min" numbers commutes |x, y| -maximum(-x, -y);
    /// `a + b` on the bits as 32-bit integers, wrapping.
    IAdd "iadd" bits commutes u32::wrapping_add;
    /// `a - b` on the bits as 32-bit integers, wrapping.
    ISub "isub" bits ordered u32::wrapping_sub;
    /// Bitwise and.
    And "and" bits commutes |a, b| a & b;
    /// Bitwise or.
    Or "or" bits commutes |a, b| a | b;
    /// Bitwise exclusive or.
    Xor "xor" bits commutes |a, b| a ^ b;
}

unary! {
    /// The operand.
    Move "move" bits |a| a;
    /// The square root, correctly rounded; NaN below zero.
    Sqrt "sqrt" numbers f32::sqrt;
    /// Without the sign bit.
    Abs "abs" bits |a| a & (u32::MAX >> 1);
}

/// A lanewise shift of the bits as 32-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shift {
    /// To the left, zeros from the right.
    Left,
    /// To the right, copies of the sign bit from the left.
    RightSigned,
}

impl Shift {
    /// Every shift with its word in texts.
    pub const ALL: &'static [(&'static str, Shift)] = &[("shl", Shift::Left), ("sra", Shift::RightSigned)];

    /// The result in one lane.
    #[inline]
    pub fn compute(self, a: u32, by: u8) -> u32 {
        let by = u32::from(by).min(31);
        match self {
            Shift::Left => a << by,
            Shift::RightSigned => (a.cast_signed() >> by).cast_unsigned(),
        }
    }
}

/// Operations on f32.
mod numbers {
    #[inline(always)]
    pub fn binary(a: u32, b: u32, f: impl Fn(f32, f32) -> f32) -> u32 {
        f(f32::from_bits(a), f32::from_bits(b)).to_bits()
    }

    #[inline(always)]
    pub fn unary(a: u32, f: impl Fn(f32) -> f32) -> u32 {
        f(f32::from_bits(a)).to_bits()
    }
}

/// Operations on bits.
mod bits {
    #[inline(always)]
    pub fn binary(a: u32, b: u32, f: impl Fn(u32, u32) -> u32) -> u32 {
        f(a, b)
    }

    #[inline(always)]
    pub fn unary(a: u32, f: impl Fn(u32) -> u32) -> u32 {
        f(a)
    }
}

/// IEEE 754 `maximum`: NaN if either is NaN, and +0 is greater than -0. ([`f32::max`] ignores a NaN.)
#[inline(always)]
fn maximum(x: f32, y: f32) -> f32 {
    if x.is_nan() || y.is_nan() {
        x + y
    } else if x > y || (x == y && x.is_sign_positive()) {
        x
    } else {
        y
    }
}

#[cfg(test)]
mod tests {
    use super::maximum;

    #[test]
    fn max_propagates_nan_and_orders_zeros() {
        assert!(maximum(f32::NAN, 1.0).is_nan() && maximum(1.0, f32::NAN).is_nan());
        for (x, y) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(maximum(x, y).is_sign_positive());
        }
        assert!(maximum(-0.0f32, -0.0).is_sign_negative());
        assert_eq!((maximum(-3.0, 2.0), maximum(2.0, -3.0)), (2.0, 2.0));
    }
}
