//! The rows and runs of a tile whose left factor is read through an index map.

use super::fuse_loops::is_batch;
use super::{MOST_LOOKED_AT, MOST_MADE, RewriteError, refuse, stride};
use crate::nest::{Access, Affine, BufferKind, LoopNest, MAX_WINDOW_ROWS, Matrix, Run, Stmt, TileWindow, Var};

/// A product in a tile, and the statements around it that its indices need, outermost first.
pub(super) struct Mapped<'a> {
    pub(super) nest: &'a LoopNest,
    /// The loops around the tile: the greatest value of each variable, and its step.
    pub(super) outer: &'a [(Var, i64, i64)],
    pub(super) around: &'a [&'a Stmt],
    pub(super) lhs: &'a Access,
    /// The variables of the tile, and how many values they have.
    pub(super) axes: [(Var, u64); 3],
}

/// Where a tile reads: the left factor's first element, the first of its steps that is computed, how many there are.
pub(super) struct Reads {
    pub(super) lhs: Matrix,
    pub(super) first: u64,
    pub(super) steps: u64,
    pub(super) window: Option<Box<TileWindow>>,
}

impl Mapped<'_> {
    pub(super) fn reads(&self) -> Result<Reads, RewriteError> {
        let [(m, rows), (n, _), (k, steps)] = self.axes;
        if rows > MAX_WINDOW_ROWS {
            return refuse("tensorize", "a tile with an index map has too many rows");
        }
        let digits = self.around.iter().find_map(|s| match s {
            Stmt::Delinearize { index, into, .. } if index.coefficient(k) == 1 && index.terms().len() == 1 => {
                Some((index.constant as u64, <[_; 2]>::try_from(&into[..]).ok()?))
            }
            _ => None,
        });
        let Some((start, [(tap, _), (channel, per)])) = digits else {
            return refuse("tensorize", "steps of K are not those of taps");
        };
        let own = self.around.iter().find_map(|s| match s {
            Stmt::Inside { index, extent, .. } if *index == Affine::from(channel) => Some(*extent),
            _ => None,
        });
        let steps = start..start + steps;
        let columns = self.lhs.index.iter().any(|i| i.coefficient(n) != 0);
        let buffer = &self.nest.buffers[usize::from(self.lhs.buffer.0)];
        let along = stride("tensorize", buffer, self.lhs, if columns { n } else { channel })?;
        let step = if columns { 0 } else { along };
        // Lines that reach into the next have zeros there: rows come in pairs, and one whose tap is beside its line reads a zero where the
        // other has it.
        let has_zeros = buffer.last_interleaved().is_some_and(|at| buffer.dims[at + 1].extent > buffer.dims[at].stride);

        let mut values = vec![0; self.nest.vars.len()];
        let taps = steps.start / per..steps.end.div_ceil(per);
        if taps.end - taps.start > MOST_MADE {
            return refuse("tensorize", "a tile has too many taps");
        }
        let mut evaluate = |row: u64, number: u64, indices: &mut Vec<i64>| {
            values[usize::from(m.0)] = row as i64;
            values[usize::from(tap.0)] = number as i64;
            values[usize::from(channel.0)] = (steps.start.max(number * per) - number * per) as i64;
            self.evaluate(&mut values, [k, channel], indices)
        };
        // Places and conditions are sums of what the row and what the tap adds.
        self.check_digits(m, k)?;
        let mut conditions: Vec<Condition> = self.conditions(channel).collect();
        let (mut indices, mut places) = (vec![], vec![]);
        for row in 0..rows {
            indices.clear();
            places.push(evaluate(row, taps.start, &mut indices));
            conditions.iter_mut().zip(&indices).for_each(|(c, index)| c.rows.push(*index));
        }
        conditions.iter_mut().for_each(Condition::settle);
        let Some(zero) = places.first() else { return refuse("tensorize", "a tile has no rows") };
        let offsets: Vec<i64> = places.iter().map(|row| row - zero).collect();
        let mut runs: Vec<Run> = vec![];
        // The first element of all: its place, and the variables there.
        let mut origin: Option<(i64, u64, u64, u64)> = None;
        for number in taps {
            let begin = number * per;
            let (from, to) = (steps.start.max(begin) - begin, (steps.end - begin).min(own.unwrap_or(per)));
            indices.clear();
            let tap_at = evaluate(0, number, &mut indices);
            let mut mask = if rows < 64 { (1 << rows) - 1 } else { u64::MAX };
            for (c, tap) in conditions.iter().zip(&indices) {
                mask &= c.rows_that_hold(*tap)?;
            }
            if has_zeros {
                let pairs = mask | (mask & 0x5555_5555_5555_5555) << 1 | (mask >> 1) & 0x5555_5555_5555_5555;
                mask = if rows < 64 { pairs & ((1 << rows) - 1) } else { pairs };
            }
            if mask == 0 || from >= to {
                continue;
            }
            for (row, offset) in (0..rows).zip(&offsets).filter(|(row, _)| mask >> row & 1 == 1) {
                if origin.is_none_or(|(least, ..)| tap_at + offset < least) {
                    origin = Some((tap_at + offset, row, number, from));
                }
            }
            let (lhs, rhs, len) = (tap_at, begin + from, to - from);
            match runs.last_mut() {
                Some(last)
                    if buffer.interleave == 1
                        && !columns
                        && last.rows == mask
                        && last.rhs + last.len == rhs
                        && last.lhs + (last.len * step) as i64 == lhs =>
                {
                    last.len += len;
                }
                _ => runs.push(Run { lhs, rhs, len, rows: mask }),
            }
        }
        let first = runs.first().map_or(steps.start, |r| r.rhs);
        let least = origin.map_or(0, |o| o.0);
        for run in &mut runs {
            run.lhs -= least;
            run.rhs -= first;
        }
        let at = match origin {
            None => self.nowhere(),
            Some((_, row, number, from)) => {
                let known = [(m, row), (n, 0), (k, 0), (tap, number), (channel, from)];
                self.access(known.map(|(v, value)| (v, value as i64)).to_vec(), [k, channel])?
            }
        };
        let is_panel = buffer.interleave > 1;
        let lhs =
            Matrix { at, row: if is_panel { along } else { 0 }, col: if is_panel { buffer.interleave } else { along } };
        let window = TileWindow { rows: offsets, runs, columns };
        let steps = window.runs.last().map_or(0, |r| r.rhs + r.len);
        Ok(Reads { lhs, first: first - start, steps, window: Some(Box::new(window)) })
    }

    /// Refuses digits whose index is moved by rows, but not only in its first digit: rows would then be at other distances for other taps.
    fn check_digits(&self, m: Var, k: Var) -> Result<(), RewriteError> {
        let mut rows = vec![m];
        for s in self.around {
            let Stmt::Delinearize { index, into, .. } = s else { continue };
            if index.coefficient(m) != 0 && index.terms().iter().all(|(v, _)| *v == m) {
                rows.extend(into.iter().map(|(v, _)| *v));
                continue;
            }
            let behind: i64 = into[1..].iter().map(|(_, extent)| *extent as i64).product();
            let moves = |&(v, c): &(Var, i64)| rows.contains(&v) && (behind == 0 || c % behind != 0);
            if index.terms().iter().any(moves) || (index.coefficient(k) == 0 && behind == 0) {
                return refuse("tensorize", "rows are at other distances for other taps");
            }
        }
        Ok(())
    }

    /// Sets the digits and tells where they lead, with loops around the tile in their first iterations, and adds the indices that
    /// conditions are about.
    fn evaluate(&self, values: &mut [i64], [k, channel]: [Var; 2], indices: &mut Vec<i64>) -> i64 {
        for s in self.around {
            match s {
                Stmt::Delinearize { index, into, .. } if index.coefficient(k) == 0 => {
                    digits(index.eval(|v| values[usize::from(v.0)]), into, |v, digit| values[usize::from(v.0)] = digit);
                }
                Stmt::Inside { index, .. } if *index != Affine::from(channel) => {
                    indices.push(index.eval(|v| values[usize::from(v.0)]));
                }
                _ => {}
            }
        }
        let dims = &self.nest.buffers[usize::from(self.lhs.buffer.0)].dims;
        let index = self.lhs.index.iter().zip(dims);
        index.map(|(i, d)| i.eval(|v| values[usize::from(v.0)]) * d.stride as i64).sum()
    }

    fn conditions(&self, channel: Var) -> impl Iterator<Item = Condition> {
        self.around.iter().filter_map(move |s| match s {
            Stmt::Inside { index, extent, .. } if *index != Affine::from(channel) => {
                let outer = self.outer.iter().map(|&(v, max, by)| (index.coefficient(v), max, by));
                let outer: Vec<_> = outer.filter(|(c, ..)| *c != 0).collect();
                Some(Condition { extent: *extent as i64, rows: vec![], outer, loops: [0; 2], all: [0; 2] })
            }
            _ => None,
        })
    }

    /// The left factor's element where the tile's variables and some digits are known.
    fn access(&self, mut known: Vec<(Var, i64)>, [k, channel]: [Var; 2]) -> Result<Access, RewriteError> {
        let mut at = self.lhs.clone();
        let settle = |a: &mut Affine, known: &[(Var, i64)]| {
            known.iter().for_each(|&(v, value)| a.substitute(v, &Affine::constant(value)));
        };
        for s in self.around {
            let Stmt::Delinearize { index, into, .. } = s else { continue };
            if index.coefficient(k) != 0 || into.iter().any(|(v, _)| *v == channel) {
                continue;
            }
            let mut index = index.clone();
            settle(&mut index, &known);
            digits(index.constant, into, |v, digit| known.push((v, digit)));
            // What loops around the tile add does not change the digits behind the first.
            index.constant = 0;
            let behind = into[1..].iter().map(|(_, extent)| *extent as i64).product();
            let Some(moved) = index.divided(behind) else {
                return refuse("tensorize", "digits are not the same in all iterations of a loop around a tile");
            };
            let moved = moved.plus(&Affine::from(into[0].0), 1);
            at.index.iter_mut().for_each(|i| i.substitute(into[0].0, &moved));
        }
        at.index.iter_mut().for_each(|i| settle(i, &known));
        Ok(at)
    }

    /// Where a tile without taps does not read: at the first element of its batch, of its block in shared memory, and of
    /// its columns in their block.
    fn nowhere(&self) -> Access {
        let mut at = self.lhs.clone();
        let is_batch = |i: &Affine| i.terms().iter().any(|(v, _)| is_batch(&self.nest.vars[usize::from(v.0)]));
        let is_shared = self.nest.buffers[usize::from(at.buffer.0)].kind == BufferKind::Shared;
        let place = at.index.iter().take_while(|i| is_batch(i)).count() + usize::from(is_shared);
        for index in &mut at.index[place..] {
            let has_columns = index.coefficient(self.axes[1].0) != 0;
            let innermost = self.outer.iter().rev().find(|(v, ..)| has_columns && index.coefficient(*v) != 0);
            *index = innermost.map_or(Affine::default(), |(v, ..)| Affine::from(*v));
        }
        at
    }
}

/// A condition on an index.
struct Condition {
    extent: i64,
    /// What each row adds to the index of the first.
    rows: Vec<i64>,
    /// What loops around the tile add: coefficient, greatest value and step.
    outer: Vec<(i64, i64, i64)>,
    /// The least and the most that loops add, and that rows and loops do.
    loops: [i64; 2],
    all: [i64; 2],
}

impl Condition {
    /// Makes rows relative to the first, and tells how far all reach.
    fn settle(&mut self) {
        let zero = self.rows.first().copied().unwrap_or_default();
        self.rows.iter_mut().for_each(|row| *row -= zero);
        let outer =
            |extreme: fn(i64, i64) -> i64| self.outer.iter().map(|(c, max, _)| extreme(c * max, 0)).sum::<i64>();
        self.loops = [outer(i64::min), outer(i64::max)];
        let rows = [self.rows.iter().min(), self.rows.iter().max()].map(|row| row.copied().unwrap_or_default());
        self.all = [self.loops[0] + rows[0], self.loops[1] + rows[1]];
    }

    /// The rows for which it holds where the first row's index is `first`.
    fn rows_that_hold(&self, first: i64) -> Result<u64, RewriteError> {
        if first + self.all[0] >= 0 && first + self.all[1] < self.extent {
            return Ok(u64::MAX);
        }
        let rows = self.rows.iter().enumerate();
        rows.map(|(i, row)| Ok(u64::from(self.holds(first + row)?) << i)).sum()
    }

    /// Whether it holds for a row, in all iterations of the loops outside or in none.
    fn holds(&self, first: i64) -> Result<bool, RewriteError> {
        let [low, high] = self.loops.map(|more| first + more);
        if low >= 0 && high < self.extent {
            return Ok(true);
        }
        if high < 0 || low >= self.extent {
            return Ok(false);
        }
        let iterations = self.outer.iter().map(|(_, max, by)| (max / by) as u64 + 1);
        if iterations.fold(1, u64::saturating_mul) > MOST_LOOKED_AT {
            return refuse("tensorize", "a condition changes in too many iterations of loops around a tile");
        }
        let mut places = vec![first];
        for &(c, max, by) in &self.outer {
            places = places.iter().flat_map(|p| (0..=max).step_by(by as usize).map(move |v| p + c * v)).collect();
        }
        let inside = places.iter().filter(|p| (0..self.extent).contains(*p)).count();
        match inside {
            0 => Ok(false),
            all if all == places.len() => Ok(true),
            _ => refuse("tensorize", "a condition holds in some iterations of a loop around a tile only"),
        }
    }
}

/// The digits of a number, all but the first below their extents.
fn digits(number: i64, into: &[(Var, u64)], mut set: impl FnMut(Var, i64)) {
    let Some(((first, _), behind)) = into.split_first() else { return };
    let mut rest = number;
    for (var, extent) in behind.iter().rev() {
        set(*var, rest.rem_euclid(*extent as i64));
        rest = rest.div_euclid(*extent as i64);
    }
    set(*first, rest);
}
