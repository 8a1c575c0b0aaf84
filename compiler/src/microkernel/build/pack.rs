//! Copies of factors into panels in which several steps of K of a row or column are neighbours: a group of 32 or 64 bits. On the way, f32
//! are rounded to bf16 and integers of 8 bits may be widened to 16.
//!
//! Rows that lie along K are transposed by groups, in registers: as many rows at once as a vector has groups.
//! Rows that lie across K are interleaved, as many at a time as a group has steps. So are rows whose elements are neighbours along neither axis, as the
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

/// Builds the copy `pack`, whose extents are constant and whose panel has groups of 32 or 64 bits, or none.
pub fn build(name: String, nest: &LoopNest, pack: &Pack, unit: &VectorUnit) -> Result<MicroKernel, BuildError> {
    let panel = &nest.buffers[pack.dst.at.buffer.0 as usize];
    let group = panel.interleave;
    if group == 1 {
        return transpose::build(name, nest, pack, unit);
    }
    let (Extent::Const(k), Extent::Const(width)) = (&pack.k, &pack.width) else {
        return Err(BuildError::Layout("a copy of varying extent"));
    };
    let src = nest.buffers[pack.src.at.buffer.0 as usize].dtype;
    let bytes = src.bytes() as u64;
    let element = panel.dtype.bytes() as u64;
    let kind = match (src, panel.dtype) {
        (src, dst) if src == dst && src.is_narrow() => Kind::Raw,
        (DType::F32, DType::Bf16) => Kind::Rounded,
        (DType::S8 | DType::U8, DType::S16) => Kind::Widened,
        _ => return Err(BuildError::Layout("a copy to a panel of groups that converts otherwise")),
    };
    let groups = k.div_ceil(group);
    let params = vec![
        Param {
            name: "src".into(),
            dtype: src,
            access: Access::Read,
            region: matrix_region(*k, *width, &pack.src, bytes),
        },
        Param {
            name: "dst".into(),
            dtype: panel.dtype,
            access: Access::Write,
            region: region(1, (groups - 1) * group * pack.dst.row + group * pack.pitch, 0, element),
        },
    ];
    let b = Packer {
        lanes: u64::from(unit.lanes),
        k: *k,
        width: *width,
        pitch: pack.pitch,
        step: pack.dst.row,
        src,
        element,
        group,
        kind,
        k_stride: pack.src.row,
        width_stride: pack.src.col,
        values: Values::default(),
    };
    let along_k = pack.src.row == 1 || *k == 1;
    // Steps of K that one iteration copies.
    let chunk = if along_k { 4 * b.lanes / element } else { group };
    let steps = |from: u64, advance: Option<u64>| {
        let count = if advance.is_some() { chunk } else { (b.k - from).min(chunk) };
        if !along_k {
            return b.rows_across_k(from, count, advance);
        }
        // Where parts of words are not loaded, the steps of a last word are taken one by one.
        let rest = if b.kind == Kind::Raw && !unit.isa.is_a64() { count % group } else { 0 };
        let mut all = if count > rest { b.rows_along_k(from, count - rest, advance) } else { vec![] };
        if rest > 0 {
            all.extend(b.rows_across_k(from + count - rest, rest, advance));
        }
        all
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

/// The conversion of elements.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// None.
    Raw,
    /// f32 are rounded to bf16.
    Rounded,
    /// Integers of 8 bits are widened to 16.
    Widened,
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
    /// Bytes of an element of the panel.
    element: u64,
    /// Steps of K that are neighbours in the panel.
    group: u64,
    kind: Kind,
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
            offset: (self.element * (p * self.step + w * self.group)) as i64,
            step: (self.element * advance.unwrap_or(0) * self.step) as i64,
        }
    }

    /// `count` steps from `from` of every row, which lies along K.
    fn rows_along_k(&self, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        // Groups in a vector, and so the rows that are transposed together.
        let (bytes, group) = (self.group * self.element, self.group);
        let groups = 4 * self.lanes / bytes;
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
                    if self.kind == Kind::Raw {
                        push(Op::LoadRaw { d, src: self.src_addr(from, w, advance), elements: count as u16 });
                        return d;
                    }
                    let (a, b) = (self.values.next(), self.values.next());
                    let low = count.min(self.lanes);
                    push(Op::Load { d: a, src: self.src_addr(from, w, advance), lanes: low as u16 });
                    if count > low {
                        let src = self.src_addr(from + low, w, advance);
                        push(Op::Load { d: b, src, lanes: (count - low) as u16 });
                    } else {
                        push(Op::Zero { d: b });
                    }
                    if self.kind == Kind::Rounded {
                        push(Op::Narrow { d, a, b });
                        return d;
                    }
                    let [even, odd] = [Permute::UzpEven, Permute::UzpOdd].map(|f| {
                        let d = self.values.next();
                        push(Op::Permute { f, bits: 32, d, a, b });
                        d
                    });
                    push(Op::Permute { f: Permute::TrnEven, bits: 16, d, a: even, b: odd });
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
                            out.push(Inst::new(Op::Permute { f, bits: 8 * bytes as u8, d, a, b }, why.clone()));
                            d
                        })
                    })
                    .collect();
            }
            let columns = groups.min(self.pitch - w0);
            for (q, s) in (0..count.div_ceil(group)).zip(vectors) {
                let dst = self.dst_addr(from + q * group, w0, advance);
                let k = step_name(advance.is_some(), from + q * group);
                let why = format!("panel {w0}..+{columns}, {k}..+{group}");
                out.push(Inst::new(Op::StoreRaw { s, dst, elements: (columns * group) as u16 }, why));
            }
        }
        out
    }

    /// `count` steps, at most a group, from `from` of all rows, which lie across K.
    fn rows_across_k(&self, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let mut out = vec![];
        let k = step_name(advance.is_some(), from);
        // Columns that a register holds of one step.
        let (group, lanes) = (self.group, self.lanes);
        let wide = if self.is_halves() { 2 * lanes } else { lanes };
        for w0 in (0..self.pitch).step_by(wide as usize) {
            let valid = self.width.saturating_sub(w0).min(wide);
            let rows: Vec<V> = (0..group)
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
            let mut push = |op| out.push(Inst::new(op, format!("{k}..+{group}, columns {w0}..+{valid}")));
            for (part, (a, b)) in (0..).zip(self.words(&rows, &mut push)) {
                // The words of a group alternate, but where a group is one word.
                let halves = match b {
                    Some(b) => vec![(Some((Permute::ZipLow, b)), lanes / 2), (Some((Permute::ZipHigh, b)), lanes / 2)],
                    None => vec![(None, lanes)],
                };
                for (half, (zip, columns)) in (0..).zip(halves) {
                    let w = w0 + part * lanes + half * columns;
                    if w >= self.pitch {
                        continue;
                    }
                    let s = match zip {
                        Some((f, b)) => {
                            let d = self.values.next();
                            push(Op::Permute { f, bits: 32, d, a, b });
                            d
                        }
                        None => a,
                    };
                    let elements = (columns.min(self.pitch - w) * group) as u16;
                    push(Op::StoreRaw { s, dst: self.dst_addr(from, w, advance), elements });
                }
            }
        }
        out
    }

    /// True if rows across K are loaded as elements of two bytes, two columns a word.
    fn is_halves(&self) -> bool {
        self.kind == Kind::Raw && self.element == 2
    }

    /// The words of groups whose steps are `rows`, for as many columns as a register has words: the first word of each group, and the second
    /// if it has two. Elements of two bytes come for twice as many columns.
    fn words(&self, rows: &[V], push: &mut dyn FnMut(Op)) -> Vec<(V, Option<V>)> {
        let permuted = |push: &mut dyn FnMut(Op), f, bits, [a, b]: [V; 2]| {
            let d = self.values.next();
            push(Op::Permute { f, bits, d, a, b });
            d
        };
        if self.is_halves() {
            let pair = |push: &mut dyn FnMut(Op), f, rows: &[V]| permuted(push, f, 16, [rows[0], rows[1]]);
            return [Permute::ZipLow, Permute::ZipHigh]
                .map(|f| (pair(push, f, rows), Some(pair(push, f, &rows[2..]))))
                .to_vec();
        }
        let mut word = |rows: &[V]| match (self.kind, rows) {
            (Kind::Rounded, &[a, b, ..]) => {
                let d = self.values.next();
                push(Op::NarrowPairs { d, a, b });
                d
            }
            (Kind::Widened, &[a, b, ..]) => permuted(push, Permute::TrnEven, 16, [a, b]),
            // Bytes that were widened, of which the low ones are taken.
            (Kind::Raw, &[a, b, c, d]) => {
                let low = permuted(push, Permute::TrnEven, 8, [a, b]);
                let high = permuted(push, Permute::TrnEven, 8, [c, d]);
                permuted(push, Permute::TrnEven, 16, [low, high])
            }
            (_, &[a, ..]) => a,
            (_, []) => unreachable!("chunks have elements"),
        };
        let per_word = (4 / self.element) as usize;
        let words: Vec<V> = rows.chunks(per_word).map(&mut word).collect();
        vec![(words[0], words.get(1).copied())]
    }

    /// The load of elements of rows across K that are neighbours in memory.
    fn load(&self, d: V, src: Addr, elements: u64) -> Op {
        match self.is_halves() {
            true => Op::LoadRaw { d, src, elements: elements as u16 },
            false => Op::Load { d, src, lanes: elements as u16 },
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
        let (bits, d) = (if self.is_halves() { 16 } else { 32 }, self.values.next());
        push(Op::Permute { f: Permute::ZipLow, bits, d, a, b });
        d
    }
}
