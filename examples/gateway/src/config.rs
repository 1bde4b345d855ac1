//! The configuration of a gateway: `gateway.toml`.

use anyhow::Result;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tms_core::transport::Framing;
use tms_program::log::Log;

/// What `gateway.toml` says. What it does not say is the default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The head office: `host:port`, one or several.
    pub upstream: Vec<String>,
    /// Where Prometheus finds the counters; where it is empty, they are not shown.
    #[serde(default)]
    pub metrics: String,
    /// Seconds that a stop waits for the calls that run.
    #[serde(default = "drain")]
    pub drain: u64,
    /// Where terminals call in over TCP.
    #[serde(default)]
    pub listen: Vec<Listen>,
    /// The file of its telephone lines and cables; empty where it has none.
    #[serde(default)]
    pub modem_pool: PathBuf,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// What is logged.
    #[serde(default)]
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
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls at once.
    pub calls: usize,
    /// The longest wait for the head office to answer, in seconds.
    pub connect_seconds: u64,
    /// The longest silence of both ends, in seconds.
    pub idle_seconds: u64,
    /// The longest call, in seconds.
    pub call_seconds: u64,
    /// When a terminal may try again that called while the head office did not answer, in seconds.
    pub retry_seconds: u32,
}

impl Config {
    /// The default configuration as a file, with every line explained.
    pub const TEMPLATE: &'static str = include_str!("../gateway.toml");

    /// Calls this head office, takes no calls of its own, and has the defaults.
    #[must_use]
    pub fn to(upstream: Vec<String>) -> Self {
        Self {
            upstream,
            metrics: String::new(),
            drain: drain(),
            listen: Vec::new(),
            modem_pool: PathBuf::new(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// Where the file cannot be read or says something that is not understood: with line and column.
    pub fn read(path: &Path) -> Result<Self> {
        tms_program::file::read("the configuration", path)
    }
}

const fn drain() -> u64 {
    30
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 1024,
            connect_seconds: 10,
            idle_seconds: 180,
            call_seconds: 14_400,
            retry_seconds: 120,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_the_defaults() {
        let mut config = Config::to(vec!["127.0.0.1:7400".into()]);
        config.listen.push(Listen {
            address: SocketAddr::from(([127, 0, 0, 1], 7500)),
            envelope: Framing::Tcp,
        });
        assert_eq!(toml::from_str::<Config>(Config::TEMPLATE).unwrap(), config);
    }

    #[test]
    fn without_a_head_office_there_is_no_gateway() {
        let error = toml::from_str::<Config>("drain = 3").unwrap_err().to_string();
        assert!(error.contains("upstream"), "{error}");
    }
}
