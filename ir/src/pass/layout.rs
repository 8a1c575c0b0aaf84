//! The order of axes: convolutions with channels last, and transposes moved towards the results, where they meet others and
//! vanish, or a kernel that writes in the other order.

use super::rewriter::{Rewriter, def};
use crate::func::{Func, FuncError, Structured, TensorOp, ValueId};

/// Axes of images from channels first to channels last.
fn to_last(rank: usize) -> Vec<u64> {
    let rank = rank as u64;
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

/// And back.
fn to_first(rank: usize) -> Vec<u64> {
    let rank = rank as u64;
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}

/// Writes every convolution with channels last, between transposes.
pub(super) fn channels_last(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        match r.def(id) {
            Some((TensorOp::Structured(op @ Structured::Conv { channels_last: false, .. }), operands)) => {
                let rank = func.value(id).ty.rank();
                let x = r.emit(Structured::Transpose { perm: to_last(rank) }, &[r.get(operands[0])])?;
                let mut op = op.clone();
                if let Structured::Conv { channels_last, .. } = &mut op {
                    *channels_last = true;
                }
                let y = r.emit(op, &[x, r.get(operands[1])])?;
                r.replace(id, Structured::Transpose { perm: to_first(rank) }, &[y])?;
            }
            _ => r.keep(id)?,
        }
    }
    r.finish()
}

/// Moves transposes behind the operations that read them, where those can as well be done before.
pub(super) fn sink_transposes(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let sunk = match r.def(id) {
            Some((op, operands)) => {
                let operands = r.all(operands);
                sink(&mut r, op, &operands, func.value(id).ty.rank())?
            }
            None => None,
        };
        match sunk {
            Some(Sunk { value, perm }) => r.replace(id, Structured::Transpose { perm }, &[value])?,
            None => r.keep(id)?,
        }
    }
    r.finish()
}

/// A value that was computed in another order of axes, and the transpose that is left to do.
struct Sunk {
    value: ValueId,
    perm: Vec<u64>,
}

/// What a new value is the transpose of, and how.
fn transposed(r: &Rewriter<'_>, id: ValueId) -> Option<(ValueId, Vec<u64>)> {
    match def(r.value(id)) {
        Some((TensorOp::Structured(Structured::Transpose { perm }), from)) => Some((from[0], perm.clone())),
        _ => None,
    }
}

/// The order that undoes another.
pub(super) fn inverse(perm: &[u64]) -> Vec<u64> {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, p)| inverse[*p as usize] = i as u64);
    inverse
}

/// A list by axis of the result as one by axis of the transposed operand.
fn by_source<T: Clone + Default>(list: &[T], perm: &[u64]) -> Vec<T> {
    let mut moved = vec![T::default(); list.len()];
    list.iter().zip(perm).for_each(|(v, p)| moved[*p as usize] = v.clone());
    moved
}

fn sink(r: &mut Rewriter<'_>, op: &TensorOp, operands: &[ValueId], rank: usize) -> Result<Option<Sunk>, FuncError> {
    let by_element = match op {
        TensorOp::Unary(_) | TensorOp::Binary(_) => true,
        TensorOp::Structured(op) => matches!(op, Structured::Cast { .. } | Structured::Where {}),
        TensorOp::Control(_) => false,
    };
    if by_element {
        return sink_elementwise(r, op, operands, rank);
    }
    let TensorOp::Structured(op) = op else { return Ok(None) };
    let Some((from, perm)) = operands.first().and_then(|x| transposed(r, *x)) else { return Ok(None) };
    let source_axis = |axis: u64| perm[axis as usize];
    let moved = match op {
        Structured::Softmax { axis } => Structured::Softmax { axis: source_axis(*axis) },
        Structured::MaskedSoftmax { axis } => Structured::MaskedSoftmax { axis: source_axis(*axis) },
        Structured::LogSoftmax { axis } => Structured::LogSoftmax { axis: source_axis(*axis) },
        Structured::Pool { channels_last: false, .. } if perm == to_first(rank) => {
            let mut op = op.clone();
            if let Structured::Pool { channels_last, .. } = &mut op {
                *channels_last = true;
            }
            op
        }
        Structured::BatchNorm { epsilon, channels_last: false } if rank >= 2 && perm == to_first(rank) => {
            Structured::BatchNorm { epsilon: *epsilon, channels_last: true }
        }
        Structured::Slice { starts, steps, counts } => Structured::Slice {
            starts: by_source(starts, &perm),
            steps: by_source(steps, &perm),
            counts: by_source(counts, &perm),
        },
        Structured::Pad { mode, before, after, value } => Structured::Pad {
            mode: *mode,
            before: by_source(before, &perm),
            after: by_source(after, &perm),
            value: *value,
        },
        Structured::Gather { axis } if r.value(operands[1]).ty.rank() == 1 => {
            Structured::Gather { axis: source_axis(*axis) }
        }
        Structured::Reduce { kind, axes, keep } => {
            let mut sources: Vec<u64> = axes.iter().map(|a| source_axis(*a)).collect();
            sources.sort_unstable();
            let kept: Vec<u64> = (0..perm.len() as u64).filter(|a| *keep || !sources.contains(a)).collect();
            let place = |source: u64| kept.iter().position(|k| *k == source).map(|at| at as u64);
            let left = perm.iter().filter_map(|p| place(*p)).collect();
            let value = r.emit(Structured::Reduce { kind: *kind, axes: sources, keep: *keep }, &[from])?;
            return Ok(Some(Sunk { value, perm: left }));
        }
        Structured::Concat { axis } => {
            let sources: Option<Vec<_>> =
                operands.iter().map(|o| transposed(r, *o).filter(|(_, p)| *p == perm).map(|(from, _)| from)).collect();
            let Some(sources) = sources else { return Ok(None) };
            let value = r.emit(Structured::Concat { axis: source_axis(*axis) }, &sources)?;
            return Ok(Some(Sunk { value, perm }));
        }
        _ => return Ok(None),
    };
    let on: Vec<_> = [from].into_iter().chain(operands[1..].iter().copied()).collect();
    let value = r.emit(moved, &on)?;
    Ok(Some(Sunk { value, perm }))
}

/// The same on the sources of transposes, if all operands that are as large as the result are transposed alike.
fn sink_elementwise(
    r: &mut Rewriter<'_>,
    op: &TensorOp,
    operands: &[ValueId],
    rank: usize,
) -> Result<Option<Sunk>, FuncError> {
    let Some(perm) = operands.iter().find_map(|o| transposed(r, *o).map(|(_, perm)| perm).filter(|p| p.len() == rank))
    else {
        return Ok(None);
    };
    let largest = operands.iter().map(|o| r.value(*o).ty.elements()).max().unwrap_or_default();
    let is_alike = |o: &ValueId| match transposed(r, *o) {
        Some((_, p)) if p == perm => true,
        _ => r.as_constant(*o).is_some() || r.value(*o).ty.elements() < largest,
    };
    if !operands.iter().all(is_alike) {
        return Ok(None);
    }
    let mut on = vec![];
    for o in operands {
        on.push(match transposed(r, *o) {
            Some((from, p)) if p == perm => from,
            _ => {
                let shape = r.value(*o).ty.shape().to_vec();
                if shape.iter().all(|d| *d == 1) {
                    *o
                } else {
                    let aligned: Vec<u64> = vec![1; rank - shape.len()].into_iter().chain(shape).collect();
                    let aligned = r.reshape(*o, &aligned)?;
                    r.emit(Structured::Transpose { perm: inverse(&perm) }, &[aligned])?
                }
            }
        });
    }
    let value = r.emit(op.clone(), &on)?;
    Ok(Some(Sunk { value, perm }))
}
