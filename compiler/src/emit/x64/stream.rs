//! Streams: operands that a loop reads from one end to the other, as packed weights are.
//!
//! Weights of a network come from memory, or from the last cache, once for each call, and the first tile that reads a panel would
//! wait for all of it: no hardware prefetcher is far enough ahead, and none goes on at the next page. Loads that have execution
//! ports to spare prefetch what is read later into the second cache, which holds it until then. A prefetch changes nothing and
//! fails nowhere, wherever it points.

use kiln_ir::DType;

use crate::microkernel::{Inst, MicroKernel, Op, P};

/// Bytes of a cache line.
pub(super) const LINE: i64 = 64;

/// The parameters that a loop reads element after element, if prefetching all of them takes no port from multiply-adds: there are
/// as many ports for loads and prefetches as for those.
pub(super) fn streams(mk: &MicroKernel, body: &[Inst]) -> Vec<P> {
    let count = |of: fn(&Op) -> bool| body.iter().filter(|i| of(&i.op)).count();
    let multiply_adds = count(|op| matches!(op, Op::Fma { .. }));
    let loads = count(|op| matches!(op, Op::Load { .. } | Op::LoadLanes { .. } | Op::Broadcast { .. }));
    let is_stream = |param: P| {
        let (mut step, mut bytes) = (0, 0);
        for inst in body {
            if let Op::Load { src, lanes, .. } = inst.op
                && src.param == param
            {
                (step, bytes) = (src.step, bytes + 4 * i64::from(lanes));
            }
        }
        step > 0 && step == bytes
    };
    let is_f32 = |param: P| mk.params[usize::from(param.0)].dtype == DType::F32;
    let all = (0..mk.params.len()).filter_map(|at| u8::try_from(at).ok().map(P));
    let streams: Vec<P> = all.filter(|param| is_f32(*param) && is_stream(*param)).collect();
    let starts_line = |op| matches!(op, Op::Load { src, .. } if streams.contains(&src.param) && src.offset % LINE == 0);
    let lines = body.iter().filter(|i| starts_line(i.op));
    if loads + lines.count() <= multiply_adds { streams } else { vec![] }
}
