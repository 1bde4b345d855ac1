//! `tms template`.

use super::edit::Edit;
use super::print_table;
use crate::office::Office;
use anyhow::{Context, Result};
use clap::Subcommand;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use tms_core::rule::template::{Difference, Origin, Scope, Shown, Template as Written};
use tms_core::store::Caller;

/// Write and show parameter templates, and what terminals would get of them.
#[derive(Subcommand)]
pub(super) enum Template {
    /// Write the next version of a template.
    Put {
        /// A JSON file: `{"name": "pay", "definitions": [{"name": "host", "kind": {"type": "endpoint"}, "default": "tms:1"}]}`.
        file: PathBuf,
    },
    /// Show a template as JSON, or the names of all.
    Show {
        /// Its name.
        name: Option<String>,
        /// A version; the newest by default.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Show what a terminal would get, and where each value comes from.
    Preview {
        /// Serial number, vendor/model/serial, or id.
        terminal: String,
        /// The template.
        name: String,
        /// A version; the newest by default.
        #[arg(long)]
        version: Option<u32>,
        /// As JSON, with the versions that it is made of.
        #[arg(long)]
        json: bool,
    },
    /// Show what differs for a terminal between two versions of a template, with what layers set now.
    Diff {
        /// Serial number, vendor/model/serial, or id.
        terminal: String,
        /// The template.
        name: String,
        /// The one version.
        #[arg(long)]
        from: u32,
        /// The other; the newest by default.
        #[arg(long)]
        to: Option<u32>,
    },
    /// Show which terminals an edit of a layer would change, and what, without making it.
    Affected {
        /// The template.
        name: String,
        #[command(flatten)]
        edit: Box<Edit>,
        /// One JSON object a line for each terminal.
        #[arg(long)]
        json: bool,
    },
}

/// How many terminals are looked at at a time.
const PAGE: u32 = 200;

impl Template {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Put { file } => {
                let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                let template: Written =
                    serde_json::from_str(&text).with_context(|| format!("{} is no template", file.display()))?;
                let name = template.name.clone();
                let version = estate.put_template(actor, template).await?;
                writeln!(out, "template {name} has version {version}")?;
            }
            Self::Show { name: None, .. } => list(office, out).await?,
            Self::Show {
                name: Some(name),
                version,
            } => {
                let template = estate.template(actor, &name, version).await?;
                writeln!(out, "{}", serde_json::to_string_pretty(&template)?)?;
            }
            Self::Preview {
                terminal,
                name,
                version,
                json,
            } => {
                let terminal = Caller::Id(office.find(&terminal).await?.id);
                let preview = estate.preview(actor, &terminal, &name, version).await?;
                if json {
                    writeln!(out, "{}", serde_json::to_string(&preview)?)?;
                    return Ok(());
                }
                let rows = preview.parameters.iter();
                let rows = rows.map(|line| [line.name.clone(), shown(&line.value), origin(&line.from)]);
                print_table(out, ["parameter", "value", "from"], rows.collect())?;
            }
            Self::Diff {
                terminal,
                name,
                from,
                to,
            } => {
                let terminal = Caller::Id(office.find(&terminal).await?.id);
                let before = estate.preview(actor, &terminal, &name, Some(from)).await?.pins;
                let after = estate.preview(actor, &terminal, &name, to).await?.pins;
                let changes = estate.difference(actor, &terminal, &name, &before, &after).await?;
                print_table(out, ["parameter", "before", "after"], changes.iter().map(row).collect())?;
            }
            Self::Affected { name, edit, json } => affected(office, &name, &edit, json, out).await?,
        }
        Ok(())
    }
}

async fn list(office: &Office, out: &mut impl Write) -> Result<()> {
    let (mut rows, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = office.estate.templates(&office.actor, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        rows.extend(page.into_iter().map(|found| {
            let count = found.definitions.len().to_string();
            [found.name, found.version.to_string(), count]
        }));
    }
    Ok(print_table(out, ["template", "version", "parameters"], rows)?)
}

async fn affected(office: &Office, name: &str, edit: &Edit, json: bool, out: &mut impl Write) -> Result<()> {
    let draft = edit.draft(office, name).await?;
    let (mut rows, mut next, mut looked, mut count) = (Vec::new(), None::<String>, 0_u64, 0_u64);
    loop {
        let page = office
            .estate
            .affected(&office.actor, name, &draft, next.as_deref(), PAGE)
            .await?;
        looked = looked.saturating_add(u64::from(page.examined));
        for terminal in page.rows {
            count = count.saturating_add(1);
            if json {
                writeln!(out, "{}", serde_json::to_string(&terminal)?)?;
                continue;
            }
            for change in &terminal.changes {
                let [parameter, before, after] = row(change);
                rows.push([terminal.holder.clone(), parameter, before, after]);
            }
            for fault in &terminal.faults {
                let when = if terminal.now { "" } else { "IT WOULD GET NONE" };
                rows.push([
                    terminal.holder.clone(),
                    fault.parameter.clone(),
                    when.to_owned(),
                    fault.kind.to_string(),
                ]);
            }
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    if !json {
        print_table(out, ["terminal", "parameter", "before", "after"], rows)?;
        writeln!(out, "\n{count} of {looked} terminals looked at")?;
    }
    Ok(())
}

fn row(change: &Difference) -> [String; 3] {
    let side = |value: &Option<Shown>| value.as_ref().map_or_else(|| "-".to_owned(), shown);
    [change.parameter.clone(), side(&change.before), side(&change.after)]
}

/// A value for people.
pub(super) fn shown(value: &Shown) -> String {
    match value {
        Shown::Text(text) => text.clone(),
        Shown::Secret => "(sealed)".to_owned(),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Default => "template".to_owned(),
        Origin::Layer(scope) => words(scope),
    }
}

/// A place for people.
pub(super) fn words(scope: &Scope) -> String {
    match scope {
        Scope::Branch(path) if path.is_empty() => "head office".to_owned(),
        Scope::Branch(path) => format!("branch /{}", path.join("/")),
        Scope::Vendor(vendor) => format!("vendor {vendor}"),
        Scope::Model { vendor, model } => format!("model {vendor}/{model}"),
        Scope::Merchant(number) => format!("merchant {number}"),
        Scope::Terminal(id) => format!("terminal {id}"),
    }
}
