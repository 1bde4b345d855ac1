//! A pool of modem lines, each with calls back to back, in real time: telephones, modems and lines are simulated in this program.

use crate::client::Client;
use crate::process::own_cpu;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;
use tms_core::agent::flash::MemoryFlash;
use tms_core::clock::SystemClock;
use tms_core::entropy::OsEntropy;
use tms_core::transport::Dial;
use tms_transport_serial::LinkOptions;
use tms_transport_serial::at::Profile;
use tms_transport_serial::dial::{Dialler, Policy, Route, Setup};
use tms_transport_serial::modem::ModemLine;
use tms_transport_serial::pool::{Kind, Line as PoolLine, Pool};
use tms_transport_serial::port::Settings as Port;
use tms_transport_serial::testing::{Exchange, Line, Noise, Quirks, Settings};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How the pool is measured.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Lines, and as many terminals.
    #[arg(long, default_value_t = 64)]
    lines: u16,
    /// Seconds for which terminals begin new calls.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Bits per second of a line.
    #[arg(long, default_value_t = 9600)]
    rate: u32,
    /// Of a million bits, how many are turned.
    #[arg(long, default_value_t = 10)]
    errors: u32,
}

/// A terminal's own rules are for people's exchanges; this one is always called again at once.
const EAGER: Policy = Policy {
    spacing: 0,
    jitter: 0,
    tries: u32::MAX,
    delayed: 0,
    rest: 0,
    longest_rest: 0,
    budget: 300,
};

const NUMBER: &str = "200";

pub(crate) async fn run(options: &Options) -> Result<()> {
    let lines = usize::from(options.lines);
    let (server, _, _directory) = crate::server::server(options.lines.into(), Vec::new(), false).await?;
    let exchange = Exchange::new(Settings {
        line: Line {
            bits_per_second: options.rate,
            noise: Noise {
                bits_per_million: options.errors,
                ..Noise::default()
            },
            ..Line::default()
        },
        ..Settings::default()
    });
    let pool = Pool::new(lines);
    let handle = pool.handle();
    let numbers: Vec<String> = (0..options.lines).map(|index| format!("{}", 2000 + index)).collect();
    let mut modems = Vec::new();
    for number in &numbers {
        let modem = exchange.modem(number, Quirks::default());
        handle.add(PoolLine {
            name: number.clone(),
            kind: Kind::Modem,
            open: modem.opener(),
            settings: Port::default(),
            profile: Profile::default(),
            called: None,
            link: LinkOptions::default(),
        })?;
        modems.push(modem);
    }
    exchange.set_group(NUMBER, numbers);
    let mut listener = pool;
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(&mut listener).await }
    });

    let (start, before) = (Instant::now(), own_cpu()?);
    let until = start + Duration::from_secs(options.seconds);
    let mut terminals = JoinSet::new();
    for id in 1..=u64::from(options.lines) {
        let phone = exchange.modem(&format!("{}", 5000 + id), Quirks::default());
        let setup = Setup {
            line: ModemLine::start(format!("terminal {id}"), phone.opener(), Profile::default()),
            settings: Port::default(),
            link: LinkOptions::default(),
            prefix: None,
            policy: EAGER,
            memory: Arc::new(MemoryFlash::new(1 << 20)),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
        };
        let mut dialler = Dialler::new(setup, vec![Route::Telephone(NUMBER.parse()?)])?;
        terminals.spawn(async move {
            let _phone = phone;
            let mut client = Client::new(id);
            let (mut calls, mut engaged) = (0u32, 0u32);
            while Instant::now() < until {
                let outgoing = match dialler.dial().await {
                    Ok(outgoing) => outgoing,
                    // The line that was last hung up is not free yet.
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        engaged += 1;
                        continue;
                    }
                    Err(error) => return Err(error).context("a terminal did not reach the server"),
                };
                let mut open = client.open_over(outgoing.transport, &outgoing.profile).await?;
                open.bye().await?;
                calls += 1;
            }
            anyhow::Ok((calls, engaged))
        });
    }
    let (mut calls, mut engaged) = (0, 0);
    while let Some(terminal) = terminals.join_next().await {
        let of_terminal = terminal??;
        calls += of_terminal.0;
        engaged += of_terminal.1;
    }
    let (elapsed, cpu) = (start.elapsed(), own_cpu()?.saturating_sub(before));
    let answered: u64 = handle.lines().iter().map(|line| line.status.counters.answered).sum();
    if answered != u64::from(calls) {
        bail!("{calls} calls were made, and {answered} answered");
    }
    println!(
        "{lines} lines at {} bit/s, {} errors in a million bits: {calls} check-ins in {:.0} s, none lost, {engaged} times engaged",
        options.rate,
        options.errors,
        elapsed.as_secs_f64()
    );
    println!(
        "  CPU of a call, both ends, modems, lines and server together: {:.1} ms; {:.0} % of one processor",
        cpu.as_secs_f64() * 1e3 / f64::from(calls.max(1)),
        100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64()
    );
    server.stop(Duration::from_secs(10)).await;
    serving.await??;
    Ok(())
}
