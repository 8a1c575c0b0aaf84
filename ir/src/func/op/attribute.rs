//! Settings of operations as text: `{axis=1 epsilon=0.00001}`.

use std::sync::Arc;

use super::super::Func;
use super::super::element::{ElementType, Real};
use super::super::types::TensorType;
use crate::problem::{Problem, ProblemError};

/// A type of setting, with its text.
pub trait Attribute: Sized {
    /// What messages call it.
    const WHAT: &'static str;
    /// The text, without blanks unless it is in quotes.
    fn print(&self) -> String;
    /// The value of a text, or what is wrong with it.
    fn parse(text: &str) -> Result<Self, String>;
}

fn expected<T: Attribute>() -> String {
    format!("expected {}", T::WHAT)
}

/// Types whose `Display` and `FromStr` are their text.
macro_rules! plain {
    ($($ty:ty: $what:literal),*) => { $(
        impl Attribute for $ty {
            const WHAT: &'static str = $what;

            fn print(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| expected::<Self>())
            }
        }
    )* };
}
plain!(u64: "a number from 0", i64: "an integer", bool: "`true` or `false`", ElementType: "a type of elements");

impl Attribute for Real {
    const WHAT: &'static str = "a number";

    fn print(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The text of a NaN has neither sign nor payload.
        let value: f64 = text.parse().map_err(|_| expected::<Self>())?;
        Ok(Real(if value.is_nan() { f64::NAN } else { value }))
    }
}

impl Attribute for Box<Problem> {
    const WHAT: &'static str = "a problem in quotes";

    fn print(&self) -> String {
        format!("\"{self}\"")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(expected::<Self>)?;
        quoted.parse().map(Box::new).map_err(|e: ProblemError| e.to_string())
    }
}

impl Attribute for TensorType {
    const WHAT: &'static str = "a type such as `f32[2x3]`";

    fn print(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.strip_suffix(']').and_then(|text| text.split_once('[')).ok_or_else(expected::<Self>)?;
        let element: ElementType = parts.0.parse().map_err(|_| expected::<Self>())?;
        let dims = if parts.1.is_empty() { vec![] } else { parts.1.split('x').collect() };
        let dims = dims.into_iter().map(|d| d.parse().map_err(|_| expected::<Self>()));
        TensorType::new(element, dims.collect::<Result<Vec<u64>, _>>()?).map_err(|e| e.to_string())
    }
}

impl Attribute for Arc<Func> {
    const WHAT: &'static str = "a function such as `func @body(%x: f32[2]) -> f32[2] { return %x }`";

    /// Lines after the first are indented as those of an operation in a function.
    fn print(&self) -> String {
        self.to_string().trim_end().replace('\n', "\n  ")
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Arc::new).map_err(|e: super::super::FuncError| e.to_string())
    }
}

/// Lists: `[2,2]`.
macro_rules! lists {
    ($($ty:ty: $what:literal),*) => { $(
        impl Attribute for Vec<$ty> {
            const WHAT: &'static str = $what;

            fn print(&self) -> String {
                format!("[{}]", self.iter().map(|v| v.to_string()).collect::<Vec<_>>().join(","))
            }

            fn parse(text: &str) -> Result<Self, String> {
                let list = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
                match list.ok_or_else(expected::<Self>)? {
                    "" => Ok(vec![]),
                    list => list.split(',').map(|v| v.parse().map_err(|_| expected::<Self>())).collect(),
                }
            }
        }
    )* };
}
lists!(u64: "numbers such as `[2,2]`", i64: "integers such as `[1,-1]`");

/// Settings that are words: an enumeration with a name for each variant.
macro_rules! words {
    ($(#[$doc:meta])* $ty:ident: $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $ty { $($(#[$variant_doc])* $variant),* }

        impl Attribute for $ty {
            const WHAT: &'static str = $what;

            fn print(&self) -> String {
                match self { $($ty::$variant => $word.into()),* }
            }

            fn parse(text: &str) -> Result<Self, String> {
                match text { $($word => Ok($ty::$variant),)* _ => Err(expected::<Self>()) }
            }
        }
    };
}

words! {
    /// What a reduction makes of many elements.
    ReduceKind: "a reduction" {
        /// Their sum.
        Sum = "sum",
        /// Their mean.
        Mean = "mean",
        /// The greatest.
        Max = "max",
        /// The least.
        Min = "min",
        /// Their product.
        Prod = "prod",
        /// The sum of their magnitudes.
        L1 = "l1",
        /// The root of the sum of their squares.
        L2 = "l2",
        /// The sum of their squares.
        SumSquare = "sum_square",
        /// The logarithm of the sum of their exponentials.
        LogSumExp = "log_sum_exp",
    }
}

words! {
    /// What a pool makes of the elements in a window.
    PoolKind: "`max`, `average`, `average_padded` or `lp`" {
        /// The greatest, padding aside.
        Max = "max",
        /// Their mean, padding aside.
        Average = "average",
        /// Their mean, padding counted as zeros.
        AveragePadded = "average_padded",
        /// The p-th root of the sum of the p-th powers of their magnitudes.
        Lp = "lp",
    }
}

words! {
    /// What is put around a tensor.
    PadMode: "`constant`, `reflect`, `edge` or `wrap`" {
        /// A constant.
        Constant = "constant",
        /// The tensor mirrored at its outermost elements, which are not repeated.
        Reflect = "reflect",
        /// The outermost elements.
        Edge = "edge",
        /// The tensor again.
        Wrap = "wrap",
    }
}

words! {
    /// What becomes of an element and one that is scattered to its place.
    Merge: "`replace`, `add`, `mul`, `max` or `min`" {
        /// The new one.
        Replace = "replace",
        /// Their sum.
        Add = "add",
        /// Their product.
        Mul = "mul",
        /// The greater.
        Max = "max",
        /// The lesser.
        Min = "min",
    }
}

words! {
    /// What an image is between its pixels.
    Sampling: "`nearest`, `linear` or `cubic`" {
        /// The nearest pixel, ties to even.
        Nearest = "nearest",
        /// Linear between neighbours along each axis.
        Linear = "linear",
        /// Cubic between four neighbours along each axis, with the parameter -0.75.
        Cubic = "cubic",
    }
}

words! {
    /// What an image is outside of its borders.
    Outside: "`zeros`, `border` or `reflection`" {
        /// Zero.
        Zeros = "zeros",
        /// The outermost pixels.
        Border = "border",
        /// The image mirrored at its borders.
        Reflection = "reflection",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_again() {
        fn same<T: Attribute + PartialEq + std::fmt::Debug>(value: T, text: &str) {
            assert_eq!(value.print(), text);
            assert_eq!(T::parse(text), Ok(value));
        }
        same(7u64, "7");
        same(vec![1u64, 2], "[1,2]");
        same(Vec::<i64>::new(), "[]");
        same(Real(f64::NEG_INFINITY), "-inf");
        same(Real(1e-5), "0.00001");
        same(ReduceKind::LogSumExp, "log_sum_exp");
        same(Box::new("matmul f32 1x2:2x3 +bias".parse::<Problem>().unwrap()), "\"matmul f32 1x2:2x3 +bias\"");
        assert_eq!(PadMode::parse("mirror"), Err("expected `constant`, `reflect`, `edge` or `wrap`".into()));
        assert_eq!(Vec::<u64>::parse("[1,]"), Err("expected numbers such as `[2,2]`".into()));
        assert!(Box::<Problem>::parse("\"matmul f32 1x2:2x3 beta=1 beta=0\"").unwrap_err().contains("`beta`"));
    }
}
