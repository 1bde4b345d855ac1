//! The store: typed records, reads by key and by page, and one write.
//!
//! # Contract
//!
//! Every backend keeps these clauses; the macro `store_tests!` (feature `testing`) proves each by at least one test.
//!
//! 1. **Atomic.** [`Store::commit`] applies all of its changes or none.
//! 2. **Durable.** What a returned commit wrote survives the loss of power.
//! 3. **Read your writes.** A read that begins after a commit has returned sees it, through any clone or node. Every read
//!    is of one moment: it sees all of a commit or nothing.
//! 4. **Versions** start at 1 and grow by one with each put; a record that was removed and is put again starts at 1.
//! 5. **Expectations** are checked against what was committed before: [`Expect::Any`] always holds, [`Expect::Absent`] where
//!    there is no such record, [`Expect::Version`] where it has exactly that version. One that fails is
//!    [`StoreError::Conflict`], and nothing is written.
//! 6. **One winner.** Of racing commits with the same expectation exactly one succeeds.
//! 7. **One holder.** Two terminals never have the same [`Holder`]: a commit that would leave two with one is a conflict.
//!    What counts is what the commit would leave, whatever the order of its changes: in one commit two terminals may
//!    exchange their holders, and a new terminal may take that of one that is removed.
//! 8. **Order.** Pages come in ascending order of their keys' bytes (numbers unsigned, big-endian), and begin after the key
//!    given. A page has as many records as its limit allows; a shorter one is the last.
//! 9. **Events** get sequence numbers that grow, in the order of their commit; an event never appears behind a sequence
//!    number that a reader has seen.
//! 10. **Cancel.** Dropping the future of a commit leaves all of it or nothing. So does one that fails as
//!     [`StoreError::Unavailable`] or [`StoreError::Backend`]: it does not tell which.
//! 11. **No secrets in errors.** An error's text never holds a record's content.
//! 12. **One commit, one record.** A commit that names one record twice is [`StoreError::Backend`] misuse, and nothing is
//!     written. [`distinct`] is the check.
//! 13. **Marks.** A document is found under the marks that it has now, and under no other; [`Query::Marked`] gives those
//!     whose value begins with the prefix, byte by byte, in the order of value and id.
//! 14. **Roster.** [`Query::Roster`] gives the entries of which the filter [holds](RosterFilter::holds), in the order of
//!     branch and id, or of branch, day and id where the filter says when they were seen, those never seen first.
//! 15. **Tallies** count what the same query would give, at the same moment, by groups in ascending order of their names'
//!     bytes; a group of none is left out.
//! 16. **Forgetting.** [`Change::Forget`] removes the events up to a number that were there before the commit, but never the newest
//!     of them: later events get higher numbers than any before. A page after a number that is forgotten begins with the next
//!     event that there is.

mod assignment;
mod document;
mod memory;
mod record;
mod roster;

pub use assignment::{Assignment, Order, Step, Terms};
pub use document::{Document, Entity, Kind, after_prefix};
pub use memory::MemoryStore;
pub use record::{
    ActionId, BookedSlot, CheckInSummary, Credential, CredentialId, Decoding, Event, EventKind, Holder,
    InventoryRecord, Key, KeyId, MAX_REPRESENTATIONS, MAX_WAITING_TEXTS, MAX_WITHDRAWN_TEXTS, NeededRelease, Package,
    PackageRef, PlanStanding, Record, RegistrationSummary, RepresentationRef, SealedTicket, Terminal, TerminalId,
    TerminalState, WaitingText,
};

pub use roster::{BadBranchPath, BranchPath, Day, Dimension, RosterEntry, RosterFilter, Seen};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use thiserror::Error;

/// The number of an event: grows, with gaps allowed.
pub type Sequence = u64;

/// What a change expects of the record that it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Nothing.
    Any,
    /// There is no such record.
    Absent,
    /// The record has this version. Zero is never a version.
    Version(u64),
}

impl Expect {
    /// Whether it holds of a record with this version, or of none.
    #[must_use]
    pub fn holds(self, version: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => version.is_none(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

/// A record and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// Starts at 1 and grows by one with each put.
    pub version: u64,
    /// The record.
    pub record: T,
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Writes a record, whole.
    Put(Expect, Record),
    /// Removes a record; one that is not there is removed already.
    Remove(Expect, Key),
    /// Appends an event.
    Append(Event),
    /// Removes the events up to this number, but for the newest of all.
    Forget(Sequence),
}

impl Change {
    /// The record that it writes, or `None` for events.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::Put(_, record) => Some(record.key()),
            Self::Remove(_, key) => Some(key.clone()),
            Self::Append(_) | Self::Forget(_) => None,
        }
    }
}

/// Checks that no record is named twice (clause 12); for backends, before they do anything else.
///
/// # Errors
/// [`StoreError::Backend`] where one is.
pub fn distinct(changes: &[Change]) -> Result<(), StoreError> {
    let mut keys = HashSet::with_capacity(changes.len());
    if changes.iter().filter_map(Change::key).all(|key| keys.insert(key)) {
        Ok(())
    } else {
        Err(StoreError::Backend("a commit names one record twice".to_owned()))
    }
}

/// Who calls, as far as the handshake has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The terminal that a ticket or a main-control key names.
    Id(TerminalId),
    /// The terminal whose certificate has this holder.
    Holder(Holder),
    /// The terminal whose remembered credential this is now; where several have it, the one with the lowest id.
    Credential(CredentialId),
}

/// All that a check-in needs, in one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckIn {
    /// The terminal.
    pub terminal: Versioned<Terminal>,
    /// Its open assignments, by ascending action id.
    pub assignments: Vec<Versioned<Assignment>>,
}

/// A page of records of one kind, in ascending order of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Terminals after this id.
    Terminals(Option<TerminalId>),
    /// Packages whose manifest digest is after this one.
    Packages(Option<tms_proto::digest::Digest>),
    /// Assignments of one terminal, open and closed, after this id.
    Assignments(TerminalId, Option<ActionId>),
    /// Documents of a kind whose ids begin so.
    Documents {
        /// The kind.
        kind: Kind,
        /// How the ids begin.
        prefix: String,
        /// After this id.
        after: Option<String>,
    },
    /// Documents of a kind by the value of a mark.
    Marked {
        /// The kind.
        kind: Kind,
        /// The mark's name.
        mark: String,
        /// How its values begin.
        prefix: String,
        /// After this value and id.
        after: Option<(String, String)>,
    },
    /// Terminals of the roster.
    Roster {
        /// Which.
        filter: RosterFilter,
        /// After this one: what counts of it are branch, id and, where the filter says when terminals were seen, day.
        after: Option<RosterPlace>,
    },
}

/// Where in the roster a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterPlace {
    /// The branch.
    pub branch: BranchPath,
    /// The day.
    pub seen: Option<Day>,
    /// The terminal.
    pub terminal: TerminalId,
}

impl RosterPlace {
    /// Where this entry stands.
    #[must_use]
    pub fn of(entry: &RosterEntry) -> Self {
        Self {
            branch: entry.branch.clone(),
            seen: entry.seen,
            terminal: entry.terminal,
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tally {
    /// Documents of a kind by the value of a mark.
    Marked {
        /// The kind.
        kind: Kind,
        /// The mark's name.
        mark: String,
        /// How its values begin.
        prefix: String,
    },
    /// Terminals of the roster.
    Roster {
        /// Which.
        filter: RosterFilter,
        /// What they are counted by; all together where that is empty.
        by: Vec<Dimension>,
    },
}

/// How many of a kind there are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// What they have in common: a name for each thing that was counted by.
    pub names: Vec<String>,
    /// How many there are.
    pub count: u64,
}

/// A store; see the [module](self) for the contract.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads all that a check-in of `caller` needs, in one round trip and as of one moment, or `None` where no terminal is
    /// known by it.
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError>;

    /// Reads one record.
    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError>;

    /// Reads a page of at most `limit` records: fewer only at the end, none where `limit` is zero.
    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError>;

    /// Counts; at most the first `limit` groups.
    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError>;

    /// Reads at most `limit` events after sequence number `after`, in their order; zero is before the first.
    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError>;

    /// Writes all changes or none; when it returns they are durable. Nothing to write is nothing done.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// Why a store did not do it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// An expectation failed, or a second terminal has the same holder. Read again and decide again.
    #[error("conflict: the record was changed by somebody else")]
    Conflict,
    /// The backend cannot be reached or has no room now. Try again later; a commit may have been written all the same
    /// (clause 10), so read before you repeat one that expects nothing.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("stored record is corrupt: {0}")]
    Corrupt(String),
    /// Anything else.
    #[error("store failed: {0}")]
    Backend(String),
}

impl StoreError {
    /// Whether the same call may succeed later, with nothing else changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
