//! Pools.

use kiln_ir::func::{ElementType, Structured, Tensor, TensorOp};

use super::cases::*;

/// Settings of windows: kernel, strides, pads, dilations and number.
type Windows<'a> = [&'a str; 5];

fn pool(kind: &str, p: u64, windows: Windows<'_>, x: &Tensor, expected: &Tensor) {
    let [kernel, strides, pads, dilations, out] = windows;
    let line = |last: bool| {
        format!(
            "pool %a {{kind={kind} p={p} kernel={kernel} strides={strides} pads={pads} dilations={dilations} out={out} \
             channels_last={last}}}"
        )
    };
    check(&line(false), std::slice::from_ref(x), expected);
    let last = |t: &Tensor| {
        let perm = [0].into_iter().chain(2..t.ty().rank() as u64).chain([1]).collect();
        TensorOp::from(Structured::Transpose { perm }).apply(&[t]).unwrap()
    };
    check(&line(true), &[last(x)], &last(expected));
}

fn indices(windows: Windows<'_>, column_major: bool, x: &Tensor, expected: &Tensor) {
    let [kernel, strides, pads, dilations, out] = windows;
    let settings = format!("kernel={kernel} strides={strides} pads={pads} dilations={dilations} out={out}");
    check(
        &format!("max_pool_indices %a {{{settings} column_major={column_major}}}"),
        std::slice::from_ref(x),
        expected,
    );
}

#[test]
fn pools_of_the_onnx_documentation() {
    let x = count(&[1, 1, 5, 5]);
    let around = ["[5,5]", "[1,1]", "[2,2,2,2]", "[1,1]", "[5,5]"];
    let of = |rows: [[f64; 5]; 5]| f(&[1, 1, 5, 5], &rows.concat());
    let greatest = [13.0, 18.0, 23.0, 23.0, 23.0].map(|v| [v, v + 1.0, v + 2.0, v + 2.0, v + 2.0]);
    pool("max", 0, around, &x, &of(greatest));
    let places = greatest.concat().iter().map(|v| *v as i64 - 1).collect::<Vec<_>>();
    indices(around, false, &x, &i(&[1, 1, 5, 5], &places));
    let mean = [7.0, 9.5, 12.0, 14.5, 17.0].map(|v| [v, v + 0.5, v + 1.0, v + 1.5, v + 2.0]);
    pool("average", 0, around, &x, &of(mean));
    let padded = [
        [2.52, 3.6, 4.8, 4.08, 3.24],
        [4.56, 6.4, 8.4, 7.04, 5.52],
        [7.2, 10.0, 13.0, 10.8, 8.4],
        [6.96, 9.6, 12.4, 10.24, 7.92],
        [6.12, 8.4, 10.8, 8.88, 6.84],
    ];
    pool("average_padded", 0, around, &x, &of(padded));
    let halves = ["[2,2]", "[2,2]", "[0,0,0,0]", "[1,1]", "[2,2]"];
    pool("max", 0, halves, &x, &f(&[1, 1, 2, 2], &[7.0, 9.0, 17.0, 19.0]));
    pool("average", 0, halves, &x, &f(&[1, 1, 2, 2], &[4.0, 6.0, 14.0, 16.0]));
    indices(halves, true, &x, &i(&[1, 1, 2, 2], &[6, 16, 8, 18]));
    // Of `ceil_mode`: the last windows reach beyond the image.
    let x = count(&[1, 1, 4, 4]);
    let beyond = ["[3,3]", "[2,2]", "[0,0,0,0]", "[1,1]", "[2,2]"];
    pool("max", 0, beyond, &x, &f(&[1, 1, 2, 2], &[11.0, 12.0, 15.0, 16.0]));
    pool("average", 0, beyond, &x, &f(&[1, 1, 2, 2], &[6.0, 7.5, 12.0, 13.5]));
    pool("average_padded", 0, beyond, &x, &f(&[1, 1, 2, 2], &[6.0, 7.5, 12.0, 13.5]));
    let dilated = ["[2,2]", "[1,1]", "[0,0,0,0]", "[2,2]", "[2,2]"];
    pool("max", 0, dilated, &x, &f(&[1, 1, 2, 2], &[11.0, 12.0, 15.0, 16.0]));
}

#[test]
fn pools_by_hand() {
    let line = |kernel, strides, pads, out| [kernel, strides, pads, "[1]", out];
    let x = f(&[1, 2, 3], &[1.0, -2.0, 3.0, -4.0, 5.0, NAN]);
    let pairs = line("[2]", "[1]", "[0,0]", "[2]");
    pool("max", 0, pairs, &x, &f(&[1, 2, 2], &[1.0, 3.0, 5.0, NAN]));
    indices(pairs, false, &x, &i(&[1, 2, 2], &[0, 2, 4, 5]));
    indices(pairs, false, &f(&[1, 1, 3], &[2.0, 2.0, -INF]), &i(&[1, 1, 2], &[0, 1]));
    pool("lp", 1, pairs, &x, &f(&[1, 2, 2], &[3.0, 5.0, 9.0, NAN]));
    pool("lp", 2, pairs, &x, &f(&[1, 2, 2], &[5f64.sqrt(), 13f64.sqrt(), 41f64.sqrt(), NAN]));
    pool("lp", 3, line("[1]", "[1]", "[0,0]", "[3]"), &count(&[1, 1, 3]), &count(&[1, 1, 3]));
    // Beyond the padding there is nothing to count.
    let x = count(&[1, 1, 3]);
    pool("average_padded", 0, line("[2]", "[2]", "[0,0]", "[2]"), &x, &f(&[1, 1, 2], &[1.5, 3.0]));
    pool("average_padded", 0, line("[2]", "[2]", "[0,1]", "[2]"), &x, &f(&[1, 1, 2], &[1.5, 1.5]));
    pool("average_padded", 0, line("[3]", "[2]", "[0,1]", "[2]"), &x, &f(&[1, 1, 2], &[2.0, 1.5]));
    // Windows of padding alone, and of nothing.
    let empty = line("[1]", "[1]", "[1,1]", "[3]");
    let one = f(&[1, 1, 1], &[7.0]);
    pool("max", 0, empty, &one, &f(&[1, 1, 3], &[-INF, 7.0, -INF]));
    pool("average", 0, empty, &one, &f(&[1, 1, 3], &[0.0, 7.0, 0.0]));
    pool("average_padded", 0, empty, &one, &f(&[1, 1, 3], &[0.0, 7.0, 0.0]));
    indices(empty, false, &one, &i(&[1, 1, 3], &[-1, 0, -1]));
    let bytes = tensor(ElementType::I8, &[1, 1, 1], &[7.0]);
    pool("max", 0, empty, &bytes, &tensor(ElementType::I8, &[1, 1, 3], &[-128.0, 7.0, -128.0]));
    pool("max", 0, line("[1]", "[1]", "[1,1]", "[2]"), &f(&[1, 1, 0], &[]), &f(&[1, 1, 2], &[-INF; 2]));
    pool("max", 0, pairs, &f(&[0, 2, 3], &[]), &f(&[0, 2, 2], &[]));
    pool("max", 0, pairs, &f(&[2, 0, 3], &[]), &f(&[2, 0, 2], &[]));
    // Three axes, and a kernel far larger than the image.
    let x = count(&[1, 1, 2, 2, 2]);
    let most = format!("[{0},{0},{0}]", u64::MAX);
    let all = [most.as_str(), most.as_str(), "[0,0,0,0,0,0]", "[1,1,1]", "[1,1,1]"];
    pool("max", 0, all, &x, &f(&[1, 1, 1, 1, 1], &[8.0]));
    pool("average", 0, all, &x, &f(&[1, 1, 1, 1, 1], &[4.5]));
    pool("average_padded", 0, all, &x, &f(&[1, 1, 1, 1, 1], &[4.5]));
    let apart = ["[2,2,2]", "[1,1,1]", "[0,0,0,0,0,0]", most.as_str(), "[1,1,1]"];
    pool("max", 0, apart, &x, &f(&[1, 1, 1, 1, 1], &[1.0]));
}

#[test]
fn pools_check_their_settings() {
    let line = |kind: &str, windows: Windows<'_>| {
        let [kernel, strides, pads, dilations, out] = windows;
        format!(
            "pool %a {{kind={kind} p=0 kernel={kernel} strides={strides} pads={pads} dilations={dilations} out={out} \
             channels_last=false}}"
        )
    };
    let x = [count(&[1, 1, 3])];
    for (line, why) in [
        (line("lp", ["[1]", "[1]", "[0,0]", "[1]", "[1]"]), "p=0"),
        (line("max", ["[0]", "[1]", "[0,0]", "[1]", "[1]"]), "kernel"),
        (line("max", ["[1]", "[0]", "[0,0]", "[1]", "[1]"]), "strides"),
        (line("max", ["[1]", "[1]", "[0]", "[1]", "[1]"]), "pads"),
        (line("max", ["[1]", "[1]", "[0,0]", "[0]", "[1]"]), "dilations"),
        (line("max", ["[1]", "[1]", "[0,0]", "[1]", "[0]"]), "out"),
        (line("max", ["[1]", "[1]", "[0,0]", "[1]", "[4]"]), "begin on the padded image"),
        (line("max", ["[1]", "[1]", "[18446744073709551615,0]", "[1]", "[18446744073709551615]"]), "too large"),
        (line("median", ["[1]", "[1]", "[0,0]", "[1]", "[1]"]), "expected `max`"),
    ] {
        let e = refused(&line, &x);
        assert!(e.contains(why), "{line}: {e}");
    }
    let everywhere = ["[1048576]", "[1]", "[0,0]", "[1]", "[1048576]"];
    let large = Tensor::from_elements([1, 1, 1 << 20], vec![0f32; 1 << 20]).unwrap();
    assert!(refused(&line("max", everywhere), &[large]).contains("see at most"));
    assert!(refused(&line("max", everywhere), &[b(&[1, 1, 1], &[1])]).contains("numbers"));
}
