//! Copies whose source and destination are contiguous along different axes, and copies that convert.
//!
//! Blocks of 4x4 are transposed in registers, in their first four lanes whatever the vector length: permutations by pairs of
//! elements and then by pairs of pairs are what every instruction set has. AVX-512 zips any two registers in one instruction,
//! and transposes a register's lanes of rows and columns at once. A copy is unrolled over its width and loops over K.
//! Elements that are contiguous along neither axis and must be converted are copied one by one.

use std::sync::Arc;

use kiln_ir::DType;
use kiln_ir::nest::{Extent, LoopNest, Matrix, Pack};

use super::{BuildError, Values, matrix_region, step_name};
use crate::microkernel::{Access, Addr, Inst, MicroKernel, Op, P, Param, Permute, Stmt, V};
use crate::target::{VectorIsa, VectorUnit};

const SRC: P = P(0);
const DST: P = P(1);

/// Rows and columns of a block.
const BLOCK: u64 = 4;

/// The widest copy that is one micro-kernel: it is unrolled so far.
pub const MAX_WIDTH: u64 = 128;

/// True if the copy is a micro-kernel of this module. The driver makes the others: copies of one type into contiguous memory.
pub fn is_needed(nest: &LoopNest, pack: &Pack) -> bool {
    let dtype = |m: &Matrix| nest.buffers[m.at.buffer.0 as usize].dtype;
    let (Extent::Const(k), Extent::Const(width)) = (&pack.k, &pack.width) else { return false };
    let transposes = transposes(pack) && pack.src.col != 1 && *k > 1 && *width > 1;
    let scatters = pack.dst.col != 1 && *width > 1;
    (transposes && *width <= MAX_WIDTH) || scatters || dtype(&pack.src) != dtype(&pack.dst)
}

/// True if blocks are transposed.
fn transposes(pack: &Pack) -> bool {
    pack.src.row == 1 && pack.dst.col == 1
}

/// Rows and columns that are transposed at once where two registers are zipped by one instruction: as many as there are lanes,
/// in one half of the registers for the results in the other.
fn square(unit: &VectorUnit) -> Option<u64> {
    (unit.isa == VectorIsa::Avx512).then_some(unit.lanes.into())
}

/// Builds the copy `pack`, whose extents are constant.
pub fn build(name: String, nest: &LoopNest, pack: &Pack, unit: &VectorUnit) -> Result<MicroKernel, BuildError> {
    let (Extent::Const(k), Extent::Const(width)) = (&pack.k, &pack.width) else {
        return Err(BuildError::Layout("a copy of varying extent"));
    };
    let param = |m: &Matrix, name: &str, access| {
        let dtype: DType = nest.buffers[m.at.buffer.0 as usize].dtype;
        let region = matrix_region(*k, *width, m, dtype.bytes() as u64);
        Param { name: name.into(), dtype, access, region }
    };
    let params = vec![param(&pack.src, "src", Access::Read), param(&pack.dst, "dst", Access::Write)];
    let c = Copier {
        src: (params[0].dtype, &pack.src),
        dst: (params[1].dtype, &pack.dst),
        width: *width,
        values: Values::default(),
    };
    let transposes = transposes(pack);
    let along = !transposes && (pack.src.col == 1 || *width == 1) && (pack.dst.col == 1 || *width == 1);
    // Steps of K that an iteration copies.
    let chunk = match square(unit) {
        Some(side) if transposes && *k >= side && *width > BLOCK => side,
        _ if transposes => BLOCK,
        _ => 1,
    };
    let steps = |from: u64, count: u64, advance: Option<u64>| match () {
        () if transposes && 2 * count > chunk.max(2 * BLOCK) => c.squares(from, count, chunk, advance),
        () if transposes => c.blocks_of(from, count, advance),
        () if along => c.vectors(from, u64::from(unit.lanes), advance),
        () => c.elements(from, advance),
    };
    let mut body = vec![];
    let trips = k / chunk;
    if trips > 1 {
        let why = format!("k in 0..{} step {chunk}", trips * chunk);
        body.push(Stmt::Loop { trips, why, body: steps(0, chunk, Some(chunk)) });
    }
    let mut done = if trips > 1 { trips * chunk } else { 0 };
    while done < *k {
        let count = (k - done).min(chunk);
        body.extend(steps(done, count, None).into_iter().map(Stmt::Inst));
        done += count;
    }
    Ok(MicroKernel { name, isa: unit.isa, lanes: unit.lanes, registers: c.values.count(), params, body })
}

struct Copier<'a> {
    src: (DType, &'a Matrix),
    dst: (DType, &'a Matrix),
    width: u64,
    values: Values,
}

impl Copier<'_> {
    /// Element `(p, w)` of a side.
    fn addr(&self, param: P, p: u64, w: u64, advance: Option<u64>) -> Addr {
        let (dtype, m) = if param == SRC { self.src } else { self.dst };
        let bytes = dtype.bytes() as u64;
        Addr {
            param,
            offset: (bytes * (p * m.row + w * m.col)) as i64,
            step: (bytes * advance.unwrap_or(0) * m.row) as i64,
        }
    }

    /// `count` steps of K, at most `side`, of the whole width, in squares of `side` columns: a register each.
    fn squares(&self, from: u64, count: u64, side: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        let k = step_name(advance.is_some(), from);
        for w in (0..self.width).step_by(side as usize) {
            let columns = (self.width - w).min(side);
            let why: Arc<str> = format!("{k}..+{count}, {w}..+{columns}").into();
            let mut push = |op| out.push(Inst::new(op, why.clone()));
            let loaded: Vec<V> = (0..columns)
                .map(|i| {
                    let d = self.values.next();
                    push(Op::Load { d, src: self.addr(SRC, from, w + i, advance), lanes: count as u16 });
                    d
                })
                .collect();
            // Lanes beyond the columns are not stored: any column will do.
            let mut vectors: Vec<V> = (0..side).map(|i| loaded[i.min(columns - 1) as usize]).collect();
            // A perfect shuffle per power of two: vector `p` then holds step `p` of every column.
            for _ in 0..side.ilog2() {
                let half = vectors.len() / 2;
                let zips: Vec<(V, Op)> = (0..half)
                    .flat_map(|i| [(i, Permute::ZipLow), (i, Permute::ZipHigh)])
                    .map(|(i, f)| {
                        let d = self.values.next();
                        (d, Op::Permute { f, bits: 32, d, a: vectors[i], b: vectors[i + half] })
                    })
                    .collect();
                // The last results are not stored if there are fewer steps.
                zips.iter().for_each(|(_, op)| push(*op));
                vectors = zips.into_iter().map(|(d, _)| d).collect();
            }
            for (p, s) in (0..count).zip(vectors) {
                push(Op::Store { s, dst: self.addr(DST, from + p, w, advance), lanes: columns as u16 });
            }
        }
        out
    }

    /// `count` steps of K of the whole width, a block's at once.
    fn blocks_of(&self, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let starts = (0..count).step_by(BLOCK as usize);
        starts.flat_map(|p| self.blocks(from + p, (count - p).min(BLOCK), advance)).collect()
    }

    /// `count` steps of K, at most a block's, of the whole width.
    fn blocks(&self, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        let k = step_name(advance.is_some(), from);
        for w in (0..self.width).step_by(BLOCK as usize) {
            let columns = (self.width - w).min(BLOCK);
            let why: Arc<str> = format!("{k}..+{count}, {w}..+{columns}").into();
            let mut push = |op| out.push(Inst::new(op, why.clone()));
            let loaded: Vec<V> = (0..columns)
                .map(|i| {
                    let d = self.values.next();
                    push(Op::Load { d, src: self.addr(SRC, from, w + i, advance), lanes: count as u16 });
                    d
                })
                .collect();
            let row = |i: u64| loaded[i.min(columns - 1) as usize];
            let mut permute = |f, bits, a, b| {
                let d = self.values.next();
                push(Op::Permute { f, bits, d, a, b });
                d
            };
            // Pairs of columns by steps: even and odd steps of the first two, of the last two.
            let e0 = permute(Permute::TrnEven, 32, row(0), row(1));
            let e1 = permute(Permute::TrnEven, 32, row(2), row(3));
            let o0 = permute(Permute::TrnOdd, 32, row(0), row(1));
            let o1 = permute(Permute::TrnOdd, 32, row(2), row(3));
            let first = permute(Permute::TrnEven, 64, e0, e1);
            let third = permute(Permute::TrnOdd, 64, e0, e1);
            let second = permute(Permute::TrnEven, 64, o0, o1);
            let fourth = permute(Permute::TrnOdd, 64, o0, o1);
            for (p, s) in (0..count).zip([first, second, third, fourth]) {
                push(Op::Store { s, dst: self.addr(DST, from + p, w, advance), lanes: columns as u16 });
            }
        }
        out
    }

    /// One step of K, vectors along the width.
    fn vectors(&self, p: u64, lanes: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        for w in (0..self.width).step_by(lanes as usize) {
            let (d, count) = (self.values.next(), (self.width - w).min(lanes) as u16);
            let why: Arc<str> = format!("{}, {w}..+{count}", step_name(advance.is_some(), p)).into();
            let load = Op::Load { d, src: self.addr(SRC, p, w, advance), lanes: count };
            let store = Op::Store { s: d, dst: self.addr(DST, p, w, advance), lanes: count };
            out.extend([load, store].map(|op| Inst::new(op, why.clone())));
        }
        out
    }

    /// One step of K, element by element.
    fn elements(&self, p: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        for w in 0..self.width {
            let d = self.values.next();
            let why: Arc<str> = format!("{}, {w}", step_name(advance.is_some(), p)).into();
            let load = Op::Load { d, src: self.addr(SRC, p, w, advance), lanes: 1 };
            let store = Op::Store { s: d, dst: self.addr(DST, p, w, advance), lanes: 1 };
            out.extend([load, store].map(|op| Inst::new(op, why.clone())));
        }
        out
    }
}
