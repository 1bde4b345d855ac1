//! Rosters, reports and consumers, on SQLite.

use super::Place;
use std::sync::Arc;
use tms_core::testing::estate;

#[tokio::test]
async fn the_roll_up_is_a_recount() {
    for seed in 0..4 {
        let place = Place::new();
        estate::the_roll_up_is_a_recount(Arc::new(place.open()), seed).await;
    }
}

#[tokio::test]
async fn a_consumer_loses_nothing() {
    let place = Place::new();
    estate::a_consumer_loses_nothing(Arc::new(place.open()), 1).await;
}

#[tokio::test]
async fn the_roster_follows_its_terminals() {
    let place = Place::new();
    estate::the_roster_follows_its_terminals(Arc::new(place.open())).await;
}

#[tokio::test]
async fn pages_make_the_list() {
    let place = Place::new();
    estate::pages_make_the_list(Arc::new(place.open())).await;
}

/// On every store a report has the same bytes.
#[tokio::test]
async fn reports_are_those_of_the_store_in_memory() {
    let place = Place::new();
    let here = estate::all_reports_as_csv(Arc::new(place.open())).await;
    let memory = estate::all_reports_as_csv(Arc::new(tms_core::store::MemoryStore::new())).await;
    assert_eq!(here, memory);
}
