//! A micro-kernel as an AAPCS64 function, whatever its vectors are: arguments, addresses, loops, frame and constants.
//!
//! A [`VectorEmitter`] translates the operations; everything else is here. General registers are used as
//! [`super::roles`] says; a loop's address registers are chosen by [`super::address`]; outside loops an address out of
//! reach is computed into an *anchor*, a register that then serves its neighbours too.
//!
//! Registers that the calling convention asks to preserve are saved if they are changed: the low halves of vector registers 8 to
//! 15, which are `d8`-`d15`, and `x19`-`x28`.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_ir::DType;

use super::address::{Access, Form, LoopPlan, Place, Setup};
use super::asm::Assembler;
use super::frame::Frame;
use super::inst::Inst;
use super::operand::{Disp, Imm, Lsl, X, XSp};
use super::pool::Pool;
use super::roles::{NUMBER, REGISTER_PARAMS, Roles, SCRATCH};
use crate::emit::{Arguments, EmitError, Function, Note};
use crate::microkernel::assign::Need;
use crate::microkernel::{self, Addr, Factors, MicroKernel, Op, P, Stmt, Temps, V};
use crate::target::{Feature, Features, Target, VectorIsa};

/// Offsets and steps lie between plus and minus this: more than any address space has.
const MAX_DISTANCE: u64 = 1 << 52;

/// The operations that differ between the vector instruction sets.
pub trait VectorEmitter {
    /// The instruction set.
    const ISA: VectorIsa;
    /// Times that a constant is repeated in memory.
    const POOL_COPIES: usize;

    /// True if there are registers of `lanes` lanes.
    fn has_lanes(lanes: u32) -> bool;

    /// The form of the address of the instruction for `op`, for operations that touch memory.
    fn form(code: &Code, op: &Op) -> Option<Form>;

    /// The registers that the instructions for `op`, of `mk`, need besides its own.
    /// `bf16` tells whether there are instructions for it.
    fn need(mk: &MicroKernel, bf16: bool, op: &Op) -> Need;

    /// True if the constant is kept in memory.
    fn is_pooled(bits: u32) -> bool;

    /// Appends what the function needs before its first operation.
    fn prologue(&mut self, code: &mut Code);

    /// Appends `op`. `place` is where it goes in memory; `temps` are the registers that it may overwrite.
    fn op(&mut self, code: &mut Code, op: &Op, place: Option<Resolved>, temps: &[u8]) -> Result<(), EmitError>;

    /// Appends what stores register `v` in a slot of the frame, or loads it; slots begin `at` bytes from the stack pointer.
    fn spill(&self, code: &mut Code, v: u8, at: i64, slot: u16, reload: bool);
}

/// A place whose registers are set.
#[derive(Clone, Copy, Debug)]
pub enum Resolved {
    /// `n + by`, within the form's reach.
    Displaced {
        /// Base register.
        n: X,
        /// Bytes.
        by: i64,
    },
    /// `n` and the index register `m`.
    Indexed {
        /// Base register.
        n: X,
        /// Index register.
        m: X,
    },
}

/// Emits `mk` as a C function of its parameters' pointers.
pub fn emit<E: VectorEmitter>(
    mut emitter: E,
    mk: &MicroKernel,
    target: &Target,
    arguments: Arguments,
) -> Result<Function, EmitError> {
    let mut code = Code::new::<E>(mk, target)?;
    code.check::<E>(arguments)?;
    let plans = code.plan_loops::<E>()?;
    let written: BTreeSet<u8> = insts(mk)
        .flat_map(|i| i.op.defined().into_iter().chain(i.temps.as_slice().iter().copied()))
        .map(|v| v.0 as u8)
        .collect();
    let slots = operations(mk).filter_map(Op::slot).max().map_or(0, |last| usize::from(last) + 1);
    let frame = Frame::new(&written, &plans, slots, code.vector_bytes());
    if arguments == Arguments::Block {
        code.load_arguments();
    }
    if !frame.is_empty() {
        code.note("save what the caller expects unchanged");
        frame.enter(&mut code.asm);
    }
    if let Some(pool) = code.roles.pool() {
        code.note("address of the constants");
        let label = code.pool.label;
        code.asm.adr(pool, label);
    }
    emitter.prologue(&mut code);
    let mut body = Body { emitter, slots_at: frame.slots_at() };
    let mut plans = plans.iter();
    for stmt in &mk.body {
        match stmt {
            Stmt::Inst(inst) => body.inst(&mut code, inst, None)?,
            Stmt::Loop { trips: 1, body: insts, .. } => {
                insts.iter().try_for_each(|inst| body.inst(&mut code, inst, None))?;
            }
            Stmt::Loop { trips, why, body: insts } => {
                let plan = plans.next().expect("every loop was planned");
                body.repeat(&mut code, *trips, why, insts, plan)?;
            }
        }
    }
    if !frame.is_empty() {
        code.note("restore what the caller expects unchanged");
        frame.leave(&mut code.asm);
    }
    code.note("return");
    code.asm.push(Inst::Ret {});
    code.finish()
}

/// What the operations of a program need besides their own registers, in order.
pub fn needs<E: VectorEmitter>(program: &MicroKernel, bf16: bool) -> Vec<Need> {
    operations(program).map(|op| E::need(program, bf16, op)).collect()
}

/// The operations' translation, in order.
struct Body<E> {
    emitter: E,
    slots_at: i64,
}

impl<E: VectorEmitter> Body<E> {
    /// One operation, in the loop of `plan` or outside loops.
    fn inst(&mut self, code: &mut Code, inst: &microkernel::Inst, plan: Option<&LoopPlan>) -> Result<(), EmitError> {
        let place = code.access::<E>(&inst.op).map(|a| code.place(a, plan));
        code.note(inst.why.clone());
        match inst.op {
            Op::Spill { s, slot } => self.emitter.spill(code, code.register(s)?, self.slots_at, slot, false),
            Op::Reload { d, slot } => self.emitter.spill(code, code.register(d)?, self.slots_at, slot, true),
            op => {
                let mut temps = [0; Temps::MOST];
                let all = inst.temps.as_slice();
                for (temp, v) in temps.iter_mut().zip(all) {
                    *temp = code.register(*v)?;
                }
                self.emitter.op(code, &op, place, &temps[..all.len()])?;
            }
        }
        Ok(())
    }

    /// A loop of at least 2 trips. Its registers are those of the anchors too, so none outlives it.
    fn repeat(
        &mut self,
        code: &mut Code,
        trips: u64,
        why: &str,
        body: &[microkernel::Inst],
        plan: &LoopPlan,
    ) -> Result<(), EmitError> {
        code.anchors.iter_mut().for_each(|a| a.holds = None);
        for setup in &plan.setup {
            match *setup {
                Setup::Pointer { x, param, at } => {
                    code.note(format!("{} + {at}", code.param_name(param)));
                    code.pointer(x, param, at);
                }
                Setup::Constant { x, value } => {
                    code.note(if value == 0 { "index".into() } else { format!("step {value}") });
                    code.asm.mov_const(x, value.cast_unsigned());
                }
            }
        }
        code.note(why);
        code.asm.mov_const(plan.counter, trips);
        let head = code.asm.label();
        code.asm.bind(head).map_err(|e| code.error(e))?;
        for inst in body {
            self.inst(code, inst, Some(plan))?;
        }
        code.note(format!("next {why}"));
        for advance in &plan.advances {
            match advance.register {
                Some(m) => code.asm.push(Inst::Add { d: advance.x, n: advance.x, m, s: Lsl::NONE }),
                None => code.asm.increase(advance.x, advance.by, SCRATCH),
            }
        }
        code.asm.add_const(plan.counter, plan.counter, -1);
        code.asm.cbnz(plan.counter, head);
        Ok(())
    }
}

/// A register that holds an address outside loops.
struct Anchor {
    x: X,
    /// Whose pointer, and how many bytes from it.
    holds: Option<(P, i64)>,
    /// When it was last of use.
    used: u64,
}

/// A function in the making.
pub struct Code<'a> {
    /// The value that it is made from.
    pub mk: &'a MicroKernel,
    /// The instructions so far.
    pub asm: Assembler,
    isa: VectorIsa,
    features: Features,
    roles: Roles,
    notes: Vec<(u64, Arc<str>)>,
    anchors: Vec<Anchor>,
    clock: u64,
    pool: Pool,
}

impl<'a> Code<'a> {
    fn new<E: VectorEmitter>(mk: &'a MicroKernel, target: &Target) -> Result<Code<'a>, EmitError> {
        let pooled = operations(mk).any(|op| matches!(*op, Op::Const { bits, .. } if E::is_pooled(bits)));
        let error = |what| EmitError { name: mk.name.clone(), isa: E::ISA, what };
        let roles =
            Roles::new(mk.params.len(), pooled).ok_or_else(|| error(format!("{} parameters", mk.params.len())))?;
        let mut asm = Assembler::default();
        let pool = Pool::new(asm.label(), E::POOL_COPIES);
        let anchors = roles.for_anchors().into_iter().map(|x| Anchor { x, holds: None, used: 0 }).collect();
        let features = target.unit(E::ISA).map_or(Features::default(), |u| u.features);
        Ok(Code { mk, asm, isa: E::ISA, features, roles, notes: vec![], anchors, clock: 0, pool })
    }

    /// The error `what` of this micro-kernel.
    pub fn error(&self, what: impl ToString) -> EmitError {
        EmitError { name: self.mk.name.clone(), isa: self.isa, what: what.to_string() }
    }

    /// Makes `text` the reason for what follows. A reason for nothing is replaced.
    pub fn note(&mut self, text: impl Into<Arc<str>>) {
        let (offset, text) = (self.asm.offset(), text.into());
        self.notes.pop_if(|(last, _)| *last == offset);
        if self.notes.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, &text) && *last != text) {
            self.notes.push((offset, text));
        }
    }

    /// True if the target has instructions for bf16.
    pub fn has_bf16(&self) -> bool {
        self.features.has(Feature::Bf16)
    }

    /// Appends an instruction of an extension, which the target may lack.
    pub fn push_extension(&mut self, inst: Inst) -> Result<(), EmitError> {
        if let Some(feature) = inst.feature().extension()
            && !self.features.has(feature)
        {
            return Err(self.error(format!("`{inst}`: the target has no instructions of {}", feature.name())));
        }
        self.asm.push(inst);
        Ok(())
    }

    /// The number of `v`, which is among the micro-kernel's registers and the machine's.
    pub fn register(&self, v: V) -> Result<u8, EmitError> {
        if v.0 < self.mk.registers.min(32) {
            Ok(v.0 as u8)
        } else {
            Err(self.error(format!("{v} is not one of its registers")))
        }
    }

    /// Bytes of a register.
    pub fn vector_bytes(&self) -> i64 {
        4 * i64::from(self.mk.lanes)
    }

    /// The error of an operation without the temporary registers that it needs.
    pub fn no_temps(&self) -> EmitError {
        self.error("an operation without the temporary registers that it needs")
    }

    /// The error of a product that the instruction set lacks.
    pub fn no_product(&self, f: Factors) -> EmitError {
        self.error(format!("no product of {f:?}"))
    }

    /// The type of what `addr` points to.
    pub fn dtype(&self, addr: Addr) -> DType {
        self.mk.params[usize::from(addr.param.0)].dtype
    }

    /// The pool's register and the place in it of `bits`.
    pub fn pooled(&mut self, bits: u32) -> (X, i64) {
        (self.roles.pool().expect("a pool was planned for the constants in it"), self.pool.offset(bits))
    }

    fn param_name(&self, param: P) -> &str {
        &self.mk.params[usize::from(param.0)].name
    }

    fn access<E: VectorEmitter>(&self, op: &Op) -> Option<Access> {
        Some(Access::new(op.touched()?.addr, E::form(self, op)?))
    }

    /// Refuses what the emitters take for granted.
    fn check<E: VectorEmitter>(&self, arguments: Arguments) -> Result<(), EmitError> {
        let mk = self.mk;
        if mk.isa != E::ISA {
            return Err(self.error(format!("it is written for {}", mk.isa)));
        }
        if !E::has_lanes(mk.lanes) {
            return Err(self.error(format!("{} lanes are not the length of a vector", mk.lanes)));
        }
        if mk.params.len() > REGISTER_PARAMS && arguments == Arguments::Registers {
            let what = format!("{} parameters, of which {REGISTER_PARAMS} are in registers", mk.params.len());
            return Err(self.error(what));
        }
        if mk.body.iter().any(|s| matches!(s, Stmt::Loop { trips: 0, .. })) {
            return Err(self.error("a loop of no iterations"));
        }
        for inst in insts(mk) {
            self.check_op(&inst.op)?;
            let temps = inst.temps.as_slice();
            temps.iter().try_for_each(|t| self.register(*t).map(|_| ()))?;
            let is_named = |t| inst.op.used().chain(inst.op.defined()).any(|v| v == t);
            if temps.len() < usize::from(E::need(mk, self.has_bf16(), &inst.op).temps)
                || temps.iter().any(|t| is_named(*t))
            {
                return Err(self.no_temps());
            }
        }
        Ok(())
    }

    fn check_op(&self, op: &Op) -> Result<(), EmitError> {
        let mk = self.mk;
        let fail = |what: String| Err(self.error(format!("{}: {what}", op.display(&mk.params))));
        for v in op.used().chain(op.defined()) {
            self.register(v)?;
        }
        if !op.exists_on(mk.isa) {
            return fail(format!("there is no such operation on {}", mk.isa));
        }
        if let Err(rule) = op.check() {
            return fail(rule.to_string());
        }
        if !op.are_apart() {
            return fail("its registers overlap".into());
        }
        let Some(touched) = op.touched() else { return Ok(()) };
        let addr = touched.addr;
        let Some(param) = mk.params.get(usize::from(addr.param.0)) else {
            return Err(self.error(format!("there is no parameter {}", addr.param.0)));
        };
        let (most, extent) = (op.most_touched(mk.lanes), touched.extent(param.dtype));
        if !(1..=most).contains(&extent) {
            let unit = if touched.raw { "bytes" } else { "elements" };
            return fail(format!("1 to {most} {unit} can be accessed"));
        }
        if touched.raw && !param.dtype.is_narrow() {
            return fail("elements of four bytes are not accessed unconverted".into());
        }
        let element = param.dtype.bytes() as i64;
        if [addr.offset, addr.step].iter().any(|d| d % element != 0 || d.unsigned_abs() > MAX_DISTANCE) {
            return fail(format!("not a multiple of {element} bytes, or beyond any address space"));
        }
        Ok(())
    }

    /// A plan for each loop that is one.
    fn plan_loops<E: VectorEmitter>(&self) -> Result<Vec<LoopPlan>, EmitError> {
        let mut plans = vec![];
        for stmt in &self.mk.body {
            if let Stmt::Loop { trips: 2.., body, .. } = stmt {
                let accesses: Vec<Access> = body.iter().filter_map(|inst| self.access::<E>(&inst.op)).collect();
                plans.push(LoopPlan::new(&accesses, &self.roles).map_err(|e| self.error(e))?);
            }
        }
        Ok(plans)
    }

    /// Loads the pointers of parameters with a home from the block that `x0` points to, `x0` itself last.
    fn load_arguments(&mut self) {
        let x0 = X::new(0).expect("a register");
        let mut block = x0;
        if let Some(x) = self.roles.block() {
            self.note("the block of pointers");
            self.asm.push(Inst::Mov { d: x, m: x0 });
            block = x;
        }
        for p in (0..self.roles.homes()).rev() {
            self.note(format!("address of {}", self.param_name(P(p))));
            let t = self.roles.home(P(p)).expect("a parameter with a home");
            self.load_pointer(t, P(p), block);
        }
    }

    fn load_pointer(&mut self, t: X, param: P, block: X) {
        let i = Disp::new(8 * i64::from(param.0)).expect("at most 2040");
        self.asm.push(Inst::Ldr { t, n: block.into(), i });
    }

    /// Sets `x = param + at`. `x` is not the home of a parameter.
    fn pointer(&mut self, x: X, param: P, at: i64) {
        match (self.roles.home(param), self.roles.block()) {
            (Some(home), _) => self.asm.add_const(x, home, at),
            (None, Some(block)) => {
                self.load_pointer(x, param, block);
                self.asm.increase(x, at, NUMBER);
            }
            (None, None) => unreachable!("without a block every parameter has a home"),
        }
    }

    /// The address of an access, after the instructions that compute it, if it takes any.
    fn place(&mut self, access: Access, plan: Option<&LoopPlan>) -> Resolved {
        let Some(plan) = plan else { return self.place_outside_loops(access) };
        match plan.place(access) {
            Place::Displaced { base, distance } => Resolved::Displaced { n: base, by: distance },
            Place::Indexed { base, index } => Resolved::Indexed { n: base, m: index },
            Place::Computed { index } => {
                self.note(format!("{} + {}", self.param_name(access.param), access.offset));
                self.pointer(SCRATCH, access.param, access.offset);
                if let Some(m) = index {
                    let s = Lsl::new(access.form.shift).expect("below 64");
                    self.asm.push(Inst::Add { d: SCRATCH, n: SCRATCH, m, s });
                }
                Resolved::Displaced { n: SCRATCH, by: 0 }
            }
        }
    }

    /// Reaches an access from its parameter, or from an anchor, of which one is moved to it if it is out of reach.
    fn place_outside_loops(&mut self, access: Access) -> Resolved {
        let reaches = |at: i64| access.form.reaches(access.offset - at);
        if let Some(home) = self.roles.home(access.param)
            && reaches(0)
        {
            return Resolved::Displaced { n: home, by: access.offset };
        }
        self.clock += 1;
        let serves = |a: &Anchor| a.holds.is_some_and(|(param, at)| param == access.param && reaches(at));
        let slot = match self.anchors.iter().position(serves) {
            Some(slot) => slot,
            None => {
                // A parameter that has a home has a place for its anchor too.
                let oldest = || self.anchors.iter().enumerate().min_by_key(|(_, a)| a.used).map(|(slot, _)| slot);
                let slot = match self.roles.block() {
                    Some(_) => oldest().expect("there are anchors"),
                    None => usize::from(access.param.0) % self.anchors.len(),
                };
                let at = if self.roles.home(access.param).is_none() && reaches(0) { 0 } else { access.offset };
                self.note(format!("{} + {at}", self.param_name(access.param)));
                self.pointer(self.anchors[slot].x, access.param, at);
                self.anchors[slot].holds = Some((access.param, at));
                slot
            }
        };
        let anchor = &mut self.anchors[slot];
        anchor.used = self.clock;
        let at = anchor.holds.map_or(0, |(_, at)| at);
        Resolved::Displaced { n: anchor.x, by: access.offset - at }
    }

    fn finish(mut self) -> Result<Function, EmitError> {
        let code_len = self.asm.offset() as usize;
        if !self.pool.words().is_empty() {
            self.asm.data(self.pool.label, self.pool.words()).map_err(|e| EmitError {
                name: self.mk.name.clone(),
                isa: self.isa,
                what: e.to_string(),
            })?;
        }
        let name = self.mk.name.clone();
        let error = |what: String| EmitError { name: name.clone(), isa: self.isa, what };
        let bytes = self.asm.finish().map_err(|e| error(e.to_string()))?;
        if u32::try_from(bytes.len()).is_err() {
            return Err(error("more than 4 GiB of code".into()));
        }
        let notes = self.notes.into_iter().map(|(offset, text)| Note { offset: offset as u32, text }).collect();
        Ok(Function { name, code_len, bytes, relocs: vec![], notes })
    }
}

/// All operations in order.
pub fn operations(mk: &MicroKernel) -> impl Iterator<Item = &Op> {
    insts(mk).map(|inst| &inst.op)
}

fn insts(mk: &MicroKernel) -> impl Iterator<Item = &microkernel::Inst> {
    mk.body.iter().flat_map(Stmt::insts)
}

/// The stack pointer plus `at` bytes, in a register for a few instructions.
pub fn slots_address(asm: &mut Assembler, at: i64) -> X {
    let first = at.min(4080);
    asm.push(Inst::AddImm { d: NUMBER.into(), n: XSp::SP, i: Imm::new(first).expect("slots lie above what is saved") });
    asm.increase(NUMBER, at - first, SCRATCH);
    NUMBER
}
