//! Cases as a line of text with operands and result.

use kiln_ir::func::{Def, ElementType, Func, Tensor, TensorOp, TensorType};

pub const NAN: f64 = f64::NAN;
pub const INF: f64 = f64::INFINITY;

/// A tensor of any type.
pub fn tensor(element: ElementType, shape: &[u64], values: &[f64]) -> Tensor {
    Tensor::from_f64(TensorType::new(element, shape).unwrap(), values)
}

/// A tensor of f64.
pub fn f(shape: &[u64], values: &[f64]) -> Tensor {
    tensor(ElementType::F64, shape, values)
}

/// A tensor of i64.
pub fn i(shape: &[u64], values: &[i64]) -> Tensor {
    Tensor::from_elements(shape, values.to_vec()).unwrap()
}

/// A tensor of booleans.
pub fn b(shape: &[u64], values: &[u8]) -> Tensor {
    tensor(ElementType::Bool, shape, &values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
}

/// The numbers from 1 on, of f64.
pub fn count(shape: &[u64]) -> Tensor {
    let n = shape.iter().product::<u64>();
    f(shape, &(1..=n).map(|v| v as f64).collect::<Vec<_>>())
}

/// A function of one line, whose operands are `%a`, `%b` and so on.
pub fn func(line: &str, operands: &[Tensor], result: &TensorType) -> Func {
    let arguments: Vec<_> =
        operands.iter().zip('a'..).map(|(operand, name)| format!("%{name}: {}", operand.ty())).collect();
    let text = format!("func @f({}) -> {result} {{\n  %0 = {line}\n  return %0\n}}\n", arguments.join(", "));
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(func.to_string(), text);
    func
}

/// The operation of a function of one line.
pub fn op(func: &Func) -> TensorOp {
    match &func.value(func.results()[0]).def {
        Def::Result { op, .. } => op.clone(),
        other => panic!("{other:?}"),
    }
}

pub fn assert_close(line: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let close = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * b.abs().max(1.0);
    let all = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| close(*a, *b));
    assert!(all, "{line}:\n   found {found:?}\nexpected {expected:?}");
}

/// Checks the type and the elements of a line's result, interpreted and applied, to a tolerance.
pub fn check_to(tolerance: f64, line: &str, operands: &[Tensor], expected: &Tensor) {
    let func = func(line, operands, expected.ty());
    let data: Vec<Vec<f64>> = operands.iter().map(Tensor::to_f64).collect();
    let results = func.interpret_f64(&data.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    assert_close(line, &results[0], &expected.to_f64(), tolerance);
    let read: Vec<_> = func.value(func.results()[0]).operands().iter().map(|id| &operands[id.index()]).collect();
    let applied = op(&func).apply(&read).unwrap();
    assert_eq!(applied.ty(), expected.ty(), "{line}");
    assert_close(line, &applied.to_f64(), &expected.to_f64(), tolerance);
}

/// As [`check_to`], to the last few bits.
pub fn check(line: &str, operands: &[Tensor], expected: &Tensor) {
    check_to(1e-14, line, operands, expected);
}

/// What is wrong with a line.
pub fn refused(line: &str, operands: &[Tensor]) -> String {
    let arguments: Vec<_> =
        operands.iter().zip('a'..).map(|(operand, name)| format!("%{name}: {}", operand.ty())).collect();
    let text = format!("func @f({}) -> f32[] {{\n  %0 = {line}\n  return %0\n}}\n", arguments.join(", "));
    text.parse::<Func>().expect_err(line).to_string()
}
