use super::{RewriteError, check_map, existing_var, find_loop, refuse};
use crate::nest::{Affine, Extent, LoopNest, Stmt, Var};

/// Lets the steps of K of each tap, where they are digits, be whole groups of `group`: those that no element is behind are skipped.
pub fn align_taps(mut nest: LoopNest, group: u64) -> Result<LoopNest, RewriteError> {
    check_map(&nest, "align_taps")?;
    if group == 0 || group > u64::from(u16::MAX) {
        return refuse("align_taps", format!("there are no groups of {group} steps"));
    }
    let k = existing_var(&nest, "align_taps", "k")?;
    let mut steps = None;
    nest.body.iter_mut().for_each(|s| steps = steps.or(widen(s, k, group)));
    if let (Some(steps), Some(l)) = (steps, find_loop(&mut nest.body, k)) {
        l.extent = Extent::Const(steps);
    }
    Ok(nest)
}

/// The steps that there are then.
fn widen(s: &mut Stmt, k: Var, group: u64) -> Option<u64> {
    if let Stmt::Delinearize { index, into, body } = s
        && *index == Affine::from(k)
        && let [(_, taps), (step, own)] = &mut into[..]
    {
        let extent = own.next_multiple_of(group);
        if extent > *own {
            let body_then = std::mem::take(body);
            body.push(Stmt::Inside { index: Affine::from(*step), extent: *own, body: body_then });
            *own = extent;
        }
        return Some(*taps * extent);
    }
    s.body_mut()?.iter_mut().find_map(|s| widen(s, k, group))
}
