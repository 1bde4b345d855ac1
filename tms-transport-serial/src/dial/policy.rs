//! When which number may be called: functions over plain data.
//!
//! Countries limit how often a machine may call a number in vain, and modems enforce it; whoever ignores it is put on a
//! blacklist that only the loss of power clears.

use crate::at::{DialString, Failure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often numbers are called. All times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Between two calls of one number, at least; after somebody answered who is no modem, twice that.
    pub spacing: u64,
    /// And as much more as chance says, up to this.
    pub jitter: u64,
    /// Calls of one number in vain, before it is left alone until the next round.
    pub tries: u32,
    /// How long a number waits for which the modem asks to wait, and does not say how long.
    pub delayed: u64,
    /// When every number has been tried in vain: the wait for the next round. It doubles from round to round.
    pub rest: u64,
    /// And is never longer than this.
    pub longest_rest: u64,
    /// All calls of one attempt to reach the server together.
    pub budget: u64,
}

impl Default for Policy {
    /// 60 to 90 s between two calls of a number, four calls of each in a round, ten minutes to four hours between rounds,
    /// five minutes for an attempt.
    fn default() -> Self {
        Self {
            spacing: 60,
            jitter: 30,
            tries: 4,
            delayed: 180,
            rest: 600,
            longest_rest: 14_400,
            budget: 300,
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server's link was heard.
    Reached,
    /// A modem answered, and nobody behind it.
    Silent,
    /// There was no connection.
    Failed(Failure),
    /// The modem or its port is of no use.
    Fault,
}

impl Outcome {
    /// The trouble is at this end: another number would fare no better.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(
            self,
            Self::Fault | Self::Failed(Failure::NoDialTone | Failure::Collision)
        )
    }
}

/// A wait by a clock that may be set: where it goes back behind the beginning, the wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Wait {
    since: u64,
    seconds: u64,
}

impl Wait {
    const fn left(self, clock: u64) -> u64 {
        match clock.checked_sub(self.since) {
            Some(gone) => self.seconds.saturating_sub(gone),
            None => 0,
        }
    }
}

/// What is remembered of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// Calls in vain in this round.
    tries: u32,
    /// Not before this.
    hold: Option<Wait>,
    /// Not in this round.
    dead: bool,
}

/// What is remembered of all calls. It survives the loss of power.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Book {
    numbers: BTreeMap<DialString, Record>,
    /// Rounds in vain.
    rounds: u32,
    /// No number before this.
    rest: Option<Wait>,
}

impl Policy {
    /// Seconds until a number may be called by the clock's time; `None` where it may not in this round.
    #[must_use]
    pub fn wait(&self, book: &Book, number: &DialString, clock: u64) -> Option<u64> {
        let rest = book.rest.map_or(0, |rest| rest.left(clock));
        let record = book.numbers.get(number).copied().unwrap_or_default();
        if record.dead || record.tries >= self.tries {
            return None;
        }
        Some(record.hold.map_or(0, |hold| hold.left(clock)).max(rest))
    }

    /// The book when a call is about to be made, to be kept before it is: if power fails now, it has been in vain.
    /// `chance` is any number.
    #[must_use]
    pub fn begin(&self, mut book: Book, number: &DialString, clock: u64, chance: u64) -> Book {
        let wait = self.spaced(self.spacing, clock, chance);
        let record = book.numbers.entry(number.clone()).or_default();
        record.tries = record.tries.saturating_add(1);
        record.hold = Some(wait);
        book
    }

    /// The book when that call has ended. `numbers` are all that there are.
    #[must_use]
    pub fn end(
        &self,
        mut book: Book,
        numbers: &[DialString],
        number: &DialString,
        outcome: Outcome,
        clock: u64,
        chance: u64,
    ) -> Book {
        let record = book.numbers.entry(number.clone()).or_default();
        let counted = record.tries;
        let uncounted = record.tries.saturating_sub(1);
        let wait = |seconds| Some(self.spaced(seconds, clock, chance));
        (record.tries, record.hold) = match outcome {
            Outcome::Reached => (0, None),
            Outcome::Failed(Failure::Busy | Failure::NoAnswer | Failure::TimedOut) => (counted, wait(self.spacing)),
            // Perhaps a person who is called by a machine.
            Outcome::Silent | Outcome::Failed(Failure::NoCarrier) => (counted, wait(self.spacing.saturating_mul(2))),
            Outcome::Failed(Failure::Delayed(told)) => {
                let told = told.map_or(self.delayed, |told| told.as_secs());
                (uncounted, wait(told))
            }
            Outcome::Failed(Failure::Blacklisted | Failure::Refused) => {
                record.dead = true;
                (uncounted, record.hold)
            }
            // Nobody was called.
            Outcome::Failed(Failure::NoDialTone | Failure::Collision) | Outcome::Fault => (uncounted, None),
        };
        if outcome == Outcome::Reached {
            (book.rounds, book.rest) = (0, None);
            for record in book.numbers.values_mut() {
                (record.tries, record.dead) = (0, false);
            }
        } else {
            self.round(&mut book, numbers, clock, chance);
        }
        // Numbers that are not called any more.
        book.numbers.retain(|number, _| numbers.contains(number));
        book
    }

    /// When every number was tried in vain, all have a rest, and then another round.
    fn round(&self, book: &mut Book, numbers: &[DialString], clock: u64, chance: u64) {
        let over = |number| self.wait(book, number, clock).is_none();
        if numbers.is_empty() || !numbers.iter().all(over) {
            return;
        }
        let rest = self
            .rest
            .saturating_mul(1 << book.rounds.min(32))
            .min(self.longest_rest);
        book.rounds = book.rounds.saturating_add(1);
        book.rest = Some(self.spaced(rest, clock, chance));
        for record in book.numbers.values_mut() {
            (record.tries, record.dead) = (0, false);
        }
    }

    fn spaced(&self, seconds: u64, clock: u64, chance: u64) -> Wait {
        let more = chance.checked_rem(self.jitter.saturating_add(1)).unwrap_or(0);
        Wait {
            since: clock,
            seconds: seconds.saturating_add(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const POLICY: Policy = Policy {
        spacing: 60,
        jitter: 30,
        tries: 4,
        delayed: 180,
        rest: 600,
        longest_rest: 14_400,
        budget: 300,
    };

    fn numbers() -> Vec<DialString> {
        ["1", "2"].map(|number| number.parse().unwrap()).to_vec()
    }

    /// One call of the first number.
    fn call(book: Book, outcome: Outcome, clock: u64) -> Book {
        let numbers = numbers();
        let book = POLICY.begin(book, &numbers[0], clock, 0);
        POLICY.end(book, &numbers, &numbers[0], outcome, clock, 0)
    }

    fn wait(book: &Book, clock: u64) -> Option<u64> {
        POLICY.wait(book, &numbers()[0], clock)
    }

    #[test]
    fn each_failure_is_handled_as_it_deserves() {
        for (outcome, expected, tries) in [
            (Outcome::Reached, Some(0), 0),
            (Outcome::Failed(Failure::Busy), Some(60), 1),
            (Outcome::Failed(Failure::NoAnswer), Some(60), 1),
            (Outcome::Failed(Failure::TimedOut), Some(60), 1),
            (Outcome::Failed(Failure::NoCarrier), Some(120), 1),
            (Outcome::Silent, Some(120), 1),
            (Outcome::Failed(Failure::Delayed(None)), Some(180), 0),
            (
                Outcome::Failed(Failure::Delayed(Some(Duration::from_secs(45)))),
                Some(45),
                0,
            ),
            (Outcome::Failed(Failure::Blacklisted), None, 0),
            (Outcome::Failed(Failure::Refused), None, 0),
            (Outcome::Failed(Failure::NoDialTone), Some(0), 0),
            (Outcome::Failed(Failure::Collision), Some(0), 0),
            (Outcome::Fault, Some(0), 0),
        ] {
            let book = call(Book::default(), outcome, 1000);
            assert_eq!(wait(&book, 1000), expected, "{outcome:?}");
            assert_eq!(book.numbers[&numbers()[0]].tries, tries, "{outcome:?}");
            assert_eq!(POLICY.wait(&book, &numbers()[1], 1000), Some(0), "{outcome:?}");
        }
    }

    #[test]
    fn a_call_that_power_cuts_off_was_in_vain() {
        let book = POLICY.begin(Book::default(), &numbers()[0], 1000, 0);
        assert_eq!(wait(&book, 1000), Some(60));
        let kept = serde_json::to_vec(&book).unwrap();
        assert_eq!(serde_json::from_slice::<Book>(&kept).unwrap(), book);
    }

    #[test]
    fn rounds_in_vain_have_longer_and_longer_rests() {
        let numbers = numbers();
        let mut book = Book::default();
        let mut clock = 0;
        let mut rests = Vec::new();
        for _ in 0..7 {
            for number in [0, 1, 0, 1, 0, 1, 0, 1] {
                let number = &numbers[number];
                clock += POLICY.wait(&book, number, clock).expect("a round is not over");
                book = POLICY.begin(book, number, clock, 0);
                book = POLICY.end(book, &numbers, number, Outcome::Failed(Failure::Busy), clock, 0);
            }
            rests.push(POLICY.wait(&book, &numbers[0], clock).unwrap());
        }
        assert_eq!(rests, [600, 1200, 2400, 4800, 9600, 14_400, 14_400]);
        book = call(book, Outcome::Reached, clock);
        assert_eq!((book.rounds, wait(&book, clock)), (0, Some(0)));
    }

    #[test]
    fn a_blacklisted_number_is_dead_for_the_round_alone() {
        let numbers = numbers();
        let mut book = call(Book::default(), Outcome::Failed(Failure::Blacklisted), 0);
        assert_eq!(wait(&book, 1_000_000), None);
        book = POLICY.begin(book, &numbers[1], 0, 0);
        book = POLICY.end(book, &numbers, &numbers[1], Outcome::Failed(Failure::Blacklisted), 0, 0);
        assert_eq!(wait(&book, 0), Some(600));
        assert_eq!(wait(&book, 600), Some(0));
    }

    #[test]
    fn a_clock_that_goes_back_ends_waits() {
        let book = call(Book::default(), Outcome::Failed(Failure::Busy), 1000);
        assert_eq!(wait(&book, 999), Some(0));
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop::sample::select(vec![
            Outcome::Reached,
            Outcome::Silent,
            Outcome::Fault,
            Outcome::Failed(Failure::Busy),
            Outcome::Failed(Failure::NoCarrier),
            Outcome::Failed(Failure::Delayed(None)),
            Outcome::Failed(Failure::Blacklisted),
            Outcome::Failed(Failure::NoDialTone),
        ])
    }

    proptest! {
        #[test]
        fn no_number_is_called_too_often(calls in prop::collection::vec((0..2_usize, outcome(), 0..40_u64, any::<u64>()), 1..200)) {
            let numbers = numbers();
            let (mut book, mut clock) = (Book::default(), 5_000_u64);
            let mut vain: [Vec<u64>; 2] = Default::default();
            for (number, outcome, pause, chance) in calls {
                clock += pause;
                if POLICY.wait(&book, &numbers[number], clock) != Some(0) {
                    continue;
                }
                book = POLICY.begin(book, &numbers[number], clock, chance);
                book = POLICY.end(book, &numbers, &numbers[number], outcome, clock, chance);
                match outcome {
                    Outcome::Reached => vain[number].clear(),
                    outcome if outcome.is_local() => {}
                    Outcome::Failed(Failure::Blacklisted) => {}
                    _ => vain[number].push(clock),
                }
                for times in &vain {
                    prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{:?}", times);
                }
            }
            // Something may always be called in the end.
            let soonest = numbers.iter().filter_map(|number| POLICY.wait(&book, number, clock)).min();
            prop_assert!(soonest.is_some_and(|wait| wait <= 14_400 + 30), "{:?}", book);
        }
    }
}
