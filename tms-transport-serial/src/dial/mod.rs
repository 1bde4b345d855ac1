//! Calls a server by telephone, and by whatever else there is.
//!
//! A [`Dialler`] is a [`Dial`] over a list of routes: numbers for a modem, and other ways such as TCP. One call of
//! [`dial`](Dial::dial) tries each once, in the order of the list, until one leads to a server; a number that must not be
//! called yet is passed over. When to try again is the agent's to say, as everywhere; the dialler's [`Policy`] only sees to it
//! that no number is called more often than it may be. What it has to remember for that is in the terminal's memory, and
//! survives the loss of power.

mod policy;

pub use policy::{Book, Outcome, Policy};

use crate::at::{DialString, Failure, TextError};
use crate::link::LinkOptions;
use crate::modem::{DialError, ModemLine};
use crate::port::Settings;
use async_trait::async_trait;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tms_core::agent::flash::{Flash, read_all};
use tms_core::clock::Clock;
use tms_core::entropy::Entropy;
use tms_core::transport::{Dial, Outgoing, PeerInfo};
use tms_proto::link::Role;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

/// The file in the terminal's memory.
const FILE: &str = "dialler.json";

/// The longest that it may be: numbers are short, and few.
const LONGEST: usize = 64 * 1024;

/// A way to the server.
pub enum Route {
    /// A number for the modem.
    Telephone(DialString),
    /// Another way.
    Other(Box<dyn Dial>),
}

/// What a dialler uses.
pub struct Setup {
    /// The telephone line.
    pub line: ModemLine,
    /// How its port is set.
    pub settings: Settings,
    /// What its link is told.
    pub link: LinkOptions,
    /// What must be dialled before every number to get a line out, with its pauses.
    pub prefix: Option<DialString>,
    /// How often numbers are called.
    pub policy: Policy,
    /// Where calls are remembered.
    pub memory: Arc<dyn Flash>,
    /// Tells the time by which numbers wait.
    pub clock: Arc<dyn Clock>,
    /// Chance, so that terminals that failed together do not call together again.
    pub entropy: Arc<dyn Entropy>,
}

/// Calls a server by the routes that it is told; see the [module](self).
pub struct Dialler {
    telephone: Telephone,
    routes: Vec<Route>,
}

struct Telephone {
    setup: Setup,
    /// Every number as it is dialled.
    numbers: Vec<DialString>,
}

/// Why the server was not reached by telephone.
#[derive(Debug, Error)]
enum Unreached {
    #[error("{number}: {why}")]
    Number { number: DialString, why: Why },
    #[error("no number may be called for another {0} s")]
    NotYet(u64),
    #[error("there is no way to the server")]
    NoRoute,
}

#[derive(Debug)]
enum Why {
    Failed(DialError),
    Silent(io::Error),
    Budget,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Silent(error) => error.fmt(f),
            Self::Budget => f.write_str("not reached in time"),
        }
    }
}

impl Why {
    const fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(DialError::Failed(failure)) => Outcome::Failed(*failure),
            Self::Failed(DialError::InUse | DialError::Fault(_)) => Outcome::Fault,
            Self::Silent(_) => Outcome::Silent,
            Self::Budget => Outcome::Failed(Failure::TimedOut),
        }
    }

    fn kind(&self) -> ErrorKind {
        match self.outcome() {
            Outcome::Failed(Failure::Busy | Failure::Delayed(_) | Failure::Blacklisted | Failure::Collision) => {
                ErrorKind::ResourceBusy
            }
            Outcome::Failed(Failure::NoAnswer | Failure::TimedOut) | Outcome::Silent => ErrorKind::TimedOut,
            Outcome::Failed(Failure::NoCarrier | Failure::Refused) => ErrorKind::ConnectionRefused,
            Outcome::Failed(Failure::NoDialTone) | Outcome::Fault | Outcome::Reached => ErrorKind::NotConnected,
        }
    }
}

impl Dialler {
    /// Calls by these routes, in this order.
    ///
    /// # Errors
    /// Where a number is too long behind its prefix.
    pub fn new(setup: Setup, routes: Vec<Route>) -> Result<Self, TextError> {
        let prefix = setup.prefix.as_ref();
        let numbers = routes.iter().filter_map(|route| match route {
            Route::Telephone(number) => Some(number.behind(prefix)),
            Route::Other(_) => None,
        });
        let numbers = numbers.collect::<Result<_, _>>()?;
        Ok(Self {
            telephone: Telephone { setup, numbers },
            routes,
        })
    }

    /// The telephone line.
    #[must_use]
    pub const fn line(&self) -> &ModemLine {
        &self.telephone.setup.line
    }
}

impl Telephone {
    async fn load(&self) -> io::Result<Book> {
        let kept = read_all(&*self.setup.memory, FILE, LONGEST).await;
        match kept.map_err(io::Error::other)? {
            Some(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(%error, "what was remembered of calls is damaged");
                Book::default()
            })),
            None => Ok(Book::default()),
        }
    }

    async fn keep(&self, book: &Book) -> io::Result<()> {
        let bytes = serde_json::to_vec(book).map_err(io::Error::other)?;
        self.setup.memory.replace(FILE, &bytes).await.map_err(io::Error::other)
    }

    fn chance(&self) -> u64 {
        let mut bytes = [0; 8];
        self.setup.entropy.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// Calls one number, keeping the book.
    async fn call(
        &self,
        book: &mut Book,
        number: &DialString,
        plain: &DialString,
        patience: Duration,
    ) -> io::Result<Result<Outgoing, Why>> {
        let policy = &self.setup.policy;
        *book = policy.begin(book.clone(), number, self.setup.clock.now(), self.chance());
        self.keep(book).await?;
        let called = timeout(patience, self.connect(number, plain)).await;
        let called = called.unwrap_or(Err(Why::Budget));
        let outcome = called.as_ref().map_or_else(Why::outcome, |_| Outcome::Reached);
        debug!(%number, ?outcome, "called");
        let (clock, chance) = (self.setup.clock.now(), self.chance());
        *book = policy.end(book.clone(), &self.numbers, number, outcome, clock, chance);
        self.keep(book).await?;
        Ok(called)
    }

    async fn connect(&self, number: &DialString, plain: &DialString) -> Result<Outgoing, Why> {
        let call = self.setup.line.dial(number.clone()).await.map_err(Why::Failed)?;
        let connect = call.connect();
        let Settings { rate, flow } = self.setup.settings;
        let rate = connect.line_rate(rate);
        let (linked, profile) = self
            .setup
            .link
            .link(call, Role::Caller, flow, rate, connect.error_corrected);
        linked.up().await.map_err(Why::Silent)?;
        let peer = PeerInfo {
            called: plain.as_str().parse().ok(),
            ..PeerInfo::on_line("telephone")
        };
        Ok(Outgoing {
            transport: Box::new(linked),
            peer,
            profile,
        })
    }
}

#[async_trait]
impl Dial for Dialler {
    /// Fails with what came of the last route that was tried. Where none may be tried yet, that is
    /// [`ResourceBusy`](ErrorKind::ResourceBusy), at once.
    async fn dial(&mut self) -> io::Result<Outgoing> {
        let telephone = &self.telephone;
        let mut book = telephone.load().await?;
        let until = Instant::now() + Duration::from_secs(telephone.setup.policy.budget);
        let mut failure = None;
        let mut soonest = None;
        let mut local = false;
        let mut numbers = telephone.numbers.clone().into_iter();
        for index in 0..self.routes.len() {
            let left = until.saturating_duration_since(Instant::now());
            let plain = match self.routes.get_mut(index) {
                Some(Route::Other(dial)) => {
                    match timeout(left, dial.dial()).await {
                        Ok(Ok(outgoing)) => return Ok(outgoing),
                        Ok(Err(error)) => failure = Some(error),
                        Err(_) => failure = Some(ErrorKind::TimedOut.into()),
                    }
                    continue;
                }
                Some(Route::Telephone(plain)) => plain.clone(),
                None => break,
            };
            let Some(number) = numbers.next() else { break };
            if local || left.is_zero() {
                continue;
            }
            match telephone.setup.policy.wait(&book, &number, telephone.setup.clock.now()) {
                Some(0) => {}
                Some(wait) => {
                    soonest = Some(soonest.map_or(wait, |soonest: u64| soonest.min(wait)));
                    continue;
                }
                None => continue,
            }
            match telephone.call(&mut book, &number, &plain, left).await? {
                Ok(outgoing) => return Ok(outgoing),
                Err(why) => {
                    local = why.outcome().is_local();
                    failure = Some(io::Error::new(why.kind(), Unreached::Number { number, why }));
                }
            }
        }
        Err(failure.unwrap_or_else(|| match soonest {
            Some(wait) => io::Error::new(ErrorKind::ResourceBusy, Unreached::NotYet(wait)),
            None => io::Error::new(ErrorKind::InvalidInput, Unreached::NoRoute),
        }))
    }
}
