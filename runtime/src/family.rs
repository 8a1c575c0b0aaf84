//! Families: problems that differ in one number, such as the length of a sequence, run without waiting for a compilation.
//!
//! A [`Family`] has code that serves any value of the number, made when the family is. A call with a value that has exact code in
//! the kernel cache runs that; any other runs on the general code at once, and when a value was asked for often enough, its
//! exact kernel is compiled in the background and taken from then on.
//!
//! There are three kinds of general code, of which a family has the first that it can have:
//! - `tiles`: rows are free. Kernels for one register tile of rows, of every height up to the full one, for a block of
//!   columns at a time; the loop over rows and its end are run here. Same tiles, same packed weights, no padding.
//! - `blocks`: what is free is the outermost dimension in memory, as images of a batch are. Kernels for a few sizes, one
//!   after the other.
//! - `padded`: what is free is anywhere, perhaps several times, as the length of a sequence in a product of attention is.
//!   Kernels for powers of two, on copies filled up with zeros.

mod blocks;
mod padded;
mod pattern;
mod steps;
mod tiles;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use kiln_compiler::Options;
use kiln_compiler::packed::PackedLayout;
use kiln_ir::Problem;
use kiln_memo::{Cache, Config, Replicate};

use crate::args::{Args, Input, PreparedWeights, Signature};
use crate::cpu::check_thread;
use crate::error::RuntimeError;
use crate::kernel::Kernel;
use crate::lock::lock;
use crate::runtime::{Inner, Runtime};
use crate::weights::{PackedWeights, WeightsId};
use pattern::Pattern;

/// Values that a family remembers at most.
const MEMBERS: usize = 4096;

/// The options of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyOptions {
    /// The right operand is the same in many calls and may be packed before them, for all values alike.
    pub constant_weights: bool,
    /// Calls with a value after which its exact kernel is compiled; 0 for never.
    pub hot_calls: u32,
    /// The largest value, where general code has to be made for it.
    pub max: u64,
}

impl Default for FamilyOptions {
    /// Weights that are not constant, exact code at the third call, values up to 512.
    fn default() -> Self {
        FamilyOptions { constant_weights: false, hot_calls: 3, max: 512 }
    }
}

/// Counters of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyStats {
    /// Calls that ran on general code.
    pub general_calls: u64,
    /// Kernels that the general code consists of.
    pub general_kernels: usize,
    /// Executable memory of these, in bytes.
    pub general_bytes: usize,
    /// Exact kernels compiled in the background so far.
    pub exact_kernels: u64,
    /// Those that are waiting to be compiled.
    pub pending: usize,
}

/// Problems that differ in one number, such as a batch or the length of a sequence: a call with a number that comes for the first time
/// waits for no compilation. See the [module](self).
///
/// ```
/// use kiln_jit::{Args, FamilyOptions, Runtime};
///
/// let runtime = Runtime::builder().build()?;
/// let options = FamilyOptions { constant_weights: true, ..FamilyOptions::default() };
/// let linear = runtime.family("ip f32 mb?ic3oc4 +bias", &options)?; // `?` is the free number
///
/// let weights = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
/// let (weights, bias) = (linear.prepare_weights(&weights)?, [0.0, 0.0, 0.0, 100.0]);
/// for rows in [1, 5, 2] {
///     let (src, mut dst) = (vec![1.0; rows * 3], vec![0.0; rows * 4]);
///     linear.run(rows as u64, Args::new(&src, &weights, &mut dst).bias(&bias))?;
///     assert_eq!(dst, [1.0, 1.0, 1.0, 103.0].repeat(rows));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Family {
    runtime: Runtime,
    pattern: String,
    options: Options,
    hot_calls: u32,
    general: General,
    layout: Option<PackedLayout>,
    members: Cache<u64, MemberHandle, RuntimeError>,
    counts: Arc<Counts>,
}

enum General {
    Tiles(tiles::Tiles),
    Blocks(blocks::Blocks),
    Padded(padded::Padded),
}

#[derive(Default)]
struct Counts {
    general: AtomicU64,
    exact: AtomicU64,
    pending: Mutex<usize>,
    none_pending: Condvar,
}

/// The data that a family has for one value.
struct Member {
    problem: Problem,
    signature: Signature,
    calls: AtomicU32,
    /// There is, or was, an exact kernel that can be called with the family's weights.
    exact: AtomicBool,
    /// Its kernel is being compiled, or there cannot be one.
    queued: AtomicBool,
}

/// A member as the threads of one stripe of the cache share it.
struct Seen {
    member: Arc<Member>,
}

#[derive(Clone)]
struct MemberHandle(Arc<Seen>);

impl Replicate for MemberHandle {
    fn replicate(&self) -> Self {
        MemberHandle(Arc::new(Seen { member: Arc::clone(&self.0.member) }))
    }
}

impl Runtime {
    /// The family of the problems that `pattern` is the text of, with `?` for the free number, once or more:
    /// `ip f32 mb?ic768oc3072 +bias`, `matmul f32 12x?x64:12x64x?`. The number is a size: of a convolution images, pixels or
    /// channels, these without groups. Compiles its general code now.
    ///
    /// # Errors
    /// [`RuntimeError::Family`] if the text has no free number, or is a problem for none of its values;
    /// [`RuntimeError::Compile`] and others of [`Runtime::kernel`] if the general code cannot be made.
    pub fn family(&self, pattern: &str, options: &FamilyOptions) -> Result<Family, RuntimeError> {
        Family::new(self, pattern, options)
    }
}

impl Family {
    fn new(runtime: &Runtime, text: &str, wanted: &FamilyOptions) -> Result<Self, RuntimeError> {
        let pattern = Pattern(text);
        let options = Options { constant_weights: wanted.constant_weights, ..Options::default() };
        let general = match pattern.slices()? {
            Some(strides) => match tiles::Tiles::new(runtime, &pattern, &strides, &options)? {
                Some(tiles) => General::Tiles(tiles),
                None => General::Blocks(blocks::Blocks::new(runtime, &pattern, strides, &options)?),
            },
            None => General::Padded(padded::Padded::new(runtime, &pattern, wanted.max)?),
        };
        // All members read the same weights: packed as general code has them, or in place.
        let layout = general.kernels().next().and_then(|k| k.weights_layout()).cloned();
        let options = Options {
            constant_weights: layout.is_some(),
            weights_layout: layout.clone().map(Arc::new),
            ..Options::default()
        };
        Ok(Family {
            runtime: runtime.clone(),
            pattern: text.into(),
            options,
            // Without a cache exact code would be lost as soon as it is made.
            hot_calls: if runtime.inner().cache.is_off() { 0 } else { wanted.hot_calls },
            general,
            layout,
            members: Cache::new(Config::entries(MEMBERS)),
            counts: Arc::default(),
        })
    }

    /// The problem's text with `?` for the free number.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The member of the family for a value.
    ///
    /// # Errors
    /// [`RuntimeError::Family`] if there is no problem with this value.
    pub fn problem(&self, n: u64) -> Result<Problem, RuntimeError> {
        Pattern(&self.pattern).problem(n)
    }

    /// The kind of its general code: `tiles`, `blocks` or `padded`. See the [module](self).
    pub fn kind(&self) -> &'static str {
        match self.general {
            General::Tiles(_) => "tiles",
            General::Blocks(_) => "blocks",
            General::Padded(_) => "padded",
        }
    }

    /// The layout in which all members read their weights; `None` if they read them in place.
    pub fn weights_layout(&self) -> Option<&PackedLayout> {
        self.layout.as_ref()
    }

    /// Constant weights as all members read them. See [`Kernel::prepare_weights`].
    ///
    /// # Errors
    /// Those of [`Kernel::prepare_weights`].
    pub fn prepare_weights<'a>(&self, weights: impl Into<Input<'a>>) -> Result<PreparedWeights<'a>, RuntimeError> {
        self.any_kernel().prepare_weights(weights)
    }

    /// Packs weights for all members.
    ///
    /// # Errors
    /// Those of [`Kernel::pack_weights`].
    pub fn pack_weights<'a>(&self, weights: impl Into<Input<'a>>) -> Result<PackedWeights, RuntimeError> {
        self.any_kernel().pack_weights(weights)
    }

    /// Weights for all members, shared with others that use the same. See [`Runtime::packed_weights`].
    ///
    /// # Errors
    /// Those of [`Runtime::packed_weights`].
    pub fn packed_weights<'a>(
        &self,
        id: WeightsId,
        weights: impl Into<Input<'a>>,
    ) -> Result<PackedWeights, RuntimeError> {
        self.runtime.packed_weights(self.any_kernel(), id, weights)
    }

    fn any_kernel(&self) -> &Kernel {
        self.general.kernels().next().expect("general code has a kernel")
    }

    /// Computes `dst` of the member for `n`: on its exact kernel if there is one, else on general code. Checks arguments as
    /// [`Kernel::run`] does. Waits for no compilation, unless `n` is beyond [`FamilyOptions::max`] and the family's general code
    /// is of the padded kind.
    ///
    /// # Errors
    /// [`RuntimeError::Family`] if there is no problem with this value, and those of [`Kernel::run`].
    pub fn run(&self, n: u64, args: Args<'_>) -> Result<(), RuntimeError> {
        let seen = self.member(n)?;
        let member = &seen.member;
        if member.exact.load(Ordering::Acquire) {
            match self.runtime.cached(&member.problem, &self.options) {
                Some(kernel) => return kernel.run(args),
                // Evicted: it has to become hot again.
                None => member.forget_kernel(),
            }
        }
        let pointers = args.pointers(&member.signature)?;
        check_thread(self.runtime.target())?;
        self.counts.general.fetch_add(1, Ordering::Relaxed);
        let calls = member.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.hot_calls != 0 && calls >= self.hot_calls && !member.queued.swap(true, Ordering::Relaxed) {
            self.compile_in_background(member);
        }
        let shared = &self.runtime.inner().shared;
        shared.observed(&member.problem, self.any_kernel().schedule(), || match &self.general {
            General::Tiles(tiles) => tiles.run(shared, n, &pointers),
            General::Blocks(blocks) => blocks.run(n, &pointers),
            General::Padded(padded) if n <= padded.max() => padded.run(shared, &member.problem, n, &pointers),
            General::Padded(_) => {
                let kernel = self.runtime.kernel_with(&member.problem, &self.options)?;
                // SAFETY: the pointers were checked against the signature of the kernel's problem; both read weights in place.
                unsafe { kernel.run_slice(pointers.as_slice()) }
            }
        })
    }

    fn member(&self, n: u64) -> Result<Arc<Seen>, RuntimeError> {
        if let Some(member) = self.members.get(&n) {
            return Ok(member.0);
        }
        let make = || {
            let problem = self.problem(n)?;
            let member = Member {
                signature: Signature::new(&problem, self.layout.as_ref()),
                problem,
                calls: AtomicU32::new(0),
                exact: AtomicBool::new(false),
                queued: AtomicBool::new(false),
            };
            Ok(MemberHandle(Arc::new(Seen { member: Arc::new(member) })))
        };
        self.members.get_or_try_insert_with(&n, |_| 1, make).map(|member| member.0)
    }

    fn compile_in_background(&self, member: &Arc<Member>) {
        *lock(&self.counts.pending) += 1;
        let (member, options) = (Arc::clone(member), self.options.clone());
        let pending = Pending(Arc::clone(&self.counts));
        let job = move |inner: &Arc<Inner>| {
            let runtime = Runtime::from_inner(Arc::clone(inner));
            match runtime.kernel_with(&member.problem, &options) {
                Ok(_) => {
                    pending.0.exact.fetch_add(1, Ordering::Relaxed);
                    member.exact.store(true, Ordering::Release);
                }
                Err(error) => {
                    tracing::debug!(problem = %member.problem, %error, "no exact code");
                    // What cannot be compiled, or is refused, will be so again: `queued` stays. Memory may be there later.
                    if !matches!(error, RuntimeError::Compile(_) | RuntimeError::BelowBound { .. }) {
                        member.forget_kernel();
                    }
                }
            }
            drop(pending);
        };
        let runtime: Weak<Inner> = Arc::downgrade(self.runtime.inner());
        self.runtime.inner().background.submit(runtime, Box::new(job));
    }

    /// Waits until no exact kernel is waiting to be compiled.
    pub fn wait_for_compilation(&self) {
        let pending = lock(&self.counts.pending);
        drop(self.counts.none_pending.wait_while(pending, |n| *n > 0).unwrap_or_else(PoisonError::into_inner));
    }

    /// Counters.
    pub fn stats(&self) -> FamilyStats {
        FamilyStats {
            general_calls: self.counts.general.load(Ordering::Relaxed),
            general_kernels: self.general.kernels().count(),
            general_bytes: self.general.kernels().map(|k| k.resident_bytes()).sum(),
            exact_kernels: self.counts.exact.load(Ordering::Relaxed),
            pending: *lock(&self.counts.pending),
        }
    }
}

impl Member {
    fn forget_kernel(&self) {
        self.exact.store(false, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
        self.queued.store(false, Ordering::Relaxed);
    }
}

impl General {
    fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        let all = match self {
            General::Tiles(tiles) => tiles.kernels(),
            General::Blocks(blocks) => blocks.kernels(),
            General::Padded(padded) => padded.kernels(),
        };
        all.iter().map(|kernel| &**kernel)
    }
}

/// A kernel that is waiting to be compiled, until this is dropped.
struct Pending(Arc<Counts>);

impl Drop for Pending {
    fn drop(&mut self) {
        let mut pending = lock(&self.0.pending);
        *pending -= 1;
        if *pending == 0 {
            self.0.none_pending.notify_all();
        }
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Family({}, {:?})", self.pattern, self.stats())
    }
}
