//! Functions of the windows of images.

use std::ops::Range;

use kiln_ir::func::PoolKind;

use super::parallel::{Parallel, split};
use super::simd::{fma, vectorised};
use super::{ShapeError, elements};

/// Axes of pixels: fewer are the last of them.
const AXES: usize = 3;

/// Channels that are worked on at once where they are neighbours.
const CHANNELS: usize = 32;

/// A window along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// The first pixel, and how many there are in the image.
    first: usize,
    count: usize,
    /// Their number in the image and its padding.
    padded: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PooledAxis {
    pixels: usize,
    dilation: usize,
    windows: Vec<Window>,
}

/// The parameters of pooling, by axis of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows<'a> {
    /// Pixels of a window.
    pub kernel: &'a [usize],
    /// Pixels between windows.
    pub strides: &'a [usize],
    /// Padding before each axis, then after each.
    pub pads: &'a [usize],
    /// Pixels between those of a window.
    pub dilations: &'a [usize],
    /// Windows along each axis.
    pub out: &'a [usize],
}

/// The plan of a function of each window of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    kind: PoolKind,
    p: f32,
    axes: [PooledAxis; AXES],
    channels: usize,
    src_len: usize,
    dst_len: usize,
    /// Work per element of the result.
    cost: usize,
    channels_last: bool,
    /// The innermost axis of pixels, where taps are taken along it, each of all windows at once.
    row: Option<Row>,
}

/// Windows along the innermost axis of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    kernel: usize,
    stride: usize,
    pad: usize,
}

/// Taps up to which, and windows from which on, a row is worked on tap by tap.
const ROW_TAPS: usize = 32;
const ROW_WINDOWS: usize = 4;

impl Pool {
    /// A plan for images of this shape: `[n, c, pixels..]`, or with `channels_last` `[n, pixels.., c]`, of 1 to 3 axes.
    pub fn new(
        kind: PoolKind,
        p: u32,
        shape: &[usize],
        windows: Windows<'_>,
        channels_last: bool,
    ) -> Result<Self, ShapeError> {
        let wrong = |what: String| Err(ShapeError::new("pool", what));
        let Windows { kernel, strides, pads, dilations, out } = windows;
        let axes = shape.len().saturating_sub(2);
        if !(1..=AXES).contains(&axes) {
            return wrong(format!("{shape:?}: expected images with 1 to {AXES} axes of pixels"));
        }
        if [kernel, strides, dilations, out].iter().any(|list| list.len() != axes || list.contains(&0)) {
            return wrong(format!("kernel, strides, dilations and out have {axes} numbers from 1 each"));
        }
        if pads.len() != 2 * axes {
            return wrong(format!("pads has {} numbers", 2 * axes));
        }
        if kind == PoolKind::Lp && p == 0 {
            return wrong("p is from 1".into());
        }
        let (channels, first) = if channels_last { (shape[shape.len() - 1], 1) } else { (shape[1], 2) };
        let pixels = &shape[first..first + axes];
        let all = [&[shape[0], channels], out].concat();
        let (Some(src_len), Some(dst_len)) = (elements(shape), elements(&all)) else {
            return wrong(format!("{shape:?} or its result has too many elements"));
        };
        let mut planned = [const { PooledAxis { pixels: 1, dilation: 1, windows: vec![] } }; AXES];
        for missing in &mut planned[..AXES - axes] {
            missing.windows = vec![Window { first: 0, count: 1, padded: 1 }];
        }
        for a in 0..axes {
            let along = |o: usize| window(o, pixels[a], kernel[a], strides[a], (pads[a], pads[axes + a]), dilations[a]);
            let windows: Option<Vec<_>> = match dst_len {
                // There may be a great many windows of nothing.
                0 => Some(vec![]),
                _ => (0..out[a]).map(along).collect(),
            };
            let Some(windows) = windows else { return wrong("strides, dilations or pads are too large".into()) };
            planned[AXES - axes + a] = PooledAxis { pixels: pixels[a], dilation: dilations[a], windows };
        }
        // Taps in the image, of which there may be fewer than in the kernel.
        let cost = planned.iter().map(|a| a.windows.iter().map(|w| w.count).max().unwrap_or(1).max(1)).product();
        let a = axes - 1;
        let row = Row { kernel: kernel[a], stride: strides[a], pad: pads[a] };
        let row = (!channels_last && kernel[a] <= ROW_TAPS && out[a] >= ROW_WINDOWS).then_some(row);
        Ok(Self { kind, p: p as f32, axes: planned, channels, src_len, dst_len, cost, channels_last, row })
    }

    /// Computes the result.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[f32], dst: &mut [f32]) {
        assert_eq!(src.len(), self.src_len, "the operand has its shape");
        assert_eq!(dst.len(), self.dst_len, "the destination has the result's shape");
        let (unit, each) = match (self.channels_last, self.row) {
            (true, _) => (self.channels, 1),
            (false, Some(_)) => (self.axes[AXES - 1].windows.len(), 2),
            (false, None) => (1, 4),
        };
        let cost = self.cost.saturating_mul(unit).saturating_mul(each);
        split(parallel, dst, unit, cost, &|range, part| match self.kind {
            PoolKind::Max => self.part::<Greatest>(range, src, part),
            PoolKind::Average | PoolKind::AveragePadded => self.part::<Total>(range, src, part),
            PoolKind::Lp if self.p == 1.0 => self.part::<Magnitudes>(range, src, part),
            PoolKind::Lp if self.p == 2.0 => self.part::<Squares>(range, src, part),
            PoolKind::Lp => self.part::<Powers>(range, src, part),
        });
    }

    fn part<T: Tap>(&self, range: Range<usize>, src: &[f32], dst: &mut [f32]) {
        match (self.channels_last, self.row) {
            (true, _) => last::<T>(self, range, src, dst),
            (false, Some(row)) => rows::<T>(self, row, range, src, dst),
            (false, None) => first::<T>(self, range, src, dst),
        }
    }

    /// The image, or the image and channel, and the windows of an output pixel.
    #[inline(always)]
    fn at(&self, mut pixel: usize) -> (usize, [Window; AXES]) {
        let mut windows = [Window { first: 0, count: 0, padded: 0 }; AXES];
        for (axis, window) in self.axes.iter().zip(&mut windows).rev() {
            let n = axis.windows.len();
            *window = axis.windows[pixel % n];
            pixel /= n;
        }
        (pixel, windows)
    }

    /// Calls `work` with the pixel of the image that is the first of each row of the window's, and how many there are.
    #[inline(always)]
    fn taps(&self, image: usize, windows: &[Window; AXES], mut work: impl FnMut(usize)) {
        let [depth, height, width] = windows;
        let [d, h, w] = &self.axes;
        for z in 0..depth.count {
            let plane = image * d.pixels + depth.first + z * d.dilation;
            for y in 0..height.count {
                let row = (plane * h.pixels + height.first + y * h.dilation) * w.pixels + width.first;
                for x in 0..width.count {
                    work(row + x * w.dilation);
                }
            }
        }
    }

    /// The function that makes the result of the taps' values.
    #[inline(always)]
    fn finish(&self, windows: &[Window; AXES], y: f32) -> f32 {
        let taps = |count: fn(&Window) -> usize| windows.iter().map(count).product::<usize>() as f32;
        match self.kind {
            PoolKind::Max => y,
            // Where there is nothing, neither by 0.
            PoolKind::Average => y / taps(|w| w.count).max(1.0),
            PoolKind::AveragePadded => y / taps(|w| w.padded).max(1.0),
            PoolKind::Lp if self.p == 1.0 => y,
            PoolKind::Lp if self.p == 2.0 => y.sqrt(),
            PoolKind::Lp => y.powf(1.0 / self.p),
        }
    }
}

/// The window `o`; `None` if it is too far away to say.
fn window(
    o: usize,
    pixels: usize,
    kernel: usize,
    stride: usize,
    pads: (usize, usize),
    dilation: usize,
) -> Option<Window> {
    let start = o.checked_mul(stride)?;
    start.checked_add(kernel.checked_mul(dilation)?)?;
    // Counted from the beginning of the padding.
    let taps_below = |end: usize| end.saturating_sub(start).div_ceil(dilation).min(kernel);
    let image = pads.0.checked_add(pixels)?;
    let (before, end) = (taps_below(pads.0), taps_below(image));
    let padded = taps_below(image.checked_add(pads.1)?);
    let first = if end > before { start + before * dilation - pads.0 } else { 0 };
    Some(Window { first, count: end - before, padded })
}

/// The operation on the elements in a window.
trait Tap {
    /// The value before the first.
    const NONE: f32;
    /// With one more.
    fn add<const FMA: bool>(y: f32, x: f32, p: f32) -> f32;
}

struct Greatest;

impl Tap for Greatest {
    const NONE: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn add<const FMA: bool>(y: f32, x: f32, _p: f32) -> f32 {
        if x > y || x.is_nan() { x } else { y }
    }
}

struct Total;

impl Tap for Total {
    const NONE: f32 = 0.0;

    #[inline(always)]
    fn add<const FMA: bool>(y: f32, x: f32, _p: f32) -> f32 {
        y + x
    }
}

struct Magnitudes;

impl Tap for Magnitudes {
    const NONE: f32 = 0.0;

    #[inline(always)]
    fn add<const FMA: bool>(y: f32, x: f32, _p: f32) -> f32 {
        y + x.abs()
    }
}

struct Squares;

impl Tap for Squares {
    const NONE: f32 = 0.0;

    #[inline(always)]
    fn add<const FMA: bool>(y: f32, x: f32, _p: f32) -> f32 {
        fma::<FMA>(x, x, y)
    }
}

struct Powers;

impl Tap for Powers {
    const NONE: f32 = 0.0;

    #[inline(always)]
    fn add<const FMA: bool>(y: f32, x: f32, p: f32) -> f32 {
        y + x.abs().powf(p)
    }
}

vectorised! {
    /// Output pixels, all channels of each.
    fn last[T: Tap](pool: &Pool, pixels: Range<usize>, src: &[f32], dst: &mut [f32]) {
        let channels = pool.channels;
        for (pixel, out) in pixels.zip(dst.chunks_exact_mut(channels)) {
            let (image, windows) = pool.at(pixel);
            let (whole, rest) = out.as_chunks_mut::<CHANNELS>();
            let tail = whole.len() * CHANNELS;
            for (i, out) in whole.iter_mut().enumerate() {
                let src = &src[i * CHANNELS..];
                let mut y = [T::NONE; CHANNELS];
                pool.taps(image, &windows, |at| {
                    let x: &[f32; CHANNELS] = src[at * channels..].first_chunk().expect("a pixel has all channels");
                    for c in 0..CHANNELS {
                        y[c] = T::add::<FMA>(y[c], x[c], pool.p);
                    }
                });
                for c in 0..CHANNELS {
                    out[c] = pool.finish(&windows, y[c]);
                }
            }
            if !rest.is_empty() {
                rest.fill(T::NONE);
                pool.taps(image, &windows, |at| {
                    for (y, x) in rest.iter_mut().zip(&src[at * channels + tail..]) {
                        *y = T::add::<FMA>(*y, *x, pool.p);
                    }
                });
                for y in rest {
                    *y = pool.finish(&windows, *y);
                }
            }
        }
    }

    /// Rows of the result where each image has one channel.
    fn rows[T: Tap](pool: &Pool, row: Row, range: Range<usize>, src: &[f32], dst: &mut [f32]) {
        let [d, h, w] = &pool.axes;
        let n = w.windows.len();
        for (r, out) in range.zip(dst.chunks_exact_mut(n)) {
            out.fill(T::NONE);
            let (image, depth, height) = (r / h.windows.len() / d.windows.len(), r / h.windows.len(), r % h.windows.len());
            let (depth, height) = (d.windows[depth % d.windows.len()], h.windows[height]);
            for z in 0..depth.count {
                let plane = image * d.pixels + depth.first + z * d.dilation;
                for y in 0..height.count {
                    let line = (plane * h.pixels + height.first + y * h.dilation) * w.pixels;
                    let line = &src[line..line + w.pixels];
                    for tap in 0..row.kernel {
                        // Of window `o`, the tap is at `o * stride + reach - pad`.
                        let reach = tap * w.dilation;
                        let first = row.pad.saturating_sub(reach).div_ceil(row.stride);
                        let end = (w.pixels + row.pad).saturating_sub(reach).div_ceil(row.stride).min(n);
                        if first >= end {
                            continue;
                        }
                        let line = &line[first * row.stride + reach - row.pad..];
                        let out = &mut out[first..end];
                        match row.stride {
                            1 => {
                                for (y, x) in out.iter_mut().zip(line) {
                                    *y = T::add::<FMA>(*y, *x, pool.p);
                                }
                            }
                            // Strides that the compiler knows become shuffles.
                            2 => {
                                let (pairs, rest) = line.as_chunks::<2>();
                                for (y, x) in out.iter_mut().zip(pairs) {
                                    *y = T::add::<FMA>(*y, x[0], pool.p);
                                }
                                if let (Some(y), [x]) = (out.get_mut(pairs.len()), rest) {
                                    *y = T::add::<FMA>(*y, *x, pool.p);
                                }
                            }
                            stride => {
                                for (y, x) in out.iter_mut().zip(line.iter().step_by(stride)) {
                                    *y = T::add::<FMA>(*y, *x, pool.p);
                                }
                            }
                        }
                    }
                }
            }
            if pool.kind != PoolKind::Max {
                for (y, width) in out.iter_mut().zip(&w.windows) {
                    *y = pool.finish(&[depth, height, *width], *y);
                }
            }
        }
    }

    /// Elements of the result where each image has one channel.
    fn first[T: Tap](pool: &Pool, range: Range<usize>, src: &[f32], dst: &mut [f32]) {
        for (at, out) in range.zip(dst) {
            let (image, windows) = pool.at(at);
            let mut y = T::NONE;
            pool.taps(image, &windows, |at| y = T::add::<FMA>(y, src[at], pool.p));
            *out = pool.finish(&windows, y);
        }
    }
}

#[cfg(test)]
mod tests;
