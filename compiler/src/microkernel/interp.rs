//! The meaning of micro-kernels: an interpreter that computes bit for bit what emitted code must compute.

use kiln_ir::DType;

use super::{Addr, Binary, MicroKernel, Op, P, Permute, Shift, Stmt, Unary, V, bf16, verify};

/// Why a micro-kernel could not be run. A micro-kernel that [verifies](MicroKernel::verify) can fail only with
/// [`Arguments`](Fault::Arguments), and with [`OutOfBounds`](Fault::OutOfBounds) for slices smaller than their regions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("micro-kernel `{name}`: {place}: {fault}")]
pub struct InterpError {
    /// The micro-kernel.
    pub name: String,
    /// The operation as it prints, or `call`.
    pub place: String,
    /// The fault.
    pub fault: Fault,
}

/// A reason why a micro-kernel cannot be interpreted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
    /// Runs the micro-kernel: `args[i]` is the memory behind parameter `i` from its pointer on, in bytes, elements
    /// little-endian. Multiply-adds round once, as [`f32::mul_add`]; maxima and minima are IEEE 754 `maximum` and `minimum`. On
    /// an error, stores made before it remain.
    pub fn interpret(&self, args: &mut [&mut [u8]]) -> Result<(), InterpError> {
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

    /// [`interpret`](Self::interpret) for micro-kernels all of whose parameters are f32.
    pub fn interpret_f32(&self, args: &mut [&mut [f32]]) -> Result<(), InterpError> {
        let mut bytes: Vec<&mut [u8]> = args.iter_mut().map(|a| bytemuck::cast_slice_mut(a)).collect();
        self.interpret(&mut bytes)
    }
}

/// The words of a register.
type Words = [u32; verify::MAX_LANES as usize];

struct Machine<'a, 'b> {
    mk: &'a MicroKernel,
    /// Words beyond the register's lanes are 0.
    registers: Vec<Words>,
    written: Vec<bool>,
    lanes: usize,
    args: &'a mut [&'b mut [u8]],
}

impl<'a, 'b> Machine<'a, 'b> {
    fn new(mk: &'a MicroKernel, args: &'a mut [&'b mut [u8]]) -> Self {
        let registers = usize::from(mk.registers);
        Machine {
            mk,
            registers: vec![[0; _]; registers],
            written: vec![false; registers],
            lanes: mk.lanes as usize,
            args,
        }
    }

    fn execute(&mut self, op: &Op, trip: u64) -> Result<(), Fault> {
        for v in op.used() {
            let written = self.written.get(usize::from(v.0)).ok_or(Fault::NoRegister(v))?;
            if !written {
                return Err(Fault::Unwritten(v));
            }
        }
        for (v, written) in op.defined().map(|v| (v, true)).into_iter().chain(op.clobbered().map(|v| (v, false))) {
            *self.written.get_mut(usize::from(v.0)).ok_or(Fault::NoRegister(v))? = written;
        }
        match *op {
            Op::Zero { d } => self.fill(d, |_| 0),
            Op::Const { d, bits } => self.fill(d, |_| bits),
            Op::Load { d, src, lanes } => {
                let loaded = self.load(&src, trip, lanes.into(), self.lanes)?;
                self.fill(d, |l| loaded[l]);
            }
            Op::LoadLanes { d, src, count } => {
                let loaded = self.load(&src, trip, count.into(), 4)?;
                self.fill(d, |l| loaded[l % 4]);
            }
            Op::Broadcast { d, src } => {
                let loaded = self.load(&src, trip, 1, 1)?;
                self.fill(d, |_| loaded[0]);
            }
            Op::Store { s, dst, lanes } => self.store(s, &dst, trip, lanes.into())?,
            Op::LoadRaw { d, src, elements } => {
                let loaded = self.load_raw(&src, trip, elements.into(), 2 * self.lanes)?;
                self.fill(d, |l| loaded[l]);
            }
            Op::LoadRawQuad { d, src, elements } => {
                let loaded = self.load_raw(&src, trip, elements.into(), 8)?;
                self.fill(d, |l| loaded[l % 4]);
            }
            Op::StoreRaw { s, dst, elements } => {
                let elements = usize::from(elements);
                if elements > 2 * self.lanes {
                    return Err(Fault::Elements);
                }
                let words = self.get(s);
                let at = self.locate(&dst, trip, elements, 2)?;
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).take(2 * elements).collect();
                self.args[usize::from(dst.param.0)][at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Op::Fma { d, a, b } => {
                let (c, a, b) = (self.get(d), self.get(a), self.get(b));
                self.fill(d, |l| fma(a[l], b[l], c[l]));
            }
            Op::FmaLane { d, a, b, lane } => {
                let (c, a, b, lane) = (self.get(d), self.get(a), self.get(b), element(lane)?);
                self.fill(d, |l| fma(a[l], b[l / 4 * 4 + lane], c[l]));
            }
            Op::Binary { f, d, a, b } => {
                let (a, b) = (self.get(a), self.get(b));
                self.fill(d, |l| binary(f, a[l], b[l]));
            }
            Op::Unary { f, d, a } => {
                let a = self.get(a);
                self.fill(d, |l| unary(f, a[l]));
            }
            Op::Shift { f, d, a, by } => {
                let a = self.get(a);
                self.fill(d, |l| shift(f, a[l], by));
            }
            Op::PairAdd { d, a, b } => {
                let (a, b, half) = (self.get(a), self.get(b), self.lanes / 2);
                self.fill(d, |l| {
                    let (from, l) = if l < half { (&a, l) } else { (&b, l - half) };
                    binary(Binary::Add, from[2 * l], from[2 * l + 1])
                });
            }
            Op::Mmla { d, a, b } => {
                let (c, a, b) = (self.get(d), self.get(a), self.get(b));
                self.fill(d, |l| {
                    let quad = l / 4 * 4;
                    let (row, column) = (quad + l % 4 / 2 * 2, quad + l % 2 * 2);
                    bf16::mmla_element(c[l], [a[row], a[row + 1]], [b[column], b[column + 1]])
                });
            }
            Op::Dot2 { d, a, b } => {
                let (c, a, b) = (self.get(d), self.get(a), self.get(b));
                self.fill(d, |l| bf16::dot_add(c[l], a[l], b[l]));
            }
            Op::Dot2Lane { d, a, b, lane } => {
                let (c, a, b, lane) = (self.get(d), self.get(a), self.get(b), element(lane)?);
                self.fill(d, |l| bf16::dot_add(c[l], a[l], b[l / 4 * 4 + lane]));
            }
            Op::Narrow { d, a, b, .. } => {
                let (a, b, lanes) = (self.get(a), self.get(b), self.lanes);
                let half = |h: usize| narrow(if h < lanes { a[h] } else { b[h - lanes] });
                self.fill(d, |l| half(2 * l) | half(2 * l + 1) << 16);
            }
            Op::NarrowPairs { d, a, b, .. } => {
                let (a, b) = (self.get(a), self.get(b));
                self.fill(d, |l| narrow(a[l]) | narrow(b[l]) << 16);
            }
            Op::Permute { f, bits, d, a, b } => {
                let (a, b) = (self.get(a), self.get(b));
                let permuted = permute(f, bits, &a[..self.lanes], &b[..self.lanes])?;
                self.fill(d, |l| permuted[l]);
            }
        }
        Ok(())
    }

    /// The words of `v`, which is within the budget.
    fn get(&self, v: V) -> Words {
        self.registers[usize::from(v.0)]
    }

    fn fill(&mut self, d: V, value: impl Fn(usize) -> u32) {
        let lanes = self.lanes;
        self.registers[usize::from(d.0)][..lanes].iter_mut().enumerate().for_each(|(l, v)| *v = value(l));
    }

    fn dtype(&self, p: P) -> Result<DType, Fault> {
        self.mk.params.get(usize::from(p.0)).map(|p| p.dtype).ok_or(Fault::NoParam(p))
    }

    /// `elements` elements at `addr` as f32, followed by zeros. An operation can load at most `max`.
    fn load(&self, addr: &Addr, trip: u64, elements: usize, max: usize) -> Result<Words, Fault> {
        if elements > max {
            return Err(Fault::Elements);
        }
        let dtype = self.dtype(addr.param)?;
        let at = self.locate(addr, trip, elements, dtype.bytes())?;
        let bytes = &self.args[usize::from(addr.param.0)][at..at + elements * dtype.bytes()];
        let mut loaded = [0; _];
        match dtype {
            DType::F32 => {
                let words = bytes.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c));
                loaded.iter_mut().zip(words).for_each(|(l, w)| *l = w);
            }
            DType::Bf16 => {
                let halves = bytes.as_chunks().0.iter().map(|c| u32::from(u16::from_le_bytes(*c)) << 16);
                loaded.iter_mut().zip(halves).for_each(|(l, w)| *l = w);
            }
        }
        Ok(loaded)
    }

    /// `elements` bf16 at `addr` as they are, followed by zeros.
    fn load_raw(&self, addr: &Addr, trip: u64, elements: usize, max: usize) -> Result<Words, Fault> {
        if elements > max {
            return Err(Fault::Elements);
        }
        let at = self.locate(addr, trip, elements, 2)?;
        let bytes = &self.args[usize::from(addr.param.0)][at..at + 2 * elements];
        let mut loaded = [0u32; verify::MAX_LANES as usize];
        for (i, half) in bytes.as_chunks().0.iter().enumerate() {
            loaded[i / 2] |= u32::from(u16::from_le_bytes(*half)) << (16 * (i % 2));
        }
        Ok(loaded)
    }

    fn store(&mut self, s: V, addr: &Addr, trip: u64, elements: usize) -> Result<(), Fault> {
        if elements > self.lanes {
            return Err(Fault::Elements);
        }
        let dtype = self.dtype(addr.param)?;
        let at = self.locate(addr, trip, elements, dtype.bytes())?;
        let words = self.get(s);
        let slice = &mut self.args[usize::from(addr.param.0)][at..at + elements * dtype.bytes()];
        match dtype {
            DType::F32 => slice.as_chunks_mut().0.iter_mut().zip(words).for_each(|(c, w)| *c = w.to_le_bytes()),
            DType::Bf16 => {
                slice.as_chunks_mut().0.iter_mut().zip(words).for_each(|(c, w)| *c = (narrow(w) as u16).to_le_bytes());
            }
        }
        Ok(())
    }

    /// The byte of the first of `elements` elements at `addr` in its argument, all of which exist.
    fn locate(&self, addr: &Addr, trip: u64, elements: usize, element: usize) -> Result<usize, Fault> {
        let len = self.args.get(usize::from(addr.param.0)).ok_or(Fault::NoParam(addr.param))?.len();
        let byte = addr.byte(trip);
        (byte % element as i128 == 0)
            .then(|| usize::try_from(byte).ok())
            .flatten()
            .filter(|at| at.checked_add(elements * element).is_some_and(|end| end <= len))
            .ok_or(Fault::OutOfBounds { trip, byte, elements, len: len / element })
    }
}

fn element(lane: u8) -> Result<usize, Fault> {
    if lane < 4 { Ok(lane.into()) } else { Err(Fault::Elements) }
}

/// `c + a * b`, rounded once.
#[inline]
pub fn fma(a: u32, b: u32, c: u32) -> u32 {
    f32::from_bits(a).mul_add(f32::from_bits(b), f32::from_bits(c)).to_bits()
}

/// The nearest bf16, ties to even; NaN stays NaN.
fn narrow(word: u32) -> u32 {
    half::bf16::from_f32(f32::from_bits(word)).to_bits().into()
}

/// The result of an operation in one lane.
#[inline]
pub fn binary(f: Binary, a: u32, b: u32) -> u32 {
    let (x, y) = (f32::from_bits(a), f32::from_bits(b));
    match f {
        Binary::Add => (x + y).to_bits(),
        Binary::Sub => (x - y).to_bits(),
        Binary::Mul => (x * y).to_bits(),
        Binary::Div => (x / y).to_bits(),
        Binary::Max => maximum(x, y).to_bits(),
        Binary::Min => (-maximum(-x, -y)).to_bits(),
        Binary::IAdd => a.wrapping_add(b),
        Binary::ISub => a.wrapping_sub(b),
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
    }
}

/// The result of an operation in one lane.
#[inline]
pub fn unary(f: Unary, a: u32) -> u32 {
    match f {
        Unary::Move => a,
        Unary::Sqrt => f32::from_bits(a).sqrt().to_bits(),
        Unary::Abs => a & (u32::MAX >> 1),
    }
}

/// The result of a shift in one lane.
#[inline]
pub fn shift(f: Shift, a: u32, by: u8) -> u32 {
    let by = u32::from(by).min(31);
    match f {
        Shift::Left => a << by,
        Shift::RightSigned => (a.cast_signed() >> by).cast_unsigned(),
    }
}

/// The words of a permutation, followed by zeros.
fn permute(f: Permute, bits: u8, a: &[u32], b: &[u32]) -> Result<Words, Fault> {
    // In units of 16 bits, of which an element has `width`.
    let width = match bits {
        16 => 1,
        32 => 2,
        64 => 4,
        _ => return Err(Fault::Elements),
    };
    let halves = |w: &[u32]| w.iter().flat_map(|w| [*w as u16, (*w >> 16) as u16]).collect::<Vec<_>>();
    let (a, b) = (halves(a), halves(b));
    let count = a.len() / width;
    let (first, second): (Vec<_>, Vec<_>) = (a.chunks(width).collect(), b.chunks(width).collect());
    let elements: Vec<&[u16]> = match f {
        Permute::ZipLow | Permute::ZipHigh => {
            let from = if f == Permute::ZipHigh { count / 2 } else { 0 };
            (from..from + count / 2).flat_map(|i| [first[i], second[i]]).collect()
        }
        Permute::TrnEven | Permute::TrnOdd => {
            let skip = usize::from(f == Permute::TrnOdd);
            (skip..count).step_by(2).flat_map(|i| [first[i], second[i]]).collect()
        }
        Permute::UzpEven | Permute::UzpOdd => {
            let skip = usize::from(f == Permute::UzpOdd);
            first.iter().skip(skip).step_by(2).chain(second.iter().skip(skip).step_by(2)).copied().collect()
        }
    };
    let mut words = [0; _];
    let halves = elements.concat();
    words.iter_mut().zip(halves.chunks(2)).for_each(|(w, h)| *w = u32::from(h[0]) | u32::from(h[1]) << 16);
    Ok(words)
}

/// IEEE 754 `maximum`: NaN if either is NaN, and +0 is greater than -0. ([`f32::max`] ignores a NaN.)
#[inline]
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
        text.parse::<MicroKernel>().unwrap().interpret_f32(&mut [src, dst]).map_err(|e| e.fault)
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
        let fault = mk.interpret_f32(&mut [&mut src]).unwrap_err().fault;
        assert_eq!(fault, Fault::Arguments { expected: 0, found: 1 });
    }
}
