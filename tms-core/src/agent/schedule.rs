//! When the terminal calls next: the slot that the server gave, sooner after settlements and at power-on where the server
//! asks for that, and after failures a growing, random wait.

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
    /// When the last check-in was recorded, by the terminal's clock.
    recorded: Option<u64>,
    /// Settlements since then, where the server wants to be called after so many.
    settlements: u16,
    /// The terminal was switched on since then, and calls for that after this wait.
    power_on: Option<Wait>,
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
        if told.after_settlements.is_none() {
            self.settlements = 0;
        }
        if told.power_on != Some(true) {
            self.power_on = None;
        }
    }

    /// The server recorded a check-in: nothing is held against it, and whatever asked for a call has had it.
    pub(super) const fn succeeded(&mut self, clock: u64) {
        self.failures = 0;
        self.hold = None;
        self.recorded = Some(clock);
        self.settlements = 0;
        self.power_on = None;
    }

    /// The terminal has settled. Whether that changes anything.
    pub(super) fn settled(&mut self) -> bool {
        let counts = self.told.is_some_and(|told| told.after_settlements.is_some());
        if counts {
            self.settlements = self.settlements.saturating_add(1);
        }
        counts
    }

    /// The terminal was switched on. Whether that changes anything. A terminal that is switched on again and again keeps the
    /// wait that it has, unless its clock does not count any more.
    pub(super) fn powered_on(&mut self, clock: u64, entropy: &dyn Entropy) -> bool {
        let wanted = self.told.filter(|told| told.power_on == Some(true));
        let waits = self.power_on.is_some_and(|wait| !wait.is_broken(clock));
        let Some(told) = wanted.filter(|_| !waits) else {
            return false;
        };
        self.power_on = Some(Wait::new(clock, below(entropy, u64::from(told.window) + 1)));
        true
    }

    /// How long a call has to wait that comes from the terminal's own side: the server wants them to be so far apart.
    pub(super) fn gap(&self, clock: u64) -> u64 {
        let gap = self.told.and_then(|told| told.gap);
        match (gap, self.recorded) {
            (Some(gap), Some(recorded)) => Wait::new(recorded, gap.into()).left(clock),
            _ => 0,
        }
    }

    /// What asks for a call before the slot, and in how many seconds.
    fn asked(&self, clock: u64) -> Option<(u64, TriggerKind)> {
        let gap = self.gap(clock);
        let wanted = self.told.and_then(|told| told.after_settlements);
        let settled = wanted.is_some_and(|wanted| self.settlements >= wanted.max(1));
        let settled = settled.then_some((gap, TriggerKind::SettlementCount));
        let power_on = self
            .power_on
            .map(|wait| (wait.left(clock).max(gap), TriggerKind::PowerOn));
        settled.into_iter().chain(power_on).min_by_key(|(wait, _)| *wait)
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
                let seconds = wish.map_or(seconds, |wish| wish.min(seconds));
                match self.asked(clock).filter(|(sooner, _)| *sooner <= seconds) {
                    Some((sooner, kind)) => contact(sooner, kind),
                    None => contact(seconds, TriggerKind::Schedule),
                }
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
            jitter: Some(60),
            redial_delay: Some(30),
            redial_max: Some(4),
            ..NextContact::at(from, 600)
        }
    }

    fn asking(after_settlements: Option<u16>, power_on: bool, gap: Option<u32>) -> Schedule {
        let mut schedule = Schedule::default();
        let told = NextContact {
            after_settlements,
            power_on: power_on.then_some(true),
            gap,
            ..slot(5_000)
        };
        schedule.tell(told, 1_000, 0, &Fixed(0));
        schedule.succeeded(0);
        schedule
    }

    fn next(schedule: &Schedule, clock: u64) -> (u64, TriggerKind) {
        let next = schedule.next(clock, false, None, &Options::default());
        (next.wait.as_secs(), next.trigger.kind)
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
            schedule.succeeded(0);
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
    fn settlements_are_counted_where_the_server_wants_that() {
        let mut schedule = asking(Some(3), false, None);
        for settled in 1..=3 {
            assert_eq!(next(&schedule, 10), (3_990, TriggerKind::Schedule), "{settled}");
            assert!(schedule.settled());
        }
        assert_eq!(next(&schedule, 10), (0, TriggerKind::SettlementCount));
        // A call that failed is tried again as any other, and the count stands until one is recorded.
        schedule.failed(10, &Options::default(), &Fixed(0));
        assert_eq!(next(&schedule, 10).1, TriggerKind::Retry);
        schedule.succeeded(50);
        assert_eq!(next(&schedule, 50), (3_950, TriggerKind::Schedule));
        // And it is forgotten with the wish for it.
        schedule.settled();
        schedule.tell(slot(5_000), 1_000, 50, &Fixed(0));
        assert!(!schedule.settled());
        assert_eq!(schedule.settlements, 0);
    }

    #[test]
    fn power_on_is_a_call_by_chance_within_what_the_server_says() {
        let mut quiet = asking(None, false, None);
        assert!(!quiet.powered_on(10, &OsEntropy));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let mut schedule = asking(None, true, None);
            assert!(schedule.powered_on(10, &OsEntropy));
            let (wait, kind) = next(&schedule, 10);
            assert!(wait <= 600 && kind == TriggerKind::PowerOn);
            // Switched on twice is not drawn twice.
            assert!(!schedule.powered_on(20, &OsEntropy));
            assert_eq!(next(&schedule, 10).0, wait);
            seen.insert(wait);
        }
        assert!(seen.len() > 20);
        // The slot is not put off by it.
        let mut schedule = asking(None, true, None);
        assert!(schedule.powered_on(3_999, &Fixed(0xFF)));
        assert_eq!(next(&schedule, 3_999), (1, TriggerKind::Schedule));
        // A clock that begins again at every start draws anew.
        let mut schedule = asking(None, true, None);
        assert!(schedule.powered_on(1_000, &Fixed(1)) && schedule.powered_on(5, &Fixed(1)));
    }

    #[test]
    fn what_the_terminal_wants_itself_is_kept_apart() {
        let mut schedule = asking(Some(1), true, Some(600));
        assert_eq!((schedule.gap(0), schedule.gap(200), schedule.gap(600)), (600, 400, 0));
        schedule.settled();
        assert_eq!(next(&schedule, 200), (400, TriggerKind::SettlementCount));
        schedule.powered_on(200, &Fixed(0));
        assert_eq!(next(&schedule, 600).0, 0);
        // A clock that went back does not make it longer.
        let schedule = asking(None, false, Some(600));
        assert_eq!(
            Schedule {
                recorded: Some(9_000),
                ..schedule
            }
            .gap(5),
            0
        );
        assert_eq!(asking(None, false, None).gap(0), 0);
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
