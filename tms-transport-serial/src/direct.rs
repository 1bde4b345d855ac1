//! A cable without modems: a bench on which terminals are initialised.
//!
//! The terminal's end is [`CableDial`]; the server's is a line of kind [`Cable`](crate::pool::Kind::Cable) in a
//! [pool](crate::pool). Both have the link on them. A null-modem cable joins the DTR of one end to the DCD of the other, and
//! then the end of a call is seen at once; without these wires the link notices it by the silence.

use crate::at::Timing;
use crate::link::LinkOptions;
use crate::port::{ModemPort, Open, Settings, supported};
use async_trait::async_trait;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tms_core::transport::{Dial, Outgoing, PeerInfo};
use tms_proto::link::Role;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// The port of a call before may still be closing.
const CLOSING: Duration = Duration::from_millis(50);
const CLOSINGS: u32 = 40;

/// Calls a server at the other end of a cable.
pub struct CableDial {
    open: Box<dyn Open>,
    settings: Settings,
    timing: Timing,
    link: LinkOptions,
}

impl CableDial {
    /// Calls over this port, as it is set.
    #[must_use]
    pub fn new(open: Box<dyn Open>, settings: Settings, timing: Timing, link: LinkOptions) -> Self {
        Self {
            open,
            settings,
            timing,
            link,
        }
    }
}

#[async_trait]
impl Dial for CableDial {
    /// Fails with [`TimedOut`](ErrorKind::TimedOut) where nobody is at the other end.
    async fn dial(&mut self) -> io::Result<Outgoing> {
        let mut tries = 0;
        let mut port = loop {
            match self.open.open() {
                Err(error) if error.kind() == ErrorKind::ResourceBusy && tries < CLOSINGS => {
                    tries += 1;
                    sleep(CLOSING).await;
                }
                port => break port?,
            }
        };
        supported(port.set_dtr(true))?;
        let cable = Cable::new(port, self.timing.poll, None);
        let rate = Some(self.settings.rate);
        let (linked, profile) = self.link.link(cable, Role::Caller, self.settings.flow, rate, None);
        linked.up().await?;
        Ok(Outgoing {
            transport: Box::new(linked),
            peer: PeerInfo::on_line("cable"),
            profile,
        })
    }
}

/// A port that is at its end when the other end of the cable is no longer there.
pub(crate) struct Cable {
    port: Box<dyn ModemPort>,
    poll: Duration,
    tick: Pin<Box<Sleep>>,
    /// Somebody was seen at the other end.
    seen: bool,
    over: bool,
    /// Ready when the line is cut.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Dropped after the port.
    _guard: Option<DropGuard>,
}

impl Cable {
    pub(crate) fn new(
        mut port: Box<dyn ModemPort>,
        poll: Duration,
        pool: Option<(CancellationToken, DropGuard)>,
    ) -> Self {
        let (cut, guard) = pool.unzip();
        let seen = port.signals().is_ok_and(|signals| signals.carrier);
        Self {
            port,
            poll,
            tick: Box::pin(sleep(poll)),
            seen,
            over: false,
            cut: cut.map(|cut| Box::pin(cut.cancelled_owned())),
            _guard: guard,
        }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.over = self.over || self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready());
        while !self.over && self.tick.as_mut().poll(cx).is_ready() {
            self.tick.as_mut().reset(tokio::time::Instant::now() + self.poll);
            match supported(self.port.signals()) {
                Ok(Some(signals)) => {
                    self.over = self.seen && !signals.carrier;
                    self.seen |= signals.carrier;
                }
                Ok(None) => {}
                Err(_) => self.over = true,
            }
        }
        self.over
    }
}

impl AsyncRead for Cable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.port).poll_read(cx, buf);
        if read.is_pending() {
            return if self.poll_over(cx) {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        // Whoever says something is there, and may go before the next look.
        self.seen = self.seen || self.port.signals().is_ok_and(|signals| signals.carrier);
        read
    }
}

impl AsyncWrite for Cable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.poll_over(cx) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.port).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
