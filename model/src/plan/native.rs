//! Vectorised code for operations that networks often have.

use kiln_ir::func::sampling::Grid;
use kiln_ir::func::{Element, ElementType, Merge, PadMode, Structured, TensorOp, TensorType};

use super::action::{Action, Input};
use super::threads::RuntimeThreads;
use crate::error::ModelError;
use crate::ops::{self, IndexOutOfRange, Indices, Op, Source, Windows};

/// The code of an operation, if there is such.
pub(super) fn action(
    layer: &str,
    op: &TensorOp,
    operands: &[&TensorType],
    result: &TensorType,
) -> Option<Box<dyn Action>> {
    let all_f32 = operands.iter().chain([&result]).all(|t| t.element() == ElementType::F32);
    match op {
        TensorOp::Unary(op) if all_f32 => elementwise(Op::Unary(op.clone()), operands, result),
        TensorOp::Binary(op) if all_f32 => elementwise(Op::Binary(op.clone()), operands, result),
        TensorOp::Structured(op) => {
            moved(layer, op, operands).or_else(|| if all_f32 { structured(op, operands) } else { None })
        }
        _ => None,
    }
}

/// A shape as indices of this machine.
fn dims(shape: &[u64]) -> Vec<usize> {
    shape.iter().map(|d| *d as usize).collect()
}

fn f32s(bytes: &[u8]) -> &[f32] {
    bytemuck::cast_slice(bytes)
}

/// Bytes of an operand that is not where the result is.
fn apart<'a>(input: &Input<'a>) -> &'a [u8] {
    input.expect("only operands that may be are written over")
}

/// Code that writes f32, and over its first operands if it may.
struct Run<F> {
    /// The number of operands, from the first on, that may be written over.
    in_place: usize,
    run: F,
}

impl<F> Action for Run<F>
where
    F: Fn(&RuntimeThreads<'_>, &[Input<'_>], &mut [u8]) -> Result<(), ModelError> + Send + Sync,
{
    fn in_place(&self, operand: usize) -> bool {
        operand < self.in_place
    }

    fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        inputs: &[Input<'_>],
        dst: &mut [u8],
        _: &mut [u8],
    ) -> Result<(), ModelError> {
        (self.run)(threads, inputs, dst)
    }
}

/// Code on f32 that cannot fail.
fn on_f32(
    in_place: usize,
    run: impl Fn(&RuntimeThreads<'_>, &[Option<&[f32]>], &mut [f32]) + Send + Sync + 'static,
) -> Box<dyn Action> {
    let run = move |threads: &RuntimeThreads<'_>, inputs: &[Input<'_>], dst: &mut [u8]| {
        // No operation here has more operands, and none allocates.
        let mut on = [None; 3];
        on.iter_mut().zip(inputs).for_each(|(slot, input)| *slot = input.map(f32s));
        run(threads, &on[..inputs.len()], bytemuck::cast_slice_mut(dst));
        Ok(())
    };
    Box::new(Run { in_place, run })
}

/// Code that moves bytes and cannot fail.
fn on_bytes(run: impl Fn(&RuntimeThreads<'_>, &[u8], &mut [u8]) + Send + Sync + 'static) -> Box<dyn Action> {
    let run = move |threads: &RuntimeThreads<'_>, inputs: &[Input<'_>], dst: &mut [u8]| {
        run(threads, apart(&inputs[0]), dst);
        Ok(())
    };
    Box::new(Run { in_place: 0, run })
}

fn elementwise(op: Op, operands: &[&TensorType], result: &TensorType) -> Option<Box<dyn Action>> {
    let shapes: Vec<Vec<usize>> = operands.iter().map(|t| dims(t.shape())).collect();
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    let inputs = (0..operands.len()).map(ops::Input::Operand).collect();
    let plan = ops::Elementwise::new(&dims(result.shape()), &shapes, vec![ops::Step { op, inputs }]).ok()?;
    let count = operands.len();
    Some(on_f32(count, move |threads, inputs, dst| {
        let mut sources = [Source::Dst; 3];
        for (source, input) in sources.iter_mut().zip(inputs) {
            *source = input.map_or(Source::Dst, Source::Memory);
        }
        plan.run(threads, &sources[..count], dst);
    }))
}

/// The code that moves elements of any type.
fn moved(layer: &str, op: &Structured, operands: &[&TensorType]) -> Option<Box<dyn Action>> {
    let x = *operands.first()?;
    let (shape, bytes) = (dims(x.shape()), x.element().bytes());
    Some(match op {
        Structured::Transpose { perm } => {
            let plan = ops::Transpose::new(bytes, &shape, &dims(perm)).ok()?;
            on_bytes(move |threads, src, dst| plan.run(threads, src, dst))
        }
        Structured::Broadcast { shape: to } => {
            let plan = ops::Broadcast::new(bytes, &shape, &dims(to)).ok()?;
            on_bytes(move |threads, src, dst| plan.run(threads, src, dst))
        }
        Structured::Slice { starts, steps, counts } => {
            let plan = ops::Slice::new(bytes, &shape, &dims(starts), steps, &dims(counts)).ok()?;
            on_bytes(move |threads, src, dst| plan.run(threads, src, dst))
        }
        Structured::Pad { mode, before, after, value } => {
            let mut filler = [0; 8];
            match (mode, x.element()) {
                (PadMode::Constant, ElementType::F32) => {
                    filler[..4].copy_from_slice(&f32::from_f64(value.0).to_ne_bytes());
                }
                (PadMode::Constant, _) if value.0 != 0.0 => return None,
                _ => {}
            }
            let plan = ops::Pad::new(bytes, &shape, *mode, &dims(before), &dims(after), filler).ok()?;
            on_bytes(move |threads, src, dst| plan.run(threads, src, dst))
        }
        Structured::Concat { axis } => {
            let shapes: Vec<Vec<usize>> = operands.iter().map(|t| dims(t.shape())).collect();
            let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
            let plan = ops::Concat::new(bytes, &shapes, *axis as usize).ok()?;
            let run = move |threads: &RuntimeThreads<'_>, inputs: &[Input<'_>], dst: &mut [u8]| {
                let sources: Vec<&[u8]> = inputs.iter().map(apart).collect();
                plan.run(threads, &sources, dst);
                Ok(())
            };
            Box::new(Run { in_place: 0, run })
        }
        Structured::Gather { axis } => {
            let count = operands[1].elements() as usize;
            let plan = ops::Gather::new(bytes, &shape, *axis as usize, count).ok()?;
            indexed(layer, operands[1], 0, move |threads, inputs, indices, dst| {
                plan.run(threads, apart(&inputs[0]), indices, dst)
            })
        }
        Structured::GatherElements { axis } => {
            let plan = ops::GatherAt::elements(bytes, &shape, &dims(operands[1].shape()), *axis as usize).ok()?;
            indexed(layer, operands[1], 0, move |threads, inputs, indices, dst| {
                plan.run(threads, apart(&inputs[0]), indices, dst)
            })
        }
        Structured::GatherNd { batch } => {
            let plan = ops::GatherAt::rows(bytes, &shape, &dims(operands[1].shape()), *batch as usize).ok()?;
            indexed(layer, operands[1], 0, move |threads, inputs, indices, dst| {
                plan.run(threads, apart(&inputs[0]), indices, dst)
            })
        }
        Structured::ScatterElements { axis, merge } => {
            let plan = ops::Scatter::elements(&shape, &dims(operands[1].shape()), *axis as usize).ok()?;
            scattered(layer, *merge, operands, plan)?
        }
        Structured::ScatterNd { merge } => {
            let plan = ops::Scatter::rows(&shape, &dims(operands[1].shape())).ok()?;
            scattered(layer, *merge, operands, plan)?
        }
        Structured::BitCast { .. } => on_bytes(|_, src, dst| dst.copy_from_slice(src)),
        Structured::TopK { k, axis, largest } if x.element() == ElementType::F32 => {
            let plan = ops::TopK::new(&shape, *axis as usize, *k as usize, *largest).ok()?;
            on_bytes(move |threads, src, dst| plan.run(threads, f32s(src), bytemuck::cast_slice_mut(dst)))
        }
        _ => return None,
    })
}

/// Code that reads indices, its second operand, and says of which layer one is wrong.
fn indexed(
    layer: &str,
    indices: &TensorType,
    in_place: usize,
    run: impl Fn(&RuntimeThreads<'_>, &[Input<'_>], Indices<'_>, &mut [u8]) -> Result<(), IndexOutOfRange>
    + Send
    + Sync
    + 'static,
) -> Box<dyn Action> {
    let (layer, is_wide) = (layer.to_owned(), indices.element() == ElementType::I64);
    let run = move |threads: &RuntimeThreads<'_>, inputs: &[Input<'_>], dst: &mut [u8]| {
        let indices = apart(&inputs[1]);
        let indices = match is_wide {
            true => Indices::I64(bytemuck::cast_slice(indices)),
            false => Indices::I32(bytemuck::cast_slice(indices)),
        };
        run(threads, inputs, indices, dst).map_err(|e| ModelError::Index {
            layer: layer.clone(),
            index: e.index,
            extent: e.extent as u64,
        })
    };
    Box::new(Run { in_place, run })
}

/// Code that merges its third operand into its first, or into a copy of that; only elements that replace others are of any type.
fn scattered(layer: &str, merge: Merge, operands: &[&TensorType], plan: ops::Scatter) -> Option<Box<dyn Action>> {
    let (element, bytes) = (operands[0].element(), operands[0].element().bytes());
    if merge != Merge::Replace && element != ElementType::F32 {
        return None;
    }
    Some(indexed(layer, operands[1], 1, move |_, inputs, indices, dst| {
        if let Some(x) = inputs[0] {
            dst.copy_from_slice(x);
        }
        let updates = apart(&inputs[2]);
        match merge {
            Merge::Replace => plan.replace(bytes, indices, updates, dst),
            _ => plan.merge(merge, indices, f32s(updates), bytemuck::cast_slice_mut(dst)),
        }
    }))
}

fn structured(op: &Structured, operands: &[&TensorType]) -> Option<Box<dyn Action>> {
    let shape = dims(operands[0].shape());
    Some(match op {
        Structured::Softmax { axis } => {
            let plan = ops::Softmax::new(&shape, *axis as usize).ok()?;
            on_f32(1, move |threads, x, dst| plan.run(threads, x[0], dst))
        }
        Structured::MaskedSoftmax { axis } => {
            let plan = ops::Softmax::masked(&shape, *axis as usize).ok()?;
            on_f32(1, move |threads, x, dst| plan.run(threads, x[0], dst))
        }
        Structured::LogSoftmax { axis } => {
            let plan = ops::LogSoftmax::new(&shape, *axis as usize).ok()?;
            on_f32(1, move |threads, x, dst| plan.run(threads, x[0], dst))
        }
        Structured::LayerNorm { axis, epsilon } => {
            let plan = ops::LayerNorm::new(&shape, *axis as usize, f32::from_f64(epsilon.0)).ok()?;
            on_f32(1, move |threads, x, dst| {
                plan.run(threads, x[0], x.get(1).copied().flatten(), x.get(2).copied().flatten(), dst);
            })
        }
        Structured::LstmCell {} => {
            let &[batch, hidden] = &dims(operands[1].shape())[..] else { return None };
            let plan = ops::LstmCell::new(batch, hidden).ok()?;
            on_f32(0, move |_, x, dst| {
                let [gates, cell] = [x[0], x[1]].map(|x| x.expect("not in place"));
                plan.run(gates, cell, x.get(2).copied().flatten(), dst);
            })
        }
        Structured::GruCell {} => {
            let &[batch, hidden] = &dims(operands[2].shape())[..] else { return None };
            let plan = ops::GruCell::new(batch, hidden).ok()?;
            on_f32(0, move |threads, x, dst| {
                let [given, recurrent, state] = [x[0], x[1], x[2]].map(|x| x.expect("not in place"));
                plan.run(threads, given, recurrent, state, dst);
            })
        }
        Structured::RmsNorm { axis, epsilon } => {
            let plan = ops::RmsNorm::new(&shape, *axis as usize, f32::from_f64(epsilon.0)).ok()?;
            on_f32(1, move |threads, x, dst| plan.run(threads, x[0], x.get(1).copied().flatten(), dst))
        }
        Structured::Pool { kind, p, kernel, strides, pads, dilations, out, channels_last } => {
            let [kernel, strides, pads, dilations, out] = [kernel, strides, pads, dilations, out].map(|l| dims(l));
            let windows = Windows { kernel: &kernel, strides: &strides, pads: &pads, dilations: &dilations, out: &out };
            let plan = ops::Pool::new(*kind, u32::try_from(*p).ok()?, &shape, windows, *channels_last).ok()?;
            on_f32(0, move |threads, x, dst| plan.run(threads, x[0].expect("not in place"), dst))
        }
        Structured::ColumnsToImage { pixels, taps, strides, pads, dilations, out } => {
            let [pixels, taps, strides, pads, dilations, out] =
                [pixels, taps, strides, pads, dilations, out].map(|l| dims(l));
            let images = shape[0] * (shape[1] / taps.iter().product::<usize>());
            let plan = ops::ColumnsToImage::new(images, &pixels, &taps, &out, &strides, &dilations, &pads).ok()?;
            on_f32(0, move |threads, x, dst| plan.run(threads, x[0].expect("not in place"), dst))
        }
        Structured::GridSample { sampling, outside, align_corners } => {
            let grid = Grid { sampling: *sampling, outside: *outside, align_corners: *align_corners };
            let plan = ops::GridSample::new(grid, &shape, &dims(operands[1].shape())).ok()?;
            on_f32(0, move |threads, x, dst| {
                plan.run(threads, x[0].expect("not in place"), x[1].expect("not in place"), dst);
            })
        }
        Structured::Reduce { kind, axes, .. } => {
            let plan = ops::Reduce::new(*kind, &shape, &dims(axes)).ok()?;
            on_f32(0, move |threads, x, dst| plan.run(threads, x[0].expect("not in place"), dst))
        }
        _ => return None,
    })
}
