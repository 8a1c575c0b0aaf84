//! Programs: what a chain of post-ops computes on one vector of results, in static single assignment.
//!
//! A [`Program`] is the only definition of a post-op below the problem: every instruction set and element type runs the same
//! steps, each of which is an operation of [micro-kernels](super), so that every target computes the same bits.

use kiln_ir::PostOp;

use super::{Binary, Shift, Unary, approx, interp};

/// A value: the index of the step that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Val(pub u16);

/// A step: one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The result that the chain is applied to.
    Input,
    /// A vector of the chain's tensor operand of this number.
    Operand(u8),
    /// These bits in all lanes.
    Const(u32),
    /// See [`Op::Binary`](super::Op::Binary).
    Binary(Binary, Val, Val),
    /// See [`Op::Unary`](super::Op::Unary).
    Unary(Unary, Val),
    /// See [`Op::Shift`](super::Op::Shift).
    Shift(Shift, Val, u8),
    /// `acc + a * b`, fused.
    Fma {
        /// Addend.
        acc: Val,
        /// Factor.
        a: Val,
        /// Factor.
        b: Val,
    },
}

impl Step {
    /// The values it reads, in operand order.
    pub fn uses(self) -> impl Iterator<Item = Val> {
        let uses = match self {
            Step::Input | Step::Operand(_) | Step::Const(_) => [None; 3],
            Step::Binary(_, a, b) => [Some(a), Some(b), None],
            Step::Unary(_, a) | Step::Shift(_, a, _) => [Some(a), None, None],
            Step::Fma { acc, a, b } => [Some(acc), Some(a), Some(b)],
        };
        uses.into_iter().flatten()
    }

    fn map(self, f: impl Fn(Val) -> Val) -> Self {
        match self {
            Step::Input | Step::Operand(_) | Step::Const(_) => self,
            Step::Binary(op, a, b) => Step::Binary(op, f(a), f(b)),
            Step::Unary(op, a) => Step::Unary(op, f(a)),
            Step::Shift(op, a, by) => Step::Shift(op, f(a), by),
            Step::Fma { acc, a, b } => Step::Fma { acc: f(acc), a: f(a), b: f(b) },
        }
    }
}

/// Collects the steps of a [`Program`]. Equal steps are made once.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    steps: Vec<Step>,
}

impl Builder {
    /// The value of `step`, whose operands this builder made.
    pub fn step(&mut self, step: Step) -> Val {
        let at = self.steps.iter().position(|s| *s == step).unwrap_or_else(|| {
            self.steps.push(step);
            self.steps.len() - 1
        });
        Val(at as u16)
    }

    /// A constant.
    pub fn constant(&mut self, value: f32) -> Val {
        self.step(Step::Const(value.to_bits()))
    }

    /// `f(a, b)`.
    pub fn binary(&mut self, f: Binary, a: Val, b: Val) -> Val {
        self.step(Step::Binary(f, a, b))
    }

    /// `f(a, b)` with a constant as first operand, where x86 needs no copy to propagate a NaN of `b`.
    pub fn with(&mut self, f: Binary, a: f32, b: Val) -> Val {
        let a = self.constant(a);
        self.binary(f, a, b)
    }

    /// `acc + a * b`.
    pub fn fma(&mut self, acc: Val, a: Val, b: Val) -> Val {
        self.step(Step::Fma { acc, a, b })
    }

    /// The program of `result`: the steps it depends on, in the order they were made.
    pub fn finish(self, result: Val) -> Program {
        let mut needed = vec![false; self.steps.len()];
        if let Some(n) = needed.get_mut(usize::from(result.0)) {
            *n = true;
        }
        for (i, step) in self.steps.iter().enumerate().rev().filter(|(_, s)| s.uses().next().is_some()) {
            if needed[i] {
                step.uses().for_each(|v| needed[usize::from(v.0)] = true);
            }
        }
        let mut renamed = vec![Val(0); self.steps.len()];
        let mut steps = vec![];
        for (i, step) in self.steps.into_iter().enumerate().filter(|(i, _)| needed[*i]) {
            renamed[i] = Val(steps.len() as u16);
            steps.push(step.map(|v| renamed[usize::from(v.0)]));
        }
        let result = renamed.get(usize::from(result.0)).copied().unwrap_or(Val(0));
        let mut uses = vec![vec![]; steps.len()];
        for (i, step) in steps.iter().enumerate() {
            step.uses().for_each(|v| uses[usize::from(v.0)].push(i));
        }
        if let Some(u) = uses.get_mut(usize::from(result.0)) {
            u.push(steps.len());
        }
        Program { steps, result, uses }
    }
}

/// A straight-line program on one vector. Operands of a step come before it, and every step is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    steps: Vec<Step>,
    result: Val,
    /// Indices of the steps that read each value, ascending; the result is read behind the last.
    uses: Vec<Vec<usize>>,
}

impl Program {
    /// The program that applies `chain` in order to its input. Where a product is only added to, one rounding does for
    /// both.
    pub fn of(chain: &[PostOp]) -> Program {
        let mut b = Builder::default();
        let mut value = b.step(Step::Input);
        let mut operands = 0..=u8::MAX;
        let mut rest = chain;
        while let Some((op, tail)) = rest.split_first() {
            rest = tail;
            let mut term = |b: &mut Builder, op: PostOp| match op {
                PostOp::Scale(n) | PostOp::Shift(n) => b.constant(n.get()),
                _ => b.step(Step::Operand(operands.next().unwrap_or(u8::MAX))),
            };
            value = match (*op, tail.first()) {
                (PostOp::Scale(_) | PostOp::Mul(_), Some(next)) if is_sum(*next) => {
                    rest = &tail[1..];
                    let factor = term(&mut b, *op);
                    let addend = term(&mut b, *next);
                    b.fma(addend, value, factor)
                }
                (PostOp::Scale(_) | PostOp::Mul(_), _) => {
                    let factor = term(&mut b, *op);
                    b.binary(Binary::Mul, factor, value)
                }
                (op, _) if is_sum(op) => {
                    let addend = term(&mut b, op);
                    b.binary(Binary::Add, addend, value)
                }
                (op, _) => approx::apply(&mut b, op, value),
            };
        }
        b.finish(value)
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The value of the whole program.
    pub fn result(&self) -> Val {
        self.result
    }

    /// One lane. A missing operand is 0.
    pub fn eval(&self, input: f32, operands: &[f32]) -> f32 {
        let mut values: Vec<u32> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let get = |v: Val| values[usize::from(v.0)];
            values.push(match *step {
                Step::Input => input.to_bits(),
                Step::Operand(i) => operands.get(usize::from(i)).copied().unwrap_or_default().to_bits(),
                Step::Const(bits) => bits,
                Step::Binary(f, a, b) => interp::binary(f, get(a), get(b)),
                Step::Unary(f, a) => interp::unary(f, get(a)),
                Step::Shift(f, a, by) => interp::shift(f, get(a), by),
                Step::Fma { acc, a, b } => interp::fma(get(a), get(b), get(acc)),
            });
        }
        values.get(usize::from(self.result.0)).copied().map_or(input, f32::from_bits)
    }

    /// Many lanes of a program without operands (they are 0), in loops that vectorize; the same bits as
    /// [`eval`](Self::eval). Inlined, so that a caller may enable instructions.
    #[inline(always)]
    pub fn eval_block<'a, const N: usize>(&self, input: &[u32; N], values: &'a mut Vec<[u32; N]>) -> &'a [u32; N] {
        values.resize(self.steps.len().max(1), [0; N]);
        for (i, step) in self.steps.iter().enumerate() {
            let (before, at) = values.split_at_mut(i);
            let (d, get) = (&mut at[0], |v: Val| &before[usize::from(v.0)]);
            // One loop for each operation.
            macro_rules! each {
                ($which:expr, [$($op:path),*], $lane:expr) => {
                    match $which {
                        $($op => (0..N).for_each(|l| d[l] = $lane($op, l)),)*
                    }
                };
            }
            match *step {
                Step::Input => *d = *input,
                Step::Operand(_) => *d = [0; N],
                Step::Const(bits) => *d = [bits; N],
                Step::Binary(f, a, b) => {
                    use Binary::{Add, And, Div, IAdd, ISub, Max, Min, Mul, Or, Sub, Xor};
                    let (a, b) = (get(a), get(b));
                    let all = |f, l: usize| interp::binary(f, a[l], b[l]);
                    each!(f, [Add, Sub, Mul, Div, Max, Min, IAdd, ISub, And, Or, Xor], all);
                }
                Step::Unary(f, a) => {
                    let a = get(a);
                    each!(f, [Unary::Move, Unary::Sqrt, Unary::Abs], |f, l: usize| interp::unary(f, a[l]));
                }
                Step::Shift(f, a, by) => {
                    let a = get(a);
                    for l in 0..N {
                        d[l] = interp::shift(f, a[l], by);
                    }
                }
                Step::Fma { acc, a, b } => {
                    let (acc, a, b) = (get(acc), get(a), get(b));
                    for l in 0..N {
                        d[l] = interp::fma(a[l], b[l], acc[l]);
                    }
                }
            }
        }
        &values[usize::from(self.result.0)]
    }

    /// The constants, each once, in the order of first use.
    pub fn constants(&self) -> Vec<u32> {
        let constant = |s: &Step| if let Step::Const(bits) = s { Some(*bits) } else { None };
        self.steps.iter().filter_map(constant).collect()
    }

    /// Operations executed: steps besides the input, operands and constants.
    pub fn ops(&self) -> usize {
        self.steps.iter().filter(|s| s.uses().next().is_some()).count()
    }

    /// The most values besides constants that live at once, in the order of steps; operands are loaded where they are first
    /// used. A result takes the place of an operand that dies.
    pub fn temporaries(&self) -> usize {
        let held = |i: usize| !matches!(self.steps[i], Step::Const(_));
        let mut live = usize::from(self.steps.contains(&Step::Input));
        let mut most = live;
        for (i, step) in self.steps.iter().enumerate() {
            let mut dying: Vec<Val> =
                step.uses().filter(|v| held(usize::from(v.0)) && self.uses(*v).last() == Some(&i)).collect();
            dying.sort();
            dying.dedup();
            live -= dying.len();
            live += usize::from(held(i) && *step != Step::Input);
            most = most.max(live);
        }
        most
    }

    /// Indices of the steps that read a value, ascending; the result is read behind the last.
    pub(super) fn uses(&self, v: Val) -> &[usize] {
        &self.uses[usize::from(v.0)]
    }
}

fn is_sum(op: PostOp) -> bool {
    matches!(op, PostOp::Shift(_) | PostOp::Add(_)) || op.is_bias()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        Program::of(&kiln_ir::Epilogue::parse(text).unwrap())
    }

    #[test]
    fn chains_apply_in_order_and_share() {
        let p = program("bias+mul:ab+scale:2+shift:1+relu");
        assert_eq!((p.ops(), p.constants().len()), (4, 3));
        assert_eq!(p.eval(1.0, &[2.0, 5.0]), 31.0);
        assert_eq!(p.eval(-3.0, &[2.0, 5.0]), 0.0);
        let p = program("mul:ab+add:ab");
        assert_eq!((p.ops(), p.eval(3.0, &[2.0, 5.0])), (1, 11.0));
        assert_eq!(program("clamp:0:1+relu").constants().len(), 2);
        let none = Program::of(&[]);
        assert_eq!((none.ops(), none.temporaries(), none.eval(7.0, &[])), (0, 1, 7.0));
    }

    #[test]
    fn blocks_agree_with_lanes() {
        for op in PostOp::plain().filter(|op| !op.has_operand()) {
            let p = Program::of(&[op]);
            let mut values = vec![];
            let input: [u32; 64] = std::array::from_fn(|i| (i as u32).wrapping_mul(0x9e37_79b9));
            let got = p.eval_block(&input, &mut values);
            for (x, y) in input.into_iter().zip(got) {
                let lane = p.eval(f32::from_bits(x), &[]);
                assert!(lane.to_bits() == *y || (lane.is_nan() && f32::from_bits(*y).is_nan()), "{op} {x:#x}");
            }
        }
    }

    #[test]
    fn dead_steps_go() {
        let mut b = Builder::default();
        let x = b.step(Step::Input);
        let dead = b.with(Binary::Add, 1.0, x);
        b.binary(Binary::Mul, dead, x);
        let y = b.binary(Binary::Mul, x, x);
        let p = b.finish(y);
        assert_eq!(p.steps(), [Step::Input, Step::Binary(Binary::Mul, Val(0), Val(0))]);
        assert_eq!(p.temporaries(), 1);
    }
}
