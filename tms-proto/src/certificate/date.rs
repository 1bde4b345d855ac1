//! Calendar dates, as card-verifiable certificates state them: year, month and day of UTC in unpacked BCD (§10.2).

use crate::tlv::{DecodeError, Element, Tag, Value, Writer};
use core::fmt;

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// 2000-01-01, in days since 1970-01-01.
const FIRST: u32 = 10_957;
/// The days of the years 2000 to 2099.
const SPAN: u32 = 36_525;
/// The days of four years, the first of which is a leap year; every fourth year of the century is one, 2000 included.
const FOUR_YEARS: u32 = 1461;
const MONTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A day of the years 2000 to 2099, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Days since 2000-01-01.
    day: u32,
}

impl Date {
    /// The first day: 2000-01-01.
    pub const MIN: Self = Self { day: 0 };

    /// The last day: 2099-12-31.
    pub const MAX: Self = Self { day: SPAN - 1 };

    /// The day of a year (2000 to 2099), month and day of month, from 1; none where there is no such day.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let year = u32::from(year).checked_sub(2000).filter(|year| *year < 100)?;
        let (month, day) = (u32::from(month), u32::from(day));
        if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
            return None;
        }
        let before: u32 = (1..month).map(|month| days_of_month(year, month)).sum();
        Some(Self {
            day: year * 365 + year.div_ceil(4) + before + day - 1,
        })
    }

    /// The day in which this second since 1970 UTC lies; none outside the years 2000 to 2099.
    #[must_use]
    pub fn of_unix(seconds: u64) -> Option<Self> {
        let day = u32::try_from(seconds / DAY).ok()?.checked_sub(FIRST)?;
        (day < SPAN).then_some(Self { day })
    }

    /// Its first second, since 1970 UTC.
    #[must_use]
    pub fn start(self) -> u64 {
        u64::from(FIRST + self.day) * DAY
    }

    /// The first second after it, since 1970 UTC.
    #[must_use]
    pub fn end(self) -> u64 {
        self.start() + DAY
    }

    /// Year, month and day of month.
    #[must_use]
    pub fn calendar(self) -> (u16, u8, u8) {
        let (cycle, rest) = (self.day / FOUR_YEARS, self.day % FOUR_YEARS);
        let mut year = 4 * cycle;
        let mut day = rest;
        // The first year of the cycle has 366 days.
        while day >= days_of_year(year) {
            day -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        (2000 + u16::from(small(year)), small(month), small(day + 1))
    }
}

const fn days_of_year(year: u32) -> u32 {
    if year.is_multiple_of(4) { 366 } else { 365 }
}

fn days_of_month(year: u32, month: u32) -> u32 {
    let days = MONTHS
        .iter()
        .zip(1..)
        .find(|(_, number)| *number == month)
        .map_or(31, |(days, _)| *days);
    if month == 2 && year.is_multiple_of(4) {
        days + 1
    } else {
        days
    }
}

impl Value for Date {
    fn write(&self, tag: Tag, out: &mut Writer) {
        let (year, month, day) = self.calendar();
        let year = u8::try_from(year % 100).unwrap_or_default();
        out.bytes(tag, &[year / 10, year % 10, month / 10, month % 10, day / 10, day % 10]);
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        let date = match *element.value {
            [a, b, c, d, e, f] if element.value.iter().all(|digit| *digit < 10) => {
                Self::new(2000 + u16::from(10 * a + b), 10 * c + d, 10 * e + f)
            }
            _ => None,
        };
        date.ok_or_else(|| element.malformed())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.calendar();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlv::split;
    use proptest::prelude::*;
    use std::string::ToString;

    /// The calendar, day by day.
    struct Slow {
        year: u16,
        month: u8,
        day: u8,
    }

    impl Slow {
        fn next(&mut self) {
            let every = |years| self.year.is_multiple_of(years);
            let leap = every(4) && (!every(100) || every(400));
            let last = match self.month {
                4 | 6 | 9 | 11 => 30,
                2 if leap => 29,
                2 => 28,
                _ => 31,
            };
            self.day += 1;
            if self.day > last {
                (self.month, self.day) = (self.month + 1, 1);
            }
            if self.month > 12 {
                (self.year, self.month) = (self.year + 1, 1);
            }
        }
    }

    #[test]
    fn every_day_of_the_century_is_where_the_calendar_has_it() {
        let mut slow = Slow {
            year: 1970,
            month: 1,
            day: 1,
        };
        for day in 0..u64::from(FIRST + SPAN) + 400 {
            let date = Date::of_unix(day * DAY);
            let here = (slow.year, slow.month, slow.day);
            assert_eq!(date, Date::new(slow.year, slow.month, slow.day), "{here:?}");
            assert_eq!(date.is_some(), (2000..2100).contains(&slow.year), "{here:?}");
            if let Some(date) = date {
                assert_eq!(date.calendar(), here);
                assert_eq!((date.start(), date.end()), (day * DAY, (day + 1) * DAY));
            }
            slow.next();
        }
        assert_eq!(Date::MIN.to_string(), "2000-01-01");
        assert_eq!(Date::MAX.to_string(), "2099-12-31");
    }

    #[test]
    fn days_that_are_not_are_refused() {
        for (year, month, day) in [
            (2023, 2, 29),
            (2024, 2, 30),
            (2024, 4, 31),
            (2024, 0, 1),
            (2024, 13, 1),
            (2024, 1, 0),
            (1999, 12, 31),
            (2100, 1, 1),
        ] {
            assert_eq!(Date::new(year, month, day), None, "{year}-{month}-{day}");
        }
        assert!(Date::new(2000, 2, 29).is_some());
        assert_eq!(Date::of_unix(u64::MAX), None);
    }

    #[test]
    fn a_date_is_six_digits_of_a_byte_each() {
        let mut out = Writer::new();
        Date::new(2031, 7, 9).unwrap().write(Tag(0x5F24), &mut out);
        assert_eq!(out.into_vec(), [0x5F, 0x24, 6, 3, 1, 0, 7, 0, 9]);
        let read = |digits: &[u8]| {
            Date::read(
                Element {
                    tag: Tag(0x5F24),
                    value: digits,
                    offset: 0,
                },
                &mut 0,
            )
        };
        assert!(read(&[2, 4, 0, 2, 2, 9]).is_ok());
        for wrong in [
            &[2, 3, 0, 2, 2, 9][..],
            &[2, 4, 0, 2, 2, 10],
            &[2, 4, 0, 1, 3],
            &[0x24, 2, 9],
            &[2, 4, 1, 3, 0, 1],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn days_survive_and_keep_their_order(a in 0..SPAN, b in 0..SPAN, second in 0..DAY) {
            let (a, b) = (Date { day: a }, Date { day: b });
            let (year, month, day) = a.calendar();
            prop_assert_eq!(Date::new(year, month, day), Some(a));
            prop_assert_eq!(Date::of_unix(a.start() + second), Some(a));
            prop_assert_eq!(a.calendar() < b.calendar(), a < b);
            let mut out = Writer::new();
            a.write(Tag(0x5F25), &mut out);
            let bytes = out.into_vec();
            let (element, _) = split(&bytes, 0).unwrap();
            prop_assert_eq!(Date::read(element, &mut 0), Ok(a));
        }
    }
}
