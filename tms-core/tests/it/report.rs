//! Rosters, reports and consumers, on the store in memory.

use proptest::prelude::*;
use std::sync::Arc;
use tms_core::store::MemoryStore;
use tms_core::testing::estate;

fn run<F: Future<Output = ()>>(future: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_roll_up_is_a_recount(seed: u32) {
        run(estate::the_roll_up_is_a_recount(Arc::new(MemoryStore::new()), seed.into()));
    }

    #[test]
    fn a_consumer_loses_nothing(seed: u32) {
        run(estate::a_consumer_loses_nothing(Arc::new(MemoryStore::new()), seed.into()));
    }
}

#[test]
fn the_roster_follows_its_terminals() {
    run(estate::the_roster_follows_its_terminals(Arc::new(MemoryStore::new())));
}

#[test]
fn pages_make_the_list() {
    run(estate::pages_make_the_list(Arc::new(MemoryStore::new())));
}

/// Names and order of columns are what other programs read: the file changes only with an addition at the end of a row.
#[test]
fn reports_are_to_the_byte_what_they_were() {
    run(async {
        let reports = estate::all_reports_as_csv(Arc::new(MemoryStore::new())).await;
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/reports.csv");
        if std::env::var_os("TMS_BLESS").is_some() {
            std::fs::write(path, &reports).unwrap();
        }
        assert_eq!(reports, std::fs::read_to_string(path).unwrap());
    });
}
