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

/// The definition, channels first.
fn expected(kind: PoolKind, p: u32, shape: &[usize], windows: Windows<'_>, x: &[f32]) -> Vec<f64> {
    let axes = shape.len() - 2;
    let pixels: usize = shape[2..].iter().product();
    let out: usize = windows.out.iter().product();
    let mut y = vec![];
    for (plane, o) in (0..shape[0] * shape[1]).flat_map(|plane| (0..out).map(move |o| (plane, o))) {
        let o = digits(o, windows.out);
        let (mut values, mut padded) = (vec![], 0);
        for tap in 0..windows.kernel.iter().product() {
            let tap = digits(tap, windows.kernel);
            let (mut at, mut inside, mut within) = (0, true, true);
            for a in 0..axes {
                let pixel = o[a] * windows.strides[a] + tap[a] * windows.dilations[a];
                within &= pixel < shape[2 + a] + windows.pads[a] + windows.pads[axes + a];
                let pixel = pixel.wrapping_sub(windows.pads[a]);
                inside &= pixel < shape[2 + a];
                at = at * shape[2 + a] + pixel.min(shape[2 + a]);
            }
            padded += usize::from(within);
            if inside {
                values.push(f64::from(x[plane * pixels + at]));
            }
        }
        let sum: f64 = values.iter().sum();
        y.push(match kind {
            PoolKind::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            PoolKind::Average | PoolKind::AveragePadded if values.is_empty() => 0.0,
            PoolKind::Average => sum / values.len() as f64,
            PoolKind::AveragePadded => sum / padded as f64,
            PoolKind::Lp => values.iter().map(|v| v.abs().powi(p as i32)).sum::<f64>().powf(1.0 / f64::from(p)),
        });
    }
    y
}

#[test]
fn values_are_those_of_the_definition() {
    type Case = (Vec<usize>, [Vec<usize>; 5]);
    let cases: [Case; 7] = [
        (vec![2, 70, 13, 11], [vec![3, 3], vec![2, 2], vec![1, 1, 1, 1], vec![1, 1], vec![7, 6]]),
        (vec![1, 64, 56, 56], [vec![2, 3], vec![2, 1], vec![0, 1, 0, 1], vec![1, 1], vec![28, 56]]),
        (vec![1, 3, 20], [vec![4], vec![3], vec![2, 1], vec![2], vec![6]]),
        (vec![1, 5, 4, 6, 5], [vec![2, 3, 2], vec![1, 2, 2], vec![1, 0, 1, 0, 1, 1], vec![1, 2, 1], vec![4, 2, 3]]),
        // The last windows reach beyond the padding.
        (vec![1, 33, 6, 6], [vec![3, 3], vec![2, 2], vec![0, 0, 0, 0], vec![1, 1], vec![3, 3]]),
        // The first and last windows see nothing but padding.
        (vec![1, 3, 4], [vec![2], vec![2], vec![3, 3], vec![1], vec![5]]),
        (vec![0, 3, 4], [vec![2], vec![1], vec![0, 0], vec![1], vec![3]]),
    ];
    for (shape, [kernel, strides, pads, dilations, out]) in cases {
        let windows = Windows { kernel: &kernel, strides: &strides, pads: &pads, dilations: &dilations, out: &out };
        let x = numbers(shape.iter().product(), 3.0);
        let (n, c) = (shape[0], shape[1]);
        let last = [&[n], &shape[2..], &[c]].concat();
        let pixels: usize = shape[2..].iter().product();
        let x_last: Vec<f32> =
            (0..x.len()).map(|i| x[(i / c / pixels * c + i % c) * pixels + i / c % pixels]).collect();
        for (kind, p) in [
            (PoolKind::Max, 0),
            (PoolKind::Average, 0),
            (PoolKind::AveragePadded, 0),
            (PoolKind::Lp, 1),
            (PoolKind::Lp, 2),
            (PoolKind::Lp, 3),
        ] {
            let expected = expected(kind, p, &shape, windows, &x);
            let outs: usize = out.iter().product();
            let expected_last: Vec<f64> =
                (0..expected.len()).map(|i| expected[(i / c / outs * c + i % c) * outs + i / c % outs]).collect();
            for parallel in [&Serial as &dyn Parallel, &Two] {
                let mut y = vec![7.0; expected.len()];
                Pool::new(kind, p, &shape, windows, false).unwrap().run(parallel, &x, &mut y);
                close(&y, &expected, 1e-6, 1e-6);
                Pool::new(kind, p, &last, windows, true).unwrap().run(parallel, &x_last, &mut y);
                close(&y, &expected_last, 1e-6, 1e-6);
            }
        }
    }
}

#[test]
fn nan_is_the_greatest() {
    let windows = Windows { kernel: &[3], strides: &[1], pads: &[0, 0], dilations: &[1], out: &[1] };
    let mut y = [0.0];
    Pool::new(PoolKind::Max, 0, &[1, 1, 3], windows, false).unwrap().run(&Serial, &[1.0, f32::NAN, 2.0], &mut y);
    assert!(y[0].is_nan());
}

#[test]
fn settings_that_go_with_no_image_are_refused() {
    let fine = Windows { kernel: &[3], strides: &[1], pads: &[0, 0], dilations: &[1], out: &[1] };
    let refused = |shape: &[usize], windows| assert!(Pool::new(PoolKind::Max, 0, shape, windows, false).is_err());
    refused(&[1, 1], fine);
    refused(&[1, 1, 3, 3], fine);
    refused(&[1, usize::MAX, 3], fine);
    refused(&[1, 1, 3], Windows { strides: &[0], ..fine });
    refused(&[1, 1, 3], Windows { kernel: &[usize::MAX], dilations: &[2], ..fine });
    refused(&[1, 1, 3], Windows { pads: &[usize::MAX, 0], ..fine });
    assert!(Pool::new(PoolKind::Lp, 0, &[1, 1, 3], fine, false).is_err());
}
