//! Who is at the other end, as far as the access side has seen it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use thiserror::Error;

/// What the access side observed of a peer. Nothing of it is proof of an identity: it is for limits, for logs, and for the
/// question where a terminal stands. What the terminal itself says is in its report, and never in here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerInfo {
    /// The peer's address on a network.
    pub address: Option<SocketAddr>,
    /// The line that it came in on, by the name that the operator gave it.
    pub line: Option<String>,
    /// Who called, on a telephone line that tells.
    pub caller: Option<Caller>,
    /// The number that was called, where a line has more than one.
    pub called: Option<PhoneNumber>,
    /// The front end that passed the call on, and told the rest. It is one that the operator trusts.
    pub gateway: Option<SocketAddr>,
}

impl PeerInfo {
    /// A peer on a network.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address: Some(address),
            ..Self::default()
        }
    }

    /// A peer on a line.
    #[must_use]
    pub fn on_line(name: impl Into<String>) -> Self {
        Self {
            line: Some(name.into()),
            ..Self::default()
        }
    }
}

impl fmt::Display for PeerInfo {
    /// For logs: `192.0.2.7:40123 via 10.0.0.1:9000`, `line modem-3, caller 5551234 (modem, network)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(address) = &self.address {
            write!(f, "{address}")?;
            separator = ", ";
        }
        if let Some(line) = &self.line {
            write!(f, "{separator}line {}", line.escape_debug())?;
            separator = ", ";
        }
        if let Some(caller) = &self.caller {
            write!(f, "{separator}caller {caller}")?;
            separator = ", ";
        }
        if let Some(called) = &self.called {
            write!(f, "{separator}called {called}")?;
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("unknown peer")?;
        }
        match &self.gateway {
            Some(gateway) => write!(f, " via {gateway}"),
            None => Ok(()),
        }
    }
}

/// What was observed of a caller on a telephone line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The number, or why there is none.
    pub number: CallerNumber,
    /// Who told.
    pub source: CallerSource,
    /// How far the telephone network vouches for it.
    pub trust: Trust,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.number, self.source, self.trust)
    }
}

/// The number of a caller. That no number was told at all is `None` in [`PeerInfo::caller`], and another thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerNumber {
    /// It was told.
    Known(PhoneNumber),
    /// The caller does not want it known.
    Withheld,
    /// The network does not know it: the call came from another one.
    OutOfArea,
}

impl fmt::Display for CallerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(number) => fmt::Display::fmt(number, f),
            Self::Withheld => f.write_str("withheld"),
            Self::OutOfArea => f.write_str("out of area"),
        }
    }
}

/// Who told the number of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallerSource {
    /// The modem: caller identification on an analogue line.
    Modem,
    /// The access device: signalling of a digital line.
    Signalling,
    /// The access device: a header before the call's own bytes.
    Header,
}

impl fmt::Display for CallerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modem => "modem",
            Self::Signalling => "signalling",
            Self::Header => "header",
        })
    }
}

/// How far a caller's number is to be believed, in ascending order (after the screening indicator of ITU-T Q.931).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The caller's equipment gave it, and the network did not look at it.
    Unscreened,
    /// It is not known who gave it.
    Unknown,
    /// The caller's equipment gave it, and the network found it to be one of the caller's.
    Screened,
    /// The network gave it.
    Network,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unscreened => "unscreened",
            Self::Unknown => "unknown trust",
            Self::Screened => "screened",
            Self::Network => "network",
        })
    }
}

/// A telephone number: 1 to 24 of the digits, `*` and `#`, with or without a leading `+`. What lines tell is an attacker's to
/// choose; nothing else gets in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(String);

/// Text that is not a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a telephone number: 1 to 24 digits are needed")]
pub struct NumberError;

impl PhoneNumber {
    const MAX: usize = 24;

    /// The number as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PhoneNumber {
    type Err = NumberError;

    /// Spaces, hyphens, dots and parentheses are left out.
    fn from_str(text: &str) -> Result<Self, NumberError> {
        // Before anything is allocated; separators are a few.
        if text.len() > 2 * Self::MAX {
            return Err(NumberError);
        }
        let number: String = text
            .chars()
            .filter(|letter| !matches!(letter, ' ' | '-' | '.' | '(' | ')'))
            .collect();
        let dialled = number.strip_prefix('+').unwrap_or(&number);
        let digits = dialled.chars().all(|letter| matches!(letter, '0'..='9' | '*' | '#'));
        if digits && (1..=Self::MAX).contains(&dialled.len()) {
            Ok(Self(number))
        } else {
            Err(NumberError)
        }
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> PhoneNumber {
        text.parse().unwrap()
    }

    #[test]
    fn peers_read_well_in_logs() {
        let gateway = Some("10.0.0.1:9000".parse().unwrap());
        let address = PeerInfo::at("192.0.2.7:40123".parse().unwrap());
        assert_eq!(address.to_string(), "192.0.2.7:40123");
        assert_eq!(
            PeerInfo { gateway, ..address }.to_string(),
            "192.0.2.7:40123 via 10.0.0.1:9000"
        );
        assert_eq!(PeerInfo::default().to_string(), "unknown peer");
        assert_eq!(
            PeerInfo {
                gateway,
                ..PeerInfo::default()
            }
            .to_string(),
            "unknown peer via 10.0.0.1:9000"
        );
        let caller = |number| {
            Some(Caller {
                number,
                source: CallerSource::Modem,
                trust: Trust::Network,
            })
        };
        let line = PeerInfo {
            caller: caller(CallerNumber::Known(number("(021) 555-1234"))),
            called: Some(number("+862195500")),
            ..PeerInfo::on_line("modem\n3")
        };
        assert_eq!(
            line.to_string(),
            "line modem\\n3, caller 0215551234 (modem, network), called +862195500"
        );
        let withheld = PeerInfo {
            caller: caller(CallerNumber::Withheld),
            ..PeerInfo::default()
        };
        assert_eq!(withheld.to_string(), "caller withheld (modem, network)");
    }

    #[test]
    fn trust_is_ordered() {
        assert!(
            Trust::Unscreened < Trust::Unknown && Trust::Unknown < Trust::Screened && Trust::Screened < Trust::Network
        );
    }

    #[test]
    fn numbers_are_digits() {
        for good in [
            "5",
            "+862155501234",
            "*31#5551234",
            "9 (021) 555.12-34",
            "123456789012345678901234",
        ] {
            assert!(good.parse::<PhoneNumber>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "+",
            "P",
            "O",
            "555;1234",
            "12+3",
            "++1",
            "5551234\r\nATH",
            "1234567890123456789012345",
            "٣",
        ] {
            assert_eq!(bad.parse::<PhoneNumber>(), Err(NumberError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_line_tells_is_digits_or_nothing(text in ".{0,60}") {
            if let Ok(number) = text.parse::<PhoneNumber>() {
                prop_assert!(number.as_str().len() <= 25);
                prop_assert!(number.as_str().bytes().all(|byte| b"0123456789*#+".contains(&byte)));
                prop_assert_eq!(number.to_string().parse::<PhoneNumber>(), Ok(number));
            }
        }
    }
}
