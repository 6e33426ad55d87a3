//! libFuzzer on `headwater_fuzz::command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::command(data));
