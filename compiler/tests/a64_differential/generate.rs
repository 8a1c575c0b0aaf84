//! Random micro-kernels, and what is known of the bits they compute.
//!
//! The bits of a NaN that f32 arithmetic makes are not specified. [`Kind`] follows where they can be, so that no
//! operation makes them visible as anything but a NaN; all else must agree bit for bit.

use std::collections::BTreeMap;

use kiln_compiler::microkernel::{
    Access, Addr, Binary, Factors, Inst, MicroKernel, Op, P, Param, Permute, Region, Shift, Stmt, Temps, Unary, V,
};
use kiln_compiler::target::VectorIsa;
use kiln_ir::DType;

/// Xorshift: reproducible, no more than random enough.
pub struct Rng(u64);

impl Rng {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = rng.next());
        rng
    }

    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What is specified of the bits of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All.
    Exact,
    /// All words that are not a NaN.
    Words,
    /// All bf16 that are not a NaN.
    Halves,
}

/// The kind of every register and every slot of the frame that is written.
#[derive(Clone)]
pub struct Kinds {
    registers: [Option<Kind>; 32],
    slots: BTreeMap<u16, Kind>,
    /// The type of each parameter.
    dtypes: Vec<DType>,
}

impl Kinds {
    /// Nothing is written yet.
    pub fn new(params: &[Param]) -> Kinds {
        let dtypes = params.iter().map(|p| p.dtype).collect();
        Kinds { registers: [None; 32], slots: BTreeMap::new(), dtypes }
    }

    /// The kind of `v`, if it is written.
    pub fn of(&self, v: V) -> Option<Kind> {
        self.registers[v.0 as usize]
    }

    /// Accounts for `op`, unless it reads what is not written or shows bits that are not specified.
    pub fn step(&mut self, op: &Op) -> Option<()> {
        use Kind::*;
        let words = |v| self.of(v).filter(|k| *k != Halves);
        let halves = |v| self.of(v).filter(|k| *k != Words);
        let exact = |v| self.of(v).filter(|k| *k == Exact);
        let join = |a, b| match (a, b) {
            (Exact, k) | (k, Exact) => Some(k),
            (a, b) => (a == b).then_some(a),
        };
        for v in op.used() {
            self.of(v)?;
        }
        let result = match *op {
            Op::Zero { .. } | Op::Const { .. } | Op::Load { .. } | Op::LoadLanes { .. } | Op::Broadcast { .. } => Exact,
            Op::LoadRaw { .. } | Op::LoadRawQuad { .. } | Op::BroadcastRaw { .. } => Exact,
            // Which NaN a NaN is would show in elements of other types.
            Op::Store { s, dst, .. } if self.dtypes[usize::from(dst.param.0)].is_integer() => exact(s)?,
            Op::Store { s, .. } => words(s)?,
            Op::StoreRaw { s, dst, .. } if self.dtypes[usize::from(dst.param.0)] != DType::Bf16 => exact(s)?,
            Op::StoreRaw { s, .. } => halves(s)?,
            Op::Fma { d, a, b } | Op::FmaLane { d, a, b, .. } => {
                words(d)?;
                words(a)?;
                words(b)?;
                Words
            }
            Op::Mla { d, a, b } => {
                exact(d)?;
                exact(a)?;
                exact(b)?;
                Exact
            }
            Op::Binary { f: Binary::IAdd | Binary::ISub | Binary::And | Binary::Or | Binary::Xor, a, b, .. } => {
                exact(a)?;
                exact(b)?;
                Exact
            }
            Op::Binary { a, b, .. } | Op::PairAdd { a, b, .. } => {
                words(a)?;
                words(b)?;
                Words
            }
            Op::Unary { f: Unary::Move, a, .. } => self.of(a)?,
            Op::Unary { f: Unary::Abs, a, .. } => words(a)?,
            Op::Unary { f: Unary::Sqrt, a, .. } => {
                words(a)?;
                Words
            }
            Op::Shift { a, .. } => exact(a)?,
            // Whatever NaN goes in, the default NaN comes out.
            Op::Mmla { f: Factors::Bf16, d, a, b }
            | Op::Dot { f: Factors::Bf16, d, a, b }
            | Op::DotLane { f: Factors::Bf16, d, a, b, .. } => {
                words(d)?;
                halves(a)?;
                halves(b)?;
                Exact
            }
            Op::Mmla { d, a, b, .. } | Op::Dot { d, a, b, .. } | Op::DotLane { d, a, b, .. } => {
                exact(d)?;
                exact(a)?;
                exact(b)?;
                Exact
            }
            Op::Narrow { a, b, .. } | Op::NarrowPairs { a, b, .. } => {
                words(a)?;
                words(b)?;
                Halves
            }
            Op::Spill { s, slot } => {
                let kind = self.of(s)?;
                self.slots.insert(slot, kind);
                kind
            }
            Op::Reload { slot, .. } => *self.slots.get(&slot)?,
            Op::Permute { bits: 8, a, b, .. } => {
                exact(a)?;
                exact(b)?;
                Exact
            }
            Op::Permute { bits: 16, a, b, .. } => join(halves(a)?, halves(b)?)?,
            Op::Permute { a, b, .. } => join(self.of(a)?, self.of(b)?)?,
        };
        if let Some(d) = op.defined() {
            self.registers[d.0 as usize] = Some(result);
        }
        Some(())
    }
}

/// What a kernel is made for.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// NEON or SVE.
    pub isa: VectorIsa,
    /// Lanes of a register.
    pub lanes: u32,
    /// With instructions for bf16, and for products of integers of 8 bits.
    pub extensions: bool,
}

/// The micro-kernel of `seed`.
pub fn kernel(seed: u64, machine: Machine) -> MicroKernel {
    Generator::new(seed, machine).run()
}

/// An operation that may overwrite the last two registers.
fn inst(op: Op) -> Inst {
    Inst { op, temps: Temps::new(&[V(30), V(31)]).unwrap(), why: "".into() }
}

struct Generator {
    rng: Rng,
    machine: Machine,
    params: Vec<Param>,
    /// Registers that are used: `0..registers`.
    registers: u32,
    kinds: Kinds,
}

impl Generator {
    fn new(seed: u64, machine: Machine) -> Generator {
        let mut rng = Rng::new(seed);
        let count = if rng.one_in(4) { 9 + rng.below(60) } else { 6 + rng.below(3) };
        let word = rng.pick(&[DType::F32, DType::S32]);
        let first = [DType::Bf16, rng.pick(&[DType::S8, DType::U8]), word];
        let params: Vec<Param> = (0..count)
            .map(|p| {
                // Elements of every size can be read and written in any kernel, and bf16.
                let dtype =
                    first.get(p as usize / 2).copied().unwrap_or_else(|| DType::ALL[p as usize / 2 % DType::ALL.len()]);
                let access = if p % 2 == 0 { Access::Read } else { Access::Write };
                let row_bytes = if rng.one_in(8) { 150_000 } else { 16384 + 4 * rng.below(1000) };
                let region = Region { rows: 1, row_bytes, row_stride: row_bytes };
                Param { name: format!("p{p}"), dtype, access, region }
            })
            .collect();
        let registers = rng.pick(&[8, 12, 24, 29, 30, 30, 30]);
        Generator { kinds: Kinds::new(&params), rng, machine, params, registers }
    }

    fn run(mut self) -> MicroKernel {
        let mut body = vec![];
        for r in 0..self.registers {
            let op = match self.rng.below(3) {
                0 => Op::Const { d: V(r), bits: self.constant() },
                _ => self.load(V(r), 1, &[0]),
            };
            self.push(&mut body, op, true);
        }
        for _ in 0..2 + self.rng.below(4) {
            if self.rng.one_in(2) {
                let trips = 1 + self.rng.below(4);
                body.push(self.looped(trips));
            } else {
                for _ in 0..self.rng.below(60) {
                    let op = self.op(1, &[0]);
                    self.push(&mut body, op, false);
                    if self.rng.one_in(12) {
                        self.frame(&mut body);
                    }
                }
            }
        }
        for r in 0..self.registers {
            let op = self.store(V(r), 1, &[0]);
            self.push(&mut body, op, false);
        }
        let Machine { isa, lanes, .. } = self.machine;
        MicroKernel { name: "random".into(), isa, lanes, registers: 32, params: self.params, body }
    }

    fn push(&mut self, body: &mut Vec<Stmt>, op: Op, must: bool) {
        match self.kinds.step(&op) {
            Some(()) => body.push(Stmt::Inst(inst(op))),
            None => assert!(!must),
        }
    }

    /// Keeps a register in a slot, or takes up one that was kept.
    fn frame(&mut self, body: &mut Vec<Stmt>) {
        let v = self.register();
        let written: Vec<u16> = self.kinds.slots.keys().copied().collect();
        let op = if written.is_empty() || self.rng.one_in(2) {
            let next = written.last().map_or(0, |last| (last + 1).min(60));
            Op::Spill { s: v, slot: self.rng.pick(&[0, 1, 7, 8, next, 60]) }
        } else {
            Op::Reload { d: v, slot: self.rng.pick(&written) }
        };
        self.push(body, op, false);
    }

    /// A loop whose operations are valid in every trip.
    fn looped(&mut self, trips: u64) -> Stmt {
        let vector = 4 * i64::from(self.machine.lanes);
        let steps = [0, 4, vector, 16, -vector].map(|s| if self.rng.one_in(6) { 4 * s } else { s });
        let mut body: Vec<Op> = (0..1 + self.rng.below(70)).map(|_| self.op(trips, &steps)).collect();
        // What is invalid in some trip is left out, which can make more so.
        loop {
            let mut kinds = self.kinds.clone();
            let bad = (0..trips).find_map(|_| body.iter().position(|op| kinds.step(op).is_none()));
            match bad {
                Some(bad) => _ = body.remove(bad),
                None => {
                    self.kinds = kinds;
                    break;
                }
            }
        }
        let body = body.into_iter().map(inst).collect();
        Stmt::Loop { trips, why: "k".into(), body }
    }

    fn register(&mut self) -> V {
        V(self.rng.below(self.registers.into()) as u32)
    }

    fn constant(&mut self) -> u32 {
        let word = self.rng.next() as u32;
        match self.rng.below(6) {
            0 => word & 0xff,
            1 => !((word & 0xff) << (word >> 24 & 24)),
            2 => self.rng.pick(&[1.0f32, -2.5, 0.125, 0.0, -0.0, 31.0, 0.1]).to_bits(),
            3 => word & 0xff << (word >> 24 & 24),
            4 => self.rng.pick(&[0x7f80_0001, 0x7fc0_0000, 0xff80_0000, 1, 0x8000_0001, u32::MAX]),
            _ => word,
        }
    }

    /// An address of `elements` elements of a parameter with this access, in all of `trips` trips.
    fn addr(&mut self, fits: impl Fn(DType) -> bool, access: Access, elements: u64, trips: u64, steps: &[i64]) -> Addr {
        let fits: Vec<u8> = (0..self.params.len())
            .filter(|p| self.params[*p].access == access && fits(self.params[*p].dtype))
            .map(|p| p as u8)
            .collect();
        let param = self.rng.pick(&fits);
        let Param { dtype, region, .. } = &self.params[usize::from(param)];
        let (element, end) = (dtype.bytes() as i64, region.row_bytes as i64);
        let bytes = elements as i64 * element;
        let step = self.rng.pick(steps) * element / 4;
        let moved = step * (trips as i64 - 1);
        let (first, last) = (0.max(-moved), end - bytes - moved.max(0));
        assert!(first <= last);
        let choices = (last - first) / element + 1;
        let offset = match self.rng.below(4) {
            0 => first,
            1 => first + (last - first) / element * element,
            2 => first + self.rng.below(choices as u64) as i64 * element,
            _ => {
                (self.rng.below(choices as u64) as i64 * element / 16 * 16).min((last - first) / element * element)
                    + first
            }
        };
        Addr { param: P(param), offset, step }
    }

    fn some(&mut self, most: u64) -> u64 {
        if self.rng.one_in(2) { most } else { 1 + self.rng.below(most) }
    }

    /// Elements of one or two bytes, and how many: at most so many bytes.
    fn raw(&mut self, access: Access, most: u64, trips: u64, steps: &[i64]) -> (Addr, u16) {
        let size = 1 + self.rng.below(2);
        let elements = if self.rng.one_in(3) { 1 } else { self.some(most / size) };
        let fits = |dtype: DType| dtype.bytes() as u64 == size;
        (self.addr(fits, access, elements, trips, steps), elements as u16)
    }

    fn load(&mut self, d: V, trips: u64, steps: &[i64]) -> Op {
        let lanes = u64::from(self.machine.lanes);
        let from = |g: &mut Self, elements| g.addr(|_| true, Access::Read, elements, trips, steps);
        match self.rng.below(5) {
            0 => {
                let lanes = self.some(lanes);
                Op::Load { d, src: from(self, lanes), lanes: lanes as u16 }
            }
            1 => {
                let count = self.some(4);
                Op::LoadLanes { d, src: from(self, count), count: count as u8 }
            }
            2 => Op::Broadcast { d, src: from(self, 1) },
            3 => {
                let (src, elements) = self.raw(Access::Read, 4 * lanes, trips, steps);
                Op::LoadRaw { d, src, elements }
            }
            _ => {
                let (src, elements) = self.raw(Access::Read, 16, trips, steps);
                Op::LoadRawQuad { d, src, elements }
            }
        }
    }

    fn store(&mut self, s: V, trips: u64, steps: &[i64]) -> Op {
        let lanes = u64::from(self.machine.lanes);
        // A register of bf16 can only be stored as such.
        if self.kinds.of(s) == Some(Kind::Halves) {
            let elements = self.some(2 * lanes);
            let dst = self.addr(|dtype| dtype == DType::Bf16, Access::Write, elements, trips, steps);
            Op::StoreRaw { s, dst, elements: elements as u16 }
        } else if self.kinds.of(s) == Some(Kind::Exact) && self.rng.one_in(3) {
            let (dst, elements) = self.raw(Access::Write, 4 * lanes, trips, steps);
            Op::StoreRaw { s, dst, elements }
        } else {
            let lanes = self.some(lanes);
            // Which NaN a NaN is would show in integers.
            let is_exact = self.kinds.of(s) == Some(Kind::Exact);
            let is_converted_to = |dtype: DType| !dtype.is_integer() || (is_exact && !dtype.is_narrow());
            Op::Store { s, dst: self.addr(is_converted_to, Access::Write, lanes, trips, steps), lanes: lanes as u16 }
        }
    }

    fn op(&mut self, trips: u64, steps: &[i64]) -> Op {
        let [d, a, mut b] = [(); 3].map(|()| self.register());
        let lane = self.rng.below(4) as u8;
        match self.rng.below(18) {
            0 => Op::Zero { d },
            1 => Op::Const { d, bits: self.constant() },
            2..5 => self.load(d, trips, steps),
            5 | 6 => self.store(a, trips, steps),
            7 if self.rng.one_in(3) => Op::Mla { d, a, b },
            7 => Op::Fma { d, a, b },
            8 => {
                b.0 %= 8;
                Op::FmaLane { d, a, b, lane }
            }
            9 | 10 => {
                let b = if self.rng.one_in(4) { d } else { b };
                let a = if self.rng.one_in(4) { d } else { a };
                let at = self.rng.below(Binary::ALL.len() as u64) as usize;
                Op::Binary { f: Binary::ALL[at].1, d, a, b }
            }
            11 => Op::Unary { f: self.rng.pick(&[Unary::Move, Unary::Sqrt, Unary::Abs]), d, a },
            12 => {
                let by = 1 + self.rng.below(31) as u8;
                Op::Shift { f: self.rng.pick(&[Shift::Left, Shift::RightSigned]), d, a, by }
            }
            13 => Op::PairAdd { d, a, b },
            14 if self.machine.extensions => {
                let f = self.rng.pick(&[Factors::Bf16, Factors::S8, Factors::U8, Factors::U8S8, Factors::S8U8]);
                match self.rng.below(3) {
                    0 if f != Factors::S8U8 => Op::Mmla { f, d, a, b },
                    0 | 1 => Op::Dot { f, d, a, b },
                    _ => {
                        b.0 %= 8;
                        Op::DotLane { f, d, a, b, lane }
                    }
                }
            }
            15 => {
                let d = loop {
                    let d = self.register();
                    if ![a, b].contains(&d) {
                        break d;
                    }
                };
                if self.rng.one_in(2) { Op::Narrow { d, a, b } } else { Op::NarrowPairs { d, a, b } }
            }
            _ => {
                let f = self.rng.pick(&Permute::ALL.iter().map(|(_, f)| *f).collect::<Vec<_>>());
                Op::Permute { f, bits: self.rng.pick(&[8, 16, 32, 64]), d, a, b }
            }
        }
    }
}
