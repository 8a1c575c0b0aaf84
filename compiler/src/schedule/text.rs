//! The text form of schedules.

use std::fmt;
use std::str::FromStr;

use super::{Form, LhsAccess, Order, Parallel, Region, RhsAccess, Rows, Schedule};
use crate::target::VectorIsa;

/// A text that is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad schedule: `{word}`: expected {expected}")]
pub struct ScheduleParseError {
    /// The offending word.
    pub word: String,
    /// The words that would be accepted.
    pub expected: &'static str,
}

/// Words and the values they stand for; both directions read the same list.
type Words<T> = &'static [(&'static str, T)];
const ORDERS: Words<Order> = &[("nm", Order::NM), ("mn", Order::MN)];
const PARALLEL: Words<Parallel> =
    &[("none", Parallel::None), ("m", Parallel::M), ("n", Parallel::N), ("mn", Parallel::Mn), ("nm", Parallel::Nm)];
const FORMS: Words<Form> = Form::ALL;
const ROWS: Words<Rows> = &[("line", Rows::Line), ("flat", Rows::Flat)];
const LHS: Words<LhsAccess> =
    &[("inplace", LhsAccess::InPlace), ("block", LhsAccess::Block), ("shared", LhsAccess::Shared)];
const RHS: Words<RhsAccess> = &[
    ("inplace", RhsAccess::InPlace),
    ("panel", RhsAccess::Panel),
    ("block", RhsAccess::Block),
    ("shared", RhsAccess::Shared),
    ("packed", RhsAccess::Packed),
];

fn name<T: PartialEq>(words: Words<T>, value: &T) -> &'static str {
    words.iter().find(|(_, v)| v == value).map_or("?", |(n, _)| n)
}

fn value<T: Copy>(words: Words<T>, word: &str, expected: &'static str) -> Result<T, ScheduleParseError> {
    match words.iter().find(|(n, _)| *n == word) {
        Some((_, v)) => Ok(*v),
        None => Err(ScheduleParseError { word: word.into(), expected }),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.isa.fmt(f)?;
        if self.form != Form::Outer {
            write!(f, "/{}", name(FORMS, &self.form))?;
        }
        if self.rows != Rows::Flat {
            write!(f, " rows={}", name(ROWS, &self.rows))?;
        }
        write!(f, " parallel={}", name(PARALLEL, &self.parallel))?;
        self.regions.iter().try_for_each(|r| write!(f, "; {r}"))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Region { start, end, mr, nr, mc, nc, kc, unroll, order, lhs, rhs } = self;
        write!(
            f,
            "n {start}..{end} tile {mr}x{nr} mc={mc} nc={nc} kc={kc} unroll={unroll} order={} lhs={} rhs={}",
            name(ORDERS, order),
            name(LHS, lhs),
            name(RHS, rhs)
        )
    }
}

fn number(word: &str) -> Result<u64, ScheduleParseError> {
    word.parse().map_err(|_| ScheduleParseError { word: word.into(), expected: "a number" })
}

fn pair(word: &str, separator: &str, expected: &'static str) -> Result<(u64, u64), ScheduleParseError> {
    let (a, b) = word.split_once(separator).ok_or(ScheduleParseError { word: word.into(), expected })?;
    Ok((number(a)?, number(b)?))
}

/// The words of one `;`-separated part, taken in order.
struct Part<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Part<'a> {
    fn next(&mut self, expected: &'static str) -> Result<&'a str, ScheduleParseError> {
        self.0.next().ok_or(ScheduleParseError { word: String::new(), expected })
    }

    /// The value of `key=value`.
    fn keyed(&mut self, key: &'static str) -> Result<&'a str, ScheduleParseError> {
        let word = self.next(key)?;
        let rest = word.strip_prefix(key).and_then(|r| r.strip_prefix('='));
        rest.ok_or(ScheduleParseError { word: word.into(), expected: key })
    }

    fn literal(&mut self, literal: &'static str) -> Result<(), ScheduleParseError> {
        let word = self.next(literal)?;
        if word == literal { Ok(()) } else { Err(ScheduleParseError { word: word.into(), expected: literal }) }
    }

    fn end(mut self) -> Result<(), ScheduleParseError> {
        match self.0.next() {
            Some(word) => Err(ScheduleParseError { word: word.into(), expected: "`;` or the end" }),
            None => Ok(()),
        }
    }
}

impl FromStr for Region {
    type Err = ScheduleParseError;

    fn from_str(s: &str) -> Result<Self, ScheduleParseError> {
        let mut p = Part(s.split_whitespace());
        p.literal("n")?;
        let (start, end) = pair(p.next("a range of columns")?, "..", "a range of columns such as `0..48`")?;
        p.literal("tile")?;
        let (mr, nr) = pair(p.next("a tile")?, "x", "a tile such as `6x16`")?;
        let region = Region {
            start,
            end,
            mr,
            nr,
            mc: number(p.keyed("mc")?)?,
            nc: number(p.keyed("nc")?)?,
            kc: number(p.keyed("kc")?)?,
            unroll: number(p.keyed("unroll")?)?,
            order: value(ORDERS, p.keyed("order")?, "nm or mn")?,
            lhs: value(LHS, p.keyed("lhs")?, "inplace or block")?,
            rhs: value(RHS, p.keyed("rhs")?, "inplace, panel, block or packed")?,
        };
        p.end()?;
        Ok(region)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleParseError;

    fn from_str(s: &str) -> Result<Self, ScheduleParseError> {
        let mut parts = s.split(';');
        let mut head = Part(parts.next().unwrap_or_default().split_whitespace());
        let word = head.next("a vector unit")?;
        let (isa, form) = word.split_once('/').unwrap_or((word, "outer"));
        let isa = VectorIsa::from_name(isa).ok_or(ScheduleParseError {
            word: word.into(),
            expected: "neon, sve, avx512 or avx2, perhaps with a form, as sve/mmla",
        })?;
        let form = value(FORMS, form, "outer, dot, mmla or depthwise")?;
        let mut word = head.next("parallel")?;
        let rows = match word.strip_prefix("rows=") {
            Some(rows) => {
                word = head.next("parallel")?;
                value(ROWS, rows, "line or flat")?
            }
            None => Rows::Flat,
        };
        let word =
            word.strip_prefix("parallel=").ok_or(ScheduleParseError { word: word.into(), expected: "parallel" })?;
        let parallel = value(PARALLEL, word, "none, m, n, mn or nm")?;
        head.end()?;
        let regions = parts.map(Region::from_str).collect::<Result<Vec<_>, _>>()?;
        if regions.is_empty() {
            return Err(ScheduleParseError { word: s.into(), expected: "at least one region after `;`" });
        }
        Ok(Schedule { isa, form, rows, parallel, regions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let text = "avx2 parallel=n; n 0..48 tile 6x16 mc=126 nc=16 kc=256 unroll=4 order=nm lhs=inplace rhs=panel; \
                    n 48..53 tile 12x5 mc=128 nc=5 kc=256 unroll=4 order=mn lhs=block rhs=inplace";
        assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        let text = text.replace("avx2 parallel", "avx2/depthwise rows=line parallel");
        assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
    }

    /// Each word of a schedule once more, at any place.
    #[test]
    fn words_given_twice_are_refused() {
        let text = "avx2/mmla rows=line parallel=n; n 0..48 tile 6x16 mc=126 nc=16 kc=256 unroll=4 order=nm lhs=inplace rhs=panel";
        let words: Vec<&str> = text.split(' ').collect();
        for again in words.iter().filter(|word| word.contains('=')).map(|word| word.trim_end_matches(';')) {
            for at in 1..=words.len() {
                let mut twice = words.clone();
                twice.insert(at, again);
                let e = twice.join(" ").parse::<Schedule>().unwrap_err();
                assert!(twice.iter().any(|word| word.trim_end_matches(';') == e.word), "{twice:?}: {e}");
            }
        }
        let e = "avx2 parallel=n parallel=m; n 0..4".parse::<Schedule>().unwrap_err();
        assert_eq!(e.to_string(), "bad schedule: `parallel=m`: expected `;` or the end");
        let e = text.replace("mc=126", "mc=126 mc=7").parse::<Schedule>().unwrap_err();
        assert_eq!(e.to_string(), "bad schedule: `mc=7`: expected nc");
    }

    #[test]
    fn errors_name_the_word() {
        for (text, word) in [
            ("", ""),
            ("mmx parallel=n", "mmx"),
            ("avx2 parallel=q", "q"),
            ("avx2 parallel=n", "avx2 parallel=n"),
            ("avx2 parallel=n; n 0-4", "0-4"),
            ("avx2 parallel=n; n 0..4 tile 1x4 mc=x", "x"),
            ("avx2 parallel=n; n 0..4 tile 1x4 mc=1 nc=4 kc=1 unroll=1 order=nm lhs=inplace rhs=panel x", "x"),
        ] {
            assert_eq!(text.parse::<Schedule>().unwrap_err().word, word, "{text}");
        }
    }
}
