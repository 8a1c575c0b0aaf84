//! Everything that depends on constants alone as a constant, weights too.

use super::rewriter::Rewriter;
use crate::func::{Func, FuncError, Tensor};

/// Computes what [`optimize`](super::optimize) leaves to be computed when weights are packed.
pub fn fold_weights(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let folded = r.def(id).and_then(|(op, operands)| {
            let constants: Vec<Tensor> = operands.iter().map(|o| r.as_constant(r.get(*o))).collect::<Option<_>>()?;
            op.apply(&constants.iter().collect::<Vec<_>>()).ok()
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
