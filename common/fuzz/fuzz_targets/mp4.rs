//! libFuzzer on `headwater_fuzz::mp4`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::mp4(data));
