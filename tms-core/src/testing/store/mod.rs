//! The conformance suite of stores.
//!
//! A backend says how its stores are opened, and one line makes a test of every clause of the
//! [contract](crate::store#contract):
//!
//! ```
//! use std::sync::Arc;
//! use tms_core::store::{MemoryStore, Store};
//! use tms_core::testing::store::Fixture;
//!
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl Fixture for Memory {
//!     type Home = MemoryStore;
//!
//!     async fn home(&self) -> MemoryStore {
//!         MemoryStore::new()
//!     }
//!
//!     async fn open(&self, home: &MemoryStore) -> Arc<dyn Store> {
//!         Arc::new(home.clone())
//!     }
//! }
//!
//! tms_core::store_tests!(Memory);
//! # fn main() {}
//! ```

mod clause;
mod found;
mod model;
mod picture;

use crate::store::{Store, StoreError};
use async_trait::async_trait;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How stores are made and opened. A value, so that one type may open many kinds of them.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// What keeps one store while nobody has it open: a directory, a database, a connection string.
    type Home: Send + Sync + 'static;

    /// A home for a fresh, empty store.
    async fn home(&self) -> Self::Home;

    /// Opens the store at home.
    ///
    /// While other handles are open, this is a clone of theirs or, where a backend has nodes, another node's: clause 3 holds
    /// between them. When all have been dropped, it opens again what was made durable: clause 2 is proved by that. A
    /// backend in memory keeps its records in the home, and proves no more than that its handles do not.
    async fn open(&self, home: &Self::Home) -> Arc<dyn Store>;
}

/// What a store did against its contract.
#[derive(Debug)]
pub struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Violation {
    fn from(error: StoreError) -> Self {
        Self(format!("a call failed that must not: {error}"))
    }
}

type Proof<'a> = Pin<Box<dyn Future<Output = Result<(), Violation>> + 'a>>;

/// One clause of the contract, or a part of one, and its proof.
pub struct Clause<F> {
    name: &'static str,
    prove: for<'a> fn(&'a F) -> Proof<'a>,
}

impl<F: Fixture> Clause<F> {
    /// A proof that takes longer than this has failed.
    const PATIENCE: Duration = Duration::from_secs(300);

    /// The name of its test.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Proves it on fresh stores. Needs a tokio runtime with more than one thread, or races do not race.
    ///
    /// # Errors
    /// What the store did wrong.
    pub async fn prove(&self, fixture: &F) -> Result<(), Violation> {
        match tokio::time::timeout(Self::PATIENCE, (self.prove)(fixture)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Violation(format!("not done after {} s", Self::PATIENCE.as_secs()))),
        }
    }
}

impl<F> fmt::Debug for Clause<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clause").field(&self.name).finish()
    }
}

/// All clauses, in the order of the contract.
#[must_use]
pub fn clauses<F: Fixture>() -> Vec<Clause<F>> {
    macro_rules! clauses {
        ($($module:ident::$name:ident),* $(,)?) => {
            vec![$(Clause { name: stringify!($name), prove: |fixture| Box::pin($module::$name(fixture)) }),*]
        };
    }
    clauses![
        clause::a_commit_is_atomic,
        clause::commits_are_durable,
        clause::reads_see_every_commit_that_has_returned,
        clause::a_read_is_of_one_moment,
        clause::versions_count_puts,
        clause::expectations_are_checked,
        clause::one_of_racing_commits_wins,
        clause::no_two_terminals_have_one_holder,
        clause::pages_are_in_order,
        clause::events_are_in_order,
        clause::events_never_appear_behind_a_reader,
        clause::forgotten_events_are_gone_and_the_newest_stays,
        clause::a_dropped_commit_leaves_all_or_nothing,
        clause::errors_hold_no_content,
        clause::a_record_named_twice_is_refused,
        clause::a_check_in_finds_its_terminal_and_what_is_open,
        clause::records_come_back_whole,
        found::documents_are_found_by_their_marks,
        found::the_roster_is_listed_and_counted,
        model::any_run_of_commits_is_as_in_memory,
    ]
}

/// Proves the clause of this name; what [`store_tests!`](crate::store_tests) puts into each test.
///
/// # Panics
/// Where the store breaks it.
pub fn prove<F: Fixture>(fixture: &F, name: &str) {
    let clause = clauses::<F>()
        .into_iter()
        .find(|clause| clause.name == name)
        .expect("a clause of this name");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build();
    if let Err(violation) = runtime.expect("a runtime").block_on(clause.prove(fixture)) {
        panic!("the store breaks its contract: {violation}");
    }
}

/// Makes sure that these are all clauses; what [`store_tests!`](crate::store_tests) ends with.
///
/// # Panics
/// Where one has no test.
pub fn cover<F: Fixture>(_: &F, tests: &[&str]) {
    let all: Vec<_> = clauses::<F>().iter().map(Clause::name).collect();
    assert_eq!(all, tests);
}

/// One `#[test]` for each clause of the store's contract, run on the stores that a [`Fixture`] opens; the argument is an
/// expression for the fixture. Put it into a module of its own, once for each fixture.
#[macro_export]
macro_rules! store_tests {
    (@each $fixture:expr; $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $crate::testing::store::prove(&$fixture, stringify!($clause));
            }
        )*

        #[test]
        fn every_clause_has_a_test() {
            $crate::testing::store::cover(&$fixture, &[$(stringify!($clause)),*]);
        }
    };
    ($fixture:expr) => {
        $crate::store_tests! { @each $fixture;
            a_commit_is_atomic
            commits_are_durable
            reads_see_every_commit_that_has_returned
            a_read_is_of_one_moment
            versions_count_puts
            expectations_are_checked
            one_of_racing_commits_wins
            no_two_terminals_have_one_holder
            pages_are_in_order
            events_are_in_order
            events_never_appear_behind_a_reader
            forgotten_events_are_gone_and_the_newest_stays
            a_dropped_commit_leaves_all_or_nothing
            errors_hold_no_content
            a_record_named_twice_is_refused
            a_check_in_finds_its_terminal_and_what_is_open
            records_come_back_whole
            documents_are_found_by_their_marks
            the_roster_is_listed_and_counted
            any_run_of_commits_is_as_in_memory
        }
    };
}
