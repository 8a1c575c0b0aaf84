//! Contractions with what follows them, reductions, windows and norms.

use kiln_ir::func::{Binary, ElementType, PoolKind, Real, ReduceKind, Structured, Tensor, TensorType};

use super::{Known, Maker};

impl Maker<'_, '_> {
    /// A product or a convolution, and often a bias and an activation.
    pub(super) fn contraction(&mut self) -> Option<usize> {
        let x = self.value();
        let mut y = match (self.shape(x).len(), self.choices.below(4)) {
            (3.., 0..2) => self.convolution(x)?,
            (3.., 2) if self.choices.one_in(2) => self.transposed_convolution(x)?,
            (2.., _) => self.product(x)?,
            _ => return None,
        };
        let channels = if self.shape(y).len() == self.shape(x).len() && self.choices.one_in(2) {
            1
        } else {
            self.shape(y).len() - 1
        };
        for _ in 0..self.choices.below(4) {
            y = match self.choices.below(5) {
                0 | 1 => self.by_channel(y, channels),
                2 => self.unary(y),
                3 => self.transposed(y),
                _ => self.binary(y),
            }
            .unwrap_or(y);
        }
        Some(y)
    }

    /// Times or plus a number for each index of an axis.
    fn by_channel(&mut self, x: usize, axis: usize) -> Option<usize> {
        let (shape, element) = (self.shape(x), self.ty(x).element());
        let mut channels = vec![1; shape.len().checked_sub(axis)?];
        *channels.first_mut()? = shape[axis];
        if element == ElementType::Bool || axis < self.fixed() {
            return None;
        }
        let c = self.constant(element, &channels);
        let (left, right) = (self.known(x), self.known(c));
        match self.choices.below(3) {
            0 => self.push(Binary::Mul {}, &[x, c], left.times(right)),
            _ => self.push(Binary::Add {}, &[c, x], left.plus(right)),
        }
    }

    fn product(&mut self, x: usize) -> Option<usize> {
        let (shape, element) = (self.shape(x), self.ty(x).element());
        let (outer, &[_, k]) = shape.split_last_chunk::<2>()?;
        let fits = |other: &usize| {
            let ty = self.ty(*other);
            let Some((theirs, &[rows, n])) = ty.shape().split_last_chunk::<2>() else { return false };
            let is_matrix = theirs.len() >= self.fixed() || !self.has_length(*other);
            ty.element() == element && rows == k && is_matrix && self.meets(*other, &[outer, &[rows, n]].concat())
        };
        let others: Vec<usize> = (0..self.values.len()).filter(fits).collect();
        let w = match self.choices.below(5) {
            0 if !others.is_empty() => self.choices.pick(&others),
            // With itself transposed.
            1 if k > 0 && outer.len() >= self.fixed() => {
                let rank = shape.len() as u64;
                let perm = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
                let known = self.known(x);
                self.push(Structured::Transpose { perm }, &[x], known)?
            }
            // Weights as PyTorch stores them.
            2 => {
                let n = self.dim();
                let w = self.constant(element, &[n, k]);
                let known = self.known(w);
                self.push(Structured::Transpose { perm: vec![1, 0] }, &[w], known)?
            }
            _ => {
                let n = self.dim();
                let is_batched = self.choices.one_in(4) && self.length.is_none();
                let batch = if is_batched { outer.to_vec() } else { vec![] };
                if batch.iter().product::<u64>() * k * n > super::MOST_ELEMENTS {
                    return None;
                }
                self.constant(element, &[&batch[..], &[k, n]].concat())
            }
        };
        let known = self.known(x).times(self.known(w)).sum(k as f64);
        self.push(Structured::Matmul {}, &[x, w], known)
    }

    /// Along each axis of pixels: taps, a stride, padding before and after, a dilation.
    fn windows(&mut self, pixels: &[u64]) -> [Vec<u64>; 5] {
        let mut list = |of: &[u64]| pixels.iter().map(|_| self.choices.pick(of)).collect::<Vec<u64>>();
        let taps = list(&[1, 3, 2, 1]);
        [taps, list(&[1, 1, 2]), list(&[0, 1, 0, 2]), list(&[0, 1, 0, 2]), list(&[1, 1, 2])]
    }

    fn convolution(&mut self, x: usize) -> Option<usize> {
        let (shape, element) = (self.shape(x), self.ty(x).element());
        let channels = shape[1];
        let groups = match self.choices.below(4) {
            0 if channels > 1 => channels,
            1 if channels > 2 && channels.is_multiple_of(2) => 2,
            _ => 1,
        };
        let each = self.choices.pick(&[1, 2, 4]);
        let [taps, strides, before, after, dilations] = self.windows(&shape[2..]);
        let inner = channels / groups;
        let w = self.constant(element, &[&[groups * each, inner], &taps[..]].concat());
        let terms = inner * taps.iter().product::<u64>();
        let known = self.known(x).times(self.known(w)).sum(terms as f64);
        let pads = [before, after].concat();
        self.push(Structured::Conv { strides, pads, dilations, groups, channels_last: false }, &[x, w], known)
    }

    fn transposed_convolution(&mut self, x: usize) -> Option<usize> {
        let (shape, element) = (self.shape(x), self.ty(x).element());
        let groups = if shape[1] > 1 && self.choices.one_in(3) { shape[1] } else { 1 };
        let outputs = self.choices.pick(&[1, 2, 3]);
        let [taps, strides, before, after, dilations] = self.windows(&shape[2..]);
        let w = self.constant(element, &[&[shape[1], outputs], &taps[..]].concat());
        let terms = shape[1] / groups * taps.iter().product::<u64>();
        let known = self.known(x).times(self.known(w)).sum(terms as f64);
        let output_pads = vec![0; taps.len()];
        let pads = [before, after].concat();
        self.push(Structured::ConvTranspose { strides, pads, dilations, output_pads, groups }, &[x, w], known)
    }

    pub(super) fn layer(&mut self) -> Option<usize> {
        let x = self.value();
        let is_float = self.ty(x).element() == ElementType::F32;
        match self.choices.below(10) {
            0..3 => self.reduced(x),
            3 => self.found(x),
            4 => self.summed(x),
            5 | 6 => self.pooled(x),
            _ if is_float => self.normed(x),
            _ => None,
        }
    }

    fn axis(&mut self, x: usize) -> Option<u64> {
        let rank = self.shape(x).len();
        self.any_axis(rank).map(|axis| axis as u64)
    }

    fn reduced(&mut self, x: usize) -> Option<usize> {
        let (shape, known, element) = (self.shape(x), self.known(x), self.ty(x).element());
        let axes: Vec<u64> = (self.fixed() as u64..shape.len() as u64).filter(|_| self.choices.one_in(2)).collect();
        let count = axes.iter().map(|a| shape[*a as usize]).product::<u64>();
        // The greatest of nothing is infinite, and its mean is none.
        if count == 0 {
            return None;
        }
        let n = count as f64;
        let is_f32 = element == ElementType::F32;
        let (kind, known) = match self.choices.below(9) {
            0 => (ReduceKind::Sum, known.sum(n)),
            1 if count.is_power_of_two() && element.is_float() => {
                (ReduceKind::Mean, known.sum(n).scaled(-(count.ilog2() as i32)))
            }
            2 if is_f32 => (ReduceKind::Mean, known.sum(n).multiplied(1.0 / n)),
            3 => (ReduceKind::Max, known),
            4 => (ReduceKind::Min, known),
            5 => (ReduceKind::L1, known.sum(n).positive()),
            6 => (ReduceKind::SumSquare, known.times(known).sum(n).positive()),
            7 if is_f32 => (ReduceKind::L2, known.function(n.sqrt(), known.most * n.sqrt()).positive()),
            8 if is_f32 => (ReduceKind::LogSumExp, known.function(1.0, known.most + n.ln())),
            _ => return None,
        };
        let keep = self.choices.one_in(2);
        self.push(Structured::Reduce { kind, axes, keep }, &[x], known)
    }

    fn found(&mut self, x: usize) -> Option<usize> {
        let axis = self.axis(x)?;
        if !self.known(x).is_exact() || self.ty(x).element() == ElementType::Bool {
            return None;
        }
        let [max, keep, last] = [0; 3].map(|_| self.choices.one_in(2));
        let most = self.shape(x)[axis as usize] as f64;
        self.push(Structured::ArgReduce { max, axis, keep, last }, &[x], Known::integers(most).positive())
    }

    fn summed(&mut self, x: usize) -> Option<usize> {
        let axis = self.axis(x)?;
        let known = self.known(x).sum(self.shape(x)[axis as usize].max(1) as f64);
        let [exclusive, reverse] = [0; 2].map(|_| self.choices.one_in(2));
        self.push(Structured::CumSum { axis, exclusive, reverse }, &[x], known)
    }

    fn pooled(&mut self, x: usize) -> Option<usize> {
        let shape = self.shape(x);
        // Of windows without a pixel the greatest is infinite.
        let pixels = shape.get(2..).filter(|p| !p.is_empty() && !p.contains(&0))?;
        let [kernel, strides, before, after, dilations] = self.windows(pixels);
        // Each window meets the image, and as many as fit are there.
        let mut out = vec![];
        for a in 0..pixels.len() {
            let reach = (kernel[a] - 1) * dilations[a] + 1;
            if before[a] >= kernel[a] || after[a] >= kernel[a] || dilations[a] > 1 && before[a] + after[a] > 0 {
                return None;
            }
            out.push((pixels[a] + before[a] + after[a]).checked_sub(reach)? / strides[a] + 1);
        }
        let known = self.known(x);
        let n = kernel.iter().product::<u64>() as f64;
        let (kind, known) = match self.choices.below(3) {
            0 if self.ty(x).element() == ElementType::F32 => (PoolKind::Average, known.sum(n).multiplied(1.0 / n)),
            1 if self.ty(x).element() == ElementType::F32 => {
                (PoolKind::AveragePadded, known.sum(n).multiplied(1.0 / n))
            }
            _ => (PoolKind::Max, known),
        };
        // A mean of fewer is no larger.
        let known = if kind == PoolKind::Max {
            known
        } else {
            Known { most: self.known(x).most, error: known.error * n, ..known }
        };
        let pads = [before, after].concat();
        let op = Structured::Pool { kind, p: 0, kernel, strides, pads, dilations, out, channels_last: false };
        self.push(op, &[x], known)
    }

    fn normed(&mut self, x: usize) -> Option<usize> {
        let (shape, known) = (self.shape(x), self.known(x));
        let axis = self.axis(x)?;
        let kind = self.choices.below(5);
        match kind {
            0 => self.push(Structured::Softmax { axis }, &[x], known.function(2.0, 1.0).positive()),
            1 => {
                let most = 2.0 * known.most + (shape[axis as usize].max(1) as f64).ln();
                self.push(Structured::LogSoftmax { axis }, &[x], known.function(2.0, most))
            }
            2 | 3 => {
                let epsilon = 0.5f64;
                let row = &shape[axis as usize..];
                let n = (row.iter().product::<u64>() as f64).max(1.0);
                // Roundings of the operand's magnitude count as its errors.
                let rounded = Known { error: known.error + 1e-6 * known.most, ..known };
                let slope = (2.0 + n.sqrt()) / epsilon.sqrt();
                let mut known = rounded.function(slope, n.sqrt());
                let mut on = vec![x];
                let parts = if kind == 2 { self.choices.below(3) } else { self.choices.below(2) };
                for part in 0..parts {
                    let c = self.constant(ElementType::F32, row);
                    known = if part == 0 { known.times(self.known(c)) } else { known.plus(self.known(c)) };
                    on.push(c);
                }
                let epsilon = Real(epsilon);
                match kind {
                    2 => self.push(Structured::LayerNorm { axis, epsilon }, &on, known),
                    _ => self.push(Structured::RmsNorm { axis, epsilon }, &on, known),
                }
            }
            _ => self.batch_norm(x),
        }
    }

    fn batch_norm(&mut self, x: usize) -> Option<usize> {
        let (shape, known) = (self.shape(x), self.known(x));
        let channels = *shape.get(1)?;
        let mut on = vec![x];
        (0..3).for_each(|_| on.push(self.constant(ElementType::F32, &[channels])));
        let ty = TensorType::new(ElementType::F32, [channels]).expect("a small shape");
        let variances: Vec<f64> = (0..channels).map(|_| self.choices.pick(&[1.0, 0.25, 2.0, 5.0])).collect();
        on.push(self.given(&Tensor::from_f64(ty, &variances), Known::integers(5.0).positive()));
        // At most twice of scale, and of what is subtracted.
        let small = Known::small(ElementType::F32);
        let known = known.plus(small).multiplied(2.0).times(small).plus(small).multiplied(1.0);
        self.push(Structured::BatchNorm { epsilon: Real(1e-5), channels_last: false }, &on, known.signed())
    }
}
