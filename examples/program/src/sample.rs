//! Content that looks like a program: the same for the same version, and not the same for another.

use tms_proto::digest::Digest;

/// Blocks of which a program is made.
const BLOCK: usize = 4096;

/// A program of this version and `size` bytes: machine code that repeats itself here and there, tables, and texts.
#[must_use]
pub fn program(component: &str, version: &str, size: usize) -> Vec<u8> {
    let mut program = Vec::new();
    program.extend_from_slice(b"\x7FELF\x01\x01\x01\0");
    program.extend_from_slice(format!("{component} {version}\0").as_bytes());
    let mut number = 0u32;
    while program.len() < size {
        // Most of a program stays as it was from version to version; a sixteenth of this one does not.
        let changed = number % 16 == 7;
        let seed = if changed {
            format!("{component} {version} {number}")
        } else {
            format!("{component} {number}")
        };
        let mut state = Digest::of(seed.as_bytes());
        let end = program.len() + BLOCK;
        while program.len() < end {
            match number % 4 {
                0 => program.extend_from_slice(format!("ERR{:05} {}\0", number, state.short()).as_bytes()),
                1 => program.extend_from_slice(&[0; 48]),
                _ => {}
            }
            program.extend_from_slice(&state.0);
            state = Digest::of(&state.0);
        }
        number += 1;
    }
    program.truncate(size);
    program
}
