//! The link as a machine.

use super::check::{Check, Opened, SIZE};
use super::coding::{Coding, Deframer, FLAG, read_seven};
use super::frame::{Frame, Piece, Status};
use super::greeting::{Greeting, Path};
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::pace::Pace;
use super::turn::Turn;
use super::{Config, Counters, Down, Duplex, LinkEvent, MAX_PAYLOAD, Role, SevenBit, narrow, wide};
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

    /// What stands between two flags.
    fn frame(&mut self, mut body: Vec<u8>) {
        if let State::Open(call) = &self.state {
            let opened = match call.coding {
                Coding::Eight(_) => call.check.open(&mut body).map(|opened| (opened, body.as_slice())),
                Coding::Seven => match read_seven(&body) {
                    Some(mut plain) => match call.check.open(&mut plain) {
                        Some(opened) => {
                            body = plain;
                            Some((opened, body.as_slice()))
                        }
                        None => None,
                    },
                    None => None,
                },
            };
            if let Some((opened, body)) = opened
                && let Some((frame, _)) = body.split_last_chunk::<SIZE>()
                && let Some((role, frame)) = Frame::read(frame)
            {
                if role == self.config.role {
                    self.counters.echoes += 1;
                    return;
                }
                self.counters.good += 1;
                self.counters.mended += u64::from(opened == Opened::Mended);
                self.heard = self.now;
                return match frame {
                    Frame::Data(piece) => self.piece(&piece, false),
                    Frame::Last(piece) => self.piece(&piece, true),
                    Frame::Status(status) => self.status(&status),
                };
            }
        }
        match Greeting::read(&body) {
            Some((greeting, _)) if greeting.role == self.config.role => self.counters.echoes += 1,
            Some((greeting, path)) => {
                self.counters.good += 1;
                self.greeted(greeting, path);
            }
            None => self.counters.bad += 1,
        }
    }

    fn greeted(&mut self, peer: Greeting, path: Path) {
        self.heard = self.now;
        let own = self.greeting.nonce;
        // A path that was seen to carry seven bits is not believed to carry eight again; and each says what both use.
        self.greeting.seven |= peer.seven || path == Path::Seven;
        match &mut self.state {
            State::Greeting { .. } => {
                self.greeting.echo = Some(peer.nonce);
                // Where greetings have crossed nothing more needs to be said: the first frame shows that the peer knows.
                let unheard = self.spoke.is_none() || self.greeting.seven && !peer.seven;
                self.open(peer, unheard);
                self.events.push_back(LinkEvent::Up);
            }
            State::Open(call) if call.peer.nonce == peer.nonce => {
                let seven = call.coding == Coding::Seven;
                if seven != self.greeting.seven {
                    self.outbound.lose_all();
                    self.open(peer, true);
                } else if peer.echo == Some(own) && peer.seven == seven {
                    // It may not know that this end knows it.
                    call.know();
                    call.status = StatusDue::Now;
                } else {
                    call.greet = Some(self.now);
                }
            }
            State::Open(call) if !call.known => {
                // The first was of an earlier call.
                self.greeting.echo = Some(peer.nonce);
                self.outbound.begin_again();
                self.open(peer, true);
            }
            State::Open(_) => self.down(Down::Restarted),
            State::Over => {}
        }
    }

    /// The call begins with what both have said.
    fn open(&mut self, peer: Greeting, greet: bool) {
        let own = &self.greeting;
        let half = own.half || peer.half;
        let escape = own.escape.union(peer.escape);
        let known = peer.echo == Some(own.nonce) && peer.seven == own.seven;
        // Where only one may speak the answerer greets when it is greeted, and not of its own accord.
        let answers = half && own.role == Role::Answerer;
        let greet = if greet || answers {
            Some(self.now)
        } else if known {
            None
        } else {
            Some(self.now + self.every(half))
        };
        self.deframer.ignore(escape);
        self.state = State::Open(Call {
            check: own.call(&peer),
            coding: if own.seven {
                Coding::Seven
            } else {
                Coding::Eight(escape)
            },
            payload: u64::from(peer.payload.clamp(32, MAX_PAYLOAD)),
            known,
            peer,
            greet,
            status: StatusDue::No,
            unsaid: 0,
            unsaid_bytes: 0,
            ask: false,
            overdue: None,
            tries: 0,
            turn: Turn::first(half, own.role, self.now, TURN_PATIENCE),
            told: false,
            done: None,
            farewells: FAREWELLS,
        });
    }

    const fn every(&self, half: bool) -> Duration {
        if half { GREETING_IN_TURN } else { GREETING }
    }

    /// A piece of the peer's stream.
    fn piece(&mut self, piece: &Piece<'_>, last: bool) {
        let State::Open(call) = &mut self.state else { return };
        let taken = self.inbound.take(piece, last);
        call.hear(self.now);
        call.told = true;
        call.unsaid += 1;
        call.unsaid_bytes += wide(piece.bytes.len());
        let (delay, every, bytes) = if self.outbound.is_waiting() || self.outbound.is_open() {
            (DELAY_BUSY, EVERY_BUSY, BYTES_BUSY)
        } else {
            (DELAY, EVERY, u64::MAX)
        };
        let urgent = taken.as_ref().is_none_or(|taken| taken.urgent);
        if urgent || call.unsaid >= every || call.unsaid_bytes >= bytes {
            call.status = StatusDue::Now;
        } else if call.status == StatusDue::No {
            call.status = StatusDue::At(self.now + delay);
        }
        if let Some(taken) = taken.filter(|taken| !taken.bytes.is_empty()) {
            self.events.push_back(LinkEvent::Received(taken.bytes));
        }
        self.settle(true);
    }

    /// What the peer says of this end's stream.
    fn status(&mut self, status: &Status) {
        let State::Open(call) = &mut self.state else { return };
        call.hear(self.now);
        let delivered = self.outbound.is_delivered();
        let heard = self.outbound.heard(status, self.now, &mut self.pace);
        if status.ask {
            call.status = StatusDue::Now;
        }
        if status.over && call.turn.is_half() {
            // It has spoken after all that was said to it: what it did not get is lost.
            self.outbound.lose_all();
            call.turn.got(self.now, call.told);
            call.told = false;
        }
        if heard.progress {
            (call.tries, call.overdue) = (0, None);
        }
        if self.outbound.is_delivered() && !delivered {
            self.events.push_back(LinkEvent::Delivered);
        }
        self.settle(false);
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

    /// Nothing more comes from the peer.
    fn gone(&mut self, why: Down) {
        let all = self.outbound.is_closed() && self.outbound.is_empty() && matches!(self.state, State::Open(_));
        if all && self.inbound.is_ended() {
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

    fn greet(&mut self) -> Bytes {
        let line = self.greeting.write();
        self.spoke = Some(self.now);
        self.counters.octets_out += wide(line.len());
        line.into()
    }

    /// The next frame that may go.
    fn next(&mut self) -> Option<Bytes> {
        let State::Open(call) = &mut self.state else {
            return None;
        };
        if call.greet.is_some_and(|at| self.now >= at) {
            let half = call.turn.is_half();
            let again = !call.known && !(half && self.config.role == Role::Answerer);
            let every = if half { GREETING_IN_TURN } else { GREETING };
            call.greet = again.then_some(self.now + every);
            return Some(self.greet());
        }
        if !call.turn.may_speak() {
            return None;
        }
        if call.status == StatusDue::Now && !call.turn.is_half() {
            return Some(self.say(false));
        }
        let mut payload = self.pace.payload(call.payload);
        let size = wide(call.coding.width(narrow(payload) + 8));
        let window = match call.turn.left(self.pace.burst()) {
            Some(left) => {
                payload = payload.min(left.max(32));
                left + self.outbound.flying()
            }
            None => self.pace.window(size),
        };
        if let Some(cut) = self.outbound.cut(payload, call.payload, window, call.tries > 0) {
            let piece = cut.piece();
            let frame = if cut.last {
                Frame::Last(piece)
            } else {
                Frame::Data(piece)
            };
            self.counters.pieces += 1;
            self.counters.repeated += u64::from(cut.again);
            let fresh = self.outbound.flying() == 0;
            let body = frame.write(self.config.role);
            let line = self.line(body, fresh);
            self.outbound.sent(cut, wide(line.len()), self.now, &mut self.pace);
            if let State::Open(call) = &mut self.state {
                call.turn.spoke(wide(line.len()));
                call.overdue = None;
            }
            return Some(line);
        }
        let waiting = self.outbound.is_waiting();
        (call.turn.is_over(self.now, waiting, self.pace.burst())).then(|| self.say(true))
    }

    /// A status, with the turn or without it.
    fn say(&mut self, over: bool) -> Bytes {
        let mut ask = false;
        if let State::Open(call) = &mut self.state {
            ask = mem::take(&mut call.ask);
            (call.status, call.unsaid, call.unsaid_bytes) = (StatusDue::No, 0, 0);
            if call.done.is_some() && call.farewells > 0 {
                call.farewells -= 1;
                call.status = StatusDue::At(self.now + FAREWELL);
            }
            let patience = self.pace.patience(self.outbound.flying()) + TURN_PATIENCE;
            let patience = patience.saturating_mul(1 << call.tries.min(MAX_BACKOFF));
            call.turn.gave(self.now, patience.min(MAX_PATIENCE), self.config.role);
        }
        let room = self.inbound.room_units();
        self.shut = self.inbound.room() < super::WINDOW / 4;
        self.counters.statuses += 1;
        // Whoever hears of the end may hang up: the peer is told before.
        self.end();
        let status = Status {
            heard: self.inbound.heard(),
            before: self.inbound.before(),
            next: self.inbound.next(),
            room,
            ask,
            over,
        };
        self.line(Frame::Status(status).write(self.config.role), true)
    }

    /// Puts a frame on the line. `fresh` is one that may come after a pause, in which there was noise.
    fn line(&mut self, mut body: Vec<u8>, fresh: bool) -> Bytes {
        let mut out = Vec::with_capacity(body.len() + body.len() / 32 + 16);
        if let State::Open(call) = &self.state {
            body.extend(call.check.of(&body).to_be_bytes());
            if fresh && self.spoke.is_none_or(|spoke| self.now >= spoke + PAUSE) {
                out.push(FLAG);
            }
            call.coding.write(&body, &mut out);
            out.push(FLAG);
        }
        self.spoke = Some(self.now);
        self.counters.octets_out += wide(out.len());
        out.into()
    }

    /// When there is something to do next, with nothing heard.
    fn deadline(&mut self) -> Option<Instant> {
        let silent = self.heard + self.config.inactivity;
        match &mut self.state {
            State::Greeting { next, until } => Some(*next.min(until)),
            State::Open(call) => {
                let half = call.turn.is_half();
                let stuck = self.outbound.is_open() || self.outbound.is_waiting();
                if stuck && !half && call.overdue.is_none() {
                    let patience = self.pace.patience(self.outbound.flying());
                    let patience = patience.saturating_mul(1 << call.tries.min(MAX_BACKOFF));
                    call.overdue = Some(self.now + patience.min(MAX_PATIENCE));
                }
                if !stuck {
                    call.overdue = None;
                }
                let status = match call.status {
                    StatusDue::At(at) if !half => Some(at),
                    _ => None,
                };
                let alive = (!half)
                    .then_some(())
                    .and(self.spoke)
                    .map(|spoke| spoke + self.config.inactivity / 3);
                [
                    Some(silent),
                    call.greet,
                    status,
                    alive,
                    call.overdue,
                    call.turn.deadline(),
                    call.done,
                ]
                .into_iter()
                .flatten()
                .min()
            }
            State::Over => None,
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
