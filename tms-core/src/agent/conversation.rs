//! What is said in a call, event by event.

use super::fetch::Fetch;
use super::identity::ServerError;
use super::journal::{HeldTicket, keep_last};
use super::opening::Choice;
use super::plan::Taken;
use super::report::{CallEnd, CallReport, Progress};
use super::status::Status;
use super::{Agent, AgentError};
use crate::transport::LinkProfile;
use std::collections::BTreeSet;
use std::io;
use tms_proto::code::ResultCode;
use tms_proto::credential::Remembered;
use tms_proto::machine::Instant;
use tms_proto::message::{KeyConfirm, Message, NextContact, Plan, PlanAck, Reject, StatusReport, Trigger, Wanted};
use tms_proto::session::{End, Presented, TerminalEvent, TerminalSession};
use tracing::{debug, warn};

/// The tag of the message that asks for an object, as a reject names it.
const OBJECT_GET: u8 = 0x64;

/// Tickets that are held at most: the one that was used last and the one that is not yet recorded, as at the server.
const MAX_TICKETS: usize = 2;

/// How a call was opened.
pub(super) struct Opened {
    pub(super) choice: Choice,
    /// The report that goes with the handshake.
    pub(super) first: StatusReport,
    pub(super) status: Status,
    pub(super) profile: LinkProfile,
    pub(super) trigger: Trigger,
}

/// A call that is going on.
pub(super) struct Conversation<'a, 'p> {
    pub(super) agent: &'a mut Agent,
    pub(super) report: &'a mut CallReport,
    pub(super) opened: Opened,
    pub(super) progress: Option<&'p mut (dyn FnMut(Progress<'_>) + Send)>,
    /// The server of modes 1 and 4, to be remembered once it has recorded the check-in.
    server: Option<Remembered>,
    acknowledged: bool,
    /// The machine says that the check-in is recorded; the message that told it so has yet to be seen.
    told: bool,
    recorded: bool,
    /// Nothing but a certificate may be asked for.
    recovery: bool,
    wanted: u8,
    inventory_due: bool,
    log_due: bool,
    /// A registration or a certificate request was sent.
    pub(super) registered: bool,
    /// The plan had a ticket.
    ticket: bool,
    /// Answers that are waited for.
    pub(super) awaited: u8,
    pub(super) fetch: Option<Fetch>,
    /// Actions that have nothing more to do in this call.
    pub(super) passed: BTreeSet<u64>,
    /// Numbers of the results that were sent.
    sent: BTreeSet<u32>,
    /// How many receipts were sent, from the first.
    receipts: usize,
    said_bye: bool,
    end: Option<End>,
}

impl<'a, 'p> Conversation<'a, 'p> {
    pub(super) fn new(
        agent: &'a mut Agent,
        report: &'a mut CallReport,
        opened: Opened,
        progress: Option<&'p mut (dyn FnMut(Progress<'_>) + Send)>,
    ) -> Self {
        Self {
            agent,
            report,
            opened,
            progress,
            server: None,
            acknowledged: false,
            told: false,
            recorded: false,
            recovery: false,
            wanted: 0,
            inventory_due: false,
            log_due: false,
            registered: false,
            ticket: false,
            awaited: 0,
            fetch: None,
            passed: BTreeSet::new(),
            sent: BTreeSet::new(),
            receipts: 0,
            said_bye: false,
            end: None,
        }
    }

    /// Handles one event. False where the call is to be hung up.
    pub(super) async fn on(
        &mut self,
        session: &mut TerminalSession,
        now: Instant,
        event: TerminalEvent,
    ) -> Result<bool, AgentError> {
        if self.told {
            self.told = false;
            // A server that could not store it says so first.
            if !matches!(&event, TerminalEvent::Reject(reject) if reject.code == ResultCode::StorageUnavailable) {
                self.recorded().await?;
            }
        }
        match event {
            TerminalEvent::Server {
                time,
                presented,
                static_key,
            } => {
                return self.server(session, now, time, &presented, static_key).await;
            }
            TerminalEvent::Plan { time, plan } => self.plan(session, now, time, &plan).await?,
            TerminalEvent::Recorded => {
                self.told = true;
                return Ok(true);
            }
            TerminalEvent::ObjectStart(start) => self.object_start(&start).await?,
            TerminalEvent::ObjectPart { offset, bytes, .. } => {
                self.object_part(session, now, offset, bytes).await?;
            }
            TerminalEvent::ResultAck(ack) => {
                self.report.acknowledged += ack.numbers.len();
                self.agent.notebook.journal.acknowledged(&ack.numbers);
                if let Some(next) = ack.next_contact {
                    self.tell(next);
                }
                self.agent.notebook.save().await?;
            }
            TerminalEvent::Text(text) => {
                self.agent.notebook.journal.text(text);
                self.agent.notebook.save().await?;
            }
            TerminalEvent::RegisterAnswer(answer) => self.registered(answer).await?,
            TerminalEvent::KeyBlock(block) => {
                let confirm = KeyConfirm {
                    slot: block.slot,
                    code: ResultCode::NotSupported,
                    check_value: None,
                };
                self.send(session, now, confirm);
            }
            TerminalEvent::CertificateGrant(grant) => self.granted(&grant).await?,
            TerminalEvent::ProofRequest { hash } => self.prove(session, now, &hash).await,
            TerminalEvent::Reject(reject) => self.rejected(&reject).await?,
            TerminalEvent::Ended(end) => {
                self.ended(&end).await?;
                self.end = Some(end);
                return Ok(true);
            }
        }
        if self.acknowledged && !self.said_bye {
            self.go_on(session, now).await?;
        }
        Ok(true)
    }

    /// The server shows itself. One that does not prove itself is told nothing more.
    async fn server(
        &mut self,
        session: &mut TerminalSession,
        now: Instant,
        time: u64,
        presented: &Presented,
        static_key: [u8; 32],
    ) -> Result<bool, AgentError> {
        let agent = &mut *self.agent;
        let (known, trust_clock) = (agent.now(), agent.options.trust_clock);
        let journal = &mut agent.notebook.journal;
        let peer = match agent
            .identity
            .verify(journal, presented, static_key, known, trust_clock)
        {
            Ok(peer) => peer,
            Err(error) => {
                warn!(%error, "server is not believed");
                let remembered = matches!(presented, Presented::Remembered(_));
                journal.server = None;
                if remembered && error != ServerError::Over {
                    // It may have something newer to show.
                    journal.schedule.again(known.clock);
                } else {
                    journal.error(known.stamp(), ResultCode::InvalidParty, &error.to_string());
                }
                self.report.end = CallEnd::Impostor(error.to_string());
                return Ok(false);
            }
        };
        // The server is who it says, so its time is as good as the clock of whoever runs it.
        let shown = match agent.identity.present(journal, time).await {
            Ok(shown) => shown,
            Err(error) => {
                self.report.end = CallEnd::Failed(error.to_string());
                return Ok(false);
            }
        };
        // A channel certificate is signed once: it is stored before it is shown.
        if matches!(shown, Presented::Full(_)) {
            agent.notebook.save().await?;
        }
        self.server = Some(peer.remember().clone());
        match session.identify(now, &peer, &shown, &self.opened.first) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.report.end = CallEnd::Failed(error.to_string());
                Ok(false)
            }
        }
    }

    /// The plan: everything that it changes is stored, and then it is acknowledged.
    async fn plan(
        &mut self,
        session: &mut TerminalSession,
        now: Instant,
        time: u64,
        plan: &Plan,
    ) -> Result<(), AgentError> {
        let agent = &mut *self.agent;
        let clock = agent.clock.now();
        let journal = &mut agent.notebook.journal;
        journal.timeline.learn(time, clock, agent.options.max_clock_step);
        let known = journal.timeline.now(clock, agent.options.trust_clock);
        let taken = journal.take(plan, known, &agent.options, &*agent.entropy);
        self.report.plan = Some(plan.sequence);
        let refused = match taken {
            Taken::Stale => {
                warn!(sequence = plan.sequence, held = journal.plan, "stale plan refused");
                journal.error(known.stamp(), ResultCode::StalePlan, "stale plan refused");
                agent.notebook.save().await?;
                self.report.end = CallEnd::StalePlan;
                self.said_bye = session.bye(now, ResultCode::StalePlan).is_ok();
                return Ok(());
            }
            Taken::Unchanged => {
                self.report.unchanged = true;
                Vec::new()
            }
            Taken::New(refused) => refused,
        };
        journal.schedule.tell(plan.next_contact, time, clock, &*agent.entropy);
        self.report.next_contact = Some(plan.next_contact);
        if let Some(ticket) = &plan.ticket {
            // The one that was used is kept: this call may still break off. Any other is dead once this is recorded, and
            // while it is not the one that was used is better.
            if let Choice::Ticket(used) = self.opened.choice {
                journal.tickets.retain(|held| held.id == used);
            }
            let expires = time.saturating_add(u64::from(ticket.lifetime));
            journal.tickets.push(HeldTicket {
                id: ticket.id,
                key: ticket.key.clone(),
                expires,
                refused: false,
            });
            // Calls that break off before they are recorded would otherwise pile up tickets.
            keep_last(&mut journal.tickets, MAX_TICKETS);
            self.ticket = true;
        }
        self.wanted = plan.wanted.unwrap_or(0);
        self.recovery = self.wanted & Wanted::CERTIFICATE_REQUEST != 0;
        self.inventory_due = self.wanted & Wanted::INVENTORY != 0;
        self.log_due = self.wanted & Wanted::LOG != 0;
        if self.wanted & Wanted::REGISTRATION != 0 && journal.registration.is_none() {
            self.report.remarks.push("registration wanted".into());
        }
        agent.notebook.save().await?;
        self.report.refused.clone_from(&refused);
        self.sent
            .extend(self.opened.first.results.iter().map(|result| result.number));
        self.report.results.clone_from(&self.opened.first.results);
        self.acknowledged = self.send(
            session,
            now,
            PlanAck {
                sequence: plan.sequence,
                refused,
            },
        );
        Ok(())
    }

    /// The server has recorded the check-in: what the journal keeps for the case that it had not can go.
    async fn recorded(&mut self) -> Result<(), AgentError> {
        let opened = &self.opened;
        let clock = self.agent.clock.now();
        let journal = &mut self.agent.notebook.journal;
        self.recorded = true;
        journal.refused_modes.clear();
        journal.schedule.succeeded(clock);
        journal.notice = None;
        if self.recovery {
            // Nothing of this call is recorded but that it was made.
            return Ok(self.agent.notebook.save().await?);
        }
        self.report.recorded = true;
        if self.ticket {
            let dead = journal.tickets.len().saturating_sub(1);
            journal.tickets.drain(..dead);
        }
        if let Some(server) = self.server.take() {
            journal.server_epoch = journal.server_epoch.max(server.epoch);
            journal.server = Some(server);
            if let Some(signed) = journal.channel.as_mut().and_then(|channel| channel.signed.as_mut()) {
                signed.known = true;
            }
        }
        if self.wanted & Wanted::INVENTORY == 0 {
            journal.told_inventory = Some(opened.status.inventory_digest);
        }
        journal.told_state = Some(opened.status.state_digest);
        journal
            .errors
            .drain(..opened.first.errors.len().min(journal.errors.len()));
        self.agent.notebook.journal.urgent = self.has_news();
        Ok(self.agent.notebook.save().await?)
    }

    /// Says what is to be said next: goodbye, where there is nothing else.
    async fn go_on(&mut self, session: &mut TerminalSession, now: Instant) -> Result<(), AgentError> {
        if self.recovery {
            self.ask_for_certificate(session, now);
        } else {
            if std::mem::replace(&mut self.inventory_due, false) {
                let whole = self.opened.status.whole(self.agent, &self.opened.trigger);
                self.send(session, now, whole);
            }
            if std::mem::replace(&mut self.log_due, false) {
                self.send_log(session, now).await;
            }
            if self.fetch.is_none() {
                self.start_next(session, now).await?;
            }
            self.send_news(session, now);
        }
        if self.fetch.is_none() && self.awaited == 0 && !self.said_bye {
            self.said_bye = session.bye(now, ResultCode::Success).is_ok();
        }
        Ok(())
    }

    /// Results, receipts and a registration that were not sent in this call.
    fn send_news(&mut self, session: &mut TerminalSession, now: Instant) {
        let journal = &self.agent.notebook.journal;
        let results: Vec<_> = journal
            .results
            .iter()
            .filter(|result| !self.sent.contains(&result.number))
            .cloned()
            .collect();
        let receipts: Vec<_> = journal.receipts.iter().skip(self.receipts).cloned().collect();
        let registration = journal.registration.clone().filter(|_| !self.registered);
        for result in results {
            if self.send(session, now, result.clone()) {
                self.sent.insert(result.number);
                self.report.results.push(result);
            }
        }
        for receipt in receipts {
            if self.send(session, now, receipt) {
                self.receipts += 1;
            }
        }
        if let Some(registration) = registration {
            self.registered = true;
            if self.send(session, now, registration) {
                self.awaited += 1;
            }
        }
    }

    async fn rejected(&mut self, reject: &Reject) -> Result<(), AgentError> {
        warn!(code = %reject.code, message = ?reject.message, "server refuses");
        let text = reject.text.clone().unwrap_or_default();
        self.report
            .remarks
            .push(format!("{} {text}", reject.code).trim_end().to_owned());
        if reject.message == Some(OBJECT_GET) && self.fetch.is_some() {
            return self.fetch_failed(reject.code, "the server gave the download up").await;
        }
        let about_one = reject.message.is_some();
        if self.acknowledged && about_one {
            // One message was refused, not the terminal. Whatever was waited for does not come.
            self.awaited = 0;
            return Ok(());
        }
        // The server ends the call.
        self.said_bye = true;
        self.report.end = CallEnd::Refused(reject.code);
        let agent = &mut *self.agent;
        let now = agent.now();
        let journal = &mut agent.notebook.journal;
        let known = journal.channel.as_mut().and_then(|channel| channel.signed.as_mut());
        let forgotten = reject.code == ResultCode::CredentialUnknown
            && known.is_some_and(|signed| std::mem::replace(&mut signed.known, false));
        if forgotten {
            // Next time it is shown them whole.
            journal.schedule.again(now.clock);
        } else {
            if let Some(seconds) = reject.retry_after {
                journal
                    .schedule
                    .busy(now.clock, seconds, &agent.options, &*agent.entropy);
            }
            journal.error(now.stamp(), reject.code, &text);
        }
        Ok(agent.notebook.save().await?)
    }

    async fn ended(&mut self, end: &End) -> Result<(), AgentError> {
        // This goodbye of the server's, and no other, says that it has recorded all that it was sent.
        let kept = matches!(end, End::Bye(bye) if bye.code == ResultCode::Success);
        if !self.recorded || !kept || self.recovery {
            return Ok(());
        }
        let opened = &self.opened;
        let journal = &mut self.agent.notebook.journal;
        journal.receipts.drain(..self.receipts.min(journal.receipts.len()));
        if self.wanted & Wanted::INVENTORY != 0 {
            journal.told_inventory = Some(opened.status.inventory_digest);
        }
        self.agent.notebook.journal.urgent = self.has_news();
        self.hold_back();
        Ok(self.agent.notebook.save().await?)
    }

    /// Whether there is something that the server was not told in this call.
    fn has_news(&self) -> bool {
        let journal = &self.agent.notebook.journal;
        let untold = journal.results.iter().any(|result| !self.sent.contains(&result.number));
        untold || (journal.registration.is_some() && !self.registered)
    }

    /// The line failed before the session had ended.
    pub(super) fn lost(&mut self, error: &io::Error) {
        if self.report.end == CallEnd::Done {
            self.report.end = CallEnd::Broken(error.to_string());
        }
    }

    /// How the session ended, and whether the check-in is recorded.
    pub(super) fn close(self) -> (Option<End>, bool) {
        (self.end, self.recorded)
    }

    /// Sends a message; false where it cannot be sent now.
    pub(super) fn send(&self, session: &mut TerminalSession, now: Instant, message: impl Into<Message>) -> bool {
        let message = message.into();
        let name = message.name();
        session
            .send(now, message)
            .inspect_err(|error| debug!(message = name, %error, "message not sent"))
            .is_ok()
    }

    fn tell(&mut self, next: NextContact) {
        let agent = &mut *self.agent;
        let now = agent.now();
        agent
            .notebook
            .journal
            .schedule
            .tell(next, now.stamp(), now.clock, &*agent.entropy);
        self.report.next_contact = Some(next);
    }
}
