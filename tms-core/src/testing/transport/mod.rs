//! The conformance suite of transports, and a line that does harm when it is told to.
//!
//! A backend says how calls are taken and made, and one line makes a test of every clause of the
//! [contract](crate::transport#contract):
//!
//! ```
//! use tms_core::testing::transport::Fixture;
//! use tms_core::transport::{Dial, Listener, memory};
//!
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl Fixture for Memory {
//!     async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>) {
//!         let (listener, dial) = memory::listen(calls);
//!         (Box::new(listener), Box::new(dial))
//!     }
//! }
//!
//! tms_core::transport_tests!(Memory);
//! # fn main() {}
//! ```

#[cfg(test)]
mod broken;
mod clause;
mod faulty;

pub use super::suite::{Clause, Proof, Violation};
pub use faulty::{Faults, FaultyTransport, Tampering};

use super::suite;
use crate::transport::{Dial, Listener};
use async_trait::async_trait;

/// How calls are taken and made. A value, so that one type may make many kinds of them.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// A listener of at most so many open calls, up to eight, and something that calls it as often as it is told.
    async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>);
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
        bytes_arrive_unchanged_and_in_order,
        both_ways_run_at_once,
        a_writer_waits_for_its_reader,
        a_shutdown_comes_behind_all_bytes,
        a_dropped_transport_ends,
        every_call_is_taken_once,
        a_silent_caller_delays_nobody,
        a_dropped_accept_loses_no_call,
        dropped_reads_and_writes_lose_nothing,
        a_caller_that_hangs_up_at_once_ends_nothing,
        open_calls_are_limited,
        a_peer_is_observed,
    ]
}

/// Proves the clause of this name; what [`transport_tests!`](crate::transport_tests) puts into each test.
///
/// # Panics
/// Where the transport breaks it.
pub fn prove<F: Fixture>(fixture: &F, name: &str) {
    suite::prove(clauses(), fixture, name);
}

/// Makes sure that these are all clauses; what [`transport_tests!`](crate::transport_tests) ends with.
///
/// # Panics
/// Where one has no test.
pub fn cover<F: Fixture>(_: &F, tests: &[&str]) {
    suite::cover(&clauses::<F>(), tests);
}

/// One `#[test]` for each clause of the transport's contract, run on the calls that a
/// [`Fixture`](crate::testing::transport::Fixture) makes; the argument is an expression for the fixture. Put it into a module
/// of its own, once for each fixture.
#[macro_export]
macro_rules! transport_tests {
    (@each $fixture:expr; $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $crate::testing::transport::prove(&$fixture, stringify!($clause));
            }
        )*

        #[test]
        fn every_clause_has_a_test() {
            $crate::testing::transport::cover(&$fixture, &[$(stringify!($clause)),*]);
        }
    };
    ($fixture:expr) => {
        $crate::transport_tests! { @each $fixture;
            bytes_arrive_unchanged_and_in_order
            both_ways_run_at_once
            a_writer_waits_for_its_reader
            a_shutdown_comes_behind_all_bytes
            a_dropped_transport_ends
            every_call_is_taken_once
            a_silent_caller_delays_nobody
            a_dropped_accept_loses_no_call
            dropped_reads_and_writes_lose_nothing
            a_caller_that_hangs_up_at_once_ends_nothing
            open_calls_are_limited
            a_peer_is_observed
        }
    };
}
