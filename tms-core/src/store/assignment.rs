//! Assignments: that one terminal shall do one thing, and how far it has come.

use super::{ActionId, PackageRef, TerminalId, WaitingText};
use crate::estate::ParameterSetRef;
use crate::rule::task::window::Zone;
use crate::rule::task::{Report, Standing, Timeouts, Windows, assignment};
use serde::{Deserialize, Deserializer, Serialize};
use tms_proto::code::{ErrorAction, ResultCode, Stage, TextStatus};
use tms_proto::digest::Digest;
use tms_proto::message::ActionResult;

/// That one terminal shall do one thing, and how far it has come. One action on the wire: another attempt of the same
/// is an assignment of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whose.
    pub terminal: TerminalId,
    /// The action's id.
    pub action: ActionId,
    /// What it shall do. Records of early versions have the package alone, and install it.
    #[serde(alias = "package", deserialize_with = "order")]
    pub order: Order,
    /// When and how.
    #[serde(default, skip_serializing_if = "Terms::is_usual")]
    pub terms: Terms,
    /// Of which task it is a part, if of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// What it stands at. Records of early versions have the number of the last result alone: what it means is said by the
    /// stage, and the next report moves it on.
    #[serde(default = "new", alias = "result", deserialize_with = "standing")]
    pub standing: Standing,
    /// The next attempt of the same: what is still said of this one concerns that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<ActionId>,
    /// How far the terminal said last that it has come.
    pub stage: Stage,
    /// How it went, in the terminal's words.
    pub code: ResultCode,
    /// The terminal's own count of tries, zero before the first.
    pub attempt: u16,
    /// The terminal's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether it is over: only open assignments come into a plan.
    pub closed: bool,
    /// The terminal could not decode a representation of the content, and gets it whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// When it was made, in seconds since 1970 UTC.
    pub created: u64,
    /// When it last changed, in seconds since 1970 UTC.
    pub updated: u64,
    /// Who made it.
    pub actor: String,
}

/// What a terminal shall do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    /// Install a package, or update to it.
    Install {
        /// The package.
        package: PackageRef,
    },
    /// Download a package and keep it, verified.
    Download {
        /// The package.
        package: PackageRef,
    },
    /// Remove a component.
    Remove {
        /// Its name.
        component: String,
    },
    /// Start again.
    Restart,
    /// Register again.
    Register,
    /// Upload its log.
    CollectLogs,
    /// Put a parameter set in force.
    Parameters {
        /// The set, made for this terminal.
        set: Box<ParameterSetRef>,
    },
    /// Show or print a text: it goes with the plan, and is done when the terminal says that it was shown.
    Text {
        /// The text.
        text: Box<WaitingText>,
    },
    /// Check in by another policy: nothing that goes to the terminal but its next contact.
    CheckInPolicy {
        /// The policy's name.
        policy: String,
    },
    /// Drop another action, if it has not begun to install.
    Cancel {
        /// Which.
        target: ActionId,
    },
}

/// When and how an action is carried out. What is not said is as the terminal does it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Actions that must have succeeded before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ActionId>,
    /// What must hold before the installation, as a set of [`Precondition`](tms_proto::message::Precondition) bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<u16>,
    /// The least battery charge in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_battery: Option<u8>,
    /// The merchant may not put it off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// How often the merchant may put it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_postponed: Option<u16>,
    /// What to tell the merchant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What happens to the rest when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<ErrorAction>,
    /// Higher is sooner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Which assignment wins where two are for one component: the greater; of equals the newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
    /// Start again when done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<bool>,
    /// At which hours.
    #[serde(skip_serializing_if = "is_always")]
    pub windows: Windows,
    /// The terminal's time zone, by its IANA name; UTC where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// After how much silence it has failed; never, where that is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Seconds that a confirmed version must run before it counts as a success.
    #[serde(skip_serializing_if = "is_zero")]
    pub confirm_after: u32,
}

/// Which part of which task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Step {
    /// The task.
    pub task: u64,
    /// The action's place in the task's list, from 0.
    pub place: u8,
    /// It brings a release that must not be skipped, of this order: what the task is about comes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u64>,
}

impl Order {
    /// The package, where it is about one.
    #[must_use]
    pub const fn package(&self) -> Option<&PackageRef> {
        match self {
            Self::Install { package } | Self::Download { package } => Some(package),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub const fn package_mut(&mut self) -> Option<&mut PackageRef> {
        match self {
            Self::Install { package } | Self::Download { package } => Some(package),
            _ => None,
        }
    }

    /// The component that it changes, if it changes one: of two such orders a terminal carries out one.
    #[must_use]
    pub fn component(&self) -> Option<&str> {
        match self {
            Self::Install { package } | Self::Download { package } => Some(&package.component),
            Self::Remove { component } => Some(component),
            _ => None,
        }
    }

    /// Whether a terminal carries out only one of them: both change the same component or parameter set.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Parameters { set: one }, Self::Parameters { set: two }) => one.template == two.template,
            (Self::CheckInPolicy { .. }, Self::CheckInPolicy { .. }) => true,
            (Self::Text { text: one }, Self::Text { text: two }) => one.id == two.id,
            _ => self.component().is_some() && self.component() == other.component(),
        }
    }

    /// The content that runs when it has succeeded, if it brings one.
    #[must_use]
    pub const fn content(&self) -> Option<Digest> {
        match self {
            Self::Install { package } => Some(package.content),
            Self::Parameters { set } => Some(set.digest),
            _ => None,
        }
    }

    /// In words: what is done to what.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Install { package } => format!("{} {}", package.component, package.version),
            Self::Download { package } => format!("download {} {}", package.component, package.version),
            Self::Remove { component } => format!("remove {component}"),
            Self::Parameters { set } => format!("parameters {} {}", set.template, set.pins.template),
            Self::CheckInPolicy { policy } => format!("check-in policy {policy}"),
            Self::Text { text } => format!("text {:016x}", text.id),
            Self::Restart => "restart".to_owned(),
            Self::Register => "register".to_owned(),
            Self::CollectLogs => "collect logs".to_owned(),
            Self::Cancel { target } => format!("cancel {target}"),
        }
    }
}

impl Terms {
    /// Whether there is nothing special about them.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// The terminal's zone.
    #[must_use]
    pub fn zone(&self) -> Zone {
        Zone::first([self.zone.as_deref()])
    }
}

impl Assignment {
    /// A new one, with nothing special about it.
    #[must_use]
    pub fn new(terminal: TerminalId, action: ActionId, order: Order, now: u64, actor: &str) -> Self {
        Self {
            terminal,
            action,
            order,
            terms: Terms::default(),
            step: None,
            standing: Standing::NEW,
            replaced_by: None,
            stage: Stage::Accepted,
            code: ResultCode::Success,
            attempt: 0,
            text: None,
            closed: false,
            whole: false,
            created: now,
            updated: now,
            actor: actor.to_owned(),
        }
    }

    /// The same after an event.
    ///
    /// # Errors
    /// [`assignment::Refused`], for events that are the server's or an operator's own.
    pub fn after(&self, event: assignment::Event, now: u64) -> Result<Self, assignment::Refused> {
        let standing = self.standing.after(event)?.after;
        Ok(Self {
            standing,
            closed: standing.state.is_final(),
            updated: now,
            ..self.clone()
        })
    }

    /// The same when the terminal has acknowledged a plan that offers it. What no action tells the terminal of is done with that.
    #[must_use]
    pub fn acknowledged(&self, now: u64) -> Option<Self> {
        let offered = self.after(assignment::Event::Offer, now).ok()?;
        if !matches!(self.order, Order::CheckInPolicy { .. }) {
            return Some(offered);
        }
        Some(offered.concluded(Report::Confirmed, (Stage::RunningConfirmed, ResultCode::Success), now))
    }

    /// The same when the terminal has said what became of a text, or `None` where it is about no text.
    #[must_use]
    pub fn shown(&self, status: TextStatus, now: u64) -> Option<Self> {
        let Order::Text { text } = &self.order else { return None };
        let stage = match status {
            TextStatus::Received => Stage::Downloaded,
            // It is not done before somebody has pressed the key.
            TextStatus::Displayed | TextStatus::Printed if text.confirm => Stage::Activated,
            TextStatus::Displayed | TextStatus::Printed | TextStatus::Confirmed => Stage::RunningConfirmed,
            TextStatus::Refused => Stage::Rejected,
            _ => return None,
        };
        let code = match stage {
            Stage::Rejected => ResultCode::InvalidContent,
            _ => ResultCode::Success,
        };
        Some(self.concluded(Report::of(stage, code)?, (stage, code), now))
    }

    /// The same after the terminal said `result` of the attempt with this number, or `None` where that is not new.
    #[must_use]
    pub fn heard(&self, attempt: u16, result: &ActionResult, now: u64) -> Option<Self> {
        if result.number <= self.standing.reported {
            return None;
        }
        // A terminal that confirms another digest runs something else, and is not believed.
        let truthful = result.stage != Stage::RunningConfirmed
            || result
                .running
                .zip(self.order.content())
                .is_none_or(|(runs, shall)| runs == shall);
        let (stage, code) = if truthful {
            (result.stage, result.code)
        } else {
            (Stage::Rejected, ResultCode::Changed)
        };
        let event = assignment::Event::Report {
            attempt,
            number: result.number,
            report: self.report(stage, code)?,
            hold: self.terms.confirm_after > 0,
        };
        // Reports of terminals are never refused.
        let after = self.after(event, now).ok()?;
        // Of an attempt that was given up only a success still says something.
        if attempt != self.standing.attempt && after.standing.state == self.standing.state {
            return Some(after);
        }
        Some(Self {
            stage,
            code,
            attempt: result.attempt,
            text: result
                .text
                .as_deref()
                .map(|text| text.chars().filter(|char| !char.is_control()).take(70).collect()),
            whole: self.whole || result.code == ResultCode::Undecodable,
            ..after
        })
    }

    /// What a stage means for it: what is only to be downloaded is done when it is verified.
    const fn report(&self, stage: Stage, code: ResultCode) -> Option<Report> {
        match (&self.order, stage) {
            (Order::Download { .. }, Stage::Verified) => Some(Report::Confirmed),
            _ => Report::of(stage, code),
        }
    }

    /// The same after the terminal has acknowledged a plan, but not this action. Number zero: it is not among the results.
    #[must_use]
    pub fn refused(&self, code: ResultCode, now: u64) -> Self {
        self.concluded(Report::of_refusal(code), (Stage::Rejected, code), now)
    }

    /// The same after something that stands for a report of the terminal and is not one of its results: those go on from
    /// where they were.
    fn concluded(&self, report: Report, (stage, code): (Stage, ResultCode), now: u64) -> Self {
        let mut after = self.clone();
        let event = assignment::Event::Report {
            attempt: self.standing.attempt,
            number: self.standing.reported.saturating_add(1),
            report,
            hold: false,
        };
        if let Ok(change) = self.standing.after(event) {
            after.standing = change.after;
            after.standing.reported = self.standing.reported;
        }
        after.closed = after.standing.state.is_final();
        (after.stage, after.code, after.updated) = (stage, code, now);
        after
    }
}

fn order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Order, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Order(Order),
        Package(PackageRef),
    }
    Ok(match Stored::deserialize(deserializer)? {
        Stored::Order(order) => order,
        Stored::Package(package) => Order::Install { package },
    })
}

fn standing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Standing, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Standing(Standing),
        Reported(u32),
    }
    Ok(match Stored::deserialize(deserializer)? {
        Stored::Standing(standing) => standing,
        Stored::Reported(reported) => Standing {
            reported,
            ..Standing::NEW
        },
    })
}

const fn new() -> Standing {
    Standing::NEW
}

fn is_always(windows: &Windows) -> bool {
    *windows == Windows::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;

    #[test]
    fn orders_of_early_versions_install_their_package() {
        let package = sample::package(1).package;
        let old = serde_json::json!({
            "terminal": 1, "action": 2, "package": package, "stage": 1, "code": 0, "attempt": 1, "closed": false,
            "result": 5, "created": 1, "updated": 1, "actor": "li",
        });
        let read: Assignment = serde_json::from_value(old).unwrap();
        assert_eq!(
            read.order,
            Order::Install {
                package: package.clone()
            }
        );
        assert_eq!(read.standing.reported, 5);
        for order in [
            Order::Install {
                package: package.clone(),
            },
            Order::Download { package },
            Order::Remove {
                component: "loyalty".to_owned(),
            },
            Order::Restart,
            Order::Register,
            Order::CollectLogs,
            Order::Cancel { target: ActionId(7) },
        ] {
            let assignment = Assignment { order, ..read.clone() };
            let written = serde_json::to_string(&assignment).unwrap();
            assert_eq!(
                serde_json::from_str::<Assignment>(&written).unwrap(),
                assignment,
                "{written}"
            );
        }
    }

    fn result(number: u32, stage: Stage, code: ResultCode) -> ActionResult {
        ActionResult {
            number,
            action: 1,
            attempt: 3,
            stage,
            code,
            vendor_code: None,
            text: Some("so\nfar".to_owned()),
            time: 1,
            bytes: None,
            running: None,
        }
    }

    #[test]
    fn what_was_heard_is_not_heard_again() {
        let assignment = sample::assignment(1, 1);
        let number = assignment.standing.reported;
        assert_eq!(
            assignment.heard(1, &result(number, Stage::Installed, ResultCode::Success), 1),
            None
        );
        let after = assignment
            .heard(1, &result(number + 1, Stage::Installed, ResultCode::Success), 9)
            .unwrap();
        assert_eq!((after.stage, after.attempt, after.updated), (Stage::Installed, 3, 9));
        assert_eq!(after.text.as_deref(), Some("sofar"));
        assert!(!after.closed);
    }

    #[test]
    fn a_terminal_that_confirms_something_else_is_not_believed() {
        let mut assignment = sample::assignment(1, 1);
        assignment.standing.reported = 0;
        let mut said = result(1, Stage::RunningConfirmed, ResultCode::Success);
        assert!(assignment.heard(1, &said, 1).unwrap().standing.state == assignment::State::Succeeded);
        said.running = Some(Digest::of(b"another"));
        let after = assignment.heard(1, &said, 1).unwrap();
        assert_eq!((after.stage, after.code), (Stage::Rejected, ResultCode::Changed));
        assert!(after.closed && after.standing.state.failure().is_some());
    }

    #[test]
    fn a_refusal_for_now_leaves_it_open() {
        let assignment = sample::assignment(1, 1);
        let later = assignment.refused(ResultCode::MemoryOverflow, 5);
        assert!(!later.closed || ResultCode::MemoryOverflow.is_permanent());
        let never = assignment.refused(ResultCode::ModelMismatch, 5);
        assert!(never.closed);
        assert_eq!(never.standing.reported, assignment.standing.reported);
    }
}
