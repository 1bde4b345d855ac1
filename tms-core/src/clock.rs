//! Wall time, for records only.
//!
//! A record, a certificate and a plan say when; nothing waits by this clock. Timers are [`Instant`]s inside the machines,
//! so that a wrong clock, or one that is set while calls run, delays nobody.
//!
//! [`Instant`]: tms_proto::machine::Instant

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the wall time.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since 1970-01-01T00:00:00 UTC, leap seconds not counted. It may jump, back as well.
    fn now(&self) -> u64;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// A clock set before 1970 reads as zero.
    fn now(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}

/// A clock that stands still until it is told: for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`, in seconds since 1970 UTC.
    #[must_use]
    pub const fn new(now: u64) -> Self {
        Self(AtomicU64::new(now))
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// Moves the clock forward by `seconds`.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_is_in_this_century() {
        let now = SystemClock.now();
        assert!((1_700_000_000..4_102_444_800).contains(&now), "{now}");
    }

    #[test]
    fn manual_clock_moves_when_told() {
        let clock = ManualClock::new(100);
        assert_eq!(clock.now(), 100);
        clock.advance(5);
        assert_eq!(clock.now(), 105);
        clock.set(7);
        assert_eq!(clock.now(), 7);
    }
}
