//! `tms report`.

use super::filter::Filter;
use super::print_columns;
use crate::office::Office;
use crate::time::show;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Write;
use tms_core::estate::AsOf;
use tms_core::estate::report::{self, Report as Made, Reports, Row};
use tms_core::store::{Dimension, RosterFilter, Seen};

/// How many terminals are read at a time.
const PAGE: u32 = 1_000;

/// Say how the estate stands: who is alive, who is silent, what runs, what failed, what ends.
///
/// Days are those of UTC. What check-ins said is entered first, so that a report is as of now; it says as of which event.
#[derive(Args)]
pub(super) struct Report {
    /// Which report.
    #[arg(value_enum)]
    kind: Kind,
    #[command(flatten)]
    filter: Filter,
    /// The length of the period, in days that end today; for expiry, in days from today on.
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
    /// What terminals are counted by, for alive: several, with commas between.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [By::Vendor, By::Model])]
    by: Vec<By>,
    /// One JSON object a line: the report, or each page of a list.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, with a head line.
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// How many are alive, silent and never registered, by groups.
    Alive,
    /// Those that have checked in, but not within the period.
    Silent,
    /// Those that never checked in.
    Never,
    /// How many run which version.
    Versions,
    /// The check-ins of each day.
    CheckIns,
    /// What went wrong on each day.
    Failures,
    /// Certificates, keys and components that end within the period, or have ended.
    Expiry,
    /// What points to terminals that were moved or cloned.
    Cases,
    /// What terminals have that they should not, or have not that they should.
    Drift,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Branch,
    Vendor,
    Model,
    Merchant,
    Version,
    State,
}

impl From<By> for Dimension {
    fn from(by: By) -> Self {
        match by {
            By::Branch => Self::Branch,
            By::Vendor => Self::Vendor,
            By::Model => Self::Model,
            By::Merchant => Self::Merchant,
            By::Version => Self::Version,
            By::State => Self::State,
        }
    }
}

impl Report {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        office.catch_up().await?;
        let filter = self.filter.roster();
        let estate = self.reports(office);
        if matches!(self.kind, Kind::CheckIns | Kind::Failures | Kind::Expiry)
            && filter != RosterFilter::under(filter.under.clone())
        {
            // what is counted by day, or found by day, is kept by branch and by nothing else
            bail!(
                "this report is made by --branch alone: it knows no vendor, model, serial number, merchant or version"
            );
        }
        match self.kind {
            Kind::Alive => {
                let by: Vec<_> = self.by.iter().copied().map(Dimension::from).collect();
                self.print(&estate.standing(&filter, &by, self.days).await?, out)
            }
            Kind::Versions => self.print(&estate.versions(&filter).await?, out),
            Kind::CheckIns => self.print(&estate.check_ins(&filter.under, self.days).await?, out),
            Kind::Cases => {
                let made = office.estate.case_report(&office.actor, &filter.under, None).await?;
                self.print(&made, out)
            }
            Kind::Failures => self.print(&estate.failures(&filter.under, self.days).await?, out),
            Kind::Silent => {
                let seen = Seen::Before(estate.since(self.days));
                self.list(office, &filter, seen, out).await
            }
            Kind::Never => self.list(office, &filter, Seen::Never, out).await,
            Kind::Expiry => self.expiry(office, &filter, out).await,
            Kind::Drift => self.drift(office, &filter, out).await,
        }
    }

    /// What is printed for people may be seen; what is written for programs leaves the system as a file.
    fn reports<'a>(&self, office: &'a Office) -> Reports<'a> {
        let reports = office.estate.reports(&office.actor);
        if self.json || self.csv {
            reports.exported()
        } else {
            reports
        }
    }

    fn print<R: Row>(&self, made: &Made<R>, out: &mut impl Write) -> Result<()> {
        if self.json {
            writeln!(out, "{}", serde_json::to_string(made)?)?;
        } else if self.csv {
            write!(out, "{}", made.csv())?;
        } else {
            print_columns(out, R::COLUMNS, made.rows.iter().map(Row::cells).collect())?;
            let cut = if made.cut { ", not all rows" } else { "" };
            writeln!(
                out,
                "\n{} under {}{cut}, {}",
                terminals(made.terminals),
                made.under,
                words(made.as_of)
            )?;
        }
        Ok(())
    }

    async fn list(&self, office: &Office, filter: &RosterFilter, seen: Seen, out: &mut impl Write) -> Result<()> {
        let reports = self.reports(office);
        let all = reports.count(filter).await?;
        let listed = RosterFilter {
            seen: Some(seen),
            ..filter.clone()
        };
        let mut list = List::default();
        loop {
            let page = reports.terminals(&listed, list.next.as_deref(), PAGE).await?;
            if !list.page(self, &page.rows, page.as_of, &page, page.next.clone(), out)? {
                break;
            }
        }
        list.end(self, &format!("of {} under {}", terminals(all), filter.under), out)
    }

    async fn expiry(&self, office: &Office, filter: &RosterFilter, out: &mut impl Write) -> Result<()> {
        let reports = self.reports(office);
        let all = reports.count(&RosterFilter::under(filter.under.clone())).await?;
        let mut list = List::default();
        loop {
            let page = reports
                .expiring(&filter.under, self.days, list.next.as_deref(), PAGE)
                .await?;
            if !list.page(self, &page.rows, page.as_of, &page, page.next.clone(), out)? {
                break;
            }
        }
        list.end(self, &format!("of {} under {}", terminals(all), filter.under), out)
    }

    async fn drift(&self, office: &Office, filter: &RosterFilter, out: &mut impl Write) -> Result<()> {
        let all = self
            .reports(office)
            .count(&RosterFilter::under(filter.under.clone()))
            .await?;
        let mut list = List::default();
        loop {
            let page = office
                .estate
                .drift(&office.actor, &filter.under, None, list.next.as_deref(), PAGE)
                .await?;
            if !list.page(self, &page.rows, page.as_of, &page, page.next.clone(), out)? {
                break;
            }
        }
        list.end(self, &format!("in {} under {}", terminals(all), filter.under), out)
    }
}

/// A list that is printed page by page, so that a long one begins at once.
#[derive(Default)]
struct List {
    next: Option<String>,
    count: u64,
    as_of: AsOf,
    columns: &'static [&'static str],
    cells: Vec<Vec<String>>,
    begun: bool,
}

impl List {
    /// Whether there is another page.
    fn page<R: Row>(
        &mut self,
        command: &Report,
        rows: &[R],
        as_of: AsOf,
        page: &impl Serialize,
        next: Option<String>,
        out: &mut impl Write,
    ) -> Result<bool> {
        self.count = self.count.saturating_add(u64::try_from(rows.len())?);
        if command.json {
            writeln!(out, "{}", serde_json::to_string(page)?)?;
        } else if command.csv {
            write!(out, "{}", report::csv(rows, as_of, !self.begun))?;
        } else {
            self.cells.extend(rows.iter().map(Row::cells));
        }
        (self.begun, self.as_of, self.columns, self.next) = (true, as_of, R::COLUMNS, next);
        Ok(self.next.is_some())
    }

    fn end(self, command: &Report, of: &str, out: &mut impl Write) -> Result<()> {
        if !command.json && !command.csv {
            print_columns(out, self.columns, self.cells)?;
            writeln!(out, "\n{} {of}, {}", self.count, words(self.as_of))?;
        }
        Ok(())
    }
}

fn terminals(count: u64) -> String {
    format!("{count} terminal{}", if count == 1 { "" } else { "s" })
}

fn words(as_of: AsOf) -> String {
    match as_of.sequence {
        0 => "before the first event".to_owned(),
        sequence => format!("as of event {sequence}, {} UTC", show(as_of.time)),
    }
}
