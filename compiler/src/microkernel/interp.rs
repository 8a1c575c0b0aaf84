//! The meaning of micro-kernels: an interpreter that computes bit for bit what emitted code must compute.

use super::{Addr, MicroKernel, Op, P, Stmt, V, verify};

/// Why a micro-kernel could not be run. A micro-kernel that [verifies](MicroKernel::verify) can fail only with
/// [`Arguments`](Fault::Arguments), and with [`OutOfBounds`](Fault::OutOfBounds) for slices smaller than their regions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("micro-kernel `{name}`: {place}: {fault}")]
pub struct InterpError {
    /// The micro-kernel.
    pub name: String,
    /// The operation as it prints, or `call`.
    pub place: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// One slice is needed for every parameter.
    #[error("{found} arguments for {expected} parameters")]
    Arguments {
        /// Parameters of the micro-kernel.
        expected: usize,
        /// Slices passed.
        found: usize,
    },
    /// Registers must have a multiple of 4 lanes, up to [`verify::MAX_LANES`].
    #[error("registers of {0} lanes")]
    RegisterLanes(u32),
    /// A register outside of the budget.
    #[error("there is no register {0}")]
    NoRegister(V),
    /// A register is read before it is written.
    #[error("{0} is read before it is written")]
    Unwritten(V),
    /// An address whose parameter does not exist.
    #[error("there is no parameter {}", .0.0)]
    NoParam(P),
    /// More elements, or a higher lane, than the operation can have.
    #[error("too many elements or too high a lane")]
    Elements,
    /// An access that is not inside its slice, or not aligned to elements.
    #[error("trip {trip} accesses {elements} elements at byte {byte} of {len} elements")]
    OutOfBounds {
        /// Trip of the enclosing loop.
        trip: u64,
        /// First byte accessed.
        byte: i128,
        /// Elements accessed.
        elements: usize,
        /// Elements of the slice.
        len: usize,
    },
}

impl MicroKernel {
    /// Runs the micro-kernel: `args[i]` is the memory behind parameter `i` from its pointer on. Multiply-adds round once,
    /// as [`f32::mul_add`]; [`Op::Max`] is IEEE 754 `maximum`. On an error, stores made before it remain.
    pub fn interpret(&self, args: &mut [&mut [f32]]) -> Result<(), InterpError> {
        let fail = |place, fault| InterpError { name: self.name.clone(), place, fault };
        if args.len() != self.params.len() {
            let fault = Fault::Arguments { expected: self.params.len(), found: args.len() };
            return Err(fail("call".into(), fault));
        }
        if !self.lanes.is_multiple_of(4) || !(4..=verify::MAX_LANES).contains(&self.lanes) {
            return Err(fail("call".into(), Fault::RegisterLanes(self.lanes)));
        }
        let mut machine = Machine::new(self, args);
        let mut run = |op: &Op, trip| {
            machine.execute(op, trip).map_err(|fault| fail(op.display(&self.params).to_string(), fault))
        };
        for stmt in &self.body {
            match stmt {
                Stmt::Inst(inst) => run(&inst.op, 0)?,
                Stmt::Loop { trips, body, .. } => {
                    for trip in 0..*trips {
                        body.iter().try_for_each(|inst| run(&inst.op, trip))?;
                    }
                }
            }
        }
        Ok(())
    }
}

struct Machine<'a, 'b> {
    /// Register `v` is `values[v * lanes..][..lanes]`.
    values: Vec<f32>,
    written: Vec<bool>,
    lanes: usize,
    args: &'a mut [&'b mut [f32]],
}

impl<'a, 'b> Machine<'a, 'b> {
    fn new(mk: &MicroKernel, args: &'a mut [&'b mut [f32]]) -> Self {
        let (registers, lanes) = (usize::from(mk.registers), mk.lanes as usize);
        Machine { values: vec![0.0; registers * lanes], written: vec![false; registers], lanes, args }
    }

    fn execute(&mut self, op: &Op, trip: u64) -> Result<(), Fault> {
        for v in op.used() {
            let written = self.written.get(usize::from(v.0)).ok_or(Fault::NoRegister(v))?;
            if !written {
                return Err(Fault::Unwritten(v));
            }
        }
        if let Some(v) = op.defined() {
            *self.written.get_mut(usize::from(v.0)).ok_or(Fault::NoRegister(v))? = true;
        }
        match *op {
            Op::Zero { d } => self.fill(d, |_| 0.0),
            Op::Load { d, src, lanes } => {
                let lanes = usize::from(lanes);
                let loaded = self.load(&src, trip, lanes, self.lanes)?;
                self.fill(d, |l| if l < lanes { loaded[l] } else { 0.0 });
            }
            Op::LoadLanes { d, src, count } => {
                let count = usize::from(count);
                let loaded = self.load(&src, trip, count, 4)?;
                self.fill(d, |l| if l % 4 < count { loaded[l % 4] } else { 0.0 });
            }
            Op::Broadcast { d, src } => {
                let loaded = self.load(&src, trip, 1, 1)?;
                self.fill(d, |_| loaded[0]);
            }
            Op::Store { s, dst, lanes } => {
                let (elements, s) = (usize::from(lanes), self.base(s));
                if elements > self.lanes {
                    return Err(Fault::Elements);
                }
                let at = self.locate(&dst, trip, elements)?;
                let slice = &mut self.args[usize::from(dst.param.0)];
                slice[at..at + elements].copy_from_slice(&self.values[s..s + elements]);
            }
            Op::Fma { d, a, b } => {
                let (c, a, b) = (self.base(d), self.base(a), self.base(b));
                for l in 0..self.lanes {
                    self.values[c + l] = self.values[a + l].mul_add(self.values[b + l], self.values[c + l]);
                }
            }
            Op::FmaLane { d, a, b, lane } => {
                if lane >= 4 {
                    return Err(Fault::Elements);
                }
                let (c, a, b) = (self.base(d), self.base(a), self.base(b));
                for group in (0..self.lanes).step_by(4) {
                    // Read once: `d` may be `b`.
                    let scalar = self.values[b + group + usize::from(lane)];
                    for l in group..group + 4 {
                        self.values[c + l] = self.values[a + l].mul_add(scalar, self.values[c + l]);
                    }
                }
            }
            Op::Add { d, a, b } => self.combine(d, a, b, |x, y| x + y),
            Op::Max { d, a, b } => self.combine(d, a, b, maximum),
        }
        Ok(())
    }

    /// Index of lane 0 of `v`, which is within the budget.
    fn base(&self, v: V) -> usize {
        usize::from(v.0) * self.lanes
    }

    fn fill(&mut self, d: V, value: impl Fn(usize) -> f32) {
        let base = self.base(d);
        self.values[base..base + self.lanes].iter_mut().enumerate().for_each(|(l, v)| *v = value(l));
    }

    fn combine(&mut self, d: V, a: V, b: V, f: impl Fn(f32, f32) -> f32) {
        let (d, a, b) = (self.base(d), self.base(a), self.base(b));
        for l in 0..self.lanes {
            self.values[d + l] = f(self.values[a + l], self.values[b + l]);
        }
    }

    /// `elements` elements at `addr`, followed by zeros. An operation can load at most `max`.
    fn load(
        &self,
        addr: &Addr,
        trip: u64,
        elements: usize,
        max: usize,
    ) -> Result<[f32; verify::MAX_LANES as usize], Fault> {
        if elements > max {
            return Err(Fault::Elements);
        }
        let at = self.locate(addr, trip, elements)?;
        let mut loaded = [0.0; verify::MAX_LANES as usize];
        loaded[..elements].copy_from_slice(&self.args[usize::from(addr.param.0)][at..at + elements]);
        Ok(loaded)
    }

    /// Index of the first of `elements` elements at `addr` in its argument, all of which exist.
    fn locate(&self, addr: &Addr, trip: u64, elements: usize) -> Result<usize, Fault> {
        let len = self.args.get(usize::from(addr.param.0)).ok_or(Fault::NoParam(addr.param))?.len();
        let byte = addr.byte(trip);
        let element = size_of::<f32>() as i128;
        (byte % element == 0)
            .then(|| usize::try_from(byte / element).ok())
            .flatten()
            .filter(|at| at.checked_add(elements).is_some_and(|end| end <= len))
            .ok_or(Fault::OutOfBounds { trip, byte, elements, len })
    }
}

/// IEEE 754 `maximum`: NaN if either is NaN, and +0 is greater than -0. ([`f32::max`] ignores a NaN.)
fn maximum(x: f32, y: f32) -> f32 {
    if x.is_nan() || y.is_nan() {
        x + y
    } else if x > y || (x == y && x.is_sign_positive()) {
        x
    } else {
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(body: &str, src: &mut [f32], dst: &mut [f32]) -> Result<(), Fault> {
        let text = format!(
            "microkernel uk avx2 lanes=8 registers=4 {{
                param src: f32 read 1x64 stride 64
                param dst: f32 readwrite 1x64 stride 64
                {body}
            }}"
        );
        text.parse::<MicroKernel>().unwrap().interpret(&mut [src, dst]).map_err(|e| e.fault)
    }

    #[test]
    fn partial_loads_zero_and_partial_stores_keep_the_rest() {
        let mut src: Vec<f32> = (1..=16).map(|i| i as f32).collect();
        let mut dst = [-1.0; 10];
        run("v0 = load src[4] x3\n store dst[0], v0 x5", &mut src, &mut dst).unwrap();
        assert_eq!(dst, [2.0, 3.0, 4.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0, -1.0]);
        run("v0 = loadlanes src[0] x3\n store dst[8], v0 x8", &mut src, &mut dst).unwrap();
        assert_eq!(dst[2..], [1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
    }

    #[test]
    fn a_multiply_add_by_element_may_overwrite_its_scalars() {
        let mut src = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut dst = [0.0; 8];
        run("v0 = load src[0] x8\n v0 += v0 * v0.lane[1]\n store dst[0], v0 x8", &mut src, &mut dst).unwrap();
        assert_eq!(dst, [3.0, 6.0, 9.0, 12.0, 35.0, 42.0, 49.0, 56.0]);
    }

    #[test]
    fn multiply_adds_round_once_and_loops_step() {
        let tiny = 1.0 + 3.0 * f32::EPSILON;
        let mut src = [tiny, tiny, -1.0, 0.0];
        let mut dst = [0.0];
        let body = "v0 = zero
            loop 2 {
                v1 = broadcast src[0 + 8*t]
                v2 = broadcast src[4 - 0*t]
                v0 += v1 * v2
            }
            store dst[0], v0 x1";
        run(body, &mut src, &mut dst).unwrap();
        assert_eq!(dst[0], tiny.mul_add(tiny, 0.0) - tiny);
        let body = "v0 = broadcast src[8]\n v1 = broadcast src[0]\n v0 += v1 * v1\n store dst[0], v0 x1";
        run(body, &mut src, &mut dst).unwrap();
        assert_eq!(dst[0], tiny.mul_add(tiny, -1.0));
        assert_ne!(dst[0], tiny * tiny - 1.0);
    }

    #[test]
    fn max_propagates_nan_and_orders_zeros() {
        assert!(maximum(f32::NAN, 1.0).is_nan() && maximum(1.0, f32::NAN).is_nan());
        for (x, y) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(maximum(x, y).is_sign_positive());
        }
        assert!(maximum(-0.0f32, -0.0).is_sign_negative());
        assert_eq!((maximum(-3.0, 2.0), maximum(2.0, -3.0)), (2.0, 2.0));
    }

    #[test]
    fn bad_calls_are_errors() {
        let mut src = [0.0; 8];
        let mut dst = [0.0; 8];
        let out_of_bounds = |trip, byte, elements| Err(Fault::OutOfBounds { trip, byte, elements, len: 8 });
        assert_eq!(run("v0 = load src[4] x8", &mut src, &mut dst), out_of_bounds(0, 4, 8));
        assert_eq!(run("v0 = load src[-4] x1", &mut src, &mut dst), out_of_bounds(0, -4, 1));
        assert_eq!(run("v0 = load src[2] x1", &mut src, &mut dst), out_of_bounds(0, 2, 1));
        let far = "loop 9 {\n v0 = broadcast src[0 + 4611686018427387904*t]\n }";
        assert_eq!(run(far, &mut src, &mut dst), out_of_bounds(1, 1 << 62, 1));
        assert_eq!(run("v0 = load src[0] x9", &mut src, &mut dst), Err(Fault::Elements));
        assert_eq!(run("v0 = zero\n v0 += v0 * v0.lane[4]", &mut src, &mut dst), Err(Fault::Elements));
        assert_eq!(run("v4 = zero", &mut src, &mut dst), Err(Fault::NoRegister(V(4))));
        assert_eq!(run("v1 = add v0, v0", &mut src, &mut dst), Err(Fault::Unwritten(V(0))));
        let mk: MicroKernel = "microkernel uk avx2 lanes=8 registers=4 {\n}".parse().unwrap();
        let fault = mk.interpret(&mut [&mut src]).unwrap_err().fault;
        assert_eq!(fault, Fault::Arguments { expected: 0, found: 1 });
    }
}
