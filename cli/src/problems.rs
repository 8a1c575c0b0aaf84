//! The problems of a subcommand: from the command line, a file with a tensor function, a list, or standard input.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kiln_ir::fuse::fuse_single;
use kiln_ir::{DType, DTypes, Func, Problem};

use crate::error::Error;
use crate::kind::FileKind;
use crate::model::files::is_network;

/// The problems of a subcommand.
#[derive(Debug, clap::Args)]
pub struct ProblemArgs {
    /// A problem ("matmul f32 128x768:768x3072 +bias+relu"), a .kiln file with a tensor function, or - to read standard input
    #[arg(value_name = "PROBLEM")]
    words: Vec<String>,
    /// Problems or .kiln files from FILE, one a line; `#` begins a comment; - is standard input
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
}

/// Options that complete a bare descriptor, which is a line of a batch file of benchdnn.
#[derive(Debug, clap::Args)]
pub struct BareArgs {
    /// The operation of bare descriptors, such as `12x128x64:12x64x128n"scores"`, `mb2ic3oc4` or
    /// `ic16ih14oc32kh3`: matmul, ip or conv
    #[arg(long, value_name = "OP", value_parser = kiln_ir::problem::NAMES)]
    op: Option<String>,
    /// The element types of bare descriptors: f32, bf16, f16, or SRC:WEIGHTS:DST, such as u8:s8:s32
    #[arg(long, value_name = "DTYPES", default_value = "f32", requires = "op")]
    dtypes: DTypes,
    /// The words after bare descriptors, such as "fpmath=bf16 +bias+relu"
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true, requires = "op")]
    attributes: String,
}

impl Default for BareArgs {
    fn default() -> Self {
        Self { op: None, dtypes: DType::F32.into(), attributes: String::new() }
    }
}

impl BareArgs {
    /// Refuses an operation for a problem that says its own. The lines of a list may say theirs or not.
    pub fn check(&self, problems: &ProblemArgs) -> Result<(), Error> {
        let first = problems.words.first().and_then(|word| word.split_whitespace().next());
        let says = first.filter(|word| kiln_ir::problem::NAMES.contains(word));
        match (&self.op, says) {
            (Some(op), Some(says)) => Err(Error::Contradiction {
                option: format!("--op {op}"),
                why: format!("but the problem says `{says}` already"),
            }),
            _ => Ok(()),
        }
    }

    /// Parses a line, and completes it if it is bare, with strides if there are any.
    fn parse(&self, line: &str, strides: Option<&str>) -> Result<Problem, Error> {
        match self.op.as_ref().filter(|_| self.is_bare(line)) {
            // The name at the end may have spaces in it, and the parser does not need it.
            Some(op) => {
                let descriptor = line.split("n\"").next().unwrap_or_default().trim_end_matches('_').trim_end();
                let strides = strides.map(|strides| format!("strides={strides}")).unwrap_or_default();
                Ok(format!("{op} {} {descriptor} {strides} {}", self.dtypes, self.attributes).parse()?)
            }
            None => Ok(line.parse()?),
        }
    }

    /// True if a line is a descriptor and no more.
    fn is_bare(&self, line: &str) -> bool {
        let first = line.split_whitespace().next().unwrap_or_default();
        self.op.is_some() && !kiln_ir::problem::NAMES.contains(&first) && !line.ends_with(".kiln")
    }
}

const STANDARD_INPUT: &str = "standard input";

/// Reads a text of problems. Devices and pipes need not have an end: a text that is too long is an error.
fn to_the_end(from: impl Read) -> io::Result<String> {
    const MOST: u64 = 64 << 20;
    let mut text = String::new();
    from.take(MOST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MOST {
        true => Err(io::Error::other(format!("it has more than {MOST} bytes: expected a list of problems"))),
        false => Ok(text),
    }
}

impl ProblemArgs {
    /// All problems, at least one; the first error otherwise. `networks` is the command that does for networks what this one does
    /// for problems.
    pub fn load(&self, networks: &'static str) -> Result<Vec<Problem>, Error> {
        self.load_with(&BareArgs::default(), networks)
    }

    /// [`load`](Self::load), with bare descriptors completed.
    pub fn load_with(&self, bare: &BareArgs, networks: &'static str) -> Result<Vec<Problem>, Error> {
        let is_network = |text: &String| match is_network(text) {
            true => Err(Error::IsANetwork { network: text.clone(), command: networks }),
            false => Ok(()),
        };
        match (&self.words[..], &self.batch) {
            ([], None) => Err(Error::NoProblem),
            (words, Some(_)) if !words.is_empty() => {
                words.iter().try_for_each(is_network)?;
                Err(Error::ProblemAndBatch(words.join(" ")))
            }
            ([word], None) if word == "-" => standard_input(bare),
            (words, None) => {
                let problem = one(&words.join(" "), Path::new(""), bare, None);
                if problem.is_err() {
                    words.iter().try_for_each(is_network)?;
                }
                problem.map(|problem| vec![problem])
            }
            (_, Some(file)) if file == Path::new("-") => standard_input(bare),
            (_, Some(file)) => {
                let path = file.display().to_string();
                is_network(&path)?;
                list(&path, &read(file, "a text file with one problem a line")?, parent(file), bare)
            }
        }
    }
}

/// The text of a file; `expected` describes the file for the error if it has another format.
fn read(path: &Path, expected: &str) -> Result<String, Error> {
    if let Some(kind @ (FileKind::Magic(_) | FileKind::Folder)) = FileKind::of(path) {
        return Err(Error::IsAFile { path: path.display().to_string(), kind, expected: expected.into() });
    }
    File::open(path).and_then(to_the_end).map_err(|e| Error::File(e).at(path.display().to_string()))
}

fn parent(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn standard_input(bare: &BareArgs) -> Result<Vec<Problem>, Error> {
    let text = to_the_end(io::stdin()).map_err(|e| Error::File(e).at(STANDARD_INPUT))?;
    list(STANDARD_INPUT, &text, Path::new(""), bare)
}

/// A problem string, or the path of a `.kiln` file.
pub fn problem(text: &str) -> Result<Problem, Error> {
    one(text, Path::new(""), &BareArgs::default(), None)
}

/// A problem string, or the path of a `.kiln` file relative to `folder`.
fn one(text: &str, folder: &Path, bare: &BareArgs, strides: Option<&str>) -> Result<Problem, Error> {
    if !text.ends_with(".kiln") {
        return bare.parse(text, strides).map_err(|e| file_error(text, folder).unwrap_or(e));
    }
    let path = folder.join(text);
    let source = read(&path, "a text file with a tensor function")?;
    func(&source).map_err(|e| e.at(path.display().to_string()))
}

/// The error for a text that is no problem but the path of a file.
fn file_error(text: &str, folder: &Path) -> Option<Error> {
    let kind = FileKind::of(&folder.join(text))?;
    let expected = match kind {
        FileKind::Text => {
            format!(
                "a problem; `--batch {text}` reads a problem from each line, and a file with a function ends in .kiln"
            )
        }
        _ => "a problem, such as \"matmul f32 128x768:768x3072 +bias+relu\", or a .kiln file".into(),
    };
    Some(Error::IsAFile { path: text.into(), kind, expected })
}

fn func(source: &str) -> Result<Problem, Error> {
    Ok(fuse_single(&source.parse::<Func>()?)?.problem)
}

/// A text with one problem or file a line, or with one func. Of benchdnn's options, which may also stand in front of a descriptor,
/// `--strides` is read: it is for the descriptors that follow, each once for every one in its list.
fn list(origin: &str, text: &str, folder: &Path, bare: &BareArgs) -> Result<Vec<Problem>, Error> {
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).zip(1..);
    let lines: Vec<_> = lines.filter(|(l, _)| !l.is_empty() && !l.starts_with("//")).collect();
    if lines
        .iter()
        .find(|(l, _)| !l.starts_with("--"))
        .is_some_and(|(l, _)| l.split_whitespace().next() == Some("func"))
    {
        return Ok(vec![func(text).map_err(|e| e.at(origin))?]);
    }
    let (mut problems, mut strides) = (vec![], vec![]);
    for (line, at) in lines {
        let mut rest = line;
        let mut skipped = vec![];
        while rest.starts_with("--") {
            let (option, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            rest = after.trim_start();
            match option.strip_prefix("--strides=").filter(|_| bare.op.is_some()) {
                Some("") => strides.clear(),
                Some(list) => strides = list.split(',').collect(),
                None => {
                    if option == "--reset" {
                        strides.clear();
                    }
                    skipped.push(option);
                }
            }
        }
        if !skipped.is_empty() {
            let skipped = skipped.join(" ");
            // Nobody may be listening.
            let _ = writeln!(
                io::stderr(),
                "{origin}:{at}: skipped `{skipped}`: of options in lists only --strides is read"
            );
        }
        if rest.is_empty() {
            continue;
        }
        let each: Vec<Option<&str>> = match bare.is_bare(rest) && !strides.is_empty() {
            true => strides.iter().copied().map(Some).collect(),
            false => vec![None],
        };
        for strides in each {
            problems.push(one(rest, folder, bare, strides).map_err(|e| e.at(format!("{origin}:{at}")))?);
        }
    }
    if problems.is_empty() { Err(Error::Empty { origin: origin.into() }) } else { Ok(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Vec<String> {
        list("list", text, Path::new(""), &BareArgs::default()).unwrap().iter().map(Problem::to_string).collect()
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
    fn bare_descriptors_are_completed_and_options_skipped() {
        let bare =
            BareArgs { op: Some("matmul".into()), dtypes: DType::Bf16.into(), attributes: "beta=1 +relu".into() };
        let text = "--stag=ab\n12x8x4:12x4x8_n\"self attention\"\n2x3:3x4\nip f32 ic3oc4\n";
        let problems = list("list", text, Path::new(""), &bare).unwrap();
        let strings: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            strings,
            ["matmul bf16 12x8x4:12x4x8 beta=1 +relu", "matmul bf16 2x3:3x4 beta=1 +relu", "ip f32 mb2ic3oc4"]
        );
    }

    /// As in benchdnn's own lists: the option on a line of its own or in front of a descriptor, and several at once.
    #[test]
    fn strides_are_those_of_the_descriptors_that_follow() {
        let bare = BareArgs { op: Some("matmul".into()), attributes: "+relu".into(), ..BareArgs::default() };
        let text = "--reset\n--strides=4x1:4x1:4x1,13x1:7x1:9x1\n2x4:4x4:2x4\n--strides=::13x1 114x21:21x12:114x12n\"a name\"\n\
                    matmul f32 2x3:3x4\n114x21:21x12\n--strides= 2x3:3x4\n--strides=9x1::\n--reset --dt=f32\n2x3:3x4\n";
        let problems = list("list", text, Path::new(""), &bare).unwrap();
        let strings: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            strings,
            [
                "matmul f32 2x4:4x4 +relu",
                "matmul f32 2x4:4x4 strides=13x1:7x1:9x1 +relu",
                "matmul f32 114x21:21x12 strides=::13x1 +relu",
                "matmul f32 2x3:3x4",
                "matmul f32 114x21:21x12 strides=::13x1 +relu",
                "matmul f32 2x3:3x4 +relu",
                "matmul f32 2x3:3x4 +relu",
            ]
        );
        let e =
            list("list", "2x3:3x4\n--strides=2x1 2x3:3x4\n--strides=::2x1 2x3:3x4", Path::new(""), &bare).unwrap_err();
        assert!(e.to_string().starts_with("list:3: strides of dst, `2x1`"), "{e}");
    }

    #[test]
    fn errors_name_the_line() {
        let e = list("list", "matmul f32 2x3:3x4\n\nmatmul f32 2x3:4x4\n", Path::new(""), &BareArgs::default())
            .unwrap_err();
        assert!(e.to_string().starts_with("list:3: inner dimensions"), "{e}");
        assert!(matches!(list("list", "# nothing\n", Path::new(""), &BareArgs::default()), Err(Error::Empty { .. })));
    }
}
