//! Rates: how many terminals may have their turn now.
//!
//! A terminal that is not admitted hears *busy, come back then*. That is no attempt, and no failure.

use serde::{Deserialize, Serialize};

/// How fast a task goes. What is not said is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// The most assignments under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// The most offers in a minute, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u16>,
    /// Begins slower than `per_minute`, and grows to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// The most bytes in a second, on the average of a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How many terminals of one shop, or one line, may be under way at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub max_unavailable: Vec<MaxUnavailable>,
    /// One terminal first: nobody else, until one has succeeded.
    pub first_alone: bool,
}

/// A rate that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// Offers in a minute at the beginning, 1 to 1000.
    pub base: u16,
    /// What it is multiplied by at each step, in tenths: 11 to 50.
    pub factor_tenths: u8,
    /// What makes a step.
    pub on: RampStep,
    /// How many of those make a step: at least 1.
    pub every: u32,
}

/// What makes a step of a [`Ramp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RampStep {
    /// Offers.
    Notified,
    /// Successes.
    Succeeded,
}

/// How many terminals that share something may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxUnavailable {
    /// What they share.
    pub key: TopologyKey,
    /// How many: one is always let through, even of a shop that has only one.
    pub limit: UnavailableLimit,
}

/// What terminals share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyKey {
    /// Their merchant.
    Merchant,
    /// Their site.
    Site,
}

/// How many of those that share something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnavailableLimit {
    /// So many: at least 1.
    Count(u32),
    /// So many per cent, 1 to 100, rounded down.
    Percent(u8),
}

/// Seconds after which a terminal may ask again where nobody can say when there will be room.
const ASK_AGAIN: u32 = 300;

/// What a bucket holds of one offer: a thousandth of an offer in a minute is one unit in a second.
const OFFER: i64 = 60_000;

/// A bucket that fills with time and is emptied by use. One that was never used is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// What is in it. Below nothing where more was taken than was there.
    level: i64,
    /// When that was so, in seconds since 1970 UTC.
    at: u64,
}

/// What is under way, as counters say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load<'a> {
    /// Assignments of the task that are under way.
    pub in_flight: u64,
    /// Offers that the task has made.
    pub notified: u64,
    /// Assignments of the task that have succeeded.
    pub succeeded: u64,
    /// The task's bucket of offers.
    pub offers: Bucket,
    /// The task's bucket of bytes.
    pub bytes: Bucket,
    /// Those that this terminal shares something with: one entry for each key that it has.
    pub shared: &'a [Shared],
}

/// Terminals that share something with the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// What.
    pub key: TopologyKey,
    /// How many there are, with the one that asks.
    pub members: u64,
    /// How many of them are under way, in whatever task.
    pub unavailable: u64,
}

/// Whether a terminal has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It has. The buckets are to be kept, in the same commit as the offer.
    Admit {
        /// The bucket of offers.
        offers: Bucket,
        /// The bucket of bytes.
        bytes: Bucket,
    },
    /// Not now.
    Busy {
        /// Seconds after which it makes sense to ask again. Whoever tells it to many spreads them.
        retry_after: u32,
        /// Why.
        why: Busy,
    },
}

/// Why a terminal has not got its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Busy {
    /// Another terminal tries it first.
    FirstAlone,
    /// So many are under way as may be.
    Concurrent,
    /// So many of those that it shares something with are under way as may be.
    Unavailable(TopologyKey),
    /// So many were offered in the last minute as may be.
    Rate,
    /// So many bytes were sent as may be.
    Bytes,
}

impl Rates {
    /// Whether a terminal may begin with a download of `size` bytes, zero for none.
    #[must_use]
    pub fn admit(&self, load: &Load<'_>, size: u64, now: u64) -> Admission {
        let busy = |retry_after, why| Admission::Busy { retry_after, why };
        if self.first_alone && load.succeeded == 0 && load.in_flight > 0 {
            return busy(ASK_AGAIN, Busy::FirstAlone);
        }
        if self
            .max_concurrent
            .is_some_and(|most| load.in_flight >= u64::from(most))
        {
            return busy(ASK_AGAIN, Busy::Concurrent);
        }
        for rule in &self.max_unavailable {
            let mut shared = load.shared.iter().filter(|shared| shared.key == rule.key);
            if shared.any(|shared| shared.unavailable >= rule.limit.of(shared.members)) {
                return busy(ASK_AGAIN, Busy::Unavailable(rule.key));
            }
        }
        let mut offers = load.offers;
        if let Some(rate) = self.offers_per_minute(load) {
            offers = offers.filled(rate, burst(rate), now);
            if let Some(seconds) = offers.lacks(OFFER, rate) {
                return busy(seconds, Busy::Rate);
            }
            offers.level = offers.level.saturating_sub(OFFER);
        }
        let mut bytes = load.bytes;
        if let Some(rate) = self.bytes_per_second.filter(|_| size > 0) {
            bytes = bytes.filled(rate, rate.saturating_mul(60), now);
            // A package may be more than the bucket ever holds: it is let through, and paid for afterwards.
            if let Some(seconds) = bytes.lacks(1, rate) {
                return busy(seconds, Busy::Bytes);
            }
            bytes.level = bytes.level.saturating_sub_unsigned(size);
        }
        Admission::Admit { offers, bytes }
    }

    /// Thousandths of an offer in a minute.
    fn offers_per_minute(&self, load: &Load<'_>) -> Option<u64> {
        let most = self.per_minute.map(|rate| u64::from(rate).saturating_mul(1_000));
        let Some(ramp) = self.ramp else { return most };
        let most = most.unwrap_or(1_000_000);
        let done = match ramp.on {
            RampStep::Notified => load.notified,
            RampStep::Succeeded => load.succeeded,
        };
        let steps = done / u64::from(ramp.every.max(1));
        let mut rate = u64::from(ramp.base).saturating_mul(1_000);
        // From 1 to 1000 there are 73 of the smallest steps.
        for _ in 0..steps.min(100) {
            if rate >= most {
                break;
            }
            rate = rate.saturating_mul(u64::from(ramp.factor_tenths)) / 10;
        }
        Some(rate.min(most))
    }
}

impl UnavailableLimit {
    fn of(self, members: u64) -> u64 {
        match self {
            Self::Count(count) => u64::from(count),
            Self::Percent(percent) => members.saturating_mul(u64::from(percent)) / 100,
        }
        .max(1)
    }
}

impl Bucket {
    fn filled(self, rate: u64, capacity: u64, now: u64) -> Self {
        // A clock that goes back does not fill it twice.
        let seconds = now.saturating_sub(self.at);
        let level = self.level.saturating_add_unsigned(seconds.saturating_mul(rate));
        Self {
            level: level.min(i64::try_from(capacity).unwrap_or(i64::MAX)),
            at: self.at.max(now),
        }
    }

    /// Seconds until `amount` is in it, if it is not.
    fn lacks(self, amount: i64, rate: u64) -> Option<u32> {
        let missing = u64::try_from(amount.saturating_sub(self.level)).ok()?;
        if missing == 0 {
            return None;
        }
        Some(u32::try_from(missing.div_ceil(rate.max(1))).unwrap_or(u32::MAX))
    }
}

/// What may come at once: one offer, and ten seconds' worth, since terminals do not call evenly.
fn burst(rate: u64) -> u64 {
    rate.saturating_mul(10).saturating_add(OFFER.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: u64 = 1_790_000_000;

    fn why(rates: &Rates, load: &Load<'_>) -> Option<Busy> {
        match rates.admit(load, 1_000, T0) {
            Admission::Admit { .. } => None,
            Admission::Busy { why, .. } => Some(why),
        }
    }

    fn flying(in_flight: u64) -> Load<'static> {
        Load {
            in_flight,
            notified: in_flight,
            ..Load::default()
        }
    }

    #[test]
    fn without_limits_all_may_come() {
        assert_eq!(why(&Rates::default(), &flying(1_000_000)), None);
    }

    #[test]
    fn so_many_at_once_and_no_more() {
        let rates = Rates {
            max_concurrent: Some(5),
            ..Rates::default()
        };
        assert_eq!(why(&rates, &flying(4)), None);
        assert_eq!(why(&rates, &flying(5)), Some(Busy::Concurrent));
    }

    #[test]
    fn the_first_is_alone_until_one_has_succeeded() {
        let rates = Rates {
            first_alone: true,
            ..Rates::default()
        };
        assert_eq!(why(&rates, &flying(0)), None);
        assert_eq!(why(&rates, &flying(1)), Some(Busy::FirstAlone));
        let load = Load {
            succeeded: 1,
            ..flying(1)
        };
        assert_eq!(why(&rates, &load), None);
    }

    #[test]
    fn a_shop_keeps_its_other_lanes() {
        let rule = |limit| Rates {
            max_unavailable: vec![MaxUnavailable {
                key: TopologyKey::Site,
                limit,
            }],
            ..Rates::default()
        };
        let ask = |limit, members, unavailable| {
            let shared = [Shared {
                key: TopologyKey::Site,
                members,
                unavailable,
            }];
            let load = Load {
                shared: &shared,
                ..Load::default()
            };
            why(&rule(limit), &load).is_none()
        };
        assert!(ask(UnavailableLimit::Percent(50), 5, 1));
        assert!(!ask(UnavailableLimit::Percent(50), 5, 2));
        assert!(
            ask(UnavailableLimit::Percent(10), 1, 0),
            "the only one of a shop has its turn too"
        );
        assert!(!ask(UnavailableLimit::Percent(10), 1, 1));
        assert!(!ask(UnavailableLimit::Count(3), 100, 3));
        // Who has no site is in nobody's way.
        assert_eq!(why(&rule(UnavailableLimit::Count(1)), &flying(9)), None);
    }

    #[test]
    fn a_ramp_grows_step_by_step_to_the_rate() {
        let rates = |on| Rates {
            per_minute: Some(20),
            ramp: Some(Ramp {
                base: 5,
                factor_tenths: 15,
                on,
                every: 10,
            }),
            ..Rates::default()
        };
        let at = |notified, succeeded, on| {
            let load = Load {
                notified,
                succeeded,
                ..Load::default()
            };
            rates(on).offers_per_minute(&load)
        };
        assert_eq!(at(9, 0, RampStep::Notified), Some(5_000));
        assert_eq!(at(10, 0, RampStep::Notified), Some(7_500));
        assert_eq!(at(29, 0, RampStep::Notified), Some(11_250));
        assert_eq!(at(u64::MAX, 0, RampStep::Notified), Some(20_000));
        assert_eq!(at(100, 9, RampStep::Succeeded), Some(5_000));
    }

    /// A large package is let through and paid for afterwards, by the second.
    #[test]
    fn bytes_are_an_average() {
        let rates = Rates {
            bytes_per_second: Some(1_000),
            ..Rates::default()
        };
        let Admission::Admit { bytes, .. } = rates.admit(&Load::default(), 2_000_000, T0) else {
            panic!("the first is let through")
        };
        let load = Load {
            bytes,
            ..Load::default()
        };
        let busy = Admission::Busy {
            retry_after: 1_941,
            why: Busy::Bytes,
        };
        assert_eq!(rates.admit(&load, 1, T0), busy);
        assert!(matches!(
            rates.admit(&load, 1, T0 + 1_940),
            Admission::Busy { retry_after: 1, .. }
        ));
        assert!(matches!(rates.admit(&load, 1, T0 + 1_941), Admission::Admit { .. }));
        assert!(
            matches!(rates.admit(&load, 0, T0), Admission::Admit { .. }),
            "no bytes, no wait"
        );
    }

    proptest! {
        /// In any span of time no more are admitted than the rate and one burst allow, and who comes when told is admitted.
        #[test]
        fn the_rate_is_kept(per_minute in 1_u16..=1_000, gaps in proptest::collection::vec(0_u64..30, 1..300)) {
            let rates = Rates { per_minute: Some(per_minute), ..Rates::default() };
            let (mut load, mut now, mut admitted) = (Load::default(), T0, 0_u64);
            for gap in gaps {
                now += gap;
                match rates.admit(&load, 0, now) {
                    Admission::Admit { offers, .. } => {
                        load.offers = offers;
                        admitted += 1;
                    }
                    Admission::Busy { retry_after, why } => {
                        prop_assert_eq!(why, Busy::Rate);
                        prop_assert!(retry_after > 0);
                        let then = now + u64::from(retry_after);
                        prop_assert!(matches!(rates.admit(&load, 0, then), Admission::Admit { .. }), "admitted when told");
                    }
                }
            }
            let rate = u64::from(per_minute);
            prop_assert!(admitted <= rate * (now - T0 + 10) / 60 + 1);
        }

        #[test]
        fn nothing_overflows(level: i64, at: u64, now: u64, size: u64, rate in 1_u64.., members: u64, unavailable: u64) {
            let rates = Rates {
                per_minute: Some(1_000),
                bytes_per_second: Some(rate),
                max_unavailable: vec![MaxUnavailable { key: TopologyKey::Site, limit: UnavailableLimit::Percent(100) }],
                ..Rates::default()
            };
            let bucket = Bucket { level, at };
            let shared = [Shared { key: TopologyKey::Site, members, unavailable }];
            let load = Load { offers: bucket, bytes: bucket, shared: &shared, ..Load::default() };
            let _ = rates.admit(&load, size, now);
        }
    }
}
