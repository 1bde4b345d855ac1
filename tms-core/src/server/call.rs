//! One call, from the hello to the goodbye.

use super::Inner;
use super::contact::Asked;
use super::online::Arrival;
use super::plan;
use super::record::{CallError, Facts};
use super::seal::split_ticket_id;
use super::text;
use crate::admission::{Decision, Permit};
use crate::blob::BlobError;
use crate::estate::{ParameterSetRef, Parameters};
use crate::pump::Pump;
use crate::rule::relocation::Observed;
use crate::store::{Caller, CheckIn, Credential, CredentialId, EventKind, StoreError, Terminal, TerminalId};
use crate::transport::{Incoming, LinkProfile, PeerInfo, Transport};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tms_proto::code::{ResultCode, Role};
use tms_proto::credential::{Checks, CredentialError, Credentials, Remembered, VerifiedPeer};
use tms_proto::digest::Digest;
use tms_proto::handshake::{Hello, Mode};
use tms_proto::message::{Bye, CertificateGrant, Message, ObjectGet, PlanAck, Reject, ResultAck, StatusReport, Ticket};
use tms_proto::secret::Psk;
use tms_proto::session::{End, Presented, ServerConfig, ServerEvent, ServerSession};
use tms_proto::tlv::Structure;
use tokio::time::{Instant, Sleep};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

/// How many bytes a handshake has at most, for the patience with it: those of a first contact, and some.
const HANDSHAKE: u32 = 4096;

/// The shortest time that a terminal has to take what is sent.
const MIN_WRITE: Duration = Duration::from_secs(30);

/// Answers a call until it ends.
pub(super) async fn run(inner: &Arc<Inner>, incoming: Incoming, number: u64) {
    let Incoming {
        transport,
        peer,
        profile,
    } = incoming;
    let mut call = Call {
        inner,
        number,
        begun: Instant::now(),
        link: link(&peer, &profile),
        peer,
        caller: None,
        permit: None,
    };
    if let Err(error) = call.answer(transport, &profile).await {
        match error {
            CallError::Transport(error) => info!(%error, "line failed"),
            error => warn!(%error, "call failed"),
        }
    }
    call.leave();
}

struct Call<'a> {
    inner: &'a Inner,
    number: u64,
    begun: Instant,
    peer: PeerInfo,
    /// How it called, as policies say it.
    link: &'static str,
    caller: Option<Box<Known>>,
    /// Held from the hello to the end of the call. A call that ends before its handshake succeeded pays more for it.
    permit: Option<Permit>,
}

/// What is known of the caller. Large things go as soon as the check-in is recorded: an idle session holds little.
struct Known {
    mode: Mode,
    id: TerminalId,
    actor: String,
    arrival: Arrival,
    /// From the first read to the commit of the check-in.
    pending: Option<Box<Pending>>,
    /// What this terminal may download.
    objects: Vec<Digest>,
    /// Parameter sets that it may download.
    sets: Vec<ParameterSetRef>,
    /// The one that it downloads, made for it in this call and kept nowhere else.
    made: Option<(Digest, Zeroizing<Vec<u8>>)>,
    /// Its certificate has expired: it may ask for a new one, and nothing else.
    recovery: bool,
}

struct Pending {
    known: CheckIn,
    used_ticket: Option<[u8; 8]>,
    peer: Option<VerifiedPeer>,
    facts: Option<Facts>,
}

/// What a call is woken by.
enum Wake {
    Event(Option<ServerEvent>),
    Stop,
    Displaced,
    Budget,
}

impl Call<'_> {
    async fn answer(&mut self, transport: Box<dyn Transport>, profile: &LinkProfile) -> Result<(), CallError> {
        let options = &self.inner.options;
        let patience = profile.patience(HANDSHAKE);
        let mut pump = Pump::since(transport, self.inner.start).with_write_patience(patience.max(MIN_WRITE));
        let mut session = ServerSession::new(
            &ServerConfig {
                envelope: profile.envelope,
                suites: options.suites.clone(),
                max_record: profile.max_record,
                // On a line whose rate is known it is what the bytes take there (§4.9).
                handshake_timeout: match profile.bits_per_second {
                    Some(_) => options.handshake_timeout.max(patience),
                    None => options.handshake_timeout,
                },
                idle_timeout: options.idle_timeout,
            },
            pump.now(),
        );
        // One timer for the whole call: a new one for each event would be set and dropped with each part of a download.
        let mut budget = pin!(tokio::time::sleep_until(Instant::now() + options.call_budget));
        let mut ending = false;
        loop {
            let wake = self.wake(&mut pump, &mut session, budget.as_mut(), ending).await?;
            let now = pump.now();
            match wake {
                Wake::Event(None) => return Ok(()),
                Wake::Event(Some(event)) => {
                    if let Err(error) = self.event(&mut session, now, event).await {
                        self.fail(&mut session, now, &error);
                    }
                    continue;
                }
                Wake::Stop => info!("server stops, call ends"),
                Wake::Displaced => {
                    warn!("the terminal called again from elsewhere, this call ends");
                    let _ = session.reject(now, reject(ResultCode::OnLineElsewhere, "on line elsewhere", None));
                }
                Wake::Budget => warn!("call exceeded its time budget"),
            }
            // Before the handshake stands there is nobody to say goodbye to.
            let goodbye = Bye {
                code: ResultCode::Busy,
                next_contact: None,
            };
            if !ending && session.bye(now, goodbye).is_err() && !matches!(wake, Wake::Displaced) {
                return Ok(());
            }
            ending = true;
        }
    }

    async fn wake(
        &mut self,
        pump: &mut Pump<Box<dyn Transport>, ServerEvent>,
        session: &mut ServerSession,
        budget: Pin<&mut Sleep>,
        ending: bool,
    ) -> Result<Wake, CallError> {
        let displaced = self
            .caller
            .as_ref()
            .map(|caller| caller.arrival.displaced.clone())
            .unwrap_or_default();
        // `next` loses nothing when it is dropped: every branch leaves the session at a message boundary.
        tokio::select! {
            biased;
            () = self.inner.stop.cancelled(), if !ending => Ok(Wake::Stop),
            () = displaced.cancelled(), if !ending => Ok(Wake::Displaced),
            () = budget, if !ending => Ok(Wake::Budget),
            event = pump.next(session) => Ok(Wake::Event(event?)),
        }
    }

    /// Ends a call whose step could not be done: the terminal is asked to come back, and nothing is lost.
    fn fail(&self, session: &mut ServerSession, now: tms_proto::machine::Instant, error: &CallError) {
        warn!(%error, "call cannot go on");
        let retry = self.retry_after(self.inner.options.retry_after);
        let code = ResultCode::StorageUnavailable;
        if session
            .reject(now, reject(code, "try again later", Some(retry)))
            .is_err()
        {
            let _ = session.busy(now, retry, Some(code));
        }
    }

    /// When a caller that cannot be served may try again: later, at any time, while those come back that an outage has kept
    /// from calling.
    fn retry_after(&self, least: u32) -> u32 {
        let services = &self.inner.services;
        let spread = self.inner.contacts.spread(services.clock.now());
        if spread == 0 {
            return least;
        }
        let mut chance = [0; 4];
        services.entropy.fill(&mut chance);
        least.saturating_add(u32::from_be_bytes(chance).checked_rem(spread).unwrap_or_default())
    }

    async fn event(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        event: ServerEvent,
    ) -> Result<(), CallError> {
        match event {
            ServerEvent::Hello(hello) => self.hello(session, now, &hello).await,
            ServerEvent::Identify { presented, static_key } => self.identify(session, now, presented, static_key).await,
            ServerEvent::Report(report) => self.report(session, now, *report).await,
            ServerEvent::PlanAck(ack) => self.plan_ack(session, now, ack).await,
            ServerEvent::Get(get) => self.get(session, now, &get).await,
            ServerEvent::Part { digest, offset, max } => {
                if let Some(bytes) = self.made(&digest, offset, max) {
                    session.part(now, bytes)?;
                    return Ok(());
                }
                match self.inner.services.blobs.read(&digest, offset, max).await {
                    Ok(bytes) => session.part(now, &bytes)?,
                    Err(error) => {
                        warn!(object = %digest.short(), %error, "object cannot be read");
                        session.abort(now, blob_code(&error))?;
                    }
                }
                Ok(())
            }
            ServerEvent::Message(message) => self.message(session, now, message).await,
            ServerEvent::Ended(end) => {
                self.ended(&end);
                Ok(())
            }
        }
    }

    /// A call comes in. What costs little is asked first, and public-key work is last.
    async fn hello(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        hello: &Hello,
    ) -> Result<(), CallError> {
        let inner = self.inner;
        match inner.admission.handshake(&self.peer, now) {
            Decision::Admit(permit) => self.permit = Some(permit),
            Decision::Busy { retry_after } => {
                let retry_after = self.retry_after(retry_after);
                debug!(retry_after, "handshake limit, caller turned away");
                session.busy(now, retry_after, Some(ResultCode::Busy))?;
                return Ok(());
            }
        }
        let time = inner.services.clock.now();
        let mut ephemeral = [0; 32];
        inner.services.entropy.fill(&mut ephemeral);
        let secret = match self.secret(hello, time).await? {
            Ok(secret) => secret,
            Err(why) => {
                // One constant answer for everything that concerns keys; only the log knows more.
                warn!(mode = hello.mode.code(), why, "caller refused");
                self.failed();
                session.refuse(now, ResultCode::SecurityError)?;
                return Ok(());
            }
        };
        let identity = if hello.mode.has_static() {
            match inner
                .node
                .identity(hello.remembered, time, &*inner.services.entropy)
                .await
            {
                Ok(identity) => Some(identity),
                Err(error) => {
                    warn!(%error, "no identity to show");
                    session.busy(now, inner.options.retry_after, Some(ResultCode::HardwareError))?;
                    return Ok(());
                }
            }
        } else {
            None
        };
        session.admit(now, identity.as_deref(), secret.as_ref(), time, ephemeral)?;
        Ok(())
    }

    /// The pre-shared key of the call's mode, and with it the caller that it names; or why there is none.
    async fn secret(&mut self, hello: &Hello, time: u64) -> Result<Result<Option<Psk>, &'static str>, StoreError> {
        let inner = self.inner;
        let id = hello.id.as_deref().unwrap_or_default();
        match hello.mode {
            Mode::Rsa => Ok(Ok(None)),
            Mode::Ticket => {
                let Some((id, random)) = split_ticket_id(id) else {
                    return Ok(Err("malformed ticket id"));
                };
                let Some(known) = inner.services.store.check_in(&Caller::Id(id)).await? else {
                    return Ok(Err("ticket of an unknown terminal"));
                };
                let tickets = &known.terminal.record.tickets;
                let Some(ticket) = tickets
                    .iter()
                    .find(|ticket| ticket.id == random && time < ticket.expires)
                else {
                    return Ok(Err("unknown or expired ticket"));
                };
                let Some(psk) = inner.tickets.open(id, ticket) else {
                    return Ok(Err("ticket sealed under another key"));
                };
                self.meet(hello.mode, known, Some(random), None);
                Ok(Ok(Some(psk)))
            }
            Mode::MainKey | Mode::Both => {
                let (Ok(id), Some(epoch)) = (id.try_into().map(u64::from_be_bytes), hello.epoch) else {
                    return Ok(Err("malformed terminal id"));
                };
                let Some(known) = inner.services.store.check_in(&Caller::Id(TerminalId(id))).await? else {
                    return Ok(Err("unknown terminal"));
                };
                // Rotation keeps two generations valid (§10.8).
                let current = known.terminal.record.main_key_epoch;
                if !current.is_some_and(|current| epoch == current || epoch.checked_add(1) == Some(current)) {
                    return Ok(Err("main-control key of another epoch"));
                }
                let psk = match inner.services.main_keys.psk(TerminalId(id), epoch).await {
                    Ok(Some(psk)) => psk,
                    Ok(None) => return Ok(Err("no main-control key")),
                    Err(error) => return Err(StoreError::Unavailable(error.to_string())),
                };
                self.meet(hello.mode, known, None, None);
                Ok(Ok(Some(psk)))
            }
        }
    }

    /// Modes 1 and 4: who is it?
    async fn identify(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        presented: Presented,
        static_key: [u8; 32],
    ) -> Result<(), CallError> {
        let found = match presented {
            Presented::Remembered(id) => self.recall(id, static_key).await?,
            Presented::Full(credentials) => self.verify(&credentials, static_key).await?,
        };
        let (peer, known) = match found {
            Ok(found) => found,
            Err((code, why)) => {
                warn!(%code, why, "terminal refused");
                self.failed();
                session.reject(now, reject(code, "call your helpdesk", None))?;
                return Ok(());
            }
        };
        if self
            .caller
            .as_ref()
            .is_some_and(|caller| caller.id != known.terminal.record.id)
        {
            warn!("certificate and main-control key are of two terminals");
            session.reject(now, reject(ResultCode::PartyMismatch, "call your helpdesk", None))?;
            return Ok(());
        }
        session.accept(now, &peer)?;
        let mode = self.caller.take().map_or(Mode::Rsa, |caller| caller.mode);
        self.meet(mode, known, None, Some(peer));
        Ok(())
    }

    async fn recall(
        &self,
        id: CredentialId,
        static_key: [u8; 32],
    ) -> Result<Result<(VerifiedPeer, CheckIn), (ResultCode, &'static str)>, StoreError> {
        const UNKNOWN: (ResultCode, &str) = (ResultCode::CredentialUnknown, "credential not remembered");
        let Some(known) = self.inner.services.store.check_in(&Caller::Credential(id)).await? else {
            return Ok(Err(UNKNOWN));
        };
        let Some(remembered) = remembered(&known.terminal.record) else {
            return Ok(Err(UNKNOWN));
        };
        let checks = Checks::of_terminal(self.inner.services.clock.now(), 0);
        match VerifiedPeer::remembered(remembered, static_key, &checks) {
            Ok(peer) => Ok(Ok((peer, known))),
            Err(CredentialError::ChannelExpired) => Ok(Err(UNKNOWN)),
            Err(_) => Ok(Err((ResultCode::SecurityError, "remembered credential does not hold"))),
        }
    }

    async fn verify(
        &self,
        credentials: &[u8],
        static_key: [u8; 32],
    ) -> Result<Result<(VerifiedPeer, CheckIn), (ResultCode, &'static str)>, StoreError> {
        let Ok(credentials) = Credentials::decode(credentials) else {
            return Ok(Err((ResultCode::FormatError, "malformed credentials")));
        };
        let checks = Checks::of_terminal(self.inner.services.clock.now(), 0);
        let peer = match credentials.verify(&self.inner.anchors, Role::Terminal, static_key, &checks) {
            Ok(peer) => peer,
            Err(error) => {
                warn!(%error, "credentials refused");
                // An expired channel certificate is no secret: the terminal's clock is wrong, and it can sign anew.
                let code = match error {
                    CredentialError::ChannelExpired | CredentialError::NotYetValid => ResultCode::Expired,
                    _ => ResultCode::SecurityError,
                };
                return Ok(Err((code, "credentials do not verify")));
            }
        };
        let Some(holder) = peer.subject().terminal() else {
            return Ok(Err((ResultCode::NotPermitted, "certificate is not a terminal's")));
        };
        let Some(known) = self
            .inner
            .services
            .store
            .check_in(&Caller::Holder(holder.clone()))
            .await?
        else {
            return Ok(Err((ResultCode::UnknownReference, "terminal is not enrolled")));
        };
        let terminal = &known.terminal.record;
        if terminal.revoked {
            return Ok(Err((ResultCode::SecurityError, "identity is revoked")));
        }
        if terminal.key.is_some_and(|pinned| pinned != peer.key()) {
            let evidence = format!("certified key {} is not the pinned one", peer.key());
            let kind = EventKind::CloneSuspected { evidence };
            self.inner.record_event(terminal.id, &holder.to_string(), kind).await?;
            return Ok(Err((ResultCode::SecurityError, "another key than the pinned one")));
        }
        if remembered(terminal).is_some_and(|remembered| remembered.epoch > peer.epoch()) {
            return Ok(Err((
                ResultCode::SecurityError,
                "epoch of the channel certificate goes back",
            )));
        }
        Ok(Ok((peer, known)))
    }

    fn meet(&mut self, mode: Mode, known: CheckIn, used_ticket: Option<[u8; 8]>, peer: Option<VerifiedPeer>) {
        let terminal = &known.terminal.record;
        let (id, actor) = (terminal.id, terminal.holder.to_string());
        let recovery = peer.as_ref().is_some_and(VerifiedPeer::expired);
        let arrival = Arrival {
            displaced: tokio_util::sync::CancellationToken::new(),
            elsewhere: None,
        };
        let pending = Some(Box::new(Pending {
            known,
            used_ticket,
            peer,
            facts: None,
        }));
        self.caller = Some(Box::new(Known {
            mode,
            id,
            actor,
            arrival,
            pending,
            objects: Vec::new(),
            sets: Vec::new(),
            made: None,
            recovery,
        }));
    }

    /// The terminal has proved itself, but for a replay of a first message, and reports.
    async fn report(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        report: StatusReport,
    ) -> Result<(), CallError> {
        let (inner, peer) = (self.inner, self.peer.to_string());
        let Some(caller) = &mut self.caller else { return Ok(()) };
        let Some(pending) = &mut caller.pending else {
            return Ok(());
        };
        tracing::Span::current().record("terminal", tracing::field::display(&caller.actor));
        if let Some(permit) = &mut self.permit {
            permit.succeeded();
        }
        if let Some(code) = plan::refusal(&pending.known.terminal.record) {
            warn!(%code, "terminal refused");
            session.reject(now, reject(code, "call your helpdesk", None))?;
            return Ok(());
        }
        let time = inner.services.clock.now();
        let mut chance = [0; 8];
        inner.services.entropy.fill(&mut chance);
        let chance = u64::from_be_bytes(chance);
        let otherwise = inner.options.contact.next(time, chance);
        if caller.recovery {
            info!("certificate expired, only its renewal is offered");
            session.plan(now, plan::recovery(&pending.known.terminal.record, otherwise))?;
            return Ok(());
        }
        let decided = inner.decide(&pending.known, &report, otherwise).await?;
        let mut planned = decided.planned;
        if decided.policy.is_some() {
            // Its next contact is by the new policy already.
            pending.known.terminal.record.policy.clone_from(&decided.policy);
        }
        let asked = Asked {
            known: &pending.known,
            link: self.link,
            now: time,
            chance,
        };
        let mut contact = inner.contacts.next(&*inner.services.store, &asked).await?;
        if let Some(seconds) = decided.retry_after {
            // It has not had its turn in a task: it is asked back before its time, and the slot stays its.
            contact.next.from = contact.next.from.min(time.saturating_add(u64::from(seconds)));
        }
        planned.plan.next_contact = contact.next;
        let expires = time.saturating_add(u64::from(inner.options.ticket_lifetime));
        let ticket = inner.tickets.issue(caller.id, expires, &*inner.services.entropy);
        let mut plan = planned.plan;
        plan.texts = text::ready(&pending.known.terminal.record, time);
        let texts = plan.texts.iter().map(|text| text.id).collect();
        let withdrawn_texts = pending.known.terminal.record.withdrawn_texts.clone();
        plan.withdrawn_texts.clone_from(&withdrawn_texts);
        plan.ticket = ticket.as_ref().map(|ticket| Ticket {
            id: ticket.id,
            key: ticket.key.clone(),
            lifetime: inner.options.ticket_lifetime,
        });
        (caller.objects, caller.sets) = (decided.objects, decided.sets);
        session.plan(now, plan)?;
        pending.facts = Some(Facts {
            mode: caller.mode.code(),
            peer,
            observed: Observed::from(&self.peer),
            elsewhere: None,
            report,
            credential: pending.peer.as_ref().map(|peer| {
                let known = hex::encode(peer.remember().to_vec());
                (
                    peer.key(),
                    Credential {
                        id: peer.credential(),
                        known,
                    },
                )
            }),
            used_ticket: pending.used_ticket,
            ticket: ticket.map(|ticket| ticket.sealed),
            standing: planned.standing,
            offered: planned.offered,
            reserved: decided.reserved,
            policy: decided.policy,
            next_contact: contact.next,
            booking: contact.booking,
            refused: Vec::new(),
            texts,
            withdrawn_texts,
            elapsed: 0,
        });
        Ok(())
    }

    /// The terminal is alive: the check-in is recorded, once, with all that it reported (§8.4).
    async fn plan_ack(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        ack: PlanAck,
    ) -> Result<(), CallError> {
        let Some(caller) = &mut self.caller else { return Ok(()) };
        let Some(pending) = caller.pending.take() else {
            return Ok(());
        };
        let Some(mut facts) = pending.facts else { return Ok(()) };
        facts.refused = ack.refused;
        facts.elapsed = u32::try_from(self.begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        // Only now is it known to be alive: a replay must not end another call of the terminal's.
        caller.arrival = self.inner.online.arrive(caller.id, self.number, &facts.peer);
        facts.elsewhere = caller.arrival.elsewhere.take();
        let next_contact = self.inner.record_check_in(pending.known, &mut facts).await?;
        info!(mode = facts.mode, trigger = %facts.report.trigger.kind, contact = facts.report.contact, "checked in");
        let numbers: Vec<u32> = facts.report.results.iter().map(|result| result.number).collect();
        if !numbers.is_empty() || next_contact.is_some() {
            session.send(now, ResultAck { numbers, next_contact })?;
        }
        Ok(())
    }

    async fn get(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        get: &ObjectGet,
    ) -> Result<(), CallError> {
        let caller = self.caller.as_deref_mut();
        let set = caller.and_then(|caller| caller.sets.iter().find(|set| set.digest == get.digest).cloned());
        if let Some(set) = set {
            return self.make(session, now, &set).await;
        }
        let planned = self
            .caller
            .as_ref()
            .is_some_and(|caller| caller.objects.contains(&get.digest));
        if !planned {
            warn!(object = %get.digest.short(), "object is not in the plan");
            session.start(now, 0, Some(ResultCode::Gone))?;
            return Ok(());
        }
        match self.inner.services.blobs.open(&get.digest).await {
            Ok(total) => {
                info!(object = %get.digest.short(), offset = get.offset, total, "download");
                session.start(now, total, None)?;
            }
            Err(error) => {
                warn!(object = %get.digest.short(), %error, "object cannot be served");
                session.start(now, 0, Some(blob_code(&error)))?;
            }
        }
        Ok(())
    }

    /// Makes a parameter set and serves it.
    async fn make(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        set: &ParameterSetRef,
    ) -> Result<(), CallError> {
        let services = &self.inner.services;
        let parameters = Parameters::new(Arc::clone(&services.store), services.secrets.clone());
        match parameters.document(set).await {
            Ok(document) => {
                let total = u64::try_from(document.len()).unwrap_or(u64::MAX);
                info!(set = set.template, total, "download");
                if let Some(caller) = &mut self.caller {
                    caller.made = Some((set.digest, document));
                }
                session.start(now, total, None)?;
            }
            Err(error) => {
                warn!(set = set.template, %error, "parameter set cannot be made");
                let code = if error.is_transient() {
                    ResultCode::Busy
                } else {
                    ResultCode::Changed
                };
                session.start(now, 0, Some(code))?;
            }
        }
        Ok(())
    }

    /// A part of the parameter set that was made, if it is that object.
    fn made(&self, digest: &Digest, offset: u64, max: usize) -> Option<&[u8]> {
        let (made, document) = self.caller.as_ref()?.made.as_ref()?;
        let from = usize::try_from(offset).ok().filter(|_| made == digest)?;
        let rest = document.get(from..)?;
        rest.get(..max).or(Some(rest))
    }

    async fn message(
        &mut self,
        session: &mut ServerSession,
        now: tms_proto::machine::Instant,
        message: Message,
    ) -> Result<(), CallError> {
        let Some(caller) = &self.caller else { return Ok(()) };
        let inner = self.inner;
        let (id, actor) = (caller.id, caller.actor.as_str());
        if caller.recovery && !matches!(message, Message::CertificateRequest(_) | Message::Bye(_)) {
            session.send(
                now,
                refused(&message, ResultCode::Expired, "only a certificate request is allowed"),
            )?;
            return Ok(());
        }
        match message {
            Message::Bye(bye) => {
                debug!(code = %bye.code, "goodbye");
                session.bye(
                    now,
                    Bye {
                        code: ResultCode::Success,
                        next_contact: None,
                    },
                )?;
            }
            Message::ActionResult(result) => {
                info!(action = result.action, stage = %result.stage, code = %result.code, attempt = result.attempt, "result");
                inner.record_result(id, actor, &result).await?;
                session.send(
                    now,
                    ResultAck {
                        numbers: vec![result.number],
                        next_contact: None,
                    },
                )?;
            }
            Message::StatusReport(report) => match report.inventory {
                Some(inventory) => {
                    inner
                        .record_inventory(id, actor, report.inventory_digest, &inventory)
                        .await?;
                }
                None => session.send(
                    now,
                    refused_tag(0x61, ResultCode::Missing, "no inventory in the report"),
                )?,
            },
            Message::TextReceipt(receipt) => inner.record_receipt(id, actor, &receipt).await?,
            Message::Event(event) => {
                warn!(kind = %event.kind, "terminal reports an event");
                let kind = EventKind::Terminal {
                    what: event.kind.to_string(),
                    text: event.text,
                };
                inner.record_event(id, actor, kind).await?;
            }
            Message::CertificateRequest(request) => {
                let grant = self.renewal(request.key).await?;
                info!(code = %grant.code, "certificate asked for");
                session.send(now, grant)?;
            }
            Message::Register(register) => {
                let observed = Observed::from(&self.peer);
                let answer = inner.register(id, &register, &observed).await?;
                info!(intent = %register.intent, code = %answer.code, "registration");
                session.send(now, answer)?;
            }
            Message::Reject(reject) => warn!(code = %reject.code, "terminal refused a message"),
            other => {
                debug!(message = other.name(), "message not offered");
                session.send(
                    now,
                    refused(&other, ResultCode::NotSupported, "not offered by this server"),
                )?;
            }
        }
        Ok(())
    }

    /// The renewed certificate of a terminal, if an operator had one made for the key that it has (§10.6).
    async fn renewal(&self, key: Digest) -> Result<CertificateGrant, StoreError> {
        let none = |code| CertificateGrant {
            code,
            certificate: None,
        };
        let Some(caller) = &self.caller else {
            return Ok(none(ResultCode::UnknownReference));
        };
        let Some(known) = self.inner.services.store.check_in(&Caller::Id(caller.id)).await? else {
            return Ok(none(ResultCode::UnknownReference));
        };
        let terminal = known.terminal.record;
        if terminal.key.is_some_and(|pinned| pinned.0 != key) {
            return Ok(none(ResultCode::PartyMismatch));
        }
        Ok(
            match terminal
                .renewed_certificate
                .and_then(|certificate| hex::decode(certificate).ok())
            {
                Some(certificate) => CertificateGrant {
                    code: ResultCode::Success,
                    certificate: Some(certificate.into()),
                },
                None => none(ResultCode::Missing),
            },
        )
    }

    /// The caller did wrong, and pays for it.
    fn failed(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.faulted();
        }
    }

    fn ended(&mut self, end: &End) {
        match end {
            End::Bye(_) => info!("call ended"),
            End::Cut => info!("line was cut"),
            End::Timeout => info!("terminal fell silent"),
            End::Busy { .. } | End::Refused { .. } | End::Ended => debug!(?end, "call ended"),
            End::Fault(fault) => {
                warn!(%fault, "call broken off");
                self.failed();
            }
        }
    }

    fn leave(&self) {
        if let Some(caller) = &self.caller {
            self.inner.online.leave(caller.id, self.number);
        }
    }
}

/// How a call came, as far as the access side has seen it.
const fn link(peer: &PeerInfo, profile: &LinkProfile) -> &'static str {
    let dialled = profile.bits_per_second.is_some() || peer.caller.is_some() || peer.called.is_some();
    if dialled { "modem" } else { "tcp" }
}

fn remembered(terminal: &Terminal) -> Option<Remembered> {
    let known = hex::decode(&terminal.credential.as_ref()?.known).ok()?;
    Remembered::from_slice(&known).ok()
}

fn blob_code(error: &BlobError) -> ResultCode {
    match error {
        BlobError::Missing => ResultCode::Gone,
        BlobError::Changed => ResultCode::Changed,
        _ => ResultCode::Busy,
    }
}

fn reject(code: ResultCode, text: &str, retry_after: Option<u32>) -> Reject {
    Reject {
        code,
        message: None,
        text: Some(text.to_owned()),
        retry_after,
    }
}

fn refused(message: &Message, code: ResultCode, text: &str) -> Reject {
    refused_tag(u8::try_from(message.tag().0).unwrap_or_default(), code, text)
}

fn refused_tag(tag: u8, code: ResultCode, text: &str) -> Reject {
    Reject {
        code,
        message: Some(tag),
        text: Some(text.to_owned()),
        retry_after: None,
    }
}
