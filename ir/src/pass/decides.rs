//! Which values decide about integers and choices, so that the last bit of one may make another result.

use crate::func::{Binary, Def, Func, ReduceKind, Structured, TensorOp, Unary};

/// For each value, whether an integer, a comparison or an index is made of it element by element: rounded to a whole number, as
/// quantization does, or compared. What softmax, norms, and sums of many elements are made of decides nothing by its last bit.
pub(super) fn decides(func: &Func) -> Vec<bool> {
    let mut decides = vec![false; func.values().len()];
    for (id, value) in func.values().rev() {
        let Def::Result { op, operands } = &value.def else { continue };
        let is_decided = match effect(op) {
            Effect::Decides => true,
            Effect::Passes => decides[id.index()],
            Effect::Blurs => false,
        };
        if is_decided {
            operands.iter().for_each(|operand| decides[operand.index()] = true);
        }
    }
    decides
}

/// What an operation makes of a small difference in its operands.
enum Effect {
    /// A whole step, perhaps. Operations that are not known here are such.
    Decides,
    /// A small difference.
    Passes,
    /// Less than it makes by itself.
    Blurs,
}

fn effect(op: &TensorOp) -> Effect {
    use Effect::{Blurs, Decides, Passes};
    match op {
        TensorOp::Unary(Unary::Floor {} | Unary::Ceil {} | Unary::Round {} | Unary::Sign {} | Unary::Not {}) => Decides,
        TensorOp::Unary(_) => Passes,
        TensorOp::Binary(op) => match op {
            Binary::Add {} | Binary::Sub {} | Binary::Mul {} | Binary::Div {} | Binary::Pow {} => Passes,
            Binary::Max {} | Binary::Min {} | Binary::PRelu {} => Passes,
            _ => Decides,
        },
        TensorOp::Structured(op) => match op {
            Structured::Cast { to } if to.is_float() => Passes,
            Structured::Where {}
            | Structured::Reshape { .. }
            | Structured::Transpose { .. }
            | Structured::Broadcast { .. }
            | Structured::Slice { .. }
            | Structured::Concat { .. }
            | Structured::Pad { .. }
            | Structured::Gather { .. } => Passes,
            Structured::Reduce { kind: ReduceKind::Max | ReduceKind::Min, .. } => Passes,
            Structured::Matmul {}
            | Structured::Conv { .. }
            | Structured::ConvTranspose { .. }
            | Structured::ColumnsToImage { .. }
            | Structured::Kernel { .. }
            | Structured::Reduce { .. }
            | Structured::Pool { .. }
            | Structured::Softmax { .. }
            | Structured::MaskedSoftmax { .. }
            | Structured::LogSoftmax { .. }
            | Structured::LayerNorm { .. }
            | Structured::RmsNorm { .. }
            | Structured::BatchNorm { .. }
            | Structured::Lrn { .. } => Blurs,
            _ => Decides,
        },
        TensorOp::Control(_) => Decides,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rounded_or_compared_decides() {
        let func: Func = "func @f(%x: f32[2], %m: f32[2x2]) -> u8[2], f32[2], bool[2] {
            %d = div %x, %x
            %a = add %d, %x
            %r = round %a
            %q = cast %r {to=u8}
            %e = exp %x
            %s = softmax %e {axis=0}
            %g = mul %x, %x
            %c = less %g, %s
            return %q, %s, %c
        }"
        .parse()
        .unwrap();
        let decides = decides(&func);
        let names = |wanted: bool| {
            func.values()
                .filter(|(id, _)| decides[id.index()] == wanted)
                .map(|(_, v)| v.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["x", "d", "a", "r", "s", "g"]);
        assert_eq!(names(false), ["m", "q", "e", "c"]);
    }
}
