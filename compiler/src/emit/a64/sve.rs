//! The SVE emitter: one micro-kernel to one AAPCS64 function, for the vector length that the micro-kernel names.
//!
//! Vector register `vN` is `zN`, parameter `pN` is `xN`. `p0` is all true; every other number of lanes that occurs has
//! a predicate of its own, made once. A loop's address registers are chosen by `super::address`; outside loops an
//! address out of reach is computed from its parameter into a register that then serves its neighbours too.
//!
//! What the calling convention asks to be preserved is saved if it is changed: the low halves of `z8`-`z15`, which are
//! `d8`-`d15`, and `x19`-`x28`.

use std::collections::{BTreeMap, BTreeSet};

use super::address::{Access, Form, INDEX_UNIT, LoopPlan, Place, SCRATCH, Setup, parameter};
use super::asm::{self, Assembler};
use super::inst::Inst;
use super::operand::{D, Disp, Imm, Lsl, MulVl, P7, QuadDisp, ScalarDisp, X, XSp, XZr, Z, Z7};
use crate::emit::{Arguments, EmitError, Function, Note};
use crate::microkernel::{self, Addr, Binary, MicroKernel, Op, P, Stmt, V};
use crate::target::VectorIsa;

/// Parameters that are passed in registers.
const MAX_PARAMS: usize = 8;

/// Offsets and steps lie between plus and minus this: more than any address space has.
const MAX_DISTANCE: u64 = 1 << 52;

/// Emits `mk` as a C function of its parameters' pointers. It must be run with vectors of exactly `mk.lanes` f32
/// lanes.
pub fn emit(mk: &MicroKernel, arguments: Arguments) -> Result<Function, EmitError> {
    let mut emitter = Emitter {
        mk,
        asm: Assembler::default(),
        notes: vec![],
        predicates: BTreeMap::new(),
        anchors: vec![None; mk.params.len()],
    };
    emitter.check()?;
    let plans = emitter.plan_loops()?;
    let frame = Frame::new(mk, &plans);
    if arguments == Arguments::Block {
        emitter.load_arguments();
    }
    emitter.prologue(&frame)?;
    let mut plans = plans.iter();
    for stmt in &mk.body {
        match stmt {
            Stmt::Inst(inst) => emitter.inst(inst, None)?,
            Stmt::Loop { trips: 1, body, .. } => body.iter().try_for_each(|inst| emitter.inst(inst, None))?,
            Stmt::Loop { trips, why, body } => {
                let plan = plans.next().expect("every loop was planned");
                emitter.repeat(*trips, why, body, plan)?;
            }
        }
    }
    emitter.epilogue(&frame);
    emitter.finish()
}

/// The stack frame: pairs of registers that the caller expects unchanged.
struct Frame {
    d: Vec<[D; 2]>,
    x: Vec<[X; 2]>,
}

impl Frame {
    fn new(mk: &MicroKernel, plans: &[LoopPlan]) -> Frame {
        let written: BTreeSet<V> = operations(mk).filter_map(Op::defined).collect();
        let used: BTreeSet<X> = plans.iter().flat_map(|p| &p.registers).copied().collect();
        let d_pairs = (8..16).step_by(2).filter(|n| written.contains(&V(*n)) || written.contains(&V(n + 1)));
        let x_pairs = (19..29).step_by(2).map(|n| [n, n + 1].map(|n| X::new(n).expect("below 31")));
        Frame {
            d: d_pairs.map(|n| [n, n + 1].map(|n| D::new(n).expect("below 32"))).collect(),
            x: x_pairs.filter(|pair| pair.iter().any(|x| used.contains(x))).collect(),
        }
    }

    fn bytes(&self) -> i64 {
        16 * (self.d.len() + self.x.len()) as i64
    }

    /// An instruction for each pair of each kind with its place in the frame.
    fn pairs(
        &self,
        d: impl Fn([D; 2], Disp<-512, 504, 8>) -> Inst,
        x: impl Fn([X; 2], Disp<-512, 504, 8>) -> Inst,
    ) -> Vec<Inst> {
        let mut slots = (0..).map(|slot| Disp::new(16 * slot).expect("9 pairs are 144 bytes"));
        let mut slot = || slots.next().expect("endless");
        let mut out: Vec<Inst> = self.d.iter().map(|pair| d(*pair, slot())).collect();
        out.extend(self.x.iter().map(|pair| x(*pair, slot())));
        out
    }
}

struct Emitter<'a> {
    mk: &'a MicroKernel,
    asm: Assembler,
    notes: Vec<(u64, String)>,
    /// The predicate of each number of lanes.
    predicates: BTreeMap<u16, P7>,
    /// For each parameter, the offset from it that its anchor register holds.
    anchors: Vec<Option<i64>>,
}

impl Emitter<'_> {
    fn error(&self, what: impl ToString) -> EmitError {
        EmitError { name: self.mk.name.clone(), isa: VectorIsa::Sve, what: what.to_string() }
    }

    /// Makes `text` the reason for what follows. A reason for nothing is replaced.
    fn note(&mut self, text: impl Into<String>) {
        let (offset, text) = (self.asm.offset(), text.into());
        self.notes.pop_if(|(last, _)| *last == offset);
        if self.notes.last().is_none_or(|(_, last)| *last != text) {
            self.notes.push((offset, text));
        }
    }

    /// Loads the pointers from the block that `x0` points to, `x0` itself last.
    fn load_arguments(&mut self) {
        for p in (0..self.mk.params.len()).rev() {
            self.note(format!("address of {}", self.mk.params[p].name));
            let (x0, home) = (XSp::new(0).expect("a register"), X::new(p as u8).expect("at most 8 parameters"));
            self.asm.push(Inst::Ldr { t: home, n: x0, i: Disp::new(8 * p as i64).expect("at most 56") });
        }
    }

    fn vector_bytes(&self) -> i64 {
        4 * i64::from(self.mk.lanes)
    }

    /// Refuses what the rest of the emitter takes for granted.
    fn check(&self) -> Result<(), EmitError> {
        let mk = self.mk;
        if mk.isa != VectorIsa::Sve {
            return Err(self.error(format!("it is written for {}", mk.isa)));
        }
        if !mk.lanes.is_multiple_of(4) || !(4..=64).contains(&mk.lanes) {
            return Err(self.error(format!("{} lanes are not the length of an SVE vector", mk.lanes)));
        }
        if mk.params.len() > MAX_PARAMS {
            return Err(self.error(format!("{} parameters, of which {MAX_PARAMS} are in registers", mk.params.len())));
        }
        if mk.body.iter().any(|s| matches!(s, Stmt::Loop { trips: 0, .. })) {
            return Err(self.error("a loop of no iterations"));
        }
        for op in operations(mk) {
            let (lanes, most) = match *op {
                Op::Load { lanes, .. } | Op::Store { lanes, .. } => (lanes.into(), mk.lanes),
                Op::LoadLanes { count, .. } => (count.into(), 4),
                _ => (1, 1),
            };
            if !(1..=most).contains(&lanes) {
                return Err(self.error(format!("{}: 1 to {most} elements can be accessed", op.display(&mk.params))));
            }
            if let Some(a) = access(op) {
                if usize::from(a.param.0) >= mk.params.len() {
                    return Err(self.error(format!("there is no parameter {}", a.param.0)));
                }
                if [a.offset, a.step].iter().any(|d| d % INDEX_UNIT != 0 || d.unsigned_abs() > MAX_DISTANCE) {
                    return Err(self.error(format!(
                        "{}: not a multiple of {INDEX_UNIT} bytes, or beyond any address space",
                        op.display(&mk.params)
                    )));
                }
            }
        }
        Ok(())
    }

    /// A plan for each loop that is one.
    fn plan_loops(&self) -> Result<Vec<LoopPlan>, EmitError> {
        let mut plans = vec![];
        for stmt in &self.mk.body {
            if let Stmt::Loop { trips: 2.., body, .. } = stmt {
                let accesses: Vec<Access> = body.iter().filter_map(|inst| access(&inst.op)).collect();
                let plan = LoopPlan::new(&accesses, self.mk.params.len() as u8, self.vector_bytes());
                plans.push(plan.map_err(|e| self.error(e))?);
            }
        }
        Ok(plans)
    }

    fn prologue(&mut self, frame: &Frame) -> Result<(), EmitError> {
        if let Some(i) = Imm::new(frame.bytes()) {
            self.note("save what the caller expects unchanged");
            self.asm.push(Inst::SubImm { d: XSp::SP, n: XSp::SP, i });
            let stores = frame
                .pairs(|[t, u], i| Inst::StpD { t, u, n: XSp::SP, i }, |[t, u], i| Inst::Stp { t, u, n: XSp::SP, i });
            stores.into_iter().for_each(|inst| self.asm.push(inst));
        }
        self.note("p0: all lanes");
        let all = P7::new(0).expect("below 8");
        self.asm.push(Inst::PtrueS { d: all.into() });
        let counts: BTreeSet<u16> = operations(self.mk).filter_map(lanes).collect();
        let partial = counts.into_iter().filter(|c| u32::from(*c) != self.mk.lanes);
        for (n, count) in (1..).zip(partial) {
            let Some(p) = P7::new(n) else {
                return Err(self.error("more than 7 numbers of lanes that are not the vector's need a predicate"));
            };
            self.note(format!("{p}: {count} lanes"));
            self.asm.mov_const(SCRATCH, count.into());
            self.asm.push(Inst::WhileloS { d: p.into(), n: XZr::ZR, m: SCRATCH.into() });
            self.predicates.insert(count, p);
        }
        self.predicates.insert(self.mk.lanes as u16, all);
        Ok(())
    }

    fn epilogue(&mut self, frame: &Frame) {
        if let Some(i) = Imm::new(frame.bytes()) {
            self.note("restore what the caller expects unchanged");
            let loads = frame
                .pairs(|[t, u], i| Inst::LdpD { t, u, n: XSp::SP, i }, |[t, u], i| Inst::Ldp { t, u, n: XSp::SP, i });
            loads.into_iter().for_each(|inst| self.asm.push(inst));
            self.asm.push(Inst::AddImm { d: XSp::SP, n: XSp::SP, i });
        }
        self.note("return");
        self.asm.push(Inst::Ret {});
    }

    fn finish(self) -> Result<Function, EmitError> {
        let name = self.mk.name.clone();
        let error = |what: String| EmitError { name: name.clone(), isa: VectorIsa::Sve, what };
        let bytes = self.asm.finish().map_err(|e| error(e.to_string()))?;
        if u32::try_from(bytes.len()).is_err() {
            return Err(error("more than 4 GiB of code".into()));
        }
        let notes = self.notes.into_iter().map(|(offset, text)| Note { offset: offset as u32, text }).collect();
        Ok(Function { name, code_len: bytes.len(), bytes, relocs: vec![], notes })
    }

    /// A loop of at least 2 trips. Its registers are those of the anchors too, so none outlives it.
    fn repeat(&mut self, trips: u64, why: &str, body: &[microkernel::Inst], plan: &LoopPlan) -> Result<(), EmitError> {
        self.anchors.fill(None);
        for setup in &plan.setup {
            match *setup {
                Setup::Pointer { x, param, at } => {
                    self.note(format!("{} + {at}", self.param_name(param)));
                    self.asm.add_const(x, parameter(param), at);
                }
                Setup::Constant { x, value } => {
                    self.note(if value == 0 { "index".into() } else { format!("step {value}") });
                    self.asm.mov_const(x, value.cast_unsigned());
                }
            }
        }
        self.note(why);
        self.asm.mov_const(plan.counter, trips);
        let head = self.asm.label();
        self.asm.bind(head).map_err(|e| self.error(e))?;
        for inst in body {
            self.inst(inst, Some(plan))?;
        }
        self.note(format!("next {why}"));
        for advance in &plan.advances {
            match advance.register {
                Some(m) => self.asm.push(Inst::Add { d: advance.x, n: advance.x, m, s: Lsl::NONE }),
                None if asm::is_short(advance.by) => self.asm.add_const(advance.x, advance.x, advance.by),
                None => {
                    self.asm.mov_const(SCRATCH, advance.by.cast_unsigned());
                    self.asm.push(Inst::Add { d: advance.x, n: advance.x, m: SCRATCH, s: Lsl::NONE });
                }
            }
        }
        self.asm.add_const(plan.counter, plan.counter, -1);
        self.asm.cbnz(plan.counter, head);
        Ok(())
    }

    fn param_name(&self, param: P) -> &str {
        &self.mk.params[usize::from(param.0)].name
    }

    fn z(&self, v: V) -> Result<Z, EmitError> {
        let z = if v.0 < self.mk.registers { Z::new(v.0) } else { None };
        z.ok_or_else(|| self.error(format!("{v} is not one of its registers")))
    }

    /// The predicate of `lanes` lanes.
    fn predicate(&self, lanes: u16) -> P7 {
        self.predicates[&lanes]
    }

    /// The predicate of all lanes.
    fn all(&self) -> P7 {
        self.predicates[&(self.mk.lanes as u16)]
    }

    /// One operation, in the loop of `plan` or outside loops.
    fn inst(&mut self, inst: &microkernel::Inst, plan: Option<&LoopPlan>) -> Result<(), EmitError> {
        let place = access(&inst.op).map(|a| self.place(a, plan));
        self.note(&inst.why);
        let word = match (inst.op, place) {
            (Op::Zero { d }, _) => Inst::DupS { d: self.z(d)?, i: Imm::new(0).expect("in range") },
            (Op::Load { d, lanes, .. }, Some(place)) => {
                let (t, g) = (self.z(d)?, self.predicate(lanes));
                match place {
                    Resolved::Displaced { n, by } => Inst::Ld1wS { t, g, n, i: self.mul_vl(by) },
                    Resolved::Indexed { n, m } => Inst::Ld1wIndexedS { t, g, n, m },
                }
            }
            (Op::LoadLanes { d, count, .. }, Some(place)) => {
                // LD1RQW takes the predicate of the first 128 bits for all.
                let (t, g) = (self.z(d)?, if count == 4 { self.all() } else { self.predicate(count.into()) });
                match place {
                    Resolved::Displaced { n, by } => {
                        Inst::Ld1rqwS { t, g, n, i: QuadDisp::new(by).expect("the place is in reach") }
                    }
                    Resolved::Indexed { n, m } => Inst::Ld1rqwIndexedS { t, g, n, m },
                }
            }
            (Op::Broadcast { d, .. }, Some(Resolved::Displaced { n, by })) => {
                let i = ScalarDisp::new(by).expect("the place is in reach");
                Inst::Ld1rwS { t: self.z(d)?, g: self.all(), n, i }
            }
            (Op::Store { s, lanes, .. }, Some(place)) => {
                let (t, g) = (self.z(s)?, self.predicate(lanes));
                match place {
                    Resolved::Displaced { n, by } => Inst::St1wS { t, g, n, i: self.mul_vl(by) },
                    Resolved::Indexed { n, m } => Inst::St1wIndexedS { t, g, n, m },
                }
            }
            (Op::Fma { d, a, b }, _) => Inst::FmlaS { d: self.z(d)?, g: self.all(), n: self.z(a)?, m: self.z(b)? },
            (Op::FmaLane { d, a, b, lane }, _) => {
                let (Some(m), Some(i)) = (Z7::new(b.0), Imm::new(lane.into())) else {
                    let what = format!("a multiply-add by element {lane} of {b}: it can be one of 0-3 of v0-v7");
                    return Err(self.error(what));
                };
                self.z(b)?;
                Inst::FmlaIndexedS { d: self.z(d)?, n: self.z(a)?, m, i }
            }
            (Op::Binary { f: Binary::Add, d, a, b }, _) => Inst::FaddS { d: self.z(d)?, n: self.z(a)?, m: self.z(b)? },
            (Op::Binary { f: Binary::Max, d, a, b }, _) => {
                let (d, a, b) = (self.z(d)?, self.z(a)?, self.z(b)?);
                if d != a && d != b {
                    self.asm.push(Inst::MovZ { d, n: a });
                }
                // Either operand may be the destination: the maximum does not depend on their order.
                Inst::FmaxS { d, g: self.all(), m: if d == b { a } else { b } }
            }
            (Op::Load { .. } | Op::LoadLanes { .. } | Op::Broadcast { .. } | Op::Store { .. }, _) => {
                unreachable!("a memory operation has a place, and one without an indexed form is not given an index")
            }
            _ => unimplemented!(),
        };
        self.asm.push(word);
        Ok(())
    }

    fn mul_vl(&self, bytes: i64) -> MulVl {
        MulVl::new(bytes / self.vector_bytes()).expect("the place is in reach")
    }

    /// Where an access goes, after the instructions that compute it, if it takes any.
    fn place(&mut self, access: Access, plan: Option<&LoopPlan>) -> Resolved {
        let Some(plan) = plan else { return self.place_outside_loops(access) };
        match plan.place(access) {
            Place::Displaced { base, distance } => Resolved::Displaced { n: base, by: distance },
            Place::Indexed { base, index } => Resolved::Indexed { n: base, m: index },
            Place::Computed { index } => {
                self.note(format!("{} + {}", self.param_name(access.param), access.offset));
                self.asm.add_const(SCRATCH, parameter(access.param), access.offset);
                if let Some(m) = index {
                    let s = Lsl::new(INDEX_UNIT.ilog2() as u8).expect("below 64");
                    self.asm.push(Inst::Add { d: SCRATCH, n: SCRATCH, m, s });
                }
                Resolved::Displaced { n: SCRATCH, by: 0 }
            }
        }
    }

    /// Reaches an access from its parameter, or from the parameter's anchor, which is moved to it if it is out of
    /// reach.
    fn place_outside_loops(&mut self, access: Access) -> Resolved {
        let base = parameter(access.param);
        let reaches = |at: i64| access.form.reaches(access.offset - at, self.vector_bytes());
        if reaches(0) {
            return Resolved::Displaced { n: base, by: access.offset };
        }
        let n = X::new(MAX_PARAMS as u8 + access.param.0).expect("8 anchors follow 8 parameters");
        let slot = usize::from(access.param.0);
        let at = self.anchors[slot].filter(|at| reaches(*at)).unwrap_or_else(|| {
            self.note(format!("{} + {}", self.param_name(access.param), access.offset));
            self.asm.add_const(n, base, access.offset);
            access.offset
        });
        self.anchors[slot] = Some(at);
        Resolved::Displaced { n, by: access.offset - at }
    }
}

/// A place whose registers are set.
#[derive(Clone, Copy)]
enum Resolved {
    Displaced { n: X, by: i64 },
    Indexed { n: X, m: X },
}

/// All operations in order.
fn operations(mk: &MicroKernel) -> impl Iterator<Item = &Op> {
    mk.body
        .iter()
        .flat_map(|stmt| match stmt {
            Stmt::Inst(inst) => std::slice::from_ref(inst),
            Stmt::Loop { body, .. } => body.as_slice(),
        })
        .map(|inst| &inst.op)
}

/// The number of lanes that `op` needs a predicate for, which may be all.
fn lanes(op: &Op) -> Option<u16> {
    match *op {
        Op::Load { lanes, .. } | Op::Store { lanes, .. } => Some(lanes),
        Op::LoadLanes { count, .. } if count < 4 => Some(count.into()),
        _ => None,
    }
}

/// What `op` does with memory.
fn access(op: &Op) -> Option<Access> {
    let (addr, form): (Addr, Form) = match *op {
        Op::Load { src, .. } => (src, Form::Vector),
        Op::Store { dst, .. } => (dst, Form::Vector),
        Op::LoadLanes { src, .. } => (src, Form::Quad),
        Op::Broadcast { src, .. } => (src, Form::Scalar),
        _ => return None,
    };
    Some(Access::new(addr, form))
}
