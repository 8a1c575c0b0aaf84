//! Integer constants that count: each element is a sum of multiples of its position along each axis.
//!
//! Exporters write such constants as indices: of the tokens of a flattened batch, `sequence * length + token`. Their elements
//! depend on sizes, as strides of tensors do.

use kiln_ir::func::{ElementType, Tensor, TensorType};

use super::number::Number;

/// The difference between elements that are neighbours along each axis, behind the first element.
pub(super) type Counts = Vec<i128>;

/// The first element and the steps of a constant that counts; `None` if it does not, is empty, or has other elements than
/// integers.
pub(super) fn counts(tensor: &Tensor) -> Option<Counts> {
    let elements = integers(tensor)?;
    let first = *elements.first()?;
    let mut counts = vec![first];
    let mut stride = elements.len();
    for extent in tensor.ty().shape() {
        stride /= usize::try_from(*extent).ok()?;
        counts.push(if *extent > 1 { elements[stride] - first } else { 0 });
    }
    (listed(&counts, tensor.ty().shape())? == elements).then_some(counts)
}

/// The elements that a shape and its counts say.
fn listed(counts: &[i128], shape: &[u64]) -> Option<Vec<i128>> {
    let (first, steps) = counts.split_first()?;
    let mut elements = vec![*first];
    for (step, extent) in steps.iter().zip(shape) {
        let mut next = vec![];
        for element in elements {
            for at in 0..*extent {
                next.push(element.checked_add(step.checked_mul(at.into())?)?);
            }
        }
        elements = next;
    }
    Some(elements)
}

/// The constant with counts that depend on sizes; `None` if an element is none of its type.
pub(super) fn tensor(ty: &TensorType, counts: &[Number], offsets: &[i128]) -> Option<Tensor> {
    let counts = counts.iter().map(|count| count.value(offsets)).collect::<Option<Counts>>()?;
    let elements = listed(&counts, ty.shape())?;
    let shape = ty.shape();
    match ty.element() {
        ElementType::I64 => {
            let elements = elements.into_iter().map(|e| i64::try_from(e).ok()).collect::<Option<Vec<_>>>()?;
            Tensor::from_elements(shape, elements).ok()
        }
        ElementType::I32 => {
            let elements = elements.into_iter().map(|e| i32::try_from(e).ok()).collect::<Option<Vec<_>>>()?;
            Tensor::from_elements(shape, elements).ok()
        }
        _ => None,
    }
}

fn integers(tensor: &Tensor) -> Option<Vec<i128>> {
    match tensor.ty().element() {
        ElementType::I64 => Some(tensor.elements::<i64>()?.iter().map(|e| (*e).into()).collect()),
        ElementType::I32 => Some(tensor.elements::<i32>()?.iter().map(|e| (*e).into()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_that_count_are_told_from_others() {
        let of = |shape: &[u64], elements: &[i64]| counts(&Tensor::from_elements(shape, elements.to_vec()).unwrap());
        assert_eq!(of(&[2, 1, 3], &[5, 6, 7, 15, 16, 17]), Some(vec![5, 10, 0, 1]));
        assert_eq!(of(&[3], &[2, 1, 0]), Some(vec![2, -1]));
        assert_eq!(of(&[], &[9]), Some(vec![9]));
        assert_eq!(of(&[2, 2], &[0, 1, 2, 4]), None);
        assert_eq!(of(&[0, 2], &[]), None);
        assert_eq!(counts(&Tensor::from_elements([2], vec![0f32, 1.0]).unwrap()), None);
        // Of batches of 4 and 3, and lengths of 9 and 8.
        let counts = [Number::of([0, 0, 0, 0]), Number::of([9, 9, 8, 8]), Number::of([1, 1, 1, 1])];
        let made = |shape: &[u64], offsets: &[i128]| {
            tensor(&TensorType::new(ElementType::I64, shape).unwrap(), &counts, offsets)
        };
        let expected = Tensor::from_elements([2, 3], vec![0i64, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(made(&[2, 3], &[2, 6]), Some(expected));
        assert_eq!(made(&[2, 3], &[2, i128::from(i64::MIN)]), None);
    }
}
