//! The states of an assignment, and where reports lead.

use crate::rule::task::failure::FailureClass;
use crate::rule::task::report::Report;
use serde::{Deserialize, Serialize};
use tms_proto::code::ResultCode;

/// The state of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Not offered yet, or not again.
    Pending,
    /// In a plan that the terminal has.
    Offered,
    /// Content is coming in.
    Downloading,
    /// All content is there, and verified.
    Downloaded,
    /// The terminal waits: neither progress nor failure.
    Waiting {
        /// For what.
        why: Wait,
        /// How far it had come.
        reached: Reached,
    },
    /// The new version lies beside the one that runs. From here on it cannot be withdrawn softly.
    Installing,
    /// The next start is the new version's.
    Restarting,
    /// The new version was seen, and has not proved itself yet.
    Trial {
        /// The terminal has confirmed it; the task wants it to run for some time before that counts.
        confirmed: bool,
    },
    /// The new version runs.
    Succeeded,
    /// It failed.
    Failed {
        /// In which class: never `rejected` or `timed_out`, which are states of their own.
        class: FailureClass,
        /// What the terminal said.
        code: ResultCode,
    },
    /// Nothing was heard in time.
    TimedOut,
    /// The terminal will not do it.
    Rejected {
        /// Why.
        code: ResultCode,
    },
    /// It was withdrawn.
    Cancelled {
        /// Without the terminal's answer.
        forced: bool,
    },
    /// Another assignment took its place.
    Superseded {
        /// The task of that assignment, where the server decided so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<u64>,
    },
    /// The terminal had it already.
    AlreadyCurrent,
    /// It is not for this terminal.
    NotApplicable,
    /// The terminal was removed from the estate.
    TerminalRemoved,
}

/// What a terminal waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The window.
    Window,
    /// Other terminals of its site, merchant or line.
    SiteLimit,
    /// The settlement of its batch.
    BatchOpen,
    /// The merchant.
    Merchant,
    /// Its battery.
    Battery,
    /// Room.
    Space,
    /// Another action.
    Dependency,
    /// The server, or something else that will pass.
    Busy,
}

/// How far a waiting assignment had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// Offered.
    Offered,
    /// Part of the content is there.
    Downloading,
    /// The content is there.
    Downloaded,
    /// The new version lies beside the old one, or is chosen for the next start.
    Installing,
}

impl State {
    /// Whether it is at an end. A late truth may still open or turn it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending) && !self.is_in_flight()
    }

    /// Whether the terminal has it, and is not at an end with it.
    #[must_use]
    pub const fn is_in_flight(self) -> bool {
        matches!(
            self,
            Self::Offered
                | Self::Downloading
                | Self::Downloaded
                | Self::Waiting { .. }
                | Self::Installing
                | Self::Restarting
                | Self::Trial { .. }
        )
    }

    /// Whether the terminal has begun to install: from there on only force takes it away.
    #[must_use]
    pub const fn is_locked(self) -> bool {
        matches!(
            self,
            Self::Installing
                | Self::Restarting
                | Self::Trial { .. }
                | Self::Waiting {
                    reached: Reached::Installing,
                    ..
                }
        )
    }

    /// The class of the failure, if it is one.
    #[must_use]
    pub const fn failure(self) -> Option<FailureClass> {
        match self {
            Self::Failed { class, .. } => Some(class),
            Self::TimedOut => Some(FailureClass::TimedOut),
            Self::Rejected { .. } => Some(FailureClass::Rejected),
            _ => None,
        }
    }

    pub(super) const fn is_confirmed(self) -> bool {
        matches!(self, Self::Trial { confirmed: true } | Self::Succeeded)
    }

    pub(super) const fn is_retriable(self) -> bool {
        match self.failure() {
            Some(class) => class.is_retriable(),
            None => false,
        }
    }

    /// The state after a report that is no confirmation, of an assignment that is not at an end.
    pub(super) const fn told(self, report: Report) -> Self {
        match report {
            Report::Cancelled => Self::Cancelled { forced: false },
            Report::Superseded => Self::Superseded { by: None },
            Report::Expired => Self::TimedOut,
            Report::RolledBack => Self::failed(ResultCode::RolledBack),
            Report::Failed { code } => Self::failed(code),
            // What runs already is not downloaded or installed any more: that is an echo of the way there.
            _ if matches!(self, Self::Trial { .. }) => self,
            Report::Accepted => Self::Offered,
            Report::Downloading => Self::Downloading,
            Report::Downloaded => Self::Downloaded,
            Report::Waiting { why } => Self::Waiting {
                why,
                reached: self.reached(),
            },
            Report::Installed => Self::Installing,
            Report::Activated => Self::Restarting,
            Report::Confirmed => self,
        }
    }

    pub(super) const fn failed(code: ResultCode) -> Self {
        match FailureClass::of(code) {
            FailureClass::Rejected => Self::Rejected { code },
            FailureClass::TimedOut => Self::TimedOut,
            class => Self::Failed { class, code },
        }
    }

    const fn reached(self) -> Reached {
        match self {
            Self::Waiting { reached, .. } => reached,
            Self::Downloading => Reached::Downloading,
            Self::Downloaded => Reached::Downloaded,
            Self::Installing | Self::Restarting | Self::Trial { .. } => Reached::Installing,
            _ => Reached::Offered,
        }
    }
}

impl Wait {
    /// What a terminal waits for that gives this code.
    #[must_use]
    pub const fn of(code: ResultCode) -> Self {
        match code {
            ResultCode::WindowClosed => Self::Window,
            ResultCode::Unsettled => Self::BatchOpen,
            ResultCode::Postponed => Self::Merchant,
            ResultCode::LowBattery => Self::Battery,
            ResultCode::NoSpace | ResultCode::MemoryOverflow => Self::Space,
            ResultCode::Missing => Self::Dependency,
            _ => Self::Busy,
        }
    }
}
