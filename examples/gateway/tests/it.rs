//! Calls through a gateway whose ends the test holds in its hands.

use futures_util::{SinkExt, StreamExt};
use ipnet::IpNet;
use std::time::Duration;
use tms_core::transport::proxied::Proxied;
use tms_core::transport::tcp::TcpAccess;
use tms_core::transport::{Framing, Incoming, Listener};
use tms_gateway::config::{Config, Listen};
use tms_gateway::gateway::Gateway;
use tms_proto::envelope::{Envelope, Frame, Tpdu};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

/// A head office that believes gateways of this machine, and a gateway to it.
async fn start(envelope: Framing, change: impl FnOnce(&mut Config)) -> (Proxied<TcpAccess>, Gateway) {
    let office = TcpAccess::bind("127.0.0.1:0", 100).await.unwrap();
    let mut config = Config::to(vec![office.local_address().unwrap().to_string()]);
    let networks: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap()];
    config.listen.push(Listen {
        address: ([127, 0, 0, 1], 0).into(),
        envelope,
    });
    change(&mut config);
    let gateway = Gateway::start(&config).await.unwrap();
    (Proxied::new(office, networks), gateway)
}

async fn call(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(gateway.addresses()[0].0).await.unwrap()
}

#[tokio::test]
async fn frames_go_both_ways_each_in_the_envelope_of_its_side() {
    let (mut office, gateway) = start(Framing::Nac, |_| {}).await;
    let line = call(&gateway).await;
    let address = line.local_addr().unwrap();
    let mut terminal = Framed::new(line, Envelope::NAC);
    let tpdu = Tpdu {
        destination: [0x01, 0x34],
        source: [0x80, 0x05],
    };
    let frame = |payload: &'static [u8], tpdu| Frame {
        tpdu,
        payload: payload.into(),
    };
    terminal.send(frame(b"hello", Some(tpdu))).await.unwrap();

    let Incoming { transport, peer, .. } = office.accept().await.unwrap();
    assert_eq!(peer.address, Some(address));
    assert!(peer.gateway.is_some());
    let mut office = Framed::new(transport, Envelope::TCP);
    assert_eq!(office.next().await.unwrap().unwrap(), frame(b"hello", None));
    office.send(frame(b"answer", None)).await.unwrap();
    assert_eq!(
        terminal.next().await.unwrap().unwrap(),
        frame(b"answer", Some(tpdu.swapped()))
    );

    // What was sent before the end arrives before it.
    office.send(frame(b"goodbye", None)).await.unwrap();
    drop(office);
    assert_eq!(&terminal.next().await.unwrap().unwrap().payload[..], b"goodbye");
    assert!(terminal.next().await.is_none());
}

#[tokio::test]
async fn who_sends_no_frames_gets_nobody_into_trouble() {
    let (mut office, gateway) = start(Framing::StxBcd, |_| {}).await;
    let mut stranger = call(&gateway).await;
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut incoming = office.accept().await.unwrap();
    let mut heard = Vec::new();
    incoming.transport.read_to_end(&mut heard).await.unwrap();
    assert!(heard.is_empty(), "{heard:?}");
    let mut rest = Vec::new();
    let _cut = stranger.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_slow_terminal_makes_the_head_office_wait() {
    let (mut office, gateway) = start(Framing::Tcp, |_| {}).await;
    let _terminal = call(&gateway).await;
    let incoming = office.accept().await.unwrap();
    let mut office = Framed::new(incoming.transport, Envelope::TCP);
    let payload = bytes(16_000);
    let mut sent = 0;
    while let Ok(done) = tokio::time::timeout(
        Duration::from_millis(500),
        office.send(Frame {
            tpdu: None,
            payload: payload.clone(),
        }),
    )
    .await
    {
        done.unwrap();
        sent += payload.len();
        assert!(sent < 64 << 20, "what nobody reads is not kept");
    }
}

#[tokio::test]
async fn a_call_that_says_nothing_ends() {
    let (mut office, gateway) = start(Framing::Tcp, |config| config.limits.idle_seconds = 1).await;
    let mut terminal = call(&gateway).await;
    let mut incoming = office.accept().await.unwrap();
    let mut rest = Vec::new();
    incoming.transport.read_to_end(&mut rest).await.unwrap();
    terminal.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn no_more_calls_than_it_may_have_and_none_after_it_was_stopped() {
    let (mut office, gateway) = start(Framing::Tcp, |config| config.limits.calls = 1).await;
    let first = call(&gateway).await;
    let one = office.accept().await.unwrap();
    let _second = call(&gateway).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(200), office.accept())
            .await
            .is_err()
    );
    drop((first, one));
    let two = office.accept().await.unwrap();
    assert_eq!(gateway.calls(), 1);
    assert!(!gateway.stop(Duration::from_millis(100)).await);
    drop(two);
    assert!(gateway.stop(Duration::from_secs(60)).await);
}

fn bytes(length: usize) -> bytes::Bytes {
    vec![7; length].into()
}
