//! Copies between tensors that lie by strides.

use std::ops::Range;

use super::ShapeError;
use super::parallel::{Parallel, split};

/// A dimension of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dim {
    n: usize,
    src: isize,
    dst: usize,
}

/// The plan of a copy of elements of 1, 2, 4 or 8 bytes: the element at each index goes from where the strides of the source
/// have it to where those of the destination have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StridedCopy {
    bytes: usize,
    /// From the longest stride in the destination to the shortest.
    dims: Vec<Dim>,
    /// A dimension, not the last, whose elements are neighbours in the source, if those of the last are not.
    across: Option<usize>,
    src_offset: usize,
    dst_offset: usize,
    /// Elements that source and destination must have.
    src_len: usize,
    dst_len: usize,
}

/// Elements of a tile's side in transposes: its lines are in the first-level cache at once.
const TILE: usize = 16;

impl StridedCopy {
    /// A plan. Strides and offsets are in elements; no two indices may have one place in the destination.
    pub fn new(
        bytes: usize,
        dims: &[usize],
        src_strides: &[isize],
        dst_strides: &[usize],
        src_offset: usize,
        dst_offset: usize,
    ) -> Result<Self, ShapeError> {
        let wrong = |what: &str| Err(ShapeError::new("copy", what));
        if !matches!(bytes, 1 | 2 | 4 | 8) {
            return wrong("elements have 1, 2, 4 or 8 bytes");
        }
        if src_strides.len() != dims.len() || dst_strides.len() != dims.len() {
            return wrong("each dimension has one stride in source and destination");
        }
        let nothing = Self {
            bytes,
            dims: vec![Dim { n: 0, src: 0, dst: 1 }],
            across: None,
            src_offset,
            dst_offset,
            src_len: 0,
            dst_len: 0,
        };
        if dims.contains(&0) {
            return Ok(nothing);
        }
        let all = dims.iter().zip(src_strides).zip(dst_strides);
        let mut all: Vec<_> = all.map(|((&n, &src), &dst)| Dim { n, src, dst }).filter(|d| d.n > 1).collect();
        all.sort_by_key(|d| std::cmp::Reverse(d.dst));
        let (Some((first, last)), Some(end)) = (reach(&all, src_offset), distinct(&all, dst_offset)) else {
            return wrong("indices are in source and destination, and in the latter distinct");
        };
        debug_assert!(first <= last);
        let mut dims: Vec<Dim> = vec![];
        for dim in all {
            match dims.last_mut() {
                Some(outer)
                    if outer.dst == dim.dst * dim.n && Some(outer.src) == dim.src.checked_mul(dim.n as isize) =>
                {
                    *outer = Dim { n: outer.n * dim.n, ..dim };
                }
                _ => dims.push(dim),
            }
        }
        if dims.is_empty() {
            dims.push(Dim { n: 1, src: 1, dst: 1 });
        }
        let (inner, outer) = dims.split_last().expect("there is one");
        let across = (!matches!(inner.src, 0 | 1)).then(|| outer.iter().rposition(|d| d.src == 1)).flatten();
        Ok(Self { dims, across, src_len: last + 1, dst_len: end, ..nothing })
    }

    /// Copies the elements; others of the destination stay.
    ///
    /// # Panics
    /// If source or destination are shorter than what the plan reaches.
    pub fn run(&self, parallel: &dyn Parallel, src: &[u8], dst: &mut [u8]) {
        match self.bytes {
            1 => self.elements::<1>(parallel, src, dst),
            2 => self.elements::<2>(parallel, src, dst),
            4 => self.elements::<4>(parallel, src, dst),
            _ => self.elements::<8>(parallel, src, dst),
        }
    }

    fn elements<const B: usize>(&self, parallel: &dyn Parallel, src: &[u8], dst: &mut [u8]) {
        // As arrays of bytes, elements may lie anywhere.
        let (src, _) = src.as_chunks::<B>();
        let (dst, _) = dst.as_chunks_mut::<B>();
        assert!(src.len() >= self.src_len && dst.len() >= self.dst_len, "source and destination have all elements");
        let outer = self.dims[0];
        if outer.n == 0 {
            return;
        }
        let per_unit = self.dims[1..].iter().map(|d| d.n).product();
        split(parallel, &mut dst[self.dst_offset..self.dst_len], outer.dst, per_unit, &|range, part| {
            let first = outer.src * range.start as isize;
            self.walk(0, range, self.src_offset as isize + first, src, part);
        });
    }

    /// The dimensions from `depth` on, of the first of which a range: its elements begin at `from` in the source.
    fn walk<const B: usize>(
        &self,
        depth: usize,
        range: Range<usize>,
        from: isize,
        src: &[[u8; B]],
        dst: &mut [[u8; B]],
    ) {
        let dim = self.dims[depth];
        let n = range.len();
        let last = depth + 1 == self.dims.len();
        if last {
            return row(n, dim, from, src, dst);
        }
        if self.across == Some(depth) {
            return self.tiles(depth, n, from, src, dst);
        }
        let inner = 0..self.dims[depth + 1].n;
        for i in 0..n {
            let from = from + dim.src * i as isize;
            self.walk(depth + 1, inner.clone(), from, src, &mut dst[dim.dst * i..]);
        }
    }

    /// The dimension `depth`, whose elements are neighbours in the source, by tiles with the last.
    fn tiles<const B: usize>(&self, depth: usize, n: usize, from: isize, src: &[[u8; B]], dst: &mut [[u8; B]]) {
        let dim = self.dims[depth];
        let (inner, between) = self.dims[depth + 1..].split_last().expect("the last is another");
        let mut index = vec_of_zeros(between.len());
        loop {
            let at = |i: usize| (index[i], between[i]);
            let (mut from, mut to) = (from, 0);
            for i in 0..between.len() {
                let (k, dim) = at(i);
                from += dim.src * k as isize;
                to += dim.dst * k;
            }
            transpose(n, dim.dst, *inner, from, src, &mut dst[to..]);
            let next = (0..between.len()).rev().find(|i| {
                index[*i] += 1;
                if index[*i] == between[*i].n {
                    index[*i] = 0;
                }
                index[*i] != 0
            });
            if next.is_none() {
                return;
            }
        }
    }
}

/// Indices of the dimensions between two others: a tensor of what fits in memory has no more of them that are not 1.
fn vec_of_zeros(count: usize) -> [usize; 64] {
    assert!(count <= 64, "dimensions of 2 or more whose product fits");
    [0; 64]
}

/// The first and last element of the source; `None` if they are not in one.
fn reach(dims: &[Dim], offset: usize) -> Option<(usize, usize)> {
    let (mut first, mut last) = (isize::try_from(offset).ok()?, isize::try_from(offset).ok()?);
    for dim in dims {
        let span = dim.src.checked_mul(isize::try_from(dim.n - 1).ok()?)?;
        let end = if span < 0 { &mut first } else { &mut last };
        *end = end.checked_add(span)?;
    }
    last.checked_add(1)?;
    Some((usize::try_from(first).ok()?, last as usize))
}

/// The end of the elements in the destination, if each index has its own: an outer stride is beyond all inner ones.
fn distinct(dims: &[Dim], offset: usize) -> Option<usize> {
    let mut span = 1usize;
    for dim in dims.iter().rev() {
        if dim.dst < span {
            return None;
        }
        span = dim.dst.checked_mul(dim.n - 1)?.checked_add(span)?;
    }
    offset.checked_add(span)
}

/// Elements in a row.
fn row<const B: usize>(n: usize, dim: Dim, from: isize, src: &[[u8; B]], dst: &mut [[u8; B]]) {
    let start = from as usize;
    match dim {
        Dim { src: 1, dst: 1, .. } => dst[..n].copy_from_slice(&src[start..start + n]),
        Dim { src: 0, dst: 1, .. } => dst[..n].fill(src[start]),
        Dim { src: stride @ 1.., dst: 1, .. } => {
            for (d, s) in dst[..n].iter_mut().zip(src[start..].iter().step_by(stride as usize)) {
                *d = *s;
            }
        }
        Dim { src: -1, dst: 1, .. } => {
            for (d, s) in dst[..n].iter_mut().zip(src[start + 1 - n..=start].iter().rev()) {
                *d = *s;
            }
        }
        _ => {
            for i in 0..n {
                dst[dim.dst * i] = src[(from + dim.src * i as isize) as usize];
            }
        }
    }
}

/// A matrix of `n` rows, `pitch` elements apart, with `inner` in each: rows of the source are its columns.
fn transpose<const B: usize>(n: usize, pitch: usize, inner: Dim, from: isize, src: &[[u8; B]], dst: &mut [[u8; B]]) {
    for i0 in (0..n).step_by(TILE) {
        let rows = TILE.min(n - i0);
        for j0 in (0..inner.n).step_by(TILE) {
            let columns = TILE.min(inner.n - j0);
            if rows == TILE && columns == TILE && inner.dst == 1 {
                let mut tile = [[[0; B]; TILE]; TILE];
                for (j, line) in tile.iter_mut().enumerate() {
                    let at = (from + inner.src * (j0 + j) as isize) as usize + i0;
                    *line = *src[at..].first_chunk().expect("a tile is in the source");
                }
                for i in 0..TILE {
                    let line: &mut [[u8; B]; TILE] =
                        dst[pitch * (i0 + i) + j0..].first_chunk_mut().expect("a tile is in the destination");
                    for j in 0..TILE {
                        line[j] = tile[j][i];
                    }
                }
                continue;
            }
            for j in j0..j0 + columns {
                let at = (from + inner.src * j as isize) as usize + i0;
                let lines = dst[pitch * i0 + inner.dst * j..].iter_mut().step_by(pitch);
                for (d, s) in lines.zip(&src[at..at + rows]) {
                    *d = *s;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::*;

    fn check<const B: usize>(dims: &[usize], src: &[isize], dst: &[usize], offsets: (usize, usize)) {
        let plan = StridedCopy::new(B, dims, src, dst, offsets.0, offsets.1).unwrap();
        let x: Vec<[u8; B]> = (0..plan.src_len + 3)
            .map(|i| (i as u64 * 0x9e37_79b9 + 1).to_le_bytes()[..B].try_into().unwrap())
            .collect();
        let mut expected = vec![[7; B]; plan.dst_len + 3];
        let count: usize = dims.iter().product();
        for flat in 0..count {
            let (mut rest, mut from, mut to) = (flat, offsets.0 as isize, offsets.1);
            for d in (0..dims.len()).rev() {
                from += (rest % dims[d]) as isize * src[d];
                to += rest % dims[d] * dst[d];
                rest /= dims[d];
            }
            expected[to] = x[from as usize];
        }
        for parallel in [&Serial as &dyn Parallel, &Two] {
            let mut y = vec![[7; B]; plan.dst_len + 3];
            plan.run(parallel, x.as_flattened(), y.as_flattened_mut());
            assert_eq!(y, expected, "{dims:?} {src:?} {dst:?}");
        }
    }

    #[test]
    fn elements_are_where_the_strides_say() {
        check::<4>(&[40, 50], &[1, 40], &[50, 1], (0, 0));
        check::<4>(&[500, 300], &[1, 500], &[300, 1], (0, 0));
        check::<1>(&[50176, 3], &[1, 50176], &[3, 1], (0, 0));
        check::<2>(&[3, 100, 200], &[20000, 1, 100], &[20000, 200, 1], (0, 0));
        check::<8>(&[100, 2, 3, 50], &[1, 500, 100, 1500], &[300, 150, 50, 1], (5, 2));
        check::<4>(&[7, 5], &[-5, -1], &[9, 1], (34, 1));
        check::<4>(&[7, 5], &[0, 2], &[5, 1], (0, 0));
        check::<4>(&[7, 500], &[2, 0], &[1, 7], (0, 0));
        check::<4>(&[], &[], &[], (3, 2));
        check::<4>(&[4, 0], &[1, 1], &[1, 1], (0, 0));
        check::<4>(&[3, 4, 5], &[20, -5, 3], &[60, 15, 3], (15, 0));
    }

    #[test]
    fn plans_that_leave_their_tensors_or_write_twice_are_refused() {
        assert!(StridedCopy::new(3, &[2], &[1], &[1], 0, 0).is_err());
        assert!(StridedCopy::new(4, &[2], &[-1], &[1], 0, 0).is_err());
        assert!(StridedCopy::new(4, &[2, 3], &[3, 1], &[2, 1], 0, 0).is_err());
        assert!(StridedCopy::new(4, &[2], &[1], &[0], 0, 0).is_err());
        assert!(StridedCopy::new(4, &[usize::MAX, 2], &[1, 1], &[2, 1], 0, 0).is_err());
        assert!(StridedCopy::new(4, &[2], &[1, 1], &[1], 0, 0).is_err());
    }
}
