//! What cells of recurrent networks make of their gates.

use super::super::types::TensorType;
use super::{Mismatch, Structured, View, same_element};

pub(super) fn infer(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let element = same_element(operands)?;
    if !element.is_float() {
        return Err(Mismatch::Element { operand: 0, found: element, expected: "floating-point numbers" });
    }
    // The states, or the cells, say how many there are.
    let operand = if matches!(op, Structured::LstmCell {}) { 1 } else { 2 };
    let state = operands[operand];
    let &[batch, hidden] = state.shape() else {
        return Err(Mismatch::Rank { operand, rank: state.rank(), expected: "2: a batch of states" });
    };
    let expected: &[Vec<u64>] = match op {
        Structured::LstmCell {} => &[vec![batch, 4 * hidden], vec![batch, hidden], vec![3, hidden]],
        Structured::GruCell {} => &[vec![batch, 3 * hidden], vec![batch, 3 * hidden], vec![batch, hidden]],
        _ => unreachable!("another file's operation"),
    };
    for (operand, (ty, expected)) in operands.iter().zip(expected).enumerate() {
        if ty.shape() != expected {
            return Err(Mismatch::Shape { operand, found: ty.shape().into(), expected: expected.clone() });
        }
    }
    let shape = if matches!(op, Structured::LstmCell {}) { vec![2, batch, hidden] } else { vec![batch, hidden] };
    Ok(TensorType::new(element, shape)?)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) fn evaluate(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    let n = *ty.shape().last().expect("a batch of states") as usize;
    match op {
        Structured::LstmCell {} => {
            let (gates, cell) = (operands[0].data, operands[1].data);
            let peephole = |gate: usize, at: usize| operands.get(2).map_or(0.0, |p| p.data[gate * n + at]);
            let (mut hidden, mut cells) = (vec![], vec![]);
            for (at, c) in cell.iter().enumerate() {
                let (row, k) = (at / n, at % n);
                let gate = |gate: usize| gates[(row * 4 + gate) * n + k];
                let input = sigmoid(gate(0) + peephole(0, k) * c);
                let forget = sigmoid(gate(2) + peephole(2, k) * c);
                let next = forget * c + input * gate(3).tanh();
                let output = sigmoid(gate(1) + peephole(1, k) * next);
                hidden.push(output * next.tanh());
                cells.push(next);
            }
            hidden.append(&mut cells);
            hidden
        }
        Structured::GruCell {} => {
            let [given, recurrent, state] = [operands[0].data, operands[1].data, operands[2].data];
            let next = state.iter().enumerate().map(|(at, h)| {
                let (row, k) = (at / n, at % n);
                let at = |gate: usize| (row * 3 + gate) * n + k;
                let update = sigmoid(given[at(0)] + recurrent[at(0)]);
                let reset = sigmoid(given[at(1)] + recurrent[at(1)]);
                let new = (given[at(2)] + reset * recurrent[at(2)]).tanh();
                (1.0 - update) * new + update * h
            });
            next.collect()
        }
        _ => unreachable!("another file's operation"),
    }
}
