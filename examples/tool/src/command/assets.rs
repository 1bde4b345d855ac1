//! `tms assets`.

use super::{print_columns, print_table};
use crate::office::Office;
use crate::time::show;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use tms_core::estate::Stocktaking;
use tms_core::estate::report::{AssetRow, Row};
use tms_core::rule::asset::{Columns, List};
use tms_core::rule::name::Aliases;
use tms_core::store::BranchPath;

/// Compare lists of assets with the estate.
#[derive(Subcommand)]
pub(super) enum Assets {
    /// Read a list in CSV beside the terminals of a branch, and keep what was found.
    Reconcile {
        /// The file. Its head line has a vendor, a model and a serial number, and perhaps a branch and a merchant number.
        file: PathBuf,
        /// The terminals of this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
        /// What separates its fields.
        #[arg(long, value_name = "CHARACTER", default_value_t = ',')]
        delimiter: char,
        #[command(flatten)]
        form: Form,
    },
    /// Show what was found of a list.
    Show {
        /// The id of the reconciliation.
        id: String,
        #[command(flatten)]
        form: Form,
    },
    /// Show the lists that were read.
    List {
        /// Of this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
    },
}

#[derive(Args)]
pub(super) struct Form {
    /// One JSON object.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, with a head line.
    #[arg(long)]
    csv: bool,
}

impl Assets {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Reconcile {
                file,
                branch,
                delimiter,
                form,
            } => {
                office.catch_up().await?;
                let opened = File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
                let columns = Columns {
                    delimiter: u8::try_from(delimiter).context("the delimiter is one byte")?,
                    ..Columns::default()
                };
                let aliases = Aliases::known();
                let list = List::new(BufReader::new(opened), &columns, &aliases)
                    .with_context(|| format!("{} is no list of assets", file.display()))?;
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let done = estate.reconcile_assets(actor, &branch, &name, list).await?;
                print(office, &done, &form, out).await
            }
            Self::Show { id, form } => print(office, &estate.stocktaking(actor, &id).await?, &form, out).await,
            Self::List { branch } => {
                let rows = estate
                    .stocktakings(actor, &branch, 10_000)
                    .await?
                    .into_iter()
                    .map(|done| {
                        [
                            done.id,
                            done.name,
                            done.branch.to_string(),
                            done.operator,
                            show(done.time),
                            done.totals.lines.to_string(),
                            done.kept.to_string(),
                        ]
                    });
                let head = ["id", "list", "branch", "by", "when", "lines", "findings"];
                Ok(print_table(out, head, rows.collect())?)
            }
        }
    }
}

async fn print(office: &Office, done: &Stocktaking, form: &Form, out: &mut impl Write) -> Result<()> {
    let report = office.estate.asset_report(&office.actor, &done.id).await?;
    if form.json {
        writeln!(out, "{}", serde_json::json!({ "stocktaking": done, "report": report }))?;
    } else if form.csv {
        write!(out, "{}", report.csv())?;
    } else {
        print_columns(out, AssetRow::COLUMNS, report.rows.iter().map(Row::cells).collect())?;
        let totals = &done.totals;
        writeln!(
            out,
            "\n{}: {} lines, {} matched, {} moved, {} unknown, {} missing, {} twice, {} cannot be read",
            done.id,
            totals.lines,
            totals.matched,
            totals.moved,
            totals.unknown,
            totals.missing,
            totals.duplicate,
            totals.malformed
        )?;
    }
    Ok(())
}
