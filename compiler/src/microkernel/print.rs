//! The text form of micro-kernels; [`parse`](super::parse) reads it back.
//!
//! ```text
//! microkernel uk_1x8_k512 avx2 lanes=8 registers=16 {
//!   param lhs: f32 read 1x2048 stride 2048
//!   param rhs: f32 read 1x32768 stride 32768
//!   param dst: f32 write 1x32 stride 4096
//!   v0 = zero                          ; c[0, 0..8]
//!   loop 512 {                         ; k in 0..512
//!     v1 = load rhs[0 + 64*t] x8       ; rhs[k, 0..8]
//!     v2 = broadcast lhs[0 + 4*t]      ; lhs[0, k]
//!     v0 += v1 * v2                    ; c[0, 0..8]
//!   }
//!   store dst[0], v0 x8                ; c[0, 0..8]
//! }
//! ```
//!
//! A region is `ROWSxROW_BYTES stride ROW_STRIDE`, `t` counts trips of the enclosing loop, `with v7` names a register that the operation
//! overwrites besides its result, and what follows `;` is the reason. For every micro-kernel that [verifies](MicroKernel::verify), parsing the text gives the micro-kernel back.

use std::fmt;

use super::{Access, Inst, MicroKernel, Op, Param, Stmt};

/// Column at which reasons start, so that those of short statements line up.
const REASON_COLUMN: usize = 37;

impl fmt::Display for MicroKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, isa, lanes, registers, params, body } = self;
        writeln!(f, "microkernel {name} {isa} lanes={lanes} registers={registers} {{")?;
        for param in params {
            writeln!(f, "  {param}")?;
        }
        for stmt in body {
            match stmt {
                Stmt::Inst(inst) => line(f, format!("  {}", inst.display(params)), &inst.why)?,
                Stmt::Loop { trips, why, body } => {
                    line(f, format!("  loop {trips} {{"), why)?;
                    for inst in body {
                        line(f, format!("    {}", inst.display(params)), &inst.why)?;
                    }
                    writeln!(f, "  }}")?;
                }
            }
        }
        writeln!(f, "}}")
    }
}

fn line(f: &mut fmt::Formatter<'_>, text: String, why: &str) -> fmt::Result {
    if why.is_empty() {
        return writeln!(f, "{text}");
    }
    // A reason must not be able to add statements to the text.
    let why = why.replace(char::is_control, " ");
    writeln!(f, "{text:<width$}; {why}", width = REASON_COLUMN.max(text.chars().count() + 1))
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
        })
    }
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, dtype, access, region } = self;
        let (rows, row_bytes, row_stride) = (region.rows, region.row_bytes, region.row_stride);
        write!(f, "param {name}: {dtype} {access} {rows}x{row_bytes} stride {row_stride}")
    }
}

impl Op {
    /// The text of the operation with parameters named as in `params`, which are its micro-kernel's.
    pub fn display<'a>(&'a self, params: &'a [Param]) -> impl fmt::Display + 'a {
        OpText { op: self, params }
    }
}

/// Parameters are called `p0`, `p1`, ...: an operation alone does not know their names. See [`Op::display`].
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display(&[]).fmt(f)
    }
}

struct OpText<'a> {
    op: &'a Op,
    params: &'a [Param],
}

impl fmt::Display for OpText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.op.print(self.params, f)
    }
}

/// The text of an operation and its temporary registers.
pub(super) struct InstText<'a> {
    pub inst: &'a Inst,
    pub params: &'a [Param],
}

impl fmt::Display for InstText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inst.op.print(self.params, f)?;
        for (n, v) in self.inst.temps.as_slice().iter().enumerate() {
            write!(f, "{}{v}", if n == 0 { " with " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Addr, P, V};
    use super::*;

    #[test]
    fn an_operation_alone_numbers_its_parameter() {
        let src = Addr { param: P(2), offset: -8, step: -4 };
        assert_eq!(src.to_string(), "p2[-8 - 4*t]");
        assert_eq!(Op::Broadcast { d: V(3), src }.to_string(), "v3 = broadcast p2[-8 - 4*t]");
    }
}
