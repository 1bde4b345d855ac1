//! What is thrown away, and when: events that everybody has read, and assignments that are over.
//!
//! What is kept for ever: the audit log; each day's counts and the roster, which say of check-ins what lists and reports ask; and
//! what operators have written.

use super::consumer::Consumer;
use super::rollup::put;
use super::{Estate, EstateError, decided, list};
use crate::rule::task::definition::Membership;
use crate::store::{
    Assignment, Change, Entity, Expect, Key, Kind, Query, Record, Sequence, StoreError, TerminalId, Versioned,
};
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const DAY: u64 = 86_400;

/// The most events that are forgotten, and terminals that are looked at, in one commit.
const BATCH: u32 = 256;

/// The most assignments of a terminal that are looked at in one go.
const ASSIGNMENTS: u32 = 256;

/// For how long things are kept, in days; for ever where that is not said. At least one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Events, check-ins among them. One that a roll-up, a task or a consumer has not read is kept for longer.
    pub events: Option<u32>,
    /// Assignments, from when they were over. Those of tasks that are not over are kept.
    pub assignments: Option<u32>,
}

/// How far the terminals' assignments were looked at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Position {
    /// The last terminal.
    #[serde(default)]
    after: Option<TerminalId>,
    /// When all were looked at last, in seconds since 1970 UTC.
    #[serde(default)]
    ended: u64,
}

impl Position {
    const ID: &'static str = "assignments";
}

impl Entity for Position {
    const KIND: Kind = Kind::named("retention");

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}

impl Estate {
    /// Throws away what is older than `keep` says, of at most `limit` and at most 256 events and terminals, and gives how many were
    /// looked at. To be called from time to time, by any number of nodes, and again at once while it is not zero. Assignments
    /// are looked at once a day.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn retain(&self, keep: &Retention, limit: u32) -> Result<u32, EstateError> {
        let limit = limit.clamp(2, BATCH);
        let events = match keep.events {
            Some(days) => self.forget_events(self.before(days), limit).await?,
            None => 0,
        };
        let terminals = match keep.assignments {
            Some(days) => self.drop_assignments(self.before(days), limit).await?,
            None => 0,
        };
        Ok(events.saturating_add(terminals))
    }

    /// The time so many days ago.
    fn before(&self, days: u32) -> u64 {
        let age = u64::from(days.max(1)).saturating_mul(DAY);
        self.clock.now().saturating_sub(age)
    }

    async fn forget_events(&self, before: u64, limit: u32) -> Result<u32, EstateError> {
        let page = self.store.events(0, limit).await?;
        let old: Vec<Sequence> = page
            .iter()
            .take_while(|(_, event)| event.time < before)
            .map(|(sequence, _)| *sequence)
            .collect();
        if old.is_empty() || page.len() < 2 {
            // the newest of all is never forgotten
            return Ok(0);
        }
        let read = self.read_by_all().await?;
        let count = old.iter().take_while(|sequence| **sequence <= read).count();
        let Some(through) = count.checked_sub(1).and_then(|last| old.get(last)) else {
            return Ok(0);
        };
        self.store.commit(vec![Change::Forget(*through)]).await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The last event that everybody has read who reads them behind the check-ins.
    async fn read_by_all(&self) -> Result<Sequence, EstateError> {
        let mut read = self.as_of().await?.sequence;
        read = read.min(self.cases_as_of().await?.sequence);
        read = read.min(self.drift_as_of().await?.sequence);
        read = read.min(self.call_notices_as_of().await?.sequence);
        let mut after: Option<String> = None;
        loop {
            let consumers = self.consumers(after.as_deref(), BATCH).await?;
            let full = u32::try_from(consumers.len()).is_ok_and(|found| found >= BATCH);
            read = consumers
                .iter()
                .map(|consumer: &Consumer| consumer.acknowledged)
                .fold(read, u64::min);
            after = consumers
                .into_iter()
                .last()
                .map(|consumer| consumer.name)
                .filter(|_| full);
            if after.is_none() {
                break;
            }
        }
        for task in self.active_tasks().await? {
            if task.definition.membership != Membership::Snapshot {
                read = read.min(task.joined);
            }
        }
        Ok(read)
    }

    async fn drop_assignments(&self, before: u64, limit: u32) -> Result<u32, EstateError> {
        decided(|| async {
            let now = self.clock.now();
            let found = self.versioned::<Position>(Position::ID).await?;
            let (version, position) = match found {
                Some(found) => (Some(found.version), found.record),
                None => (None, Position::default()),
            };
            if position.after.is_none() && now < position.ended.saturating_add(DAY) {
                return Ok(0);
            }
            let page = self.store.list(&Query::Terminals(position.after), limit).await?;
            let count = u32::try_from(page.len()).unwrap_or(u32::MAX);
            let active: BTreeSet<u64> = self.active_tasks().await?.iter().map(|task| task.id).collect();
            let (mut changes, mut last) = (Vec::new(), None);
            for found in page {
                if let Record::Terminal(terminal) = found.record {
                    last = Some(terminal.id);
                    self.old_assignments(terminal.id, before, &active, &mut changes).await?;
                }
            }
            let after = last.filter(|_| count >= limit);
            let ended = if after.is_none() { now } else { position.ended };
            changes.push(put(version, &Position { after, ended })?);
            self.store.commit(changes).await?;
            Ok(count)
        })
        .await
    }

    async fn old_assignments(
        &self,
        terminal: TerminalId,
        before: u64,
        active: &BTreeSet<u64>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let query = Query::Assignments(terminal, None);
        for Versioned { version, record } in self.store.list(&query, ASSIGNMENTS).await? {
            let Record::Assignment(assignment) = record else {
                continue;
            };
            let Assignment {
                action,
                step,
                closed,
                updated,
                ..
            } = *assignment;
            let needed = step.is_some_and(|step| active.contains(&step.task));
            if closed && updated < before && !needed {
                let key = Key::Assignment(terminal, action);
                changes.push(Change::Remove(Expect::Version(version), key));
            }
        }
        Ok(())
    }

    /// The tasks that are not over.
    async fn active_tasks(&self) -> Result<Vec<Task>, StoreError> {
        let (mut tasks, mut after) = (Vec::new(), None);
        loop {
            let query = Query::Marked {
                kind: Task::KIND,
                mark: "active".to_owned(),
                prefix: String::new(),
                after: after.take(),
            };
            let page = list::<Task>(&*self.store, &query, BATCH).await?;
            let full = u32::try_from(page.len()).is_ok_and(|found| found >= BATCH);
            after = page
                .last()
                .map(|last| (String::from("y"), last.record.id()))
                .filter(|_| full);
            tasks.extend(page.into_iter().map(|found| found.record));
            if after.is_none() {
                return Ok(tasks);
            }
        }
    }
}
