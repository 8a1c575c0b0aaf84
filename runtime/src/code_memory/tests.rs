use std::collections::VecDeque;

use super::*;

/// Machine code of a function that returns `value`.
fn returns(value: u16) -> Vec<u8> {
    if cfg!(target_arch = "x86_64") {
        // mov eax, imm32; ret
        let mut code = vec![0xb8];
        code.extend(u32::from(value).to_le_bytes());
        code.push(0xc3);
        code
    } else {
        // movz w0, #imm16; ret
        [0x5280_0000 | u32::from(value) << 5, 0xd65f_03c0_u32].iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

fn load(pool: &Arc<CodePool>, value: u16) -> LoadedCode {
    LoadedCode::publish(pool, &returns(value)).unwrap()
}

fn call(code: &LoadedCode) -> u32 {
    // SAFETY: every image these tests call is made by `returns`, and `code` is alive.
    let function = unsafe { std::mem::transmute::<*const u8, extern "C" fn() -> u32>(code.entry()) };
    function()
}

/// The access of the mapping that holds `address`, as in `/proc/self/maps`: `r-xp`.
fn access(address: *const u8) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let line = maps.lines().find(|line| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        (hex(start)..hex(end)).contains(&address.addr())
    });
    line.unwrap_or_else(|| panic!("{address:?} is not mapped")).split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn thousands_of_functions_in_a_window_use_bounded_memory() {
    let pool = CodePool::new().unwrap();
    let mut window = VecDeque::new();
    for value in 0..5_000 {
        window.push_back((value, load(&pool, value)));
        if window.len() > 64 {
            window.pop_front();
        }
        let (oldest, code) = &window[0];
        assert_eq!(call(code), u32::from(*oldest));
        assert_eq!(call(&window.back().unwrap().1), u32::from(value));
    }
    let stats = pool.stats();
    assert_eq!(stats.live, 64 * pool.page_size());
    assert_eq!(stats.peak, 65 * pool.page_size());
    assert_eq!(stats.reserved, (65 * pool.page_size()).next_multiple_of(CHUNK));
    drop(window);
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn threads_publish_call_and_free_concurrently() {
    let pool = CodePool::new().unwrap();
    let shared = load(&pool, 4_242);
    std::thread::scope(|scope| {
        for thread in 0..4_u16 {
            let (pool, shared) = (&pool, &shared);
            scope.spawn(move || {
                let mut window = VecDeque::new();
                for i in 0..500 {
                    let value = thread * 1_000 + i;
                    window.push_back((value, load(pool, value)));
                    if window.len() > 8 {
                        window.pop_front();
                    }
                    for (value, code) in &window {
                        assert_eq!(call(code), u32::from(*value));
                    }
                    assert_eq!(call(shared), 4_242);
                }
            });
        }
    });
    assert_eq!(pool.stats().live, shared.resident_bytes());
}

/// Code written where other code ran, called from a thread that ran the old code: the case that stale instructions break.
/// Emulators cannot fail it; hardware can.
#[test]
fn rewritten_addresses_run_the_new_code_on_another_thread() {
    let pool = CodePool::new().unwrap();
    let (send, receive) = std::sync::mpsc::sync_channel::<(LoadedCode, u16)>(0);
    let (done, wait) = std::sync::mpsc::sync_channel::<usize>(0);
    let caller = std::thread::spawn(move || {
        for (code, value) in receive {
            assert_eq!(call(&code), u32::from(value));
            let address = code.entry().addr();
            drop(code);
            done.send(address).unwrap();
        }
    });
    let mut addresses = std::collections::HashSet::new();
    for value in 0..2_000 {
        send.send((load(&pool, value), value)).unwrap();
        addresses.insert(wait.recv().unwrap());
    }
    drop(send);
    caller.join().unwrap();
    assert_eq!(addresses.len(), 1, "the same page was used each time");
}

/// As on a kernel without membarrier: each call synchronises the calling thread.
#[test]
fn code_can_be_synchronised_on_call() {
    let mut pool = CodePool::new().unwrap();
    Arc::get_mut(&mut pool).unwrap().synchronisation = Synchronisation::OnCall;
    for value in 0..100 {
        let code = load(&pool, value);
        std::thread::scope(|scope| scope.spawn(|| assert_eq!(call(&code), u32::from(value))).join().unwrap());
    }
}

#[test]
fn pages_are_never_writable_and_executable() {
    let pool = CodePool::new().unwrap();
    let code = load(&pool, 3);
    let address = code.entry();
    assert_eq!(access(address), "r-xp");
    let fresh = pool.take(1).unwrap();
    assert_eq!(access(fresh.base.as_ptr()), "rw-p");
    pool.release(fresh);
    drop(code);
    assert_eq!(access(address), "rw-p", "a stale pointer faults");
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn reused_pages_hold_traps_behind_the_code() {
    let pool = CodePool::new().unwrap();
    let long = LoadedCode::publish(&pool, &[0x5a; 4_000]).unwrap();
    let address = long.entry();
    drop(long);
    let short = load(&pool, 7);
    assert_eq!(short.entry(), address);
    // SAFETY: the page is readable while `short` lives.
    let page = unsafe { std::slice::from_raw_parts(short.entry(), pool.page_size()) };
    assert_eq!(page[..short.bytes()], returns(7));
    assert!(page[short.bytes()..].iter().all(|byte| *byte == TRAP));
}

#[test]
fn large_images_get_chunks_that_are_unmapped_again() {
    let pool = CodePool::new().unwrap();
    let mut image = returns(11);
    image.resize(2 * CHUNK + 5, TRAP);
    let large = LoadedCode::publish(&pool, &image).unwrap();
    let small = load(&pool, 12);
    assert_eq!((call(&large), call(&small)), (11, 12));
    assert_eq!(pool.stats().reserved, 3 * CHUNK);
    assert_eq!(large.resident_bytes(), 2 * CHUNK + pool.page_size());
    drop(small);
    let other = LoadedCode::publish(&pool, &image).unwrap();
    assert_eq!(pool.stats().reserved, 6 * CHUNK);
    drop(large);
    drop(other);
    assert_eq!(pool.stats().reserved, 3 * CHUNK, "one free chunk is kept");
}

#[test]
fn errors_say_what_was_attempted() {
    let pool = CodePool::with_limit(8 * 64 * 1024).unwrap();
    let publish = |bytes: usize| LoadedCode::publish(&pool, &vec![TRAP; bytes]).unwrap_err();
    assert!(matches!(publish(0), CodeMemoryError::Empty));
    let kept = load(&pool, 1);
    let e = publish(8 * 64 * 1024);
    assert!(matches!(e, CodeMemoryError::Limit { live, .. } if live == kept.resident_bytes()), "{e}");
    assert!(e.to_string().contains("limit of 524288 bytes"), "{e}");
    assert_eq!(pool.stats().live, kept.resident_bytes(), "failures leave nothing behind");
    assert!(matches!(pool.take(usize::MAX), Err(CodeMemoryError::Limit { .. })));
    let unlimited = CodePool::new().unwrap();
    let e = unlimited.take(1 << 60).map(|run| run.bytes).unwrap_err();
    assert!(matches!(e, CodeMemoryError::Map { .. }) && e.to_string().contains("cannot map"), "{e}");
}
