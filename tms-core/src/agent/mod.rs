//! The terminal's agent: the main-control application. It calls the server, takes plans, downloads, verifies, installs and
//! confirms, and remembers how far it is.
//!
//! [`Agent::call`] makes one check-in over any transport. [`Agent::work`] does, off line, what is then to be done.
//! [`Agent::next_contact`] says when to call again. A program is a loop of the three:
//!
//! ```no_run
//! # use tms_core::agent::{Agent, Call};
//! # use tms_core::transport::Dial;
//! # async fn run(mut agent: Agent, mut line: Box<dyn Dial>) -> Result<(), Box<dyn std::error::Error>> {
//! loop {
//!     let work = agent.work().await?;
//!     if work.restart {
//!         return Ok(()); // start the terminal again
//!     }
//!     let contact = agent.next_contact();
//!     if let Some(again) = work.again.filter(|again| *again < contact.wait) {
//!         tokio::time::sleep(again).await;
//!         continue;
//!     }
//!     tokio::time::sleep(contact.wait).await;
//!     match line.dial().await {
//!         Ok(outgoing) => {
//!             let call = Call { profile: outgoing.profile, ..Call::new(contact.trigger) };
//!             print!("{}", agent.call(outgoing.transport, call).await);
//!         }
//!         Err(error) => agent.not_reached(&error).await?,
//!     }
//! }
//! # }
//! ```
//!
//! # Invariants
//!
//! Power may fail at any instant, and any future may be dropped. Still:
//!
//! 1. **The terminal always has a whole version of each component that it can start.** The old one stays until the new one
//!    has confirmed itself.
//! 2. **Nothing is installed that was not verified here**: signatures, target, counter, version, expiry, dependencies, size
//!    and digest, read back from the memory.
//! 3. **Nothing is reported that has not happened**, and what has happened is reported until the server has recorded it.
//! 4. **Nothing is told or promised that is not in the journal first.**
//! 5. **A call that breaks off anywhere can be made again**: the old ticket is kept until the server is known to have recorded
//!    the check-in, and where both tickets are refused the terminal proves itself from the start.
//! 6. **A download goes on at the byte where it stopped**, and what is not verified is not trusted.

mod action;
mod answer;
mod call;
mod conversation;
mod decode;
mod device;
mod download;
mod encoded;
mod fetch;
mod identity;
mod journal;
mod opening;
mod options;
mod package;
mod parameters;
mod plan;
mod removal;
mod report;
mod schedule;
mod standing;
mod status;
mod timeline;
mod work;

pub mod flash;
pub mod slot;

pub use call::Call;
pub use device::{
    Activation, Answer, Components, Content, Device, DeviceError, Installer, Readiness, Running, Screen, Trial,
};
pub use identity::{Identity, MainKeyIdentity, RsaIdentity};
pub use options::Options;
pub use report::{CallEnd, CallReport, Download, Progress};
pub use schedule::Contact;
pub use timeline::Now;
pub use work::WorkReport;

use crate::clock::Clock;
use crate::entropy::Entropy;
use action::{Held, View};
use bytes::Bytes;
use flash::{Flash, FlashError, read_all};
use journal::Notebook;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tms_proto::code::{ResultCode, Stage, TriggerKind};
use tms_proto::message::{Register, Trigger};
use tms_proto::package::{Installed, MAX_SIGNED, SignedTrust, TrustError, TrustStore};
use tms_proto::tlv::DecodeError;

/// The file of the trust store.
const TRUST: &str = "trust";

/// What an agent is made of.
#[derive(Clone)]
pub struct Setup {
    /// The terminal, its keys, and the roots that it trusts.
    pub identity: Identity,
    /// Whose signatures packages need: the trust store that the terminal came with. A newer one in its memory counts.
    pub trust: TrustStore,
    /// What the terminal came with, as its manifests name it; for components that the agent has not installed itself.
    pub installed: Vec<Installed>,
    /// The device.
    pub device: Device,
    /// The terminal's clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// Policies.
    pub options: Options,
}

/// The agent; see the [module](self).
pub struct Agent {
    notebook: Notebook,
    identity: Identity,
    trust: TrustStore,
    device: Device,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    options: Options,
    /// Restarts that were asked for since this agent was opened, by their actions.
    before_restart: Vec<u64>,
}

/// Where an action stands, for a display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionStatus {
    /// The action.
    pub action: u64,
    /// The component, where that is known.
    pub component: Option<String>,
    /// How far it is.
    pub stage: Stage,
    /// What it waits for.
    pub waiting: Option<ResultCode>,
    /// The attempt, from 1.
    pub attempt: u16,
}

/// Why an agent cannot do anything.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The terminal's memory.
    #[error(transparent)]
    Flash(#[from] FlashError),
    /// The trust store in memory cannot be read.
    #[error("trust store in memory: {0}")]
    Trust(DecodeError),
    /// A new trust store is refused.
    #[error("new trust store refused: {0}")]
    NewTrust(#[from] TrustError),
}

impl Agent {
    /// Opens the agent whose memory `flash` is. An empty memory is a terminal that has never called.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn open(flash: Arc<dyn Flash>, setup: Setup) -> Result<Self, AgentError> {
        let Setup {
            identity,
            mut trust,
            installed,
            device,
            clock,
            entropy,
            options,
        } = setup;
        if let Some(stored) = read_all(&*flash, TRUST, MAX_SIGNED).await? {
            let stored = TrustStore::decode(&stored).map_err(AgentError::Trust)?;
            if stored.version > trust.version {
                trust = stored;
            }
        }
        let mut notebook = Notebook::open(flash).await?;
        for came_with in installed {
            let journal = &notebook.journal;
            let known = journal
                .installed
                .iter()
                .chain(&journal.removed)
                .any(|known| known.component == came_with.component);
            if !known {
                notebook.journal.installed.push(came_with);
            }
        }
        notebook.sweep().await?;
        Ok(Self {
            notebook,
            identity,
            trust,
            device,
            clock,
            entropy,
            options,
            before_restart: Vec::new(),
        })
    }

    /// When to call next, and why.
    #[must_use]
    pub fn next_contact(&self) -> Contact {
        let now = self.now();
        let journal = &self.notebook.journal;
        let wishes = journal
            .actions
            .iter()
            .filter_map(|held| held.download_in(&self.view(held, now)));
        let next = journal
            .schedule
            .next(now.clock, journal.urgent, wishes.min(), &self.options);
        match &journal.notice {
            Some(notice) if !journal.schedule.is_held() => Contact {
                wait: Duration::ZERO,
                trigger: notice.clone(),
            },
            _ => next,
        }
    }

    /// A transaction host said with its answer that the terminal is to call: that is due at once, and is remembered until a
    /// check-in is recorded. What the notice names the server is told.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn noticed(&mut self, task: Option<u32>, check_code: Option<Bytes>) -> Result<(), AgentError> {
        self.notebook.journal.notice = Some(Trigger {
            task,
            check_code,
            ..Trigger::of(TriggerKind::TransactionNotice)
        });
        Ok(self.notebook.save().await?)
    }

    /// A call that somebody at the terminal asks for: when it may be made, so that calls by hand are as far apart as the server
    /// wants them. [`call`](Self::call) does not ask: a program asks before it dials.
    #[must_use]
    pub fn by_hand(&self) -> Contact {
        let gap = self.notebook.journal.schedule.gap(self.clock.now());
        Contact {
            wait: Duration::from_secs(gap),
            trigger: Trigger::of(TriggerKind::Manual),
        }
    }

    /// The terminal has settled its transactions: where the server wants to be called after so many settlements, they are
    /// counted, and [`next_contact`](Self::next_contact) says when it is time.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn settled(&mut self) -> Result<(), AgentError> {
        if self.notebook.journal.schedule.settled() {
            self.notebook.save().await?;
        }
        Ok(())
    }

    /// The terminal was switched on: where the server wants to be called then, [`next_contact`](Self::next_contact) says when.
    /// A restart that the agent itself asked for is none.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn powered_on(&mut self) -> Result<(), AgentError> {
        let clock = self.clock.now();
        if self.notebook.journal.schedule.powered_on(clock, &*self.entropy) {
            self.notebook.save().await?;
        }
        Ok(())
    }

    /// The server was not reached: there was no line to call over.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn not_reached(&mut self, error: &io::Error) -> Result<(), AgentError> {
        let now = self.now();
        let journal = &mut self.notebook.journal;
        journal.error(now.stamp(), ResultCode::ConnectionError, &error.to_string());
        journal.schedule.failed(now.clock, &self.options, &*self.entropy);
        Ok(self.notebook.save().await?)
    }

    /// Registers the terminal at its place with the next call (§7.8), which is due at once.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn register(&mut self, register: Register) -> Result<(), AgentError> {
        self.notebook.journal.registration = Some(register);
        self.notebook.journal.urgent = true;
        Ok(self.notebook.save().await?)
    }

    /// Replaces the trust store by one that the present root and the new one have signed (§11.3).
    ///
    /// # Errors
    /// [`AgentError::NewTrust`] where it is refused, or where the memory fails; then the old one holds.
    pub async fn update_trust(&mut self, signed: &[u8]) -> Result<(), AgentError> {
        let signed = SignedTrust::decode(signed).map_err(TrustError::from)?;
        let new = self.trust.update(&signed)?;
        self.notebook.flash.replace(TRUST, &new.encode()).await?;
        self.trust = new;
        Ok(())
    }

    /// The actions that are not over, in the order in which they are begun.
    #[must_use]
    pub fn actions(&self) -> Vec<ActionStatus> {
        let status = |held: &Held| ActionStatus {
            action: held.action.id,
            component: held.component.clone(),
            stage: held.stage,
            waiting: held.waiting,
            attempt: held.attempt,
        };
        self.notebook.journal.actions.iter().map(status).collect()
    }

    /// How many results the server has not acknowledged yet.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.notebook.journal.results.len()
    }

    /// The time, as well as the terminal knows it.
    #[must_use]
    pub fn now(&self) -> Now {
        self.notebook
            .journal
            .timeline
            .now(self.clock.now(), self.options.trust_clock)
    }

    fn held(&self, id: u64) -> Option<&Held> {
        self.notebook.journal.actions.iter().find(|held| held.action.id == id)
    }

    fn view(&self, held: &Held, now: Now) -> View {
        let journal = &self.notebook.journal;
        View {
            now,
            not_after: journal.not_after,
            dependencies: journal.dependencies(&held.action.depends_on),
        }
    }
}
