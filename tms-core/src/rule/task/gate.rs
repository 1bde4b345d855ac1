//! Gates: whether a stage goes on, is done, or stops the task.

use super::count::Counts;
use super::failure::FailureClass;
use super::stage::Then;
use super::state::PauseReason;
use serde::{Deserialize, Serialize};

/// When a stage is done, and when it stops the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gates {
    /// What stops the task; the first that is met does.
    pub abort: Vec<Criterion>,
    /// The share of the stage that must succeed, in per cent, 0 to 100.
    pub success_percent: u8,
    /// Seconds that the stage is watched on after it has succeeded.
    pub soak: u32,
    /// What happens where nothing moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<Stall>,
}

/// What stops a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// The failures that count; all of them, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<FailureClass>,
    /// How many are too many.
    pub limit: Limit,
    /// What is done then.
    pub action: AbortAction,
}

/// How many failures are too many. `F` counts the failures of the criterion's classes, `X` what has come to an end by
/// itself, `N` the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// `F >= count`. At least 1.
    Count(u64),
    /// `X >= min_executed` and `100·F > percent·X`: says so early, while silent terminals do not count.
    ShareOfExecuted {
        /// 0 to 99.
        percent: u8,
        /// So many must have come to an end first: at least 1.
        min_executed: u64,
    },
    /// `100·F > percent·N`. 0 to 99.
    ShareOfStage(u8),
}

/// What is done when a criterion is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortAction {
    /// Offer nothing new.
    Pause,
    /// Stop the task, and ask terminals to drop what they have not begun to install.
    Abort,
    /// Stop the task, and close all its assignments at once.
    AbortForce,
}

/// When nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Seconds without a change of any assignment, while some are under way. Time while the task is paused, or outside of
    /// every window, does not count.
    pub seconds: u32,
    /// What is done then.
    pub action: StallAction,
}

/// What is done when nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StallAction {
    /// Offer nothing new.
    Pause,
    /// Tell somebody.
    Alert,
}

/// What follows from the gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing.
    Continue,
    /// Nothing, but somebody is to be told that nothing moves.
    Alert,
    /// The task is to be paused.
    Pause(PauseReason),
    /// The task is to be aborted.
    Abort {
        /// By which criterion, by its place in the list, from 0.
        criterion: u16,
        /// Close all assignments at once, rather than ask.
        force: bool,
    },
    /// The next stage is to begin.
    NextStage,
    /// A second operator is to look before the next stage begins.
    AwaitApproval,
    /// The task is done.
    Complete {
        /// Some assignments did not succeed.
        failures: bool,
    },
}

impl Default for Gates {
    /// Nine of ten must succeed, nothing else stops it, and it is not watched on.
    fn default() -> Self {
        Self {
            abort: Vec::new(),
            success_percent: 90,
            soak: 0,
            stall: None,
        }
    }
}

/// A gate that has closed. An operator who resumes the task in spite of it has it waived for that stage; an approval
/// waives [`Self::StageDone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// A criterion, by its place in the list, from 0.
    Criterion(u16),
    /// So many are lost that the stage cannot succeed.
    SuccessUnreachable,
    /// Nothing moves.
    Stalled,
    /// All is at an end, and too little succeeded.
    BelowThreshold,
    /// The stage is done, and somebody is to look.
    StageDone,
}

/// A stage, as the gates see it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What its assignments stand at.
    pub counts: &'a Counts,
    /// What comes after it. None for the last stage.
    pub then: Option<Then>,
    /// More terminals may still join it.
    pub joining: bool,
    /// Some assignments of earlier stages did not succeed.
    pub earlier_failures: bool,
    /// Seconds without a change that count: [`Quiet::seconds`].
    pub quiet: u64,
    /// Since when so many have succeeded as must, in seconds since 1970 UTC: what the last evaluation said.
    pub succeeded_at: Option<u64>,
    /// The gates that are waived.
    pub waived: &'a [Gate],
    /// Now, in seconds since 1970 UTC.
    pub now: u64,
}

/// What the gates say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation {
    /// What is to be done.
    pub verdict: Verdict,
    /// Which gate says so.
    pub gate: Option<Gate>,
    /// Since when so many have succeeded as must: to be kept for the next evaluation.
    pub succeeded_at: Option<u64>,
}

impl Gates {
    /// What follows from what a stage stands at, to be asked at each change of its counts and from time to time. In this
    /// order: criteria, success unreachable, stall, success and soak, done below the threshold.
    ///
    /// A stage below its threshold never lets the next one begin. One that is above it does though not all of it is done:
    /// what is open goes on beside the next stage. Only the last waits for all.
    #[must_use]
    pub fn evaluate(&self, view: &View<'_>) -> Evaluation {
        let counts = view.counts;
        let total = u128::from(counts.total());
        let needed = u128::from(self.success_percent).saturating_mul(total);
        let enough = |count: u64| u128::from(count).saturating_mul(100) >= needed;
        let succeeded = enough(counts.succeeded());
        // An empty stage has nothing to be watched for.
        let soak = if counts.total() == 0 { 0 } else { u64::from(self.soak) };
        let succeeded_at = succeeded.then(|| view.succeeded_at.unwrap_or(view.now));
        let says = |verdict, gate| Evaluation {
            verdict,
            gate,
            succeeded_at,
        };
        let closed = |gate| !view.waived.contains(&gate);
        let pauses = |reason, gate| says(Verdict::Pause(reason), Some(gate));

        for (criterion, index) in self.abort.iter().zip(0_u16..) {
            let gate = Gate::Criterion(index);
            if closed(gate) && criterion.is_met(counts) {
                return says(criterion.verdict(index), Some(gate));
            }
        }
        if closed(Gate::SuccessUnreachable) && !enough(counts.total().saturating_sub(counts.lost())) {
            return pauses(PauseReason::SuccessUnreachable, Gate::SuccessUnreachable);
        }
        if let Some(stall) = self.stall
            && closed(Gate::Stalled)
            && counts.in_flight() > 0
            && view.quiet >= u64::from(stall.seconds)
        {
            return match stall.action {
                StallAction::Pause => pauses(PauseReason::Stalled, Gate::Stalled),
                StallAction::Alert => says(Verdict::Alert, Some(Gate::Stalled)),
            };
        }
        let all_ended = counts.open() == 0;
        let done = match succeeded_at {
            Some(since) => view.now.saturating_sub(since) >= soak,
            None if all_ended && closed(Gate::BelowThreshold) => {
                return pauses(PauseReason::StageGate, Gate::BelowThreshold);
            }
            None => all_ended,
        };
        match view.then {
            _ if !done => says(Verdict::Continue, None),
            None if !all_ended || view.joining => says(Verdict::Continue, None),
            None => {
                let failures = view.earlier_failures || counts.lost() > 0;
                says(Verdict::Complete { failures }, None)
            }
            Some(Then::Pause) if closed(Gate::StageDone) => pauses(PauseReason::StageGate, Gate::StageDone),
            Some(Then::Approve) if closed(Gate::StageDone) => says(Verdict::AwaitApproval, Some(Gate::StageDone)),
            Some(_) => says(Verdict::NextStage, None),
        }
    }
}

impl Criterion {
    fn is_met(&self, counts: &Counts) -> bool {
        let failed = counts.failed(&self.classes);
        let share = |percent: u8, of: u64| {
            u128::from(failed).saturating_mul(100) > u128::from(percent).saturating_mul(u128::from(of))
        };
        match self.limit {
            Limit::Count(count) => failed >= count,
            Limit::ShareOfExecuted { percent, min_executed } => {
                counts.executed() >= min_executed && share(percent, counts.executed())
            }
            Limit::ShareOfStage(percent) => share(percent, counts.total()),
        }
    }

    const fn verdict(&self, criterion: u16) -> Verdict {
        match (self.action, self.limit) {
            (AbortAction::Pause, Limit::Count(_)) => Verdict::Pause(PauseReason::ErrorCount),
            (AbortAction::Pause, _) => Verdict::Pause(PauseReason::ErrorRate),
            (AbortAction::Abort, _) => Verdict::Abort {
                criterion,
                force: false,
            },
            (AbortAction::AbortForce, _) => Verdict::Abort { criterion, force: true },
        }
    }
}

/// How long nothing has moved: only time that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quiet {
    /// Seconds before `since`.
    seconds: u64,
    /// Since when time counts; none while it does not. In seconds since 1970 UTC.
    since: Option<u64>,
}

impl Quiet {
    /// An assignment has moved.
    #[must_use]
    pub fn moved(self, now: u64) -> Self {
        Self {
            seconds: 0,
            since: self.since.map(|_| now),
        }
    }

    /// Time counts from now on, or not: the task runs and a window of it is open, or not.
    #[must_use]
    pub fn counting(self, counts: bool, now: u64) -> Self {
        Self {
            seconds: self.seconds(now),
            since: counts.then_some(now),
        }
    }

    /// How many seconds it is.
    #[must_use]
    pub fn seconds(&self, now: u64) -> u64 {
        let running = self.since.map_or(0, |since| now.saturating_sub(since));
        self.seconds.saturating_add(running)
    }
}

#[cfg(test)]
mod tests;
