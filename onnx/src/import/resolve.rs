//! The types of a model's inputs, from the model and its bindings.

use kiln_ir::func::{ElementType, Tensor, TensorType};
use kiln_ir::text::Listed;

use super::bind::Bindings;
use super::dims::{self, Names, SizeOrigin};
use super::error::ImportError;
use super::program::MOST_AXES;
use crate::graph::{Dim, Value};

/// An input that is known as far as an argument must be.
pub(super) struct Input {
    pub name: String,
    pub ty: TensorType,
    pub value: Option<Tensor>,
}

impl Bindings {
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
