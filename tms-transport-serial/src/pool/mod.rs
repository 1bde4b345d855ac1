//! A pool of lines: one [`Listener`] over many modems and cables.
//!
//! Each line has a task, a state, counters and faults of its own; one that fails disturbs no other. Lines come and go while
//! the pool runs. A call is given only when its link is up: a wrong number, a voice or a modem without a terminal behind it
//! never reaches the server.
//!
//! ```no_run
//! use tms_core::transport::Listener;
//! use tms_transport_serial::pool::{Pool, PoolConfig};
//!
//! # async fn run(config: PoolConfig) -> std::io::Result<()> {
//! let mut pool = Pool::open(config)?;
//! let lines = pool.handle();
//! loop {
//!     let call = pool.accept().await?;
//!     println!("a call from {}", call.peer);
//!     for line in lines.lines() {
//!         println!("{}: {:?}", line.name, line.status.phase);
//!     }
//! }
//! # }
//! ```

mod config;
mod line;

pub use config::{LineConfig, PhoneText, PoolConfig};

use crate::at::{Phase, Profile};
use crate::link::LinkOptions;
use crate::modem::{Counters, Status};
use crate::port::{Open, Settings};
use async_trait::async_trait;
use line::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tms_core::transport::{Incoming, Listener, PhoneNumber, Slots};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Calls that wait to be accepted.
const BACKLOG: usize = 16;

/// What is on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A modem, which is called.
    #[default]
    Modem,
    /// A cable to a terminal.
    Cable,
}

/// A line to be added to a pool; most come from a [`LineConfig`].
pub struct Line {
    /// Its name, for logs and for [`PeerInfo`](tms_core::transport::PeerInfo).
    pub name: String,
    /// What is on it.
    pub kind: Kind,
    /// Opens its port.
    pub open: Box<dyn Open>,
    /// How the port is set.
    pub settings: Settings,
    /// How its modem is used; on a cable the times alone.
    pub profile: Profile,
    /// The number under which it is called.
    pub called: Option<PhoneNumber>,
    /// What its link is told.
    pub link: LinkOptions,
}

/// How a line of a pool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineStatus {
    /// Its name.
    pub name: String,
    /// What is on it.
    pub kind: Kind,
    /// Its modem or cable.
    pub status: Status,
    /// It takes no more calls, and goes when the one that is up is over.
    pub draining: bool,
    /// Calls that connected, and on which no terminal was heard.
    pub silent: u64,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    status: watch::Receiver<Status>,
    drain: CancellationToken,
    cut: CancellationToken,
    silent: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Entry {
    /// The task ends with the call that is up.
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

/// One listener over many lines. When it is dropped no more calls are taken, and those that are up run to their ends.
#[derive(Debug)]
pub struct Pool {
    calls: mpsc::Receiver<Incoming>,
    handle: PoolHandle,
}

/// Adds and removes lines of a pool, and says how they are. Clones are handles to the same pool.
#[derive(Debug, Clone)]
pub struct PoolHandle {
    lines: Arc<Mutex<BTreeMap<String, Entry>>>,
    calls: mpsc::Sender<Incoming>,
    slots: Slots,
}

impl Pool {
    /// A pool of at most so many open calls, without lines.
    #[must_use]
    pub fn new(calls: usize) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let handle = PoolHandle {
            lines: Arc::default(),
            calls: sender,
            slots: Slots::new(calls),
        };
        Self {
            calls: receiver,
            handle,
        }
    }

    /// A pool with these lines. Needs a tokio runtime. A port that cannot be opened is a fault of its line, and tried again.
    ///
    /// # Errors
    /// Where two lines have one name.
    pub fn open(config: PoolConfig) -> io::Result<Self> {
        let pool = Self::new(config.calls.unwrap_or(config.lines.len()));
        for line in config.lines {
            pool.handle.add(line.into())?;
        }
        Ok(pool)
    }

    /// Adds and removes lines while the pool runs.
    #[must_use]
    pub fn handle(&self) -> PoolHandle {
        self.handle.clone()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.handle.locked().clear();
    }
}

#[async_trait]
impl Listener for Pool {
    /// Waits for ever where there are no lines, and never fails.
    async fn accept(&mut self) -> io::Result<Incoming> {
        match self.calls.recv().await {
            Some(call) => Ok(call),
            // The pool itself can always send.
            None => pending().await,
        }
    }
}

impl PoolHandle {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Nothing that could panic is done under the lock.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, which begins by preparing its modem. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) where there is a line of this name.
    pub fn add(&self, line: Line) -> io::Result<()> {
        let mut lines = self.locked();
        if lines.get(&line.name).is_some_and(|entry| !entry.task.is_finished()) {
            let text = format!("there is a line {} already", line.name);
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let (shows, status) = watch::channel(Status {
            phase: Phase::Preparing,
            incoming: false,
            fault: None,
            counters: Counters::default(),
        });
        let (name, kind) = (line.name.clone(), line.kind);
        let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
        let silent = Arc::new(AtomicU64::new(0));
        let context = Context {
            slots: self.slots.clone(),
            calls: self.calls.clone(),
            drain: drain.clone(),
            cut: cut.clone(),
            silent: Arc::clone(&silent),
            status: shows,
        };
        let task = tokio::spawn(context.run(line)).abort_handle();
        let entry = Entry {
            kind,
            status,
            drain,
            cut,
            silent,
            task,
        };
        lines.insert(name, entry);
        Ok(())
    }

    /// Lets a line take no more calls; it goes when the one that is up is over. False where there is no such line.
    pub fn drain(&self, name: &str) -> bool {
        let lines = self.locked();
        let entry = lines.get(name).filter(|entry| !entry.task.is_finished());
        entry.inspect(|entry| entry.drain.cancel()).is_some()
    }

    /// Takes a line away at once, and ends its call. False where there is no such line.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.locked().remove(name);
        let removed = removed.filter(|entry| !entry.task.is_finished());
        removed.inspect(|entry| entry.cut.cancel()).is_some()
    }

    /// How all lines are, by name. Lines that were drained and have gone are not among them.
    #[must_use]
    pub fn lines(&self) -> Vec<LineStatus> {
        let mut lines = self.locked();
        lines.retain(|_, entry| !entry.task.is_finished());
        let status = |(name, entry): (&String, &Entry)| LineStatus {
            name: name.clone(),
            kind: entry.kind,
            status: entry.status.borrow().clone(),
            draining: entry.drain.is_cancelled(),
            silent: entry.silent.load(Ordering::Relaxed),
        };
        lines.iter().map(status).collect()
    }
}
