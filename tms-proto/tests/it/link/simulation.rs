//! Links over lines of all kinds, from seeds.
//!
//! **Safety**: what is heard is the beginning of what was said; the end comes behind all of it, and never where the line was
//! cut before; no more is held than the constants allow. **Liveness**: where the line is not cut both ends are done in time.
//!
//! `TMS_WORLDS=1000000 cargo test -p tms-proto --test it link` runs more worlds; `TMS_SEED=42` runs one and prints its trace.

use super::line::{Chance, Noise, Way};
use super::world::{End, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tms_proto::link::{Config, Down, Duplex, EscapeMap, Role, SevenBit, WINDOW};
use tms_proto::machine::{Instant, Machine, Output};

/// Worlds of the ordinary test run.
const WORLDS: u64 = 4_000;

/// A world, and what must hold in it.
struct Made {
    world: World,
    /// In this time it must be over, where it is not cut.
    seconds: u64,
    what: String,
}

fn noise(chance: &mut Chance) -> Noise {
    let mut noise = Noise::default();
    match chance.below(8) {
        0 | 1 => {}
        2 => noise.bit = 1e-5,
        3 => noise.bit = 1e-4,
        4 => noise.bit = 5e-4,
        5 => noise.burst = Some((1_000.0 + chance.below(20_000) as f64, 1.0 + chance.below(40) as f64)),
        6 => (noise.lost, noise.added) = (chance.below(800), chance.below(800)),
        _ => {
            noise.bit = 2e-4;
            noise.framed = true;
        }
    }
    noise
}

fn script(chance: &mut Chance, rate: u64) -> Vec<Vec<u8>> {
    // Some seconds of the line.
    let most = (rate / 10) * chance.below(20);
    let mut total = 0;
    let mut pieces = Vec::new();
    while total < most {
        let length = match chance.below(4) {
            0 => 1 + chance.below(40),
            1 | 2 => 1_051,
            _ => 1 + chance.below(6_000),
        };
        total += length;
        let kind = chance.below(10);
        pieces.push(
            (0..length)
                .map(|_| match kind {
                    // What framing has to write otherwise.
                    0 => [0x7E, 0x7D, 0x11, 0x13, b'+', b'+', 0xFF, 0x00][chance.below(8) as usize],
                    _ => chance.next() as u8,
                })
                .collect(),
        );
    }
    pieces
}

fn make(seed: u64) -> Made {
    let chance = &mut Chance::new(seed);
    let rate = [300, 1_200, 2_400, 9_600, 9_600, 14_400, 33_600, 115_200][chance.below(8) as usize];
    let latency = [0, 5, 50, 100, 100, 250, 500][chance.below(7) as usize];
    let half = chance.below(5) == 0;
    let (mut noises, mut sevens) = ([noise(chance), noise(chance)], [false, false]);
    if chance.below(6) == 0 {
        // One way may have a fault that the other has not.
        sevens = [chance.below(2) == 0, true];
    }
    let swallowed = chance.below(8) == 0;
    for (noise, seven) in noises.iter_mut().zip(sevens) {
        noise.seven = seven;
        if swallowed {
            noise.swallowed = vec![0x11, 0x13, 0x91, 0x93];
        }
    }
    let ends = [Role::Caller, Role::Answerer].map(|role| {
        let mut config = Config::new(role);
        config.bits_per_second = match chance.below(4) {
            0 if rate >= 1_200 => None,
            // The rate of the port, and not of the line.
            1 if rate >= 2_400 => Some(115_200),
            _ => Some(rate as u32),
        };
        config.error_corrected = [None, Some(true), Some(false)][chance.below(3) as usize];
        if half && (role == Role::Caller || chance.below(2) == 0) {
            config.duplex = Duplex::Half;
        }
        if chance.below(10) == 0 {
            config.seven_bit = SevenBit::Always;
        }
        if swallowed && (role == Role::Caller || chance.below(2) == 0) {
            config.escape = EscapeMap::XON_XOFF;
        }
        // A slow line with a burst on it is silent for a while.
        config.inactivity = Duration::from_secs(300);
        let mut end = End::new(&config, role as u8 + 1);
        end.script = script(chance, rate);
        if chance.below(4) == 0 {
            end.lazy = chance.below(9_000) as usize;
        }
        if chance.below(3) == 0 {
            end.waits = (0..end.script.len()).map(|_| 0).collect();
        }
        end
    });
    let [one, other] = noises;
    let what = format!("{rate} bit/s, {latency} ms, half {half}, {one:?} / {other:?}");
    let ways = [
        Way::new(chance.next(), rate, latency, one),
        Way::new(chance.next(), rate, latency, other),
    ];
    let mut world = World::new(ends, ways);
    if chance.below(4) == 0 {
        world.cut = Some(chance.below(15_000_000));
    }
    // What a modem, a banner or an earlier call have left on the line.
    for one in 0..2 {
        let junk: Vec<u8> = match chance.below(6) {
            0 => b"\r\nCONNECT 9600\r\n".to_vec(),
            1 => b"\r\nBUSY\r\n~~NO CARRIER~+++~".to_vec(),
            2 => (0..chance.below(300)).map(|_| chance.next() as u8).collect(),
            3 => earlier_call(if one == 0 { Role::Caller } else { Role::Answerer }),
            _ => Vec::new(),
        };
        world.ways[one].put(0, &junk);
    }
    let bytes: usize = world.ends.iter().map(|end| end.content().len()).sum();
    Made {
        world,
        seconds: 120 + 60 * bytes as u64 / (rate / 10),
        what,
    }
}

/// The first words of a call that did not come about.
fn earlier_call(role: Role) -> Vec<u8> {
    let mut link = tms_proto::link::Link::new(&Config::new(role), [9; 4], Instant::from_millis(0));
    match link.poll() {
        Output::Transmit(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn simulate(seed: u64, trace: bool) -> World {
    let Made {
        mut world,
        seconds,
        what,
    } = make(seed);
    world.trace = trace.then(Vec::new);
    if trace {
        println!("{what}");
    }
    let said = world.ends.each_ref().map(End::content);
    let cut = world.cut;
    world.run(seconds, |_| false);
    if let Some(trace) = &world.trace {
        trace.iter().for_each(|line| println!("{line}"));
    }
    for (one, end) in world.ends.iter().enumerate() {
        let other = &world.ends[1 - one];
        let context = format!(
            "seed {seed}, end {one} at {} ms of {what}: {:?}, {:?}{}",
            world.now / 1000,
            end.down,
            end.link.counters(),
            if trace {
                format!("{:#?}", end.link)
            } else {
                String::new()
            }
        );
        assert!(said[1 - one].starts_with(&end.heard), "another stream: {context}");
        if end.ended {
            assert!(
                end.heard.len() == said[1 - one].len(),
                "an end before the end: {context}"
            );
        }
        if end.delivered {
            assert!(other.ended, "delivered, and the peer does not know: {context}");
        }
        match end.down {
            Some(Down::Finished) => assert!(end.ended && end.delivered, "{context}"),
            Some(Down::Cut) => assert!(end.closed_line && cut.is_some(), "{context}"),
            other => assert!(
                cut.is_some(),
                "{other:?}, {} of {}: {context}",
                end.heard.len(),
                said[1 - one].len()
            ),
        }
        if cut.is_none() {
            assert!(end.ended && end.delivered, "not done: {context}");
        }
    }
    for way in &world.ways {
        // What a link sends ahead is bounded, and follows the line.
        assert!(
            way.longest as u64 <= WINDOW + 4 * 1_100 + 400,
            "{} bytes in queues",
            way.longest
        );
    }
    world
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}

#[test]
fn worlds() {
    if let Some(seed) = number("TMS_SEED") {
        simulate(seed, true);
        return;
    }
    let worlds = number("TMS_WORLDS").unwrap_or(WORLDS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for seed in (first..worlds).step_by(threads as usize) {
                    if catch_unwind(AssertUnwindSafe(|| simulate(seed, false))).is_err() {
                        panic!("world {seed} failed: TMS_SEED={seed} runs it again");
                    }
                }
            });
        }
    });
}

/// Same seed, same trace: a failure can be looked at again.
#[test]
fn a_world_replays() {
    for seed in 0..20 {
        let [one, other] = [(); 2].map(|()| {
            let mut world = make(seed).world;
            world.trace = Some(Vec::new());
            world.run(30, |_| false);
            world.trace
        });
        assert_eq!(one, other);
    }
}
