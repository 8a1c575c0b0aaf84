//! Constants, shapes as values, and the same elements in other shapes.

use kiln_ir::func::{Budget, ElementType, Tensor, TensorType};
use kiln_ir::text::Listed;

use super::Row;
use crate::graph::Attribute;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axes_of, axis_of, numbers, one};
use crate::import::program::{MOST_AXES, Program, Val, list, scalar};

pub(super) const OPS: &[Row] = &[
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("Dropout", dropout),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Identity", |c| one(c.input(0)?)),
    ("Range", range),
    ("Reshape", reshape),
    ("Shape", shape),
    ("Size", size),
    ("Squeeze", squeeze),
    ("Tile", tile),
    ("Trilu", trilu),
    ("Unsqueeze", unsqueeze),
];

fn constant(c: &mut Ctx<'_>) -> Outputs {
    let floats = |shape: Vec<u64>, values: Vec<f32>| {
        one(Val::Known(Tensor::from_elements(shape, values).expect("as many as the shape says")))
    };
    const NAMES: [&str; 5] = ["value", "value_float", "value_floats", "value_int", "value_ints"];
    let given: Vec<_> = NAMES.iter().filter_map(|name| c.attribute(name)).collect();
    let [value] = given[..] else {
        // It may have one that is no tensor of numbers.
        c.check_all_asked()?;
        return Err(format!("has {} values: expected one", given.len()).into());
    };
    match value {
        Attribute::Tensor(tensor) => one(Val::Known(Tensor::try_from(tensor).map_err(|e| e.to_string())?)),
        Attribute::Float(value) => floats(vec![], vec![*value]),
        Attribute::Floats(values) => floats(vec![values.len() as u64], values.clone()),
        // A list of one may be written as a number.
        Attribute::Int(value) if c.attribute("value_ints").is_some() => one(list(vec![*value])),
        Attribute::Int(value) => one(Val::Known(Tensor::scalar(*value))),
        Attribute::Ints(values) => one(list(values.clone())),
        _ => Err("has a value that is no tensor of numbers".into()),
    }
}

fn constant_of_shape(c: &mut Ctx<'_>) -> Outputs {
    let shape = c.known_ints(0, "shape")?.ok_or("lacks its input 0")?;
    let shape = numbers("shape", &shape)?;
    let value = match c.attribute("value") {
        None => scalar(ElementType::F32, 0.0),
        Some(Attribute::Tensor(tensor)) => {
            let tensor = Tensor::try_from(tensor).map_err(|e| e.to_string())?;
            c.reshape(&Val::Known(tensor), [])?
        }
        Some(_) => return Err("attribute `value` is not a tensor".into()),
    };
    one(c.broadcast(&value, shape)?)
}

/// Nothing is dropped where a network is only used: how much would be, and the seed, change nothing.
fn dropout(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let ratio = c.float("ratio", 0.5)?;
    c.int_or_none("seed")?;
    c.optional(1);
    let is_test = c.opset >= 7 || c.flag("is_test", false)? || ratio == 0.0;
    if !is_test || c.known_number(2, "training_mode")?.is_some_and(|n| n != 0.0) {
        return Err("dropping at random, as in training, is not supported: export the model for inference".into());
    }
    let mut outputs = vec![x.clone()];
    if c.wants(1) {
        let ty = if c.opset < 10 { c.element(&x) } else { ElementType::Bool };
        let shape = c.shape(&x);
        outputs.push(c.broadcast(&scalar(ty, 1.0), shape)?);
    }
    Ok(outputs)
}

fn expand(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.known_ints(1, "shape")?.ok_or("lacks its input 1")?;
    let mut shape = numbers("shape", &shape)?;
    // Both stretch: a 1 in the shape keeps what the tensor has.
    let own = c.shape(&x);
    while shape.len() < own.len() {
        shape.insert(0, 1);
    }
    let offset = shape.len() - own.len();
    for (size, own) in shape[offset..].iter_mut().zip(own) {
        *size = if *size == 1 { own } else { *size };
    }
    one(c.broadcast(&x, shape)?)
}

fn tile(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let mut repeats = c.known_ints(1, "repeats")?.ok_or("lacks its input 1")?;
    if c.opset < 6 {
        // The first version repeats along one axis.
        let (tiles, axis) = (repeats.first().copied(), c.known_number(2, "axis")?);
        let (Some(tiles), Some(axis)) = (tiles, axis) else { return Err("lacks its tiles or its axis".into()) };
        repeats = vec![1; shape.len()];
        repeats[axis_of(axis as i64, shape.len())?] = tiles;
    }
    let repeats = numbers("repeats", &repeats)?;
    if repeats.len() != shape.len() {
        return Err(format!("{} repeats for {}", repeats.len(), c.ty(&x)).into());
    }
    // Each axis that is repeated gets an axis of 1 before it, which stretches.
    let (mut split, mut wide, mut whole) = (vec![], vec![], vec![]);
    for (size, times) in shape.iter().zip(&repeats) {
        if *times != 1 {
            split.push(1);
            wide.push(*times);
        }
        split.push(*size);
        wide.push(*size);
        whole.push(size.checked_mul(*times).ok_or("its result is too large")?);
    }
    let x = c.reshape(&x, split)?;
    let x = c.broadcast(&x, wide)?;
    one(c.reshape(&x, whole)?)
}

/// The product of some dimensions, which are a tensor's.
fn product(shape: &[u64]) -> u64 {
    shape.iter().product()
}

fn flatten(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let axis = c.int("axis", 1)?;
    // The axis may be the one after the last.
    let axis = if axis == shape.len() as i64 { shape.len() } else { axis_of(axis, shape.len())? };
    one(c.reshape(&x, [product(&shape[..axis]), product(&shape[axis..])])?)
}

fn reshape(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let asked = c.setting("shape", 1)?.ok_or("lacks its shape")?;
    let own = c.shape(&x);
    let is_zero_kept = c.flag("allowzero", false)?;
    let mut shape = vec![];
    let mut open = None;
    for (axis, size) in asked.iter().enumerate() {
        shape.push(match *size {
            0 if !is_zero_kept => {
                *own.get(axis).ok_or_else(|| format!("there is no axis {axis} to keep in {}", Listed(&own)))?
            }
            -1 if open.is_some() => return Err(format!("two dimensions of {} are open", Listed(&asked)).into()),
            -1 => {
                open = Some(axis);
                1
            }
            size => u64::try_from(size).map_err(|_| format!("a dimension of {size}"))?,
        });
    }
    if let Some(axis) = open {
        let rest = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n)).ok_or("its shape is too large")?;
        let all = c.ty(&x).elements();
        if rest == 0 || !all.is_multiple_of(rest) {
            return Err(format!("{} does not become {}", Listed(&own), Listed(&asked)).into());
        }
        shape[axis] = all / rest;
    }
    one(c.reshape(&x, shape)?)
}

fn shape(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape: Vec<i64> = c.shape(&x).iter().map(|n| *n as i64).collect();
    let rank = shape.len() as i64;
    let within = |at: i64| if at < 0 { at.saturating_add(rank).max(0) } else { at.min(rank) } as usize;
    let (start, end) = (within(c.int("start", 0)?), within(c.int("end", rank)?));
    one(list(shape.get(start..end).unwrap_or_default().to_vec()))
}

fn size(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    one(Val::Known(Tensor::scalar(c.ty(&x).elements() as i64)))
}

fn squeeze(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let shape = c.shape(&x);
    let axes = match c.setting("axes", 1)? {
        Some(axes) => axes_of(&axes, shape.len())?,
        None => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|axis| shape[**axis] != 1) {
        return Err(format!("axis {axis} of {} has not 1 element", c.ty(&x)).into());
    }
    let kept = shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, n)| *n);
    one(c.reshape(&x, kept.collect::<Vec<_>>())?)
}

fn unsqueeze(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let axes = c.setting("axes", 1)?.ok_or("lacks its axes")?;
    let own = c.shape(&x);
    let rank = own.len() + axes.len();
    if rank > MOST_AXES {
        return Err(format!("{} axes are too many", axes.len()).into());
    }
    let axes = axes_of(&axes, rank)?;
    let mut own = own.into_iter();
    let shape = (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { own.next() });
    one(c.reshape(&x, shape.collect::<Option<Vec<_>>>().expect("each axis is new or its own"))?)
}

/// The refusal of a range that stands still.
const NO_STEP: &str = "its delta is 0: expected a step that leads to the limit or away from it";

fn range(c: &mut Ctx<'_>) -> Outputs {
    let element = c.input(0).map(|v| c.element(&v))?;
    let is_single = match c.int("stash_type", 1)? {
        1 => !matches!(element, ElementType::F64) && element.is_float(),
        11 => false,
        other => return Err(format!("attribute `stash_type` is {other}: expected 1 (float) or 11 (double)").into()),
    };
    const WHAT: [&str; 3] = ["start", "limit", "delta"];
    if element == ElementType::I64 {
        let mut numbers = [0; 3];
        for (index, what) in WHAT.into_iter().enumerate() {
            let ints = c.known_ints(index, what)?.ok_or_else(|| format!("lacks its {what}"))?;
            let &[number] = &ints[..] else {
                return Err(format!("its {what} is {ints:?}: expected one number").into());
            };
            numbers[index] = number;
        }
        return range_of_integers(c, numbers.map(i128::from));
    }
    let mut numbers = [0.0; 3];
    for (index, what) in WHAT.into_iter().enumerate() {
        numbers[index] = c.known_number(index, what)?.ok_or_else(|| format!("lacks its {what}"))?;
    }
    let [start, limit, delta] = numbers;
    if delta == 0.0 {
        return Err(NO_STEP.into());
    }
    let count = ((limit - start) / delta).ceil().max(0.0);
    if count > Budget::MOST_BYTES as f64 {
        return Err(format!("a range from {start} to {limit} by {delta} is too large").into());
    }
    let ty = TensorType::new(element, [count as u64])?;
    c.program.allow(&ty)?;
    let value = |i: u64| match is_single {
        true => f64::from(start as f32 + i as f32 * delta as f32),
        false => start + i as f64 * delta,
    };
    let values: Vec<f64> = (0..count as u64).map(value).collect();
    one(Val::Known(Tensor::from_f64(ty, &values)))
}

/// Integers of 64 bits, which double precision does not hold.
fn range_of_integers(c: &mut Ctx<'_>, [start, limit, delta]: [i128; 3]) -> Outputs {
    if delta == 0 {
        return Err(NO_STEP.into());
    }
    let distance = if delta > 0 { limit - start } else { start - limit };
    let count = if distance > 0 { (distance - 1) / delta.abs() + 1 } else { 0 };
    if count > i128::from(Budget::MOST_BYTES) {
        return Err(format!("a range from {start} to {limit} by {delta} is too large").into());
    }
    let ty = TensorType::new(ElementType::I64, [count as u64])?;
    c.program.allow(&ty)?;
    let values: Vec<i64> = (0..count).map(|i| (start + i * delta) as i64).collect();
    one(Val::Known(Tensor::from_elements([count as u64], values).expect("as many as were counted")))
}

/// The upper or the lower triangle of matrices, with zeros elsewhere.
pub(super) fn trilu(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let offset = c.known_number(1, "k")?.unwrap_or(0.0) as i64;
    let is_upper = c.flag("upper", true)?;
    let zero = c.number_like(&x, 0.0);
    let shape = c.shape(&x);
    let [.., rows, columns] = shape[..] else { return Err(format!("{}: expected matrices", c.ty(&x)).into()) };
    let mask = triangle(c.program, rows, columns, |row, column| {
        let diagonal = column.saturating_sub(row);
        if is_upper { diagonal >= offset } else { diagonal <= offset }
    })?;
    one(c.select(&mask, &x, &zero)?)
}

/// A matrix of booleans.
pub(super) fn triangle(
    program: &mut Program,
    rows: u64,
    columns: u64,
    is_in: impl Fn(i64, i64) -> bool,
) -> Result<Val, Fault> {
    let ty = TensorType::new(ElementType::Bool, [rows, columns])?;
    program.allow(&ty)?;
    let elements = (0..rows as i64).flat_map(|row| (0..columns as i64).map(move |column| (row, column)));
    let elements: Vec<f64> = elements.map(|(row, column)| f64::from(u8::from(is_in(row, column)))).collect();
    Ok(Val::Known(Tensor::from_f64(ty, &elements)))
}
