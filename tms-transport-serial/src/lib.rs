//! Serial lines and dial-up modems.
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

pub mod at;
pub mod dial;
pub mod direct;
mod link;
pub mod modem;
pub mod pool;
pub mod port;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use link::LinkOptions;
