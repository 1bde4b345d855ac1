//! What a whole session makes of a serial line: handshake, check-in and download over a link, on simulated lines or on two ports
//! that a line joins.

use crate::client::Client;
use anyhow::{Context as _, Result};
use clap::Args;
use serial2_tokio::SerialPort;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::server::Server;
use tms_core::transport::linked::Linked;
use tms_core::transport::{Incoming, LinkProfile, PeerInfo};
use tms_proto::digest::Digest;
use tms_proto::link::{Config, Counters, Role};
use tms_transport_serial::testing::{Bursts, Line, Noise, cable};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where the line is.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The server's port. Where no ports are given, lines of all kinds are simulated in this program, at once and in real time.
    #[arg(long, requires = "b")]
    a: Option<String>,
    /// The terminal's port.
    #[arg(long, requires = "a")]
    b: Option<String>,
    /// How often each kind of line is simulated, each time with noise of its own.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10))]
    seeds: u64,
    /// What the line carries each way, in bits a second, ten to the byte.
    #[arg(long, default_value_t = 9600, value_parser = clap::value_parser!(u32).range(300..))]
    rate: u32,
    /// The object's size, in bytes.
    #[arg(long, default_value_t = 256 * 1024)]
    size: usize,
    /// The link is not told the rate.
    #[arg(long)]
    unknown_rate: bool,
}

/// A kind of line that is simulated.
struct Simulated {
    name: &'static str,
    noise: Noise,
    /// How long a byte is on its way, in milliseconds.
    latency: u64,
    /// The share of the line that is wanted at 9,600 bit/s, in percent.
    bar: f64,
}

const QUIET: Noise = Noise {
    bits_per_million: 0,
    framing: false,
    bursts: None,
};

const LINES: [Simulated; 6] = [
    Simulated {
        name: "no errors",
        noise: QUIET,
        latency: 100,
        bar: 95.0,
    },
    Simulated {
        name: "bit error rate 1e-5",
        noise: Noise {
            bits_per_million: 10,
            ..QUIET
        },
        latency: 100,
        bar: 92.0,
    },
    Simulated {
        name: "bit error rate 1e-4",
        noise: Noise {
            bits_per_million: 100,
            ..QUIET
        },
        latency: 100,
        bar: 80.0,
    },
    Simulated {
        name: "bursts of 5 bytes, one in 1,667",
        noise: Noise {
            bursts: Some(Bursts { every: 1_667, bytes: 5 }),
            ..QUIET
        },
        latency: 100,
        bar: 80.0,
    },
    Simulated {
        name: "1e-4 over start and stop bits too",
        noise: Noise {
            bits_per_million: 100,
            framing: true,
            bursts: None,
        },
        latency: 100,
        bar: 75.0,
    },
    Simulated {
        name: "1e-5, 400 ms one way",
        noise: Noise {
            bits_per_million: 10,
            ..QUIET
        },
        latency: 400,
        bar: 91.0,
    },
];

/// What a session came to.
struct Measured {
    elapsed: Duration,
    terminal: Counters,
    server: Counters,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut object = vec![0; options.size];
    OsEntropy.fill(&mut object);
    let terminals = LINES.len() as u64 * options.seeds;
    let (server, digest, _directory) = crate::server::server(terminals, object, false).await?;
    let (Some(a), Some(b)) = (&options.a, &options.b) else {
        return simulate(options, &server, digest).await;
    };
    let port = |path: &str| SerialPort::open(path, 9600).with_context(|| format!("opening {path}"));
    let done = session(&server, 1, digest, (port(a)?, port(b)?), options).await?;
    println!(
        "{} bytes at {} bit/s in {:.3} s, first byte to last: {:.2} % of the line",
        options.size,
        options.rate,
        done.elapsed.as_secs_f64(),
        share(&done, options)
    );
    print("terminal", &done.terminal);
    print("server  ", &done.server);
    Ok(())
}

/// All kinds of lines at once.
async fn simulate(options: &Options, server: &Server, digest: Digest) -> Result<()> {
    let mut sessions = JoinSet::new();
    let mut id = 0;
    for (index, kind) in LINES.iter().enumerate() {
        for seed in 1..=options.seeds {
            let (far, near) = cable(Line {
                bits_per_second: options.rate,
                latency: Duration::from_millis(kind.latency),
                noise: kind.noise,
                seed,
                ..Line::default()
            });
            id += 1;
            let (server, options) = (server.clone(), options.clone());
            sessions.spawn(async move {
                let ports = (far.opener().open()?, near.opener().open()?);
                anyhow::Ok((index, session(&server, id, digest, ports, &options).await?))
            });
        }
    }
    println!(
        "{} bytes at {} bit/s over simulated lines, each {} times; of the line, from the first byte to the last:",
        options.size, options.rate, options.seeds
    );
    let mut shares: [Vec<f64>; LINES.len()] = Default::default();
    while let Some(done) = sessions.join_next().await {
        let (index, done) = done??;
        shares[index].push(share(&done, options));
    }
    for (kind, mut shares) in LINES.iter().zip(shares) {
        shares.sort_by(f64::total_cmp);
        println!(
            "  {:<36}{:>7.2} to {:.2} % (bar at 9,600 bit/s: {})",
            kind.name,
            shares[0],
            shares[shares.len() - 1],
            kind.bar
        );
    }
    Ok(())
}

/// A whole session of a terminal over a line that joins two ports, the server's and the terminal's.
async fn session<P>(
    server: &Server,
    id: u64,
    digest: Digest,
    (answering, calling): (P, P),
    options: &Options,
) -> Result<Measured>
where
    P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let profile = LinkProfile::serial(options.rate);
    let times = Arc::new(Mutex::new(Times::default()));
    let link = |port, role| {
        let config = Config {
            bits_per_second: (!options.unknown_rate).then_some(options.rate),
            ..Config::new(role)
        };
        let times = Arc::clone(&times);
        Linked::new(Timed { port, times }, config)
    };
    let (answering, calling) = (link(answering, Role::Answerer), link(calling, Role::Caller));
    let (far, near) = (answering.counting(), calling.counting());
    let incoming = Incoming {
        transport: Box::new(answering),
        peer: PeerInfo::on_line("line"),
        profile,
    };
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.session(incoming).await }
    });
    let mut open = Client::new(id).open_over(calling, &profile).await?;
    open.download(digest, u64::from(profile.credit), true).await?;
    open.bye().await?;
    let (terminal, server) = (near.counters(), far.counters());
    drop(open);
    serving.await?;
    let elapsed = times.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
    Ok(Measured {
        elapsed,
        terminal,
        server,
    })
}

/// What the object's bytes took of the line, in percent.
fn share(done: &Measured, options: &Options) -> f64 {
    let ideal = options.size as f64 * 10.0 / f64::from(options.rate);
    100.0 * ideal / done.elapsed.as_secs_f64()
}

fn print(who: &str, counters: &Counters) {
    let Counters {
        octets_out,
        octets_in,
        pieces,
        repeated,
        statuses,
        timeouts,
        good,
        mended,
        bad,
        ..
    } = counters;
    println!(
        "  {who} sent {octets_out} octets: {pieces} pieces ({repeated} again), {statuses} statuses, {timeouts} time-outs; \
         received {octets_in}: {good} frames ({mended} mended), {bad} bad"
    );
}

/// When the first byte was written and the last was read.
#[derive(Default)]
struct Times {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Times {
    fn elapsed(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        }
    }
}

/// A port that notes times.
struct Timed<P> {
    port: P,
    times: Arc<Mutex<Times>>,
}

impl<P: AsyncRead + Unpin> AsyncRead for Timed<P> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.port).poll_read(cx, buffer);
        if outcome.is_ready() && buffer.filled().len() > before {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            times.last = Some(Instant::now());
        }
        outcome
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for Timed<P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            times.first.get_or_insert_with(Instant::now);
        }
        Pin::new(&mut self.port).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_shutdown(cx)
    }
}
