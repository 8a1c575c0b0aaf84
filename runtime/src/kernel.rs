//! Kernels: compiled problems that can be called.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_compiler::schedule::Schedule;
use kiln_compiler::{Options, Target, compile};
use kiln_ir::{Problem, Role};

use crate::args::{Args, Pointers};
use crate::code_memory::{CodePool, LoadedCode};
use crate::cpu::check_thread;
use crate::error::RuntimeError;
use crate::scratch::{MIN_ALIGN, ScratchPool};
use crate::threads::Threads;

/// The machine code's type: one pointer per operand, scratch memory, and the range of tasks to execute.
pub type Entry = unsafe extern "C" fn(*const *mut u8, *mut u8, u64, u64);

/// Predicted cycles below which a call stays on the calling thread: waking another costs tens of thousands.
const PARALLEL_CYCLES: f64 = 150_000.0;

/// What kernels of one runtime share.
pub(crate) struct Shared {
    pub(crate) code: Arc<CodePool>,
    pub(crate) scratch: ScratchPool,
    pub(crate) threads: Threads,
}

/// A compiled problem in executable memory. Its code lives as long as the kernel.
pub struct Kernel {
    problem: Problem,
    target: Target,
    /// Role and number of elements of each operand, in order.
    operands: Vec<(Role, u64)>,
    schedule: Schedule,
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
        let name = format!("kiln {problem} @{target}");
        let code = LoadedCode::publish(&shared.code, artifact.image(), &name, 64)?;
        let compile_time = start.elapsed();
        let choice = artifact.choice();
        tracing::debug!(%problem, %target, schedule = %choice.schedule, bytes = code.bytes(), ?compile_time, "compiled");
        Ok(Self {
            problem: problem.clone(),
            target: target.clone(),
            operands: artifact.arguments().iter().map(|o| (o.role, o.len())).collect(),
            schedule: choice.schedule.clone(),
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
    /// same result bit for bit. A divided call allocates a few words per thread; no other call allocates, once there is
    /// scratch memory. After an error `dst` may be partly written.
    pub fn run(&self, args: Args<'_>) -> Result<(), RuntimeError> {
        let pointers = args.pointers(&self.operands)?;
        check_thread(&self.target)?;
        if !self.parallel || self.tasks == 1 {
            return self.tasks_on_this_thread(&pointers, 0, self.tasks);
        }
        let pointers = &pointers;
        self.shared.threads.each(self.tasks, &|begin, end| self.tasks_on_this_thread(pointers, begin, end))
    }

    /// [`run`](Self::run) on the calling thread alone.
    pub fn run_serial(&self, args: Args<'_>) -> Result<(), RuntimeError> {
        let pointers = args.pointers(&self.operands)?;
        check_thread(&self.target)?;
        self.tasks_on_this_thread(&pointers, 0, self.tasks)
    }

    /// Computes `dst` on the calling thread, without checks. Fails only for want of scratch memory.
    ///
    /// # Safety
    /// `arguments` holds one pointer per [`Problem::operands`], in order, each to as many elements as the operand has,
    /// aligned for its type; `dst` overlaps no other. During the call nobody else
    /// reads or writes `dst`, or writes an input. On a target with SVE, the thread's vector length is the target's.
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

    fn tasks_on_this_thread(&self, arguments: &Pointers, begin: u64, end: u64) -> Result<(), RuntimeError> {
        let call = |scratch| {
            // SAFETY: `Pointers` were checked against the operands and borrow them for this call; distinct tasks write
            // distinct elements of `dst`; the caller's vector length was checked, and the pool's threads have that of
            // the thread that built the runtime, which is the target's.
            unsafe { self.entry()(arguments.0.as_ptr(), scratch, begin, end) }
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
