//! When terminals call again.
//!
//! An estate may have [policies](ClassPolicy) for classes of terminals, and [accesses](AccessPoint) with so many lines. A
//! terminal whose policy names an access gets a slot of it: a time at which the access has room for as long a call as is
//! expected. What is given out is kept in a ledger, which each check-in that books writes in its own commit. Where there is
//! no policy for a terminal, [`ContactPolicy`] says when it calls, and nothing is read or written for it.
//!
//! Policies and accesses are read every few seconds, not by every check-in, and the ledger every minute: what another node has
//! booked meanwhile shows as a conflict, and is read then.

mod ledger;
mod record;

pub use record::{AccessPoint, ClassPolicy};

use super::plan::ContactPolicy;
use super::representation;
use crate::estate::{Branch, read};
use crate::rule::policy::CheckInPolicy;
use crate::rule::slot::{Access, QUARTER, Request, catch_up};
use crate::store::{
    BookedSlot, BranchPath, Change, CheckIn, Document, Entity, Expect, Key, Query, Record, Store, StoreError, Terminal,
    Versioned,
};
use jiff::tz::TimeZone;
use ledger::{Entered, Held, KEPT, Ledger};
use record::Alive;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tms_proto::code::Stage;
use tms_proto::message::{NextContact, Window};

/// Seconds after which policies and accesses are read again.
const REFRESH: u64 = 5;

/// Seconds after which the ledger is read again.
const LEDGER: u64 = 60;

/// Seconds between two marks that terminals call by an access.
const BEAT: u64 = 60;

/// So many seconds without a call, in which calls were booked, are an outage.
const OUTAGE: u64 = 2 * QUARTER;

/// The most policies and the most accesses of an estate.
pub(crate) const MOST: u32 = 1_000;

/// Bytes of a check-in that has nothing to do, both ways together.
const CHECK_IN: u64 = 400;

/// Decides when terminals call again.
pub(super) struct Contacts {
    otherwise: ContactPolicy,
    /// Seconds that a call may last.
    budget: u32,
    known: Mutex<Arc<Known>>,
    /// Held by who reads it again.
    reading: tokio::sync::Mutex<()>,
    ledger: Arc<Ledger>,
}

/// What operators have said, as of some seconds ago.
#[derive(Default, Clone)]
struct Known {
    read: Option<u64>,
    ledger_read: BTreeMap<String, u64>,
    swept: u64,
    policies: Vec<ClassPolicy>,
    accesses: BTreeMap<String, AccessPoint>,
    zones: BTreeMap<BranchPath, TimeZone>,
    alive: BTreeMap<String, Versioned<Alive>>,
}

/// A time that was found.
pub(super) struct Contact {
    pub(super) next: NextContact,
    /// What it books; nothing where no access limits it.
    pub(super) booking: Option<Booked>,
}

/// What a contact books.
pub(super) struct Booked {
    held: Held,
    policy: CheckInPolicy,
}

/// Who is asked for.
pub(super) struct Asked<'a> {
    /// The terminal, and what it is to do after this call, too.
    pub(super) known: &'a CheckIn,
    /// How it calls now: `modem` or `tcp`.
    pub(super) link: &'a str,
    pub(super) now: u64,
    /// Any number, evenly random.
    pub(super) chance: u64,
}

impl Booked {
    /// What a terminal's record says of it.
    pub(super) fn slot(&self) -> BookedSlot {
        self.held.booked()
    }
}

impl Contacts {
    pub(super) fn new(otherwise: ContactPolicy, budget: std::time::Duration) -> Self {
        Self {
            otherwise,
            budget: u32::try_from(budget.as_secs()).unwrap_or(u32::MAX),
            known: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            ledger: Arc::default(),
        }
    }

    /// The next contact of a terminal. What it books is held until it is dropped, or entered into the commit of the check-in.
    pub(super) async fn next(&self, store: &dyn Store, asked: &Asked<'_>) -> Result<Contact, StoreError> {
        let known = self.known(store, asked.now).await;
        let unbooked = |next| Contact { next, booking: None };
        if known.policies.is_empty() {
            return Ok(unbooked(self.otherwise.next(asked.now, asked.chance)));
        }
        let terminal = &asked.known.terminal.record;
        let branch = known.branch_of(store, terminal).await?;
        let Some(ClassPolicy { policy, access, .. }) = known.policy(terminal, &branch, asked.link) else {
            return Ok(unbooked(self.otherwise.next(asked.now, asked.chance)));
        };
        let zone = known.zone(&branch);
        let access = access.as_ref().and_then(|name| known.accesses.get(name));
        let Some(AccessPoint { name, capacity, .. }) = access else {
            let from = any_of(&policy.spans(asked.now, &zone), asked.chance).unwrap_or(asked.now);
            return Ok(unbooked(policy.contact(from)));
        };
        self.beat(store, &known, name, capacity, asked.now).await;
        let left = left(asked.known, capacity, self.budget);
        // Work that this call has no time for comes before what can wait for its day.
        let urgent = left > 0;
        let sooner = CheckInPolicy {
            period: u32::try_from(OUTAGE).unwrap_or(u32::MAX),
            tolerance: u32::try_from(QUARTER).unwrap_or_default(),
            ..policy.clone()
        };
        let timing = if urgent { &sooner } else { policy };
        let request = Request {
            spans: timing.spans(asked.now, &zone),
            later: timing.later(asked.now, &zone),
            seconds: capacity.call(left.saturating_add(CHECK_IN)).min(self.budget.max(1)),
            urgent,
        };
        let held = self.ledger.hold(name, *capacity, request, asked.chance);
        Ok(Contact {
            next: policy.contact(held.slot().from),
            booking: Some(Booked {
                held,
                policy: policy.clone(),
            }),
        })
    }

    /// Adds to a check-in's commit what it books, and gives back what the terminal had booked and does not use: it calls
    /// before the quarter in which it was to call. Until the commit has returned no other changes the same counters. Gives
    /// the terminal's new time, where what it was told has no room any more.
    pub(super) async fn enter(
        &self,
        store: &dyn Store,
        before: &Terminal,
        mut booking: Option<&mut Booked>,
        now: u64,
        changes: &mut Vec<Change>,
    ) -> Result<(Entered, Option<NextContact>), StoreError> {
        let early = |from: u64| now / QUARTER < from;
        let unused = before.slot.as_ref();
        let unused = unused.filter(|slot| slot.bookings.first().is_some_and(|first| early(first.quarter)));
        if let Some(unused) = unused
            && !self.ledger.knows(&unused.access)
        {
            self.ledger.read(store, &unused.access, now).await?;
        }
        let held = booking.as_deref_mut().map(|booked| &mut booked.held);
        let (entered, moved) = self.ledger.enter(held, unused, changes).await?;
        let next = booking.filter(|_| moved);
        Ok((
            entered,
            next.map(|booked| booked.policy.contact(booked.held.slot().from)),
        ))
    }

    /// The commit was written.
    pub(super) fn written(&self, entered: Entered, booking: Option<&mut Booked>) {
        self.ledger.written(entered, booking.map(|booked| &mut booked.held));
    }

    /// After a conflict: reads again what the commit was about.
    pub(super) async fn read_again(&self, store: &dyn Store, entered: Entered) -> Result<(), StoreError> {
        self.ledger.read_again(store, entered).await
    }

    /// Over how many seconds callers that cannot be served now are to be spread, so that those that an outage kept from
    /// calling come back no faster than the lines carry them; zero where nothing was missed.
    pub(super) fn spread(&self, now: u64) -> u32 {
        let known = Arc::clone(&self.lock());
        let spread = |name: &String, alive: &Alive| {
            let left = alive.catching_up.saturating_sub(now);
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let access = known.accesses.get(name);
            left.max(access.map_or(0, |access| self.missed(name, &access.capacity, alive.at, now)))
        };
        let spreads = known.alive.iter().map(|(name, alive)| spread(name, &alive.record));
        spreads.max().unwrap_or_default()
    }

    /// Over how many seconds the calls are to be spread that were booked since `at` and did not come.
    fn missed(&self, access: &str, capacity: &Access, at: u64, now: u64) -> u32 {
        if at == 0 || now.saturating_sub(at) < OUTAGE {
            return 0;
        }
        let (first, current) = ((at / QUARTER).saturating_add(1), now / QUARTER);
        let quarters = first.max(current.saturating_sub(KEPT))..current;
        let load = |quarter| self.ledger.load(access, quarter);
        let missed: Vec<_> = quarters.map(load).collect();
        catch_up(capacity, &missed, now, load)
    }

    /// Says from time to time that terminals call by this access; and where none has called for long, how long those that
    /// should have are given to come back. What cannot be written now is written by a later call.
    async fn beat(&self, store: &dyn Store, known: &Known, name: &str, capacity: &Access, now: u64) {
        let before = known.alive.get(name);
        let at = before.map_or(0, |before| before.record.at);
        if at <= now && now - at < BEAT {
            return;
        }
        let Ok(_one) = self.reading.try_lock() else { return };
        // whoever held it may have written it
        if self.lock().alive.get(name).is_some_and(|later| later.record.at != at) {
            return;
        }
        let missed = self.missed(name, capacity, at, now);
        let before_until = before.map_or(0, |before| before.record.catching_up);
        let alive = Alive {
            access: name.to_owned(),
            at: now,
            catching_up: before_until.max(if missed > 0 {
                now.saturating_add(missed.into())
            } else {
                0
            }),
        };
        let expect = before.map_or(Expect::Absent, |before| Expect::Version(before.version));
        let Ok(document) = Document::of(&alive) else { return };
        let written = store.commit(vec![Change::Put(expect, document.into())]).await;
        match written {
            Ok(()) => {
                let version = before.map_or(1, |before| before.version.saturating_add(1));
                self.change(|known| {
                    known
                        .alive
                        .insert(name.to_owned(), Versioned { version, record: alive });
                });
            }
            // another node has said it
            Err(StoreError::Conflict) => {
                if let Ok(Some(found)) = read::<Alive>(store, name).await {
                    self.change(|known| {
                        known.alive.insert(name.to_owned(), found);
                    });
                }
            }
            Err(error) => tracing::debug!(%error, access = name, "access not marked as alive"),
        }
    }

    /// What operators have said. Where it cannot be read, what they had said before.
    async fn known(&self, store: &dyn Store, now: u64) -> Arc<Known> {
        let known = Arc::clone(&self.lock());
        let fresh = |known: &Known| known.read.is_some_and(|read| read <= now && now - read < REFRESH);
        if fresh(&known) {
            return known;
        }
        // The first waits for it; later ones go on with what they know while one of them reads.
        let _one = if known.read.is_none() {
            self.reading.lock().await
        } else {
            match self.reading.try_lock() {
                Ok(one) => one,
                Err(_) => return known,
            }
        };
        let known = Arc::clone(&self.lock());
        if fresh(&known) {
            return known;
        }
        match self.read(store, &known, now).await {
            Ok(new) => {
                let new = Arc::new(new);
                *self.lock() = Arc::clone(&new);
                new
            }
            Err(error) => {
                tracing::warn!(%error, "check-in policies cannot be read");
                known
            }
        }
    }

    async fn read(&self, store: &dyn Store, before: &Known, now: u64) -> Result<Known, StoreError> {
        let mut known = Known {
            read: Some(now),
            policies: all(store).await?,
            ..Known::default()
        };
        if known.policies.is_empty() {
            return Ok(known);
        }
        let named: Vec<AccessPoint> = all(store).await?;
        known.accesses = named.into_iter().map(|access| (access.name.clone(), access)).collect();
        for (name, access) in &known.accesses {
            if !known.policies.iter().any(|policy| policy.access.as_ref() == Some(name)) {
                continue;
            }
            if let Some(alive) = read::<Alive>(store, name).await? {
                known.alive.insert(name.clone(), alive);
            }
            let read = before.ledger_read.get(name).copied();
            let read = match read.filter(|read| *read <= now && now - read < LEDGER) {
                Some(read) => read,
                None => {
                    self.ledger.read(store, &access.name, now).await?;
                    now
                }
            };
            known.ledger_read.insert(name.clone(), read);
        }
        known.swept = before.swept;
        if before.swept / QUARTER != now / QUARTER {
            known.swept = now;
            for name in known.ledger_read.keys() {
                self.ledger.sweep(store, name, now).await?;
            }
        }
        // hours and days are those of the place
        if known.policies.iter().any(|policy| policy.policy.is_local()) {
            known.zones = zones(store).await?;
        }
        Ok(known)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(Arc::make_mut(&mut self.lock()));
    }
}

impl Known {
    /// The branch of a terminal, where a policy asks for it.
    async fn branch_of(&self, store: &dyn Store, terminal: &Terminal) -> Result<BranchPath, StoreError> {
        let head_office = BranchPath::head_office();
        let everywhere = |policy: &ClassPolicy| policy.class.branch == head_office && !policy.policy.is_local();
        if self.policies.iter().all(everywhere) {
            return Ok(head_office);
        }
        Ok(match store.get(&Key::Roster(terminal.id)).await? {
            Some(Versioned {
                record: Record::Roster(entry),
                ..
            }) => entry.branch,
            _ => head_office,
        })
    }

    /// The policy that says most of those that cover a terminal; of equals, the first by name.
    fn policy(&self, terminal: &Terminal, branch: &BranchPath, link: &str) -> Option<&ClassPolicy> {
        let given = terminal.policy.as_ref();
        let given = given.and_then(|name| self.policies.iter().find(|policy| policy.name == *name));
        if given.is_some() {
            return given;
        }
        let covering = self
            .policies
            .iter()
            .filter(|policy| policy.class.covers(terminal.id, branch, &terminal.holder, link));
        covering.reduce(|best, next| {
            if next.class.weight() > best.class.weight() {
                next
            } else {
                best
            }
        })
    }

    /// The time zone of a branch, or of the nearest above it that has one.
    fn zone(&self, branch: &BranchPath) -> TimeZone {
        let mut line = branch.line();
        line.reverse();
        let found = line.iter().find_map(|branch| self.zones.get(branch));
        found.cloned().unwrap_or(TimeZone::UTC)
    }
}

/// Bytes that are still to be downloaded after this call has taken as long as it may.
fn left(known: &CheckIn, capacity: &Access, budget: u32) -> u64 {
    let decoding = &known.terminal.record.decoding;
    let open = known.assignments.iter().map(|open| &open.record);
    let open = open.filter(|open| matches!(open.stage, Stage::Accepted | Stage::Downloading));
    let size = |open| {
        let chosen = representation::smallest(open, decoding);
        let whole = open.order.package().map_or(0, |package| package.size);
        let content = chosen.map_or(whole, |chosen| chosen.size);
        let manifest = open.order.package().map_or(0, |package| package.manifest_size);
        content.saturating_add(manifest.into())
    };
    let all = open.map(size).fold(0u64, u64::saturating_add);
    let time = budget.saturating_sub(capacity.overhead);
    all.saturating_sub(u64::from(time).saturating_mul(capacity.rate.into()))
}

/// Any second of these.
fn any_of(spans: &[Window], chance: u64) -> Option<u64> {
    let length = |span: &Window| span.until.saturating_sub(span.from);
    let all = spans.iter().map(length).fold(0, u64::saturating_add);
    let mut second = chance.checked_rem(all)?;
    spans.iter().find_map(|span| {
        let found = (second < length(span)).then(|| span.from.saturating_add(second));
        second = second.saturating_sub(length(span));
        found
    })
}

/// All of a kind: at most [`MOST`], which is as many as there may be.
async fn all<E: Entity>(store: &dyn Store) -> Result<Vec<E>, StoreError> {
    let query = Query::Documents {
        kind: E::KIND,
        prefix: String::new(),
        after: None,
    };
    let mut all = Vec::new();
    for found in store.list(&query, MOST).await? {
        if let Record::Document(document) = found.record {
            all.push(document.read()?);
        }
    }
    Ok(all)
}

/// The time zones of the branches that have one of their own.
async fn zones(store: &dyn Store) -> Result<BTreeMap<BranchPath, TimeZone>, StoreError> {
    let (mut zones, mut after) = (BTreeMap::new(), None);
    loop {
        let query = Query::Documents {
            kind: Branch::KIND,
            prefix: String::new(),
            after: after.take(),
        };
        let page = store.list(&query, MOST).await?;
        let full = u32::try_from(page.len()).is_ok_and(|found| found >= MOST);
        for found in page {
            let Record::Document(document) = found.record else {
                continue;
            };
            after = Some(document.id.clone());
            let branch: Branch = document.read()?;
            if let Some(zone) = branch.zone.and_then(|zone| TimeZone::get(&zone).ok()) {
                zones.insert(branch.path, zone);
            }
        }
        if !full {
            return Ok(zones);
        }
    }
}
