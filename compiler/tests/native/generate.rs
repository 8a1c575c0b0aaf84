//! Random micro-kernels that verify.
//!
//! Two freedoms of implementations must not become differences. Which NaN arithmetic makes is free, so operations on bits
//! take only registers whose bits are known: loaded from parameters that are never stored to, constants, and what
//! operations on bits make of them. The sign of a zero that `max` or `min` gives is free, so it is removed right after.

use std::collections::BTreeSet;

use kiln_compiler::microkernel::{
    Access, Addr, Binary, Factors, Inst, MicroKernel, Op, P, Param, Permute, Region, Shift, Stmt, Temps, Unary, V,
};
use kiln_compiler::target::VectorIsa;
use kiln_ir::DType;

/// All permutations.
const PERMUTATIONS: [Permute; 6] =
    [Permute::ZipLow, Permute::ZipHigh, Permute::UzpEven, Permute::UzpOdd, Permute::TrnEven, Permute::TrnOdd];

use super::values::Random;

/// What is known of a register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unwritten,
    /// A result of f32 arithmetic.
    Number,
    /// Every bit is known.
    Bits,
}

pub struct Generator {
    pub random: Random,
    isa: VectorIsa,
    /// With AVX512_VNNI.
    vnni: bool,
    lanes: u16,
    params: Vec<Param>,
    states: Vec<State>,
    temps: Temps,
    /// What is known of the slots that were written, outside of loops.
    slots: Vec<State>,
    /// Trips of the enclosing loop, and its parameters and steps.
    trips: Option<u64>,
    streams: BTreeSet<(u8, i64)>,
}

/// f32 lanes of a register.
pub fn lanes(isa: VectorIsa) -> u16 {
    match isa {
        VectorIsa::Avx512 => 16,
        VectorIsa::Avx2 => 8,
        _ => 4,
    }
}

/// The types that values are converted to when they are stored.
fn stored() -> Vec<DType> {
    DType::ALL.iter().copied().filter(|dtype| !(dtype.is_integer() && dtype.is_narrow())).collect()
}

/// The temporary registers, counted from the first.
const TEMPS: [u32; Temps::MOST] = [0, 1];

/// Streams of a loop for which there are registers.
const STREAMS: usize = 8;

impl Generator {
    pub fn new(seed: u64) -> Self {
        Generator {
            random: Random(seed),
            isa: VectorIsa::Avx2,
            vnni: false,
            lanes: 8,
            params: vec![],
            states: vec![],
            temps: Temps::NONE,
            slots: vec![],
            trips: None,
            streams: BTreeSet::new(),
        }
    }

    pub fn kernel(&mut self, isa: VectorIsa, vnni: bool) -> MicroKernel {
        (self.isa, self.vnni) = (isa, vnni);
        let registers: u32 = if isa == VectorIsa::Avx512 { 32 } else { 16 };
        self.lanes = lanes(isa);
        let count = if self.random.once_in(4) { 7 + self.random.below(6) } else { 2 + self.random.below(4) };
        self.params = (0..count).map(|i| self.param(i)).collect();
        // All registers, often: the harder for temporaries.
        // The last two are those that operations may overwrite besides their result.
        let most = registers - TEMPS.len() as u32;
        self.temps = Temps::new(&TEMPS.map(|n| V(most + n))).unwrap();
        let used = if self.random.once_in(2) { most } else { 3 + self.random.below(u64::from(most) - 3) as u32 };
        self.states = vec![State::Unwritten; used as usize];
        self.slots.clear();
        let mut body = vec![];
        for d in 0..used {
            if !self.random.once_in(6) {
                let op = self.write(V(d));
                self.push(&mut body, op);
            }
        }
        for _ in 0..1 + self.random.below(6) {
            if self.random.once_in(3) {
                body.push(self.repeat());
            } else {
                for _ in 0..self.random.below(12) {
                    let ops = self.operation();
                    ops.into_iter().for_each(|op| self.push(&mut body, op));
                }
            }
        }
        let mut last: Vec<u32> = (0..used).collect();
        if self.random.once_in(3) {
            last.retain(|_| self.random.once_in(2));
        }
        for s in last {
            if self.states[s as usize] != State::Unwritten {
                let op = self.store(V(s));
                self.push(&mut body, op);
            }
        }
        let (lanes, params) = (self.lanes.into(), self.params.clone());
        MicroKernel { name: "uk".into(), isa, lanes, registers, params, body }
    }

    fn param(&mut self, i: u64) -> Param {
        let access = if i.is_multiple_of(2) { Access::Read } else { Access::ReadWrite };
        let dtypes = if access == Access::Read { DType::ALL.to_vec() } else { stored() };
        let dtype = self.random.pick(&dtypes);
        // What a register holds, and what it moves by.
        let least = u64::from(16 + 4 * self.lanes).max(24);
        let row_bytes = (least + self.random.below(200)) * dtype.bytes() as u64;
        Param { name: format!("p{i}"), dtype, access, region: Region { rows: 1, row_bytes, row_stride: row_bytes } }
    }

    fn inst(&self, op: Op) -> Inst {
        Inst { op, temps: self.temps, why: "".into() }
    }

    fn push(&mut self, body: &mut Vec<Stmt>, op: Op) {
        body.push(Stmt::Inst(self.inst(op)));
    }

    fn repeat(&mut self) -> Stmt {
        let trips = self.random.pick(&[1, 2, 3, 5]);
        self.trips = Some(trips);
        self.streams.clear();
        // The next iteration finds what this one leaves.
        for s in self.states.iter_mut().filter(|s| **s == State::Bits) {
            *s = State::Number;
        }
        let mut body = vec![];
        for _ in 0..1 + self.random.below(16) {
            let ops = self.operation();
            body.extend(ops.into_iter().map(|op| self.inst(op)));
        }
        self.trips = None;
        Stmt::Loop { trips, why: String::new(), body }
    }

    /// Where `elements` elements are that may be stored or loaded.
    fn addr(&mut self, elements: u16, store: bool) -> Addr {
        let all = (0..self.params.len() as u8).filter(|p| !store || p % 2 == 1).collect();
        self.addr_in(all, elements)
    }

    /// Where words of elements are that may be stored as they are, or loaded from memory that nothing is stored to, and the number of elements; `None` if no parameter has such.
    fn raw(&mut self, words: u16, store: bool) -> Option<(Addr, u16)> {
        // None of other parameters: there may be no register for their address.
        let is_known =
            |p: &u8| self.trips.is_none() || self.streams.len() < STREAMS || self.streams.iter().any(|s| s.0 == *p);
        let size = 1 + self.random.below(2) as usize;
        let fits = |p: &u8| self.params[usize::from(*p)].dtype.bytes() == size && p % 2 == u8::from(store);
        let all: Vec<u8> = (0..self.params.len() as u8).filter(|p| fits(p) && is_known(p)).collect();
        let elements = words * 4 / size as u16;
        (!all.is_empty()).then(|| (self.addr_in(all, elements), elements))
    }

    /// Where `elements` elements of one of these parameters are.
    fn addr_in(&mut self, mut candidates: Vec<u8>, elements: u16) -> Addr {
        let full = self.trips.is_some() && self.streams.len() >= STREAMS;
        let mut step = match self.trips {
            Some(_) => self.random.pick(&[0, 1, 2, 4, -1]),
            None => 0,
        };
        let mut param = self.random.pick(&candidates);
        if full {
            candidates.retain(|p| self.streams.iter().any(|s| s.0 == *p));
            if candidates.is_empty() {
                // Every other stream is of a parameter that cannot be stored to: an absurd loop, but one register more.
                candidates.push(param);
            }
            param = self.random.pick(&candidates);
            let known: Vec<i64> = self.streams.iter().filter(|s| s.0 == param).map(|s| s.1).collect();
            step = if known.is_empty() { 0 } else { self.random.pick(&known) };
        }
        let size = self.params[usize::from(param)].dtype.bytes() as i64;
        let step = if full { step / size } else { step };
        self.streams.insert((param, step * size));
        let elements_there = self.params[usize::from(param)].region.row_bytes as i64 / size;
        let moved = step * (self.trips.unwrap_or(1) as i64 - 1);
        let (lowest, highest) = ((-moved).max(0), elements_there - i64::from(elements) - moved.max(0));
        assert!(lowest <= highest, "{elements} of {elements_there}, moved {moved}");
        let offset = match self.random.below(4) {
            0 => lowest,
            1 => highest,
            _ => lowest + self.random.below((highest - lowest + 1) as u64) as i64,
        };
        Addr { param: P(param), offset: offset * size, step: step * size }
    }

    fn partial(&mut self, max: u16) -> u16 {
        if self.random.once_in(2) { max } else { 1 + self.random.below(max.into()) as u16 }
    }

    fn set(&mut self, d: V, state: State) {
        self.states[d.0 as usize] = state;
    }

    /// A register to write.
    fn any(&mut self) -> V {
        V(self.random.below(self.states.len() as u64) as u32)
    }

    /// A register that holds a value; its bits, if `bits`.
    fn written(&mut self, bits: bool) -> Option<V> {
        let holds = |s: State| if bits { s == State::Bits } else { s != State::Unwritten };
        let all: Vec<u32> = (0..self.states.len() as u32).filter(|v| holds(self.states[*v as usize])).collect();
        (!all.is_empty()).then(|| V(self.random.pick(&all)))
    }

    /// What a load from `src` gives.
    fn loaded(&self, src: Addr) -> State {
        if self.params[usize::from(src.param.0)].access == Access::Read { State::Bits } else { State::Number }
    }

    /// An operation that needs no registers.
    fn write(&mut self, d: V) -> Op {
        let (op, state) = match self.random.below(8) {
            0 => (Op::Zero { d }, State::Bits),
            1 | 2 => {
                let bits = if self.random.once_in(4) { self.random.pick(&[0, u32::MAX]) } else { self.random.word() };
                (Op::Const { d, bits }, State::Bits)
            }
            3 => {
                let src = self.addr(1, false);
                (Op::Broadcast { d, src }, self.loaded(src))
            }
            4 => {
                let count = self.partial(4);
                let src = self.addr(count, false);
                (Op::LoadLanes { d, src, count: count as u8 }, self.loaded(src))
            }
            _ => {
                let lanes = self.partial(self.lanes);
                let src = self.addr(lanes, false);
                (Op::Load { d, src, lanes }, self.loaded(src))
            }
        };
        self.set(d, state);
        op
    }

    fn store(&mut self, s: V) -> Op {
        let lanes = self.partial(self.lanes);
        Op::Store { s, dst: self.addr(lanes, true), lanes }
    }

    /// An operation that can be done now, with what makes its result definite.
    fn operation(&mut self) -> Vec<Op> {
        loop {
            if let Some(ops) = self.attempt() {
                return ops;
            }
        }
    }

    fn attempt(&mut self) -> Option<Vec<Op>> {
        let d = self.any();
        let one = |op| Some(vec![op]);
        match self.random.below(20) {
            18 if self.trips.is_none() => {
                let s = self.written(false)?;
                // The first slot, the next one, or one far from both.
                let slot = self.random.pick(&[0, self.slots.len(), 40]);
                self.slots.resize(self.slots.len().max(slot + 1), State::Unwritten);
                self.slots[slot] = self.states[s.0 as usize];
                return one(Op::Spill { s, slot: slot as u16 });
            }
            19 if self.trips.is_none() => {
                let slot = self.slots.iter().position(|s| *s != State::Unwritten)?;
                self.set(d, self.slots[slot]);
                return one(Op::Reload { d, slot: slot as u16 });
            }
            0 | 1 => return one(self.write(d)),
            2 | 3 => {
                let s = self.written(false)?;
                return one(self.store(s));
            }
            4..=6 => return self.bits(d).map(|op| vec![op]),
            7 => {
                let words = self.partial(self.lanes);
                let (src, elements) = self.raw(words, false)?;
                self.set(d, self.loaded(src));
                return one(Op::LoadRaw { d, src, elements });
            }
            8 if self.random.once_in(2) => {
                let (src, elements) = self.raw(1, false)?;
                self.set(d, self.loaded(src));
                return one(Op::BroadcastRaw { d, src, elements });
            }
            8 => {
                let (s, words) = (self.written(true)?, self.partial(self.lanes));
                let (dst, elements) = self.raw(words, true)?;
                return one(Op::StoreRaw { s, dst, elements });
            }
            _ => {}
        }
        let (a, b) = (self.written(false)?, self.written(false)?);
        let op = match self.random.below(9) {
            0 | 1 => {
                let d = self.written(false)?;
                self.set(d, State::Number);
                return one(Op::Fma { d, a, b });
            }
            2 => Op::PairAdd { d, a, b },
            3 => {
                self.set(d, self.states[a.0 as usize]);
                return one(Op::Unary { f: Unary::Move, d, a });
            }
            4 => Op::Unary { f: Unary::Sqrt, d, a },
            5 => {
                let f = self.random.pick(&[Binary::Max, Binary::Min]);
                self.set(d, State::Number);
                let zero = self.any();
                let mut ops = vec![Op::Binary { f, d, a, b }];
                if zero == d || self.random.once_in(2) {
                    ops.push(Op::Unary { f: Unary::Abs, d, a: d });
                } else {
                    self.set(zero, State::Bits);
                    ops.push(Op::Zero { d: zero });
                    ops.push(Op::Binary { f: Binary::Add, d, a: d, b: zero });
                }
                return Some(ops);
            }
            _ => {
                let f = self.random.pick(&binaries(true));
                Op::Binary { f, d, a, b }
            }
        };
        self.set(d, State::Number);
        one(op)
    }

    /// An operation on bits.
    fn bits(&mut self, d: V) -> Option<Op> {
        let (a, b) = (self.written(true)?, self.written(true)?);
        if self.random.once_in(4) {
            // What is added to is known too.
            let d = self.written(true)?;
            let factors = if self.vnni { &[Factors::S16, Factors::U8S8, Factors::S8U8][..] } else { &[Factors::S16] };
            let f = self.random.pick(factors);
            return Some(if self.random.once_in(3) { Op::Mla { d, a, b } } else { Op::Dot { f, d, a, b } });
        }
        self.set(d, State::Bits);
        Some(match self.random.below(4) {
            0 => {
                let f = self.random.pick(&[Shift::Left, Shift::RightSigned]);
                Op::Shift { f, d, a, by: 1 + self.random.below(31) as u8 }
            }
            1 => {
                let bits = self.random.pick(&[8, 16, 32, 64]);
                let f = if bits < 32 { Permute::TrnEven } else { self.random.pick(&PERMUTATIONS) };
                Op::Permute { f, bits, d, a, b }
            }
            2 if self.random.once_in(2) => Op::Unary { f: Unary::Abs, d, a },
            _ => {
                let f = self.random.pick(&binaries(false));
                Op::Binary { f, d, a, b }
            }
        })
    }
}

/// The operations of two numbers, or of the bits of two words, whose result is specified to the bit.
fn binaries(of_numbers: bool) -> Vec<Binary> {
    let all = Binary::ALL.iter().map(|(_, f)| *f);
    all.filter(|f| f.is_arithmetic() == of_numbers && !matches!(f, Binary::Max | Binary::Min)).collect()
}

/// What operations and element types have been generated.
#[derive(Default)]
pub struct Set(BTreeSet<String>);

impl Set {
    pub fn add(&mut self, mk: &MicroKernel) {
        for s in &mk.body {
            let insts = match s {
                Stmt::Inst(i) => std::slice::from_ref(i),
                Stmt::Loop { body, .. } => body,
            };
            for Inst { op, .. } in insts {
                let kind = match op {
                    Op::Binary { f, .. } => format!("{f:?}"),
                    Op::Unary { f, .. } => format!("{f:?}"),
                    Op::Shift { f, .. } => format!("{f:?}"),
                    Op::Permute { f, bits, .. } => format!("{f:?}{bits}"),
                    Op::Dot { f, .. } => format!("Dot{f:?}"),
                    _ => format!("{op:?}").split(' ').next().unwrap().to_owned(),
                };
                let memory = op.touched().map(|t| {
                    let dtype = mk.params[usize::from(t.addr.param.0)].dtype;
                    if t.raw { format!(" {} bytes", t.extent(dtype)) } else { format!(" {dtype:?} x{}", t.elements) }
                });
                self.0.insert(kind + &memory.unwrap_or_default());
            }
        }
    }

    /// Panics unless every operation was there.
    pub fn assert_complete(&self, isa: VectorIsa) {
        let lanes = usize::from(lanes(isa));
        // Loads of every length, of lanes and a broadcast, for all types; stores of every length; all of words, and a broadcast of one.
        let memory = DType::ALL.len() * (lanes + 4 + 1) + stored().len() * lanes + 2 * lanes + 1;
        let permutations = 2 * PERMUTATIONS.len() + 2;
        let products = if isa == VectorIsa::Avx512 { 3 } else { 1 };
        // Zero, Const, Fma, Mla, PairAdd, Spill, Reload.
        let others = 7 + products + Binary::ALL.len() + Unary::ALL.len() + Shift::ALL.len() + permutations;
        assert_eq!(self.0.len(), memory + others, "{:?}", self.0);
    }
}
