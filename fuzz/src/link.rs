//! The link (§3) against a line, and against a peer, that means no good.
//!
//! The first byte says how: any octets from the first one on; any frames that pass their check, in a call that stands; or two
//! honest links on a line that does to each transmission what the input says.

use tms_proto::link::{Config, Duplex, Link, LinkEvent, Role, SevenBit, WINDOW};
use tms_proto::machine::{Input, Instant, Machine, Output};

/// Polls that one input may cause: more would be a loop.
const STEPS: usize = 4_096;

const CALLER: [u8; 4] = [1; 4];
const ANSWERER: [u8; 4] = [2; 4];

/// One link, and what it has said.
struct End {
    link: Link,
    now: Instant,
    heard: Vec<u8>,
    ended: bool,
    down: bool,
}

impl End {
    fn new(config: &Config, nonce: [u8; 4]) -> Self {
        let now = Instant::from_millis(0);
        Self {
            link: Link::new(config, nonce, now),
            now,
            heard: Vec::new(),
            ended: false,
            down: false,
        }
    }

    fn advance(&mut self, millis: u64) {
        self.now = Instant::from_millis(self.now.as_millis() + millis);
        self.link.handle(self.now, Input::Timeout);
    }

    /// Everything that it has to say now.
    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for _ in 0..STEPS {
            match self.link.poll() {
                Output::Transmit(line) => {
                    assert!(line.last() == Some(&0x7E) && line.first() != Some(&0xFF));
                    assert!(!line.windows(3).any(|run| run == b"+++"));
                    lines.push(line.to_vec());
                }
                Output::Event(event) => {
                    assert!(!self.down, "{event:?} after the last event");
                    match event {
                        LinkEvent::Received(bytes) => {
                            assert!(!self.ended && !bytes.is_empty());
                            self.heard.extend_from_slice(&bytes);
                        }
                        LinkEvent::Ended => self.ended = true,
                        LinkEvent::Down(_) => self.down = true,
                        _ => {}
                    }
                }
                Output::Wait(_) | Output::Close => return lines,
            }
        }
        panic!("a machine that never waits");
    }
}

/// See the module.
pub fn link(data: &[u8]) {
    let [style, rest @ ..] = data else { return };
    let half = style & 4 != 0;
    let config = |role| Config {
        duplex: if half { Duplex::Half } else { Duplex::Full },
        seven_bit: if style & 8 != 0 {
            SevenBit::Always
        } else {
            SevenBit::Auto
        },
        bits_per_second: (style & 16 != 0).then_some(9600),
        ..Config::new(role)
    };
    match style & 3 {
        0 => noise(&config(Role::Answerer), rest),
        1 => hostile(rest),
        _ => between(config, rest),
    }
}

/// Any octets; how they are cut makes no difference to what is heard.
fn noise(config: &Config, octets: &[u8]) {
    let [one, other] = [octets.len().max(1), 7].map(|size| {
        let mut end = End::new(config, ANSWERER);
        end.link.send(end.now, b"some bytes");
        for piece in octets.chunks(size) {
            end.link.handle(end.now, Input::Received(piece));
            end.drain();
        }
        end.advance(1_000_000);
        end.drain();
        assert!(end.down, "silence has an end");
        end.heard
    });
    assert_eq!(one, other);
}

/// Frames that pass: a length, the milliseconds before, and the content of each.
fn hostile(mut script: &[u8]) {
    let config = Config::new(Role::Answerer);
    let mut end = End::new(&config, ANSWERER);
    end.link.send(end.now, &[0x5A; 3_000]);
    let mut peer = End::new(&Config::new(Role::Caller), CALLER);
    for line in peer.drain() {
        end.link.handle(end.now, Input::Received(&line));
    }
    end.drain();
    assert!(end.link.is_up());
    let prefix = [&CALLER[..], &ANSWERER, &[0]].concat();
    while let [length, wait, rest @ ..] = script {
        let (frame, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        script = rest;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&prefix);
        hasher.update(frame);
        let mut line = vec![0x7E];
        for octet in frame.iter().copied().chain(hasher.finalize().to_be_bytes()) {
            match octet {
                0x7E | 0x7D => line.extend([0x7D, octet ^ 0x20]),
                _ => line.push(octet),
            }
        }
        line.push(0x7E);
        end.link.handle(end.now, Input::Received(&line));
        end.drain();
        end.advance(u64::from(*wait) * 20);
        end.drain();
        // Nobody has used any of it: no more is taken than there is room for.
        assert!(end.heard.len() as u64 <= WINDOW);
    }
}

/// Each byte says what happens to one transmission.
fn between(config: impl Fn(Role) -> Config, script: &[u8]) {
    let mut ends = [
        End::new(&config(Role::Caller), CALLER),
        End::new(&config(Role::Answerer), ANSWERER),
    ];
    let content: Vec<u8> = (0..4_000_u32).map(|index| (index % 253) as u8).collect();
    let mut said = [0, 0];
    let mut script = script.iter();
    let mut done = false;
    for _ in 0..30_000 {
        for one in 0..2 {
            let end = &mut ends[one];
            said[one] += end.link.send(end.now, &content[said[one]..]);
            if said[one] == content.len() {
                end.link.close(end.now);
            }
            for mut line in end.drain() {
                let what = script.next().copied().unwrap_or_default();
                let place = usize::from(what >> 2) * line.len() / 64;
                match what & 3 {
                    1 => line[place] ^= 1 << (what & 7),
                    2 => line.clear(),
                    3 => drop(line.drain(place..(place + 3).min(line.len()))),
                    _ => {}
                }
                let now = ends[1 - one].now;
                ends[1 - one].link.handle(now, Input::Received(&line));
            }
            ends[one].advance(60);
        }
        for end in &ends {
            assert!(content.starts_with(&end.heard), "what is heard is what was said");
            assert!(!end.ended || end.heard.len() == content.len(), "an end before the end");
        }
        done = ends.iter().all(|end| end.ended);
        if done || ends.iter().any(|end| end.down) {
            break;
        }
    }
    // An input ends, and with it the harm that it does; who was cut off long enough may have given up before.
    assert!(done || ends.iter().any(|end| end.down), "no end");
}
