use super::{RewriteError, refuse};
use crate::nest::{Access, Affine, Extent, LoopNest, Stmt, Var};

/// The most that a number of a nest may be, and that an index may reach: sums of products of two of them fit in 64 bits.
const LIMIT: i64 = 1 << 40;
/// The most iterations, or values of digits, that are looked at one by one.
pub(super) const MOST_LOOKED_AT: u64 = 1 << 24;
/// The most statements, or runs of a tile, that a rewrite makes of a few.
pub(super) const MOST_MADE: u64 = 1 << 16;

/// Refuses nests with an index map whose numbers are none to compute with: no extent, step or digit is 0, buffers and variables exist, and
/// indices stay in range. That is less than what [`LoopNest::verify`] finds, for much less time.
pub(super) fn check_map(nest: &LoopNest, rewrite: &'static str) -> Result<(), RewriteError> {
    if !nest.body.iter().any(has_map) {
        return Ok(());
    }
    let mut check = Check { nest, most: vec![0; nest.vars.len()] };
    match check.body(&nest.body) {
        Some(()) => Ok(()),
        None => refuse(rewrite, "the nest has extents, steps or indices that no verified nest has"),
    }
}

/// Whether digits or conditions are in `s`.
pub(super) fn has_map(s: &Stmt) -> bool {
    matches!(s, Stmt::Delinearize { .. } | Stmt::Inside { .. }) || s.body().iter().any(has_map)
}

struct Check<'a> {
    nest: &'a LoopNest,
    /// The greatest value of each variable in scope.
    most: Vec<i64>,
}

impl Check<'_> {
    fn body(&mut self, body: &[Stmt]) -> Option<()> {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    fn stmt(&mut self, s: &Stmt) -> Option<()> {
        match s {
            Stmt::Loop(l) => {
                let (Extent::Const(extent) | Extent::Min { tile: extent, .. }) = &l.extent;
                if let Extent::Min { rest, .. } = &l.extent {
                    self.index(rest)?;
                }
                let (extent, _) = (number(*extent)?, number(l.step)?);
                self.bind(l.var, extent)?;
            }
            Stmt::Delinearize { index, into, .. } => {
                let reach = self.index(index)?;
                let all = into.iter().try_fold(1i64, |all, (_, extent)| all.checked_mul(number(*extent)?))?;
                if into.is_empty() || all > LIMIT {
                    return None;
                }
                into.iter().try_for_each(|(v, extent)| self.bind(*v, *extent as i64))?;
                // The first digit is what the others leave, whatever its extent.
                let (first, extent) = into[0];
                self.bind(first, extent as i64 + reach / (all / extent as i64))?;
            }
            Stmt::Inside { index, extent, .. } => {
                self.index(index)?;
                number(*extent)?;
            }
            Stmt::If { value, .. } => {
                i64::try_from(*value).ok().filter(|value| *value <= LIMIT)?;
            }
            Stmt::Zero { dst } => self.access(dst)?,
            Stmt::MulAdd { dst, lhs, rhs } => [dst, lhs, rhs].into_iter().try_for_each(|a| self.access(a))?,
            Stmt::Post { dst, operand, .. } => [dst].into_iter().chain(operand).try_for_each(|a| self.access(a))?,
            // Rewrites that follow a map leave copies and tiles as they are.
            Stmt::Pack(_) | Stmt::Tile(_) | Stmt::Barrier => {}
        }
        self.body(s.body())
    }

    fn bind(&mut self, var: Var, extent: i64) -> Option<()> {
        *self.most.get_mut(usize::from(var.0))? = extent - 1;
        Some(())
    }

    /// The greatest magnitude of an index.
    fn index(&self, a: &Affine) -> Option<i64> {
        let mut sum = Some(a.constant).filter(|c| c.unsigned_abs() <= LIMIT as u64)?.abs();
        for &(v, c) in a.terms() {
            let c = Some(c).filter(|c| c.unsigned_abs() <= LIMIT as u64)?.abs();
            sum = sum.checked_add(c.checked_mul(*self.most.get(usize::from(v.0))?)?)?;
        }
        (sum <= LIMIT).then_some(sum)
    }

    /// An access of a buffer that exists, by as many indices as it has dimensions, at a place that is a number.
    fn access(&self, a: &Access) -> Option<()> {
        let dims = &self.nest.buffers.get(usize::from(a.buffer.0))?.dims;
        if a.index.len() != dims.len() {
            return None;
        }
        a.index.iter().zip(dims).try_for_each(|(index, d)| {
            let place = self.index(index)?.checked_mul(number(d.stride.max(1))?)?;
            (place <= LIMIT << 8 && number(d.extent).is_some()).then_some(())
        })
    }
}

fn number(n: u64) -> Option<i64> {
    i64::try_from(n).ok().filter(|n| (1..=LIMIT).contains(n))
}
