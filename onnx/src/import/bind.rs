//! What a caller says of a model's inputs.

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::func::{ElementType, Tensor, TensorType};
use kiln_ir::text::Listed;

use super::error::ImportError;
use super::program::MOST_AXES;
use crate::graph::{Dim, Value};

/// What a model leaves open and its caller knows: shapes of inputs, dimensions by name, and values that are known at load.
///
/// ```
/// let bindings = kiln_onnx::Bindings::new().dim("batch", 1).shape("pixels", &[1, 3, 224, 224]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings {
    shapes: BTreeMap<String, Vec<u64>>,
    dims: BTreeMap<String, u64>,
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

    /// A dimension that has this name in the model, wherever it is.
    #[must_use]
    pub fn dim(mut self, name: &str, size: u64) -> Self {
        self.dims.insert(name.into(), size);
        self
    }

    /// What the elements of an input will be. It is used where a node must know them at load, for example as a shape; the
    /// input remains an argument, and a function that is called with other elements there is the wrong one.
    #[must_use]
    pub fn value(mut self, input: &str, value: Tensor) -> Self {
        self.values.insert(input.into(), value);
        self
    }

    /// The inputs with their types.
    pub(super) fn resolve(&self, inputs: &[Value]) -> Result<Vec<Input>, ImportError> {
        let dim_names: BTreeSet<&String> =
            inputs.iter().flat_map(|v| v.shape.iter().flatten()).filter_map(named).collect();
        for name in self.shapes.keys().chain(self.values.keys()) {
            if !inputs.iter().any(|v| v.name == *name) {
                let known = inputs.iter().map(|v| v.name.clone()).collect();
                return Err(ImportError::Unbound { what: "input", name: name.clone(), known });
            }
        }
        if let Some(name) = self.dims.keys().find(|name| !dim_names.contains(name)) {
            let known = dim_names.into_iter().cloned().collect();
            return Err(ImportError::Unbound { what: "dimension", name: name.clone(), known });
        }
        // A name stands for one size everywhere: the shape of one input says it for the others. Some files have one name for
        // all that is not known, which then says nothing.
        let mut learned: BTreeMap<&String, Option<u64>> = BTreeMap::new();
        for input in inputs {
            let (Some(bound), Some(model)) = (self.bound_shape(&input.name), &input.shape) else { continue };
            for (size, name) in bound.iter().zip(model).filter_map(|(size, dim)| Some((*size, named(dim)?))) {
                learned.entry(name).and_modify(|known| *known = known.filter(|n| *n == size)).or_insert(Some(size));
            }
        }
        let mut dims = self.dims.clone();
        for (name, size) in learned {
            if let Some(size) = size {
                dims.entry(name.clone()).or_insert(size);
            }
        }
        inputs.iter().map(|input| self.input(input, &dims)).collect()
    }

    fn bound_shape(&self, input: &str) -> Option<&[u64]> {
        let of_value = || self.values.get(input).map(|t| t.ty().shape());
        self.shapes.get(input).map(Vec::as_slice).or_else(of_value)
    }

    fn input(&self, input: &Value, dims: &BTreeMap<String, u64>) -> Result<Input, ImportError> {
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
                    Dim::Named(name) => self.dims.get(name).is_none_or(|n| n == size),
                };
                if bound.len() != model.len() || !bound.iter().zip(model).all(|(size, dim)| fits(size, dim)) {
                    let known = |dim: &Dim| match dim {
                        Dim::Known(n) => n.to_string(),
                        Dim::Named(name) if name.is_empty() => "?".into(),
                        Dim::Named(name) => match self.dims.get(name) {
                            Some(n) => format!("{name}={n}"),
                            None => name.clone(),
                        },
                    };
                    let model = model.iter().map(known).collect::<Vec<_>>();
                    return Err(contradiction(Listed(bound).to_string(), format!("the model has {}", Listed(&model))));
                }
                bound.to_vec()
            }
            (None, Some(model)) => {
                let dim = |(axis, dim): (usize, &Dim)| match dim {
                    Dim::Known(n) => Ok(*n as u64),
                    Dim::Named(dim) => dims.get(dim).copied().ok_or_else(|| ImportError::Dim {
                        input: name.clone(),
                        axis,
                        name: dim.clone(),
                    }),
                };
                model.iter().enumerate().map(dim).collect::<Result<_, _>>()?
            }
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

/// The name of a dimension that has one.
fn named(dim: &Dim) -> Option<&String> {
    match dim {
        Dim::Named(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}
