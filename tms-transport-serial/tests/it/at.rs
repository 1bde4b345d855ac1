//! The AT engine against modems that do what the test says, in virtual time.

use std::time::Duration;
use tms_core::transport::{Caller, CallerNumber, CallerSource, Trust};
use tms_proto::machine::{Input, Instant, Machine, Output};
use tms_transport_serial::at::{Connect, Engine, Event, Failure, Fault, Phase, Profile};

/// A modem that answers each line with what the closure says.
type Modem = Box<dyn FnMut(&str) -> Vec<u8>>;

struct Bench {
    engine: Engine,
    now: Instant,
    modem: Modem,
    sent: Vec<String>,
    events: Vec<Event>,
}

/// Says OK to everything.
fn good() -> Modem {
    Box::new(|_| b"\r\nOK\r\n".to_vec())
}

/// OK to everything but these.
fn but(odd: &'static [(&'static str, &'static str)]) -> Modem {
    Box::new(move |line| {
        let odd = odd.iter().find(|(command, _)| line == *command);
        odd.map_or("\r\nOK\r\n", |(_, answer)| *answer).into()
    })
}

impl Bench {
    fn new(modem: Modem) -> Self {
        let now = Instant::default();
        Self {
            engine: Engine::new(Profile::default(), now),
            now,
            modem,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    /// One that is ready.
    fn ready(modem: Modem) -> Self {
        let mut bench = Self::new(modem);
        bench.until(&Event::Ready);
        (bench.sent, bench.events) = Default::default();
        bench
    }

    /// Polls until the engine waits; gives its deadline.
    fn settle(&mut self) -> Option<Instant> {
        loop {
            match self.engine.poll() {
                Output::Transmit(bytes) => {
                    let line = String::from_utf8(bytes.to_vec()).unwrap().trim_end().to_owned();
                    let answer = (self.modem)(&line);
                    self.sent.push(line);
                    self.engine.handle(self.now, Input::Received(&answer));
                }
                Output::Event(event) => self.events.push(event),
                Output::Wait(until) => return until,
                Output::Close => panic!("the engine has ended"),
            }
        }
    }

    fn says(&mut self, bytes: &[u8]) {
        self.engine.handle(self.now, Input::Received(bytes));
        self.settle();
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.settle().filter(|at| *at <= end) {
            self.now = at;
            self.engine.handle(at, Input::Timeout);
        }
        self.now = end;
        self.settle();
    }

    /// Lets time pass until this happens.
    fn until(&mut self, event: &Event) {
        for _ in 0..200 {
            let deadline = self.settle();
            if self.events.contains(event) {
                return;
            }
            self.now = deadline.expect("something to wait for").max(self.now);
            self.engine.handle(self.now, Input::Timeout);
        }
        panic!("no {event:?}: {:?}, {:?}", self.events, self.sent);
    }

    fn dial(&mut self, number: &str) {
        self.engine.dial(self.now, &number.parse().unwrap()).unwrap();
        self.settle();
    }

    fn caller(&self) -> Option<CallerNumber> {
        self.engine.caller().map(|caller| caller.number)
    }

    /// One that is in a call.
    fn online() -> Self {
        let mut bench = Self::ready(but(&[("ATDT5551234", "\r\nCONNECT 9600\r\n")]));
        bench.dial("5551234");
        assert_eq!(bench.engine.phase(), Phase::Online);
        bench.events.clear();
        bench
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_modem_is_set_up() {
    let mut bench = Bench::new(good());
    bench.until(&Event::Ready);
    assert_eq!(
        bench.events,
        [Event::Dtr(false), Event::Dtr(true), Event::Discard, Event::Ready]
    );
    assert_eq!(
        bench.sent,
        [
            "ATE0V1Q0",
            "ATH",
            "ATZ",
            "ATE0V1Q0",
            "AT&F",
            "ATE0V1Q0",
            "ATX4",
            "AT&C1",
            "AT&D2",
            "ATS0=0",
            "ATS7=60",
            "ATS10=14",
            "AT&K3",
            "AT\\N3",
            "AT+VCID=1",
            "AT#CID=1",
            "ATE0V1Q0"
        ]
    );
    assert!(bench.now < Instant::from_millis(5000), "{:?}", bench.now);
    assert_eq!(bench.engine.phase(), Phase::Idle);
}

#[test]
fn a_modem_that_understands_little_and_echoes_is_set_up() {
    let answer = |line: &str| {
        let result = if matches!(line, "ATE0V1Q0" | "ATH" | "ATZ" | "ATS0=0") {
            "0\r"
        } else {
            "4\r"
        };
        format!("{line}\r{result}").into_bytes()
    };
    let mut bench = Bench::new(Box::new(answer));
    bench.until(&Event::Ready);
    let set_right = bench.sent.iter().filter(|line| *line == "ATE0V1Q0").count();
    assert_eq!(set_right, 14, "after each command that may have changed it");
}

#[test]
fn a_command_that_is_taken_for_dialling_does_no_harm() {
    // `AT+VCID=1`, read as V0 C I D1: numeric results, and a call to number 1.
    let mut numeric = false;
    let mut bench = Bench::new(Box::new(move |line| {
        match line {
            "AT+VCID=1" => {
                numeric = true;
                return b"3\r".to_vec();
            }
            "ATE0V1Q0" => numeric = false,
            _ => {}
        }
        if numeric {
            b"0\r".to_vec()
        } else {
            b"\r\nOK\r\n".to_vec()
        }
    }));
    bench.until(&Event::Ready);
    let at = bench.sent.iter().position(|line| line == "AT+VCID=1").unwrap();
    // The empty line breaks off whatever it does.
    assert_eq!(bench.sent[at + 1..], ["", "ATE0V1Q0", "AT#CID=1", "ATE0V1Q0"]);
}

#[test]
fn one_that_says_nothing_until_it_is_told_to_is_set_up() {
    // Q1 is stored, and comes back with the reset.
    let mut quiet = true;
    let mut bench = Bench::new(Box::new(move |line| {
        match line {
            "ATE0V1Q0" => quiet = false,
            "ATZ" => quiet = true,
            _ => {}
        }
        if quiet { Vec::new() } else { b"\r\nOK\r\n".to_vec() }
    }));
    bench.until(&Event::Ready);
}

#[test]
fn a_modem_that_was_left_in_data_mode_is_taken_out_of_it() {
    // It does not know DTR, and wants its escape sequence.
    let mut data = true;
    let mut bench = Bench::new(Box::new(move |line| {
        if line == "+++" {
            data = false;
        }
        if data { Vec::new() } else { b"\r\nOK\r\n".to_vec() }
    }));
    bench.until(&Event::Ready);
    assert_eq!(
        bench.sent[..6],
        ["ATE0V1Q0", "ATE0V1Q0", "ATE0V1Q0", "+++", "ATE0V1Q0", "ATH"]
    );
}

#[test]
fn one_that_does_not_answer_is_tried_again_and_comes_back() {
    let mut bench = Bench::new(Box::new(|_| Vec::new()));
    bench.until(&Event::Fault(Fault::Silent));
    assert_eq!(bench.engine.phase(), Phase::Failed);
    bench.pass(seconds(3600));
    let faults = bench
        .events
        .iter()
        .filter(|event| **event == Event::Fault(Fault::Silent));
    let faults = faults.count();
    assert!((10..20).contains(&faults), "less and less often: {faults}");
    bench.modem = good();
    bench.pass(seconds(320));
    assert_eq!(bench.engine.phase(), Phase::Idle);
    // The next fault begins from the start.
    bench.modem = Box::new(|_| Vec::new());
    bench.events.clear();
    bench.pass(seconds(300 + 40));
    let faults = bench
        .events
        .iter()
        .filter(|event| **event == Event::Fault(Fault::Silent));
    assert!(faults.count() >= 2, "{:?}", bench.events);
}

#[test]
fn an_idle_modem_is_asked_whether_it_is_there() {
    let mut bench = Bench::ready(good());
    bench.pass(seconds(301));
    assert_eq!(bench.sent, ["ATE0V1Q0"]);
    assert!(bench.events.is_empty());
    // The power was away: it echoes.
    bench.modem = Box::new(|line| format!("{line}\r\r\nOK\r\n").into_bytes());
    bench.pass(seconds(310));
    assert!(bench.events.contains(&Event::Ready), "{:?}", bench.events);
    assert!(bench.sent.iter().any(|line| line == "AT+VCID=1"));
    // It is gone.
    bench.events.clear();
    bench.modem = Box::new(|_| Vec::new());
    bench.pass(seconds(320));
    assert!(
        bench.events.contains(&Event::Fault(Fault::Silent)),
        "{:?}",
        bench.events
    );
}

#[test]
fn results_of_dialling_are_told_apart() {
    for (answer, failure) in [
        ("\r\nBUSY\r\n", Failure::Busy),
        ("7\r", Failure::Busy),
        ("\r\nNO DIALTONE\r\n", Failure::NoDialTone),
        ("\r\nNO DIAL TONE\r\n", Failure::NoDialTone),
        ("\r6\r", Failure::NoDialTone),
        ("\r\nNO ANSWER\r\n", Failure::NoAnswer),
        ("\r\nNO CARRIER\r\n", Failure::NoCarrier),
        ("NO CARRIER\r", Failure::NoCarrier),
        ("\r\nDELAYED\r\n", Failure::Delayed(None)),
        ("\r\nDELAYED 00:02:00\r\n", Failure::Delayed(Some(seconds(120)))),
        ("\r\nBLACKLISTED\r\n", Failure::Blacklisted),
        ("\r\nERROR\r\n", Failure::Refused),
        ("\r\nOK\r\n", Failure::Refused),
        ("\r\nRINGING\r\n\r\nRINGING\r\n\r\nNO ANSWER\r\n", Failure::NoAnswer),
    ] {
        let mut bench = Bench::ready(Box::new(move |line| match line {
            "ATDT9,5551234" => answer.into(),
            _ => b"\r\nOK\r\n".to_vec(),
        }));
        bench.dial("9,5551234");
        assert_eq!(bench.events, [Event::NotConnected(failure)], "{answer:?}");
        assert_eq!(bench.engine.phase(), Phase::Idle, "{answer:?}");
        bench.dial("1");
    }
}

#[test]
fn connections_are_read_with_what_came_before_them() {
    let answer = "\r\nCARRIER 14400\r\n\r\nPROTOCOL: LAPM\r\n\r\nCOMPRESSION: V.42BIS\r\n\r\nCONNECT 57600\r\n~hello";
    let mut bench = Bench::ready(Box::new(move |line| match line {
        "ATDT5551234" => answer.into(),
        _ => b"\r\nOK\r\n".to_vec(),
    }));
    bench.dial("5551234");
    let connect = Connect {
        speed: Some(57_600),
        carrier: Some(14_400),
        error_corrected: Some(true),
    };
    assert_eq!(bench.events, [Event::Connected(connect), Event::Data("~hello".into())]);
    bench.sent.clear();
    bench.pass(seconds(3600));
    assert!(bench.sent.is_empty(), "nothing is said into a call: {:?}", bench.sent);
}

#[test]
fn a_call_that_does_not_connect_is_broken_off() {
    let mut bench = Bench::ready(but(&[("ATDT9,,5551234", ""), ("", "\r\nNO CARRIER\r\n")]));
    bench.dial("9,,5551234");
    bench.pass(seconds(78));
    assert_eq!(bench.engine.phase(), Phase::Dialling, "two pauses take four seconds");
    bench.pass(seconds(2));
    assert_eq!(bench.events, [Event::NotConnected(Failure::TimedOut)]);
    assert_eq!(bench.sent, ["ATDT9,,5551234", ""]);
    assert_eq!(bench.engine.phase(), Phase::Idle);

    // One that does not even react is set up anew.
    let mut bench = Bench::ready(but(&[("ATDT5551234", ""), ("", "")]));
    bench.dial("5551234");
    bench.pass(seconds(100));
    assert!(bench.events.contains(&Event::Dtr(false)) && bench.events.contains(&Event::Ready));
}

#[test]
fn a_call_that_is_given_up_is_broken_off() {
    let mut bench = Bench::ready(but(&[("ATDT5551234", "")]));
    bench.dial("5551234");
    bench.engine.hang_up(bench.now);
    bench.until(&Event::Ready);
    assert_eq!(bench.sent[..3], ["ATDT5551234", "", "ATE0V1Q0"]);
    assert_eq!(bench.events[0], Event::Dtr(false));
}

#[test]
fn a_call_is_announced_after_two_rings_or_in_time() {
    let mut bench = Bench::ready(good());
    bench.says(b"\r\nRING\r\n");
    assert!(bench.events.is_empty());
    bench.says(b"\r\nRING\r\n");
    assert_eq!(
        (bench.events.as_slice(), bench.engine.rings()),
        (&[Event::Incoming][..], 2)
    );
    bench.says(b"2\r");
    assert_eq!(bench.events.len(), 1, "once");
    bench.pass(seconds(9));
    assert_eq!(bench.events, [Event::Incoming, Event::RingEnded]);

    // Slow cadences: four seconds after the first.
    bench.says(b"RING 2\r\n");
    bench.pass(seconds(4));
    assert_eq!(bench.events.len(), 3);
    assert_eq!(bench.events[2], Event::Incoming);
    bench.pass(seconds(4));
    assert_eq!(bench.events[3], Event::RingEnded);
    assert_eq!(bench.engine.phase(), Phase::Idle);
}

#[test]
fn a_call_is_answered() {
    // A ring was on its way when it was answered.
    let mut bench = Bench::ready(but(&[("ATA", "\r\nRING\r\n\r\nCONNECT 2400/NONE\r\n")]));
    bench.says(b"\r\nRING\r\n\r\nNMBR = 5551234\r\n\r\nRING\r\n");
    assert_eq!(bench.events, [Event::Incoming]);
    bench.engine.answer(bench.now).unwrap();
    bench.settle();
    let connect = Connect {
        speed: Some(2400),
        carrier: None,
        error_corrected: Some(false),
    };
    assert_eq!(bench.events[1], Event::Connected(connect));
    assert_eq!(
        bench.engine.caller(),
        Some(Caller {
            number: CallerNumber::Known("5551234".parse().unwrap()),
            source: CallerSource::Modem,
            trust: Trust::Unknown
        })
    );
}

#[test]
fn a_call_that_ends_while_it_is_answered_comes_to_nothing() {
    let mut bench = Bench::ready(but(&[("ATA", "\r\nNO CARRIER\r\n")]));
    bench.says(b"RING\r\nRING\r\n");
    bench.engine.answer(bench.now).unwrap();
    bench.settle();
    assert_eq!(bench.events, [Event::Incoming, Event::NotConnected(Failure::NoCarrier)]);
    assert_eq!(bench.engine.phase(), Phase::Idle);
    assert!(bench.engine.answer(bench.now).is_err(), "nothing rings");
}

#[test]
fn who_calls_is_told_before_between_or_not_at_all() {
    let number = |digits: &str| Some(CallerNumber::Known(digits.parse().unwrap()));
    for (said, caller) in [
        (
            "RING\r\nDATE = 0321\r\nTIME = 1405\r\nNMBR = 5551234\r\nNAME = ACME\r\nRING\r\n",
            number("5551234"),
        ),
        ("NMBR=5551234\r\nRING\r\nRING\r\n", number("5551234")),
        ("RING\r\n5551234\r\nRING\r\n", number("5551234")),
        ("RING;5551234;999\r\nRING;5551234;999\r\n", number("5551234")),
        ("RING\r\n+CLIP: \"+4989123\",145\r\nRING\r\n", number("+4989123")),
        ("RING\r\nNMBR = P\r\nRING\r\n", Some(CallerNumber::Withheld)),
        ("RING\r\nNMBR = O\r\nRING\r\n", Some(CallerNumber::OutOfArea)),
        ("RING\r\nRING\r\n", None),
        ("RING\r\nNMBR = 12;ATH0\r\nRING\r\n", None),
        ("RING\r\nNMBR = 999999999999999999999999999999999\r\nRING\r\n", None),
        // Somebody wrote a line of his own into his name.
        ("RING\r\nNMBR = 5551234\r\nNAME = X\rNMBR = 110\r\nRING\r\n", None),
    ] {
        let mut bench = Bench::ready(good());
        bench.says(said.as_bytes());
        assert!(bench.events.contains(&Event::Incoming), "{said:?}");
        assert_eq!(bench.caller(), caller, "{said:?}");
        bench.pass(seconds(20));
        bench.says(b"RING\r\nRING\r\n");
        assert_eq!(bench.caller(), None, "the next caller is another: {said:?}");
    }
    // Once it is told, there is nothing more to wait for.
    let mut bench = Bench::ready(good());
    bench.says(b"RING\r\nNMBR = 5551234\r\n");
    bench.pass(Duration::from_millis(300));
    assert_eq!(bench.events, [Event::Incoming]);
}

#[test]
fn a_call_that_comes_in_while_one_is_made_is_told_apart() {
    let mut bench = Bench::ready(but(&[("ATDT5551234", "\r\nRING\r\n\r\nNO CARRIER\r\n")]));
    bench.dial("5551234");
    assert_eq!(bench.events, [Event::NotConnected(Failure::Collision)]);
    assert_eq!(bench.engine.phase(), Phase::Ringing);
    bench.says(b"\r\nRING\r\n");
    assert_eq!(bench.events[1], Event::Incoming);
    let number = "5551234".parse().unwrap();
    assert!(bench.engine.dial(bench.now, &number).is_err(), "it rings");
}

#[test]
fn the_fall_of_the_carrier_ends_a_call() {
    let mut bench = Bench::online();
    // It may be late.
    bench.engine.carrier(bench.now, false);
    bench.settle();
    assert!(bench.events.is_empty());
    bench.engine.carrier(bench.now, true);
    bench.engine.carrier(bench.now, false);
    bench.settle();
    assert_eq!(
        (bench.events.as_slice(), bench.engine.phase()),
        (&[Event::Ended][..], Phase::HangingUp)
    );
    bench.engine.hang_up(bench.now);
    bench.until(&Event::Ready);
}

#[test]
fn no_carrier_is_believed_at_the_end_alone() {
    let mut bench = Bench::online();
    bench.says(b"~data\r\nNO CARRIER\r\nmore");
    bench.pass(seconds(60));
    assert!(bench.events.is_empty(), "something follows");
    bench.says(b"~NO CARRIER\r\n");
    bench.pass(seconds(60));
    assert!(bench.events.is_empty(), "not a line");
    bench.says(b"~\r\nNO CARRIER\r\n");
    bench.pass(seconds(1));
    bench.says(b"~");
    bench.pass(seconds(60));
    assert!(bench.events.is_empty(), "something follows late");
    // In pieces.
    bench.says(b"~\r\nNO CA");
    bench.says(b"RRIER\r");
    bench.says(b"\n");
    bench.pass(seconds(1));
    assert!(bench.events.is_empty());
    bench.pass(seconds(1));
    assert_eq!(bench.events, [Event::Ended]);
}

#[test]
fn without_dtr_a_call_is_ended_by_the_escape_sequence() {
    let mut bench = Bench::online();
    bench.engine.without_dtr();
    bench.sent.clear();
    bench.engine.hang_up(bench.now);
    assert_eq!(bench.engine.phase(), Phase::HangingUp);
    bench.until(&Event::Ready);
    assert_eq!(bench.sent[..3], ["+++", "ATE0V1Q0", "ATH"]);
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Dtr(_))));
}

#[test]
fn a_modem_that_does_not_hang_up_is_found_out() {
    let mut bench = Bench::ready(but(&[("ATDT5551234", "\r\nCONNECT 9600\r\n")]));
    bench.engine.carrier(bench.now, false);
    bench.dial("5551234");
    bench.engine.carrier(bench.now, true);
    bench.events.clear();
    bench.engine.hang_up(bench.now);
    bench.until(&Event::Fault(Fault::Stuck));
    assert!(bench.sent.iter().filter(|line| *line == "+++").count() >= 2);
    // A carrier that has always been there says nothing.
    let mut bench = Bench::new(good());
    bench.engine.carrier(bench.now, true);
    bench.until(&Event::Ready);
}

#[test]
fn two_words_after_a_hang_up_are_not_one_too_many() {
    let mut bench = Bench::online();
    bench.modem = but(&[("ATH", "\r\nNO CARRIER\r\n\r\nOK\r\n")]);
    bench.engine.hang_up(bench.now);
    bench.until(&Event::Ready);
    bench.pass(seconds(1));
    assert_eq!(bench.engine.phase(), Phase::Idle);
    // And one that says nothing but the first.
    let mut bench = Bench::online();
    bench.modem = but(&[("ATH", "\r\nNO CARRIER\r\n")]);
    bench.engine.hang_up(bench.now);
    bench.until(&Event::Ready);
}

#[test]
fn a_modem_that_answers_by_itself_has_a_call() {
    let mut bench = Bench::ready(good());
    bench.says(b"\r\nRING\r\n\r\nNMBR = P\r\n\r\nCONNECT 1200\r\n");
    assert!(matches!(bench.events[..], [Event::Connected(_)]), "{:?}", bench.events);
    assert_eq!(bench.caller(), Some(CallerNumber::Withheld));
}

#[test]
fn junk_is_survived() {
    use tms_core::testing::seed::Seed;
    for seed in 0..300 {
        let mut chance = Seed::new(seed);
        let mut bench = Bench::new(good());
        for _ in 0..60 {
            match chance.below(8) {
                0 => bench.says(b"\r\nRING\r\n"),
                1 => bench.says(b"\r\nCONNECT 9600/ARQ\r\n"),
                2 => bench.says(b"\r\nNO CARRIER\r\n"),
                3 => drop(bench.engine.dial(bench.now, &"123".parse().unwrap())),
                4 => drop(bench.engine.answer(bench.now)),
                5 => bench.engine.carrier(bench.now, chance.chance(500)),
                6 if chance.chance(200) => bench.engine.hang_up(bench.now),
                _ => {
                    let junk: Vec<u8> = (0..chance.below(40)).map(|_| chance.next() as u8).collect();
                    bench.says(&junk);
                }
            }
            bench.pass(Duration::from_millis(chance.below(4000)));
        }
        // Whatever it was, the modem comes back.
        bench.engine.carrier(bench.now, false);
        bench.engine.hang_up(bench.now);
        bench.pass(seconds(700));
        assert_eq!(bench.engine.phase(), Phase::Idle, "seed {seed}");
    }
}
