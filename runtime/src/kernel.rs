//! Kernels: compiled problems that can be called.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use kiln_compiler::package::Facts;
use kiln_compiler::packed::PackedLayout;
use kiln_compiler::schedule::Schedule;
use kiln_compiler::{CompileError, Options, Package, Target, compile};
use kiln_ir::Problem;
use kiln_ir::contraction::View;
use kiln_memo::Replicate;

use crate::args::{Args, Divided, Input, Pointers, PreparedWeights, Signature};
use crate::code_memory::{CodePool, LoadedCode};
use crate::cpu::check_thread;
use crate::division::Division;
use crate::dump::CodeDump;
use crate::error::RuntimeError;
use crate::notices::Notices;
use crate::pack::Found;
use crate::profile::Profile;
use crate::scratch::{MIN_ALIGN, ScratchError, ScratchGuard, ScratchPool};
use crate::threads::Threads;
use crate::verbose::Verbose;
use crate::weights::{PackedBudget, PackedWeights, Packing, Registration};

/// The machine code's type: one pointer per operand and per further region of packed weights, scratch memory, and the range
/// of tasks to execute, at least one.
pub type Entry = unsafe extern "C" fn(*const *mut u8, *mut u8, u64, u64);

/// The data that kernels of one runtime share.
pub(crate) struct Shared {
    pub(crate) code: Arc<CodePool>,
    pub(crate) scratch: ScratchPool,
    pub(crate) threads: Threads,
    /// Packed weights alive.
    pub(crate) packed: Arc<PackedBudget>,
    /// Kernels that came from files.
    pub(crate) unpacked: AtomicU64,
    pub(crate) verbose: Option<Verbose>,
    pub(crate) profile: Profile,
    pub(crate) dump: Option<CodeDump>,
    pub(crate) notices: Notices,
}

impl Shared {
    /// Makes a call, with a line about it if these are asked for.
    #[inline]
    pub(crate) fn observed(
        &self,
        problem: &Problem,
        schedule: &Schedule,
        call: impl FnOnce() -> Result<(), RuntimeError>,
    ) -> Result<(), RuntimeError> {
        match &self.verbose {
            Some(verbose) if verbose.exec => {
                let start = Instant::now();
                call()?;
                verbose.primitive("exec", problem, schedule, start.elapsed());
                Ok(())
            }
            _ => call(),
        }
    }

    /// Memory for one call on the calling thread; a dangling pointer for none.
    pub(crate) fn scratch_for(&self, bytes: usize) -> Result<ScratchGuard<'_>, ScratchError> {
        self.scratch.take(bytes, MIN_ALIGN)
    }
}

/// A compiled problem in executable memory, which [`Runtime::kernel`](crate::Runtime::kernel) gives. Its code lives as long as a handle to
/// it.
///
/// ```
/// use kiln_jit::{Args, Problem, Runtime};
///
/// let runtime = Runtime::builder().build()?;
/// // A convolution of one image with 8 channels of 4x4 pixels by 16 filters of 3x3, with one pixel of padding, then relu.
/// let problem: Problem = "conv f32 mb1ic8ih4oc16kh3ph1 +relu".parse()?;
/// let kernel = runtime.kernel(&problem)?;
///
/// let (image, filters) = (vec![1.0; 4 * 4 * 8], vec![0.5; 16 * 8 * 3 * 3]);
/// let mut dst = vec![0.0; 4 * 4 * 16];
/// kernel.run(Args::new(&image, &filters, &mut dst))?;
/// // Pixels are outermost and channels innermost: a corner sees four pixels, the middle nine.
/// assert_eq!((dst[0], dst[5 * 16]), (0.5 * 4.0 * 8.0, 0.5 * 9.0 * 8.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// This is a handle: two that are [equal](PartialEq) are of one kernel. A runtime gives its threads handles of their own, since
/// counting the users of one would make them wait for each other.
pub struct Kernel(Arc<Body>);

/// The data that handles share.
struct Body {
    facts: Facts,
    signature: Signature,
    /// The view by which packing finds the weights.
    rhs: View,
    rhs_tap: u64,
    code: LoadedCode,
    /// One after the other.
    phases: Vec<Phase>,
    compile_time: Duration,
    shared: Arc<Shared>,
}

/// A handle as the kernel cache keeps it.
#[derive(Clone)]
pub(crate) struct Handle(pub(crate) Arc<Kernel>);

impl Replicate for Handle {
    fn replicate(&self) -> Self {
        Handle(Arc::new(Kernel(self.0.0.clone())))
    }
}

/// Tasks that may be done at once.
struct Phase {
    first: u64,
    division: Division,
}

/// The tasks that fill shared memory, if there are any, and those that compute the result.
fn phases(facts: &Facts, threads: usize) -> Vec<Phase> {
    let phase = |tasks: Range<u64>, cycles| Phase {
        first: tasks.start,
        division: Division::new(&facts.schedule, tasks.end - tasks.start, cycles, threads),
    };
    match facts.first_tasks {
        0 => vec![phase(0..facts.tasks, facts.cycles)],
        first => {
            vec![phase(0..first, facts.first_cycles), phase(first..facts.tasks, facts.cycles - facts.first_cycles)]
        }
    }
}

impl Kernel {
    /// Compiles.
    pub(crate) fn compile(problem: &Problem, target: &Target, options: &Options) -> Result<Package, RuntimeError> {
        let artifact = compile(problem, target, options)?;
        if artifact.packed_layout().is_some() && artifact.contraction().rhs.argument != 1 {
            // The columns of a transposed product are rows of the source, which is another in each call.
            let cause = "a layout of packed weights, and the columns are not the weights".into();
            return Err(CompileError::Internal { stage: "packing", problem: Box::new(problem.clone()), cause }.into());
        }
        Ok(Package::of(&artifact, options))
    }

    /// Publishes code whose making began at `start`.
    pub(crate) fn publish(package: &Package, shared: Arc<Shared>, start: Instant) -> Result<Self, RuntimeError> {
        let facts = package.facts();
        let code = LoadedCode::publish(&shared.code, package.image())?;
        let name = || format!("kiln {} @{}", facts.problem, facts.target);
        shared.profile.record_with(name, code.entry(), package.image(), &shared.notices)?;
        if let Some(dump) = &shared.dump {
            dump.write(package, &shared.notices)?;
        }
        let (contraction, layout) = (package.contraction(), package.packed_layout());
        let body = Body {
            signature: Signature::new(&facts.problem, layout),
            rhs: contraction.rhs.clone(),
            rhs_tap: contraction.rhs_tap(),
            phases: phases(facts, shared.threads.count()),
            facts: facts.clone(),
            code,
            compile_time: start.elapsed(),
            shared,
        };
        Ok(Kernel(Arc::new(body)))
    }

    /// The operation that it computes.
    pub fn problem(&self) -> &Problem {
        &self.0.facts.problem
    }

    /// The target that it was compiled for.
    pub fn target(&self) -> &Target {
        &self.0.facts.target
    }

    /// The schedule by which it computes.
    pub fn schedule(&self) -> &Schedule {
        &self.0.facts.schedule
    }

    /// Remarks on its computation, in words: instructions that the target lacks, settings without effect.
    pub fn notes(&self) -> &[String] {
        &self.0.facts.notes
    }

    /// Predicted cycles on one thread.
    pub fn predicted_cycles(&self) -> f64 {
        self.0.facts.cycles
    }

    /// The predicted speed on one thread, as a fraction of what the target's arithmetic and memory allow.
    pub fn predicted_fraction(&self) -> f64 {
        self.0.facts.bound / self.0.facts.cycles
    }

    /// Where it expects each element of its weights; `None` if it reads them in place, as an operand like any other.
    pub fn weights_layout(&self) -> Option<&PackedLayout> {
        self.0.signature.layout().map(|layout| &**layout)
    }

    /// Constant weights, given as the problem's right operand, as this kernel reads them: packed now, if it was compiled with
    /// [`Options::constant_weights`] and gains from that, else borrowed as they are.
    ///
    /// ```
    /// use kiln_jit::{Args, Options, Problem, Runtime};
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let linear: Problem = "ip f32 mb2ic3oc4".parse()?; // weights are oc x ic
    /// let kernel = runtime.kernel_with(&linear, &Options { constant_weights: true, ..Options::default() })?;
    /// let weights = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
    /// let weights = kernel.prepare_weights(&weights)?; // once
    /// for scale in [1.0, 2.0] {
    ///     let (src, mut dst) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|x| scale * x), [0.0; 8]);
    ///     kernel.run(Args::new(&src, &weights, &mut dst))?;
    ///     assert_eq!(dst, [1.0, 2.0, 3.0, 6.0, 4.0, 5.0, 6.0, 15.0].map(|x| scale * x));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RuntimeError::Argument`] for weights of another type or length than the problem's, and for packed ones;
    /// [`RuntimeError::PackedLimit`] and [`RuntimeError::Scratch`] if there is no memory for the packed ones.
    pub fn prepare_weights<'a>(&self, weights: impl Into<Input<'a>>) -> Result<PreparedWeights<'a>, RuntimeError> {
        let weights = weights.into();
        match self.weights_layout() {
            Some(_) => Ok(PreparedWeights::of_packed(self.pack_weights(weights)?)),
            None => self.0.signature.weights(weights).map(|_| PreparedWeights::in_place(weights)),
        }
    }

    /// Packs weights, given as the problem's right operand, for this kernel and all of equal
    /// [layout](Self::weights_layout).
    ///
    /// # Errors
    /// [`RuntimeError::NotPacked`] if the kernel reads its weights in place, and those of [`prepare_weights`](Self::prepare_weights).
    pub fn pack_weights<'a>(&self, weights: impl Into<Input<'a>>) -> Result<PackedWeights, RuntimeError> {
        self.pack_registered(weights.into(), None)
    }

    pub(crate) fn pack_registered(
        &self,
        weights: Input<'_>,
        registration: Option<Registration>,
    ) -> Result<PackedWeights, RuntimeError> {
        let packing = self.packing()?;
        let values = self.0.signature.weights(weights)?;
        PackedWeights::pack(&packing, values, &self.0.shared.packed, registration)
    }

    /// Weights that were packed for this kernel before, of as many bytes as its layout has.
    pub(crate) fn packed_before(
        &self,
        found: &Found<'_>,
        registration: Registration,
    ) -> Result<PackedWeights, RuntimeError> {
        found.weights(&self.packing()?, &self.0.shared.packed, registration)
    }

    /// The rule by which its weights are packed.
    pub(crate) fn packing(&self) -> Result<Packing, RuntimeError> {
        let body = &*self.0;
        match body.signature.layout() {
            Some(layout) => Ok(Packing { layout: layout.clone(), view: body.rhs.clone(), tap: body.rhs_tap }),
            None => Err(RuntimeError::NotPacked { problem: Box::new(self.problem().clone()) }),
        }
    }

    /// Bytes of machine code.
    pub fn code_bytes(&self) -> usize {
        self.0.code.bytes()
    }

    /// Bytes of executable memory: whole pages.
    pub fn resident_bytes(&self) -> usize {
        self.0.code.resident_bytes()
    }

    /// The time that compiling, or reading from a pack, and publishing took.
    pub fn compile_time(&self) -> Duration {
        self.0.compile_time
    }

    /// Independent tasks that a call may be divided into.
    pub fn tasks(&self) -> u64 {
        self.0.facts.tasks
    }

    /// Those of the tasks that are done before all others begin: they fill the [shared memory](Self::shared_bytes).
    pub fn first_tasks(&self) -> u64 {
        self.0.facts.first_tasks
    }

    /// Temporary memory of each thread in a call, in bytes.
    pub fn scratch_bytes(&self) -> usize {
        self.0.facts.scratch_bytes as usize
    }

    /// Temporary memory that the threads of a call share, in bytes. Its address is in the first bytes of each thread's
    /// [own](Self::scratch_bytes).
    pub fn shared_bytes(&self) -> usize {
        self.0.facts.shared_bytes as usize
    }

    /// The machine code itself. Valid while the kernel lives; ask for it on the thread that calls it.
    pub fn entry(&self) -> Entry {
        // SAFETY: the image starts with a function of this signature (kiln_compiler::Artifact), loaded at `code.entry()`.
        unsafe { std::mem::transmute::<*const u8, Entry>(self.0.code.entry()) }
    }

    /// Computes `dst`. Arguments are checked once, here; large problems are divided among the runtime's threads, with the
    /// same result bit for bit. No call allocates once there is scratch memory, but for what a pool or an executor that
    /// a divided call is handed to may allocate. After an error `dst` may be partly written.
    ///
    /// # Errors
    /// Those of [`Args`], before anything is written; [`RuntimeError::Scratch`] if there is no temporary memory;
    /// [`RuntimeError::CannotRun`] on a thread whose vector length is another than the target's, where that can be; and
    /// [`RuntimeError::Threads`] if threads of a pool or an executor did not do their work.
    pub fn run(&self, args: Args<'_>) -> Result<(), RuntimeError> {
        self.told(args, |pointers| {
            if self.0.phases.iter().all(|phase| phase.division.threads == 1) {
                return self.tasks_on_this_thread(pointers);
            }
            // SAFETY: the pointers were checked against this kernel's signature and borrow the tensors for this call.
            unsafe { self.run_divided(pointers.as_slice()) }
        })
    }

    /// [`run`](Self::run) on the calling thread alone.
    ///
    /// # Errors
    /// As [`run`](Self::run), but for those of threads.
    pub fn run_serial(&self, args: Args<'_>) -> Result<(), RuntimeError> {
        self.told(args, |pointers| self.tasks_on_this_thread(pointers))
    }

    /// Checks the arguments and makes the call `run`.
    #[inline]
    fn told(
        &self,
        args: Args<'_>,
        run: impl FnOnce(&Pointers<'_>) -> Result<(), RuntimeError>,
    ) -> Result<(), RuntimeError> {
        let pointers = args.pointers(&self.0.signature)?;
        check_thread(self.target())?;
        self.0.shared.observed(self.problem(), self.schedule(), || run(&pointers))
    }

    /// Checks the arguments and gives the pointers that [`run_unchecked`](Self::run_unchecked) takes.
    ///
    /// # Errors
    /// Those of [`Args`].
    pub fn pointers<'a>(&self, args: Args<'a>) -> Result<Pointers<'a>, RuntimeError> {
        args.pointers(&self.0.signature)
    }

    /// Computes `dst` on the calling thread, without checks.
    ///
    /// # Errors
    /// [`RuntimeError::Scratch`] if there is no temporary memory.
    ///
    /// # Safety
    /// `arguments` is what [`pointers`](Self::pointers) gives, while the tensors are there, or is like it: one pointer per
    /// [`Problem::operands`], in order, each to the first of the operand's elements, which lie as its strides say and are aligned
    /// for their type; no element of `dst` is one of another. With a [`weights_layout`](Self::weights_layout), that of rhs is to the first region of weights packed in it,
    /// and those of further regions follow dst. During the call nobody else reads or writes `dst`, or writes an input. On a
    /// target with SVE, the thread's vector length is the target's.
    pub unsafe fn run_unchecked(&self, arguments: &[*mut u8]) -> Result<(), RuntimeError> {
        let call = |scratch| {
            // SAFETY: the caller answers for the arguments; scratch is as long and as aligned as the artifact says.
            unsafe { self.entry()(arguments.as_ptr(), scratch, 0, self.tasks()) }
        };
        let own = self.scratch_bytes().next_multiple_of(MIN_ALIGN);
        match (own, self.shared_bytes()) {
            (0, _) => call(std::ptr::null_mut()),
            (_, 0) => call(self.0.shared.scratch.take(self.scratch_bytes(), MIN_ALIGN)?.as_mut_ptr()),
            (own, shared) => {
                let mut memory = self.0.shared.scratch.take(own + shared, MIN_ALIGN)?;
                let start = memory.as_mut_ptr();
                memory[..size_of::<usize>()].copy_from_slice(&(start.wrapping_add(own) as usize).to_ne_bytes());
                call(start);
            }
        }
        Ok(())
    }

    /// Computes `dst` on as many threads as [`run`](Self::run).
    ///
    /// # Safety
    /// As for [`run_unchecked`](Self::run_unchecked).
    pub(crate) unsafe fn run_slice(&self, arguments: &[*mut u8]) -> Result<(), RuntimeError> {
        if self.0.phases.iter().all(|phase| phase.division.threads == 1) {
            // SAFETY: the caller's.
            return unsafe { self.run_unchecked(arguments) };
        }
        // SAFETY: the caller's.
        unsafe { self.run_divided(arguments) }
    }

    /// Computes `dst` on all threads.
    ///
    /// # Safety
    /// As for [`run_unchecked`](Self::run_unchecked), but for the vector length.
    unsafe fn run_divided(&self, arguments: &[*mut u8]) -> Result<(), RuntimeError> {
        let divided = Divided::new(arguments);
        let mut memory = self.0.shared.scratch_for(self.shared_bytes())?;
        let shared = memory.as_mut_ptr() as usize;
        for Phase { first, division } in &self.0.phases {
            self.0.shared.threads.each_on(division.threads, division.parts, &|begin, end| {
                let Range { start: begin, end } = division.tasks(begin..end);
                // Threads of others may have another vector length.
                check_thread(self.target())?;
                let mut scratch = self.0.shared.scratch_for(self.scratch_bytes())?;
                if let Some(address) = scratch.get_mut(..size_of::<usize>()).filter(|_| self.shared_bytes() > 0) {
                    address.copy_from_slice(&shared.to_ne_bytes());
                }
                // SAFETY: the caller answers for the arguments; distinct tasks write distinct elements of `dst` and of shared memory, which
                // tasks of the next phase read after all of this one are done; the vector length was checked; scratch and shared memory
                // are as long and as aligned as the artifact says.
                unsafe { self.entry()(divided.pointers().as_ptr(), scratch.as_mut_ptr(), first + begin, first + end) };
                Ok(())
            })?;
        }
        Ok(())
    }

    fn tasks_on_this_thread(&self, arguments: &Pointers<'_>) -> Result<(), RuntimeError> {
        // SAFETY: `Pointers` were checked against this kernel's signature and borrow the tensors for this call; the caller's
        // vector length was checked.
        unsafe { self.run_unchecked(arguments.as_slice()) }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({} @{}: {})", self.problem(), self.target(), self.schedule())
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Kernel {}
