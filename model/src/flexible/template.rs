//! Functions that differ in the sizes of open dimensions only, as one function with these sizes free.
//!
//! Nothing in a function says which of its numbers come from a size. So it is made for two sizes of each dimension, in all
//! combinations: every number that differs is taken for one that is [linear in each size](Number), and further sizes have to agree.

use std::collections::{BTreeSet, HashMap};

use kiln_ir::func::{Def, ElementType, Origins, Structured, Tensor, TensorOp, TensorType, Value, ValueId};
use kiln_ir::{Func, Problem};

use super::counted::{self, Counts};
use super::error::{FlexibleError, NOT_LINEAR};
use super::number::Number;
use super::open_dim::OpenDims;
use super::text::Text;

/// A value for any sizes.
struct Flexible {
    name: String,
    origins: Origins,
    kind: Kind,
}

impl Flexible {
    /// The name that people know it by, as [`Value::label`].
    fn label(&self) -> String {
        if self.origins.is_empty() { self.name.clone() } else { self.origins.to_string() }
    }
}

enum Kind {
    Argument(TensorType, Vec<Number>),
    /// A constant of all sizes.
    Constant(Tensor),
    /// A constant that only kernels read, which have it in their own form.
    Packed(TensorType),
    /// One of which smaller sizes have a part, with the shape of that.
    Part(Tensor, Vec<Number>),
    /// One [that counts](counted), with its shape and counts.
    Counted(ElementType, Vec<Number>, Vec<Number>),
    Result {
        op: TensorOp,
        settings: Option<Vec<(&'static str, Text)>>,
        operands: Vec<ValueId>,
    },
}

/// A function for any sizes of its open dimensions.
pub(super) struct Template {
    dims: OpenDims,
    values: Vec<Flexible>,
    results: Vec<ValueId>,
}

/// A kernel of a template.
pub(super) enum Kernel<'a> {
    /// The same for all sizes.
    Fixed(&'a Problem),
    /// A problem with numbers that depend on sizes.
    Open(&'a Text),
}

/// A value at all corners, as far as they were seen.
struct Seen {
    shapes: Vec<Vec<u64>>,
    settings: Vec<Vec<(&'static str, String)>>,
    is_same: bool,
    /// True if a constant is a part of the first one at each corner.
    is_part: bool,
    /// Of a constant, while it differs and counts at all corners.
    counts: Option<Vec<Counts>>,
}

/// The functions at the corners while they are made: of all but the first only what differs is kept.
pub(super) struct Draft {
    dims: OpenDims,
    first: Func,
    seen: Vec<Seen>,
}

/// The refusal of a function of other operations: names the first of these.
fn other_operations<'a>(first: &Func, others: impl Iterator<Item = &'a Value>, sizes: &str) -> FlexibleError {
    let is_like = |(x, y): (&Value, &Value)| match (&x.def, &y.def) {
        (Def::Argument, Def::Argument) | (Def::Constant(_), Def::Constant(_)) => true,
        (Def::Result { op, operands }, Def::Result { op: other, operands: same }) => {
            op.name() == other.name() && operands == same
        }
        _ => false,
    };
    let all = first.values().map(|(_, value)| value);
    let differs = all.zip(others).find(|(x, y)| !is_like((x, y)));
    let layer = differs.map_or(first.name().into(), |(x, _)| x.label());
    shape(&layer, &format!("for {sizes} there are other operations"))
}

fn shape(layer: &str, why: &str) -> FlexibleError {
    FlexibleError::Shape { layer: layer.into(), why: why.into() }
}

impl Draft {
    /// Of the function at the bases of all dimensions.
    pub(super) fn new(dims: OpenDims, first: Func) -> Result<Self, FlexibleError> {
        let is_control = |v: &Value| matches!(v.def, Def::Result { op: TensorOp::Control(_), .. });
        if let Some((_, value)) = first.values().find(|(_, v)| is_control(v)) {
            return Err(shape(&value.name, "it is a branch or a loop"));
        }
        let of = |value: &Value| {
            let settings = match &value.def {
                Def::Result { op, .. } => vec![op.settings()],
                _ => vec![],
            };
            Seen { shapes: vec![value.ty.shape().into()], settings, is_same: true, is_part: true, counts: None }
        };
        let seen = first.values().map(|(_, value)| of(value)).collect();
        Ok(Draft { dims, first, seen })
    }

    /// Adds the function at the next corner, which has these sizes.
    pub(super) fn add(&mut self, sizes: &[u64], func: &Func) -> Result<(), FlexibleError> {
        let first = &self.first;
        if first.values().len() != func.values().len() || first.results() != func.results() {
            return Err(other_operations(first, func.values().map(|(_, v)| v), &self.dims.named(sizes)));
        }
        for (((id, x), (_, y)), seen) in first.values().zip(func.values()).zip(&mut self.seen) {
            let corners = seen.shapes.len();
            let is_like = match (&x.def, &y.def) {
                (Def::Argument, Def::Argument) => true,
                (Def::Constant(_), Def::Constant(_)) => {
                    let (x, y) = (first.constant(id).expect("it is one"), func.constant(id).expect("it is one"));
                    seen.add_constant(&x, &y, corners);
                    seen.is_same || seen.is_part || seen.counts.is_some()
                }
                (Def::Result { op, operands }, Def::Result { op: other, operands: same }) => {
                    seen.is_same &= op == other;
                    seen.settings.push(other.settings());
                    operands == same && op.name() == other.name()
                }
                _ => false,
            };
            if !is_like || x.ty.element() != y.ty.element() || x.ty.rank() != y.ty.rank() {
                return Err(shape(&x.label(), NOT_LINEAR));
            }
            seen.shapes.push(y.ty.shape().into());
        }
        Ok(())
    }

    /// The template, once all corners are added.
    pub(super) fn finish(self) -> Result<Template, FlexibleError> {
        let Draft { dims, first, seen } = self;
        let mut values = vec![];
        for ((id, x), seen) in first.values().zip(&seen) {
            let axes = || {
                let axis = |axis: usize| Number::of(seen.shapes.iter().map(|shape| shape[axis]));
                (0..x.ty.rank()).map(axis).collect::<Vec<_>>()
            };
            let kind = match &x.def {
                Def::Argument => Kind::Argument(x.ty.clone(), axes()),
                Def::Constant(_) => {
                    let tensor = first.constant(id).expect("it is one");
                    let counts = seen.counts.as_ref().filter(|_| !seen.is_same).map(|counts| {
                        let count = |at: usize| Number::of(counts.iter().map(|counts| counts[at]));
                        (0..=x.ty.rank()).map(count).collect()
                    });
                    match counts {
                        Some(counts) => Kind::Counted(x.ty.element(), axes(), counts),
                        None if seen.is_same => Kind::Constant(tensor),
                        None => Kind::Part(tensor, axes()),
                    }
                }
                Def::Result { op, operands } => {
                    let settings = if seen.is_same { None } else { Some(texts(&seen.settings)) };
                    let settings = settings.map(|s| s.ok_or_else(|| shape(&x.label(), NOT_LINEAR))).transpose()?;
                    Kind::Result { op: op.clone(), settings, operands: operands.clone() }
                }
            };
            values.push(Flexible { name: x.name.clone(), origins: x.origins.clone(), kind });
        }
        let template = Template { results: first.results().into(), dims, values };
        let bases: Vec<Vec<u64>> = template.arguments().map(|(ty, _)| ty.shape().into()).collect();
        if let Err(unknown) = template.solve(bases.iter().map(Vec::as_slice)) {
            return Err(FlexibleError::Unseen { dim: template.dims.all()[unknown].name().into() });
        }
        Ok(template)
    }
}

impl Seen {
    /// Adds a constant that is `y` at this corner, and was `x` at the first one; `corners` of them were added before.
    fn add_constant(&mut self, x: &Tensor, y: &Tensor, corners: usize) {
        let is_same = x == y;
        if !is_same && self.is_same {
            // Those before were all the same.
            self.counts = counted::counts(x).map(|counts| vec![counts; corners]);
        }
        self.is_same &= is_same;
        self.is_part = self.is_part && (is_same || part(x, y.ty().shape()).is_some_and(|part| part == *y));
        if !self.is_same {
            self.counts = self.counts.take().and_then(|mut all| {
                all.push(counted::counts(y)?);
                Some(all)
            });
        }
    }
}

/// The settings of one operation at all corners, as texts with numbers that depend on sizes.
fn texts(corners: &[Vec<(&'static str, String)>]) -> Option<Vec<(&'static str, Text)>> {
    let first = &corners[0];
    let text = |(at, (name, _)): (usize, &(&'static str, String))| {
        let texts = corners.iter().map(|settings| settings.get(at).filter(|(n, _)| n == name).map(|(_, t)| t.as_str()));
        Some((*name, Text::of(&texts.collect::<Option<Vec<_>>>()?)?))
    };
    let is_like = corners.iter().all(|settings| settings.len() == first.len());
    is_like.then(|| first.iter().enumerate().map(text).collect::<Option<Vec<_>>>())?
}

impl Template {
    /// The open dimensions.
    pub(super) fn dims(&self) -> &OpenDims {
        &self.dims
    }

    fn arguments(&self) -> impl Iterator<Item = (&TensorType, &[Number])> {
        self.values.iter().filter_map(|v| match &v.kind {
            Kind::Argument(ty, dims) => Some((ty, &dims[..])),
            _ => None,
        })
    }

    /// The offsets of all dimensions, of arguments of these shapes; the first dimension that they do not tell, if there is one.
    fn solve<'a>(&self, shapes: impl Iterator<Item = &'a [u64]> + Clone) -> Result<Vec<i128>, usize> {
        let mut offsets = vec![None; self.dims.len()];
        for _ in 0..self.dims.len() {
            for ((_, numbers), shape) in self.arguments().zip(shapes.clone()) {
                for (number, size) in numbers.iter().zip(shape) {
                    if let Some((dim, offset)) = number.solve(&offsets, *size) {
                        offsets[dim] = Some(offset);
                    }
                }
            }
        }
        offsets.iter().enumerate().map(|(dim, offset)| offset.ok_or(dim)).collect()
    }

    /// Fails unless the function for sizes is what the template says.
    pub(super) fn check(&self, sizes: &[u64], func: &Func) -> Result<(), FlexibleError> {
        let values = self.at(sizes).map_err(|e| match e {
            FlexibleError::Size { layer, .. } => shape(&layer, NOT_LINEAR),
            other => other,
        })?;
        let differs = func.values().zip(&values).find(|((_, x), y)| x.ty != y.ty || x.def != y.def);
        match differs {
            None if func.values().len() == values.len() && func.results() == self.results => Ok(()),
            None => Err(other_operations(func, values.iter(), &self.dims.named(sizes))),
            Some(_) if func.values().len() != values.len() => {
                Err(other_operations(func, values.iter(), &self.dims.named(sizes)))
            }
            Some(((_, value), _)) => Err(shape(&value.label(), NOT_LINEAR)),
        }
    }

    /// The dimensions that constants depend on of which smaller sizes have a part: each set once, a bit for each dimension.
    pub(super) fn parts(&self) -> BTreeSet<usize> {
        let parts = self.values.iter().filter_map(|v| match &v.kind {
            Kind::Part(_, axes) => Some(dims_of(axes)),
            _ => None,
        });
        parts.collect()
    }

    /// Takes constants that depend on these dimensions from the function for the longest sizes of them.
    pub(super) fn extend(&mut self, dims: usize, sizes: &[u64], func: &Func) -> Result<(), FlexibleError> {
        if func.values().len() != self.values.len() {
            let why = format!("for {} there are other operations", self.dims.named(sizes));
            return Err(shape(func.name(), &why));
        }
        for (value, (id, _)) in self.values.iter_mut().zip(func.values()) {
            if let Kind::Part(tensor, axes) = &mut value.kind
                && dims_of(axes) == dims
            {
                let longest = func.constant(id);
                let longest = longest.filter(|t| part(t, tensor.ty().shape()).is_some_and(|part| part == *tensor));
                match longest {
                    Some(longest) => *tensor = longest,
                    None => return Err(shape(&value.label(), NOT_LINEAR)),
                }
            }
        }
        Ok(())
    }

    /// The sizes of arguments of these types; `None` if they are of none.
    pub(super) fn sizes(&self, types: &[&TensorType]) -> Option<Vec<u64>> {
        if self.arguments().count() != types.len() {
            return None;
        }
        let offsets = self.solve(types.iter().map(|ty| ty.shape())).ok()?;
        let sizes = offsets.iter().enumerate().map(|(dim, offset)| self.dims.size(dim, *offset));
        let sizes = sizes.collect::<Option<Vec<u64>>>()?;
        let fits = self.arguments().zip(types).all(|((ty, numbers), given)| {
            let shape: Option<Vec<u64>> = numbers.iter().map(|n| n.at(&offsets)).collect();
            ty.element() == given.element() && shape.as_deref() == Some(given.shape())
        });
        fits.then_some(sizes)
    }

    /// The values returned.
    pub(super) fn results(&self) -> &[ValueId] {
        &self.results
    }

    /// Values that are kernels, with the position of what they read as weights.
    pub(super) fn kernels(&self) -> impl Iterator<Item = (usize, String, usize, Kernel<'_>)> {
        self.values.iter().enumerate().filter_map(|(at, value)| match &value.kind {
            Kind::Result { op: TensorOp::Structured(Structured::Kernel { problem }), settings, operands } => {
                let kernel = match settings {
                    None => Kernel::Fixed(problem),
                    Some(settings) => Kernel::Open(&settings[0].1),
                };
                Some((at, value.label(), operands[1].index(), kernel))
            }
            _ => None,
        })
    }

    /// A constant's elements, if it is the same for all sizes.
    pub(super) fn constant(&self, at: usize) -> Option<&Tensor> {
        match &self.values[at].kind {
            Kind::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Gives back constants that only such kernels read as have them in their own form: by the position of the kernel.
    pub(super) fn release(&mut self, own: &HashMap<usize, usize>) {
        let mut is_read = vec![false; self.values.len()];
        self.results.iter().for_each(|id| is_read[id.index()] = true);
        for (at, value) in self.values.iter().enumerate() {
            if let Kind::Result { operands, .. } = &value.kind {
                let reads = operands.iter().enumerate().filter(|(n, _)| *n != 1 || !own.contains_key(&at));
                reads.for_each(|(_, o)| is_read[o.index()] = true);
            }
        }
        for at in own.values().filter(|at| !is_read[**at]) {
            if let Kind::Constant(tensor) = &self.values[*at].kind {
                self.values[*at].kind = Kind::Packed(tensor.ty().clone());
            }
        }
    }

    /// The function's values for sizes. Constants that were [released](Self::release) have no elements.
    pub(super) fn at(&self, sizes: &[u64]) -> Result<Vec<Value>, FlexibleError> {
        let offsets = &self.dims.offsets(sizes)[..];
        let mut values: Vec<Value> = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let fail = || FlexibleError::Size { sizes: self.dims.named(sizes), layer: value.label() };
            let shape =
                |axes: &[Number]| axes.iter().map(|n| n.at(offsets)).collect::<Option<Vec<u64>>>().ok_or_else(fail);
            let (ty, def) = match &value.kind {
                Kind::Argument(ty, axes) => {
                    (TensorType::new(ty.element(), shape(axes)?).map_err(|_| fail())?, Def::Argument)
                }
                Kind::Constant(tensor) => (tensor.ty().clone(), Def::Constant(tensor.data().clone())),
                Kind::Packed(ty) => (ty.clone(), Def::Constant(bytes::Bytes::new())),
                Kind::Part(tensor, axes) => {
                    let tensor = part(tensor, &shape(axes)?).ok_or_else(fail)?;
                    (tensor.ty().clone(), Def::Constant(tensor.data().clone()))
                }
                Kind::Counted(element, axes, counts) => {
                    let ty = TensorType::new(*element, shape(axes)?).map_err(|_| fail())?;
                    let tensor = counted::tensor(&ty, counts, offsets).ok_or_else(fail)?;
                    (ty, Def::Constant(tensor.data().clone()))
                }
                Kind::Result { op, settings, operands } => {
                    let op = match settings {
                        None => op.clone(),
                        Some(settings) => {
                            let texts = settings.iter().map(|(name, text)| Some((*name, text.at(offsets)?)));
                            let texts = texts.collect::<Option<Vec<_>>>().ok_or_else(fail)?;
                            let texts = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
                            TensorOp::from_settings(op.name(), texts).and_then(Result::ok).ok_or_else(fail)?
                        }
                    };
                    let types: Vec<&TensorType> = operands.iter().map(|o| &values[o.index()].ty).collect();
                    (op.infer(&types).map_err(|_| fail())?, Def::Result { op, operands: operands.clone() })
                }
            };
            values.push(Value { name: value.name.clone(), ty, def, origins: value.origins.clone() });
        }
        Ok(values)
    }
}

/// The dimensions that numbers depend on, a bit for each.
fn dims_of(numbers: &[Number]) -> usize {
    numbers.iter().fold(0, |all, number| all | number.dims())
}

/// The first elements of a tensor along each axis.
fn part(tensor: &Tensor, counts: &[u64]) -> Option<Tensor> {
    let slice =
        Structured::Slice { starts: vec![0; counts.len()], steps: vec![1; counts.len()], counts: counts.into() };
    TensorOp::from(slice).apply(&[tensor]).ok()
}
