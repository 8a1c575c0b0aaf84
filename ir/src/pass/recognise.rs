//! Operations that exporters write as several: activations, layer norm, softmax. And numbers that attention multiplies its operands by.

use super::numbers::{greatest, may_move};
use super::rewriter::Rewriter;
use crate::func::{Binary, Func, FuncError, Real, ReduceKind, Structured, TensorOp, Unary, ValueId};

pub(super) fn recognise(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let m = Matcher { r: &r };
        let found = m.activation(id).or_else(|| m.layer_norm(id)).or_else(|| m.softmax(id)).or_else(|| m.affine(id));
        // Numbers of a higher rank than what they are applied to give their rank to the result.
        let same_type = |(op, operands): &Found| {
            let types: Vec<_> = operands.iter().map(|o| &func.value(*o).ty).collect();
            op.infer(&types).is_ok_and(|ty| ty == func.value(id).ty)
        };
        match found.filter(same_type) {
            Some((op, operands)) => {
                let operands = r.all(&operands);
                r.replace(id, op, &operands)?;
            }
            None => r.keep(id)?,
        }
    }
    r.finish()
}

/// An operation on old values.
type Found = (TensorOp, Vec<ValueId>);

/// Looks at old values.
struct Matcher<'a, 'r> {
    r: &'r Rewriter<'a>,
}

/// Constants that exporters round, or compute in another order.
fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-4 * expected.abs()
}

impl<'a> Matcher<'a, '_> {
    fn binary(&self, id: ValueId, wanted: &Binary) -> Option<[ValueId; 2]> {
        match self.r.def(id)? {
            (TensorOp::Binary(op), &[a, b]) if op == wanted => Some([a, b]),
            _ => None,
        }
    }

    fn unary(&self, id: ValueId) -> Option<(&'a Unary, ValueId)> {
        match self.r.def(id)? {
            (TensorOp::Unary(op), &[x]) => Some((op, x)),
            _ => None,
        }
    }

    /// The number that a value is.
    fn number(&self, id: ValueId) -> Option<f64> {
        self.r.old.constant(id).filter(|t| t.ty().elements() == 1)?.splat()
    }

    /// `x` and the number of an operation with a number, which simplification has put second. A quotient is a product with the
    /// reciprocal.
    fn with_number(&self, id: ValueId, wanted: &Binary) -> Option<(ValueId, f64)> {
        if let (Binary::Mul {}, Some([x, number])) = (wanted, self.binary(id, &Binary::Div {})) {
            return Some((x, 1.0 / self.number(number)?));
        }
        let [x, number] = self.binary(id, wanted)?;
        Some((x, self.number(number)?))
    }

    /// The factors of a product that nothing else reads parts of, and the product of the numbers among them.
    fn factors(&self, id: ValueId) -> (Vec<ValueId>, f64) {
        let (mut factors, mut number) = (vec![], 1.0);
        let mut left = vec![id];
        while let Some(next) = left.pop() {
            let is_own = next == id || self.r.uses(next) == 1;
            if let Some(n) = self.number(next) {
                number *= n;
            } else if let Some((x, n)) = self.with_number(next, &Binary::Mul {}).filter(|_| is_own) {
                number *= n;
                left.push(x);
            } else if let Some(both) = self.binary(next, &Binary::Mul {}).filter(|_| is_own) {
                left.extend(both);
            } else {
                factors.push(next);
            }
            if factors.len() > 3 {
                break;
            }
        }
        (factors, number)
    }

    /// GELU and its like are products.
    fn activation(&self, id: ValueId) -> Option<Found> {
        self.binary(id, &Binary::Mul {}).or_else(|| self.binary(id, &Binary::Div {}))?;
        let (factors, number) = self.factors(id);
        let &[a, b] = &factors[..] else {
            // `clamp(x + 3, 0, 6) / 6`
            let &[x] = &factors[..] else { return None };
            let x = self.clamped(x).filter(|_| near(number, 1.0 / 6.0))?;
            return Some((Unary::HardSigmoid { alpha: Real(1.0 / 6.0), beta: Real(0.5) }.into(), vec![x]));
        };
        [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
            let op = match self.unary(gate) {
                Some((Unary::Sigmoid {}, of)) if of == x && number == 1.0 => Unary::Silu {},
                Some((Unary::HardSigmoid { alpha, beta }, of))
                    if of == x && number == 1.0 && near(alpha.0, 1.0 / 6.0) && beta.0 == 0.5 =>
                {
                    Unary::HardSwish {}
                }
                _ if near(number, 1.0 / 6.0) && self.clamped(gate) == Some(x) => Unary::HardSwish {},
                _ if number == 0.5 => {
                    match self.unary(self.with_number(gate, &Binary::Add {}).filter(|g| g.1 == 1.0)?.0)? {
                        (Unary::Erf {}, of) => {
                            let (of, scale) = self.with_number(of, &Binary::Mul {})?;
                            (of == x && near(scale, std::f64::consts::FRAC_1_SQRT_2)).then_some(Unary::GeluErf {})?
                        }
                        (Unary::Tanh {}, of) => self.is_gelu_polynomial(of, x).then_some(Unary::GeluTanh {})?,
                        _ => return None,
                    }
                }
                _ => return None,
            };
            Some((op.into(), vec![x]))
        })
    }

    /// The `x` of `clamp(x + 3, 0, 6)`.
    fn clamped(&self, id: ValueId) -> Option<ValueId> {
        match self.unary(id)? {
            (Unary::Clamp { low, high }, of) if low.0 == 0.0 && high.0 == 6.0 => {
                self.with_number(of, &Binary::Add {}).filter(|sum| sum.1 == 3.0).map(|sum| sum.0)
            }
            _ => None,
        }
    }

    /// Whether a value is `sqrt(2 / pi) * (x + 0.044715 x^3)`.
    fn is_gelu_polynomial(&self, id: ValueId, x: ValueId) -> bool {
        let polynomial = || {
            let (sum, scale) = self.with_number(id, &Binary::Mul {})?;
            let [a, b] = self.binary(sum, &Binary::Add {})?;
            let cube = if a == x { b } else { a };
            let (factors, number) = self.factors(cube);
            let is_cube = match &factors[..] {
                [power] => self.with_number(*power, &Binary::Pow {}) == Some((x, 3.0)),
                [a, b, c] => [a, b, c].iter().all(|f| **f == x),
                // A square that is read elsewhere is a factor of its own.
                [a, b] => {
                    let square = if *a == x { *b } else { *a };
                    [a, b].contains(&&x) && self.binary(square, &Binary::Mul {}) == Some([x, x])
                }
                _ => false,
            };
            let sqrt = (2.0 / std::f64::consts::PI).sqrt();
            ([a, b].contains(&x) && is_cube && near(number, 0.044715) && near(scale, sqrt)).then_some(())
        };
        polynomial().is_some()
    }

    /// The operand of a mean over the last axes, and the first of them.
    fn mean(&self, id: ValueId) -> Option<(ValueId, u64)> {
        match self.r.def(id)? {
            (TensorOp::Structured(Structured::Reduce { kind: ReduceKind::Mean, axes, keep: true }), &[x]) => {
                let rank = self.r.old.value(x).ty.rank() as u64;
                let first = *axes.first()?;
                (axes.iter().copied().eq(first..rank)).then_some((x, first))
            }
            _ => None,
        }
    }

    /// `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)`.
    fn layer_norm(&self, id: ValueId) -> Option<Found> {
        let (centred, root) = match self.binary(id, &Binary::Div {}) {
            Some([centred, root]) => (centred, root),
            None => {
                let [a, b] = self.binary(id, &Binary::Mul {})?;
                let of = |v| self.unary(v).filter(|(op, _)| **op == Unary::Reciprocal {}).map(|(_, root)| root);
                of(b).map(|root| (a, root)).or_else(|| of(a).map(|root| (b, root)))?
            }
        };
        let (Unary::Sqrt {}, variance) = self.unary(root)? else { return None };
        let (variance, epsilon) = self.with_number(variance, &Binary::Add {})?;
        let (square, axis) = self.mean(variance)?;
        if self.binary(square, &Binary::Mul {})? != [centred, centred] {
            return None;
        }
        let [x, mean] = self.binary(centred, &Binary::Sub {})?;
        if self.mean(mean)? != (x, axis) {
            return None;
        }
        Some((Structured::LayerNorm { axis, epsilon: Real(epsilon) }.into(), vec![x]))
    }

    /// A layer norm's factor and summand as operands of its own. Meets norms that were recognised in an earlier run.
    fn affine(&self, id: ValueId) -> Option<Found> {
        let (norm, with, most) = match self.binary(id, &Binary::Mul {}) {
            Some([a, b]) => (a, b, 1),
            None => {
                let [a, b] = self.binary(id, &Binary::Add {})?;
                (a, b, 2)
            }
        };
        let (op @ TensorOp::Structured(Structured::LayerNorm { axis, .. }), operands) = self.r.def(norm)? else {
            return None;
        };
        let normed = &self.r.old.value(norm).ty;
        let with_ty = &self.r.old.value(with).ty;
        let fits = with_ty.shape() == &normed.shape()[*axis as usize..] && operands.len() == most;
        if !fits || self.r.uses(norm) != 1 || self.r.old.constant(with).is_none() {
            return None;
        }
        Some((op.clone(), operands.iter().copied().chain([with]).collect()))
    }

    /// `exp(x - max(x)) / sum(exp(x - max(x)))`.
    fn softmax(&self, id: ValueId) -> Option<Found> {
        let [exp, sum] = self.binary(id, &Binary::Div {})?;
        let (Unary::Exp {}, shifted) = self.unary(exp)? else { return None };
        let reduced = |id: ValueId, wanted: ReduceKind| match self.r.def(id)? {
            (TensorOp::Structured(Structured::Reduce { kind, axes, keep: true }), &[x]) if *kind == wanted => {
                match axes[..] {
                    [axis] => Some((x, axis)),
                    _ => None,
                }
            }
            _ => None,
        };
        let (summed, axis) = reduced(sum, ReduceKind::Sum)?;
        let [x, max] = self.binary(shifted, &Binary::Sub {})?;
        if summed != exp || reduced(max, ReduceKind::Max)? != (x, axis) {
            return None;
        }
        Some((Structured::Softmax { axis }.into(), vec![x]))
    }
}

/// Moves numbers that a factor of a matrix product is multiplied by behind the product, where a kernel has them for nothing.
/// Numbers that are large or small stay: the product may need them to be within its type.
pub(super) fn move_scales(func: &Func) -> Result<Func, FuncError> {
    let mut r = Rewriter::new(func)?;
    for id in r.ids() {
        let Some((op @ TensorOp::Structured(Structured::Matmul {}), operands)) = r.def(id) else {
            r.keep(id)?;
            continue;
        };
        let m = Matcher { r: &r };
        let scaled: Vec<_> = operands.iter().map(|o| m.scaled(*o)).collect();
        let element = func.value(id).ty.element();
        // A number that has to stay, and a factor that is large, may need the other number to stay too.
        let may_move_all = || {
            let is_middling = |o: &ValueId| greatest(&r, *o).is_none_or(|most| most == 0.0 || may_move(element, most));
            scaled.iter().flatten().all(|(_, n)| m.number(*n).is_some_and(|n| may_move(element, n)))
                && operands.iter().all(is_middling)
        };
        if scaled.iter().all(Option::is_none) || !may_move_all() {
            r.keep(id)?;
            continue;
        }
        let mut factors = vec![];
        let mut on = vec![];
        for (operand, scaled) in operands.iter().zip(scaled) {
            on.push(r.get(scaled.map_or(*operand, |(x, _)| x)));
            factors.extend(scaled.map(|(_, number)| number));
        }
        let (last, before) = factors.split_last().expect("one is scaled");
        let mut product = r.emit(op.clone(), &on)?;
        for factor in before {
            product = r.emit(Binary::Mul {}, &[product, r.get(*factor)])?;
        }
        r.replace(id, Binary::Mul {}, &[product, r.get(*last)])?;
    }
    r.finish()
}

impl Matcher<'_, '_> {
    /// The `x` and the number of `x * number`, if x is computed and nothing else reads the product.
    fn scaled(&self, id: ValueId) -> Option<(ValueId, ValueId)> {
        let [x, number] = self.binary(id, &Binary::Mul {})?;
        let same_shape = self.r.old.value(x).ty == self.r.old.value(id).ty;
        let is_number = self.number(number).is_some() && self.r.old.value(id).ty.element().is_float();
        (same_shape && is_number && self.r.uses(id) == 1).then_some((x, number))
    }
}
