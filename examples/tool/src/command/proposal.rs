//! `tms propose` and `tms proposal`.

use super::print_table;
use crate::key::read_public;
use crate::office::Office;
use crate::time::show;
use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use tms_core::clock::{Clock, SystemClock};
use tms_core::estate::{self, Act, Standing};
use tms_core::store::{BranchPath, TerminalId};

/// Propose something that takes two operators. Nothing is changed until another approves it.
#[derive(Subcommand)]
pub(super) enum Propose {
    /// Remove terminals for good: they are unknown from then on.
    Retire {
        /// Each by serial number, VENDOR/MODEL/SERIAL or id; at most 100.
        #[arg(required = true)]
        terminals: Vec<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Have a terminal prove another RSA identity.
    Identity {
        /// The terminal: serial number, VENDOR/MODEL/SERIAL or id.
        terminal: String,
        /// Its public key or its certificate; where none is given, the next that is certified for it counts.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        why: Why,
    },
    /// Have a terminal use its main-control key of another epoch.
    MainKey {
        /// The terminal: serial number, VENDOR/MODEL/SERIAL or id.
        terminal: String,
        /// The epoch; where none is given, it has no main-control key any more.
        #[arg(long)]
        epoch: Option<u32>,
        #[command(flatten)]
        why: Why,
    },
    /// Blacklist a terminal.
    Blacklist {
        /// The terminal: serial number, VENDOR/MODEL/SERIAL or id.
        terminal: String,
        #[command(flatten)]
        why: Why,
    },
    /// Have terminals call an access at other addresses.
    Address {
        /// The access.
        access: String,
        /// Telephone numbers, or host:port, in the order in which they are tried; 1 to 8.
        #[arg(required = true)]
        addresses: Vec<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Replace the trust store: whose signatures packages need.
    Trust {
        /// The signed trust store.
        file: PathBuf,
        #[command(flatten)]
        why: Why,
    },
    /// Have packages wait for another operator's approval before they are released, or not.
    Approval {
        /// Whether they wait.
        #[arg(value_enum)]
        wait: Switch,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Args)]
pub(super) struct Why {
    /// Why.
    #[arg(long)]
    reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

/// Look at what takes two operators, and approve or reject it.
#[derive(Subcommand)]
pub(super) enum Proposal {
    /// Show the open proposals.
    List {
        /// Of this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
    },
    /// Show one: what, why, by whom, until when, and what became of it.
    Show {
        /// Its id.
        id: String,
    },
    /// Approve what another operator has proposed. It is done at once.
    Approve {
        /// Its id.
        id: String,
    },
    /// Reject a proposal, or take back one's own.
    Reject {
        /// Its id.
        id: String,
    },
}

impl Propose {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let one = async |text: &str| anyhow::Ok(office.find(text).await?.id);
        let (act, why) = match self {
            Self::Retire { terminals, why } => {
                let mut found = Vec::with_capacity(terminals.len());
                for text in &terminals {
                    found.push(one(text).await?);
                }
                let terminals = found.into_iter().collect();
                (Act::Retire { terminals }, why)
            }
            Self::Identity { terminal, key, why } => {
                let terminal = one(&terminal).await?;
                let key = key.map(|file| read_public(&file)).transpose()?.map(|key| key.id());
                (Act::ChangeIdentity { terminal, key }, why)
            }
            Self::MainKey { terminal, epoch, why } => {
                let terminal = one(&terminal).await?;
                (Act::ChangeMainKey { terminal, epoch }, why)
            }
            Self::Blacklist { terminal, why } => {
                let terminal = one(&terminal).await?;
                (Act::Blacklist { terminal }, why)
            }
            Self::Address { access, addresses, why } => (Act::ChangeAddress { access, addresses }, why),
            Self::Trust { file, why } => {
                let signed = tokio::fs::read(&file)
                    .await
                    .with_context(|| format!("cannot read {}", file.display()))?;
                let trust = hex::encode(signed);
                (Act::ChangeTrust { trust }, why)
            }
            Self::Approval { wait, why } => {
                let approval = wait == Switch::On;
                (Act::ChangeApproval { approval }, why)
            }
        };
        let made = office.estate.propose(&office.actor, act, &why.reason).await?;
        writeln!(out, "proposed: {}", words(&made.act))?;
        let until = show(made.expires);
        writeln!(
            out,
            "another operator approves it until {until} UTC: tms proposal approve {}",
            made.id
        )?;
        Ok(())
    }
}

impl Proposal {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::List { branch } => {
                let found = estate.proposals(actor, &branch, 10_000).await?;
                let rows = found.into_iter().map(|proposal| {
                    let until = until(&proposal);
                    [
                        proposal.id,
                        words(&proposal.act),
                        proposal.branch.to_string(),
                        proposal.proposer,
                        until,
                    ]
                });
                let head = ["id", "what", "branch", "proposed by", "until"];
                print_table(out, head, rows.collect())?;
            }
            Self::Show { id } => {
                let proposal = estate.proposal(actor, &id).await?;
                writeln!(out, "proposal     {}", proposal.id)?;
                writeln!(out, "what         {}", words(&proposal.act))?;
                for terminal in terminals(&proposal.act) {
                    // one that was retired has no name any more
                    let known = office.terminal(terminal).await?;
                    let name = known.map_or_else(|| "gone".to_owned(), |known| known.holder.to_string());
                    writeln!(out, "terminal     {terminal} {name}")?;
                }
                writeln!(out, "why          {}", proposal.reason)?;
                writeln!(out, "branch       {}", proposal.branch)?;
                let proposed = show(proposal.proposed);
                writeln!(out, "proposed by  {}, {proposed} UTC", proposal.proposer)?;
                match &proposal.standing {
                    Standing::Open => writeln!(out, "stands until {}", until(&proposal))?,
                    Standing::Done { by, at } => writeln!(out, "approved by  {by}, {} UTC", show(*at))?,
                    Standing::Dismissed { by, at } => writeln!(out, "rejected by  {by}, {} UTC", show(*at))?,
                }
            }
            Self::Approve { id } => {
                let done = estate.approve(actor, &id).await?;
                writeln!(out, "done: {}", words(&done.act))?;
            }
            Self::Reject { id } => {
                estate.dismiss(actor, &id).await?;
                writeln!(out, "proposal {id} is rejected")?;
            }
        }
        Ok(())
    }
}

fn until(proposal: &estate::Proposal) -> String {
    let lapsed = SystemClock.now() >= proposal.expires;
    format!("{}{}", show(proposal.expires), if lapsed { ", lapsed" } else { "" })
}

fn terminals(act: &Act) -> Vec<TerminalId> {
    match act {
        Act::Retire { terminals } => terminals.iter().copied().collect(),
        Act::ChangeIdentity { terminal, .. } | Act::ChangeMainKey { terminal, .. } | Act::Blacklist { terminal } => {
            vec![*terminal]
        }
        _ => Vec::new(),
    }
}

/// What an act is, in a few words.
fn words(act: &Act) -> String {
    match act {
        Act::Retire { terminals } if terminals.len() == 1 => "retire a terminal".to_owned(),
        Act::Retire { terminals } => format!("retire {} terminals", terminals.len()),
        Act::ChangeIdentity { key: Some(key), .. } => format!("identity is key {key}"),
        Act::ChangeIdentity { key: None, .. } => "identity is the next that is certified".to_owned(),
        Act::ChangeMainKey { epoch: Some(epoch), .. } => format!("main-control key of epoch {epoch}"),
        Act::ChangeMainKey { epoch: None, .. } => "no main-control key".to_owned(),
        Act::Blacklist { .. } => "blacklist a terminal".to_owned(),
        Act::ChangeAddress { access, addresses } => format!("access {access} is called at {}", addresses.join(", ")),
        Act::ChangeTrust { .. } => "another trust store".to_owned(),
        Act::ChangeApproval { approval: true } => "packages wait for approval".to_owned(),
        Act::ChangeApproval { approval: false } => "packages are released at once".to_owned(),
        _ => "something that this program does not know".to_owned(),
    }
}
