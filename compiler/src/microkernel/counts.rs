//! Counts of what a micro-kernel executes, for cost models, listings and tests of schedules.

use std::fmt;

use super::op::Kind;
use super::verify::MAX_REGISTERS;
use super::{MicroKernel, Op, Stmt};

/// Counts of what one call of a micro-kernel executes. Every count saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Floating-point operations in all lanes, used or not: 2 of a multiply-add, 1 of another operation on
    /// numbers.
    pub flops: u64,
    /// Products of whole registers, added to accumulators: FMA, BFMMLA, BFDOT.
    pub fma: u64,
    /// Loads of every kind.
    pub loads: u64,
    /// Stores.
    pub stores: u64,
    /// Operations that are none of these.
    pub others: u64,
    /// Bytes loaded; a byte loaded twice counts twice.
    pub load_bytes: u64,
    /// Bytes stored.
    pub store_bytes: u64,
    /// Different registers named.
    pub registers_used: u32,
}

/// Counts of what one trip of a loop executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCounts {
    /// Trips of the loop.
    pub trips: u64,
    /// Multiply-adds of a trip.
    pub fma: u64,
    /// Loads of every kind of a trip.
    pub loads: u64,
    /// Stores of a trip.
    pub stores: u64,
    /// Other operations of a trip.
    pub others: u64,
}

impl MicroKernel {
    /// Counts what a call executes.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        let mut used = vec![false; self.registers.min(MAX_REGISTERS) as usize];
        for stmt in &self.body {
            let (times, insts) = parts(stmt);
            for inst in insts {
                for v in inst.op.used().chain(inst.op.defined()) {
                    used.get_mut(v.0 as usize).into_iter().for_each(|u| *u = true);
                }
                self.count(&mut counts, &inst.op, times);
            }
        }
        counts.registers_used = used.iter().map(|u| u32::from(*u)).sum();
        counts
    }

    fn count(&self, counts: &mut Counts, op: &Op, times: u64) {
        let add = |counter: &mut u64, n: u64| *counter = counter.saturating_add(times.saturating_mul(n));
        let bytes = op.touched().map_or(0, |touched| {
            let param = self.params.get(usize::from(touched.addr.param.0));
            u64::from(touched.elements) * param.map_or(0, |p| p.dtype.bytes() as u64)
        });
        let flops_per_lane = match op.kind() {
            Kind::Load => {
                add(&mut counts.loads, 1);
                add(&mut counts.load_bytes, bytes);
                0
            }
            Kind::Store => {
                add(&mut counts.stores, 1);
                add(&mut counts.store_bytes, bytes);
                0
            }
            Kind::Product(macs) => {
                add(&mut counts.fma, 1);
                2 * macs / 4
            }
            Kind::Arithmetic => {
                add(&mut counts.others, 1);
                1
            }
            Kind::Other => {
                add(&mut counts.others, 1);
                0
            }
        };
        add(&mut counts.flops, flops_per_lane * u64::from(self.lanes));
    }

    /// Counts one trip of the loop that executes most multiply-adds, the first of equals. `None` without loops.
    pub fn loop_counts(&self) -> Option<LoopCounts> {
        let loops = self.body.iter().filter_map(|stmt| match stmt {
            Stmt::Inst(_) => None,
            Stmt::Loop { trips, body, .. } => {
                let mut counts = Counts::default();
                body.iter().for_each(|inst| self.count(&mut counts, &inst.op, 1));
                let Counts { fma, loads, stores, others, .. } = counts;
                Some(LoopCounts { trips: *trips, fma, loads, stores, others })
            }
        });
        // `max_by_key` would return the last of equals.
        loops.reduce(|hottest, next| {
            let executed = |counts: &LoopCounts| counts.trips.saturating_mul(counts.fma);
            if executed(&next) > executed(&hottest) { next } else { hottest }
        })
    }
}

/// The number of times that a statement's instructions are executed, and the instructions.
fn parts(stmt: &Stmt) -> (u64, &[super::Inst]) {
    let times = if let Stmt::Loop { trips, .. } = stmt { *trips } else { 1 };
    (times, stmt.insts())
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flops, fma, loads, stores, others, load_bytes, store_bytes, registers_used } = self;
        write!(f, "{flops} flops: {fma} fma, {loads} loads ({load_bytes} B), {stores} stores ({store_bytes} B), ")?;
        write!(f, "{others} others, {registers_used} registers")
    }
}

impl fmt::Display for LoopCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trips, fma, loads, stores, others } = self;
        write!(f, "{trips} trips of {fma} fma, {loads} loads, {stores} stores, {others} others")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_count_their_trips() {
        let mk: MicroKernel = "microkernel uk avx2 lanes=8 registers=16 {
            param lhs: f32 read 1x2048 stride 2048
            param dst: f32 write 1x24 stride 24
            v9 = zero
            loop 3 {
                v0 = zero
            }
            loop 512 {
                v1 = broadcast lhs[0 + 4*t]
                v2 = loadlanes lhs[0] x3
                v9 += v1 * v2
                v9 += v1 * v2.lane[1]
            }
            v9 = max v9, v0
            store dst[0], v9 x6
        }"
        .parse()
        .unwrap();
        let counts = mk.counts();
        let expected = Counts {
            flops: 512 * 2 * 16 + 8,
            fma: 1024,
            loads: 1024,
            stores: 1,
            others: 1 + 3 + 1,
            load_bytes: 512 * (4 + 12),
            store_bytes: 24,
            registers_used: 4,
        };
        assert_eq!(counts, expected);
        let text = "16392 flops: 1024 fma, 1024 loads (8192 B), 1 stores (24 B), 5 others, 4 registers";
        assert_eq!(counts.to_string(), text);
        let hottest = LoopCounts { trips: 512, fma: 2, loads: 2, stores: 0, others: 0 };
        assert_eq!(mk.loop_counts(), Some(hottest));
        assert_eq!(hottest.to_string(), "512 trips of 2 fma, 2 loads, 0 stores, 0 others");
    }

    #[test]
    fn hostile_trip_counts_saturate() {
        let text = format!(
            "microkernel uk avx2 lanes=8 registers=1 {{\n loop {} {{\n v0 += v0 * v0\n v0 += v0 * v0\n }}\n }}",
            u64::MAX
        );
        let mk: MicroKernel = text.parse().unwrap();
        assert_eq!((mk.counts().fma, mk.counts().flops), (u64::MAX, u64::MAX));
    }
}
