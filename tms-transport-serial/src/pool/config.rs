//! The configuration of a pool: `lines.toml`.

use super::{Kind, Line};
use crate::at::{Command, Profile};
use crate::link::LinkOptions;
use crate::port::{Flow, SerialPort, Settings};
use serde::Deserialize;
use std::path::PathBuf;
use tms_core::transport::PhoneNumber;

/// What `lines.toml` says.
///
/// ```
/// use tms_transport_serial::pool::PoolConfig;
///
/// let config: PoolConfig = toml::from_str(r#"
///     calls = 2
///
///     [[line]]
///     name = "modem-1"
///     device = "/dev/ttyUSB0"
///     number = "5551234"
///     init = ["+MS=V22B"]
///
///     [[line]]
///     name = "bench"
///     kind = "cable"
///     device = "/dev/ttyS0"
///     rate = 57600
///     flow = "none"
///
///     [line.link]
///     seven-bit = true
/// "#)?;
/// assert_eq!(config.lines.len(), 2);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// Calls that may be open at once; as many as there are lines, where it is not said.
    pub calls: Option<usize>,
    /// The lines.
    #[serde(rename = "line")]
    pub lines: Vec<LineConfig>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineConfig {
    /// Its name, for logs and for [`PeerInfo`](tms_core::transport::PeerInfo).
    pub name: String,
    /// What is on it.
    #[serde(default)]
    pub kind: Kind,
    /// Its port.
    pub device: PathBuf,
    /// Bits per second between computer and modem; 115,200 where it is not said.
    pub rate: Option<u32>,
    /// Flow control.
    #[serde(default)]
    pub flow: Flow,
    /// The number under which it is called.
    pub number: Option<PhoneText>,
    /// Rings after which a call is answered; 2 where it is not said.
    pub rings: Option<u32>,
    /// Commands for the modem, after those that every modem gets.
    #[serde(default)]
    pub init: Vec<Command>,
    /// What its link is told.
    #[serde(default)]
    pub link: LinkOptions,
}

/// A telephone number, as text in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PhoneText(pub PhoneNumber);

impl TryFrom<String> for PhoneText {
    type Error = tms_core::transport::NumberError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<LineConfig> for Line {
    /// The port is opened when the line starts, and again whenever it is lost.
    fn from(config: LineConfig) -> Self {
        let default = Settings::default();
        let settings = Settings {
            rate: config.rate.unwrap_or(default.rate),
            flow: config.flow,
        };
        let mut profile = Profile::default();
        profile.answer_rings = config.rings.unwrap_or(profile.answer_rings);
        profile.commands.extend(config.init);
        Self {
            name: config.name,
            kind: config.kind,
            open: SerialPort::opener(config.device, settings),
            settings,
            profile,
            called: config.number.map(|number| number.0),
            link: config.link,
        }
    }
}
