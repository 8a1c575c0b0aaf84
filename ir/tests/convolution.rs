//! Convolutions: what they mean, and the nest that says so.

mod common;

use common::{convolutions, meaning, operands, strided};
use kiln_ir::{Contraction, LoopNest, Problem, Sums};
use proptest::prelude::*;

fn of(text: &str) -> Contraction {
    Contraction::of(&text.parse().unwrap_or_else(|e| panic!("{text}: {e}")))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn the_reference_is_the_definition(p in strided(convolutions())) {
        let values = operands(&p);
        let slices: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let reference = p.reference(&slices, Sums::Exact);
        prop_assert!(reference.bound.iter().all(|b| *b == 0.0));
        let expected: Vec<f64> = meaning(&p, &values).into_iter().map(f64::from).collect();
        prop_assert_eq!(reference.value, expected);
    }

    #[test]
    fn every_nest_means_its_problem(p in strided(convolutions())) {
        for c in Contraction::ways(&p) {
            let nest = kiln_ir::contraction::build(&p.to_string(), &c);
            prop_assert_eq!(nest.verify(), Ok(()));
            prop_assert_eq!(nest.to_string().parse::<LoopNest>().unwrap().to_string(), nest.to_string());
            let mut values = operands(&p);
            let expected = meaning(&p, &values);
            // The nest is interpreted in f32; its data are exact, and so are its results before they are rounded.
            let mut slices: Vec<&mut [f32]> = values.iter_mut().map(Vec::as_mut_slice).collect();
            nest.interpret(&mut slices).unwrap();
            let dtype = p.dtypes().dst;
            let got: Vec<f32> = values.last().unwrap().iter().map(|v| dtype.round(*v)).collect();
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn problems_round_trip(p in strided(convolutions())) {
        prop_assert_eq!(&p.to_string().parse::<Problem>().unwrap(), &p);
        prop_assert!(Contraction::of(&p).macs() <= p.macs());
    }
}

#[test]
fn windows_that_are_none_are_strides() {
    // Pixels of all images are rows.
    let c = of("conv f32 mb2ic8ih5iw6oc9kh1kw1");
    assert!(c.window.is_none());
    assert_eq!((c.batch.len(), [c.m, c.n, c.k], c.lhs.row), (0, [60, 9, 8], 8));
    // Pixels are columns, and the weights are on the left.
    let c = of("conv f32 mb2ic8ih5iw6oc9kh1kw1 stag=abx dtag=abx");
    assert!(c.window.is_none() && c.swapped);
    assert_eq!((c.batch.clone(), [c.m, c.n, c.k]), (vec![2], [9, 30, 8]));
    // Every second pixel of one line is evenly apart, of several it is not.
    assert_eq!(of("conv f32 mb1ic8iw9oc9kw1sw2").lhs.row, 16);
    // A kernel as large as the image is a row of weights, where channels come first.
    let c = of("conv f32 mb3ic8ih5iw6oc9kh5kw6 stag=abx");
    assert_eq!(
        (c.window.is_none(), [c.m, c.n, c.k], [c.lhs.row, c.lhs.col, c.rhs.row]),
        (true, [3, 9, 240], [240, 1, 1])
    );
    assert!(of("conv f32 mb3ic8ih5iw6oc9kh5kw6").window.is_some());
    assert!(of("conv f32 mb1ic8ih9oc9kh1sh2").window.is_some());
    assert!(of("conv f32 mb1ic8ih9oc9kh1ph1").window.is_some());
}

#[test]
fn images_are_an_axis_of_the_pixels_where_they_continue_each_other() {
    let axes = |text: &str| {
        let c = of(text);
        (c.batch.clone(), c.window.map(|w| w.axes.iter().map(|a| a.output).collect::<Vec<_>>()))
    };
    assert_eq!(axes("conv f32 mb3ic8ih5iw6oc9kh3ph1kw3pw1"), (vec![], Some(vec![3, 5, 6])));
    assert_eq!(axes("conv f32 mb3ic8ih5iw6oc9kh3ph1kw3pw1 dtag=abx"), (vec![3], Some(vec![5, 6])));
    assert_eq!(axes("conv f32 mb3ic8ih5iw6oc9kh3ph1kw3pw1 +add:cd"), (vec![3], Some(vec![5, 6])));
    assert_eq!(axes("conv f32 g2mb3ic8ih5iw6oc10kh3ph1kw3pw1"), (vec![2], Some(vec![3, 5, 6])));
    let depthwise = of("conv f32 g8mb1ic8ih5oc8kh3ph1");
    assert!(depthwise.window.unwrap().depthwise);
    assert_eq!([depthwise.m, depthwise.n, depthwise.k], [25, 8, 9]);
}

#[test]
fn only_taps_on_the_input_count() {
    let c = of("conv f32 mb1ic2ih3oc5kh3ph1");
    // Four corners, four edges, one inside.
    assert_eq!(c.macs(), (4 * 4 + 4 * 6 + 9) * 2 * 5);
}

const TILE: &str = r#"nest "conv" {
  in lhs f32 [3, 4, 2] strides [8, 2, 1]
  in rhs f32 [1, 6, 8] strides [48, 8, 1]
  out dst f32 [4, 8] strides [8, 1]
  tile 2x8x6 dst[0, 0] (8, 1) = lhs[0, 0, 0] (0, 1) * rhs[0, 0, 0] (8, 1) window (0, 2) run (-2, 0) x 2 rows 2 run (0, 2) x 4 rows 3
}
"#;

#[test]
fn tiles_with_windows_have_a_text_and_a_meaning() {
    let nest: LoopNest = TILE.parse().unwrap();
    assert_eq!(nest.verify(), Ok(()));
    assert_eq!(nest.to_string().parse::<LoopNest>().unwrap().to_string(), nest.to_string());
    let mut lhs: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let mut rhs: Vec<f32> = (0..48).map(|i| (i / 8 + 1) as f32).collect();
    let mut dst = vec![f32::NAN; 32];
    nest.interpret(&mut [&mut lhs, &mut rhs, &mut dst]).unwrap();
    // Row 0 lacks the first run: elements 0 to 3 by steps 2 to 5. Row 1 has elements 0 and 1, then 2 to 5.
    let row = |first: &[(f32, f32)]| first.iter().map(|(a, b)| a * b).sum::<f32>();
    assert_eq!(dst[0], row(&[(0.0, 3.0), (1.0, 4.0), (2.0, 5.0), (3.0, 6.0)]));
    assert_eq!(dst[8], row(&[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0), (4.0, 5.0), (5.0, 6.0)]));
    assert!(dst[16].is_nan());
}

#[test]
fn malformed_windows_are_refused() {
    for (from, to, why) in [
        ("(0, 2)", "(0, 2, 4)", "as many offsets"),
        ("rows 2", "rows 4", "rows that the tile lacks"),
        ("rows 2", "rows 0", "no rows"),
        ("x 2 rows", "x 3 rows", "ascending"),
        ("x 4 rows", "x 5 rows", "ascending"),
        ("run (-2, 0)", "run (-3, 0)", "reaches -1"),
        ("(0, 2)", "(0, 30)", "reaches"),
        ("run (0, 2)", "run (1099511627777, 2)", "beyond 2^40"),
        ("window", "window columns", "one step"),
    ] {
        let text = TILE.replacen(from, to, 1);
        let refused = match text.parse::<LoopNest>() {
            Ok(nest) => nest.verify().unwrap_err().to_string(),
            Err(e) => e.to_string(),
        };
        assert!(refused.contains(why), "{to}: {refused}");
    }
}

#[test]
fn conditions_let_accesses_stay_inside() {
    let text = "nest \"x\" {\n  in a f32 [4] strides [1]\n  out b f32 [6] strides [1]\n  for i in 0..6 {\n    b[i] = 0\n    \
                inside i - 1 in 0..4 {\n      b[i] += a[i - 1] * a[i - 1]\n    }\n  }\n}\n";
    let nest: LoopNest = text.parse().unwrap();
    assert_eq!(nest.verify(), Ok(()));
    assert_eq!(nest.to_string(), text);
    let (mut a, mut b) = ([1.0, 2.0, 3.0, 4.0], [f32::NAN; 6]);
    nest.interpret(&mut [&mut a, &mut b]).unwrap();
    assert_eq!(b, [0.0, 1.0, 4.0, 9.0, 16.0, 0.0]);
    // Another condition says nothing of this access.
    for (from, to) in [("inside i - 1 in 0..4", "inside i in 0..4"), ("in 0..4 {", "in 0..5 {")] {
        assert!(text.replace(from, to).parse::<LoopNest>().unwrap().verify().is_err(), "{to}");
    }
}
