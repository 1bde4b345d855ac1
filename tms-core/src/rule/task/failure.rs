//! What kind of failure: gates count by it, and retries depend on it.

use serde::{Deserialize, Serialize};
use tms_proto::code::ResultCode;

/// A class of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The connection could not be made, broke off, or the other side was busy.
    Transport,
    /// There was no room on the terminal.
    Storage,
    /// The terminal could not be disturbed: a batch not settled, a battery too low, a merchant who put it off too often.
    Unready,
    /// A signature, or another check of security, did not hold.
    Signature,
    /// The version or the security counter is lower than what is installed.
    Downgrade,
    /// The package is for another vendor, model or hardware.
    HardwareMismatch,
    /// The content is not what it should be.
    Content,
    /// The hardware failed.
    Hardware,
    /// The application failed, or said no more than that.
    Application,
    /// The new version did not run; the old one runs again.
    RolledBack,
    /// The terminal will not do it.
    Rejected,
    /// Nothing was heard in time.
    TimedOut,
}

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 12] = [
        Self::Transport,
        Self::Storage,
        Self::Unready,
        Self::Signature,
        Self::Downgrade,
        Self::HardwareMismatch,
        Self::Content,
        Self::Hardware,
        Self::Application,
        Self::RolledBack,
        Self::Rejected,
        Self::TimedOut,
    ];

    /// The class of a result code.
    #[must_use]
    pub const fn of(code: ResultCode) -> Self {
        match code {
            ResultCode::ConnectionError
            | ResultCode::CommunicationError
            | ResultCode::Timeout
            | ResultCode::Busy
            | ResultCode::WindowClosed
            | ResultCode::OnLineElsewhere
            | ResultCode::CredentialUnknown
            | ResultCode::StorageUnavailable => Self::Transport,
            ResultCode::MemoryOverflow | ResultCode::NoSpace => Self::Storage,
            ResultCode::Postponed | ResultCode::Unsettled | ResultCode::LowBattery => Self::Unready,
            ResultCode::SignatureError | ResultCode::SecurityError | ResultCode::Tampered => Self::Signature,
            ResultCode::VersionTooLow => Self::Downgrade,
            ResultCode::ModelMismatch => Self::HardwareMismatch,
            ResultCode::FormatError
            | ResultCode::InvalidContent
            | ResultCode::LengthError
            | ResultCode::SyntaxError
            | ResultCode::UnknownData
            | ResultCode::Changed
            | ResultCode::Gone
            | ResultCode::Undecodable => Self::Content,
            ResultCode::HardwareError => Self::Hardware,
            ResultCode::RolledBack => Self::RolledBack,
            ResultCode::Expired => Self::TimedOut,
            ResultCode::AccessDenied
            | ResultCode::NotSupported
            | ResultCode::NotPermitted
            | ResultCode::UnknownReference
            | ResultCode::InvalidParty
            | ResultCode::PartyMismatch
            | ResultCode::StalePlan
            | ResultCode::Duplicate
            | ResultCode::Missing
            | ResultCode::Deactivated
            | ResultCode::Blacklisted
            | ResultCode::VersionUnsupported => Self::Rejected,
            ResultCode::Success | ResultCode::ApplicationError | ResultCode::UnlistedError | ResultCode::Other(_) => {
                Self::Application
            }
        }
    }

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Storage => "storage",
            Self::Unready => "unready",
            Self::Signature => "signature",
            Self::Downgrade => "downgrade",
            Self::HardwareMismatch => "hardware_mismatch",
            Self::Content => "content",
            Self::Hardware => "hardware",
            Self::Application => "application",
            Self::RolledBack => "rolled_back",
            Self::Rejected => "rejected",
            Self::TimedOut => "timed_out",
        }
    }

    /// Whether trying again, with nothing changed, may help. No policy makes the others retriable: a wrong signature stays
    /// wrong, a version that did not run would take the terminal out of service again, and content is named by its digest.
    #[must_use]
    pub const fn is_retriable(self) -> bool {
        matches!(
            self,
            Self::Transport | Self::Storage | Self::Unready | Self::Application | Self::TimedOut
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_help_is_not_tried_again() {
        for code in ResultCode::ALL.iter().filter(|code| code.is_permanent()) {
            // A plan that has expired may be made again; whatever else is permanent is so for us too.
            let class = FailureClass::of(*code);
            assert!(!class.is_retriable() || *code == ResultCode::Expired, "{code}");
        }
        for never in [
            FailureClass::Signature,
            FailureClass::Downgrade,
            FailureClass::RolledBack,
            FailureClass::HardwareMismatch,
        ] {
            assert!(!never.is_retriable());
        }
    }

    #[test]
    fn the_documents_say_what_is_tried_again() {
        let page = include_str!("../../../../docs/tasks.md");
        for class in FailureClass::ALL {
            let again = if class.is_retriable() { "yes" } else { "never" };
            assert!(
                page.contains(&format!("\n| {} | {again} | ", class.name())),
                "{class:?}"
            );
        }
    }

    #[test]
    fn names_are_those_of_the_serialised_form() {
        for class in FailureClass::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
    }
}
