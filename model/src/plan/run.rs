//! A list of steps, and its calls.

use std::ops::Range;

use kiln_ir::func::{Tensor, TensorType};
use kiln_jit::Runtime;
use smallvec::SmallVec;

use super::action::Input;
use super::aligned::{Words, realigned, tensor};
use super::arena::{Arenas, Parts, parts};
use super::kernels::NetworkWeights;
use super::memory::{Buffer, Placement};
use super::step::{Home, Place, Step};
use super::threads::RuntimeThreads;
use crate::error::ModelError;

/// A function ready to run.
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub(super) constants: Vec<Option<Tensor>>,
    pub(super) buffers: Vec<Buffer>,
    pub placement: Placement,
    pub arguments: Vec<TensorType>,
    pub results: Vec<(TensorType, Place)>,
    /// Weights that were packed for it.
    pub weights: Vec<NetworkWeights>,
}

impl Plan {
    /// Bytes of constants that are read where they are, beside packed weights.
    pub(crate) fn constant_bytes(&self) -> usize {
        let own: usize = self.constants.iter().flatten().map(|t| t.data().len()).sum();
        own + self.steps.iter().map(|s| s.action.constant_bytes()).sum::<usize>()
    }

    /// Bytes of packed weights.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.steps.iter().map(|s| s.action.packed_bytes()).sum()
    }

    /// The results for arguments of this plan's types. `told` is called before and after each step with its position.
    pub(crate) fn call(
        &self,
        runtime: &Runtime,
        given: &[Tensor],
        arenas: &Arenas,
        told: impl FnMut(usize, bool),
    ) -> Result<Vec<Tensor>, ModelError> {
        // Elements that are not aligned are copied.
        let copies: Vec<Option<Tensor>> = given.iter().map(realigned).collect();
        let arguments: Vec<&[u8]> =
            given.iter().zip(&copies).map(|(given, copy)| &copy.as_ref().unwrap_or(given).data()[..]).collect();
        let mut arena = arenas.take(self.placement.bytes)?;
        let outcome = self.run(&RuntimeThreads::new(runtime), &arguments, arena.bytes_mut(), &mut [], told);
        let copied = |(ty, place): &(TensorType, Place)| tensor(ty, self.result(place, &arguments, arena.bytes()));
        let results = outcome.map(|()| self.results.iter().map(copied).collect());
        arenas.give(arena);
        results
    }

    /// Does as [`call`](Self::call), from bytes where they are, into memory for the results. Both are as long as the types say.
    pub(crate) fn call_into(
        &self,
        runtime: &Runtime,
        given: &[&[u8]],
        results: &mut [&mut [u8]],
        arenas: &Arenas,
        told: impl FnMut(usize, bool),
    ) -> Result<(), ModelError> {
        let is_aligned = |bytes: &[u8], ty: &TensorType| bytes.as_ptr().addr().is_multiple_of(ty.element().bytes());
        let words = |(bytes, ty): (&&[u8], &TensorType)| {
            (!is_aligned(bytes, ty)).then(|| Words(bytemuck::pod_collect_to_vec::<u8, u64>(bytes)))
        };
        let copies: Vec<Option<Words>> = given.iter().zip(&self.arguments).map(words).collect();
        let arguments: SmallVec<[&[u8]; 8]> = given
            .iter()
            .zip(&copies)
            .map(|(given, copy)| copy.as_ref().map_or(*given, |copy| &copy.as_ref()[..given.len()]))
            .collect();
        let mut arena = arenas.take(self.placement.bytes)?;
        // The buffers that are results themselves lie where the caller wants these.
        let (mut direct, mut copied): (SmallVec<[Direct<'_>; 4]>, SmallVec<[_; 4]>) = Default::default();
        for ((ty, place), memory) in self.results.iter().zip(results.iter_mut()) {
            let buffer = match place.home {
                Home::Buffer(at) if place.offset == 0 && self.buffers[at].bytes == place.bytes => Some(at),
                _ => None,
            };
            match buffer.filter(|at| is_aligned(memory, ty) && direct.iter().all(|other| other.buffer != *at)) {
                Some(buffer) => direct.push(Direct { buffer, memory }),
                None => copied.push((place, memory)),
            }
        }
        let outcome = self.run(&RuntimeThreads::new(runtime), &arguments, arena.bytes_mut(), &mut direct, told);
        if outcome.is_ok() {
            for (place, memory) in copied {
                let outside = direct.iter().find(|direct| place.home == Home::Buffer(direct.buffer));
                memory.copy_from_slice(match outside {
                    Some(direct) => &direct.memory[place.offset..][..place.bytes],
                    None => self.result(place, &arguments, arena.bytes()),
                });
            }
        }
        arenas.give(arena);
        outcome
    }

    /// Runs the steps in an arena, which is aligned for vectors. Buffers that are `direct` lie in memory of the caller's instead.
    pub(super) fn run(
        &self,
        threads: &RuntimeThreads<'_>,
        arguments: &[&[u8]],
        arena: &mut [u8],
        direct: &mut [Direct<'_>],
        mut told: impl FnMut(usize, bool),
    ) -> Result<(), ModelError> {
        /// Most steps read no more, and their list is not allocated.
        const FEW: usize = 8;
        for (i, step) in self.steps.iter().enumerate() {
            told(i, false);
            let scratch = step.scratch.map_or(0..0, |buffer| self.range(buffer, 0, self.buffers[buffer].bytes));
            let (written, outside) = Direct::split(direct, step.output);
            let range = if written.is_some() { 0..0 } else { self.written(step) };
            let Parts { read, output, scratch } = parts(arena, range, scratch);
            let output = written.unwrap_or(output);
            let input = |(n, place): (usize, &Place)| {
                (step.in_place != Some(n)).then(|| match place.home {
                    Home::Argument(at) => &arguments[at][place.offset..][..place.bytes],
                    Home::Constant(at) => self.constant(at, place),
                    Home::Buffer(at) => match outside.get(at) {
                        Some(memory) => &memory[place.offset..][..place.bytes],
                        None => read.input(self.range(at, place.offset, place.bytes)),
                    },
                })
            };
            let (mut few, mut many) = ([None; FEW], vec![]);
            let inputs: &[Input<'_>] = if step.inputs.len() <= FEW {
                few.iter_mut().zip(step.inputs.iter().enumerate().map(input)).for_each(|(slot, input)| *slot = input);
                &few[..step.inputs.len()]
            } else {
                many.extend(step.inputs.iter().enumerate().map(input));
                &many
            };
            step.action.run(threads, inputs, output, scratch)?;
            threads.check()?;
            told(i, true);
        }
        Ok(())
    }

    /// A result's bytes after a run.
    pub(super) fn result<'a>(&'a self, place: &Place, arguments: &[&'a [u8]], arena: &'a [u8]) -> &'a [u8] {
        match place.home {
            Home::Argument(at) => &arguments[at][place.offset..][..place.bytes],
            Home::Constant(at) => self.constant(at, place),
            Home::Buffer(at) => &arena[self.range(at, place.offset, place.bytes)],
        }
    }

    pub(super) fn constant(&self, at: usize, place: &Place) -> &[u8] {
        match &self.constants[at] {
            Some(tensor) => &tensor.data()[place.offset..][..place.bytes],
            // Packed weights are the kernel's: it asks for nothing here.
            None => &[],
        }
    }

    /// Where a step writes in the arena.
    pub(crate) fn written(&self, step: &Step) -> Range<usize> {
        self.range(step.output, 0, self.buffers[step.output].bytes)
    }

    pub(super) fn range(&self, buffer: usize, offset: usize, bytes: usize) -> Range<usize> {
        let start = self.placement.offsets[buffer] + offset;
        start..start + bytes
    }
}

/// A buffer that lies in memory of the caller's.
pub(super) struct Direct<'a> {
    buffer: usize,
    memory: &'a mut [u8],
}

/// Buffers in memory of the caller's while one of them, or none, is written.
struct Outside<'a>([&'a [Direct<'a>]; 2]);

impl<'a> Direct<'a> {
    /// The memory of a buffer that is written, if it is one of these, and the others.
    fn split<'b>(all: &'b mut [Direct<'a>], written: usize) -> (Option<&'b mut [u8]>, Outside<'b>)
    where
        'a: 'b,
    {
        match all.iter().position(|direct| direct.buffer == written) {
            None => (None, Outside([all, &[]])),
            Some(at) => {
                let (before, rest) = all.split_at_mut(at);
                let (one, after) = rest.split_at_mut(1);
                (Some(&mut *one[0].memory), Outside([before, after]))
            }
        }
    }
}

impl Outside<'_> {
    /// The memory of a buffer, if it is one of these.
    fn get(&self, buffer: usize) -> Option<&[u8]> {
        let all = self.0.iter().copied().flatten();
        all.into_iter().find(|direct| direct.buffer == buffer).map(|direct| &*direct.memory)
    }
}
