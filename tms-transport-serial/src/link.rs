//! The link as it is put on a line.

use crate::port::Flow;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tms_core::transport::linked::Linked;
use tms_core::transport::{LinkProfile, Transport};
use tms_proto::link::{Config, Duplex, EscapeMap, Role, SevenBit};

/// What is taken for the rate of a line that nobody knows, where something has to wait for it: the slowest in use. The link
/// itself measures.
const SLOWEST: u32 = 1200;

/// What a link is told of its line, where the modem does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinkOptions {
    /// Bits per second that the line carries, where the modem does not say, or says something else.
    pub bits_per_second: Option<u32>,
    /// The path carries seven bits of each byte.
    pub seven_bit: bool,
    /// The ends take turns.
    pub half_duplex: bool,
    /// Seconds after which a peer that is not heard is gone.
    pub inactivity: u64,
    /// Seconds for which a peer is greeted that does not answer.
    pub greeting: u64,
}

impl Default for LinkOptions {
    /// An ordinary line: 45 s without a sign of the peer, 60 s for its first.
    fn default() -> Self {
        Self {
            bits_per_second: None,
            seven_bit: false,
            half_duplex: false,
            inactivity: 45,
            greeting: 60,
        }
    }
}

impl LinkOptions {
    /// Puts a link on a line of which this is known, and says what the session is to make of it.
    pub(crate) fn link<T: Transport + 'static>(
        &self,
        line: T,
        role: Role,
        flow: Flow,
        bits_per_second: Option<u32>,
        error_corrected: Option<bool>,
    ) -> (Linked<T>, LinkProfile) {
        let bits_per_second = self.bits_per_second.or(bits_per_second);
        let config = Config {
            bits_per_second,
            error_corrected,
            seven_bit: if self.seven_bit {
                SevenBit::Always
            } else {
                SevenBit::Auto
            },
            escape: match flow {
                Flow::Software => EscapeMap::XON_XOFF,
                Flow::None | Flow::Hardware => EscapeMap::NONE,
            },
            duplex: if self.half_duplex { Duplex::Half } else { Duplex::Full },
            greeting: Duration::from_secs(self.greeting),
            inactivity: Duration::from_secs(self.inactivity),
            ..Config::new(role)
        };
        let profile = LinkProfile::serial(bits_per_second.unwrap_or(SLOWEST));
        (Linked::new(line, config), profile)
    }
}
