//! Operations that move elements, in all the ways that may or may not be views.

use kiln_ir::func::Real;
use kiln_ir::func::{ElementType, PadMode, Structured, Tensor};

use super::{Known, Maker};

impl Maker<'_, '_> {
    pub(super) fn movement(&mut self) -> Option<usize> {
        let x = self.value();
        match self.choices.below(16) {
            0..3 => self.reshaped(x),
            3..6 => self.sliced(x),
            6 => self.split(x),
            7 | 8 => self.transposed(x),
            9 | 10 => self.stretched(x),
            11 | 12 => self.concatenated(x),
            13 => self.padded(x),
            14 => self.gathered(x),
            _ => self.cast(x),
        }
    }

    /// Dimensions joined, cut in two, or with 1 among them.
    pub(super) fn reshaped(&mut self, x: usize) -> Option<usize> {
        let mut shape = self.shape(x);
        let rows: Vec<u64> = shape.drain(..self.fixed().min(shape.len())).collect();
        for _ in 0..=self.choices.below(3) {
            let rank = shape.len();
            match self.choices.below(4) {
                0 if rank >= 2 => {
                    let at = self.choices.below(rank as u64 - 1) as usize;
                    let second = shape.remove(at + 1);
                    shape[at] *= second;
                }
                1 if rank >= 1 => {
                    let at = self.choices.below(rank as u64) as usize;
                    let divisors: Vec<u64> = (1..=shape[at]).filter(|d| shape[at].is_multiple_of(*d)).collect();
                    if !divisors.is_empty() {
                        let first = self.choices.pick(&divisors);
                        shape[at] /= first;
                        shape.insert(at, first);
                    }
                }
                2 => shape.retain(|d| *d != 1),
                _ => shape.insert(self.choices.below(rank as u64 + 1) as usize, 1),
            }
        }
        shape.truncate(6);
        shape.splice(0..0, rows);
        let known = self.known(x);
        self.push(Structured::Reshape { shape }, &[x], known)
    }

    /// All, some, one or none of the elements along each axis, forwards or backwards.
    pub(super) fn sliced(&mut self, x: usize) -> Option<usize> {
        let shape = self.shape(x);
        let (mut starts, mut steps, mut counts) = (vec![], vec![], vec![]);
        for (axis, n) in shape.into_iter().enumerate() {
            let is_fixed = axis < self.fixed();
            let (start, step, count) = match self.choices.below(10) {
                _ if n == 0 => (0, 1, 0),
                _ if is_fixed => (0, 1, n),
                // A whole axis, as it is or turned.
                0..4 => (0, 1, n),
                4 | 5 => (n - 1, -1, n),
                6 => {
                    let start = self.choices.below(n);
                    (start, 1, 1 + self.choices.below(n - start))
                }
                7 => (self.choices.below(n), self.choices.pick(&[1, -1, 5, -9, i64::MAX, i64::MIN]), 1),
                8 => {
                    let (start, step) = (self.choices.below(n), self.choices.pick(&[-2i64, 2, -1, 3, -3]));
                    let room = if step > 0 { n - 1 - start } else { start };
                    (start, step, 1 + room / step.unsigned_abs())
                }
                _ if self.choices.one_in(4) => (self.choices.below(n), self.choices.pick(&[1, -1]), 0),
                _ => (0, 1, n),
            };
            starts.push(start);
            steps.push(step);
            counts.push(count);
        }
        let known = self.known(x);
        self.push(Structured::Slice { starts, steps, counts }, &[x], known)
    }

    /// Parts of an axis beside each other, all of which are values.
    fn split(&mut self, x: usize) -> Option<usize> {
        let shape = self.shape(x);
        let axis = self.any_axis(shape.len())?;
        let size = shape[axis];
        let mut start = 0;
        let mut last = None;
        while start < size {
            let (mut starts, mut counts) = (vec![0; shape.len()], shape.clone());
            let count = if last.is_some() && self.choices.one_in(2) {
                size - start
            } else {
                1 + self.choices.below(size - start)
            };
            (starts[axis], counts[axis]) = (start, count);
            let known = self.known(x);
            last = Some(self.push(Structured::Slice { starts, steps: vec![1; shape.len()], counts }, &[x], known)?);
            start += count;
            if self.values.len() > 40 {
                break;
            }
        }
        last
    }

    pub(super) fn transposed(&mut self, x: usize) -> Option<usize> {
        let (rank, fixed) = (self.shape(x).len(), self.fixed());
        let perm: Vec<usize> = match self.choices.below(3) {
            0 if rank >= fixed + 2 => (0..rank - 2).chain([rank - 1, rank - 2]).collect(),
            _ => (0..fixed)
                .chain(self.choices.order(rank.saturating_sub(fixed)).into_iter().map(|a| a + fixed))
                .collect(),
        };
        let known = self.known(x);
        self.push(Structured::Transpose { perm: perm.into_iter().map(|a| a as u64).collect() }, &[x], known)
    }

    fn stretched(&mut self, x: usize) -> Option<usize> {
        let mut shape = self.shape(x);
        for d in shape.iter_mut().skip(self.fixed()) {
            if *d == 1 && self.choices.one_in(2) {
                *d = self.choices.pick(&[2, 3, 4]);
            }
        }
        if self.choices.one_in(2) && shape.len() < 5 && self.length.is_none() {
            shape.insert(0, self.choices.pick(&[1, 2, 3]));
        }
        let known = self.known(x);
        self.push(Structured::Broadcast { shape }, &[x], known)
    }

    /// With itself, another value or a constant, which differ along one axis at most.
    fn concatenated(&mut self, x: usize) -> Option<usize> {
        let (shape, element) = (self.shape(x), self.ty(x).element());
        let axis = self.any_axis(shape.len())?;
        let mut parts = vec![x];
        for _ in 0..=self.choices.below(2) {
            let fits = |other: &usize| {
                let ty = self.ty(*other);
                self.has_length(*other)
                    && ty.element() == element
                    && ty.rank() == shape.len()
                    && (0..shape.len()).all(|a| a == axis || ty.shape()[a] == shape[a])
            };
            let others: Vec<usize> = (0..self.values.len()).filter(fits).collect();
            let part = match self.choices.below(3) {
                0 if self.length.is_none() => {
                    let mut shape = shape.clone();
                    shape[axis] = self.choices.below(4);
                    self.constant(element, &shape)
                }
                _ => self.choices.pick(&others),
            };
            let at = self.choices.below(parts.len() as u64 + 1) as usize;
            parts.insert(at, part);
        }
        let known = parts.iter().map(|p| self.known(*p)).reduce(Known::or)?;
        self.push(Structured::Concat { axis: axis as u64 }, &parts, known)
    }

    fn padded(&mut self, x: usize) -> Option<usize> {
        let shape = self.shape(x);
        let mode =
            self.choices.pick(&[PadMode::Constant, PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap]);
        let fixed = self.fixed();
        let mut around = || {
            let most = |axis: usize, n: u64| if axis < fixed { 0 } else { n.saturating_sub(1) };
            let pads = shape.iter().enumerate().map(|(a, n)| self.choices.below(3).min(most(a, *n)));
            pads.collect::<Vec<u64>>()
        };
        let (before, after) = (around(), around());
        let value = if mode == PadMode::Constant { self.choices.pick(&[0.0f64, 0.0, 2.0, -1.0]) } else { 0.0 };
        if value != 0.0 && (!self.ty(x).element().is_float() || !self.known(x).is_exact()) {
            return None;
        }
        let known = self.known(x).or(Known::integers(value.abs()));
        self.push(Structured::Pad { mode, before, after, value: Real(value) }, &[x], known)
    }

    fn gathered(&mut self, x: usize) -> Option<usize> {
        let shape = self.shape(x);
        let axis = self.any_axis(shape.len())?;
        let size = Some(shape[axis]).filter(|n| *n > 0)?;
        let of = self.choices.pick(&[&[][..], &[1], &[3], &[2, 2]]);
        let count = of.iter().product::<u64>() as usize;
        let indices: Vec<i64> = (0..count).map(|_| self.choices.below(2 * size) as i64 - size as i64).collect();
        let indices = match self.choices.below(2) {
            0 => Tensor::from_elements(of, indices),
            _ => Tensor::from_elements(of, indices.into_iter().map(|i| i as i32).collect()),
        };
        let indices = self.given(&indices.expect("as many as the shape says"), Known::integers(size as f64));
        let known = self.known(x);
        self.push(Structured::Gather { axis: axis as u64 }, &[x, indices], known)
    }

    fn cast(&mut self, x: usize) -> Option<usize> {
        use ElementType::{Bf16, F16, F32, F64, I8, I16, I32, I64};
        let known = self.known(x);
        let to = self.choices.pick(&[F32, F32, F32, F64, I32, I64, F16, Bf16, I8, I16]);
        // What is rounded, or has a fraction, is not cut off.
        let is_whole = known.of_type(I64).is_some();
        if !known.is_exact() || !(is_whole || to == F32 || to == F64) {
            return None;
        }
        self.push(Structured::Cast { to }, &[x], known)
    }
}
