//! Operations that move elements without looking at them.

use std::ops::Range;

use kiln_ir::func::PadMode;

use super::parallel::{Parallel, split};
use super::strided::StridedCopy;
use super::{ShapeError, elements, row_major};

fn checked(op: &'static str, bytes: usize, shape: &[usize]) -> Result<Vec<usize>, ShapeError> {
    match elements(shape).and_then(|n| n.checked_mul(bytes)).filter(|n| isize::try_from(*n).is_ok()) {
        Some(_) => Ok(row_major(shape)),
        None => Err(ShapeError::new(op, format!("{shape:?} has too many elements"))),
    }
}

fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|s| *s as isize).collect()
}

/// The plan of a tensor with its axes in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose(StridedCopy);

impl Transpose {
    /// A plan for elements of so many bytes and this shape; `perm` has, for each axis of the result, that of the operand.
    pub fn new(bytes: usize, shape: &[usize], perm: &[usize]) -> Result<Self, ShapeError> {
        let strides = checked("transpose", bytes, shape)?;
        if perm.len() != shape.len() || !(0..shape.len()).all(|axis| perm.contains(&axis)) {
            return Err(ShapeError::new("transpose", format!("perm {perm:?} has not each axis of {shape:?} once")));
        }
        let dims: Vec<_> = perm.iter().map(|a| shape[*a]).collect();
        let src: Vec<_> = perm.iter().map(|a| strides[*a] as isize).collect();
        StridedCopy::new(bytes, &dims, &src, &row_major(&dims), 0, 0).map(Self)
    }

    /// Copies the elements.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[u8], dst: &mut [u8]) {
        self.0.run(parallel, src, dst);
    }
}

/// The plan of a tensor stretched to a shape as NumPy broadcasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast(StridedCopy);

impl Broadcast {
    /// A plan for elements of so many bytes.
    pub fn new(bytes: usize, shape: &[usize], to: &[usize]) -> Result<Self, ShapeError> {
        let strides = checked("broadcast", bytes, shape)?;
        let dst = checked("broadcast", bytes, to)?;
        let from = to.len().checked_sub(shape.len());
        let fits = |from: &usize| shape.iter().zip(&to[*from..]).all(|(a, b)| a == b || *a == 1);
        let Some(from) = from.filter(fits) else {
            return Err(ShapeError::new("broadcast", format!("{shape:?} does not stretch to {to:?}")));
        };
        let mut src = vec![0; from];
        src.extend(strides.iter().zip(shape).map(|(s, d)| if *d == 1 { 0 } else { *s as isize }));
        StridedCopy::new(bytes, to, &src, &dst, 0, 0).map(Self)
    }

    /// Copies the elements.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[u8], dst: &mut [u8]) {
        self.0.run(parallel, src, dst);
    }
}

/// The plan of some elements along each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice(StridedCopy);

impl Slice {
    /// A plan for elements of so many bytes and this shape: along each axis the first, the distance to the next and how many.
    pub fn new(
        bytes: usize,
        shape: &[usize],
        starts: &[usize],
        steps: &[i64],
        counts: &[usize],
    ) -> Result<Self, ShapeError> {
        let strides = checked("slice", bytes, shape)?;
        let dst = checked("slice", bytes, counts)?;
        let rank = shape.len();
        if starts.len() != rank || steps.len() != rank || counts.len() != rank {
            return Err(ShapeError::new("slice", format!("starts, steps and counts have {rank} numbers each")));
        }
        if counts.contains(&0) {
            return StridedCopy::new(bytes, &[0], &[1], &[1], 0, 0).map(Self);
        }
        for (axis, n) in shape.iter().enumerate() {
            let last = starts[axis] as i128 + i128::from(steps[axis]) * (counts[axis] as i128 - 1);
            if starts[axis] >= *n || !(0..*n as i128).contains(&last) {
                return Err(ShapeError::new("slice", format!("elements beyond axis {axis} of {shape:?}")));
            }
        }
        let offset = starts.iter().zip(&strides).map(|(a, s)| a * s).sum();
        // A step that is too large for its stride is one of an axis of which one element is taken.
        let src = steps.iter().zip(&strides).map(|(step, s)| (*step as isize).checked_mul(*s as isize).unwrap_or(0));
        StridedCopy::new(bytes, counts, &src.collect::<Vec<_>>(), &dst, offset, 0).map(Self)
    }

    /// Copies the elements.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[u8], dst: &mut [u8]) {
        self.0.run(parallel, src, dst);
    }
}

/// The plan of tensors one after another along an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concat(Vec<StridedCopy>);

impl Concat {
    /// A plan for elements of so many bytes and operands of these shapes.
    pub fn new(bytes: usize, shapes: &[&[usize]], axis: usize) -> Result<Self, ShapeError> {
        let wrong = |what: String| Err(ShapeError::new("concat", what));
        let Some(first) = shapes.first().filter(|s| axis < s.len()) else {
            return wrong(format!("axis {axis} of {shapes:?}"));
        };
        let mut shape = first.to_vec();
        shape[axis] = 0;
        for other in shapes {
            let same = other.len() == first.len() && (0..first.len()).all(|d| d == axis || other[d] == first[d]);
            let Some(sum) = other.get(axis).filter(|_| same).and_then(|n| shape[axis].checked_add(*n)) else {
                return wrong(format!("{shapes:?} differ in more than axis {axis}"));
            };
            shape[axis] = sum;
        }
        let dst = checked("concat", bytes, &shape)?;
        let mut offset = 0;
        let copies = shapes.iter().map(|shape| {
            let src = signed(&row_major(shape));
            let copy = StridedCopy::new(bytes, shape, &src, &dst, 0, offset);
            offset += shape[axis] * dst[axis];
            copy
        });
        copies.collect::<Result<_, _>>().map(Self)
    }

    /// Copies the elements.
    ///
    /// # Panics
    /// If the number of operands is another, or a slice shorter than its shape.
    pub fn run(&self, parallel: &dyn Parallel, operands: &[&[u8]], dst: &mut [u8]) {
        assert_eq!(operands.len(), self.0.len(), "as many operands as planned");
        for (copy, src) in self.0.iter().zip(operands) {
            copy.run(parallel, src, dst);
        }
    }
}

/// The plan of a tensor with elements around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pad {
    bytes: usize,
    kind: PadKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PadKind {
    /// The tensor, and the regions around it that get the constant.
    Constant { inside: StridedCopy, around: Vec<StridedCopy>, value: [u8; 8] },
    /// For each axis, what is added to an element's place in the operand, by its place along the axis.
    Mapped(Vec<Vec<usize>>),
}

impl Pad {
    /// A plan for elements of so many bytes and this shape, with so many elements before and after each axis. `value` has the
    /// bytes of the constant first.
    pub fn new(
        bytes: usize,
        shape: &[usize],
        mode: PadMode,
        before: &[usize],
        after: &[usize],
        value: [u8; 8],
    ) -> Result<Self, ShapeError> {
        let wrong = |what: String| Err(ShapeError::new("pad", what));
        let strides = checked("pad", bytes, shape)?;
        if before.len() != shape.len() || after.len() != shape.len() {
            return wrong(format!("before and after have {} numbers each", shape.len()));
        }
        if !matches!(bytes, 1 | 2 | 4 | 8) {
            return wrong(format!("elements of {bytes} bytes: expected 1, 2, 4 or 8"));
        }
        let whole: Option<Vec<usize>> =
            (0..shape.len()).map(|d| shape[d].checked_add(before[d])?.checked_add(after[d])).collect();
        let Some(whole) = whole else { return wrong("too many elements".into()) };
        let dst = checked("pad", bytes, &whole)?;
        if mode != PadMode::Constant {
            let map = (0..shape.len()).map(|d| {
                let place = |i: usize| Some(source(mode, i, before[d], shape[d])? * strides[d]);
                (0..whole[d]).map(place).collect::<Option<Vec<_>>>()
            });
            return match map.collect() {
                Some(map) => Ok(Self { bytes, kind: PadKind::Mapped(map) }),
                None => wrong(format!("more around {shape:?} than there is to repeat")),
            };
        }
        // Along each axis, what is before and after those parts that later axes are yet to be put around of.
        let mut around = vec![];
        let mut dims = whole.clone();
        let mut corner = 0;
        let nowhere = vec![0; shape.len()];
        for d in 0..shape.len() {
            for (n, from) in [(before[d], 0), (after[d], before[d] + shape[d])] {
                if n > 0 {
                    dims[d] = n;
                    around.push(StridedCopy::new(bytes, &dims, &nowhere, &dst, 0, corner + from * dst[d])?);
                }
            }
            dims[d] = shape[d];
            corner += before[d] * dst[d];
        }
        let inside = StridedCopy::new(bytes, shape, &signed(&strides), &dst, 0, corner)?;
        Ok(Self { bytes, kind: PadKind::Constant { inside, around, value } })
    }

    /// Copies the elements.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[u8], dst: &mut [u8]) {
        match &self.kind {
            PadKind::Constant { inside, around, value } => {
                for region in around {
                    region.run(parallel, &value[..self.bytes], dst);
                }
                inside.run(parallel, src, dst);
            }
            PadKind::Mapped(map) => match self.bytes {
                1 => mapped::<1>(parallel, map, src, dst),
                2 => mapped::<2>(parallel, map, src, dst),
                4 => mapped::<4>(parallel, map, src, dst),
                _ => mapped::<8>(parallel, map, src, dst),
            },
        }
    }
}

/// The element of an axis of `n` that is at `i` of the padded one; `None` if there is none to repeat.
fn source(mode: PadMode, i: usize, before: usize, n: usize) -> Option<usize> {
    let last = n.checked_sub(1)?;
    let place = match (mode, i.checked_sub(before)) {
        (_, Some(at)) if at < n => at,
        (PadMode::Reflect, None) => before - i,
        (PadMode::Reflect, Some(at)) => last.checked_sub(at - last)?,
        (PadMode::Wrap, None) => n.checked_sub(before - i)?,
        (PadMode::Wrap, Some(at)) => at - n,
        (_, None) => 0,
        (_, Some(_)) => last,
    };
    (place < n).then_some(place)
}

fn mapped<const B: usize>(parallel: &dyn Parallel, map: &[Vec<usize>], src: &[u8], dst: &mut [u8]) {
    let (src, _) = src.as_chunks::<B>();
    let (dst, _) = dst.as_chunks_mut::<B>();
    let all: usize = map.iter().map(Vec::len).product();
    let dst = &mut dst[..all];
    let unit = all / map.first().map_or(1, |m| m.len().max(1));
    split(parallel, dst, unit, unit, &|units, part| fill(map, units, 0, src, part));
}

/// The elements at `range` of the first axis and all of the others.
fn fill<const B: usize>(map: &[Vec<usize>], range: Range<usize>, from: usize, src: &[[u8; B]], dst: &mut [[u8; B]]) {
    match map {
        [] => dst.copy_from_slice(&src[from..from + 1]),
        [inner] => {
            for (d, place) in dst.iter_mut().zip(&inner[range]) {
                *d = src[from + place];
            }
        }
        [outer, inner @ ..] => {
            let unit = dst.len() / range.len();
            for (part, place) in dst.chunks_exact_mut(unit).zip(&outer[range]) {
                fill(inner, 0..inner[0].len(), from + place, src, part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::*;

    fn bytes(x: &[i32]) -> &[u8] {
        bytemuck::cast_slice(x)
    }

    type Run<'a> = &'a dyn Fn(&dyn Parallel, &[u8], &mut [u8]);

    /// A result whose elements are those that `at` says of the operand, by index.
    fn check(shape: &[usize], out: &[usize], run: Run<'_>, at: &dyn Fn(&[usize]) -> Option<Vec<usize>>) {
        let x: Vec<i32> = (0..shape.iter().product::<usize>() as i32).collect();
        for parallel in [&Serial as &dyn Parallel, &Two] {
            let mut y = vec![-1; out.iter().product()];
            run(parallel, bytes(&x), bytemuck::cast_slice_mut(&mut y));
            for (flat, y) in y.iter().enumerate() {
                let mut rest = flat;
                let mut index = vec![0; out.len()];
                for d in (0..out.len()).rev() {
                    index[d] = rest % out[d];
                    rest /= out[d];
                }
                let expected = at(&index).map_or(-7, |i| i.iter().zip(shape).fold(0, |at, (i, n)| at * n + i) as i32);
                assert_eq!(*y, expected, "{shape:?} to {out:?} at {index:?}");
            }
        }
    }

    #[test]
    fn transposes() {
        for (shape, perm) in [
            (vec![3, 224, 224], vec![1, 2, 0]),
            (vec![1, 128, 12, 64], vec![0, 2, 1, 3]),
            (vec![1, 128, 12, 64], vec![0, 2, 3, 1]),
            (vec![2, 3, 4, 5, 6], vec![4, 2, 0, 3, 1]),
            (vec![5], vec![0]),
            (vec![], vec![]),
            (vec![3, 0], vec![1, 0]),
        ] {
            let out: Vec<_> = perm.iter().map(|a| shape[*a]).collect();
            let plan = Transpose::new(4, &shape, &perm).unwrap();
            check(&shape, &out, &|p, x, y| plan.run(p, x, y), &|index| {
                let mut i = vec![0; perm.len()];
                perm.iter().zip(index).for_each(|(a, k)| i[*a] = *k);
                Some(i)
            });
        }
        assert!(Transpose::new(4, &[2, 3], &[0, 0]).is_err());
        assert!(Transpose::new(4, &[usize::MAX, 3], &[0, 1]).is_err());
    }

    #[test]
    fn broadcasts_and_slices() {
        let plan = Broadcast::new(4, &[3, 1, 5], &[2, 3, 300, 5]).unwrap();
        check(&[3, 1, 5], &[2, 3, 300, 5], &|p, x, y| plan.run(p, x, y), &|i| Some(vec![i[1], 0, i[3]]));
        assert!(Broadcast::new(4, &[3], &[4]).is_err());
        let plan = Slice::new(4, &[5, 300, 70], &[4, 2, 69], &[-2, 3, -1], &[3, 90, 70]).unwrap();
        check(&[5, 300, 70], &[3, 90, 70], &|p, x, y| plan.run(p, x, y), &|i| {
            Some(vec![4 - 2 * i[0], 2 + 3 * i[1], 69 - i[2]])
        });
        Slice::new(4, &[5], &[9], &[1], &[0]).unwrap().run(&Serial, &[], &mut []);
        Slice::new(4, &[5, 2], &[3, 0], &[i64::MIN, 1], &[1, 2]).unwrap();
        assert!(Slice::new(4, &[5], &[3], &[1], &[3]).is_err());
        assert!(Slice::new(4, &[5], &[3], &[i64::MIN], &[2]).is_err());
    }

    #[test]
    fn concatenations() {
        let (a, b): (Vec<i32>, Vec<i32>) = ((0..6).collect(), (10..18).collect());
        let plan = Concat::new(4, &[&[2, 3], &[2, 4]], 1).unwrap();
        let mut y = [0i32; 14];
        plan.run(&Serial, &[bytes(&a), bytes(&b)], bytemuck::cast_slice_mut(&mut y));
        assert_eq!(y, [0, 1, 2, 10, 11, 12, 13, 3, 4, 5, 14, 15, 16, 17]);
        let plan = Concat::new(4, &[&[2, 3], &[0, 3], &[1, 3]], 0).unwrap();
        let mut y = [0i32; 9];
        plan.run(&Serial, &[bytes(&a), &[], bytes(&b[..3])], bytemuck::cast_slice_mut(&mut y));
        assert_eq!(y, [0, 1, 2, 3, 4, 5, 10, 11, 12]);
        assert!(Concat::new(4, &[], 0).is_err());
        assert!(Concat::new(4, &[&[2, 3], &[1, 4]], 1).is_err());
    }

    #[test]
    fn pads() {
        let (shape, before, after) = (vec![4, 5, 60], vec![2, 0, 3], vec![1, 4, 2]);
        let out: Vec<_> = (0..3).map(|d| shape[d] + before[d] + after[d]).collect();
        let mut value = [0; 8];
        value[..4].copy_from_slice(&(-7i32).to_le_bytes());
        for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
            let plan = Pad::new(4, &shape, mode, &before, &after, value).unwrap();
            check(&shape, &out, &|p, x, y| plan.run(p, x, y), &|index| {
                let place = |d: usize| {
                    let (i, n) = (index[d] as i64 - before[d] as i64, shape[d] as i64);
                    let at = match mode {
                        PadMode::Constant => i,
                        PadMode::Edge => i.clamp(0, n - 1),
                        PadMode::Wrap => i.rem_euclid(n),
                        PadMode::Reflect if i >= n => 2 * (n - 1) - i,
                        PadMode::Reflect => i.abs(),
                    };
                    (0..n).contains(&at).then_some(at as usize)
                };
                (0..3).map(place).collect()
            });
        }
        assert!(Pad::new(4, &[3], PadMode::Reflect, &[3], &[0], value).is_err());
        assert!(Pad::new(4, &[3], PadMode::Wrap, &[0], &[4], value).is_err());
        assert!(Pad::new(4, &[0], PadMode::Edge, &[1], &[0], value).is_err());
        assert!(Pad::new(4, &[3], PadMode::Constant, &[usize::MAX], &[0], value).is_err());
        Pad::new(8, &[], PadMode::Edge, &[], &[], value).unwrap().run(&Serial, &[1; 8], &mut [0; 8]);
    }
}
