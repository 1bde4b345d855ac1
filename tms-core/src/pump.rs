//! Runs a machine over a transport.

use crate::transport::Transport;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tms_proto::machine::{Input, Instant, Machine, Output};
use tokio::io::ReadBuf;
use tokio::time::{Sleep, sleep_until};

/// Bytes that are collected for one write: no more is polled from a machine before they are written.
const BATCH: usize = 64 * 1024;

/// Bytes that are taken from the peer while it does not take ours. As long as one of two ends sends less than this and what
/// the system keeps, without waiting for an answer, they cannot both wait for the other to read.
const AHEAD: usize = 64 * 1024;

/// Bytes that one read takes at most.
const SCRATCH: usize = 64 * 1024;

/// Pieces that one write takes at most.
const SLICES: usize = 16;

/// Nobody waits longer than this for a peer to read.
const LONGEST_PATIENCE: Duration = Duration::from_secs(86_400);

/// How long the end of a call may wait for the peer's.
const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    /// Where a thread reads to. A session that waits has no buffer: with ten thousand of them that is what counts.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs one machine over one transport.
///
/// ```
/// # use tms_core::pump::Pump;
/// # use tms_core::transport::Transport;
/// # use tms_proto::machine::Machine;
/// # async fn run<M: Machine>(transport: impl Transport, mut session: M, answer: impl Fn(&mut M, M::Event)) -> std::io::Result<()> {
/// let mut pump = Pump::new(transport);
/// while let Some(event) = pump.next(&mut session).await? {
///     answer(&mut session, event);
/// }
/// # Ok(())
/// # }
/// ```
///
/// - **Order.** An event is given only when all that the machine sent before it is written: a machine whose caller feeds it
///   with content never runs ahead of the line, and what is held is bounded.
/// - **Time.** Instants are milliseconds since the pump's epoch, by tokio's clock.
/// - **End.** When the peer's bytes end, or the line fails either way, the machine is told [`Input::Closed`], and still gives
///   its last events. [`fault`](Self::fault) says what happened to the line.
/// - **Cancel.** The future of [`next`](Self::next) may be dropped at any time: nothing is lost, and the next call goes on.
pub struct Pump<T, E> {
    transport: T,
    epoch: tokio::time::Instant,
    write_patience: Duration,
    /// What is polled and not yet written.
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// Something was written since the transport was flushed.
    unflushed: bool,
    /// When the bytes in `out` are to be gone.
    write_deadline: Option<tokio::time::Instant>,
    /// Given when `out` is empty. In a box: most of the time there is none.
    event: Option<Box<E>>,
    /// What was read while the peer did not.
    ahead: Vec<u8>,
    /// Nothing more comes from the peer.
    heard: Heard,
    /// Nothing more can be written.
    mute: bool,
    stage: Stage,
    timer: Option<Pin<Box<Sleep>>>,
    fault: Option<io::Error>,
    bytes_in: u64,
    bytes_out: u64,
}

/// How much of the peer's end is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It may send more.
    More,
    /// It has ended, and the machine does not know yet.
    End,
    /// The machine was told.
    Told,
}

#[derive(Clone, Copy)]
enum Stage {
    /// The machine runs.
    Running,
    /// It has ended: the last bytes go out.
    Ending,
    /// They are out, and the peer's end is awaited.
    Lingering(tokio::time::Instant),
    /// All is over.
    Ended,
}

/// What polling a machine came to.
enum Gathered {
    /// There is something to be done first.
    Work,
    /// It waits.
    Wait(Option<Instant>),
}

impl<T: Transport, E> Pump<T, E> {
    /// A pump whose time begins now. Needs a tokio runtime with time.
    #[must_use]
    pub fn new(transport: T) -> Self {
        Self::since(transport, tokio::time::Instant::now())
    }

    /// A pump whose time began at `epoch`: pumps with one epoch have one time.
    #[must_use]
    pub fn since(transport: T, epoch: tokio::time::Instant) -> Self {
        Self {
            transport,
            epoch,
            write_patience: Duration::from_secs(30),
            out: VecDeque::new(),
            out_bytes: 0,
            unflushed: false,
            write_deadline: None,
            event: None,
            ahead: Vec::new(),
            heard: Heard::More,
            mute: false,
            stage: Stage::Running,
            timer: None,
            fault: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// How long the peer may take to accept what is sent at once, some 64 KiB at most, before the line is taken for dead.
    /// The default is 30 s; on a slow line it is [`LinkProfile::patience`](crate::transport::LinkProfile::patience).
    #[must_use]
    pub fn with_write_patience(self, write_patience: Duration) -> Self {
        Self {
            write_patience: write_patience.min(LONGEST_PATIENCE),
            ..self
        }
    }

    /// The time, for calls of the machine's own.
    #[must_use]
    pub fn now(&self) -> Instant {
        let since = tokio::time::Instant::now().saturating_duration_since(self.epoch);
        Instant::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// What went wrong with the line, if anything did.
    #[must_use]
    pub const fn fault(&self) -> Option<&io::Error> {
        self.fault.as_ref()
    }

    /// The machine's next event, or `None` when it has ended: then all that it sent is written, and the transport is shut
    /// down. It is to be the same machine each time.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), once, where the peer did not accept what was sent. The machine can be run on: it
    /// is told that the line is closed, and gives its last events. Everything else that goes wrong with the line is told to
    /// the machine alone.
    pub async fn next<M: Machine<Event = E>>(&mut self, machine: &mut M) -> io::Result<Option<E>> {
        loop {
            let gathered = self.gather(machine);
            if !self.out.is_empty() || self.unflushed {
                poll_fn(|cx| self.poll_write(cx)).await?;
            }
            if let Some(event) = self.event.take() {
                return Ok(Some(*event));
            }
            match (self.stage, gathered) {
                (Stage::Running, Gathered::Work) => {}
                (Stage::Running, Gathered::Wait(until)) => poll_fn(|cx| self.poll_input(cx, machine, until)).await,
                (Stage::Ending, _) => poll_fn(|cx| self.poll_shutdown(cx)).await?,
                (Stage::Lingering(until), _) => poll_fn(|cx| self.poll_end(cx, until)).await,
                (Stage::Ended, _) => return Ok(None),
            }
        }
    }

    /// Polls the machine until it waits, ends, has an event, or has sent enough for one write.
    fn gather<M: Machine<Event = E>>(&mut self, machine: &mut M) -> Gathered {
        while matches!(self.stage, Stage::Running) && self.event.is_none() && self.out_bytes < BATCH {
            match machine.poll() {
                Output::Transmit(bytes) => {
                    // To a line that is closed nothing can be sent.
                    if !self.mute && self.heard != Heard::Told && !bytes.is_empty() {
                        self.out_bytes += bytes.len();
                        self.out.push_back(bytes);
                    }
                }
                Output::Event(event) => self.event = Some(Box::new(event)),
                Output::Close => self.stage = Stage::Ending,
                // One that was told that nothing comes, and then waits for it, has ended.
                Output::Wait(None) if self.heard == Heard::Told => self.stage = Stage::Ending,
                Output::Wait(until) => return Gathered::Wait(until),
            }
        }
        Gathered::Work
    }

    /// Writes all that was gathered. A line that fails is remembered; only one that stands still is an error.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let failure = loop {
            match self.poll_write_some(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    self.write_deadline = None;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(failure)) => break failure,
                Poll::Pending => {
                    self.read_ahead(cx);
                    ready!(self.poll_patience(cx));
                    self.silence(ErrorKind::TimedOut.into());
                    let failure = io::Error::new(ErrorKind::TimedOut, "the peer does not accept what is sent");
                    return Poll::Ready(Err(failure));
                }
            }
        };
        self.silence(failure);
        Poll::Ready(Ok(()))
    }

    /// Writes or flushes once, and says whether there is more to do.
    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.out.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Ready(Ok(false));
        }
        if self.out.len() > 1 && !self.transport.is_write_vectored() {
            let mut joined = BytesMut::with_capacity(self.out_bytes);
            self.out.drain(..).for_each(|bytes| joined.extend_from_slice(&bytes));
            self.out.push_back(joined.freeze());
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices
            .iter_mut()
            .zip(&self.out)
            .for_each(|(slice, bytes)| *slice = IoSlice::new(bytes));
        let slices = slices.get(..self.out.len().min(SLICES)).unwrap_or_default();
        let mut written = ready!(Pin::new(&mut self.transport).poll_write_vectored(cx, slices))?;
        if written == 0 {
            return Poll::Ready(Err(ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.bytes_out = self
            .bytes_out
            .saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        self.out_bytes = self.out_bytes.saturating_sub(written);
        while let Some(first) = self.out.front_mut() {
            let part = written.min(first.len());
            first.advance(part);
            written -= part;
            if !first.is_empty() {
                break;
            }
            self.out.pop_front();
        }
        if self.out.is_empty() {
            // An idle session keeps no queue.
            self.out = VecDeque::new();
        }
        Poll::Ready(Ok(true))
    }

    /// Takes in what the peer sends while it does not read: it may be waiting for us to do so.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while self.heard == Heard::More && self.ahead.len() < AHEAD {
            let mut ahead = mem::take(&mut self.ahead);
            let room = AHEAD - ahead.len();
            let read = self.poll_read(cx, room, |_, bytes| ahead.extend_from_slice(bytes));
            self.ahead = ahead;
            if read.is_pending() {
                return;
            }
        }
    }

    /// Gives the machine what comes next: bytes, their end, or the time that it waits for.
    fn poll_input<M: Machine>(&mut self, cx: &mut Context<'_>, machine: &mut M, until: Option<Instant>) -> Poll<()> {
        let now = self.now();
        if !self.ahead.is_empty() {
            let ahead = mem::take(&mut self.ahead);
            machine.handle(now, Input::Received(&ahead));
            return Poll::Ready(());
        }
        if self.heard == Heard::More {
            if self
                .poll_read(cx, SCRATCH, |now, bytes| machine.handle(now, Input::Received(bytes)))
                .is_ready()
            {
                return Poll::Ready(());
            }
            if self.mute {
                // What came before the line failed has been read.
                self.heard = Heard::End;
            }
        }
        if self.heard == Heard::End {
            self.heard = Heard::Told;
            machine.handle(now, Input::Closed);
            return Poll::Ready(());
        }
        let until = until.map(|until| Duration::from_millis(until.as_millis()));
        if let Some(until) = until.and_then(|until| self.epoch.checked_add(until)) {
            ready!(self.poll_timer(cx, until));
            machine.handle(self.now(), Input::Timeout);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Reads once, at most `room` bytes. Ready with the peer's end as well, which is then remembered.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize, mut take: impl FnMut(Instant, &[u8])) -> Poll<()> {
        let mut buffer = BUFFER.take();
        if buffer.is_empty() {
            buffer = vec![0; SCRATCH];
        }
        let room = room.min(buffer.len());
        let mut read = ReadBuf::new(buffer.get_mut(..room).unwrap_or_default());
        let outcome = Pin::new(&mut self.transport).poll_read(cx, &mut read);
        match &outcome {
            Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                let bytes = u64::try_from(read.filled().len()).unwrap_or(u64::MAX);
                self.bytes_in = self.bytes_in.saturating_add(bytes);
                take(self.now(), read.filled());
            }
            Poll::Ready(_) => self.heard = Heard::End,
            Poll::Pending => {}
        }
        BUFFER.set(buffer);
        outcome.map(|outcome| {
            if let Err(error) = outcome {
                self.fault.get_or_insert(error);
            }
        })
    }

    /// Nothing more can be written: what waits to be is given up.
    fn silence(&mut self, failure: io::Error) {
        self.fault.get_or_insert(failure);
        self.mute = true;
        self.out = VecDeque::new();
        self.out_bytes = 0;
        self.unflushed = false;
        self.write_deadline = None;
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.mute && Pin::new(&mut self.transport).poll_shutdown(cx).is_pending() {
            ready!(self.poll_patience(cx));
            self.stage = Stage::Ended;
            let failure = io::Error::new(ErrorKind::TimedOut, "the peer does not accept what was sent");
            return Poll::Ready(Err(failure));
        }
        self.stage = match self.heard {
            Heard::More if !self.mute => Stage::Lingering(tokio::time::Instant::now() + LINGER),
            _ => Stage::Ended,
        };
        self.ahead = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Reads to the peer's end, for a while. Where bytes of the peer are left unread, TCP takes back what was sent: a peer
    /// that was turned away would not learn why.
    fn poll_end(&mut self, cx: &mut Context<'_>, until: tokio::time::Instant) -> Poll<()> {
        while self.heard == Heard::More {
            if self.poll_read(cx, SCRATCH, |_, _| {}).is_pending() {
                ready!(self.poll_timer(cx, until));
                break;
            }
        }
        self.stage = Stage::Ended;
        self.timer = None;
        Poll::Ready(())
    }

    /// Ready when the peer has taken too long to accept what is sent.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.write_patience;
        let deadline = *self
            .write_deadline
            .get_or_insert_with(|| tokio::time::Instant::now() + patience);
        self.poll_timer(cx, deadline)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, until: tokio::time::Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests;
