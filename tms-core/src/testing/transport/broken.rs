//! Transports that each break their contract in one way, and the proof that the suite catches every one.

use super::{Fixture, clauses};
use crate::testing::suite;
use crate::transport::{Dial, Incoming, LinkProfile, Listener, Outgoing, PeerInfo, Transport, memory};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// What is wrong with a transport. Most of these are mistakes that a real backend would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Nothing: the harness itself is right.
    None,
    /// Takes one byte for a command.
    EatsEscape,
    /// Strips a bit.
    SevenBits,
    /// Reads only when nothing waits to be written.
    HalfDuplex,
    /// Has a queue without an end.
    EndlessQueue,
    /// Throws away what it has no room for.
    Overruns,
    /// Hangs up before all is out.
    EndsEarly,
    /// Does not hang up.
    NeverEnds,
    /// Gives a call twice.
    CallsTwice,
    /// Looks at a caller's first byte before it gives the call.
    WaitsForFirstByte,
    /// Takes a call, and then does something else.
    LosesDropped,
    /// Writes, and then waits.
    WritesAndWaits,
    /// Ends where a call has ended.
    EndsWithCall,
    /// Counts nobody.
    Unlimited,
    /// Counts those that have gone.
    NeverFree,
    /// Says nothing of a peer.
    Anonymous,
}

use Defect::*;

/// Every defect, and the clause that catches it.
const DEFECTS: &[(Defect, &str)] = &[
    (EatsEscape, "bytes_arrive_unchanged_and_in_order"),
    (SevenBits, "bytes_arrive_unchanged_and_in_order"),
    (HalfDuplex, "both_ways_run_at_once"),
    (EndlessQueue, "a_writer_waits_for_its_reader"),
    (Overruns, "a_writer_waits_for_its_reader"),
    (EndsEarly, "a_shutdown_comes_behind_all_bytes"),
    (NeverEnds, "a_dropped_transport_ends"),
    (CallsTwice, "every_call_is_taken_once"),
    (WaitsForFirstByte, "a_silent_caller_delays_nobody"),
    (LosesDropped, "a_dropped_accept_loses_no_call"),
    (WritesAndWaits, "dropped_reads_and_writes_lose_nothing"),
    (EndsWithCall, "a_caller_that_hangs_up_at_once_ends_nothing"),
    (Unlimited, "open_calls_are_limited"),
    (NeverFree, "open_calls_are_limited"),
    (Anonymous, "a_peer_is_observed"),
];

#[test]
fn the_suite_catches_every_broken_transport() {
    suite::catches(DEFECTS, Bad, clauses);
}

#[test]
fn the_harness_itself_is_right() {
    for clause in clauses::<Bad>() {
        suite::prove(clauses(), &Bad(None), clause.name());
    }
}

struct Bad(Defect);

#[async_trait]
impl Fixture for Bad {
    async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>) {
        let (listener, dial) = memory::listen(if self.0 == Unlimited { 1000 } else { calls });
        let listener = BadListener {
            defect: self.0,
            inner: listener,
            again: VecDeque::new(),
        };
        (
            Box::new(listener),
            Box::new(BadDial {
                defect: self.0,
                inner: dial,
            }),
        )
    }
}

struct BadListener {
    defect: Defect,
    inner: memory::MemoryListener,
    again: VecDeque<Incoming>,
}

#[async_trait]
impl Listener for BadListener {
    async fn accept(&mut self) -> io::Result<Incoming> {
        if let Some(incoming) = self.again.pop_front() {
            return Ok(incoming);
        }
        let mut incoming = self.inner.accept().await?;
        match self.defect {
            CallsTwice => {
                let (line, _) = memory::pair();
                let peer = incoming.peer.clone();
                self.again.push_back(Incoming {
                    transport: Box::new(line),
                    peer,
                    profile: LinkProfile::TCP,
                });
            }
            WaitsForFirstByte => {
                let first = incoming.transport.read_u8().await;
                let (line, _) = memory::pair();
                let first = io::Cursor::new(first.map(|byte| vec![byte]).unwrap_or_default());
                incoming.transport = Box::new(tokio::io::join(first.chain(line), tokio::io::sink()));
            }
            LosesDropped => sleep(Duration::from_millis(5)).await,
            EndsWithCall => {
                sleep(Duration::from_millis(5)).await;
                if let Ok(Ok(0)) =
                    tokio::time::timeout(Duration::from_millis(1), incoming.transport.read(&mut [0; 1])).await
                {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            Anonymous => incoming.peer = PeerInfo::default(),
            _ => {}
        }
        incoming.transport = Box::new(BadLine::new(self.defect, incoming.transport));
        Ok(incoming)
    }
}

struct BadDial {
    defect: Defect,
    inner: memory::MemoryDial,
}

#[async_trait]
impl Dial for BadDial {
    async fn dial(&mut self) -> io::Result<Outgoing> {
        let mut outgoing = self.inner.dial().await?;
        outgoing.transport = Box::new(BadLine::new(self.defect, outgoing.transport));
        Ok(outgoing)
    }
}

struct BadLine {
    defect: Defect,
    inner: Option<Box<dyn Transport>>,
    /// What was taken, and not yet given on.
    queue: VecDeque<u8>,
    /// A write waits.
    writing: bool,
    /// What was written and not yet said.
    written: Option<usize>,
}

impl BadLine {
    fn new(defect: Defect, inner: Box<dyn Transport>) -> Self {
        Self {
            defect,
            inner: Some(inner),
            queue: VecDeque::new(),
            writing: false,
            written: Option::None,
        }
    }

    fn inner(&mut self) -> Pin<&mut Box<dyn Transport>> {
        Pin::new(self.inner.as_mut().unwrap())
    }

    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let piece: Vec<u8> = self.queue.iter().take(64 << 10).copied().collect();
            let written = ready!(self.inner().poll_write(cx, &piece))?;
            self.queue.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for BadLine {
    fn drop(&mut self) {
        if matches!(self.defect, NeverEnds | NeverFree) {
            std::mem::forget(self.inner.take());
        }
    }
}

impl AsyncRead for BadLine {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.defect {
            HalfDuplex if this.writing => Poll::Pending,
            EatsEscape | SevenBits => loop {
                let mut bytes = vec![0; buf.remaining()];
                let mut read = ReadBuf::new(&mut bytes);
                ready!(this.inner().poll_read(cx, &mut read))?;
                let ended = read.filled().is_empty();
                let kept = read
                    .filled()
                    .iter()
                    .filter(|byte| this.defect != EatsEscape || **byte != 0xFF);
                let kept: Vec<u8> = kept
                    .map(|byte| if this.defect == SevenBits { byte & 0x7F } else { *byte })
                    .collect();
                if ended || !kept.is_empty() {
                    buf.put_slice(&kept);
                    return Poll::Ready(Ok(()));
                }
            },
            _ => this.inner().poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for BadLine {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match this.defect {
            HalfDuplex => {
                let written = this.inner().poll_write(cx, bytes);
                this.writing = written.is_pending();
                written
            }
            EndlessQueue => {
                this.queue.extend(bytes);
                let _ = this.poll_queue(cx)?;
                Poll::Ready(Ok(bytes.len()))
            }
            Overruns => {
                let _ = this.inner().poll_write(cx, bytes)?;
                Poll::Ready(Ok(bytes.len()))
            }
            EndsEarly => {
                // What was written last goes out with the next.
                ready!(this.poll_queue(cx))?;
                this.queue.extend(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            WritesAndWaits => match this.written.take() {
                Some(written) => Poll::Ready(Ok(written)),
                Option::None => {
                    this.written = Some(ready!(this.inner().poll_write(cx, bytes))?);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            },
            _ => this.inner().poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}
