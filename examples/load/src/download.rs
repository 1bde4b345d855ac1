//! Download rate of one session over loopback, beside the AEAD alone.

use crate::client::Client;
use crate::process::Server;
use anyhow::{Context, Result};
use clap::Args;
use std::hint::black_box;
use tms_proto::digest::{Digest, Hasher};
use tms_proto::handshake::{Hello, Initiator, Mode, Responder, Suite};
use tms_proto::record::{Content, MAX_PLAINTEXT, Records};
use tms_proto::secret::Psk;
use tokio::time::Instant;

/// How the download is measured.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The object's size, in MiB.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Credit, in KiB.
    #[arg(long, default_value_t = 1024)]
    window: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 64,
            rounds: 5,
            window: 1024,
        }
    }
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let size = options.size << 20;
    let server = Server::start(&["serve", "--object", &size.to_string()]).await?;
    let digest: Digest = server.words.first().context("the server named no object")?.parse()?;
    let mut client = Client::new(1);
    println!("download of {} MiB in one session over loopback:", options.size);
    let mut ratios = [const { Vec::new() }; 3];
    let mut memory = Vec::new();
    for round in 1..=options.rounds {
        let alone = aead(size)?;
        let opened = session(&mut client, &server, digest, options, false).await? / alone;
        let digested = session(&mut client, &server, digest, options, true).await? / alone;
        let digest_alone = sha256(size) / alone;
        memory.push(server.memory()?);
        println!(
            "  round {round}, sealing alone {alone:.0} MB/s = 1: sealed and opened {opened:.2}, digested as well \
             {digested:.2}, digesting alone {digest_alone:.2}"
        );
        for (ratios, ratio) in ratios.iter_mut().zip([opened, digested, digest_alone]) {
            ratios.push(ratio);
        }
    }
    let [opened, digested, digest_alone] = ratios.map(|mut ratios| {
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    });
    println!("sealed and every record opened / sealing alone, median: {opened:.2} (bar: at least 0.50)");
    println!("the same, with the object's SHA-256 in the same thread: {digested:.2}; SHA-256 alone: {digest_alone:.2}");
    println!(
        "server memory after the first and the last download: {} and {} KiB\n",
        memory.first().copied().unwrap_or_default() >> 10,
        memory.last().copied().unwrap_or_default() >> 10
    );
    Ok(())
}

/// Rate of one download in a session of its own, in MB/s.
async fn session(
    client: &mut Client,
    server: &Server,
    digest: Digest,
    options: &Options,
    digested: bool,
) -> Result<f64> {
    let mut open = client.open(&server.address).await?;
    let start = Instant::now();
    let bytes = open.download(digest, options.window << 10, digested).await?;
    Ok(bytes as f64 / start.elapsed().as_secs_f64() / 1e6)
}

/// Rate of SHA-256 and nothing else, over as many bytes in parts of a record, in MB/s.
fn sha256(size: usize) -> f64 {
    let part = vec![0x5A; MAX_PLAINTEXT - 9];
    let mut hasher = Hasher::new();
    let start = Instant::now();
    for _ in 0..size / part.len() {
        hasher.update(black_box(&part));
    }
    black_box(hasher.finish());
    size as f64 / start.elapsed().as_secs_f64() / 1e6
}

/// Rate of sealing full records and nothing else, in MB/s.
fn aead(size: usize) -> Result<f64> {
    let (mut records, _) = pair()?;
    let body = vec![0x5A; MAX_PLAINTEXT - 1];
    let mut out = Vec::with_capacity(2 * MAX_PLAINTEXT + 64);
    let start = Instant::now();
    for _ in 0..size / body.len() {
        out.clear();
        records.seal(Content::Object, black_box(&body), &mut out)?;
        black_box(&out);
    }
    Ok(size as f64 / start.elapsed().as_secs_f64() / 1e6)
}

/// Two ends of a session.
fn pair() -> Result<(Records, Records)> {
    let psk = Psk::new([1; 32]);
    let mut hello = Hello::new(Mode::Ticket, &[Suite::ChaChaPoly]);
    hello.id = Some(vec![0; 16].into());
    let hello = hello.encode();
    let mut one = Initiator::new(&hello, Mode::Ticket, Suite::ChaChaPoly, None, Some(&psk), [1; 32])?;
    let mut other = Responder::new(&hello, Mode::Ticket, Suite::ChaChaPoly, None, Some(&psk), [2; 32])?;
    other.first(&one.first(b"")?)?;
    one.second(&other.second(b"")?)?;
    Ok((other.finish()?, one.finish()?))
}
