//! The contract of every machine in this crate: bytes and time go in, bytes and events come out.

use bytes::Bytes;
use core::ops::Add;
use core::time::Duration;

/// A point in time, in milliseconds since an epoch that the caller picks.
///
/// Machines never read a clock: a simulation that starts at zero replays exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant `millis` milliseconds after the caller's epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the caller's epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero where `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time, so that "never" can be written as a very long wait.
    fn add(self, wait: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// Bytes came from the peer, cut anywhere.
    Received(&'a [u8]),
    /// The instant asked for by [`Output::Wait`] may have come. An early timeout does nothing.
    Timeout,
    /// The transport is closed: nothing more comes, and nothing more can be sent.
    Closed,
}

/// What a machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output<E> {
    /// Send these bytes to the peer.
    Transmit(Bytes),
    /// Something that the caller must know or answer.
    Event(E),
    /// Nothing to do until input arrives or, where an instant is given, until then.
    Wait(Option<Instant>),
    /// The machine has ended: send what was transmitted, then close the transport.
    Close,
}

/// A protocol machine without I/O.
///
/// **The one rule:** after every call that changes a machine, poll until it says [`Output::Wait`] or [`Output::Close`].
///
/// What a peer does wrong is an event, once, and then `Close`; only a caller's own misuse of a machine is a `Result`.
pub trait Machine {
    /// What the machine reports.
    type Event;

    /// Tells the machine what happened at `now`. Time never goes back between calls; where it does, it stands still.
    fn handle(&mut self, now: Instant, input: Input<'_>);

    /// The next thing to do. The answer changes only after [`handle`](Self::handle) or another method that takes
    /// `&mut self`; what was polled once is not given again, but for `Wait` and `Close`.
    fn poll(&mut self) -> Output<Self::Event>;
}
