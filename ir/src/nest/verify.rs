//! The verifier: what every well-formed nest satisfies.

use super::{
    Access, Affine, Buffer, BufferKind, Extent, LoopNest, MAX_WINDOW_ROWS, Matrix, Pack, Stmt, Tile, TileWindow, Var,
};

/// A rule that a nest breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Tiles and copies are numbered in the order they are written down.
    #[error("a tile or copy has the number {found} instead of {expected}")]
    Number {
        /// Its number.
        found: u32,
        /// The number of tiles and copies before it.
        expected: u32,
    },
    /// A buffer is malformed.
    #[error("buffer `{0}`: {1}")]
    Buffer(String, &'static str),
    /// A variable is used outside its loop or bound twice.
    #[error("variable `{0}` {1}")]
    Variable(String, &'static str),
    /// A loop or copy never ends, never runs or goes negative.
    #[error("{0}: extent or step is not positive")]
    Extent(String),
    /// An access may leave its buffer.
    #[error("access to `{name}`: dimension {dim} reaches {low}..={high}, its extent is {extent}")]
    Range {
        /// Buffer.
        name: String,
        /// Which dimension; one past the last means the linear offset.
        dim: usize,
        /// Least value.
        low: i64,
        /// Greatest value.
        high: i64,
        /// What it must stay below.
        extent: u64,
    },
    /// An index may have more digits than it is taken apart into.
    #[error("digits of an index that reaches {low}..={high}, beyond 0..{extent}")]
    Digits {
        /// Least value.
        low: i64,
        /// Greatest value.
        high: i64,
        /// What it must stay below.
        extent: u64,
    },
    /// A number from which no address can follow.
    #[error("{0}: a number is beyond 2^40, or an index beyond 2^63")]
    TooLarge(String),
    /// An input is written.
    #[error("input `{0}` is written")]
    WritesInput(String),
    /// The number of indices differs from the rank.
    #[error("access to `{0}` has the wrong number of indices")]
    Rank(String),
    /// A body is divided into tasks, and some of it would be executed by no thread or by several.
    #[error("in a body with parallel loops, what is no part of them must be copies into scratch memory, before them")]
    Division,
    /// A barrier is inside of something.
    #[error("a barrier is at the top of a nest")]
    Barrier,
    /// Shared memory is read by tasks that may run beside those that write it.
    #[error("`{0}` is written and read, or written twice, without a barrier between, or read before it is written")]
    Shared(String),
    /// A post-op lacks its operand or has one too many.
    #[error("post-op `{0}` has the wrong operands")]
    PostOp(&'static str),
}

/// What is known of a variable in scope: it is a multiple of `step`, `0 <= var <= max`, and `var <= last` when the loop
/// ends at what is left of an axis.
struct Bound {
    var: Var,
    step: i64,
    max: i64,
    last: Option<Affine>,
}

/// The most that a number of a nest, or a buffer's length, may be.
pub(super) const LIMIT: u64 = 1 << 40;

/// Variables of which both limits are followed up in one bound: each doubles the work.
const MAX_SPLITS: u32 = 12;

struct Verifier<'a> {
    nest: &'a LoopNest,
    scope: Vec<Bound>,
    /// Expressions that are known to be at least 0 and below a limit.
    inside: Vec<(Affine, u64)>,
    /// The number of tiles and copies so far.
    calls: u32,
}

impl LoopNest {
    /// Checks scoping, ranges of all accesses, kinds and operands.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let is_argument = |b: &Buffer| !matches!(b.kind, BufferKind::Shared | BufferKind::Scratch);
        let mut seen_other = false;
        for (i, b) in self.buffers.iter().enumerate() {
            let fail = |why| Err(VerifyError::Buffer(b.name.clone(), why));
            if self.buffers[..i].iter().any(|o| o.name == b.name) {
                return fail("its name is taken");
            }
            if b.dims.iter().any(|d| d.extent == 0 || d.extent > LIMIT || d.stride > LIMIT) {
                return fail("an extent is zero or a dimension is beyond 2^40");
            }
            if b.interleave == 0 || (b.interleave > 1 && b.dims.len() < 2) {
                return fail("only the last dimension but one can be interleaved");
            }
            if b.interleave > LIMIT || b.len() > LIMIT {
                return fail("it has more than 2^40 elements");
            }
            if seen_other && is_argument(b) {
                return fail("arguments come before shared memory and scratch");
            }
            seen_other |= !is_argument(b);
        }
        Verifier { nest: self, scope: vec![], inside: vec![], calls: 0 }.body(&self.body)
    }
}

impl Verifier<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), VerifyError> {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    /// The number of a tile or copy is its place among them.
    fn number(&mut self, found: u32) -> Result<(), VerifyError> {
        let expected = self.calls;
        self.calls += 1;
        if found == expected { Ok(()) } else { Err(VerifyError::Number { found, expected }) }
    }

    fn name(&self, v: Var) -> String {
        self.nest.vars[v.0 as usize].clone()
    }

    fn stmt(&mut self, s: &Stmt) -> Result<(), VerifyError> {
        match s {
            Stmt::Loop(l) => {
                if self.scope.iter().any(|b| b.var == l.var) {
                    return Err(VerifyError::Variable(self.name(l.var), "is bound by two nested loops"));
                }
                let (end, rest) = self.extent(&l.extent, || format!("loop `{}`", self.name(l.var)))?;
                if l.step == 0 {
                    return Err(VerifyError::Extent(format!("loop `{}`", self.name(l.var))));
                }
                if l.step > LIMIT {
                    return Err(VerifyError::TooLarge(format!("loop `{}`", self.name(l.var))));
                }
                let max = (end - 1) / l.step as i64 * l.step as i64;
                let last = rest.map(|rest| self.last(rest, l.step as i64));
                self.scope.push(Bound { var: l.var, step: l.step as i64, max, last });
                self.body(&l.body)?;
                self.scope.pop();
                Ok(())
            }
            Stmt::If { var, body, .. } => {
                self.in_scope(*var)?;
                self.body(body)
            }
            Stmt::Inside { index, extent, body } => {
                self.range(index, || "condition".into())?;
                self.inside.push((index.clone(), *extent));
                self.body(body)?;
                self.inside.pop();
                Ok(())
            }
            Stmt::Delinearize { index, into, body } => self.delinearize(index, into, body),
            Stmt::Barrier if self.scope.is_empty() => Ok(()),
            Stmt::Barrier => Err(VerifyError::Barrier),
            Stmt::Zero { dst } => self.write(dst),
            Stmt::MulAdd { dst, lhs, rhs } => {
                self.write(dst)?;
                self.access(lhs)?;
                self.access(rhs)
            }
            Stmt::Post { op, dst, operand } => {
                self.write(dst)?;
                self.has_operand(*op, operand.is_some())?;
                operand.iter().try_for_each(|a| self.access(a))
            }
            Stmt::Pack(p) => {
                self.number(p.number)?;
                self.pack(p)
            }
            Stmt::Tile(t) => {
                self.number(t.number)?;
                self.tile(t)
            }
        }
    }

    /// The index has digits of these extents, whose variables are new.
    fn delinearize(&mut self, index: &Affine, into: &[(Var, u64)], body: &[Stmt]) -> Result<(), VerifyError> {
        let what = || "delinearize".to_owned();
        let extent = into.iter().try_fold(1u64, |all, (_, e)| all.checked_mul(*e).filter(|all| *all <= LIMIT));
        let extent = extent.ok_or_else(|| VerifyError::TooLarge(what()))?;
        let (low, high) = self.bounds(index, what)?;
        if low < 0 || high >= extent as i64 {
            return Err(VerifyError::Digits { low, high, extent });
        }
        let outside = self.scope.len();
        for (var, extent) in into {
            if self.scope.iter().any(|b| b.var == *var) {
                return Err(VerifyError::Variable(self.name(*var), "is bound twice"));
            }
            self.scope.push(Bound { var: *var, step: 1, max: *extent as i64 - 1, last: None });
        }
        self.body(body)?;
        self.scope.truncate(outside);
        Ok(())
    }

    fn tile(&self, t: &Tile) -> Result<(), VerifyError> {
        if t.m == 0 || t.n == 0 || (t.k == 0 && t.window.is_none()) {
            return Err(VerifyError::Extent("tile".into()));
        }
        self.write(&t.dst.at)?;
        self.matrix(&t.dst, t.m, t.n)?;
        if let Some(w) = &t.window {
            self.window(t, w)?;
        } else if self.buffer(&t.lhs.at).interleave > 1 {
            self.matrix(&t.lhs, t.k, t.m)?;
        } else {
            self.matrix(&t.lhs, t.m, t.k)?;
        }
        self.matrix(&t.rhs, t.k.max(1), t.n)?;
        t.post.iter().try_for_each(|(op, operand)| {
            self.has_operand(*op, operand.is_some())?;
            operand.iter().try_for_each(|m| self.matrix(m, t.m, t.n))
        })
    }

    /// Every element of lhs that a run of a row reads is in the buffer.
    fn window(&self, t: &Tile, w: &TileWindow) -> Result<(), VerifyError> {
        self.access(&t.lhs.at)?;
        let b = self.buffer(&t.lhs.at);
        let fail = |why| Err(VerifyError::Buffer(b.name.clone(), why));
        if t.m > MAX_WINDOW_ROWS || w.rows.len() as u64 != t.m {
            return fail("a window has as many offsets as its tile has rows, and at most 64");
        }
        let too_large = || VerifyError::TooLarge(format!("window of `{}`", b.name));
        let numbers = w.runs.iter().flat_map(|r| [r.lhs.unsigned_abs(), r.rhs, r.len]);
        let numbers = numbers.chain(w.rows.iter().map(|r| r.unsigned_abs())).chain([t.lhs.row, t.lhs.col, t.n]);
        if numbers.into_iter().any(|n| n > LIMIT) {
            return Err(too_large());
        }
        let mut end = 0;
        let (mut low, mut high) = (0i128, 0i128);
        for run in &w.runs {
            if run.len == 0 || run.rows == 0 || (t.m < 64 && run.rows >> t.m != 0) {
                return fail("a run has no steps, no rows, or rows that the tile lacks");
            }
            if run.rhs < end || run.rhs + run.len > t.k {
                return fail("runs are not ascending steps of the tile's K");
            }
            if b.interleave > 1 && (w.columns || run.rhs % b.interleave != 0) {
                return fail("a run begins inside a group of an interleaved panel");
            }
            if w.columns && run.len != 1 {
                return fail("a window with columns has runs of one step");
            }
            end = run.rhs + run.len;
            let (steps, past) = match (w.columns, b.interleave) {
                (true, _) => (i128::from(t.n - 1) * i128::from(t.lhs.col), 0),
                (_, 1) => (i128::from(run.len - 1) * i128::from(t.lhs.col), 0),
                (_, g) => (i128::from((run.len - 1) / g * g) * i128::from(t.lhs.row), i128::from(g - 1)),
            };
            for (_, row) in w.rows.iter().enumerate().filter(|(i, _)| run.rows >> i & 1 == 1) {
                let first = i128::from(*row) + i128::from(run.lhs);
                low = low.min(first);
                high = high.max(first + steps + past);
            }
        }
        let mut offset = Affine::default();
        for (index, d) in t.lhs.at.index.iter().zip(&b.dims) {
            offset.checked_add(index, d.stride as i64).ok_or_else(too_large)?;
        }
        let last = self.high(&[], &offset, MAX_SPLITS).ok_or_else(too_large)?;
        let high = i128::from(last) + high;
        if low < 0 || high >= i128::from(b.len()) {
            let clamp = |n: i128| n.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            let (dim, low, high) = (b.dims.len(), clamp(low), clamp(high));
            return Err(VerifyError::Range { name: b.name.clone(), dim, low, high, extent: b.len() });
        }
        Ok(())
    }

    /// The greatest extents of a copy stay inside both sides.
    fn pack(&self, p: &Pack) -> Result<(), VerifyError> {
        self.write(&p.dst.at)?;
        let what = || "copy into a panel".to_owned();
        let (k, width) = (self.extent(&p.k, what)?, self.extent(&p.width, what)?);
        let panel = self.buffer(&p.dst.at);
        if panel.dims.len() < 2 || p.pitch < width.0 as u64 {
            return Err(VerifyError::Buffer(panel.name.clone(), "a panel is narrower than what is copied into it"));
        }
        // Extents that end at a rest are bounded like loop variables over it.
        let limited = |(end, rest): (i64, Option<Affine>)| (end as u64, rest.map(|rest| self.last(rest, 1)));
        let ((k, k_rest), (width, width_rest)) = (limited(k), limited(width));
        self.limited_matrix(&p.src, [(k, k_rest), (width, width_rest)])?;
        self.matrix(&p.dst, k, if panel.interleave > 1 { p.pitch } else { width })
    }

    fn buffer(&self, a: &Access) -> &Buffer {
        &self.nest.buffers[a.buffer.0 as usize]
    }

    fn has_operand(&self, op: crate::PostOp, has: bool) -> Result<(), VerifyError> {
        if op.has_operand() == has { Ok(()) } else { Err(VerifyError::PostOp(op.name())) }
    }

    fn in_scope(&self, v: Var) -> Result<(), VerifyError> {
        match self.scope.iter().any(|b| b.var == v) {
            true => Ok(()),
            false => Err(VerifyError::Variable(
                self.nest.vars.get(v.0 as usize).cloned().unwrap_or_default(),
                "is used outside its loop",
            )),
        }
    }

    /// The greatest value of an extent, and the rest that limits it.
    fn extent(&self, e: &Extent, what: impl Fn() -> String) -> Result<(i64, Option<Affine>), VerifyError> {
        let limited = |n: u64| if n > LIMIT { Err(VerifyError::TooLarge(what())) } else { Ok(n as i64) };
        let (end, rest) = match e {
            Extent::Const(n) => (limited(*n)?, None),
            Extent::Min { tile, rest } => {
                let (_, high) = self.range(rest, &what)?;
                (high.min(limited(*tile)?), Some(rest.clone()))
            }
        };
        if end < 1 { Err(VerifyError::Extent(what())) } else { Ok((end, rest)) }
    }

    /// The last multiple of `step` below `rest`, or a bound of it: exact when what `rest` subtracts are multiples.
    fn last(&self, mut rest: Affine, step: i64) -> Affine {
        rest.constant -= 1;
        if self.varies_by(&rest, step) {
            rest.constant = rest.constant.div_euclid(step) * step;
        }
        rest
    }

    /// A lower and an upper bound of an expression as written, whose numbers must be within the limit.
    fn range(&self, a: &Affine, what: impl Fn() -> String) -> Result<(i64, i64), VerifyError> {
        a.terms().iter().try_for_each(|t| self.in_scope(t.0))?;
        let mut numbers = a.terms().iter().map(|t| t.1).chain([a.constant]);
        if numbers.any(|n| n.unsigned_abs() > LIMIT) {
            return Err(VerifyError::TooLarge(what()));
        }
        let mut negated = Affine::default();
        let low = negated.checked_add(a, -1).and_then(|()| self.high(&[], &negated, MAX_SPLITS)?.checked_neg());
        let high = self.high(&[], a, MAX_SPLITS);
        low.zip(high).ok_or_else(|| VerifyError::TooLarge(what()))
    }

    /// The same with what conditions around it say: an index that differs from one that is inside by something bounded is bounded.
    fn bounds(&self, a: &Affine, what: impl Fn() -> String) -> Result<(i64, i64), VerifyError> {
        let (mut low, mut high) = self.range(a, &what)?;
        for (known, extent) in &self.inside {
            let mut rest = a.clone();
            rest.checked_add(known, -1).ok_or_else(|| VerifyError::TooLarge(what()))?;
            let (from, to) = self.range(&rest, &what)?;
            low = low.max(from);
            high = high.min(to.saturating_add(*extent as i64 - 1));
        }
        Ok((low, high))
    }

    /// An upper bound of `a`, which may have variables `inner` inside those in scope; `None` beyond the range of i64.
    /// Innermost variables go first; one that is limited by a rest is replaced by whichever of its two limits gives the
    /// smaller bound, since the rest may cancel against outer variables. After `splits` such choices only the constant
    /// limit counts.
    fn high(&self, inner: &[Bound], a: &Affine, splits: u32) -> Option<i64> {
        let bounds = inner.iter().rev().chain(self.scope.iter().rev());
        let Some(b) = { bounds }.find(|b| a.coefficient(b.var) != 0) else { return Some(a.constant) };
        let c = a.coefficient(b.var);
        let last = b.last.as_ref().filter(|_| c > 0 && splits > 0);
        let splits = splits - u32::from(last.is_some());
        let limit = Affine::constant(if c > 0 { b.max } else { 0 });
        let high = self.high(inner, &a.clone().checked_substitute(b.var, &limit)?, splits)?;
        match last {
            Some(last) => {
                let by_rest = self.high(inner, &a.clone().checked_substitute(b.var, last)?, splits)?;
                Some(high.min(by_rest))
            }
            None => Some(high),
        }
    }

    fn write(&self, a: &Access) -> Result<(), VerifyError> {
        let b = self.buffer(a);
        if b.kind == BufferKind::In {
            return Err(VerifyError::WritesInput(b.name.clone()));
        }
        self.access(a)
    }

    /// The element stays inside every dimension.
    fn access(&self, a: &Access) -> Result<(), VerifyError> {
        let b = self.buffer(a);
        if a.index.len() != b.dims.len() {
            return Err(VerifyError::Rank(b.name.clone()));
        }
        for (dim, (index, d)) in a.index.iter().zip(&b.dims).enumerate() {
            let (low, high) = self.bounds(index, || format!("access to `{}`", b.name))?;
            if low < 0 || high >= d.extent as i64 {
                return Err(VerifyError::Range { name: b.name.clone(), dim, low, high, extent: d.extent });
            }
        }
        Ok(())
    }

    /// An operand of `rows` by `cols`: its first element by index, its last by linear offset.
    fn matrix(&self, m: &Matrix, rows: u64, cols: u64) -> Result<(), VerifyError> {
        self.limited_matrix(m, [(rows, None), (cols, None)])
    }

    /// The same with extents that may be smaller: `(extent, last index)` of the two axes.
    fn limited_matrix(&self, m: &Matrix, axes: [(u64, Option<Affine>); 2]) -> Result<(), VerifyError> {
        self.access(&m.at)?;
        let b = self.buffer(&m.at);
        let too_large = || VerifyError::TooLarge(format!("access to `{}`", b.name));
        // Groups of neighbours are whole: what is addressed ends with the last group.
        let (strides, past) = match b.last_interleaved() {
            Some(at) => {
                let (index, group) = (&m.at.index[at], b.interleave as i64);
                if index.constant % group != 0 || !self.varies_by(index, group) {
                    return Err(VerifyError::Buffer(
                        b.name.clone(),
                        "an interleaved panel is addressed inside a group",
                    ));
                }
                ([b.dims[at].stride, b.dims[at + 1].stride], b.interleave - 1)
            }
            None => ([m.row, m.col], 0),
        };
        let mut offset = Affine::constant(past as i64);
        for (index, d) in m.at.index.iter().zip(&b.dims) {
            offset.checked_add(index, d.stride as i64).ok_or_else(too_large)?;
        }
        let mut scope = vec![];
        for (i, ((extent, rest), stride)) in axes.into_iter().zip(strides).enumerate() {
            if extent > LIMIT || stride > LIMIT {
                return Err(too_large());
            }
            let groups = if i == 0 { b.interleave } else { 1 };
            // The stride is that of whole groups: inside the last one, `past` counts.
            let last = ((extent - 1) / groups * groups) as i64;
            let var = Var(u16::MAX - i as u16);
            offset.add_term(var, stride as i64);
            scope.push(Bound { var, step: 1, max: last, last: rest });
        }
        let high = self.high(&scope, &offset, MAX_SPLITS).ok_or_else(too_large)?;
        if high >= b.len() as i64 {
            let (dim, low) = (b.dims.len(), high);
            return Err(VerifyError::Range { name: b.name.clone(), dim, low, high, extent: b.len() });
        }
        Ok(())
    }

    /// Whether values of `a` are multiples of `step` apart.
    fn varies_by(&self, a: &Affine, step: i64) -> bool {
        let unit = |v: Var| self.scope.iter().find(|b| b.var == v).map_or(1, |b| b.step);
        a.terms().iter().all(|&(v, c)| c.checked_mul(unit(v)).is_some_and(|m| m % step == 0))
    }
}
