//! Files that are cut off while they are mapped.
//!
//! Reading a page that a mapped file no longer has raises SIGBUS, which ends a process without a word. [`explain`] has the program
//! end with a message that names the file instead, and with the exit code of bad input. The same happens when the disk or the
//! server of a mapped file fails.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// The exit code: what was read is not as it must be.
const EXIT: c_int = 2;
/// The most bytes of a file's path that are shown.
const SHOWN: usize = 1024;

/// From now on, has the process say which file was cut off, and exit with 2.
pub fn explain() {
    // SAFETY: all bytes zero are a value of this type, with no flag and an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_bus_error as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the type that SA_SIGINFO asks for, lives as long as the process, and calls nothing but functions
    // that signal handlers may call. Should this fail, the process ends without a word as before.
    unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) };
}

/// Ends the process. Everything here is async-signal-safe: system calls and memory on the stack.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the system calls this with a valid description of the signal.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let mut path = Path { bytes: [0; SHOWN], len: 0 };
    if code == libc::BUS_ADRERR && find(address, &mut path) {
        say(b"\nerror: ");
        say(&path.bytes[..path.len]);
        say(b": it was cut off while it was used, or its disk failed: leave files as they are until kiln has ended\n");
        // SAFETY: `_exit` takes a number and does not return.
        unsafe { libc::_exit(EXIT) };
    }
    // Something else: what happens without a handler.
    // SAFETY: SIG_DFL is a disposition; `raise` takes a number. The signal is blocked until this function returns.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

fn say(text: &[u8]) {
    // SAFETY: the bytes are as many as said. Nobody may be listening.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// The beginning of a path.
struct Path {
    bytes: [u8; SHOWN],
    len: usize,
}

/// Finds the file that is mapped at an address, in the system's list of mappings.
fn find(address: usize, path: &mut Path) -> bool {
    // SAFETY: the path is a string with an end.
    let file = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return false;
    }
    let (mut search, mut buffer) = (Search::new(address), [0u8; 1024]);
    loop {
        // SAFETY: the buffer has as many bytes, and they are this function's.
        let read = unsafe { libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()) };
        let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else { return false };
        for byte in &buffer[..read] {
            if search.next(*byte, path) {
                return path.bytes[..path.len].starts_with(b"/");
            }
        }
    }
}

/// Reads lines such as `7f00-7f80 r--p 00000000 08:01 1234      /a/file`, byte by byte.
struct Search {
    address: usize,
    /// The number of the word, from 0: start, end, access, offset, device, inode, path.
    word: usize,
    start: usize,
    end: usize,
    in_gap: bool,
}

/// Which word of a line is the path.
const PATH: usize = 6;

impl Search {
    fn new(address: usize) -> Self {
        Search { address, word: 0, start: 0, end: 0, in_gap: false }
    }

    /// Takes a byte; true at the end of the line of the address, whose path then is in `path`.
    fn next(&mut self, byte: u8, path: &mut Path) -> bool {
        if byte == b'\n' {
            let found = (self.start..self.end).contains(&self.address);
            let address = self.address;
            *self = Search::new(address);
            if !found {
                path.len = 0;
            }
            return found;
        }
        match (self.word, byte) {
            (0, b'-') => self.word = 1,
            (0 | 1, digit) if digit.is_ascii_hexdigit() => {
                let number = if self.word == 0 { &mut self.start } else { &mut self.end };
                *number = number.wrapping_mul(16) + (digit as char).to_digit(16).unwrap_or(0) as usize;
            }
            (..PATH, b' ') => self.in_gap = true,
            (PATH, _) => path.push(byte),
            _ => {}
        }
        // A word begins behind a gap; the path may have gaps of its own.
        if self.in_gap && byte != b' ' {
            self.in_gap = false;
            self.word += 1;
            if self.word == PATH {
                path.push(byte);
            }
        }
        false
    }
}

impl Path {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;

    const LINES: &str = "00400000-0040c000 r-xp 00000000 08:01 131 /usr/bin/a file\n\
                         7f10-7f20 rw-p 00000000 00:00 0\n\
                         7f20-7f30 rw-p 00000000 00:00 0          [heap]\n\
                         7f30-7f40 r--s 00001000 08:01 99                         /data/x.weights (deleted)\n";

    fn found(address: usize) -> Option<String> {
        let (mut search, mut path) = (Search::new(address), Path { bytes: [0; SHOWN], len: 0 });
        LINES.bytes().find(|byte| search.next(*byte, &mut path)).map(|_| ())?;
        Some(String::from_utf8(path.bytes[..path.len].to_vec()).unwrap())
    }

    #[test]
    fn a_mapping_is_found_by_its_address() {
        assert_eq!(found(0x40_0000).as_deref(), Some("/usr/bin/a file"));
        assert_eq!(found(0x7f10).as_deref(), Some(""));
        assert_eq!(found(0x7f2f).as_deref(), Some("[heap]"));
        assert_eq!(found(0x7f30).as_deref(), Some("/data/x.weights (deleted)"));
        for nothing in [0, 0x3f_ffff, 0x7f0f, 0x7f40, usize::MAX] {
            assert_eq!(found(nothing), None, "{nothing:x}");
        }
    }

    /// The end of a process that reads what is not there, of a file or of nothing. In another process, since it ends.
    fn child(name: &str, kind: &str) -> std::process::Output {
        let runner = std::env::var("KILN_TEST_RUNNER").unwrap_or_default();
        let mut words: Vec<String> = runner.split_whitespace().map(str::to_owned).collect();
        words.push(std::env::current_exe().unwrap().to_str().unwrap().into());
        let name = format!("cut_off::tests::{name}");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["--exact", &name, "--nocapture"]).env(ASKED, kind).output().unwrap()
    }

    const ASKED: &str = "KILN_TEST_CUT_OFF";

    #[test]
    fn a_mapped_file_that_is_cut_off_ends_the_process_with_its_name() {
        const NAME: &str = "a_mapped_file_that_is_cut_off_ends_the_process_with_its_name";
        let Ok(kind) = std::env::var(ASKED) else {
            let cut = child(NAME, "cut");
            let message = String::from_utf8_lossy(&cut.stderr);
            assert_eq!(cut.status.code(), Some(2), "{message}");
            assert!(message.contains("kiln cut off.weights") && message.contains("error: /"), "{message}");
            assert!(message.contains("it was cut off while it was used"), "{message}");
            // A SIGBUS that is about no file ends the process as ever.
            let other = child(NAME, "other");
            assert!(!other.status.success() && other.status.code() != Some(2), "{:?}", other.status);
            assert!(!String::from_utf8_lossy(&other.stderr).contains("cut off"));
            return;
        };
        explain();
        if kind == "other" {
            // SAFETY: takes a number.
            unsafe { libc::raise(libc::SIGBUS) };
            return;
        }
        const BYTES: usize = 1 << 16;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kiln cut off.weights");
        std::fs::write(&path, vec![1; BYTES]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        // SAFETY: a new mapping where the system has room.
        let map = unsafe { libc::mmap(ptr::null_mut(), BYTES, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(map, libc::MAP_FAILED);
        let last = map.cast::<u8>().wrapping_add(BYTES - 1);
        // SAFETY: the byte is mapped.
        assert_eq!(unsafe { last.read_volatile() }, 1);
        file.set_len(100).unwrap();
        // SAFETY: the byte is mapped; that its page is gone is what the handler is for.
        let byte = unsafe { last.read_volatile() };
        panic!("a page that is not there holds {byte}");
    }
}
