//! Where an installation stands, and what may be done with it there. The table is in `docs/estate.md`.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Where an installation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallState {
    /// All that must be known is known, and nothing contradicts.
    Received,
    /// Something that must be known is missing.
    Incomplete,
    /// The business system has said two things of one.
    Contradictory,
    /// A device is enrolled for it, and its keys are loaded.
    Initialised,
    /// An operator of the branch has confirmed it.
    ConfirmedByBranch,
    /// Another operator, of head office, has confirmed it too.
    Confirmed,
    /// The terminal has registered at its place.
    Installed,
    /// It is not to be.
    Withdrawn,
}

/// What the business system's messages come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// All that must be known is known, once.
    Complete,
    /// Something is missing.
    Incomplete,
    /// Something was said in two ways.
    Contradictory,
}

/// What is done with an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstallOperation {
    /// A message of the business system comes in.
    Receive(Finding),
    /// An operator says what is right.
    Resolve(Finding),
    /// A device is put to it.
    Initialise,
    /// The branch confirms it.
    ConfirmByBranch,
    /// Head office confirms it.
    ConfirmByHeadOffice,
    /// The terminal registers.
    Register,
    /// It is called off.
    Withdraw,
}

/// An installation in this state does not allow this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an installation that is {state} cannot be {}", .operation.participle())]
pub struct NotAllowed {
    /// Where it stands.
    pub state: InstallState,
    /// What was to be done.
    pub operation: InstallOperation,
}

impl InstallState {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Incomplete,
        Self::Contradictory,
        Self::Initialised,
        Self::ConfirmedByBranch,
        Self::Confirmed,
        Self::Installed,
        Self::Withdrawn,
    ];

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Incomplete => "incomplete",
            Self::Contradictory => "contradictory",
            Self::Initialised => "initialised",
            Self::ConfirmedByBranch => "confirmed_by_branch",
            Self::Confirmed => "confirmed",
            Self::Installed => "installed",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Where it stands after `operation`.
    ///
    /// # Errors
    /// [`NotAllowed`] where that is not allowed here.
    pub const fn after(self, operation: InstallOperation) -> Result<Self, NotAllowed> {
        use InstallOperation as Op;
        Ok(match (self, operation) {
            (Self::Received | Self::Incomplete | Self::Contradictory, Op::Receive(finding))
            | (Self::Incomplete | Self::Contradictory, Op::Resolve(finding)) => Self::of(finding),
            // What was confirmed was something else: it is to be looked at again.
            (Self::Initialised | Self::ConfirmedByBranch | Self::Confirmed, Op::Receive(Finding::Contradictory)) => {
                Self::Contradictory
            }
            // What comes too late is kept beside what is done.
            (_, Op::Receive(_)) => self,
            (Self::Received, Op::Initialise) => Self::Initialised,
            (Self::Initialised, Op::ConfirmByBranch) => Self::ConfirmedByBranch,
            (Self::ConfirmedByBranch, Op::ConfirmByHeadOffice) => Self::Confirmed,
            (Self::Confirmed | Self::Installed, Op::Register) => Self::Installed,
            (Self::Installed | Self::Withdrawn, Op::Withdraw) => return Err(NotAllowed { state: self, operation }),
            (_, Op::Withdraw) => Self::Withdrawn,
            _ => return Err(NotAllowed { state: self, operation }),
        })
    }

    /// Whether `operation` is allowed here.
    #[must_use]
    pub const fn allows(self, operation: InstallOperation) -> bool {
        self.after(operation).is_ok()
    }

    const fn of(finding: Finding) -> Self {
        match finding {
            Finding::Complete => Self::Received,
            Finding::Incomplete => Self::Incomplete,
            Finding::Contradictory => Self::Contradictory,
        }
    }
}

impl fmt::Display for InstallState {
    /// In words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfirmedByBranch => "confirmed by its branch only",
            other => other.name(),
        })
    }
}

impl InstallOperation {
    const fn participle(self) -> &'static str {
        match self {
            Self::Receive(_) => "received",
            Self::Resolve(_) => "resolved",
            Self::Initialise => "initialised",
            Self::ConfirmByBranch => "confirmed by its branch",
            Self::ConfirmByHeadOffice => "confirmed by head office",
            Self::Register => "registered",
            Self::Withdraw => "withdrawn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const OPERATIONS: [(&str, &[InstallOperation]); 7] = [
        (
            "message",
            &[
                InstallOperation::Receive(Finding::Complete),
                InstallOperation::Receive(Finding::Incomplete),
                InstallOperation::Receive(Finding::Contradictory),
            ],
        ),
        (
            "resolve",
            &[
                InstallOperation::Resolve(Finding::Complete),
                InstallOperation::Resolve(Finding::Incomplete),
                InstallOperation::Resolve(Finding::Contradictory),
            ],
        ),
        ("initialise", &[InstallOperation::Initialise]),
        ("confirm: branch", &[InstallOperation::ConfirmByBranch]),
        ("confirm: head office", &[InstallOperation::ConfirmByHeadOffice]),
        ("register", &[InstallOperation::Register]),
        ("withdraw", &[InstallOperation::Withdraw]),
    ];

    /// The table in the document is what the code does, cell by cell.
    #[test]
    fn the_table_is_the_code() {
        let rows: Vec<Vec<String>> = include_str!("../../../../docs/estate.md")
            .lines()
            .skip_while(|line| !line.starts_with("| installation |"))
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells = line.trim_matches('|').split('|');
                cells.map(|cell| cell.trim().to_owned()).collect()
            })
            .collect();
        for state in InstallState::ALL {
            let row = rows.iter().find(|row| row[0] == state.name()).unwrap();
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
    fn every_state_is_reached_and_none_is_skipped() {
        let mut seen = BTreeSet::from([InstallState::Incomplete]);
        let mut queue = vec![InstallState::Incomplete];
        while let Some(state) = queue.pop() {
            let all = OPERATIONS.iter().flat_map(|(_, operations)| *operations);
            for next in all.filter_map(|operation| state.after(*operation).ok()) {
                if seen.insert(next) {
                    queue.push(next);
                }
            }
        }
        assert_eq!(seen.len(), InstallState::ALL.len());
        for state in InstallState::ALL {
            assert_eq!(
                state.allows(InstallOperation::Register),
                matches!(state, InstallState::Confirmed | InstallState::Installed),
                "{state}"
            );
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        let refused = InstallState::Received
            .after(InstallOperation::ConfirmByBranch)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "an installation that is received cannot be confirmed by its branch"
        );
    }
}
