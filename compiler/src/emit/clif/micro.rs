//! The 128-bit micro-kernels of x86-64: AVX with FMA in registers of 128 bits.
//!
//! Registers of the micro-kernel become SSA values, for which Cranelift allocates registers: those that a loop body reads
//! before it writes them are the loop's block parameters. The by-element multiply-add is a shuffle and a multiply-add. bf16
//! are widened by loads and narrowed by stores: `bf16`.
//!
//! Functions have no constants behind their code: Cranelift does not say where its constants start, and listings must know.
//! So constants are made of immediates, and only shuffles are made that x86 has an instruction for.

mod bf16;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I32, I32X4, I64};
use cranelift_codegen::ir::{AbiParam, Endianness, InstBuilder, MemFlagsData, Signature, SourceLoc, Type, Value};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use kiln_ir::DType;

use super::{Level, compile, empty_function, isa};
use crate::emit::{Arguments, EmitError, Function};
use crate::microkernel::{Addr, Binary, Inst, MicroKernel, Op, P, Permute, Shift, Stmt, Unary, V};
use crate::target::{Arch, Target};

/// Emits a micro-kernel of 4 lanes for x86-64.
///
/// # Errors
///
/// `target` is of another architecture; or `mk` has registers of other lengths, or operations on bf16 that are not converted,
/// or permutations of 16 bits.
pub fn emit(mk: &MicroKernel, target: &Target, arguments: Arguments) -> Result<Function, EmitError> {
    let fail = |what| EmitError { name: mk.name.clone(), isa: mk.isa, what };
    if target.arch != Arch::X86_64 {
        return Err(fail(format!("{target} is not x86-64")));
    }
    if mk.lanes != 4 {
        return Err(fail(format!("{} lanes: registers hold 4", mk.lanes)));
    }
    let mut sig = Signature::new(CallConv::SystemV);
    let pointers = match arguments {
        Arguments::Registers => mk.params.len(),
        Arguments::Block => 1,
    };
    sig.params = vec![AbiParam::new(I64); pointers];
    let mut func = empty_function(sig);
    let mut ctx = FunctionBuilderContext::new();
    let b = FunctionBuilder::new(&mut func, &mut ctx);
    let mut e =
        Emitter { mk, b, regs: vec![None; mk.registers as usize], pointers: vec![], anchors: vec![], reasons: vec![] };
    e.body(arguments)?;
    let (reasons, b) = (e.reasons, e.b);
    b.finalize(isa(target.arch, Level::MicroKernel).frontend_config());
    let function = compile(&mk.name, func, target.arch, Level::MicroKernel, &reasons, &[])?;
    const RET: u8 = 0xc3;
    if function.bytes.last() != Some(&RET) {
        return Err(fail("constants behind the code".into()));
    }
    Ok(function)
}

struct Emitter<'a> {
    mk: &'a MicroKernel,
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

/// Bytes from a moving pointer up to which accesses share it.
const REACH: i64 = 16 * 4095;

impl Anchor {
    /// Tells whether an access is addressed from this pointer: in whole vectors, and not too far.
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

    fn body(&mut self, arguments: Arguments) -> Result<(), EmitError> {
        let mk = self.mk;
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
                Stmt::Inst(i) => self.inst(i)?,
                Stmt::Loop { trips, why, body } => self.repeat(*trips, why, body)?,
            }
        }
        self.because("return");
        self.b.ins().return_(&[]);
        self.b.seal_all_blocks();
        Ok(())
    }

    fn repeat(&mut self, trips: u64, why: &str, body: &[Inst]) -> Result<(), EmitError> {
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
            self.inst(i)?;
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
        Ok(())
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

    /// A constant in all lanes, from an immediate.
    fn splat(&mut self, bits: u32) -> Value {
        let word = self.b.ins().iconst(I32, i64::from(bits));
        self.b.ins().splat(I32X4, word)
    }

    fn dtype(&self, p: P) -> DType {
        self.mk.params[usize::from(p.0)].dtype
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), EmitError> {
        self.because(&inst.why);
        let value = match inst.op {
            Op::Zero { .. } | Op::Const { bits: 0, .. } => self.zero(),
            Op::Const { bits, .. } => {
                let words = self.splat(bits);
                self.floats(words)
            }
            Op::Load { src, lanes, .. } => self.load_lanes(&src, u32::from(lanes)),
            Op::LoadLanes { src, count, .. } => self.load_lanes(&src, u32::from(count)),
            Op::Broadcast { src, .. } => match self.dtype(src.param) {
                DType::F32 => {
                    let (base, offset) = self.address(&src);
                    let x = self.load(F32, base, offset);
                    self.b.ins().splat(F32X4, x)
                }
                DType::Bf16 => self.broadcast_bf16(&src),
            },
            Op::Store { s, dst, lanes } => {
                let v = self.get(s);
                match self.dtype(dst.param) {
                    DType::F32 => self.store_part(v, &dst, lanes),
                    DType::Bf16 => self.store_bf16(v, &dst, lanes),
                }
                return Ok(());
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
            Op::Binary { f, a, b, .. } => {
                let (a, b) = (self.get(a), self.get(b));
                self.binary(f, a, b)
            }
            Op::Unary { f, a, .. } => {
                let a = self.get(a);
                match f {
                    Unary::Move => a,
                    Unary::Sqrt => self.b.ins().sqrt(a),
                    Unary::Abs => self.b.ins().fabs(a),
                }
            }
            Op::Shift { f, a, by, .. } => {
                let a = self.get(a);
                let words = self.words(a);
                let by = self.b.ins().iconst(I32, i64::from(by));
                let shifted = match f {
                    Shift::Left => self.b.ins().ishl(words, by),
                    Shift::RightSigned => self.b.ins().sshr(words, by),
                };
                self.floats(shifted)
            }
            Op::PairAdd { a, b, .. } => {
                let (a, b) = (self.get(a), self.get(b));
                let even = self.permuted(a, b, [0, 2, 4, 6]);
                let odd = self.permuted(a, b, [1, 3, 5, 7]);
                self.b.ins().fadd(even, odd)
            }
            Op::Permute { f, bits, a, b, .. } => {
                let (a, b) = (self.get(a), self.get(b));
                let words = match (bits, f) {
                    (32, Permute::ZipLow) => [0, 4, 1, 5],
                    (32, Permute::ZipHigh) => [2, 6, 3, 7],
                    (32, Permute::UzpEven) => [0, 2, 4, 6],
                    (32, Permute::UzpOdd) => [1, 3, 5, 7],
                    (64, Permute::ZipLow | Permute::UzpEven | Permute::TrnEven) => [0, 1, 4, 5],
                    (64, Permute::ZipHigh | Permute::UzpOdd | Permute::TrnOdd) => [2, 3, 6, 7],
                    _ => return Err(self.refuse(&inst.op)),
                };
                self.permuted(a, b, words)
            }
            Op::LoadRaw { .. }
            | Op::LoadRawQuad { .. }
            | Op::StoreRaw { .. }
            | Op::Mmla { .. }
            | Op::Dot2 { .. }
            | Op::Dot2Lane { .. }
            | Op::Narrow { .. }
            | Op::NarrowPairs { .. } => return Err(self.refuse(&inst.op)),
        };
        if let Some(d) = inst.op.defined() {
            self.regs[d.0 as usize] = Some(value);
        }
        Ok(())
    }

    fn refuse(&self, op: &Op) -> EmitError {
        EmitError { name: self.mk.name.clone(), isa: self.mk.isa, what: format!("no such operation: {op:?}") }
    }

    /// `count` elements from `src` in the low lanes, zeros above; nothing beyond is read.
    fn load_lanes(&mut self, src: &Addr, count: u32) -> Value {
        match self.dtype(src.param) {
            DType::F32 => self.load_part(src, count),
            DType::Bf16 => self.load_bf16(src, count),
        }
    }

    fn store_part(&mut self, v: Value, dst: &Addr, lanes: u16) {
        let (base, offset) = self.address(dst);
        if lanes == 4 {
            self.b.ins().store(flags(), v, base, offset);
            return;
        }
        for lane in 0..lanes as u8 {
            let x = self.b.ins().extractlane(v, lane);
            self.b.ins().store(flags(), x, base, offset + 4 * i32::from(lane));
        }
    }

    fn binary(&mut self, f: Binary, a: Value, b: Value) -> Value {
        match f {
            Binary::Add => return self.b.ins().fadd(a, b),
            Binary::Sub => return self.b.ins().fsub(a, b),
            Binary::Mul => return self.b.ins().fmul(a, b),
            Binary::Div => return self.b.ins().fdiv(a, b),
            Binary::Max => return self.b.ins().fmax(a, b),
            Binary::Min => return self.b.ins().fmin(a, b),
            Binary::IAdd | Binary::ISub | Binary::And | Binary::Or | Binary::Xor => {}
        }
        let (a, b) = (self.words(a), self.words(b));
        let words = match f {
            Binary::IAdd => self.b.ins().iadd(a, b),
            Binary::ISub => self.b.ins().isub(a, b),
            Binary::And => self.b.ins().band(a, b),
            Binary::Or => self.b.ins().bor(a, b),
            _ => self.b.ins().bxor(a, b),
        };
        self.floats(words)
    }

    fn cast(&mut self, to: Type, v: Value) -> Value {
        self.b.ins().bitcast(to, MemFlagsData::new().with_endianness(Endianness::Little), v)
    }

    /// Lanes as 32-bit integers.
    fn words(&mut self, v: Value) -> Value {
        self.cast(I32X4, v)
    }

    /// Lanes as f32.
    fn floats(&mut self, v: Value) -> Value {
        self.cast(F32X4, v)
    }

    /// Four words of `a` (0 to 3) and `b` (4 to 7).
    fn permuted(&mut self, a: Value, b: Value, words: [u8; 4]) -> Value {
        let first = self.cast(I8X16, a);
        let second = if a == b { first } else { self.cast(I8X16, b) };
        let mask: Vec<u8> = words.iter().flat_map(|w| [4 * w, 4 * w + 1, 4 * w + 2, 4 * w + 3]).collect();
        let mask = self.b.func.dfg.immediates.push(mask.into());
        let shuffled = self.b.ins().shuffle(first, second, mask);
        self.floats(shuffled)
    }

    fn lane(&mut self, v: Value, lane: u8) -> Value {
        self.permuted(v, v, [lane; 4])
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
