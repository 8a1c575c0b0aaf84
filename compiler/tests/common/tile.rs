//! What a register tile means, from [`TileSpec`]'s formula: shared by the tests that execute micro-kernels.

use kiln_compiler::microkernel::P;
use kiln_compiler::microkernel::check::TileSpec;

/// What `dst` must hold, from the definition. Every intermediate value is a small integer, so no order of them matters.
pub fn after(spec: &TileSpec, memory: &[Vec<f32>]) -> Vec<f32> {
    let at = |p: P, byte: u64| memory[usize::from(p.0)][byte as usize / 4];
    let mut dst = memory[usize::from(spec.dst.param.0)].clone();
    for i in 0..spec.mr {
        for j in 0..spec.nr {
            let element = &mut dst[(i * spec.dst.row_stride / 4 + j) as usize];
            let product = |k| {
                let lhs = at(spec.lhs.param, i * spec.lhs.row_stride + k * spec.lhs.k_stride);
                lhs * at(spec.rhs.param, k * spec.rhs.k_stride + 4 * j)
            };
            let old = if spec.accumulate { *element } else { 0.0 };
            let sum = old + (0..spec.k).map(product).sum::<f32>() + spec.bias.map_or(0.0, |p| at(p, 4 * j));
            *element = if spec.relu && sum < 0.0 { 0.0 } else { sum };
        }
    }
    dst
}
