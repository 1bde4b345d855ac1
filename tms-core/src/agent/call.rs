//! One check-in: from the choice of credentials to what its end means for the next.

use super::conversation::{Conversation, Opened};
use super::opening::Choice;
use super::report::{CallEnd, CallReport, Progress};
use super::status::Status;
use super::{Agent, AgentError};
use crate::pump::Pump;
use crate::transport::{LinkProfile, Transport};
use std::time::Duration;
use tms_proto::code::{ResultCode, TriggerKind};
use tms_proto::envelope::Tpdu;
use tms_proto::handshake::{Mode, StaticKey, VERSION};
use tms_proto::message::Trigger;
use tms_proto::secret::Psk;
use tms_proto::session::{End, Opening, TerminalConfig, TerminalEvent, TerminalSession};
use tracing::{debug, info, warn};

/// How many bytes a handshake has at most, for the patience with it.
const HANDSHAKE: u32 = 3 * 4096;

/// The shortest silence of the server that ends a call.
const MIN_IDLE: Duration = Duration::from_secs(60);

/// The shortest time that the server has to take what is sent.
const MIN_WRITE: Duration = Duration::from_secs(30);

/// A call to be made.
pub struct Call<'a> {
    /// Why.
    pub trigger: Trigger,
    /// What the link is like.
    pub profile: LinkProfile,
    /// The route, where the link's envelope has one.
    pub tpdu: Option<Tpdu>,
    /// Told how far downloads have come.
    pub progress: Option<&'a mut (dyn FnMut(Progress<'_>) + Send)>,
}

impl Call<'_> {
    /// A call over TCP that nobody watches.
    #[must_use]
    pub const fn new(trigger: Trigger) -> Self {
        Self {
            trigger,
            profile: LinkProfile::TCP,
            tpdu: None,
            progress: None,
        }
    }
}

impl From<Trigger> for Call<'_> {
    fn from(trigger: Trigger) -> Self {
        Self::new(trigger)
    }
}

impl From<TriggerKind> for Call<'_> {
    fn from(kind: TriggerKind) -> Self {
        Self::new(Trigger::of(kind))
    }
}

/// Keys for an opening.
enum Secrets {
    Ticket([u8; 16], Psk),
    MainKey(u32, Psk),
    Rsa(StaticKey),
    Both(StaticKey, u32, Psk),
}

impl Agent {
    /// Makes one check-in over `transport`.
    ///
    /// Whatever happens is in the report; when to try again is then in [`next_contact`](Self::next_contact). Dropping the
    /// future hangs up, and loses nothing that the journal has.
    pub async fn call<T: Transport>(&mut self, transport: T, call: impl Into<Call<'_>>) -> CallReport {
        let call = call.into();
        let mut report = CallReport::new(call.trigger.clone());
        if let Err(error) = self.converse(transport, call, &mut report).await {
            warn!(%error, "terminal failed in a call");
            report.end = CallEnd::Failed(error.to_string());
            let clock = self.clock.now();
            self.notebook
                .journal
                .schedule
                .failed(clock, &self.options, &*self.entropy);
            // The memory is what failed, perhaps: then this fails too, and the wait holds while the program runs.
            if let Err(error) = self.notebook.save().await {
                debug!(%error, "journal cannot be written");
            }
        }
        info!(contact = report.contact, recorded = report.recorded, end = %report.end, "call ended");
        report
    }

    async fn converse<T: Transport>(
        &mut self,
        transport: T,
        call: Call<'_>,
        report: &mut CallReport,
    ) -> Result<(), AgentError> {
        let now = self.now();
        let Some(choice) = self.notebook.journal.choose(&self.identity, &self.options, now) else {
            report.end = CallEnd::NoCredentials;
            return self.ended_badly(None).await;
        };
        let key = self.identity.prepare(&mut self.notebook.journal, now, &*self.entropy);
        report.contact = self.count_contact().await?;
        let Some(secrets) = self.secrets(choice, key).await else {
            report.end = CallEnd::Failed("keys cannot be reached".into());
            return self.ended_badly(Some(choice)).await;
        };
        report.mode = Some(secrets.mode());
        let status = match Status::read(self).await {
            Ok(status) => status,
            Err(error) => {
                report.end = CallEnd::Failed(error.to_string());
                return self.ended_badly(None).await;
            }
        };
        let first = status.news(self, &call.trigger);
        let config = TerminalConfig {
            envelope: call.profile.envelope,
            tpdu: call.tpdu,
            suites: self.notebook.journal.suites(&self.options),
            max_record: call.profile.max_record,
            handshake_timeout: call.profile.patience(HANDSHAKE),
            idle_timeout: call.profile.patience(call.profile.credit).max(MIN_IDLE),
        };
        let remembered = self.notebook.journal.server.as_ref().map(|server| server.credential);
        let terminal = self.identity.terminal.0;
        let opening = match &secrets {
            Secrets::Ticket(id, psk) => Opening::Ticket {
                id: *id,
                psk,
                report: &first,
            },
            Secrets::MainKey(epoch, psk) => Opening::MainKey {
                terminal,
                epoch: *epoch,
                psk,
                report: &first,
            },
            Secrets::Rsa(static_key) => Opening::Rsa { static_key, remembered },
            Secrets::Both(static_key, epoch, psk) => Opening::Both {
                static_key,
                remembered,
                terminal,
                epoch: *epoch,
                psk,
            },
        };
        let mut ephemeral = [0; 32];
        self.entropy.fill(&mut ephemeral);
        let mut pump = Pump::new(transport).with_write_patience(call.profile.patience(HANDSHAKE).max(MIN_WRITE));
        let mut session = match TerminalSession::new(&config, &opening, ephemeral, pump.now()) {
            Ok(session) => session,
            Err(error) => {
                report.end = CallEnd::Failed(error.to_string());
                return self.ended_badly(Some(choice)).await;
            }
        };
        let opened = Opened {
            choice,
            first,
            status,
            profile: call.profile,
            trigger: call.trigger,
        };
        let mut conversation = Conversation::new(self, report, opened, call.progress);
        let talked = talk(&mut pump, &mut session, &mut conversation).await;
        let settled = conversation.settle().await;
        let (end, recorded) = conversation.close();
        (report.sent, report.received) = (pump.bytes_out(), pump.bytes_in());
        talked.and(settled)?;
        self.ended(end, recorded, choice, report).await
    }

    /// The keys of a choice; none where whoever holds them does not answer.
    async fn secrets(&self, choice: Choice, key: Option<StaticKey>) -> Option<Secrets> {
        match choice {
            Choice::Ticket(id) => {
                let ticket = self.notebook.journal.tickets.iter().find(|ticket| ticket.id == id)?;
                Some(Secrets::Ticket(id, ticket.key.clone()))
            }
            Choice::Full(Mode::Rsa) => key.map(Secrets::Rsa),
            Choice::Full(mode) => {
                let main_key = self.identity.main_key.as_ref()?;
                let psk = match main_key.keys.psk(self.identity.terminal, main_key.epoch).await {
                    Ok(psk) => psk?,
                    Err(error) => {
                        warn!(%error, "main-control key cannot be used");
                        return None;
                    }
                };
                match mode {
                    Mode::Both => Some(Secrets::Both(key?, main_key.epoch, psk)),
                    _ => Some(Secrets::MainKey(main_key.epoch, psk)),
                }
            }
        }
    }

    /// A call that did not come about. Credentials that cannot be used are passed over next time.
    async fn ended_badly(&mut self, unusable: Option<Choice>) -> Result<(), AgentError> {
        let clock = self.clock.now();
        let journal = &mut self.notebook.journal;
        if let Some(choice) = unusable {
            journal.refused(choice, &self.identity, &self.options);
        }
        journal.schedule.failed(clock, &self.options, &*self.entropy);
        Ok(self.notebook.save().await?)
    }

    /// What the end of a call means for the next.
    async fn ended(
        &mut self,
        end: Option<End>,
        recorded: bool,
        choice: Choice,
        report: &mut CallReport,
    ) -> Result<(), AgentError> {
        let clock = self.clock.now();
        let stamp = self.now().stamp();
        let (options, entropy) = (&self.options, &*self.entropy);
        let journal = &mut self.notebook.journal;
        // What the conversation found out goes before what the session says of its end.
        let decided = report.end != CallEnd::Done;
        match end {
            Some(End::Bye(bye)) => {
                if let Some(next) = bye.next_contact {
                    let time = journal.timeline.now(clock, options.trust_clock).stamp();
                    journal.schedule.tell(next, time, clock, entropy);
                    report.next_contact = Some(next);
                }
                if !recorded && !decided {
                    report.end = CallEnd::Refused(bye.code);
                }
                if !recorded && !journal.schedule.is_held() {
                    journal.schedule.failed(clock, options, entropy);
                }
            }
            Some(End::Busy { retry_after, .. }) => {
                journal.schedule.busy(clock, retry_after, options, entropy);
                report.end = CallEnd::Busy(retry_after);
            }
            Some(End::Refused { code, versions, suites }) => {
                report.end = CallEnd::Refused(code);
                let again = match code {
                    ResultCode::VersionUnsupported => {
                        versions.contains(&VERSION) && journal.change_suite(&suites, options)
                    }
                    _ => journal.refused(choice, &self.identity, options),
                };
                if again {
                    journal.schedule.again(clock);
                } else {
                    journal.error(stamp, code, "refused in the handshake");
                    journal.schedule.failed(clock, options, entropy);
                }
            }
            other => {
                if !decided {
                    report.end = match other {
                        Some(End::Fault(fault)) => CallEnd::Fault(fault.to_string()),
                        Some(End::Timeout) => CallEnd::Broken("silence".into()),
                        _ => CallEnd::Broken("cut".into()),
                    };
                }
                if !journal.schedule.is_held() {
                    journal.schedule.failed(clock, options, entropy);
                }
            }
        }
        Ok(self.notebook.save().await?)
    }
}

/// Goes through the events of a call, to its end or to where it is hung up.
async fn talk<T: Transport>(
    pump: &mut Pump<T, TerminalEvent>,
    session: &mut TerminalSession,
    conversation: &mut Conversation<'_, '_>,
) -> Result<(), AgentError> {
    loop {
        match pump.next(session).await {
            Ok(Some(event)) => {
                if !conversation.on(session, pump.now(), event).await? {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            // The machine knows, and has an end to report.
            Err(error) => conversation.lost(&error),
        }
    }
}

impl Secrets {
    const fn mode(&self) -> Mode {
        match self {
            Self::Ticket(..) => Mode::Ticket,
            Self::MainKey(..) => Mode::MainKey,
            Self::Rsa(_) => Mode::Rsa,
            Self::Both(..) => Mode::Both,
        }
    }
}
