//! The sizes of what an ONNX file leaves open: from the command line, from files with elements, or the usual ones.

use std::collections::HashMap;

use kiln_model::{Bindings, Model, Tensor};
use kiln_onnx::{Dim, DimRole, Dimension, SizeOrigin, Value};

use super::inputs::Given;
use super::open::OpenDims;
use crate::counts;
use crate::error::Error;

/// Tokens of a sequence if none are asked for, as of built-in networks.
const DEFAULT_SEQ: u64 = 128;

/// Sizes of a network's inputs.
#[derive(Clone, Debug, clap::Args)]
pub struct SizeArgs {
    /// Images or sequences at once [default: 1]
    #[arg(long, value_name = "N", value_parser = counts::positive)]
    pub batch: Option<u64>,
    /// Tokens of each sequence [default: 128, or the most that the network takes if that is less]
    #[arg(long, value_name = "N", value_parser = counts::positive)]
    pub seq: Option<u64>,
    /// The size of a dimension that the file leaves open, by the name it has there, also if an exporter made it up
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim)]
    pub dims: Vec<(String, u64)>,
    /// The shape of an input of the file
    #[arg(long = "shape", value_name = "INPUT=AxBxC", value_parser = shape)]
    pub shapes: Vec<(String, Vec<u64>)>,
}

fn dim(text: &str) -> Result<(String, u64), String> {
    // Names may have a `=` in them.
    let parts = text.rsplit_once('=').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
    parts.filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=N, such as batch=1".into())
}

fn shape(text: &str) -> Result<(String, Vec<u64>), String> {
    let shape = |text: &str| text.split('x').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>();
    let parts = text.rsplit_once('=').and_then(|(name, sizes)| Some((name.to_owned(), shape(sizes)?)));
    parts.filter(|(name, _)| !name.is_empty()).ok_or("expected INPUT=AxBxC, such as pixels=1x3x224x224".into())
}

/// The inputs of a file with all their sizes.
pub struct Sizes {
    /// Bindings for the importer.
    pub bindings: Bindings,
    /// The shape of each input, in the file's order.
    pub shapes: Vec<Vec<u64>>,
    /// The dimensions that the file leaves open.
    pub open: OpenDims,
}

/// The origin of a whole shape.
#[derive(Clone, Debug)]
enum Whole {
    /// The file's test.
    Test,
    /// `--shape`.
    Shape,
    /// `--input`, with the file that has the elements.
    Input(String),
}

/// One dimension of an input.
struct Sized<'a> {
    dimension: &'a Dimension,
    size: u64,
    origin: SizeOrigin,
    /// Of the whole shape, if that is the origin.
    whole: Option<Whole>,
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
        let mut bindings = Bindings::new().batch(self.batch.unwrap_or(1)).sequence(self.seq.unwrap_or(DEFAULT_SEQ));
        bindings = self.dims.iter().fold(bindings, |all, (name, n)| all.dim(name, *n));
        // Those too that name no input, so that the importer refuses them.
        bindings = self.shapes.iter().fold(bindings, |all, (name, shape)| all.shape(name, shape));
        let mut wholes = HashMap::new();
        for (at, input) in inputs.iter().enumerate() {
            if let Some((shape, whole)) = self.whole_shape(input, given, test.and_then(|t| t.get(at))) {
                bindings = bindings.shape(&input.name, &shape);
                wholes.insert(input.name.as_str(), (shape, whole));
            } else if input.shape.is_none() {
                return Err(Error::OpenShape { input: input.name.clone() });
            }
        }
        let dimensions = bindings.dimensions(model.graph());
        let all = sized(inputs, &dimensions, &wholes)?;
        self.check(inputs, &all)?;
        let mut open = OpenDims::default();
        for d in all.iter().filter(|d| d.dimension.is_open()) {
            let Dimension { input, axis, name, .. } = d.dimension;
            open.input(input, *axis, name, d.size, self.says(d));
        }
        let mut shapes = vec![];
        for input in inputs {
            let own = || all.iter().filter(|d| d.dimension.input == input.name).map(|d| d.size).collect();
            let shape = wholes.get(input.name.as_str()).map_or_else(own, |(shape, _)| shape.clone());
            bindings = bindings.shape(&input.name, &shape);
            shapes.push(shape);
        }
        Ok(Sizes { bindings, shapes, open })
    }

    /// The shape of an input that is known as a whole.
    fn whole_shape(&self, input: &Value, given: &Given, test: Option<&Tensor>) -> Option<(Vec<u64>, Whole)> {
        if let Some((_, shape)) = self.shapes.iter().find(|(name, _)| *name == input.name) {
            return Some((shape.clone(), Whole::Shape));
        }
        if let Some(tensor) = test {
            return Some((tensor.ty().shape().to_vec(), Whole::Test));
        }
        given.find(&input.name).map(|(file, tensor)| {
            let file = file.display().to_string();
            (tensor.ty().shape().to_vec(), Whole::Input(file))
        })
    }

    /// The option, file or rule that says a size, for people.
    fn says(&self, sized: &Sized<'_>) -> String {
        let Dimension { input, name, role, is_role_of_place, .. } = sized.dimension;
        match (&sized.origin, &sized.whole) {
            (_, Some(Whole::Test)) => "the test".into(),
            (_, Some(Whole::Shape)) => format!("--shape {input}"),
            (_, Some(Whole::Input(file))) => format!("--input {file}"),
            (SizeOrigin::Name, _) => format!("--dim {name}"),
            (SizeOrigin::Input(other), _) => format!("the same name in {other}"),
            (SizeOrigin::Expression, _) => "an expression of open dimensions".into(),
            (SizeOrigin::Role, _) => {
                let (option, asked, place) = match role {
                    Some(DimRole::Sequence) => ("--seq", self.seq, "the second axis of tokens"),
                    _ => ("--batch", self.batch, "the first axis"),
                };
                let why = if *is_role_of_place { place } else { "by its name" };
                let by_default = if asked.is_none() { " by default" } else { "" };
                format!("{option}{by_default}: {why}")
            }
            _ => "the file".into(),
        }
        .escape_debug()
        .to_string()
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
            let asked = self.dims.iter().find(|(name, n)| *name == d.dimension.name && *n != d.size);
            if let Some((name, n)) = asked {
                return Err(d.contradicts(format!("--dim {name}={n}")));
            }
        }
        for (role, option, n) in [(DimRole::Batch, "--batch", self.batch), (DimRole::Sequence, "--seq", self.seq)] {
            let Some(n) = n else { continue };
            let option = format!("{option} {n}");
            // What follows from others need not be the same.
            let of_role =
                || all.iter().filter(|d| d.dimension.role == Some(role) && d.origin != SizeOrigin::Expression);
            let by_it = || of_role().filter(|d| d.origin == SizeOrigin::Role);
            for d in of_role().filter(|d| d.dimension.is_open() && d.size != n) {
                let is_whole = matches!(d.whole, Some(Whole::Shape | Whole::Input(_)));
                let name = &d.dimension.name;
                let has_two_sizes = !name.is_empty() && by_it().any(|other| other.dimension.name == *name);
                if has_two_sizes || by_it().next().is_none() || (is_whole && role == DimRole::Batch) {
                    return Err(d.contradicts(option));
                }
            }
            // Asking for the size that a file has anyway is no mistake.
            if !of_role().any(|d| d.size == n) {
                let known = inputs.iter().map(describe).collect::<Vec<_>>().join(", ");
                return Err(Error::NoSuchDim { option, known });
            }
        }
        Ok(())
    }
}

/// The dimensions with their sizes, without those of inputs for which a whole shape of another rank is given: the importer
/// refuses these.
fn sized<'a>(
    inputs: &[Value],
    dimensions: &'a [Dimension],
    wholes: &HashMap<&str, (Vec<u64>, Whole)>,
) -> Result<Vec<Sized<'a>>, Error> {
    let mut all = vec![];
    for dimension in dimensions {
        let whole = wholes.get(dimension.input.as_str());
        let rank = inputs.iter().find(|v| v.name == dimension.input).and_then(|v| v.shape.as_ref()).map(Vec::len);
        if whole.is_some_and(|(shape, _)| Some(shape.len()) != rank) {
            continue;
        }
        let Some((size, origin)) = dimension.size.clone() else {
            return Err(Error::OpenDim {
                input: dimension.input.clone(),
                axis: dimension.axis,
                name: dimension.name.clone(),
                all: dimensions.iter().filter(|d| d.is_open()).cloned().collect(),
            });
        };
        let whole = whole.filter(|_| origin == SizeOrigin::Shape).map(|(_, whole)| whole.clone());
        all.push(Sized { dimension, size, origin, whole });
    }
    Ok(all)
}

impl Sized<'_> {
    /// The refusal of an option that says another size.
    fn contradicts(&self, option: String) -> Error {
        let Dimension { input, axis, name, role, .. } = self.dimension;
        let what = if name.is_empty() { format!("dimension {axis}") } else { format!("`{name}`") };
        let by = match (&self.origin, &self.whole) {
            (_, Some(Whole::Input(file))) => format!(" in {file}"),
            (_, Some(Whole::Shape)) => " by --shape".into(),
            (SizeOrigin::Name, _) => " by --dim".into(),
            (SizeOrigin::Input(other), _) => format!(", as in input `{other}`"),
            (SizeOrigin::Role, _) if *role == Some(DimRole::Sequence) => " by --seq".into(),
            (SizeOrigin::Role, _) => " by --batch".into(),
            _ => String::new(),
        };
        let why = format!("but {what} of input `{input}` is {}{by}", self.size);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shapes_are_read() {
        assert_eq!(dim("batch=4"), Ok(("batch".into(), 4)));
        assert_eq!(dim("2*s0=4"), Ok(("2*s0".into(), 4)));
        assert_eq!(shape("a=b=1x3x7"), Ok(("a=b".into(), vec![1, 3, 7])));
        for bad in ["", "batch", "=4", "batch=", "batch=x", "batch=-1"] {
            assert!(dim(bad).is_err() && shape(bad).is_err(), "{bad}");
        }
    }
}
