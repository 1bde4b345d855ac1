//! What a terminal knows of the time (§4.8).
//!
//! A terminal's clock may stand at 1970 or be set by anybody. Every authenticated call tells the server's time: from that
//! two things are kept. The **floor** never falls, and nothing that ended before it is valid any more. The **estimate** is
//! the server's time and what the terminal's own clock has counted since, as long as that clock has not gone back.

use serde::{Deserialize, Serialize};

/// What is kept of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Timeline {
    /// It is certainly this late, in seconds since 1970 UTC; zero where no server ever said so.
    floor: u64,
    /// The server's time at the last contact.
    server: u64,
    /// The terminal's clock at the last contact.
    clock: u64,
}

/// The time, as well as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What the terminal's clock shows, in seconds since 1970 UTC.
    pub clock: u64,
    /// It is certainly this late.
    pub floor: u64,
    /// What time it is; none where that cannot be told before the next contact.
    pub time: Option<u64>,
}

impl Timeline {
    /// The time when the terminal's clock shows `clock`. A clock that is trusted is believed before anything else.
    pub(super) fn now(&self, clock: u64, trusted: bool) -> Now {
        let counted = clock.checked_sub(self.clock).filter(|_| self.server > 0);
        let estimate = counted.map(|counted| self.server.saturating_add(counted).max(self.floor));
        let time = if trusted { Some(clock.max(self.floor)) } else { estimate };
        Now {
            clock,
            floor: self.floor,
            time,
        }
    }

    /// Takes the time of an authenticated server. The floor rises by at most `max_step` seconds and what the terminal's
    /// clock has counted since the last contact: one server whose clock is wrong by years must not end every certificate.
    pub(super) fn learn(&mut self, server: u64, clock: u64, max_step: u64) {
        let counted = clock.saturating_sub(self.clock);
        let limit = match self.floor {
            0 => server,
            floor => floor.saturating_add(max_step).saturating_add(counted.min(max_step)),
        };
        *self = Self {
            floor: self.floor.max(server.min(limit)),
            server,
            clock,
        };
    }
}

impl Now {
    /// Whether this time has certainly come.
    #[must_use]
    pub fn is_past(&self, time: u64) -> bool {
        self.floor >= time || self.time.is_some_and(|now| now >= time)
    }

    /// The time to write down where there must be one.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.time.unwrap_or(self.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 86_400;
    const NOW: u64 = 1_790_000_000;

    #[test]
    fn a_clock_at_1970_learns_the_time_and_loses_it_again() {
        let mut timeline = Timeline::default();
        assert_eq!(
            timeline.now(5, false),
            Now {
                clock: 5,
                floor: 0,
                time: None
            }
        );
        timeline.learn(NOW, 100, YEAR);
        assert_eq!(
            timeline.now(160, false),
            Now {
                clock: 160,
                floor: NOW,
                time: Some(NOW + 60)
            }
        );
        // The battery of the clock is empty: after a restart it begins again.
        let lost = timeline.now(3, false);
        assert_eq!(
            lost,
            Now {
                clock: 3,
                floor: NOW,
                time: None
            }
        );
        assert!(lost.is_past(NOW) && !lost.is_past(NOW + 1));
        timeline.learn(NOW + 500, 10, YEAR);
        assert_eq!(timeline.now(20, false).time, Some(NOW + 510));
    }

    #[test]
    fn the_floor_never_falls() {
        let mut timeline = Timeline::default();
        timeline.learn(NOW, 0, YEAR);
        timeline.learn(NOW - 1000, 10, YEAR);
        assert_eq!(timeline.floor, NOW);
        // And no estimate lies below it.
        assert_eq!(timeline.now(20, false).time, Some(NOW));
    }

    #[test]
    fn one_wrong_server_does_not_end_the_world() {
        let mut timeline = Timeline::default();
        timeline.learn(NOW, 0, YEAR);
        timeline.learn(NOW + 70 * YEAR, 10, YEAR);
        assert_eq!(timeline.floor, NOW + YEAR + 10);
        timeline.learn(NOW + 20, 20, YEAR);
        assert_eq!(timeline.floor, NOW + YEAR + 10);
    }

    #[test]
    fn a_trusted_clock_is_believed_but_not_below_the_floor() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.now(NOW, true).time, Some(NOW));
        timeline.learn(NOW, NOW - 30, YEAR);
        assert_eq!(timeline.now(NOW + 40, true).time, Some(NOW + 40));
        assert_eq!(timeline.now(40, true).time, Some(NOW));
    }
}
