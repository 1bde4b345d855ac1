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

impl Retries {
    /// Seconds until the next attempt after a failure of `class`, or `None` where there is none. `attempt` is the one that
    /// failed, from 1: retries of all classes count together. `chance` is any number, evenly random: the wait is chosen
    /// from the whole of its range, so that terminals that failed together do not come back together.
    ///
    /// A new attempt waits for the window like the first. One that has begun may end after it.
    #[must_use]
    pub fn next(&self, class: FailureClass, attempt: u16, chance: u64) -> Option<u64> {
        let policy = self.policies.iter().find(|policy| policy.class == class)?;
        let done = attempt.saturating_sub(1);
        if !class.is_retriable() || done >= u16::from(policy.max) {
            return None;
        }
        chance.checked_rem(policy.most(done).saturating_add(1))
    }
}

impl RetryPolicy {
    /// The longest wait after so many retries.
    fn most(&self, done: u16) -> u64 {
        let cap = u64::from(self.cap);
        let mut most = u64::from(self.base).min(cap);
        for _ in 0..done.min(10) {
            most = (most.saturating_mul(u64::from(self.factor_tenths)) / 10).min(cap);
        }
        most
    }
}

impl Breaker {
    /// Whether the release is kept from the terminal.
    #[must_use]
    pub fn is_open(&self, now: u64) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// It failed. A new count begins when the rest is over; what fails during the rest was begun before it, and does not
    /// make it longer.
    #[must_use]
    pub fn failed(self, policy: &BreakerPolicy, now: u64) -> Self {
        if self.is_open(now) {
            return self;
        }
        let mut next = if self.open_until.is_some() {
            Self::default()
        } else {
            self
        };
        let burst = usize::from(policy.burst.max(1));
        next.total = next.total.saturating_add(1);
        next.recent.push(now);
        let old = next.recent.len().saturating_sub(burst);
        next.recent.drain(..old);
        let first = next.recent.first().filter(|_| next.recent.len() == burst);
        let burst = first.is_some_and(|first| now.saturating_sub(*first) <= u64::from(policy.within));
        if burst || next.total >= policy.total.max(1) {
            next.open_until = Some(now.saturating_add(u64::from(policy.cooldown)));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transport(max: u8) -> Retries {
        let policy = RetryPolicy {
            class: FailureClass::Transport,
            max,
            base: 60,
            factor_tenths: 20,
            cap: 200,
        };
        Retries { policies: vec![policy] }
    }

    #[test]
    fn waits_grow_to_their_cap_and_end() {
        let longest = |attempt| {
            let wait = |chance| transport(3).next(FailureClass::Transport, attempt, chance);
            (0..1_000).map(wait).max().unwrap()
        };
        let waits = [1, 2, 3, 4].map(longest);
        assert_eq!(waits, [Some(60), Some(120), Some(200), None]);
    }

    #[test]
    fn a_class_without_a_policy_is_not_tried_again() {
        assert_eq!(transport(3).next(FailureClass::Storage, 1, 0), None);
        assert_eq!(transport(0).next(FailureClass::Transport, 1, 0), None);
    }

    /// Whatever is written: a wrong signature stays wrong.
    #[test]
    fn what_cannot_help_is_not_tried_again() {
        for class in FailureClass::ALL {
            let policy = RetryPolicy {
                class,
                ..transport(10).policies[0]
            };
            let retries = Retries { policies: vec![policy] };
            assert_eq!(retries.next(class, 1, 7).is_some(), class.is_retriable(), "{class:?}");
        }
    }

    const POLICY: BreakerPolicy = BreakerPolicy {
        burst: 3,
        within: 180,
        total: 5,
        cooldown: 1_000,
    };

    fn after(times: &[u64]) -> Breaker {
        times
            .iter()
            .fold(Breaker::default(), |breaker, time| breaker.failed(&POLICY, *time))
    }

    #[test]
    fn a_burst_opens_it_and_time_closes_it() {
        assert_eq!(after(&[10, 100, 191]).open_until, None);
        let open = after(&[10, 100, 190]);
        assert_eq!(open.open_until, Some(1_190));
        assert!(open.is_open(1_189) && !open.is_open(1_190));
        // What comes late does not make it longer, and afterwards the count begins anew.
        assert_eq!(open.clone().failed(&POLICY, 1_189), open);
        assert_eq!(open.failed(&POLICY, 1_190), after(&[1_190]));
    }

    #[test]
    fn so_many_in_all_open_it_too() {
        assert_eq!(after(&[0, 1_000, 2_000, 3_000]).open_until, None);
        assert_eq!(after(&[0, 1_000, 2_000, 3_000, 4_000]).open_until, Some(5_000));
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_never_overflows(times in proptest::collection::vec(any::<u64>(), 0..40), burst: u8, total: u8) {
            let policy = BreakerPolicy { burst, total, ..POLICY };
            let breaker = times.iter().fold(Breaker::default(), |breaker, time| breaker.failed(&policy, *time));
            prop_assert!(breaker.recent.len() <= usize::from(burst.max(1)));
            prop_assert!(breaker.total <= total.max(1));
        }
    }
}
