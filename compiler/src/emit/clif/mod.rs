//! Emission through Cranelift: the driver around the micro-kernels on every target.

pub mod driver;

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use cranelift_codegen::binemit::Reloc as ClifReloc;
use cranelift_codegen::ir::{ExternalName, Function as ClifFunction, Signature, UserExternalName, UserFuncName};
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, Final, FinalizedRelocTarget, MachSrcLoc};

use super::{EmitError, Function, Note, Reloc, RelocKind};
use crate::target::{Arch, VectorIsa};

/// The Cranelift back end for an architecture. Flags are fixed here, never read from the host.
fn isa(arch: Arch) -> Arc<dyn TargetIsa> {
    static AARCH64: OnceLock<Arc<dyn TargetIsa>> = OnceLock::new();
    static X86_64: OnceLock<Arc<dyn TargetIsa>> = OnceLock::new();
    let cached = match arch {
        Arch::Aarch64 => &AARCH64,
        Arch::X86_64 => &X86_64,
    };
    cached.get_or_init(|| make_isa(arch)).clone()
}

fn make_isa(arch: Arch) -> OwnedTargetIsa {
    let mut flags = settings::builder();
    let mut set = |name, value| flags.set(name, value).expect("a flag of this Cranelift version");
    // Addresses are hoisted and shared.
    set("opt_level", "speed");
    set("is_pic", "true");
    set("enable_probestack", "false");
    set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" });
    let triple = match arch {
        Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        Arch::X86_64 => "x86_64-unknown-linux-gnu",
    };
    let mut builder = cranelift_codegen::isa::lookup_by_name(triple).expect("both back ends are compiled in");
    if arch == Arch::X86_64 {
        for feature in ["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_avx", "has_avx2", "has_fma"] {
            builder.enable(feature).expect("a feature of this Cranelift version");
        }
    }
    builder.finish(settings::Flags::new(flags)).expect("the flags fit together")
}

thread_local! {
    /// The memory that Cranelift allocated to compile a function, kept for the next one on this thread.
    static CONTEXT: Cell<Option<Context>> = const { Cell::new(None) };
}

/// The largest function, in bytes of code, after which that is kept: it is many times as large.
const KEPT_CODE: usize = 1 << 14;

/// An empty function in memory that is kept.
fn empty_function(signature: Signature) -> ClifFunction {
    let mut ctx = CONTEXT.take().unwrap_or_else(Context::new);
    let mut func = std::mem::replace(&mut ctx.func, ClifFunction::new());
    CONTEXT.set(Some(ctx));
    (func.name, func.stencil.signature) = (UserFuncName::user(0, 0), signature);
    func
}

/// Compiles `func`. Source locations index `notes`; user names index `symbols`.
fn compile(
    name: &str,
    func: ClifFunction,
    arch: Arch,
    reasons: &[String],
    symbols: &[String],
) -> Result<Function, EmitError> {
    let isa_of_error = match arch {
        Arch::Aarch64 => VectorIsa::Neon,
        Arch::X86_64 => VectorIsa::Avx2,
    };
    let fail = |what: String| EmitError { name: name.into(), isa: isa_of_error, what };
    let mut ctx = CONTEXT.take().unwrap_or_else(Context::new);
    ctx.func = func;
    let isa = isa(arch);
    let code = ctx.compile(&*isa, &mut Default::default()).map_err(|e| fail(format!("{:?}", e.inner)))?;
    let mut relocs = vec![];
    for r in code.buffer.relocs() {
        let kind = match r.kind {
            ClifReloc::X86CallPCRel4 => RelocKind::X86CallPcRel4,
            ClifReloc::Arm64Call => RelocKind::Arm64Call,
            other => return Err(fail(format!("unexpected relocation {other:?}"))),
        };
        let FinalizedRelocTarget::ExternalName(ExternalName::User(user)) = &r.target else {
            return Err(fail("a relocation that names no micro-kernel".into()));
        };
        relocs.push((r.offset, kind, *user, r.addend));
    }
    let bytes = code.code_buffer().to_vec();
    let notes = notes(code.buffer.get_srclocs_sorted(), bytes.len() as u32, reasons);
    let func = &ctx.func;
    let relocs = relocs
        .into_iter()
        .map(|(offset, kind, user, addend)| {
            let UserExternalName { index, .. } = func.params.user_named_funcs()[user];
            Reloc { offset, kind, symbol: symbols[index as usize].clone(), addend }
        })
        .collect();
    if bytes.len() <= KEPT_CODE {
        ctx.clear();
        CONTEXT.set(Some(ctx));
    }
    Ok(Function { name: name.into(), code_len: bytes.len(), bytes, relocs, notes })
}

/// Reasons by offset. Instructions without a source location are the allocator's moves and spills, which belong to what
/// follows them, and the frame before and after everything.
fn notes(locations: &[MachSrcLoc<Final>], len: u32, reasons: &[String]) -> Vec<Note> {
    let mut notes: Vec<Note> = vec![];
    let mut push = |offset: u32, text: &str| match notes.last_mut() {
        Some(last) if *last.text == *text => {}
        _ => notes.push(Note { offset, text: text.into() }),
    };
    let mut end = 0;
    for (loc, reason) in locations.iter().filter_map(|l| Some((l, reasons.get(l.loc.bits() as usize)?))) {
        if end == 0 {
            push(0, "frame");
            push(loc.start, reason);
        } else {
            push(end, reason);
        }
        end = loc.end;
    }
    if end < len {
        push(end, "frame");
    }
    notes
}
