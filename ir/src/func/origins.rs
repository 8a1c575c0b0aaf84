//! The nodes of a model that a value was made of.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Names that are kept of one value; a value that was made of more nodes has the first ones.
const MOST: usize = 16;

/// The names of the nodes of a model, or of the layers of a network, that a value was made of; the most important one first.
///
/// Passes merge them, so that a kernel that computes what several nodes did has the names of all. They are notes for people and no
/// part of what a function computes: any two are equal, and they have no place in a function's text.
#[derive(Clone, Default)]
pub struct Origins(Vec<Arc<str>>);

impl Origins {
    /// One node.
    pub fn of(name: impl Into<Arc<str>>) -> Self {
        Origins(vec![name.into()])
    }

    /// The names, the most important one first; none of a value that no node made.
    pub fn names(&self) -> &[Arc<str>] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another value behind these.
    pub fn add(&mut self, other: &Origins) {
        for name in &other.0 {
            if self.0.len() == MOST {
                break;
            }
            if !self.0.contains(name) {
                self.0.push(name.clone());
            }
        }
    }

    /// Adds those of another value before these.
    pub fn lead(&mut self, other: &Origins) {
        let own = std::mem::replace(self, other.clone());
        self.add(&own);
    }
}

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origins {}

impl Hash for Origins {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl fmt::Display for Origins {
    /// The first name, and how many others there are: `conv1 (+2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        // A name may have anything in it, and this is a part of lines.
        write!(f, "{}", first.escape_debug())?;
        match self.0.len() - 1 {
            0 => Ok(()),
            others => write!(f, " (+{others})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_merged_once_each_and_bounded() {
        let mut origins = Origins::of("conv");
        origins.add(&Origins::of("relu"));
        origins.add(&Origins::of("conv"));
        assert_eq!(origins.to_string(), "conv (+1)");
        origins.lead(&Origins::of("gemm"));
        assert_eq!(origins.names().iter().map(|n| &**n).collect::<Vec<_>>(), ["gemm", "conv", "relu"]);
        (0..100).for_each(|i| origins.add(&Origins::of(i.to_string())));
        assert_eq!(origins.names().len(), MOST);
        assert_eq!(Origins::of("a\nb").to_string(), "a\\nb");
        assert_eq!(Origins::default().to_string(), "");
    }
}
