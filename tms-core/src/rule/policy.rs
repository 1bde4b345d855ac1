//! Check-in policy: how often the terminals of a class call, on which days and at which hours.

use crate::store::{BranchPath, Holder, TerminalId};
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tms_proto::message::{NextContact, Window};

/// The most openings of a day.
pub const MAX_HOURS: usize = 8;

const DAY: u64 = 86_400;

/// How far ahead openings are looked for: a policy that is open once a week has two of them.
const DAYS_AHEAD: u32 = 15;

/// When the terminals of a class check in. All times are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckInPolicy {
    /// Seconds between two check-ins: 60 to 400 days.
    pub period: u32,
    /// By how many seconds a contact may be earlier or later than the period says, so that calls can be spread. At most
    /// half of the period.
    pub tolerance: u32,
    /// On which days of the week, by the terminal's own calendar; of an opening that goes past midnight, the day on which it
    /// begins.
    pub days: Days,
    /// At which hours, by the terminal's own clock; none are all.
    pub hours: Vec<Hours>,
    /// How long a slot stays open, in seconds: 60 to one day.
    pub window: u32,
    /// Seconds before the terminal dials again, at least 10.
    pub redial_delay: u32,
    /// The most tries in the slot, at least 1.
    pub redial_max: u16,
    /// Check in after so many settlements as well.
    pub after_settlements: Option<u16>,
    /// Check in when switched on as well, by chance within [`window`](Self::window): a power failure switches many on at
    /// once.
    pub at_power_on: bool,
    /// Calls by hand, after settlements and at power-on come at least so many seconds after the last check-in: 1 to one day.
    pub gap: Option<u32>,
}

impl Default for CheckInPolicy {
    /// Once a day, at any hour, six hours earlier or later.
    fn default() -> Self {
        Self {
            period: 86_400,
            tolerance: 21_600,
            days: Days::ALL,
            hours: Vec::new(),
            window: 3_600,
            redial_delay: 120,
            redial_max: 6,
            after_settlements: None,
            at_power_on: false,
            gap: None,
        }
    }
}

/// A set of days of the week, a bit each: 1 is Monday, 64 is Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Days(pub u8);

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0x7F);

    /// Whether it has this day.
    #[must_use]
    pub const fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }
}

/// An opening of a day, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hours {
    /// It begins so many minutes after midnight: 0 to 1,439.
    pub from: u16,
    /// It lasts so many minutes: 1 to 1,440. It may go past midnight.
    pub minutes: u16,
}

/// The class of terminals that a policy is for: those that agree in everything that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Class {
    /// A branch and all below it.
    pub branch: BranchPath,
    /// The vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The link, as the access side sees the call: `modem` or `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// This one terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalId>,
}

impl Default for Class {
    /// All terminals.
    fn default() -> Self {
        Self {
            branch: BranchPath::head_office(),
            vendor: None,
            model: None,
            link: None,
            terminal: None,
        }
    }
}

impl Class {
    /// Whether a terminal is of this class.
    #[must_use]
    pub fn covers(&self, terminal: TerminalId, branch: &BranchPath, holder: &Holder, link: &str) -> bool {
        self.branch.covers(branch)
            && self.vendor.as_ref().is_none_or(|vendor| *vendor == holder.vendor)
            && self.model.as_ref().is_none_or(|model| *model == holder.model)
            && self.link.as_deref().is_none_or(|wanted| wanted == link)
            && self.terminal.is_none_or(|wanted| wanted == terminal)
    }

    /// How much it says: of the classes that cover a terminal, the one that says most counts. One that names a single
    /// terminal says more than any other; each step down the tree of branches counts as much as vendor, model or link.
    #[must_use]
    pub fn weight(&self) -> (bool, usize) {
        let named = [&self.model, &self.vendor, &self.link].into_iter().flatten().count();
        let depth = self.branch.line().len();
        (self.terminal.is_some(), depth.saturating_add(named))
    }
}

/// What is wrong with a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// A period below 60 seconds or above 400 days.
    #[error("period out of range: 60 seconds to 400 days")]
    Period,
    /// More than half of the period.
    #[error("tolerance is more than half of the period")]
    Tolerance,
    /// No day at all.
    #[error("no day of the week")]
    Days,
    /// More than 8 openings, one that begins after midnight of the next day, or lasts nothing or more than a day.
    #[error("not hours of a day")]
    Hours,
    /// A window below 60 seconds or above a day.
    #[error("window out of range: 60 seconds to one day")]
    Window,
    /// Redialling at once, or no try at all.
    #[error("redial delay is below 10 seconds, or there is no try")]
    Redial,
    /// After no settlements.
    #[error("after zero settlements")]
    Settlements,
    /// A gap of nothing or of more than a day.
    #[error("gap out of range: 1 second to one day")]
    Gap,
}

impl CheckInPolicy {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`PolicyError`] with the first that is wrong.
    pub fn check(&self) -> Result<(), PolicyError> {
        let hours = |hours: &Hours| hours.from < 1_440 && (1..=1_440).contains(&hours.minutes);
        let rules = [
            ((60..=34_560_000).contains(&self.period), PolicyError::Period),
            (self.tolerance <= self.period / 2, PolicyError::Tolerance),
            (self.days.0 & Days::ALL.0 != 0, PolicyError::Days),
            (
                self.hours.len() <= MAX_HOURS && self.hours.iter().all(hours),
                PolicyError::Hours,
            ),
            ((60..=86_400).contains(&self.window), PolicyError::Window),
            (self.redial_delay >= 10 && self.redial_max >= 1, PolicyError::Redial),
            (self.after_settlements != Some(0), PolicyError::Settlements),
            (self.gap.is_none_or(|gap| (1..=86_400).contains(&gap)), PolicyError::Gap),
        ];
        rules
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The contact of a terminal from `from` on.
    #[must_use]
    pub fn contact(&self, from: u64) -> NextContact {
        NextContact {
            redial_delay: Some(self.redial_delay),
            redial_max: Some(self.redial_max),
            after_settlements: self.after_settlements,
            power_on: self.at_power_on.then_some(true),
            gap: self.gap,
            ..NextContact::at(from, self.window)
        }
    }

    /// Whether it asks for days or hours, so that the place's time zone matters.
    #[must_use]
    pub fn is_local(&self) -> bool {
        !self.hours.is_empty() || self.days != Days::ALL
    }

    /// The times from which the next contact of a terminal may be taken, in ascending order and apart from each other:
    /// what is open from `now + period - tolerance` to `now + period + tolerance`, or the next opening after it where
    /// nothing is. There is always one.
    ///
    /// Hours are those of `zone`. An opening that begins in an hour that daylight saving skips begins after it; one that
    /// begins in an hour that comes twice begins in the first. It lasts as long as it lasts, whatever the clocks do.
    #[must_use]
    pub fn spans(&self, now: u64, zone: &TimeZone) -> Vec<Window> {
        let wanted = self.wanted(now);
        if !self.is_local() {
            return vec![wanted];
        }
        let openings = self.openings(wanted.from, zone);
        let open: Vec<Window> = openings.iter().filter_map(|opening| common(*opening, wanted)).collect();
        if !open.is_empty() {
            return open;
        }
        let next = openings.into_iter().find(|opening| opening.from >= wanted.until);
        vec![next.unwrap_or(wanted)]
    }

    /// The times from which the next contact is taken where there is no room in [`spans`](Self::spans): the openings after
    /// them, for as long as one period, or a day where that is longer. May be empty.
    #[must_use]
    pub fn later(&self, now: u64, zone: &TimeZone) -> Vec<Window> {
        let spans = self.spans(now, zone);
        let from = spans.last().map_or(now, |span| span.until);
        let reach = Window {
            from,
            until: from.saturating_add(u64::from(self.period).max(DAY)),
        };
        if !self.is_local() {
            return vec![reach];
        }
        let openings = self.openings(from, zone).into_iter();
        openings.filter_map(|opening| common(opening, reach)).collect()
    }

    /// A period from now, by as much earlier or later as it may be.
    fn wanted(&self, now: u64) -> Window {
        let due = now.saturating_add(u64::from(self.period));
        let tolerance = u64::from(self.tolerance).max(u64::from(self.window) / 2);
        Window {
            from: due.saturating_sub(tolerance).max(now.saturating_add(1)),
            until: due.saturating_add(tolerance).max(now.saturating_add(2)),
        }
    }

    /// The openings that end after `from`, joined where they touch, for the days ahead.
    fn openings(&self, from: u64, zone: &TimeZone) -> Vec<Window> {
        let Some(first) = civil_day(from.saturating_sub(DAY), zone) else {
            return Vec::new();
        };
        let all_day = [Hours {
            from: 0,
            minutes: 1_440,
        }];
        let hours = if self.hours.is_empty() {
            &all_day[..]
        } else {
            &self.hours
        };
        let mut openings = Vec::new();
        for ahead in 0..DAYS_AHEAD {
            let day = first.checked_add(SignedDuration::from_hours(24 * i64::from(ahead)));
            let Some(day) = day.ok().filter(|day| self.days.contains(day.weekday())) else {
                continue;
            };
            openings.extend(hours.iter().filter_map(|hours| hours.on(day, zone)));
        }
        openings.sort_by_key(|opening: &Window| opening.from);
        let mut joined: Vec<Window> = Vec::new();
        for opening in openings.into_iter().filter(|opening| opening.until > from) {
            match joined.last_mut() {
                Some(last) if opening.from <= last.until => last.until = last.until.max(opening.until),
                _ => joined.push(opening),
            }
        }
        joined
    }
}

impl Hours {
    /// This opening of one day. A whole day lasts from midnight to midnight, be it 23 or 25 hours long.
    fn on(self, day: Date, zone: &TimeZone) -> Option<Window> {
        let from = instant(day, self.from, zone)?;
        let until = if self.from == 0 && self.minutes == 1_440 {
            instant(day.tomorrow().ok()?, 0, zone)?
        } else {
            from.checked_add(u64::from(self.minutes).checked_mul(60)?)?
        };
        Some(Window { from, until })
    }
}

fn instant(day: Date, minutes: u16, zone: &TimeZone) -> Option<u64> {
    let hour = i8::try_from(minutes / 60).ok()?;
    let minute = i8::try_from(minutes % 60).ok()?;
    let time = jiff::civil::Time::new(hour, minute, 0, 0).ok()?;
    let instant = zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok()?;
    u64::try_from(instant.as_second()).ok()
}

fn civil_day(time: u64, zone: &TimeZone) -> Option<Date> {
    let time = Timestamp::from_second(i64::try_from(time).ok()?).ok()?;
    Some(zone.to_datetime(time).date())
}

fn common(one: Window, other: Window) -> Option<Window> {
    let both = Window {
        from: one.from.max(other.from),
        until: one.until.min(other.until),
    };
    (both.from < both.until).then_some(both)
}

#[cfg(test)]
mod tests;
