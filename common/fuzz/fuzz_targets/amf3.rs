//! libFuzzer on `headwater_fuzz::amf3`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::amf3(data));
