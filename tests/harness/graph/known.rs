//! The magnitudes of elements, and the distance that a network's results may have from its function's.

use kiln_ir::func::ElementType;

/// A rounding to f32, relative.
const U: f64 = 1.0 / (1 << 24) as f64;
/// The error of an approximated function, relative to its greatest result.
const APPROXIMATION: f64 = 64.0 * U;
/// The error of a sum of so many as a graph has, whose terms are exact and whose partial sums are not.
const SUM: f64 = 256.0 * U;
/// Errors beyond these, the latter relative to the magnitude, would hide mistakes.
const MOST_ERROR: f64 = 0.1;
const MOST_RELATIVE: f64 = 1e-3;

/// Facts about the elements of a value, whatever the arguments are.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// No magnitude is larger.
    pub most: f64,
    /// Elements that are computed may be so far from what they mean; 0 if they are the same.
    pub error: f64,
    /// Elements are whole multiples of two to the power of minus this, where they are exact.
    pub digits: i32,
    /// No element is negative.
    pub is_positive: bool,
}

impl Known {
    /// Of integers that arguments and constants have.
    pub(super) fn small(element: ElementType) -> Self {
        let most = if element == ElementType::Bool { 1.0 } else { 3.0 };
        let is_positive = element == ElementType::Bool || element.range().is_some_and(|(low, _)| low == 0.0);
        Known { is_positive, ..Known::integers(most) }
    }

    /// Of integers up to a magnitude.
    pub(super) fn integers(most: f64) -> Self {
        Known { most, error: 0.0, digits: 0, is_positive: false }
    }

    /// Of one number, which counts as rounded if it has more than a few binary digits behind the point.
    pub(super) fn number(value: f64) -> Self {
        let most = value.abs();
        let known = Known { most, error: 0.0, digits: 0, is_positive: value >= 0.0 };
        match (0..=3).find(|digits| (value * 2f64.powi(*digits)).fract() == 0.0) {
            Some(digits) => Known { digits, ..known },
            None => known.rounded(),
        }
    }

    /// Of numbers that are positive or 0.
    pub(super) fn positive(self) -> Self {
        Known { is_positive: true, ..self }
    }

    /// Of numbers that may be negative.
    pub(super) fn signed(self) -> Self {
        Known { is_positive: false, ..self }
    }

    /// True if elements are what they mean.
    pub fn is_exact(&self) -> bool {
        self.error == 0.0
    }

    /// As elements of a type; `None` if it does not hold them, or their error is too large.
    pub(super) fn of_type(self, element: ElementType) -> Option<Self> {
        let holds = |bits: i32| self.most * 2f64.powi(self.digits) <= 2f64.powi(bits);
        let known = match element {
            ElementType::F32 if self.is_exact() && holds(24) => self,
            ElementType::F32 if self.is_exact() => Known { error: SUM * self.most, digits: 0, ..self },
            ElementType::F32 => Known { error: self.error + U * self.most, digits: 0, ..self },
            ElementType::F64 if holds(52) => self,
            ElementType::F16 if holds(11) => self,
            ElementType::Bf16 if holds(8) => self,
            _ => {
                let (low, high) = element.range()?;
                let least = if self.is_positive { 0.0 } else { -self.most };
                (self.digits == 0 && low <= least && self.most <= high).then_some(self)?
            }
        };
        let is_sharp = known.error <= MOST_ERROR.min(MOST_RELATIVE * known.most.max(1.0));
        (known.is_exact() || (element == ElementType::F32 && is_sharp)).then_some(known)
    }

    /// Of either of two.
    pub(super) fn or(self, other: Self) -> Self {
        Known {
            most: self.most.max(other.most),
            error: self.error.max(other.error),
            digits: self.digits.max(other.digits),
            is_positive: self.is_positive && other.is_positive,
        }
    }

    /// Of a sum or a difference of so many.
    pub(super) fn sum(self, count: f64) -> Self {
        let most = self.most * count;
        let error = if self.is_exact() { 0.0 } else { self.error * count + count * U * most };
        Known { most, error, ..self }
    }

    /// Of a sum of both, or a difference.
    pub(super) fn plus(self, other: Self) -> Self {
        let both = self.or(other);
        let is_exact = self.is_exact() && other.is_exact();
        let most = self.most + other.most;
        let error = if is_exact { 0.0 } else { self.error + other.error + U * most };
        Known { most, error, ..both }
    }

    /// Of a product.
    pub(super) fn times(self, other: Self) -> Self {
        let most = self.most * other.most;
        let is_exact = self.is_exact() && other.is_exact();
        let error = self.most * other.error + other.most * self.error + self.error * other.error + U * most;
        Known {
            most,
            error: if is_exact { 0.0 } else { error },
            digits: self.digits + other.digits,
            is_positive: self.is_positive && other.is_positive,
        }
    }

    /// Times a power of two.
    pub(super) fn scaled(self, power: i32) -> Self {
        let factor = 2f64.powi(power);
        Known { most: self.most * factor, error: self.error * factor, digits: self.digits - power, ..self }
    }

    /// Times a number that is rounded.
    pub(super) fn multiplied(self, factor: f64) -> Self {
        let most = self.most * factor.abs();
        Known { most, error: self.error * factor.abs() + 2.0 * U * most, is_positive: false, ..self }.rounded()
    }

    /// Of a function that is nowhere steeper than `slope` and whose magnitude is at most `most`.
    pub(super) fn function(self, slope: f64, most: f64) -> Self {
        let error = slope * self.error + APPROXIMATION * most.max(1.0);
        Known { most, error, digits: 0, is_positive: false }
    }

    /// No longer exact.
    fn rounded(self) -> Self {
        Known { error: self.error + U * self.most, digits: 0, ..self }
    }
}
