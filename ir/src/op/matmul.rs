//! Matrix product: `dst[m, n] = sum over k of lhs[m, k] * rhs[k, n]`, row-major.

use std::fmt;

use crate::nest::{Access, Affine, Buffer, BufferKind, Dim, Extent, Loop, LoopNest, Stmt, Var};
use crate::problem::{Operand, Problem, ProblemError, Role};

/// The shape of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matmul {
    /// Rows of `lhs` and `dst`.
    pub m: u64,
    /// Columns of `lhs`, rows of `rhs`.
    pub k: u64,
    /// Columns of `rhs` and `dst`.
    pub n: u64,
}

impl Matmul {
    /// Parses benchdnn's descriptor, `MxK:KxN`.
    pub fn parse(descriptor: &str) -> Result<Self, ProblemError> {
        let shape = |s: &str| -> Result<[u64; 2], ProblemError> {
            let dims = s.split('x').map(|d| dim(d, descriptor)).collect::<Result<Vec<_>, _>>()?;
            dims.try_into().map_err(|dims: Vec<u64>| ProblemError::Descriptor {
                word: descriptor.into(),
                why: format!("`{s}` has {} dimension(s); a matrix has 2", dims.len()),
            })
        };
        let Some((lhs, rhs)) = descriptor.split_once(':') else {
            return Err(ProblemError::Descriptor {
                word: descriptor.into(),
                why: "expected `MxK:KxN`, for example `128x768:768x3072`".into(),
            });
        };
        let ([m, k], [k2, n]) = (shape(lhs)?, shape(rhs)?);
        if k != k2 {
            return Err(ProblemError::Inner { lhs: k, rhs: k2, word: descriptor.into() });
        }
        Ok(Self { m, k, n })
    }

    /// Multiply-adds.
    pub fn macs(&self) -> u64 {
        self.m * self.k * self.n
    }
}

fn dim(word: &str, descriptor: &str) -> Result<u64, ProblemError> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ProblemError::Descriptor {
            word: descriptor.into(),
            why: format!("`{word}` is not a dimension: expected a positive integer"),
        });
    }
    word.parse().map_err(|_| ProblemError::TooLarge { what: format!("dimension {word}") })
}

impl fmt::Display for Matmul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matmul { m, k, n } = self;
        write!(f, "{m}x{k}:{k}x{n}")
    }
}

/// The product in double precision: what results are compared with. Slices are row-major and as long as the shape says.
pub fn reference_f64(shape: Matmul, lhs: &[f32], rhs: &[f32]) -> Vec<f64> {
    let Matmul { m, k, n } = shape;
    let (m, k, n) = (m as usize, k as usize, n as usize);
    let mut dst = vec![0.0; m * n];
    for (row, lhs) in dst.chunks_exact_mut(n).zip(lhs.chunks_exact(k)) {
        for (&a, rhs) in lhs.iter().zip(rhs.chunks_exact(n)) {
            for (c, &b) in row.iter_mut().zip(rhs) {
                *c += f64::from(a) * f64::from(b);
            }
        }
    }
    dst
}

/// The naive nest: clear, contract, then each post-op over the whole result. The index maps of the operation are here and
/// nowhere else.
pub fn build(problem: &Problem, shape: Matmul) -> LoopNest {
    let buffers: Vec<Buffer> = problem.operands().iter().map(buffer).collect();
    let mut nest = LoopNest { problem: problem.to_string(), buffers, vars: vec![], body: vec![] };
    let [m, n, k] = ["m", "n", "k"].map(|v| nest.var(v));
    let access = |nest: &LoopNest, name: &str, index: &[Var]| Access {
        buffer: nest.buffer(name).expect("an operand of the problem"),
        index: index.iter().copied().map(Affine::from).collect(),
    };
    let dst = access(&nest, "dst", &[m, n]);
    let over = |var, extent, body| {
        Stmt::Loop(Loop { var, extent: Extent::Const(extent), step: 1, parallel: false, body: vec![body] })
    };
    let contract =
        Stmt::MulAdd { dst: dst.clone(), lhs: access(&nest, "lhs", &[m, k]), rhs: access(&nest, "rhs", &[k, n]) };
    let mut steps = vec![Stmt::Zero { dst: dst.clone() }, over(k, shape.k, contract)];
    for &op in problem.epilogue().ops() {
        let operand = op.reads_column_vector().then(|| access(&nest, "bias", &[n]));
        steps.push(Stmt::Post { op, dst: dst.clone(), operand });
    }
    nest.body = steps.into_iter().map(|s| over(m, shape.m, over(n, shape.n, s))).collect();
    nest
}

fn buffer(operand: &Operand) -> Buffer {
    let mut dims = vec![];
    let mut stride = 1;
    for &extent in operand.shape.iter().rev() {
        dims.insert(0, Dim { extent, stride });
        stride *= extent;
    }
    let kind = if operand.role == Role::Dst { BufferKind::Out } else { BufferKind::In };
    Buffer { name: operand.role.name().into(), dtype: operand.dtype, kind, dims }
}
