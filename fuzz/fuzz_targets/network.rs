#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _ = kiln_tests::fuzz::network(bytes));
