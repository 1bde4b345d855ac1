//! The tests of the SQLite store against real files.

mod conformance;
mod crash;
mod estate;
mod file;
mod full;
mod group;
mod migration;

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tms_core::store::{Change, Expect, Key, Record, Store, StoreError, TerminalId, Versioned};
use tms_store_sqlite::{Options, SqliteStore};

/// A store in a directory of its own.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path(), Options::default()).unwrap()
    }

    /// A connection beside the store, as another program has it.
    fn raw(&self) -> Connection {
        raw(&self.path())
    }
}

fn raw(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    connection
}

fn put(expect: Expect, record: impl Into<Record>) -> Change {
    Change::Put(expect, record.into())
}

async fn terminal(store: &dyn Store, id: u64) -> Result<Option<Versioned<Record>>, StoreError> {
    store.get(&Key::Terminal(TerminalId(id))).await
}
