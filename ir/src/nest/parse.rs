//! Reading the text form of loop nests.

use std::str::FromStr;

use super::verify::LIMIT;
use super::{
    Access, Affine, Buffer, BufferId, BufferKind, Dim, Extent, Init, Loop, LoopNest, Matrix, Pack, Run, Stmt, Tile,
    TileWindow, Var,
};
use crate::epilogue::PostOp;
use crate::text::{Cursor, Pos, SyntaxError};

/// A text that is not a loop nest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct NestParseError {
    /// Where.
    pub at: Pos,
    /// What was expected and what was found.
    pub what: String,
}

impl From<SyntaxError> for NestParseError {
    fn from(e: SyntaxError) -> Self {
        Self { at: e.at, what: e.to_string() }
    }
}

type Result<T> = std::result::Result<T, NestParseError>;

/// Blocks nest at most this deep, so that hostile text cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

struct Parser<'a> {
    text: Cursor<'a>,
    nest: LoopNest,
    depth: usize,
}

impl FromStr for LoopNest {
    type Err = NestParseError;

    fn from_str(s: &str) -> Result<Self> {
        let nest = LoopNest { problem: String::new(), buffers: vec![], vars: vec![], body: vec![] };
        let mut p = Parser { text: Cursor::new(s), nest, depth: 0 };
        p.nest()?;
        Ok(p.nest)
    }
}

impl<'a> Parser<'a> {
    fn fail<T>(&mut self, what: impl Into<String>) -> Result<T> {
        Err(NestParseError { at: self.text.pos(), what: what.into() })
    }

    fn nest(&mut self) -> Result<()> {
        self.text.expect("nest")?;
        self.nest.problem = self.text.quoted("the problem in quotes")?.to_owned();
        self.text.expect("{")?;
        loop {
            let kind = match () {
                () if self.text.eat_keyword("in") => BufferKind::In,
                () if self.text.eat_keyword("out") => BufferKind::Out,
                () if self.text.eat_keyword("inout") => BufferKind::InOut,
                () if self.text.eat_keyword("shared") => BufferKind::Shared,
                () if self.text.eat_keyword("scratch") => BufferKind::Scratch,
                () => break,
            };
            self.buffer(kind)?;
        }
        let body = self.statements()?;
        self.nest.body = body;
        self.nest.number_calls();
        if !self.text.at_end() { self.fail("expected the end of the text") } else { Ok(()) }
    }

    fn buffer(&mut self, kind: BufferKind) -> Result<()> {
        let name = self.text.word("a buffer name")?.to_owned();
        let at = self.text.pos();
        let dtype = self
            .text
            .word("a dtype")?
            .parse()
            .map_err(|e: crate::dtype::UnknownDType| NestParseError { at, what: e.to_string() })?;
        let extents = self.numbers()?;
        self.text.expect("strides")?;
        let strides = self.numbers()?;
        if extents.len() != strides.len() || extents.contains(&0) {
            return self.fail("expected as many strides as extents, and no extent of 0");
        }
        let interleave =
            if self.text.eat_keyword("interleave") { self.text.number("a number of neighbours")? } else { 1 };
        if self.nest.buffers.len() > usize::from(u16::MAX) / 2 {
            return self.fail("too many buffers");
        }
        let dims = extents.into_iter().zip(strides).map(|(extent, stride)| Dim { extent, stride }).collect();
        self.nest.buffers.push(Buffer { name, dtype, kind, dims, interleave });
        Ok(())
    }

    fn numbers(&mut self) -> Result<Vec<u64>> {
        self.text.expect("[")?;
        let mut all = vec![];
        while !self.text.eat("]") {
            if !all.is_empty() {
                self.text.expect(",")?;
            }
            all.push(self.text.number("a number")?);
        }
        Ok(all)
    }

    /// Statements up to and including the closing brace.
    fn statements(&mut self) -> Result<Vec<Stmt>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("blocks nest deeper than {MAX_DEPTH}"));
        }
        let mut body = vec![];
        while !self.text.eat("}") {
            body.push(self.statement()?);
        }
        self.depth -= 1;
        Ok(body)
    }

    fn statement(&mut self) -> Result<Stmt> {
        if self.text.eat_keyword("for") {
            return self.repeat();
        }
        if self.text.eat_keyword("if") {
            let var = self.var()?;
            self.text.expect("==")?;
            let value = self.text.number("a number")?;
            self.text.expect("{")?;
            return Ok(Stmt::If { var, value, body: self.statements()? });
        }
        if self.text.eat_keyword("inside") {
            let index = self.affine()?;
            self.text.expect("in")?;
            self.text.expect("0..")?;
            let extent = self.text.number("an extent")?;
            self.text.expect("{")?;
            return Ok(Stmt::Inside { index, extent, body: self.statements()? });
        }
        if self.text.eat_keyword("delinearize") {
            let index = self.affine()?;
            self.text.expect("into")?;
            let mut into = vec![];
            while into.is_empty() || self.text.eat(",") {
                let var = self.var()?;
                self.text.expect("in")?;
                self.text.expect("0..")?;
                into.push((var, self.text.number("an extent")?));
            }
            self.text.expect("{")?;
            return Ok(Stmt::Delinearize { index, into, body: self.statements()? });
        }
        if self.text.eat_keyword("barrier") {
            return Ok(Stmt::Barrier);
        }
        if self.text.eat_keyword("pack") {
            return Ok(Stmt::Pack(Box::new(self.pack()?)));
        }
        if self.text.eat_keyword("tile") {
            return Ok(Stmt::Tile(Box::new(self.tile()?)));
        }
        let dst = self.access()?;
        if self.text.eat("+=") {
            let lhs = self.access()?;
            self.text.expect("*")?;
            return Ok(Stmt::MulAdd { dst, lhs, rhs: self.access()? });
        }
        self.text.expect("=")?;
        if self.text.eat_keyword("post") {
            let op = self.post_op()?;
            let operand = if op.has_operand() { Some(self.access()?) } else { None };
            return Ok(Stmt::Post { op, dst, operand });
        }
        self.text.expect("0")?;
        Ok(Stmt::Zero { dst })
    }

    fn repeat(&mut self) -> Result<Stmt> {
        let var = self.var()?;
        self.text.expect("in")?;
        self.text.expect("0..")?;
        let extent = self.extent()?;
        let step = if self.text.eat_keyword("step") { self.text.number("a step")? } else { 1 };
        let parallel = self.text.eat_keyword("parallel");
        self.text.expect("{")?;
        Ok(Stmt::Loop(Loop { var, extent, step, parallel, body: self.statements()? }))
    }

    fn tile(&mut self) -> Result<Tile> {
        let m = self.text.number("rows")?;
        self.text.expect("x")?;
        let n = self.text.number("columns")?;
        self.text.expect("x")?;
        let k = self.text.number("the length of the sum")?;
        let dst = self.matrix()?;
        let init = if self.text.eat("+=") { Init::Load } else { Init::Zero };
        if init == Init::Zero {
            self.text.expect("=")?;
        }
        let lhs = self.matrix()?;
        self.text.expect("*")?;
        let rhs = self.matrix()?;
        let window = if self.text.eat_keyword("window") { Some(Box::new(self.window()?)) } else { None };
        let mut post = vec![];
        while self.text.eat_keyword("post") {
            let op = self.post_op()?;
            post.push((op, if op.has_operand() { Some(self.matrix()?) } else { None }));
        }
        Ok(Tile { number: 0, m, n, k, dst, lhs, rhs, init, post, window })
    }

    fn window(&mut self) -> Result<TileWindow> {
        let columns = self.text.eat_keyword("columns");
        self.text.expect("(")?;
        let mut rows = vec![self.signed()?];
        while self.text.eat(",") {
            rows.push(self.signed()?);
        }
        self.text.expect(")")?;
        let mut runs = vec![];
        while self.text.eat_keyword("run") {
            self.text.expect("(")?;
            let lhs = self.signed()?;
            self.text.expect(",")?;
            let rhs = self.text.number("a step of K")?;
            self.text.expect(")")?;
            self.text.expect("x")?;
            let len = self.text.number("a number of steps")?;
            self.text.expect("rows")?;
            runs.push(Run { lhs, rhs, len, rows: self.text.number("rows as bits")? });
        }
        Ok(TileWindow { rows, runs, columns })
    }

    fn signed(&mut self) -> Result<i64> {
        let negative = self.text.eat("-");
        let number = self.text.number("a number")?;
        match i64::try_from(number).ok().filter(|n| n.unsigned_abs() <= LIMIT) {
            Some(n) => Ok(if negative { -n } else { n }),
            None => self.fail("the number is beyond 2^40"),
        }
    }

    fn pack(&mut self) -> Result<Pack> {
        let dst = self.matrix()?;
        self.text.expect("=")?;
        let src = self.matrix()?;
        self.text.expect("x")?;
        let k = self.extent()?;
        self.text.expect("x")?;
        let width = self.extent()?;
        self.text.expect("pitch")?;
        Ok(Pack { number: 0, dst, src, k, width, pitch: self.text.number("a pitch")? })
    }

    fn post_op(&mut self) -> Result<PostOp> {
        let at = self.text.pos();
        let word = self.text.until_blank("a post-op")?;
        word.parse().map_err(|e: crate::epilogue::UnknownPostOp| NestParseError { at, what: e.to_string() })
    }

    fn matrix(&mut self) -> Result<Matrix> {
        let at = self.access()?;
        self.text.expect("(")?;
        let row = self.text.number("a row stride")?;
        self.text.expect(",")?;
        let col = self.text.number("a column stride")?;
        self.text.expect(")")?;
        Ok(Matrix { at, row, col })
    }

    fn access(&mut self) -> Result<Access> {
        let name = self.text.word("a statement or a buffer")?;
        let Some(buffer) = self.nest.buffers.iter().position(|b| b.name == name) else {
            return self.fail(format!("there is no buffer `{name}`"));
        };
        self.text.expect("[")?;
        let mut index = vec![];
        while !self.text.eat("]") {
            if !index.is_empty() {
                self.text.expect(",")?;
            }
            index.push(self.affine()?);
        }
        Ok(Access { buffer: BufferId(buffer as u16), index })
    }

    fn extent(&mut self) -> Result<Extent> {
        if !self.text.eat_keyword("min") {
            return Ok(Extent::Const(self.text.number("an extent")?));
        }
        self.text.expect("(")?;
        let tile = self.text.number("a tile")?;
        self.text.expect(",")?;
        let rest = self.affine()?;
        self.text.expect(")")?;
        Ok(Extent::Min { tile, rest })
    }

    fn affine(&mut self) -> Result<Affine> {
        let mut out = Affine::default();
        let mut negative = self.text.eat("-");
        loop {
            self.term(&mut out, negative)?;
            negative = match () {
                () if self.text.at(|c| c == '+') => false,
                () if self.text.at(|c| c == '-') => true,
                () => return Ok(out),
            };
            self.text.expect(if negative { "-" } else { "+" })?;
        }
    }

    /// `NUMBER`, `VAR` or `NUMBER*VAR`.
    fn term(&mut self, out: &mut Affine, negative: bool) -> Result<()> {
        let mut number = 1;
        let mut has_var = true;
        if self.text.at(|c| c.is_ascii_digit()) {
            number = self.text.number("a number")?;
            has_var = self.text.eat("*");
        }
        let var = if has_var { Some(self.var()?) } else { None };
        let small = |sum: i64| sum.unsigned_abs() <= LIMIT;
        let Some(number) = i64::try_from(number).ok().filter(|n| small(*n)) else {
            return self.fail("the number is beyond 2^40");
        };
        let number = if negative { -number } else { number };
        let sum = match var {
            Some(var) => {
                out.add_term(var, number);
                out.coefficient(var)
            }
            None => {
                out.constant += number;
                out.constant
            }
        };
        if small(sum) { Ok(()) } else { self.fail("the number is beyond 2^40") }
    }

    fn var(&mut self) -> Result<Var> {
        let name = self.text.word("a variable")?.to_owned();
        if self.nest.vars.len() > usize::from(u16::MAX) / 2 {
            return self.fail("too many variables");
        }
        Ok(self.nest.var(&name))
    }
}
