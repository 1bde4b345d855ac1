//! The server: it answers calls, and holds no truth in memory. Any number of servers may share one store.
//!
//! A call goes through [`Server::session`]; [`Server::serve`] accepts calls from a [`Listener`] and runs each. What a
//! terminal gets is decided by [`plan`], a function of records.

mod call;
pub mod contact;
mod node;
mod online;
pub mod plan;
mod record;
mod register;
pub mod representation;
mod seal;
mod withdrawn;

pub use node::{Node, NodeError};
pub use plan::ContactPolicy;
pub use seal::TicketKey;

use crate::admission::{Admission, AdmissionLimits};
use crate::blob::BlobStore;
use crate::clock::Clock;
use crate::custody::{MainKeys, SecretKeeper};
use crate::entropy::Entropy;
use crate::store::Store;
use crate::transport::{Incoming, Listener};
use contact::Contacts;
use online::Online;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tms_proto::certificate::Anchors;
use tms_proto::handshake::Suite;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use withdrawn::WithdrawnPackages;

/// What a server stands on.
#[derive(Clone)]
pub struct Services {
    /// Records.
    pub store: Arc<dyn Store>,
    /// Packages' content.
    pub blobs: Arc<dyn BlobStore>,
    /// The terminals' main-control keys.
    pub main_keys: Arc<dyn MainKeys>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What opens secret parameters; without it, sets with secrets in them do not come.
    pub secrets: Option<Arc<dyn SecretKeeper>>,
}

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sessions and handshakes at once, and handshakes per address.
    pub admission: AdmissionLimits,
    /// Suites that are spoken.
    pub suites: Vec<Suite>,
    /// The longest handshake.
    pub handshake_timeout: Duration,
    /// The longest silence of a terminal.
    pub idle_timeout: Duration,
    /// The longest call.
    pub call_budget: Duration,
    /// How long a ticket may be used, in seconds.
    pub ticket_lifetime: u32,
    /// When terminals are told to call again, where the estate has no [policy](contact::ClassPolicy) for them.
    pub contact: ContactPolicy,
    /// Seconds after which a terminal that could not be served may try again.
    pub retry_after: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            admission: AdmissionLimits::default(),
            suites: vec![Suite::ChaChaPoly, Suite::AesGcm],
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            call_budget: Duration::from_secs(2 * 3600),
            ticket_lifetime: 60 * 86_400,
            contact: ContactPolicy::default(),
            retry_after: 60,
        }
    }
}

/// A server; cheap to clone.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    services: Services,
    node: Node,
    anchors: Anchors,
    tickets: TicketKey,
    options: Options,
    admission: Admission,
    online: Online,
    contacts: Contacts,
    withdrawn: WithdrawnPackages,
    stop: CancellationToken,
    sessions: TaskTracker,
    count: AtomicU64,
    /// The epoch of the time that all calls share.
    start: tokio::time::Instant,
}

impl Server {
    /// A server. `anchors` are the roots that terminals' certificates must be under.
    #[must_use]
    pub fn new(services: Services, node: Node, anchors: Anchors, tickets: TicketKey, options: Options) -> Self {
        let admission = Admission::new(options.admission.clone());
        let contacts = Contacts::new(options.contact, options.call_budget);
        let inner = Inner {
            services,
            node,
            anchors,
            tickets,
            options,
            admission,
            online: Online::default(),
            contacts,
            withdrawn: WithdrawnPackages::default(),
            stop: CancellationToken::new(),
            sessions: TaskTracker::new(),
            count: AtomicU64::new(0),
            start: tokio::time::Instant::now(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Accepts calls and runs each in a task of its own, until [`stop`](Self::stop).
    ///
    /// # Errors
    /// Where the listener fails for good.
    pub async fn serve(&self, listener: &mut dyn Listener) -> io::Result<()> {
        while let Some(incoming) = self
            .inner
            .stop
            .run_until_cancelled(listener.accept())
            .await
            .transpose()?
        {
            let server = self.clone();
            // Boxed, so that a task costs what its session needs and not what the largest step of it would.
            self.inner
                .sessions
                .spawn(Box::pin(async move { server.session(incoming).await }));
        }
        Ok(())
    }

    /// Runs one call to its end. Never fails: what went wrong is in the log and in the store.
    pub async fn session(&self, incoming: Incoming) {
        let number = self.inner.count.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!("call", number, peer = %incoming.peer, terminal = tracing::field::Empty);
        call::run(&self.inner, incoming, number).instrument(span).await;
    }

    /// How many sessions run.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.inner.sessions.len()
    }

    /// Takes no more calls, ends the running ones at a message boundary, and waits for them, but no longer than
    /// `patience`. What terminals were not told is recorded, they report again. Returns whether all ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.inner.stop.cancel();
        self.inner.sessions.close();
        tokio::time::timeout(patience, self.inner.sessions.wait()).await.is_ok()
    }
}
