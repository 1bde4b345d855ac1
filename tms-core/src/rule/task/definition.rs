//! What an operator writes to have something done on many terminals.

mod check;

use super::action::{Action, OnFailure};
use super::filter::Filter;
use super::rate::Rates;
use super::retry::{BreakerPolicy, Retries};
use super::stage::Stage;
use super::window::Windows;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most characters of a name.
pub const MAX_NAME: usize = 80;
/// The most actions of a task.
pub const MAX_ACTIONS: usize = 16;
/// The most stages of a task.
pub const MAX_STAGES: usize = 100;
/// The most criteria of a stage, and the most entries of any other list but a filter's.
pub const MAX_LIST: usize = 50;
/// The most entries of each list of a filter. Larger sets of terminals are a branch, or a task each.
pub const MAX_FILTER: usize = 10_000;

/// A task as it is written. What is left out is as an operator would expect it: [`Definition::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// What operators call it: 1 to 80 characters.
    pub name: String,
    /// What to do, in order: 1 to 16 actions.
    pub actions: Vec<Action>,
    /// What happens to the rest on a terminal when one of them fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Restart the terminal once, when all is done, rather than after each action.
    #[serde(default)]
    pub restart_once: bool,
    /// For which terminals.
    #[serde(default)]
    pub filter: Filter,
    /// Whether terminals may join later.
    #[serde(default)]
    pub membership: Membership,
    /// In which stages: 1 to 100. None is one stage with all.
    #[serde(default = "all_at_once")]
    pub stages: Vec<Stage>,
    /// How fast.
    #[serde(default)]
    pub rates: Rates,
    /// At which hours.
    #[serde(default)]
    pub windows: Windows,
    /// What is tried again.
    #[serde(default)]
    pub retries: Retries,
    /// When a terminal is left in peace.
    #[serde(default)]
    pub breaker: BreakerPolicy,
    /// Seconds after which silence is a failure.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Seconds that a confirmed new version must run before it counts as a success. Zero: it counts at once.
    #[serde(default)]
    pub confirm_after: u32,
    /// Which task wins where two are for one component: the greater; of equals the newer.
    #[serde(default = "middle")]
    pub weight: u8,
    /// Which action a terminal begins with: the greater.
    #[serde(default = "middle")]
    pub priority: u8,
    /// The tasks whose place it takes when it begins: they are superseded, and what they have given out is taken back. At
    /// most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<u64>,
    /// A second operator must approve it.
    #[serde(default)]
    pub approval: bool,
    /// When it begins and ends.
    #[serde(default)]
    pub schedule: Schedule,
}

/// Whether terminals may join a task that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// Those that meet the filter when the task is built, and no others.
    #[default]
    Snapshot,
    /// Those that come to meet it later join the last stage.
    Continuous,
}

/// Seconds after which silence is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// From the offer to the last word of the terminal, whatever it was, anew with each word. At least 60.
    pub silence: u32,
    /// From the offer to the end, however much is said. At least `silence`.
    pub total: u32,
}

/// When a task begins and ends, in seconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// It does not begin before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// What has not ended by then has timed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
}

/// What is wrong with a definition, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {what}")]
pub struct Invalid {
    /// Where: the field, with places in lists from 0, as `stages[2].gates.success_percent`.
    pub place: String,
    /// What it must be.
    pub what: &'static str,
}

impl Default for Timeouts {
    /// Three days of silence, thirty days in all.
    fn default() -> Self {
        Self {
            silence: 259_200,
            total: 2_592_000,
        }
    }
}

impl Timeouts {
    /// When an assignment times out that was offered and last heard of at these times, in seconds since 1970 UTC.
    #[must_use]
    pub fn deadline(&self, offered: u64, heard: u64) -> u64 {
        let silence = heard.max(offered).saturating_add(u64::from(self.silence));
        silence.min(offered.saturating_add(u64::from(self.total)))
    }
}

impl Definition {
    /// One task for all terminals: one stage, no limits but the usual gates.
    #[must_use]
    pub fn new(name: &str, actions: Vec<Action>) -> Self {
        Self {
            name: name.to_owned(),
            actions,
            on_failure: OnFailure::default(),
            restart_once: false,
            filter: Filter::default(),
            membership: Membership::default(),
            stages: all_at_once(),
            rates: Rates::default(),
            windows: Windows::default(),
            retries: Retries::default(),
            breaker: BreakerPolicy::default(),
            timeouts: Timeouts::default(),
            confirm_after: 0,
            weight: middle(),
            priority: middle(),
            replaces: Vec::new(),
            approval: false,
            schedule: Schedule::default(),
        }
    }

    /// The same, one terminal first and all others when that has succeeded.
    #[must_use]
    pub fn first_alone(self) -> Self {
        Self {
            stages: Stage::first_alone(),
            ..self
        }
    }
}

fn all_at_once() -> Vec<Stage> {
    Stage::first_alone().into_iter().skip(1).collect()
}

const fn middle() -> u8 {
    100
}
