//! Sums of what windows give to the pixels of images: what follows the matrix product in a transposed convolution.

use std::ops::Range;

use super::parallel::{Parallel, split};
use super::{ShapeError, elements};

/// The plan: columns `[n, channels * taps, in pixels]`, of which each is added to the pixel of the result
/// `[n, channels, out pixels]` that its tap sees from its pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnsToImage {
    images: usize,
    axes: Vec<ImageAxis>,
    taps: usize,
    pixels: usize,
    out: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ImageAxis {
    pixels: usize,
    taps: usize,
    out: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
}

impl ImageAxis {
    /// Pixels whose tap is in the result, and where the first's is.
    fn inside(&self, tap: usize) -> (Range<usize>, usize) {
        let reach = tap * self.dilation;
        // Pixel `p` is at `p * stride + reach - pad`.
        let first = self.pad.saturating_sub(reach).div_ceil(self.stride);
        let end = (self.out + self.pad).saturating_sub(reach).div_ceil(self.stride).min(self.pixels);
        if first >= end { (0..0, 0) } else { (first..end, first * self.stride + reach - self.pad) }
    }
}

impl ColumnsToImage {
    /// A plan. `images` counts images and channels together; lists are by axis, `pads` those before each.
    pub fn new(
        images: usize,
        pixels: &[usize],
        taps: &[usize],
        out: &[usize],
        strides: &[usize],
        dilations: &[usize],
        pads: &[usize],
    ) -> Result<Self, ShapeError> {
        let wrong = |what: &str| Err(ShapeError::new("columns_to_image", what));
        if [taps, out, strides, dilations, pads].iter().any(|list| list.len() != pixels.len()) {
            return wrong("lists have one number per axis");
        }
        if strides.contains(&0) || dilations.contains(&0) {
            return wrong("strides and dilations are from 1");
        }
        let all: Vec<usize> = [&[images][..], taps, pixels].concat();
        let (Some(_), Some(_)) = (elements(&all), elements(&[&[images][..], out].concat())) else {
            return wrong("too many elements");
        };
        let axes = (0..pixels.len()).map(|a| ImageAxis {
            pixels: pixels[a],
            taps: taps[a],
            out: out[a],
            stride: strides[a],
            dilation: dilations[a],
            pad: pads[a],
        });
        let axes: Vec<_> = axes.collect();
        let fits = |axis: &ImageAxis| {
            let reach = axis.taps.checked_mul(axis.dilation)?;
            axis.pixels.checked_mul(axis.stride)?.checked_add(reach)?;
            axis.out.checked_add(axis.pad)?.checked_add(reach)
        };
        if axes.iter().any(|axis| fits(axis).is_none()) {
            return wrong("strides, dilations or pads are too large");
        }
        let product = |list: &[usize]| list.iter().product();
        Ok(Self { images, axes, taps: product(taps), pixels: product(pixels), out: product(out) })
    }

    /// Computes the result; pixels that no tap sees are 0.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(&self, parallel: &dyn Parallel, columns: &[f32], dst: &mut [f32]) {
        let column = self.taps * self.pixels;
        assert_eq!(columns.len(), self.images * column, "the columns have their shape");
        assert_eq!(dst.len(), self.images * self.out, "the destination has the result's shape");
        split(parallel, dst, self.out, self.out.saturating_add(column), &|units, part| {
            for (image, unit) in part.chunks_exact_mut(self.out).zip(units) {
                image.fill(0.0);
                for (tap, x) in columns[unit * column..(unit + 1) * column].chunks_exact(self.pixels.max(1)).enumerate()
                {
                    add(&self.axes, tap, self.taps, x, image);
                }
            }
        });
    }
}

/// Adds the columns of a tap, counted among those of these axes.
fn add(axes: &[ImageAxis], tap: usize, taps: usize, x: &[f32], image: &mut [f32]) {
    let Some((axis, inner)) = axes.split_first() else {
        image[0] += x[0];
        return;
    };
    let taps_inside = taps / axis.taps;
    let (pixels, first) = axis.inside(tap / taps_inside);
    if inner.is_empty() {
        let x = &x[pixels];
        if x.is_empty() {
            return;
        }
        let image = &mut image[first..];
        if axis.stride == 1 {
            image.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        } else {
            image.iter_mut().step_by(axis.stride).zip(x).for_each(|(y, x)| *y += x);
        }
        return;
    }
    let (row, out_row) = (x.len() / axis.pixels, image.len() / axis.out);
    for (i, p) in pixels.enumerate() {
        let at = (first + i * axis.stride) * out_row;
        add(inner, tap % taps_inside, taps_inside, &x[p * row..(p + 1) * row], &mut image[at..at + out_row]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::super::testing::{close, numbers};
    use super::*;

    fn digits(mut index: usize, dims: &[usize]) -> Vec<usize> {
        let mut digits = vec![0; dims.len()];
        for (digit, dim) in digits.iter_mut().zip(dims).rev() {
            (*digit, index) = (index % dim, index / dim);
        }
        digits
    }

    #[test]
    fn columns_are_added_where_their_taps_see() {
        type Case = (usize, [Vec<usize>; 6]);
        let cases: [Case; 5] = [
            (6, [vec![5, 4], vec![3, 3], vec![9, 7], vec![2, 2], vec![1, 1], vec![1, 1]]),
            (3, [vec![7], vec![4], vec![20], vec![3], vec![2], vec![2]]),
            (2, [vec![2, 3, 4], vec![2, 1, 3], vec![4, 3, 9], vec![2, 1, 2], vec![1, 2, 1], vec![0, 0, 0]]),
            (64, [vec![28, 28], vec![2, 2], vec![56, 56], vec![2, 2], vec![1, 1], vec![0, 0]]),
            (2, [vec![3, 3], vec![5, 5], vec![2, 1], vec![1, 1], vec![1, 1], vec![3, 3]]),
        ];
        for (images, [pixels, taps, out, strides, dilations, pads]) in cases {
            let plan = ColumnsToImage::new(images, &pixels, &taps, &out, &strides, &dilations, &pads).unwrap();
            let x = numbers(images * plan.taps * plan.pixels, 1.0);
            let mut expected = vec![0.0; images * plan.out];
            for (i, x) in x.iter().enumerate() {
                let (image, tap, pixel) = (i / plan.pixels / plan.taps, i / plan.pixels % plan.taps, i % plan.pixels);
                let (tap, pixel) = (digits(tap, &taps), digits(pixel, &pixels));
                let at: Option<usize> = (0..out.len()).try_fold(image, |at, a| {
                    let y = (pixel[a] * strides[a] + tap[a] * dilations[a]).checked_sub(pads[a])?;
                    (y < out[a]).then(|| at * out[a] + y)
                });
                if let Some(at) = at {
                    expected[at] += f64::from(*x);
                }
            }
            for parallel in [&Serial as &dyn Parallel, &Two] {
                let mut y = vec![9.0; expected.len()];
                plan.run(parallel, &x, &mut y);
                close(&y, &expected, 1e-6, 1e-6);
            }
        }
        assert!(ColumnsToImage::new(1, &[2], &[2], &[2], &[0], &[1], &[0]).is_err());
        assert!(ColumnsToImage::new(1, &[2], &[2], &[2], &[1], &[usize::MAX], &[0]).is_err());
    }
}
