//! Parts of tensors.

use kiln_ir::func::Structured;
use kiln_ir::text::Listed;

use super::Row;
use crate::import::node::{Ctx, Outputs, axes_of, axis_of, numbers, one};

pub(super) const OPS: &[Row] = &[("Slice", slice), ("Split", split)];

fn slice(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let starts = c.setting("starts", 1)?.ok_or("lacks its starts")?;
    let ends = c.setting("ends", 2)?.ok_or("lacks its ends")?;
    let shape = c.shape(&x);
    let axes = match c.setting("axes", 3)? {
        Some(axes) => axes_of(&axes, shape.len())?,
        None => (0..starts.len()).collect(),
    };
    let steps = c.known_ints(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    let count = starts.len();
    if ends.len() != count || axes.len() != count || steps.len() != count || count > shape.len() {
        return Err(format!(
            "starts {}, ends {}, axes {}, steps {} of {}",
            Listed(&starts),
            Listed(&ends),
            Listed(&axes),
            Listed(&steps),
            c.ty(&x)
        )
        .into());
    }
    let (mut first, mut by, mut counts) = (vec![0; shape.len()], vec![1; shape.len()], shape.clone());
    for (i, axis) in axes.into_iter().enumerate() {
        if steps[i] == 0 {
            return Err("a step is 0".into());
        }
        let (size, step) = (shape[axis] as i128, i128::from(steps[i]));
        let from_first = |at: i64| if at < 0 { i128::from(at) + size } else { i128::from(at) };
        // Backwards, a slice begins at the last element at most and ends before the first at most.
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_first(starts[i]).clamp(low.max(0), high.max(0));
        let end = from_first(ends[i]).clamp(low, high);
        let distance = (end - start) * step.signum();
        let elements = if distance > 0 && size > 0 { (distance - 1) / step.abs() + 1 } else { 0 };
        (first[axis], by[axis], counts[axis]) = (start as u64, steps[i], elements as u64);
    }
    if counts == shape && by.iter().all(|step| *step == 1) {
        return one(x);
    }
    one(c.push(Structured::Slice { starts: first, steps: by, counts }, &[&x])?)
}

fn split(c: &mut Ctx<'_>) -> Outputs {
    let x = c.input(0)?;
    let axis = axis_of(c.int("axis", 0)?, c.rank(&x))?;
    let size = c.shape(&x)[axis];
    let outputs = c.output_count();
    if let Some(count) = c.int_or_none("num_outputs")?.filter(|count| usize::try_from(*count) != Ok(outputs)) {
        return Err(format!("attribute `num_outputs` is {count}, and it has {outputs} output(s)").into());
    }
    let parts = match c.setting("split", 1)? {
        Some(parts) => numbers("split", &parts)?,
        None => {
            // As many as there are outputs; the last is the smaller one.
            let count = outputs.max(1) as u64;
            let each = size.div_ceil(count);
            (0..count).map(|i| size.saturating_sub(i * each).min(each)).collect()
        }
    };
    let sum = parts.iter().try_fold(0u64, |all, n| all.checked_add(*n));
    if sum != Some(size) || parts.len() != outputs {
        return Err(
            format!("parts of {} for {outputs} output(s) of an axis with {size} elements", Listed(&parts)).into()
        );
    }
    let mut start = 0;
    let mut outputs = vec![];
    for count in parts {
        // An empty part may begin where nothing is.
        let from = if count == 0 { 0 } else { start };
        outputs.push(c.slice(&x, axis, from, 1, count)?);
        start += count;
    }
    Ok(outputs)
}
