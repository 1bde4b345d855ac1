//! `tms layer`.

use super::edit::{Edit, Place};
use super::print_table;
use super::template::{shown, words};
use crate::office::Office;
use crate::time::show;
use anyhow::Result;
use clap::Subcommand;
use std::io::Write;

/// Say what branches, models, merchants and terminals set, and show it.
#[derive(Subcommand)]
pub(super) enum Layer {
    /// Write the next version of what a place sets. What is not named stays as it is.
    Put {
        /// The template.
        template: String,
        #[command(flatten)]
        edit: Box<Edit>,
    },
    /// Show what a place sets. Of a secret it is shown that there is one.
    Show {
        /// The template.
        template: String,
        #[command(flatten)]
        place: Place,
        /// A version; the newest by default.
        #[arg(long)]
        version: Option<u32>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Layer {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Put { template, edit } => {
                let draft = edit.draft(office, &template).await?;
                let place = words(&draft.scope);
                let version = estate.put_layer(actor, &template, &draft).await?;
                writeln!(out, "{place} sets version {version} for {template}")?;
            }
            Self::Show {
                template,
                place,
                version,
                json,
            } => {
                let scope = place.scope(office).await?;
                let layer = estate.layer(actor, &template, &scope, version).await?;
                if json {
                    writeln!(out, "{}", serde_json::to_string(&layer)?)?;
                    return Ok(());
                }
                let values = layer.values.iter().map(|(name, value)| [name.clone(), shown(value)]);
                let variables = layer.variables.iter();
                let variables = variables.map(|(name, value)| [format!("${{{name}}}"), value.clone()]);
                print_table(out, ["name", "value"], values.chain(variables).collect())?;
                let (created, actor) = (show(layer.created), layer.actor);
                writeln!(out, "\nversion {}, {created} UTC, by {actor}", layer.version)?;
            }
        }
        Ok(())
    }
}
