//! The meaning of micro-kernels: an interpreter that computes bit for bit what emitted code must compute.

use std::collections::HashMap;

use kiln_ir::DType;

use super::op::{Domain, Registers};
use super::{Binary, Factors, Inst, MicroKernel, P, Shift, Stmt, Touched, Unary, V, bf16, verify};

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
    /// Too many registers.
    #[error("{0} registers: expected at most {max}", max = verify::MAX_REGISTERS)]
    TooManyRegisters(u32),
    /// A slot is read before it is written.
    #[error("slot {0} is read before it is written")]
    UnwrittenSlot(u16),
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
        if self.registers > verify::MAX_REGISTERS {
            return Err(fail("call".into(), Fault::TooManyRegisters(self.registers)));
        }
        let mut machine = Machine::new(self, args);
        let mut run = |inst: &Inst, trip| {
            machine.execute(inst, trip).map_err(|fault| fail(inst.display(&self.params).to_string(), fault))
        };
        for stmt in &self.body {
            match stmt {
                Stmt::Inst(inst) => run(inst, 0)?,
                Stmt::Loop { trips, body, .. } => {
                    for trip in 0..*trips {
                        body.iter().try_for_each(|inst| run(inst, trip))?;
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

/// Words of 32 bits.
pub(super) struct Bits;

impl Domain for Bits {
    type Word = u32;
    type Half = u16;
    type Byte = u8;
    type Error = Fault;

    fn constant(&mut self, bits: u32) -> u32 {
        bits
    }

    fn fma(&mut self, a: u32, b: u32, acc: u32) -> u32 {
        fma(a, b, acc)
    }

    fn mla(&mut self, a: u32, b: u32, acc: u32) -> u32 {
        acc.wrapping_add(a.wrapping_mul(b))
    }

    fn binary(&mut self, f: Binary, a: u32, b: u32) -> u32 {
        f.compute(a, b)
    }

    fn unary(&mut self, f: Unary, a: u32) -> u32 {
        f.compute(a)
    }

    fn shift(&mut self, f: Shift, a: u32, by: u8) -> u32 {
        f.compute(a, by)
    }

    fn dot(&mut self, f: Factors, a: &[u32], b: &[u32], acc: u32) -> Result<u32, Fault> {
        let words = a.iter().zip(b);
        if f == Factors::Bf16 {
            return Ok(words.fold(acc, |acc, (a, b)| bf16::dot_add(acc, *a, *b)));
        }
        let [left, right] = f.types();
        let bits = 32 / f.per_word();
        let factor = |dtype: DType, word: u32, n: usize| dtype.widen(word >> (n * bits));
        let dot =
            |acc: u32, n: usize, a: u32, b: u32| acc.wrapping_add(factor(left, a, n).wrapping_mul(factor(right, b, n)));
        Ok(words.fold(acc, |acc, (a, b)| (0..f.per_word()).fold(acc, |acc, n| dot(acc, n, *a, *b))))
    }

    fn round(&mut self, word: u32) -> Result<u16, Fault> {
        Ok(half::bf16::from_f32(f32::from_bits(word)).to_bits())
    }

    fn split(&self, word: u32) -> Result<[u16; 2], Fault> {
        Ok([word as u16, (word >> 16) as u16])
    }

    fn join(&self, [low, high]: [u16; 2]) -> u32 {
        u32::from(low) | u32::from(high) << 16
    }

    fn split_half(&self, half: u16) -> Result<[u8; 2], Fault> {
        Ok(half.to_le_bytes())
    }

    fn join_half(&self, bytes: [u8; 2]) -> u16 {
        u16::from_le_bytes(bytes)
    }
}

struct Machine<'a, 'b> {
    mk: &'a MicroKernel,
    registers: Registers<u32>,
    written: Vec<bool>,
    /// The words that were kept in slots.
    slots: HashMap<u16, Vec<u32>>,
    lanes: usize,
    /// What the last operation loaded.
    loaded: Vec<u32>,
    args: &'a mut [&'b mut [u8]],
}

impl<'a, 'b> Machine<'a, 'b> {
    fn new(mk: &'a MicroKernel, args: &'a mut [&'b mut [u8]]) -> Self {
        let lanes = mk.lanes as usize;
        Machine {
            mk,
            registers: Registers::new(mk.registers, lanes, 0),
            written: vec![false; mk.registers as usize],
            slots: HashMap::new(),
            lanes,
            loaded: vec![],
            args,
        }
    }

    fn execute(&mut self, inst: &Inst, trip: u64) -> Result<(), Fault> {
        let op = &inst.op;
        for v in op.used() {
            let written = self.written.get(v.0 as usize).ok_or(Fault::NoRegister(v))?;
            if !written {
                return Err(Fault::Unwritten(v));
            }
        }
        let overwritten = inst.temps.as_slice().iter().map(|v| (*v, false));
        for (v, written) in overwritten.chain(op.defined().map(|v| (v, true))) {
            *self.written.get_mut(v.0 as usize).ok_or(Fault::NoRegister(v))? = written;
        }
        op.check().map_err(|_| Fault::Elements)?;
        if let Some(touched) = op.touched() {
            let param = self.mk.params.get(usize::from(touched.addr.param.0));
            if param.is_some_and(|p| touched.extent(p.dtype) > op.most_touched(self.mk.lanes)) {
                return Err(Fault::Elements);
            }
            if touched.store {
                return op.used().try_for_each(|s| self.store(s, &touched, trip));
            }
            self.load(&touched, trip)?;
        }
        match (op.slot(), op.defined()) {
            (Some(slot), Some(_)) => self.loaded.clone_from(self.slots.get(&slot).ok_or(Fault::UnwrittenSlot(slot))?),
            (Some(slot), None) => {
                let words = op.used().find_map(|s| self.registers.get(s)).unwrap_or_default();
                self.slots.insert(slot, words.to_vec());
            }
            (None, _) => {}
        }
        self.registers.execute(&mut Bits, op, &self.loaded)
    }

    /// Sets `loaded` to the words of what an operation touches, and zeros behind them.
    fn load(&mut self, touched: &Touched, trip: u64) -> Result<(), Fault> {
        let (bytes, dtype) = self.locate(touched, trip)?;
        let bytes = &self.args[usize::from(touched.addr.param.0)][bytes];
        self.loaded.clear();
        let bits = |c: &[u8]| c.iter().rev().fold(0, |word, b| word << 8 | u32::from(*b));
        if touched.raw || !dtype.is_narrow() {
            self.loaded.extend(bytes.chunks(4).map(bits));
        } else {
            self.loaded.extend(bytes.chunks(dtype.bytes()).map(|c| dtype.widen(bits(c))));
        }
        self.loaded.resize(self.lanes, 0);
        Ok(())
    }

    /// Stores the first words of `s` where an operation touches memory.
    fn store(&mut self, s: V, touched: &Touched, trip: u64) -> Result<(), Fault> {
        let (bytes, dtype) = self.locate(touched, trip)?;
        let words = self.registers.get(s).ok_or(Fault::NoRegister(s))?;
        let slice = &mut self.args[usize::from(touched.addr.param.0)][bytes];
        if touched.raw || !dtype.is_narrow() {
            slice.iter_mut().zip(words.iter().flat_map(|w| w.to_le_bytes())).for_each(|(to, b)| *to = b);
        } else {
            for (to, word) in slice.chunks_mut(dtype.bytes()).zip(words) {
                let bits = dtype.to_bits(f32::from_bits(*word)).to_le_bytes();
                to.copy_from_slice(&bits[..to.len()]);
            }
        }
        Ok(())
    }

    /// The bytes that an operation touches in its argument, all of which exist, and the type of what is there.
    fn locate(&self, touched: &Touched, trip: u64) -> Result<(std::ops::Range<usize>, DType), Fault> {
        let Touched { addr, elements, .. } = touched;
        let dtype = self.mk.params.get(usize::from(addr.param.0)).ok_or(Fault::NoParam(addr.param))?.dtype;
        let len = self.args.get(usize::from(addr.param.0)).ok_or(Fault::NoParam(addr.param))?.len();
        let (element, elements) = (dtype.bytes(), usize::from(*elements));
        let byte = addr.byte(trip);
        let at = (byte % element as i128 == 0).then(|| usize::try_from(byte).ok()).flatten();
        let bytes = at.and_then(|at| Some(at..at.checked_add(elements * element)?));
        let bytes = bytes.filter(|bytes| bytes.end <= len);
        bytes.map(|b| (b, dtype)).ok_or(Fault::OutOfBounds { trip, byte, elements, len: len / element })
    }
}

/// `c + a * b`, rounded once.
#[inline]
pub fn fma(a: u32, b: u32, c: u32) -> u32 {
    f32::from_bits(a).mul_add(f32::from_bits(b), f32::from_bits(c)).to_bits()
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
