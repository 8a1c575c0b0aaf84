//! Names of dimensions that say how they follow from others, such as `s0 + 1`, `2*s0` or `(s77 - 1)//8 + 1`.
//!
//! A name is an expression if it has integers and names with `+`, `-`, `*`, `//` and brackets between them. A `-` between
//! two letters or digits without a blank belongs to a name, as in `batch-size`.

/// Characters of a name that is read as an expression.
const LONGEST: usize = 256;

/// An expression of at least one operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expression(Term);

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Number(i128),
    Name(String),
    Operation(Box<Term>, Operator, Box<Term>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    /// The quotient rounded down.
    Divide,
}

/// `base + slope * unknown`, where the slope is 0 if nothing is unknown.
struct Linear<'a> {
    base: i128,
    slope: i128,
    unknown: Option<&'a str>,
}

impl Expression {
    /// Reads a name as an expression, if it is one.
    pub(super) fn read(name: &str) -> Option<Self> {
        if name.len() > LONGEST {
            return None;
        }
        let mut reader = Reader { rest: name };
        let term = reader.sum()?;
        let is_whole = reader.rest.trim_start().is_empty();
        (is_whole && matches!(term, Term::Operation(..))).then_some(Expression(term))
    }

    /// The names in it.
    pub(super) fn names(&self) -> Vec<&str> {
        fn collect<'a>(term: &'a Term, names: &mut Vec<&'a str>) {
            match term {
                Term::Number(_) => {}
                Term::Name(name) => names.push(name),
                Term::Operation(a, _, b) => {
                    collect(a, names);
                    collect(b, names);
                }
            }
        }
        let mut names = vec![];
        collect(&self.0, &mut names);
        names
    }

    /// Its size, if all its names are known; `None` also if it is less than 0.
    pub(super) fn size(&self, known: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
        let linear = self.0.linear(known)?;
        if linear.unknown.is_some() { None } else { u64::try_from(linear.base).ok() }
    }

    /// The one name in it that is not known, and the size of that which makes the expression one of a size.
    pub(super) fn solve(&self, size: u64, known: &dyn Fn(&str) -> Option<u64>) -> Option<(&str, u64)> {
        let Linear { base, slope, unknown } = self.0.linear(known)?;
        let rise = i128::from(size).checked_sub(base)?;
        let is_solved = slope != 0 && rise.checked_rem(slope)? == 0;
        Some((unknown?, u64::try_from(is_solved.then(|| rise / slope)?).ok()?))
    }
}

impl Term {
    /// `None` if it is not linear in one unknown name, or too large.
    fn linear<'a>(&'a self, known: &dyn Fn(&str) -> Option<u64>) -> Option<Linear<'a>> {
        Some(match self {
            Term::Number(n) => Linear { base: *n, slope: 0, unknown: None },
            Term::Name(name) => match known(name) {
                Some(n) => Linear { base: n.into(), slope: 0, unknown: None },
                None => Linear { base: 0, slope: 1, unknown: Some(name) },
            },
            Term::Operation(a, operator, b) => {
                let (a, b) = (a.linear(known)?, b.linear(known)?);
                let unknown = match (a.unknown, b.unknown) {
                    (Some(a), Some(b)) if a != b => return None,
                    (a, b) => a.or(b),
                };
                let (base, slope) = match operator {
                    Operator::Add => (a.base.checked_add(b.base)?, a.slope.checked_add(b.slope)?),
                    Operator::Subtract => (a.base.checked_sub(b.base)?, a.slope.checked_sub(b.slope)?),
                    Operator::Multiply if b.unknown.is_none() => {
                        (a.base.checked_mul(b.base)?, a.slope.checked_mul(b.base)?)
                    }
                    Operator::Multiply if a.unknown.is_none() => {
                        (b.base.checked_mul(a.base)?, b.slope.checked_mul(a.base)?)
                    }
                    Operator::Divide if unknown.is_none() && b.base > 0 => (a.base.div_euclid(b.base), 0),
                    Operator::Multiply | Operator::Divide => return None,
                };
                Linear { base, slope, unknown }
            }
        })
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(text)?;
        Some(())
    }

    fn sum(&mut self) -> Option<Term> {
        self.chain(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Option<Term> {
        self.chain(&[("*", Operator::Multiply), ("//", Operator::Divide)], Self::factor)
    }

    /// Parts with these operators between them, from left to right.
    fn chain(&mut self, operators: &[(&str, Operator)], part: fn(&mut Self) -> Option<Term>) -> Option<Term> {
        let mut all = part(self)?;
        while let Some((_, operator)) = operators.iter().find(|(text, _)| self.take(text).is_some()) {
            all = Term::Operation(all.into(), *operator, part(self)?.into());
        }
        Some(all)
    }

    fn factor(&mut self) -> Option<Term> {
        if self.take("(").is_some() {
            let inner = self.sum()?;
            self.take(")")?;
            return Some(inner);
        }
        if self.take("-").is_some() {
            return Some(Term::Operation(Term::Number(0).into(), Operator::Subtract, self.factor()?.into()));
        }
        let rest = self.rest.trim_start();
        let mut chars = rest.char_indices().peekable();
        let mut end = 0;
        while let Some((at, c)) = chars.next() {
            let is_hyphen = c == '-' && at > 0 && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
            if !(c.is_alphanumeric() || matches!(c, '_' | '.' | ':') || is_hyphen) {
                break;
            }
            end = at + c.len_utf8();
        }
        let (word, after) = rest.split_at(end);
        self.rest = after;
        match word.chars().next()? {
            c if c.is_ascii_digit() => word.parse().ok().map(Term::Number),
            _ => Some(Term::Name(word.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_others() {
        let size = |text: &str| {
            Expression::read(text)?
                .size(&|name| [("s0", 9), ("b", 2)].iter().find(|(n, _)| *n == name).map(|(_, n)| *n))
        };
        let cases = [
            ("s0 + 1", 10),
            ("2*s0", 18),
            ("s0//2", 4),
            ("s0*b", 18),
            ("((s0 - 1)//2) + 1", 5),
            ("s0 - b - 3", 4),
            ("-1 + s0", 8),
            ("s0 -1", 8),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), Some(expected), "{text}");
        }
        let huge = format!("{0}*{0}*{0}*s0", u64::MAX);
        let deep = "(".repeat(200);
        for text in [
            "s0",
            "9",
            "",
            "s0 +",
            "(s0 + 1",
            "s0 + x",
            "b - s0",
            "s0//0",
            "s0 + 1)",
            "s0**2",
            "Max(1, s0)",
            &huge,
            &deep,
        ] {
            assert_eq!(size(text), None, "{text}");
        }
        assert!(Expression::read("batch-size").is_none());
    }

    #[test]
    fn the_unknown_follows_from_the_size() {
        let solve = |text: &str, size: u64| {
            let expression = Expression::read(text).unwrap();
            let solved = expression.solve(size, &|name| (name == "s0").then_some(4));
            solved.map(|(name, n)| (name.to_owned(), n))
        };
        assert_eq!(solve("2*x + s0", 10), Some(("x".into(), 3)));
        assert_eq!(solve("s0*x", 12), Some(("x".into(), 3)));
        assert_eq!(solve("3 - x", 1), Some(("x".into(), 2)));
        for (text, size) in
            [("2*x", 7), ("x + y", 7), ("x*x", 9), ("x//2", 4), ("x + 9", 4), ("s0 + 1", 5), ("x - x", 0)]
        {
            assert_eq!(solve(text, size), None, "{text}");
        }
    }
}
