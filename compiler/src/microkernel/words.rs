//! The words of a line of text, of which operations and micro-kernels are read.

use std::str::FromStr;

use super::{Addr, P, Param, V};

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

/// The words of a line that are left. A word is a run of letters, digits and `_`, or `+=`, or any other character.
#[derive(Clone)]
pub(super) struct Words<'a> {
    pub rest: &'a str,
    pub line: usize,
    /// Characters from the word that was looked at last on.
    pub left: usize,
}

impl<'a> Words<'a> {
    pub fn error(&self, found: &str, expected: &str) -> ParseError {
        ParseError { line: self.line, found: found.into(), expected: expected.into() }
    }

    pub fn peek(&self) -> Option<&'a str> {
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

    pub fn next(&mut self, expected: &str) -> Result<&'a str, ParseError> {
        self.left = self.rest.len();
        let word = self.peek().ok_or_else(|| self.error("end of line", expected))?;
        self.advance(word);
        Ok(word)
    }

    /// Takes the next word if it is `word`.
    pub fn accept(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        if found {
            self.advance(word);
        }
        found
    }

    pub fn end(&mut self) -> Result<(), ParseError> {
        self.left = self.rest.len();
        self.peek().map_or(Ok(()), |word| Err(self.error(word, "end of line")))
    }

    /// The next word, as whatever `read` makes of it.
    pub fn read<T>(&mut self, expected: &str, read: impl FnOnce(&'a str) -> Option<T>) -> Result<T, ParseError> {
        let word = self.next(expected)?;
        read(word).ok_or_else(|| self.error(word, expected))
    }

    /// `word` itself. `expected` is the word in backquotes.
    pub fn word(&mut self, word: &str, expected: &str) -> Result<(), ParseError> {
        self.read(expected, |w| (w == word).then_some(()))
    }

    pub fn number<T: FromStr>(&mut self, expected: &str) -> Result<T, ParseError> {
        self.read(expected, |w| w.parse().ok())
    }

    pub fn identifier(&mut self, expected: &str) -> Result<String, ParseError> {
        self.read(expected, |w| is_identifier(w).then(|| w.to_owned()))
    }

    pub fn register(&mut self) -> Result<V, ParseError> {
        self.read("a register, as `v0`", |w| w.strip_prefix('v')?.parse().ok().map(V))
    }

    /// `x8`: a number of elements.
    pub fn elements<T: FromStr>(&mut self) -> Result<T, ParseError> {
        self.read("a number of elements, as `x8`", |w| w.strip_prefix('x')?.parse().ok())
    }

    /// Fails unless an operation may end here: with the line, or with the registers that it overwrites.
    pub fn end_of_operation(&mut self) -> Result<(), ParseError> {
        if self.peek() == Some("with") { Ok(()) } else { self.end() }
    }

    /// The words of a text.
    pub fn literal(&mut self, text: &str) -> Result<(), ParseError> {
        let mut words = Words { rest: text.trim(), ..*self };
        while let Some(word) = words.peek() {
            words.advance(word);
            self.word(word, &format!("`{word}`"))?;
        }
        Ok(())
    }

    /// The operation that the next word names.
    pub fn named<T: Copy>(&mut self, all: &[(&str, T)]) -> Result<T, ParseError> {
        let names: Vec<String> = all.iter().map(|(name, _)| format!("`{name}`")).collect();
        self.read(&names.join(", "), |word| all.iter().find(|(name, _)| *name == word).map(|(_, op)| *op))
    }

    pub fn addr(&mut self, params: &[Param]) -> Result<Addr, ParseError> {
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

/// True if `name` can name a micro-kernel or a parameter.
pub(super) fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
