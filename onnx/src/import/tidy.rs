//! The last step of an import: values that no result depends on go, and the others get the model's names.

use std::collections::HashMap;

use kiln_ir::func::{Def, Func, ValueId};

use super::error::ImportError;
use super::name::{self, Names};

/// The function without what its results do not depend on, with the model's names.
pub(super) fn tidy(
    draft: &Func,
    name: &str,
    named: &HashMap<ValueId, String>,
    mut names: Names,
) -> Result<Func, ImportError> {
    let mut is_used = vec![false; draft.values().len()];
    for id in draft.results() {
        is_used[id.index()] = true;
    }
    for (id, value) in draft.values().rev() {
        if is_used[id.index()] {
            value.operands().iter().for_each(|o| is_used[o.index()] = true);
        }
    }
    let mut builder = Func::builder(&name::word(name));
    let mut moved: HashMap<ValueId, ValueId> = HashMap::new();
    for (id, value) in draft.values() {
        let new = match &value.def {
            Def::Argument => builder.arg(&value.name, value.ty.clone())?,
            _ if !is_used[id.index()] => continue,
            Def::Constant(_) => builder.constant(&draft.constant(id).expect("it is one")),
            Def::Result { op, operands } => {
                let operands: Vec<_> = operands.iter().map(|o| moved[o]).collect();
                builder.set_origins(value.origins.clone());
                match named.get(&id) {
                    Some(name) => builder.push_named(&names.unique(name), op.clone(), &operands)?,
                    None => builder.push(op.clone(), &operands)?,
                }
            }
        };
        moved.insert(id, new);
    }
    let results: Vec<_> = draft.results().iter().map(|id| moved[id]).collect();
    Ok(builder.finish_all(&results)?)
}
