//! `tms text`.

use super::case::after;
use super::print_table;
use crate::office::Office;
use crate::time::show;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::io::Write;
use tms_core::estate::{Audience, TextState};
use tms_core::rule::text::Message;
use tms_core::store::BranchPath;

/// Write, approve and publish texts for the displays and printers of terminals.
#[derive(Subcommand)]
pub(super) enum Text {
    /// Write a text. Another operator has to approve it.
    Write(Words),
    /// Approve a text that another operator wrote.
    Approve {
        /// Its id.
        id: String,
    },
    /// Publish an approved text: to a terminal, to a model in a branch, or to a branch.
    Publish {
        /// Its id.
        id: String,
        /// To this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
        /// To this model only: VENDOR/MODEL.
        #[arg(long)]
        model: Option<String>,
        /// To this terminal only: serial number, VENDOR/MODEL/SERIAL or id.
        #[arg(long, conflicts_with_all = ["branch", "model"])]
        terminal: Option<String>,
    },
    /// Show texts.
    List {
        /// Of this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
    },
    /// Show what became of a text, by number of terminals.
    Show {
        /// Its id.
        id: String,
    },
    /// Publish a text no more.
    Withdraw {
        /// Its id.
        id: String,
    },
}

#[derive(Args)]
pub(super) struct Words {
    /// Title, up to 64 characters.
    #[arg(long)]
    title: String,
    /// Body, up to 256 characters.
    #[arg(long)]
    body: String,
    /// Print it; otherwise it is displayed.
    #[arg(long)]
    print: bool,
    /// The merchant has to confirm it with a key.
    #[arg(long)]
    confirm: bool,
    /// It is shown for so many days from now on.
    #[arg(long, value_name = "N", default_value_t = 7)]
    days: u32,
    /// It may be published in this branch and the ones below it.
    #[arg(long, default_value = "/")]
    branch: BranchPath,
}

impl Text {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Write(words) => {
                let (from, until) = after(words.days)?;
                let message = Message {
                    title: words.title,
                    body: words.body,
                    print: words.print,
                    confirm: words.confirm,
                    from,
                    until,
                };
                let text = estate.write_text(actor, &words.branch, message).await?;
                writeln!(out, "text {:016x} waits for another operator", text.id)?;
            }
            Self::Approve { id } => {
                estate.approve_text(actor, number(&id)?).await?;
                writeln!(out, "text {id} is approved")?;
            }
            Self::Publish {
                id,
                branch,
                model,
                terminal,
            } => {
                let audience = match (terminal, model.as_deref().map(|model| model.split_once('/'))) {
                    (Some(terminal), _) => Audience::Terminal {
                        terminal: office.find(&terminal).await?.id,
                    },
                    (None, Some(Some((vendor, model)))) => Audience::Model {
                        under: branch,
                        vendor: vendor.to_owned(),
                        model: model.to_owned(),
                    },
                    (None, Some(None)) => bail!("a model is VENDOR/MODEL"),
                    (None, None) => Audience::Branch { under: branch },
                };
                let id = number(&id)?;
                estate.publish_text(actor, id, audience).await?;
                while estate.advance_texts(u32::MAX).await? > 0 {}
                print(office, id, out).await?;
            }
            Self::List { branch } => {
                let texts = estate.texts(actor, &branch, 10_000).await?.into_iter();
                let rows = texts.map(|text| {
                    let state = match text.state {
                        TextState::Draft => "draft".to_owned(),
                        TextState::Approved { by, .. } => format!("approved by {by}"),
                        TextState::Withdrawn { by, .. } => format!("withdrawn by {by}"),
                    };
                    [
                        format!("{:016x}", text.id),
                        text.branch.to_string(),
                        text.author,
                        state,
                        show(text.message.until),
                        text.message.title,
                    ]
                });
                print_table(
                    out,
                    ["id", "branch", "author", "state", "until", "title"],
                    rows.collect(),
                )?;
            }
            Self::Show { id } => print(office, number(&id)?, out).await?,
            Self::Withdraw { id } => {
                let id = number(&id)?;
                estate.withdraw_text(actor, id).await?;
                while estate.advance_texts(u32::MAX).await? > 0 {}
                writeln!(
                    out,
                    "text {id:016x} is published no more; terminals that have it and did not show it give it back with their next check-in"
                )?;
                print(office, id, out).await?;
            }
        }
        Ok(())
    }
}

async fn print(office: &Office, id: u64, out: &mut impl Write) -> Result<()> {
    let (text, counts) = office.estate.text(&office.actor, id).await?;
    writeln!(out, "{}\n{}", text.message.title, text.message.body)?;
    for (status, count) in counts {
        writeln!(out, "  {status}: {count}")?;
    }
    Ok(())
}

fn number(id: &str) -> Result<u64> {
    u64::from_str_radix(id, 16).context("a text's id has 16 hexadecimal digits")
}
