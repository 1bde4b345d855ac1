use super::*;
use crate::Options;
use crate::row::Write;
use crate::schema;
use crate::writer::{Counters, Writer};
use tms_core::store::{Change, Expect, Seen, TerminalState};
use tms_core::testing::seed::Seed;

/// With a million terminals a page must cost a page: an index gives the order, nothing is sorted, and nothing is read that is
/// before the page.
#[test]
fn every_page_goes_by_an_index_in_its_order() {
    let connection = schema::in_memory();
    let all = RosterFilter::under(BranchPath::head_office());
    let some = || Some("x".to_owned());
    let mut filters = vec![
        all.clone(),
        RosterFilter {
            merchant: some(),
            ..all.clone()
        },
        RosterFilter {
            version: some(),
            ..all.clone()
        },
        RosterFilter {
            state: Some(TerminalState::Active),
            ..all.clone()
        },
        RosterFilter {
            vendor: some(),
            model: some(),
            ..all.clone()
        },
    ];
    for (vendor, model) in [(some(), None), (None, some())] {
        filters.push(RosterFilter {
            vendor,
            model,
            ..all.clone()
        });
    }
    for seen in [Seen::Never, Seen::Since(3), Seen::Before(9)] {
        filters.push(RosterFilter {
            seen: Some(seen),
            ..all.clone()
        });
    }
    for filter in filters {
        let statements = match filter.seen {
            None => [
                rest_of_branch(&filter, index(&filter), "/", TerminalId(7), 10),
                branches_from(&filter, index(&filter), "/", 10),
            ],
            Some(_) => [
                rest_of_day(&filter, "/", (7, TerminalId(7)), 10),
                days_of_branch(&filter, "/", Some(7), 10),
            ],
        };
        for ((sql, values), begin) in statements.into_iter().zip(["terminal>?", ">?"]) {
            schema::assert_by_index(&connection, &sql, values.clone());
            let plan = schema::plan(&connection, &sql, values).join(" ");
            assert!(plan.contains(begin), "{sql}: {plan}");
        }
    }
    schema::assert_by_index(&connection, NEXT_BRANCH, Vec::new());
}

fn one_of(seed: &mut Seed, values: &[&str]) -> String {
    values[seed.below(values.len() as u64) as usize].to_owned()
}

fn branch(seed: &mut Seed) -> BranchPath {
    let paths = ["/", "/east", "/east/harbour", "/east/hill", "/east2", "/west"];
    one_of(seed, &paths).parse().unwrap()
}

fn state(seed: &mut Seed) -> TerminalState {
    [TerminalState::Active, TerminalState::Enrolled][seed.below(2) as usize]
}

fn entry(seed: &mut Seed, terminal: u64) -> RosterEntry {
    RosterEntry {
        terminal: TerminalId(terminal),
        branch: branch(seed),
        vendor: one_of(seed, &["a", "b"]),
        model: one_of(seed, &["m", "n"]),
        serial: one_of(seed, &["0", "00", "01", "1", "10"]),
        merchant: seed.chance(700).then(|| one_of(seed, &["1", "2"])),
        version: seed.chance(700).then(|| one_of(seed, &["1", "2"])),
        state: state(seed),
        seen: seed.chance(700).then(|| seed.below(4) as u32),
    }
}

fn filter(seed: &mut Seed) -> RosterFilter {
    let mut filter = RosterFilter::under(branch(seed));
    filter.vendor = seed.chance(200).then(|| one_of(seed, &["a", "b", "c"]));
    filter.model = seed.chance(200).then(|| one_of(seed, &["m", "n", "o"]));
    filter.serial = seed.chance(300).then(|| one_of(seed, &["", "0", "01", "2"]));
    filter.merchant = seed.chance(200).then(|| one_of(seed, &["1", "2", "3"]));
    filter.version = seed.chance(200).then(|| one_of(seed, &["1", "2", "3"]));
    filter.state = seed.chance(200).then(|| state(seed));
    let day = seed.below(5) as u32;
    filter.seen = seed
        .chance(500)
        .then(|| [Seen::Never, Seen::Since(day), Seen::Before(day)][seed.below(3) as usize]);
    filter
}

/// Whatever a filter names, and wherever the last page ended, in this list or in another: by each way that there is.
#[test]
fn a_page_is_what_the_filter_names_after_a_place() {
    for number in 0..6 {
        let mut seed = Seed::new(number);
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::writer(&directory.path().join("store"), &Options::default()).unwrap();
        let (log, _) = crate::checkpoint::Log::new();
        let writer = Writer::new(connection, log, &Options::default());
        let entries: Vec<_> = (0..150)
            .map(|number: u64| entry(&mut seed, number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            .collect();
        let changes = entries.iter().cloned();
        let changes = changes.map(|entry| Write::of(Change::Put(Expect::Absent, entry.into())).unwrap());
        writer.write(&[changes.collect()], &Counters::default())[0]
            .as_ref()
            .unwrap();
        for _ in 0..150 {
            let filter = filter(&mut seed);
            let place = seed.chance(800).then(|| RosterPlace {
                branch: branch(&mut seed),
                seen: seed.chance(700).then(|| seed.below(4) as u32),
                terminal: entries[seed.below(150) as usize].terminal,
            });
            let key = |place: &RosterPlace| {
                let seen = filter.seen.and(place.seen);
                (place.branch.clone(), seen, place.terminal)
            };
            let named = entries.iter().filter(|entry| filter.holds(entry)).map(RosterPlace::of);
            let mut wanted: Vec<_> = named.map(|place| key(&place)).collect();
            wanted.sort();
            wanted.retain(|entry| place.as_ref().is_none_or(|place| *entry > key(place)));
            let limit = 1 + seed.below(60) as usize;
            wanted.truncate(limit);
            for most in [Most { read: 0, found: 0 }, Most { read: 0, found: 20 }, Most::default()] {
                let page = page_by(writer.connection(), &filter, place.as_ref(), limit as u32, most).unwrap();
                let found: Vec<_> = page
                    .into_iter()
                    .map(|found| match found.record {
                        Record::Roster(entry) => key(&RosterPlace::of(&entry)),
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(found, wanted, "{filter:?} after {place:?}");
            }
        }
    }
}
