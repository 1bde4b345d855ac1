//! TCP.

use super::slot::Slots;
use super::{Dial, Incoming, LinkProfile, Listener, Outgoing, PeerInfo};
use async_trait::async_trait;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, lookup_host};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// Connections that the system completes and keeps for us while we are busy: a branch whose power comes back calls at once.
const BACKLOG: u32 = 4096;

/// A peer that has vanished is noticed in two minutes at most, and an address translation on the way is kept awake.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_RETRIES: u32 = 3;

/// How long to wait after an error that only time can mend: at first, and at most.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Takes calls over TCP.
///
/// At its limit it accepts no more: callers wait in the system's queue until one that is there has gone.
#[derive(Debug)]
pub struct TcpAccess {
    listener: TcpListener,
    slots: Slots,
    profile: LinkProfile,
}

impl TcpAccess {
    /// Listens on the first of the addresses that it can have; port 0 takes a free one. At most `connections` are open at
    /// once: each takes a file descriptor.
    ///
    /// # Errors
    /// Where none of the addresses can be had.
    pub async fn bind(address: impl ToSocketAddrs, connections: usize) -> io::Result<Self> {
        let mut failure = io::Error::new(ErrorKind::InvalidInput, "no address to listen on");
        for address in lookup_host(address).await? {
            match listen(address) {
                Ok(listener) => {
                    return Ok(Self {
                        listener,
                        slots: Slots::new(connections),
                        profile: LinkProfile::TCP,
                    });
                }
                Err(error) => failure = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(failure)
    }

    /// The same for callers behind an access server, or another link with an envelope of its own.
    #[must_use]
    pub fn with_profile(self, profile: LinkProfile) -> Self {
        Self { profile, ..self }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[async_trait]
impl Listener for TcpAccess {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let slot = self.slots.take().await;
        let mut pause = PAUSE;
        loop {
            let (trouble, error) = match self.listener.accept().await {
                Ok((stream, address)) => match prepare(&stream) {
                    Ok(()) => {
                        let (transport, peer) = (Box::new(slot.hold(stream)), PeerInfo::at(address));
                        return Ok(Incoming {
                            transport,
                            peer,
                            profile: self.profile,
                        });
                    }
                    Err(error) => (Trouble::OfTheCall, error),
                },
                Err(error) => (Trouble::of(&error), error),
            };
            match trouble {
                Trouble::OfTheCall => debug!(%error, "a call ended before it was accepted"),
                Trouble::Passing => {
                    warn!(%error, "no call can be accepted now");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Trouble::OfTheListener => return Err(error),
            }
        }
    }
}

/// Calls a server over TCP.
#[derive(Debug, Clone)]
pub struct TcpDial {
    addresses: Vec<String>,
    /// Index of the address that answered last: it is called first.
    first: usize,
    patience: Duration,
    profile: LinkProfile,
}

impl TcpDial {
    /// Calls the first of these addresses that answers, each `host:port`.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            first: 0,
            patience: Duration::from_secs(10),
            profile: LinkProfile::TCP,
        }
    }

    /// Waits for each address no longer than this, the look-up of its name included. The default is 10 s.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same for a link with an envelope of its own.
    #[must_use]
    pub fn with_profile(self, profile: LinkProfile) -> Self {
        Self { profile, ..self }
    }
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&mut self) -> io::Result<Outgoing> {
        let mut failure = io::Error::new(ErrorKind::InvalidInput, "no address to call");
        let (before, from) = self
            .addresses
            .split_at_checked(self.first)
            .unwrap_or((&[], &self.addresses));
        for (number, address) in from.iter().chain(before).enumerate() {
            let connected = timeout(self.patience, TcpStream::connect(address)).await;
            let connected = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
            match connected.and_then(|stream| prepare(&stream).and(Ok(stream))) {
                Ok(stream) => {
                    self.first = (self.first + number) % self.addresses.len();
                    let peer = stream.peer_addr().map(PeerInfo::at).unwrap_or_default();
                    return Ok(Outgoing {
                        transport: Box::new(stream),
                        peer,
                        profile: self.profile,
                    });
                }
                Err(error) => {
                    debug!(%address, %error, "server does not answer");
                    failure = io::Error::new(
                        error.kind(),
                        Unreachable {
                            address: address.clone(),
                            error,
                        },
                    );
                }
            }
        }
        Err(failure)
    }
}

#[derive(Debug)]
struct Unreachable {
    address: String,
    error: io::Error,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}

impl std::error::Error for Unreachable {}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A server that starts again does not wait for connections of the one before.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Small messages leave at once, and a peer that has vanished is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_INTERVAL)
        .with_retries(KEEP_ALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}

/// What an error of `accept` is about.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// One call, which has ended.
    OfTheCall,
    /// Too many open files, no memory, no network: it passes.
    Passing,
    /// The listening socket itself.
    OfTheListener,
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::NotConnected
            | ErrorKind::Interrupted => Self::OfTheCall,
            // EINVAL: it does not listen. Anything unknown may pass, and a server that stays is better than one that ends.
            ErrorKind::InvalidInput => Self::OfTheListener,
            // EBADF.
            _ if error.raw_os_error() == Some(9) => Self::OfTheListener,
            _ => Self::Passing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::transport::Fixture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Tcp(&'static str);

    #[async_trait]
    impl Fixture for Tcp {
        async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>) {
            let listener = TcpAccess::bind(self.0, calls).await.unwrap();
            let dial = TcpDial::new([listener.local_address().unwrap().to_string()]);
            (Box::new(listener), Box::new(dial))
        }
    }

    mod v4 {
        crate::transport_tests!(super::Tcp("127.0.0.1:0"));
    }

    mod v6 {
        crate::transport_tests!(super::Tcp("[::1]:0"));
    }

    async fn failure(dial: &mut TcpDial) -> io::Error {
        dial.dial().await.err().unwrap()
    }

    #[tokio::test]
    async fn sockets_are_prepared_and_peers_are_addresses() {
        let mut access = TcpAccess::bind("127.0.0.1:0", 1).await.unwrap();
        let address = access.local_address().unwrap();
        let mut dial = TcpDial::new([address.to_string()]);
        let (outgoing, incoming) = tokio::join!(dial.dial(), access.accept());
        let (outgoing, incoming) = (outgoing.unwrap(), incoming.unwrap());
        assert_eq!(outgoing.peer, PeerInfo::at(address));
        assert!(incoming.peer.address.unwrap().ip().is_loopback());
        assert_eq!(
            (outgoing.profile, incoming.profile),
            (LinkProfile::TCP, LinkProfile::TCP)
        );

        let stream = TcpStream::connect(address).await.unwrap();
        prepare(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    }

    #[tokio::test]
    async fn the_next_address_is_called_where_one_does_not_answer() {
        let mut access = TcpAccess::bind("127.0.0.1:0", 8).await.unwrap();
        let good = access.local_address().unwrap().to_string();
        // A port that was free a moment ago.
        let dead = TcpAccess::bind("127.0.0.1:0", 1)
            .await
            .unwrap()
            .local_address()
            .unwrap()
            .to_string();
        let mut dial = TcpDial::new([dead.clone(), good.clone()]);
        for _ in 0..2 {
            let (outgoing, incoming) = tokio::join!(dial.dial(), access.accept());
            assert_eq!(outgoing.unwrap().peer.to_string(), good);
            incoming.unwrap();
            assert_eq!(dial.first, 1, "the one that answered is called first");
        }
        drop(access);
        let error = failure(&mut dial).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().starts_with(&dead),
            "the last that was called: {error}"
        );
    }

    #[tokio::test]
    async fn an_address_is_not_waited_for_for_ever() {
        // A full queue: nobody accepts, and the system answers no more.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..8 {
            waiting.push(tokio::spawn(TcpStream::connect(address)));
        }
        sleep(Duration::from_millis(100)).await;
        let mut dial = TcpDial::new([address.to_string()]).with_patience(Duration::from_millis(200));
        let error = failure(&mut dial).await;
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), format!("{address}: timed out"));
    }

    #[tokio::test]
    async fn without_an_address_there_is_nothing_to_call_or_to_listen_on() {
        let mut dial = TcpDial::new([] as [&str; 0]);
        assert_eq!(failure(&mut dial).await.kind(), ErrorKind::InvalidInput);
        let mut dial = TcpDial::new(["no port"]);
        assert_eq!(failure(&mut dial).await.kind(), ErrorKind::InvalidInput);
        let taken = TcpAccess::bind("127.0.0.1:0", 1).await.unwrap();
        let address = taken.local_address().unwrap();
        let error = TcpAccess::bind(address, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&address.to_string()));
    }

    #[tokio::test]
    async fn a_profile_goes_with_the_call() {
        let profile = LinkProfile {
            max_record: 1000,
            bits_per_second: Some(9600),
            ..LinkProfile::TCP
        };
        let mut access = TcpAccess::bind("127.0.0.1:0", 1).await.unwrap().with_profile(profile);
        let mut dial = TcpDial::new([access.local_address().unwrap().to_string()]).with_profile(profile);
        let (outgoing, incoming) = tokio::join!(dial.dial(), access.accept());
        let (mut outgoing, mut incoming) = (outgoing.unwrap(), incoming.unwrap());
        assert_eq!((outgoing.profile, incoming.profile), (profile, profile));
        outgoing.transport.write_all(b"hello").await.unwrap();
        assert_eq!(incoming.transport.read_u8().await.unwrap(), b'h');
    }

    #[test]
    fn troubles_are_sorted() {
        let of = |kind: ErrorKind| Trouble::of(&kind.into());
        assert_eq!(of(ErrorKind::ConnectionAborted), Trouble::OfTheCall);
        assert_eq!(of(ErrorKind::InvalidInput), Trouble::OfTheListener);
        assert_eq!(of(ErrorKind::OutOfMemory), Trouble::Passing);
        let of = |number| Trouble::of(&io::Error::from_raw_os_error(number));
        assert_eq!([of(23), of(24)], [Trouble::Passing, Trouble::Passing]);
        assert_eq!([of(9), of(22)], [Trouble::OfTheListener, Trouble::OfTheListener]);
    }
}
