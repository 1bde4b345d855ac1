//! Connections, and the schema that they find.

use crate::Options;
use crate::error::Fault;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rusqlite_migration::{M, Migrations};
use std::path::Path;
use std::thread;
use std::time::Duration;
use tms_core::store::StoreError;

/// Every schema that was ever released, as the step from the one before. Append only.
const STEPS: &[M<'static>] = &[
    M::up(include_str!("../migrations/0001_records.sql")),
    M::up(include_str!("../migrations/0002_history.sql")),
    M::up(include_str!("../migrations/0003_estate.sql")),
    M::up(include_str!("../migrations/0004_lists.sql")),
    M::up(include_str!("../migrations/0005_pages.sql")),
];

/// The mark of our databases, as the first migration sets it.
const APPLICATION: i64 = 0x544D_5331;

/// Between two tries to prepare a database that another process holds.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens the connection that writes, and brings the database to the newest schema.
pub(crate) fn writer(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE, options).map_err(Fault::from)?;
    let pause = u32::try_from(PAUSE.as_millis()).unwrap_or(1);
    let mut tries = timeout(options).as_millis() / u128::from(pause);
    loop {
        // two processes may make one database at the same time, and the change to a write-ahead log does not wait
        match prepare(&mut connection, options) {
            Err(error) if error.is_transient() && tries > 0 => tries -= 1,
            other => break other?,
        }
        thread::sleep(PAUSE);
    }
    Ok(connection)
}

/// Opens a connection that reads.
pub(crate) fn reader(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let open = || {
        let connection = connect(path, OpenFlags::empty(), options)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| Fault::from(error).into())
}

/// Opens the connection that brings the log into the database.
pub(crate) fn copier(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let open = || {
        let connection = connect(path, OpenFlags::empty(), options)?;
        // with less, the log could begin anew before what was copied from it is on the disk
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| Fault::from(error).into())
}

fn connect(path: &Path, more: OpenFlags, options: &Options) -> rusqlite::Result<Connection> {
    // each connection belongs to one thread, so that SQLite need not lock it
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(timeout(options))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -i64::from(options.cache_kib))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn timeout(options: &Options) -> Duration {
    options.busy_timeout.min(Duration::from_secs(86_400))
}

/// Sets the writing connection up. Does nothing to a database that is not ours or is too new.
fn prepare(connection: &mut Connection, options: &Options) -> Result<(), StoreError> {
    let latest = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found = Standing::of(connection).map_err(Fault::from)?;
    if found.application != APPLICATION && (found.application != 0 || found.schema != 0 || found.tables != 0) {
        return Err(StoreError::Backend(
            "the database belongs to another application".to_owned(),
        ));
    }
    if found.schema > latest {
        return Err(StoreError::Backend(format!(
            "the database has schema {}, and this program knows no schema after {latest}: use a newer program",
            found.schema
        )));
    }
    set_up(connection, options).map_err(Fault::from)?;
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let migrated = Migrations::from_slice(STEPS).to_latest(connection);
    match migrated {
        Ok(()) => {
            if found.schema < latest {
                tracing::info!(from = found.schema, to = latest, "database schema migrated");
            }
            Ok(())
        }
        // another process may have done the same step at the same time: then it is done
        Err(_) if Standing::of(connection).map_err(Fault::from)?.schema == latest => Ok(()),
        Err(rusqlite_migration::Error::RusqliteError { err, .. }) => Err(Fault::from(err).into()),
        Err(error) => Err(StoreError::Backend(format!("the schema cannot be migrated: {error}"))),
    }
}

fn set_up(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        // a file system without shared memory, or a database in memory
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error {
                code: ErrorCode::CannotOpen,
                extended_code: rusqlite::ffi::SQLITE_CANTOPEN,
            },
            None,
        ));
    }
    // with NORMAL a commit that has returned can be lost with the power
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    // the writer says when (see `checkpoint`)
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    if let Some(pages) = options.max_pages {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

/// What a database says of itself.
struct Standing {
    application: i64,
    schema: i64,
    tables: i64,
}

impl Standing {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        // in one transaction: another process may make the database between two of these
        let moment = connection.unchecked_transaction()?;
        let number = |sql| moment.query_row(sql, [], |row| row.get(0));
        Ok(Self {
            application: number("PRAGMA application_id")?,
            schema: number("PRAGMA user_version")?,
            tables: number("SELECT count(*) FROM sqlite_schema")?,
        })
    }
}

/// A database of the newest schema, for tests of single statements.
#[cfg(test)]
pub(crate) fn in_memory() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    Migrations::from_slice(STEPS).to_latest(&mut connection).unwrap();
    connection
}

/// Fails where SQLite would look at every row for this, or sort what an index could give in order.
#[cfg(test)]
pub(crate) fn assert_by_index(connection: &Connection, sql: &str, values: Vec<rusqlite::types::Value>) {
    let plan = plan(connection, sql, values);
    assert!(
        plan.iter()
            .all(|step| !step.contains("SCAN") && !step.contains("TEMP B-TREE")),
        "{sql}: {plan:?}"
    );
}

/// How SQLite would do it.
#[cfg(test)]
pub(crate) fn plan(connection: &Connection, sql: &str, mut values: Vec<rusqlite::types::Value>) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    values.resize(statement.parameter_count(), rusqlite::types::Value::Null);
    let rows = statement
        .query_map(rusqlite::params_from_iter(values), |row| row.get(3))
        .unwrap();
    rows.map(|step| step.unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_sound() {
        Migrations::from_slice(STEPS).validate().unwrap();
        let connection = in_memory();
        assert_eq!(Standing::of(&connection).unwrap().application, APPLICATION);
    }

    #[test]
    fn schema_5_finds_the_audit_log_of_a_branch_by_its_line() {
        let mut connection = Connection::open_in_memory().unwrap();
        let migrations = Migrations::from_slice(STEPS);
        migrations.to_version(&mut connection, 4).unwrap();
        connection
            .execute_batch(
                r#"INSERT INTO documents VALUES ('audit', '07', 1, '{"branch":"/east/hill/","operator":"li"}', '{}');
                   INSERT INTO documents VALUES ('audit', '08', 1, '{"branch":"/"}', '{}');
                   INSERT INTO documents VALUES ('site', '09', 1, '{"branch":"/east/"}', '{}');
                   INSERT INTO marks VALUES ('audit', 'branch', '/east/hill/', '07'), ('audit', 'operator', 'li', '07'),
                       ('audit', 'branch', '/', '08'), ('site', 'branch', '/east/', '09');"#,
            )
            .unwrap();
        migrations.to_latest(&mut connection).unwrap();
        let read = |sql| {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.map(|row| row.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            read("SELECT kind || ' ' || name || ' ' || value || ' ' || id FROM marks"),
            [
                "audit operator li 07",
                "audit under0 /@07 07",
                "audit under0 /@08 08",
                "audit under1 /east/@07 07",
                "audit under2 /east/hill/@07 07",
                "site branch /east/ 09",
            ]
        );
        assert_eq!(
            read("SELECT marks FROM documents"),
            [
                r#"{"operator":"li","under0":"/@07","under1":"/east/@07","under2":"/east/hill/@07"}"#,
                r#"{"under0":"/@08"}"#,
                r#"{"branch":"/east/"}"#,
            ]
        );
    }

    /// WAL and FULL together are what clause 2 stands on.
    #[test]
    fn a_commit_is_synced() {
        let directory = tempfile::tempdir().unwrap();
        let connection = writer(&directory.path().join("store"), &Options::default()).unwrap();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        assert_eq!(pragma("journal_mode"), Ok("wal".to_owned().into()));
        assert_eq!(pragma("synchronous"), Ok(2.into()));
    }
}
