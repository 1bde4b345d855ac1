//! `tms-cases`: what a bank does with its terminals, told as a story and done.

mod added;
mod bank;
mod dialled;
mod ending;
mod found;
mod life;
mod moved;
mod people;
mod shop;
mod story;
mod telephone;
mod upgraded;

use anyhow::Result;
use bank::Bank;
use clap::Parser;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use story::Story;
use tms_program::place::Place;

/// Five things that a bank does with its terminals: from the operator's hand to the report.
///
/// A made-up bank with a head office and branches, terminals of three makers, and a few months: terminals are installed, are told
/// another number to dial, get a new program, are moved without leave, are counted, and get one more application. Everything is
/// real but the time and the telephone lines: a server on loopback with an SQLite database, terminals with their own memory, the
/// protocol between them, operators with their permissions, and the work behind the calls. The story ends today.
///
/// What it prints is read back from the database, and each fact is checked: where one does not hold, the program fails.
#[derive(Parser)]
#[command(name = "tms-cases", version, max_term_width = 100, after_long_help = AFTER)]
struct Args {
    /// Where to make the estate: a directory that is not there yet, or empty. A temporary one by default, which is removed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the temporary directory.
    #[arg(long)]
    keep: bool,
    /// How many terminals the bank has.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(10..=500))]
    terminals: u16,
    /// Tell one case only: 1 to 5. What comes before all of them is done all the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    case: Option<u8>,
    /// Write each table as a CSV file into this directory as well.
    #[arg(long, value_name = "DIR")]
    csv: Option<PathBuf>,
    /// No bold type.
    #[arg(long)]
    plain: bool,
    /// What is logged, to standard error: error, warn, info, debug or trace; or by module.
    #[arg(long, value_name = "FILTER", env = "TMS_LOG", default_value = "off")]
    log: String,
}

const AFTER: &str = "\
The cases:
  1  the number that terminals dial is changed on all of them, at night
  2  a batch gets a new program, each terminal when it calls by itself
  3  a terminal that was moved without leave is found
  4  stocktaking: who is alive, who has long been silent, and what the books say
  5  a merchant's terminals get one more application, with parameters and a key

Try:
  tms-cases                                 all of it
  tms-cases --case 3                        one case
  tms-cases --dir bank --csv reports        leaves an estate that tms, tms-server and tms-terminal go on with

Times on the left are those of the bank's clocks, in Shanghai. Days in reports are those of UTC.

Exit status: 0 when every fact of every case that was told holds, 1 otherwise.";

fn main() -> ExitCode {
    let args = Args::parse();
    tms_program::run("tms-cases", async { tell(args).await })
}

async fn tell(args: Args) -> Result<ExitCode> {
    tms_program::log::start(&args.log, tms_program::log::LogFormat::Text)?;
    let place = Place::new(args.dir, "tms-cases")?;
    let plain = args.plain || !io::stdout().is_terminal();
    let mut story = Story::new(args.csv, plain)?;
    let cases: Vec<u8> = args.case.map_or_else(|| (1..=5).collect(), |case| vec![case]);
    let days = bank::DAYS + cases.iter().copied().map(days).sum::<u32>();
    let mut bank = Bank::found(place.path(), &mut story, usize::from(args.terminals), days).await?;
    let mut told = Vec::new();
    for case in cases {
        bank.life.turn_page();
        let commands = match case {
            1 => dialled::tell(&mut bank, &mut story).await?,
            2 => upgraded::tell(&mut bank, &mut story).await?,
            3 => moved::tell(&mut bank, &mut story).await?,
            4 => found::tell(&mut bank, &mut story).await?,
            _ => added::tell(&mut bank, &mut story).await?,
        };
        told.push((case, commands));
    }
    ending::tell(bank, place, args.keep, told, &mut story).await
}

/// How many days a case takes.
const fn days(case: u8) -> u32 {
    match case {
        1 => dialled::DAYS,
        2 => upgraded::DAYS,
        3 => moved::DAYS,
        4 => found::DAYS,
        _ => added::DAYS,
    }
}
