//! What one action on one terminal stands at, and how it moves.
//!
//! ```text
//! pending ─► offered ─► downloading ─► downloaded ─► installing ─► restarting ─► trial ─► succeeded
//!    ▲          └──────────────┴──── waiting{why} ────────┴───────────┘
//!    │ retry
//! failed{class} · timed_out · rejected · cancelled · superseded · already_current · not_applicable · terminal_removed
//! ```
//!
//! - **The terminal's word moves it**; reports may be skipped, since a later one implies those before it. Results are
//!   numbered by the terminal: one that is not newer than the last changes nothing. [`Report`] says what stages on the wire
//!   mean.
//! - **Only the terminal's confirmation makes it succeed**, and a new version that was only seen is on trial. A terminal
//!   that is back on its old version has failed.
//! - **A cancel is a question**, kept beside the state: while it is open the assignment goes on as before, and where the
//!   terminal says no it is as if nobody had asked. Each question is answered exactly once, by the terminal or by the
//!   assignment's end. A forced cancel closes the assignment on the server at once.
//! - **A late truth counts**: a success after a time-out or a failure replaces it. After a forced cancel, and wherever else
//!   the server has decided for good, what the terminal says is kept as evidence ([`Standing::late`]).
//!
//! How many bytes have come in is not part of this; the record of the assignment has it.

use super::failure::FailureClass;
use super::report::Report;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tms_proto::code::ResultCode;

/// What an assignment stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// The state.
    #[serde(flatten)]
    pub state: State,
    /// The attempt, from 1. Each has an action of its own on the wire: for a terminal, what is over is over.
    pub attempt: u16,
    /// Number of the last result that was taken in.
    #[serde(default)]
    pub reported: u32,
    /// The cancel action that waits for the terminal's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<u64>,
    /// What the terminal said after the server had decided for good. A confirmation is not replaced by anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Report>,
}

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

/// What happens to an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It is in a plan that the terminal has acknowledged.
    Offer,
    /// The terminal says something of it.
    Report {
        /// The attempt whose action it speaks of.
        attempt: u16,
        /// Number of the result: each is greater than those before.
        number: u32,
        /// What it says.
        report: Report,
        /// The task wants a confirmed version to run for some time before it counts: trial first.
        hold: bool,
    },
    /// The terminal has called, and shows the new version among what is installed, without a confirmation.
    Seen,
    /// A confirmed version has run for as long as the task wants it to.
    Held,
    /// An operator, or an aborted or stopping task, withdraws it.
    Cancel {
        /// Id of the cancel action: any number, never used again on this terminal.
        id: u64,
        /// Whether the terminal is asked.
        force: bool,
    },
    /// The terminal answers a cancel action.
    CancelAnswer {
        /// Which.
        id: u64,
        /// It has dropped the action.
        taken: bool,
    },
    /// Nothing was heard for too long, or the task's end has come.
    TimeOut,
    /// Another assignment takes its place.
    Supersede {
        /// The task of that assignment.
        by: u64,
    },
    /// The terminal has it already.
    AlreadyCurrent,
    /// It is not for this terminal.
    NotApplicable,
    /// The terminal is removed from the estate.
    Remove,
    /// It is tried again, as the [rules of retry](super::retry) allow.
    Retry,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it stands at now: the same as before, if the event said nothing new.
    pub after: Standing,
    /// The cancels that are answered with this. Never the same twice.
    pub answered: Vec<Answer>,
}

/// How a cancel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Id of the cancel action.
    pub id: u64,
    /// Whether the assignment was withdrawn by it.
    pub taken: bool,
}

/// Why an event cannot happen to an assignment as it stands. Reports and answers of terminals are never refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is at an end.
    #[error("the assignment is at an end")]
    Finished,
    /// It has gone too far.
    #[error("the terminal has begun to install")]
    TooLate,
    /// Another cancel waits for its answer.
    #[error("the terminal has been asked to cancel already")]
    Asked,
    /// It was offered already.
    #[error("the assignment is not pending")]
    NotPending,
    /// It is not on a confirmed trial.
    #[error("the assignment is not on a confirmed trial")]
    NotOnTrial,
    /// The terminal has confirmed it.
    #[error("the terminal has confirmed the new version")]
    Confirmed,
    /// Trying again cannot help, or there is nothing to try again.
    #[error("the assignment cannot be tried again")]
    NotRetriable,
}

impl Standing {
    /// A new assignment.
    pub const NEW: Self = Self {
        state: State::Pending,
        attempt: 1,
        reported: 0,
        cancel: None,
        late: None,
    };

    /// What it stands at after `event`.
    ///
    /// # Errors
    /// [`Refused`], for events that are the server's or an operator's own.
    pub fn after(&self, event: Event) -> Result<Change, Refused> {
        let mut after = *self;
        let mut answered = Vec::new();
        match event {
            Event::Offer => after.state = self.pending(State::Offered)?,
            Event::Report {
                attempt,
                number,
                report,
                hold,
            } => after.hear(attempt, number, report, hold),
            Event::Seen => {
                if self.state.is_in_flight() && !matches!(self.state, State::Trial { .. }) {
                    after.state = State::Trial { confirmed: false };
                }
            }
            Event::Held => match self.state {
                State::Trial { confirmed: true } => after.state = State::Succeeded,
                _ => return Err(Refused::NotOnTrial),
            },
            Event::Cancel { id, force } => {
                if force || self.state == State::Pending {
                    self.open()?;
                    after.close(State::Cancelled { forced: force });
                    // The same question, asked with force this time, has one answer.
                    after.cancel = after.cancel.filter(|asked| *asked != id);
                    answered.push(Answer { id, taken: true });
                } else {
                    self.soft()?;
                    if self.cancel.is_some() {
                        return Err(Refused::Asked);
                    }
                    after.cancel = Some(id);
                }
            }
            Event::CancelAnswer { id, taken } => {
                if self.cancel == Some(id) {
                    if taken {
                        after.close(State::Cancelled { forced: false });
                    } else {
                        after.cancel = None;
                        answered.push(Answer { id, taken });
                    }
                }
            }
            Event::TimeOut => {
                self.open()?;
                if self.state.is_confirmed() {
                    return Err(Refused::Confirmed);
                }
                after.state = State::TimedOut;
            }
            Event::Supersede { by } => {
                self.soft()?;
                after.state = State::Superseded { by: Some(by) };
            }
            Event::AlreadyCurrent => after.state = self.pending(State::AlreadyCurrent)?,
            Event::NotApplicable => after.state = self.pending(State::NotApplicable)?,
            Event::Remove => after.remove()?,
            Event::Retry => {
                if !self.state.is_retriable() {
                    return Err(Refused::NotRetriable);
                }
                after.attempt = self.attempt.checked_add(1).ok_or(Refused::NotRetriable)?;
                after.state = State::Pending;
            }
        }
        // An end answers the cancel that is open: it can have no other answer any more.
        if let Some(id) = after.cancel.filter(|_| after.state.is_final()) {
            after.cancel = None;
            let taken = matches!(after.state, State::Cancelled { .. });
            answered.push(Answer { id, taken });
        }
        Ok(Change { after, answered })
    }

    /// Takes in what the terminal says.
    fn hear(&mut self, attempt: u16, number: u32, report: Report, hold: bool) {
        if number <= self.reported {
            return;
        }
        self.reported = number;
        // Of an attempt that was given up, only a success still says something: the version runs.
        if attempt < self.attempt && report != Report::Confirmed {
            return;
        }
        let open = !self.state.is_final();
        let mendable = matches!(
            self.state,
            State::TimedOut | State::Failed { .. } | State::Rejected { .. }
        );
        if report == Report::Confirmed && (open || mendable) {
            // A late truth, of an assignment that was closed or of an attempt that was given up, counts at once. On trial
            // again it could fail by what a newer attempt says, and be a second one under way for its component.
            let trial = hold && attempt == self.attempt && self.state.is_in_flight();
            self.state = if trial {
                State::Trial { confirmed: true }
            } else {
                State::Succeeded
            };
        } else if open {
            self.state = self.state.told(report);
        } else {
            self.note(report);
        }
    }

    /// Closes it by the server's decision. What the terminal has confirmed is not forgotten.
    fn close(&mut self, state: State) {
        if self.state.is_confirmed() {
            self.note(Report::Confirmed);
        }
        self.state = state;
    }

    fn note(&mut self, report: Report) {
        if self.late != Some(Report::Confirmed) {
            self.late = Some(report);
        }
    }

    /// The terminal is gone: it is not counted any more, whether it was open or has failed. What succeeded stays true.
    fn remove(&mut self) -> Result<(), Refused> {
        match self.state {
            State::Succeeded
            | State::Superseded { .. }
            | State::AlreadyCurrent
            | State::NotApplicable
            | State::TerminalRemoved => Err(Refused::Finished),
            _ => {
                self.close(State::TerminalRemoved);
                Ok(())
            }
        }
    }

    fn open(&self) -> Result<(), Refused> {
        if self.state.is_final() {
            return Err(Refused::Finished);
        }
        Ok(())
    }

    fn pending(&self, next: State) -> Result<State, Refused> {
        self.open()?;
        match self.state {
            State::Pending => Ok(next),
            _ => Err(Refused::NotPending),
        }
    }

    /// Whether it may still be taken away from under the terminal.
    fn soft(&self) -> Result<(), Refused> {
        self.open()?;
        if self.state.is_locked() {
            return Err(Refused::TooLate);
        }
        Ok(())
    }
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

    const fn is_confirmed(self) -> bool {
        matches!(self, Self::Trial { confirmed: true } | Self::Succeeded)
    }

    const fn is_retriable(self) -> bool {
        match self.failure() {
            Some(class) => class.is_retriable(),
            None => false,
        }
    }

    /// The state after a report that is no confirmation, of an assignment that is not at an end.
    const fn told(self, report: Report) -> Self {
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

    const fn failed(code: ResultCode) -> Self {
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

#[cfg(test)]
mod tests;
