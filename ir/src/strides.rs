//! Strides: tensors whose elements are apart in memory.
//!
//! [`Strides`] are elements from one neighbour to the next along each dimension, as text `1024x1`. A [`Layout`] is where the
//! elements of an operand are: dense in the order of a [`Tag`], or as strides say. One layout has one value: strides that are
//! those of a dense tensor are a tag, and the stride along a dimension of 1, which no element has, is what follows from the
//! others.

use std::fmt;

use crate::layout::{MAX_RANK, Tag};

/// The most elements a tensor may have, gaps between them counted: byte offsets then fit in 35 bits, far inside every address computation.
pub const MAX_ELEMENTS: u64 = 1 << 33;

/// Elements between neighbours along each dimension.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Strides {
    elements: [u64; MAX_RANK],
    rank: u8,
}

impl Strides {
    /// These strides; `None` for more than [`MAX_RANK`] dimensions.
    pub fn new(strides: &[u64]) -> Option<Self> {
        let mut elements = [0; MAX_RANK];
        elements.get_mut(..strides.len())?.copy_from_slice(strides);
        Some(Self { elements, rank: strides.len() as u8 })
    }

    /// One per dimension.
    pub fn as_slice(&self) -> &[u64] {
        &self.elements[..usize::from(self.rank)]
    }

    /// Reads `1024x1`; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let stride = |word: &str| match word.parse::<u64>() {
            Ok(stride) => Ok(stride),
            Err(_) if word.strip_prefix('-').is_some_and(|digits| digits.parse::<u64>().is_ok()) => {
                Err(NEGATIVE.to_owned())
            }
            Err(_) if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) => Err(TOO_LARGE.to_owned()),
            Err(_) => {
                Err(format!("`{word}` is no stride: expected a positive integer per dimension, such as `1024x1`"))
            }
        };
        let all = text.split('x').map(stride).collect::<Result<Vec<u64>, String>>()?;
        Self::new(&all).ok_or_else(|| format!("{} dimensions: expected at most {MAX_RANK}", all.len()))
    }
}

impl fmt::Display for Strides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (d, stride) in self.as_slice().iter().enumerate() {
            write!(f, "{}{stride}", if d == 0 { "" } else { "x" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Strides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why negative strides are refused.
pub(crate) const NEGATIVE: &str =
    "a stride is negative: kernels read and write forwards, so an axis in reverse order has to be copied";
const TOO_LARGE: &str =
    "an element would be too far from the first: expected a tensor that spans at most 2^33 elements";

/// Where the elements of a tensor of some shape are. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    tag: Tag,
    strides: Option<Strides>,
}

impl Layout {
    /// Dense, in the order of a tag.
    pub fn dense(tag: Tag) -> Self {
        Self { tag, strides: None }
    }

    /// By strides. They must be positive along all dimensions but those of 1, and span at most [`MAX_ELEMENTS`]; the error
    /// says what is wrong. Strides of the dense tensor with the tag `default` are that tag, those of another dense tensor its
    /// tag.
    pub(crate) fn strided(shape: &[u64], strides: Strides, default: Tag) -> Result<Self, String> {
        let given = strides.as_slice();
        if given.len() != shape.len() {
            let dims = shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
            return Err(format!("{} strides: expected {}, one for each dimension of {dims}", given.len(), shape.len()));
        }
        if let Some(d) = (0..shape.len()).find(|d| shape[*d] > 1 && given[*d] == 0) {
            let letter = char::from(b'a' + d as u8);
            return Err(format!(
                "the stride of dimension `{letter}` is 0: what is broadcast has an extent of 1, where the operation allows it"
            ));
        }
        if span(shape, given).is_none_or(|span| span > MAX_ELEMENTS) {
            return Err(TOO_LARGE.into());
        }
        let same = |tag: &Tag| {
            let dense = tag.strides(shape);
            (0..shape.len()).all(|d| shape[d] == 1 || dense[d] == given[d])
        };
        let own = order(shape, given);
        if let Some(tag) = [default, own].into_iter().find(same) {
            return Ok(Self::dense(tag));
        }
        let mut strides = strides;
        for d in (0..shape.len()).rev().filter(|d| shape[*d] == 1) {
            // The least from which a neighbour would not lie among the elements of the dimensions behind.
            let behind = (d + 1..shape.len()).find(|i| shape[*i] > 1);
            strides.elements[d] = behind.map_or(1, |i| shape[i] * given[i]);
        }
        Ok(Self { tag: own, strides: Some(strides) })
    }

    /// The order of the dimensions in memory, outermost first.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// The strides of a tensor that is not dense.
    pub fn gaps(&self) -> Option<&Strides> {
        self.strides.as_ref()
    }

    /// Elements between neighbours along each dimension of a tensor of this `shape`.
    pub fn strides(&self, shape: &[u64]) -> Vec<u64> {
        match &self.strides {
            Some(strides) => strides.as_slice().into(),
            None => self.tag.strides(shape),
        }
    }
}

/// Elements from the first to one past the last of a tensor; `None` beyond 2^64.
pub fn span(shape: &[u64], strides: &[u64]) -> Option<u64> {
    shape
        .iter()
        .zip(strides)
        .try_fold(1u64, |span, (extent, stride)| extent.checked_sub(1)?.checked_mul(*stride)?.checked_add(span))
}

/// Whether every index has an element of its own, with all elements of the inner dimensions between two neighbours: what a
/// tensor that is written must have.
pub(crate) fn is_nested(shape: &[u64], strides: &[u64]) -> bool {
    let mut dims: Vec<usize> = (0..shape.len()).filter(|d| shape[*d] > 1).collect();
    dims.sort_by_key(|d| strides[*d]);
    let mut inner = 1u128;
    dims.into_iter().all(|d| {
        let fits = u128::from(strides[d]) >= inner;
        // At most six products of numbers below 2^64; the last ones may be too large only where nothing fits any more.
        inner = inner.saturating_add(u128::from(shape[d] - 1) * u128::from(strides[d]));
        fits
    })
}

/// The order of dimensions by their strides, largest first. Those of 1, and equal ones, keep their place before the dimensions
/// behind them.
fn order(shape: &[u64], strides: &[u64]) -> Tag {
    let mut order: Vec<usize> = (0..shape.len()).filter(|d| shape[*d] > 1).collect();
    order.sort_by_key(|d| std::cmp::Reverse(strides[*d]));
    for d in (0..shape.len()).rev().filter(|d| shape[*d] == 1) {
        let behind = (d + 1..shape.len()).find_map(|i| order.iter().position(|o| *o == i));
        order.insert(behind.unwrap_or(order.len()), d);
    }
    let word: String = order.iter().map(|d| char::from(b'a' + *d as u8)).collect();
    Tag::parse(&word, shape.len()).expect("each dimension is there once")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: &[u64], strides: &[u64]) -> Result<Layout, String> {
        Layout::strided(shape, Strides::new(strides).unwrap(), Tag::plain(shape.len()))
    }

    #[test]
    fn one_layout_has_one_value() {
        for (shape, strides, tag) in [
            (&[3, 4][..], &[4, 1][..], "ab"),
            (&[3, 4], &[1, 3], "ba"),
            (&[1, 4], &[77, 1], "ab"),
            (&[3, 1], &[1, 0], "ab"),
            (&[1, 1], &[5, 9], "ab"),
            (&[2, 3, 4], &[12, 1, 3], "acb"),
            (&[2, 1, 4], &[4, 999, 1], "abc"),
            (&[2, 3, 1], &[1, 2, 0], "bac"),
        ] {
            assert_eq!(layout(shape, strides), Ok(Layout::dense(Tag::parse(tag, shape.len()).unwrap())), "{strides:?}");
        }
        for (shape, strides, tag, canonical) in [
            (&[3, 4][..], &[5, 1][..], "ab", "5x1"),
            (&[3, 4], &[1, 5], "ba", "1x5"),
            (&[3, 4], &[20, 2], "ab", "20x2"),
            (&[3, 1], &[5, 77], "ab", "5x1"),
            (&[1, 4], &[77, 3], "ab", "12x3"),
            (&[1, 3, 4], &[0, 5, 1], "abc", "15x5x1"),
            (&[2, 1, 4], &[9, 1, 1], "abc", "9x4x1"),
            (&[2, 3, 1], &[7, 2, 9], "abc", "7x2x1"),
            (&[3, 4], &[1, 1], "ab", "1x1"),
        ] {
            let found = layout(shape, strides).unwrap();
            assert_eq!((found.tag().to_string(), found.gaps().unwrap().to_string()), (tag.into(), canonical.into()));
            assert_eq!(layout(shape, found.gaps().unwrap().as_slice()), Ok(found), "{strides:?}");
            assert_eq!(found.strides(shape), found.gaps().unwrap().as_slice());
        }
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        let why = |shape: &[u64], strides: &[u64]| layout(shape, strides).unwrap_err();
        assert!(why(&[3, 4], &[4]).contains("expected 2, one for each dimension of 3x4"));
        assert!(why(&[3, 4], &[4, 0]).contains("dimension `b` is 0"));
        assert!(why(&[3, 4], &[u64::MAX, 1]).contains("too far"));
        assert!(why(&[3, 4], &[1 << 33, 1]).contains("too far"));
        let parse = |text| Strides::parse(text).unwrap_err();
        assert!(parse("8x-1").contains("negative") && parse("-8x1").contains("negative"));
        assert!(parse("8xx1").contains("`` is no stride") && parse("8,1").contains("`8,1`"));
        assert!(parse("99999999999999999999x1").contains("too far"));
        assert!(parse("1x1x1x1x1x1x1").contains("7 dimensions"));
        assert_eq!(Strides::parse("8x1").unwrap().to_string(), "8x1");
    }

    #[test]
    fn elements_of_their_own_are_nested() {
        for (shape, strides, nested) in [
            (&[3, 4][..], &[4, 1][..], true),
            (&[3, 4], &[1, 3], true),
            (&[3, 4], &[3, 1], false),
            (&[3, 4], &[1, 1], false),
            (&[3, 1], &[1, 1], true),
            (&[2, 3, 4], &[12, 4, 1], true),
            (&[2, 3, 4], &[4, 8, 1], true),
            (&[2, 3, 4], &[2, 8, 1], false),
            // Different places, but mixed up with each other.
            (&[2, 3], &[3, 2], false),
            (&[u64::MAX, 2], &[u64::MAX, u64::MAX], false),
        ] {
            assert_eq!(is_nested(shape, strides), nested, "{shape:?} {strides:?}");
        }
        assert_eq!(span(&[3, 4], &[5, 1]), Some(14));
        assert_eq!(span(&[u64::MAX, 2], &[u64::MAX, 1]), None);
    }
}
