//! Images at points between their pixels.

use super::super::sampling::{Grid, Taps};
use super::super::types::TensorType;
use super::{Mismatch, Structured, View, check_seen, same_element};

/// Samples of a part along an axis, at most: work that networks ask for by a number has a bound.
const MOST_SAMPLES: u64 = 256;

pub(super) fn infer(op: &Structured, operands: &[&TensorType]) -> Result<TensorType, Mismatch> {
    let x = operands[0];
    let element = same_element(&operands[..2])?;
    if !element.is_float() {
        return Err(Mismatch::Element { operand: 0, found: element, expected: "floating-point numbers" });
    }
    let points = operands[1];
    match op {
        Structured::GridSample { .. } => {
            let rank = x.rank();
            if !(3..=5).contains(&rank) {
                return Err(Mismatch::Rank { operand: 0, rank, expected: "lines, images or volumes, so rank 3 to 5" });
            }
            let mut expected = points.shape().to_vec();
            expected.resize(rank, (rank - 2) as u64);
            (expected[0], expected[rank - 1]) = (x.shape()[0], (rank - 2) as u64);
            if points.shape() != expected {
                return Err(Mismatch::Shape { operand: 1, found: points.shape().into(), expected });
            }
            if x.shape()[2..].contains(&0) && points.elements() > 0 {
                return Err(Mismatch::setting("sampling", x.shape(), "images that have pixels"));
            }
            let shape = [&x.shape()[..2], &points.shape()[1..rank - 1]].concat();
            let ty = TensorType::new(element, shape)?;
            check_seen("sampling", &x.shape(), [ty.elements(), 64])?;
            Ok(ty)
        }
        Structured::RoiAlign { rows, columns, samples, .. } => {
            let &[images, channels, height, width] = x.shape() else {
                return Err(Mismatch::Rank { operand: 0, rank: x.rank(), expected: "images, of rank 4" });
            };
            let count = operands[2].elements();
            if points.shape() != [count, 4] {
                return Err(Mismatch::Shape { operand: 1, found: points.shape().into(), expected: vec![count, 4] });
            }
            let which = operands[2];
            if which.element() != super::ElementType::I64 || which.rank() != 1 {
                let expected = "i64, one for each region";
                return Err(Mismatch::Element { operand: 2, found: which.element(), expected });
            }
            if *rows == 0 || *columns == 0 {
                return Err(Mismatch::setting("rows", [rows, columns], "numbers from 1"));
            }
            if *samples > MOST_SAMPLES {
                return Err(Mismatch::setting("samples", samples, "at most 256, along each axis of a part"));
            }
            if images * height * width == 0 && count > 0 {
                return Err(Mismatch::setting("rows", x.shape(), "images that have pixels"));
            }
            let ty = TensorType::new(element, [count, channels, *rows, *columns])?;
            // Without a number of samples there is about one for each pixel.
            let most = |n: u64| if *samples > 0 { *samples } else { 2 * n + 4 };
            check_seen("samples", samples, [ty.elements(), most(height), most(width)])?;
            Ok(ty)
        }
        _ => unreachable!("another file's operation"),
    }
}

pub(super) fn evaluate(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    match op {
        Structured::GridSample { sampling, outside, align_corners } => {
            let grid = Grid { sampling: *sampling, outside: *outside, align_corners: *align_corners };
            grid_sample(grid, operands[0], operands[1], ty)
        }
        _ => roi_align(op, operands, ty),
    }
}

fn grid_sample(grid: Grid, x: View<'_>, points: View<'_>, ty: &TensorType) -> Vec<f64> {
    let pixels = &x.ty.shape()[2..];
    let axes = pixels.len();
    let [images, channels] = [ty.shape()[0], ty.shape()[1]].map(|n| n as usize);
    let plane = pixels.iter().product::<u64>() as usize;
    let out = ty.shape()[2..].iter().product::<u64>() as usize;
    let mut values = vec![0.0; images * channels * out];
    let mut taps = vec![Taps::default(); axes];
    for (number, point) in points.data.chunks_exact(axes).enumerate() {
        // Coordinates are innermost first.
        for (axis, taps) in taps.iter_mut().enumerate() {
            *taps = grid.taps(point[axes - 1 - axis], pixels[axis]);
        }
        let (image, place) = (number / out, number % out);
        for channel in 0..channels {
            let data = &x.data[(image * channels + channel) * plane..][..plane];
            values[(image * channels + channel) * out + place] = tapped(data, pixels, &taps);
        }
    }
    values
}

/// The weighted sum of the pixels that are the taps of all axes.
fn tapped(data: &[f64], pixels: &[u64], taps: &[Taps]) -> f64 {
    let Some((first, rest)) = taps.split_first() else { return data[0] };
    let inner = data.len() / pixels[0] as usize;
    let each = first.iter().map(|(at, weight)| weight * tapped(&data[at * inner..][..inner], &pixels[1..], rest));
    each.sum()
}

/// Samples of a part along one axis: the first, the distance to the next, and how many.
#[derive(Clone, Copy)]
struct Samples {
    first: f64,
    step: f64,
    count: f64,
}

impl Samples {
    /// Those that are on an image of `pixels`, or not more than a pixel beside it, with the numbers of pixels between which each
    /// is, and how far it is from the first to the second.
    fn inside(&self, pixels: u64) -> impl Iterator<Item = (usize, usize, f64)> {
        let Samples { first, step, count } = *self;
        let (from, end) = if count <= MOST_SAMPLES as f64 {
            (0.0, count)
        } else if first.is_finite() && step.is_finite() {
            // They are about a pixel apart, and may begin far before the image and end far behind it.
            let end = ((pixels as f64 - first) / step + 2.0).ceil().min(count);
            (((-1.0 - first) / step - 1.0).floor().max(0.0), end)
        } else {
            // A region without an end has no samples.
            (0.0, 0.0)
        };
        let last = pixels as usize - 1;
        let at = move |i: u64| first + i as f64 * step;
        (from as u64..end.max(0.0) as u64).map(at).filter(move |at| (-1.0..=pixels as f64).contains(at)).map(
            move |at| {
                let at = at.max(0.0);
                let low = at as usize;
                if low >= last { (last, last, 0.0) } else { (low, low + 1, at - low as f64) }
            },
        )
    }
}

fn roi_align(op: &Structured, operands: &[View<'_>], ty: &TensorType) -> Vec<f64> {
    let Structured::RoiAlign { rows, columns, samples, scale, max, half_pixel } = op else {
        unreachable!("another file's operation")
    };
    let x = operands[0];
    let [images, channels, height, width] = [0, 1, 2, 3].map(|i| x.ty.shape()[i]);
    let plane = (height * width) as usize;
    let mut values = Vec::with_capacity(ty.elements() as usize);
    for (region, which) in operands[1].data.chunks_exact(4).zip(operands[2].data) {
        let offset = if *half_pixel { 0.5 } else { 0.0 };
        let [x1, y1, x2, y2] = [0, 1, 2, 3].map(|i| region[i] * scale.0 - offset);
        // Regions that are reversed or too small are of one pixel, but where pixels have halves.
        let size = |low: f64, high: f64| if *half_pixel { high - low } else { (high - low).max(1.0) };
        let part = |low: f64, high: f64, parts: u64, i: u64| {
            let part = size(low, high) / parts as f64;
            let count = if *samples > 0 { *samples as f64 } else { part.ceil() };
            let step = part / count;
            Samples { first: low + i as f64 * part + step / 2.0, step, count }
        };
        let image = (*which as usize).min(images as usize - 1) * channels as usize;
        for channel in 0..channels as usize {
            let data = &x.data[(image + channel) * plane..][..plane];
            for row in 0..*rows {
                let down = part(y1, y2, *rows, row);
                for column in 0..*columns {
                    let across = part(x1, x2, *columns, column);
                    values.push(sampled(data, [height, width], down, across, *max));
                }
            }
        }
    }
    values
}

/// The mean of samples, those outside being 0; or the greatest product of a pixel with its weight.
fn sampled(data: &[f64], [height, width]: [u64; 2], down: Samples, across: Samples, greatest: bool) -> f64 {
    let count = (down.count.max(0.0) * across.count.max(0.0)).max(1.0);
    let (mut sum, mut most, mut seen) = (0.0, f64::NEG_INFINITY, 0.0);
    for (top, bottom, y) in down.inside(height) {
        for (left, right, x) in across.inside(width) {
            let at = |row: usize, column: usize| data[row * width as usize + column];
            let products = [
                (1.0 - y) * (1.0 - x) * at(top, left),
                (1.0 - y) * x * at(top, right),
                y * (1.0 - x) * at(bottom, left),
                y * x * at(bottom, right),
            ];
            sum += products.iter().sum::<f64>();
            most = products.into_iter().fold(most, super::max);
            seen += 1.0;
        }
    }
    match greatest {
        // A sample that is outside is 0, too.
        true if seen < count => most.max(0.0),
        true => most,
        false => sum / count,
    }
}
