//! Building: a task's terminals are found and put into its stages.

use super::ledger::Ledger;
use super::record::{Member, Task};
use super::runner::{PAGE, Runner};
use crate::rule::task::assignment::State;
use crate::rule::task::stage::split;
use crate::rule::task::{Filter, Subject};
use crate::store::{
    BranchPath, Change, Entity, Event, EventKind, Expect, Key, Query, Record, RosterEntry, RosterFilter, RosterPlace,
    StoreError, TerminalId, TerminalState, Versioned,
};
use std::collections::BTreeMap;

/// What a task may be about, as far as its filters ask.
struct Candidate {
    entry: RosterEntry,
    components: Vec<(String, String)>,
}

/// What became of a page of events.
pub(super) struct Joined {
    /// The last of them.
    pub(super) through: u64,
    /// Somebody has joined.
    pub(super) any: bool,
    /// There may be more of them.
    pub(super) more: bool,
}

impl Runner {
    /// Puts all terminals of a task into its stages. A build that was broken off is begun again from nothing.
    pub(super) async fn build(&self, task: &Versioned<Task>) -> Result<(), StoreError> {
        self.clear(task.record.id).await?;
        let record = &task.record;
        let definition = &record.definition;
        let mut candidates = Vec::new();
        for under in self.scopes(record) {
            self.candidates(record, under, &mut candidates).await?;
        }
        candidates.sort_by_key(|candidate| candidate.entry.terminal);
        candidates.dedup_by_key(|candidate| candidate.entry.terminal);
        let ids: Vec<TerminalId> = candidates.iter().map(|candidate| candidate.entry.terminal).collect();
        let stages = split(&definition.stages, record.salt, &ids, |filter, terminal| {
            let place = candidates.binary_search_by_key(&terminal, |candidate| candidate.entry.terminal);
            let found = place.ok().and_then(|place| candidates.get(place));
            found.is_some_and(|candidate| candidate.meets(filter))
        });
        // Those that are counted together are written together.
        let mut groups: BTreeMap<(u16, u8), Vec<Member>> = BTreeMap::new();
        for (candidate, stage) in candidates.into_iter().zip(stages) {
            let Some(stage) = stage else { continue };
            let member = self.member(record, candidate.entry.terminal, candidate.entry.branch, stage);
            groups.entry((stage, member.cell)).or_default().push(member);
        }
        for group in groups.into_values() {
            for members in group.chunks(PAGE) {
                let mut ledger = Ledger::new(&*self.store, self.clock.now());
                for member in members {
                    ledger.join(member.clone()).await?;
                }
                self.store.commit(ledger.changes()?).await?;
            }
        }
        self.built(task).await
    }

    /// Terminals that came to the estate since, into the last stage, as far as a page of events tells of them.
    pub(super) async fn join(&self, task: &Versioned<Task>, stage: u16) -> Result<Option<Joined>, StoreError> {
        let record = &task.record;
        let events = self
            .store
            .events(record.joined, u32::try_from(PAGE).unwrap_or(u32::MAX))
            .await?;
        let Some((last, _)) = events.last() else {
            return Ok(None);
        };
        let (through, page) = (*last, events.len());
        let mut new: Vec<TerminalId> = events
            .iter()
            .filter_map(|(_, event)| match event {
                Event {
                    terminal: Some(terminal),
                    kind: EventKind::Enrolled | EventKind::InventoryReported,
                    ..
                } => Some(*terminal),
                Event {
                    terminal: Some(terminal),
                    kind: EventKind::CheckedIn(summary),
                    ..
                } if summary.inventory => Some(*terminal),
                _ => None,
            })
            .collect();
        new.sort_unstable();
        new.dedup();
        let mut ledger = Ledger::new(&*self.store, self.clock.now());
        let mut any = false;
        for terminal in new {
            if ledger.member(&Member::key(record.id, terminal)).await?.is_some() {
                continue;
            }
            let Some(entry) = self.roster_entry(terminal).await? else {
                continue;
            };
            let candidate = self.candidate(record, entry).await?;
            let inside = self
                .scopes(record)
                .iter()
                .any(|scope| scope.covers(&candidate.entry.branch));
            if inside && candidate.meets(&record.definition.filter) {
                let member = self.member(record, terminal, candidate.entry.branch, stage);
                ledger.join(member).await?;
                any = true;
            }
        }
        self.store.commit(ledger.changes()?).await?;
        Ok(Some(Joined {
            through,
            any,
            more: page == PAGE,
        }))
    }

    fn member(&self, task: &Task, terminal: TerminalId, branch: BranchPath, stage: u16) -> Member {
        Member {
            task: task.id,
            terminal,
            branch,
            stage,
            on_failure: task.definition.on_failure,
            state: State::Pending,
            steps: Vec::new(),
            offered: None,
            moved: self.clock.now(),
            due: None,
            retry: false,
            floor: false,
            note: None,
            cell: task.cell(terminal),
            shares: Vec::new(),
        }
    }

    /// Removes all members and counts of a task.
    pub(crate) async fn clear(&self, task: u64) -> Result<(), StoreError> {
        for kind in [Member::KIND, super::Cell::KIND] {
            loop {
                let query = Query::Documents {
                    kind: kind.clone(),
                    prefix: Member::mark(task, None, None),
                    after: None,
                };
                let page = self.store.list(&query, u32::try_from(PAGE).unwrap_or(u32::MAX)).await?;
                if page.is_empty() {
                    break;
                }
                let remove = |found: Versioned<Record>| Change::Remove(Expect::Any, found.record.key());
                self.store.commit(page.into_iter().map(remove).collect()).await?;
            }
        }
        Ok(())
    }

    /// The branches below which its terminals are.
    fn scopes(&self, task: &Task) -> Vec<BranchPath> {
        let wanted = &task.definition.filter.branches;
        if wanted.is_empty() {
            return vec![task.branch.clone()];
        }
        // Of a branch above the task's own only the task's own is meant.
        let inside = wanted.iter().filter_map(|branch| match () {
            () if task.branch.covers(branch) => Some(branch.clone()),
            () if branch.covers(&task.branch) => Some(task.branch.clone()),
            () => None,
        });
        inside.collect()
    }

    async fn candidates(&self, task: &Task, under: BranchPath, found: &mut Vec<Candidate>) -> Result<(), StoreError> {
        let filter = &task.definition.filter;
        if !filter.terminals.is_empty() {
            for terminal in &filter.terminals {
                if let Some(entry) = self.roster_entry(*terminal).await?
                    && under.covers(&entry.branch)
                {
                    self.consider(task, entry, found).await?;
                }
            }
            return Ok(());
        }
        let one = |list: &[String]| match list {
            [one] => Some(one.clone()),
            _ => None,
        };
        let roster = RosterFilter {
            vendor: one(&filter.vendors),
            model: one(&filter.models),
            merchant: one(&filter.merchants),
            ..RosterFilter::under(under)
        };
        let mut after = None;
        loop {
            let query = Query::Roster {
                filter: roster.clone(),
                after,
            };
            let page = self.store.list(&query, u32::try_from(PAGE).unwrap_or(u32::MAX)).await?;
            let whole = page.len() == PAGE;
            after = None;
            for found_record in page {
                if let Record::Roster(entry) = found_record.record {
                    after = Some(RosterPlace::of(&entry));
                    self.consider(task, *entry, found).await?;
                }
            }
            if !whole {
                return Ok(());
            }
        }
    }

    async fn consider(&self, task: &Task, entry: RosterEntry, found: &mut Vec<Candidate>) -> Result<(), StoreError> {
        if matches!(entry.state, TerminalState::Blacklisted) {
            return Ok(());
        }
        let candidate = self.candidate(task, entry).await?;
        if candidate.meets(&task.definition.filter) {
            found.push(candidate);
        }
        Ok(())
    }

    async fn candidate(&self, task: &Task, entry: RosterEntry) -> Result<Candidate, StoreError> {
        let asks = |filter: &Filter| !filter.installed.is_empty();
        let stages = task
            .definition
            .stages
            .iter()
            .filter_map(|stage| match &stage.selection {
                crate::rule::task::Selection::Filter { filter } => Some(filter),
                _ => None,
            });
        let mut components = Vec::new();
        // Only where a filter asks for what is installed is it read.
        if std::iter::once(&task.definition.filter).chain(stages).any(asks)
            && let Some(Versioned {
                record: Record::Inventory(inventory),
                ..
            }) = self.store.get(&Key::Inventory(entry.terminal)).await?
        {
            let installed = inventory.inventory.components.into_iter();
            components = installed.map(|component| (component.id, component.version)).collect();
        }
        Ok(Candidate { entry, components })
    }

    async fn roster_entry(&self, terminal: TerminalId) -> Result<Option<RosterEntry>, StoreError> {
        let found = self.store.get(&Key::Roster(terminal)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Roster(entry) => Some(*entry),
            _ => None,
        }))
    }
}

impl Candidate {
    fn meets(&self, filter: &Filter) -> bool {
        let merchants: Vec<String> = self.entry.merchant.iter().cloned().collect();
        filter.matches(&Subject {
            terminal: self.entry.terminal,
            branch: &self.entry.branch,
            vendor: &self.entry.vendor,
            model: &self.entry.model,
            merchants: &merchants,
            components: &self.components,
        })
    }
}
