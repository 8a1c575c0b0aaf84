//! Where the greatest or least elements along an axis are.

use super::parallel::{Parallel, split};
use super::{ShapeError, elements};

/// The plan of the places of the first few elements along an axis when it is sorted. Of equal elements the earlier comes first;
/// NaN is greater than all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopK {
    outer: usize,
    extent: usize,
    inner: usize,
    k: usize,
    largest: bool,
}

impl TopK {
    /// A plan for a tensor of this shape.
    pub fn new(shape: &[usize], axis: usize, k: usize, largest: bool) -> Result<Self, ShapeError> {
        let wrong = || ShapeError::new("top_k", format!("{k} elements of axis {axis} of {shape:?}"));
        let extent = *shape.get(axis).filter(|extent| k <= **extent).ok_or_else(wrong)?;
        elements(shape).ok_or_else(wrong)?;
        let product = |dims: &[usize]| dims.iter().product();
        Ok(Self { outer: product(&shape[..axis]), extent, inner: product(&shape[axis + 1..]), k, largest })
    }

    /// Finds the places, in order, as many along the axis as planned.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[f32], dst: &mut [i64]) {
        let Self { outer, extent, inner, k, largest } = *self;
        assert_eq!(src.len(), outer * extent * inner, "the operand has its shape");
        assert_eq!(dst.len(), outer * k * inner, "the destination has the result's shape");
        if dst.is_empty() {
            return;
        }
        split(parallel, dst, k * inner, extent * inner * 4, &|units, part| {
            for (dst, unit) in part.chunks_exact_mut(k * inner).zip(units) {
                let src = &src[unit * extent * inner..][..extent * inner];
                for lane in 0..inner {
                    // Whether the element at one place comes before that at another.
                    let before = |a: i64, b: i64| {
                        let [x, y] = [a, b].map(|i| src[i as usize * inner + lane]);
                        let beyond = if largest {
                            x > y || x.is_nan() && !y.is_nan()
                        } else {
                            x < y || y.is_nan() && !x.is_nan()
                        };
                        beyond || (x == y || x.is_nan() && y.is_nan()) && a < b
                    };
                    first(&mut Lane { dst, lane, inner, k }, extent, before);
                }
            }
        });
    }
}

/// A line of the result along the axis.
struct Lane<'a> {
    dst: &'a mut [i64],
    lane: usize,
    inner: usize,
    k: usize,
}

impl Lane<'_> {
    fn at(&mut self, i: usize) -> &mut i64 {
        &mut self.dst[i * self.inner + self.lane]
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.dst.swap(a * self.inner + self.lane, b * self.inner + self.lane);
    }

    /// Moves the element at `root` down, in the heap of the first `n`, until none below it comes after it.
    fn sink(&mut self, mut root: usize, n: usize, before: impl Fn(i64, i64) -> bool) {
        loop {
            let mut last = root;
            for child in [2 * root + 1, 2 * root + 2] {
                if child < n && before(*self.at(last), *self.at(child)) {
                    last = child;
                }
            }
            if last == root {
                return;
            }
            self.swap(root, last);
            root = last;
        }
    }
}

/// Fills a line with the first of `extent` places, in a heap with the last of those at its root, which is sorted in the end.
fn first(line: &mut Lane<'_>, extent: usize, before: impl Fn(i64, i64) -> bool + Copy) {
    let k = line.k;
    (0..k).for_each(|i| *line.at(i) = i as i64);
    (0..k / 2).rev().for_each(|root| line.sink(root, k, before));
    for place in k as i64..extent as i64 {
        if before(place, *line.at(0)) {
            *line.at(0) = place;
            line.sink(0, k, before);
        }
    }
    for n in (1..k).rev() {
        line.swap(0, n);
        line.sink(0, n, before);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::*;

    #[test]
    fn places_are_those_of_a_stable_sort() {
        let n = 257;
        let x: Vec<f32> = (0..3 * n * 5).map(|i| ((i * 7919) % 61) as f32 - 30.0).collect();
        for (k, largest) in [(1, true), (7, false), (n, true), (n, false), (0, true)] {
            let plan = TopK::new(&[3, n, 5], 1, k, largest).unwrap();
            for parallel in [&Serial as &dyn Parallel, &Two] {
                let mut y = vec![0; 3 * k * 5];
                plan.run(parallel, &x, &mut y);
                for outer in 0..3 {
                    for lane in 0..5 {
                        let value = |i: usize| x[(outer * n + i) * 5 + lane];
                        let mut order: Vec<usize> = (0..n).collect();
                        order.sort_by(|a, b| {
                            let order = value(*a).partial_cmp(&value(*b)).unwrap();
                            if largest { order.reverse() } else { order }
                        });
                        let found: Vec<usize> = (0..k).map(|i| y[(outer * k + i) * 5 + lane] as usize).collect();
                        assert_eq!(found, order[..k], "{k} {largest}");
                    }
                }
            }
        }
        assert!(TopK::new(&[3], 0, 4, true).is_err() && TopK::new(&[3], 1, 1, true).is_err());
    }

    #[test]
    fn nan_is_the_greatest() {
        let x = [1.0, f32::NAN, 3.0, f32::NAN];
        let of = |k, largest| {
            let mut y = vec![0; k];
            TopK::new(&[4], 0, k, largest).unwrap().run(&Serial, &x, &mut y);
            y
        };
        assert_eq!(of(3, true), [1, 3, 2]);
        assert_eq!(of(3, false), [0, 2, 1]);
    }
}
