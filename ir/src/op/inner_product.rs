//! Inner product: `dst[mb, oc] = sum over ic and space of src[mb, ic, ..] * weights[oc, ic, ..]`; weights as PyTorch's Linear
//! stores them.

use std::fmt;

use super::{Axes, dim};
use crate::op::matmul::without_name;
use crate::problem::{ProblemError, Role};

/// The shape of an inner product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InnerProduct {
    /// Batch: rows of the result.
    pub mb: u64,
    /// Input channels.
    pub ic: u64,
    /// Output channels: columns of the result.
    pub oc: u64,
    /// Number of spatial dimensions, 0 to 3.
    rank: u8,
    /// Depth, height, width; those that are there come last.
    space: [u64; 3],
}

/// The letters of spatial dimensions, from depth to width.
const SPACE: [&str; 3] = ["id", "ih", "iw"];

impl InnerProduct {
    /// Rows, input channels and output channels, without spatial dimensions.
    pub fn new(mb: u64, ic: u64, oc: u64) -> Self {
        Self { mb, ic, oc, rank: 0, space: [1; 3] }
    }

    /// Parses benchdnn's descriptor, `mb128ic768oc3072` or `mb1ic512ih7oc1000`, in any order, underscores optional, `mb`
    /// 2 unless given. A lower dimension that is missing is as large as the next higher one.
    pub fn parse(descriptor: &str) -> Result<Self, ProblemError> {
        let fail = |why: String| ProblemError::Descriptor { word: descriptor.into(), why };
        let mut rest = without_name(descriptor);
        let mut values: [Option<u64>; 6] = [None; 6];
        const NAMES: [&str; 6] = ["mb", "ic", "oc", "id", "ih", "iw"];
        while !rest.is_empty() {
            rest = rest.trim_start_matches('_');
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (name, after) = rest.split_at(letters);
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = after.split_at(digits);
            let Some(at) = NAMES.iter().position(|n| *n == name) else {
                return Err(fail(format!(
                    "`{name}` names no dimension: expected mb, ic, oc, id, ih or iw and a number each"
                )));
            };
            if values[at].replace(dim(number, descriptor)?).is_some() {
                return Err(ProblemError::Repeated { name: name.into(), word: descriptor.into() });
            }
            rest = after;
        }
        let [mb, ic, oc, space @ ..] = values;
        let missing = |name: &str| fail(format!("`{name}` is missing: expected for example `mb128ic768oc3072`"));
        let (ic, oc) = (ic.ok_or_else(|| missing("ic"))?, oc.ok_or_else(|| missing("oc"))?);
        let mut shape = Self { rank: 0, ..Self::new(mb.unwrap_or(2), ic, oc) };
        if let Some(first) = space.iter().position(Option::is_some) {
            shape.rank = (3 - first) as u8;
            let mut above = 1;
            for (own, given) in shape.space.iter_mut().zip(space).skip(first) {
                *own = given.unwrap_or(above);
                above = *own;
            }
        }
        Ok(shape)
    }

    /// The spatial dimensions that are there.
    pub fn space(&self) -> &[u64] {
        &self.space[3 - usize::from(self.rank)..]
    }

    /// The shape of an operand.
    pub fn shape(&self, role: Role) -> Vec<u64> {
        let with_space = |outer| [&[outer, self.ic], self.space()].concat();
        match role {
            Role::Lhs => with_space(self.mb),
            Role::Rhs => with_space(self.oc),
            Role::Dst | Role::Post(_) => vec![self.mb, self.oc],
        }
    }

    /// Which dimension of an operand is which axis of the product.
    pub fn axes(&self, role: Role) -> Axes {
        let k: Vec<usize> = (1..2 + usize::from(self.rank)).collect();
        let (row, col) = match role {
            Role::Lhs => (vec![0], k),
            Role::Rhs => (k, vec![0]),
            Role::Dst | Role::Post(_) => (vec![0], vec![1]),
        };
        Axes { batch: vec![], row, col }
    }
}

impl fmt::Display for InnerProduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mb{}ic{}", self.mb, self.ic)?;
        let mut above = None;
        for (name, &size) in SPACE[3 - usize::from(self.rank)..].iter().zip(self.space()) {
            if above != Some(size) {
                write!(f, "{name}{size}")?;
            }
            above = Some(size);
        }
        write!(f, "oc{}", self.oc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        InnerProduct::parse(text).unwrap().to_string()
    }

    #[test]
    fn descriptors_are_read_as_benchdnn_writes_them() {
        assert_eq!(canonical("mb128ic768oc3072"), "mb128ic768oc3072");
        assert_eq!(canonical("ic16oc32_n\"a name\""), "mb2ic16oc32");
        assert_eq!(canonical("mb1_ic512_ih7_oc1000"), "mb1ic512ih7oc1000");
        assert_eq!(canonical("mb1ic3id4ih4iw5oc2"), "mb1ic3id4iw5oc2");
        let shape = InnerProduct::parse("mb1ic512ih7oc1000").unwrap();
        assert_eq!(shape.shape(Role::Rhs), [1000, 512, 7, 7]);
        assert_eq!(InnerProduct::parse("mb1ic5iw7oc3").unwrap().shape(Role::Lhs), [1, 5, 7]);
    }

    #[test]
    fn errors_name_the_word() {
        for (text, why) in [
            ("mb1oc3", "`ic` is missing"),
            ("ic1", "`oc` is missing"),
            ("ic1oc2kh3", "`kh`"),
            ("ic1ic2oc3", "`ic` is given twice"),
            ("icoc3", "`icoc` names no dimension"),
            ("ic_oc3", "`` is not a dimension"),
            ("mb?ic3oc4", "`?` stands for a free number"),
            ("ic99999999999999999999oc3", "too large"),
            ("", "missing"),
        ] {
            let e = InnerProduct::parse(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
