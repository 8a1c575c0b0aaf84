//! The measured steps of a network.

use serde::Serialize;

/// The time of each step.
#[derive(Debug, Serialize)]
pub struct Profile {
    /// The network's name.
    pub network: String,
    /// The target that it is compiled for.
    pub target: String,
    /// The arithmetic of f32 kernels.
    pub fpmath: String,
    /// Threads it ran on.
    pub threads: usize,
    /// Measured runs.
    pub runs: u64,
    /// The machine's peak on as many threads.
    pub peak_gflops: f64,
    /// The steps in order.
    pub rows: Vec<Row>,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The node that it computes, and how many others it does the work of.
    pub layer: String,
    /// The names of all these nodes, as far as they are kept.
    pub nodes: Vec<String>,
    /// The kind of code.
    pub code: &'static str,
    /// The problem of a kernel, else the statement.
    pub operation: String,
    /// The type of the result.
    pub ty: String,
    /// Median nanoseconds.
    pub ns: f64,
    /// The fraction of the sum of all steps.
    pub share: f64,
    /// The speed of a kernel.
    pub gflops: Option<f64>,
    /// A kernel's fraction of the peak.
    pub fraction: Option<f64>,
    /// The fraction of the peak that the cost model predicts for one thread.
    pub predicted: Option<f64>,
    /// The index of the kernel among the network's distinct kernels.
    pub kernel: Option<usize>,
}

impl Profile {
    /// The sum of all steps.
    pub fn total_ns(&self) -> f64 {
        self.rows.iter().map(|r| r.ns).sum()
    }
}
