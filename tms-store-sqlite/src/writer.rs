//! The thread that writes, and group commit.

use crate::checkpoint::Log;
use crate::error::Result;
use crate::queue::Consumer;
use crate::reader::{self, Read};
use crate::row::{
    AssignmentRow, DocumentRow, EventRow, InventoryRow, PackageRow, PutRow, RosterRow, TerminalRow, Write, key,
    unsigned,
};
use rusqlite::{Connection, OptionalExtension, Params, params};
use std::cell::Cell;
use std::collections::HashSet;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tms_core::store::{Document, Expect, Key, Kind, RosterEntry, StoreError};
use tokio::sync::oneshot;

/// A commit and whom to tell.
pub(crate) struct Commit {
    pub(crate) writes: Vec<Write>,
    pub(crate) reply: oneshot::Sender<std::result::Result<(), StoreError>>,
}

/// What the writing thread is asked for.
pub(crate) enum Job {
    Commit(Commit),
    /// What a check-in reads. SQLite forgets what a connection has cached whenever another has written, and under load this
    /// one always has: only here is the cache still good, and the commit that follows finds its page in it.
    CheckIn(Read),
}

/// How much was written, for [`crate::SqliteStore::statistics`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) transactions: AtomicU64,
}

/// How often commits wait for what is read meanwhile.
const ROUNDS: usize = 8;

/// The most jobs that are taken at once.
const JOBS: usize = 1024;

pub(crate) struct Writer {
    connection: Connection,
    log: Arc<Log>,
    group_limit: usize,
    checkpoint_pages: i32,
    busy_timeout: Duration,
    /// Pages in the log when it was last tried to empty it.
    tried_at: i32,
}

/// How a commit in a transaction went.
#[derive(Clone, Copy)]
enum Verdict {
    Done,
    Conflict,
}

/// Where a transaction failed.
enum Failure {
    /// Before anything was done: no commit of the group could have gone better alone.
    Begin(StoreError),
    /// In one of its commits, or at the end.
    Inside(StoreError),
}

/// Forgets events, but for the newest: what follows it has a higher number.
const FORGET: &str = "DELETE FROM events WHERE seq <= ?1 AND seq < (SELECT max(seq) FROM events)";

thread_local! {
    /// Pages in the log after this thread's last commit.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

impl Writer {
    pub(crate) fn new(connection: Connection, log: Arc<Log>, options: &crate::Options) -> Self {
        Self {
            connection,
            log,
            group_limit: options.group_limit.max(1),
            checkpoint_pages: i32::try_from(options.checkpoint_pages.max(1)).unwrap_or(i32::MAX),
            busy_timeout: options.busy_timeout,
            tried_at: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes until the queue closes.
    pub(crate) fn run(mut self, jobs: &Consumer<Job>, counters: &Counters) {
        self.connection.wal_hook(Some(|_, pages| {
            LOG_PAGES.set(pages);
            Ok(())
        }));
        while let Some(mut next) = jobs.take(JOBS) {
            let mut commits = Vec::new();
            for round in 1.. {
                let mut reads = Vec::new();
                for job in next {
                    match job {
                        Job::CheckIn(read) => reads.push(read),
                        // nobody waits for it, and nothing of it is written
                        Job::Commit(commit) if commit.reply.is_closed() => {}
                        Job::Commit(commit) => commits.push(commit),
                    }
                }
                // who reads goes on to commit, perhaps in time for this group
                let over = reads.is_empty() || commits.len() >= self.group_limit || round == ROUNDS;
                reader::serve(&self.connection, reads);
                if over {
                    break;
                }
                next = jobs.more(JOBS);
            }
            let mut commits = commits.into_iter();
            while commits.len() > 0 {
                let group = commits.by_ref().take(self.group_limit);
                let (writes, replies): (Vec<_>, Vec<_>) = group.map(|commit| (commit.writes, commit.reply)).unzip();
                let outcomes = self.write(&writes, counters);
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // a caller that has gone away knows that it does not know
                    let _ = reply.send(outcome);
                }
                self.checkpoint();
            }
        }
        // the last connection empties the log into the database when it closes
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(code = ?error.sqlite_error_code(), "database not closed cleanly");
        }
    }

    /// Writes a group, in one transaction if it can be, and says how each commit went.
    pub(crate) fn write(&self, group: &[Vec<Write>], counters: &Counters) -> Vec<std::result::Result<(), StoreError>> {
        if group.is_empty() {
            return Vec::new();
        }
        counters
            .commits
            .fetch_add(u64::try_from(group.len()).unwrap_or_default(), Ordering::Relaxed);
        counters.transactions.fetch_add(1, Ordering::Relaxed);
        match self.transaction(group) {
            Ok(verdicts) => verdicts.into_iter().map(Verdict::outcome).collect(),
            Err(Failure::Begin(error)) => group.iter().map(|_| Err(again(&error))).collect(),
            Err(Failure::Inside(error)) if group.len() == 1 => vec![Err(error)],
            Err(Failure::Inside(error)) => {
                // one of them is to blame, or there is no room for all: each gets its own chance
                tracing::warn!(commits = group.len(), %error, "group commit failed, its commits are tried one by one");
                group
                    .iter()
                    .flat_map(|commit| self.write(slice::from_ref(commit), counters))
                    .collect()
            }
        }
    }

    fn transaction(&self, group: &[Vec<Write>]) -> std::result::Result<Vec<Verdict>, Failure> {
        self.execute("BEGIN IMMEDIATE", [])
            .map_err(|fault| Failure::Begin(fault.into()))?;
        let verdicts = group
            .iter()
            .map(|writes| self.apply(writes))
            .collect::<Result<Vec<_>>>()
            .and_then(|verdicts| self.execute("COMMIT", []).map(|_| verdicts));
        verdicts.map_err(|fault| {
            // SQLite has rolled back already where it could not go on
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(code = ?error.sqlite_error_code(), "transaction not rolled back");
            }
            Failure::Inside(fault.into())
        })
    }

    /// Applies one commit: everything is checked before anything is written, so that a conflict leaves nothing to undo.
    fn apply(&self, writes: &[Write]) -> Result<Verdict> {
        if self.apply_check_in(writes)? {
            return Ok(Verdict::Done);
        }
        let mut found = Vec::with_capacity(writes.len());
        for write in writes {
            let there = self.find(write)?;
            if write
                .expect()
                .is_some_and(|expect| !expect.holds(there.as_ref().map(|there| there.version)))
            {
                return Ok(Verdict::Conflict);
            }
            found.push(there);
        }
        if self.holders_clash(writes, &found)? {
            return Ok(Verdict::Conflict);
        }
        // a name must be free before it is taken: what goes, and what changes its name, goes first
        for (write, there) in writes.iter().zip(&found) {
            match (write, there) {
                (Write::Forget(through), _) => self.forget(*through)?,
                (Write::Remove(_, key), Some(_)) => self.delete(key)?,
                (Write::Put(_, PutRow::Terminal(row)), Some(Found { same_names: false, .. })) => {
                    self.execute("DELETE FROM terminals WHERE id = ?1", [row.id])?;
                }
                _ => {}
            }
        }
        for (write, there) in writes.iter().zip(&found) {
            match write {
                Write::Put(_, row) => self.put(row, there.as_ref())?,
                Write::Remove(..) | Write::Forget(_) => {}
                Write::Append(event) => self.append(event)?,
            }
        }
        Ok(Verdict::Done)
    }

    /// Applies a commit that changes one terminal, and nothing by which it is found, and appends events: the commit of
    /// nearly every check-in. One statement checks and writes. False, with nothing written, where it is another commit or
    /// the check fails.
    fn apply_check_in(&self, writes: &[Write]) -> Result<bool> {
        let mut changes = writes.iter().filter(|write| !matches!(write, Write::Append(_)));
        let (Some(Write::Put(Expect::Version(version), PutRow::Terminal(row))), None) =
            (changes.next(), changes.next())
        else {
            return Ok(false);
        };
        let Some((version, next)) = i64::try_from(*version)
            .ok()
            .and_then(|there| Some((there, there.checked_add(1)?)))
        else {
            return Ok(false);
        };
        let TerminalRow {
            id,
            holder,
            credential,
            state,
            last_check_in,
            next_contact,
            body,
        } = row;
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE terminals SET version = ?3, state = ?4, last_check_in = ?5, next_contact = ?6, body = ?7 \
                 WHERE id = ?1 AND version = ?2 AND serial = ?8 AND model = ?9 AND vendor = ?10 AND credential IS ?11",
            )?
            .execute(params![
                id,
                version,
                next,
                state,
                last_check_in,
                next_contact,
                body,
                holder.serial,
                holder.model,
                holder.vendor,
                credential
            ])?;
        if changed == 0 {
            return Ok(false);
        }
        for write in writes {
            if let Write::Append(event) = write {
                self.append(event)?;
            }
        }
        Ok(true)
    }

    /// What there is of the record that a change names.
    fn find(&self, write: &Write) -> Result<Option<Found>> {
        const INVENTORY: &str = "SELECT version FROM inventories WHERE terminal = ?1";
        const PACKAGE: &str = "SELECT version FROM packages WHERE manifest = ?1";
        const ASSIGNMENT: &str = "SELECT version FROM assignments WHERE terminal = ?1 AND action = ?2";
        const ROSTER: &str = "SELECT version FROM roster WHERE terminal = ?1";
        const DOCUMENT: &str = "SELECT version FROM documents WHERE kind = ?1 AND id = ?2";
        match write {
            Write::Put(_, PutRow::Terminal(row)) => self.find_terminal(row),
            Write::Put(_, PutRow::Inventory(row)) => self.version(INVENTORY, [row.terminal]),
            Write::Put(_, PutRow::Package(row)) => self.version(PACKAGE, [row.manifest]),
            Write::Put(_, PutRow::Assignment(row)) => self.version(ASSIGNMENT, [row.terminal, row.action]),
            Write::Put(_, PutRow::Roster(row)) => self.version(ROSTER, [row.terminal]),
            Write::Put(_, PutRow::Document(row)) => {
                self.version(DOCUMENT, [row.document.kind.name(), &row.document.id])
            }
            Write::Remove(_, Key::Roster(id)) => self.version(ROSTER, [key(id.0)]),
            Write::Remove(_, Key::Document(kind, id)) => self.version(DOCUMENT, [kind.name(), id]),
            Write::Remove(_, Key::Terminal(id)) => {
                self.version("SELECT version FROM terminals WHERE id = ?1", [key(id.0)])
            }
            Write::Remove(_, Key::Inventory(id)) => self.version(INVENTORY, [key(id.0)]),
            Write::Remove(_, Key::Package(manifest)) => self.version(PACKAGE, [manifest.0]),
            Write::Remove(_, Key::Assignment(id, action)) => self.version(ASSIGNMENT, [key(id.0), key(action.0)]),
            Write::Append(_) | Write::Forget(_) => Ok(None),
        }
    }

    fn find_terminal(&self, row: &TerminalRow) -> Result<Option<Found>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT version, vendor, model, serial, credential FROM terminals WHERE id = ?1")?;
        let mut rows = statement.query([row.id])?;
        let Some(there) = rows.next()? else {
            return Ok(None);
        };
        let text = |at| Ok::<_, rusqlite::Error>(there.get_ref(at)?.as_bytes()?);
        let same_holder = text(1)? == row.holder.vendor.as_bytes()
            && text(2)? == row.holder.model.as_bytes()
            && text(3)? == row.holder.serial.as_bytes();
        let credential = there.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let same_names = same_holder && credential == row.credential.as_ref().map(|id| &id[..]);
        Ok(Some(Found {
            version: unsigned(there, 0)?,
            same_holder,
            same_names,
        }))
    }

    fn version(&self, sql: &str, params: impl Params) -> Result<Option<Found>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let version = statement
            .query_row(params, |row| Ok(unsigned(row, 0)))
            .optional()?
            .transpose()?;
        Ok(version.map(|version| Found {
            version,
            same_holder: true,
            same_names: true,
        }))
    }

    /// Whether the commit would leave two terminals with one holder (clause 7).
    fn holders_clash(&self, writes: &[Write], found: &[Option<Found>]) -> Result<bool> {
        let mut taken = HashSet::new();
        for (write, there) in writes.iter().zip(found) {
            let Write::Put(_, PutRow::Terminal(row)) = write else {
                continue;
            };
            if !taken.insert(&row.holder) {
                return Ok(true);
            }
            if there.as_ref().is_some_and(|there| there.same_holder) {
                continue;
            }
            let mut statement = self
                .connection
                .prepare_cached("SELECT id FROM terminals WHERE serial = ?1 AND model = ?2 AND vendor = ?3")?;
            let owner: Option<i64> = statement
                .query_row([&row.holder.serial, &row.holder.model, &row.holder.vendor], |row| {
                    row.get(0)
                })
                .optional()?;
            // one that this commit names too is removed, or its new holder is among those that are taken
            if owner.is_some_and(|owner| writes.iter().all(|other| other.terminal() != Some(owner))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn delete(&self, name: &Key) -> Result<()> {
        match name {
            Key::Terminal(id) => self.execute("DELETE FROM terminals WHERE id = ?1", [key(id.0)]),
            Key::Inventory(id) => self.execute("DELETE FROM inventories WHERE terminal = ?1", [key(id.0)]),
            Key::Package(manifest) => self.execute("DELETE FROM packages WHERE manifest = ?1", [manifest.0]),
            Key::Assignment(id, action) => self.execute(
                "DELETE FROM assignments WHERE terminal = ?1 AND action = ?2",
                [key(id.0), key(action.0)],
            ),
            Key::Roster(id) => self.execute("DELETE FROM roster WHERE terminal = ?1", [key(id.0)]),
            Key::Document(kind, id) => {
                self.unmark(kind, id)?;
                self.execute("DELETE FROM documents WHERE kind = ?1 AND id = ?2", [kind.name(), id])
            }
        }
    }

    fn put(&self, row: &PutRow, there: Option<&Found>) -> Result<()> {
        let version = there.map_or(1, |there| there.version.saturating_add(1));
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        match row {
            PutRow::Terminal(row) => self.put_terminal(row, version, there),
            PutRow::Inventory(InventoryRow {
                terminal,
                reported,
                body,
            }) => self.execute(
                "INSERT INTO inventories (terminal, version, reported, body) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET version = ?2, reported = ?3, body = ?4",
                params![terminal, version, reported, body],
            ),
            PutRow::Package(PackageRow {
                manifest,
                vendor,
                component,
                published,
                body,
            }) => self.execute(
                "INSERT INTO packages (manifest, version, vendor, component, published, body) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT DO UPDATE SET version = ?2, vendor = ?3, component = ?4, published = ?5, body = ?6",
                params![manifest, version, vendor, component, published, body],
            ),
            PutRow::Assignment(AssignmentRow {
                terminal,
                action,
                package,
                stage,
                code,
                closed,
                updated,
                body,
            }) => self.execute(
                "INSERT INTO assignments \
                     (terminal, action, version, package, stage, code, closed, updated, body) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
                     ON CONFLICT DO UPDATE SET version = ?3, package = ?4, stage = ?5, code = ?6, closed = ?7, \
                     updated = ?8, body = ?9",
                params![terminal, action, version, package, stage, code, closed, updated, body],
            ),
            PutRow::Roster(row) => self.put_roster(row, version, there.is_some()),
            PutRow::Document(row) => self.put_document(row, version, there.is_some()),
        }
    }

    fn put_roster(&self, row: &RosterRow, version: i64, there: bool) -> Result<()> {
        let RosterEntry {
            terminal: _,
            branch,
            vendor,
            model,
            serial,
            merchant,
            version: release,
            state,
            seen: _,
        } = &row.entry;
        let (branch, state) = (branch.as_str(), state.name());
        let (terminal, seen, body) = (row.terminal, row.seen, &row.body);
        let values = params![
            terminal, version, branch, vendor, model, serial, merchant, release, state, seen, body
        ];
        // what the roll-up changes is the day, and that is in one index of seven
        if there
            && self
                .connection
                .prepare_cached(
                    "UPDATE roster SET version = ?2, seen = ?10, body = ?11 WHERE terminal = ?1 AND branch = ?3 \
                     AND vendor = ?4 AND model = ?5 AND serial = ?6 AND merchant IS ?7 AND release IS ?8 AND state = ?9",
                )?
                .execute(values)?
                > 0
        {
            return Ok(());
        }
        self.execute(
            "INSERT INTO roster \
             (terminal, version, branch, vendor, model, serial, merchant, release, state, seen, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT DO UPDATE SET version = ?2, branch = ?3, vendor = ?4, model = ?5, serial = ?6, merchant = ?7, \
             release = ?8, state = ?9, seen = ?10, body = ?11",
            values,
        )
    }

    fn put_document(&self, row: &DocumentRow, version: i64, there: bool) -> Result<()> {
        let Document { kind, id, marks, body } = &row.document;
        if there {
            self.unmark(kind, id)?;
        }
        self.execute(
            "INSERT INTO documents (kind, id, version, marks, body) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET version = ?3, marks = ?4, body = ?5",
            params![kind.name(), id, version, row.marks, body],
        )?;
        for (name, value) in marks {
            self.execute(
                "INSERT INTO marks (kind, name, value, id) VALUES (?1, ?2, ?3, ?4)",
                [kind.name(), name, value, id],
            )?;
        }
        Ok(())
    }

    /// Forgets under what marks a document is found.
    fn unmark(&self, kind: &Kind, id: &str) -> Result<()> {
        let marks = crate::document::marks(&self.connection, kind, id)?;
        for (name, value) in marks.into_iter().flatten() {
            self.execute(
                "DELETE FROM marks WHERE kind = ?1 AND name = ?2 AND value = ?3 AND id = ?4",
                [kind.name(), &name, &value, id],
            )?;
        }
        Ok(())
    }

    fn put_terminal(&self, row: &TerminalRow, version: i64, there: Option<&Found>) -> Result<()> {
        let TerminalRow {
            id,
            holder,
            credential,
            state,
            last_check_in,
            next_contact,
            body,
        } = row;
        if there.is_some_and(|there| there.same_names) {
            // leaves the indexes alone
            return self.execute(
                "UPDATE terminals SET version = ?2, state = ?3, last_check_in = ?4, next_contact = ?5, body = ?6 \
                 WHERE id = ?1",
                params![id, version, state, last_check_in, next_contact, body],
            );
        }
        self.execute(
            "INSERT INTO terminals \
             (id, version, vendor, model, serial, credential, state, last_check_in, next_contact, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                id,
                version,
                holder.vendor,
                holder.model,
                holder.serial,
                credential,
                state,
                last_check_in,
                next_contact,
                body
            ],
        )
    }

    fn append(&self, event: &EventRow) -> Result<()> {
        let EventRow {
            terminal,
            kind,
            time,
            body,
        } = event;
        self.execute(
            "INSERT INTO events (terminal, kind, time, body) VALUES (?1, ?2, ?3, ?4)",
            params![terminal, kind, time, body],
        )
    }

    /// The newest stays, for its number is what the next one follows.
    fn forget(&self, through: i64) -> Result<()> {
        self.execute(FORGET, [through])
    }

    fn execute(&self, sql: &str, params: impl Params) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    /// Has the log brought into the database when it has grown long, and begins it anew when that is done.
    ///
    /// RESTART waits for readers of what is in the log, so that the log does not grow without end under a steady load; but
    /// not for long, because commits wait too. A reader that stays gets another chance with every so many pages.
    fn checkpoint(&mut self) {
        let pages = LOG_PAGES.get();
        if pages < self.tried_at {
            self.tried_at = 0;
        }
        if self.log.take_copied() {
            self.restart(pages);
        } else if pages.saturating_sub(self.tried_at) >= self.checkpoint_pages {
            self.log.request();
        }
    }

    fn restart(&mut self, pages: i32) {
        let emptied = self.connection.busy_timeout(Duration::from_millis(100)).and_then(|()| {
            self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
                Ok(row.get::<_, i64>(0)? == 0)
            })
        });
        let restored = self.connection.busy_timeout(self.busy_timeout);
        self.tried_at = if matches!(emptied, Ok(true)) { 0 } else { pages };
        if matches!(emptied, Ok(true)) {
            LOG_PAGES.set(0);
        }
        if let Some(error) = emptied.err().or_else(|| restored.err()) {
            tracing::warn!(pages, code = ?error.sqlite_error_code(), "write-ahead log not emptied");
        }
    }
}

/// What is there of a record that is about to be written.
struct Found {
    version: u64,
    /// A terminal's holder is what it will be.
    same_holder: bool,
    /// All by which a terminal is found is what it will be.
    same_names: bool,
}

impl Verdict {
    const fn outcome(self) -> std::result::Result<(), StoreError> {
        match self {
            Self::Done => Ok(()),
            Self::Conflict => Err(StoreError::Conflict),
        }
    }
}

/// The same error for another caller.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Conflict => StoreError::Conflict,
        StoreError::Unavailable(text) => StoreError::Unavailable(text.clone()),
        StoreError::Corrupt(text) => StoreError::Corrupt(text.clone()),
        StoreError::Backend(text) => StoreError::Backend(text.clone()),
    }
}
