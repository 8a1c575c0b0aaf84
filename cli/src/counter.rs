//! Counters of processor cycles, if the operating system lets a process count them.

use perf_event::Builder;
use perf_event::events::Hardware;

/// Cycles of this process and of the threads it starts later.
pub struct Cycles(Option<perf_event::Counter>);

impl Cycles {
    /// No counter.
    pub fn none() -> Self {
        Self(None)
    }

    /// Cycles outside the kernel: neither the clock nor other processes change them much.
    pub fn user() -> Self {
        Self::open(|_| {})
    }

    /// Cycles of the kernel too.
    pub fn all() -> Self {
        Self::open(|b| {
            b.include_kernel();
        })
    }

    fn open(configure: impl Fn(&mut Builder<'_>)) -> Self {
        let mut builder = Builder::new(Hardware::CPU_CYCLES);
        configure(&mut builder);
        Self(builder.inherit(true).enabled(true).build().ok())
    }

    /// The count since the counter was made; `None` if there is no counter.
    pub fn read(&mut self) -> Option<u64> {
        self.0.as_mut()?.read().ok()
    }
}
