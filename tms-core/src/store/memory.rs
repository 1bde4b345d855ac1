//! The store in memory: the specification that every other backend is compared with.

use super::{
    Caller, Change, CheckIn, CredentialId, Document, Event, Group, Holder, Key, Kind, Query, Record, RosterEntry,
    RosterFilter, RosterPlace, Sequence, Store, StoreError, Tally, Terminal, TerminalId, Versioned, distinct,
};
use crate::store::ActionId;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tms_proto::digest::Digest;

/// A store in memory, for tests and simulations.
///
/// Clones are handles to one store, which lives as long as the last of them: clause 2 holds for handles, not for processes.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

/// Everything, under one lock: each call is one moment.
#[derive(Default)]
struct State {
    records: BTreeMap<Key, Versioned<Record>>,
    holders: BTreeMap<Holder, TerminalId>,
    credentials: BTreeSet<(CredentialId, TerminalId)>,
    events: BTreeMap<Sequence, Event>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state. Nothing panics while it is locked, so that a poisoned lock still guards whole commits.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryStore")
            .field("records", &state.records.len())
            .field("events", &state.events.len())
            .finish()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        Ok(self.state().check_in(caller))
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        Ok(self.state().records.get(key).cloned())
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        Ok(self.state().list(query, limit))
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        Ok(self.state().tally(tally, limit))
    }

    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError> {
        let state = self.state();
        let page = state.events.range((Excluded(after), Unbounded));
        Ok(page
            .map(|(sequence, event)| (*sequence, event.clone()))
            .take(length(limit))
            .collect())
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        distinct(&changes)?;
        let mut state = self.state();
        state.check(&changes)?;
        state.apply(changes);
        Ok(())
    }
}

impl State {
    fn version(&self, key: &Key) -> Option<u64> {
        self.records.get(key).map(|record| record.version)
    }

    fn terminal(&self, id: TerminalId) -> Option<Versioned<&Terminal>> {
        match self.records.get(&Key::Terminal(id)) {
            Some(Versioned {
                version,
                record: Record::Terminal(terminal),
            }) => Some(Versioned {
                version: *version,
                record: terminal,
            }),
            _ => None,
        }
    }

    fn check_in(&self, caller: &Caller) -> Option<CheckIn> {
        let id = match caller {
            Caller::Id(id) => *id,
            Caller::Holder(holder) => *self.holders.get(holder)?,
            Caller::Credential(credential) => {
                let first = self
                    .credentials
                    .range((Included((*credential, TerminalId(0))), Unbounded))
                    .next();
                first.filter(|(found, _)| found == credential)?.1
            }
        };
        let terminal = self.terminal(id)?;
        let of_terminal = Key::Assignment(id, ActionId(0))..=Key::Assignment(id, ActionId(u64::MAX));
        let open = self.records.range(of_terminal).filter_map(|(_, record)| match record {
            Versioned {
                version,
                record: Record::Assignment(assignment),
            } if !assignment.closed => Some(Versioned {
                version: *version,
                record: (**assignment).clone(),
            }),
            _ => None,
        });
        Some(CheckIn {
            terminal: Versioned {
                version: terminal.version,
                record: terminal.record.clone(),
            },
            assignments: open.collect(),
        })
    }

    fn list(&self, query: &Query, limit: u32) -> Vec<Versioned<Record>> {
        let (after, first, last) = match query {
            Query::Terminals(after) => (
                after.map(Key::Terminal),
                Key::Terminal(TerminalId(0)),
                Key::Terminal(TerminalId(u64::MAX)),
            ),
            Query::Packages(after) => (
                after.map(Key::Package),
                Key::Package(Digest([0; 32])),
                Key::Package(Digest([0xFF; 32])),
            ),
            Query::Assignments(terminal, after) => {
                let key = |action| Key::Assignment(*terminal, action);
                (after.map(key), key(ActionId(0)), key(ActionId(u64::MAX)))
            }
            Query::Documents { kind, prefix, after } => {
                let page = self.documents(kind).filter(|(found, _)| {
                    found.id.starts_with(prefix) && after.as_ref().is_none_or(|after| found.id > *after)
                });
                return page.map(|(_, record)| record.clone()).take(length(limit)).collect();
            }
            Query::Marked {
                kind,
                mark,
                prefix,
                after,
            } => {
                let mut page: Vec<_> = self.marked(kind, mark, prefix).collect();
                page.sort_by_key(|(value, document, _)| (*value, &document.id));
                let after = after.as_ref().map(|(value, id)| (value, id));
                let page = page
                    .into_iter()
                    .filter(|(value, document, _)| after.is_none_or(|after| (*value, &document.id) > after));
                return page.map(|(_, _, record)| record.clone()).take(length(limit)).collect();
            }
            Query::Roster { filter, after } => {
                // the order of branch and id, or of branch, day and id
                let place = |place: RosterPlace| (place.branch, filter.seen.and(place.seen), place.terminal);
                let mut page: Vec<_> = self
                    .roster(filter)
                    .map(|(entry, record)| (place(RosterPlace::of(entry)), record))
                    .collect();
                page.sort_by(|(one, _), (other, _)| one.cmp(other));
                let after = after.clone().map(place);
                let page = page
                    .into_iter()
                    .filter(|(place, _)| after.as_ref().is_none_or(|after| place > after));
                return page.map(|(_, record)| record.clone()).take(length(limit)).collect();
            }
        };
        let from = after.map_or(Included(first), Excluded);
        self.records
            .range((from, Included(last)))
            .map(|(_, record)| record.clone())
            .take(length(limit))
            .collect()
    }

    fn documents(&self, kind: &Kind) -> impl Iterator<Item = (&Document, &Versioned<Record>)> {
        let first = Key::Document(kind.clone(), String::new());
        let all = self.records.range(first..).map_while(|(_, found)| match &found.record {
            Record::Document(document) => Some((&**document, found)),
            _ => None,
        });
        all.take_while(move |(document, _)| document.kind == *kind)
    }

    fn marked<'a>(
        &'a self,
        kind: &'a Kind,
        mark: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Document, &'a Versioned<Record>)> {
        self.documents(kind).filter_map(move |(document, found)| {
            let value = document.marks.get(mark)?;
            value.starts_with(prefix).then_some((value, document, found))
        })
    }

    fn roster<'a>(
        &'a self,
        filter: &'a RosterFilter,
    ) -> impl Iterator<Item = (&'a RosterEntry, &'a Versioned<Record>)> {
        let of_roster = Key::Roster(TerminalId(0))..=Key::Roster(TerminalId(u64::MAX));
        self.records
            .range(of_roster)
            .filter_map(move |(_, found)| match &found.record {
                Record::Roster(entry) if filter.holds(entry) => Some((&**entry, found)),
                _ => None,
            })
    }

    fn tally(&self, tally: &Tally, limit: u32) -> Vec<Group> {
        let mut groups = BTreeMap::<Vec<String>, u64>::new();
        let mut count = |names| {
            let count = groups.entry(names).or_default();
            *count = count.saturating_add(1);
        };
        match tally {
            Tally::Marked { kind, mark, prefix } => self
                .marked(kind, mark, prefix)
                .for_each(|(value, ..)| count(vec![value.clone()])),
            Tally::Roster { filter, by } => self
                .roster(filter)
                .for_each(|(entry, _)| count(by.iter().map(|dimension| dimension.of(entry)).collect())),
        }
        let groups = groups.into_iter().map(|(names, count)| Group { names, count });
        groups.take(length(limit)).collect()
    }

    /// Whether every expectation holds now, and no two terminals would have one holder afterwards.
    fn check(&self, changes: &[Change]) -> Result<(), StoreError> {
        // what the commit would leave of the terminals that it names: their holders, or none where it removes one
        let mut named = BTreeMap::new();
        for change in changes {
            let (expect, key) = match change {
                Change::Put(expect, record) => (expect, record.key()),
                Change::Remove(expect, key) => (expect, key.clone()),
                Change::Append(_) | Change::Forget(_) => continue,
            };
            if !expect.holds(self.version(&key)) {
                return Err(StoreError::Conflict);
            }
            match (change, key) {
                (Change::Put(_, Record::Terminal(terminal)), Key::Terminal(id)) => {
                    named.insert(id, Some(&terminal.holder));
                }
                (Change::Remove(..), Key::Terminal(id)) => {
                    named.insert(id, None);
                }
                _ => {}
            }
        }
        let mut taken = BTreeSet::new();
        for holder in named.values().flatten() {
            let others = self.holders.get(holder).is_some_and(|owner| !named.contains_key(owner));
            if others || !taken.insert(holder) {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    /// Writes changes that were checked. Removals go first, so that a holder is free before it is taken; and events that are
    /// forgotten, before others are appended.
    fn apply(&mut self, changes: Vec<Change>) {
        for key in changes.iter().filter_map(Change::key) {
            self.forget_names(&key);
        }
        for change in &changes {
            if let Change::Forget(through) = change {
                let newest = self.events.last_key_value().map_or(0, |(newest, _)| *newest);
                self.events
                    .retain(|sequence, _| *sequence > *through || *sequence == newest);
            }
        }
        for change in changes {
            match change {
                Change::Forget(_) => {}
                Change::Put(_, record) => {
                    let key = record.key();
                    if let Record::Terminal(terminal) = &record {
                        self.holders.insert(terminal.holder.clone(), terminal.id);
                        self.credentials.extend(
                            terminal
                                .credential
                                .iter()
                                .map(|credential| (credential.id, terminal.id)),
                        );
                    }
                    let version = self.version(&key).map_or(1, |version| version.saturating_add(1));
                    self.records.insert(key, Versioned { version, record });
                }
                Change::Remove(_, key) => {
                    self.records.remove(&key);
                }
                Change::Append(event) => {
                    let last = self.events.last_key_value().map_or(0, |(last, _)| *last);
                    self.events.insert(last.saturating_add(1), event);
                }
            }
        }
    }

    /// Forgets by what names a terminal is found, where `key` is one.
    fn forget_names(&mut self, key: &Key) {
        if let Some(Versioned {
            record: Record::Terminal(terminal),
            ..
        }) = self.records.get(key)
        {
            self.holders.remove(&terminal.holder);
            if let Some(credential) = &terminal.credential {
                self.credentials.remove(&(credential.id, terminal.id));
            }
        }
    }
}

fn length(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_tests;
    use crate::testing::store::Fixture;

    struct MemoryFixture;

    #[async_trait]
    impl Fixture for MemoryFixture {
        /// The store itself: it keeps the records while no handle does.
        type Home = MemoryStore;

        async fn home(&self) -> MemoryStore {
            MemoryStore::new()
        }

        async fn open(&self, home: &MemoryStore) -> Arc<dyn Store> {
            Arc::new(home.clone())
        }
    }

    store_tests!(MemoryFixture);

    #[test]
    fn debug_shows_no_record() {
        assert_eq!(
            format!("{:?}", MemoryStore::new()),
            "MemoryStore { records: 0, events: 0 }"
        );
    }
}
