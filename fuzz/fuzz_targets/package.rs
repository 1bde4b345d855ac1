//! See `tms_fuzz::package`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::package(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this is a fuzz target: run it with cargo fuzz");
}
