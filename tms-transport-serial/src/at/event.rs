//! What an engine reports.

use super::connect::Connect;
use bytes::Bytes;
use std::time::Duration;
use thiserror::Error;

/// What an engine reports, and what it wants done with the lines beside the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Raise or drop DTR. A port that cannot is told to the engine by [`Engine::without_dtr`](super::Engine::without_dtr).
    Dtr(bool),
    /// Forget what the port holds, both ways.
    Discard,
    /// The modem is on hook, set up and listening.
    Ready,
    /// It is not, and will be tried again later. Once for each try.
    Fault(Fault),
    /// A call has come in and may be answered now. Once for each call.
    Incoming,
    /// The caller has given up.
    RingEnded,
    /// A call is up: from now on bytes are the peer's.
    Connected(Connect),
    /// Bytes of the peer that came right behind the connection.
    Data(Bytes),
    /// The call that was begun came to nothing.
    NotConnected(Failure),
    /// The call that was up has ended; the modem is to be told to [hang up](super::Engine::hang_up).
    Ended,
}

/// Why a modem is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// It does not answer.
    #[error("the modem does not answer")]
    Silent,
    /// It does not hang up.
    #[error("the modem does not hang up")]
    Stuck,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Failure {
    /// The number is engaged.
    #[error("the number is busy")]
    Busy,
    /// Our own line is dead, or its exchange does not answer.
    #[error("there is no dial tone")]
    NoDialTone,
    /// Nobody answers.
    #[error("nobody answers")]
    NoAnswer,
    /// Somebody answered who is no modem, or the modems did not come to terms.
    #[error("no modem answers")]
    NoCarrier,
    /// The modem must not call this number yet; for so long, where it says.
    #[error("the modem may not call the number yet")]
    Delayed(Option<Duration>),
    /// The modem must not call this number any more.
    #[error("the modem may not call the number any more")]
    Blacklisted,
    /// The modem did not do what it was told.
    #[error("the modem refuses")]
    Refused,
    /// A call came in while one was being made.
    #[error("a call came in at the same time")]
    Collision,
    /// The modem said nothing in time.
    #[error("the modem did not connect in time")]
    TimedOut,
}

/// What an engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The modem is being set up.
    Preparing,
    /// It waits for calls.
    Idle,
    /// It rings.
    Ringing,
    /// It calls.
    Dialling,
    /// It answers.
    Answering,
    /// A call is up.
    Online,
    /// A call is being ended.
    HangingUp,
    /// The modem is of no use, and will be tried again.
    Failed,
}

/// The engine is doing something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the modem is not ready for this: {0:?}")]
pub struct NotNow(pub Phase);
