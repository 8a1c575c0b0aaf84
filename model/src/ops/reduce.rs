//! One element for all along some axes.

use std::ops::Range;

use kiln_ir::func::ReduceKind;

use super::lanes::{self, LANES};
use super::parallel::{EXP, Parallel, split};
use super::simd::vectorised;
use super::vector_math as math;
use super::{ShapeError, elements, row_major};

/// Columns that are reduced at once where the innermost axis stays: as many as have sums in registers, else fewer, and the last few.
const COLUMNS: usize = 64;
const FEW: usize = 16;

/// Sums of runs of rows that are kept for all threads: 64 KiB of the stack.
const NARROW: usize = 16 << 10;

/// Rows whose sum is taken by itself, so that errors do not grow with the number of all.
const EXACT: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dim {
    n: usize,
    stride: usize,
}

/// The plan of a reduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    kind: ReduceKind,
    /// The axes that stay, and those that do not, neighbours made one; both outermost first.
    kept: Vec<Dim>,
    reduced: Vec<Dim>,
    len: usize,
}

impl Reduce {
    /// A plan for this shape, over these axes.
    pub fn new(kind: ReduceKind, shape: &[usize], axes: &[usize]) -> Result<Self, ShapeError> {
        let len = elements(shape).ok_or_else(|| ShapeError::new("reduce", format!("{shape:?} is too large")))?;
        if axes.iter().any(|a| *a >= shape.len()) {
            return Err(ShapeError::new("reduce", format!("axes {axes:?} of a tensor of rank {}", shape.len())));
        }
        let (mut kept, mut reduced): (Vec<Dim>, Vec<Dim>) = (vec![], vec![]);
        for (d, (&n, &stride)) in shape.iter().zip(&row_major(shape)).enumerate() {
            if n == 1 {
                continue;
            }
            let list = if axes.contains(&d) { &mut reduced } else { &mut kept };
            match list.last_mut() {
                Some(outer) if outer.stride == n * stride => *outer = Dim { n: outer.n * n, stride },
                _ => list.push(Dim { n, stride }),
            }
        }
        Ok(Self { kind, kept, reduced, len })
    }

    /// Computes the result.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[f32], dst: &mut [f32]) {
        assert_eq!(src.len(), self.len, "the operand has its shape");
        assert_eq!(
            dst.len(),
            self.kept.iter().map(|d| d.n).product::<usize>(),
            "the destination has the result's shape"
        );
        let steps = Steps::of(self.kind);
        let count = self.count() as f32;
        if let Some((rows, n)) = self.narrow().filter(|_| parallel.threads() > 1) {
            // Sums of runs of rows are the same whoever takes them, and are added up in the same order as by one thread.
            let mut sums = [0.0; NARROW];
            let sums = &mut sums[..rows.div_ceil(EXACT) * n];
            split(parallel, sums, n, EXACT * n, &|runs, part| {
                for (run, sums) in runs.zip(part.chunks_mut(n)) {
                    let first = run * EXACT;
                    (steps.run)(Dim { n: EXACT.min(rows - first), stride: n }, &src[first * n..], sums);
                }
            });
            dst.fill(steps.none);
            sums.chunks(n).for_each(|sums| dst.iter_mut().zip(sums).for_each(|(y, x)| *y = (steps.merge)(*y, *x)));
            return dst.iter_mut().for_each(|y| *y = (steps.after)(*y, count));
        }
        let (unit, cost) = self.unit();
        split(parallel, dst, unit, cost, &|units, part| {
            let first = units.start * unit;
            (steps.part)(self, first..first + part.len(), src, part);
            part.iter_mut().for_each(|y| *y = (steps.after)(*y, count));
        });
    }

    /// The units that several threads divide among them, and the cheap operations in each.
    pub(crate) fn units(&self) -> (usize, usize) {
        match self.narrow() {
            Some((rows, n)) => (rows.div_ceil(EXACT), EXACT * n),
            None => {
                let (unit, cost) = self.unit();
                (self.results().div_ceil(unit), cost)
            }
        }
    }

    /// Elements of the result that are not divided, a whole group of neighbouring columns where there are such, and the cheap operations for
    /// them.
    fn unit(&self) -> (usize, usize) {
        let unit = if self.columns().is_some() { FEW } else { 1 };
        let each = if self.kind == ReduceKind::LogSumExp { EXP } else { 1 };
        (unit, self.count().max(1).saturating_mul(each).saturating_mul(unit))
    }

    /// Rows and columns, if there are so few columns that several threads divide the rows.
    fn narrow(&self) -> Option<(usize, usize)> {
        let ([columns], [rows]) = (&self.kept[..], &self.reduced[..]) else { return None };
        let lies = columns.stride == 1 && rows.stride == columns.n;
        let few = columns.n <= 4 * COLUMNS && rows.n >= 2 * EXACT && rows.n.div_ceil(EXACT) * columns.n <= NARROW;
        (lies && few && self.kind != ReduceKind::LogSumExp).then_some((rows.n, columns.n))
    }

    /// Elements of the result.
    fn results(&self) -> usize {
        self.kept.iter().map(|d| d.n).product()
    }

    /// The number of neighbouring elements of the result that are made of neighbouring elements, if the innermost axis stays.
    fn columns(&self) -> Option<usize> {
        self.kept.last().filter(|d| d.stride == 1).map(|d| d.n)
    }

    /// Elements that one is made of.
    fn count(&self) -> usize {
        self.reduced.iter().map(|d| d.n).product()
    }

    /// The elements at `range` of the result.
    fn part<F: Fold>(&self, range: Range<usize>, src: &[f32], dst: &mut [f32]) {
        if self.count() == 0 {
            return dst.fill(F::finish(F::NONE, 0.0));
        }
        match self.columns() {
            Some(n) => {
                let (mut at, mut rest) = (range.start, dst);
                while !rest.is_empty() {
                    let (row, next) = rest.split_at_mut((n - at % n).min(rest.len()));
                    let src = &src[self.offset(at)..];
                    at += row.len();
                    all_columns(row, |at, some| reduce_columns::<F>(&self.reduced, &src[at..], some));
                    rest = next;
                }
            }
            None => {
                for (at, y) in range.zip(dst) {
                    *y = reduce_rows::<F>(&self.reduced, &src[self.offset(at)..]);
                }
            }
        }
    }

    /// Where the first of those elements is that one of the result is made of.
    fn offset(&self, mut index: usize) -> usize {
        let mut offset = 0;
        for dim in self.kept.iter().rev() {
            offset += index % dim.n * dim.stride;
            index /= dim.n;
        }
        offset
    }
}

/// The computation of one kind of reduction.
struct Steps {
    none: f32,
    merge: fn(f32, f32) -> f32,
    /// The elements at a range of the result.
    part: fn(&Reduce, Range<usize>, &[f32], &mut [f32]),
    /// All columns of a run of rows.
    run: fn(Dim, &[f32], &mut [f32]),
    /// The final value of a result, given the number of elements that it is made of.
    after: fn(f32, f32) -> f32,
}

impl Steps {
    fn of(kind: ReduceKind) -> Self {
        match kind {
            ReduceKind::Sum => Self::by::<Sum>(|y, _| y),
            ReduceKind::Mean => Self::by::<Sum>(|y, n| y / n),
            ReduceKind::Max => Self::by::<Max>(|y, _| y),
            ReduceKind::Min => Self::by::<Min>(|y, _| y),
            ReduceKind::Prod => Self::by::<Product>(|y, _| y),
            ReduceKind::L1 => Self::by::<Magnitudes>(|y, _| y),
            ReduceKind::L2 => Self::by::<Squares>(|y, _| y.sqrt()),
            ReduceKind::SumSquare => Self::by::<Squares>(|y, _| y),
            ReduceKind::LogSumExp => Self::by::<LogSumExp>(|y, _| y),
        }
    }

    fn by<F: Fold>(after: fn(f32, f32) -> f32) -> Self {
        let run = |rows: Dim, src: &[f32], dst: &mut [f32]| {
            all_columns(dst, |at, some| {
                reduce_columns::<F>(&[rows], &src[at..], some);
            })
        };
        Self { none: F::NONE, merge: F::merge, part: Reduce::part::<F>, run, after }
    }
}

/// The function that makes one element of two.
trait Fold {
    /// The value of no element.
    const NONE: f32;
    /// True if a first fold, by [`Max`], has what elements are taken relative to.
    const SHIFTED: bool = false;

    fn map<const FMA: bool>(x: f32, shift: f32) -> f32;
    fn merge(a: f32, b: f32) -> f32;

    fn finish(y: f32, _shift: f32) -> f32 {
        y
    }
}

macro_rules! folds {
    ($($name:ident: $none:expr, |$x:ident| $map:expr, |$a:ident, $b:ident| $merge:expr;)*) => { $(
        struct $name;

        impl Fold for $name {
            const NONE: f32 = $none;

            #[inline(always)]
            fn map<const FMA: bool>($x: f32, _shift: f32) -> f32 {
                $map
            }

            #[inline(always)]
            fn merge($a: f32, $b: f32) -> f32 {
                $merge
            }
        }
    )* };
}

folds! {
    Sum: 0.0, |x| x, |a, b| a + b;
    Magnitudes: 0.0, |x| x.abs(), |a, b| a + b;
    Squares: 0.0, |x| x * x, |a, b| a + b;
    Product: 1.0, |x| x, |a, b| a * b;
    Max: f32::NEG_INFINITY, |x| x, |a, b| if b > a || b.is_nan() { b } else { a };
    Min: f32::INFINITY, |x| x, |a, b| if b < a || b.is_nan() { b } else { a };
}

struct LogSumExp;

impl Fold for LogSumExp {
    const NONE: f32 = 0.0;
    const SHIFTED: bool = true;

    #[inline(always)]
    fn map<const FMA: bool>(x: f32, shift: f32) -> f32 {
        math::exp::<FMA>(x - shift)
    }

    #[inline(always)]
    fn merge(a: f32, b: f32) -> f32 {
        a + b
    }

    fn finish(y: f32, shift: f32) -> f32 {
        y.ln() + shift
    }
}

/// A maximum that may be subtracted: what is infinite would leave nothing.
#[inline(always)]
fn shift_of(max: f32) -> f32 {
    if max.is_finite() { max } else { 0.0 }
}

vectorised! {
    /// Each of a few neighbouring columns.
    fn reduce_columns[F: Fold](reduced: &[Dim], src: &[f32], dst: &mut [f32]) {
        if dst.len() > FEW {
            columns::<F, COLUMNS, FMA>(reduced, src, dst);
        } else {
            columns::<F, FEW, FMA>(reduced, src, dst);
        }
    }

    /// All elements along these dimensions.
    fn reduce_rows[F: Fold](reduced: &[Dim], src: &[f32]) -> f32 {
        let shift = if F::SHIFTED { shift_of(rows::<Max, FMA>(reduced, src, 0.0)) } else { 0.0 };
        F::finish(rows::<F, FMA>(reduced, src, shift), shift)
    }
}

/// Groups of columns that are reduced at once: the place of the first one, and the results.
fn all_columns(dst: &mut [f32], mut work: impl FnMut(usize, &mut [f32])) {
    let (mut at, mut rest) = (0, dst);
    while !rest.is_empty() {
        let width = match rest.len() {
            COLUMNS.. => COLUMNS,
            FEW.. => FEW,
            last => last,
        };
        let (some, next) = rest.split_at_mut(width);
        work(at, some);
        (at, rest) = (at + width, next);
    }
}

/// At most `N` columns.
#[inline(always)]
fn columns<F: Fold, const N: usize, const FMA: bool>(reduced: &[Dim], src: &[f32], dst: &mut [f32]) {
    let mut shift = [0.0; N];
    if F::SHIFTED {
        let max = merged::<Max, N, FMA>(reduced, src, dst.len(), &shift);
        for (shift, max) in shift.iter_mut().zip(max) {
            *shift = shift_of(max);
        }
    }
    let all = merged::<F, N, FMA>(reduced, src, dst.len(), &shift);
    for (i, y) in dst.iter_mut().enumerate() {
        *y = F::finish(all[i], shift[i]);
    }
}

#[inline(always)]
fn merged<F: Fold, const N: usize, const FMA: bool>(
    reduced: &[Dim],
    src: &[f32],
    width: usize,
    shift: &[f32; N],
) -> [f32; N] {
    let mut all = [F::NONE; N];
    each_inner(reduced, |at, inner| {
        for first in (0..inner.n).step_by(EXACT) {
            let mut some = [F::NONE; N];
            for i in first..inner.n.min(first + EXACT) {
                let row = &src[at + i * inner.stride..][..width];
                if let Some(row) = row.first_chunk::<N>() {
                    for c in 0..N {
                        some[c] = F::merge(some[c], F::map::<FMA>(row[c], shift[c]));
                    }
                } else {
                    for (c, x) in row.iter().enumerate() {
                        some[c] = F::merge(some[c], F::map::<FMA>(*x, shift[c]));
                    }
                }
            }
            for c in 0..N {
                all[c] = F::merge(all[c], some[c]);
            }
        }
    });
    all
}

#[inline(always)]
fn rows<F: Fold, const FMA: bool>(reduced: &[Dim], src: &[f32], shift: f32) -> f32 {
    let mut all = F::NONE;
    each_inner(reduced, |at, inner| {
        if inner.stride != 1 {
            for i in 0..inner.n {
                all = F::merge(all, F::map::<FMA>(src[at + i * inner.stride], shift));
            }
            return;
        }
        for chunk in src[at..at + inner.n].chunks(EXACT * LANES) {
            let mut some = [F::NONE; LANES];
            lanes::merge_into_lanes(chunk, &mut some, |y, x| F::merge(y, F::map::<FMA>(x, shift)));
            all = F::merge(all, lanes::fold(some, F::merge));
        }
    });
    all
}

/// The place of each run of the innermost of these dimensions, none of which is 0.
#[inline(always)]
fn each_inner(dims: &[Dim], mut work: impl FnMut(usize, Dim)) {
    let Some((&inner, outer)) = dims.split_last() else {
        return work(0, Dim { n: 1, stride: 1 });
    };
    let runs: usize = outer.iter().map(|d| d.n).product();
    for run in 0..runs {
        let (mut rest, mut at) = (run, 0);
        for dim in outer.iter().rev() {
            at += rest % dim.n * dim.stride;
            rest /= dim.n;
        }
        work(at, inner);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::super::testing::{close, numbers};
    use super::*;

    fn expected(kind: ReduceKind, shape: &[usize], axes: &[usize], x: &[f32]) -> Vec<f64> {
        let out: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect();
        let mut lists = vec![vec![]; out.iter().product()];
        for (flat, x) in x.iter().enumerate() {
            let (mut rest, mut at, mut unit) = (flat, 0, 1);
            for d in (0..shape.len()).rev() {
                if !axes.contains(&d) {
                    at += rest % shape[d] * unit;
                    unit *= shape[d];
                }
                rest /= shape[d];
            }
            lists[at].push(f64::from(*x));
        }
        let one = |list: Vec<f64>| {
            let sum = |f: fn(f64) -> f64| list.iter().map(|x| f(*x)).sum::<f64>();
            let max = list.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            match kind {
                ReduceKind::Sum => sum(|x| x),
                ReduceKind::Mean => sum(|x| x) / list.len() as f64,
                ReduceKind::Max => max,
                ReduceKind::Min => list.iter().copied().fold(f64::INFINITY, f64::min),
                ReduceKind::Prod => list.iter().product(),
                ReduceKind::L1 => sum(f64::abs),
                ReduceKind::L2 => sum(|x| x * x).sqrt(),
                ReduceKind::SumSquare => sum(|x| x * x),
                ReduceKind::LogSumExp if max.is_infinite() => max,
                ReduceKind::LogSumExp => list.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max,
            }
        };
        lists.into_iter().map(one).collect()
    }

    const KINDS: [ReduceKind; 9] = [
        ReduceKind::Sum,
        ReduceKind::Mean,
        ReduceKind::Max,
        ReduceKind::Min,
        ReduceKind::Prod,
        ReduceKind::L1,
        ReduceKind::L2,
        ReduceKind::SumSquare,
        ReduceKind::LogSumExp,
    ];

    #[test]
    fn values_are_those_of_the_definition() {
        for (shape, axes) in [
            (vec![2, 49, 130], vec![1]),
            (vec![1, 7, 7, 2048], vec![1, 2]),
            (vec![300, 777], vec![1]),
            (vec![100_000], vec![0]),
            (vec![3, 4, 5, 6], vec![0, 2]),
            (vec![3, 4, 5, 6], vec![1, 3]),
            (vec![3, 4, 5, 6], vec![]),
            (vec![20_000, 3], vec![0]),
            (vec![1, 112, 112, 24], vec![1, 2]),
            (vec![520, 63], vec![0]),
            (vec![2, 0], vec![1]),
            (vec![0, 3], vec![1]),
            (vec![], vec![]),
        ] {
            let x = numbers(shape.iter().product(), 3.0);
            for kind in KINDS {
                let plan = Reduce::new(kind, &shape, &axes).unwrap();
                let expected = expected(kind, &shape, &axes, &x);
                let n = plan.count() as f64;
                let absolute = match kind {
                    // Errors are relative to the sum of magnitudes.
                    ReduceKind::Sum => 3e-7 * n,
                    ReduceKind::Mean | ReduceKind::LogSumExp => 3e-7,
                    ReduceKind::Prod => 1e-30,
                    _ => 0.0,
                };
                let relative = if kind == ReduceKind::Prod { 1e-4 } else { 1e-6 };
                let [one, two] = [&Serial as &dyn Parallel, &Two].map(|parallel| {
                    let mut y = vec![7.0; expected.len()];
                    plan.run(parallel, &x, &mut y);
                    close(&y, &expected, relative, absolute);
                    y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                });
                assert_eq!(one, two, "{kind:?} of {shape:?} over {axes:?}: the same bits on any number of threads");
            }
        }
        assert!(Reduce::new(ReduceKind::Sum, &[2], &[1]).is_err());
    }

    #[test]
    fn nan_and_infinities_are_seen() {
        let run = |kind, x: &[f32]| {
            let mut y = [0.0];
            Reduce::new(kind, &[x.len()], &[0]).unwrap().run(&Serial, x, &mut y);
            y[0]
        };
        let mut x = vec![1.0; 100];
        x[50] = f32::NAN;
        assert!(KINDS.iter().all(|kind| run(*kind, &x).is_nan()));
        assert_eq!(run(ReduceKind::LogSumExp, &[f32::NEG_INFINITY; 3]), f32::NEG_INFINITY);
        assert_eq!(run(ReduceKind::LogSumExp, &[f32::INFINITY, 1.0]), f32::INFINITY);
        assert!((run(ReduceKind::LogSumExp, &[1000.0, 1000.0]) - 1000.6931).abs() < 1e-3);
    }
}
