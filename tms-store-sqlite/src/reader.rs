//! What is read, and by which statements.

use crate::document;
use crate::error::Result;
use crate::roster;
use crate::row::{Stored, body, key, record, unsigned};
use rusqlite::{Connection, OptionalExtension, Params, ToSql};
use serde::de::DeserializeOwned;
use tms_core::store::{
    Assignment, Caller, CheckIn, Event, Group, InventoryRecord, Key, Package, Query, Record, RosterEntry, Sequence,
    Tally, Terminal, Versioned,
};

/// One statement reads terminal and open assignments, so that both are of one moment; most terminals have none, and then it
/// is one row.
macro_rules! check_in {
    ($which:literal) => {
        concat!(
            "SELECT t.version, t.body, a.version, a.body FROM terminals t \
             LEFT JOIN assignments a ON a.terminal = t.id AND a.closed = 0 WHERE ",
            $which,
            " ORDER BY a.action"
        )
    };
}

const CHECK_IN_BY_ID: &str = check_in!("t.id = ?1");
const CHECK_IN_BY_HOLDER: &str = check_in!("t.serial = ?1 AND t.model = ?2 AND t.vendor = ?3");
const CHECK_IN_BY_CREDENTIAL: &str =
    check_in!("t.id = (SELECT id FROM terminals WHERE credential = ?1 ORDER BY id LIMIT 1)");
const TERMINAL: &str = "SELECT version, body FROM terminals WHERE id = ?1";
const INVENTORY: &str = "SELECT version, body FROM inventories WHERE terminal = ?1";
const PACKAGE: &str = "SELECT version, body FROM packages WHERE manifest = ?1";
const ASSIGNMENT: &str = "SELECT version, body FROM assignments WHERE terminal = ?1 AND action = ?2";
const ROSTER: &str = "SELECT version, body FROM roster WHERE terminal = ?1";
const TERMINALS: &str = "SELECT version, body FROM terminals WHERE id >= ?1 ORDER BY id LIMIT ?2";
const PACKAGES: &str = "SELECT version, body FROM packages WHERE manifest > ?1 ORDER BY manifest LIMIT ?2";
const ASSIGNMENTS: &str =
    "SELECT version, body FROM assignments WHERE terminal = ?1 AND action >= ?2 ORDER BY action LIMIT ?3";
const EVENTS: &str = "SELECT seq, body FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";

/// A read, together with whom to tell.
pub(crate) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Does reads that wait together in one transaction: SQLite forgets what it has cached whenever it looks again and somebody
/// has written in between, and under load somebody always has. Each was asked for before the transaction began, so that
/// none sees less than it must.
pub(crate) fn serve(connection: &Connection, reads: Vec<Read>) {
    let together = reads.len() > 1;
    if together {
        // where it fails, each read finds out for itself
        let _ = connection
            .prepare_cached("BEGIN")
            .and_then(|mut begin| begin.execute([]));
    }
    for read in reads {
        read(connection);
    }
    if together && !connection.is_autocommit() {
        let _ = connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
    }
}

/// What a check-in reads, as it is stored: the caller reads the text, and the thread that all wait for does not.
pub(crate) struct StoredCheckIn {
    terminal: Stored,
    assignments: Vec<Stored>,
}

impl StoredCheckIn {
    pub(crate) fn decode(&self) -> Result<CheckIn> {
        Ok(CheckIn {
            terminal: self.terminal.decode("terminals")?,
            assignments: self
                .assignments
                .iter()
                .map(|stored| stored.decode("assignments"))
                .collect::<Result<_>>()?,
        })
    }
}

pub(crate) fn check_in(connection: &Connection, caller: &Caller) -> Result<Option<StoredCheckIn>> {
    match caller {
        Caller::Id(id) => check_in_by(connection, CHECK_IN_BY_ID, [key(id.0)]),
        Caller::Holder(holder) => check_in_by(
            connection,
            CHECK_IN_BY_HOLDER,
            [&holder.serial, &holder.model, &holder.vendor],
        ),
        Caller::Credential(credential) => check_in_by(connection, CHECK_IN_BY_CREDENTIAL, [credential.0]),
    }
}

fn check_in_by(connection: &Connection, sql: &str, params: impl Params) -> Result<Option<StoredCheckIn>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found: Option<StoredCheckIn> = None;
    while let Some(row) = rows.next()? {
        let check_in = match &mut found {
            Some(check_in) => check_in,
            None => found.insert(StoredCheckIn {
                terminal: Stored::of(row, 0)?,
                assignments: Vec::new(),
            }),
        };
        if row.get::<_, Option<i64>>(2)?.is_some() {
            check_in.assignments.push(Stored::of(row, 2)?);
        }
    }
    Ok(found)
}

pub(crate) fn get(connection: &Connection, name: &Key) -> Result<Option<Versioned<Record>>> {
    match name {
        Key::Terminal(id) => one::<Terminal>(connection, TERMINAL, [key(id.0)], "terminals"),
        Key::Inventory(id) => one::<InventoryRecord>(connection, INVENTORY, [key(id.0)], "inventories"),
        Key::Package(manifest) => one::<Package>(connection, PACKAGE, [manifest.0], "packages"),
        Key::Assignment(id, action) => {
            one::<Assignment>(connection, ASSIGNMENT, [key(id.0), key(action.0)], "assignments")
        }
        Key::Roster(id) => one::<RosterEntry>(connection, ROSTER, [key(id.0)], "roster"),
        Key::Document(kind, id) => document::get(connection, kind, id),
    }
}

pub(crate) fn list(connection: &Connection, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>> {
    match query {
        Query::Terminals(after) => match first(after.map(|id| id.0)) {
            Some(first) => page::<Terminal>(connection, TERMINALS, &[&first, &limit], "terminals"),
            None => Ok(Vec::new()),
        },
        Query::Packages(after) => {
            // the empty name is before every other
            let after = after.as_ref().map_or(&[][..], |digest| &digest.0);
            page::<Package>(connection, PACKAGES, &[&after, &limit], "packages")
        }
        Query::Assignments(id, after) => match first(after.map(|action| action.0)) {
            Some(first) => page::<Assignment>(connection, ASSIGNMENTS, &[&key(id.0), &first, &limit], "assignments"),
            None => Ok(Vec::new()),
        },
        Query::Documents { kind, prefix, after } => document::page(connection, kind, prefix, after.as_deref(), limit),
        Query::Marked {
            kind,
            mark,
            prefix,
            after,
        } => document::marked(connection, kind, mark, prefix, after.as_ref(), limit),
        Query::Roster { filter, after } => roster::page(connection, filter, after.as_ref(), limit),
    }
}

pub(crate) fn tally(connection: &Connection, tally: &Tally, limit: u32) -> Result<Vec<Group>> {
    match tally {
        Tally::Marked { kind, mark, prefix } => document::tally(connection, kind, mark, prefix, limit),
        Tally::Roster { filter, by } => roster::tally(connection, filter, by, limit),
    }
}

pub(crate) fn events(connection: &Connection, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(EVENTS)?;
    let mut rows = statement.query([after, limit.into()])?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push((unsigned(row, 0)?, body(row, 1, "events")?));
    }
    Ok(page)
}

/// The first key of a page that begins after this one, where there can be one.
fn first(after: Option<u64>) -> Option<i64> {
    match after {
        Some(after) => key(after).checked_add(1),
        None => Some(i64::MIN),
    }
}

fn one<T: DeserializeOwned + Into<Record>>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    table: &'static str,
) -> Result<Option<Versioned<Record>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_row(params, |row| Ok(record::<T>(row, 0, table)))
        .optional()?;
    found.transpose().map(|found| found.map(any))
}

fn page<T: DeserializeOwned + Into<Record>>(
    connection: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
    table: &'static str,
) -> Result<Vec<Versioned<Record>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(any(record::<T>(row, 0, table)?));
    }
    Ok(page)
}

fn any<T: Into<Record>>(found: Versioned<T>) -> Versioned<Record> {
    Versioned {
        version: found.version,
        record: found.record.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    /// A million terminals make a scan a catastrophe, and a sort of what an index could give in order a small one.
    #[test]
    fn every_read_goes_by_an_index() {
        let connection = schema::in_memory();
        for sql in [
            CHECK_IN_BY_ID,
            CHECK_IN_BY_HOLDER,
            CHECK_IN_BY_CREDENTIAL,
            TERMINAL,
            INVENTORY,
            PACKAGE,
            ASSIGNMENT,
            ROSTER,
            TERMINALS,
            PACKAGES,
            ASSIGNMENTS,
            EVENTS,
        ] {
            schema::assert_by_index(&connection, sql, Vec::new());
            if sql.contains("LEFT JOIN") {
                let plan = schema::plan(&connection, sql, Vec::new());
                assert!(
                    plan.iter().any(|step| step.contains("assignments_open")),
                    "{sql}: {plan:?}"
                );
            }
        }
    }
}
