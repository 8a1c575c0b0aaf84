use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime};

use kiln_compiler::{Options, compile};
use tempfile::TempDir;

use super::*;
use crate::pack::tests::{files, key, packages, set_age, v1, with_manifest};

fn cache(folder: &Path) -> DiskCache {
    DiskCache::new(folder, Trust::Checked, v1(), u64::MAX).unwrap()
}

fn notices() -> Notices {
    Notices::new(false, None, None)
}

/// The package that the cache has for a package's key.
fn get(cache: &DiskCache, package: &Package) -> Option<Package> {
    cache.get(&key(package), &cache.name(&key(package)), &notices()).unwrap()
}

fn put(cache: &DiskCache, package: &Package) {
    cache.put(&cache.name(&key(package)), package, &notices()).unwrap();
}

/// The files of kernels.
fn kernels(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|file| file.extension().is_some_and(|e| e == KERNEL)).collect()
}

#[test]
fn caches_share_a_directory() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("a/b");
    let (one, two) = (cache(&below), cache(&below));
    let [package, other] = &packages(&v1(), &["matmul f32 2x4:4x8", "matmul f32 2x4:4x9"])[..] else { unreachable!() };
    assert!(get(&two, package).is_none());
    put(&one, package);
    put(&two, package);
    let found = get(&two, package).unwrap();
    assert_eq!((found.facts(), found.image()), (package.facts(), package.image()));
    assert!(get(&two, other).is_none());
    assert_eq!(files(&below).len(), 2, "a key and a kernel");
    for file in files(&below) {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let for_another = DiskCache::new(&below, Trust::Vouched, "neoverse-n1".parse().unwrap(), u64::MAX).unwrap();
    assert!(get(&for_another, package).is_none(), "the target is part of the name");
}

#[test]
fn files_that_are_not_sealed_by_the_key_are_told_of_and_removed() {
    let folder = TempDir::new().unwrap();
    let cache = cache(folder.path());
    let [package, other] = &packages(&v1(), &["matmul f32 2x4:4x8", "matmul f32 2x4:4x9"])[..] else { unreachable!() };
    put(&cache, package);
    let (file, good) = (kernels(folder.path()).remove(0), to_bytes(&v1(), [package]));
    let sealed = fs::read(&file).unwrap();
    assert_eq!(sealed, cache.key.seal(good.clone()));
    let elsewhere = TempDir::new().unwrap();
    put(&super::tests::cache(elsewhere.path()), package);
    let of_another_key = fs::read(kernels(elsewhere.path()).remove(0)).unwrap();
    let mut flipped = sealed.clone();
    flipped[good.len() / 2] ^= 1;
    let contradicts = with_manifest(&good, "\"tasks\":1", "\"tasks\":0");
    let seal = |pack: Vec<u8>| cache.key.seal(pack);
    for (bytes, why) in [
        // As `pack::write` writes it, and anybody else can.
        (good.clone(), "not sealed"),
        (of_another_key, "not sealed"),
        (flipped, "not sealed"),
        (sealed[..sealed.len() - 1].to_vec(), "not sealed"),
        (vec![], "not sealed"),
        // Sealed by a program that has the key, which this is not.
        (seal(good[..good.len() / 2].to_vec()), "bytes of"),
        (seal(to_bytes(&v1(), [other])), "another kernel"),
        (seal(contradicts), "nothing for it to do"),
    ] {
        fs::write(&file, bytes).unwrap();
        let (notices, strict) = (notices(), Notices::new(true, None, None));
        let get = |notices| cache.get(&key(package), &cache.name(&key(package)), notices);
        let e = get(&strict).unwrap_err();
        assert!(
            e.to_string().contains(why) && file.exists(),
            "with strict settings it is an error until it is removed: {e}"
        );
        assert!(get(&notices).unwrap().is_none() && get(&notices).unwrap().is_none());
        let [Notice::CachedKernel { path, error }] = &notices.all()[..] else { panic!("{notices:?}") };
        assert!(*path == file && error.to_string().contains(why), "{why}: {error}");
        assert!(!file.exists(), "it is gone");
    }
    // Neither a link nor a pipe is opened.
    symlink(elsewhere.path().join("key"), &file).unwrap();
    assert!(get(&cache, package).is_none() && !file.is_symlink());
}

#[test]
fn a_key_is_a_secret_of_32_bytes() {
    let folder = TempDir::new().unwrap();
    let (key, package) = (folder.path().join("key"), &packages(&v1(), &["matmul f32 2x4:4x8"])[0]);
    put(&cache(folder.path()), package);
    let good = fs::read(&key).unwrap();
    assert_eq!(good.len(), 32);
    assert!(get(&cache(folder.path()), package).is_some());
    let refusal = || DiskCache::new(folder.path(), Trust::Vouched, v1(), u64::MAX).unwrap_err().to_string();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal().contains("others than this user may read or write it: remove it"), "{}", refusal());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, &good[1..]).unwrap();
    assert!(refusal().contains("no key of 32 bytes; remove it"), "{}", refusal());
    fs::remove_file(&key).unwrap();
    symlink("/etc/hostname", &key).unwrap();
    assert!(refusal().contains("cannot be used"), "{}", refusal());
    fs::remove_file(&key).unwrap();
    // Another key: kernels of before are no good.
    assert!(get(&cache(folder.path()), package).is_none());
}

/// A directory for a test below `/tmp`, where others have theirs.
fn folder() -> TempDir {
    TempDir::new().unwrap()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn checked(path: &Path) -> Result<Folder, CacheDirError> {
    Folder::open_private(path)
}

#[test]
fn a_directory_is_private_or_refused() {
    let top = folder();
    let path = |name: &str| top.path().join(name);
    checked(&path("new/one")).unwrap();
    for made in ["new", "new/one"] {
        assert_eq!(fs::metadata(path(made)).unwrap().permissions().mode() & 0o777, 0o700, "{made}");
    }
    // Others may write to it.
    for mode in [0o777, 0o770, 0o702, 0o1777] {
        chmod(&path("new/one"), mode);
        let e = checked(&path("new/one")).unwrap_err();
        assert!(matches!(&e, CacheDirError::Mode { path: p, mode: m } if *p == path("new/one") && *m == mode), "{e}");
        assert!(e.to_string().contains("`chmod go-w` this one"), "{e}");
    }
    // Or to a directory that it is in, and so put another in its place. In a sticky one they cannot.
    chmod(&path("new/one"), 0o755);
    chmod(&path("new"), 0o775);
    let e = checked(&path("new/one")).unwrap_err();
    assert!(matches!(&e, CacheDirError::Mode { path: p, mode: 0o775 } if *p == path("new")), "{e}");
    chmod(&path("new"), 0o1777);
    checked(&path("new/one")).unwrap();
    // A link, or something else.
    symlink(path("new/one"), path("link")).unwrap();
    assert!(matches!(checked(&path("link")), Err(CacheDirError::Link)));
    assert!(matches!(checked(&path("link/.")), Err(CacheDirError::Link)));
    fs::write(path("file"), "").unwrap();
    assert!(matches!(checked(&path("file")), Err(CacheDirError::Open(_))));
    assert!(matches!(checked(&path("file/below")), Err(CacheDirError::Open(_))));
    // Links of this user's on the way are followed, and what they lead to is looked at.
    symlink("new", path("way")).unwrap();
    symlink(path("way"), path("longer")).unwrap();
    checked(&path("longer/../way/one")).unwrap();
    chmod(&path("new"), 0o775);
    let e = checked(&path("longer/one")).unwrap_err();
    assert!(matches!(&e, CacheDirError::Mode { path: p, .. } if *p == path("new")), "{e}");
    symlink("circle", path("circle")).unwrap();
    assert!(checked(&path("circle/one")).unwrap_err().to_string().contains("symbolic links"));
    assert!(matches!(checked(Path::new("/proc/kiln")), Err(CacheDirError::Open(_))));
}

/// Directories and links of other users: only root can make such.
#[test]
fn a_directory_belongs_to_its_user() {
    if !rustix::process::geteuid().is_root() {
        // Somebody else's, then.
        let e = checked(Path::new("/")).unwrap_err();
        assert!(matches!(&e, CacheDirError::Owner { owner: 0, .. }), "{e}");
        return;
    }
    const OTHER: u32 = 12_345;
    let top = folder();
    let path = |name: &str| top.path().join(name);
    fs::create_dir_all(path("theirs/mine")).unwrap();
    let give = |name: &str| std::os::unix::fs::lchown(path(name), Some(OTHER), None).unwrap();
    give("theirs");
    for name in ["theirs", "theirs/mine"] {
        let e = checked(&path(name)).unwrap_err();
        assert!(matches!(&e, CacheDirError::Owner { path: p, owner: OTHER, user: 0 } if *p == path("theirs")), "{e}");
        assert!(e.to_string().contains("belongs to user 12345"), "{e}");
    }
    fs::create_dir_all(path("mine/cache")).unwrap();
    symlink("mine", path("link")).unwrap();
    checked(&path("link/cache")).unwrap();
    give("link");
    let e = checked(&path("link/cache")).unwrap_err();
    assert!(matches!(&e, CacheDirError::Owner { path: p, .. } if *p == path("link")), "{e}");
}

/// Whoever puts another directory in the place of one that is open changes nothing.
#[test]
fn a_directory_is_opened_once() {
    let top = folder();
    let (path, aside) = (top.path().join("cache"), top.path().join("aside"));
    let cache = cache(&path);
    let package = &packages(&v1(), &["matmul f32 2x4:4x8"])[0];
    put(&cache, package);
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(get(&cache, package).is_some());
    put(&cache, package);
    assert_eq!((files(&path).len(), files(&aside).len()), (0, 2));
}

#[test]
fn directories_that_cannot_be_used_are_refused_and_one_failure_is_no_reason_to_give_up() {
    let folder = folder();
    let [package] = &packages(&v1(), &["matmul f32 2x4:4x8"])[..] else { unreachable!() };
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    // Tests may run as root, to whom every directory is writable: these are not for other reasons.
    for bad in [file.join("below"), file, "/proc/kiln".into()] {
        for trust in [Trust::Vouched, Trust::Checked] {
            assert!(matches!(DiskCache::new(&bad, trust, v1(), u64::MAX), Err(CacheDirError::Open(_))), "{bad:?}");
        }
    }
    let path = folder.path().join("gone");
    let cache = cache(&path);
    let (name, notices) = (cache.name(&key(package)), notices());
    put(&cache, package);
    fs::remove_dir_all(&path).unwrap();
    assert!(get(&cache, package).is_none());
    for _ in 1..MAX_FAILURES {
        cache.put(&name, package, &notices).unwrap();
    }
    assert!(notices.all().is_empty(), "somebody may be cleaning up");
    for _ in 0..3 {
        cache.put(&name, package, &notices).unwrap();
    }
    assert!(matches!(&notices.all()[..], [Notice::CacheWrite { path: p, .. }] if *p == path), "{notices:?}");
    let strict = Notices::new(true, None, None);
    let again = super::tests::cache(&path);
    fs::remove_dir_all(&path).unwrap();
    assert!(again.put(&name, package, &strict).is_err());
}

#[test]
fn the_oldest_files_go() {
    let folder = folder();
    let all = packages(&v1(), &["matmul f32 2x4:4x8", "matmul f32 2x4:4x9", "matmul f32 2x4:4x10"]);
    let unlimited = cache(folder.path());
    put(&unlimited, &all[1]);
    let oldest = kernels(folder.path()).remove(0);
    all.iter().step_by(2).for_each(|p| put(&unlimited, p));
    let size: u64 = kernels(folder.path()).iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    set_age(&oldest, 5000);
    let foreign = folder.path().join("README");
    fs::write(&foreign, vec![0; 1 << 16]).unwrap();
    set_age(&foreign, 9000);
    let limited = DiskCache::new(folder.path(), Trust::Checked, v1(), size - 1).unwrap();
    assert!(!oldest.exists() && foreign.exists());
    let found: Vec<bool> = all.iter().map(|p| get(&limited, p).is_some()).collect();
    assert_eq!(found, [true, false, true]);
    DiskCache::new(folder.path(), Trust::Checked, v1(), 0).unwrap();
    assert_eq!(files(folder.path()), [foreign, folder.path().join("key")]);
}

#[test]
fn what_dead_processes_left_is_removed() {
    let folder = folder();
    let made = |name: &str, age| {
        let path = folder.path().join(name);
        fs::write(&path, "").unwrap();
        set_age(&path, age);
        path
    };
    let draft = |name: &str, age| made(&format!("{TEMPORARY}{name}"), age);
    let gone = [draft("old", 3600), made("old.lock", 3600)];
    // Somebody may still use them. The clock of another machine may be ahead.
    let stay = [draft("new", 0), made("new.lock", 0)];
    let ahead = folder.path().join("ahead.lock");
    fs::write(&ahead, "").unwrap();
    fs::File::options().write(true).open(&ahead).unwrap().set_modified(SystemTime::now() + 2 * ABANDONED).unwrap();
    cache(folder.path());
    assert!(gone.iter().all(|file| !file.exists()) && stay.iter().chain([&ahead]).all(|file| file.exists()));
}

const PROBLEM: &str = "matmul f32 2x4:4x8";

/// A process that holds the lock of [`PROBLEM`], or that compiles what it finds no file of: one of this file's tests, asked to be.
fn child(test: &str, role: &str, folder: &Path) -> Child {
    let runner = std::env::var("KILN_TEST_RUNNER").unwrap_or_default();
    let mut words: Vec<String> = runner.split_whitespace().map(str::to_owned).collect();
    words.push(std::env::current_exe().unwrap().to_str().unwrap().into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args([
        "--exact",
        &format!("pack::disk::tests::{test}"),
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(ROLE, role).env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

const ROLE: &str = "KILN_TEST_ROLE";
const FOLDER: &str = "KILN_TEST_FOLDER";

/// The part that the environment asks this process to play, with its cache.
fn role() -> Option<(String, DiskCache)> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    Some((std::env::var(ROLE).ok()?, cache(&folder)))
}

/// Waits for a file that a child makes.
fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Gets a kernel and tells how many were compiled for that.
fn compile_or_find(cache: &DiskCache, text: &str, notices: &Notices) -> usize {
    let (problem, options) = (text.parse().unwrap(), Options::default());
    let mut compiled = 0;
    let make = || {
        compiled += 1;
        // As slow as a large kernel, or an emulator: others have time to come.
        std::thread::sleep(Duration::from_millis(20));
        Ok(Package::of(&compile(&problem, &v1(), &options).unwrap(), &options))
    };
    let key = Key { problem: problem.clone(), options: options.clone() };
    let cached = cache.get_or_make(&key, notices, make).unwrap();
    assert_eq!(cached.package.facts().problem, problem);
    assert_eq!(cached.is_found, compiled == 0);
    compiled
}

#[test]
fn processes_that_share_a_directory_compile_each_kernel_once() {
    const NAME: &str = "processes_that_share_a_directory_compile_each_kernel_once";
    const PROCESSES: usize = 4;
    const KERNELS: usize = 25;
    if let Some((_, cache)) = role() {
        // Together, as soon as all are there.
        fs::write(cache.path(&format!("ready-{}", std::process::id())), "").unwrap();
        wait_for(&cache.path("go"));
        let notices = notices();
        let compiled = |n| compile_or_find(&cache, &format!("matmul f32 2x4:4x{}", n + 1), &notices);
        println!("\ncompiled {}", (0..KERNELS).map(compiled).sum::<usize>());
        assert!(notices.all().is_empty(), "{notices:?}");
        return;
    }
    let folder = folder();
    let children: Vec<Child> = (0..PROCESSES).map(|_| child(NAME, "compile", folder.path())).collect();
    let start = Instant::now();
    let ready = || files(folder.path()).iter().filter(|file| file.to_str().unwrap().contains("ready-")).count();
    while ready() < PROCESSES && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::write(folder.path().join("go"), "").unwrap();
    let compiled = |child: Child| {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("compiled ")?.parse::<usize>().ok());
        count.unwrap_or_else(|| panic!("{}: {text}", output.status))
    };
    let counts: Vec<usize> = children.into_iter().map(compiled).collect();
    assert_eq!(counts.iter().sum::<usize>(), KERNELS, "{counts:?}");
    let locks = files(folder.path()).into_iter().filter(|file| is_lock(file)).count();
    assert_eq!((kernels(folder.path()).len(), locks), (KERNELS, 0));
}

/// Has a child hold the lock of [`PROBLEM`], until it is killed.
fn holder(test: &str, folder: &Path) -> Child {
    let child = child(test, "hold", folder);
    wait_for(&folder.join("held"));
    child
}

fn hold(cache: &DiskCache) -> ! {
    let key = Key { problem: PROBLEM.parse().unwrap(), options: Options::default() };
    let turn = cache.take_turn(&cache.name(&key), &notices()).unwrap();
    assert!(turn.is_some());
    fs::write(cache.path("held"), "").unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_process_that_is_killed_holds_nobody_up() {
    if let Some((_, cache)) = role() {
        hold(&cache);
    }
    let folder = folder();
    let mut holder = holder("a_process_that_is_killed_holds_nobody_up", folder.path());
    let (cache, notices) = (cache(folder.path()), notices());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| compile_or_find(&cache, PROBLEM, &notices));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished(), "it waits for the other process");
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
    assert!(notices.all().is_empty(), "{notices:?}");
    assert_eq!(compile_or_find(&cache, PROBLEM, &notices), 0);
    assert!(!files(folder.path()).iter().any(|file| is_lock(file)), "the lock that was left is gone");
}

#[test]
fn a_process_that_hangs_is_waited_for_once() {
    if let Some((_, cache)) = role() {
        hold(&cache);
    }
    let folder = folder();
    let mut holder = holder("a_process_that_hangs_is_waited_for_once", folder.path());
    let (cache, notices) = (cache(folder.path()), notices());
    let start = Instant::now();
    assert_eq!(compile_or_find(&cache, PROBLEM, &notices), 1);
    let waited = start.elapsed();
    assert!(waited >= PATIENCE && waited < 4 * PATIENCE, "{waited:?}");
    let [Notice::CacheLock { path }] = &notices.all()[..] else { panic!("{notices:?}") };
    assert!(is_lock(path) && path.exists());
    // It is in the directory now, whoever holds what. Should it go, nobody is waited for any more.
    assert_eq!(compile_or_find(&cache, PROBLEM, &notices), 0);
    fs::remove_file(kernels(folder.path()).remove(0)).unwrap();
    let start = Instant::now();
    assert_eq!(compile_or_find(&cache, PROBLEM, &notices), 1);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    holder.kill().unwrap();
    holder.wait().unwrap();
}
