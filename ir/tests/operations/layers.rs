//! Sums of products.

use kiln_ir::func::{ElementType, Tensor};

use super::cases::*;

fn from_zero(shape: &[u64]) -> Tensor {
    let n = shape.iter().product::<u64>();
    f(shape, &(0..n).map(|v| v as f64).collect::<Vec<_>>())
}

fn ones(shape: &[u64]) -> Tensor {
    f(shape, &vec![1.0; shape.iter().product::<u64>() as usize])
}

#[test]
fn matmul_multiplies_the_last_dimensions() {
    let line = "matmul %a, %b";
    check(line, &[count(&[2, 2]), f(&[2, 1], &[1.0, 10.0])], &f(&[2, 1], &[21.0, 43.0]));
    let rows: Vec<f64> = (0..7).flat_map(|r| [2.0 * r as f64 + 1.0 + 20.0 * r as f64 + 20.0]).collect();
    check(line, &[count(&[7, 2]), f(&[2, 1], &[1.0, 10.0])], &f(&[7, 1], &rows));
    // Outer dimensions broadcast.
    let x = count(&[2, 1, 1, 2]);
    let w = f(&[3, 2, 1], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    check(line, &[x, w], &f(&[2, 3, 1, 1], &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0]));
    check(line, &[f(&[2, 0], &[]), f(&[0, 3], &[])], &f(&[2, 3], &[0.0; 6]));
    check(line, &[f(&[0, 2], &[]), count(&[2, 3])], &f(&[0, 3], &[]));
    check(line, &[f(&[0, 2, 2], &[]), count(&[2, 3])], &f(&[0, 2, 3], &[]));
    let bytes = |shape: &[u64], values: &[f64]| tensor(ElementType::I8, shape, values);
    check(line, &[bytes(&[1, 2], &[100.0, 1.0]), bytes(&[2, 1], &[2.0, 0.0])], &bytes(&[1, 1], &[-56.0]));
    assert!(refused(line, &[count(&[2]), count(&[2, 1])]).contains("rank 1"));
    assert!(refused(line, &[count(&[1, 2]), count(&[3, 1])]).contains("inner dimensions differ"));
    assert!(refused(line, &[b(&[1, 1], &[1]), b(&[1, 1], &[1])]).contains("expected numbers"));
    assert!(refused(line, &[count(&[2, 1, 2]), count(&[3, 2, 1])]).contains("do not broadcast"));
}

fn conv(strides: &str, pads: &str, dilations: &str, groups: u64, x: &Tensor, w: &Tensor, expected: &Tensor) {
    let settings = format!("strides={strides} pads={pads} dilations={dilations} groups={groups}");
    check(&format!("conv %a, %b {{{settings} channels_last=false}}"), &[x.clone(), w.clone()], expected);
    let last = |t: &Tensor| {
        let rank = t.ty().rank() as u64;
        let perm = [0].into_iter().chain(2..rank).chain([1]).collect();
        kiln_ir::func::TensorOp::from(kiln_ir::func::Structured::Transpose { perm }).apply(&[t]).unwrap()
    };
    check(&format!("conv %a, %b {{{settings} channels_last=true}}"), &[last(x), w.clone()], &last(expected));
}

#[test]
fn conv_correlates() {
    // From the documentation of Conv.
    let (x, w) = (from_zero(&[1, 1, 5, 5]), ones(&[1, 1, 3, 3]));
    let inside = [54.0, 63.0, 72.0, 99.0, 108.0, 117.0, 144.0, 153.0, 162.0];
    conv("[1,1]", "[0,0,0,0]", "[1,1]", 1, &x, &w, &f(&[1, 1, 3, 3], &inside));
    let padded = [
        [12.0, 21.0, 27.0, 33.0, 24.0],
        [33.0, 54.0, 63.0, 72.0, 51.0],
        [63.0, 99.0, 108.0, 117.0, 81.0],
        [93.0, 144.0, 153.0, 162.0, 111.0],
        [72.0, 111.0, 117.0, 123.0, 84.0],
    ];
    conv("[1,1]", "[1,1,1,1]", "[1,1]", 1, &x, &w, &f(&[1, 1, 5, 5], &padded.concat()));
    let strided = [12.0, 27.0, 24.0, 63.0, 108.0, 81.0, 123.0, 198.0, 141.0, 112.0, 177.0, 124.0];
    conv("[2,2]", "[1,1,1,1]", "[1,1]", 1, &from_zero(&[1, 1, 7, 5]), &w, &f(&[1, 1, 4, 3], &strided));
    // One axis, dilation, and pads of only one end.
    let w = f(&[1, 1, 2], &[1.0, 10.0]);
    conv("[1]", "[0,1]", "[2]", 1, &count(&[1, 1, 4]), &w, &f(&[1, 1, 3], &[31.0, 42.0, 3.0]));
    // Groups of channels.
    let x = f(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let w = f(&[4, 1, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let grouped = [1.0, 2.0, 10.0, 20.0, 300.0, 400.0, 3000.0, 4000.0];
    conv("[1]", "[0,0]", "[1]", 2, &x, &w, &f(&[1, 4, 2], &grouped));
    conv("[1]", "[0,0]", "[1]", 1, &x, &f(&[1, 2, 1], &[1.0, 10.0]), &f(&[1, 1, 2], &[31.0, 42.0]));
    // Three axes.
    conv(
        "[1,1,1]",
        "[0,0,0,0,0,0]",
        "[1,1,1]",
        1,
        &count(&[1, 1, 2, 2, 2]),
        &ones(&[1, 1, 2, 2, 2]),
        &f(&[1, 1, 1, 1, 1], &[36.0]),
    );
    // Nothing: no images, no channels, no pixels but padding.
    conv("[1]", "[0,0]", "[1]", 1, &f(&[0, 1, 3], &[]), &ones(&[2, 1, 2]), &f(&[0, 2, 2], &[]));
    conv("[1]", "[0,0]", "[1]", 1, &f(&[1, 0, 3], &[]), &f(&[2, 0, 2], &[]), &f(&[1, 2, 2], &[0.0; 4]));
    conv("[1]", "[1,1]", "[1]", 1, &f(&[1, 1, 0], &[]), &ones(&[1, 1, 2]), &f(&[1, 1, 1], &[0.0]));
}

#[test]
fn columns_are_summed_where_they_overlap() {
    // Two windows of three taps, two pixels apart and one to the left: 0 1 2 + 3 4 5 at 1.
    let settings = "pixels=[2] taps=[3] strides=[2] pads=[1] dilations=[1] out=[5]";
    let columns = f(&[1, 3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    check(&format!("columns_to_image %a {{{settings}}}"), &[columns], &f(&[1, 1, 5], &[1.0, 5.0, 4.0, 5.0, 0.0]));
}

#[test]
fn conv_transpose_spreads() {
    let transpose = |settings: &str, x: &Tensor, w: &Tensor, expected: &Tensor| {
        check(&format!("conv_transpose %a, %b {{{settings}}}"), &[x.clone(), w.clone()], expected);
    };
    // From the documentation of ConvTranspose.
    let spread = [
        [0.0, 1.0, 3.0, 3.0, 2.0],
        [3.0, 8.0, 15.0, 12.0, 7.0],
        [9.0, 21.0, 36.0, 27.0, 15.0],
        [9.0, 20.0, 33.0, 24.0, 13.0],
        [6.0, 13.0, 21.0, 15.0, 8.0],
    ];
    let both = [spread.concat(), spread.concat()].concat();
    let settings = "strides=[1,1] pads=[0,0,0,0] dilations=[1,1] output_pads=[0,0] groups=1";
    transpose(settings, &from_zero(&[1, 1, 3, 3]), &ones(&[1, 2, 3, 3]), &f(&[1, 2, 5, 5], &both));
    let dilated = [
        [21.0, 56.0, 13.0, 16.0, 2.0],
        [63.0, 35.0, 67.0, 10.0, 14.0],
        [24.0, 22.0, 76.0, 76.0, 21.0],
        [9.0, 5.0, 88.0, 45.0, 63.0],
        [3.0, 2.0, 33.0, 18.0, 54.0],
    ];
    let x = f(&[1, 1, 3, 3], &[3.0, 8.0, 1.0, 9.0, 5.0, 7.0, 3.0, 2.0, 6.0]);
    let settings = "strides=[1,1] pads=[0,0,0,0] dilations=[2,2] output_pads=[0,0] groups=1";
    transpose(settings, &x, &f(&[1, 1, 2, 2], &[7.0, 2.0, 1.0, 9.0]), &f(&[1, 1, 5, 5], &dilated.concat()));
    let x = count(&[1, 1, 2]);
    let w = f(&[1, 1, 2], &[1.0, 10.0]);
    let line = |pads: &str, more: u64| format!("strides=[3] pads={pads} dilations=[1] output_pads=[{more}] groups=1");
    transpose(&line("[0,0]", 1), &x, &w, &f(&[1, 1, 6], &[1.0, 10.0, 0.0, 2.0, 20.0, 0.0]));
    transpose(&line("[1,1]", 0), &x, &w, &f(&[1, 1, 3], &[10.0, 0.0, 2.0]));
    let grouped = "strides=[1] pads=[0,0] dilations=[1] output_pads=[0] groups=2";
    transpose(
        grouped,
        &f(&[1, 2, 1], &[1.0, 2.0]),
        &f(&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]),
        &f(&[1, 4, 1], &[1.0, 2.0, 6.0, 8.0]),
    );
    transpose(&line("[0,0]", 0), &f(&[0, 1, 2], &[]), &w, &f(&[0, 1, 5], &[]));
    transpose(&line("[0,0]", 0), &f(&[1, 0, 1], &[]), &f(&[0, 1, 2], &[]), &f(&[1, 1, 2], &[0.0; 2]));
    let cut = format!("conv_transpose %a, %b {{{}}}", line("[4,4]", 0));
    assert!(refused(&cut, &[x, w]).contains("cut off"));
}

#[test]
fn convolutions_check_their_settings() {
    let operands = [count(&[1, 2, 3]), count(&[2, 1, 2])];
    let line = |strides: &str, pads: &str, dilations: &str, groups: u64| {
        format!(
            "conv %a, %b {{strides={strides} pads={pads} dilations={dilations} groups={groups} channels_last=false}}"
        )
    };
    let most = u64::MAX;
    for (line, why) in [
        (line("[0]", "[0,0]", "[1]", 2), "strides"),
        (line("[1]", "[0]", "[1]", 2), "pads"),
        (line("[1]", "[0,0]", "[0]", 2), "dilations"),
        (line("[1]", "[0,0]", &format!("[{most}]"), 2), "pads"),
        (line("[1]", &format!("[{most},{most}]"), "[1]", 2), "pads"),
        (line("[1]", &format!("[{},0]", 1u64 << 40), "[1]", 2), "too large"),
        (line("[1]", "[0,0]", "[1]", 3), "groups"),
        (line("[1]", "[0,0]", "[1]", 0), "groups"),
        (line("[1]", "[0,0]", "[1]", most), "groups"),
        (line("[1]", "[0,0]", "[1]", 1), "operand 1 has shape [2, 1, 2]: expected [2, 2, 2]"),
        (line("[1,1]", "[0,0]", "[1]", 2), "strides"),
    ] {
        let e = refused(&line, &operands);
        assert!(e.contains(why), "{line}: {e}");
    }
    // A stride beyond the image.
    check(&line(&format!("[{most}]"), "[0,0]", "[1]", 2), &operands, &f(&[1, 2, 1], &[5.0, 32.0]));
    let none = "conv %a, %b {strides=[1] pads=[0,0] dilations=[1] groups=8589934592 channels_last=false}";
    assert!(refused(none, &[f(&[1, 0, 3], &[]), f(&[0, 0, 2], &[])]).contains("groups"));
}

/// Numbers from a linear congruential generator.
fn random(shape: &[u64], seed: &mut u64) -> Tensor {
    let mut next = || {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 33) as f64 % 9.0 - 4.0
    };
    f(shape, &(0..shape.iter().product::<u64>()).map(|_| next()).collect::<Vec<_>>())
}

/// `y . conv(x) = conv_transpose(y) . x`, exactly as all are integers, and `conv` is what its definition says.
#[test]
fn conv_is_its_definition_and_has_its_transpose() {
    use kiln_ir::func::{Structured, TensorOp};
    let mut seed = 1;
    let mut checked = 0;
    for case in 0..400u64 {
        let pick = |at: u64, n: u64| (case.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> at) % n;
        let groups = 1 + pick(7, 2);
        let (c, o) = (groups * (1 + pick(11, 2)), groups * (1 + pick(13, 3)));
        let taps = [1 + pick(17, 3), 1 + pick(19, 3)];
        let strides = vec![1 + pick(23, 3), 1 + pick(29, 2)];
        let dilations = vec![1 + pick(31, 2), 1 + pick(37, 3)];
        let pads = vec![pick(41, 3), pick(43, 2), pick(47, 2), pick(53, 3)];
        // A whole number of windows, so that the transpose needs no padding of its result.
        let pixels: Vec<u64> = (0..2)
            .map(|a| {
                let padded = (taps[a] - 1) * dilations[a] + 1 + strides[a] * pick(2 + a as u32 as u64, 4);
                padded.saturating_sub(pads[a] + pads[2 + a])
            })
            .collect();
        if pixels.contains(&0) {
            continue;
        }
        let x = random(&[2, c, pixels[0], pixels[1]], &mut seed);
        let w = random(&[o, c / groups, taps[0], taps[1]], &mut seed);
        let conv = Structured::Conv {
            strides: strides.clone(),
            pads: pads.clone(),
            dilations: dilations.clone(),
            groups,
            channels_last: false,
        };
        let Ok(result) = TensorOp::from(conv).apply(&[&x, &w]) else { continue };
        let [_, _, h, v] = result.ty().shape().try_into().unwrap();
        let (xs, ws, rs) = (x.to_f64(), w.to_f64(), result.to_f64());
        for (at, found) in rs.iter().enumerate() {
            let at = at as u64;
            let [n, oc, i, j] = [at / (v * h * o), at / (v * h) % o, at / v % h, at % v];
            let mut sum = 0.0;
            for cc in 0..c / groups {
                for (s, t) in (0..taps[0]).flat_map(|s| (0..taps[1]).map(move |t| (s, t))) {
                    let y = (i * strides[0] + s * dilations[0]).wrapping_sub(pads[0]);
                    let z = (j * strides[1] + t * dilations[1]).wrapping_sub(pads[1]);
                    if y < pixels[0] && z < pixels[1] {
                        let channel = oc / (o / groups) * (c / groups) + cc;
                        sum += xs[(((n * c + channel) * pixels[0] + y) * pixels[1] + z) as usize]
                            * ws[(((oc * (c / groups) + cc) * taps[0] + s) * taps[1] + t) as usize];
                    }
                }
            }
            assert_eq!(*found, sum, "{case}");
        }
        let y = random(result.ty().shape(), &mut seed);
        let transpose = Structured::ConvTranspose { strides, pads, dilations, output_pads: vec![0, 0], groups };
        let back = TensorOp::from(transpose).apply(&[&y, &w]).unwrap();
        if back.ty() != x.ty() {
            continue;
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert_eq!(dot(&rs, &y.to_f64()), dot(&back.to_f64(), &xs), "{case}");
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn kernels_mean_what_their_problems_do() {
    let single = |shape: &[u64], values: &[f64]| tensor(ElementType::F32, shape, values);
    let operands = [single(&[1, 2], &[1.0, 2.0]), single(&[4], &[3.0, -1.0, 1.0, 0.0]), single(&[2], &[0.5, -9.0])];
    let line = "kernel %a, %b, %c {problem=\"matmul f32 1x2:2x2 +bias+relu\"}";
    check(line, &operands, &single(&[1, 2], &[5.5, 0.0]));
    assert!(refused(line, &[operands[0].clone(), operands[1].clone(), single(&[1], &[0.0])]).contains("operand 2"));
    let two = line.replace(", %c", "");
    assert!(refused(&two, &operands[..2]).contains("takes 3 operand(s)"));
    assert!(refused(line, &[f(&[1, 2], &[0.0; 2]), operands[1].clone(), operands[2].clone()]).contains("expected f32"));
}
