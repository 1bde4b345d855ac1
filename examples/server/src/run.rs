//! A server that runs: its listeners, and its end.

use crate::config::Listen;
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddr;
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

    /// Does what is done behind the calls, all the time: enters what happens into the roster, opens cases by it, judges drift
    /// and puts it right, seals secrets anew where the key has changed, lays published texts ready, carries tasks on, and throws away
    /// what is older than `keep` says.
    pub fn behind(&mut self, estate: Estate, keep: Retention) {
        let runner = estate.runner();
        let roster = estate.clone();
        self.keep("roster not brought up to date", move || {
            let estate = roster.clone();
            async move { Ok(estate.roll_up(PORTION).await?.events == PORTION) }
        });
        let cases = estate.clone();
        self.keep("cases not brought up to date", move || {
            let estate = cases.clone();
            async move { Ok(estate.advance_cases(PORTION).await?.events == PORTION) }
        });
        let drift = estate.clone();
        self.keep("drift not judged", move || {
            let estate = drift.clone();
            async move { Ok(estate.judge_drift(PORTION).await?.events == PORTION) }
        });
        let restore = estate.clone();
        self.keep("drift not put right", move || {
            let estate = restore.clone();
            async move { Ok(estate.restore_drifts(PORTION).await? > 0) }
        });
        let notices = estate.clone();
        self.keep("notices not taken away", move || {
            let estate = notices.clone();
            async move { Ok(estate.advance_call_notices(PORTION).await?.events == PORTION) }
        });
        let old = estate.clone();
        self.keep("nothing old thrown away", move || {
            let estate = old.clone();
            async move { Ok(estate.retain(&keep, PORTION).await? > 0) }
        });
        let secrets = estate.clone();
        self.keep("secret parameters not sealed anew", move || {
            let estate = secrets.clone();
            async move { Ok(estate.advance_parameter_key(PORTION).await? > 0) }
        });
        self.keep("texts not laid ready", move || {
            let estate = estate.clone();
            async move { Ok(estate.advance_texts(PORTION).await? > 0) }
        });
        self.keep("tasks not carried on", move || {
            let runner = runner.clone();
            async move { Ok(runner.advance().await?) }
        });
    }

    /// Does a step again and again: at once where it says that there is more to do.
    fn keep<F>(&mut self, trouble: &'static str, step: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<bool, EstateError>> + Send,
    {
        self.beside.spawn(async move {
            loop {
                match step().await {
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => tokio::time::sleep(PAUSE).await,
                    // what could not be done now is done later
                    Err(error) => {
                        tracing::warn!(%error, "{trouble}");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
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
