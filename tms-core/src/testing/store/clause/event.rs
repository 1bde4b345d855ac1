//! Events: clauses 9 and 16.

use super::super::Fixture;
use super::super::picture::events;
use super::{Outcome, joined, what, write};
use crate::store::{Change, Event, Expect, Key, StoreError, TerminalId};
use crate::testing::sample;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

/// Clause 9, first part.
pub(in crate::testing::store) async fn events_are_in_order<F: Fixture>(fixture: &F) -> Outcome {
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
pub(in crate::testing::store) async fn events_never_appear_behind_a_reader<F: Fixture>(fixture: &F) -> Outcome {
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

/// Clause 16.
pub(in crate::testing::store) async fn forgotten_events_are_gone_and_the_newest_stays<F: Fixture>(
    fixture: &F,
) -> Outcome {
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
