//! Everything that depends on constants alone as a constant, weights too.

use super::rewriter::Rewriter;
use crate::func::{Budget, Func, FuncError};

/// Computes what [`optimize`](super::optimize) leaves to be computed when weights are packed, as far as a [`Budget`] goes.
pub fn fold_weights(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let folded = r.def(id).and_then(|(op, operands)| {
            let operands = r.all(operands);
            r.compute(op, &operands, Budget::MOST_BYTES)
        });
        match folded {
            Some(tensor) => {
                let new = r.constant(&tensor);
                r.set(id, new);
            }
            None => r.keep(id)?,
        }
    }
    r.finish()
}
