//! The link (protocol §3): a reliable stream of bytes, in order, out of a line that loses, hits and adds some.
//!
//! It stands between a serial line and the envelope, and the session above knows nothing of it. Frames are told from noise,
//! banners and echoes by flags and a CRC-32; what was lost is sent again, and only that; frames are as long as the line
//! allows; and no more is on the way than the line holds, so that queues stay short.
//!
//! It does not make a call, and it protects nothing from anybody who can write to the line: that is the modem driver's part,
//! and the handshake's.
//!
//! ```
//! use tms_proto::link::{Config, Link, LinkEvent, Role};
//! use tms_proto::machine::{Input, Instant, Machine, Output};
//!
//! let now = Instant::from_millis(0);
//! let mut caller = Link::new(&Config::new(Role::Caller), [1; 4], now);
//! let mut answerer = Link::new(&Config::new(Role::Answerer), [2; 4], now);
//! caller.send(now, b"hello");
//!
//! // What one transmits the other receives, here without any noise.
//! fn pass(from: &mut Link, to: &mut Link, now: Instant) -> Vec<u8> {
//!     let mut heard = Vec::new();
//!     loop {
//!         match from.poll() {
//!             Output::Transmit(bytes) => to.handle(now, Input::Received(&bytes)),
//!             Output::Event(LinkEvent::Received(bytes)) => heard.extend_from_slice(&bytes),
//!             Output::Event(_) => {}
//!             Output::Wait(_) | Output::Close => return heard,
//!         }
//!     }
//! }
//! pass(&mut caller, &mut answerer, now); // greetings
//! pass(&mut answerer, &mut caller, now);
//! pass(&mut caller, &mut answerer, now);
//! assert_eq!(pass(&mut answerer, &mut caller, now), b"hello");
//! ```

mod check;
mod coding;
mod frame;
mod greeting;
mod inbound;
mod machine;
mod outbound;
mod pace;
mod turn;
#[cfg(test)]
mod vector;

pub use coding::EscapeMap;
pub use machine::Link;

use bytes::Bytes;
use core::time::Duration;

/// The largest payload of a frame, in bytes: a sealed record of [`MAX_RECORD`] bytes in its envelope, and some.
pub const MAX_PAYLOAD: u16 = 1_056;

/// The largest record that suits the link: with it, an object part has 1,024 bytes and goes in one frame where there is no
/// noise.
pub const MAX_RECORD: u16 = 1_033;

/// Bytes that an end holds for one direction of the stream, at most.
pub const WINDOW: u64 = 16 * 1024;

/// Which end of a call this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It has dialled; on a cable, the terminal.
    Caller,
    /// It has answered; on a cable, the server.
    Answerer,
}

impl Role {
    /// What marks its frames, so that an echo of one's own is not taken for the peer's.
    const fn mark(self) -> u8 {
        match self {
            Self::Caller => 0x00,
            Self::Answerer => 0x80,
        }
    }

    const fn of_mark(octet: u8) -> Self {
        if octet & 0x80 == 0 {
            Self::Caller
        } else {
            Self::Answerer
        }
    }
}

/// Whether both ends may speak at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Duplex {
    /// They may.
    #[default]
    Full,
    /// They take turns (V.29 and the like). It is enough that one end says so.
    Half,
}

/// How many bits of an octet the path carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SevenBit {
    /// As the greetings show.
    #[default]
    Auto,
    /// Seven, and even parity: everything is written so. It is enough that one end says so.
    Always,
}

/// What a link is told of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Which end this is; the two ends must differ.
    pub role: Role,
    /// What the line carries each way, ten bits to the byte; `None` where it is not known, and is measured. One that is too
    /// high does no harm.
    pub bits_per_second: Option<u32>,
    /// Whether the modems mend errors, where they say so: it picks the length of the first frames.
    pub error_corrected: Option<bool>,
    /// How many bits of an octet the path carries.
    pub seven_bit: SevenBit,
    /// Octets that this end's line does not carry.
    pub escape: EscapeMap,
    /// Whether both ends may speak at once.
    pub duplex: Duplex,
    /// How long to greet a peer that does not answer: a call may ring that long after the modem says that it is connected.
    pub greeting: Duration,
    /// A peer that was not heard for so long is gone. An idle peer is heard three times in its own.
    pub inactivity: Duration,
}

impl Config {
    /// An ordinary line of which nothing is known.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            bits_per_second: None,
            error_corrected: None,
            seven_bit: SevenBit::Auto,
            escape: EscapeMap::NONE,
            duplex: Duplex::Full,
            greeting: Duration::from_secs(60),
            inactivity: Duration::from_secs(45),
        }
    }
}

/// What a link reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The peer has answered the greeting.
    Up,
    /// The next bytes of the peer's stream. They count against the window until [`Link::consumed`] says that they do not.
    Received(Bytes),
    /// The peer's stream is at its end: all that it sent has been given, and what tells it so has been transmitted.
    Ended,
    /// The peer has all of this end's stream, and its end: what [`Link::close`] asked for is done.
    Delivered,
    /// The link is down, for this reason. Given once, as the last event.
    Down(Down),
}

/// Why a link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Down {
    /// Both streams came to their ends, and both ends know.
    #[error("both ends are done")]
    Finished,
    /// Nobody answered the greeting.
    #[error("nobody answered the greeting")]
    NoAnswer,
    /// The peer was not heard for too long.
    #[error("the peer is silent")]
    Silent,
    /// The line was closed.
    #[error("the line was cut")]
    Cut,
    /// The peer began another call on this line.
    #[error("the peer began another call")]
    Restarted,
}

/// What a link has counted, for logs and statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Octets sent.
    pub octets_out: u64,
    /// Octets received, noise and all.
    pub octets_in: u64,
    /// Pieces of the stream sent.
    pub pieces: u64,
    /// Those of them that had been sent before.
    pub repeated: u64,
    /// Statuses sent.
    pub statuses: u64,
    /// Times that a peer was waited for in vain.
    pub timeouts: u64,
    /// Frames received that passed their check.
    pub good: u64,
    /// Those of them that had one bit put right.
    pub mended: u64,
    /// Received between two flags, and no frame.
    pub bad: u64,
    /// This end's own frames, come back.
    pub echoes: u64,
    /// The payload for which frames are made now, in bytes.
    pub payload: u64,
    /// Bytes that may be on the way now.
    pub window: u64,
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn narrow(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
