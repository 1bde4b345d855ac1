//! The terminal's session: it proves itself, reports, gets its plan, downloads, confirms, and says goodbye.

use super::line::Line;
use super::secure::{Inbound, Secure};
use super::{End, Fault, FirstReport, Misuse, Presented, ServerHello, TerminalHello};
use crate::code::ResultCode;
use crate::credential::VerifiedPeer;
use crate::envelope::{Envelope, Frame, Tpdu};
use crate::handshake::{Busy, Hello, Initiator, Kind, MAX_MESSAGE, Mode, Patience, Refuse, StaticKey, Suite};
use crate::identity::CredentialId;
use crate::machine::{Input, Instant, Machine, Output};
use crate::message::{
    Bye, CertificateGrant, Credit, KeyBlock, MAX_ACTIONS, Message, ObjectGet, ObjectStart, Plan, RegisterAnswer,
    Reject, ResultAck, StatusReport, Text,
};
use crate::record::MAX_PLAINTEXT;
use crate::secret::Psk;
use crate::tlv::{Structure, Tag};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::time::Duration;

/// How a terminal's session behaves.
#[derive(Debug, Clone)]
pub struct TerminalConfig {
    /// The envelope of this link.
    pub envelope: Envelope,
    /// The route, where the envelope has a TPDU.
    pub tpdu: Option<Tpdu>,
    /// The suites that the terminal speaks, best first.
    pub suites: Vec<Suite>,
    /// The largest record that it takes, in bytes of plaintext: 128 to 16,384.
    pub max_record: u16,
    /// The longest handshake: 5 s and three times what its bytes take on the line (§4.9).
    pub handshake_timeout: Duration,
    /// The longest silence of the server afterwards.
    pub idle_timeout: Duration,
}

impl Default for TerminalConfig {
    fn default() -> Self {
        Self {
            envelope: Envelope::TCP,
            tpdu: None,
            suites: Vec::from([Suite::ChaChaPoly]),
            max_record: 16384,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// How a session opens: what the terminal has to prove itself with (§4.4).
#[derive(Debug)]
pub enum Opening<'a> {
    /// Mode 1: RSA identities on both sides. The report follows with [`TerminalSession::identify`].
    Rsa {
        /// The terminal's X25519 key.
        static_key: &'a StaticKey,
        /// The server credentials that the terminal remembers.
        remembered: Option<CredentialId>,
    },
    /// Mode 2: the terminal main-control key.
    MainKey {
        /// The terminal's id.
        terminal: u64,
        /// The key's epoch.
        epoch: u32,
        /// The pre-shared key that the PIN pad derived.
        psk: &'a Psk,
        /// What to report.
        report: &'a StatusReport,
    },
    /// Mode 3: a ticket of an earlier session.
    Ticket {
        /// Its id.
        id: [u8; 16],
        /// Its key.
        psk: &'a Psk,
        /// What to report.
        report: &'a StatusReport,
    },
    /// Mode 4: RSA identities and the main-control key together.
    Both {
        /// The terminal's X25519 key.
        static_key: &'a StaticKey,
        /// The server credentials that the terminal remembers.
        remembered: Option<CredentialId>,
        /// The terminal's id.
        terminal: u64,
        /// The main-control key's epoch.
        epoch: u32,
        /// The pre-shared key that the PIN pad derived.
        psk: &'a Psk,
    },
}

/// What a terminal's session reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    /// Modes 1 and 4: the server has shown itself. Verify it, then call [`TerminalSession::identify`].
    Server {
        /// The server's time, in seconds since 1970 UTC. Not to be believed before the server is verified.
        time: u64,
        /// Its credentials, or the name of those that the terminal said it remembers.
        presented: Presented,
        /// The static key that the handshake proved.
        static_key: [u8; 32],
    },
    /// The plan. Answer with a [`PlanAck`](crate::message::PlanAck) before anything else.
    Plan {
        /// The server's time, in seconds since 1970 UTC.
        time: u64,
        /// The plan.
        plan: Box<Plan>,
    },
    /// The server has recorded the check-in: the first message after the acknowledgement says so, but for a refusal and
    /// for a goodbye that is not `SUCC`. From now on the new ticket is the one to use.
    Recorded,
    /// An object comes, or does not.
    ObjectStart(ObjectStart),
    /// The next bytes of the object.
    ObjectPart {
        /// Where they belong: always the end of what came before.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
        /// The object is complete.
        last: bool,
    },
    /// Results are recorded.
    ResultAck(ResultAck),
    /// A text to show or print.
    Text(Text),
    /// A registration was answered.
    RegisterAnswer(RegisterAnswer),
    /// A key block for the PIN pad.
    KeyBlock(KeyBlock),
    /// A certificate was renewed, or not.
    CertificateGrant(CertificateGrant),
    /// The server wants a live proof: sign this hash with the RSA identity and send a
    /// [`Proof`](crate::message::Proof).
    ProofRequest {
        /// The handshake hash.
        hash: [u8; 32],
    },
    /// The server refused a message, or the terminal.
    Reject(Reject),
    /// The session is over.
    Ended(End),
}

struct Transfer {
    digest: crate::digest::Digest,
    next: u64,
    until: u64,
    total: Option<u64>,
}

struct Open {
    secure: Secure,
    time: u64,
    planned: bool,
    acknowledged: bool,
    recorded: bool,
    transfer: Option<Transfer>,
    /// Objects asked for whose start has not come: only the last one's counts.
    unanswered: u32,
    said_bye: bool,
    /// A live proof may be asked for.
    provable: bool,
}

enum State {
    /// Message 1 is out.
    Opened {
        initiator: Box<Initiator>,
        mode: Mode,
        remembered: Option<CredentialId>,
    },
    /// The server is to be verified.
    Shown { initiator: Box<Initiator>, time: u64 },
    /// Records flow.
    Open(Box<Open>),
    /// Nothing is left but to close.
    Closed,
}

/// A terminal's session; see the [module](super).
pub struct TerminalSession {
    line: Line,
    state: State,
    hash: [u8; 32],
    events: VecDeque<TerminalEvent>,
    now: Instant,
    deadline: Instant,
    idle_timeout: Duration,
    max_record: u16,
    patience_left: bool,
}

impl TerminalSession {
    /// Opens a session: its first output is handshake message 1.
    ///
    /// `ephemeral` is 32 fresh random bytes, never used again. An inventory that does not fit into the handshake message
    /// is left out of the report: the server asks for it.
    ///
    /// # Errors
    /// [`Misuse::TooLarge`] where the report is too large even so, [`Misuse::Key`] where a key cannot be used.
    pub fn new(
        config: &TerminalConfig,
        opening: &Opening<'_>,
        ephemeral: [u8; 32],
        now: Instant,
    ) -> Result<Self, Misuse> {
        let (mode, id, epoch, remembered, static_key, psk, report) = match *opening {
            Opening::Rsa { static_key, remembered } => {
                (Mode::Rsa, None, None, remembered, Some(static_key), None, None)
            }
            Opening::MainKey {
                terminal,
                epoch,
                psk,
                report,
            } => (
                Mode::MainKey,
                Some(terminal_id(terminal)),
                Some(epoch),
                None,
                None,
                Some(psk),
                Some(report),
            ),
            Opening::Ticket { id, psk, report } => (
                Mode::Ticket,
                Some(Bytes::copy_from_slice(&id)),
                None,
                None,
                None,
                Some(psk),
                Some(report),
            ),
            Opening::Both {
                static_key,
                remembered,
                terminal,
                epoch,
                psk,
            } => {
                let id = Some(terminal_id(terminal));
                (
                    Mode::Both,
                    id,
                    Some(epoch),
                    remembered,
                    Some(static_key),
                    Some(psk),
                    None,
                )
            }
        };
        let suite = *config.suites.first().ok_or(Misuse::OutOfOrder)?;
        let mut hello = Hello::new(mode, &config.suites);
        hello.id = id;
        hello.epoch = epoch;
        hello.remembered = remembered;
        hello.max_record = (usize::from(config.max_record) != MAX_PLAINTEXT).then_some(config.max_record);
        let hello = hello.encode();
        let mut initiator = Initiator::new(&hello, mode, suite, static_key, psk, ephemeral).map_err(|_| Misuse::Key)?;
        let room = MAX_MESSAGE.saturating_sub(hello.len() + 1 + 32 + 16);
        let payload = report.map_or_else(
            || Ok(Vec::new()),
            |report| fit(report, room, |report| FirstReport { report }),
        )?;
        let mut message = Vec::from([Kind::HELLO]);
        message.extend_from_slice(&hello);
        message.extend_from_slice(&initiator.first(&payload).map_err(|_| Misuse::TooLarge)?);
        let mut line = Line::new(config.envelope, config.tpdu);
        line.send(&message).map_err(|_| Misuse::TooLarge)?;
        Ok(Self {
            line,
            state: State::Opened {
                initiator: Box::new(initiator),
                mode,
                remembered,
            },
            hash: [0; 32],
            events: VecDeque::new(),
            now,
            deadline: now + config.handshake_timeout,
            idle_timeout: config.idle_timeout,
            max_record: config.max_record,
            patience_left: true,
        })
    }

    /// Modes 1 and 4: shows who the terminal is, and reports, after the server was verified.
    ///
    /// # Errors
    /// [`Misuse::Key`] where `server` is not the one that the handshake proved.
    pub fn identify(
        &mut self,
        now: Instant,
        server: &VerifiedPeer,
        presented: &Presented,
        report: &StatusReport,
    ) -> Result<(), Misuse> {
        self.advance(now);
        let State::Shown { initiator, .. } = &self.state else {
            return Err(Misuse::OutOfOrder);
        };
        if initiator.remote_static() != Some(server.static_key()) {
            return Err(Misuse::Key);
        }
        let (credentials, remembered) = match presented {
            Presented::Full(credentials) => (Some(credentials.clone()), None),
            Presented::Remembered(id) => (None, Some(id.0)),
        };
        let room = MAX_MESSAGE.saturating_sub(1 + 32 + 16 + 16);
        let payload = fit(report, room, |report| TerminalHello {
            credentials: credentials.clone(),
            remembered,
            report,
        })?;
        let State::Shown { mut initiator, time } = mem::replace(&mut self.state, State::Closed) else {
            return Err(Misuse::OutOfOrder);
        };
        let mut message = Vec::from([Kind::FINAL]);
        message.extend_from_slice(&initiator.third(&payload).map_err(|_| Misuse::TooLarge)?);
        self.line.send(&message).map_err(|_| Misuse::TooLarge)?;
        self.hash = initiator.hash();
        let records = initiator.finish().map_err(|_| Misuse::Key)?;
        let secure = Secure::new(records, usize::from(self.max_record).min(self.line.max_record()));
        self.state = State::Open(Box::new(Open {
            provable: true,
            ..Open::new(secure, time)
        }));
        self.deadline = self.now + self.idle_timeout;
        Ok(())
    }

    /// Sends a message of the terminal's, but for those that have a method of their own. After a plan the first must be
    /// its acknowledgement.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`], [`Misuse::Direction`], [`Misuse::TooLarge`].
    pub fn send(&mut self, now: Instant, message: impl Into<Message>) -> Result<(), Misuse> {
        self.advance(now);
        let message = message.into();
        let open = match &mut self.state {
            State::Open(open) if open.planned && !open.said_bye => open,
            _ => return Err(Misuse::OutOfOrder),
        };
        match &message {
            Message::PlanAck(_) if open.acknowledged => return Err(Misuse::OutOfOrder),
            Message::PlanAck(_) => open.acknowledged = true,
            // Goodbye is always allowed: a terminal that refuses a stale plan has nothing else to say.
            Message::Bye(_) => {
                open.said_bye = true;
                open.transfer = None;
            }
            _ if !open.acknowledged => return Err(Misuse::OutOfOrder),
            Message::ObjectGet(get) => {
                open.unanswered = open.unanswered.saturating_add(1);
                open.transfer = Some(Transfer {
                    digest: get.digest,
                    next: get.offset,
                    until: get.until.max(get.offset),
                    total: None,
                });
            }
            Message::Credit(credit) => {
                let transfer = open.transfer.as_mut().ok_or(Misuse::OutOfOrder)?;
                transfer.until = transfer.until.max(credit.until);
            }
            Message::StatusReport(_)
            | Message::ActionResult(_)
            | Message::TextReceipt(_)
            | Message::Register(_)
            | Message::KeyRequest(_)
            | Message::KeyConfirm(_)
            | Message::LogPart(_)
            | Message::Event(_)
            | Message::Reject(_)
            | Message::CertificateRequest(_)
            | Message::Proof(_) => {}
            other => return Err(Misuse::Direction(other.tag())),
        }
        open.secure
            .send(&message, &mut self.line)
            .map_err(|_| Misuse::TooLarge)?;
        self.deadline = self.now + self.idle_timeout;
        Ok(())
    }

    /// Asks for an object from `offset` on, with credit up to `until`. It takes the place of a running transfer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn download(
        &mut self,
        now: Instant,
        digest: crate::digest::Digest,
        offset: u64,
        until: u64,
    ) -> Result<(), Misuse> {
        self.send(now, ObjectGet { digest, offset, until })
    }

    /// Grants credit up to `until`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn grant(&mut self, now: Instant, until: u64) -> Result<(), Misuse> {
        self.send(now, Credit { until })
    }

    /// Says goodbye. The session ends when the server, having recorded everything, says it too.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn bye(&mut self, now: Instant, code: ResultCode) -> Result<(), Misuse> {
        self.send(
            now,
            Bye {
                code,
                next_contact: None,
            },
        )
    }

    /// Tells the server that the terminal is still there, while it is busy with something long.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] before the session is open.
    pub fn keep_alive(&mut self, now: Instant) -> Result<(), Misuse> {
        self.advance(now);
        let State::Open(open) = &mut self.state else {
            return Err(Misuse::OutOfOrder);
        };
        self.deadline = self.now + self.idle_timeout;
        open.secure
            .send_keep_alive(&mut self.line)
            .map_err(|_| Misuse::TooLarge)
    }

    /// How many elements of the server's messages were skipped because this version does not know them.
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
            self.events.push_back(TerminalEvent::Ended(end));
        }
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Fault> {
        match &mut self.state {
            State::Opened { .. } => self.answer(&frame.payload),
            State::Open(_) => self.record(&frame.payload),
            State::Shown { .. } | State::Closed => Err(Fault::Kind(frame.payload.first().copied().unwrap_or_default())),
        }
    }

    /// The server's answer to message 1.
    fn answer(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Some((kind, body)) = payload.split_first() else {
            return Err(Fault::Kind(0));
        };
        match *kind {
            Kind::RESPONSE => self.response(body),
            Kind::BUSY => {
                let busy = Busy::decode(body)?;
                self.end(End::Busy {
                    retry_after: busy.retry_after,
                    reason: busy.reason,
                });
                Ok(())
            }
            Kind::REFUSE => {
                let refuse = Refuse::decode(body)?;
                let (versions, suites) = (refuse.versions.unwrap_or_default(), refuse.suites.unwrap_or_default());
                self.end(End::Refused {
                    code: refuse.code,
                    versions,
                    suites,
                });
                Ok(())
            }
            Kind::PATIENCE => {
                let patience = Patience::decode(body)?;
                // Once, and bounded by the field's width: an unauthenticated word must not hold a terminal for ever.
                if mem::take(&mut self.patience_left) {
                    let longer = self.now + Duration::from_secs(u64::from(patience.seconds.min(120)));
                    self.deadline = self.deadline.max(longer);
                }
                Ok(())
            }
            other => Err(Fault::Kind(other)),
        }
    }

    fn response(&mut self, message: &[u8]) -> Result<(), Fault> {
        let State::Opened {
            mut initiator,
            mode,
            remembered,
        } = mem::replace(&mut self.state, State::Closed)
        else {
            return Err(Fault::Kind(Kind::RESPONSE));
        };
        let outcome = initiator.second(message);
        // The state must stand before an error is reported, so that the end is reported once.
        let payload = match outcome {
            Ok(payload) => payload,
            Err(error) => {
                self.state = State::Opened {
                    initiator,
                    mode,
                    remembered,
                };
                return Err(error.into());
            }
        };
        let hello = match ServerHello::from_slice(&payload) {
            Ok(hello) => hello,
            Err(error) => {
                self.state = State::Opened {
                    initiator,
                    mode,
                    remembered,
                };
                return Err(error.into());
            }
        };
        if mode.has_static() {
            let presented = match (hello.credentials, remembered) {
                (Some(credentials), _) => Presented::Full(credentials),
                (None, Some(id)) => Presented::Remembered(id),
                (None, None) => Presented::Full(Bytes::new()),
            };
            let static_key = initiator.remote_static().unwrap_or_default();
            self.state = State::Shown {
                initiator,
                time: hello.time,
            };
            self.events.push_back(TerminalEvent::Server {
                time: hello.time,
                presented,
                static_key,
            });
            return Ok(());
        }
        self.hash = initiator.hash();
        let secure = Secure::new(
            initiator.finish()?,
            usize::from(self.max_record).min(self.line.max_record()),
        );
        let mut open = Open::new(secure, hello.time);
        self.deadline = self.now + self.idle_timeout;
        match (hello.plan, hello.reject) {
            (Some(plan), None) if plan.actions.len() > MAX_ACTIONS => {
                self.state = State::Open(Box::new(open));
                return Err(Fault::TooLarge);
            }
            (Some(plan), None) => {
                open.planned = true;
                self.events.push_back(TerminalEvent::Plan {
                    time: hello.time,
                    plan: Box::new(plan),
                });
            }
            (None, Some(reject)) => self.events.push_back(TerminalEvent::Reject(reject)),
            // A plan too large for the handshake follows in a record.
            (None, None) => {}
            (Some(_), Some(_)) => {
                self.state = State::Open(Box::new(open));
                return Err(Fault::OutOfOrder(Tag(0x72)));
            }
        }
        self.state = State::Open(Box::new(open));
        Ok(())
    }

    fn record(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let State::Open(open) = &mut self.state else {
            return Ok(());
        };
        let inbound = open.secure.open(payload)?;
        self.deadline = self.now + self.idle_timeout;
        if open.acknowledged {
            if inbound.shows_recorded() && !mem::replace(&mut open.recorded, true) {
                self.events.push_back(TerminalEvent::Recorded);
            }
        } else if open.planned {
            // The server has nothing to say before the plan is acknowledged, but for the end.
            if !matches!(
                &inbound,
                Inbound::Message(Message::Bye(_) | Message::Reject(_)) | Inbound::Nothing
            ) {
                return Err(Fault::OutOfOrder(inbound.tag()));
            }
        }
        match inbound {
            Inbound::Nothing => Ok(()),
            Inbound::Part { offset, bytes } => {
                // Parts of a transfer that was given up may still be on the line.
                if open.said_bye || open.unanswered > 0 {
                    return Ok(());
                }
                let event = open.part(offset, bytes)?;
                self.events.push_back(event);
                Ok(())
            }
            Inbound::Message(message) => self.message(message),
        }
    }

    fn message(&mut self, message: Message) -> Result<(), Fault> {
        let State::Open(open) = &mut self.state else {
            return Ok(());
        };
        let event = match message {
            Message::Plan(plan) if plan.actions.len() > MAX_ACTIONS => return Err(Fault::TooLarge),
            Message::Plan(plan) if !open.planned => {
                open.planned = true;
                TerminalEvent::Plan { time: open.time, plan }
            }
            Message::Bye(bye) => {
                if !open.said_bye {
                    open.secure.send(
                        &Bye {
                            code: ResultCode::Success,
                            next_contact: None,
                        }
                        .into(),
                        &mut self.line,
                    )?;
                }
                self.end(End::Bye(*bye));
                return Ok(());
            }
            Message::Reject(reject) => TerminalEvent::Reject(*reject),
            other if !open.planned => return Err(Fault::OutOfOrder(other.tag())),
            Message::ObjectStart(start) => match open.start(&start)? {
                true => TerminalEvent::ObjectStart(*start),
                false => return Ok(()),
            },
            Message::ResultAck(ack) => TerminalEvent::ResultAck(*ack),
            Message::Text(text) => TerminalEvent::Text(*text),
            Message::RegisterAnswer(answer) => TerminalEvent::RegisterAnswer(*answer),
            Message::KeyBlock(block) => TerminalEvent::KeyBlock(*block),
            Message::CertificateGrant(grant) => TerminalEvent::CertificateGrant(*grant),
            // Once a session: nobody makes a terminal sign at will (§10.7).
            Message::ProofRequest(_) if mem::take(&mut open.provable) => {
                TerminalEvent::ProofRequest { hash: self.hash }
            }
            other => return Err(Fault::OutOfOrder(other.tag())),
        };
        self.events.push_back(event);
        Ok(())
    }
}

impl Machine for TerminalSession {
    type Event = TerminalEvent;

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

    fn poll(&mut self) -> Output<TerminalEvent> {
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
            if !self.step() {
                return Output::Wait(Some(self.deadline));
            }
        }
    }
}

impl TerminalSession {
    /// Takes the next frame that is there. Frames are taken one at a time, when the events before them are out: what a
    /// peer sends ahead waits as bytes.
    fn step(&mut self) -> bool {
        if matches!(self.state, State::Closed | State::Shown { .. }) {
            return false;
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

impl Open {
    const fn new(secure: Secure, time: u64) -> Self {
        Self {
            secure,
            time,
            planned: false,
            acknowledged: false,
            recorded: false,
            transfer: None,
            unanswered: 0,
            said_bye: false,
            provable: true,
        }
    }

    /// Whether this start answers the transfer that was asked for last; one for an earlier is passed over (§9.3).
    fn start(&mut self, start: &ObjectStart) -> Result<bool, Fault> {
        let fault = Fault::Part(start.offset);
        self.unanswered = self.unanswered.checked_sub(1).ok_or(fault)?;
        if self.unanswered > 0 || self.said_bye {
            return Ok(false);
        }
        let transfer = self.transfer.as_mut().ok_or(fault)?;
        if start.digest != transfer.digest {
            return Err(fault);
        }
        if start.code.is_some_and(|code| code != ResultCode::Success) {
            self.transfer = None;
            return Ok(true);
        }
        if start.offset != transfer.next || start.offset > start.total {
            return Err(fault);
        }
        transfer.total = Some(start.total);
        Ok(true)
    }

    fn part(&mut self, offset: u64, bytes: Bytes) -> Result<TerminalEvent, Fault> {
        let fault = Fault::Part(offset);
        let transfer = self.transfer.as_mut().ok_or(fault)?;
        let total = transfer.total.ok_or(fault)?;
        let length = u64::try_from(bytes.len()).map_err(|_| fault)?;
        let end = offset.checked_add(length).ok_or(fault)?;
        if offset != transfer.next || end > total || end > transfer.until || bytes.is_empty() {
            return Err(fault);
        }
        transfer.next = end;
        let last = end == total;
        if last {
            self.transfer = None;
        }
        Ok(TerminalEvent::ObjectPart { offset, bytes, last })
    }
}

impl Inbound {
    /// Whether the server says this only when the check-in is recorded. A refusal, and a goodbye that is not `SUCC`, may
    /// come from a server that never read the acknowledgement (§8.4).
    fn shows_recorded(&self) -> bool {
        match self {
            Self::Message(Message::Bye(bye)) => bye.code == ResultCode::Success,
            Self::Message(Message::Reject(_)) | Self::Nothing => false,
            Self::Message(_) | Self::Part { .. } => true,
        }
    }

    pub(super) const fn tag(&self) -> Tag {
        match self {
            Self::Message(message) => message.tag(),
            Self::Part { .. } | Self::Nothing => Tag(0),
        }
    }
}

fn terminal_id(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// Encodes a report inside its handshake payload, without its inventory where it does not fit with it.
fn fit<P: Structure>(
    report: &StatusReport,
    room: usize,
    payload: impl Fn(StatusReport) -> P,
) -> Result<Vec<u8>, Misuse> {
    let whole = payload(report.clone()).to_vec();
    if whole.len() <= room {
        return Ok(whole);
    }
    let short = payload(StatusReport {
        inventory: None,
        errors: Vec::new(),
        ..report.clone()
    })
    .to_vec();
    if short.len() <= room {
        Ok(short)
    } else {
        Err(Misuse::TooLarge)
    }
}
