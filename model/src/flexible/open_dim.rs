//! Dimensions that a network is compiled with open, and the sizes at which it is looked at.

use std::fmt;
use std::ops::RangeInclusive;

use kiln_onnx::Bindings;

use super::error::FlexibleError;

/// Open dimensions at most: the network is made for two sizes of each, in all combinations.
const MOST: usize = 4;
/// Sizes of a dimension at least: two to learn from, and one to check what was learned.
const LEAST: u64 = 3;

/// A dimension that may have another size in each call, from the least to the longest in steps.
///
/// ```
/// use kiln_model::OpenDim;
///
/// let batch = OpenDim::batch(1..=8);
/// // Images whose sides are halved five times.
/// let height = OpenDim::named("height", 64..=512).step(32);
/// assert_eq!(batch.to_string(), "batch 1 to 8");
/// assert_eq!(height.to_string(), "height 64 to 512 in steps of 32");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDim {
    what: What,
    least: u64,
    longest: u64,
    step: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Batch,
    Sequence,
    Named(String),
}

impl OpenDim {
    /// Images or sequences that are computed at once: of an ONNX file all dimensions that
    /// [`Bindings::batch`] sizes.
    pub fn batch(sizes: RangeInclusive<u64>) -> Self {
        Self::of(What::Batch, sizes)
    }

    /// Tokens of each sequence: of an ONNX file all dimensions that [`Bindings::sequence`] sizes.
    pub fn sequence(sizes: RangeInclusive<u64>) -> Self {
        Self::of(What::Sequence, sizes)
    }

    /// A dimension with a name: of an ONNX file all dimensions that have this name.
    pub fn named(name: &str, sizes: RangeInclusive<u64>) -> Self {
        Self::of(What::Named(name.into()), sizes)
    }

    /// Only every `step`-th size, counted from the least: a side of an image that a network halves several times is linear only
    /// in multiples of as many. A step of 0 is 1.
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.step = step.max(1);
        self
    }

    fn of(what: What, sizes: RangeInclusive<u64>) -> Self {
        OpenDim { what, least: *sizes.start(), longest: *sizes.end(), step: 1 }
    }

    /// Its name; `batch` or `sequence` of those.
    pub fn name(&self) -> &str {
        match &self.what {
            What::Batch => "batch",
            What::Sequence => "sequence",
            What::Named(name) => name,
        }
    }

    /// All its sizes, from the least to the longest.
    pub fn sizes(&self) -> impl DoubleEndedIterator<Item = u64> {
        let OpenDim { least, step, .. } = *self;
        (0..self.count()).map(move |at| least + at * step)
    }

    /// True if it has a size.
    pub fn contains(&self, size: u64) -> bool {
        (self.least..=self.longest).contains(&size) && (size - self.least).is_multiple_of(self.step)
    }

    /// Binds it to a size.
    pub(super) fn bind(&self, bindings: Bindings, size: u64) -> Bindings {
        match &self.what {
            What::Batch => bindings.batch(size),
            What::Sequence => bindings.sequence(size),
            What::Named(name) => bindings.dim(name, size),
        }
    }

    fn count(&self) -> u64 {
        self.longest.checked_sub(self.least).map_or(0, |range| (range / self.step).saturating_add(1))
    }

    /// The longest size that it has, which may be less than the end of its range.
    fn last(&self) -> u64 {
        self.least + self.count().saturating_sub(1) * self.step
    }
}

impl fmt::Display for OpenDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {}", self.name(), self.least, self.longest)?;
        if self.step > 1 { write!(f, " in steps of {}", self.step) } else { Ok(()) }
    }
}

/// Open dimensions, each with a size at which it is learned from, its base; the size below the base is the second one.
///
/// A size is told by its offset, the number of steps that it is below the base.
#[derive(Clone, Debug)]
pub(super) struct OpenDims {
    all: Vec<OpenDim>,
    bases: Vec<u64>,
}

impl OpenDims {
    /// Fails if there are none or too many, if two have one name, and if one has too few sizes.
    pub(super) fn new(all: &[OpenDim]) -> Result<Self, FlexibleError> {
        if all.is_empty() || all.len() > MOST {
            return Err(FlexibleError::Count { found: all.len(), most: MOST });
        }
        for (at, dim) in all.iter().enumerate() {
            let fail = |why: String| Err(FlexibleError::Range { dim: dim.to_string(), why });
            if all[..at].iter().any(|other| other.name() == dim.name()) {
                return fail("there are two of this name".into());
            }
            if dim.least == 0 {
                return fail("expected sizes of at least 1".into());
            }
            if dim.count() < LEAST {
                return fail(format!("expected a range with at least {LEAST} sizes, found {}", dim.count()));
            }
        }
        // Sizes of two dimensions that are equal by chance would be taken for something that the network wants.
        let mut bases: Vec<u64> = vec![];
        for dim in all {
            let taken = |size: u64| all.iter().zip(&bases).any(|(d, base)| size == *base || size == base - d.step);
            let is_free = |base: &u64| *base > dim.least && !taken(*base) && !taken(*base - dim.step);
            let tries = dim.sizes().rev().take(4 * MOST + 1);
            let base = tries.into_iter().find(is_free).unwrap_or(dim.last());
            bases.push(base);
        }
        Ok(OpenDims { all: all.into(), bases })
    }

    pub(super) fn all(&self) -> &[OpenDim] {
        &self.all
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The sizes at a corner: dimension `i` is at its base, or, if bit `i` of the corner is set, one step below it.
    pub(super) fn corner(&self, corner: usize) -> Vec<u64> {
        let dims = self.all.iter().zip(&self.bases).enumerate();
        dims.map(|(i, (dim, base))| base - if corner >> i & 1 == 1 { dim.step } else { 0 }).collect()
    }

    /// Sizes at which what was learned is checked: each dimension by itself, and all at once.
    pub(super) fn checks(&self) -> Vec<Vec<u64>> {
        let mut middles: Vec<u64> = vec![];
        for (at, (dim, base)) in self.all.iter().zip(&self.bases).enumerate() {
            // Another part of each range.
            let wanted = u128::from(dim.count() - 1) * (at as u128 + 3) / (at as u128 * 3 + 6);
            let wanted = wanted as u64;
            let is_learned = |size: u64| size == *base || size == base - dim.step;
            // One row of something is often no dimension of it at all.
            let distance = |step: u64, size: u64| (size == 1, middles.contains(&size), step.abs_diff(wanted));
            let near = wanted.saturating_sub(4 * MOST as u64)..=(wanted + 4 * MOST as u64).min(dim.count() - 1);
            let near = near.map(|step| (step, dim.least + step * dim.step)).filter(|(_, size)| !is_learned(*size));
            let middle = near.min_by_key(|(step, size)| distance(*step, *size));
            middles.push(middle.map_or(dim.least, |(_, size)| size));
        }
        let alone = (0..self.len()).map(|at| {
            let mut sizes = self.bases.clone();
            sizes[at] = middles[at];
            sizes
        });
        let mut checks: Vec<_> = alone.collect();
        if self.len() > 1 {
            checks.push(middles);
        }
        checks
    }

    /// Sizes of which those of some dimensions, a bit for each, are the longest; `None` if these are the bases. The others are
    /// not equal to them by chance.
    pub(super) fn longest_of(&self, dims: usize) -> Option<Vec<u64>> {
        let has = |at: usize| dims >> at & 1 == 1;
        let pairs = || self.all.iter().zip(&self.bases).enumerate();
        let longest: Vec<u64> = pairs().filter(|(at, _)| has(*at)).map(|(_, (dim, _))| dim.last()).collect();
        let other = |dim: &OpenDim, base: u64| {
            let sizes = [base].into_iter().chain(dim.sizes().rev().take(2 * MOST));
            sizes.into_iter().find(|size| !longest.contains(size)).unwrap_or(base)
        };
        let sizes = pairs().map(|(at, (dim, base))| if has(at) { dim.last() } else { other(dim, *base) }).collect();
        pairs().any(|(at, (dim, base))| has(at) && *base != dim.last()).then_some(sizes)
    }

    /// The offsets of sizes.
    pub(super) fn offsets(&self, sizes: &[u64]) -> Vec<i128> {
        let dims = self.all.iter().zip(&self.bases).zip(sizes);
        dims.map(|((dim, base), size)| (i128::from(*base) - i128::from(*size)) / i128::from(dim.step)).collect()
    }

    /// The size of a dimension with an offset; `None` if it has no such.
    pub(super) fn size(&self, dim: usize, offset: i128) -> Option<u64> {
        let below = i128::from(self.all[dim].step).checked_mul(offset)?;
        let size = u64::try_from(i128::from(self.bases[dim]).checked_sub(below)?).ok()?;
        self.all[dim].contains(size).then_some(size)
    }

    /// The offsets of the corners of all ranges, between which all sizes are.
    pub(super) fn extremes(&self) -> impl Iterator<Item = Vec<i128>> {
        (0..1usize << self.len()).map(|corner| {
            let ends = self.all.iter().enumerate();
            let sizes: Vec<u64> =
                ends.map(|(i, dim)| if corner >> i & 1 == 1 { dim.least } else { dim.last() }).collect();
            self.offsets(&sizes)
        })
    }

    /// Sizes with the names of their dimensions.
    pub(super) fn named(&self, sizes: &[u64]) -> String {
        let named = self.all.iter().zip(sizes).map(|(dim, size)| format!("{} {size}", dim.name()));
        named.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for OpenDims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_the_range() {
        let dim = OpenDim::named("h", 5..=20).step(4);
        assert_eq!(dim.sizes().collect::<Vec<_>>(), [5, 9, 13, 17]);
        assert!([5, 17].iter().all(|n| dim.contains(*n)) && [1, 4, 6, 18, 20, 21].iter().all(|n| !dim.contains(*n)));
        let dims = OpenDims::new(std::slice::from_ref(&dim)).unwrap();
        assert_eq!((dims.corner(0), dims.corner(1), dims.checks()), (vec![17], vec![13], vec![vec![9]]));
        assert_eq!(
            (dims.offsets(&[5]), dims.size(0, 3), dims.size(0, 4), dims.size(0, -1)),
            (vec![3], Some(5), None, None)
        );
        for (range, step) in
            [(1..=2, 1), (0..=9, 1), (RangeInclusive::new(7, 3), 1), (1..=20, 10), (1..=u64::MAX, u64::MAX / 2 + 1)]
        {
            assert!(OpenDims::new(&[OpenDim::batch(range.clone()).step(step)]).is_err(), "{range:?}");
        }
        let huge = OpenDims::new(&[OpenDim::batch(1..=u64::MAX), OpenDim::sequence(1..=u64::MAX)]).unwrap();
        assert!(huge.checks().iter().flatten().all(|size| huge.all()[0].contains(*size)));
        assert_eq!(huge.extremes().count(), 4);
        assert!(OpenDims::new(&[]).is_err());
        assert!(OpenDims::new(&[OpenDim::batch(1..=8), OpenDim::named("batch", 1..=8)]).is_err());
    }

    /// So that nothing is taken for the same that is not.
    #[test]
    fn sizes_that_are_looked_at_differ() {
        let dims =
            OpenDims::new(&[OpenDim::named("h", 1..=40), OpenDim::named("w", 1..=40), OpenDim::batch(1..=6)]).unwrap();
        let looked = (0..8).map(|corner| dims.corner(corner)).chain(dims.checks());
        for sizes in looked {
            assert!(sizes[0] != sizes[1] && sizes[1] != sizes[2] && sizes[0] != sizes[2], "{sizes:?}");
            assert!(sizes.iter().zip(dims.all()).all(|(size, dim)| dim.contains(*size)));
        }
        assert_eq!(dims.corner(0), [40, 38, 6]);
        assert_eq!((dims.longest_of(0b001), dims.longest_of(0b010)), (None, Some(vec![39, 40, 6])));
        assert_eq!(dims.longest_of(0b111), Some(vec![40, 40, 6]));
        assert_eq!(dims.extremes().count(), 8);
    }
}
