//! Making one function out of another, value by value.

use std::collections::HashMap;

use super::provenance;
use crate::func::{Budget, Builder, Def, Func, FuncError, Structured, Tensor, TensorOp, TensorType, Value, ValueId};
use crate::text::is_word;

/// A function that is being made of an old one. Values of the two are told apart by where they come from: what is asked of
/// [`old`](Self::old) takes old values, what is emitted takes new ones.
pub(super) struct Rewriter<'a> {
    pub old: &'a Func,
    new: Builder,
    /// The new value of each old one that has been come to.
    map: Vec<Option<ValueId>>,
    uses: Vec<usize>,
    budget: Budget,
}

impl<'a> Rewriter<'a> {
    /// With the arguments of `old`.
    pub(super) fn new(old: &'a Func) -> Result<Self, FuncError> {
        let mut new = Func::builder(old.name());
        let mut map = vec![None; old.values().len()];
        for (id, value) in old.arguments() {
            map[id.index()] = Some(new.arg(&value.name, value.ty.clone())?);
        }
        Ok(Self { old, new, map, uses: uses(old), budget: Budget::default() })
    }

    /// The old function's values that are not arguments, in order.
    pub(super) fn ids(&self) -> Vec<ValueId> {
        self.old.values().map(|(id, _)| id).filter(|id| self.map[id.index()].is_none()).collect()
    }

    /// How often an old value is read, by operations or by the caller.
    pub(super) fn uses(&self, old: ValueId) -> usize {
        self.uses[old.index()]
    }

    /// The operation and the operands of an old value, unless it is an argument or a constant.
    pub(super) fn def(&self, old: ValueId) -> Option<(&'a TensorOp, &'a [ValueId])> {
        def(self.old.value(old))
    }

    /// The new value of an old one that comes earlier.
    pub(super) fn get(&self, old: ValueId) -> ValueId {
        self.map[old.index()].expect("values are come to in order")
    }

    /// The new values of old ones.
    pub(super) fn all(&self, old: &[ValueId]) -> Vec<ValueId> {
        old.iter().map(|id| self.get(*id)).collect()
    }

    /// Says what an old value is now.
    pub(super) fn set(&mut self, old: ValueId, new: ValueId) {
        debug_assert_eq!(self.value(new).ty, self.old.value(old).ty, "what %{} is now", self.old.value(old).name);
        self.map[old.index()] = Some(new);
    }

    /// Copies an old value with its operands' new values.
    pub(super) fn keep(&mut self, old: ValueId) -> Result<(), FuncError> {
        let value = self.old.value(old);
        let new = match &value.def {
            Def::Argument => return Ok(()),
            Def::Constant(_) => {
                let tensor = self.old.constant(old).expect("it is one");
                if is_word(&value.name) {
                    self.new.constant_named(&value.name, &tensor)?
                } else {
                    self.new.constant(&tensor)
                }
            }
            Def::Result { op, operands } => return self.replace(old, op.clone(), &self.all(operands)),
        };
        self.set(old, new);
        Ok(())
    }

    /// Emits an operation that is what an old value is now, under its name.
    pub(super) fn replace(
        &mut self,
        old: ValueId,
        op: impl Into<TensorOp>,
        operands: &[ValueId],
    ) -> Result<(), FuncError> {
        let name = &self.old.value(old).name;
        let new = if is_word(name) { self.new.push_named(name, op, operands)? } else { self.new.push(op, operands)? };
        self.set(old, new);
        Ok(())
    }

    /// Emits an operation.
    pub(super) fn emit(&mut self, op: impl Into<TensorOp>, operands: &[ValueId]) -> Result<ValueId, FuncError> {
        self.new.push(op, operands)
    }

    /// Emits a reshape, unless the shape is that already.
    pub(super) fn reshape(&mut self, new: ValueId, shape: &[u64]) -> Result<ValueId, FuncError> {
        if self.value(new).ty.shape() == shape {
            Ok(new)
        } else {
            self.emit(Structured::Reshape { shape: shape.into() }, &[new])
        }
    }

    /// Emits a constant.
    pub(super) fn constant(&mut self, tensor: &Tensor) -> ValueId {
        self.new.constant(tensor)
    }

    /// A new value.
    pub(super) fn value(&self, new: ValueId) -> &Value {
        self.new.value(new).expect("it was emitted here")
    }

    /// The elements of a new value that is a constant.
    pub(super) fn as_constant(&self, new: ValueId) -> Option<Tensor> {
        self.value(new).constant()
    }

    /// The number that a new value is, if it is a constant of equal elements.
    pub(super) fn as_splat(&self, new: ValueId) -> Option<f64> {
        self.as_constant(new).and_then(|t| t.splat())
    }

    /// Lets [`compute`](Self::compute) compute as much as there is.
    pub(super) fn without_budget(mut self) -> Self {
        self.budget = Budget::unlimited();
        self
    }

    /// The result of an operation on new values, if they are constants, the result is not larger than `most` bytes, and this
    /// pass may compute as much.
    pub(super) fn compute(&mut self, op: &TensorOp, operands: &[ValueId], most: u64) -> Option<Tensor> {
        // How long a loop takes is not known, and what it gives may be several tensors.
        if matches!(op, TensorOp::Control(_)) {
            return None;
        }
        let constants = operands.iter().map(|o| self.as_constant(*o)).collect::<Option<Vec<_>>>()?;
        let types: Vec<&TensorType> = constants.iter().map(Tensor::ty).collect();
        let ty = op.infer(&types).ok()?;
        if ty.bytes() > most || !self.budget.spend(op, &types, &ty) {
            return None;
        }
        op.apply(&constants.iter().collect::<Vec<_>>()).ok()
    }

    /// The new function, without what its results do not depend on. Its values have the names of the nodes that they come from.
    pub(super) fn finish(self) -> Result<Func, FuncError> {
        let results = self.all(self.old.results());
        let mut new = self.new.finish_all(&results)?;
        provenance::carry_over(self.old, &self.map, &mut new);
        Ok(new.without_dead())
    }
}

/// The operation and the operands of a value, unless it is an argument or a constant.
pub(super) fn def(value: &Value) -> Option<(&TensorOp, &[ValueId])> {
    match &value.def {
        Def::Result { op, operands } => Some((op, operands)),
        _ => None,
    }
}

/// How often each value is read, by operations or by the caller.
pub(super) fn uses(func: &Func) -> Vec<usize> {
    let mut uses = vec![0; func.values().len()];
    for (_, value) in func.values() {
        value.operands().iter().for_each(|o| uses[o.index()] += 1);
    }
    func.results().iter().for_each(|o| uses[o.index()] += 1);
    uses
}

/// Equal operations on equal operands, and equal constants, once.
#[derive(Default)]
pub(super) struct Known {
    operations: HashMap<(TensorOp, Vec<ValueId>), ValueId>,
    constants: HashMap<Tensor, ValueId>,
}

/// Constants of more bytes are not compared.
const COMPARED: usize = 4096;

impl Known {
    /// The value of an operation that was emitted before.
    pub(super) fn operation(&self, op: &TensorOp, operands: &[ValueId]) -> Option<ValueId> {
        self.operations.get(&(op.clone(), operands.to_vec())).copied()
    }

    pub(super) fn add(&mut self, op: TensorOp, operands: &[ValueId], value: ValueId) {
        self.operations.insert((op, operands.to_vec()), value);
    }

    /// The value of an equal constant.
    pub(super) fn constant(&self, tensor: &Tensor) -> Option<ValueId> {
        if tensor.data().len() > COMPARED { None } else { self.constants.get(tensor).copied() }
    }

    pub(super) fn add_constant(&mut self, tensor: Tensor, value: ValueId) {
        if tensor.data().len() <= COMPARED {
            self.constants.insert(tensor, value);
        }
    }
}
