//! Tensors in `.npy` files.
//!
//! The format is NumPy's ("NEP 1", versions 1.0 to 3.0): a magic string, the length of a header, the header as a Python
//! dictionary, and the elements. The header is compared with the operand before any memory is allocated. The array is the operand
//! as it lies in memory, without the gaps of its strides: dimensions in the order of its tag. Elements are read from their own type, or
//! from f32 and rounded. Integers are written in their own type, other elements as f32. NumPy has no bf16: its own type is that of the raw bits.

#![forbid(unsafe_code)]

mod tensor;

use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use kiln_ir::elements::Elements;
use kiln_ir::func::ElementType;
use kiln_ir::{DType, Operand};
use py_literal::Value;

pub use tensor::{read_tensor, read_tensor_from, write_tensor_to};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy's own limit on what it parses.
const MAX_HEADER: usize = 10_000;
/// The most opening brackets of a header: its own, the shape's, and two more, so that records are recognized as such. The time
/// that py_literal takes grows exponentially with nested brackets.
const MAX_BRACKETS: usize = 4;
/// Little-endian binary32.
const DESCR: &str = "<f4";
/// The header is padded so that the elements start at a multiple of this.
const ALIGN: usize = 64;

/// A file that cannot be read as an operand.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct NpyError {
    /// The file.
    pub path: PathBuf,
    /// The error.
    pub cause: NpyErrorKind,
}

/// The kinds of errors of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyErrorKind {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another format.
    #[error("not an .npy file: it does not begin with \\x93NUMPY")]
    Magic,
    /// An unknown version.
    #[error(".npy version {0}.{1}: expected 1.0, 2.0 or 3.0")]
    Version(u8, u8),
    /// The header is malformed.
    #[error("bad .npy header: {0}")]
    Header(String),
    /// Elements of another type.
    #[error("elements are {got}: expected {expected} for {operand}")]
    DType {
        /// The file's descriptor.
        got: String,
        /// The types that can be read.
        expected: String,
        /// The operand that it is read for.
        operand: String,
    },
    /// Another number of dimensions.
    #[error("{got} has {} dimension(s): expected {} for {operand}", got.0.len(), rank)]
    Rank {
        /// The file's shape.
        got: Shape,
        /// The operand's number of dimensions.
        rank: usize,
        /// The operand that it is read for.
        operand: String,
    },
    /// Column-major.
    #[error("elements are in Fortran order: expected C order for {operand}; `numpy.ascontiguousarray` converts")]
    Order {
        /// The operand that it is read for.
        operand: String,
    },
    /// Other dimensions.
    #[error("shape is {got}: expected {expected} for {operand}")]
    Shape {
        /// The file's.
        got: Shape,
        /// The operand's.
        expected: Shape,
        /// The operand that it is read for.
        operand: String,
    },
    /// It ends early.
    #[error("truncated: {got} bytes of elements, expected {expected} for {operand}")]
    Truncated {
        /// Bytes in the file.
        got: u64,
        /// Bytes of the operand.
        expected: u64,
        /// The operand that it is read for.
        operand: String,
    },
    /// It goes on after the elements.
    #[error("data after the {expected} bytes of elements expected for {operand}")]
    Trailing {
        /// Bytes of the operand.
        expected: u64,
        /// The operand that it is read for.
        operand: String,
    },
}

/// Dimensions as NumPy writes them; a claimed one may be beyond any integer type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<String>);

impl Shape {
    fn of(operand: &Operand) -> Self {
        Self(operand.memory_shape().iter().map(u64::to_string).collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [one] => write!(f, "({one},)"),
            all => write!(f, "({})", all.join(", ")),
        }
    }
}

/// Reads `operand` from a file and calls `put` with the place and value of each element.
pub fn read(path: &Path, operand: &Operand, put: impl FnMut(usize, f32)) -> Result<(), NpyError> {
    kiln_files::open(path)
        .map_err(NpyErrorKind::from)
        .and_then(|(file, _)| read_from(&mut BufReader::new(file), operand, put))
        .map_err(|cause| NpyError { path: path.into(), cause })
}

/// Reads `operand` and calls `put` with the place and value of each element.
pub fn read_from(r: &mut impl Read, operand: &Operand, mut put: impl FnMut(usize, f32)) -> Result<(), NpyErrorKind> {
    let header = Header::parse(&header_text(r)?)?;
    let shape = Shape::of(operand);
    let name = operand.name.clone();
    let descr = match &header.descr {
        Value::String(s) => s.as_str(),
        _ => "records",
    };
    let own = descriptors(operand.dtype);
    let is_own = own.contains(&descr);
    if !is_own && descr != DESCR {
        let got = if let Value::String(s) = &header.descr { format!("'{s}'") } else { descr.into() };
        let own = own.join("' or '");
        let expected = match operand.dtype {
            DType::F32 => format!("'{DESCR}' (little-endian f32)"),
            dtype => format!("'{DESCR}' (little-endian f32, to be rounded), or '{own}' ({dtype})"),
        };
        return Err(NpyErrorKind::DType { got, expected, operand: name });
    }
    if header.shape.0.len() != shape.0.len() {
        return Err(NpyErrorKind::Rank { got: header.shape, rank: shape.0.len(), operand: name });
    }
    if header.shape != shape {
        return Err(NpyErrorKind::Shape { got: header.shape, expected: shape, operand: name });
    }
    if header.fortran_order && shape.0.len() > 1 {
        return Err(NpyErrorKind::Order { operand: name });
    }
    let dtype = if is_own { operand.dtype } else { DType::F32 };
    match dtype.bytes() {
        1 => elements(r, operand, |at, [byte]| put(at, dtype.from_bits(byte.into()))),
        2 => elements(r, operand, |at, bytes| put(at, dtype.from_bits(u16::from_le_bytes(bytes).into()))),
        _ => elements(r, operand, |at, bytes| put(at, dtype.from_bits(u32::from_le_bytes(bytes)))),
    }
}

/// The descriptors of elements of a type. The bits of bf16 may also be those of an integer.
fn descriptors(dtype: DType) -> Vec<&'static str> {
    let own =
        tensor::DESCRS.iter().filter(|(_, element)| *element == ElementType::from(dtype)).map(|(descr, _)| *descr);
    own.chain((dtype == DType::Bf16).then_some("<u2")).collect()
}

/// Reads as many elements of `N` bytes as `operand` has, and nothing after them.
fn elements<const N: usize>(
    r: &mut impl Read,
    operand: &Operand,
    mut put: impl FnMut(usize, [u8; N]),
) -> Result<(), NpyErrorKind> {
    let expected = operand.len() * N as u64;
    let (mut chunk, mut got, mut places) = ([0; 16 << 10], 0, operand.places());
    while got < expected {
        let left = usize::try_from(expected - got).unwrap_or(usize::MAX);
        let bytes = &mut chunk[..left.min(16 << 10)];
        let n = read_up_to(r, bytes)?;
        if n < bytes.len() {
            return Err(NpyErrorKind::Truncated { got: got + n as u64, expected, operand: operand.name.clone() });
        }
        let (words, _) = bytes.as_chunks();
        words.iter().zip(&mut places).for_each(|(word, place)| put(place as usize, *word));
        got += n as u64;
    }
    match read_up_to(r, &mut chunk[..1])? {
        0 => Ok(()),
        _ => Err(NpyErrorKind::Trailing { expected, operand: operand.name.clone() }),
    }
}

/// Reads until `bytes` is full or the input ends.
fn read_up_to(r: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < bytes.len() {
        match r.read(&mut bytes[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// The text of the header; the reader is then at the first element.
fn header_text(r: &mut impl Read) -> Result<String, NpyErrorKind> {
    let bad = |why: &str| NpyErrorKind::Header(why.into());
    let mut start = [0; 8];
    if read_up_to(r, &mut start)? < start.len() || start[..6] != *MAGIC {
        return Err(NpyErrorKind::Magic);
    }
    let mut len = [0; 4];
    let len_bytes = match (start[6], start[7]) {
        (1, 0) => 2,
        (2 | 3, 0) => 4,
        (major, minor) => return Err(NpyErrorKind::Version(major, minor)),
    };
    if read_up_to(r, &mut len[..len_bytes])? < len_bytes {
        return Err(bad("the file ends inside its length"));
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_HEADER {
        return Err(NpyErrorKind::Header(format!("{len} bytes long, expected at most {MAX_HEADER}")));
    }
    let mut text = vec![0; len];
    if read_up_to(r, &mut text)? < len {
        return Err(bad("the file ends inside it"));
    }
    String::from_utf8(text).map_err(|_| bad("not text"))
}

struct Header {
    descr: Value,
    fortran_order: bool,
    shape: Shape,
}

impl Header {
    fn parse(text: &str) -> Result<Self, NpyErrorKind> {
        let bad = |why: &str| NpyErrorKind::Header(why.into());
        if text.matches(['(', '[', '{']).nth(MAX_BRACKETS).is_some() {
            return Err(bad("more brackets than an array of numbers has; records cannot be read"));
        }
        let Ok(Value::Dict(entries)) = text.trim_end().parse() else {
            return Err(bad("expected a dictionary of 'descr', 'fortran_order' and 'shape'"));
        };
        let entry = |name: &str| {
            let found = entries.iter().find(|(key, _)| key.as_string().is_some_and(|k| k == name));
            found.map(|(_, value)| value).ok_or_else(|| NpyErrorKind::Header(format!("'{name}' is missing")))
        };
        let Value::Boolean(fortran_order) = *entry("fortran_order")? else {
            return Err(bad("'fortran_order' is not a boolean"));
        };
        let Value::Tuple(dims) = entry("shape")? else { return Err(bad("'shape' is not a tuple")) };
        let dims = dims.iter().map(|d| d.as_integer().map(ToString::to_string)).collect::<Option<Vec<_>>>();
        let shape = Shape(dims.ok_or_else(|| bad("'shape' has a dimension that is not an integer"))?);
        Ok(Self { descr: entry("descr")?.clone(), fortran_order, shape })
    }
}

/// Writes the operand that `values` hold in memory order, gaps included: integers in their own type, other elements in f32. Fails if
/// they are fewer, or of another type.
pub fn write_to(out: &mut impl Write, operand: &Operand, values: Elements<'_>) -> io::Result<()> {
    let dtype = operand.dtype;
    if (values.len() as u64) < operand.span() || values.dtype() != dtype {
        let (len, got) = (values.len(), values.dtype());
        let why = format!("{len} values of {got} for {}, which spans {} of {dtype}", operand.name, operand.span());
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    let is_integer = dtype.is_integer();
    write_header(out, if is_integer { descriptors(dtype)[0] } else { DESCR }, &Shape::of(operand))?;
    operand.places().try_for_each(|place| {
        let bits = values.bits(place as usize);
        match is_integer {
            true => out.write_all(&bits.to_le_bytes()[..dtype.bytes()]),
            false => out.write_all(&dtype.from_bits(bits).to_le_bytes()),
        }
    })
}

/// Writes the header.
fn write_header(out: &mut impl Write, descr: &str, shape: &Shape) -> io::Result<()> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let before = MAGIC.len() + 2 + 2;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGN) - before - 1;
    header = format!("{header:<padded$}\n");
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    // A shape has few dimensions, so the header is far shorter than 64 KiB.
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())
}

#[cfg(test)]
mod tests {
    use kiln_ir::{Problem, Role};

    use super::*;

    fn lhs() -> Operand {
        "matmul f32 2x3:3x4".parse::<Problem>().unwrap().operands().remove(0)
    }

    fn file(header: &str, elements: usize) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        (0..elements).for_each(|i| bytes.extend((i as f32).to_le_bytes()));
        bytes
    }

    fn values(bytes: &[u8], operand: &Operand) -> Result<Vec<f32>, NpyErrorKind> {
        let mut values = vec![f32::NAN; operand.len() as usize];
        read_from(&mut &bytes[..], operand, |at, value| values[at] = value).map(|()| values)
    }

    fn error(bytes: &[u8]) -> String {
        values(bytes, &lhs()).unwrap_err().to_string()
    }

    const GOOD: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";

    #[test]
    fn what_is_written_is_read() {
        let values = [1.5, -0.0, f32::NAN, f32::INFINITY, 1e-40, 3.0];
        let mut bytes = vec![];
        write_to(&mut bytes, &lhs(), values[..].into()).unwrap();
        assert_eq!(bytes.len(), 128 + 24, "the header is padded to a multiple of 64");
        let back = self::values(&bytes, &lhs()).unwrap();
        assert_eq!(back.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values.map(f32::to_bits));
    }

    #[test]
    fn integers_are_written_as_they_are() {
        let operands = "matmul u8:s8:s32 2x3:3x2 strides=::3x1".parse::<Problem>().unwrap().operands();
        let [lhs, rhs, dst] = &operands[..] else { panic!("{operands:?}") };
        let sums = [i32::MAX, i32::MIN, 7, (1 << 24) + 1, -1];
        let written: [(_, Elements, _, Vec<u8>); 3] = [
            (lhs, [0u8, 1, 127, 128, 254, 255][..].into(), "|u1", vec![0, 1, 127, 128, 254, 255]),
            (rhs, [0i8, 1, 127, -128, -2, -1][..].into(), "|i1", vec![0, 1, 127, 128, 254, 255]),
            // The third is in a gap.
            (dst, sums[..].into(), "<i4", [0, 1, 3, 4].iter().flat_map(|i: &usize| sums[*i].to_le_bytes()).collect()),
        ];
        for (operand, values, descr, elements) in written {
            let mut bytes = vec![];
            write_to(&mut bytes, operand, values).unwrap();
            let header = String::from_utf8_lossy(&bytes[10..128]);
            assert!(header.contains(&format!("'descr': '{descr}'")), "{header}");
            assert_eq!(bytes[128..], elements, "{descr}");
            assert!(read_tensor_from(&mut &bytes[..]).is_ok(), "{descr}");
        }
        let e = write_to(&mut vec![], dst, [0.0f32; 5][..].into()).unwrap_err();
        assert_eq!(e.to_string(), "5 values of f32 for dst, which spans 5 of s32");
    }

    #[test]
    fn all_versions_are_read() {
        for version in [2, 3] {
            let mut bytes = [&MAGIC[..], &[version, 0], &(GOOD.len() as u32).to_le_bytes(), GOOD.as_bytes()].concat();
            (0..6).for_each(|i| bytes.extend((i as f32).to_le_bytes()));
            assert_eq!(values(&bytes, &lhs()).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        }
    }

    #[test]
    fn bf16_is_read_from_f32_or_raw_and_arrays_are_in_memory_order() {
        let operand = "matmul bf16 2x3:3x4 stag=ba".parse::<Problem>().unwrap().operands().remove(0);
        let header = GOOD.replace("(2, 3)", "(3, 2)");
        assert_eq!(values(&file(&header, 6), &operand).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        for descr in descriptors(DType::Bf16) {
            let mut bytes = file(&header.replace("<f4", descr), 0);
            (0..6u16).for_each(|i| bytes.extend((0x3f80 + i).to_le_bytes()));
            let expected: Vec<f32> = (0..6).map(|i| 1.0 + i as f32 / 128.0).collect();
            assert_eq!(values(&bytes, &operand).unwrap(), expected);
            assert!(error(&bytes).contains(&format!("'{descr}': expected '<f4'")), "no f32 from raw bits");
        }
        let e = values(&file(&header.replace("<f4", "<f2"), 6), &operand).unwrap_err().to_string();
        assert!(e.contains("'<f2'") && e.contains("'|V2'"), "{e}");
    }

    #[test]
    fn f16_is_read_from_f32_or_f16() {
        let operand = "matmul f16 2x3:3x4".parse::<Problem>().unwrap().operands().remove(0);
        assert_eq!(values(&file(GOOD, 6), &operand).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut bytes = file(&GOOD.replace("<f4", "<f2"), 0);
        (0..6u16).for_each(|i| bytes.extend((0x3c00 + i).to_le_bytes()));
        let expected: Vec<f32> = (0..6).map(|i| 1.0 + i as f32 / 1024.0).collect();
        assert_eq!(values(&bytes, &operand).unwrap(), expected);
        assert!(error(&bytes).contains("'<f2': expected '<f4'"), "no f32 from f16");
        let e = values(&file(&GOOD.replace("<f4", "<u2"), 6), &operand).unwrap_err().to_string();
        assert!(e.contains("'<u2'") && e.contains("'<f2'"), "{e}");
    }

    #[test]
    fn errors_say_what_is_expected() {
        for (header, elements, message) in [
            (GOOD, 5, "truncated: 20 bytes of elements, expected 24 for lhs"),
            (GOOD, 7, "data after the 24 bytes of elements expected for lhs"),
            (&GOOD.replace("<f4", "<f8"), 6, "elements are '<f8': expected '<f4'"),
            (&GOOD.replace("<f4", ">f4"), 6, "elements are '>f4'"),
            (&GOOD.replace("'<f4'", "[('x', '<f4')]"), 6, "elements are records"),
            (&GOOD.replace("False", "True"), 6, "Fortran order"),
            (&GOOD.replace("(2, 3)", "(6,)"), 6, "(6,) has 1 dimension(s): expected 2 for lhs"),
            (&GOOD.replace("(2, 3)", "()"), 1, "() has 0 dimension(s)"),
            (&GOOD.replace("(2, 3)", "(3, 2)"), 6, "shape is (3, 2): expected (2, 3) for lhs"),
            (&GOOD.replace("(2, 3)", "(4294967296, 4294967296)"), 6, "shape is (4294967296, 4294967296)"),
            (&GOOD.replace("(2, 3)", &format!("(1{}, 3)", "0".repeat(99))), 6, "shape is (1000"),
            (&GOOD.replace("(2, 3)", "(-2, 3)"), 6, "shape is (-2, 3)"),
            (&GOOD.replace("(2, 3)", "(2.0, 3)"), 6, "not an integer"),
            (&GOOD.replace("(2, 3)", "[2, 3]"), 6, "not a tuple"),
            (&GOOD.replace("'shape'", "'form'"), 6, "'shape' is missing"),
            ("[]\n", 6, "expected a dictionary"),
            (&"[".repeat(9_000), 6, "more brackets"),
            (&format!("{}1{}", "[".repeat(99), "]".repeat(99)), 6, "more brackets"),
            (&format!("{}'{}", "{".repeat(MAX_BRACKETS), "a".repeat(9_000)), 6, "expected a dictionary"),
            (&" ".repeat(10_001), 0, "10001 bytes long"),
        ] {
            let got = error(&file(header, elements));
            assert!(got.contains(message), "{header:.80}: {got}");
        }
        assert!(error(b"PK\x03\x04 an archive").contains("not an .npy file"));
        assert!(error(b"\x93NUM").contains("not an .npy file"));
        assert!(error(b"\x93NUMPY\x04\x00").contains("version 4.0"));
        assert!(error(b"\x93NUMPY\x01\x00\x10").contains("ends inside its length"));
        assert!(error(b"\x93NUMPY\x01\x00\x10\x00{").contains("ends inside it"));
        assert!(error(b"\x93NUMPY\x03\x00\xff\xff\xff\xff{").contains("4294967295 bytes long"));
        assert_eq!(lhs().role, Role::Lhs);
    }
}
