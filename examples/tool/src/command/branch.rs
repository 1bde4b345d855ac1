//! `tms branch`.

use super::print_table;
use crate::office::Office;
use anyhow::Result;
use clap::Subcommand;
use std::io::Write;
use tms_core::store::{BranchPath, Caller};

/// Make, show and remove branches.
#[derive(Subcommand)]
pub(super) enum Branch {
    /// Make a branch, or change its name or zone.
    Put {
        /// Its path: /east is a branch of head office, /east/harbour one of /east.
        path: BranchPath,
        /// What people call it.
        #[arg(long)]
        name: String,
        /// Its time zone, such as Asia/Shanghai.
        #[arg(long)]
        zone: Option<String>,
    },
    /// Show the branches.
    List {
        /// Those of this one.
        #[arg(default_value = "/")]
        under: BranchPath,
    },
    /// Move a terminal to a branch.
    Move {
        /// The terminal, by serial number, vendor/model/serial or id.
        terminal: String,
        /// The branch.
        to: BranchPath,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Remove a branch in which nothing is left.
    Remove {
        /// Its path.
        path: BranchPath,
    },
}

impl Branch {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Put { path, name, zone } => {
                let branch = tms_core::estate::Branch {
                    path: path.clone(),
                    name,
                    zone,
                    variables: Default::default(),
                };
                estate.put_branch(actor, branch).await?;
                writeln!(out, "branch {path} is there")?;
            }
            Self::List { under } => {
                let mut rows = Vec::new();
                let mut after = None;
                loop {
                    let page = estate.branches(actor, &under, after, 256).await?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.path.clone());
                    rows.extend(
                        page.into_iter()
                            .map(|branch| [branch.path.to_string(), branch.name, branch.zone.unwrap_or_default()]),
                    );
                }
                print_table(out, ["path", "name", "zone"], rows)?;
            }
            Self::Move { terminal, to, reason } => {
                let terminal = office.find(&terminal).await?;
                estate
                    .move_terminal(actor, &Caller::Id(terminal.id), &to, &reason)
                    .await?;
                writeln!(out, "{} belongs to {to}", terminal.holder)?;
            }
            Self::Remove { path } => {
                estate.remove_branch(actor, &path).await?;
                writeln!(out, "branch {path} is gone")?;
            }
        }
        Ok(())
    }
}
