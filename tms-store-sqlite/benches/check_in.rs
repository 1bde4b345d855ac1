//! What a durable check-in costs: group commit beside one commit each, and the store beside SQLite itself.
//!
//! `cargo bench -p tms-store-sqlite --bench check_in -- --help`

mod machine;

use anyhow::{Context, Result};
use clap::Parser;
use machine::{Place, now};
use rusqlite::{Connection, OptionalExtension, params};
use rustix::time::ClockId;
use std::path::Path;
use std::time::Duration;
use tms_core::store::{Caller, Change, Event, Expect, Store, StoreError, Terminal, TerminalId};
use tms_core::testing::sample;
use tms_core::testing::seed::Seed;
use tms_store_sqlite::{Options, SqliteStore};

/// Check-ins on a SQLite store: each reads a terminal and its open assignments, and commits the terminal and an event.
///
/// Three runs on one database take turns: the bare loop, which is rusqlite alone on one thread with the same reads and writes in
/// transactions of 64; the store with group commit switched off; and the store as it is by default.
#[derive(Parser)]
#[command(name = "check_in")]
struct Arguments {
    /// Terminals in the database
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    terminals: u64,
    /// Check-ins at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    sessions: u64,
    /// Threads of the store that read
    #[arg(long, default_value_t = Options::default().readers)]
    readers: usize,
    /// How often the three runs take turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of each run in a round
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    #[command(flatten)]
    place: Place,
}

/// What the runs of one kind have come to.
#[derive(Default)]
struct Run {
    check_ins: u64,
    elapsed: Duration,
    cpu: Duration,
    transactions: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = arguments.place.open()?;
    let directory = directory.path();
    let path = directory.join("check_in.sqlite");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ids = ids(arguments.terminals);
    runtime.block_on(load(&path, &ids))?;
    println!(
        "{} terminals, {} sessions, {} rounds of {} s each, {} MB in {}\n",
        arguments.terminals,
        arguments.sessions,
        arguments.rounds,
        arguments.seconds,
        path.metadata()?.len() / 1_000_000,
        directory.display()
    );

    let [mut bare, mut single, mut group] = [Run::default(), Run::default(), Run::default()];
    for round in 0..arguments.rounds {
        // what else the machine does is shared out among them
        bare.add(self::bare(&path, &ids, arguments.seconds, round.into())?);
        let options = Options {
            readers: arguments.readers,
            ..Options::default()
        };
        group.add(runtime.block_on(store(&path, &ids, &arguments, options.clone()))?);
        single.add(runtime.block_on(store(
            &path,
            &ids,
            &arguments,
            Options {
                group_limit: 1,
                ..options
            },
        ))?);
    }
    println!(
        "{:<18}{:>12}{:>14}{:>16}",
        "", "check-ins/s", "CPU µs each", "in one commit"
    );
    bare.print("bare loop");
    single.print("one commit each");
    group.print("group commit");

    let gain = group.rate() / single.rate();
    let cost = group.cost() / bare.cost();
    println!("\ngroup commit / one commit each, check-ins per second: {gain:.2} (bar: at least 3)");
    println!("group commit / bare loop, CPU per check-in: {cost:.2} (bar: at most 2)");
    Ok(())
}

impl Run {
    fn add(&mut self, other: Self) {
        self.check_ins += other.check_ins;
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
        self.transactions += other.transactions;
    }

    fn rate(&self) -> f64 {
        self.check_ins as f64 / self.elapsed.as_secs_f64()
    }

    fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.check_ins as f64
    }

    fn print(&self, name: &str) {
        let group = self.check_ins as f64 / self.transactions as f64;
        println!("{name:<18}{:>12.0}{:>14.1}{group:>16.1}", self.rate(), self.cost());
    }
}

/// The ids of all terminals: random, as enrolment gives them, and sorted, so that they are loaded quickly.
fn ids(count: u64) -> Vec<u64> {
    let mut seed = Seed::new(1);
    let mut ids: Vec<_> = (0..count).map(|_| seed.next()).collect();
    ids.sort_unstable();
    ids
}

/// Fills the database, through the store itself. Every twentieth terminal has something to do.
async fn load(path: &Path, ids: &[u64]) -> Result<()> {
    let store = SqliteStore::open(path, Options::default())?;
    if let Some(last) = ids.last()
        && store.check_in(&Caller::Id(TerminalId(*last))).await?.is_some()
    {
        return Ok(());
    }
    let start = now(ClockId::Monotonic);
    for (number, ids) in ids.chunks(5_000).enumerate() {
        let mut changes = Vec::with_capacity(ids.len() + ids.len() / 20);
        for id in ids {
            changes.push(Change::Put(Expect::Absent, sample::terminal(*id).into()));
            if id % 20 == 0 {
                changes.push(Change::Put(Expect::Absent, sample::assignment(*id, 1).into()));
            }
        }
        store.commit(changes).await.with_context(|| format!("batch {number}"))?;
    }
    drop(store);
    println!("loaded in {:.0} s", (now(ClockId::Monotonic) - start).as_secs_f64());
    Ok(())
}

/// Many sessions on one store, until the time is over.
async fn store(path: &Path, ids: &[u64], arguments: &Arguments, options: Options) -> Result<Run> {
    let cpu = now(ClockId::ProcessCPUTime);
    let start = now(ClockId::Monotonic);
    let end = start + Duration::from_secs(arguments.seconds);
    let store = SqliteStore::open(path, options)?;
    let ids: std::sync::Arc<[u64]> = ids.into();
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..arguments.sessions {
        let (store, ids) = (store.clone(), ids.clone());
        let mut seed = Seed::new(session + u64::from(start.subsec_nanos()));
        let event = sample::checked_in(session, sample::NOW);
        sessions.spawn(async move {
            let mut check_ins = 0;
            while now(ClockId::Monotonic) < end {
                let id = ids[seed.below(ids.len() as u64) as usize];
                check_ins += u64::from(check_in(&store, id, &event).await?);
            }
            Ok::<_, StoreError>(check_ins)
        });
    }
    let mut check_ins = 0;
    for session in sessions.join_all().await {
        check_ins += session?;
    }
    let elapsed = now(ClockId::Monotonic) - start;
    let written = store.statistics();
    // closing empties the log, and that belongs to what was written
    drop(store);
    Ok(Run {
        check_ins,
        elapsed,
        cpu: now(ClockId::ProcessCPUTime) - cpu,
        transactions: written.transactions,
    })
}

/// One check-in; false where another session had the same terminal at the same time.
async fn check_in(store: &SqliteStore, id: u64, event: &Event) -> Result<bool, StoreError> {
    let caller = Caller::Id(TerminalId(id));
    let Some(found) = store.check_in(&caller).await? else {
        return Err(StoreError::Backend("a terminal is missing".to_owned()));
    };
    let mut terminal: Terminal = found.terminal.record;
    terminal.contact += 1;
    terminal.last_check_in = terminal.last_check_in.map(|last| last + 1);
    terminal.tickets.rotate_left(1);
    let event = Event {
        terminal: Some(terminal.id),
        time: terminal.contact.into(),
        ..event.clone()
    };
    let changes = vec![
        Change::Put(Expect::Version(found.terminal.version), terminal.into()),
        Change::Append(event),
    ];
    match store.commit(changes).await {
        Ok(()) => Ok(true),
        Err(StoreError::Conflict) => Ok(false),
        Err(other) => Err(other),
    }
}

/// SQLite alone: the least that a check-in can cost.
fn bare(path: &Path, ids: &[u64], seconds: u64, seed: u64) -> Result<Run> {
    let cpu = now(ClockId::ProcessCPUTime);
    let start = now(ClockId::Monotonic);
    let end = start + Duration::from_secs(seconds);
    let connection = Connection::open(path)?;
    let options = Options::default();
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -{}; PRAGMA wal_autocheckpoint = {}",
        options.cache_kib, options.checkpoint_pages
    ))?;
    let event = serde_json::to_string(&sample::checked_in(ids[0], sample::NOW))?;
    let mut seed = Seed::new(seed);
    let mut check_ins = 0;
    while now(ClockId::Monotonic) < end {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for _ in 0..64 {
            let id = (ids[seed.below(ids.len() as u64) as usize] ^ (1 << 63)) as i64;
            let (version, body) = connection
                .prepare_cached("SELECT version, body FROM terminals WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
            connection
                .prepare_cached(
                    "SELECT version, body FROM assignments WHERE terminal = ?1 AND closed = 0 ORDER BY action",
                )?
                .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
                .optional()?;
            connection
                .prepare_cached(
                    "UPDATE terminals SET version = ?3, state = ?4, last_check_in = ?5, next_contact = ?6, body = ?7 \
                     WHERE id = ?1 AND version = ?2",
                )?
                .execute(params![
                    id,
                    version,
                    version + 1,
                    "active",
                    check_ins,
                    check_ins + 86_400,
                    body
                ])?;
            connection
                .prepare_cached("INSERT INTO events (terminal, kind, time, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![id, "checked_in", check_ins, event])?;
            check_ins += 1;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    let elapsed = now(ClockId::Monotonic) - start;
    drop(connection);
    Ok(Run {
        check_ins: check_ins as u64,
        elapsed,
        cpu: now(ClockId::ProcessCPUTime) - cpu,
        transactions: check_ins as u64 / 64,
    })
}
