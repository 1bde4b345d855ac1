//! Release states of packages: what may be queued, and what an operator may do with the rest.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a package stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Taken in and verified, in an estate where releases need approval.
    Draft,
    /// Another operator than the one who took it in has approved it.
    Approved,
    /// It may be queued and planned.
    #[default]
    Released,
    /// It is offered to nobody any more.
    Withdrawn,
}

/// What an operator does with a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseOperation {
    /// Says, as a second operator, that it is what it should be.
    Approve,
    /// Lets it be queued.
    Release,
    /// Stops it from being offered.
    Withdraw,
    /// Takes it back from where it was withdrawn to.
    Reopen,
}

impl ReleaseState {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Approved, Self::Released, Self::Withdrawn];

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Approved => "approved",
            Self::Released => "released",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// What it is after an operation; none where it does not allow that. In an estate where releases need no approval a draft
    /// is released at once.
    #[must_use]
    pub const fn after(self, operation: ReleaseOperation, approval: bool) -> Option<Self> {
        use ReleaseOperation as Do;
        match (self, operation) {
            (Self::Draft, Do::Approve) => Some(Self::Approved),
            (Self::Approved, Do::Release) => Some(Self::Released),
            (Self::Draft, Do::Release) if !approval => Some(Self::Released),
            (Self::Draft | Self::Approved | Self::Released, Do::Withdraw) => Some(Self::Withdrawn),
            (Self::Withdrawn, Do::Reopen) => Some(Self::Draft),
            _ => None,
        }
    }
}

impl ReleaseOperation {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Approve, Self::Release, Self::Withdraw, Self::Reopen];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Release => "release",
            Self::Withdraw => "withdraw",
            Self::Reopen => "reopen",
        }
    }
}

impl fmt::Display for ReleaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ReleaseOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_is_stored() {
        for state in ReleaseState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        for operation in ReleaseOperation::ALL {
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.name());
        }
    }

    /// The table in the documentation is the one that holds.
    #[test]
    fn the_documented_table_is_true() {
        let document = include_str!("../../../docs/estate.md");
        let row = |state: &str| {
            let begin = format!("| {state} |");
            let mut rows = document.lines().filter(|line| line.starts_with(&begin));
            let row = rows.find(|row| row.matches('|').count() == 6).unwrap();
            let cells: Vec<_> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
            cells[2..6].to_vec()
        };
        assert_eq!(
            row("release state"),
            ReleaseOperation::ALL.map(|operation| operation.name().to_owned())
        );
        for state in ReleaseState::ALL {
            let cells = ReleaseOperation::ALL.map(|operation| {
                match (state.after(operation, true), state.after(operation, false)) {
                    (None, None) => "—".to_owned(),
                    (Some(always), Some(_)) => always.to_string(),
                    (_, Some(unless)) => format!("{unless}, where no approval is needed"),
                    (Some(_), None) => panic!("{state} {operation}"),
                }
            });
            assert_eq!(row(state.name()), cells, "{state}");
        }
    }
}
