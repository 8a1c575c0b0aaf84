//! Inputs of networks: read from files, or filled.

use std::path::{Path, PathBuf};

use kiln_model::{ElementType, ModelError, Tensor, TensorType};
use kiln_onnx::TestSet;

use super::files::is_file;
use crate::data;
use crate::error::Error;

/// Filled integers are below this, so that they are valid indices into anything with a few entries.
const MOST: u64 = 16;

/// Inputs from files.
pub struct Given(Vec<(String, PathBuf, Tensor)>);

impl Given {
    /// Reads `NAME=FILE` or `FILE`; the latter are for those inputs that have no name among the others, in order.
    pub fn read<'a>(texts: &[String], names: impl Iterator<Item = &'a str> + Clone) -> Result<Self, Error> {
        let texts: Vec<(Option<&str>, &str)> = texts
            .iter()
            .map(|text| {
                match names.clone().find_map(|name| Some((name, text.strip_prefix(name)?.strip_prefix('=')?))) {
                    Some((name, file)) => (Some(name), file),
                    None => (None, text.as_str()),
                }
            })
            .collect();
        let mut free = names.clone().filter(|name| !texts.iter().any(|(given, _)| *given == Some(name)));
        let mut all: Vec<(String, PathBuf, Tensor)> = vec![];
        for &(name, file) in &texts {
            // A file may have a `=` in its name. A text with a `=` that is no file has a wrong name before it.
            let name = name.or_else(|| free.next().filter(|_| is_file(Path::new(file)) || !file.contains('=')));
            let Some(name) = name.filter(|name| all.iter().all(|(other, ..)| other != name)) else {
                let known = names.clone().collect::<Vec<_>>().join(", ");
                return Err(Error::UnknownInput { text: file.into(), known });
            };
            all.push((name.into(), file.into(), kiln_npy::read_tensor(file)?));
        }
        Ok(Given(all))
    }

    /// The file for an input, and the tensor in it.
    pub fn find(&self, name: &str) -> Option<(&Path, &Tensor)> {
        self.0.iter().find(|(given, ..)| given == name).map(|(_, file, tensor)| (file.as_path(), tensor))
    }

    /// True if there is a file for an input.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The elements of an input of a type.
    pub fn get(
        &self,
        name: &str,
        ty: &TensorType,
        otherwise: impl FnOnce() -> Result<Tensor, Error>,
    ) -> Result<Tensor, Error> {
        match self.find(name) {
            None => otherwise(),
            Some((_, tensor)) if tensor.ty() == ty => Ok(tensor.clone()),
            Some((file, tensor)) => {
                let wrong =
                    Error::InputType { name: name.into(), expected: ty.to_string(), found: tensor.ty().to_string() };
                Err(wrong.at(file.display().to_string()))
            }
        }
    }
}

/// An input of a file, whose shape is known.
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
}

impl Wanted {
    /// An input with a shape.
    pub fn new(input: &kiln_onnx::Value, shape: &[u64]) -> Result<Self, Error> {
        let name = input.name.clone();
        let bad = |why: String| Error::InputKind { name: name.clone(), why };
        let dtype = input.dtype.ok_or_else(|| bad("the file does not say what its elements are".into()))?;
        let element = ElementType::try_from(dtype).map_err(|e| bad(e.to_string()))?;
        let ty = TensorType::new(element, shape).map_err(|e| bad(e.to_string()))?;
        Ok(Wanted { name, ty })
    }

    /// Elements to call a network with, the same each time: ones for masks, zeros for token types, small numbers for other
    /// integers, and uniform noise for the rest. Memory that is not there is an error.
    pub fn sample(&self) -> Result<Tensor, Error> {
        let name = self.name.to_ascii_lowercase();
        let elements = self.ty.elements() as usize;
        let mut values: Vec<f64> = vec![];
        let mut room: Vec<u8> = vec![];
        let is_room = room.try_reserve_exact(self.ty.bytes() as usize).is_ok();
        if !is_room || values.try_reserve_exact(elements).is_err() {
            let bytes = elements.saturating_mul(8).saturating_add(self.ty.bytes() as usize);
            return Err(ModelError::OutOfMemory { bytes, what: "an input" }.into());
        }
        drop(room);
        // The sum of the name's bytes, so that inputs differ.
        let seed = self.name.bytes().map(u64::from).sum::<u64>();
        match self.ty.element() {
            _ if name.contains("mask") => values.resize(elements, 1.0),
            ElementType::Bool => values.resize(elements, 1.0),
            element if element.is_float() => {
                values.extend(data::reals(seed, kiln_ir::Role::Lhs).take(elements).map(f64::from));
            }
            _ if name.contains("token_type") || name.contains("segment") => values.resize(elements, 0.0),
            _ => {
                let real = |x: f32| ((f64::from(x) + 1.0) / 2.0 * MOST as f64).floor();
                values.extend(data::reals(seed, kiln_ir::Role::Lhs).take(elements).map(real));
            }
        }
        Ok(Tensor::from_f64(self.ty.clone(), &values))
    }
}

/// The first test beside a file.
pub fn first_test(model: &Path) -> Result<Option<TestSet>, Error> {
    let first = TestSet::beside(model).into_iter().next();
    Ok(first.map(|folder| TestSet::read(&folder)).transpose()?)
}
