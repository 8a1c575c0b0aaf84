use std::ops::Range;

use super::{RewriteError, existing_var, region_in, substitute};
use crate::nest::{Affine, Division, Extent, Loop, LoopNest, Stmt, Var};

/// Divides the tiles in each iteration of loop `at` among tasks, down to loops over at least so many elements of the result. What is no
/// loop there becomes one, of one iteration.
pub fn divide(mut nest: LoopNest, region: Range<usize>, at: &str, least: u64) -> Result<LoopNest, RewriteError> {
    let at = existing_var(&nest, "divide", at)?;
    let only = nest.var("only");
    let region = region_in(&nest.body, &region, "divide")?;
    let mut body = nest.body.drain(region.clone()).collect();
    blocks(&mut body, at, &|tiles| among_tasks(tiles, least, only));
    nest.body.splice(region.start..region.start, body);
    Ok(nest)
}

/// Divides the tiles of each block. Copies of a block of K come before what is divided.
fn blocks(body: &mut Vec<Stmt>, at: Var, divide: &impl Fn(&mut [Stmt])) {
    for mut s in std::mem::take(body) {
        match &mut s {
            Stmt::Loop(l) if l.var == at => {
                unwrap(&mut l.body);
                let copies = l.body.iter().take_while(|s| elements(std::slice::from_ref(s)) == 0).count();
                divide(&mut l.body[copies..]);
                if l.trips() == Some(1) && !l.parallel {
                    body.extend(l.body.drain(..copies));
                }
            }
            s => s.body_mut().into_iter().for_each(|inner| blocks(inner, at, divide)),
        }
        body.push(s);
    }
}

fn among_tasks(body: &mut [Stmt], least: u64, only: Var) {
    if elements(body) < least {
        return;
    }
    for s in body {
        let is_large = elements(std::slice::from_ref(s)) >= least;
        match s {
            Stmt::Loop(l) if is_large => {
                l.parallel = true;
                among_tasks(&mut l.body, least, only);
            }
            s => {
                let body = vec![std::mem::replace(s, Stmt::Barrier)];
                *s = Stmt::Loop(Loop { var: only, extent: Extent::Const(1), step: 1, parallel: true, body });
            }
        }
    }
}

/// The elements of the result that statements of tiles compute.
fn elements(body: &[Stmt]) -> u64 {
    let of = |s: &Stmt| match s {
        Stmt::Tile(t) => t.m * t.n,
        Stmt::Loop(l) => l.trips().unwrap_or(1) * elements(&l.body),
        s => elements(s.body()),
    };
    body.iter().map(of).sum()
}

/// Replaces loops of one iteration by what is in them, where they do not divide tasks.
pub fn inline(mut nest: LoopNest) -> LoopNest {
    unwrap(&mut nest.body);
    nest
}

fn unwrap(body: &mut Vec<Stmt>) {
    for mut s in std::mem::take(body) {
        s.body_mut().into_iter().for_each(unwrap);
        match s {
            Stmt::Loop(mut l) if l.trips() == Some(1) && !l.parallel && Division::of(&l.body) == Division::None => {
                substitute(&mut l.body, l.var, &Affine::default());
                body.extend(l.body);
            }
            s => body.push(s),
        }
    }
}
