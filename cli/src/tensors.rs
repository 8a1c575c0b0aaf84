//! The operands of a problem in memory.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use kiln_ir::{DType, Operand, Problem, Role};
use kiln_jit::{Args, Family, Input, Kernel, PackedWeights, RuntimeError, bf16, f16};

use crate::data::{self, Integers};
use crate::error::Error;

/// Tensors start on a cache line.
const ALIGN: usize = 64;

/// Elements that start on a cache line.
#[derive(Debug)]
pub struct Buffer<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Buffer<T> {
    /// `len` zeros, or `None` without the memory.
    fn zeros(len: usize) -> Option<Self> {
        let padded = len.checked_add(ALIGN / size_of::<T>())?;
        let mut data: Vec<T> = Vec::new();
        data.try_reserve_exact(padded).ok()?;
        data.resize(padded, T::default());
        let start = data.as_ptr().align_offset(ALIGN);
        Some(Self { data, start, len })
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// The elements of an operand, in memory order, with what is in gaps between them.
#[derive(Debug)]
pub enum Values {
    /// f32.
    F32(Buffer<f32>),
    /// bf16.
    Bf16(Buffer<bf16>),
    /// f16.
    F16(Buffer<f16>),
}

impl Values {
    fn zeros(dtype: DType, len: usize) -> Option<Self> {
        match dtype {
            DType::F32 => Buffer::zeros(len).map(Values::F32),
            DType::Bf16 => Buffer::zeros(len).map(Values::Bf16),
            DType::F16 => Buffer::zeros(len).map(Values::F16),
        }
    }

    /// Element `at` becomes `value`, rounded.
    pub fn set(&mut self, at: usize, value: f32) {
        match self {
            Values::F32(v) => v[at] = value,
            Values::Bf16(v) => v[at] = bf16::from_f32(value),
            Values::F16(v) => v[at] = f16::from_f32(value),
        }
    }

    /// All elements, rounded.
    pub fn fill_from(&mut self, values: impl Iterator<Item = f32>) {
        match self {
            Values::F32(v) => v.iter_mut().zip(values).for_each(|(v, x)| *v = x),
            Values::Bf16(v) => v.iter_mut().zip(values).for_each(|(v, x)| *v = bf16::from_f32(x)),
            Values::F16(v) => v.iter_mut().zip(values).for_each(|(v, x)| *v = f16::from_f32(x)),
        }
    }

    /// The elements as f32.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Values::F32(v) => Cow::Borrowed(v),
            Values::Bf16(v) => Cow::Owned(v.iter().map(|x| x.to_f32()).collect()),
            Values::F16(v) => Cow::Owned(v.iter().map(|x| x.to_f32()).collect()),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::Bf16(v) => v.len(),
            Values::F16(v) => v.len(),
        }
    }

    fn input(&self) -> Input<'_> {
        match self {
            Values::F32(v) => Input::from(&**v),
            Values::Bf16(v) => Input::from(&**v),
            Values::F16(v) => Input::from(&**v),
        }
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

    /// Fills the tensors that a kernel reads with [`data::reals`].
    pub fn fill_reals(&mut self, seed: u64) {
        self.fill(|role| Box::new(data::reals(seed, role)));
    }

    /// Fills the tensors that a kernel reads with [`Integers`].
    pub fn fill_integers(&mut self, seed: u64, integers: Integers) {
        self.fill(|role| Box::new(integers.stream(seed, role)));
    }

    fn fill(&mut self, mut stream: impl FnMut(Role) -> Box<dyn Iterator<Item = f32>>) {
        for t in &mut self.inputs {
            t.values.fill_from(stream(t.operand.role));
        }
        if let Some(before) = &mut self.before {
            let dtype = self.dst.operand.dtype;
            before.iter_mut().zip(stream(Role::Dst)).for_each(|(v, x)| *v = dtype.round(x));
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

    /// Gives the result the elements that it has before a call: those that the problem adds to, or else NaN, which shows if a kernel
    /// reads an element or does not write it.
    pub fn reset(&mut self) {
        match &self.before {
            Some(before) => self.dst.values.fill_from(before.iter().copied()),
            None => self.dst.values.fill_from(std::iter::repeat(f32::NAN)),
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
    let args = match &mut dst.values {
        Values::F32(v) => Args::new(lhs, weights, &mut **v),
        Values::Bf16(v) => Args::new(lhs, weights, &mut **v),
        Values::F16(v) => Args::new(lhs, weights, &mut **v),
    };
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
            let (address, dtype) = match &t.values {
                Values::F32(v) => (v.as_ptr().addr(), DType::F32),
                Values::Bf16(v) => (v.as_ptr().addr(), DType::Bf16),
                Values::F16(v) => (v.as_ptr().addr(), DType::F16),
            };
            assert_eq!((address % ALIGN, dtype), (0, t.operand.dtype));
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
