//! Windows: at which hours a terminal may download, and at which it may install.
//!
//! A window is written as people say it, by the terminal's own wall clock: from two in the morning for three hours, on
//! these days of the week, not at the end of a month. Both its ends are times on that clock, so that a shop that opens at
//! six is left alone from six on, whatever the clocks did in the night:
//!
//! - **The skipped hour** (clocks go forward): an end in it is the moment of the jump. A window that lies inside the
//!   skipped hour therefore does not open; one that reaches into it is shorter.
//! - **The repeated hour** (clocks go back): an end in it is the first of the two. A window that lies inside the repeated
//!   hour opens once, in the first of the two; one that reaches over it is longer.
//!
//! An opening is known by its *instance*, the date on which it begins: a terminal that had its turn in an instance has
//! had it, in whatever zone and by whatever clock.

use super::hash::stable;
use crate::store::TerminalId;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// The most minutes of a window: ten less than a day, so that openings never touch.
pub const MAX_MINUTES: u16 = 1_430;

/// How many days ahead an opening is looked for. A window that is closed for longer is closed.
pub const HORIZON: u16 = 400;

/// The windows of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Windows {
    /// When downloads may begin. None is always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download: Option<Window>,
    /// When installations may begin. None is always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<Window>,
    /// Seconds after which an assignment does not wait for windows any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_after: Option<u32>,
}

/// Hours that come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The days of the week on which it begins; all of them, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// When it begins, on the wall clock, as `02:30:00`.
    pub start: Time,
    /// How long it is open, in minutes: 1 to [`MAX_MINUTES`].
    pub minutes: u16,
    /// Dates on which it is closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Dates>,
    /// It is closed on so many days at the end of each month, 0 to 15.
    #[serde(default)]
    pub month_end: u8,
    /// The zone, by its IANA name, in which it is meant for all terminals. None is each terminal's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// Dates, from the first to the last, both of them included, as `2026-12-24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dates {
    /// The first.
    pub first: Date,
    /// The last.
    pub last: Date,
}

/// One time that a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Opening {
    /// Which: the date on which it begins.
    pub instance: Date,
    /// The first second, in seconds since 1970 UTC.
    pub from: u64,
    /// The first second after it.
    pub until: u64,
}

/// A time zone.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

/// What a window is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The download.
    Download,
    /// The installation.
    Install,
}

/// When a terminal may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// At any time.
    Free,
    /// In this opening, which is open or the next to be.
    Within(Opening),
    /// Not within the [`HORIZON`].
    Closed,
}

impl Zone {
    /// Universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone with this IANA name, as `Asia/Shanghai`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// The first of these that is known: of the terminal, of its site, of the estate. [`Self::UTC`] where none is.
    #[must_use]
    pub fn first<'a>(names: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut zones = names.into_iter().flatten().filter_map(Self::named);
        zones.next().unwrap_or(Self::UTC)
    }

    /// The date there.
    fn date(&self, time: u64) -> Option<Date> {
        let time = Timestamp::from_second(i64::try_from(time).ok()?).ok()?;
        Some(self.0.to_datetime(time).date())
    }

    /// When it is that time there: the first time of two, and the jump where there is none.
    fn instant(&self, time: DateTime) -> Option<u64> {
        let stamp = match self.0.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(time),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(time),
            AmbiguousOffset::Gap { after, .. } => {
                let earlier = after.to_timestamp(time).ok()?;
                Ok(self.0.following(earlier).next()?.timestamp())
            }
        };
        u64::try_from(stamp.ok()?.as_second()).ok()
    }
}

impl Windows {
    /// When an assignment may begin with `part`, at `now`. `zone` is the terminal's; `created` is the assignment's time, in
    /// seconds since 1970 UTC. What was `begun` may end after its window; what is to be begun anew, a new attempt among
    /// it, waits for the next.
    #[must_use]
    pub fn access(&self, part: Part, begun: bool, created: u64, now: u64, zone: &Zone) -> Access {
        let window = match part {
            Part::Download => &self.download,
            Part::Install => &self.install,
        };
        let Some(window) = window else { return Access::Free };
        let age = now.saturating_sub(created);
        if begun || self.force_after.is_some_and(|limit| age >= u64::from(limit)) {
            return Access::Free;
        }
        window.next(now, zone).map_or(Access::Closed, Access::Within)
    }
}

impl Window {
    /// The opening that `now` lies in, or the next. `zone` counts where the window names none.
    #[must_use]
    pub fn next(&self, now: u64, zone: &Zone) -> Option<Opening> {
        let own = self.zone.as_deref().and_then(Zone::named);
        let zone = own.as_ref().unwrap_or(zone);
        // Yesterday's may still be open.
        let mut date = zone.date(now)?.yesterday().ok()?;
        for _ in 0..=HORIZON {
            if let Some(opening) = self.opening(date, zone).filter(|opening| now < opening.until) {
                return Some(opening);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The opening that `now` lies in.
    #[must_use]
    pub fn open_at(&self, now: u64, zone: &Zone) -> Option<Opening> {
        self.next(now, zone).filter(|opening| opening.contains(now))
    }

    fn opening(&self, date: Date, zone: &Zone) -> Option<Opening> {
        let is_day = self.days.is_empty() || self.days.contains(&Day::of(date));
        if !is_day || self.is_closed(date) {
            return None;
        }
        let start = date.to_datetime(self.start);
        let mut end = start.checked_add(i64::from(self.minutes).minutes()).ok()?;
        // It began on a good day, and does not run on into a closed one.
        if end.date() > date && self.is_closed(end.date()) {
            end = end.date().to_datetime(Time::midnight());
        }
        let (from, until) = (zone.instant(start)?, zone.instant(end)?);
        (from < until).then_some(Opening {
            instance: date,
            from,
            until,
        })
    }

    fn is_closed(&self, date: Date) -> bool {
        let left = date.days_in_month().saturating_sub(date.day());
        i16::from(left) < i16::from(self.month_end)
            || self
                .closed
                .iter()
                .any(|dates| dates.first <= date && date <= dates.last)
    }
}

impl Opening {
    /// Whether it is open at `time`.
    #[must_use]
    pub const fn contains(&self, time: u64) -> bool {
        self.from <= time && time < self.until
    }

    /// The same for one terminal: it begins somewhere in the first half, each time elsewhere, so that terminals do not all
    /// come when the window opens, and the last still have half of it.
    #[must_use]
    pub fn personal(&self, salt: u64, terminal: TerminalId) -> Self {
        let half = self.until.saturating_sub(self.from) / 2;
        let offset = stable(salt ^ self.from, terminal).checked_rem(half).unwrap_or_default();
        Self {
            from: self.from.saturating_add(offset),
            ..*self
        }
    }
}

impl From<Opening> for tms_proto::message::Window {
    fn from(opening: Opening) -> Self {
        Self {
            from: opening.from,
            until: opening.until,
        }
    }
}

impl Day {
    fn of(date: Date) -> Self {
        match date.weekday() {
            Weekday::Monday => Self::Monday,
            Weekday::Tuesday => Self::Tuesday,
            Weekday::Wednesday => Self::Wednesday,
            Weekday::Thursday => Self::Thursday,
            Weekday::Friday => Self::Friday,
            Weekday::Saturday => Self::Saturday,
            Weekday::Sunday => Self::Sunday,
        }
    }
}

#[cfg(test)]
mod tests;
