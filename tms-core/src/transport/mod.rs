//! Transports: bytes to a peer and back, and who the peer seems to be.
//!
//! # Contract
//!
//! Every backend keeps these clauses; [`transport_tests!`](crate::transport_tests) proves one test for each.
//!
//! 1. **A stream.** What one end writes the other reads: every byte, once, in order, unchanged; where a line is noisy, the
//!    backend has a link on it that sees to that. How writes are cut into reads is left open.
//! 2. **Both ways at once.** Reading and writing do not wait for each other.
//! 3. **Bounded.** While the peer does not read, a writer is made to wait, after no more than some megabytes.
//! 4. **End.** After a shutdown the peer reads all that was written before, and then the end. Dropping a transport ends it as
//!    well; what was not yet read may be lost. A write to a peer that is gone fails, at once or after some more.
//! 5. **Calls.** [`Listener::accept`] gives every call once. A peer that is connected and says nothing, says nonsense or hangs
//!    up delays no other call.
//! 6. **Cancel.** Dropping the future of `accept`, of a read or of a write loses nothing, and the next goes on where it was.
//! 7. **Errors.** An error of `accept` is the listener's end. What passes, such as a call that ended before it was
//!    accepted, a line that failed or too many open files, is survived inside.
//! 8. **Limited.** A listener never has more calls open than it was told; [`Slots`] keep count. Those that come meanwhile
//!    wait, or are turned away, until the transport of one is dropped.
//! 9. **Observed.** [`PeerInfo`] has what the access side itself has seen, and nothing that the peer said.

mod framing;
pub mod linked;
pub mod memory;
mod peer;
pub mod proxied;
mod slot;
pub mod tcp;

pub use framing::{Framing, FramingError};
pub use peer::{Caller, CallerNumber, CallerSource, NumberError, PeerInfo, PhoneNumber, Trust};
pub use slot::{Held, Slot, Slots};

use async_trait::async_trait;
use std::io;
use std::time::Duration;
use tms_proto::envelope::Envelope;
use tms_proto::link::MAX_RECORD;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes to a peer and back; see the [module](self) for the contract.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + ?Sized> Transport for T {}

/// What a link is like, so that a session suits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkProfile {
    /// How payloads are put on the stream (§2).
    pub envelope: Envelope,
    /// The largest record to be sent, in bytes of plaintext: 128 to 16,384 (§5).
    pub max_record: u16,
    /// What the line carries each way, where that is known; ten bits to the byte on a serial line.
    pub bits_per_second: Option<u32>,
    /// Credit that a terminal should grant for a download, in bytes: some seconds of the line (§9.2).
    pub credit: u32,
}

impl LinkProfile {
    /// TCP/IP, as fast as it is.
    pub const TCP: Self = Self {
        envelope: Envelope::TCP,
        max_record: 16_384,
        bits_per_second: None,
        credit: 1 << 20,
    };

    /// A serial line of this rate with a [link](linked) on it: records that go in one frame each where there is no noise, so
    /// that a call that is cut loses little, and credit for some seconds of the line.
    #[must_use]
    pub const fn serial(bits_per_second: u32) -> Self {
        let credit = bits_per_second.saturating_mul(2);
        Self {
            envelope: Envelope::TCP,
            max_record: MAX_RECORD,
            bits_per_second: Some(bits_per_second),
            credit: if credit < 8_192 {
                8_192
            } else if credit > 262_144 {
                262_144
            } else {
                credit
            },
        }
    }

    /// How long an exchange of `bytes` may take, both ways together: 5 s and three times what they take on the line (§4.9);
    /// 10 s where the line's rate is not known.
    #[must_use]
    pub fn patience(&self, bytes: u32) -> Duration {
        let line = self
            .bits_per_second
            .map(|rate| Duration::from_secs(30) * bytes / rate.max(1));
        Duration::from_secs(5) + line.unwrap_or(Duration::from_secs(5))
    }
}

/// A call that came in.
pub struct Incoming {
    /// The line to the caller.
    pub transport: Box<dyn Transport>,
    /// The caller, as far as the access side has seen it.
    pub peer: PeerInfo,
    /// What the line is like.
    pub profile: LinkProfile,
}

/// Takes calls; see the [module](self) for the contract.
#[async_trait]
pub trait Listener: Send {
    /// Waits for the next call. Dropping the future loses none. An error is the listener's end.
    async fn accept(&mut self) -> io::Result<Incoming>;
}

/// A call that was made.
pub struct Outgoing {
    /// The line to the server.
    pub transport: Box<dyn Transport>,
    /// Who answered, as far as it was seen.
    pub peer: PeerInfo,
    /// What the line is like.
    pub profile: LinkProfile,
}

/// Makes calls: over one network, by one modem, or by whichever of several is there.
#[async_trait]
pub trait Dial: Send {
    /// Calls the server, by whatever numbers or addresses it has, each once at most. When to try again is the caller's to
    /// say; a number that may not be called yet is passed over, and where nothing is left that is an error at once. Dropping
    /// the future hangs up.
    async fn dial(&mut self) -> io::Result<Outgoing>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_line() {
        assert_eq!(LinkProfile::TCP.patience(3000), Duration::from_secs(10));
        let line = LinkProfile {
            bits_per_second: Some(1200),
            ..LinkProfile::TCP
        };
        assert_eq!(line.patience(360), Duration::from_secs(5 + 3 * 3));
        let dead = LinkProfile {
            bits_per_second: Some(0),
            ..LinkProfile::TCP
        };
        assert_eq!(dead.patience(1), Duration::from_secs(35));
    }
}
