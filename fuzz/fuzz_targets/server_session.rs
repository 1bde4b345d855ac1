//! See `tms_fuzz::server_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::server_session(data));
