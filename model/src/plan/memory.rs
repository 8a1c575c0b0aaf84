//! Where values lie in one arena.
//!
//! Each buffer is alive from the step that writes it to the last that reads it. Larger ones are placed first, each at the lowest
//! place that is free while it lives: the greedy method by size of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural
//! Net Inference" (2020).

#[cfg(test)]
use std::ops::Range;

/// Places are multiples of so many bytes: a line of the cache, and what the widest vectors ask for.
pub const ALIGN: usize = 64;

/// A buffer: its bytes, and the first and the last step that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// How large it is.
    pub bytes: usize,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
}

/// Where buffers are, and how large the arena is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The place of each buffer.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub bytes: usize,
    /// Bytes that are alive at once at most: no arena can be smaller.
    pub peak: usize,
}

impl Buffer {
    fn meets(&self, other: &Buffer) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn padded(&self) -> usize {
        self.bytes.next_multiple_of(ALIGN)
    }
}

/// Places buffers.
pub fn place(buffers: &[Buffer]) -> Placement {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(buffers[*i].bytes), buffers[*i].first));
    let mut placement = Placement { offsets: vec![0; buffers.len()], ..Placement::default() };
    // By place, those that have one.
    let mut placed: Vec<usize> = vec![];
    for i in order {
        let size = buffers[i].padded();
        let mut at = 0;
        for &other in placed.iter().filter(|o| buffers[**o].meets(&buffers[i])) {
            if placement.offsets[other] >= at + size {
                break;
            }
            at = at.max(placement.offsets[other] + buffers[other].padded());
        }
        placement.offsets[i] = at;
        placement.bytes = placement.bytes.max(at + size);
        let position = placed.partition_point(|o| placement.offsets[*o] <= at);
        placed.insert(position, i);
    }
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or_default();
    let mut change = vec![0isize; steps + 1];
    for buffer in buffers {
        change[buffer.first] += buffer.padded() as isize;
        change[buffer.last + 1] -= buffer.padded() as isize;
    }
    let alive = change.iter().scan(0, |alive, change| {
        *alive += change;
        Some(*alive)
    });
    placement.peak = alive.max().unwrap_or_default() as usize;
    placement
}

/// The bytes of a buffer in the arena.
#[cfg(test)]
fn range(placement: &Placement, buffers: &[Buffer], buffer: usize) -> Range<usize> {
    let start = placement.offsets[buffer];
    start..start + buffers[buffer].bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_live_at_once_shares_memory() {
        let buffer = |bytes, first, last| Buffer { bytes, first, last };
        let placement = place(&[buffer(100, 0, 1), buffer(100, 1, 2), buffer(100, 2, 3), buffer(10, 0, 3)]);
        assert_eq!(placement, Placement { offsets: vec![0, 128, 0, 256], bytes: 320, peak: 320 });
        assert_eq!(place(&[]).bytes, 0);
    }

    proptest! {
        #[test]
        fn nothing_overlaps(all in prop::collection::vec((0usize..5000, 0usize..40, 0usize..12), 0..60)) {
            let buffers: Vec<_> =
                all.iter().map(|(bytes, first, steps)| Buffer { bytes: *bytes, first: *first, last: first + steps }).collect();
            let placement = place(&buffers);
            let alive = |step: usize| buffers.iter().filter(|b| (b.first..=b.last).contains(&step)).map(Buffer::padded).sum();
            prop_assert_eq!(placement.peak, (0..60).map(alive).max().unwrap_or(0usize));
            prop_assert!(placement.peak <= placement.bytes);
            for (i, a) in buffers.iter().enumerate() {
                let r = range(&placement, &buffers, i);
                prop_assert!(r.end <= placement.bytes && r.start.is_multiple_of(ALIGN));
                for (j, b) in buffers.iter().enumerate().skip(i + 1).filter(|(_, b)| a.meets(b)) {
                    let s = range(&placement, &buffers, j);
                    prop_assert!(r.end <= s.start || s.end <= r.start, "{a:?} {b:?}");
                }
            }
        }
    }
}
