//! Programs: what a chain of post-ops computes on one vector of results.
//!
//! A [`Program`] is the only definition of a post-op below the problem. It is a straight-line piece of a [micro-kernel](super): operations
//! on values, each defined once and after that only added to, so that every instruction set and element type runs the same operations and
//! computes the same bits. Micro-kernels have its operations in them, with values of their own in the place of its input and operands.

use super::interp::{self, Bits};
use super::op::{Domain, Registers};
use super::{Binary, Op, Shift, Unary, V};

/// The value that a chain is applied to. That of its tensor operand `n` is `V(1 + n)`.
const INPUT: V = V(0);

/// Collects the operations of a [`Program`]. Equal ones are made once.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    operands: u32,
    values: Vec<Value>,
}

/// A value: its operation, in which [`DEFINED`] stands for the value itself, and the value that the operation adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    op: Op,
    addend: Option<V>,
}

/// Stands for the value that an operation defines.
const DEFINED: V = V(u32::MAX);

/// While a program is built, values that operations define follow those of this many operands.
const MOST_OPERANDS: u32 = 256;

impl Builder {
    /// The value that the program is applied to.
    pub fn input(&self) -> V {
        INPUT
    }

    /// The value of the tensor operand of this number, below 255.
    pub fn operand(&mut self, n: u8) -> V {
        self.operands = self.operands.max(1 + u32::from(n));
        V(1 + u32::from(n))
    }

    fn value(&mut self, value: Value) -> V {
        let at = self.values.iter().position(|v| *v == value).unwrap_or_else(|| {
            self.values.push(value);
            self.values.len() - 1
        });
        V(1 + MOST_OPERANDS + at as u32)
    }

    fn op(&mut self, op: Op) -> V {
        self.value(Value { op, addend: None })
    }

    /// These bits in all lanes.
    pub fn bits(&mut self, bits: u32) -> V {
        self.op(Op::Const { d: DEFINED, bits })
    }

    /// A constant.
    pub fn constant(&mut self, value: f32) -> V {
        self.bits(value.to_bits())
    }

    /// `f(a)`.
    pub fn unary(&mut self, f: Unary, a: V) -> V {
        self.op(Op::Unary { f, d: DEFINED, a })
    }

    /// `a` shifted by `by` bits.
    pub fn shift(&mut self, f: Shift, a: V, by: u8) -> V {
        self.op(Op::Shift { f, d: DEFINED, a, by })
    }

    /// `f(a, b)`.
    pub fn binary(&mut self, f: Binary, a: V, b: V) -> V {
        self.op(Op::Binary { f, d: DEFINED, a, b })
    }

    /// `f(a, b)` with a constant as first operand, where x86 needs no copy to propagate a NaN of `b`.
    pub fn with(&mut self, f: Binary, a: f32, b: V) -> V {
        let a = self.constant(a);
        self.binary(f, a, b)
    }

    /// `acc + a * b`, fused.
    pub fn fma(&mut self, acc: V, a: V, b: V) -> V {
        self.value(Value { op: Op::Fma { d: DEFINED, a, b }, addend: Some(acc) })
    }

    /// The value of an operation that a builder made.
    fn made(&self, v: V) -> Option<usize> {
        (v.0 as usize).checked_sub(1 + MOST_OPERANDS as usize).filter(|at| *at < self.values.len())
    }

    /// The values that a value is computed from.
    fn sources(value: &Value) -> impl Iterator<Item = V> + use<> {
        value.op.used().filter(|v| *v != DEFINED).chain(value.addend)
    }

    /// The program of `result`: the operations it depends on, in the order they were made.
    pub fn finish(self, result: V) -> Program {
        let mut needed = vec![false; self.values.len()];
        self.made(result).into_iter().for_each(|at| needed[at] = true);
        for at in (0..self.values.len()).rev() {
            if needed[at] {
                Self::sources(&self.values[at]).filter_map(|v| self.made(v)).for_each(|at| needed[at] = true);
            }
        }
        // The last use of each value; the result is used behind the last operation.
        let mut last = vec![usize::MAX; 1 + MOST_OPERANDS as usize + self.values.len()];
        for at in (0..self.values.len()).filter(|at| needed[*at]) {
            Self::sources(&self.values[at]).for_each(|v| last[v.0 as usize] = at);
        }
        last[result.0 as usize] = usize::MAX;
        let mut program = Program { ops: vec![], operands: self.operands, values: 1 + self.operands, result };
        // The value that holds each of this builder's in the program.
        let mut holds: Vec<V> = (0..last.len() as u32).map(V).collect();
        for (at, value) in self.values.iter().enumerate().filter(|(at, _)| needed[*at]) {
            let defined = 1 + MOST_OPERANDS as usize + at;
            // What nobody needs any more is added to in its place. Constants and tensors are shared with other vectors.
            let in_place = value.addend.filter(|acc| {
                let is_shared = match self.made(*acc) {
                    Some(at) => matches!(self.values[at].op, Op::Const { .. }),
                    None => *acc != INPUT,
                };
                !is_shared && last[acc.0 as usize] == at
            });
            let d = match (in_place, value.addend) {
                (Some(acc), _) => holds[acc.0 as usize],
                (None, acc) => {
                    let d = V(program.values);
                    program.values += 1;
                    if let Some(acc) = acc {
                        program.ops.push(Op::Unary { f: Unary::Move, d, a: holds[acc.0 as usize] });
                    }
                    d
                }
            };
            holds[defined] = d;
            program.ops.push(value.op.renamed(|v| if v == DEFINED { d } else { holds[v.0 as usize] }));
        }
        program.result = holds[result.0 as usize];
        program
    }
}

/// A straight-line program on one vector. Operands of an operation come before it, and every operation is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    ops: Vec<Op>,
    operands: u32,
    /// The number of values: the input, the tensor operands, and those that operations define.
    values: u32,
    result: V,
}

impl Program {
    /// The operations in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The number of values, `v0` of which is the input and `v1` to `vN` the `N` tensor operands.
    pub fn values(&self) -> u32 {
        self.values
    }

    /// The number of the tensor operand that a value is, if it is one.
    pub fn operand(&self, v: V) -> Option<u8> {
        if v != INPUT && v.0 <= self.operands { u8::try_from(v.0 - 1).ok() } else { None }
    }

    /// The value of the whole program.
    pub fn result(&self) -> V {
        self.result
    }

    /// The result for an input and tensor operands. A missing operand is 0.
    pub(super) fn run<D: Domain>(
        &self,
        domain: &mut D,
        input: D::Word,
        operands: &[D::Word],
    ) -> Result<D::Word, D::Error> {
        let zero = domain.constant(0);
        let mut registers = Registers::new(self.values, 1, zero);
        registers.fill(INPUT, input);
        for (v, word) in (1..=self.operands).zip(operands) {
            registers.fill(V(v), *word);
        }
        for op in &self.ops {
            registers.execute(domain, op, &[])?;
        }
        Ok(registers.get(self.result).and_then(|words| words.first()).copied().unwrap_or(input))
    }

    /// One lane. A missing operand is 0.
    pub fn eval(&self, input: f32, operands: &[f32]) -> f32 {
        let operands: Vec<u32> = operands.iter().map(|x| x.to_bits()).collect();
        self.run(&mut Bits, input.to_bits(), &operands).map_or(f32::NAN, f32::from_bits)
    }

    /// Many lanes of a program without operands (they are 0), in loops that vectorize; the same bits as
    /// [`eval`](Self::eval). Inlined, so that a caller may enable instructions.
    #[inline(always)]
    pub fn eval_block<'a, const N: usize>(&self, input: &[u32; N], values: &'a mut Vec<[u32; N]>) -> &'a [u32; N] {
        values.clear();
        values.resize(self.values as usize, [0; N]);
        values[INPUT.0 as usize] = *input;
        for op in &self.ops {
            let Some(d) = op.defined() else { continue };
            let mut result = values[d.0 as usize];
            let get = |v: V| &values[v.0 as usize];
            match *op {
                Op::Const { bits, .. } => result = [bits; N],
                Op::Binary { f, a, b, .. } => result = f.compute_all(get(a), get(b)),
                Op::Unary { f, a, .. } => result = f.compute_all(get(a)),
                Op::Shift { f, a, by, .. } => {
                    let a = get(a);
                    for l in 0..N {
                        result[l] = f.compute(a[l], by);
                    }
                }
                Op::Fma { a, b, .. } => {
                    let (a, b) = (get(a), get(b));
                    for l in 0..N {
                        result[l] = interp::fma(a[l], b[l], result[l]);
                    }
                }
                _ => unreachable!("builders make no other operations"),
            }
            values[d.0 as usize] = result;
        }
        &values[self.result.0 as usize]
    }

    /// The constants, each once, in the order of first use.
    pub fn constants(&self) -> Vec<u32> {
        let constant = |op: &Op| if let Op::Const { bits, .. } = op { Some(*bits) } else { None };
        self.ops.iter().filter_map(constant).collect()
    }

    /// The number of operations that are executed for each vector: all but constants, and copies that go into sums.
    pub fn executed(&self) -> usize {
        let is_free = |op: &&Op| matches!(op, Op::Const { .. } | Op::Unary { f: Unary::Move, .. });
        self.ops.iter().filter(|op| !is_free(op)).count()
    }

    /// The most values besides constants that live at once, in the order of operations; operands are loaded where they are first
    /// used. A result takes the place of an operand that dies.
    pub fn temporaries(&self) -> usize {
        let mut last = vec![None; self.values as usize];
        for (at, op) in self.ops.iter().enumerate() {
            op.used().chain(op.defined()).for_each(|v| last[v.0 as usize] = Some(at));
        }
        last[self.result.0 as usize] = Some(self.ops.len());
        let mut is_constant = vec![false; self.values as usize];
        let mut is_live = vec![false; self.values as usize];
        is_live[INPUT.0 as usize] = last[INPUT.0 as usize].is_some();
        let count = |is_live: &[bool]| is_live.iter().filter(|live| **live).count();
        let mut most = count(&is_live);
        for (at, op) in self.ops.iter().enumerate() {
            if let Op::Const { d, .. } = op {
                is_constant[d.0 as usize] = true;
                continue;
            }
            let loaded: Vec<V> = op.used().filter(|v| !is_constant[v.0 as usize]).collect();
            loaded.iter().for_each(|v| is_live[v.0 as usize] = true);
            most = most.max(count(&is_live));
            loaded.iter().filter(|v| last[v.0 as usize] == Some(at)).for_each(|v| is_live[v.0 as usize] = false);
            if let Some(d) = op.defined() {
                is_live[d.0 as usize] = last[d.0 as usize] > Some(at);
            }
            most = most.max(count(&is_live));
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::PostOp;

    use super::*;

    fn program(text: &str) -> Program {
        Program::of(&kiln_ir::Epilogue::parse(text).unwrap())
    }

    #[test]
    fn chains_apply_in_order_and_share() {
        let p = program("bias+mul:ab+scale:2+shift:1+relu");
        assert_eq!((p.executed(), p.constants().len()), (4, 3));
        assert_eq!(p.eval(1.0, &[2.0, 5.0]), 31.0);
        assert_eq!(p.eval(-3.0, &[2.0, 5.0]), 0.0);
        let p = program("mul:ab+add:ab");
        assert_eq!((p.executed(), p.eval(3.0, &[2.0, 5.0])), (1, 11.0));
        assert_eq!(program("clamp:0:1+relu").constants().len(), 2);
        let none = Program::of(&[]);
        assert_eq!((none.executed(), none.temporaries(), none.eval(7.0, &[])), (0, 1, 7.0));
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
        let x = b.input();
        let dead = b.with(Binary::Add, 1.0, x);
        b.binary(Binary::Mul, dead, x);
        let y = b.binary(Binary::Mul, x, x);
        let p = b.finish(y);
        assert_eq!(p.ops(), [Op::Binary { f: Binary::Mul, d: V(1), a: V(0), b: V(0) }]);
        assert_eq!(p.temporaries(), 1);
    }
}
