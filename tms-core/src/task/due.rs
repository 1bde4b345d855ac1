//! What happens to members because time goes by: time-outs, retries, the end of a trial.

use super::assign::{Assigning, Resolved};
use super::ledger::Ledger;
use super::record::{Failures, Member, MemberStep, Task};
use super::runner::Runner;
use super::withdraw::assignment;
use crate::estate::read;
use crate::rule::task::assignment::{Event as Move, State};
use crate::rule::task::{Breaker, TaskState};
use crate::store::{
    ActionId, Assignment, Caller, Change, CheckIn, Document, Entity, Expect, Key, Order, Query, Step, StoreError,
    Terminal, Versioned,
};

impl Runner {
    /// Looks at the members that are due. Whether there were any.
    pub(super) async fn due(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let query = Query::Marked {
            kind: Member::KIND,
            mark: "due".to_owned(),
            prefix: String::new(),
            after: None,
        };
        let page = self.documents::<Member>(&query).await?;
        let mut any = false;
        for member in page {
            // They come in the order of their time.
            if member.due.is_none_or(|due| due > now) {
                break;
            }
            any = true;
            self.with_retry(|| {
                Box::pin(async {
                    let mut ledger = Ledger::new(&*self.store, now);
                    let mut changes = Vec::new();
                    if let Some(member) = ledger.member(&member.id()).await? {
                        self.look(member, now, &mut ledger, &mut changes).await?;
                    }
                    changes.extend(ledger.changes()?);
                    Ok(changes)
                })
            })
            .await?;
        }
        Ok(any)
    }

    async fn look(
        &self,
        mut member: Member,
        now: u64,
        ledger: &mut Ledger<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        if member.due.is_none_or(|due| due > now) {
            return Ok(());
        }
        let state = member.state;
        let task = read::<Task>(&*self.store, &Task::key(member.task)).await?;
        let Some(task) = task.map(|found| found.record) else {
            member.due = None;
            return ledger.put(member, state).await;
        };
        member.due = None;
        if state == State::Pending && member.steps.is_empty() {
            // A release was kept from the terminal, for so long.
            if task.state.offers() {
                return Assigning::new(&*self.store, &self.parameters, &task, now)
                    .assign(member, ledger, changes)
                    .await;
            }
            member.due = Some(now.saturating_add(60)).filter(|_| !task.state.is_final());
            return ledger.put(member, state).await;
        }
        if member.floor {
            return self.go_on(member, &task, now, ledger, changes).await;
        }
        if member.retry {
            return self.retry(member, &task, now, ledger, changes).await;
        }
        match member.whole() {
            Some(failed) if failed.failure().is_some() => {
                self.failed(member, failed, &task, now, ledger, changes).await
            }
            Some(open) if open.is_in_flight() => {
                ledger.put(member.clone(), state).await?;
                self.time_out(&member, now, ledger, changes).await
            }
            _ => ledger.put(member, state).await,
        }
    }

    /// Nothing was heard for too long, or a confirmed version has run for long enough.
    pub(super) async fn time_out(
        &self,
        member: &Member,
        now: u64,
        ledger: &mut Ledger<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        for id in member.steps.iter().filter_map(|step| step.action) {
            let key = Key::Assignment(member.terminal, id);
            let Some(Versioned { version, record }) = assignment(&*self.store, key).await? else {
                continue;
            };
            let event = match record.standing.state {
                State::Trial { confirmed: true } => Move::Held,
                _ => Move::TimeOut,
            };
            if let Ok(after) = record.after(event, now) {
                ledger.moved(&after).await?;
                changes.push(Change::Put(Expect::Version(version), after.into()));
            }
        }
        Ok(())
    }

    /// An attempt has failed: whether and when there is another is decided, and the failure is counted against the release.
    async fn failed(
        &self,
        mut member: Member,
        failed: State,
        task: &Task,
        now: u64,
        ledger: &mut Ledger<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let mut attempt = 1;
        for step in member.steps.iter().filter(|step| step.state.failure().is_some()) {
            let Some(action) = step.action else { continue };
            let Some(found) = assignment(&*self.store, Key::Assignment(member.terminal, action)).await? else {
                continue;
            };
            attempt = found.record.standing.attempt;
            if let Some(package) = found.record.order.package() {
                changes.push(self.count_failure(&member, task, package.manifest, now).await?);
            }
            break;
        }
        let class = failed.failure().filter(|_| !task.state.is_final());
        let wait = class.and_then(|class| task.definition.retries.next(class, attempt, self.chance()));
        member.due = wait.map(|wait| now.saturating_add(wait));
        member.retry = wait.is_some();
        let state = if member.retry { State::Pending } else { failed };
        ledger.put(member, state).await
    }

    async fn count_failure(
        &self,
        member: &Member,
        task: &Task,
        manifest: tms_proto::digest::Digest,
        now: u64,
    ) -> Result<Change, StoreError> {
        let found = read::<Failures>(&*self.store, &Failures::key(member.terminal, &manifest)).await?;
        let (expect, breaker) = match found {
            Some(found) => (Expect::Version(found.version), found.record.breaker),
            None => (Expect::Absent, Breaker::default()),
        };
        let failures = Failures {
            terminal: member.terminal,
            manifest,
            branch: member.branch.clone(),
            breaker: breaker.failed(&task.definition.breaker, now),
        };
        Ok(Change::Put(expect, Document::of(&failures)?.into()))
    }

    /// Another attempt: new actions for what has failed, and for what could not be done because of that.
    async fn retry(
        &self,
        mut member: Member,
        task: &Task,
        now: u64,
        ledger: &mut Ledger<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let state = member.state;
        if task.state.is_final() {
            member.retry = false;
            let failed = member.whole().unwrap_or(state);
            return ledger.put(member, failed).await;
        }
        if !task.state.offers() {
            // It waits for as long as the task does.
            member.due = Some(now.saturating_add(60));
            return ledger.put(member, state).await;
        }
        let Some(known) = self.store.check_in(&Caller::Id(member.terminal)).await? else {
            return ledger.put(member, State::TerminalRemoved).await;
        };
        let mut terminal = known.terminal.record.clone();
        let mut renewed: Vec<(ActionId, ActionId)> = Vec::new();
        for place in 0..member.steps.len() {
            let Some(step) = member.steps.get(place).copied() else {
                continue;
            };
            let (Some(old), true) = (step.action, step.state.failure().is_some()) else {
                continue;
            };
            let key = Key::Assignment(member.terminal, old);
            let Some(Versioned { version, record }) = assignment(&*self.store, key).await? else {
                continue;
            };
            if let Some(package) = record.order.package()
                && let Some(until) = self.open_until(&member, package.manifest, now).await?
            {
                member.due = Some(until);
                return ledger.put(member, state).await;
            }
            terminal.last_action = terminal.last_action.saturating_add(1);
            let id = ActionId(terminal.last_action);
            let mut next = follower(&record, id, record.order.clone(), now, &mut renewed);
            next.whole = record.whole;
            next.standing.attempt = record.standing.attempt.saturating_add(1);
            let mut replaced = record;
            replaced.replaced_by = Some(id);
            changes.push(Change::Put(Expect::Version(version), replaced.into()));
            changes.push(Change::Put(Expect::Absent, next.into()));
            if let Some(step) = member.steps.get_mut(place) {
                *step = MemberStep::given(id);
            }
        }
        changes.extend(renewal(&known, terminal, &member, &renewed));
        (member.retry, member.due, member.offered) = (false, None, None);
        let state = member.whole().unwrap_or(State::Pending);
        ledger.put(member, state).await
    }

    /// A release that must not be skipped runs: the next of them, or the target.
    async fn go_on(
        &self,
        mut member: Member,
        task: &Task,
        now: u64,
        ledger: &mut Ledger<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let state = member.state;
        if matches!(task.state, TaskState::Paused { .. }) {
            // It waits for as long as the task does.
            member.due = Some(now.saturating_add(60));
            return ledger.put(member, state).await;
        }
        let Some(known) = self.store.check_in(&Caller::Id(member.terminal)).await? else {
            return ledger.put(member, State::TerminalRemoved).await;
        };
        let mut assigning = Assigning::new(&*self.store, &self.parameters, task, now);
        let inventory = assigning.inventory(&known).await?;
        let mut terminal = known.terminal.record.clone();
        let mut renewed: Vec<(ActionId, ActionId)> = Vec::new();
        for place in 0..member.steps.len() {
            let action = task.definition.actions.get(place);
            let step = member.steps.get(place).and_then(|step| step.action);
            let (Some(action), Some(old)) = (action, step) else {
                continue;
            };
            let Some(Versioned { record, .. }) =
                assignment(&*self.store, Key::Assignment(member.terminal, old)).await?
            else {
                continue;
            };
            let reached = record.step.and_then(|step| step.floor);
            if reached.is_none() || record.standing.state != State::Succeeded {
                continue;
            }
            let resolved = if task.state.offers() {
                assigning.resolve(action, &known, inventory.as_ref(), reached).await?
            } else {
                Resolved::State(State::Cancelled { forced: false })
            };
            let next = match resolved.order(&mut member) {
                Err(done) => done,
                Ok((order, floor)) => {
                    terminal.last_action = terminal.last_action.saturating_add(1);
                    let id = ActionId(terminal.last_action);
                    let mut next = follower(&record, id, order, now, &mut renewed);
                    next.step = record.step.map(|step| Step { floor, ..step });
                    changes.push(Change::Put(Expect::Absent, next.into()));
                    MemberStep::given(id)
                }
            };
            if let Some(step) = member.steps.get_mut(place) {
                *step = next;
            }
        }
        changes.extend(renewal(&known, terminal, &member, &renewed));
        (member.floor, member.due, member.offered) = (false, None, None);
        let state = member.whole().unwrap_or(State::NotApplicable);
        ledger.put(member, state).await
    }

    async fn open_until(
        &self,
        member: &Member,
        manifest: tms_proto::digest::Digest,
        now: u64,
    ) -> Result<Option<u64>, StoreError> {
        let failures = read::<Failures>(&*self.store, &Failures::key(member.terminal, &manifest)).await?;
        let breaker = failures.map(|found| found.record.breaker);
        Ok(breaker
            .filter(|breaker| breaker.is_open(now))
            .and_then(|breaker| breaker.open_until))
    }
}

/// The assignment that comes after another in the same place of a task.
fn follower(
    before: &Assignment,
    id: ActionId,
    order: Order,
    now: u64,
    renewed: &mut Vec<(ActionId, ActionId)>,
) -> Assignment {
    renewed.push((before.action, id));
    let mut next = Assignment::new(before.terminal, id, order, now, &before.actor);
    next.terms = before.terms.clone();
    next.terms.depends_on = renew(&next.terms.depends_on, renewed);
    next.step = before.step;
    next.standing.reported = before.standing.reported;
    next
}

/// The terminal with its new actions. What waits for one that was renewed waits for the new one.
fn renewal(known: &CheckIn, terminal: Terminal, member: &Member, renewed: &[(ActionId, ActionId)]) -> Vec<Change> {
    let mut changes = vec![Change::Put(Expect::Version(known.terminal.version), terminal.into())];
    for open in &known.assignments {
        let depends_on = renew(&open.record.terms.depends_on, renewed);
        let of_task = open.record.step.is_some_and(|step| step.task == member.task);
        if of_task && depends_on != open.record.terms.depends_on {
            let mut waiting = open.record.clone();
            waiting.terms.depends_on = depends_on;
            changes.push(Change::Put(Expect::Version(open.version), waiting.into()));
        }
    }
    changes
}

fn renew(depends_on: &[ActionId], renewed: &[(ActionId, ActionId)]) -> Vec<ActionId> {
    let new = |id: &ActionId| renewed.iter().find(|(old, _)| old == id).map_or(*id, |(_, new)| *new);
    depends_on.iter().map(new).collect()
}
