//! Times, as people read and write them. Always UTC: an estate has terminals and operators in several zones.

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;
use std::str::FromStr;
use tms_proto::certificate::Date;

/// A moment, given as a day (`2027-01-31`, its first second) or to the second (`2027-01-31T12:00:00Z`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub u64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = || {
            civil::Date::from_str(text)
                .ok()?
                .to_zoned(TimeZone::UTC)
                .ok()
                .map(|zoned| zoned.timestamp())
        };
        let moment = Timestamp::from_str(text).ok().or_else(day);
        moment
            .and_then(|moment| u64::try_from(moment.as_second()).ok())
            .map(Self)
            .ok_or_else(|| "a time is written like 2027-01-31 or 2027-01-31T12:00:00Z".to_owned())
    }
}

impl<'de> serde::Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Seconds since 1970 UTC, as `2026-11-22 13:57:00`.
#[must_use]
pub fn show(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    moment.map_or_else(
        || format!("second {seconds}"),
        |moment| moment.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// Seconds since 1970 UTC, as RFC 3339: for machines.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    moment.map_or_else(String::new, |moment| moment.to_string())
}

/// The day of a moment; the last one that certificates can name where it is later.
#[must_use]
pub fn day(seconds: u64) -> Date {
    Date::of_unix(seconds).unwrap_or(Date::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_in_utc() {
        assert_eq!("2027-01-31".parse(), Ok(Moment(1_801_353_600)));
        assert_eq!("2027-01-31T12:00:00Z".parse(), Ok(Moment(1_801_353_600 + 43_200)));
        assert_eq!(show(1_801_353_600 + 43_200), "2027-01-31 12:00:00");
        assert_eq!(rfc3339(1_801_353_600), "2027-01-31T00:00:00Z");
        for wrong in ["", "31.01.2027", "2027-02-30", "1969-01-01"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
        assert_eq!(show(u64::MAX), "second 18446744073709551615");
        assert_eq!(day(1_801_353_600).to_string(), "2027-01-31");
    }
}
