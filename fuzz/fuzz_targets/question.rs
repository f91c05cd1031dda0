#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rentroll_fuzz_targets::question(data));
