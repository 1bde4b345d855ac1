//! The integration tests of this crate.

mod at;
mod bench;
mod conformance;
mod dial;
mod modem;
mod pool;
