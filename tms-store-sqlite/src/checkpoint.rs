//! The thread that brings the log into the database, while commits go on.
//!
//! It copies what is in the log (PASSIVE, which waits for nobody) until little is left. What then remains is the writer's:
//! only between two of its transactions can the log begin anew.

use crate::queue::{Consumer, Queue};
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The most copies in a row.
const COPIES: usize = 24;

/// A copy of no more pages than this takes less than the time between two commits.
const FEW: i64 = 256;

/// How many copies of no more than that are enough.
const SHORT: usize = 3;

/// What there is to wait for where nobody commits.
const PAUSE: Duration = Duration::from_millis(1);

/// What the writer and the copying thread tell each other.
pub(crate) struct Log {
    requests: Arc<Queue<()>>,
    /// Nearly all of the log is in the database.
    copied: AtomicBool,
    /// Copying is asked for or under way.
    busy: AtomicBool,
}

impl Log {
    /// A log, and the right to copy it.
    pub(crate) fn new() -> (Arc<Self>, Option<Consumer<()>>) {
        let (requests, mut takers) = Queue::new(1);
        let log = Self {
            requests,
            copied: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        };
        (Arc::new(log), takers.pop())
    }

    /// Asks for a copy, unless one is under way.
    pub(crate) fn request(&self) {
        if !self.busy.swap(true, Ordering::AcqRel) {
            self.requests.push(());
        }
    }

    /// Whether a copy has ended since this was last asked.
    pub(crate) fn take_copied(&self) -> bool {
        self.copied.swap(false, Ordering::AcqRel)
    }

    /// Ends the thread that copies, when it is done.
    pub(crate) fn close(&self) {
        self.requests.close();
    }

    /// Copies whenever it is asked for, until the log is closed.
    pub(crate) fn run(&self, connection: &Connection, requests: &Consumer<()>) {
        while requests.take(1).is_some() {
            if let Err(error) = copy_nearly_all(connection) {
                tracing::warn!(code = ?error.sqlite_error_code(), "write-ahead log not copied");
            }
            self.copied.store(true, Ordering::Release);
            self.busy.store(false, Ordering::Release);
        }
    }
}

/// Copies until some copies had little to do: each leaves what was written while it ran, which is less each time where the
/// disk keeps up.
///
/// SQLite waits for the disk at the end of a copy only where nobody has committed meanwhile. A short one mostly is such a
/// copy, and what it has made durable the writer need not wait for when it begins the log anew.
fn copy_nearly_all(connection: &Connection) -> rusqlite::Result<()> {
    let (mut before, mut short) = (0, 0);
    for _ in 0..COPIES {
        let copied = copy(connection)?;
        match copied.saturating_sub(before) {
            0 => thread::sleep(PAUSE),
            1..=FEW => short += 1,
            _ => {}
        }
        if short == SHORT {
            break;
        }
        before = copied;
    }
    Ok(())
}

/// Copies as much of the log as readers allow, and gives the number of its pages that are in the database.
fn copy(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))
}
