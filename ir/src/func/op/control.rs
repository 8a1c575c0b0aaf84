//! Operations that run functions: branches and loops.

use std::sync::Arc;

use super::super::interp::InterpretError;
use super::super::tensor::Tensor;
use super::super::types::TensorType;
use super::super::{ElementType, Func};
use super::table::Control;
use super::{Mismatch, View};

impl Control {
    /// Trips of a loop at most: a [`While`](Self::While) that goes on is taken for one without an end.
    pub const MOST_TRIPS: u64 = 1 << 20;

    /// Functions within functions at most: what goes through them may call itself for each.
    pub const DEEPEST: usize = 16;

    /// The functions that it runs.
    pub fn bodies(&self) -> impl Iterator<Item = &Arc<Func>> + use<'_> {
        let (first, second) = match self {
            Control::If { then, otherwise } => (Some(then), Some(otherwise)),
            Control::Scan { body, .. } | Control::While { body, .. } => (Some(body), None),
            Control::Output { .. } => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The same with other functions.
    pub fn map_bodies<E>(&self, mut map: impl FnMut(&Func) -> Result<Func, E>) -> Result<Self, E> {
        let mut map = |body: &Arc<Func>| map(body).map(Arc::new);
        let mut control = self.clone();
        match &mut control {
            Control::If { then, otherwise } => (*then, *otherwise) = (map(then)?, map(otherwise)?),
            Control::Scan { body, .. } | Control::While { body, .. } => *body = map(body)?,
            Control::Output { .. } => {}
        }
        Ok(control)
    }

    pub(super) fn arity(&self) -> (usize, usize) {
        match self {
            Control::If { .. } => (1, usize::MAX),
            Control::Scan { states, .. } => (count(*states).max(1), usize::MAX),
            Control::While { states, .. } => (count(*states).saturating_add(2), usize::MAX),
            Control::Output { .. } => (1, 1),
        }
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let mut types = self.results(operands)?;
        Ok(types.swap_remove(0))
    }

    /// The types of all results for operands of these types.
    pub fn results(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let (least, most) = self.arity();
        if operands.len() < least || operands.len() > most {
            return Err(Mismatch::Arity { least, most, found: operands.len() });
        }
        if self.bodies().any(|body| body.depth() >= Self::DEEPEST) {
            let why = format!("has functions within functions, more than {} in all", Self::DEEPEST);
            return Err(Mismatch::Body { body: "the function", why });
        }
        match self {
            Control::If { then, otherwise } => {
                one(operands, 0, ElementType::Bool, "one boolean")?;
                takes("then", then, &owned(&operands[1..]))?;
                takes("otherwise", otherwise, &owned(&operands[1..]))?;
                let results = types_of(then);
                gives("otherwise", &types_of(otherwise), &results)?;
                Ok(results)
            }
            Control::Scan { trips, states, backward, body } => {
                if *trips > Self::MOST_TRIPS {
                    return Err(Mismatch::setting("trips", trips, format!("at most {}", Self::MOST_TRIPS)));
                }
                if let Some(flag) = backward.iter().find(|flag| **flag > 1) {
                    return Err(Mismatch::setting("backward", flag, "0 or 1 for each tensor of slices"));
                }
                let (states, results) = (count(*states), types_of(body));
                let made = results.len().checked_sub(states);
                let read = made.and_then(|made| backward.len().checked_sub(made));
                let read = read.filter(|read| states + read <= operands.len());
                let Some(read) = read else {
                    let expected = "a number for each tensor that is read and each that is made";
                    return Err(Mismatch::setting("backward", backward, expected));
                };
                let (state, rest) = operands.split_at(states);
                let mut arguments = vec![counter()];
                arguments.extend(owned(state));
                for (at, ty) in rest[..read].iter().enumerate() {
                    let operand = states + at;
                    let Some((first, inner)) = ty.shape().split_first() else {
                        return Err(Mismatch::Rank { operand, rank: 0, expected: "1 or more" });
                    };
                    if first != trips {
                        let expected = [&[*trips], inner].concat();
                        return Err(Mismatch::Shape { operand, found: ty.shape().into(), expected });
                    }
                    arguments.push(TensorType::new(ty.element(), inner)?);
                }
                arguments.extend(owned(&rest[read..]));
                takes("body", body, &arguments)?;
                gives("body", &results[..states], &owned(state))?;
                let mut all = results[..states].to_vec();
                for slice in &results[states..] {
                    all.push(TensorType::new(slice.element(), [&[*trips], slice.shape()].concat())?);
                }
                Ok(all)
            }
            Control::While { states, body } => {
                one(operands, 0, ElementType::I64, "one i64")?;
                one(operands, 1, ElementType::Bool, "one boolean")?;
                let states = count(*states);
                if states == 0 {
                    return Err(Mismatch::setting("states", 0, "1 or more: a loop without has no results"));
                }
                takes("body", body, &[&[counter()], &owned(&operands[2..])[..]].concat())?;
                let all = owned(&operands[2..2 + states]);
                let expected = [&[TensorType::new(ElementType::Bool, []).expect("it is small")], &all[..]].concat();
                gives("body", &types_of(body), &expected)?;
                Ok(all)
            }
            Control::Output { index: 0, .. } => {
                Err(Mismatch::setting("index", 0, "1 or more: the first result is the operation itself"))
            }
            Control::Output { ty, .. } => Ok(vec![ty.clone()]),
        }
    }

    /// The elements of all results.
    pub(in super::super) fn evaluate(&self, operands: &[View<'_>]) -> Result<Vec<Vec<f64>>, InterpretError> {
        let data = |operands: &[View<'_>]| operands.iter().map(|o| o.data.to_vec()).collect::<Vec<_>>();
        match self {
            Control::If { then, otherwise } => {
                let branch = if operands[0].data[0] != 0.0 { then } else { otherwise };
                branch.interpret_f64(&operands[1..].iter().map(|o| o.data).collect::<Vec<_>>())
            }
            Control::Scan { trips, states, backward, body } => {
                let (states, trips) = (count(*states), count(*trips));
                let types = types_of(body);
                let read = backward.len() - (types.len() - states);
                let lengths: Vec<_> = types[states..].iter().map(|t| t.elements() as usize).collect();
                let mut state = data(&operands[..states]);
                let mut made: Vec<_> = lengths.iter().map(|length| vec![0.0; trips * length]).collect();
                let place = |at: usize, trip: usize| if backward[at] == 1 { trips - 1 - trip } else { trip };
                for trip in 0..trips {
                    let number = [trip as f64];
                    let mut arguments: Vec<&[f64]> = vec![&number];
                    arguments.extend(state.iter().map(Vec::as_slice));
                    for (at, of) in operands[states..states + read].iter().enumerate() {
                        let length = of.data.len() / trips;
                        arguments.push(&of.data[place(at, trip) * length..][..length]);
                    }
                    arguments.extend(operands[states + read..].iter().map(|o| o.data));
                    let mut results = body.interpret_f64(&arguments)?;
                    let slices = results.split_off(states);
                    for (at, slice) in slices.iter().enumerate() {
                        made[at][place(read + at, trip) * lengths[at]..][..lengths[at]].copy_from_slice(slice);
                    }
                    state = results;
                }
                state.append(&mut made);
                Ok(state)
            }
            Control::While { states, body } => {
                let states = count(*states);
                let limit = operands[0].data[0];
                let mut goes_on = operands[1].data[0] != 0.0;
                let mut state = data(&operands[2..2 + states]);
                let mut trip = 0;
                while goes_on && (trip as f64) < limit {
                    if trip == Self::MOST_TRIPS {
                        return Err(InterpretError::Endless { func: body.name().into(), trips: trip });
                    }
                    let number = [trip as f64];
                    let mut arguments: Vec<&[f64]> = vec![&number];
                    arguments.extend(state.iter().map(Vec::as_slice));
                    arguments.extend(operands[2 + states..].iter().map(|o| o.data));
                    let mut results = body.interpret_f64(&arguments)?;
                    goes_on = results[0][0] != 0.0;
                    state = results.split_off(1);
                    trip += 1;
                }
                Ok(state)
            }
            Control::Output { .. } => unreachable!("a result of another operation is not computed"),
        }
    }

    /// The first result.
    pub(super) fn apply(&self, operands: &[&Tensor], ty: TensorType) -> Result<Tensor, Mismatch> {
        if let Control::Output { index, .. } = self {
            return Err(Mismatch::setting(
                "index",
                index,
                "to be asked of a function: it is a result of its operation",
            ));
        }
        let data: Vec<Vec<f64>> = operands.iter().map(|o| o.to_f64()).collect();
        let views: Vec<_> = operands.iter().zip(&data).map(|(o, data)| View { ty: o.ty(), data }).collect();
        match self.evaluate(&views) {
            Ok(results) => Ok(Tensor::from_f64(ty, &results[0])),
            Err(_) => Err(Mismatch::Endless(Self::MOST_TRIPS)),
        }
    }
}

/// A number of operands or results, of which there are not more than memory has.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The type of the number of a trip.
fn counter() -> TensorType {
    TensorType::new(ElementType::I64, []).expect("it is small")
}

fn owned(types: &[&TensorType]) -> Vec<TensorType> {
    types.iter().map(|t| (*t).clone()).collect()
}

fn types_of(func: &Func) -> Vec<TensorType> {
    func.results().iter().map(|id| func.value(*id).ty.clone()).collect()
}

/// Checks that an operand has one element of a type.
fn one(operands: &[&TensorType], operand: usize, element: ElementType, expected: &'static str) -> Result<(), Mismatch> {
    let ty = operands[operand];
    match ty.element() == element && ty.elements() == 1 {
        true => Ok(()),
        false if ty.element() == element => {
            Err(Mismatch::Shape { operand, found: ty.shape().into(), expected: vec![] })
        }
        false => Err(Mismatch::Element { operand, found: ty.element(), expected }),
    }
}

/// Checks what a function takes.
fn takes(which: &'static str, body: &Func, expected: &[TensorType]) -> Result<(), Mismatch> {
    let found = body.arguments().count();
    if found != expected.len() {
        let why = format!("takes {found} argument(s): expected {}", expected.len());
        return Err(Mismatch::Body { body: which, why });
    }
    match body.arguments().zip(expected).find(|((_, value), ty)| value.ty != **ty) {
        None => Ok(()),
        Some(((_, value), ty)) => {
            Err(Mismatch::Body { body: which, why: format!("takes {value} of {}: expected {ty}", value.ty) })
        }
    }
}

/// Checks what a function gives.
fn gives(which: &'static str, found: &[TensorType], expected: &[TensorType]) -> Result<(), Mismatch> {
    let fail = |why: String| Err(Mismatch::Body { body: which, why });
    if found.len() != expected.len() {
        return fail(format!("gives {} value(s): expected {}", found.len(), expected.len()));
    }
    match found.iter().zip(expected).enumerate().find(|(_, (found, expected))| found != expected) {
        None => Ok(()),
        Some((at, (found, expected))) => fail(format!("gives {found} for value {at}: expected {expected}")),
    }
}
