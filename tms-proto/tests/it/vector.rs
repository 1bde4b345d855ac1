//! The vectors (§14): files of name, hex and fields that other implementations can be held against.
//!
//! The tests verify them. `TMS_BLESS=1` writes them anew first, from [`samples`] and [`cases`]: what then differs under
//! version control is a change of the wire.

use crate::sample::samples;
use crate::structure::structures;
use bytes::Bytes;
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::path::PathBuf;
use tms_proto::code::*;
use tms_proto::digest::Digest;
use tms_proto::envelope::{Decoder, Envelope, EnvelopeError, EnvelopeErrorKind, LengthForm, Tpdu};
use tms_proto::message::*;
use tms_proto::secret::Secret;

/// Fields as people read them.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Number(i128),
    Flag(bool),
    List(Vec<Self>),
    Fields(Vec<(&'static str, Self)>),
}

impl Node {
    fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// On one line.
    fn inline(&self) -> String {
        match self {
            Self::Text(text) => Json::from(text.as_str()).to_string(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::inline).collect::<Vec<_>>().join(", ")),
            Self::Fields(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| format!("\"{name}\": {}", value.inline()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// On as many lines as it takes to keep them short.
    fn pretty(&self, indent: usize) -> String {
        let inline = self.inline();
        let (open, close, lines): (_, _, Vec<String>) = match self {
            _ if indent + inline.len() <= 100 => return inline,
            Self::List(items) => ('[', ']', items.iter().map(|item| item.pretty(indent + 2)).collect()),
            Self::Fields(fields) => {
                let line = |(name, value): &(&str, Self)| format!("\"{name}\": {}", value.pretty(indent + 2));
                ('{', '}', fields.iter().map(line).collect())
            }
            _ => return inline,
        };
        let mut out = String::from(open);
        for (index, line) in lines.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}\n{:1$}{line}", "", indent + 2).unwrap();
        }
        write!(out, "\n{:1$}{close}", "", indent).unwrap();
        out
    }

    fn json(&self) -> Json {
        serde_json::from_str(&self.inline()).unwrap()
    }
}

/// Something that can be shown; what is absent on the wire is absent here.
trait View {
    fn view(&self) -> Option<Node>;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl View for $type {
            fn view(&self) -> Option<Node> {
                Some(Node::Number(i128::from(*self)))
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, i16);

impl View for bool {
    fn view(&self) -> Option<Node> {
        Some(Node::Flag(*self))
    }
}

impl View for String {
    fn view(&self) -> Option<Node> {
        Some(Node::text(self))
    }
}

impl View for Bytes {
    fn view(&self) -> Option<Node> {
        Some(Node::text(hex::encode(self)))
    }
}

impl<const N: usize> View for [u8; N] {
    fn view(&self) -> Option<Node> {
        Some(Node::text(hex::encode(self)))
    }
}

impl<const N: usize> View for Secret<N> {
    fn view(&self) -> Option<Node> {
        self.expose().view()
    }
}

impl View for Digest {
    fn view(&self) -> Option<Node> {
        self.0.view()
    }
}

impl<T: View> View for Option<T> {
    fn view(&self) -> Option<Node> {
        self.as_ref().and_then(View::view)
    }
}

impl<T: View> View for Vec<T> {
    fn view(&self) -> Option<Node> {
        (!self.is_empty()).then(|| Node::List(self.iter().filter_map(View::view).collect()))
    }
}

macro_rules! codes {
    ($($type:ty),*) => {$(
        impl View for $type {
            fn view(&self) -> Option<Node> {
                Some(match self {
                    Self::Other(code) => Node::Number(i128::from(*code)),
                    known => Node::text(known.name()),
                })
            }
        }
    )*};
}

codes!(
    ActionKind,
    ComponentKind,
    ComponentStatus,
    ErrorAction,
    EventKind,
    RegisterIntent,
    Representation,
    ResultCode,
    Stage,
    TextStatus,
    TriggerKind
);

macro_rules! view {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl View for $name {
            fn view(&self) -> Option<Node> {
                let Self { $($field),* } = self;
                let fields = [$((stringify!($field), $field.view())),*];
                Some(Node::Fields(fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()))
            }
        }
    )*};
}

structures!(view);

fn fields(message: &Message) -> Node {
    let view = match message {
        Message::StatusReport(body) => body.view(),
        Message::Plan(body) => body.view(),
        Message::PlanAck(body) => body.view(),
        Message::ObjectGet(body) => body.view(),
        Message::Credit(body) => body.view(),
        Message::ObjectStart(body) => body.view(),
        Message::ActionResult(body) => body.view(),
        Message::ResultAck(body) => body.view(),
        Message::Text(body) => body.view(),
        Message::TextReceipt(body) => body.view(),
        Message::Register(body) => body.view(),
        Message::RegisterAnswer(body) => body.view(),
        Message::KeyRequest(body) => body.view(),
        Message::KeyBlock(body) => body.view(),
        Message::KeyConfirm(body) => body.view(),
        Message::LogPart(body) => body.view(),
        Message::Event(body) => body.view(),
        Message::Reject(body) => body.view(),
        Message::Bye(body) => body.view(),
        Message::CertificateRequest(body) => body.view(),
        Message::CertificateGrant(body) => body.view(),
        Message::ProofRequest(body) => body.view(),
        Message::Proof(body) => body.view(),
    };
    view.expect("a structure is never absent")
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(file)
}

/// The entries of a file, which `write` makes anew where that is asked for.
fn entries(file: &str, write: impl FnOnce() -> Node) -> Vec<Json> {
    if std::env::var_os("TMS_BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(path(file), write().pretty(0) + "\n").unwrap();
    }
    let text = std::fs::read_to_string(path(file)).expect("the vectors are there; TMS_BLESS=1 writes them");
    serde_json::from_str(&text).unwrap()
}

fn bytes(entry: &Json) -> Vec<u8> {
    hex::decode(entry["hex"].as_str().unwrap()).unwrap()
}

#[test]
fn messages() {
    let entries = entries("messages.json", || {
        let entry = |(name, message): (&'static str, Message)| {
            Node::Fields(vec![
                ("name", Node::text(name)),
                ("message", Node::text(message.name())),
                ("hex", Node::text(hex::encode(message.to_vec()))),
                ("fields", fields(&message)),
            ])
        };
        Node::List(samples().into_iter().map(entry).collect())
    });

    let samples = samples();
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        samples.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for (entry, (name, sample)) in entries.iter().zip(&samples) {
        let bytes = bytes(entry);
        let decoded = Message::from_slice(&bytes).unwrap();
        assert_eq!(decoded.unknown, 0, "{name}");
        assert_eq!(decoded.message, *sample, "{name}: the bytes say something else");
        assert_eq!(
            hex::encode(sample.to_vec()),
            hex::encode(&bytes),
            "{name}: the encoding changed"
        );
        assert_eq!(entry["message"], decoded.message.name(), "{name}");
        assert_eq!(
            entry["fields"],
            fields(&decoded.message).json(),
            "{name}: the fields say something else"
        );
    }
    for (kind, ..) in Message::TABLE {
        assert!(
            entries.iter().any(|entry| entry["message"] == *kind),
            "no vector for {kind}"
        );
    }
}

/// What one line of `envelopes.json` shows.
enum Case {
    /// A payload and the TPDU it goes with: written and read.
    Frame(Option<Tpdu>, &'static [u8]),
    /// A keep-alive as it is written.
    KeepAlive,
    /// A keep-alive as peers may write it.
    PeerKeepAlive(&'static str),
    /// Bytes that are refused, with the reason and the place.
    Refused(&'static str, EnvelopeErrorKind, u64),
}

fn cases() -> Vec<(&'static str, Envelope, Case)> {
    use EnvelopeErrorKind as Kind;
    const ROUTE: Tpdu = Tpdu {
        destination: [0x01, 0x34],
        source: [0x00, 0x07],
    };
    let payload = b"\x61\x03\x81\x01\x07";
    let inclusive = |envelope| Envelope {
        inclusive: true,
        ..envelope
    };
    let form = |length| Envelope {
        length,
        ..Envelope::TCP
    };
    let routed = |length| Envelope {
        length,
        ..Envelope::NAC
    };
    vec![
        ("tcp", Envelope::TCP, Case::Frame(None, payload)),
        ("tcp-keep-alive", Envelope::TCP, Case::KeepAlive),
        ("tcp-too-long", Envelope::TCP, Case::Refused("4041", Kind::TooLong, 0)),
        ("nac", Envelope::NAC, Case::Frame(Some(ROUTE), payload)),
        ("nac-reply", Envelope::NAC, Case::Frame(Some(ROUTE.swapped()), payload)),
        ("nac-keep-alive", Envelope::NAC, Case::KeepAlive),
        (
            "nac-keep-alive-with-tpdu",
            Envelope::NAC,
            Case::PeerKeepAlive("00056001340007"),
        ),
        (
            "nac-without-tpdu",
            Envelope::NAC,
            Case::Refused("000461038101", Kind::Length, 0),
        ),
        (
            "nac-other-id",
            Envelope::NAC,
            Case::Refused("000a68013400076103810107", Kind::Tpdu, 2),
        ),
        ("stx-bcd", Envelope::STX_BCD, Case::Frame(Some(ROUTE), payload)),
        (
            "stx-bcd-long",
            Envelope::STX_BCD,
            Case::Frame(Some(ROUTE), &[0x55; 300]),
        ),
        ("stx-bcd-keep-alive", Envelope::STX_BCD, Case::KeepAlive),
        (
            "stx-bcd-no-stx",
            Envelope::STX_BCD,
            Case::Refused("00106001340007", Kind::Stx, 0),
        ),
        (
            "stx-bcd-no-digits",
            Envelope::STX_BCD,
            Case::Refused("02000a6001340007", Kind::Length, 1),
        ),
        (
            "stx-bcd-no-etx",
            Envelope::STX_BCD,
            Case::Refused("0200066001340007aa0400", Kind::Etx, 9),
        ),
        (
            "stx-bcd-wrong-lrc",
            Envelope::STX_BCD,
            Case::Refused("0200066001340007aa0300", Kind::Lrc, 10),
        ),
        ("big-inclusive", inclusive(Envelope::TCP), Case::Frame(None, payload)),
        ("big-inclusive-keep-alive", inclusive(Envelope::TCP), Case::KeepAlive),
        (
            "big-inclusive-keep-alive-zero",
            inclusive(Envelope::TCP),
            Case::PeerKeepAlive("0000"),
        ),
        (
            "big-inclusive-below-itself",
            inclusive(Envelope::TCP),
            Case::Refused("000161", Kind::Length, 0),
        ),
        (
            "big-inclusive-tpdu",
            inclusive(Envelope::NAC),
            Case::Frame(Some(ROUTE), payload),
        ),
        ("little", form(LengthForm::Little16), Case::Frame(None, payload)),
        (
            "little-inclusive-tpdu",
            inclusive(routed(LengthForm::Little16)),
            Case::Frame(Some(ROUTE), payload),
        ),
        ("bcd", form(LengthForm::Bcd16), Case::Frame(None, &[0xAA; 16])),
        (
            "bcd-inclusive-stx",
            inclusive(Envelope::STX_BCD),
            Case::Frame(Some(ROUTE), payload),
        ),
        ("ascii", form(LengthForm::Ascii4), Case::Frame(None, &[0xAA; 16])),
        ("ascii-keep-alive", form(LengthForm::Ascii4), Case::KeepAlive),
        (
            "ascii-inclusive",
            inclusive(form(LengthForm::Ascii4)),
            Case::Frame(None, payload),
        ),
        (
            "ascii-inclusive-keep-alive",
            inclusive(form(LengthForm::Ascii4)),
            Case::KeepAlive,
        ),
        (
            "ascii-no-digits",
            form(LengthForm::Ascii4),
            Case::Refused("30303a30", Kind::Length, 0),
        ),
    ]
}

fn profile(envelope: &Envelope) -> Node {
    let length = match envelope.length {
        LengthForm::Big16 => "big-endian-16",
        LengthForm::Little16 => "little-endian-16",
        LengthForm::Bcd16 => "bcd-16",
        LengthForm::Ascii4 => "ascii-4",
    };
    Node::Fields(vec![
        ("length", Node::text(length)),
        ("inclusive", Node::Flag(envelope.inclusive)),
        ("tpdu", Node::Flag(envelope.tpdu.is_some())),
        ("delimited", Node::Flag(envelope.delimited)),
        ("max", Node::Number(envelope.max as i128)),
    ])
}

fn line(envelope: &Envelope, case: &Case) -> Vec<u8> {
    match case {
        Case::Frame(tpdu, payload) => {
            let mut out = Vec::new();
            envelope.encode(*tpdu, payload, &mut out).unwrap();
            out
        }
        Case::KeepAlive => envelope.keep_alive(),
        Case::PeerKeepAlive(line) | Case::Refused(line, ..) => hex::decode(line).unwrap(),
    }
}

/// What comes out, as the file names it.
fn outcome(envelope: Envelope, line: &[u8]) -> Vec<(&'static str, Node)> {
    let mut decoder = Decoder::new(envelope);
    decoder.push(line);
    let mut out = Vec::new();
    match decoder.next() {
        Ok(Some(frame)) => {
            out.extend(
                frame
                    .tpdu
                    .map(|tpdu| ("tpdu", Node::text(hex::encode(tpdu.to_bytes())))),
            );
            out.push(("payload", Node::text(hex::encode(frame.payload))));
        }
        Ok(None) => out.push(("keep_alives", Node::Number(decoder.keep_alives().into()))),
        Err(error) => {
            out.push(("error", Node::text(error.kind.to_string())));
            out.push(("offset", Node::Number(error.offset.into())));
        }
    }
    assert_eq!(decoder.buffered(), 0);
    out
}

#[test]
fn envelopes() {
    let entries = entries("envelopes.json", || {
        let entry = |(name, envelope, case): (&'static str, Envelope, Case)| {
            let line = line(&envelope, &case);
            let mut entry = vec![
                ("name", Node::text(name)),
                ("profile", profile(&envelope)),
                ("hex", Node::text(hex::encode(&line))),
            ];
            entry.extend(outcome(envelope, &line));
            Node::Fields(entry)
        };
        Node::List(cases().into_iter().map(entry).collect())
    });

    let cases = cases();
    assert_eq!(entries.len(), cases.len());
    for (entry, (name, envelope, case)) in entries.iter().zip(&cases) {
        assert_eq!(entry["name"], *name);
        assert_eq!(entry["profile"], profile(envelope).json(), "{name}");
        let bytes = bytes(entry);
        assert_eq!(
            hex::encode(line(envelope, case)),
            hex::encode(&bytes),
            "{name}: the encoding changed"
        );
        let outcome = outcome(*envelope, &bytes);
        let expected = match case {
            Case::Frame(tpdu, payload) => {
                let tpdu = tpdu.map(|tpdu| ("tpdu", Node::text(hex::encode(tpdu.to_bytes()))));
                tpdu.into_iter()
                    .chain([("payload", Node::text(hex::encode(payload)))])
                    .collect()
            }
            Case::KeepAlive | Case::PeerKeepAlive(_) => vec![("keep_alives", Node::Number(1))],
            Case::Refused(_, kind, offset) => {
                let error = EnvelopeError {
                    kind: *kind,
                    offset: *offset,
                };
                vec![
                    ("error", Node::text(error.kind.to_string())),
                    ("offset", Node::Number(error.offset.into())),
                ]
            }
        };
        assert_eq!(outcome, expected, "{name}");
        for (key, value) in outcome {
            assert_eq!(entry[key], value.json(), "{name}: {key}");
        }
    }
}
