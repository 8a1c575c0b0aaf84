//! One image of machine code, loaded.

use std::sync::{Arc, Mutex, PoisonError};

use cranelift_codegen::ir::Signature;
use cranelift_codegen::isa::CallConv;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, ModuleError};

use super::coherence::{self, Synchronisation};
use super::{CodeMemoryError, CodePool, PoolMemory};

/// Position-independent code in executable memory. Its pages go back to the pool when it is dropped, so whoever calls the
/// code must keep it alive meanwhile.
pub struct LoadedCode {
    /// `Some` until drop. The module is `Send` and not `Sync`; the lock is never contended, it makes this type `Sync`.
    module: Mutex<Option<JITModule>>,
    /// As a function pointer, which can go to other threads. It is never called as this type.
    entry: unsafe extern "C" fn(),
    bytes: usize,
    resident: usize,
    synchronisation: Synchronisation,
}

impl LoadedCode {
    /// Copies `image` into executable memory, at a multiple of `align` (a power of two up to the page size).
    ///
    /// The image is used as it is: it must not need relocation. `name` is what profilers see.
    pub fn publish(pool: &Arc<CodePool>, image: &[u8], name: &str, align: u64) -> Result<LoadedCode, CodeMemoryError> {
        if image.is_empty() {
            return Err(CodeMemoryError::Empty);
        }
        // Checked here too: Cranelift raises small alignments, also wrong ones, to the architecture's.
        pool.alignment(align)?;
        let mut builder = JITBuilder::with_isa(Arc::clone(&pool.isa), cranelift_module::default_libcall_names());
        builder.memory_provider(Box::new(PoolMemory::new(Arc::clone(pool))));
        let mut module = JITModule::new(builder);
        let entry = match define(&mut module, image, name, align) {
            Ok(entry) => entry,
            Err(e) => {
                // SAFETY: no pointer into the module's code has left this function.
                unsafe { module.free_memory() };
                return Err(e);
            }
        };
        Ok(LoadedCode {
            // SAFETY: the pointer is not null: it points to the image in the module's memory. A function pointer has
            // the size of a data pointer on the architectures there is code for, and is not called as this type.
            entry: unsafe { std::mem::transmute::<*const u8, unsafe extern "C" fn()>(entry) },
            module: Mutex::new(Some(module)),
            bytes: image.len(),
            resident: image.len().next_multiple_of(pool.page_size()),
            synchronisation: pool.synchronisation,
        })
    }

    /// The first byte of the image, to be cast to the function's type. Valid while `self` lives.
    ///
    /// Ask for it before each call, on the thread that calls: where the kernel cannot make other threads see new code,
    /// this does it for the calling thread.
    #[inline]
    pub fn entry(&self) -> *const u8 {
        if self.synchronisation == Synchronisation::OnCall {
            coherence::synchronise_this_core();
        }
        self.entry as *const u8
    }

    /// The length of the image.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory the image occupies: whole pages.
    pub fn resident_bytes(&self) -> usize {
        self.resident
    }
}

fn define(module: &mut JITModule, image: &[u8], name: &str, align: u64) -> Result<*const u8, CodeMemoryError> {
    // Nothing in the module calls the function, so its signature says nothing.
    let function =
        module.declare_function(name, Linkage::Local, &Signature::new(CallConv::SystemV)).map_err(own_error)?;
    module.define_function_bytes(function, align, image, &[]).map_err(own_error)?;
    module.finalize_definitions().map_err(own_error)?;
    Ok(module.get_finalized_function(function))
}

/// Finds the error of [`PoolMemory`] inside Cranelift's, which carries it through `io::Error` or `anyhow::Error`.
fn own_error(error: ModuleError) -> CodeMemoryError {
    let other = match error {
        ModuleError::Allocation { err } => match err.downcast::<CodeMemoryError>() {
            Ok(own) => return own,
            Err(err) => ModuleError::Allocation { err },
        },
        ModuleError::Backend(err) => match err.downcast::<CodeMemoryError>() {
            Ok(own) => return own,
            Err(err) => ModuleError::Backend(err),
        },
        other => other,
    };
    CodeMemoryError::Module(Box::new(other))
}

impl Drop for LoadedCode {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(module) = module {
            // SAFETY: callers of the code keep `self` alive (see the type), so nobody runs or will call it.
            unsafe { module.free_memory() };
        }
    }
}

impl std::fmt::Debug for LoadedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedCode").field("entry", &self.entry).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
