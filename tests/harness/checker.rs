//! Executes a kernel in guarded memory and compares what it computes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_jit::{Kernel, Runtime, Target};

use crate::data::{Data, Random, Values};
use crate::guarded::{Guarded, Placement};
use crate::shapes::Work;
use crate::{canary, fault};

/// Memory for the operands and scratch of one call after another.
#[derive(Default)]
pub struct Checker {
    /// Of each operand, packed weights and scratch.
    memory: Vec<Guarded>,
}

impl Checker {
    /// Everything about one kernel; the error says what is wrong and with which data.
    ///
    /// Small integers must come out exact as long as nothing rounds, reals within the rounding bound. Each is computed twice:
    /// serially with the operands at the end of their pages, and task by task, shuffled, with the operands at the start; both
    /// must give the same bits. Weights are packed if the kernel reads packed ones.
    pub fn check(&mut self, kernel: &Kernel, seed: u64) -> Result<(), String> {
        fault::running(&format!("{} @{} with {}", kernel.problem(), kernel.target(), kernel.schedule()));
        for data in [Data::integers(kernel.problem(), seed), Data::reals(kernel.problem(), seed + 1)] {
            let found = self.both_ways(kernel, &data, seed)?;
            if let Some(why) = data.wrong(&found) {
                return Err(why);
            }
        }
        Ok(())
    }

    fn both_ways(&mut self, kernel: &Kernel, data: &Data, seed: u64) -> Result<Values, String> {
        let tasks = kernel.tasks();
        let serial = self.run(kernel, data, Placement::End, &[(0, tasks)])?;
        // Those of the first phase before all others.
        let first = kernel.first_tasks();
        let mut random = Random(seed);
        let mut pieces = pieces(0..first, &mut random);
        pieces.extend(self::pieces(first..tasks, &mut random));
        let parts = self.run(kernel, data, Placement::Start, &pieces)?;
        let bits = |v: &Values| v.to_f32().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let (a, b) = (bits(&serial), bits(&parts));
        match (0..a.len()).find(|&i| a[i] != b[i]) {
            Some(i) => {
                let [a, b] = [a[i], b[i]].map(f32::from_bits);
                Err(format!("dst[{i}] is {a} serially and {b} in the tasks {pieces:?}"))
            }
            None => Ok(serial),
        }
    }

    fn run(&mut self, kernel: &Kernel, data: &Data, at: Placement, tasks: &[(u64, u64)]) -> Result<Values, String> {
        let operands = kernel.problem().operands();
        let packed = match kernel.weights_layout() {
            Some(_) => Some(kernel.pack_weights(data.inputs[1].input()).map_err(|e| e.to_string())?),
            None => None,
        };
        // Packed weights stand in for rhs.
        let mut contents: Vec<(&str, Vec<u8>)> = operands
            .iter()
            .zip(data.inputs.iter().chain([&data.before]))
            .map(|(o, v)| (o.name.as_str(), v.bytes()))
            .collect();
        if let Some(packed) = &packed {
            contents[1].1 = packed.as_bytes().to_vec();
        }
        self.memory.resize_with(self.memory.len().max(operands.len() + 1), || Guarded::new(1 << 12));
        let (scratch, memory) = self.memory.split_first_mut().expect("one more than operands");
        let mut arguments: Vec<*mut u8> = vec![];
        for (memory, (_, bytes)) in memory.iter_mut().zip(&contents) {
            let place = memory.place(bytes.len(), at);
            place.copy_from_slice(bytes);
            arguments.push(place.as_mut_ptr());
        }
        if let Some(packed) = &packed {
            // Each pointer that the runtime would pass into the packed weights, moved into the guarded copy.
            let mut dst = data.before.clone();
            let pointers = kernel.pointers(data.args_with(packed.into(), &mut dst)).map_err(|e| e.to_string())?;
            let (base, copy) = (packed.as_bytes().as_ptr().addr(), arguments[1]);
            let moved = |p: &*mut u8| copy.wrapping_add(p.addr() - base);
            let (own, further) = pointers.as_slice().split_at(operands.len());
            arguments[1] = moved(&own[1]);
            arguments.extend(further.iter().map(moved));
        }
        let scratch_at = scratch.place(kernel.scratch_bytes(), at);
        // Threads share what follows.
        let line = Line { bytes: [0xff; 64] };
        let mut shared: Vec<Line> = vec![line; kernel.shared_bytes().div_ceil(line.bytes.len())];
        if kernel.shared_bytes() > 0 {
            scratch_at[..size_of::<usize>()].copy_from_slice(&shared.as_mut_ptr().addr().to_ne_bytes());
        }
        let scratch_at = scratch_at.as_mut_ptr();
        for &(begin, end) in tasks {
            // SAFETY: the pointers that the kernel's signature asks for, each to as many bytes as its operand has, aligned at
            // either end of whole pages; scratch as long and aligned as the kernel says; none overlap, and the kernel
            // outlives the call.
            unsafe { canary::call(kernel.entry(), arguments.as_ptr(), scratch_at, begin, end) }
                .map_err(|e| e.to_string())?;
        }
        let last = operands.len() - 1;
        for (memory, (name, bytes)) in memory.iter_mut().zip(&contents).take(last) {
            if memory.tensor() != bytes.as_slice() {
                return Err(format!("{name} was changed"));
            }
        }
        let names = contents.iter().map(|(name, _)| *name).chain(["scratch"]);
        for (memory, name) in memory.iter_mut().take(operands.len()).chain([scratch]).zip(names) {
            if !memory.margin_is_intact() {
                return Err(format!("something was stored beside {name}, with operands at the {at:?} of their pages"));
            }
        }
        Ok(Values::from_bytes(operands[last].dtype, memory[last].tensor()))
    }
}

/// A line of shared memory.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    bytes: [u8; 64],
}

/// A partition of tasks in random order.
fn pieces(tasks: std::ops::Range<u64>, random: &mut Random) -> Vec<(u64, u64)> {
    let (mut pieces, mut begin) = (vec![], tasks.start);
    while begin < tasks.end {
        let end = begin + 1 + random.below((tasks.end - begin).min(3));
        pieces.push((begin, end));
        begin = end;
    }
    for i in (1..pieces.len()).rev() {
        pieces.swap(i, random.below(i as u64 + 1) as usize);
    }
    pieces
}

/// The failures among `work` on `target`, which all processors take from a common list.
pub fn failures(target: &Target, work: &[Work]) -> Vec<String> {
    // So small a cache that kernels are evicted, and their memory reused, throughout.
    let runtime = Runtime::builder().target(target.clone()).cache_capacity(16).threads(1).build();
    let runtime = runtime.expect("a target that was found to run here");
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let take = || {
        let mut checker = Checker::default();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((problem, options)) = work.get(i) else { break };
            let result = match runtime.kernel_with(problem, options) {
                Ok(kernel) => {
                    checker.check(&kernel, i as u64).map_err(|why| format!("with {}: {why}", kernel.schedule()))
                }
                Err(e) => Err(e.to_string()),
            };
            if let Err(why) = result {
                failures.lock().expect("nobody panics with it").push(format!("{problem} @{target} {why}"));
            }
        }
    };
    std::thread::scope(|s| {
        (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(s.spawn(take)))
    });
    failures.into_inner().expect("nobody panicked with it")
}
