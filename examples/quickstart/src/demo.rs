//! What is shown.

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tms_core::agent::{CallEnd, CallReport, Progress};
use tms_core::clock::{Clock, SystemClock};
use tms_core::signer::PemSigner;
use tms_core::store::{Assignment, BranchPath, Caller, InventoryRecord, Package, Terminal as Known};
use tms_core::transport::Framing;
use tms_core::transport::tcp::TcpDial;
use tms_program::sample::program;
use tms_program::watch::Watch;
use tms_proto::code::TriggerKind;
use tms_proto::digest::Digest;
use tms_proto::identity::Holder;
use tms_proto::message::Trigger;
use tms_server::config::Listen;
use tms_server::run::{self, Running};
use tms_terminal::directory::{Directory, Proof};
use tms_terminal::errand::{self, Outcome, Step};
use tms_terminal::line::{Trouble, Troubled};
use tms_terminal::terminal::{Behaviour, Terminal};
use tms_tool::enrol::{Enrolled, NewTerminal, enrol};
use tms_tool::init::{NewEstate, create};
use tms_tool::office::Office;
use tms_tool::package::{Recipe, build_of};

/// The size of the keys: small enough that a build without optimisation makes ten of them in seconds.
const BITS: usize = 2048;

/// The component that is updated.
pub(crate) const COMPONENT: &str = "cashier";

/// The version that is published, and one that is left for whoever goes on by hand.
pub(crate) const NEW: &str = "2.0.0";
pub(crate) const NEWER: &str = "2.1.0";

/// The size of a program, in bytes: some megabytes, and no round number.
const SIZE: usize = 4 * 1024 * 1024 + 77_431;

/// After how many bytes from the server the line is cut: about half of the program.
const CUT: u64 = 2_200_000;

/// What a line carries where progress can be watched, in bits per second: some two seconds for the program.
const RATE: u32 = 20_000_000;

/// A terminal of the demonstration.
struct Cast {
    model: &'static str,
    serial: &'static str,
    proof: Proof,
    /// The version that it comes with.
    version: Option<&'static str>,
    /// Its first download is cut.
    cut: bool,
}

const CAST: [Cast; 6] = [
    Cast {
        model: "P80",
        serial: "10000001",
        proof: Proof::Rsa,
        version: Some("1.0.0"),
        cut: false,
    },
    Cast {
        model: "P80",
        serial: "10000002",
        proof: Proof::Rsa,
        version: Some("1.4.2"),
        cut: true,
    },
    Cast {
        model: "P80",
        serial: "10000003",
        proof: Proof::MainKey,
        version: Some("1.4.2"),
        cut: false,
    },
    Cast {
        model: "P80",
        serial: "10000004",
        proof: Proof::Rsa,
        version: None,
        cut: false,
    },
    Cast {
        model: "P80",
        serial: "10000005",
        proof: Proof::Rsa,
        version: Some(NEW),
        cut: false,
    },
    Cast {
        model: "K301",
        serial: "20000001",
        proof: Proof::Rsa,
        version: Some("1.0.0"),
        cut: false,
    },
];

/// The vendor of them all.
const VENDOR: &str = "Example";

/// What became of it all.
pub(crate) struct Fleet {
    /// The package that was published, as the store has it.
    pub(crate) package: Package,
    /// The terminals.
    pub(crate) members: Vec<Member>,
    /// How many events the store has.
    pub(crate) events: u64,
}

/// What became of one terminal: what the store knows, beside what the terminal knows.
pub(crate) struct Member {
    /// Its serial number.
    pub(crate) serial: String,
    /// Its record.
    pub(crate) known: Known,
    /// The inventory that it reported.
    pub(crate) inventory: Option<InventoryRecord>,
    /// What was queued for it.
    pub(crate) assignments: Vec<Assignment>,
    /// What it ran before, as it reported it.
    pub(crate) before: Option<String>,
    /// Whether something was to be queued for it.
    pub(crate) expected: bool,
    /// Whether its call was to be cut.
    pub(crate) cut: bool,
    /// The byte at which its download was cut, and the one at which it went on.
    pub(crate) resumed: Option<(u64, u64)>,
    /// Payload bytes of its calls, both ways.
    pub(crate) bytes: u64,
    /// Digest of the program in its memory, read there.
    pub(crate) runs: Option<Digest>,
}

/// Shows it all, in a new estate in `dir`.
pub(crate) async fn run(dir: &Path, plain: bool) -> Result<Fleet> {
    println!("1  An estate in {}: keys, certificate, database", dir.display());
    println!("   RSA keys of {BITS} bits, so that this is quick; tms init makes 3072 by default");
    let layout = create(
        dir,
        &NewEstate {
            organisation: "Quickstart".into(),
            bits: BITS,
            from: SystemClock.now(),
        },
    )
    .await?;
    let office = Office::open(dir, "quickstart".into()).await?;

    println!("2  Packages, signed by the vendor's key");
    let vendor = tms_tool::key::read_signer(&layout.vendor_key())?;
    let packages = dir.join("packages");
    fs::create_dir(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    for version in ["1.0.0", "1.4.2", NEW, NEWER] {
        pack(&packages, "P80", version, &vendor).await?;
    }
    pack(&packages, "K301", "1.0.0", &vendor).await?;
    let package = office.publish(&packages.join(file_name("P80", NEW))).await?;
    office.publish(&packages.join(file_name("P80", NEWER))).await?;
    println!(
        "   published {COMPONENT} {NEW}, {} bytes, for {VENDOR} P80",
        package.package.size
    );

    println!("3  {} terminals, with what their makers have put in", CAST.len());
    let root = tms_tool::key::read_signer(&layout.root_key())?;
    let mut enrolled = Vec::new();
    // Two at a time: each key takes a processor.
    for pair in CAST.chunks(2) {
        let one = member(&office, &root, &packages, pair.first().context("a chunk has one")?);
        match pair.get(1) {
            Some(other) => {
                let (one, other) = tokio::try_join!(one, member(&office, &root, &packages, other))?;
                enrolled.extend([one, other]);
            }
            None => enrolled.push(one.await?),
        }
    }

    let listen = Listen {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        envelope: Framing::Tcp,
        gateways: Vec::new(),
    };
    let server = run::start(office.directory.server().await?, &[listen], 1000).await?;
    let address = server.addresses().first().context("the server listens somewhere")?.0;
    println!("4  A server on {address}. Every terminal calls for the first time and reports what it runs");
    for (cast, terminal) in CAST.iter().zip(&enrolled) {
        let call = Calling {
            address,
            rate: None,
            cut: None,
        };
        let (outcome, _) = call
            .errand(terminal, TriggerKind::PowerOn, &Watch::new(true), cast)
            .await?;
        if outcome != Outcome::Done {
            bail!("terminal {} could not check in", cast.serial);
        }
    }

    println!("5  {COMPONENT} {NEW} is queued for those that it fits and that run something older");
    let mut before = Vec::new();
    let mut expected = Vec::new();
    for terminal in &enrolled {
        let inventory = office.inventory(terminal.id).await?;
        let running = inventory.as_ref().and_then(|known| {
            let component = known
                .inventory
                .components
                .iter()
                .find(|component| component.id == COMPONENT)?;
            Some((component.version.clone(), component.digest))
        });
        let current = running
            .as_ref()
            .is_some_and(|(_, digest)| *digest == Some(package.package.content));
        let fits = package.models.contains(&terminal.holder.model);
        if fits && !current {
            office
                .estate
                .queue(&office.actor, &Caller::Id(terminal.id), &package.package.manifest)
                .await?;
        } else {
            let why = if fits { "is up to date" } else { "is of another model" };
            println!("   nothing for {}: it {why}", terminal.holder);
        }
        before.push(running.map(|(version, _)| version));
        expected.push(fits && !current);
    }

    println!("6  They call again, at the same time; the line of one is cut in the middle");
    let watch = Watch::new(plain);
    let rate = (!plain).then_some(RATE);
    let each = CAST.iter().zip(&enrolled).map(|(cast, terminal)| {
        let call = Calling {
            address,
            rate,
            cut: cast.cut.then_some(CUT),
        };
        visit(call, cast, terminal, &watch)
    });
    let visits = try_join_all(each).await?;
    stop(server).await?;

    println!("7  What the store says now");
    let mut members = Vec::new();
    for (index, visit) in visits.into_iter().enumerate() {
        let (Some(cast), Some(terminal)) = (CAST.get(index), enrolled.get(index)) else {
            continue;
        };
        let known = office
            .terminal(terminal.id)
            .await?
            .context("the store has lost a terminal")?;
        members.push(Member {
            serial: cast.serial.into(),
            known,
            inventory: office.inventory(terminal.id).await?,
            assignments: office.assignments(terminal.id).await?,
            before: before.get(index).cloned().flatten(),
            expected: expected.get(index).copied().unwrap_or_default(),
            cut: cast.cut,
            resumed: visit.resumed,
            bytes: visit.bytes,
            runs: visit.runs,
        });
    }
    let package = office.find_package(&format!("{COMPONENT}@{NEW}")).await?;
    let mut events = 0;
    while let Some((last, _)) = office.store.events(events, 500).await?.last() {
        events = *last;
    }
    Ok(Fleet {
        package,
        members,
        events,
    })
}

/// What a terminal's second visit brought.
struct Visit {
    resumed: Option<(u64, u64)>,
    bytes: u64,
    runs: Option<Digest>,
}

async fn visit(call: Calling, cast: &Cast, terminal: &Enrolled, watch: &Watch) -> Result<Visit> {
    let (mut outcome, mut reports) = call.errand(terminal, TriggerKind::Schedule, watch, cast).await?;
    let mut stopped = None;
    if call.cut.is_some() {
        let cut = reports.last().filter(|report| matches!(report.end, CallEnd::Broken(_)));
        let cut = cut.with_context(|| format!("the call of {} was not cut", cast.serial))?;
        stopped = cut.downloads.last().map(|download| download.until);
        let (at, size) = cut
            .downloads
            .last()
            .map_or((0, 0), |download| (download.until, download.size));
        watch.say(&format!(
            "   {}: line cut at byte {at} of {size}; the terminal is switched off, and on again",
            cast.serial
        ));
        let again = Calling { cut: None, ..call };
        let more;
        (outcome, more) = again.errand(terminal, TriggerKind::Retry, watch, cast).await?;
        reports.extend(more);
    }
    if outcome != Outcome::Done {
        let end = reports
            .last()
            .map_or_else(|| "no line".to_owned(), |report| report.end.to_string());
        bail!("terminal {} did not come to an end: {end}", cast.serial);
    }
    let continued = reports
        .iter()
        .flat_map(|report| &report.downloads)
        .map(|download| download.from)
        .find(|from| *from > 0);
    let resumed = stopped.zip(continued);
    // What it runs is read from its memory, not taken from its word.
    let on = Terminal::switch_on(Directory::open(&terminal.directory)?, Behaviour::default()).await?;
    if !on.broken().await?.is_empty() {
        bail!("terminal {} runs a version that is not whole", cast.serial);
    }
    let runs = on.versions().await.get(COMPONENT).map(|version| version.digest);
    Ok(Visit {
        resumed,
        bytes: reports.iter().map(|report| report.sent + report.received).sum(),
        runs,
    })
}

/// How terminals call.
#[derive(Clone, Copy)]
struct Calling {
    address: SocketAddr,
    rate: Option<u32>,
    cut: Option<u64>,
}

impl Calling {
    /// Switches a terminal on, lets it do its errand, and switches it off.
    async fn errand(
        self,
        terminal: &Enrolled,
        trigger: TriggerKind,
        watch: &Watch,
        cast: &Cast,
    ) -> Result<(Outcome, Vec<CallReport>)> {
        let mut on = Terminal::switch_on(Directory::open(&terminal.directory)?, Behaviour::default()).await?;
        let dial = Box::new(TcpDial::new([self.address.to_string()]));
        let mut dial = Troubled::new(
            dial,
            Trouble {
                cut_after: self.cut,
                rate: self.rate,
            },
        );
        let mut reports = Vec::new();
        let mut bar = watch.bar(cast.serial);
        let mut steps = |step: Step<'_>| {
            if let Step::Called(report) = step {
                for download in report.downloads.iter().filter(|download| download.from > 0) {
                    watch.say(&format!("   {}: went on at byte {}", cast.serial, download.from));
                }
                reports.push(report.clone());
            }
        };
        let mut progress = |progress: Progress<'_>| bar.show(progress);
        let outcome = errand::run(
            &mut on,
            &mut dial,
            Some(Trigger::of(trigger)),
            &mut steps,
            &mut progress,
        )
        .await?;
        Ok((outcome, reports))
    }
}

async fn pack(packages: &Path, model: &str, version: &str, vendor: &PemSigner) -> Result<()> {
    let content = program(&format!("{COMPONENT} for {model}"), version, SIZE);
    let recipe = Recipe {
        component: Some(COMPONENT.into()),
        version: Some(version.into()),
        counter: Some(1),
        vendor: Some(VENDOR.into()),
        models: vec![model.into()],
        settle_first: true,
        restart: true,
        ..Recipe::default()
    };
    let out = packages.join(file_name(model, version));
    build_of(&content, recipe, vendor, &out).await?;
    Ok(())
}

fn file_name(model: &str, version: &str) -> String {
    format!("{COMPONENT}-{model}-{version}.tmspkg")
}

async fn member(office: &Office, root: &PemSigner, packages: &Path, cast: &Cast) -> Result<Enrolled> {
    let preload = cast
        .version
        .map(|version| packages.join(file_name(cast.model, version)));
    let new = NewTerminal {
        holder: Holder {
            vendor: VENDOR.into(),
            model: cast.model.into(),
            serial: cast.serial.into(),
        },
        directory: None,
        proof: cast.proof,
        key: None,
        bits: BITS,
        days: 3650,
        server: None,
        preload: preload.into_iter().collect(),
        branch: BranchPath::head_office(),
    };
    enrol(office, root, new).await
}

async fn stop(server: Running) -> Result<()> {
    if server.stop(Duration::from_secs(10)).await {
        Ok(())
    } else {
        bail!("calls did not end when the server was stopped")
    }
}
