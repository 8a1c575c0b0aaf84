//! Micro-kernels written by hand, one for each way of the SVE emitter.

use kiln_compiler::microkernel::{Access, Addr, Binary, Inst, MicroKernel, Op, P, Param, Region, Stmt, V};
use kiln_compiler::target::VectorIsa;
use kiln_ir::DType;

/// The parameters of [`gemm`].
pub const LHS: P = P(0);
/// Its second.
pub const RHS: P = P(1);
/// Its third.
pub const BIAS: P = P(2);
/// Its last.
pub const DST: P = P(3);

/// An address that moves by `step` bytes per trip.
pub fn at(param: P, offset: i64, step: i64) -> Addr {
    Addr { param, offset, step }
}

/// An operation for the reason `why`.
pub fn inst(op: Op, why: impl Into<std::sync::Arc<str>>) -> Inst {
    Inst::new(op, why)
}

/// `rows` rows of `elements` f32, `stride` bytes apart.
pub fn param(name: &str, access: Access, rows: u64, elements: u64, stride: i64) -> Param {
    let region = Region { rows, row_bytes: 4 * elements, row_stride: stride as u64 };
    Param { name: name.into(), dtype: DType::F32, access, region }
}

/// A micro-kernel of all 32 registers.
pub fn kernel(name: &str, lanes: u32, params: Vec<Param>, body: Vec<Stmt>) -> MicroKernel {
    MicroKernel { name: name.into(), isa: VectorIsa::Sve, lanes, registers: 32, params, body }
}

/// A register tile of `dst = max(lhs * rhs + bias, 0)`; strides in bytes between rows.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Lanes of a vector.
    pub lanes: u32,
    /// Rows, at most 6.
    pub mr: u8,
    /// Vectors in a row, the last of which has `tail` lanes; at most 24 / `mr`.
    pub nr: u8,
    /// Lanes of the last vector.
    pub tail: u16,
    /// Depth.
    pub k: u64,
    /// Between rows of lhs.
    pub lhs_stride: i64,
    /// Between rows of rhs.
    pub rhs_stride: i64,
    /// Between rows of dst.
    pub dst_stride: i64,
}

/// The tile as a program: lhs in `v0..`, rhs in turn in `v6` and `v7`, accumulators from `v8` on.
pub fn gemm(name: &str, g: Gemm) -> MicroKernel {
    let vector = 4 * i64::from(g.lanes);
    let lanes = |j: u8| if j + 1 == g.nr { g.tail } else { g.lanes as u16 };
    let acc = |i: u8, j: u8| V((8 + i * g.nr + j).into());
    let columns = (u64::from(g.nr) - 1) * u64::from(g.lanes) + u64::from(g.tail);

    // `count` steps of K from `k` on, for trips that advance by `count`.
    let steps = |k: u64, count: u8| {
        let step = 4 * i64::from(count);
        let mut body: Vec<Inst> = (0..g.mr)
            .map(|i| {
                let src = at(LHS, i64::from(i) * g.lhs_stride + 4 * k as i64, step);
                inst(Op::LoadLanes { d: V(i.into()), src, count }, format!("lhs[{i}, {count} of k]"))
            })
            .collect();
        for (lane, j) in (0..count).flat_map(|lane| (0..g.nr).map(move |j| (lane, j))) {
            let a = V((6 + (lane * g.nr + j) % 2).into());
            let row = k as i64 + i64::from(lane);
            let src = at(RHS, row * g.rhs_stride + i64::from(j) * vector, i64::from(count) * g.rhs_stride);
            body.push(inst(Op::Load { d: a, src, lanes: lanes(j) }, format!("rhs[k + {lane}, vector {j}]")));
            for i in 0..g.mr {
                body.push(inst(Op::FmaLane { d: acc(i, j), a, b: V(i.into()), lane }, format!("c[{i}, vector {j}]")));
            }
        }
        body
    };
    let still = |body: Vec<Inst>| {
        body.into_iter().map(|mut i| {
            if let Op::Load { src, .. } | Op::LoadLanes { src, .. } = &mut i.op {
                src.step = 0;
            }
            Stmt::Inst(i)
        })
    };

    let tile = || (0..g.mr).flat_map(|i| (0..g.nr).map(move |j| (i, j)));
    let mut body: Vec<Stmt> =
        tile().map(|(i, j)| Stmt::Inst(inst(Op::Zero { d: acc(i, j) }, format!("c[{i}, vector {j}]")))).collect();
    if g.k >= 4 {
        body.push(Stmt::Loop { trips: g.k / 4, why: format!("k in 0..{} step 4", g.k / 4 * 4), body: steps(0, 4) });
    }
    if !g.k.is_multiple_of(4) {
        body.extend(still(steps(g.k / 4 * 4, (g.k % 4) as u8)));
    }
    body.push(Stmt::Inst(inst(Op::Zero { d: V(0) }, "relu")));
    for j in 0..g.nr {
        let src = at(BIAS, i64::from(j) * vector, 0);
        body.push(Stmt::Inst(inst(Op::Load { d: V(1), src, lanes: lanes(j) }, format!("bias[vector {j}]"))));
        for i in 0..g.mr {
            let d = acc(i, j);
            body.push(Stmt::Inst(inst(Op::Binary { f: Binary::Add, d, a: d, b: V(1) }, "bias")));
            body.push(Stmt::Inst(inst(Op::Binary { f: Binary::Max, d, a: d, b: V(0) }, "relu")));
        }
    }
    for (i, j) in tile() {
        let dst = at(DST, i64::from(i) * g.dst_stride + i64::from(j) * vector, 0);
        body.push(Stmt::Inst(inst(Op::Store { s: acc(i, j), dst, lanes: lanes(j) }, format!("c[{i}, vector {j}]"))));
    }
    let params = vec![
        param("lhs", Access::Read, g.mr.into(), g.k, g.lhs_stride),
        param("rhs", Access::Read, g.k, columns, g.rhs_stride),
        param("bias", Access::Read, 1, columns, 4 * columns as i64),
        param("dst", Access::Write, g.mr.into(), columns, g.dst_stride),
    ];
    kernel(name, g.lanes, params, body)
}

/// 6 rows of 4 vectors, lhs in place, rhs packed: the main tile of 256-bit vectors.
pub fn main_tile(lanes: u32, k: u64) -> MicroKernel {
    let panel = 16 * i64::from(lanes);
    let g = Gemm {
        lanes,
        mr: 6,
        nr: 4,
        tail: lanes as u16,
        k,
        lhs_stride: 4 * k as i64,
        rhs_stride: panel,
        dst_stride: panel,
    };
    gemm("main_tile", g)
}

/// Matrices in place whose rows are no multiple of anything, partial vectors, and depths that are no multiple of 4.
pub fn odd_tile(lanes: u32, k: u64, tail: u16) -> MicroKernel {
    let (lhs_stride, rhs_stride, dst_stride) = (4 * (k as i64 + 1001), 4 * 1237, 4 * 5003);
    gemm("odd_tile", Gemm { lanes, mr: 5, nr: 3, tail, k, lhs_stride, rhs_stride, dst_stride })
}

/// More rows than there are registers, in a loop that runs backwards over some of them.
pub fn many_rows(lanes: u32) -> MicroKernel {
    const ROWS: i64 = 40;
    const TRIPS: u64 = 5;
    let (row, stride) = (4 * i64::from(lanes), 4 * i64::from(lanes) * TRIPS as i64 + 36);
    let back = row * (TRIPS as i64 - 1);
    let mut body = vec![];
    for i in 0..ROWS {
        let lanes = lanes as u16;
        body.push(inst(Op::Load { d: V(1), src: at(P(0), i * stride, row), lanes }, "x forwards"));
        body.push(inst(Op::Load { d: V(2), src: at(P(1), i * stride + back, -row), lanes }, "y backwards"));
        body.push(inst(Op::Broadcast { d: V(3), src: at(P(2), 4 * (i * 3 % ROWS), 0) }, "scale"));
        body.push(inst(Op::Fma { d: V(1), a: V(2), b: V(3) }, "x + y * scale"));
        body.push(inst(Op::Store { s: V(1), dst: at(P(3), i * stride, row), lanes }, "sum"));
    }
    let elements = u64::from(lanes) * TRIPS;
    let params = vec![
        param("x", Access::Read, ROWS as u64, elements, stride),
        param("y", Access::Read, ROWS as u64, elements, stride),
        param("scale", Access::Read, 1, ROWS as u64, 4 * ROWS),
        param("sum", Access::Write, ROWS as u64, elements, stride),
    ];
    kernel("many_rows", lanes, params, vec![Stmt::Loop { trips: TRIPS, why: "rows".into(), body }])
}

/// Two loops and one of a single trip, distances of every length, and a maximum in each arrangement of registers.
pub fn assorted(lanes: u32) -> MicroKernel {
    const FAR: i64 = 20 << 20;
    let (full, one) = (lanes as u16, at(P(0), 4, 0));
    let vector = 4 * i64::from(lanes);
    let far = FAR + 4;
    let stmt = |op| Stmt::Inst(inst(op, "assorted"));
    let load = |d, src| inst(Op::Load { d: V(d), src, lanes: full }, "load");
    let store = |s, dst| inst(Op::Store { s: V(s), dst, lanes: full }, "store");
    let sum = |d, b| inst(Op::Binary { f: Binary::Add, d: V(d), a: V(d), b: V(b) }, "sum");
    let maximum = |d, a, b| stmt(Op::Binary { f: Binary::Max, d: V(d), a: V(a), b: V(b) });
    let body = vec![
        stmt(Op::Broadcast { d: V(9), src: one }),
        stmt(Op::Broadcast { d: V(12), src: at(P(0), 4 * 63, 0) }),
        stmt(Op::LoadLanes { d: V(0), src: at(P(0), 112, 0), count: 3 }),
        stmt(Op::LoadLanes { d: V(31), src: at(P(0), 128, 0), count: 1 }),
        stmt(Op::Load { d: V(30), src: at(P(0), 8, 0), lanes: 2 }),
        maximum(10, 9, 0),
        maximum(31, 10, 31),
        maximum(30, 30, 12),
        // A moving pointer and one that stays, both far from their parameters.
        Stmt::Loop {
            trips: 3,
            why: "far".into(),
            body: vec![
                load(20, at(P(0), far, 2 * vector)),
                load(21, at(P(0), far + vector, 2 * vector)),
                load(22, at(P(0), 8 * vector, 0)),
                inst(Op::Fma { d: V(31), a: V(20), b: V(22) }, "sum"),
                load(28, at(P(0), 40000, -8192)),
                sum(31, 28),
                inst(Op::FmaLane { d: V(30), a: V(21), b: V(0), lane: 2 }, "sum"),
                store(30, at(P(1), 0, 4 * 1001)),
            ],
        },
        // A step that no addition holds, and the broadcast's own form of address.
        Stmt::Loop {
            trips: 2,
            why: "jump".into(),
            body: vec![
                inst(Op::Broadcast { d: V(23), src: at(P(0), 256, FAR) }, "load"),
                inst(Op::Broadcast { d: V(24), src: at(P(0), 260, FAR) }, "load"),
                sum(23, 24),
                sum(31, 23),
                load(25, at(P(0), 16, 12)),
                load(26, at(P(0), 4096, 12)),
                sum(25, 26),
                sum(31, 25),
                store(31, at(P(1), 4096, 4 * 1001)),
                store(25, at(P(1), 6144, 4 * 1001)),
            ],
        },
        Stmt::Loop { trips: 1, why: "once".into(), body: vec![load(27, at(P(0), far, 4)), sum(31, 27)] },
        Stmt::Inst(store(31, at(P(1), 12000, 0))),
        Stmt::Inst(store(30, at(P(1), 12000 + vector, 0))),
        Stmt::Inst(store(10, at(P(1), 12000 + 2 * vector, 0))),
        stmt(Op::Store { s: V(31), dst: at(P(1), 12000 + 3 * vector, 0), lanes: 2 }),
    ];
    let params = vec![
        param("src", Access::Read, 1, FAR as u64 / 4 + 1024, FAR * 2),
        param("dst", Access::ReadWrite, 1, 8192, 1 << 20),
    ];
    kernel("assorted", lanes, params, body)
}

/// All of them, for vectors of `lanes` lanes.
pub fn all(lanes: u32) -> Vec<MicroKernel> {
    let full = lanes as u16;
    let mut out =
        vec![main_tile(lanes, 4), main_tile(lanes, 64), main_tile(lanes, 67), many_rows(lanes), assorted(lanes)];
    out.extend((1..=9).flat_map(|k| [1, full - 1, full].map(|tail| odd_tile(lanes, k, tail))));
    out
}
