//! Builds a function value by value, checking each.

use std::collections::HashSet;

use super::error::{FuncError, FuncErrorKind};
use super::op::{Control, Mismatch, OpError, TensorOp};
use super::origins::Origins;
use super::tensor::Tensor;
use super::types::TensorType;
use super::{Def, Func, Value, ValueId};
use crate::text::is_word;

/// Makes a [`Func`]: first its arguments, then constants and operations. A call that fails changes nothing.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    values: Vec<Value>,
    names: HashSet<String>,
    /// Results without a name so far: the number of the next one.
    unnamed: usize,
    /// What the next results are made of.
    origins: Origins,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), values: vec![], names: HashSet::new(), unnamed: 0, origins: Origins::default() }
    }

    /// Says which nodes of a model, or which layers of a network, the results of the next operations are made of.
    pub fn set_origins(&mut self, origins: Origins) {
        self.origins = origins;
    }

    /// Adds an argument; `name` is without its `%`.
    pub fn arg(&mut self, name: &str, ty: TensorType) -> Result<ValueId, FuncError> {
        if self.values.last().is_some_and(|v| v.def != Def::Argument) {
            return Err(FuncErrorKind::LateArgument(format!("%{name}")).into());
        }
        self.check_name(name)?;
        Ok(self.insert(Some(name), ty, Def::Argument))
    }

    /// Adds a constant; it is numbered.
    pub fn constant(&mut self, tensor: &Tensor) -> ValueId {
        self.insert(None, tensor.ty().clone(), Def::Constant(tensor.data().clone()))
    }

    /// Adds a constant with a name, without its `%`.
    pub fn constant_named(&mut self, name: &str, tensor: &Tensor) -> Result<ValueId, FuncError> {
        self.check_name(name)?;
        Ok(self.insert(Some(name), tensor.ty().clone(), Def::Constant(tensor.data().clone())))
    }

    /// Adds an operation; its result is numbered.
    pub fn push(&mut self, op: impl Into<TensorOp>, operands: &[ValueId]) -> Result<ValueId, FuncError> {
        let op = op.into();
        let ty = self.infer(&self.unnamed.to_string(), &op, operands)?;
        Ok(self.insert(None, ty, Def::Result { op, operands: operands.into() }))
    }

    /// Adds an operation with a name for its result, without its `%`.
    pub fn push_named(
        &mut self,
        name: &str,
        op: impl Into<TensorOp>,
        operands: &[ValueId],
    ) -> Result<ValueId, FuncError> {
        let op = op.into();
        self.check_name(name)?;
        let ty = self.infer(name, &op, operands)?;
        Ok(self.insert(Some(name), ty, Def::Result { op, operands: operands.into() }))
    }

    /// The function that returns `result`.
    pub fn finish(self, result: ValueId) -> Result<Func, FuncError> {
        self.finish_all(&[result])
    }

    /// The function that returns `results`, at least one.
    pub fn finish_all(self, results: &[ValueId]) -> Result<Func, FuncError> {
        if !is_word(&self.name) {
            return Err(FuncErrorKind::Name(self.name).into());
        }
        if results.is_empty() {
            return Err(FuncErrorKind::NoResult.into());
        }
        results.iter().try_for_each(|id| self.ty(*id).map(drop))?;
        let depth = 1 + self.values.iter().map(depth_of).max().unwrap_or_default();
        Ok(Func { name: self.name, values: self.values, results: results.into(), depth })
    }

    /// What is known of a value added earlier.
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.0)
    }

    /// The type of a value added earlier.
    pub fn ty(&self, id: ValueId) -> Result<&TensorType, FuncError> {
        match self.values.get(id.0) {
            Some(value) => Ok(&value.ty),
            None => Err(FuncErrorKind::Undefined(format!("number {}", id.0)).into()),
        }
    }

    /// The type of an operation's result; errors call the result `%name`.
    pub(super) fn infer(&self, name: &str, op: &TensorOp, operands: &[ValueId]) -> Result<TensorType, FuncError> {
        let types = operands.iter().map(|&id| self.ty(id)).collect::<Result<Vec<_>, _>>()?;
        let fail = |cause: OpError| FuncErrorKind::Op { value: format!("%{name}"), cause: Box::new(cause) };
        let ty = op.infer(&types).map_err(fail)?;
        if let TensorOp::Control(Control::Output { index, .. }) = op
            && self.output(operands[0], *index) != Some(ty.clone())
        {
            let cause = Mismatch::Setting {
                name: "index",
                value: format!("{index} with a type of {ty}"),
                expected: format!("one of a result of %{}, with its type", self.values[operands[0].0].name),
            };
            return Err(fail(op.error(&types, cause)).into());
        }
        Ok(ty)
    }

    /// The type of one of the results of an operation that has several.
    fn output(&self, of: ValueId, index: u64) -> Option<TensorType> {
        let Def::Result { op: TensorOp::Control(control), operands } = &self.values[of.0].def else { return None };
        if matches!(control, Control::Output { .. }) {
            return None;
        }
        let types: Vec<_> = operands.iter().map(|o| &self.values[o.0].ty).collect();
        control.results(&types).ok()?.into_iter().nth(usize::try_from(index).ok()?)
    }

    /// Adds a value that has been checked.
    pub(super) fn insert(&mut self, name: Option<&str>, ty: TensorType, def: Def) -> ValueId {
        let name = match name {
            Some(name) => {
                self.names.insert(name.into());
                name.into()
            }
            None => {
                self.unnamed += 1;
                (self.unnamed - 1).to_string()
            }
        };
        let origins = match def {
            Def::Result { .. } => self.origins.clone(),
            _ => Origins::default(),
        };
        self.values.push(Value { name, ty, def, origins });
        ValueId(self.values.len() - 1)
    }

    fn check_name(&self, name: &str) -> Result<(), FuncErrorKind> {
        if !is_word(name) {
            return Err(FuncErrorKind::Name(name.into()));
        }
        if self.names.contains(name) {
            return Err(FuncErrorKind::Redefined { value: format!("%{name}"), first: None });
        }
        Ok(())
    }
}

/// Functions within each other in a value.
fn depth_of(value: &Value) -> usize {
    match &value.def {
        Def::Result { op, .. } => op.bodies().map(|body| body.depth()).max().unwrap_or_default(),
        _ => 0,
    }
}
