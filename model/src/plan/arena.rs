//! The memory of one call.

use std::ops::Range;
use std::sync::Mutex;

use crate::error::ModelError;
use crate::lock::lock;
use crate::plan::memory::ALIGN;

/// Arenas that are kept between calls, at most: as many calls at once need none to be made.
const KEPT: usize = 8;

/// Arenas for the calls of a network, from any thread.
#[derive(Debug, Default)]
pub struct Arenas(Mutex<Vec<Arena>>);

impl Arenas {
    /// The smallest that is kept and large enough; else a new one, in the place of the largest.
    pub fn take(&self, bytes: usize) -> Result<Arena, ModelError> {
        {
            let mut kept = lock(&self.0);
            let length = |at: &usize| kept[*at].bytes().len();
            let fits = (0..kept.len()).filter(|at| length(at) >= bytes).min_by_key(length);
            match fits {
                Some(at) => return Ok(kept.swap_remove(at)),
                None => {
                    let largest = (0..kept.len()).max_by_key(length);
                    largest.map(|at| kept.swap_remove(at));
                }
            }
        }
        Arena::new(bytes).ok_or(ModelError::OutOfMemory { bytes, what: "the values of a call" })
    }

    /// Keeps one for another call, if there are not enough.
    pub fn give(&self, arena: Arena) {
        let mut kept = lock(&self.0);
        if kept.len() < KEPT {
            kept.push(arena);
        }
    }

    /// Bytes of those that are kept.
    pub fn bytes(&self) -> usize {
        lock(&self.0).iter().map(|a| a.bytes().len()).sum()
    }
}

/// Memory for all values of a call, aligned to [`ALIGN`] bytes.
#[derive(Debug)]
pub struct Arena(Box<[Line]>);

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// An arena while parts of it are written.
pub struct Parts<'a> {
    /// The part that is read.
    pub read: Rest<'a>,
    /// The part that is written.
    pub output: &'a mut [u8],
    /// The part that is worked in.
    pub scratch: &'a mut [u8],
}

/// The parts of an arena that are read, with where each begins.
pub struct Rest<'a>([(usize, &'a [u8]); 3]);

impl Arena {
    /// Zeros, which the system gives pages for as they are written.
    pub fn new(bytes: usize) -> Option<Self> {
        bytemuck::allocation::try_zeroed_slice_box(bytes.div_ceil(ALIGN)).ok().map(Arena)
    }

    /// Everything.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    /// Everything, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// One part to write and one to work in, which may be empty and do not overlap, and the others to read.
pub fn parts(all: &mut [u8], mut output: Range<usize>, mut scratch: Range<usize>) -> Parts<'_> {
    // What is empty may have a place inside the other.
    if scratch.is_empty() {
        scratch = output.end..output.end;
    } else if output.is_empty() {
        output = scratch.end..scratch.end;
    }
    let scratch_first = scratch.start < output.start;
    let (first, second) = if scratch_first { (scratch, output) } else { (output, scratch) };
    let (before, rest) = all.split_at_mut(first.start);
    let (one, rest) = rest.split_at_mut(first.len());
    let (between, rest) = rest.split_at_mut(second.start - first.end);
    let (other, after) = rest.split_at_mut(second.len());
    let (output, scratch) = if scratch_first { (other, one) } else { (one, other) };
    Parts { read: Rest([(0, before), (first.end, between), (second.end, after)]), output, scratch }
}

impl<'a> Rest<'a> {
    /// A part that is read.
    ///
    /// # Panics
    /// If it overlaps what is written, which no plan does: what a step reads lives while it writes.
    pub fn input(&self, range: Range<usize>) -> &'a [u8] {
        let holds = |(start, part): &&(usize, &[u8])| range.start >= *start && range.end <= start + part.len();
        let (start, part) = self.0.iter().find(holds).expect("what is read is not written");
        &part[range.start - start..range.end - start]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_are_kept_and_bounded() {
        let arenas = Arenas::default();
        let all: Vec<_> = (0..KEPT + 3).map(|i| arenas.take(64 * (i + 1)).unwrap()).collect();
        all.into_iter().for_each(|arena| arenas.give(arena));
        assert_eq!(arenas.bytes(), (1..=KEPT).map(|i| 64 * i).sum::<usize>());
        // The smallest that fits; a larger one takes the place of the largest.
        let arena = arenas.take(100).unwrap();
        assert_eq!(arena.bytes().len(), 128);
        arenas.give(arena);
        arenas.give(arenas.take(64 * 100).unwrap());
        assert_eq!(arenas.bytes(), (1..KEPT).map(|i| 64 * i).sum::<usize>() + 6400);
    }

    #[test]
    fn parts_are_where_they_are() {
        let mut arena = Arena::new(300).unwrap();
        assert_eq!(arena.bytes().as_ptr() as usize % ALIGN, 0);
        parts(arena.bytes_mut(), 0..64, 0..0).output.fill(1);
        parts(arena.bytes_mut(), 128..300, 0..0).output.fill(3);
        let all = parts(arena.bytes_mut(), 64..128, 0..0);
        assert_eq!((all.read.input(0..64), all.read.input(299..300)), (&[1; 64][..], &[3][..]));
        all.output.fill(2);
        assert_eq!(arena.bytes()[63..65], [1, 2]);
        for (output, scratch) in [(64..128, 192..256), (192..256, 64..128), (70..70, 64..128)] {
            let all = parts(arena.bytes_mut(), output, scratch);
            assert_eq!(
                (all.read.input(0..64).len(), all.read.input(130..190), all.read.input(256..300).len()),
                (64, &[3; 60][..], 44)
            );
            all.output.fill(4);
            all.scratch.fill(5);
        }
        assert_eq!((&arena.bytes()[60..68], arena.bytes()[192]), (&[1, 1, 1, 1, 5, 5, 5, 5][..], 4));
    }
}
