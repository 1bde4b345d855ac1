//! Databases that earlier releases have written.

use crate::{Place, put};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use tms_core::store::{
    ActionId, Assignment, Caller, Change, Event, Expect, InventoryRecord, Package, Query, Store, Terminal, TerminalId,
    TerminalState,
};
use tms_core::testing::sample;
use tms_store_sqlite::{Options, SqliteStore};

fn fixture(schema: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/fixtures/schema{schema}.sqlite"))
}

/// Writes the database of the newest schema. Run it once, when that schema is released:
/// `cargo test -p tms-store-sqlite --test it migration::write_fixture -- --ignored`. A file that is there is never written
/// again: it is what an operator of that release has.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a file into the source tree"]
async fn write_fixture() {
    let path = fixture(1);
    assert!(!path.exists(), "{} is there already", path.display());
    let store = SqliteStore::open(&path, Options::default()).unwrap();
    let mut changes: Vec<_> = sample::events(1).into_iter().map(Change::Append).collect();
    for id in [1, 2, 1 << 63, u64::MAX] {
        changes.push(put(Expect::Absent, sample::terminal(id)));
        changes.push(put(Expect::Absent, sample::inventory(id)));
        changes.push(put(Expect::Absent, sample::package(id)));
        changes.push(put(Expect::Absent, sample::assignment(id, 1)));
        let mut closed = sample::assignment(id, 2);
        closed.closed = true;
        changes.push(put(Expect::Absent, closed));
    }
    store.commit(changes).await.unwrap();
    let mut bare = sample::terminal(2);
    (bare.key, bare.credential, bare.next_contact, bare.last_check_in) = (None, None, None, None);
    (bare.state, bare.tickets) = (TerminalState::Deactivated, Vec::new());
    store.commit(vec![put(Expect::Version(1), bare)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_schema_1_opens_and_goes_on() {
    let place = Place::new();
    fs::copy(fixture(1), place.path()).unwrap();
    let store = place.open();

    let page = store.list(&Query::Terminals(None), 10).await.unwrap();
    let standings: Vec<_> = page.iter().map(|found| (found.record.key(), found.version)).collect();
    let key = |id| tms_core::store::Key::Terminal(TerminalId(id));
    assert_eq!(
        standings,
        [(key(1), 1), (key(2), 2), (key(1 << 63), 1), (key(u64::MAX), 1)]
    );
    assert_eq!(store.list(&Query::Packages(None), 10).await.unwrap().len(), 4);
    assert_eq!(store.events(0, 100).await.unwrap().len(), 10);

    let mut holder = sample::holder("0000000000000002");
    let found = store.check_in(&Caller::Holder(holder.clone())).await.unwrap().unwrap();
    assert_eq!((found.terminal.record.id, found.terminal.version), (TerminalId(2), 2));
    assert_eq!(found.terminal.record.state, TerminalState::Deactivated);
    assert_eq!(
        found
            .assignments
            .iter()
            .map(|open| open.record.action)
            .collect::<Vec<_>>(),
        [ActionId(1)]
    );
    holder.serial = "8000000000000000".to_owned();
    let found = store.check_in(&Caller::Holder(holder)).await.unwrap().unwrap();
    let credential = found.terminal.record.credential.clone().unwrap().id;
    assert_eq!(
        store.check_in(&Caller::Credential(credential)).await.unwrap(),
        Some(found.clone())
    );

    let mut terminal = found.terminal.record;
    terminal.contact += 1;
    let next = sample::checked_in(terminal.id.0, sample::NOW);
    store
        .commit(vec![put(Expect::Version(1), terminal), Change::Append(next)])
        .await
        .unwrap();
    assert_eq!(store.events(10, 100).await.unwrap().len(), 1);
}

/// What today's records keep of what was stored: all of it.
#[test]
fn nothing_that_schema_1_has_stored_is_forgotten() {
    let place = Place::new();
    fs::copy(fixture(1), place.path()).unwrap();
    drop(place.open());
    assert_eq!(kept::<Terminal>(&place, "terminals"), 4);
    assert_eq!(kept::<InventoryRecord>(&place, "inventories"), 4);
    assert_eq!(kept::<Package>(&place, "packages"), 4);
    assert_eq!(kept::<Assignment>(&place, "assignments"), 8);
    assert_eq!(kept::<Event>(&place, "events"), 10);
}

fn kept<T: Serialize + DeserializeOwned>(place: &Place, table: &str) -> usize {
    // a copy of its own: SQLite writes files beside what it opens
    let untouched = Place::new();
    fs::copy(fixture(1), untouched.path()).unwrap();
    let (stored, migrated) = (untouched.raw(), place.raw());
    let bodies = |connection: &rusqlite::Connection| {
        let mut statement = connection
            .prepare(&format!("SELECT body FROM {table} ORDER BY rowid"))
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|body| body.unwrap()).collect::<Vec<_>>()
    };
    let (stored, migrated) = (bodies(&stored), bodies(&migrated));
    assert_eq!(stored.len(), migrated.len());
    for (stored, migrated) in stored.iter().zip(&migrated) {
        let record: T = serde_json::from_str(migrated).unwrap();
        contains(
            &serde_json::to_value(record).unwrap(),
            &renamed(serde_json::from_str(stored).unwrap()),
        );
    }
    stored.len()
}

/// What is written in other words today: an assignment of schema 1 has nothing but a package to install, and of what became
/// of it the number of the last result.
fn renamed(mut stored: Value) -> Value {
    let record = stored.as_object_mut().unwrap();
    if let (true, Some(package)) = (record.contains_key("action"), record.remove("package")) {
        record.insert("order".to_owned(), json!({ "do": "install", "package": package }));
        let number = record.remove("result").unwrap();
        record.insert("standing".to_owned(), json!({ "reported": number }));
    }
    stored
}

/// Panics where `whole` lacks something that `part` has.
fn contains(whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, part) in part {
                contains(whole.get(name).unwrap_or_else(|| panic!("{name} is lost")), part);
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len());
            whole.iter().zip(part).for_each(|(whole, part)| contains(whole, part));
        }
        _ => assert_eq!(whole, part),
    }
}
