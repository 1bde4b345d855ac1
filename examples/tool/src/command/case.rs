//! `tms case`.

use super::print_columns;
use crate::office::Office;
use crate::refused;
use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use tms_core::clock::{Clock, SystemClock};
use tms_core::estate::report::Row;
use tms_core::estate::{CaseSettings, CaseState, Disposition};
use tms_core::rule::relocation::{Move, Place};
use tms_core::store::BranchPath;

/// Work on cases: what points to terminals that were moved or cloned.
#[derive(Subcommand)]
pub(super) enum Case {
    /// Show cases, as of now.
    List {
        /// In this state; in all, where none is said.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// Of this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
    },
    /// Show one case as JSON, with its evidence and its history.
    Show {
        /// Its id.
        id: String,
    },
    /// Give a case to an operator.
    Assign {
        /// Its id.
        id: String,
        /// Who is to work on it.
        owner: String,
    },
    /// Decide a case, and close it.
    Dispose {
        /// Its id.
        id: String,
        /// What was decided. For a clone, that it be blacklisted is proposed to another operator.
        #[arg(long = "as", value_enum)]
        decided: Decided,
        /// Why.
        #[arg(long)]
        reason: String,
        /// For an approved move: for so many days; for good, where nothing is said.
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// Approve beforehand that a terminal moves.
    Move {
        /// The terminal: serial number, VENDOR/MODEL/SERIAL or id.
        terminal: String,
        /// For so many days from now on.
        #[arg(long, value_name = "N")]
        days: u32,
        /// A telephone number of the other place.
        #[arg(long = "number", value_name = "NUMBER")]
        numbers: Vec<String>,
    },
    /// Show dial plan, weights and white list as JSON, or change them.
    Settings {
        /// A file with what they are to be.
        #[arg(long, value_name = "FILE")]
        set: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum State {
    Open,
    Assigned,
    Closed,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Decided {
    ApprovedMove,
    FalseAlarm,
    ConfirmedRelocation,
    Clone,
}

impl From<State> for CaseState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Assigned => Self::Assigned,
            State::Closed => Self::Closed,
        }
    }
}

/// The time after so many days.
pub(super) fn after(days: u32) -> Result<(u64, u64)> {
    let now = SystemClock.now();
    Ok((now, now.saturating_add(u64::from(days).saturating_mul(86_400))))
}

impl Case {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::List { state, branch } => {
                office.catch_up().await?;
                let report = estate.case_report(actor, &branch, state.map(CaseState::from)).await?;
                let cells = report.rows.iter().map(Row::cells).collect();
                print_columns(out, tms_core::estate::report::CaseRow::COLUMNS, cells)?;
            }
            Self::Show { id } => {
                writeln!(
                    out,
                    "{}",
                    serde_json::to_string_pretty(&estate.case(actor, &id).await?)?
                )?;
            }
            Self::Assign { id, owner } => {
                estate.assign_case(actor, &id, &owner).await?;
                writeln!(out, "case {id} is {owner}'s")?;
            }
            Self::Dispose {
                id,
                decided,
                reason,
                days,
            } => {
                let until = days.map(after).transpose()?.map(|(_, until)| until);
                let disposition = match decided {
                    Decided::ApprovedMove => Disposition::ApprovedMove { until },
                    Decided::FalseAlarm => Disposition::FalseAlarm,
                    Decided::ConfirmedRelocation => Disposition::ConfirmedRelocation,
                    Decided::Clone => Disposition::Clone,
                };
                let case = estate.dispose_case(actor, &id, disposition, &reason).await?;
                let said = case.history.last().map(|note| note.what.clone()).unwrap_or_default();
                writeln!(out, "case {id} is closed: {said}")?;
            }
            Self::Move {
                terminal,
                days,
                numbers,
            } => {
                let terminal = office.find(&terminal).await?;
                let plan = estate.case_settings().await?.plan;
                let read = |number: &String| {
                    plan.number(number)
                        .map_err(|error| refused(format!("{number}: {error}")))
                };
                let to = Place {
                    numbers: numbers.iter().map(read).collect::<Result<_>>()?,
                    ..Place::default()
                };
                let (from, until) = after(days)?;
                estate
                    .approve_move(actor, terminal.id, Move { from, until, to })
                    .await?;
                writeln!(out, "{} may move, for {days} days", terminal.holder)?;
            }
            Self::Settings { set: None } => {
                writeln!(out, "{}", serde_json::to_string_pretty(&estate.case_settings().await?)?)?;
            }
            Self::Settings { set: Some(file) } => {
                let text = tokio::fs::read_to_string(&file)
                    .await
                    .with_context(|| format!("cannot read {}", file.display()))?;
                let settings: CaseSettings = serde_json::from_str(&text).context("these are no settings")?;
                estate.set_case_settings(actor, settings).await?;
                writeln!(out, "settings are taken")?;
            }
        }
        Ok(())
    }
}
