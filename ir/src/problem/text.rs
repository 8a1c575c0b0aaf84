//! The canonical string of a problem, both ways.

use std::fmt;
use std::str::FromStr;

use super::{Builder, DTypes, MathMode, NAMES, Op, Problem, ProblemError, Role, TAGGED};
use crate::epilogue::Epilogue;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.shared.op.name(), self.shared.dtypes, self.shared.op.descriptor())?;
        for (tag, (role, name)) in
            self.shared.tags.iter().zip(TAGGED).filter(|(tag, (role, _))| **tag != self.shared.op.tag(*role))
        {
            match self.shared.op {
                // Of two orders, the one that is not the default.
                Op::Convolution(_) if role != Role::Rhs && tag.is_plain() => write!(f, " {name}=abx")?,
                _ => write!(f, " {name}={tag}")?,
            }
        }
        if self.shared.accumulate {
            f.write_str(" beta=1")?;
        }
        if self.math != MathMode::Strict {
            write!(f, " fpmath={}", self.math)?;
        }
        if !self.shared.epilogue.ops().is_empty() {
            write!(f, " {}", self.shared.epilogue)?;
        }
        Ok(())
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
        let mut builder = Builder::new(Op::parse(name, next("descriptor")?)?).dtypes(dtypes);
        for word in words {
            builder = match word.strip_prefix('+') {
                Some(chain) => builder.epilogue(Epilogue::parse(chain)?),
                None => attribute(builder, word)?,
            };
        }
        builder.build()
    }
}

fn attribute(builder: Builder, word: &str) -> Result<Builder, ProblemError> {
    let unknown = || ProblemError::UnknownWord {
        word: word.into(),
        expected: "stag=TAG, wtag=TAG, dtag=TAG, beta=0 or 1, fpmath=strict, bf16 or any, or post-ops such as +bias+relu",
    };
    let (key, value) = word.split_once('=').ok_or_else(unknown)?;
    match (key, value) {
        ("beta", "0") => Ok(builder),
        ("beta", "1") => Ok(builder.accumulate()),
        ("fpmath", mode) => Ok(builder.math(mode.parse().map_err(|_| unknown())?)),
        _ => match TAGGED.iter().find(|(_, name)| *name == key) {
            Some((role, _)) => Ok(builder.tag(*role, value)),
            None => Err(unknown()),
        },
    }
}
