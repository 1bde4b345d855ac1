//! Records as rows: the columns that they are found by, and the whole as JSON.

use crate::error::{Fault, Result};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tms_core::store::{
    Assignment, Change, Day, Document, Event, Expect, Holder, InventoryRecord, Key, Package, Record, RosterEntry,
    StoreError, Terminal, Versioned,
};

/// One change, as it is written. Made by the caller, so that the one thread that writes has less to do.
pub(crate) enum Write {
    Put(Expect, PutRow),
    Remove(Expect, Key),
    Append(EventRow),
    /// Events up to this number.
    Forget(i64),
}

pub(crate) enum PutRow {
    Terminal(TerminalRow),
    Inventory(InventoryRow),
    Package(PackageRow),
    Assignment(AssignmentRow),
    Roster(RosterRow),
    Document(DocumentRow),
}

pub(crate) struct TerminalRow {
    pub(crate) id: i64,
    pub(crate) holder: Holder,
    pub(crate) credential: Option<[u8; 16]>,
    pub(crate) state: &'static str,
    pub(crate) last_check_in: Option<i64>,
    pub(crate) next_contact: Option<i64>,
    pub(crate) body: String,
}

pub(crate) struct InventoryRow {
    pub(crate) terminal: i64,
    pub(crate) reported: i64,
    pub(crate) body: String,
}

pub(crate) struct PackageRow {
    pub(crate) manifest: [u8; 32],
    pub(crate) vendor: String,
    pub(crate) component: String,
    pub(crate) published: i64,
    pub(crate) body: String,
}

pub(crate) struct AssignmentRow {
    pub(crate) terminal: i64,
    pub(crate) action: i64,
    pub(crate) package: [u8; 32],
    pub(crate) stage: u8,
    pub(crate) code: u8,
    pub(crate) closed: bool,
    pub(crate) updated: i64,
    pub(crate) body: String,
}

pub(crate) struct RosterRow {
    pub(crate) terminal: i64,
    pub(crate) entry: RosterEntry,
    pub(crate) seen: i64,
    pub(crate) body: String,
}

pub(crate) struct DocumentRow {
    pub(crate) document: Document,
    pub(crate) marks: String,
}

pub(crate) struct EventRow {
    pub(crate) terminal: Option<i64>,
    pub(crate) kind: &'static str,
    pub(crate) time: i64,
    pub(crate) body: String,
}

impl Write {
    pub(crate) fn of(change: Change) -> std::result::Result<Self, StoreError> {
        Ok(match change {
            Change::Put(expect, record) => Self::Put(
                expect,
                match record {
                    Record::Terminal(terminal) => PutRow::Terminal(TerminalRow::of(*terminal)?),
                    Record::Inventory(inventory) => PutRow::Inventory(InventoryRow::of(&inventory)?),
                    Record::Package(package) => PutRow::Package(PackageRow::of(*package)?),
                    Record::Assignment(assignment) => PutRow::Assignment(AssignmentRow::of(&assignment)?),
                    Record::Roster(entry) => PutRow::Roster(RosterRow::of(*entry)?),
                    Record::Document(document) => PutRow::Document(DocumentRow::of(*document)?),
                },
            ),
            Change::Remove(expect, key) => Self::Remove(expect, key),
            Change::Append(event) => Self::Append(EventRow::of(&event)?),
            Change::Forget(through) => Self::Forget(i64::try_from(through).unwrap_or(i64::MAX)),
        })
    }

    /// What it expects, where it names a record.
    pub(crate) fn expect(&self) -> Option<Expect> {
        match self {
            Self::Put(expect, _) | Self::Remove(expect, _) => Some(*expect),
            Self::Append(_) | Self::Forget(_) => None,
        }
    }

    /// The terminal record that it names.
    pub(crate) fn terminal(&self) -> Option<i64> {
        match self {
            Self::Put(_, PutRow::Terminal(row)) => Some(row.id),
            Self::Remove(_, Key::Terminal(terminal)) => Some(key(terminal.0)),
            _ => None,
        }
    }
}

impl TerminalRow {
    fn of(terminal: Terminal) -> std::result::Result<Self, StoreError> {
        Ok(Self {
            id: key(terminal.id.0),
            body: json(&terminal)?,
            credential: terminal.credential.map(|credential| credential.id.0),
            state: terminal.state.name(),
            last_check_in: terminal.last_check_in.map(time),
            next_contact: terminal.next_contact.map(|next| time(next.from)),
            holder: terminal.holder,
        })
    }
}

impl InventoryRow {
    fn of(inventory: &InventoryRecord) -> std::result::Result<Self, StoreError> {
        Ok(Self {
            terminal: key(inventory.terminal.0),
            reported: time(inventory.reported),
            body: json(inventory)?,
        })
    }
}

impl PackageRow {
    fn of(package: Package) -> std::result::Result<Self, StoreError> {
        Ok(Self {
            manifest: package.package.manifest.0,
            body: json(&package)?,
            published: time(package.published),
            vendor: package.vendor,
            component: package.package.component,
        })
    }
}

impl AssignmentRow {
    fn of(assignment: &Assignment) -> std::result::Result<Self, StoreError> {
        Ok(Self {
            terminal: key(assignment.terminal.0),
            action: key(assignment.action.0),
            // what is about no package is kept under no digest
            package: assignment.order.package().map_or([0; 32], |package| package.manifest.0),
            stage: assignment.stage.into(),
            code: assignment.code.into(),
            closed: assignment.closed,
            updated: time(assignment.updated),
            body: json(assignment)?,
        })
    }
}

impl RosterRow {
    fn of(entry: RosterEntry) -> std::result::Result<Self, StoreError> {
        Ok(Self {
            terminal: key(entry.terminal.0),
            seen: Self::day(entry.seen),
            body: json(&entry)?,
            entry,
        })
    }

    /// A day as it is kept: -1 for never.
    pub(crate) fn day(day: Option<Day>) -> i64 {
        day.map_or(-1, i64::from)
    }
}

impl DocumentRow {
    fn of(document: Document) -> std::result::Result<Self, StoreError> {
        Ok(Self {
            marks: json(&document.marks)?,
            document,
        })
    }
}

impl EventRow {
    fn of(event: &Event) -> std::result::Result<Self, StoreError> {
        Ok(Self {
            terminal: event.terminal.map(|terminal| key(terminal.0)),
            kind: event.kind.name(),
            time: time(event.time),
            body: json(event)?,
        })
    }
}

/// An id as SQLite sorts it: with the highest bit flipped, the order of signed numbers is that of the unsigned ones.
pub(crate) const fn key(id: u64) -> i64 {
    (id ^ (1 << 63)).cast_signed()
}

/// A time as SQLite keeps it: the greatest that fits, where it does not.
fn time(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn json<T: Serialize>(record: &T) -> std::result::Result<String, StoreError> {
    // serde's text could quote what it could not write
    serde_json::to_string(record).map_err(|_| StoreError::Backend("a record cannot be written as json".to_owned()))
}

/// A record as it is stored, not yet read.
pub(crate) struct Stored {
    version: u64,
    body: String,
}

impl Stored {
    /// The record in the columns `version` and `body` at `at` and `at + 1`.
    pub(crate) fn of(row: &Row<'_>, at: usize) -> Result<Self> {
        Ok(Self {
            version: unsigned(row, at)?,
            body: row.get(at + 1)?,
        })
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, table: &'static str) -> Result<Versioned<T>> {
        Ok(Versioned {
            version: self.version,
            record: parse(&self.body, table)?,
        })
    }
}

/// Reads a record from the columns `version` and `body` at `at` and `at + 1`.
pub(crate) fn record<T: DeserializeOwned>(row: &Row<'_>, at: usize, table: &'static str) -> Result<Versioned<T>> {
    Ok(Versioned {
        version: unsigned(row, at)?,
        record: body(row, at + 1, table)?,
    })
}

/// Reads a version or a sequence number.
pub(crate) fn unsigned(row: &Row<'_>, at: usize) -> Result<u64> {
    let number: i64 = row.get(at)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, number).into())
}

/// Reads a body.
pub(crate) fn body<T: DeserializeOwned>(row: &Row<'_>, at: usize, table: &'static str) -> Result<T> {
    let text = row.get_ref(at)?.as_str().map_err(|_| Fault::Body {
        table,
        line: 0,
        column: 0,
    })?;
    parse(text, table)
}

fn parse<T: DeserializeOwned>(text: &str, table: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Fault::Body {
        table,
        line: error.line(),
        column: error.column(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_ids() {
        let ids = [0, 1, 2, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX];
        assert!(ids.map(key).is_sorted());
        assert_eq!((key(0), key(u64::MAX)), (i64::MIN, i64::MAX));
    }

    #[test]
    fn times_saturate() {
        assert_eq!((time(7), time(u64::MAX)), (7, i64::MAX));
    }
}
