//! The ledger of slots, as this node sees it.
//!
//! The counters are documents, one for each access and quarter of an hour. A booking is written in the commit of the
//! check-in that makes it, under the expectation that the counter is what this node takes it for: so no node can give out
//! twice what there is, however old its view. Where the expectation fails, the counter is read again and the booking decided
//! again.
//!
//! Of a node's own commits one at a time changes a counter; others wait for it, so that only nodes conflict with each other.
//! What the view says of a counter is always what some version of it said: never what it might become.

use super::record::QuarterLoad;
use crate::rule::slot::{Access, Booking, Load, QUARTER, Request, Slot, allocate, fits};
use crate::store::{BookedSlot, Change, Document, Entity, Expect, Key, Query, Record, Store, StoreError, Versioned};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// The most quarters of an access that are read at once: more than any policy looks ahead.
const PAGE: u32 = 4_096;

/// The most expired counters that are removed at once.
const SWEPT: u32 = 256;

/// For how many quarters what was booked is kept: an outage may be as long.
pub(super) const KEPT: u64 = 96;

type Accesses = BTreeMap<String, BTreeMap<u64, Counter>>;

/// The view.
#[derive(Default)]
pub(super) struct Ledger {
    accesses: Mutex<Accesses>,
}

#[derive(Default)]
struct Counter {
    /// The version of the document; none where there is none.
    version: Option<u64>,
    /// What it says in this version.
    load: Load,
    /// What terminals were told that are on the line now, and what no commit says yet.
    held: Load,
    /// Held by the commit that changes it.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Counter {
    fn taken(&self) -> Load {
        self.load.book(self.held)
    }

    fn set(&mut self, found: Option<(u64, Load)>) {
        let (version, load) = found.unzip();
        (self.version, self.load) = (version, load.unwrap_or_default());
    }
}

/// A slot that a terminal was told, or is to be told. Given back when it is dropped without having been entered.
pub(super) struct Held {
    ledger: Arc<Ledger>,
    access: String,
    capacity: Access,
    request: Request,
    chance: u64,
    slot: Slot,
    held: bool,
}

/// Counters that a commit changes. Nobody else of this node changes them until this is dropped.
#[derive(Default)]
pub(in crate::server) struct Entered {
    counters: Vec<Changed>,
}

struct Changed {
    access: String,
    quarter: u64,
    /// What it will be.
    version: u64,
    load: Load,
    _changing: OwnedMutexGuard<()>,
}

impl Ledger {
    fn accesses(&self) -> MutexGuard<'_, Accesses> {
        self.accesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a slot and holds it.
    pub(super) fn hold(self: &Arc<Self>, access: &str, capacity: Access, request: Request, chance: u64) -> Held {
        let mut accesses = self.accesses();
        let counters = accesses.entry(access.to_owned()).or_default();
        let slot = find(counters, &capacity, &request, chance);
        for booking in &slot.bookings {
            let counter = counters.entry(booking.quarter).or_default();
            counter.held = counter.held.book(booking.load);
        }
        drop(accesses);
        Held {
            ledger: Arc::clone(self),
            access: access.to_owned(),
            capacity,
            request,
            chance,
            slot,
            held: true,
        }
    }

    /// Adds to a commit what books `slot` and gives `unused` back.
    pub(super) async fn enter(
        &self,
        slot: Option<&Held>,
        unused: Option<&BookedSlot>,
        changes: &mut Vec<Change>,
    ) -> Result<Entered, StoreError> {
        // in their order, so that no two commits wait for each other
        let mut deltas: BTreeMap<(&str, u64), (Load, Load)> = BTreeMap::new();
        for booking in slot.iter().flat_map(|slot| &slot.slot.bookings) {
            let access = slot.map_or("", |slot| &slot.access);
            let (more, _) = deltas.entry((access, booking.quarter)).or_default();
            *more = more.book(booking.load);
        }
        for booking in unused.iter().flat_map(|unused| &unused.bookings) {
            let access = unused.map_or("", |unused| &unused.access);
            let (_, less) = deltas.entry((access, booking.quarter)).or_default();
            *less = less.book(booking.load);
        }
        let mut entered = Entered::default();
        for ((access, quarter), (more, less)) in deltas {
            let changing = Arc::clone(&counter(&mut self.accesses(), access, quarter).changing);
            let changing = changing.lock_owned().await;
            let mut accesses = self.accesses();
            let counter = counter(&mut accesses, access, quarter);
            // also where nothing seems to change: what is given back may be what another node has booked, and then this
            // conflicts
            let load = counter.load.release(less).book(more);
            let document = Document::of(&QuarterLoad {
                access: access.to_owned(),
                quarter,
                load,
            })?;
            let expect = counter.version.map_or(Expect::Absent, Expect::Version);
            changes.push(Change::Put(expect, document.into()));
            entered.counters.push(Changed {
                access: access.to_owned(),
                quarter,
                version: counter.version.unwrap_or_default().saturating_add(1),
                load,
                _changing: changing,
            });
        }
        Ok(entered)
    }

    /// The commit was written.
    pub(super) fn written(&self, entered: Entered, slot: Option<&mut Held>) {
        let mut accesses = self.accesses();
        if let Some(slot) = slot {
            slot.put_down(&mut accesses);
        }
        for changed in &entered.counters {
            counter(&mut accesses, &changed.access, changed.quarter).set(Some((changed.version, changed.load)));
        }
    }

    /// After a conflict: reads the counters again that the commit was about.
    pub(super) async fn read_again(&self, store: &dyn Store, entered: Entered) -> Result<(), StoreError> {
        for Changed { access, quarter, .. } in &entered.counters {
            let id = QuarterLoad::id_of(access, *quarter);
            let found = store.get(&Key::Document(QuarterLoad::KIND, id)).await?;
            let found = found.map(counted).transpose()?.flatten();
            let found = found.map(|(version, found)| (version, found.load));
            counter(&mut self.accesses(), access, *quarter).set(found);
        }
        Ok(())
    }

    /// Reads all counters of an access from [`KEPT`] quarters before `now` on, and forgets those before.
    pub(super) async fn read(&self, store: &dyn Store, access: &str, now: u64) -> Result<(), StoreError> {
        let first = (now / QUARTER).saturating_sub(KEPT);
        let query = Query::Documents {
            kind: QuarterLoad::KIND,
            prefix: QuarterLoad::ids_of(access),
            after: first.checked_sub(1).map(|before| QuarterLoad::id_of(access, before)),
        };
        let mut found = BTreeMap::new();
        for record in store.list(&query, PAGE).await? {
            if let Some((version, counted)) = counted(record)? {
                found.insert(counted.quarter, (version, counted.load));
            }
        }
        let mut accesses = self.accesses();
        let counters = accesses.entry(access.to_owned()).or_default();
        counters.retain(|quarter, _| *quarter >= first);
        for (quarter, counter) in counters.iter_mut() {
            counter.set(found.remove(quarter));
        }
        for (quarter, (version, load)) in found {
            counters.entry(quarter).or_default().set(Some((version, load)));
        }
        Ok(())
    }

    /// Removes counters of an access that are older than [`KEPT`] quarters; some of them, where there are many.
    pub(super) async fn sweep(&self, store: &dyn Store, access: &str, now: u64) -> Result<(), StoreError> {
        let first = (now / QUARTER).saturating_sub(KEPT);
        let query = Query::Documents {
            kind: QuarterLoad::KIND,
            prefix: QuarterLoad::ids_of(access),
            after: None,
        };
        let mut changes = Vec::new();
        for record in store.list(&query, SWEPT).await? {
            let key = record.record.key();
            if counted(record)?.is_some_and(|(_, counted)| counted.quarter < first) {
                changes.push(Change::Remove(Expect::Any, key));
            }
        }
        store.commit(changes).await
    }

    /// Whether it was ever asked for this access.
    pub(super) fn knows(&self, access: &str) -> bool {
        self.accesses().contains_key(access)
    }

    /// What is given out of a quarter.
    pub(super) fn load(&self, access: &str, quarter: u64) -> Load {
        let accesses = self.accesses();
        let counter = accesses.get(access).and_then(|counters| counters.get(&quarter));
        counter.map_or_else(Load::default, Counter::taken)
    }
}

impl Held {
    pub(super) const fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What is to be remembered of it, so that it can be given back.
    pub(super) fn booked(&self) -> BookedSlot {
        BookedSlot {
            access: self.access.clone(),
            bookings: self.slot.bookings.clone(),
        }
    }

    /// After a conflict: whether the slot still has room. Where it has not, it is another one from now on.
    pub(super) fn stands(&mut self) -> bool {
        let ledger = Arc::clone(&self.ledger);
        let mut accesses = ledger.accesses();
        self.put_down(&mut accesses);
        let counters = accesses.entry(self.access.clone()).or_default();
        let taken = |quarter| counters.get(&quarter).map_or_else(Load::default, Counter::taken);
        let stands = fits(&self.capacity, &self.slot, self.request.urgent, taken);
        if !stands {
            self.chance = self.chance.wrapping_add(1);
            self.slot = find(counters, &self.capacity, &self.request, self.chance);
        }
        for Booking { quarter, load } in &self.slot.bookings {
            let counter = counters.entry(*quarter).or_default();
            counter.held = counter.held.book(*load);
        }
        self.held = true;
        stands
    }

    fn put_down(&mut self, accesses: &mut Accesses) {
        if std::mem::take(&mut self.held)
            && let Some(counters) = accesses.get_mut(&self.access)
        {
            for Booking { quarter, load } in &self.slot.bookings {
                if let Some(counter) = counters.get_mut(quarter) {
                    counter.held = less(counter.held, *load);
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.held {
            let ledger = Arc::clone(&self.ledger);
            self.put_down(&mut ledger.accesses());
        }
    }
}

fn counter<'a>(accesses: &'a mut Accesses, access: &str, quarter: u64) -> &'a mut Counter {
    accesses
        .entry(access.to_owned())
        .or_default()
        .entry(quarter)
        .or_default()
}

fn find(counters: &BTreeMap<u64, Counter>, capacity: &Access, request: &Request, chance: u64) -> Slot {
    let taken = |quarter| counters.get(&quarter).map_or_else(Load::default, Counter::taken);
    allocate(capacity, request, chance, taken)
}

/// With a booking less, its place included: nobody else was told of it.
fn less(load: Load, less: Load) -> Load {
    let mut placed = load.placed;
    for (count, less) in placed.iter_mut().zip(less.placed) {
        *count = count.saturating_sub(less);
    }
    Load {
        placed,
        ..load.release(less)
    }
}

fn counted(found: Versioned<Record>) -> Result<Option<(u64, QuarterLoad)>, StoreError> {
    match found.record {
        Record::Document(document) => Ok(Some((found.version, document.read()?))),
        _ => Ok(None),
    }
}
