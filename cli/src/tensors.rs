//! The operands of a problem in memory.

use std::borrow::Cow;

use kiln_ir::elements::Elements;
use kiln_ir::{DType, Operand, Problem, Role};
use kiln_jit::{Args, Family, Input, Kernel, Output, PackedWeights, RuntimeError};

use crate::data::{self, Integers};
use crate::error::Error;

/// Tensors start on a cache line.
const ALIGN: usize = 64;

/// The elements of an operand, in memory order, with what is in gaps between them. They start on a cache line.
#[derive(Debug)]
pub struct Values {
    dtype: DType,
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Values {
    /// `len` zeros, or `None` without the memory.
    fn zeros(dtype: DType, len: usize) -> Option<Self> {
        let bytes = len.checked_mul(dtype.bytes())?;
        let padded = bytes.checked_add(ALIGN)?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(padded).ok()?;
        memory.resize(padded, 0);
        let start = memory.as_ptr().align_offset(ALIGN);
        Some(Self { dtype, memory, start, bytes })
    }

    /// The elements.
    pub fn elements(&self) -> Elements<'_> {
        let bytes = &self.memory[self.start..self.start + self.bytes];
        Elements::from_bytes(self.dtype, bytes).expect("whole elements from a cache line on")
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }

    /// Element `at` becomes `value`, rounded.
    pub fn set(&mut self, at: usize, value: f32) {
        let (dtype, size) = (self.dtype, self.dtype.bytes());
        let bits = dtype.to_bits(value).to_le_bytes();
        self.bytes_mut()[at * size..][..size].copy_from_slice(&bits[..size]);
    }

    /// All elements, rounded.
    pub fn fill_from(&mut self, values: impl Iterator<Item = f32>) {
        let (dtype, size) = (self.dtype, self.dtype.bytes());
        for (to, value) in self.bytes_mut().chunks_exact_mut(size).zip(values) {
            to.copy_from_slice(&dtype.to_bits(value).to_le_bytes()[..size]);
        }
    }

    /// The elements as f32: integers of more than 24 bits are rounded.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        let all = self.elements();
        match all.as_slice() {
            Some(values) => Cow::Borrowed(values),
            None => all.iter_bits().map(|bits| self.dtype.from_bits(bits)).collect(),
        }
    }

    /// The elements, exactly.
    pub fn to_f64(&self) -> impl Iterator<Item = f64> {
        self.elements().iter_bits().map(|bits| self.dtype.to_f64(bits))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.elements().len()
    }

    fn input(&self) -> Input<'_> {
        Input::Plain(self.elements())
    }
}

/// An operand and its elements.
#[derive(Debug)]
pub struct Tensor {
    /// The operand.
    pub operand: Operand,
    /// Its elements.
    pub values: Values,
}

/// One tensor per operand.
#[derive(Debug)]
pub struct Tensors {
    /// In argument order, without the result.
    pub inputs: Vec<Tensor>,
    /// The result.
    pub dst: Tensor,
    /// The elements of the result before a call, if the problem adds to them.
    before: Option<Vec<f32>>,
    packed: Option<PackedWeights>,
}

impl Tensors {
    /// Zeros of the problem's sizes. Fails unless there is memory for them and for two references in double precision.
    pub fn zeros(problem: &Problem) -> Result<Self, Error> {
        let operands = problem.operands();
        let bytes = operands
            .iter()
            .map(|o| o.span() * (o.dtype.bytes() as u64 + if o.role == Role::Dst { 2 * 8 } else { 0 }))
            .fold(0u64, u64::saturating_add);
        let memory = || Error::Memory { problem: problem.to_string(), bytes };
        if available_memory().is_some_and(|available| bytes > available) {
            return Err(memory());
        }
        let tensor = |operand: Operand| {
            let values = Values::zeros(operand.dtype, operand.span() as usize).ok_or_else(memory)?;
            Ok::<_, Error>(Tensor { operand, values })
        };
        let mut inputs = operands.into_iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let dst = inputs.pop().expect("a problem has a result");
        let before = problem.accumulates().then(|| vec![0.0; dst.values.len()]);
        Ok(Self { inputs, dst, before, packed: None })
    }

    /// Fills the tensors that a kernel reads with [`data::reals`], those of 8 bits with [`data::bytes`].
    pub fn fill_reals(&mut self, seed: u64) {
        self.fill(|dtype, role| match dtype {
            DType::S8 | DType::U8 => Box::new(data::bytes(dtype, seed, role)),
            _ => Box::new(data::reals(seed, role)),
        });
    }

    /// Fills the tensors that a kernel reads with [`Integers`], those of 8 bits with [`data::extreme_bytes`].
    pub fn fill_integers(&mut self, seed: u64, integers: Integers) {
        self.fill(|dtype, role| match dtype {
            DType::S8 | DType::U8 => Box::new(data::extreme_bytes(dtype, seed, role)),
            _ => Box::new(integers.stream(seed, role)),
        });
    }

    fn fill(&mut self, mut stream: impl FnMut(DType, Role) -> Box<dyn Iterator<Item = f32>>) {
        for t in &mut self.inputs {
            t.values.fill_from(stream(t.operand.dtype, t.operand.role));
        }
        if let Some(before) = &mut self.before {
            let dtype = self.dst.operand.dtype;
            before.iter_mut().zip(stream(dtype, Role::Dst)).for_each(|(v, x)| *v = dtype.round(x));
        }
        self.packed = None;
        self.reset();
    }

    /// Takes the present elements of the result as those before a call, for problems that add to them.
    pub fn keep_dst(&mut self) {
        if let Some(before) = &mut self.before {
            *before = self.dst.values.to_f32().into_owned();
        }
    }

    /// Gives the result the elements that it has before a call: those that the problem adds to, or else NaN or the least integer, which shows if a kernel
    /// reads an element or does not write it.
    pub fn reset(&mut self) {
        match &self.before {
            Some(before) => self.dst.values.fill_from(before.iter().copied()),
            None => {
                // Integers have no NaN: the least of them is no sum of test data.
                let dtype = self.dst.operand.dtype;
                let mark = if dtype.is_integer() { i32::MIN as f32 } else { f32::NAN };
                self.dst.values.fill_from(std::iter::repeat(mark));
            }
        }
    }

    /// Packs the weights as `kernel` reads them, and gives their bytes; `None` if it does not read packed weights.
    pub fn pack(&mut self, kernel: &Kernel) -> Result<Option<usize>, RuntimeError> {
        self.packed = None;
        if kernel.weights_layout().is_some() {
            self.packed = Some(kernel.pack_weights(self.inputs[1].values.input())?);
        }
        Ok(self.packed.as_ref().map(PackedWeights::bytes))
    }

    /// Packs the weights as a family reads them, if it reads packed weights.
    pub fn pack_for(&mut self, family: &Family) -> Result<(), RuntimeError> {
        self.packed = match family.weights_layout() {
            Some(_) => Some(family.pack_weights(self.inputs[1].values.input())?),
            None => None,
        };
        Ok(())
    }

    /// The tensors as arguments of a call, the weights packed if they were [packed](Self::pack).
    pub fn args(&mut self) -> Args<'_> {
        let weights = match &self.packed {
            Some(packed) => Input::from(packed),
            None => self.inputs[1].values.input(),
        };
        args(&self.inputs, weights, &mut self.dst)
    }

    /// The tensors as arguments of a call, the weights as they are in the problem.
    pub fn args_in_place(&mut self) -> Args<'_> {
        args(&self.inputs, self.inputs[1].values.input(), &mut self.dst)
    }

    /// The elements before a call as f32, in argument order, for [`Problem::reference`].
    pub fn values(&self) -> Vec<Cow<'_, [f32]>> {
        let inputs = self.inputs.iter().map(|t| t.values.to_f32());
        inputs.chain([Cow::Borrowed(self.before.as_deref().unwrap_or_default())]).collect()
    }
}

fn args<'a>(inputs: &'a [Tensor], weights: Input<'a>, dst: &'a mut Tensor) -> Args<'a> {
    let lhs = inputs[0].values.input();
    let dtype = dst.values.dtype;
    let result = Output::from_bytes(dtype, dst.values.bytes_mut()).expect("whole elements from a cache line on");
    let args = Args::new(lhs, weights, result);
    inputs[2..].iter().fold(args, |args, t| args.post_op(t.values.input()))
}

/// The bytes that the machine can give without swapping; `None` if it does not say. The allocator is not asked: it promises memory
/// that the operating system does not have, and the process is killed when it uses that.
fn available_memory() -> Option<u64> {
    mem_available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_aligned_typed_and_as_long_as_operands() {
        let problem: Problem = "matmul bf16 3x5:5x7 +bias+add:ab".parse().unwrap();
        let t = Tensors::zeros(&problem).unwrap();
        let all: Vec<_> = t.inputs.iter().chain([&t.dst]).map(|t| (t.operand.name.as_str(), t.values.len())).collect();
        assert_eq!(all, [("lhs", 15), ("rhs", 35), ("bias", 7), ("add", 21), ("dst", 21)]);
        for t in t.inputs.iter().chain([&t.dst]) {
            let (address, dtype) = (t.values.elements().as_bytes().as_ptr().addr(), t.values.dtype);
            assert_eq!((address % ALIGN, dtype), (0, t.operand.dtype));
        }
    }

    #[test]
    fn bytes_are_filled_with_bytes() {
        let mut t = Tensors::zeros(&"ip u8:s8:s32 mb64ic64oc64".parse().unwrap()).unwrap();
        for fill in [Tensors::fill_reals, |t: &mut Tensors, seed| t.fill_integers(seed, Integers::exact_for(64))] {
            fill(&mut t, 1);
            let range = |t: &Tensor| {
                let all = t.values.to_f64().collect::<Vec<_>>();
                (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(f64::MIN, f64::max))
            };
            assert_eq!([range(&t.inputs[0]), range(&t.inputs[1])], [(0.0, 255.0), (-128.0, 127.0)]);
        }
    }

    #[test]
    fn the_result_is_reset_to_what_is_added_to() {
        let mut t = Tensors::zeros(&"matmul f32 1x2:2x3 beta=1".parse().unwrap()).unwrap();
        t.fill_integers(3, Integers::exact_for(2));
        let before = t.dst.values.to_f32().into_owned();
        t.dst.values.set(1, 99.0);
        t.reset();
        assert_eq!(*t.dst.values.to_f32(), before);
        assert_eq!(*t.values()[2], before);
        let mut t = Tensors::zeros(&"matmul f32 1x2:2x3".parse().unwrap()).unwrap();
        t.fill_reals(1);
        assert!(t.dst.values.to_f32().iter().all(|v| v.is_nan()));
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:        8123456 kB\nMemFree:          100000 kB\nMemAvailable:    4000000 kB\n";
        assert_eq!(mem_available(text), Some(4_096_000_000));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert!(available_memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}
