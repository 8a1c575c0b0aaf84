//! Copies of factors into panels for BFMMLA: four steps of K of a row or column are neighbours, rounded to bf16 on the way.
//!
//! Rows that lie along K are transposed by groups of four steps, in registers: as many rows at once as a vector has groups.
//! Rows that lie across K are interleaved four at a time. So are rows whose elements are neighbours along neither axis, as the
//! weights of a convolution of several taps are, after their vectors were put together from single elements. What a panel has
//! beyond them is 0. Copies that interleave nothing are in [`transpose`].

use std::sync::Arc;

use kiln_ir::DType;
use kiln_ir::nest::{Extent, LoopNest, Pack};

use super::{BuildError, Values, matrix_region, region, step_name, transpose};
use crate::microkernel::{Access, Addr, Inst, MicroKernel, Op, P, Param, Permute, Stmt, V};
use crate::target::VectorUnit;

const SRC: P = P(0);
const DST: P = P(1);

/// Steps of K that are neighbours in the panel.
const GROUP: u64 = 4;

/// Builds the copy `pack`, whose extents are constant and whose panel interleaves `GROUP` steps or none.
pub fn build(name: String, nest: &LoopNest, pack: &Pack, unit: &VectorUnit) -> Result<MicroKernel, BuildError> {
    if nest.buffers[pack.dst.at.buffer.0 as usize].interleave == 1 {
        return transpose::build(name, nest, pack, unit);
    }
    let (Extent::Const(k), Extent::Const(width)) = (&pack.k, &pack.width) else {
        return Err(BuildError::Layout("a copy of varying extent"));
    };
    let src = nest.buffers[pack.src.at.buffer.0 as usize].dtype;
    let bytes = src.bytes() as u64;
    let groups = k.div_ceil(GROUP);
    let params = vec![
        Param {
            name: "src".into(),
            dtype: src,
            access: Access::Read,
            region: matrix_region(*k, *width, &pack.src, bytes),
        },
        Param {
            name: "dst".into(),
            dtype: DType::Bf16,
            access: Access::Write,
            region: region(1, (groups - 1) * GROUP * pack.dst.row + GROUP * pack.pitch, 0, 2),
        },
    ];
    let b = Packer {
        lanes: u64::from(unit.lanes),
        k: *k,
        width: *width,
        pitch: pack.pitch,
        step: pack.dst.row,
        src,
        k_stride: pack.src.row,
        width_stride: pack.src.col,
        values: Values::default(),
    };
    let along_k = pack.src.row == 1 || *k == 1;
    // Steps of K that one iteration copies.
    let chunk = if along_k { 2 * b.lanes } else { GROUP };
    let steps = |from: u64, advance: Option<u64>| {
        let count = if advance.is_some() { chunk } else { (b.k - from).min(chunk) };
        if along_k { b.rows_along_k(from, count, advance) } else { b.rows_across_k(from, count, advance) }
    };
    let trips = k / chunk;
    let mut body = vec![];
    if trips > 1 {
        let why = format!("k in 0..{} step {chunk}", trips * chunk);
        body.push(Stmt::Loop { trips, why, body: steps(0, Some(chunk)) });
    }
    let mut done = if trips > 1 { trips * chunk } else { 0 };
    while done < *k {
        body.extend(steps(done, None).into_iter().map(Stmt::Inst));
        done += chunk;
    }
    Ok(MicroKernel { name, isa: unit.isa, lanes: unit.lanes, registers: b.values.count(), params, body })
}

struct Packer {
    lanes: u64,
    k: u64,
    width: u64,
    /// Columns that are filled.
    pitch: u64,
    /// Columns from a group of steps to the next.
    step: u64,
    src: DType,
    k_stride: u64,
    width_stride: u64,
    values: Values,
}

impl Packer {
    fn src_addr(&self, p: u64, w: u64, advance: Option<u64>) -> Addr {
        let bytes = self.src.bytes() as u64;
        Addr {
            param: SRC,
            offset: (bytes * (p * self.k_stride + w * self.width_stride)) as i64,
            step: (bytes * advance.unwrap_or(0) * self.k_stride) as i64,
        }
    }

    /// The place of columns from `w` on in the group of steps from `p` on.
    fn dst_addr(&self, p: u64, w: u64, advance: Option<u64>) -> Addr {
        Addr {
            param: DST,
            offset: (2 * (p * self.step + w * GROUP)) as i64,
            step: (2 * advance.unwrap_or(0) * self.step) as i64,
        }
    }

    /// `count` steps from `from` of every row, which lies along K.
    fn rows_along_k(&self, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        // Groups of four steps in a vector, and so the rows that are transposed together.
        let groups = self.lanes / 2;
        let k = step_name(advance.is_some(), from);
        for w0 in (0..self.pitch).step_by(groups as usize) {
            let mut vectors: Vec<V> = (w0..w0 + groups)
                .map(|w| {
                    let d = self.values.next();
                    let mut push = |op| out.push(Inst::new(op, format!("row {w}, {k}..+{count}")));
                    if w >= self.width {
                        push(Op::Zero { d });
                        return d;
                    }
                    match self.src {
                        DType::Bf16 => {
                            push(Op::LoadRaw { d, src: self.src_addr(from, w, advance), elements: count as u16 });
                        }
                        DType::F32 | DType::F16 => {
                            let (a, b) = (self.values.next(), self.values.next());
                            let low = count.min(self.lanes);
                            push(Op::Load { d: a, src: self.src_addr(from, w, advance), lanes: low as u16 });
                            if count > low {
                                let src = self.src_addr(from + low, w, advance);
                                push(Op::Load { d: b, src, lanes: (count - low) as u16 });
                            } else {
                                push(Op::Zero { d: b });
                            }
                            push(Op::Narrow { d, a, b });
                        }
                    }
                    d
                })
                .collect();
            // A perfect shuffle per power of two: vector `q` then holds group `q` of every row.
            for _ in 0..groups.ilog2() {
                let half = vectors.len() / 2;
                vectors = (0..half)
                    .flat_map(|i| {
                        let (a, b) = (vectors[i], vectors[i + half]);
                        let why: Arc<str> = format!("rows {w0}..+{groups}, {k}..+{count}").into();
                        [Permute::ZipLow, Permute::ZipHigh].map(|f| {
                            let d = self.values.next();
                            out.push(Inst::new(Op::Permute { f, bits: 64, d, a, b }, why.clone()));
                            d
                        })
                    })
                    .collect();
            }
            let columns = groups.min(self.pitch - w0);
            for (q, s) in (0..count.div_ceil(GROUP)).zip(vectors) {
                let dst = self.dst_addr(from + q * GROUP, w0, advance);
                let why = format!("panel {w0}..+{columns}, {}..+4", step_name(advance.is_some(), from + q * GROUP));
                out.push(Inst::new(Op::StoreRaw { s, dst, elements: (columns * GROUP) as u16 }, why));
            }
        }
        out
    }

    /// `count` steps, at most four, from `from` of all rows, which lie across K.
    fn rows_across_k(&self, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        let k = step_name(advance.is_some(), from);
        // Columns that a register holds of one step.
        let wide = self.lanes * if self.src == DType::Bf16 { 2 } else { 1 };
        for w0 in (0..self.pitch).step_by(wide as usize) {
            let valid = self.width.saturating_sub(w0).min(wide);
            let rows: Vec<V> = (0..GROUP)
                .map(|p| {
                    let why: Arc<str> = format!("{k}+{p}, columns {w0}..+{valid}").into();
                    let mut push = |op| out.push(Inst::new(op, why.clone()));
                    if p >= count || valid == 0 {
                        let d = self.values.next();
                        push(Op::Zero { d });
                        return d;
                    }
                    if self.width_stride == 1 || valid == 1 {
                        let d = self.values.next();
                        push(self.load(d, self.src_addr(from + p, w0, advance), valid));
                        return d;
                    }
                    let load = |n: u64, d: V| self.load(d, self.src_addr(from + p, w0 + n, advance), 1);
                    self.gather(valid, [0, 1], &load, &mut push)
                })
                .collect();
            let mut push = |op| out.push(Inst::new(op, format!("{k}..+4, columns {w0}..+{valid}")));
            // Pairs of steps by words of the register: for f32 one register each, for bf16 two.
            let pairs: Vec<[V; 2]> = match self.src {
                DType::F32 | DType::F16 => {
                    let [x, y] = [self.values.next(), self.values.next()];
                    push(Op::NarrowPairs { d: x, a: rows[0], b: rows[1] });
                    push(Op::NarrowPairs { d: y, a: rows[2], b: rows[3] });
                    vec![[x, y]]
                }
                DType::Bf16 => [Permute::ZipLow, Permute::ZipHigh]
                    .map(|f| {
                        let [x, y] = [self.values.next(), self.values.next()];
                        push(Op::Permute { f, bits: 16, d: x, a: rows[0], b: rows[1] });
                        push(Op::Permute { f, bits: 16, d: y, a: rows[2], b: rows[3] });
                        [x, y]
                    })
                    .to_vec(),
            };
            for (part, [a, b]) in (0..).zip(pairs) {
                for (half, f) in (0..).zip([Permute::ZipLow, Permute::ZipHigh]) {
                    let w = w0 + part * self.lanes + half * self.lanes / 2;
                    if w >= self.pitch {
                        continue;
                    }
                    let s = self.values.next();
                    push(Op::Permute { f, bits: 32, d: s, a, b });
                    let columns = (self.lanes / 2).min(self.pitch - w);
                    let dst = self.dst_addr(from, w, advance);
                    push(Op::StoreRaw { s, dst, elements: (columns * GROUP) as u16 });
                }
            }
        }
        out
    }

    /// The load of elements that are neighbours in memory, as they are there.
    fn load(&self, d: V, src: Addr, elements: u64) -> Op {
        match self.src {
            DType::F32 | DType::F16 => Op::Load { d, src, lanes: elements as u16 },
            DType::Bf16 => Op::LoadRaw { d, src, elements: elements as u16 },
        }
    }

    /// A register that begins with the elements `first`, `first + apart`, `first + 2 * apart` and so on below `count`, and has
    /// zeros behind them: every other one and the ones between, each put together so, zipped. `load` makes the load of one.
    fn gather(&self, count: u64, [first, apart]: [u64; 2], load: &dyn Fn(u64, V) -> Op, push: &mut dyn FnMut(Op)) -> V {
        if first + apart >= count {
            let d = self.values.next();
            push(load(first, d));
            return d;
        }
        let a = self.gather(count, [first, 2 * apart], load, push);
        let b = self.gather(count, [first + apart, 2 * apart], load, push);
        let (bits, d) = (8 * self.src.bytes() as u8, self.values.next());
        push(Op::Permute { f: Permute::ZipLow, bits, d, a, b });
        d
    }
}
