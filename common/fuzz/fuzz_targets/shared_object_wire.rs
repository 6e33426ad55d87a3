//! libFuzzer on `headwater_fuzz::shared_object_wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::shared_object_wire(data));
