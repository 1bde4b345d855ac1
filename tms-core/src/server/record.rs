//! What is written of a call: each step is one commit, decided again where somebody else was faster.

use super::Inner;
use super::contact::Booked;
use super::plan::{self, Planned};
use super::representation::decoding;
use crate::store::{
    ActionId, Assignment, Caller, Change, CheckIn, CheckInSummary, Credential, Event, EventKind, Expect,
    InventoryRecord, Key, KeyId, PlanStanding, Record, SealedTicket, StoreError, TerminalId, TerminalState, Versioned,
};
use tms_proto::code::{ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_proto::message::{ActionResult, Inventory, NextContact, Refusal, StatusReport};
use tms_proto::session::Misuse;

/// How often a commit is decided again after a conflict, before the terminal is asked to come back.
const ATTEMPTS: usize = 8;

/// All that is known of a call when its check-in is to be recorded.
pub(super) struct Facts {
    pub(super) mode: u8,
    pub(super) peer: String,
    pub(super) elsewhere: Option<String>,
    pub(super) report: StatusReport,
    pub(super) credential: Option<(KeyId, Credential)>,
    pub(super) used_ticket: Option<[u8; 8]>,
    pub(super) ticket: Option<SealedTicket>,
    pub(super) standing: PlanStanding,
    pub(super) next_contact: NextContact,
    pub(super) booking: Option<Booked>,
    pub(super) refused: Vec<Refusal>,
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

/// The assignments that a report or a result touches, before and after.
struct Touched {
    before: Versioned<Assignment>,
    after: Assignment,
}

impl Inner {
    /// Plans for a terminal, as if its results were recorded already.
    pub(super) async fn decide(
        &self,
        known: &mut CheckIn,
        report: &StatusReport,
        next_contact: NextContact,
    ) -> Result<Planned, StoreError> {
        let now = self.services.clock.now();
        let touched = self.touched(known, &report.results, &[], now).await?;
        for Touched { after, .. } in touched {
            known
                .assignments
                .retain(|assignment| assignment.record.action != after.action || !after.closed);
            // The rest of it is yet to be recorded; but in what form the content comes is decided now.
            let open = known.assignments.iter_mut().map(|open| &mut open.record);
            for open in open.filter(|open| open.action == after.action) {
                open.whole = after.whole;
            }
        }
        Ok(plan::plan(known, report, next_contact))
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
            let mut changes = self.check_in_changes(&known, facts).await?;
            let (before, now) = (&known.terminal.record, self.services.clock.now());
            let booking = facts.booking.as_ref();
            let entered = self.contacts.enter(store, before, booking, now, &mut changes).await?;
            match store.commit(changes).await {
                Err(StoreError::Conflict) => {
                    known = self.read(id).await?;
                    if let Some(next) = self.contacts.again(store, entered, facts.booking.as_mut()).await? {
                        facts.next_contact = next;
                        moved = Some(next);
                    }
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
        if !report.logical.is_empty() {
            terminal.logical.clone_from(&report.logical);
        }
        if let Some(inventory) = &report.inventory {
            // The terminal's own digest names it: it may cover fields that this version does not know.
            terminal.inventory = Some(report.inventory_digest);
            terminal.decoding = decoding(inventory);
            changes.push(inventory_change(before.id, inventory, now));
        }
        changes.push(Change::Put(Expect::Version(known.terminal.version), terminal.into()));

        for touched in self.touched(known, &report.results, &facts.refused, now).await? {
            changes.push(event(result_event(&touched.after)));
            changes.push(touched.into());
        }
        changes.push(event(EventKind::CheckedIn(CheckInSummary {
            mode: facts.mode,
            trigger: report.trigger.kind,
            skew: skew(report.time, now),
            peer: facts.peer.clone(),
            claimed: report.location.as_ref().and_then(|location| location.caller.clone()),
            elapsed: Some(facts.elapsed),
            inventory: report.inventory.is_some(),
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
        for _ in 0..ATTEMPTS {
            let Some(before) = self.assignment(id, ActionId(result.action)).await? else {
                return Ok(());
            };
            let Some(after) = after(&before.record, result, now) else {
                return Ok(());
            };
            let kind = result_event(&after);
            let event = Event {
                time: now,
                terminal: Some(id),
                actor: actor.to_owned(),
                kind,
            };
            let changes = vec![Touched { before, after }.into(), Change::Append(event)];
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

    async fn read(&self, id: TerminalId) -> Result<CheckIn, StoreError> {
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

    async fn touched(
        &self,
        known: &CheckIn,
        results: &[ActionResult],
        refused: &[Refusal],
        now: u64,
    ) -> Result<Vec<Touched>, StoreError> {
        let id = known.terminal.record.id;
        let mut touched: Vec<Touched> = Vec::new();
        let named = results
            .iter()
            .map(|result| result.action)
            .chain(refused.iter().map(|refusal| refusal.action));
        for action in named.map(ActionId) {
            if touched.iter().any(|touched| touched.before.record.action == action) {
                continue;
            }
            let open = known
                .assignments
                .iter()
                .find(|assignment| assignment.record.action == action)
                .cloned();
            // An action that is over is not in the check-in's read: a late truth is rare.
            let before = match open {
                Some(before) => Some(before),
                None => self.assignment(id, action).await?,
            };
            let Some(before) = before else { continue };
            let mut record = before.record.clone();
            for result in results.iter().filter(|result| ActionId(result.action) == action) {
                record = after(&record, result, now).unwrap_or(record);
            }
            if let Some(refusal) = refused
                .iter()
                .find(|refusal| ActionId(refusal.action) == action && !record.closed)
            {
                record.stage = Stage::Rejected;
                record.code = refusal.code;
                record.closed = refusal.code.is_permanent();
                record.updated = now;
            }
            if record != before.record {
                touched.push(Touched { before, after: record });
            }
        }
        Ok(touched)
    }
}

impl From<Touched> for Change {
    fn from(touched: Touched) -> Self {
        Self::Put(Expect::Version(touched.before.version), touched.after.into())
    }
}

/// What an assignment becomes. A terminal that confirms other content than the package's is not believed.
fn after(assignment: &Assignment, result: &ActionResult, now: u64) -> Option<Assignment> {
    let truthful = plan::is_truthful(assignment, result);
    let mut after = plan::apply(assignment, result, now)?;
    if !truthful {
        after.stage = Stage::Rejected;
        after.code = ResultCode::Changed;
    }
    Some(after)
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
