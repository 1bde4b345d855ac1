//! The handshake (protocol §4): Noise `XX`, `NNpsk0` and `XXpsk3` behind a clear hello that the prologue binds.
//!
//! The terminal is the Noise initiator, whoever dialled. This module carries payloads; what is in them, and whether the
//! peer may do what it wants, is decided above. Nothing here reads a clock or draws a random number: the 32 bytes of each
//! ephemeral secret come from the caller, and **must never be used twice**.

mod hello;
mod noise;

pub use hello::{Busy, Hello, Kind, Mode, Patience, Refuse, Suite};
pub use noise::{HandshakeError, Initiator, Responder, StaticKey};

/// The version of this protocol, as [`Hello::versions`] lists it.
pub const VERSION: u8 = 1;

/// The largest handshake message, in bytes, its kind and hello included (§4.9).
pub const MAX_MESSAGE: usize = 4096;

/// The largest clear hello, in bytes.
pub const MAX_HELLO: usize = 256;

/// A payload of so many bytes fits into every handshake message that takes one, behind the largest hello.
pub const MAX_PAYLOAD: usize = MAX_MESSAGE - 1 - MAX_HELLO - noise::OVERHEAD;
