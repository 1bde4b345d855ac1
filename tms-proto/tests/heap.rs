//! How much memory a terminal's session takes at most: `docs/performance.md` states it, and this keeps it from growing.
//!
//! A binary of its own, with one test: the allocator counts for the whole process. The figures are those of a 64-bit machine;
//! a Cortex-M, whose pointers are half as long, takes less.

#[allow(dead_code)]
#[path = "it/fixture.rs"]
mod fixture;

use fixture::Party;
use peak_alloc::PeakAlloc;
use tms_proto::code::{ResultCode, Role, TriggerKind};
use tms_proto::credential::{Checks, Credentials};
use tms_proto::digest::{Digest, Hasher};
use tms_proto::machine::{Input, Instant, Machine, Output};
use tms_proto::message::{Bye, Message, NextContact, Plan, PlanAck, StatusReport, Ticket, Trigger};
use tms_proto::secret::Psk;
use tms_proto::session::{
    Opening, Presented, ServerConfig, ServerEvent, ServerSession, TerminalConfig, TerminalEvent, TerminalSession,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Counts what is allocated inside [`Meter::run`]: what lasts, and the peak.
#[derive(Default)]
struct Meter {
    held: isize,
    peak: usize,
}

impl Meter {
    fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let result = work();
        let during = ALLOCATOR.peak_usage().saturating_sub(before);
        self.peak = self.peak.max(usize::try_from(self.held).unwrap() + during);
        self.held += ALLOCATOR.current_usage() as isize - before as isize;
        self.held = self.held.max(0);
        result
    }
}

/// The terminal's side: its memory is what is measured, that of its caller's verification with it.
struct Terminal<'a> {
    session: TerminalSession,
    meter: Meter,
    party: &'a Party,
    window: u64,
    digest: Digest,
    hasher: Hasher,
    granted: u64,
    got: u64,
    ended: bool,
}

impl Terminal<'_> {
    fn turn(&mut self, now: Instant, received: &[u8], sent: &mut Vec<u8>) {
        let mut meter = std::mem::take(&mut self.meter);
        meter.run(|| {
            if !received.is_empty() {
                self.session.handle(now, Input::Received(received));
            }
            loop {
                match self.session.poll() {
                    Output::Transmit(bytes) => sent.extend_from_slice(&bytes),
                    Output::Event(event) => self.event(now, event),
                    Output::Wait(_) | Output::Close => break,
                }
            }
        });
        self.meter = meter;
    }

    fn event(&mut self, now: Instant, event: TerminalEvent) {
        match event {
            TerminalEvent::Server {
                presented, static_key, ..
            } => {
                let Presented::Full(bytes) = presented else {
                    panic!("nothing is remembered")
                };
                let peer = Credentials::decode(&bytes)
                    .unwrap()
                    .verify(
                        &fixture::anchors(),
                        Role::Server,
                        static_key,
                        &Checks::of_server(None, 0),
                    )
                    .unwrap();
                let own = Presented::Full(self.party.credentials.encode().clone());
                self.session.identify(now, &peer, &own, &report()).unwrap();
            }
            TerminalEvent::Plan { plan, .. } => {
                let sequence = plan.sequence;
                let refused = Vec::new();
                self.session.send(now, PlanAck { sequence, refused }).unwrap();
                self.session.download(now, self.digest, 0, self.window).unwrap();
                self.granted = self.window;
            }
            TerminalEvent::ObjectPart { bytes, last, .. } => {
                self.hasher.update(&bytes);
                self.got += bytes.len() as u64;
                if last {
                    self.session.bye(now, ResultCode::Success).unwrap();
                } else if self.granted < self.got + self.window / 2 {
                    self.granted = self.got + self.window;
                    self.session.grant(now, self.granted).unwrap();
                }
            }
            TerminalEvent::Recorded | TerminalEvent::ObjectStart(_) => {}
            TerminalEvent::Ended(_) => self.ended = true,
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn report() -> StatusReport {
    StatusReport::new(Trigger::of(TriggerKind::Schedule), 1, fixture::NOW)
}

fn plan() -> Plan {
    Plan {
        sequence: 1,
        unchanged: None,
        actions: Vec::new(),
        texts: Vec::new(),
        wanted: None,
        next_contact: NextContact::at(fixture::NOW, 1),
        ticket: Some(Ticket {
            id: [3; 16],
            key: Psk::new([4; 32]),
            lifetime: 1,
        }),
        not_after: None,
        withdrawn_texts: Vec::new(),
    }
}

/// A whole call with a download, and the most that the terminal held.
fn peak(mode: Mode, max_record: u16) -> usize {
    let (server_party, terminal_party) = (fixture::server(), fixture::terminal());
    let (psk, report) = (Psk::new([42; 32]), report());
    let content = vec![7; 300_000];
    let now = Instant::from_millis(0);
    let opening = match mode {
        Mode::Rsa => Opening::Rsa {
            static_key: &terminal_party.static_key,
            remembered: None,
        },
        Mode::Ticket => Opening::Ticket {
            id: [1; 16],
            psk: &psk,
            report: &report,
        },
    };
    let config = TerminalConfig {
        max_record,
        ..TerminalConfig::default()
    };
    let mut meter = Meter::default();
    let session = meter.run(|| TerminalSession::new(&config, &opening, [7; 32], now).unwrap());
    let mut terminal = Terminal {
        session,
        meter,
        party: &terminal_party,
        window: 4 * u64::from(max_record),
        digest: Digest::of(&content),
        hasher: Hasher::new(),
        granted: 0,
        got: 0,
        ended: false,
    };
    let identity = server_party.identity();
    let mut server = ServerSession::new(&ServerConfig::default(), now);
    let mut to_server = Vec::with_capacity(1 << 20);
    let mut to_terminal: Vec<u8> = Vec::new();
    while !terminal.ended {
        // A terminal reads from a small buffer of its line.
        for received in to_terminal.chunks(256) {
            terminal.turn(now, received, &mut to_server);
        }
        if to_terminal.is_empty() {
            terminal.turn(now, &[], &mut to_server);
        }
        to_terminal.clear();
        server.handle(now, Input::Received(&to_server));
        to_server.clear();
        loop {
            match server.poll() {
                Output::Transmit(bytes) => to_terminal.extend_from_slice(&bytes),
                Output::Event(event) => match event {
                    ServerEvent::Hello(_) => {
                        let (identity, psk) = match mode {
                            Mode::Rsa => (Some(&identity), None),
                            Mode::Ticket => (None, Some(&psk)),
                        };
                        server.admit(now, identity, psk, fixture::NOW, [9; 32]).unwrap();
                    }
                    ServerEvent::Identify { presented, static_key } => {
                        let Presented::Full(bytes) = presented else {
                            panic!("nothing is remembered")
                        };
                        let checks = Checks::of_terminal(fixture::NOW, 0);
                        let credentials = Credentials::decode(&bytes).unwrap();
                        let peer = credentials.verify(&fixture::anchors(), Role::Terminal, static_key, &checks);
                        server.accept(now, &peer.unwrap()).unwrap();
                    }
                    ServerEvent::Report(_) => server.plan(now, plan()).unwrap(),
                    ServerEvent::Get(_) => server.start(now, content.len() as u64, None).unwrap(),
                    ServerEvent::Part { offset, max, .. } => {
                        let rest = &content[offset as usize..];
                        server.part(now, &rest[..max.min(rest.len())]).unwrap();
                    }
                    ServerEvent::Message(Message::Bye(_)) => {
                        let code = ResultCode::Success;
                        let next_contact = None;
                        server.bye(now, Bye { code, next_contact }).unwrap();
                    }
                    ServerEvent::PlanAck(_) | ServerEvent::Ended(_) => {}
                    other @ ServerEvent::Message(_) => panic!("unexpected {other:?}"),
                },
                Output::Wait(_) | Output::Close => break,
            }
        }
    }
    assert_eq!(terminal.got, 300_000);
    assert_eq!(terminal.hasher.finish(), terminal.digest);
    terminal.meter.peak
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Rsa,
    Ticket,
}

/// The target is 32 KiB and one record in each direction. What it takes is less, and to be noticed when it grows.
#[test]
fn a_terminal_holds_less_than_32_kib_and_a_record_each_way() {
    // What is allocated once for ever is not the session's.
    peak(Mode::Rsa, 1024);
    for (mode, max_record, most) in [
        (Mode::Ticket, 1024, 5_600),
        (Mode::Rsa, 1024, 20_000),
        (Mode::Ticket, 16384, 55_000),
        (Mode::Rsa, 16384, 55_000),
    ] {
        let peak = peak(mode, max_record);
        println!("{mode:?}, records of {max_record} bytes: {peak} bytes at most");
        assert!(most < 32 * 1024 + 2 * usize::from(max_record));
        assert!(peak < most, "{mode:?}, {max_record}: {peak}");
    }
}
