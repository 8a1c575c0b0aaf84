//! Operations element by element, alone and in chains that may be computed in place.

use kiln_ir::func::{Binary, ElementType, Real, Structured, Tensor, TensorOp, Unary};

use super::{Known, Maker};

impl Maker<'_, '_> {
    pub(super) fn arithmetic(&mut self) -> Option<usize> {
        let x = self.value();
        match self.choices.below(8) {
            0 | 1 => self.unary(x),
            2..6 => self.binary(x),
            6 => self.chain(x),
            _ => self.chosen(x),
        }
    }

    /// Several operations one after another.
    fn chain(&mut self, mut x: usize) -> Option<usize> {
        for _ in 0..2 + self.choices.below(4) {
            x = if self.choices.one_in(2) { self.unary(x) } else { self.binary(x) }.unwrap_or(x);
        }
        Some(x)
    }

    pub(super) fn unary(&mut self, x: usize) -> Option<usize> {
        let (known, element) = (self.known(x), self.ty(x).element());
        if element == ElementType::Bool {
            return self.push(Unary::Not {}, &[x], known);
        }
        let (op, known): (Unary, Known) = match self.choices.below(9) {
            0 => (Unary::Neg {}, known.signed()),
            1 => (Unary::Abs {}, known.positive()),
            2 => (Unary::Relu {}, known.positive()),
            3 => {
                let (low, high) =
                    self.choices.pick(&[(-1.0, 1.0), (0.0, 6.0), (-2.0, f64::INFINITY), (1.0, 4.0), (3.0, 2.0)]);
                let most = known.most.max(f64::abs(low)).min(f64::max(f64::abs(high), f64::abs(low)));
                (Unary::Clamp { low: Real(low), high: Real(high) }, Known { most, is_positive: low >= 0.0, ..known })
            }
            4 if known.is_exact() => match self.choices.below(5) {
                0 => (Unary::Sign {}, Known::integers(1.0)),
                1 => (Unary::Floor {}, Known { is_positive: known.is_positive, ..Known::integers(known.most + 1.0) }),
                2 => (Unary::Ceil {}, Known { is_positive: known.is_positive, ..Known::integers(known.most + 1.0) }),
                3 => (Unary::Round {}, Known { is_positive: known.is_positive, ..Known::integers(known.most + 1.0) }),
                _ => (Unary::ThresholdedRelu { alpha: Real(1.0) }, known),
            },
            5 => (Unary::LeakyRelu { alpha: Real(0.5) }, known.or(known.scaled(-1))),
            // The others are rounded, and are of f32.
            _ if element != ElementType::F32 => return None,
            _ => self.rounded(known)?,
        };
        self.push(op, &[x], known)
    }

    /// A function that is approximated.
    fn rounded(&mut self, x: Known) -> Option<(Unary, Known)> {
        let most = x.most;
        Some(match self.choices.below(20) {
            0 if most <= 6.0 => (Unary::Exp {}, x.function((most + x.error).exp(), most.exp()).positive()),
            1 => (Unary::Tanh {}, x.function(1.0, 1.0)),
            2 => (Unary::Sigmoid {}, x.function(0.25, 1.0).positive()),
            3 => (Unary::Erf {}, x.function(1.13, 1.0)),
            4 => (Unary::GeluErf {}, x.function(1.2, most)),
            5 => (Unary::GeluTanh {}, x.function(1.2, most)),
            6 => (Unary::Silu {}, x.function(1.2, most)),
            7 => (Unary::Mish {}, x.function(1.2, most)),
            8 => (Unary::Softplus {}, x.function(1.0, most + 1.0).positive()),
            9 => (Unary::Softsign {}, x.function(1.0, 1.0)),
            10 => (Unary::Elu { alpha: Real(0.5) }, x.function(1.0, most.max(1.0))),
            11 => (Unary::Selu { alpha: Real(1.5), gamma: Real(1.25) }, x.function(1.9, 1.9 * most.max(1.0))),
            12 => (Unary::Celu { alpha: Real(2.0) }, x.function(1.0, most.max(2.0))),
            13 => (Unary::HardSigmoid { alpha: Real(0.25), beta: Real(0.5) }, x.function(0.25, 1.0).positive()),
            14 => (Unary::HardSwish {}, x.function(1.5, most)),
            15 if most <= 1000.0 => (Unary::Sin {}, x.function(1.0, 1.0)),
            16 if most <= 1000.0 => (Unary::Cos {}, x.function(1.0, 1.0)),
            17 if x.is_exact() && x.is_positive => (Unary::Sqrt {}, x.function(0.0, most.sqrt()).positive()),
            _ => return None,
        })
    }

    /// Another operand for `x`: itself, a value that broadcasts with it, or a constant.
    fn other(&mut self, x: usize) -> usize {
        let (shape, element) = (self.shape(x), self.ty(x).element());
        let fits = |other: &usize| self.ty(*other).element() == element && self.meets(*other, &shape);
        let others: Vec<usize> = (0..self.values.len()).filter(fits).collect();
        match self.choices.below(4) {
            0 | 1 => self.choices.pick(&others),
            2 => {
                // Some of the dimensions, without those in front.
                let fixed = self.fixed().min(shape.len());
                let from = fixed + self.choices.below((shape.len() - fixed) as u64 + 1) as usize;
                let shape: Vec<u64> =
                    shape[from..].iter().map(|d| if self.choices.one_in(3) { 1 } else { *d }).collect();
                self.constant(element, &shape)
            }
            _ => x,
        }
    }

    pub(super) fn binary(&mut self, x: usize) -> Option<usize> {
        let other = self.other(x);
        let (a, b) = if self.choices.one_in(2) { (x, other) } else { (other, x) };
        let (left, right) = (self.known(a), self.known(b));
        let (exact, element) = (left.is_exact() && right.is_exact(), self.ty(a).element());
        let truth = || Known::integers(1.0).positive();
        if element == ElementType::Bool {
            let op = self.choices.pick(&[0, 1, 2, 3]);
            let op = [Binary::And {}, Binary::Or {}, Binary::Xor {}, Binary::Equal {}][op].clone();
            return self.push(op, &[a, b], truth());
        }
        let (op, known) = match self.choices.below(16) {
            0..5 => (Binary::Add {}, left.plus(right)),
            5..8 => (Binary::Sub {}, left.plus(right).signed()),
            8..11 => (Binary::Mul {}, left.times(right)),
            11 => (Binary::Max {}, left.or(right)),
            12 => (Binary::Min {}, left.or(right)),
            13 if exact => {
                let op = self.choices.below(5) as usize;
                let ops = [
                    Binary::Equal {},
                    Binary::Less {},
                    Binary::LessOrEqual {},
                    Binary::Greater {},
                    Binary::GreaterOrEqual {},
                ];
                (ops[op].clone(), truth())
            }
            14 if element.is_float() && right.is_exact() => {
                (Binary::PRelu {}, left.or(left.times(right).signed()).signed())
            }
            _ => return self.by_number(x),
        };
        self.push(op, &[a, b], known)
    }

    /// An operation with a number, as exporters write scales and shifts.
    fn by_number(&mut self, x: usize) -> Option<usize> {
        let (element, known) = (self.ty(x).element(), self.known(x));
        if !element.is_float() {
            return None;
        }
        let shape = if self.length.is_some() { &[][..] } else { self.choices.pick(&[&[][..], &[1]]) };
        let number = |this: &mut Self, value: f64| {
            let ty = kiln_ir::func::TensorType::new(element, shape).expect("a scalar");
            this.given(&Tensor::from_f64(ty, &[value]), Known::number(value))
        };
        match self.choices.below(5) {
            0 => {
                let power = self.choices.pick(&[-1, 1, -2, 3]);
                let n = number(self, 2f64.powi(power));
                self.push(Binary::Mul {}, &[x, n], known.scaled(power))
            }
            1 => {
                let power = self.choices.pick(&[1, 2, -1]);
                let n = number(self, 2f64.powi(power));
                self.push(Binary::Div {}, &[x, n], known.scaled(-power))
            }
            2 if element == ElementType::F32 => {
                let by = self.choices.pick(&[3.0, -0.3, 7.0]);
                let n = number(self, by);
                self.push(Binary::Div {}, &[x, n], known.multiplied(1.0 / by))
            }
            3 => {
                let two = number(self, 2.0);
                self.push(Binary::Pow {}, &[x, two], known.times(known).positive())
            }
            _ => {
                let n = number(self, 1.0);
                let op = self.choices.pick(&[0, 1, 2]);
                let (op, known): (TensorOp, Known) = match op {
                    0 => (Binary::Mul {}.into(), known),
                    1 => (Binary::Add {}.into(), known.plus(Known::integers(1.0))),
                    _ => (Binary::Sub {}.into(), known.plus(Known::integers(1.0)).signed()),
                };
                self.push(op, &[x, n], known)
            }
        }
    }

    /// Elements of either of two values.
    fn chosen(&mut self, x: usize) -> Option<usize> {
        let other = self.other(x);
        let shape = self.shape(x);
        let is_condition = |value: &usize| self.ty(*value).element() == ElementType::Bool && self.meets(*value, &shape);
        let mut conditions: Vec<usize> = (0..self.values.len()).filter(is_condition).collect();
        if conditions.is_empty() || self.choices.one_in(3) {
            conditions = vec![self.constant(ElementType::Bool, &shape[self.fixed().min(shape.len())..])];
        }
        let condition = self.choices.pick(&conditions);
        let known = self.known(x).or(self.known(other));
        self.push(Structured::Where {}, &[condition, x, other], known)
    }
}
