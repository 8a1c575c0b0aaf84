//! The tasks of kernels, each executed by itself between two marks that a plugin of an emulator sees, and what the model of scaling says that
//! each costs. `cargo xtask tasks` compares the two.
//!
//! Each problem is f32, with or without a bias; its weights are packed if the kernel wants that. A line is a mark's number, the problem, the phase and
//! the predicted cycles of the task before it.

use kiln_jit::compiler::compile;
use kiln_jit::compiler::work::Work;
use kiln_jit::{Args, Options, Package, Problem, Role, Runtime};

/// Makes a mark: a system call that does nothing, since there is no such process.
fn mark(number: usize) {
    // SAFETY: the call only looks for a process.
    unsafe { libc::getpgid(0x4b11_0000 + (number & 0xffff) as libc::pid_t) };
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().ok_or("usage: tasks TARGET PROBLEM...")?.parse()?;
    let problems: Vec<String> = arguments.collect();
    let runtime = Runtime::builder().target(target).threads(1).build()?;
    let mut number = 0;
    for text in &problems {
        let problem: Problem = text.parse()?;
        let options = Options { constant_weights: true, ..Options::default() };
        let work = Work::of(&Package::of(&compile(&problem, runtime.target(), &options)?, &options))?;
        let kernel = runtime.kernel_with(&problem, &options)?;
        let tensor = |role: Role| {
            let operand = problem.operands().into_iter().find(|o| o.role == role);
            operand.map(|o| vec![1.0f32; o.len() as usize])
        };
        let (Some(lhs), Some(rhs), Some(mut dst)) = (tensor(Role::Lhs), tensor(Role::Rhs), tensor(Role::Dst)) else {
            return Err(format!("{problem}: no such operands").into());
        };
        let bias = tensor(Role::Post(0));
        let packed = kernel.weights_layout().map(|_| kernel.pack_weights(&rhs)).transpose()?;
        let mut args = match &packed {
            Some(packed) => Args::new(&lhs, packed, &mut dst),
            None => Args::new(&lhs, &rhs, &mut dst),
        };
        if let Some(bias) = &bias {
            args = args.bias(bias);
        }
        let pointers = kernel.pointers(args)?;
        // The address of what all threads share is in the first bytes of each thread's own.
        let own = kernel.scratch_bytes().next_multiple_of(64);
        let mut memory = vec![0u64; (own + kernel.shared_bytes() + 64) / 8];
        let scratch = memory.as_mut_ptr().cast::<u8>();
        let scratch = scratch.wrapping_add(scratch.align_offset(64));
        if kernel.shared_bytes() > 0 {
            // SAFETY: the memory has room for an address, and is aligned for it.
            unsafe { scratch.cast::<usize>().write(scratch.wrapping_add(own) as usize) };
        }
        let mut first = 0;
        for (phase, tasks) in work.phases().enumerate() {
            for task in 0..tasks {
                mark(number);
                // SAFETY: the pointers were checked, the scratch memory is as large and as aligned as the kernel says, and tasks are executed
                // in order, so that those of a phase find what the phase before left in the shared memory.
                unsafe { kernel.entry()(pointers.as_slice().as_ptr(), scratch, first + task, first + task + 1) };
                number += 1;
                mark(number);
                println!("{number}\t{problem}\t{phase}\t{}", work.part(phase, task..task + 1).cycles);
                number += 1;
            }
            first += tasks;
        }
    }
    Ok(())
}
