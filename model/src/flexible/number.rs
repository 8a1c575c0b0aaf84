//! Numbers that depend on the sizes of open dimensions.

/// A number that is linear in each of several sizes: a sum of products, each with a coefficient.
///
/// Sizes are told by their offsets below the base. The coefficient with the index `s` is that of the product of the offsets of
/// those dimensions whose bits are set in `s`, so a length of a batch of sequences is one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Number(Box<[i128]>);

impl Number {
    /// Of its values at all corners: dimensions whose bits are set are one step below the base.
    pub(super) fn of<T: Into<i128>>(corners: impl IntoIterator<Item = T>) -> Self {
        let mut coefficients: Box<[i128]> = corners.into_iter().map(Into::into).collect();
        let mut bit = 1;
        while bit < coefficients.len() {
            for at in (0..coefficients.len()).filter(|at| at & bit != 0) {
                coefficients[at] -= coefficients[at ^ bit];
            }
            bit <<= 1;
        }
        Number(coefficients)
    }

    /// The dimensions that it depends on, a bit for each.
    pub(super) fn dims(&self) -> usize {
        self.terms().fold(0, |all, (set, _)| all | set)
    }

    /// The number for offsets; `None` if it is less than 0, or too large.
    pub(super) fn at(&self, offsets: &[i128]) -> Option<u64> {
        u64::try_from(self.value(offsets)?).ok()
    }

    /// The number for offsets, which may be less than 0; `None` if it is too large.
    pub(super) fn value(&self, offsets: &[i128]) -> Option<i128> {
        let mut sum = 0i128;
        for (set, coefficient) in self.terms() {
            sum = sum.checked_add(product(coefficient, set, |dim| offsets[dim])?)?;
        }
        Some(sum)
    }

    /// The offset of the one dimension that is not known yet and that gives the number this value; `None` if there are several, or
    /// no offset or any does.
    pub(super) fn solve(&self, offsets: &[Option<i128>], value: u64) -> Option<(usize, i128)> {
        let unknown = |set: usize| (0..offsets.len()).filter(move |dim| set >> dim & 1 == 1 && offsets[*dim].is_none());
        let (mut base, mut slope, mut open) = (0i128, 0i128, None);
        for (set, coefficient) in self.terms() {
            let mut dims = unknown(set);
            let term = product(coefficient, set, |dim| offsets[dim].unwrap_or(1))?;
            match (dims.next(), dims.next()) {
                (None, _) => base = base.checked_add(term)?,
                (Some(dim), None) if open.is_none_or(|other| other == dim) => {
                    open = Some(dim);
                    slope = slope.checked_add(term)?;
                }
                _ => return None,
            }
        }
        let rise = i128::from(value).checked_sub(base)?;
        let is_solved = slope != 0 && rise.checked_rem(slope)? == 0;
        Some((open?, is_solved.then(|| rise / slope)?))
    }

    /// Products that count, with their coefficients.
    fn terms(&self) -> impl Iterator<Item = (usize, i128)> {
        self.0.iter().copied().enumerate().filter(|(_, coefficient)| *coefficient != 0)
    }
}

/// A coefficient times the offsets of a set of dimensions.
fn product(coefficient: i128, set: usize, offset: impl Fn(usize) -> i128) -> Option<i128> {
    let dims = (0..usize::BITS as usize).take_while(|dim| set >> dim != 0).filter(|dim| set >> dim & 1 == 1);
    dims.into_iter().try_fold(coefficient, |all, dim| all.checked_mul(offset(dim)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of sizes below 10 and 7.
    fn of(f: impl Fn(u64, u64) -> u64) -> Number {
        Number::of([f(10, 7), f(9, 7), f(10, 6), f(9, 6)])
    }

    #[test]
    fn products_of_sizes_are_found() {
        let number = of(|a, b| 3 * a * b + 2 * a + 5);
        for (a, b) in [(10, 7), (1, 1), (0, 3), (12, 9)] {
            let offsets = [10 - a as i128, 7 - b as i128];
            assert_eq!(number.at(&offsets), Some(3 * a * b + 2 * a + 5));
        }
        assert_eq!(of(|_, _| 4).at(&[-99, 5]), Some(4));
        assert_eq!((of(|_, _| 4).dims(), of(|_, b| b).dims(), number.dims()), (0, 2, 3));
        assert_eq!(of(|a, _| a).at(&[11, 0]), None);
        assert_eq!(of(|a, b| a * b).at(&[i128::MIN, i128::MAX]), None);
    }

    #[test]
    fn the_size_is_found_that_gives_a_value() {
        let number = of(|a, b| a * b);
        assert_eq!(number.solve(&[Some(2), None], 8 * 4), Some((1, 3)));
        assert_eq!(number.solve(&[Some(2), None], 33), None);
        assert_eq!(number.solve(&[None, None], 8), None);
        assert_eq!(number.solve(&[Some(10), None], 0), None);
        assert_eq!(of(|a, _| a + 3).solve(&[None, None], 9), Some((0, 4)));
        assert_eq!(of(|a, b| a + b).solve(&[None, None], 9), None);
        assert_eq!(of(|_, _| 3).solve(&[None, None], 3), None);
    }
}
