//! A link on a raw serial line: a [transport](super::Transport) out of a line that is noisy (protocol §3).
//!
//! ```
//! use tms_core::transport::linked::Linked;
//! use tms_core::transport::memory;
//! use tms_proto::link::{Config, Role};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let (near, far) = memory::pair();
//! let mut caller = Linked::new(near, Config::new(Role::Caller));
//! let mut answerer = Linked::new(far, Config::new(Role::Answerer));
//! caller.write_all(b"hello").await?;
//! let mut heard = [0; 5];
//! answerer.read_exact(&mut heard).await?;
//! assert_eq!(&heard, b"hello");
//! # std::io::Result::Ok(())
//! # }).unwrap();
//! ```

use super::Transport;
use crate::entropy::{Entropy, OsEntropy};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tms_proto::link::{Config, Counters, Down, Link, LinkEvent};
use tms_proto::machine::{Input, Instant, Machine, Output};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep_until};

/// Bytes that one read of the line takes at most.
const SCRATCH: usize = 1024;

/// A line with a link on it.
///
/// - **The line** may lose, hit and add bytes, echo, and say what modems say; it is read and written by a task of its own, so
///   that answers do not wait for whoever uses the transport.
/// - **Shutdown** is ready when the peer has everything, and knows that it is everything.
/// - **End.** A read gives the end only where the peer has shut down; a line that is cut, or on which the peer was not heard
///   for too long, is an error.
/// - **Dropping** it hangs up.
pub struct Linked<T> {
    shared: Arc<Mutex<Shared>>,
    task: AbortHandle,
    line: PhantomData<fn() -> T>,
}

/// What the task and the transport share.
struct Shared {
    link: Link,
    epoch: tokio::time::Instant,
    /// In order, and not yet read.
    received: VecDeque<Bytes>,
    ended: bool,
    delivered: bool,
    down: Option<Down>,
    /// Who waits to read, to write, and for the greeting.
    reader: Option<Waker>,
    writer: Option<Waker>,
    greeter: Option<Waker>,
    /// The task.
    driver: Option<Waker>,
}

impl<T: Transport + 'static> Linked<T> {
    /// Puts a link on the line, and greets the peer at once. Needs a tokio runtime with time.
    #[must_use]
    pub fn new(line: T, config: Config) -> Self {
        let mut nonce = [0; 4];
        OsEntropy.fill(&mut nonce);
        Self::with_nonce(line, config, nonce)
    }

    /// The same with a number of the call that the caller chose; it must be another one in each call.
    #[must_use]
    pub fn with_nonce(line: T, config: Config, nonce: [u8; 4]) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            link: Link::new(&config, nonce, Instant::from_millis(0)),
            epoch: tokio::time::Instant::now(),
            received: VecDeque::new(),
            ended: false,
            delivered: false,
            down: None,
            reader: None,
            writer: None,
            greeter: None,
            driver: None,
        }));
        let driver = Driver {
            line,
            shared: Arc::clone(&shared),
            out: Bytes::new(),
            unflushed: false,
            deaf: false,
            ended: false,
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
        };
        let task = tokio::spawn(driver).abort_handle();
        Self {
            shared,
            task,
            line: PhantomData,
        }
    }
}

impl<T> Linked<T> {
    /// Waits until the peer has answered the greeting.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) where nobody did, and what a read says of a line that was cut.
    pub async fn up(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut shared = lock(&self.shared);
            if shared.link.is_up() {
                return Poll::Ready(Ok(()));
            }
            match shared.down {
                Some(down) => Poll::Ready(Err(fault(down))),
                None => wait(&mut shared.greeter, cx),
            }
        })
        .await
    }

    /// What the link has counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.shared).link.counters()
    }

    /// The same when this has gone to somebody else.
    #[must_use]
    pub fn counting(&self) -> Counting {
        Counting(Arc::clone(&self.shared))
    }
}

/// The counters of a link that somebody else has.
#[derive(Clone)]
pub struct Counting(Arc<Mutex<Shared>>);

impl Counting {
    /// What the link has counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.0).link.counters()
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counters().fmt(f)
    }
}

impl<T> Drop for Linked<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> AsyncRead for Linked<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.shared);
        let Some(first) = shared.received.front_mut() else {
            return match shared.down {
                _ if shared.ended => Poll::Ready(Ok(())),
                Some(down) => Poll::Ready(Err(fault(down))),
                None => wait(&mut shared.reader, cx),
            };
        };
        let count = first.len().min(buffer.remaining());
        buffer.put_slice(first.get(..count).unwrap_or_default());
        first.advance(count);
        if first.is_empty() {
            shared.received.pop_front();
        }
        let now = shared.now();
        shared.link.consumed(now, count);
        wake(&mut shared.driver);
        Poll::Ready(Ok(()))
    }
}

impl<T> AsyncWrite for Linked<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.shared);
        if let Some(down) = shared.down {
            return Poll::Ready(Err(io::Error::new(ErrorKind::BrokenPipe, down)));
        }
        let now = shared.now();
        let count = shared.link.send(now, bytes);
        if count == 0 && !bytes.is_empty() {
            return wait(&mut shared.writer, cx);
        }
        wake(&mut shared.driver);
        Poll::Ready(Ok(count))
    }

    /// Nothing is held back: what was written is sent as soon as the line takes it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.shared);
        if shared.delivered {
            return Poll::Ready(Ok(()));
        }
        if let Some(down) = shared.down {
            return Poll::Ready(Err(fault(down)));
        }
        let now = shared.now();
        shared.link.close(now);
        wake(&mut shared.driver);
        wait(&mut shared.writer, cx)
    }
}

/// Runs the link on the line.
struct Driver<T> {
    line: T,
    shared: Arc<Mutex<Shared>>,
    /// What the line has still to take.
    out: Bytes,
    unflushed: bool,
    /// Nothing more comes from the line.
    deaf: bool,
    /// The peer's stream has ended, and whoever reads does not know yet.
    ended: bool,
    timer: Pin<Box<Sleep>>,
}

impl<T: Transport> Future for Driver<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let reading = this.poll_read(cx);
            let writing = this.poll_write(cx);
            let mut shared = lock(&this.shared);
            shared.driver = Some(cx.waker().clone());
            this.ended |= shared.events();
            if reading.is_ready() {
                continue;
            }
            if writing.is_pending() {
                drop(shared);
                ready!(this.poll_timer(cx));
                continue;
            }
            let output = shared.link.poll();
            if shared.room() {
                wake(&mut shared.writer);
            }
            match output {
                Output::Transmit(bytes) => this.out = bytes,
                Output::Event(event) => this.ended |= shared.event(event),
                Output::Wait(until) => {
                    // What is said of the peer's end is on the line before anybody hangs up because of it.
                    if mem::take(&mut this.ended) {
                        shared.ended = true;
                        wake(&mut shared.reader);
                    }
                    if let Some(until) = until.and_then(|until| shared.at(until))
                        && this.timer.deadline() != until
                    {
                        this.timer.as_mut().reset(until);
                    }
                    drop(shared);
                    ready!(this.poll_timer(cx));
                }
                Output::Close => {
                    if mem::take(&mut this.ended) {
                        shared.ended = true;
                    }
                    shared.wake_all();
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<T: Transport> Driver<T> {
    /// Takes in what the line has; pending where that is nothing.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.deaf {
            return Poll::Pending;
        }
        let mut scratch = [0; SCRATCH];
        let mut buffer = ReadBuf::new(&mut scratch);
        let outcome = ready!(Pin::new(&mut self.line).poll_read(cx, &mut buffer));
        let mut shared = lock(&self.shared);
        let now = shared.now();
        if outcome.is_ok() && !buffer.filled().is_empty() {
            shared.link.handle(now, Input::Received(buffer.filled()));
        } else {
            self.deaf = true;
            shared.link.handle(now, Input::Closed);
        }
        Poll::Ready(())
    }

    /// Gives the line what was to be sent; ready when it has taken it. A line that fails is closed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.out.is_empty() || self.unflushed {
            let outcome = if self.out.is_empty() {
                ready!(Pin::new(&mut self.line).poll_flush(cx)).map(|()| self.unflushed = false)
            } else {
                match ready!(Pin::new(&mut self.line).poll_write(cx, &self.out)) {
                    Ok(0) => Err(ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        self.out.advance(count);
                        self.unflushed = true;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            };
            if outcome.is_err() {
                self.out = Bytes::new();
                self.unflushed = false;
                self.deaf = true;
                let mut shared = lock(&self.shared);
                let now = shared.now();
                shared.link.handle(now, Input::Closed);
            }
        }
        Poll::Ready(())
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.timer.as_mut().poll(cx));
        let mut shared = lock(&self.shared);
        let now = shared.now();
        shared.link.handle(now, Input::Timeout);
        // While the line takes nothing the link cannot say when it is next: it is asked each second.
        self.timer
            .as_mut()
            .reset(tokio::time::Instant::now() + Duration::from_secs(1));
        Poll::Ready(())
    }
}

impl Shared {
    fn now(&self) -> Instant {
        let since = tokio::time::Instant::now().saturating_duration_since(self.epoch);
        Instant::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn at(&self, instant: Instant) -> Option<tokio::time::Instant> {
        self.epoch.checked_add(Duration::from_millis(instant.as_millis()))
    }

    fn room(&self) -> bool {
        self.writer.is_some() && self.link.room() > 0
    }

    /// Takes what the link reports; true where the peer's stream has ended.
    fn events(&mut self) -> bool {
        let mut ended = false;
        while let Some(event) = self.link.event() {
            ended |= self.event(event);
        }
        ended
    }

    fn event(&mut self, event: LinkEvent) -> bool {
        match event {
            LinkEvent::Up => wake(&mut self.greeter),
            LinkEvent::Received(bytes) => {
                self.received.push_back(bytes);
                wake(&mut self.reader);
            }
            LinkEvent::Ended => return true,
            LinkEvent::Delivered => {
                self.delivered = true;
                wake(&mut self.writer);
            }
            LinkEvent::Down(why) => {
                self.down = Some(why);
                self.wake_all();
            }
        }
        false
    }

    fn wake_all(&mut self) {
        for waker in [&mut self.reader, &mut self.writer, &mut self.greeter] {
            wake(waker);
        }
    }
}

/// Nothing can panic while the lock is held but what is a bug already; what it guards is then still what it was.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn wait<R>(slot: &mut Option<Waker>, cx: &Context<'_>) -> Poll<R> {
    *slot = Some(cx.waker().clone());
    Poll::Pending
}

fn fault(down: Down) -> io::Error {
    let kind = match down {
        Down::NoAnswer | Down::Silent => ErrorKind::TimedOut,
        Down::Finished => ErrorKind::NotConnected,
        _ => ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::transport::{Faults, FaultyTransport, Fixture, Tampering};
    use crate::transport::{Dial, Incoming, LinkProfile, Listener, Outgoing, memory};
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tms_proto::link::{Duplex, Role, SevenBit};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// Calls in memory over lines that hit one byte of some, in every call others.
    struct Noisy {
        flips_per_million: u32,
        config: fn(Role) -> Config,
    }

    struct NoisyListener(memory::MemoryListener, fn(Role) -> Config);

    struct NoisyDial(memory::MemoryDial, AtomicU64, u32, fn(Role) -> Config);

    #[async_trait]
    impl Fixture for Noisy {
        async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>) {
            let (listener, dial) = memory::listen(calls);
            (
                Box::new(NoisyListener(listener, self.config)),
                Box::new(NoisyDial(dial, AtomicU64::new(1), self.flips_per_million, self.config)),
            )
        }
    }

    #[async_trait]
    impl Listener for NoisyListener {
        async fn accept(&mut self) -> io::Result<Incoming> {
            let incoming = self.0.accept().await?;
            Ok(Incoming {
                transport: Box::new(Linked::new(incoming.transport, (self.1)(Role::Answerer))),
                profile: LinkProfile::serial(9600),
                ..incoming
            })
        }
    }

    #[async_trait]
    impl Dial for NoisyDial {
        async fn dial(&mut self) -> io::Result<Outgoing> {
            let outgoing = self.0.dial().await?;
            let noise = Tampering {
                flips_per_million: self.2,
                ..Tampering::default()
            };
            let faults = Faults {
                seed: self.1.fetch_add(1, Ordering::Relaxed),
                read: noise.clone(),
                write: noise,
                ..Faults::default()
            };
            let line = FaultyTransport::new(outgoing.transport, faults);
            Ok(Outgoing {
                transport: Box::new(Linked::new(line, (self.3)(Role::Caller))),
                profile: LinkProfile::serial(9600),
                ..outgoing
            })
        }
    }

    mod noisy {
        use super::*;
        crate::transport_tests!(Noisy {
            flips_per_million: 800,
            config: Config::new
        });
    }

    mod clean_seven_bits {
        use super::*;
        crate::transport_tests!(Noisy {
            flips_per_million: 0,
            config: |role| Config {
                seven_bit: SevenBit::Always,
                ..Config::new(role)
            }
        });
    }

    fn linked(line: DuplexStream, role: Role) -> Linked<DuplexStream> {
        Linked::new(line, Config::new(role))
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_not_an_end() {
        let (near, far) = duplex(1000);
        let (mut caller, mut answerer) = (linked(near, Role::Caller), linked(far, Role::Answerer));
        caller.write_all(b"half of it").await.unwrap();
        let mut heard = [0; 10];
        answerer.read_exact(&mut heard).await.unwrap();
        drop(caller);
        let error = answerer.read(&mut heard).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(answerer.write_all(b"more").await.is_err());
        assert!(answerer.shutdown().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_is_ready_when_the_peer_has_all() {
        let (near, far) = duplex(100);
        let (mut caller, mut answerer) = (linked(near, Role::Caller), linked(far, Role::Answerer));
        let content = vec![7; 3_000];
        caller.write_all(&content).await.unwrap();
        caller.shutdown().await.unwrap();
        drop(caller);
        // It was there before the line went.
        let mut heard = Vec::new();
        answerer.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, content);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_answers() {
        let (near, _far) = duplex(10_000);
        let mut caller = linked(near, Role::Caller);
        assert_eq!(caller.up().await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(caller.read(&mut [0; 10]).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// A line that takes nothing does not keep a link from noticing that nobody is there.
    #[tokio::test(start_paused = true)]
    async fn a_line_that_stands_still_is_noticed() {
        let (near, mut far) = duplex(200);
        let mut caller = linked(near, Role::Caller);
        let answerer = linked(duplex(1).0, Role::Answerer);
        assert!(answerer.up().await.is_err());
        caller.write_all(&[1; 2_000]).await.unwrap();
        assert!(caller.read(&mut [0; 10]).await.is_err());
        assert_eq!(far.read_u8().await.unwrap(), 0x7E);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_that_take_turns_understand_each_other() {
        let (near, far) = duplex(64);
        let half = |role| Config {
            duplex: Duplex::Half,
            ..Config::new(role)
        };
        let mut caller = Linked::new(near, half(Role::Caller));
        let mut answerer = Linked::new(far, half(Role::Answerer));
        for round in 0..10 {
            let content = vec![round; 3_000];
            let mut heard = vec![0; 3_000];
            let (said, read) = tokio::join!(caller.write_all(&content), answerer.read_exact(&mut heard));
            said.unwrap();
            read.unwrap();
            assert_eq!(heard, content);
            let (said, read) = tokio::join!(answerer.write_all(&content), caller.read_exact(&mut heard));
            said.unwrap();
            read.unwrap();
            assert_eq!(heard, content);
        }
        let (one, other) = tokio::join!(caller.shutdown(), answerer.shutdown());
        one.unwrap();
        other.unwrap();
    }
}
