//! Transports that each break their contract in one way, and the proof that the suite catches every one.

use super::{Fixture, clauses};
use crate::testing::suite;
use crate::transport::{Dial, Incoming, LinkProfile, Listener, Outgoing, PeerInfo, Transport, memory};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
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
    /// Shows the peer's own bytes in the log.
    RawName,
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
    (RawName, "a_peer_is_observed"),
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
        let listener = BadListener { defect: self.0, inner: listener, again: VecDeque::new(), held: Vec::new() };
        (Box::new(listener), Box::new(BadDial { defect: self.0, inner: dial }))
    }
}

struct BadListener {
    defect: Defect,
    inner: memory::MemoryListener,
    again: VecDeque<Incoming>,
    /// What is never given back.
    held: Vec<Box<dyn Transport>>,
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
                self.again.push_back(Incoming { transport: Box::new(line), peer, profile: LinkProfile::TCP });
            }
            WaitsForFirstByte => {
                let first = incoming.transport.read_u8().await;
                let (line, _) = memory::pair();
                let first = std::io::Cursor::new(first.map(|byte| vec![byte]).unwrap_or_default());
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
            NeverFree => {
                let (near, far) = memory::pair();
                self.held.push(std::mem::replace(&mut incoming.transport, Box::new(near)));
                drop(far);
            }
            Anonymous => incoming.peer = PeerInfo::default(),
            RawName => incoming.peer = PeerInfo { line: Option::None, ..raw_peer() },
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
    /// Nothing where it is never to end.
    inner: Option<Box<dyn Transport>>,
    queue: VecDeque<u8>,
    written: u64,
}

impl BadLine {
    fn new(defect: Defect, inner: Box<dyn Transport>) -> Self {
        Self { defect, inner: Some(inner), queue: VecDeque::new(), written: 0 }
    }
}
