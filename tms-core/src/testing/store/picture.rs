//! All that can be read of a store, so that two can be compared.

use super::Violation;
use crate::store::{
    BranchPath, Caller, CheckIn, Dimension, Event, Group, Key, Query, Record, RosterFilter, RosterPlace, Seen,
    Sequence, Store, Tally, TerminalId, Versioned,
};
use crate::testing::sample;
use std::collections::{BTreeMap, BTreeSet};

/// Answers by their questions.
#[derive(Debug, PartialEq)]
pub(super) struct Picture(BTreeMap<String, Answer>);

#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a test's answers live for a moment")]
enum Answer {
    Record(Option<Versioned<Record>>),
    Page(Vec<Versioned<Record>>),
    Events(Vec<Event>),
    CheckIn(Option<CheckIn>),
    Tally(Vec<Group>),
}

impl Picture {
    /// Asks a store for everything; pages are read in pieces of `limit`, which is not zero. `callers` need not be known;
    /// for those that are named by their id, records are asked for all the same.
    pub(super) async fn of(store: &dyn Store, callers: &[Caller], limit: u32) -> Result<Self, Violation> {
        let mut answers = BTreeMap::new();
        let terminals = pages(store, limit, |last| match last {
            None => Query::Terminals(None),
            Some(record) => Query::Terminals(terminal_id(record)),
        })
        .await?;
        let packages = pages(store, limit, |last| match last {
            Some(Record::Package(package)) => Query::Packages(Some(package.package.manifest)),
            _ => Query::Packages(None),
        })
        .await?;
        let mut ids: BTreeSet<_> = terminals
            .iter()
            .filter_map(|terminal| terminal_id(&terminal.record))
            .collect();
        ids.extend(
            callers
                .iter()
                .filter_map(|caller| if let Caller::Id(id) = caller { Some(*id) } else { None }),
        );
        let mut keys: Vec<_> = packages.iter().map(|found| found.record.key()).collect();
        keys.extend(ids.iter().flat_map(|id| [Key::Terminal(*id), Key::Inventory(*id)]));
        for id in ids {
            let assignments = pages(store, limit, |last| match last {
                Some(Record::Assignment(assignment)) => Query::Assignments(id, Some(assignment.action)),
                _ => Query::Assignments(id, None),
            })
            .await?;
            keys.extend(assignments.iter().map(|assignment| assignment.record.key()));
            answers.insert(format!("assignments of {id}"), Answer::Page(assignments));
            answers.insert(
                format!("check-in of {id}"),
                Answer::CheckIn(store.check_in(&Caller::Id(id)).await?),
            );
        }
        for caller in callers {
            answers.insert(format!("{caller:?}"), Answer::CheckIn(store.check_in(caller).await?));
        }
        for filter in filters() {
            let entries = pages(store, limit, |last| Query::Roster {
                filter: filter.clone(),
                after: match last {
                    Some(Record::Roster(entry)) => Some(RosterPlace::of(entry)),
                    _ => None,
                },
            })
            .await?;
            let tally = Tally::Roster {
                filter: filter.clone(),
                by: vec![Dimension::Branch, Dimension::Seen],
            };
            let groups = store.tally(&tally, u32::MAX).await?;
            keys.extend(entries.iter().map(|found| found.record.key()));
            answers.insert(format!("roster by {filter:?}"), Answer::Page(entries));
            answers.insert(format!("tally by {filter:?}"), Answer::Tally(groups));
        }
        let kind = sample::document(0).kind;
        for prefix in ["", "/a/", "/a"] {
            let marked = pages(store, limit, |last| Query::Marked {
                kind: kind.clone(),
                mark: "branch".to_owned(),
                prefix: prefix.to_owned(),
                after: match last {
                    Some(Record::Document(document)) => {
                        let value = document.marks.get("branch").cloned().unwrap_or_default();
                        Some((value, document.id.clone()))
                    }
                    _ => None,
                },
            })
            .await?;
            answers.insert(format!("marked {prefix}"), Answer::Page(marked));
        }
        let documents = pages(store, limit, |last| Query::Documents {
            kind: kind.clone(),
            prefix: String::new(),
            after: match last {
                Some(Record::Document(document)) => Some(document.id.clone()),
                _ => None,
            },
        })
        .await?;
        keys.extend(documents.iter().map(|found| found.record.key()));
        answers.insert("documents".to_owned(), Answer::Page(documents));
        for key in keys {
            answers.insert(format!("{key:?}"), Answer::Record(store.get(&key).await?));
        }
        answers.insert("terminals".to_owned(), Answer::Page(terminals));
        answers.insert("packages".to_owned(), Answer::Page(packages));
        let events = events(store, 0, limit)
            .await?
            .into_iter()
            .map(|(_, event)| event)
            .collect();
        answers.insert("events".to_owned(), Answer::Events(events));
        Ok(Self(answers))
    }

    /// Compares with the picture of the store that is right.
    pub(super) fn compare(&self, right: &Self) -> Result<(), Violation> {
        for (question, right) in &right.0 {
            let mine = self.0.get(question);
            if mine != Some(right) {
                return Err(Violation(format!("{question} gives {mine:?}, and must give {right:?}")));
            }
        }
        match self.0.keys().find(|question| !right.0.contains_key(*question)) {
            Some(question) => Err(Violation(format!("{question} is there, and must not be"))),
            None => Ok(()),
        }
    }
}

/// Some ways to ask for the roster.
fn filters() -> Vec<RosterFilter> {
    let all = RosterFilter::under(BranchPath::head_office());
    let below: Vec<_> = "/a".parse().map(RosterFilter::under).into_iter().collect();
    let seen = [Seen::Never, Seen::Since(1), Seen::Before(2)].map(|seen| RosterFilter {
        seen: Some(seen),
        ..all.clone()
    });
    below.into_iter().chain(seen).chain([all.clone()]).collect()
}

fn terminal_id(record: &Record) -> Option<TerminalId> {
    match record {
        Record::Terminal(terminal) => Some(terminal.id),
        _ => None,
    }
}

/// All records of a query, page by page.
async fn pages(
    store: &dyn Store,
    limit: u32,
    query: impl Fn(Option<&Record>) -> Query,
) -> Result<Vec<Versioned<Record>>, Violation> {
    let mut all: Vec<Versioned<Record>> = Vec::new();
    loop {
        let page = store.list(&query(all.last().map(|found| &found.record)), limit).await?;
        let more = page.len() == limit as usize;
        all.extend(page);
        if !more {
            return Ok(all);
        }
        if all.len() > 100_000 {
            return Err(Violation("pages have no end".to_owned()));
        }
    }
}

/// All events after `after`, page by page; their numbers must grow.
pub(super) async fn events(
    store: &dyn Store,
    mut after: Sequence,
    limit: u32,
) -> Result<Vec<(Sequence, Event)>, Violation> {
    let mut all = Vec::new();
    loop {
        let page = store.events(after, limit).await?;
        let more = page.len() == limit as usize;
        if page.len() > limit as usize {
            return Err(Violation(format!(
                "{} events came where {limit} were asked for",
                page.len()
            )));
        }
        for (sequence, event) in page {
            if sequence <= after {
                return Err(Violation(format!("event {sequence} came after event {after}")));
            }
            after = sequence;
            all.push((sequence, event));
        }
        if !more {
            return Ok(all);
        }
    }
}
