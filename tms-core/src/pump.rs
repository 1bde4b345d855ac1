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
mod tests {
    use super::*;
    use crate::testing::seed::Seed;
    use proptest::prelude::*;
    use std::future::Future;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Received(Vec<u8>),
        Timeout(u64),
        Closed,
        Sent(u64),
    }

    /// Does what it is told, and reports what it sees.
    #[derive(Default)]
    struct Toy {
        todo: VecDeque<Output<Seen>>,
        wait: Option<Instant>,
        closes: bool,
        polled: usize,
    }

    impl Toy {
        fn new(todo: impl IntoIterator<Item = Output<Seen>>) -> Self {
            Self {
                todo: todo.into_iter().collect(),
                ..Self::default()
            }
        }

        fn push(&mut self, output: Output<Seen>) {
            self.todo.push_back(output);
        }
    }

    impl Machine for Toy {
        type Event = Seen;

        fn handle(&mut self, now: Instant, input: Input<'_>) {
            self.push(Output::Event(match input {
                Input::Received(bytes) => Seen::Received(bytes.to_vec()),
                Input::Timeout => Seen::Timeout(now.as_millis()),
                Input::Closed => Seen::Closed,
            }));
            match input {
                Input::Timeout => self.wait = None,
                Input::Closed if self.closes => self.push(Output::Close),
                _ => {}
            }
        }

        fn poll(&mut self) -> Output<Seen> {
            match self.todo.front() {
                Some(Output::Close) => return Output::Close,
                None => return Output::Wait(self.wait),
                Some(_) => {}
            }
            let next = self.todo.pop_front().unwrap();
            if let Output::Transmit(bytes) = &next {
                self.polled += bytes.len();
            }
            next
        }
    }

    fn send(bytes: impl Into<Bytes>) -> Output<Seen> {
        Output::Transmit(bytes.into())
    }

    fn event(number: u64) -> Output<Seen> {
        Output::Event(Seen::Sent(number))
    }

    async fn all<T: Transport>(pump: &mut Pump<T, Seen>, toy: &mut Toy) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(event) = pump.next(toy).await.unwrap() {
            seen.push(event);
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_go_both_ways_and_are_counted() {
        let (near, mut far) = duplex(1000);
        let mut toy = Toy::new([send("hello "), send("world")]);
        toy.closes = true;
        let mut pump = Pump::new(near);
        far.write_all(b"good day").await.unwrap();
        assert_eq!(
            pump.next(&mut toy).await.unwrap(),
            Some(Seen::Received(b"good day".to_vec()))
        );
        let mut heard = [0; 11];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello world");
        assert_eq!((pump.bytes_in(), pump.bytes_out()), (8, 11));
        drop(far);
        assert_eq!(all(&mut pump, &mut toy).await, [Seen::Closed]);
        assert_eq!(pump.next(&mut toy).await.unwrap(), None);
        assert!(pump.fault().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_waits_for_the_bytes_before_it() {
        let (near, mut far) = duplex(4);
        let mut toy = Toy::new([send("12345678"), event(1), send("9"), event(2)]);
        let mut pump = Pump::new(near);
        let second = Duration::from_secs(1);
        assert!(timeout(second, pump.next(&mut toy)).await.is_err());
        let mut heard = [0; 3];
        far.read_exact(&mut heard).await.unwrap();
        assert!(timeout(second, pump.next(&mut toy)).await.is_err());
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Sent(1)));
        assert_eq!(toy.polled, 8, "what comes after an event is polled after it");
        assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Sent(2)));
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"789");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_sends_without_end_does_not_outrun_the_line() {
        let (near, _far) = duplex(100);
        let mut toy = Toy::new((0..1000).map(|_| send(vec![0; 1000])));
        let mut pump = Pump::new(near);
        assert!(timeout(Duration::from_secs(1), pump.next(&mut toy)).await.is_err());
        assert!((BATCH..BATCH + 1000).contains(&toy.polled), "{}", toy.polled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_reads_is_given_up() {
        let (near, mut far) = duplex(8);
        let mut toy = Toy::new([send("1234567890"), event(1)]);
        toy.closes = true;
        let mut pump = Pump::new(near);
        let begun = pump.now();
        let failure = pump.next(&mut toy).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::TimedOut);
        assert_eq!(pump.now().saturating_since(begun), Duration::from_secs(30));
        assert_eq!(pump.fault().unwrap().kind(), ErrorKind::TimedOut);
        far.write_all(b"late").await.unwrap();
        toy.push(send("never"));
        assert_eq!(
            all(&mut pump, &mut toy).await,
            [Seen::Sent(1), Seen::Received(b"late".to_vec()), Seen::Closed],
            "the machine still gives its last events"
        );
        assert_eq!(pump.bytes_out(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_begins_anew_with_each_write_and_outlives_cancelling() {
        let (near, mut far) = duplex(8);
        let mut toy = Toy::new([send("12345678")]);
        let mut pump = Pump::new(near).with_write_patience(Duration::from_secs(10));
        let mut heard = [0; 8];
        for number in 0..5 {
            toy.push(send("12345678"));
            toy.push(event(number));
            assert!(timeout(Duration::from_secs(9), pump.next(&mut toy)).await.is_err());
            far.read_exact(&mut heard).await.unwrap();
            assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Sent(number)));
        }
        toy.push(send("12345678"));
        for _ in 0..4 {
            assert!(timeout(Duration::from_secs(2), pump.next(&mut toy)).await.is_err());
        }
        let failure = timeout(Duration::from_millis(2001), pump.next(&mut toy))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_sends_all_and_shuts_down() {
        let (near, mut far) = duplex(4);
        let mut toy = Toy::new([send("goodbye"), event(1), send("!"), Output::Close]);
        let mut pump = Pump::new(near);
        let peer = tokio::spawn(async move {
            let mut heard = String::new();
            far.read_to_string(&mut heard).await.unwrap();
            heard
        });
        assert_eq!(all(&mut pump, &mut toy).await, [Seen::Sent(1)]);
        assert_eq!(peer.await.unwrap(), "goodbye!");
        assert_eq!(pump.next(&mut toy).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_the_peers_end_but_not_for_ever() {
        for silent in [false, true] {
            let (near, mut far) = duplex(100);
            let mut toy = Toy::new([send("busy"), Output::Close]);
            let mut pump = Pump::new(near);
            let begun = pump.now();
            let peer = tokio::spawn(async move {
                far.write_all(&[0; 90]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
                let mut heard = Vec::new();
                far.read_to_end(&mut heard).await.unwrap();
                if silent {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                heard
            });
            assert_eq!(all(&mut pump, &mut toy).await, []);
            let waited = pump.now().saturating_since(begun);
            assert_eq!(waited, if silent { LINGER } else { Duration::from_millis(500) });
            assert_eq!(pump.bytes_in(), 90);
            drop(pump);
            assert_eq!(peer.await.unwrap(), b"busy");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_ended_still_gets_its_answer() {
        let (near, mut far) = duplex(100);
        let mut toy = Toy::default();
        let mut pump = Pump::new(near);
        far.write_all(b"question").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(
            pump.next(&mut toy).await.unwrap(),
            Some(Seen::Received(b"question".to_vec()))
        );
        toy.push(send("answer"));
        toy.closes = true;
        assert_eq!(all(&mut pump, &mut toy).await, [Seen::Closed]);
        drop(pump);
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_peer_said_before_it_hung_up_is_heard() {
        let (near, mut far) = duplex(8);
        let mut toy = Toy::new([send("a long handshake"), event(1)]);
        toy.closes = true;
        let mut pump = Pump::new(near);
        far.write_all(b"busy").await.unwrap();
        drop(far);
        assert_eq!(
            all(&mut pump, &mut toy).await,
            [Seen::Sent(1), Seen::Received(b"busy".to_vec()), Seen::Closed]
        );
        assert_eq!(pump.fault().unwrap().kind(), ErrorKind::BrokenPipe);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_waits_on_a_closed_line_has_ended() {
        let (near, far) = duplex(8);
        drop(far);
        let mut toy = Toy {
            wait: Some(Instant::from_millis(50)),
            ..Toy::default()
        };
        let mut pump = Pump::new(near);
        assert_eq!(all(&mut pump, &mut toy).await, [Seen::Closed, Seen::Timeout(50)]);
    }

    #[tokio::test(start_paused = true)]
    async fn timers_are_kept_to_the_millisecond() {
        let (near, mut far) = duplex(8);
        let mut toy = Toy::default();
        let epoch = tokio::time::Instant::now();
        tokio::time::advance(Duration::from_millis(250)).await;
        let mut pump = Pump::since(near, epoch);
        assert_eq!(pump.now(), Instant::from_millis(250));
        for until in [300, 301, 4_000_000] {
            toy.wait = Some(Instant::from_millis(until));
            assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Timeout(until)));
        }
        toy.wait = Some(Instant::from_millis(u64::MAX));
        assert!(timeout(Duration::from_secs(86_400), pump.next(&mut toy)).await.is_err());
        toy.wait = Some(pump.now() + Duration::from_secs(5));
        far.write_all(b"early").await.unwrap();
        assert_eq!(
            pump.next(&mut toy).await.unwrap(),
            Some(Seen::Received(b"early".to_vec()))
        );
        let due = toy.wait.unwrap();
        assert_eq!(pump.next(&mut toy).await.unwrap(), Some(Seen::Timeout(due.as_millis())));
        toy.wait = Some(Instant::from_millis(0));
        assert!(
            matches!(pump.next(&mut toy).await.unwrap(), Some(Seen::Timeout(_))),
            "one that is past is due at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn two_ends_that_both_send_much_do_not_lock_up() {
        let (near, far) = duplex(1000);
        let much = 40;
        let run = |line: DuplexStream| async move {
            let mut toy = Toy::new((0..much).flat_map(|number| [send(vec![7; 1500]), event(number)]));
            let mut pump = Pump::new(line);
            let (mut sent, mut heard) = (0, 0);
            while sent < much || heard < 1500 * 40 {
                match pump.next(&mut toy).await.unwrap().unwrap() {
                    Seen::Sent(_) => sent += 1,
                    Seen::Received(bytes) => heard += bytes.len(),
                    other => panic!("{other:?}"),
                }
            }
            (sent, heard)
        };
        let both = async { tokio::join!(run(near), run(far)) };
        let both = timeout(Duration::from_secs(20), both).await.unwrap();
        assert_eq!(both, ((40, 60_000), (40, 60_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_read_no_further_than_it_may() {
        let (near, mut far) = duplex(16);
        let mut toy = Toy::new([send(vec![1; 1000])]);
        let mut pump = Pump::new(near);
        let flood = tokio::spawn(async move { far.write_all(&[0; 1 << 20]).await });
        assert!(timeout(Duration::from_secs(5), pump.next(&mut toy)).await.is_err());
        assert_eq!(pump.ahead.len(), AHEAD);
        assert!(!flood.is_finished());
        flood.abort();
    }

    /// Counts calls; takes pieces one by one unless told otherwise.
    struct Counted {
        vectored: bool,
        log: Arc<Mutex<Log>>,
    }

    #[derive(Default)]
    struct Log {
        writes: usize,
        flushes: usize,
        bytes: Vec<u8>,
    }

    impl AsyncRead for Counted {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut log = self.log.lock().unwrap();
            log.writes += 1;
            log.bytes.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.log.lock().unwrap().flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let joined: Vec<u8> = if self.vectored {
                slices.iter().flat_map(|slice| slice.to_vec()).collect()
            } else {
                slices[0].to_vec()
            };
            self.poll_write(cx, &joined)
        }

        fn is_write_vectored(&self) -> bool {
            self.vectored
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_together_is_written_together() {
        for vectored in [false, true] {
            let log: Arc<Mutex<Log>> = Arc::default();
            let mut toy = Toy::new(
                (0..10)
                    .map(|number| send(vec![number; 3]))
                    .chain([event(1), send("x"), event(2)]),
            );
            let mut pump = Pump::new(Counted {
                vectored,
                log: Arc::clone(&log),
            });
            pump.next(&mut toy).await.unwrap();
            assert_eq!(log.lock().unwrap().writes, 1);
            pump.next(&mut toy).await.unwrap();
            let log = log.lock().unwrap();
            assert_eq!((log.writes, log.flushes), (2, 2));
            let right: Vec<u8> = (0..10).flat_map(|number| [number; 3]).chain(*b"x").collect();
            assert_eq!(log.bytes, right);
            assert_eq!(pump.bytes_out(), 31);
        }
    }

    /// Polls a future a few times, and then drops it, whatever became of it.
    async fn a_while<F: Future>(polls: u64, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        for _ in 0..polls {
            if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
                return Some(done);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut_and_cancelled(seed: u64, buffer in 1..200_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (near, far) = duplex(buffer);
                let mut chance = Seed::new(seed);
                let mut toy = Toy::default();
                let mut right = Vec::new();
                for number in 0..20_u8 {
                    for _ in 0..chance.below(4) {
                        let bytes = vec![number; chance.below(60) as usize];
                        right.extend_from_slice(&bytes);
                        toy.push(send(bytes));
                    }
                    toy.push(event(number.into()));
                }
                let (mut reader, mut writer) = tokio::io::split(far);
                let mut pace = Seed::new(!seed);
                let talk = tokio::spawn(async move {
                    for number in 0..100 {
                        writer.write_all(&[number; 7]).await.unwrap();
                        for _ in 0..pace.below(5) {
                            tokio::task::yield_now().await;
                        }
                    }
                });
                let expected = right.len();
                let listen = tokio::spawn(async move {
                    let mut heard = vec![0; expected];
                    reader.read_exact(&mut heard).await.unwrap();
                    heard
                });
                let mut pump = Pump::new(near);
                let (mut sent, mut heard) = (Vec::new(), Vec::new());
                while sent.len() < 20 || heard.len() < 700 {
                    match a_while(1 + chance.below(4), pump.next(&mut toy)).await.map(Result::unwrap) {
                        Some(Some(Seen::Sent(number))) => sent.push(number),
                        Some(Some(Seen::Received(bytes))) => heard.extend(bytes),
                        Some(other) => panic!("{other:?}"),
                        None => {}
                    }
                }
                talk.await.unwrap();
                assert_eq!(listen.await.unwrap(), right);
                assert_eq!(sent, (0..20).collect::<Vec<_>>());
                assert_eq!(heard, (0..100).flat_map(|number| [number; 7]).collect::<Vec<_>>());
                assert_eq!((pump.bytes_in(), pump.bytes_out()), (700, expected as u64));
            });
        }
    }

    #[test]
    fn an_idle_pump_is_small() {
        assert!(size_of::<Pump<Box<dyn Transport>, [u8; 4096]>>() <= 320);
    }
}
