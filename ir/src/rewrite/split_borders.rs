use std::cell::Cell;
use std::ops::Range;

use super::{MOST_LOOKED_AT, MOST_MADE, RewriteError, check_map, has_map, refuse, region_in, substitute};
use crate::nest::{Affine, Extent, Loop, LoopNest, Stmt, Var};

/// In which respects the iterations of a loop are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alike {
    /// The same conditions hold in each.
    Conditions,
    /// What they read also reaches as far beyond its borders: then copies of it are alike too.
    Footprint,
}

/// Cuts the loops over `axes` in a region where conditions, digits or extents inside of them change, so that they are the same in all
/// iterations of each piece. A piece of one iteration stays as a loop that nothing depends on. Loops without an index map inside stay
/// as they are. The region may have more statements then.
pub fn split_borders(
    mut nest: LoopNest,
    region: Range<usize>,
    axes: &[&str],
    alike: Alike,
) -> Result<LoopNest, RewriteError> {
    check_map(&nest, "split_borders")?;
    let vars = (0..nest.vars.len()).filter(|i| axes.contains(&nest.vars[*i].as_str())).map(|i| Var(i as u16)).collect();
    let region = region_in(&nest.body, &region, "split_borders")?;
    let body = nest.body.drain(region.clone()).collect();
    let body = Splitter { vars, alike, made: Cell::new(0) }.body(body)?;
    nest.body.splice(region.start..region.start, body);
    Ok(nest.numbered())
}

struct Splitter {
    vars: Vec<Var>,
    alike: Alike,
    /// Pieces so far.
    made: Cell<u64>,
}

impl Splitter {
    fn body(&self, body: Vec<Stmt>) -> Result<Vec<Stmt>, RewriteError> {
        let mut out = vec![];
        for mut s in body {
            match s {
                Stmt::Loop(l) if self.vars.contains(&l.var) && l.body.iter().any(has_map) => self.split(l, &mut out)?,
                _ => {
                    if let Some(body) = s.body_mut() {
                        *body = self.body(std::mem::take(body))?;
                    }
                    out.push(s);
                }
            }
        }
        Ok(out)
    }

    fn split(&self, l: Loop, out: &mut Vec<Stmt>) -> Result<(), RewriteError> {
        let Extent::Const(extent) = l.extent else {
            out.push(Stmt::Loop(l));
            return Ok(());
        };
        if extent <= l.step {
            return self.piece(l, extent, (0, 1), out);
        }
        let mut facts = Facts { var: l.var, inner: vec![], all: vec![] };
        facts.add(&l.body);
        if facts.all.is_empty() {
            let body = self.body(l.body)?;
            out.push(Stmt::Loop(Loop { body, ..l }));
            return Ok(());
        }
        let trips = extent.div_ceil(l.step);
        let each = facts.all.iter().map(Fact::looked_at).fold(1, u64::saturating_add);
        if trips.saturating_mul(each) > MOST_LOOKED_AT {
            return refuse("split_borders", "a loop in which conditions change has too many iterations");
        }
        let mut pieces: Vec<(u64, u64)> = vec![];
        let (mut last, mut now) = (vec![], vec![]);
        for from in (0..extent).step_by(l.step as usize) {
            now.clear();
            facts.all.iter().for_each(|fact| fact.add_to(&mut now, from as i64, self.alike));
            match pieces.last_mut() {
                Some((_, trips)) if last == now => *trips += 1,
                _ => pieces.push((from, 1)),
            }
            std::mem::swap(&mut last, &mut now);
        }
        let end = pieces.pop();
        for piece in pieces {
            self.piece(l.clone(), extent, piece, out)?;
        }
        end.map_or(Ok(()), |piece| self.piece(l, extent, piece, out))
    }

    /// So many iterations from `from` on.
    fn piece(
        &self,
        mut l: Loop,
        extent: u64,
        (from, trips): (u64, u64),
        out: &mut Vec<Stmt>,
    ) -> Result<(), RewriteError> {
        self.made.set(self.made.get() + 1);
        if self.made.get() > MOST_MADE {
            return refuse("split_borders", "loops would be cut into too many pieces");
        }
        let mut value = if trips == 1 { Affine::default() } else { Affine::from(l.var) };
        value.constant = from as i64;
        if value != Affine::from(l.var) {
            substitute(&mut l.body, l.var, &value);
        }
        l.body.iter_mut().for_each(|s| settle(s, l.var));
        l.step = match (trips, self.alike) {
            (1, Alike::Conditions) if !l.parallel => 1,
            // Copies are yet made for a block of its size.
            (1, _) => l.step.min(extent - from),
            _ => l.step,
        };
        let (extent, body) = (Extent::Const(trips * l.step), self.body(l.body)?);
        out.push(Stmt::Loop(Loop { extent, body, ..l }));
        Ok(())
    }
}

/// Makes extents that depend on no variable, or on `var` alone but are the same in all of its iterations, constant.
fn settle(s: &mut Stmt, var: Var) {
    if let Stmt::Loop(Loop { extent, .. }) = s
        && let Extent::Min { tile, rest } = extent
        && rest.terms().iter().all(|(v, _)| *v == var)
    {
        *extent = Extent::Const((*tile).min(rest.constant.max(0) as u64));
    }
    s.body_mut().into_iter().flatten().for_each(|s| settle(s, var));
}

/// How an iteration may differ from others: a number for each value of the loop's variable, which is `constant + factor * value`.
#[derive(Clone, Copy)]
struct Linear {
    constant: i64,
    factor: i64,
}

impl Linear {
    fn at(self, value: i64) -> i64 {
        self.constant + self.factor * value
    }
}

/// The greatest value of a variable inside: of all, or of what is left of an axis.
#[derive(Clone, Copy)]
struct Greatest {
    tile: i64,
    rest: Option<Linear>,
    step: i64,
}

impl Greatest {
    /// It is -1 where nothing is left.
    fn at(self, value: i64) -> i64 {
        let end = self.rest.map_or(self.tile, |rest| rest.at(value).min(self.tile));
        if end > 0 { (end - 1) / self.step * self.step } else { -1 }
    }
}

/// One respect in which iterations may differ.
enum Fact {
    Extent(Greatest),
    Digit { moved: Linear, behind: Option<i64> },
    Is(i64),
    Inside { first: Linear, extent: i64, terms: Vec<(i64, Greatest)> },
}

struct Facts {
    var: Var,
    inner: Vec<(Var, Greatest)>,
    all: Vec<Fact>,
}

impl Facts {
    fn add(&mut self, body: &[Stmt]) {
        for s in body {
            let scope = self.inner.len();
            match s {
                Stmt::Loop(l) => {
                    let (tile, rest) = match &l.extent {
                        Extent::Const(n) => (*n as i64, None),
                        Extent::Min { tile, rest } => (*tile as i64, Some(self.linear(rest))),
                    };
                    let greatest = Greatest { tile, rest, step: l.step as i64 };
                    if rest.is_some() {
                        self.all.push(Fact::Extent(greatest));
                    }
                    self.inner.push((l.var, greatest));
                }
                Stmt::Delinearize { index, into, body } => {
                    if index.coefficient(self.var) != 0 {
                        // What only moves the first digit moves what it is the index of, unless conditions depend on it.
                        let behind = into[1..].iter().map(|(_, extent)| *extent as i64).product();
                        let behind = (!body.iter().any(has_map)).then_some(behind);
                        self.all.push(Fact::Digit { moved: self.linear(index), behind });
                    }
                    let greatest = |extent: u64| Greatest { tile: extent as i64, rest: None, step: 1 };
                    self.inner.extend(into.iter().map(|(v, extent)| (*v, greatest(*extent))));
                }
                Stmt::Inside { index, extent, .. } if index.coefficient(self.var) != 0 => {
                    let terms = self.inner.iter().map(|&(v, greatest)| (index.coefficient(v), greatest));
                    let terms = terms.filter(|(c, _)| *c > 0).collect();
                    self.all.push(Fact::Inside { first: self.linear(index), extent: *extent as i64, terms });
                }
                Stmt::If { var, value, .. } if *var == self.var => self.all.push(Fact::Is(*value as i64)),
                _ => {}
            }
            self.add(s.body());
            self.inner.truncate(scope);
        }
    }

    /// With all other variables at 0.
    fn linear(&self, a: &Affine) -> Linear {
        Linear { constant: a.constant, factor: a.coefficient(self.var) }
    }
}

impl Fact {
    /// The values of variables that are looked at for one iteration.
    fn looked_at(&self) -> u64 {
        let Fact::Inside { terms, .. } = self else { return 1 };
        let all_but_last = &terms[..terms.len().saturating_sub(1)];
        let values = all_but_last.iter().map(|(_, greatest)| (greatest.tile / greatest.step) as u64 + 1);
        values.fold(1, u64::saturating_mul)
    }

    fn add_to(&self, facts: &mut Vec<i64>, value: i64, alike: Alike) {
        match self {
            Fact::Extent(greatest) => facts.push(greatest.at(value)),
            Fact::Digit { moved, behind } => {
                let moved = moved.at(value);
                facts.push(behind.map_or(moved, |behind| moved.rem_euclid(behind)));
            }
            Fact::Is(other) => facts.push(i64::from(value == *other)),
            Fact::Inside { first, extent, terms } => {
                let first = first.at(value);
                if alike == Alike::Footprint {
                    let last = first + terms.iter().map(|(c, greatest)| c * greatest.at(value)).sum::<i64>();
                    let low = first.clamp(0, *extent);
                    facts.extend([low - first, (last + 1).clamp(low, *extent) - first]);
                }
                inside(facts, first, *extent, terms, value);
            }
        }
    }
}

/// For which values of the last variable of `terms` an index is inside, for all values of the others.
fn inside(facts: &mut Vec<i64>, first: i64, extent: i64, terms: &[(i64, Greatest)], value: i64) {
    if let [(c, greatest), _, ..] = terms {
        for v in (0..=greatest.at(value)).step_by(greatest.step as usize) {
            inside(facts, first + c * v, extent, &terms[1..], value);
        }
        return;
    }
    let (step, max) = terms.first().map_or((1, 0), |(c, greatest)| (*c, greatest.at(value)));
    let below = |limit: i64| (limit - first + step - 1).div_euclid(step).clamp(0, max + 1);
    facts.extend([below(0), below(extent).max(below(0))]);
}
