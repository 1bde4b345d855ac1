//! What the link makes of a line.

use super::line::{Chance, Noise, Way};
use super::world::{End, World};
use tms_proto::link::{Config, Role};

/// 256 KiB in records of 1,024 bytes, as they stand in their envelopes.
const RECORD: usize = 1_024 + 9 + 16 + 2;
const OBJECT: usize = 256 * 1024;

struct Measured {
    /// Of the object alone, records and greetings counted as cost.
    efficiency: f64,
    longest: usize,
}

fn measure(seed: u64, latency: u64, noise: &Noise) -> Measured {
    let config = |role| Config {
        bits_per_second: Some(9600),
        ..Config::new(role)
    };
    let mut ends = [End::new(&config(Role::Caller), 1), End::new(&config(Role::Answerer), 2)];
    let mut chance = Chance::new(seed);
    let mut record = || (0..RECORD).map(|_| chance.next() as u8).collect::<Vec<u8>>();
    ends[1].script = (0..OBJECT.div_ceil(1024)).map(|_| record()).collect();
    let content = ends[1].content();
    let way = |seed| Way::new(seed, 9600, latency, noise.clone());
    let mut world = World::new(ends, [way(seed * 2), way(seed * 2 + 1)]);
    world.run(20_000, |ends| ends.iter().all(|end| end.ended && end.delivered));
    assert!(
        world.ends[0].heard == content,
        "seed {seed}: {} bytes",
        world.ends[0].heard.len()
    );
    let last = world.ways.iter().map(|way| way.last).max().unwrap();
    Measured {
        efficiency: OBJECT as f64 / 960.0 / (last as f64 / 1e6),
        longest: world.ways[1].longest,
    }
}

/// Figures of the link with the cost of records; the handshake takes half a percent more.
#[test]
fn lines_are_used_well() {
    let bits = |bit| Noise {
        bit,
        ..Noise::default()
    };
    for (what, latency, noise, bar) in [
        ("clean", 100, bits(0.0), 95.5),
        ("1e-5", 100, bits(1e-5), 92.5),
        ("1e-4", 100, bits(1e-4), 80.5),
        (
            "bursts",
            100,
            Noise {
                burst: Some((1667.0, 5.0)),
                ..Noise::default()
            },
            80.5,
        ),
        (
            "1e-4 framed",
            100,
            Noise {
                framed: true,
                ..bits(1e-4)
            },
            75.5,
        ),
        ("1e-5, far", 400, bits(1e-5), 91.5),
    ] {
        for seed in 1..=3 {
            let measured = measure(seed, latency, &noise);
            assert!(
                measured.efficiency * 100.0 > bar,
                "{what}, seed {seed}: {:.4}",
                measured.efficiency
            );
            assert!(measured.longest < 6_000, "{what}: {} bytes in queues", measured.longest);
        }
    }
}
