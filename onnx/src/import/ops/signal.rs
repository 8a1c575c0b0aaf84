//! Fourier transforms, and what comes with them.

use std::f64::consts::TAU;

use kiln_ir::func::{ElementType, Structured, Tensor, TensorType};

use super::Row;
use super::math::element;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axis_of, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[
    ("BlackmanWindow", |c| window(c, [0.42, 0.5, 0.08])),
    ("DFT", dft),
    ("HammingWindow", |c| window(c, [25.0 / 46.0, 21.0 / 46.0, 0.0])),
    ("HannWindow", |c| window(c, [0.5, 0.5, 0.0])),
    ("MelWeightMatrix", mel_weight_matrix),
    ("STFT", stft),
];

/// A known length, at least `least`.
fn length(c: &mut Ctx<'_>, index: usize, what: &str, least: u64) -> Result<Option<u64>, Fault> {
    let Some(number) = c.known_number(index, what)? else { return Ok(None) };
    let is_length = number.fract() == 0.0 && (least as f64..1e9).contains(&number);
    if is_length { Ok(Some(number as u64)) } else { Err(format!("its {what} is {number}").into()) }
}

/// The type that results have, by its number.
fn datatype(c: &mut Ctx<'_>) -> Result<ElementType, Fault> {
    element(c.int("output_datatype", 1)?)
}

/// `a - b cos(2 pi i / n) + c cos(4 pi i / n)`, where a window that is not periodic ends as it begins.
fn window(c: &mut Ctx<'_>, [first, second, third]: [f64; 3]) -> Outputs {
    let size = length(c, 0, "size", 0)?.ok_or("lacks its input 0")?;
    let period = if c.flag("periodic", true)? { size } else { size.saturating_sub(1) };
    let ty = TensorType::new(datatype(c)?, [size])?;
    c.program.allow(&ty)?;
    let angle = |i: u64| TAU * i as f64 / period.max(1) as f64;
    let value = |i: u64| first - second * angle(i).cos() + third * (2.0 * angle(i)).cos();
    one(Val::Known(Tensor::from_f64(ty, &(0..size).map(value).collect::<Vec<_>>())))
}

/// A transform of the last two axes of its operand, `[elements, parts]`.
struct Transform {
    /// Elements that are transformed.
    length: u64,
    /// Backwards: from frequencies.
    inverse: bool,
    /// Of frequencies only those that real signals need.
    onesided: bool,
}

impl Transform {
    /// Elements of the result, and their parts.
    fn result(&self) -> (u64, u64) {
        match (self.onesided, self.inverse) {
            (true, false) => (self.length / 2 + 1, 2),
            (true, true) => (self.length, 1),
            _ => (self.length, 2),
        }
    }

    /// The matrix of the map, from `count` elements of so many parts: real ones, or with an imaginary part each.
    fn matrix(&self, c: &mut Ctx<'_>, count: u64, parts: u64, element: ElementType) -> Result<Val, Fault> {
        let (results, result_parts) = self.result();
        let ty = TensorType::new(element, [count, parts, results * result_parts])?;
        c.program.allow(&ty)?;
        let mut values = vec![];
        let n = self.length;
        for from in 0..count {
            // Of one-sided frequencies, all but the first and the middle one stand for two.
            let twice = self.inverse && self.onesided && from != 0 && 2 * from != n;
            let mut scale = if twice { 2.0 } else { 1.0 };
            if self.inverse {
                scale /= n as f64;
            }
            for part in 0..parts {
                for to in 0..results {
                    // A whole number of turns is left out, which an angle would lose digits for.
                    let turns = (u128::from(from) * u128::from(to) % u128::from(n)) as f64 / n as f64;
                    let (sin, cos) = (TAU * turns).sin_cos();
                    let sin = if self.inverse { sin } else { -sin };
                    let both = if part == 0 { [cos, sin] } else { [-sin, cos] };
                    values.extend(both[..result_parts as usize].iter().map(|v| scale * v));
                }
            }
        }
        Ok(Val::Known(Tensor::from_f64(ty, &values)))
    }

    /// Transforms the last two axes; the matrix may be weighted by element.
    fn apply(&self, c: &mut Ctx<'_>, x: &Val, weights: Option<&Val>) -> Result<Val, Fault> {
        let shape = c.shape(x);
        let [outer @ .., count, parts] = &shape[..] else { return Err("expected a signal of rank 2 or more".into()) };
        if !(1..=2).contains(parts) {
            return Err(format!("{}: the last axis has a real and perhaps an imaginary part", c.ty(x)).into());
        }
        // What is beyond the length is cut off; what is missing is 0, and adds nothing.
        let needed = if self.inverse && self.onesided { self.length / 2 + 1 } else { self.length };
        let used = needed.min(*count);
        let x = c.slice(x, outer.len(), 0, 1, used)?;
        let mut matrix = self.matrix(c, used, *parts, c.element(&x))?;
        if let Some(weights) = weights {
            let weights = c.reshape(weights, [used, 1, 1])?;
            matrix = c.mul(&matrix, &weights)?;
        }
        let (results, result_parts) = self.result();
        let matrix = c.reshape(&matrix, [used * parts, results * result_parts])?;
        let x = c.reshape(&x, [outer, &[used * parts]].concat())?;
        let y = super::contraction::product(c, &x, &matrix)?;
        c.reshape(&y, [outer, &[results, result_parts]].concat())
    }
}

/// Before version 20 the axis is an attribute.
fn dft(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let rank = c.rank(&x);
    let axis = if c.opset < 20 { c.int("axis", 1)? } else { c.known_number(2, "axis")?.unwrap_or(-2.0) as i64 };
    let axis = axis_of(axis, rank)?;
    if axis + 1 == rank {
        return Err("its axis is the last one, which has the parts of numbers".into());
    }
    let (inverse, onesided) = (c.flag("inverse", false)?, c.flag("onesided", false)?);
    let own = c.shape(&x)[axis];
    let length = match length(c, 1, "dft_length", 1)? {
        Some(length) => length,
        None if inverse && onesided => (2 * own).saturating_sub(2),
        None => own,
    };
    if length == 0 {
        return Err("a transform of no elements".into());
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 2);
    let x = c.transpose(&x, &perm)?;
    let y = Transform { length, inverse, onesided }.apply(c, &x, None)?;
    one(c.transpose(&y, &perm)?)
}

/// Transforms of frames of a signal `[batch, elements, parts]`, each times a window.
fn stft(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let step = length(c, 1, "frame_step", 1)?.ok_or("lacks its input 1")?;
    let window = c.optional(2);
    let onesided = c.flag("onesided", true)?;
    let &[batch, count, parts] = &shape[..] else {
        return Err(format!("{}: expected a signal of rank 3", c.ty(&x)).into());
    };
    let own = window.as_ref().map(|window| c.ty(window).elements());
    let frame = length(c, 3, "frame_length", 1)?.or(own).ok_or("lacks a window and a frame_length")?;
    let slack = count.checked_sub(frame).ok_or_else(|| format!("frames of {frame} of {count} elements"))?;
    if own.is_some_and(|own| own != frame) {
        return Err(format!("a window of {} for frames of {frame}", own.unwrap_or(0)).into());
    }
    let frames = slack / step + 1;
    c.program.allow(&TensorType::new(ElementType::I64, [frames, frame])?)?;
    let places: Vec<i64> = (0..frames).flat_map(|f| (0..frame).map(move |i| (f * step + i) as i64)).collect();
    let places = Val::Known(Tensor::from_elements([frames, frame], places).map_err(|e| e.to_string())?);
    let frames = match parts {
        // Frames that follow each other are the signal in another shape.
        _ if step == frame && frames * frame == count => c.reshape(&x, [batch, frames, frame, parts])?,
        _ => c.push(Structured::Gather { axis: 1 }, &[&x, &places])?,
    };
    one(Transform { length: frame, inverse: false, onesided }.apply(c, &frames, window.as_ref())?)
}

/// Weights of frequencies in bands of equal width as they are heard, each a triangle.
fn mel_weight_matrix(c: &mut Ctx<'_>) -> Outputs {
    let bands = length(c, 0, "num_mel_bins", 0)?.ok_or("lacks its input 0")?;
    let size = length(c, 1, "dft_length", 1)?.ok_or("lacks its input 1")?;
    let mut rates = vec![];
    for (index, what) in [(2, "sample_rate"), (3, "lower_edge_hertz"), (4, "upper_edge_hertz")] {
        rates.push(c.known_number(index, what)?.ok_or_else(|| format!("lacks its {what}"))?);
    }
    let frequencies = size / 2 + 1;
    let ty = TensorType::new(datatype(c)?, [frequencies, bands])?;
    c.program.allow(&ty)?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (mel(rates[1]), mel(rates[2]));
    let step = (high - low) / (bands + 2) as f64;
    // The frequency at which each band begins, has its middle, and ends two bands later.
    let edge = |i: u64| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + low) / 2595.0) - 1.0);
        (((size + 1) as f64 * hertz) / rates[0]).floor().clamp(0.0, frequencies as f64) as u64
    };
    let mut values = vec![0.0; ty.elements() as usize];
    for band in 0..bands {
        let [from, middle, end] = [edge(band), edge(band + 1), edge(band + 2)];
        let mut set = |frequency: u64, value: f64| {
            if frequency < frequencies {
                values[(frequency * bands + band) as usize] = value;
            }
        };
        match middle.saturating_sub(from) {
            0 => set(middle, 1.0),
            width => (from..=middle).for_each(|f| set(f, (f - from) as f64 / width as f64)),
        }
        let width = end.saturating_sub(middle) as f64;
        (middle..end).for_each(|f| set(f, (end - f) as f64 / width));
    }
    one(Val::Known(Tensor::from_f64(ty, &values)))
}
