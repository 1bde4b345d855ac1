//! The engine: everything that is done with a modem, as a machine without I/O.

use super::connect::Connect;
use super::event::{Event, Failure, Fault, NotNow, Phase};
use super::line::Lines;
use super::prepare::{Prepare, Progress};
use super::profile::{DialString, Profile};
use super::reply::{self, Reply};
use bytes::Bytes;
use std::collections::VecDeque;
use tms_core::transport::{Caller, CallerNumber, CallerSource, PhoneNumber, Trust};
use tms_proto::machine::{Input, Instant, Machine, Output};

#[derive(Debug)]
enum State {
    Preparing {
        prepare: Prepare,
        /// A call came before.
        after_call: bool,
        /// How often it did not hang up.
        stuck: u8,
    },
    Idle {
        probe_at: Instant,
    },
    /// Asked whether it is still there.
    Probing {
        tries: u8,
        until: Instant,
    },
    Ringing(Ringing),
    /// A connection is awaited, that we called for or that we answer.
    Connecting {
        dials: bool,
        until: Instant,
        /// A call came in meanwhile.
        ring: bool,
        told: Connect,
    },
    /// A connection did not come in time; what it was doing is broken off.
    Aborting {
        until: Instant,
    },
    Online {
        /// The carrier was seen, so that its fall means something.
        carrier: bool,
        /// The end of what was received.
        tail: VecDeque<u8>,
        /// `NO CARRIER` is the last that was received: true if nothing comes before this.
        suspect: Option<Instant>,
    },
    /// A call is over, and the modem not told yet.
    Ended,
    Failed {
        retry_at: Instant,
    },
    Closed,
}

#[derive(Debug)]
struct Ringing {
    rings: u32,
    last: Instant,
    /// When it may be answered; `None` when that was said.
    announce_at: Option<Instant>,
}

/// Everything that is done with a modem, as a machine without I/O.
///
/// It begins by bringing the modem into a known state, whatever it was left in, and comes back to that after each call. Its
/// caller polls it as every [`Machine`], carries out [`Event::Dtr`] and [`Event::Discard`], and tells it of the
/// [carrier](Self::carrier). While a call is up, the bytes that are read go to the call *and* to the engine, which
/// looks for its end in them; the engine itself sends nothing then.
#[derive(Debug)]
pub struct Engine {
    profile: Profile,
    state: State,
    lines: Lines,
    out: VecDeque<Output<Event>>,
    /// The port has DTR.
    dtr: bool,
    /// The carrier, where the port tells.
    carrier: Option<bool>,
    /// It was seen low, so that it is not a line that is always high.
    carrier_works: bool,
    caller: Identified,
    called: Option<PhoneNumber>,
    /// Tries in a row that failed.
    failures: u32,
    now: Instant,
}

/// What was told about a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Identified {
    #[default]
    Nothing,
    Number(CallerNumber),
    /// Two were told that differ: somebody has written into the line.
    Contradiction,
}

/// The end of received bytes that is remembered.
const TAIL: usize = 24;

impl Engine {
    /// An engine that begins to prepare its modem.
    #[must_use]
    pub fn new(profile: Profile, now: Instant) -> Self {
        let mut engine = Self {
            profile,
            state: State::Closed,
            lines: Lines::default(),
            out: VecDeque::new(),
            dtr: true,
            carrier: None,
            carrier_works: false,
            caller: Identified::Nothing,
            called: None,
            failures: 0,
            now,
        };
        engine.prepare(false);
        engine
    }

    /// What it is doing.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match &self.state {
            State::Preparing {
                prepare, after_call, ..
            } => {
                if *after_call && prepare.is_hanging_up() {
                    Phase::HangingUp
                } else {
                    Phase::Preparing
                }
            }
            State::Idle { .. } | State::Probing { .. } => Phase::Idle,
            State::Ringing(_) => Phase::Ringing,
            State::Connecting { dials: true, .. } => Phase::Dialling,
            State::Connecting { dials: false, .. } => Phase::Answering,
            State::Aborting { .. } | State::Ended => Phase::HangingUp,
            State::Online { .. } => Phase::Online,
            State::Failed { .. } | State::Closed => Phase::Failed,
        }
    }

    /// Who calls, or called last, as the modem told.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        match &self.caller {
            Identified::Number(number) => Some(Caller {
                number: number.clone(),
                source: CallerSource::Modem,
                // An analogue line does not say who gave it.
                trust: Trust::Unknown,
            }),
            Identified::Nothing | Identified::Contradiction => None,
        }
    }

    /// The number that was called, where the modem told.
    #[must_use]
    pub const fn called(&self) -> Option<&PhoneNumber> {
        self.called.as_ref()
    }

    /// Rings of the call that is coming in.
    #[must_use]
    pub const fn rings(&self) -> u32 {
        match &self.state {
            State::Ringing(ringing) => ringing.rings,
            _ => 0,
        }
    }

    /// The port has no DTR: calls are hung up by the escape sequence alone.
    pub const fn without_dtr(&mut self) {
        self.dtr = false;
    }

    /// The carrier, as often as the port is asked, at least five times in a second while a call is up or hung up.
    pub fn carrier(&mut self, now: Instant, on: bool) {
        self.advance(now);
        self.carrier = Some(on);
        self.carrier_works |= !on;
        if let State::Online { carrier, .. } = &mut self.state {
            if on {
                *carrier = true;
            } else if *carrier {
                self.end();
            }
        }
    }

    /// Calls a number.
    ///
    /// # Errors
    /// Where the modem is not idle.
    pub fn dial(&mut self, now: Instant, number: &DialString) -> Result<(), NotNow> {
        self.advance(now);
        if !matches!(self.state, State::Idle { .. } | State::Probing { .. }) {
            return Err(NotNow(self.phase()));
        }
        let method = if self.profile.tone { 'T' } else { 'P' };
        let timing = &self.profile.timing;
        let until = now + timing.connect + timing.pause * number.pauses();
        self.transmit(format!("ATD{method}{number}\r").into());
        self.lines.clear();
        self.state = State::Connecting {
            dials: true,
            until,
            ring: false,
            told: Connect::default(),
        };
        Ok(())
    }

    /// Answers the call that rings.
    ///
    /// # Errors
    /// Where none does.
    pub fn answer(&mut self, now: Instant) -> Result<(), NotNow> {
        self.advance(now);
        if !matches!(self.state, State::Ringing(_)) {
            return Err(NotNow(self.phase()));
        }
        self.transmit(Bytes::from_static(b"ATA\r"));
        self.state = State::Connecting {
            dials: false,
            until: now + self.profile.timing.connect,
            ring: false,
            told: Connect::default(),
        };
        Ok(())
    }

    /// Ends whatever is going on, and brings the modem into its known state, or tries to at once where it had failed.
    /// [`Event::Ready`] or [`Event::Fault`] follows.
    pub fn hang_up(&mut self, now: Instant) {
        self.advance(now);
        match self.state {
            State::Online { .. } | State::Ended => self.prepare(true),
            State::Connecting { .. } | State::Aborting { .. } => {
                // Any character breaks it off.
                self.transmit(Bytes::from_static(b"\r"));
                self.prepare(true);
            }
            State::Ringing(_) | State::Idle { .. } | State::Probing { .. } | State::Failed { .. } => {
                self.prepare(false);
            }
            State::Preparing { .. } | State::Closed => {}
        }
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn transmit(&mut self, bytes: Bytes) {
        self.out.push_back(Output::Transmit(bytes));
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn prepare(&mut self, after_call: bool) {
        let prepare = Prepare::from_anything(self.now, &self.profile, self.dtr, &mut self.out);
        self.lines.clear();
        self.state = State::Preparing {
            prepare,
            after_call,
            stuck: 0,
        };
    }

    fn idle(&mut self) {
        self.state = State::Idle {
            probe_at: self.now + self.profile.timing.probe,
        };
    }

    fn fail(&mut self, fault: Fault) {
        let timing = &self.profile.timing;
        let wait = timing
            .retry
            .saturating_mul(1 << self.failures.min(16))
            .min(timing.longest_retry);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Failed {
            retry_at: self.now + wait,
        };
        self.event(Event::Fault(fault));
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.event(Event::Ended);
    }

    fn connected(&mut self, connect: Connect) {
        self.state = State::Online {
            carrier: false,
            tail: VecDeque::with_capacity(TAIL),
            suspect: None,
        };
        self.event(Event::Connected(connect));
    }

    fn not_connected(&mut self, failure: Failure) {
        let ring = matches!(
            self.state,
            State::Connecting {
                dials: true,
                ring: true,
                ..
            }
        );
        self.event(Event::NotConnected(if ring { Failure::Collision } else { failure }));
        self.idle();
        if ring {
            // It may ring still.
            self.ring();
        }
    }

    fn prepared(&mut self, progress: Progress) {
        let State::Preparing { after_call, stuck, .. } = self.state else {
            return;
        };
        match progress {
            Progress::Going => {}
            Progress::Done if self.carrier_works && self.carrier == Some(true) => {
                if stuck < 2 {
                    self.state = State::Preparing {
                        prepare: Prepare::by_escape(self.now, &self.profile),
                        after_call,
                        stuck: stuck + 1,
                    };
                } else {
                    self.fail(Fault::Stuck);
                }
            }
            Progress::Done => {
                self.failures = 0;
                self.idle();
                self.event(Event::Ready);
            }
            Progress::Failed(fault) => self.fail(fault),
        }
    }

    /// The telephone rings.
    fn ring(&mut self) {
        let (now, timing) = (self.now, &self.profile.timing);
        if let State::Ringing(ringing) = &mut self.state {
            ringing.last = now;
            ringing.rings += 1;
            if ringing.rings == 1 {
                ringing.announce_at = Some(now + timing.answer_after);
            }
        } else {
            self.state = State::Ringing(Ringing {
                rings: 1,
                last: now,
                announce_at: Some(now + timing.answer_after),
            });
        }
        if let State::Ringing(ringing) = &mut self.state
            && ringing.rings >= self.profile.answer_rings
            && ringing.announce_at.take().is_some()
        {
            self.event(Event::Incoming);
        }
    }

    /// Who calls was told.
    fn identify(&mut self, told: reply::Told) {
        let (now, timing) = (self.now, &self.profile.timing);
        if !matches!(self.state, State::Ringing(_)) {
            // In some countries this comes before the first ring.
            self.state = State::Ringing(Ringing {
                rings: 0,
                last: now,
                announce_at: None,
            });
        }
        if let Some(number) = told.caller {
            self.caller = match std::mem::take(&mut self.caller) {
                Identified::Nothing => Identified::Number(number),
                Identified::Number(before) if before == number => Identified::Number(before),
                _ => Identified::Contradiction,
            };
            if let State::Ringing(Ringing {
                announce_at: Some(at), ..
            }) = &mut self.state
            {
                *at = (*at).min(now + timing.identified);
            }
        }
        if told.called.is_some() {
            self.called = told.called;
        }
    }

    fn forget_caller(&mut self) {
        (self.caller, self.called) = (Identified::Nothing, None);
    }

    /// A line of a modem in command mode.
    fn line(&mut self, line: &str) {
        let (reply, numeric) = reply::read(line);
        match &mut self.state {
            State::Preparing { prepare, .. } => {
                let progress = prepare.reply(self.now, &self.profile, &reply, numeric);
                self.prepared(progress);
            }
            State::Idle { .. } | State::Probing { .. } => self.line_when_idle(line, reply, numeric),
            State::Ringing(_) => self.line_when_ringing(line, reply, numeric),
            State::Connecting { .. } => self.line_when_connecting(line, reply),
            State::Aborting { .. } => match reply {
                Reply::Connect(_) => self.prepare(true),
                Reply::Ok | Reply::NoCarrier | Reply::Error | Reply::Busy | Reply::NoAnswer => self.idle(),
                _ => {}
            },
            // It lives: no need to wait any longer.
            State::Failed { .. } if matches!(reply, Reply::Ring(_)) => self.prepare(false),
            State::Failed { .. } | State::Online { .. } | State::Ended | State::Closed => {}
        }
    }

    fn line_when_idle(&mut self, line: &str, reply: Reply, numeric: bool) {
        let probing = matches!(self.state, State::Probing { .. });
        match reply {
            Reply::Ring(told) => {
                self.forget_caller();
                self.ring();
                self.identify(told);
            }
            Reply::Caller(told) => {
                self.forget_caller();
                self.identify(told);
            }
            // It answers calls by itself, which it was told not to: a call is a call.
            Reply::Connect(connect) if !numeric => {
                self.forget_caller();
                self.connected(connect);
            }
            // It has lost its settings: the power was away.
            Reply::Echo if probing => self.set_up_again(),
            Reply::Ok if probing && numeric => self.set_up_again(),
            Reply::Ok if probing => self.idle(),
            Reply::Text => {
                if let Some(told) = super::caller::read_bare(line) {
                    self.forget_caller();
                    self.identify(told);
                }
            }
            _ => {}
        }
    }

    fn set_up_again(&mut self) {
        self.state = State::Preparing {
            prepare: Prepare::from_command_mode(self.now + self.profile.timing.settle),
            after_call: false,
            stuck: 0,
        };
    }

    fn line_when_ringing(&mut self, line: &str, reply: Reply, numeric: bool) {
        match reply {
            Reply::Ring(told) => {
                self.ring();
                self.identify(told);
            }
            Reply::Caller(told) => self.identify(told),
            Reply::Connect(connect) if !numeric => self.connected(connect),
            Reply::Text => {
                if let Some(told) = super::caller::read_bare(line) {
                    self.identify(told);
                }
            }
            _ => {}
        }
    }

    fn line_when_connecting(&mut self, line: &str, reply: Reply) {
        let State::Connecting { ring, told, dials, .. } = &mut self.state else {
            return;
        };
        let dials = *dials;
        let failure = match reply {
            Reply::Connect(mut connect) => {
                connect.merge(*told);
                if dials {
                    self.forget_caller();
                }
                self.connected(connect);
                return;
            }
            Reply::Ring(_) => {
                *ring = true;
                return;
            }
            Reply::Caller(who) if !dials => {
                self.late(who);
                return;
            }
            Reply::Echo | Reply::Caller(_) => return,
            Reply::Text => {
                told.detail(line);
                return;
            }
            Reply::Busy => Failure::Busy,
            Reply::NoDialTone => Failure::NoDialTone,
            Reply::NoAnswer => Failure::NoAnswer,
            Reply::NoCarrier => Failure::NoCarrier,
            Reply::Delayed(wait) => Failure::Delayed(wait),
            Reply::Blacklisted => Failure::Blacklisted,
            // A modem that knows no DELAYED and no BLACKLISTED says this; one that found no number says OK.
            Reply::Error | Reply::Ok => Failure::Refused,
        };
        self.not_connected(failure);
    }

    /// Who calls was told while the call was being answered.
    fn late(&mut self, told: reply::Told) {
        if self.caller == Identified::Nothing
            && let Some(number) = told.caller
        {
            self.caller = Identified::Number(number);
        }
    }

    /// Bytes of the peer, in which the end of the call may be told.
    fn observe(&mut self, bytes: &[u8]) {
        let until = self.now + self.profile.timing.quiet;
        let State::Online { tail, suspect, .. } = &mut self.state else {
            return;
        };
        let new = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
        tail.extend(new);
        let over = tail.len().saturating_sub(TAIL);
        tail.drain(..over);
        *suspect = says_no_carrier(tail.make_contiguous()).then_some(until);
    }

    fn received(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if matches!(self.state, State::Online { .. }) {
                // The rest of the line's end is not the peer's.
                let rest = bytes.strip_prefix(b"\n").unwrap_or(bytes);
                if !rest.is_empty() {
                    self.event(Event::Data(Bytes::copy_from_slice(rest)));
                    self.observe(rest);
                }
                return;
            }
            bytes = rest;
            if let Some(line) = self.lines.push(*first) {
                self.line(&line);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Preparing { prepare, .. } => Some(prepare.until()),
            State::Idle { probe_at } => Some(*probe_at),
            State::Probing { until, .. } | State::Connecting { until, .. } | State::Aborting { until } => Some(*until),
            State::Ringing(ringing) => {
                let gone = ringing.last + self.profile.timing.ring_gap;
                Some(ringing.announce_at.map_or(gone, |at| at.min(gone)))
            }
            State::Online { suspect, .. } => *suspect,
            State::Failed { retry_at } => Some(*retry_at),
            State::Ended | State::Closed => None,
        }
    }

    fn timeout(&mut self) {
        let (now, timing) = (self.now, self.profile.timing);
        match &mut self.state {
            State::Preparing { prepare, .. } => {
                let progress = prepare.timeout(now, &self.profile, &mut self.out);
                self.prepared(progress);
            }
            State::Idle { .. } => self.probe(1),
            State::Probing { tries, .. } => match *tries {
                tries @ 0..3 => self.probe(tries + 1),
                _ => self.prepare(false),
            },
            State::Ringing(ringing) => {
                if ringing.announce_at.is_some_and(|at| at <= now) {
                    ringing.announce_at = None;
                    self.event(Event::Incoming);
                } else {
                    self.idle();
                    self.event(Event::RingEnded);
                }
            }
            State::Connecting { .. } => {
                self.transmit(Bytes::from_static(b"\r"));
                self.event(Event::NotConnected(Failure::TimedOut));
                self.state = State::Aborting {
                    until: now + timing.reply,
                };
            }
            State::Aborting { .. } => self.prepare(true),
            State::Online { .. } => self.end(),
            State::Failed { .. } => self.prepare(false),
            State::Ended | State::Closed => {}
        }
    }

    fn probe(&mut self, tries: u8) {
        self.transmit(Bytes::from_static(b"ATE0V1Q0\r"));
        self.state = State::Probing {
            tries,
            until: self.now + self.profile.timing.attention,
        };
    }
}

/// Whether the last line of these bytes is `NO CARRIER`, and it is a line.
fn says_no_carrier(tail: &[u8]) -> bool {
    let Some(text) = tail.strip_suffix(b"\r\n").or_else(|| tail.strip_suffix(b"\r")) else {
        return false;
    };
    match text.strip_suffix(b"NO CARRIER") {
        Some([.., before]) => matches!(before, b'\r' | b'\n'),
        Some([]) => true,
        None => false,
    }
}

impl Machine for Engine {
    type Event = Event;

    /// While a call is up, `Received` has what was read for the call.
    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.advance(now);
        match input {
            Input::Received(bytes) if matches!(self.state, State::Online { .. }) => self.observe(bytes),
            Input::Received(bytes) => self.received(bytes),
            Input::Timeout => {
                if self.deadline().is_some_and(|at| at <= self.now) {
                    self.timeout();
                }
            }
            Input::Closed => self.state = State::Closed,
        }
    }

    fn poll(&mut self) -> Output<Event> {
        match self.out.pop_front() {
            Some(output) => output,
            None if matches!(self.state, State::Closed) => Output::Close,
            None => Output::Wait(self.deadline()),
        }
    }
}
