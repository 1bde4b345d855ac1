//! Server CPU of a check-in with many terminals, tasks and assignments, beside one with few terminals and nothing else.

use crate::client::Client;
use crate::process::Server;
use anyhow::{Context, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tms_core::blob::MemoryBlobs;
use tms_core::clock::{Clock, SystemClock};
use tms_core::rule::task::{Action, Definition, OnFailure, State, TaskState, Work};
use tms_core::store::{
    ActionId, Assignment, BranchPath, Caller, Change, CheckIn, Document, Event, Expect, Group, Key, Order, Query,
    Record, Sequence, Step, Store, StoreError, Tally, TerminalId, Versioned,
};
use tms_core::task::{Member, MemberStep, StageRun, Task};
use tms_core::transport::{Incoming, LinkProfile, PeerInfo};
use tms_proto::code::Stage;
use tms_store_sqlite::SqliteStore;

/// How the check-ins are measured.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Terminals in the large database.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(64..))]
    terminals: u64,
    /// Terminals in the small one.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(64..))]
    few: u64,
    /// Terminals that call, spread over all that there are; they are in every task, and have been through it.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(64..))]
    callers: u64,
    /// Check-ins in each round.
    #[arg(long, default_value_t = 6_000)]
    count: u64,
    /// Rounds; in each the servers take turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Terminals that call at once.
const SESSIONS: usize = 64;

/// A server that is measured, and who calls it.
struct Measured {
    name: String,
    server: Server,
    sessions: Vec<Vec<Client>>,
    took: Vec<Duration>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    for (name, terminals) in [("few", options.few), ("none", options.terminals)] {
        let store = SqliteStore::open(path(name), Default::default())?;
        crate::server::fill(&store, terminals).await?;
    }
    for (name, tasks) in [("one", 1), ("hundred", 100)] {
        // with its last handle its log has gone into the file
        std::fs::copy(path("none"), path(name))?;
        let store = SqliteStore::open(path(name), Default::default())?;
        for task in 1..=tasks {
            add_task(&store, task, &callers(options.terminals, options.callers)).await?;
        }
    }
    let all = [
        ("few", options.few, 0),
        ("none", options.terminals, 0),
        ("one", options.terminals, 1),
        ("hundred", options.terminals, 100),
    ];
    println!("what a check-in with nothing to do asks of the store:");
    let mut servers = Vec::new();
    for (file, terminals, tasks) in all {
        let name = format!("{terminals} terminals, {tasks} tasks");
        let callers = callers(terminals, options.callers);
        println!("  {name:<32}{}", asked(&path(file), terminals, &callers).await?);
        let file = path(file).display().to_string();
        let count = terminals.to_string();
        let server = Server::start(&["serve", "--terminals", &count, "--database", &file]).await?;
        let mut sessions: Vec<Vec<Client>> = (0..SESSIONS).map(|_| Vec::new()).collect();
        for (index, id) in callers.iter().enumerate() {
            // the first has called already
            let contact = if index == 0 { 2 } else { 0 };
            sessions[index % SESSIONS].push(Client::after(id.0, contact));
        }
        servers.push(Measured {
            name,
            server,
            sessions,
            took: Vec::new(),
        });
    }
    for measured in &mut servers {
        // Everybody once, so that all hold a ticket.
        let everybody = callers_of(measured);
        check_ins(measured, everybody).await?;
    }
    for round in 0..options.rounds {
        // first one way, then the other: what drifts is shared out
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let took = check_ins(&mut servers[index], options.count).await?;
            servers[index].took.push(took);
        }
    }
    println!(
        "server CPU per check-in, {SESSIONS} at once, {} a round, {} rounds:",
        options.count, options.rounds
    );
    let base = servers[0].took.clone();
    for Measured { name, took, .. } in &servers {
        let mut ratios: Vec<f64> = took
            .iter()
            .zip(&base)
            .map(|(took, base)| took.as_secs_f64() / base.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let mut took = took.clone();
        took.sort();
        println!(
            "  {name:<32}{:>7.3} ms, {:.2} of the first, {:.2} to {:.2}",
            took[took.len() / 2].as_secs_f64() * 1e3,
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
    Ok(())
}

/// So many of the terminals, spread over all.
fn callers(terminals: u64, count: u64) -> Vec<TerminalId> {
    let count = count.min(terminals);
    (0..count)
        .map(|number| TerminalId(1 + number * (terminals / count)))
        .collect()
}

fn callers_of(measured: &Measured) -> u64 {
    measured.sessions.iter().map(|clients| clients.len() as u64).sum()
}

/// Adds a task that runs, and that these terminals have been through; others are still in it.
async fn add_task(store: &SqliteStore, number: u64, terminals: &[TerminalId]) -> Result<()> {
    let now = SystemClock.now();
    let definition = Definition::new(&format!("task {number}"), vec![Action::new(Work::Restart)]);
    let id = (now << 24) + number;
    let task = Task {
        id,
        branch: BranchPath::head_office(),
        state: TaskState::Running,
        author: "load".to_owned(),
        approved_by: None,
        created: now,
        started: Some(now),
        ended: None,
        salt: number,
        stage: 0,
        stages: vec![StageRun::default(); definition.stages.len()],
        withdrawal: None,
        replaced: 0,
        superseded_by: None,
        joined: 0,
        definition,
    };
    let new = |document: Document| Change::Put(Expect::Absent, document.into());
    store.commit(vec![new(Document::of(&task)?)]).await?;
    let action = ActionId(1 + number);
    for terminals in terminals.chunks(2_048) {
        let mut changes = Vec::new();
        for terminal in terminals {
            let mut done = Assignment::new(*terminal, action, Order::Restart, now, "load");
            done.step = Some(Step {
                task: id,
                place: 0,
                floor: None,
            });
            done.standing.state = State::Succeeded;
            done.stage = Stage::RunningConfirmed;
            done.closed = true;
            changes.push(Change::Put(Expect::Absent, done.into()));
            changes.push(new(Document::of(&Member {
                task: id,
                terminal: *terminal,
                branch: BranchPath::head_office(),
                stage: 0,
                on_failure: OnFailure::default(),
                state: State::Succeeded,
                steps: vec![MemberStep {
                    action: Some(action),
                    state: State::Succeeded,
                }],
                offered: Some(now),
                moved: now,
                due: None,
                floor: false,
                retry: false,
                note: None,
                cell: 0,
                shares: Vec::new(),
            })?));
        }
        store.commit(changes).await?;
    }
    Ok(())
}

/// What a server on this database asks its store for when the first of these terminals calls a second time.
async fn asked(path: &Path, terminals: u64, callers: &[TerminalId]) -> Result<String> {
    let store = Arc::new(Counted {
        inner: SqliteStore::open(path, Default::default())?,
        asked: Mutex::default(),
    });
    let server = crate::server::on(store.clone(), Arc::new(MemoryBlobs::new()), terminals).await?;
    let mut client = Client::new(callers.first().context("nobody calls")?.0);
    for _ in 0..2 {
        store.take();
        let (near, far) = tokio::io::duplex(65_536);
        let incoming = Incoming {
            transport: Box::new(far),
            peer: PeerInfo::on_line("memory"),
            profile: LinkProfile::TCP,
        };
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.session(incoming).await }
        });
        client.open_over(near, &LinkProfile::TCP).await?.bye().await?;
        serving.await?;
    }
    let asked = store.take();
    server.stop(Duration::from_secs(1)).await;
    Ok(asked
        .into_iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect::<Vec<_>>()
        .join(", "))
}

/// So many check-ins, by terminals in turn; gives the server's CPU for each.
async fn check_ins(measured: &mut Measured, count: u64) -> Result<Duration> {
    let each = count.div_ceil(SESSIONS as u64);
    let before = measured.server.cpu()?;
    let mut tasks = Vec::new();
    for mut clients in measured.sessions.drain(..) {
        let address = measured.server.address.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..each {
                // whoever has waited longest
                let mut client = clients.remove(0);
                client.check_in(&address).await?;
                clients.push(client);
            }
            anyhow::Ok(clients)
        }));
    }
    for task in tasks {
        measured.sessions.push(task.await??);
    }
    let total = u32::try_from(each * SESSIONS as u64)?;
    Ok((measured.server.cpu()? - before) / total)
}

/// A store that counts what it is asked.
struct Counted {
    inner: SqliteStore,
    asked: Mutex<BTreeMap<String, u32>>,
}

impl Counted {
    fn count(&self, what: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(what.to_owned()).or_default() += 1;
    }

    fn take(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait::async_trait]
impl Store for Counted {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        self.count("read of the terminal with what is open");
        self.inner.check_in(caller).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        self.count("other read");
        self.inner.get(key).await
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        self.count("list");
        self.inner.list(query, limit).await
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        self.count("count");
        self.inner.tally(tally, limit).await
    }

    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError> {
        self.count("read of events");
        self.inner.events(after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.count(&format!("commit of {} records", changes.len()));
        self.inner.commit(changes).await
    }
}
