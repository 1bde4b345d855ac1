//! Retries: which failures are tried again, when, and when a terminal is left in peace.

use super::failure::FailureClass;
use serde::{Deserialize, Serialize};

/// How failures are tried again. A class without a policy is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retries {
    /// One policy for each class at most.
    pub policies: Vec<RetryPolicy>,
}

/// How failures of one class are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The class: one that is [retriable](FailureClass::is_retriable).
    pub class: FailureClass,
    /// The most retries, 0 to 10. The first attempt is not one.
    pub max: u8,
    /// Seconds before the first retry, at most.
    pub base: u32,
    /// What they are multiplied by at each further retry, in tenths: 10 to 100.
    pub factor_tenths: u8,
    /// Seconds before a retry, at most, however many there were: at least `base`.
    pub cap: u32,
}

/// When a release is kept from a terminal on which it fails again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerPolicy {
    /// So many failures within `within` seconds: at least 1.
    pub burst: u8,
    /// Seconds.
    pub within: u32,
    /// So many failures in all, since it was last closed: at least 1.
    pub total: u8,
    /// Seconds for which it is kept from the terminal then.
    pub cooldown: u32,
}

/// The failures of one release on one terminal: of whatever task, so that a new task for the same release does not begin
/// from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// When the last failures were, in seconds since 1970 UTC, the newest last: at most `burst` of the policy.
    pub recent: Vec<u64>,
    /// How many there were since it was last closed.
    pub total: u8,
    /// Until when the release is kept from the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_until: Option<u64>,
}

impl Default for Retries {
    /// Two retries of what lies with the line, the room or the time of day; none of all else.
    fn default() -> Self {
        let policy = |class, base| RetryPolicy {
            class,
            max: 2,
            base,
            factor_tenths: 20,
            cap: 86_400,
        };
        let policies = vec![
            policy(FailureClass::Transport, 900),
            policy(FailureClass::Storage, 3_600),
            policy(FailureClass::Unready, 3_600),
            policy(FailureClass::TimedOut, 3_600),
        ];
        Self { policies }
    }
}

impl Default for BreakerPolicy {
    /// Five in three minutes, or ten in all: a day's rest.
    fn default() -> Self {
        Self {
            burst: 5,
            within: 180,
            total: 10,
            cooldown: 86_400,
        }
    }
}
