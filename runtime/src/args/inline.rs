//! A list for the pointers of a call, which allocates only if it is long.

/// A list that allocates from its `N + 1`st element on.
#[derive(Debug)]
pub(super) struct Inline<T, const N: usize> {
    len: usize,
    first: [T; N],
    /// All elements, once there are more than `N`.
    all: Vec<T>,
}

impl<T: Copy, const N: usize> Inline<T, N> {
    #[inline]
    pub(super) fn new(filler: T) -> Self {
        Self { len: 0, first: [filler; N], all: Vec::new() }
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        if self.len < N {
            self.first[self.len] = value;
        } else {
            self.spill(value);
        }
        self.len += 1;
    }

    #[cold]
    fn spill(&mut self, value: T) {
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.push(value);
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[T] {
        if self.len <= N { &self.first[..self.len] } else { &self.all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_keeps_its_order() {
        let mut list = Inline::<u32, 3>::new(0);
        for n in 0..10 {
            assert_eq!(list.as_slice(), (0..n).collect::<Vec<_>>());
            assert_eq!(list.all.capacity() > 0, n > 3);
            list.push(n);
        }
    }
}
