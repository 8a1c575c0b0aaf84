use super::{RewriteError, existing_var, find_loop, refuse};
use crate::nest::{Access, Affine, Buffer, BufferId, BufferKind, Dim, Loop, LoopNest, Stmt, Var};

/// Which operand is packed, where, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackSpec {
    /// The operand: `lhs` or `rhs`.
    pub operand: &'static str,
    /// Name of the new scratch buffer.
    pub panel: String,
    /// The copy is made at the start of each iteration of this loop.
    pub at: String,
    /// Elements between consecutive runs; at least the run's length. Runs are along the operand's last dimension.
    pub pitch: u64,
}

/// Copies the footprint of an operand inside loop `at` of region `region` into a scratch buffer, run by run, and redirects
/// the contraction to it.
///
/// The operand's last dimension stays contiguous: a `rhs` panel is `k` runs of a tile's columns, a `lhs` panel is rows of
/// `k` elements. When column blocks lie inside `at`, panels follow one another.
pub fn pack(mut nest: LoopNest, region: usize, spec: &PackSpec) -> Result<LoopNest, RewriteError> {
    let Some(operand) = nest.buffer(spec.operand) else {
        return refuse("pack", format!("there is no buffer `{}`", spec.operand));
    };
    let at = existing_var(&nest, "pack", &spec.at)?;
    let dtype = nest.buffers[operand.0 as usize].dtype;
    let Some(region) = nest.body.get_mut(region..=region) else { return refuse("pack", "there is no such region") };
    let Some(host) = find_loop(region, at) else { return refuse("pack", format!("no loop over `{}`", spec.at)) };

    let mut path = vec![];
    let Some(access) = find_operand(&host.body, operand, &mut path) else {
        return refuse("pack", format!("`{}` is not read inside `{}`", spec.operand, spec.at));
    };
    let [rows, cols] = &access.index[..] else { return refuse("pack", "the operand is not a matrix") };
    let inner = |index: &Affine| path.iter().filter(|l| index.coefficient(l.var) != 0).copied().collect::<Vec<_>>();
    let (row_loops, col_loops) = (inner(rows), inner(cols));
    let (Some(row), Some(run)) = (row_loops.last(), col_loops.last()) else {
        return refuse("pack", "the loop is inside the tile");
    };
    if row.step != 1 || run.step != 1 || spec.pitch < run.extent.full() {
        return refuse("pack", "the pitch is smaller than a run");
    }

    // Dimensions of the panel: blocks of columns (whole panels), blocks of rows, rows, the run.
    let height: u64 = row_loops.first().map_or(1, |l| l.extent.full());
    let mut dims = vec![];
    let mut loops = vec![];
    for l in &col_loops[..col_loops.len() - 1] {
        let panel = height * spec.pitch;
        let stride = match l.extent.full() <= l.step {
            true => 0, // a single panel
            false if spec.pitch == l.step => panel / l.step,
            false => return refuse("pack", "panels of this pitch do not follow one another"),
        };
        dims.push((*l, stride));
        loops.push(*l);
    }
    for l in &row_loops {
        dims.push((*l, spec.pitch));
        loops.push(*l);
    }
    dims.push((*run, 1));
    let id = BufferId(nest.buffers.len() as u16);
    let index = |l: &Loop| Affine::from(l.var);
    let panel_access = Access { buffer: id, index: dims.iter().map(|(l, _)| index(l)).collect() };
    let buffer = Buffer {
        name: spec.panel.clone(),
        dtype,
        kind: BufferKind::Scratch,
        dims: dims
            .iter()
            .map(|(l, stride)| {
                // A panel is addressed up to its pitch: micro-kernels may load whole vectors.
                let extent = if l.var == run.var { spec.pitch } else { (l.extent.full() - 1) / l.step * l.step + 1 };
                Dim { extent, stride: *stride }
            })
            .collect(),
    };

    let first = |a: &Access, var: Var| {
        let mut a = a.clone();
        a.index.iter_mut().for_each(|i| i.substitute(var, &Affine::constant(0)));
        a
    };
    let mut copy =
        Stmt::Copy { dst: first(&panel_access, run.var), src: first(&access, run.var), len: run.extent.clone() };
    for l in loops.into_iter().rev() {
        copy =
            Stmt::Loop(Loop { var: l.var, extent: l.extent.clone(), step: l.step, parallel: false, body: vec![copy] });
    }
    redirect(&mut host.body, &access, &panel_access);
    host.body.insert(0, copy);
    nest.buffers.push(buffer);
    Ok(nest)
}

/// The first multiply-add operand in `buffer`, and the loops that lead to it.
fn find_operand<'a>(body: &'a [Stmt], buffer: BufferId, path: &mut Vec<&'a Loop>) -> Option<Access> {
    for s in body {
        match s {
            Stmt::MulAdd { lhs, rhs, .. } => {
                if let Some(a) = [lhs, rhs].into_iter().find(|a| a.buffer == buffer) {
                    return Some(a.clone());
                }
            }
            Stmt::Loop(l) => {
                path.push(l);
                if let Some(a) = find_operand(&l.body, buffer, path) {
                    return Some(a);
                }
                path.pop();
            }
            Stmt::If { body, .. } => {
                if let Some(a) = find_operand(body, buffer, path) {
                    return Some(a);
                }
            }
            _ => {}
        }
    }
    None
}

fn redirect(body: &mut [Stmt], from: &Access, to: &Access) {
    for s in body {
        match s {
            Stmt::MulAdd { lhs, rhs, .. } => {
                [lhs, rhs].into_iter().filter(|a| *a == from).for_each(|a| *a = to.clone());
            }
            Stmt::Loop(Loop { body, .. }) | Stmt::If { body, .. } => redirect(body, from, to),
            _ => {}
        }
    }
}
