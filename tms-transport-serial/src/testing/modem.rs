//! A simulated modem.

use super::exchange::{Exchange, Side, Tone};
use super::line::{Arrivals, Way};
use super::port::{SimPort, Wires};
use super::quirk::{Quirks, Results};
use crate::port::Open;
use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// What modems and their owners tell a modem.
pub(super) enum Signal {
    /// Somebody calls.
    Ring {
        side: Side,
        shown: String,
    },
    /// Who was called has answered.
    Answered {
        call: u64,
        way: Way,
        arrivals: Arrivals,
    },
    /// The other side has hung up, or the exchange has.
    HangUp {
        call: u64,
    },
    Power(bool),
    Cut,
}

/// A modem on a line of an [`Exchange`]. It lives as long as this.
#[derive(Debug)]
pub struct SimModem {
    exchange: Exchange,
    number: String,
    signals: UnboundedSender<Signal>,
    ports: UnboundedSender<DuplexStream>,
    wires: Arc<Wires>,
    log: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl SimModem {
    pub(super) fn start(
        exchange: Exchange,
        number: String,
        quirks: Quirks,
        signals: UnboundedSender<Signal>,
        inbox: UnboundedReceiver<Signal>,
    ) -> Self {
        let wires = Wires::new(quirks.no_lines);
        wires.set(|signals| signals.ready = true);
        let (ports, opened) = unbounded_channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let modem = Modem {
            exchange: exchange.clone(),
            number: number.clone(),
            quirks,
            wires: Arc::clone(&wires),
            log: Arc::clone(&log),
            powered: true,
            mode: Mode::default(),
            command: String::new(),
            out: VecDeque::new(),
            state: State::OnHook,
            call: None,
            way: None,
            arrivals: None,
            arriving: None,
            passed: 0,
            deaf_after: None,
            lost_at: None,
            ring: None,
            escape: Escape::default(),
            vain: BTreeMap::new(),
        };
        let task = tokio::spawn(modem.run(inbox, opened)).abort_handle();
        Self {
            exchange,
            number,
            signals,
            ports,
            wires,
            log,
            task,
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> &str {
        &self.number
    }

    /// Opens its port, one at a time.
    #[must_use]
    pub fn opener(&self) -> Box<dyn Open> {
        let (wires, ports) = (Arc::clone(&self.wires), self.ports.clone());
        Box::new(move || open(&wires, &ports))
    }

    pub(super) fn open(&self) -> io::Result<SimPort> {
        open(&self.wires, &self.ports)
    }

    /// Switches its power. One that had none has forgotten its settings.
    pub fn power(&self, on: bool) {
        let _ = self.signals.send(Signal::Power(on));
    }

    /// Puts its telephone line into the wall, or pulls it out, which does not end the call that is up.
    pub fn plug(&self, plugged: bool) {
        self.exchange.plug(&self.number, plugged);
    }

    /// The exchange ends its call.
    pub fn cut(&self) {
        let _ = self.signals.send(Signal::Cut);
    }

    /// The commands that it was given, without `AT`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Whether it has a call.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.wires.signals.lock().unwrap().carrier
    }
}

fn open(wires: &Arc<Wires>, ports: &UnboundedSender<DuplexStream>) -> io::Result<SimPort> {
    let (port, equipment) = SimPort::open(wires)?;
    ports.send(equipment).map_err(|_| io::ErrorKind::NotFound)?;
    Ok(port)
}

impl Drop for SimModem {
    fn drop(&mut self) {
        self.task.abort();
        self.exchange.plug(&self.number, false);
    }
}

/// What commands set.
#[derive(Debug)]
struct Mode {
    echo: bool,
    words: bool,
    quiet: bool,
    callers: bool,
    answer_time: Duration,
}

impl Default for Mode {
    fn default() -> Self {
        Self {
            echo: true,
            words: true,
            quiet: false,
            callers: false,
            answer_time: Duration::from_secs(50),
        }
    }
}

enum State {
    OnHook,
    /// The digits are on their way.
    Dialling {
        until: Instant,
        number: String,
    },
    /// It rings at the other end, until this.
    Waiting {
        until: Instant,
        voice: bool,
    },
    /// The modems find out about each other.
    Training {
        until: Instant,
    },
    /// A call is up. The flag: commands are taken meanwhile.
    Online {
        commands: bool,
    },
}

struct Ring {
    side: Side,
    shown: String,
    next: Instant,
    tell_at: Option<Instant>,
}

#[derive(Default)]
struct Escape {
    last: Option<Instant>,
    pluses: usize,
    until: Option<Instant>,
}

struct Modem {
    exchange: Exchange,
    number: String,
    quirks: Quirks,
    wires: Arc<Wires>,
    log: Arc<Mutex<Vec<String>>>,
    powered: bool,
    mode: Mode,
    command: String,
    /// What the computer is still to read.
    out: VecDeque<u8>,
    state: State,
    call: Option<Side>,
    way: Option<Way>,
    arrivals: Option<Arrivals>,
    arriving: Option<(Instant, Vec<u8>)>,
    /// Bytes that came through in this call.
    passed: u64,
    /// The other end sent nothing after this.
    deaf_after: Option<Instant>,
    /// When the loss of the carrier is believed.
    lost_at: Option<Instant>,
    ring: Option<Ring>,
    escape: Escape,
    /// Calls in vain: how many, and when the last was.
    vain: BTreeMap<String, (u32, Instant)>,
}

/// Bytes for the computer that wait at most; more than that are lost.
const OVERRUN: usize = 1 << 18;

async fn read(port: Option<&mut ReadHalf<DuplexStream>>, buffer: &mut [u8]) -> usize {
    match port {
        Some(port) if !buffer.is_empty() => port.read(buffer).await.unwrap_or(0),
        _ => pending().await,
    }
}

async fn write(port: Option<&mut WriteHalf<DuplexStream>>, bytes: &[u8]) -> usize {
    match port {
        // A computer that has gone reads nothing.
        Some(port) if !bytes.is_empty() => port.write(bytes).await.unwrap_or(bytes.len()),
        _ => pending().await,
    }
}

async fn arrive(arrivals: Option<&mut Arrivals>) -> (Instant, Vec<u8>) {
    match arrivals {
        Some(arrivals) => match arrivals.recv().await {
            Some(arrival) => arrival,
            None => pending().await,
        },
        None => pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

impl Modem {
    async fn run(mut self, mut inbox: UnboundedReceiver<Signal>, mut opened: UnboundedReceiver<DuplexStream>) {
        let mut dtr = self.wires.dtr.subscribe();
        let (mut port_in, mut port_out) = (None, None);
        let mut buffer = vec![0; 65_536];
        loop {
            let room = self.room().min(buffer.len());
            let deadline = self.deadline();
            self.out.make_contiguous();
            tokio::select! {
                port = opened.recv() => {
                    let Some(port) = port else { return };
                    let (read, write) = split(port);
                    (port_in, port_out) = (Some(read), Some(write));
                    self.out.clear();
                }
                signal = inbox.recv() => {
                    let Some(signal) = signal else { return };
                    self.signal(signal);
                }
                Ok(()) = dtr.changed() => {
                    let on = *dtr.borrow_and_update();
                    if !on && !self.quirks.ignores_dtr && !self.wires.missing {
                        self.hang_up_by_computer();
                    }
                }
                length = read(port_in.as_mut(), &mut buffer[..room]) => {
                    if length == 0 {
                        (port_in, port_out) = (None, None);
                    } else {
                        self.computer(&buffer[..length]);
                    }
                }
                written = write(port_out.as_mut(), self.out.as_slices().0) => {
                    self.out.drain(..written);
                }
                arrival = arrive(self.arrivals.as_mut()), if self.arriving.is_none() && self.out.len() < 4096 => {
                    self.arriving = Some(arrival);
                }
                () = at(deadline) => self.time(Instant::now()),
            }
        }
    }

    /// Bytes that the computer may give now.
    fn room(&self) -> usize {
        match (&self.state, &self.way) {
            (State::Online { commands: false }, Some(way)) => way.room(),
            _ => 512,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Dialling { until, .. } | State::Waiting { until, .. } | State::Training { until } => Some(*until),
            State::OnHook | State::Online { .. } => None,
        };
        let ring = self.ring.as_ref().map(|ring| ring.next);
        let tell = self.ring.as_ref().and_then(|ring| ring.tell_at);
        let arriving = self.arriving.as_ref().map(|(at, _)| *at);
        let room = match (&self.state, &self.way) {
            (State::Online { commands: false }, Some(way)) if way.room() == 0 => Some(way.ready_at()),
            _ => None,
        };
        let all = [state, ring, tell, arriving, room, self.lost_at, self.escape.until];
        all.into_iter().flatten().min()
    }

    fn time(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.arriving.as_ref().map(|(at, _)| *at)) {
            self.deliver();
        }
        if due(self.lost_at) {
            self.on_hook();
            self.result(3, "NO CARRIER");
        }
        if due(self.escape.until) {
            self.escape = Escape::default();
            if let State::Online { commands } = &mut self.state {
                *commands = true;
                self.result(0, "OK");
            }
        }
        if due(self.ring.as_ref().and_then(|ring| ring.tell_at)) {
            self.tell();
        }
        if due(self.ring.as_ref().map(|ring| ring.next)) {
            self.ring_once(now);
        }
        match &mut self.state {
            State::Dialling { until, number } if *until <= now => {
                let number = std::mem::take(number);
                self.dialled(&number, now);
            }
            State::Waiting { until, voice } if *until <= now => {
                let voice = *voice;
                self.leave();
                if voice {
                    self.result(3, "NO CARRIER");
                } else {
                    self.result(8, "NO ANSWER");
                }
            }
            State::Training { until } if *until <= now => self.connected(),
            _ => {}
        }
    }

    fn signal(&mut self, signal: Signal) {
        let now = Instant::now();
        let settings = &self.exchange.settings;
        match signal {
            Signal::Ring { side, shown } => {
                let first = self.quirks.caller_first && self.mode.callers;
                self.ring = Some(Ring {
                    side,
                    shown,
                    next: if first { now + settings.caller } else { now },
                    tell_at: first.then_some(now),
                });
            }
            Signal::Answered { call, way, arrivals } => {
                if self.call.as_ref().is_some_and(|side| side.call == call) {
                    (self.way, self.arrivals) = (Some(way), Some(arrivals));
                    if let State::Waiting { .. } = self.state {
                        self.state = State::Training {
                            until: now + settings.training,
                        };
                    }
                }
            }
            Signal::HangUp { call } => {
                if self.ring.as_ref().is_some_and(|ring| ring.side.call == call) {
                    self.ring = None;
                    self.wires.set(|signals| signals.ring = false);
                    self.exchange.release(&self.number);
                } else if self.call.as_ref().is_some_and(|side| side.call == call) {
                    self.deaf_after = Some(now + settings.line.latency);
                    self.lost_at = Some(now + settings.carrier_loss);
                }
            }
            Signal::Power(on) => {
                self.powered = on;
                self.wires.set(|signals| signals.ready = on);
                if !on {
                    self.leave();
                    self.mode = Mode::default();
                    self.vain.clear();
                    self.command.clear();
                    self.out.clear();
                }
            }
            Signal::Cut => self.cut(now),
        }
    }

    fn cut(&mut self, now: Instant) {
        if let Some(side) = &self.call {
            let _ = side.peer.send(Signal::HangUp { call: side.call });
            self.deaf_after = Some(now);
            self.lost_at = Some(now + self.exchange.settings.carrier_loss);
        }
    }

    /// Puts the telephone down, whatever it was doing.
    fn leave(&mut self) {
        if let Some(side) = &self.call {
            let _ = side.peer.send(Signal::HangUp { call: side.call });
        }
        self.on_hook();
    }

    fn on_hook(&mut self) {
        self.state = State::OnHook;
        (self.call, self.way, self.arrivals, self.arriving) = (None, None, None, None);
        (self.deaf_after, self.lost_at, self.passed) = (None, None, 0);
        self.escape = Escape::default();
        self.wires.set(|signals| signals.carrier = false);
        if self.ring.is_none() {
            self.exchange.release(&self.number);
        }
    }

    fn hang_up_by_computer(&mut self) {
        if !matches!(self.state, State::OnHook) {
            self.leave();
            self.result(3, "NO CARRIER");
        }
    }

    fn ring_once(&mut self, now: Instant) {
        let (every, caller) = (self.exchange.settings.ring, self.exchange.settings.caller);
        let tell = self.mode.callers && !self.quirks.caller_first;
        if let Some(ring) = &mut self.ring {
            let first = !self.wires.signals.lock().unwrap().ring;
            ring.next = now + every;
            if first && tell {
                ring.tell_at = Some(now + caller);
            }
        }
        if self.powered {
            self.wires.set(|signals| signals.ring = true);
            if matches!(self.state, State::OnHook) {
                self.result(2, "RING");
            }
        }
    }

    /// Says who calls.
    fn tell(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        ring.tell_at = None;
        let shown = ring.shown.clone();
        if self.powered {
            for line in self.quirks.caller.clone() {
                self.say(&format!("\r\n{}\r\n", line.replace("{number}", &shown)));
            }
        }
    }

    fn deliver(&mut self) {
        let Some((at, bytes)) = self.arriving.take() else {
            return;
        };
        let deaf = self.deaf_after.is_some_and(|after| at > after);
        if !deaf && matches!(self.state, State::Online { commands: false }) && self.out.len() < OVERRUN {
            self.passed += bytes.len() as u64;
            self.out.extend(bytes);
            self.cut_where_it_is_due();
        }
    }

    fn cut_where_it_is_due(&mut self) {
        let cut = self.exchange.settings.line.cut_after;
        if cut.is_some_and(|after| self.passed >= after) && self.lost_at.is_none() {
            self.cut(Instant::now());
        }
    }

    /// Bytes of the computer.
    fn computer(&mut self, bytes: &[u8]) {
        if !self.powered {
            return;
        }
        for (index, byte) in bytes.iter().enumerate() {
            match self.state {
                State::OnHook | State::Online { commands: true } => self.type_in(*byte),
                State::Online { commands: false } => {
                    self.send(&bytes[index..]);
                    return;
                }
                // Any character breaks it off, but for the rest of the line's end.
                _ if *byte == b'\n' => {}
                _ => {
                    self.leave();
                    self.result(3, "NO CARRIER");
                    return;
                }
            }
        }
    }

    /// Bytes of a call.
    fn send(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let guard = self.exchange.settings.guard;
        let alone = self.escape.pluses > 0 || self.escape.last.is_none_or(|last| now - last >= guard);
        if !self.quirks.no_escape
            && alone
            && bytes.iter().all(|byte| *byte == b'+')
            && self.escape.pluses + bytes.len() <= 3
        {
            self.escape.pluses += bytes.len();
            self.escape.until = (self.escape.pluses == 3).then(|| now + guard);
        } else {
            self.escape = Escape::default();
        }
        self.escape.last = Some(now);
        if let Some(way) = &mut self.way {
            way.send(bytes);
            self.passed += bytes.len() as u64;
            self.cut_where_it_is_due();
        }
    }

    fn type_in(&mut self, byte: u8) {
        if self.mode.echo || self.quirks.echoes {
            self.out.push_back(byte);
        }
        match byte {
            b'\r' => {
                let line = std::mem::take(&mut self.command);
                // What stands before AT is noise.
                if let Some(at) = line.find("AT") {
                    let command = line[at + 2..].to_owned();
                    self.log.lock().unwrap().push(command.clone());
                    self.execute(&command);
                }
            }
            0x20..=0x7E if self.command.len() < 80 => self.command.push(char::from(byte).to_ascii_uppercase()),
            _ => {}
        }
    }

    fn execute(&mut self, command: &str) {
        let mut rest = command.trim();
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            match letter {
                'D' => return self.dial(rest),
                'A' => return self.answer(),
                'O' => return self.go_online(),
                'H' => {
                    number(&mut rest);
                    if self.quirks.ignores_ath {
                        continue;
                    }
                    if !matches!(self.state, State::OnHook) {
                        self.leave();
                    }
                }
                'Z' => {
                    number(&mut rest);
                    self.mode = Mode::default();
                }
                'E' => self.mode.echo = number(&mut rest) != 0,
                'V' => self.mode.words = number(&mut rest) != 0,
                'Q' => self.mode.quiet = number(&mut rest) != 0,
                'S' => {
                    let register = number(&mut rest);
                    rest = rest.strip_prefix('=').unwrap_or(rest);
                    let value = number(&mut rest);
                    if register == 7 {
                        self.mode.answer_time = Duration::from_secs(u64::from(value));
                    }
                }
                'B' | 'C' | 'I' | 'L' | 'M' | 'N' | 'W' | 'X' => drop(number(&mut rest)),
                '&' | '\\' | '%' if !self.quirks.old => {
                    let which = rest.chars().next().unwrap_or(' ');
                    rest = rest.get(1..).unwrap_or_default();
                    number(&mut rest);
                    if (letter, which) == ('&', 'F') {
                        self.mode = Mode::default();
                    }
                }
                '+' if self.quirks.misreads => {}
                '+' if !self.quirks.old => {
                    if rest == "VCID=1" {
                        self.mode.callers = true;
                    }
                    rest = "";
                }
                ' ' => {}
                _ => return self.result(4, "ERROR"),
            }
        }
        self.result(0, "OK");
    }

    fn dial(&mut self, text: &str) {
        let now = Instant::now();
        let settings = Arc::clone(&self.exchange.settings);
        let number: String = text.chars().filter(char::is_ascii_digit).collect();
        if self.ring.is_some() {
            self.result(2, "RING");
            return self.result(3, "NO CARRIER");
        }
        if let Some((tries, last)) = self.vain.get(&number) {
            if self.quirks.blacklists.is_some_and(|most| *tries >= most) {
                return self.result(32, "BLACKLISTED");
            }
            if self.quirks.delays.is_some_and(|delay| now < *last + delay) {
                return self.result(24, "DELAYED");
            }
        }
        if !self.exchange.has_tone(&self.number) {
            return self.result(6, "NO DIALTONE");
        }
        let pauses = text.matches(',').count();
        let time = settings.digit * number.len() as u32 + settings.pause * pauses as u32;
        self.state = State::Dialling {
            until: now + time,
            number,
        };
    }

    fn dialled(&mut self, number: &str, now: Instant) {
        let vain = self.vain.entry(number.to_owned()).or_insert((0, now));
        *vain = (vain.0 + 1, now);
        match self.exchange.connect(&self.number, number) {
            Tone::Rings(side) => {
                self.call = Some(side);
                self.state = State::Waiting {
                    until: now + self.mode.answer_time,
                    voice: false,
                };
                if self.quirks.connects_early {
                    self.connected();
                }
            }
            Tone::Busy if self.quirks.busy_is_data => {
                self.connected();
                self.say("BUSY\n");
                self.on_hook();
                self.result(3, "NO CARRIER");
            }
            Tone::Busy => {
                self.on_hook();
                self.result(7, "BUSY");
            }
            Tone::Nothing => {
                self.on_hook();
                self.result(3, "NO CARRIER");
            }
            tone => {
                self.state = State::Waiting {
                    until: now + self.mode.answer_time,
                    voice: matches!(tone, Tone::Voice),
                };
            }
        }
    }

    fn answer(&mut self) {
        let Some(ring) = self.ring.take().filter(|_| matches!(self.state, State::OnHook)) else {
            return self.result(3, "NO CARRIER");
        };
        self.wires.set(|signals| signals.ring = false);
        let [(there, arrives_there), (back, arrives_back)] = self.exchange.line(ring.side.call);
        let answered = Signal::Answered {
            call: ring.side.call,
            way: there,
            arrivals: arrives_back,
        };
        let _ = ring.side.peer.send(answered);
        (self.way, self.arrivals) = (Some(back), Some(arrives_there));
        self.call = Some(ring.side);
        self.state = State::Training {
            until: Instant::now() + self.exchange.settings.training,
        };
    }

    fn go_online(&mut self) {
        if let State::Online { commands } = &mut self.state {
            *commands = false;
            self.connect_lines();
        } else {
            self.result(3, "NO CARRIER");
        }
    }

    fn connected(&mut self) {
        self.vain.clear();
        self.state = State::Online { commands: false };
        self.wires.set(|signals| signals.carrier = true);
        self.connect_lines();
    }

    fn connect_lines(&mut self) {
        let rate = self.exchange.settings.line.bits_per_second;
        let code = match rate {
            1200 => 5,
            2400 => 10,
            4800 => 11,
            9600 => 12,
            _ => 1,
        };
        let mut lines = self.quirks.connect.clone();
        let last = lines.pop().unwrap_or_else(|| "CONNECT".to_owned());
        for line in lines {
            self.say(&format!("\r\n{}\r\n", line.replace("{rate}", &rate.to_string())));
        }
        self.result(code, &last.replace("{rate}", &rate.to_string()));
    }

    fn result(&mut self, code: u8, text: &str) {
        if self.mode.quiet {
            return;
        }
        let said = match self.quirks.results {
            Results::Asked if self.mode.words => format!("\r\n{text}\r\n"),
            Results::Asked | Results::Numbers => format!("{code}\r"),
            Results::Framed => format!("\r{code}\r"),
            Results::Bare => format!("{text}\r"),
        };
        self.say(&said);
    }

    fn say(&mut self, text: &str) {
        if self.powered && self.out.len() < OVERRUN {
            self.out.extend(text.bytes());
        }
    }
}

/// The number that stands next, zero where none does.
fn number(rest: &mut &str) -> u32 {
    let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    number.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests;
