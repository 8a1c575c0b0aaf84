//! The sizes and values that a caller gives a model's inputs.

use std::collections::BTreeMap;

use kiln_ir::func::Tensor;

use super::dims::name::DimRole;

/// The sizes and values that a model leaves open and its caller knows: shapes of inputs, dimensions by name, and values that are known at load.
///
/// ```
/// let bindings = kiln_onnx::Bindings::new().dim("batch", 1).shape("pixels", &[1, 3, 224, 224]);
/// // Whatever the exporter calls them.
/// let bindings = kiln_onnx::Bindings::new().batch(1).sequence(128);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings {
    pub(super) shapes: BTreeMap<String, Vec<u64>>,
    pub(super) dims: BTreeMap<String, u64>,
    roles: BTreeMap<DimRole, u64>,
    pub(super) values: BTreeMap<String, Tensor>,
}

impl Bindings {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shape of an input.
    #[must_use]
    pub fn shape(mut self, input: &str, shape: &[u64]) -> Self {
        self.shapes.insert(input.into(), shape.to_vec());
        self
    }

    /// A dimension that has this name in the model, wherever it is; also one that is only a part of the names of others, as `s0`
    /// is of `2*s0`.
    #[must_use]
    pub fn dim(mut self, name: &str, size: u64) -> Self {
        self.dims.insert(name.into(), size);
        self
    }

    /// The size of each batch that nothing else says the size of: of open dimensions whose name has `batch` in it, and of first
    /// dimensions that have no name, the name `n`, `b` or `bs` in either case, or one that an exporter made up (`s0`, `unk__12`,
    /// `DynamicDimension.0`). A model may have none.
    #[must_use]
    pub fn batch(self, size: u64) -> Self {
        self.with_role(DimRole::Batch, size)
    }

    /// The tokens of each sequence that nothing else says the length of: of open dimensions whose name has `seq` in it, and of
    /// the second dimensions of matrices of tokens that have no name, the name `l`, `s` or `t` in either case, or one that an exporter
    /// made up.
    #[must_use]
    pub fn sequence(self, size: u64) -> Self {
        self.with_role(DimRole::Sequence, size)
    }

    fn with_role(mut self, role: DimRole, size: u64) -> Self {
        self.roles.insert(role, size);
        self
    }

    /// The elements that an input will have. They are used where a node must know them at load, for example as a shape; the
    /// input remains an argument, and a function that is called with other elements there is the wrong one.
    #[must_use]
    pub fn value(mut self, input: &str, value: Tensor) -> Self {
        self.values.insert(input.into(), value);
        self
    }

    /// Sizes by name.
    pub(super) fn dims(&self) -> impl Iterator<Item = (&str, u64)> {
        self.dims.iter().map(|(name, size)| (name.as_str(), *size))
    }

    /// The size for a role.
    pub(super) fn role(&self, role: DimRole) -> Option<u64> {
        self.roles.get(&role).copied()
    }

    /// The whole shape that is bound for an input, by itself or by a value.
    pub(super) fn bound_shape(&self, input: &str) -> Option<&[u64]> {
        let of_value = || self.values.get(input).map(|t| t.ty().shape());
        self.shapes.get(input).map(Vec::as_slice).or_else(of_value)
    }
}
