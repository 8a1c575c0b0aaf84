//! The network of a subcommand, in the shapes and on the inputs that were asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_ir::Problem;
use kiln_model::arch::{ArchOptions, Architecture, UnknownArchitecture};
use kiln_model::pretrained::Pretrained;
use kiln_model::{Bindings, Bound, ImportError, ModelError, OnnxError, Tensor, TensorType};

use super::files::{MODEL, has_model, is_network};
use super::inputs::{Given, Wanted};
use super::open::OpenDims;
use super::sizes::SizeArgs;
use crate::error::Error;
use crate::kind::FileKind;
use crate::mapped;
use crate::problems::problem;

/// The network of a subcommand.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// A built-in network (resnet50, bert, distilbert, distilbert-sentiment, roberta-fill-mask, roberta-sentiment, bert-tiny,
    /// distilbert-tiny or roberta-tiny), the path of an ONNX file, or of a folder with a model.onnx, or with a config.json and a
    /// model.safetensors as Hugging Face lays them out
    #[arg(value_name = "NETWORK")]
    network: String,
    #[command(flatten)]
    sizes: SizeArgs,
    /// A file with the elements of input NAME, or, without a name, of the next input that has none yet. Other inputs are filled,
    /// with the same data each time
    #[arg(long = "input", value_name = "[NAME=]FILE.npy")]
    inputs: Vec<String>,
}

/// A network with concrete shapes and its inputs.
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// The network, until it is taken.
    bound: Option<Bound>,
    /// Its inputs, in calling order.
    pub inputs: Vec<Tensor>,
    /// The folder of the test beside the file, if there is one and it is used, and the results it expects.
    pub expected: Option<(PathBuf, Vec<Tensor>)>,
    /// The time that reading and binding took.
    pub time: Duration,
    /// Images or sequences that are computed at once.
    pub items: u64,
    /// The dimensions that its file leaves open, with sizes.
    pub open: OpenDims,
    source: Source,
}

#[derive(Clone)]
enum Source {
    BuiltIn(Architecture, ArchOptions),
    Pretrained(Arc<Pretrained>, ArchOptions),
    File(PathBuf, Bindings),
}

impl Loaded {
    /// Takes the network, so that the caller decides how long its weights are in memory.
    pub fn take(&mut self) -> Result<Bound, Error> {
        self.bound.take().map_or_else(|| self.bind_again(), Ok)
    }

    /// Makes the same network once more.
    pub fn bind_again(&self) -> Result<Bound, Error> {
        self.source.bind()
    }
}

impl Source {
    fn bind(&self) -> Result<Bound, Error> {
        Ok(match self {
            Source::BuiltIn(architecture, options) => Bound::from_architecture(*architecture, options)?,
            Source::Pretrained(pretrained, options) => Bound::from_pretrained(pretrained, options)?,
            Source::File(path, bindings) => mapped::network(path)?.bind(bindings)?,
        })
    }
}

/// The refusal of what is neither a built-in network nor a file.
fn unknown_network(text: &str, unknown: UnknownArchitecture) -> Error {
    let first = text.split_whitespace().next().unwrap_or_default();
    match kiln_ir::problem::NAMES.contains(&first) {
        true => Error::IsAProblem(text.into()),
        false => Error::UnknownNetwork(unknown),
    }
}

impl NetworkArgs {
    /// The option that says the size of its batch or its sequences, or of a dimension of that name.
    pub fn option_of(&self, name: &str) -> Option<String> {
        let dim = || self.sizes.dims.iter().find(|(dim, _)| dim == name);
        match name {
            "batch" => self.sizes.batch.map(|n| format!("--batch {n}")),
            "seq" => self.sizes.seq.map(|n| format!("--seq {n}")),
            _ => dim().map(|(name, n)| format!("--dim {name}={n}")),
        }
    }

    /// The same network with another size of its batch or its sequences, or else of a dimension of that name.
    pub fn with_size(&self, name: &str, n: u64) -> Self {
        let mut other = self.clone();
        match name {
            "batch" => other.sizes.batch = Some(n),
            "seq" => other.sizes.seq = Some(n),
            _ => other.sizes.dims.push((name.to_owned(), n)),
        }
        other
    }

    /// The problem, or the `.kiln` file with one, that stands in place of a network; `None` if it is none.
    pub fn problem(&self) -> Option<Result<Problem, Error>> {
        let first = self.network.split_whitespace().next().unwrap_or_default();
        let is_named = kiln_ir::problem::NAMES.contains(&first) || self.network.ends_with(".kiln");
        (is_named && !is_network(&self.network)).then(|| problem(&self.network))
    }

    /// An option that is given and does not concern problems.
    pub fn option_for_networks(&self) -> Option<String> {
        let sizes = [self.sizes.batch.map(|n| format!("--batch {n}")), self.sizes.seq.map(|n| format!("--seq {n}"))];
        let other = || self.sizes.for_files().map(|(option, value)| format!("--{option} {value}"));
        let input = || self.inputs.first().map(|input| format!("--input {input}"));
        sizes.into_iter().flatten().next().or_else(other).or_else(input)
    }

    /// The network.
    pub fn load(&self) -> Result<Loaded, Error> {
        match self.network.parse::<Architecture>() {
            Ok(architecture) => self.built_in(architecture),
            Err(unknown) => {
                let path = Path::new(&self.network);
                let path = match FileKind::of(path) {
                    Some(FileKind::Folder) if !has_model(path) && Pretrained::is_folder(path) => {
                        return self.pretrained(path);
                    }
                    Some(FileKind::Folder) if !has_model(path) => return Err(Error::NoModel(path.into())),
                    Some(FileKind::Folder) => path.join(MODEL),
                    Some(kind @ (FileKind::Magic(_) | FileKind::Text)) => {
                        let expected = "an ONNX network (`torch.onnx.export` writes one)".into();
                        return Err(Error::IsAFile { path: self.network.clone(), kind, expected });
                    }
                    None if !path.exists() => return Err(unknown_network(&self.network, unknown)),
                    Some(FileKind::Onnx) | None => path.to_owned(),
                };
                self.file(&path).map_err(|e| match e {
                    // It names the file already.
                    Error::Model(ref model) if matches!(**model, ModelError::Onnx(OnnxError::File { .. })) => e,
                    e => e.at(path.display().to_string()),
                })
            }
        }
    }

    fn built_in(&self, architecture: Architecture) -> Result<Loaded, Error> {
        let options = self.options(architecture.name())?;
        let inputs = architecture.inputs(&options).map_err(ModelError::from)?;
        let samples = architecture.sample_inputs(&options).map_err(ModelError::from)?;
        let source = Source::BuiltIn(architecture, options);
        self.built(architecture.name(), &inputs, samples, source, Instant::now())
    }

    /// A network from a folder as Hugging Face lays it out.
    fn pretrained(&self, folder: &Path) -> Result<Loaded, Error> {
        let options = self.options("a folder with a config.json")?;
        let start = Instant::now();
        let pretrained = Pretrained::open(folder).map_err(ModelError::from)?;
        let inputs = pretrained.inputs(&options).map_err(ModelError::from)?;
        let samples = pretrained.sample_inputs(&options).map_err(ModelError::from)?;
        let source = Source::Pretrained(Arc::new(pretrained), options);
        self.built(&folder.display().to_string(), &inputs, samples, source, start)
    }

    /// The options for a network whose dimensions have no names.
    fn options(&self, network: &str) -> Result<ArchOptions, Error> {
        match self.sizes.for_files() {
            Some((option, name)) => Err(Error::NotAFile { option, name: name.into(), network: network.into() }),
            None => Ok(ArchOptions { batch: self.sizes.batch.unwrap_or(1), seq: self.sizes.seq }),
        }
    }

    /// A network that is built of its options. `wanted` are its inputs, and `samples` stand for those that nobody gives.
    fn built(
        &self,
        name: &str,
        wanted: &[(&'static str, TensorType)],
        samples: Vec<Tensor>,
        source: Source,
        start: Instant,
    ) -> Result<Loaded, Error> {
        let given = Given::read(&self.inputs, wanted.iter().map(|(name, _)| *name))?;
        let inputs = wanted.iter().zip(samples).map(|((name, ty), sample)| given.get(name, ty, || Ok(sample)));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let bound = source.bind()?;
        let time = start.elapsed();
        let items = self.sizes.batch.unwrap_or(1);
        let open = OpenDims::default();
        Ok(Loaded { name: name.into(), bound: Some(bound), inputs, expected: None, time, items, open, source })
    }

    fn file(&self, path: &Path) -> Result<Loaded, Error> {
        let start = Instant::now();
        let model = mapped::network(path)?;
        let read = start.elapsed();
        let test =
            if self.sizes.is_empty() && self.inputs.is_empty() { super::inputs::first_test(path)? } else { None };
        let given = Given::read(&self.inputs, model.graph().inputs.iter().map(|v| v.name.as_str()))?;
        let sizes = self.sizes.bind(&model, &given, test.as_ref().map(|t| &t.inputs[..]))?;
        let mut inputs = vec![];
        for (at, (wanted, shape)) in model.graph().inputs.iter().zip(&sizes.shapes).enumerate() {
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
        let mut bindings = sizes.bindings;
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
            // A node that does not take what it is given, perhaps because of a size.
            ModelError::Import(error) if matches!(*error, ImportError::Node { .. }) => match sizes.open.short() {
                Some(sizes) => Error::ForSizes { error, sizes },
                None => ModelError::Import(error).into(),
            },
            e => e.into(),
        })?;
        let time = read + start.elapsed();
        let items = inputs.first().and_then(|t| t.ty().shape().first().copied()).unwrap_or(1).max(1);
        let name = path.display().to_string();
        let expected = test.map(|t| (t.folder, t.outputs));
        let mut open = sizes.open;
        let func = bound.func();
        open.outputs(&model.graph().outputs, func.results().iter().map(|id| func.value(*id).ty.shape()));
        Ok(Loaded {
            name,
            bound: Some(bound),
            inputs,
            expected,
            time,
            items,
            open,
            source: Source::File(path.into(), bindings),
        })
    }
}
