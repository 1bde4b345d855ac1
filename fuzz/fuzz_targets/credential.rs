//! See `tms_fuzz::credential`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::credential(data));
