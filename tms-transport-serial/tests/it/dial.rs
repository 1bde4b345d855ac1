//! The dialler: routes, fail-over and memory.

use crate::bench::{Caller, caller, pool, seconds, setup, telephone};
use std::io::ErrorKind;
use std::time::Duration;
use tms_core::transport::{Dial, Listener, memory};
use tms_transport_serial::at::Phase;
use tms_transport_serial::dial::{Dialler, Policy, Route};
use tms_transport_serial::pool::Pool;
use tms_transport_serial::testing::{Exchange, Habit, Settings, SimModem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

struct World {
    exchange: Exchange,
    _modems: Vec<SimModem>,
}

/// An exchange with a pool under 200, and numbers that are of no use.
fn world() -> World {
    let exchange = Exchange::new(Settings::default());
    for (number, habit) in [("1", Habit::Busy), ("2", Habit::NoAnswer), ("3", Habit::Voice)] {
        exchange.set_habit(number, habit);
    }
    let (pool, modems) = pool(&exchange, 2, 2, false);
    tokio::spawn(greet(pool));
    World {
        exchange,
        _modems: modems,
    }
}

/// Says hello to everybody.
async fn greet(mut pool: Pool) {
    loop {
        let mut call = pool.accept().await.unwrap().transport;
        tokio::spawn(async move {
            let _ = call.write_all(b"hello").await;
            let _ = call.read_u8().await;
        });
    }
}

fn terminal(world: &World, numbers: &[&str]) -> Caller {
    let routes = numbers.iter().map(|number| telephone(number)).collect();
    caller(&world.exchange, "100", routes, Policy::default(), false)
}

/// What the modem dialled, since it was last asked.
fn dialled(caller: &Caller, seen: &mut usize) -> Vec<String> {
    let log = caller.modem.log();
    let new = log[*seen..]
        .iter()
        .filter_map(|command| command.strip_prefix("DT"))
        .map(str::to_owned)
        .collect();
    *seen = log.len();
    new
}

async fn reaches(caller: &mut Caller) {
    let mut call = caller.dialler.dial().await.unwrap().transport;
    let mut heard = [0; 5];
    call.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

async fn fails(caller: &mut Caller) -> (ErrorKind, String) {
    let error = caller.dialler.dial().await.err().expect("nobody is reached");
    (error.kind(), error.to_string())
}

#[tokio::test(start_paused = true)]
async fn the_next_number_is_called_where_one_does_not_answer() {
    let world = world();
    let (mut caller, mut seen) = (terminal(&world, &["1", "2", "3", "200"]), 0);
    reaches(&mut caller).await;
    assert_eq!(dialled(&caller, &mut seen), ["1", "2", "3", "200"]);
    // Too soon for the others.
    reaches(&mut caller).await;
    assert_eq!(dialled(&caller, &mut seen), ["200"]);
    caller.clock.advance(90);
    reaches(&mut caller).await;
    assert_eq!(
        dialled(&caller, &mut seen),
        ["1", "2", "200"],
        "people are called half as often"
    );
}

#[tokio::test(start_paused = true)]
async fn a_number_is_not_called_too_often_nor_too_soon() {
    let world = world();
    let (mut caller, mut seen) = (terminal(&world, &["1"]), 0);
    for _ in 0..4 {
        assert_eq!(
            fails(&mut caller).await,
            (ErrorKind::ResourceBusy, "1: the number is busy".to_owned())
        );
        let (kind, text) = fails(&mut caller).await;
        assert_eq!(kind, ErrorKind::ResourceBusy);
        assert!(text.starts_with("no number may be called for another "), "{text}");
        assert_eq!(dialled(&caller, &mut seen), ["1"]);
        caller.clock.advance(91);
    }
    let (_, text) = fails(&mut caller).await;
    assert!(
        text.starts_with("no number may be called for another 5"),
        "ten minutes: {text}"
    );
    assert!(dialled(&caller, &mut seen).is_empty());
    caller.clock.advance(600);
    fails(&mut caller).await;
    assert_eq!(dialled(&caller, &mut seen), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn calls_are_remembered_over_the_loss_of_power() {
    let world = world();
    let mut caller = terminal(&world, &["2"]);
    // Power fails while it rings there.
    assert!(timeout(seconds(20), caller.dialler.dial()).await.is_err());
    let modem = world.exchange.modem("102", Default::default());
    let flash = std::sync::Arc::new(caller.flash.survivor(1));
    let setup = setup(&modem, &flash, &caller.clock, Policy::default(), false);
    let mut again = Dialler::new(setup, vec![telephone("2")]).unwrap();
    let error = again.dial().await.err().unwrap();
    assert!(error.to_string().starts_with("no number may be called"), "{error}");
    caller.clock.advance(91);
    let error = again.dial().await.err().unwrap();
    assert_eq!(error.to_string(), "2: nobody answers");
}

#[tokio::test(start_paused = true)]
async fn a_dead_line_is_no_reason_to_call_others_but_one_to_go_another_way() {
    let world = world();
    let (mut caller, mut seen) = (terminal(&world, &["200", "1"]), 0);
    caller.modem.plug(false);
    assert_eq!(
        fails(&mut caller).await,
        (ErrorKind::NotConnected, "200: there is no dial tone".to_owned())
    );
    assert_eq!(dialled(&caller, &mut seen), ["200"]);
    // Nobody was called: it may be tried again at once.
    caller.modem.plug(true);
    reaches(&mut caller).await;

    let (mut listener, other) = memory::listen(1);
    let routes = vec![telephone("200"), telephone("1"), Route::Other(Box::new(other))];
    let mut caller = crate::bench::caller(&world.exchange, "101", routes, Policy::default(), false);
    caller.modem.power(false);
    let (outgoing, incoming) = tokio::join!(caller.dialler.dial(), listener.accept());
    assert_eq!(outgoing.unwrap().peer.line.as_deref(), Some("memory"));
    drop(incoming);
    // And the other way round: telephone where there is no network.
    drop(listener);
    caller.modem.power(true);
    sleep(seconds(400)).await;
    caller.dialler.line().until(|status| status.phase == Phase::Idle).await;
    let outgoing = caller.dialler.dial().await.unwrap();
    assert_eq!(outgoing.peer.line.as_deref(), Some("telephone"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_its_budget() {
    let world = world();
    let policy = Policy {
        budget: 30,
        ..Policy::default()
    };
    let routes = vec![telephone("2"), telephone("200")];
    let mut caller = caller(&world.exchange, "100", routes, policy, false);
    let began = tokio::time::Instant::now();
    assert_eq!(
        fails(&mut caller).await,
        (ErrorKind::TimedOut, "2: not reached in time".to_owned())
    );
    assert_eq!(began.elapsed().as_secs(), 30);
    // The line is free again, and the other number has its turn.
    reaches(&mut caller).await;
}

#[tokio::test(start_paused = true)]
async fn a_modem_that_nobody_is_behind_is_a_number_in_vain() {
    let world = world();
    let modem = world.exchange.modem("300", Default::default());
    let other = tms_transport_serial::modem::ModemLine::start("300", modem.opener(), crate::bench::profile(false));
    tokio::spawn(async move {
        other.until(|status| status.incoming).await;
        let mut call = other.answer().await.unwrap();
        call.write_all(b"\r\nlogin: ").await.unwrap();
        sleep(seconds(1000)).await;
    });
    let (mut caller, mut seen) = (terminal(&world, &["300", "200"]), 0);
    reaches(&mut caller).await;
    assert_eq!(dialled(&caller, &mut seen), ["300", "200"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_an_attempt_hangs_up() {
    let world = world();
    let mut caller = terminal(&world, &["200"]);
    for wait in (0..40).step_by(3) {
        let attempt = timeout(Duration::from_secs(wait), caller.dialler.dial()).await;
        drop(attempt);
        let line = caller.dialler.line();
        timeout(seconds(60), line.until(|status| status.phase == Phase::Idle))
            .await
            .unwrap();
        assert!(!caller.modem.has_carrier());
        caller.clock.advance(10_000);
    }
    reaches(&mut caller).await;
}
