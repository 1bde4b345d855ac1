//! How a store is opened.

use std::thread;
use std::time::Duration;

/// How a store is opened. The default is right for a server of any size on a local disk.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most commits that share one transaction and one `fsync`; 1 gives each its own. Commits never wait for others to
    /// come: a group is what has come while the last one was written.
    pub group_limit: usize,
    /// Threads that read, each with a connection; at least one. By default as many as there are processors, up to four: each
    /// forgets what it has cached whenever somebody writes, and fewer read more at a time.
    pub readers: usize,
    /// Page cache of each connection, in KiB.
    pub cache_kib: u32,
    /// How long to wait for another process that holds the database, before a call is `Unavailable`; at most a day.
    pub busy_timeout: Duration,
    /// Size of the write-ahead log, in pages of 4 KiB, at which its content goes into the database file.
    pub checkpoint_pages: u32,
    /// The most pages that the database file may have; a commit that needs more is `Unavailable`. The log is not counted.
    pub max_pages: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group_limit: 256,
            readers: thread::available_parallelism().map_or(2, |processors| processors.get().min(4)),
            cache_kib: 16 * 1024,
            busy_timeout: Duration::from_secs(5),
            checkpoint_pages: 16 * 1024,
            max_pages: None,
        }
    }
}
