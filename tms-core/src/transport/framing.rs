//! Envelopes by their names, as configuration files and flags have them.

use super::LinkProfile;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use tms_proto::envelope::Envelope;

/// What sealing adds to a record, in bytes (§5.1).
const SEAL: usize = 16;

/// How messages are framed on a network (§2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// Two bytes of length, and the message.
    #[default]
    Tcp,
    /// With a TPDU, as access servers (NAC) want it.
    Nac,
    /// STX, a BCD length, TPDU, ETX and LRC.
    StxBcd,
}

/// A name that no framing has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a framing: tcp, nac or stx-bcd")]
pub struct FramingError;

impl Framing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Nac, Self::StxBcd];

    /// The name, as flags and files have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Nac => "nac",
            Self::StxBcd => "stx-bcd",
        }
    }

    /// The envelope.
    #[must_use]
    pub const fn envelope(self) -> Envelope {
        match self {
            Self::Tcp => Envelope::TCP,
            Self::Nac => Envelope::NAC,
            Self::StxBcd => Envelope::STX_BCD,
        }
    }

    /// TCP with this envelope. A sealed record has to fit into it.
    #[must_use]
    pub fn profile(self) -> LinkProfile {
        let envelope = self.envelope();
        let room = u16::try_from(envelope.capacity().saturating_sub(SEAL)).unwrap_or(u16::MAX);
        LinkProfile {
            envelope,
            max_record: room.min(LinkProfile::TCP.max_record),
            ..LinkProfile::TCP
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Framing {
    type Err = FramingError;

    fn from_str(name: &str) -> Result<Self, FramingError> {
        Self::ALL
            .into_iter()
            .find(|framing| framing.name() == name)
            .ok_or(FramingError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_fit_into_every_envelope() {
        for framing in Framing::ALL {
            let profile = framing.profile();
            assert!(
                usize::from(profile.max_record) + SEAL <= profile.envelope.capacity(),
                "{framing:?}"
            );
        }
        assert_eq!(Framing::Tcp.profile(), LinkProfile::TCP);
    }

    #[test]
    fn names_are_the_same_in_files_and_flags() {
        for framing in Framing::ALL {
            assert_eq!(framing.to_string().parse(), Ok(framing));
            assert_eq!(serde_json::to_string(&framing).unwrap(), format!("\"{framing}\""));
        }
        assert_eq!("TCP".parse::<Framing>(), Err(FramingError));
    }
}
