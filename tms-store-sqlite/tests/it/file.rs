//! Files that are not as they should be, and how a store leaves its own.

use crate::{Place, put, raw, terminal};
use std::fs;
use std::time::Duration;
use tms_core::store::{ActionId, Caller, Change, Expect, Key, Query, Store, StoreError, TerminalId};
use tms_core::testing::sample;
use tms_store_sqlite::{Options, SqliteStore};

fn refusal(place: &Place) -> StoreError {
    SqliteStore::open(place.path(), Options::default()).unwrap_err()
}

#[test]
fn what_is_not_a_database_is_corrupt() {
    let place = Place::new();
    fs::write(place.path(), "this is a letter, and no database; ".repeat(100)).unwrap();
    assert!(matches!(refusal(&place), StoreError::Corrupt(_)));
}

#[test]
fn a_database_of_another_application_is_left_alone() {
    for sql in [
        "CREATE TABLE letters (text TEXT)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 1",
    ] {
        let place = Place::new();
        raw(&place.path()).execute_batch(sql).unwrap();
        let before = fs::read(place.path()).unwrap();
        let StoreError::Backend(text) = refusal(&place) else {
            panic!("{sql}");
        };
        assert_eq!(text, "the database belongs to another application");
        assert_eq!(fs::read(place.path()).unwrap(), before, "{sql}");
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let place = Place::new();
    drop(place.open());
    place.raw().execute_batch("PRAGMA user_version = 77").unwrap();
    let before = fs::read(place.path()).unwrap();
    let StoreError::Backend(text) = refusal(&place) else {
        panic!("not a backend error");
    };
    assert!(
        text.contains("has schema 77") && text.contains("use a newer program"),
        "{text}"
    );
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_directory_that_is_not_there_is_unavailable() {
    let place = Place::new();
    let error = SqliteStore::open(place.path().join("deeper"), Options::default()).unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[test]
fn many_may_make_one_database_at_once() {
    let place = Place::new();
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let path = place.path();
            std::thread::spawn(move || SqliteStore::open(path, Options::default()).map(drop))
        })
        .collect();
    for opener in openers {
        opener.join().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_emptied_when_the_last_handle_goes() {
    let place = Place::new();
    let store = place.open();
    let other = store.clone();
    store
        .commit((0..500).map(|id| put(Expect::Any, sample::terminal(id))).collect())
        .await
        .unwrap();
    drop(store);
    let log = place.directory.path().join("store-wal");
    assert!(log.metadata().unwrap().len() > 500_000);
    assert!(terminal(&other, 499).await.unwrap().is_some());
    drop(other);
    assert!(!log.exists());
    let rows: i64 = place
        .raw()
        .query_row("SELECT count(*) FROM terminals", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_not_grow_without_end() {
    let place = Place::new();
    let store = SqliteStore::open(
        place.path(),
        Options {
            checkpoint_pages: 100,
            ..Options::default()
        },
    )
    .unwrap();
    let busy = tokio::spawn({
        let store = store.clone();
        async move {
            loop {
                store.list(&Query::Terminals(None), 100).await.unwrap();
            }
        }
    });
    for round in 0..400 {
        store
            .commit(
                (0..20)
                    .map(|id| put(Expect::Any, sample::terminal(id + round)))
                    .collect(),
            )
            .await
            .unwrap();
    }
    busy.abort();
    // each round writes some ten pages of 4 KiB: without checkpoints it would be sixteen megabytes; how often the log can
    // begin anew depends on when the reader pauses
    let log = place.directory.path().join("store-wal").metadata().unwrap().len();
    assert!(log < 8_000_000, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_program_holds_the_database_commits_are_unavailable_and_reads_are_not() {
    let place = Place::new();
    let options = Options {
        busy_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let store = SqliteStore::open(place.path(), options).unwrap();
    store
        .commit(vec![put(Expect::Absent, sample::terminal(1))])
        .await
        .unwrap();
    let lock = place.raw();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store
        .commit(vec![put(Expect::Absent, sample::terminal(2))])
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(terminal(&store, 1).await.unwrap().is_some());
    lock.execute_batch("ROLLBACK").unwrap();
    assert!(terminal(&store, 2).await.unwrap().is_none());
    store
        .commit(vec![put(Expect::Absent, sample::terminal(2))])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_record_is_corrupt_and_not_quoted() {
    let place = Place::new();
    let store = place.open();
    let mut changes: Vec<_> = (1..=4).map(|id| put(Expect::Any, sample::terminal(id))).collect();
    changes.extend([
        put(Expect::Any, sample::assignment(1, 1)),
        Change::Append(sample::said(1, "once")),
    ]);
    store.commit(changes).await.unwrap();
    let spoil = place.raw();
    for sql in [
        "UPDATE assignments SET body = replace(body, '\"closed\":false', '\"closed\":\"canary\"')",
        "UPDATE terminals SET body = replace(body, '\"active\"', '\"canary\"') WHERE serial LIKE '%2'",
        "UPDATE terminals SET body = 'canary' WHERE serial LIKE '%3'",
        "UPDATE events SET body = replace(body, '\"terminal\"', '\"canary\"')",
    ] {
        assert_eq!(spoil.execute(sql, []).unwrap(), 1, "{sql}");
    }
    let action = Key::Assignment(TerminalId(1), ActionId(1));
    let corrupt = [
        store.check_in(&Caller::Id(TerminalId(1))).await.map(drop),
        store.get(&action).await.map(drop),
        terminal(&store, 2).await.map(drop),
        terminal(&store, 3).await.map(drop),
        store.list(&Query::Terminals(None), 10).await.map(drop),
        store.events(0, 10).await.map(drop),
    ];
    for outcome in corrupt {
        let Err(StoreError::Corrupt(text)) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(text.contains("malformed") && !text.contains("canary"), "{text}");
    }
    // the others are there, and what is malformed can be replaced
    assert!(terminal(&store, 4).await.unwrap().is_some());
    store
        .commit(vec![put(Expect::Version(1), sample::terminal(3))])
        .await
        .unwrap();
    assert_eq!(terminal(&store, 3).await.unwrap().unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_corrupt() {
    let place = Place::new();
    let store = place.open();
    store
        .commit((0..50).map(|id| put(Expect::Any, sample::terminal(id))).collect())
        .await
        .unwrap();
    drop(store);
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'terminals'";
    let root: usize = place
        .raw()
        .query_row(sql, [], |row| row.get::<_, u32>(0))
        .unwrap()
        .try_into()
        .unwrap();
    let mut file = fs::read(place.path()).unwrap();
    file[(root - 1) * 4096..root * 4096].fill(0xEE);
    fs::write(place.path(), file).unwrap();
    let store = place.open();
    assert!(matches!(terminal(&store, 7).await, Err(StoreError::Corrupt(_))));
    let write = store.commit(vec![put(Expect::Any, sample::terminal(7))]).await;
    assert!(matches!(write, Err(StoreError::Corrupt(_))), "{write:?}");
    // the other tables are sound
    store
        .commit(vec![Change::Append(sample::said(7, "still here"))])
        .await
        .unwrap();
}
