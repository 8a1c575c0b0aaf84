//! Results that lie in their operand by strides: what decides which of them need no copy.

use super::super::types::TensorType;
use super::Structured;
use super::walk::{dense_strides, stretched_strides};

/// The elements of a result as places in the operand that they come from: the element at an index is number
/// `offset + sum(index[axis] * stride[axis])` of the operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// The element of the operand at index 0 of all axes; 0 of a result without elements.
    pub offset: u64,
    /// The extent of each axis of the result, outermost first, with its stride, in elements. A stride is 0 where the axis has at
    /// most one element, or repeats.
    pub dims: Vec<(u64, i64)>,
}

impl Structured {
    /// How the elements of the result lie in an operand of this type; `None` of operations that do more than pick elements of
    /// one operand by strides. The operation must take the operand.
    pub fn strided(&self, operand: &TensorType) -> Option<Strided> {
        let dense = dense_strides(operand.shape());
        let (shape, strides, offset) = match self {
            Structured::Reshape { shape } => (shape.clone(), dense_strides(shape), 0),
            Structured::Transpose { perm } => {
                let axes = || perm.iter().map(|axis| *axis as usize);
                (axes().map(|a| operand.shape()[a]).collect(), axes().map(|a| dense[a]).collect(), 0)
            }
            Structured::Broadcast { shape } => (shape.clone(), stretched_strides(operand.shape(), shape.len()), 0),
            Structured::Slice { starts, steps, counts } => {
                // A step along an axis of one element may be any number; it is not taken.
                let strides = steps.iter().zip(&dense).map(|(step, stride)| step.wrapping_mul(*stride)).collect();
                let first = starts.iter().zip(&dense).map(|(start, stride)| start.wrapping_mul(*stride as u64));
                (counts.clone(), strides, first.fold(0, u64::wrapping_add))
            }
            _ => return None,
        };
        let offset = if shape.contains(&0) { 0 } else { offset };
        let dims = shape.iter().zip(&strides).map(|(n, stride)| (*n, if *n > 1 { *stride } else { 0 })).collect();
        Some(Strided { offset, dims })
    }
}

impl Strided {
    /// The place of the first element, if the elements follow one another in the operand without a gap, in row-major order: then
    /// the result needs no copy, it is that part of the operand.
    pub fn dense(&self) -> Option<u64> {
        let is_empty = self.dims.iter().any(|(n, _)| *n == 0);
        let mut inner = 1;
        let mut is_next = |(n, stride): &(u64, i64)| {
            let is_next = *n == 1 || *stride == inner;
            inner *= *n as i64;
            is_next
        };
        (is_empty || self.dims.iter().rev().all(&mut is_next)).then_some(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ElementType;
    use super::*;

    fn of(op: &Structured, shape: &[u64]) -> Strided {
        op.strided(&TensorType::new(ElementType::F32, shape).unwrap()).unwrap()
    }

    fn slice(shape: &[u64], axes: &[(u64, i64, u64)]) -> Option<u64> {
        let op = Structured::Slice {
            starts: axes.iter().map(|a| a.0).collect(),
            steps: axes.iter().map(|a| a.1).collect(),
            counts: axes.iter().map(|a| a.2).collect(),
        };
        of(&op, shape).dense()
    }

    #[test]
    fn a_slice_is_a_part_where_nothing_is_left_out_or_turned() {
        assert_eq!(slice(&[3, 4], &[(1, 1, 2), (0, 1, 4)]), Some(4));
        assert_eq!(slice(&[3, 4], &[(2, 1, 1), (1, 1, 2)]), Some(9));
        // The step of an axis of which one element is taken is no one's business.
        assert_eq!(slice(&[3, 4], &[(2, i64::MIN, 1), (1, 1, 2)]), Some(9));
        assert_eq!(slice(&[3, 1, 4], &[(0, 1, 3), (0, -1, 1), (0, 1, 4)]), Some(0));
        // Columns are left out, rows are, or either are turned: inside, outside and between.
        assert_eq!(slice(&[3, 4], &[(0, 1, 2), (0, 1, 3)]), None);
        assert_eq!(slice(&[3, 4], &[(0, 2, 2), (0, 1, 4)]), None);
        assert_eq!(slice(&[4], &[(3, -1, 4)]), None);
        assert_eq!(slice(&[3, 4], &[(0, 1, 3), (3, -1, 4)]), None);
        assert_eq!(slice(&[3, 4], &[(0, 1, 1), (3, -1, 4)]), None);
        assert_eq!(slice(&[3, 4], &[(2, -1, 3), (0, 1, 4)]), None);
        assert_eq!(slice(&[2, 3, 4], &[(0, 1, 2), (2, -1, 3), (0, 1, 4)]), None);
        // Of a column of which every row has one element.
        assert_eq!(slice(&[3, 1], &[(0, 2, 2), (0, 1, 1)]), None);
        assert_eq!(slice(&[3, 4], &[(7, 5, 0), (9, -1, 4)]), Some(0));
    }

    #[test]
    fn other_movements_are_parts_where_they_move_nothing() {
        let transpose = |shape: &[u64], perm: &[u64]| of(&Structured::Transpose { perm: perm.into() }, shape).dense();
        assert_eq!(transpose(&[2, 1, 3], &[1, 0, 2]), Some(0));
        assert_eq!(transpose(&[2, 1, 3], &[0, 2, 1]), Some(0));
        assert_eq!(transpose(&[2, 1, 3], &[2, 1, 0]), None);
        assert_eq!(transpose(&[2, 0, 3], &[2, 1, 0]), Some(0));
        let broadcast = |shape: &[u64], to: &[u64]| of(&Structured::Broadcast { shape: to.into() }, shape).dense();
        assert_eq!(broadcast(&[3, 4], &[1, 3, 4]), Some(0));
        assert_eq!(broadcast(&[1, 4], &[3, 4]), None);
        assert_eq!(broadcast(&[], &[2]), None);
        assert_eq!(of(&Structured::Reshape { shape: vec![4, 3] }, &[2, 6]).dense(), Some(0));
        assert!(Structured::Concat { axis: 0 }.strided(&TensorType::new(ElementType::F32, [3]).unwrap()).is_none());
    }
}
