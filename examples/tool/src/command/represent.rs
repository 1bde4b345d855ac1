//! `tms represent`.

use super::print_table;
use crate::office::Office;
use anyhow::{Context, Result};
use clap::Args;
use std::io::Write;

/// Make a published package smaller for the terminals that can decode it: compressed, and as the difference to what they run.
/// It is for what is queued from then on.
#[derive(Args)]
pub(super) struct Represent {
    /// The package: its name, as component@version, or the beginning of its digest.
    package: String,
    /// A package that terminals run; may be given again.
    #[arg(long, value_name = "PACKAGE")]
    base: Vec<String>,
}

impl Represent {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let package = office.find_package(&self.package).await?.package;
        let mut bases = Vec::new();
        for base in &self.base {
            bases.push(office.find_package(base).await?.package);
        }
        let contents: Vec<_> = bases.iter().map(|base| base.content).collect();
        let made = office
            .estate
            .represent(&office.actor, &package.manifest, &contents)
            .await
            .with_context(|| format!("{} {} is not made smaller", package.component, package.version))?;
        let name = |digest| {
            let base = bases.iter().find(|base| base.content == digest);
            base.map_or_else(|| digest.short().to_string(), |base| base.version.clone())
        };
        let mut rows = vec![[
            "whole".to_owned(),
            String::new(),
            package.size.to_string(),
            String::new(),
        ]];
        rows.extend(made.iter().map(|made| {
            let percent = made.size.saturating_mul(100).div_ceil(package.size.max(1));
            [
                made.form.to_string(),
                made.base.map(name).unwrap_or_default(),
                made.size.to_string(),
                format!("{percent} %"),
            ]
        }));
        Ok(print_table(out, ["form", "against", "bytes", "of the whole"], rows)?)
    }
}
