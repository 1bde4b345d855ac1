//! `tms audit`.

use super::print_table;
use crate::office::Office;
use crate::refused;
use crate::time::show;
use anyhow::{Context, Result};
use clap::Subcommand;
use std::io::Write;
use std::str::FromStr;
use tms_core::estate::AuditHead;

/// Show and verify what operators did.
#[derive(Subcommand)]
pub(super) enum Audit {
    /// Show entries, the oldest first.
    List {
        /// Entries after this number.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
        /// As JSON, a line each.
        #[arg(long)]
        json: bool,
    },
    /// Verify that no entry was changed or taken away. Note the end that it prints somewhere else: next time, it shows that the
    /// whole log was not made anew.
    Verify {
        /// An end that was noted: NUMBER:DIGEST.
        #[arg(long, value_name = "END")]
        noted: Option<Noted>,
    },
}

/// An end of the log, as `verify` prints it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted(AuditHead);

impl FromStr for Noted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, digest) = text.split_once(':').context("it is NUMBER:DIGEST")?;
        Ok(Self(AuditHead {
            number: number.parse().context("the number")?,
            digest: digest.parse().ok().context("the digest has 64 hexadecimal digits")?,
        }))
    }
}

impl Audit {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        match self {
            Self::List { after, limit, json } => {
                let entries = office.estate.audit(&office.actor, after, limit).await?;
                if json {
                    for entry in entries {
                        writeln!(out, "{}", serde_json::to_string(&entry)?)?;
                    }
                    return Ok(());
                }
                let rows = entries.into_iter().map(|entry| {
                    [
                        entry.number.to_string(),
                        show(entry.time),
                        entry.operator,
                        entry.act,
                        entry.subject,
                        entry.branch.to_string(),
                    ]
                });
                print_table(
                    out,
                    ["number", "time", "operator", "act", "subject", "branch"],
                    rows.collect(),
                )?;
            }
            Self::Verify { noted } => {
                let end = office.estate.verify_audit(noted.map(|noted| noted.0)).await;
                let end = match end {
                    Ok(end) => end,
                    Err(tms_core::estate::EstateError::Audit(broken)) => return Err(refused(broken.to_string())),
                    Err(other) => return Err(other.into()),
                };
                writeln!(
                    out,
                    "{} entries, none changed; the end is {}:{}",
                    end.number, end.number, end.digest
                )?;
            }
        }
        Ok(())
    }
}
