//! Operations element by element.

use kiln_ir::func::{Binary, ElementType, Structured, Tensor, TensorOp, Unary};

use super::cases::*;

/// A unary operation on some numbers.
fn unary(line: &str, x: &[f64], expected: &[f64]) {
    let shape = [x.len() as u64];
    check(line.replacen(' ', " %a ", 1).trim(), &[f(&shape, x)], &f(&shape, expected));
}

#[test]
fn unary_operations() {
    unary("abs ", &[-1.5, 0.0, NAN, -INF], &[1.5, 0.0, NAN, INF]);
    unary("neg ", &[1.0, -INF], &[-1.0, INF]);
    unary("exp ", &[0.0, 1.0, -INF, INF], &[1.0, std::f64::consts::E, 0.0, INF]);
    unary("log ", &[1.0, 0.0, -1.0], &[0.0, -INF, NAN]);
    unary("sqrt ", &[9.0, -1.0], &[3.0, NAN]);
    unary("reciprocal ", &[4.0, 0.0], &[0.25, INF]);
    unary("erf ", &[0.0, 1.0, -INF], &[0.0, 0.8427007929497149, -1.0]);
    unary("tanh ", &[0.0, 1.0], &[0.0, 0.7615941559557649]);
    unary("sin ", &[0.0, 1.0], &[0.0, 0.8414709848078965]);
    unary("cos ", &[0.0, 1.0], &[1.0, 0.5403023058681398]);
    unary("sigmoid ", &[0.0, 1.0, -1e3], &[0.5, 0.7310585786300049, 0.0]);
    unary("relu ", &[-1.0, 2.0, NAN], &[0.0, 2.0, NAN]);
    unary("leaky_relu {alpha=0.1}", &[-1.0, 0.0, 1.0], &[-0.1, 0.0, 1.0]);
    unary("thresholded_relu {alpha=1}", &[-1.0, 1.0, 1.5], &[0.0, 0.0, 1.5]);
    unary("elu {alpha=2}", &[-1.0, 0.0, 1.0], &[-1.2642411176571153, 0.0, 1.0]);
    unary("selu {alpha=2 gamma=3}", &[-1.0, 0.0, 1.0], &[-3.792723352971346, 0.0, 3.0]);
    unary("celu {alpha=2}", &[-2.0, 0.0, 1.0, NAN], &[-1.2642411176571153, 0.0, 1.0, NAN]);
    unary("softplus ", &[0.0, 1000.0, -1000.0, NAN], &[std::f64::consts::LN_2, 1000.0, 0.0, NAN]);
    unary("softsign ", &[-1.0, 0.0, 3.0], &[-0.5, 0.0, 0.75]);
    unary("hard_sigmoid {alpha=0.5 beta=0.6}", &[-2.0, 0.0, 1.0, NAN], &[0.0, 0.6, 1.0, NAN]);
    unary("hard_swish ", &[-4.0, 0.0, 1.5, 4.0], &[0.0, 0.0, 1.125, 4.0]);
    unary("gelu_erf ", &[0.0, 1.0, -INF], &[0.0, 0.8413447460685429, 0.0]);
    unary("gelu_tanh ", &[0.0, 1.0], &[0.0, 0.8411919906082768]);
    unary("silu ", &[0.0, 1.0], &[0.0, 0.7310585786300049]);
    unary("mish ", &[0.0, 1.0, -INF], &[0.0, 0.8650983882673103, 0.0]);
    unary("floor ", &[-1.5, 1.5], &[-2.0, 1.0]);
    unary("ceil ", &[-1.5, 1.5], &[-1.0, 2.0]);
    unary("round ", &[0.5, 1.5, 2.5, -2.5, 0.9], &[0.0, 2.0, 2.0, -2.0, 1.0]);
    unary("sign ", &[-2.0, 0.0, 3.0, NAN], &[-1.0, 0.0, 1.0, NAN]);
    unary("clamp {low=-1 high=1}", &[-2.0, 0.5, 2.0, NAN], &[-1.0, 0.5, 1.0, NAN]);
    // The upper limit wins.
    unary("clamp {low=2 high=1}", &[0.0, 3.0], &[1.0, 1.0]);
    unary("clamp {low=-inf high=inf}", &[-2.0, INF], &[-2.0, INF]);
    unary("relu ", &[], &[]);
    check("not %a", &[b(&[2], &[1, 0])], &b(&[2], &[0, 1]));
    check("neg %a", &[i(&[2], &[3, -4])], &i(&[2], &[-3, 4]));
    check("relu %a", &[i(&[2], &[3, -4])], &i(&[2], &[3, 0]));
    assert!(refused("not %a", &[f(&[1], &[0.0])]).contains("expected bool"));
    assert!(refused("neg %a", &[b(&[1], &[0])]).contains("expected numbers"));
    assert!(refused("exp %a", &[i(&[1], &[0])]).contains("expected floating-point numbers"));
}

fn binary(word: &str, a: &Tensor, b: &Tensor, expected: &Tensor) {
    check(&format!("{word} %a, %b"), &[a.clone(), b.clone()], expected);
}

#[test]
fn binary_operations() {
    let (x, y) = (f(&[5], &[1.0, -7.0, NAN, 2.0, 0.0]), f(&[5], &[2.0, 2.0, 1.0, NAN, 0.0]));
    binary("add", &x, &y, &f(&[5], &[3.0, -5.0, NAN, NAN, 0.0]));
    binary("sub", &x, &y, &f(&[5], &[-1.0, -9.0, NAN, NAN, 0.0]));
    binary("mul", &x, &y, &f(&[5], &[2.0, -14.0, NAN, NAN, 0.0]));
    binary("div", &x, &y, &f(&[5], &[0.5, -3.5, NAN, NAN, NAN]));
    binary("rem", &x, &y, &f(&[5], &[1.0, -1.0, NAN, NAN, NAN]));
    binary("pow", &x, &y, &f(&[5], &[1.0, 49.0, NAN, NAN, 1.0]));
    binary("max", &x, &y, &f(&[5], &[2.0, 2.0, NAN, NAN, 0.0]));
    binary("min", &x, &y, &f(&[5], &[1.0, -7.0, NAN, NAN, 0.0]));
    binary("prelu", &x, &y, &f(&[5], &[1.0, -14.0, NAN, 2.0, 0.0]));
    binary("equal", &x, &y, &b(&[5], &[0, 0, 0, 0, 1]));
    binary("less", &x, &y, &b(&[5], &[1, 1, 0, 0, 0]));
    binary("less_or_equal", &x, &y, &b(&[5], &[1, 1, 0, 0, 1]));
    binary("greater", &x, &y, &b(&[5], &[0; 5]));
    binary("greater_or_equal", &y, &x, &b(&[5], &[1, 1, 0, 0, 1]));
    let (p, q) = (b(&[4], &[0, 0, 1, 1]), b(&[4], &[0, 1, 0, 1]));
    binary("and", &p, &q, &b(&[4], &[0, 0, 0, 1]));
    binary("or", &p, &q, &b(&[4], &[0, 1, 1, 1]));
    binary("xor", &p, &q, &b(&[4], &[0, 1, 1, 0]));
    binary("equal", &p, &q, &b(&[4], &[1, 0, 0, 1]));
    assert!(refused("and %a, %a", std::slice::from_ref(&x)).contains("expected bool"));
    assert!(refused("add %a, %a", std::slice::from_ref(&p)).contains("expected numbers"));
    assert!(refused("add %a, %b", &[x, i(&[5], &[0; 5])]).contains("one dtype"));
}

#[test]
fn integers_divide_towards_zero_and_wrap_around() {
    let (x, y) = (i(&[5], &[7, -7, 7, -7, 5]), i(&[5], &[2, 2, -2, -2, 0]));
    binary("div", &x, &y, &i(&[5], &[3, -3, -3, 3, 0]));
    binary("rem", &x, &y, &i(&[5], &[1, -1, 1, -1, 0]));
    binary("pow", &i(&[3], &[3, 2, -2]), &i(&[3], &[4, 0, 3]), &i(&[3], &[81, 1, -8]));
    let of = |element, values: &[f64]| tensor(element, &[values.len() as u64], values);
    use ElementType::{I8, I32, U8};
    binary("add", &of(I8, &[127.0]), &of(I8, &[1.0]), &of(I8, &[-128.0]));
    binary("div", &of(I8, &[-128.0]), &of(I8, &[-1.0]), &of(I8, &[-128.0]));
    binary("sub", &of(U8, &[1.0]), &of(U8, &[2.0]), &of(U8, &[255.0]));
    // Exact beyond double precision, as 1664525 * 1013904223 mod 2^32.
    let product = 1664525i32.wrapping_mul(1013904223);
    binary("mul", &of(I32, &[1664525.0]), &of(I32, &[1013904223.0]), &of(I32, &[product.into()]));
    binary("pow", &of(I32, &[7.0]), &of(I32, &[23.0]), &of(I32, &[7i32.wrapping_pow(23).into()]));
    check("neg %a", &[of(I8, &[-128.0])], &of(I8, &[-128.0]));
    check("abs %a", &[of(I8, &[-128.0, -3.0])], &of(I8, &[-128.0, 3.0]));
}

#[test]
fn shapes_broadcast_as_numpy_has_them() {
    binary(
        "add",
        &f(&[2, 1], &[10.0, 20.0]),
        &f(&[3], &[1.0, 2.0, 3.0]),
        &f(&[2, 3], &[11.0, 12.0, 13.0, 21.0, 22.0, 23.0]),
    );
    binary(
        "add",
        &f(&[3], &[1.0, 2.0, 3.0]),
        &f(&[2, 1], &[10.0, 20.0]),
        &f(&[2, 3], &[11.0, 12.0, 13.0, 21.0, 22.0, 23.0]),
    );
    binary(
        "sub",
        &count(&[2, 1, 2]),
        &f(&[2, 1], &[1.0, 2.0]),
        &f(&[2, 2, 2], &[0.0, 1.0, -1.0, 0.0, 2.0, 3.0, 1.0, 2.0]),
    );
    binary("add", &f(&[], &[1.0]), &f(&[2], &[1.0, 2.0]), &f(&[2], &[2.0, 3.0]));
    binary("add", &f(&[], &[1.0]), &f(&[], &[2.0]), &f(&[], &[3.0]));
    binary("add", &f(&[1, 1], &[1.0]), &f(&[1], &[2.0]), &f(&[1, 1], &[3.0]));
    binary("add", &f(&[2, 0], &[]), &f(&[2, 1], &[1.0, 2.0]), &f(&[2, 0], &[]));
    for (a, b) in [([4, 3].as_slice(), [4].as_slice()), (&[4, 3], &[2, 3]), (&[2, 0], &[2, 2])] {
        let e = refused("add %a, %b", &[count(a), count(b)]);
        assert!(e.contains("do not broadcast"), "{e}");
    }
}

#[test]
fn casts_round_and_where_selects() {
    let x = f(&[4], &[1.7, -1.7, NAN, 300.0]);
    check("cast %a {to=i64}", std::slice::from_ref(&x), &i(&[4], &[1, -1, 0, 300]));
    check("cast %a {to=u8}", std::slice::from_ref(&x), &tensor(ElementType::U8, &[4], &[1.0, 255.0, 0.0, 44.0]));
    check("cast %a {to=bool}", std::slice::from_ref(&x), &b(&[4], &[1, 1, 1, 1]));
    check("cast %a {to=f16}", &[f(&[1], &[1.0 / 3.0])], &tensor(ElementType::F16, &[1], &[0.333251953125]));
    check("cast %a {to=bf16}", &[f(&[1], &[1.0 / 3.0])], &tensor(ElementType::Bf16, &[1], &[0.333984375]));
    check("cast %a {to=f64}", &[b(&[2], &[1, 0])], &f(&[2], &[1.0, 0.0]));
    let operands = [b(&[2, 1], &[1, 0]), f(&[2], &[1.0, 2.0]), f(&[], &[9.0])];
    check("where %a, %b, %c", &operands, &f(&[2, 2], &[1.0, 2.0, 9.0, 9.0]));
    check("where %a, %a, %a", &[b(&[2], &[1, 0])], &b(&[2], &[1, 0]));
    assert!(refused("where %b, %a, %b", &operands).contains("expected bool"));
    assert!(refused("where %a, %b, %a", &operands).contains("one dtype"));
}

#[test]
fn results_are_of_their_types() {
    let apply = |op: TensorOp, operands: &[&Tensor]| op.apply(operands).unwrap();
    let sum = apply(Binary::Add {}.into(), &[&i(&[2], &[1 << 40, -5]), &i(&[], &[1])]);
    assert_eq!(sum.elements::<i64>().unwrap()[..], [(1 << 40) + 1, -4]);
    let less = apply(Binary::Less {}.into(), &[&i(&[2], &[1, 3]), &i(&[], &[2])]);
    assert_eq!((less.ty().element(), &less.data()[..]), (ElementType::Bool, &[1u8, 0][..]));
    let third = tensor(ElementType::F16, &[1], &[1.0 / 3.0]);
    let exp = apply(Unary::Exp {}.into(), &[&third]);
    let bits = exp.elements::<half::f16>().unwrap()[0];
    assert_eq!(bits, half::f16::from_f64(third.to_f64()[0].exp()));
    let cast = apply(Structured::Cast { to: ElementType::I32 }.into(), &[&f(&[1], &[-2.5])]);
    assert_eq!(cast.elements::<i32>().unwrap()[..], [-2]);
    // 64-bit integers are clamped at the ends of what double precision reaches.
    let least = apply(Binary::Min {}.into(), &[&i(&[1], &[i64::MAX]), &i(&[1], &[i64::MAX])]);
    assert_eq!(least.to_i64().unwrap(), [i64::MAX]);
}
