//! Tasks: what operators do with them.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::within;
use super::release::demand_released;
use super::{ATTEMPTS, Estate, EstateError};
use crate::rule::task::{Counts, Definition, Operation, PauseReason, Slot, Work};
use crate::server::contact::ClassPolicy;
use crate::store::{
    BranchPath, Change, Document, Entity, Event, EventKind, Expect, Key, Query, StoreError, TerminalId, Versioned,
};
use crate::task::{Cell, Failures, Member, Runner, StageRun, Task, Withdrawal};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What an operator has done with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum TaskCommand {
    /// Put its terminals into stages. It may be started then, or waits for a second operator.
    Build,
    /// Say yes, as a second operator.
    Approve,
    /// Say no, as a second operator.
    Deny,
    /// Let it start by itself, at the time that its schedule says, or at once.
    Schedule,
    /// Start it now.
    Start,
    /// Offer nothing new. What was offered goes on.
    Pause,
    /// Go on, in spite of the gate that has paused it. After a stage that asks for approval it takes another operator
    /// than the author.
    Resume,
    /// End it, and take back what was offered.
    Stop {
        /// Close all at once, rather than ask the terminals.
        force: bool,
    },
    /// Remove it, with all that is known of its terminals.
    Delete,
}

/// What a task's terminals stand at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// The task.
    pub task: Task,
    /// By stage.
    pub stages: Vec<StageProgress>,
    /// As of when, in seconds since 1970 UTC: now. The counts are those of the last change.
    pub as_of: u64,
}

/// What the terminals of a stage stand at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageProgress {
    /// Its name.
    pub name: String,
    /// The counts.
    pub counts: Counts,
    /// *N*: all that it has to bring to an end.
    pub total: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
}

impl TaskCommand {
    const fn operation(self) -> Operation {
        match self {
            Self::Build => Operation::Build,
            Self::Approve => Operation::Approve,
            Self::Deny => Operation::Deny,
            Self::Schedule => Operation::Schedule,
            Self::Start => Operation::Start,
            Self::Pause => Operation::Pause {
                reason: PauseReason::Operator,
            },
            Self::Resume => Operation::Resume,
            Self::Stop { .. } => Operation::Stop,
            Self::Delete => Operation::Delete,
        }
    }

    const fn act(self) -> &'static str {
        match self {
            Self::Build => "task.build",
            Self::Approve => "task.approve",
            Self::Deny => "task.deny",
            Self::Schedule => "task.schedule",
            Self::Start => "task.start",
            Self::Pause => "task.pause",
            Self::Resume => "task.resume",
            Self::Stop { .. } => "task.stop",
            Self::Delete => "task.delete",
        }
    }
}

impl Estate {
    /// Writes a task for terminals of `branch` and those below it. It is a draft: nothing happens before it is built and
    /// started.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Task`] where the definition cannot be carried out;
    /// [`EstateError::Unknown`] where the branch is not there; [`EstateError::UnknownPackage`].
    pub async fn create_task(
        &self,
        actor: &Actor,
        branch: &BranchPath,
        definition: Definition,
    ) -> Result<Task, EstateError> {
        actor.demand(Permission::Plan, branch)?;
        self.demand_branch(branch).await?;
        self.check_definition(actor, branch, &definition).await?;
        let now = self.clock.now();
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        let [low, salt] = [0, 8].map(|from| {
            let bytes = random.iter().skip(from).take(8);
            bytes.fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))
        });
        let task = Task {
            // Later tasks have greater ids; two of one second differ by chance.
            id: (now << 24) | (low & 0xFF_FFFF),
            branch: branch.clone(),
            state: crate::rule::task::TaskState::Draft,
            author: actor.name().to_owned(),
            approved_by: None,
            created: now,
            started: None,
            ended: None,
            salt,
            stage: 0,
            stages: definition.stages.iter().map(|_| StageRun::default()).collect(),
            withdrawal: None,
            replaced: 0,
            superseded_by: None,
            joined: 0,
            definition,
        };
        let deed = deed("task.create", &task, json!({ "definition": task.definition }));
        let change = Change::Put(Expect::Absent, Document::of(&task)?.into());
        self.commit(actor, &deed, vec![change]).await?;
        Ok(task)
    }

    /// Rewrites a draft, or a task that was denied. `version` is that of the task as the actor has seen it.
    ///
    /// # Errors
    /// Those of [`create_task`](Self::create_task); [`EstateError::NotAllowed`]; [`StoreError::Conflict`] where the
    /// task has changed since.
    pub async fn edit_task(
        &self,
        actor: &Actor,
        id: u64,
        version: u64,
        definition: Definition,
    ) -> Result<Task, EstateError> {
        let found = self.demand_task(actor, Permission::Plan, id).await?;
        let mut task = found.record;
        self.check_definition(actor, &task.branch, &definition).await?;
        if let Some(state) = task.state.after(Operation::Edit)? {
            task.state = state;
        }
        task.stages = definition.stages.iter().map(|_| StageRun::default()).collect();
        task.definition = definition;
        let deed = deed("task.edit", &task, json!({ "definition": task.definition }));
        let change = Change::Put(Expect::Version(version), Document::of(&task)?.into());
        self.commit(actor, &deed, vec![change]).await?;
        Ok(task)
    }

    /// Does something with a task, where its state allows it. What follows for terminals is done by the
    /// [`Runner`].
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::NotAllowed`] where its state does not allow
    /// that; [`EstateError::SecondOperator`] where it takes another than the author.
    pub async fn command_task(&self, actor: &Actor, id: u64, command: TaskCommand) -> Result<Task, EstateError> {
        for _ in 0..ATTEMPTS {
            let Versioned {
                version,
                record: before,
            } = self.demand_task(actor, Permission::Plan, id).await?;
            let next = before.state.after(command.operation())?;
            let deed = deed(command.act(), &before, json!(command));
            let Some(state) = next else {
                let remove = Change::Remove(Expect::Version(version), Key::Document(Task::KIND, before.id()));
                match self.commit(actor, &deed, vec![remove]).await {
                    Err(StoreError::Conflict) => continue,
                    done => done?,
                }
                self.runner().clear(id).await?;
                return Ok(before);
            };
            let mut task = before.clone();
            task.state = state;
            self.apply(actor, &mut task, command)?;
            let mut changes = vec![Change::Put(Expect::Version(version), Document::of(&task)?.into())];
            if task.state != before.state {
                changes.push(Change::Append(Event {
                    time: self.clock.now(),
                    terminal: None,
                    actor: actor.name().to_owned(),
                    kind: EventKind::TaskMoved {
                        task: id,
                        to: task.state,
                        stage: task.stage,
                    },
                }));
            }
            match self.commit(actor, &deed, changes).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|()| task)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What a command changes besides the state.
    fn apply(&self, actor: &Actor, task: &mut Task, command: TaskCommand) -> Result<(), EstateError> {
        let now = self.clock.now();
        let is_author = actor.name() == task.author;
        match command {
            TaskCommand::Approve if is_author => return Err(EstateError::SecondOperator),
            TaskCommand::Approve => task.approved_by = Some(actor.name().to_owned()),
            TaskCommand::Start => task.started = Some(now),
            TaskCommand::Resume => {
                if let Some(run) = task.stages.get_mut(usize::from(task.stage)) {
                    if run.approval && is_author {
                        return Err(EstateError::SecondOperator);
                    }
                    run.approval = false;
                    run.waived.extend(run.closed_by.take());
                }
            }
            TaskCommand::Stop { force } => task.withdrawal = Some(Withdrawal { force }),
            _ => {}
        }
        if task.state.is_final() {
            task.ended = Some(now);
        }
        Ok(())
    }

    /// A task, with its version.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none that the actor may see.
    pub async fn task(&self, actor: &Actor, id: u64) -> Result<Versioned<Task>, EstateError> {
        self.demand_task(actor, Permission::View, id).await
    }

    /// The tasks of `under` and the branches below it, as far as the actor may see them: by branch, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn tasks(&self, actor: &Actor, under: &BranchPath, limit: u32) -> Result<Vec<Task>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: Task::KIND,
                mark: "branch".to_owned(),
                prefix: scope.to_string(),
                after: None,
            };
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.documents::<Task>(&query, left).await?);
        }
        Ok(found)
    }

    /// How far a task is, by its counters: no terminal is looked at.
    ///
    /// # Errors
    /// [`EstateError::Unknown`].
    pub async fn task_progress(&self, actor: &Actor, id: u64) -> Result<TaskProgress, EstateError> {
        let task = self.task(actor, id).await?.record;
        let mut stages = Vec::with_capacity(task.stages.len());
        for (stage, number) in task.definition.stages.iter().zip(0_u16..) {
            let query = Query::Documents {
                kind: Cell::KIND,
                prefix: Member::mark(id, Some(number), None),
                after: None,
            };
            let mut counts = Counts::default();
            for cell in self.documents::<Cell>(&query, 256).await? {
                counts.merge(&cell.counts);
            }
            stages.push(StageProgress {
                name: stage.name.clone(),
                total: counts.total(),
                succeeded: counts.succeeded(),
                failed: counts.failed(&[]),
                counts,
            });
        }
        Ok(TaskProgress {
            task,
            stages,
            as_of: self.clock.now(),
        })
    }

    /// The terminals of a task in a stage and a slot, by id, after one of them: as far as the actor may see them.
    ///
    /// # Errors
    /// [`EstateError::Unknown`].
    pub async fn task_members(
        &self,
        actor: &Actor,
        id: u64,
        (stage, slot): (u16, Slot),
        after: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<Member>, EstateError> {
        self.task(actor, id).await?;
        let prefix = Member::mark(id, Some(stage), Some(slot));
        let query = Query::Marked {
            kind: Member::KIND,
            mark: "place".to_owned(),
            after: after.map(|terminal| (prefix.clone(), Member::key(id, terminal))),
            prefix,
        };
        let mut page = self.documents::<Member>(&query, limit).await?;
        page.retain(|member| actor.may(Permission::View, &member.branch));
        Ok(page)
    }

    /// The tasks in which a terminal is, with what it stands at in each.
    ///
    /// # Errors
    /// [`EstateError::Denied`].
    pub async fn tasks_of(&self, actor: &Actor, terminal: TerminalId, limit: u32) -> Result<Vec<Member>, EstateError> {
        let branch = self.branch_of(terminal).await?;
        actor.demand(Permission::View, &branch)?;
        let query = Query::Marked {
            kind: Member::KIND,
            mark: "terminal".to_owned(),
            prefix: terminal.to_string(),
            after: None,
        };
        Ok(self.documents(&query, limit).await?)
    }

    /// The releases that are kept from terminals because they failed there again and again, under `under`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn kept_away(&self, actor: &Actor, under: &BranchPath, limit: u32) -> Result<Vec<Failures>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: Failures::KIND,
                mark: "open".to_owned(),
                prefix: scope.to_string(),
                after: None,
            };
            found.extend(self.documents::<Failures>(&query, limit).await?);
        }
        let now = self.clock.now();
        found.retain(|failures| failures.breaker.is_open(now));
        Ok(found)
    }

    /// Lets a release be tried again on a terminal from which it is kept.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`].
    pub async fn clear_failures(&self, actor: &Actor, id: &str) -> Result<(), EstateError> {
        let Some(found) = self.versioned::<Failures>(id).await? else {
            return Err(EstateError::Unknown("failures", id.to_owned()));
        };
        actor.demand(Permission::Plan, &found.record.branch)?;
        let deed = Deed {
            act: "failures.clear",
            subject: id.to_owned(),
            branch: found.record.branch.clone(),
            detail: json!(found.record.breaker),
        };
        let mut changes = vec![Change::Remove(
            Expect::Version(found.version),
            Key::Document(Failures::KIND, id.to_owned()),
        )];
        // Whoever waits for the end of the rest need not.
        for member in self.tasks_of(actor, found.record.terminal, 256).await? {
            if let Some(Versioned { version, mut record }) = self.versioned::<Member>(&member.id()).await?
                && record.steps.is_empty()
                && record.due.is_some()
            {
                record.due = Some(self.clock.now());
                changes.push(Change::Put(Expect::Version(version), Document::of(&record)?.into()));
            }
        }
        Ok(self.commit(actor, &deed, changes).await?)
    }

    async fn demand_task(
        &self,
        actor: &Actor,
        permission: Permission,
        id: u64,
    ) -> Result<Versioned<Task>, EstateError> {
        let unknown = || EstateError::Unknown("task", Task::key(id));
        let found = self.versioned::<Task>(&Task::key(id)).await?.ok_or_else(unknown)?;
        // What an actor may not see is as if it were not there.
        if !actor.may(Permission::View, &found.record.branch) {
            return Err(unknown());
        }
        actor.demand(permission, &found.record.branch)?;
        Ok(found)
    }

    async fn check_definition(
        &self,
        actor: &Actor,
        branch: &BranchPath,
        definition: &Definition,
    ) -> Result<(), EstateError> {
        definition.check()?;
        for replaced in &definition.replaces {
            self.demand_task(actor, Permission::Plan, *replaced).await?;
        }
        for action in &definition.actions {
            match &action.work {
                Work::Install { manifest } | Work::Download { manifest } => {
                    demand_released(&self.package(manifest).await?.record)?;
                }
                Work::Parameters { template, version } => {
                    self.parameters().template(template, Some(*version)).await?;
                }
                Work::CheckInPolicy { policy } => {
                    if self.versioned::<ClassPolicy>(policy).await?.is_none() {
                        return Err(EstateError::Unknown("check-in policy", policy.clone()));
                    }
                }
                Work::Text { text } => self.demand_text(*text, branch).await?,
                Work::Remove { .. } | Work::Restart | Work::Register | Work::CollectLogs => {}
            }
        }
        Ok(())
    }

    /// What carries the tasks of this estate on.
    #[must_use]
    pub fn runner(&self) -> Runner {
        let runner = Runner::new(self.store.clone(), self.clock.clone(), self.entropy.clone());
        match &self.secrets {
            Some(keeper) => runner.with_secrets(keeper.clone()),
            None => runner,
        }
    }
}

fn deed(act: &'static str, task: &Task, detail: serde_json::Value) -> Deed {
    Deed {
        act,
        subject: task.id(),
        branch: task.branch.clone(),
        detail,
    }
}
