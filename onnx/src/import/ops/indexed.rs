//! Elements and slices at places that indices name.

use kiln_ir::func::{Binary, ElementType, Merge, Structured, TensorType};

use super::Row;
use super::window::sane;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axis_of, numbers, one};
use crate::import::program::{Val, list, scalar};

pub(super) const OPS: &[Row] = &[
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("MaxUnpool", max_unpool),
    ("OneHot", one_hot),
    ("ReverseSequence", reverse_sequence),
    ("Scatter", scatter_elements),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
    ("TensorScatter", tensor_scatter),
    ("TopK", top_k),
];

/// Indices of a type that operations take.
fn as_indices(c: &mut Ctx<'_>, indices: &Val) -> Result<Val, Fault> {
    match c.element(indices) {
        ElementType::I32 | ElementType::I64 => Ok(indices.clone()),
        _ => c.cast(indices, ElementType::I64),
    }
}

/// The numbers from 0, below a limit, along one axis of a tensor of some rank.
pub(super) fn count_along(c: &mut Ctx<'_>, count: u64, axis: usize, rank: usize) -> Result<Val, Fault> {
    c.program.allow(&TensorType::new(ElementType::I64, [count])?)?;
    let all = list((0..count as i64).collect());
    c.along(&all, axis, rank)
}

/// Elements along an axis at the places that indices name.
pub(super) fn elements_at(c: &mut Ctx<'_>, x: &Val, indices: &Val, axis: usize) -> Result<Val, Fault> {
    let indices = as_indices(c, indices)?;
    c.push(Structured::GatherElements { axis: axis as u64 }, &[x, &indices])
}

fn gather_elements(c: &mut Ctx<'_>) -> Outputs {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let axis = axis_of(c.int("axis", 0)?, c.rank(&x))?;
    // Where all elements are the same, indices do not matter.
    if let (Val::Known(tensor), Val::Dynamic(_)) = (&x, &indices)
        && let Some(number) = tensor.splat()
        && c.rank(&indices) == c.rank(&x)
    {
        let (number, wanted) = (c.number_like(&x, number), c.shape(&indices));
        return one(c.broadcast(&number, wanted)?);
    }
    one(elements_at(c, &x, &indices, axis)?)
}

fn gather_nd(c: &mut Ctx<'_>) -> Outputs {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let batch = c.int("batch_dims", 0)?;
    let batch = u64::try_from(batch).map_err(|_| format!("attribute `batch_dims` is {batch}"))?;
    let mut indices = as_indices(c, &indices)?;
    let shape = c.shape(&indices);
    if batch == 0 && shape.last() == Some(&1) {
        // A single coordinate is an index of a slice.
        indices = c.reshape(&indices, &shape[..shape.len() - 1])?;
        return one(c.push(Structured::Gather { axis: 0 }, &[&x, &indices])?);
    }
    one(c.push(Structured::GatherNd { batch }, &[&x, &indices])?)
}

fn merge(c: &Ctx<'_>) -> Result<Merge, Fault> {
    Ok(match c.string("reduction", "none")?.as_str() {
        "none" => Merge::Replace,
        "add" => Merge::Add,
        "mul" => Merge::Mul,
        "max" => Merge::Max,
        "min" => Merge::Min,
        other => {
            let why = format!("attribute `reduction` is `{other}`: expected `none`, `add`, `mul`, `max` or `min`");
            return Err(why.into());
        }
    })
}

fn scatter_elements(c: &mut Ctx<'_>) -> Outputs {
    let (x, indices, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let axis = axis_of(c.int("axis", 0)?, c.rank(&x))? as u64;
    let (merge, indices) = (merge(c)?, as_indices(c, &indices)?);
    one(c.push(Structured::ScatterElements { axis, merge }, &[&x, &indices, &updates])?)
}

fn scatter_nd(c: &mut Ctx<'_>) -> Outputs {
    let (x, indices, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (merge, indices) = (merge(c)?, as_indices(c, &indices)?);
    one(c.push(Structured::ScatterNd { merge }, &[&x, &indices, &updates])?)
}

/// Before version 10 the number of elements is an attribute, then an input.
fn top_k(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let axis = axis_of(c.int("axis", -1)?, c.rank(&x))?;
    let largest = c.flag("largest", true)?;
    // Elements may come in any order if this is 0; they are sorted all the same.
    c.flag("sorted", true)?;
    let k = match c.setting("k", 1)?.as_deref() {
        Some([k]) => u64::try_from(*k).map_err(|_| format!("{k} elements are asked for"))?,
        _ => return Err("lacks its number of elements, `k`".into()),
    };
    let places = c.push(Structured::TopK { k, axis: axis as u64, largest }, &[&x])?;
    Ok(vec![elements_at(c, &x, &places, axis)?, places])
}

/// Which of `depth` numbers along a new axis each index is; an index that is outside is none of them.
fn one_hot(c: &mut Ctx<'_>) -> Outputs {
    let (indices, values) = (c.input(0)?, c.input(2)?);
    let depth = c.known(1, "depth")?.ok_or("lacks its input 1")?.to_f64();
    let depth = depth.first().filter(|n| (0.0..1e9).contains(*n)).ok_or("its depth is not a number from 0")?;
    let depth = *depth as u64;
    if c.shape(&values) != [2] {
        return Err(format!("its values are {}: expected two", c.ty(&values)).into());
    }
    let mut shape = c.shape(&indices);
    let axis = axis_of(c.int("axis", -1)?, shape.len() + 1)?;
    shape.insert(axis, 1);
    let rank = shape.len();
    let indices = c.cast(&indices, ElementType::I64)?;
    let indices = c.reshape(&indices, shape)?;
    let (zero, all) = (c.number_like(&indices, 0.0), c.number_like(&indices, depth as f64));
    let is_negative = c.push(Binary::Less {}, &[&indices, &zero])?;
    let from_end = c.add(&indices, &all)?;
    let indices = c.select(&is_negative, &from_end, &indices)?;
    let places = count_along(c, depth, axis, rank)?;
    let is_it = c.push(Binary::Equal {}, &[&indices, &places])?;
    let (off, on) = (c.slice(&values, 0, 0, 1, 1)?, c.slice(&values, 0, 1, 1, 1)?);
    let (off, on) = (c.reshape(&off, [])?, c.reshape(&on, [])?);
    one(c.select(&is_it, &on, &off)?)
}

/// The first elements along the axis of time in reverse, as many as each of the batch has.
fn reverse_sequence(c: &mut Ctx<'_>) -> Outputs {
    let (x, lengths) = (c.input(0)?, c.input(1)?);
    let rank = c.rank(&x);
    let (batch_axis, time_axis) = (axis_of(c.int("batch_axis", 1)?, rank)?, axis_of(c.int("time_axis", 0)?, rank)?);
    if batch_axis == time_axis || batch_axis > 1 || time_axis > 1 {
        return Err(
            format!("`batch_axis` is {batch_axis}, `time_axis` {time_axis}: expected 0 and 1, or 1 and 0").into()
        );
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(0, batch_axis);
    let x = c.transpose(&x, &perm)?;
    let shape = c.shape(&x);
    if c.shape(&lengths) != shape[..1] {
        return Err(format!("its lengths are {}: expected one for each of {}", c.ty(&lengths), shape[0]).into());
    }
    let lengths = c.cast(&lengths, ElementType::I64)?;
    let lengths = c.along(&lengths, 0, 2)?;
    let time = count_along(c, shape[1], 1, 2)?;
    let is_within = c.push(Binary::Less {}, &[&time, &lengths])?;
    let last = c.sub(&lengths, &scalar(ElementType::I64, 1.0))?;
    let reversed = c.sub(&last, &time)?;
    let places = c.select(&is_within, &reversed, &time)?;
    let places = c.reshape(&places, [shape[0], shape[1], 1])?;
    let y = c.push(Structured::GatherNd { batch: 1 }, &[&x, &places])?;
    one(c.transpose(&y, &perm)?)
}

/// A cache with new elements along one axis from a place on, which may be another for each of a batch.
fn tensor_scatter(c: &mut Ctx<'_>) -> Outputs {
    let (cache, update) = (c.input(0)?, c.input(1)?);
    let (rank, count) = (c.rank(&cache), c.shape(&update));
    let axis = axis_of(c.int("axis", -2)?, rank)?;
    let mode = c.string("mode", "linear")?;
    if axis == 0 || count.len() != rank {
        return Err(format!("axis {axis} of {} and {}", c.ty(&cache), c.ty(&update)).into());
    }
    let mut at = count_along(c, count[axis], axis, rank)?;
    if let Some(first) = c.optional(2) {
        let first = c.cast(&first, ElementType::I64)?;
        let first = c.along(&first, 0, rank)?;
        at = c.add(&at, &first)?;
    }
    match mode.as_str() {
        "linear" => {}
        "circular" => {
            let size = c.number_like(&at, c.shape(&cache)[axis] as f64);
            at = c.push(Binary::Rem {}, &[&at, &size])?;
        }
        other => return Err(format!("attribute `mode` is `{other}`: expected `linear` or `circular`").into()),
    }
    let at = c.broadcast(&at, count)?;
    let op = Structured::ScatterElements { axis: axis as u64, merge: Merge::Replace };
    one(c.push(op, &[&cache, &at, &update])?)
}

/// The elements of a pool where they were in the image, with zeros elsewhere; indices are into all of the image.
fn max_unpool(c: &mut Ctx<'_>) -> Outputs {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let shape = c.shape(&x);
    let axes = shape.len().saturating_sub(2);
    if axes == 0 {
        return Err(format!("{}: expected images, of rank 3 or more", c.ty(&x)).into());
    }
    let kernel = c.per_axis("kernel_shape", axes, 1)?;
    let (strides, pads) = (c.per_axis("strides", axes, 1)?, c.per_axis("pads", 2 * axes, 0)?);
    for (name, list) in [("kernel_shape", &kernel), ("strides", &strides), ("pads", &pads)] {
        sane(name, list, 0)?;
    }
    let mut image = shape[..2].to_vec();
    for axis in 0..axes {
        let whole = shape[axis + 2].saturating_sub(1) * strides[axis] + kernel[axis];
        let size = whole.checked_sub(pads[axis] + pads[axes + axis]);
        image.push(size.ok_or("its padding is more than its image")?);
    }
    let ty = TensorType::new(c.element(&x), image.clone())?;
    let zeros = c.broadcast(&c.number_like(&x, 0.0), [ty.elements()])?;
    let count = c.ty(&x).elements();
    let indices = as_indices(c, &indices)?;
    let (x, indices) = (c.reshape(&x, [count])?, c.reshape(&indices, [count])?);
    let op = Structured::ScatterElements { axis: 0, merge: Merge::Replace };
    let y = c.push(op, &[&zeros, &indices, &x])?;
    let y = c.reshape(&y, image.clone())?;
    let Some(wanted) = c.known_ints(2, "output_shape")? else { return one(y) };
    let wanted = numbers("output_shape", &wanted)?;
    if wanted.len() != image.len() || wanted.iter().zip(&image).any(|(to, from)| to < from) {
        return Err(format!("its output_shape is {wanted:?}: expected one that has {image:?} in it").into());
    }
    let after = wanted.iter().zip(&image).map(|(to, from)| to - from).collect();
    one(c.padded(&y, vec![0; wanted.len()], after)?)
}
