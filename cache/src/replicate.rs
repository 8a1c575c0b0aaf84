//! Handles that threads have copies of.

/// A handle to a value that can be cloned by many threads.
pub trait Replicate: Clone {
    /// A handle to the same value, whose clones and drops do not write to what those of `self` write to.
    fn replicate(&self) -> Self;
}
