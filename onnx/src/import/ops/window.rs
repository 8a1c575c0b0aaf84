//! Windows over images: settings that convolutions and pools share.

use kiln_ir::text::Listed;

use crate::import::error::Fault;
use crate::import::node::Ctx;
use crate::import::program::Val;

/// Windows, by axis of pixels.
pub(super) struct Window {
    pub kernel: Vec<u64>,
    pub strides: Vec<u64>,
    pub dilations: Vec<u64>,
    /// Before each axis, then after each.
    pub pads: Vec<u64>,
    /// Windows along each axis.
    pub out: Vec<u64>,
}

/// Axes of pixels of images.
pub(super) fn pixels(c: &Ctx<'_>, x: &Val) -> Result<Vec<u64>, Fault> {
    let shape = c.shape(x);
    match shape.get(2..) {
        Some(pixels) if !pixels.is_empty() => Ok(pixels.to_vec()),
        _ => Err(format!("{}: expected images, of rank 3 or more", c.ty(x)).into()),
    }
}

/// Sizes such as windows have: products of a few of them do not overflow.
pub(super) fn sane(name: &str, list: &[u64], least: u64) -> Result<(), Fault> {
    match list.iter().find(|n| !(least..1 << 31).contains(*n)) {
        None => Ok(()),
        Some(n) => Err(format!("`{name}` has {n}: expected numbers from {least} to {}", (1u64 << 31) - 1).into()),
    }
}

/// The kernel that weights say, which is also that of the attribute if there is one.
pub(super) fn kernel_of(c: &Ctx<'_>, axes: usize, weights: &[u64]) -> Result<Vec<u64>, Fault> {
    if c.ints("kernel_shape")?.is_some() && c.per_axis("kernel_shape", axes, 1)? != weights {
        return Err(format!("attribute `kernel_shape` is not that of its weights, {}", Listed(weights)).into());
    }
    Ok(weights.to_vec())
}

impl Window {
    /// The windows of a node over images; a convolution's kernel is that of its weights.
    pub(super) fn read(c: &Ctx<'_>, x: &Val, weights: Option<&[u64]>) -> Result<Window, Fault> {
        let pixels = pixels(c, x)?;
        let axes = pixels.len();
        let kernel = match weights {
            Some(weights) => kernel_of(c, axes, weights)?,
            None if c.ints("kernel_shape")?.is_none() => return Err("lacks its attribute `kernel_shape`".into()),
            None => c.per_axis("kernel_shape", axes, 1)?,
        };
        let (strides, dilations) = (c.per_axis("strides", axes, 1)?, c.per_axis("dilations", axes, 1)?);
        sane("kernel_shape", &kernel, 1)?;
        sane("strides", &strides, 1)?;
        sane("dilations", &dilations, 1)?;
        sane("pixels", &pixels, 0)?;
        if kernel.len() != axes {
            return Err(format!("a kernel of {} for images of {} pixels", Listed(&kernel), Listed(&pixels)).into());
        }
        let mut pads = c.per_axis("pads", 2 * axes, 0)?;
        sane("pads", &pads, 0)?;
        let auto_pad = c.string("auto_pad", "NOTSET")?;
        let is_ceil = c.flag("ceil_mode", false)?;
        let mut out = vec![];
        for axis in 0..axes {
            let reach = (kernel[axis] - 1) * dilations[axis] + 1;
            let (size, stride) = (pixels[axis], strides[axis]);
            match auto_pad.as_str() {
                "SAME_UPPER" | "SAME_LOWER" => {
                    let windows = size.div_ceil(stride);
                    let all = (windows.saturating_sub(1) * stride + reach).saturating_sub(size);
                    let (less, more) = (all / 2, all - all / 2);
                    let is_upper = auto_pad == "SAME_UPPER";
                    (pads[axis], pads[axes + axis]) = if is_upper { (less, more) } else { (more, less) };
                    out.push(windows);
                    continue;
                }
                "VALID" => (pads[axis], pads[axes + axis]) = (0, 0),
                "NOTSET" | "" => {}
                other => return Err(format!("attribute `auto_pad` is `{other}`, which is not known").into()),
            }
            let padded = size + pads[axis] + pads[axes + axis];
            let slack = padded.checked_sub(reach);
            let slack = slack.ok_or_else(|| format!("a window of {reach} pixels on {padded}, padding included"))?;
            let mut windows = if is_ceil { slack.div_ceil(stride) } else { slack / stride } + 1;
            // The last window begins on the image or on the padding before it.
            if is_ceil && (windows - 1) * stride >= size + pads[axis] {
                windows -= 1;
            }
            out.push(windows);
        }
        Ok(Window { kernel, strides, dilations, pads, out })
    }
}
