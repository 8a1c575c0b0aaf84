//! Reads the [text form](super::print) of micro-kernels.
//!
//! Layout is free within a line; blank lines are skipped. Comments of operations and loops are their reasons and are
//! kept; comments anywhere else are dropped. Parsing checks form only: [`MicroKernel::verify`] checks meaning.

use std::str::FromStr;

use super::words::Words;
use super::{Access, Inst, MicroKernel, Op, Param, Region, Stmt, Temps};

pub use super::words::ParseError;
use crate::target::VectorIsa;

const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::ReadWrite];

impl FromStr for MicroKernel {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut lines = Lines { text, line: 0 };
        let (mut mk, _) = lines.next("`microkernel`", |l| l.header())?;
        let mut before_body = true;
        loop {
            let expected = if before_body { "`param`, an operation or `}`" } else { "an operation, `loop` or `}`" };
            let (item, why) = lines.next(expected, |l| l.item(&mk.params, before_body))?;
            match item {
                Item::Param(p) => mk.params.push(p),
                Item::Op(op, temps) => mk.body.push(Stmt::Inst(Inst { op, temps, why: why.into() })),
                Item::Loop(trips) => {
                    let body = lines.loop_body(&mk.params)?;
                    mk.body.push(Stmt::Loop { trips, why, body });
                }
                Item::End => break,
            }
            before_body = mk.body.is_empty();
        }
        lines.end()?;
        Ok(mk)
    }
}

/// The kinds of lines in a micro-kernel's text.
enum Item {
    Param(Param),
    Op(Op, Temps),
    Loop(u64),
    End,
}

/// The lines that are left, and the number of the last one taken.
struct Lines<'a> {
    text: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    /// The next line that is not blank, cut into words, and its comment.
    fn take(&mut self) -> Option<(Words<'a>, &'a str)> {
        while !self.text.is_empty() {
            let (line, rest) = self.text.split_once('\n').unwrap_or((self.text, ""));
            self.text = rest;
            self.line += 1;
            let (code, why) = line.split_once(';').unwrap_or((line, ""));
            if !code.trim().is_empty() {
                let rest = code.trim();
                return Some((Words { rest, line: self.line, left: rest.len() }, why));
            }
        }
        None
    }

    /// Parses the whole next line with `parse`; `expected` is what the error says when no line is left.
    fn next<T>(
        &mut self,
        expected: &str,
        parse: impl FnOnce(&mut Words<'a>) -> Result<T, ParseError>,
    ) -> Result<(T, String), ParseError> {
        let Some((mut words, why)) = self.take() else {
            return Err(ParseError { line: self.line.max(1), found: "end of text".into(), expected: expected.into() });
        };
        let value = parse(&mut words)?;
        words.end()?;
        // Reasons hold no control characters; in a text there may be tabs, or carriage returns of old files.
        Ok((value, why.replace(char::is_control, " ").trim().to_owned()))
    }

    fn loop_body(&mut self, params: &[Param]) -> Result<Vec<Inst>, ParseError> {
        const EXPECTED: &str = "an operation or `}`: loops do not nest";
        let mut body = Vec::new();
        loop {
            let (op, why) = self.next(EXPECTED, |l| match l.item(params, false)? {
                Item::Op(op, temps) => Ok(Some((op, temps))),
                Item::End => Ok(None),
                Item::Loop(_) => Err(l.error("loop", EXPECTED)),
                Item::Param(_) => Err(l.error("param", EXPECTED)),
            })?;
            match op {
                Some((op, temps)) => body.push(Inst { op, temps, why: why.into() }),
                None => return Ok(body),
            }
        }
    }

    fn end(&mut self) -> Result<(), ParseError> {
        match self.take() {
            Some((words, _)) => Err(words.error(words.peek().unwrap_or_default(), "end of text")),
            None => Ok(()),
        }
    }
}

impl Words<'_> {
    fn header(&mut self) -> Result<MicroKernel, ParseError> {
        self.word("microkernel", "`microkernel`")?;
        let name = self.identifier("the micro-kernel's name")?;
        let isa = self.read("neon, sve, avx512 or avx2", VectorIsa::from_name)?;
        self.word("lanes", "`lanes`")?;
        self.word("=", "`=`")?;
        let lanes = self.number("a number of lanes")?;
        self.word("registers", "`registers`")?;
        self.word("=", "`=`")?;
        let registers = self.number("a number of registers")?;
        self.word("{", "`{`")?;
        Ok(MicroKernel { name, isa, lanes, registers, params: vec![], body: vec![] })
    }

    fn item(&mut self, params: &[Param], before_body: bool) -> Result<Item, ParseError> {
        if self.accept("}") {
            return Ok(Item::End);
        }
        if self.accept("loop") {
            let trips = self.number("a number of trips")?;
            self.word("{", "`{`")?;
            return Ok(Item::Loop(trips));
        }
        if self.accept("param") {
            if !before_body {
                return Err(self.error("param", "an operation: parameters come first"));
            }
            return self.param(params).map(Item::Param);
        }
        let op = Op::parse(self, params)?;
        Ok(Item::Op(op, self.temps()?))
    }

    /// `with v7, v8`, or nothing.
    fn temps(&mut self) -> Result<Temps, ParseError> {
        let mut registers = vec![];
        if self.accept("with") {
            registers.push(self.register()?);
            while self.accept(",") {
                registers.push(self.register()?);
            }
        }
        Temps::new(&registers).ok_or_else(|| self.error("with", &format!("at most {} registers", Temps::MOST)))
    }

    fn param(&mut self, before: &[Param]) -> Result<Param, ParseError> {
        let name = self.identifier("the parameter's name")?;
        if before.iter().any(|p| p.name == name) {
            return Err(self.error(&name, "a name no other parameter has"));
        }
        if before.len() > usize::from(u8::MAX) {
            return Err(self.error(&name, "at most 256 parameters"));
        }
        self.word(":", "`:`")?;
        let dtype = self.number("an element type")?;
        let access =
            self.read("read, write or readwrite", |w| ACCESSES.into_iter().find(|access| access.to_string() == w))?;
        let (rows, row_bytes) = self.read("a region, as `6x2048`", |w| {
            let (rows, row_bytes) = w.split_once('x')?;
            Some((rows.parse().ok()?, row_bytes.parse().ok()?))
        })?;
        self.word("stride", "`stride`")?;
        let row_stride = self.number("bytes between rows")?;
        Ok(Param { name, dtype, access, region: Region { rows, row_bytes, row_stride } })
    }
}
