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

/// The store of the worlds that do not say which.
fn store() -> (std::sync::Arc<dyn tms_core::store::Store>, world::Place) {
    (
        std::sync::Arc::new(tms_core::store::MemoryStore::default()),
        Box::new(()),
    )
}
