//! A terminal reduced to its session: what it costs is not what is measured.

use anyhow::{Context, Result, bail};
use std::time::Duration;
use tms_core::clock::{Clock, SystemClock};
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::pump::Pump;
use tms_core::transport::{LinkProfile, Transport};
use tms_proto::code::{ResultCode, TriggerKind};
use tms_proto::derive::terminal_psk;
use tms_proto::digest::Digest;
use tms_proto::message::{Plan, PlanAck, StatusReport, Ticket, Trigger};
use tms_proto::secret::Secret;
use tms_proto::session::{End, Opening, TerminalConfig, TerminalEvent, TerminalSession};
use tokio::net::TcpStream;

/// One terminal: it holds its ticket and its call counter.
pub(crate) struct Client {
    id: u64,
    contact: u32,
    plan: Option<u64>,
    ticket: Option<Ticket>,
}

/// An open session, after its check-in was acknowledged.
pub(crate) struct Open<T> {
    pub(crate) pump: Pump<T, TerminalEvent>,
    pub(crate) session: TerminalSession,
}

impl Client {
    pub(crate) const fn new(id: u64) -> Self {
        Self::after(id, 0)
    }

    /// One that has called so often, and holds no ticket.
    pub(crate) const fn after(id: u64, contact: u32) -> Self {
        Self {
            id,
            contact,
            plan: None,
            ticket: None,
        }
    }

    /// One whole check-in; gives the bytes that it took both ways.
    pub(crate) async fn check_in(&mut self, address: &str) -> Result<u64> {
        let mut open = self.open(address).await?;
        open.bye().await?;
        Ok(open.pump.bytes_in() + open.pump.bytes_out())
    }

    /// Calls, authenticates, and acknowledges the plan: with a ticket, or by the main-control key the first time.
    pub(crate) async fn open(&mut self, address: &str) -> Result<Open<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        self.open_over(stream, &LinkProfile::TCP).await
    }

    /// The same over a transport that is there.
    pub(crate) async fn open_over<T: Transport>(&mut self, transport: T, profile: &LinkProfile) -> Result<Open<T>> {
        self.contact += 1;
        let mut pump = Pump::new(transport).with_write_patience(profile.patience(4096).max(Duration::from_secs(30)));
        let mut report = StatusReport::new(Trigger::of(TriggerKind::Schedule), self.contact, SystemClock.now());
        report.plan = self.plan;
        let mut ephemeral = [0; 32];
        OsEntropy.fill(&mut ephemeral);
        let psk;
        let opening = match &self.ticket {
            Some(ticket) => Opening::Ticket {
                id: ticket.id,
                psk: &ticket.key,
                report: &report,
            },
            None => {
                psk = terminal_psk(&Secret::new(crate::server::MAIN_KEY), self.id, crate::server::EPOCH);
                Opening::MainKey {
                    terminal: self.id,
                    epoch: crate::server::EPOCH,
                    psk: &psk,
                    report: &report,
                }
            }
        };
        let config = TerminalConfig {
            envelope: profile.envelope,
            max_record: profile.max_record,
            handshake_timeout: profile.patience(4096),
            ..TerminalConfig::default()
        };
        let mut session = TerminalSession::new(&config, &opening, ephemeral, pump.now())?;
        match pump.next(&mut session).await? {
            Some(TerminalEvent::Plan { plan, .. }) => {
                let Plan { sequence, ticket, .. } = *plan;
                self.plan = Some(sequence);
                self.ticket = ticket;
                session.send(
                    pump.now(),
                    PlanAck {
                        sequence,
                        refused: Vec::new(),
                    },
                )?;
            }
            other => bail!("no plan but {other:?}"),
        }
        Ok(Open { pump, session })
    }
}

impl<T: Transport> Open<T> {
    /// Says goodbye, and waits for the server's.
    pub(crate) async fn bye(&mut self) -> Result<()> {
        self.session.bye(self.pump.now(), ResultCode::Success)?;
        let mut ended = false;
        while let Some(event) = self.pump.next(&mut self.session).await? {
            match event {
                TerminalEvent::Recorded => {}
                TerminalEvent::Ended(End::Bye(_)) => ended = true,
                other => bail!("unexpected {other:?}"),
            }
        }
        if !ended {
            bail!("the session has no end");
        }
        Ok(())
    }

    /// Downloads an object under a sliding credit; gives the number of bytes. Every record is opened, and so known to be the
    /// server's. Whether the object is the one asked for is known where it is digested on the way.
    pub(crate) async fn download(&mut self, digest: Digest, window: u64, digested: bool) -> Result<u64> {
        let mut hasher = digested.then(tms_proto::digest::Hasher::new);
        let mut granted = window;
        self.session.download(self.pump.now(), digest, 0, granted)?;
        loop {
            match self
                .pump
                .next(&mut self.session)
                .await?
                .context("the session has ended")?
            {
                TerminalEvent::Recorded => {}
                TerminalEvent::ObjectStart(start) if start.code.is_none() => {}
                TerminalEvent::ObjectPart { offset, bytes, last } => {
                    if let Some(hasher) = &mut hasher {
                        hasher.update(&bytes);
                    }
                    let got = offset + bytes.len() as u64;
                    if last {
                        if hasher.is_some_and(|hasher| hasher.finish() != digest) {
                            bail!("the object is not the one asked for");
                        }
                        return Ok(got);
                    }
                    if granted < got + window / 2 {
                        granted = got + window;
                        self.session.grant(self.pump.now(), granted)?;
                    }
                }
                other => bail!("unexpected {other:?}"),
            }
        }
    }
}
