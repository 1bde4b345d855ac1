//! `tms-line-lab`: dial-up updates without a modem.

mod lab;

use anyhow::{Context, Result};
use clap::Parser;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;
use tms_transport_serial::testing::{Bursts, Line, Noise};

/// A line laboratory: a real server with a pool of modems, and real terminals that call it by telephone, all in this program.
///
/// The modems, the telephone exchange and the lines between them are simulated: AT commands, rings, caller identification,
/// rate, delay, noise and hang-ups. Everything else is what runs in production. What it prints at the end is read back from the
/// store.
#[derive(Parser)]
#[command(name = "tms-line-lab", version, max_term_width = 100, after_long_help = AFTER)]
struct Args {
    /// Terminals that call.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    terminals: u16,
    /// Lines of the pool. Terminals that find all engaged call again.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    lines: u16,
    /// Bits per second of each line, ten to the byte.
    #[arg(long, default_value_t = 9600, value_parser = clap::value_parser!(u32).range(300..=1_000_000))]
    rate: u32,
    /// How long a byte is on its way, in milliseconds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=2_000))]
    latency: u64,
    /// Of a million bits, how many are turned: 100 is a bit error rate of 1e-4.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=2_000))]
    errors: u32,
    /// Start and stop bits are hit as well: bytes are lost, and come from nowhere.
    #[arg(long)]
    framing_errors: bool,
    /// Bursts of noise: one every so many bytes, of five bytes.
    #[arg(long, value_name = "BYTES")]
    bursts: Option<u32>,
    /// Hang up on the first terminal when it has so many percent of its update. 100: never.
    #[arg(long, default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    hang_up: u8,
    /// Size of the update, in KiB. Random bytes: nothing makes them shorter.
    #[arg(long, default_value_t = 24, value_name = "KIB", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    size: u32,
    /// Replays the same noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The exchange and the modems take no time to ring and to train.
    #[arg(long)]
    quick: bool,
    /// No progress bars.
    #[arg(long)]
    plain: bool,
    /// What is logged, to standard error: error, warn, info, debug or trace; or by module, such as
    /// tms_transport_serial=debug.
    #[arg(long, value_name = "FILTER", env = "TMS_LOG", default_value = "off")]
    log: String,
}

const AFTER: &str = "\
Try:
  tms-line-lab --errors 100                a bad line: one bit in ten thousand
  tms-line-lab --rate 1200 --size 2        the slowest modem that is in use
  tms-line-lab --bursts 1700 --errors 0    what a hit on a V.22bis line looks like
  tms-line-lab --log tms_transport_serial=debug --plain
                                           what the modems say

Exit status: 0 when every terminal has confirmed its update, 1 otherwise.";

fn main() -> ExitCode {
    let args = Args::parse();
    tms_program::run("tms-line-lab", async { run(args).await.map(|()| ExitCode::SUCCESS) })
}

async fn run(args: Args) -> Result<()> {
    tms_program::log::start(&args.log, tms_program::log::LogFormat::Text)?;
    let line = Line {
        bits_per_second: args.rate,
        latency: Duration::from_millis(args.latency),
        noise: Noise {
            bits_per_million: args.errors,
            framing: args.framing_errors,
            bursts: args.bursts.map(|every| Bursts { every, bytes: 5 }),
        },
        seed: args.seed,
        ..Line::default()
    };
    let plan = lab::Plan {
        terminals: args.terminals,
        lines: args.lines,
        line,
        hang_up: (args.hang_up < 100).then_some(args.hang_up),
        size: usize::try_from(args.size).unwrap_or(usize::MAX).saturating_mul(1024),
        quick: args.quick,
        plain: args.plain || !io::stdout().is_terminal(),
    };
    let place = tempfile::tempdir().context("cannot make a temporary directory")?;
    lab::run(&place.path().join("estate"), &plan).await
}
