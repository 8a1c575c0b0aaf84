//! Functions that differ in a length only, as one function with that length free.
//!
//! Nothing in a function says which of its numbers come from a length. So it is made for three lengths: every number that differs
//! between the first two is taken for a linear function of the length, and the third has to agree.

use std::collections::HashMap;

use kiln_ir::func::{Def, Origins, Structured, Tensor, TensorOp, TensorType, Value, ValueId};
use kiln_ir::{Func, Problem};

use super::FlexibleError;

/// A number that depends on the length: `base + slope * length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linear {
    base: i128,
    slope: i128,
}

impl Linear {
    fn of(at: [(u64, u64); 2]) -> Option<Self> {
        let [(length, value), (other_length, other)] = at.map(|(l, v)| (i128::from(l), i128::from(v)));
        let (rise, run) = (value - other, length - other_length);
        if rise % run != 0 {
            return None;
        }
        let slope = rise / run;
        Some(Linear { base: value - slope * length, slope })
    }

    /// The number for a length; `None` if there is none.
    pub(super) fn at(&self, length: u64) -> Option<u64> {
        u64::try_from(self.base + self.slope * i128::from(length)).ok()
    }

    /// The length that gives a number; `None` if none does, or all do.
    fn length(&self, value: u64) -> Option<u64> {
        let rise = i128::from(value) - self.base;
        (self.slope != 0 && rise % self.slope == 0).then(|| u64::try_from(rise / self.slope).ok()).flatten()
    }
}

/// A text with numbers that depend on the length.
#[derive(Clone, Debug)]
pub(super) struct Text(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Same(String),
    Number(Linear),
}

/// Cuts a text into runs of digits and what is between them, the latter first.
fn cut(text: &str) -> Vec<&str> {
    let mut pieces = vec![];
    let mut rest = text;
    loop {
        let other = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (between, from) = rest.split_at(other);
        let digits = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (number, after) = from.split_at(digits);
        pieces.push(between);
        if number.is_empty() {
            return pieces;
        }
        pieces.push(number);
        rest = after;
    }
}

impl Text {
    fn of(at: [(u64, &str); 2]) -> Option<Self> {
        let [a, b] = at.map(|(_, text)| cut(text));
        if a.len() != b.len() {
            return None;
        }
        let mut pieces: Vec<Piece> = vec![];
        for (a, b) in a.into_iter().zip(b) {
            if a == b {
                match pieces.last_mut() {
                    Some(Piece::Same(last)) => *last += a,
                    _ => pieces.push(Piece::Same(a.into())),
                }
            } else {
                let numbers = [(at[0].0, a.parse().ok()?), (at[1].0, b.parse().ok()?)];
                pieces.push(Piece::Number(Linear::of(numbers)?));
            }
        }
        Some(Text(pieces))
    }

    /// The text for a length.
    fn at(&self, length: u64) -> Option<String> {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Same(text) => Some(text.clone()),
            Piece::Number(number) => number.at(length).map(|n| n.to_string()),
        });
        pieces.collect()
    }

    /// The text with `?` for the number that depends on the length, if there is exactly one such, however often.
    fn pattern(&self) -> Option<(String, Linear)> {
        let mut numbers = self.0.iter().filter_map(|p| if let Piece::Number(n) = p { Some(*n) } else { None });
        let first = numbers.next()?;
        if numbers.any(|n| n != first) {
            return None;
        }
        let pieces = self.0.iter().map(|piece| if let Piece::Same(text) = piece { text } else { "?" });
        Some((pieces.collect(), first))
    }
}

/// A value for any length.
struct Flexible {
    name: String,
    origins: Origins,
    kind: Kind,
}

impl Flexible {
    /// What people know it by, as [`Value::label`].
    fn label(&self) -> String {
        if self.origins.is_empty() { self.name.clone() } else { self.origins.to_string() }
    }
}

enum Kind {
    Argument(TensorType, Vec<Linear>),
    /// A constant of all lengths.
    Constant(Tensor),
    /// A constant that only kernels read, which have it in their own form.
    Packed(TensorType),
    /// One of which shorter lengths have a part, with the shape of that.
    Part(Tensor, Vec<Linear>),
    Result {
        op: TensorOp,
        settings: Option<Vec<(&'static str, Text)>>,
        operands: Vec<ValueId>,
    },
}

/// A function for any length up to one.
pub(super) struct Template {
    values: Vec<Flexible>,
    results: Vec<ValueId>,
    longest: u64,
}

/// A kernel of a template.
pub(super) enum Kernel<'a> {
    /// The same for all lengths.
    Fixed(&'a Problem),
    /// A problem with one free number, and what that is.
    Pattern(String, Linear),
    /// A problem in which the length is more than one number.
    Other,
}

fn dims(shape: [(u64, &[u64]); 2]) -> Option<Vec<Linear>> {
    let [(a, first), (b, second)] = shape;
    if first.len() != second.len() {
        return None;
    }
    first.iter().zip(second).map(|(x, y)| Linear::of([(a, *x), (b, *y)])).collect()
}

impl Template {
    /// Of one function at two lengths, the longest one and another.
    pub(super) fn of(longest: (u64, &Func), other: (u64, &Func)) -> Result<Self, FlexibleError> {
        let fail = |layer: &str, why: &str| FlexibleError::Shape { layer: layer.into(), why: why.into() };
        let (a, b) = (longest.1, other.1);
        if let Some((_, value)) =
            a.values().find(|(_, v)| matches!(v.def, Def::Result { op: TensorOp::Control(_), .. }))
        {
            return Err(fail(&value.name, "it is a branch or a loop"));
        }
        if a.values().len() != b.values().len() || a.results() != b.results() {
            return Err(fail(a.name(), "another length has other operations"));
        }
        let mut values = vec![];
        for ((id, x), (_, y)) in a.values().zip(b.values()) {
            let shapes = [(longest.0, x.ty.shape()), (other.0, y.ty.shape())];
            let kind = match (&x.def, &y.def) {
                (Def::Argument, Def::Argument) => dims(shapes).map(|d| Kind::Argument(x.ty.clone(), d)),
                (Def::Constant(_), Def::Constant(_)) => {
                    let (x, y) = (a.constant(id).expect("it is one"), b.constant(id).expect("it is one"));
                    if x == y { Some(Kind::Constant(x)) } else { part(&x, &y, shapes) }
                }
                (Def::Result { op, operands }, Def::Result { op: other_op, operands: same }) if operands == same => {
                    let settings = if op == other_op {
                        Some(None)
                    } else if op.name() == other_op.name() {
                        let pairs = op.settings().into_iter().zip(other_op.settings());
                        let texts = pairs.map(|((name, x), (_, y))| {
                            Some((name, Text::of([(longest.0, x.as_str()), (other.0, y.as_str())])?))
                        });
                        texts.collect::<Option<Vec<_>>>().map(Some)
                    } else {
                        None
                    };
                    settings.map(|settings| Kind::Result { op: op.clone(), settings, operands: operands.clone() })
                }
                _ => None,
            };
            let kind = kind.ok_or_else(|| fail(&x.label(), "it depends on the length in a way that is not linear"))?;
            values.push(Flexible { name: x.name.clone(), origins: x.origins.clone(), kind });
        }
        let depends = |v: &Flexible| matches!(&v.kind, Kind::Argument(_, dims) if dims.iter().any(|d| d.slope != 0));
        if !values.iter().any(depends) {
            return Err(fail(a.name(), "no input of it has the length for a dimension"));
        }
        Ok(Template { values, results: a.results().into(), longest: longest.0 })
    }

    /// Fails unless the function at a length is what the template says.
    pub(super) fn check(&self, length: u64, func: &Func) -> Result<(), FlexibleError> {
        let nonlinear = |layer: &str| FlexibleError::Shape {
            layer: layer.into(),
            why: "it depends on the length in a way that is not linear".into(),
        };
        let values = self.at(length).map_err(|e| match e {
            FlexibleError::Length { layer, .. } => nonlinear(&layer),
            other => other,
        })?;
        let differs = func.values().zip(&values).find(|((_, x), y)| x.ty != y.ty || x.def != y.def);
        match differs {
            None if func.values().len() == values.len() => Ok(()),
            None => Err(FlexibleError::Shape {
                layer: func.name().into(),
                why: "another length has other operations".into(),
            }),
            Some(((_, value), _)) => Err(nonlinear(&value.label())),
        }
    }

    /// The length of arguments of these types; `None` if they are of none.
    pub(super) fn length(&self, types: &[&TensorType]) -> Option<u64> {
        let arguments = self.values.iter().filter_map(|v| match &v.kind {
            Kind::Argument(ty, dims) => Some((ty, dims)),
            _ => None,
        });
        if arguments.clone().count() != types.len() {
            return None;
        }
        let length = arguments
            .clone()
            .zip(types)
            .find_map(|((_, dims), given)| dims.iter().zip(given.shape()).find_map(|(dim, n)| dim.length(*n)))?;
        let fits = arguments.zip(types).all(|((ty, dims), given)| {
            let shape: Option<Vec<u64>> = dims.iter().map(|d| d.at(length)).collect();
            ty.element() == given.element() && shape.as_deref() == Some(given.shape())
        });
        (fits && length <= self.longest).then_some(length)
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
                    Some(settings) => match settings[0].1.pattern() {
                        Some((pattern, number)) => Kernel::Pattern(pattern.trim_matches('"').into(), number),
                        None => Kernel::Other,
                    },
                };
                Some((at, value.label(), operands[1].index(), kernel))
            }
            _ => None,
        })
    }

    /// A constant's elements, if it is the same for all lengths.
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

    /// The function's values at a length. Constants that were [released](Self::release) have no elements.
    pub(super) fn at(&self, length: u64) -> Result<Vec<Value>, FlexibleError> {
        let mut values: Vec<Value> = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let fail = || FlexibleError::Length { length, layer: value.label() };
            let shape =
                |dims: &[Linear]| dims.iter().map(|d| d.at(length)).collect::<Option<Vec<u64>>>().ok_or_else(fail);
            let (ty, def) = match &value.kind {
                Kind::Argument(ty, dims) => {
                    (TensorType::new(ty.element(), shape(dims)?).map_err(|_| fail())?, Def::Argument)
                }
                Kind::Constant(tensor) => (tensor.ty().clone(), Def::Constant(tensor.data().clone())),
                Kind::Packed(ty) => (ty.clone(), Def::Constant(bytes::Bytes::new())),
                Kind::Part(tensor, dims) => {
                    let tensor = first(tensor, &shape(dims)?).ok_or_else(fail)?;
                    (tensor.ty().clone(), Def::Constant(tensor.data().clone()))
                }
                Kind::Result { op, settings, operands } => {
                    let op = match settings {
                        None => op.clone(),
                        Some(settings) => {
                            let texts = settings.iter().map(|(name, text)| Some((*name, text.at(length)?)));
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

/// The first elements of a tensor along each axis.
fn first(tensor: &Tensor, counts: &[u64]) -> Option<Tensor> {
    let slice =
        Structured::Slice { starts: vec![0; counts.len()], steps: vec![1; counts.len()], counts: counts.into() };
    TensorOp::from(slice).apply(&[tensor]).ok()
}

/// A constant of which another length has the first elements.
fn part(x: &Tensor, y: &Tensor, shapes: [(u64, &[u64]); 2]) -> Option<Kind> {
    let dims = dims(shapes)?;
    (first(x, y.ty().shape())? == *y).then(|| Kind::Part(x.clone(), dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_depend_on_the_length() {
        let text =
            Text::of([(10, "matmul f32 1x2x10x8:1x2x8x10 +scale:0.5"), (9, "matmul f32 1x2x9x8:1x2x8x9 +scale:0.5")]);
        let text = text.unwrap();
        assert_eq!(text.at(128).unwrap(), "matmul f32 1x2x128x8:1x2x8x128 +scale:0.5");
        assert_eq!(text.pattern().unwrap().0, "matmul f32 1x2x?x8:1x2x8x? +scale:0.5");
        let two = Text::of([(10, "a 20 b 11"), (9, "a 18 b 10")]).unwrap();
        assert_eq!(two.at(3).unwrap(), "a 6 b 4");
        assert!(two.pattern().is_none());
        assert!(Text::of([(10, "a 1"), (9, "b 1")]).is_none());
        assert!(Text::of([(10, "a 5"), (8, "a 4")]).is_none());
        assert!(Text::of([(10, "x 1"), (9, "x 2")]).unwrap().at(12).is_none());
    }
}
