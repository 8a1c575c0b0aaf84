//! Operators whose results have as many elements as their data say: computed at load, since shapes are known then.

use std::cmp::Ordering;

use kiln_ir::func::{ElementType, Structured, Tensor, TensorType};

use super::Row;
use super::math::element;
use crate::import::error::Fault;
use crate::import::node::{Ctx, Outputs, axis_of, one};
use crate::import::program::{Val, list};

pub(super) const OPS: &[Row] = &[
    ("Compress", compress),
    ("EyeLike", eye_like),
    ("NonMaxSuppression", non_max_suppression),
    ("NonZero", non_zero),
    ("Unique", unique),
];

fn non_zero(c: &mut Ctx<'_>) -> Outputs {
    let x = c.known(0, "operand")?.ok_or("lacks its input 0")?;
    let shape = x.ty().shape().to_vec();
    let found: Vec<u64> = x.to_f64().iter().zip(0..).filter(|(v, _)| **v != 0.0).map(|(_, at)| at).collect();
    let ty = TensorType::new(ElementType::I64, [shape.len() as u64, found.len() as u64])?;
    c.program.allow(&ty)?;
    let mut coordinates = vec![];
    for axis in 0..shape.len() {
        let inner: u64 = shape[axis + 1..].iter().product();
        coordinates.extend(found.iter().map(|at| (at / inner % shape[axis]) as i64));
    }
    let tensor = Tensor::from_elements([shape.len() as u64, found.len() as u64], coordinates);
    one(Val::Known(tensor.map_err(|e| e.to_string())?))
}

fn compress(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let condition = c.known_ints(1, "condition")?.ok_or("lacks its input 1")?;
    let (x, axis) = match c.int_or_none("axis")? {
        Some(axis) => (x.clone(), axis_of(axis, c.rank(&x))?),
        None => (c.reshape(&x, [c.ty(&x).elements()])?, 0),
    };
    let size = c.shape(&x)[axis];
    if condition.len() as u64 > size {
        return Err(format!("a condition of {} for an axis with {size} elements", condition.len()).into());
    }
    let kept = condition.iter().zip(0..).filter(|(holds, _)| **holds != 0).map(|(_, at)| at).collect();
    one(c.push(Structured::Gather { axis: axis as u64 }, &[&x, &list(kept)])?)
}

/// Ones on a diagonal of a matrix of another's shape.
fn eye_like(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let &[rows, columns] = &c.shape(&x)[..] else { return Err(format!("{}: expected a matrix", c.ty(&x)).into()) };
    let to = match c.int_or_none("dtype")? {
        Some(number) => element(number)?,
        None => c.element(&x),
    };
    let diagonal = c.int("k", 0)?;
    let is_one =
        super::shapes::triangle(c.program, rows, columns, |row, column| column.checked_sub(row) == Some(diagonal))?;
    one(c.cast(&is_one, to)?)
}

/// Numbers in an order that all of them have a place in: NaN is one number, above all others, and zeros have no sign.
fn keys(x: &Tensor) -> Vec<i128> {
    if let Some(wide) = x.elements::<u64>() {
        return wide.iter().map(|v| (*v).into()).collect();
    }
    match x.to_i64() {
        Some(ints) => ints.into_iter().map(Into::into).collect(),
        None => x.to_f64().into_iter().map(float_key).collect(),
    }
}

fn float_key(v: f64) -> i128 {
    let bits = if v.is_nan() { f64::NAN.abs().to_bits() } else { (v + 0.0).to_bits() } as i64;
    // The bits of negative numbers grow downwards.
    (if bits < 0 { bits ^ i64::MAX } else { bits }).into()
}

/// The distinct elements or slices, where each is first, which each one is, and how often each is there.
fn unique(c: &mut Ctx<'_>) -> Outputs {
    let mut x = c.known(0, "operand")?.ok_or("lacks its input 0")?;
    let sorted = c.flag("sorted", true)?;
    let axis = match c.int_or_none("axis")? {
        Some(axis) => axis_of(axis, x.ty().rank())?,
        None => {
            x = x.reshaped([x.ty().elements()]).expect("as many elements");
            0
        }
    };
    let (shape, keys) = (x.ty().shape().to_vec(), keys(&x));
    let (count, inner) = (shape[axis] as usize, shape[axis + 1..].iter().product::<u64>() as usize);
    c.program.allow(&TensorType::new(ElementType::I64, [x.ty().elements().saturating_mul(4)])?)?;
    // Slices by their number along the axis.
    let mut slices = vec![Vec::with_capacity(keys.len() / count.max(1)); count];
    for (row, keys) in keys.chunks_exact(inner.max(1)).enumerate() {
        slices[row % count].extend_from_slice(keys);
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| slices[*a].cmp(&slices[*b]));
    // Of equal ones, the first is before the others.
    let mut groups: Vec<Vec<usize>> = vec![];
    for at in order {
        match groups.last_mut().filter(|group| slices[group[0]] == slices[at]) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let mut which = vec![0; count];
    for (number, group) in groups.iter().enumerate() {
        group.iter().for_each(|at| which[*at] = number as i64);
    }
    let first = list(groups.iter().map(|group| group[0] as i64).collect());
    let counts = list(groups.iter().map(|group| group.len() as i64).collect());
    let y = c.push(Structured::Gather { axis: axis as u64 }, &[&Val::Known(x), &first])?;
    Ok(vec![y, first, list(which), counts])
}

/// The corners of a box, the lesser first: `[top, left, bottom, right]`.
fn corners(of: &[f64], is_centre: bool) -> [f64; 4] {
    let [a, b, c, d] = [of[0], of[1], of[2], of[3]];
    if is_centre {
        // Centre, width and height, each x first.
        return [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0];
    }
    [a.min(c), b.min(d), a.max(c), b.max(d)]
}

/// The part of two boxes' area that they share.
fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let area = |b: [f64; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let [height, width] = [0, 1].map(|i| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0));
    let (shared, all) = (height * width, area(a) + area(b));
    if shared <= 0.0 || area(a) <= 0.0 || area(b) <= 0.0 { 0.0 } else { shared / (all - shared) }
}

/// Of each class the boxes with the greatest scores that do not overlap one taken before: batch, class and box of each.
fn non_max_suppression(c: &mut Ctx<'_>) -> Outputs {
    let boxes = c.known(0, "boxes")?.ok_or("lacks its input 0")?;
    let scores = c.known(1, "scores")?.ok_or("lacks its input 1")?;
    let most = c.known_number(2, "max_output_boxes_per_class")?.unwrap_or(0.0);
    let threshold = c.known_number(3, "iou_threshold")?.unwrap_or(0.0);
    let least = c.known_number(4, "score_threshold")?;
    let is_centre = c.flag("center_point_box", false)?;
    let (&[batch, count, 4], &[batches, classes, scored]) = (boxes.ty().shape(), scores.ty().shape()) else {
        return Err(format!("boxes {} and scores {}", boxes.ty(), scores.ty()).into());
    };
    if batch != batches || count != scored {
        return Err(format!("boxes {} and scores {}", boxes.ty(), scores.ty()).into());
    }
    // Every box may be compared with every other one.
    let work = TensorType::new(ElementType::U8, [batch, classes, count]).map_err(Fault::from)?;
    c.program.allow(&work)?;
    let (boxes, scores, count) = (boxes.to_f64(), scores.to_f64(), count as usize);
    let mut selected: Vec<i64> = vec![];
    for (lane, scores) in scores.chunks_exact(count.max(1)).enumerate() {
        let (batch, class) = (lane / classes.max(1) as usize, lane % classes.max(1) as usize);
        let boxes = &boxes[batch * count * 4..][..count * 4];
        let mut order: Vec<usize> =
            (0..scores.len()).filter(|i| least.is_none_or(|least| scores[*i] > least)).collect();
        order.sort_by(|a, b| scores[*b].partial_cmp(&scores[*a]).unwrap_or(Ordering::Equal));
        let mut taken: Vec<[f64; 4]> = vec![];
        for at in order {
            if taken.len() as f64 >= most {
                break;
            }
            let own = corners(&boxes[4 * at..][..4], is_centre);
            if taken.iter().all(|other| overlap(*other, own) <= threshold) {
                taken.push(own);
                selected.extend([batch as i64, class as i64, at as i64]);
            }
        }
    }
    let tensor = Tensor::from_elements([selected.len() as u64 / 3, 3], selected);
    one(Val::Known(tensor.map_err(|e| e.to_string())?))
}
