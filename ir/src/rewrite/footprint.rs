//! Footprints: which elements of a buffer statements access.

use crate::nest::{Access, Affine, BufferId, Extent, Matrix, Pack, Stmt, Var};

/// The indices along a dimension: those of `low..=high`, from a first one that depends on variables from outside.
pub(super) struct Footprint {
    pub(super) outer: Affine,
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Footprint {
    /// The least of them.
    pub(super) fn first(&self) -> Affine {
        let mut first = self.outer.clone();
        first.constant = self.low;
        first
    }

    /// How many they are.
    pub(super) fn len(&self) -> u64 {
        (self.high - self.low + 1) as u64
    }
}

/// The footprint in a buffer that statements multiply, add to or apply post-ops with, by dimension; none if they do not access it.
pub(super) fn footprints(body: &[Stmt], buffer: BufferId) -> Vec<Footprint> {
    let mut walk = Walk { buffer, scope: vec![], all: vec![] };
    walk.body(body);
    walk.all
}

struct Walk {
    buffer: BufferId,
    /// The variables bound inside, with the greatest value of each.
    scope: Vec<(Var, i64)>,
    all: Vec<Footprint>,
}

impl Walk {
    fn body(&mut self, body: &[Stmt]) {
        for s in body {
            let outside = self.scope.len();
            match s {
                Stmt::Loop(l) => {
                    let (Extent::Const(extent) | Extent::Min { tile: extent, .. }) = &l.extent;
                    self.scope.push((l.var, (extent.saturating_sub(1) / l.step.max(1) * l.step) as i64));
                }
                Stmt::Delinearize { into, .. } => self.scope.extend(into.iter().map(|(v, e)| (*v, *e as i64 - 1))),
                Stmt::MulAdd { dst, lhs, rhs } => [dst, lhs, rhs].into_iter().for_each(|a| self.access(a)),
                Stmt::Zero { dst } => self.access(dst),
                Stmt::Post { dst, operand, .. } => [dst].into_iter().chain(operand).for_each(|a| self.access(a)),
                Stmt::If { .. } | Stmt::Inside { .. } | Stmt::Barrier | Stmt::Pack(_) | Stmt::Tile(_) => {}
            }
            self.body(s.body());
            self.scope.truncate(outside);
        }
    }

    fn access(&mut self, a: &Access) {
        if a.buffer != self.buffer {
            return;
        }
        for (dim, index) in a.index.iter().enumerate() {
            let (mut outer, mut low, mut high) = (Affine::default(), index.constant, index.constant);
            for &(var, c) in index.terms() {
                match self.scope.iter().find(|(v, _)| *v == var) {
                    Some((_, max)) => (low, high) = (low + (c * max).min(0), high + (c * max).max(0)),
                    None => outer.add_term(var, c),
                }
            }
            match self.all.get_mut(dim) {
                Some(print) => (print.low, print.high) = (print.low.min(low), print.high.max(high)),
                None => self.all.push(Footprint { outer, low, high }),
            }
        }
    }
}

/// The width of one transposing copy, which is unrolled over it.
const COPY_WIDTH: u64 = 32;

/// A copy in pieces of a width, by a loop over `var`. The width is along the last dimension but so many of destination and source.
pub(super) fn in_widths(copy: &Pack, width: u64, [to, from]: [usize; 2], var: Var) -> Vec<Stmt> {
    let piece = |at: &Affine, width: u64| {
        let mut copy = copy.clone();
        let along = |m: &mut Matrix, behind: usize| {
            let dim = m.at.index.len() - 1 - behind;
            m.at.index[dim] = m.at.index[dim].plus(at, 1);
        };
        along(&mut copy.dst, to);
        along(&mut copy.src, from);
        (copy.width, copy.pitch) = (Extent::Const(width), width);
        Stmt::Pack(Box::new(copy))
    };
    let (count, rest) = (width / COPY_WIDTH, width % COPY_WIDTH);
    let mut out = vec![];
    match count {
        0 => {}
        1 => out.push(piece(&Affine::default(), COPY_WIDTH)),
        _ => out.push(super::over(var, count * COPY_WIDTH, COPY_WIDTH, vec![piece(&Affine::from(var), COPY_WIDTH)])),
    }
    if rest > 0 {
        out.push(piece(&Affine::constant((count * COPY_WIDTH) as i64), rest));
    }
    out
}
