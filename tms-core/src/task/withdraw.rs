//! Taking back what a task has given out.

use super::ledger::Ledger;
use super::record::{Member, Task};
use crate::rule::task::assignment::{Event as Move, State};
use crate::store::{ActionId, Assignment, Caller, Change, Expect, Key, Order, Record, Store, StoreError, Versioned};

impl Task {
    /// Whether the members of this state are still to be withdrawn.
    pub(super) const fn withdraws(state: State, force: bool) -> bool {
        match state {
            State::Pending => true,
            state => state.is_in_flight() && (force || !state.is_locked()),
        }
    }
}

/// Adds to `changes` what withdraws a member: at once what was never offered, and all of it with `force`; the terminal is
/// asked about the rest, once. `by` is the task that takes the place of the member's, if one does.
pub(super) async fn withdraw(
    store: &dyn Store,
    member: Member,
    (force, by): (bool, Option<u64>),
    now: u64,
    ledger: &mut Ledger<'_>,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    if member.steps.is_empty() || member.retry {
        // The terminal has nothing of it: its stage has not begun, or the next attempt.
        let member = Member {
            due: None,
            retry: false,
            ..member
        };
        let state = match by {
            Some(_) => State::Superseded { by },
            None => State::Cancelled { forced: force },
        };
        return ledger.put(member, state).await;
    }
    let Some(known) = store.check_in(&Caller::Id(member.terminal)).await? else {
        return ledger.put(Member { due: None, ..member }, State::TerminalRemoved).await;
    };
    let mut terminal = known.terminal.record.clone();
    let mut asked = false;
    for id in member.steps.iter().filter_map(|step| step.action) {
        let open = known.assignments.iter().find(|open| open.record.action == id);
        let Some(Versioned { version, record }) = open else {
            continue;
        };
        let question = ActionId(terminal.last_action.saturating_add(1));
        let event = match by {
            // It knows nothing of it.
            Some(by) if record.standing.state == State::Pending => Move::Supersede { by },
            _ => Move::Cancel { id: question.0, force },
        };
        let Ok(after) = record.after(event, now) else {
            // It has gone too far, or was asked already.
            continue;
        };
        if after.standing.cancel == Some(question.0) {
            terminal.last_action = question.0;
            asked = true;
            let order = Order::Cancel { target: id };
            let cancel = Assignment::new(member.terminal, question, order, now, &record.actor);
            changes.push(Change::Put(Expect::Absent, cancel.into()));
        }
        ledger.moved(&after).await?;
        changes.push(Change::Put(Expect::Version(*version), after.into()));
    }
    if asked {
        changes.push(Change::Put(Expect::Version(known.terminal.version), terminal.into()));
    }
    Ok(())
}

/// An assignment by its key.
pub(super) async fn assignment(store: &dyn Store, key: Key) -> Result<Option<Versioned<Assignment>>, StoreError> {
    let found = store.get(&key).await?;
    Ok(found.and_then(|found| match found.record {
        Record::Assignment(assignment) => Some(Versioned {
            version: found.version,
            record: *assignment,
        }),
        _ => None,
    }))
}
