//! `tms terminals` and `tms terminal`.

use super::filter::Filter;
use super::print_table;
use crate::office::Office;
use crate::time::{rfc3339, show};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use tms_core::rule::task::{Report, Slot, State};
use tms_core::store::{self, Assignment};
use tms_proto::code::Stage;
use tms_proto::message::Inventory;

/// List terminals: what they run, what is under way, when they called and are to call.
#[derive(Args)]
pub(super) struct Terminals {
    #[command(flatten)]
    filter: Filter,
    /// Only those in this state.
    #[arg(long, value_enum)]
    state: Option<StateName>,
    /// Only those that have not checked in within so many days.
    #[arg(long, value_name = "DAYS")]
    silent: Option<u32>,
    /// One JSON object a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, with a head line.
    #[arg(long)]
    csv: bool,
}

/// A state of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StateName {
    Enrolled,
    Active,
    Deactivated,
    Blacklisted,
}

/// Show one terminal: state, components, assignments, last check-in, next contact.
#[derive(Args)]
pub(super) struct Terminal {
    /// The terminal, by serial number, vendor/model/serial or id.
    serial: String,
}

#[derive(Serialize)]
struct Row {
    id: String,
    vendor: String,
    model: String,
    serial: String,
    state: &'static str,
    runs: String,
    update: String,
    update_stage: String,
    last_check_in: String,
    next_contact: String,
}

impl Row {
    async fn read(office: &Office, terminal: &store::Terminal) -> Result<Self> {
        let inventory = office.inventory(terminal.id).await?;
        let newest = office.assignments(terminal.id).await?.pop();
        Ok(Self {
            id: terminal.id.to_string(),
            vendor: terminal.holder.vendor.clone(),
            model: terminal.holder.model.clone(),
            serial: terminal.holder.serial.clone(),
            state: terminal.state.name(),
            runs: inventory
                .map(|inventory| versions(&inventory.inventory))
                .unwrap_or_default(),
            update: newest
                .as_ref()
                .map(|newest| newest.order.describe())
                .unwrap_or_default(),
            update_stage: newest.as_ref().map(outcome).unwrap_or_default(),
            last_check_in: terminal.last_check_in.map(rfc3339).unwrap_or_default(),
            next_contact: terminal.next_contact.map(|next| rfc3339(next.from)).unwrap_or_default(),
        })
    }
}

impl Terminals {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        use tms_core::clock::{Clock, SystemClock};
        let since = self
            .silent
            .map(|days| SystemClock.now().saturating_sub(u64::from(days) * 86_400));
        let wanted = |terminal: &store::Terminal| {
            self.state.is_none_or(|state| state.name() == terminal.state.name())
                && since.is_none_or(|since| terminal.last_check_in.is_none_or(|last| last < since))
        };
        let mut rows = Vec::new();
        let mut csv = csv::Writer::from_writer(Vec::new());
        let mut count = 0u64;
        office.catch_up().await?;
        let filter = self.filter.roster();
        let mut next = None;
        let mut over = false;
        while !over {
            let page = office.listed(&filter, &mut next).await?;
            over = next.is_none();
            for terminal in page.iter().filter(|terminal| wanted(terminal)) {
                let row = Row::read(office, terminal).await?;
                count += 1;
                if self.json {
                    writeln!(out, "{}", serde_json::to_string(&row)?)?;
                } else if self.csv {
                    csv.serialize(&row)?;
                } else {
                    let model = format!("{} {}", row.vendor, row.model);
                    let (last, next) = (
                        short(terminal.last_check_in),
                        short(terminal.next_contact.map(|next| next.from)),
                    );
                    let state = row.state.to_owned();
                    rows.push([
                        model,
                        row.serial,
                        state,
                        row.runs,
                        row.update,
                        row.update_stage,
                        last,
                        next,
                    ]);
                }
            }
            // Page by page, so that the list of a large estate begins at once and never stands in memory whole.
            csv.flush()?;
            out.write_all(csv.get_ref())?;
            csv = csv::WriterBuilder::new()
                .has_headers(csv.get_ref().is_empty() && count == 0)
                .from_writer(Vec::new());
        }
        if self.json || self.csv {
            return Ok(());
        }
        if count == 0 {
            let which = if self.state.is_some() || self.silent.is_some() || !self.filter.is_all() {
                " like that"
            } else {
                ""
            };
            writeln!(out, "there is no terminal{which}: tms enrol adds one")?;
            return Ok(());
        }
        // The store lists them by their ids, which are random.
        rows.sort();
        print_table(
            out,
            [
                "model",
                "serial",
                "state",
                "runs",
                "update",
                "stage",
                "last check-in",
                "next contact",
            ],
            rows,
        )?;
        writeln!(
            out,
            "\n{count} terminal{}, times in UTC",
            if count == 1 { "" } else { "s" }
        )?;
        Ok(())
    }
}

impl StateName {
    const fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Blacklisted => "blacklisted",
        }
    }
}

impl Terminal {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let terminal = office.find(&self.serial).await?;
        let never = || "never".to_owned();
        writeln!(out, "terminal       {}", terminal.holder)?;
        writeln!(out, "id             {}", terminal.id)?;
        writeln!(out, "state          {}", terminal.state.name())?;
        let key = terminal
            .key
            .map_or_else(|| "the first that is certified for it".into(), |key| key.to_string());
        writeln!(out, "key            {key}")?;
        if let Some(epoch) = terminal.main_key_epoch {
            writeln!(out, "main key       epoch {epoch}")?;
        }
        writeln!(
            out,
            "last check-in  {}",
            terminal.last_check_in.map_or_else(never, show)
        )?;
        if let Some(next) = &terminal.next_contact {
            writeln!(out, "next contact   {}, within {} s", show(next.from), next.window)?;
        }
        writeln!(out, "calls          {}", terminal.contact)?;
        writeln!(out, "tickets        {} live", terminal.tickets.len())?;
        let credential = if terminal.credential.is_some() {
            "remembered"
        } else {
            "none remembered"
        };
        writeln!(out, "credential     {credential}")?;
        if terminal.renewed_certificate.is_some() {
            writeln!(out, "certificate    a renewed one waits for it")?;
        }
        for logical in &terminal.logical {
            writeln!(out, "merchant       {} terminal {}", logical.merchant, logical.terminal)?;
        }

        match office.inventory(terminal.id).await? {
            None => writeln!(out, "\nno inventory reported yet")?,
            Some(record) => {
                writeln!(out, "\ninventory of {} UTC", show(record.reported))?;
                let rows = record.inventory.components.into_iter().map(|component| {
                    [
                        component.id,
                        component.kind.to_string(),
                        component.version,
                        component.counter.map(|counter| counter.to_string()).unwrap_or_default(),
                        component.status.to_string(),
                        component
                            .digest
                            .map(|digest| digest.short().to_string())
                            .unwrap_or_default(),
                    ]
                });
                print_table(
                    out,
                    ["component", "kind", "version", "counter", "status", "content"],
                    rows.collect(),
                )?;
            }
        }

        let assignments = office.assignments(terminal.id).await?;
        if assignments.is_empty() {
            writeln!(out, "\nnothing was ever queued for it")?;
            return Ok(());
        }
        writeln!(out)?;
        let rows = assignments.into_iter().map(|assignment| {
            [
                assignment.action.to_string(),
                assignment.order.describe(),
                decided(&assignment).unwrap_or_else(|| assignment.stage.to_string()),
                assignment.code.to_string(),
                assignment.attempt.to_string(),
                show(assignment.updated),
                assignment.actor,
                assignment.text.unwrap_or_default(),
            ]
        });
        let head = [
            "action",
            "package",
            "stage",
            "result",
            "attempt",
            "updated (UTC)",
            "queued by",
            "remark",
        ];
        Ok(print_table(out, head, rows.collect())?)
    }
}

/// What a terminal runs, in a few words.
fn versions(inventory: &Inventory) -> String {
    let each = inventory
        .components
        .iter()
        .map(|component| format!("{} {}", component.id, component.version));
    each.collect::<Vec<_>>().join(", ")
}

/// What became of it: by the server's decision, or how far the terminal said that it has come.
fn outcome(assignment: &Assignment) -> String {
    if let Some(decided) = decided(assignment) {
        return decided;
    }
    match assignment.stage {
        Stage::Rejected | Stage::Waiting | Stage::RolledBack => format!("{} {}", assignment.stage, assignment.code),
        stage => stage.to_string(),
    }
}

/// What the server decided of it, if it did, and what the terminal has said since.
fn decided(assignment: &Assignment) -> Option<String> {
    let state = assignment.standing.state;
    let decided = matches!(
        state,
        State::Cancelled { .. } | State::Superseded { .. } | State::TimedOut
    );
    let name = Slot::of(state).name().replace('_', " ");
    decided.then(|| match assignment.standing.late {
        Some(Report::Confirmed) => format!("{name}, yet it runs"),
        _ => name,
    })
}

fn short(seconds: Option<u64>) -> String {
    seconds.map_or_else(
        || "never".into(),
        |seconds| show(seconds).get(..16).unwrap_or_default().to_owned(),
    )
}
