//! The integration tests of this crate.

mod at;
mod bench;
mod conformance;
mod dial;
mod modem;
mod pool;
mod session;

/// The worlds of the other tests: an estate with a real server, and a terminal in memory.
#[allow(dead_code)]
#[path = "../../../tms-core/tests/it/agent/terminal.rs"]
mod terminal;
#[allow(dead_code)]
#[path = "../../../tms-core/tests/it/world.rs"]
mod world;
