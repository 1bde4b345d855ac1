//! By which ways a terminal calls: a network, a modem, a cable, or one after the other.

use crate::terminal::Terminal;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use tms_core::entropy::OsEntropy;
use tms_core::transport::Dial;
use tms_core::transport::tcp::TcpDial;
use tms_transport_serial::LinkOptions;
use tms_transport_serial::at::{Command, DialString, Profile, Timing};
use tms_transport_serial::dial::{Dialler, Policy, Route, Setup};
use tms_transport_serial::direct::CableDial;
use tms_transport_serial::modem::ModemLine;
use tms_transport_serial::port::{Flow, SerialPort, Settings};

/// The telephone line of a terminal, and whom it calls by it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modem {
    /// The modem's port.
    pub device: PathBuf,
    /// The server's numbers, in the order in which they are called.
    pub numbers: Vec<String>,
    /// What is dialled before every number to get a line out, with pauses: `9,`.
    pub prefix: Option<String>,
    /// Bits per second between terminal and modem.
    pub rate: Option<u32>,
    /// Flow control between terminal and modem.
    #[serde(default)]
    pub flow: Flow,
    /// Commands for the modem, after those that every modem gets.
    #[serde(default)]
    pub init: Vec<Command>,
    /// When no number leads to the server, call it over the network.
    #[serde(default)]
    pub then_network: bool,
    /// What the link is told of the line.
    #[serde(default)]
    pub link: LinkOptions,
}

/// A cable to the server, on a bench.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cable {
    /// The port.
    pub device: PathBuf,
    /// Bits per second.
    pub rate: Option<u32>,
    /// Flow control.
    #[serde(default)]
    pub flow: Flow,
    /// What the link is told of the line.
    #[serde(default)]
    pub link: LinkOptions,
}

fn settings(rate: Option<u32>, flow: Flow) -> Settings {
    let default = Settings::default();
    Settings {
        rate: rate.unwrap_or(default.rate),
        flow,
    }
}

impl Modem {
    /// The way to the server by this line. What must be remembered of calls is in the terminal's memory.
    ///
    /// # Errors
    /// Where a number is none.
    pub fn dial(&self, terminal: &Terminal, network: TcpDial) -> Result<Dialler> {
        let number = |text: &String| -> Result<DialString> {
            text.parse().with_context(|| format!("{text:?} cannot be dialled"))
        };
        let settings = settings(self.rate, self.flow);
        let mut profile = Profile::default();
        profile.commands.extend(self.init.iter().cloned());
        let mut routes = self
            .numbers
            .iter()
            .map(|text| Ok(Route::Telephone(number(text)?)))
            .collect::<Result<Vec<_>>>()?;
        if self.then_network {
            routes.push(Route::Other(Box::new(network)));
        }
        let setup = Setup {
            line: ModemLine::start("modem", SerialPort::opener(&self.device, settings), profile),
            settings,
            link: self.link,
            prefix: self.prefix.as_ref().map(number).transpose()?,
            policy: Policy::default(),
            memory: terminal.flash(),
            clock: terminal.clock(),
            entropy: Arc::new(OsEntropy),
        };
        Ok(Dialler::new(setup, routes)?)
    }
}

impl Cable {
    /// The way to the server by this cable.
    #[must_use]
    pub fn dial(&self) -> CableDial {
        let settings = settings(self.rate, self.flow);
        CableDial::new(
            SerialPort::opener(&self.device, settings),
            settings,
            Timing::default(),
            self.link,
        )
    }
}

/// By which way a terminal calls that has these.
///
/// # Errors
/// Where a number is none.
pub fn dial(
    terminal: &Terminal,
    modem: Option<&Modem>,
    cable: Option<&Cable>,
    network: TcpDial,
) -> Result<Box<dyn Dial>> {
    Ok(match (cable, modem) {
        (Some(cable), _) => Box::new(cable.dial()),
        (None, Some(modem)) => Box::new(modem.dial(terminal, network)?),
        (None, None) => Box::new(network),
    })
}
