//! The bank: its branches, its terminals, and how they came to be there.

use crate::life::{DAY, HOUR, Life, Member};
use crate::people::People;
use crate::shop::{BRANCHES, MODELS, Shop};
use crate::story::{Story, ZONE};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tms_core::clock::{Clock, ManualClock, SystemClock};
use tms_core::estate::{Branch, ClassPolicy, Estate, KeyLoad, LoadedKey, TaskCommand};
use tms_core::rule::policy::{CheckInPolicy, Class, Hours};
use tms_core::rule::task::{Definition, Slot, TaskState};
use tms_core::signer::PemSigner;
use tms_core::store::{BranchPath, Caller, Dimension, RosterFilter};
use tms_core::transport::Framing;
use tms_program::sample::program;
use tms_proto::code::RegisterIntent;
use tms_proto::digest::Digest;
use tms_proto::message::{Location, Register};
use tms_server::config::Listen;
use tms_server::directory::Directory;
use tms_server::run;
use tms_terminal::directory::{Directory as TerminalDirectory, Proof};
use tms_terminal::terminal::{Behaviour, Terminal};
use tms_tool::enrol::{NewTerminal, enrol};
use tms_tool::init::{NewEstate, create};
use tms_tool::office::Office;
use tms_tool::package::{Recipe, build_of};

/// How many days it takes until the terminals stand where they are.
pub(crate) const DAYS: u32 = 2;

/// RSA keys small enough that they are made in a second or two.
const BITS: usize = 2048;

/// The program that every terminal comes with.
pub(crate) const CASHIER: &str = "cashier";
pub(crate) const FIRST: &str = "2.3.0";

/// The size of a program, in bytes.
const SIZE: usize = 24_631;

/// The hours by which the bank's clocks are ahead of UTC.
const AHEAD: u64 = 8 * HOUR;

/// The bank, and all that is needed to tell of it.
pub(crate) struct Bank {
    pub(crate) life: Life,
    pub(crate) people: People,
    vendor: PemSigner,
    packages: PathBuf,
}

impl Bank {
    /// Founds the bank in `dir`, `days` days and the hours of this one before now, and installs its terminals.
    pub(crate) async fn found(dir: &Path, story: &mut Story, terminals: usize, days: u32) -> Result<Self> {
        let now = SystemClock.now();
        let midnight = now.saturating_sub((now + AHEAD) % DAY);
        let begin = midnight.saturating_sub(u64::from(days) * DAY);
        let clock = Arc::new(ManualClock::new(begin + 9 * HOUR));
        story.heading(
            "Before it begins",
            &[
                "Lantern Bank is made up; the makers of its terminals and their models are not. Head office plans, branches look",
                "after their merchants, and a business system (BMS) knows who has ordered a terminal. Who loads keys, confirms",
                "an installation, plans a change or approves it is a person with permissions in one part of the bank.",
                "Times on the left are those of the bank's clocks, in Shanghai; days in reports are those of UTC.",
            ],
        );
        let estate = NewEstate {
            organisation: "Lantern Bank".to_owned(),
            bits: BITS,
            from: begin,
        };
        let layout = create(dir, &estate).await?;
        let mut directory = Directory::open(dir, None)?;
        directory.clock = clock.clone();
        let office = Office::in_directory(directory, "key-room".to_owned()).await?;
        let people = People::hire(&office.estate, &office.actor).await?;
        for (path, name, _) in BRANCHES {
            let branch = Branch {
                path: path.parse()?,
                name: name.to_owned(),
                zone: Some(ZONE.to_owned()),
                variables: BTreeMap::new(),
            };
            office.estate.put_branch(&office.actor, branch).await?;
        }
        let listen = Listen {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            envelope: Framing::Tcp,
            gateways: vec!["127.0.0.1/32".parse()?],
        };
        let server = office.directory.server_on(Arc::clone(&office.store))?;
        let running = run::start(server, &[listen], 1_000).await?;
        let address = running.addresses().first().context("the server listens somewhere")?.0;
        let packages = dir.join("packages");
        fs::create_dir(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
        let mut bank = Self {
            life: Life::new(office, clock, running, address, begin),
            people,
            vendor: tms_tool::key::read_signer(&layout.vendor_key())?,
            packages,
        };
        bank.install(story, terminals).await?;
        Ok(bank)
    }

    pub(crate) const fn estate(&self) -> &Estate {
        &self.life.office.estate
    }

    /// Builds a package and publishes it, as head office.
    pub(crate) async fn publish(&self, component: &str, version: &str, counter: u32, model: usize) -> Result<Digest> {
        let path = self.pack(component, version, counter, model).await?;
        let mut file = tokio::fs::File::open(&path)
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.estate().publish(&self.people.chen, &mut file).await?.manifest)
    }

    async fn pack(&self, component: &str, version: &str, counter: u32, model: usize) -> Result<PathBuf> {
        let model = MODELS.get(model).context("there is such a model")?;
        let content = program(&format!("{component} for {}", model.name), version, SIZE);
        let recipe = Recipe {
            component: Some(component.to_owned()),
            version: Some(version.to_owned()),
            counter: Some(counter),
            vendor: Some(model.vendor.to_owned()),
            models: vec![model.name.to_owned()],
            ..Recipe::default()
        };
        let path = self
            .packages
            .join(format!("{component}-{}-{version}.tmspkg", model.name));
        build_of(&content, recipe, &self.vendor, &path).await?;
        Ok(path)
    }

    /// From the order of a terminal to its registration at the merchant's.
    async fn install(&mut self, story: &mut Story, terminals: usize) -> Result<()> {
        self.call_by(daily()).await?;
        let mut preload = Vec::new();
        for model in 0..MODELS.len() {
            preload.push(self.pack(CASHIER, FIRST, 1, model).await?);
        }
        let shops: Vec<Shop> = (0..terminals).filter_map(Shop::new).collect();
        let now = self.life.now();
        story.at(
            now,
            "BMS",
            format!("announces {terminals} installations: merchant, place, model, serial number"),
        );
        for shop in &shops {
            self.estate().announce(&self.people.bms, shop.installation(now)).await?;
        }
        story.at(
            now,
            "key room",
            "loads a main-control key and a PIN key into each PIN pad, and notes their check values",
        );
        let root = tms_tool::key::read_signer(&self.life.office.directory.layout.root_key())?;
        for shop in shops {
            let package = MODELS.iter().position(|model| model.name == shop.model.name);
            let new = NewTerminal {
                holder: shop.holder(),
                directory: None,
                proof: Proof::MainKey,
                key: None,
                bits: BITS,
                days: 3_650,
                server: None,
                preload: package.and_then(|at| preload.get(at).cloned()).into_iter().collect(),
                branch: shop.branch.clone(),
            };
            let office = &self.life.office;
            let enrolled = enrol(office, &root, new).await?;
            let keys = KeyLoad::of(
                "key room, two custodians".to_owned(),
                Some(1),
                vec![key(1, "K0", &shop.serial), key(2, "P0", &shop.serial)],
            );
            let device = Caller::Id(enrolled.id);
            office
                .estate
                .initialise(&office.actor, &shop.reference(), &device, keys)
                .await?;
            let clock = self.life.clock.clone();
            let switched = Terminal::switch_on_with(
                TerminalDirectory::open(&enrolled.directory)?,
                Behaviour::default(),
                clock,
            );
            self.life.members.push(Member {
                id: enrolled.id,
                terminal: switched.await?,
                on: true,
                line: shop.telephone.clone(),
                again: None,
                shop,
            });
        }
        let confirmed = self.life.time(0, 14);
        self.life.clock.set(confirmed);
        story.at(
            confirmed,
            "li, zhao",
            "confirm for Ningbo and for Hangzhou what the BMS has said; wang confirms for head office",
        );
        for member in &self.life.members {
            let reference = member.shop.reference();
            let branch = self.people.of(&member.shop.branch);
            self.estate().confirm_by_branch(branch, &reference).await?;
            self.estate()
                .confirm_by_head_office(&self.people.wang, &reference)
                .await?;
        }
        let at = self.life.time(1, 10);
        self.life.clock.set(at);
        story.at(
            at,
            "fitters",
            "put them up; each registers from where it stands, and the number that it called from is noted",
        );
        for member in &mut self.life.members {
            let location = Location {
                caller: Some(member.shop.telephone.clone()),
                ..Location::default()
            };
            let register = Register {
                intent: RegisterIntent::FirstInstall,
                code: None,
                replaces: None,
                installer: Some("fitter 7".to_owned()),
                location: Some(location),
                logical: None,
            };
            member.terminal.register(register).await?;
        }
        let visits = self.life.until(self.life.time(1, 18)).await?;
        let registered: BTreeSet<_> = visits
            .iter()
            .filter(|visit| visit.remarks.iter().any(|remark| remark.starts_with("registration: ")))
            .map(|visit| visit.member)
            .collect();
        ensure!(
            registered.len() == terminals,
            "{} of {terminals} terminals registered",
            registered.len()
        );
        let by = [Dimension::Branch, Dimension::Vendor, Dimension::Model];
        let all = RosterFilter::under(BranchPath::head_office());
        let report = self.estate().reports(&self.people.chen).standing(&all, &by, 30).await?;
        ensure!(
            report.rows.iter().map(|row| row.alive).sum::<u64>() == report.terminals,
            "all are alive"
        );
        story.report("0-installed", "What head office sees on the second evening", &report)?;
        Ok(())
    }

    /// From its next check-in on, every terminal calls by this policy.
    pub(crate) async fn call_by(&self, policy: CheckInPolicy) -> Result<()> {
        let policy = ClassPolicy {
            name: "all-terminals".to_owned(),
            class: Class::default(),
            policy,
            access: None,
        };
        Ok(self.estate().put_policy(&self.people.chen, policy).await?)
    }

    /// chen writes a task, wang approves it, chen starts it.
    pub(crate) async fn start(&mut self, story: &Story, definition: Definition, what: &str) -> Result<u64> {
        let (estate, People { chen, wang, .. }) = (self.life.office.estate.clone(), &self.people);
        let definition = Definition {
            approval: true,
            ..definition
        };
        let task = estate
            .create_task(chen, &BranchPath::head_office(), definition)
            .await?
            .id;
        story.at(self.life.now(), "chen", format!("writes task {task:016x}: {what}"));
        estate.command_task(chen, task, TaskCommand::Build).await?;
        self.life.settle().await?;
        estate.command_task(wang, task, TaskCommand::Approve).await?;
        estate.command_task(chen, task, TaskCommand::Start).await?;
        self.life.settle().await?;
        story.at(
            self.life.now(),
            "wang",
            "looks at what it will do, and approves; chen starts it",
        );
        Ok(task)
    }

    /// How many terminals of a task stand so.
    pub(crate) async fn count(&self, task: u64, slot: Slot) -> Result<u64> {
        let progress = self.estate().task_progress(&self.people.chen, task).await?;
        Ok(progress.stages.iter().map(|stage| stage.counts.of(slot)).sum())
    }

    /// Fails where a task is not completed, each of its terminals having said so.
    pub(crate) async fn ensure_completed(&self, task: u64, terminals: usize) -> Result<()> {
        let state = self.estate().task(&self.people.chen, task).await?.record.state;
        let succeeded = self.count(task, Slot::Succeeded).await?;
        ensure!(
            state == TaskState::Completed && usize::try_from(succeeded)? == terminals,
            "task {task:016x} is {}, {succeeded} of {terminals} have succeeded",
            state.name()
        );
        Ok(())
    }

    /// Shows how far a task is, terminal by terminal.
    pub(crate) async fn show(&self, story: &mut Story, name: &str, task: u64) -> Result<()> {
        let chen = &self.people.chen;
        let progress = self.estate().task_progress(chen, task).await?;
        let mut rows = Vec::new();
        for (stage, number) in progress.stages.iter().zip(0_u16..) {
            for slot in Slot::all() {
                let page = self
                    .estate()
                    .task_members(chen, task, (number, slot), None, 1_000)
                    .await?;
                for place in page {
                    let member = self.life.members.iter().find(|member| member.id == place.terminal);
                    let shop = &member.context("a terminal of the bank")?.shop;
                    let row = [
                        shop.label(),
                        shop.name.clone(),
                        stage.name.clone(),
                        slot.name().replace('_', " "),
                        story.moment(place.moved),
                    ];
                    rows.push(((number, place.moved), row));
                }
            }
        }
        rows.sort();
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        let total: u64 = progress.stages.iter().map(|stage| stage.total).sum();
        let succeeded: u64 = progress.stages.iter().map(|stage| stage.succeeded).sum();
        let failed: u64 = progress.stages.iter().map(|stage| stage.failed).sum();
        let caption = format!(
            "Task \"{}\", {}: {succeeded} of {total} succeeded, {failed} failed, as of {}",
            progress.task.definition.name,
            progress.task.state.name().replace('_', " "),
            story.moment(progress.as_of)
        );
        story.table(
            name,
            &caption,
            ["terminal", "merchant", "stage", "stands at", "since"],
            rows,
        )
    }
}

/// Every terminal calls once a day, while shops are open.
pub(crate) fn daily() -> CheckInPolicy {
    CheckInPolicy {
        hours: vec![Hours {
            from: 9 * 60,
            minutes: 8 * 60,
        }],
        ..CheckInPolicy::default()
    }
}

/// A key as its record names it: never the key. The check value is made up, and differs from terminal to terminal.
pub(crate) fn key(slot: u16, usage: &str, serial: &str) -> LoadedKey {
    let digest = Digest::of(format!("{usage} of {serial}").as_bytes()).to_string();
    LoadedKey {
        slot,
        version: 1,
        usage: usage.to_owned(),
        check_value: digest.chars().take(6).collect(),
    }
}
