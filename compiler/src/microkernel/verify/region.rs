//! The check that an access stays inside a region in every trip of a loop, without running the loop.

use super::super::{Addr, Region};

impl Addr {
    /// The byte addressed in `trip`, relative to the parameter.
    pub fn byte(&self, trip: u64) -> i128 {
        // At most 2^127 - 2^63 in magnitude.
        i128::from(self.offset) + i128::from(trip) * i128::from(self.step)
    }
}

impl Region {
    /// One past the last byte, if that is at most `i64::MAX`.
    pub fn end(&self) -> Option<u64> {
        let last_row = self.rows.saturating_sub(1).checked_mul(self.row_stride)?;
        let row_bytes = if self.rows == 0 { 0 } else { self.row_bytes };
        last_row.checked_add(row_bytes).filter(|end| *end <= i64::MAX as u64)
    }

    /// True if no bytes lie between one row and the next.
    fn is_contiguous(&self) -> bool {
        self.rows <= 1 || self.row_stride == self.row_bytes
    }

    /// The first of `trips` trips in which `bytes` bytes at `addr` are not all inside, if there is one. Exact, in time
    /// proportional to the square of the number of bits. The region must have an [`end`](Self::end).
    pub(super) fn first_outside(&self, addr: &Addr, bytes: u64, trips: u64) -> Option<u64> {
        let inside = self.trips_before_either_end(addr, bytes, trips);
        // A number of trips is bad if any of them is, so the smallest bad number ends with the first bad trip.
        let (mut good, mut bad) = (0, inside);
        if self.all_within_rows(addr, bytes, inside) {
            return (inside < trips).then_some(inside);
        }
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.all_within_rows(addr, bytes, middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        Some(good)
    }

    /// The number of the first `trips` trips that access between the region's first byte and its last.
    fn trips_before_either_end(&self, addr: &Addr, bytes: u64, trips: u64) -> u64 {
        let first = addr.byte(0);
        let last_start = i128::from(self.end().unwrap_or(0)) - i128::from(bytes);
        if first < 0 || first > last_start {
            return 0;
        }
        let room = if addr.step > 0 { last_start - first } else { first };
        match room.checked_div(i128::from(addr.step.unsigned_abs())) {
            Some(steps) => u64::try_from(steps + 1).map_or(trips, |n| n.min(trips)),
            None => trips,
        }
    }

    /// True if none of the first `trips` trips, all between the region's ends, accesses bytes between two rows.
    fn all_within_rows(&self, addr: &Addr, bytes: u64, trips: u64) -> bool {
        if self.is_contiguous() || trips == 0 {
            return true;
        }
        if bytes > self.row_bytes {
            return false;
        }
        // The trips' bytes in ascending order are `start + i * step`. Those whose position in their row is at least
        // `limit` overrun it; as many as adding `stride - limit` carries into the next row.
        let start = addr.byte(0).min(addr.byte(trips - 1)).unsigned_abs();
        let step = if trips == 1 { 0 } else { u128::from(addr.step.unsigned_abs()) };
        let stride = u128::from(self.row_stride);
        let limit = u128::from(self.row_bytes - bytes + 1);
        let rows_before = |shift| floor_sum(trips.into(), stride, step, start + shift);
        rows_before(stride - limit) == rows_before(0)
    }
}

/// The sum of `(a * i + b) / m`, rounded down, over `i` in `0..n`, by Euclid's algorithm on `a` and `m`; the formulation
/// is that of the AtCoder library's `floor_sum`. `n`, `m` and `a * n + b` must be positive and below 2^64.
fn floor_sum(mut n: u128, mut m: u128, mut a: u128, mut b: u128) -> u128 {
    let mut sum = 0;
    loop {
        sum += n * (n - 1) / 2 * (a / m) + n * (b / m);
        a %= m;
        b %= m;
        let rest = a * n + b;
        if rest < m {
            return sum;
        }
        (n, b) = (rest / m, rest % m);
        (m, a) = (a, m);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::P;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn first_outside_is_what_running_the_loop_finds(
            (rows, row_bytes, gap) in (0u64..6, 0u64..24, 0u64..12),
            (offset, step, trips) in (-4i64..60, -40i64..40, 1u64..40),
            bytes in 1u64..12,
        ) {
            let region = Region { rows, row_bytes, row_stride: row_bytes + gap };
            let addr = Addr { param: P(0), offset, step };
            // Rows that touch are one: an access may then reach from one row into the next.
            let (rows, row_bytes) = if gap == 0 { (rows.min(1), rows * row_bytes) } else { (rows, row_bytes) };
            let is_inside = |byte: i128| (0..rows).any(|row| {
                let row_start = i128::from(row * region.row_stride);
                byte >= row_start && byte + i128::from(bytes) <= row_start + i128::from(row_bytes)
            });
            let expected = (0..trips).find(|&trip| !is_inside(addr.byte(trip)));
            prop_assert_eq!(region.first_outside(&addr, bytes, trips), expected);
        }

        #[test]
        fn no_number_overflows(
            (rows, row_bytes, row_stride) in (1u64.., any::<u64>(), 1u64..),
            (offset, step, trips) in (any::<u64>(), any::<i64>(), 1u64..),
            (rows_bits, step_bits) in (1u32..62, 0u32..63),
            bytes in 1u64..=256,
        ) {
            let (rows, row_stride) = ((rows >> (64 - rows_bits)).max(1), (row_stride >> (rows_bits + 1)).max(1));
            let region = Region { rows, row_bytes: row_bytes % row_stride, row_stride };
            let end = region.end().expect("rows * row_stride is below 2^63");
            let addr = Addr { param: P(0), offset: (offset % end.max(1)) as i64, step: step >> step_bits };
            if let Some(trip) = region.first_outside(&addr, bytes, trips) {
                prop_assert!(trip < trips);
            }
        }
    }

    #[test]
    fn the_largest_region_is_exact() {
        let region = Region { rows: 1 << 60, row_bytes: 4, row_stride: 8 };
        assert_eq!(region.end(), Some((1 << 63) - 4));
        let addr = |offset, step| Addr { param: P(0), offset, step };
        assert_eq!(region.first_outside(&addr(0, 8), 4, 1 << 60), None);
        assert_eq!(region.first_outside(&addr(0, 8), 4, u64::MAX), Some(1 << 60));
        assert_eq!(region.first_outside(&addr(i64::MAX - 7, -8), 4, 1 << 60), None);
        assert_eq!(region.first_outside(&addr(i64::MAX - 7, i64::MIN), 4, 2), Some(1));
        assert_eq!(region.first_outside(&addr(0, 12), 4, u64::MAX), Some(1));
    }
}
