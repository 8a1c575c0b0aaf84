//! The tensors that a kernel is called with.

use crate::dtype::DType;
use crate::strides::{Layout, span};

/// A tensor that a kernel is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Left operand, the source.
    Lhs,
    /// Right operand, the weights.
    Rhs,
    /// The tensor of the n-th post-op that reads one.
    Post(u8),
    /// The result.
    Dst,
}

/// A kernel argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// What it is.
    pub role: Role,
    /// The name in messages, files and listings: `lhs`, `rhs`, `bias`, `add`, `mul2`, `dst`.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions, in the operation's order.
    pub shape: Vec<u64>,
    /// Where its elements are.
    pub layout: Layout,
}

impl Operand {
    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether it has no element; never true of a problem's operand.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements between neighbours along each dimension.
    pub fn strides(&self) -> Vec<u64> {
        self.layout.strides(&self.shape)
    }

    /// Elements of memory from its first element to one past its last: with the gaps between them, where there are any.
    pub fn span(&self) -> u64 {
        match self.layout.gaps() {
            Some(strides) => span(&self.shape, strides.as_slice()).unwrap_or(u64::MAX),
            None => self.len(),
        }
    }

    /// Whether its elements are next to one another, each in a place of its own.
    pub fn is_dense(&self) -> bool {
        self.layout.gaps().is_none()
    }

    /// The dimensions in the order of memory, outermost first: the shape of the array that holds it.
    pub fn memory_shape(&self) -> Vec<u64> {
        self.layout.tag().order().map(|d| self.shape[d]).collect()
    }

    /// The place of each element, from the first, in the order of [`memory_shape`](Self::memory_shape): that of memory where
    /// every element has a place of its own.
    pub fn places(&self) -> impl Iterator<Item = u64> {
        let strides = self.strides();
        let mut dims: Vec<(u64, u64)> = self.layout.tag().order().map(|d| (self.shape[d], strides[d])).collect();
        // Dimensions that continue each other are one, so that most steps are of the innermost.
        dims.dedup_by(|inner, outer| {
            let continues = outer.1 == inner.0 * inner.1;
            if continues {
                *outer = (outer.0 * inner.0, inner.1);
            }
            continues
        });
        let (inner, step) = dims.pop().unwrap_or((1, 1));
        let outer: u64 = dims.iter().map(|(extent, _)| extent).product();
        (0..outer).flat_map(move |mut run| {
            let mut first = 0;
            for (extent, stride) in dims.iter().rev() {
                first += run % extent * stride;
                run /= extent;
            }
            (0..inner).map(move |i| first + i * step)
        })
    }

    /// The index along each dimension of the element at a `place`; `None` of a gap. Of a tensor whose elements overlap, some
    /// element's.
    pub fn index_at(&self, place: u64) -> Option<Vec<u64>> {
        let (strides, mut rest) = (self.strides(), place);
        let mut index = vec![0; self.shape.len()];
        for d in self.layout.tag().order().filter(|d| self.shape[*d] > 1) {
            index[d] = (rest / strides[d]).min(self.shape[d] - 1);
            rest -= index[d] * strides[d];
        }
        (rest == 0).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Problem;

    fn operands(text: &str) -> Vec<Operand> {
        text.parse::<Problem>().unwrap().operands()
    }

    #[test]
    fn places_are_those_of_strides() {
        for text in [
            "matmul f32 2x3x4:2x4x5 stag=acb dtag=bac +add:ab",
            "matmul f32 2x3x4:2x4x5 strides=40x10x1:30x1x6:17x1x3",
            "matmul f32 1x3x4:2x4x5 strides=1x10x2::",
            "ip f32 mb3ic2ih4iw5oc7 strides=50x20x5x1::11x1",
            "conv f32 mb2ic3ih5iw4oc4kh3 strides=500x1x100x8::90x1x20x10",
            "matmul f32 1x1:1x1",
        ] {
            for o in operands(text) {
                let strides = o.strides();
                let mut expected = vec![0];
                for d in o.layout.tag().order() {
                    let next = |at: &u64| (0..o.shape[d]).map(|i| at + i * strides[d]).collect::<Vec<_>>();
                    expected = expected.iter().flat_map(next).collect();
                }
                let places: Vec<u64> = o.places().collect();
                assert_eq!(places, expected, "{text} {}", o.name);
                assert_eq!(places.len() as u64, o.len());
                assert_eq!(places.iter().max().unwrap() + 1, o.span());
                assert_eq!(o.is_dense(), o.span() == o.len(), "{text} {}", o.name);
                for place in 0..o.span() {
                    let index = o.index_at(place);
                    assert_eq!(index.is_some(), places.contains(&place), "{text} {} {place}", o.name);
                    let again = index.map(|i| i.iter().zip(&strides).map(|(i, s)| i * s).sum::<u64>());
                    assert_eq!(again.unwrap_or(place), place);
                }
            }
        }
    }

    #[test]
    fn elements_may_overlap_in_a_source() {
        let o = operands("matmul f32 5x3:3x2 strides=1x1::").remove(0);
        assert_eq!((o.len(), o.span(), o.is_dense()), (15, 7, false));
        assert_eq!(o.places().take(6).collect::<Vec<_>>(), [0, 1, 2, 1, 2, 3]);
    }
}
