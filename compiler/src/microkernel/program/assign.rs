//! Registers for the values of a [`Program`].

use super::{Program, Step, Val};
use crate::microkernel::{Op, Unary, V};

/// The program as operations. `input` holds the vector it is applied to and is overwritten; the result ends in `result`.
/// Both may be the same register; otherwise `result` holds nothing of use before. `free` registers may be overwritten.
/// Constants that `resident` knows are in registers that are only read; others are materialized, and stay in registers that
/// nothing else needs while they are used again. `load_operand` makes the load of an operand into a register. `None` if
/// `free` does not suffice.
pub fn assign(
    program: &Program,
    input: V,
    result: V,
    free: &[V],
    resident: &dyn Fn(Step) -> Option<V>,
    load_operand: &mut dyn FnMut(u8, V) -> Op,
) -> Option<Vec<Op>> {
    let mut a = Assigner::new(program, input, result, free);
    for (i, step) in program.steps().iter().enumerate() {
        a.now = i;
        match *step {
            Step::Const(_) => a.places[i] = resident(*step).map_or(Place::Nowhere, Place::Resident),
            Step::Input => {}
            Step::Operand(_) if resident(*step).is_some() => {
                a.places[i] = resident(*step).map_or(Place::Nowhere, Place::Resident);
            }
            Step::Operand(n) => {
                let d = a.take(i, &[])?;
                a.ops.push(load_operand(n, d));
            }
            Step::Binary(f, x, y) => {
                let (rx, ry) = (a.read(x, &[y])?, a.read(y, &[x])?);
                let d = a.replace(i, &[x, y], &[])?;
                a.ops.push(Op::Binary { f, d, a: rx, b: ry });
            }
            Step::Unary(f, x) => {
                let rx = a.read(x, &[])?;
                let d = a.replace(i, &[x], &[])?;
                a.ops.push(Op::Unary { f, d, a: rx });
            }
            Step::Shift(f, x, by) => {
                let rx = a.read(x, &[])?;
                let d = a.replace(i, &[x], &[])?;
                a.ops.push(Op::Shift { f, d, a: rx, by });
            }
            Step::Fma { acc, a: x, b: y } => {
                // What is in a register already must not make room for the factors.
                let (rx, ry) = (a.read(x, &[acc, y])?, a.read(y, &[acc, x])?);
                let d = a.accumulator(i, acc, [x, y])?;
                a.ops.push(Op::Fma { d, a: rx, b: ry });
                a.release_dying(&[x, y, acc], d);
            }
        }
    }
    a.finish(result)
}

/// The place of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not made yet, dead, or a constant that can be materialized.
    Nowhere,
    /// In a register of ours: a constant may lose it.
    Register(V),
    /// A constant in a register that must not be written.
    Resident(V),
}

struct Assigner<'a> {
    program: &'a Program,
    /// Values that become the result without moving, if they are in its register.
    wanted: Vec<bool>,
    places: Vec<Place>,
    free: Vec<V>,
    result: V,
    now: usize,
    ops: Vec<Op>,
}

impl<'a> Assigner<'a> {
    fn new(program: &'a Program, input: V, result: V, free: &[V]) -> Self {
        let steps = program.steps();
        let mut wanted = vec![false; steps.len()];
        let mut chain = Some(program.result()).filter(|v| usize::from(v.0) < steps.len());
        while let Some(v) = chain {
            wanted[usize::from(v.0)] = true;
            chain = match steps[usize::from(v.0)] {
                Step::Fma { acc, .. } if !matches!(steps[usize::from(acc.0)], Step::Const(_)) => Some(acc),
                _ => None,
            };
        }
        let mut places = vec![Place::Nowhere; steps.len()];
        let mut free: Vec<V> = free.iter().copied().filter(|v| *v != input && *v != result).collect();
        free.reverse();
        match steps.iter().position(|s| *s == Step::Input) {
            Some(at) => places[at] = Place::Register(input),
            None => free.push(input),
        }
        if result != input {
            free.push(result);
        }
        Assigner { program, wanted, places, free, result, now: 0, ops: vec![] }
    }

    fn bits(&self, v: Val) -> Option<u32> {
        match self.program.steps().get(usize::from(v.0)) {
            Some(Step::Const(bits)) => Some(*bits),
            _ => None,
        }
    }

    /// The first step after this one that reads `v`.
    fn next_use(&self, v: Val) -> Option<usize> {
        self.program.uses(v).iter().copied().find(|u| *u > self.now)
    }

    fn register(&self, v: Val) -> Option<V> {
        match self.places[usize::from(v.0)] {
            Place::Register(r) | Place::Resident(r) => Some(r),
            Place::Nowhere => None,
        }
    }

    /// A register that holds nothing but perhaps a constant that none of `keep` is.
    fn any(&mut self, wanted: bool, keep: &[Val]) -> Option<V> {
        if let Some(at) = self.free.iter().rposition(|r| (*r == self.result) == wanted) {
            return Some(self.free.remove(at));
        }
        if let Some(r) = self.free.pop() {
            return Some(r);
        }
        let evicted = (0..self.now as u16)
            .map(Val)
            .filter(|v| self.bits(*v).is_some() && !keep.contains(v))
            .filter(|v| matches!(self.places[usize::from(v.0)], Place::Register(_)))
            .max_by_key(|v| self.next_use(*v).unwrap_or(usize::MAX))?;
        let register = self.register(evicted);
        self.places[usize::from(evicted.0)] = Place::Nowhere;
        register
    }

    /// A register for step `i`.
    fn take(&mut self, i: usize, keep: &[Val]) -> Option<V> {
        let d = self.any(self.wanted[i], keep)?;
        self.places[i] = Place::Register(d);
        Some(d)
    }

    /// The register of `v`, which is materialized if need be, without touching those of `keep`.
    fn read(&mut self, v: Val, keep: &[Val]) -> Option<V> {
        if let Some(r) = self.register(v) {
            return Some(r);
        }
        let bits = self.bits(v)?;
        let d = self.any(false, keep)?;
        self.places[usize::from(v.0)] = Place::Register(d);
        self.ops.push(Op::Const { d, bits });
        Some(d)
    }

    /// Frees the registers of those that nothing reads from here on, but for `except`.
    fn release_dying(&mut self, values: &[Val], except: V) {
        for v in values {
            if let Place::Register(r) = self.places[usize::from(v.0)]
                && self.next_use(*v).is_none()
            {
                self.places[usize::from(v.0)] = Place::Nowhere;
                if r != except {
                    self.free.push(r);
                }
            }
        }
    }

    /// A register for step `i`, which reads `operands` before it writes: one of theirs if it dies.
    fn replace(&mut self, i: usize, operands: &[Val], keep: &[Val]) -> Option<V> {
        let dying: Vec<V> = operands
            .iter()
            .filter(|v| self.next_use(**v).is_none())
            .filter_map(|v| if let Place::Register(r) = self.places[usize::from(v.0)] { Some(r) } else { None })
            .collect();
        let wanted = self.wanted[i];
        let d = match dying.iter().find(|r| (**r == self.result) == wanted).or(dying.first()) {
            Some(r) if !(wanted && *r != self.result && self.free.contains(&self.result)) => *r,
            _ => self.any(wanted, keep)?,
        };
        self.release_dying(operands, d);
        self.places[i] = Place::Register(d);
        Some(d)
    }

    /// A register that holds `acc` and may be added to by step `i`, whose factors are in registers.
    fn accumulator(&mut self, i: usize, acc: Val, factors: [Val; 2]) -> Option<V> {
        let at = usize::from(acc.0);
        let keep = [acc, factors[0], factors[1]];
        if let Place::Register(r) = self.places[at]
            && self.next_use(acc).is_none()
        {
            self.places[at] = Place::Nowhere;
            // A factor that is the accumulator, too, is read in the same operation.
            self.places[i] = Place::Register(r);
            return Some(r);
        }
        let from = self.register(acc);
        // A copy of a constant may take the place of the constant.
        let keep = if self.bits(acc).is_some() && !factors.contains(&acc) { &keep[1..] } else { &keep[..] };
        let d = self.take(i, keep)?;
        match (from, self.bits(acc)) {
            (Some(r), _) if r == d => {}
            (Some(r), _) => self.ops.push(Op::Unary { f: Unary::Move, d, a: r }),
            (None, Some(bits)) => self.ops.push(Op::Const { d, bits }),
            (None, None) => return None,
        }
        Some(d)
    }

    fn finish(mut self, result: V) -> Option<Vec<Op>> {
        let v = self.program.result();
        match self.places.get(usize::from(v.0)) {
            Some(Place::Register(r) | Place::Resident(r)) if *r == result => {}
            Some(Place::Register(r) | Place::Resident(r)) => {
                self.ops.push(Op::Unary { f: Unary::Move, d: result, a: *r })
            }
            _ => self.ops.push(Op::Const { d: result, bits: self.bits(v)? }),
        }
        Some(self.ops)
    }
}
