//! `tms-terminal`: a payment terminal on a directory.

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tms_core::agent::slot::SelfTest;
use tms_core::agent::{Progress, WorkReport};
use tms_core::transport::Framing;
use tms_core::transport::tcp::TcpDial;
use tms_proto::code::TriggerKind;
use tms_proto::message::Trigger;
use tms_terminal::dial::{self, Cable, Modem};
use tms_terminal::directory::Directory;
use tms_terminal::errand::{self, Outcome, Step};
use tms_terminal::line::{Trouble, Troubled};
use tms_terminal::terminal::{Behaviour, Terminal};
use tms_transport_serial::LinkOptions;
use tms_transport_serial::port::Flow;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A payment terminal on a directory: it calls the server, downloads, verifies, installs, confirms, and reports.
///
/// Its state is files, and it goes on where it was: it may be killed at any instant, in the middle of a download or of an
/// installation. `tms enrol` makes its directory. It prints a check-in report after each call, as a terminal's printer would.
#[derive(Parser)]
#[command(name = "tms-terminal", version, max_term_width = 100, after_long_help = AFTER)]
struct Args {
    /// The terminal's directory.
    #[arg(long, short, value_name = "DIR")]
    dir: PathBuf,
    /// The server to call, in the place of the one in terminal.toml.
    #[arg(long, short, value_name = "HOST:PORT")]
    server: Option<String>,
    /// How messages are framed, in the place of what terminal.toml says.
    #[arg(long, value_name = "tcp|nac|stx-bcd")]
    envelope: Option<Framing>,
    /// Call by telephone, with the modem at this port, in the place of what terminal.toml says.
    #[arg(long, value_name = "DEVICE", requires = "number")]
    modem: Option<PathBuf>,
    /// The number to call, with what is dialled before it to get a line out, and its pauses: 9,5551234. May be given several
    /// times: the next is called when one does not answer.
    #[arg(long, value_name = "NUMBER", requires = "modem")]
    number: Vec<String>,
    /// When no number leads to the server, call it over the network.
    #[arg(long, requires = "modem")]
    then_network: bool,
    /// Call over a cable without modems, at this port.
    #[arg(long, value_name = "DEVICE", conflicts_with = "modem")]
    cable: Option<PathBuf>,
    /// Bits per second of the port of --modem or --cable.
    #[arg(long, value_name = "BITS_PER_SECOND")]
    port_rate: Option<u32>,
    /// Call now, and again for as long as there is something to download or to tell; then end. Otherwise the terminal runs, and
    /// calls when its next contact has come.
    #[arg(long)]
    once: bool,
    /// Call now, for this reason. A call by hand is refused where the server wants them to be further apart.
    #[arg(long, value_name = "REASON", value_parser = trigger_parser())]
    trigger: Option<TriggerKind>,
    /// Settle so many times first: where the server wants that, the terminal calls after so many settlements.
    #[arg(long, value_name = "TIMES", default_value_t = 0)]
    settle: u16,
    /// What is logged, to standard error: error, warn, info, debug or trace; or by module.
    #[arg(long, value_name = "FILTER", env = "TMS_LOG", default_value = "warn")]
    log: String,
    /// No progress bars.
    #[arg(long)]
    plain: bool,

    /// Trouble: cut the line of the first call after so many bytes from the server.
    #[arg(long, value_name = "BYTES", help_heading = "Trouble to try")]
    cut_after: Option<u64>,
    /// Trouble: a line that carries so many bits per second.
    #[arg(long, value_name = "BITS_PER_SECOND", help_heading = "Trouble to try")]
    rate: Option<u32>,
    /// Trouble: transactions are not settled; packages that ask for that wait.
    #[arg(long, help_heading = "Trouble to try")]
    unsettled: bool,
    /// Trouble: a transaction is running; nothing is installed.
    #[arg(long, help_heading = "Trouble to try")]
    busy: bool,
    /// Trouble: the clock shows this when the terminal is switched on, in seconds since 1970 UTC. 1970 is as good as any.
    #[arg(long, value_name = "SECONDS", help_heading = "Trouble to try")]
    clock: Option<u64>,
    /// Trouble: what a new version does when it is started.
    #[arg(long, value_enum, default_value_t = Test::Passes, help_heading = "Trouble to try")]
    self_test: Test,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Test {
    /// It says that it works.
    Passes,
    /// It says that it does not: the old version runs again.
    Fails,
    /// It says nothing.
    Silent,
}

const AFTER: &str = "\
Try an interrupted download by hand, with a package queued:
  tms-terminal --dir estate/terminals/0001 --once --cut-after 2000000
  tms-terminal --dir estate/terminals/0001 --once
The second call goes on at the byte where the first was cut.

Exit status:
  0  the last call went well, and nothing is left to do now
  1  the terminal cannot run: its directory or its memory
  2  wrong command line
  3  the last call failed: the server was not reached, is busy, or the line was cut; or it is too soon to call by hand
  4  refused: the server refused the terminal, or could not prove itself to it";

fn trigger_parser() -> impl TypedValueParser<Value = TriggerKind> {
    PossibleValuesParser::new(TriggerKind::ALL.iter().map(|kind| kind.name())).map(|name| {
        TriggerKind::ALL
            .iter()
            .copied()
            .find(|kind| kind.name() == name)
            .unwrap_or(TriggerKind::Manual)
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start");
    match runtime.and_then(|runtime| runtime.block_on(run(args))) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(3),
        Ok(Outcome::Refused) => ExitCode::from(4),
        Err(error) => {
            eprintln!("tms-terminal: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<Outcome> {
    let filter =
        EnvFilter::try_new(&args.log).with_context(|| format!("the log filter {:?} is not understood", args.log))?;
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .init();

    let directory = Directory::open(&args.dir)?;
    let server = args.server.unwrap_or_else(|| directory.settings.server.clone());
    let profile = args.envelope.unwrap_or(directory.settings.envelope).profile();
    let network = TcpDial::new([server]).with_profile(profile);
    let by_telephone = args.modem.is_some();
    let modem = match args.modem {
        Some(device) => Some(Modem {
            device,
            numbers: args.number,
            prefix: None,
            rate: args.port_rate,
            flow: Flow::default(),
            init: Vec::new(),
            then_network: args.then_network,
            link: LinkOptions::default(),
        }),
        None => directory.settings.modem.clone(),
    };
    let cable = match args.cable {
        Some(device) => Some(Cable {
            device,
            rate: args.port_rate,
            flow: Flow::default(),
            link: LinkOptions::default(),
        }),
        // What the command line says is above what the file says.
        None => directory.settings.cable.clone().filter(|_| !by_telephone),
    };
    let behaviour = Behaviour {
        unsettled: args.unsettled,
        busy: args.busy,
        clock: args.clock,
        self_test: match args.self_test {
            Test::Passes => SelfTest::Passes,
            Test::Fails => SelfTest::Fails,
            Test::Silent => SelfTest::Silent,
        },
    };
    let mut terminal = Terminal::switch_on(directory, behaviour).await?;
    for _ in 0..args.settle {
        terminal.settle().await?;
    }
    if args.trigger == Some(TriggerKind::Manual) {
        let by_hand = terminal.by_hand().wait;
        if !by_hand.is_zero() {
            say(&format!("TOO SOON call again in {}", span(by_hand)));
            return Ok(Outcome::Failed);
        }
    }
    let dial = dial::dial(&terminal, modem.as_ref(), cable.as_ref(), network)?;
    let mut dial = Troubled::new(
        dial,
        Trouble {
            cut_after: args.cut_after,
            rate: args.rate,
        },
    );
    let mut trigger = args.trigger.map(Trigger::of);
    let mut bars = Bars::new(args.plain || !ansi);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        if !args.once && trigger.is_none() {
            let worked = terminal.work().await?;
            print(&Step::Worked(&worked));
            let contact = terminal.next_contact();
            let wait = worked.again.map_or(contact.wait, |again| again.min(contact.wait));
            if !wait.is_zero() {
                say(&format!("WAITING  {} for {}", span(contact.wait), contact.trigger.kind));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = interrupt.recv() => return Ok(Outcome::Done),
                _ = terminate.recv() => return Ok(Outcome::Done),
            }
            if wait < contact.wait {
                continue;
            }
        }
        let mut steps = |step: Step<'_>| print(&step);
        let mut progress = |progress: Progress<'_>| bars.show(progress);
        // To be switched off in the middle of a call is a loss of power like any other.
        let outcome = tokio::select! {
            outcome = errand::run(&mut terminal, &mut dial, trigger.take(), &mut steps, &mut progress) => outcome?,
            _ = interrupt.recv() => return Ok(Outcome::Failed),
            _ = terminate.recv() => return Ok(Outcome::Failed),
        };
        bars.clear();
        if args.once {
            for action in terminal.actions() {
                let component = action.component.unwrap_or_default();
                let waits = action
                    .waiting
                    .map(|code| format!(", waits: {code}"))
                    .unwrap_or_default();
                say(&format!(
                    "OPEN     {} {component} {}{waits}",
                    action.action, action.stage
                ));
            }
            return Ok(outcome);
        }
    }
}

/// Says what happened, as the terminal's printer would.
fn print(step: &Step<'_>) {
    match step {
        Step::Worked(WorkReport { results, .. }) => {
            for result in results {
                let text = result.text.as_ref().map(|text| format!(" {text}")).unwrap_or_default();
                say(&format!(
                    "WORK     {} {} {}{text}",
                    result.action, result.stage, result.code
                ));
            }
        }
        Step::Called(report) => say(report.to_string().trim_end()),
        Step::NotReached(error) => say(&format!("NO LINE  {error}")),
    }
}

fn say(text: &str) {
    // Nobody listens: a terminal without paper goes on.
    let _ignored = writeln!(io::stdout(), "{text}");
}

fn span(wait: Duration) -> String {
    let seconds = wait.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A progress bar for each download.
struct Bars {
    hidden: bool,
    bars: HashMap<u64, ProgressBar>,
}

impl Bars {
    fn new(hidden: bool) -> Self {
        Self {
            hidden,
            bars: HashMap::new(),
        }
    }

    fn show(&mut self, progress: Progress<'_>) {
        if self.hidden {
            return;
        }
        let bar = self.bars.entry(progress.action).or_insert_with(|| {
            let style = "{msg:20} {wide_bar} {bytes:>10} of {total_bytes}  {bytes_per_sec:>12}";
            let bar = ProgressBar::new(progress.size).with_position(progress.held);
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.reset_eta();
            bar
        });
        bar.set_message(progress.component.to_owned());
        bar.set_length(progress.size);
        bar.set_position(progress.held);
    }

    fn clear(&mut self) {
        self.bars.drain().for_each(|(_, bar)| bar.finish_and_clear());
    }
}
