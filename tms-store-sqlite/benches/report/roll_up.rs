//! What the roll-up costs beside the check-ins.

use crate::Arguments;
use crate::machine::now;
use crate::roster::terminals;
use anyhow::Result;
use rustix::time::ClockId;
use std::sync::Arc;
use std::time::Duration;
use tms_core::estate::Estate;
use tms_core::store::{Caller, Change, Event, Expect, Store, StoreError, Terminal, TerminalId};
use tms_core::testing::sample;
use tms_store_sqlite::SqliteStore;

/// Check-ins of distinct terminals, on a day of their own, and then their roll-up.
pub(crate) async fn run(store: &Arc<SqliteStore>, estate: &Estate, arguments: &Arguments) -> Result<()> {
    while estate.roll_up(5_000).await?.events > 0 {}
    let some = terminals(arguments.terminals);
    let day = estate.as_of().await?.time.max(sample::NOW) + 86_400;
    let (cpu, start) = (now(ClockId::ProcessCPUTime), now(ClockId::Monotonic));
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..64 {
        let store = store.clone();
        let count = (arguments.check_ins / 64) as usize;
        let ids: Vec<_> = some.iter().skip(session * count).take(count).copied().collect();
        sessions.spawn(async move {
            for id in ids {
                check_in(&store, id, day).await?;
            }
            Ok::<_, StoreError>(())
        });
    }
    for session in sessions.join_all().await {
        session?;
    }
    let (check_cpu, checked) = (now(ClockId::ProcessCPUTime) - cpu, now(ClockId::Monotonic) - start);
    for portion in [1_000, 5_000] {
        let (cpu, start) = (now(ClockId::ProcessCPUTime), now(ClockId::Monotonic));
        let mut events = 0;
        // half of them with each
        while events < arguments.check_ins as u32 / 2 {
            match estate.roll_up(portion).await?.events {
                0 => break,
                entered => events += entered,
            }
        }
        let (roll_cpu, rolled) = (now(ClockId::ProcessCPUTime) - cpu, now(ClockId::Monotonic) - start);
        let each = |took: Duration, count: f64| took.as_secs_f64() * 1e6 / count;
        let check_ins = (arguments.check_ins / 64 * 64) as f64;
        println!(
            "{events} check-ins rolled up, {portion} at a time: {:.0} ms and {:.0} ms of CPU for 1,000; beside the check-ins: \
             {:.2} of their time with 64 at once, {:.2} of their CPU",
            each(rolled, events.into()),
            each(roll_cpu, events.into()),
            each(rolled, events.into()) / each(checked, check_ins),
            each(roll_cpu, events.into()) / each(check_cpu, check_ins),
        );
    }
    Ok(())
}

async fn check_in(store: &SqliteStore, id: TerminalId, time: u64) -> Result<(), StoreError> {
    let Some(found) = store.check_in(&Caller::Id(id)).await? else {
        return Err(StoreError::Backend("a terminal is missing".to_owned()));
    };
    let mut terminal: Terminal = found.terminal.record;
    terminal.contact += 1;
    terminal.last_check_in = Some(time);
    terminal.tickets.rotate_left(1);
    let event = Event {
        time,
        ..sample::checked_in(id.0, time)
    };
    let changes = vec![
        Change::Put(Expect::Version(found.terminal.version), terminal.into()),
        Change::Append(event),
    ];
    store.commit(changes).await
}
