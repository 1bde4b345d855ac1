//! The pool: many lines, each for itself.

use crate::bench::{Caller, EAGER, caller, line, pool, profile, seconds, status, telephone};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tms_core::transport::{CallerNumber, Dial, Listener};
use tms_transport_serial::at::Phase;
use tms_transport_serial::pool::{Kind, Pool, PoolConfig};
use tms_transport_serial::testing::{Exchange, Line, Noise, Quirks, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

fn exchange() -> Exchange {
    Exchange::new(Settings::default())
}

/// Answers every call with what was said in it, until it is over.
async fn echo(mut pool: Pool) {
    loop {
        let mut call = pool.accept().await.unwrap().transport;
        tokio::spawn(async move {
            let mut buffer = [0; 100];
            while let Ok(length @ 1..) = call.read(&mut buffer).await {
                if call.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            let _ = call.shutdown().await;
        });
    }
}

/// One call, in which this is said and comes back.
async fn talk(caller: &mut Caller, what: &[u8]) {
    let mut call = caller.dialler.dial().await.unwrap().transport;
    call.write_all(what).await.unwrap();
    let mut heard = vec![0; what.len()];
    call.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, what);
    call.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_are_taken_with_what_was_observed() {
    let exchange = exchange();
    let (mut pool, _modems) = pool(&exchange, 1, 1, false);
    let mut terminal = caller(&exchange, "100", vec![telephone("200")], EAGER, false);
    for (shown, caller) in [
        ("5551234", Some(CallerNumber::Known("5551234".parse().unwrap()))),
        ("P", Some(CallerNumber::Withheld)),
        ("O", Some(CallerNumber::OutOfArea)),
        ("", None),
    ] {
        exchange.show("100", shown);
        // The line has hung up, and is not busy.
        sleep(seconds(20)).await;
        let (outgoing, incoming) = tokio::join!(terminal.dialler.dial(), pool.accept());
        let (outgoing, incoming) = (outgoing.unwrap(), incoming.unwrap());
        assert_eq!(incoming.peer.line.as_deref(), Some("201"));
        assert_eq!(incoming.peer.caller.map(|caller| caller.number), caller);
        assert_eq!(outgoing.peer.called.unwrap().as_str(), "200");
        assert_eq!(
            (outgoing.profile.bits_per_second, incoming.profile.bits_per_second),
            (Some(9600), Some(9600))
        );
    }
}

/// Each of 64 lines is called again and again, from 64 terminals, on noisy lines. No call is lost.
#[tokio::test(start_paused = true)]
async fn sixty_four_lines_are_called_back_to_back() {
    const LINES: usize = 64;
    const CALLS: u32 = 5;
    let exchange = Exchange::new(Settings {
        line: Line {
            noise: Noise {
                bits_per_million: 10,
                ..Noise::default()
            },
            ..Line::default()
        },
        ..Settings::default()
    });
    let (pool, modems) = pool(&exchange, LINES, LINES, false);
    let handle = pool.handle();
    tokio::spawn(echo(pool));
    let talked = Arc::new(AtomicU32::new(0));
    let calling: Vec<_> = (0..LINES)
        .map(|number| {
            let number = format!("{}", 1000 + number);
            let terminal = caller(&exchange, &number, vec![telephone("200")], EAGER, false);
            let talked = Arc::clone(&talked);
            tokio::spawn(async move {
                let mut terminal = terminal;
                for round in 0..CALLS {
                    // A line that is still hanging up is busy: the next attempt finds another.
                    let mut call = loop {
                        match terminal.dialler.dial().await {
                            Ok(outgoing) => break outgoing.transport,
                            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy, "{error}"),
                        }
                    };
                    let what = format!("{number} {round}");
                    call.write_all(what.as_bytes()).await.unwrap();
                    let mut heard = vec![0; what.len()];
                    call.read_exact(&mut heard).await.unwrap();
                    assert_eq!(heard, what.as_bytes());
                    call.shutdown().await.unwrap();
                    talked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for calling in calling {
        calling.await.unwrap();
    }
    assert_eq!(talked.load(Ordering::Relaxed), LINES as u32 * CALLS);
    sleep(seconds(60)).await;
    let lines = handle.lines();
    assert!(
        lines
            .iter()
            .all(|line| line.status.phase == Phase::Idle && line.status.fault.is_none())
    );
    let answered: u64 = lines.iter().map(|line| line.status.counters.answered).sum();
    assert_eq!(answered, LINES as u64 * u64::from(CALLS), "and none that nobody made");
    assert!(modems.iter().all(|modem| !modem.has_carrier()));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_fails_disturbs_no_other() {
    let exchange = exchange();
    let (pool, modems) = pool(&exchange, 3, 3, false);
    let handle = pool.handle();
    // One is dead from the start, one fails later, and one has no port at all.
    modems[0].power(false);
    let no_port =
        || -> std::io::Result<tms_transport_serial::testing::SimPort> { Err(std::io::ErrorKind::NotFound.into()) };
    handle
        .add(line("none", Kind::Modem, Box::new(no_port), profile(false)))
        .unwrap();
    tokio::spawn(echo(pool));
    let mut terminal = caller(&exchange, "100", vec![telephone("203")], EAGER, false);
    for round in 0..10 {
        talk(&mut terminal, b"hello").await;
        if round == 3 {
            modems[1].power(false);
        }
        sleep(seconds(60)).await;
    }
    assert_eq!(status(&handle, "203").status.counters.answered, 10);
    assert_eq!(status(&handle, "203").status.fault, None);
    for dead in ["201", "202", "none"] {
        assert!(status(&handle, dead).status.fault.is_some(), "{dead}");
    }
    modems[0].power(true);
    modems[1].power(true);
    sleep(seconds(400)).await;
    for mended in ["201", "202"] {
        assert_eq!(status(&handle, mended).status.phase, Phase::Idle, "{mended}");
        assert_eq!(status(&handle, mended).status.fault, None, "{mended}");
    }
}

#[tokio::test(start_paused = true)]
async fn lines_come_and_go_while_the_pool_runs() {
    let exchange = exchange();
    let (pool, modems) = pool(&exchange, 2, 9, false);
    let handle = pool.handle();
    tokio::spawn(echo(pool));
    let mut one = caller(&exchange, "100", vec![telephone("201")], EAGER, false);
    let mut two = caller(&exchange, "101", vec![telephone("202")], EAGER, false);
    let mut first = one.dialler.dial().await.unwrap().transport;
    let mut second = two.dialler.dial().await.unwrap().transport;

    // A line is drained: its call goes on, and then it is gone.
    assert!(handle.drain("201") && !handle.drain("209"));
    assert!(status(&handle, "201").draining);
    sleep(seconds(300)).await;
    first.write_all(b"still there").await.unwrap();
    let mut heard = [0; 11];
    first.read_exact(&mut heard).await.unwrap();
    first.shutdown().await.unwrap();
    drop(first);
    sleep(seconds(60)).await;
    assert_eq!(handle.lines().len(), 1);
    assert!(!modems[0].has_carrier());

    // A line is removed: its call ends.
    assert!(handle.remove("202") && !handle.remove("202"));
    let ended = timeout(seconds(60), second.read_u8()).await;
    assert!(ended.expect("an end").is_err());
    sleep(seconds(60)).await;
    assert!(handle.lines().is_empty() && !modems[1].has_carrier());

    // Both come back; one name is one line.
    for modem in &modems {
        let again = || line(modem.number(), Kind::Modem, modem.opener(), profile(false));
        handle.add(again()).unwrap();
        assert_eq!(
            handle.add(again()).unwrap_err().kind(),
            std::io::ErrorKind::AlreadyExists
        );
    }
    sleep(seconds(20)).await;
    talk(&mut one, b"and again").await;
}

#[tokio::test(start_paused = true)]
async fn a_voice_never_reaches_the_server() {
    let exchange = exchange();
    let (mut pool, _modems) = pool(&exchange, 1, 1, false);
    let handle = pool.handle();
    // A modem that calls and says nothing.
    let modem = exchange.modem("101", Quirks::default());
    let talks = tms_transport_serial::modem::ModemLine::start("101", modem.opener(), profile(false));
    let call = timeout(seconds(60), async {
        tokio::select! {
            call = talks.dial("200".parse().unwrap()) => call.unwrap(),
            _ = pool.accept() => panic!("nobody has said anything"),
        }
    });
    let _call = call.await.unwrap();
    let nobody = timeout(seconds(90), pool.accept()).await;
    assert!(nobody.is_err());
    assert_eq!(status(&handle, "201").silent, 1);
    sleep(seconds(60)).await;
    assert_eq!(status(&handle, "201").status.phase, Phase::Idle);
}

#[tokio::test(start_paused = true)]
async fn junk_before_the_link_is_passed_over() {
    let exchange = Exchange::new(Settings::default());
    let (mut pool, _modems) = pool(&exchange, 1, 1, false);
    let quirks = Quirks {
        connects_early: true,
        ..Quirks::default()
    };
    // It says that it is connected before it is.
    let modem = exchange.modem("100", quirks);
    let line = tms_transport_serial::modem::ModemLine::start("100", modem.opener(), profile(false));
    let calling = async {
        let mut call = line.dial("200".parse().unwrap()).await.unwrap();
        call.write_all(b"\r\nWelcome to DATEX-P\r\nlogin: +++\r\nNO CARRIER\r\n~~~~")
            .await
            .unwrap();
        let config = tms_proto::link::Config::new(tms_proto::link::Role::Caller);
        let mut linked = tms_core::transport::linked::Linked::new(call, config);
        linked.up().await.unwrap();
        linked.write_all(b"hello").await.unwrap();
        linked
    };
    let (_linked, incoming) = tokio::join!(calling, pool.accept());
    let mut heard = [0; 5];
    incoming.unwrap().transport.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[test]
fn configurations_are_read() {
    let read = |text: &str| toml::from_str::<PoolConfig>(text);
    let config = read("[[line]]\nname = \"a\"\ndevice = \"/dev/ttyS0\"\ninit = [\"+MS=V22\"]\nrings = 1").unwrap();
    assert_eq!((config.calls, config.lines[0].rings), (None, Some(1)));
    for bad in [
        "[[line]]\nname = \"a\"",
        "[[line]]\nname = \"a\"\ndevice = \"b\"\nspeed = 9600",
        "[[line]]\nname = \"a\"\ndevice = \"b\"\ninit = [\"ATD110\"]",
        "[[line]]\nname = \"a\"\ndevice = \"b\"\ninit = [\"X4\\rATD110\"]",
        "[[line]]\nname = \"a\"\ndevice = \"b\"\nkind = \"satellite\"",
        "[[line]]\nname = \"a\"\ndevice = \"b\"\nnumber = \"call me\"",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_with_a_bad_port_is_a_fault_of_that_line() {
    let config: PoolConfig = toml::from_str(
        "[[line]]\nname = \"a\"\ndevice = \"/nonexistent\"\n[[line]]\nname = \"b\"\nkind = \"cable\"\ndevice = \"/nonexistent\"",
    )
    .unwrap();
    let mut twice = config.clone();
    let pool = Pool::open(config).unwrap();
    sleep(Duration::from_secs(1)).await;
    for name in ["a", "b"] {
        let status = status(&pool.handle(), name).status;
        assert_eq!(status.phase, Phase::Failed);
        assert!(status.fault.unwrap().contains("/nonexistent"));
    }
    twice.lines[1].name = "a".to_owned();
    assert!(Pool::open(twice).is_err());
}
