//! The runtime: a target, a kernel cache and threads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kiln_compiler::{Options, Package, Target};
use kiln_ir::{MathMode, Problem};
use kiln_memo::{Cache, CacheStats};

use crate::args::Input;
use crate::background::Background;
use crate::code_memory::CodeStats;
use crate::error::RuntimeError;
use crate::kernel::{Handle, Kernel, Shared};
use crate::key::{Key, KeyRef};
use crate::lock::lock;
use crate::notice::Notice;
use crate::notices::Notices;
use crate::pack::{Cached, DiskCache, Pack, PackError, WeightsPack};
use crate::scratch::ScratchStats;
use crate::weights::{PackedCache, PackedWeights, WeightsId};

/// Compiles problems once and keeps their kernels. Independent of any other runtime in the process; shared by threads. A
/// clone is the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) target: Target,
    pub(crate) fpmath: MathMode,
    pub(crate) least_fraction: f64,
    pub(crate) cache: Cache<Key, Handle, RuntimeError>,
    pub(crate) packs: Vec<(PathBuf, PackStatus)>,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) weights: PackedCache,
    pub(crate) background: Background<Inner>,
    pub(crate) shared: Arc<Shared>,
}

/// A pack in use, or why it is not.
pub type PackStatus = Result<Arc<Pack>, PackError>;

/// Counters of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The kernel cache: hits, misses, evictions, bytes, compile time. Kernels from packs count as compiled.
    pub kernels: CacheStats,
    /// Kernels that came from packs or the cache directory.
    pub from_files: u64,
    /// Executable memory.
    pub code: CodeStats,
    /// Scratch memory kept for calls.
    pub scratch: ScratchStats,
    /// Bytes of [`PackedWeights`] that kernels of this runtime made and that are alive.
    pub packed_bytes: usize,
    /// The number of times that weights were packed so far. Those that were found, or came from a file, do not count.
    pub packings: u64,
}

/// The progress of [`Runtime::warm`].
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Problems done.
    pub done: usize,
    /// Of so many.
    pub total: usize,
    /// The one just done.
    pub problem: &'a Problem,
    /// Its error, if it has no kernel.
    pub error: Option<&'a RuntimeError>,
}

/// Where a kernel came from.
enum Origin {
    Compiler,
    Pack,
    Disk,
}

impl Runtime {
    pub(crate) fn assemble(inner: Inner) -> Self {
        Runtime(Arc::new(inner))
    }

    /// The target that kernels are compiled for.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// Threads that large problems are divided among.
    pub fn threads(&self) -> usize {
        self.0.shared.threads.count()
    }

    /// Starts the runtime's own threads again in a process that was forked off: there, only the thread that forked goes on, and a call
    /// would do all tasks on its own. Call it before others use the runtime in the new process. Threads of a pool or an executor are
    /// not the runtime's to start.
    pub fn renew_threads(&self) -> Result<(), RuntimeError> {
        self.0.shared.threads.renew()
    }

    /// Calls at once that have threads of their own, as [`RuntimeBuilder::streams`](crate::RuntimeBuilder::streams) says; 1 if the threads are those of a pool or an
    /// executor.
    pub fn streams(&self) -> usize {
        self.0.shared.threads.streams()
    }

    /// Calls `work` with ranges that partition `0..tasks`, on the threads that kernels are divided among, and returns when all
    /// calls have: for what is computed between kernels.
    pub fn parallel_for(&self, tasks: u64, work: &(dyn Fn(u64, u64) + Sync)) -> Result<(), RuntimeError> {
        self.parallel_for_on(self.threads(), tasks, work)
    }

    /// Does as [`parallel_for`](Self::parallel_for), on no more than so many threads: for what is too little work for all of them.
    pub fn parallel_for_on(
        &self,
        threads: usize,
        tasks: u64,
        work: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), RuntimeError> {
        self.0.shared.threads.each_on(threads, tasks, &|begin, end| {
            work(begin, end);
            Ok(())
        })
    }

    /// The arithmetic of problems with f32 source that name none.
    pub fn fpmath(&self) -> MathMode {
        self.0.fpmath
    }

    /// The packs that the runtime was built with, and whether it uses them.
    pub fn packs(&self) -> impl Iterator<Item = (&Path, &PackStatus)> {
        self.0.packs.iter().map(|(path, status)| (&**path, status))
    }

    /// The kernel of a problem: cached, from a pack, or compiled now. Threads that ask for the same problem at once share one
    /// compilation. The kernel's own [problem](Kernel::problem) names the runtime's [`fpmath`](Self::fpmath) where that applies and
    /// is not strict. A problem that names its arithmetic, strict too, keeps it.
    ///
    /// A problem that cannot be compiled is refused with the same error for a second, without trying again.
    ///
    /// # Errors
    /// [`RuntimeError::Compile`] if there is no code for the problem on this target; [`RuntimeError::CodeMemory`] if there is no
    /// executable memory for it, or no more [than may be](crate::RuntimeBuilder::code_limit); [`RuntimeError::BelowBound`] if the runtime
    /// [refuses](crate::RuntimeBuilder::strict) slow kernels and this is one; [`RuntimeError::Strict`] where settings are
    /// [strict](crate::RuntimeBuilder::strict_settings) and a file cannot be used.
    #[inline]
    pub fn kernel(&self, problem: &Problem) -> Result<Arc<Kernel>, RuntimeError> {
        static DEFAULT: Options = Options { schedule: None, constant_weights: false, weights_layout: None };
        self.kernel_with(problem, &DEFAULT)
    }

    /// [`kernel`](Self::kernel) with compiler options, which are part of what it is cached under.
    ///
    /// # Errors
    /// Those of [`kernel`](Self::kernel); with a schedule or a layout of weights, [`RuntimeError::Compile`] also where the problem cannot
    /// be computed so.
    #[inline]
    pub fn kernel_with(&self, problem: &Problem, options: &Options) -> Result<Arc<Kernel>, RuntimeError> {
        let key = self.key(problem, options);
        match self.0.cache.get(&key) {
            Some(handle) => Ok(handle.0),
            None => self.make(&key.to_key()),
        }
    }

    /// The kernel of a problem if it is in the cache.
    #[inline]
    pub fn cached(&self, problem: &Problem, options: &Options) -> Option<Arc<Kernel>> {
        self.0.cache.get(&self.key(problem, options)).map(|handle| handle.0)
    }

    /// The problem as a kernel of it computes it: with the runtime's arithmetic, where it names none.
    pub(crate) fn effective(&self, problem: &Problem) -> Problem {
        problem.with_fpmath(problem.fpmath_or(self.0.fpmath))
    }

    fn key<'a>(&self, problem: &'a Problem, options: &'a Options) -> KeyRef<'a> {
        KeyRef::new(problem, self.0.fpmath, options)
    }

    #[cold]
    fn make(&self, key: &Key) -> Result<Arc<Kernel>, RuntimeError> {
        let size = |handle: &Handle| handle.0.resident_bytes();
        self.0.cache.get_or_try_insert_with(key, size, || self.publish(key)).map(|handle| handle.0)
    }

    /// Gets the kernel from a pack, the cache directory or the compiler.
    fn publish(&self, key: &Key) -> Result<Handle, RuntimeError> {
        let (start, verbose) = (Instant::now(), self.0.shared.verbose.as_ref());
        let made = self.package(key).and_then(|(package, origin)| {
            self.check_fraction(&package)?;
            Ok((Kernel::publish(&package, self.0.shared.clone(), start)?, origin))
        });
        match made {
            Ok((kernel, origin)) => {
                if !matches!(origin, Origin::Compiler) {
                    self.0.shared.unpacked.fetch_add(1, Ordering::Relaxed);
                }
                let (problem, schedule, bytes) = (kernel.problem(), kernel.schedule(), kernel.code_bytes());
                let (origin, time) = (origin.word(), start.elapsed());
                tracing::debug!(%problem, target = %self.0.target, %schedule, bytes, origin, ?time, "kernel made");
                if let Some(verbose) = verbose.filter(|v| v.create) {
                    verbose.primitive(&format!("create:{origin}"), problem, schedule, time);
                }
                if let Some(verbose) = verbose.filter(|v| v.dispatch) {
                    kernel.notes().iter().for_each(|note| verbose.reason(problem, note));
                }
                Ok(Handle(Arc::new(kernel)))
            }
            Err(error) => {
                tracing::debug!(problem = %key.problem, target = %self.0.target, %error, "no kernel");
                if let Some(verbose) = verbose.filter(|v| v.error) {
                    verbose.failure(&key.problem, &error);
                }
                Err(error)
            }
        }
    }

    fn package(&self, key: &Key) -> Result<(Package, Origin), RuntimeError> {
        for (path, status) in &self.0.packs {
            match status.as_ref().ok().and_then(|pack| pack.get(key)) {
                Some(Ok(package)) => return Ok((package, Origin::Pack)),
                Some(Err(error)) => self.told().tell(Notice::PackedKernel { path: path.clone(), error })?,
                None => {}
            }
        }
        let compile = || Kernel::compile(&key.problem, &self.0.target, &key.options);
        let Some(disk) = &self.0.disk else { return Ok((compile()?, Origin::Compiler)) };
        let Cached { package, is_found } = disk.get_or_make(key, self.told(), compile)?;
        Ok((package, if is_found { Origin::Disk } else { Origin::Compiler }))
    }

    fn told(&self) -> &Notices {
        &self.0.shared.notices
    }

    /// The deviations from what was asked for that are known by now: settings that cannot be followed, and files that are not used.
    /// Each is there once.
    pub fn notices(&self) -> Vec<Notice> {
        self.told().all()
    }

    fn check_fraction(&self, package: &Package) -> Result<(), RuntimeError> {
        let facts = package.facts();
        let predicted = facts.bound / facts.cycles;
        if predicted >= self.0.least_fraction {
            return Ok(());
        }
        Err(RuntimeError::BelowBound {
            problem: Box::new(facts.problem.clone()),
            predicted,
            least: self.0.least_fraction,
            limit: facts.limit.clone(),
        })
    }

    /// Compiles problems before they are needed, on as many threads as the runtime has, and tells of each as it is done. Gives
    /// the errors with the places of their problems. Kernels that the cache has no room for are lost again.
    pub fn warm(
        &self,
        requests: &[(Problem, Options)],
        progress: impl Fn(Progress<'_>) + Sync,
    ) -> Vec<(usize, RuntimeError)> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(0));
        let errors = Mutex::new(vec![]);
        let work = || {
            while let Some((at, (problem, options))) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                requests.get(at).map(|request| (at, request))
            } {
                let error = self.kernel_with(problem, options).err();
                {
                    let mut done = lock(&done);
                    *done += 1;
                    progress(Progress { done: *done, total: requests.len(), problem, error: error.as_ref() });
                }
                lock(&errors).extend(error.map(|e| (at, e)));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads().min(requests.len()) {
                // Where the system has no more threads, there are fewer.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        let mut errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        errors.sort_by_key(|(at, _)| *at);
        errors
    }

    /// The kernel of a problem, which from now on stays in the cache until it is [unpinned](Self::unpin) or all are
    /// [cleared](Self::clear). It counts towards the capacity.
    pub fn pin(&self, problem: &Problem, options: &Options) -> Result<Arc<Kernel>, RuntimeError> {
        let kernel = self.kernel_with(problem, options)?;
        self.0.cache.pin(&self.key(problem, options));
        Ok(kernel)
    }

    /// Lets a pinned kernel leave the cache again; `false` if it is not there.
    pub fn unpin(&self, problem: &Problem, options: &Options) -> bool {
        self.0.cache.unpin(&self.key(problem, options))
    }

    /// Weights packed for a kernel and all others that read the same ones in the same layout: those of before, if somebody still
    /// has them, else packed now. Threads that ask for the same at once share one packing. They are freed when the last user drops them.
    ///
    /// `id` says which weights these are: the caller answers for the same number being the same values, or takes
    /// [their hash](WeightsId::of). The values are not looked at where the id is known.
    ///
    /// # Errors
    /// Those of [`Kernel::pack_weights`].
    pub fn packed_weights<'a>(
        &self,
        kernel: &Kernel,
        id: WeightsId,
        weights: impl Into<Input<'a>>,
    ) -> Result<PackedWeights, RuntimeError> {
        let weights = weights.into();
        self.0.weights.get(kernel.packing()?, id, |registration| kernel.pack_registered(weights, Some(registration)))
    }

    /// The same from a pack, if it has them; they count towards the limit as others do. A pack has no weights of numbers that
    /// callers gave. Fails if they cannot be read, or are not those that were written.
    pub fn packed_weights_of(
        &self,
        pack: &WeightsPack,
        kernel: &Kernel,
        id: WeightsId,
    ) -> Result<Option<PackedWeights>, RuntimeError> {
        let Some(found) = pack.find(id, &kernel.packing()?) else { return Ok(None) };
        self.0.weights.get(kernel.packing()?, id, |registration| kernel.packed_before(&found, registration)).map(Some)
    }

    /// Counters, each part read at one moment.
    pub fn stats(&self) -> Stats {
        Stats {
            kernels: self.0.cache.stats(),
            from_files: self.0.shared.unpacked.load(Ordering::Relaxed),
            code: self.0.shared.code.stats(),
            scratch: self.0.shared.scratch.stats(),
            packed_bytes: self.0.shared.packed.bytes(),
            packings: self.0.shared.packed.packings(),
        }
    }

    /// Forgets all kernels and frees scratch memory; what is in use stays alive with its users.
    pub fn clear(&self) {
        self.0.cache.clear();
        self.0.shared.scratch.clear();
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Runtime(inner)
    }
}

impl Origin {
    /// As in oneDNN's verbose lines.
    fn word(&self) -> &'static str {
        match self {
            Origin::Compiler => "cache_miss",
            Origin::Pack => "from_pack",
            Origin::Disk => "from_cache_dir",
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime(@{}, {:?})", self.0.target, self.stats())
    }
}
