//! The arguments of a call.

use kiln_ir::Role;

use crate::error::RuntimeError;

/// The most operands a problem has.
pub(crate) const MAX_OPERANDS: usize = 4;

/// The tensors of one call, row-major. Borrowing rules out aliasing of `dst`; types fix the dtype; lengths are checked by
/// the call.
#[derive(Debug)]
pub struct Args<'a> {
    lhs: &'a [f32],
    rhs: &'a [f32],
    bias: Option<&'a [f32]>,
    dst: &'a mut [f32],
}

impl<'a> Args<'a> {
    /// The operands every problem has: `lhs` of MxK, `rhs` of KxN, and `dst` of MxN, which is overwritten.
    pub fn new(lhs: &'a [f32], rhs: &'a [f32], dst: &'a mut [f32]) -> Self {
        Self { lhs, rhs, bias: None, dst }
    }

    /// One element per column, for problems with `+bias`.
    pub fn bias(mut self, bias: &'a [f32]) -> Self {
        self.bias = Some(bias);
        self
    }

    /// The pointers in operand order, if every length is right and nothing is missing or too much.
    pub(crate) fn pointers(self, operands: &[(Role, u64)]) -> Result<Pointers, RuntimeError> {
        let mut pointers = [std::ptr::null_mut(); MAX_OPERANDS];
        let mut bias = self.bias;
        for (p, &(role, elements)) in pointers.iter_mut().zip(operands) {
            let (pointer, len) = match role {
                Role::Lhs => (self.lhs.as_ptr().cast_mut(), Some(self.lhs.len())),
                Role::Rhs => (self.rhs.as_ptr().cast_mut(), Some(self.rhs.len())),
                Role::Dst => (self.dst.as_mut_ptr(), Some(self.dst.len())),
                Role::Bias => match bias.take() {
                    Some(b) => (b.as_ptr().cast_mut(), Some(b.len())),
                    None => (std::ptr::null_mut(), None),
                },
            };
            if len.is_none_or(|len| len as u64 != elements) {
                return Err(wrong_length(role, elements, len));
            }
            *p = pointer.cast();
        }
        match bias {
            Some(_) => Err(RuntimeError::Argument {
                name: Role::Bias.name(),
                expected: "none: the problem has no `+bias`".into(),
                got: "a bias".into(),
            }),
            None => Ok(Pointers(pointers)),
        }
    }
}

/// Checked argument pointers, in operand order.
pub(crate) struct Pointers(pub(crate) [*mut u8; MAX_OPERANDS]);

// SAFETY: the tensors behind them are borrowed for the whole call, shared ones are only read, and tasks write distinct
// elements of the exclusive one.
unsafe impl Sync for Pointers {}

#[cold]
fn wrong_length(role: Role, elements: u64, got: Option<usize>) -> RuntimeError {
    RuntimeError::Argument {
        name: role.name(),
        expected: format!("{elements} elements"),
        got: got.map_or("none".into(), |n| format!("{n} elements")),
    }
}
