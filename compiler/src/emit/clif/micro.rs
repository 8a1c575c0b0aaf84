//! 128-bit micro-kernels: NEON on AArch64, AVX with FMA in 128-bit registers on x86-64.
//!
//! Named registers become SSA values: the ones a loop body reads or writes while they hold a value are the loop's block
//! parameters, which the register allocator coalesces. The by-element multiply-add is written as a bitcast shuffle, the
//! form that AArch64 lowering folds into `fmla v, v, v.s[i]`.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I64};
use cranelift_codegen::ir::{
    AbiParam, Endianness, Function as ClifFunction, InstBuilder, MemFlagsData, Signature, SourceLoc, Type,
    UserFuncName, Value, immediates::V128Imm,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::{Level, compile, isa};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::{Addr, Binary, Inst, MicroKernel, Op, Stmt, V};
use crate::target::Target;

/// Emits a micro-kernel of 4 lanes.
pub fn emit(mk: &MicroKernel, target: &Target, arguments: Arguments) -> Result<Function, EmitError> {
    if mk.lanes != 4 {
        return Err(EmitError {
            name: mk.name.clone(),
            isa: mk.isa,
            what: format!("{} lanes: registers hold 4", mk.lanes),
        });
    }
    let mut sig = Signature::new(CallConv::SystemV);
    let pointers = match arguments {
        Arguments::Registers => mk.params.len(),
        Arguments::Block => 1,
    };
    sig.params = vec![AbiParam::new(I64); pointers];
    let mut func = ClifFunction::with_name_signature(UserFuncName::user(0, 0), sig);
    let mut ctx = FunctionBuilderContext::new();
    let b = FunctionBuilder::new(&mut func, &mut ctx);
    let mut e =
        Emitter { b, regs: vec![None; mk.registers as usize], pointers: vec![], anchors: vec![], reasons: vec![] };
    e.body(mk, arguments);
    let (reasons, b) = (e.reasons, e.b);
    b.finalize(isa(target.arch, Level::MicroKernel).frontend_config());
    compile(&mk.name, func, target.arch, Level::MicroKernel, &reasons, &[])
}

struct Emitter<'a> {
    b: FunctionBuilder<'a>,
    regs: Vec<Option<Value>>,
    pointers: Vec<Value>,
    /// Inside a loop: its moving pointers.
    anchors: Vec<(Anchor, Value)>,
    reasons: Vec<String>,
}

/// A pointer that advances by `step` each iteration and starts at `param + offset`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Anchor {
    param: u8,
    step: i64,
    offset: i64,
}

/// Bytes that a scaled 12-bit immediate of a 16-byte load reaches.
const REACH: i64 = 16 * 4095;

impl Anchor {
    /// Whether an access at `offset` can be an immediate off this pointer.
    fn reaches(&self, addr: &Addr) -> bool {
        let d = addr.offset - self.offset;
        self.param == addr.param.0 && self.step == addr.step && (0..=REACH).contains(&d) && d % 16 == 0
    }
}

impl Emitter<'_> {
    fn because(&mut self, why: &str) {
        if self.reasons.last().is_none_or(|r| r != why) {
            self.reasons.push(why.to_owned());
        }
        self.b.set_srcloc(SourceLoc::new(self.reasons.len() as u32 - 1));
    }

    fn body(&mut self, mk: &MicroKernel, arguments: Arguments) {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        self.pointers = self.b.block_params(entry).to_vec();
        if arguments == Arguments::Block {
            let block = self.pointers[0];
            self.pointers.clear();
            for (p, param) in mk.params.iter().enumerate() {
                self.because(&format!("address of {}", param.name));
                let pointer = self.b.ins().load(I64, flags(), block, 8 * p as i32);
                self.pointers.push(pointer);
            }
        }
        for s in &mk.body {
            match s {
                Stmt::Inst(i) => self.inst(i),
                Stmt::Loop { trips, why, body } => self.repeat(*trips, why, body),
            }
        }
        self.because("return");
        self.b.ins().return_(&[]);
        self.b.seal_all_blocks();
    }

    fn repeat(&mut self, trips: u64, why: &str, body: &[Inst]) {
        self.because(why);
        let mut anchors: Vec<Anchor> = vec![];
        for addr in body.iter().filter_map(|i| i.op.touched()).map(|t| t.addr) {
            if !anchors.iter().any(|a| a.reaches(&addr)) {
                anchors.push(Anchor { param: addr.param.0, step: addr.step, offset: addr.offset });
            }
        }
        let start: Vec<Value> = anchors
            .iter()
            .map(|a| {
                let p = self.pointers[a.param as usize];
                self.b.ins().iadd_imm_s(p, a.offset)
            })
            .collect();
        // A register whose value enters an iteration is a block parameter; any other would only lengthen live ranges.
        let vars: Vec<(Variable, V)> = carried(body)
            .into_iter()
            .map(|r| {
                let v = self.b.declare_var(F32X4);
                let value = self.get(r);
                self.b.def_var(v, value);
                (v, r)
            })
            .collect();
        let pointer_vars: Vec<Variable> = start
            .iter()
            .map(|&p| {
                let v = self.b.declare_var(I64);
                self.b.def_var(v, p);
                v
            })
            .collect();
        let counter = self.b.declare_var(I64);
        let n = self.b.ins().iconst(I64, trips as i64);
        self.b.def_var(counter, n);
        let head = self.b.create_block();
        let done = self.b.create_block();
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(head);
        for &(v, r) in &vars {
            self.regs[r.0 as usize] = Some(self.b.use_var(v));
        }
        let anchors = anchors.iter().zip(&pointer_vars).map(|(&a, &v)| (a, self.b.use_var(v))).collect();
        self.anchors = anchors;
        for i in body {
            self.inst(i);
        }
        self.because(why);
        for ((a, p), v) in std::mem::take(&mut self.anchors).into_iter().zip(&pointer_vars) {
            let next = self.b.ins().iadd_imm_s(p, a.step);
            self.b.def_var(*v, next);
        }
        for &(v, r) in &vars {
            let value = self.get(r);
            self.b.def_var(v, value);
        }
        let n = self.b.use_var(counter);
        let left = self.b.ins().iadd_imm_s(n, -1);
        self.b.def_var(counter, left);
        let more = self.b.ins().icmp_imm_u(IntCC::NotEqual, left, 0);
        self.b.ins().brif(more, head, &[], done, &[]);
        self.b.seal_block(head);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
    }

    /// Base pointer and immediate of an address.
    fn address(&mut self, a: &Addr) -> (Value, i32) {
        if let Some((anchor, p)) = self.anchors.iter().find(|(anchor, _)| anchor.reaches(a)) {
            return (*p, (a.offset - anchor.offset) as i32);
        }
        let base = self.pointers[a.param.0 as usize];
        match i32::try_from(a.offset) {
            Ok(offset) => (base, offset),
            Err(_) => (self.b.ins().iadd_imm_s(base, a.offset), 0),
        }
    }

    fn get(&mut self, v: V) -> Value {
        self.regs[v.0 as usize].expect("verified: registers are written before they are read")
    }

    fn load(&mut self, ty: Type, base: Value, offset: i32) -> Value {
        self.b.ins().load(ty, flags(), base, offset)
    }

    /// `count` scalars from `src` in the low lanes, zeros above; nothing beyond is read.
    fn load_part(&mut self, src: &Addr, count: u32) -> Value {
        let (base, offset) = self.address(src);
        if count == 4 {
            return self.load(F32X4, base, offset);
        }
        let first = self.load(F32, base, offset);
        let mut v = {
            let zero = self.zero();
            self.b.ins().insertlane(zero, first, 0)
        };
        for lane in 1..count {
            let x = self.load(F32, base, offset + 4 * lane as i32);
            v = self.b.ins().insertlane(v, x, lane as u8);
        }
        v
    }

    fn zero(&mut self) -> Value {
        let zero = self.b.func.dfg.constants.insert(vec![0u8; 16].into());
        self.b.ins().vconst(F32X4, zero)
    }

    fn inst(&mut self, inst: &Inst) {
        self.because(&inst.why);
        let value = match inst.op {
            Op::Zero { .. } => self.zero(),
            Op::Load { src, lanes, .. } => self.load_part(&src, u32::from(lanes)),
            Op::LoadLanes { src, count, .. } => self.load_part(&src, u32::from(count)),
            Op::Broadcast { src, .. } => {
                let (base, offset) = self.address(&src);
                let x = self.load(F32, base, offset);
                self.b.ins().splat(F32X4, x)
            }
            Op::Store { s, dst, lanes } => {
                let v = self.get(s);
                let (base, offset) = self.address(&dst);
                if lanes == 4 {
                    self.b.ins().store(flags(), v, base, offset);
                } else {
                    for lane in 0..lanes as u8 {
                        let x = self.b.ins().extractlane(v, lane);
                        self.b.ins().store(flags(), x, base, offset + 4 * i32::from(lane));
                    }
                }
                return;
            }
            Op::Fma { d, a, b } => {
                let (d, a, b) = (self.get(d), self.get(a), self.get(b));
                self.b.ins().fma(a, b, d)
            }
            Op::FmaLane { d, a, b, lane } => {
                let (d, a, b) = (self.get(d), self.get(a), self.get(b));
                let repeated = self.lane(b, lane);
                self.b.ins().fma(a, repeated, d)
            }
            Op::Binary { f: Binary::Add, a, b, .. } => {
                let (a, b) = (self.get(a), self.get(b));
                self.b.ins().fadd(a, b)
            }
            Op::Binary { f: Binary::Max, a, b, .. } => {
                let (a, b) = (self.get(a), self.get(b));
                self.b.ins().fmax(a, b)
            }
            _ => unimplemented!(),
        };
        if let Some(d) = inst.op.defined() {
            self.regs[d.0 as usize] = Some(value);
        }
    }

    fn lane(&mut self, v: Value, lane: u8) -> Value {
        let cast = MemFlagsData::new().with_endianness(Endianness::Little);
        let bytes = self.b.ins().bitcast(I8X16, cast, v);
        let mask: Vec<u8> = (0..16).map(|i| 4 * lane + i % 4).collect();
        let mask = self.b.func.dfg.immediates.push(V128Imm(mask.try_into().expect("16 bytes")).0.to_vec().into());
        let shuffled = self.b.ins().shuffle(bytes, bytes, mask);
        self.b.ins().bitcast(F32X4, cast, shuffled)
    }
}

/// The registers that `body` reads before it writes them.
fn carried(body: &[Inst]) -> Vec<V> {
    let (mut carried, mut written) = (vec![], vec![]);
    for i in body {
        carried.extend(i.op.used().filter(|r| !written.contains(r)));
        written.extend(i.op.defined());
    }
    carried.sort_unstable();
    carried.dedup();
    carried
}

/// Accesses are inside verified regions; element alignment only, so not `aligned`.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}
