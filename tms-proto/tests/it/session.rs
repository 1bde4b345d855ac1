//! Both sessions against each other, over a line that the test holds in its hands.

use crate::fixture::{self, Party};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use tms_proto::code::{ResultCode, Stage, TriggerKind};
use tms_proto::credential::{Checks, Credentials, VerifiedPeer};
use tms_proto::digest::Digest;
use tms_proto::envelope::{Envelope, Tpdu};
use tms_proto::machine::{Input, Instant, Machine, Output};
use tms_proto::message::{
    ActionResult, Bye, Component, Inventory, LogicalTerminal, Message, NextContact, Plan, PlanAck, Reject, ResultAck,
    StatusReport, Ticket, Trigger,
};
use tms_proto::secret::Psk;
use tms_proto::session::{
    End, Fault, Misuse, Opening, Presented, ServerConfig, ServerEvent, ServerIdentity, ServerSession, TerminalConfig,
    TerminalEvent, TerminalSession,
};

/// Two sessions and the bytes between them. Everything that goes over the line is counted and can be changed.
pub(crate) struct Pair {
    pub(crate) terminal: TerminalSession,
    pub(crate) server: ServerSession,
    pub(crate) now: Instant,
    pub(crate) to_server: VecDeque<u8>,
    pub(crate) to_terminal: VecDeque<u8>,
    pub(crate) bytes: usize,
    pub(crate) chunk: usize,
}

impl Pair {
    pub(crate) fn new(config: &TerminalConfig, server: &ServerConfig, opening: &Opening<'_>) -> Self {
        let now = Instant::from_millis(1_000);
        Self {
            terminal: TerminalSession::new(config, opening, [7; 32], now).unwrap(),
            server: ServerSession::new(server, now),
            now,
            to_server: VecDeque::new(),
            to_terminal: VecDeque::new(),
            bytes: 0,
            chunk: usize::MAX,
        }
    }

    /// Lets everything flow that flows without the callers, and gives the next event of either side.
    pub(crate) fn step(&mut self) -> Option<Side> {
        loop {
            let terminal = self.terminal.poll();
            match terminal {
                Output::Transmit(bytes) => {
                    self.bytes += bytes.len();
                    self.to_server.extend(bytes);
                    continue;
                }
                Output::Event(event) => return Some(Side::Terminal(event)),
                Output::Wait(_) | Output::Close => {}
            }
            match self.server.poll() {
                Output::Transmit(bytes) => {
                    self.bytes += bytes.len();
                    self.to_terminal.extend(bytes);
                    continue;
                }
                Output::Event(event) => return Some(Side::Server(event)),
                Output::Wait(_) | Output::Close => {}
            }
            if !self.to_server.is_empty() {
                let chunk: Vec<u8> = drain(&mut self.to_server, self.chunk);
                self.server.handle(self.now, Input::Received(&chunk));
            } else if !self.to_terminal.is_empty() {
                let chunk: Vec<u8> = drain(&mut self.to_terminal, self.chunk);
                self.terminal.handle(self.now, Input::Received(&chunk));
            } else {
                return None;
            }
        }
    }
}

fn drain(queue: &mut VecDeque<u8>, chunk: usize) -> Vec<u8> {
    let length = queue.len().min(chunk);
    queue.drain(..length).collect()
}

#[derive(Debug)]
pub(crate) enum Side {
    Terminal(TerminalEvent),
    Server(ServerEvent),
}

/// What the two callers do in a plain check-in, and what came of it.
pub(crate) struct Script<'a> {
    pub(crate) psk: Option<&'a Psk>,
    pub(crate) identity: Option<&'a ServerIdentity>,
    pub(crate) server: Option<&'a Party>,
    pub(crate) terminal: Option<&'a Party>,
    /// The server remembers the terminal, and the other way round.
    pub(crate) remembered: bool,
    pub(crate) report: StatusReport,
    pub(crate) plan: Plan,
    pub(crate) content: Vec<u8>,
    pub(crate) window: u64,
}

#[derive(Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Option<StatusReport>,
    pub(crate) plan: Option<Plan>,
    pub(crate) acknowledged: bool,
    pub(crate) recorded: bool,
    pub(crate) received: Vec<u8>,
    pub(crate) parts: usize,
    pub(crate) granted: u64,
    pub(crate) terminal_end: Option<End>,
    pub(crate) server_end: Option<End>,
    pub(crate) largest_queue: usize,
}

impl Script<'_> {
    pub(crate) fn run(&self, pair: &mut Pair) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(side) = pair.step() {
            outcome.largest_queue = outcome.largest_queue.max(pair.to_terminal.len());
            match side {
                Side::Terminal(event) => self.terminal_event(pair, event, &mut outcome),
                Side::Server(event) => self.server_event(pair, event, &mut outcome),
            }
        }
        outcome
    }

    pub(crate) fn terminal_event(&self, pair: &mut Pair, event: TerminalEvent, outcome: &mut Outcome) {
        let now = pair.now;
        match event {
            TerminalEvent::Server {
                presented, static_key, ..
            } => {
                let (server, terminal) = (self.server.unwrap(), self.terminal.unwrap());
                let checks = Checks::of_server(Some(fixture::NOW), 0);
                let peer = match presented {
                    Presented::Full(bytes) => {
                        let credentials = Credentials::decode(&bytes).unwrap();
                        let role = tms_proto::code::Role::Server;
                        credentials
                            .verify(&fixture::anchors(), role, static_key, &checks)
                            .unwrap()
                    }
                    Presented::Remembered(id) => {
                        assert_eq!(id, server.credentials.id());
                        VerifiedPeer::remembered(server.remembered(), static_key, &checks).unwrap()
                    }
                };
                let presented = if self.remembered {
                    Presented::Remembered(terminal.credentials.id())
                } else {
                    Presented::Full(terminal.credentials.encode().clone())
                };
                pair.terminal.identify(now, &peer, &presented, &self.report).unwrap();
            }
            TerminalEvent::Plan { plan, time } => {
                assert_eq!(time, fixture::NOW);
                pair.terminal
                    .send(
                        now,
                        PlanAck {
                            sequence: plan.sequence,
                            refused: Vec::new(),
                        },
                    )
                    .unwrap();
                match plan.actions.first().and_then(|action| action.object) {
                    Some(object) => pair.terminal.download(now, object, 0, self.window).unwrap(),
                    None => pair.terminal.bye(now, ResultCode::Success).unwrap(),
                }
                outcome.plan = Some(*plan);
            }
            TerminalEvent::Recorded => outcome.recorded = true,
            TerminalEvent::ObjectStart(start) => assert_eq!(start.code, None),
            TerminalEvent::ObjectPart { offset, bytes, last } => {
                assert_eq!(offset, outcome.received.len() as u64);
                outcome.received.extend_from_slice(&bytes);
                outcome.parts += 1;
                let got = outcome.received.len() as u64;
                if last {
                    pair.terminal.send(now, result(1, Stage::Downloaded)).unwrap();
                } else if outcome.granted.max(self.window) < got + self.window / 2 {
                    outcome.granted = got + self.window;
                    pair.terminal.grant(now, outcome.granted).unwrap();
                }
            }
            TerminalEvent::ResultAck(ack) => {
                assert_eq!(ack.numbers, [1]);
                pair.terminal.bye(now, ResultCode::Success).unwrap();
            }
            TerminalEvent::Ended(end) => outcome.terminal_end = Some(end),
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(crate) fn server_event(&self, pair: &mut Pair, event: ServerEvent, outcome: &mut Outcome) {
        let now = pair.now;
        match event {
            ServerEvent::Hello(_) => {
                pair.server
                    .admit(now, self.identity, self.psk, fixture::NOW, [9; 32])
                    .unwrap();
            }
            ServerEvent::Identify { presented, static_key } => {
                let terminal = self.terminal.unwrap();
                let checks = Checks::of_terminal(fixture::NOW, 0);
                let peer = match presented {
                    Presented::Full(bytes) => {
                        let credentials = Credentials::decode(&bytes).unwrap();
                        let role = tms_proto::code::Role::Terminal;
                        credentials
                            .verify(&fixture::anchors(), role, static_key, &checks)
                            .unwrap()
                    }
                    Presented::Remembered(id) => {
                        assert_eq!(id, terminal.credentials.id());
                        VerifiedPeer::remembered(terminal.remembered(), static_key, &checks).unwrap()
                    }
                };
                pair.server.accept(now, &peer).unwrap();
            }
            ServerEvent::Report(report) => {
                outcome.report = Some(*report);
                pair.server.plan(now, self.plan.clone()).unwrap();
            }
            ServerEvent::PlanAck(_) => outcome.acknowledged = true,
            ServerEvent::Get(_) => pair.server.start(now, self.content.len() as u64, None).unwrap(),
            ServerEvent::Part { offset, max, .. } => {
                let offset = offset as usize;
                let end = (offset + max).min(self.content.len());
                pair.server.part(now, &self.content[offset..end]).unwrap();
            }
            ServerEvent::Message(Message::ActionResult(result)) => {
                pair.server
                    .send(
                        now,
                        ResultAck {
                            numbers: vec![result.number],
                            next_contact: None,
                        },
                    )
                    .unwrap();
            }
            ServerEvent::Message(Message::Bye(_)) => {
                pair.server
                    .bye(
                        now,
                        Bye {
                            code: ResultCode::Success,
                            next_contact: None,
                        },
                    )
                    .unwrap();
            }
            ServerEvent::Ended(end) => outcome.server_end = Some(end),
            other @ ServerEvent::Message(_) => panic!("unexpected {other:?}"),
        }
    }
}

pub(crate) fn psk() -> Psk {
    Psk::new([42; 32])
}

pub(crate) fn report() -> StatusReport {
    let mut report = StatusReport::new(Trigger::of(TriggerKind::Schedule), 321, fixture::NOW - 3);
    report.plan = Some(17);
    report
}

pub(crate) fn unchanged() -> Plan {
    Plan {
        sequence: 17,
        unchanged: Some(true),
        actions: Vec::new(),
        texts: Vec::new(),
        wanted: None,
        next_contact: NextContact::at(fixture::NOW + 86_400, 3_600),
        ticket: Some(Ticket {
            id: [3; 16],
            key: Psk::new([4; 32]),
            lifetime: 5_184_000,
        }),
        not_after: None,
        withdrawn_texts: Vec::new(),
    }
}

pub(crate) fn result(number: u32, stage: Stage) -> ActionResult {
    ActionResult {
        number,
        action: 1,
        attempt: 1,
        stage,
        code: ResultCode::Success,
        vendor_code: None,
        text: None,
        time: fixture::NOW,
        bytes: None,
        running: None,
    }
}

/// An inventory of eight components, as a first contact reports it.
pub(crate) fn inventory() -> Inventory {
    let names = ["os", "mdw", "emv", "main", "bank", "loyalty", "fuel", "printer"];
    let components = names.iter().enumerate().map(|(index, name)| Component {
        id: (*name).to_owned(),
        kind: tms_proto::code::ComponentKind::Application,
        version: format!("2.{index}.13"),
        counter: Some(index as u32 + 3),
        status: tms_proto::code::ComponentStatus::InOperation,
        digest: Some(Digest::of(name.as_bytes())),
        serial: None,
        expiry: None,
        provider: None,
    });
    Inventory {
        components: components.collect(),
        ..Inventory::default()
    }
}

fn ticket_script(psk: &Psk) -> Script<'_> {
    Script {
        psk: Some(psk),
        identity: None,
        server: None,
        terminal: None,
        remembered: false,
        report: report(),
        plan: unchanged(),
        content: Vec::new(),
        window: 4_096,
    }
}

fn ticket_pair(script: &Script<'_>, config: &TerminalConfig, server: &ServerConfig) -> Pair {
    let opening = Opening::Ticket {
        id: [3; 16],
        psk: script.psk.unwrap(),
        report: &script.report,
    };
    Pair::new(config, server, &opening)
}

fn assert_clean(outcome: &Outcome) {
    assert!(
        matches!(outcome.terminal_end, Some(End::Bye(_))),
        "{:?}",
        outcome.terminal_end
    );
    assert!(
        matches!(outcome.server_end, Some(End::Bye(_))),
        "{:?}",
        outcome.server_end
    );
    assert!(outcome.acknowledged && outcome.recorded);
}

/// §13: a check-in with nothing to do, mode 3.
#[test]
fn ticket_check_in_stays_in_its_byte_budget() {
    let psk = psk();
    let script = ticket_script(&psk);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    let outcome = script.run(&mut pair);
    assert_clean(&outcome);
    assert_eq!(outcome.report, Some(report()));
    assert_eq!(outcome.plan, Some(unchanged()));
    println!("mode 3, nothing to do: {} bytes", pair.bytes);
    assert!(pair.bytes <= 360, "{} bytes", pair.bytes);
}

/// §13: the same in mode 1 with both sides remembered; and the first contact, nothing remembered, eight components.
#[test]
fn rsa_check_ins_stay_in_their_byte_budgets() {
    let (server, terminal) = (fixture::server(), fixture::terminal());
    let identity = server.identity();
    let run = |remembered: bool, report: StatusReport| {
        let script = Script {
            psk: None,
            identity: Some(&identity),
            server: Some(&server),
            terminal: Some(&terminal),
            remembered,
            report,
            plan: unchanged(),
            content: Vec::new(),
            window: 4_096,
        };
        let opening = Opening::Rsa {
            static_key: &terminal.static_key,
            remembered: remembered.then(|| server.credentials.id()),
        };
        let mut pair = Pair::new(&TerminalConfig::default(), &ServerConfig::default(), &opening);
        let outcome = script.run(&mut pair);
        assert_clean(&outcome);
        pair.bytes
    };
    let bytes = run(true, report());
    println!("mode 1, both remembered, nothing to do: {bytes} bytes");
    assert!(bytes <= 560, "{bytes} bytes");

    let mut first = report();
    first.plan = None;
    first.inventory = Some(inventory());
    first.inventory_digest = inventory().digest();
    first.logical = vec![LogicalTerminal {
        merchant: "898310060514001".to_owned(),
        terminal: "10000001".to_owned(),
        application: None,
    }];
    let bytes = run(false, first);
    println!("mode 1, nothing remembered, eight components: {bytes} bytes");
    assert!(bytes <= 2_900, "{bytes} bytes");
}

/// §13: what a download costs beyond its content, with large and with small records.
#[test]
fn downloads_stay_in_their_byte_budgets() {
    for (max_record, window, permille) in [(16_384, 1 << 18, 3), (1_024, 1 << 16, 30)] {
        let (outcome, spent, size) = download(max_record, window, 1_000_000, usize::MAX);
        assert_clean(&outcome);
        let overhead = spent - size;
        println!("{max_record}-byte records: {overhead} bytes more than {size}");
        assert!(overhead * 1_000 <= size * permille, "{overhead} bytes beyond {size}");
    }
}

/// Runs a check-in with a download; gives the bytes that the download took, without what the check-in takes anyway.
fn download(max_record: u16, window: u64, size: usize, chunk: usize) -> (Outcome, usize, usize) {
    let psk = psk();
    let content: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
    let mut script = ticket_script(&psk);
    script.plan = plan_with(&content);
    script.window = window;
    script.content = content.clone();
    let config = TerminalConfig {
        max_record,
        ..TerminalConfig::default()
    };
    let mut pair = ticket_pair(&script, &config, &ServerConfig::default());
    pair.chunk = chunk;
    let outcome = script.run(&mut pair);
    assert_eq!(outcome.received, content);
    let mut plain = ticket_script(&psk);
    plain.plan = script.plan.clone();
    plain.plan.actions.clear();
    let mut without = ticket_pair(&plain, &TerminalConfig::default(), &ServerConfig::default());
    plain.run(&mut without);
    (outcome, pair.bytes - without.bytes, content.len())
}

pub(crate) fn plan_with(content: &[u8]) -> Plan {
    let mut plan = unchanged();
    plan.unchanged = None;
    plan.actions = vec![fixture::action(1, Digest::of(content), content.len() as u64)];
    plan
}

#[test]
fn main_key_and_both_modes_check_in() {
    let (server, terminal, psk) = (fixture::server(), fixture::terminal(), psk());
    let identity = server.identity();
    let base = Script {
        psk: Some(&psk),
        identity: None,
        server: None,
        terminal: None,
        remembered: false,
        report: report(),
        plan: unchanged(),
        content: Vec::new(),
        window: 4_096,
    };
    let opening = Opening::MainKey {
        terminal: 5,
        epoch: 2,
        psk: &psk,
        report: &base.report,
    };
    let outcome = base.run(&mut Pair::new(
        &TerminalConfig::default(),
        &ServerConfig::default(),
        &opening,
    ));
    assert_clean(&outcome);

    let both = Script {
        identity: Some(&identity),
        server: Some(&server),
        terminal: Some(&terminal),
        ..base
    };
    let opening = Opening::Both {
        static_key: &terminal.static_key,
        remembered: None,
        terminal: 5,
        epoch: 2,
        psk: &psk,
    };
    let outcome = both.run(&mut Pair::new(
        &TerminalConfig::default(),
        &ServerConfig::default(),
        &opening,
    ));
    assert_clean(&outcome);
}

/// Envelopes, chunking and small records change nothing of what is said.
#[test]
fn every_profile_and_chunking_carries_a_session() {
    let psk = psk();
    let route = Tpdu {
        destination: [0x01, 0x34],
        source: [0x00, 0x01],
    };
    for (envelope, tpdu) in [
        (Envelope::TCP, None),
        (Envelope::NAC, Some(route)),
        (Envelope::STX_BCD, Some(route)),
    ] {
        for chunk in [1, 7, 1_000, usize::MAX] {
            let mut script = ticket_script(&psk);
            script.content = vec![0x5A; 10_000];
            script.plan = plan_with(&script.content);
            let config = TerminalConfig {
                envelope,
                tpdu,
                max_record: 512,
                ..TerminalConfig::default()
            };
            let mut pair = ticket_pair(
                &script,
                &config,
                &ServerConfig {
                    envelope,
                    ..ServerConfig::default()
                },
            );
            pair.chunk = chunk;
            let outcome = script.run(&mut pair);
            assert_clean(&outcome);
            assert_eq!(outcome.received, script.content);
        }
    }
}

/// §9.2: the server never runs ahead of the credit, so neither side holds more than a window.
#[test]
fn credit_bounds_what_is_on_the_line() {
    let (outcome, ..) = download(1_024, 4_096, 200_000, usize::MAX);
    assert!(outcome.parts >= 190);
    assert!(outcome.largest_queue <= 4_096 + 8 * 32, "{}", outcome.largest_queue);
}

/// §8.4: until the plan is acknowledged, a mode-3 caller may be a replay; what comes first must be the acknowledgement.
#[test]
fn nothing_comes_before_the_acknowledgement() {
    let psk = psk();
    let script = ticket_script(&psk);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    loop {
        match pair.step().unwrap() {
            Side::Server(event) => script.server_event(&mut pair, event, &mut Outcome::default()),
            Side::Terminal(TerminalEvent::Plan { .. }) => break,
            Side::Terminal(other) => panic!("unexpected {other:?}"),
        }
    }
    let now = pair.now;
    assert_eq!(
        pair.terminal.send(now, result(1, Stage::Downloaded)),
        Err(Misuse::OutOfOrder)
    );
    assert_eq!(
        pair.terminal.download(now, Digest::of(b""), 0, 1),
        Err(Misuse::OutOfOrder)
    );
    pair.terminal
        .send(
            now,
            PlanAck {
                sequence: 17,
                refused: Vec::new(),
            },
        )
        .unwrap();
    assert_eq!(
        pair.terminal.send(
            now,
            PlanAck {
                sequence: 17,
                refused: Vec::new()
            }
        ),
        Err(Misuse::OutOfOrder)
    );
    assert_eq!(
        pair.terminal.send(now, unchanged()),
        Err(Misuse::Direction(tms_proto::tlv::Tag(0x62)))
    );
}

/// A replayed first message gets an answer and proves nothing: the server sees no acknowledgement.
#[test]
fn a_replayed_first_message_is_never_acknowledged() {
    let psk = psk();
    let script = ticket_script(&psk);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    let Output::Transmit(first) = pair.terminal.poll() else {
        panic!()
    };
    let mut server = ServerSession::new(&ServerConfig::default(), pair.now);
    server.handle(pair.now, Input::Received(&first));
    server.handle(pair.now, Input::Received(&first));
    let mut events = Vec::new();
    loop {
        match server.poll() {
            Output::Event(ServerEvent::Hello(_)) => {
                server.admit(pair.now, None, Some(&psk), fixture::NOW, [9; 32]).unwrap();
            }
            Output::Event(ServerEvent::Report(_)) => server.plan(pair.now, unchanged()).unwrap(),
            Output::Event(event) => events.push(event),
            Output::Transmit(_) => {}
            Output::Wait(_) => break,
            Output::Close => break,
        }
    }
    assert!(
        matches!(events.as_slice(), [ServerEvent::Ended(End::Fault(Fault::Record(_)))]),
        "{events:?}"
    );
}

/// Any flipped bit ends the session with a fault or a time-out, never with a wrong message or a panic.
#[test]
fn every_flipped_bit_is_found() {
    let psk = psk();
    let script = ticket_script(&psk);
    let mut clean = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    script.run(&mut clean);
    for position in 0..clean.bytes {
        let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
        let mut seen = 0;
        let mut outcome = Outcome::default();
        loop {
            let side = pair.step_changed(&mut seen, position);
            match side {
                Some(Side::Terminal(event)) => script.terminal_event(&mut pair, event, &mut outcome),
                Some(Side::Server(event)) => script.server_event(&mut pair, event, &mut outcome),
                None => break,
            }
        }
        let clean_end = matches!(outcome.terminal_end, Some(End::Bye(_)));
        assert!(!clean_end, "flip at {position} was not found");
        assert!(outcome.plan.is_none_or(|plan| plan == unchanged()));
    }
}

impl Pair {
    /// As `step`, with one bit flipped at the byte `position` of all that goes over the line.
    fn step_changed(&mut self, seen: &mut usize, position: usize) -> Option<Side> {
        loop {
            let (bytes, to_server) = match self.terminal.poll() {
                Output::Event(event) => return Some(Side::Terminal(event)),
                Output::Transmit(bytes) => (bytes, true),
                Output::Wait(_) | Output::Close => match self.server.poll() {
                    Output::Event(event) => return Some(Side::Server(event)),
                    Output::Transmit(bytes) => (bytes, false),
                    Output::Wait(_) | Output::Close => return None,
                },
            };
            let mut bytes = bytes.to_vec();
            if let Some(byte) = position.checked_sub(*seen).and_then(|index| bytes.get_mut(index)) {
                *byte ^= 0x10;
            }
            *seen += bytes.len();
            let now = self.now;
            if to_server {
                self.server.handle(now, Input::Received(&bytes));
            } else {
                self.terminal.handle(now, Input::Received(&bytes));
            }
        }
    }
}

/// The server turns callers away before any public-key work.
#[test]
fn busy_and_refuse_are_heard() {
    let psk = psk();
    let script = ticket_script(&psk);
    for busy in [true, false] {
        let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
        let (mut terminal_end, mut server_end) = (None, None);
        while let Some(side) = pair.step() {
            let now = pair.now;
            match side {
                Side::Server(ServerEvent::Hello(_)) if busy => {
                    pair.server.busy(now, 90, Some(ResultCode::Busy)).unwrap();
                }
                Side::Server(ServerEvent::Hello(_)) => pair.server.refuse(now, ResultCode::SecurityError).unwrap(),
                Side::Server(ServerEvent::Ended(end)) => server_end = Some(end),
                Side::Terminal(TerminalEvent::Ended(end)) => terminal_end = Some(end),
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(server_end, Some(End::Ended));
        let expected = if busy {
            End::Busy {
                retry_after: 90,
                reason: Some(ResultCode::Busy),
            }
        } else {
            End::Refused {
                code: ResultCode::SecurityError,
                versions: Bytes::new(),
                suites: Bytes::new(),
            }
        };
        assert_eq!(terminal_end, Some(expected));
    }
}

/// A wrong key, an unknown ticket and a changed hello all look the same to the caller.
#[test]
fn a_wrong_key_gets_the_constant_answer() {
    let (psk, wrong) = (psk(), Psk::new([1; 32]));
    let script = ticket_script(&psk);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    let mut ends = Vec::new();
    while let Some(side) = pair.step() {
        let now = pair.now;
        match side {
            Side::Server(ServerEvent::Hello(_)) => {
                pair.server
                    .admit(now, None, Some(&wrong), fixture::NOW, [9; 32])
                    .unwrap();
            }
            Side::Server(ServerEvent::Ended(End::Fault(fault))) => {
                assert!(matches!(fault, Fault::Handshake(_)), "{fault}");
            }
            Side::Terminal(TerminalEvent::Ended(end)) => ends.push(end),
            other => panic!("unexpected {other:?}"),
        }
    }
    let refused = End::Refused {
        code: ResultCode::SecurityError,
        versions: Bytes::new(),
        suites: Bytes::new(),
    };
    assert_eq!(ends, [refused]);
}

/// A version or suite that the server does not speak is refused with what it does speak, and the answer binds nobody.
#[test]
fn a_suite_that_is_not_spoken_is_refused() {
    let psk = psk();
    let script = ticket_script(&psk);
    let server = ServerConfig {
        suites: vec![tms_proto::handshake::Suite::AesGcm],
        ..ServerConfig::default()
    };
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &server);
    let outcome = script.run(&mut pair);
    let expected = End::Refused {
        code: ResultCode::VersionUnsupported,
        versions: Bytes::from_static(&[1]),
        suites: Bytes::from_static(&[2]),
    };
    assert_eq!(outcome.terminal_end, Some(expected));
}

/// A terminal that is refused after its handshake learns why, in a record, and nothing is recorded.
#[test]
fn a_reject_is_said_and_answered() {
    let psk = psk();
    let script = ticket_script(&psk);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    let reject = Reject {
        code: ResultCode::Deactivated,
        message: None,
        text: None,
        retry_after: None,
    };
    let (mut heard, mut ends) = (None, Vec::new());
    while let Some(side) = pair.step() {
        let now = pair.now;
        match side {
            Side::Server(ServerEvent::Report(_)) => pair.server.reject(now, reject.clone()).unwrap(),
            Side::Server(ServerEvent::Ended(end)) => ends.push(end),
            Side::Server(event) => script.server_event(&mut pair, event, &mut Outcome::default()),
            Side::Terminal(TerminalEvent::Reject(reject)) => heard = Some(reject),
            Side::Terminal(TerminalEvent::Ended(end)) => ends.push(end),
            Side::Terminal(other) => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(heard, Some(reject));
    assert!(
        ends.len() == 2 && ends.iter().all(|end| matches!(end, End::Bye(_))),
        "{ends:?}"
    );
}

/// A plan or a report that does not fit into a handshake message goes round it.
#[test]
fn large_plans_and_inventories_leave_the_handshake() {
    let psk = psk();
    let mut script = ticket_script(&psk);
    let template = fixture::action(1, Digest::of(b"x"), 1);
    script.plan.unchanged = None;
    let prompt = Some("a new program comes tonight, please leave the terminal on".to_owned());
    script.plan.actions = (0..tms_proto::message::MAX_ACTIONS as u64)
        .map(|id| tms_proto::message::Action {
            id,
            object: None,
            prompt: prompt.clone(),
            ..template.clone()
        })
        .collect();
    let mut large = inventory();
    large.components = (0..100)
        .map(|index| Component {
            id: format!("component-{index}"),
            ..inventory().components[0].clone()
        })
        .collect();
    script.report.inventory_digest = large.digest();
    script.report.inventory = Some(large);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    let outcome = script.run(&mut pair);
    assert_clean(&outcome);
    assert_eq!(outcome.plan, Some(script.plan));
    let report = outcome.report.unwrap();
    assert_eq!(
        (report.inventory, report.inventory_digest),
        (None, script.report.inventory_digest)
    );
}

/// Silence ends a session on both sides, and an early timeout does nothing.
#[test]
fn silence_ends_a_session() {
    let psk = psk();
    let script = ticket_script(&psk);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    let Output::Transmit(_) = pair.terminal.poll() else {
        panic!()
    };
    let Output::Wait(Some(deadline)) = pair.terminal.poll() else {
        panic!()
    };
    let early = Instant::from_millis(deadline.as_millis() - 1);
    pair.terminal.handle(early, Input::Timeout);
    assert_eq!(pair.terminal.poll(), Output::Wait(Some(deadline)));
    pair.terminal.handle(deadline, Input::Timeout);
    assert_eq!(pair.terminal.poll(), Output::Event(TerminalEvent::Ended(End::Timeout)));
    assert_eq!(pair.terminal.poll(), Output::Close);
    pair.server.handle(pair.now + Duration::from_secs(60), Input::Timeout);
    assert_eq!(pair.server.poll(), Output::Event(ServerEvent::Ended(End::Timeout)));
}

/// A cut is never taken for an end.
#[test]
fn a_cut_is_a_cut() {
    let psk = psk();
    let script = ticket_script(&psk);
    let mut pair = ticket_pair(&script, &TerminalConfig::default(), &ServerConfig::default());
    let Output::Transmit(_) = pair.terminal.poll() else {
        panic!()
    };
    pair.terminal.handle(pair.now, Input::Closed);
    assert_eq!(pair.terminal.poll(), Output::Event(TerminalEvent::Ended(End::Cut)));
    assert_eq!(pair.terminal.poll(), Output::Close);
}
