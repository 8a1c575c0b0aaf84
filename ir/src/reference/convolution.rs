//! The sums of a convolution, over the taps that meet the source.

use crate::op::{Convolution, Spatial};
use crate::problem::{Operand, Problem};

/// Calls `each` for every element of the result: its place, its sum, and the sum of the magnitudes of its terms.
pub(super) fn sums(problem: &Problem, shape: &Convolution, values: &[&[f32]], mut each: impl FnMut(usize, f64, f64)) {
    let operands = problem.operands();
    let (lhs, dst) = (Places::of(&operands[0]), Places::of(&operands[operands.len() - 1]));
    let [_, n, k] = shape.extents().map(|e| e as usize);
    let (channels, taps) = (k / shape.taps() as usize, shape.taps() as usize);
    let [depth, height, width] = *shape.space3();
    let row = width.output as usize;
    let mut weights = vec![0.0f64; k * n];
    let (mut value, mut size) = (vec![0.0f64; row * n], vec![0.0f64; row * n]);
    for g in 0..shape.g as usize {
        // Output channels innermost; in memory, taps are.
        for (j, of_channel) in values[1][g * k * n..].chunks_exact(k).take(n).enumerate() {
            for (c, of_taps) in of_channel.chunks_exact(taps).enumerate() {
                of_taps.iter().enumerate().for_each(|(t, w)| weights[(t * channels + c) * n + j] = f64::from(*w));
            }
        }
        for image in 0..shape.mb as usize {
            let source = &values[0][image * lhs.image + g * channels * lhs.channel..];
            for (z, y) in (0..depth.output).flat_map(|z| (0..height.output).map(move |y| (z, y))) {
                value.fill(0.0);
                size.fill(0.0);
                for (tz, from) in met(&depth, z, lhs.space[0]) {
                    for (ty, from) in met(&height, y, lhs.space[1]).map(|(t, at)| (t, from + at)) {
                        let first = (tz * height.kernel as usize + ty) * width.kernel as usize;
                        for tx in 0..width.kernel {
                            let weights = &weights[(first + tx as usize) * channels * n..][..channels * n];
                            for x in width.outputs(tx) {
                                let Some(at) = width.source(x, tx) else { continue };
                                let from = from + at as usize * lhs.space[2];
                                let (value, size) =
                                    (&mut value[x as usize * n..][..n], &mut size[x as usize * n..][..n]);
                                for (c, weights) in weights.chunks_exact(n).enumerate() {
                                    let a = f64::from(source[from + c * lhs.channel]);
                                    for ((v, s), w) in value.iter_mut().zip(size.iter_mut()).zip(weights) {
                                        *v += a * w;
                                        *s += (a * w).abs();
                                    }
                                }
                            }
                        }
                    }
                }
                let first = image * dst.image + z as usize * dst.space[0] + y as usize * dst.space[1];
                for (x, (value, size)) in value.chunks_exact(n).zip(size.chunks_exact(n)).enumerate() {
                    for (j, (value, size)) in value.iter().zip(size).enumerate() {
                        each(first + x * dst.space[2] + (g * n + j) * dst.channel, *value, *size);
                    }
                }
            }
        }
    }
}

/// The taps that meet the source for an element of the result, with the place of what they read.
fn met(s: &Spatial, output: u64, stride: usize) -> impl Iterator<Item = (usize, usize)> {
    let s = *s;
    (0..s.kernel).filter_map(move |tap| Some((tap as usize, s.source(output, tap)? as usize * stride)))
}

/// Elements between neighbours.
struct Places {
    image: usize,
    channel: usize,
    /// Along depth, height and width; 0 along those that are not there.
    space: [usize; 3],
}

impl Places {
    fn of(o: &Operand) -> Self {
        let strides: Vec<usize> = o.strides().iter().map(|s| *s as usize).collect();
        let mut space = [0; 3];
        space[5 - strides.len()..].copy_from_slice(&strides[2..]);
        Self { image: strides[0], channel: strides[1], space }
    }
}
