//! The check of a result against the reference in double precision.
//!
//! The bound is the standard one for sums of products, element by element: with u = 2^-24 and n = K + 2 roundings at most,
//!
//! ```text
//! |got - reference| <= gamma_n (|A| |B| + |bias|),   gamma_n = n u / (1 - n u)
//! ```
//!
//! whatever the order of the additions, with or without fused multiply-adds (Higham, *Accuracy and Stability of Numerical
//! Algorithms*, 2nd ed., section 3.1), plus n times the smallest subnormal for products that underflow. Relu moves no two
//! numbers apart. The reference's own error is 2^29 times smaller and within the one rounding that is counted too many.

use std::fmt;

use kiln_ir::{Op, Problem};

use crate::tensors::Tensors;

/// How close is close enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// Equal: for data whose sums are exact.
    Exact,
    /// Within the bound.
    Rounding,
}

/// What comparing a result with its reference found.
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

/// A wrong element.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Row and column.
    pub at: [u64; 2],
    /// What the kernel computed.
    pub got: f32,
    /// The reference.
    pub want: f64,
    /// How far from it would have been right.
    pub bound: f64,
}

impl Comparison {
    /// Whether all elements are right.
    pub fn passed(&self) -> bool {
        self.wrong == 0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Wrong { at: [row, column], got, want, bound }) = &self.first {
            write!(
                f,
                "{} of {} elements are wrong; the first, [{row}, {column}], is {got}, ",
                self.wrong, self.elements
            )?;
            return write!(f, "the f64 reference is {want} and the bound {bound:.3e}");
        }
        write!(f, "max error {:.3e}, {:.1} % of its bound", self.max_error, 100.0 * self.max_share)
    }
}

/// Compares the result in `tensors` with the reference.
pub fn compare(problem: &Problem, tensors: &Tensors, tolerance: Tolerance) -> Comparison {
    let Op::Matmul(shape) = problem.op();
    let reference = problem.reference_f64(&tensors.lhs, &tensors.rhs, tensors.bias_or_empty());
    let magnitudes = match tolerance {
        Tolerance::Exact => vec![],
        Tolerance::Rounding => magnitudes(problem, tensors),
    };
    let n = shape.k as f64 + 2.0;
    let mut found = Comparison { elements: reference.len() as u64, ..Comparison::default() };
    for (i, (&got, &want)) in tensors.dst.iter().zip(&reference).enumerate() {
        let magnitude = magnitudes.get(i).copied().unwrap_or(0.0);
        let bound = match tolerance {
            Tolerance::Exact => 0.0,
            Tolerance::Rounding => gamma(n) * magnitude + n * f64::from(f32::from_bits(1)),
        };
        if is_right(got, want, bound, magnitude) {
            let error = (f64::from(got) - want).abs();
            if error.is_finite() {
                found.max_error = found.max_error.max(error);
                found.max_share = found.max_share.max(if error > 0.0 { error / bound } else { 0.0 });
            }
        } else {
            found.wrong += 1;
            let at = [i as u64 / shape.n, i as u64 % shape.n];
            found.first.get_or_insert(Wrong { at, got, want, bound });
        }
    }
    found
}

fn gamma(n: f64) -> f64 {
    let nu = n * f64::from(f32::EPSILON) / 2.0;
    // Beyond 2^24 terms the formula says nothing; n u alone still holds (Jeannerod and Rump, "Improved error bounds for
    // inner products in floating-point arithmetic", SIAM J. Matrix Anal. Appl. 34, 2013).
    if nu < 1.0 { nu / (1.0 - nu) } else { nu }
}

/// Whether `got` is `want` as far as f32 can tell. `magnitude` is the sum of the magnitudes that were added.
fn is_right(got: f32, want: f64, bound: f64, magnitude: f64) -> bool {
    if want.is_nan() {
        return got.is_nan();
    }
    if f64::from(got) == want {
        return true;
    }
    // An infinite operand leaves nothing to be off by.
    if !bound.is_finite() {
        return false;
    }
    // A sum may have left the range of f32 on its way, or in the end.
    (f64::from(got) - want).abs() <= bound || (!got.is_finite() && magnitude + bound >= f64::from(f32::MAX))
}

/// `|A| |B| + |bias|`.
fn magnitudes(problem: &Problem, tensors: &Tensors) -> Vec<f64> {
    let abs = |values: &[f32]| values.iter().map(|v| v.abs()).collect::<Vec<_>>();
    problem.reference_f64(&abs(&tensors.lhs), &abs(&tensors.rhs), &abs(tensors.bias_or_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> (Problem, Tensors) {
        let problem: Problem = "matmul f32 2x3:3x2 +bias+relu".parse().unwrap();
        let mut t = Tensors::zeros(&problem).unwrap();
        t.fill_reals(42);
        let right = problem.reference_f64(&t.lhs, &t.rhs, t.bias_or_empty());
        t.dst.iter_mut().zip(right).for_each(|(d, r)| *d = r as f32);
        (problem, t)
    }

    #[test]
    fn the_rounded_reference_passes() {
        let (problem, t) = case();
        let found = compare(&problem, &t, Tolerance::Rounding);
        assert!(found.passed() && found.max_share < 1.0, "{found}");
    }

    #[test]
    fn an_error_beyond_the_bound_is_found() {
        for wrong in [1e-5, f32::NAN, f32::INFINITY] {
            let (problem, mut t) = case();
            t.dst[3] += wrong;
            let found = compare(&problem, &t, Tolerance::Rounding);
            assert_eq!((found.wrong, found.first.as_ref().unwrap().at), (1, [1, 1]), "{wrong}");
            assert!(found.to_string().starts_with("1 of 4 elements are wrong; the first, [1, 1]"), "{found}");
        }
    }

    #[test]
    fn exact_means_equal() {
        let (problem, mut t) = case();
        t.fill_integers(1, crate::data::Integers::exact_for(3));
        let right = problem.reference_f64(&t.lhs, &t.rhs, t.bias_or_empty());
        t.dst.iter_mut().zip(right).for_each(|(d, r)| *d = r as f32);
        assert!(compare(&problem, &t, Tolerance::Exact).passed());
        t.dst[0] = f32::from_bits(t.dst[0].to_bits() + 1);
        assert_eq!(compare(&problem, &t, Tolerance::Exact).wrong, 1);
    }

    #[test]
    fn special_values_are_as_f32_has_them() {
        assert!(is_right(f32::NAN, f64::NAN, f64::NAN, f64::NAN));
        assert!(!is_right(0.0, f64::NAN, f64::NAN, f64::NAN));
        assert!(is_right(f32::INFINITY, f64::INFINITY, f64::INFINITY, f64::INFINITY));
        assert!(!is_right(0.0, f64::INFINITY, f64::INFINITY, f64::INFINITY));
        assert!(!is_right(f32::NEG_INFINITY, f64::INFINITY, f64::INFINITY, f64::INFINITY));
        assert!(!is_right(1.0, 0.0, f64::INFINITY, f64::INFINITY));
        assert!(is_right(f32::INFINITY, 1e39, 1e32, 1e39));
        assert!(!is_right(f32::INFINITY, 1e30, 1e23, 1e30));
    }
}
