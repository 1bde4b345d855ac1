//! The roll-up: what events say is entered into the roster and into each day's counts, in batches.
//!
//! A check-in writes its terminal and an event, and nothing that terminals are listed or counted by: that would cost it a
//! page more. The roll-up reads the events behind it, and writes what they come to, once a day for each terminal.

use super::daily::Daily;
use super::expiry::{Expiry, day_of};
use super::follow::{self, AsOf, Follower, Progress};
use super::{Estate, EstateError, read};
use crate::store::{
    ActionId, BranchPath, Change, Day, Document, Entity, Event, EventKind, Expect, InventoryRecord, Key, Kind, Record,
    RosterEntry, Sequence, Store, StoreError, Terminal, TerminalId, TerminalState, Versioned,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tms_proto::code::{ComponentKind, ComponentStatus, Stage};
use tms_proto::message::Inventory;

/// A terminal's line in the roster: as it is stored, and as it is to be.
struct Line {
    /// The version that is stored; none where there is none.
    version: Option<u64>,
    stored: Option<RosterEntry>,
    entry: RosterEntry,
    /// What was read of the terminal itself, where an event asked for it.
    renewed: Option<Option<Expiry>>,
}

/// What a batch of events needs to know.
#[derive(Default)]
struct Known {
    lines: BTreeMap<TerminalId, Line>,
    sizes: BTreeMap<(TerminalId, ActionId), u64>,
}

impl Estate {
    /// The roll-up of this estate.
    fn rolled_up(&self) -> RollUp {
        RollUp::new(Arc::clone(&self.store))
    }

    /// Enters what happened: see [`RollUp::roll_up`].
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn roll_up(&self, limit: u32) -> Result<Progress, EstateError> {
        self.rolled_up().roll_up(limit).await
    }

    /// As of when roster and counts are.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn as_of(&self) -> Result<AsOf, EstateError> {
        self.rolled_up().as_of().await
    }
}

/// Enters what events say into the roster and into each day's counts. It needs a store and nothing else: whoever runs it
/// need not know whose signatures packages have.
#[derive(Clone)]
pub struct RollUp {
    store: Arc<dyn Store>,
}

impl RollUp {
    /// The roll-up of an estate in this store.
    #[must_use]
    pub const fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    async fn versioned<E: Entity>(&self, id: &str) -> Result<Option<Versioned<E>>, StoreError> {
        read(&*self.store, id).await
    }

    /// Enters at most `limit` events that are not entered yet, and at most 5,000, in one commit. To be called from time to
    /// time, by any number of nodes, and again at once while it gives as many as were asked for.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn roll_up(&self, limit: u32) -> Result<Progress, EstateError> {
        follow::advance(self, limit).await
    }

    /// As of when roster and counts are.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn as_of(&self) -> Result<AsOf, EstateError> {
        follow::as_of(self).await
    }

    async fn known_of(&self, events: &[(Sequence, Event)]) -> Result<Known, StoreError> {
        let mut known = Known::default();
        let mut asked = BTreeSet::new();
        for (_, Event { terminal, kind, .. }) in events {
            let Some(id) = *terminal else { continue };
            if !known.lines.contains_key(&id) && asked.insert(id) {
                let line = self.line(id).await?;
                known.lines.extend(line.map(|line| (id, line)));
            }
            if let EventKind::Result {
                action,
                stage: Stage::Downloaded,
                ..
            } = kind
                && let Some(size) = self.size(id, *action).await?
            {
                known.sizes.insert((id, *action), size);
            }
            // the line was read before the terminal is: whoever changes both in between makes this batch conflict
            if let Some(line) = known.lines.get_mut(&id)
                && line.renewed.is_none()
                && says_more(kind, &line.entry)
            {
                self.renew_line(id, line).await?;
            }
        }
        Ok(known)
    }

    async fn line(&self, id: TerminalId) -> Result<Option<Line>, StoreError> {
        if let Some(Versioned {
            version,
            record: Record::Roster(entry),
        }) = self.store.get(&Key::Roster(id)).await?
        {
            return Ok(Some(Line {
                version: Some(version),
                stored: Some((*entry).clone()),
                entry: *entry,
                renewed: None,
            }));
        }
        let Some(terminal) = self.terminal(id).await? else {
            return Ok(None);
        };
        let mut line = Line {
            version: None,
            stored: None,
            // enrolled before there were branches
            entry: RosterEntry::of(&terminal, BranchPath::head_office()),
            renewed: None,
        };
        self.renew_line(id, &mut line).await?;
        Ok(Some(line))
    }

    /// Takes from the terminal's own records what the roster says of it.
    async fn renew_line(&self, id: TerminalId, line: &mut Line) -> Result<(), StoreError> {
        let Some(terminal) = self.terminal(id).await? else {
            return Ok(());
        };
        let inventory = match self.store.get(&Key::Inventory(id)).await? {
            Some(Versioned {
                record: Record::Inventory(inventory),
                ..
            }) => Some(inventory),
            _ => None,
        };
        line.entry.state = terminal.state;
        if let Some(InventoryRecord { inventory, .. }) = inventory.as_deref() {
            line.entry.version = version(inventory);
        }
        line.renewed = Some(Expiry::of(&line.entry, &terminal, inventory.as_deref()));
        Ok(())
    }

    async fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>, StoreError> {
        let found = self.store.get(&Key::Terminal(id)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Terminal(terminal) => Some(*terminal),
            _ => None,
        }))
    }

    /// The size of what an action installs.
    async fn size(&self, id: TerminalId, action: ActionId) -> Result<Option<u64>, StoreError> {
        let found = self.store.get(&Key::Assignment(id, action)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Assignment(assignment) => assignment.order.package().map(|package| package.size),
            _ => None,
        }))
    }

    async fn day_changes(&self, days: BTreeMap<(BranchPath, Day), Daily>) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::with_capacity(days.len());
        for mut daily in days.into_values() {
            let found = self.versioned::<Daily>(&daily.id()).await?;
            let version = found.as_ref().map(|found| found.version);
            if let Some(found) = found {
                daily.merge(&found.record);
            }
            changes.push(put(version, &daily)?);
        }
        Ok(changes)
    }

    async fn line_changes(&self, line: Line, changes: &mut Vec<Change>) -> Result<(), StoreError> {
        if let Some(renewed) = line.renewed {
            let id = line.entry.terminal.to_string();
            let found = self.versioned::<Expiry>(&id).await?;
            let version = found.as_ref().map(|found| found.version);
            match (found.map(|found| found.record), renewed) {
                (Some(found), Some(new)) if found == new => {}
                (_, Some(new)) => changes.push(put(version, &new)?),
                (Some(_), None) => changes.push(Change::Remove(expect(version), Key::Document(Expiry::KIND, id))),
                (None, None) => {}
            }
        }
        if line.stored.as_ref() != Some(&line.entry) {
            changes.push(Change::Put(expect(line.version), line.entry.into()));
        }
        Ok(())
    }
}

impl Follower for RollUp {
    const POSITION: Kind = Kind::named("rollup");
    const BATCH: u32 = 5_000;

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    async fn effect(&self, events: &[(Sequence, Event)]) -> Result<Vec<Change>, EstateError> {
        let mut known = self.known_of(events).await?;
        let days = fold(&mut known, events);
        let mut changes = self.day_changes(days).await?;
        for line in known.lines.into_values() {
            self.line_changes(line, &mut changes).await?;
        }
        Ok(changes)
    }
}

/// Whether an event may have changed what only the terminal's own records say: its state, its version, its expiry.
fn says_more(kind: &EventKind, entry: &RosterEntry) -> bool {
    match kind {
        // a ticket proves nothing new
        EventKind::CheckedIn(summary) => {
            summary.inventory || matches!(summary.mode, 1 | 4) || entry.state == TerminalState::Enrolled
        }
        EventKind::Result { .. }
        | EventKind::CloneSuspected { .. }
        | EventKind::Queued { .. }
        | EventKind::Restored { .. } => false,
        _ => true,
    }
}

/// What happened, by branch and day, each branch with those below it; and when each terminal was seen.
fn fold(known: &mut Known, events: &[(Sequence, Event)]) -> BTreeMap<(BranchPath, Day), Daily> {
    let mut own: BTreeMap<(BranchPath, Day), Daily> = BTreeMap::new();
    for (_, event) in events {
        let day = day_of(event.time);
        let entry = event.terminal.and_then(|id| known.lines.get_mut(&id));
        let entry = entry.map(|line| &mut line.entry);
        let branch = entry
            .as_ref()
            .map_or_else(BranchPath::head_office, |entry| entry.branch.clone());
        let size = match (event.terminal, &event.kind) {
            (Some(id), EventKind::Result { action, .. }) => known.sizes.get(&(id, *action)).copied(),
            _ => None,
        };
        own.entry((branch.clone(), day))
            .or_insert_with(|| Daily::of(branch, day))
            .count(&event.kind, entry, size);
    }
    let mut all: BTreeMap<(BranchPath, Day), Daily> = BTreeMap::new();
    for ((branch, day), daily) in own {
        for above in branch.line() {
            all.entry((above.clone(), day))
                .or_insert_with(|| Daily::of(above, day))
                .merge(&daily);
        }
    }
    all
}

/// The version of the first application, one that runs before others.
fn version(inventory: &Inventory) -> Option<String> {
    let applications = || {
        let all = inventory.components.iter();
        all.filter(|component| component.kind == ComponentKind::Application)
    };
    let running = applications().find(|component| component.status == ComponentStatus::InOperation);
    let first = running.or_else(|| applications().next())?;
    Some(first.version.clone())
}

fn expect(version: Option<u64>) -> Expect {
    version.map_or(Expect::Absent, Expect::Version)
}

pub(super) fn put<E: Entity>(version: Option<u64>, entity: &E) -> Result<Change, StoreError> {
    Ok(Change::Put(expect(version), Document::of(entity)?.into()))
}
