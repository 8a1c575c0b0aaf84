//! Where a coordinate lies between the pixels of an axis: the one meaning of `grid_sample`, whoever computes it.

use super::op::attribute::{Outside, Sampling};

/// How images are sampled at coordinates from -1 at one border to 1 at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// What is between pixels.
    pub sampling: Sampling,
    /// What is outside.
    pub outside: Outside,
    /// Whether a border is the centre of the outermost pixel, not its far edge.
    pub align_corners: bool,
}

/// The pixels of an axis that a point is between, at most four, each with its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taps {
    taps: [(usize, f64); 4],
    count: usize,
}

impl Taps {
    /// Each pixel with its weight.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> {
        self.taps[..self.count].iter().copied()
    }
}

impl Grid {
    /// The pixels, of `n`, at least one, that a coordinate is between. Those outside of the image are left out where they are 0.
    pub fn taps(&self, coordinate: f64, n: u64) -> Taps {
        let mut taps = Taps::default();
        let size = n as f64;
        let (low, high) = if self.align_corners { (0.0, size - 1.0) } else { (-0.5, size - 0.5) };
        let mut at = low + (coordinate + 1.0) / 2.0 * (high - low);
        if self.sampling == Sampling::Nearest {
            at = at.round_ties_even();
        }
        if at < low || at > high || at.is_nan() {
            at = match self.outside {
                Outside::Zeros if at.is_finite() => at,
                Outside::Zeros => return taps,
                Outside::Border => at.max(0.0).min(size - 1.0),
                Outside::Reflection => reflected(at, low, high),
            };
        }
        // Far outside there is nothing, and indices are small.
        let at = at.clamp(-4.0, size + 4.0);
        let floor = at.floor();
        let t = at - floor;
        let weights: &[(f64, f64)] = match self.sampling {
            Sampling::Nearest => &[(0.0, 1.0)],
            Sampling::Linear => &[(0.0, 1.0 - t), (1.0, t)],
            Sampling::Cubic => &[(-1.0, far(1.0 + t)), (0.0, near(t)), (1.0, near(1.0 - t)), (2.0, far(2.0 - t))],
        };
        for (offset, weight) in weights {
            let pixel = floor + offset;
            let is_inside = (0.0..size).contains(&pixel);
            let pixel = match self.outside {
                Outside::Zeros if !is_inside => continue,
                Outside::Reflection if !is_inside => reflected(pixel, low, high),
                _ => pixel,
            };
            taps.taps[taps.count] = (pixel.clamp(0.0, size - 1.0) as usize, *weight);
            taps.count += 1;
        }
        taps
    }
}

/// A place mirrored at the borders until it is between them.
fn reflected(at: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 || !at.is_finite() {
        return low.max(0.0);
    }
    let beyond = if at < low { low - at } else { at - high };
    if beyond <= 0.0 {
        return at;
    }
    let turns = (beyond / range).trunc();
    let rest = beyond - turns * range;
    // An even number of turns leaves it at the border it went beyond.
    if (turns % 2.0 == 0.0) == (at < low) { low + rest } else { high - rest }
}

/// The parameter of the cubic kernel.
const A: f64 = -0.75;

/// The cubic kernel up to a distance of 1.
fn near(t: f64) -> f64 {
    ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0
}

/// The cubic kernel at distances from 1 to 2.
fn far(t: f64) -> f64 {
    ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps(sampling: Sampling, outside: Outside, align_corners: bool, coordinate: f64, n: u64) -> Vec<(usize, f64)> {
        Grid { sampling, outside, align_corners }.taps(coordinate, n).iter().collect()
    }

    #[test]
    fn points_are_between_pixels() {
        use Outside::*;
        use Sampling::*;
        assert_eq!(taps(Linear, Zeros, true, 0.0, 4), [(1, 0.5), (2, 0.5)]);
        assert_eq!(taps(Linear, Zeros, true, 1.0, 4), [(3, 1.0)]);
        assert_eq!(taps(Linear, Zeros, false, -1.0, 4), [(0, 0.5)]);
        assert_eq!(taps(Linear, Border, false, -1.0, 4), [(0, 0.5), (0, 0.5)]);
        // It is rounded to pixel -2 before it is mirrored, as ONNX's reference does.
        assert_eq!(taps(Nearest, Reflection, false, -1.5, 4), [(1, 1.0)]);
        assert_eq!(taps(Nearest, Reflection, true, 3.0, 4), [(0, 1.0)]);
        assert_eq!(taps(Cubic, Border, true, 0.0, 3), [(0, 0.0), (1, 1.0), (2, 0.0), (2, 0.0)]);
    }

    #[test]
    fn any_coordinate_has_pixels_of_the_axis() {
        let coordinates = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e17, -7.25, 0.0, 0.1];
        for coordinate in coordinates {
            for n in [1, 2, 5, 1 << 40] {
                for sampling in [Sampling::Nearest, Sampling::Linear, Sampling::Cubic] {
                    for outside in [Outside::Zeros, Outside::Border, Outside::Reflection] {
                        for align in [false, true] {
                            let taps = taps(sampling, outside, align, coordinate, n);
                            assert!(taps.iter().all(|(at, weight)| (*at as u64) < n && weight.is_finite()));
                            assert!(outside == Outside::Zeros || !taps.is_empty());
                        }
                    }
                }
            }
        }
    }
}
