//! `tms notice`.

use super::print_table;
use crate::office::Office;
use crate::time::show;
use anyhow::{Context, Result};
use clap::Subcommand;
use std::io::Write;
use tms_core::store::{BranchPath, Caller};

/// Ask that terminals call now, by way of the transaction host.
#[derive(Subcommand)]
pub(super) enum Notice {
    /// A terminal is to call now: the transaction host is told when it asks.
    Put {
        /// Serial number, vendor/model/serial, or id.
        terminal: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// The number of a task, which the terminal gives back when it calls.
        #[arg(long)]
        task: Option<u32>,
        /// Hours for which it stands, where the terminal does not call.
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        hours: u32,
    },
    /// Take a notice back.
    Drop {
        /// Serial number, vendor/model/serial, or id.
        terminal: String,
    },
    /// List the notices that stand.
    List {
        /// In this branch and those below it.
        #[arg(default_value = "/")]
        under: BranchPath,
    },
}

impl Notice {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        while estate.advance_call_notices(u32::MAX).await?.events > 0 {}
        match self {
            Self::Put {
                terminal,
                reason,
                task,
                hours,
            } => {
                let id = Caller::Id(office.find(&terminal).await?.id);
                let seconds = u64::from(hours).checked_mul(3_600).context("too many hours")?;
                let notice = estate.ask_to_call(actor, &id, (&reason, task), seconds).await?;
                writeln!(out, "{terminal} is asked to call, until {} UTC", show(notice.until))?;
            }
            Self::Drop { terminal } => {
                let id = Caller::Id(office.find(&terminal).await?.id);
                estate.drop_call_notice(actor, &id).await?;
                writeln!(out, "{terminal} is not asked to call any more")?;
            }
            Self::List { under } => {
                let notices = estate.call_notices(actor, &under, 10_000).await?.into_iter();
                let rows = notices.map(|notice| {
                    [
                        notice.terminal.to_string(),
                        notice.branch.to_string(),
                        show(notice.since),
                        show(notice.until),
                        notice.operator,
                        notice.reason,
                    ]
                });
                print_table(
                    out,
                    ["terminal", "branch", "since", "until", "by", "reason"],
                    rows.collect(),
                )?;
            }
        }
        Ok(())
    }
}
