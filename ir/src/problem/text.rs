//! The canonical string of a problem, both ways.

use std::fmt;
use std::str::FromStr;

use super::{Builder, DTypes, LAID_OUT, NAMES, Op, Problem, ProblemError, Role};
use crate::epilogue::Epilogue;
use crate::strides::Strides;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.shared.op.name(), self.shared.dtypes, self.shared.op.descriptor())?;
        let layouts = self.shared.layouts.iter().zip(LAID_OUT);
        for (layout, (role, name, _)) in layouts.filter(|(layout, _)| layout.gaps().is_none()) {
            let tag = layout.tag();
            match self.shared.op {
                op if tag == op.tag(role) => {}
                // Of two orders, the one that is not the default.
                Op::Convolution(_) if role != Role::Rhs && tag.is_plain() => write!(f, " {name}=abx")?,
                _ => write!(f, " {name}={tag}")?,
            }
        }
        if self.shared.layouts.iter().any(|layout| layout.gaps().is_some()) {
            f.write_str(" strides")?;
            for (at, layout) in self.shared.layouts.iter().enumerate() {
                f.write_str(if at == 0 { "=" } else { ":" })?;
                layout.gaps().map_or(Ok(()), |strides| strides.fmt(f))?;
            }
        }
        if self.shared.accumulate {
            f.write_str(" beta=1")?;
        }
        if let Some(mode) = self.fpmath {
            write!(f, " fpmath={mode}")?;
        }
        if !self.shared.epilogue.ops().is_empty() {
            write!(f, " {}", self.shared.epilogue)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Problem {
    type Err = ProblemError;

    fn from_str(s: &str) -> Result<Self, ProblemError> {
        let mut words = s.split_whitespace();
        let mut next = |missing| words.next().ok_or(ProblemError::Incomplete { text: s.trim().into(), missing });
        let name = next("operation")?;
        if !NAMES.contains(&name) {
            return Err(ProblemError::UnknownOp(name.into()));
        }
        let dtypes: DTypes = next("dtypes")?.parse()?;
        let descriptor = next("descriptor")?;
        let op = Op::parse(name, descriptor).map_err(|e| repeated(name, descriptor).unwrap_or(e))?;
        let mut builder = Builder::new(op).dtypes(dtypes);
        let mut said: Vec<&str> = vec![];
        for word in words {
            builder = match word.strip_prefix('+') {
                Some(chain) => builder.epilogue(Epilogue::parse(chain)?),
                None => {
                    let (key, value) =
                        word.split_once('=').ok_or_else(|| repeated(name, word).unwrap_or_else(|| unknown(word)))?;
                    if said.contains(&key) {
                        return Err(ProblemError::Repeated { name: key.into(), word: word.into() });
                    }
                    said.push(key);
                    match key {
                        "strides" => strides(builder, value)?,
                        _ => attribute(builder, key, value).ok_or_else(|| unknown(word))?,
                    }
                }
            };
        }
        builder.build()
    }
}

/// The error that `word` says once more what the first three words of the problem say; `None` if it does not.
fn repeated(op: &str, word: &str) -> Option<ProblemError> {
    let name = match () {
        () if NAMES.contains(&word) => "operation",
        () if word.parse::<DTypes>().is_ok() => "dtypes",
        () if Op::parse(op, word).is_ok() => "descriptor",
        () => return None,
    };
    Some(ProblemError::Repeated { name: name.into(), word: word.into() })
}

fn unknown(word: &str) -> ProblemError {
    ProblemError::UnknownWord {
        word: word.into(),
        expected: "stag=TAG, wtag=TAG, dtag=TAG, strides=LHS:RHS:DST, beta=0 or 1, fpmath=strict, bf16 or any, or post-ops \
                   such as +bias+relu",
    }
}

/// The builder with an attribute; `None` if there is no such attribute, or not with this value.
fn attribute(builder: Builder, key: &str, value: &str) -> Option<Builder> {
    match (key, value) {
        ("beta", "0") => Some(builder),
        ("beta", "1") => Some(builder.accumulate()),
        ("fpmath", mode) => Some(builder.math(mode.parse().ok()?)),
        _ => {
            let (role, ..) = LAID_OUT.iter().find(|(_, name, _)| *name == key)?;
            Some(builder.tag(*role, value))
        }
    }
}

/// The builder with the strides of lhs, rhs and dst, `1024x1::4096x1`; what is left empty has none.
fn strides(mut builder: Builder, value: &str) -> Result<Builder, ProblemError> {
    let mut parts = value.split(':');
    for (role, _, name) in LAID_OUT {
        let Some(text) = parts.next().filter(|text| !text.is_empty()) else { continue };
        let strides = Strides::parse(text).map_err(|why| ProblemError::Strides { name, strides: text.into(), why })?;
        builder = builder.strides(role, strides.as_slice());
    }
    match parts.next() {
        None => Ok(builder),
        Some(_) => {
            let why = "expected those of lhs, rhs and dst, each perhaps empty, such as `1024x1::4096x1`".into();
            Err(ProblemError::Strides { name: "operands", strides: value.into(), why })
        }
    }
}
