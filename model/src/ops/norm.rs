//! Normalisation of rows by mean and variance.

use super::parallel::{Parallel, split};
use super::simd::{fma, vectorised};
use super::{ShapeError, elements, lanes};

/// Work per element, in cheap operations.
const COST: usize = 2;

/// Rows of a tensor: its first axes, and the elements of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rows {
    rows: usize,
    n: usize,
    epsilon: f32,
}

/// The factors of rows and the numbers that are added, if there are any.
#[derive(Clone, Copy)]
struct Affine<'a> {
    scale: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

/// The normalisation of rows of so many elements, with this epsilon.
type Kernel = fn(usize, f32, Option<&[f32]>, Affine<'_>, &mut [f32]);

impl Rows {
    fn new(op: &'static str, shape: &[usize], axis: usize, epsilon: f32) -> Result<Self, ShapeError> {
        if axis > shape.len() {
            return Err(ShapeError::new(op, format!("axis {axis} of a tensor of rank {}", shape.len())));
        }
        if elements(shape).is_none() {
            return Err(ShapeError::new(op, format!("{shape:?} has too many elements")));
        }
        Ok(Self { rows: shape[..axis].iter().product(), n: shape[axis..].iter().product(), epsilon })
    }

    fn run(self, parallel: &dyn Parallel, src: Option<&[f32]>, affine: Affine<'_>, dst: &mut [f32], kernel: Kernel) {
        let Rows { rows, n, epsilon } = self;
        assert_eq!(dst.len(), rows * n, "the destination has the operand's shape");
        if let Some(src) = src {
            assert_eq!(src.len(), dst.len(), "the operand has its shape");
        }
        for operand in [affine.scale, affine.bias].into_iter().flatten() {
            assert_eq!(operand.len(), n, "scale and bias have a row's elements");
        }
        split(parallel, dst, n, n.saturating_mul(COST), &|units, part| {
            let src = src.map(|x| &x[units.start * n..units.start * n + part.len()]);
            kernel(n, epsilon, src, affine, part);
        });
    }
}

/// The plan of `(x - mean) / sqrt(variance + epsilon) * scale + bias` over the last axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm(Rows);

impl LayerNorm {
    /// A plan for this shape, over the axes from `axis` on.
    pub fn new(shape: &[usize], axis: usize, epsilon: f32) -> Result<Self, ShapeError> {
        Rows::new("layer_norm", shape, axis, epsilon).map(Self)
    }

    /// Computes the result; without `src`, of what is in `dst`.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(
        &self,
        parallel: &dyn Parallel,
        src: Option<&[f32]>,
        scale: Option<&[f32]>,
        bias: Option<&[f32]>,
        dst: &mut [f32],
    ) {
        self.0.run(parallel, src, Affine { scale, bias }, dst, layer_norm);
    }
}

/// The plan of `x / sqrt(mean(x^2) + epsilon) * scale` over the last axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm(Rows);

impl RmsNorm {
    /// A plan for this shape, over the axes from `axis` on.
    pub fn new(shape: &[usize], axis: usize, epsilon: f32) -> Result<Self, ShapeError> {
        Rows::new("rms_norm", shape, axis, epsilon).map(Self)
    }

    /// Computes the result; without `src`, of what is in `dst`.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: Option<&[f32]>, scale: Option<&[f32]>, dst: &mut [f32]) {
        self.0.run(parallel, src, Affine { scale, bias: None }, dst, rms_norm);
    }
}

vectorised! {
    fn layer_norm(n: usize, epsilon: f32, src: Option<&[f32]>, affine: Affine<'_>, dst: &mut [f32]) {
        for (r, row) in dst.chunks_exact_mut(n).enumerate() {
            let x: &[f32] = match src {
                Some(src) => &src[r * n..(r + 1) * n],
                None => row,
            };
            let shift = (lanes::sum(x, |x| x) / n as f64) as f32;
            let (rest, squares) = lanes::moments::<FMA>(x, shift);
            // What the mean lost to rounding.
            let rest = rest / n as f64;
            let by = 1.0 / (squares / n as f64 - rest * rest + f64::from(epsilon)).sqrt();
            let map = Map { shift, by: by as f32, plus: (-rest * by) as f32 };
            normalised::<FMA>(map, src.map(|s| &s[r * n..(r + 1) * n]), affine, row);
        }
    }

    fn rms_norm(n: usize, epsilon: f32, src: Option<&[f32]>, affine: Affine<'_>, dst: &mut [f32]) {
        for (r, row) in dst.chunks_exact_mut(n).enumerate() {
            let x: &[f32] = match src {
                Some(src) => &src[r * n..(r + 1) * n],
                None => row,
            };
            let squares = lanes::sum(x, |x| x * x) / n as f64;
            let map = Map { shift: 0.0, by: (1.0 / (squares + f64::from(epsilon)).sqrt()) as f32, plus: 0.0 };
            normalised::<FMA>(map, src.map(|s| &s[r * n..(r + 1) * n]), affine, row);
        }
    }
}

/// `(x - shift) * by + plus`.
#[derive(Clone, Copy)]
struct Map {
    shift: f32,
    by: f32,
    plus: f32,
}

/// Rows that are mapped so, and what follows.
#[inline(always)]
fn normalised<const FMA: bool>(map: Map, src: Option<&[f32]>, affine: Affine<'_>, row: &mut [f32]) {
    macro_rules! each {
        (|$i:ident, $x:ident| $y:expr) => {{
            let n = row.len();
            match src {
                Some(src) => {
                    let src = &src[..n];
                    for $i in 0..n {
                        let $x = fma::<FMA>(src[$i] - map.shift, map.by, map.plus);
                        row[$i] = $y;
                    }
                }
                None => {
                    for $i in 0..n {
                        let $x = fma::<FMA>(row[$i] - map.shift, map.by, map.plus);
                        row[$i] = $y;
                    }
                }
            }
        }};
    }
    let n = row.len();
    match (affine.scale.map(|s| &s[..n]), affine.bias.map(|b| &b[..n])) {
        (Some(scale), Some(bias)) => each!(|i, x| fma::<FMA>(x, scale[i], bias[i])),
        (Some(scale), None) => each!(|i, x| x * scale[i]),
        (None, Some(bias)) => each!(|i, x| x + bias[i]),
        (None, None) => each!(|_i, x| x),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::super::testing::{close, numbers};
    use super::*;

    fn expected(x: &[f32], n: usize, epsilon: f64, centred: bool) -> Vec<f64> {
        let mut y = vec![];
        for row in x.chunks(n.max(1)) {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let mean = if centred { row.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            y.extend(row.iter().map(|x| (x - mean) / (variance + epsilon).sqrt()));
        }
        y
    }

    #[test]
    fn values_are_those_of_the_definition() {
        for (rows, n) in [(3, 768), (128, 768), (7, 1), (2, 33), (1, 100_000), (0, 5), (5, 0)] {
            for offset in [0.0, 100.0] {
                let x: Vec<f32> = numbers(rows * n, 3.0).into_iter().map(|x| x + offset).collect();
                let (scale, bias) = (numbers(n, 2.0), numbers(n, 1.0));
                let layer = LayerNorm::new(&[rows, n], 1, 1e-5).unwrap();
                let rms = RmsNorm::new(&[rows, n], 1, 1e-5).unwrap();
                let plain = expected(&x, n, f64::from(1e-5f32), true);
                let scaled: Vec<_> = plain.iter().zip(scale.iter().cycle()).map(|(y, s)| y * f64::from(*s)).collect();
                let all: Vec<_> = scaled.iter().zip(bias.iter().cycle()).map(|(y, b)| y + f64::from(*b)).collect();
                for parallel in [&Serial as &dyn Parallel, &Two] {
                    let absolute = 3e-7;
                    let mut y = vec![0.0; x.len()];
                    layer.run(parallel, Some(&x), None, None, &mut y);
                    close(&y, &plain, 1e-6, absolute);
                    layer.run(parallel, Some(&x), Some(&scale), None, &mut y);
                    close(&y, &scaled, 1e-6, 2.0 * absolute);
                    y.copy_from_slice(&x);
                    layer.run(parallel, None, Some(&scale), Some(&bias), &mut y);
                    close(&y, &all, 1e-6, 2.0 * absolute);
                    rms.run(parallel, Some(&x), None, &mut y);
                    close(&y, &expected(&x, n, f64::from(1e-5f32), false), 1e-6, 1e-12);
                }
            }
        }
    }
}
