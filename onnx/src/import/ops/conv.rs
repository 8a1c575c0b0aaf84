//! Convolutions and their transposes.

use kiln_ir::func::Structured;
use kiln_ir::text::Listed;

use super::Row;
use super::window::{Window, kernel_of, pixels, sane};
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, numbers, one};
use crate::import::program::Val;

pub(super) const OPS: &[Row] = &[("Col2Im", col2im), ("Conv", conv), ("ConvTranspose", conv_transpose)];

pub(super) fn groups(c: &Ctx<'_>) -> Result<u64, Fault> {
    let group = c.int("group", 1)?;
    Ok(u64::try_from(group).map_err(|_| format!("attribute `group` is {group}"))?)
}

/// A convolution without its bias.
pub(super) fn convolution(c: &mut Ctx<'_>, x: &Val, weights: &Val) -> Result<Val, Fault> {
    let taps = c.shape(weights).get(2..).unwrap_or_default().to_vec();
    let Window { strides, dilations, pads, .. } = Window::read(c, x, Some(&taps))?;
    let groups = groups(c)?;
    c.push(Structured::Conv { strides, pads, dilations, groups, channels_last: false }, &[x, weights])
}

/// One number a channel is added.
pub(super) fn with_bias(c: &mut Ctx<'_>, y: &Val, bias: Option<Val>) -> Outputs {
    let Some(bias) = bias else { return one(y.clone()) };
    let shape = c.shape(y);
    if c.shape(&bias) != shape[1..2] {
        return Err(
            format!("its bias is {}: expected one number for each of {} channels", c.ty(&bias), shape[1]).into()
        );
    }
    let bias = c.along(&bias, 1, shape.len())?;
    one(c.add(y, &bias)?)
}

fn conv(c: &mut Ctx<'_>) -> Outputs {
    let (x, weights) = (c.input(0)?, c.input(1)?);
    let y = convolution(c, &x, &weights)?;
    with_bias(c, &y, c.optional(2))
}

fn conv_transpose(c: &mut Ctx<'_>) -> Outputs {
    let (x, weights) = (c.input(0)?, c.input(1)?);
    let size = pixels(c, &x)?;
    let axes = size.len();
    let kernel = kernel_of(c, axes, c.shape(&weights).get(2..).unwrap_or_default())?;
    if kernel.len() != axes {
        return Err(format!("weights {} for images {}", c.ty(&weights), c.ty(&x)).into());
    }
    let (strides, dilations) = (c.per_axis("strides", axes, 1)?, c.per_axis("dilations", axes, 1)?);
    let mut output_pads = c.per_axis("output_padding", axes, 0)?;
    let mut pads = c.per_axis("pads", 2 * axes, 0)?;
    sane("kernel_shape", &kernel, 1)?;
    sane("strides", &strides, 1)?;
    sane("dilations", &dilations, 1)?;
    sane("output_padding", &output_pads, 0)?;
    sane("pads", &pads, 0)?;
    sane("pixels", &size, 1)?;
    let auto_pad = c.string("auto_pad", "NOTSET")?;
    let is_same = matches!(auto_pad.as_str(), "SAME_UPPER" | "SAME_LOWER");
    if !is_same && !matches!(auto_pad.as_str(), "NOTSET" | "VALID" | "") {
        return Err(format!("attribute `auto_pad` is `{auto_pad}`, which is not known").into());
    }
    let wanted: Option<Vec<u64>> = match c.ints("output_shape")? {
        Some(shape) => {
            // Some files have images and channels in it, too.
            let pixels = shape.get(shape.len().saturating_sub(axes)..).unwrap_or_default();
            Some(super::super::node::numbers("output_shape", pixels)?)
        }
        None if is_same => Some(size.iter().zip(&strides).map(|(n, s)| n * s).collect()),
        None => None,
    };
    if auto_pad == "VALID" {
        pads.fill(0);
    }
    if let Some(wanted) = wanted {
        if wanted.len() != axes {
            return Err(format!("attribute `output_shape` is {}: expected {axes} numbers", Listed(&wanted)).into());
        }
        sane("output_shape", &wanted, 0)?;
        for axis in 0..axes {
            let whole = strides[axis] * (size[axis] - 1) + (kernel[axis] - 1) * dilations[axis] + 1 + output_pads[axis];
            let cut = whole.saturating_sub(wanted[axis]);
            // What is missing is added after the axis.
            output_pads[axis] += wanted[axis].saturating_sub(whole);
            let (less, more) = (cut / 2, cut - cut / 2);
            (pads[axis], pads[axes + axis]) = if auto_pad == "SAME_UPPER" { (less, more) } else { (more, less) };
        }
    }
    let groups = groups(c)?;
    let y = c.push(Structured::ConvTranspose { strides, pads, dilations, output_pads, groups }, &[&x, &weights])?;
    with_bias(c, &y, c.optional(2))
}

/// Blocks of pixels, each a column, added up where they overlap in an image.
fn col2im(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let (out, taps) = (c.known_ints(1, "image_shape")?, c.known_ints(2, "block_shape")?);
    let (out, taps) = (out.ok_or("lacks its input 1")?, taps.ok_or("lacks its input 2")?);
    let (out, taps) = (numbers("image_shape", &out)?, numbers("block_shape", &taps)?);
    let axes = out.len();
    if taps.len() != axes {
        return Err(format!("blocks of {taps:?} of images of {out:?}").into());
    }
    let (strides, dilations) = (c.per_axis("strides", axes, 1)?, c.per_axis("dilations", axes, 1)?);
    let pads = c.per_axis("pads", 2 * axes, 0)?;
    sane("image_shape", &out, 1)?;
    sane("block_shape", &taps, 1)?;
    sane("strides", &strides, 1)?;
    sane("dilations", &dilations, 1)?;
    sane("pads", &pads, 0)?;
    let mut pixels = vec![];
    for axis in 0..axes {
        let reach = (taps[axis] - 1) * dilations[axis] + 1;
        let slack = (out[axis] + pads[axis] + pads[axes + axis]).checked_sub(reach);
        let slack = slack.ok_or_else(|| format!("blocks of {taps:?} of images of {out:?}, padding included"))?;
        pixels.push(slack / strides[axis] + 1);
    }
    let pads = pads[..axes].to_vec();
    one(c.push(Structured::ColumnsToImage { pixels, taps, strides, pads, dilations, out }, &[&x])?)
}
