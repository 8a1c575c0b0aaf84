//! Problems whose operands have strides, at random.

use kiln_ir::problem::Builder;
use kiln_ir::{Op, Operand, Problem, Role};

use crate::data::Random;

/// A problem like this one with other strides; `None` if none of a few that were tried has a kernel.
pub fn strided(problem: &Problem, random: &mut Random) -> Option<Problem> {
    (0..6).find_map(|_| {
        let mut builder = Builder::new(problem.op()).dtypes(problem.dtypes());
        builder = builder.epilogue(problem.epilogue().ops().iter().copied());
        if problem.accumulates() {
            builder = builder.accumulate();
        }
        builder = problem.fpmath().into_iter().fold(builder, Builder::math);
        let is_convolution = matches!(problem.op(), Op::Convolution(_));
        for o in problem.operands().iter().filter(|o| !matches!(o.role, Role::Post(_))) {
            let stays = random.below(4) == 0 || (is_convolution && o.role == Role::Rhs);
            builder = match stays {
                true => builder.tag(o.role, &o.layout.tag().to_string()),
                false => builder.strides(o.role, &random_strides(o, is_convolution, random)),
            };
        }
        builder.build().ok().filter(|made| made.operands().iter().any(|o| !o.is_dense()))
    })
}

/// Strides in the order that the operand's dimensions have in memory.
fn random_strides(o: &Operand, is_convolution: bool, random: &mut Random) -> Vec<u64> {
    let is_result = o.role == Role::Dst;
    let mut strides = vec![0; o.shape.len()];
    // Of a result, mostly vectors are written.
    let mut next = if random.below(if is_result { 16 } else { 4 }) == 0 { 2 + random.below(3) } else { 1 };
    let overlaps = !is_result && random.below(8) == 0;
    let mut order: Vec<usize> = o.layout.tag().order().collect();
    if !is_result && random.below(4) == 0 {
        // Dimensions in any order: those of sums and pixels too.
        (1..order.len()).rev().for_each(|i| order.swap(i, random.below(i as u64 + 1) as usize));
    }
    let innermost_pixel = order.iter().rev().find(|d| **d >= 2).copied();
    for d in order.into_iter().rev() {
        // The pixels of a convolution's result are evenly apart.
        let is_line = is_convolution && is_result && d >= 2 && Some(d) != innermost_pixel;
        if !is_line && random.below(2) == 0 {
            next += random.below(12);
        }
        strides[d] = next;
        next = if overlaps { 1 + random.below(9) } else { next * o.shape[d] };
    }
    strides
}
