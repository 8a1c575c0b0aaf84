//! Elements and slices at places that indices name: read from a tensor, or merged into one.

use kiln_ir::func::Merge;

use super::gather::{IndexOutOfRange, Indices, position};
use super::parallel::{Parallel, split};
use super::{ShapeError, elements, row_major};

/// Where each index, or row of coordinates, points in a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Places {
    /// Along one axis; along the others an index points where it is itself.
    Elements {
        /// Dimensions of the indices, and the tensor's strides, 0 along the axis.
        dims: Vec<usize>,
        strides: Vec<usize>,
        /// Elements along the axis, and between neighbours on it.
        extent: usize,
        stride: usize,
    },
    /// Rows of coordinates of slices, after axes that both tensors share.
    Rows {
        /// Rows for each index of the shared axes, and elements of the tensor for each.
        each: usize,
        whole: usize,
        /// Extent and stride of the axis of each coordinate.
        axes: Vec<(usize, usize)>,
        /// Elements of a slice.
        slice: usize,
    },
}

impl Places {
    /// Of indices that are along one axis.
    fn elements(op: &'static str, shape: &[usize], indices: &[usize], axis: usize) -> Result<Self, ShapeError> {
        let wrong = || ShapeError::new(op, format!("indices {indices:?} along axis {axis} of {shape:?}"));
        let fits = |a: usize| a == axis || indices[a] <= shape[a];
        if axis >= shape.len() || indices.len() != shape.len() || !(0..shape.len()).all(fits) {
            return Err(wrong());
        }
        elements(shape).zip(elements(indices)).ok_or_else(wrong)?;
        let mut strides = row_major(shape);
        let stride = std::mem::take(&mut strides[axis]);
        Ok(Places::Elements { dims: indices.to_vec(), strides, extent: shape[axis], stride })
    }

    /// Of rows of coordinates, after `batch` axes that both tensors share.
    fn rows(op: &'static str, shape: &[usize], indices: &[usize], batch: usize) -> Result<Self, ShapeError> {
        let wrong = || ShapeError::new(op, format!("rows of indices {indices:?} after {batch} axes of {shape:?}"));
        let (Some((&count, rows)), Some(_)) = (indices.split_last(), elements(shape).zip(elements(indices))) else {
            return Err(wrong());
        };
        let slice = batch.checked_add(count).filter(|slice| *slice <= shape.len()).ok_or_else(wrong)?;
        if count == 0 || batch > rows.len() || shape[..batch] != rows[..batch] {
            return Err(wrong());
        }
        let axes = shape.iter().copied().zip(row_major(shape)).skip(batch).take(count).collect();
        let product = |dims: &[usize]| dims.iter().product();
        let (each, whole) = (product(&rows[batch..]), product(&shape[batch..]));
        Ok(Places::Rows { each, whole, axes, slice: product(&shape[slice..]) })
    }

    /// Elements that are at each place.
    fn slice(&self) -> usize {
        match self {
            Places::Elements { .. } => 1,
            Places::Rows { slice, .. } => *slice,
        }
    }

    /// Indices for each place.
    fn coordinates(&self) -> usize {
        match self {
            Places::Elements { .. } => 1,
            Places::Rows { axes, .. } => axes.len(),
        }
    }

    /// The element that a place begins at; `None` if an index is outside.
    #[inline(always)]
    fn at(&self, indices: &Indices<'_>, number: usize) -> Option<usize> {
        match self {
            Places::Elements { dims, strides, extent, stride } => {
                let mut at = position(indices.at(number), *extent)? * stride;
                let mut rest = number;
                for (dim, stride) in dims.iter().zip(strides).rev() {
                    at += rest % dim * stride;
                    rest /= dim;
                }
                Some(at)
            }
            Places::Rows { each, whole, axes, .. } => {
                let start = number / each.max(&1) * whole;
                let first = number * axes.len();
                axes.iter().enumerate().try_fold(start, |at, (i, (extent, stride))| {
                    Some(at + position(indices.at(first + i), *extent)? * stride)
                })
            }
        }
    }

    /// True if all indices are inside.
    fn check(&self, indices: &Indices<'_>) -> Result<(), IndexOutOfRange> {
        let extent_of = |number: usize| match self {
            Places::Elements { extent, .. } => *extent,
            Places::Rows { axes, .. } => axes[number % axes.len()].0,
        };
        let wrong = (0..indices.len()).find(|i| position(indices.at(*i), extent_of(*i)).is_none());
        match wrong {
            None => Ok(()),
            Some(position) => {
                Err(IndexOutOfRange { index: indices.at(position), position, extent: extent_of(position) })
            }
        }
    }
}

/// The plan of elements or slices that indices name, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatherAt {
    places: Places,
    bytes: usize,
    source: usize,
    count: usize,
}

impl GatherAt {
    /// A plan for elements of so many bytes: one for each index, which is along an axis.
    pub fn elements(bytes: usize, shape: &[usize], indices: &[usize], axis: usize) -> Result<Self, ShapeError> {
        Self::new("gather_elements", bytes, shape, indices, Places::elements("gather_elements", shape, indices, axis)?)
    }

    /// A plan for elements of so many bytes: a slice for each row of coordinates, after axes that both tensors share.
    pub fn rows(bytes: usize, shape: &[usize], indices: &[usize], batch: usize) -> Result<Self, ShapeError> {
        Self::new("gather_nd", bytes, shape, indices, Places::rows("gather_nd", shape, indices, batch)?)
    }

    fn new(
        op: &'static str,
        bytes: usize,
        shape: &[usize],
        indices: &[usize],
        places: Places,
    ) -> Result<Self, ShapeError> {
        let count = indices.iter().product::<usize>() / places.coordinates();
        let source: usize = shape.iter().product();
        let all = [source, count.saturating_mul(places.slice())].map(|n| n.checked_mul(bytes));
        if all.contains(&None) {
            return Err(ShapeError::new(op, format!("{indices:?} of {shape:?} are too many elements")));
        }
        Ok(Self { places, bytes, source, count })
    }

    /// Copies what the indices name. The destination stays as it is if an index is wrong.
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
        let Self { places, bytes, source, count } = self;
        let unit = places.slice() * bytes;
        assert_eq!(src.len(), source * bytes, "the operand has its shape");
        assert_eq!(indices.len(), count * places.coordinates(), "as many indices as planned");
        assert_eq!(dst.len(), count * unit, "the destination has the result's shape");
        places.check(&indices)?;
        if unit == 0 {
            return Ok(());
        }
        split(parallel, dst, unit, unit.div_ceil(4) + places.coordinates(), &|units, part| {
            for (slice, number) in part.chunks_exact_mut(unit).zip(units) {
                let from = places.at(&indices, number).expect("checked above") * bytes;
                slice.copy_from_slice(&src[from..from + unit]);
            }
        });
        Ok(())
    }
}

/// The plan of elements or slices merged into a tensor where indices say, in the order of the indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scatter {
    places: Places,
    elements: usize,
    count: usize,
}

impl Scatter {
    /// A plan for one element for each index, which is along an axis.
    pub fn elements(shape: &[usize], indices: &[usize], axis: usize) -> Result<Self, ShapeError> {
        Ok(Self::new(shape, indices, Places::elements("scatter_elements", shape, indices, axis)?))
    }

    /// A plan for a slice for each row of coordinates.
    pub fn rows(shape: &[usize], indices: &[usize]) -> Result<Self, ShapeError> {
        Ok(Self::new(shape, indices, Places::rows("scatter_nd", shape, indices, 0)?))
    }

    fn new(shape: &[usize], indices: &[usize], places: Places) -> Self {
        let count = indices.iter().product::<usize>() / places.coordinates();
        Self { places, elements: shape.iter().product(), count }
    }

    /// Puts new elements of so many bytes where they belong, over the destination's. It stays as it is if an index is wrong.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn replace(
        &self,
        bytes: usize,
        indices: Indices<'_>,
        updates: &[u8],
        dst: &mut [u8],
    ) -> Result<(), IndexOutOfRange> {
        let unit = self.places.slice() * bytes;
        self.each(indices, updates.len() / bytes.max(1), dst.len() / bytes.max(1), |number, at| {
            dst[at * bytes..][..unit].copy_from_slice(&updates[number * unit..][..unit]);
        })
    }

    /// Merges new elements into the destination's. It stays as it is if an index is wrong.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn merge(
        &self,
        merge: Merge,
        indices: Indices<'_>,
        updates: &[f32],
        dst: &mut [f32],
    ) -> Result<(), IndexOutOfRange> {
        let size = self.places.slice();
        let (all, elements) = (updates.len(), dst.len());
        let mut with = |f: fn(f32, f32) -> f32| {
            self.each(indices, all, elements, |number, at| {
                let slice = dst[at..][..size].iter_mut().zip(&updates[number * size..][..size]);
                slice.for_each(|(old, new)| *old = f(*old, *new));
            })
        };
        match merge {
            Merge::Replace => with(|_, new| new),
            Merge::Add => with(|old, new| old + new),
            Merge::Mul => with(|old, new| old * new),
            Merge::Max => with(|old, new| if new > old || new.is_nan() { new } else { old }),
            Merge::Min => with(|old, new| if new < old || new.is_nan() { new } else { old }),
        }
    }

    fn each(
        &self,
        indices: Indices<'_>,
        updates: usize,
        elements: usize,
        mut visit: impl FnMut(usize, usize),
    ) -> Result<(), IndexOutOfRange> {
        assert_eq!(elements, self.elements, "the destination has its shape");
        assert_eq!(indices.len(), self.count * self.places.coordinates(), "as many indices as planned");
        assert_eq!(updates, self.count * self.places.slice(), "an element for each place");
        self.places.check(&indices)?;
        // One after another: places may be the same.
        for number in 0..self.count {
            visit(number, self.places.at(&indices, number).expect("checked above"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::*;

    #[test]
    fn elements_and_slices_are_read() {
        let x: Vec<u8> = (0..2 * 3 * 2).collect();
        let plan = GatherAt::elements(2, &[2, 3], &[2, 2], 1).unwrap();
        let mut y = vec![0; 8];
        plan.run(&Serial, &x, Indices::I64(&[2, -3, 0, 1]), &mut y).unwrap();
        assert_eq!(y, [4, 5, 0, 1, 6, 7, 8, 9]);
        let before = y.clone();
        let error = plan.run(&Serial, &x, Indices::I64(&[0, 0, 3, 0]), &mut y).unwrap_err();
        assert_eq!((error.index, error.position, error.extent), (3, 2, 3));
        assert_eq!(y, before);
        let plan = GatherAt::rows(1, &[2, 3, 2], &[2, 1, 1], 1).unwrap();
        let mut y = vec![0; 4];
        plan.run(&Two, &x, Indices::I32(&[2, -1]), &mut y).unwrap();
        assert_eq!(y, [4, 5, 10, 11]);
        // In the whole tensor that is an element, on its axis it is none.
        let plan = GatherAt::rows(1, &[2, 6], &[1, 2], 0).unwrap();
        assert!(plan.run(&Serial, &x, Indices::I64(&[0, 7]), &mut [0]).is_err());
        assert!(GatherAt::rows(1, &[2, 3], &[1, 3], 0).is_err());
        assert!(GatherAt::rows(1, &[2, 3], &[1, 0], 0).is_err());
        assert!(GatherAt::rows(1, &[2, 3], &[3, 1], 1).is_err());
        assert!(GatherAt::elements(1, &[2, 3], &[3, 3], 1).is_err());
        assert!(GatherAt::elements(8, &[usize::MAX / 2, 1], &[1, 1], 1).is_err());
    }

    #[test]
    fn elements_and_slices_are_merged() {
        let plan = Scatter::rows(&[4, 2], &[3, 1]).unwrap();
        let mut y = vec![1.0f32; 8];
        plan.merge(Merge::Add, Indices::I64(&[0, -1, 0]), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut y).unwrap();
        assert_eq!(y, [7.0, 9.0, 1.0, 1.0, 1.0, 1.0, 4.0, 5.0]);
        let before = y.clone();
        assert!(plan.merge(Merge::Mul, Indices::I64(&[0, 4, 0]), &[0.0; 6], &mut y).is_err());
        assert_eq!(y, before);
        let plan = Scatter::elements(&[2, 3], &[1, 3], 0).unwrap();
        let mut y = vec![0u8; 6];
        plan.replace(1, Indices::I32(&[1, 0, -1]), &[7, 8, 9], &mut y).unwrap();
        assert_eq!(y, [0, 8, 0, 7, 0, 9]);
        let mut y = vec![1.0f32, f32::NAN, 2.0, 5.0, 5.0, 5.0];
        plan.merge(Merge::Max, Indices::I32(&[0, 0, 0]), &[f32::NAN, 3.0, 1.0], &mut y).unwrap();
        assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 2.0);
    }
}
