//! What a problem's result should be, in double precision, and how far from it single precision may be.
//!
//! The bound of a sum is the standard one, whatever the order of the additions: `gamma_n` times the sum of the magnitudes of
//! all terms, `gamma_n = n u / (1 - n u)`, `u = 2^-24`, n one rounding per product and addition (Higham, *Accuracy and
//! Stability of Numerical Algorithms*, 2nd ed., section 3.1). Where products may be made of bf16, roundings are twice as
//! large, because they are to odd, and each factor that is not bf16 already may be rounded to it. A post-op moves its
//! argument's error by its slope and adds its own. Where no step rounds, the bound is 0.

mod convolution;

use crate::dtype::DType;
use crate::epilogue::PostOp;
use crate::op::Convolution;
use crate::problem::{DTypes, Op, Operand, Problem, Role};

/// A result in the order of `dst` in memory. Where `dst` has gaps, the value is what it holds there before, NaN if that is not
/// given, and the bound is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The value of each element; rounded to the type of `dst` where the bound is 0.
    pub value: Vec<f64>,
    /// How far an element may be from it.
    pub bound: Vec<f64>,
}

/// What is known of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// Every sum of products is exact in f32, in any order: small integers.
    Exact,
    /// Sums round.
    Rounded,
}

/// Half a unit in the last place of f32, relative.
const U: f64 = 1.0 / (1 << 24) as f64;
/// Relative error of a post-op's own roundings and approximations: 8 units in the last place.
const POST_OP: f64 = 16.0 * U;
/// Relative error of rounding to bf16.
const BF16: f64 = 1.0 / 256.0;

impl Problem {
    /// The result for operands in argument order, each as f32 in its order in memory, gaps included; the last is what `dst` holds
    /// before, and may be empty if the problem does not add to it.
    ///
    /// # Panics
    /// If there are other than [`operands`](Self::operands), or a slice is shorter.
    pub fn reference(&self, values: &[&[f32]], sums: Sums) -> Reference {
        let (value, bound) = match self.op() {
            Op::Convolution(shape) => self.sums_of_taps(&shape, values, sums),
            _ => self.sums(values, sums),
        };
        self.epilogue_of(value, bound, values)
    }

    /// The sums, with what `dst` holds if the problem accumulates, and their error.
    fn sums(&self, values: &[&[f32]], sums: Sums) -> (Vec<f64>, Vec<f64>) {
        let operands = self.operands();
        let [m, n, k] = self.extents().map(|e| e as usize);
        let dst = operands.last().expect("a problem has operands");
        let old = values[operands.len() - 1];
        let (mut value, mut bound) = untouched(dst, old);
        let batch: Vec<u64> = self.batch();
        let place = |role: Role| {
            let operand = operands.iter().find(|o| o.role == role).expect("every problem has it");
            let (axes, strides) = (self.axes(role), operand.strides());
            let innermost = |dims: &[usize]| {
                let over = dims.iter().filter(|d| operand.shape[**d] > 1);
                over.map(|d| strides[*d]).min().unwrap_or(0) as usize
            };
            let outer: Vec<usize> = axes.batch.iter().map(|d| d.map_or(0, |d| strides[d] as usize)).collect();
            (outer, innermost(&axes.row), innermost(&axes.col))
        };
        let (l, r, d) = (place(Role::Lhs), place(Role::Rhs), place(Role::Dst));
        let gamma = self.gamma(k);
        let (mut b, mut row, mut size) = (vec![0.0; k * n], vec![0.0f64; n], vec![0.0f64; n]);
        for i in 0..batch.iter().product::<u64>() {
            let mut index = i;
            let (mut lo, mut ro, mut dd) = (0, 0, 0);
            for (axis, extent) in batch.iter().enumerate().rev() {
                let at = (index % extent) as usize;
                index /= extent;
                (lo, ro, dd) = (lo + at * l.0[axis], ro + at * r.0[axis], dd + at * d.0[axis]);
            }
            for p in 0..k {
                (0..n).for_each(|j| b[p * n + j] = f64::from(values[1][ro + p * r.1 + j * r.2]));
            }
            for i in 0..m {
                row.fill(0.0);
                size.fill(0.0);
                for p in 0..k {
                    let a = f64::from(values[0][lo + i * l.1 + p * l.2]);
                    for ((c, s), b) in row.iter_mut().zip(&mut size).zip(&b[p * n..][..n]) {
                        *c += a * b;
                        *s += (a * b).abs();
                    }
                }
                for j in 0..n {
                    let at = dd + i * d.1 + j * d.2;
                    if self.accumulates() {
                        row[j] += f64::from(old[at]);
                        size[j] += f64::from(old[at]).abs();
                    }
                    value[at] = row[j];
                    bound[at] = match sums {
                        _ if dst.dtype.is_integer() => 0.0,
                        Sums::Exact => 0.0,
                        Sums::Rounded => gamma * size[j] + k as f64 * f64::from(f32::MIN_POSITIVE),
                    };
                }
            }
        }
        (value, bound)
    }

    /// [`sums`](Self::sums) of a convolution.
    fn sums_of_taps(&self, shape: &Convolution, values: &[&[f32]], sums: Sums) -> (Vec<f64>, Vec<f64>) {
        let [.., k] = self.extents().map(|e| e as usize);
        let gamma = self.gamma(k);
        let operands = self.operands();
        let old = values[operands.len() - 1];
        let (mut value, mut bound) = untouched(&operands[operands.len() - 1], old);
        let old = Some(old).filter(|_| self.accumulates());
        convolution::sums(self, shape, values, |at, sum, size| {
            let old = old.map_or(0.0, |old| f64::from(old[at]));
            value[at] = sum + old;
            if sums == Sums::Rounded {
                bound[at] = gamma * (size + old.abs()) + k as f64 * f64::from(f32::MIN_POSITIVE);
            }
        });
        (value, bound)
    }

    /// The relative error of a sum of `k` products.
    fn gamma(&self, k: usize) -> f64 {
        let DTypes { src, weights, .. } = self.dtypes();
        // Products of bf16 need factors that are bf16 or may be rounded to it; f16 is neither.
        let may_round = |d| d == DType::F32 && self.math().allows_bf16();
        let is_bf16 = [src, weights].into_iter().all(|d| d == DType::Bf16 || may_round(d));
        let rounded = [src, weights].into_iter().filter(|d| is_bf16 && may_round(*d)).count();
        let factors = 1.01 * BF16 * rounded as f64;
        let u = if is_bf16 { 2.0 * U } else { U };
        let nu = (k + 2) as f64 * 2.0 * u;
        // Beyond 2^23 terms the formula says nothing; n u alone still holds (Jeannerod and Rump, "Improved error bounds for
        // inner products in floating-point arithmetic", SIAM J. Matrix Anal. Appl. 34, 2013).
        factors + if nu < 0.5 { nu / (1.0 - nu) / 2.0 } else { nu }
    }

    fn epilogue_of(&self, mut value: Vec<f64>, mut bound: Vec<f64>, values: &[&[f32]]) -> Reference {
        let operands = self.operands();
        let dst = operands.last().expect("a problem has operands");
        let strides = dst.strides();
        let ops = self.epilogue().ops();
        // For each tensor: its strides by dimension of the result, 0 where it lacks one.
        let tensors: Vec<(&[f32], Vec<usize>)> = operands
            .iter()
            .zip(values)
            .filter_map(|(o, v)| {
                let Role::Post(n) = o.role else { return None };
                let mut by_dim = vec![0; dst.shape.len()];
                self.post_dims(n).into_iter().zip(o.strides()).for_each(|(d, s)| by_dim[d] = s as usize);
                Some((*v, by_dim))
            })
            .collect();
        let mut index = vec![0u64; dst.shape.len()];
        for _ in 0..dst.len() {
            let at: usize = index.iter().zip(&strides).map(|(i, s)| (i * s) as usize).sum();
            let mut tensors = tensors.iter();
            for op in ops {
                let operand =
                    op.has_operand().then(|| tensors.next().expect("one per post-op")).map_or(0.0, |(v, s)| {
                        let at: usize = index.iter().zip(s).map(|(i, s)| *i as usize * s).sum();
                        f64::from(v[at])
                    });
                (value[at], bound[at]) = step(*op, value[at], bound[at], operand);
            }
            if bound[at] != 0.0 {
                bound[at] += dst.dtype.rounding_error(value[at].abs() + bound[at]);
            }
            // Sums of integers are exact in double precision.
            if bound[at] == 0.0 && !dst.dtype.is_integer() {
                value[at] = dst.dtype.round(value[at] as f32).into();
            }
            for (i, extent) in index.iter_mut().zip(&dst.shape).rev() {
                *i += 1;
                if *i < *extent {
                    break;
                }
                *i = 0;
            }
        }
        Reference { value, bound }
    }
}

/// The values and bounds of a result before anything is written to it.
fn untouched(dst: &Operand, old: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let span = dst.span() as usize;
    let mut value: Vec<f64> = old.iter().take(span).map(|v| f64::from(*v)).collect();
    value.resize(span, f64::NAN);
    (value, vec![0.0; span])
}

/// A post-op on a value that is known up to `error`.
fn step(op: PostOp, c: f64, error: f64, operand: f64) -> (f64, f64) {
    let value = op.apply_f64(c, operand);
    let is_f32 = f64::from(value as f32) == value;
    if error == 0.0 && op.is_exact() && (is_f32 || value.is_nan()) {
        return (value, 0.0);
    }
    let moved = if error == 0.0 { 0.0 } else { op.spread(c, operand, error) };
    let own = value.abs() * POST_OP + f64::from(f32::MIN_POSITIVE);
    // Gelu and its like are exact relative to their argument, not to their value.
    let by_argument = if op.is_exact() { 0.0 } else { c.abs().min(16.0) * 4e-7 };
    let products = if matches!(op, PostOp::Mul(_)) { 0.0 } else { operand.abs() * U };
    (value, moved + own + by_argument + products)
}
