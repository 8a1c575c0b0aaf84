//! Reads the [text form](super::print) of micro-kernels.
//!
//! Layout is free within a line; blank lines are skipped. Comments of operations and loops are their reasons and are
//! kept; comments anywhere else are dropped. Parsing checks form only: [`MicroKernel::verify`] checks meaning.

use std::str::FromStr;

use super::{Access, Addr, Inst, MicroKernel, Op, P, Param, Region, Stmt, Temps, V};
use crate::target::VectorIsa;

/// A text that is no micro-kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: found `{found}`, expected {expected}")]
pub struct ParseError {
    /// Line of the offending word, from 1.
    pub line: usize,
    /// The offending word, `end of line` or `end of text`.
    pub found: String,
    /// The words that would have been accepted.
    pub expected: String,
}

/// The errors of several attempts to read a line, of which the ones that came furthest count.
#[derive(Default)]
pub(super) struct Furthest {
    /// Characters that were left, the word at fault among them.
    left: Option<usize>,
    found: String,
    expected: Vec<String>,
}

impl Furthest {
    /// Adds the error of an attempt that took all but `rest`, or the word at fault too.
    pub fn add(&mut self, rest: &Words<'_>, error: ParseError) {
        let left = rest.left;
        if self.left.is_none_or(|least| left < least) {
            (self.left, self.found) = (Some(left), error.found);
            self.expected.clear();
        } else if self.left != Some(left) {
            return;
        }
        if !self.expected.contains(&error.expected) {
            self.expected.push(error.expected);
        }
    }

    /// The error of all attempts at the line that `words` are of.
    pub fn error(self, words: &Words<'_>) -> ParseError {
        if self.left == Some(words.rest.len()) {
            return words.error(&self.found, "an operation or `}`");
        }
        ParseError { line: words.line, found: self.found, expected: self.expected.join(", ") }
    }
}

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

/// The words of a line that are left. A word is a run of letters, digits and `_`, or `+=`, or any other character.
#[derive(Clone)]
pub(super) struct Words<'a> {
    rest: &'a str,
    line: usize,
    /// Characters from the word that was looked at last on.
    left: usize,
}

impl<'a> Words<'a> {
    fn error(&self, found: &str, expected: &str) -> ParseError {
        ParseError { line: self.line, found: found.into(), expected: expected.into() }
    }

    fn peek(&self) -> Option<&'a str> {
        let first = self.rest.chars().next()?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let len = if is_word(first) {
            self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len())
        } else if self.rest.starts_with("+=") {
            2
        } else {
            first.len_utf8()
        };
        Some(&self.rest[..len])
    }

    fn advance(&mut self, word: &str) {
        self.rest = self.rest[word.len()..].trim_start();
    }

    fn next(&mut self, expected: &str) -> Result<&'a str, ParseError> {
        self.left = self.rest.len();
        let word = self.peek().ok_or_else(|| self.error("end of line", expected))?;
        self.advance(word);
        Ok(word)
    }

    /// Takes the next word if it is `word`.
    fn accept(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        if found {
            self.advance(word);
        }
        found
    }

    pub(super) fn end(&mut self) -> Result<(), ParseError> {
        self.left = self.rest.len();
        self.peek().map_or(Ok(()), |word| Err(self.error(word, "end of line")))
    }

    /// The next word, as whatever `read` makes of it.
    fn read<T>(&mut self, expected: &str, read: impl FnOnce(&'a str) -> Option<T>) -> Result<T, ParseError> {
        let word = self.next(expected)?;
        read(word).ok_or_else(|| self.error(word, expected))
    }

    /// `word` itself. `expected` is the word in backquotes.
    fn word(&mut self, word: &str, expected: &str) -> Result<(), ParseError> {
        self.read(expected, |w| (w == word).then_some(()))
    }

    pub(super) fn number<T: FromStr>(&mut self, expected: &str) -> Result<T, ParseError> {
        self.read(expected, |w| w.parse().ok())
    }

    fn identifier(&mut self, expected: &str) -> Result<String, ParseError> {
        self.read(expected, |w| super::verify::is_identifier(w).then(|| w.to_owned()))
    }

    pub(super) fn register(&mut self) -> Result<V, ParseError> {
        self.read("a register, as `v0`", |w| w.strip_prefix('v')?.parse().ok().map(V))
    }

    /// `x8`: a number of elements.
    pub(super) fn elements<T: FromStr>(&mut self) -> Result<T, ParseError> {
        self.read("a number of elements, as `x8`", |w| w.strip_prefix('x')?.parse().ok())
    }

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

    /// Fails unless an operation may end here: with the line, or with the registers that it overwrites.
    pub(super) fn end_of_operation(&mut self) -> Result<(), ParseError> {
        if self.peek() == Some("with") { Ok(()) } else { self.end() }
    }

    /// The words of a text.
    pub(super) fn literal(&mut self, text: &str) -> Result<(), ParseError> {
        let mut words = Words { rest: text.trim(), ..*self };
        while let Some(word) = words.peek() {
            words.advance(word);
            self.word(word, &format!("`{word}`"))?;
        }
        Ok(())
    }

    /// The operation that the next word names.
    pub(super) fn named<T: Copy>(&mut self, all: &[(&str, T)]) -> Result<T, ParseError> {
        let names: Vec<String> = all.iter().map(|(name, _)| format!("`{name}`")).collect();
        self.read(&names.join(", "), |word| all.iter().find(|(name, _)| *name == word).map(|(_, op)| *op))
    }

    pub(super) fn addr(&mut self, params: &[Param]) -> Result<Addr, ParseError> {
        let param = self.read("a parameter's name", |w| params.iter().position(|p| p.name == w))?;
        let param = P(u8::try_from(param).map_err(|_| self.error("param", "at most 256 parameters"))?);
        self.word("[", "`[`")?;
        let negative = self.accept("-");
        let offset = self.signed(negative, "a byte offset")?;
        let step = if self.accept("]") {
            0
        } else {
            let negative = self.read("`+`, `-` or `]`", |w| matches!(w, "+" | "-").then_some(w == "-"))?;
            let step = self.signed(negative, "bytes per trip")?;
            self.word("*", "`*`")?;
            self.word("t", "`t`")?;
            self.word("]", "`]`")?;
            step
        };
        Ok(Addr { param, offset, step })
    }

    fn signed(&mut self, negative: bool, expected: &str) -> Result<i64, ParseError> {
        self.read(expected, |w| {
            let magnitude: u64 = w.parse().ok()?;
            if negative { 0i64.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() }
        })
    }
}
