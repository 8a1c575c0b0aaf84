//! Operands with a known answer.

use kiln_ir::op::Matmul;
use kiln_ir::{Op, PostOp, Problem};

/// A small generator (Steele and Vigna's SplitMix64): test data and choices that repeat.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }
}

/// A problem's inputs; `bias` is empty for a problem without one.
#[derive(Clone, Debug)]
pub struct Data {
    shape: Matmul,
    relu: bool,
    /// `MxK`.
    pub lhs: Vec<f32>,
    /// `KxN`.
    pub rhs: Vec<f32>,
    /// `N`.
    pub bias: Vec<f32>,
}

impl Data {
    fn new(problem: &Problem, mut next: impl FnMut() -> f32) -> Self {
        let Op::Matmul(shape) = problem.op();
        let mut fill = |len: u64| (0..len).map(|_| next()).collect::<Vec<_>>();
        let post = problem.epilogue().ops();
        let bias = if post.contains(&PostOp::Bias) { shape.n } else { 0 };
        Self {
            shape,
            relu: post.contains(&PostOp::Relu),
            lhs: fill(shape.m * shape.k),
            rhs: fill(shape.k * shape.n),
            bias: fill(bias),
        }
    }

    /// Integers from -4 to 4: every partial sum is exact, in any order, as long as K is below 2^20.
    pub fn integers(problem: &Problem, seed: u64) -> Self {
        let mut random = Random(seed);
        Self::new(problem, || random.below(9) as f32 - 4.0)
    }

    /// Reals from -1 to 1.
    pub fn reals(problem: &Problem, seed: u64) -> Self {
        let mut random = Random(seed);
        Self::new(problem, || (random.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    }

    /// The result for [`integers`](Self::integers), computed in integers.
    pub fn exact(&self) -> Vec<f32> {
        let as_integers = |v: &[f32]| v.iter().map(|x| *x as i32).collect::<Vec<_>>();
        let (lhs, rhs, bias) = (as_integers(&self.lhs), as_integers(&self.rhs), as_integers(&self.bias));
        let Matmul { m, k, n } = self.shape;
        let (m, k, n) = (m as usize, k as usize, n as usize);
        let mut dst = vec![0i32; m * n];
        for (i, row) in dst.chunks_exact_mut(n).enumerate() {
            for p in 0..k {
                let a = lhs[i * k + p];
                row.iter_mut().zip(&rhs[p * n..]).for_each(|(c, b)| *c += a * b);
            }
            row.iter_mut().zip(&bias).for_each(|(c, b)| *c += b);
            if self.relu {
                row.iter_mut().for_each(|c| *c = (*c).max(0));
            }
        }
        dst.into_iter().map(|c| c as f32).collect()
    }

    /// The result in double precision, and for each element how far single precision may be from it.
    ///
    /// The bound is `gamma(n) = n u / (1 - n u)` times the sum of the magnitudes of all terms (Higham, Accuracy and
    /// Stability of Numerical Algorithms, section 3.1), with `u = 2^-24` and n one rounding per multiply-add and bias.
    /// It holds for every order of the additions, and relu enlarges no difference.
    pub fn bounded(&self) -> (Vec<f64>, Vec<f64>) {
        let Matmul { m, k, n } = self.shape;
        let (m, k, n) = (m as usize, k as usize, n as usize);
        let (mut dst, mut size) = (vec![0.0f64; m * n], vec![0.0f64; m * n]);
        let rhs: Vec<f64> = self.rhs.iter().map(|x| f64::from(*x)).collect();
        let nu = (k + 1) as f64 * 0.5f64.powi(24);
        let gamma = nu / (1.0 - nu);
        for (i, (row, size)) in dst.chunks_exact_mut(n).zip(size.chunks_exact_mut(n)).enumerate() {
            for p in 0..k {
                let a = f64::from(self.lhs[i * k + p]);
                for ((c, s), b) in row.iter_mut().zip(size.iter_mut()).zip(&rhs[p * n..]) {
                    *c += a * b;
                    *s += (a * b).abs();
                }
            }
            for ((c, s), b) in row.iter_mut().zip(size.iter_mut()).zip(&self.bias) {
                *c += f64::from(*b);
                *s += f64::from(b.abs());
            }
            if self.relu {
                row.iter_mut().for_each(|c| *c = c.max(0.0));
            }
            size.iter_mut().for_each(|s| *s *= gamma);
        }
        (dst, size)
    }
}
