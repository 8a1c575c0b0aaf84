//! Images of other sizes.

use kiln_ir::func::{Budget, ElementType, Tensor, TensorType};

use super::Row;
use super::movement::gathered;
use super::quantization::saturated;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axes_of, one};
use crate::import::program::{Val, list};

pub(super) const OPS: &[Row] = &[("Resize", resize), ("Upsample", upsample)];

/// An axis, and the one whose elements its own come from.
struct ResizedAxis {
    axis: usize,
    from: u64,
    to: u64,
    /// Elements that come from one; not exactly `to / from`.
    scale: f64,
    /// The part of the axis that is used, with both ends in 0 to 1; of `tf_crop_and_resize`.
    part: (f64, f64),
}

/// The settings that are the same for all axes.
struct Settings {
    /// Where the elements are.
    coordinates: String,
    /// `nearest`, `linear` or `cubic`.
    mode: String,
    nearest: String,
    cubic: f64,
    is_outside_excluded: bool,
    is_antialiased: bool,
    extrapolation: f64,
}

const COORDINATES: [&str; 6] =
    ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"];

impl ResizedAxis {
    /// Where in the axis an element of the result is.
    fn place(&self, to: u64, coordinates: &str) -> f64 {
        let (x, from) = (to as f64, self.from as f64);
        let width = self.scale * from;
        match coordinates {
            "align_corners" if width == 1.0 => 0.0,
            "align_corners" => x * (from - 1.0) / (width - 1.0),
            "asymmetric" => x / self.scale,
            "tf_crop_and_resize" => {
                let (start, end) = self.part;
                let inside = if width == 1.0 {
                    (end - start) * (from - 1.0) / 2.0
                } else {
                    x * (end - start) * (from - 1.0) / (width - 1.0)
                };
                inside + start * (from - 1.0)
            }
            "pytorch_half_pixel" if width == 1.0 => -0.5,
            "half_pixel_symmetric" => {
                let offset = from / 2.0 * (1.0 - self.to as f64 / width);
                offset + (x + 0.5) / self.scale - 0.5
            }
            _ => (x + 0.5) / self.scale - 0.5,
        }
    }

    /// True if an element of the result is of none of the operand's.
    fn is_outside(&self, place: f64, settings: &Settings) -> bool {
        settings.coordinates == "tf_crop_and_resize" && !(0.0..=self.from as f64 - 1.0).contains(&place)
    }

    fn within(&self, at: f64) -> u64 {
        at.clamp(0.0, self.from as f64 - 1.0) as u64
    }
}

/// The weights of elements around a place: the first of them, from the one before it, and each weight.
fn weights(place: f64, scale: f64, settings: &Settings) -> (f64, Vec<f64>) {
    let ratio = place - place.floor();
    // Smaller images are made of all that they stand for.
    let stretch = if settings.is_antialiased { scale.min(1.0) } else { 1.0 };
    let is_cubic = settings.mode == "cubic";
    let support = if is_cubic { 2.0 } else { 1.0 };
    let a = settings.cubic;
    let kernel = |distance: f64| {
        let x = (distance * stretch).abs();
        match () {
            () if !is_cubic => (1.0 - x).max(0.0),
            () if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            () if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            () => 0.0,
        }
    };
    let first = (-support / stretch).floor() + 1.0;
    // As many after the place as before it.
    let count = 2.0 - 2.0 * first;
    let mut all: Vec<f64> = (0..count as u64).map(|i| kernel(first + i as f64 - ratio)).collect();
    if settings.is_antialiased {
        let sum: f64 = all.iter().sum();
        all.iter_mut().for_each(|w| *w /= sum);
    }
    (place.floor() + first, all)
}

impl ResizedAxis {
    /// The matrix `[from, to]` of what each element of the result has of each.
    fn matrix(&self, c: &mut Ctx<'_>, x: &Val, settings: &Settings) -> Result<Val, Fault> {
        let ty = TensorType::new(c.element(x), [self.from, self.to])?;
        c.program.allow(&ty)?;
        // An element of a much smaller result may have many, of which most are beyond the ends.
        if 4.0 / self.scale * self.to as f64 > Budget::MOST_BYTES as f64 {
            return Err(format!("a scale of {} is too small", self.scale).into());
        }
        let mut matrix = vec![0.0; ty.elements() as usize];
        for to in 0..self.to {
            let place = self.place(to, &settings.coordinates);
            if self.is_outside(place, settings) || !place.is_finite() {
                continue;
            }
            let (first, mut all) = weights(place, self.scale, settings);
            let at = |i: usize| first + i as f64;
            if settings.is_outside_excluded {
                for (i, weight) in all.iter_mut().enumerate() {
                    *weight = if (0.0..self.from as f64).contains(&at(i)) { *weight } else { 0.0 };
                }
                let sum: f64 = all.iter().sum();
                all.iter_mut().for_each(|w| *w /= sum);
            }
            for (i, weight) in all.iter().enumerate() {
                matrix[(self.within(at(i)) * self.to + to) as usize] += weight;
            }
        }
        Ok(Val::Known(Tensor::from_f64(ty, &matrix)))
    }

    /// Which element each of the result is.
    fn nearest(&self, c: &mut Ctx<'_>, settings: &Settings) -> Result<Val, Fault> {
        c.program.allow(&TensorType::new(ElementType::I64, [self.to])?)?;
        let index = |to: u64| {
            let place = self.place(to, &settings.coordinates);
            let at = match settings.nearest.as_str() {
                "round_prefer_floor" => (place - 0.5).ceil(),
                "round_prefer_ceil" => (place + 0.5).floor(),
                "floor" => place.floor(),
                _ => place.ceil(),
            };
            self.within(at) as i64
        };
        Ok(list((0..self.to).map(index).collect()))
    }

    /// The tensor with this axis resized.
    fn apply(&self, c: &mut Ctx<'_>, x: &Val, settings: &Settings) -> Result<Val, Fault> {
        let mut shape = c.shape(x);
        let rank = shape.len();
        let mut y = if settings.mode == "nearest" {
            let indices = self.nearest(c, settings)?;
            gathered(c, x, &indices, self.axis)?
        } else {
            let matrix = self.matrix(c, x, settings)?;
            if self.axis + 2 == rank {
                let matrix = c.matrix_transposed(&matrix)?;
                c.matmul(&matrix, x)?
            } else {
                // The axis is put last; a vector is a row.
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.swap(self.axis, rank - 1);
                let mut y = c.transpose(x, &perm)?;
                if rank == 1 {
                    y = c.reshape(&y, [1, self.from])?;
                }
                y = c.matmul(&y, &matrix)?;
                if rank == 1 { c.reshape(&y, [self.to])? } else { c.transpose(&y, &perm)? }
            }
        };
        let is_inside: Vec<u8> = (0..self.to)
            .map(|to| u8::from(!self.is_outside(self.place(to, &settings.coordinates), settings)))
            .collect();
        if is_inside.contains(&0) {
            shape = vec![1; rank - self.axis];
            shape[0] = self.to;
            let ty = TensorType::new(ElementType::Bool, shape)?;
            let mask = Val::Known(Tensor::new(ty, is_inside).map_err(|e| e.to_string())?);
            let value = c.number_like(&y, settings.extrapolation);
            y = c.select(&mask, &y, &value)?;
        }
        Ok(y)
    }
}

/// The tensor with some axes resized; integers are interpolated as floating-point numbers.
fn resized(c: &mut Ctx<'_>, x: &Val, axes: &[ResizedAxis], settings: &Settings) -> Result<Val, Fault> {
    let (element, is_exact) = (c.element(x), settings.mode == "nearest");
    let is_integer = !element.is_float() && !is_exact;
    let mut y = if is_integer { c.cast(x, ElementType::F32)? } else { x.clone() };
    for axis in axes {
        if axis.from == 0 || axis.to > 1 << 31 {
            return Err(format!("axis {} of {} cannot have {} elements", axis.axis, c.ty(x), axis.to).into());
        }
        let is_same = axis.from == axis.to && axis.scale == 1.0 && settings.coordinates != "tf_crop_and_resize";
        if !is_same {
            y = axis.apply(c, &y, settings)?;
        }
    }
    if is_integer { saturated(c, &y, None, element) } else { Ok(y) }
}

/// Scales as numbers of elements, rounded down.
fn scaled(shape: &[u64], axes: &[usize], scales: &[f64]) -> Result<Vec<ResizedAxis>, Fault> {
    if scales.len() != axes.len() {
        return Err(format!("{} scales for {} axes", scales.len(), axes.len()).into());
    }
    let axis = |(axis, scale): (&usize, &f64)| {
        let from = shape[*axis];
        let to = (from as f64 * scale).floor();
        if !(*scale > 0.0 && to < Budget::MOST_BYTES as f64) {
            return Err(Fault::from(format!("a scale of {scale} of an axis with {from} elements")));
        }
        Ok(ResizedAxis { axis: *axis, from, to: to as u64, scale: *scale, part: (0.0, 1.0) })
    };
    axes.iter().zip(scales).map(axis).collect()
}

/// Numbers of elements as scales, with what is done where these are not the same for all axes.
fn sized(shape: &[u64], axes: &[usize], sizes: &[i64], policy: &str) -> Result<Vec<ResizedAxis>, Fault> {
    if sizes.len() != axes.len() {
        return Err(format!("{} sizes for {} axes", sizes.len(), axes.len()).into());
    }
    let mut all = vec![];
    for (axis, to) in axes.iter().zip(sizes) {
        let (from, to) = (shape[*axis], u64::try_from(*to).map_err(|_| format!("a size of {to}"))?);
        all.push(ResizedAxis { axis: *axis, from, to, scale: to as f64 / from as f64, part: (0.0, 1.0) });
    }
    let scales = all.iter().map(|axis| axis.scale);
    let scale = match policy {
        "stretch" => return Ok(all),
        "not_larger" => scales.fold(f64::INFINITY, f64::min),
        "not_smaller" => scales.fold(0.0, f64::max),
        other => return Err(format!("attribute `keep_aspect_ratio_policy` is `{other}`, which is not known").into()),
    };
    for axis in &mut all {
        (axis.scale, axis.to) = (scale, (scale * axis.from as f64 + 0.5).floor() as u64);
    }
    Ok(all)
}

fn resize(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let axes = match c.ints("axes")? {
        Some(axes) => axes_of(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    // Version 10 has scales alone, and but one way.
    let is_first = c.opset < 11;
    let scales = c.known(if is_first { 1 } else { 2 }, "scales")?.map(|t| t.to_f64()).filter(|s| !s.is_empty());
    let sizes = if is_first { None } else { c.known_ints(3, "sizes")?.filter(|sizes| !sizes.is_empty()) };
    let policy = c.string("keep_aspect_ratio_policy", "stretch")?;
    let mut all = match (scales, sizes) {
        (Some(_), Some(_)) => return Err("has scales and sizes: expected one of them".into()),
        (Some(scales), None) => scaled(&shape, &axes, &scales)?,
        (None, Some(sizes)) => sized(&shape, &axes, &sizes, &policy)?,
        (None, None) => return Err("lacks its scales or its sizes".into()),
    };
    let settings = Settings {
        coordinates: c.string("coordinate_transformation_mode", if is_first { "asymmetric" } else { "half_pixel" })?,
        mode: c.string("mode", "nearest")?,
        nearest: c.string("nearest_mode", if is_first { "floor" } else { "round_prefer_floor" })?,
        cubic: c.float("cubic_coeff_a", -0.75)?,
        is_outside_excluded: c.flag("exclude_outside", false)?,
        is_antialiased: c.flag("antialias", false)?,
        extrapolation: c.float("extrapolation_value", 0.0)?,
    };
    if !COORDINATES.contains(&settings.coordinates.as_str()) {
        let found = settings.coordinates;
        return Err(format!("attribute `coordinate_transformation_mode` is `{found}`, which is not supported").into());
    }
    if !matches!(settings.mode.as_str(), "nearest" | "linear" | "cubic") {
        return Err(format!("attribute `mode` is `{}`, which is not known", settings.mode).into());
    }
    if !matches!(settings.nearest.as_str(), "round_prefer_floor" | "round_prefer_ceil" | "floor" | "ceil") {
        return Err(format!("attribute `nearest_mode` is `{}`, which is not known", settings.nearest).into());
    }
    // The region is of this mode alone; others have one that is not used.
    if !is_first {
        c.optional(1);
    }
    if settings.coordinates == "tf_crop_and_resize" {
        let parts = c.known(1, "roi")?.ok_or("lacks its roi")?.to_f64();
        if parts.len() != 2 * all.len() {
            return Err(format!("a roi of {} numbers for {} axes", parts.len(), all.len()).into());
        }
        let count = all.len();
        for (i, axis) in all.iter_mut().enumerate() {
            axis.part = (parts[i], parts[count + i]);
        }
    }
    one(resized(c, &x, &all, &settings)?)
}

/// The predecessor of [`resize`].
fn upsample(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let scales = match (c.attribute("scales"), c.float_or_none("height_scale")?, c.float_or_none("width_scale")?) {
        (Some(crate::graph::Attribute::Floats(scales)), ..) => scales.iter().map(|s| f64::from(*s)).collect(),
        (None, Some(height), Some(width)) => vec![1.0, 1.0, height, width],
        _ => c.known(1, "scales")?.ok_or("lacks its scales")?.to_f64(),
    };
    let axes = scaled(&shape, &(0..shape.len()).collect::<Vec<_>>(), &scales)?;
    let mode = match c.string("mode", "nearest")?.as_str() {
        "nearest" => "nearest",
        "linear" | "bilinear" => "linear",
        other => return Err(format!("attribute `mode` is `{other}`, which is not known").into()),
    };
    let settings = Settings {
        coordinates: "asymmetric".into(),
        mode: mode.into(),
        nearest: "floor".into(),
        cubic: 0.0,
        is_outside_excluded: false,
        is_antialiased: false,
        extrapolation: 0.0,
    };
    one(resized(c, &x, &axes, &settings)?)
}
