//! The memory of one call.

use std::ops::Range;

use crate::plan::memory::ALIGN;

/// Memory for all values of a call, aligned to [`ALIGN`] bytes.
#[derive(Debug)]
pub struct Arena(Box<[Line]>);

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// The arena while one part of it is written.
pub struct Parts<'a> {
    before: &'a [u8],
    /// The part that is written.
    pub output: &'a mut [u8],
    after: &'a [u8],
    end: usize,
}

impl Arena {
    /// Zeros, which the system gives pages for as they are written.
    pub fn new(bytes: usize) -> Option<Self> {
        bytemuck::allocation::try_zeroed_slice_box(bytes.div_ceil(ALIGN)).ok().map(Arena)
    }

    /// Everything.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    /// One part to write, the others to read.
    pub fn parts(&mut self, output: Range<usize>) -> Parts<'_> {
        let all: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        let (before, rest) = all.split_at_mut(output.start);
        let (written, after) = rest.split_at_mut(output.len());
        Parts { before, output: written, after, end: output.end }
    }
}

impl<'a> Parts<'a> {
    /// A part that is read.
    ///
    /// # Panics
    /// If it overlaps what is written, which a verified plan does not do.
    pub fn input(&self, range: Range<usize>) -> &'a [u8] {
        if range.end <= self.before.len() {
            &self.before[range]
        } else {
            &self.after[range.start - self.end..range.end - self.end]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_they_are() {
        let mut arena = Arena::new(300).unwrap();
        assert_eq!(arena.bytes().as_ptr() as usize % ALIGN, 0);
        arena.parts(0..64).output.fill(1);
        arena.parts(128..300).output.fill(3);
        let parts = arena.parts(64..128);
        assert_eq!((parts.input(0..64), parts.input(299..300)), (&[1; 64][..], &[3][..]));
        parts.output.fill(2);
        assert_eq!(arena.bytes()[63..65], [1, 2]);
    }
}
