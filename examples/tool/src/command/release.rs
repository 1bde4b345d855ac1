//! `tms release` and `tms floor`.

use super::print_table;
use crate::office::Office;
use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use std::io::Write;
use tms_core::rule::release::ReleaseOperation;

/// Approve, release or withdraw a package.
#[derive(clap::Args)]
pub(super) struct Release {
    /// What is done with it.
    #[arg(value_enum)]
    operation: Operation,
    /// The package: component@version, or the beginning of its digest.
    package: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Operation {
    /// Say, as another operator than the one who published it, that it is what it should be.
    Approve,
    /// Let it be queued.
    Release,
    /// Offer it to nobody any more.
    Withdraw,
    /// Make a withdrawn package a draft again.
    Reopen,
}

/// Say which releases must not be skipped.
#[derive(Subcommand)]
pub(super) enum Floor {
    /// Make a released package a floor: terminals with an older one get it before any later one.
    Put {
        /// The package.
        package: String,
        /// Why it must not be skipped.
        #[arg(long)]
        reason: String,
    },
    /// Show the floors of a component.
    List {
        /// A package of it.
        package: String,
    },
    /// Take a floor away.
    Remove {
        /// The package.
        package: String,
    },
}

impl Release {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let package = office.find_package(&self.package).await?.package;
        let operation = match self.operation {
            Operation::Approve => ReleaseOperation::Approve,
            Operation::Release => ReleaseOperation::Release,
            Operation::Withdraw => ReleaseOperation::Withdraw,
            Operation::Reopen => ReleaseOperation::Reopen,
        };
        let (estate, actor) = (&office.estate, &office.actor);
        let state = estate.change_release(actor, &package.manifest, operation).await?;
        writeln!(out, "{} {} is {state}", package.component, package.version)?;
        Ok(())
    }
}

impl Floor {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Put { package, reason } => {
                let package = office.find_package(&package).await?.package;
                estate.put_floor(actor, &package.manifest, &reason).await?;
                writeln!(out, "{} {} is not skipped any more", package.component, package.version)?;
            }
            Self::List { package } => {
                let package = office.find_package(&package).await?;
                let floors = estate.floors(&package.vendor, &package.package.component).await?;
                let rows = floors.into_iter().map(|floor| {
                    [
                        floor.order.to_string(),
                        floor.manifest.short().to_string(),
                        floor.reason,
                    ]
                });
                print_table(out, ["order", "package", "reason"], rows.collect())?;
            }
            Self::Remove { package } => {
                let package = office.find_package(&package).await?.package;
                estate.remove_floor(actor, &package.manifest).await?;
                writeln!(out, "{} {} may be skipped", package.component, package.version)?;
            }
        }
        Ok(())
    }
}
