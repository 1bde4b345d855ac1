//! A call: the raw bytes between two modems.

use super::Time;
use crate::at::{Connect, Engine, Event};
use crate::port::{ModemPort, supported};
use bytes::{Buf, Bytes};
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tms_core::transport::{Caller, PhoneNumber};
use tms_proto::machine::{Input, Machine, Output};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a line lends to a call.
pub(super) struct Lent {
    pub(super) port: Box<dyn ModemPort>,
    pub(super) engine: Engine,
    pub(super) time: Time,
}

/// A call that is up: the raw line, as noisy as it is.
///
/// Reads come to their end when the carrier falls, when the modem says so, or when the line is cut; writes fail then.
/// Dropping it hangs up.
pub struct Call {
    /// There until the call is over.
    lent: Option<Lent>,
    home: Option<oneshot::Sender<Lent>>,
    /// Ready when the line is cut.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Bytes that came with the connection.
    rest: Bytes,
    connect: Connect,
    caller: Option<Caller>,
    called: Option<PhoneNumber>,
    poll: Duration,
    tick: Pin<Box<Sleep>>,
    over: bool,
}

impl Call {
    /// A call on what is lent; `home` gets it back.
    pub(super) fn new(
        lent: Lent,
        connect: Connect,
        rest: Bytes,
        poll: Duration,
        cut: CancellationToken,
    ) -> (Self, oneshot::Receiver<Lent>) {
        let (home, comes_home) = oneshot::channel();
        let call = Self {
            caller: lent.engine.caller(),
            called: lent.engine.called().cloned(),
            lent: Some(lent),
            home: Some(home),
            cut: Box::pin(cut.cancelled_owned()),
            rest,
            connect,
            poll,
            tick: Box::pin(sleep(poll)),
            over: false,
        };
        (call, comes_home)
    }

    /// What the modem said of the connection.
    #[must_use]
    pub const fn connect(&self) -> Connect {
        self.connect
    }

    /// Who calls, where the modem told; `None` for a call that was made.
    #[must_use]
    pub const fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The number that was called, where the modem told.
    #[must_use]
    pub const fn called(&self) -> Option<&PhoneNumber> {
        self.called.as_ref()
    }

    /// Gives back what was lent.
    fn go_home(&mut self) {
        if let (Some(lent), Some(home)) = (self.lent.take(), self.home.take())
            && let Err(mut lent) = home.send(lent)
        {
            // Nobody is at home: the port closes, and a modem that knows DTR hangs up.
            let _ = lent.port.set_dtr(false);
        }
    }

    /// Looks whether the call is over; ready when it is. Then the line may hang up, whoever still has this.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_over(cx));
        self.go_home();
        Poll::Ready(())
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.over = self.over || self.cut.as_mut().poll(cx).is_ready();
        let Some(lent) = &mut self.lent else {
            return Poll::Ready(());
        };
        while !self.over {
            match lent.engine.poll() {
                Output::Event(Event::Ended) | Output::Close => self.over = true,
                Output::Transmit(_) | Output::Event(_) => {}
                Output::Wait(until) => {
                    let next = tokio::time::Instant::now() + self.poll;
                    let until = until
                        .and_then(|until| lent.time.at(until))
                        .map_or(next, |at| at.min(next));
                    if self.tick.deadline() > until {
                        self.tick.as_mut().reset(until);
                    }
                    ready!(self.tick.as_mut().poll(cx));
                    let now = lent.time.now();
                    match supported(lent.port.signals()) {
                        Ok(Some(signals)) => lent.engine.carrier(now, signals.carrier),
                        Ok(None) => {}
                        Err(_) => self.over = true,
                    }
                    lent.engine.handle(now, Input::Timeout);
                    self.tick.as_mut().reset(next);
                }
            }
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("connect", &self.connect)
            .field("caller", &self.caller)
            .field("called", &self.called)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.go_home();
    }
}

impl AsyncRead for Call {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            let length = this.rest.len().min(buf.remaining());
            buf.put_slice(this.rest.get(..length).unwrap_or_default());
            this.rest.advance(length);
            return Poll::Ready(Ok(()));
        }
        if let Some(lent) = this.lent.as_mut().filter(|_| !this.over) {
            let before = buf.filled().len();
            match Pin::new(&mut lent.port).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {
                    let new = buf.filled().get(before..).unwrap_or_default();
                    if new.is_empty() {
                        this.over = true;
                    } else {
                        lent.engine.handle(lent.time.now(), Input::Received(new));
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => {
                    this.over = true;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {}
            }
        }
        this.poll_end(cx).map(Ok)
    }
}

impl AsyncWrite for Call {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.poll_end(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        match &mut this.lent {
            Some(lent) => Pin::new(&mut lent.port).poll_write(cx, buf),
            None => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lent {
            Some(lent) => Pin::new(&mut lent.port).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// A raw line has no end but that of the call: what was written is on its way, and that is all.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
