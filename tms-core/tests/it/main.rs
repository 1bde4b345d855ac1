//! The crate from outside: server, agent, and both together.

mod agent;
mod application;
mod call_notice;
mod case;
mod drift;
mod estate;
mod fleet;
mod install;
#[cfg(unix)]
mod limit;
mod parameters;
mod release;
mod replacement;
mod report;
mod represent;
mod retention;
mod rollout;
mod scoped;
mod serial;
mod server;
mod simulation;
mod slot;
mod task;
mod text;
mod trigger;
mod world;

use std::sync::Arc;
use tms_core::store::{MemoryStore, Store};

/// The store of the worlds that do not say which.
fn store() -> (Arc<dyn Store>, world::Place) {
    (Arc::new(MemoryStore::default()), Box::new(()))
}
