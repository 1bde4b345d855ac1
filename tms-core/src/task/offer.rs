//! Offers: which of a terminal's pending assignments its next plan has.

use super::record::{Cell, Pace, Sharing, Task};
use crate::entropy::Entropy;
use crate::estate::read;
use crate::rule::task::rate::{Admission, Load, Shared};
use crate::rule::task::window::{Access, Part};
use crate::rule::task::{Counts, Rates, State};
use crate::store::{ActionId, Assignment, Change, Document, Expect, Store, StoreError, TerminalId, Versioned};
use std::collections::{BTreeMap, BTreeSet};

/// How long a terminal that is offered something has for taking it before another has its turn, in seconds.
const RESERVED: u64 = 600;

/// How often a turn is asked for again where other terminals were faster.
const ATTEMPTS: usize = 16;

/// What a terminal is not offered now, though it is pending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Offers {
    /// What is left out of the plan.
    pub(crate) withheld: BTreeSet<ActionId>,
    /// Tasks in which a turn is kept for the terminal until it has acknowledged.
    pub(crate) reserved: Vec<u64>,
    /// Seconds after which it makes sense to ask again.
    pub(crate) retry_after: Option<u32>,
}

impl Offers {
    /// Chooses among the open assignments of a terminal. What is no part of a task is always offered, and so is what is
    /// under way.
    pub(crate) async fn choose(
        store: &dyn Store,
        entropy: &dyn Entropy,
        open: &[Versioned<Assignment>],
        now: u64,
    ) -> Result<Self, StoreError> {
        let mut offers = Self::default();
        let mut pending: BTreeMap<u64, Vec<&Assignment>> = BTreeMap::new();
        for Versioned { record, .. } in open.iter().filter(|open| open.record.standing.state == State::Pending) {
            if is_blocked(record, open, now) {
                offers.withheld.insert(record.action);
            } else if let Some(step) = record.step {
                pending.entry(step.task).or_default().push(record);
            }
        }
        for (id, assignments) in pending {
            let task = read::<Task>(store, &Task::key(id)).await?.map(|found| found.record);
            let answer = match task.filter(|task| task.state.offers()) {
                None => Turn::Closed,
                Some(task) if task.definition.rates == Rates::default() => Turn::Free,
                Some(task) => turn(store, &task, &assignments, now).await?,
            };
            match answer {
                Turn::Free => {}
                Turn::Reserved => offers.reserved.push(id),
                Turn::Closed => offers
                    .withheld
                    .extend(assignments.iter().map(|assignment| assignment.action)),
                Turn::Busy(seconds) => {
                    offers
                        .withheld
                        .extend(assignments.iter().map(|assignment| assignment.action));
                    let mut chance = [0; 4];
                    entropy.fill(&mut chance);
                    // So many are told the same at the same time: half as long again, by chance.
                    let spread = u32::from_be_bytes(chance).checked_rem(seconds / 2).unwrap_or_default();
                    let seconds = seconds.saturating_add(spread);
                    offers.retry_after = Some(offers.retry_after.map_or(seconds, |before| before.min(seconds)));
                }
            }
        }
        Ok(offers)
    }

    /// The changes that give back the turns that were kept: the offers are counted now.
    pub(crate) async fn taken(
        store: &dyn Store,
        tasks: &[u64],
        terminal: TerminalId,
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for task in tasks {
            if let Some(mut found) = read::<Pace>(store, &Task::key(*task)).await?
                && found.record.reserved.remove(&terminal).is_some()
            {
                let document = Document::of(&found.record)?;
                changes.push(Change::Put(Expect::Version(found.version), document.into()));
            }
        }
        Ok(changes)
    }
}

/// Whether a terminal has its turn in a task.
enum Turn {
    /// Nobody limits it.
    Free,
    /// It has, and it is kept for it.
    Reserved,
    /// Not now: seconds.
    Busy(u32),
    /// The task offers nothing.
    Closed,
}

/// Whether something of the same component is being installed, or no window will open.
fn is_blocked(assignment: &Assignment, open: &[Versioned<Assignment>], now: u64) -> bool {
    let locked = open.iter().map(|open| &open.record).any(|other| {
        other.action != assignment.action && other.order.collides(&assignment.order) && other.standing.state.is_locked()
    });
    let closed = |part| {
        let terms = &assignment.terms;
        let access = terms
            .windows
            .access(part, false, assignment.created, now, &terms.zone());
        access == Access::Closed
    };
    locked || closed(Part::Download) || closed(Part::Install)
}

/// Asks for a turn in a task that limits them, and keeps it.
async fn turn(store: &dyn Store, task: &Task, assignments: &[&Assignment], now: u64) -> Result<Turn, StoreError> {
    let Some(terminal) = assignments.first().map(|assignment| assignment.terminal) else {
        return Ok(Turn::Free);
    };
    let size = assignments
        .iter()
        .filter_map(|assignment| assignment.order.package())
        .map(|package| package.size)
        .fold(0, u64::saturating_add);
    let member = super::Member::key(task.id, terminal);
    let member = read::<super::Member>(store, &member).await?.map(|found| found.record);
    let shares = member.map(|member| member.shares).unwrap_or_default();
    for _ in 0..ATTEMPTS {
        let found = read::<Pace>(store, &Task::key(task.id)).await?;
        let (expect, mut pace) = match found {
            Some(found) => (Expect::Version(found.version), found.record),
            None => (
                Expect::Absent,
                Pace {
                    task: task.id,
                    ..Pace::default()
                },
            ),
        };
        if pace.reserved.get(&terminal).is_some_and(|until| now < *until) {
            return Ok(Turn::Reserved);
        }
        pace.reserved.retain(|_, until| now < *until);
        let counts = counts(store, task).await?;
        let reserved = u64::try_from(pace.reserved.len()).unwrap_or(u64::MAX);
        let mut shared = Vec::new();
        for share in &shares {
            let busy = read::<Sharing>(store, &Sharing::key(share.key, &share.value)).await?;
            let busy = busy.map(|found| found.record.busy).unwrap_or_default();
            let others: BTreeSet<_> = busy
                .iter()
                .map(|(other, _)| *other)
                .filter(|other| *other != terminal)
                .collect();
            shared.push(Shared {
                key: share.key,
                members: share.members,
                // Whoever has a turn and has not said so yet may be one of them.
                unavailable: u64::try_from(others.len()).unwrap_or(u64::MAX).saturating_add(reserved),
            });
        }
        let load = Load {
            in_flight: counts.in_flight().saturating_add(reserved),
            notified: pace.notified,
            succeeded: counts.succeeded(),
            offers: pace.offers,
            bytes: pace.bytes,
            shared: &shared,
        };
        match task.definition.rates.admit(&load, size, now) {
            Admission::Busy { retry_after, .. } => return Ok(Turn::Busy(retry_after)),
            Admission::Admit { offers, bytes } => {
                (pace.offers, pace.bytes) = (offers, bytes);
                pace.notified = pace.notified.saturating_add(1);
                pace.reserved.insert(terminal, now.saturating_add(RESERVED));
                match store
                    .commit(vec![Change::Put(expect, Document::of(&pace)?.into())])
                    .await
                {
                    Err(StoreError::Conflict) => {}
                    done => return done.map(|()| Turn::Reserved),
                }
            }
        }
    }
    Ok(Turn::Busy(1))
}

/// What the terminals of a task stand at, in all the stages that have begun.
async fn counts(store: &dyn Store, task: &Task) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for stage in 0..=task.stage {
        counts.merge(&stage_counts(store, task, stage).await?.0);
    }
    Ok(counts)
}

/// What the terminals of a stage stand at, and when that changed last.
pub(super) async fn stage_counts(store: &dyn Store, task: &Task, stage: u16) -> Result<(Counts, u64), StoreError> {
    let (mut counts, mut moved) = (Counts::default(), 0);
    for cell in 0..task.cells() {
        if let Some(found) = read::<Cell>(store, &Cell::key(task.id, stage, cell)).await? {
            counts.merge(&found.record.counts);
            moved = moved.max(found.record.moved);
        }
    }
    Ok((counts, moved))
}
