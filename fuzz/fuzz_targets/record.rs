//! See `tms_fuzz::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::record(data));
