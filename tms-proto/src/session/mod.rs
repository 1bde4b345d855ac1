//! Sessions: one call, from the first byte to the goodbye, at the terminal's end and at the server's (protocol §8).
//!
//! Both are machines without I/O. They know the order of messages and the limits of each; what a message means for the
//! estate or for the device is the caller's.

mod line;
mod secure;
mod server;
mod terminal;

pub use server::{ServerConfig, ServerEvent, ServerIdentity, ServerSession};
pub use terminal::{Opening, TerminalConfig, TerminalEvent, TerminalSession};

use crate::code::ResultCode;
use crate::envelope::EnvelopeError;
use crate::handshake::HandshakeError;
use crate::identity::CredentialId;
use crate::message::Bye;
use crate::record::RecordError;
use crate::tlv;
use crate::tlv::{DecodeError, Tag};
use bytes::Bytes;
use thiserror::Error;

/// How a session ended. Given once, as the last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// On purpose, and authenticated: the peer said goodbye.
    Bye(Bye),
    /// The server has no room now. Unauthenticated: a hint that the caller bounds.
    Busy {
        /// Seconds to wait.
        retry_after: u32,
        /// Why.
        reason: Option<ResultCode>,
    },
    /// The handshake was refused. Unauthenticated.
    Refused {
        /// `SECR` for everything that concerns keys, `VERSION_UNSUPPORTED` where nothing is in common.
        code: ResultCode,
        /// The protocol versions that the peer speaks, one a byte.
        versions: Bytes,
        /// The suites that the peer speaks, one a byte.
        suites: Bytes,
    },
    /// This side ended it before there was a session, or after a reject.
    Ended,
    /// The line was cut: nothing that was not acknowledged is certain.
    Cut,
    /// The peer was silent for too long.
    Timeout,
    /// The peer did wrong.
    Fault(Fault),
}

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// An envelope is malformed.
    #[error("envelope: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The handshake failed; the wire says no more than that.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// A record is not authentic.
    #[error("record: {0}")]
    Record(#[from] RecordError),
    /// A message is malformed.
    #[error("message: {0}")]
    Decode(#[from] DecodeError),
    /// A message that has no place in this state.
    #[error("message {0} out of order")]
    OutOfOrder(Tag),
    /// A handshake message of an unexpected kind.
    #[error("handshake message of kind {0:#04x} out of order")]
    Kind(u8),
    /// A message larger than a message may be.
    #[error("message too large")]
    TooLarge,
    /// Object parts that overlap, leave a gap, or exceed credit or size.
    #[error("object part at offset {0} out of place")]
    Part(u64),
}

/// A caller's own mistake; the session is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The call has no place in this state.
    #[error("call out of order")]
    OutOfOrder,
    /// The message travels the other way.
    #[error("message {0} is not for this side to send")]
    Direction(Tag),
    /// The message is too large.
    #[error("message too large")]
    TooLarge,
    /// A key that the mode needs is missing, or not the one that the handshake proved.
    #[error("key missing or not the one proved")]
    Key,
}

/// How a peer says who it is, in modes 1 and 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// Its credentials, encoded; see [`Credentials`](crate::credential::Credentials).
    Full(Bytes),
    /// The name of credentials that this side said it remembers.
    Remembered(CredentialId),
}

tlv! {
    /// Payload of handshake message 2: the server's time, its credentials, and in modes 2 and 3 its answer (§4.5).
    struct ServerHello {
        time: u64 = 0x80,
        credentials: Option<Bytes> = 0xA1,
        plan: Option<crate::message::Plan> = 0x62,
        reject: Option<crate::message::Reject> = 0x72,
    }

    /// Payload of handshake message 3: the terminal's credentials and its status report (§4.5).
    struct TerminalHello {
        credentials: Option<Bytes> = 0xA1,
        remembered: Option<[u8; 16]> = 0x82,
        report: crate::message::StatusReport = 0x61,
    }

    /// Payload of handshake message 1 in modes 2 and 3 (§4.5).
    struct FirstReport {
        report: crate::message::StatusReport = 0x61,
    }
}
