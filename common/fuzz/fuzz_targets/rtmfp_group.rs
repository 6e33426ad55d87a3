//! libFuzzer on `headwater_fuzz::rtmfp_group`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::rtmfp_group(data));
