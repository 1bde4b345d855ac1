//! `tms queue` and `tms cancel`.

use crate::office::Office;
use crate::refused;
use anyhow::Result;
use clap::Args;
use std::io::Write;
use tms_core::store::{ActionId, Caller};

/// Queue a package for terminals: each gets it at its next check-in.
#[derive(Args)]
pub(super) struct Queue {
    /// The terminal, by serial number, vendor/model/serial or id; may be given several times.
    #[arg(long, value_name = "SERIAL", required = true)]
    serial: Vec<String>,
    /// The package, as component@version or by the beginning of its digest.
    #[arg(long, value_name = "PACKAGE")]
    package: String,
}

/// Withdraw an action that is not over. A terminal that has installed it by then says so.
#[derive(Args)]
pub(super) struct Cancel {
    /// The terminal, by serial number, vendor/model/serial or id.
    serial: String,
    /// The action's number, as `tms terminal SERIAL` shows it.
    action: u64,
}

impl Queue {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let package = office.find_package(&self.package).await?.package;
        let mut failed = Vec::new();
        for serial in &self.serial {
            let queued = async {
                let terminal = office.find(serial).await?;
                let action = office
                    .estate
                    .queue(&office.actor, &Caller::Id(terminal.id), &package.manifest)
                    .await?;
                anyhow::Ok((terminal.holder, action))
            };
            match queued.await {
                Ok((holder, action)) => {
                    writeln!(
                        out,
                        "action {action} for {holder}: {} {}",
                        package.component, package.version
                    )?;
                }
                Err(error) if self.serial.len() == 1 => return Err(error),
                Err(error) => {
                    writeln!(out, "nothing for {serial}: {error:#}")?;
                    failed.push(serial.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(refused(format!(
            "{} of {} terminals got nothing: {}",
            failed.len(),
            self.serial.len(),
            failed.join(", ")
        )))
    }
}

impl Cancel {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let terminal = office.find(&self.serial).await?;
        office
            .estate
            .cancel(&office.actor, &Caller::Id(terminal.id), ActionId(self.action))
            .await?;
        writeln!(out, "action {} for {} is withdrawn", self.action, terminal.holder)?;
        Ok(())
    }
}
