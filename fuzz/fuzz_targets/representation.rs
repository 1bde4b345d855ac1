//! See `tms_fuzz::representation`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tms_fuzz::representation(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this is a fuzz target: run it with cargo fuzz");
}
