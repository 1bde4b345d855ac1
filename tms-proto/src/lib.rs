//! Bytes on the wire of a payment-terminal management system, for both ends of the line.
//!
//! Envelope, BER-TLV messages, Noise handshakes, sealed records, credentials, signed packages, and the terminal's and the
//! server's [session] as machines: bytes and time go in, bytes and events come out. The wire is `docs/protocol.md`, clause by
//! clause.
//!
//! It does no I/O, reads no clock, draws no random numbers and keeps no records: these come from outside, so that the same
//! code runs in a terminal's firmware, in a server and in a simulation that replays. It is `no_std` with `alloc`, always.
//!
//! ```
//! use tms_proto::machine::{Instant, Machine, Output};
//! use tms_proto::message::{StatusReport, Trigger};
//! use tms_proto::code::TriggerKind;
//! use tms_proto::secret::Psk;
//! use tms_proto::session::{Opening, TerminalConfig, TerminalSession};
//!
//! // A terminal calls with the ticket of its last session. Its first output is the first message.
//! let report = StatusReport::new(Trigger::of(TriggerKind::Schedule), 8, 1_790_000_000);
//! let opening = Opening::Ticket { id: [1; 16], psk: &Psk::new([2; 32]), report: &report };
//! let fresh = [3; 32]; // random bytes, never used again
//! let mut session = TerminalSession::new(&TerminalConfig::default(), &opening, fresh, Instant::from_millis(0))?;
//! assert!(matches!(session.poll(), Output::Transmit(_)));
//! # Ok::<(), tms_proto::session::Misuse>(())
//! ```
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
pub mod link;
pub mod machine;
pub mod message;
pub mod package;
pub mod public_key;
pub mod record;
pub mod representation;
pub mod secret;
pub mod session;
pub mod tlv;

/// The README's program runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
