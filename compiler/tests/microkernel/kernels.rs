//! Correct micro-kernels of different styles, written by hand, and what they compute.

use kiln_compiler::microkernel::check::{Lhs, Old, Products, Rhs, Spec, StepRun, Steps, Tensor, TileSpec};
use kiln_compiler::microkernel::{MicroKernel, P};
use kiln_ir::{DType, PostOp};

/// A micro-kernel and its specification.
pub struct Sample {
    pub text: String,
    pub spec: TileSpec,
}

impl Sample {
    pub fn kernel(&self) -> MicroKernel {
        self.text.parse().unwrap()
    }

    /// Its specification, as the checker takes it.
    pub fn specification(&self) -> Spec {
        Spec::Tile(self.spec.clone())
    }
}

const F32: DType = DType::F32;

/// A tile of f32 of two rows. The left factor has these bytes between rows and between steps, the right one between steps, the
/// result between rows.
fn spec([columns, k]: [u64; 2], [row, step]: [u64; 2], rhs: u64, dst: u64) -> TileSpec {
    let steps = |stride: u64| Steps { group: 1, stride };
    TileSpec {
        rows: 2,
        columns,
        lhs: Lhs {
            param: P(0),
            dtype: F32,
            rows: vec![0, row as i64],
            runs: vec![StepRun { lhs: 0, first: 0, len: k, rows: u64::MAX }],
            steps: steps(step),
            column: 0,
        },
        rhs: Rhs { param: P(1), dtype: F32, steps: steps(rhs), column: 4 },
        products: Products::Steps,
        old: Old::Never,
        post: vec![],
        dst: Tensor { param: P(2), dtype: F32, row: dst, column: 4 },
    }
}

/// A bias of the columns, which is parameter 3.
fn bias() -> (PostOp, Option<Tensor>) {
    (PostOp::Bias, Some(Tensor { param: P(3), dtype: F32, row: 0, column: 4 }))
}

/// Broadcasts, two steps per trip, bias and relu.
pub fn broadcasting() -> Sample {
    let text = "\
microkernel uk_2x8_k6 avx2 lanes=8 registers=16 {
  param lhs: f32 read 2x24 stride 32
  param rhs: f32 read 6x32 stride 40
  param dst: f32 write 2x32 stride 48
  param bias: f32 read 1x32 stride 32
  v0 = zero                          ; c[0, 0..8]
  v1 = zero                          ; c[1, 0..8]
  loop 3 {                           ; k in 0..6 step 2
    v2 = load rhs[0 + 80*t] x8       ; rhs[k, 0..8]
    v3 = load rhs[40 + 80*t] x8      ; rhs[k + 1, 0..8]
    v4 = broadcast lhs[0 + 8*t]      ; lhs[0, k]
    v0 += v2 * v4
    v5 = broadcast lhs[32 + 8*t]     ; lhs[1, k]
    v1 += v5 * v2
    v4 = broadcast lhs[4 + 8*t]      ; lhs[0, k + 1]
    v0 += v3 * v4
    v5 = broadcast lhs[36 + 8*t]     ; lhs[1, k + 1]
    v1 += v3 * v5
  }
  v6 = load bias[0] x8               ; bias[0..8]
  v7 = zero                          ; relu
  v0 = add v0, v6
  v1 = add v6, v1
  v0 = max v0, v7
  v1 = max v7, v1
  store dst[0], v0 x8
  store dst[48], v1 x8
}
";
    let spec = TileSpec { post: vec![bias(), (PostOp::Relu, None)], ..spec([8, 6], [32, 4], 40, 48) };
    Sample { text: text.into(), spec }
}

/// Multiply-adds by element, two vectors a row, a tail of K, starting from the old values.
pub fn by_element() -> Sample {
    let mut text = "\
microkernel uk_2x8_k10_acc neon lanes=4 registers=32 {
  param lhs: f32 read 2x40 stride 40
  param rhs: f32 read 1x320 stride 320
  param dst: f32 readwrite 2x32 stride 32
  v0 = load dst[0] x4
  v1 = load dst[16] x4
  v2 = load dst[32] x4
  v3 = load dst[48] x4
  loop 2 {                           ; k in 0..8 step 4
    v4 = loadlanes lhs[0 + 16*t] x4  ; lhs[0, k..k+4]
    v5 = loadlanes lhs[40 + 16*t] x4 ; lhs[1, k..k+4]
"
    .to_owned();
    let step = |text: &mut String, indent: &str, low: String, high: String, lane: usize| {
        *text += &format!("{indent}v6 = load rhs[{low}] x4\n{indent}v7 = load rhs[{high}] x4\n");
        for (acc, vector, scalars) in [(0, 6, 4), (1, 7, 4), (2, 6, 5), (3, 7, 5)] {
            *text += &format!("{indent}v{acc} += v{vector} * v{scalars}.lane[{lane}]\n");
        }
    };
    for k in 0..4 {
        step(&mut text, "    ", format!("{} + 128*t", 32 * k), format!("{} + 128*t", 32 * k + 16), k);
    }
    text += "  }\n  v4 = loadlanes lhs[32] x2\n  v5 = load lhs[72] x2\n";
    for k in 8..10 {
        step(&mut text, "  ", format!("{}", 32 * k), format!("{}", 32 * k + 16), k - 8);
    }
    text += "  store dst[0], v0 x4\n  store dst[16], v1 x4\n  store dst[32], v2 x4\n  store dst[48], v3 x4\n}\n";
    let spec = TileSpec { old: Old::Before, ..spec([8, 10], [40, 4], 32, 32) };
    Sample { text, spec }
}

/// Packed panels of which the rhs one is padded, the old values added late, then the bias; loads one step ahead.
pub fn packed() -> Sample {
    let text = "\
microkernel uk_2x6_k5_packed sve lanes=8 registers=32 {
  param lhs: f32 read 1x40 stride 40
  param rhs: f32 read 1x160 stride 160
  param dst: f32 readwrite 2x24 stride 24
  param bias: f32 read 1x24 stride 24
  v8 = zero
  v9 = zero
  v0 = loadlanes lhs[0] x2           ; lhs[0..2, 0]
  v16 = load rhs[0] x8               ; rhs[0, 0..6] and padding
  loop 4 {                           ; k in 0..4
    v8 += v16 * v0.lane[0]
    v9 += v16 * v0.lane[1]
    v0 = loadlanes lhs[8 + 8*t] x2   ; lhs[0..2, k + 1]
    v16 = load rhs[32 + 32*t] x8     ; rhs[k + 1, 0..6] and padding
  }
  v8 += v16 * v0.lane[0]
  v9 += v16 * v0.lane[1]
  v17 = load bias[0] x6
  v16 = load dst[0] x6
  v8 = add v8, v16
  v8 = add v8, v17
  store dst[0], v8 x6
  v16 = load dst[24] x6
  v9 = add v16, v9
  v9 = add v17, v9
  store dst[24], v9 x6
}
";
    let spec = TileSpec { old: Old::After, post: vec![bias()], ..spec([6, 5], [4, 8], 32, 24) };
    Sample { text: text.into(), spec }
}

pub fn all() -> [Sample; 3] {
    [broadcasting(), by_element(), packed()]
}
