//! What a payment-terminal management system does.
#![forbid(unsafe_code)]

pub mod admission;
pub mod agent;
pub mod blob;
pub mod clock;
pub mod custody;
pub mod entropy;
pub mod estate;
pub mod pump;
pub mod server;
pub mod signer;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
