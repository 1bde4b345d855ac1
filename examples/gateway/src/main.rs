//! `tms-gateway`: ends terminals' calls in a branch, and forwards what is inside to the head office.

use anyhow::{Context, Result};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tms_core::transport::Framing;
use tms_gateway::config::{Config, Listen};
use tms_gateway::gateway::Gateway;
use tms_gateway::lines;
use tms_program::log::LogFormat;
use tms_program::say;
use tms_program::signals::Signals;
use tms_transport_serial::pool::{Pool, PoolConfig};
use tracing::info;

/// A gateway: takes terminals' calls where they are, and forwards them to the head office over TCP.
///
/// It holds no keys and can read nothing: terminal and head office prove themselves to each other through it. What it adds is
/// what it has seen of the caller, in a PROXY header (version 2) before each call; a head office believes that from the
/// networks that it names.
#[derive(Parser)]
#[command(name = "tms-gateway", version, max_term_width = 100, after_long_help = AFTER)]
struct Args {
    /// The configuration. Without one, the defaults and these flags.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The head office, in the place of what the configuration says. May be given several times: the next is called when one does
    /// not answer.
    #[arg(long, short, value_name = "HOST:PORT", required_unless_present_any = ["config", "print_config"])]
    upstream: Vec<String>,
    /// Listen here, in the place of what the configuration says. May be given several times. Port 0 takes a free one, which is
    /// printed.
    #[arg(long, short, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// How messages are framed on the addresses of --listen. The head office always gets tcp.
    #[arg(long, value_name = "tcp|nac|stx-bcd")]
    envelope: Option<Framing>,
    /// Take the calls of these telephone lines and cables as well: a file of [[line]] blocks, lines.toml.
    #[arg(long, value_name = "FILE")]
    modem_pool: Option<PathBuf>,
    /// Where Prometheus finds the counters.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// How many seconds a stop waits for the calls that run.
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
    /// What is logged: error, warn, info, debug or trace; or by module, such as info,tms_gateway=debug.
    #[arg(long, value_name = "FILTER", env = "TMS_LOG")]
    log: Option<String>,
    /// How the log is written, to standard error.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Print a configuration with every line explained, and end.
    #[arg(long)]
    print_config: bool,
}

const AFTER: &str = "\
Try it, with a server on this machine that believes it:
  tms-server --estate estate --gateway 127.0.0.1/32
  tms-gateway --upstream 127.0.0.1:7400 --listen 127.0.0.1:7500
  tms-terminal --dir estate/terminals/0001 --server 127.0.0.1:7500 --once

Signals:
  SIGINT, SIGTERM   take no more calls, wait for those that run, then end
  a second one      end at once: terminals call again and go on where they were

Standard output says `listening on ADDRESS:PORT` for each listener, and nothing else. The log goes to standard error.

Exit status:
  0  stopped as asked, all calls ended
  1  could not start, or a listener failed
  2  wrong command line
  3  stopped as asked, but calls had to be broken off";

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_config {
        print!("{}", Config::TEMPLATE);
        return ExitCode::SUCCESS;
    }
    tms_program::run("tms-gateway", async {
        Ok(if run(args).await? {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(3)
        })
    })
}

/// Whether all calls ended by themselves.
async fn run(args: Args) -> Result<bool> {
    // First: a signal that comes while the program starts is not to kill it half-way.
    let mut signals = Signals::take()?;
    let config = config(&args)?;
    tms_program::log::start(&config.log.filter, config.log.format)?;
    if !config.metrics.is_empty() {
        let address: SocketAddr = config
            .metrics
            .parse()
            .with_context(|| format!("`metrics` is not ADDRESS:PORT: {}", config.metrics))?;
        PrometheusBuilder::new()
            .with_http_listener(address)
            .install()
            .with_context(|| format!("no counters can be shown on {address}"))?;
    }
    let mut gateway = Gateway::start(&config).await?;
    for (address, listen) in gateway.addresses() {
        say(format_args!("listening on {address}"));
        info!(%address, envelope = listen.envelope.name(), "listening");
    }
    if !config.modem_pool.as_os_str().is_empty() {
        let lines: PoolConfig = tms_program::file::read("the lines", &config.modem_pool)?;
        let count = lines.lines.len();
        let pool = Pool::open(lines).context("the lines cannot be opened")?;
        tokio::spawn(lines::watch(pool.handle()));
        gateway.serve(pool);
        say(format_args!("answering on {count} lines"));
        info!(lines = count, "answering");
    }
    tokio::select! {
        error = gateway.failed() => return Err(error),
        name = signals.next() => info!(signal = name, calls = gateway.calls(), "stopping, no more calls are taken"),
    }
    let drain = Duration::from_secs(config.drain);
    Ok(signals.drain(gateway.stop(drain), || gateway.calls()).await)
}

/// What the file says, and the flags above it.
fn config(args: &Args) -> Result<Config> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::to(Vec::new()),
    };
    if !args.upstream.is_empty() {
        config.upstream.clone_from(&args.upstream);
    }
    if !args.listen.is_empty() {
        let envelope = args.envelope.unwrap_or_default();
        config.listen = args
            .listen
            .iter()
            .map(|address| Listen {
                address: *address,
                envelope,
            })
            .collect();
    }
    if let Some(metrics) = args.metrics {
        config.metrics = metrics.to_string();
    }
    if let Some(pool) = &args.modem_pool {
        config.modem_pool.clone_from(pool);
    }
    config.drain = args.drain.unwrap_or(config.drain);
    if let Some(filter) = &args.log {
        config.log.filter.clone_from(filter);
    }
    config.log.format = args.log_format.unwrap_or(config.log.format);
    Ok(config)
}
