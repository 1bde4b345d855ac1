//! The ledger of slots, as this node sees it.
//!
//! The counters are documents, one for each access and quarter of an hour. A booking is written in the commit of the
//! check-in that makes it, under the expectation that the counter is what this node takes it for: so no node can give out
//! twice what there is, however old its view. Where the expectation fails, the counter is read again and the booking decided
//! again.
//!
//! Commits of a node follow each other without waiting: the view says what a counter will be when those under way are done.
//! Where one fails, those behind it fail too, and all of them read again.

use super::record::QuarterLoad;
use crate::rule::slot::{Access, Booking, Load, QUARTER, Request, Slot, allocate, fits};
use crate::store::{BookedSlot, Change, Document, Entity, Expect, Key, Query, Record, Store, StoreError, Versioned};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most quarters of an access that are read at once: more than any policy looks ahead.
const PAGE: u32 = 4_096;

/// The most expired counters that are removed at once.
const SWEPT: u32 = 256;

/// For how many quarters what was booked is kept: an outage may be as long.
pub(super) const KEPT: u64 = 96;

/// The view.
#[derive(Default)]
pub(super) struct Ledger {
    accesses: Mutex<BTreeMap<String, BTreeMap<u64, Counter>>>,
}

#[derive(Default, Clone, Copy)]
struct Counter {
    /// The version that the document will have; none where there is none.
    version: Option<u64>,
    /// What it will say.
    load: Load,
    /// What terminals were told that are on the line now, and what no commit says yet.
    held: Load,
    /// Commits under way that change it.
    under_way: u32,
    /// Grows when it is read again, so that of commits that fail together one reads.
    reading: u64,
}

impl Counter {
    fn taken(&self) -> Load {
        self.load.book(self.held)
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

/// Counters that a commit changes, as far as it has not returned.
#[derive(Default)]
pub(in crate::server) struct Entered {
    ledger: Option<Arc<Ledger>>,
    counters: Vec<(String, u64, u64)>,
}

impl Ledger {
    fn accesses(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<u64, Counter>>> {
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

    /// The changes of a commit that books `slot` and gives `unused` back.
    pub(super) fn enter(
        self: &Arc<Self>,
        slot: Option<&mut Held>,
        unused: Option<&BookedSlot>,
        changes: &mut Vec<Change>,
    ) -> Result<Entered, StoreError> {
        if slot.is_none() && unused.is_none() {
            return Ok(Entered::default());
        }
        let mut entered = Entered {
            ledger: Some(Arc::clone(self)),
            counters: Vec::new(),
        };
        let mut after: BTreeMap<(String, u64), (Load, Load)> = BTreeMap::new();
        if let Some(unused) = unused {
            for booking in &unused.bookings {
                let key = (unused.access.clone(), booking.quarter);
                let (_, less) = after.entry(key).or_default();
                *less = less.book(booking.load);
            }
        }
        let mut accesses = self.accesses();
        if let Some(slot) = slot {
            for booking in &slot.slot.bookings {
                let key = (slot.access.clone(), booking.quarter);
                let (more, _) = after.entry(key).or_default();
                *more = more.book(booking.load);
            }
            slot.put_down(&mut accesses);
        }
        for ((access, quarter), (more, less)) in after {
            let counter = accesses.entry(access.clone()).or_default().entry(quarter).or_default();
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
            counter.version = Some(counter.version.unwrap_or_default().saturating_add(1));
            counter.load = load;
            counter.under_way = counter.under_way.saturating_add(1);
            entered.counters.push((access, quarter, counter.reading));
        }
        Ok(entered)
    }

    /// After a conflict: reads the counters again that the commit was about, unless another has since.
    pub(super) async fn read_again(&self, store: &dyn Store, entered: &Entered) -> Result<(), StoreError> {
        for (access, quarter, reading) in &entered.counters {
            if self.counter(access, *quarter).reading != *reading {
                continue;
            }
            let id = QuarterLoad::id_of(access, *quarter);
            let found = store.get(&Key::Document(QuarterLoad::KIND, id)).await?;
            let found = found.map(counted).transpose()?.flatten();
            let mut accesses = self.accesses();
            let counter = accesses.entry(access.clone()).or_default().entry(*quarter).or_default();
            if counter.reading == *reading {
                counter.reading = counter.reading.saturating_add(1);
                counter.set(found.map(|(version, found)| (version, found.load)));
            }
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
        counters.retain(|quarter, counter| *quarter >= first || counter.under_way > 0);
        for (quarter, counter) in counters.iter_mut().filter(|(_, counter)| counter.under_way == 0) {
            counter.set(found.remove(quarter));
        }
        for (quarter, (version, load)) in found {
            let counter = counters.entry(quarter).or_default();
            if counter.under_way == 0 {
                counter.set(Some((version, load)));
            }
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
        self.counter(access, quarter).taken()
    }

    fn counter(&self, access: &str, quarter: u64) -> Counter {
        let accesses = self.accesses();
        let counter = accesses.get(access).and_then(|counters| counters.get(&quarter));
        counter.copied().unwrap_or_default()
    }
}

impl Counter {
    fn set(&mut self, found: Option<(u64, Load)>) {
        (self.version, self.load) = found.map_or((None, Load::default()), |(version, load)| (Some(version), load));
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
        let mut accesses = self.ledger.accesses.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn put_down(&mut self, accesses: &mut BTreeMap<String, BTreeMap<u64, Counter>>) {
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

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(ledger) = &self.ledger else { return };
        let mut accesses = ledger.accesses();
        for (access, quarter, _) in &self.counters {
            let counters = accesses.get_mut(access);
            if let Some(counter) = counters.and_then(|counters| counters.get_mut(quarter)) {
                counter.under_way = counter.under_way.saturating_sub(1);
            }
        }
    }
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
