//! The driver: a loop nest's loops, copies and micro-kernel calls as one function.
//!
//! C signature: `(arguments: *const *mut u8, scratch: *mut u8, begin: u64, end: u64)`. `arguments` holds one pointer per
//! argument buffer in order; `scratch` is [`scratch_layout`]'s bytes, 64-byte aligned, and begins with the address of
//! [`shared_layout`]'s bytes, aligned as well, if there are any; tasks `begin..end` of
//! [`LoopNest::tasks`] are executed, at least one.

use std::collections::BTreeMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, I8, I16, I64};
use cranelift_codegen::ir::{
    AbiParam, ExtFuncData, ExternalName, FuncRef, InstBuilder, MemFlagsData, Signature, SourceLoc, StackSlotData,
    StackSlotKind, Type, UserExternalName, Value,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use kiln_ir::nest::{Access, Affine, BufferKind, Division, Extent, Loop, LoopNest, Pack, Stmt, Tile, Var};

use super::{compile, empty_function, isa};
use crate::emit::{Arguments, EmitError, Function};
use crate::target::Target;

/// A loop of at most this many iterations is unrolled when its body is this small: addresses then are constants.
const UNROLL: u64 = 8;

/// Bytes at the start of scratch memory that have the address of shared memory, where a nest has any.
pub const SHARED_ADDRESS: u64 = 64;

/// Byte offset of each scratch buffer in the scratch memory, and its total size. Buffers start on cache lines of their
/// own, behind the address of shared memory.
pub fn scratch_layout(nest: &LoopNest) -> (Vec<u64>, u64) {
    let has_shared = nest.buffers.iter().any(|b| b.kind == BufferKind::Shared);
    layout(nest, BufferKind::Scratch, if has_shared { SHARED_ADDRESS } else { 0 })
}

/// Byte offset of each shared buffer in the shared memory, and its total size.
pub fn shared_layout(nest: &LoopNest) -> (Vec<u64>, u64) {
    layout(nest, BufferKind::Shared, 0)
}

fn layout(nest: &LoopNest, kind: BufferKind, first: u64) -> (Vec<u64>, u64) {
    let mut total = first;
    let of_kind = nest.buffers.iter().filter(|b| b.kind == kind);
    let offsets = of_kind.map(|b| {
        let at = total;
        total += (b.len() * b.dtype.bytes() as u64).next_multiple_of(64);
        at
    });
    (offsets.collect(), total)
}

fn trips(l: &Loop) -> u64 {
    l.trips().expect("verified: tails are split before emission")
}

/// The micro-kernels that a driver calls, by the statement that does.
pub trait Callees {
    /// Index among the symbols, and whether its pointers are passed in a block.
    fn tile(&self, t: &Tile) -> (usize, Arguments);
    /// Index of the micro-kernel of a copy among the symbols; `None` if the driver copies.
    fn pack(&self, p: &Pack) -> Option<usize>;
}

/// Emits the driver of `nest`.
pub fn emit(
    name: &str,
    nest: &LoopNest,
    target: &Target,
    symbols: &[String],
    callees_of: &dyn Callees,
) -> Result<Function, EmitError> {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params = vec![AbiParam::new(I64); 4];
    let mut func = empty_function(sig);
    let mut ctx = FunctionBuilderContext::new();
    let b = FunctionBuilder::new(&mut func, &mut ctx);
    let mut d = Driver {
        b,
        nest,
        callees_of,
        callees: vec![None; symbols.len()],
        bases: vec![],
        vars: vec![None; nest.vars.len()],
        terms: Terms::default(),
        reasons: vec![],
    };
    d.function();
    let (b, reasons) = (d.b, d.reasons);
    b.finalize(isa(target.arch).frontend_config());
    compile(name, func, target.arch, &reasons, symbols)
}

/// The value of a loop variable while its body is emitted.
#[derive(Clone, Copy)]
enum Binding {
    Constant(i64),
    Value(Value),
}

/// A part of an address. Cranelift finds equal ones as well, but takes longer than not to make them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Term {
    Scaled(Value, i64),
    Sum(Value, Value),
    Beyond(Value, i64),
}

/// The terms computed on every path to here, and in which order.
#[derive(Default)]
struct Terms {
    values: BTreeMap<Term, Value>,
    order: Vec<Term>,
}

impl Terms {
    /// Forgets all but the first `len`: those of blocks that do not come before what follows.
    fn truncate(&mut self, len: usize) {
        for term in self.order.drain(len..) {
            self.values.remove(&term);
        }
    }
}

struct Driver<'a> {
    b: FunctionBuilder<'a>,
    nest: &'a LoopNest,
    callees_of: &'a dyn Callees,
    callees: Vec<Option<FuncRef>>,
    bases: Vec<Value>,
    vars: Vec<Option<Binding>>,
    terms: Terms,
    reasons: Vec<String>,
}

impl Driver<'_> {
    fn because(&mut self, why: String) {
        if self.reasons.last() != Some(&why) {
            self.reasons.push(why);
        }
        self.b.set_srcloc(SourceLoc::new(self.reasons.len() as u32 - 1));
    }

    fn function(&mut self) {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        let &[arguments, scratch, begin, end] = self.b.block_params(entry) else {
            unreachable!("the signature has four parameters")
        };
        let [mut offsets, mut shared_offsets] =
            [scratch_layout, shared_layout].map(|layout| layout(self.nest).0.into_iter());
        let mut shared = None;
        for (i, buffer) in self.nest.buffers.iter().enumerate() {
            self.because(format!("address of {}", buffer.name));
            let base = match buffer.kind {
                BufferKind::Scratch => {
                    self.b.ins().iadd_imm_s(scratch, offsets.next().expect("an offset per buffer") as i64)
                }
                BufferKind::Shared => {
                    let start = *shared.get_or_insert_with(|| self.b.ins().load(I64, flags(), scratch, 0));
                    self.b.ins().iadd_imm_s(start, shared_offsets.next().expect("an offset per buffer") as i64)
                }
                BufferKind::In | BufferKind::Out | BufferKind::InOut => {
                    self.b.ins().load(I64, flags(), arguments, 8 * i as i32)
                }
            };
            self.bases.push(base);
        }
        let phases: Vec<&[Stmt]> = self.nest.phases().collect();
        match &phases[..] {
            [only] => self.tasks(only, begin, end),
            _ => {
                let mut first = 0;
                for body in phases {
                    let n = Division::of(body).tasks();
                    self.some_tasks((first, n), (begin, end), &mut |d, low, high| d.tasks(body, low, high));
                    first += n;
                }
            }
        }
        self.because("return".into());
        self.b.ins().return_(&[]);
        self.b.seal_all_blocks();
    }

    /// Tasks `low..high` of statements, at least one: the copies that each thread makes, and the share of what is divided.
    fn tasks(&mut self, body: &[Stmt], low: Value, high: Value) {
        let division = Division::of(body);
        let is_parallel = |s: &&Stmt| matches!(s, Stmt::Loop(l) if l.parallel);
        let loops = body.iter().filter(is_parallel).count();
        let mut first = 0;
        for s in body {
            match (s, division) {
                (Stmt::Loop(l), Division::Loops(_)) if l.parallel && loops == 1 => self.parallel_loop(l, low, high),
                (Stmt::Loop(l), Division::Loops(_)) if l.parallel => {
                    let n = l.tasks();
                    self.some_tasks((first, n), (low, high), &mut |d, low, high| d.parallel_loop(l, low, high));
                    first += n;
                }
                (Stmt::Loop(l), Division::Parts(_)) if Division::of(&l.body) != Division::None => {
                    self.serial_loop(l, &mut |d| d.tasks(&l.body, low, high));
                }
                (s, _) => self.stmt(s),
            }
        }
    }

    /// What `body` emits for those of tasks `low..high` that are among the `n` from `first` on, counted from there, if there are any.
    fn some_tasks(
        &mut self,
        (first, n): (u64, u64),
        (low, high): (Value, Value),
        body: &mut dyn FnMut(&mut Self, Value, Value),
    ) {
        self.because(format!("tasks {first}..{}", first + n));
        let (low, high) = (self.clamp(low, first, n), self.clamp(high, first, n));
        let (some, done) = (self.b.create_block(), self.b.create_block());
        let any = self.b.ins().icmp(IntCC::UnsignedLessThan, low, high);
        self.b.ins().brif(any, some, &[], done, &[]);
        self.b.switch_to_block(some);
        let known = self.terms.order.len();
        body(self, low, high);
        self.terms.truncate(known);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
    }

    /// Tasks `low..high` of a parallel loop, at least one.
    fn parallel_loop(&mut self, l: &Loop, low: Value, high: Value) {
        let division = Division::of(&l.body);
        if trips(l) == 1 {
            self.vars[l.var.0 as usize] = Some(Binding::Constant(0));
            self.tasks(&l.body, low, high);
            self.vars[l.var.0 as usize] = None;
            return;
        }
        if division == Division::None {
            let step = l.step as i64;
            let (low, high) = (self.scale(low, step), self.scale(high, step));
            self.loop_body(l, low, high, &mut |d| l.body.iter().for_each(|s| d.stmt(s)));
            return;
        }
        let inside = division.tasks() as i64;
        // The tasks that are left are `low..high` of the iteration at hand and those behind it: from its first on in all but the first.
        self.because(self.loop_reason(l));
        let at = self.quotient(low, inside, trips(l));
        let before = self.b.ins().imul_imm_s(at, inside);
        let (low, high) = (self.b.ins().isub(low, before), self.b.ins().isub(high, before));
        let begin = self.scale(at, l.step as i64);
        let (head, done) = (self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(head, I64);
        let from = self.b.append_block_param(head, I64);
        let left = self.b.append_block_param(head, I64);
        self.b.ins().jump(head, &[begin.into(), low.into(), high.into()]);
        self.b.switch_to_block(head);
        self.vars[l.var.0 as usize] = Some(Binding::Value(i));
        let all = self.b.ins().iconst(I64, inside);
        let to = self.b.ins().umin(left, all);
        self.tasks(&l.body, from, to);
        self.vars[l.var.0 as usize] = None;
        self.because(self.loop_reason(l));
        let next = self.b.ins().iadd_imm_s(i, l.step as i64);
        let zero = self.b.ins().iconst(I64, 0);
        let rest = self.b.ins().iadd_imm_s(left, -inside);
        let more = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, rest, 0);
        self.b.ins().brif(more, head, &[next.into(), zero.into(), rest.into()], done, &[]);
        self.b.switch_to_block(done);
    }

    /// `min(max(task, first) - first, n)`.
    fn clamp(&mut self, task: Value, first: u64, n: u64) -> Value {
        let first = self.b.ins().iconst(I64, first as i64);
        let at_least = self.b.ins().umax(task, first);
        let relative = self.b.ins().isub(at_least, first);
        let n = self.b.ins().iconst(I64, n as i64);
        self.b.ins().umin(relative, n)
    }

    fn stmt(&mut self, s: &Stmt) {
        match s {
            Stmt::Loop(l) => self.constant_loop(l),
            Stmt::Pack(p) => self.pack(p),
            Stmt::Tile(t) => self.tile(t),
            Stmt::If { .. }
            | Stmt::Inside { .. }
            | Stmt::Delinearize { .. }
            | Stmt::Zero { .. }
            | Stmt::MulAdd { .. }
            | Stmt::Post { .. }
            | Stmt::Barrier => {
                unreachable!("verified: only loops, copies and tiles are left")
            }
        }
    }

    fn constant_loop(&mut self, l: &Loop) {
        self.serial_loop(l, &mut |d| l.body.iter().for_each(|s| d.stmt(s)));
    }

    /// All iterations of a loop, each emitted by `body`.
    fn serial_loop(&mut self, l: &Loop, body: &mut dyn FnMut(&mut Self)) {
        let n = trips(l);
        if n == 1 || (n <= UNROLL && size(l) * n <= UNROLL) {
            for i in 0..n {
                self.vars[l.var.0 as usize] = Some(Binding::Constant((i * l.step) as i64));
                body(self);
            }
            self.vars[l.var.0 as usize] = None;
            return;
        }
        self.because(self.loop_reason(l));
        let low = self.b.ins().iconst(I64, 0);
        let high = self.b.ins().iconst(I64, (n * l.step) as i64);
        self.loop_body(l, low, high, body);
    }

    fn loop_reason(&self, l: &Loop) -> String {
        let Extent::Const(extent) = l.extent else { unreachable!("verified: tails are split before emission") };
        format!("{} in 0..{extent} step {}", self.nest.vars[l.var.0 as usize], l.step)
    }

    /// `value / divisor`, for a quotient below `limit`.
    fn quotient(&mut self, value: Value, divisor: i64, limit: u64) -> Value {
        /// Bits of the reciprocal, so that it is an immediate. The quotient is exact for values whose product with the divisor has
        /// fewer bits (Granlund and Montgomery, "Division by Invariant Integers using Multiplication", PLDI 1994).
        const BITS: u32 = 31;
        if (divisor as u64).is_power_of_two() {
            return self.b.ins().ushr_imm_u(value, i64::from(divisor.trailing_zeros()));
        }
        if limit.saturating_mul(divisor as u64).saturating_mul(divisor as u64) < 1 << BITS {
            let reciprocal = (1u64 << BITS).div_ceil(divisor as u64);
            let product = self.b.ins().imul_imm_s(value, reciprocal as i64);
            return self.b.ins().ushr_imm_u(product, i64::from(BITS));
        }
        // Where there are so many tasks, counting does not count.
        let (head, done) = (self.b.create_block(), self.b.create_block());
        let quotient = self.b.append_block_param(head, I64);
        let rest = self.b.append_block_param(head, I64);
        let zero = self.b.ins().iconst(I64, 0);
        self.b.ins().jump(head, &[zero.into(), value.into()]);
        self.b.switch_to_block(head);
        let next = self.b.ins().iadd_imm_s(quotient, 1);
        let less = self.b.ins().iadd_imm_s(rest, -divisor);
        let more = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, rest, divisor);
        self.b.ins().brif(more, head, &[next.into(), less.into()], done, &[]);
        self.b.switch_to_block(done);
        quotient
    }

    /// A loop from `low` below `high`, at least one iteration.
    fn loop_body(&mut self, l: &Loop, low: Value, high: Value, body: &mut dyn FnMut(&mut Self)) {
        let head = self.b.create_block();
        let done = self.b.create_block();
        let i = self.b.append_block_param(head, I64);
        self.b.ins().jump(head, &[low.into()]);
        self.b.switch_to_block(head);
        self.vars[l.var.0 as usize] = Some(Binding::Value(i));
        body(self);
        self.vars[l.var.0 as usize] = None;
        self.because(self.loop_reason(l));
        let next = self.b.ins().iadd_imm_s(i, l.step as i64);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, next, high);
        self.b.ins().brif(more, head, &[next.into()], done, &[]);
        self.b.switch_to_block(done);
    }

    fn scale(&mut self, v: Value, factor: i64) -> Value {
        if factor == 1 { v } else { self.term(Term::Scaled(v, factor)) }
    }

    /// The address of an element as a pointer and a constant offset that fits an immediate.
    fn address(&mut self, a: &Access) -> (Value, i32) {
        let buffer = &self.nest.buffers[a.buffer.0 as usize];
        let bytes = buffer.dtype.bytes() as i64;
        let mut offset = Affine::default();
        for (index, dim) in a.index.iter().zip(&buffer.dims) {
            let scale = dim.stride as i64 * bytes;
            offset.constant += index.constant * scale;
            index.terms().iter().for_each(|&(v, c)| offset.add_term(v, c * scale));
        }
        let mut pointer = self.bases[a.buffer.0 as usize];
        let mut constant = offset.constant;
        for &(Var(v), c) in offset.terms() {
            match self.vars[v as usize].expect("verified: variables are used inside their loops") {
                Binding::Constant(value) => constant += c * value,
                Binding::Value(value) => {
                    let term = self.scale(value, c);
                    pointer = self.term(Term::Sum(pointer, term));
                }
            }
        }
        match i32::try_from(constant) {
            Ok(constant) if constant < i32::MAX / 2 => (pointer, constant),
            _ => (self.term(Term::Beyond(pointer, constant)), 0),
        }
    }

    /// The value of a term, as computed before if it was computed on every path to here.
    fn term(&mut self, term: Term) -> Value {
        if let Some(known) = self.terms.values.get(&term) {
            return *known;
        }
        let value = match term {
            Term::Scaled(v, factor) => self.b.ins().imul_imm_s(v, factor),
            Term::Sum(a, b) => self.b.ins().iadd(a, b),
            Term::Beyond(v, bytes) => self.b.ins().iadd_imm_s(v, bytes),
        };
        self.terms.values.insert(term, value);
        self.terms.order.push(term);
        value
    }

    fn tile(&mut self, t: &Tile) {
        let (kernel, arguments) = self.callees_of.tile(t);
        self.because(format!("tile {}x{}x{}", t.m, t.n, t.k));
        let operands = t.post.iter().filter_map(|(_, m)| m.as_ref()).map(|m| &m.at);
        let accesses: Vec<&Access> = [&t.lhs.at, &t.rhs.at].into_iter().chain(operands).chain([&t.dst.at]).collect();
        let args: Vec<Value> = accesses.into_iter().map(|a| self.pointer(a)).collect();
        match arguments {
            Arguments::Registers => self.call(kernel, &args),
            Arguments::Block => {
                let bytes = 8 * args.len() as u32;
                let slot = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3));
                for (i, arg) in (0..).zip(args) {
                    self.b.ins().stack_store(I64, arg, slot, 8 * i);
                }
                let block = self.b.ins().stack_addr(I64, slot, 0);
                self.call(kernel, &[block]);
            }
        }
    }

    /// The address of an element.
    fn pointer(&mut self, a: &Access) -> Value {
        let (pointer, offset) = self.address(a);
        if offset == 0 { pointer } else { self.term(Term::Beyond(pointer, i64::from(offset))) }
    }

    fn call(&mut self, kernel: usize, args: &[Value]) {
        let callee = self.callee(kernel, args.len());
        self.b.ins().call(callee, args);
    }

    fn callee(&mut self, kernel: usize, params: usize) -> FuncRef {
        if let Some(f) = self.callees[kernel] {
            return f;
        }
        let mut sig = Signature::new(CallConv::SystemV);
        sig.params = vec![AbiParam::new(I64); params];
        let signature = self.b.import_signature(sig);
        let name = self.b.func.declare_imported_user_function(UserExternalName { namespace: 0, index: kernel as u32 });
        // Colocated: a direct call, resolved when the artifact is linked.
        let data = ExtFuncData { name: ExternalName::user(name), signature, colocated: true, patchable: false };
        *self.callees[kernel].insert(self.b.import_function(data))
    }

    /// A copy into a panel, by a micro-kernel where elements are rearranged or converted.
    fn pack(&mut self, p: &Pack) {
        let names = [&p.src.at, &p.dst.at].map(|a| self.nest.buffers[a.buffer.0 as usize].name.clone());
        self.because(format!("pack {} into {}", names[0], names[1]));
        if let Some(kernel) = self.callees_of.pack(p) {
            let args = [&p.src.at, &p.dst.at].map(|a| self.pointer(a));
            return self.call(kernel, &args);
        }
        let (Extent::Const(k), Extent::Const(width)) = (&p.k, &p.width) else {
            unreachable!("verified: tails are split before emission")
        };
        let bytes = self.nest.buffers[p.src.at.buffer.0 as usize].dtype.bytes() as i64;
        let (to, to_offset) = self.address(&p.dst.at);
        let (from, from_offset) = self.address(&p.src.at);
        let run = |d: &mut Self, to: Value, from: Value| {
            if p.src.col == 1 || *width == 1 {
                d.copy_run((to, to_offset), (from, from_offset), *width as i64 * bytes);
            } else {
                d.gather((to, to_offset), (from, from_offset), *width as i64, p.src.col as i64 * bytes, bytes);
            }
        };
        if *k == 1 {
            return run(self, to, from);
        }
        let (head, done) = (self.b.create_block(), self.b.create_block());
        let [i, t, f] = [(); 3].map(|()| self.b.append_block_param(head, I64));
        let steps = self.b.ins().iconst(I64, *k as i64);
        self.b.ins().jump(head, &[steps.into(), to.into(), from.into()]);
        self.b.switch_to_block(head);
        run(self, t, f);
        let left = self.b.ins().iadd_imm_s(i, -1);
        let t = self.b.ins().iadd_imm_s(t, p.dst.row as i64 * bytes);
        let f = self.b.ins().iadd_imm_s(f, p.src.row as i64 * bytes);
        self.b.ins().brif(left, head, &[left.into(), t.into(), f.into()], done, &[]);
        self.b.switch_to_block(done);
    }

    /// Contiguous bytes: whole vectors, then pieces of half the size each.
    fn copy_run(&mut self, to: (Value, i32), from: (Value, i32), bytes: i64) {
        let mut at = 0;
        if bytes / 16 > UNROLL as i64 * 2 {
            at = bytes / 64 * 64;
            self.copy_loop(to, from, at);
        }
        while at < bytes {
            let (ty, step) = match bytes - at {
                16.. => (F32X4, 16),
                8.. => (I64, 8),
                4.. => (F32, 4),
                2.. => (I16, 2),
                _ => (I8, 1),
            };
            self.move_one(ty, (to.0, to.1 + at as i32), (from.0, from.1 + at as i32));
            at += step;
        }
    }

    /// `bytes` bytes, a multiple of 64, 64 an iteration.
    fn copy_loop(&mut self, to: (Value, i32), from: (Value, i32), bytes: i64) {
        let (head, done) = (self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(head, I64);
        let zero = self.b.ins().iconst(I64, 0);
        self.b.ins().jump(head, &[zero.into()]);
        self.b.switch_to_block(head);
        let (t, f) = (self.b.ins().iadd(to.0, i), self.b.ins().iadd(from.0, i));
        for v in 0..4 {
            self.move_one(F32X4, (t, to.1 + 16 * v), (f, from.1 + 16 * v));
        }
        let next = self.b.ins().iadd_imm_s(i, 64);
        let more = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, next, bytes);
        self.b.ins().brif(more, head, &[next.into()], done, &[]);
        self.b.switch_to_block(done);
    }

    /// Single elements that are `stride` bytes apart, to neighbours.
    fn gather(&mut self, to: (Value, i32), from: (Value, i32), count: i64, stride: i64, bytes: i64) {
        let ty = if bytes == 2 { I16 } else { F32 };
        for i in 0..count {
            let offset = i64::from(from.1) + i * stride;
            let from = match i32::try_from(offset) {
                Ok(offset) => (from.0, offset),
                Err(_) => (self.b.ins().iadd_imm_s(from.0, offset), 0),
            };
            self.move_one(ty, (to.0, to.1 + (i * bytes) as i32), from);
        }
    }

    fn move_one(&mut self, ty: Type, to: (Value, i32), from: (Value, i32)) {
        let v = self.b.ins().load(ty, flags(), from.0, from.1);
        self.b.ins().store(flags(), v, to.0, to.1);
    }
}

/// Statements in a loop body, counted as unrolled.
fn size(l: &Loop) -> u64 {
    l.body
        .iter()
        .map(|s| match s {
            Stmt::Loop(inner) => trips(inner) * size(inner),
            Stmt::Pack(_) => 4,
            Stmt::Tile(_) => 1,
            Stmt::If { .. }
            | Stmt::Inside { .. }
            | Stmt::Delinearize { .. }
            | Stmt::Zero { .. }
            | Stmt::MulAdd { .. }
            | Stmt::Post { .. }
            | Stmt::Barrier => 1,
        })
        .sum()
}

/// Verified accesses are in bounds; only element alignment is promised.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}
