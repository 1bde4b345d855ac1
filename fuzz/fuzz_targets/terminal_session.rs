//! See `tms_fuzz::terminal_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::terminal_session(data));
