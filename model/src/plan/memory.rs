//! Where values lie in one arena.
//!
//! Each buffer is alive from the step that writes it to the last that reads it. Larger ones are placed first, each at the lowest
//! place that is free while it lives: the greedy method by size of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural
//! Net Inference" (2020). It compares each buffer with all that are placed. Where there are too many for that, they are placed in the
//! order of time, each in the smallest gap that it fits in.

#[cfg(test)]
use std::ops::Range;

use std::collections::{BTreeMap, BTreeSet};

/// Places are multiples of so many bytes: a line of the cache, and what the widest vectors ask for.
pub const ALIGN: usize = 64;

/// A buffer: its bytes, and the first and the last step that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its size.
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

/// Buffers that are placed by size at most: the time is quadratic in them.
const BY_SIZE: usize = 1 << 14;

/// Places buffers.
pub fn place(buffers: &[Buffer]) -> Placement {
    let offsets = if buffers.len() <= BY_SIZE { by_size(buffers) } else { by_time(buffers) };
    let ends = offsets.iter().zip(buffers).map(|(at, buffer)| at + buffer.padded());
    Placement { bytes: ends.max().unwrap_or_default(), peak: peak(buffers), offsets }
}

/// The places of buffers, the largest first.
fn by_size(buffers: &[Buffer]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(buffers[*i].bytes), buffers[*i].first));
    let mut offsets = vec![0; buffers.len()];
    // By place, those that have one.
    let mut placed: Vec<usize> = vec![];
    for i in order {
        let size = buffers[i].padded();
        let mut at = 0;
        for &other in placed.iter().filter(|o| buffers[**o].meets(&buffers[i])) {
            if offsets[other] >= at + size {
                break;
            }
            at = at.max(offsets[other] + buffers[other].padded());
        }
        offsets[i] = at;
        let position = placed.partition_point(|o| offsets[*o] <= at);
        placed.insert(position, i);
    }
    offsets
}

/// The places of buffers, the first to be written first.
fn by_time(buffers: &[Buffer]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|i| buffers[*i].bytes > 0).collect();
    let mut ending = order.clone();
    order.sort_by_key(|i| (buffers[*i].first, std::cmp::Reverse(buffers[*i].bytes)));
    ending.sort_by_key(|i| buffers[*i].last);
    let mut ending = ending.into_iter().peekable();
    let mut offsets = vec![0; buffers.len()];
    let mut gaps = Gaps::default();
    for i in order {
        // What was read for the last time before this is written was written before it, too.
        while let Some(over) = ending.next_if(|other| buffers[*other].last < buffers[i].first) {
            gaps.give(offsets[over], buffers[over].padded());
        }
        offsets[i] = gaps.take(buffers[i].padded());
    }
    offsets
}

/// Memory that is free, below the first byte that was never taken.
#[derive(Default)]
struct Gaps {
    /// Ends by starts. No two gaps touch.
    ends: BTreeMap<usize, usize>,
    /// Sizes and starts.
    sizes: BTreeSet<(usize, usize)>,
    top: usize,
}

impl Gaps {
    fn insert(&mut self, start: usize, end: usize) {
        if start < end {
            self.ends.insert(start, end);
            self.sizes.insert((end - start, start));
        }
    }

    /// Removes a gap. Gives its end.
    fn remove(&mut self, start: usize) -> Option<usize> {
        let end = self.ends.remove(&start)?;
        self.sizes.remove(&(end - start, start));
        Some(end)
    }

    /// Takes so many bytes from the smallest gap that has them, or from above all.
    fn take(&mut self, bytes: usize) -> usize {
        if let Some(&(size, start)) = self.sizes.range((bytes, 0)..).next() {
            self.remove(start);
            self.insert(start + bytes, start + size);
            return start;
        }
        // A gap that ends at the top is the beginning.
        let highest = self.ends.last_key_value().filter(|(_, end)| **end == self.top).map(|(start, _)| *start);
        let start = highest.unwrap_or(self.top);
        self.remove(start);
        self.top = start + bytes;
        start
    }

    fn give(&mut self, start: usize, bytes: usize) {
        let (mut from, mut to) = (start, start + bytes);
        if let Some((&before, _)) = self.ends.range(..start).next_back().filter(|(_, end)| **end == start) {
            self.remove(before);
            from = before;
        }
        to = self.remove(to).unwrap_or(to);
        self.insert(from, to);
    }
}

/// Bytes that are alive at once at most.
fn peak(buffers: &[Buffer]) -> usize {
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
    alive.max().unwrap_or_default() as usize
}

/// The bytes of a buffer in the arena.
#[cfg(test)]
fn range(offsets: &[usize], buffers: &[Buffer], buffer: usize) -> Range<usize> {
    offsets[buffer]..offsets[buffer] + buffers[buffer].bytes
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
            for offsets in [placement.offsets, by_time(&buffers)] {
                for (i, a) in buffers.iter().enumerate() {
                    let r = range(&offsets, &buffers, i);
                    prop_assert!(r.start.is_multiple_of(ALIGN));
                    for (j, b) in buffers.iter().enumerate().skip(i + 1).filter(|(_, b)| a.meets(b)) {
                        let s = range(&offsets, &buffers, j);
                        prop_assert!(r.is_empty() || s.is_empty() || r.end <= s.start || s.end <= r.start, "{a:?} {b:?}");
                    }
                }
            }
        }
    }

    /// More than are compared with each other: those of a chain, and those of values that are all read at the end.
    #[test]
    fn many_buffers_are_placed_without_comparing_all() {
        const MANY: usize = 1_000_000;
        let of = |last: fn(usize) -> usize| -> Vec<Buffer> {
            (0..MANY).map(|i| Buffer { bytes: 64 * (1 + i % 3), first: i, last: last(i) }).collect()
        };
        let chain = place(&of(|i| i + 1));
        assert!(chain.peak == 5 * 64 && chain.bytes <= 2 * chain.peak, "{} of {}", chain.bytes, chain.peak);
        let wide = place(&of(|_| MANY));
        assert_eq!(wide.bytes, wide.peak);
    }
}
