//! What operators do and terminals confirm, on a database: the tests of `tms-core` that use a whole estate, word for word, and
//! what only a store that lasts can be asked.
// Not all that its other tests need is used here.
#![allow(dead_code)]

mod agent;
#[path = "../../../tms-core/tests/it/application.rs"]
mod application;
#[path = "../../../tms-core/tests/it/case.rs"]
mod case;
#[path = "../../../tms-core/tests/it/fleet.rs"]
mod fleet;
#[path = "../../../tms-core/tests/it/install.rs"]
mod install;
mod reopened;
#[path = "../../../tms-core/tests/it/task.rs"]
mod task;
#[path = "../../../tms-core/tests/it/world.rs"]
mod world;

use std::path::Path;
use std::sync::Arc;
use tms_core::store::Store;
use tms_store_sqlite::{Options, SqliteStore};

/// The store of the worlds that do not say which: a database in a directory of its own.
fn store() -> (Arc<dyn Store>, world::Place) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store"));
    (store, Box::new(directory))
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(path, Options::default()).unwrap())
}
