//! Data for operands: deterministic in the seed and the operand, on every machine.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

use kiln_ir::{DType, Role};

struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator with a different stream for each operand.
    fn new(seed: u64, role: Role) -> Self {
        let stream = match role {
            Role::Lhs => 1,
            Role::Rhs => 2,
            Role::Post(0) => 3,
            Role::Dst => 4,
            Role::Post(n) => 4 + u64::from(n),
        };
        Self(seed ^ (stream << 56))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// An endless stream of multiples of 2^-23 in [-1, 1), all equally likely.
pub fn reals(seed: u64, role: Role) -> impl Iterator<Item = f32> {
    let mut random = SplitMix64::new(seed, role);
    std::iter::repeat_with(move || (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0)
}

/// Integers whose sums of products are exact in f32 in any order of additions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integers {
    /// The largest magnitude.
    magnitude: u64,
    /// One of this many consecutive elements is drawn, the others are zero.
    every: usize,
}

impl Integers {
    /// For sums of `k` products and one element: all intermediate results stay within 2^24.
    pub fn exact_for(k: u64) -> Self {
        const LIMIT: u64 = 1 << 23;
        let magnitude = (1..=8).rev().find(|m| m * m * k <= LIMIT).unwrap_or(1);
        Self { magnitude, every: k.div_ceil(LIMIT) as usize }
    }

    /// An endless stream of such integers.
    pub fn stream(self, seed: u64, role: Role) -> impl Iterator<Item = f32> {
        let mut random = SplitMix64::new(seed, role);
        let Self { magnitude, every } = self;
        (0usize..).map(move |i| {
            if !i.is_multiple_of(every) {
                return 0.0;
            }
            // The high half times the count, as in Lemire's reduction: no division, bias below 2^-27.
            let drawn = ((random.next() >> 32) * (2 * magnitude + 1)) >> 32;
            drawn as f32 - magnitude as f32
        })
    }
}

/// An endless stream of all integers of 8 bits, all equally likely. Sums of their products are exact: problems whose sums could leave 32
/// bits are refused.
pub fn bytes(dtype: DType, seed: u64, role: Role) -> impl Iterator<Item = f32> {
    let mut random = SplitMix64::new(seed, role);
    std::iter::repeat_with(move || dtype.from_bits((random.next() >> 56) as u32))
}

/// An endless stream of the least and the greatest integer of 8 bits: sums of their products are as large as such sums can be.
pub fn extreme_bytes(dtype: DType, seed: u64, role: Role) -> impl Iterator<Item = f32> {
    let middle = if dtype == DType::S8 { 0.0 } else { 128.0 };
    bytes(dtype, seed, role).map(move |v| if v < middle { middle - 128.0 } else { middle + 127.0 })
}

/// The endless stream of numbers that the benchmark line protocol defines: multiples of 1/8 in [-1, 1), each computed from its
/// index.
pub fn eighths(seed: u64) -> impl Iterator<Item = f32> {
    (0u64..).map(move |i| {
        let x = i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
        ((x >> 7 & 15) as f32 - 8.0) / 8.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_fill_the_interval_and_depend_on_seed_and_role() {
        let draw = |seed, role| reals(seed, role).take(10_000).collect::<Vec<_>>();
        let v = draw(1, Role::Lhs);
        assert!(v.iter().all(|x| (-1.0..1.0).contains(x)));
        assert!(v.iter().any(|x| *x < -0.99) && v.iter().any(|x| *x > 0.99));
        assert_eq!(v, draw(1, Role::Lhs));
        assert_ne!(v, draw(2, Role::Lhs));
        let roles = [Role::Rhs, Role::Dst, Role::Post(0), Role::Post(1), Role::Post(31)];
        let mut all = roles.map(|role| reals(1, role).take(4).map(f32::to_bits).collect::<Vec<_>>()).to_vec();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), roles.len(), "every operand has its own numbers");
    }

    #[test]
    fn integers_are_exact_for_any_length() {
        for k in [1, 3, 768, 131_072, 131_073, 8 << 20, 100 << 20] {
            let Integers { magnitude, every } = Integers::exact_for(k);
            let terms = k.div_ceil(every as u64) + 1;
            assert!(magnitude >= 1 && terms * magnitude * magnitude + magnitude <= 1 << 24, "{k}");
        }
        let v: Vec<f32> = Integers::exact_for(100).stream(7, Role::Lhs).take(5_000).collect();
        assert!(v.iter().all(|x| x.fract() == 0.0 && x.abs() <= 8.0));
        assert!(v.contains(&8.0) && v.contains(&-8.0));
    }

    #[test]
    fn bytes_have_their_whole_range() {
        for (dtype, least, most) in [(DType::S8, -128, 127), (DType::U8, 0, 255)] {
            let drawn = bytes(dtype, 1, Role::Lhs).take(10_000).map(|v| v as i32);
            let drawn: std::collections::BTreeSet<i32> = drawn.collect();
            assert!(drawn.into_iter().eq(least..=most), "{dtype}");
            let extremes = extreme_bytes(dtype, 1, Role::Lhs).take(100).map(|v| v as i32);
            assert!(extremes.collect::<std::collections::BTreeSet<_>>().into_iter().eq([least, most]), "{dtype}");
        }
    }

    #[test]
    fn eighths_begin_as_the_protocol_says() {
        // ((0 * 2654435761 + 40503) >> 7 & 15) - 8 = 4, and so on.
        assert_eq!(eighths(1).take(4).collect::<Vec<_>>(), [0.5, 0.875, -0.625, -0.25]);
    }
}
