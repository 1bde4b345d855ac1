//! A terminal-management server on an estate directory, as a library: for the program `tms-server`, and for programs that
//! work on the same directory or bring a server of their own.

pub mod config;
pub mod directory;
pub mod layout;
pub mod run;
pub mod secret;
