//! libFuzzer on `headwater_fuzz::mp3`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::mp3(data));
