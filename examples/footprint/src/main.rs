//! The terminal's half of `tms-proto`, linked for a Cortex-M4: to see how much of its memory it takes.
//!
//! It is built and measured, not run: what stands for the line, the flash and the clock is hidden from the compiler, so that
//! it keeps everything that a terminal needs: all four ways to authenticate, every message, downloads, the check of packages,
//! grants and changes of trust. `docs/performance.md` has the command and the figure.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use cortex_m as _;
use cortex_m_rt::entry;
use embedded_alloc::LlffHeap;
use panic_halt as _;
use tms_proto::certificate::Anchors;
use tms_proto::code::{ResultCode, Role, TriggerKind};
use tms_proto::credential::{Checks, Credentials};
use tms_proto::derive::terminal_psk;
use tms_proto::handshake::StaticKey;
use tms_proto::identity::Holder;
use tms_proto::machine::{Input, Instant, Machine, Output};
use tms_proto::message::{PlanAck, StatusReport, Trigger};
use tms_proto::package::{BlockMap, ContentCheck, SignedGrant, SignedManifest, SignedTrust, Target, TrustStore};
use tms_proto::secret::Secret;
use tms_proto::session::{Opening, Presented, TerminalConfig, TerminalEvent, TerminalSession};

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

/// What a session may take, with records of 16 KiB; `tms-proto/tests/heap.rs` keeps it below this.
const HEAP_SIZE: usize = 64 * 1024;

#[entry]
fn main() -> ! {
    // SAFETY: once, at the start, and before anything is allocated.
    unsafe {
        embedded_alloc::init!(HEAP, HEAP_SIZE);
    }
    loop {
        black_box(call().is_some());
        black_box(install().is_some());
    }
}

/// What came from the line or the flash: nobody knows what it will be.
fn bytes() -> &'static [u8] {
    black_box(&[])
}

/// One call, whichever way the terminal proves itself.
fn call() -> Option<()> {
    let now = Instant::from_millis(black_box(0));
    let report = StatusReport::new(Trigger::of(TriggerKind::Schedule), black_box(1), black_box(2));
    let static_key = StaticKey::from_secret(black_box([1; 32]));
    let (id, epoch) = black_box((1, 1));
    let psk = terminal_psk(&Secret::new(black_box([1u8; 16])), id, epoch);
    let remembered = None;
    let opening = match black_box(0u8) {
        0 => Opening::Rsa {
            static_key: &static_key,
            remembered,
        },
        1 => Opening::MainKey {
            terminal: id,
            epoch,
            psk: &psk,
            report: &report,
        },
        2 => Opening::Ticket {
            id: black_box([1; 16]),
            psk: &psk,
            report: &report,
        },
        _ => Opening::Both {
            static_key: &static_key,
            remembered,
            terminal: id,
            epoch,
            psk: &psk,
        },
    };
    let mut session = TerminalSession::new(&TerminalConfig::default(), &opening, black_box([2; 32]), now).ok()?;
    loop {
        match session.poll() {
            Output::Transmit(sent) => {
                black_box(sent);
            }
            Output::Event(event) => answer(&mut session, now, &report, event)?,
            Output::Wait(_) => session.handle(now, Input::Received(bytes())),
            Output::Close => return Some(()),
        }
    }
}

fn answer(session: &mut TerminalSession, now: Instant, report: &StatusReport, event: TerminalEvent) -> Option<()> {
    match event {
        TerminalEvent::Server {
            presented: Presented::Full(credentials),
            static_key,
            ..
        } => {
            let anchors: Box<Anchors> = black_box(Box::new(Anchors::decode(bytes()).ok()?));
            let checks = Checks::of_server(black_box(None), black_box(0));
            let peer = Credentials::decode(&credentials)
                .ok()?
                .verify(&anchors, Role::Server, static_key, &checks)
                .ok()?;
            let own = Presented::Full(bytes().into());
            session.identify(now, &peer, &own, report).ok()
        }
        TerminalEvent::Plan { plan, .. } => {
            let acknowledgement = PlanAck {
                sequence: plan.sequence,
                refused: Vec::new(),
            };
            session.send(now, acknowledgement).ok()?;
            let object = plan.actions.first()?.object?;
            session.download(now, object, black_box(0), black_box(1)).ok()
        }
        TerminalEvent::ObjectPart { offset, .. } => session.grant(now, offset).ok(),
        TerminalEvent::Ended(_) => session.bye(now, ResultCode::Success).ok(),
        other => {
            black_box(other);
            Some(())
        }
    }
}

/// The check of what was downloaded, and of a change of trust.
fn install() -> Option<()> {
    let trust = TrustStore::decode(bytes()).ok()?;
    let trust = trust.update(&SignedTrust::decode(bytes()).ok()?).ok()?;
    let manifest = SignedManifest::decode(bytes())
        .ok()?
        .verify(&trust, black_box(None))
        .ok()?;
    let grant = SignedGrant::decode(bytes()).ok()?.verify(&trust, black_box(0)).ok()?;
    let holder = black_box(Holder {
        vendor: "".into(),
        model: "".into(),
        serial: "".into(),
    });
    let target = Target {
        holder: &holder,
        hardware: None,
        installed: black_box(&[]),
    };
    manifest.check(&trust, &target, Some(&grant)).ok()?;
    let reference = manifest.manifest().block_map.as_ref()?;
    let map = BlockMap::decode(bytes(), reference, manifest.manifest().size).ok()?;
    map.verify_block(black_box(0), bytes()).ok()?;
    let mut content = ContentCheck::new(manifest.manifest());
    content.update(bytes()).ok()?;
    content.finish().ok()
}
