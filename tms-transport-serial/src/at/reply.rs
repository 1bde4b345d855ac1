//! What a line from a modem means.

use super::caller;
pub(super) use super::caller::Told;
use super::connect::Connect;
use std::time::Duration;

/// What a line from a modem means by itself. What it means in a call, the [engine](super::Engine) knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// Not understood, or not possible.
    Error,
    /// The telephone rings; some modems say who calls in the same line.
    Ring(Told),
    /// A connection.
    Connect(Connect),
    /// No carrier, or not any more.
    NoCarrier,
    /// The telephone line is dead, or no exchange answers.
    NoDialTone,
    /// The number is engaged.
    Busy,
    /// It rings there, and nobody answers.
    NoAnswer,
    /// The modem must not call this number yet; for so long, where it says.
    Delayed(Option<Duration>),
    /// The modem must not call this number any more.
    Blacklisted,
    /// Caller identification.
    Caller(Told),
    /// Our own command.
    Echo,
    /// Anything else: banners, progress, answers to questions. The engine looks for more in it.
    Text,
}

/// Reads a line. The flag says whether it was a number, from a modem that does not say words.
#[must_use]
pub fn read(line: &str) -> (Reply, bool) {
    if let Some(reply) = numeric(line) {
        return (reply, true);
    }
    let upper = line.to_ascii_uppercase();
    let reply = match upper.as_str() {
        "OK" => Reply::Ok,
        "ERROR" => Reply::Error,
        "RING" => Reply::Ring(Told::default()),
        "NO CARRIER" => Reply::NoCarrier,
        "NO DIALTONE" | "NO DIAL TONE" => Reply::NoDialTone,
        "BUSY" => Reply::Busy,
        "NO ANSWER" => Reply::NoAnswer,
        "BLACKLISTED" | "BLACKLIST FULL" => Reply::Blacklisted,
        text => words(text, line),
    };
    (reply, false)
}

fn words(upper: &str, line: &str) -> Reply {
    if upper.starts_with("AT") {
        return Reply::Echo;
    }
    if let Some(rest) = upper.strip_prefix("CONNECT")
        && !rest.starts_with(|letter: char| letter.is_ascii_alphabetic())
    {
        return Reply::Connect(Connect::read(rest));
    }
    if upper.starts_with("+CME ERROR") {
        return Reply::Error;
    }
    if let Some(rest) = upper.strip_prefix("DELAYED") {
        return Reply::Delayed(delay(rest));
    }
    // `RING 3` is a cadence; `RINGING` is heard while we call.
    if let Some(rest) = upper.strip_prefix("RING ")
        && rest.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Reply::Ring(Told::default());
    }
    match caller::read(line) {
        Some(told) if upper.starts_with("RING") => Reply::Ring(told),
        Some(told) => Reply::Caller(told),
        None if upper.starts_with("+CRING:") => Reply::Ring(Told::default()),
        None => Reply::Text,
    }
}

/// `0` to `12`, which all modems share, and those above, in which no two agree but for their being connections.
fn numeric(line: &str) -> Option<Reply> {
    if line.len() > 2 || !line.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let connect = |speed| {
        Reply::Connect(Connect {
            speed,
            ..Connect::default()
        })
    };
    Some(match line.parse::<u8>().ok()? {
        0 => Reply::Ok,
        2 => Reply::Ring(Told::default()),
        3 => Reply::NoCarrier,
        4 => Reply::Error,
        5 => connect(Some(1200)),
        6 => Reply::NoDialTone,
        7 => Reply::Busy,
        8 => Reply::NoAnswer,
        10 => connect(Some(2400)),
        11 => connect(Some(4800)),
        12 => connect(Some(9600)),
        _ => connect(None),
    })
}

/// `00:01:30` or seconds.
fn delay(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    for part in text.trim_matches([' ', ':', '=']).split(':') {
        let part: u32 = part.trim().parse().ok()?;
        seconds = seconds.checked_mul(60)?.checked_add(u64::from(part))?;
    }
    Some(Duration::from_secs(seconds.min(86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tms_core::transport::CallerNumber;

    fn word(line: &str) -> Reply {
        let (reply, numeric) = read(line);
        assert!(!numeric, "{line}");
        reply
    }

    #[test]
    fn words_and_numbers_mean_the_same() {
        for (line, number) in [
            ("OK", "0"),
            ("CONNECT", "1"),
            ("RING", "2"),
            ("NO CARRIER", "3"),
            ("ERROR", "4"),
            ("CONNECT 1200", "5"),
            ("NO DIALTONE", "6"),
            ("NO DIAL TONE", "6"),
            ("BUSY", "7"),
            ("NO ANSWER", "8"),
            ("CONNECT 2400", "10"),
            ("connect 4800", "11"),
            ("CONNECT 9600", "12"),
            // Fourteen is 12,000 or 19,200 or something else.
            ("CONNECT", "14"),
        ] {
            assert_eq!((word(line), true), read(number), "{line}");
        }
    }

    #[test]
    fn what_only_looks_like_a_result_is_none() {
        for line in [
            "RINGING",
            "RINGBACK",
            "CONNECTED",
            "NO CARRIER FOUND",
            "BUSYBODY",
            "OKAY",
            "123",
            "-1",
            "Hayes 9600",
        ] {
            assert_eq!(word(line), Reply::Text, "{line}");
        }
        assert_eq!(word("ATDT5551234"), Reply::Echo);
        assert_eq!(word("+CME ERROR: 3"), Reply::Error);
    }

    #[test]
    fn rings_of_all_sorts_are_rings() {
        for line in ["RING", "ring", "RING 1", "RING 5", "RING;", "+CRING: VOICE"] {
            assert!(matches!(word(line), Reply::Ring(_)), "{line}");
        }
        let Reply::Ring(told) = word("RING;0891234;0876543") else {
            panic!("no ring")
        };
        assert_eq!(told.caller, Some(CallerNumber::Known("0891234".parse().unwrap())));
    }

    #[test]
    fn delays_and_blacklists_are_told() {
        assert_eq!(word("DELAYED"), Reply::Delayed(None));
        assert_eq!(word("DELAYED 00:01:30"), Reply::Delayed(Some(Duration::from_secs(90))));
        assert_eq!(word("DELAYED: 45"), Reply::Delayed(Some(Duration::from_secs(45))));
        assert_eq!(word("DELAYED 99999999999"), Reply::Delayed(None));
        assert_eq!(word("BLACKLISTED"), Reply::Blacklisted);
        assert_eq!(word("BLACKLIST FULL"), Reply::Blacklisted);
    }
}
