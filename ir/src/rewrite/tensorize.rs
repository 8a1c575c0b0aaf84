use super::{RewriteError, refuse, stride};
use crate::nest::{Access, Affine, Extent, Init, Loop, LoopNest, Matrix, Stmt, Tile, Var};

/// Turns each innermost `for m { for n { [dst = 0]; for k { dst += lhs * rhs }; post-ops } }` of constant extents into a
/// [`Tile`].
pub fn tensorize(mut nest: LoopNest) -> Result<LoopNest, RewriteError> {
    let mut body = std::mem::take(&mut nest.body);
    for s in &mut body {
        walk(&nest, s)?;
    }
    nest.body = body;
    Ok(nest.numbered())
}

fn walk(nest: &LoopNest, s: &mut Stmt) -> Result<(), RewriteError> {
    let Stmt::Loop(l) = s else { return Ok(()) };
    match as_tile(nest, l)? {
        Some(tile) => *s = Stmt::Tile(Box::new(tile)),
        None => l.body.iter_mut().try_for_each(|s| walk(nest, s))?,
    }
    Ok(())
}

fn as_tile(nest: &LoopNest, m: &Loop) -> Result<Option<Tile>, RewriteError> {
    let [Stmt::Loop(n)] = &m.body[..] else { return Ok(None) };
    let Some((k, dst, lhs, rhs)) = n.body.iter().find_map(contraction) else { return Ok(None) };
    let constant = |l: &Loop| match (&l.extent, l.step) {
        (Extent::Const(e), 1) => Ok(*e),
        _ => refuse("tensorize", format!("the loop over `{}` is not of constant extent", nest.vars[l.var.0 as usize])),
    };
    let vars = [m.var, n.var, k.var];
    let matrix = |a: &Access, row: Var, col: Var| {
        let buffer = &nest.buffers[a.buffer.0 as usize];
        let along = |var| stride("tensorize", buffer, a, var);
        Ok(Matrix { at: origin(a, &vars), row: along(row)?, col: along(col)? })
    };
    // An interleaved panel has K first on either side.
    let lhs_is_panel = nest.buffers[lhs.buffer.0 as usize].interleave > 1;
    let mut tile = Tile {
        number: 0,
        m: constant(m)?,
        n: constant(n)?,
        k: constant(k)?,
        dst: matrix(dst, m.var, n.var)?,
        lhs: if lhs_is_panel { matrix(lhs, k.var, m.var)? } else { matrix(lhs, m.var, k.var)? },
        rhs: matrix(rhs, k.var, n.var)?,
        init: Init::Load,
        post: vec![],
        window: None,
    };
    for s in &n.body {
        match s {
            Stmt::Zero { dst: d } if d == dst => tile.init = Init::Zero,
            Stmt::Post { op, dst: d, operand } if d == dst => {
                tile.post.push((*op, operand.as_ref().map(|a| matrix(a, m.var, n.var)).transpose()?));
            }
            Stmt::Loop(l) if std::ptr::eq(l, k) => {}
            _ => return refuse("tensorize", "the innermost loops hold more than a contraction"),
        }
    }
    Ok(Some(tile))
}

fn contraction(s: &Stmt) -> Option<(&Loop, &Access, &Access, &Access)> {
    match s {
        Stmt::Loop(k) => match &k.body[..] {
            [Stmt::MulAdd { dst, lhs, rhs }] => Some((k, dst, lhs, rhs)),
            _ => None,
        },
        _ => None,
    }
}

/// The access at the first element of the tile.
fn origin(a: &Access, vars: &[Var]) -> Access {
    let mut a = a.clone();
    for index in &mut a.index {
        vars.iter().for_each(|&v| index.substitute(v, &Affine::constant(0)));
    }
    a
}
