//! What an estate promises of rosters, reports and consumers, on any store: for the tests of this crate and of backends.

use super::entropy::SeededEntropy;
use super::sample;
use super::seed::Seed;
use crate::blob::MemoryBlobs;
use crate::clock::ManualClock;
use crate::estate::report::OnDay;
use crate::estate::{Actor, Branch, Enrolment, Estate, EstateError};
use crate::rule::relocation::Observed;
use crate::store::{
    ActionId, BranchPath, Change, CheckInSummary, Day, Dimension, Event, EventKind, Expect, Key, Record, RosterEntry,
    RosterFilter, Seen, Sequence, Store, TerminalId, TerminalState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tms_proto::code::{ResultCode, Stage, TriggerKind};
use tms_proto::message::NextContact;
use tms_proto::package::{KeySet, TrustStore};

const DAY: u64 = 86_400;

const BRANCHES: [&str; 6] = ["/", "/east", "/east/harbour", "/east/hill", "/east2", "/west"];

/// An estate on this store, and the clock that it goes by, which begins at [`sample::NOW`].
#[must_use]
pub fn estate(store: Arc<dyn Store>, seed: u64) -> (Estate, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(sample::NOW));
    let trust = TrustStore {
        version: 1,
        root: KeySet {
            threshold: 1,
            keys: vec![],
        },
        roles: vec![],
    };
    let entropy = Arc::new(SeededEntropy::new(seed));
    (
        Estate::new(store, Arc::new(MemoryBlobs::new()), clock.clone(), entropy, trust),
        clock,
    )
}

/// An operator who may do everything.
fn operator() -> Actor {
    Actor::trusted("test")
}

/// Enrols `count` terminals in several branches.
async fn enrol(estate: &Estate, count: u64) -> Vec<(TerminalId, BranchPath)> {
    for path in BRANCHES.iter().filter(|path| **path != "/") {
        let branch = Branch {
            path: path.parse().unwrap(),
            name: (*path).to_owned(),
            zone: None,
            variables: BTreeMap::new(),
        };
        estate.put_branch(&operator(), branch).await.unwrap();
    }
    let mut terminals = Vec::new();
    for number in 0..count {
        let branch: BranchPath = BRANCHES[number as usize % BRANCHES.len()].parse().unwrap();
        let enrolment = Enrolment {
            branch: branch.clone(),
            ..Enrolment::of(sample::holder(&format!("{number:04}")))
        };
        terminals.push((estate.enrol(&operator(), enrolment).await.unwrap(), branch));
    }
    terminals
}

/// A random event of one of these terminals, on one of a few days, not always in their order.
fn event(seed: &mut Seed, terminals: &[(TerminalId, BranchPath)]) -> Event {
    let at = seed.below(terminals.len() as u64 + 1) as usize;
    let terminal = terminals.get(at).map(|(id, _)| *id);
    let kind = match seed.below(10) {
        0 => EventKind::CloneSuspected {
            evidence: "two calls".to_owned(),
        },
        1 => EventKind::Terminal {
            what: "tamper".to_owned(),
            text: None,
        },
        2 | 3 => EventKind::Result {
            action: ActionId(1),
            stage: Stage::ALL[seed.below(5) as usize],
            code: ResultCode::ALL[seed.below(30) as usize],
            attempt: 1,
        },
        _ => EventKind::CheckedIn(CheckInSummary {
            mode: seed.below(4) as u8 + 1,
            trigger: TriggerKind::ALL[seed.below(7) as usize],
            skew: seed.below(400) as i64 - 200,
            peer: "192.0.2.1:9".to_owned(),
            claimed: None,
            elapsed: seed.chance(900).then(|| seed.below(70_000) as u32),
            inventory: seed.chance(100),
            contact: 0,
            observed: Observed::default(),
            location: None,
        }),
    };
    Event {
        time: sample::NOW - seed.below(6) * DAY,
        terminal,
        actor: "test".to_owned(),
        kind,
    }
}

/// Any run of events, rolled up in any portions, by two nodes in turn and beside each other, is what a recount of the events gives.
pub async fn the_roll_up_is_a_recount(store: Arc<dyn Store>, number: u64) {
    let mut seed = Seed::new(number);
    let (one, _) = estate(store.clone(), number);
    let (other, _) = estate(store.clone(), number + 1);
    let terminals = enrol(&one, 1 + seed.below(14)).await;
    for _ in 0..seed.below(12) {
        let events: Vec<_> = (0..seed.below(12)).map(|_| event(&mut seed, &terminals)).collect();
        store
            .commit(events.into_iter().map(Change::Append).collect())
            .await
            .unwrap();
        let limit = seed.below(9) as u32;
        match seed.below(4) {
            0 => drop(one.roll_up(limit).await.unwrap()),
            1 => drop(other.roll_up(limit).await.unwrap()),
            2 => {
                let both = tokio::join!(one.roll_up(limit), other.roll_up(limit));
                both.0.unwrap();
                both.1.unwrap();
            }
            _ => {}
        }
    }
    while one.roll_up(1 + seed.below(20) as u32).await.unwrap().events > 0 {}
    let events = all_events(&*store).await;
    assert_eq!(
        one.as_of().await.unwrap().sequence,
        events.last().map_or(0, |(last, _)| *last)
    );
    recount(&one, &events, &terminals).await;
}

async fn all_events(store: &dyn Store) -> Vec<(Sequence, Event)> {
    store.events(0, 100_000).await.unwrap()
}

/// Compares each branch's reports and each terminal's line with the events themselves.
async fn recount(estate: &Estate, events: &[(Sequence, Event)], terminals: &[(TerminalId, BranchPath)]) {
    let branch_of: BTreeMap<_, _> = terminals.iter().cloned().collect();
    let mut seen: BTreeMap<TerminalId, Day> = BTreeMap::new();
    let mut counted: Vec<(BranchPath, Day, &Event, bool, bool)> = Vec::new();
    for (_, event) in events {
        let day = (event.time / DAY) as Day;
        let branch = event.terminal.and_then(|id| branch_of.get(&id)).cloned();
        let (mut first, mut fresh) = (false, false);
        if let (EventKind::CheckedIn(_), Some(id)) = (&event.kind, event.terminal) {
            let last = seen.get(&id).copied();
            first = last.is_none();
            fresh = last.is_none_or(|last| last < day);
            seen.insert(id, last.map_or(day, |last| last.max(day)));
        }
        counted.push((branch.unwrap_or_else(BranchPath::head_office), day, event, first, fresh));
    }
    for under in BRANCHES {
        let under: BranchPath = under.parse().unwrap();
        let all = terminals.iter().filter(|(_, branch)| under.covers(branch)).count() as u64;
        let report = estate.reports(&operator()).check_ins(&under, 7).await.unwrap();
        assert_eq!((report.terminals, report.rows.len()), (all, 7));
        for row in &report.rows {
            let OnDay(day) = row.day;
            let of_day = || {
                counted
                    .iter()
                    .filter(|(branch, on, ..)| under.covers(branch) && *on == day)
            };
            let check_ins = || {
                of_day().filter_map(|(_, _, event, ..)| match &event.kind {
                    EventKind::CheckedIn(summary) => Some(summary),
                    _ => None,
                })
            };
            let count = |wanted: &dyn Fn(&CheckInSummary) -> bool| check_ins().filter(|one| wanted(one)).count() as u64;
            assert_eq!(row.check_ins, count(&|_| true));
            assert_eq!(row.mode_3, count(&|one| one.mode == 3));
            assert_eq!(row.retry, count(&|one| one.trigger == TriggerKind::Retry));
            assert_eq!(row.skewed, count(&|one| one.skew.abs() >= 120));
            assert_eq!(
                row.within_30_s,
                count(&|one| one.elapsed.is_some_and(|elapsed| (10_001..=30_000).contains(&elapsed)))
            );
            assert_eq!(
                row.longer,
                count(&|one| one.elapsed.is_some_and(|elapsed| elapsed > 60_000))
            );
            assert_eq!(row.first, of_day().filter(|(.., first, _)| *first).count() as u64);
            assert_eq!(row.terminals, of_day().filter(|(.., fresh)| *fresh).count() as u64);
            let kinds = |name: &str| of_day().filter(|(_, _, event, ..)| event.kind.name() == name).count() as u64;
            assert_eq!(row.results, kinds("result"));
            assert_eq!(row.clones, kinds("clone_suspected"));
            assert_eq!(row.enrolled, kinds("enrolled"));
        }
        let failures = estate.reports(&operator()).failures(&under, 7).await.unwrap();
        let sum: u64 = failures.rows.iter().map(|row| row.count).sum();
        assert_eq!(sum, report.rows.iter().map(|row| row.failures).sum::<u64>());
        for row in &failures.rows {
            let right = counted.iter().filter(|(branch, on, event, ..)| {
                under.covers(branch)
                    && OnDay(*on) == row.day
                    && matches!(&event.kind, EventKind::Result { stage, code, .. }
                        if stage.to_string() == row.stage && code.to_string() == row.code)
            });
            assert_eq!(row.count, right.count() as u64, "{row:?}");
        }
    }
    let all = RosterFilter::under(BranchPath::head_office());
    let page = estate.reports(&operator()).terminals(&all, None, 1_000).await.unwrap();
    assert_eq!(page.rows.len(), terminals.len());
    for row in page.rows {
        let id = TerminalId(u64::from_str_radix(&row.terminal, 16).unwrap());
        assert_eq!(row.seen, seen.get(&id).copied().map(OnDay));
        assert_eq!(row.branch, branch_of[&id]);
    }
}

/// The roster says of a terminal what its own records say, once what happened has been rolled up; what operators do it says at once.
pub async fn the_roster_follows_its_terminals(store: Arc<dyn Store>) {
    let (estate, clock) = estate(store.clone(), 1);
    let terminals = enrol(&estate, 6).await;
    let never = RosterFilter {
        seen: Some(Seen::Never),
        ..RosterFilter::under("/east".parse().unwrap())
    };
    assert_eq!(
        estate.reports(&operator()).count(&never).await.unwrap(),
        3,
        "listed at once"
    );

    // one that was enrolled before there was a roster, and proves itself by a certificate that ends
    let old = sample::terminal(77);
    let inventory = sample::inventory(77);
    let checked_in = sample::checked_in(77, sample::NOW - 2 * DAY);
    store
        .commit(vec![
            Change::Put(Expect::Absent, old.clone().into()),
            Change::Put(Expect::Absent, inventory.into()),
            Change::Append(checked_in),
        ])
        .await
        .unwrap();
    // a first check-in, as a server records it: the terminal is active, the roster does not know yet
    let (id, _) = terminals[1];
    let found = store.get(&Key::Terminal(id)).await.unwrap().unwrap();
    let Record::Terminal(mut terminal) = found.record else {
        panic!("{id}")
    };
    terminal.state = TerminalState::Active;
    terminal.next_contact = Some(NextContact::at(sample::NOW, 60));
    let changes = vec![
        Change::Put(Expect::Version(found.version), (*terminal).into()),
        Change::Append(sample::checked_in(id.0, clock_now(&clock))),
    ];
    store.commit(changes).await.unwrap();
    assert!(estate.roll_up(5_000).await.unwrap().events >= 8);

    let entry = line(&*store, id).await;
    assert_eq!(
        (entry.state, entry.seen),
        (TerminalState::Active, Some(estate.reports(&operator()).today()))
    );
    let entry = line(&*store, old.id).await;
    assert_eq!(entry.branch, BranchPath::head_office());
    assert_eq!(
        (entry.serial, entry.state),
        (old.holder.serial.clone(), TerminalState::Active)
    );
    assert_eq!(
        (entry.version.as_deref(), entry.seen),
        (Some("1.9"), Some(estate.reports(&operator()).today() - 2))
    );
    let expiring = estate
        .reports(&operator())
        .expiring(&BranchPath::head_office(), 400, None, 10)
        .await
        .unwrap();
    assert_eq!(expiring.rows.len(), 1, "its component ends within a year");
    assert_eq!(
        (expiring.rows[0].what.as_str(), expiring.rows[0].name.as_str()),
        ("component", "payment")
    );
    assert!(
        estate
            .reports(&operator())
            .expiring(&"/east".parse().unwrap(), 400, None, 10)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    assert!(
        estate
            .reports(&operator())
            .expiring(&BranchPath::head_office(), 300, None, 10)
            .await
            .unwrap()
            .rows
            .is_empty()
    );

    // what an operator does is there at once, and the roll-up does not take it back
    let caller = crate::store::Caller::Id(id);
    estate
        .set_state(&operator(), &caller, TerminalState::Blacklisted)
        .await
        .unwrap();
    assert_eq!(line(&*store, id).await.state, TerminalState::Blacklisted);
    while estate.roll_up(1).await.unwrap().events > 0 {}
    assert_eq!(line(&*store, id).await.state, TerminalState::Blacklisted);

    // three of them are alive in two days, one of which is the old one
    let all = RosterFilter::under(BranchPath::head_office());
    let standing = estate
        .reports(&operator())
        .standing(&all, &[Dimension::State], 2)
        .await
        .unwrap();
    let numbers: Vec<_> = standing
        .rows
        .iter()
        .map(|row| {
            (
                row.state.clone().unwrap(),
                row.terminals,
                row.alive,
                row.silent,
                row.never,
            )
        })
        .collect();
    assert_eq!(
        numbers,
        [
            ("active".to_owned(), 1, 0, 1, 0),
            ("blacklisted".to_owned(), 1, 1, 0, 0),
            ("enrolled".to_owned(), 5, 0, 0, 5)
        ]
    );
    assert_eq!(standing.terminals, 7);
    let versions = estate.reports(&operator()).versions(&all).await.unwrap();
    let numbers: Vec<_> = versions
        .rows
        .iter()
        .map(|row| (row.version.as_str(), row.terminals, row.of_model))
        .collect();
    assert_eq!(numbers, [("", 6, 7), ("1.9", 1, 7)]);
}

fn clock_now(clock: &ManualClock) -> u64 {
    crate::clock::Clock::now(clock)
}

async fn line(store: &dyn Store, id: TerminalId) -> RosterEntry {
    match store.get(&Key::Roster(id)).await.unwrap().unwrap().record {
        Record::Roster(entry) => *entry,
        other => panic!("{:?}", other.key()),
    }
}

/// Pages that are put together are the list, whatever their length.
pub async fn pages_make_the_list(store: Arc<dyn Store>) {
    let (estate, _) = estate(store.clone(), 3);
    let terminals = enrol(&estate, 17).await;
    let mut seed = Seed::new(4);
    let events: Vec<_> = (0..40).map(|_| event(&mut seed, &terminals)).collect();
    store
        .commit(events.into_iter().map(Change::Append).collect())
        .await
        .unwrap();
    estate.roll_up(5_000).await.unwrap();
    for seen in [
        None,
        Some(Seen::Never),
        Some(Seen::Since(0)),
        Some(Seen::Before(Day::MAX)),
    ] {
        let filter = RosterFilter {
            seen,
            ..RosterFilter::under("/east".parse().unwrap())
        };
        let whole = estate
            .reports(&operator())
            .terminals(&filter, None, 1_000)
            .await
            .unwrap();
        assert_eq!(whole.next, None);
        assert_eq!(
            whole.rows.len() as u64,
            estate.reports(&operator()).count(&filter).await.unwrap()
        );
        for limit in 1..5 {
            let (mut rows, mut after) = (Vec::new(), None);
            loop {
                let page = estate
                    .reports(&operator())
                    .terminals(&filter, after.as_deref(), limit)
                    .await
                    .unwrap();
                rows.extend(page.rows);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(rows, whole.rows, "{seen:?}, {limit} at a time");
        }
    }
    let all = RosterFilter::under(BranchPath::head_office());
    let wrong = estate.reports(&operator()).terminals(&all, Some("nonsense"), 5).await;
    assert!(matches!(wrong, Err(EstateError::BadCursor)));
}

/// Deliveries that were lost come again, none is left out, none comes before another, and no consumer sees what another does.
pub async fn a_consumer_loses_nothing(store: Arc<dyn Store>, number: u64) {
    let mut seed = Seed::new(number);
    let (estate, _) = estate(store.clone(), number);
    let terminals = enrol(&estate, 5).await;
    let kinds = ["checked_in".to_owned(), "result".to_owned()];
    estate.subscribe(&operator(), "all", &[], 0).await.unwrap();
    estate.subscribe(&operator(), "some", &kinds, 0).await.unwrap();
    let mut taken: BTreeMap<&str, Vec<Sequence>> = BTreeMap::new();
    for _ in 0..60 {
        let events: Vec<_> = (0..seed.below(9)).map(|_| event(&mut seed, &terminals)).collect();
        store
            .commit(events.into_iter().map(Change::Append).collect())
            .await
            .unwrap();
        let name = ["all", "some"][seed.below(2) as usize];
        // another handle each time: nothing is remembered but by the store
        let (estate, _) = self::estate(store.clone(), number);
        let delivery = estate.deliver(name, 1 + seed.below(7) as u32).await.unwrap();
        if seed.chance(400) {
            // the consumer dies before it acknowledges: it must get the same, and perhaps more
            let again = estate.deliver(name, 1_000).await.unwrap();
            assert_eq!(again.events.get(..delivery.events.len()), Some(&delivery.events[..]));
            continue;
        }
        taken
            .entry(name)
            .or_default()
            .extend(delivery.events.iter().map(|(sequence, _)| *sequence));
        estate.acknowledge(name, delivery.through).await.unwrap();
        // said twice, or late, it changes nothing
        estate.acknowledge(name, delivery.through).await.unwrap();
        estate.acknowledge(name, delivery.through.min(1)).await.unwrap();
    }
    for name in ["all", "some"] {
        let mut more = true;
        while more {
            let delivery = estate.deliver(name, 1_000).await.unwrap();
            taken
                .entry(name)
                .or_default()
                .extend(delivery.events.iter().map(|(sequence, _)| *sequence));
            estate.acknowledge(name, delivery.through).await.unwrap();
            more = delivery.more;
        }
    }
    let events = all_events(&*store).await;
    let wanted: BTreeSet<_> = kinds.iter().map(String::as_str).collect();
    let all: Vec<_> = events.iter().map(|(sequence, _)| *sequence).collect();
    let some: Vec<_> = events
        .iter()
        .filter(|(_, event)| wanted.contains(event.kind.name()))
        .map(|(sequence, _)| *sequence)
        .collect();
    assert_eq!(taken["all"], all);
    assert_eq!(taken["some"], some);

    let last = events.last().unwrap().0;
    let future = estate.acknowledge("all", last + 1).await;
    assert!(
        matches!(future, Err(EstateError::BadAcknowledgement(_))),
        "an event to come would be left out"
    );
    let unknown = estate.deliver("nobody", 1).await;
    assert!(matches!(unknown, Err(EstateError::UnknownConsumer(_))));
    let bad = estate.subscribe(&operator(), "no name", &[], 0).await;
    assert!(matches!(bad, Err(EstateError::BadConsumer)));
    // other kinds, and it goes on where it is
    let consumer = estate.subscribe(&operator(), "some", &[], 0).await.unwrap();
    assert_eq!(consumer.acknowledged, last);
    estate.unsubscribe(&operator(), "all").await.unwrap();
    let names: Vec<_> = estate
        .consumers(None, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|found| found.name)
        .collect();
    assert_eq!(names, ["some"]);
}

/// Every report of one small estate as CSV, each after a line with its name: what a store must give to the byte.
pub async fn all_reports_as_csv(store: Arc<dyn Store>) -> String {
    let mut seed = Seed::new(7);
    let (estate, _) = estate(store.clone(), 7);
    let terminals = enrol(&estate, 9).await;
    // a serial number that a spreadsheet would take for a formula, and a vendor that needs quotes
    let holder = crate::store::Holder {
        vendor: "Smith, \"Sons\"".to_owned(),
        model: "終端".to_owned(),
        serial: "=1+1".to_owned(),
    };
    estate.enrol(&operator(), Enrolment::of(holder)).await.unwrap();
    let mut old = sample::terminal(77);
    old.holder.serial = "77".to_owned();
    let mut changes = vec![
        Change::Put(Expect::Absent, old.into()),
        Change::Put(Expect::Absent, sample::inventory(77).into()),
        Change::Append(sample::checked_in(77, sample::NOW - 2 * DAY)),
    ];
    changes.extend((0..60).map(|_| Change::Append(event(&mut seed, &terminals))));
    store.commit(changes).await.unwrap();
    while estate.roll_up(7).await.unwrap().events > 0 {}

    let head = BranchPath::head_office();
    let all = RosterFilter::under(head.clone());
    let by = [Dimension::Branch, Dimension::Vendor, Dimension::Model];
    let list = |seen| {
        let filter = RosterFilter {
            seen: Some(seen),
            ..all.clone()
        };
        let estate = estate.clone();
        async move {
            let page = estate.reports(&operator()).terminals(&filter, None, 100).await.unwrap();
            crate::estate::report::csv(&page.rows, page.as_of, true)
        }
    };
    let expiring = estate
        .reports(&operator())
        .expiring(&head, 400, None, 100)
        .await
        .unwrap();
    let reports = [
        (
            "standing",
            estate.reports(&operator()).standing(&all, &by, 2).await.unwrap().csv(),
        ),
        (
            "versions",
            estate.reports(&operator()).versions(&all).await.unwrap().csv(),
        ),
        (
            "check-ins",
            estate.reports(&operator()).check_ins(&head, 7).await.unwrap().csv(),
        ),
        (
            "failures",
            estate.reports(&operator()).failures(&head, 7).await.unwrap().csv(),
        ),
        ("silent", list(Seen::Before(estate.reports(&operator()).since(2))).await),
        ("never", list(Seen::Never).await),
        (
            "expiry",
            crate::estate::report::csv(&expiring.rows, expiring.as_of, true),
        ),
    ];
    reports.map(|(name, csv)| format!("# {name}\r\n{csv}")).concat()
}
