//! Windows: the index map of a convolution's left factor.
//!
//! A windowed contraction has rows that are output pixels and steps of K that are taps of a kernel, each over all channels. Row
//! `o` and tap `t` meet at input `o * stride + t * dilation - pad` along each axis, and the product exists where that input
//! does: what lies on the padding is never computed. Rows and taps are numbered with the last axis fastest; step `k` of K is
//! channel `k % channels` of tap `k / channels`.

use std::ops::Range;

use crate::nest::{Affine, LoopNest, Stmt, Var};

/// One axis of the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Output extent.
    pub output: u64,
    /// Input extent.
    pub input: u64,
    /// Taps.
    pub kernel: u64,
    /// Input pixels from one output to the next.
    pub stride: u64,
    /// Input pixels from one tap to the next.
    pub dilation: u64,
    /// Padding in front of the input; negative where the first inputs have no tap.
    pub pad: i64,
    /// Elements of the left factor between neighbouring inputs.
    pub lhs: u64,
}

impl Axis {
    /// The input that an output's tap reads, if it exists.
    pub fn input_at(&self, output: u64, tap: u64) -> i64 {
        (output * self.stride + tap * self.dilation) as i64 - self.pad
    }

    /// The taps of an output that are on the input.
    pub fn taps(&self, output: u64) -> Range<u64> {
        let first = self.input_at(output, 0);
        let below = |limit: i64| {
            // Taps whose input is below the limit.
            let room = limit - first;
            if room <= 0 { 0 } else { (room as u64).div_ceil(self.dilation).min(self.kernel) }
        };
        let (start, end) = (below(0), below(self.input as i64));
        start..end.max(start)
    }

    /// Outputs in runs that have the same taps.
    pub fn runs(&self, outputs: Range<u64>) -> Vec<(Range<u64>, Range<u64>)> {
        let mut runs: Vec<(Range<u64>, Range<u64>)> = vec![];
        for o in outputs {
            let taps = self.taps(o);
            match runs.last_mut() {
                Some((run, same)) if *same == taps => run.end = o + 1,
                _ => runs.push((o..o + 1, taps)),
            }
        }
        runs
    }

    /// Whether some tap of some output is not on the input.
    fn has_borders(&self) -> bool {
        let last = self.input_at(self.output.saturating_sub(1), self.kernel.saturating_sub(1));
        self.input_at(0, 0) < 0 || last >= self.input as i64
    }

    /// Taps on the input, over all outputs.
    fn taps_inside(&self) -> u64 {
        (0..self.output).map(|o| self.taps(o)).map(|t| t.end - t.start).sum()
    }
}

/// The index map of a left factor. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The axes of the pixels, outermost first; at least one.
    pub axes: Vec<Axis>,
    /// Channels: steps of K of each tap.
    pub channels: u64,
    /// Elements of the right factor between taps.
    pub rhs_tap: u64,
    /// Each column has a channel of its own: the left factor has columns, and `channels` is 1.
    pub depthwise: bool,
}

impl Window {
    /// Taps of the kernel.
    pub fn taps(&self) -> u64 {
        self.axes.iter().map(|a| a.kernel).product()
    }

    /// Pixels of the result.
    pub fn pixels(&self) -> u64 {
        self.axes.iter().map(|a| a.output).product()
    }

    /// Pairs of a pixel and a tap that is on the input.
    pub fn taps_inside(&self) -> u64 {
        self.axes.iter().map(Axis::taps_inside).product()
    }

    /// Whether every tap of every pixel is on the input.
    pub fn is_inside(&self) -> bool {
        self.taps_inside() == self.pixels() * self.taps()
    }

    /// The distance of the rows in the left factor, and the taps, if a kernel is as large as its image and both factors have a
    /// channel's taps as neighbours, channel after channel. No output may lie beyond all inputs, where there is nothing to read.
    pub(crate) fn whole_images(&self, channel: u64) -> Option<(u64, u64)> {
        if !self.is_inside() {
            return None;
        }
        let (images, axes) = match self.axes.split_first() {
            Some((a, rest)) if a.output > 1 && a.kernel == 1 && a.pad == 0 && a.stride == 1 => (a.lhs, rest),
            _ => (0, &self.axes[..]),
        };
        let mut taps = 1;
        for a in axes.iter().rev() {
            if a.output != 1 || a.kernel != a.input || a.pad != 0 || a.dilation != 1 || a.lhs != taps {
                return None;
            }
            taps *= a.kernel;
        }
        (taps > 1 && channel == taps && self.rhs_tap == 1 && !self.depthwise).then_some((images, taps))
    }

    /// The distance of the rows in the left factor, if it is the same for all and there is a single tap.
    pub(crate) fn row_stride(&self) -> Option<u64> {
        if self.taps() != 1 || self.depthwise || self.axes.iter().any(|a| a.pad != 0) || !self.is_inside() {
            return None;
        }
        let mut uniform: Option<(u64, u64)> = None;
        for a in self.axes.iter().rev().filter(|a| a.output > 1) {
            let step = a.stride * a.lhs;
            match uniform {
                None => uniform = Some((step, a.output)),
                Some((row, below)) if step == row * below => uniform = Some((row, below * a.output)),
                Some(_) => return None,
            }
        }
        Some(uniform.map_or(0, |(row, _)| row))
    }
}

/// Images as the outermost axis of the pixels.
pub(crate) fn images(count: u64, lhs: u64) -> Axis {
    Axis { output: count, input: count, kernel: 1, stride: 1, dilation: 1, pad: 0, lhs }
}

/// The dimensions of a factor: index, extent and stride of each.
pub(crate) type Dims = Vec<(Affine, u64, u64)>;

impl Window {
    /// The index map as statements of a nest: the dimensions of both factors, which have these strides along columns of the left
    /// and along K and columns of the right one, and the statements around the product, outermost first and without bodies.
    pub(crate) fn factors(&self, nest: &mut LoopNest, [m, n, k]: [Var; 3], columns: u64, strides: [u64; 3]) -> Factors {
        let mut digits = |name: &str, extent: fn(&Axis) -> u64| -> Vec<(Var, u64)> {
            let axes = self.axes.iter().enumerate();
            axes.map(|(i, a)| (nest.var(&format!("{name}{i}")), extent(a))).collect()
        };
        let outputs = digits("o", |a| a.output);
        let taps = digits("t", |a| a.kernel);
        let [tap, channel] = ["tap", "c"].map(|name| nest.var(name));
        let inputs: Vec<Affine> = self
            .axes
            .iter()
            .zip(outputs.iter().zip(&taps))
            .map(|(a, (o, t))| {
                let mut index = Affine::constant(-a.pad);
                index.add_term(o.0, a.stride as i64);
                if a.kernel > 1 {
                    index.add_term(t.0, a.dilation as i64);
                }
                index
            })
            .collect();
        let split = |index: Var, into| Stmt::Delinearize { index: index.into(), into, body: vec![] };
        let steps = vec![(tap, self.taps()), (channel, self.channels)];
        let taps: Vec<(Var, u64)> = taps.into_iter().filter(|(_, extent)| *extent > 1).collect();
        let mut around = vec![split(m, outputs), split(k, steps)];
        around.extend((!taps.is_empty()).then(|| split(tap, taps)));
        for (a, index) in self.axes.iter().zip(&inputs).filter(|(a, _)| a.has_borders()) {
            around.push(Stmt::Inside { index: index.clone(), extent: a.input, body: vec![] });
        }
        let mut lhs: Dims = inputs.into_iter().zip(&self.axes).map(|(i, a)| (i, a.input, a.lhs)).collect();
        lhs.push(match self.depthwise {
            true => (n.into(), columns, strides[0]),
            false => (channel.into(), self.channels, strides[0]),
        });
        let rhs = vec![
            (tap.into(), self.taps(), self.rhs_tap),
            (channel.into(), self.channels, strides[1]),
            (n.into(), columns, strides[2]),
        ];
        Factors { lhs, rhs, around }
    }
}

/// The factors of a product, and the statements that their indices need around it.
pub(crate) struct Factors {
    pub(crate) lhs: Dims,
    pub(crate) rhs: Dims,
    pub(crate) around: Vec<Stmt>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(output: u64, input: u64, kernel: u64, stride: u64, dilation: u64, pad: i64) -> Axis {
        Axis { output, input, kernel, stride, dilation, pad, lhs: 1 }
    }

    #[test]
    fn taps_are_those_whose_input_exists() {
        for a in [
            axis(56, 56, 3, 1, 1, 1),
            axis(112, 224, 7, 2, 1, 3),
            axis(100, 1, 3, 1, 1, 100),
            axis(18, 55, 30, 3, 3, 29),
            axis(5, 9, 2, 2, 1, -1),
            axis(4, 2, 3, 1, 5, 6),
        ] {
            for o in 0..a.output {
                let expected: Vec<u64> =
                    (0..a.kernel).filter(|t| (0..a.input as i64).contains(&a.input_at(o, *t))).collect();
                assert_eq!(a.taps(o).collect::<Vec<_>>(), expected, "{a:?} at {o}");
            }
            let runs = a.runs(0..a.output);
            assert!(runs.iter().all(|(run, taps)| run.clone().all(|o| a.taps(o) == *taps)));
            assert_eq!(runs.iter().map(|(r, _)| r.end - r.start).sum::<u64>(), a.output);
        }
    }

    #[test]
    fn whole_images_are_inside() {
        let window = |rows: u64| {
            let axes = vec![Axis { lhs: 2, ..axis(rows, 1, 1, 1, 1, 0) }, axis(1, 2, 2, 1, 1, 0)];
            Window { axes, channels: 16, rhs_tap: 1, depthwise: false }
        };
        assert_eq!(window(1).whole_images(2), Some((0, 2)));
        assert_eq!(window(2).whole_images(2), None, "the second row lies beyond the only one");
        let axes = vec![images(3, 32), axis(1, 2, 2, 1, 1, 0)];
        assert_eq!(Window { axes, channels: 16, rhs_tap: 1, depthwise: false }.whole_images(2), Some((32, 2)));
    }

    #[test]
    fn rows_of_one_tap_may_be_evenly_apart() {
        let window = |axes: Vec<Axis>| Window { axes, channels: 8, rhs_tap: 1, depthwise: false };
        let plain = |output, input, stride, lhs| Axis { lhs, ..axis(output, input, 1, stride, 1, 0) };
        assert_eq!(window(vec![plain(4, 4, 1, 40), plain(5, 5, 1, 8)]).row_stride(), Some(8));
        assert_eq!(window(vec![plain(2, 4, 2, 40), plain(3, 5, 2, 8)]).row_stride(), None);
        assert_eq!(window(vec![plain(3, 5, 2, 8)]).row_stride(), Some(16));
        assert_eq!(window(vec![axis(4, 4, 3, 1, 1, 1)]).row_stride(), None);
    }
}
