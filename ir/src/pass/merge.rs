//! Products of one operand with several weights as one product with a batch of weights: query, key and value of attention.

use std::collections::{HashMap, HashSet};

use super::rewriter::Rewriter;
use crate::func::{Binary, Func, FuncError, Structured, Tensor, TensorOp, ValueId};
use crate::problem::MAX_ELEMENTS;

/// A product with constant weights, and a bias perhaps.
struct Linear {
    /// The last value: the sum with the bias, or the product.
    value: ValueId,
    product: ValueId,
    source: ValueId,
    weights_id: ValueId,
    weights: Tensor,
    /// Whether weights are `[n, k]`.
    transposed: bool,
    bias: Option<Tensor>,
}

/// What products that can be merged have in common.
#[derive(PartialEq, Eq, Hash)]
struct Group {
    source: ValueId,
    shape: Vec<u64>,
    transposed: bool,
    has_bias: bool,
}

pub(super) fn merge_products(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    let mut groups: HashMap<Group, Vec<Linear>> = HashMap::new();
    let linears: Vec<Linear> = r.ids().into_iter().filter_map(|id| Linear::of(&r, id)).collect();
    // A product with a bias is found twice; with its bias it is one.
    let with_bias: HashSet<ValueId> = linears.iter().filter(|l| l.value != l.product).map(|l| l.product).collect();
    for linear in linears {
        if linear.value != linear.product || !with_bias.contains(&linear.product) {
            let group = Group {
                source: linear.source,
                shape: linear.weights.ty().shape().into(),
                transposed: linear.transposed,
                has_bias: linear.bias.is_some(),
            };
            groups.entry(group).or_default().push(linear);
        }
    }
    // The first value of each group that has several, with the group; the others are found when they are come to.
    let mut first: HashMap<ValueId, Vec<Linear>> = HashMap::new();
    for (_, members) in groups {
        if members.len() > 1 && is_feasible(&r, &members) {
            let at = members.iter().map(|m| m.value).min().expect("several");
            first.insert(at, members);
        }
    }
    let mut merged: HashMap<ValueId, ValueId> = HashMap::new();
    for id in r.ids() {
        if let Some(members) = first.remove(&id) {
            for (member, value) in emit(&mut r, &members)? {
                merged.insert(member, value);
            }
        }
        match merged.get(&id) {
            Some(value) => r.set(id, *value),
            None => r.keep(id)?,
        }
    }
    r.finish()
}

/// Whether each has weights of its own, so that no memory is taken that was not there, and what they make together is not too
/// large for a tensor.
fn is_feasible(r: &Rewriter<'_>, members: &[Linear]) -> bool {
    let weights: HashSet<ValueId> = members.iter().map(|m| m.weights_id).collect();
    let most = members.iter().map(|m| m.weights.ty().elements().max(r.old.value(m.value).ty.elements())).max();
    let all = most.unwrap_or_default().checked_mul(members.len() as u64);
    weights.len() == members.len() && all.is_some_and(|all| all <= MAX_ELEMENTS)
}

impl Linear {
    fn of(r: &Rewriter<'_>, id: ValueId) -> Option<Self> {
        let (product, bias) = match r.def(id)? {
            (TensorOp::Binary(Binary::Add {}), &[product, bias]) if r.uses(product) == 1 => {
                (product, Some(r.old.constant(bias)?))
            }
            (TensorOp::Structured(Structured::Matmul {}), _) => (id, None),
            _ => return None,
        };
        let (TensorOp::Structured(Structured::Matmul {}), &[source, weights]) = r.def(product)? else { return None };
        let (weights_id, transposed) = match r.def(weights) {
            Some((TensorOp::Structured(Structured::Transpose { perm }), &[from])) if perm[..] == [1, 0] => (from, true),
            _ => (weights, false),
        };
        let weights = r.old.constant(weights_id).filter(|w| w.ty().rank() == 2)?;
        weights.elements::<f32>()?;
        let n = weights.ty().shape()[usize::from(!transposed)];
        if bias.as_ref().is_some_and(|b| *b.ty().shape() != [n] || b.elements::<f32>().is_none()) {
            return None;
        }
        Some(Linear { value: id, product, source, weights_id, weights, transposed, bias })
    }
}

/// Emits the products of a group as one; gives each member's value.
fn emit(r: &mut Rewriter<'_>, members: &[Linear]) -> Result<Vec<(ValueId, ValueId)>, FuncError> {
    let [a, b] = *members[0].weights.ty().shape() else { unreachable!("weights are matrices") };
    let (k, n) = if members[0].transposed { (b, a) } else { (a, b) };
    let stack = |r: &mut Rewriter<'_>, tensors: Vec<&Tensor>, shape: [u64; 3]| {
        let parts: Vec<ValueId> =
            tensors.iter().map(|t| r.constant(&t.reshaped(shape).expect("as many elements"))).collect();
        r.emit(Structured::Concat { axis: 0 }, &parts)
    };
    let mut weights = stack(r, members.iter().map(|m| &m.weights).collect(), [1, a, b])?;
    if members[0].transposed {
        weights = r.emit(Structured::Transpose { perm: vec![0, 2, 1] }, &[weights])?;
    }
    let source = r.get(members[0].source);
    let shape = r.value(source).ty.shape().to_vec();
    let rows = shape[..shape.len() - 1].iter().product();
    let source = r.reshape(source, &[1, rows, k])?;
    let mut value = r.emit(Structured::Matmul {}, &[source, weights])?;
    if let Some(biases) = members.iter().map(|m| m.bias.as_ref()).collect::<Option<Vec<_>>>() {
        let biases = stack(r, biases, [1, 1, n])?;
        value = r.emit(Binary::Add {}, &[value, biases])?;
    }
    let mut values = vec![];
    for (i, member) in members.iter().enumerate() {
        let slice = Structured::Slice { starts: vec![i as u64, 0, 0], steps: vec![1; 3], counts: vec![1, rows, n] };
        let one = r.emit(slice, &[value])?;
        let shape = r.old.value(member.value).ty.shape().to_vec();
        values.push((member.value, r.reshape(one, &shape)?));
    }
    Ok(values)
}
