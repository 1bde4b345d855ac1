//! A terminal that is switched on.

use crate::directory::Directory;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tms_core::agent::flash::{DirectoryFlash, Flash, FlashError};
use tms_core::agent::slot::{SelfTest, SlotDevice, Version};
use tms_core::agent::{
    ActionStatus, Agent, Call, CallReport, Contact, Device, Options, Progress, Readiness, Setup, WorkReport,
};
use tms_core::clock::{Clock, SystemClock};
use tms_core::entropy::OsEntropy;
use tms_core::rule::template::Document;
use tms_core::transport::Dial;
use tms_proto::message::{Register, Trigger};
use tokio::time::Instant;

/// How often a terminal may start again in one go before it is taken for one that does nothing else.
const MAX_STARTS: usize = 8;

/// How a terminal is, so that trouble can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Transactions are not settled.
    pub unsettled: bool,
    /// A transaction is running.
    pub busy: bool,
    /// What its clock shows when it is switched on, in seconds since 1970 UTC; the system's time by default.
    pub clock: Option<u64>,
    /// What a new version does when it is started.
    pub self_test: SelfTest,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            unsettled: false,
            busy: false,
            clock: None,
            self_test: SelfTest::Passes,
        }
    }
}

/// A terminal that is switched on. Dropping it, or killing the program, is a loss of power.
pub struct Terminal {
    directory: Directory,
    behaviour: Behaviour,
    clock: Arc<dyn Clock>,
    flash: Arc<dyn Flash>,
    device: Arc<SlotDevice>,
    agent: Agent,
}

impl Terminal {
    /// Switches on the terminal in `directory`.
    ///
    /// # Errors
    /// Where something of it is missing or damaged, or it is switched on already.
    pub async fn switch_on(directory: Directory, behaviour: Behaviour) -> Result<Self> {
        let clock: Arc<dyn Clock> = match behaviour.clock {
            Some(shows) => Arc::new(Running {
                shows,
                since: Instant::now(),
            }),
            None => Arc::new(SystemClock),
        };
        Self::switch_on_with(directory, behaviour, clock).await
    }

    /// The same, with this clock in it.
    ///
    /// # Errors
    /// The same.
    pub async fn switch_on_with(directory: Directory, behaviour: Behaviour, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = directory.flash();
        let flash: Arc<dyn Flash> = match DirectoryFlash::open(&path).await {
            Ok(flash) => Arc::new(flash),
            Err(FlashError::Failed(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                anyhow::bail!(
                    "the terminal in {} is switched on already, by another process",
                    directory.path().display()
                )
            }
            Err(error) => return Err(error).with_context(|| format!("the memory {} cannot be used", path.display())),
        };
        let (device, mut agent) = start(&directory, behaviour, &clock, &flash).await?;
        agent.powered_on().await?;
        Ok(Self {
            directory,
            behaviour,
            clock,
            flash,
            device,
            agent,
        })
    }

    /// Its memory, for what else must survive the loss of power.
    #[must_use]
    pub fn flash(&self) -> Arc<dyn Flash> {
        Arc::clone(&self.flash)
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Does all that can be done without a call: verifies, installs, activates, starts again where that is needed, confirms.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn work(&mut self) -> Result<WorkReport> {
        let mut all = WorkReport::default();
        for _ in 0..MAX_STARTS {
            let done = self.agent.work().await?;
            all.results.extend(done.results);
            all.again = done.again;
            if !done.restart {
                return Ok(all);
            }
            (self.device, self.agent) = start(&self.directory, self.behaviour, &self.clock, &self.flash).await?;
        }
        all.restart = true;
        Ok(all)
    }

    /// Makes one call. Where the server is not reached there is no report.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn call(
        &mut self,
        dial: &mut (dyn Dial + Send),
        trigger: Trigger,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Result<CallReport, io::Error>> {
        match dial.dial().await {
            Ok(outgoing) => {
                let call = Call {
                    trigger,
                    profile: outgoing.profile,
                    tpdu: None,
                    progress: Some(progress),
                };
                Ok(Ok(self.agent.call(outgoing.transport, call).await))
            }
            Err(error) => {
                self.agent.not_reached(&error).await?;
                Ok(Err(error))
            }
        }
    }

    /// Has it register at its place with the next call, which is due at once.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn register(&mut self, register: Register) -> Result<()> {
        Ok(self.agent.register(register).await?)
    }

    /// When to call next, and why.
    #[must_use]
    pub fn next_contact(&self) -> Contact {
        self.agent.next_contact()
    }

    /// When somebody at the terminal may call.
    #[must_use]
    pub fn by_hand(&self) -> Contact {
        self.agent.by_hand()
    }

    /// Settles its transactions, as the cashier would.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn settle(&mut self) -> Result<()> {
        Ok(self.agent.settled().await?)
    }

    /// What is under way.
    #[must_use]
    pub fn actions(&self) -> Vec<ActionStatus> {
        self.agent.actions()
    }

    /// How many results the server does not know yet.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.agent.unacknowledged()
    }

    /// The versions that run, by component.
    pub async fn versions(&self) -> BTreeMap<String, Version> {
        self.device.versions().await
    }

    /// The parameters of a template that are in force; none where it has none.
    ///
    /// # Errors
    /// Where the memory fails, or what is in it is damaged.
    pub async fn parameters(&self, template: &str) -> Result<Option<Document>> {
        Ok(self.device.parameters(template).await?)
    }

    /// Components whose running version is not whole: none, whatever happened.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn broken(&self) -> Result<Vec<String>> {
        Ok(self.device.broken().await?)
    }
}

/// Starts the device, and the agent on it.
async fn start(
    directory: &Directory,
    behaviour: Behaviour,
    clock: &Arc<dyn Clock>,
    flash: &Arc<dyn Flash>,
) -> Result<(Arc<SlotDevice>, Agent)> {
    let self_test = behaviour.self_test;
    let device = SlotDevice::with_self_test(Arc::clone(flash), Box::new(move |_, _| self_test)).await?;
    let hardware = directory.settings.hardware.clone();
    device.set(|conditions| {
        conditions.readiness = Readiness {
            busy: behaviour.busy,
            unsettled: behaviour.unsettled,
            ..Readiness::FREE
        };
        conditions.state.busy = behaviour.busy.then_some(true);
        conditions.state.unsettled = behaviour.unsettled.then_some(1);
        conditions.hardware = hardware;
    });
    device.start().await?;
    let device = Arc::new(device);
    let setup = Setup {
        identity: directory.identity()?,
        trust: directory.trust()?,
        installed: directory.installed()?,
        device: Device {
            components: device.clone(),
            installer: device.clone(),
            screen: device.clone(),
        },
        clock: Arc::clone(clock),
        entropy: Arc::new(OsEntropy),
        options: Options {
            both: directory.settings.proof == crate::directory::Proof::Both,
            ..Options::default()
        },
    };
    Ok((device, Agent::open(Arc::clone(flash), setup).await?))
}

/// A clock that was wrong when the terminal was switched on, and runs.
struct Running {
    shows: u64,
    since: Instant,
}

impl Clock for Running {
    fn now(&self) -> u64 {
        self.shows.saturating_add(self.since.elapsed().as_secs())
    }
}
