//! The time that several threads lose, by cause.

use std::fmt;
use std::ops::AddAssign;

/// The cause of several threads taking longer than the time of one divided among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Threads that have nothing left to do wait for others.
    Imbalance,
    /// Beginning and ending steps.
    Barrier,
    /// The last-level cache or memory gives all threads together less than they ask for.
    Bandwidth,
    /// The work that one thread does alone, and threads without work: a step is worth fewer of them than there are, or the chip has fewer cores.
    Serial,
    /// Copies into panels that several threads make, each for itself.
    Copies,
}

impl Limit {
    /// Every cause, with its word.
    pub const ALL: &'static [Limit] =
        &[Limit::Imbalance, Limit::Barrier, Limit::Bandwidth, Limit::Serial, Limit::Copies];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Imbalance => "imbalance",
            Limit::Barrier => "barrier",
            Limit::Bandwidth => "bandwidth",
            Limit::Serial => "serial",
            Limit::Copies => "copies",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Cycles that are lost, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lost {
    /// See [`Limit::Imbalance`].
    pub imbalance: f64,
    /// See [`Limit::Barrier`].
    pub barrier: f64,
    /// See [`Limit::Bandwidth`].
    pub bandwidth: f64,
    /// See [`Limit::Serial`].
    pub serial: f64,
    /// See [`Limit::Copies`].
    pub copies: f64,
}

impl Lost {
    /// The cycles that are lost to one cause.
    pub fn to(&self, limit: Limit) -> f64 {
        match limit {
            Limit::Imbalance => self.imbalance,
            Limit::Barrier => self.barrier,
            Limit::Bandwidth => self.bandwidth,
            Limit::Serial => self.serial,
            Limit::Copies => self.copies,
        }
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        Limit::ALL.iter().map(|limit| self.to(*limit)).sum()
    }

    /// The cause that most is lost to.
    pub fn largest(&self) -> Limit {
        let more = |a: &&Limit, b: &&Limit| self.to(**a).total_cmp(&self.to(**b));
        *Limit::ALL.iter().max_by(more).expect("there are causes")
    }
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Lost) {
        self.imbalance += other.imbalance;
        self.barrier += other.barrier;
        self.bandwidth += other.bandwidth;
        self.serial += other.serial;
        self.copies += other.copies;
    }
}
