//! Tensors in a model, and the types of their elements.

use std::collections::HashMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use kiln_ir::text::Listed;

use crate::error::OnnxError;
use crate::proto::TensorProto;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ElementType {
    F32,
    U8,
    I8,
    U16,
    I16,
    I32,
    I64,
    String,
    Bool,
    F16,
    F64,
    U32,
    U64,
    Bf16,
}

/// Each with its number in `onnx.proto`, its name and its bytes; 0 of strings.
const TYPES: [(ElementType, i32, &str, usize); 14] = [
    (ElementType::F32, 1, "f32", 4),
    (ElementType::U8, 2, "u8", 1),
    (ElementType::I8, 3, "i8", 1),
    (ElementType::U16, 4, "u16", 2),
    (ElementType::I16, 5, "i16", 2),
    (ElementType::I32, 6, "i32", 4),
    (ElementType::I64, 7, "i64", 8),
    (ElementType::String, 8, "string", 0),
    (ElementType::Bool, 9, "bool", 1),
    (ElementType::F16, 10, "f16", 2),
    (ElementType::F64, 11, "f64", 8),
    (ElementType::U32, 12, "u32", 4),
    (ElementType::U64, 13, "u64", 8),
    (ElementType::Bf16, 16, "bf16", 2),
];

impl ElementType {
    pub(crate) fn from_number(number: i32) -> Result<Self, String> {
        let found = TYPES.iter().find(|(_, n, ..)| *n == number).map(|(of, ..)| *of);
        found.ok_or_else(|| format!("element type {number} of onnx.proto is not supported"))
    }

    fn row(self) -> &'static (ElementType, i32, &'static str, usize) {
        TYPES.iter().find(|(of, ..)| *of == self).expect("every type has a row")
    }

    /// Bytes of an element; 0 of strings.
    pub fn bytes(self) -> usize {
        self.row().3
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

/// A dense tensor: elements in row-major order, little-endian. A clone shares them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The type of its elements.
    pub dtype: ElementType,
    /// Its dimensions; none of a scalar.
    pub shape: Vec<usize>,
    /// Its elements, as many as the shape says: in the model's own memory, or in that of a file of weights. Empty of strings.
    pub data: Bytes,
    /// The elements of a tensor of strings.
    pub strings: Vec<Bytes>,
}

impl Tensor {
    /// The number of its elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a serialized `TensorProto`, such as ONNX's tests have for inputs and outputs, with its name.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<(String, Tensor), OnnxError> {
        let proto = <TensorProto as prost::Message>::decode(bytes.into())?;
        let name = proto.name.clone();
        Ok((name, Files::default().tensor(proto)?))
    }
}

/// The means by which the bytes of a file come into memory.
pub(crate) type Load = fn(&Path) -> std::io::Result<Bytes>;

/// Files of weights beside a model, each loaded once.
#[derive(Default)]
pub(crate) struct Files {
    /// The folder that they are in, and how they are loaded.
    folder: Option<(PathBuf, Load)>,
    loaded: HashMap<PathBuf, Bytes>,
}

impl Files {
    /// Those in the folder of a model.
    pub(crate) fn beside(model: &Path, load: Load) -> Self {
        Files { folder: Some((model.parent().unwrap_or(Path::new("")).into(), load)), loaded: HashMap::new() }
    }

    pub(crate) fn tensor(&mut self, proto: TensorProto) -> Result<Tensor, OnnxError> {
        let name = proto.name.clone();
        self.read(proto).map_err(|e| match e {
            Failure::Why(why) => OnnxError::Tensor { name, why },
            Failure::Error(e) => e,
        })
    }

    fn read(&mut self, proto: TensorProto) -> Result<Tensor, Failure> {
        let dtype = ElementType::from_number(proto.data_type)?;
        let shape = proto.dims.iter().map(|d| usize::try_from(*d).map_err(|_| format!("a dimension of {d}")));
        let shape = shape.collect::<Result<Vec<_>, _>>()?;
        let elements = shape.iter().try_fold(1usize, |all, d| all.checked_mul(*d));
        let bytes = elements.and_then(|n| n.checked_mul(dtype.bytes().max(1)));
        let (Some(elements), Some(bytes)) = (elements, bytes.filter(|n| isize::try_from(*n).is_ok())) else {
            return Err(format!("{} is larger than memory can be", Listed(&shape)).into());
        };
        if dtype == ElementType::String {
            if proto.string_data.len() != elements {
                return Err(format!("{} strings for {}", proto.string_data.len(), Listed(&shape)).into());
            }
            return Ok(Tensor { dtype, shape, data: Bytes::new(), strings: proto.string_data });
        }
        const EXTERNAL: i32 = 1;
        let data = match proto.data_location {
            EXTERNAL => self.external(&proto, bytes)?,
            _ if !proto.raw_data.is_empty() => proto.raw_data,
            _ => typed(dtype, &proto),
        };
        if data.len() != bytes {
            return Err(
                format!("{} bytes of data for {} of {dtype}, which takes {bytes}", data.len(), Listed(&shape)).into()
            );
        }
        Ok(Tensor { dtype, shape, data, strings: vec![] })
    }

    /// Data in another file, a part of what was loaded of it.
    fn external(&mut self, proto: &TensorProto, bytes: usize) -> Result<Bytes, Failure> {
        let entry = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str, otherwise: usize| match entry(key) {
            Some(text) => text.parse().map_err(|_| format!("external data with `{key}` of `{text}`")),
            None => Ok(otherwise),
        };
        let location = Path::new(entry("location").ok_or("external data without a location".to_owned())?);
        let Some((folder, load)) = &self.folder else {
            return Err(format!("its data is in `{}`, and there is no folder to look in", location.display()).into());
        };
        // A model from a stranger names no file outside its own folder.
        if !location.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(format!("external data at `{}`, outside the model's folder", location.display()).into());
        }
        let path = folder.join(location);
        let all = match self.loaded.get(&path) {
            Some(all) => all.clone(),
            None => {
                let loaded =
                    load(&path).map_err(|source| Failure::Error(OnnxError::File { path: path.clone(), source }))?;
                self.loaded.insert(path, loaded.clone());
                loaded
            }
        };
        let (offset, length) = (number("offset", 0)?, number("length", bytes)?);
        match offset.checked_add(length).filter(|end| *end <= all.len()) {
            Some(end) => Ok(all.slice(offset..end)),
            None => Err(format!(
                "bytes {offset} to {} of `{}`, which has {}",
                offset.saturating_add(length),
                location.display(),
                all.len()
            )
            .into()),
        }
    }
}

enum Failure {
    Why(String),
    Error(OnnxError),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Why(why)
    }
}

/// Elements from the field of their type, as bytes. Numbers that are too large for a type lose their high bits, as in `onnx.proto`.
fn typed(dtype: ElementType, proto: &TensorProto) -> Bytes {
    fn le<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
        values.iter().flat_map(|v| bytes(*v)).collect::<Vec<u8>>().into()
    }
    match dtype {
        ElementType::F32 => le(&proto.float_data, f32::to_le_bytes),
        ElementType::F64 => le(&proto.double_data, f64::to_le_bytes),
        ElementType::I64 => le(&proto.int64_data, i64::to_le_bytes),
        ElementType::U64 => le(&proto.uint64_data, u64::to_le_bytes),
        ElementType::U32 => le(&proto.uint64_data, |v| (v as u32).to_le_bytes()),
        ElementType::I32 => le(&proto.int32_data, i32::to_le_bytes),
        ElementType::U16 | ElementType::I16 | ElementType::F16 | ElementType::Bf16 => {
            le(&proto.int32_data, |v| (v as u16).to_le_bytes())
        }
        ElementType::U8 | ElementType::I8 | ElementType::Bool => le(&proto.int32_data, |v| [v as u8]),
        ElementType::String => Bytes::new(),
    }
}
