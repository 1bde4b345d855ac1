//! A server that runs: its listeners, and its end.

use crate::config::Listen;
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tms_core::estate::{Estate, EstateError, Retention};
use tms_core::server::Server;
use tms_core::transport::Listener;
use tms_core::transport::proxied::Proxied;
use tms_core::transport::tcp::TcpAccess;
use tokio::task::JoinSet;

/// A server and its listeners.
pub struct Running {
    server: Server,
    listeners: JoinSet<io::Result<()>>,
    addresses: Vec<(SocketAddr, Listen)>,
    /// What is done beside the calls. Ends with this value.
    beside: JoinSet<()>,
}

/// How long it is waited behind the calls where there is nothing to do.
const PAUSE: Duration = Duration::from_secs(2);

/// How many events at a time: check-ins wait for as long as these take to be written.
const PORTION: u32 = 500;

/// Opens the listeners, all of them or none, and begins to serve. Each has at most `connections` open at once.
///
/// # Errors
/// Where an address cannot be listened on.
pub async fn start(server: Server, listen: &[Listen], connections: usize) -> Result<Running> {
    let mut opened = Vec::new();
    for listen in listen {
        let access = TcpAccess::bind(listen.address, connections).await;
        let access = access.with_context(|| format!("cannot listen on {}", listen.address))?;
        opened.push((access.with_profile(listen.envelope.profile()), listen));
    }
    let mut running = Running {
        server,
        listeners: JoinSet::new(),
        addresses: Vec::new(),
        beside: JoinSet::new(),
    };
    for (access, listen) in opened {
        running.addresses.push((access.local_address()?, listen.clone()));
        running.serve(Proxied::new(access, listen.gateways.clone()));
    }
    Ok(running)
}

impl Running {
    /// Takes the calls of one more listener: of a modem pool, say.
    pub fn serve(&mut self, mut listener: impl Listener + 'static) {
        let server = self.server.clone();
        self.listeners.spawn(async move { server.serve(&mut listener).await });
    }

    /// Does what is done behind the calls, all the time, and throws away what is older than `keep` says.
    pub fn behind(&mut self, estate: &Estate, keep: Retention) {
        for job in jobs(estate, keep) {
            self.beside.spawn(job.keep());
        }
    }

    /// Where it listens: with the ports that were taken where the configuration says 0.
    #[must_use]
    pub fn addresses(&self) -> &[(SocketAddr, Listen)] {
        &self.addresses
    }

    /// How many calls run.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.server.sessions()
    }

    /// Waits until a listener fails for good; for ever while all goes well.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.listeners.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return anyhow::Error::new(error).context("a listener failed"),
                Some(Err(error)) => return anyhow::Error::new(error).context("a listener failed"),
                // All have ended because the server was stopped.
                None => std::future::pending().await,
            }
        }
    }

    /// Takes no more calls, and ends those that run at a message boundary; waits for them for at most `patience`. Whether all
    /// have ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.server.stop(patience).await
    }
}

/// Something that is done behind the calls.
struct Job {
    /// What is said where it cannot be done.
    trouble: &'static str,
    /// Does a part of it, and says whether there is more to do at once.
    step: Box<dyn Fn() -> Step + Send + Sync>,
}

type Step = Pin<Box<dyn Future<Output = Result<bool, EstateError>> + Send>>;

/// What is done behind the calls: what happens is entered into the roster, cases are opened by it, drift is judged and put right,
/// secrets are sealed anew where the key has changed, published texts are laid ready, tasks are carried on, and what is older than
/// `keep` says is thrown away.
fn jobs(estate: &Estate, keep: Retention) -> Vec<Job> {
    let runner = estate.runner();
    vec![
        Job::new("roster not brought up to date", estate, |estate| async move {
            Ok(estate.roll_up(PORTION).await?.events == PORTION)
        }),
        Job::new("cases not brought up to date", estate, |estate| async move {
            Ok(estate.advance_cases(PORTION).await?.events == PORTION)
        }),
        Job::new("drift not judged", estate, |estate| async move {
            Ok(estate.judge_drift(PORTION).await?.events == PORTION)
        }),
        Job::new("drift not put right", estate, |estate| async move {
            Ok(estate.restore_drifts(PORTION).await? > 0)
        }),
        Job::new("notices not taken away", estate, |estate| async move {
            Ok(estate.advance_call_notices(PORTION).await?.events == PORTION)
        }),
        Job::new("secret parameters not sealed anew", estate, |estate| async move {
            Ok(estate.advance_parameter_key(PORTION).await? > 0)
        }),
        Job::new("nothing old thrown away", estate, move |estate| async move {
            Ok(estate.retain(&keep, PORTION).await? > 0)
        }),
        Job::new("texts not laid ready", estate, |estate| async move {
            Ok(estate.advance_texts(PORTION).await? > 0)
        }),
        Job::new("tasks not carried on", &runner, |runner| async move {
            Ok(runner.advance().await?)
        }),
    ]
}

/// Does all that there is to do behind the calls now, and no more: for programs that have no time to wait, or a clock of their
/// own.
///
/// # Errors
/// Where the store fails.
pub async fn settle(estate: &Estate) -> Result<(), EstateError> {
    let jobs = jobs(estate, Retention::default());
    // Twice: what one of them does is for others to see.
    for _ in 0..2 {
        for job in &jobs {
            while (job.step)().await? {}
        }
    }
    Ok(())
}

impl Job {
    fn new<T, F>(trouble: &'static str, on: &T, step: impl Fn(T) -> F + Send + Sync + 'static) -> Self
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<bool, EstateError>> + Send + 'static,
    {
        let on = on.clone();
        Self {
            trouble,
            step: Box::new(move || Box::pin(step(on.clone()))),
        }
    }

    /// Does it again and again: at once where there is more to do.
    async fn keep(self) {
        loop {
            match (self.step)().await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => tokio::time::sleep(PAUSE).await,
                // what could not be done now is done later
                Err(error) => {
                    tracing::warn!(%error, "{}", self.trouble);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
