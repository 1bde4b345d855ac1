//! Whole worlds from a seed: the real agent on a memory that loses power, the real server on a store that is away now and then,
//! and a line between them that cuts, stalls, chops and flips.
//!
//! **Safety**, after every step: the terminal has a whole application; the store never says *running* of what does not run;
//! nothing is recorded twice. **Liveness**: with the faults off, every terminal gets there.
//!
//! `TMS_WORLDS=100000 cargo test -p tms-core --features testing --test it worlds` runs more worlds; `TMS_SEED=42` runs one
//! and prints its trace. Seeds that once failed are in `regressions.txt` and always run.

use crate::agent::terminal::{Kit, Proves, Terminal};
use crate::world::{World, holder};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tms_core::agent::Call;
use tms_core::agent::flash::PowerCut;
use tms_core::agent::slot::SelfTest;
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::server::Options;
use tms_core::store::{EventKind, MemoryStore};
use tms_core::testing::entropy::SeededEntropy;
use tms_core::testing::fault::{FaultyStore, Schedule};
use tms_core::testing::seed::Seed;
use tms_core::testing::transport::{Faults, FaultyTransport, Tampering};
use tms_proto::code::Stage;
use tms_proto::secret::Secret;
use tokio::sync::Mutex;

/// Worlds of the ordinary test run.
const WORLDS: u64 = 2_000;

/// Rounds with faults, and rounds without in which everybody must get there.
const ROUNDS: usize = 6;
const QUIET_ROUNDS: usize = 8;

/// One of some packages: signing one takes longer than a world.
async fn package(variant: u64) -> Arc<Vec<u8>> {
    static PACKAGES: Mutex<BTreeMap<u64, Arc<Vec<u8>>>> = Mutex::const_new(BTreeMap::new());
    let mut packages = PACKAGES.lock().await;
    if let Some(package) = packages.get(&variant) {
        return Arc::clone(package);
    }
    let mut chance = Seed::new(variant);
    let size = if variant.is_multiple_of(3) {
        66_000 + chance.below(60_000)
    } else {
        1 + chance.below(30_000)
    };
    let content: Vec<u8> = (0..size).map(|_| chance.next() as u8).collect();
    let package = Arc::new(crate::world::package(&content, 2).await);
    packages.insert(variant, Arc::clone(&package));
    package
}

struct Actor {
    kit: Kit,
    terminal: Option<Terminal>,
    action: u64,
    /// The new version fails its own test: it must be rolled back, and never be called running.
    bad: bool,
}

struct Simulation {
    seed: u64,
    chance: Seed,
    world: World,
    store: FaultyStore,
    actors: Vec<Actor>,
    trace: String,
}

impl Simulation {
    async fn new(seed: u64) -> Self {
        let mut chance = Seed::new(seed);
        let truth = Arc::new(MemoryStore::new());
        let store = FaultyStore::new(truth.clone(), Schedule::Never);
        let options = Options {
            idle_timeout: Duration::from_secs(20),
            ..Options::default()
        };
        let entropy = Arc::new(SeededEntropy::new(seed));
        let world = World::of(Arc::new(store.clone()), options, entropy)
            .await
            .seen_through(truth);
        let manifest = world.publish_file(&package(chance.below(24)).await).await;
        let mut actors = Vec::new();
        for number in 0..1 + chance.below(2) {
            // One world in twenty proves itself by RSA: that costs a hundred times as much.
            let proves = if number == 0 && chance.chance(50) {
                Proves::Rsa
            } else {
                Proves::MainKey
            };
            let mut kit = Kit::with(proves).await;
            let serial = format!("{:04}", number + 1);
            let id = world.enrol(&serial).await;
            kit.identity.terminal = id;
            kit.identity.holder = holder(&serial);
            kit.entropy = Arc::new(SeededEntropy::new(seed ^ (number + 1) << 32));
            kit.clock = Arc::clone(&world.clock);
            if let Some(main_key) = &mut kit.identity.main_key {
                let keys = MemoryKeys::new();
                keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
                main_key.keys = Arc::new(keys);
            }
            let bad = chance.chance(100);
            if bad {
                kit.self_test = SelfTest::Fails;
            }
            let action = world.queue(id, &manifest).await;
            actors.push(Actor {
                kit,
                terminal: None,
                action,
                bad,
            });
        }
        Self {
            seed,
            chance,
            world,
            store,
            actors,
            trace: String::new(),
        }
    }

    async fn run(mut self) -> String {
        for round in 0..ROUNDS {
            let seed = Seed::new(self.chance.next());
            let (fail, lose) = if self.chance.chance(400) { (60, 40) } else { (0, 0) };
            self.store.schedule(Schedule::Random { seed, fail, lose });
            for index in 0..self.actors.len() {
                self.turn(round, index, true).await;
            }
        }
        self.store.schedule(Schedule::Never);
        for round in ROUNDS..ROUNDS + QUIET_ROUNDS {
            for index in 0..self.actors.len() {
                self.turn(round, index, false).await;
            }
        }
        for index in 0..self.actors.len() {
            self.arrived(index).await;
        }
        self.trace
    }

    /// One terminal's turn: it may start, calls, works, and may lose power at any write of all that.
    async fn turn(&mut self, round: usize, index: usize, faults: bool) {
        let cut = faults && self.chance.chance(350);
        let (write, seed) = (1 + self.chance.below(40), self.chance.next());
        let line = if faults { self.faults() } else { Faults::default() };
        let wait = self.chance.below(100_000);
        self.world.clock.advance(60 + wait);
        let actor = &mut self.actors[index];
        // Without a cut the one of an earlier round, if it is still to come, is called off.
        actor.kit.flash.cut(PowerCut {
            write: if cut { write } else { u64::MAX },
            seed,
        });
        let mut note = String::new();
        if actor.terminal.is_none() {
            match actor.kit.try_start().await {
                Ok(terminal) => actor.terminal = Some(terminal),
                Err(error) => note = format!("start: {error}"),
            }
        }
        if let Some(terminal) = &mut actor.terminal {
            let transport = FaultyTransport::new(self.world.line("modem 1"), line);
            let trigger = terminal.agent.next_contact().trigger;
            let report = terminal.agent.call(transport, Call::new(trigger)).await;
            note = format!("{} {} {}", report.end, report.sent, report.received);
            if let Err(error) = work(terminal).await {
                let _ = write!(note, ", work: {error}");
            }
        }
        if actor.kit.flash.is_dead() {
            note += ", power lost";
            actor.terminal = None;
            actor.kit = actor.kit.after_power_loss(seed);
        }
        let _ = writeln!(self.trace, "round {round} terminal {index}: {note}");
        self.check(index).await;
    }

    fn faults(&mut self) -> Faults {
        let chance = &mut self.chance;
        let way = |chance: &mut Seed| Tampering {
            chunk: if chance.chance(500) {
                1 + chance.below(2_000) as usize
            } else {
                0
            },
            flips_per_million: if chance.chance(80) { 50 } else { 0 },
            stall: chance
                .chance(80)
                .then(|| (chance.below(5_000), Duration::from_secs(1 + chance.below(90)))),
            cut: chance.chance(350).then(|| {
                let early = chance.chance(500);
                chance.below(if early { 600 } else { 60_000 })
            }),
            bytes_per_second: 0,
        };
        let (read, write) = (way(chance), way(chance));
        Faults {
            seed: chance.next(),
            read,
            write,
            cut_after: None,
            cut_is_error: chance.chance(500),
        }
    }

    /// What must hold at every moment.
    async fn check(&mut self, index: usize) {
        let seed = self.seed;
        let actor = &self.actors[index];
        // A look at the terminal as it would start now must not change it.
        let image = match &actor.terminal {
            Some(_) => actor.kit.clone(),
            None => Kit {
                flash: actor.kit.flash.survivor(0),
                ..actor.kit.clone()
            },
        };
        let version = match &actor.terminal {
            Some(terminal) => terminal.version().await,
            None => image.start().await.version().await,
        };
        assert!(
            version == "1.0" || version == "2.0",
            "seed {seed}: version {version}\n{}",
            self.trace
        );
        let broken = match &actor.terminal {
            Some(terminal) => terminal.device.broken().await.unwrap(),
            None => Vec::new(),
        };
        assert!(
            broken.is_empty(),
            "seed {seed}: {broken:?} cannot start\n{}",
            self.trace
        );

        let id = actor.kit.identity.terminal;
        let assignment = self.world.assignment(id, actor.action).await;
        if assignment.stage == Stage::RunningConfirmed {
            assert!(
                !actor.bad,
                "seed {seed}: a bad program is called running\n{}",
                self.trace
            );
            assert_eq!(
                version, "2.0",
                "seed {seed}: the store is ahead of the terminal\n{}",
                self.trace
            );
        }
        let known = self.world.known(id).await.terminal.record;
        assert!(known.tickets.len() <= 2, "seed {seed}: {} tickets", known.tickets.len());
    }

    async fn arrived(&mut self, index: usize) {
        let (seed, actor) = (self.seed, &self.actors[index]);
        let terminal = actor.terminal.as_ref().unwrap();
        let assignment = self.world.assignment(actor.kit.identity.terminal, actor.action).await;
        let expected = if actor.bad {
            Stage::RolledBack
        } else {
            Stage::RunningConfirmed
        };
        assert_eq!(
            (assignment.stage, assignment.closed, terminal.agent.unacknowledged()),
            (expected, true, 0),
            "seed {seed}: terminal {index} did not get there\n{}",
            self.trace
        );
        let running = terminal.device.versions().await["bank"].clone();
        assert_eq!(running.version, if actor.bad { "1.0" } else { "2.0" }, "seed {seed}");
        let confirmations = self.world.events().await.into_iter().filter(|event| {
            event.terminal == Some(actor.kit.identity.terminal)
                && matches!(&event.kind, EventKind::Result { stage, .. } if *stage == expected)
        });
        assert_eq!(
            confirmations.count(),
            1,
            "seed {seed}: a result was recorded twice\n{}",
            self.trace
        );
    }
}

/// Off-line work with the restarts that it asks for; power may fail in it.
async fn work(terminal: &mut Terminal) -> Result<(), String> {
    for _ in 0..8 {
        let report = terminal.agent.work().await.map_err(|error| error.to_string())?;
        if !report.restart {
            return Ok(());
        }
        *terminal = terminal.kit.try_start().await?;
    }
    Err("the terminal starts again and again".to_owned())
}

fn simulate(seed: u64) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async { Simulation::new(seed).await.run().await })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
    })
}

/// Worlds are spread over the machine's threads; each prints its seed when it fails.
#[test]
fn worlds() {
    if let Some(seed) = number("TMS_SEED") {
        println!("{}", simulate(seed));
        return;
    }
    let worlds = number("TMS_WORLDS").unwrap_or(WORLDS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for seed in (first..worlds).step_by(threads as usize) {
                    if std::panic::catch_unwind(|| simulate(seed)).is_err() {
                        panic!("world {seed} failed: TMS_SEED={seed} runs it again");
                    }
                }
            });
        }
    });
}

#[test]
fn worlds_that_once_failed() {
    let seeds = include_str!("regressions.txt")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    for seed in seeds.filter(|seed| !seed.is_empty()) {
        simulate(seed.parse().unwrap());
    }
}

/// Same seed, same trace: a failure can be looked at again.
#[test]
fn a_world_replays() {
    for seed in [3, 17, 1_000_003] {
        assert_eq!(simulate(seed), simulate(seed));
    }
}
