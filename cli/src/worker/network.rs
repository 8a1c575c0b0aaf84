//! Whole networks of the protocol.

use std::path::Path;

use kiln_jit::Runtime;
use kiln_model::{Bindings, ElementType, ModelError, Network, Tensor};

use super::answer::{Lap, answer, checksum};
use super::refusal::Refusal;
use crate::data;
use crate::error::Error;
use crate::mapped;

/// The variable with the folder of files.
const FOLDER: &str = "PEER_MODELS";

/// A compiled network and its inputs.
pub struct Called {
    network: Network,
    inputs: Vec<Tensor>,
}

impl Called {
    /// Reads and compiles `NAME.onnx`, and calls it once.
    pub fn prepare(runtime: &Runtime, mut lap: Lap<'_>, name: &str) -> Result<(Self, String), Refusal> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(Refusal::Name(name.into()));
        }
        let folder = std::env::var_os(FOLDER).ok_or(Refusal::Folder(FOLDER))?;
        let file = Path::new(&folder).join(format!("{name}.onnx"));
        let compile = || mapped::network(&file)?.bind(&Bindings::new())?.compile(runtime);
        let failed = |e: ModelError| Error::from(e).at(file.display().to_string());
        let network = compile().map_err(failed)?;
        let create = lap.next();
        let inputs = (1..).zip(network.inputs()).map(|(seed, (name, ty))| match ty.element() {
            ElementType::F32 => {
                let elements = data::eighths(seed).take(ty.elements() as usize).collect::<Vec<f32>>();
                Ok(Tensor::from_elements(ty.shape(), elements).expect("as many as the shape says"))
            }
            _ => Err(Refusal::Input(name.into(), ty.to_string())),
        });
        let called = Called { inputs: inputs.collect::<Result<_, _>>()?, network };
        lap.next();
        let results = called.network.run(&called.inputs).map_err(failed)?;
        let first = lap.next();
        let result = results.first().ok_or_else(|| Refusal::Results(name.into()))?;
        let answer = answer(create, first, None, checksum(result.to_f64().into_iter()));
        Ok((called, answer))
    }

    /// Calls it.
    pub fn call(&self) -> Result<(), Error> {
        self.network.run(&self.inputs)?;
        Ok(())
    }
}
