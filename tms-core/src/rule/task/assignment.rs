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

mod state;

pub use state::{Reached, State, Wait};

use super::report::Report;
use serde::{Deserialize, Serialize};
use thiserror::Error;

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

#[cfg(test)]
mod tests;
