//! What goes to the peer, and when.

use super::super::coding::FLAG;
use super::super::frame::{Frame, Status};
use super::super::{Role, WINDOW, narrow, wide};
use super::*;

impl Link {
    pub(super) fn greet(&mut self) -> Bytes {
        let line = self.greeting.write();
        self.spoke = Some(self.now);
        self.counters.octets_out += wide(line.len());
        line.into()
    }

    /// The next frame that may go.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let State::Open(call) = &mut self.state else {
            return None;
        };
        if call.greet.is_some_and(|at| self.now >= at) {
            let half = call.turn.is_half();
            let again = !(call.known || half && self.config.role == Role::Answerer);
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
        self.shut = self.inbound.room() < WINDOW / 4;
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
        let line = self.line(Frame::Status(status).write(self.config.role), true);
        if !self.ended || over {
            return line;
        }
        // Nobody may be here to say it once more: it is said twice.
        self.counters.octets_out += wide(line.len());
        [line.as_ref(), line.as_ref()].concat().into()
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
    pub(super) fn deadline(&mut self) -> Option<Instant> {
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
