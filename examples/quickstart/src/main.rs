//! `tms-quickstart`: from an empty directory to a fleet of updated terminals, in one command.

mod demo;
mod result;

use anyhow::{Result, bail};
use clap::Parser;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use tms_program::place::Place;

/// Shows the whole system at work: makes an estate, publishes a signed package, starts a server on loopback, and lets terminals
/// call in. One call is cut in the middle of its download, and goes on at its byte.
///
/// What it prints at the end is read back from the store, and checked. The estate is a real one: other programs go on with it.
#[derive(Parser)]
#[command(name = "tms-quickstart", version, max_term_width = 100)]
struct Args {
    /// Where to make the estate: a directory that is not there yet, or empty. A temporary one by default, which is removed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the temporary directory.
    #[arg(long)]
    keep: bool,
    /// No progress bars, and no slowed lines to see them by.
    #[arg(long)]
    plain: bool,
    /// What is logged, to standard error: error, warn, info, debug or trace; or by module.
    #[arg(long, value_name = "FILTER", env = "TMS_LOG", default_value = "off")]
    log: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    tms_program::run("tms-quickstart", async { run(args).await.map(|()| ExitCode::SUCCESS) })
}

async fn run(args: Args) -> Result<()> {
    tms_program::log::start(&args.log, tms_program::log::LogFormat::Text)?;
    let place = Place::new(args.dir, "tms-quickstart")?;
    let dir = place.path().to_owned();
    let plain = args.plain || !io::stdout().is_terminal();
    let fleet = demo::run(&dir, plain).await?;
    let wrong = result::check(&fleet);
    result::show(&fleet);
    if !wrong.is_empty() {
        bail!("not everything is as it must be: {}", wrong.join("; "));
    }
    let gone = place.leave(args.keep)?;
    result::next(&fleet, &dir, gone);
    Ok(())
}
