use std::collections::BTreeMap;
use std::ops::Range;

use super::footprint::{footprints, in_widths};
use super::{RewriteError, check_map, existing_var, for_each_leaf, for_each_loop, product, refuse, region_of, stride};
use crate::dtype::DType;
use crate::nest::{Access, Affine, Buffer, BufferId, BufferKind, Dim, Extent, Loop, LoopNest, Matrix, Pack, Stmt, Var};

/// Computes the blocks of a region, one in each iteration of loop `at`, in scratch memory if columns of the result are no neighbours: there
/// they are. What is added to, and tensors of post-ops that lie like the result, are copied in before, the result is copied out behind.
/// Blocks have at most so many `[rows, columns]`; `name` tells the region's buffers from others.
pub fn stage(
    mut nest: LoopNest,
    region: Range<usize>,
    at: &str,
    [rows, columns]: [u64; 2],
    name: &str,
) -> Result<LoopNest, RewriteError> {
    check_map(&nest, "stage")?;
    let at = existing_var(&nest, "stage", at)?;
    let n = existing_var(&nest, "stage", "n")?;
    let LoopNest { body, buffers, vars, .. } = &mut nest;
    let region = region_of(body, &region, "stage")?;
    let arguments = buffers.clone();
    let is_apart = |a: &Access| Ok(stride("stage", &arguments[usize::from(a.buffer.0)], a, n)? > 1);
    let Some(result) = product(region).map(|(dst, ..)| dst.clone()) else {
        return refuse("stage", "nothing is computed");
    };
    if !is_apart(&result)? {
        return Ok(nest);
    }
    // The tensors of post-ops by their place among those of a tile.
    let mut operands = vec![];
    for_each_leaf(region, &mut |s| {
        if let Stmt::Post { operand, .. } = s {
            operands.push(operand.clone());
        }
    });
    let dims = || vec![Dim { extent: rows, stride: columns }, Dim { extent: columns, stride: 1 }];
    let mut add = |name: String, dtype: DType| {
        buffers.push(Buffer { name, dtype, kind: BufferKind::Scratch, dims: dims(), interleave: 1 });
        BufferId(buffers.len() as u16 - 1)
    };
    let mut staged = BTreeMap::from([(result.buffer, add(format!("dst_strip{name}"), DType::F32))]);
    let mut order = vec![];
    for (i, a) in operands.iter().enumerate().filter_map(|(i, a)| Some((i, a.as_ref()?))) {
        if !staged.contains_key(&a.buffer) && is_apart(a)? {
            let dtype = arguments[usize::from(a.buffer.0)].dtype;
            staged.insert(a.buffer, add(format!("post_strip{name}_{i}"), dtype));
            order.push(a.buffer);
        }
    }
    let adds = arguments[usize::from(result.buffer.0)].kind == BufferKind::InOut;
    let ins: Vec<BufferId> = adds.then_some(result.buffer).into_iter().chain(order).collect();
    let width = LoopNest::named(vars, "w");
    for_each_loop(region, at, &mut |host| {
        let block = Block { arguments: &arguments, staged: &staged, columns, width };
        block.stage(host, &ins, result.buffer)
    })?;
    Ok(nest.numbered())
}

struct Block<'a> {
    arguments: &'a [Buffer],
    /// The scratch memory of each argument.
    staged: &'a BTreeMap<BufferId, BufferId>,
    columns: u64,
    width: Var,
}

impl Block<'_> {
    fn stage(&self, host: &mut Loop, ins: &[BufferId], result: BufferId) -> Result<(), RewriteError> {
        let mut before = vec![];
        for tensor in ins {
            before.extend(self.copy(&host.body, *tensor, false)?);
        }
        let behind = self.copy(&host.body, result, true)?;
        for tensor in self.staged.keys() {
            let prints = footprints(&host.body, *tensor);
            let Some([row, column]) = prints.last_chunk() else { continue };
            let firsts = [row.first(), column.first()];
            for_each_leaf(&mut host.body, &mut |s| self.redirect(s, *tensor, &firsts));
        }
        host.body.splice(0..0, before);
        host.body.extend(behind);
        Ok(())
    }

    fn redirect(&self, s: &mut Stmt, tensor: BufferId, firsts: &[Affine; 2]) {
        let to = |a: &mut Access| {
            if a.buffer == tensor {
                let own = &a.index[a.index.len() - 2..];
                a.index = own.iter().zip(firsts).map(|(i, first)| i.plus(first, -1)).collect();
                a.buffer = self.staged[&tensor];
            }
        };
        match s {
            Stmt::Zero { dst } | Stmt::MulAdd { dst, .. } => to(dst),
            Stmt::Post { dst, operand, .. } => [dst].into_iter().chain(operand).for_each(to),
            Stmt::Pack(_) | Stmt::Tile(_) | Stmt::Barrier => {}
            Stmt::Loop(_) | Stmt::If { .. } | Stmt::Inside { .. } | Stmt::Delinearize { .. } => {}
        }
    }

    /// Copies a block of a tensor into scratch memory, or back.
    fn copy(&self, body: &[Stmt], tensor: BufferId, back: bool) -> Result<Vec<Stmt>, RewriteError> {
        let prints = footprints(body, tensor);
        let Some([row, column]) = prints.last_chunk() else { return Ok(vec![]) };
        let (pixels, columns) = (row.len(), column.len());
        let at = Access { buffer: tensor, index: prints.iter().map(|p| p.first()).collect() };
        let dims = &self.arguments[usize::from(tensor.0)].dims;
        let [Dim { stride: along_row, .. }, Dim { stride: along_column, .. }] = dims[dims.len() - 2..] else {
            return refuse("stage", "a result is no matrix");
        };
        let scratch = Access { buffer: self.staged[&tensor], index: vec![Affine::default(); 2] };
        let copy = |dst, src, k, width| Pack {
            number: 0,
            dst,
            src,
            k: Extent::Const(k),
            width: Extent::Const(width),
            pitch: width,
        };
        Ok(match back {
            false => {
                let dst = Matrix { at: scratch, row: self.columns, col: 1 };
                let src = Matrix { at, row: along_row, col: along_column };
                in_widths(&copy(dst, src, pixels, columns), columns, [0, 0], self.width)
            }
            // Runs of pixels are neighbours in the tensor.
            true => {
                let dst = Matrix { at, row: along_column, col: along_row };
                let src = Matrix { at: scratch, row: 1, col: self.columns };
                in_widths(&copy(dst, src, columns, pixels), pixels, [1, 1], self.width)
            }
        })
    }
}
