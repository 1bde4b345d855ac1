//! An estate that calls a pool of lines for a month, with an outage, in virtual time: slots from the ledger beside times
//! that are drawn by chance.

use clap::Args;
use tms_core::testing::slots::{Figures, Outcome, Scheme, World, run as simulate};

/// The estate.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Terminals, each of which checks in once a night.
    #[arg(long, default_value_t = 100_000)]
    terminals: u32,
    /// Lines.
    #[arg(long, default_value_t = 64)]
    lines: u32,
    /// Days: more than 18, for the outage is on the fifteenth.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(19..=366))]
    days: u64,
    /// What makes the world: the same seed gives the same tables.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A part of the time.
type Part = fn(&Outcome) -> &Figures;

pub(crate) fn run(options: &Options) {
    let world = World {
        terminals: options.terminals,
        lines: options.lines,
        days: options.days,
        seed: options.seed,
        ..World::default()
    };
    println!(
        "{} terminals, {} lines, {} days from 20:00 to 08:00; nobody answers on day 15 from 20:00 to 02:00; seed {}",
        world.terminals, world.lines, world.days, world.seed
    );
    let outcomes = Scheme::ALL.map(|scheme| (scheme, simulate(&world, scheme)));
    let parts: [(&str, Part); 4] = [
        ("before the outage, from the third day", |outcome| &outcome.before),
        ("due in the day that begins with the outage", |outcome| &outcome.outage),
        ("the two days after that day", |outcome| &outcome.next),
        ("the rest", |outcome| &outcome.after),
    ];
    for (name, part) in parts {
        println!("\n{name}");
        println!(
            "{:<30} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8} {:>7} {:>9} {:>9} {:>10}",
            "",
            "contacts",
            "busy",
            "busy/1000",
            "missed",
            "wait 99%",
            "longest",
            "mean %",
            "fullest %",
            "emptiest %",
            "dials/min"
        );
        for (scheme, outcome) in &outcomes {
            let figures = part(outcome);
            println!(
                "{:<30} {:>9} {:>9} {:>9.2} {:>7} {:>6} s {:>6} s {:>7} {:>9} {:>10} {:>10}",
                scheme.name(),
                figures.due,
                figures.busy,
                per_mille(figures.busy, figures.due),
                figures.missed,
                figures.waiting(99),
                figures.waiting(100),
                figures.mean(),
                figures.occupancy.iter().max().copied().unwrap_or_default(),
                figures.occupancy.iter().min().copied().unwrap_or_default(),
                figures.peak,
            );
        }
    }
    println!("\nhours after the outage until the terminals that it kept from calling had called");
    println!("{:<30} {:>6} {:>6} {:>6} {:>6}", "", "50 %", "90 %", "99 %", "all");
    for (scheme, outcome) in &outcomes {
        let [half, most, nearly, all] = outcome.caught_up.map(hours);
        println!("{:<30} {half:>6.1} {most:>6.1} {nearly:>6.1} {all:>6.1}", scheme.name());
    }
    let ledger = outcomes.iter().find(|(scheme, _)| *scheme == Scheme::Ledger);
    if let Some((_, outcome)) = ledger {
        println!(
            "\nfullest quarter of the ledger: {} % of the lines; slots given out though nothing was free: {}",
            outcome.fullest, outcome.late
        );
    }
}

fn per_mille(part: u64, whole: u64) -> f64 {
    f64::from(u32::try_from(part).unwrap_or(u32::MAX)) * 1_000.0
        / f64::from(u32::try_from(whole.max(1)).unwrap_or(u32::MAX))
}

fn hours(seconds: u64) -> f64 {
    f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)) / 3_600.0
}
