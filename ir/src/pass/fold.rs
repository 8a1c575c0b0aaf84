//! Everything that depends on constants alone as a constant, weights too.

use super::rewriter::Rewriter;
use crate::func::{Func, FuncError};

/// Computes what [`optimize`](super::optimize) leaves to be computed when weights are packed, however long it takes.
pub fn fold_weights(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?.without_budget();
    for id in r.ids() {
        let folded = r.def(id).and_then(|(op, operands)| {
            let operands = r.all(operands);
            r.compute(op, &operands, u64::MAX)
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
