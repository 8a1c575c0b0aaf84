//! Numbers for networks whose text has none.

use kiln_ir::Func;
use kiln_ir::func::{Tensor, TensorType};

/// Numbers without a pattern, of about this size.
pub fn data(ty: &TensorType, seed: u64, size: f64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values = (0..ty.elements()).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0) * size
    });
    Tensor::from_f64(ty.clone(), &values.collect::<Vec<_>>())
}

/// The function with its weights, those named `w` and `b`, as constants.
pub fn with_weights(text: &str) -> Func {
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut seed = 7;
    func.with_constants(|v| {
        seed += 1;
        let fan_in = (v.ty.elements() / v.ty.shape()[0]) as f64;
        match v.name.as_bytes()[0] {
            b'w' => Some(data(&v.ty, seed, (3.0 / fan_in).sqrt())),
            b'b' => Some(data(&v.ty, seed, 0.1)),
            _ => None,
        }
    })
    .unwrap()
}
