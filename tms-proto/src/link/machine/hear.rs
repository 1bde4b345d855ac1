//! What comes from the peer.

use super::super::check::{Opened, SIZE};
use super::super::coding::{Coding, read_seven};
use super::super::frame::{Frame, Piece, Status};
use super::super::greeting::{Greeting, Path};
use super::super::turn::Turn;
use super::super::{LinkEvent, MAX_PAYLOAD, Role};
use super::*;

impl Link {
    /// What stands between two flags.
    pub(super) fn frame(&mut self, mut body: Vec<u8>) {
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
    pub(super) fn open(&mut self, peer: Greeting, greet: bool) {
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

    pub(super) const fn every(&self, half: bool) -> Duration {
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
        if status.over && !call.turn.may_speak() {
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
}
