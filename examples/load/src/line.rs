//! What a whole session makes of a serial line: handshake, check-in and download over a link, on two ports that a line joins.

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
use tms_core::transport::linked::Linked;
use tms_core::transport::{Incoming, LinkProfile, PeerInfo};
use tms_proto::link::{Config, Counters, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Where the line is.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The server's port.
    #[arg(long)]
    a: String,
    /// The terminal's port.
    #[arg(long)]
    b: String,
    /// What the line carries each way, in bits a second, ten to the byte.
    #[arg(long, default_value_t = 9600)]
    rate: u32,
    /// The object's size, in bytes.
    #[arg(long, default_value_t = 256 * 1024)]
    size: usize,
    /// The link is not told the rate.
    #[arg(long)]
    unknown_rate: bool,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut object = vec![0; options.size];
    OsEntropy.fill(&mut object);
    let (server, digest, _directory) = crate::server::server(1, object, false).await?;
    let profile = LinkProfile::serial(options.rate);
    let times = Arc::new(Mutex::new(Times::default()));
    let port = |path: &str, role| -> Result<_> {
        let port = SerialPort::open(path, 9600).with_context(|| format!("opening {path}"))?;
        let config = Config {
            bits_per_second: (!options.unknown_rate).then_some(options.rate),
            ..Config::new(role)
        };
        let line = Timed {
            port,
            times: Arc::clone(&times),
        };
        Ok(Linked::new(line, config))
    };
    let (answering, calling) = (port(&options.a, Role::Answerer)?, port(&options.b, Role::Caller)?);
    let (far, near) = (answering.counting(), calling.counting());
    let incoming = Incoming {
        transport: Box::new(answering),
        peer: PeerInfo::on_line("line"),
        profile,
    };
    let serving = tokio::spawn(async move { server.session(incoming).await });
    let mut open = Client::new(1).open_over(calling, &profile).await?;
    open.download(digest, u64::from(profile.credit), true).await?;
    open.bye().await?;
    let (near, far) = (near.counters(), far.counters());
    drop(open);
    serving.await?;
    let elapsed = times.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
    let ideal = options.size as f64 * 10.0 / f64::from(options.rate);
    println!(
        "{} bytes at {} bit/s in {:.3} s, first byte to last: {:.2} % of the line",
        options.size,
        options.rate,
        elapsed.as_secs_f64(),
        100.0 * ideal / elapsed.as_secs_f64()
    );
    print("terminal", &near);
    print("server  ", &far);
    Ok(())
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
struct Timed {
    port: SerialPort,
    times: Arc<Mutex<Times>>,
}

impl AsyncRead for Timed {
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

impl AsyncWrite for Timed {
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
