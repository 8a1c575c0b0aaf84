use super::{RewriteError, refuse};
use crate::nest::{Access, BufferKind, Extent, Loop, LoopNest, Stmt};

/// Merges adjacent loops over the same variable and extent, at every depth: the loops that clear, contract and apply each
/// post-op become one loop over the elements of the result.
///
/// Legal because every access to a written buffer in the merged loops is the same element, so no iteration reads what
/// another writes; refused otherwise.
pub fn fuse_loops(mut nest: LoopNest) -> Result<LoopNest, RewriteError> {
    let mut written: Vec<Option<Access>> = vec![None; nest.buffers.len()];
    for s in &nest.body {
        same_element(s, &nest, &mut written)?;
    }
    merge(&mut nest.body);
    Ok(nest)
}

fn same_element(s: &Stmt, nest: &LoopNest, written: &mut [Option<Access>]) -> Result<(), RewriteError> {
    let mut check = |a: &Access| {
        let b = a.buffer.0 as usize;
        if nest.buffers[b].kind == BufferKind::In {
            return Ok(());
        }
        match &written[b] {
            Some(other) if other != a => {
                refuse("fuse_loops", format!("`{}` is accessed at different elements", nest.buffers[b].name))
            }
            _ => {
                written[b] = Some(a.clone());
                Ok(())
            }
        }
    };
    match s {
        Stmt::Loop(Loop { body, .. })
        | Stmt::If { body, .. }
        | Stmt::Inside { body, .. }
        | Stmt::Delinearize { body, .. } => body.iter().try_for_each(|s| same_element(s, nest, written)),
        Stmt::Zero { dst } | Stmt::Post { dst, .. } | Stmt::MulAdd { dst, .. } => check(dst),
        Stmt::Pack(_) | Stmt::Tile(_) | Stmt::Barrier => {
            refuse("fuse_loops", "the nest is already packed or tensorized")
        }
    }
}

fn merge(body: &mut Vec<Stmt>) {
    let old = std::mem::take(body);
    for s in old {
        match (body.last_mut(), s) {
            (Some(Stmt::Loop(a)), Stmt::Loop(b))
                if a.var == b.var
                    && a.extent == b.extent
                    && a.step == b.step
                    && matches!(a.extent, Extent::Const(_)) =>
            {
                a.body.extend(b.body);
            }
            (_, s) => body.push(s),
        }
    }
    for s in body {
        if let Stmt::Loop(l) = s {
            merge(&mut l.body);
        }
    }
}

/// Merges adjacent loops over batches at the top: all regions of a product of a batch follow one another.
pub fn fuse_batches(mut nest: LoopNest) -> LoopNest {
    let batches: Vec<bool> = nest.vars.iter().map(|name| is_batch(name)).collect();
    fuse(&mut nest.body, &batches);
    nest
}

/// Whether a variable of this name is that of a batch.
pub(super) fn is_batch(name: &str) -> bool {
    name.strip_prefix('b').is_some_and(|n| n.parse::<u16>().is_ok())
}

fn fuse(body: &mut Vec<Stmt>, batches: &[bool]) {
    for s in std::mem::take(body) {
        match (body.last_mut(), s) {
            (Some(Stmt::Loop(a)), Stmt::Loop(b)) if a.var == b.var && batches[usize::from(a.var.0)] => {
                a.body.extend(b.body);
            }
            (_, s) => body.push(s),
        }
    }
    for s in body {
        if let Stmt::Loop(l) = s
            && batches[usize::from(l.var.0)]
        {
            fuse(&mut l.body, batches);
        }
    }
}
