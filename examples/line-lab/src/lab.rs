//! What happens in the laboratory.

use anyhow::{Context, Result, bail};
use comfy_table::{Cell, CellAlignment, Table, presets};
use futures_util::future::try_join_all;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tms_core::agent::{CallEnd, Progress};
use tms_core::clock::{Clock, SystemClock};
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::signer::PemSigner;
use tms_core::store::{BranchPath, Caller};
use tms_program::watch::Watch;
use tms_proto::code::{ResultCode, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::identity::Holder;
use tms_proto::message::Trigger;
use tms_server::run;
use tms_terminal::directory::{Directory, Proof};
use tms_terminal::errand::{self, Outcome, Step};
use tms_terminal::terminal::{Behaviour, Terminal};
use tms_tool::enrol::{Enrolled, NewTerminal, enrol};
use tms_tool::init::{NewEstate, create};
use tms_tool::office::Office;
use tms_tool::package::{Recipe, build_of};
use tms_transport_serial::LinkOptions;
use tms_transport_serial::at::Profile;
use tms_transport_serial::dial::{Dialler, Policy, Route, Setup};
use tms_transport_serial::modem::ModemLine;
use tms_transport_serial::pool::{Kind, Line as PoolLine, Pool};
use tms_transport_serial::port::Settings as Port;
use tms_transport_serial::testing::{Exchange, Line, Quirks, Settings, SimModem};
use tokio::time::{Instant, sleep};

/// The number of the server: it rings at a line that is free.
const NUMBER: &str = "5550000";

const VENDOR: &str = "Example";
const MODEL: &str = "P80";
const COMPONENT: &str = "cashier";
const VERSION: &str = "2.0";

/// RSA keys small enough that they are made quickly.
const BITS: usize = 2048;

/// How often a terminal calls before the laboratory gives it up.
const MAX_ERRANDS: usize = 200;

/// What is tried.
pub(crate) struct Plan {
    pub(crate) terminals: u16,
    pub(crate) lines: u16,
    pub(crate) line: Line,
    /// The first terminal loses its line when it has so many percent.
    pub(crate) hang_up: Option<u8>,
    pub(crate) size: usize,
    pub(crate) quick: bool,
    pub(crate) plain: bool,
}

/// What a terminal's calls came to.
#[derive(Default)]
struct Calls {
    made: u32,
    not_reached: u32,
    broken: u32,
    sent: u64,
    received: u64,
    /// Where its download went on after a hang-up.
    resumed: Option<u64>,
    time: Duration,
}

pub(crate) async fn run(dir: &Path, plan: &Plan) -> Result<()> {
    println!(
        "1  An estate, a signed package of {} bytes, {} terminals",
        plan.size, plan.terminals
    );
    let layout = create(
        dir,
        &NewEstate {
            organisation: "Line laboratory".into(),
            bits: BITS,
            from: SystemClock.now(),
        },
    )
    .await?;
    let office = Office::open(dir, "line-lab".into()).await?;
    let manifest = publish(&office, dir, plan.size).await?;
    let root = tms_tool::key::read_signer(&layout.root_key())?;
    let mut enrolled = Vec::new();
    for index in 0..plan.terminals {
        let terminal = member(&office, &root, index).await?;
        office
            .estate
            .queue(&office.actor, &Caller::Id(terminal.id), &manifest)
            .await?;
        enrolled.push(terminal);
    }

    let exchange = Exchange::new(Settings {
        line: plan.line,
        ..if plan.quick {
            Settings::quick()
        } else {
            Settings::default()
        }
    });
    let mut running = run::start(office.directory.server().await?, &[], 1).await?;
    // A modem that is dropped is gone from the exchange.
    let (pool, _modems) = pool(&exchange, plan)?;
    let lines = pool.handle();
    running.serve(pool);
    println!(
        "2  A server with {} lines at {NUMBER}: {} bit/s, {} ms each way, {} errors in a million bits",
        plan.lines,
        plan.line.bits_per_second,
        plan.line.latency.as_millis(),
        plan.line.noise.bits_per_million
    );

    println!("3  Everybody calls");
    let watch = Watch::new(plan.plain);
    let each = enrolled.iter().enumerate().map(|(index, terminal)| {
        let phone = exchange.modem(&format!("555{:04}", index + 1), Quirks::default());
        visit(
            plan,
            terminal,
            phone,
            (index == 0).then_some(()).and(plan.hang_up),
            &watch,
        )
    });
    let visits = try_join_all(each).await?;
    // The pool goes with the server.
    let lines = lines.lines();
    if !running.stop(Duration::from_secs(30)).await {
        bail!("calls had to be broken off");
    }

    println!("4  What the store says now");
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "terminal",
        "stage",
        "calls",
        "engaged",
        "cut",
        "went on at",
        "bytes both ways",
        "minutes",
    ]);
    let mut wrong = Vec::new();
    for (terminal, calls) in enrolled.iter().zip(&visits) {
        let assignments = office.assignments(terminal.id).await?;
        let assignment = assignments.first().context("the store has lost what was queued")?;
        let confirmed = assignment.stage == Stage::RunningConfirmed && assignment.code == ResultCode::Success;
        if !confirmed {
            wrong.push(terminal.holder.serial.clone());
        }
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&terminal.holder.serial),
            Cell::new(format!("{} {}", assignment.stage, assignment.code)),
            right(calls.made.to_string()),
            right(calls.not_reached.to_string()),
            right(calls.broken.to_string()),
            right(
                calls
                    .resumed
                    .map_or_else(String::new, |from| format!("{from} of {}", plan.size)),
            ),
            right((calls.sent + calls.received).to_string()),
            right(format!("{:.1}", calls.time.as_secs_f64() / 60.0)),
        ]);
    }
    println!("{table}");
    for line in lines {
        let counters = line.status.counters;
        println!(
            "{}: {} calls answered, {} not connected, {} silent",
            line.name, counters.answered, counters.failed_in, line.silent
        );
    }
    if !wrong.is_empty() {
        bail!("not updated: {}", wrong.join(", "));
    }
    Ok(())
}

/// The server's end: modems at one number.
fn pool(exchange: &Exchange, plan: &Plan) -> Result<(Pool, Vec<SimModem>)> {
    let pool = Pool::new(usize::from(plan.lines));
    let numbers: Vec<String> = (1..=plan.lines).map(|index| format!("{NUMBER}{index}")).collect();
    let mut modems = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        let modem = exchange.modem(number, Quirks::default());
        pool.handle().add(PoolLine {
            name: format!("line {}", index + 1),
            kind: Kind::Modem,
            open: modem.opener(),
            settings: Port::default(),
            profile: Profile::default(),
            called: NUMBER.parse().ok(),
            link: LinkOptions::default(),
        })?;
        modems.push(modem);
    }
    exchange.set_group(NUMBER, numbers);
    Ok((pool, modems))
}

/// A terminal calls until it has nothing more to do.
async fn visit(plan: &Plan, enrolled: &Enrolled, phone: SimModem, hang_up: Option<u8>, watch: &Watch) -> Result<Calls> {
    let begin = Instant::now();
    let serial = &enrolled.holder.serial;
    let mut terminal = Terminal::switch_on(Directory::open(&enrolled.directory)?, Behaviour::default()).await?;
    let setup = Setup {
        line: ModemLine::start(format!("terminal {serial}"), phone.opener(), Profile::default()),
        settings: Port::default(),
        link: LinkOptions::default(),
        prefix: None,
        // Nobody watches for the hours that a real exchange would want.
        policy: Policy {
            spacing: 2,
            jitter: 4,
            tries: 100,
            ..Policy::default()
        },
        memory: terminal.flash(),
        clock: terminal.clock(),
        entropy: Arc::new(OsEntropy),
    };
    let mut dialler = Dialler::new(setup, vec![Route::Telephone(NUMBER.parse()?)])?;
    let mut calls = Calls::default();
    let mut bar = watch.bar(serial);
    let mut trigger = TriggerKind::PowerOn;
    // The hang-up happens once.
    let mut cut_at = hang_up.map(|percent| plan.size as u64 * u64::from(percent) / 100);
    for _ in 0..MAX_ERRANDS {
        let mut steps = |step: Step<'_>| match step {
            Step::Called(report) => {
                calls.made += 1;
                calls.broken += u32::from(!report.recorded || matches!(report.end, CallEnd::Broken(_)));
                calls.sent += report.sent;
                calls.received += report.received;
                let on = report.downloads.iter().find(|download| download.from > 0);
                if let Some(download) = on {
                    calls.resumed.get_or_insert(download.from);
                    watch.say(&format!(
                        "   {serial}: goes on at byte {} of {}",
                        download.from, download.size
                    ));
                }
                if !matches!(report.end, CallEnd::Done) {
                    watch.say(&format!("   {serial}: {}", report.end));
                }
            }
            Step::NotReached(error) => {
                calls.not_reached += 1;
                watch.say(&format!("   {serial}: {error}"));
            }
            Step::Worked(work) => {
                for result in &work.results {
                    watch.say(&format!("   {serial}: {} {}", result.stage, result.code));
                }
            }
        };
        let mut progress = |progress: Progress<'_>| {
            bar.show(progress);
            if progress.component == COMPONENT && cut_at.is_some_and(|at| progress.held >= at) {
                cut_at = None;
                watch.say(&format!("   {serial}: the line is cut at byte {}", progress.held));
                phone.cut();
            }
        };
        let why = Some(Trigger::of(trigger));
        let outcome = errand::run(&mut terminal, &mut dialler, why, &mut steps, &mut progress).await?;
        trigger = TriggerKind::Retry;
        match outcome {
            Outcome::Done => break,
            Outcome::Refused => bail!("terminal {serial} was refused"),
            // By then the number may be called again.
            Outcome::Failed => sleep(Duration::from_secs(7)).await,
        }
    }
    calls.time = begin.elapsed();
    Ok(calls)
}

/// Publishes an update of random bytes, and gives its name.
async fn publish(office: &Office, dir: &Path, size: usize) -> Result<Digest> {
    let vendor = tms_tool::key::read_signer(&office.directory.layout.vendor_key())?;
    let mut bytes = vec![0; size];
    OsEntropy.fill(&mut bytes);
    let package = dir.join("update.tmspkg");
    let recipe = Recipe {
        component: Some(COMPONENT.into()),
        version: Some(VERSION.into()),
        counter: Some(1),
        vendor: Some(VENDOR.into()),
        models: vec![MODEL.into()],
        ..Recipe::default()
    };
    build_of(&bytes, recipe, &vendor, &package).await?;
    Ok(office.publish(&package).await?.package.manifest)
}

async fn member(office: &Office, root: &PemSigner, index: u16) -> Result<Enrolled> {
    let new = NewTerminal {
        holder: Holder {
            vendor: VENDOR.into(),
            model: MODEL.into(),
            serial: format!("{:08}", u32::from(index) + 1),
        },
        directory: None,
        proof: Proof::Rsa,
        key: None,
        bits: BITS,
        days: 3650,
        server: None,
        preload: Vec::new(),
        branch: BranchPath::head_office(),
    };
    enrol(office, root, new).await
}
