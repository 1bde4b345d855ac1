//! See `tms_fuzz::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::message(data));
