//! The view of a node that its import has: its inputs, its attributes, and the function that it adds to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use kiln_ir::func::{ElementType, Tensor, TensorType};
use kiln_ir::text::Listed;

use super::error::Fault;
use super::program::{Program, Unknown, Val};
use super::schema::Version;
use crate::graph::{Attribute, Node};

/// The values that a node makes, in order: at least those that its graph names.
pub(super) type Outputs = Result<Vec<Val>, Fault>;

/// A node at its place in the function.
///
/// Operators see inputs and attributes through the methods below alone, which note what was asked for: what a node has and its
/// operator never asked for is an error, and not something that is left out in silence.
pub(super) struct Ctx<'a> {
    node: &'a Node,
    /// The version of ONNX's operators.
    pub(super) opset: i64,
    /// `None` where an optional one is left out.
    inputs: Vec<Option<Val>>,
    pub(super) program: &'a mut Program,
    asked_inputs: Vec<Cell<bool>>,
    asked_attributes: RefCell<BTreeSet<String>>,
}

/// One value as a node's outputs.
pub(super) fn one(value: Val) -> Outputs {
    Ok(vec![value])
}

impl<'a> Ctx<'a> {
    pub(super) fn new(node: &'a Node, opset: i64, inputs: Vec<Option<Val>>, program: &'a mut Program) -> Self {
        let asked_inputs = vec![Cell::new(false); inputs.len()];
        Ctx { node, opset, inputs, program, asked_inputs, asked_attributes: RefCell::default() }
    }

    /// Fails unless the node is one of an operator as the operator set defines it.
    pub(super) fn check(&self, version: &Version) -> Result<(), Fault> {
        if let Some((name, why)) =
            self.node.attributes.iter().find_map(|(name, value)| Some((name, version.refuses(name, value)?)))
        {
            return Err(Fault::Attribute { name: name.clone(), why });
        }
        let (inputs, outputs) = (self.inputs.len(), self.node.outputs.len());
        if inputs > *version.inputs.end() {
            return Err(format!("has {inputs} inputs: ONNX defines {}", version.inputs.end()).into());
        }
        if outputs > version.outputs {
            return Err(format!("has {outputs} outputs: ONNX defines {}", version.outputs).into());
        }
        // A hint of the first versions, which inputs may be overwritten: results are the same.
        if let Some(hints) = self.ints("consumed_inputs")?
            && hints.iter().any(|hint| !(0..=2).contains(hint))
        {
            return Err(
                format!("attribute `consumed_inputs` is {}: expected numbers from 0 to 2", Listed(&hints)).into()
            );
        }
        Ok(())
    }

    /// Fails unless the import of the node has asked for all that the node has.
    pub(super) fn check_all_asked(&self) -> Result<(), Fault> {
        let asked = self.asked_attributes.borrow();
        if let Some(name) = self.node.attributes.keys().find(|name| !asked.contains(*name)) {
            let why = "Kiln does not know what it changes here".into();
            return Err(Fault::Attribute { name: name.clone(), why });
        }
        let is_left = |(input, asked): (&Option<Val>, &Cell<bool>)| input.is_some() && !asked.get();
        match self.inputs.iter().zip(&self.asked_inputs).position(is_left) {
            None => Ok(()),
            Some(index) => {
                Err(format!("its input {index}, `{}`, is not supported: leave it out", self.node.inputs[index]).into())
            }
        }
    }

    /// An input that must be there.
    pub(super) fn input(&self, index: usize) -> Result<Val, Fault> {
        self.optional(index).ok_or_else(|| format!("lacks its input {index}").into())
    }

    /// An input that need not be there.
    pub(super) fn optional(&self, index: usize) -> Option<Val> {
        self.asked_inputs.get(index).inspect(|asked| asked.set(true));
        self.inputs.get(index).cloned().flatten()
    }

    /// The number of inputs of the node, with those that are left out between others.
    pub(super) fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// The number of outputs of the node, with those that are not wanted between others.
    pub(super) fn output_count(&self) -> usize {
        self.node.outputs.len()
    }

    /// All inputs, at least one.
    pub(super) fn all_inputs(&self) -> Result<Vec<Val>, Fault> {
        let inputs: Vec<_> = (0..self.inputs.len()).map(|i| self.input(i)).collect::<Result<_, _>>()?;
        if inputs.is_empty() { Err("has no inputs".into()) } else { Ok(inputs) }
    }

    /// True if an output is used or named.
    pub(super) fn wants(&self, output: usize) -> bool {
        self.node.outputs.get(output).is_some_and(|name| !name.is_empty())
    }

    pub(super) fn ty(&self, value: &Val) -> TensorType {
        self.program.ty(value)
    }

    pub(super) fn shape(&self, value: &Val) -> Vec<u64> {
        self.ty(value).shape().to_vec()
    }

    pub(super) fn rank(&self, value: &Val) -> usize {
        self.ty(value).rank()
    }

    pub(super) fn element(&self, value: &Val) -> ElementType {
        self.ty(value).element()
    }

    /// An input's elements; `what` is its name in ONNX.
    pub(super) fn known(&mut self, index: usize, what: &str) -> Result<Option<Tensor>, Fault> {
        let Some(value) = self.optional(index) else { return Ok(None) };
        match self.program.known(&value) {
            Ok(tensor) => Ok(Some(tensor)),
            Err(Unknown::Input(source)) => {
                let value = self.node.inputs.get(index).cloned().unwrap_or_default();
                Err(Fault::Needs { input: what.into(), value, source })
            }
            Err(Unknown::Inside(source)) => Err(format!(
                "its {what} must be known at load, and depends on `{source}`, which a loop or a branch changes"
            )
            .into()),
            Err(Unknown::TooLarge(ty)) => {
                Err(format!("its {what} must be known at load, and depends on {ty}, which is too large for that")
                    .into())
            }
        }
    }

    /// An input's integers.
    pub(super) fn known_ints(&mut self, index: usize, what: &str) -> Result<Option<Vec<i64>>, Fault> {
        let Some(tensor) = self.known(index, what)? else { return Ok(None) };
        match tensor.to_i64() {
            Some(ints) => Ok(Some(ints)),
            None => Err(format!("its {what} is {}: expected integers", tensor.ty()).into()),
        }
    }

    /// Integers that old versions have as an attribute and newer ones as an input.
    pub(super) fn setting(&mut self, name: &str, index: usize) -> Result<Option<Vec<i64>>, Fault> {
        match self.ints(name)? {
            Some(ints) => Ok(Some(ints)),
            None => self.known_ints(index, name),
        }
    }

    /// A known input of one element.
    pub(super) fn known_number(&mut self, index: usize, what: &str) -> Result<Option<f64>, Fault> {
        let Some(tensor) = self.known(index, what)? else { return Ok(None) };
        match &tensor.to_f64()[..] {
            [number] => Ok(Some(*number)),
            _ => Err(format!("its {what} is {}: expected one number", tensor.ty()).into()),
        }
    }

    /// An attribute of whatever type, if it is there.
    pub(super) fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        if !self.asked_attributes.borrow().contains(name) {
            self.asked_attributes.borrow_mut().insert(name.into());
        }
        self.node.attributes.get(name)
    }

    fn wrong<T>(&self, name: &str, expected: &str) -> Result<T, Fault> {
        Err(format!("attribute `{name}` is not {expected}").into())
    }

    pub(super) fn int_or_none(&self, name: &str) -> Result<Option<i64>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Int(i)) => Ok(Some(*i)),
            Some(_) => self.wrong(name, "an integer"),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, Fault> {
        Ok(self.int_or_none(name)?.unwrap_or(default))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Fault> {
        match self.int(name, default.into())? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("attribute `{name}` is {other}: expected 0 or 1").into()),
        }
    }

    pub(super) fn float_or_none(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(f)) => Ok(Some((*f).into())),
            Some(_) => self.wrong(name, "a floating-point number"),
        }
    }

    /// A number; `default` has the precision of attributes.
    pub(super) fn float(&self, name: &str, default: f32) -> Result<f64, Fault> {
        Ok(self.float_or_none(name)?.unwrap_or(default.into()))
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(ints)) => Ok(Some(ints.clone())),
            Some(Attribute::Int(i)) => Ok(Some(vec![*i])),
            // A file that does not say types of attributes has no type for an empty list, and it is guessed to be a number.
            Some(_) => self.wrong(name, "a list of integers"),
        }
    }

    pub(super) fn string(&self, name: &str, default: &str) -> Result<String, Fault> {
        match self.attribute(name) {
            None => Ok(default.into()),
            Some(Attribute::String(s)) => Ok(String::from_utf8_lossy(s).into_owned()),
            Some(_) => self.wrong(name, "a string"),
        }
    }

    /// One value for each of some axes, from an attribute: not negative.
    pub(super) fn per_axis(&self, name: &str, axes: usize, default: u64) -> Result<Vec<u64>, Fault> {
        let Some(ints) = self.ints(name)?.filter(|list| !list.is_empty()) else { return Ok(vec![default; axes]) };
        if ints.len() != axes {
            return Err(format!("attribute `{name}` is {}: expected {axes} numbers", Listed(&ints)).into());
        }
        numbers(name, &ints)
    }
}

/// Numbers from 0.
pub(super) fn numbers(name: &str, ints: &[i64]) -> Result<Vec<u64>, Fault> {
    let all = ints
        .iter()
        .map(|i| u64::try_from(*i).map_err(|_| format!("`{name}` is {}: none may be negative", Listed(ints))));
    Ok(all.collect::<Result<_, _>>()?)
}

/// An axis of a tensor of some rank, which may be counted from the end.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, Fault> {
    let from_first = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = from_first.and_then(|a| usize::try_from(a).ok()).filter(|a| *a < rank);
    found.ok_or_else(|| format!("there is no axis {axis}: its input has {rank}").into())
}

/// Several, each once.
pub(super) fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
    let mut found = vec![];
    for axis in axes {
        let axis = axis_of(*axis, rank)?;
        if found.contains(&axis) {
            return Err(format!("axis {axis} is named twice").into());
        }
        found.push(axis);
    }
    Ok(found)
}
