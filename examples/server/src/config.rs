//! The configuration of a server: `server.toml`.

use anyhow::Result;
use ipnet::IpNet;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tms_core::blob::CachedBlobs;
use tms_core::server::{ContactPolicy, Options};
use tms_core::transport::Framing;
use tms_program::log::Log;
use tms_proto::handshake::Suite;

/// What `server.toml` says. What it does not say is the default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seconds that a stop waits for the calls that run.
    pub drain: u64,
    /// Where terminals call in.
    pub listen: Vec<Listen>,
    /// Where things lie.
    pub files: Files,
    /// When terminals are told to call again.
    pub contact: Contact,
    /// Bounds.
    pub limits: Limits,
    /// For how long things are kept.
    pub retention: Retention,
    /// What is logged.
    pub log: Log,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// How messages are framed.
    #[serde(default)]
    pub envelope: Framing,
    /// Networks of gateways, whose PROXY headers are believed and needed. Callers from elsewhere call by themselves.
    #[serde(default)]
    pub gateways: Vec<IpNet>,
}

/// Where things lie; relative paths are relative to the estate directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// The database.
    pub database: PathBuf,
    /// The content of packages.
    pub blobs: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The roots that terminals' certificates must be under.
    pub anchors: PathBuf,
    /// Whose signatures a package needs.
    pub trust: PathBuf,
    /// The key that seals tickets.
    pub ticket_key: PathBuf,
    /// The key that seals secret parameters.
    pub parameter_key: PathBuf,
    /// Terminal main-control keys.
    pub main_keys: PathBuf,
    /// Telephone lines and cables; empty where there are none.
    pub modem_pool: PathBuf,
}

/// When terminals are told to call again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contact {
    /// Seconds between two calls.
    pub period: u32,
    /// Seconds over which calls are spread.
    pub spread: u32,
    /// Seconds that a slot stays open.
    pub window: u32,
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls at once. Each takes a file descriptor.
    pub sessions: usize,
    /// Handshakes at once, of all callers.
    pub handshakes: usize,
    /// Handshakes that one address may begin in a row.
    pub burst: u32,
    /// Handshakes that one address may begin each minute after that.
    pub per_minute: u32,
    /// As how many handshakes one that fails counts.
    pub failure_cost: u32,
    /// Suites that are spoken.
    pub suites: Vec<SuiteName>,
    /// The longest handshake, in seconds.
    pub handshake_seconds: u64,
    /// The longest silence, in seconds.
    pub idle_seconds: u64,
    /// The longest call, in seconds.
    pub call_seconds: u64,
    /// How long a ticket may be used, in seconds.
    pub ticket_seconds: u32,
    /// When a terminal that could not be served may try again, in seconds.
    pub retry_seconds: u32,
    /// Memory for hot blocks, in megabytes.
    pub cache_megabytes: usize,
}

/// For how long things are kept, in days; zero is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Events, check-ins among them.
    pub events: u32,
    /// Actions that are over.
    pub actions: u32,
}

/// A suite by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SuiteName {
    /// ChaCha20-Poly1305.
    #[serde(rename = "chacha20-poly1305")]
    ChaChaPoly,
    /// AES-256-GCM.
    #[serde(rename = "aes-256-gcm")]
    AesGcm,
}

impl Config {
    /// The default configuration as a file, with every line explained.
    pub const TEMPLATE: &'static str = include_str!("../server.toml");

    /// Reads a configuration.
    ///
    /// # Errors
    /// Where the file cannot be read or says something that is not understood: with line and column.
    pub fn read(path: &Path) -> Result<Self> {
        tms_program::file::read("the configuration", path)
    }
}

impl From<SuiteName> for Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::ChaChaPoly => Self::ChaChaPoly,
            SuiteName::AesGcm => Self::AesGcm,
        }
    }
}

impl From<Suite> for SuiteName {
    fn from(suite: Suite) -> Self {
        match suite {
            Suite::ChaChaPoly => Self::ChaChaPoly,
            Suite::AesGcm => Self::AesGcm,
        }
    }
}

impl From<Retention> for tms_core::estate::Retention {
    fn from(days: Retention) -> Self {
        let said = |days: u32| Some(days).filter(|days| *days > 0);
        Self {
            events: said(days.events),
            assignments: said(days.actions),
        }
    }
}

impl From<&Contact> for ContactPolicy {
    fn from(contact: &Contact) -> Self {
        Self {
            period: contact.period,
            spread: contact.spread,
            window: contact.window,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            drain: 30,
            listen: vec![Listen {
                address: SocketAddr::from(([127, 0, 0, 1], 7400)),
                envelope: Framing::Tcp,
                gateways: Vec::new(),
            }],
            files: Files::default(),
            contact: Contact::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            log: Log::default(),
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self {
            database: "tms.db".into(),
            blobs: "blobs".into(),
            key: "keys/server.pem".into(),
            certificate: "public/server.cert".into(),
            anchors: "public/anchors.tlv".into(),
            trust: "public/trust.tlv".into(),
            ticket_key: "keys/ticket.key".into(),
            parameter_key: "keys/parameter.key".into(),
            main_keys: "keys/main.keys".into(),
            modem_pool: PathBuf::new(),
        }
    }
}

impl Default for Contact {
    fn default() -> Self {
        let ContactPolicy { period, spread, window } = ContactPolicy::default();
        Self { period, spread, window }
    }
}

impl Default for Limits {
    /// Those of the library.
    fn default() -> Self {
        let Options {
            admission,
            suites,
            handshake_timeout,
            idle_timeout,
            call_budget,
            ticket_lifetime,
            retry_after,
            ..
        } = Options::default();
        Self {
            sessions: admission.sessions,
            handshakes: admission.handshakes,
            burst: admission.burst,
            per_minute: admission.per_minute,
            failure_cost: admission.failure_cost,
            suites: suites.into_iter().map(Into::into).collect(),
            handshake_seconds: handshake_timeout.as_secs(),
            idle_seconds: idle_timeout.as_secs(),
            call_seconds: call_budget.as_secs(),
            ticket_seconds: ticket_lifetime,
            retry_seconds: retry_after,
            cache_megabytes: CachedBlobs::DEFAULT_CAPACITY >> 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_the_defaults_and_explains_every_line() {
        assert_eq!(toml::from_str::<Config>(Config::TEMPLATE).unwrap(), Config::default());
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        let mut before = "";
        for line in Config::TEMPLATE.lines() {
            let is_setting = line.contains(" = ") && !line.starts_with('#');
            assert!(!is_setting || before.starts_with('#'), "{line} is not explained");
            before = line;
        }
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let error = toml::from_str::<Config>("[contact]\nperiode = 5\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("periode") && error.contains("line 2"), "{error}");
    }
}
