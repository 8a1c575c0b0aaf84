//! Kernels: compiled problems that can be called.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use kiln_compiler::packed::{PackedLayout, Weights};
use kiln_compiler::schedule::Schedule;
use kiln_compiler::{CompileError, Options, Target, compile};
use kiln_ir::Problem;
use kiln_ir::contraction::View;

use crate::args::{Args, Divided, Input, Pointers, Signature};
use crate::code_memory::{CodePool, LoadedCode};
use crate::cpu::check_thread;
use crate::error::RuntimeError;
use crate::scratch::{MIN_ALIGN, ScratchPool};
use crate::threads::Threads;
use crate::weights::PackedWeights;

/// The machine code's type: one pointer per operand and per further region of packed weights, scratch memory, and the range
/// of tasks to execute.
pub type Entry = unsafe extern "C" fn(*const *mut u8, *mut u8, u64, u64);

/// Predicted cycles below which a call stays on the calling thread: waking another costs tens of thousands.
const PARALLEL_CYCLES: f64 = 150_000.0;

/// What kernels of one runtime share.
pub(crate) struct Shared {
    pub(crate) code: Arc<CodePool>,
    pub(crate) scratch: ScratchPool,
    pub(crate) threads: Threads,
    /// Bytes of packed weights alive.
    pub(crate) packed: Arc<AtomicUsize>,
}

/// A compiled problem in executable memory. Its code lives as long as the kernel.
pub struct Kernel {
    problem: Problem,
    target: Target,
    signature: Signature,
    /// How packing finds the weights.
    rhs: View,
    rhs_tap: u64,
    schedule: Schedule,
    notes: Vec<String>,
    code: LoadedCode,
    scratch_bytes: usize,
    tasks: u64,
    parallel: bool,
    compile_time: Duration,
    shared: Arc<Shared>,
}

impl Kernel {
    /// Compiles and publishes.
    pub(crate) fn new(
        problem: &Problem,
        target: &Target,
        options: &Options,
        shared: Arc<Shared>,
    ) -> Result<Self, RuntimeError> {
        let start = Instant::now();
        let artifact = compile(problem, target, options)?;
        let contraction = artifact.contraction();
        let (rhs_tap, rhs) = (contraction.rhs_tap(), contraction.rhs.clone());
        if artifact.packed_layout().is_some() && rhs.argument != 1 {
            // The columns of a transposed product are rows of the source, which is another in each call.
            let cause = "a layout of packed weights, and the columns are not the weights".into();
            return Err(CompileError::Internal { stage: "packing", problem: Box::new(problem.clone()), cause }.into());
        }
        let name = format!("kiln {problem} @{target}");
        let code = LoadedCode::publish(&shared.code, artifact.image(), &name, 64)?;
        let compile_time = start.elapsed();
        let choice = artifact.choice();
        tracing::debug!(%problem, %target, schedule = %choice.schedule, bytes = code.bytes(), ?compile_time, "compiled");
        Ok(Self {
            problem: problem.clone(),
            target: target.clone(),
            signature: Signature::new(
                problem,
                &artifact.arguments(),
                artifact.packed_layout(),
                artifact.packed_arguments(),
            ),
            rhs,
            rhs_tap,
            schedule: choice.schedule.clone(),
            notes: artifact.notes().to_vec(),
            scratch_bytes: artifact.scratch_bytes() as usize,
            tasks: artifact.tasks(),
            parallel: choice.prediction.cycles >= PARALLEL_CYCLES,
            code,
            compile_time,
            shared,
        })
    }

    /// What it computes.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What it was compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How it computes.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What to know about how it computes, in words: instructions that the target lacks, settings without effect.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where it expects each element of its weights; `None` if it reads them in place, as an operand like any other.
    pub fn weights_layout(&self) -> Option<&PackedLayout> {
        self.signature.layout().map(|layout| &**layout)
    }

    /// Packs weights, given as the problem's right operand, for this kernel and all of equal
    /// [layout](Self::weights_layout).
    pub fn pack_weights<'a>(&self, weights: impl Into<Input<'a>>) -> Result<PackedWeights, RuntimeError> {
        let weights = weights.into();
        let Some(layout) = self.signature.layout() else {
            return Err(RuntimeError::NotPacked { problem: Box::new(self.problem.clone()) });
        };
        self.signature.check_weights(weights)?;
        let values = match weights {
            Input::F32(v) => Weights::F32(v),
            Input::Bf16(v) => Weights::Bf16(v),
            Input::Packed(_) => unreachable!("checked: packed weights are refused"),
        };
        PackedWeights::pack(layout, &self.rhs, self.rhs_tap, values, &self.shared.packed)
    }

    /// Bytes of machine code.
    pub fn code_bytes(&self) -> usize {
        self.code.bytes()
    }

    /// Bytes of executable memory: whole pages.
    pub fn resident_bytes(&self) -> usize {
        self.code.resident_bytes()
    }

    /// How long compiling and publishing took.
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }

    /// Independent tasks that a call may be divided into.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// Temporary memory of each thread in a call, in bytes.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch_bytes
    }

    /// The machine code itself. Valid while the kernel lives; ask for it on the thread that calls it.
    pub fn entry(&self) -> Entry {
        // SAFETY: the image starts with a function of this signature (kiln_compiler::Artifact), loaded at `code.entry()`.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.code.entry()) }
    }

    /// Computes `dst`. Arguments are checked once, here; large problems are divided among the runtime's threads, with the
    /// same result bit for bit. No call allocates once there is scratch memory, but for the queue of the threads that a divided
    /// call is handed to, which grows now and then. After an error `dst` may be partly written.
    pub fn run(&self, args: Args<'_>) -> Result<(), RuntimeError> {
        let pointers = args.pointers(&self.signature)?;
        check_thread(&self.target)?;
        if !self.parallel || self.tasks == 1 {
            return self.tasks_on_this_thread(&pointers, 0, self.tasks);
        }
        let divided = Divided(&pointers);
        self.shared.threads.each(self.tasks, &|begin, end| self.tasks_on_this_thread(divided.pointers(), begin, end))
    }

    /// [`run`](Self::run) on the calling thread alone.
    pub fn run_serial(&self, args: Args<'_>) -> Result<(), RuntimeError> {
        let pointers = args.pointers(&self.signature)?;
        check_thread(&self.target)?;
        self.tasks_on_this_thread(&pointers, 0, self.tasks)
    }

    /// Checks the arguments and gives the pointers that [`run_unchecked`](Self::run_unchecked) takes. Fails where
    /// [`run`](Self::run) would.
    pub fn pointers<'a>(&self, args: Args<'a>) -> Result<Pointers<'a>, RuntimeError> {
        args.pointers(&self.signature)
    }

    /// Computes `dst` on the calling thread, without checks. Fails only for want of scratch memory.
    ///
    /// # Safety
    /// `arguments` is what [`pointers`](Self::pointers) gives, while the tensors are there, or is like it: one pointer per
    /// [`Problem::operands`], in order, each to as many elements as the operand has, aligned for its type; `dst` overlaps no
    /// other. With a [`weights_layout`](Self::weights_layout), that of rhs is to the first region of weights packed in it,
    /// and those of further regions follow dst. During the call nobody else reads or writes `dst`, or writes an input. On a
    /// target with SVE, the thread's vector length is the target's.
    pub unsafe fn run_unchecked(&self, arguments: &[*mut u8]) -> Result<(), RuntimeError> {
        let call = |scratch| {
            // SAFETY: the caller answers for the arguments; scratch is as long and as aligned as the artifact says.
            unsafe { self.entry()(arguments.as_ptr(), scratch, 0, self.tasks) }
        };
        if self.scratch_bytes == 0 {
            call(std::ptr::null_mut());
        } else {
            call(self.shared.scratch.take(self.scratch_bytes, MIN_ALIGN)?.as_mut_ptr());
        }
        Ok(())
    }

    fn tasks_on_this_thread(&self, arguments: &Pointers<'_>, begin: u64, end: u64) -> Result<(), RuntimeError> {
        let call = |scratch| {
            // SAFETY: `Pointers` were checked against this kernel's signature and borrow the tensors for this call; distinct
            // tasks write distinct elements of `dst`; the caller's vector length was checked, and the pool's threads have
            // that of the thread that built the runtime, which is the target's.
            unsafe { self.entry()(arguments.as_slice().as_ptr(), scratch, begin, end) }
        };
        if self.scratch_bytes == 0 {
            call(std::ptr::null_mut());
        } else {
            call(self.shared.scratch.take(self.scratch_bytes, MIN_ALIGN)?.as_mut_ptr());
        }
        Ok(())
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({} @{}: {})", self.problem, self.target, self.schedule)
    }
}
