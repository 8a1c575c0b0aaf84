use super::{RewriteError, is_condition, refuse, substitute};
use crate::nest::{Affine, Division, Extent, Loop, LoopNest, Stmt, Var};

/// Makes every extent constant and removes every `if`: a loop whose blocks do not divide its axis becomes a main loop and
/// a tail, and a loop that conditions depend on is peeled at its first and last iterations.
pub fn split_tails(mut nest: LoopNest) -> Result<LoopNest, RewriteError> {
    let varies = nest.body.iter().any(varies);
    nest.body = Splitter { max: vec![0; nest.vars.len()], varies }.body(nest.body)?;
    Ok(nest.numbered())
}

struct Splitter {
    /// The greatest value of each variable in scope.
    max: Vec<i64>,
    /// Some extent or condition depends on loops.
    varies: bool,
}

impl Splitter {
    fn body(&mut self, body: Vec<Stmt>) -> Result<Vec<Stmt>, RewriteError> {
        let mut out = vec![];
        for s in body {
            match s {
                Stmt::Loop(l) => self.split(l, &mut out)?,
                Stmt::Pack(mut p) => {
                    for extent in [&mut p.k, &mut p.width] {
                        *extent = Extent::Const(self.extent(extent)?);
                    }
                    out.push(Stmt::Pack(p));
                }
                Stmt::If { .. } => return refuse("split_tails", "a condition depends on a loop that it is not in"),
                s => out.push(s),
            }
        }
        Ok(out)
    }

    /// The value of an extent that is the same in every iteration of the enclosing loops.
    fn extent(&self, e: &Extent) -> Result<u64, RewriteError> {
        match e {
            Extent::Const(n) => Ok(*n),
            Extent::Min { tile, rest } => {
                let least = rest
                    .terms()
                    .iter()
                    .fold(rest.constant, |sum, &(v, c)| sum + if c < 0 { c * self.max[v.0 as usize] } else { 0 });
                if least >= *tile as i64 {
                    Ok(*tile)
                } else if rest.terms().is_empty() && rest.constant > 0 {
                    Ok((*tile).min(rest.constant as u64))
                } else {
                    refuse("split_tails", "an extent varies within a loop that divides its axis")
                }
            }
        }
    }

    fn split(&mut self, l: Loop, out: &mut Vec<Stmt>) -> Result<(), RewriteError> {
        let extent = self.extent(&l.extent)?;
        if extent == 0 || l.step == 0 {
            return refuse("split_tails", "a loop has no iterations or no end");
        }
        let full = extent / l.step * l.step;
        let tail_matters = full != extent && self.varies && l.body.iter().any(|s| depends(s, l.var));
        // Iterations [from, to) in steps form one piece.
        let end = if tail_matters { full } else { extent };
        let mut cuts = vec![0, end];
        if self.varies && l.body.iter().any(|s| is_condition(s, l.var)) {
            let last = (extent - 1) / l.step * l.step;
            cuts.extend([l.step.min(end), last.min(end)]);
        }
        cuts.sort_unstable();
        cuts.dedup();
        let tail = tail_matters.then_some([full, extent]);
        let mut pieces: Vec<[u64; 2]> = cuts.windows(2).map(|piece| [piece[0], piece[1]]).chain(tail).collect();
        let last = pieces.pop();
        for piece in pieces {
            self.piece(l.clone(), piece, out)?;
        }
        last.map_or(Ok(()), |piece| self.piece(l, piece, out))
    }

    /// The iterations of `l` from `from` up to `to`, as a loop from 0 or, if it is a single block, as its body.
    fn piece(&mut self, mut l: Loop, [from, to]: [u64; 2], out: &mut Vec<Stmt>) -> Result<(), RewriteError> {
        let trips = (to - from).div_ceil(l.step);
        let is_conditional = self.varies && l.body.iter().any(|s| is_condition(s, l.var));
        let varies = is_conditional || (self.varies && l.body.iter().any(|s| depends(s, l.var)));
        if trips == 1 && (l.step > 1 || varies) {
            substitute(&mut l.body, l.var, &Affine::constant(from as i64));
            // A parallel loop stays, so that the number of tasks can be read off, and so does one that has such inside; so do loops over
            // single elements.
            if !l.parallel && l.step > 1 && Division::of(&l.body) == Division::None {
                out.extend(self.body(l.body)?);
                return Ok(());
            }
        } else if from != 0 {
            let mut shifted = Affine::from(l.var);
            shifted.constant = from as i64;
            substitute(&mut l.body, l.var, &shifted);
        }
        if is_conditional {
            strike_conditions(&mut l.body, l.var);
        }
        self.max[l.var.0 as usize] = ((trips - 1) * l.step) as i64;
        let body = self.body(l.body)?;
        self.max[l.var.0 as usize] = 0;
        let extent = Extent::Const(to - from);
        out.push(Stmt::Loop(Loop { extent, body, ..l }));
        Ok(())
    }
}

/// Whether an extent or a condition in `s` depends on loops.
fn varies(s: &Stmt) -> bool {
    let is_rest = |e: &Extent| matches!(e, Extent::Min { .. });
    match s {
        Stmt::If { .. } => true,
        Stmt::Loop(l) => is_rest(&l.extent) || l.body.iter().any(varies),
        Stmt::Pack(p) => is_rest(&p.k) || is_rest(&p.width),
        s => s.body().iter().any(varies),
    }
}

/// Removes the conditions on `var` of a piece that holds neither its first nor its last iteration.
fn strike_conditions(body: &mut Vec<Stmt>, var: Var) {
    body.retain_mut(|s| match s {
        Stmt::If { var: v, .. } if *v == var => false,
        Stmt::If { body, .. } | Stmt::Loop(Loop { body, .. }) => {
            strike_conditions(body, var);
            true
        }
        _ => true,
    });
}

/// Whether an extent in `s` depends on `var`.
fn depends(s: &Stmt, var: Var) -> bool {
    let on = |e: &Extent| matches!(e, Extent::Min { rest, .. } if rest.coefficient(var) != 0);
    match s {
        Stmt::Loop(l) => on(&l.extent) || l.body.iter().any(|s| depends(s, var)),
        Stmt::If { body, .. } => body.iter().any(|s| depends(s, var)),
        Stmt::Pack(p) => p.depends_on(var),
        _ => false,
    }
}
