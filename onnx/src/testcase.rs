//! Tests as ONNX's own are laid out: a folder with a `model.onnx`, and one or more of `test_data_set_0` with inputs and outputs.

use std::path::{Path, PathBuf};

use crate::{Bindings, ImportError, Imported, Model, OnnxError, Tensor};

/// What a model is called with once, and what it should give.
#[derive(Clone, Debug, PartialEq)]
pub struct TestSet {
    /// The folder with the files.
    pub folder: PathBuf,
    /// The inputs, in calling order.
    pub inputs: Vec<kiln_ir::func::Tensor>,
    /// The outputs, in order.
    pub outputs: Vec<kiln_ir::func::Tensor>,
}

impl TestSet {
    /// The folders beside a model, in order.
    pub fn beside(model: &Path) -> Vec<PathBuf> {
        let folder = model.parent().unwrap_or(Path::new(""));
        (0..).map(|i| folder.join(format!("test_data_set_{i}"))).take_while(|path| path.is_dir()).collect()
    }

    /// Reads the files of a folder.
    pub fn read(folder: &Path) -> Result<Self, OnnxError> {
        let all = |kind: &str| {
            let paths = (0..).map(|i| folder.join(format!("{kind}_{i}.pb"))).take_while(|path| path.exists());
            paths.map(|path| tensor(&path)).collect::<Result<Vec<_>, OnnxError>>()
        };
        Ok(TestSet { folder: folder.into(), inputs: all("input")?, outputs: all("output")? })
    }

    /// What the inputs say of a model: their shapes; their values too only if it cannot do without.
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
