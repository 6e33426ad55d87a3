//! libFuzzer on `headwater_fuzz::flv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::flv(data));
