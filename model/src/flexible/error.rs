//! The errors of networks for any sizes.

/// A network that is not the same for all sizes but for its shapes, or sizes that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlexibleError {
    /// A value depends on the sizes in another way than linearly in each.
    #[error(
        "`{layer}`: {why}; compile the network for each size by itself, or give sizes that are multiples of something in steps \
         (`OpenDim::step`)"
    )]
    Shape {
        /// Its name.
        layer: String,
        /// The fault.
        why: String,
    },
    /// There are no such sizes.
    #[error("{sizes}: `{layer}` would have no shape")]
    Size {
        /// The sizes, with the names of their dimensions.
        sizes: String,
        /// The first value that cannot be.
        layer: String,
    },
    /// The sizes of an open dimension are none that it can have.
    #[error("open dimension {dim}: {why}")]
    Range {
        /// The dimension.
        dim: String,
        /// The fault.
        why: String,
    },
    /// There are no open dimensions, or too many.
    #[error("{found} open dimensions: expected 1 to {most}")]
    Count {
        /// So many.
        found: usize,
        /// At most.
        most: usize,
    },
    /// The shapes of inputs do not tell the size of a dimension.
    #[error("open dimension {dim}: no shape of an input tells its size")]
    Unseen {
        /// Its name.
        dim: String,
    },
}

/// The reason why a value has no place in a template.
pub(super) const NOT_LINEAR: &str = "it depends on the sizes in a way that is not linear in each";
