//! The function that is being made, and what of it is known already.

use std::collections::{BTreeMap, HashMap};

use kiln_ir::func::{
    Budget, Builder, Control, Def, ElementType, Func, FuncError, Origins, Structured, Tensor, TensorOp, TensorType,
    Value, ValueId,
};

use super::error::Fault;
use super::name::{self, Names};
use super::tidy::tidy;

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

/// The reason why a value is not known at load.
pub(super) enum Unknown {
    /// It depends on this input.
    Input(String),
    /// It depends on this value, which is another from one trip of a loop to the next, or from one call of a branch.
    Inside(String),
    /// It takes too long to compute, or too much memory.
    TooLarge(TensorType),
}

/// The function that is being made. Operations on known values are computed at once.
pub(super) struct Program {
    frame: Frame,
    /// The functions that those inside are being made for, outermost first.
    outer: Vec<Frame>,
    budget: Budget,
}

/// One function that is being made.
pub(super) struct Frame {
    builder: Builder,
    /// The model's name of each argument.
    arguments: Vec<String>,
    /// Values of arguments that the caller promised.
    bound: HashMap<ValueId, Tensor>,
    /// Values that were computed from these.
    computed: HashMap<ValueId, Tensor>,
    /// Constants by where their elements are.
    constants: HashMap<(usize, TensorType), ValueId>,
    /// Values that depend on sizes alone, and that every layer of a network has again.
    masks: HashMap<Mask, Val>,
    /// The model's name of a value.
    named: HashMap<ValueId, String>,
}

/// The computation of a value from constants.
pub(super) struct Recipe {
    steps: BTreeMap<ValueId, Value>,
    result: Val,
}

impl Frame {
    fn new(builder: Builder, arguments: Vec<String>, bound: HashMap<ValueId, Tensor>) -> Self {
        Frame {
            builder,
            arguments,
            bound,
            computed: HashMap::new(),
            constants: HashMap::new(),
            masks: HashMap::new(),
            named: HashMap::new(),
        }
    }
}

/// Queries, keys, the least and the greatest number of a key less that of a query which may see it, and the type of a mask.
pub(super) type Mask = (u64, u64, i64, i64, ElementType);

impl Program {
    pub(super) fn new(builder: Builder, arguments: Vec<String>, bound: HashMap<ValueId, Tensor>) -> Self {
        Program { frame: Frame::new(builder, arguments, bound), outer: vec![], budget: Budget::default() }
    }

    /// The whole function, with the model's names of its values.
    pub(super) fn finish(self, results: &[ValueId]) -> Result<(Func, HashMap<ValueId, String>), FuncError> {
        Ok((self.frame.builder.finish_all(results)?, self.frame.named))
    }

    /// Gives a value the model's name, if it has none yet.
    pub(super) fn name(&mut self, value: &Val, name: &str) {
        if let Val::Dynamic(id) = value {
            self.frame.named.entry(*id).or_insert_with(|| name.to_owned());
        }
    }

    /// Gives a value another name of the model's: a caller's is better known than that in what it calls.
    pub(super) fn rename(&mut self, value: &Val, name: &str) {
        if let Val::Dynamic(id) = value {
            self.frame.named.insert(*id, name.to_owned());
        }
    }

    /// Functions within functions so far.
    pub(super) fn depth(&self) -> usize {
        self.outer.len()
    }

    /// Begins a function inside this one, which an operation will run. Until it is [ended](Self::end), values are its own.
    pub(super) fn begin(&mut self) {
        self.outer.push(std::mem::replace(&mut self.frame, Frame::new(Func::builder("draft"), vec![], HashMap::new())));
    }

    /// Adds an argument to the function that was begun, before anything else is in it.
    pub(super) fn argument(&mut self, name: &str, ty: TensorType) -> Result<Val, Fault> {
        let id = self.frame.builder.arg(&format!("{}.{}", name::word(name), self.frame.arguments.len()), ty)?;
        self.frame.arguments.push(name.into());
        Ok(Val::Dynamic(id))
    }

    /// The recipe of a value that is computed of constants alone, in a few steps: what is known, and what was left to be computed by
    /// whoever packs it. A function that is begun has this in itself, and needs no argument for it.
    pub(super) fn recipe(&self, value: &Val) -> Option<Recipe> {
        /// Operations of one constant: an exporter's are a transpose or two.
        const MOST: usize = 16;
        let mut steps: BTreeMap<ValueId, Value> = BTreeMap::new();
        let Val::Dynamic(id) = value else { return Some(Recipe { steps, result: value.clone() }) };
        let mut stack = vec![*id];
        while let Some(at) = stack.pop() {
            let step = self.frame.builder.value(at).expect("a value of this function");
            match &step.def {
                Def::Argument | Def::Result { op: TensorOp::Control(_), .. } => return None,
                Def::Constant(_) => {}
                Def::Result { operands, .. } => stack.extend(operands),
            }
            steps.insert(at, step.clone());
            if steps.len() > MOST || stack.len() > MOST {
                return None;
            }
        }
        Some(Recipe { steps, result: value.clone() })
    }

    /// The values that a recipe of the function around makes.
    pub(super) fn cook(&mut self, recipe: &Recipe) -> Result<Val, Fault> {
        let Val::Dynamic(id) = &recipe.result else { return Ok(recipe.result.clone()) };
        let mut made: HashMap<ValueId, Val> = HashMap::new();
        // Operands come before what uses them.
        for (at, step) in &recipe.steps {
            let value = match (&step.def, step.constant()) {
                (Def::Result { op, operands }, _) => {
                    let operands: Vec<&Val> = operands.iter().map(|o| &made[o]).collect();
                    self.push(op.clone(), &operands)?
                }
                (_, constant) => Val::Known(constant.expect("recipes are of constants")),
            };
            made.insert(*at, value);
        }
        Ok(made.remove(id).expect("the result is its last step"))
    }

    /// Says what an argument of the function that was begun is in the one around, so that it is known where that is.
    pub(super) fn promise(&mut self, argument: &Val, outer: &Val) {
        let (Val::Dynamic(id), Some(around)) = (argument, self.outer.pop()) else { return };
        let inner = std::mem::replace(&mut self.frame, around);
        // Without promises of the caller nothing more is known than what is constant.
        let known = if self.frame.bound.is_empty() { None } else { self.known(outer).ok() };
        self.outer.push(std::mem::replace(&mut self.frame, inner));
        self.frame.bound.extend(known.map(|tensor| (*id, tensor)));
    }

    /// Ends the function that was begun last, with its results.
    pub(super) fn end(&mut self, name: &str, results: &[Val]) -> Result<Func, Fault> {
        let results: Vec<_> = results.iter().map(|value| self.id(value)).collect();
        let frame = self.leave();
        let draft = frame.builder.finish_all(&results)?;
        let mut names = Names::default();
        draft.arguments().for_each(|(_, value)| drop(names.unique(&value.name)));
        Ok(tidy(&draft, name, &frame.named, names)?)
    }

    /// Leaves the functions that were begun beyond a depth, which came to nothing.
    pub(super) fn abandon(&mut self, depth: usize) {
        while self.outer.len() > depth {
            self.leave();
        }
    }

    fn leave(&mut self) -> Frame {
        let around = self.outer.pop().expect("a function was begun");
        std::mem::replace(&mut self.frame, around)
    }

    /// Adds an operation that runs functions. Gives its results.
    pub(super) fn control(&mut self, control: Control, operands: &[&Val]) -> Result<Vec<Val>, Fault> {
        let types: Vec<_> = operands.iter().map(|v| self.ty(v)).collect();
        let results = control.results(&types.iter().collect::<Vec<_>>())?;
        let ids: Vec<_> = operands.iter().map(|v| self.id(v)).collect();
        let first = self.frame.builder.push(control, &ids)?;
        let mut all = vec![Val::Dynamic(first)];
        for (index, ty) in results.into_iter().enumerate().skip(1) {
            let output = Control::Output { index: index as u64, ty };
            all.push(Val::Dynamic(self.frame.builder.push(output, &[first])?));
        }
        Ok(all)
    }

    /// Says which node the next operations are of.
    pub(super) fn set_origin(&mut self, node: &str) {
        self.frame.builder.set_origins(Origins::of(node));
    }

    pub(super) fn ty(&self, value: &Val) -> TensorType {
        match value {
            Val::Known(tensor) => tensor.ty().clone(),
            Val::Dynamic(id) => self.frame.builder.ty(*id).expect("a value of this function").clone(),
        }
    }

    /// The value in the function: a known one becomes a constant.
    pub(super) fn id(&mut self, value: &Val) -> ValueId {
        match value {
            Val::Dynamic(id) => *id,
            Val::Known(tensor) => {
                // The function keeps the elements alive, so that no other constant can be where one is.
                let place = (tensor.data().as_ptr() as usize, tensor.ty().clone());
                *self.frame.constants.entry(place).or_insert_with(|| self.frame.builder.constant(tensor))
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
        Ok(Val::Dynamic(self.frame.builder.push(op, &ids)?))
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
            if self.frame.computed.contains_key(&at) {
                stack.pop();
                continue;
            }
            let value = self.frame.builder.value(at).expect("a value of this function").clone();
            let tensor = match value.def {
                Def::Argument => match self.frame.bound.get(&at) {
                    Some(tensor) => tensor.clone(),
                    None => {
                        let name = self.frame.arguments[at.index()].clone();
                        return Err(if self.outer.is_empty() { Unknown::Input(name) } else { Unknown::Inside(name) });
                    }
                },
                Def::Constant(data) => Tensor::new(value.ty, data).expect("a constant is as long as its type says"),
                Def::Result { op, operands } => {
                    let missing: Vec<_> =
                        operands.iter().filter(|id| !self.frame.computed.contains_key(id)).copied().collect();
                    if !missing.is_empty() {
                        stack.extend(missing);
                        continue;
                    }
                    // What a loop gives is not computed ahead: how long that takes is not known.
                    if let TensorOp::Control(_) = op {
                        return Err(Unknown::Inside(self.frame.named.get(&at).cloned().unwrap_or(value.name)));
                    }
                    let types: Vec<_> = operands.iter().map(|id| self.frame.computed[id].ty().clone()).collect();
                    let types: Vec<_> = types.iter().collect();
                    if !self.budget.spend(&op, &types, &value.ty) {
                        return Err(Unknown::TooLarge(value.ty));
                    }
                    let operands: Vec<_> = operands.iter().map(|id| &self.frame.computed[id]).collect();
                    op.apply(&operands).expect("the operation was checked when it was added")
                }
            };
            self.frame.computed.insert(at, tensor);
        }
        Ok(self.frame.computed[&id].clone())
    }

    /// Fails unless a table of this type may be made at load.
    pub(super) fn allow(&mut self, ty: &TensorType) -> Result<(), Fault> {
        let is_allowed =
            ty.elements().saturating_mul(8) <= Budget::MOST_BYTES && self.budget.take(ty.elements(), ty.bytes());
        if is_allowed { Ok(()) } else { Err(format!("{ty} is too large to be computed at load").into()) }
    }

    /// A mask that was made before, or a new one.
    pub(super) fn mask(&mut self, key: Mask, make: impl FnOnce(&mut Self) -> Result<Val, Fault>) -> Result<Val, Fault> {
        if let Some(mask) = self.frame.masks.get(&key) {
            return Ok(mask.clone());
        }
        let mask = make(self)?;
        self.frame.masks.insert(key, mask.clone());
        Ok(mask)
    }
}

/// A scalar of a type.
pub(super) fn scalar(element: ElementType, value: f64) -> Val {
    let ty = TensorType::new(element, []).expect("a scalar is small");
    Val::Known(Tensor::from_f64(ty, &[value]))
}

/// A boolean.
pub(super) fn boolean(value: bool) -> Val {
    scalar(ElementType::Bool, f64::from(u8::from(value)))
}

/// A list of integers.
pub(super) fn list(values: Vec<i64>) -> Val {
    let count = values.len() as u64;
    Val::Known(Tensor::from_elements([count], values).expect("as many as there are"))
}
