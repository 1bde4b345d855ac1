//! The proofs of the clauses, one function each.

use super::Violation;
use crate::store::{Assignment, Change, Event, EventKind, Expect, Key, Record, Store};
use crate::testing::sample;
use tokio::task::JoinSet;

type Outcome = Result<(), Violation>;

macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(crate::testing::store::Violation(format!($($text)+)));
        }
    };
}

mod commit;
mod event;
mod read;

pub(super) use commit::{
    a_commit_is_atomic, a_dropped_commit_leaves_all_or_nothing, a_record_named_twice_is_refused, commits_are_durable,
    expectations_are_checked, no_two_terminals_have_one_holder, one_of_racing_commits_wins, versions_count_puts,
};
pub(super) use event::{
    events_are_in_order, events_never_appear_behind_a_reader, forgotten_events_are_gone_and_the_newest_stays,
};
pub(super) use read::{
    a_check_in_finds_its_terminal_and_what_is_open, a_read_is_of_one_moment, errors_hold_no_content,
    pages_are_in_order, reads_see_every_commit_that_has_returned, records_come_back_whole,
};

/// A record of each kind whose keys nobody else has.
fn one_of_each(id: u64) -> [Record; 6] {
    [
        sample::terminal(id).into(),
        sample::inventory(id).into(),
        sample::package(id).into(),
        sample::assignment(id, 1).into(),
        sample::roster(id).into(),
        sample::document(id).into(),
    ]
}

fn put(expect: Expect, record: impl Into<Record>) -> Change {
    Change::Put(expect, record.into())
}

async fn write(store: &dyn Store, changes: impl Into<Vec<Change>>) -> Outcome {
    Ok(store.commit(changes.into()).await?)
}

async fn read(store: &dyn Store, key: Key) -> Result<Option<(u64, Record)>, Violation> {
    Ok(store.get(&key).await?.map(|found| (found.version, found.record)))
}

fn missing() -> Violation {
    Violation("a terminal that is there is not found".to_owned())
}

fn assignment(record: &Record) -> Assignment {
    match record {
        Record::Assignment(assignment) => (**assignment).clone(),
        other => panic!("{:?} came where an assignment was asked for", other.key()),
    }
}

fn what(event: &Event) -> &str {
    match &event.kind {
        EventKind::Terminal { what, .. } => what,
        _ => "",
    }
}

async fn joined(mut tasks: JoinSet<Outcome>) -> Outcome {
    while let Some(finished) = tasks.join_next().await {
        finished.map_err(|error| Violation(error.to_string()))??;
    }
    Ok(())
}
