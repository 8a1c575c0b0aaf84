//! Post-ops on the sums while they are in registers, and the stores.
//!
//! The chain is one [`Program`] on a vector, applied to each vector of the tile. Its constants, and the tensors that vectors of a row or of
//! a column share, are one value for all of them: whether it stays in a register meanwhile is for the
//! [assignment of registers](mod@super::super::assign).

use std::collections::HashMap;
use std::sync::Arc;

use kiln_ir::PostOp;
use kiln_ir::nest::{Matrix, Tile};

use super::Builder;
use crate::microkernel::program::Program;
use crate::microkernel::{Addr, Op, P, V};

fn chain(tile: &Tile) -> Vec<PostOp> {
    tile.post.iter().map(|(op, _)| *op).collect()
}

/// A tensor that a post-op reads.
struct Operand {
    param: P,
    matrix: Matrix,
    name: String,
}

/// The values that vectors of the tile share.
#[derive(Default)]
struct Shared {
    constants: HashMap<u32, V>,
    /// Vectors of tensors, by tensor, row and vector of columns: 0 where the tensor is the same along that axis.
    tensors: HashMap<(u8, u64, u64), V>,
}

impl Builder<'_> {
    pub(super) fn epilogue(&mut self) {
        let chain = chain(self.tile);
        let program = Program::of(&chain);
        let tensors = self.tile.post.iter().filter_map(|(_, m)| m.clone());
        let operands: Vec<Operand> = (2u8..)
            .zip(tensors)
            .map(|(n, matrix)| Operand { param: P(n), matrix, name: self.params[usize::from(n)].name.clone() })
            .collect();
        let words = words(&chain);
        let mut shared = Shared::default();
        // With nothing to apply, rows are stored one after the other.
        let vectors = (0..self.vectors).flat_map(|j| (0..self.rows).map(move |i| (i, j)));
        let mut order: Vec<(u64, u64)> = vectors.collect();
        if chain.is_empty() {
            order.sort_unstable();
        }
        for (i, j) in order {
            let sum = self.results[(i * self.vectors + j) as usize];
            let why: Arc<str> = format!("{} {words}", self.sum(i, j)).into();
            let result = self.apply(&program, sum, (i, j), &operands, &mut shared, &why);
            let op = Op::Store { s: result, dst: self.dst_addr(i, j), lanes: self.valid(j) };
            self.push(op, format!("dst[{i}, {}]", self.columns(j)));
        }
    }

    /// Appends the program on `sum`, which is vector `j` of row `i`, and gives the value of its result.
    fn apply(
        &mut self,
        program: &Program,
        sum: V,
        (i, j): (u64, u64),
        operands: &[Operand],
        shared: &mut Shared,
        why: &Arc<str>,
    ) -> V {
        // The value of each of the program's, once it is there.
        let mut values: Vec<Option<V>> = vec![None; program.values() as usize];
        values[0] = Some(sum);
        for op in program.ops() {
            if let Op::Const { d, bits } = *op {
                values[d.0 as usize] = Some(self.constant(bits, shared));
                continue;
            }
            for v in op.used() {
                if let (None, Some(n)) = (values[v.0 as usize], program.operand(v)) {
                    values[v.0 as usize] = Some(self.operand(n, &operands[usize::from(n)], (i, j), shared));
                }
            }
            let op = op.renamed(|v| *values[v.0 as usize].get_or_insert_with(|| self.values.next()));
            self.push(op, why.clone());
        }
        values[program.result().0 as usize].unwrap_or(sum)
    }

    /// A constant, which is made where it is used first.
    fn constant(&mut self, bits: u32, shared: &mut Shared) -> V {
        *shared.constants.entry(bits).or_insert_with(|| {
            let d = self.values.next();
            self.push(Op::Const { d, bits }, format!("{}", f32::from_bits(bits)));
            d
        })
    }

    /// The elements of tensor operand `n` for vector `j` of row `i`, loaded where they are used first.
    fn operand(&mut self, n: u8, operand: &Operand, (i, j): (u64, u64), shared: &mut Shared) -> V {
        let m = &operand.matrix;
        let key = (n, if m.row == 0 { 0 } else { i }, if m.col == 0 { 0 } else { j });
        *shared.tensors.entry(key).or_insert_with(|| {
            let d = self.values.next();
            let op = self.load_operand(operand, i, j, d);
            self.push(op, format!("{}[{}]", operand.name, self.columns(j)));
            d
        })
    }

    /// The load of a tensor's elements for vector `j` of row `i`.
    fn load_operand(&self, operand: &Operand, i: u64, j: u64, d: V) -> Op {
        let m = &operand.matrix;
        let bytes = self.dtype(m).bytes() as u64;
        let offset = (bytes * (i * m.row + if m.col == 0 { 0 } else { j * self.lanes })) as i64;
        let src = Addr { param: operand.param, offset, step: 0 };
        match m.col {
            0 => Op::Broadcast { d, src },
            _ => Op::Load { d, src, lanes: self.valid(j) },
        }
    }
}

/// The chain, short enough for a comment.
fn words(chain: &[PostOp]) -> String {
    let text: String = chain.iter().map(|op| format!("+{op}")).collect();
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
