use super::{RewriteError, check_map, existing_var, substitute};
use crate::nest::{Affine, Extent, Loop, LoopNest, Stmt, Var};

/// Replaces loops over `m` by loops over its digits where it has some, so that tiles end where lines of pixels do. The innermost of
/// them is called `m` too; digits that are always 0 have no loop.
pub fn lines(mut nest: LoopNest) -> Result<LoopNest, RewriteError> {
    check_map(&nest, "lines")?;
    let m = existing_var(&nest, "lines", "m")?;
    nest.body.iter_mut().for_each(|s| split(s, m));
    Ok(nest)
}

fn split(s: &mut Stmt, m: Var) {
    let Stmt::Loop(l) = s else { return };
    if l.var != m {
        return l.body.iter_mut().for_each(|s| split(s, m));
    }
    let Some(digits) = strike_digits(&mut l.body, m) else { return };
    let Some((&(last, extent), outer)) = digits.split_last() else { return };
    let mut body = std::mem::take(&mut l.body);
    let (mut index, mut scale) = (Affine::from(last), extent as i64);
    for &(var, extent) in outer.iter().rev() {
        match extent {
            1 => substitute(&mut body, var, &Affine::default()),
            _ => index.add_term(var, scale),
        }
        scale *= extent as i64;
    }
    substitute(&mut body, m, &index);
    substitute(&mut body, last, &Affine::from(m));
    let over = |body, &(var, extent): &(Var, u64)| {
        vec![Stmt::Loop(Loop { var, extent: Extent::Const(extent), step: 1, parallel: false, body })]
    };
    let line = over(body, &(m, extent));
    let lines = outer.iter().rev().filter(|(_, extent)| *extent > 1).fold(line, over);
    if let Some(whole) = lines.into_iter().next() {
        *s = whole;
    }
}

/// Removes the statement that takes `var` apart, keeps what is in it, and tells the digits.
fn strike_digits(body: &mut Vec<Stmt>, var: Var) -> Option<Vec<(Var, u64)>> {
    let is_apart = |s: &Stmt| matches!(s, Stmt::Delinearize { index, .. } if *index == Affine::from(var));
    match body.iter().position(is_apart) {
        Some(at) => {
            let Stmt::Delinearize { into, body: inner, .. } = body.remove(at) else { return None };
            body.splice(at..at, inner);
            Some(into)
        }
        None => body.iter_mut().filter_map(Stmt::body_mut).find_map(|body| strike_digits(body, var)),
    }
}
