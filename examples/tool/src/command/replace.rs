//! `tms replace`.

use super::print_table;
use crate::office::Office;
use crate::time::show;
use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use std::io::Write;
use tms_core::estate::Cause;
use tms_core::store::{BranchPath, Caller};

/// Approve that terminals are replaced.
#[derive(Subcommand)]
pub(super) enum Replace {
    /// Approve it, and print the code that the new terminal registers with. The code is kept nowhere.
    Approve {
        /// The old terminal: serial number, VENDOR/MODEL/SERIAL or id.
        terminal: String,
        /// Why. One that is lost or stolen is blacklisted at once.
        #[arg(long, value_enum)]
        cause: Why,
        /// In words.
        #[arg(long)]
        reason: String,
        /// How long the code holds.
        #[arg(long, value_name = "HOURS", default_value_t = 72)]
        hours: u32,
    },
    /// Show the open replacements.
    List {
        /// Of this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
    },
    /// Show what replaced a terminal, and what it replaced.
    History {
        /// The terminal: serial number, VENDOR/MODEL/SERIAL or id.
        terminal: String,
    },
    /// Call a replacement off.
    Withdraw {
        /// Its id.
        id: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Why {
    Defective,
    Exchange,
    Lost,
    Stolen,
}

impl From<Why> for Cause {
    fn from(why: Why) -> Self {
        match why {
            Why::Defective => Self::Defective,
            Why::Exchange => Self::Exchange,
            Why::Lost => Self::Lost,
            Why::Stolen => Self::Stolen,
        }
    }
}

impl Replace {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        let found = match self {
            Self::Approve {
                terminal,
                cause,
                reason,
                hours,
            } => {
                let terminal = office.find(&terminal).await?;
                let valid = u64::from(hours).saturating_mul(3_600);
                let old = Caller::Id(terminal.id);
                let (replacement, code) = estate
                    .approve_replacement(actor, &old, cause.into(), &reason, valid)
                    .await?;
                writeln!(
                    out,
                    "{} may be replaced until {} UTC",
                    replacement.holder,
                    show(replacement.expires)
                )?;
                writeln!(
                    out,
                    "code {code}, for the old serial number {}",
                    replacement.holder.serial
                )?;
                return Ok(());
            }
            Self::Withdraw { id } => {
                estate.withdraw_replacement(actor, &id).await?;
                writeln!(out, "replacement {id} is called off")?;
                return Ok(());
            }
            Self::List { branch } => estate.replacements(actor, &branch, 10_000).await?,
            Self::History { terminal } => estate.swaps(actor, office.find(&terminal).await?.id).await?,
        };
        let rows = found.into_iter().map(|replacement| {
            [
                replacement.id,
                replacement.holder.to_string(),
                replacement.branch.to_string(),
                format!("{:?}", replacement.cause).to_lowercase(),
                replacement.approver,
                show(replacement.expires),
                format!("{:?}", replacement.state).to_lowercase(),
            ]
        });
        let head = ["id", "terminal", "branch", "cause", "approved by", "until", "state"];
        Ok(print_table(out, head, rows.collect())?)
    }
}
