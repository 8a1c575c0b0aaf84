use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const NAME: &str = "kiln matmul f32 128x768:768x3072 +bias+relu @x86-64-v3";
const OTHER: &str = "kiln ip bf16:f32 mb2ic3oc4, é @neoverse-v1";

fn profile(formats: &[Format], directory: &Path) -> Profile {
    Profile { outputs: formats.iter().map(|f| (*f, directory.to_owned())).collect() }
}

fn pointer(address: usize) -> *const u8 {
    std::ptr::without_provenance(address)
}

/// The only entry of a directory.
fn only(directory: &Path) -> PathBuf {
    let all: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [one] = &all[..] else { panic!("{all:?}") };
    one.clone()
}

fn dump_in(directory: &Path) -> PathBuf {
    only(&only(&directory.join(".debug/jit")))
}

/// A jitdump, read by offsets from the specification.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take(8).try_into().unwrap())
    }
}

#[derive(Debug, PartialEq)]
struct Load {
    thread: u32,
    address: u64,
    index: u64,
    name: String,
    code: Vec<u8>,
}

/// Loads in the order of the file, and whether it was closed. Checks what is the same in every file.
fn parse(file: &[u8]) -> (Vec<Load>, bool) {
    let process = std::process::id();
    let mut bytes = Bytes(file);
    assert_eq!((bytes.u32(), bytes.u32(), bytes.u32()), (0x4a69_5444, 1, 40), "magic, version, length");
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        other => panic!("{other}"),
    };
    assert_eq!((bytes.u32(), bytes.u32(), bytes.u32()), (machine, 0, process), "machine, padding, process");
    let mut time = bytes.u64();
    assert_eq!(bytes.u64(), 0, "flags");
    let (mut loads, mut closed) = (Vec::new(), false);
    while !bytes.0.is_empty() {
        assert!(!closed, "a record after the last");
        let (kind, length, when) = (bytes.u32(), bytes.u32(), bytes.u64());
        assert!(when >= time);
        time = when;
        let mut body = Bytes(bytes.take(length as usize - 16));
        match kind {
            0 => {
                assert_eq!(body.u32(), process);
                let thread = body.u32();
                let (runs, address, size, index) = (body.u64(), body.u64(), body.u64() as usize, body.u64());
                assert_eq!(runs, address);
                let end = body.0.iter().position(|byte| *byte == 0).unwrap();
                let name = String::from_utf8(body.take(end).to_vec()).unwrap();
                body.take(1);
                assert_eq!(body.0.len(), size);
                loads.push(Load { thread, address, index, name, code: body.0.to_vec() });
            }
            3 => {
                assert!(body.0.is_empty());
                closed = true;
            }
            other => panic!("record {other}"),
        }
    }
    (loads, closed)
}

#[test]
fn settings_are_the_bits_of_onednn() {
    let formats = |text: &str| Profile::parse(text, Path::new("d")).map(|p| p.outputs);
    let map = (Format::PerfMap, "/tmp".into());
    let dump = (Format::JitDump, "d".into());
    assert_eq!(formats("0"), Ok(vec![]));
    assert_eq!(formats("1"), Ok(vec![]), "VTune");
    assert_eq!(formats("2"), Ok(vec![map.clone()]));
    assert_eq!(formats("4"), Ok(vec![dump.clone()]));
    assert_eq!(formats(" 6 "), Ok(vec![map.clone(), dump.clone()]));
    assert_eq!(formats("7"), Ok(vec![map, dump]));
    for bad in ["", "8", "14", "-1", "perf", "0x2", "4294967296"] {
        let text = formats(bad).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("`{bad}` selects no profile: expected 0 (off), 2 (perf map), 4 (jitdump) or 6 (both)")
        );
    }
}

#[test]
fn perf_maps_are_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(format!("perf-{}.map", std::process::id()));
    fs::write(&path, "1000 10 another generator's\n").unwrap();
    let profile = profile(&[Format::PerfMap], directory.path());
    profile.record(NAME, pointer(0x7f00_1234_5000), &[0x90; 300]);
    profile.record("two\nlines", pointer(0xabc), &[0xc3]);
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text, format!("1000 10 another generator's\n7f0012345000 12c {NAME}\nabc 1 two lines\n"));
}

#[test]
fn links_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "").unwrap();
    std::os::unix::fs::symlink(&victim, directory.path().join(format!("perf-{}.map", std::process::id()))).unwrap();
    profile(&[Format::PerfMap], directory.path()).record(NAME, pointer(0x1000), &[0xc3]);
    assert_eq!(fs::read(victim).unwrap(), [0; 0]);
}

#[test]
fn a_jitdump_holds_names_addresses_and_code() {
    let directory = tempfile::tempdir().unwrap();
    let profile = profile(&[Format::PerfMap, Format::JitDump], directory.path());
    profile.record(NAME, pointer(0x7f00_1234_5000), &[1, 2, 0, 4]);
    let other = std::thread::spawn({
        // As another runtime of the process, with the same settings.
        let profile = profile.clone();
        move || {
            profile.record(OTHER, pointer(0x7f00_1234_5000), &[5; 5000]);
            thread()
        }
    });
    let threads = [thread(), other.join().unwrap()];
    assert_ne!(threads[0], threads[1]);
    let (loads, closed) = parse(&fs::read(dump_in(directory.path())).unwrap());
    let load = |index: usize, name: &str, code: &[u8]| Load {
        thread: threads[index],
        address: 0x7f00_1234_5000,
        index: index as u64,
        name: name.to_owned(),
        code: code.to_vec(),
    };
    assert_eq!(loads, [load(0, NAME, &[1, 2, 0, 4]), load(1, OTHER, &[5; 5000])]);
    assert!(!closed);
    assert!(directory.path().join(format!("perf-{}.map", std::process::id())).exists(), "both formats are written");
}

/// perf finds the file by its mapping.
#[test]
fn a_jitdump_is_mapped_once_and_executable() {
    let directory = tempfile::tempdir().unwrap();
    let profile = profile(&[Format::JitDump], directory.path());
    for address in [0x1000, 0x2000] {
        profile.record(NAME, pointer(address), &[0xc3]);
    }
    let path = dump_in(directory.path());
    let (file, parent) = (path.file_name().unwrap(), path.parent().unwrap().file_name().unwrap().to_str().unwrap());
    assert_eq!(file, &*format!("jit-{}.dump", std::process::id()));
    let [date, unique] = parent.strip_prefix("kiln-jit-").unwrap().split('-').collect::<Vec<_>>()[..] else { panic!() };
    assert!(date.len() == 8 && date.starts_with("20") && date.bytes().all(|b| b.is_ascii_digit()), "{parent}");
    assert!(unique.len() == 6 && unique != "XXXXXX", "{parent}");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let of_file: Vec<_> = maps.lines().filter(|line| line.ends_with(path.to_str().unwrap())).collect();
    assert!(matches!(of_file[..], [line] if line.contains(" r-xp 00000000 ")), "{of_file:?}");
}

#[test]
fn a_closed_jitdump_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut dump = JitDump::open(directory.path(), std::process::id()).unwrap();
    dump.record(NAME, pointer(0x1000), &[0xc3]).unwrap();
    dump.close().unwrap();
    let (loads, closed) = parse(&fs::read(dump_in(directory.path())).unwrap());
    assert_eq!((loads.len(), closed), (1, true));
}

#[test]
fn threads_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let profile = profile(&[Format::JitDump, Format::PerfMap], directory.path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let profile = &profile;
            scope.spawn(move || {
                for i in 0..50 {
                    let address = thread * 50 + i;
                    profile.record(&format!("kernel {address}"), pointer(address), &vec![thread as u8; i + 1]);
                }
            });
        }
    });
    let dump = fs::read_dir(directory.path().join(".debug/jit")).unwrap().next().unwrap().unwrap().path();
    let (mut loads, _) = parse(&fs::read(only(&dump)).unwrap());
    assert!(loads.iter().map(|l| l.index).eq(0..400));
    loads.sort_by_key(|l| l.address);
    for (address, load) in loads.iter().enumerate() {
        assert_eq!((load.address, &load.name), (address as u64, &format!("kernel {address}")));
        assert_eq!(load.code, vec![(address / 50) as u8; address % 50 + 1]);
    }
    let map = fs::read_to_string(directory.path().join(format!("perf-{}.map", std::process::id()))).unwrap();
    assert_eq!(map.lines().count(), 400);
}

/// A file in a directory's place: permissions would not stop a privileged user.
#[test]
fn a_directory_that_cannot_be_written_turns_the_profile_off() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let both = profile(&[Format::PerfMap, Format::JitDump], file.path());
    let (notices, strict) = (Notices::new(false, None, None), Notices::new(true, None, None));
    for _ in 0..2 {
        assert_eq!(both.record(NAME, pointer(0x1000), &[0xc3]).len(), 2);
        both.record_with(|| NAME.into(), pointer(0x1000), &[0xc3], &notices).unwrap();
        assert!(both.record_with(|| NAME.into(), pointer(0x1000), &[0xc3], &strict).is_err());
    }
    assert!(matches!(&notices.all()[..], [Notice::Profile { path, .. }] if path == file.path()), "{notices:?}");
    let files = FILES.lock().unwrap();
    for format in [Format::PerfMap, Format::JitDump] {
        let output = &files[&(std::process::id(), format, file.path().to_owned())];
        assert!(matches!(output, Output::Failed(_)), "{format:?}");
    }
}

#[test]
fn a_file_is_left_alone_after_a_failure() {
    struct Full(Arc<AtomicUsize>);
    impl Sink for Full {
        fn record(&mut self, _: &str, _: *const u8, _: &[u8]) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let attempts = Arc::new(AtomicUsize::new(0));
    let mut output = Output::Open(Box::new(Full(Arc::clone(&attempts))));
    for _ in 0..3 {
        assert_eq!(output.record(NAME, pointer(0x1000), &[0xc3]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}

/// Anybody can put something in the place of a file whose name can be guessed.
#[test]
fn nobody_is_waited_for_to_read_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join(format!("perf-{}.map", std::process::id()));
    let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the name is a string with an end.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert_eq!(profile(&[Format::PerfMap], directory.path()).record(NAME, pointer(0x1000), &[0xc3]).len(), 1);
    // With a reader it can be opened, and is no file all the same.
    let reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let e = PerfMap::open(directory.path(), std::process::id()).err().unwrap();
    assert!(e.to_string().contains("not a regular file"), "{e}");
    drop(reader);
}

#[test]
fn profiles_go_to_other_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Profile>();
}

fn thread() -> u32 {
    fs::read_link("/proc/thread-self").unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}
