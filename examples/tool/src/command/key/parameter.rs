//! `tms key parameter`.

use crate::office::Office;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::io::Write;
use std::path::PathBuf;
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::estate::Act;
use tms_server::secret;
use zeroize::Zeroizing;

/// Go over to another key of secret parameters: add it, have two operators use it, remove the old one.
#[derive(Subcommand)]
pub(crate) enum Parameter {
    /// Show the versions that are there, and which one seals.
    Show,
    /// Add a version. Servers find it by themselves; back the file up before it is used.
    Add,
    /// Propose that this version seals from now on. Another operator has to approve it.
    Use {
        /// The version.
        version: u32,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Approve that; what is there is then sealed anew.
    Approve {
        /// The proposal.
        proposal: String,
    },
    /// Remove a version that has nothing sealed any more. What is in a backup of the database and sealed by it is lost.
    Remove {
        /// The version.
        version: u32,
    },
}

impl Parameter {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        let file = KeyFile::read(office)?;
        match self {
            Self::Show => {
                let standing = estate.parameter_key().await?;
                for (version, _) in &file.versions {
                    let what = match (*version == standing.version, standing.sealing) {
                        (true, true) => "seals; not everything is sealed anew yet",
                        (true, false) => "seals",
                        (false, true) => "opens what it has sealed",
                        (false, false) => "may be removed, or used",
                    };
                    writeln!(out, "version {version}  {what}")?;
                }
            }
            Self::Add => {
                let version = file.add()?;
                writeln!(
                    out,
                    "version {version} is there: back it up, then tms key parameter use {version}"
                )?;
            }
            Self::Use { version, reason } => {
                let proposal = estate
                    .propose(actor, Act::ChangeParameterKey { version }, &reason)
                    .await?;
                writeln!(
                    out,
                    "proposed: another operator does tms key parameter approve {}",
                    proposal.id
                )?;
            }
            Self::Approve { proposal } => {
                let Act::ChangeParameterKey { version } = estate.approve(actor, &proposal).await?.act else {
                    bail!("{proposal} was about something else, and is done");
                };
                while estate.advance_parameter_key(u32::MAX).await? > 0 {}
                let sealed = estate.parameter_key().await?.sealed;
                writeln!(out, "version {version} seals, and {sealed} layers were sealed anew")?;
            }
            Self::Remove { version } => {
                let standing = estate.parameter_key().await?;
                if standing.version == version || standing.sealing {
                    bail!("version {version} is needed: something is or may be sealed by it");
                }
                file.remove(version)?;
                writeln!(out, "version {version} is gone")?;
            }
        }
        Ok(())
    }
}

/// The file of the versions; a line of the key alone is version 1.
struct KeyFile {
    path: PathBuf,
    versions: Vec<(u32, Zeroizing<String>)>,
}

impl KeyFile {
    fn read(office: &Office) -> Result<Self> {
        let directory = &office.directory;
        let path = directory.layout.join(&directory.config.files.parameter_key);
        let text = secret::read(&path)?;
        let versions = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let line = line.trim();
            let (version, digits) = line.split_once(' ').unwrap_or(("1", line));
            let version = version
                .parse()
                .with_context(|| format!("{} is malformed", path.display()))?;
            Ok((version, Zeroizing::new(digits.trim().to_owned())))
        });
        let versions = versions.collect::<Result<_>>()?;
        Ok(Self { path, versions })
    }

    fn add(mut self) -> Result<u32> {
        let last = self.versions.iter().map(|(version, _)| *version).max().unwrap_or(0);
        let next = last.checked_add(1).context("there is no version after the last")?;
        let mut key = Zeroizing::new([0; 32]);
        OsEntropy.fill(&mut *key);
        self.versions.push((next, Zeroizing::new(hex::encode(*key))));
        self.write()?;
        Ok(next)
    }

    fn remove(mut self, version: u32) -> Result<()> {
        let before = self.versions.len();
        self.versions.retain(|(other, _)| *other != version);
        if self.versions.len() == before {
            bail!("there is no version {version} of the parameter key");
        }
        self.write()
    }

    fn write(&self) -> Result<()> {
        let mut text = Zeroizing::new(String::with_capacity(self.versions.len().saturating_mul(128)));
        for (version, digits) in &self.versions {
            text.push_str(&version.to_string());
            text.push(' ');
            text.push_str(digits);
            text.push('\n');
        }
        secret::replace(&self.path, text.as_bytes())
    }
}
