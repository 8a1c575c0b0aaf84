//! Where problems come from: the command line, a file with a tensor function, a list, standard input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kiln_ir::fuse::fuse_single;
use kiln_ir::{Func, Problem};

use crate::error::Error;

/// The problems of a subcommand.
#[derive(Debug, clap::Args)]
pub struct ProblemArgs {
    /// A problem ("matmul f32 128x768:768x3072 +bias+relu"), a .kiln file with a func, or - to read standard input
    #[arg(value_name = "PROBLEM", conflicts_with = "batch")]
    words: Vec<String>,
    /// Problems or .kiln files from FILE, one a line; `#` begins a comment; - is standard input
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
}

const STANDARD_INPUT: &str = "standard input";

impl ProblemArgs {
    /// All problems, at least one; the first error otherwise.
    pub fn load(&self) -> Result<Vec<Problem>, Error> {
        match (&self.words[..], &self.batch) {
            ([], None) => Err(Error::NoProblem),
            ([word], None) if word == "-" => standard_input(),
            (words, None) => Ok(vec![one(&words.join(" "), Path::new(""))?]),
            (_, Some(file)) if file == Path::new("-") => standard_input(),
            (_, Some(file)) => {
                let origin = file.display().to_string();
                let text = fs::read_to_string(file).map_err(|e| Error::File(e).at(&origin))?;
                list(&origin, &text, file.parent().unwrap_or(Path::new("")))
            }
        }
    }
}

fn standard_input() -> Result<Vec<Problem>, Error> {
    let text = io::read_to_string(io::stdin()).map_err(|e| Error::File(e).at(STANDARD_INPUT))?;
    list(STANDARD_INPUT, &text, Path::new(""))
}

/// A problem string, or the path of a `.kiln` file relative to `folder`.
fn one(text: &str, folder: &Path) -> Result<Problem, Error> {
    if !text.ends_with(".kiln") {
        return Ok(text.parse()?);
    }
    let path = folder.join(text);
    let in_file = |e: Error| e.at(path.display().to_string());
    let source = fs::read_to_string(&path).map_err(|e| in_file(Error::File(e)))?;
    func(&source).map_err(in_file)
}

fn func(source: &str) -> Result<Problem, Error> {
    Ok(fuse_single(&source.parse::<Func>()?)?.problem)
}

/// A text with one problem or file a line, or with one func.
fn list(origin: &str, text: &str, folder: &Path) -> Result<Vec<Problem>, Error> {
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).enumerate();
    let mut lines = lines.filter(|(_, l)| !l.is_empty() && !l.starts_with("//")).peekable();
    match lines.peek() {
        None => return Err(Error::Empty { origin: origin.into() }),
        Some((_, first)) if first.split_whitespace().next() == Some("func") => {
            return Ok(vec![func(text).map_err(|e| e.at(origin))?]);
        }
        Some(_) => {}
    }
    lines.map(|(i, l)| one(l, folder).map_err(|e| e.at(format!("{origin}:{}", i + 1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Vec<String> {
        list("list", text, Path::new("")).unwrap().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn lists_skip_comments_and_blank_lines() {
        let text = "# sizes\n\nmatmul f32 2x3:3x4 # small\n  matmul f32 5x6:6x7 +relu\n";
        assert_eq!(strings(text), ["matmul f32 2x3:3x4", "matmul f32 5x6:6x7 +relu"]);
    }

    #[test]
    fn a_func_is_one_problem() {
        let text =
            "# a product\nfunc @f(%x: f32[2x3], %w: f32[3x4]) -> f32[2x4] {\n %0 = matmul %x, %w\n return %0\n}\n";
        assert_eq!(strings(text), ["matmul f32 2x3:3x4"]);
    }

    #[test]
    fn errors_name_the_line() {
        let e = list("list", "matmul f32 2x3:3x4\n\nmatmul f32 2x3:4x4\n", Path::new("")).unwrap_err();
        assert!(e.to_string().starts_with("list:3: inner dimensions"), "{e}");
        assert!(matches!(list("list", "# nothing\n", Path::new("")), Err(Error::Empty { .. })));
    }
}
