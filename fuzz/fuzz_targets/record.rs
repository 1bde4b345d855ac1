//! See `tms_fuzz::record`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::record(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this is a fuzz target: run it with cargo fuzz");
}
