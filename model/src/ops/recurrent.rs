//! Cells of recurrent networks: the arithmetic of all gates in one pass.

use super::parallel::{EXP, Parallel, split};
use super::simd::{fma, vectorised};
use super::vector_math::{sigmoid, tanh};
use super::{ShapeError, elements};

/// Work per state, in cheap operations: gates are exponentials.
const COST: usize = 5 * EXP;

fn check(op: &'static str, batch: usize, hidden: usize) -> Result<(), ShapeError> {
    match elements(&[batch, hidden, 4]) {
        Some(_) => Ok(()),
        None => Err(ShapeError::new(op, format!("{batch} states of {hidden} are too many"))),
    }
}

/// The plan of a cell with an input, an output and a forget gate. The gates of a state lie one after another: input, output, forget
/// and the new value of the cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmCell {
    batch: usize,
    hidden: usize,
}

impl LstmCell {
    /// A plan for so many states of so many elements.
    pub fn new(batch: usize, hidden: usize) -> Result<Self, ShapeError> {
        check("lstm_cell", batch, hidden)?;
        Ok(LstmCell { batch, hidden })
    }

    /// Writes the new states, then the new cells, of gates and the cells before. `peepholes` are factors of the cell in the input,
    /// output and forget gates.
    ///
    /// # Panics
    /// If a slice has another length than the plan says.
    pub fn run(self, gates: &[f32], cell: &[f32], peepholes: Option<&[f32]>, dst: &mut [f32]) {
        let LstmCell { batch, hidden: n } = self;
        assert!(gates.len() == 4 * batch * n && cell.len() == batch * n && dst.len() == 2 * batch * n);
        assert!(peepholes.is_none_or(|p| p.len() == 3 * n));
        if n == 0 {
            return;
        }
        let (hidden, cells) = dst.split_at_mut(batch * n);
        for row in 0..batch {
            let own = row * n..(row + 1) * n;
            let gates = &gates[4 * row * n..][..4 * n];
            match peepholes {
                None => lstm_row(gates, &cell[own.clone()], &mut hidden[own.clone()], &mut cells[own]),
                Some(p) => lstm_row_peepholes(gates, &cell[own.clone()], p, &mut hidden[own.clone()], &mut cells[own]),
            }
        }
    }
}

vectorised! {
    fn lstm_row(gates: &[f32], cell: &[f32], hidden: &mut [f32], cells: &mut [f32]) {
        let n = cell.len();
        let (input, rest) = gates.split_at(n);
        let (output, rest) = rest.split_at(n);
        let (forget, new) = rest.split_at(n);
        let (new, hidden, cells) = (&new[..n], &mut hidden[..n], &mut cells[..n]);
        for k in 0..n {
            let kept = sigmoid::<FMA>(forget[k]) * cell[k];
            let next = fma::<FMA>(sigmoid::<FMA>(input[k]), tanh::<FMA>(new[k]), kept);
            cells[k] = next;
            hidden[k] = sigmoid::<FMA>(output[k]) * tanh::<FMA>(next);
        }
    }

    fn lstm_row_peepholes(gates: &[f32], cell: &[f32], peepholes: &[f32], hidden: &mut [f32], cells: &mut [f32]) {
        let n = cell.len();
        let (input, rest) = gates.split_at(n);
        let (output, rest) = rest.split_at(n);
        let (forget, new) = rest.split_at(n);
        let (of_input, rest) = peepholes.split_at(n);
        let (of_output, of_forget) = rest.split_at(n);
        let (new, of_forget, hidden, cells) = (&new[..n], &of_forget[..n], &mut hidden[..n], &mut cells[..n]);
        for k in 0..n {
            let kept = sigmoid::<FMA>(fma::<FMA>(of_forget[k], cell[k], forget[k])) * cell[k];
            let given = sigmoid::<FMA>(fma::<FMA>(of_input[k], cell[k], input[k]));
            let next = fma::<FMA>(given, tanh::<FMA>(new[k]), kept);
            cells[k] = next;
            hidden[k] = sigmoid::<FMA>(fma::<FMA>(of_output[k], next, output[k])) * tanh::<FMA>(next);
        }
    }

    fn gru_row(given: &[f32], recurrent: &[f32], state: &[f32], dst: &mut [f32]) {
        let n = dst.len();
        let (given_update, rest) = given.split_at(n);
        let (given_reset, given_new) = rest.split_at(n);
        let (update, rest) = recurrent.split_at(n);
        let (reset, new) = rest.split_at(n);
        let (given_new, new, state) = (&given_new[..n], &new[..n], &state[..n]);
        for k in 0..n {
            let update = sigmoid::<FMA>(given_update[k] + update[k]);
            let reset = sigmoid::<FMA>(given_reset[k] + reset[k]);
            let new = tanh::<FMA>(fma::<FMA>(reset, new[k], given_new[k]));
            dst[k] = fma::<FMA>(update, state[k] - new, new);
        }
    }
}

/// The plan of a cell with an update and a reset gate, which is applied after the product with the state. The gates of a state lie
/// one after another: update, reset, and the new value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GruCell {
    batch: usize,
    hidden: usize,
}

impl GruCell {
    /// A plan for so many states of so many elements.
    pub fn new(batch: usize, hidden: usize) -> Result<Self, ShapeError> {
        check("gru_cell", batch, hidden)?;
        Ok(GruCell { batch, hidden })
    }

    /// Writes the new states, of what the gates get from the input and from the states before.
    ///
    /// # Panics
    /// If a slice has another length than the plan says.
    pub fn run(self, parallel: &dyn Parallel, given: &[f32], recurrent: &[f32], state: &[f32], dst: &mut [f32]) {
        let GruCell { batch, hidden: n } = self;
        assert!(given.len() == 3 * batch * n && recurrent.len() == given.len());
        assert!(state.len() == batch * n && dst.len() == batch * n);
        if n == 0 {
            return;
        }
        split(parallel, dst, n, n.saturating_mul(COST), &|rows, part| {
            for (row, dst) in rows.zip(part.chunks_mut(n)) {
                let gates = 3 * row * n..3 * (row + 1) * n;
                gru_row(&given[gates.clone()], &recurrent[gates], &state[row * n..(row + 1) * n], dst);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::parallel::Serial;
    use super::super::testing::{close, numbers};
    use super::*;

    fn exact_sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn cells_are_what_their_gates_say() {
        for (batch, n) in [(1, 1), (3, 7), (2, 40), (1, 256), (64, 130)] {
            let (gates, cell, p) = (numbers(4 * batch * n, 6.0), numbers(batch * n, 2.0), numbers(3 * n, 1.0));
            for peepholes in [None, Some(&p[..])] {
                let mut dst = vec![0.0; 2 * batch * n];
                LstmCell::new(batch, n).unwrap().run(&gates, &cell, peepholes, &mut dst);
                let (mut hidden, mut cells) = (vec![], vec![]);
                for (at, c) in cell.iter().enumerate() {
                    let (row, k) = (at / n, at % n);
                    let gate = |g: usize| f64::from(gates[(4 * row + g) * n + k]);
                    let p = |g: usize| peepholes.map_or(0.0, |p| f64::from(p[g * n + k]));
                    let c = f64::from(*c);
                    let next =
                        exact_sigmoid(gate(2) + p(2) * c) * c + exact_sigmoid(gate(0) + p(0) * c) * gate(3).tanh();
                    cells.push(next);
                    hidden.push(exact_sigmoid(gate(1) + p(1) * next) * next.tanh());
                }
                hidden.append(&mut cells);
                close(&dst, &hidden, 1e-6, 3e-7);
            }
            let (given, recurrent) = (numbers(3 * batch * n, 4.0), numbers(3 * batch * n, 3.0));
            let mut dst = vec![0.0; batch * n];
            GruCell::new(batch, n).unwrap().run(&Serial, &given, &recurrent, &cell, &mut dst);
            let exact: Vec<f64> = (0..batch * n)
                .map(|at| {
                    let (row, k) = (at / n, at % n);
                    let at = |v: &[f32], g: usize| f64::from(v[(3 * row + g) * n + k]);
                    let update = exact_sigmoid(at(&given, 0) + at(&recurrent, 0));
                    let reset = exact_sigmoid(at(&given, 1) + at(&recurrent, 1));
                    let new = (at(&given, 2) + reset * at(&recurrent, 2)).tanh();
                    (1.0 - update) * new + update * f64::from(cell[row * n + k])
                })
                .collect();
            close(&dst, &exact, 1e-6, 5e-7);
        }
    }

    #[test]
    fn gates_that_are_infinite_are_open_or_closed() {
        let inf = f32::INFINITY;
        let mut dst = [0.0; 2];
        LstmCell::new(1, 1).unwrap().run(&[inf, inf, -inf, inf], &[5.0], None, &mut dst);
        assert_eq!(dst[1], 1.0);
        let mut dst = [0.0];
        GruCell::new(1, 1).unwrap().run(&Serial, &[inf, 0.0, 0.0], &[0.0; 3], &[3.0], &mut dst);
        assert_eq!(dst, [3.0]);
    }
}
