//! Calls that a front end passes on: the PROXY protocol, version 2.
//!
//! A gateway in a branch ends the telephone call or the access server's connection, and forwards what is inside, which it
//! cannot read. What it has observed of the caller goes before it in a header: the caller's address, and in fields of our own
//! the line, the caller's number and the line's rate.
//!
//! | type | field | value |
//! |---|---|---|
//! | `E0` | line | its name: UTF-8, 1 to 64 bytes |
//! | `E1` | caller | number known (0), withheld (1) or out of area (2); source: modem (0), signalling (1), header (2); trust: unscreened (0), unknown (1), screened (2), network (3); the number, where it is known |
//! | `E2` | called number | as it was dialled |
//! | `E3` | rate | bits per second: 4 bytes, big-endian |
//!
//! A call that did not come over a network has the address 0.0.0.0, port 0.
//!
//! A header is believed from the addresses that the operator names, and from nobody else. Those must send one.

use super::{Caller, CallerNumber, CallerSource, Incoming, LinkProfile, Listener, PeerInfo, PhoneNumber, Trust};
use async_trait::async_trait;
use ipnet::IpNet;
use ppp::v2::{Addresses, Builder, Command, Header, PROTOCOL_PREFIX, Protocol, Version};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

/// Bytes before the part whose length the header says.
const FIXED: usize = 16;

/// The longest header that is read, in bytes, beyond the fixed part. Addresses take 36; ours take less than 200.
const MAX_REST: usize = 512;

/// How long a front end may take to send its header.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls whose header is awaited, at most: more wait before they are accepted.
const MAX_PENDING: usize = 1024;

/// The longest name of a line, in bytes.
const MAX_LINE: usize = 64;

/// Where a call comes from that did not come over a network. Readers take fields from behind addresses of a known family alone.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

const LINE: u8 = 0xE0;
const CALLER: u8 = 0xE1;
const CALLED: u8 = 0xE2;
const RATE: u8 = 0xE3;

/// The header for a call: what was observed of the `peer`, who reached the front end at `local`, over a line of this rate.
///
/// # Errors
/// Where the library cannot build it; with what a [`PeerInfo`] may hold it can.
pub fn header(peer: &PeerInfo, local: Option<SocketAddr>, bits_per_second: Option<u32>) -> io::Result<Vec<u8>> {
    let both = peer.address.zip(local).unwrap_or((NOWHERE, NOWHERE));
    let mut header = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, both);
    if let Some(line) = &peer.line {
        header = header.write_tlv(LINE, clip(line).as_bytes())?;
    }
    if let Some(caller) = &peer.caller {
        header = header.write_tlv(CALLER, &written(caller))?;
    }
    if let Some(called) = &peer.called {
        header = header.write_tlv(CALLED, called.as_str().as_bytes())?;
    }
    if let Some(rate) = bits_per_second {
        header = header.write_tlv(RATE, &rate.to_be_bytes())?;
    }
    header.build()
}

/// Takes calls that come through front ends, and calls that do not.
///
/// A call from an address of `trusted` begins with a header; what it says is the call's [`PeerInfo`], with the front end as
/// its gateway. One without a header, or with one that is not understood, is dropped. Calls from elsewhere pass as they are.
/// Headers are awaited beside each other: a front end that says nothing delays nobody.
pub struct Proxied<L> {
    listener: L,
    trusted: Vec<IpNet>,
    pending: JoinSet<io::Result<Incoming>>,
}

impl<L: Listener> Proxied<L> {
    /// Takes the calls of this listener.
    #[must_use]
    pub fn new(listener: L, trusted: Vec<IpNet>) -> Self {
        Self {
            listener,
            trusted,
            pending: JoinSet::new(),
        }
    }

    fn trusts(&self, peer: &PeerInfo) -> bool {
        // A socket for both families shows IPv4 callers in the form of IPv6.
        let caller = peer.address.map(|address| address.ip().to_canonical());
        caller.is_some_and(|ip: IpAddr| self.trusted.iter().any(|network| network.contains(&ip)))
    }
}

#[async_trait]
impl<L: Listener> Listener for Proxied<L> {
    async fn accept(&mut self) -> io::Result<Incoming> {
        loop {
            // Neither branch loses anything when the other is ready: `accept` keeps clause 6, and so does `join_next`.
            tokio::select! {
                Some(done) = self.pending.join_next() => match done {
                    Ok(Ok(incoming)) => return Ok(incoming),
                    Ok(Err(error)) => debug!(%error, "a front end's call was dropped"),
                    Err(error) => warn!(%error, "a header was not read"),
                },
                call = self.listener.accept(), if self.pending.len() < MAX_PENDING => {
                    let incoming = call?;
                    if !self.trusts(&incoming.peer) {
                        return Ok(incoming);
                    }
                    self.pending.spawn(async move {
                        let gateway = incoming.peer.address;
                        let read = timeout(PATIENCE, read(incoming)).await;
                        let read = read.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
                        read.inspect_err(|error| {
                            warn!(?gateway, %error, "no PROXY header from a front end that must send one, call dropped");
                        })
                    });
                }
            }
        }
    }
}

/// Reads the header, and not a byte more.
async fn read(mut incoming: Incoming) -> io::Result<Incoming> {
    let mut bytes = vec![0; FIXED];
    incoming.transport.read_exact(&mut bytes).await?;
    let length = match bytes.last_chunk::<2>() {
        Some(length) if bytes.starts_with(PROTOCOL_PREFIX) => usize::from(u16::from_be_bytes(*length)),
        _ => return Err(malformed("it does not begin with one")),
    };
    if length > MAX_REST {
        return Err(malformed("it is too long"));
    }
    bytes.resize(FIXED + length, 0);
    let rest = bytes.get_mut(FIXED..).unwrap_or_default();
    incoming.transport.read_exact(rest).await?;
    let header = Header::try_from(bytes.as_slice()).map_err(|error| malformed(&error.to_string()))?;
    apply(&header, &mut incoming.peer, &mut incoming.profile)?;
    Ok(incoming)
}

/// Takes over what a header says.
fn apply(header: &Header<'_>, peer: &mut PeerInfo, profile: &mut LinkProfile) -> io::Result<()> {
    if header.command == Command::Local {
        // The front end's own call, to see whether we are there.
        return Ok(());
    }
    let gateway = peer.address;
    *peer = PeerInfo {
        gateway,
        ..PeerInfo::default()
    };
    peer.address = match header.addresses {
        Addresses::IPv4(addresses) => Some((addresses.source_address, addresses.source_port).into()),
        Addresses::IPv6(addresses) => Some((addresses.source_address, addresses.source_port).into()),
        Addresses::Unspecified | Addresses::Unix(_) => None,
    };
    peer.address = peer.address.filter(|address| !address.ip().is_unspecified());
    for field in header.tlvs() {
        let field = field.map_err(|error| malformed(&error.to_string()))?;
        let value = field.value.as_ref();
        match field.kind {
            LINE => peer.line = Some(line(value)?),
            CALLER => peer.caller = Some(caller(value)?),
            CALLED => peer.called = Some(number(value)?),
            RATE => {
                let rate = <[u8; 4]>::try_from(value).map_err(|_| malformed("the rate is not four bytes"))?;
                let serial = LinkProfile::serial(u32::from_be_bytes(rate));
                *profile = LinkProfile {
                    envelope: profile.envelope,
                    ..serial
                };
            }
            // Those of others are theirs.
            _ => {}
        }
    }
    Ok(())
}

fn line(value: &[u8]) -> io::Result<String> {
    let name = std::str::from_utf8(value).map_err(|_| malformed("the line's name is not UTF-8"))?;
    if name.is_empty() || name.len() > MAX_LINE || name.chars().any(char::is_control) {
        return Err(malformed("the line's name is not one"));
    }
    Ok(name.to_owned())
}

fn written(caller: &Caller) -> Vec<u8> {
    let (kind, number) = match &caller.number {
        CallerNumber::Known(number) => (0, number.as_str()),
        CallerNumber::Withheld => (1, ""),
        CallerNumber::OutOfArea => (2, ""),
    };
    let source = match caller.source {
        CallerSource::Modem => 0,
        CallerSource::Signalling => 1,
        CallerSource::Header => 2,
    };
    let trust = match caller.trust {
        Trust::Unscreened => 0,
        Trust::Unknown => 1,
        Trust::Screened => 2,
        Trust::Network => 3,
    };
    [&[kind, source, trust], number.as_bytes()].concat()
}

fn caller(value: &[u8]) -> io::Result<Caller> {
    let Some((&[kind, source, trust], rest)) = value.split_first_chunk::<3>() else {
        return Err(malformed("the caller is too short"));
    };
    let number = match kind {
        0 => CallerNumber::Known(number(rest)?),
        1 => CallerNumber::Withheld,
        2 => CallerNumber::OutOfArea,
        _ => return Err(malformed("the caller's kind is not known")),
    };
    let source = match source {
        0 => CallerSource::Modem,
        1 => CallerSource::Signalling,
        2 => CallerSource::Header,
        _ => return Err(malformed("the caller's source is not known")),
    };
    let trust = match trust {
        0 => Trust::Unscreened,
        1 => Trust::Unknown,
        2 => Trust::Screened,
        3 => Trust::Network,
        _ => return Err(malformed("the caller's trust is not known")),
    };
    Ok(Caller { number, source, trust })
}

fn number(value: &[u8]) -> io::Result<PhoneNumber> {
    let text = std::str::from_utf8(value).map_err(|_| malformed("a number is not text"))?;
    text.parse().map_err(|_| malformed("a number is not one"))
}

/// The beginning of a name, as much as a header may have.
fn clip(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX_LINE)).unwrap_or(name)
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed PROXY header: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::memory;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    fn peers() -> Vec<PeerInfo> {
        let number: PhoneNumber = "+862155501234".parse().unwrap();
        let caller = |number| {
            Some(Caller {
                number,
                source: CallerSource::Modem,
                trust: Trust::Network,
            })
        };
        vec![
            PeerInfo::at("192.0.2.7:40123".parse().unwrap()),
            PeerInfo::at("[2001:db8::7]:40123".parse().unwrap()),
            PeerInfo::on_line("modem 3"),
            PeerInfo {
                caller: caller(CallerNumber::Known(number.clone())),
                called: Some(number),
                ..PeerInfo::on_line("modem 3")
            },
            PeerInfo {
                caller: caller(CallerNumber::Withheld),
                ..PeerInfo::on_line("modem 3")
            },
            PeerInfo {
                caller: caller(CallerNumber::OutOfArea),
                ..PeerInfo::default()
            },
        ]
    }

    /// Sends bytes, and gives what becomes of a call that begins with them.
    async fn call(bytes: &[u8]) -> io::Result<Incoming> {
        let (near, mut far) = memory::pair();
        far.write_all(bytes).await.unwrap();
        drop(far);
        read(Incoming {
            transport: Box::new(near),
            peer: PeerInfo::at("10.0.0.1:9000".parse().unwrap()),
            profile: LinkProfile::TCP,
        })
        .await
    }

    #[tokio::test]
    async fn what_a_front_end_observed_arrives_and_the_call_goes_on_behind_it() {
        for peer in peers() {
            let local = match peer.address {
                Some(SocketAddr::V6(_)) => "[::1]:7400",
                _ => "127.0.0.1:7400",
            };
            let mut bytes = header(&peer, local.parse().ok(), Some(9600)).unwrap();
            bytes.extend_from_slice(b"hello");
            let mut incoming = call(&bytes).await.unwrap();
            let mut rest = Vec::new();
            incoming.transport.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"hello");
            assert_eq!(incoming.peer.gateway, "10.0.0.1:9000".parse().ok());
            assert_eq!(
                PeerInfo {
                    gateway: None,
                    ..incoming.peer
                },
                peer
            );
            assert_eq!(incoming.profile, LinkProfile::serial(9600));
        }
    }

    #[tokio::test]
    async fn a_front_ends_own_call_is_its_own() {
        let local = Builder::new(Version::Two | Command::Local, 0).build().unwrap();
        let incoming = call(&local).await.unwrap();
        assert_eq!(incoming.peer, PeerInfo::at("10.0.0.1:9000".parse().unwrap()));
        assert_eq!(incoming.profile, LinkProfile::TCP);
    }

    #[tokio::test]
    async fn what_is_no_header_is_dropped() {
        let good = header(&peers()[3], None, Some(9600)).unwrap();
        for cut in 0..good.len() {
            assert!(call(&good[..cut]).await.is_err(), "{cut}");
        }
        let mut long = good.clone();
        long[14] = 3;
        assert!(call(&long).await.is_err());
        let field = |kind: u8, value: &[u8]| {
            let builder = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (NOWHERE, NOWHERE));
            builder.write_tlv(kind, value).unwrap().build().unwrap()
        };
        for (kind, value) in [
            (LINE, &b""[..]),
            (LINE, b"a\r\nATH"),
            (LINE, &[0xFF]),
            (LINE, &[b'a'; 65]),
            (CALLER, b"\x00\x00"),
            (CALLER, b"\x03\x00\x00"),
            (CALLER, b"\x01\x03\x00"),
            (CALLER, b"\x01\x00\x04"),
            (CALLER, b"\x00\x00\x00; rm -rf"),
            (CALLED, b""),
            (RATE, b"\x00\x25\x80"),
        ] {
            let error = call(&field(kind, value)).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{kind:x} {value:?}");
        }
        // What another front end adds is left alone.
        assert!(call(&field(0x05, b"id")).await.is_ok());
    }

    /// Gives the calls that it is given.
    struct Given(tokio::sync::mpsc::UnboundedReceiver<Incoming>);

    #[async_trait]
    impl Listener for Given {
        async fn accept(&mut self) -> io::Result<Incoming> {
            self.0.recv().await.ok_or_else(|| ErrorKind::BrokenPipe.into())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_those_who_are_trusted_are_believed_and_who_says_nothing_delays_nobody() {
        let (calls, given) = tokio::sync::mpsc::unbounded_channel();
        let mut listener = Proxied::new(Given(given), vec!["10.0.0.0/8".parse().unwrap()]);
        let mut ends = Vec::new();
        let mut begin = |address: &str| {
            let (near, far) = memory::pair();
            let peer = PeerInfo::at(address.parse().unwrap());
            let incoming = Incoming {
                transport: Box::new(near),
                peer,
                profile: LinkProfile::TCP,
            };
            assert!(calls.send(incoming).is_ok());
            ends.push(far);
            ends.len() - 1
        };
        let (silent, liar, gateway) = (begin("10.0.0.1:1"), begin("192.0.2.66:1"), begin("[::ffff:10.0.0.2]:1"));
        let header = header(&peers()[3], None, None).unwrap();
        ends[liar].write_all(&header).await.unwrap();
        ends[gateway].write_all(&header).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.push(listener.accept().await.unwrap().peer);
        }
        seen.sort_by_key(|peer| peer.gateway.is_some());
        assert_eq!(seen[0], PeerInfo::at("192.0.2.66:1".parse().unwrap()));
        assert_eq!(seen[1].line.as_deref(), Some("modem 3"));
        // The silent one is dropped after a while, and not before.
        let mut byte = [0];
        let accept = tokio::spawn(async move { listener.accept().await.map(|incoming| incoming.peer) });
        assert_eq!(ends[silent].read(&mut byte).await.unwrap(), 0);
        drop(calls);
        assert!(accept.await.unwrap().is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_front_end_sends_is_a_call_or_an_error(rest in proptest::collection::vec(any::<u8>(), 0..80)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut bytes = PROTOCOL_PREFIX.to_vec();
            bytes.extend(rest);
            let _ = runtime.block_on(call(&bytes));
        }
    }
}
