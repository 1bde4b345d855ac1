//! What a commit does: clauses 1, 2, 4 to 7, 10 and 12.

use super::super::Fixture;
use super::super::Violation;
use super::super::picture::Picture;
use super::super::picture::events;
use super::{Outcome, missing, one_of_each, put, read, write};
use crate::store::{Caller, Change, Expect, Key, MemoryStore, Query, Record, Store, StoreError, TerminalId};
use crate::testing::sample;
use crate::testing::seed::Seed;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tms_proto::identity::Holder;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Clause 1.
pub(in crate::testing::store) async fn a_commit_is_atomic<F: Fixture>(fixture: &F) -> Outcome {
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
pub(in crate::testing::store) async fn commits_are_durable<F: Fixture>(fixture: &F) -> Outcome {
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

/// Clause 4.
pub(in crate::testing::store) async fn versions_count_puts<F: Fixture>(fixture: &F) -> Outcome {
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
pub(in crate::testing::store) async fn expectations_are_checked<F: Fixture>(fixture: &F) -> Outcome {
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
pub(in crate::testing::store) async fn one_of_racing_commits_wins<F: Fixture>(fixture: &F) -> Outcome {
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
pub(in crate::testing::store) async fn no_two_terminals_have_one_holder<F: Fixture>(fixture: &F) -> Outcome {
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

/// Clause 10.
pub(in crate::testing::store) async fn a_dropped_commit_leaves_all_or_nothing<F: Fixture>(fixture: &F) -> Outcome {
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

/// Clause 12.
pub(in crate::testing::store) async fn a_record_named_twice_is_refused<F: Fixture>(fixture: &F) -> Outcome {
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

/// A commit that must be a conflict.
async fn conflict(store: &dyn Store, changes: Vec<Change>, what: &str) -> Outcome {
    match store.commit(changes).await {
        Err(StoreError::Conflict) => Ok(()),
        Err(other) => Err(Violation(format!("{what}: must be a conflict, and is: {other}"))),
        Ok(()) => Err(Violation(format!("{what}: must be a conflict, and is done"))),
    }
}
