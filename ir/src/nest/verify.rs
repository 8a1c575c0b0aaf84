//! The verifier: what every well-formed nest satisfies.

use super::{Access, Affine, BufferKind, Extent, LoopNest, Matrix, Stmt, Tile, Var};

/// A rule that a nest breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
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
    /// An input is written.
    #[error("input `{0}` is written")]
    WritesInput(String),
    /// The number of indices differs from the rank.
    #[error("access to `{0}` has the wrong number of indices")]
    Rank(String),
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

struct Verifier<'a> {
    nest: &'a LoopNest,
    scope: Vec<Bound>,
}

impl LoopNest {
    /// Checks scoping, ranges of all accesses, kinds and operands.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let mut seen_scratch = false;
        for (i, b) in self.buffers.iter().enumerate() {
            let fail = |why| Err(VerifyError::Buffer(b.name.clone(), why));
            if self.buffers[..i].iter().any(|o| o.name == b.name) {
                return fail("its name is taken");
            }
            if b.dims.iter().any(|d| d.extent == 0 || d.extent > 1 << 40 || d.stride > 1 << 40) {
                return fail("an extent is zero or a dimension is beyond 2^40");
            }
            if seen_scratch && b.kind != BufferKind::Scratch {
                return fail("arguments come before scratch");
            }
            seen_scratch |= b.kind == BufferKind::Scratch;
        }
        Verifier { nest: self, scope: vec![] }.body(&self.body)
    }
}

impl Verifier<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), VerifyError> {
        body.iter().try_for_each(|s| self.stmt(s))
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
            Stmt::Zero { dst } => self.write(dst, 1),
            Stmt::MulAdd { dst, lhs, rhs } => {
                self.write(dst, 1)?;
                self.access(lhs, 1)?;
                self.access(rhs, 1)
            }
            Stmt::Post { op, dst, operand } => {
                self.write(dst, 1)?;
                self.post(*op, operand.as_ref(), 1)
            }
            Stmt::Copy { dst, src, len } => {
                let (len, rest) = self.extent(len, || "copy".into())?;
                // A run that ends at a rest is bounded like a loop variable over it.
                match rest {
                    None => {
                        self.write(dst, len as u64)?;
                        self.access(src, len as u64)
                    }
                    Some(rest) => {
                        let var = Var(u16::MAX);
                        let along = |a: &Access| {
                            let mut a = a.clone();
                            if let Some(last) = a.index.last_mut() {
                                last.add_term(var, 1);
                            }
                            a
                        };
                        let last = Some(self.last(rest, 1));
                        self.scope.push(Bound { var, step: 1, max: len - 1, last });
                        self.write(&along(dst), 1)?;
                        self.access(&along(src), 1)?;
                        self.scope.pop();
                        Ok(())
                    }
                }
            }
            Stmt::Tile(t) => self.tile(t),
        }
    }

    fn tile(&self, t: &Tile) -> Result<(), VerifyError> {
        if t.m == 0 || t.n == 0 || t.k == 0 {
            return Err(VerifyError::Extent("tile".into()));
        }
        self.write(&t.dst.at, 1)?;
        self.matrix(&t.dst, t.m, t.n)?;
        self.matrix(&t.lhs, t.m, t.k)?;
        self.matrix(&t.rhs, t.k, t.n)?;
        t.post.iter().try_for_each(|(op, operand)| self.post(*op, operand.as_ref(), t.n))
    }

    fn post(&self, op: crate::PostOp, operand: Option<&Access>, len: u64) -> Result<(), VerifyError> {
        match operand {
            Some(a) if op.reads_column_vector() => self.access(a, len),
            None if !op.reads_column_vector() => Ok(()),
            _ => Err(VerifyError::PostOp(op.name())),
        }
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
        let (end, rest) = match e {
            Extent::Const(n) => (i64::try_from(*n).unwrap_or(0), None),
            Extent::Min { tile, rest } => {
                rest.terms().iter().try_for_each(|t| self.in_scope(t.0))?;
                (self.high(rest).min(i64::try_from(*tile).unwrap_or(0)), Some(rest.clone()))
            }
        };
        if end < 1 { Err(VerifyError::Extent(what())) } else { Ok((end, rest)) }
    }

    /// The last multiple of `step` below `rest`, or a bound of it: exact when `rest` is itself a multiple.
    fn last(&self, mut rest: Affine, step: i64) -> Affine {
        let unit = |v: Var| self.scope.iter().find(|b| b.var == v).map_or(1, |b| b.step);
        let exact = rest.constant % step == 0 && rest.terms().iter().all(|&(v, c)| c * unit(v) % step == 0);
        rest.constant -= if exact { step } else { 1 };
        rest
    }

    /// An upper bound of `a`. Innermost variables go first; one that is limited by a rest is replaced by whichever of its
    /// two limits gives the smaller bound, since the rest may cancel against outer variables.
    fn high(&self, a: &Affine) -> i64 {
        let Some(b) = self.scope.iter().rev().find(|b| a.coefficient(b.var) != 0) else { return a.constant };
        let mut by_max = a.clone();
        let c = a.coefficient(b.var);
        by_max.substitute(b.var, &Affine::constant(if c > 0 { b.max } else { 0 }));
        let high = self.high(&by_max);
        match &b.last {
            Some(last) if c > 0 => {
                let mut by_rest = a.clone();
                by_rest.substitute(b.var, last);
                high.min(self.high(&by_rest))
            }
            _ => high,
        }
    }

    fn low(&self, a: &Affine) -> i64 {
        let mut negated = Affine::constant(-a.constant);
        a.terms().iter().for_each(|&(v, c)| negated.add_term(v, -c));
        -self.high(&negated)
    }

    fn write(&self, a: &Access, run: u64) -> Result<(), VerifyError> {
        let b = &self.nest.buffers[a.buffer.0 as usize];
        if b.kind == BufferKind::In {
            return Err(VerifyError::WritesInput(b.name.clone()));
        }
        self.access(a, run)
    }

    /// `run` elements along the last dimension from `a` stay inside every dimension.
    fn access(&self, a: &Access, run: u64) -> Result<(), VerifyError> {
        let b = &self.nest.buffers[a.buffer.0 as usize];
        if a.index.len() != b.dims.len() {
            return Err(VerifyError::Rank(b.name.clone()));
        }
        for (dim, (index, d)) in a.index.iter().zip(&b.dims).enumerate() {
            index.terms().iter().filter(|t| t.0 != Var(u16::MAX)).try_for_each(|t| self.in_scope(t.0))?;
            let extra = if dim + 1 == b.dims.len() { run as i64 - 1 } else { 0 };
            let (low, high) = (self.low(index), self.high(index) + extra);
            if low < 0 || high >= d.extent as i64 {
                return Err(VerifyError::Range { name: b.name.clone(), dim, low, high, extent: d.extent });
            }
        }
        Ok(())
    }

    /// A tile's operand: its first element by index, its last by linear offset.
    fn matrix(&self, m: &Matrix, rows: u64, cols: u64) -> Result<(), VerifyError> {
        self.access(&m.at, 1)?;
        let b = &self.nest.buffers[m.at.buffer.0 as usize];
        let mut offset = Affine::constant(((rows - 1) * m.row + (cols - 1) * m.col) as i64);
        for (index, d) in m.at.index.iter().zip(&b.dims) {
            offset.constant += index.constant * d.stride as i64;
            index.terms().iter().for_each(|&(v, c)| offset.add_term(v, c * d.stride as i64));
        }
        let high = self.high(&offset);
        if high >= b.len() as i64 {
            let (dim, low) = (b.dims.len(), self.low(&offset));
            return Err(VerifyError::Range { name: b.name.clone(), dim, low, high, extent: b.len() });
        }
        Ok(())
    }
}
