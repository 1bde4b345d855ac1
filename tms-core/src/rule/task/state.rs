//! Where a task stands, and what may be done with it there.
//!
//! | state | edit | build | built | approve, deny | schedule | start | pause | resume | stop | stopped | abort | finish | supersede | delete |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | draft | yes | yes | | | | | | | | | | | | yes |
//! | building | | | yes | | | | | | yes | | | | | |
//! | awaiting_approval | | | | yes | | | | | yes | | | | yes | |
//! | denied | yes | | | | | | | | | | | | | yes |
//! | ready | | | | | yes | yes | | | yes | | | | yes | |
//! | scheduled | | | | | yes | yes | | | yes | | | | yes | |
//! | running | | | | | | | yes | | yes | | yes | yes | yes | |
//! | paused | | | | | | | yes | yes | yes | | yes | yes | yes | |
//! | stopping | | | | | | | | | | yes | yes | | | |
//! | an end | | | | | | | | | | | | | | yes |
//!
//! A paused task lets running assignments come to their end, and so may finish, or be aborted, while it is paused. One
//! that is stopping withdraws what was offered, and has stopped when nothing is open any more.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// It is being written.
    Draft,
    /// Its terminals are being put into stages, some at a time.
    Building,
    /// It waits for a second operator.
    AwaitingApproval,
    /// The second operator said no.
    Denied,
    /// It may be started.
    Ready,
    /// It starts by itself at its time.
    Scheduled,
    /// It offers its actions to terminals.
    Running,
    /// It offers nothing new; what was offered goes on.
    Paused {
        /// Why.
        reason: PauseReason,
    },
    /// It withdraws what was offered, and waits for the terminals' answers.
    Stopping,
    /// An operator stopped it.
    Stopped,
    /// A criterion stopped it.
    Aborted {
        /// Which one, by its place in the stage's list, from 0.
        criterion: u16,
    },
    /// It is done, and every terminal of it succeeded.
    Completed,
    /// It is done; some terminals did not succeed.
    CompletedWithFailures,
    /// A newer task took its place.
    Superseded,
}

/// Why a task is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// An operator wanted it.
    Operator,
    /// Too large a share failed.
    ErrorRate,
    /// Too many failed.
    ErrorCount,
    /// So many failed that the stage cannot succeed any more.
    SuccessUnreachable,
    /// Nothing moved for too long.
    Stalled,
    /// The stage is done; an operator is to look before the next.
    StageGate,
    /// Its window has closed, for good.
    WindowClosed,
    /// The server is short of storage.
    Storage,
    /// Its approval has expired.
    ApprovalExpired,
}

/// What is done with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum Operation {
    /// Change the definition.
    Edit,
    /// Put terminals into stages.
    Build,
    /// All terminals are in their stages.
    Built {
        /// A second operator must approve.
        approval: bool,
    },
    /// A second operator says yes.
    Approve,
    /// A second operator says no.
    Deny,
    /// Let it start by itself.
    Schedule,
    /// Start it.
    Start,
    /// Offer nothing new.
    Pause {
        /// Why.
        reason: PauseReason,
    },
    /// Go on.
    Resume,
    /// Withdraw what was offered, and end.
    Stop,
    /// Nothing is open any more.
    Stopped,
    /// A criterion was met.
    Abort {
        /// Which one, by its place in the stage's list, from 0.
        criterion: u16,
    },
    /// The last stage is done.
    Finish {
        /// Some terminals did not succeed.
        failures: bool,
    },
    /// A newer task takes its place.
    Supersede,
    /// Remove it.
    Delete,
}

/// A task in this state does not allow this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a task that is {} cannot be {}", .state.name(), .operation.participle())]
pub struct NotAllowed {
    /// Where the task stands.
    pub state: TaskState,
    /// What was to be done.
    pub operation: Operation,
}

impl TaskState {
    /// Where the task stands after `operation`. `None` where it is deleted.
    ///
    /// # Errors
    /// [`NotAllowed`]: the table of this module.
    pub const fn after(self, operation: Operation) -> Result<Option<Self>, NotAllowed> {
        use Operation as O;
        let next = match (self, operation) {
            (Self::Draft | Self::Denied, O::Edit) => Self::Draft,
            (Self::Draft, O::Build) => Self::Building,
            (Self::Building, O::Built { approval: true }) => Self::AwaitingApproval,
            (Self::Building, O::Built { approval: false }) | (Self::AwaitingApproval, O::Approve) => Self::Ready,
            (Self::AwaitingApproval, O::Deny) => Self::Denied,
            (Self::Ready | Self::Scheduled, O::Schedule) => Self::Scheduled,
            (Self::Ready | Self::Scheduled, O::Start) => Self::Running,
            // A reason replaces another: an operator who pauses a stalled task wants it to stay so.
            (Self::Running | Self::Paused { .. }, O::Pause { reason }) => Self::Paused { reason },
            (Self::Paused { .. }, O::Resume) => Self::Running,
            // Nothing was offered yet, so that there is nothing to withdraw.
            (Self::Building | Self::AwaitingApproval | Self::Ready | Self::Scheduled, O::Stop) => Self::Stopped,
            (Self::Running | Self::Paused { .. }, O::Stop) => Self::Stopping,
            (Self::Stopping, O::Stopped) => Self::Stopped,
            (Self::Running | Self::Paused { .. } | Self::Stopping, O::Abort { criterion }) => {
                Self::Aborted { criterion }
            }
            (Self::Running | Self::Paused { .. }, O::Finish { failures: false }) => Self::Completed,
            (Self::Running | Self::Paused { .. }, O::Finish { failures: true }) => Self::CompletedWithFailures,
            (
                Self::AwaitingApproval | Self::Ready | Self::Scheduled | Self::Running | Self::Paused { .. },
                O::Supersede,
            ) => Self::Superseded,
            (state, O::Delete) if state.is_deletable() => return Ok(None),
            (state, operation) => return Err(NotAllowed { state, operation }),
        };
        Ok(Some(next))
    }

    /// Whether it allows `operation`.
    #[must_use]
    pub const fn allows(self, operation: Operation) -> bool {
        self.after(operation).is_ok()
    }

    /// Whether it is at an end.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Aborted { .. } | Self::Completed | Self::CompletedWithFailures | Self::Superseded
        )
    }

    /// Whether terminals may be offered something new.
    #[must_use]
    pub const fn offers(self) -> bool {
        matches!(self, Self::Running)
    }

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Building => "building",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Denied => "denied",
            Self::Ready => "ready",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Aborted { .. } => "aborted",
            Self::Completed => "completed",
            Self::CompletedWithFailures => "completed_with_failures",
            Self::Superseded => "superseded",
        }
    }

    const fn is_deletable(self) -> bool {
        matches!(self, Self::Draft | Self::Denied) || self.is_final()
    }
}

impl Operation {
    const fn participle(self) -> &'static str {
        match self {
            Self::Edit => "edited",
            Self::Build => "built",
            Self::Built { .. } => "completed in building",
            Self::Approve => "approved",
            Self::Deny => "denied",
            Self::Schedule => "scheduled",
            Self::Start => "started",
            Self::Pause { .. } => "paused",
            Self::Resume => "resumed",
            Self::Stop | Self::Stopped => "stopped",
            Self::Abort { .. } => "aborted",
            Self::Finish { .. } => "finished",
            Self::Supersede => "superseded",
            Self::Delete => "deleted",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, VecDeque};

    const REASON: PauseReason = PauseReason::Operator;
    const OPERATIONS: [(&str, &[Operation]); 14] = [
        ("edit", &[Operation::Edit]),
        ("build", &[Operation::Build]),
        (
            "built",
            &[
                Operation::Built { approval: true },
                Operation::Built { approval: false },
            ],
        ),
        ("approve, deny", &[Operation::Approve, Operation::Deny]),
        ("schedule", &[Operation::Schedule]),
        ("start", &[Operation::Start]),
        ("pause", &[Operation::Pause { reason: REASON }]),
        ("resume", &[Operation::Resume]),
        ("stop", &[Operation::Stop]),
        ("stopped", &[Operation::Stopped]),
        ("abort", &[Operation::Abort { criterion: 0 }]),
        (
            "finish",
            &[
                Operation::Finish { failures: false },
                Operation::Finish { failures: true },
            ],
        ),
        ("supersede", &[Operation::Supersede]),
        ("delete", &[Operation::Delete]),
    ];
    const STATES: [TaskState; 14] = [
        TaskState::Draft,
        TaskState::Building,
        TaskState::AwaitingApproval,
        TaskState::Denied,
        TaskState::Ready,
        TaskState::Scheduled,
        TaskState::Running,
        TaskState::Paused { reason: REASON },
        TaskState::Stopping,
        TaskState::Stopped,
        TaskState::Aborted { criterion: 0 },
        TaskState::Completed,
        TaskState::CompletedWithFailures,
        TaskState::Superseded,
    ];

    /// The table in the documentation of this module is what the code does, cell by cell.
    #[test]
    fn the_table_is_the_code() {
        let rows: Vec<Vec<String>> = include_str!("state.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! |"))
            .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
            .collect();
        for state in STATES {
            let name = if state.is_final() { "an end" } else { state.name() };
            let row = rows.iter().find(|row| row[0] == name).unwrap();
            for (column, (heading, operations)) in OPERATIONS.iter().enumerate() {
                assert_eq!(rows[0][column + 1], *heading);
                for operation in *operations {
                    let written = row[column + 1] == "yes";
                    assert_eq!(state.allows(*operation), written, "{state} {operation:?}");
                }
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_every_one_can_end() {
        let mut seen = BTreeSet::from([TaskState::Draft.name()]);
        let mut queue = VecDeque::from([TaskState::Draft]);
        while let Some(state) = queue.pop_front() {
            let next: Vec<TaskState> = OPERATIONS
                .iter()
                .flat_map(|(_, operations)| operations.iter())
                .filter_map(|operation| state.after(*operation).ok().flatten())
                .collect();
            assert_eq!(next.is_empty(), state.is_final(), "{state}");
            queue.extend(next.into_iter().filter(|state| seen.insert(state.name())));
        }
        assert_eq!(seen.len(), STATES.len());
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let refused = TaskState::Draft.after(Operation::Start).unwrap_err();
        assert_eq!(refused.to_string(), "a task that is draft cannot be started");
    }

    #[test]
    fn names_are_those_of_the_serialised_form() {
        for state in STATES {
            assert_eq!(serde_json::to_value(state).unwrap()["state"], state.name());
        }
    }
}
