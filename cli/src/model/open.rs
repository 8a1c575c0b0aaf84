//! The dimensions that a file leaves open, as a table: each dimension with its size and what says it.

use std::fmt;

use kiln_ir::text::clipped;
use kiln_onnx::{Dim, Value};

/// An open dimension of an input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    is_output: bool,
    value: String,
    axis: usize,
    /// Its name in the file; empty if it has none.
    name: String,
    size: u64,
    by: String,
}

/// The dimensions that a file leaves open. Printed, each line is a comment of a function's text; nothing if there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenDims(Vec<Row>);

impl OpenDims {
    /// Adds a dimension of an input, with what says its size.
    pub fn input(&mut self, value: &str, axis: usize, name: &str, size: u64, by: String) {
        self.0.push(Row { is_output: false, value: value.into(), axis, name: name.into(), size, by });
    }

    /// Adds the open dimensions of outputs, whose shapes are known by now.
    pub fn outputs<'a>(&mut self, outputs: &[Value], shapes: impl Iterator<Item = &'a [u64]>) {
        for (output, shape) in outputs.iter().zip(shapes) {
            let dims = output.shape.iter().flatten().zip(shape).enumerate();
            for (axis, (dim, size)) in dims {
                let Dim::Named(name) = dim else { continue };
                let is_same = |row: &&Row| !row.is_output && !name.is_empty() && row.name == *name && row.size == *size;
                let by = match self.0.iter().find(is_same) {
                    Some(row) => format!("as {}", row.place()),
                    None => "computed".into(),
                };
                let (value, name) = (output.name.clone(), name.clone());
                self.0.push(Row { is_output: true, value, axis, name, size: *size, by });
            }
        }
    }
}

impl OpenDims {
    /// The dimensions of inputs in short, as a part of a message; `None` if there are none.
    pub fn short(&self) -> Option<String> {
        let rows = self.0.iter().filter(|row| !row.is_output);
        let all: Vec<String> = rows.map(|row| format!("{} = {} ({})", row.place(), row.size, row.by)).collect();
        (!all.is_empty()).then(|| clipped(&all.join(", ")).into())
    }
}

impl Row {
    fn place(&self) -> String {
        format!("{}[{}]", word(&self.value), self.axis)
    }
}

/// A name of a file in one line.
fn word(name: &str) -> String {
    clipped(name).escape_debug().to_string()
}

impl fmt::Display for OpenDims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut rows = vec![["open".into(), "dimension".into(), "name".into(), "size".into(), "from".into()]];
        rows.extend(self.0.iter().map(|row| {
            let kind = if row.is_output { "output" } else { "input" };
            let name = if row.name.is_empty() { "-".into() } else { word(&row.name) };
            [kind.into(), row.place(), name, row.size.to_string(), row.by.clone()]
        }));
        let width = |column: usize| rows.iter().map(|row: &[String; 5]| row[column].chars().count()).max().unwrap_or(0);
        let [a, b, c, d] = [0, 1, 2, 3].map(width);
        rows.iter().try_for_each(|[kind, place, name, size, by]| {
            writeln!(f, "# {kind:a$}  {place:b$}  {name:c$}  {size:>d$}  {by}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment() {
        let mut open = OpenDims::default();
        assert_eq!(open.to_string(), "");
        open.input("ids", 0, "s0\nfunc", 2, "--batch".into());
        open.input("ids", 1, "", 128, "--seq by default".into());
        let dims = [Dim::Named("s0\nfunc".into()), Dim::Known(4), Dim::Named("2*s0".into())];
        let output = Value { name: "y".into(), dtype: None, shape: Some(dims.to_vec()) };
        open.outputs(&[output], [&[2, 4, 4][..]].into_iter());
        let expected = "\
# open    dimension  name      size  from
# input   ids[0]     s0\\nfunc     2  --batch
# input   ids[1]     -          128  --seq by default
# output  y[0]       s0\\nfunc     2  as ids[0]
# output  y[2]       2*s0         4  computed
";
        assert_eq!(open.to_string(), expected);
        assert_eq!(open.short().unwrap(), "ids[0] = 2 (--batch), ids[1] = 128 (--seq by default)");
    }
}
