//! How the story is told: headings, lines with their date, and tables.

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::cell::Cell;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use tms_core::estate::AsOf;
use tms_core::estate::report::{Report, Row, csv};
use tms_program::say;
use tms_program::table::{print_columns, print_table};
use tms_tool::time::show;

/// The most rows of a table that are shown.
const SHOWN: usize = 24;

/// Where the bank's clocks are.
pub(crate) const ZONE: &str = "Asia/Shanghai";

/// Tells the story, and keeps its tables where that was asked for.
pub(crate) struct Story {
    csv: Option<PathBuf>,
    plain: bool,
    zone: TimeZone,
    written: usize,
    /// The last line was empty.
    blank: Cell<bool>,
}

impl Story {
    pub(crate) fn new(csv: Option<PathBuf>, plain: bool) -> Result<Self> {
        if let Some(directory) = &csv {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let zone = TimeZone::get(ZONE).context("the bank's time zone")?;
        Ok(Self {
            csv,
            plain,
            zone,
            written: 0,
            blank: Cell::new(false),
        })
    }

    /// Begins a part, and says what it is about.
    pub(crate) fn heading(&self, title: &str, about: &[&str]) {
        self.gap();
        if self.plain {
            self.line(title);
        } else {
            self.line(format_args!("\x1b[1m{title}\x1b[0m"));
        }
        for line in about {
            self.note(line);
        }
        self.gap();
    }

    /// What somebody did, or what happened.
    pub(crate) fn at(&self, time: u64, who: &str, what: impl AsRef<str>) {
        self.note(format!("{}  {who:<9}  {}", self.moment(time), what.as_ref()));
    }

    /// A sentence about what was just seen.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        self.line(format_args!("   {}", text.as_ref()));
    }

    /// A moment by the bank's clocks.
    pub(crate) fn moment(&self, time: u64) -> String {
        let at = i64::try_from(time)
            .ok()
            .and_then(|time| Timestamp::from_second(time).ok());
        at.map_or_else(String::new, |at| {
            at.to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d %H:%M").to_string()
        })
    }

    /// A table of the story's own.
    pub(crate) fn table<const N: usize>(
        &mut self,
        name: &str,
        caption: &str,
        head: [&str; N],
        rows: Vec<[String; N]>,
    ) -> Result<()> {
        if let Some(path) = self.file(name) {
            let write = || -> Result<()> {
                let mut file = ::csv::Writer::from_path(&path)?;
                file.write_record(head)?;
                for row in &rows {
                    file.write_record(row)?;
                }
                Ok(file.flush()?)
            };
            write().with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut out = Vec::new();
        let more = rows.len().saturating_sub(SHOWN);
        print_table(&mut out, head, rows.into_iter().take(SHOWN).collect())?;
        self.show(caption, &out, more);
        Ok(())
    }

    /// A report of the estate.
    pub(crate) fn report<R: Row>(&mut self, name: &str, caption: &str, report: &Report<R>) -> Result<()> {
        let caption = format!("{caption}; {} terminals, {}", report.terminals, words(report.as_of));
        self.rows(name, &caption, &report.rows, report.as_of)
    }

    /// The same; of its columns, these are shown.
    pub(crate) fn report_of<R: Row>(
        &mut self,
        name: &str,
        caption: &str,
        report: &Report<R>,
        columns: &[&str],
    ) -> Result<()> {
        let caption = format!("{caption}; {} terminals, {}", report.terminals, words(report.as_of));
        self.write(name, &report.rows, report.as_of)?;
        let picked = |cells: Vec<String>| {
            let named = R::COLUMNS.iter().zip(cells);
            named
                .filter(|(column, _)| columns.contains(column))
                .map(|(_, cell)| cell)
                .collect()
        };
        let head: Vec<&str> = R::COLUMNS
            .iter()
            .copied()
            .filter(|column| columns.contains(column))
            .collect();
        let mut out = Vec::new();
        let rows = report.rows.iter().take(SHOWN).map(|row| picked(row.cells()));
        print_columns(&mut out, &head, rows.collect())?;
        self.show(&caption, &out, report.rows.len().saturating_sub(SHOWN));
        Ok(())
    }

    /// Rows of a report.
    pub(crate) fn rows<R: Row>(&mut self, name: &str, caption: &str, rows: &[R], as_of: AsOf) -> Result<()> {
        self.write(name, rows, as_of)?;
        let mut out = Vec::new();
        print_columns(&mut out, R::COLUMNS, rows.iter().take(SHOWN).map(Row::cells).collect())?;
        self.show(caption, &out, rows.len().saturating_sub(SHOWN));
        Ok(())
    }

    fn write<R: Row>(&mut self, name: &str, rows: &[R], as_of: AsOf) -> Result<()> {
        if let Some(path) = self.file(name) {
            let text = csv(rows, as_of, true);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// How many tables were written, and where.
    pub(crate) fn kept(&self) -> Option<(usize, &Path)> {
        self.csv.as_deref().map(|directory| (self.written, directory))
    }

    fn file(&mut self, name: &str) -> Option<PathBuf> {
        let directory = self.csv.as_ref()?;
        self.written += 1;
        Some(directory.join(format!("{name}.csv")))
    }

    /// Shows a table, of which `more` rows are left out.
    fn show(&self, caption: &str, table: &[u8], more: usize) {
        self.gap();
        self.note(caption);
        for line in String::from_utf8_lossy(table).lines() {
            self.line(format_args!("     {line}"));
        }
        if more > 0 {
            self.line(format_args!("     and {more} more"));
        }
        self.gap();
    }

    fn line(&self, line: impl fmt::Display) {
        self.blank.set(false);
        say(line);
    }

    /// An empty line, where there is none yet.
    fn gap(&self) {
        if !self.blank.replace(true) {
            say("");
        }
    }
}

/// As of when something is.
pub(crate) fn words(as_of: AsOf) -> String {
    format!("as of event {}, {} UTC", as_of.sequence, show(as_of.time))
}
