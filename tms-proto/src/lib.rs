//! Bytes on the wire of a payment-terminal management system, for both ends of the line.
#![no_std]
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

extern crate alloc;
#[cfg(any(test, feature = "codec"))]
extern crate std;

pub mod certificate;
pub mod code;
#[cfg(feature = "codec")]
pub mod codec;
pub mod credential;
pub mod derive;
pub mod digest;
pub mod envelope;
pub mod handshake;
pub mod identity;
pub mod machine;
pub mod message;
pub mod package;
pub mod public_key;
pub mod record;
pub mod secret;
pub mod session;
pub mod tlv;
