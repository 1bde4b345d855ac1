//! `tms drift`.

use super::print_table;
use crate::office::Office;
use crate::time::show;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::io::Write;
use tms_core::rule::drift::Item;
use tms_core::store::{BranchPath, Caller};

/// Show what terminals have that they should not, accept it, or have it put right.
#[derive(Subcommand)]
pub(super) enum Drift {
    /// List what differs. `tms report drift` has it as CSV and JSON.
    List {
        /// In this branch and those below it.
        #[arg(default_value = "/")]
        under: BranchPath,
    },
    /// What the terminal has is right from now on.
    Accept(Which),
    /// The terminal gets what it shall have: its package or parameter set is brought again, or what is foreign is removed.
    Restore(Which),
}

/// Something of a terminal.
#[derive(Args)]
pub(super) struct Which {
    /// Serial number, vendor/model/serial, or id.
    terminal: String,
    /// The component, or the parameter set.
    name: String,
    /// It is a parameter set.
    #[arg(long)]
    parameters: bool,
}

/// How many terminals are read at a time.
const PAGE: u32 = 1_000;

impl Drift {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        office.catch_up().await?;
        match self {
            Self::List { under } => {
                let (mut rows, mut next) = (Vec::new(), None::<String>);
                let as_of = loop {
                    let page = estate.drift(actor, &under, None, next.as_deref(), PAGE).await?;
                    rows.extend(page.rows.into_iter().map(|row| {
                        let terminal = format!("{}/{}/{}", row.vendor, row.model, row.serial);
                        [
                            terminal,
                            row.what,
                            row.name,
                            row.class,
                            row.response,
                            row.version,
                            row.changed,
                        ]
                    }));
                    next = page.next;
                    if next.is_none() {
                        break page.as_of.time;
                    }
                };
                let head = ["terminal", "what", "name", "class", "response", "version", "changed"];
                let count = rows.len();
                print_table(out, head, rows)?;
                writeln!(out, "\n{count} under {under}, as of {} UTC", show(as_of))?;
            }
            Self::Accept(which) => {
                let (terminal, item) = which.find(office).await?;
                estate.accept_drift(actor, &terminal, &item).await?;
                writeln!(out, "{} of {} is accepted", which.name, which.terminal)?;
            }
            Self::Restore(which) => {
                let (terminal, item) = which.find(office).await?;
                let action = estate.restore_drift(actor, &terminal, &item).await?;
                writeln!(
                    out,
                    "{} of {} is put right by action {action}",
                    which.name, which.terminal
                )?;
            }
        }
        Ok(())
    }
}

impl Which {
    async fn find(&self, office: &Office) -> Result<(Caller, Item)> {
        let item = match self.parameters {
            true => Item::Parameters(self.name.clone()),
            false => Item::Component(self.name.clone()),
        };
        Ok((Caller::Id(office.find(&self.terminal).await?.id), item))
    }
}
