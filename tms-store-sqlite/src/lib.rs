//! The store in one SQLite file.
//!
//! ```
//! use tms_store_sqlite::{Options, SqliteStore};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("tms.sqlite");
//! let store = SqliteStore::open(&path, Options::default())?;
//! # drop(store);
//! # Ok::<(), tms_core::store::StoreError>(())
//! ```
//!
//! One thread writes. Commits that wait together share one transaction and one `fsync`, and each can still conflict alone;
//! the log is written with `synchronous=FULL`, so that a commit that has returned survives the loss of power. What a check-in
//! reads is read between two transactions by the same thread, whose cache is the one that stays good; a few other threads read
//! all else, each over its own connection, and never wait for it. One more brings the log into the database.
//!
//! Any number of processes on one machine may have the file open. It must be on a local disk: SQLite's write-ahead log does
//! not work over a network.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::as_conversions
    )
)]

mod checkpoint;
mod document;
mod error;
mod options;
mod queue;
mod reader;
mod roster;
mod row;
mod schema;
#[cfg(test)]
mod statement;
mod writer;

pub use options::Options;

use crate::checkpoint::Log;
use crate::error::closed;
use crate::queue::Queue;
use crate::reader::Read;
use crate::row::Write;
use crate::writer::{Commit, Counters, Job, Writer};
use async_trait::async_trait;
use rusqlite::Connection;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use tms_core::store::{
    Caller, Change, CheckIn, Event, Group, Key, Query, Record, Sequence, Store, StoreError, Tally, Versioned, distinct,
};
use tokio::sync::oneshot;

/// A store in one SQLite file. Clones are handles to it.
///
/// Dropping the last handle ends its threads: what was sent to them is written first, and the log is brought into the
/// database file. That takes as long as it takes, and blocks.
#[derive(Clone)]
pub struct SqliteStore {
    threads: Arc<Threads>,
}

/// How much a store has written since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Commits, those among them that were conflicts or failed; one that was tried again after its group failed counts
    /// twice.
    pub commits: u64,
    /// Transactions that they shared.
    pub transactions: u64,
}

/// The most reads that share one view of the database.
const READ_GROUP: usize = 64;

struct Threads {
    jobs: Arc<Queue<Job>>,
    reads: Arc<Queue<Read>>,
    log: Arc<Log>,
    counters: Arc<Counters>,
    writer: Option<JoinHandle<()>>,
    copier: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the database at `path`, makes it where there is none, and brings it to the newest schema. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the file cannot be opened, written or locked now, [`StoreError::Corrupt`] where it
    /// is not a database, [`StoreError::Backend`] where it is another application's or that of a newer program.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let writer = schema::writer(path, &options)?;
        let readers = (0..options.readers.max(1))
            .map(|_| schema::reader(path, &options))
            .collect::<Result<Vec<_>, _>>()?;
        let copier = schema::copier(path, &options)?;
        let (log, copies) = Log::new();
        let (jobs, mut writers) = Queue::new(1);
        let (reads, takers) = Queue::new(readers.len());
        // dropped when a later thread cannot be made, this ends those that were
        let mut threads = Threads {
            jobs,
            reads,
            log: Arc::clone(&log),
            counters: Arc::default(),
            writer: None,
            copier: None,
            readers: Vec::new(),
        };
        for (connection, reads) in readers.into_iter().zip(takers) {
            threads.readers.push(spawn("store-read", move || {
                while let Some(reads) = reads.take(READ_GROUP) {
                    reader::serve(&connection, reads);
                }
            })?);
        }
        if let Some(copies) = copies {
            let log = Arc::clone(&log);
            threads.copier = Some(spawn("store-copy", move || log.run(&copier, &copies))?);
        }
        let writer = Writer::new(writer, log, &options);
        if let Some(jobs) = writers.pop() {
            let counters = Arc::clone(&threads.counters);
            threads.writer = Some(spawn("store-write", move || writer.run(&jobs, &counters))?);
        }
        Ok(Self {
            threads: Arc::new(threads),
        })
    }

    /// How much was written since it was opened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let Counters { commits, transactions } = &*self.threads.counters;
        Statistics {
            commits: commits.load(Ordering::Relaxed),
            transactions: transactions.load(Ordering::Relaxed),
        }
    }

    /// Runs a read on one of the reading threads.
    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> error::Result<R> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (reply, outcome) = oneshot::channel();
        self.threads.reads.push(Box::new(move |connection| {
            if !reply.is_closed() {
                // a caller that has gone away misses nothing
                let _ = reply.send(read(connection));
            }
        }));
        Ok(outcome.await.map_err(|_| closed())??)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|error| StoreError::Unavailable(format!("a thread cannot be made: {error}")))
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.reads.close();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.log.close();
        if let Some(copier) = self.copier.take() {
            let _ = copier.join();
        }
        // the writer's connection must be the last to close: that is the one that empties the log
        self.jobs.close();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        let caller = caller.clone();
        let (reply, outcome) = oneshot::channel();
        self.threads.jobs.push(Job::CheckIn(Box::new(move |connection| {
            if !reply.is_closed() {
                // a caller that has gone away misses nothing
                let _ = reply.send(reader::check_in(connection, &caller));
            }
        })));
        let stored = outcome.await.map_err(|_| closed())??;
        Ok(stored.map(|stored| stored.decode()).transpose()?)
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        let key = key.clone();
        self.read(move |connection| reader::get(connection, &key)).await
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        let query = query.clone();
        self.read(move |connection| reader::list(connection, &query, limit))
            .await
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        let tally = tally.clone();
        self.read(move |connection| reader::tally(connection, &tally, limit))
            .await
    }

    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError> {
        self.read(move |connection| reader::events(connection, after, limit))
            .await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        distinct(&changes)?;
        let writes = changes.into_iter().map(Write::of).collect::<Result<Vec<_>, _>>()?;
        if writes.is_empty() {
            return Ok(());
        }
        let (reply, outcome) = oneshot::channel();
        self.threads.jobs.push(Job::Commit(Commit { writes, reply }));
        outcome.await.map_err(|_| closed())?
    }
}
