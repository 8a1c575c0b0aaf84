//! Memory order of tensors: tags as benchdnn writes them.
//!
//! A [`Tag`] lists the dimensions from the outermost in memory to the innermost: `ab` is row-major, `ba` column-major, `acb` a
//! batch of column-major matrices. `abx` is the plain order of any rank and `axb` has the second dimension innermost.

use std::fmt;

/// The most dimensions a tensor may have.
pub const MAX_RANK: usize = 6;

/// An order of dimensions in memory, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    order: [u8; MAX_RANK],
    rank: u8,
}

impl Tag {
    /// The order of the dimensions themselves.
    ///
    /// # Panics
    /// Beyond [`MAX_RANK`].
    pub fn plain(rank: usize) -> Self {
        assert!(rank <= MAX_RANK, "at most {MAX_RANK} dimensions");
        Self { order: [0, 1, 2, 3, 4, 5], rank: rank as u8 }
    }

    /// Reads `acb`, `abx` or `axb` for a tensor of `rank` dimensions. `None` unless it names each dimension once.
    pub fn parse(word: &str, rank: usize) -> Option<Self> {
        let mut tag = Self::plain(rank);
        if word == "abx" {
            return Some(tag);
        }
        let letters: Vec<u8> = match word {
            "axb" if rank >= 2 => (2..rank as u8).fold(vec![0], |mut all, d| {
                all.push(d);
                all
            }),
            _ => word.bytes().map(|b| b.wrapping_sub(b'a')).collect(),
        };
        let letters = if word == "axb" && rank >= 2 { [letters, vec![1]].concat() } else { letters };
        let each_once = letters.len() == rank && (0..rank as u8).all(|d| letters.contains(&d));
        if !each_once {
            return None;
        }
        tag.order[..rank].copy_from_slice(&letters);
        Some(tag)
    }

    /// Whether it is the order of the dimensions themselves.
    pub fn is_plain(&self) -> bool {
        *self == Self::plain(self.rank.into())
    }

    /// Dimensions, outermost in memory first.
    pub fn order(&self) -> impl DoubleEndedIterator<Item = usize> {
        let order = self.order;
        (0..usize::from(self.rank)).map(move |i| usize::from(order[i]))
    }

    /// Elements between neighbours along each dimension of a dense tensor of this `shape`. Wraps where the tensor is larger
    /// than memory can be.
    pub fn strides(&self, shape: &[u64]) -> Vec<u64> {
        self.strides_of(shape, |_| true)
    }

    /// [`strides`](Self::strides) of a tensor that lacks the dimensions that `has` refuses: those have stride 0.
    pub fn strides_of(&self, shape: &[u64], has: impl Fn(usize) -> bool) -> Vec<u64> {
        let mut strides = vec![0; shape.len()];
        let mut next = 1u64;
        for d in self.order().rev().filter(|d| *d < shape.len() && has(*d)) {
            strides[d] = next;
            next = next.wrapping_mul(shape[d]);
        }
        strides
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.order().try_for_each(|d| write!(f, "{}", char::from(b'a' + d as u8)))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_permutations() {
        let tag = |word, rank| Tag::parse(word, rank).map(|t| t.to_string());
        assert_eq!(tag("acb", 3).as_deref(), Some("acb"));
        assert_eq!(tag("abx", 4).as_deref(), Some("abcd"));
        assert_eq!(tag("axb", 4).as_deref(), Some("acdb"));
        for (word, rank) in [("aa", 2), ("a", 2), ("abc", 2), ("ac", 2), ("AB", 2), ("", 1), ("a€", 2)] {
            assert_eq!(tag(word, rank), None, "{word}");
        }
    }

    #[test]
    fn strides_follow_the_order() {
        let strides = |word: &str, shape: &[u64]| Tag::parse(word, shape.len()).unwrap().strides(shape);
        assert_eq!(strides("abc", &[2, 3, 4]), [12, 4, 1]);
        assert_eq!(strides("acb", &[2, 3, 4]), [12, 1, 3]);
        assert_eq!(strides("bac", &[2, 3, 4]), [4, 8, 1]);
        let lacking = Tag::plain(3).strides_of(&[2, 3, 4], |d| d != 1);
        assert_eq!(lacking, [4, 0, 1]);
    }
}
