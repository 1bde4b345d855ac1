//! What a terminal's words mean for an assignment.
//!
//! | stage on the wire | report | state of the assignment |
//! |---|---|---|
//! | accepted | [`Report::Accepted`] | offered |
//! | downloading | [`Report::Downloading`] | downloading |
//! | downloaded, verified | [`Report::Downloaded`] | downloaded |
//! | waiting | [`Report::Waiting`] | waiting, for what the code says |
//! | installed | [`Report::Installed`] | installing: the new version lies beside the one that runs |
//! | activated | [`Report::Activated`] | restarting: the next start is the new version's |
//! | running-confirmed | [`Report::Confirmed`] | succeeded, or trial where the task wants to see it run for some time |
//! | rolled-back | [`Report::RolledBack`] | failed, rolled_back |
//! | rejected | [`Report::Failed`] | rejected, or failed with the class of the code |
//! | expired | [`Report::Expired`] | timed_out |
//! | superseded | [`Report::Superseded`] | superseded |
//! | cancelled | [`Report::Cancelled`] | cancelled |
//!
//! A terminal that confirms other content than the package's is not believed: that is a failure with the code *changed*,
//! and whoever compares the digests says so instead of asking [`Report::of`].

use super::assignment::Wait;
use serde::{Deserialize, Serialize};
use tms_proto::code::{ResultCode, Stage};

/// What a terminal says of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// It has it, and has not begun.
    Accepted,
    /// Content is coming in.
    Downloading,
    /// All content is there.
    Downloaded,
    /// It waits.
    Waiting {
        /// For what.
        why: Wait,
    },
    /// The new version lies beside the one that runs.
    Installed,
    /// The next start is the new version's.
    Activated,
    /// The new version runs and said so.
    Confirmed,
    /// The old version runs again.
    RolledBack,
    /// It ended otherwise than well.
    Failed {
        /// How.
        code: ResultCode,
    },
    /// Its time was over before it was begun.
    Expired,
    /// A newer action took its place on the terminal.
    Superseded,
    /// The terminal dropped it because it was told to.
    Cancelled,
}

impl Report {
    /// What a result with this stage and code means. `None` for a stage of a later version, which means nothing here.
    #[must_use]
    pub const fn of(stage: Stage, code: ResultCode) -> Option<Self> {
        Some(match stage {
            Stage::Accepted => Self::Accepted,
            Stage::Downloading => Self::Downloading,
            Stage::Downloaded | Stage::Verified => Self::Downloaded,
            Stage::Waiting => Self::Waiting { why: Wait::of(code) },
            Stage::Installed => Self::Installed,
            Stage::Activated => Self::Activated,
            Stage::RunningConfirmed => Self::Confirmed,
            Stage::RolledBack => Self::RolledBack,
            Stage::Rejected => Self::Failed { code },
            Stage::Expired => Self::Expired,
            Stage::Superseded => Self::Superseded,
            Stage::Cancelled => Self::Cancelled,
            Stage::Other(_) => return None,
        })
    }

    /// What it means that a terminal acknowledges a plan but not this action. What will not change is a failure; what may
    /// is waited for, and the action stays in the plan.
    #[must_use]
    pub const fn of_refusal(code: ResultCode) -> Self {
        if code.is_permanent() {
            Self::Failed { code }
        } else {
            Self::Waiting { why: Wait::of(code) }
        }
    }

    /// What a terminal answered to a cancel action: taken or not. `None` where that is not an answer yet.
    ///
    /// A terminal that has no such action has nothing that could run: that is as good as a cancel.
    #[must_use]
    pub const fn cancel_taken(stage: Stage, code: ResultCode) -> Option<bool> {
        match stage {
            Stage::RunningConfirmed => Some(true),
            Stage::Rejected => Some(matches!(code, ResultCode::UnknownReference)),
            Stage::Expired | Stage::Superseded | Stage::Cancelled => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_of_this_version_means_something() {
        for stage in Stage::ALL {
            assert!(Report::of(*stage, ResultCode::Success).is_some(), "{stage}");
        }
        assert_eq!(Report::of(Stage::Other(99), ResultCode::Success), None);
    }

    #[test]
    fn a_refusal_for_now_is_not_a_failure() {
        assert_eq!(
            Report::of_refusal(ResultCode::Unsettled),
            Report::Waiting { why: Wait::BatchOpen }
        );
        let code = ResultCode::ModelMismatch;
        assert_eq!(Report::of_refusal(code), Report::Failed { code });
    }

    #[test]
    fn a_cancel_of_what_the_terminal_never_had_is_taken() {
        let answer = |code| Report::cancel_taken(Stage::Rejected, code);
        assert_eq!(answer(ResultCode::UnknownReference), Some(true));
        assert_eq!(answer(ResultCode::NotPermitted), Some(false));
        assert_eq!(Report::cancel_taken(Stage::Accepted, ResultCode::Success), None);
    }
}
