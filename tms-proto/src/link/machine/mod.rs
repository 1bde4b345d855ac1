//! The link as a machine: what it knows, and what is due.

mod hear;
mod speak;

use super::check::{Check, SIZE};
use super::coding::{Coding, Deframer};
use super::greeting::Greeting;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::pace::Pace;
use super::turn::Turn;
use super::{Config, Counters, Down, Duplex, LinkEvent, MAX_PAYLOAD, Role, SevenBit, wide};
use crate::machine::{Input, Instant, Machine, Output};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::time::Duration;

/// The longest that stands between two flags: the largest frame in seven bits.
const LONGEST: usize = 1_536;

/// How often a greeting is said again: where both may speak at once, and where they take turns.
const GREETING: Duration = Duration::from_secs(1);
const GREETING_IN_TURN: Duration = Duration::from_secs(3);

/// A status waits so long for more to say.
const DELAY: Duration = Duration::from_millis(40);

/// The same while this end has bytes of its own to send.
const DELAY_BUSY: Duration = Duration::from_millis(120);

/// So many frames are answered with one status; the same while this end has bytes of its own to send, unless they have so
/// many bytes.
const EVERY: u32 = 2;
const EVERY_BUSY: u32 = 4;
const BYTES_BUSY: u64 = 512;

/// How often the wait between two tries doubles.
const MAX_BACKOFF: u32 = 6;

/// The longest wait between two tries.
const MAX_PATIENCE: Duration = Duration::from_secs(30);

/// How long the peer's turn may be silent, besides what its frames take.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// When both ends are done, how long this one is there to say so again.
const LINGER: Duration = Duration::from_secs(4);

/// How often the end is said again to a peer that has said its own, and has all: it may be gone.
const LAST_TRIES: u32 = 3;

/// How often the last status is said again in that time, and how long after the one before.
const FAREWELLS: u32 = 3;
const FAREWELL: Duration = Duration::from_millis(400);

/// After so long without a frame the next begins with a flag of its own: what stood on the line meanwhile is noise.
const PAUSE: Duration = Duration::from_millis(20);

/// One end of a link: bytes of a line in and out below, a stream of bytes above. See the [module](super).
///
/// After [`Output::Close`] nothing more is sent; what was sent before it must still go out.
#[derive(Debug)]
pub struct Link {
    config: Config,
    greeting: Greeting,
    now: Instant,
    state: State,
    deframer: Deframer,
    inbound: Inbound,
    outbound: Outbound,
    pace: Pace,
    events: VecDeque<LinkEvent>,
    /// The end of the peer's stream was reported.
    ended: bool,
    /// The peer was told of little room.
    shut: bool,
    /// When a frame was sent last.
    spoke: Option<Instant>,
    /// When the peer was heard last.
    heard: Instant,
    counters: Counters,
}

#[derive(Debug)]
enum State {
    /// Nobody has answered.
    Greeting {
        /// When it is said next.
        next: Instant,
        until: Instant,
    },
    Open(Call),
    Over,
}

/// What both ends know of the call.
#[derive(Debug)]
struct Call {
    peer: Greeting,
    check: Check,
    coding: Coding,
    payload: u64,
    /// The peer has shown that it knows this end's greeting.
    known: bool,
    /// When the greeting is to be said again.
    greet: Option<Instant>,
    status: StatusDue,
    /// Pieces that came since the last status, and their bytes.
    unsaid: u32,
    unsaid_bytes: u64,
    /// The peer is to answer the next status.
    ask: bool,
    /// When a word of the peer is overdue, and how often it was.
    overdue: Option<Instant>,
    tries: u32,
    turn: Turn,
    /// The peer said something in its turn.
    told: bool,
    /// Both streams are at their ends, and when that is long enough ago.
    done: Option<Instant>,
    /// How often the last status is said again, without being asked: the peer may hang up when it has heard it.
    farewells: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatusDue {
    No,
    At(Instant),
    Now,
}

impl Link {
    /// A link that greets its peer. `nonce` must be another one in each call: random bytes, or a count that is kept.
    #[must_use]
    pub fn new(config: &Config, nonce: [u8; 4], now: Instant) -> Self {
        let mut greeting = Greeting::new(config.role, nonce);
        greeting.escape = config.escape;
        greeting.seven = config.seven_bit == SevenBit::Always;
        greeting.half = config.duplex == Duplex::Half;
        // Where only one may speak the caller begins.
        let next = if greeting.half && config.role == Role::Answerer {
            now + config.greeting
        } else {
            now
        };
        Self {
            config: *config,
            greeting,
            now,
            state: State::Greeting {
                next,
                until: now + config.greeting,
            },
            deframer: Deframer::new(LONGEST),
            inbound: Inbound::new(),
            outbound: Outbound::new(),
            pace: Pace::new(config.bits_per_second, config.error_corrected),
            events: VecDeque::new(),
            ended: false,
            shut: false,
            spoke: None,
            heard: now,
            counters: Counters::default(),
        }
    }

    /// Takes bytes for the peer, as many as there is [room](Self::room) for, and gives their number. Bytes that were given
    /// together go together where they can: they are received whole, or not at all.
    pub fn send(&mut self, now: Instant, bytes: &[u8]) -> usize {
        self.advance(now);
        if matches!(self.state, State::Over) {
            return 0;
        }
        self.outbound.push(bytes)
    }

    /// How many bytes [`send`](Self::send) would take now: none while enough waits for the line.
    #[must_use]
    pub fn room(&self) -> usize {
        if matches!(self.state, State::Over) {
            0
        } else {
            self.outbound.room()
        }
    }

    /// Ends this end's stream: after [`LinkEvent::Delivered`] the peer has all of it.
    pub fn close(&mut self, now: Instant) {
        self.advance(now);
        self.outbound.close();
    }

    /// So many of the received bytes are no longer held: the peer may send more.
    pub fn consumed(&mut self, now: Instant, bytes: usize) {
        self.advance(now);
        self.inbound.used(wide(bytes));
        if self.shut && self.inbound.room() >= super::WINDOW / 2 {
            self.shut = false;
            if let State::Open(call) = &mut self.state {
                call.status = StatusDue::Now;
            }
        }
    }

    /// The next event, where there is one: [`poll`](Machine::poll) gives these before everything else. For callers whose line
    /// takes nothing now.
    pub fn event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Whether the peer has answered, and the link is not down.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let most = match &self.state {
            State::Open(call) => call.payload,
            _ => u64::from(MAX_PAYLOAD),
        };
        let payload = self.pace.payload(most);
        Counters {
            payload,
            window: self.pace.window(payload),
            ..self.counters
        }
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn down(&mut self, why: Down) {
        if !matches!(self.state, State::Over) {
            self.end();
            self.state = State::Over;
            self.events.push_back(LinkEvent::Down(why));
        }
    }

    /// Notes that both streams are at their ends; a peer that still sends pieces has not heard that they have come.
    fn settle(&mut self, piece: bool) {
        if let State::Open(call) = &mut self.state
            && self.outbound.is_delivered()
            && self.inbound.is_ended()
        {
            let first = call.done.is_none();
            if first {
                call.status = StatusDue::Now;
            }
            if first || piece {
                let linger = if call.turn.is_half() { MAX_PATIENCE } else { LINGER };
                call.done = Some(self.now + linger);
            }
        }
    }

    /// Reports the end of the peer's stream.
    fn end(&mut self) {
        if self.inbound.is_ended() && !mem::replace(&mut self.ended, true) {
            self.events.push_back(LinkEvent::Ended);
        }
    }

    /// Both streams have come whole, but for the peer's word that it knows this one's end.
    fn is_all_but_said(&self) -> bool {
        let open = matches!(self.state, State::Open(_));
        open && self.outbound.is_closed() && self.outbound.is_empty() && self.inbound.is_ended()
    }

    /// Nothing more comes from the peer.
    fn gone(&mut self, why: Down) {
        if self.is_all_but_said() {
            // The peer has hung up with all that there was; its last word was lost.
            if !self.outbound.is_delivered() {
                self.events.push_back(LinkEvent::Delivered);
            }
            self.down(Down::Finished);
        } else {
            self.down(why);
        }
    }

    /// Does what is due by now.
    fn tick(&mut self) {
        let now = self.now;
        let silent = now >= self.heard + self.config.inactivity;
        let all_but_said = self.is_all_but_said();
        match &mut self.state {
            State::Greeting { until, .. } if now >= *until => self.down(Down::NoAnswer),
            State::Open(call) if call.done.is_some_and(|done| now >= done) => self.down(Down::Finished),
            State::Open(_) if silent => self.gone(Down::Silent),
            State::Open(call) => {
                if let StatusDue::At(at) = call.status
                    && now >= at
                {
                    call.status = StatusDue::Now;
                }
                if self.spoke.is_none_or(|spoke| now >= spoke + self.config.inactivity / 3) {
                    call.status = StatusDue::Now;
                }
                if call.overdue.is_some_and(|overdue| now >= overdue) {
                    self.counters.timeouts += 1;
                    call.tries = call.tries.saturating_add(1);
                    call.overdue = None;
                    if call.tries > LAST_TRIES && all_but_said {
                        return self.gone(Down::Silent);
                    }
                    self.outbound.timeout(now, &mut self.pace);
                    if !self.outbound.is_resending() {
                        // There is something to say, and the peer has no room for it.
                        (call.ask, call.status) = (true, StatusDue::Now);
                    }
                }
                if call.turn.is_lost(now) {
                    self.counters.timeouts += 1;
                    call.tries = call.tries.saturating_add(1);
                    self.outbound.lose_all();
                    call.turn.got(now, call.told);
                    call.told = false;
                }
            }
            _ => {}
        }
    }
}

impl Call {
    fn know(&mut self) {
        self.known = true;
        self.greet = None;
    }

    fn hear(&mut self, now: Instant) {
        self.know();
        self.turn.heard(now, TURN_PATIENCE);
    }
}

impl Machine for Link {
    type Event = LinkEvent;

    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.advance(now);
        match input {
            Input::Received(octets) => {
                self.counters.octets_in += wide(octets.len());
                for octet in octets {
                    if let Some(body) = self.deframer.push(*octet) {
                        // What is too short is no frame, and no noise to speak of.
                        if body.len() > SIZE && !matches!(self.state, State::Over) {
                            self.frame(body);
                        }
                    }
                }
            }
            Input::Timeout => {}
            Input::Closed => self.gone(Down::Cut),
        }
        self.tick();
    }

    fn poll(&mut self) -> Output<LinkEvent> {
        if let Some(event) = self.event() {
            return Output::Event(event);
        }
        let half = self.greeting.half;
        let every = self.every(half);
        match &mut self.state {
            State::Over => return Output::Close,
            State::Greeting { next, .. } if self.now >= *next => {
                *next = self.now + every;
                return Output::Transmit(self.greet());
            }
            _ => {}
        }
        match self.next() {
            Some(line) => Output::Transmit(line),
            None => Output::Wait(self.deadline()),
        }
    }
}
