//! Each handshake mode, both sides in one thread, beside rustls full and resumed.

use crate::tls::Keys;
use anyhow::{Context, Result};
use clap::Args;
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tms_core::signer::{PemSigner, Signer};
use tms_proto::certificate::{Anchors, Authority, CERTIFICATE_DOMAIN, Certificate, CertificateBody, Date, Subject};
use tms_proto::code::Role;
use tms_proto::credential::{CHANNEL_DOMAIN, ChannelCertificate, Checks, Credentials, VerifiedPeer, statement};
use tms_proto::handshake::{Hello, Initiator, Mode, Responder, StaticKey, Suite};
use tms_proto::identity::Holder;
use tms_proto::secret::Psk;
use tokio::time::Instant;

/// How the handshakes are measured.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Handshakes of each kind in each round.
    #[arg(long, default_value_t = 300)]
    count: u32,
    /// Rounds, all kinds in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { count: 300, rounds: 5 }
    }
}

struct Party {
    static_key: StaticKey,
    credentials: Credentials,
    anchors: Anchors,
    role: Role,
}

type Kind<'a> = (&'static str, Box<dyn Fn() -> Result<()> + 'a>);

pub(crate) fn run(options: &Options) -> Result<()> {
    let (server, terminal) = (party(true)?, party(false)?);
    let keys = Keys::generate()?;
    let (tls_server, tls_client) = (Arc::new(keys.server()?), Arc::new(keys.client()?));
    let psk = Psk::new([7; 32]);
    let kinds: Vec<Kind<'_>> = vec![
        (
            "mode 1, nothing remembered",
            Box::new(|| with_keys(Mode::Rsa, &server, &terminal, None, false)),
        ),
        (
            "mode 1, both remembered",
            Box::new(|| with_keys(Mode::Rsa, &server, &terminal, None, true)),
        ),
        ("mode 2, main-control key", Box::new(|| with_psk(Mode::MainKey, &psk))),
        ("mode 3, ticket", Box::new(|| with_psk(Mode::Ticket, &psk))),
        (
            "mode 4, both, remembered",
            Box::new(|| with_keys(Mode::Both, &server, &terminal, Some(&psk), true)),
        ),
        (
            "rustls, full",
            Box::new(|| {
                // A client that has never been here.
                let client = Arc::new(keys.client()?);
                tls_handshake(&tls_server, &client, rustls::HandshakeKind::Full)
            }),
        ),
        (
            "rustls, resumed",
            Box::new(|| tls_handshake(&tls_server, &tls_client, rustls::HandshakeKind::Resumed)),
        ),
    ];
    // The resumed kind needs a first connection.
    let _ = tls_handshake(&tls_server, &tls_client, rustls::HandshakeKind::Full);
    let mut times = vec![Vec::new(); kinds.len()];
    for _ in 0..options.rounds {
        for (times, (_, handshake)) in times.iter_mut().zip(&kinds) {
            let start = Instant::now();
            for _ in 0..options.count {
                handshake()?;
            }
            times.push(start.elapsed() / options.count);
        }
    }
    println!(
        "handshake, both sides together, one thread; median of {} rounds:",
        options.rounds
    );
    let medians: Vec<Duration> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            times[times.len() / 2]
        })
        .collect();
    let (full, resumed) = (
        medians[medians.len() - 2].as_secs_f64(),
        medians[medians.len() - 1].as_secs_f64(),
    );
    for ((name, _), median) in kinds.iter().zip(&medians) {
        let median = median.as_secs_f64();
        println!(
            "  {name:28} {:.3} ms  {:.2} x rustls full, {:.2} x resumed",
            median * 1e3,
            median / full,
            median / resumed
        );
    }
    println!();
    Ok(())
}

fn with_psk(mode: Mode, psk: &Psk) -> Result<()> {
    let mut hello = Hello::new(mode, &[Suite::ChaChaPoly]);
    hello.id = Some(vec![0; if mode == Mode::Ticket { 16 } else { 8 }].into());
    hello.epoch = (mode == Mode::MainKey).then_some(1);
    let hello = hello.encode();
    let mut one = Initiator::new(&hello, mode, Suite::ChaChaPoly, None, Some(psk), [1; 32])?;
    let mut other = Responder::new(&hello, mode, Suite::ChaChaPoly, None, Some(psk), [2; 32])?;
    other.first(&one.first(&[0; 60])?)?;
    one.second(&other.second(&[0; 80])?)?;
    one.finish()?;
    other.finish()?;
    Ok(())
}

fn with_keys(mode: Mode, server: &Party, terminal: &Party, psk: Option<&Psk>, remembered: bool) -> Result<()> {
    let mut hello = Hello::new(mode, &[Suite::ChaChaPoly]);
    hello.id = (mode == Mode::Both).then(|| vec![0; 8].into());
    hello.epoch = (mode == Mode::Both).then_some(1);
    let hello = hello.encode();
    let mut one = Initiator::new(
        &hello,
        mode,
        Suite::ChaChaPoly,
        Some(&terminal.static_key),
        psk,
        [1; 32],
    )?;
    let mut other = Responder::new(&hello, mode, Suite::ChaChaPoly, Some(&server.static_key), psk, [2; 32])?;
    other.first(&one.first(b"")?)?;
    one.second(&other.second(if remembered { &[] } else { server.credentials.encode() })?)?;
    server.verify(one.remote_static().context("no static key")?, remembered)?;
    other.third(&one.third(if remembered { &[] } else { terminal.credentials.encode() })?)?;
    terminal.verify(other.remote_static().context("no static key")?, remembered)?;
    one.finish()?;
    other.finish()?;
    Ok(())
}

impl Party {
    fn verify(&self, static_key: [u8; 32], remembered: bool) -> Result<()> {
        if !remembered {
            let credentials = Credentials::decode(self.credentials.encode())?;
            let checks = Checks {
                time: None,
                ..Checks::of_terminal(0, 0)
            };
            let peer: VerifiedPeer = credentials.verify(&self.anchors, self.role, static_key, &checks)?;
            anyhow::ensure!(peer.static_key() == static_key);
        }
        Ok(())
    }
}

fn party(server: bool) -> Result<Party> {
    let signer = PemSigner::from_pem(&PemSigner::generate(2048)?)?;
    let key = signer.public_key().clone();
    let holder = Holder {
        vendor: "PAX".to_owned(),
        model: "P80".to_owned(),
        serial: "1".to_owned(),
    };
    let subject = if server {
        Subject::Server {
            organisation: "load".to_owned(),
            group: "one".to_owned(),
        }
    } else {
        Subject::Terminal(holder)
    };
    let role = subject.role();
    let body = CertificateBody {
        authority: Authority::from(key.id()),
        key: key.clone(),
        subject,
        effective: Date::MIN,
        expiry: Date::MAX,
    };
    let sign = |domain, message: &[u8]| {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(signer.sign(domain, message)))
    };
    let certificate = Certificate::assemble(&body, &sign(CERTIFICATE_DOMAIN, &body.to_be_signed())?)?;
    let static_key = StaticKey::from_secret([if server { 3 } else { 4 }; 32]);
    let signed = statement(role, 1, 0, 86_400, static_key.public(), &certificate);
    let signature = sign(CHANNEL_DOMAIN, &signed)?.into();
    let channel = ChannelCertificate {
        epoch: 1,
        not_before: 0,
        not_after: 86_400,
        signature,
    };
    Ok(Party {
        static_key,
        credentials: Credentials::new(certificate, channel),
        anchors: Anchors::root(key),
        role,
    })
}

fn tls_handshake(
    server: &Arc<rustls::ServerConfig>,
    client: &Arc<rustls::ClientConfig>,
    expected: rustls::HandshakeKind,
) -> Result<()> {
    let mut one = ClientConnection::new(Arc::clone(client), ServerName::try_from("localhost")?)?;
    let mut other = ServerConnection::new(Arc::clone(server))?;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        while one.wants_write() {
            one.write_tls(&mut buffer)?;
        }
        let mut sent = buffer.as_slice();
        while !sent.is_empty() {
            other.read_tls(&mut sent)?;
            other.process_new_packets()?;
        }
        let quiet = buffer.is_empty();
        buffer.clear();
        while other.wants_write() {
            other.write_tls(&mut buffer)?;
        }
        let mut sent = buffer.as_slice();
        while !sent.is_empty() {
            one.read_tls(&mut sent)?;
            one.process_new_packets()?;
        }
        if quiet && buffer.is_empty() {
            break;
        }
    }
    anyhow::ensure!(
        !one.is_handshaking() && !other.is_handshaking(),
        "the TLS handshake did not end"
    );
    anyhow::ensure!(
        other.handshake_kind() == Some(expected),
        "the TLS handshake was {:?}",
        other.handshake_kind()
    );
    Ok(())
}
