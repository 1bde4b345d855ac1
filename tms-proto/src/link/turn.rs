//! Whose turn it is to speak, where only one end may (§3.9).

use super::Role;
use crate::machine::Instant;
use core::time::Duration;

/// How long an end with nothing to say keeps its turn: at first, and at most.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) enum Turn {
    /// Both speak at once.
    Free,
    /// It is ours.
    Mine {
        /// When it is given back, with nothing said.
        until: Instant,
        /// Bytes said in it.
        said: u64,
        idle: Duration,
    },
    /// It is the peer's.
    Theirs {
        /// When it is taken to be lost.
        until: Instant,
        idle: Duration,
    },
}

impl Turn {
    /// The caller begins.
    pub(super) fn first(half: bool, role: Role, now: Instant, patience: Duration) -> Self {
        match (half, role) {
            (false, _) => Self::Free,
            (true, Role::Caller) => Self::Mine {
                until: now + SHORT,
                said: 0,
                idle: SHORT,
            },
            (true, Role::Answerer) => Self::Theirs {
                until: now + patience * 2,
                idle: SHORT,
            },
        }
    }

    pub(super) const fn is_half(&self) -> bool {
        !matches!(self, Self::Free)
    }

    pub(super) const fn may_speak(&self) -> bool {
        !matches!(self, Self::Theirs { .. })
    }

    /// Bytes of pieces that may still be sent in this turn.
    /// Bytes of pieces that may still be sent in this turn, of so many; `None` where nobody counts.
    pub(super) fn left(&self, burst: u64) -> Option<u64> {
        match self {
            Self::Free => None,
            Self::Mine { said, .. } => Some(burst.saturating_sub(*said)),
            Self::Theirs { .. } => Some(0),
        }
    }

    pub(super) const fn spoke(&mut self, bytes: u64) {
        if let Self::Mine { said, .. } = self {
            *said = said.saturating_add(bytes);
        }
    }

    /// The turn is to be given to the peer: all has been said, or there is nothing to say.
    pub(super) fn is_over(&self, now: Instant, waiting: bool, burst: u64) -> bool {
        match self {
            Self::Mine { said, until, .. } => *said >= burst || *said > 0 && !waiting || now >= *until,
            _ => false,
        }
    }

    /// It was given to the peer, which is to begin within `patience`. The answerer waits longer: the two ends do not both
    /// take a lost turn back at once.
    pub(super) fn gave(&mut self, now: Instant, patience: Duration, role: Role) {
        if let Self::Mine { said, idle, .. } = *self {
            let idle = if said == 0 { (idle * 2).min(LONG) } else { SHORT };
            let patience = match role {
                Role::Caller => patience,
                Role::Answerer => patience * 2,
            };
            *self = Self::Theirs {
                until: now + patience,
                idle,
            };
        }
    }

    /// The peer had the turn, and is not heard any more.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        matches!(self, Self::Theirs { until, .. } if now >= *until)
    }

    /// The peer is heard: it is still speaking.
    pub(super) fn heard(&mut self, now: Instant, patience: Duration) {
        if let Self::Theirs { until, .. } = self {
            *until = (*until).max(now + patience);
        }
    }

    /// The peer gave it to us, or it was lost. A peer that said something is likely to be answered soon.
    pub(super) fn got(&mut self, now: Instant, something: bool) {
        if let Self::Theirs { idle, .. } = *self {
            let idle = if something { SHORT } else { idle };
            *self = Self::Mine {
                until: now + idle,
                said: 0,
                idle,
            };
        }
    }

    /// When something is to be done about it.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Free => None,
            Self::Mine { until, .. } | Self::Theirs { until, .. } => Some(*until),
        }
    }
}
