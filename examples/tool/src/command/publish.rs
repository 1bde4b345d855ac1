//! `tms publish` and `tms packages`.

use super::{print_table, shell};
use crate::office::Office;
use crate::time::{rfc3339, show};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use tokio::fs::File;

/// Take a signed package in, so that it can be queued. It is verified first.
#[derive(Args)]
pub(super) struct Publish {
    /// The package.
    file: PathBuf,
}

/// List the packages that are published.
#[derive(Args)]
pub(super) struct Packages {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl Publish {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let mut file = File::open(&self.file)
            .await
            .with_context(|| format!("cannot read the package {}", self.file.display()))?;
        let published = office.estate.publish(&office.actor, &mut file).await;
        let package = published.with_context(|| format!("{} is not published", self.file.display()))?;
        writeln!(
            out,
            "published {} {}, {} bytes",
            package.component, package.version, package.size
        )?;
        writeln!(out, "  package  {}", package.manifest)?;
        if office.estate.release_approval().await? {
            writeln!(
                out,
                "  it is a draft: another operator approves it, tms release approve"
            )?;
        }
        let estate = shell(office.directory.layout.root());
        let name = format!("{}@{}", package.component, package.version);
        writeln!(
            out,
            "Next: tms --estate {estate} queue --serial SERIAL --package {name}"
        )?;
        Ok(())
    }
}

impl Packages {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let mut packages = office.packages().await?;
        packages.sort_by(|one, other| {
            (&one.package.component, one.published).cmp(&(&other.package.component, other.published))
        });
        if self.json {
            for package in packages {
                let line = json!({
                    "package": package.package.manifest.to_string(),
                    "component": package.package.component,
                    "version": package.package.version,
                    "kind": package.kind.to_string(),
                    "counter": package.counter,
                    "vendor": package.vendor,
                    "models": package.models,
                    "size": package.package.size,
                    "content": package.package.content.to_string(),
                    "state": package.state.name(),
                    "order": package.order,
                    "published": rfc3339(package.published),
                    "actor": package.actor,
                });
                writeln!(out, "{line}")?;
            }
            return Ok(());
        }
        if packages.is_empty() {
            writeln!(out, "no package is published yet: tms publish FILE")?;
            return Ok(());
        }
        let head = [
            "package",
            "component",
            "version",
            "counter",
            "for",
            "bytes",
            "state",
            "published (UTC)",
            "by",
        ];
        let rows = packages.into_iter().map(|package| {
            [
                package.package.manifest.short().to_string(),
                package.package.component,
                package.package.version,
                package.counter.to_string(),
                format!("{} {}", package.vendor, package.models.join(", ")),
                package.package.size.to_string(),
                package.state.to_string(),
                show(package.published),
                package.actor,
            ]
        });
        Ok(print_table(out, head, rows.collect())?)
    }
}
