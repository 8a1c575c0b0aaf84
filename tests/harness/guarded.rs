//! Memory between two inaccessible pages.

/// The end of its pages that a tensor touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Its first byte follows an inaccessible page: an access before it faults.
    Start,
    /// An inaccessible page follows its last byte: an access past it faults.
    End,
}

/// Bytes beside a tensor, on the side without an inaccessible page, that are checked for stores.
const MARGIN: usize = 1024;
/// The bytes of the margin; as f32 a NaN that no arithmetic makes.
const MARK: [u8; 4] = 0x7fab_cdef_u32.to_le_bytes();
/// The bytes of a tensor at first: a NaN of every type.
const NAN: u8 = 0xff;

/// Pages with an inaccessible page on either side.
pub struct Guarded {
    base: *mut u8,
    /// Accessible bytes, whole pages.
    bytes: usize,
    page: usize,
    /// Index of the tensor's first byte, and its length.
    tensor: (usize, usize),
}

impl Guarded {
    /// Room for `len` bytes.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn new(len: usize) -> Self {
        // SAFETY: no argument is a pointer.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = (len + MARGIN).next_multiple_of(page);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which replaces none.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes + 2 * page, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        let base = base.cast::<u8>();
        // SAFETY: the range lies inside the mapping just made, which nothing refers to yet.
        let status = unsafe { libc::mprotect(base.add(page).cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(status, 0, "mprotect: {}", std::io::Error::last_os_error());
        Self { base, bytes, page, tensor: (0, 0) }
    }

    /// A tensor of `len` bytes at one end, every element a NaN. More pages are taken if these are too few.
    pub fn place(&mut self, len: usize, placement: Placement) -> &mut [u8] {
        if len + MARGIN > self.bytes {
            *self = Self::new(len.next_power_of_two());
        }
        let start = match placement {
            Placement::Start => 0,
            Placement::End => self.bytes - len,
        };
        self.tensor = (start, len);
        let margin = self.margin();
        self.all()[margin].chunks_exact_mut(4).for_each(|word| word.copy_from_slice(&MARK));
        let tensor = self.tensor();
        tensor.fill(NAN);
        tensor
    }

    /// The tensor last [placed](Self::place).
    pub fn tensor(&mut self) -> &mut [u8] {
        let (start, len) = self.tensor;
        &mut self.all()[start..start + len]
    }

    /// True if nothing was stored beside the tensor.
    pub fn margin_is_intact(&mut self) -> bool {
        let margin = self.margin();
        self.all()[margin].chunks_exact(4).all(|word| word == MARK)
    }

    fn margin(&self) -> std::ops::Range<usize> {
        match self.tensor {
            (0, len) => len..len + MARGIN,
            (start, _) => start - MARGIN..start,
        }
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: these bytes are accessible, zeroed by the system and borrowed from `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(self.page), self.bytes) }
    }
}

/// Rows of a matrix, each alone on a page between inaccessible ones.
pub struct GuardedRows {
    base: *mut u8,
    rows: usize,
    row_bytes: usize,
    /// Bytes from the start of a page to the row in it.
    start: usize,
    page: usize,
}

impl GuardedRows {
    /// `rows` of `row_bytes`, at most a page, at one end of their pages; every byte a NaN.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn new(rows: usize, row_bytes: usize, placement: Placement) -> Self {
        // SAFETY: no argument is a pointer.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        assert!(rows > 0 && (1..=page).contains(&row_bytes), "{rows} rows of {row_bytes} bytes on pages of {page}");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let bytes = (2 * rows + 1) * page;
        // SAFETY: a new mapping, which replaces none.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        let start = if placement == Placement::Start { 0 } else { page - row_bytes };
        let mut all = Self { base: base.cast(), rows, row_bytes, start, page };
        for row in 0..rows {
            // SAFETY: the page lies inside the mapping just made, which nothing refers to yet.
            let status = unsafe { libc::mprotect(all.page_of(row).cast(), page, libc::PROT_READ | libc::PROT_WRITE) };
            assert_eq!(status, 0, "mprotect: {}", std::io::Error::last_os_error());
            all.whole_page(row).fill(NAN);
        }
        all
    }

    /// Bytes from one row to the next.
    pub fn pitch(&self) -> usize {
        2 * self.page
    }

    /// The first row's first byte; the others are a [pitch](Self::pitch) apart.
    pub fn first(&mut self) -> *mut u8 {
        self.page_of(0).wrapping_add(self.start)
    }

    /// A row.
    pub fn row(&mut self, row: usize) -> &mut [u8] {
        let place = self.start..self.start + self.row_bytes;
        &mut self.whole_page(row)[place]
    }

    /// True if nothing was stored beside the rows.
    pub fn margins_are_intact(&mut self) -> bool {
        let (start, end) = (self.start, self.start + self.row_bytes);
        (0..self.rows).all(|row| {
            let page = self.whole_page(row);
            page[..start].iter().chain(&page[end..]).all(|byte| *byte == NAN)
        })
    }

    fn page_of(&self, row: usize) -> *mut u8 {
        self.base.wrapping_add((2 * row + 1) * self.page)
    }

    fn whole_page(&mut self, row: usize) -> &mut [u8] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the page is accessible, was zeroed by the system and is borrowed from `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.page_of(row), self.page) }
    }
}

impl Drop for GuardedRows {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, whole; no slice outlives `self`.
        unsafe { libc::munmap(self.base.cast(), (2 * self.rows + 1) * self.page) };
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, whole; no slice outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.bytes + 2 * self.page) };
    }
}

// SAFETY: the memory is owned, and reached through `&mut self` only.
unsafe impl Send for Guarded {}
