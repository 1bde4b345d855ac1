//! One call, from the hello to the goodbye.

mod download;
mod identity;
mod message;

use super::Inner;
use super::contact::Asked;
use super::online::Arrival;
use super::plan;
use super::record::{CallError, Facts};
use super::text;
use crate::admission::Permit;
use crate::estate::ParameterSetRef;
use crate::pump::Pump;
use crate::rule::relocation::Observed;
use crate::store::{CheckIn, Credential, TerminalId};
use crate::transport::{Incoming, LinkProfile, PeerInfo, Transport};
use download::blob_code;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tms_proto::code::ResultCode;
use tms_proto::credential::VerifiedPeer;
use tms_proto::digest::Digest;
use tms_proto::handshake::Mode;
use tms_proto::message::{Bye, PlanAck, Reject, ResultAck, StatusReport, Ticket};
use tms_proto::session::{End, ServerConfig, ServerEvent, ServerSession};
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
        let ready = text::ready(&pending.known.terminal.record, time);
        let texts = ready.iter().map(|text| text.id).collect();
        plan.texts.extend(ready);
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

fn reject(code: ResultCode, text: &str, retry_after: Option<u32>) -> Reject {
    Reject {
        code,
        message: None,
        text: Some(text.to_owned()),
        retry_after,
    }
}
