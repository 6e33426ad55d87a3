//! libFuzzer on `headwater_fuzz::flv_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::flv_file(data));
