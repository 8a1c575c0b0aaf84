//! Which network, in which shapes, on which inputs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::{Bindings, Bound, ImportError, Model, ModelError, Tensor};
use kiln_onnx::Dim;

use super::inputs::{Given, Wanted};
use crate::error::Error;

/// Tokens of a sequence if none are asked for, as of built-in networks.
const DEFAULT_SEQ: u64 = 128;

/// The network of a subcommand.
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {
    /// A built-in network (resnet50, bert, distilbert, distilbert-sentiment, roberta-fill-mask, roberta-sentiment, bert-tiny,
    /// distilbert-tiny or roberta-tiny), the path of an ONNX file, or of a folder with a model.onnx
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Images or sequences at once [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// Tokens of each sequence [default: 128, or as many as the network takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seq: Option<u64>,
    /// A dimension that the file leaves open, by its name there
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim)]
    dims: Vec<(String, u64)>,
    /// The shape of an input of the file
    #[arg(long = "shape", value_name = "INPUT=AxBxC", value_parser = shape)]
    shapes: Vec<(String, Vec<u64>)>,
    /// Elements of an input, of the next one if there is no name; inputs without any are filled, always with the same
    #[arg(long = "input", value_name = "[NAME=]FILE.npy")]
    inputs: Vec<String>,
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

/// A network with concrete shapes and its inputs.
pub struct Loaded {
    /// What it is called.
    pub name: String,
    /// The network, until it is taken.
    bound: Option<Bound>,
    /// Its inputs, in calling order.
    pub inputs: Vec<Tensor>,
    /// What the results should be, where a test is beside the file: that, and where it is.
    pub expected: Option<(PathBuf, Vec<Tensor>)>,
    /// How long reading and binding took.
    pub time: Duration,
    /// How many things are computed at once: the batch.
    pub items: u64,
    source: Source,
}

#[derive(Clone)]
enum Source {
    BuiltIn(Architecture, ArchOptions),
    File(PathBuf, Bindings),
}

impl Loaded {
    /// The network. Whoever takes it decides how long its weights are in memory.
    pub fn take(&mut self) -> Result<Bound, Error> {
        self.bound.take().map_or_else(|| self.bind_again(), Ok)
    }

    /// The same network once more.
    pub fn bind_again(&self) -> Result<Bound, Error> {
        self.source.bind()
    }
}

impl Source {
    fn bind(&self) -> Result<Bound, Error> {
        Ok(match self {
            Source::BuiltIn(architecture, options) => Bound::from_architecture(*architecture, options)?,
            Source::File(path, bindings) => Model::from_onnx(path)?.bind(bindings)?,
        })
    }
}

impl NetworkArgs {
    /// The network.
    pub fn load(&self) -> Result<Loaded, Error> {
        match self.network.parse::<Architecture>() {
            Ok(architecture) => self.built_in(architecture),
            Err(unknown) => {
                let path = Path::new(&self.network);
                if !path.exists() && path.extension().is_none_or(|end| end != "onnx") {
                    return Err(Error::UnknownNetwork(unknown));
                }
                let path = if path.is_dir() { path.join("model.onnx") } else { path.to_owned() };
                self.file(&path).map_err(|e| e.at(path.display().to_string()))
            }
        }
    }

    fn built_in(&self, architecture: Architecture) -> Result<Loaded, Error> {
        let open = self.dims.iter().map(|d| ("dim", &d.0)).chain(self.shapes.iter().map(|s| ("shape", &s.0))).next();
        if let Some((option, name)) = open {
            return Err(Error::NotAFile { option, name: name.clone(), network: architecture.name() });
        }
        let options = ArchOptions { batch: self.batch.unwrap_or(1), seq: self.seq };
        let wanted = architecture.inputs(&options).map_err(ModelError::from)?;
        let samples = architecture.sample_inputs(&options).map_err(ModelError::from)?;
        let given = Given::read(&self.inputs, wanted.iter().map(|(name, _)| *name))?;
        let inputs = wanted.iter().zip(samples).map(|((name, ty), sample)| given.get(name, ty, || sample));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let source = Source::BuiltIn(architecture, options.clone());
        let start = Instant::now();
        let bound = source.bind()?;
        let time = start.elapsed();
        let name = architecture.name().into();
        Ok(Loaded { name, bound: Some(bound), inputs, expected: None, time, items: options.batch, source })
    }

    fn file(&self, path: &Path) -> Result<Loaded, Error> {
        let start = Instant::now();
        let model = Model::from_onnx(path)?;
        let read = start.elapsed();
        let test = if self.asks_nothing() { super::inputs::first_test(path)? } else { None };
        let given = Given::read(&self.inputs, model.graph().inputs.iter().map(|v| v.name.as_str()))?;
        let known = self.bindings(&model, &given, test.as_ref().map(|t| &t.inputs[..]))?;
        let mut inputs = vec![];
        for (at, (wanted, shape)) in model.graph().inputs.iter().zip(&known.shapes).enumerate() {
            let tested = test.as_ref().and_then(|t| t.inputs.get(at));
            inputs.push(match tested {
                Some(tensor) => tensor.clone(),
                None => {
                    let wanted = Wanted::new(wanted, shape)?;
                    given.get(&wanted.name, &wanted.ty, || wanted.sample())?
                }
            });
        }
        let is_known = |name: &str| test.is_some() || given.has(name);
        let named = || model.graph().inputs.iter().map(|v| v.name.as_str()).zip(&inputs);
        let start = Instant::now();
        let mut bindings = known.bindings;
        let bound = match model.clone().bind(&bindings) {
            Err(ModelError::Import(e)) if matches!(&*e, ImportError::NeedsValue { source_input, .. } if is_known(source_input)) =>
            {
                let known = named().filter(|(name, _)| is_known(name));
                bindings = known.fold(bindings, |all, (name, tensor)| all.value(name, tensor.clone()));
                model.clone().bind(&bindings)
            }
            other => other,
        };
        let bound = bound.map_err(|e| match e {
            ModelError::Import(e) if matches!(*e, ImportError::NeedsValue { .. }) => Error::NeedsInput(e),
            e => e.into(),
        })?;
        let time = read + start.elapsed();
        let items = inputs.first().and_then(|t| t.ty().shape().first().copied()).unwrap_or(1).max(1);
        let name = path.display().to_string();
        let expected = test.map(|t| (t.folder, t.outputs));
        Ok(Loaded {
            name,
            bound: Some(bound),
            inputs,
            expected,
            time,
            items,
            source: Source::File(path.into(), bindings),
        })
    }

    /// Whether nothing says what the network is called with.
    fn asks_nothing(&self) -> bool {
        let Self { batch, seq, dims, shapes, inputs, network: _ } = self;
        batch.is_none() && seq.is_none() && dims.is_empty() && shapes.is_empty() && inputs.is_empty()
    }

    /// Shapes of all inputs of a file: what is asked for, then what files with elements have, then what dimensions that are
    /// open usually are.
    fn bindings(&self, model: &Model, given: &Given, test: Option<&[Tensor]>) -> Result<Known, Error> {
        let graph = model.graph();
        let mut bindings = self.dims.iter().fold(Bindings::new(), |all, (name, n)| all.dim(name, *n));
        bindings = self.shapes.iter().fold(bindings, |all, (name, shape)| all.shape(name, shape));
        let mut shapes = vec![];
        for (at, input) in graph.inputs.iter().enumerate() {
            let asked = self.shapes.iter().find(|(name, _)| *name == input.name).map(|(_, shape)| shape.clone());
            let has = |tensor: &Tensor| tensor.ty().shape().to_vec();
            let shape =
                asked.or_else(|| test.and_then(|t| t.get(at)).map(has)).or_else(|| given.find(&input.name).map(has));
            let shape = match (shape, &input.shape) {
                (Some(shape), _) => shape,
                (None, Some(dims)) => {
                    let dims = dims.iter().enumerate();
                    let sizes = dims.map(|(axis, dim)| self.size(axis, dim, dims_are_tokens(input)));
                    let sizes = sizes.collect::<Result<Vec<_>, String>>();
                    sizes.map_err(|name| Error::OpenDim { input: input.name.clone(), name })?
                }
                (None, None) => return Err(Error::OpenShape { input: input.name.clone() }),
            };
            bindings = bindings.shape(&input.name, &shape);
            shapes.push(shape);
        }
        Ok(Known { bindings, shapes })
    }

    /// The size of a dimension, or its name if nobody knows.
    fn size(&self, axis: usize, dim: &Dim, are_tokens: bool) -> Result<u64, String> {
        let name = match dim {
            Dim::Known(n) => return Ok(*n as u64),
            Dim::Named(name) => name,
        };
        if let Some((_, n)) = self.dims.iter().find(|(asked, _)| asked == name) {
            return Ok(*n);
        }
        let word = name.to_ascii_lowercase();
        let is_batch = word.contains("batch") || word == "n" || (word.is_empty() && axis == 0);
        let is_seq = word.contains("seq") || (word.is_empty() && axis == 1 && are_tokens);
        match (is_batch, is_seq) {
            (_, true) => Ok(self.seq.unwrap_or(DEFAULT_SEQ)),
            (true, false) => Ok(self.batch.unwrap_or(1)),
            (false, false) => Err(if name.is_empty() { format!("number {axis}") } else { format!("`{name}`") }),
        }
    }
}

struct Known {
    bindings: Bindings,
    /// Of all inputs, in order.
    shapes: Vec<Vec<u64>>,
}

/// Whether an input is sequences of tokens: matrices of integers.
fn dims_are_tokens(input: &kiln_onnx::Value) -> bool {
    use kiln_onnx::ElementType::{I32, I64};
    matches!(input.dtype, Some(I32 | I64)) && input.shape.as_ref().is_some_and(|dims| dims.len() == 2)
}

/// Whether there is a file at a path.
pub fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file())
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
