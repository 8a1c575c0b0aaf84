//! The sizes of what an ONNX file leaves open: from the command line, from files with elements, or the usual ones.

use kiln_model::{Bindings, Model, Tensor};
use kiln_onnx::{Dim, Value};

use super::inputs::Given;
use crate::error::Error;

/// Tokens of a sequence if none are asked for, as of built-in networks.
const DEFAULT_SEQ: u64 = 128;

/// Sizes of a network's inputs.
#[derive(Clone, Debug, clap::Args)]
pub struct SizeArgs {
    /// Images or sequences at once [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: Option<u64>,
    /// Tokens of each sequence [default: 128, or the most that the network takes if that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seq: Option<u64>,
    /// The size of a dimension that the file leaves open, by the name it has there
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim)]
    pub dims: Vec<(String, u64)>,
    /// The shape of an input of the file
    #[arg(long = "shape", value_name = "INPUT=AxBxC", value_parser = shape)]
    pub shapes: Vec<(String, Vec<u64>)>,
}

fn dim(text: &str) -> Result<(String, u64), String> {
    let parts = text.split_once('=').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
    parts.filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=N, such as batch=1".into())
}

fn shape(text: &str) -> Result<(String, Vec<u64>), String> {
    let shape = |text: &str| text.split('x').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>();
    // Names of inputs may have a `=` in them.
    let parts = text.rsplit_once('=').and_then(|(name, sizes)| Some((name.to_owned(), shape(sizes)?)));
    parts.filter(|(name, _)| !name.is_empty()).ok_or("expected INPUT=AxBxC, such as pixels=1x3x224x224".into())
}

/// The inputs of a file with all their sizes.
pub struct Sizes {
    /// Bindings for the importer.
    pub bindings: Bindings,
    /// The shape of each input, in the file's order.
    pub shapes: Vec<Vec<u64>>,
}

/// An option that sizes all open dimensions of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Batch,
    Seq,
}

/// The origin of a size.
#[derive(Clone, Debug)]
enum Origin {
    /// The file itself.
    Fixed,
    /// Its test.
    Test,
    /// `--dim`.
    Dim,
    /// `--shape`.
    Shape,
    /// `--input`, with the file that has the elements.
    Input(String),
    /// `--batch` or `--seq`.
    All(Kind),
    /// The usual size, as nothing says another.
    Usual,
}

/// One dimension of an input.
struct Sized<'a> {
    input: &'a str,
    axis: usize,
    /// Its name in the file; empty if it has none.
    name: &'a str,
    kind: Option<Kind>,
    /// True if the file does not say its size.
    is_open: bool,
    size: u64,
    origin: Origin,
}

impl SizeArgs {
    /// True if no option says anything.
    pub fn is_empty(&self) -> bool {
        let Self { batch, seq, dims, shapes } = self;
        batch.is_none() && seq.is_none() && dims.is_empty() && shapes.is_empty()
    }

    /// The first option that is for files alone, and its value's name.
    pub fn for_files(&self) -> Option<(&'static str, &str)> {
        let dim = self.dims.first().map(|(name, _)| ("dim", name.as_str()));
        dim.or_else(|| self.shapes.first().map(|(name, _)| ("shape", name.as_str())))
    }

    /// The sizes of all inputs: those that `--shape`, the file's test, or files with elements have, else of each dimension what
    /// `--dim`, `--batch` and `--seq` say, else the usual ones. Refuses options that contradict each other, and those that size
    /// nothing.
    pub fn bind(&self, model: &Model, given: &Given, test: Option<&[Tensor]>) -> Result<Sizes, Error> {
        self.check_twice()?;
        let inputs = &model.graph().inputs;
        let mut bindings = self.dims.iter().fold(Bindings::new(), |all, (name, n)| all.dim(name, *n));
        let (mut shapes, mut all) = (vec![], vec![]);
        for (at, input) in inputs.iter().enumerate() {
            let whole = self.whole_shape(input, given, test.and_then(|t| t.get(at)));
            let sized = match (&input.shape, &whole) {
                (None, None) => return Err(Error::OpenShape { input: input.name.clone() }),
                (None, Some(_)) => vec![],
                (Some(dims), _) => self.dimensions(input, dims, whole.as_ref())?,
            };
            shapes.push(whole.map_or_else(|| sized.iter().map(|d| d.size).collect(), |(shape, _)| shape));
            all.extend(sized);
        }
        self.check(inputs, &all)?;
        // Those too that name no input, so that the importer refuses them.
        bindings = self.shapes.iter().fold(bindings, |all, (name, shape)| all.shape(name, shape));
        bindings = inputs.iter().zip(&shapes).fold(bindings, |all, (input, shape)| all.shape(&input.name, shape));
        Ok(Sizes { bindings, shapes })
    }

    /// The shape of an input that is known as a whole.
    fn whole_shape(&self, input: &Value, given: &Given, test: Option<&Tensor>) -> Option<(Vec<u64>, Origin)> {
        if let Some((_, shape)) = self.shapes.iter().find(|(name, _)| *name == input.name) {
            return Some((shape.clone(), Origin::Shape));
        }
        if let Some(tensor) = test {
            return Some((tensor.ty().shape().to_vec(), Origin::Test));
        }
        given.find(&input.name).map(|(file, tensor)| {
            let file = file.display().to_string();
            (tensor.ty().shape().to_vec(), Origin::Input(file))
        })
    }

    /// The size of each dimension of an input. If the whole shape has another rank than the file says, there are none: the importer
    /// refuses it.
    fn dimensions<'a>(
        &self,
        input: &'a Value,
        dims: &'a [Dim],
        whole: Option<&(Vec<u64>, Origin)>,
    ) -> Result<Vec<Sized<'a>>, Error> {
        if whole.is_some_and(|(shape, _)| shape.len() != dims.len()) {
            return Ok(vec![]);
        }
        let sized = dims.iter().enumerate().map(|(axis, dim)| {
            let (name, fixed) = match dim {
                Dim::Known(n) => ("", Some(*n as u64)),
                Dim::Named(name) => (name.as_str(), None),
            };
            let kind = kind(name, axis, input);
            let (size, origin) = match (whole, fixed) {
                (Some((shape, origin)), _) => (shape[axis], origin.clone()),
                (None, Some(n)) => (n, Origin::Fixed),
                (None, None) => self.size(name, kind).ok_or_else(|| {
                    let name = if name.is_empty() { format!("number {axis}") } else { format!("`{name}`") };
                    Error::OpenDim { input: input.name.clone(), name }
                })?,
            };
            Ok(Sized { input: &input.name, axis, name, kind, is_open: fixed.is_none(), size, origin })
        });
        sized.collect()
    }

    /// The size of an open dimension; `None` if nothing says it.
    fn size(&self, name: &str, kind: Option<Kind>) -> Option<(u64, Origin)> {
        if let Some((_, n)) = self.dims.iter().find(|(asked, _)| asked == name) {
            return Some((*n, Origin::Dim));
        }
        let kind = kind?;
        let (asked, usual) = match kind {
            Kind::Batch => (self.batch, 1),
            Kind::Seq => (self.seq, DEFAULT_SEQ),
        };
        Some(asked.map_or((usual, Origin::Usual), |n| (n, Origin::All(kind))))
    }

    /// Refuses a dimension or an input that is named twice.
    fn check_twice(&self) -> Result<(), Error> {
        let dims = self.dims.iter().map(|(name, _)| ("--dim", name));
        let all: Vec<_> = dims.chain(self.shapes.iter().map(|(name, _)| ("--shape", name))).collect();
        match all.iter().enumerate().find(|(at, one)| all[..*at].contains(one)) {
            Some((_, (option, name))) => Err(Error::Twice { option, name: (*name).clone() }),
            None => Ok(()),
        }
    }

    /// Refuses sizes that contradict each other: `--dim` and a shape; two sizes of one name where `--batch` or `--seq` is one of
    /// them; `--batch` and the shape of an input; and a `--batch` or `--seq` that sizes nothing.
    fn check(&self, inputs: &[Value], all: &[Sized<'_>]) -> Result<(), Error> {
        for d in all {
            let asked = self.dims.iter().find(|(name, n)| name == d.name && *n != d.size);
            if let Some((name, n)) = asked {
                return Err(d.contradicts(format!("--dim {name}={n}")));
            }
        }
        for (kind, option, n) in [(Kind::Batch, "--batch", self.batch), (Kind::Seq, "--seq", self.seq)] {
            let Some(n) = n else { continue };
            let option = format!("{option} {n}");
            let of_kind = || all.iter().filter(|d| d.kind == Some(kind));
            let by_it = || of_kind().filter(|d| matches!(d.origin, Origin::All(_)));
            for d in of_kind().filter(|d| d.is_open && d.size != n) {
                let is_whole = matches!(d.origin, Origin::Shape | Origin::Input(_));
                let has_two_sizes = !d.name.is_empty() && by_it().any(|other| other.name == d.name);
                if has_two_sizes || by_it().next().is_none() || (is_whole && kind == Kind::Batch) {
                    return Err(d.contradicts(option));
                }
            }
            // Asking for the size that a file has anyway is no mistake.
            if !of_kind().any(|d| d.size == n) {
                let known = inputs.iter().map(describe).collect::<Vec<_>>().join(", ");
                return Err(Error::NoSuchDim { option, known });
            }
        }
        Ok(())
    }
}

impl Sized<'_> {
    /// The refusal of an option that says another size.
    fn contradicts(&self, option: String) -> Error {
        let what = if self.name.is_empty() { format!("dimension {}", self.axis) } else { format!("`{}`", self.name) };
        let by = match &self.origin {
            Origin::Input(file) => format!(" in {file}"),
            Origin::Shape => " by --shape".into(),
            Origin::Dim => " by --dim".into(),
            Origin::All(Kind::Batch) => " by --batch".into(),
            Origin::All(Kind::Seq) => " by --seq".into(),
            Origin::Fixed | Origin::Test | Origin::Usual => String::new(),
        };
        let why = format!("but {what} of input `{}` is {}{by}", self.input, self.size);
        Error::Contradiction { option, why }
    }
}

/// An input with what the file says of its type.
fn describe(input: &Value) -> String {
    let element = input.dtype.map_or("?".into(), |dtype| dtype.to_string());
    let dims = input.shape.iter().flatten().map(|dim| match dim {
        Dim::Known(n) => n.to_string(),
        Dim::Named(name) if name.is_empty() => "?".into(),
        Dim::Named(name) => name.clone(),
    });
    format!("{}: {element}[{}]", input.name, dims.collect::<Vec<_>>().join(", "))
}

/// The option for a dimension, by its name, or, if it has none, by its place: the first one is the batch, and the second
/// of a matrix of integers is the sequence.
fn kind(name: &str, axis: usize, input: &Value) -> Option<Kind> {
    let word = name.to_ascii_lowercase();
    if word.contains("seq") || (word.is_empty() && axis == 1 && is_tokens(input)) {
        Some(Kind::Seq)
    } else if word.contains("batch") || word == "n" || (word.is_empty() && axis == 0) {
        Some(Kind::Batch)
    } else {
        None
    }
}

/// True for a matrix of integers, which is sequences of tokens.
fn is_tokens(input: &Value) -> bool {
    use kiln_onnx::ElementType::{I32, I64};
    matches!(input.dtype, Some(I32 | I64)) && input.shape.as_ref().is_some_and(|dims| dims.len() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shapes_are_read() {
        assert_eq!(dim("batch=4"), Ok(("batch".into(), 4)));
        assert_eq!(shape("a=b=1x3x7"), Ok(("a=b".into(), vec![1, 3, 7])));
        for bad in ["", "batch", "=4", "batch=", "batch=x", "batch=-1"] {
            assert!(dim(bad).is_err() && shape(bad).is_err(), "{bad}");
        }
    }
}
