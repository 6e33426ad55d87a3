//! libFuzzer on `headwater_fuzz::client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::client(data));
