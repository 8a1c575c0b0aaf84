//! Sequences and optionals. Which values they hold is known at load, and functions of tensors have tensors alone.

use std::rc::Rc;

use kiln_ir::func::Tensor;

use super::error::Fault;
use super::node::{Ctx, axis_of, numbers};
use super::program::{Val, boolean};
use super::scope::Item;
use super::state::Import;
use crate::graph::Node;

type Made = Result<Vec<Item>, Fault>;

/// The import of a node of sequences or optionals.
pub(super) type ImportItems = fn(&mut Import<'_>, &Node, i64, Vec<Option<Item>>) -> Made;

pub(super) const OPS: &[(&str, ImportItems)] = &[
    ("ConcatFromSequence", concat),
    ("Optional", optional),
    ("OptionalGetElement", get_element),
    ("OptionalHasElement", has_element),
    ("SequenceAt", at),
    ("SequenceConstruct", construct),
    ("SequenceEmpty", |_, _, _, _| Ok(vec![sequence(vec![])])),
    ("SequenceErase", erase),
    ("SequenceInsert", insert),
    ("SequenceLength", length),
    ("SplitToSequence", split),
];

fn sequence(items: Vec<Item>) -> Item {
    Item::Sequence(Rc::new(items))
}

fn input(inputs: &[Option<Item>], at: usize) -> Result<Item, Fault> {
    inputs.get(at).cloned().flatten().ok_or_else(|| format!("lacks its input {at}").into())
}

/// The elements of a sequence.
fn items(inputs: &[Option<Item>], at: usize) -> Result<Rc<Vec<Item>>, Fault> {
    match input(inputs, at)? {
        Item::Sequence(items) => Ok(items),
        other => Err(format!("its input {at} is {}: expected a sequence", other.what()).into()),
    }
}

/// A position below `most` in a sequence of so many elements. A negative one counts from the end.
fn position(
    import: &mut Import<'_>,
    node: &Node,
    opset: i64,
    inputs: &[Option<Item>],
    at: usize,
    (elements, most): (usize, usize),
) -> Result<Option<usize>, Fault> {
    let Some(item) = inputs.get(at).cloned().flatten() else { return Ok(None) };
    let mut values = vec![None; at];
    values.push(Some(item.tensor(at)?));
    let mut ctx = Ctx::new(node, opset, values, &mut import.program);
    let ints = ctx.known_ints(at, "position")?.unwrap_or_default();
    let &[position] = &ints[..] else { return Err(format!("its position is {ints:?}: expected one number").into()) };
    let from_first = if position < 0 { position.saturating_add(elements as i64) } else { position };
    let found = usize::try_from(from_first).ok().filter(|p| *p < most);
    found.map(Some).ok_or_else(|| format!("its position {position} is not in a sequence of {elements}").into())
}

fn construct(import: &mut Import<'_>, _: &Node, _: i64, inputs: Vec<Option<Item>>) -> Made {
    import.spend(inputs.len())?;
    Ok(vec![sequence((0..inputs.len()).map(|at| input(&inputs, at)).collect::<Result<_, _>>()?)])
}

fn at(import: &mut Import<'_>, node: &Node, opset: i64, inputs: Vec<Option<Item>>) -> Made {
    let items = items(&inputs, 0)?;
    let at = position(import, node, opset, &inputs, 1, (items.len(), items.len()))?.ok_or("lacks its input 1")?;
    Ok(vec![items[at].clone()])
}

fn insert(import: &mut Import<'_>, node: &Node, opset: i64, inputs: Vec<Option<Item>>) -> Made {
    let mut items = items(&inputs, 0)?.to_vec();
    import.spend(items.len())?;
    let last = items.len();
    // The new element comes before the one at the position, or last.
    let at = match position(import, node, opset, &inputs, 2, (last, last + 1)) {
        Ok(at) => at.unwrap_or(last),
        Err(fault) => return Err(fault),
    };
    items.insert(at, input(&inputs, 1)?);
    Ok(vec![sequence(items)])
}

fn erase(import: &mut Import<'_>, node: &Node, opset: i64, inputs: Vec<Option<Item>>) -> Made {
    let mut items = items(&inputs, 0)?.to_vec();
    import.spend(items.len())?;
    let at = position(import, node, opset, &inputs, 1, (items.len(), items.len()))?;
    let at = at.or(items.len().checked_sub(1)).ok_or("the sequence is empty")?;
    items.remove(at);
    Ok(vec![sequence(items)])
}

fn length(_: &mut Import<'_>, _: &Node, _: i64, inputs: Vec<Option<Item>>) -> Made {
    let length = items(&inputs, 0)?.len() as i64;
    Ok(vec![Item::Tensor(Val::Known(Tensor::scalar(length)))])
}

fn concat(import: &mut Import<'_>, node: &Node, opset: i64, inputs: Vec<Option<Item>>) -> Made {
    let items = items(&inputs, 0)?;
    let values = items.iter().map(|item| item.clone().tensor(0)).collect::<Result<Vec<_>, _>>()?;
    let mut ctx = Ctx::new(node, opset, vec![], &mut import.program);
    let is_new = ctx.flag("new_axis", false)?;
    let rank = ctx.rank(values.first().ok_or("the sequence is empty, so that it has no type")?);
    let axis = ctx.int_or_none("axis")?.ok_or("lacks its attribute `axis`")?;
    let axis = axis_of(axis, rank + usize::from(is_new))?;
    let mut parts = vec![];
    for value in values {
        let mut shape = ctx.shape(&value);
        if is_new {
            if axis > shape.len() {
                return Err(format!("there is no axis {axis} in {}", ctx.ty(&value)).into());
            }
            shape.insert(axis, 1);
        }
        parts.push(ctx.reshape(&value, shape)?);
    }
    Ok(vec![Item::Tensor(ctx.concat(&parts.iter().collect::<Vec<_>>(), axis)?)])
}

fn split(import: &mut Import<'_>, node: &Node, opset: i64, inputs: Vec<Option<Item>>) -> Made {
    let x = input(&inputs, 0)?.tensor(0)?;
    let sizes = inputs.get(1).cloned().flatten().map(|item| item.tensor(1)).transpose()?;
    let has_sizes = sizes.is_some();
    let mut ctx = Ctx::new(node, opset, vec![Some(x.clone()), sizes.clone()], &mut import.program);
    let axis = axis_of(ctx.int("axis", 0)?, ctx.rank(&x))?;
    let all = ctx.shape(&x)[axis];
    let keeps = has_sizes || ctx.flag("keepdims", true)?;
    let counts = match ctx.known_ints(1, "split")? {
        None => None,
        Some(ints) => {
            let is_scalar = sizes.as_ref().is_some_and(|sizes| ctx.rank(sizes) == 0);
            let counts = numbers("split", &ints)?;
            match counts[..] {
                [0] if is_scalar => return Err("`split` is 0: parts have one element or more".into()),
                [each] if is_scalar => Some((each, all.div_ceil(each), vec![])),
                _ if counts.iter().try_fold(0u64, |sum, n| sum.checked_add(*n)) == Some(all) => {
                    Some((0, counts.len() as u64, counts))
                }
                _ => return Err(format!("`split` is {counts:?}, and the axis has {all} elements").into()),
            }
        }
    };
    let (each, parts, counts) = counts.unwrap_or((1, all, vec![]));
    drop(ctx);
    import.spend(usize::try_from(parts).unwrap_or(usize::MAX))?;
    let mut ctx = Ctx::new(node, opset, vec![], &mut import.program);
    let (mut made, mut start) = (vec![], 0);
    for part in 0..parts {
        let count = counts.get(part as usize).copied().unwrap_or_else(|| each.min(all - start));
        let mut value = ctx.slice(&x, axis, start, 1, count)?;
        if !keeps {
            let mut shape = ctx.shape(&value);
            shape.remove(axis);
            value = ctx.reshape(&value, shape)?;
        }
        made.push(Item::Tensor(value));
        start += count;
    }
    Ok(vec![sequence(made)])
}

fn optional(_: &mut Import<'_>, _: &Node, _: i64, inputs: Vec<Option<Item>>) -> Made {
    Ok(vec![Item::Optional(inputs.into_iter().next().flatten().map(Box::new))])
}

fn has_element(_: &mut Import<'_>, _: &Node, _: i64, inputs: Vec<Option<Item>>) -> Made {
    let has = match inputs.into_iter().next().flatten() {
        None | Some(Item::Optional(None)) => false,
        Some(_) => true,
    };
    Ok(vec![Item::Tensor(boolean(has))])
}

fn get_element(_: &mut Import<'_>, _: &Node, _: i64, inputs: Vec<Option<Item>>) -> Made {
    match input(&inputs, 0)? {
        Item::Optional(Some(item)) => Ok(vec![*item]),
        Item::Optional(None) => Err("its input is empty: there is no element to get".into()),
        item => Ok(vec![item]),
    }
}
