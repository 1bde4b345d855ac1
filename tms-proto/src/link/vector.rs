//! The vectors of the link (§14): `TMS_BLESS=1` writes them anew.

use super::check::{Check, SIZE};
use super::coding::{Coding, Deframer, EscapeMap, FLAG, read_seven};
use super::frame::{Frame, Piece, Status};
use super::greeting::{Greeting, Path};
use super::{Config, Link, LinkEvent, MAX_PAYLOAD, Role};
use crate::machine::{Input, Instant, Machine, Output};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use serde_json::{Value, json};

const CALLER: [u8; 4] = [0x0A, 0x0B, 0x0C, 0x0D];
const ANSWERER: [u8; 4] = [0x1A, 0x1B, 0x1C, 0x1D];

fn prefix(seven: bool, half: bool) -> Vec<u8> {
    let mode = u8::from(seven) | u8::from(half) << 1;
    [&CALLER[..], &ANSWERER, &[mode]].concat()
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Caller => "caller",
        Role::Answerer => "answerer",
    }
}

fn map(map: EscapeMap) -> Value {
    json!({ "controls": format!("{:08x}", map.controls), "high": map.high, "deletes": map.deletes })
}

fn fields(frame: &Frame<'_>) -> Value {
    let piece = |kind: &str, piece: &Piece<'_>| json!({ "kind": kind, "counter": piece.counter, "offset": piece.offset, "payload": hex::encode(piece.bytes) });
    match frame {
        Frame::Data(data) => piece("data", data),
        Frame::Last(last) => piece("last", last),
        Frame::Status(status) => json!({
            "kind": "status", "heard": status.heard, "next": status.next, "room": status.room,
            "before": hex::encode(status.before.to_le_bytes()), "ask": status.ask, "over": status.over,
        }),
    }
}

fn framed(title: &str, role: Role, frame: &Frame<'_>, seven: bool, half: bool, escape: EscapeMap) -> Value {
    let prefix = prefix(seven, half);
    let mut body = frame.write(role);
    body.extend(Check::after(&prefix).of(&body).to_be_bytes());
    let mut line = Vec::new();
    let coding = if seven { Coding::Seven } else { Coding::Eight(escape) };
    coding.write(&body, &mut line);
    line.push(FLAG);
    json!({
        "name": title, "hex": hex::encode(line), "coding": if seven { "seven" } else { "eight" }, "map": map(escape),
        "call": { "caller": hex::encode(CALLER), "answerer": hex::encode(ANSWERER), "prefix": hex::encode(prefix) },
        "from": name(role), "frame": fields(frame),
    })
}

fn greeted(title: &str, greeting: &Greeting) -> Value {
    let mut view = json!({
        "version": greeting.version, "nonce": hex::encode(greeting.nonce), "seven": greeting.seven, "turns": greeting.half,
        "payload": greeting.payload,
    });
    if let Some(echo) = greeting.echo {
        view["echo"] = hex::encode(echo).into();
    }
    if greeting.escape != EscapeMap::NONE {
        view["map"] = map(greeting.escape);
    }
    json!({ "name": title, "hex": hex::encode(greeting.write()), "from": name(greeting.role), "greeting": view })
}

/// A whole short call, each transmission of each end in the order in which it is made.
fn call() -> Value {
    let now = Instant::from_millis(0);
    let mut ends = [
        (Link::new(&Config::new(Role::Caller), CALLER, now), Role::Caller),
        (Link::new(&Config::new(Role::Answerer), ANSWERER, now), Role::Answerer),
    ];
    let mut flights = Vec::new();
    let mut heard = [Vec::new(), Vec::new()];
    ends[0].0.send(now, b"hello");
    ends[0].0.close(now);
    ends[1].0.send(now, b"hello to you, too");
    ends[1].0.close(now);
    for step in 0..20 {
        let (one, now) = (step % 2, Instant::from_millis(100 * step));
        let one = usize::try_from(one).unwrap();
        let mut line = Vec::new();
        ends[one].0.handle(now, Input::Timeout);
        loop {
            match ends[one].0.poll() {
                Output::Transmit(bytes) => line.extend(bytes),
                Output::Event(LinkEvent::Received(bytes)) => heard[one].extend(bytes),
                Output::Event(_) => {}
                Output::Wait(_) | Output::Close => break,
            }
        }
        ends[1 - one].0.handle(now, Input::Received(&line));
        if !line.is_empty() && flights.len() < 8 {
            flights.push(json!({ "from": name(ends[one].1), "hex": hex::encode(line) }));
        }
    }
    assert_eq!(heard, [b"hello to you, too".to_vec(), b"hello".to_vec()]);
    json!({ "name": "call", "flights": flights })
}

fn vectors() -> Vec<Value> {
    let piece = |counter, offset, bytes| Piece { counter, offset, bytes };
    let status = Status {
        heard: 127,
        before: u64::MAX,
        next: 0,
        room: 255,
        ask: false,
        over: false,
    };
    let plain = Greeting::new(Role::Caller, CALLER);
    let eight = |title: &str, role, frame: &Frame<'_>| framed(title, role, frame, false, false, EscapeMap::NONE);
    let all: Vec<u8> = (0..=255).collect();
    vec![
        greeted("greeting", &plain),
        greeted(
            "greeting-with-everything",
            &Greeting {
                echo: Some(CALLER),
                seven: true,
                half: true,
                escape: EscapeMap {
                    deletes: true,
                    ..EscapeMap::XON_XOFF
                },
                payload: 512,
                ..Greeting::new(Role::Answerer, ANSWERER)
            },
        ),
        eight("data", Role::Caller, &Frame::Data(piece(0, 0, b"hello"))),
        eight(
            "data-answerer",
            Role::Answerer,
            &Frame::Data(piece(127, 0x7FFF, b"hello")),
        ),
        eight(
            "data-escapes",
            Role::Caller,
            &Frame::Data(piece(0x55, 0x1234, b"+++ATH0\r+++++~}")),
        ),
        framed(
            "data-map",
            Role::Answerer,
            &Frame::Data(piece(1, 5, &all)),
            false,
            false,
            EscapeMap {
                deletes: true,
                ..EscapeMap::XON_XOFF
            },
        ),
        framed(
            "data-seven",
            Role::Caller,
            &Frame::Data(piece(1, 5, &all)),
            true,
            false,
            EscapeMap::NONE,
        ),
        eight("last", Role::Caller, &Frame::Last(piece(2, 5, b"bye"))),
        eight("last-empty", Role::Answerer, &Frame::Last(piece(3, 8, b""))),
        eight("status-first", Role::Answerer, &Frame::Status(status)),
        eight(
            "status-gaps",
            Role::Answerer,
            &Frame::Status(Status {
                heard: 9,
                before: !0b1010_0000_0001,
                next: 0x8001,
                room: 17,
                ask: true,
                ..status
            }),
        ),
        framed(
            "status-over",
            Role::Caller,
            &Frame::Status(Status {
                heard: 64,
                over: true,
                ..status
            }),
            false,
            true,
            EscapeMap::NONE,
        ),
        call(),
    ]
}

/// What stands between the flags of a line that has one frame.
fn body(line: &[u8]) -> Vec<u8> {
    let mut deframer = Deframer::new(2_000);
    let mut bodies = line.iter().filter_map(|octet| deframer.push(*octet));
    let body = bodies.next().unwrap();
    assert!(bodies.next().is_none());
    body
}

#[test]
fn the_vectors_are_what_is_written_and_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/links.json");
    let made = vectors();
    if std::env::var_os("TMS_BLESS").is_some_and(|bless| bless == "1") {
        let lines: Vec<String> = made.iter().map(|vector| format!("  {vector}")).collect();
        std::fs::write(path, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    let kept: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(kept, made, "TMS_BLESS=1 writes them");
    for vector in kept {
        let Some(line) = vector["hex"].as_str().map(|line| hex::decode(line).unwrap()) else {
            continue;
        };
        let mut body = body(&line);
        if vector["greeting"].is_object() {
            let (greeting, path) = Greeting::read(&body).unwrap();
            assert_eq!(path, Path::Eight);
            assert!(greeting.payload <= MAX_PAYLOAD);
            assert_eq!(greeted(vector["name"].as_str().unwrap(), &greeting), vector);
            continue;
        }
        if vector["coding"] == "seven" {
            body = read_seven(&body).unwrap();
        }
        let prefix = hex::decode(vector["call"]["prefix"].as_str().unwrap()).unwrap();
        Check::after(&prefix).open(&mut body).unwrap();
        let (role, frame) = Frame::read(&body[..body.len() - SIZE]).unwrap();
        assert_eq!(
            (name(role), fields(&frame)),
            (vector["from"].as_str().unwrap(), vector["frame"].clone())
        );
    }
}
