use super::taps::{Mapped, Reads};
use super::{RewriteError, check_map, refuse, stride};
use crate::nest::{Access, Affine, Extent, Init, Loop, LoopNest, Matrix, Stmt, Tile, Var};

/// Turns each innermost `for m { for n { [dst = 0]; for k { dst += lhs * rhs }; post-ops } }` of constant extents into a
/// [`Tile`]. What digits and conditions around the product say of lhs becomes its window.
pub fn tensorize(mut nest: LoopNest) -> Result<LoopNest, RewriteError> {
    check_map(&nest, "tensorize")?;
    let mut body = std::mem::take(&mut nest.body);
    for s in &mut body {
        walk(&nest, s, &mut vec![])?;
    }
    nest.body = body;
    Ok(nest.numbered())
}

fn walk(nest: &LoopNest, s: &mut Stmt, outer: &mut Vec<(Var, i64, i64)>) -> Result<(), RewriteError> {
    let Stmt::Loop(l) = s else { return Ok(()) };
    if let Some(tile) = as_tile(nest, l, outer)? {
        *s = Stmt::Tile(Box::new(tile));
        return Ok(());
    }
    let max = l.extent.full().saturating_sub(1) / l.step.max(1) * l.step;
    outer.push((l.var, max as i64, l.step as i64));
    l.body.iter_mut().try_for_each(|s| walk(nest, s, outer))?;
    outer.pop();
    Ok(())
}

fn as_tile(nest: &LoopNest, m: &Loop, outer: &[(Var, i64, i64)]) -> Result<Option<Tile>, RewriteError> {
    let [Stmt::Loop(n)] = &m.body[..] else { return Ok(None) };
    let Some(Product { k, around, dst, lhs, rhs }) = n.body.iter().find_map(product) else { return Ok(None) };
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
    let axes = [(m.var, constant(m)?), (n.var, constant(n)?), (k.var, constant(k)?)];
    let reads = match &around[..] {
        [] => {
            let lhs = if lhs_is_panel { matrix(lhs, k.var, m.var)? } else { matrix(lhs, m.var, k.var)? };
            Reads { lhs, first: 0, steps: axes[2].1, window: None }
        }
        around => {
            let digits = around.iter().flat_map(|s| match s {
                Stmt::Delinearize { into, .. } => &into[..],
                _ => &[],
            });
            if digits
                .into_iter()
                .any(|(v, _)| [dst, rhs].iter().any(|a| a.index.iter().any(|i| i.coefficient(*v) != 0)))
            {
                return refuse("tensorize", "the right factor's steps of K are digits: it must be packed");
            }
            Mapped { nest, outer, around, lhs, axes }.reads()?
        }
    };
    let mut tile = Tile {
        number: 0,
        m: axes[0].1,
        n: axes[1].1,
        k: reads.steps,
        dst: matrix(dst, m.var, n.var)?,
        lhs: reads.lhs,
        rhs: matrix(rhs, k.var, n.var)?,
        init: Init::Load,
        post: vec![],
        window: reads.window,
    };
    for (index, original) in tile.rhs.at.index.iter_mut().zip(&rhs.index) {
        index.constant += original.coefficient(k.var) * reads.first as i64;
    }
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

/// A loop over a product's steps of K.
struct Product<'a> {
    k: &'a Loop,
    /// The statements around it that its indices need, outermost first.
    around: Vec<&'a Stmt>,
    dst: &'a Access,
    lhs: &'a Access,
    rhs: &'a Access,
}

fn product(s: &Stmt) -> Option<Product<'_>> {
    let Stmt::Loop(k) = s else { return None };
    let (mut body, mut around) = (&k.body[..], vec![]);
    loop {
        match body {
            [Stmt::MulAdd { dst, lhs, rhs }] => return Some(Product { k, around, dst, lhs, rhs }),
            [s @ (Stmt::Delinearize { .. } | Stmt::Inside { .. })] => {
                around.push(s);
                body = s.body();
            }
            _ => return None,
        }
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
