//! The parameters of the cost model: the costs of executing code on a core that its vector units and caches do not say.
//!
//! [`cost`](crate::schedule::cost) applies them to a schedule. They are the same for all targets so far.

use super::Target;

/// Parameters of the cost model. Cycles are those of one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Cycles to call a micro-kernel: arguments, call, return, and a mispredicted loop exit now and then.
    pub call: f64,
    /// The factor by which the time between two additions to the same accumulator has to exceed the latency of an addition, so that nothing
    /// that delays one of them delays all.
    pub latency_slack: f64,
    /// Bytes per cycle that the second-level cache sustains into the first while the core computes.
    pub l2_bandwidth: f64,
    /// Bytes per cycle that memory behind the second-level cache sustains, if it is read in order.
    pub l3_bandwidth: f64,
    /// Cycles that the first line of each run takes beyond that, because no prefetcher follows runs across pages.
    pub l3_run: f64,
    /// Bytes of a product in code that is not a loop.
    pub product_bytes: f64,
    /// Bytes of a load in code that is not a loop, with the displacement that it needs.
    pub load_bytes: f64,
    /// Micro-kernels that take turns along a line of pixels: its first tile, the inner ones, its last.
    pub line_kernels: f64,
    /// Cycles per run that is read from another page than the run before, where a panel spans more pages than the first-level
    /// translation buffer holds.
    pub translation: f64,
    /// Bytes that the first-level translation buffer reaches.
    pub translated: u64,
    /// Cycles per run of a packing copy beyond its vectors.
    pub copy_run: f64,
    /// The same if the run comes from behind the second-level cache: a copy has no arithmetic that the wait could overlap with.
    pub copy_run_far: f64,
    /// Cycles per 16 bytes copied while packing.
    pub copy_vector: f64,
    /// Cycles per element of runs across the panel's, which are transposed by blocks.
    pub copy_element: f64,
    /// Cycles per 16 bytes of a panel whose steps of K are rearranged.
    pub copy_rearranged: f64,
    /// Cycles per element of such a panel that is taken by itself, as its neighbours in the panel are not its neighbours in memory:
    /// a load, a permutation, and its share of rounding and storing.
    pub copy_gathered: f64,
    /// Share of the time to fetch from the second-level cache that computing does not hide if fetching takes as long. If it takes less,
    /// the share is smaller in proportion.
    pub exposed_near: f64,
    /// Fetching from behind the second-level cache is not hidden by computing in this share of its time, if computing takes all of the time;
    /// the less of the sum of both times computing takes, the smaller the share is, in proportion.
    pub exposed_far: f64,
}

/// Those of the cores described so far.
const COMMON: Costs = Costs {
    call: 12.0,
    latency_slack: 1.1,
    l2_bandwidth: 16.0,
    l3_bandwidth: 10.0,
    l3_run: 2.0,
    product_bytes: 6.0,
    load_bytes: 10.0,
    line_kernels: 3.0,
    translation: 0.25,
    // 64 entries at the least.
    translated: 64 * 4096,
    copy_run: 2.0,
    copy_run_far: 12.0,
    copy_vector: 1.0,
    copy_element: 0.6,
    copy_rearranged: 2.0,
    copy_gathered: 0.9,
    exposed_near: 0.08,
    exposed_far: 0.25,
};

/// A parameter's name and the place of its value.
pub type Parameter = (&'static str, fn(&mut Costs) -> &mut f64);

impl Costs {
    /// The parameters that can be fitted.
    pub const PARAMETERS: &'static [Parameter] = &[
        ("call", |c| &mut c.call),
        ("latency_slack", |c| &mut c.latency_slack),
        ("l2_bandwidth", |c| &mut c.l2_bandwidth),
        ("l3_bandwidth", |c| &mut c.l3_bandwidth),
        ("l3_run", |c| &mut c.l3_run),
        ("product_bytes", |c| &mut c.product_bytes),
        ("load_bytes", |c| &mut c.load_bytes),
        ("line_kernels", |c| &mut c.line_kernels),
        ("translation", |c| &mut c.translation),
        ("copy_run", |c| &mut c.copy_run),
        ("copy_run_far", |c| &mut c.copy_run_far),
        ("copy_vector", |c| &mut c.copy_vector),
        ("copy_element", |c| &mut c.copy_element),
        ("copy_rearranged", |c| &mut c.copy_rearranged),
        ("copy_gathered", |c| &mut c.copy_gathered),
        ("exposed_near", |c| &mut c.exposed_near),
        ("exposed_far", |c| &mut c.exposed_far),
    ];
}

impl Costs {
    /// Those of a target.
    pub fn of(target: &Target) -> &'static Costs {
        target.costs()
    }
}

impl Target {
    /// The parameters of the cost model.
    pub(crate) fn costs(&self) -> &'static Costs {
        &COMMON
    }
}
