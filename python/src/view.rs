//! Tensors of others, where they lie.

use kiln_ir::func::{ElementType, Order, TensorType};
use smallvec::SmallVec;

use crate::error::{Error, Result};

/// Extents, or strides in elements.
pub type Dims = SmallVec<[i64; 6]>;

/// A tensor in somebody else's memory. Whoever reads or writes it answers for its owner.
#[derive(Clone, Debug)]
pub struct View {
    /// The first element.
    pub data: *mut u8,
    /// The type of elements.
    pub element: ElementType,
    /// The extents.
    pub shape: Dims,
    /// Elements from one to the next along each axis.
    pub strides: Dims,
}

/// The layout of elements in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// One after the other, row-major.
    RowMajor,
    /// One after the other, the axes in another order.
    Dense(Order),
    /// With gaps, backwards, or several in one place.
    Scattered,
}

/// The layout of a tensor of this shape and these strides.
pub fn lie(shape: &[i64], strides: &[i64]) -> Lie {
    if shape.contains(&0) || is_dense(shape, strides, (0..shape.len()).rev()) {
        return Lie::RowMajor;
    }
    // Axes of one element may be anywhere: they stay in front.
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|axis| if shape[*axis] == 1 { i64::MIN } else { -strides[*axis] });
    if is_dense(shape, strides, order.iter().rev().copied()) {
        Lie::Dense(order.iter().map(|axis| *axis as u64).collect())
    } else {
        Lie::Scattered
    }
}

/// True if elements lie one after the other, with the axes from the innermost on as given.
fn is_dense(shape: &[i64], strides: &[i64], axes: impl Iterator<Item = usize>) -> bool {
    let mut next = 1;
    for axis in axes.filter(|axis| shape[*axis] != 1) {
        if strides[axis] != next {
            return false;
        }
        next *= shape[axis];
    }
    true
}

impl View {
    /// Elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.elements() * self.element.bytes()
    }

    /// True if it and another one may have memory in common: if what lies between their first and last elements does.
    pub fn overlaps(&self, other: &View) -> bool {
        let (a, b) = (self.place(), other.place());
        a.start < b.end && b.start < a.end
    }

    /// The addresses from the first to the last element, whichever way they lie.
    fn place(&self) -> std::ops::Range<usize> {
        if self.elements() == 0 {
            return 0..0;
        }
        let reach = |of: fn(i64) -> bool| -> isize {
            let steps = self.shape.iter().zip(&self.strides).filter(|(_, s)| of(**s));
            steps.map(|(d, s)| (d - 1) * s).sum::<i64>() as isize * self.element.bytes() as isize
        };
        let first = self.data.addr().wrapping_add_signed(reach(|s| s < 0));
        first..self.data.addr().wrapping_add_signed(reach(|s| s > 0)) + self.element.bytes()
    }

    /// Its layout.
    pub fn lie(&self) -> Lie {
        lie(&self.shape, &self.strides)
    }

    /// Its type.
    pub fn ty(&self) -> Result<TensorType> {
        let shape: Vec<u64> = self.shape.iter().map(|d| *d as u64).collect();
        TensorType::new(self.element, shape).map_err(|e| Error::Value(e.to_string()))
    }

    /// True if it has this type.
    pub fn is_of(&self, ty: &TensorType) -> bool {
        self.element == ty.element()
            && self.shape.len() == ty.rank()
            && self.shape.iter().zip(ty.shape()).all(|(found, expected)| *found == *expected as i64)
    }

    /// The bytes of a dense tensor.
    ///
    /// # Safety
    /// The tensor is dense, its owner keeps it for `'a`, and nobody writes it meanwhile.
    pub unsafe fn dense<'a>(&self) -> &'a [u8] {
        match self.bytes() {
            // Nothing may lie nowhere.
            0 => &[],
            // SAFETY: the caller answers for the owner, and so many bytes of a dense tensor lie there.
            bytes => unsafe { std::slice::from_raw_parts(self.data, bytes) },
        }
    }

    /// The bytes of a dense tensor, to write.
    ///
    /// # Safety
    /// The tensor is dense, its owner keeps it for `'a`, and nobody else uses its elements meanwhile.
    pub unsafe fn dense_mut<'a>(&self) -> &'a mut [u8] {
        match self.bytes() {
            0 => &mut [],
            // SAFETY: the caller answers for the owner, and so many bytes of a dense tensor lie there.
            bytes => unsafe { std::slice::from_raw_parts_mut(self.data, bytes) },
        }
    }

    /// A row-major copy.
    ///
    /// # Safety
    /// Its owner keeps it until this returns, and nobody writes it meanwhile.
    pub unsafe fn gather(&self) -> Vec<u8> {
        let (size, mut copy) = (self.element.bytes(), Vec::with_capacity(self.bytes()));
        self.each(|element| {
            // SAFETY: `each` gives addresses of elements, which the caller answers for.
            copy.extend_from_slice(unsafe { std::slice::from_raw_parts(element, size) });
        });
        copy
    }

    /// Writes the elements, given row-major.
    ///
    /// # Safety
    /// Its owner keeps it until this returns, and nobody else uses its elements meanwhile.
    ///
    /// # Panics
    /// If there are too few.
    pub unsafe fn scatter(&self, elements: &[u8]) {
        let size = self.element.bytes();
        assert_eq!(elements.len(), self.bytes());
        let mut from = elements.chunks_exact(size);
        self.each(|element| {
            let value = from.next().expect("as many as there are");
            // SAFETY: `each` gives addresses of elements, which the caller answers for; `value` has as many bytes and is not theirs.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), element, size) };
        });
    }

    /// Calls with the address of each element, in row-major order.
    fn each(&self, mut visit: impl FnMut(*mut u8)) {
        let Some((inner, outer)) = self.shape.split_last() else { return visit(self.data) };
        if self.shape.contains(&0) {
            return;
        }
        let size = self.element.bytes() as isize;
        let step = |axis: usize| self.strides[axis] as isize * size;
        let last = outer.len();
        let mut at = vec![0; last];
        let mut row = self.data;
        loop {
            (0..*inner as isize).for_each(|n| visit(row.wrapping_offset(n * step(last))));
            // The next row, as an odometer counts.
            let Some(axis) = (0..last).rev().find(|axis| at[*axis] + 1 < outer[*axis]) else { return };
            at[axis] += 1;
            row = row.wrapping_offset(step(axis));
            for (axis, at) in at.iter_mut().enumerate().skip(axis + 1) {
                row = row.wrapping_offset(-step(axis) * *at as isize);
                *at = 0;
            }
        }
    }
}
