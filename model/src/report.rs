//! The distance of results from a reference, and the times of steps.

use std::time::Instant;

use kiln_ir::Func;
use kiln_ir::func::{Tensor, TensorType};

use crate::error::ModelError;
use crate::network::{Network, check};

/// The distance of a result from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// The cosine of the angle between them; 1 if both are zero.
    pub cosine: f64,
    /// The largest difference of two elements; infinite where one is not finite and the other is not the same.
    pub largest: f64,
    /// The largest magnitude of the reference's finite elements.
    pub scale: f64,
    /// The part of rows along the last axis that have their maximum at the same place; `None` of less than two axes.
    pub top1: Option<f64>,
}

impl Agreement {
    /// Compares elements of a tensor.
    ///
    /// # Panics
    /// If there are other than `ty` says.
    pub fn of(ty: &TensorType, result: &[f64], reference: &[f64]) -> Self {
        assert!(ty.elements() == result.len() as u64 && result.len() == reference.len(), "{ty}");
        let finite = |v: &&f64| v.is_finite();
        let scale = reference.iter().filter(finite).fold(0.0f64, |all, v| all.max(v.abs()));
        let difference = |(a, b): (&f64, &f64)| match a == b || (a.is_nan() && b.is_nan()) {
            true => 0.0,
            false if a.is_finite() && b.is_finite() => (a - b).abs(),
            false => f64::INFINITY,
        };
        let largest = result.iter().zip(reference).map(difference).fold(0.0, f64::max);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (both, one, other) = (dot(result, reference), dot(result, result), dot(reference, reference));
        let cosine = if one == 0.0 && other == 0.0 { 1.0 } else { both / (one.sqrt() * other.sqrt()) };
        let row = ty.shape().last().map_or(0, |n| *n as usize);
        let top1 = (ty.rank() >= 2 && row >= 2 && !result.is_empty()).then(|| {
            let rows = result.chunks(row).zip(reference.chunks(row));
            let same = rows.filter(|(a, b)| greatest(a) == greatest(b)).count();
            same as f64 / (result.len() / row) as f64
        });
        Agreement { cosine, largest, scale, top1 }
    }

    /// The largest difference as a part of the largest magnitude.
    pub fn relative(&self) -> f64 {
        if self.largest == 0.0 { 0.0 } else { self.largest / self.scale }
    }
}

/// The place of the greatest element, the first of several.
pub fn greatest(values: &[f64]) -> Option<usize> {
    let first = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).reduce(first)
}

/// The results of a function in double precision, without kernels: the reference of what is compiled.
pub fn interpret(func: &Func, arguments: &[Tensor]) -> Result<Vec<Vec<f64>>, ModelError> {
    let expected: Vec<_> = func.arguments().map(|(_, v)| (v.name.as_str(), &v.ty)).collect();
    check(expected.into_iter(), arguments)?;
    let values: Vec<Vec<f64>> = arguments.iter().map(Tensor::to_f64).collect();
    let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
    Ok(func.interpret_f64(&values).expect("arguments of the function's types"))
}

/// Nanoseconds that each [step](Network::steps) took in each of several runs.
pub fn step_times(network: &Network, inputs: &[Tensor], runs: usize) -> Result<Vec<Vec<f64>>, ModelError> {
    let mut times = vec![Vec::with_capacity(runs); network.steps().len()];
    for _ in 0..runs {
        let mut start = Instant::now();
        network.run_traced(inputs, |step, is_after| match is_after {
            true => times[step].push(start.elapsed().as_nanos() as f64),
            false => start = Instant::now(),
        })?;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use kiln_ir::func::ElementType;

    use super::*;

    #[test]
    fn agreement_is_measured() {
        let ty = TensorType::new(ElementType::F32, [2, 3]).unwrap();
        let reference = [1.0, 2.0, 4.0, 0.0, -8.0, 1.0];
        let same = Agreement::of(&ty, &reference, &reference);
        assert_eq!((same.largest, same.relative(), same.top1), (0.0, 0.0, Some(1.0)));
        assert!((same.cosine - 1.0).abs() < 1e-15);
        let other = Agreement::of(&ty, &[1.0, 2.0, 4.0, 2.0, -8.0, 1.0], &reference);
        assert_eq!((other.largest, other.relative(), other.top1), (2.0, 0.25, Some(0.5)));
        let nan = Agreement::of(&ty, &[f64::NAN; 6], &reference);
        assert!(nan.largest.is_infinite() && nan.cosine.is_nan());
        let zero = Agreement::of(&ty, &[0.0; 6], &[0.0; 6]);
        assert_eq!((zero.cosine, zero.relative()), (1.0, 0.0));
        let scalar = TensorType::new(ElementType::F32, []).unwrap();
        assert_eq!(Agreement::of(&scalar, &[f64::INFINITY], &[f64::INFINITY]).largest, 0.0);
    }
}
