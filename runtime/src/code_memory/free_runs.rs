//! Which parts of a chunk are free: disjoint runs, found by best fit, merged with their neighbours when returned.

use std::collections::{BTreeMap, BTreeSet};

/// The free runs of one chunk, as byte offsets. No two runs touch, so a chunk that is all free is one run.
pub(super) struct FreeRuns {
    by_offset: BTreeMap<usize, usize>,
    by_length: BTreeSet<(usize, usize)>,
}

impl FreeRuns {
    /// A chunk of `length` bytes, all free.
    pub(super) fn all(length: usize) -> FreeRuns {
        let mut runs = FreeRuns { by_offset: BTreeMap::new(), by_length: BTreeSet::new() };
        runs.add(0, length);
        runs
    }

    /// The length of the shortest run of at least `length` bytes.
    pub(super) fn best_fit(&self, length: usize) -> Option<usize> {
        self.by_length.range((length, 0)..).next().map(|(length, _)| *length)
    }

    /// Takes `length` bytes from the start of the best fit; `None` if no run is long enough.
    pub(super) fn take(&mut self, length: usize) -> Option<usize> {
        let &(run, offset) = self.by_length.range((length, 0)..).next()?;
        self.remove(offset, run);
        if run > length {
            self.add(offset + length, run - length);
        }
        Some(offset)
    }

    /// Returns bytes that were [taken](Self::take).
    pub(super) fn give(&mut self, mut offset: usize, mut length: usize) {
        if let Some((&before, &run)) = self.by_offset.range(..offset).next_back() {
            debug_assert!(before + run <= offset, "returned twice");
            if before + run == offset {
                self.remove(before, run);
                (offset, length) = (before, run + length);
            }
        }
        if let Some(&run) = self.by_offset.get(&(offset + length)) {
            self.remove(offset + length, run);
            length += run;
        }
        self.add(offset, length);
    }

    fn add(&mut self, offset: usize, length: usize) {
        self.by_offset.insert(offset, length);
        self.by_length.insert((length, offset));
    }

    fn remove(&mut self, offset: usize, length: usize) {
        self.by_offset.remove(&offset);
        self.by_length.remove(&(length, offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_fit_is_taken_and_neighbours_merge() {
        let mut runs = FreeRuns::all(100);
        let taken: Vec<_> = [10, 30, 10, 20, 10].iter().map(|n| runs.take(*n).unwrap()).collect();
        assert_eq!(taken, [0, 10, 40, 50, 70]);
        runs.give(10, 30);
        runs.give(50, 20);
        assert_eq!(runs.best_fit(15), Some(20), "the free runs have 20, 20 and 30 bytes");
        assert_eq!(runs.take(25), Some(10));
        runs.give(10, 25);
        runs.give(40, 10);
        assert_eq!(runs.best_fit(31), Some(60), "10..70 is one run again");
        runs.give(70, 10);
        runs.give(0, 10);
        assert_eq!(runs.best_fit(1), Some(100));
        assert_eq!(runs.take(101), None);
    }

    /// Random takes and gives against a map of bytes: runs never overlap and nothing is lost.
    #[test]
    fn random_use_neither_overlaps_nor_leaks() {
        const SIZE: usize = 256;
        let (mut runs, mut used, mut live) = (FreeRuns::all(SIZE), [false; SIZE], Vec::new());
        let mut state = 1_u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for _ in 0..20_000 {
            if random(2) == 0 {
                let length = 1 + random(40);
                let longest = used.split(|u| *u).map(<[bool]>::len).max().unwrap();
                let taken = runs.take(length);
                assert_eq!(taken.is_some(), longest >= length);
                if let Some(offset) = taken {
                    let bytes = &mut used[offset..offset + length];
                    assert!(bytes.iter().all(|u| !u));
                    bytes.fill(true);
                    live.push((offset, length));
                }
            } else if !live.is_empty() {
                let (offset, length) = live.swap_remove(random(live.len()));
                used[offset..offset + length].fill(false);
                runs.give(offset, length);
            }
        }
        live.into_iter().for_each(|(offset, length)| runs.give(offset, length));
        assert_eq!(runs.best_fit(1), Some(SIZE));
    }
}
