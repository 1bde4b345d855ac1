//! A payment terminal on a directory, as a library: for the program `tms-terminal`, and for programs that need terminals.

pub mod dial;
pub mod directory;
pub mod errand;
pub mod line;
pub mod terminal;
