//! What a caller says of a model's inputs.

use std::collections::BTreeMap;

use kiln_ir::func::{ElementType, Tensor, TensorType};
use kiln_ir::text::Listed;

use super::dims::{self, DimRole, Names, SizeOrigin};
use super::error::ImportError;
use super::program::MOST_AXES;
use crate::graph::{Dim, Value};

/// What a model leaves open and its caller knows: shapes of inputs, dimensions by name, and values that are known at load.
///
/// ```
/// let bindings = kiln_onnx::Bindings::new().dim("batch", 1).shape("pixels", &[1, 3, 224, 224]);
/// // Whatever the exporter calls them.
/// let bindings = kiln_onnx::Bindings::new().batch(1).sequence(128);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings {
    shapes: BTreeMap<String, Vec<u64>>,
    dims: BTreeMap<String, u64>,
    roles: BTreeMap<DimRole, u64>,
    values: BTreeMap<String, Tensor>,
}

/// An input that is known as far as an argument must be.
pub(super) struct Input {
    pub name: String,
    pub ty: TensorType,
    pub value: Option<Tensor>,
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

    /// What the elements of an input will be. It is used where a node must know them at load, for example as a shape; the
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

    /// The inputs with their types.
    pub(super) fn resolve(&self, inputs: &[Value]) -> Result<Vec<Input>, ImportError> {
        for name in self.shapes.keys().chain(self.values.keys()) {
            if !inputs.iter().any(|v| v.name == *name) {
                let known = inputs.iter().map(|v| v.name.clone()).collect();
                return Err(ImportError::Unbound { what: "input", name: name.clone(), known });
            }
        }
        let dim_names = dims::names(inputs);
        if let Some(name) = self.dims.keys().find(|name| !dim_names.contains(*name)) {
            let known = dim_names.into_iter().collect();
            return Err(ImportError::Unbound { what: "dimension", name: name.clone(), known });
        }
        let names = dims::known(self, inputs);
        let dimensions = dims::dimensions(self, inputs);
        let mut left = &dimensions[..];
        let mut all = vec![];
        for input in inputs {
            let (own, rest) = left.split_at(input.shape.as_ref().map_or(0, Vec::len));
            left = rest;
            if let Some(open) =
                own.iter().find(|d| d.size.is_none()).filter(|_| self.bound_shape(&input.name).is_none())
            {
                let all = dimensions.iter().filter(|d| d.is_open()).cloned().collect();
                return Err(ImportError::Dim { dimension: open.clone().into(), all });
            }
            let sizes = own.iter().filter_map(|d| Some(d.size.as_ref()?.0)).collect();
            all.push(self.input(input, sizes, &names)?);
        }
        Ok(all)
    }

    /// The whole shape that is bound for an input, by itself or by a value.
    pub(super) fn bound_shape(&self, input: &str) -> Option<&[u64]> {
        let of_value = || self.values.get(input).map(|t| t.ty().shape());
        self.shapes.get(input).map(Vec::as_slice).or_else(of_value)
    }

    /// `sizes` are those of the model's dimensions, and `names` those that stand for one size.
    fn input(&self, input: &Value, sizes: Vec<u64>, names: &Names<'_>) -> Result<Input, ImportError> {
        let name = &input.name;
        let value = self.values.get(name);
        let bad = |why: String| ImportError::Value { name: name.clone(), why };
        let contradiction = |bound: String, why: String| ImportError::Contradiction { input: name.clone(), bound, why };
        let shape = match (self.bound_shape(name), &input.shape) {
            (Some(bound), None) => bound.to_vec(),
            (None, None) => return Err(ImportError::NoShape { input: name.clone() }),
            (Some(bound), Some(model)) => {
                let fits = |size: &u64, dim: &Dim| match dim {
                    Dim::Known(n) => *size == *n as u64,
                    Dim::Named(name) => names.get(name.as_str()).is_none_or(|(n, _)| n == size),
                };
                if bound.len() != model.len() || !bound.iter().zip(model).all(|(size, dim)| fits(size, dim)) {
                    let known = |dim: &Dim| match dim {
                        Dim::Known(n) => n.to_string(),
                        Dim::Named(name) if name.is_empty() => "?".into(),
                        Dim::Named(name) => match names.get(name.as_str()) {
                            Some((n, SizeOrigin::Input(other))) if other != &input.name => {
                                format!("{name}={n} as in input `{other}`")
                            }
                            Some((n, SizeOrigin::Name)) => format!("{name}={n}"),
                            _ => name.clone(),
                        },
                    };
                    let model = model.iter().map(known).collect::<Vec<_>>();
                    return Err(contradiction(Listed(bound).to_string(), format!("the model has {}", Listed(&model))));
                }
                bound.to_vec()
            }
            (None, Some(_)) => sizes,
        };
        let element = match (input.dtype, value) {
            (Some(dtype), _) => ElementType::try_from(dtype).map_err(|e| bad(e.to_string()))?,
            (None, Some(tensor)) => tensor.ty().element(),
            (None, None) => {
                return Err(bad("the model does not say the type of its elements, or it is no tensor".into()));
            }
        };
        if shape.len() > MOST_AXES {
            return Err(bad(format!("it has more than {MOST_AXES} dimensions")));
        }
        let ty = TensorType::new(element, shape).map_err(|e| bad(e.to_string()))?;
        if let Some(tensor) = value.filter(|tensor| *tensor.ty() != ty) {
            return Err(contradiction(format!("a value of {}", tensor.ty()), format!("it is {ty}")));
        }
        Ok(Input { name: name.clone(), ty, value: value.cloned() })
    }
}
