//! When the terminal calls next: the slot that the server gave, and after failures a growing, random wait.

use super::Options;
use crate::entropy::Entropy;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tms_proto::code::TriggerKind;
use tms_proto::message::{NextContact, Trigger};

/// The next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// How long to wait; zero where it is due.
    pub wait: Duration,
    /// Why.
    pub trigger: Trigger,
}

/// A wait, counted by the terminal's clock. It is never longer than it was when it began: a clock that goes back ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wait {
    since: u64,
    seconds: u64,
}

impl Wait {
    pub(super) const fn new(clock: u64, seconds: u64) -> Self {
        Self { since: clock, seconds }
    }

    /// Whether the clock has gone back behind its beginning.
    pub(super) const fn is_broken(&self, clock: u64) -> bool {
        clock < self.since
    }

    /// The seconds that are left of it.
    pub(super) const fn left(&self, clock: u64) -> u64 {
        match clock.checked_sub(self.since) {
            Some(gone) => self.seconds.saturating_sub(gone),
            None => 0,
        }
    }
}

/// What is kept of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Schedule {
    /// The slot, as the server gave it.
    told: Option<NextContact>,
    /// The wait for it, with the chance drawn.
    slot: Option<Wait>,
    /// Calls in a row that failed.
    failures: u16,
    /// After a failure or a busy answer: not before this.
    hold: Option<Wait>,
}

impl Schedule {
    /// Takes the slot that the server gave at `time`. The chance is drawn once: looking twice is not drawing twice.
    pub(super) fn tell(&mut self, told: NextContact, time: u64, clock: u64, entropy: &dyn Entropy) {
        let jitter = told.jitter.unwrap_or(0).min(told.window);
        let wait = told
            .from
            .saturating_sub(time)
            .saturating_add(below(entropy, u64::from(jitter) + 1));
        self.told = Some(told);
        self.slot = Some(Wait::new(clock, wait));
    }

    /// The server recorded a check-in: nothing is held against it.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
        self.hold = None;
    }

    /// A call failed. The wait grows with each, and half of it or more is chance: terminals that failed together do not come
    /// back together.
    pub(super) fn failed(&mut self, clock: u64, options: &Options, entropy: &dyn Entropy) {
        self.failures = self.failures.saturating_add(1);
        let delay = self
            .told
            .and_then(|told| told.redial_delay)
            .map_or(options.redial_delay, u64::from);
        let delay = delay.clamp(1, options.max_backoff);
        let tries = self.told.and_then(|told| told.redial_max).unwrap_or(options.redial_max);
        let seconds = if self.failures < tries {
            let grown = delay
                .saturating_mul(1 << u32::from(self.failures - 1).min(32))
                .min(options.max_backoff);
            delay.saturating_add(below(entropy, grown + 1))
        } else {
            // The slot is over. Whatever keeps the server from answering is not mended by hurrying.
            options.max_backoff / 2 + below(entropy, options.max_backoff / 2 + 1)
        };
        self.hold = Some(Wait::new(clock, seconds.min(options.max_backoff)));
    }

    /// The server is busy, and said for how long. A call that was turned away is not a failed one. The hint is not
    /// authenticated, so it is bounded.
    pub(super) fn busy(&mut self, clock: u64, retry_after: u32, options: &Options, entropy: &dyn Entropy) {
        let seconds = u64::from(retry_after).clamp(1, options.max_busy);
        let spread = below(entropy, seconds / 4 + 1);
        self.hold = Some(Wait::new(clock, (seconds + spread).min(options.max_busy)));
    }

    /// A call was refused in a way that another call, at once, may mend: with other credentials, or in another suite.
    pub(super) const fn again(&mut self, clock: u64) {
        self.hold = Some(Wait::new(clock, 1));
    }

    /// Whether something is held against the next call already.
    pub(super) const fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// When to call next. `urgent`: there are results that nobody knows yet. `wish`: seconds until something that the plan
    /// asks for can be downloaded.
    pub(super) fn next(&self, clock: u64, urgent: bool, wish: Option<u64>, options: &Options) -> Contact {
        let contact = |seconds, kind| Contact {
            wait: Duration::from_secs(seconds),
            trigger: Trigger::of(kind),
        };
        if let Some(hold) = &self.hold {
            let retry = (self.failures > 0).then_some(self.failures);
            let trigger = Trigger {
                retry,
                ..Trigger::of(TriggerKind::Retry)
            };
            return Contact {
                wait: Duration::from_secs(hold.left(clock)),
                trigger,
            };
        }
        if urgent {
            return contact(0, TriggerKind::Event);
        }
        match &self.slot {
            Some(slot) => {
                let seconds = slot.left(clock);
                contact(wish.map_or(seconds, |wish| wish.min(seconds)), TriggerKind::Schedule)
            }
            None => contact(options.first_contact, TriggerKind::PowerOn),
        }
    }

    /// The slot that is held, in seconds since 1970 UTC, for the report.
    pub(super) fn told(&self) -> Option<u64> {
        self.told.map(|told| told.from)
    }
}

/// A number below `bound`, evenly enough: the bounds are small beside 2⁶⁴.
pub(super) fn below(entropy: &dyn Entropy, bound: u64) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::OsEntropy;

    struct Fixed(u8);

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    fn slot(from: u64) -> NextContact {
        NextContact {
            from,
            window: 600,
            jitter: Some(60),
            redial_delay: Some(30),
            redial_max: Some(4),
        }
    }

    fn seconds(schedule: &Schedule, clock: u64) -> u64 {
        schedule.next(clock, false, None, &Options::default()).wait.as_secs()
    }

    #[test]
    fn the_first_contact_is_at_once() {
        let next = Schedule::default().next(0, false, None, &Options::default());
        assert_eq!(
            next,
            Contact {
                wait: Duration::ZERO,
                trigger: Trigger::of(TriggerKind::PowerOn)
            }
        );
    }

    #[test]
    fn jitter_is_bounded_and_drawn_once() {
        for _ in 0..50 {
            let mut schedule = Schedule::default();
            schedule.tell(slot(5_000), 1_000, 7, &OsEntropy);
            let wait = seconds(&schedule, 7);
            assert!((4_000..=4_060).contains(&wait), "{wait}");
            assert_eq!(seconds(&schedule, 7), wait);
            assert_eq!(seconds(&schedule, 107), wait - 100);
        }
    }

    #[test]
    fn clocks_that_jump_end_a_wait_and_never_lengthen_it() {
        let mut schedule = Schedule::default();
        schedule.tell(slot(5_000), 1_000, 1_000_000, &Fixed(0));
        assert_eq!(seconds(&schedule, 1_000_000), 4_000);
        assert_eq!(seconds(&schedule, 9_000_000), 0);
        assert_eq!(seconds(&schedule, 5), 0);
        // A slot in the past is now, not never.
        schedule.tell(slot(5), 1_000, 50, &Fixed(0));
        assert_eq!(seconds(&schedule, 50), 0);
    }

    #[test]
    fn failures_wait_longer_and_longer_and_by_chance() {
        let options = Options::default();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let mut schedule = Schedule::default();
            schedule.tell(slot(5_000), 1_000, 0, &OsEntropy);
            for (number, bound) in [(1, 30), (2, 60), (3, 120)] {
                schedule.failed(0, &options, &OsEntropy);
                let next = schedule.next(0, true, None, &options);
                assert!((30..=30 + bound).contains(&next.wait.as_secs()), "{next:?}");
                assert_eq!(
                    next.trigger,
                    Trigger {
                        retry: Some(number),
                        ..Trigger::of(TriggerKind::Retry)
                    }
                );
            }
            schedule.failed(0, &options, &OsEntropy);
            let wait = seconds(&schedule, 0);
            assert!(
                (options.max_backoff / 2..=options.max_backoff).contains(&wait),
                "{wait}"
            );
            seen.insert(wait);
            schedule.succeeded();
            assert_eq!(schedule.next(0, true, None, &options).trigger.kind, TriggerKind::Event);
        }
        assert!(seen.len() > 20);
        let mut schedule = Schedule::default();
        for _ in 0..70_000 {
            schedule.failed(0, &options, &Fixed(0xFF));
        }
        assert!(seconds(&schedule, 0) <= options.max_backoff);
    }

    #[test]
    fn busy_hints_are_bounded_and_are_no_failures() {
        let options = Options::default();
        let mut schedule = Schedule::default();
        schedule.busy(0, u32::MAX, &options, &OsEntropy);
        assert_eq!(seconds(&schedule, 0), 3_600);
        schedule.busy(0, 100, &options, &OsEntropy);
        assert!((100..=125).contains(&seconds(&schedule, 0)));
        assert_eq!(schedule.next(0, false, None, &options).trigger.retry, None);
        schedule.busy(0, 0, &options, &Fixed(0));
        assert_eq!(seconds(&schedule, 0), 1);
    }

    #[test]
    fn a_wish_comes_before_the_slot_but_not_before_a_hold() {
        let options = Options::default();
        let mut schedule = Schedule::default();
        schedule.tell(slot(5_000), 1_000, 0, &Fixed(0));
        assert_eq!(schedule.next(0, false, Some(9), &options).wait.as_secs(), 9);
        assert_eq!(schedule.next(0, false, Some(9_999), &options).wait.as_secs(), 4_000);
        schedule.failed(0, &options, &Fixed(0));
        assert_eq!(schedule.next(0, false, Some(9), &options).wait.as_secs(), 30);
    }
}
