//! Code and data on an AArch64 machine: mapped, guarded, called.

use std::arch::is_aarch64_feature_detected;
use std::ptr::null_mut;

/// What the machine has: the lanes of its SVE registers, and whether it has bf16 and i8mm.
pub fn features() -> (Option<u32>, bool) {
    const PR_SVE_GET_VL: i32 = 51;
    let sve = is_aarch64_feature_detected!("sve").then(|| {
        // SAFETY: the call reads a setting of the calling thread.
        let answer = unsafe { libc::prctl(PR_SVE_GET_VL) };
        (answer & 0xffff) as u32 / 4
    });
    (sve, is_aarch64_feature_detected!("bf16") && is_aarch64_feature_detected!("i8mm"))
}

/// Pages between two that cannot be touched.
pub struct Pages {
    base: *mut u8,
    inner: usize,
    page: usize,
}

impl Pages {
    /// At least `bytes` bytes that can be read and written.
    pub fn new(bytes: usize) -> Pages {
        // SAFETY: the call reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let inner = bytes.next_multiple_of(page).max(page);
        // SAFETY: a fresh mapping at an address of the system's choice aliases nothing.
        let base = unsafe {
            libc::mmap(null_mut(), inner + 2 * page, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        assert_ne!(base, libc::MAP_FAILED);
        let pages = Pages { base: base.cast(), inner, page };
        pages.protect(libc::PROT_READ | libc::PROT_WRITE);
        pages
    }

    fn protect(&self, access: i32) {
        // SAFETY: the range is inside this mapping, and nothing borrows from it now.
        let status = unsafe { libc::mprotect(self.base.add(self.page).cast(), self.inner, access) };
        assert_eq!(status, 0);
    }

    /// All that can be touched.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the range is mapped for reading and writing, initialised by the system, and borrowed from `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(self.page), self.inner) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own.
        unsafe { libc::munmap(self.base.cast(), self.inner + 2 * self.page) };
    }
}

/// Code that can be called.
pub struct Code(Pages);

impl Code {
    /// `bytes`, made executable.
    pub fn new(bytes: &[u8]) -> Code {
        let mut pages = Pages::new(bytes.len());
        pages.bytes()[..bytes.len()].copy_from_slice(bytes);
        // The range was never executed, so that no core has stale instructions for it; `mprotect` synchronises the caches
        // of emulators. What a core has in its data cache is cleaned here.
        let (start, end) = (pages.bytes().as_ptr() as usize, pages.bytes().as_ptr() as usize + bytes.len());
        for line in (start & !15..end).step_by(16) {
            // SAFETY: cache maintenance of mapped addresses changes no memory.
            unsafe { std::arch::asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb", in(reg) line) };
        }
        pages.protect(libc::PROT_READ | libc::PROT_EXEC);
        Code(pages)
    }

    /// Calls it with up to 8 pointers in registers, and checks that it preserves what it must.
    pub fn call(&self, pointers: &[*mut u8]) {
        let mut all = [null_mut::<u8>(); 8];
        all[..pointers.len()].copy_from_slice(pointers);
        // SAFETY: the code is a C function of at most 8 pointers, whose regions are mapped.
        let changed: u64 = unsafe {
            let changed: u64;
            std::arch::asm!(
                "sub sp, sp, #176",
                "stp x19, x20, [sp]", "stp x21, x22, [sp, #16]", "stp x23, x24, [sp, #32]",
                "stp x25, x26, [sp, #48]", "stp x27, x28, [sp, #64]",
                "stp x29, x30, [sp, #80]",
                "stp d8, d9, [sp, #96]", "stp d10, d11, [sp, #112]",
                "stp d12, d13, [sp, #128]", "stp d14, d15, [sp, #144]",
                "mov x19, #19", "mov x20, #20", "mov x21, #21", "mov x22, #22", "mov x23, #23",
                "mov x24, #24", "mov x25, #25", "mov x26, #26", "mov x27, #27", "mov x28, #28",
                "fmov d8, x19", "fmov d9, x20", "fmov d10, x21", "fmov d11, x22",
                "fmov d12, x23", "fmov d13, x24", "fmov d14, x25", "fmov d15, x26",
                "blr x9",
                // Sums of differences: 0 if nothing changed.
                "sub x8, x19, #19",
                "sub x9, x20, #20", "orr x8, x8, x9", "sub x9, x21, #21", "orr x8, x8, x9",
                "sub x9, x22, #22", "orr x8, x8, x9", "sub x9, x23, #23", "orr x8, x8, x9",
                "sub x9, x24, #24", "orr x8, x8, x9", "sub x9, x25, #25", "orr x8, x8, x9",
                "sub x9, x26, #26", "orr x8, x8, x9", "sub x9, x27, #27", "orr x8, x8, x9",
                "sub x9, x28, #28", "orr x8, x8, x9",
                "fmov x9, d8", "sub x9, x9, #19", "orr x8, x8, x9",
                "fmov x9, d9", "sub x9, x9, #20", "orr x8, x8, x9",
                "fmov x9, d10", "sub x9, x9, #21", "orr x8, x8, x9",
                "fmov x9, d11", "sub x9, x9, #22", "orr x8, x8, x9",
                "fmov x9, d12", "sub x9, x9, #23", "orr x8, x8, x9",
                "fmov x9, d13", "sub x9, x9, #24", "orr x8, x8, x9",
                "fmov x9, d14", "sub x9, x9, #25", "orr x8, x8, x9",
                "fmov x9, d15", "sub x9, x9, #26", "orr x8, x8, x9",
                "ldp x19, x20, [sp]", "ldp x21, x22, [sp, #16]", "ldp x23, x24, [sp, #32]",
                "ldp x25, x26, [sp, #48]", "ldp x27, x28, [sp, #64]",
                "ldp x29, x30, [sp, #80]",
                "ldp d8, d9, [sp, #96]", "ldp d10, d11, [sp, #112]",
                "ldp d12, d13, [sp, #128]", "ldp d14, d15, [sp, #144]",
                "add sp, sp, #176",
                inout("x0") all[0] => _, inout("x1") all[1] => _, inout("x2") all[2] => _, inout("x3") all[3] => _,
                inout("x4") all[4] => _, inout("x5") all[5] => _, inout("x6") all[6] => _, inout("x7") all[7] => _,
                inout("x9") self.0.base.add(self.0.page) => _, out("x8") changed,
                clobber_abi("C"),
            );
            changed
        };
        assert_eq!(changed, 0, "a register that the caller expects unchanged is not");
    }
}
