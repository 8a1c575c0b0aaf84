//! Operations that move elements.

use kiln_ir::func::{ElementType, Structured, Tensor, TensorOp, TensorType};

use super::cases::*;

/// Checks a line, and that it moves bytes of elements of every size.
fn moves(line: &str, operands: &[Tensor], expected: &Tensor) {
    check(line, operands, expected);
    for element in [ElementType::U8, ElementType::Bf16, ElementType::F32, ElementType::I64] {
        let cast = |t: &Tensor| match t.ty().element() {
            ElementType::F64 => tensor(element, t.ty().shape(), &t.to_f64()),
            _ => t.clone(),
        };
        check(line, &operands.iter().map(cast).collect::<Vec<_>>(), &cast(expected));
    }
}

#[test]
fn reshape_shares_the_elements() {
    let x = count(&[2, 3]);
    moves("reshape %a {shape=[3,2]}", std::slice::from_ref(&x), &count(&[3, 2]));
    moves("reshape %a {shape=[]}", &[count(&[1, 1])], &count(&[]));
    moves("reshape %a {shape=[0,7]}", &[f(&[3, 0], &[])], &f(&[0, 7], &[]));
    let reshaped = TensorOp::from(Structured::Reshape { shape: vec![6] }).apply(&[&x]).unwrap();
    assert_eq!(reshaped.data().as_ptr(), x.data().as_ptr());
    assert!(refused("reshape %a {shape=[4]}", &[x]).contains("6 elements"));
}

#[test]
fn transpose_orders_axes() {
    moves("transpose %a {perm=[1,0]}", &[count(&[2, 3])], &f(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    moves("transpose %a {perm=[2,0,1]}", &[count(&[2, 1, 2])], &f(&[2, 2, 1], &[1.0, 3.0, 2.0, 4.0]));
    moves("transpose %a {perm=[]}", &[count(&[])], &count(&[]));
    moves("transpose %a {perm=[1,0]}", &[f(&[2, 0], &[])], &f(&[0, 2], &[]));
    for perm in ["[0]", "[0,0]", "[0,2]", "[0,1,2]"] {
        assert!(refused(&format!("transpose %a {{perm={perm}}}"), &[count(&[2, 3])]).contains("once"));
    }
}

/// Every order of the axes of tensors larger than a block, by their definition.
#[test]
fn transposes_of_any_order() {
    let shape = [3u64, 37, 2, 70];
    let x: Vec<i32> = (0..shape.iter().product::<u64>() as i32).collect();
    let tensor = Tensor::from_elements(shape, x).unwrap();
    for order in 0..256u64 {
        let perm: Vec<u64> = (0..4).map(|i| order >> (2 * i) & 3).collect();
        if !(0..4).all(|axis| perm.contains(&axis)) {
            continue;
        }
        let result = TensorOp::from(Structured::Transpose { perm: perm.clone() }).apply(&[&tensor]).unwrap();
        let mut expected = vec![];
        let dims: Vec<u64> = perm.iter().map(|axis| shape[*axis as usize]).collect();
        let strides: Vec<u64> = perm.iter().map(|axis| shape[*axis as usize + 1..].iter().product()).collect();
        for a in 0..dims[0] {
            for b in 0..dims[1] {
                for c in 0..dims[2] {
                    let at = a * strides[0] + b * strides[1] + c * strides[2];
                    expected.extend((0..dims[3]).map(|d| (at + d * strides[3]) as i32));
                }
            }
        }
        assert_eq!(result.ty().shape(), dims);
        assert_eq!(result.elements::<i32>().unwrap()[..], expected[..], "{perm:?}");
    }
}

#[test]
fn broadcast_stretches() {
    moves("broadcast %a {shape=[2,3]}", &[f(&[2, 1], &[1.0, 2.0])], &f(&[2, 3], &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]));
    moves("broadcast %a {shape=[2,2]}", &[f(&[2], &[1.0, 2.0])], &f(&[2, 2], &[1.0, 2.0, 1.0, 2.0]));
    moves("broadcast %a {shape=[2,2]}", &[f(&[], &[7.0])], &f(&[2, 2], &[7.0; 4]));
    moves("broadcast %a {shape=[0,2]}", &[f(&[2], &[1.0, 2.0])], &f(&[0, 2], &[]));
    for shape in ["[3]", "[]", "[2,1]"] {
        assert!(refused(&format!("broadcast %a {{shape={shape}}}"), &[count(&[2])]).contains("broadcast"));
    }
}

#[test]
fn slices_step_both_ways() {
    let x = [count(&[3, 4])];
    moves("slice %a {starts=[1,0] steps=[1,1] counts=[2,2]}", &x, &f(&[2, 2], &[5.0, 6.0, 9.0, 10.0]));
    moves("slice %a {starts=[2,3] steps=[-2,-1] counts=[2,3]}", &x, &f(&[2, 3], &[12.0, 11.0, 10.0, 4.0, 3.0, 2.0]));
    moves("slice %a {starts=[0,1] steps=[1,2] counts=[3,2]}", &x, &f(&[3, 2], &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0]));
    moves("slice %a {starts=[1,2] steps=[0,0] counts=[2,1]}", &x, &f(&[2, 1], &[7.0, 7.0]));
    moves("slice %a {starts=[1,2] steps=[-9223372036854775808,5] counts=[1,1]}", &x, &f(&[1, 1], &[7.0]));
    moves("slice %a {starts=[9,9] steps=[1,1] counts=[0,0]}", &x, &f(&[0, 0], &[]));
    for counts in ["[3,1]", "[1,5]", "[18446744073709551615,1]"] {
        assert!(refused(&format!("slice %a {{starts=[1,0] steps=[1,1] counts={counts}}}"), &x).contains("counts="));
    }
}

#[test]
fn concat_joins() {
    let operands = [count(&[2, 1]), f(&[2, 2], &[7.0, 8.0, 9.0, 10.0]), f(&[2, 0], &[])];
    moves("concat %a, %b, %c {axis=1}", &operands, &f(&[2, 3], &[1.0, 7.0, 8.0, 2.0, 9.0, 10.0]));
    moves("concat %a, %a {axis=0}", &operands[..1], &f(&[4, 1], &[1.0, 2.0, 1.0, 2.0]));
    moves("concat %a {axis=1}", &operands[2..], &f(&[2, 0], &[]));
    assert!(refused("concat %a, %b {axis=0}", &operands[..2]).contains("operand 1 has shape [2, 2]: expected [2, 1]"));
    assert!(refused("concat %a, %b {axis=0}", &[count(&[2]), count(&[2, 1])]).contains("expected [2]"));
}

#[test]
fn pads_repeat_or_fill() {
    let x = [count(&[2, 3])];
    let pad = |mode: &str, before: &str, after: &str, value: &str| {
        format!("pad %a {{mode={mode} before={before} after={after} value={value}}}")
    };
    let rows = [[9.0; 4], [9.0, 1.0, 2.0, 3.0], [9.0, 4.0, 5.0, 6.0]].concat();
    moves(&pad("constant", "[1,1]", "[0,0]", "9"), &x, &f(&[3, 4], &rows));
    // From the documentation of Pad.
    let x = [f(&[3, 2], &[1.0, 1.2, 2.3, 3.4, 4.5, 5.7])];
    let reflected = [[1.0, 1.2, 1.0, 1.2], [2.3, 3.4, 2.3, 3.4], [4.5, 5.7, 4.5, 5.7]].concat();
    let edge = [[1.0, 1.0, 1.0, 1.2], [2.3, 2.3, 2.3, 3.4], [4.5, 4.5, 4.5, 5.7]].concat();
    check(&pad("wrap", "[0,2]", "[0,0]", "0"), &x, &f(&[3, 4], &reflected));
    check(&pad("edge", "[0,2]", "[0,0]", "0"), &x, &f(&[3, 4], &edge));
    let line = |mode: &str, values: &[f64]| {
        moves(&pad(mode, "[0,2]", "[0,1]", "0"), &[count(&[1, 3])], &f(&[1, 6], values));
    };
    line("reflect", &[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
    line("edge", &[1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
    line("wrap", &[2.0, 3.0, 1.0, 2.0, 3.0, 1.0]);
    let corners = [[4.0, 3.0, 4.0, 3.0], [2.0, 1.0, 2.0, 1.0], [4.0, 3.0, 4.0, 3.0], [2.0, 1.0, 2.0, 1.0]].concat();
    moves(&pad("reflect", "[1,1]", "[1,1]", "0"), &[count(&[2, 2])], &f(&[4, 4], &corners));
    moves(&pad("constant", "[1,0]", "[1,2]", "5"), &[f(&[0, 0], &[])], &f(&[2, 2], &[5.0; 4]));
    moves(&pad("edge", "[0,1]", "[0,0]", "0"), &[f(&[0, 1], &[])], &f(&[0, 2], &[]));
    for (mode, before) in [("reflect", "[0,3]"), ("wrap", "[0,4]"), ("wrap", "[0]")] {
        assert!(refused(&pad(mode, before, "[0,0]", "0"), &[count(&[2, 3])]).contains("before="));
    }
    assert!(refused(&pad("edge", "[1,0]", "[0,0]", "0"), &[f(&[0, 3], &[])]).contains("before="));
    let huge = pad("constant", "[18446744073709551615,0]", "[18446744073709551615,0]", "0");
    assert!(refused(&huge, &[count(&[2, 3])]).contains("too large"));
}

#[test]
fn gather_takes_slices() {
    let x = f(&[3, 2], &[1.0, 1.2, 2.3, 3.4, 4.5, 5.7]);
    // From the documentation of Gather.
    let rows = f(&[2, 2, 2], &[1.0, 1.2, 2.3, 3.4, 2.3, 3.4, 4.5, 5.7]);
    check("gather %a, %b {axis=0}", &[x.clone(), i(&[2, 2], &[0, 1, 1, 2])], &rows);
    let columns = f(&[3, 1], &[1.2, 3.4, 5.7]);
    check("gather %a, %b {axis=1}", &[x, i(&[1], &[-1])], &columns);
    moves("gather %a, %b {axis=0}", &[count(&[3]), i(&[2], &[-3, 2])], &f(&[2], &[1.0, 3.0]));
    for (x, outside) in [(count(&[3]), -4), (count(&[3]), 3), (count(&[3]), i64::MIN), (f(&[0, 2], &[]), 0)] {
        let gather = TensorOp::from(Structured::Gather { axis: 0 });
        let error = gather.apply(&[&x, &i(&[1], &[outside])]).unwrap_err().to_string();
        assert!(error.contains(&format!("index {outside} is outside")), "{error}");
    }
    moves("gather %a, %b {axis=0}", &[count(&[2]), i(&[0], &[])], &f(&[0], &[]));
    let narrow = tensor(ElementType::I32, &[], &[1.0]);
    moves("gather %a, %b {axis=0}", &[count(&[2]), narrow], &f(&[], &[2.0]));
    assert!(refused("gather %a, %a {axis=0}", &[count(&[2])]).contains("expected i64 or i32"));
}

#[test]
fn elements_move_byte_for_byte() {
    // A signalling NaN, whose bits arithmetic would change, not aligned, and an integer beyond double precision.
    let mut bytes = vec![0];
    bytes.extend([0x7fa0_0001u32, 0xffa0_0002].iter().flat_map(|v| v.to_ne_bytes()));
    let unaligned = bytes::Bytes::from(bytes).slice(1..);
    let x = Tensor::new(TensorType::new(ElementType::F32, [2]).unwrap(), unaligned).unwrap();
    let wide = i(&[2], &[(1 << 53) + 1, -1]);
    for (x, size) in [(x, 4), (wide, 8)] {
        let reversed = Structured::Slice { starts: vec![1], steps: vec![-1], counts: vec![2] };
        let moved = TensorOp::from(reversed).apply(&[&x]).unwrap();
        assert_eq!(moved.data()[..size], x.data()[size..]);
        assert_eq!(moved.data()[size..], x.data()[..size]);
    }
}
