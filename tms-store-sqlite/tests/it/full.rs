//! No room: nothing is lost, and it works again when there is some.

use crate::{Place, put};
use std::sync::Arc;
use tms_core::store::{Change, Expect, InventoryRecord, Key, Store, TerminalId};
use tms_core::testing::sample;
use tms_store_sqlite::{Options, SqliteStore};
use tokio::task::JoinSet;

/// An inventory of some thirty pages.
fn large(id: u64) -> InventoryRecord {
    let mut inventory = sample::inventory(id);
    inventory.inventory.hardware = Some("x".repeat(120_000));
    inventory
}

async fn there(store: &SqliteStore, id: u64) -> bool {
    store.get(&Key::Inventory(TerminalId(id))).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_unavailable_and_loses_nothing() {
    let place = Place::new();
    let options = Options {
        max_pages: Some(400),
        ..Options::default()
    };
    let store = SqliteStore::open(place.path(), options).unwrap();
    let mut id = 0;
    let error = loop {
        let changes = vec![
            put(Expect::Absent, large(id)),
            Change::Append(sample::said(id, "stored")),
        ];
        match store.commit(changes).await {
            Ok(()) => id += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_transient(), "{error}");
    assert!((8..14).contains(&id), "{id}");
    for stored in 0..id {
        assert!(there(&store, stored).await);
    }
    assert!(!there(&store, id).await);
    assert_eq!(store.events(0, 100).await.unwrap().len() as u64, id);
    // what is small still goes in, and there is room for one again when one has gone
    store
        .commit(vec![Change::Append(sample::said(0, "small"))])
        .await
        .unwrap();
    assert!(store.commit(vec![put(Expect::Absent, large(id))]).await.is_err());
    store
        .commit(vec![Change::Remove(Expect::Version(1), Key::Inventory(TerminalId(0)))])
        .await
        .unwrap();
    store.commit(vec![put(Expect::Absent, large(id))]).await.unwrap();
    assert!(there(&store, id).await && !there(&store, 0).await);
    drop(store);
    // a larger disk
    let store = place.open();
    store.commit(vec![put(Expect::Absent, large(0))]).await.unwrap();
    for stored in 0..=id {
        assert!(there(&store, stored).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_room_for_some_of_a_group_some_are_done() {
    let place = Place::new();
    let options = Options {
        max_pages: Some(400),
        ..Options::default()
    };
    let store = SqliteStore::open(place.path(), options).unwrap();
    let start = Arc::new(tokio::sync::Barrier::new(40));
    let mut tasks = JoinSet::new();
    for id in 0..40 {
        let (store, start) = (store.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let changes = vec![
                Change::Append(sample::said(id, "stored")),
                put(Expect::Absent, large(id)),
            ];
            (id, store.commit(changes).await)
        });
    }
    let mut done = 0;
    for (id, outcome) in tasks.join_all().await {
        assert_eq!(outcome.is_ok(), there(&store, id).await, "{id}");
        match outcome {
            Ok(()) => done += 1,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    assert!((8..14).contains(&done), "{done}");
    assert_eq!(store.events(0, 100).await.unwrap().len(), done);
}
