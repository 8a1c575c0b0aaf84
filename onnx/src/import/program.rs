//! The function that is being made, and what of it is known already.

use std::collections::HashMap;

use kiln_ir::func::{Budget, Builder, Def, ElementType, Origins, Structured, Tensor, TensorOp, TensorType, ValueId};

use super::error::Fault;

/// Constants from this many bytes on are not transposed at load: who packs them does it on the way.
const LARGE_BYTES: u64 = 64 << 10;
/// Dimensions of a tensor: no network has as many, and time is quadratic in them here and there.
pub(super) const MOST_AXES: usize = 64;

/// A value of the graph.
#[derive(Clone, Debug)]
pub(super) enum Val {
    /// Known at load.
    Known(Tensor),
    /// Computed when the function is called.
    Dynamic(ValueId),
}

/// Why a value is not known at load.
pub(super) enum Unknown {
    /// It depends on this input.
    Input(String),
    /// It takes too long to compute, or too much memory.
    TooLarge(TensorType),
}

/// The function that is being made. Operations on known values are computed at once.
pub(super) struct Program {
    builder: Builder,
    /// The model's name of each argument.
    arguments: Vec<String>,
    /// Values of arguments that the caller promised.
    bound: HashMap<ValueId, Tensor>,
    /// Values that were computed from these.
    computed: HashMap<ValueId, Tensor>,
    /// Constants by where their elements are.
    constants: HashMap<(usize, TensorType), ValueId>,
    /// What depends on sizes alone, and every layer of a network has again.
    masks: HashMap<Mask, Val>,
    budget: Budget,
}

/// Queries, keys, the least and the greatest number of a key less that of a query which may see it, and the type of a mask.
pub(super) type Mask = (u64, u64, i64, i64, ElementType);

impl Program {
    pub(super) fn new(builder: Builder, arguments: Vec<String>, bound: HashMap<ValueId, Tensor>) -> Self {
        Program {
            builder,
            arguments,
            bound,
            computed: HashMap::new(),
            constants: HashMap::new(),
            masks: HashMap::new(),
            budget: Budget::default(),
        }
    }

    pub(super) fn into_builder(self) -> Builder {
        self.builder
    }

    /// Says which node the next operations are of.
    pub(super) fn set_origin(&mut self, node: &str) {
        self.builder.set_origins(Origins::of(node));
    }

    pub(super) fn ty(&self, value: &Val) -> TensorType {
        match value {
            Val::Known(tensor) => tensor.ty().clone(),
            Val::Dynamic(id) => self.builder.ty(*id).expect("a value of this function").clone(),
        }
    }

    /// The value in the function: a known one becomes a constant.
    pub(super) fn id(&mut self, value: &Val) -> ValueId {
        match value {
            Val::Dynamic(id) => *id,
            Val::Known(tensor) => {
                // The function keeps the elements alive, so that no other constant can be where one is.
                let place = (tensor.data().as_ptr() as usize, tensor.ty().clone());
                *self.constants.entry(place).or_insert_with(|| self.builder.constant(tensor))
            }
        }
    }

    /// Adds an operation, or computes it.
    pub(super) fn push(&mut self, op: impl Into<TensorOp>, operands: &[&Val]) -> Result<Val, Fault> {
        let op = op.into();
        let types: Vec<_> = operands.iter().map(|v| self.ty(v)).collect();
        let types: Vec<_> = types.iter().collect();
        let ty = op.infer(&types)?;
        if ty.rank() > MOST_AXES {
            return Err(format!("{ty} has more than {MOST_AXES} dimensions").into());
        }
        if let Some(Val::Known(indices)) = op.index_operand().map(|at| operands[at]) {
            op.check_indices(&types, indices)?;
        }
        let known: Option<Vec<&Tensor>> =
            operands.iter().map(|v| if let Val::Known(t) = v { Some(t) } else { None }).collect();
        if let Some(known) = known {
            if let TensorOp::Structured(Structured::Reshape { shape }) = &op {
                return Ok(Val::Known(known[0].reshaped(shape.clone()).expect("as many elements")));
            }
            let moves = matches!(op, TensorOp::Structured(Structured::Transpose { .. }));
            let is_left = moves && ty.bytes() > LARGE_BYTES;
            if !is_left && self.budget.spend(&op, &types, &ty) {
                return Ok(Val::Known(op.apply(&known)?));
            }
        }
        let ids: Vec<_> = operands.iter().map(|v| self.id(v)).collect();
        Ok(Val::Dynamic(self.builder.push(op, &ids)?))
    }

    /// The elements of a value that is known, or that follows from what the caller promised.
    pub(super) fn known(&mut self, value: &Val) -> Result<Tensor, Unknown> {
        let id = match value {
            Val::Known(tensor) => return Ok(tensor.clone()),
            Val::Dynamic(id) => *id,
        };
        // Operands are computed before what uses them; a stack of values, as graphs may be deep.
        let mut stack = vec![id];
        while let Some(&at) = stack.last() {
            if self.computed.contains_key(&at) {
                stack.pop();
                continue;
            }
            let value = self.builder.value(at).expect("a value of this function").clone();
            let tensor = match value.def {
                Def::Argument => match self.bound.get(&at) {
                    Some(tensor) => tensor.clone(),
                    None => return Err(Unknown::Input(self.arguments[at.index()].clone())),
                },
                Def::Constant(data) => Tensor::new(value.ty, data).expect("a constant is as long as its type says"),
                Def::Result { op, operands } => {
                    let missing: Vec<_> =
                        operands.iter().filter(|id| !self.computed.contains_key(id)).copied().collect();
                    if !missing.is_empty() {
                        stack.extend(missing);
                        continue;
                    }
                    let types: Vec<_> = operands.iter().map(|id| self.computed[id].ty().clone()).collect();
                    let types: Vec<_> = types.iter().collect();
                    if !self.budget.spend(&op, &types, &value.ty) {
                        return Err(Unknown::TooLarge(value.ty));
                    }
                    let operands: Vec<_> = operands.iter().map(|id| &self.computed[id]).collect();
                    op.apply(&operands).expect("the operation was checked when it was added")
                }
            };
            self.computed.insert(at, tensor);
        }
        Ok(self.computed[&id].clone())
    }

    /// Whether a table of this type may be made at load; if not, an error.
    pub(super) fn allow(&mut self, ty: &TensorType) -> Result<(), Fault> {
        let is_allowed =
            ty.elements().saturating_mul(8) <= Budget::MOST_BYTES && self.budget.take(ty.elements(), ty.bytes());
        if is_allowed { Ok(()) } else { Err(format!("{ty} is too large to be computed at load").into()) }
    }

    /// A mask that was made before, or a new one.
    pub(super) fn mask(&mut self, key: Mask, make: impl FnOnce(&mut Self) -> Result<Val, Fault>) -> Result<Val, Fault> {
        if let Some(mask) = self.masks.get(&key) {
            return Ok(mask.clone());
        }
        let mask = make(self)?;
        self.masks.insert(key, mask.clone());
        Ok(mask)
    }
}

/// A scalar of a type.
pub(super) fn scalar(element: ElementType, value: f64) -> Val {
    let ty = TensorType::new(element, []).expect("a scalar is small");
    Val::Known(Tensor::from_f64(ty, &[value]))
}

/// A list of integers.
pub(super) fn list(values: Vec<i64>) -> Val {
    let count = values.len() as u64;
    Val::Known(Tensor::from_elements([count], values).expect("as many as there are"))
}
