//! The check of a result against the reference in double precision, with [`Problem::reference`]'s bound of each element.

use std::borrow::Cow;
use std::fmt;

use kiln_ir::{DType, Problem, Sums};

use crate::tensors::Tensors;

/// The comparison of a result with its reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Elements compared.
    pub elements: u64,
    /// Elements that are too far from the reference.
    pub wrong: u64,
    /// The largest error of an element.
    pub max_error: f64,
    /// The largest error in units of the element's bound; 0 for exact data.
    pub max_share: f64,
    /// The first wrong element.
    pub first: Option<Wrong>,
}

/// A place in the memory of a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// An element, by its index along each dimension.
    Element(Vec<u64>),
    /// A gap between elements, so many from the first.
    Gap(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Element(index) => write!(f, "{index:?}"),
            Place::Gap(at) => write!(f, "in a gap {at} elements from the first"),
        }
    }
}

/// A wrong element.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Where it is.
    pub at: Place,
    /// The kernel's result.
    pub got: f64,
    /// The reference.
    pub want: f64,
    /// The largest error that would have been accepted.
    pub bound: f64,
}

impl Comparison {
    /// True if all elements are right.
    pub fn passed(&self) -> bool {
        self.wrong == 0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Wrong { at, got, want, bound }) = &self.first {
            write!(f, "{} of {} elements are wrong; the first, {at}, is ", self.wrong, self.elements)?;
            // As short as an f32 is, if it is one.
            let short = *got as f32;
            if f64::from(short) == *got {
                write!(f, "{short}, ")?
            } else {
                write!(f, "{got}, ")?
            }
            return write!(f, "the f64 reference is {want} and the bound {bound:.3e}");
        }
        write!(f, "max error {:.3e}, {:.1} % of its bound", self.max_error, 100.0 * self.max_share)
    }
}

/// Compares the result in `tensors` with the reference; `sums` says if sums of this data are exact.
pub fn compare(problem: &Problem, tensors: &Tensors, sums: Sums) -> Comparison {
    let values = tensors.values();
    let slices: Vec<&[f32]> = values.iter().map(Cow::as_ref).collect();
    let reference = problem.reference(&slices, sums);
    let dst = tensors.dst.values.to_f64();
    // Gaps between elements must hold what they did, so they are compared too.
    let mut found = Comparison { elements: tensors.dst.operand.len(), ..Comparison::default() };
    for (i, ((got, want), bound)) in dst.zip(reference.value).zip(reference.bound).enumerate() {
        // f16 may overflow where f32 does not. Then the bound is infinite, and says nothing.
        let is_unbounded = bound.is_infinite() && tensors.dst.operand.dtype == DType::F16;
        if is_unbounded || is_right(got, want, bound) {
            let error = (got - want).abs();
            if error.is_finite() {
                found.max_error = found.max_error.max(error);
                found.max_share = found.max_share.max(if error > 0.0 { error / bound } else { 0.0 });
            }
        } else {
            found.wrong += 1;
            found.first.get_or_insert_with(|| Wrong { at: place(tensors, i as u64), got, want, bound });
        }
    }
    found
}

/// The element that is `at` places behind the result's first, in words.
pub fn place(tensors: &Tensors, at: u64) -> Place {
    tensors.dst.operand.index_at(at).map_or(Place::Gap(at), Place::Element)
}

/// True if `got` is as close to `want` as the bound allows in f32.
fn is_right(got: f64, want: f64, bound: f64) -> bool {
    const MAX: f64 = f32::MAX as f64;
    if want.is_nan() {
        return got.is_nan();
    }
    if got == want || (got - want).abs() <= bound && bound.is_finite() {
        return true;
    }
    // A value may have left the range of f32 in the end, or on its way: a bound of one rounding of the largest number says
    // that terms were as large.
    let range_was_left = want.abs() + bound >= MAX || bound >= MAX * f64::from(f32::EPSILON);
    !got.is_finite() && want.is_finite() && range_was_left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A problem with the right result.
    fn case(text: &str, fill: impl Fn(&mut Tensors), sums: Sums) -> (Problem, Tensors) {
        let problem: Problem = text.parse().unwrap();
        let mut t = Tensors::zeros(&problem).unwrap();
        fill(&mut t);
        let values: Vec<Vec<f32>> = t.values().iter().map(|v| v.to_vec()).collect();
        let slices: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let right = problem.reference(&slices, sums).value;
        t.dst.values.fill_from(right.into_iter().map(|v| v as f32));
        (problem, t)
    }

    fn reals(text: &str) -> (Problem, Tensors) {
        case(text, |t| t.fill_reals(42), Sums::Rounded)
    }

    const SMALL: &str = "matmul f32 2x3:3x2 +bias+relu";

    #[test]
    fn the_rounded_reference_passes() {
        for text in [SMALL, "ip bf16 mb2ic5oc4 beta=1 +bias+gelu_erf", "matmul f32 3x2x4:1x4x5 dtag=acb fpmath=bf16"] {
            let (problem, t) = reals(text);
            let found = compare(&problem, &t, Sums::Rounded);
            assert!(found.passed() && found.max_share < 1.0, "{found}");
        }
    }

    #[test]
    fn an_error_beyond_the_bound_is_found() {
        for wrong in [1e-5, f32::NAN, f32::INFINITY] {
            let (problem, mut t) = reals(SMALL);
            let right = t.dst.values.to_f32()[3];
            t.dst.values.set(3, right + wrong);
            let found = compare(&problem, &t, Sums::Rounded);
            assert_eq!((found.wrong, &found.first.as_ref().unwrap().at), (1, &Place::Element(vec![1, 1])), "{wrong}");
            assert!(found.to_string().starts_with("1 of 4 elements are wrong; the first, [1, 1]"), "{found}");
        }
        let (problem, mut t) = reals("matmul f32 2x2x3:2x3x4 dtag=acb");
        t.dst.values.set(1, 9.0);
        assert_eq!(compare(&problem, &t, Sums::Rounded).first.unwrap().at, Place::Element(vec![0, 1, 0]));
        let (problem, mut t) = reals("matmul f32 2x3:3x4 strides=::7x1 beta=1");
        t.dst.values.set(5, 9.0);
        let found = compare(&problem, &t, Sums::Rounded);
        assert_eq!((found.wrong, &found.first.as_ref().unwrap().at), (1, &Place::Gap(5)));
        assert!(found.to_string().starts_with("1 of 8 elements are wrong; the first, in a gap 5 elements"), "{found}");
    }

    #[test]
    fn results_of_f16_may_overflow() {
        let close = |t: &mut Tensors| [0, 1].into_iter().for_each(|n| t.inputs[n].values.set(0, 1.0));
        let (problem, mut t) = case("matmul f16 1x1:1x1 +scale:65510", close, Sums::Rounded);
        for result in [65504.0, f32::INFINITY] {
            t.dst.values.set(0, result);
            assert!(compare(&problem, &t, Sums::Rounded).passed(), "{result}");
        }
    }

    #[test]
    fn exact_means_equal() {
        let integers = |t: &mut Tensors| t.fill_integers(1, crate::data::Integers::exact_for(3));
        let (problem, mut t) = case(SMALL, integers, Sums::Exact);
        assert!(compare(&problem, &t, Sums::Exact).passed());
        let first = t.dst.values.to_f32()[0];
        t.dst.values.set(0, f32::from_bits(first.to_bits() + 1));
        assert_eq!(compare(&problem, &t, Sums::Exact).wrong, 1);
    }

    #[test]
    fn special_values_are_as_f32_has_them() {
        let inf = f64::INFINITY;
        assert!(is_right(f64::NAN, f64::NAN, f64::NAN));
        assert!(!is_right(0.0, f64::NAN, f64::NAN));
        assert!(is_right(f64::INFINITY, inf, inf));
        assert!(!is_right(0.0, inf, inf));
        assert!(!is_right(f64::NEG_INFINITY, inf, inf));
        assert!(!is_right(1.0, 0.0, inf));
        assert!(is_right(f64::INFINITY, 1e39, 1e32));
        assert!(is_right(f64::NAN, 1.0, 1e33), "terms were near the largest number");
        assert!(!is_right(f64::INFINITY, 1e30, 1e23));
    }
}
