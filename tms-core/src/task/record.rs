//! The records of tasks.

use crate::rule::task::assignment::State;
use crate::rule::task::gate::{Gate, Quiet};
use crate::rule::task::rate::{Bucket, TopologyKey};
use crate::rule::task::retry::Breaker;
use crate::rule::task::{Counts, Definition, OnFailure, Rates, Slot, TaskState, combine};
use crate::store::{ActionId, BranchPath, Entity, Kind, TerminalId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tms_proto::digest::Digest;

/// In how many parts the counts of a stage are kept: terminals that report at the same time seldom write the same one.
const CELLS: u8 = 16;

/// A task, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id: grows, and is never used again.
    pub id: u64,
    /// What an operator wrote.
    pub definition: Definition,
    /// The branch that it is for: no terminal outside of it and those below it is in the task.
    pub branch: BranchPath,
    /// Where it stands.
    pub state: TaskState,
    /// Who wrote it.
    pub author: String,
    /// Who approved it, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When it was written, in seconds since 1970 UTC.
    pub created: u64,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Decides who comes first.
    pub salt: u64,
    /// The stage that it has come to, from 0.
    pub stage: u16,
    /// Its stages, in their order.
    pub stages: Vec<StageRun>,
    /// What is still to be withdrawn from terminals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<Withdrawal>,
    /// Of how many tasks it has taken the place, of those that its definition names.
    #[serde(default)]
    pub replaced: u8,
    /// The task that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<u64>,
    /// Up to which event terminals that came later were taken in.
    #[serde(default)]
    pub joined: u64,
}

/// Where a stage stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StageRun {
    /// Its terminals have their assignments up to this one; all of them, where `assigned` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<TerminalId>,
    /// All its terminals have their assignments.
    pub assigned: bool,
    /// How long nothing has moved.
    pub quiet: Quiet,
    /// When its counts moved last, as the runner knows.
    pub moved: u64,
    /// Since when so many have succeeded as must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded_at: Option<u64>,
    /// The gates that an operator has waived.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<Gate>,
    /// The gate that has paused the task here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<Gate>,
    /// It takes another operator than the author to go on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
}

/// That a task takes back what it has offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Closes all at once, and asks no terminal.
    pub force: bool,
}

/// A terminal of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The task.
    pub task: u64,
    /// The terminal.
    pub terminal: TerminalId,
    /// Its branch, when the task was built.
    pub branch: BranchPath,
    /// Its stage, from 0.
    pub stage: u16,
    /// What happens to the rest when one of its actions fails.
    pub on_failure: OnFailure,
    /// What the terminal stands at in the task.
    pub state: State,
    /// Its actions, in the task's order; none before its stage has begun.
    #[serde(default)]
    pub steps: Vec<MemberStep>,
    /// When it was offered first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<u64>,
    /// When it moved last, in seconds since 1970 UTC.
    pub moved: u64,
    /// When somebody must look at it again: a time-out, a retry, the end of a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// A failed attempt is made again when it is due: until then it is pending.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    /// A release that must not be skipped runs: it goes on from there when it is due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub floor: bool,
    /// Why it could not be given its actions, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// In which part of its stage's counts it is counted.
    pub cell: u8,
    /// What it shares with others, where the task limits how many of those may be under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
}

/// What a terminal shares with others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What.
    pub key: TopologyKey,
    /// Which one: a site's id, a merchant's number.
    pub value: String,
    /// How many there were that share it, this one among them, when its stage began.
    pub members: u64,
}

/// One action of a task on one terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStep {
    /// The action on the wire; none where it needs none: it is not for the terminal, or the terminal has it already.
    pub action: Option<ActionId>,
    /// What it stands at.
    pub state: State,
}

/// A part of the counts of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The task.
    pub task: u64,
    /// The stage, from 0.
    pub stage: u16,
    /// Which part, from 0.
    pub cell: u8,
    /// The counts.
    pub counts: Counts,
    /// When they moved last, in seconds since 1970 UTC.
    pub moved: u64,
}

/// How fast a task has gone, for a task that limits it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// The task.
    pub task: u64,
    /// Offers that it has made.
    pub notified: u64,
    /// Its bucket of offers.
    pub offers: Bucket,
    /// Its bucket of bytes.
    pub bytes: Bucket,
    /// Terminals that are being offered it right now, each until when that is believed.
    pub reserved: BTreeMap<TerminalId, u64>,
}

/// Terminals that share something, and have something of a task under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// What they share.
    pub key: TopologyKey,
    /// Which one: a site's id, a merchant's number.
    pub value: String,
    /// The terminals that are under way, each with the task.
    pub busy: BTreeSet<(TerminalId, u64)>,
}

/// How often a release has failed on a terminal, in whatever task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The terminal.
    pub terminal: TerminalId,
    /// The package's manifest.
    pub manifest: Digest,
    /// Its branch.
    pub branch: BranchPath,
    /// When it failed, and until when it is kept from the terminal.
    pub breaker: Breaker,
}

impl Task {
    /// Whether the [`Runner`](super::Runner) has to look at it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        let moves = matches!(
            self.state,
            TaskState::Building
                | TaskState::Scheduled
                | TaskState::Running
                | TaskState::Paused { .. }
                | TaskState::Stopping
        );
        moves || self.withdrawal.is_some()
    }

    /// In how many parts the counts of its stages are kept. Of a task that goes slowly each offer needs their sum.
    pub(super) fn cells(&self) -> u8 {
        if self.definition.rates == Rates::default() {
            CELLS
        } else {
            1
        }
    }

    /// In which part of the counts a terminal is counted: its id is random.
    pub(super) fn cell(&self, terminal: TerminalId) -> u8 {
        u8::try_from(terminal.0 % u64::from(self.cells())).unwrap_or_default()
    }

    /// The id as it is written.
    #[must_use]
    pub fn key(id: u64) -> String {
        format!("{id:016x}")
    }
}

impl Entity for Task {
    const KIND: Kind = Kind::named("task");

    fn id(&self) -> String {
        Self::key(self.id)
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let mut marks = vec![
            ("branch", self.branch.to_string()),
            ("state", self.state.name().to_owned()),
        ];
        if self.is_active() {
            marks.push(("active", String::from("y")));
        }
        marks
    }
}

impl Member {
    /// The id of the member of a task that is this terminal.
    #[must_use]
    pub fn key(task: u64, terminal: TerminalId) -> String {
        format!("{}/{terminal}", Task::key(task))
    }

    /// How the marks of the members of a stage in a slot begin; of all stages or slots, where none is given.
    #[must_use]
    pub fn mark(task: u64, stage: Option<u16>, slot: Option<Slot>) -> String {
        let mut mark = format!("{}/", Task::key(task));
        if let Some(stage) = stage {
            mark.push_str(&format!("{stage:05}/"));
            if let Some(slot) = slot {
                mark.push_str(slot.name());
                mark.push('/');
            }
        }
        mark
    }
}

impl MemberStep {
    /// The terminal has this action for it.
    pub(super) const fn given(action: ActionId) -> Self {
        Self {
            action: Some(action),
            state: State::Pending,
        }
    }
}

impl Member {
    /// What its actions come to.
    pub(super) fn whole(&self) -> Option<State> {
        let states: Vec<State> = self.steps.iter().map(|step| step.state).collect();
        combine(&states, self.on_failure)
    }
}

impl Entity for Member {
    const KIND: Kind = Kind::named("task_member");

    fn id(&self) -> String {
        Self::key(self.task, self.terminal)
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let place = Self::mark(self.task, Some(self.stage), Some(Slot::of(self.state)));
        let mut marks = vec![("place", place), ("terminal", self.terminal.to_string())];
        if let Some(due) = self.due {
            marks.push(("due", format!("{due:020}")));
        }
        marks
    }
}

impl Cell {
    /// The id of a part of a stage's counts.
    #[must_use]
    pub fn key(task: u64, stage: u16, cell: u8) -> String {
        format!("{}/{stage:05}/{cell:02}", Task::key(task))
    }
}

impl Entity for Cell {
    const KIND: Kind = Kind::named("task_cell");

    fn id(&self) -> String {
        Self::key(self.task, self.stage, self.cell)
    }
}

impl Entity for Pace {
    const KIND: Kind = Kind::named("task_pace");

    fn id(&self) -> String {
        Task::key(self.task)
    }
}

impl Sharing {
    /// The id of what these share.
    #[must_use]
    pub fn key(key: TopologyKey, value: &str) -> String {
        let key = match key {
            TopologyKey::Merchant => "merchant",
            TopologyKey::Site => "site",
        };
        format!("{key}/{value}")
    }
}

impl Entity for Sharing {
    const KIND: Kind = Kind::named("task_sharing");

    fn id(&self) -> String {
        Self::key(self.key, &self.value)
    }
}

impl Failures {
    /// The id of the failures of a release on a terminal.
    #[must_use]
    pub fn key(terminal: TerminalId, manifest: &Digest) -> String {
        format!("{terminal}/{manifest}")
    }
}

impl Entity for Failures {
    const KIND: Kind = Kind::named("task_failures");

    fn id(&self) -> String {
        Self::key(self.terminal, &self.manifest)
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        match self.breaker.open_until {
            Some(_) => vec![("open", self.branch.to_string())],
            None => Vec::new(),
        }
    }
}
