use super::{RewriteError, refuse, substitute};
use crate::nest::{Affine, Division, Extent, Loop, LoopNest, Stmt, Var};

/// Makes every extent constant and removes every `if`: a loop whose blocks do not divide its axis becomes a main loop and
/// a tail, and a loop that conditions depend on is peeled at its first and last iterations.
pub fn split_tails(mut nest: LoopNest) -> Result<LoopNest, RewriteError> {
    nest.body = Splitter { max: vec![0; nest.vars.len()] }.body(nest.body)?;
    Ok(nest.numbered())
}

/// The greatest value of each variable in scope.
struct Splitter {
    max: Vec<i64>,
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
        let tail_matters = full != extent && l.body.iter().any(|s| depends(s, l.var));
        // Iterations [from, to) in steps form one piece.
        let end = if tail_matters { full } else { extent };
        let mut cuts = vec![0, end];
        if l.body.iter().any(|s| is_condition(s, l.var)) {
            let last = (extent - 1) / l.step * l.step;
            cuts.extend([l.step.min(end), last.min(end)]);
        }
        cuts.sort_unstable();
        cuts.dedup();
        for piece in cuts.windows(2) {
            self.piece(&l, piece[0], piece[1], out)?;
        }
        if tail_matters {
            self.piece(&l, full, extent, out)?;
        }
        Ok(())
    }

    /// The iterations of `l` from `from` up to `to`, as a loop from 0 or, if it is a single block, as its body.
    fn piece(&mut self, l: &Loop, from: u64, to: u64, out: &mut Vec<Stmt>) -> Result<(), RewriteError> {
        let mut body = l.body.clone();
        let trips = (to - from).div_ceil(l.step);
        let varies = l.body.iter().any(|s| depends(s, l.var) || is_condition(s, l.var));
        if trips == 1 && (l.step > 1 || varies) {
            substitute(&mut body, l.var, &Affine::constant(from as i64));
            // A parallel loop stays, so that the number of tasks can be read off, and so does one that has such inside; so do loops over
            // single elements.
            if !l.parallel && l.step > 1 && Division::of(&body) == Division::None {
                out.extend(self.body(body)?);
                return Ok(());
            }
        } else if from != 0 {
            let mut shifted = Affine::from(l.var);
            shifted.constant = from as i64;
            substitute(&mut body, l.var, &shifted);
        }
        strike_conditions(&mut body, l.var);
        self.max[l.var.0 as usize] = ((trips - 1) * l.step) as i64;
        let body = self.body(body)?;
        self.max[l.var.0 as usize] = 0;
        let extent = Extent::Const(to - from);
        out.push(Stmt::Loop(Loop { var: l.var, extent, step: l.step, parallel: l.parallel, body }));
        Ok(())
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

fn is_condition(s: &Stmt, var: Var) -> bool {
    match s {
        Stmt::If { var: v, body, .. } => *v == var || body.iter().any(|s| is_condition(s, var)),
        Stmt::Loop(l) => l.body.iter().any(|s| is_condition(s, var)),
        _ => false,
    }
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
