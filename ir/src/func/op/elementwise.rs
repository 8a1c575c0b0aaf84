//! Operations element by element.

use super::super::element::ElementType;
use super::super::types::TensorType;
use super::{Binary, Mismatch, Structured, Unary, View, broadcast, same_element};

pub(super) fn infer_unary(op: &Unary, x: &TensorType) -> Result<TensorType, Mismatch> {
    let element = x.element();
    let wrong = |expected| Err(Mismatch::Element { operand: 0, found: element, expected });
    match op {
        Unary::Not {} if element != ElementType::Bool => wrong("bool"),
        Unary::Not {} => Ok(x.clone()),
        _ if element == ElementType::Bool => wrong("numbers"),
        // These are integers again; the others would not be.
        Unary::Abs {} | Unary::Neg {} | Unary::Sign {} | Unary::Relu {} | Unary::Clamp { .. } => Ok(x.clone()),
        _ if !element.is_float() => wrong("floating-point numbers"),
        _ => Ok(x.clone()),
    }
}

pub(super) fn infer_binary(op: &Binary, a: &TensorType, b: &TensorType) -> Result<TensorType, Mismatch> {
    let shape = broadcast(a.shape(), b.shape())?;
    let element = same_element(&[a, b])?;
    let is_bool = element == ElementType::Bool;
    use Binary::*;
    let result = match op {
        And {} | Or {} | Xor {} if !is_bool => {
            return Err(Mismatch::Element { operand: 0, found: element, expected: "bool" });
        }
        And {} | Or {} | Xor {} | Equal {} => ElementType::Bool,
        _ if is_bool => return Err(Mismatch::Element { operand: 0, found: element, expected: "numbers" }),
        Less {} | LessOrEqual {} | Greater {} | GreaterOrEqual {} => ElementType::Bool,
        Add {} | Sub {} | Mul {} | Div {} | Rem {} | Pow {} | Max {} | Min {} | PRelu {} => element,
    };
    Ok(TensorType::new(result, shape)?)
}

pub(super) fn infer_other(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match op {
        Structured::Cast { to } => Ok(TensorType::new(*to, operands[0].shape())?),
        _ => {
            let [condition, a, b] = [operands[0], operands[1], operands[2]];
            if condition.element() != ElementType::Bool {
                return Err(Mismatch::Element { operand: 0, found: condition.element(), expected: "bool" });
            }
            let shape = broadcast(condition.shape(), &broadcast(a.shape(), b.shape())?)?;
            Ok(TensorType::new(same_element(&[a, b])?, shape)?)
        }
    }
}

pub(super) fn evaluate_unary(_op: &Unary, _x: View<'_>) -> Vec<f64> {
    todo!()
}

pub(super) fn evaluate_binary(_op: &Binary, _a: View<'_>, _b: View<'_>, _ty: &TensorType) -> Vec<f64> {
    todo!()
}

pub(super) fn evaluate_other(_op: &Structured, _operands: &[View<'_>], _ty: &TensorType) -> Vec<f64> {
    todo!()
}
