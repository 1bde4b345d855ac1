//! The proofs of the clauses, one function each.

use super::picture::{Picture, events};
use super::{Fixture, Violation};
use crate::store::{
    ActionId, Assignment, Caller, Change, Event, EventKind, Expect, Key, MemoryStore, Query, Record, Store, StoreError,
    Terminal, TerminalId,
};
use crate::testing::sample;
use crate::testing::seed::Seed;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tms_proto::code::ResultCode;
use tms_proto::digest::Digest;
use tms_proto::identity::Holder;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

type Outcome = Result<(), Violation>;

macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(Violation(format!($($text)+)));
        }
    };
}

/// Clause 1.
pub(super) async fn a_commit_is_atomic<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    write(&*store, [put(Expect::Absent, sample::terminal(1))]).await?;
    let model = MemoryStore::new();
    write(&model, [put(Expect::Absent, sample::terminal(1))]).await?;
    let before = Picture::of(&model, &[], 100).await?;

    let mut usurper = sample::terminal(99);
    usurper.holder = sample::terminal(1).holder;
    let wrong = [
        put(Expect::Absent, sample::terminal(1)),
        put(Expect::Version(2), sample::terminal(1)),
        put(Expect::Any, usurper),
        Change::Remove(Expect::Version(7), Key::Terminal(TerminalId(1))),
    ];
    for wrong in wrong {
        // at the beginning, in the middle and at the end of others that are right
        for at in 0..=5 {
            let mut changes = vec![
                put(Expect::Any, sample::terminal(2)),
                put(Expect::Any, sample::inventory(1)),
                put(Expect::Absent, sample::package(1)),
                put(Expect::Absent, sample::assignment(1, 1)),
                Change::Append(sample::said(1, "this never happened")),
            ];
            changes.insert(at, wrong.clone());
            conflict(&*store, changes, "a commit with one expectation that fails").await?;
            Picture::of(&*store, &[], 100).await?.compare(&before)?;
        }
    }

    let many: Vec<_> = (0..400)
        .flat_map(|id| {
            [
                put(Expect::Any, sample::terminal(id)),
                Change::Append(sample::said(id, "all of it")),
            ]
        })
        .collect();
    write(&*store, many.clone()).await?;
    write(&model, many).await?;
    Picture::of(&*store, &[], 100)
        .await?
        .compare(&Picture::of(&model, &[], 100).await?)
}

/// Clause 2.
pub(super) async fn commits_are_durable<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let model = MemoryStore::new();
    let callers = [Caller::Id(TerminalId(3)), Caller::Holder(sample::terminal(4).holder)];
    for round in 0..4 {
        let store = fixture.open(&home).await;
        Picture::of(&*store, &callers, 100)
            .await?
            .compare(&Picture::of(&model, &callers, 100).await?)?;
        for id in [round, round + 1, round + 2] {
            let changes = [
                put(Expect::Any, sample::terminal(id)),
                put(Expect::Any, sample::inventory(id)),
                put(Expect::Any, sample::package(id)),
                put(Expect::Any, sample::assignment(id, round)),
                Change::Append(sample::checked_in(id, sample::NOW + round)),
            ];
            write(&*store, changes.clone()).await?;
            write(&model, changes).await?;
        }
        let gone = [Change::Remove(Expect::Any, Key::Terminal(TerminalId(round)))];
        write(&*store, gone.clone()).await?;
        write(&model, gone).await?;
    }
    let store = fixture.open(&home).await;
    Picture::of(&*store, &callers, 100)
        .await?
        .compare(&Picture::of(&model, &callers, 100).await?)
}

/// Clause 3, first sentence.
pub(super) async fn reads_see_every_commit_that_has_returned<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let handles = [fixture.open(&home).await, fixture.open(&home).await];
    let id = TerminalId(7);
    for round in 1..=30_u32 {
        let mut terminal = sample::terminal(id.0);
        terminal.contact = round;
        let mut assignment = sample::assignment(id.0, 1);
        assignment.standing.reported = round;
        let mut inventory = sample::inventory(id.0);
        inventory.reported = round.into();
        let changes = [
            put(Expect::Any, terminal.clone()),
            put(Expect::Any, assignment.clone()),
            put(Expect::Any, inventory.clone()),
            Change::Append(sample::said(id.0, &round.to_string())),
        ];
        // each writes in turn, and both must know at once
        write(&*handles[round as usize % 2], changes).await?;
        for (number, store) in handles.iter().enumerate() {
            let which = if number == round as usize % 2 {
                "the handle that wrote"
            } else {
                "another handle"
            };
            ensure!(
                read(&**store, Key::Terminal(id)).await? == Some((u64::from(round), terminal.clone().into()))
                    && read(&**store, Key::Inventory(id)).await? == Some((u64::from(round), inventory.clone().into())),
                "{which} gets an old record"
            );
            let check_in = store.check_in(&Caller::Holder(terminal.holder.clone())).await?;
            ensure!(
                check_in.is_some_and(|found| found.terminal.record == terminal
                    && found.assignments.iter().map(|found| &found.record).eq([&assignment])),
                "a check-in by {which} reads old records"
            );
            let page = store.list(&Query::Terminals(None), 10).await?;
            ensure!(
                page.len() == 1 && page[0].record == terminal.clone().into(),
                "{which} lists an old record"
            );
            let page = store.list(&Query::Assignments(id, None), 10).await?;
            ensure!(
                page.len() == 1 && page[0].record == assignment.clone().into(),
                "{which} lists an old assignment"
            );
            let events = events(&**store, 0, 100).await?;
            ensure!(
                events.len() == round as usize,
                "{which} sees {} events of {round}",
                events.len()
            );
        }
    }
    write(&*handles[0], [Change::Remove(Expect::Any, Key::Terminal(id))]).await?;
    for store in &handles {
        ensure!(
            read(&**store, Key::Terminal(id)).await?.is_none(),
            "a record is got that was removed"
        );
        ensure!(
            store.list(&Query::Terminals(None), 10).await?.is_empty(),
            "a record is listed that was removed"
        );
        ensure!(
            store.check_in(&Caller::Id(id)).await?.is_none(),
            "a terminal checks in that was removed"
        );
    }
    Ok(())
}

/// Clause 3, second sentence.
pub(super) async fn a_read_is_of_one_moment<F: Fixture>(fixture: &F) -> Outcome {
    const ROUNDS: u32 = 150;
    const READS: u32 = 40;
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU32::new(0));
    write(&*store, moment(0)).await?;
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let (store, done, reads) = (fixture.open(&home).await, Arc::clone(&done), Arc::clone(&reads));
        readers.spawn(async move {
            let outcome = read_moments(&*store, &done, &reads).await;
            // Who has found something reads no more, and nobody is to wait for it.
            reads.fetch_add(READS, Ordering::SeqCst);
            outcome
        });
    }
    // However slow the readers are, commits go by while they read.
    for round in 1.. {
        write(&*store, moment(round)).await?;
        tokio::task::yield_now().await;
        if round >= ROUNDS && reads.load(Ordering::SeqCst) >= READS {
            break;
        }
    }
    done.store(true, Ordering::SeqCst);
    joined(readers).await
}

/// Reads what [`moment`] writes, again and again.
async fn read_moments(store: &dyn Store, done: &AtomicBool, reads: &AtomicU32) -> Outcome {
    while !done.load(Ordering::SeqCst) {
        let found = store.check_in(&Caller::Id(TerminalId(1))).await?.ok_or_else(missing)?;
        let contact = found.terminal.record.contact;
        ensure!(
            found.assignments.len() == 2
                && found
                    .assignments
                    .iter()
                    .all(|open| open.record.standing.reported == contact),
            "a check-in reads a terminal of one commit and assignments of another"
        );
        let page = store.list(&Query::Assignments(TerminalId(1), None), 10).await?;
        let results: Vec<_> = page
            .iter()
            .map(|found| assignment(&found.record).standing.reported)
            .collect();
        ensure!(
            results.len() == 3 && results.iter().all(|result| *result == results[0]),
            "a page is torn"
        );
        reads.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// One commit of [`a_read_is_of_one_moment`]: everything has one number, and two of three assignments are open.
fn moment(round: u32) -> Vec<Change> {
    let mut terminal = sample::terminal(1);
    terminal.contact = round;
    let mut changes = vec![put(Expect::Any, terminal)];
    for action in 0..3 {
        let mut assignment = sample::assignment(1, action);
        assignment.standing.reported = round;
        assignment.closed = u64::from(round % 3) == action;
        changes.push(put(Expect::Any, assignment));
    }
    changes
}

/// Clause 4.
pub(super) async fn versions_count_puts<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    for record in one_of_each(5) {
        let key = record.key();
        for life in 1..=3 {
            for version in 1..=4 {
                write(&*store, [Change::Put(Expect::Any, record.clone())]).await?;
                let found = read(&*store, key.clone()).await?.map(|(version, _)| version);
                ensure!(
                    found == Some(version),
                    "{key:?} has version {found:?} after put {version} of life {life}"
                );
                conflict(
                    &*store,
                    vec![Change::Put(Expect::Absent, record.clone())],
                    "absent, which is there",
                )
                .await?;
            }
            write(&*store, [Change::Remove(Expect::Version(4), key.clone())]).await?;
        }
    }
    let (mut terminal, mut closed) = (sample::terminal(5), sample::assignment(5, 2));
    for _ in 0..3 {
        terminal.contact += 1;
        closed.closed = !closed.closed;
        write(
            &*store,
            [put(Expect::Any, terminal.clone()), put(Expect::Any, closed.clone())],
        )
        .await?;
        write(&*store, [put(Expect::Any, sample::assignment(5, 1))]).await?;
    }
    closed.closed = false;
    write(&*store, [put(Expect::Version(3), closed)]).await?;
    let check_in = store.check_in(&Caller::Id(TerminalId(5))).await?.ok_or_else(missing)?;
    let versions: Vec<_> = check_in.assignments.iter().map(|found| found.version).collect();
    ensure!(
        check_in.terminal.version == 3 && versions == [3, 4],
        "a check-in reads versions {} and {versions:?}, and must read 3 and [3, 4]",
        check_in.terminal.version
    );
    let listed = store.list(&Query::Terminals(None), 1).await?;
    ensure!(
        listed.iter().map(|found| found.version).eq([3]),
        "a page has another version than a check-in"
    );
    Ok(())
}

/// Clause 5.
pub(super) async fn expectations_are_checked<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let expectations = [Expect::Any, Expect::Absent]
        .into_iter()
        .chain([0, 1, 2, 3, u64::MAX].map(Expect::Version))
        .collect::<Vec<_>>();
    let mut id = 0;
    for remove in [false, true] {
        for puts in 0..=2 {
            for expect in &expectations {
                let holds = match expect {
                    Expect::Any => true,
                    Expect::Absent => puts == 0,
                    Expect::Version(version) => puts > 0 && *version == puts,
                };
                id += 1;
                for record in one_of_each(id) {
                    for _ in 0..puts {
                        write(&*store, [Change::Put(Expect::Any, record.clone())]).await?;
                    }
                    let key = record.key();
                    let before = read(&*store, key.clone()).await?;
                    let change = match remove {
                        true => Change::Remove(*expect, key.clone()),
                        false => Change::Put(*expect, record.clone()),
                    };
                    let what = format!("{expect:?} of a record that was put {puts} times, to remove it: {remove}");
                    if holds {
                        write(&*store, [change])
                            .await
                            .map_err(|violation| Violation(format!("{what}: {violation}")))?;
                        let after = if remove { None } else { Some((puts + 1, record)) };
                        ensure!(read(&*store, key).await? == after, "{what}: it holds, but is not done");
                    } else {
                        conflict(&*store, vec![change], &what).await?;
                        ensure!(read(&*store, key).await? == before, "{what}: a conflict has written");
                    }
                }
            }
        }
    }
    write(&*store, []).await
}

/// Clause 6.
pub(super) async fn one_of_racing_commits_wins<F: Fixture>(fixture: &F) -> Outcome {
    const RACERS: u32 = 24;
    let home = fixture.home().await;
    let handles = [fixture.open(&home).await, fixture.open(&home).await];
    for round in 0..6 {
        let id = TerminalId(round);
        let there = round % 3 != 0;
        if there {
            write(&*handles[0], [put(Expect::Absent, sample::terminal(id.0))]).await?;
        }
        let remove = round % 3 == 2;
        let start = Arc::new(Barrier::new(RACERS as usize));
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let (store, start) = (Arc::clone(&handles[racer as usize % 2]), Arc::clone(&start));
            racers.spawn(async move {
                let mut terminal = sample::terminal(id.0);
                terminal.contact = racer;
                let change = match (there, remove) {
                    (false, _) => put(Expect::Absent, terminal),
                    (true, false) => put(Expect::Version(1), terminal),
                    (true, true) => Change::Remove(Expect::Version(1), Key::Terminal(id)),
                };
                start.wait().await;
                (
                    racer,
                    store
                        .commit(vec![change, Change::Append(sample::said(id.0, "won"))])
                        .await,
                )
            });
        }
        let mut winners = Vec::new();
        while let Some(finished) = racers.join_next().await {
            match finished.map_err(|error| Violation(error.to_string()))? {
                (racer, Ok(())) => winners.push(racer),
                (_, Err(StoreError::Conflict)) => {}
                (_, Err(other)) => return Err(other.into()),
            }
        }
        ensure!(winners.len() == 1, "{} of {RACERS} racing commits won", winners.len());
        let right = match remove {
            true => None,
            false => {
                let mut terminal = sample::terminal(id.0);
                terminal.contact = winners[0];
                Some((if there { 2 } else { 1 }, Record::from(terminal)))
            }
        };
        ensure!(
            read(&*handles[1], Key::Terminal(id)).await? == right,
            "the record is not the winner's"
        );
    }
    let won = events(&*handles[0], 0, 100).await?.len();
    ensure!(won == 6, "6 races have {won} winners by their events");
    Ok(())
}

/// Clause 7.
pub(super) async fn no_two_terminals_have_one_holder<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let terminal = |id: u64, vendor: &str, model: &str, serial: &str| {
        let mut terminal = sample::terminal(id);
        terminal.holder = Holder {
            vendor: vendor.to_owned(),
            model: model.to_owned(),
            serial: serial.to_owned(),
        };
        put(Expect::Any, terminal)
    };
    let remove = |id: u64| Change::Remove(Expect::Any, Key::Terminal(TerminalId(id)));
    let owner = async |vendor: &str, model: &str, serial: &str| -> Result<Option<u64>, Violation> {
        let holder = Holder {
            vendor: vendor.to_owned(),
            model: model.to_owned(),
            serial: serial.to_owned(),
        };
        Ok(store
            .check_in(&Caller::Holder(holder))
            .await?
            .map(|found| found.terminal.record.id.0))
    };

    // holders that differ in anything are different
    let different = [
        ["ab", "c", "1"],
        ["a", "bc", "1"],
        ["ab", "c1", ""],
        ["AB", "c", "1"],
        ["ab", "c", "1 "],
    ];
    for (id, [vendor, model, serial]) in (1..).zip(different) {
        write(&*store, [terminal(id, vendor, model, serial)]).await?;
    }
    for (id, [vendor, model, serial]) in (1..).zip(different) {
        let found = owner(vendor, model, serial).await?;
        ensure!(
            found == Some(id),
            "holder {vendor}/{model}/{serial} is that of {id}, not of {found:?}"
        );
    }
    // the same for another is a conflict, for itself it is not, and a change sets the old one free
    conflict(
        &*store,
        vec![terminal(9, "ab", "c", "1")],
        "a second terminal with one holder",
    )
    .await?;
    conflict(
        &*store,
        vec![terminal(2, "ab", "c", "1")],
        "a change to another's holder",
    )
    .await?;
    write(&*store, [terminal(1, "ab", "c", "1")]).await?;
    write(&*store, [terminal(1, "ab", "c", "2")]).await?;
    ensure!(
        owner("ab", "c", "1").await?.is_none(),
        "a terminal is found by a holder that it no longer has"
    );
    write(&*store, [terminal(9, "ab", "c", "1")]).await?;
    write(&*store, [remove(9)]).await?;
    write(&*store, [terminal(10, "ab", "c", "1")]).await?;

    // within one commit, what it would leave counts
    let two = vec![terminal(20, "x", "", ""), terminal(21, "x", "", "")];
    conflict(&*store, two, "two new terminals with one holder").await?;
    write(&*store, [terminal(20, "x", "", ""), terminal(21, "y", "", "")]).await?;
    write(&*store, [terminal(20, "y", "", ""), terminal(21, "x", "", "")]).await?;
    ensure!(
        (owner("x", "", "").await?, owner("y", "", "").await?) == (Some(21), Some(20)),
        "two terminals did not exchange their holders"
    );
    for id in [20, 21] {
        let found = read(&*store, Key::Terminal(TerminalId(id)))
            .await?
            .map(|(version, _)| version);
        ensure!(found == Some(2), "terminal {id} has version {found:?} after two puts");
    }
    write(&*store, [terminal(22, "x", "", ""), remove(21)]).await?;
    write(&*store, [remove(22), terminal(23, "x", "", "")]).await?;
    let kept = [terminal(23, "x", "", ""), terminal(24, "x", "", "")];
    conflict(
        &*store,
        kept.to_vec(),
        "the holder of a terminal that is put and keeps it",
    )
    .await?;
    conflict(
        &*store,
        kept.into_iter().rev().collect(),
        "the holder of a terminal that is put and keeps it",
    )
    .await?;
    ensure!(owner("x", "", "").await? == Some(23), "a conflict has moved a holder");

    let mut racers = JoinSet::new();
    for id in 100..116 {
        let (store, change) = (fixture.open(&home).await, terminal(id, "race", "", ""));
        racers.spawn(async move { store.commit(vec![change]).await });
    }
    let mut winners = 0;
    while let Some(finished) = racers.join_next().await {
        match finished.map_err(|error| Violation(error.to_string()))? {
            Ok(()) => winners += 1,
            Err(StoreError::Conflict) => {}
            Err(other) => return Err(other.into()),
        }
    }
    ensure!(winners == 1, "{winners} terminals got one holder in a race");
    Ok(())
}

/// Clause 8.
pub(super) async fn pages_are_in_order<F: Fixture>(fixture: &F) -> Outcome {
    // ascending as unsigned numbers, and so by their bytes; written in another order
    const IDS: [u64; 10] = [
        0,
        1,
        255,
        256,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let digests: Vec<_> = (0..=5)
        .flat_map(|number| [0x00, 0x7F, 0x80, 0xFF].map(|last| (number, last)))
        .map(|(number, last)| {
            let mut digest = [[0x00; 32], [0x00; 32], [0x7F; 32], [0x80; 32], [0xFF; 32], [0xFF; 32]][number];
            digest[31] = last;
            digest[15] = [0x01, 0x02, 0x00, 0x00, 0x00, 0xFF][number];
            Digest(digest)
        })
        .collect();
    let mut changes = Vec::new();
    for at in (0..IDS.len()).map(|at| at * 7 % IDS.len()) {
        changes.push(put(Expect::Absent, sample::terminal(IDS[at])));
        for owner in [0, 255, 256, u64::MAX] {
            let mut assignment = sample::assignment(owner, IDS[at]);
            assignment.closed = at % 2 == 0;
            changes.push(put(Expect::Absent, assignment));
        }
    }
    for at in (0..digests.len()).map(|at| at * 7 % digests.len()) {
        let mut package = sample::package(1);
        package.package.manifest = digests[at];
        changes.push(put(Expect::Absent, package));
    }
    write(&*store, changes).await?;

    for limit in [0, 1, 2, 3, 9, 10, 11, 24, 1000, u32::MAX] {
        // after each, after what lies between, and from the beginning
        let mut starts: Vec<_> = IDS
            .iter()
            .flat_map(|id| [*id, id.saturating_sub(1), id.saturating_add(1)])
            .collect();
        starts.dedup();
        for after in starts.iter().copied().map(Some).chain([None]) {
            let right: Vec<_> = IDS
                .iter()
                .filter(|id| after.is_none_or(|after| after < **id))
                .take(limit as usize)
                .collect();
            let terminals = store.list(&Query::Terminals(after.map(TerminalId)), limit).await?;
            ensure!(
                terminals
                    .iter()
                    .map(|found| found.record.key())
                    .eq(right.iter().map(|id| Key::Terminal(TerminalId(**id)))),
                "{limit} terminals after {after:?} must be {right:?}, and are {:?}",
                terminals.iter().map(|found| found.record.key()).collect::<Vec<_>>()
            );
            for owner in [0, 255, 256, u64::MAX].map(TerminalId) {
                let assignments = store
                    .list(&Query::Assignments(owner, after.map(ActionId)), limit)
                    .await?;
                let right = right.iter().map(|id| Key::Assignment(owner, ActionId(**id)));
                ensure!(
                    assignments.iter().map(|found| found.record.key()).eq(right),
                    "{limit} assignments of {owner} after {after:?} are {:?}",
                    assignments.iter().map(|found| found.record.key()).collect::<Vec<_>>()
                );
            }
        }
        for after in digests
            .iter()
            .copied()
            .map(Some)
            .chain([None, Some(Digest([0; 32])), Some(Digest([0xFF; 32]))])
        {
            let packages = store.list(&Query::Packages(after), limit).await?;
            let right = digests
                .iter()
                .filter(|digest| after.is_none_or(|after| after < **digest))
                .take(limit as usize);
            ensure!(
                packages
                    .iter()
                    .map(|found| found.record.key())
                    .eq(right.map(|digest| Key::Package(*digest))),
                "{limit} packages after {after:?} are {:?}",
                packages.iter().map(|found| found.record.key()).collect::<Vec<_>>()
            );
        }
    }
    Ok(())
}

/// Clause 16.
pub(super) async fn forgotten_events_are_gone_and_the_newest_stays<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let mut store = fixture.open(&home).await;
    store.commit(vec![Change::Forget(u64::MAX)]).await?;
    let say = |number: u64| Change::Append(sample::said(1, &number.to_string()));
    write(&*store, (0..8).map(say).collect::<Vec<_>>()).await?;
    let all = events(&*store, 0, 100).await?;
    let numbers = |events: &[(u64, Event)]| events.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    let number = |at: usize| all.get(at).map_or(0, |(number, _)| *number);
    // together with something else, which is done; or not, which is not
    let refused = Change::Remove(Expect::Version(7), Key::Terminal(TerminalId(1)));
    let conflict = store.commit(vec![Change::Forget(number(4)), refused]).await;
    ensure!(
        matches!(conflict, Err(StoreError::Conflict)) && events(&*store, 0, 100).await? == all,
        "events are forgotten by a commit that failed"
    );
    write(&*store, vec![say(8), Change::Forget(number(2))]).await?;
    let left = events(&*store, 0, 100).await?;
    ensure!(
        left.len() == 6 && left.get(..5) == all.get(3..),
        "after {} of {:?} is forgotten, {:?} are left",
        number(2),
        numbers(&all),
        numbers(&left)
    );
    ensure!(
        store.events(number(0), 2).await? == left.get(..2).unwrap_or_default(),
        "a page after a forgotten event does not begin with the next that there is"
    );
    let newest = left.last().map_or(0, |(newest, _)| *newest);
    write(&*store, vec![Change::Forget(u64::MAX)]).await?;
    drop(store);
    store = fixture.open(&home).await;
    let left = events(&*store, 0, 100).await?;
    ensure!(
        numbers(&left) == [newest],
        "of all events {:?} are left, and not the newest",
        numbers(&left)
    );
    write(&*store, vec![Change::Forget(newest), say(9), say(10)]).await?;
    let left = events(&*store, 0, 100).await?;
    ensure!(
        left.len() == 3
            && left
                .windows(2)
                .all(|pair| matches!(pair, [(one, _), (next, _)] if one < next)),
        "events that follow forgotten ones have the numbers {:?}",
        numbers(&left)
    );
    Ok(())
}

/// Clause 9, first part.
pub(super) async fn events_are_in_order<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    ensure!(store.events(0, 10).await?.is_empty(), "a fresh store has events");
    let mut right = Vec::new();
    for round in 0..6 {
        // the same again is another event
        let mut some = sample::events(round % 2);
        some.push(sample::said(1, "twice"));
        some.push(sample::said(1, "twice"));
        right.extend(some.clone());
        write(&*store, some.into_iter().map(Change::Append).collect::<Vec<_>>()).await?;
    }
    let all = events(&*store, 0, 1000).await?;
    ensure!(
        all.iter().map(|(_, event)| event).eq(&right),
        "events do not come in the order of their commits"
    );
    for limit in [0, 1, 2, 7, 1000, u32::MAX] {
        for at in 0..=all.len() {
            let after = if at == 0 { 0 } else { all[at - 1].0 };
            let page = store.events(after, limit).await?;
            let right = &all[at..all.len().min(at.saturating_add(limit as usize))];
            ensure!(
                page == right,
                "{limit} events after the {at}th are {} and must be {}",
                page.len(),
                right.len()
            );
        }
        ensure!(
            store.events(u64::MAX, limit).await?.is_empty(),
            "there are events after the end"
        );
    }
    Ok(())
}

/// Clause 9, second part.
pub(super) async fn events_never_appear_behind_a_reader<F: Fixture>(fixture: &F) -> Outcome {
    const WRITERS: u64 = 6;
    const COMMITS: u64 = 25;
    let home = fixture.home().await;
    let handles = [fixture.open(&home).await, fixture.open(&home).await];
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&handles[writer as usize % 2]);
        writers.spawn(async move {
            for number in 0..COMMITS {
                let events = 1 + (writer + number) % 3;
                let said = (0..events).map(|part| sample::said(writer, &format!("{number:03} {part}")));
                write(&*store, said.map(Change::Append).collect::<Vec<_>>()).await?;
            }
            Ok(())
        });
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for handle in &handles {
        let (store, done) = (Arc::clone(handle), Arc::clone(&done));
        readers.spawn(async move {
            let mut seen: Vec<(u64, Event)> = Vec::new();
            loop {
                // asked before the read: what a writer wrote before it was done is seen by a read that begins after
                let last = done.load(Ordering::SeqCst);
                let after = seen.last().map_or(0, |(sequence, _)| *sequence);
                let page = events(&*store, after, 5).await?;
                seen.extend(page);
                if last {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let all = events(&*store, 0, 1000).await?;
            ensure!(
                seen == all,
                "a reader that went on from number to number saw {} of {} events: some appeared behind it",
                seen.len(),
                all.len()
            );
            for writer in 0..WRITERS {
                let texts = all
                    .iter()
                    .filter(|(_, event)| event.terminal == Some(TerminalId(writer)));
                ensure!(
                    texts.map(|(_, event)| what(event)).is_sorted(),
                    "a writer's events are not in its order"
                );
            }
            Ok(())
        });
    }
    joined(writers).await?;
    done.store(true, Ordering::SeqCst);
    joined(readers).await
}

/// Clause 10.
pub(super) async fn a_dropped_commit_leaves_all_or_nothing<F: Fixture>(fixture: &F) -> Outcome {
    const ROUNDS: u64 = 120;
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut seed = Seed::new(10);
    for id in 0..ROUNDS {
        let changes = vec![
            put(Expect::Absent, sample::terminal(id)),
            Change::Append(sample::said(id, "first")),
            put(Expect::Absent, sample::assignment(id, 1)),
            put(Expect::Absent, sample::assignment(id, 2)),
            put(Expect::Absent, sample::inventory(id)),
            Change::Append(sample::said(id, "second")),
        ];
        let patience = seed.below(12);
        let pause = Duration::from_micros(seed.below(600));
        let drop_it = async {
            if patience < 8 {
                for _ in 0..patience {
                    tokio::task::yield_now().await;
                }
            } else {
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            outcome = store.commit(changes) => outcome?,
            () = drop_it => {}
        }
    }
    // a commit that was dropped may still be under way, but it must come to an end
    let mut torn = None;
    for _ in 0..60 {
        torn = None;
        let mut said = BTreeMap::<_, u64>::new();
        for (_, event) in events(&*store, 0, 1000).await? {
            *said.entry(event.terminal).or_default() += 1;
        }
        for id in (0..ROUNDS).map(TerminalId) {
            let terminal = u64::from(read(&*store, Key::Terminal(id)).await?.is_some());
            let inventory = u64::from(read(&*store, Key::Inventory(id)).await?.is_some());
            let assignments = store.list(&Query::Assignments(id, None), 10).await?.len() as u64;
            let events = said.get(&Some(id)).copied().unwrap_or_default();
            if [terminal * 2, inventory * 2, events] != [assignments; 3] {
                torn = Some(format!(
                    "a dropped commit left {terminal} terminals, {inventory} inventories, {assignments} assignments \
                     and {events} events of 1, 1, 2 and 2"
                ));
            }
        }
        if torn.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    torn.map_or(Ok(()), |torn| Err(Violation(torn)))
}

/// Clause 11.
pub(super) async fn errors_hold_no_content<F: Fixture>(fixture: &F) -> Outcome {
    const SECRET: &str = "canary";
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut terminal = sample::terminal(1);
    terminal.holder.serial = SECRET.to_owned();
    terminal.tickets[0].sealed = SECRET.to_owned();
    terminal.renewed_certificate = Some(SECRET.to_owned());
    let mut twin = terminal.clone();
    twin.id = TerminalId(2);
    let mut assignment = sample::assignment(1, 1);
    assignment.text = Some(SECRET.to_owned());
    let mut event = sample::said(1, SECRET);
    event.actor = SECRET.to_owned();
    let all = |expect| {
        vec![
            Change::Append(event.clone()),
            put(Expect::Any, assignment.clone()),
            Change::Put(expect, terminal.clone().into()),
        ]
    };
    write(&*store, all(Expect::Absent)).await?;
    let mut twice = all(Expect::Any);
    twice.push(put(Expect::Any, terminal.clone()));
    let wrong = [
        all(Expect::Absent),
        all(Expect::Version(9)),
        twice,
        vec![put(Expect::Any, twin.clone())],
        vec![
            put(Expect::Any, twin.clone()),
            Change::Append(event.clone()),
            put(Expect::Absent, assignment.clone()),
        ],
    ];
    for changes in wrong {
        let Err(error) = store.commit(changes).await else {
            return Err(Violation("a commit succeeds that must not".to_owned()));
        };
        let text = format!("{error} {error:?}");
        ensure!(!text.contains(SECRET), "an error tells what is in a record");
    }
    Ok(())
}

/// Clause 12.
pub(super) async fn a_record_named_twice_is_refused<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    for record in one_of_each(1) {
        write(&*store, [Change::Put(Expect::Absent, record)]).await?;
    }
    let before = Picture::of(&*store, &[], 100).await?;
    for record in one_of_each(1) {
        let put = |expect| Change::Put(expect, record.clone());
        let remove = |expect| Change::Remove(expect, record.key());
        let pairs = [
            [put(Expect::Any), put(Expect::Any)],
            [put(Expect::Version(1)), put(Expect::Version(2))],
            [put(Expect::Any), remove(Expect::Any)],
            [remove(Expect::Version(1)), put(Expect::Absent)],
            [remove(Expect::Any), remove(Expect::Any)],
            [put(Expect::Absent), put(Expect::Any)],
        ];
        for [first, second] in pairs {
            let what = format!("{first:?} and then {second:?}");
            let between = [
                Change::Append(sample::said(1, "never")),
                self::put(Expect::Any, sample::terminal(77)),
            ];
            let changes = [first].into_iter().chain(between).chain([second]).collect();
            match store.commit(changes).await {
                Err(StoreError::Backend(_)) => {}
                Err(other) => return Err(Violation(format!("{what}: must be misuse, and is: {other}"))),
                Ok(()) => return Err(Violation(format!("{what}: must be misuse, and is done"))),
            }
            Picture::of(&*store, &[], 100).await?.compare(&before)?;
        }
    }
    Ok(())
}

/// What [`Store::check_in`] says of itself.
pub(super) async fn a_check_in_finds_its_terminal_and_what_is_open<F: Fixture>(fixture: &F) -> Outcome {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let (mine, credential) = (sample::terminal(1 << 63), sample::credential(1));
    let callers = |terminal: &Terminal| {
        let mut callers = vec![Caller::Id(terminal.id), Caller::Holder(terminal.holder.clone())];
        callers.extend(
            terminal
                .credential
                .iter()
                .map(|credential| Caller::Credential(credential.id)),
        );
        callers
    };
    for caller in callers(&mine) {
        ensure!(
            store.check_in(&caller).await?.is_none(),
            "a terminal is found in an empty store"
        );
    }
    let mut other = sample::terminal(1);
    other.credential = None;
    let mut changes = vec![put(Expect::Absent, other.clone()), put(Expect::Absent, mine.clone())];
    // in another order than theirs; every other one is closed; neighbours have some too
    for action in [5, u64::MAX, 2, 1 << 63, 9, 1, 0, (1 << 63) - 1] {
        for owner in [mine.id.0, mine.id.0 - 1, mine.id.0 + 1, 1] {
            let mut assignment = sample::assignment(owner, action);
            assignment.closed = action % 2 == 0;
            changes.push(put(Expect::Absent, assignment));
        }
    }
    write(&*store, changes).await?;
    for caller in callers(&mine) {
        let found = store.check_in(&caller).await?.ok_or_else(missing)?;
        ensure!(
            found.terminal.record == mine && found.terminal.version == 1,
            "{caller:?} is another terminal"
        );
        let open: Vec<_> = found
            .assignments
            .iter()
            .map(|open| (open.record.terminal, open.record.action.0))
            .collect();
        let right = [1, 5, 9, (1 << 63) - 1, u64::MAX].map(|action| (mine.id, action));
        ensure!(
            open == right,
            "a check-in reads assignments {open:?}, and must read {right:?}"
        );
        for open in found.assignments {
            let whole = sample::assignment(mine.id.0, open.record.action.0);
            ensure!(
                open.record == whole && open.version == 1,
                "a check-in reads half an assignment"
            );
        }
    }

    // a terminal is found by the credential that it has now, by no earlier one, and by none that it has not
    let mut renewed = mine.clone();
    renewed.credential = Some(credential.clone());
    write(&*store, [put(Expect::Version(1), renewed.clone())]).await?;
    for caller in callers(&renewed) {
        let found = store.check_in(&caller).await?;
        ensure!(
            found.is_some_and(|found| found.terminal.record == renewed),
            "{caller:?} is not found"
        );
    }
    let gone = sample::credential(mine.id.0).id;
    ensure!(
        store.check_in(&Caller::Credential(gone)).await?.is_none(),
        "an earlier credential finds a terminal"
    );
    other.credential = Some(credential.clone());
    write(&*store, [put(Expect::Any, other.clone())]).await?;
    let found = store
        .check_in(&Caller::Credential(credential.id))
        .await?
        .map(|found| found.terminal.record.id);
    ensure!(
        found == Some(other.id),
        "of two terminals with one credential, the lower is not found first"
    );
    write(&*store, [Change::Remove(Expect::Any, Key::Terminal(other.id))]).await?;
    let found = store
        .check_in(&Caller::Credential(credential.id))
        .await?
        .map(|found| found.terminal.record.id);
    ensure!(
        found == Some(mine.id),
        "of two terminals with one credential, one was removed, and the other is not found"
    );
    renewed.credential = None;
    write(&*store, [put(Expect::Any, renewed.clone())]).await?;
    let found = store.check_in(&Caller::Credential(credential.id)).await?;
    ensure!(
        found.is_none(),
        "a terminal is found by a credential that was taken away"
    );
    let found = store.check_in(&Caller::Id(mine.id)).await?;
    ensure!(
        found.is_some_and(|found| found.terminal.record == renewed),
        "a terminal without a credential is lost"
    );
    Ok(())
}

/// Nothing of a record is lost or changed.
pub(super) async fn records_come_back_whole<F: Fixture>(fixture: &F) -> Outcome {
    const HARD: &str =
        "終端 \u{1F4A3} \"quoted\" 'single' \\ \r\n\t\0 \u{7f} %s $1 ?1 --; DROP TABLE terminals \u{202E}";
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut terminal = sample::terminal(u64::MAX);
    terminal.holder = Holder {
        vendor: "終端 'x' \"y\" \\".to_owned(),
        model: String::new(),
        serial: "é\u{1F4A3}".to_owned(),
    };
    terminal.renewed_certificate = Some("ab".repeat(3000));
    terminal.contact = u32::MAX;
    terminal.last_check_in = Some(u64::MAX);
    terminal.last_action = u64::MAX;
    terminal.plan.sequence = u64::MAX;
    if let Some(next) = &mut terminal.next_contact {
        next.from = u64::MAX;
    }
    let mut bare = sample::terminal(0);
    (bare.key, bare.credential, bare.main_key_epoch, bare.inventory) = (None, None, None, None);
    (bare.last_check_in, bare.next_contact) = (None, None);
    (bare.tickets, bare.logical) = (Vec::new(), Vec::new());
    let mut inventory = sample::inventory(u64::MAX);
    inventory.inventory.hardware = Some(HARD.to_owned());
    let one = inventory.inventory.components[0].clone();
    inventory.inventory.components = vec![one; 200];
    let mut package = sample::package(3);
    package.package.size = u64::MAX;
    package.package.block_map = None;
    package.actor = HARD.to_owned();
    package.models = Vec::new();
    let mut assignment = sample::assignment(u64::MAX, u64::MAX);
    assignment.text = Some(HARD.repeat(1000));
    assignment.actor = HARD.to_owned();
    assignment.code = ResultCode::from(200);
    (assignment.created, assignment.updated, assignment.standing.reported) = (0, u64::MAX, u32::MAX);
    assignment.attempt = u16::MAX;
    let mut records = vec![
        terminal.into(),
        bare.into(),
        inventory.into(),
        package.into(),
        assignment.into(),
        sample::assignment(u64::MAX, 0).into(),
    ];
    let mut entry = sample::roster(u64::MAX);
    (entry.vendor, entry.model, entry.serial) = (HARD.to_owned(), String::new(), HARD.to_owned());
    (entry.merchant, entry.version, entry.seen) = (Some(HARD.to_owned()), Some(String::new()), Some(u32::MAX));
    let mut empty = sample::roster(0);
    (empty.merchant, empty.version, empty.seen) = (None, None, None);
    let mut document = sample::document(u64::MAX);
    document.id = HARD.to_owned();
    document.body = format!("{:?}", HARD.repeat(1000));
    document.marks = [(HARD.to_owned(), HARD.to_owned()), (String::new(), String::new())].into();
    records.extend([Record::from(entry), empty.into(), document.into()]);
    records.extend(one_of_each(1));
    write(
        &*store,
        records
            .iter()
            .cloned()
            .map(|record| Change::Put(Expect::Absent, record))
            .collect::<Vec<_>>(),
    )
    .await?;

    let mut right = sample::events(u64::MAX);
    for event in &mut right {
        event.actor = HARD.to_owned();
        event.time = u64::MAX;
        match &mut event.kind {
            EventKind::CheckedIn(summary) => {
                (summary.skew, summary.claimed) = (i64::MIN, None);
            }
            EventKind::Terminal { text, .. } => *text = Some(HARD.repeat(100)),
            _ => {}
        }
    }
    write(&*store, right.iter().cloned().map(Change::Append).collect::<Vec<_>>()).await?;

    for record in records {
        let found = read(&*store, record.key()).await?;
        ensure!(
            found == Some((1, record.clone())),
            "a record was put as {record:?} and came back as {found:?}"
        );
        if let Record::Terminal(terminal) = record {
            let found = store.check_in(&Caller::Holder(terminal.holder.clone())).await?;
            ensure!(
                found.is_some_and(|found| found.terminal.record == *terminal),
                "a check-in reads another terminal"
            );
        }
    }
    let found = events(&*store, 0, 100).await?;
    ensure!(
        found.iter().map(|(_, event)| event).eq(&right),
        "events were appended as {right:?} and came back as {found:?}"
    );
    Ok(())
}

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

/// A commit that must be a conflict.
async fn conflict(store: &dyn Store, changes: Vec<Change>, what: &str) -> Outcome {
    match store.commit(changes).await {
        Err(StoreError::Conflict) => Ok(()),
        Err(other) => Err(Violation(format!("{what}: must be a conflict, and is: {other}"))),
        Ok(()) => Err(Violation(format!("{what}: must be a conflict, and is done"))),
    }
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
