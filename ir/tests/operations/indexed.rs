//! Operations that read or merge at places that indices name, and those that sample images. Expectations are from the ONNX
//! documentation, NumPy or worked out by hand.

use kiln_ir::func::{ElementType, Structured, Tensor, TensorOp, TensorType};

use super::cases::*;

#[test]
fn elements_are_gathered_along_an_axis() {
    let x = f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    check(
        "gather_elements %a, %b {axis=1}",
        &[x.clone(), i(&[2, 2], &[0, 0, 1, 0])],
        &f(&[2, 2], &[1.0, 1.0, 4.0, 3.0]),
    );
    check("gather_elements %a, %b {axis=0}", &[x.clone(), i(&[1, 2], &[-1, 0])], &f(&[1, 2], &[3.0, 2.0]));
    assert!(refused("gather_elements %a, %b {axis=1}", &[x.clone(), i(&[3, 2], &[0; 6])]).contains("expected [2, 2]"));
    assert!(refused("gather_elements %a, %a {axis=1}", &[x]).contains("i64 or i32"));
}

#[test]
fn slices_are_gathered_by_coordinates() {
    let x = f(&[2, 2], &[0.0, 1.0, 2.0, 3.0]);
    check("gather_nd %a, %b {batch=0}", &[x.clone(), i(&[2, 2], &[0, 0, 1, 1])], &f(&[2], &[0.0, 3.0]));
    check("gather_nd %a, %b {batch=0}", &[x.clone(), i(&[2, 1], &[1, 0])], &f(&[2, 2], &[2.0, 3.0, 0.0, 1.0]));
    let x3 = f(&[2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    check("gather_nd %a, %b {batch=1}", &[x3.clone(), i(&[2, 1], &[1, 0])], &f(&[2, 2], &[2.0, 3.0, 4.0, 5.0]));
    check("gather_nd %a, %b {batch=0}", &[x3.clone(), i(&[1, 3], &[-1, 0, -1])], &f(&[1], &[5.0]));
    assert!(refused("gather_nd %a, %b {batch=0}", &[x.clone(), i(&[1, 3], &[0; 3])]).contains("1 to 2 coordinates"));
    assert!(refused("gather_nd %a, %b {batch=0}", &[x, i(&[], &[0])]).contains("rank 1 or more"));
}

#[test]
fn elements_merge_where_indices_say() {
    let x = f(&[1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let (indices, updates) = (i(&[1, 3], &[1, 1, -2]), f(&[1, 3], &[1.1, 2.1, 10.0]));
    for (merge, expected) in [
        ("replace", [1.0, 2.1, 3.0, 10.0, 5.0]),
        ("add", [1.0, 5.2, 3.0, 14.0, 5.0]),
        ("mul", [1.0, 4.62, 3.0, 40.0, 5.0]),
        ("max", [1.0, 2.1, 3.0, 10.0, 5.0]),
        ("min", [1.0, 1.1, 3.0, 4.0, 5.0]),
    ] {
        let line = format!("scatter_elements %a, %b, %c {{axis=1 merge={merge}}}");
        check(&line, &[x.clone(), indices.clone(), updates.clone()], &f(&[1, 5], &expected));
        let line = format!("scatter_nd %a, %b, %c {{merge={merge}}}");
        let rows = [x.reshaped([5]).unwrap(), indices.reshaped([3, 1]).unwrap(), updates.reshaped([3]).unwrap()];
        check(&line, &rows, &f(&[5], &expected));
    }
    let bools = [b(&[2], &[0, 1]), i(&[1], &[0]), b(&[1], &[1])];
    check("scatter_elements %a, %b, %c {axis=0 merge=replace}", &bools, &b(&[2], &[1, 1]));
    assert!(refused("scatter_elements %a, %b, %c {axis=0 merge=add}", &bools).contains("numbers"));
}

#[test]
fn indices_outside_are_errors() {
    let x = f(&[2, 3], &[0.0; 6]);
    let outside = |op: Structured, indices: Tensor, updates: Option<Tensor>| {
        let operands: Vec<&Tensor> = [Some(&x), Some(&indices), updates.as_ref()].into_iter().flatten().collect();
        TensorOp::from(op).apply(&operands).unwrap_err().to_string()
    };
    use kiln_ir::func::Merge::Replace;
    let e = outside(Structured::GatherElements { axis: 1 }, i(&[2, 1], &[2, 3]), None);
    assert!(e.contains("index 3 is outside of the 3"), "{e}");
    let e = outside(Structured::GatherNd { batch: 0 }, i(&[1, 2], &[1, -4]), None);
    assert!(e.contains("index -4 is outside of the 3"), "{e}");
    // The element that the coordinates would have in the whole tensor is one of it.
    let e = outside(Structured::ScatterNd { merge: Replace }, i(&[1, 2], &[0, 4]), Some(f(&[1], &[1.0])));
    assert!(e.contains("index 4 is outside of the 3"), "{e}");
    let op = Structured::ScatterElements { axis: 0, merge: Replace };
    let e = outside(op, i(&[1, 3], &[0, i64::MIN, 0]), Some(f(&[1, 3], &[1.0; 3])));
    assert!(e.contains("is outside of the 2"), "{e}");
    let images = f(&[1, 1, 2, 2], &[1.0; 4]);
    let (regions, which) = (f(&[1, 4], &[0.0; 4]), i(&[1], &[-1]));
    let op = Structured::RoiAlign { rows: 1, columns: 1, samples: 1, scale: 1.0.into(), max: false, half_pixel: true };
    let e = TensorOp::from(op).apply(&[&images, &regions, &which]).unwrap_err().to_string();
    assert!(e.contains("index -1 is outside of the 1"), "{e}");
}

#[test]
fn the_first_of_a_sorted_axis() {
    let x = f(&[2, 4], &[1.0, 3.0, NAN, 3.0, -1.0, -5.0, 0.0, -5.0]);
    check("top_k %a {k=3 axis=1 largest=true}", std::slice::from_ref(&x), &i(&[2, 3], &[2, 1, 3, 2, 0, 1]));
    check("top_k %a {k=2 axis=1 largest=false}", std::slice::from_ref(&x), &i(&[2, 2], &[0, 1, 1, 3]));
    check("top_k %a {k=1 axis=0 largest=true}", std::slice::from_ref(&x), &i(&[1, 4], &[0, 0, 0, 0]));
    check("top_k %a {k=0 axis=1 largest=true}", std::slice::from_ref(&x), &i(&[2, 0], &[]));
    assert!(refused("top_k %a {k=5 axis=1 largest=true}", &[x]).contains("at most the 4"));
}

#[test]
fn images_are_sampled() {
    // The example of the documentation of GridSample, rounded there to four places.
    let x = f(&[1, 1, 4, 4], &(0..16).map(f64::from).collect::<Vec<_>>());
    let coordinates: Vec<f64> =
        (0..6).flat_map(|y| (0..6).flat_map(move |x| [-1.0 + 0.4 * f64::from(x), -1.0 + 0.4 * f64::from(y)])).collect();
    let expected = [
        [0.0, 0.15, 0.55, 0.95, 1.35, 0.75],
        [0.6, 1.5, 2.3, 3.1, 3.9, 2.1],
        [2.2, 4.7, 5.5, 6.3, 7.1, 3.7],
        [3.8, 7.9, 8.7, 9.5, 10.3, 5.3],
        [5.4, 11.1, 11.9, 12.7, 13.5, 6.9],
        [3.0, 6.15, 6.55, 6.95, 7.35, 3.75],
    ];
    let operands = [x, f(&[1, 6, 6, 2], &coordinates)];
    let line = "grid_sample %a, %b {sampling=linear outside=zeros align_corners=false}";
    check_to(1e-12, line, &operands, &f(&[1, 1, 6, 6], &expected.concat()));
    // At the centres of pixels each sampling is the pixel, in three dimensions too.
    let volume = [count(&[1, 1, 2, 1, 3]), f(&[1, 1, 1, 2, 3], &[-1.0, 0.0, 1.0, 1.0, 0.0, -1.0])];
    for sampling in ["nearest", "linear", "cubic"] {
        let line = format!("grid_sample %a, %b {{sampling={sampling} outside=border align_corners=true}}");
        check(&line, &volume, &f(&[1, 1, 1, 1, 2], &[4.0, 3.0]));
    }
    assert!(refused(line, &[count(&[1, 1, 2, 2]), count(&[1, 2, 2, 3])]).contains("expected [1, 2, 2, 2]"));
}

#[test]
fn regions_are_means_of_samples() {
    let ramp = f(&[1, 1, 4, 4], &(0..16).map(f64::from).collect::<Vec<_>>());
    let operands = [ramp, f(&[2, 4], &[0.5, 0.5, 2.5, 2.5, -10.0, -10.0, -8.0, -8.0]), i(&[2], &[0, 0])];
    // A linear image's mean is its value at the middle; what is outside is 0.
    let line = "roi_align %a, %b, %c {rows=1 columns=2 samples=2 scale=1 max=false half_pixel=true}";
    check(line, &operands, &f(&[2, 1, 1, 2], &[4.5, 5.5, 0.0, 0.0]));
    let line = "roi_align %a, %b, %c {rows=1 columns=1 samples=0 scale=1 max=true half_pixel=true}";
    // Samples lie at halves, so that a product has a quarter of a pixel, the greatest of which is 10.
    check(line, &operands, &f(&[2, 1, 1, 1], &[2.5, 0.0]));
    // Regions without an end, with a corner that is no number, far larger than the image, as small as can be, and reversed.
    const TINY: f64 = 1.0 / (1 << 20) as f64;
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    // The value in the middle of the small one.
    let middle = 5.0 * (1.0 + TINY / 2.0);
    let regions = [[-inf, -inf, inf, inf], [0.5, 0.5, inf, 2.5], [0.5, nan, 2.5, 2.5], [-1e30, -1e30, 1e30, 1e30]];
    let small = [[1.5, 1.5, 1.5 + TINY, 1.5 + TINY], [2.5, 2.5, 0.5, 0.5]];
    let all: Vec<f64> = regions.iter().chain(&small).flatten().copied().collect();
    let [ramp, ..] = operands;
    let operands = [ramp, f(&[6, 4], &all), i(&[6], &[0; 6])];
    for (samples, expected) in [(0, [0.0, 0.0, 0.0, 0.0, middle, 0.0]), (2, [0.0, 0.0, 0.0, 0.0, middle, 5.0])] {
        let line =
            format!("roi_align %a, %b, %c {{rows=1 columns=1 samples={samples} scale=1 max=false half_pixel=true}}");
        check(&line, &operands, &f(&[6, 1, 1, 1], &expected));
    }
    let line = "roi_align %a, %b, %c {rows=1 columns=1 samples=257 scale=1 max=false half_pixel=true}";
    assert!(refused(line, &operands).contains("at most 256"));
}

#[test]
fn determinants() {
    let x = f(&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 0.0, 2.0, 2.0, 0.0]);
    check("det %a", &[x], &f(&[2], &[-2.0, -4.0]));
    check("det %a", &[f(&[3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])], &f(&[], &[0.0]));
    check("det %a", &[f(&[2, 0, 0], &[])], &f(&[2], &[1.0, 1.0]));
    assert!(refused("det %a", &[count(&[2, 3])]).contains("expected [3, 3]"));
}

#[test]
fn bits_are_others() {
    let one = tensor(ElementType::F32, &[2], &[1.0, -2.0]);
    check("bit_cast %a {to=u32}", &[one], &tensor(ElementType::U32, &[2], &[f64::from(0x3f80_0000), 3_221_225_472.0]));
    let x = i(&[3], &[1, -1, (1 << 62) + 1]);
    let cast = TensorOp::from(Structured::BitCast { to: ElementType::U64 }).apply(&[&x]).unwrap();
    assert_eq!(cast.elements::<u64>().unwrap()[..], [1, u64::MAX, (1 << 62) + 1]);
    assert!(refused("bit_cast %a {to=f32}", std::slice::from_ref(&x)).contains("8 bytes"));
    let bytes = tensor(ElementType::U8, &[1], &[7.0]);
    assert!(refused("bit_cast %a {to=bool}", &[bytes]).contains("numbers"));
}

/// Integers that double precision has not.
#[test]
fn integers_of_64_bits_are_exact() {
    let big = (1i64 << 53) + 1;
    let apply = |line: &str, operands: &[Tensor], expected: &[i64]| {
        let ty = TensorType::new(ElementType::I64, [expected.len() as u64]).unwrap();
        let func = func(line, operands, &ty);
        let applied = op(&func).apply(&operands.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(applied.elements::<i64>().unwrap()[..], expected[..], "{line}");
    };
    let [x, y] = [i(&[2], &[big, i64::MAX]), i(&[2], &[2, 1])];
    let both = [x.clone(), y];
    apply("add %a, %b", &both, &[big + 2, i64::MIN]);
    apply("sub %a, %b", &both, &[big - 2, i64::MAX - 1]);
    apply("mul %a, %b", &both, &[2 * big, i64::MAX]);
    apply("div %a, %b", &both, &[big / 2, i64::MAX]);
    apply("rem %a, %b", &both, &[1, 0]);
    apply("max %a, %b", &both, &[big, i64::MAX]);
    apply("bit_xor %a, %b", &both, &[big ^ 2, i64::MAX ^ 1]);
    apply("shift_left %a, %b", &both, &[big << 2, -2]);
    apply("shift_right %a, %b", &both, &[big >> 2, i64::MAX >> 1]);
    apply("bit_not %a", &both[..1], &[!big, i64::MIN]);
    apply("neg %a", &both[..1], &[-big, -i64::MAX]);
    apply("clamp %a {low=-inf high=inf}", &both[..1], &[big, i64::MAX]);
    apply("cumsum %a {axis=0 exclusive=true reverse=false}", &both[..1], &[0, big]);
    apply("cumprod %a {axis=0 exclusive=false reverse=false}", &[i(&[2], &[big, 3])], &[big, 3 * big]);
    apply("reduce %a {kind=max axes=[0] keep=true}", &[i(&[2], &[big, big - 1])], &[big]);
    apply("reduce %a {kind=sum axes=[0] keep=true}", &[i(&[2], &[big, big])], &[2 * big]);
    apply("where %a, %b, %c", &[b(&[2], &[1, 0]), x.clone(), i(&[2], &[0, -big])], &[big, -big]);
    apply("reduce %a {kind=mean axes=[0] keep=true}", &[i(&[2], &[big, big])], &[big]);
    apply("arg_reduce %a {max=true axis=0 keep=true last=false}", &[i(&[2], &[big - 1, big])], &[1]);
    apply("arg_reduce %a {max=false axis=0 keep=true last=false}", &[i(&[2], &[big, big - 1])], &[1]);
    apply("top_k %a {k=1 axis=0 largest=true}", &[i(&[2], &[i64::MAX - 1, i64::MAX])], &[1]);
    apply("cast %a {to=i64}", &[Tensor::from_elements([1], vec![big as u64]).unwrap()], &[big]);
    let nothing = TensorOp::from(Structured::Matmul {}).apply(&[&i(&[2, 0], &[]), &i(&[0, 3], &[])]).unwrap();
    assert_eq!((nothing.ty().shape(), nothing.to_f64()), (&[2, 3][..], vec![0.0; 6]));
    let [a, b] = [i(&[1, 2], &[big, 1]), i(&[2, 1], &[1, 2])];
    let product = TensorOp::from(Structured::Matmul {}).apply(&[&a, &b]).unwrap();
    assert_eq!(product.elements::<i64>().unwrap()[..], [big + 2]);
    let narrow = tensor(ElementType::I8, &[2], &[-1.0, -128.0]);
    let cast = TensorOp::from(Structured::Cast { to: ElementType::U64 }).apply(&[&narrow]).unwrap();
    assert_eq!(cast.elements::<u64>().unwrap()[..], [u64::MAX, u64::MAX - 127]);
    // Rounded once, to the nearest: a double between would be half way.
    for (value, to, expected) in [
        ((1 << 62) + (1 << 38) + 1, ElementType::F32, (1i64 << 62) as f64 + (1i64 << 39) as f64),
        (-((1 << 62) + (1 << 38) + 1), ElementType::F32, -((1i64 << 62) as f64 + (1i64 << 39) as f64)),
        ((1 << 62) + (1 << 38), ElementType::F32, (1i64 << 62) as f64),
        ((1 << 62) + (1 << 54) + 1, ElementType::Bf16, (1i64 << 62) as f64 + (1i64 << 55) as f64),
        (big, ElementType::F64, (1i64 << 53) as f64),
    ] {
        let cast = TensorOp::from(Structured::Cast { to }).apply(&[&i(&[1], &[value])]).unwrap();
        assert_eq!(cast.to_f64(), [expected], "{value} as {to}");
    }
    let equal =
        TensorOp::from(kiln_ir::func::Binary::Equal {}).apply(&[&i(&[1], &[big]), &i(&[1], &[big - 1])]).unwrap();
    assert_eq!(equal.to_f64(), [0.0]);
    let updates = [x, i(&[2], &[0, 0]), i(&[2], &[1, 1])];
    apply("scatter_elements %a, %b, %c {axis=0 merge=add}", &updates, &[big + 2, i64::MAX]);
}

#[test]
fn bits_of_narrow_integers() {
    let u8s = |values: &[f64]| tensor(ElementType::U8, &[values.len() as u64], values);
    let i8s = |values: &[f64]| tensor(ElementType::I8, &[values.len() as u64], values);
    check("bit_and %a, %b", &[u8s(&[12.0, 255.0]), u8s(&[10.0, 128.0])], &u8s(&[8.0, 128.0]));
    check("bit_or %a, %b", &[i8s(&[-128.0, 1.0]), i8s(&[1.0, 2.0])], &i8s(&[-127.0, 3.0]));
    check("bit_xor %a, %b", &[i8s(&[-1.0]), i8s(&[1.0])], &i8s(&[-2.0]));
    check("bit_not %a", &[u8s(&[0.0, 5.0])], &u8s(&[255.0, 250.0]));
    check("bit_not %a", &[i8s(&[0.0, 127.0])], &i8s(&[-1.0, -128.0]));
    check("shift_left %a, %b", &[u8s(&[1.0, 255.0, 1.0]), u8s(&[7.0, 1.0, 8.0])], &u8s(&[128.0, 254.0, 0.0]));
    check("shift_left %a, %b", &[i8s(&[64.0, 1.0]), i8s(&[1.0, -1.0])], &i8s(&[-128.0, 0.0]));
    check("shift_right %a, %b", &[i8s(&[-3.0, -1.0, 3.0]), i8s(&[1.0, 100.0, -1.0])], &i8s(&[-2.0, -1.0, 0.0]));
    assert!(refused("bit_not %a", &[f(&[1], &[1.0])]).contains("integers"));
    assert!(refused("bit_and %a, %a", &[b(&[1], &[1])]).contains("integers"));
}

#[test]
fn trigonometry() {
    let x = f(&[4], &[-0.75, 0.0, 1e-9, 0.5]);
    let check_f = |word: &str, f_of: fn(f64) -> f64| {
        let values: Vec<f64> = x.to_f64().into_iter().map(f_of).collect();
        check_to(1e-15, &format!("{word} %a"), std::slice::from_ref(&x), &f(&[4], &values));
    };
    check_f("tan", |x| x.sin() / x.cos());
    check_f("asin", |x| (x / (1.0 - x * x).sqrt()).atan());
    check_f("acos", |x| std::f64::consts::FRAC_PI_2 - x.asin());
    check_f("sinh", |x| if x.abs() < 1e-6 { x } else { (x.exp() - (-x).exp()) / 2.0 });
    check_f("cosh", |x| (x.exp() + (-x).exp()) / 2.0);
    check_f("asinh", |x| if x.abs() < 1e-6 { x } else { (x + (x * x + 1.0).sqrt()).ln() });
    check_f("atanh", |x| (x.ln_1p() - (-x).ln_1p()) / 2.0);
    check("atan %a", &[f(&[2], &[1.0, INF])], &f(&[2], &[std::f64::consts::FRAC_PI_4, std::f64::consts::FRAC_PI_2]));
    check(
        "acosh %a",
        &[f(&[3], &[1.0, 2.0, 0.5])],
        &f(&[3], &[0.0, 2.0f64.ln() + 1.0f64.ln() + (1.0 + 0.75f64.sqrt()).ln(), NAN]),
    );
}
