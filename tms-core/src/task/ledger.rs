//! The changes of one commit to members and counts.

use super::record::{Cell, Member, Sharing};
use crate::estate::read;
use crate::rule::task::assignment::{Reached, State, Wait};
use crate::rule::task::{Counts, FailureClass, combine};
use crate::store::{Assignment, Change, Document, Entity, Expect, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use tms_proto::code::Stage;

/// What a member stands at that has failed and may be tried again, or has reached a floor and goes on from there.
const UNDECIDED: State = State::Waiting {
    why: Wait::Busy,
    reached: Reached::Offered,
};

/// What a commit changes, besides the assignments themselves.
pub(crate) struct Ledger<'a> {
    store: &'a dyn Store,
    now: u64,
    members: BTreeMap<String, (Expect, Member)>,
    /// Members that were read only to look at them are not written.
    touched: BTreeSet<String>,
    cells: BTreeMap<String, (Expect, Cell)>,
    sharing: BTreeMap<String, (Expect, Sharing)>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(store: &'a dyn Store, now: u64) -> Self {
        Self {
            store,
            now,
            members: BTreeMap::new(),
            touched: BTreeSet::new(),
            cells: BTreeMap::new(),
            sharing: BTreeMap::new(),
        }
    }

    /// An assignment has moved: to what it is now. One that is of no task is nobody's business.
    pub(crate) async fn moved(&mut self, assignment: &Assignment) -> Result<(), StoreError> {
        let Some(step) = assignment.step else { return Ok(()) };
        let id = Member::key(step.task, assignment.terminal);
        let Some(mut member) = self.member(&id).await? else {
            return Ok(());
        };
        let Some(held) = member.steps.get_mut(usize::from(step.place)) else {
            return Ok(());
        };
        // An attempt that was replaced speaks for nobody any more.
        if held.action != Some(assignment.action) {
            return Ok(());
        }
        // What comes before the target is not the end.
        let reached = step.floor.is_some() && assignment.standing.state == State::Succeeded;
        held.state = if reached { UNDECIDED } else { assignment.standing.state };
        let states: Vec<State> = member.steps.iter().map(|step| step.state).collect();
        let state = combine(&states, member.on_failure).unwrap_or(member.state);
        if state.is_in_flight() {
            member.offered = member.offered.or(Some(self.now));
        }
        member.floor |= reached;
        member.due = match member.floor {
            true => Some(self.now),
            false => self.due(&member, assignment, state),
        };
        member.retry = false;
        // Whether it is tried again is the runner's to say: until then nobody counts it as a failure.
        let retriable = state.failure().is_some_and(FailureClass::is_retriable);
        self.put(member, if retriable { UNDECIDED } else { state }).await
    }

    /// A member stands somewhere else.
    pub(crate) async fn put(&mut self, mut member: Member, state: State) -> Result<(), StoreError> {
        let before = member.state;
        let changed = before != state;
        member.state = state;
        if changed {
            member.moved = self.now;
            let now = self.now;
            let cell = self.cell(&member).await?;
            cell.counts
                .moved(before, state)
                .map_err(|error| StoreError::Corrupt(format!("task {:016x}: {error}", member.task)))?;
            cell.moved = now;
            if before.is_in_flight() != state.is_in_flight() {
                self.share(&member).await?;
            }
        }
        self.keep(member);
        Ok(())
    }

    /// A new member is counted.
    pub(crate) async fn join(&mut self, member: Member) -> Result<(), StoreError> {
        let (state, now) = (member.state, self.now);
        let cell = self.cell(&member).await?;
        cell.counts.add(state);
        cell.moved = now;
        self.touched.insert(member.id());
        self.members.insert(member.id(), (Expect::Absent, member));
        Ok(())
    }

    /// A member, as it is with the changes so far.
    pub(crate) async fn member(&mut self, id: &str) -> Result<Option<Member>, StoreError> {
        if let Some((_, member)) = self.members.get(id) {
            return Ok(Some(member.clone()));
        }
        let Some(found) = read::<Member>(self.store, id).await? else {
            return Ok(None);
        };
        self.members
            .insert(id.to_owned(), (Expect::Version(found.version), found.record.clone()));
        Ok(Some(found.record))
    }

    /// All that is to be written.
    pub(crate) fn changes(mut self) -> Result<Vec<Change>, StoreError> {
        fn puts<E: Entity>(records: BTreeMap<String, (Expect, E)>) -> impl Iterator<Item = Result<Change, StoreError>> {
            records
                .into_values()
                .map(|(expect, record)| Ok(Change::Put(expect, Document::of(&record)?.into())))
        }
        self.members.retain(|id, _| self.touched.contains(id));
        puts(self.members)
            .chain(puts(self.cells))
            .chain(puts(self.sharing))
            .collect()
    }

    fn keep(&mut self, member: Member) {
        let expect = self
            .members
            .get(&member.id())
            .map_or(Expect::Any, |(expect, _)| *expect);
        self.touched.insert(member.id());
        self.members.insert(member.id(), (expect, member));
    }

    async fn cell(&mut self, member: &Member) -> Result<&mut Cell, StoreError> {
        let id = Cell::key(member.task, member.stage, member.cell);
        if !self.cells.contains_key(&id) {
            let found = match read::<Cell>(self.store, &id).await? {
                Some(found) => (Expect::Version(found.version), found.record),
                None => {
                    let cell = Cell {
                        task: member.task,
                        stage: member.stage,
                        cell: member.cell,
                        counts: Counts::default(),
                        moved: self.now,
                    };
                    (Expect::Absent, cell)
                }
            };
            self.cells.insert(id.clone(), found);
        }
        let cell = self.cells.get_mut(&id).map(|(_, cell)| cell);
        cell.ok_or_else(|| StoreError::Backend("a count was not kept".to_owned()))
    }

    /// It is under way now, or not any more: those that share something with it are told.
    async fn share(&mut self, member: &Member) -> Result<(), StoreError> {
        for share in &member.shares {
            let id = Sharing::key(share.key, &share.value);
            if !self.sharing.contains_key(&id) {
                let found = match read::<Sharing>(self.store, &id).await? {
                    Some(found) => (Expect::Version(found.version), found.record),
                    None => {
                        let sharing = Sharing {
                            key: share.key,
                            value: share.value.clone(),
                            busy: BTreeSet::new(),
                        };
                        (Expect::Absent, sharing)
                    }
                };
                self.sharing.insert(id.clone(), found);
            }
            if let Some((_, sharing)) = self.sharing.get_mut(&id) {
                let this = (member.terminal, member.task);
                if member.state.is_in_flight() {
                    sharing.busy.insert(this);
                } else {
                    sharing.busy.remove(&this);
                }
            }
        }
        Ok(())
    }

    /// When a member must be looked at again.
    fn due(&self, member: &Member, assignment: &Assignment, state: State) -> Option<u64> {
        if state == (State::Trial { confirmed: true }) && assignment.stage == Stage::RunningConfirmed {
            return Some(self.now.saturating_add(u64::from(assignment.terms.confirm_after)));
        }
        if state.is_in_flight() {
            let offered = member.offered.unwrap_or(self.now);
            let timeouts = assignment.terms.timeouts?;
            return Some(timeouts.deadline(offered, self.now));
        }
        // The runner decides whether it is tried again.
        state.failure().map(|_| self.now)
    }
}
