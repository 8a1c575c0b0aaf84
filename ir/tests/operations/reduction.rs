//! Reductions and sums along axes.

use kiln_ir::func::{ElementType, Tensor};

use super::cases::*;

const KINDS: [&str; 9] = ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum_exp"];

fn reduce(kind: &str, axes: &str, keep: bool, x: &Tensor, expected: &Tensor) {
    check(&format!("reduce %a {{kind={kind} axes={axes} keep={keep}}}"), std::slice::from_ref(x), expected);
}

#[test]
fn reductions() {
    let x = f(&[2, 3], &[1.0, -2.0, 3.0, -4.0, 5.0, -6.0]);
    let last = |kind, values: [f64; 2]| reduce(kind, "[1]", false, &x, &f(&[2], &values));
    last("sum", [2.0, -5.0]);
    last("mean", [2.0 / 3.0, -5.0 / 3.0]);
    last("max", [3.0, 5.0]);
    last("min", [-2.0, -6.0]);
    last("prod", [-6.0, 120.0]);
    last("l1", [6.0, 15.0]);
    last("l2", [14f64.sqrt(), 77f64.sqrt()]);
    last("sum_square", [14.0, 77.0]);
    let sums = [(-5f64).exp() + (-2f64).exp(), (-9f64).exp() + (-11f64).exp()];
    last("log_sum_exp", [3.0 + sums[0].ln_1p(), 5.0 + sums[1].ln_1p()]);
    reduce("sum", "[0]", true, &x, &f(&[1, 3], &[-3.0, 3.0, -3.0]));
    reduce("max", "[0]", false, &x, &f(&[3], &[1.0, 5.0, 3.0]));
    reduce("sum", "[0,1]", false, &x, &f(&[], &[-3.0]));
    reduce("sum", "[]", false, &x, &x);
    reduce("sum", "[0,2]", false, &count(&[2, 2, 2]), &f(&[2], &[1.0 + 2.0 + 5.0 + 6.0, 3.0 + 4.0 + 7.0 + 8.0]));
    reduce("mean", "[1]", true, &count(&[2, 2, 2]), &f(&[2, 1, 2], &[2.0, 3.0, 6.0, 7.0]));
    for kind in ["max", "min", "sum"] {
        reduce(kind, "[0]", false, &f(&[3], &[1.0, NAN, 2.0]), &f(&[], &[NAN]));
    }
    reduce("log_sum_exp", "[0]", false, &f(&[2], &[1000.0, 1000.0]), &f(&[], &[1000.0 + std::f64::consts::LN_2]));
    reduce("log_sum_exp", "[0]", false, &f(&[2], &[-INF, -INF]), &f(&[], &[-INF]));
}

#[test]
fn nothing_is_reduced() {
    let expected = [0.0, NAN, -INF, INF, 1.0, 0.0, 0.0, 0.0, -INF];
    for (kind, expected) in KINDS.into_iter().zip(expected) {
        reduce(kind, "[1]", false, &f(&[2, 0], &[]), &f(&[2], &[expected; 2]));
        reduce(kind, "[1]", false, &f(&[0, 2], &[]), &f(&[0], &[]));
    }
    reduce("max", "[0]", false, &tensor(ElementType::I8, &[0], &[]), &tensor(ElementType::I8, &[], &[-128.0]));
    reduce("min", "[0]", false, &tensor(ElementType::I8, &[0], &[]), &tensor(ElementType::I8, &[], &[127.0]));
    reduce("max", "[0]", false, &b(&[0], &[]), &b(&[], &[0]));
    reduce("min", "[0]", false, &b(&[0], &[]), &b(&[], &[1]));
}

#[test]
fn booleans_and_integers() {
    reduce("max", "[1]", false, &b(&[2, 2], &[0, 1, 0, 0]), &b(&[2], &[1, 0]));
    reduce("min", "[1]", false, &b(&[2, 2], &[1, 1, 0, 1]), &b(&[2], &[1, 0]));
    reduce("mean", "[0]", false, &i(&[2], &[-4, 1]), &i(&[], &[-1]));
    reduce(
        "sum",
        "[0]",
        false,
        &tensor(ElementType::U8, &[2], &[200.0, 100.0]),
        &tensor(ElementType::U8, &[], &[44.0]),
    );
    for kind in KINDS.into_iter().filter(|k| !matches!(*k, "max" | "min")) {
        let e = refused(&format!("reduce %a {{kind={kind} axes=[0] keep=false}}"), &[b(&[1], &[0])]);
        assert!(e.contains("expected numbers"), "{e}");
    }
    for axes in ["[1]", "[0,0]", "[1,0]"] {
        let line = format!("reduce %a {{kind=sum axes={axes} keep=false}}");
        assert!(refused(&line, &[count(&[2])]).contains("axes="));
    }
}

#[test]
fn arg_reduce_finds_the_first_or_the_last() {
    let arg = |max, axis, keep, last, x: &Tensor, expected: &Tensor| {
        let line = format!("arg_reduce %a {{max={max} axis={axis} keep={keep} last={last}}}");
        check(&line, std::slice::from_ref(x), expected);
    };
    // From the documentation of ArgMax.
    let x = f(&[2, 2], &[2.0, 2.0, 3.0, 10.0]);
    arg(true, 1, true, false, &x, &i(&[2, 1], &[0, 1]));
    arg(true, 1, true, true, &x, &i(&[2, 1], &[1, 1]));
    arg(false, 1, false, true, &x, &i(&[2], &[1, 0]));
    arg(true, 0, false, false, &x, &i(&[2], &[1, 1]));
    arg(true, 0, false, false, &f(&[4], &[1.0, NAN, 9.0, NAN]), &i(&[], &[1]));
    arg(false, 0, false, true, &f(&[4], &[1.0, NAN, 9.0, NAN]), &i(&[], &[3]));
    arg(true, 1, false, false, &f(&[0, 2], &[]), &i(&[0], &[]));
    assert!(refused("arg_reduce %a {max=true axis=1 keep=true last=false}", &[f(&[2, 0], &[])]).contains("not empty"));
}

#[test]
fn cumulative_sums() {
    let sum = |axis, exclusive, reverse, x: &Tensor, values: &[f64]| {
        let line = format!("cumsum %a {{axis={axis} exclusive={exclusive} reverse={reverse}}}");
        check(&line, std::slice::from_ref(x), &f(x.ty().shape(), values));
    };
    // From the documentation of CumSum.
    let x = count(&[5]);
    sum(0, false, false, &x, &[1.0, 3.0, 6.0, 10.0, 15.0]);
    sum(0, true, false, &x, &[0.0, 1.0, 3.0, 6.0, 10.0]);
    sum(0, false, true, &x, &[15.0, 14.0, 12.0, 9.0, 5.0]);
    sum(0, true, true, &x, &[14.0, 12.0, 9.0, 5.0, 0.0]);
    sum(0, false, false, &count(&[2, 3]), &[1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
    sum(1, false, false, &count(&[2, 3]), &[1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    sum(1, false, false, &f(&[2, 0], &[]), &[]);
    assert!(refused("cumsum %a {axis=0 exclusive=false reverse=false}", &[b(&[1], &[1])]).contains("numbers"));
}
