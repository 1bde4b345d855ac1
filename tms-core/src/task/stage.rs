//! Stages: the next batch of assignments, and what the gates say.

use super::assign::Assigning;
use super::ledger::Ledger;
use super::offer::stage_counts;
use super::record::{Member, Task};
use super::runner::Runner;
use crate::rule::task::assignment::State;
use crate::rule::task::definition::Membership;
use crate::rule::task::gate::View;
use crate::rule::task::window::Zone;
use crate::rule::task::{Operation, PauseReason, Slot, TaskState, Verdict};
use crate::store::{Entity, Query, StoreError, Versioned};

impl Runner {
    /// Gives the next terminals of the present stage their assignments. Whether there are more.
    pub(super) async fn assign(&self, task: &Versioned<Task>) -> Result<bool, StoreError> {
        let record = &task.record;
        let Some(run) = record.stages.get(usize::from(record.stage)).filter(|run| !run.assigned) else {
            return Ok(false);
        };
        let mark = Member::mark(record.id, Some(record.stage), Some(Slot::Pending));
        let query = Query::Marked {
            kind: Member::KIND,
            mark: "place".to_owned(),
            prefix: mark.clone(),
            after: run.cursor.map(|terminal| (mark, Member::key(record.id, terminal))),
        };
        let page = self.documents::<Member>(&query).await?;
        let last = page.last().map(|member| member.terminal);
        let mut groups: std::collections::BTreeMap<u8, Vec<Member>> = std::collections::BTreeMap::new();
        for member in page {
            groups.entry(member.cell).or_default().push(member);
        }
        for group in groups.into_values() {
            self.assign_group(record, group).await?;
        }
        let mut next = record.clone();
        if let Some(run) = next.stages.get_mut(usize::from(record.stage)) {
            (run.cursor, run.assigned) = (last, last.is_none());
        }
        self.save(task.version, &next, None).await?;
        Ok(last.is_some())
    }

    /// Together, or one at a time where somebody else writes one of them.
    async fn assign_group(&self, task: &Task, group: Vec<Member>) -> Result<(), StoreError> {
        match self.store.commit(self.assigned(task, &group).await?).await {
            Err(StoreError::Conflict) => {
                for member in group {
                    self.with_retry(|| Box::pin(self.assigned(task, std::slice::from_ref(&member))))
                        .await?;
                }
                Ok(())
            }
            done => done,
        }
    }

    async fn assigned(&self, task: &Task, members: &[Member]) -> Result<Vec<crate::store::Change>, StoreError> {
        let now = self.clock.now();
        let mut assigning = Assigning::new(&*self.store, &self.parameters, task, now);
        let (mut ledger, mut changes) = (Ledger::new(&*self.store, now), Vec::new());
        for member in members {
            if let Some(member) = ledger.member(&member.id()).await?
                && member.steps.is_empty()
                && member.state == State::Pending
            {
                assigning.assign(member, &mut ledger, &mut changes).await?;
            }
        }
        changes.extend(ledger.changes()?);
        Ok(changes)
    }

    /// Asks the gates of the present stage, and does what they say. Whether the task has changed.
    pub(super) async fn evaluate(&self, task: &Versioned<Task>) -> Result<bool, StoreError> {
        let (record, now) = (&task.record, self.clock.now());
        let place = usize::from(record.stage);
        let (Some(stage), Some(run)) = (record.definition.stages.get(place), record.stages.get(place)) else {
            return Ok(false);
        };
        let (counts, moved) = stage_counts(&*self.store, record, record.stage).await?;
        let mut earlier_failures = false;
        for earlier in 0..record.stage {
            earlier_failures |= stage_counts(&*self.store, record, earlier).await?.0.lost() > 0;
        }
        let last = place.saturating_add(1) == record.definition.stages.len();
        let mut next = record.clone();
        let running = record.state == TaskState::Running;
        let mut after = run.clone();
        if moved > after.moved {
            after.moved = moved;
            after.quiet = after.quiet.moved(moved);
        }
        if stage.gates.stall.is_some() {
            after.quiet = after.quiet.counting(running && self.in_window(record, now), now);
        }
        let evaluation = stage.gates.evaluate(&View {
            counts: &counts,
            then: (!last).then_some(stage.then),
            joining: last
                && record.definition.membership == Membership::Continuous
                && record.definition.schedule.end.is_none_or(|end| now < end),
            earlier_failures,
            quiet: after.quiet.seconds(now),
            succeeded_at: run.succeeded_at,
            waived: &run.waived,
            now,
        });
        // Until all of it has its assignments a stage cannot be done.
        let assigned = run.assigned;
        after.succeeded_at = evaluation.succeeded_at.filter(|_| assigned);
        let mut operation = None;
        match evaluation.verdict {
            Verdict::Pause(reason) if running => {
                after.closed_by = evaluation.gate;
                operation = Some(Operation::Pause { reason });
            }
            Verdict::AwaitApproval if running && assigned => {
                after.closed_by = evaluation.gate;
                after.approval = true;
                operation = Some(Operation::Pause {
                    reason: PauseReason::StageGate,
                });
            }
            Verdict::Abort { criterion, force } => {
                operation = Some(Operation::Abort { criterion });
                next.withdrawal = Some(super::Withdrawal { force });
            }
            Verdict::NextStage if running && assigned => next.stage = next.stage.saturating_add(1),
            Verdict::Complete { failures } if assigned => operation = Some(Operation::Finish { failures }),
            Verdict::Alert if run.closed_by.is_none() => {
                tracing::warn!(task = %Task::key(record.id), stage = record.stage, "nothing moves");
                after.closed_by = evaluation.gate;
            }
            _ => {}
        }
        if let Some(run) = next.stages.get_mut(place) {
            *run = after;
        }
        if let Some(operation) = operation
            && let Ok(Some(state)) = record.state.after(operation)
        {
            next.state = state;
            if state.is_final() {
                next.ended = Some(now);
            }
        }
        if next == *record {
            return Ok(false);
        }
        self.save(task.version, &next, Some(record)).await?;
        Ok(next.stage != record.stage)
    }

    /// Whether a window of the task is open, by the clock of universal time where it goes by each terminal's.
    fn in_window(&self, task: &Task, now: u64) -> bool {
        let windows = &task.definition.windows;
        let mut all = [&windows.download, &windows.install].into_iter().flatten().peekable();
        all.peek().is_none() || all.any(|window| window.open_at(now, &Zone::UTC).is_some())
    }
}
