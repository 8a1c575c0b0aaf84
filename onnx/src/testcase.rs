//! Tests as ONNX's own are laid out: a folder with a `model.onnx`, and one or more folders such as `test_data_set_0` in it, with
//! inputs and outputs. Each may have sizes of its own for what the model leaves open.

use std::path::{Path, PathBuf};

use crate::{Bindings, ImportError, Imported, Model, OnnxError, Tensor};

/// The inputs of one call of a model, and the outputs that it should give.
#[derive(Clone, Debug, PartialEq)]
pub struct TestSet {
    /// The folder with the files.
    pub folder: PathBuf,
    /// The inputs, in calling order.
    pub inputs: Vec<kiln_ir::func::Tensor>,
    /// The outputs, in order.
    pub outputs: Vec<kiln_ir::func::Tensor>,
}

/// The beginning of the names of folders with inputs and outputs.
const SET: &str = "test_data_set_";

impl TestSet {
    /// The folders beside a model, in the order of their numbers; those without a number come last. A folder that cannot be read
    /// has none.
    pub fn beside(model: &Path) -> Vec<PathBuf> {
        let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let mut sets: Vec<_> = entries.map(|entry| entry.path()).filter(|path| Self::is_set(path)).collect();
        let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(SET)?.parse::<u64>().ok();
        sets.sort_by_key(|path| (number(path).unwrap_or(u64::MAX), path.clone()));
        sets
    }

    /// True if a path is that of a folder with the inputs and outputs of a test, by its name.
    pub fn is_set(path: &Path) -> bool {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SET)) && path.is_dir()
    }

    /// Reads the files of a folder.
    pub fn read(folder: &Path) -> Result<Self, OnnxError> {
        let all = |kind: &str| {
            let paths = (0..).map(|i| folder.join(format!("{kind}_{i}.pb"))).take_while(|path| path.exists());
            paths.map(|path| tensor(&path)).collect::<Result<Vec<_>, OnnxError>>()
        };
        Ok(TestSet { folder: folder.into(), inputs: all("input")?, outputs: all("output")? })
    }

    /// The bindings that the inputs give a model: their shapes; their values too only if it cannot do without.
    pub fn import(&self, model: &Model) -> Result<Imported, ImportError> {
        let named = || model.graph.inputs.iter().zip(&self.inputs);
        let shapes = named().fold(Bindings::new(), |all, (input, tensor)| all.shape(&input.name, tensor.ty().shape()));
        match model.import(&shapes) {
            Err(ImportError::NeedsValue { .. }) => {
                let values = named().fold(shapes, |all, (input, tensor)| all.value(&input.name, tensor.clone()));
                model.import(&values)
            }
            imported => imported,
        }
    }
}

fn tensor(path: &Path) -> Result<kiln_ir::func::Tensor, OnnxError> {
    let bytes = kiln_files::read(path).map_err(|source| OnnxError::File { path: path.into(), source })?;
    let (_, tensor) = Tensor::from_bytes(bytes)?;
    let name = path.display().to_string();
    kiln_ir::func::Tensor::try_from(&tensor).map_err(|e| OnnxError::Tensor { name, why: e.to_string() })
}
