//! Images sampled between their pixels.

use kiln_ir::func::{ElementType, Outside, Sampling, Structured, Tensor, TensorType};

use super::Row;
use super::conv::{groups, with_bias};
use super::window::sane;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, numbers, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] =
    &[("AffineGrid", affine_grid), ("DeformConv", deform_conv), ("GridSample", grid_sample), ("RoiAlign", roi_align)];

pub(super) fn grid_sample(c: &mut Ctx<'_>) -> Outputs {
    let (x, grid) = (c.input(0)?, c.input(1)?);
    let align_corners = c.flag("align_corners", false)?;
    let sampling = match c.string("mode", "linear")?.as_str() {
        "nearest" => Sampling::Nearest,
        "linear" | "bilinear" => Sampling::Linear,
        "cubic" | "bicubic" => Sampling::Cubic,
        other => return Err(format!("attribute `mode` is `{other}`: expected `nearest`, `linear` or `cubic`").into()),
    };
    let outside = match c.string("padding_mode", "zeros")?.as_str() {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => {
            let why = format!("attribute `padding_mode` is `{other}`: expected `zeros`, `border` or `reflection`");
            return Err(why.into());
        }
    };
    // Grids may be of another type than images.
    let element = c.element(&x);
    let grid = c.cast(&grid, element)?;
    one(c.push(Structured::GridSample { sampling, outside, align_corners }, &[&x, &grid])?)
}

/// Coordinates of pixels, innermost first and with a 1 behind them, as rows: `[pixels, axes + 1]`.
fn homogeneous(c: &mut Ctx<'_>, size: &[u64], align_corners: bool, like: &Val) -> Result<Val, Fault> {
    let count = size.iter().product::<u64>();
    let ty = TensorType::new(c.element(like), [count, size.len() as u64 + 1])?;
    c.program.allow(&ty)?;
    let place = |at: u64, n: u64| match align_corners {
        true if n > 1 => 2.0 * at as f64 / (n - 1) as f64 - 1.0,
        true => -1.0,
        false => (2 * at + 1) as f64 / n as f64 - 1.0,
    };
    let mut values = vec![];
    for mut number in 0..count {
        for n in size.iter().rev() {
            values.push(place(number % n, *n));
            number /= n;
        }
        values.push(1.0);
    }
    Ok(Val::Known(Tensor::from_f64(ty, &values)))
}

/// The places of a grid's points after an affine map, for sampling at them.
fn affine_grid(c: &mut Ctx<'_>) -> Outputs {
    let theta = c.input(0)?;
    let size = c.known_ints(1, "size")?.ok_or("lacks its input 1")?;
    let size = numbers("size", &size)?;
    let align_corners = c.flag("align_corners", false)?;
    let pixels = size.get(2..).unwrap_or_default();
    let axes = pixels.len() as u64;
    sane("size", &size, 0)?;
    if !(2..=3).contains(&axes) || c.shape(&theta) != [size[0], axes, axes + 1] {
        return Err(format!("{} for a grid of {size:?}", c.ty(&theta)).into());
    }
    let points = homogeneous(c, pixels, align_corners, &theta)?;
    let map = c.matrix_transposed(&theta)?;
    let grid = c.matmul(&points, &map)?;
    one(c.reshape(&grid, [&size[..1], pixels, &[axes]].concat())?)
}

fn roi_align(c: &mut Ctx<'_>) -> Outputs {
    let (x, regions, which) = (c.input(0)?, c.input(1)?, c.input(2)?);
    // The first version has coordinates without halves.
    let default = if c.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match c.string("coordinate_transformation_mode", default)?.as_str() {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            let why = format!("attribute `coordinate_transformation_mode` is `{other}`, which is not known");
            return Err(why.into());
        }
    };
    let max = match c.string("mode", "avg")?.as_str() {
        "avg" => false,
        "max" => true,
        other => return Err(format!("attribute `mode` is `{other}`: expected `avg` or `max`").into()),
    };
    let mut settings = vec![];
    for (name, default) in [("output_height", 1), ("output_width", 1), ("sampling_ratio", 0)] {
        let value = c.int(name, default)?;
        settings.push(u64::try_from(value).map_err(|_| format!("attribute `{name}` is {value}"))?);
    }
    let scale = c.float("spatial_scale", 1.0)?.into();
    let op =
        Structured::RoiAlign { rows: settings[0], columns: settings[1], samples: settings[2], scale, max, half_pixel };
    let which = c.cast(&which, ElementType::I64)?;
    one(c.push(op, &[&x, &regions, &which])?)
}

/// A convolution whose taps are where offsets move them: the image is sampled there, and a matrix product does the rest.
fn deform_conv(c: &mut Ctx<'_>) -> Outputs {
    let (x, weights, offset, mask) = (c.input(0)?, c.input(1)?, c.input(2)?, c.optional(4));
    let (&[n, channels, height, width], &[out_channels, per_group, kh, kw]) =
        (&c.shape(&x)[..], &c.shape(&weights)[..])
    else {
        return Err(format!("{} and {}: only images, of rank 4, are supported", c.ty(&x), c.ty(&weights)).into());
    };
    if c.ints("kernel_shape")?.is_some() && c.per_axis("kernel_shape", 2, 1)? != [kh, kw] {
        return Err("attribute `kernel_shape` is not that of its weights".into());
    }
    let (strides, dilations) = (c.per_axis("strides", 2, 1)?, c.per_axis("dilations", 2, 1)?);
    let pads = c.per_axis("pads", 4, 0)?;
    let groups = groups(c)?;
    let parts = c.int("offset_group", 1)?;
    let parts = u64::try_from(parts).ok().filter(|n| *n > 0 && channels.is_multiple_of(*n));
    let parts = parts.ok_or_else(|| format!("attribute `offset_group` does not divide {channels} channels"))?;
    sane("strides", &strides, 1)?;
    sane("dilations", &dilations, 1)?;
    sane("pads", &pads, 0)?;
    sane("pixels", &[height, width, kh, kw], 1)?;
    let taps = kh * kw;
    let &[batch, coordinates, oh, ow] = &c.shape(&offset)[..] else {
        return Err(format!("its offset is {}: expected rank 4", c.ty(&offset)).into());
    };
    let is_fit = groups > 0 && per_group * groups == channels && out_channels.is_multiple_of(groups);
    if batch != n || coordinates != parts * taps * 2 || !is_fit {
        return Err(format!("{}, weights {} and offset {}", c.ty(&x), c.ty(&weights), c.ty(&offset)).into());
    }
    // Offsets of rows, then of columns, of each tap.
    let offset = c.reshape(&offset, [n * parts, taps, 2, oh * ow])?;
    let mut places = vec![];
    for (axis, size, kernel, out) in [(1, width, kw, ow), (0, height, kh, oh)] {
        let own = c.slice(&offset, 2, axis as u64, 1, 1)?;
        let own = c.reshape(&own, [n * parts, taps, oh * ow, 1])?;
        // Where taps are without offsets.
        let ty = TensorType::new(c.element(&x), [taps, oh * ow, 1])?;
        c.program.allow(&ty)?;
        let all = (0..taps).flat_map(|tap| (0..oh * ow).map(move |pixel| (tap, pixel)));
        let at = |(tap, pixel): (u64, u64)| {
            let (tap, pixel) = if axis == 1 { (tap % kernel, pixel % out) } else { (tap / kw, pixel / ow) };
            (pixel * strides[axis] + tap * dilations[axis]) as f64 - pads[axis] as f64
        };
        let fixed = Val::Known(Tensor::from_f64(ty, &all.map(at).collect::<Vec<_>>()));
        let place = c.add(&own, &fixed)?;
        // As a coordinate between the far edges of the outermost pixels.
        let half = c.number_like(&place, 0.5);
        let place = c.add(&place, &half)?;
        let place = c.scaled(&place, 2.0 / size as f64)?;
        let one = c.number_like(&place, 1.0);
        places.push(c.sub(&place, &one)?);
    }
    let points = c.concat(&[&places[0], &places[1]], 3)?;
    let images = c.reshape(&x, [n * parts, channels / parts, height, width])?;
    let op = Structured::GridSample { sampling: Sampling::Linear, outside: Outside::Zeros, align_corners: false };
    let mut sampled = c.push(op, &[&images, &points])?;
    if let Some(mask) = mask {
        let mask = c.reshape(&mask, [n * parts, 1, taps, oh * ow])?;
        sampled = c.mul(&sampled, &mask)?;
    }
    let columns = c.reshape(&sampled, [n, groups, per_group * taps, oh * ow])?;
    let weights = c.reshape(&weights, [groups, out_channels / groups, per_group * taps])?;
    let y = c.matmul(&weights, &columns)?;
    let y = c.reshape(&y, [n, out_channels, oh, ow])?;
    with_bias(c, &y, c.optional(3))
}
