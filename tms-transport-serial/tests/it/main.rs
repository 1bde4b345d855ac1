//! The integration tests of this crate.

mod at;
mod modem;
