//! A gateway that runs: its listeners, its calls, and its end.

use crate::config::{Config, Limits, Listen};
use crate::relay;
use anyhow::{Context, Result, bail};
use metrics::{counter, gauge};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tms_core::transport::tcp::{TcpAccess, TcpDial};
use tms_core::transport::{Incoming, Listener, Slots};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span};

/// A gateway and its listeners.
pub struct Gateway {
    shared: Arc<Shared>,
    listeners: JoinSet<io::Result<()>>,
    addresses: Vec<(SocketAddr, Listen)>,
}

struct Shared {
    /// The head office: each call takes a copy, and leaves the one that was answered.
    upstream: Mutex<TcpDial>,
    limits: Limits,
    /// Calls at once, of all listeners.
    slots: Slots,
    calls: TaskTracker,
    stop: CancellationToken,
}

impl Gateway {
    /// Opens the TCP listeners, all of them or none, and begins to forward calls.
    ///
    /// # Errors
    /// Where the configuration has no head office, or an address cannot be listened on.
    pub async fn start(config: &Config) -> Result<Self> {
        if config.upstream.is_empty() {
            bail!("there is nobody to forward to: name the head office in `upstream`");
        }
        let limits = config.limits.clone();
        let patience = Duration::from_secs(limits.connect_seconds);
        let shared = Arc::new(Shared {
            upstream: Mutex::new(TcpDial::new(config.upstream.iter().cloned()).with_patience(patience)),
            slots: Slots::new(limits.calls),
            limits,
            calls: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let mut opened = Vec::new();
        for listen in &config.listen {
            let access = TcpAccess::bind(listen.address, config.limits.calls).await;
            let access = access.with_context(|| format!("cannot listen on {}", listen.address))?;
            let access = access.with_profile(listen.envelope.profile());
            opened.push((access.local_address()?, listen.clone(), access));
        }
        let mut gateway = Self {
            shared,
            listeners: JoinSet::new(),
            addresses: Vec::new(),
        };
        for (address, listen, access) in opened {
            gateway.addresses.push((address, listen));
            gateway.serve(access);
        }
        Ok(gateway)
    }

    /// Takes the calls of one more listener: of a modem pool, say.
    pub fn serve(&mut self, listener: impl Listener + 'static) {
        let shared = Arc::clone(&self.shared);
        self.listeners.spawn(shared.listen(listener));
    }

    /// Where it listens: with the ports that were taken where the configuration says 0.
    #[must_use]
    pub fn addresses(&self) -> &[(SocketAddr, Listen)] {
        &self.addresses
    }

    /// How many calls run.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.calls.len()
    }

    /// Waits until a listener fails for good; for ever while all goes well.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.listeners.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return anyhow::Error::new(error).context("a listener failed"),
                Some(Err(error)) => return anyhow::Error::new(error).context("a listener failed"),
                // All have ended because the gateway was stopped.
                None => std::future::pending().await,
            }
        }
    }

    /// Takes no more calls, and waits for those that run for at most `patience`; then they are cut off. Whether all ended by
    /// themselves. Terminals lose nothing by it: a download goes on at its byte.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.shared.stop.cancel();
        self.shared.calls.close();
        tokio::time::timeout(patience, self.shared.calls.wait()).await.is_ok()
    }
}

impl Shared {
    async fn listen(self: Arc<Self>, mut listener: impl Listener) -> io::Result<()> {
        loop {
            let slot = self.slots.take().await;
            let incoming = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                incoming = listener.accept() => incoming?,
            };
            let Incoming {
                transport,
                peer,
                profile,
            } = incoming;
            let span = info_span!("call", %peer);
            let incoming = Incoming {
                transport: Box::new(slot.hold(transport)),
                peer,
                profile,
            };
            let shared = Arc::clone(&self);
            let call = async move {
                counter!("tms_gateway_accepted_total").increment(1);
                gauge!("tms_gateway_calls").increment(1);
                info!("call begins");
                relay::call(incoming, &shared.upstream, &shared.limits).await;
                gauge!("tms_gateway_calls").decrement(1);
            };
            self.calls.spawn(call.instrument(span));
        }
    }
}
