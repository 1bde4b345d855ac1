//! What a task does on a terminal.

use serde::{Deserialize, Serialize};
use tms_proto::code::{ActionKind, ErrorAction};
use tms_proto::digest::Digest;
use tms_proto::message::Precondition;

/// One thing that is done on a terminal. What is not said is as the terminal does it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What.
    #[serde(flatten)]
    pub work: Work,
    /// Which actions must have succeeded before, by their place in the task's list, from 0. Only earlier ones can be named,
    /// so that no circle can be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<u8>,
    /// The merchant may not put it off. Settlement still comes first.
    #[serde(default)]
    pub forced: bool,
    /// How often the merchant may put it off, and never more often than the terminal allows. None is as often as it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_postponements: Option<u8>,
    /// What must hold before the installation, as a set of [`Precondition`] bits.
    #[serde(default = "settled_and_idle")]
    pub preconditions: u16,
    /// The least battery charge in per cent, 0 to 100.
    #[serde(default)]
    pub min_battery: u8,
    /// What to tell the merchant, up to 30 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Work {
    /// Install a package, or update where an older version is installed.
    Install {
        /// Digest of its signed manifest.
        manifest: Digest,
    },
    /// Download a package only, verified and kept until it is installed.
    Download {
        /// Digest of its signed manifest.
        manifest: Digest,
    },
    /// Remove a component.
    Remove {
        /// Its name.
        component: String,
    },
    /// Bring the terminal the parameters that are worked out for it.
    Parameters {
        /// The template, by name.
        template: String,
        /// Its version: pinned, so that a later edit does not change a task that runs.
        version: u32,
    },
    /// Show or print a text.
    Text {
        /// The approved text, by id.
        text: u64,
    },
    /// Restart the terminal.
    Restart,
    /// Have the terminal register again.
    Register,
    /// Give the terminal another check-in policy.
    CheckInPolicy {
        /// The policy, by name.
        policy: String,
    },
    /// Have the terminal upload its log.
    CollectLogs,
}

/// What happens to the rest of a task on a terminal when one of its actions fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Go on with what does not depend on it.
    Continue,
    /// Begin nothing more.
    #[default]
    Stop,
    /// Go on with what does not depend on it, and check in at once to report.
    Report,
}

impl Action {
    /// The work alone, with all else as it usually is: settled and idle before, and the merchant may put it off.
    #[must_use]
    pub const fn new(work: Work) -> Self {
        Self {
            work,
            after: Vec::new(),
            forced: false,
            max_postponements: None,
            preconditions: settled_and_idle(),
            min_battery: 0,
            prompt: String::new(),
        }
    }
}

impl OnFailure {
    /// The same on the wire.
    #[must_use]
    pub const fn error_action(self) -> ErrorAction {
        match self {
            Self::Continue => ErrorAction::Continue,
            Self::Stop => ErrorAction::Stop,
            Self::Report => ErrorAction::Report,
        }
    }
}

impl Work {
    /// The kind of action that it is on the wire. None for a check-in policy, which goes with every plan as its next
    /// contact, and needs no action of its own.
    #[must_use]
    pub const fn kind(&self) -> Option<ActionKind> {
        Some(match self {
            Self::Install { .. } => ActionKind::Install,
            Self::Download { .. } => ActionKind::Download,
            Self::Remove { .. } => ActionKind::Delete,
            Self::Parameters { .. } => ActionKind::Update,
            Self::Text { .. } => ActionKind::DeviceRequest,
            Self::Restart => ActionKind::Restart,
            Self::Register => ActionKind::Bind,
            Self::CollectLogs => ActionKind::Upload,
            Self::CheckInPolicy { .. } => return None,
        })
    }

    /// The package, where it is about one.
    #[must_use]
    pub const fn manifest(&self) -> Option<Digest> {
        match self {
            Self::Install { manifest } | Self::Download { manifest } => Some(*manifest),
            _ => None,
        }
    }
}

const fn settled_and_idle() -> u16 {
    Precondition::SETTLED | Precondition::IDLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_usual() {
        let read: Action = serde_json::from_str(r#"{"do":"remove","component":"loyalty"}"#).unwrap();
        let component = "loyalty".to_owned();
        assert_eq!(read, Action::new(Work::Remove { component }));
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Action>(&written).unwrap(), read);
    }
}
