//! Contractions as kernels: with the transposes before and behind them as orders of memory, and what follows them, biases,
//! activations and residuals, as post-ops.

use std::collections::{HashMap, HashSet};

use super::layout::inverse;
use super::numbers::has;
use super::rewriter::Rewriter;
use crate::epilogue::{Mask, Number, PostOp};
use crate::func::{Binary, ElementType, Func, FuncError, Real, Structured, TensorOp, Unary, ValueId};
use crate::layout::MAX_RANK;
use crate::op::{Convolution, InnerProduct, Matmul, Spatial};
use crate::problem::{Builder, Op, Problem, Role};

/// Makes a kernel of every contraction that can be one.
pub(super) fn form_kernels(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    let users = users(func);
    let bases: HashMap<ValueId, Base> = r.ids().into_iter().filter_map(|id| Some((id, Base::of(&r, id)?))).collect();
    let absorbed: HashSet<ValueId> = bases.values().flat_map(|b| b.absorbed.iter().copied()).collect();
    let mut taken = HashSet::new();
    let mut kernels: HashMap<ValueId, Chain> = HashMap::new();
    // The last product that leads to a sum has it as its own: the others are there by then.
    for id in r.ids().into_iter().rev() {
        if let Some(base) = bases.get(&id) {
            let chain = Chain::grow(&r, base, id, &users, &absorbed, &taken);
            // The tail too: another product that leads to it keeps its own result.
            taken.extend(chain.fused.iter().copied().chain([chain.tail]));
            kernels.insert(chain.tail, chain);
        }
    }
    for id in r.ids() {
        if let Some(chain) = kernels.remove(&id) {
            let operands = r.all(&chain.operands);
            let kernel = Structured::Kernel { problem: Box::new(chain.problem) };
            let memory: Vec<u64> = chain.memory.iter().map(|d| d.0).collect();
            if func.value(id).ty.shape() == memory {
                r.replace(id, kernel, &operands)?;
            } else {
                let result = r.emit(kernel, &operands)?;
                r.replace(id, Structured::Reshape { shape: func.value(id).ty.shape().into() }, &[result])?;
            }
        } else if !taken.contains(&id) {
            r.keep(id)?;
        }
    }
    r.finish()
}

/// The operations that read each value. One that the caller reads has itself among them.
fn users(func: &Func) -> Vec<Vec<ValueId>> {
    let mut users = vec![vec![]; func.values().len()];
    for (id, value) in func.values() {
        value.operands().iter().for_each(|o| users[o.index()].push(id));
    }
    func.results().iter().for_each(|o| users[o.index()].push(*o));
    users
}

/// A dimension of a result in memory: its extent, and which of the problem's dimensions it is.
type Dim = (u64, usize);

/// A contraction as a problem without post-ops.
struct Base {
    builder: Builder,
    lhs: ValueId,
    rhs: ValueId,
    /// Transposes that are read through.
    absorbed: Vec<ValueId>,
    /// The result, outermost in memory first.
    memory: Vec<Dim>,
    /// The problem's dimension that `bias` is along.
    columns: usize,
}

/// An operand through a transpose: what is read, and the order of its dimensions in memory.
struct Read {
    value: ValueId,
    absorbed: Option<ValueId>,
    /// For each dimension in memory, outermost first, the dimension of the operand; `None` if it is their own order.
    order: Option<Vec<usize>>,
}

impl Read {
    fn of(r: &Rewriter<'_>, id: ValueId) -> Self {
        match r.def(id) {
            Some((TensorOp::Structured(Structured::Transpose { perm }), from)) => {
                let order = inverse(perm).into_iter().map(|axis| axis as usize).collect();
                Read { value: from[0], absorbed: Some(id), order: Some(order) }
            }
            _ => Read { value: id, absorbed: None, order: None },
        }
    }

    /// The tag of an operand with so many dimensions of 1 in front; `None` for the plain order.
    fn tag(&self, ones: usize) -> Option<String> {
        let order = self.order.as_ref()?;
        let all = (0..ones).chain(order.iter().map(|d| d + ones));
        Some(all.map(|d| char::from(b'a' + d as u8)).collect())
    }
}

impl Base {
    fn of(r: &Rewriter<'_>, id: ValueId) -> Option<Self> {
        let (TensorOp::Structured(op), &[lhs, rhs]) = r.def(id)? else { return None };
        let base = match op {
            Structured::Matmul {} => Self::matmul(r, id, lhs, rhs)?,
            Structured::Conv { strides, pads, dilations, groups, channels_last: true } => {
                Self::convolution(r, id, [lhs, rhs], [strides, pads, dilations], *groups)?
            }
            _ => return None,
        };
        let dtype = r.old.value(id).ty.element().dtype()?;
        let builder = base.builder.dtypes(dtype);
        builder.clone().build().is_ok().then_some(Base { builder, ..base })
    }

    fn matmul(r: &Rewriter<'_>, id: ValueId, lhs: ValueId, rhs: ValueId) -> Option<Self> {
        let shape = |id: ValueId| r.old.value(id).ty.shape();
        let out = shape(id);
        let (outer_lhs, &[m, k]) = shape(lhs).split_last_chunk::<2>()?;
        let (outer_rhs, &[_, n]) = shape(rhs).split_last_chunk::<2>()?;
        let (left, right) = (Read::of(r, lhs), Read::of(r, rhs));
        let absorbed: Vec<_> = [left.absorbed, right.absorbed].into_iter().flatten().collect();
        let plain = |dims: &[u64]| dims.iter().copied().enumerate().map(|(i, d)| (d, i)).collect::<Vec<Dim>>();
        let base = |builder, memory, columns| Base {
            builder,
            lhs: left.value,
            rhs: right.value,
            absorbed: absorbed.clone(),
            memory,
            columns,
        };
        // One matrix for all rows: they are rows of one product.
        if outer_rhs.is_empty() && (left.order.is_none() || outer_lhs.is_empty()) {
            let rows = outer_lhs.iter().product::<u64>() * m;
            let memory = plain(&[rows, n]);
            let is_linear = right.order.is_some() && left.order.is_none();
            let builder = if is_linear {
                Builder::new(Op::InnerProduct(InnerProduct::new(rows, k, n)))
            } else {
                let builder = Builder::new(Op::Matmul(Matmul::new(rows, k, n)));
                tagged(tagged(builder, Role::Lhs, left.tag(0)), Role::Rhs, right.tag(0))
            };
            return Some(base(builder, memory, 1));
        }
        let rank = out.len();
        if rank > MAX_RANK {
            return None;
        }
        let ones = |outer: &[u64]| rank - 2 - outer.len();
        let batch = |outer: &[u64]| vec![1; ones(outer)].into_iter().chain(outer.iter().copied()).collect::<Vec<_>>();
        let shape = Matmul::new(m, k, n).batched(&batch(outer_lhs), &batch(outer_rhs)).ok()?;
        let builder = Builder::new(Op::Matmul(shape));
        let builder = tagged(builder, Role::Lhs, left.tag(ones(outer_lhs)));
        let builder = tagged(builder, Role::Rhs, right.tag(ones(outer_rhs)));
        Some(base(builder, plain(out), rank - 1))
    }

    fn convolution(
        r: &Rewriter<'_>,
        id: ValueId,
        [x, w]: [ValueId; 2],
        [strides, pads, dilations]: [&Vec<u64>; 3],
        groups: u64,
    ) -> Option<Self> {
        let (image, weights, out) = (r.old.value(x).ty.shape(), r.old.value(w).ty.shape(), r.old.value(id).ty.shape());
        let axes = strides.len();
        let space = (0..axes).map(|a| {
            Some(Spatial {
                input: image[1 + a],
                output: out[1 + a],
                kernel: weights[2 + a],
                stride: strides[a],
                dilation: dilations[a],
                pad: i64::try_from(pads[a]).ok()?,
            })
        });
        let space = space.collect::<Option<Vec<_>>>()?;
        let shape = Convolution::new(image[0], image[1 + axes], weights[0], &space).ok()?.groups(groups).ok()?;
        let mut builder = Builder::new(Op::Convolution(shape));
        // Images with channels first, as they come from outside, are read as they are.
        let first: Vec<usize> = [0].into_iter().chain([axes + 1]).chain(1..=axes).collect();
        let read = Read::of(r, x);
        let is_first = read.order.as_ref() == Some(&first);
        let (lhs, absorbed) = if is_first { (read.value, read.absorbed) } else { (x, None) };
        if is_first {
            builder = builder.tag(Role::Lhs, "abx");
        }
        let dims: Vec<usize> = [0].into_iter().chain(2..axes + 2).chain([1]).collect();
        let memory = out.iter().copied().zip(dims).collect();
        Some(Base { builder, lhs, rhs: w, absorbed: absorbed.into_iter().collect(), memory, columns: 1 })
    }
}

fn tagged(builder: Builder, role: Role, tag: Option<String>) -> Builder {
    match tag {
        Some(tag) => builder.tag(role, &tag),
        None => builder,
    }
}

/// A contraction with all that follows it in one kernel.
struct Chain {
    problem: Problem,
    operands: Vec<ValueId>,
    memory: Vec<Dim>,
    /// The value that the kernel computes.
    tail: ValueId,
    /// What is between the contraction and the tail, the contraction included.
    fused: Vec<ValueId>,
}

impl Chain {
    fn grow(
        r: &Rewriter<'_>,
        base: &Base,
        id: ValueId,
        users: &[Vec<ValueId>],
        absorbed: &HashSet<ValueId>,
        taken: &HashSet<ValueId>,
    ) -> Self {
        let mut builder = base.builder.clone();
        let mut chain = Chain {
            problem: builder.clone().build().expect("it was built before"),
            operands: vec![base.lhs, base.rhs],
            memory: base.memory.clone(),
            tail: id,
            fused: vec![],
        };
        // Reshapes are followed, and are part of the kernel if something behind them is.
        let (mut at, mut passed) = (id, vec![id]);
        while let &[user] = &users[at.index()][..]
            && user != at
            && !taken.contains(&user)
        {
            let Some((op, operands)) = r.def(user) else { break };
            match op {
                TensorOp::Structured(Structured::Reshape { .. }) => {}
                // What a product reads through a transpose must be there as it is.
                TensorOp::Structured(Structured::Transpose { perm }) if !absorbed.contains(&user) => {
                    chain.transpose(r, &builder, perm, at, user, passed);
                    break;
                }
                _ => {
                    let Some(step) = chain.step(r, base, op, operands, at) else { break };
                    let next = builder.clone().epilogue(step.0);
                    let Ok(problem) = next.clone().build() else { break };
                    builder = next;
                    chain.problem = problem;
                    chain.operands.extend(step.1);
                    chain.fused.append(&mut passed);
                    chain.tail = user;
                }
            }
            passed.push(user);
            at = user;
        }
        chain.fused.retain(|v| *v != chain.tail);
        chain
    }

    /// Takes in a transpose of the result as its order in memory.
    fn transpose(
        &mut self,
        r: &Rewriter<'_>,
        builder: &Builder,
        perm: &[u64],
        at: ValueId,
        user: ValueId,
        passed: Vec<ValueId>,
    ) {
        let memory: Vec<u64> = self.memory.iter().map(|d| d.0).collect();
        // Operands of post-ops lie in the order of the result.
        let has_operands = self.operands.len() > 2;
        if r.old.value(at).ty.shape() != memory || has_operands {
            return;
        }
        let moved: Vec<Dim> = perm.iter().map(|axis| self.memory[*axis as usize]).collect();
        let tag: String = moved.iter().map(|(_, dim)| char::from(b'a' + *dim as u8)).collect();
        if let Ok(problem) = builder.clone().tag(Role::Dst, &tag).build() {
            self.problem = problem;
            self.memory = moved;
            self.fused.extend(passed);
            self.tail = user;
        }
    }

    /// An operation on the value `at` as post-ops, and the tensor they read.
    fn step(
        &self,
        r: &Rewriter<'_>,
        base: &Base,
        op: &TensorOp,
        operands: &[ValueId],
        at: ValueId,
    ) -> Option<(Vec<PostOp>, Option<ValueId>)> {
        let (op, other) = match op {
            TensorOp::Unary(op) => return Some((unary(op)?, None)),
            TensorOp::Binary(op @ (Binary::Add {} | Binary::Mul {})) => {
                (op, if operands[0] == at { operands[1] } else { operands[0] })
            }
            _ => return None,
        };
        let is_sum = *op == (Binary::Add {});
        let ty = &r.old.value(other).ty;
        if let Some(number) = r.old.constant(other).filter(|t| t.ty().elements() == 1).and_then(|t| t.splat()) {
            let number = Number::new(number as f32)?;
            return Some((vec![if is_sum { PostOp::Shift(number) } else { PostOp::Scale(number) }], None));
        }
        let view = r.old.value(at).ty.shape();
        let covered = covered(&self.memory.iter().map(|d| d.0).collect::<Vec<_>>(), view, ty.shape())?;
        let has = |whole: bool| {
            let dims = self.memory.iter().zip(&covered).filter(move |(_, c)| whole || **c);
            dims.map(|(d, _)| d.1).collect::<Vec<usize>>()
        };
        // A single column may have a number for its bias.
        let columns = self.memory.iter().find(|d| d.1 == base.columns).map_or(1, |d| d.0);
        let is_bias = ty.elements() == columns && has(false).iter().all(|dim| *dim == base.columns);
        if is_sum && ty.element() == ElementType::F32 && is_bias {
            return Some((vec![PostOp::Bias], Some(other)));
        }
        // What has all there is has the dimensions of 1 as well.
        let dims = has(self.memory.iter().zip(&covered).all(|(d, c)| d.0 == 1 || *c));
        let mask = Mask::of(dims.iter().copied()).filter(|_| !dims.is_empty())?;
        Some((vec![if is_sum { PostOp::Add(mask) } else { PostOp::Mul(mask) }], Some(other)))
    }
}

fn unary(op: &Unary) -> Option<Vec<PostOp>> {
    // One that is not 0 and becomes 0 would make NaN of infinities.
    let number = |r: &Real| Number::new(r.0 as f32).filter(|_| has(ElementType::F32, r.0));
    let one = match op {
        Unary::Relu {} => PostOp::Relu,
        Unary::LeakyRelu { alpha } => PostOp::LeakyRelu(number(alpha)?),
        Unary::Clamp { low, high } => {
            // Numbers of a problem are finite.
            let (low, high) = (number(low)?, number(high)?);
            if low.get() <= high.get() { PostOp::Clamp(low, high) } else { return None }
        }
        Unary::GeluErf {} => PostOp::GeluErf,
        Unary::GeluTanh {} => PostOp::GeluTanh,
        Unary::Silu {} => PostOp::Silu,
        Unary::Sigmoid {} => PostOp::Sigmoid,
        Unary::Tanh {} => PostOp::Tanh,
        Unary::HardSwish {} => PostOp::HardSwish,
        Unary::Softsign {} => PostOp::Softsign,
        Unary::HardSigmoid { alpha, beta } if (alpha.0 - 1.0 / 6.0).abs() < 1e-7 && beta.0 == 0.5 => {
            PostOp::HardSigmoid
        }
        Unary::HardSigmoid { alpha, beta } => {
            let limits = PostOp::Clamp(Number::new(0.0)?, Number::new(1.0)?);
            return Some(vec![PostOp::Scale(number(alpha)?), PostOp::Shift(number(beta)?), limits]);
        }
        Unary::Neg {} => PostOp::Scale(Number::new(-1.0)?),
        Unary::Exp {} => PostOp::Exp,
        Unary::Sqrt {} => PostOp::Sqrt,
        Unary::Abs {} => PostOp::Abs,
        _ => return None,
    };
    Some(vec![one])
}

/// Which dimensions of a result in memory a tensor of shape `other` has, when the result is seen with shape `view` and the tensor
/// broadcasts to that; `None` if it has some only in part, or is larger.
fn covered(memory: &[u64], view: &[u64], other: &[u64]) -> Option<Vec<bool>> {
    if other.len() > view.len() {
        return None;
    }
    let aligned = std::iter::repeat_n(1, view.len() - other.len()).chain(other.iter().copied());
    let mut views: Vec<(u64, bool)> = vec![];
    for (v, o) in view.iter().zip(aligned) {
        match o {
            _ if *v == 1 && o == 1 => {}
            1 => views.push((*v, false)),
            _ if o == *v => views.push((*v, true)),
            _ => return None,
        }
    }
    // Both are walked from the innermost dimension on, by common factors.
    let mut views = views.into_iter().rev();
    let mut left = (1, false);
    let mut covered = vec![false; memory.len()];
    for (slot, dim) in covered.iter_mut().zip(memory).rev() {
        let (mut dim, mut first) = (*dim, None);
        while dim > 1 {
            if left.0 == 1 {
                left = views.next()?;
            }
            let common = if dim.is_multiple_of(left.0) {
                left.0
            } else if left.0.is_multiple_of(dim) {
                dim
            } else {
                return None;
            };
            if *first.get_or_insert(left.1) != left.1 {
                return None;
            }
            dim /= common;
            left.0 /= common;
        }
        *slot = first.unwrap_or(false);
    }
    Some(covered)
}

#[cfg(test)]
mod tests {
    use super::covered;

    #[test]
    fn tensors_that_broadcast_have_whole_dimensions() {
        let of = |memory: &[u64], view: &[u64], other: &[u64]| covered(memory, view, other);
        assert_eq!(of(&[6, 4], &[2, 3, 4], &[4]), Some(vec![false, true]));
        assert_eq!(of(&[6, 4], &[2, 3, 4], &[2, 3, 4]), Some(vec![true, true]));
        assert_eq!(of(&[6, 4], &[2, 3, 4], &[2, 3, 1]), Some(vec![true, false]));
        assert_eq!(of(&[6, 4], &[2, 3, 4], &[3, 4]), None);
        assert_eq!(of(&[6, 4], &[24], &[24]), Some(vec![true, true]));
        assert_eq!(of(&[1, 2, 5, 5], &[1, 2, 5, 5], &[1, 1, 5, 5]), Some(vec![false, false, true, true]));
        assert_eq!(of(&[4, 6], &[3, 8], &[3, 1]), None);
        assert_eq!(of(&[2, 3], &[2, 3], &[5, 2, 3]), None);
        assert_eq!(of(&[2, 3], &[2, 3], &[1]), Some(vec![false, false]));
    }
}
