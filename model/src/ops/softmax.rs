//! Softmax along an axis, and its logarithm.

use super::lanes::{self, LANES};
use super::parallel::{EXP, Parallel, split};
use super::simd::vectorised;
use super::vector_math as math;
use super::{ShapeError, elements};

/// Columns that are worked on at once where the axis is not the innermost.
const COLUMNS: usize = 64;

/// An axis of a tensor: what is outside it, its elements, what is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AxisExtents {
    outer: usize,
    n: usize,
    inner: usize,
}

impl AxisExtents {
    fn new(op: &'static str, shape: &[usize], axis: usize) -> Result<Self, ShapeError> {
        if axis >= shape.len() {
            return Err(ShapeError::new(op, format!("axis {axis} of a tensor of rank {}", shape.len())));
        }
        if elements(shape).is_none() {
            return Err(ShapeError::new(op, format!("{shape:?} has too many elements")));
        }
        let product = |dims: &[usize]| dims.iter().product();
        Ok(Self { outer: product(&shape[..axis]), n: shape[axis], inner: product(&shape[axis + 1..]) })
    }

    fn run(self, parallel: &dyn Parallel, src: Option<&[f32]>, dst: &mut [f32], kernels: &Kernels<'_>) {
        let AxisExtents { outer, n, inner } = self;
        assert_eq!(dst.len(), outer * n * inner, "the destination has the operand's shape");
        if let Some(src) = src {
            assert_eq!(src.len(), dst.len(), "the operand has its shape");
        }
        let unit = n * inner;
        split(parallel, dst, unit, unit.saturating_mul(EXP), &|units, part| {
            let src = src.map(|x| &x[units.start * unit..units.start * unit + part.len()]);
            if inner == 1 { (kernels.rows)(n, src, part) } else { (kernels.columns)(n, inner, src, part) }
        });
    }
}

/// Works on rows: their length, the operand's rows where they do not lie in the result, and the result's rows.
type RowWork<'a> = dyn Fn(usize, Option<&[f32]>, &mut [f32]) + Sync + 'a;

/// Works on columns of matrices: the rows and the columns of each, the operand's matrices where they do not lie in the result, and the
/// result's.
type ColumnWork<'a> = dyn Fn(usize, usize, Option<&[f32]>, &mut [f32]) + Sync + 'a;

/// The code for rows, and for columns of matrices.
struct Kernels<'a> {
    rows: &'a RowWork<'a>,
    columns: &'a ColumnWork<'a>,
}

/// The plan of `exp(x) / sum(exp(x))` along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    axis: AxisExtents,
    /// True if the result is 0, and not NaN, where all elements are minus infinity.
    is_masked: bool,
}

impl Softmax {
    /// A plan for this shape.
    pub fn new(shape: &[usize], axis: usize) -> Result<Self, ShapeError> {
        Ok(Self { axis: AxisExtents::new("softmax", shape, axis)?, is_masked: false })
    }

    /// A plan whose result is 0, and not NaN, where all elements along the axis are minus infinity.
    pub fn masked(shape: &[usize], axis: usize) -> Result<Self, ShapeError> {
        Ok(Self { axis: AxisExtents::new("masked_softmax", shape, axis)?, is_masked: true })
    }

    /// Computes the result; without `src`, of what is in `dst`.
    ///
    /// # Panics
    /// If a slice has not the length of the shape.
    pub fn run(&self, parallel: &dyn Parallel, src: Option<&[f32]>, dst: &mut [f32]) {
        let is_masked = self.is_masked;
        let rows = |n: usize, src: Option<&[f32]>, dst: &mut [f32]| softmax_rows(n, is_masked, src, dst);
        let columns = |n: usize, inner: usize, src: Option<&[f32]>, dst: &mut [f32]| {
            softmax_columns(n, inner, is_masked, src, dst);
        };
        self.axis.run(parallel, src, dst, &Kernels { rows: &rows, columns: &columns });
    }
}

/// The plan of the logarithm of [`Softmax`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSoftmax(AxisExtents);

impl LogSoftmax {
    /// A plan for this shape.
    pub fn new(shape: &[usize], axis: usize) -> Result<Self, ShapeError> {
        AxisExtents::new("log_softmax", shape, axis).map(Self)
    }

    /// Computes the result; without `src`, of what is in `dst`.
    ///
    /// # Panics
    /// If a slice has not the length of the shape.
    pub fn run(&self, parallel: &dyn Parallel, src: Option<&[f32]>, dst: &mut [f32]) {
        self.0.run(parallel, src, dst, &Kernels { rows: &log_softmax_rows, columns: &log_softmax_columns });
    }
}

/// Rows whose exponentials are summed in f32; sums of more are added up in f64.
const EXACT: usize = 256;

/// The number that is subtracted from elements whose greatest is known; where all are minus infinity and masked, their exponentials are 0.
#[inline(always)]
fn shift(max: f32, is_masked: bool) -> f32 {
    if is_masked && max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// The factor of exponentials; those of masked elements alone add up to 0.
#[inline(always)]
fn scale(sum: f64, is_masked: bool) -> f32 {
    if is_masked && sum == 0.0 { 0.0 } else { (1.0 / sum) as f32 }
}

vectorised! {
    fn softmax_rows(n: usize, is_masked: bool, src: Option<&[f32]>, dst: &mut [f32]) {
        for (r, row) in dst.chunks_exact_mut(n).enumerate() {
            if let Some(src) = src {
                let x = &src[r * n..(r + 1) * n];
                let max = shift(lanes::max(x), is_masked);
                for (y, x) in row.iter_mut().zip(x) {
                    *y = math::exp_negative::<FMA>(*x - max);
                }
            } else {
                let max = shift(lanes::max(row), is_masked);
                for y in row.iter_mut() {
                    *y = math::exp_negative::<FMA>(*y - max);
                }
            }
            let scale = scale(lanes::sum(row, |x| x), is_masked);
            for y in row {
                *y *= scale;
            }
        }
    }

    fn log_softmax_rows(n: usize, src: Option<&[f32]>, dst: &mut [f32]) {
        for (r, row) in dst.chunks_exact_mut(n).enumerate() {
            if let Some(src) = src {
                row.copy_from_slice(&src[r * n..(r + 1) * n]);
            }
            let max = lanes::max(row);
            let log = lanes::sum(row, |x| math::exp_negative::<FMA>(x - max)).ln() as f32;
            for y in row {
                *y = (*y - max) - log;
            }
        }
    }

    fn softmax_columns(n: usize, inner: usize, is_masked: bool, src: Option<&[f32]>, dst: &mut [f32]) {
        for (m, matrix) in dst.chunks_exact_mut(n * inner).enumerate() {
            if let Some(src) = src {
                matrix.copy_from_slice(&src[m * n * inner..][..n * inner]);
            }
            for first in (0..inner).step_by(COLUMNS) {
                let width = COLUMNS.min(inner - first);
                let max = column_max(matrix, inner, first, width).map(|max| shift(max, is_masked));
                let mut total = [0.0f64; COLUMNS];
                for rows in matrix.chunks_mut(EXACT * inner) {
                    let mut sum = [0.0f32; COLUMNS];
                    for row in rows.chunks_exact_mut(inner) {
                        for (i, y) in row[first..first + width].iter_mut().enumerate() {
                            *y = math::exp_negative::<FMA>(*y - max[i]);
                            sum[i] += *y;
                        }
                    }
                    add_all(&mut total, &sum);
                }
                let scales = total.map(|total| scale(total, is_masked));
                for row in matrix.chunks_exact_mut(inner) {
                    for (y, scale) in row[first..first + width].iter_mut().zip(&scales) {
                        *y *= scale;
                    }
                }
            }
        }
    }

    fn log_softmax_columns(n: usize, inner: usize, src: Option<&[f32]>, dst: &mut [f32]) {
        for (m, matrix) in dst.chunks_exact_mut(n * inner).enumerate() {
            if let Some(src) = src {
                matrix.copy_from_slice(&src[m * n * inner..][..n * inner]);
            }
            for first in (0..inner).step_by(COLUMNS) {
                let width = COLUMNS.min(inner - first);
                let max = column_max(matrix, inner, first, width);
                let mut total = [0.0f64; COLUMNS];
                for rows in matrix.chunks(EXACT * inner) {
                    let mut sum = [0.0f32; COLUMNS];
                    for row in rows.chunks_exact(inner) {
                        for (i, y) in row[first..first + width].iter().enumerate() {
                            sum[i] += math::exp_negative::<FMA>(*y - max[i]);
                        }
                    }
                    add_all(&mut total, &sum);
                }
                let mut log = [0.0f32; COLUMNS];
                for (log, total) in log.iter_mut().zip(total) {
                    *log = total.ln() as f32;
                }
                for row in matrix.chunks_exact_mut(inner) {
                    for (i, y) in row[first..first + width].iter_mut().enumerate() {
                        *y = (*y - max[i]) - log[i];
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn column_max(matrix: &[f32], inner: usize, first: usize, width: usize) -> [f32; COLUMNS] {
    let mut max = [f32::NEG_INFINITY; COLUMNS];
    for row in matrix.chunks_exact(inner) {
        for (max, x) in max.iter_mut().zip(&row[first..first + width]) {
            *max = if *x > *max { *x } else { *max };
        }
    }
    max
}

#[inline(always)]
fn add_all(total: &mut [f64; COLUMNS], sum: &[f32; COLUMNS]) {
    for (total, sum) in total.iter_mut().zip(sum) {
        *total += f64::from(*sum);
    }
}

const _: () = assert!(COLUMNS.is_multiple_of(LANES));

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::super::testing::{close, numbers};
    use super::*;

    fn expected(axis: AxisExtents, x: &[f32], log: bool) -> Vec<f64> {
        let AxisExtents { outer, n, inner } = axis;
        let mut y = vec![0.0; x.len()];
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |k: usize| (o * n + k) * inner + i;
            let max = (0..n).map(|k| f64::from(x[at(k)])).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..n).map(|k| (f64::from(x[at(k)]) - max).exp()).sum();
            for k in 0..n {
                let d = f64::from(x[at(k)]) - max;
                y[at(k)] = if log { d - sum.ln() } else { d.exp() / sum };
            }
        }
        y
    }

    #[test]
    fn values_are_those_of_the_definition() {
        for (shape, axis) in [
            (vec![3, 128], 1),
            (vec![5, 1], 1),
            (vec![2, 7], 0),
            (vec![300, 77], 1),
            (vec![4, 9, 130], 1),
            (vec![2, 50_000], 1),
            (vec![9000, 5], 0),
            (vec![0, 4], 1),
            (vec![4, 0], 1),
            (vec![4, 0, 2], 1),
        ] {
            // Differences to the maximum are rounded, which shows in proportion to them.
            for (most, error) in [(2.0, 1e-6), (20.0, 3e-6)] {
                let x = numbers(shape.iter().product(), most);
                for parallel in [&Serial as &dyn Parallel, &Two] {
                    let plan = Softmax::new(&shape, axis).unwrap();
                    let mut y = vec![0.0; x.len()];
                    plan.run(parallel, Some(&x), &mut y);
                    close(&y, &expected(plan.axis, &x, false), error, 1e-37);
                    y.copy_from_slice(&x);
                    plan.run(parallel, None, &mut y);
                    close(&y, &expected(plan.axis, &x, false), error, 1e-37);
                    let plan = LogSoftmax::new(&shape, axis).unwrap();
                    plan.run(parallel, Some(&x), &mut y);
                    close(&y, &expected(plan.0, &x, true), 1e-6, error);
                }
            }
        }
    }

    #[test]
    fn infinities_are_as_defined() {
        let plan = Softmax::new(&[2, 2], 1).unwrap();
        let mut y = [f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, 3.0];
        plan.run(&Serial, None, &mut y);
        assert!(y[0].is_nan() && y[1].is_nan());
        assert_eq!(y[2..], [0.0, 1.0]);
        assert!(Softmax::new(&[2], 1).is_err());
    }

    #[test]
    fn where_nothing_is_seen_there_is_nothing() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        // Rows, and then columns, of: all masked; one that is seen; all masked but a NaN; an infinity.
        let rows = [[-inf, -inf, -inf], [-inf, 3.0, -inf], [-inf, nan, -inf], [inf, 0.0, -inf]];
        let expected = [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [nan; 3], [nan; 3]];
        let transposed = |m: &[[f32; 3]; 4]| (0..12).map(|i| m[i % 4][i / 4]).collect::<Vec<_>>();
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        for (x, y, plan) in [
            (rows.concat(), expected.concat(), Softmax::masked(&[4, 3], 1)),
            (transposed(&rows), transposed(&expected), Softmax::masked(&[3, 4], 0)),
        ] {
            let plan = plan.unwrap();
            let mut found = vec![0.5; 12];
            plan.run(&Serial, Some(&x), &mut found);
            assert!(same(&found, &y), "{found:?}");
            found.copy_from_slice(&x);
            plan.run(&Serial, None, &mut found);
            assert!(same(&found, &y), "{found:?}");
        }
    }
}
