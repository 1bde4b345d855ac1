//! Rates: how many terminals may have their turn now.
//!
//! A terminal that is not admitted hears *busy, come back then*. That is no attempt, and no failure.

use serde::{Deserialize, Serialize};

/// How fast a task goes. What is not said is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// The most assignments under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// The most offers in a minute, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u16>,
    /// Begins slower than `per_minute`, and grows to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// The most bytes in a second, on the average of a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How many terminals of one shop, or one line, may be under way at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub max_unavailable: Vec<MaxUnavailable>,
    /// One terminal first: nobody else, until one has succeeded.
    pub first_alone: bool,
}

/// A rate that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// Offers in a minute at the beginning, 1 to 1000.
    pub base: u16,
    /// What it is multiplied by at each step, in tenths: 11 to 50.
    pub factor_tenths: u8,
    /// What makes a step.
    pub on: RampStep,
    /// How many of those make a step: at least 1.
    pub every: u32,
}

/// What makes a step of a [`Ramp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RampStep {
    /// Offers.
    Notified,
    /// Successes.
    Succeeded,
}

/// How many terminals that share something may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxUnavailable {
    /// What they share.
    pub key: TopologyKey,
    /// How many: one is always let through, even of a shop that has only one.
    pub limit: UnavailableLimit,
}

/// What terminals share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyKey {
    /// Their merchant.
    Merchant,
    /// Their site.
    Site,
    /// The lines that they call in on.
    Lines,
}

/// How many of those that share something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnavailableLimit {
    /// So many: at least 1.
    Count(u32),
    /// So many per cent, 1 to 100, rounded down.
    Percent(u8),
}
