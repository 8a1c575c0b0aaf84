//! Bytes as choices.

/// Choices that any bytes make; when there are no more, the first of each.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// The choices of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    fn byte(&mut self) -> u64 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                (*first).into()
            }
            None => 0,
        }
    }

    /// A number below `end`, which is at least 1 and at most 2^16.
    pub fn below(&mut self, end: u64) -> u64 {
        match end {
            0 | 1 => 0,
            2..=256 => self.byte() % end,
            _ => (self.byte() << 8 | self.byte()) % end,
        }
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Yes once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }

    /// Numbers below `n` in some order.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for at in (1..n).rev() {
            order.swap(at, at - self.below(at as u64 + 1) as usize);
        }
        order
    }
}
