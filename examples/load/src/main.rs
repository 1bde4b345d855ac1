//! Measures a server beside the peers that it is to be compared with, in one run: ratios hold when a machine's speed
//! drifts, single figures do not.

mod check_in;
mod client;
mod download;
mod growth;
mod handshake;
mod idle;
mod line;
mod pool;
mod process;
mod represent;
mod server;
mod slots;
mod tls;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures a terminal management server beside its peers. Build it with --release.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Server CPU of a complete, durable check-in with nothing to do, beside resumed mutual TLS that stores nothing.
    CheckIn(check_in::Options),
    /// Server CPU of a check-in with many terminals and many tasks, beside one with few terminals and none.
    Growth(growth::Options),
    /// Each handshake mode, both sides, beside rustls full and resumed.
    Handshake(handshake::Options),
    /// Download rate of one session over loopback, sealed and verified, beside the AEAD alone.
    Download(download::Options),
    /// Memory of idle authenticated sessions in the server.
    Idle(idle::Options),
    /// Use that a whole session makes of serial lines with noise, simulated here or between two ports: handshakes included.
    Line(line::Options),
    /// CPU of calls to a pool of modem lines, each with calls back to back.
    Pool(pool::Options),
    /// Occupancy, waiting and missed windows of a pool of lines over a month, in virtual time.
    Slots(slots::Options),
    /// Sizes of a content as terminals download it: whole, compressed, and as the difference to what they run.
    Represent(represent::Options),
    /// All of these but growth, lines, pool, slots and sizes, with their defaults.
    All,
    /// A server process of the measurements; they start it themselves.
    #[command(hide = true)]
    Serve(server::Options),
    /// A TLS server process of the measurements; they start it themselves.
    #[command(hide = true)]
    ServeTls(tls::Options),
}

fn main() -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; its figures mean nothing. Use --release.");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match Arguments::parse().command {
            Command::CheckIn(options) => check_in::run(&options).await,
            Command::Growth(options) => growth::run(&options).await,
            Command::Handshake(options) => handshake::run(&options),
            Command::Download(options) => download::run(&options).await,
            Command::Idle(options) => idle::run(&options).await,
            Command::Line(options) => line::run(&options).await,
            Command::Pool(options) => pool::run(&options).await,
            Command::Slots(options) => {
                slots::run(&options);
                Ok(())
            }
            Command::Represent(options) => represent::run(&options),
            Command::All => {
                check_in::run(&check_in::Options::default()).await?;
                handshake::run(&handshake::Options::default())?;
                download::run(&download::Options::default()).await?;
                idle::run(&idle::Options::default()).await
            }
            Command::Serve(options) => server::run(&options).await,
            Command::ServeTls(options) => tls::serve(&options).await,
        }
    })
}
