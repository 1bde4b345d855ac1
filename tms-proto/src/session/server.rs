//! The server's session: it admits a caller, learns who it is and how it is, gives it its plan, sends objects, and takes
//! results.

use super::line::Line;
use super::secure::{Inbound, Secure};
use super::{End, Fault, FirstReport, Misuse, Presented, ServerHello, TerminalHello};
use crate::code::ResultCode;
use crate::credential::VerifiedPeer;
use crate::envelope::{Envelope, Frame};
use crate::handshake::{
    Busy, HandshakeError, Hello, Kind, MAX_MESSAGE, Patience, Refuse, Responder, StaticKey, Suite, VERSION,
};
use crate::identity::CredentialId;
use crate::machine::{Input, Instant, Machine, Output};
use crate::message::{Bye, Message, ObjectGet, ObjectStart, Plan, PlanAck, Reject, StatusReport};
use crate::secret::Psk;
use crate::tlv::Structure;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::time::Duration;

/// How a server's sessions behave.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The envelope of this link.
    pub envelope: Envelope,
    /// The suites that the server speaks.
    pub suites: Vec<Suite>,
    /// The largest record that it sends on this link, in bytes of plaintext: 128 to 16,384. The terminal may ask for less.
    pub max_record: u16,
    /// The longest handshake: 5 s and three times what its bytes take on the line (§4.9).
    pub handshake_timeout: Duration,
    /// The longest silence of the terminal afterwards.
    pub idle_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            envelope: Envelope::TCP,
            suites: Vec::from([Suite::ChaChaPoly, Suite::AesGcm]),
            max_record: 16384,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// What a server shows of itself in modes 1 and 4.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Its X25519 key.
    pub static_key: StaticKey,
    /// Its credentials, encoded; see [`Credentials`](crate::credential::Credentials).
    pub credentials: Bytes,
    /// Their name.
    pub id: CredentialId,
}

/// What a server's session reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// Somebody calls, and nothing is proved. Answer with [`ServerSession::admit`], [`busy`](ServerSession::busy),
    /// [`refuse`](ServerSession::refuse), and before these, once, with [`patience`](ServerSession::patience).
    Hello(Hello),
    /// Modes 1 and 4: the terminal shows who it is. Verify it, then call [`ServerSession::accept`] or
    /// [`reject`](ServerSession::reject).
    Identify {
        /// Its credentials, or the name of those that the server is taken to remember.
        presented: Presented,
        /// The static key that the handshake proved.
        static_key: [u8; 32],
    },
    /// The terminal's report. Answer with [`ServerSession::plan`] or [`reject`](ServerSession::reject). In modes 2 and 3
    /// it may be a replay: nothing of it is to be recorded before [`ServerEvent::PlanAck`].
    Report(Box<StatusReport>),
    /// The terminal has the plan and is alive: the check-in is to be recorded now (§8.4).
    PlanAck(PlanAck),
    /// The terminal asks for an object. Answer with [`ServerSession::start`].
    Get(ObjectGet),
    /// The line is free and credit is left: give the next bytes with [`ServerSession::part`].
    Part {
        /// Which object.
        digest: crate::digest::Digest,
        /// From where.
        offset: u64,
        /// At most how many bytes: up to four large records, or a single one where records are small.
        max: usize,
    },
    /// Another message of the terminal's. After a [`Bye`] answer with [`ServerSession::bye`] when everything is recorded.
    Message(Message),
    /// The session is over.
    Ended(End),
}

struct Transfer {
    digest: crate::digest::Digest,
    next: u64,
    until: u64,
    /// The object's size, when the transfer was started.
    total: Option<u64>,
    /// A part was asked of the caller.
    asked: bool,
}

struct Open {
    secure: Secure,
    planned: bool,
    acknowledged: bool,
    transfer: Option<Transfer>,
    said_bye: bool,
    heard_bye: bool,
}

enum State {
    /// Nothing came yet.
    Idle,
    /// The caller is to be admitted.
    Called {
        hello: Hello,
        encoded: Bytes,
        message: Bytes,
    },
    /// Message 2 of modes 1 and 4 is out.
    Answered {
        responder: Box<Responder>,
        max_record: usize,
    },
    /// The terminal of modes 1 and 4 is to be verified.
    Shown {
        open: Box<Open>,
        static_key: [u8; 32],
        report: Box<StatusReport>,
    },
    /// Modes 2 and 3: the plan goes into message 2.
    Reported {
        responder: Box<Responder>,
        max_record: usize,
        time: u64,
    },
    /// Records flow.
    Open(Box<Open>),
    /// Nothing is left but to close.
    Closed,
}

/// A server's session; see the [module](super).
pub struct ServerSession {
    line: Line,
    state: State,
    hash: [u8; 32],
    events: VecDeque<ServerEvent>,
    now: Instant,
    deadline: Instant,
    idle_timeout: Duration,
    max_record: u16,
    suites: Vec<Suite>,
}

impl ServerSession {
    /// A session on a line that was just opened.
    #[must_use]
    pub fn new(config: &ServerConfig, now: Instant) -> Self {
        Self {
            line: Line::new(config.envelope, None),
            state: State::Idle,
            hash: [0; 32],
            events: VecDeque::new(),
            now,
            deadline: now + config.handshake_timeout,
            idle_timeout: config.idle_timeout,
            max_record: config.max_record,
            suites: config.suites.clone(),
        }
    }

    /// Admits the caller: from here on the handshake costs public-key work.
    ///
    /// `identity` is needed in modes 1 and 4, `psk` in modes 2, 3 and 4. `time` is the server's, in seconds since 1970 UTC;
    /// `ephemeral` is 32 fresh random bytes, never used again. A caller that cannot prove the key is refused by the
    /// session, with one constant answer.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] where nobody waits, [`Misuse::Key`] where the mode's key is missing.
    pub fn admit(
        &mut self,
        now: Instant,
        identity: Option<&ServerIdentity>,
        psk: Option<&Psk>,
        time: u64,
        ephemeral: [u8; 32],
    ) -> Result<(), Misuse> {
        self.advance(now);
        let State::Called {
            hello,
            encoded,
            message,
        } = &self.state
        else {
            return Err(Misuse::OutOfOrder);
        };
        let (mode, identity) = (hello.mode, identity.filter(|_| hello.mode.has_static()));
        if mode.has_psk() && psk.is_none() || mode.has_static() && identity.is_none() {
            return Err(Misuse::Key);
        }
        let psk = psk.filter(|_| mode.has_psk());
        let suite = hello.suite().ok_or(Misuse::OutOfOrder)?;
        let max_record = hello
            .record_limit()
            .min(usize::from(self.max_record))
            .min(self.line.max_record());
        let remembered = hello.remembered;
        let static_key = identity.map(|identity| &identity.static_key);
        let mut responder =
            Responder::new(encoded, mode, suite, static_key, psk, ephemeral).map_err(|_| Misuse::Key)?;
        let payload = match responder.first(message) {
            Ok(payload) => payload,
            Err(error) => {
                self.refused(error);
                return Ok(());
            }
        };
        let Some(identity) = identity else {
            match FirstReport::from_slice(&payload) {
                Ok(first) => {
                    self.state = State::Reported {
                        responder: Box::new(responder),
                        max_record,
                        time,
                    };
                    self.events.push_back(ServerEvent::Report(Box::new(first.report)));
                }
                Err(error) => self.end(End::Fault(error.into())),
            }
            return Ok(());
        };
        let credentials = (remembered != Some(identity.id)).then(|| identity.credentials.clone());
        let hello = ServerHello {
            time,
            credentials,
            plan: None,
            reject: None,
        };
        let message = responder.second(&hello.to_vec()).map_err(|_| Misuse::TooLarge)?;
        self.state = State::Answered {
            responder: Box::new(responder),
            max_record,
        };
        self.handshake_message(Kind::RESPONSE, &message);
        Ok(())
    }

    /// Tells the caller to come back: nothing was spent on it.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] where nobody waits.
    pub fn busy(&mut self, now: Instant, retry_after: u32, reason: Option<ResultCode>) -> Result<(), Misuse> {
        self.turn_away(now, Kind::BUSY, &Busy { retry_after, reason }.encode())
    }

    /// Refuses the caller. For everything that concerns keys the code is [`ResultCode::SecurityError`] and nothing else.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] where nobody waits.
    pub fn refuse(&mut self, now: Instant, code: ResultCode) -> Result<(), Misuse> {
        self.turn_away(
            now,
            Kind::REFUSE,
            &Refuse {
                code,
                versions: None,
                suites: None,
            }
            .encode(),
        )
    }

    fn turn_away(&mut self, now: Instant, kind: u8, answer: &[u8]) -> Result<(), Misuse> {
        self.advance(now);
        if !matches!(self.state, State::Called { .. }) {
            return Err(Misuse::OutOfOrder);
        }
        self.handshake_message(kind, answer);
        self.end(End::Ended);
        Ok(())
    }

    /// Asks the caller to wait longer for the handshake than it would: at most 120 s.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] where nobody waits.
    pub fn patience(&mut self, now: Instant, seconds: u16) -> Result<(), Misuse> {
        self.advance(now);
        if !matches!(self.state, State::Called { .. }) {
            return Err(Misuse::OutOfOrder);
        }
        self.deadline = self
            .deadline
            .max(self.now + Duration::from_secs(u64::from(seconds.min(120))));
        self.handshake_message(Kind::PATIENCE, &Patience { seconds }.encode());
        Ok(())
    }

    /// Modes 1 and 4: the terminal is who it says. Its report follows as an event.
    ///
    /// # Errors
    /// [`Misuse::Key`] where `peer` is not the one that the handshake proved.
    pub fn accept(&mut self, now: Instant, peer: &VerifiedPeer) -> Result<(), Misuse> {
        self.advance(now);
        let State::Shown { static_key, .. } = &self.state else {
            return Err(Misuse::OutOfOrder);
        };
        if *static_key != peer.static_key() {
            return Err(Misuse::Key);
        }
        if let State::Shown { open, report, .. } = mem::replace(&mut self.state, State::Closed) {
            self.state = State::Open(open);
            self.events.push_back(ServerEvent::Report(report));
        }
        Ok(())
    }

    /// Answers the report.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] where no report waits, [`Misuse::TooLarge`].
    pub fn plan(&mut self, now: Instant, plan: Plan) -> Result<(), Misuse> {
        self.advance(now);
        match &mut self.state {
            State::Reported { time, .. } => {
                let time = *time;
                let room = MAX_MESSAGE.saturating_sub(1 + 32 + 16);
                let whole = ServerHello {
                    time,
                    credentials: None,
                    plan: Some(plan.clone()),
                    reject: None,
                }
                .to_vec();
                if whole.len() <= room {
                    return self.respond(&whole, true, false);
                }
                // A plan too large for the handshake follows in a record.
                self.respond(
                    &ServerHello {
                        time,
                        credentials: None,
                        plan: None,
                        reject: None,
                    }
                    .to_vec(),
                    true,
                    false,
                )?;
            }
            State::Open(open) if !open.planned && !open.said_bye => open.planned = true,
            _ => return Err(Misuse::OutOfOrder),
        }
        let State::Open(open) = &mut self.state else {
            return Err(Misuse::OutOfOrder);
        };
        open.secure
            .send(&plan.into(), &mut self.line)
            .map_err(|_| Misuse::TooLarge)
    }

    /// Refuses the terminal, now that its handshake stands, and says goodbye.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] before the handshake stands.
    pub fn reject(&mut self, now: Instant, reject: Reject) -> Result<(), Misuse> {
        self.advance(now);
        match &mut self.state {
            State::Reported { time, .. } => {
                let payload = ServerHello {
                    time: *time,
                    credentials: None,
                    plan: None,
                    reject: Some(reject.clone()),
                }
                .to_vec();
                self.respond(&payload, false, true)?;
            }
            State::Shown { .. } => {
                if let State::Shown { open, .. } = mem::replace(&mut self.state, State::Closed) {
                    self.state = State::Open(open);
                }
                self.send_open(&reject.clone().into())?;
            }
            State::Open(_) => self.send_open(&reject.clone().into())?,
            _ => return Err(Misuse::OutOfOrder),
        }
        self.bye(
            now,
            Bye {
                code: reject.code,
                next_contact: None,
            },
        )
    }

    /// Sends a message of the server's, but for those that have a method of their own.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] before the plan was acknowledged or after goodbye, [`Misuse::Direction`],
    /// [`Misuse::TooLarge`].
    pub fn send(&mut self, now: Instant, message: impl Into<Message>) -> Result<(), Misuse> {
        self.advance(now);
        let message = message.into();
        match &message {
            Message::ResultAck(_)
            | Message::Text(_)
            | Message::RegisterAnswer(_)
            | Message::KeyBlock(_)
            | Message::CertificateGrant(_)
            | Message::ProofRequest(_)
            | Message::Reject(_) => {}
            other => return Err(Misuse::Direction(other.tag())),
        }
        match &self.state {
            State::Open(open) if open.acknowledged && !open.said_bye => self.send_open(&message),
            _ => Err(Misuse::OutOfOrder),
        }
    }

    /// Answers [`ServerEvent::Get`]: the object comes from `offset` on and is `total` bytes, or `code` says why it does
    /// not.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] where nothing was asked for.
    pub fn start(&mut self, now: Instant, total: u64, code: Option<ResultCode>) -> Result<(), Misuse> {
        self.advance(now);
        let State::Open(open) = &mut self.state else {
            return Err(Misuse::OutOfOrder);
        };
        let transfer = open
            .transfer
            .as_mut()
            .filter(|transfer| transfer.total.is_none())
            .ok_or(Misuse::OutOfOrder)?;
        let start = ObjectStart {
            digest: transfer.digest,
            offset: transfer.next,
            total,
            code,
        };
        // An offset behind the end is a terminal that holds something else under this name.
        let start = if code.is_none() && transfer.next > total {
            ObjectStart {
                total: 0,
                code: Some(ResultCode::Changed),
                ..start
            }
        } else {
            start
        };
        if start.code.is_some() || transfer.next == total {
            open.transfer = None;
        } else {
            transfer.total = Some(total);
        }
        self.send_open(&start.into())
    }

    /// Gives the bytes that [`ServerEvent::Part`] asked for: from its offset, at most its maximum, at least one.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] where no part was asked for, [`Misuse::TooLarge`].
    pub fn part(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Misuse> {
        self.advance(now);
        let State::Open(open) = &mut self.state else {
            return Err(Misuse::OutOfOrder);
        };
        let transfer = open
            .transfer
            .as_mut()
            .filter(|transfer| transfer.asked)
            .ok_or(Misuse::OutOfOrder)?;
        let total = transfer.total.ok_or(Misuse::OutOfOrder)?;
        let length = u64::try_from(bytes.len()).map_err(|_| Misuse::TooLarge)?;
        let end = transfer.next.saturating_add(length);
        if bytes.is_empty() || bytes.len() > open.secure.max_burst() || end > total.min(transfer.until) {
            return Err(Misuse::TooLarge);
        }
        self.line.reserve(bytes.len());
        for part in bytes.chunks(open.secure.max_part().max(1)) {
            open.secure
                .send_part(transfer.next, part, &mut self.line)
                .map_err(|_| Misuse::TooLarge)?;
            transfer.next += u64::try_from(part.len()).map_err(|_| Misuse::TooLarge)?;
        }
        transfer.asked = false;
        if end == total {
            open.transfer = None;
        }
        // Sending is progress: a long transfer on a slow line is not silence.
        self.deadline = self.now + self.idle_timeout;
        Ok(())
    }

    /// Gives up the running transfer, because the object cannot be read any more: the terminal is told by a reject.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn abort(&mut self, now: Instant, code: ResultCode) -> Result<(), Misuse> {
        if let State::Open(open) = &mut self.state {
            open.transfer = None;
        }
        self.send(
            now,
            Reject {
                code,
                message: Some(0x64),
                text: None,
                retry_after: None,
            },
        )
    }

    /// Says goodbye. Everything that the terminal sent must be recorded.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] before the handshake stands, or the second time.
    pub fn bye(&mut self, now: Instant, bye: Bye) -> Result<(), Misuse> {
        self.advance(now);
        let State::Open(open) = &mut self.state else {
            return Err(Misuse::OutOfOrder);
        };
        if mem::replace(&mut open.said_bye, true) {
            return Err(Misuse::OutOfOrder);
        }
        open.transfer = None;
        let heard = open.heard_bye;
        self.send_open(&bye.clone().into())?;
        if heard {
            self.end(End::Bye(bye));
        } else {
            // The terminal answers at once or is not there.
            self.deadline = self.now + Duration::from_secs(5).min(self.idle_timeout);
        }
        Ok(())
    }

    /// The hash of the handshake: what a live proof signs.
    #[must_use]
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// How many elements of the terminal's messages were skipped because this version does not know them.
    #[must_use]
    pub fn unknown(&self) -> usize {
        match &self.state {
            State::Open(open) => open.secure.unknown(),
            _ => 0,
        }
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn end(&mut self, end: End) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.events.push_back(ServerEvent::Ended(end));
        }
    }

    /// One constant answer for everything that concerns keys.
    fn refused(&mut self, error: HandshakeError) {
        self.handshake_message(
            Kind::REFUSE,
            &Refuse {
                code: ResultCode::SecurityError,
                versions: None,
                suites: None,
            }
            .encode(),
        );
        self.end(End::Fault(error.into()));
    }

    fn handshake_message(&mut self, kind: u8, body: &[u8]) {
        let mut payload = Vec::with_capacity(1 + body.len());
        payload.push(kind);
        payload.extend_from_slice(body);
        if let Err(error) = self.line.send(&payload) {
            self.end(End::Fault(error.into()));
        }
    }

    fn send_open(&mut self, message: &Message) -> Result<(), Misuse> {
        let State::Open(open) = &mut self.state else {
            return Err(Misuse::OutOfOrder);
        };
        open.secure.send(message, &mut self.line).map_err(|_| Misuse::TooLarge)
    }

    /// Message 2 of modes 2 and 3.
    fn respond(&mut self, payload: &[u8], planned: bool, rejected: bool) -> Result<(), Misuse> {
        let State::Reported {
            mut responder,
            max_record,
            ..
        } = mem::replace(&mut self.state, State::Closed)
        else {
            return Err(Misuse::OutOfOrder);
        };
        let message = responder.second(payload).map_err(|_| Misuse::TooLarge)?;
        self.hash = responder.hash();
        let records = responder.finish().map_err(|_| Misuse::Key)?;
        let mut open = Open::new(Secure::new(records, max_record));
        open.planned = planned || rejected;
        self.state = State::Open(Box::new(open));
        self.deadline = self.now + self.idle_timeout;
        self.handshake_message(Kind::RESPONSE, &message);
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.line.answer_to(frame);
        match &mut self.state {
            State::Idle => self.called(&frame.payload),
            State::Answered { .. } => self.proved(&frame.payload),
            State::Open(_) => self.record(&frame.payload),
            _ => Err(Fault::Kind(frame.payload.first().copied().unwrap_or_default())),
        }
    }

    fn called(&mut self, payload: &Bytes) -> Result<(), Fault> {
        match payload.first() {
            Some(&Kind::HELLO) if payload.len() <= MAX_MESSAGE => {}
            other => return Err(Fault::Kind(other.copied().unwrap_or_default())),
        }
        let body = payload.slice(1..);
        let (hello, used) = Hello::decode(&body)?;
        let suited = hello.suite().is_some_and(|suite| self.suites.contains(&suite));
        if hello.version() != Some(VERSION) || !suited {
            // Says what is spoken: the terminal's own pinned minimum decides whether it comes back with that.
            let refuse = Refuse {
                code: ResultCode::VersionUnsupported,
                versions: Some(Bytes::from_static(&[VERSION])),
                suites: Some(self.suites.iter().map(|suite| suite.code()).collect()),
            };
            self.handshake_message(Kind::REFUSE, &refuse.encode());
            self.end(End::Refused {
                code: ResultCode::VersionUnsupported,
                versions: hello.versions,
                suites: hello.suites,
            });
            return Ok(());
        }
        self.events.push_back(ServerEvent::Hello(hello.clone()));
        self.state = State::Called {
            hello,
            encoded: body.slice(..used),
            message: body.slice(used..),
        };
        Ok(())
    }

    /// Message 3 of modes 1 and 4.
    fn proved(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Some((&Kind::FINAL, message)) = payload.split_first() else {
            return Err(Fault::Kind(payload.first().copied().unwrap_or_default()));
        };
        let State::Answered { responder, max_record } = &mut self.state else {
            return Ok(());
        };
        let max_record = *max_record;
        let payload = match responder.third(message) {
            Ok(payload) => payload,
            Err(error) => {
                self.refused(error);
                return Ok(());
            }
        };
        let hello = TerminalHello::from_slice(&payload)?;
        let State::Answered { responder, .. } = mem::replace(&mut self.state, State::Idle) else {
            return Ok(());
        };
        let static_key = responder
            .remote_static()
            .ok_or(Fault::Handshake(HandshakeError::Refused))?;
        self.hash = responder.hash();
        let open = Box::new(Open::new(Secure::new(responder.finish()?, max_record)));
        self.state = State::Shown {
            open,
            static_key,
            report: Box::new(hello.report),
        };
        self.deadline = self.now + self.idle_timeout;
        let presented = match (hello.credentials, hello.remembered) {
            (Some(credentials), _) => Presented::Full(credentials),
            (None, Some(id)) => Presented::Remembered(CredentialId(id)),
            (None, None) => Presented::Full(Bytes::new()),
        };
        self.events.push_back(ServerEvent::Identify { presented, static_key });
        Ok(())
    }

    fn record(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let State::Open(open) = &mut self.state else {
            return Ok(());
        };
        let inbound = open.secure.open(payload)?;
        self.deadline = self.now + self.idle_timeout;
        let message = match inbound {
            Inbound::Nothing => return Ok(()),
            Inbound::Part { offset, .. } => return Err(Fault::Part(offset)),
            Inbound::Message(message) => message,
        };
        if open.heard_bye {
            return Err(Fault::OutOfOrder(message.tag()));
        }
        let event = match message {
            Message::Bye(bye) => {
                open.heard_bye = true;
                open.transfer = None;
                if open.said_bye {
                    self.end(End::Bye(*bye));
                    return Ok(());
                }
                ServerEvent::Message(Message::Bye(bye))
            }
            // The terminal may not have seen our goodbye yet; what it sent before comes again in its next report.
            _ if open.said_bye => return Ok(()),
            Message::PlanAck(ack) if open.planned && !open.acknowledged => {
                open.acknowledged = true;
                ServerEvent::PlanAck(*ack)
            }
            other if !open.acknowledged => return Err(Fault::OutOfOrder(other.tag())),
            Message::ObjectGet(get) => {
                let until = get.until.max(get.offset);
                open.transfer = Some(Transfer {
                    digest: get.digest,
                    next: get.offset,
                    until,
                    total: None,
                    asked: false,
                });
                ServerEvent::Get(*get)
            }
            Message::Credit(credit) => {
                // Credit for a transfer that has just ended is late, not wrong.
                if let Some(transfer) = &mut open.transfer {
                    transfer.until = transfer.until.max(credit.until);
                }
                return Ok(());
            }
            message @ (Message::StatusReport(_)
            | Message::ActionResult(_)
            | Message::TextReceipt(_)
            | Message::Register(_)
            | Message::KeyRequest(_)
            | Message::KeyConfirm(_)
            | Message::LogPart(_)
            | Message::Event(_)
            | Message::Reject(_)
            | Message::CertificateRequest(_)
            | Message::Proof(_)) => ServerEvent::Message(message),
            other => return Err(Fault::OutOfOrder(other.tag())),
        };
        self.events.push_back(event);
        Ok(())
    }

    /// Whether the caller is to be asked for the next part.
    fn wanted(&mut self) -> Option<ServerEvent> {
        let State::Open(open) = &mut self.state else {
            return None;
        };
        let max = open.secure.max_burst();
        let transfer = open.transfer.as_mut()?;
        let end = transfer.total?.min(transfer.until);
        if transfer.asked || transfer.next >= end {
            return None;
        }
        transfer.asked = true;
        let left = usize::try_from(end - transfer.next).unwrap_or(usize::MAX);
        Some(ServerEvent::Part {
            digest: transfer.digest,
            offset: transfer.next,
            max: left.min(max),
        })
    }

    /// Takes the next frame that is there; see the terminal's session.
    fn step(&mut self) -> bool {
        match &mut self.state {
            State::Idle | State::Answered { .. } | State::Open(_) => {}
            _ => return false,
        }
        match self.line.next() {
            Ok(Some(frame)) => {
                if let Err(fault) = self.frame(&frame) {
                    self.end(End::Fault(fault));
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.end(End::Fault(error.into()));
                true
            }
        }
    }
}

impl Machine for ServerSession {
    type Event = ServerEvent;

    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.advance(now);
        match input {
            Input::Received(bytes) => self.line.received(bytes),
            Input::Timeout if self.now >= self.deadline => self.end(End::Timeout),
            Input::Timeout => {}
            Input::Closed => {
                // What came before the line was cut still counts.
                while self.step() {}
                self.end(End::Cut);
            }
        }
    }

    fn poll(&mut self) -> Output<ServerEvent> {
        loop {
            if let Some(bytes) = self.line.take_output() {
                return Output::Transmit(bytes);
            }
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            if matches!(self.state, State::Closed) {
                return Output::Close;
            }
            if self.step() {
                continue;
            }
            return match self.wanted() {
                Some(event) => Output::Event(event),
                None => Output::Wait(Some(self.deadline)),
            };
        }
    }
}

impl Open {
    const fn new(secure: Secure) -> Self {
        Self {
            secure,
            planned: false,
            acknowledged: false,
            transfer: None,
            said_bye: false,
            heard_bye: false,
        }
    }
}
