//! What a payment-terminal management system does: the server, the terminal's agent, and the operator's use cases.
//!
//! Storage, content, transport, signing and key custody are seams: small traits with numbered contracts, and (feature
//! `testing`) a conformance suite for each that a backend of your own passes with one macro. Memory and file backends and TCP are
//! here; databases are crates of their own.
//!
//! It has no network API for operators, no user interface and no configuration format: programs have these, and `examples/`
//! has programs.
//!
//! ```
//! use std::sync::Arc;
//! use tms_core::{blob::MemoryBlobs, clock::SystemClock, entropy::OsEntropy, store::MemoryStore};
//! use tms_core::estate::{Actor, Enrolment, Estate};
//! use tms_core::store::{Caller, Holder, Store};
//! use tms_proto::package::{KeySet, TrustStore};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let trust = TrustStore { version: 1, root: KeySet { threshold: 1, keys: vec![] }, roles: vec![] };
//! let estate =
//!     Estate::new(store.clone(), Arc::new(MemoryBlobs::new()), Arc::new(SystemClock), Arc::new(OsEntropy), trust);
//! let holder = Holder { vendor: "PAX".into(), model: "P80".into(), serial: "30012345".into() };
//! let id = estate.enrol(&Actor::trusted("alice"), Enrolment::of(holder)).await?;
//! assert!(store.check_in(&Caller::Id(id)).await?.is_some());
//! # Ok::<(), tms_core::estate::EstateError>(())
//! # }).unwrap();
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::as_conversions
    )
)]

pub mod admission;
pub mod agent;
pub mod blob;
pub mod clock;
pub mod custody;
pub mod entropy;
pub mod estate;
pub mod pump;
pub mod representation;
pub mod rule;
pub mod server;
pub mod signer;
pub mod store;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;

/// The store in `docs/backends.md` keeps the whole contract.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../docs/backends.md")]
pub struct Backends;
