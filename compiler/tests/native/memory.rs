//! Memory between two inaccessible pages, and memory for code.

/// Which end of its pages a tensor touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Its first byte follows an inaccessible page.
    Start,
    /// An inaccessible page follows its last byte.
    End,
}

const PAGE: usize = 4096;
/// What bytes beside a tensor hold.
const MARK: u8 = 0xa7;

/// A tensor in pages of its own, with an inaccessible page on either side.
pub struct Guarded {
    base: *mut u8,
    bytes: usize,
    start: usize,
    len: usize,
}

impl Guarded {
    /// Memory that holds `data`.
    pub fn new(data: &[u8], placement: Placement) -> Self {
        let bytes = (data.len() + 64).next_multiple_of(PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which replaces none.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes + 2 * PAGE, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        // SAFETY: the byte lies inside the mapping just made.
        let base = unsafe { base.cast::<u8>().add(PAGE) };
        protect(base, bytes, libc::PROT_READ | libc::PROT_WRITE);
        let start = if placement == Placement::Start { 0 } else { bytes - data.len() };
        let mut guarded = Self { base, bytes, start, len: data.len() };
        guarded.all().fill(MARK);
        guarded.all()[start..start + data.len()].copy_from_slice(data);
        guarded
    }

    /// Memory that holds `code` and can be executed.
    pub fn code(code: &[u8]) -> Self {
        let guarded = Self::new(code, Placement::Start);
        protect(guarded.base, guarded.bytes, libc::PROT_READ | libc::PROT_EXEC);
        guarded
    }

    /// Its first byte.
    pub fn pointer(&mut self) -> *mut u8 {
        // SAFETY: the tensor lies inside the mapping.
        unsafe { self.base.add(self.start) }
    }

    /// What it holds now. Panics if something was stored beside it.
    pub fn contents(&mut self) -> Vec<u8> {
        let (start, end) = (self.start, self.start + self.len);
        let all = self.all();
        assert!(all[..start].iter().chain(&all[end..]).all(|b| *b == MARK), "a store beside the tensor");
        all[start..end].to_vec()
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: these bytes are accessible, initialised by the system and borrowed from `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.bytes) }
    }
}

fn protect(base: *mut u8, bytes: usize, protection: i32) {
    // SAFETY: whole pages of a mapping of this module, to which there are no references now.
    let status = unsafe { libc::mprotect(base.cast(), bytes, protection) };
    assert_eq!(status, 0, "mprotect: {}", std::io::Error::last_os_error());
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, whole; no slice outlives `self`.
        unsafe { libc::munmap(self.base.sub(PAGE).cast(), self.bytes + 2 * PAGE) };
    }
}
