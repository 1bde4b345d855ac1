//! Lines with simulated modems, in paused time.

use std::time::Duration;
use tms_core::transport::CallerNumber;
use tms_transport_serial::at::{Connect, Failure, Phase, Profile};
use tms_transport_serial::modem::{Call, DialError, ModemLine, NoCall};
use tms_transport_serial::port::{SerialPort, Settings as PortSettings};
use tms_transport_serial::testing::{Exchange, Habit, Line, Pty, Quirks, Results, Settings, SimModem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn line(modem: &SimModem) -> ModemLine {
    ModemLine::start(modem.number(), modem.opener(), Profile::default())
}

async fn idle(line: &ModemLine) {
    let idle = line.until(|status| status.phase == Phase::Idle);
    timeout(seconds(900), idle).await.expect("a line that is idle again");
}

async fn answer(line: &ModemLine) -> Result<Call, NoCall> {
    line.until(|status| status.incoming).await;
    line.answer().await
}

/// The modem `100` calls the modem `200`.
async fn call(near: &ModemLine, far: &ModemLine) -> (Call, Call) {
    let (outgoing, incoming) = tokio::join!(near.dial("200".parse().unwrap()), answer(far));
    (outgoing.unwrap(), incoming.unwrap())
}

async fn says(from: &mut Call, to: &mut Call, what: &[u8]) {
    from.write_all(what).await.unwrap();
    let mut heard = vec![0; what.len()];
    timeout(seconds(60), to.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, what);
}

/// Reads to the end.
async fn end(call: &mut Call) -> Vec<u8> {
    let mut heard = Vec::new();
    timeout(seconds(60), call.read_to_end(&mut heard))
        .await
        .expect("an end")
        .unwrap();
    assert!(call.write_all(b"more").await.is_err(), "nobody is there");
    heard
}

struct Pair {
    _exchange: Exchange,
    near: ModemLine,
    far: ModemLine,
    modems: (SimModem, SimModem),
}

fn pair(near: Quirks, far: Quirks) -> Pair {
    let exchange = Exchange::new(Settings::default());
    let modems = (exchange.modem("100", near), exchange.modem("200", far));
    Pair {
        _exchange: exchange,
        near: line(&modems.0),
        far: line(&modems.1),
        modems,
    }
}

#[tokio::test(start_paused = true)]
async fn lines_call_and_are_left_in_a_known_state() {
    let pair = pair(Quirks::default(), Quirks::default());
    let connect = Connect {
        speed: Some(9600),
        carrier: None,
        error_corrected: None,
    };
    for round in 1..=5 {
        let (mut near, mut far) = call(&pair.near, &pair.far).await;
        assert_eq!((near.connect(), far.connect()), (connect, connect));
        let caller = far.caller().expect("the caller was told");
        assert_eq!(caller.number, CallerNumber::Known("100".parse().unwrap()));
        assert!(near.caller().is_none());
        says(&mut near, &mut far, b"hello").await;
        says(&mut far, &mut near, &[0xFF; 2000]).await;
        let (first, mut second) = if round % 2 == 0 { (near, far) } else { (far, near) };
        drop(first);
        end(&mut second).await;
        drop(second);
        idle(&pair.near).await;
        idle(&pair.far).await;
        assert_eq!(pair.near.status().counters.dialled, round);
        assert_eq!(pair.far.status().counters.answered, round);
        assert!(!pair.modems.0.has_carrier() && !pair.modems.1.has_carrier());
    }
}

#[tokio::test(start_paused = true)]
async fn odd_modems_do_as_well() {
    let with = |change: &dyn Fn(&mut Quirks)| {
        let mut quirks = Quirks::default();
        change(&mut quirks);
        quirks
    };
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let all = [
        with(&|quirks| quirks.echoes = true),
        with(&|quirks| quirks.results = Results::Numbers),
        with(&|quirks| quirks.results = Results::Framed),
        with(&|quirks| quirks.results = Results::Bare),
        with(&|quirks| quirks.old = true),
        with(&|quirks| quirks.misreads = true),
        with(&|quirks| quirks.caller_first = true),
        with(&|quirks| quirks.ignores_dtr = true),
        with(&|quirks| quirks.ignores_ath = true),
        with(&|quirks| quirks.no_lines = true),
        with(&|quirks| (quirks.echoes, quirks.no_lines, quirks.old) = (true, true, true)),
        with(&|quirks| quirks.connect = lines(&["CARRIER {rate}", "PROTOCOL: NONE", "CONNECT 115200"])),
        with(&|quirks| quirks.connect = lines(&["+MRR: {rate}", "+ER: LAPM", "CONNECT 57600/V34/LAPM/V42BIS/{rate}"])),
    ];
    for (number, quirks) in all.into_iter().enumerate() {
        for (near, far) in [(quirks.clone(), Quirks::default()), (Quirks::default(), quirks)] {
            let pair = pair(near, far);
            for ends in [true, false] {
                let (mut near, mut far) = call(&pair.near, &pair.far).await;
                says(&mut near, &mut far, b"hello").await;
                says(&mut far, &mut near, b"and back").await;
                let (first, mut second) = if ends { (near, far) } else { (far, near) };
                drop(first);
                let mut heard = Vec::new();
                let ending = timeout(seconds(60), second.read_to_end(&mut heard)).await;
                assert!(ending.is_ok(), "modem {number} {ends}: {:?}", pair.near.status());
                assert!(heard.len() < 60, "modem {number}: {heard:?}");
                drop(second);
                idle(&pair.near).await;
                idle(&pair.far).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_come_to_nothing_for_a_reason() {
    let exchange = Exchange::new(Settings {
        prefix: Some("9".to_owned()),
        ..Settings::default()
    });
    for (number, habit) in [("1", Habit::Busy), ("2", Habit::NoAnswer), ("3", Habit::Voice)] {
        exchange.set_habit(number, habit);
    }
    let modem = exchange.modem(
        "100",
        Quirks {
            blacklists: Some(3),
            ..Quirks::default()
        },
    );
    let line = line(&modem);
    let fails = async |number: &str| match line.dial(number.parse().unwrap()).await {
        Err(DialError::Failed(failure)) => failure,
        other => panic!("{number}: {other:?}"),
    };
    assert_eq!(fails("9,1").await, Failure::Busy);
    assert_eq!(fails("9W2").await, Failure::NoAnswer);
    assert_eq!(fails("93").await, Failure::NoCarrier);
    assert_eq!(fails("1").await, Failure::NoCarrier, "without the prefix");
    for _ in 0..2 {
        assert_eq!(fails("91").await, Failure::Busy);
    }
    assert_eq!(fails("91").await, Failure::Blacklisted);
    modem.plug(false);
    assert_eq!(fails("92").await, Failure::NoDialTone);
    assert_eq!(line.status().counters.failed_out, 8);
    // And when it is told nothing at all.
    modem.power(false);
    let error = line.dial("92".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(error, DialError::Failed(Failure::TimedOut) | DialError::Fault(_)),
        "{error:?}"
    );
    modem.power(true);
    modem.plug(true);
    idle(&line).await;
    assert_eq!(fails("91").await, Failure::Busy, "the blacklist is gone");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_leaves_the_line_ready() {
    let pair = pair(Quirks::default(), Quirks::default());
    idle(&pair.near).await;
    for wait in (0..24_000).step_by(250) {
        // At each moment of making a call: dialling, ringing, answering, training, and after it.
        let dialling = timeout(Duration::from_millis(wait), pair.near.dial("200".parse().unwrap()));
        let answering = timeout(seconds(25), answer(&pair.far));
        let (dialled, answered) = tokio::join!(dialling, answering);
        drop((dialled, answered));
        timeout(seconds(60), pair.far.until(|status| status.phase == Phase::Idle))
            .await
            .unwrap();
        idle(&pair.near).await;
        sleep(seconds(2)).await;
    }
    let (mut near, mut far) = call(&pair.near, &pair.far).await;
    says(&mut near, &mut far, b"still there").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_given_up_leaves_the_line_ready() {
    let pair = pair(Quirks::default(), Quirks::default());
    idle(&pair.far).await;
    for wait in (0..6_000).step_by(250) {
        let answering = async {
            pair.far.until(|status| status.incoming).await;
            drop(timeout(Duration::from_millis(wait), pair.far.answer()).await);
        };
        let (dialled, ()) = tokio::join!(pair.near.dial("200".parse().unwrap()), answering);
        drop(dialled);
        idle(&pair.near).await;
        idle(&pair.far).await;
    }
    let (mut near, mut far) = call(&pair.near, &pair.far).await;
    says(&mut near, &mut far, b"still there").await;
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_power_is_survived_at_every_moment() {
    for victim in [true, false] {
        let pair = pair(Quirks::default(), Quirks::default());
        let modem = if victim { &pair.modems.0 } else { &pair.modems.1 };
        for wait in (0..30_000).step_by(1500) {
            let calling = async {
                let (dialled, answered) = tokio::join!(
                    timeout(seconds(120), pair.near.dial("200".parse().unwrap())),
                    timeout(seconds(60), answer(&pair.far)),
                );
                if let (Ok(Ok(mut near)), Ok(Ok(mut far))) = (dialled, answered) {
                    let _ = timeout(seconds(60), near.read_u8()).await;
                    let _ = timeout(seconds(60), far.read_u8()).await;
                }
            };
            let failing = async {
                sleep(Duration::from_millis(wait)).await;
                modem.power(false);
                sleep(seconds(7)).await;
                modem.power(true);
            };
            tokio::join!(calling, failing);
            idle(&pair.near).await;
            idle(&pair.far).await;
        }
        // It was set up again before the next call: who calls is told.
        sleep(seconds(700)).await;
        let (mut near, mut far) = call(&pair.near, &pair.far).await;
        assert!(far.caller().is_some());
        says(&mut near, &mut far, b"still there").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_exchange_ends_is_over() {
    for quirks in [
        Quirks::default(),
        Quirks {
            no_lines: true,
            ..Quirks::default()
        },
    ] {
        let pair = pair(quirks.clone(), quirks);
        let (mut near, mut far) = call(&pair.near, &pair.far).await;
        pair.modems.0.cut();
        end(&mut near).await;
        end(&mut far).await;
        drop((near, far));
        idle(&pair.near).await;
        idle(&pair.far).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_in_the_opposite_direction_at_the_same_time_does_no_harm() {
    let pair = pair(Quirks::default(), Quirks::default());
    idle(&pair.near).await;
    idle(&pair.far).await;
    let mut collisions = 0;
    for wait in (0..12_000).step_by(100) {
        let dial = async |line: &ModemLine, number: &str, wait: u64| {
            sleep(Duration::from_millis(wait)).await;
            timeout(seconds(20), line.dial(number.parse().unwrap())).await
        };
        let (one, other) = tokio::join!(dial(&pair.near, "200", 0), dial(&pair.far, "100", wait));
        assert!(
            !matches!((&one, &other), (Ok(Ok(_)), _) | (_, Ok(Ok(_)))),
            "nobody has answered"
        );
        let collided = |dialled: &Result<Result<Call, DialError>, _>| {
            matches!(
                dialled,
                Ok(Err(DialError::Failed(Failure::Collision) | DialError::InUse))
            )
        };
        collisions += u32::from(collided(&one)) + u32::from(collided(&other));
        idle(&pair.near).await;
        idle(&pair.far).await;
        sleep(seconds(10)).await;
        idle(&pair.far).await;
    }
    assert!(collisions > 50, "{collisions}");
    let (mut near, mut far) = call(&pair.near, &pair.far).await;
    says(&mut near, &mut far, b"still there").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_callers_is_no_more_than_digits() {
    let junk = "9".repeat(5000);
    for (shown, number) in [
        ("5551234", Some(CallerNumber::Known("5551234".parse().unwrap()))),
        ("P", Some(CallerNumber::Withheld)),
        ("O", Some(CallerNumber::OutOfArea)),
        ("", None),
        (
            "555\r\nNO CARRIER\r\n",
            Some(CallerNumber::Known("555".parse().unwrap())),
        ),
        ("5551234\r\nNMBR = 110", None),
        ("`reboot`; rm -rf /", None),
        ("555%s%n\u{7}\u{1b}[2J", None),
        (&junk, None),
    ] {
        let exchange = Exchange::new(Settings::default());
        let modems = (
            exchange.modem("100", Quirks::default()),
            exchange.modem("200", Quirks::default()),
        );
        exchange.show("100", shown);
        let (near, far) = (line(&modems.0), line(&modems.1));
        let (mut outgoing, mut incoming) = call(&near, &far).await;
        assert_eq!(
            incoming.caller().map(|caller| caller.number.clone()),
            number,
            "{shown:?}"
        );
        says(&mut outgoing, &mut incoming, b"hello").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_goes_away_is_opened_again() {
    let exchange = Exchange::new(Settings::default());
    let mut modem = exchange.modem("100", Quirks::default());
    let opener = std::sync::Arc::new(std::sync::Mutex::new(modem.opener()));
    let opens = std::sync::Arc::clone(&opener);
    struct Again(std::sync::Arc<std::sync::Mutex<Box<dyn tms_transport_serial::port::Open>>>);
    impl tms_transport_serial::port::Open for Again {
        fn open(&mut self) -> std::io::Result<Box<dyn tms_transport_serial::port::ModemPort>> {
            self.0.lock().unwrap().open()
        }
    }
    let line = ModemLine::start("line", Box::new(Again(opens)), Profile::default());
    idle(&line).await;
    // Its cable is pulled, and another modem put in its place.
    drop(modem);
    line.until(|status| status.fault.is_some()).await;
    sleep(seconds(100)).await;
    assert!(line.status().counters.port_errors > 2);
    modem = exchange.modem("101", Quirks::default());
    *opener.lock().unwrap() = modem.opener();
    idle(&line).await;
    assert_eq!(line.status().fault, None);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_cut_hangs_up() {
    for quirks in [
        Quirks::default(),
        Quirks {
            no_lines: true,
            ..Quirks::default()
        },
    ] {
        let pair = pair(quirks, Quirks::default());
        let (mut near, mut far) = call(&pair.near, &pair.far).await;
        // Dropping the line leaves its call alone, but it is its last.
        pair.near.cut();
        tokio::join!(end(&mut near), end(&mut far));
        sleep(seconds(20)).await;
        assert!(!pair.modems.0.has_carrier());
        // The port can be opened by another.
        let again = line(&pair.modems.0);
        idle(&again).await;
        // One that is dropped lets its call run to its end.
        idle(&pair.far).await;
        let (mut near, mut far) = call(&again, &pair.far).await;
        drop(again);
        sleep(seconds(60)).await;
        says(&mut near, &mut far, b"still there").await;
        drop(near);
        end(&mut far).await;
        sleep(seconds(20)).await;
        idle(&line(&pair.modems.0)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_a_call_ends_is_heard_and_nothing_else() {
    for (quirks, behind) in [
        (Quirks::default(), ""),
        // The escape sequence is the peer's to hear; commands are not.
        (
            Quirks {
                no_lines: true,
                ..Quirks::default()
            },
            "+++",
        ),
    ] {
        let exchange = Exchange::new(Settings {
            line: Line {
                bits_per_second: 1200,
                ..Line::default()
            },
            ..Settings::default()
        });
        let modems = (exchange.modem("100", quirks), exchange.modem("200", Quirks::default()));
        let (near, far) = (line(&modems.0), line(&modems.1));
        let (mut near_call, mut far_call) = call(&near, &far).await;
        near_call
            .write_all(b"this takes three tenths of a second")
            .await
            .unwrap();
        drop(near_call);
        let heard = String::from_utf8(end(&mut far_call).await).unwrap();
        let expected = format!("this takes three tenths of a second{behind}\r\nNO CARRIER\r\n");
        assert!(
            expected.starts_with(heard.trim_end_matches("\r\nNO CARRIER\r\n")),
            "{heard:?}"
        );
        assert!(
            heard.starts_with(&format!("this takes three tenths of a second{behind}")),
            "{heard:?}"
        );
    }
}

#[tokio::test]
async fn modems_behind_devices_are_used_like_others() {
    let exchange = Exchange::new(Settings::quick());
    let quirks = || Quirks {
        no_lines: true,
        ..Quirks::default()
    };
    let modems = (exchange.modem("100", quirks()), exchange.modem("200", quirks()));
    let devices = (modems.0.pty().unwrap(), modems.1.pty().unwrap());
    assert!(modems.0.pty().is_err(), "its port is taken");
    let line = |device: &Pty| {
        let open = SerialPort::opener(device.path(), PortSettings::default());
        ModemLine::start("device", open, crate::bench::profile(true))
    };
    let (near_line, far_line) = (line(&devices.0), line(&devices.1));
    for _ in 0..3 {
        idle(&far_line).await;
        let (mut near, mut far) = call(&near_line, &far_line).await;
        let all: Vec<u8> = (0..=255).cycle().take(20_000).collect();
        let mut heard = vec![0; all.len()];
        let (written, read) = tokio::join!(near.write_all(&all), far.read_exact(&mut heard));
        written.unwrap();
        read.unwrap();
        assert!(heard == all, "another byte");
        drop(near);
        end(&mut far).await;
        drop(far);
        idle(&near_line).await;
        assert!(!modems.0.has_carrier());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_as_slow_as_its_line() {
    let exchange = Exchange::new(Settings {
        line: Line {
            bits_per_second: 1200,
            ..Line::default()
        },
        ..Settings::default()
    });
    let modems = (
        exchange.modem("100", Quirks::default()),
        exchange.modem("200", Quirks::default()),
    );
    let (near, far) = (line(&modems.0), line(&modems.1));
    let (mut near, mut far) = call(&near, &far).await;
    let began = tokio::time::Instant::now();
    let bytes = vec![0x55; 12_000];
    let mut heard = vec![0; bytes.len()];
    let (written, read) = tokio::join!(near.write_all(&bytes), far.read_exact(&mut heard));
    written.unwrap();
    read.unwrap();
    let took = began.elapsed().as_millis();
    assert!(heard == bytes && (100_000..101_000).contains(&took), "{took} ms");
}
