//! Transports in memory, for tests and simulations.

use super::{Dial, Incoming, LinkProfile, Listener, Outgoing, PeerInfo, Slots};
use async_trait::async_trait;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Bytes that a transport holds each way before a writer has to wait.
pub const BUFFER: usize = 64 * 1024;

/// Calls that wait to be accepted.
const BACKLOG: usize = 1024;

/// Two ends of one transport.
#[must_use]
pub fn pair() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(BUFFER)
}

/// A listener of at most so many open calls, and what calls it.
#[must_use]
pub fn listen(connections: usize) -> (MemoryListener, MemoryDial) {
    let (sender, calls) = mpsc::channel(BACKLOG);
    let listener = MemoryListener {
        calls,
        slots: Slots::new(connections),
    };
    (
        listener,
        MemoryDial {
            calls: sender,
            count: Arc::default(),
        },
    )
}

/// Takes the calls of its [`MemoryDial`]s. Its peers are lines `memory-0`, `memory-1` and so on, in the order in which they
/// called.
#[derive(Debug)]
pub struct MemoryListener {
    calls: mpsc::Receiver<(DuplexStream, u64)>,
    slots: Slots,
}

#[async_trait]
impl Listener for MemoryListener {
    /// Waits for ever when nobody is left who could call.
    async fn accept(&mut self) -> io::Result<Incoming> {
        let slot = self.slots.take().await;
        let Some((transport, number)) = self.calls.recv().await else {
            return pending().await;
        };
        let peer = PeerInfo::on_line(format!("memory-{number}"));
        Ok(Incoming {
            transport: Box::new(slot.hold(transport)),
            peer,
            profile: LinkProfile::TCP,
        })
    }
}

/// Calls its [`MemoryListener`].
#[derive(Debug, Clone)]
pub struct MemoryDial {
    calls: mpsc::Sender<(DuplexStream, u64)>,
    count: Arc<AtomicU64>,
}

#[async_trait]
impl Dial for MemoryDial {
    /// Fails with [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when the listener is gone.
    async fn dial(&mut self) -> io::Result<Outgoing> {
        let place = self
            .calls
            .reserve()
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        let (near, far) = pair();
        place.send((far, self.count.fetch_add(1, Ordering::Relaxed)));
        Ok(Outgoing {
            transport: Box::new(near),
            peer: PeerInfo::on_line("memory"),
            profile: LinkProfile::TCP,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::transport::Fixture;

    struct Memory;

    #[async_trait]
    impl Fixture for Memory {
        async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>) {
            let (listener, dial) = listen(calls);
            (Box::new(listener), Box::new(dial))
        }
    }

    crate::transport_tests!(Memory);

    #[tokio::test]
    async fn without_a_listener_nobody_answers() {
        let (listener, mut dial) = listen(1);
        drop(listener);
        assert_eq!(
            dial.dial().await.err().unwrap().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
