//! Settings of a runtime.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kiln_compiler::Target;
use kiln_compiler::target::Feature;
use kiln_ir::MathMode;
use kiln_memo::{Cache, Config};

use crate::code_memory::CodePool;
use crate::cpu;
use crate::dump::CodeDump;
use crate::environment as env;
use crate::error::RuntimeError;
use crate::kernel::Shared;
use crate::notice::Notice;
use crate::notices::{Listener, Notices};
use crate::pack::{DiskCache, Pack, Trust};
use crate::profile::{self, Profile};
use crate::runtime::{PackStatus, Runtime};
use crate::scratch::{Retain, ScratchPool};
use crate::threads::{Executor, MAX_THREADS, OwnThreads, Source, Threads};
use crate::verbose::{self, Sink, Verbose};
use crate::weights::{PackedBudget, PackedCache};

/// Entries the kernel cache keeps unless told otherwise; oneDNN's default as well.
const DEFAULT_CAPACITY: usize = 1024;
/// Scratch memory kept between calls.
const SCRATCH: Retain = Retain { buffers: 64, bytes: 256 << 20 };
/// The time for which a problem that could not be compiled is refused without trying again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Bytes of files that a cache directory may hold unless told otherwise.
const DISK_BYTES: u64 = 256 << 20;

/// Settings of a [`Runtime`]. What is not set comes from the environment, then from a default.
#[derive(Clone, Default)]
pub struct RuntimeBuilder {
    target: Option<Target>,
    entries: Option<usize>,
    bytes: Option<usize>,
    code_limit: Option<usize>,
    packed_limit: Option<usize>,
    threads: Option<Source>,
    own_threads: OwnThreads,
    fpmath: Option<MathMode>,
    least_fraction: Option<f64>,
    packs: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    cache_dir_bytes: Option<u64>,
    verbose: Option<String>,
    sink: Option<Sink>,
    jit_dump: Option<PathBuf>,
    jit_profile: Option<u32>,
    strict_settings: Option<bool>,
    listener: Option<Listener>,
}

impl std::fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("target", &self.target)
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .field("threads", &self.threads)
            .field("own_threads", &self.own_threads)
            .field("packs", &self.packs)
            .field("cache_dir", &self.cache_dir)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// A runtime with settings.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }
}

impl RuntimeBuilder {
    /// Compile for `target` instead of what is detected, which `KILN_MAX_CPU_ISA` limits. The machine must be able to run
    /// it; the variable does not apply.
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Kernels the cache keeps; 0 disables it. From the environment: `KILN_CACHE_CAPACITY`,
    /// `ONEDNN_PRIMITIVE_CACHE_CAPACITY` or `LRU_CACHE_CAPACITY`; else 1024.
    pub fn cache_capacity(mut self, entries: usize) -> Self {
        self.entries = Some(entries);
        self
    }

    /// Bytes of executable memory that cached kernels may occupy, in whole pages. From the environment: `KILN_CACHE_BYTES`;
    /// unlimited unless set.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Bytes of executable memory that kernels may occupy together, cached or not: what would take more is an error. Unlimited
    /// unless set.
    pub fn code_limit(mut self, bytes: usize) -> Self {
        self.code_limit = Some(bytes);
        self
    }

    /// Bytes that [`PackedWeights`](crate::PackedWeights) may occupy together: packing more is an error. Unlimited unless set.
    pub fn packed_limit(mut self, bytes: usize) -> Self {
        self.packed_limit = Some(bytes);
        self
    }

    /// Threads that large problems are divided among, from 1 to [`MAX_THREADS`]: the calling thread, and others of the runtime's own,
    /// which are started now and end with the runtime. From the environment:
    /// `KILN_NUM_THREADS`, `OMP_NUM_THREADS` or `RAYON_NUM_THREADS`; else as many as there are processors that the process may use, or,
    /// with several [streams](Self::streams), each stream's part of them, and at least one. `OMP_NUM_THREADS` may be a list, of which the
    /// first number counts.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(Source::Own(threads));
        self
    }

    /// The time for which an idle thread of the runtime's own looks for work before it sleeps, and for which a call waits for the threads that
    /// work for it before it sleeps. From the environment: `KILN_SPIN`, in microseconds; else 100 microseconds if there are as many
    /// processors as threads in all [streams](Self::streams), otherwise zero. The processors are those that the process may use: on
    /// Linux, those of its affinity mask, and no more than the quota of its control group allows.
    ///
    /// A thread that looks for work begins with it in less than a microsecond; to wake one that sleeps takes tens of them. In return
    /// it keeps its core busy for so long after each divided call. A longer time pays where the program does something else
    /// between calls, for that long, and has the cores for itself. Zero is right where other programs or other threads of this one need
    /// the cores. The setting has no effect with [pools](Self::rayon_pool) and [executors](Self::executor).
    pub fn spin(mut self, time: Duration) -> Self {
        self.own_threads.spin = Some(time);
        self
    }

    /// Calls that are divided at once: each stream has [`threads`](Self::threads) threads, the calling one and others of its own, so that
    /// calls from several threads do not wait for each other's. A call takes the stream that its thread used last, else any that is free;
    /// if all are taken, it begins on the calling thread alone and has help when one becomes free. From the environment:
    /// `KILN_NUM_STREAMS`; else 1.
    ///
    /// Streams are for programs that call from several threads at once, such as servers. Threads of different calls wait less for each
    /// other than many threads of one call do, so 8 streams of 8 threads suit a server with 64 cores better than 64 threads in one
    /// stream, though a call that is alone takes longer. All threads are started with the runtime and each costs a stack, and there are
    /// no more than [`MAX_THREADS`] in all streams. The setting has no effect with [pools](Self::rayon_pool) and
    /// [executors](Self::executor), whose threads help with all calls.
    ///
    /// On a machine whose memory is divided into nodes (NUMA), the threads of each stream stay on one node, if it has as many processors.
    /// Streams take nodes in turn. The calling thread stays where its program puts it.
    pub fn streams(mut self, streams: usize) -> Self {
        self.own_threads.streams = Some(streams);
        self
    }

    /// Divides large problems among the threads of `pool`, which others may use as well: at most [`MAX_THREADS`].
    pub fn rayon_pool(mut self, pool: Arc<rayon::ThreadPool>) -> Self {
        self.threads = Some(Source::Rayon(pool));
        self
    }

    /// Divides large problems among threads of the embedding program: an [`Executor`], or a pair of their number and a closure
    /// that runs work on them. At most [`MAX_THREADS`].
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.threads = Some(Source::Executor(executor));
        self
    }

    /// The arithmetic of problems with f32 source that name none. A problem that says `fpmath=strict` is strict, whatever the
    /// default. From the environment: `KILN_FPMATH_MODE`, `ONEDNN_DEFAULT_FPMATH_MODE` or `DNNL_DEFAULT_FPMATH_MODE`; else
    /// strict. Accepted, without effect, on a target that has no BF16 instructions.
    pub fn fpmath(mut self, mode: MathMode) -> Self {
        self.fpmath = Some(mode);
        self
    }

    /// Refuses every kernel that is predicted to reach less than this fraction, from 0 to 1, of what the target's arithmetic
    /// and memory allow: [`RuntimeError::BelowBound`] says by how much and why. Small problems reach little by nature: calls and
    /// edges take most of their time.
    pub fn strict(mut self, least_fraction: f64) -> Self {
        self.least_fraction = Some(least_fraction);
        self
    }

    /// Takes kernels from a [pack](crate::pack) instead of compiling them. One that cannot be used is no error: its kernels are
    /// compiled, and [`Runtime::packs`] and a [`Notice`] say why. Packs are asked in the order they are given.
    ///
    /// # Safety
    /// The code in the pack is executed as it is, like that of a shared library. The file is one that
    /// [`pack::write`](crate::pack::write), [`pack::write_bundle`](crate::pack::write_bundle), `kiln pack build` or `kiln model` made, of
    /// kernels that Kiln compiled, and nobody whom the program does not trust can have changed it until [`build`](Self::build) has
    /// returned. Later changes do not matter.
    pub unsafe fn pack(mut self, file: impl AsRef<Path>) -> Self {
        self.packs.push(file.as_ref().into());
        self
    }

    /// Keeps kernels that are compiled in a directory, and takes them from there. Processes that use the same one compile each kernel
    /// once: the others wait for the one that compiles it, up to five seconds, after which a process compiles by itself and waits no
    /// more. A directory that cannot be used is no error: a [`Notice`] says why. It is for processes of one user.
    ///
    /// From the environment: `KILN_CACHE_DIR`, if that is a directory of the user's own, see [Trust](crate#trust); none unless set.
    ///
    /// # Safety
    /// Code in the directory is executed, if it is sealed with the key that is in it. As long as the runtime lives nobody whom the
    /// program does not trust can write to the directory, read its `key`, or put another directory in its place before it is opened by
    /// [`build`](Self::build).
    pub unsafe fn cache_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.cache_dir = Some(folder.as_ref().into());
        self
    }

    /// Bytes that the files of the cache directory may occupy, looked at now and then: the oldest go. Unless set, 256 MiB.
    pub fn cache_dir_bytes(mut self, bytes: u64) -> Self {
        self.cache_dir_bytes = Some(bytes);
        self
    }

    /// Makes errors of settings that cannot be followed, where they are [notices](Notice) otherwise: packs and cache directories that
    /// cannot be used, and files that cannot be written. What is noticed when the runtime is made fails [`build`](Self::build), what is
    /// noticed later fails the kernel. From the environment: `KILN_STRICT_SETTINGS`; else false.
    pub fn strict_settings(mut self, strict: bool) -> Self {
        self.strict_settings = Some(strict);
        self
    }

    /// Is called with each [`Notice`] as it comes, on whatever thread that is; [`Runtime::notices`] has all of them.
    pub fn on_notice(mut self, listener: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The events that verbose lines are about, in the words of `KILN_VERBOSE` or `ONEDNN_VERBOSE`, which are read otherwise.
    pub fn verbose(mut self, words: &str) -> Self {
        self.verbose = Some(words.into());
        self
    }

    /// Where verbose lines go, without their ends; standard output unless set.
    pub fn verbose_sink(mut self, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }

    /// Writes each kernel's code and listing to a directory. From the environment: `KILN_JIT_DUMP` or `ONEDNN_JIT_DUMP`.
    pub fn jit_dump(mut self, folder: impl AsRef<Path>) -> Self {
        self.jit_dump = Some(folder.as_ref().into());
        self
    }

    /// Tells perf where kernels are: 2 in a perf map, 4 in a jitdump, 6 in both. From the environment: `KILN_JIT_PROFILE` or
    /// `ONEDNN_JIT_PROFILE`; else 0.
    pub fn jit_profile(mut self, bits: u32) -> Self {
        self.jit_profile = Some(bits);
        self
    }

    /// Checks the settings and makes the runtime.
    pub fn build(self) -> Result<Runtime, RuntimeError> {
        let host = cpu::detect()?;
        let target = match self.target {
            Some(t) => {
                cpu::supports(&host, &t)?;
                t
            }
            None => match env::variable(env::ISA) {
                Some((_, limit)) => cpu::limit(&host, &limit)?,
                None => host,
            },
        };
        let entries = match self.entries {
            Some(n) => n,
            None => env::count(env::CAPACITY, "a number of kernels")?.unwrap_or(DEFAULT_CAPACITY),
        };
        let bytes = match self.bytes {
            Some(n) => n,
            None => env::count(env::BYTES, "a number of bytes")?.unwrap_or(usize::MAX),
        };
        let mut own_threads = OwnThreads {
            spin: self.own_threads.spin.map_or_else(env::spin, |time| Ok(Some(time)))?,
            ..self.own_threads
        };
        if own_threads.streams.is_none()
            && let Some((name, streams)) = env::streams()?
        {
            own_threads.streams = Some(streams);
            own_threads.variables.push(name);
        }
        let threads = match (self.threads, env::threads()) {
            (Some(source), _) => source,
            (None, Err(error)) => return Err(error),
            (None, Ok(Some((name, threads)))) => {
                own_threads.variables.push(name);
                Source::Own(threads)
            }
            (None, Ok(None)) => Source::Own((processors() / own_threads.streams.unwrap_or(1).max(1)).max(1)),
        };
        let fpmath = self.fpmath.map_or_else(default_fpmath, Ok)?;
        if fpmath.allows_bf16() && !target.has(Feature::Bf16) {
            tracing::info!(%target, %fpmath, "fpmath has no effect: the target has no BF16 instructions");
        }
        let least_fraction = self.least_fraction.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&least_fraction) {
            let (what, got) = ("strict", least_fraction.to_string());
            return Err(RuntimeError::Setting { what, got, expected: "a fraction from 0 to 1" });
        }
        let sink = self.sink.unwrap_or_else(Verbose::standard_output);
        let verbose = match self.verbose {
            Some(words) => Some(Verbose::parse(&words, sink).ok_or(RuntimeError::Setting {
                what: "verbose",
                got: words,
                expected: verbose::EXPECTED,
            })?),
            None => env::parsed(env::VERBOSE, verbose::EXPECTED, |words| Verbose::parse(words, sink))?,
        };
        let jitdump = env::jitdump_folder();
        let profile = match self.jit_profile {
            Some(bits) => Profile::from_bits(bits, &jitdump).map_err(|_| RuntimeError::Setting {
                what: "jit_profile",
                got: bits.to_string(),
                expected: profile::EXPECTED,
            })?,
            None => env::parsed(env::PROFILE, profile::EXPECTED, |text| Profile::parse(text, &jitdump).ok())?
                .unwrap_or_default(),
        };
        let is_strict = match self.strict_settings {
            Some(strict) => strict,
            None => env::switch(env::STRICT_SETTINGS)?.unwrap_or(false),
        };
        let verbose = verbose.filter(Verbose::is_on);
        let notices = Notices::new(is_strict, self.listener, verbose.clone());
        let packs = self.packs.into_iter().map(|path| open_pack(path, &target, &notices)).collect::<Result<_, _>>()?;
        let cache_dir = match self.cache_dir {
            Some(folder) => Some((folder, Trust::Vouched)),
            None => env::path(env::CACHE_DIR).map(|folder| (folder, Trust::Checked)),
        };
        let disk_bytes = self.cache_dir_bytes.unwrap_or(DISK_BYTES);
        let disk = match cache_dir {
            Some((path, trust)) => match DiskCache::new(&path, trust, target.clone(), disk_bytes) {
                Ok(disk) => Some(disk),
                Err(error) => {
                    notices.tell(Notice::CacheDir { path, error })?;
                    None
                }
            },
            None => None,
        };
        let dump = self.jit_dump.or_else(env::dump).map(|folder| CodeDump::new(folder, &notices)).transpose()?;
        let shared = Shared {
            code: CodePool::with_limit(self.code_limit.unwrap_or(usize::MAX))?,
            scratch: ScratchPool::new(SCRATCH),
            threads: Threads::new(threads, own_threads)?,
            packed: Arc::new(PackedBudget::new(self.packed_limit.unwrap_or(usize::MAX))),
            unpacked: AtomicU64::new(0),
            verbose,
            profile,
            dump,
            notices,
        };
        let config = Config { bytes, retry_after: RETRY_AFTER, ..Config::entries(entries) };
        Ok(Runtime::assemble(crate::runtime::Inner {
            target,
            fpmath,
            least_fraction,
            cache: Cache::new(config),
            packs,
            disk,
            weights: PackedCache::default(),
            background: Default::default(),
            shared: Arc::new(shared),
        }))
    }
}

/// The arithmetic of problems that name none, where a runtime is not told: from the environment, as
/// [`RuntimeBuilder::fpmath`] says, else strict.
pub fn default_fpmath() -> Result<MathMode, RuntimeError> {
    Ok(env::math_mode()?.unwrap_or_default())
}

/// The threads of a runtime of one stream that is not told how many: from the environment, as [`RuntimeBuilder::threads`] says, else
/// as many as there are processors that the process may use.
pub fn default_threads() -> Result<usize, RuntimeError> {
    Ok(environment_threads()?.unwrap_or_else(processors))
}

/// The threads that the environment asks for, as [`RuntimeBuilder::threads`] says: none if no variable does.
pub fn environment_threads() -> Result<Option<usize>, RuntimeError> {
    Ok(env::threads()?.map(|(_, threads)| threads))
}

/// Processors that the process may use, no more than there may be threads.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

fn open_pack(path: PathBuf, target: &Target, notices: &Notices) -> Result<(PathBuf, PackStatus), RuntimeError> {
    let pack = Pack::open_for(&path, target);
    if let Err(error) = &pack {
        notices.tell(Notice::Pack { path: path.clone(), error: error.clone() })?;
    }
    Ok((path, pack.map(Arc::new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let error = |builder: RuntimeBuilder| builder.build().unwrap_err().to_string();
        assert!(error(Runtime::builder().strict(1.5)).contains("fraction from 0 to 1"));
        assert!(error(Runtime::builder().strict(f64::NAN)).contains("NaN"));
        assert!(error(Runtime::builder().verbose("loud")).contains("profile_exec"));
        assert!(error(Runtime::builder().jit_profile(64)).contains("perf map"));
        for threads in [0, MAX_THREADS + 1, 100_000_000, usize::MAX] {
            assert_eq!(
                error(Runtime::builder().threads(threads)),
                format!("{threads} threads: expected from 1 to 1024")
            );
            let executor = Arc::new((threads, |_: usize, _: &(dyn Fn(usize) + Sync)| {}));
            assert!(error(Runtime::builder().executor(executor)).contains("from 1 to 1024"));
        }
        for (threads, streams) in [(2, 0), (2, 513), (1024, 2), (1, MAX_THREADS + 1), (2, usize::MAX)] {
            assert_eq!(
                error(Runtime::builder().threads(threads).streams(streams)),
                format!(
                    "{streams} streams of {threads} thread{}: expected from 1 to 1024 threads in all{}",
                    if threads == 1 { "" } else { "s" },
                    if streams == 0 { "" } else { "; lower the number of streams or that of threads" }
                )
            );
        }
    }
}
