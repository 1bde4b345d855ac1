//! The contract, clause by clause: with group commit and without.

use std::sync::Arc;
use tempfile::TempDir;
use tms_core::store::Store;
use tms_core::testing::store::Fixture;
use tms_store_sqlite::{Options, SqliteStore};

/// A directory with one database. Handles are stores of their own on one file, as those of several processes are.
struct Files(Options);

#[async_trait::async_trait]
impl Fixture for Files {
    type Home = TempDir;

    async fn home(&self) -> TempDir {
        tempfile::tempdir().unwrap()
    }

    async fn open(&self, home: &TempDir) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(home.path().join("store"), self.0.clone()).unwrap())
    }
}

mod group {
    tms_core::store_tests!(super::Files(tms_store_sqlite::Options::default()));
}

/// One commit each, one reader, and a log that is emptied after nearly every commit.
mod single {
    tms_core::store_tests!(super::Files(tms_store_sqlite::Options {
        group_limit: 1,
        readers: 1,
        checkpoint_pages: 8,
        ..tms_store_sqlite::Options::default()
    }));
}
