//! What reports and lists of terminals cost with many terminals, and what the roll-up costs beside the check-ins.
//!
//! `cargo bench -p tms-store-sqlite --bench report -- --help`

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tms_core::estate::report::Reports;
use tms_core::estate::{Actor, Estate};
use tms_core::store::{
    BranchPath, Caller, Change, Day, Dimension, Document, Event, Expect, RosterEntry, RosterFilter, Seen, Store,
    StoreError, Terminal, TerminalId, TerminalState,
};
use tms_core::testing::estate;
use tms_core::testing::sample;
use tms_core::testing::seed::Seed;
use tms_store_sqlite::{Options, SqliteStore};

const HELP: &str = "\
Reports and list pages on a roster in SQLite: 1,000 branches in three levels, 12 models of 4 vendors, 30 versions, 5,000
merchants; most terminals were seen in the last days, some long ago, some never. Then check-ins, and their roll-up.

  --terminals <n>  terminals in the roster [1000000]
  --rounds <n>     how often each report and each page is made [5]
  --check-ins <n>  check-ins that are rolled up [20000]
  --only <text>    only reports and pages whose names hold it
  --dir <path>     where the database is made; one that is there is used again [a new temporary directory]
";

/// Terminals that have records of their own, not only a line in the roster: those that check in.
const WHOLE: u64 = 100_000;

const TODAY: Day = (sample::NOW / 86_400) as Day;

struct Arguments {
    terminals: u64,
    rounds: u32,
    check_ins: u64,
    only: String,
    directory: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Some(arguments) = arguments()? else {
        print!("{HELP}");
        return Ok(());
    };
    let temporary;
    let directory = match &arguments.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)?;
            directory.as_path()
        }
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let path = directory.join("report.sqlite");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&path, &arguments))
}

fn arguments() -> Result<Option<Arguments>> {
    let mut found = Arguments {
        terminals: 1_000_000,
        rounds: 5,
        check_ins: 20_000,
        only: String::new(),
        directory: None,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(name) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{name} needs a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--terminals" => found.terminals = value()?.parse()?,
            "--rounds" => found.rounds = value()?.parse()?,
            "--check-ins" => found.check_ins = value()?.parse()?,
            "--only" => found.only = value()?,
            "--dir" => found.directory = Some(value()?.into()),
            // cargo adds it
            "--bench" => {}
            other => bail!("{other} is not known; try --help"),
        }
    }
    if found.terminals == 0 || found.rounds == 0 {
        bail!("nothing to measure");
    }
    Ok(Some(found))
}

/// Ten regions, of eleven branches each, of nine below each: 1,100 with those between, and head office.
fn branch(seed: &mut Seed) -> BranchPath {
    let (region, branch, below) = (seed.below(10), seed.below(11), seed.below(9));
    let path = match seed.below(100) {
        0 => "/".to_owned(),
        1 => format!("/r{region}"),
        2..5 => format!("/r{region}/b{branch:02}"),
        _ => format!("/r{region}/b{branch:02}/o{below}"),
    };
    path.parse().unwrap_or_else(|_| BranchPath::head_office())
}

/// A number below `bound`, the low ones far oftener.
fn skewed(seed: &mut Seed, bound: u64) -> u64 {
    let wide = seed.below(bound) + 1;
    seed.below(wide)
}

fn entry(seed: &mut Seed) -> RosterEntry {
    let id = seed.next();
    let model = skewed(seed, 12);
    let state = match seed.below(100) {
        0..3 => TerminalState::Enrolled,
        3..5 => TerminalState::Deactivated,
        5 => TerminalState::Blacklisted,
        _ => TerminalState::Active,
    };
    let seen = match (state, seed.below(100)) {
        (TerminalState::Enrolled, _) => None,
        (_, 0..70) => Some(TODAY),
        (_, 70..90) => Some(TODAY - skewed(seed, 30) as Day),
        _ => Some(TODAY - skewed(seed, 700) as Day),
    };
    RosterEntry {
        terminal: TerminalId(id),
        branch: branch(seed),
        vendor: ["PAX", "Verifone", "Nexgo", "Ingenico"][model as usize % 4].to_owned(),
        model: format!("M{model:02}"),
        serial: format!("{:010}", id % 10_000_000_000),
        merchant: Some(format!("{:015}", 100_000_000_000_000 + skewed(seed, 5_000))),
        version: (state != TerminalState::Enrolled).then(|| format!("3.{}", skewed(seed, 30))),
        state,
        seen,
    }
}

async fn load(path: &Path, arguments: &Arguments) -> Result<SqliteStore> {
    let store = SqliteStore::open(path, Options::default())?;
    let mut seed = Seed::new(1);
    let mut entries: Vec<_> = (0..arguments.terminals).map(|_| entry(&mut seed)).collect();
    let last = Caller::Id(entries[0].terminal);
    entries.sort_by_key(|entry| entry.terminal);
    if store.check_in(&last).await?.is_some() {
        return Ok(store);
    }
    let start = now(ClockId::Monotonic);
    let first = last;
    for entries in entries.chunks(5_000) {
        let changes = entries
            .iter()
            .map(|entry| Change::Put(Expect::Absent, entry.clone().into()));
        store.commit(changes.collect()).await?;
    }
    // those that check in, by the seed that made them, and the expiry that the roll-up would have found
    let mut seed = Seed::new(1);
    let some: Vec<_> = (0..arguments.terminals.min(WHOLE)).map(|_| entry(&mut seed)).collect();
    for entries in some.rchunks(5_000) {
        let mut changes = Vec::new();
        for entry in entries {
            let mut terminal = sample::terminal(entry.terminal.0);
            terminal.holder.vendor.clone_from(&entry.vendor);
            terminal.holder.model.clone_from(&entry.model);
            terminal.state = TerminalState::Active;
            changes.push(Change::Put(Expect::Absent, terminal.into()));
            let expiry = tms_core::estate::Expiry {
                terminal: entry.terminal,
                branch: entry.branch.clone(),
                last: TODAY + entry.terminal.0 as Day % 3_650,
                what: tms_core::estate::Expiring::Certificate,
            };
            changes.push(Change::Put(Expect::Absent, Document::of(&expiry)?.into()));
        }
        store.commit(changes).await?;
    }
    // a year of days for head office, a region, a branch
    let mut changes = Vec::new();
    for branch in ["/", "/r3", "/r3/b03"] {
        for day in TODAY - 399..=TODAY {
            let mut daily = tms_core::estate::Daily::of(branch.parse()?, day);
            daily.check_ins = 1_000;
            for stage in 0..8 {
                let codes = (0..20).map(|code| (format!("CODE_{code}"), 3)).collect();
                daily.results.insert(format!("stage-{stage}"), codes);
            }
            changes.push(Change::Put(Expect::Absent, Document::of(&daily)?.into()));
        }
    }
    store.commit(changes).await?;
    anyhow::ensure!(store.check_in(&first).await?.is_some(), "not loaded");
    println!("loaded in {:.0} s", (now(ClockId::Monotonic) - start).as_secs_f64());
    Ok(store)
}

/// What reports and pages took.
struct Table {
    only: String,
    rounds: u32,
    worst: Duration,
}

impl Table {
    async fn add<T, F: Future<Output = Result<T, tms_core::estate::EstateError>>>(
        &mut self,
        name: &str,
        mut make: impl FnMut() -> F,
    ) -> Result<Option<T>> {
        if !name.contains(&self.only) {
            return Ok(None);
        }
        let mut took = Vec::new();
        let mut made = None;
        for _ in 0..self.rounds {
            let start = now(ClockId::Monotonic);
            made = Some(make().await?);
            took.push(now(ClockId::Monotonic) - start);
        }
        took.sort();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        self.worst = self.worst.max(worst);
        println!(
            "  {name:<44}{:>10.1}{:>10.1}",
            median.as_secs_f64() * 1e3,
            worst.as_secs_f64() * 1e3
        );
        Ok(made)
    }
}

async fn run(path: &Path, arguments: &Arguments) -> Result<()> {
    let store = Arc::new(load(path, arguments).await?);
    let (estate, _) = estate::estate(store.clone(), 1);
    println!(
        "{} terminals, {} MB, {} rounds\n",
        arguments.terminals,
        path.metadata()?.len() / 1_000_000,
        arguments.rounds
    );
    let actor = Actor::trusted("bench");
    let made = estate.reports(&actor);
    let worst = reports(&made, arguments).await?;
    println!("worst: {:.2} s (bar: 2)\n", worst.as_secs_f64());
    let worst = pages(&made, arguments).await?;
    println!("worst: {:.1} ms (bar: 50)\n", worst.as_secs_f64() * 1e3);
    if arguments.check_ins > 0 {
        roll_up(&store, &estate, arguments).await?;
    }
    Ok(())
}

async fn reports(estate: &Reports<'_>, arguments: &Arguments) -> Result<Duration> {
    println!("  {:<44}{:>10}{:>10}", "report", "median ms", "worst ms");
    let mut table = Table {
        only: arguments.only.clone(),
        rounds: arguments.rounds,
        worst: Duration::ZERO,
    };
    let head: BranchPath = "/".parse()?;
    let all = RosterFilter::under(head.clone());
    let region = RosterFilter::under("/r3".parse()?);
    for (name, by) in [
        ("standing, all together", vec![]),
        ("standing by branch", vec![Dimension::Branch]),
        ("standing by vendor", vec![Dimension::Vendor]),
        (
            "standing by vendor and model",
            vec![Dimension::Vendor, Dimension::Model],
        ),
        ("standing by version", vec![Dimension::Version]),
        ("standing by merchant", vec![Dimension::Merchant]),
        ("standing by state", vec![Dimension::State]),
        (
            "standing by branch and model",
            vec![Dimension::Branch, Dimension::Model],
        ),
    ] {
        table.add(name, || estate.standing(&all, &by, 30)).await?;
        table
            .add(&format!("{name}, one region"), || estate.standing(&region, &by, 30))
            .await?;
    }
    let model = RosterFilter {
        vendor: Some("PAX".to_owned()),
        model: Some("M00".to_owned()),
        ..all.clone()
    };
    table
        .add("standing by version, one model", || {
            estate.standing(&model, &[Dimension::Version], 30)
        })
        .await?;
    let merchant = RosterFilter {
        merchant: Some(format!("{:015}", 100_000_000_000_003_u64)),
        ..all.clone()
    };
    table
        .add("standing of one merchant", || estate.standing(&merchant, &[], 30))
        .await?;
    table.add("versions", || estate.versions(&all)).await?;
    table.add("versions, one region", || estate.versions(&region)).await?;
    table
        .add("alive since a month", || estate.alive(&head, TODAY - 30))
        .await?;
    for seen in [Seen::Since(TODAY - 30), Seen::Before(TODAY - 30), Seen::Never] {
        let filter = RosterFilter {
            seen: Some(seen),
            ..all.clone()
        };
        table
            .add(&format!("count of {seen:?}"), || estate.count(&filter))
            .await?;
    }
    let serial = RosterFilter {
        serial: Some("12".to_owned()),
        ..all.clone()
    };
    table
        .add("count of serial numbers 12…", || estate.count(&serial))
        .await?;
    table.add("check-ins, 30 days", || estate.check_ins(&head, 30)).await?;
    table
        .add("check-ins, 400 days", || estate.check_ins(&head, 400))
        .await?;
    table.add("failures, 30 days", || estate.failures(&head, 30)).await?;
    table.add("failures, 400 days", || estate.failures(&head, 400)).await?;
    Ok(table.worst)
}

async fn pages(estate: &Reports<'_>, arguments: &Arguments) -> Result<Duration> {
    println!("  {:<44}{:>10}{:>10}", "page of 100", "median ms", "worst ms");
    let mut table = Table {
        only: arguments.only.clone(),
        rounds: arguments.rounds,
        worst: Duration::ZERO,
    };
    let all = RosterFilter::under("/".parse()?);
    let some = |text: &str| Some(text.to_owned());
    let (branch, region): (BranchPath, BranchPath) = ("/r3/b03/o3".parse()?, "/r3".parse()?);
    let merchant = some("100000000000003");
    let rare = some("100000000004999");
    let silent = Some(Seen::Before(TODAY - 30));
    let long = Some(Seen::Before(TODAY - 695));
    let filters: Vec<(&str, RosterFilter)> = vec![
        ("all", all.clone()),
        ("region", RosterFilter::under(region.clone())),
        ("branch", RosterFilter::under(branch.clone())),
        (
            "vendor",
            RosterFilter {
                vendor: some("PAX"),
                ..all.clone()
            },
        ),
        (
            "vendor that has none",
            RosterFilter {
                vendor: some("Nobody"),
                ..all.clone()
            },
        ),
        (
            "model",
            RosterFilter {
                model: some("M11"),
                ..all.clone()
            },
        ),
        (
            "model that has none",
            RosterFilter {
                model: some("M99"),
                ..all.clone()
            },
        ),
        (
            "vendor and model",
            RosterFilter {
                vendor: some("Ingenico"),
                model: some("M11"),
                ..all.clone()
            },
        ),
        (
            "serial number begins",
            RosterFilter {
                serial: some("123"),
                ..all.clone()
            },
        ),
        (
            "serial number begins with one digit",
            RosterFilter {
                serial: some("1"),
                ..all.clone()
            },
        ),
        (
            "serial number, whole",
            RosterFilter {
                serial: some("1234567890"),
                ..all.clone()
            },
        ),
        (
            "merchant",
            RosterFilter {
                merchant: merchant.clone(),
                ..all.clone()
            },
        ),
        (
            "merchant with few",
            RosterFilter {
                merchant: rare,
                ..all.clone()
            },
        ),
        (
            "version",
            RosterFilter {
                version: some("3.2"),
                ..all.clone()
            },
        ),
        (
            "version with few",
            RosterFilter {
                version: some("3.29"),
                ..all.clone()
            },
        ),
        (
            "version that has none",
            RosterFilter {
                version: some("9.9"),
                ..all.clone()
            },
        ),
        (
            "state",
            RosterFilter {
                state: Some(TerminalState::Active),
                ..all.clone()
            },
        ),
        (
            "state with few",
            RosterFilter {
                state: Some(TerminalState::Blacklisted),
                ..all.clone()
            },
        ),
        (
            "alive",
            RosterFilter {
                seen: Some(Seen::Since(TODAY)),
                ..all.clone()
            },
        ),
        (
            "silent",
            RosterFilter {
                seen: silent,
                ..all.clone()
            },
        ),
        (
            "silent for very long",
            RosterFilter {
                seen: long,
                ..all.clone()
            },
        ),
        (
            "silent since ever: none",
            RosterFilter {
                seen: Some(Seen::Before(9)),
                ..all.clone()
            },
        ),
        (
            "never",
            RosterFilter {
                seen: Some(Seen::Never),
                ..all.clone()
            },
        ),
        (
            "never, a region",
            RosterFilter {
                seen: Some(Seen::Never),
                ..RosterFilter::under(region.clone())
            },
        ),
        (
            "silent, a branch",
            RosterFilter {
                seen: silent,
                ..RosterFilter::under(branch.clone())
            },
        ),
        (
            "silent, a rare model",
            RosterFilter {
                seen: silent,
                vendor: some("Ingenico"),
                model: some("M11"),
                ..all.clone()
            },
        ),
        (
            "silent, a version with few",
            RosterFilter {
                seen: silent,
                version: some("3.29"),
                ..all.clone()
            },
        ),
        (
            "silent, a version that has none",
            RosterFilter {
                seen: silent,
                version: some("9.9"),
                ..all.clone()
            },
        ),
        (
            "silent, a merchant",
            RosterFilter {
                seen: silent,
                merchant: merchant.clone(),
                ..all.clone()
            },
        ),
        (
            "silent, a serial number",
            RosterFilter {
                seen: silent,
                serial: some("1234"),
                ..all.clone()
            },
        ),
        (
            "alive, a serial number",
            RosterFilter {
                seen: Some(Seen::Since(TODAY)),
                serial: some("1234"),
                ..all.clone()
            },
        ),
        (
            "alive, a model that has none",
            RosterFilter {
                seen: Some(Seen::Since(TODAY)),
                model: some("M99"),
                ..all.clone()
            },
        ),
        (
            "never, blacklisted: none",
            RosterFilter {
                seen: Some(Seen::Never),
                state: Some(TerminalState::Blacklisted),
                ..all.clone()
            },
        ),
        (
            "model and state",
            RosterFilter {
                vendor: some("PAX"),
                model: some("M00"),
                state: Some(TerminalState::Blacklisted),
                ..all.clone()
            },
        ),
        (
            "version and state: none",
            RosterFilter {
                version: some("3.2"),
                state: Some(TerminalState::Enrolled),
                ..all.clone()
            },
        ),
        (
            "model and version",
            RosterFilter {
                vendor: some("PAX"),
                model: some("M08"),
                version: some("3.28"),
                ..all.clone()
            },
        ),
        (
            "state and vendor that has none",
            RosterFilter {
                state: Some(TerminalState::Active),
                vendor: some("Nobody"),
                ..all.clone()
            },
        ),
        (
            "branch and model",
            RosterFilter {
                vendor: some("PAX"),
                model: some("M08"),
                ..RosterFilter::under(branch.clone())
            },
        ),
        (
            "region and serial number",
            RosterFilter {
                serial: some("12345"),
                ..RosterFilter::under(region.clone())
            },
        ),
    ];
    for (name, filter) in &filters {
        let first = table.add(name, || estate.terminals(filter, None, 100)).await?;
        // deep: where half of the list, or 20,000 terminals, are behind
        let Some(mut next) = first.and_then(|page| page.next) else {
            continue;
        };
        for _ in 0..4 {
            match estate.terminals(filter, Some(&next), 5_000).await?.next {
                Some(after) => next = after,
                None => break,
            }
        }
        table
            .add(&format!("{name}, deep"), || estate.terminals(filter, Some(&next), 100))
            .await?;
    }
    for (name, under) in [
        ("expiring within 90 days", BranchPath::head_office()),
        ("expiring, a branch", branch),
    ] {
        let first = table.add(name, || estate.expiring(&under, 90, None, 100)).await?;
        if let Some(next) = first.and_then(|page| page.next) {
            table
                .add(&format!("{name}, next"), || {
                    estate.expiring(&under, 90, Some(&next), 100)
                })
                .await?;
        }
    }
    Ok(table.worst)
}

/// Check-ins of distinct terminals, on a day of their own, and then their roll-up.
async fn roll_up(store: &Arc<SqliteStore>, estate: &Estate, arguments: &Arguments) -> Result<()> {
    while estate.roll_up(5_000).await?.events > 0 {}
    let mut seed = Seed::new(1);
    let some: Vec<_> = (0..arguments.terminals.min(WHOLE))
        .map(|_| entry(&mut seed).terminal)
        .collect();
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

/// A clock's time since its own beginning; the processor's counts all threads of this process.
fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
