//! Slices of a tensor that indices name.

use super::parallel::{Parallel, split};
use super::{ShapeError, elements};

/// Positions along an axis, from its end if negative.
#[derive(Clone, Copy, Debug)]
pub enum Indices<'a> {
    /// As i32.
    I32(&'a [i32]),
    /// As i64.
    I64(&'a [i64]),
}

impl Indices<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Indices::I32(i) => i.len(),
            Indices::I64(i) => i.len(),
        }
    }

    pub(super) fn at(&self, i: usize) -> i64 {
        match self {
            Indices::I32(indices) => indices[i].into(),
            Indices::I64(indices) => indices[i],
        }
    }
}

/// An index of no element of its axis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("index {index}, number {position}, is not on an axis of {extent}: expected -{extent} to {extent} - 1")]
pub struct IndexOutOfRange {
    /// The index.
    pub index: i64,
    /// Which of the indices it is.
    pub position: usize,
    /// Elements along the axis.
    pub extent: usize,
}

/// The plan of the slices along an axis that indices name, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    outer: usize,
    extent: usize,
    count: usize,
    /// Bytes of a slice.
    inner: usize,
}

impl Gather {
    /// A plan for elements of so many bytes, this shape and this number of indices.
    pub fn new(bytes: usize, shape: &[usize], axis: usize, count: usize) -> Result<Self, ShapeError> {
        if axis >= shape.len() {
            return Err(ShapeError::new("gather", format!("axis {axis} of a tensor of rank {}", shape.len())));
        }
        let (outer, inner) = (&shape[..axis], &shape[axis + 1..]);
        let all = elements(outer).zip(elements(inner)).and_then(|(o, i)| {
            let inner = i.checked_mul(bytes)?;
            o.checked_mul(count.max(shape[axis]))?.checked_mul(inner)?;
            Some(Self { outer: o, extent: shape[axis], count, inner })
        });
        all.ok_or_else(|| ShapeError::new("gather", format!("{count} slices of {shape:?} are too many elements")))
    }

    /// Copies the slices. The destination stays as it is if an index is wrong.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(
        &self,
        parallel: &dyn Parallel,
        src: &[u8],
        indices: Indices<'_>,
        dst: &mut [u8],
    ) -> Result<(), IndexOutOfRange> {
        let Self { outer, extent, count, inner } = *self;
        assert_eq!(src.len(), outer * extent * inner, "the operand has its shape");
        assert_eq!(indices.len(), count, "as many indices as planned");
        assert_eq!(dst.len(), outer * count * inner, "the destination has the result's shape");
        let wrong = (0..count).find(|i| position(indices.at(*i), extent).is_none());
        if let Some(position) = wrong {
            return Err(IndexOutOfRange { index: indices.at(position), position, extent });
        }
        // A cheap operation is one on 4 bytes.
        split(parallel, dst, inner, inner.div_ceil(4), &|units, part| {
            for (slice, unit) in part.chunks_exact_mut(inner).zip(units) {
                let at = position(indices.at(unit % count), extent).expect("checked above");
                let from = (unit / count * extent + at) * inner;
                slice.copy_from_slice(&src[from..from + inner]);
            }
        });
        Ok(())
    }
}

/// The element that an index means; `None` if there is none.
pub(super) fn position(index: i64, extent: usize) -> Option<usize> {
    let extent = i64::try_from(extent).ok()?;
    let index = if index < 0 { index.checked_add(extent)? } else { index };
    (0..extent).contains(&index).then_some(index as usize)
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::*;

    #[test]
    fn slices_are_those_of_the_indices() {
        let x: Vec<u8> = (0..2 * 5 * 6).collect();
        let plan = Gather::new(2, &[2, 5, 3], 1, 3).unwrap();
        let mut y = vec![0; 2 * 3 * 6];
        plan.run(&Serial, &x, Indices::I64(&[4, -5, -1]), &mut y).unwrap();
        assert_eq!(y, [&x[24..30], &x[..6], &x[24..30], &x[54..60], &x[30..36], &x[54..60]].concat());
        let before = y.clone();
        let error = plan.run(&Serial, &x, Indices::I32(&[0, 5, 0]), &mut y).unwrap_err();
        assert_eq!(error, IndexOutOfRange { index: 5, position: 1, extent: 5 });
        assert!(plan.run(&Serial, &x, Indices::I64(&[0, 0, i64::MIN]), &mut y).is_err());
        assert_eq!(y, before);
        assert!(Gather::new(2, &[2], 1, 3).is_err());
        assert!(Gather::new(2, &[2, usize::MAX], 0, 3).is_err());
    }

    #[test]
    fn large_ones_are_divided() {
        let x: Vec<u8> = (0..100 * 4000).map(|i| (i / 4000) as u8).collect();
        let indices: Vec<i32> = (0..300).map(|i| i * 7 % 100).collect();
        let mut y = vec![0; 300 * 4000];
        Gather::new(4, &[100, 1000], 0, 300).unwrap().run(&Two, &x, Indices::I32(&indices), &mut y).unwrap();
        assert!(y.chunks(4000).zip(&indices).all(|(row, i)| row.iter().all(|v| i32::from(*v) == *i)));
    }
}
