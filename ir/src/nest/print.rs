//! The text form of loop nests.

use std::fmt::{self, Display, Formatter};

use super::{Access, Affine, BufferKind, Extent, Init, LoopNest, Matrix, Run, Stmt};

impl Display for LoopNest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "nest \"{}\" {{", self.problem)?;
        for b in &self.buffers {
            let kind = match b.kind {
                BufferKind::In => "in",
                BufferKind::Out => "out",
                BufferKind::InOut => "inout",
                BufferKind::Shared => "shared",
                BufferKind::Scratch => "scratch",
            };
            let list =
                |get: fn(&super::Dim) -> u64| b.dims.iter().map(|d| get(d).to_string()).collect::<Vec<_>>().join(", ");
            write!(f, "  {kind} {} {} [{}] strides [{}]", b.name, b.dtype, list(|d| d.extent), list(|d| d.stride))?;
            if b.interleave > 1 {
                write!(f, " interleave {}", b.interleave)?;
            }
            writeln!(f)?;
        }
        self.body.iter().try_for_each(|s| self.stmt(f, s, 1))?;
        writeln!(f, "}}")
    }
}

impl LoopNest {
    fn stmt(&self, f: &mut Formatter<'_>, s: &Stmt, depth: usize) -> fmt::Result {
        let block = |f: &mut Formatter<'_>, body: &[Stmt]| {
            writeln!(f, " {{")?;
            body.iter().try_for_each(|s| self.stmt(f, s, depth + 1))?;
            writeln!(f, "{:1$}}}", "", 2 * depth)
        };
        write!(f, "{:1$}", "", 2 * depth)?;
        match s {
            Stmt::Loop(l) => {
                write!(f, "for {} in 0..{}", self.vars[l.var.0 as usize], self.extent(&l.extent))?;
                if l.step != 1 {
                    write!(f, " step {}", l.step)?;
                }
                if l.parallel {
                    write!(f, " parallel")?;
                }
                block(f, &l.body)
            }
            Stmt::If { var, value, body } => {
                write!(f, "if {} == {value}", self.vars[var.0 as usize])?;
                block(f, body)
            }
            Stmt::Inside { index, extent, body } => {
                write!(f, "inside {} in 0..{extent}", self.affine(index))?;
                block(f, body)
            }
            Stmt::Delinearize { index, into, body } => {
                let digits: Vec<_> =
                    into.iter().map(|(v, e)| format!("{} in 0..{e}", self.vars[v.0 as usize])).collect();
                write!(f, "delinearize {} into {}", self.affine(index), digits.join(", "))?;
                block(f, body)
            }
            Stmt::Barrier => writeln!(f, "barrier"),
            Stmt::Zero { dst } => writeln!(f, "{} = 0", self.access(dst)),
            Stmt::MulAdd { dst, lhs, rhs } => {
                writeln!(f, "{} += {} * {}", self.access(dst), self.access(lhs), self.access(rhs))
            }
            Stmt::Post { op, dst, operand } => {
                write!(f, "{} = post {op}", self.access(dst))?;
                if let Some(a) = operand {
                    write!(f, " {}", self.access(a))?;
                }
                writeln!(f)
            }
            Stmt::Pack(p) => {
                let (k, width) = (self.extent(&p.k), self.extent(&p.width));
                writeln!(f, "pack {} = {} x {k} x {width} pitch {}", self.matrix(&p.dst), self.matrix(&p.src), p.pitch)
            }
            Stmt::Tile(t) => {
                let init = match t.init {
                    Init::Zero => "=",
                    Init::Load => "+=",
                };
                write!(
                    f,
                    "tile {}x{}x{} {} {init} {} * {}",
                    t.m,
                    t.n,
                    t.k,
                    self.matrix(&t.dst),
                    self.matrix(&t.lhs),
                    self.matrix(&t.rhs)
                )?;
                if let Some(w) = &t.window {
                    let rows = w.rows.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
                    write!(f, " window{} ({rows})", if w.columns { " columns" } else { "" })?;
                    for Run { lhs, rhs, len, rows } in &w.runs {
                        write!(f, " run ({lhs}, {rhs}) x {len} rows {rows}")?;
                    }
                }
                for (op, operand) in &t.post {
                    write!(f, " post {op}")?;
                    if let Some(m) = operand {
                        write!(f, " {}", self.matrix(m))?;
                    }
                }
                writeln!(f)
            }
        }
    }

    fn affine(&self, a: &Affine) -> String {
        let mut out = String::new();
        // By name: variables are numbered in another order when the text is parsed back.
        let mut terms: Vec<_> = a.terms().iter().map(|&(v, c)| (&self.vars[v.0 as usize], c)).collect();
        terms.sort();
        for (name, c) in terms {
            let sign = if c < 0 { "-" } else { "+" };
            match (out.is_empty(), c < 0) {
                (true, false) => {}
                (true, true) => out.push('-'),
                (false, _) => out += &format!(" {sign} "),
            }
            match c.unsigned_abs() {
                1 => out += name,
                c => out += &format!("{c}*{name}"),
            }
        }
        match (out.is_empty(), a.constant) {
            (true, c) => out = c.to_string(),
            (false, 0) => {}
            (false, c) if c < 0 => out += &format!(" - {}", c.unsigned_abs()),
            (false, c) => out += &format!(" + {c}"),
        }
        out
    }

    fn extent(&self, e: &Extent) -> String {
        match e {
            Extent::Const(n) => n.to_string(),
            Extent::Min { tile, rest } => format!("min({tile}, {})", self.affine(rest)),
        }
    }

    fn access(&self, a: &Access) -> String {
        let index = a.index.iter().map(|i| self.affine(i)).collect::<Vec<_>>().join(", ");
        format!("{}[{index}]", self.buffers[a.buffer.0 as usize].name)
    }

    fn matrix(&self, m: &Matrix) -> String {
        format!("{} ({}, {})", self.access(&m.at), m.row, m.col)
    }
}
