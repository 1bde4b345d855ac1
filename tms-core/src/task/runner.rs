//! The runner: what happens to tasks without an operator or a terminal.

use super::ledger::Ledger;
use super::record::{Member, Task, Withdrawal};
use super::withdraw::withdraw;
use crate::clock::Clock;
use crate::custody::SecretKeeper;
use crate::entropy::Entropy;
use crate::estate::{Parameters, read};
use crate::rule::task::definition::Membership;
use crate::rule::task::stage::late_comer;
use crate::rule::task::{Operation, Slot, State, TaskState};
use crate::store::{Change, Document, Entity, Event, EventKind, Expect, Query, Record, Store, StoreError, Versioned};
use std::pin::Pin;
use std::sync::Arc;

/// How many records are read, and how many terminals are changed, at a time.
pub(super) const PAGE: usize = 256;

/// How often something is decided again after a conflict.
const ATTEMPTS: usize = 16;

/// Carries tasks on: builds them, begins their stages, asks their gates, and sees to what time brings.
///
/// Any number of runners may share a store: what two do at once, one of them does. All is done in small commits, and a
/// runner that is killed is gone on with by the next.
#[derive(Clone)]
pub struct Runner {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) parameters: Parameters,
}

impl Runner {
    /// A runner on a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let parameters = Parameters::new(Arc::clone(&store), None);
        Self {
            store,
            clock,
            entropy,
            parameters,
        }
    }

    /// The runner with a keeper of secret parameters: without one, sets with secrets in them fail.
    #[must_use]
    pub fn with_secrets(mut self, keeper: Arc<dyn SecretKeeper>) -> Self {
        self.parameters = Parameters::new(Arc::clone(&self.store), Some(keeper));
        self
    }

    /// Does what there is to do now, a batch of it for each task: to be called again at once while it says that there is
    /// more, and every few seconds otherwise.
    ///
    /// # Errors
    /// Those of the store. What is done is done; the rest is done by the next call.
    pub async fn advance(&self) -> Result<bool, StoreError> {
        let mut more = false;
        for task in self.active().await? {
            match self.task(&task.id()).await {
                Ok(again) => more |= again,
                // Another runner, or an operator, was faster.
                Err(StoreError::Conflict) => more = true,
                Err(error) => return Err(error),
            }
        }
        more |= self.due().await?;
        Ok(more)
    }

    async fn active(&self) -> Result<Vec<Task>, StoreError> {
        let query = Query::Marked {
            kind: Task::KIND,
            mark: "active".to_owned(),
            prefix: String::new(),
            after: None,
        };
        self.documents(&query).await
    }

    async fn task(&self, id: &str) -> Result<bool, StoreError> {
        let Some(task) = read::<Task>(&*self.store, id).await? else {
            return Ok(false);
        };
        let now = self.clock.now();
        if let Some(withdrawal) = task.record.withdrawal {
            return self.withdraw(&task, withdrawal.force).await;
        }
        match task.record.state {
            TaskState::Building => {
                self.build(&task).await?;
                Ok(true)
            }
            TaskState::Scheduled => {
                if task
                    .record
                    .definition
                    .schedule
                    .not_before
                    .is_some_and(|begin| now < begin)
                {
                    return Ok(false);
                }
                self.go(&task, Operation::Start).await?;
                Ok(true)
            }
            TaskState::Running if self.is_over(&task.record, now) => self.end(&task).await,
            TaskState::Running => {
                if self.replace(&task).await? || self.assign(&task).await? {
                    return Ok(true);
                }
                let Some(task) = read::<Task>(&*self.store, id).await? else {
                    return Ok(false);
                };
                let more = self.take_in(&task).await?;
                // Events come all the time: the gates do not wait for an end of them.
                let Some(task) = read::<Task>(&*self.store, id).await? else {
                    return Ok(false);
                };
                Ok(self.evaluate(&task).await? || more)
            }
            TaskState::Paused { .. } if self.is_over(&task.record, now) => self.end(&task).await,
            TaskState::Paused { .. } => self.evaluate(&task).await,
            TaskState::Stopping => self.stopped(&task).await,
            _ => Ok(false),
        }
    }

    /// All members are in their stages.
    pub(super) async fn built(&self, task: &Versioned<Task>) -> Result<(), StoreError> {
        let approval = task.record.definition.approval;
        self.go(task, Operation::Built { approval }).await
    }

    async fn go(&self, task: &Versioned<Task>, operation: Operation) -> Result<(), StoreError> {
        let Ok(Some(state)) = task.record.state.after(operation) else {
            return Ok(());
        };
        let mut next = task.record.clone();
        next.state = state;
        if operation == Operation::Start {
            next.started = Some(self.clock.now());
        }
        if state.is_final() {
            next.ended = Some(self.clock.now());
        }
        self.save(task.version, &next, Some(&task.record)).await
    }

    /// Writes a task; with `before` also the event that it has changed.
    pub(super) async fn save(&self, version: u64, next: &Task, before: Option<&Task>) -> Result<(), StoreError> {
        let mut changes = vec![Change::Put(Expect::Version(version), Document::of(next)?.into())];
        if before.is_some_and(|before| before.state != next.state || before.stage != next.stage) {
            changes.push(Change::Append(Event {
                time: self.clock.now(),
                terminal: None,
                actor: "server".to_owned(),
                kind: EventKind::TaskMoved {
                    task: next.id,
                    to: next.state,
                    stage: next.stage,
                },
            }));
        }
        self.store.commit(changes).await
    }

    /// Takes the place of the next task that it replaces. Whether there was one.
    async fn replace(&self, task: &Versioned<Task>) -> Result<bool, StoreError> {
        let record = &task.record;
        let Some(old) = record.definition.replaces.get(usize::from(record.replaced)) else {
            return Ok(false);
        };
        if let Some(old) = read::<Task>(&*self.store, &Task::key(*old)).await?
            && let Ok(Some(state)) = old.record.state.after(Operation::Supersede)
        {
            let next = Task {
                state,
                superseded_by: Some(record.id),
                withdrawal: Some(Withdrawal { force: false }),
                ended: Some(self.clock.now()),
                ..old.record.clone()
            };
            self.save(old.version, &next, Some(&old.record)).await?;
        }
        let mut next = record.clone();
        next.replaced = next.replaced.saturating_add(1);
        self.save(task.version, &next, None).await?;
        Ok(true)
    }

    /// Terminals that came to the estate meanwhile join the last stage. Whether there is more to do at once.
    async fn take_in(&self, task: &Versioned<Task>) -> Result<bool, StoreError> {
        let record = &task.record;
        if record.definition.membership == Membership::Snapshot {
            return Ok(false);
        }
        let Some(stage) = late_comer(&record.definition.stages) else {
            return Ok(false);
        };
        let Some(joined) = self.join(task, stage).await? else {
            return Ok(false);
        };
        let mut next = record.clone();
        next.joined = joined.through;
        if let Some(run) = next.stages.get_mut(usize::from(stage)).filter(|_| joined.any) {
            // They may come before those that are there already.
            (run.assigned, run.cursor) = (false, None);
        }
        self.save(task.version, &next, None).await?;
        Ok(joined.any || joined.more)
    }

    fn is_over(&self, task: &Task, now: u64) -> bool {
        task.definition.schedule.end.is_some_and(|end| end <= now)
    }

    /// Its time is over: what is not at an end has timed out, and what the stages that never began would have done is
    /// withdrawn.
    async fn end(&self, task: &Versioned<Task>) -> Result<bool, StoreError> {
        if self.sweep(&task.record, Sweep::Close).await? {
            return Ok(true);
        }
        let failures = true;
        self.go(task, Operation::Finish { failures }).await?;
        Ok(false)
    }

    /// Withdraws what was given out, some at a time.
    async fn withdraw(&self, task: &Versioned<Task>, force: bool) -> Result<bool, StoreError> {
        let by = task.record.superseded_by;
        if self.sweep(&task.record, Sweep::Withdraw { force, by }).await? {
            return Ok(true);
        }
        let mut next = task.record.clone();
        next.withdrawal = None;
        self.save(task.version, &next, None).await?;
        Ok(true)
    }

    /// A task that was stopped has stopped when nothing of it is open.
    async fn stopped(&self, task: &Versioned<Task>) -> Result<bool, StoreError> {
        for stage in 0..=task.record.stage {
            if super::offer::stage_counts(&*self.store, &task.record, stage)
                .await?
                .0
                .open()
                > 0
            {
                return Ok(false);
            }
        }
        self.go(task, Operation::Stopped).await?;
        Ok(false)
    }

    /// Takes some members on that are to be withdrawn or closed. Whether there were any.
    async fn sweep(&self, task: &Task, sweep: Sweep) -> Result<bool, StoreError> {
        let stages = u16::try_from(task.definition.stages.len()).unwrap_or(u16::MAX);
        let mut any = false;
        for stage in 0..stages {
            for slot in Slot::all().filter(|slot| sweep.concerns(*slot)) {
                let prefix = Member::mark(task.id, Some(stage), Some(slot));
                let mut after = None;
                loop {
                    let query = Query::Marked {
                        kind: Member::KIND,
                        mark: "place".to_owned(),
                        prefix: prefix.clone(),
                        after: after.take(),
                    };
                    let page = self.documents::<Member>(&query).await?;
                    let whole = page.len() == PAGE;
                    after = page.last().map(|member| (prefix.clone(), member.id()));
                    for member in page {
                        any |= self.sweep_one(&member, sweep).await?;
                    }
                    if !whole {
                        break;
                    }
                }
            }
        }
        Ok(any)
    }

    async fn sweep_one(&self, member: &Member, sweep: Sweep) -> Result<bool, StoreError> {
        let now = self.clock.now();
        self.with_retry(|| {
            Box::pin(async {
                let (mut ledger, mut changes) = (Ledger::new(&*self.store, now), Vec::new());
                let Some(member) = ledger.member(&member.id()).await? else {
                    return Ok(changes);
                };
                match sweep {
                    Sweep::Withdraw { force, by } if Task::withdraws(member.state, force) => {
                        withdraw(&*self.store, member, (force, by), now, &mut ledger, &mut changes).await?;
                    }
                    Sweep::Close if member.state == State::Pending && member.steps.is_empty() => {
                        let member = Member { due: None, ..member };
                        ledger.put(member, State::Cancelled { forced: false }).await?;
                    }
                    Sweep::Close if member.retry => {
                        let failed = member.whole().unwrap_or(member.state);
                        let member = Member {
                            due: None,
                            retry: false,
                            ..member
                        };
                        ledger.put(member, failed).await?;
                    }
                    Sweep::Close if !member.state.is_final() => {
                        self.time_out(&member, now, &mut ledger, &mut changes).await?;
                    }
                    _ => {}
                }
                changes.extend(ledger.changes()?);
                Ok(changes)
            })
        })
        .await
    }

    pub(super) async fn documents<E: Entity>(&self, query: &Query) -> Result<Vec<E>, StoreError> {
        let page = self.store.list(query, u32::try_from(PAGE).unwrap_or(u32::MAX)).await?;
        let documents = page.into_iter().filter_map(|found| match found.record {
            Record::Document(document) => Some(document),
            _ => None,
        });
        documents.map(|document: Box<Document>| document.read()).collect()
    }

    /// Commits what `decide` gives, decided again where somebody else was faster. Whether there was anything to do.
    pub(super) async fn with_retry<'a>(&self, decide: impl Fn() -> Deciding<'a> + Send) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let changes = decide().await?;
            if changes.is_empty() {
                return Ok(false);
            }
            match self.store.commit(changes).await {
                Err(StoreError::Conflict) => {}
                done => return done.map(|()| true),
            }
        }
        Err(StoreError::Conflict)
    }

    pub(super) fn chance(&self) -> u64 {
        let mut chance = [0; 8];
        self.entropy.fill(&mut chance);
        u64::from_be_bytes(chance)
    }
}

/// What a commit is to write, being decided.
pub(super) type Deciding<'a> = Pin<Box<dyn Future<Output = Result<Vec<Change>, StoreError>> + Send + 'a>>;

/// What is done with many members.
#[derive(Clone, Copy)]
enum Sweep {
    /// They are withdrawn.
    Withdraw {
        /// Without asking.
        force: bool,
        /// The task that takes their place.
        by: Option<u64>,
    },
    /// They have timed out.
    Close,
}

impl Sweep {
    const fn concerns(self, slot: Slot) -> bool {
        match slot {
            Slot::Pending | Slot::Offered | Slot::Downloading | Slot::Downloaded | Slot::Waiting => true,
            Slot::Installing | Slot::Restarting | Slot::Trial => {
                matches!(self, Self::Close | Self::Withdraw { force: true, .. })
            }
            _ => false,
        }
    }
}
