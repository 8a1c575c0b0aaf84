//! What problems become, and what their results should be.

mod common;

use common::{indices, integers, meaning, operand, operands, problems, strided};
use kiln_ir::contraction::View;
use kiln_ir::{Contraction, DType, PostOp, Problem, ProblemError, Role, Sums, contraction};
use proptest::prelude::*;
use proptest::sample::Index;

fn of(text: &str) -> Contraction {
    Contraction::of(&text.parse().unwrap_or_else(|e| panic!("{text}: {e}")))
}

/// Batch extents and M, N, K.
fn extents(c: &Contraction) -> (Vec<u64>, [u64; 3]) {
    (c.batch.clone(), [c.m, c.n, c.k])
}

/// Argument, batch strides, row and column stride.
fn shown(v: &View) -> (usize, Vec<u64>, [u64; 2]) {
    (v.argument, v.batch.clone(), [v.row, v.col])
}

#[test]
fn columns_of_the_result_are_contiguous() {
    let c = of("matmul f32 4x3:3x5 +bias+bias:row+add:ab");
    assert!(!c.swapped);
    assert_eq!(extents(&c), (vec![], [4, 5, 3]));

    let c = of("matmul f32:bf16:f32 4x3:3x5 dtag=ba +bias+bias:row+add:ab");
    assert!(c.swapped);
    assert_eq!(extents(&c), (vec![], [5, 4, 3]));
    assert_eq!(shown(&c.lhs), (1, vec![], [1, 5]));
    assert_eq!(shown(&c.rhs), (0, vec![], [1, 3]));
    assert_eq!(shown(&c.dst), (5, vec![], [4, 1]));
    assert_eq!((c.lhs.dtype, c.rhs.dtype), (DType::Bf16, DType::F32));
    let post: Vec<_> = c.post.iter().map(|(op, v)| (*op, v.as_ref().map(shown).unwrap())).collect();
    assert_eq!(post[0], (PostOp::Bias, (2, vec![], [1, 0])));
    assert_eq!(post[1], (PostOp::BiasRow, (3, vec![], [0, 1])));
    assert_eq!(post[2].1, (4, vec![], [4, 1]));

    let column = of("matmul f32 4x3:3x1");
    assert!(column.swapped);
    assert_eq!(extents(&column), (vec![], [1, 4, 3]));
    assert_eq!(shown(&column.rhs), (0, vec![], [1, 3]));
    let row = of("matmul f32 1x3:3x4 dtag=ba");
    assert!(!row.swapped, "both orders are the same");
    assert_eq!(extents(&of("matmul f32 1x1:1x1")), (vec![], [1, 1, 1]));
    assert_eq!(extents(&of("ip f32 mb2ic3ih4iw5oc6")), (vec![], [2, 6, 60]));
    assert_eq!(shown(&of("ip f32 mb2ic3ih4iw5oc6").rhs), (1, vec![], [1, 60]));
}

#[test]
fn batches_become_rows_or_one_another() {
    for (text, batch, mnk, swapped) in [
        // Rhs is the same for all: rows.
        ("matmul f32 2x4x3:1x3x5", vec![], [8, 5, 3], false),
        ("matmul f32 5x1x3:1x3x4", vec![], [5, 4, 3], false),
        ("matmul f32 2x3x4x6:1x1x6x5 +bias+add:abcd", vec![], [24, 5, 6], false),
        ("matmul f32 2x3x4x6:2x1x6x5", vec![2], [12, 5, 6], false),
        // The rows of one batch do not continue those of the other.
        ("matmul f32 2x4x3:1x3x5 stag=acb", vec![2], [4, 5, 3], false),
        ("matmul f32 2x4x3:1x3x5 dtag=bac", vec![2], [4, 5, 3], false),
        ("matmul f32 2x4x3:1x3x5 +add:ac", vec![2], [4, 5, 3], false),
        ("matmul f32 2x4x3:1x3x5 +bias:row", vec![2], [4, 5, 3], false),
        // Lhs is the same for all, and is the right operand of a column-major result.
        ("matmul f32 1x4x3:2x3x5", vec![2], [4, 5, 3], false),
        ("matmul f32 1x4x3:2x3x5 wtag=acb dtag=acb", vec![], [10, 4, 3], true),
        // Neighbours merge; batches of 1 vanish.
        ("matmul f32 2x3x4x6:2x3x6x5", vec![6], [4, 5, 6], false),
        ("matmul f32 2x3x7x4x6:2x3x7x6x5", vec![42], [4, 5, 6], false),
        ("matmul f32 2x3x4x6:1x3x6x5", vec![2, 3], [4, 5, 6], false),
        ("matmul f32 2x1x3x4x6:2x1x3x6x5 wtag=bacde", vec![6], [4, 5, 6], false),
        ("matmul f32 2x3x4x6:2x3x6x5 stag=bacd", vec![2, 3], [4, 5, 6], false),
        // A dot product for each batch, and one vector for all.
        ("matmul f32 5x1x3:5x3x1", vec![5], [1, 1, 3], false),
        ("matmul f32 5x1x3:1x3x1", vec![], [1, 5, 3], true),
    ] {
        let c = of(text);
        assert_eq!((extents(&c), c.swapped), ((batch, mnk), swapped), "{text}");
    }
    let c = of("matmul f32 2x3x4x6:2x1x6x5");
    assert_eq!(shown(&c.lhs), (0, vec![72], [6, 1]));
    assert_eq!(shown(&c.rhs), (1, vec![30], [5, 1]));
    assert_eq!(shown(&c.dst), (2, vec![60], [5, 1]));
    let c = of("matmul f32 2x3x4x6:1x3x6x5");
    assert_eq!((c.lhs.batch, c.rhs.batch), (vec![72, 24], vec![0, 30]));
}

/// The result of a contraction by its views, for a chain of post-ops without an effect on which element is which.
fn by_views(c: &Contraction, values: &[Vec<f32>]) -> Vec<f32> {
    let mut out = values[c.dst.argument].clone();
    for batch in indices(&c.batch) {
        let at = |v: &View, row: u64, col: u64| {
            let outer: u64 = batch.iter().zip(&v.batch).map(|(i, s)| i * s).sum();
            (outer + row * v.row + col * v.col) as usize
        };
        for (i, j) in (0..c.m).flat_map(|i| (0..c.n).map(move |j| (i, j))) {
            let to = at(&c.dst, i, j);
            let mut sum = if c.accumulate { values[c.dst.argument][to] } else { 0.0 };
            for k in 0..c.k {
                sum += values[c.lhs.argument][at(&c.lhs, i, k)] * values[c.rhs.argument][at(&c.rhs, k, j)];
            }
            for (op, view) in &c.post {
                sum = op.apply_f32(sum, view.as_ref().map_or(0.0, |v| values[v.argument][at(v, i, j)]));
            }
            out[to] = c.dst.dtype.round(sum);
        }
    }
    out
}

/// Numbers in [-1, 1) of which sums round.
fn fractions(o: &kiln_ir::Operand, salt: u64) -> Vec<f32> {
    let mut x = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..o.span())
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            o.dtype.round((x >> 40) as f32 / (1 << 23) as f32 - 1.0)
        })
        .collect()
}

fn slices(values: &[Vec<f32>]) -> Vec<&[f32]> {
    values.iter().map(Vec::as_slice).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn a_contraction_means_its_problem(p in strided(problems())) {
        let c = Contraction::of(&p);
        let values = operands(&p);
        prop_assert_eq!(by_views(&c, &values), meaning(&p, &values));
        prop_assert_eq!(c.dst.col, 1);
        prop_assert!(c.batch.iter().all(|b| *b > 1));
        prop_assert_eq!(c.macs(), p.macs());
    }

    #[test]
    fn small_integers_have_an_exact_reference(p in strided(problems())) {
        let values = operands(&p);
        let reference = p.reference(&slices(&values), Sums::Exact);
        prop_assert!(reference.bound.iter().all(|b| *b == 0.0));
        let expected: Vec<f64> = meaning(&p, &values).into_iter().map(f64::from).collect();
        prop_assert_eq!(reference.value, expected);
    }

    #[test]
    fn bounds_cover_sums_in_single_precision(p in strided(problems()), salt: u64) {
        let values: Vec<Vec<f32>> = p.operands().iter().zip(salt >> 8..).map(|(o, s)| fractions(o, s)).collect();
        let reference = p.reference(&slices(&values), Sums::Rounded);
        let got = by_views(&Contraction::of(&p), &values);
        for (i, (got, (value, bound))) in got.iter().zip(reference.value.iter().zip(&reference.bound)).enumerate() {
            prop_assert!((f64::from(*got) - value).abs() <= *bound, "{p}: element {i}: {got}, expected {value} +- {bound}");
        }
        // No bound is so wide that it says nothing: single precision, of values below 2^10.
        let per_element = if p.dtypes().dst == DType::Bf16 { 32.0 } else { 1.0 / 64.0 };
        prop_assert!(reference.bound.iter().all(|b| *b < per_element), "{p}: {:?}", reference.bound);
    }
}

#[test]
fn bounds_cover_long_sums_and_functions() {
    for text in [
        "matmul f32 3x5000:5000x4",
        "matmul f32 3x500:500x4 beta=1 +gelu_erf+add:ab",
        "matmul bf16:bf16:f32 3x500:500x4 +silu+mul:b",
        "matmul bf16 3x500:500x4 +bias+tanh+scale:3",
        "matmul f32 3x500:500x4 +gelu_tanh+hardswish+sigmoid+exp+sqrt",
        "matmul f32 3x50:50x4 +square+shift:0.1+hardsigmoid+softsign+abs+leaky_relu:0.3+clamp:0.1:0.2",
    ] {
        let p: Problem = text.parse().unwrap();
        let values: Vec<Vec<f32>> = p.operands().iter().zip(1..).map(|(o, s)| fractions(o, s)).collect();
        let reference = p.reference(&slices(&values), Sums::Rounded);
        let got = by_views(&Contraction::of(&p), &values);
        for (got, (value, bound)) in got.iter().zip(reference.value.iter().zip(&reference.bound)) {
            assert!((f64::from(*got) - value).abs() <= *bound, "{text}: {got}, expected {value} +- {bound}");
        }
    }
}

#[test]
fn factors_rounded_to_bf16_are_within_the_bound_of_their_mode() {
    let wide: Problem = "matmul f32 3x40:40x4 fpmath=bf16".parse().unwrap();
    let strict: Problem = "matmul f32 3x40:40x4".parse().unwrap();
    let values: Vec<Vec<f32>> = wide.operands().iter().zip(1..).map(|(o, s)| fractions(o, s)).collect();
    let mut rounded = values.clone();
    rounded[..2].iter_mut().flatten().for_each(|v| *v = DType::Bf16.round(*v));
    let got = by_views(&Contraction::of(&wide), &rounded);
    let outside = |p: &Problem| {
        let r = p.reference(&slices(&values), Sums::Rounded);
        (0..12).filter(|i| (f64::from(got[*i]) - r.value[*i]).abs() > r.bound[*i]).count()
    };
    assert_eq!(outside(&wide), 0);
    assert_ne!(outside(&strict), 0);
}

#[test]
fn strides_become_views() {
    let c = of("matmul f32 4x3:3x5 strides=8x1:1x9:7x1 +add:ab");
    assert_eq!(extents(&c), (vec![], [4, 5, 3]));
    assert_eq!([&c.lhs, &c.rhs, &c.dst].map(shown).map(|(_, _, s)| s), [[8, 1], [1, 9], [7, 1]]);
    assert_eq!(shown(c.post[0].1.as_ref().unwrap()), (2, vec![], [5, 1]));
    // Batches merge where their gaps allow.
    let c = of("matmul f32 2x3x4x6:2x3x6x5 strides=300x100x6x1::");
    assert_eq!((extents(&c), c.lhs.batch), ((vec![6], [4, 5, 6]), vec![100]));
    let c = of("matmul f32 2x3x4x6:2x3x6x5 strides=400x100x6x1::");
    assert_eq!((extents(&c), c.lhs.batch), ((vec![2, 3], [4, 5, 6]), vec![400, 100]));
    // A batch of equal pitch becomes rows.
    let c = of("matmul f32 2x4x3:1x3x5 strides=32x8x1::28x7x1");
    assert_eq!(
        (extents(&c), shown(&c.lhs), shown(&c.dst)),
        ((vec![], [8, 5, 3]), (0, vec![], [8, 1]), (2, vec![], [7, 1]))
    );
    let c = of("matmul f32 2x4x3:1x3x5 strides=33x8x1::28x7x1");
    assert_eq!(extents(&c), (vec![2], [4, 5, 3]));
    // A row with gaps is a column.
    let c = of("matmul f32 1x3:3x5 strides=::9x2");
    assert!(c.swapped);
    assert_eq!((extents(&c), shown(&c.dst)), ((vec![], [5, 1, 3]), (2, vec![], [2, 1])));
    let c = of("matmul f32 6x1x3:6x3x5 strides=::99x1x7 +add:abc");
    assert_eq!((extents(&c), shown(&c.dst)), ((vec![6], [5, 1, 3]), (3, vec![99], [7, 1])));
}

#[test]
fn strides_that_no_kernel_takes_are_refused() {
    for (text, name, why) in [
        ("matmul f32 4x3:3x5 strides=8x1x1", "lhs", "expected 2, one for each dimension of 4x3"),
        ("matmul f32 4x3:3x5 strides=::4x1", "dst", "overlap"),
        ("matmul f32 4x3:3x5 strides=::5x5", "dst", "overlap"),
        ("matmul f32 2x3:3x3 strides=::3x2", "dst", "mixed up"),
        ("matmul f32 4x3:3x5 strides=::20x2", "dst", "a stride of 1 along either"),
        ("matmul f32 4x3:3x5 strides=0x1", "lhs", "dimension `a` is 0"),
        ("matmul f32 4x3:3x5 strides=:-5x1", "rhs", "negative"),
        ("matmul f32 4x3:3x5 strides=8589934592x1", "lhs", "2^33"),
        ("matmul f32 4x3:3x5 strides=8x1:5x1:5x1:5x1", "operands", "lhs, rhs and dst"),
        ("matmul f32 4x3:3x5 stag=ab strides=8x1", "lhs", "`stag`"),
        ("matmul f32 4x3:3x5 strides=::8x1 dtag=ab", "dst", "`dtag`"),
        ("ip f32 mb2ic3ih2oc4 strides=40x10x2x1", "lhs", "summed over"),
        ("ip f32 mb2ic3ih2oc4 strides=:40x10x2x1", "rhs", "summed over"),
        ("conv f32 mb2ic3ih5oc4kh3 strides=:40x10x2x1", "rhs", "dense"),
        ("conv f32 mb2ic3ih5oc4kh3 strides=::99x1x20x4", "dst", "evenly apart"),
        ("conv f32 mb2ic3ih5oc4kh3 strides=::999x2x30x10", "dst", "a stride of 1 along either"),
    ] {
        let e = text.parse::<Problem>().unwrap_err();
        assert!(matches!(&e, ProblemError::Strides { name: n, .. } if *n == name), "{text}: {e:?}");
        assert!(e.to_string().contains(why), "{text}: {e}");
    }
}

#[test]
fn what_dst_holds_counts_only_when_it_is_added_to() {
    let p: Problem = "matmul f32 2x3:3x2".parse().unwrap();
    let mut values = operands(&p);
    let clean = p.reference(&slices(&values), Sums::Exact);
    values[2].fill(f32::NAN);
    assert_eq!(p.reference(&slices(&values), Sums::Exact), clean);
    assert_eq!(operand(&p, Role::Dst).len(), 4);
    assert_eq!(integers(3, 0).len(), 3);
}

proptest! {
    // Most edits are refused; fewer than one text in a hundred that is a problem fails the test.
    #![proptest_config(ProptestConfig {
        failure_persistence: None, max_global_rejects: 100 * 250, ..ProptestConfig::with_cases(250)
    })]

    #[test]
    fn edited_problems_that_are_parsed_have_a_nest(
        p in strided(problems()),
        edits in prop::collection::vec((any::<Index>(), 0..3usize, "[0-9x:+a-z=_ -]{0,3}|65536|99999999999"), 1..3),
    ) {
        let before = p.to_string();
        let mut text: Vec<char> = before.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let parsed = text.parse::<Problem>().ok().filter(|_| text != before);
        let Some(p) = parsed else { return Err(TestCaseError::reject("refused")) };
        prop_assert_eq!(&p.to_string().parse::<Problem>().unwrap(), &p);
        prop_assert_eq!(contraction::naive(&p).verify(), Ok(()));
        prop_assert_eq!(Contraction::of(&p).macs(), p.macs());
    }
}
