//! What reports and lists cost with many terminals, and what the roll-up costs beside the check-ins.
//!
//! `cargo bench -p tms-store-sqlite --bench report -- --help`

#[path = "../machine.rs"]
mod machine;
mod page;
mod roll_up;
mod roster;
mod summary;
mod work;

use anyhow::{Result, ensure};
use clap::Parser;
use machine::{Place, now};
use rustix::time::ClockId;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tms_core::estate::{Actor, EstateError};
use tms_core::store::{Caller, Day, Store};
use tms_core::testing::{estate, sample};
use tms_store_sqlite::{Options, SqliteStore};

/// Reports and list pages of an estate in SQLite: 1,000 branches in three levels, 12 models of 4 vendors, 30 versions, 5,000
/// merchants; most terminals were seen in the last days, some long ago, some never.
///
/// All of them are in one task and have one text; something of each ends one day; one in ten differs from what it shall have; one in
/// ten is or was a case; operators have done a tenth as many things as there are terminals. Then check-ins, and their roll-up.
#[derive(Parser)]
#[command(name = "report")]
struct Arguments {
    /// Terminals in the roster
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    terminals: u64,
    /// How often each report and each page is made
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Check-ins that are rolled up
    #[arg(long, default_value_t = 20_000)]
    check_ins: u64,
    /// Only reports and pages whose names hold this
    #[arg(long, default_value = "")]
    only: String,
    #[command(flatten)]
    place: Place,
}

const TODAY: Day = (sample::NOW / 86_400) as Day;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = arguments.place.open()?;
    let path = directory.path().join("report.sqlite");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&path, &arguments))
}

async fn run(path: &Path, arguments: &Arguments) -> Result<()> {
    load(path, arguments).await?;
    let store = Arc::new(SqliteStore::open(path, Options::default())?);
    let (estate, _) = estate::estate(store.clone(), 1);
    println!(
        "{} terminals, {} MB, {} rounds\n",
        arguments.terminals,
        path.metadata()?.len() / 1_000_000,
        arguments.rounds
    );
    let actor = Actor::trusted("bench");
    let mut reports = Table::new("report", arguments);
    summary::roster(&estate.reports(&actor), &mut reports).await?;
    summary::work(&estate, &actor, &mut reports).await?;
    println!("worst: {:.2} s (bar: 2)\n", reports.worst.as_secs_f64());
    let mut pages = Table::new("page of 100", arguments);
    page::roster(&estate.reports(&actor), &mut pages).await?;
    page::work(&estate, &actor, &mut pages).await?;
    println!("worst: {:.1} ms (bar: 50)\n", pages.worst.as_secs_f64() * 1e3);
    if arguments.check_ins > 0 {
        roll_up::run(&store, &estate, arguments).await?;
    }
    Ok(())
}

/// Fills the database, where it is not there yet.
async fn load(path: &Path, arguments: &Arguments) -> Result<()> {
    let options = Options {
        cache_kib: 1024 * 1024,
        ..Options::default()
    };
    let store = Arc::new(SqliteStore::open(path, options)?);
    let whole = roster::terminals(arguments.terminals);
    let first = Caller::Id(whole[0]);
    if store.check_in(&first).await?.is_none() {
        let start = now(ClockId::Monotonic);
        let entries = roster::all(arguments.terminals);
        work::load(&store, &entries).await?;
        // last, so that what is there is whole
        roster::load(&store, &entries).await?;
        ensure!(store.check_in(&first).await?.is_some(), "not loaded");
        println!("loaded in {:.0} s", (now(ClockId::Monotonic) - start).as_secs_f64());
    }
    let (estate, _) = estate::estate(store, 1);
    work::take_stock(&estate, &Actor::trusted("bench"), arguments.terminals).await
}

/// What reports and pages took.
struct Table {
    only: String,
    rounds: u32,
    worst: Duration,
}

impl Table {
    fn new(what: &str, arguments: &Arguments) -> Self {
        println!("  {what:<56}{:>10}{:>10}", "median ms", "worst ms");
        Self {
            only: arguments.only.clone(),
            rounds: arguments.rounds,
            worst: Duration::ZERO,
        }
    }

    /// Makes it some times, where its name is wanted; the first time, which finds nothing in memory, is not counted.
    async fn add<T, F: Future<Output = Result<T, EstateError>>>(
        &mut self,
        name: &str,
        mut make: impl FnMut() -> F,
    ) -> Result<Option<T>> {
        if !name.contains(&self.only) {
            return Ok(None);
        }
        let mut took = Vec::new();
        let mut made = Some(make().await?);
        for _ in 0..self.rounds {
            let start = now(ClockId::Monotonic);
            made = Some(make().await?);
            took.push(now(ClockId::Monotonic) - start);
        }
        took.sort();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        self.worst = self.worst.max(worst);
        println!(
            "  {name:<56}{:>10.1}{:>10.1}",
            median.as_secs_f64() * 1e3,
            worst.as_secs_f64() * 1e3
        );
        Ok(made)
    }
}
