//! Group commit: what shares a transaction, and what happens to the others when one fails.

use crate::{Place, put, terminal};
use std::time::Duration;
use tms_core::store::{Change, EventKind, Expect, Store, StoreError};
use tms_core::testing::sample;
use tms_store_sqlite::{Options, SqliteStore, Statistics};
use tokio::task::JoinSet;

/// Sends commits while the database is locked, so that they wait together, and gives what became of them in their order.
async fn together(place: &Place, store: &SqliteStore, commits: Vec<Vec<Change>>) -> Vec<Result<(), StoreError>> {
    let lock = place.raw();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut tasks = JoinSet::new();
    for (number, changes) in commits.into_iter().enumerate() {
        let store = store.clone();
        tasks.spawn(async move { (number, store.commit(changes).await) });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    lock.execute_batch("ROLLBACK").unwrap();
    let mut outcomes = tasks.join_all().await;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_together_share_one_transaction_and_conflict_alone() {
    let place = Place::new();
    let store = place.open();
    // three for each record, of which one wins
    let commits: Vec<_> = (0..60)
        .map(|number| {
            vec![
                put(Expect::Absent, sample::terminal(number / 3)),
                Change::Append(sample::said(1, "won")),
            ]
        })
        .collect();
    let outcomes = together(&place, &store, commits).await;
    for outcomes in outcomes.chunks(3) {
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert_eq!(
            outcomes
                .iter()
                .filter(|outcome| matches!(outcome, Err(StoreError::Conflict)))
                .count(),
            2
        );
    }
    assert_eq!(store.events(0, 100).await.unwrap().len(), 20);
    // the first was taken alone, or with some, and stood before the lock while the others came
    let Statistics { commits, transactions } = store.statistics();
    assert_eq!(commits, 60);
    assert!(transactions <= 3, "{transactions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_kept() {
    let place = Place::new();
    for (limit, most, least) in [(1, 40, 40), (10, 6, 4)] {
        let store = SqliteStore::open(
            place.path(),
            Options {
                group_limit: limit,
                ..Options::default()
            },
        )
        .unwrap();
        let commits = (0..40)
            .map(|number| vec![put(Expect::Any, sample::terminal(number))])
            .collect();
        assert!(together(&place, &store, commits).await.iter().all(Result::is_ok));
        let Statistics { commits, transactions } = store.statistics();
        assert!(
            commits == 40 && (least..=most).contains(&transactions),
            "limit {limit}: {transactions}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_sqlite_refuses_fails_alone() {
    // ABORT undoes one statement, ROLLBACK the whole transaction with all that is in it
    for way in ["ABORT", "ROLLBACK", "FAIL"] {
        let place = Place::new();
        let store = place.open();
        let trigger = format!(
            "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.kind = 'clone_suspected' \
             BEGIN SELECT RAISE({way}, 'canary'); END"
        );
        place.raw().execute_batch(&trigger).unwrap();
        let mut commits: Vec<_> = (0..30)
            .map(|number| {
                vec![
                    put(Expect::Absent, sample::terminal(number)),
                    Change::Append(sample::said(1, "done")),
                ]
            })
            .collect();
        let mut poison = sample::said(1, "");
        poison.kind = EventKind::CloneSuspected {
            evidence: "contact 7 came twice".to_owned(),
        };
        commits[17].push(Change::Append(poison));
        for (number, outcome) in (0..).zip(together(&place, &store, commits).await) {
            let there = terminal(&store, number).await.unwrap().is_some();
            match outcome {
                Ok(()) => assert!(there && number != 17, "{way}: {number}"),
                Err(StoreError::Backend(text)) => {
                    assert!(
                        !there && number == 17 && !text.contains("canary"),
                        "{way}: {number}: {text}"
                    );
                }
                Err(other) => panic!("{way}: {number}: {other}"),
            }
        }
        assert_eq!(store.events(0, 100).await.unwrap().len(), 29, "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_not_begun() {
    let place = Place::new();
    let store = place.open();
    let lock = place.raw();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = tokio::spawn({
        let store = store.clone();
        async move { store.commit(vec![put(Expect::Absent, sample::terminal(1))]).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    // the first stands before the lock, and the second waits behind it until its caller loses patience
    let second = store.commit(vec![put(Expect::Absent, sample::terminal(2))]);
    assert!(tokio::time::timeout(Duration::from_millis(50), second).await.is_err());
    lock.execute_batch("ROLLBACK").unwrap();
    first.await.unwrap().unwrap();
    store
        .commit(vec![put(Expect::Absent, sample::terminal(3))])
        .await
        .unwrap();
    assert!(terminal(&store, 1).await.unwrap().is_some());
    assert!(terminal(&store, 2).await.unwrap().is_none());
}
