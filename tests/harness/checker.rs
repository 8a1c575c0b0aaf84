//! Executes a kernel in guarded memory and compares what it computes.

use kiln_ir::Role;
use kiln_runtime::Kernel;

use crate::data::{Data, Random};
use crate::guarded::{Guarded, Placement};
use crate::{canary, fault};

/// Memory for the operands and scratch of one call after another.
pub struct Checker {
    lhs: Guarded,
    rhs: Guarded,
    bias: Guarded,
    dst: Guarded,
    scratch: Guarded,
}

impl Default for Checker {
    fn default() -> Self {
        let memory = || Guarded::new(1 << 12);
        Self { lhs: memory(), rhs: memory(), bias: memory(), dst: memory(), scratch: memory() }
    }
}

impl Checker {
    /// Everything about one kernel; the error says what is wrong and with which data.
    ///
    /// Small integers must come out exact, reals within the rounding bound. Each is computed twice: serially with the
    /// operands at the end of their pages, and task by task, shuffled, with the operands at the start; both must give
    /// the same bits.
    pub fn check(&mut self, kernel: &Kernel, seed: u64) -> Result<(), String> {
        fault::running(&format!("{} @{} with {}", kernel.problem(), kernel.target(), kernel.schedule()));
        let data = Data::integers(kernel.problem(), seed);
        let exact = data.exact();
        let found = self.both_ways(kernel, &data, seed)?;
        if let Some(i) = (0..exact.len()).find(|&i| found[i] != exact[i]) {
            return Err(format!("integers: dst[{i}] is {} instead of {}", found[i], exact[i]));
        }
        let data = Data::reals(kernel.problem(), seed + 1);
        let (value, bound) = data.bounded();
        let found = self.both_ways(kernel, &data, seed + 1)?;
        // False for a NaN.
        let within = |i: usize| (f64::from(found[i]) - value[i]).abs() <= bound[i];
        match (0..value.len()).find(|&i| !within(i)) {
            Some(i) => Err(format!("reals: dst[{i}] is {} instead of {} +- {:e}", found[i], value[i], bound[i])),
            None => Ok(()),
        }
    }

    fn both_ways(&mut self, kernel: &Kernel, data: &Data, seed: u64) -> Result<Vec<f32>, String> {
        let tasks = kernel.tasks();
        let serial = self.run(kernel, data, Placement::End, &[(0, tasks)])?;
        let pieces = pieces(tasks, &mut Random(seed));
        let parts = self.run(kernel, data, Placement::Start, &pieces)?;
        match (0..serial.len()).find(|&i| serial[i].to_bits() != parts[i].to_bits()) {
            Some(i) => Err(format!("dst[{i}] is {} serially and {} in the tasks {pieces:?}", serial[i], parts[i])),
            None => Ok(serial),
        }
    }

    fn run(&mut self, kernel: &Kernel, data: &Data, at: Placement, tasks: &[(u64, u64)]) -> Result<Vec<f32>, String> {
        self.scratch.place(kernel.scratch_bytes() / 4, at);
        for (memory, values) in [(&mut self.lhs, &data.lhs), (&mut self.rhs, &data.rhs), (&mut self.bias, &data.bias)] {
            memory.place(values.len(), at).copy_from_slice(values);
        }
        let operands = kernel.problem().operands();
        let mut arguments = vec![];
        for o in &operands {
            arguments.push(match o.role {
                Role::Lhs => self.lhs.tensor().as_mut_ptr(),
                Role::Rhs => self.rhs.tensor().as_mut_ptr(),
                Role::Bias => self.bias.tensor().as_mut_ptr(),
                Role::Dst => self.dst.place(o.len() as usize, at).as_mut_ptr(),
            });
        }
        let scratch = self.scratch.tensor().as_mut_ptr();
        for &(begin, end) in tasks {
            // SAFETY: one pointer per operand to as many elements as it has, scratch as long and, at either end of
            // whole pages, as aligned as the kernel says, none overlapping; the kernel outlives the call.
            unsafe { canary::call(kernel.entry(), arguments.as_ptr().cast(), scratch.cast(), begin, end) }
                .map_err(|e| e.to_string())?;
        }
        let inputs = [
            ("lhs", &mut self.lhs, &data.lhs),
            ("rhs", &mut self.rhs, &data.rhs),
            ("bias", &mut self.bias, &data.bias),
        ];
        for (name, memory, values) in inputs {
            if memory.tensor() != values.as_slice() {
                return Err(format!("{name} was changed"));
            }
        }
        let all = [&mut self.lhs, &mut self.rhs, &mut self.bias, &mut self.dst, &mut self.scratch];
        for (memory, name) in all.into_iter().zip(["lhs", "rhs", "bias", "dst", "scratch"]) {
            if !memory.margin_is_intact() {
                return Err(format!("something was stored beside {name}, with operands at the {at:?} of their pages"));
            }
        }
        Ok(self.dst.tensor().to_vec())
    }
}

/// A partition of `0..tasks` in random order.
fn pieces(tasks: u64, random: &mut Random) -> Vec<(u64, u64)> {
    let (mut pieces, mut begin) = (vec![], 0);
    while begin < tasks {
        let end = begin + 1 + random.below((tasks - begin).min(3));
        pieces.push((begin, end));
        begin = end;
    }
    for i in (1..pieces.len()).rev() {
        pieces.swap(i, random.below(i as u64 + 1) as usize);
    }
    pieces
}
