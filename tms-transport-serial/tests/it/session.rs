//! The real agent and the real server, by telephone.

use crate::bench::{EAGER, caller, pool, seconds, telephone};
use crate::terminal::{Kit, Proves, Terminal};
use crate::world::World;
use std::sync::Arc;
use tms_core::agent::{Call, CallEnd, CallReport};
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::transport::{Dial, memory};
use tms_proto::code::{Stage, TriggerKind};
use tms_proto::message::Trigger;
use tms_proto::secret::Secret;
use tms_transport_serial::dial::Route;
use tms_transport_serial::testing::{Bursts, Exchange, Line, Noise, Settings};
use tokio::time::sleep;

async fn setting() -> (World, Kit) {
    let world = World::new().await;
    let id = world.enrol("0001").await;
    let mut kit = Kit::with(Proves::MainKey).await;
    kit.identity.terminal = id;
    if let Some(main_key) = &mut kit.identity.main_key {
        let keys = MemoryKeys::new();
        keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        main_key.keys = Arc::new(keys);
    }
    (world, kit)
}

/// One call by whatever the dialler finds.
async fn call(terminal: &mut Terminal, dial: &mut dyn Dial) -> CallReport {
    let outgoing = dial.dial().await.expect("the server is reached");
    let call = Call {
        profile: outgoing.profile,
        ..Call::new(Trigger::of(TriggerKind::Manual))
    };
    terminal.agent.call(outgoing.transport, call).await
}

fn content(size: u32) -> Vec<u8> {
    (0..size)
        .map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_terminal_is_updated_by_telephone() {
    for noise in [
        Noise::default(),
        Noise {
            bits_per_million: 100,
            framing: true,
            bursts: None,
        },
        Noise {
            bursts: Some(Bursts { every: 1667, bytes: 5 }),
            ..Noise::default()
        },
    ] {
        let (world, kit) = setting().await;
        let manifest = world.publish(&content(40_000), 2).await;
        let action = world.queue(kit.identity.terminal, &manifest).await;
        let exchange = Exchange::new(Settings {
            line: Line {
                noise,
                ..Line::default()
            },
            ..Settings::default()
        });
        let (mut pool, _modems) = pool(&exchange, 1, 1, false);
        let server = world.server.clone();
        tokio::spawn(async move { server.serve(&mut pool).await });
        let mut phone = caller(&exchange, "100", vec![telephone("200")], EAGER, false);
        let mut terminal = kit.start().await;

        let began = tokio::time::Instant::now();
        let report = call(&mut terminal, &mut phone.dialler).await;
        assert_eq!((&report.end, report.recorded), (&CallEnd::Done, true), "{report}");
        assert_eq!((report.downloads[0].from, report.downloads[0].until), (0, 40_000));
        let took = began.elapsed().as_secs();
        assert!((40..110).contains(&took), "40,000 bytes at 9600 bit/s took {took} s");
        terminal.work().await;
        assert_eq!(terminal.version().await, "2.0");
        sleep(seconds(30)).await;
        let report = call(&mut terminal, &mut phone.dialler).await;
        assert_eq!((&report.end, report.recorded), (&CallEnd::Done, true), "{report}");
        let assignment = world.assignment(kit.identity.terminal, action).await;
        assert_eq!((assignment.stage, assignment.closed), (Stage::RunningConfirmed, true));
        // The server has seen the caller's number.
        let seen = world.events().await;
        assert!(
            seen.iter().any(|event| format!("{event:?}").contains("100")),
            "{seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_that_began_by_telephone_goes_on_over_a_network() {
    let (world, kit) = setting().await;
    let manifest = world.publish(&content(60_000), 2).await;
    world.queue(kit.identity.terminal, &manifest).await;
    let exchange = Exchange::new(Settings {
        line: Line {
            cut_after: Some(30_000),
            ..Line::default()
        },
        ..Settings::default()
    });
    let (mut pool, _modems) = pool(&exchange, 1, 1, false);
    let server = world.server.clone();
    tokio::spawn(async move { server.serve(&mut pool).await });
    let (mut network, other) = memory::listen(1);
    let server = world.server.clone();
    tokio::spawn(async move { server.serve(&mut network).await });
    let routes = vec![telephone("200"), Route::Other(Box::new(other))];
    let mut phone = caller(&exchange, "100", routes, EAGER, false);
    let mut terminal = kit.start().await;

    let report = call(&mut terminal, &mut phone.dialler).await;
    assert!(report.end != CallEnd::Done && report.recorded, "{report}");
    let until = report.downloads[0].until;
    assert!((20_000..30_000).contains(&until), "{report}");

    // The telephone is dead: the call goes another way, and on where it was.
    phone.modem.plug(false);
    sleep(seconds(30)).await;
    let report = call(&mut terminal, &mut phone.dialler).await;
    assert_eq!(report.end, CallEnd::Done, "{report}");
    assert_eq!(
        (report.downloads[0].from, report.downloads[0].until),
        (until, 60_000),
        "{report}"
    );
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

/// Cut again and again, it gets there, and loses no more than a kilobyte each time.
#[tokio::test(start_paused = true)]
async fn a_download_survives_a_line_that_is_cut_again_and_again() {
    let (world, kit) = setting().await;
    let manifest = world.publish(&content(40_000), 2).await;
    world.queue(kit.identity.terminal, &manifest).await;
    let exchange = Exchange::new(Settings {
        line: Line {
            cut_after: Some(9_000),
            noise: Noise {
                bits_per_million: 10,
                ..Noise::default()
            },
            ..Line::default()
        },
        ..Settings::default()
    });
    let (mut pool, _modems) = pool(&exchange, 2, 2, false);
    let handle = pool.handle();
    let server = world.server.clone();
    tokio::spawn(async move { server.serve(&mut pool).await });
    let mut phone = caller(&exchange, "100", vec![telephone("200")], EAGER, false);
    let mut terminal = kit.start().await;
    let (mut calls, mut had) = (0, 0);
    while terminal.version().await != "2.0" {
        calls += 1;
        assert!(calls < 15, "it does not get there");
        let report = call(&mut terminal, &mut phone.dialler).await;
        for download in &report.downloads {
            assert!(had <= download.from, "{report}");
            had = download.until;
        }
        terminal.work().await;
        sleep(seconds(30)).await;
    }
    assert!(calls >= 5, "{calls}");
    assert!(handle.lines().iter().all(|line| line.status.fault.is_none()));
}
