//! What the operator's tool `tms` does, as a library: for the program, and for programs that begin an estate of their own.

pub mod certificate;
pub mod command;
pub mod enrol;
pub mod init;
pub mod key;
pub mod office;
pub mod package;
pub mod time;

use std::fmt;

/// What was asked for is refused: nothing is wrong with the machine, and trying again does not help.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// An error that says that something is refused.
#[must_use]
pub fn refused(why: impl Into<String>) -> anyhow::Error {
    Refused(why.into()).into()
}
