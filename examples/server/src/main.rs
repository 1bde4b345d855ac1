//! `tms-server`: answers terminals' calls on an estate directory.

use anyhow::{Context, Result, bail};
use clap::Parser;
use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tms_core::transport::Framing;
use tms_program::log::LogFormat;
use tms_program::say;
use tms_program::signals::Signals;
use tms_server::config::Listen;
use tms_server::directory::Directory;
use tms_server::run;
use tms_transport_serial::pool::{Pool, PoolConfig};
use tracing::{info, warn};

/// A terminal-management server: terminals call in, report, and get their updates.
///
/// It serves an estate directory, which `tms init DIR` makes: a SQLite database, a directory of package content, keys, and
/// the configuration server.toml. It keeps no truth in memory: it may be stopped or killed at any time, and operators use
/// `tms` on the same directory while it runs.
#[derive(Parser)]
#[command(name = "tms-server", version, max_term_width = 100, after_long_help = AFTER)]
struct Args {
    /// The estate directory.
    #[arg(long, short, value_name = "DIR", env = "TMS_ESTATE")]
    estate: PathBuf,
    /// Another configuration than DIR/server.toml. Paths in it are relative to DIR all the same.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here, in the place of what the configuration says. May be given several times. Port 0 takes a free one, which is
    /// printed.
    #[arg(long, short, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// How messages are framed: for the addresses of --listen, or else for all of the configuration.
    #[arg(long, value_name = "tcp|nac|stx-bcd")]
    envelope: Option<Framing>,
    /// Take the calls of these telephone lines and cables as well: a file of [[line]] blocks, lines.toml.
    #[arg(long, value_name = "FILE")]
    modem_pool: Option<PathBuf>,
    /// A network whose gateways tell who calls, by a PROXY header before each call: for all listeners. May be given several
    /// times.
    #[arg(long, value_name = "NETWORK")]
    gateway: Vec<IpNet>,
    /// How many seconds a stop waits for the calls that run.
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
    /// What is logged: error, warn, info, debug or trace; or by module, such as info,tms_core::server=debug.
    #[arg(long, value_name = "FILTER", env = "TMS_LOG")]
    log: Option<String>,
    /// How the log is written, to standard error.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Open everything and check the configuration, then end.
    #[arg(long)]
    check: bool,
}

const AFTER: &str = "\
Start it, and call it once:
  tms init estate
  tms --estate estate enrol --vendor PAX --model P80 --serial 0001
  tms-server --estate estate
  tms-terminal --dir estate/terminals/0001 --once         (in another window)

Signals:
  SIGINT, SIGTERM   take no more calls, end the running ones at a message boundary, then end. Terminals are told to call
                    again, and lose nothing: a download goes on at its byte.
  a second one      end at once. Even that loses nothing: what a terminal was not told is recorded, it reports again.

Standard output says `listening on ADDRESS:PORT` for each listener, and nothing else. The log goes to standard error. It
names terminal, call and peer; it never holds a key, a ticket or anything that was downloaded.

Exit status:
  0  stopped as asked, all calls ended
  1  could not start, or a listener failed
  2  wrong command line
  3  stopped as asked, but calls had to be broken off";

fn main() -> ExitCode {
    let args = Args::parse();
    tms_program::run("tms-server", async {
        Ok(if serve(args).await? {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(3)
        })
    })
}

/// Whether all calls ended.
async fn serve(args: Args) -> Result<bool> {
    // First: a signal that comes while the program starts is not to kill it half-way.
    let mut signals = Signals::take()?;
    let mut directory = Directory::open(&args.estate, args.config.as_deref())?;
    let config = &mut directory.config;
    if !args.listen.is_empty() {
        let envelope = args.envelope.unwrap_or_default();
        config.listen = args
            .listen
            .into_iter()
            .map(|address| Listen {
                address,
                envelope,
                gateways: Vec::new(),
            })
            .collect();
    } else if let Some(envelope) = args.envelope {
        config.listen.iter_mut().for_each(|listen| listen.envelope = envelope);
    }
    if let Some(pool) = args.modem_pool {
        config.files.modem_pool = std::path::absolute(pool)?;
    }
    if config.listen.is_empty() && config.files.modem_pool.as_os_str().is_empty() {
        bail!(
            "there is nowhere to listen: add a [[listen]] block to the configuration, or give --listen or --modem-pool"
        );
    }
    for listen in &mut config.listen {
        listen.gateways.extend(&args.gateway);
    }
    config.drain = args.drain.unwrap_or(config.drain);
    tms_program::log::start(
        args.log.as_ref().unwrap_or(&config.log.filter),
        args.log_format.unwrap_or(config.log.format),
    )?;

    let store = directory.store().await?;
    let server = directory.server_on(Arc::clone(&store))?;
    let estate = directory.estate_on(store)?;
    if args.check {
        say("configuration, keys, database and blob directory are in order");
        return Ok(true);
    }
    let mut running = run::start(
        server,
        &directory.config.listen,
        connections(directory.config.limits.sessions),
    )
    .await?;
    running.behind(&estate, directory.config.retention.into());
    for (address, listen) in running.addresses() {
        say(format_args!("listening on {address}"));
        info!(%address, envelope = listen.envelope.name(), "listening");
    }
    if let Some(pool) = directory.modem_pool() {
        let lines: PoolConfig = tms_program::file::read("the lines", &pool)?;
        let count = lines.lines.len();
        running.serve(Pool::open(lines).context("the lines cannot be opened")?);
        say(format_args!("answering on {count} lines"));
        info!(lines = count, "answering");
    }
    tokio::select! {
        error = running.failed() => return Err(error),
        name = signals.next() => info!(signal = name, calls = running.sessions(), "stopping, calls end at a message boundary"),
    }
    let drain = Duration::from_secs(directory.config.drain);
    Ok(signals.drain(running.stop(drain), || running.sessions()).await)
}

/// How many connections a listener may have open: some more than there may be calls, so that who is too many is told so.
fn connections(sessions: usize) -> usize {
    let wanted = sessions.saturating_add(sessions / 16).saturating_add(64);
    // Beside the connections there are the database, packages that are read, and the log.
    let files = raise_file_limit(wanted.saturating_add(256));
    let most = files.saturating_sub(256).max(64);
    if most < wanted {
        warn!(
            wanted,
            connections = most,
            "the limit of open files is too low for so many calls: raise it (ulimit -Hn)"
        );
    }
    wanted.min(most)
}

/// Raises the limit of open files as far as it may be raised and is wanted, and gives what it is then.
fn raise_file_limit(wanted: usize) -> usize {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return usize::MAX;
    };
    let new = soft.max(wanted.min(hard));
    let now = if setrlimit(Resource::RLIMIT_NOFILE, new, hard).is_ok() {
        new
    } else {
        soft
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}
