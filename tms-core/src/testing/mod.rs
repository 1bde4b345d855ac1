//! Conformance suites for backends, and what they and other tests are made of (feature `testing`).
// The suites are test code: a broken contract is a panic.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions
)]

pub mod blob;
#[cfg(test)]
mod broken;
pub mod entropy;
pub mod estate;
pub mod fault;
pub mod sample;
pub mod seed;
pub mod slots;
pub mod store;
mod suite;
pub mod transport;
