//! See `tms_fuzz::tlv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::tlv(data));
