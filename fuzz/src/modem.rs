//! What modems say.

use tms_core::transport::CallerNumber;
use tms_proto::machine::{Input, Instant, Machine, Output};
use tms_transport_serial::at::{Engine, Event, MAX_LINE, Phase, Profile, read};

/// The most that an engine may want done at once: a command, a state of DTR and an event or two for each line.
const MOST: usize = 64;

/// The AT engine: the input is cut into steps, each of which begins with a byte that says what it is: bytes of the modem, an
/// answer to what it was just told, a wait, the carrier, or an order.
pub fn at(data: &[u8]) {
    lines(data);
    let mut now = Instant::default();
    let mut engine = Engine::new(Profile::default(), now);
    let mut orders = 0_usize;
    poll(&mut engine, 0);
    for step in data.split(|byte| *byte == 0xFF) {
        let Some((kind, bytes)) = step.split_first() else {
            continue;
        };
        let before = engine.phase();
        match kind % 8 {
            0 | 1 => engine.handle(now, Input::Received(bytes)),
            // In pieces.
            2 => {
                for byte in bytes {
                    engine.handle(now, Input::Received(std::slice::from_ref(byte)));
                }
            }
            3 => {
                let wait = bytes.iter().map(|byte| u64::from(*byte) * 100).sum();
                now = now + std::time::Duration::from_millis(wait);
                engine.handle(now, Input::Timeout);
            }
            4 => engine.carrier(now, bytes.first().is_some_and(|byte| byte % 2 == 1)),
            5 => {
                let dialled = engine.dial(now, &"9,5551234".parse().expect("a number"));
                assert_eq!(dialled.is_ok(), before == Phase::Idle);
            }
            6 => {
                let answered = engine.answer(now);
                assert_eq!(answered.is_ok(), before == Phase::Ringing);
            }
            _ => engine.hang_up(now),
        }
        orders += 1;
        // Each line may have an answer, and lines are at least two bytes.
        poll(&mut engine, bytes.len() + orders.min(4));
        if let Some(caller) = engine.caller()
            && let CallerNumber::Known(number) = caller.number
        {
            assert!(number.as_str().len() <= 25);
            assert!(number.as_str().bytes().all(|byte| b"0123456789*#+".contains(&byte)));
        }
    }
    settles(engine, now);
}

/// Lines by themselves.
fn lines(data: &[u8]) {
    for line in data.split(|byte| matches!(byte, b'\r' | b'\n')) {
        let text: String = line.iter().take(MAX_LINE).map(|byte| char::from(byte & 0x7F)).collect();
        let _ = read(text.trim());
    }
}

/// Polls until it waits; what it wants done is bounded by what was said.
fn poll(engine: &mut Engine, said: usize) {
    for _ in 0..MOST + 2 * said {
        match engine.poll() {
            Output::Transmit(bytes) => {
                assert!(bytes.len() <= 64, "a command is short");
                assert!(engine.phase() != Phase::Online, "nothing is said into a call");
            }
            Output::Event(Event::Data(bytes)) => assert!(bytes.len() <= said),
            Output::Event(_) => {}
            Output::Wait(_) | Output::Close => return,
        }
    }
    panic!("it wants more done than was said");
}

/// Whatever happened, with a good modem it comes to its known state.
fn settles(mut engine: Engine, mut now: Instant) {
    engine.carrier(now, false);
    engine.hang_up(now);
    for _ in 0..2_000 {
        match engine.poll() {
            Output::Transmit(_) => engine.handle(now, Input::Received(b"\r\nOK\r\n")),
            Output::Event(Event::Ready) => return,
            Output::Event(Event::Ended) => engine.hang_up(now),
            Output::Event(_) => {}
            Output::Wait(until) => {
                now = until.expect("something to wait for").max(now);
                engine.handle(now, Input::Timeout);
            }
            Output::Close => panic!("it has ended"),
        }
    }
    panic!("it is never ready: {:?}", engine.phase());
}
