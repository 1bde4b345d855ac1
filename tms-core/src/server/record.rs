//! What is written of a call: each step is one commit, decided again where somebody else was faster.

use super::Inner;
use super::contact::Booked;
use super::plan::{self, Planned};
use super::representation::decoding;
use super::text;
use super::withdrawn::is_held_back;
use crate::estate::ParameterSetRef;
use crate::rule::relocation::{Observed, clipped};
use crate::rule::task::Report;
use crate::rule::task::assignment::Event as Move;
use crate::store::{
    ActionId, Assignment, Caller, Change, CheckIn, CheckInSummary, Credential, Event, EventKind, Expect,
    InventoryRecord, Key, KeyId, Order, PlanStanding, Record, SealedTicket, StoreError, TerminalId, TerminalState,
    Versioned,
};
use crate::task::{Ledger, Offers};
use tms_proto::digest::Digest;
use tms_proto::message::{ActionResult, Inventory, NextContact, Refusal, StatusReport};
use tms_proto::session::Misuse;

/// How often a commit is decided again after a conflict, before the terminal is asked to come back.
const ATTEMPTS: usize = 8;

/// All that is known of a call when its check-in is to be recorded.
pub(super) struct Facts {
    pub(super) mode: u8,
    pub(super) peer: String,
    pub(super) observed: Observed,
    pub(super) elsewhere: Option<String>,
    pub(super) report: StatusReport,
    pub(super) credential: Option<(KeyId, Credential)>,
    pub(super) used_ticket: Option<[u8; 8]>,
    pub(super) ticket: Option<SealedTicket>,
    pub(super) standing: PlanStanding,
    /// What was offered by the plan.
    pub(super) offered: Vec<ActionId>,
    /// Tasks in which a turn was kept for the terminal.
    pub(super) reserved: Vec<u64>,
    /// The policy by which it is to check in from now on, where the plan changed that.
    pub(super) policy: Option<String>,
    pub(super) next_contact: NextContact,
    pub(super) booking: Option<Booked>,
    pub(super) refused: Vec<Refusal>,
    /// The texts that went with the plan.
    pub(super) texts: Vec<u64>,
    /// Those that it took back.
    pub(super) withdrawn_texts: Vec<u64>,
    /// Milliseconds since the call began.
    pub(super) elapsed: u32,
}

/// Why a step of a call could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("session: {0}")]
    Session(#[from] Misuse),
    #[error("transport: {0}")]
    Transport(#[from] std::io::Error),
}

/// An assignment that a report or a result touches, before and after.
struct Touched {
    before: Versioned<Assignment>,
    after: Assignment,
    /// The terminal has said something of it.
    told: bool,
}

/// What is to become of a terminal's assignments.
#[derive(Default)]
struct Told<'a> {
    results: &'a [ActionResult],
    offered: &'a [ActionId],
    refused: &'a [Refusal],
}

/// A plan, and what goes with it.
pub(super) struct Decided {
    pub(super) planned: Planned,
    /// What the terminal may download.
    pub(super) objects: Vec<Digest>,
    /// Tasks in which a turn is kept for the terminal.
    pub(super) reserved: Vec<u64>,
    /// Parameter sets that it may download: they are made when they are.
    pub(super) sets: Vec<ParameterSetRef>,
    /// The policy by which it is to check in from now on, where this plan changes that.
    pub(super) policy: Option<String>,
    /// Seconds after which it makes sense to ask for a turn again, where it did not get one.
    pub(super) retry_after: Option<u32>,
}

impl Inner {
    /// Plans for a terminal, as if its results were recorded already.
    pub(super) async fn decide(
        &self,
        known: &CheckIn,
        report: &StatusReport,
        next_contact: NextContact,
    ) -> Result<Decided, StoreError> {
        let now = self.services.clock.now();
        let terminal = &known.terminal.record;
        let told = Told {
            results: &report.results,
            ..Told::default()
        };
        let touched = self.touched(terminal.id, &known.assignments, &told, now).await?;
        let mut open = known.assignments.clone();
        for Touched { after, .. } in touched {
            if let Some(assignment) = open.iter_mut().find(|open| open.record.action == after.action) {
                assignment.record = after;
            }
        }
        let withdrawn = self.withdrawn.at(&*self.services.store, now).await;
        open.retain(|open| !open.record.closed && !is_held_back(&open.record, &withdrawn));
        let offers = Offers::choose(&*self.services.store, &*self.services.entropy, &open, now).await?;
        open.retain(|assignment| !offers.withheld.contains(&assignment.record.action));
        Ok(Decided {
            planned: plan::plan(terminal, &open, report, next_contact, now),
            objects: plan::objects(&open),
            sets: plan::sets(&open),
            policy: plan::policy(&open),
            reserved: offers.reserved,
            retry_after: offers.retry_after,
        })
    }

    /// Records a check-in and everything that its report said, in one commit. Where the time at which the terminal was told
    /// to call is not free any more, it gives the new one.
    pub(super) async fn record_check_in(
        &self,
        mut known: CheckIn,
        facts: &mut Facts,
    ) -> Result<Option<NextContact>, StoreError> {
        let (id, store) = (known.terminal.record.id, &*self.services.store);
        let mut moved = None;
        for _ in 0..ATTEMPTS {
            let (before, now) = (&known.terminal.record, self.services.clock.now());
            let (booking, mut booked) = (facts.booking.as_mut(), Vec::new());
            let (entered, next) = self.contacts.enter(store, before, booking, now, &mut booked).await?;
            if let Some(next) = next {
                facts.next_contact = next;
                moved = Some(next);
            }
            let mut changes = self.check_in_changes(&known, facts).await?;
            changes.extend(booked);
            match store.commit(changes).await {
                Err(StoreError::Conflict) => {
                    known = self.read(id).await?;
                    self.contacts.read_again(store, entered).await?;
                }
                Ok(()) => {
                    self.contacts.written(entered, facts.booking.as_mut());
                    return Ok(moved);
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unavailable("too many conflicts".to_owned()))
    }

    async fn check_in_changes(&self, known: &CheckIn, facts: &Facts) -> Result<Vec<Change>, StoreError> {
        let now = self.services.clock.now();
        let before = &known.terminal.record;
        let report = &facts.report;
        let event = |kind| {
            Change::Append(Event {
                time: now,
                terminal: Some(before.id),
                actor: before.holder.to_string(),
                kind,
            })
        };
        let mut terminal = before.clone();
        let mut changes = Vec::with_capacity(2);

        if terminal.state == TerminalState::Enrolled {
            terminal.state = TerminalState::Active;
        }
        if let Some((key, credential)) = &facts.credential {
            terminal.key = terminal.key.or(Some(*key));
            terminal.credential = Some(credential.clone());
        }
        // The ticket that was used stays until its successor is used: the terminal may never have heard of that (§4.6).
        terminal.tickets.retain(|ticket| facts.used_ticket == Some(ticket.id));
        terminal.tickets.extend(facts.ticket.clone());
        if let Some(evidence) = clone_evidence(before.contact, facts) {
            changes.push(event(EventKind::CloneSuspected { evidence }));
        }
        terminal.contact = terminal.contact.max(report.contact);
        terminal.plan = facts.standing;
        terminal.last_check_in = Some(now);
        terminal.next_contact = Some(facts.next_contact);
        terminal.slot = facts.booking.as_ref().map(Booked::slot);
        if facts.policy.is_some() {
            terminal.policy.clone_from(&facts.policy);
        }
        if !report.logical.is_empty() {
            terminal.logical.clone_from(&report.logical);
        }
        if let Some(inventory) = &report.inventory {
            // The terminal's own digest names it: it may cover fields that this version does not know.
            terminal.inventory = Some(report.inventory_digest);
            terminal.decoding = decoding(inventory);
            changes.push(inventory_change(before.id, inventory, now));
        }
        text::taken(&mut terminal, &facts.texts, &facts.withdrawn_texts, now);
        changes.push(Change::Put(Expect::Version(known.terminal.version), terminal.into()));

        let told = Told {
            results: &report.results,
            offered: &facts.offered,
            refused: &facts.refused,
        };
        let store = &*self.services.store;
        let mut ledger = Ledger::new(store, now);
        for touched in self.touched(before.id, &known.assignments, &told, now).await? {
            if touched.told {
                changes.push(event(result_event(&touched.after)));
            }
            ledger.moved(&touched.after).await?;
            changes.push(touched.into());
        }
        changes.extend(ledger.changes()?);
        changes.extend(Offers::taken(store, &facts.reserved, before.id).await?);
        changes.push(event(EventKind::CheckedIn(CheckInSummary {
            mode: facts.mode,
            trigger: report.trigger.kind,
            skew: skew(report.time, now),
            peer: facts.peer.clone(),
            claimed: report.location.as_ref().and_then(|location| location.caller.clone()),
            elapsed: Some(facts.elapsed),
            inventory: report.inventory.is_some(),
            contact: report.contact,
            observed: facts.observed.clone(),
            location: report.location.as_ref().map(clipped).map(Box::new),
        })));
        Ok(changes)
    }

    /// Records one result. An old or repeated one is recorded already.
    pub(super) async fn record_result(
        &self,
        id: TerminalId,
        actor: &str,
        result: &ActionResult,
    ) -> Result<(), StoreError> {
        let now = self.services.clock.now();
        let told = Told {
            results: std::slice::from_ref(result),
            ..Told::default()
        };
        for _ in 0..ATTEMPTS {
            let mut ledger = Ledger::new(&*self.services.store, now);
            let mut changes = Vec::new();
            for touched in self.touched(id, &[], &told, now).await? {
                if touched.told {
                    changes.push(Change::Append(Event {
                        time: now,
                        terminal: Some(id),
                        actor: actor.to_owned(),
                        kind: result_event(&touched.after),
                    }));
                }
                ledger.moved(&touched.after).await?;
                changes.push(touched.into());
            }
            changes.extend(ledger.changes()?);
            match self.services.store.commit(changes).await {
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
        Err(StoreError::Unavailable("too many conflicts".to_owned()))
    }

    /// Records a whole inventory that the server asked for.
    pub(super) async fn record_inventory(
        &self,
        id: TerminalId,
        actor: &str,
        digest: Digest,
        inventory: &Inventory,
    ) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let known = self.read(id).await?;
            let mut terminal = known.terminal.record;
            terminal.inventory = Some(digest);
            terminal.decoding = decoding(inventory);
            let now = self.services.clock.now();
            let changes = vec![
                inventory_change(id, inventory, now),
                Change::Put(Expect::Version(known.terminal.version), terminal.into()),
                Change::Append(Event {
                    time: now,
                    terminal: Some(id),
                    actor: actor.to_owned(),
                    kind: EventKind::InventoryReported,
                }),
            ];
            match self.services.store.commit(changes).await {
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
        Err(StoreError::Unavailable("too many conflicts".to_owned()))
    }

    /// Records something that happened.
    pub(super) async fn record_event(&self, id: TerminalId, actor: &str, kind: EventKind) -> Result<(), StoreError> {
        let event = Event {
            time: self.services.clock.now(),
            terminal: Some(id),
            actor: actor.to_owned(),
            kind,
        };
        self.services.store.commit(vec![Change::Append(event)]).await
    }

    pub(super) async fn read(&self, id: TerminalId) -> Result<CheckIn, StoreError> {
        let known = self.services.store.check_in(&Caller::Id(id)).await?;
        known.ok_or_else(|| StoreError::Backend("the terminal was removed during its call".to_owned()))
    }

    async fn assignment(&self, id: TerminalId, action: ActionId) -> Result<Option<Versioned<Assignment>>, StoreError> {
        let found = self.services.store.get(&Key::Assignment(id, action)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Assignment(assignment) => Some(Versioned {
                version: found.version,
                record: *assignment,
            }),
            _ => None,
        }))
    }

    /// What becomes of a terminal's assignments. Of `open` are those that are read already; what is over is read when it is
    /// spoken of: a late truth is rare.
    async fn touched(
        &self,
        id: TerminalId,
        open: &[Versioned<Assignment>],
        told: &Told<'_>,
        now: u64,
    ) -> Result<Vec<Touched>, StoreError> {
        let mut touched = Loaded {
            inner: self,
            id,
            open,
            touched: Vec::new(),
        };
        for result in told.results {
            touched.result(result, now).await?;
        }
        for action in told.offered {
            if let Some(found) = touched.load(*action).await?
                && let Some(after) = found.after.acknowledged(now)
            {
                found.after = after;
            }
        }
        for refusal in told.refused {
            if let Some(found) = touched.load(ActionId(refusal.action)).await?
                && !found.after.closed
            {
                found.after = found.after.refused(refusal.code, now);
                found.told = true;
            }
        }
        touched.touched.retain(|touched| touched.after != touched.before.record);
        Ok(touched.touched)
    }
}

/// The assignments of one terminal, as far as they are needed.
struct Loaded<'a> {
    inner: &'a Inner,
    id: TerminalId,
    open: &'a [Versioned<Assignment>],
    touched: Vec<Touched>,
}

impl Loaded<'_> {
    async fn load(&mut self, action: ActionId) -> Result<Option<&mut Touched>, StoreError> {
        let place = self
            .touched
            .iter()
            .position(|touched| touched.before.record.action == action);
        let place = match place {
            Some(place) => place,
            None => {
                let open = self.open.iter().find(|open| open.record.action == action).cloned();
                let found = match open {
                    Some(open) => Some(open),
                    None => self.inner.assignment(self.id, action).await?,
                };
                let Some(before) = found else { return Ok(None) };
                let after = before.record.clone();
                self.touched.push(Touched {
                    before,
                    after,
                    told: false,
                });
                self.touched.len().saturating_sub(1)
            }
        };
        Ok(self.touched.get_mut(place))
    }

    async fn result(&mut self, result: &ActionResult, now: u64) -> Result<(), StoreError> {
        let action = ActionId(result.action);
        let Some(found) = self.load(action).await? else {
            return Ok(());
        };
        let attempt = found.after.standing.attempt;
        if let Order::Cancel { target } = found.after.order
            && let Some(taken) = Report::cancel_taken(result.stage, result.code)
            && let Some(target) = self.load(target).await?
        {
            let answer = Move::CancelAnswer { id: action.0, taken };
            if let Ok(after) = target.after.after(answer, now) {
                target.after = after;
            }
        }
        // What is said of an attempt that was replaced concerns the present one.
        let mut last = action;
        while let Some(next) = self.load(last).await?.and_then(|found| found.after.replaced_by)
            && self.load(next).await?.is_some()
        {
            last = next;
        }
        if let Some(found) = self.load(last).await?
            && let Some(after) = found.after.heard(attempt, result, now)
        {
            found.after = after;
            found.told = true;
        }
        Ok(())
    }
}

impl From<Touched> for Change {
    fn from(touched: Touched) -> Self {
        Self::Put(Expect::Version(touched.before.version), touched.after.into())
    }
}

fn result_event(after: &Assignment) -> EventKind {
    EventKind::Result {
        action: after.action,
        stage: after.stage,
        code: after.code,
        attempt: after.attempt,
    }
}

fn inventory_change(terminal: TerminalId, inventory: &Inventory, now: u64) -> Change {
    let record = InventoryRecord {
        terminal,
        inventory: inventory.clone(),
        reported: now,
    };
    Change::Put(Expect::Any, record.into())
}

/// Two terminals with one identity cannot both count their calls right.
fn clone_evidence(last: u32, facts: &Facts) -> Option<String> {
    if let Some(elsewhere) = facts.elsewhere.as_ref().filter(|elsewhere| **elsewhere != facts.peer) {
        return Some(format!("two calls at once, from {elsewhere} and from {}", facts.peer));
    }
    let contact = facts.report.contact;
    (contact <= last && last > 0).then(|| format!("call number {contact} came after call number {last}"))
}

fn skew(terminal: u64, server: u64) -> i64 {
    let seconds = i128::from(terminal) - i128::from(server);
    i64::try_from(seconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
}
