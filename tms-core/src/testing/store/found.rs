//! Documents and the roster: what is found and counted by more than a key.

use super::{Fixture, Violation};
use crate::store::{
    BranchPath, Change, Dimension, Document, Expect, Group, Key, Kind, Query, Record, RosterEntry, RosterFilter,
    RosterPlace, Seen, Store, Tally, TerminalId, TerminalState, Versioned,
};
use std::collections::{BTreeMap, BTreeSet};

type Outcome = Result<(), Violation>;

/// Values that a careless comparison takes for others: by case, by wildcard, by a longer name, by a wider character.
const VALUES: [&str; 12] = [
    "",
    "/",
    "/east/",
    "/east/harbour/",
    "/east2/",
    "/EAST/",
    "%",
    "_",
    "a%",
    "ab",
    "\u{E000}z",
    "\u{1F4A3}",
];

/// How values may begin.
const PREFIXES: [&str; 9] = ["", "/", "/east/", "/e", "%", "_", "a", "\u{E000}", "\u{10FFFF}"];

const DOOR: Kind = Kind::named("door");
const DOORS: Kind = Kind::named("door2");

fn door(number: usize, kind: &Kind, marks: &[(&str, &str)]) -> Document {
    Document {
        kind: kind.clone(),
        id: format!("{}{number:03}", VALUES[number % VALUES.len()]),
        marks: marks
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: format!("{{\"number\":{number}}}"),
    }
}

/// Clause 13, and 15 for documents.
pub(super) async fn documents_are_found_by_their_marks<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut there = BTreeMap::new();
    for number in 0..60 {
        let value = VALUES[number * 7 % VALUES.len()];
        let other = VALUES[number * 5 % VALUES.len()];
        let marks = [("where", value), ("what", other)];
        let marks = if number % 6 == 0 { &marks[..1] } else { &marks[..] };
        let kind = if number % 10 == 9 { DOORS } else { DOOR };
        there.insert((kind.clone(), number), door(number, &kind, marks));
    }
    commit(&*store, there.values().map(|document| put(document.clone()))).await?;
    check_documents(&*store, &there).await?;

    // they move: to another value, to none, away, and one comes back
    let mut changes = Vec::new();
    for number in 0..60 {
        let kind = if number % 10 == 9 { DOORS } else { DOOR };
        let before = door(number, &kind, &[]);
        match number % 4 {
            0 => {
                let after = door(number, &kind, &[("where", VALUES[number % VALUES.len()])]);
                changes.push(put(after.clone()));
                there.insert((kind, number), after);
            }
            1 => {
                changes.push(Change::Remove(Expect::Any, Key::Document(kind.clone(), before.id)));
                there.remove(&(kind, number));
            }
            2 => {
                changes.push(put(before.clone()));
                there.insert((kind, number), before);
            }
            _ => {}
        }
    }
    commit(&*store, changes).await?;
    check_documents(&*store, &there).await?;
    let again = door(1, &DOOR, &[("what", "ab")]);
    commit(&*store, [put(again.clone())]).await?;
    there.insert((DOOR, 1), again);
    check_documents(&*store, &there).await
}

async fn check_documents(store: &dyn Store, there: &BTreeMap<(Kind, usize), Document>) -> Outcome {
    for kind in [DOOR, DOORS] {
        let of_kind: Vec<_> = there.values().filter(|document| document.kind == kind).collect();
        for prefix in PREFIXES {
            let mut ids: Vec<_> = of_kind
                .iter()
                .map(|document| document.id.clone())
                .filter(|id| id.starts_with(prefix))
                .collect();
            ids.sort();
            for limit in [1, 7, 100] {
                let mut after = None;
                let mut found = Vec::new();
                loop {
                    let query = Query::Documents {
                        kind: kind.clone(),
                        prefix: prefix.to_owned(),
                        after: after.clone(),
                    };
                    let page = documents(store.list(&query, limit).await?)?;
                    after = page.last().map(|document| document.id.clone());
                    let more = page.len() == limit as usize;
                    found.extend(page);
                    if !more || found.len() > there.len() {
                        break;
                    }
                }
                same(&format!("{kind}s that begin with {prefix:?}"), &found, &ids, there)?;
            }
            for mark in ["where", "what", "WHERE", ""] {
                check_mark(store, &kind, mark, prefix, &of_kind, there).await?;
            }
        }
    }
    Ok(())
}

async fn check_mark(
    store: &dyn Store,
    kind: &Kind,
    mark: &str,
    prefix: &str,
    of_kind: &[&Document],
    there: &BTreeMap<(Kind, usize), Document>,
) -> Outcome {
    let marked = of_kind
        .iter()
        .filter_map(|document| Some((document.marks.get(mark)?, *document)));
    let places: BTreeSet<_> = marked
        .filter(|(value, _)| value.starts_with(prefix))
        .map(|(value, document)| (value.clone(), document.id.clone()))
        .collect();
    let ids: Vec<_> = places.iter().map(|(_, id)| id.clone()).collect();
    for limit in [1, 5, 100] {
        let mut after: Option<(String, String)> = None;
        let mut found = Vec::new();
        loop {
            let query = Query::Marked {
                kind: kind.clone(),
                mark: mark.to_owned(),
                prefix: prefix.to_owned(),
                after: after.clone(),
            };
            let page = documents(store.list(&query, limit).await?)?;
            if page.len() > limit as usize {
                return Err(Violation(format!(
                    "{} documents where {limit} were asked for",
                    page.len()
                )));
            }
            after = page
                .last()
                .and_then(|document| Some((document.marks.get(mark)?.clone(), document.id.clone())));
            let more = page.len() == limit as usize;
            found.extend(page);
            if !more || found.len() > there.len() {
                break;
            }
        }
        same(
            &format!("{kind}s whose {mark} begins with {prefix:?}"),
            &found,
            &ids,
            there,
        )?;
    }
    let tally = Tally::Marked {
        kind: kind.clone(),
        mark: mark.to_owned(),
        prefix: prefix.to_owned(),
    };
    let names = places.iter().map(|(value, _)| vec![value.clone()]);
    compare(
        &format!("{kind}s by {mark} from {prefix:?}"),
        store,
        &tally,
        counted(names),
    )
    .await
}

fn same(what: &str, found: &[Document], ids: &[String], there: &BTreeMap<(Kind, usize), Document>) -> Outcome {
    if !found.iter().map(|document| &document.id).eq(ids) {
        let found: Vec<_> = found.iter().map(|document| &document.id).collect();
        return Err(Violation(format!("{what} are {found:?}, and must be {ids:?}")));
    }
    match found
        .iter()
        .find(|found| !there.values().any(|document| document == *found))
    {
        Some(found) => Err(Violation(format!("{what}: {found:?} is not what was put"))),
        None => Ok(()),
    }
}

/// Clause 14, and 15 for the roster.
pub(super) async fn the_roster_is_listed_and_counted<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut there: BTreeMap<u64, RosterEntry> = (0..80).map(|number| (spread(number), entry(number))).collect();
    commit(&*store, there.values().map(|entry| put(entry.clone()))).await?;
    check_roster(&*store, &there).await?;

    let mut changes = Vec::new();
    for number in 0..80 {
        match number % 5 {
            0 => {
                let after = RosterEntry {
                    terminal: TerminalId(spread(number)),
                    ..entry(number + 3)
                };
                changes.push(put(after.clone()));
                there.insert(spread(number), after);
            }
            1 => {
                changes.push(Change::Remove(Expect::Any, Key::Roster(TerminalId(spread(number)))));
                there.remove(&spread(number));
            }
            _ => {}
        }
    }
    commit(&*store, changes).await?;
    check_roster(&*store, &there).await
}

fn spread(number: u64) -> u64 {
    // on both sides of the sign
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn path(text: &str) -> BranchPath {
    text.parse().unwrap_or_else(|_| BranchPath::head_office())
}

fn entry(number: u64) -> RosterEntry {
    let pick = |from: &[&str], step: u64| {
        let at = usize::try_from(number.wrapping_mul(step)).unwrap_or_default();
        from[at % from.len()].to_owned()
    };
    RosterEntry {
        terminal: TerminalId(spread(number)),
        branch: path(&pick(&["/", "/east", "/east/harbour", "/east2", "/East", "/west/7"], 5)),
        vendor: pick(&["acme", "ACME", "a%"], 7),
        model: pick(&["t-1000", "t_1000", "P80", ""], 11),
        serial: format!("{}{number:03}", pick(&["", "%", "a", "A"], 3)),
        merchant: (!number.is_multiple_of(3)).then(|| pick(&["corner", "Corner", ""], 13)),
        version: (!number.is_multiple_of(4)).then(|| pick(&["1.2", "1.10", "1.2 "], 17)),
        state: [
            TerminalState::Enrolled,
            TerminalState::Active,
            TerminalState::Blacklisted,
        ][usize::try_from(number % 3).unwrap_or_default()],
        seen: [None, Some(0), Some(19_000), Some(19_001), Some(u32::MAX)]
            [usize::try_from(number * 3 % 5).unwrap_or_default()],
    }
}

fn filters() -> Vec<RosterFilter> {
    let all = RosterFilter::under(BranchPath::head_office());
    let mut filters = vec![all.clone()];
    for under in ["/east", "/east/harbour", "/east/harbou", "/nowhere"] {
        filters.push(RosterFilter::under(path(under)));
    }
    let some = |text: &str| Some(text.to_owned());
    for vendor in ["acme", "a%", "acm"] {
        filters.push(RosterFilter {
            vendor: some(vendor),
            ..all.clone()
        });
    }
    for model in ["t_1000", "", "p80"] {
        filters.push(RosterFilter {
            model: some(model),
            ..all.clone()
        });
    }
    for serial in ["", "%", "a", "0", "A01"] {
        filters.push(RosterFilter {
            serial: some(serial),
            ..all.clone()
        });
    }
    for merchant in ["corner", ""] {
        filters.push(RosterFilter {
            merchant: some(merchant),
            ..all.clone()
        });
    }
    filters.push(RosterFilter {
        version: some("1.2"),
        ..all.clone()
    });
    filters.push(RosterFilter {
        state: Some(TerminalState::Active),
        ..all.clone()
    });
    for seen in [
        Seen::Never,
        Seen::Since(0),
        Seen::Since(19_001),
        Seen::Since(u32::MAX),
        Seen::Before(0),
        Seen::Before(19_001),
        Seen::Before(u32::MAX),
    ] {
        filters.push(RosterFilter {
            seen: Some(seen),
            ..all.clone()
        });
        filters.push(RosterFilter {
            seen: Some(seen),
            under: path("/east"),
            vendor: some("acme"),
            ..all.clone()
        });
    }
    filters
}

async fn check_roster(store: &dyn Store, there: &BTreeMap<u64, RosterEntry>) -> Outcome {
    for filter in filters() {
        let mut right: Vec<_> = there.values().filter(|entry| filter.holds(entry)).collect();
        right.sort_by_key(|entry| (&entry.branch, filter.seen.and(entry.seen), entry.terminal));
        for limit in [1, 7, 100] {
            let mut found: Vec<RosterEntry> = Vec::new();
            loop {
                let query = Query::Roster {
                    filter: filter.clone(),
                    after: found.last().map(RosterPlace::of),
                };
                let page = store.list(&query, limit).await?;
                let more = page.len() == limit as usize;
                for one in page {
                    match one.record {
                        Record::Roster(entry) => found.push(*entry),
                        other => return Err(Violation(format!("{:?} is not in the roster", other.key()))),
                    }
                }
                if !more || found.len() > there.len() {
                    break;
                }
            }
            if !found.iter().eq(right.iter().copied()) {
                return Err(Violation(format!(
                    "by {filter:?}, {limit} at a time, the roster has {found:?}, and must have {right:?}"
                )));
            }
        }
        for by in [
            &[][..],
            &[Dimension::Branch],
            &[Dimension::Vendor, Dimension::Model],
            &[Dimension::Seen],
            &[Dimension::Model, Dimension::Alive(19_001)],
            &[Dimension::Version, Dimension::State, Dimension::Merchant],
        ] {
            let names = right
                .iter()
                .map(|entry| by.iter().map(|dimension| dimension.of(entry)).collect());
            let tally = Tally::Roster {
                filter: filter.clone(),
                by: by.to_vec(),
            };
            compare(&format!("{filter:?} by {by:?}"), store, &tally, counted(names)).await?;
        }
    }
    Ok(())
}

fn counted(names: impl Iterator<Item = Vec<String>>) -> Vec<Group> {
    let mut groups = BTreeMap::new();
    for names in names {
        *groups.entry(names).or_insert(0) += 1;
    }
    groups
        .into_iter()
        .map(|(names, count)| Group { names, count })
        .collect()
}

async fn compare(what: &str, store: &dyn Store, tally: &Tally, right: Vec<Group>) -> Outcome {
    for limit in [1000, 2, 0] {
        let found = store.tally(tally, limit).await?;
        let right = right.get(..limit as usize).unwrap_or(&right);
        if found != right {
            return Err(Violation(format!(
                "{what}: the tally is {found:?}, and must be {right:?}"
            )));
        }
    }
    Ok(())
}

fn put(record: impl Into<Record>) -> Change {
    Change::Put(Expect::Any, record.into())
}

async fn commit(store: &dyn Store, changes: impl IntoIterator<Item = Change>) -> Outcome {
    Ok(store.commit(changes.into_iter().collect()).await?)
}

fn documents(page: Vec<Versioned<Record>>) -> Result<Vec<Document>, Violation> {
    page.into_iter()
        .map(|found| match found.record {
            Record::Document(document) => Ok(*document),
            other => Err(Violation(format!("{:?} is no document", other.key()))),
        })
        .collect()
}
