//! Tensors of any shape and type of elements.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use kiln_ir::func::{ElementType, Tensor, TensorType};
use py_literal::Value;

use crate::{Header, NpyError, NpyErrorKind, Shape, header_text, read_up_to, write_header};

/// NumPy's name of each type of elements. bf16, which NumPy does not have, is a pair of bytes.
pub(crate) const DESCRS: [(&str, ElementType); 13] = [
    ("<f4", ElementType::F32),
    ("<f8", ElementType::F64),
    ("<f2", ElementType::F16),
    ("|V2", ElementType::Bf16),
    ("<i8", ElementType::I64),
    ("<u8", ElementType::U64),
    ("<i4", ElementType::I32),
    ("<u4", ElementType::U32),
    ("<i2", ElementType::I16),
    ("<u2", ElementType::U16),
    ("|i1", ElementType::I8),
    ("|u1", ElementType::U8),
    ("|b1", ElementType::Bool),
];
/// NumPy's names for messages.
const EXPECTED: &str =
    "'<f4', '<f8', '<f2', '|V2' (the bits of bf16), '<i8', '<u8', '<i4', '<u4', '<i2', '<u2', '|i1', '|u1' or '|b1'";
/// The name of the tensor in errors.
const WHAT: &str = "a tensor";

/// Reads the tensor in a file.
pub fn read_tensor(path: impl AsRef<Path>) -> Result<Tensor, NpyError> {
    let path = path.as_ref();
    let read = || read_tensor_from(&mut BufReader::new(kiln_files::open(path)?.0));
    read().map_err(|cause| NpyError { path: path.into(), cause })
}

/// Reads a tensor, which must end the input. Memory grows with the elements that are read, whatever the header says.
pub fn read_tensor_from(r: &mut impl Read) -> Result<Tensor, NpyErrorKind> {
    let header = Header::parse(&header_text(r)?)?;
    let descr = match &header.descr {
        Value::String(s) => s.as_str(),
        _ => "records",
    };
    let Some((_, element)) = DESCRS.iter().find(|(name, _)| *name == descr) else {
        return Err(NpyErrorKind::DType { got: format!("'{descr}'"), expected: EXPECTED.into(), operand: WHAT.into() });
    };
    if header.fortran_order && header.shape.0.len() > 1 {
        return Err(NpyErrorKind::Order { operand: WHAT.into() });
    }
    let bad = |why: String| NpyErrorKind::Header(format!("shape {}: {why}", header.shape));
    let shape = header.shape.0.iter().map(|d| d.parse().map_err(|_| bad(format!("{d} is no dimension"))));
    let shape = shape.collect::<Result<Vec<u64>, _>>()?;
    let ty = TensorType::new(*element, shape).map_err(|e| bad(e.to_string()))?;
    let mut data = vec![];
    r.by_ref().take(ty.bytes()).read_to_end(&mut data)?;
    if (data.len() as u64) < ty.bytes() {
        return Err(NpyErrorKind::Truncated { got: data.len() as u64, expected: ty.bytes(), operand: WHAT.into() });
    }
    if read_up_to(r, &mut [0])? != 0 {
        return Err(NpyErrorKind::Trailing { expected: ty.bytes(), operand: WHAT.into() });
    }
    if *element == ElementType::Bool {
        // Any byte but 0 is true to NumPy.
        data.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    Ok(Tensor::new(ty, data).expect("as many bytes as the type takes"))
}

/// Writes a tensor.
pub fn write_tensor_to(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    let (descr, _) = DESCRS.iter().find(|(_, of)| *of == tensor.ty().element()).expect("every type has a row");
    write_header(out, descr, &Shape(tensor.ty().shape().iter().map(u64::to_string).collect()))?;
    out.write_all(tensor.data())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn every_type_of_elements_is_written_and_read() {
        for element in ElementType::all() {
            for shape in [vec![], vec![3], vec![2, 0], vec![2, 3]] {
                let ty = TensorType::new(element, shape).unwrap();
                let values: Vec<f64> = (0..ty.elements()).map(|i| (i % 2) as f64).collect();
                let tensor = Tensor::from_f64(ty, &values);
                let mut bytes = vec![];
                write_tensor_to(&mut bytes, &tensor).unwrap();
                assert_eq!(read_tensor_from(&mut &bytes[..]).unwrap(), tensor);
            }
        }
    }

    #[test]
    fn negative_integers_and_odd_booleans() {
        let bytes = file("{'descr': '<i8', 'fortran_order': True, 'shape': (1,), }", &(-5i64).to_le_bytes());
        assert_eq!(read_tensor_from(&mut &bytes[..]).unwrap().to_i64().unwrap(), [-5]);
        let bytes = file("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", &[0, 1, 200]);
        assert_eq!(read_tensor_from(&mut &bytes[..]).unwrap().data()[..], [0, 1, 1]);
    }

    #[test]
    fn what_a_header_claims_takes_no_memory() {
        let header = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}")
        };
        for (header, message) in [
            (header("<f4", "False", "(1000000000,)"), "truncated: 4 bytes"),
            (header("<f4", "False", "(4294967296, 4294967296)"), "shape (4294967296, 4294967296)"),
            (header("<f4", "False", "(-1,)"), "-1 is no dimension"),
            (header("<f4", "True", "(1, 1)"), "Fortran order"),
            (header(">f4", "False", "(1,)"), "'>f4': expected '<f4'"),
            (header("<f4", "False", "()") + "\n", "data after the 4 bytes"),
        ] {
            let data = if message.contains("after") { &[0; 5][..] } else { &[0; 4] };
            let error = read_tensor_from(&mut &file(&header, data)[..]).unwrap_err().to_string();
            assert!(error.contains(message), "{header}: {error}");
        }
    }
}
