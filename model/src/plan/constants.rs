//! Values that are computed of constants alone: weights times a scale, several beside each other. They are computed once, when weights are
//! packed or a plan is made, one value after another.

use kiln_ir::func::{Def, Tensor, TensorOp, TensorType, Value, ValueId};

use kiln_jit::WeightsId;
use twox_hash::XxHash3_128;

use super::aligned::realigned;
use super::elements::{Identify, with_elements};
use super::native;
use super::threads::RuntimeThreads;
use crate::error::ModelError;

/// For each value whether it depends on constants alone.
pub(super) fn are_constant<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<bool> {
    let mut constant: Vec<bool> = vec![];
    for value in values {
        constant.push(match &value.def {
            Def::Argument => false,
            Def::Constant(_) => true,
            // What branches and loops give is computed in calls, of constants too.
            Def::Result { op: TensorOp::Control(_), .. } => false,
            Def::Result { operands, .. } => operands.iter().all(|o| constant[o.index()]),
        });
    }
    constant
}

/// Computes what is used more than once, or is made of too many steps one within another, so that what is left are small trees
/// of which each part is used once.
pub(super) fn settle_shared(values: &mut [Value], constant: &[bool], uses: &[usize]) -> Result<(), ModelError> {
    /// Steps one within another, at most.
    const DEEPEST: usize = 16;
    let mut depth = vec![0; values.len()];
    for at in (0..values.len()).filter(|at| constant[*at]) {
        if !matches!(values[at].def, Def::Result { .. }) {
            continue;
        }
        depth[at] = 1 + values[at].operands().iter().map(|o| depth[o.index()]).max().unwrap_or_default();
        if uses[at] > 1 || depth[at] > DEEPEST {
            let data = Constant::take(values, at, uses).compute(&values[at].label())?.data().clone();
            values[at].def = Def::Constant(data);
            depth[at] = 0;
        }
    }
    Ok(())
}

/// Computes constants that steps read, so that none is computed in a call; those that only kernels read, which have them
/// packed, are left without elements.
pub(super) fn settle(
    values: &mut [Value],
    results: &[ValueId],
    is_packed: &dyn Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let constant = are_constant(values.iter());
    let mut is_read = vec![false; values.len()];
    results.iter().for_each(|id| is_read[id.index()] = true);
    for (at, value) in values.iter().enumerate().filter(|(at, _)| !constant[*at]) {
        let reads = value.operands().iter().enumerate().filter(|(n, _)| *n != 1 || !is_packed(at));
        reads.for_each(|(_, o)| is_read[o.index()] = true);
    }
    let computed = |values: &[Value], at: usize| constant[at] && matches!(values[at].def, Def::Result { .. });
    // Nothing is given back while something may be made of it.
    let stay = vec![2; values.len()];
    for at in (0..values.len()).filter(|at| is_read[*at]) {
        if computed(values, at) {
            let data = Constant::take(values, at, &stay).compute(&values[at].label())?.data().clone();
            values[at].def = Def::Constant(data);
        }
    }
    for at in 0..values.len() {
        if computed(values, at) {
            values[at].def = Def::Constant(bytes::Bytes::new());
        }
    }
    Ok(())
}

/// A constant, or how it is computed.
pub(super) enum Constant {
    Is(Tensor),
    Of(TensorOp, TensorType, Vec<Constant>),
    /// A constant that was taken before: nothing asks for it.
    Gone,
}

impl Constant {
    /// The value at a position, which is constant. What nothing else uses is taken out of the values, so that it can be given
    /// back when this is computed.
    pub(super) fn take(values: &mut [Value], at: usize, uses: &[usize]) -> Self {
        match &values[at].def {
            Def::Argument => Constant::Gone,
            Def::Constant(_) => {
                let tensor = values[at].constant().map_or(Constant::Gone, Constant::Is);
                if uses[at] == 1 {
                    values[at].def = Def::Constant(bytes::Bytes::new());
                }
                tensor
            }
            Def::Result { op, operands } => {
                let (op, ty, operands): (_, _, Vec<ValueId>) = (op.clone(), values[at].ty.clone(), operands.clone());
                Constant::Of(op, ty, operands.iter().map(|o| Constant::take(values, o.index(), uses)).collect())
            }
        }
    }

    /// Which constant it is: by a hash of what it is computed of, which takes as long as reading that, or of the numbers of constants
    /// that have such.
    pub(super) fn id(&self, identify: Identify<'_>) -> WeightsId {
        match self {
            // A number means nothing to other processes: packs do not take it.
            _ if self.is_numbered(identify) => WeightsId::from(self.hash(identify) as u64),
            Constant::Is(tensor) => with_elements(tensor, |elements| WeightsId::of(elements)),
            _ => WeightsId::of_hash(self.hash(identify)),
        }
    }

    /// True if it is made of a constant that has a number.
    fn is_numbered(&self, identify: Identify<'_>) -> bool {
        match self {
            Constant::Is(tensor) => identify.is_some_and(|number| number(tensor).is_some()),
            Constant::Of(_, _, operands) => operands.iter().any(|operand| operand.is_numbered(identify)),
            Constant::Gone => false,
        }
    }

    fn hash(&self, identify: Identify<'_>) -> u128 {
        /// Constants that other code computed are others.
        const VERSION: &str = env!("KILN_CONSTANTS_VERSION");
        // Types and settings are part of it: the same bytes have another meaning in another shape.
        let with = |text: String, operands: &[u128]| {
            let operands: Vec<u8> = operands.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            XxHash3_128::oneshot(&[text.as_bytes(), &operands].concat())
        };
        match self {
            Constant::Is(tensor) => match identify.and_then(|number| number(tensor)) {
                Some(number) => with(format!("number {} ", tensor.ty()), &[number.into()]),
                None => with(format!("{} ", tensor.ty()), &[XxHash3_128::oneshot(tensor.data())]),
            },
            Constant::Of(op, ty, operands) => {
                with(format!("{VERSION} {op:?} {ty} "), &operands.iter().map(|o| o.hash(identify)).collect::<Vec<_>>())
            }
            Constant::Gone => with("gone".into(), &[]),
        }
    }

    /// The elements.
    pub(super) fn compute(self, layer: &str) -> Result<Tensor, ModelError> {
        let (op, ty, operands) = match self {
            Constant::Is(tensor) => return Ok(tensor),
            Constant::Of(op, ty, operands) => (op, ty, operands),
            // Only what a single packed kernel uses is taken out, and nothing else asks for that.
            Constant::Gone => unreachable!("a constant is taken out for its only user"),
        };
        let operands = operands.into_iter().map(|o| o.compute(layer)).collect::<Result<Vec<_>, _>>()?;
        let types: Vec<&TensorType> = operands.iter().map(Tensor::ty).collect();
        if let Some(action) = native::action(layer, &op, &types, &ty) {
            let bytes = ty.bytes() as usize;
            // Pages of its own: large blocks that come and go would make the allocator keep what it gets.
            let memory = memmap2::MmapMut::map_anon(bytes.max(1));
            let mut memory = memory.map_err(|_| ModelError::OutOfMemory { bytes, what: "a constant" })?;
            let aligned: Vec<Option<Tensor>> = operands.iter().map(realigned).collect();
            let inputs: Vec<_> =
                operands.iter().zip(&aligned).map(|(o, a)| Some(&a.as_ref().unwrap_or(o).data()[..])).collect();
            action.run(&RuntimeThreads::none(), &inputs, &mut memory[..bytes], &mut [])?;
            return Ok(Tensor::new(ty, bytes::Bytes::from_owner(memory).slice(..bytes)).expect("as many bytes"));
        }
        let result = op.apply(&operands.iter().collect::<Vec<_>>());
        result.map_err(|source| ModelError::Operation { layer: layer.into(), source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::Func;

    use super::*;

    /// The id of what a function of constants returns.
    fn id(lines: &str) -> WeightsId {
        let text = format!("func @f(%x: f32[2]) -> f32[2] {{\n{lines}\nreturn %x\n}}");
        let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
        let mut values = func.into_values();
        let (at, uses) = (values.len() - 1, vec![2; values.len()]);
        Constant::take(&mut values, at, &uses).id(None)
    }

    #[test]
    fn what_is_computed_otherwise_is_another() {
        let a = "%a = constant f32[2x2] {1, 2, 3, 4}\n%b = constant f32[2x2] {5, 6, 7, 8}\n%s = constant f32[] {2}\n";
        let all = [
            "%y = constant f32[2x2] {1, 2, 3, 4}",
            "%y = constant f32[2x2] {1, 2, 3, 5}",
            "%y = transpose %a {perm=[1,0]}",
            "%y = transpose %b {perm=[1,0]}",
            "%y = mul %a, %s",
            "%y = mul %b, %s",
            "%y = add %a, %s",
            "%y = concat %a, %b {axis=0}",
            "%y = concat %b, %a {axis=0}",
            "%y = concat %a, %b {axis=1}",
            "%y = pad %a {mode=constant before=[0,0] after=[1,0] value=0}",
            "%y = pad %a {mode=constant before=[0,0] after=[1,0] value=1}",
            "%t = transpose %a {perm=[1,0]}\n%y = mul %t, %s",
            "%t = mul %a, %s\n%y = transpose %t {perm=[1,0]}",
            "%r = reshape %a {shape=[4,1]}\n%y = transpose %r {perm=[1,0]}",
        ];
        let ids: Vec<WeightsId> = all.iter().map(|lines| id(&format!("{a}{lines}"))).collect();
        for (at, one) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == one), Some(at), "{}", all[at]);
        }
        // Names are nothing, and a constant is what its caller says of it.
        let renamed = a.replace("%a", "%v").replace("%s", "%w");
        assert_eq!(id(&format!("{renamed}%z = mul %v, %w")), ids[4]);
        assert_eq!(ids[0], WeightsId::of(&[1.0f32, 2.0, 3.0, 4.0]));
    }
}
