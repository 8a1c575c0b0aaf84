//! Reading text forms: a cursor that knows its line and column.
//!
//! A [`Cursor`] takes tokens off the front of a text. Blanks, newlines and comments (`#` or `//`, up to the end of
//! the line) may stand between any two tokens. There is no separate list of tokens, because what `x` means in `2x3` and
//! in `%x` is known only to the parser that asks.

use std::borrow::Cow;
use std::fmt;

/// A place in a text, counted from 1; columns count characters, not bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pos {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text that does not continue as its grammar says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct SyntaxError {
    /// Where `found` begins.
    pub at: Pos,
    /// What the grammar allows there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// Elements of a list, dimensions of a shape, that a message has at most.
const MOST_LISTED: usize = 12;

/// A list in brackets for a message: of a long one, the first elements and how many more there are.
///
/// ```
/// assert_eq!(kiln_ir::text::Listed(&[1, 2]).to_string(), "[1, 2]");
/// assert_eq!(kiln_ir::text::Listed(&[7; 1000]).to_string(), "[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, and 988 more]");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        listed(f, self.0, ", ", ", and ")?;
        f.write_str("]")
    }
}

/// The first elements of a list, and how many more there are.
pub(crate) fn listed<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    list: &[T],
    between: &str,
    before_rest: &str,
) -> fmt::Result {
    for (i, element) in list.iter().take(MOST_LISTED).enumerate() {
        write!(f, "{}{element}", if i == 0 { "" } else { between })?;
    }
    match list.len().checked_sub(MOST_LISTED) {
        None | Some(0) => Ok(()),
        Some(rest) => write!(f, "{before_rest}{rest} more"),
    }
}

/// A text for a message: of a long one, what it begins and ends with.
///
/// ```
/// assert_eq!(kiln_ir::text::clipped("a name"), "a name");
/// assert!(kiln_ir::text::clipped(&"a".repeat(1_000_000)).len() < 1000);
/// ```
pub fn clipped(text: &str) -> Cow<'_, str> {
    const BEGIN: usize = 400;
    const END: usize = 100;
    // Characters are counted, since a text may not be cut within one.
    match text.char_indices().nth(BEGIN + END) {
        None => text.into(),
        Some(_) => {
            let begin = text.char_indices().nth(BEGIN).map_or(text.len(), |(at, _)| at);
            let end = text.char_indices().rev().nth(END - 1).map_or(0, |(at, _)| at);
            format!("{} [...] {}", &text[..begin], &text[end..]).into()
        }
    }
}

/// A reading position in a text. A call that does not find what it asks for leaves it where it is.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a str,
    pos: Pos,
}

/// Whether `c` may stand in a word: ASCII letters, digits, `_` and `.`.
fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// Whether `s` is a word: a letter or `_`, then letters, digits, `_` and `.`, all ASCII.
pub fn is_word(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && s.chars().all(in_word)
}

impl<'a> Cursor<'a> {
    /// At the start of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { rest: text, pos: Pos { line: 1, column: 1 } }
    }

    /// Where the next token begins.
    pub fn pos(&self) -> Pos {
        self.next_token().pos
    }

    /// Moves to the next token, for a place in the grammar where a line begins: an error is then about that token, not
    /// about the end of the line before.
    pub fn skip_to_token(&mut self) {
        *self = self.next_token();
    }

    /// Whether only blanks and comments are left.
    pub fn at_end(&self) -> bool {
        self.next_token().rest.is_empty()
    }

    /// Whether only blanks and comments are left on this line.
    pub fn at_end_of_line(&self) -> bool {
        let line = self.skip(|c| c.is_whitespace() && c != '\n').rest;
        line.is_empty() || line.starts_with('\n')
    }

    /// Takes `token` if it is next. For punctuation: it does not ask whether a word ends there.
    pub fn eat(&mut self, token: &str) -> bool {
        self.take(|rest| if rest.starts_with(token) { token.len() } else { 0 }).is_some()
    }

    /// Takes `token`, or says that it was expected.
    pub fn expect(&mut self, token: &str) -> Result<(), SyntaxError> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(format!("`{token}`"))) }
    }

    /// Takes `keyword` if it is the whole next word.
    pub fn eat_keyword(&mut self, keyword: &str) -> bool {
        self.take(|rest| if prefix(rest, in_word) == keyword { keyword.len() } else { 0 }).is_some()
    }

    /// Takes a [word](is_word); `what` names it in the error.
    pub fn word(&mut self, what: &str) -> Result<&'a str, SyntaxError> {
        let word = self.take(|rest| Some(prefix(rest, in_word)).filter(|word| is_word(word)).map_or(0, str::len));
        word.ok_or_else(|| self.expected(what))
    }

    /// Takes `sigil` and the word or digits that follow it immediately, and gives the latter.
    pub fn name(&mut self, sigil: char, what: &str) -> Result<&'a str, SyntaxError> {
        let taken = self.take(|rest| {
            let name = rest.strip_prefix(sigil).map_or("", |rest| prefix(rest, in_word));
            let number = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
            if number || is_word(name) { sigil.len_utf8() + name.len() } else { 0 }
        });
        taken.map(|name| &name[sigil.len_utf8()..]).ok_or_else(|| self.expected(what))
    }

    /// Takes what is left of the line up to a blank; `what` names it in the error.
    pub fn until_blank(&mut self, what: &str) -> Result<&'a str, SyntaxError> {
        self.take(|rest| prefix(rest, |c| !c.is_whitespace()).len()).ok_or_else(|| self.expected(what))
    }

    /// Takes a value of a setting: a text in quotes, with them, a function to the end of its braces, or everything up to a blank, a
    /// comma outside of brackets, or a closing brace; `what` names it in the error.
    pub fn setting(&mut self, what: &str) -> Result<&'a str, SyntaxError> {
        let length = |rest: &str| {
            if let Some(quoted) = rest.strip_prefix('"') {
                return quoted.find(['"', '\n']).filter(|i| quoted[*i..].starts_with('"')).map_or(0, |i| i + 2);
            }
            if rest.strip_prefix("func").is_some_and(|rest| rest.starts_with(char::is_whitespace)) {
                return braced(rest);
            }
            let in_list = rest.starts_with('[');
            prefix(rest, |c| !c.is_whitespace() && c != '}' && (in_list || c != ',')).len()
        };
        self.take(length).ok_or_else(|| self.expected(what))
    }

    /// Takes a text in double quotes on one line and gives what is between them; `what` names it in the error.
    pub fn quoted(&mut self, what: &str) -> Result<&'a str, SyntaxError> {
        let taken = self.take(|rest| {
            let Some(rest) = rest.strip_prefix('"') else { return 0 };
            let inside = prefix(rest, |c| c != '"' && c != '\n').len();
            if rest[inside..].starts_with('"') { inside + 2 } else { 0 }
        });
        taken.map(|t| &t[1..t.len() - 1]).ok_or_else(|| self.expected(what))
    }

    /// Whether the next character satisfies `accept`.
    pub fn at(&self, accept: impl Fn(char) -> bool) -> bool {
        self.next_token().rest.starts_with(accept)
    }

    /// Takes decimal digits as a number; `what` names it in the error.
    pub fn number(&mut self, what: &str) -> Result<u64, SyntaxError> {
        let before = self.clone();
        let digits =
            self.take(|rest| prefix(rest, |c| c.is_ascii_digit()).len()).ok_or_else(|| before.expected(what))?;
        digits.parse().map_err(|_| before.expected(format!("{what} of at most {}", u64::MAX)))
    }

    /// The error that `what` was expected here. A token on a later line is "end of line": the mistake is where it is
    /// missing.
    pub fn expected(&self, what: impl Into<String>) -> SyntaxError {
        let here = self.skip(|c| c.is_whitespace() && c != '\n');
        let found = match here.rest.chars().next() {
            None => "end of text".into(),
            Some('\n') => "end of line".into(),
            Some(first) => {
                let word = if in_word(first) { prefix(here.rest, in_word) } else { &here.rest[..first.len_utf8()] };
                match word.char_indices().nth(MAX_QUOTED) {
                    Some((cut, _)) => format!("`{}...`", &word[..cut]),
                    None => format!("`{}`", word.escape_debug()),
                }
            }
        };
        SyntaxError { at: here.pos, expected: what.into(), found }
    }

    /// Takes the next token, whose bytes `length` counts; nothing, blanks included, if that is 0.
    fn take(&mut self, length: impl Fn(&str) -> usize) -> Option<&'a str> {
        let mut next = self.next_token();
        let taken = next.advance(length(next.rest));
        (!taken.is_empty()).then(|| {
            *self = next;
            taken
        })
    }

    fn next_token(&self) -> Self {
        self.skip(char::is_whitespace)
    }

    /// Behind blanks and comments.
    fn skip(&self, blank: impl Fn(char) -> bool) -> Self {
        let mut cursor = self.clone();
        loop {
            cursor.advance(prefix(cursor.rest, &blank).len());
            if !cursor.rest.starts_with('#') && !cursor.rest.starts_with("//") {
                return cursor;
            }
            cursor.advance(prefix(cursor.rest, |c| c != '\n').len());
        }
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            match c {
                '\n' => self.pos = Pos { line: self.pos.line + 1, column: 1 },
                _ => self.pos.column += 1,
            }
        }
        self.rest = rest;
        taken
    }
}

/// Braces within braces, at most: what reads them may call itself for each.
const DEEPEST: usize = 100;

/// The length of a text up to the brace that closes its first one; 0 if there is none, or braces are too deep. Those in quotes
/// and comments are none.
fn braced(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match c {
            '#' => prefix(rest, |c| c != '\n').len(),
            '/' if rest.starts_with("//") => prefix(rest, |c| c != '\n').len(),
            '"' => match rest[1..].find(['"', '\n']) {
                Some(end) => end + 2,
                None => return 0,
            },
            _ => c.len_utf8(),
        };
        match c {
            '{' if depth == DEEPEST => return 0,
            '{' => depth += 1,
            '}' if depth <= 1 => return if depth == 1 { at } else { 0 },
            '}' => depth -= 1,
            _ => {}
        }
    }
    0
}

/// Characters of an unexpected word that an error repeats.
const MAX_QUOTED: usize = 40;

/// The longest prefix whose characters all satisfy `accept`.
fn prefix(s: &str, accept: impl Fn(char) -> bool) -> &str {
    &s[..s.find(|c| !accept(c)).unwrap_or(s.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_positions() {
        let mut c = Cursor::new("func @f # the name\n\t// alone\n  2x3 é%x.1");
        assert!(!c.eat_keyword("fun"));
        assert!(c.eat_keyword("func"));
        assert_eq!(c.pos(), Pos { line: 1, column: 6 });
        assert_eq!(c.name('@', "a name"), Ok("f"));
        assert!(c.at_end_of_line() && !c.at_end());
        assert_eq!(c.pos(), Pos { line: 3, column: 3 });
        assert_eq!(c.number("a dimension"), Ok(2));
        assert!(c.eat("x"));
        assert_eq!(c.number("a dimension"), Ok(3));
        assert!(c.eat("é"));
        assert_eq!(c.pos(), Pos { line: 3, column: 8 });
        assert_eq!(c.name('%', "a value"), Ok("x.1"));
        assert!(c.at_end());
    }

    #[test]
    fn errors_say_where_and_what() {
        let err = |text, read: fn(&mut Cursor) -> Option<SyntaxError>| {
            let e = read(&mut Cursor::new(text)).unwrap();
            format!("{}: {e}", e.at)
        };
        assert_eq!(err(" ; ", |c| c.word("a word").err()), "1:2: expected a word, found `;`");
        assert_eq!(err(" # a\n b", |c| c.expect(":").err()), "1:5: expected `:`, found end of line");
        assert_eq!(err("", |c| c.number("a dimension").err()), "1:1: expected a dimension, found end of text");
        assert_eq!(err("% x", |c| c.name('%', "a value").err()), "1:1: expected a value, found `%`");
        assert_eq!(err("12ab", |c| c.word("a word").err()), "1:1: expected a word, found `12ab`");
        assert!(
            err("99999999999999999999", |c| c.number("a dimension").err()).contains("at most 18446744073709551615")
        );
        assert!(err(&"a".repeat(99), |c| c.number("a dimension").err()).ends_with("aaaa...`"));
    }
}
