//! Images sampled at points between their pixels.

use kiln_ir::func::sampling::{Grid, Taps};

use super::parallel::{Parallel, split};
use super::{ShapeError, elements};

/// Axes of pixels at most.
const MOST_AXES: usize = 3;

/// The plan of images `[n, c, pixels...]` sampled at points `[n, points..., axes]`, which gives `[n, c, points...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridSample {
    grid: Grid,
    images: usize,
    channels: usize,
    pixels: Vec<usize>,
    points: usize,
}

impl GridSample {
    /// A plan for images and points of these shapes.
    pub fn new(grid: Grid, images: &[usize], points: &[usize]) -> Result<Self, ShapeError> {
        let wrong = || ShapeError::new("grid_sample", format!("images {images:?} at points {points:?}"));
        let (Some([n, channels]), Some(pixels)) = (images.first_chunk(), images.get(2..)) else { return Err(wrong()) };
        let axes = pixels.len();
        let is_points = points.first() == Some(n) && points.len() == images.len() && points.last() == Some(&axes);
        let all = elements(images).zip(elements(points)).filter(|_| (1..=MOST_AXES).contains(&axes) && is_points);
        if all.is_none() || (pixels.contains(&0) && !points.contains(&0)) {
            return Err(wrong());
        }
        let points = points[1..points.len() - 1].iter().product::<usize>();
        n.checked_mul(*channels).and_then(|planes| planes.checked_mul(points)).ok_or_else(wrong)?;
        Ok(Self { grid, images: *n, channels: *channels, pixels: pixels.to_vec(), points })
    }

    /// Computes the samples.
    ///
    /// # Panics
    /// If a slice has not the length of its shape.
    pub fn run(&self, parallel: &dyn Parallel, src: &[f32], points: &[f32], dst: &mut [f32]) {
        let Self { grid, images, channels, pixels, points: count } = self;
        let (axes, plane): (usize, usize) = (pixels.len(), pixels.iter().product());
        assert_eq!(src.len(), images * channels * plane, "the images have their shape");
        assert_eq!(points.len(), images * count * axes, "the points have their shape");
        assert_eq!(dst.len(), images * channels * count, "the destination has the result's shape");
        if dst.is_empty() {
            return;
        }
        split(parallel, dst, *count, 16 * count, &|units, part| {
            let mut taps = [Taps::default(); MOST_AXES];
            let mut unit = units.start;
            // Points are looked up once for all channels of an image.
            while unit < units.end {
                let image = unit / channels;
                let end = units.end.min((image + 1) * channels);
                let points = &points[image * count * axes..][..count * axes];
                for (number, point) in points.chunks_exact(axes).enumerate() {
                    // Coordinates are innermost first.
                    for axis in 0..axes {
                        taps[axis] = grid.taps(point[axes - 1 - axis].into(), pixels[axis] as u64);
                    }
                    for channel in unit..end {
                        let data = &src[channel * plane..][..plane];
                        part[(channel - units.start) * count + number] = tapped(data, pixels, &taps[..axes]);
                    }
                }
                unit = end;
            }
        });
    }
}

/// The weighted sum of the pixels that are the taps of all axes.
fn tapped(data: &[f32], pixels: &[usize], taps: &[Taps]) -> f32 {
    let Some((first, rest)) = taps.split_first() else { return data[0] };
    let inner = data.len() / pixels[0];
    let each =
        first.iter().map(|(at, weight)| weight as f32 * tapped(&data[at * inner..][..inner], &pixels[1..], rest));
    each.sum()
}

#[cfg(test)]
mod tests {
    use kiln_ir::func::{Outside, Sampling, Structured, Tensor, TensorOp};

    use super::super::Serial;
    use super::super::parallel::tests::Two;
    use super::*;

    #[test]
    fn samples_are_those_of_the_interpreter() {
        for (pixels, points) in [(vec![7], vec![9]), (vec![5, 4], vec![3, 6]), (vec![3, 2, 4], vec![2, 3, 3])] {
            let axes = pixels.len();
            let images = [vec![2, 3], pixels].concat();
            let grid_shape = [vec![2], points, vec![axes]].concat();
            let number = |i: usize, by: usize| ((i * 7919 + 13) % by) as f32 / by as f32;
            let x: Vec<f32> = (0..images.iter().product()).map(|i| number(i, 101) - 0.5).collect();
            let at: Vec<f32> = (0..grid_shape.iter().product()).map(|i| 3.0 * number(i, 97) - 1.5).collect();
            let wide = |shape: &[usize]| shape.iter().map(|n| *n as u64).collect::<Vec<_>>();
            let operands = [
                Tensor::from_elements(wide(&images), x.clone()).unwrap(),
                Tensor::from_elements(wide(&grid_shape), at.clone()).unwrap(),
            ];
            for sampling in [Sampling::Nearest, Sampling::Linear, Sampling::Cubic] {
                for outside in [Outside::Zeros, Outside::Border, Outside::Reflection] {
                    for align_corners in [false, true] {
                        let op = TensorOp::from(Structured::GridSample { sampling, outside, align_corners });
                        let expected = op.apply(&[&operands[0], &operands[1]]).unwrap().to_f64();
                        let plan = GridSample::new(Grid { sampling, outside, align_corners }, &images, &grid_shape);
                        for parallel in [&Serial as &dyn Parallel, &Two] {
                            let mut y = vec![0.0; expected.len()];
                            plan.as_ref().unwrap().run(parallel, &x, &at, &mut y);
                            let close = y.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6);
                            assert!(close, "{op} {:?} {images:?}\n{y:?}\n{expected:?}", op.settings());
                        }
                    }
                }
            }
        }
        let grid = Grid { sampling: Sampling::Linear, outside: Outside::Zeros, align_corners: false };
        assert!(GridSample::new(grid, &[1, 1, 2, 2], &[1, 2, 2, 3]).is_err());
        assert!(GridSample::new(grid, &[1, 1, 0, 2], &[1, 2, 2, 2]).is_err());
    }
}
