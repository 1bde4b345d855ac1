//! Both sessions against a peer that holds the right keys and means no good.
//!
//! The first byte says how the peer speaks: raw bytes from the first one on, or an honest handshake and then anything at all
//! in sealed records, which is where a hostile peer with a stolen key gets.

use tms_proto::code::{ResultCode, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::envelope::Envelope;
use tms_proto::handshake::{Hello, Initiator, Kind, Mode, Responder, Suite};
use tms_proto::machine::{Input, Instant, Machine, Output};
use tms_proto::message::{Bye, Message, NextContact, Plan, PlanAck, StatusReport, Trigger};
use tms_proto::record::{Content, Records};
use tms_proto::secret::Psk;
use tms_proto::session::{
    Opening, ServerConfig, ServerEvent, ServerSession, TerminalConfig, TerminalEvent, TerminalSession,
};
use tms_proto::tlv::{Tag, Value, Writer};

/// Polls that one input may cause: more would be a loop.
const STEPS: usize = 4_096;

const TIME: u64 = 1_790_000_000;

/// The server's session (§8.2), under a terminal's attack.
pub fn server_session(data: &[u8]) {
    let Some((style, script)) = data.split_first() else {
        return;
    };
    let psk = Psk::new([7; 32]);
    let mut server = Driver::new(ServerSession::new(&ServerConfig::default(), Instant::default()));
    if *style & 1 == 0 {
        for piece in script.chunks(usize::from(*style >> 1) + 1) {
            server.receive(piece, |session, event| serve(session, event, &psk));
        }
    } else {
        let mut hello = Hello::new(Mode::Ticket, &[Suite::ChaChaPoly]);
        hello.id = Some(vec![1; 16].into());
        let hello = hello.encode();
        let mut initiator = Initiator::new(&hello, Mode::Ticket, Suite::ChaChaPoly, None, Some(&psk), [3; 32])
            .expect("the keys are the mode's");
        let report = element(0x61, &StatusReport::new(Trigger::of(TriggerKind::Manual), 1, TIME));
        let noise = initiator.first(&report).expect("the report fits");
        let first = [&[Kind::HELLO][..], &hello, &noise].concat();
        let answer = server.receive(&frame(&first), |session, event| serve(session, event, &psk));
        let Some(second) = answer.get(3..) else {
            panic!("an honest terminal was not answered")
        };
        initiator.second(second).expect("the server is honest");
        let mut records = initiator.finish().expect("the handshake is done");
        if *style & 2 != 0 {
            let ack = Message::from(PlanAck {
                sequence: 1,
                refused: Vec::new(),
            })
            .to_vec();
            server.receive(&sealed(&mut records, Content::Message, &ack), |session, event| {
                serve(session, event, &psk)
            });
        }
        for (content, body) in records_of(script) {
            server.receive(&sealed(&mut records, content, body), |session, event| {
                serve(session, event, &psk)
            });
        }
    }
    server.close(|session, event| serve(session, event, &psk));
}

/// The terminal's session (§8.1), under a server's attack.
pub fn terminal_session(data: &[u8]) {
    let Some((style, script)) = data.split_first() else {
        return;
    };
    let psk = Psk::new([7; 32]);
    let report = StatusReport::new(Trigger::of(TriggerKind::Manual), 1, TIME);
    let opening = Opening::Ticket {
        id: [1; 16],
        psk: &psk,
        report: &report,
    };
    let session = TerminalSession::new(&TerminalConfig::default(), &opening, [3; 32], Instant::default())
        .expect("the report fits");
    let mut terminal = Driver::new(session);
    let first = terminal.receive(&[], call);
    if *style & 1 == 0 {
        for piece in script.chunks(usize::from(*style >> 1) + 1) {
            terminal.receive(piece, call);
        }
    } else {
        let body = first.get(3..).unwrap_or_default();
        let (_, used) = Hello::decode(body).expect("the terminal's hello is sound");
        let (hello, noise) = body.split_at(used);
        let mut responder = Responder::new(hello, Mode::Ticket, Suite::ChaChaPoly, None, Some(&psk), [4; 32])
            .expect("the keys are the mode's");
        responder.first(noise).expect("the terminal is honest");
        let mut payload = Writer::new();
        TIME.write(Tag(0x80), &mut payload);
        if *style & 2 != 0 {
            payload.raw(&element(0x62, &plan()));
        }
        let second = responder.second(&payload.into_vec()).expect("the plan fits");
        let mut records = responder.finish().expect("the handshake is done");
        terminal.receive(&frame(&[&[Kind::RESPONSE][..], &second].concat()), call);
        for (content, body) in records_of(script) {
            terminal.receive(&sealed(&mut records, content, body), call);
        }
    }
    terminal.close(call);
}

/// A caller of the server's session that does what it is asked.
fn serve(session: &mut ServerSession, event: ServerEvent, psk: &Psk) -> bool {
    let now = Instant::default();
    match event {
        ServerEvent::Hello(hello) if hello.mode == Mode::Ticket => {
            session
                .admit(now, None, Some(psk), TIME, [5; 32])
                .expect("somebody waits");
        }
        ServerEvent::Hello(_) => session.refuse(now, ResultCode::SecurityError).expect("somebody waits"),
        ServerEvent::Report(_) => session.plan(now, plan()).expect("a report waits"),
        ServerEvent::Get(_) => session.start(now, 40_000, None).expect("an object was asked for"),
        ServerEvent::Part { offset, max, .. } => {
            assert!(max > 0 && offset < 40_000, "a part that is not there was asked for");
            session.part(now, &vec![0; max]).expect("a part was asked for");
        }
        ServerEvent::Message(Message::Bye(_)) => {
            session
                .bye(
                    now,
                    Bye {
                        code: ResultCode::Success,
                        next_contact: None,
                    },
                )
                .expect("the terminal said goodbye");
        }
        ServerEvent::Identify { .. } | ServerEvent::PlanAck(_) | ServerEvent::Message(_) => {}
        ServerEvent::Ended(_) => return true,
    }
    false
}

/// A caller of the terminal's session that downloads what it can.
fn call(session: &mut TerminalSession, event: TerminalEvent) -> bool {
    let now = Instant::default();
    match event {
        TerminalEvent::Plan { plan, .. } => {
            session
                .send(
                    now,
                    PlanAck {
                        sequence: plan.sequence,
                        refused: Vec::new(),
                    },
                )
                .expect("a plan came");
            session
                .download(now, Digest::of(b"object"), 10, 5_000)
                .expect("the plan is acknowledged");
        }
        TerminalEvent::ObjectPart { offset, bytes, .. } => {
            assert!(
                offset >= 10 && offset + bytes.len() as u64 <= 5_000,
                "a part beyond the credit was let through"
            );
        }
        TerminalEvent::Ended(_) => return true,
        _ => {}
    }
    false
}

/// A session, and whether it has ended: nothing may come after its end.
struct Driver<M> {
    machine: M,
    ended: bool,
}

impl<M: Machine> Driver<M> {
    const fn new(machine: M) -> Self {
        Self { machine, ended: false }
    }

    /// Gives bytes in, answers every event, and gives what came out.
    fn receive(&mut self, bytes: &[u8], answer: impl FnMut(&mut M, M::Event) -> bool) -> Vec<u8> {
        if !bytes.is_empty() {
            self.machine.handle(Instant::default(), Input::Received(bytes));
        }
        self.run(answer)
    }

    /// Closes the line: the session must end.
    fn close(&mut self, answer: impl FnMut(&mut M, M::Event) -> bool) {
        self.machine.handle(Instant::default(), Input::Closed);
        self.run(answer);
        assert!(self.ended, "a closed line did not end the session");
        assert!(matches!(self.machine.poll(), Output::Close));
    }

    fn run(&mut self, mut answer: impl FnMut(&mut M, M::Event) -> bool) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..STEPS {
            match self.machine.poll() {
                Output::Transmit(bytes) => out.extend_from_slice(&bytes),
                Output::Event(event) => {
                    assert!(!self.ended, "an event after the end");
                    self.ended = answer(&mut self.machine, event);
                }
                Output::Wait(_) | Output::Close => return out,
            }
        }
        panic!("the session does not come to rest");
    }
}

fn plan() -> Plan {
    Plan {
        sequence: 1,
        unchanged: None,
        actions: Vec::new(),
        texts: Vec::new(),
        wanted: None,
        next_contact: NextContact::at(TIME, 60),
        ticket: None,
        not_after: None,
        withdrawn_texts: Vec::new(),
    }
}

/// The records that a script asks for: content, two bytes of length, body.
fn records_of(mut script: &[u8]) -> impl Iterator<Item = (Content, &[u8])> {
    std::iter::from_fn(move || {
        let [content, high, low, rest @ ..] = script else {
            return None;
        };
        let length = (usize::from(*high & 0x3F) << 8 | usize::from(*low)).min(rest.len());
        let (body, after) = rest.split_at(length);
        script = after;
        Some((Content::from_code(*content & 3).unwrap_or(Content::Object), body))
    })
}

fn element<T: Value>(tag: u32, value: &T) -> Vec<u8> {
    let mut out = Writer::new();
    value.write(Tag(tag), &mut out);
    out.into_vec()
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Envelope::TCP
        .encode(None, payload, &mut out)
        .expect("the payload is small");
    out
}

fn sealed(records: &mut Records, content: Content, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    records.seal(content, body, &mut record).expect("the body is small");
    frame(&record)
}
