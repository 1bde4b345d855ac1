//! The conformance suite of blob stores, and a blob store that fails when it is told to.
//!
//! A backend says how its stores are opened and how they come to harm, and one line makes a test of every clause of the
//! [contract](crate::blob#contract) that can be seen from outside:
//!
//! ```
//! use std::sync::Arc;
//! use tms_core::blob::{BlobStore, MemoryBlobs};
//! use tms_core::testing::blob::Fixture;
//! use tms_proto::digest::Digest;
//!
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl Fixture for Memory {
//!     type Home = Arc<MemoryBlobs>;
//!
//!     async fn home(&self) -> Arc<MemoryBlobs> {
//!         Arc::default()
//!     }
//!
//!     async fn open(&self, home: &Arc<MemoryBlobs>) -> Arc<dyn BlobStore> {
//!         home.clone()
//!     }
//!
//!     async fn harm(&self, home: &Arc<MemoryBlobs>, digest: &Digest, content: Option<Vec<u8>>) -> bool {
//!         match content {
//!             Some(content) => home.replace(*digest, content),
//!             None => assert!(home.remove(digest)),
//!         }
//!         true
//!     }
//! }
//!
//! tms_core::blob_tests!(Memory);
//! # fn main() {}
//! ```

#[cfg(test)]
mod broken;
mod clause;
mod faulty;

pub use super::suite::{Clause, Proof, Violation};
pub use faulty::FaultyBlobs;

use super::suite;
use crate::blob::BlobStore;
use async_trait::async_trait;
use std::sync::Arc;
use tms_proto::digest::Digest;

/// How blob stores are made, opened and harmed. A value, so that one type may open many kinds of them.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// What keeps one store while nobody has it open: a directory, a database, a bucket.
    type Home: Send + Sync + 'static;

    /// A home for a fresh, empty store.
    async fn home(&self) -> Self::Home;

    /// Opens the store at home. When all handles have been dropped, it opens again what was made durable. A backend in memory
    /// keeps its blobs in the home, and proves no more than that its handles do not.
    async fn open(&self, home: &Self::Home) -> Arc<dyn BlobStore>;

    /// Does behind the store's back what a bad disk or a careless hand does: puts other content in the place of a blob's, or
    /// takes it away. `false` where nobody can do that to this backend: then nothing is proved about it.
    async fn harm(&self, home: &Self::Home, digest: &Digest, content: Option<Vec<u8>>) -> bool;
}

/// All clauses, in the order of the contract.
#[must_use]
pub fn clauses<F: Fixture>() -> Vec<Clause<F>> {
    macro_rules! clauses {
        ($($name:ident),* $(,)?) => {
            vec![$(Clause::new(stringify!($name), |fixture| Box::pin(clause::$name(fixture)))),*]
        };
    }
    clauses![
        content_has_the_name_of_its_digest,
        puts_are_durable,
        a_blob_is_there_whole_or_not_at_all,
        a_dropped_put_leaves_all_or_nothing,
        content_may_be_put_again,
        other_content_than_expected_is_refused,
        a_source_that_fails_leaves_nothing,
        reads_give_what_was_asked_for,
        a_missing_blob_is_missing,
        changed_blobs_are_never_served,
        a_changed_blob_is_made_whole_by_a_put,
        large_blobs_go_through,
        many_calls_run_at_once,
        dropped_calls_do_no_harm,
    ]
}

/// Proves the clause of this name; what [`blob_tests!`](crate::blob_tests) puts into each test.
///
/// # Panics
/// Where the store breaks it.
pub fn prove<F: Fixture>(fixture: &F, name: &str) {
    suite::prove(clauses(), fixture, name);
}

/// Makes sure that these are all clauses; what [`blob_tests!`](crate::blob_tests) ends with.
///
/// # Panics
/// Where one has no test.
pub fn cover<F: Fixture>(_: &F, tests: &[&str]) {
    suite::cover(&clauses::<F>(), tests);
}

/// One `#[test]` for each clause of the blob store's contract, run on the stores that a
/// [`Fixture`](crate::testing::blob::Fixture) opens; the argument is an expression for the fixture. Put it into a module of
/// its own, once for each fixture.
#[macro_export]
macro_rules! blob_tests {
    (@each $fixture:expr; $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $crate::testing::blob::prove(&$fixture, stringify!($clause));
            }
        )*

        #[test]
        fn every_clause_has_a_test() {
            $crate::testing::blob::cover(&$fixture, &[$(stringify!($clause)),*]);
        }
    };
    ($fixture:expr) => {
        $crate::blob_tests! { @each $fixture;
            content_has_the_name_of_its_digest
            puts_are_durable
            a_blob_is_there_whole_or_not_at_all
            a_dropped_put_leaves_all_or_nothing
            content_may_be_put_again
            other_content_than_expected_is_refused
            a_source_that_fails_leaves_nothing
            reads_give_what_was_asked_for
            a_missing_blob_is_missing
            changed_blobs_are_never_served
            a_changed_blob_is_made_whole_by_a_put
            large_blobs_go_through
            many_calls_run_at_once
            dropped_calls_do_no_harm
        }
    };
}
