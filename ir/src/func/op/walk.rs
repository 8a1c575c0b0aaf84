//! Walks through tensors by strides.

/// A box of indices, and for each of `N` tensors the elements between neighbours along each of its dimensions. Dimensions of 1
/// are left out, and dimensions that all tensors walk through as if they were one are one.
pub(super) struct Walk<const N: usize> {
    dims: Vec<usize>,
    strides: Vec<[isize; N]>,
}

impl<const N: usize> Walk<N> {
    /// Strides are as many as dimensions.
    pub(super) fn new(shape: &[u64], strides: [&[i64]; N]) -> Self {
        let mut walk = Walk { dims: vec![], strides: vec![] };
        for (d, &dim) in shape.iter().enumerate() {
            let (dim, inner) = (dim as usize, strides.map(|s| s[d] as isize));
            match (walk.dims.last_mut(), walk.strides.last_mut()) {
                _ if dim == 1 => {}
                (Some(last), Some(outer)) if (0..N).all(|i| outer[i] == inner[i].wrapping_mul(dim as isize)) => {
                    *last *= dim;
                    *outer = inner;
                }
                _ => {
                    walk.dims.push(dim);
                    walk.strides.push(inner);
                }
            }
        }
        walk
    }

    /// Dimensions, outermost first, each with its strides.
    pub(super) fn dims(&self) -> impl ExactSizeIterator<Item = (usize, [isize; N])> + DoubleEndedIterator {
        self.dims.iter().copied().zip(self.strides.iter().copied())
    }

    /// Without one of its dimensions.
    pub(super) fn without(mut self, dim: usize) -> Self {
        self.dims.remove(dim);
        self.strides.remove(dim);
        self
    }

    /// Calls `row` for each row, in order, with the offset of its first element in each tensor, the number of its elements and
    /// their strides. There is at least one row unless a dimension is 0.
    pub(super) fn rows(&self, start: [usize; N], mut row: impl FnMut([usize; N], usize, [isize; N])) {
        match (self.dims.split_last(), self.strides.split_last()) {
            (Some((0, _)), _) => {}
            (Some((&n, dims)), Some((&inner, strides))) => {
                each(dims, strides, start, &mut vec![], |at| row(at, n, inner));
            }
            _ => row(start, 1, [0; N]),
        }
    }

    /// Calls `element` for each index, in order, with the offset in each tensor.
    pub(super) fn elements(&self, start: [usize; N], element: impl FnMut([usize; N])) {
        each(&self.dims, &self.strides, start, &mut vec![], element);
    }
}

/// Calls `visit` with the offsets of each index of a box, in order. `index` is memory that many calls may share.
pub(super) fn each<const N: usize>(
    dims: &[usize],
    strides: &[[isize; N]],
    start: [usize; N],
    index: &mut Vec<usize>,
    mut visit: impl FnMut([usize; N]),
) {
    if dims.contains(&0) {
        return;
    }
    index.clear();
    index.resize(dims.len(), 0);
    let mut at = start;
    loop {
        visit(at);
        let mut d = dims.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            index[d] += 1;
            if index[d] < dims[d] {
                (0..N).for_each(|i| at[i] = at[i].wrapping_add_signed(strides[d][i]));
                break;
            }
            index[d] = 0;
            let back = (dims[d] - 1) as isize;
            (0..N).for_each(|i| at[i] = at[i].wrapping_sub((strides[d][i] * back) as usize));
        }
    }
}

/// Elements between neighbours along each dimension of a dense tensor.
pub(super) fn dense_strides(shape: &[u64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d] * shape[d].max(1) as i64;
    }
    strides
}

/// Those of a tensor that is stretched to `rank` dimensions: 0 where it stretches.
pub(super) fn stretched_strides(shape: &[u64], rank: usize) -> Vec<i64> {
    super::broadcast_strides(shape, rank).into_iter().map(|s| s as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(shape: &[u64], strides: &[i64], start: usize) -> Vec<usize> {
        let mut all = vec![];
        Walk::new(shape, [strides]).rows([start], |[at], n, [stride]| {
            all.extend((0..n).map(|i| at.wrapping_add_signed(i as isize * stride)));
        });
        all
    }

    #[test]
    fn every_index_is_visited_in_order() {
        assert_eq!(visited(&[2, 3], &[3, 1], 0), [0, 1, 2, 3, 4, 5]);
        assert_eq!(visited(&[3, 2], &[1, 3], 0), [0, 3, 1, 4, 2, 5]);
        assert_eq!(visited(&[2, 1, 2], &[-2, 9, -1], 3), [3, 2, 1, 0]);
        assert_eq!(visited(&[2, 2, 2], &[0, 1, 0], 0), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(visited(&[], &[], 7), [7]);
        assert_eq!(visited(&[4, 0], &[1, 1], 0), [0; 0]);
        assert_eq!(visited(&[0, 4], &[1, 1], 0), [0; 0]);
    }

    #[test]
    fn dimensions_that_are_one_are_merged() {
        let walk = Walk::new(&[2, 3, 4], [&[12, 4, 1], &[12, 4, 1]]);
        assert_eq!(walk.dims().collect::<Vec<_>>(), [(24, [1, 1])]);
        let walk = Walk::new(&[2, 3, 4], [&[12, 4, 1], &[4, 0, 1]]);
        assert_eq!(walk.dims().len(), 3);
    }
}
