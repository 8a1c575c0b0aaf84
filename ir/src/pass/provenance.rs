//! Which nodes of a model the values of a rewritten function come from.
//!
//! No pass has to think of it: what became of each old value is known when a pass is done. A value that is still there keeps its
//! nodes. One that is not, because another operation does its work, gives them to those that read it. A new operation that no old
//! value became, such as the kernel before a reshape, has the nodes of those that read it.

use crate::func::{Def, Func, Origins, Structured, TensorOp, Value, ValueId};

/// Gives the values of `new` their nodes; `map` says what each value of `old` is there, if it is.
pub(super) fn carry_over(old: &Func, map: &[Option<ValueId>], new: &mut Func) {
    if old.values().all(|(_, value)| value.origins.is_empty()) {
        return;
    }
    let live = new.live();
    let mut found = vec![Nodes::default(); live.len()];
    let mut carried = vec![Nodes::default(); map.len()];
    // What each old value is now, unless others do its work.
    let now: Vec<Option<ValueId>> =
        map.iter().map(|now| now.filter(|now| live[now.index()] && is_result(new.value(*now)))).collect();
    let users = users(old, |id| now[id.index()].is_none());
    for (id, value) in old.values() {
        let mut nodes = std::mem::take(&mut carried[id.index()]);
        nodes.add_own(value);
        if nodes.origins.is_empty() {
            continue;
        }
        match now[id.index()] {
            Some(now) => found[now.index()].add(&nodes),
            None => users[id.index()].iter().for_each(|user| carried[user.index()].add(&nodes)),
        }
    }
    // From results to arguments: who reads a value has its nodes by then.
    let is_own: Vec<bool> = found.iter().map(|nodes| !nodes.origins.is_empty()).collect();
    for (id, value) in new.values().rev().filter(|(id, _)| live[id.index()]) {
        let mut takers = value.operands().iter().filter(|o| !is_own[o.index()]).peekable();
        if takers.peek().is_some() {
            let nodes = found[id.index()].clone();
            takers.for_each(|operand| found[operand.index()].add(&nodes));
        }
    }
    for (at, nodes) in found.into_iter().enumerate() {
        let id = new.id(at);
        if live[at] && is_result(new.value(id)) {
            new.set_origins(id, nodes.origins);
        }
    }
}

/// The nodes that come together in one value.
#[derive(Clone, Default)]
struct Nodes {
    origins: Origins,
    /// Whether the first is that of a contraction, which is what people look for.
    is_led: bool,
}

impl Nodes {
    fn add(&mut self, other: &Nodes) {
        if other.is_led && !self.is_led {
            self.origins.lead(&other.origins);
        } else {
            self.origins.add(&other.origins);
        }
        self.is_led |= other.is_led;
    }

    /// Adds those of the value itself: behind those that it does the work of, but for contractions.
    fn add_own(&mut self, value: &Value) {
        self.add(&Nodes { origins: value.origins.clone(), is_led: is_contraction(value) });
    }
}

fn is_result(value: &Value) -> bool {
    matches!(value.def, Def::Result { .. })
}

fn is_contraction(value: &Value) -> bool {
    use Structured::{Conv, ConvTranspose, Kernel, Matmul};
    let Def::Result { op: TensorOp::Structured(op), .. } = &value.def else { return false };
    matches!(op, Conv { .. } | ConvTranspose { .. } | Kernel { .. } | Matmul {})
}

/// The values that read each one of those that are `wanted`.
fn users(func: &Func, wanted: impl Fn(ValueId) -> bool) -> Vec<Vec<ValueId>> {
    let mut users = vec![vec![]; func.values().len()];
    for (id, value) in func.values() {
        value.operands().iter().filter(|o| wanted(**o)).for_each(|o| users[o.index()].push(id));
    }
    users
}
