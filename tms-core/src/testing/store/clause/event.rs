//! Events: clause 9.

use super::super::Fixture;
use super::super::picture::events;
use super::{Outcome, joined, what, write};
use crate::store::Change;
use crate::store::Event;
use crate::store::TerminalId;
use crate::testing::sample;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
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
