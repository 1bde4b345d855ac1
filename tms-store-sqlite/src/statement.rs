//! What SQLite is asked for by a check-in: the same whatever else is in the database.

use crate::Options;
use crate::reader;
use crate::row::Write;
use crate::schema;
use crate::writer::Counters;
use crate::writer::Writer;
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tms_core::store::{Caller, Change, Expect, TerminalId};
use tms_core::testing::sample;

thread_local! {
    static STATEMENTS: Cell<u64> = const { Cell::new(0) };
}

/// What one check-in took.
#[derive(Debug, PartialEq, Eq)]
struct Took {
    statements: u64,
    /// Steps of SQLite's machine: a search in an index is one, whatever its depth, and so is each row that is looked at.
    steps: u64,
}

/// A database with so many terminals, the first of which has so many assignments, most of them over.
fn database(terminals: u64, closed: u64, open: u64) -> (tempfile::TempDir, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let connection = schema::writer(&directory.path().join("store"), &Options::default()).unwrap();
    let (log, _) = crate::checkpoint::Log::new();
    let writer = Writer::new(connection, log, &Options::default());
    let mut changes = Vec::new();
    for id in 1..=terminals {
        changes.push(Change::Put(Expect::Absent, sample::terminal(id).into()));
        changes.push(Change::Put(Expect::Absent, sample::roster(id).into()));
        changes.push(Change::Append(sample::checked_in(id, sample::NOW)));
    }
    for action in 1..=closed + open {
        let mut assignment = sample::assignment(1, action);
        assignment.closed = action <= closed;
        changes.push(Change::Put(Expect::Absent, assignment.into()));
    }
    for task in 0..closed {
        changes.push(Change::Put(Expect::Absent, sample::document(task).into()));
    }
    write(&writer, changes);
    (directory, writer)
}

fn write(writer: &Writer, changes: Vec<Change>) {
    let writes = changes.into_iter().map(|change| Write::of(change).unwrap()).collect();
    let outcomes = writer.write(&[writes], &Counters::default());
    outcomes.into_iter().for_each(|outcome| outcome.unwrap());
}

/// One check-in of the first terminal: what it reads and what it commits.
fn check_in(writer: &Writer) {
    let caller = Caller::Id(TerminalId(1));
    let found = reader::check_in(writer.connection(), &caller)
        .unwrap()
        .unwrap()
        .decode()
        .unwrap();
    let mut terminal = found.terminal.record;
    terminal.contact += 1;
    write(
        writer,
        vec![
            Change::Put(Expect::Version(found.terminal.version), terminal.into()),
            Change::Append(sample::checked_in(1, sample::NOW)),
        ],
    );
}

fn watch(connection: &Connection, steps: &Arc<AtomicU64>) {
    connection.trace_v2(
        TraceEventCodes::SQLITE_TRACE_STMT,
        Some(|event| {
            if matches!(event, TraceEvent::Stmt(..)) {
                STATEMENTS.set(STATEMENTS.get() + 1);
            }
        }),
    );
    let steps = Arc::clone(steps);
    let count = move || {
        steps.fetch_add(1, Ordering::Relaxed);
        false
    };
    connection.progress_handler(1, Some(count)).unwrap();
}

fn measure(terminals: u64, closed: u64, open: u64) -> Took {
    let (_directory, writer) = database(terminals, closed, open);
    let steps = Arc::new(AtomicU64::new(0));
    // once before: statements are prepared, and that is not what is counted
    check_in(&writer);
    watch(writer.connection(), &steps);
    STATEMENTS.set(0);
    check_in(&writer);
    Took {
        statements: STATEMENTS.get(),
        steps: steps.load(Ordering::Relaxed),
    }
}

#[test]
fn a_check_in_asks_for_the_same_whatever_else_there_is() {
    let least = measure(1, 0, 0);
    // read; begin, write, append, commit
    assert_eq!(least.statements, 5);
    assert!(least.steps > 20, "nothing was counted: {least:?}");
    assert_eq!(measure(3_000, 0, 0), least, "terminals");
    let one = measure(1, 0, 1);
    assert_eq!(one.statements, least.statements);
    assert_eq!(measure(1, 2_000, 1), one, "assignments that are over, and documents");
    assert_eq!(measure(1, 2_000, 0), least, "assignments that are over, and documents");
}
