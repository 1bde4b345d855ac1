//! A server that holds the right key and sends object parts as nobody should.

use super::download::content;
use super::office::{Office, blank_plan, call, call_cut};
use super::terminal::{ID, Kit, MAIN_KEY, Terminal};
use crate::world::NOW;
use tms_core::agent::{CallEnd, CallReport};
use tms_core::transport::memory;
use tms_proto::code::TriggerKind;
use tms_proto::derive::terminal_psk;
use tms_proto::digest::Digest;
use tms_proto::envelope::{Decoder, Envelope};
use tms_proto::handshake::{Hello, Kind, Mode, Responder, Suite};
use tms_proto::message::{Message, ObjectGet, ObjectStart, Plan};
use tms_proto::record::{Content, Records};
use tms_proto::secret::Secret;
use tms_proto::tlv::{Tag, Value, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What is wrong with the parts of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Overlap,
    Gap,
    Reordered,
    BeyondCredit,
    BeyondTheEnd,
    Empty,
    FromTheStart,
}

struct Rogue<'a> {
    line: DuplexStream,
    decoder: Decoder,
    records: Option<Records>,
    office: &'a Office,
    wrong: Wrong,
}

impl Rogue<'_> {
    async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return Some(frame.payload.to_vec());
            }
            let mut bytes = [0; 4096];
            match self.line.read(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.decoder.push(&bytes[..read]),
            }
        }
    }

    /// The terminal may hang up at any time.
    async fn send(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        Envelope::TCP.encode(None, payload, &mut out).unwrap();
        let _hung_up = self.line.write_all(&out).await;
    }

    async fn seal(&mut self, content: Content, body: &[u8]) {
        let mut sealed = Vec::new();
        self.records.as_mut().unwrap().seal(content, body, &mut sealed).unwrap();
        self.send(&sealed).await;
    }

    async fn say(&mut self, message: impl Into<Message>) {
        let encoded = message.into().to_vec();
        self.seal(Content::Message, &encoded).await;
    }

    async fn part(&mut self, object: &[u8], from: u64, until: u64) {
        let mut bytes = object.to_vec();
        bytes.resize(bytes.len().max(until as usize), 0);
        let body = [&from.to_be_bytes(), &bytes[from as usize..until as usize]].concat();
        self.seal(Content::Object, &body).await;
    }

    async fn serve(mut self) {
        let Some(first) = self.frame().await else { return };
        assert_eq!(first[0], Kind::HELLO);
        let (hello, used) = Hello::decode(&first[1..]).unwrap();
        assert_eq!(hello.mode, Mode::MainKey);
        let psk = terminal_psk(&Secret::new(MAIN_KEY), ID.0, 1);
        let encoded = &first[1..=used];
        let mut responder =
            Responder::new(encoded, Mode::MainKey, Suite::ChaChaPoly, None, Some(&psk), [9; 32]).unwrap();
        responder.first(&first[1 + used..]).unwrap();
        let mut payload = Writer::new();
        payload.uint(Tag(0x80), NOW);
        self.office.plan.write(Tag(0x62), &mut payload);
        let second = responder.second(&payload.into_vec()).unwrap();
        self.send(&[&[Kind::RESPONSE], second.as_slice()].concat()).await;
        self.records = Some(responder.finish().unwrap());
        while let Some(record) = self.frame().await {
            let (content, body) = self.records.as_mut().unwrap().open(&record).unwrap();
            if content != Content::Message {
                continue;
            }
            if let Message::ObjectGet(get) = Message::from_slice(&body).unwrap().message {
                self.object(&get).await;
            }
        }
    }

    async fn object(&mut self, get: &ObjectGet) {
        let object = self.office.objects[&get.digest].clone();
        let total = object.len() as u64;
        let at = get.offset;
        self.say(ObjectStart {
            digest: get.digest,
            offset: at,
            total,
            code: None,
        })
        .await;
        if total < 100_000 {
            return self.part(&object, at, total).await;
        }
        let parts: Vec<(u64, u64)> = match self.wrong {
            Wrong::Overlap => vec![(at, at + 8_000), (at + 4_000, at + 12_000)],
            Wrong::Gap => vec![(at, at + 8_000), (at + 9_000, at + 12_000)],
            Wrong::Reordered => vec![(at + 8_000, at + 16_000), (at, at + 8_000)],
            Wrong::BeyondCredit => (0..)
                .map(|part| (at + part * 16_000, at + (part + 1) * 16_000))
                .take(100)
                .collect(),
            Wrong::BeyondTheEnd => (0..)
                .map(|part| (at + part * 16_000, at + (part + 1) * 16_000))
                .take(20)
                .collect(),
            Wrong::Empty => vec![(at, at + 8_000), (at + 8_000, at + 8_000)],
            Wrong::FromTheStart => vec![(0, 8_000)],
        };
        for (from, until) in parts {
            self.part(&object, from, until).await;
        }
    }
}

async fn call_rogue(terminal: &mut Terminal, office: &Office, wrong: Wrong) -> CallReport {
    let (near, line) = memory::pair();
    let rogue = Rogue {
        line,
        decoder: Decoder::new(Envelope::TCP),
        records: None,
        office,
        wrong,
    };
    tokio::join!(terminal.agent.call(near, TriggerKind::Manual), rogue.serve()).0
}

#[tokio::test]
async fn parts_out_of_place_end_the_call_and_harm_nothing() {
    let cases = [
        Wrong::Overlap,
        Wrong::Gap,
        Wrong::Reordered,
        Wrong::BeyondCredit,
        Wrong::BeyondTheEnd,
        Wrong::Empty,
        Wrong::FromTheStart,
    ];
    for wrong in cases {
        // More than the credit of 1 MiB, for the one that goes beyond it.
        let content = content(if wrong == Wrong::BeyondCredit {
            1_500_000
        } else {
            200_000
        });
        let mut office = Office::new().await;
        office.assign(7, &content, |_| {}).await;
        let mut terminal = Kit::new().await.start().await;
        // It holds a piece already, so that it asks from the middle.
        call_cut(&mut terminal, &mut office, TriggerKind::PowerOn, 50_000).await;
        let held = office.last().gets.len();
        assert!(held >= 3);
        // The ticket is not for this server: the main key is.
        office.plan = Plan {
            sequence: office.plan.sequence + 1,
            ..office.plan.clone()
        };
        terminal.kit.clock.advance(31 * 86_400);
        let report = call_rogue(&mut terminal, &office, wrong).await;
        if wrong == Wrong::BeyondCredit {
            // The terminal grants more as it goes: what it has granted, it takes.
            assert!(
                matches!(report.end, CallEnd::Fault(_) | CallEnd::Broken(_)),
                "{wrong:?}: {report}"
            );
        } else {
            assert!(
                matches!(&report.end, CallEnd::Fault(why) if why.contains("out of place")),
                "{wrong:?}: {report}"
            );
        }
        assert_eq!(terminal.version().await, "1.0");

        // An honest server finds it whole, and brings it to its end.
        office.plan = Plan {
            sequence: office.plan.sequence + 1,
            ..blank_plan(0)
        }
        .clone();
        office.assign(8, &content, |_| {}).await;
        terminal.kit.clock.advance(86_400);
        office.time += 32 * 86_400;
        for _ in 0..2 {
            call(&mut terminal, &mut office, TriggerKind::Retry).await;
            terminal.work().await;
        }
        assert_eq!(terminal.version().await, "2.0", "{wrong:?}");
        let get = office
            .heard
            .iter()
            .flat_map(|heard| &heard.gets)
            .filter(|get| get.digest == Digest::of(&content));
        assert!(get.count() >= 2);
    }
}
