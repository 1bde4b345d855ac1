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
    /// There was no room for it anywhere.
    crowded: bool,
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
        let crowded = is_crowded(counters, &capacity, &request, &slot);
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
            crowded,
            held: true,
        }
    }

    /// What a commit writes that books `slot` and gives `unused` back, and whether the slot had to be moved: what others have
    /// booked since it was found has left no room for it.
    pub(super) async fn enter(
        &self,
        mut slot: Option<&mut Held>,
        unused: Option<&BookedSlot>,
        changes: &mut Vec<Change>,
    ) -> Result<(Entered, bool), StoreError> {
        let mut moved = false;
        loop {
            let deltas = deltas(slot.as_deref(), unused);
            let mut locks = Vec::with_capacity(deltas.len());
            // in their order, so that no two commits wait for each other
            for (access, quarter) in deltas.keys() {
                let changing = Arc::clone(&counter(&mut self.accesses(), access, *quarter).changing);
                locks.push(changing.lock_owned().await);
            }
            let mut accesses = self.accesses();
            if let Some(slot) = slot.as_deref_mut()
                && !slot.has_room(&accesses)
            {
                slot.find_another(&mut accesses);
                moved = true;
                continue;
            }
            return Ok((entered(&mut accesses, deltas, locks, changes)?, moved));
        }
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

    /// Whether what is booked leaves room for it. A slot for which there was no room anywhere is kept all the same.
    fn has_room(&self, accesses: &Accesses) -> bool {
        let counters = accesses.get(&self.access);
        let booked = |quarter| counters.and_then(|counters| counters.get(&quarter));
        let booked = |quarter| booked(quarter).map_or_else(Load::default, |counter| counter.load);
        self.crowded || fits(&self.capacity, &self.slot, self.request.urgent, booked)
    }

    /// Finds it anew, by what the view says now.
    fn find_another(&mut self, accesses: &mut Accesses) {
        self.put_down(accesses);
        let counters = accesses.entry(self.access.clone()).or_default();
        self.chance = self.chance.wrapping_add(1);
        self.slot = find(counters, &self.capacity, &self.request, self.chance);
        self.crowded = is_crowded(counters, &self.capacity, &self.request, &self.slot);
        for Booking { quarter, load } in &self.slot.bookings {
            let counter = counters.entry(*quarter).or_default();
            counter.held = counter.held.book(*load);
        }
        self.held = true;
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

/// What a commit changes, in the order of counters: what is booked, and what is given back.
fn deltas(slot: Option<&Held>, unused: Option<&BookedSlot>) -> BTreeMap<(String, u64), (Load, Load)> {
    let mut deltas: BTreeMap<(String, u64), (Load, Load)> = BTreeMap::new();
    if let Some(slot) = slot {
        for Booking { quarter, load } in &slot.slot.bookings {
            let (more, _) = deltas.entry((slot.access.clone(), *quarter)).or_default();
            *more = more.book(*load);
        }
    }
    if let Some(unused) = unused {
        for Booking { quarter, load } in &unused.bookings {
            let (_, less) = deltas.entry((unused.access.clone(), *quarter)).or_default();
            *less = less.book(*load);
        }
    }
    deltas
}

/// The changes of a commit, on counters that nobody else changes now.
fn entered(
    accesses: &mut Accesses,
    deltas: BTreeMap<(String, u64), (Load, Load)>,
    locks: Vec<OwnedMutexGuard<()>>,
    changes: &mut Vec<Change>,
) -> Result<Entered, StoreError> {
    let mut entered = Entered::default();
    for (((access, quarter), (more, less)), changing) in deltas.into_iter().zip(locks) {
        let counter = counter(accesses, &access, quarter);
        // also where nothing seems to change: what is given back may be what another node has booked, and then this
        // conflicts
        let load = counter.load.release(less).book(more);
        let document = Document::of(&QuarterLoad {
            access: access.clone(),
            quarter,
            load,
        })?;
        let expect = counter.version.map_or(Expect::Absent, Expect::Version);
        changes.push(Change::Put(expect, document.into()));
        entered.counters.push(Changed {
            access,
            quarter,
            version: counter.version.unwrap_or_default().saturating_add(1),
            load,
            _changing: changing,
        });
    }
    Ok(entered)
}

/// Whether there was no room for it anywhere.
fn is_crowded(counters: &BTreeMap<u64, Counter>, capacity: &Access, request: &Request, slot: &Slot) -> bool {
    let taken = |quarter| counters.get(&quarter).map_or_else(Load::default, Counter::taken);
    slot.late && !fits(capacity, slot, request.urgent, taken)
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
